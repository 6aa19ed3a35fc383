//! A history: what was asked, answered, delivered and broken in one run, written down by whoever watched, never by the
//! node; and the checkers that say whether that may be.
//!
//! # The format
//!
//! A file of JSON lines, one [`Line`] each, ended by a newline and at most [`LINE_BYTES_MAX`] long, in the order in which
//! things were seen:
//!
//! ```text
//! {"i":0,"t_mono_ns":1042,"event":{"invoke":{"proc":"mimi://a.example/d/alice/1","node":"a.example/1","op":{"create":{"room":"mimi://a.example/r/den"}}}}}
//! {"i":1,"t_mono_ns":9311,"event":{"ok":{"proc":"mimi://a.example/d/alice/1","ret":"created"}}}
//! ```
//!
//! `i` counts from 0 without a gap and `t_mono_ns` never goes back: a file that lost lines is not taken for a shorter run.
//! Unknown fields are errors. Bytes are never in it, only their BLAKE3 hash ([`Digest`], 64 hexadecimal digits). The
//! events ([`Event`]):
//!
//! - `invoke`: a process begins an operation; it has one at a time. A device is the process of its client URI. `node` is the
//!   node it asks, where that matters (I27). Exactly one of these ends it: `ok`, it happened; `fail`, it certainly did not
//!   (a typed refusal); `info`, nobody knows (a timeout, a reset, a node killed): it may happen at any time afterwards.
//!   The same operation again (same commit, messages or claim id) is a retry.
//! - `deliver`: a device has taken an event of a room; `epoch` when it is a Commit. `again` when it was sent once more and
//!   the device dropped it.
//! - `verdict`: a sender was told the verdict on a message: its number in the room, or `null` when it was refused.
//! - `nemesis`: a fault begins or stops, at nodes named as `invoke` names them. A kill or a stop is over when
//!   the node is back.
//! - `apply`: a replica's state hash at a place of its log, with the term and whether it led, as far as that is known.
//! - `acked`: a hub has the acknowledgement of all that it owed to a provider until then.
//! - `node`: how a node came up: ready, repairing or refusing to start, and whether it raised an alarm.
//!
//! # Who asks the checkers
//!
//! Lines become facts ([`Fact`]), and so does what the simulated worlds see, under names of their own ([`Names`]). A
//! [`Ledger`] compares each fact at once with those before it: what several tell of one thing (I1, I2, I3, I11 to I14, I20,
//! I25, I26). A [`Chain`] does the same with what one log of a room says, in its order (I1, I4, I5, I14, I26), which no
//! line tells. What shows only at the end is judged from lines alone, by [`verify`].
//!
//! # What is checked, and what a history cannot show
//!
//! [`Invariant`] lists it. Every verdict has three values; *unknown* means that too little happened for the invariant to
//! be put to the test, and says what was missing. Unknown does not pass.
//!
//! Entitled to an event is who was a member at its number: creators and `added` join with their Commit's number, `removed`
//! leave with theirs. So a history begins before its rooms do, and every device goes on reading to its end. Something is
//! lost when a device has read past it, or when it did not come within [`Terms::within_ns`] of the last fault's end.
//!
//! A history of clients cannot show what a node serves to other nodes, reads that a minority answered (I27 looks at writes),
//! what a deposed leader acknowledged but nobody applied (I28 looks at what replicas applied), or which damaged bytes a
//! node looked at before it refused (I32 looks at how it came up). Liveness (I15) is claimed for the time after the last
//! fault only.
//!
//! Order within a sender's messages (I6) is that in which it first asked; the epochs and generations inside ciphertexts are
//! not in a history. That an acknowledgement means *stored* (I16) shows when a provider crashes, cut off from the hub, and
//! its devices read on.
//!
//! The file is read once, line by line; memory grows with the events delivered, not with their bytes.

mod book;
mod calls;
mod chain;
mod claims;
mod deliveries;
mod facts;
mod handouts;
mod ledger;
mod line;
mod names;
mod reader;
mod recorder;
mod replicas;
mod report;
mod rooms;
mod roster;
mod senders;

#[cfg(test)]
mod tests;

pub use chain::{Accepted, Chain};
pub use facts::{At, Fact, Judge, Names};
pub use handouts::Handouts;
pub use ledger::{Ledger, Reader, RoomFacts};
pub use line::{
    Acked, Applied, Delivered, Event, Fault, Invoke, Line, Nemesis, NodeState, Op, Package, Phase,
    Ret, Start, Told,
};
pub use names::{ClientUri, Digest, DigestError, Epoch, NameError, RoomSeq, RoomUri};
pub use reader::{HistoryError, LINE_BYTES_MAX, Lines};
pub use recorder::Recorder;
pub use report::{Finding, Invariant, Report, Row, Verdict};
pub use roster::{Membership, Roster};

