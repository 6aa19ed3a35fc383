//! `device`: the devices of a running node's users.

use super::{Target, ask::ask};
use anyhow::bail;
use mimi_actors::ids::ClientUri;
use mimi_operator::{
    output,
    protocol::{Request, Response},
};

/// Arguments of `device`.
#[derive(Debug, clap::Args)]
pub struct Device {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Take a device's access away, with its KeyPackages and its inbox
    Revoke {
        /// The device, as mimi://PROVIDER/d/USER/CLIENT
        client: ClientUri,
        #[command(flatten)]
        target: Target,
    },
}

impl Device {
    /// Does it.
    ///
    /// # Errors
    /// When the node does not run or refuses.
    pub fn run(self) -> anyhow::Result<()> {
        let What::Revoke { client, target } = self.what;
        let request = Request::RevokeDevice {
            client: client.clone(),
        };
        let response = ask(&target.config, &request)?;
        if target.json {
            return output::json(&response);
        }
        let Response::Done = response else {
            bail!("the node answered something else");
        };
        output::line(&format!("{client} is revoked"));
        Ok(())
    }
}
