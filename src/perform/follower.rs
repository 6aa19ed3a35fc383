//! What the orders of a followed room mean.

use super::{AnsweredFrom, hub::not_queued};
use crate::cluster::shard::Shard;
use mimi_actors::{
    ids::RoomUri,
    record::Command,
    room::follower_desk::{Effect, Input},
    shard_request::ShardReply,
};
use std::sync::Arc;

/// Carries out one order of the room's actor.
pub(crate) fn perform(shard: &Arc<Shard>, room: &RoomUri, effect: Effect, from: AnsweredFrom) {
    match effect {
        Effect::Append { ticket, command } => {
            let record = Command::Follower(room.clone(), command);
            if let Err(refused) = shard.queue(record, Some(ticket)) {
                let refused = not_queued(refused);
                shard.report_follower(room, Input::NotAppended { ticket, refused });
            }
        }
        Effect::Answer { ticket, answer } => {
            shard.answer_ticket(ticket, ShardReply::Room(answer), from);
        }
    }
}
