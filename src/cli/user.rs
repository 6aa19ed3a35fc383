//! `user`: the users of a running node.

use super::{Target, ask::ask};
use anyhow::bail;
use mimi_actors::ids::{Requester, RoomUri};
use mimi_operator::{
    output,
    protocol::{Request, Response},
};

/// Arguments of `user`.
#[derive(Debug, clap::Args)]
pub struct User {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Create a user, or give it one more enrolment code; prints the code, once
    Add {
        /// Name of the user at this provider
        user: String,
        #[command(flatten)]
        target: Target,
    },
    /// Delete a user for good
    Delete {
        /// Name of the user at this provider
        user: String,
        #[command(flatten)]
        target: Target,
    },
    /// Write down whether somebody may claim this user's KeyPackages
    Consent(Consent),
    /// List the users
    List {
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, clap::Args)]
struct Consent {
    /// Name of the user at this provider
    user: String,
    /// Whom it concerns, as mimi://PROVIDER/u/USER or mimi://PROVIDER/p/PSEUDONYM
    #[arg(long)]
    requester: Requester,
    /// Only for this room, as mimi://PROVIDER/r/ROOM
    #[arg(long)]
    room: Option<RoomUri>,
    #[command(flatten)]
    decision: Decision,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Decision {
    /// Give consent
    #[arg(long)]
    grant: bool,
    /// Deny it
    #[arg(long)]
    deny: bool,
    /// Forget what was written down
    #[arg(long)]
    forget: bool,
}

impl Decision {
    fn grant(&self) -> Option<bool> {
        if self.forget { None } else { Some(self.grant) }
    }
}

impl User {
    /// Does it.
    ///
    /// # Errors
    /// When the node does not run or refuses.
    pub fn run(self) -> anyhow::Result<()> {
        let (target, request) = match self.what {
            What::Add { user, target } => (target, Request::AddUser { user }),
            What::Delete { user, target } => (target, Request::DeleteUser { user }),
            What::List { target } => (target, Request::ListUsers),
            What::Consent(Consent {
                user,
                requester,
                room,
                decision,
                target,
            }) => (
                target,
                Request::Consent {
                    user,
                    requester,
                    room,
                    grant: decision.grant(),
                },
            ),
        };
        let response = ask(&target.config, &request)?;
        if target.json {
            return output::json(&response);
        }
        match response {
            Response::UserAdded {
                user,
                enrolment_code,
                valid_s,
            } => {
                let hours = valid_s / 3_600;
                output::line(&format!(
                    "{user}: enrolment code {enrolment_code} (one device, {hours} h)"
                ));
            }
            Response::Users { users } => {
                for row in users {
                    let state = if row.deleted { "deleted" } else { "active" };
                    output::line(&format!("{}  {state}  {} consents", row.user, row.consents));
                    for device in row.devices {
                        let (packages, rooms) = (device.key_packages, device.rooms);
                        let client = device.client;
                        output::line(&format!(
                            "  {client}  {packages} KeyPackages  {rooms} rooms"
                        ));
                    }
                }
            }
            Response::Done => output::line("done"),
            Response::Unchanged => output::line("it was so before: nothing was changed"),
            Response::Status(_)
            | Response::Parked { .. }
            | Response::Redriven { .. }
            | Response::Owed { .. }
            | Response::Forgotten { .. }
            | Response::Cluster(_)
            | Response::Next { .. }
            | Response::Checked { .. }
            | Response::Refused { .. } => bail!("the node answered something else"),
        }
        Ok(())
    }
}
