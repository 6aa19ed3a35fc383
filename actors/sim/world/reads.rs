//! How clients read rooms: in an order that each chooses whenever it opens its stream, from where its provider knows it
//! to be.
//!
//! Now and then a client opens its stream anew, in another order perhaps, and some stay away for a while. It must be
//! given everything that it has not acknowledged, as [`Order`] promises; what comes again it knows.

use super::{World, client::Purpose};
use crate::sim::{
    mls::Took,
    post::{Back, ClientAsk, Target},
};
use crate::{
    ids::RoomUri,
    limits::WINDOW_EVENTS_MAX,
    link::ReadProgress,
    shard::read::RoomPart,
    shard_request::{Asked, TellRead},
    user::{command::Ack, cursors::Membership},
    wire::{
        BVec,
        door::{Order, RoomBody, RoomEvent},
        event::{LaneCursor, RoomSeq},
    },
};
use std::collections::BTreeSet;

/// Streams opened anew before which a client stays away, in thousandths.
const AWAY_PERMILLE: u32 = 150;
/// How long it stays away at most, in milliseconds.
const AWAY_MS_MAX: u64 = 6_000;

/// What a client has read of a room, and where its stream stands.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Everything up to here.
    upto: RoomSeq,
    /// What it has read beyond that.
    beyond: BTreeSet<RoomSeq>,
    /// The last control event and the newest message.
    control: RoomSeq,
    newest: RoomSeq,
    given: LaneCursor,
    order: Order,
}

/// What an event is to a client that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    New,
    /// New, and there are older ones that it has not read.
    Early,
    Known,
}

fn is_message(event: &RoomEvent) -> bool {
    matches!(event.body, RoomBody::Application(_))
}

impl Reads {
    /// Of one that joined after this event.
    pub(super) fn after(after: RoomSeq) -> Self {
        Self {
            upto: after,
            control: after,
            given: LaneCursor::all(after),
            ..Self::default()
        }
    }

    /// Everything up to and with this event was read.
    pub(super) const fn upto(&self) -> RoomSeq {
        self.upto
    }

    /// Where the stream stands, and its order.
    pub(super) const fn stands(&self) -> (LaneCursor, Order) {
        (self.given, self.order)
    }

    /// The client came in by itself: what was before is not for it.
    pub(super) fn enters_after(&mut self, seq: RoomSeq) {
        let upto = self.upto.max(seq);
        let order = self.order;
        *self = Self {
            order,
            ..Self::after(upto)
        };
    }

    /// Nothing up to and with `last` comes any more; gives what of it was not read.
    pub(super) fn pass_over(&mut self, last: RoomSeq, given: LaneCursor) -> Vec<RoomSeq> {
        let between = (self.upto.0 + 1..=last.0).map(RoomSeq);
        let missed = between.filter(|seq| !self.beyond.contains(seq)).collect();
        self.upto = self.upto.max(last);
        self.beyond.retain(|seq| *seq > last);
        while self.beyond.remove(&self.upto.next()) {
            self.upto = self.upto.next();
        }
        self.control = self.control.max(last);
        self.given = given;
        missed
    }

    /// Takes an event; says what it is, or which promise it breaks.
    fn take(&mut self, event: &RoomEvent) -> Result<Is, String> {
        let seq = event.seq;
        if seq <= self.upto || self.beyond.contains(&seq) {
            return Ok(Is::Known);
        }
        if is_message(event) {
            self.newest = self.newest.max(seq);
        } else {
            if seq < self.newest {
                return Err(format!(
                    "message {} before control event {seq}",
                    self.newest
                ));
            }
            if seq < self.control {
                return Err(format!("control event {} before {seq}", self.control));
            }
            self.control = seq;
        }
        if self.order == Order::InOrder && self.beyond.is_empty() && seq != self.upto.next() {
            return Err(format!("{seq} where {} was next", self.upto.next()));
        }
        self.beyond.insert(seq);
        while self.beyond.remove(&self.upto.next()) {
            self.upto = self.upto.next();
        }
        Ok(if self.beyond.is_empty() {
            Is::New
        } else {
            Is::Early
        })
    }
}

