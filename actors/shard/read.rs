//! From cursors back to bytes: what a shard gives to clients, read out of its log; and how anything is read out of it.
//!
//! Source: transport requirements, section 5.

use super::{
    Derived,
    fill::Fill,
    index::{EventRun, holding},
};
use crate::{
    ids::{ClientUri, RoomUri},
    limits::{BATCH_EVENTS_MAX, RUNS_OVERTAKEN_MAX, WINDOW_EVENTS_MAX},
    machine::{Millis, Position},
    record::{Command, Entry},
    room::{fanout, follower, hub},
    user::{
        command::Command as UserCommand,
        inbox::{Held, InboxItem},
    },
    wire::{
        BVec,
        door::{DoorItem, Order, PAST_EPOCHS, RoomBody, RoomEvent},
        event::{Epoch, InboxSeq, Lane, LaneCursor, RoomSeq},
        post::Note,
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

/// A command in the log, kept alive by its entry.
pub(super) struct At<H> {
    entry: Arc<H>,
    command: usize,
}

impl<H: AsRef<Entry>> At<H> {
    pub(super) fn command(&self) -> Option<&Command> {
        (*self.entry).as_ref().commands.get(self.command)
    }

    pub(super) fn hub(&self) -> Option<&hub::Command> {
        match self.command()? {
            Command::Hub(_, command) => Some(command),
            Command::Follower(..)
            | Command::User(..)
            | Command::Link(_)
            | Command::Level(_)
            | Command::Name(_) => None,
        }
    }

    pub(super) fn follower(&self) -> Option<&follower::Command> {
        match self.command()? {
            Command::Follower(_, command) => Some(command),
            Command::Hub(..)
            | Command::User(..)
            | Command::Link(_)
            | Command::Level(_)
            | Command::Name(_) => None,
        }
    }
}

pub(super) fn at<S: Source>(source: &S, at: Position) -> Result<At<S::Held>, ReadError> {
    Ok(At {
        entry: source.entry(at.entry)?,
        command: at.command as usize,
    })
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
            let runs = derived.index.runs(room);
            let messages = || runs.application_after(given.application);
            let control = runs.control_after(given.control);
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
        Held::Notice(at) | Held::From(_, at) => at,
        Held::Said(note, at) => return said(source, seq, note, at),
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
            | UserCommand::Introduction(_)
            | UserCommand::Join(_)
            | UserCommand::Consents(_)
            | UserCommand::Heard(_) => Err(no_event(at)),
        },
        Some(
            Command::Hub(..)
            | Command::Follower(..)
            | Command::Link(_)
            | Command::Level(_)
            | Command::Name(_),
        )
        | None => Err(no_event(at)),
    }
}

/// A note about consent, with the KeyPackages that came with it.
fn said<S: Source>(
    source: &S,
    seq: InboxSeq,
    mut note: Note,
    at: Position,
) -> Result<DoorItem, ReadError> {
    let found = self::at(source, at)?;
    if let Some(Command::User(_, command)) = found.command()
        && let UserCommand::Heard(heard) = &**command
        && let Note::ConsentSaid { packages, .. } = &mut note
    {
        packages.clone_from(&heard.entry.key_packages);
        return Ok(DoorItem::Note { seq, note });
    }
    Err(no_event(at))
}

impl<H: AsRef<Entry>> At<H> {
    /// What a member reads of an item, and when the hub accepted it.
    fn body(&self, item: u32, time: Millis) -> Option<(RoomBody, Millis)> {
        match self.command()? {
            Command::Hub(_, command) => Some((fanout::hub_body(command, item)?, time)),
            Command::Follower(_, command) => Some((fanout::follower_body(command, item)?, time)),
            Command::User(..) | Command::Link(_) | Command::Level(_) | Command::Name(_) => None,
        }
    }

    /// Whether an item is the Commit that removes a client.
    fn removes(&self, item: u32, client: &ClientUri) -> bool {
        match self.command() {
            Some(Command::Hub(_, command)) => fanout::hub_removes(command, client),
            Some(Command::Follower(_, command)) => fanout::follower_removes(command, item, client),
            Some(Command::User(..) | Command::Link(_) | Command::Level(_) | Command::Name(_))
            | None => false,
        }
    }
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
pub(super) fn no_event(at: Position) -> ReadError {
    ReadError {
        index: at.entry,
        why: format!("the command at {at} made no such event"),
    }
}
