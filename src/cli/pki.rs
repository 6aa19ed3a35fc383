//! `pki`: a CA and certificates for development. Not for the open Internet.

use mimi_actors::ids::ProviderId;
use mimi_operator::{hub_key, output};
use mimi_quic::{
    issue::{create_ca, create_certificate_for, files},
    spki_pin,
};
use std::path::{Path, PathBuf};

/// Arguments of `pki`.
#[derive(Debug, clap::Args)]
pub struct Pki {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make a CA: ca.crt and ca.key
    Ca {
        /// Directory to write to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a provider's certificate: DOMAIN.crt and DOMAIN.key
    Cert {
        /// Directory of the CA
        #[arg(long, value_name = "DIR")]
        ca: PathBuf,
        /// The provider's domain
        #[arg(long)]
        domain: ProviderId,
        /// Directory to write to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// For how many days it is valid; without it for longer than anybody needs it
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        days: Option<u16>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a hub's key, the same for all nodes of a provider: hub.key
    HubKey {
        /// Directory to write to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the pin of a certificate's key
    Pin {
        /// The certificate, PEM
        certificate: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl Pki {
    /// Does it.
    ///
    /// # Errors
    /// When a file cannot be read or written; files that exist are never overwritten.
    pub fn run(self) -> anyhow::Result<()> {
        match self.what {
            What::Ca { out, json } => {
                create_ca(&out)?;
                tell(&out, "ca", json)?;
            }
            What::Cert {
                ca,
                domain,
                out,
                days,
                json,
            } => {
                create_certificate_for(&ca, &domain, &out, days)?;
                tell(&out, domain.as_str(), json)?;
            }
            What::HubKey { out, json } => {
                let path = out.join("hub.key");
                hub_key::make(&path)?;
                if json {
                    output::json(&serde_json::json!({ "key": path }))?;
                } else {
                    output::line(&format!("key          {}", path.display()));
                }
            }
            What::Pin { certificate, json } => {
                let pin = spki_pin(&certificate)?;
                if json {
                    output::json(&serde_json::json!({ "pinned_key": pin }))?;
                } else {
                    output::line(&pin);
                }
            }
        }
        Ok(())
    }
}

/// Says which files were made.
fn tell(out: &Path, name: &str, json: bool) -> anyhow::Result<()> {
    let (certificate, key) = files(out, name);
    let pin = spki_pin(&certificate)?;
    if json {
        return output::json(&serde_json::json!({
            "certificate": certificate,
            "key": key,
            "pinned_key": pin,
        }));
    }
    output::line(&format!("certificate  {}", certificate.display()));
    output::line(&format!("key          {}", key.display()));
    output::line(&format!("pin          {pin}"));
    Ok(())
}
