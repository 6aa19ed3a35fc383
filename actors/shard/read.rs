//! From cursors back to bytes: what a shard owes to peers and clients, read out of its log.
//!
//! Source: transport requirements, section 5.

use super::{
    Derived,
    index::{EventRun, holding},
};
use crate::{
    ids::{ClientUri, ProviderId, RoomUri, UserUri},
    limits::{
        BATCH_EVENTS_MAX, BATCH_FILL_BYTES, BATCH_ROOMS_MAX, RUNS_OVERTAKEN_MAX, WINDOW_EVENTS_MAX,
    },
    link::{
        Peer,
        outgoing::{Owed, Run},
        submissions::SubmitRun,
    },
    machine::{Millis, Position},
    record::{Command, Entry},
    room::{fanout, follower, hub},
    user::{
        command::{Command as UserCommand, Deliver, LearnRefilled},
        inbox::{Held, InboxItem},
    },
    wire::{
        BVec,
        door::{DoorItem, Order, PAST_EPOCHS, RoomBody, RoomEvent},
        event::{Body, Copy, Epoch, Event, Item, Lane, LaneCursor, LinkSeq, RoomSeq, SubmitSeq},
        link::{Fanout, FanoutGroup, Submit, SubmitGroup},
        post::Post,
    },
};
use std::sync::Arc;

/// An entry that was applied cannot be read back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read entry {index} back from the log: {why}")]
pub struct ReadError {
    /// Its index.
    pub index: u64,
    /// Why.
    pub why: String,
}

/// A shard's log as far as it was applied, and what follows from it.
pub trait Source {
    /// How an entry is kept while its bytes are used.
    type Held: AsRef<Entry>;

    /// Looks at what follows from the log. Nothing is read from the log meanwhile.
    fn derived<R>(&self, look: impl FnOnce(&Derived) -> R) -> R;

    /// The entry at `index`. May read a file.
    ///
    /// # Errors
    /// [`ReadError`] when the log does not give it back.
    fn entry(&self, index: u64) -> Result<Arc<Self::Held>, ReadError>;
}

/// Runs looked up at a time; each is a piece of a batch.
const RUNS_MAX: usize = 64;

/// A command in the log, kept alive by its entry.
struct At<H> {
    entry: Arc<H>,
    command: usize,
}

impl<H: AsRef<Entry>> At<H> {
    fn command(&self) -> Option<&Command> {
        (*self.entry).as_ref().commands.get(self.command)
    }

    fn hub(&self) -> Option<&hub::Command> {
        match self.command()? {
            Command::Hub(_, command) => Some(command),
            Command::Follower(..) | Command::User(..) | Command::Link(_) | Command::Level(_) => {
                None
            }
        }
    }

    fn follower(&self) -> Option<&follower::Command> {
        match self.command()? {
            Command::Follower(_, command) => Some(command),
            Command::Hub(..) | Command::User(..) | Command::Link(_) | Command::Level(_) => None,
        }
    }
}

/// Counts what a batch holds, so that it is closed in time.
#[derive(Default)]
struct Fill {
    items: usize,
    bytes: usize,
}

impl Fill {
    fn is_full(&self) -> bool {
        self.items >= BATCH_EVENTS_MAX || self.bytes >= BATCH_FILL_BYTES
    }

    /// Counts one more item; `false` when it must wait for the next batch.
    fn admit(&mut self, bytes: usize) -> bool {
        if self.items > 0 && (self.is_full() || self.bytes + bytes > BATCH_FILL_BYTES) {
            return false;
        }
        self.items += 1;
        self.bytes += bytes;
        true
    }
}

fn at<S: Source>(source: &S, at: Position) -> Result<At<S::Held>, ReadError> {
    Ok(At {
        entry: source.entry(at.entry)?,
        command: at.command as usize,
    })
}

