//! The link from one shard to another of the same node: notices for users who live elsewhere.
//!
//! Same rules as between providers: numbered, de-duplicated by the receiver, acknowledged once durable there.

use crate::cluster::{
    raft::lead::{led_here, lost},
    shard::{
        NotQueued, Shard,
        shards::{Pending, Shards},
    },
};
use mimi_actors::{
    link::{self, Peer},
    record::Command,
    shard::read,
    user::outcome::{Answer, Refused},
    wire::event::LinkSeq,
};
use std::{sync::Arc, time::Duration};

/// Notices to one shard on their way at a time.
const NOTICES_UNDER_WAY_MAX: usize = 64;
/// How long a notice waits before it is tried again when the other shard did not take it.
const RETRY: Duration = Duration::from_millis(500);

/// Carries notices from `from` to every other shard whenever this node leads it, until the node stops.
pub(crate) async fn carry(shards: Shards, from: Arc<Shard>) {
    let mut lead = from.lead.subscribe();
    while led_here(&mut lead).await {
        let mut watched = lead.clone();
        tokio::select! {
            () = carry_on(&shards, &from) => tokio::time::sleep(RETRY).await,
            () = lost(&mut watched) => {}
        }
    }
}

/// Carries notices until the shard takes no acknowledgement any more.
async fn carry_on(shards: &Shards, from: &Arc<Shard>) {
    let mut applied = from.applied.subscribe();
    loop {
        applied.mark_unchanged();
        let mut again = false;
        let owed: Vec<(u16, LinkSeq)> = {
            let derived = from.looked_at();
            let shard = |(peer, outgoing): (&Peer, &link::outgoing::Outgoing)| match peer {
                Peer::Shard(shard) if outgoing.acked() < outgoing.last() => {
                    Some((*shard, outgoing.acked()))
                }
                Peer::Shard(_) | Peer::Provider(_) => None,
            };
            derived.links.peers().filter_map(shard).collect()
        };
        for (to, acked) in owed {
            let upto = carry_to(shards, from, to, acked).await;
            if upto > acked {
                let ack = link::Command::Ack {
                    peer: Peer::Shard(to),
                    upto,
                    refused: Vec::new(),
                };
                if let Err(NotQueued::TryLater(_)) = from.queue_own(Command::Link(ack)).await {
                    return;
                }
            } else {
                again = true;
            }
        }
        // What was not taken is tried again even when nothing else happens.
        let wait = if again { RETRY } else { Duration::MAX };
        if let Ok(Err(_)) = tokio::time::timeout(wait, applied.changed()).await {
            return;
        }
    }
}

/// Carries what is owed to one shard; returns the last number that is durable there.
async fn carry_to(shards: &Shards, from: &Arc<Shard>, to: u16, acked: LinkSeq) -> LinkSeq {
    let mut upto = acked;
    loop {
        let begun = begin_window(shards, from, to, upto).await;
        if begun.is_empty() {
            return upto;
        }
        for (seq, pending) in begun {
            let Some(pending) = pending else {
                upto = seq;
                continue;
            };
            match shards.user_answer(pending).await {
                // A user who is unknown or deleted has no inbox: the notice is for nobody.
                Ok(Answer::Done | Answer::Refused(Refused::Unknown | Refused::Deleted)) => {
                    upto = seq
                }
                Ok(answer) => {
                    tracing::warn!(
                        shard = to,
                        ?answer,
                        "a notice was not taken and will be tried again"
                    );
                    return upto;
                }
                Err(_) => return upto,
            }
        }
    }
}

/// Puts the next notices on their way, in order; `None` stands for one that is for nobody.
async fn begin_window(
    shards: &Shards,
    from: &Arc<Shard>,
    to: u16,
    after: LinkSeq,
) -> Vec<(LinkSeq, Option<Pending<Answer>>)> {
    let mut begun = Vec::new();
    let mut last = after;
    while begun.len() < NOTICES_UNDER_WAY_MAX {
        let (seq, carried) = match read::notice(&**from, from.id, to, last.next()) {
            Ok(Some(notice)) => notice,
            Ok(None) => break,
            Err(error) => {
                tracing::error!(shard = from.id, %error, "a notice cannot be read");
                break;
            }
        };
        last = seq;
        let Some((user, command)) = carried else {
            begun.push((seq, None));
            continue;
        };
        match shards.begin_user(&user, command).await {
            Ok(pending) => begun.push((seq, Some(pending))),
            Err(_) => break,
        }
    }
    begun
}
