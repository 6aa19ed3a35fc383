//! An actor whose desk can be taken twice from the same point on.
//!
//! Desks are not clones of each other. What one is follows from what it was told, and beside which fold, since it was
//! last as good as new; that is kept, and told again.

use crate::{
    machine::{CommandOf, Desk, EffectOf, Fold, Millis, Moment, OutcomeOf, Ticket},
    wire::event::Hash,
};
use std::{fmt::Debug, rc::Rc};

enum Told<D: Desk> {
    Input(Box<dyn Fn() -> D::Input>),
    Applied(Ticket, OutcomeOf<D>),
}

/// What a desk was told, and the fold then.
type Before<D> = (Told<D>, Rc<<D as Desk>::Fold>);

/// A fold and the desk beside it.
pub(super) struct Seat<D: Desk> {
    fold: Rc<D::Fold>,
    /// What the desk was told since it was last as good as new, and the fold then.
    told: Vec<Rc<Before<D>>>,
    fold_hash: Hash,
    desk_hash: Hash,
}

impl<D: Desk> Clone for Seat<D> {
    fn clone(&self) -> Self {
        Self {
            fold: Rc::clone(&self.fold),
            told: self.told.clone(),
            ..*self
        }
    }
}

impl<D: Desk + Debug> Default for Seat<D>
where
    D::Fold: Default,
{
    fn default() -> Self {
        let fold = D::Fold::default();
        Self {
            fold_hash: Hash::of(&fold.compact()),
            desk_hash: look(&D::default()),
            fold: Rc::new(fold),
            told: Vec::new(),
        }
    }
}

fn look(desk: &impl Debug) -> Hash {
    Hash::of(format!("{desk:?}").as_bytes())
}

fn tell<D: Desk>(
    desk: &mut D,
    told: &Told<D>,
    now: Millis,
    fold: &D::Fold,
    out: &mut Vec<EffectOf<D>>,
) {
    match told {
        Told::Input(input) => desk.handle(input(), now, fold, out),
        Told::Applied(ticket, outcome) => desk.applied(*ticket, outcome, now, fold, out),
    }
}

impl<D: Desk + Debug> Seat<D>
where
    D::Fold: Clone,
    OutcomeOf<D>: Clone,
{
    pub(super) fn fold(&self) -> &D::Fold {
        &self.fold
    }

    /// Names what fold and desk are.
    pub(super) fn hashes(&self) -> [Hash; 2] {
        [self.fold_hash, self.desk_hash]
    }

    /// Whether nobody waits at the desk.
    pub(super) fn is_idle(&self) -> bool {
        self.told.is_empty()
    }

    /// Gives an input to the desk. The input is made anew whenever the desk is.
    pub(super) fn handle(
        &mut self,
        now: Millis,
        input: impl Fn() -> D::Input + 'static,
    ) -> Vec<EffectOf<D>> {
        self.tell(now, Told::Input(Box::new(input)))
    }

    /// Applies a command, and tells the desk whose ticket it was; the fold has changed when this returns.
    pub(super) fn apply(
        &mut self,
        moment: Moment,
        command: &CommandOf<D>,
        ticket: Option<Ticket>,
    ) -> (OutcomeOf<D>, Vec<EffectOf<D>>) {
        let outcome = Rc::make_mut(&mut self.fold).apply(moment, command);
        self.fold_hash = Hash::of(&self.fold.compact());
        let out = ticket.map_or_else(Vec::new, |ticket| {
            self.tell(moment.time, Told::Applied(ticket, outcome.clone()))
        });
        (outcome, out)
    }

    fn tell(&mut self, now: Millis, told: Told<D>) -> Vec<EffectOf<D>> {
        let (mut desk, mut out) = (D::default(), Vec::new());
        let new = look(&desk);
        for before in &self.told {
            tell(&mut desk, &before.0, now, &before.1, &mut Vec::new());
        }
        tell(&mut desk, &told, now, &self.fold, &mut out);
        self.told.push(Rc::new((told, Rc::clone(&self.fold))));
        self.desk_hash = look(&desk);
        if self.desk_hash == new {
            self.told.clear();
        }
        out
    }
}
