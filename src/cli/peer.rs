//! `peer`: what waits for another provider, on the link and beside it.

use super::{
    Target,
    ask::ask,
    failure::{Refused, Unwell},
};
use anyhow::bail;
use mimi_actors::ids::{ProviderId, RoomUri};
use mimi_operator::{
    output,
    protocol::{Code, ParkedRow, Request, Response},
};

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
    /// Say how much is owed to a provider and, with --items, give it up for good: its members must join anew
    Forget {
        /// The provider
        #[arg(long)]
        peer: ProviderId,
        /// Give it up, if it is no more than so many items
        #[arg(long)]
        items: Option<u64>,
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
            What::Forget {
                peer,
                items,
                target,
            } => forget(&target, peer, items),
            What::Redrive { peer, room, target } => redrive(&target, &peer, room),
        }
    }
}

fn forget(target: &Target, provider: ProviderId, items_max: Option<u64>) -> anyhow::Result<()> {
    let asked = match items_max {
        None => Request::Owed {
            provider: provider.clone(),
        },
        Some(items_max) => Request::ForgetPeer {
            provider: provider.clone(),
            items_max,
        },
    };
    let response = ask(&target.config, &asked)?;
    if target.json {
        return output::json(&response);
    }
    let line = if let Response::Forgotten { items } = response {
        format!(
            "{items} items that were owed to {provider} are given up: remove its members from their rooms, or invite them anew"
        )
    } else if let Response::Owed { items } = response {
        match items {
            0 => format!("nothing is owed to {provider}"),
            _ => format!(
                "{items} items are owed to {provider}; nothing was done. To give them up for good, so that its members must \
                 join anew, add --items {items}"
            ),
        }
    } else {
        bail!("the node answered something else");
    };
    output::line(&line);
    Ok(())
}

fn parked(
    target: &Target,
    provider: Option<ProviderId>,
) -> anyhow::Result<(Vec<ParkedRow>, usize)> {
    let response = ask(&target.config, &Request::Parked { provider })?;
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
    if let Some(room) = room {
        let items = redrive_one(target, peer, &room)?;
        return say(target, &[(room, items)]);
    }
    let (rows, total) = parked(target, Some(peer.clone()))?;
    let more = total - rows.len();
    let refused = rows.into_iter().filter(|row| row.refused.is_some());
    let mut redriven = Vec::new();
    for row in refused {
        match redrive_one(target, peer, &row.room) {
            Ok(items) => redriven.push((row.room, items)),
            // Somebody else has sent it meanwhile.
            Err(error) if nothing_waits(&error) => {}
            Err(error) => return Err(error),
        }
    }
    if redriven.is_empty() {
        let why = format!(
            "{peer} refused nothing that waits; `mimi-node peer parked --peer {peer}` lists what waits for other reasons"
        );
        return Err(Refused {
            code: Code::NothingWaits,
            why,
            retry_after_ms: None,
        }
        .into());
    }
    say(target, &redriven)?;
    if more > 0 {
        let why = format!("{more} rooms more wait: repeat the command");
        return Err(Unwell(why).into());
    }
    Ok(())
}

/// Sends what waits of a room again; says how many items that are.
fn redrive_one(target: &Target, peer: &ProviderId, room: &RoomUri) -> anyhow::Result<u64> {
    let redrive = Request::Redrive {
        provider: peer.clone(),
        room: room.clone(),
    };
    let Response::Redriven { items } = ask(&target.config, &redrive)? else {
        bail!("the node answered something else");
    };
    Ok(items)
}

fn nothing_waits(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Refused>();
    refused.is_some_and(|refused| refused.code == Code::NothingWaits)
}

fn say(target: &Target, redriven: &[(RoomUri, u64)]) -> anyhow::Result<()> {
    if target.json {
        let rooms: Vec<_> = redriven
            .iter()
            .map(|(room, items)| serde_json::json!({ "room": room, "items": items }))
            .collect();
        return output::json(&serde_json::json!({ "redriven": rooms }));
    }
    for (room, items) in redriven {
        output::line(&format!("{room}: {items} items are on their way again"));
    }
    Ok(())
}
