//! I3: a KeyPackage is handed out once.

use super::{
    At,
    calls::Call,
    line::{Op, Ret},
    names::{ClientUri, Digest},
    report::{Invariant, Row, Tally},
};
use std::collections::{BTreeMap, BTreeSet};

/// What was handed out, and to which claim.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Each KeyPackage: its claim, and the line that first told.
    handed: BTreeMap<Digest, (String, u64)>,
    /// What each claim got of each client, and the line that first told.
    got: BTreeMap<(String, ClientUri), (Digest, u64)>,
    answered: BTreeSet<String>,
    asked_again: bool,
    tally: Tally,
}

impl Claims {
    pub(super) fn answered(&mut self, at: At, call: &Call, ret: &Ret) {
        let (Op::Claim { id }, Ret::Claimed { packages }) = (&call.invoke.op, ret) else {
            return;
        };
        self.asked_again |= !self.answered.insert(id.clone());
        for given in packages {
            let package = given.package;
            let (claim, line) = self
                .handed
                .entry(package)
                .or_insert_with(|| (id.clone(), at.line));
            self.tally.demand(
                claim == id,
                || vec![*line, at.line],
                || format!("KeyPackage {package} went to claims {claim} and {id}"),
            );
            let key = (id.clone(), given.client.clone());
            let (first, line) = *self.got.entry(key).or_insert((package, at.line));
            self.tally.demand(
                first == package,
                || vec![line, at.line],
                || {
                    let client = &given.client;
                    format!("claim {id} got KeyPackage {first} of {client}, then {package}")
                },
            );
        }
    }

    pub(super) fn judge(mut self) -> Row {
        let some = !self.handed.is_empty();
        self.tally.needs(some, "no KeyPackage was handed out");
        self.tally
            .needs(self.asked_again, "no claim was asked and answered twice");
        self.tally.row(Invariant::I3)
    }
}