use book::Book;
use calls::{Calls, Faults};
use claims::Claims;
use replicas::Replicas;
use rooms::Rooms;
use std::{io::BufRead, time::Duration};

/// How long delivery may take after the last fault, unless told otherwise.
const WITHIN: Duration = Duration::from_secs(60);

/// What the checkers take for granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long after its acceptance and the end of the last fault an event may take to be delivered, in nanoseconds.
    pub within_ns: u64,
}

impl Default for Terms {
    fn default() -> Self {
        Self::within(WITHIN)
    }
}

impl Terms {
    /// Delivery within `time` of acceptance and of the last fault.
    #[must_use]
    pub fn within(time: Duration) -> Self {
        let within_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self { within_ns }
    }
}

/// Reads a history and judges it.
///
/// # Errors
/// [`HistoryError`] when it is not a history: that is the recorder's fault, and nothing is proven by it.
pub fn verify(source: impl BufRead, terms: Terms) -> Result<Report, HistoryError> {
    let mut checkers = Checkers::default();
    let mut lines = Lines::new(source);
    let mut end_ns = 0;
    while let Some((number, line)) = lines.next_line()? {
        end_ns = line.t_mono_ns;
        checkers.take(number, line)?;
    }
    let count = lines.read();
    Ok(checkers.judge(count, end_ns, terms))
}

/// All checkers, fed line by line.
#[derive(Debug, Default)]
struct Checkers {
    calls: Calls,
    faults: Faults,
    book: Book,
    rooms: Rooms,
    claims: Claims,
    replicas: Replicas,
}

impl Checkers {
    fn take(&mut self, number: u64, line: Line) -> Result<(), HistoryError> {
        let at = At {
            line: number,
            ns: line.t_mono_ns,
        };
        match line.event {
            Event::Invoke(invoke) => {
                self.rooms.invoked(at, &invoke, &mut self.book);
                self.calls.invoke(at, invoke)
            }
            Event::Ok { proc, ret } => {
                let call = self.calls.end(at, &proc)?;
                call.answers(at, &ret)?;
                replicas::wrote(at, &call, &self.faults, &mut self.book);
                self.claims.answered(at, &call, &ret, &mut self.book);
                self.rooms.ended(&call, &self.faults);
                self.rooms.acknowledged(at, &call, &ret, &mut self.book);
                Ok(())
            }
            Event::Fail { proc, .. } => {
                let call = self.calls.end(at, &proc)?;
                replicas::not_acknowledged(at, &call, &self.faults, &mut self.book);
                self.rooms.ended(&call, &self.faults);
                self.rooms.failed(at, &call, &mut self.book);
                Ok(())
            }
            Event::Info { proc, .. } => {
                let call = self.calls.end(at, &proc)?;
                replicas::not_acknowledged(at, &call, &self.faults, &mut self.book);
                self.rooms.ended(&call, &self.faults);
                Ok(())
            }
            Event::Deliver(delivered) => {
                self.rooms.delivered(at, delivered, &mut self.book);
                Ok(())
            }
            Event::Verdict(told) => {
                self.rooms.told(at, &told, &mut self.book);
                Ok(())
            }
            Event::Nemesis(nemesis) => {
                self.replicas.nemesis(at, &nemesis);
                self.faults.take(at, nemesis)
            }
            Event::Apply(applied) => {
                self.replicas.applied(at, &applied, &mut self.book);
                Ok(())
            }
            Event::Acked(acked) => {
                self.rooms.acked.push((at, acked));
                Ok(())
            }
            Event::Node(start) => {
                self.replicas.started(at, &start, &mut self.book);
                Ok(())
            }
        }
    }

    fn judge(self, lines: u64, end_ns: u64, terms: Terms) -> Report {
        let mut book = self.book;
        let end = End {
            ns: end_ns,
            within_ns: terms.within_ns,
            over: self.faults.over(),
        };
        self.rooms.judge(&self.faults, &self.calls, end, &mut book);
        self.claims.judge(&mut book);
        self.replicas.judge(&mut book);
        let rows = book.tallies.rows();
        Report { lines, rows }
    }
}

/// The end of a history.
#[derive(Clone, Copy, Debug)]
struct End {
    ns: u64,
    within_ns: u64,
    /// When the last fault was over; `None` when one lasts.
    over: Option<At>,
}

impl End {
    /// Until when something accepted at `at` must have come.
    fn due_ns(&self, at: At) -> u64 {
        self.over.map_or(u64::MAX, |over| {
            at.ns.max(over.ns).saturating_add(self.within_ns)
        })
    }

    /// Whether it must have come by now.
    fn is_past_due(&self, at: At) -> bool {
        self.ns > self.due_ns(at)
    }
}
