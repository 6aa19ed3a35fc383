//! `peer`: rooms of which something waits beside the link to another provider.

use super::{Target, output};
use crate::admin::protocol::{ParkedRow, Request, Response};
use anyhow::bail;
use mimi_actors::ids::{ProviderId, RoomUri};

/// Arguments of `peer`.
#[derive(Debug, clap::Args)]
pub struct Peer {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List the rooms whose events a provider refused, or is too far behind for
    Parked {
        /// Of this provider alone
        #[arg(long)]
        peer: Option<ProviderId>,
        #[command(flatten)]
        target: Target,
    },
    /// Send what a provider refused again, once the reason is gone there
    Redrive {
        /// The provider
        #[arg(long)]
        peer: ProviderId,
        /// The room; without it every room that the provider refused
        #[arg(long)]
        room: Option<RoomUri>,
        #[command(flatten)]
        target: Target,
    },
}

impl Peer {
    /// Does it.
    ///
    /// # Errors
    /// When the node does not run or refuses.
    pub fn run(self) -> anyhow::Result<()> {
        match self.what {
            What::Parked { peer, target } => {
                let (rooms, total) = parked(&target, peer)?;
                if target.json {
                    return output::json(&Response::Parked { rooms, total });
                }
                show(&rooms, total);
                Ok(())
            }
            What::Redrive { peer, room, target } => redrive(&target, &peer, room),
        }
    }
}

fn parked(
    target: &Target,
    provider: Option<ProviderId>,
) -> anyhow::Result<(Vec<ParkedRow>, usize)> {
    let response = output::ask(&target.config, &Request::Parked { provider })?;
    let Response::Parked { rooms, total } = response else {
        bail!("the node answered something else");
    };
    Ok((rooms, total))
}

fn show(rooms: &[ParkedRow], total: usize) {
    for row in rooms {
        let why = row
            .refused
            .as_deref()
            .unwrap_or("far behind, goes on by itself");
        let lost = if row.lost {
            "; some of it was not kept: members there must join anew"
        } else {
            ""
        };
        output::line(&format!(
            "{}  {}  {} items: {why}{lost}",
            row.provider, row.room, row.items
        ));
    }
    match total - rooms.len() {
        0 if total == 0 => output::line("nothing waits"),
        0 => {}
        more => output::line(&format!("and {more} rooms more")),
    }
}

fn redrive(target: &Target, peer: &ProviderId, room: Option<RoomUri>) -> anyhow::Result<()> {
    let rooms = match room {
        Some(room) => vec![room],
        None => {
            let (rows, _) = parked(target, Some(peer.clone()))?;
            let refused = rows.into_iter().filter(|row| row.refused.is_some());
            refused.map(|row| row.room).collect()
        }
    };
    for room in &rooms {
        let redrive = Request::Redrive {
            provider: peer.clone(),
            room: room.clone(),
        };
        output::ask(&target.config, &redrive)?;
    }
    if target.json {
        return output::json(&serde_json::json!({ "redriven": rooms }));
    }
    output::line(&format!("{} rooms are sent again", rooms.len()));
    Ok(())
}
