//! From cursors back to bytes: what a shard owes to other providers and to other shards, read out of its log.
//!
//! Source: transport requirements, sections 4 and 5.

use super::{
    fill::Fill,
    read::{ReadError, Source, at, no_event},
};
use crate::{
    ids::{ClientUri, ProviderId, RoomUri},
    limits::{BATCH_EVENTS_MAX, BATCH_FILL_BYTES, BATCH_ROOMS_MAX},
    link::{
        Peer,
        outgoing::{ConsentOwed, Owed, Run},
        submissions::SubmitRun,
    },
    record::Command,
    room::{fanout, follower},
    shard_request::ShardRequest,
    user::command::{Command as UserCommand, Deliver, Heard, LearnRefilled},
    wire::{
        BVec, Payload,
        event::{Body, Copy, Event, Invitation, Item, LaneCursor, LinkSeq, RoomSeq, SubmitSeq},
        link::{Fanout, FanoutGroup, Submit, SubmitGroup},
        post::Post,
    },
};

/// Runs looked up at a time; each is a piece of a batch.
const RUNS_MAX: usize = 64;

/// What is owed to a provider next.
#[derive(Clone, Debug, PartialEq)]
pub enum Owing {
    /// Nothing.
    Nothing,
    /// A batch.
    Batch {
        /// It.
        batch: Fanout,
        /// The number after its last item.
        after: LinkSeq,
        /// Its payload bytes.
        bytes: usize,
    },
    /// The next item fits no frame: it can only be passed over, with its room.
    TooLarge {
        /// The item.
        item: LinkSeq,
        /// Its room.
        room: RoomUri,
        /// Its payload bytes.
        bytes: usize,
    },
}

/// What is owed to a provider from item `from` on.
///
/// # Errors
/// [`ReadError`] when the log does not give an entry back.
pub fn batch<S: Source>(
    source: &S,
    provider: &ProviderId,
    from: LinkSeq,
) -> Result<Owing, ReadError> {
    let peer = Peer::Provider(provider.clone());
    let runs: Option<Vec<Run>> = source.derived(|derived| {
        let owed = derived.links.outgoing(&peer)?.from(from);
        Some(owed.take(RUNS_MAX.min(BATCH_ROOMS_MAX)).collect())
    });
    let Some(runs) = runs else {
        return Ok(Owing::Nothing);
    };
    let mut fill = Fill::default();
    let mut groups = BVec::default();
    let mut next = from;
    for run in runs {
        let (room, items) = items(source, provider, &run, &mut fill)?;
        if let Some(bytes) = fill.too_large {
            let item = next;
            return Ok(Owing::TooLarge { item, room, bytes });
        }
        let count = items.len();
        if count > 0 && groups.push(FanoutGroup { room, items }).is_err() {
            break;
        }
        next = next.plus(count as u64);
        if count < run.count as usize {
            break;
        }
    }
    if next == from {
        return Ok(Owing::Nothing);
    }
    let batch = Fanout {
        first: from,
        groups,
    };
    Ok(Owing::Batch {
        batch,
        after: next,
        bytes: fill.bytes,
    })
}

/// As many items of a run as fit.
fn items<S: Source>(
    source: &S,
    provider: &ProviderId,
    run: &Run,
    fill: &mut Fill,
) -> Result<(RoomUri, BVec<Item, BATCH_EVENTS_MAX>), ReadError> {
    let mut items = BVec::default();
    match &run.owed {
        Owed::Notice { room, .. } => Ok((room.clone(), items)),
        Owed::Refilled(refilled) => {
            if fill.admit(64) {
                items = BVec::from([Item::Refilled {
                    requester: refilled.requester.clone(),
                    client: refilled.client.clone(),
                }]);
            }
            Ok((refilled.room.clone(), items))
        }
        Owed::Departed(departed) => {
            if fill.admit(64) {
                items = BVec::from([Item::Departed {
                    client: departed.client.clone(),
                    why: departed.why,
                }]);
            }
            Ok((departed.room.clone(), items))
        }
        Owed::Consent(owed) => {
            let entry = Payload::from(owed.entry.write());
            if fill.admit(entry.len()) {
                items = BVec::from([Item::Consent(entry)]);
            }
            Ok((owed.place.clone(), items))
        }
        Owed::Refused {
            room,
            first,
            reason,
        } => {
            for number in 0..u64::from(run.count) {
                let refused = Item::Refused {
                    submit_seq: first.plus(number),
                    reason: *reason,
                };
                if !fill.admit(16) || items.push(refused).is_err() {
                    break;
                }
            }
            Ok((room.clone(), items))
        }
        Owed::Events { room, first, copy } => {
            let end = first.plus(u64::from(run.count));
            let before = LaneCursor::all(RoomSeq(first.0.saturating_sub(1)));
            let wanted = BATCH_EVENTS_MAX.min(run.count as usize);
            let pieces = source.derived(|derived| derived.index.after(room, before, wanted));
            'runs: for piece in pieces {
                let found = at(source, piece.at)?;
                for number in 0..piece.count {
                    let seq = piece.first.plus(u64::from(number));
                    if seq >= end {
                        break 'runs;
                    }
                    let copy = match copy {
                        Copy::Own(submit) => Copy::Own(submit.plus(seq.0 - first.0)),
                        other @ (Copy::Full | Copy::Invitation) => other.clone(),
                    };
                    let item = piece.item + number;
                    let event = found.hub().and_then(|command| {
                        fanout::event_for(provider, &copy, seq, piece.time, command, item)
                    });
                    let event = event.ok_or_else(|| no_event(piece.at))?;
                    let admitted = fill.admit(event_bytes(&event));
                    if !admitted || items.push(Item::Event(event)).is_err() {
                        break 'runs;
                    }
                }
            }
            Ok((room.clone(), items))
        }
    }
}