/// A batch of what is owed to a provider from item `from` on, the number after its last item and its payload bytes;
/// `None` when nothing is.
///
/// # Errors
/// [`ReadError`] when the log does not give an entry back.
pub fn fanout<S: Source>(
    source: &S,
    provider: &ProviderId,
    from: LinkSeq,
) -> Result<Option<(Fanout, LinkSeq, usize)>, ReadError> {
    let peer = Peer::Provider(provider.clone());
    let runs: Option<Vec<Run>> = source.derived(|derived| {
        let owed = derived.links.outgoing(&peer)?.from(from);
        Some(owed.take(RUNS_MAX.min(BATCH_ROOMS_MAX)).collect())
    });
    let Some(runs) = runs else { return Ok(None) };
    let mut fill = Fill::default();
    let mut groups = BVec::default();
    let mut next = from;
    for run in runs {
        let (room, items) = items(source, provider, &run, &mut fill)?;
        let count = items.len();
        if count > 0 && groups.push(FanoutGroup { room, items }).is_err() {
            break;
        }
        next = next.plus(count as u64);
        if count < run.count as usize {
            break;
        }
    }
    let first = from;
    Ok((next > from).then(|| (Fanout { first, groups }, next, fill.bytes)))
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
                let at = self::at(source, piece.at)?;
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
                    let event = at.hub().and_then(|command| {
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

/// What is owed to a user in another shard: whose it is and the command that takes it, or nobody's.
pub type Carried = Option<(UserUri, UserCommand)>;

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
            return Ok(Some((first, Some((user, learn)))));
        }
        Some(_) | None => return Ok(None),
    };
    let at = self::at(source, notice.at)?;
    let told = match at.command() {
        Some(Command::Hub(_, command)) => fanout::hub_notice(&notice, command),
        Some(Command::Follower(_, command)) => fanout::follower_notice(&notice, command),
        Some(Command::User(..) | Command::Link(_) | Command::Level(_)) | None => None,
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
    Ok(Some((first, user.map(|user| (user, deliver)))))
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
        let at = self::at(source, run.at)?;
        let Some(follower::Command::Queue(queue)) = at.follower() else {
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

/// What a member may read of a room now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomPart {
    /// Events, in the order asked for.
    pub events: BVec<RoomEvent, BATCH_EVENTS_MAX>,
    /// How far the reader is with them.
    pub given: LaneCursor,
    /// The Commit that removes the reader, when it is among them: nothing after it is the reader's.
    pub left: Option<RoomSeq>,
    /// Events that are not kept any more, first and last, when the reader was not given them: then there are no others.
    pub gap: Option<(RoomSeq, RoomSeq)>,
}

/// The events of a room, as one of its members reads them.
struct Reading<'a, S: Source> {
    source: &'a S,
    reader: &'a ClientUri,
    upto: Option<RoomSeq>,
    fill: Fill,
    part: RoomPart,
}

/// Events of a room for one of its members, beyond what it was given or has, up to `upto` or its removal; as many as fit a
/// frame. Numbers that hold nothing to read (the Welcome of a provider's first clients) are passed over.
///
/// Who reads the room is known to its shard, in log order: the cursors of the reader's own shard may be behind.
///
/// # Errors
/// [`ReadError`] when the log does not give an entry back.
pub fn room_events<S: Source>(
    source: &S,
    room: &RoomUri,
    reader: &ClientUri,
    given: LaneCursor,
    upto: Option<RoomSeq>,
    order: Order,
) -> Result<RoomPart, ReadError> {
    let (forgotten, stands) = source.derived(|derived| {
        let index = &derived.index;
        (index.forgotten(room), index.stands(room, reader, given))
    });
    // Who has its last event reads no more; who is in the room anew begins where its Welcome says.
    let Some((given, left)) = stands else {
        return Ok(RoomPart {
            given,
            ..RoomPart::default()
        });
    };
    // Where the stream was opened, the reader's own acknowledgements, or that it has left, may not have been known yet.
    let upto = upto.or(left);
    if let Some((part, gap)) = gap(given, forgotten, upto) {
        let gap = Some(gap);
        return Ok(RoomPart { gap, ..part });
    }
    let reading = Reading {
        source,
        reader,
        upto,
        fill: Fill::default(),
        part: RoomPart {
            given,
            ..RoomPart::default()
        },
    };
    match order {
        Order::InOrder => reading.in_order(room),
        Order::ControlFirst => reading.control_first(room, BATCH_EVENTS_MAX),
        Order::ControlThenNewest => {
            let mut part = reading.control_first(room, WINDOW_EVENTS_MAX)?;
            let is_message = |event: &RoomEvent| matches!(event.body, RoomBody::Application(_));
            if part.events.iter().all(is_message) {
                part.events = part.events.reversed();
            }
            Ok(part)
        }
    }
}

/// What a reader is not given any more because it was forgotten, and how far it is then.
fn gap(
    given: LaneCursor,
    forgotten: LaneCursor,
    upto: Option<RoomSeq>,
) -> Option<(RoomPart, (RoomSeq, RoomSeq))> {
    let lanes = [
        (given.application, forgotten.application),
        (given.control, forgotten.control),
    ];
    let lacking = lanes.iter().filter(|(given, gone)| given < gone);
    let from = lacking.map(|(given, _)| given.next()).min()?;
    let last = forgotten.application.max(forgotten.control);
    let last = upto.map_or(last, |upto| upto.min(last));
    let part = RoomPart {
        given: given.max(LaneCursor::all(last)),
        ..RoomPart::default()
    };
    (from <= last).then_some((part, (from, last)))
}

impl<S: Source> Reading<'_, S> {
    /// Everything as it happened.
    fn in_order(mut self, room: &RoomUri) -> Result<RoomPart, ReadError> {
        let given = self.part.given;
        let pieces = self
            .source
            .derived(|derived| derived.index.after(room, given, BATCH_EVENTS_MAX));
        for piece in pieces {
            if !self.read(&piece, u32::MAX)? {
                break;
            }
        }
        Ok(self.part)
    }

    /// Control events as far as the reader may run ahead of the application messages before them; when there are none,
    /// at most `messages_max` of those.
    fn control_first(mut self, room: &RoomUri, messages_max: usize) -> Result<RoomPart, ReadError> {
        let given = self.part.given;
        let (ahead, messages) = self.source.derived(|derived| {
            let index = &derived.index;
            let messages = || index.application_after(room, given.application);
            let control = index.control_after(room, given.control);
            let cut = messages().map(|run| run.cut(given.application.next()));
            (Ahead::of(control, messages()), holding(cut, messages_max))
        });
        let mut barrier = ahead.barrier;
        for piece in &ahead.runs {
            let removes = at(self.source, piece.at)?.removes(piece.item, self.reader);
            if removes && messages.first().is_some_and(|run| run.first < piece.first) {
                barrier = Some(piece.first);
                break;
            }
            if !self.read(&piece.cut(given.control.next()), u32::MAX)? {
                return Ok(self.part);
            }
        }
        if !self.part.events.is_empty() {
            return Ok(self.part);
        }
        let mut left = u32::try_from(messages_max).unwrap_or(u32::MAX);
        for piece in &messages {
            if barrier.is_some_and(|barrier| piece.first > barrier) {
                break;
            }
            if left == 0 || !self.read(piece, left)? {
                break;
            }
            left = left.saturating_sub(piece.count);
        }
        Ok(self.part)
    }

    /// Reads a run, at most so many of its events; `false` when nothing more may follow it.
    fn read(&mut self, run: &EventRun, events_max: u32) -> Result<bool, ReadError> {
        let at = self::at(self.source, run.at)?;
        for number in 0..run.count.min(events_max) {
            let seq = run.first.plus(u64::from(number));
            let is_over = self.upto.is_some_and(|upto| seq > upto);
            if is_over {
                return Ok(false);
            }
            let item = run.item + number;
            let (body, time) = at.body(item, run.time).ok_or_else(|| no_event(run.at))?;
            let origin = run
                .origin
                .as_ref()
                .filter(|(client, _)| client == self.reader);
            let own = origin.map(|(_, first)| first.plus(u64::from(number)));
            let admitted = self.fill.admit(body_bytes(&body));
            let event = RoomEvent {
                seq,
                time,
                own,
                body,
            };
            if !admitted || self.part.events.push(event).is_err() {
                return Ok(false);
            }
            let given = &mut self.part.given;
            match run.lane {
                Lane::Application(_) => given.application = seq.max(given.application),
                Lane::Commit(_) | Lane::Proposals => given.control = seq.max(given.control),
            }
            if at.removes(item, self.reader) {
                self.part.left = Some(seq);
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// How far control events may run ahead of the application messages that a reader was not given.
#[derive(Default)]
struct Ahead {
    /// The runs that may be given now.
    runs: Vec<EventRun>,
    /// The first that may not.
    barrier: Option<RoomSeq>,
}

impl Ahead {
    /// Control events overtake messages only as far as who keeps the epochs that everybody must can still read those.
    fn of<'a>(
        control: impl Iterator<Item = &'a EventRun>,
        messages: impl Iterator<Item = &'a EventRun>,
    ) -> Self {
        let mut ahead = Self::default();
        let mut oldest: Option<Epoch> = None;
        let mut messages = messages.enumerate().peekable();
        for run in control {
            let mut known = true;
            while let Some((passed, message)) =
                messages.next_if(|(_, message)| message.first < run.first)
            {
                if let Lane::Application(epoch) = message.lane {
                    oldest = Some(oldest.map_or(epoch, |oldest| oldest.min(epoch)));
                }
                // What lies beyond those is not looked at.
                known = passed + 1 < RUNS_OVERTAKEN_MAX;
                if !known {
                    break;
                }
            }
            let readable = match (run.lane, oldest) {
                (Lane::Commit(opens), Some(oldest)) => oldest.plus(PAST_EPOCHS) >= opens,
                (Lane::Commit(_), None) | (Lane::Proposals | Lane::Application(_), _) => true,
            };
            if !(known && readable) {
                ahead.barrier = Some(run.first);
                return ahead;
            }
            ahead.runs.push(run.clone());
            if ahead.runs.len() >= BATCH_EVENTS_MAX {
                return ahead;
            }
        }
        ahead
    }
}

/// What lies in an inbox, as its client gets it.
///
/// # Errors
/// [`ReadError`] when the log does not give it back.
pub fn inbox_item<S: Source>(source: &S, item: InboxItem) -> Result<DoorItem, ReadError> {
    let seq = item.seq;
    let at = match item.held {
        Held::Note(note) => return Ok(DoorItem::Note { seq, note }),
        Held::Notice(at) => at,
    };
    let found = self::at(source, at)?;
    match found.command() {
        Some(Command::User(_, command)) => match &**command {
            UserCommand::Deliver(deliver) => Ok(DoorItem::Inbox {
                seq,
                room: deliver.post.room.clone(),
                notice: deliver.post.notice.clone(),
            }),
            UserCommand::Add(_)
            | UserCommand::Delete
            | UserCommand::Consent(_)
            | UserCommand::Revoke(_)
            | UserCommand::Enrol(_)
            | UserCommand::Upload(_)
            | UserCommand::Claim(_)
            | UserCommand::LearnRefilled(_)
            | UserCommand::Ack(_)
            | UserCommand::Introduction(_) => Err(no_event(at)),
        },
        Some(Command::Hub(..) | Command::Follower(..) | Command::Link(_) | Command::Level(_))
        | None => Err(no_event(at)),
    }
}
impl<H: AsRef<Entry>> At<H> {
    /// What a member reads of an item, and when the hub accepted it.
    fn body(&self, item: u32, time: Millis) -> Option<(RoomBody, Millis)> {
        match self.command()? {
            Command::Hub(_, command) => Some((fanout::hub_body(command, item)?, time)),
            Command::Follower(_, command) => Some((fanout::follower_body(command, item)?, time)),
            Command::User(..) | Command::Link(_) | Command::Level(_) => None,
        }
    }

    /// Whether an item is the Commit that removes a client.
    fn removes(&self, item: u32, client: &ClientUri) -> bool {
        match self.command() {
            Some(Command::Hub(_, command)) => fanout::hub_removes(command, client),
            Some(Command::Follower(_, command)) => fanout::follower_removes(command, item, client),
            Some(Command::User(..) | Command::Link(_) | Command::Level(_)) | None => false,
        }
    }
}

fn event_bytes(event: &Event) -> usize {
    const HEADER: usize = 24;
    let body = match &event.body {
        Body::Application(message) => message.len(),
        Body::Proposals(messages) => messages.iter().map(|message| message.len()).sum(),
        Body::Commit(commit) => {
            let invited = commit.invitation.as_ref();
            commit.commit.len()
                + invited.map_or(0, |invited| invited.welcome.len() + invited.tree.len())
        }
        Body::Invited(invited) => invited.welcome.len() + invited.tree.len(),
        Body::Entered(_) | Body::Own(_) => 0,
    };
    HEADER + body
}

fn body_bytes(body: &RoomBody) -> usize {
    const HEADER: usize = 24;
    HEADER
        + match body {
            RoomBody::Application(message) => message.len(),
            RoomBody::Proposals(messages) => messages.iter().map(|message| message.len()).sum(),
            RoomBody::Commit { commit, .. } => commit.len(),
        }
}

/// A cursor points where the log holds no such event: a bug, made visible.
fn no_event(at: Position) -> ReadError {
    ReadError {
        index: at.entry,
        why: format!("the command at {at} made no such event"),
    }
}
