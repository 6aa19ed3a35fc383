//! What the orders of a hub's room mean.

use super::AnsweredFrom;
use crate::cluster::shard::{NotQueued, Shard};
use mimi_actors::{
    ids::RoomUri,
    machine::Ticket,
    record::Command,
    room::{
        checks,
        desk::{Check, Checked, Effect, Input},
        outcome::Refused,
    },
    shard_request::ShardReply,
};
use std::{sync::Arc, time::Duration};

/// Carries out one order of the room's actor.
pub(crate) fn perform(shard: &Arc<Shard>, room: &RoomUri, effect: Effect, from: AnsweredFrom) {
    match effect {
        Effect::Append { ticket, command } => {
            let items_max = shard.environment().backlog_items_max;
            let command = shard.looked_at().mark_lagging_providers(command, items_max);
            let record = Command::Hub(room.clone(), command);
            if let Err(refused) = shard.queue(record, Some(ticket)) {
                let refused = not_queued(refused);
                shard.report_hub(room, Input::NotAppended { ticket, refused });
            }
        }
        Effect::Answer { ticket, answer } => {
            shard.answer_ticket(ticket, ShardReply::Room(answer), from);
        }
        Effect::Check { ticket, check } => start_check(shard, room, ticket, *check),
        Effect::Wake { after_ms } => wake(shard, room, after_ms),
        Effect::CodeRefused {
            ticket,
            joiner,
            flaw,
            command,
        } => {
            tracing::info!(%room, %joiner, %flaw, "a joining code is refused");
            if let Some(command) = command
                && let Err(refused) = shard.queue(Command::Hub(room.clone(), command), Some(ticket))
            {
                tracing::warn!(%room, %refused, "a wrong joining code is not counted");
                let refused = not_queued(refused);
                shard.report_hub(room, Input::NotAppended { ticket, refused });
            }
        }
    }
}

/// Brings the room's actor back to itself after a while.
fn wake(shard: &Arc<Shard>, room: &RoomUri, after_ms: u32) {
    let (shard, room) = (Arc::downgrade(shard), room.clone());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(after_ms.into())).await;
        if let Some(shard) = shard.upgrade() {
            shard.report_hub(&room, Input::Wake);
        }
    });
}

/// What a requester is told when the shard did not take its command.
pub(crate) fn not_queued(refused: NotQueued) -> Refused {
    match refused {
        NotQueued::StorageFull => Refused::StorageFull,
        NotQueued::TryLater(later) => Refused::TryLater(later),
    }
}

fn start_check(shard: &Arc<Shard>, room: &RoomUri, ticket: Ticket, check: Check) {
    let environment = shard.environment();
    let mls = Arc::clone(&environment.mls);
    let (back, to) = (Arc::clone(shard), room.clone());
    let report = move |checked: Option<Checked>| {
        // A check that panics was fed something no check was written for.
        let checked = Box::new(checked.unwrap_or(Checked::Overloaded));
        back.report_hub(&to, Input::Checked { ticket, checked });
    };
    if environment
        .workers
        .run(move || checks::run(check, &*mls), report)
        .is_err()
    {
        let checked = Box::new(Checked::Overloaded);
        shard.report_hub(room, Input::Checked { ticket, checked });
    }
}
