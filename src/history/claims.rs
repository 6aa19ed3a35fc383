//! What a history tells of claims, for I3.

use super::{
    book::Book,
    calls::Call,
    facts::{At, Fact},
    line::{Op, Ret},
    report::Invariant,
};
use std::collections::BTreeSet;

/// Which claims were answered.
#[derive(Debug, Default)]
pub(super) struct Claims {
    answered: BTreeSet<String>,
    asked_again: bool,
}

impl Claims {
    pub(super) fn answered(&mut self, at: At, call: &Call, ret: &Ret, book: &mut Book) {
        let (Op::Claim { id }, Ret::Claimed { packages }) = (&call.invoke.op, ret) else {
            return;
        };
        self.asked_again |= !self.answered.insert(id.clone());
        for given in packages {
            let fact = Fact::Handed {
                claim: id,
                client: &given.client,
                package: &given.package,
            };
            book.see(at, fact);
        }
    }

    pub(super) fn judge(self, book: &mut Book) {
        let tally = book.tallies.of(Invariant::I3);
        let some = !book.ledger.handouts.handed.is_empty();
        tally.needs(some, "no KeyPackage was handed out");
        tally.needs(self.asked_again, "no claim was asked and answered twice");
    }
}