/// What is owed to somebody in another shard of this provider: a request that takes it, or nobody's.
pub type Carried = Option<ShardRequest>;

/// The next notice that the shard `here` owes to another one, from item `from` on.
///
/// # Errors
/// [`ReadError`] when the log does not give an entry back.
pub fn notice<S: Source>(
    source: &S,
    here: u16,
    to: u16,
    from: LinkSeq,
) -> Result<Option<(LinkSeq, Carried)>, ReadError> {
    let run = source.derived(|derived| {
        let owed = derived.links.outgoing(&Peer::Shard(to))?;
        owed.from(from).next()
    });
    let (first, room, notice) = match run {
        Some(Run {
            first,
            owed: Owed::Notice { room, notice },
            ..
        }) => (first, room, notice),
        Some(Run {
            first,
            owed: Owed::Refilled(refilled),
            ..
        }) => {
            let user = refilled.requester.clone();
            let learn = UserCommand::LearnRefilled(LearnRefilled {
                from: Some((here, first)),
                refilled,
            });
            return Ok(Some((first, Some(ShardRequest::UserLog(user, learn)))));
        }
        Some(Run {
            first,
            owed: Owed::Departed(departed),
            ..
        }) => return Ok(Some((first, Some(ShardRequest::Depart(departed))))),
        Some(Run {
            first,
            owed: Owed::Consent(ConsentOwed { entry, .. }),
            ..
        }) => {
            let user = entry.receiver().clone();
            let from = Some((here, first));
            let heard = UserCommand::Heard(Heard { from, entry });
            return Ok(Some((first, Some(ShardRequest::UserLog(user, heard)))));
        }
        Some(_) | None => return Ok(None),
    };
    let found = at(source, notice.at)?;
    let told = match found.command() {
        Some(Command::Hub(_, command)) => fanout::hub_notice(&notice, command),
        Some(Command::Follower(_, command)) => fanout::follower_notice(&notice, command),
        Some(Command::User(..) | Command::Link(_) | Command::Level(_) | Command::Name(_))
        | None => None,
    };
    let told = told.ok_or_else(|| no_event(notice.at))?;
    let post = Post {
        room,
        clients: notice.clients,
        notice: told,
    };
    let user = post.clients.first().map(|client| client.user().clone());
    let deliver = UserCommand::Deliver(Deliver {
        from_shard: here,
        seq: first,
        post,
    });
    Ok(Some((
        first,
        user.map(|user| ShardRequest::UserLog(user, deliver)),
    )))
}

/// A batch of submissions to a hub, from place `from` on, and the place after it.
///
/// # Errors
/// [`ReadError`] when the log does not give an entry back.
pub fn submissions<S: Source>(
    source: &S,
    hub: &ProviderId,
    from: u64,
) -> Result<Option<(Submit, u64)>, ReadError> {
    let runs: Option<Vec<(u64, SubmitSeq, SubmitRun)>> = source.derived(|derived| {
        let waiting = derived.links.submissions(hub)?;
        let taken = waiting.from(from).take(RUNS_MAX.min(BATCH_ROOMS_MAX));
        let with_undecided = |(place, run): (u64, &SubmitRun)| {
            let undecided = waiting.undecided(&run.room).unwrap_or(run.first);
            (place, undecided, run.clone())
        };
        Some(taken.map(with_undecided).collect())
    });
    let Some(runs) = runs else { return Ok(None) };
    let mut fill = Fill::default();
    let mut groups = BVec::default();
    let mut next = from;
    for (place, undecided, run) in runs {
        let found = at(source, run.at)?;
        let Some(follower::Command::Queue(queue)) = found.follower() else {
            return Err(no_event(run.at));
        };
        let messages = queue.messages.part(run.item as usize, run.count as usize);
        let bytes: usize = messages.iter().map(|message| message.len()).sum();
        // A run is at most one client frame, so it always fits a batch of its own.
        if fill.items > 0 && (fill.is_full() || fill.bytes + bytes > BATCH_FILL_BYTES) {
            break;
        }
        fill.items += messages.len();
        fill.bytes += bytes;
        let group = SubmitGroup {
            room: run.room,
            sender: run.sender,
            first: run.first,
            undecided,
            messages,
        };
        if groups.push(group).is_err() {
            break;
        }
        next = place + 1;
    }
    Ok((next > from).then_some((Submit { groups }, next)))
}