/// Which promise the order of a part breaks, if it does.
fn misordered(order: Order, events: &[RoomEvent]) -> Option<String> {
    let messages = events.iter().filter(|event| is_message(event)).count();
    let up = events.is_sorted_by(|a, b| a.seq < b.seq);
    let down = events.is_sorted_by(|a, b| a.seq > b.seq);
    let kept = match order {
        Order::InOrder => up,
        Order::ControlFirst => up && (messages == 0 || messages == events.len()),
        Order::ControlThenNewest if messages == 0 => up,
        Order::ControlThenNewest => {
            down && messages == events.len() && messages <= WINDOW_EVENTS_MAX
        }
    };
    let seqs = || events.iter().map(|event| event.seq.0).collect::<Vec<_>>();
    (!kept).then(|| format!("{order:?}: {:?}, {messages} of them messages", seqs()))
}

impl World {
    /// A client that has looked into its inbox opens its stream anew, perhaps: from where its provider knows it to be.
    pub(super) fn reopen(&mut self, client: usize, room: &RoomUri, membership: &Membership) {
        let is = &mut self.clients[client];
        let Some(known) = is.rooms.get_mut(room) else {
            return;
        };
        if known.lost {
            return;
        }
        let reads = &mut known.reads;
        let (acked, control) = (membership.acked, membership.control);
        let (upto, last) = (reads.upto, reads.control.max(reads.upto));
        self.history.demand("I16", acked <= upto && control <= last, || {
            format!("client {client} has {upto} and control {last} of {room}; its cursors are at {acked} and {control}")
        });
        if !self.orders.hits(self.plan.weather.reopens_permille) {
            return;
        }
        let orders = [
            Order::InOrder,
            Order::ControlFirst,
            Order::ControlThenNewest,
        ];
        reads.order = *self.orders.pick(&orders).unwrap_or(&Order::InOrder);
        reads.given = LaneCursor {
            application: acked,
            control,
        };
        self.counts.one("streams opened anew");
        if !self.calm && self.orders.hits(AWAY_PERMILLE) {
            is.away_until_ms = self.now_ms + self.orders.between(1, AWAY_MS_MAX);
        }
    }

    /// Tells the provider what the client has, for good.
    pub(super) fn acknowledge(&mut self, client: usize) {
        let is = &self.clients[client];
        if is.waits_for(|purpose| *purpose == Purpose::Ack) {
            return;
        }
        let each = || is.rooms.iter();
        let read = each().filter(|(_, known)| known.reads.upto > known.after);
        let ahead = each().filter(|(_, known)| known.reads.control > known.reads.upto);
        let ack = Ack {
            client: is.uri.clone(),
            inbox: Some(is.inbox),
            rooms: read
                .map(|(room, known)| (room.clone(), known.reads.upto))
                .collect(),
            control: ahead
                .map(|(room, known)| (room.clone(), known.reads.control))
                .collect(),
        };
        self.ask(client, Purpose::Ack, ClientAsk::Ack(ack));
    }

    /// The node that took an acknowledgement tells the shards of the rooms, unless it ends just then.
    pub(super) fn tell_read(&mut self, client: usize, ack: &Ack) {
        for (room, given) in ack.given() {
            if !self.calm && self.orders.hits(self.plan.weather.reads_lost_permille) {
                self.counts.one("words of what was read that were lost");
                continue;
            }
            let has = ReadProgress {
                room,
                client: ack.client.clone(),
                given,
            };
            if let Some(node) = self.clients[client].node {
                self.counts.one("words of what was read");
                let read = TellRead(BVec::from([has])).into_request();
                self.ask_for(node, Target::Shard(read), Back::Nobody);
            }
        }
    }

