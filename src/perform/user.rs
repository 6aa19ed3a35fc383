//! What the orders of a user's actor mean.

use super::AnsweredFrom;
use crate::{
    cluster::shard::{NotQueued, Shard},
    directory,
};
use mimi_actors::{
    ids::UserUri,
    record::Command,
    shard_request::ShardReply,
    user::{
        desk::{Effect, Input},
        outcome::Refused,
    },
};
use std::sync::Arc;

/// Carries out one order of the user's actor.
pub(crate) fn perform(shard: &Arc<Shard>, user: &UserUri, effect: Effect, from: AnsweredFrom) {
    match effect {
        Effect::Append { ticket, command } => {
            let record = Command::User(user.clone(), command);
            if let Err(refused) = shard.queue(record, Some(ticket)) {
                let refused = not_queued(refused);
                shard.report_user(user, Input::NotAppended { ticket, refused });
            }
        }
        Effect::Draw { ticket } => {
            let random = Some(directory::random());
            shard.report_user(user, Input::Drawn { ticket, random });
        }
        Effect::Answer { ticket, answer } => {
            shard.answer_ticket(ticket, ShardReply::User(answer), from);
        }
    }
}

/// What a requester is told when the shard did not take its command.
pub(crate) fn not_queued(refused: NotQueued) -> Refused {
    match refused {
        NotQueued::StorageFull => Refused::StorageFull,
        NotQueued::TryLater(later) => Refused::TryLater(later),
    }
}
