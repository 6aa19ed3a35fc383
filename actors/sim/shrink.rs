//! A failing plan made smaller: moves and faults are left out as long as the same promise is still broken.

use super::{
    Report, Story,
    plan::{Plan, PlannedFault, PlannedMove},
    play,
};
use crate::machine::Millis;

/// Plays that a plan is worth, at most.
const PLAYS_MAX: usize = 600;

/// The smallest plan that was found to break the same promise as `report`, and how many plays that took.
#[must_use]
pub fn shrink(report: &Report, present: Millis) -> (Plan, usize) {
    let Some(violation) = &report.violation else {
        return (report.plan.clone(), 0);
    };
    let mut plays = 0;
    let mut fails = |plan: &Plan| {
        plays += 1;
        let again = play(plan.clone(), present, Story::default()).violation;
        again.is_some_and(|again| again.invariant == violation.invariant)
    };
    let mut plan = report.plan.clone();
    let mut left = PLAYS_MAX;
    loop {
        let before = plan.moves.len() + plan.faults.len();
        plan = fewer(plan, &mut left, &mut fails, moves);
        plan = fewer(plan, &mut left, &mut fails, faults);
        if plan.moves.len() + plan.faults.len() == before || left == 0 {
            return (plan, plays);
        }
    }
}

fn moves(plan: &mut Plan, keep: Option<Vec<PlannedMove>>) -> Vec<PlannedMove> {
    match keep {
        Some(keep) => std::mem::replace(&mut plan.moves, keep),
        None => plan.moves.clone(),
    }
}

fn faults(plan: &mut Plan, keep: Option<Vec<PlannedFault>>) -> Vec<PlannedFault> {
    match keep {
        Some(keep) => std::mem::replace(&mut plan.faults, keep),
        None => plan.faults.clone(),
    }
}

/// Leaves out halves, quarters, and so on, of one list.
fn fewer<T: Clone>(
    mut plan: Plan,
    left: &mut usize,
    fails: &mut impl FnMut(&Plan) -> bool,
    list: impl Fn(&mut Plan, Option<Vec<T>>) -> Vec<T>,
) -> Plan {
    let mut size = list(&mut plan, None).len().div_ceil(2);
    while size > 0 {
        let mut from = 0;
        loop {
            let all = list(&mut plan, None);
            if from >= all.len() || *left == 0 {
                break;
            }
            let mut kept = all.clone();
            kept.drain(from..(from + size).min(all.len()));
            let mut smaller = plan.clone();
            list(&mut smaller, Some(kept));
            *left -= 1;
            if fails(&smaller) {
                plan = smaller;
            } else {
                from += size;
            }
        }
        if size == 1 {
            break;
        }
        size = size.div_ceil(2);
    }
    plan
}