fn event_bytes(event: &Event) -> usize {
    const HEADER: usize = 24;
    let invited = |invited: &Invitation| {
        invited.welcome.len() + invited.tree.len() + names_bytes(&invited.clients)
    };
    let body = match &event.body {
        Body::Application(message) => message.len(),
        Body::Proposals(messages) => messages.iter().map(|message| message.len()).sum(),
        Body::Commit(commit) => {
            let names = names_bytes(&commit.left);
            commit.commit.len() + names + commit.invitation.as_ref().map_or(0, invited)
        }
        Body::Invited(invitation) => invited(invitation),
        Body::Entered(_) | Body::Own(_) => 0,
    };
    HEADER + body
}

fn names_bytes(clients: &[ClientUri]) -> usize {
    const LENGTH: usize = 2;
    let each = clients.iter();
    each.map(|client| client.to_string().len() + LENGTH).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        machine::{Millis, Position},
        record::Entry,
        room::{hub, outcome::Emission, testing::Hub},
        shard::Derived,
        wire::event::Lane,
    };
    use std::sync::Arc;

    /// Entries, each with one Commit of a room.
    struct Log(Derived, Vec<Arc<Held>>);

    struct Held(Entry);

    impl AsRef<Entry> for Held {
        fn as_ref(&self) -> &Entry {
            &self.0
        }
    }

    impl Source for Log {
        type Held = Held;

        fn derived<R>(&self, look: impl FnOnce(&Derived) -> R) -> R {
            look(&self.0)
        }

        fn entry(&self, index: u64) -> Result<Arc<Held>, ReadError> {
            Ok(Arc::clone(&self.1[usize::try_from(index).unwrap()]))
        }
    }

    #[test]
    fn an_event_that_fits_no_frame_is_named_and_what_is_before_and_behind_it_goes() {
        let b: ProviderId = "b.example".parse().unwrap();
        let mut log = Log(Derived::default(), Vec::new());
        for (entry, bytes) in [(0, 100), (1, ITEM_BYTES), (2, ITEM_BYTES + 1), (3, 100)] {
            let hub::Command::Commit(mut commit) = Hub::created().adding("many", Vec::new()) else {
                panic!("a Commit");
            };
            commit.commit = Payload::from(vec![7; bytes - HEADER]);
            let room: RoomUri = format!("mimi://a.example/r/{entry}").parse().unwrap();
            let command = Arc::new(hub::Command::Commit(commit));
            let commands = BVec::from([Command::Hub(room.clone(), command)]);
            let stamp = Millis(1);
            log.1.push(Arc::new(Held(Entry { stamp, commands })));
            let emission = Emission {
                first: RoomSeq(1),
                count: 1,
                at: Position { entry, command: 0 },
                item: 0,
                time: Millis(1),
                origin: None,
                lane: Lane::Proposals,
                recipients: Vec::new(),
            };
            log.0.index.push(&room, &emission);
            let owed = Owed::Events {
                room,
                first: RoomSeq(1),
                copy: Copy::Full,
            };
            log.0.links.to(&Peer::Provider(b.clone())).push(owed, 1);
        }
        let next = |from| match batch(&log, &b, LinkSeq(from)).unwrap() {
            Owing::Batch { after, .. } => after.0,
            other @ (Owing::Nothing | Owing::TooLarge { .. }) => panic!("{other:?}"),
        };
        assert_eq!((next(1), next(2), next(4)), (2, 3, 5));
        let large = Owing::TooLarge {
            item: LinkSeq(3),
            room: "mimi://a.example/r/2".parse().unwrap(),
            bytes: ITEM_BYTES + 1,
        };
        assert_eq!(batch(&log, &b, LinkSeq(3)), Ok(large));
    }

    const HEADER: usize = 24;
    const ITEM_BYTES: usize = crate::limits::BATCH_FRAME_BYTES_MAX - (16 << 10);
}
