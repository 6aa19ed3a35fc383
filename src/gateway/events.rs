//! A client's event stream: its rooms and its inbox, from its cursors on.
//!
//! Nothing is stored for the stream: cursors are in the user's fold, bytes in the log. A stream that is cut begins
//! again at the last acknowledgement; events that were sent and not acknowledged come again.
//!
//! Source: transport requirements, section 5.

use super::{FRAME_DEADLINE, Session};
use crate::{
    cluster::{feeds::wake::Wake, shard::shards::Unanswered},
    quic::{LaneReceiver, LaneSender},
};
use anyhow::Context;
use mimi_actors::{
    ids::{ClientUri, RoomUri},
    limits::{ACKS_FRAME_BYTES_MAX, ACKS_WAITING_MAX, BATCH_FILL_BYTES},
    shard::read,
    shard_request::AskUserLog,
    user::{
        command::{Ack, Command as UserCommand},
        cursors::Membership,
        desk as user_desk,
        inbox::InboxItem,
        outcome as user_outcome,
    },
    wire::{
        self, BVec,
        door::{Acks, DoorItem, Events, Order},
        event::{InboxSeq, LaneCursor, RoomSeq},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinHandle};

/// How often acknowledgements are put into the log, at most; after a crash the rest is sent again.
const ACK_RECORD_INTERVAL: Duration = Duration::from_millis(500);

/// Ends its task with itself, however the stream ends.
struct AbortOnDrop(JoinHandle<anyhow::Result<()>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where the stream stands in one room.
struct Cursor {
    given: LaneCursor,
    upto: Option<RoomSeq>,
    after: RoomSeq,
}

/// What the stream has sent.
struct Cursors {
    order: Order,
    rooms: BTreeMap<RoomUri, Cursor>,
    inbox: InboxSeq,
}

/// Serves the lane until it ends.
pub(super) async fn serve(
    session: &Arc<Session>,
    client: &ClientUri,
    order: Order,
    mut to: LaneSender,
    from: LaneReceiver,
) -> anyhow::Result<()> {
    let wake = session.shards.environment().wakers.register(client);
    let (report, mut acks) = mpsc::channel(ACKS_WAITING_MAX);
    let _reading = AbortOnDrop(tokio::spawn(read_acks(from, report)));
    let mut cursors = Cursors {
        order,
        rooms: BTreeMap::new(),
        inbox: InboxSeq::default(),
    };
    let mut dirty: BTreeSet<RoomUri> = BTreeSet::new();
    let mut pending = PendingAcks::default();
    let mut record = tokio::time::interval(ACK_RECORD_INTERVAL);
    wake.user();
    let ended = loop {
        let news = wake.take();
        dirty.extend(news.rooms);
        if news.user {
            refresh(session, client, &wake, &mut cursors, &mut dirty, &mut to).await?;
        }
        let verdicts = news.verdicts.into_iter();
        let verdicts = verdicts
            .map(|(room, run)| DoorItem::Verdict { room, run })
            .collect();
        send(&mut to, verdicts).await?;
        if let Some(room) = dirty.pop_first() {
            if send_room(session, client, &mut cursors, &room, &mut to).await? {
                dirty.insert(room);
            }
            // Acknowledgements are taken in even while there is much to send.
            while let Ok(ack) = acks.try_recv() {
                pending.add(ack, &cursors);
            }
            if !dirty.is_empty() {
                continue;
            }
        }
        tokio::select! {
            () = wake.woken() => {}
            ack = acks.recv() => match ack {
                Some(ack) => pending.add(ack, &cursors),
                None => break Ok(()),
            },
            _ = record.tick(), if !pending.is_empty() => {
                if record_acks(session, client, &mut pending).await.is_err() {
                    tracing::warn!("an acknowledgement was not recorded; events will come again");
                }
            }
        }
    };
    if !pending.is_empty() {
        // Nobody is there to be told: what is not recorded comes again on the next stream.
        let _ = record_acks(session, client, &mut pending).await;
    }
    ended
}

/// Puts acknowledgements into the user's log; what that made durable, the shards of the rooms hear.
async fn record_acks(
    session: &Session,
    client: &ClientUri,
    pending: &mut PendingAcks,
) -> Result<(), Unanswered> {
    let ack = pending.take(client);
    let given = ack.given();
    let asked = AskUserLog(client.user().clone(), UserCommand::Ack(ack));
    let answer = session.shards.ask(asked).await?;
    if answer != user_outcome::Answer::Done {
        tracing::debug!(?answer, "an acknowledgement was refused");
        return Ok(());
    }
    for (room, given) in given {
        session
            .shards
            .of_room(&room)?
            .reads
            .note(&room, client, given);
    }
    Ok(())
}

/// Looks at the user's fold: which rooms there are to read, and what is in the inbox.
async fn refresh(
    session: &Session,
    client: &ClientUri,
    wake: &Arc<Wake>,
    cursors: &mut Cursors,
    dirty: &mut BTreeSet<RoomUri>,
    to: &mut LaneSender,
) -> anyhow::Result<()> {
    let user = client.user();
    let shard = session.shards.of_user(user)?;
    let (seen, reader) = (cursors.inbox, client.clone());
    let (known, memberships, inbox) = shard
        .look::<user_desk::Desk, _>(user, move |fold| {
            let known = fold.device_key(&reader).is_some();
            let rooms: Vec<(RoomUri, Membership)> = fold
                .memberships(&reader)
                .map(|(room, is)| (room.clone(), is))
                .collect();
            let items = fold.inbox(&reader).filter(|item| item.seq > seen);
            let inbox: Vec<InboxItem> = items.collect();
            (known, rooms, inbox)
        })
        .await?;
    anyhow::ensure!(known, "the device was revoked");
    for item in inbox {
        let seq = item.seq;
        send(to, vec![read::inbox_item(&**shard, item)?]).await?;
        cursors.inbox = seq;
    }
    for (room, membership) in memberships {
        let known = cursors
            .rooms
            .get_mut(&room)
            .filter(|known| known.after == membership.after);
        if let Some(known) = known {
            known.upto = membership.upto.or(known.upto);
        } else {
            let Membership {
                after,
                upto,
                acked: application,
                control,
            } = membership;
            cursors.rooms.insert(
                room.clone(),
                Cursor {
                    given: LaneCursor {
                        application,
                        control,
                    },
                    upto,
                    after,
                },
            );
            let shard = session.shards.of_room(&room)?;
            shard.watchers.watch(&room, wake);
        }
        dirty.insert(room);
    }
    Ok(())
}

/// Sends one batch of a room; `true` when there is more.
async fn send_room(
    session: &Session,
    client: &ClientUri,
    cursors: &mut Cursors,
    room: &RoomUri,
    to: &mut LaneSender,
) -> anyhow::Result<bool> {
    let Some(cursor) = cursors.rooms.get_mut(room) else {
        return Ok(false);
    };
    let shard = session.shards.of_room(room)?;
    let (given, upto, order) = (cursor.given, cursor.upto, cursors.order);
    let part = read::room_events(&**shard, room, client, given, upto, order)?;
    if let Some((from, upto)) = part.gap {
        cursor.given = part.given;
        let room = room.clone();
        send(to, vec![DoorItem::Gap { room, from, upto }]).await?;
        return Ok(true);
    }
    if part.events.is_empty() {
        return Ok(false);
    }
    cursor.given = part.given;
    cursor.upto = part.left.or(cursor.upto);
    send(
        to,
        vec![DoorItem::Room {
            room: room.clone(),
            events: part.events,
        }],
    )
    .await?;
    Ok(true)
}

/// Sends items, in as many frames as they need.
async fn send(to: &mut LaneSender, items: Vec<DoorItem>) -> anyhow::Result<()> {
    for items in BVec::pieces(items) {
        let events = Events { items };
        to.write_sized(&events, BATCH_FILL_BYTES / 16).await?;
    }
    Ok(())
}

async fn read_acks(mut from: LaneReceiver, report: mpsc::Sender<Acks>) -> anyhow::Result<()> {
    while let Some(frame) = from
        .next(ACKS_FRAME_BYTES_MAX, Some(FRAME_DEADLINE))
        .await?
    {
        let acks = wire::decode::<Acks>(&frame).context("an acknowledgement does not decode")?;
        report.send(acks).await?;
    }
    Ok(())
}

/// Acknowledgements that are not in the log yet.
#[derive(Default)]
struct PendingAcks {
    inbox: Option<InboxSeq>,
    rooms: BTreeMap<RoomUri, RoomSeq>,
    control: BTreeMap<RoomUri, RoomSeq>,
}

impl PendingAcks {
    /// Rooms that the stream does not read are none of the client's business.
    fn add(&mut self, acks: Acks, cursors: &Cursors) {
        self.inbox = self.inbox.max(acks.inbox);
        let lanes = [
            (&mut self.rooms, acks.rooms),
            (&mut self.control, acks.control),
        ];
        for (pending, acked) in lanes {
            for (room, seq) in acked {
                if !cursors.rooms.contains_key(&room) {
                    continue;
                }
                let upto = pending.entry(room).or_default();
                *upto = (*upto).max(seq);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.inbox.is_none() && self.rooms.is_empty() && self.control.is_empty()
    }

    fn take(&mut self, client: &ClientUri) -> Ack {
        Ack {
            client: client.clone(),
            inbox: self.inbox.take(),
            rooms: std::mem::take(&mut self.rooms).into_iter().collect(),
            control: std::mem::take(&mut self.control).into_iter().collect(),
        }
    }
}