    /// Takes what the provider gave, beyond what and in which order it was asked.
    pub(super) fn read_events(
        &mut self,
        client: usize,
        room: &RoomUri,
        read: (LaneCursor, Order),
        part: RoomPart,
    ) {
        let Some(known) = self.clients[client].rooms.get_mut(room) else {
            return;
        };
        if known.reads.stands() != read {
            // An answer to a stream that is not open any more.
            return self.read_room(client, room);
        }
        let kept_for_ever = self.plan.weather.retention_ms == u64::MAX;
        self.history.demand("I16", part.gap.is_none() || !kept_for_ever, || {
            format!("client {client} was told of a gap in {room}, where nothing is forgotten that it has not: {:?}", part.gap)
        });
        if let Some((_, last)) = part.gap {
            return self.told_of_gap(client, room, last, part.given);
        }
        if part.events.is_empty() {
            return;
        }
        let broken = misordered(read.1, &part.events);
        self.history.demand("lanes", broken.is_none(), || {
            format!("client {client} was given events of {room} {broken:?}")
        });
        known.reads.given = part.given;
        // The stream of a real node remembers where it ended.
        known.upto = part.left.or(known.upto);
        let count = part.events.len();
        for event in part.events {
            self.read_event(client, room, event);
            let lost = self.clients[client].rooms.get(room);
            if self.history.violation.is_some() || lost.is_some_and(|known| known.lost) {
                return;
            }
        }
        self.counts
            .many("events delivered to clients", count as u64);
        self.acknowledge(client);
        self.read_room(client, room);
    }

    fn read_event(&mut self, client: usize, room: &RoomUri, event: RoomEvent) {
        let is = &mut self.clients[client];
        let name = is.name();
        let Some(known) = is.rooms.get_mut(room) else {
            return;
        };
        if known.upto.is_some_and(|upto| event.seq > upto) {
            let why = format!(
                "{name} was given event {} of {room} after it left",
                event.seq
            );
            return self.history.violated("I5", why);
        }
        match known.reads.take(&event) {
            // Its provider knows the membership, also one that was over before the inbox told of it.
            Ok(Is::New) => known.exists = true,
            Ok(Is::Early) => self.counts.one("events read before older ones"),
            Ok(Is::Known) => return self.counts.one("events given to a client again"),
            Err(why) => {
                let why = format!("{name} was given, of {room}, {why}");
                return self.history.violated("I26", why);
            }
        }
        self.history.delivered(client, room, &event);
        if let Some(own) = event.own {
            if let Some(message) = known.accepted(own.0) {
                self.history.accepted(message.content, room, event.seq);
            }
            return;
        }
        let own_commit = known.staged.as_ref().is_some_and(|staged| {
            matches!(&event.body, RoomBody::Commit { commit, .. } if commit.0 == staged.commit)
        });
        let took = if own_commit {
            known.staged = None;
            is.member.confirm(room).map(Took::Commit)
        } else {
            if let RoomBody::Commit { epoch, .. } = &event.body
                && known
                    .staged
                    .take_if(|staged| staged.opens <= *epoch)
                    .is_some()
            {
                is.member.discard(room);
            }
            is.member.take(room, &event.body)
        };
        match took {
            Ok(Took::Message(content)) => self.history.read(&is.uri, room, event.seq, content),
            Ok(Took::Proposals | Took::BeforeJoining) => {}
            Ok(Took::Commit(epoch)) => {
                let with = is.member.authenticator(room);
                self.history.entered(room, epoch, with);
                self.story.tell(self.now_ms, || {
                    format!(
                        "{name}  enters epoch {epoch} of {room}, event {}",
                        event.seq
                    )
                });
            }
            Ok(Took::Removed) => {
                known.upto = Some(event.seq);
                self.counts.one("members removed");
                self.story.tell(self.now_ms, || {
                    format!("{name}  is removed from {room} by event {}", event.seq)
                });
            }
            Err(_) if known.gapped => self.lose_room(client, room),
            Err(why) => {
                let why = format!("{name} cannot take event {} of {room}: {why}", event.seq);
                self.history.violated("I2", why);
            }
        }
    }
}
