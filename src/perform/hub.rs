//! What the orders of a hub's room mean.

use super::FULL_RETRY_AFTER_MS;
use crate::cluster::shard::{NotQueued, Shard};
use mimi_actors::{
    ids::RoomUri,
    machine::Ticket,
    mls::{
        bundle::{BundleRefused, check_bundle},
        create::check_create,
        proposal::{ProposalRefused, check_proposal},
    },
    record::Command,
    room::{
        desk::{Check, Checked, Effect, Input},
        outcome::Refused,
    },
};
use std::sync::Arc;

/// Carries out one order of the room's actor.
pub(crate) fn perform(shard: &Arc<Shard>, room: &RoomUri, effect: Effect) {
    match effect {
        Effect::Append { ticket, command } => {
            let record = Command::Hub(room.clone(), command);
            if let Err(refused) = shard.queue(record, Some(ticket)) {
                let refused = not_queued(refused);
                shard.report_hub(room, Input::NotAppended { ticket, refused });
            }
        }
        Effect::Answer { ticket, answer } => shard.world().rooms.give(ticket, answer),
        Effect::Check { ticket, check } => start_check(shard, room, ticket, *check),
    }
}

/// What a requester is told when the shard did not take its command.
pub(crate) fn not_queued(refused: NotQueued) -> Refused {
    match refused {
        NotQueued::Full => Refused::Overloaded {
            retry_after_ms: FULL_RETRY_AFTER_MS,
        },
        NotQueued::StorageFull => Refused::StorageFull,
        NotQueued::Unavailable { retry_after_ms } => Refused::Unavailable { retry_after_ms },
    }
}

fn start_check(shard: &Arc<Shard>, room: &RoomUri, ticket: Ticket, check: Check) {
    let world = shard.world();
    let (key, audited) = (world.hub_signature_key, world.audited_members_max);
    let (back, to) = (Arc::clone(shard), room.clone());
    let report = move |checked: Option<Checked>| {
        // A check that panics was fed something no check was written for.
        let checked = Box::new(checked.unwrap_or(Checked::Overloaded));
        back.report_hub(&to, Input::Checked { ticket, checked });
    };
    if world
        .workers
        .run(move || run(check, &key, audited), report)
        .is_err()
    {
        let checked = Box::new(Checked::Overloaded);
        shard.report_hub(room, Input::Checked { ticket, checked });
    }
}

/// Does the cryptography of one check. Runs on a worker.
fn run(check: Check, hub_key: &[u8; 32], audited_members_max: usize) -> Checked {
    match check {
        Check::Create {
            creator,
            group_info,
            tree,
        } => {
            let result = check_create(&group_info, &tree, hub_key, &creator);
            Checked::Create { creator, result }
        }
        Check::Bundle {
            view,
            pending,
            on,
            bundle,
            sender,
        } => {
            let result: Result<_, BundleRefused> =
                check_bundle(&view, &pending, &bundle, &sender, audited_members_max);
            Checked::Bundle { on, result }
        }
        Check::Proposals {
            on,
            view,
            messages,
            sender,
        } => {
            let result: Result<Vec<_>, ProposalRefused> = messages
                .iter()
                .map(|message| check_proposal(&view, message, &sender))
                .collect();
            Checked::Proposals { sender, on, result }
        }
    }
}
