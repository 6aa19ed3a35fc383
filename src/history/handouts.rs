//! I3: a KeyPackage is handed out once; a claim asked again gets what it got.

use crate::{
    facts::{At, Judge, Names},
    report::Invariant,
};
use std::collections::BTreeMap;

/// What a claim asks: its name, and a client of whom it got something.
type Asked<N> = (<N as Names>::Claim, <N as Names>::Client);

/// What was handed out, and to which claim.
#[derive(Clone, Debug)]
pub struct Handouts<N: Names> {
    /// The claim that got each KeyPackage, and where it was first told.
    pub handed: BTreeMap<N::Package, (N::Claim, At)>,
    /// What each claim got of each client first.
    got: BTreeMap<Asked<N>, (N::Package, At)>,
}

impl<N: Names> Default for Handouts<N> {
    fn default() -> Self {
        Self {
            handed: BTreeMap::new(),
            got: BTreeMap::new(),
        }
    }
}

impl<N: Names> Handouts<N> {
    pub(super) fn handed(
        &mut self,
        at: At,
        claim: &N::Claim,
        client: &N::Client,
        package: &N::Package,
        judge: &mut impl Judge,
    ) {
        let handed = self.handed.entry(package.clone());
        let (to, since) = handed.or_insert_with(|| (claim.clone(), at));
        judge.demand(
            Invariant::I3,
            to == claim,
            || vec![since.line, at.line],
            || format!("KeyPackage {package} went to claims {to} and {claim}"),
        );
        let got = self.got.entry((claim.clone(), client.clone()));
        let (first, since) = got.or_insert_with(|| (package.clone(), at));
        let forgotten = at.ns.saturating_sub(since.ns) > N::CLAIM_KEPT_NS;
        judge.demand(
            Invariant::I3,
            first == package || forgotten,
            || vec![since.line, at.line],
            || format!("claim {claim} got KeyPackage {first} of {client}, then {package}"),
        );
    }
}
