//! `pki`: a CA and certificates for development. Not for the open Internet.

use super::output;
use crate::quic::spki_pin;
use anyhow::{Context, bail};
use mimi_actors::ids::ProviderId;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

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
            What::Ca { out } => {
                create_ca(&out)?;
                output::line(&format!(
                    "made {} and its key",
                    out.join("ca.crt").display()
                ));
            }
            What::Cert { ca, domain, out } => {
                create_certificate(&ca, &domain, &out)?;
                let made = out.join(format!("{domain}.crt"));
                output::line(&format!("made {} and its key", made.display()));
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

/// Makes `ca.crt` and `ca.key` in `out`.
///
/// # Errors
/// When they exist or cannot be written.
pub fn create_ca(out: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params
        .distinguished_name
        .push(DnType::CommonName, "mimi-node development CA");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    write_new(&out.join("ca.key"), &key.serialize_pem(), 0o600)?;
    write_new(&out.join("ca.crt"), &certificate.pem(), 0o644)
}

/// Makes `DOMAIN.crt` and `DOMAIN.key` in `out`, issued by the CA in `ca`.
///
/// # Errors
/// When the CA does not read, or the files exist or cannot be written.
pub fn create_certificate(ca: &Path, domain: &ProviderId, out: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
    let read = |name: &str| {
        let path = ca.join(name);
        std::fs::read_to_string(&path)
            .with_context(|| format!("read {}; `mimi-node pki ca` makes one", path.display()))
    };
    let issuer = Issuer::from_ca_cert_pem(&read("ca.crt")?, KeyPair::from_pem(&read("ca.key")?)?)?;
    let mut params = CertificateParams::new(vec![domain.to_string()])?;
    params
        .distinguished_name
        .push(DnType::CommonName, domain.as_str());
    // A node is server and client of the same links.
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    write_new(
        &out.join(format!("{domain}.key")),
        &key.serialize_pem(),
        0o600,
    )?;
    write_new(
        &out.join(format!("{domain}.crt")),
        &certificate.pem(),
        0o644,
    )
}

fn write_new(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    if path.exists() {
        bail!(
            "{} exists; remove it first, it is not overwritten",
            path.display()
        );
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("create {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("write {}", path.display()))
}
