//! What the orders mean that only a room at its hub gives.

use super::{Performed, append, wake, workers::Cause};
use crate::cluster::shard::Shard;
use mimi_actors::{
    ids::RoomUri,
    machine::Ticket,
    room::{
        checks,
        desk::{Check, Checked, Desk, Input, Own},
        hub,
    },
};
use std::sync::Arc;

impl Performed for Desk {
    fn to_log(shard: &Shard, command: Arc<hub::Command>) -> Arc<hub::Command> {
        let items_max = shard.environment().backlog_items_max;
        shard.looked_at().mark_lagging_providers(command, items_max)
    }

    fn perform(shard: &Arc<Shard>, room: &RoomUri, own: Own) {
        match own {
            Own::Check { ticket, check } => start_check(shard, room, ticket, *check),
            Own::Wake { after_ms } => wake::<Self>(shard, room, after_ms, Input::Wake),
            Own::CodeRefused {
                ticket,
                joiner,
                flaw,
                command,
            } => {
                tracing::info!(%room, %joiner, %flaw, "a joining code is refused");
                if let Some(command) = command
                    && let Err(refused) = append::<Self>(shard, room, ticket, command)
                {
                    tracing::warn!(%room, %refused, "a wrong joining code is not counted");
                }
            }
        }
    }
}

fn start_check(shard: &Arc<Shard>, room: &RoomUri, ticket: Ticket, check: Check) {
    let environment = shard.environment();
    let mls = Arc::clone(&environment.mls);
    let cause = Cause::of(&environment.provider, check.asked_by());
    let (back, to) = (Arc::clone(shard), room.clone());
    let report = move |checked: Option<Checked>| {
        // A check that panics was fed something no check was written for.
        let checked = Box::new(checked.unwrap_or(Checked::Overloaded));
        back.report::<Desk>(&to, Input::Checked { ticket, checked });
    };
    if environment
        .workers
        .run(cause, move || checks::run(check, &*mls), report)
        .is_err()
    {
        let checked = Box::new(Checked::Overloaded);
        shard.report::<Desk>(room, Input::Checked { ticket, checked });
    }
}
