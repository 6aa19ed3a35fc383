//! Which operations are under way, and which faults there were: what several checkers ask.

use super::{
    HistoryError,
    facts::At,
    line::{Fault, Invoke, Nemesis, Op, Phase, Ret},
};
use std::collections::BTreeMap;

/// An operation that was begun.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) begun: At,
    pub(super) invoke: Invoke,
}

impl Call {
    /// Whether an answer is one to this operation.
    pub(super) fn answers(&self, at: At, ret: &Ret) -> Result<(), HistoryError> {
        let fits = matches!(
            (&self.invoke.op, ret),
            (Op::Create { .. }, Ret::Created)
                | (Op::Commit { .. }, Ret::Committed { .. })
                | (Op::Propose { .. }, Ret::Proposed)
                | (Op::Send { .. }, Ret::Sent)
                | (Op::Claim { .. }, Ret::Claimed { .. })
        );
        if fits {
            return Ok(());
        }
        let begun = self.begun.line;
        Err(misplaced(
            at,
            format!("it answers something else than line {begun} asked"),
        ))
    }
}

fn misplaced(at: At, why: String) -> HistoryError {
    HistoryError::Misplaced { line: at.line, why }
}

/// The operations under way: one for each process.
#[derive(Debug, Default)]
pub(super) struct Calls {
    open: BTreeMap<String, Call>,
}

impl Calls {
    pub(super) fn invoke(&mut self, at: At, invoke: Invoke) -> Result<(), HistoryError> {
        if let Some(open) = self.open.get(&invoke.proc) {
            let begun = open.begun.line;
            return Err(misplaced(
                at,
                format!("the operation of line {begun} has no end"),
            ));
        }
        let call = Call { begun: at, invoke };
        self.open.insert(call.invoke.proc.clone(), call);
        Ok(())
    }

    pub(super) fn end(&mut self, at: At, proc: &str) -> Result<Call, HistoryError> {
        let open = self.open.remove(proc);
        open.ok_or_else(|| misplaced(at, format!("{proc} has begun nothing")))
    }

    /// Operations that have no end.
    pub(super) fn open(&self) -> impl Iterator<Item = &Call> {
        self.open.values()
    }
}

/// A fault that was.
#[derive(Clone, Debug)]
pub(super) struct Past {
    pub(super) what: Fault,
    pub(super) target: Vec<String>,
    pub(super) start: At,
    pub(super) stop: Option<At>,
}

/// The faults so far, in order.
#[derive(Debug, Default)]
pub(super) struct Faults {
    past: Vec<Past>,
}

impl Faults {
    pub(super) fn take(&mut self, at: At, nemesis: Nemesis) -> Result<(), HistoryError> {
        match nemesis.phase {
            Phase::Start => {
                self.past.push(Past {
                    what: nemesis.what,
                    target: nemesis.target,
                    start: at,
                    stop: None,
                });
                Ok(())
            }
            Phase::Stop => {
                let same = |past: &&mut Past| {
                    past.stop.is_none()
                        && past.what == nemesis.what
                        && past.target == nemesis.target
                };
                let past = self.past.iter_mut().rev().find(same);
                let past = past
                    .ok_or_else(|| misplaced(at, "it stops a fault that did not begin".into()))?;
                past.stop = Some(at);
                Ok(())
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Past> {
        self.past.iter()
    }

    /// Whether a fault began between an operation's beginning and `at`.
    pub(super) fn began_during(&self, call: &Call) -> bool {
        // Faults are noted in order, so what began after the call is at the end.
        let last = self.past.last();
        last.is_some_and(|past| past.start.line > call.begun.line)
    }

    /// When the last fault was over: the beginning without faults, `None` while one lasts.
    pub(super) fn over(&self) -> Option<At> {
        let mut stops = self.past.iter().map(|past| past.stop);
        stops.try_fold(At::default(), |latest, stop| Some(latest.max(stop?)))
    }

    /// Whether a process was ended after `at` and came back.
    pub(super) fn crashed_after(&self, at: At) -> bool {
        let crashes = self.past.iter().filter(|past| past.what.is_crash());
        crashes
            .filter(|past| past.start.line > at.line)
            .any(|past| past.stop.is_some())
    }
}
