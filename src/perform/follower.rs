//! What the orders mean that only a followed room gives.

use super::{Performed, wake};
use crate::cluster::shard::Shard;
use mimi_actors::{
    ids::RoomUri,
    room::follower_desk::{Desk, Input, Own},
};
use std::sync::Arc;

impl Performed for Desk {
    fn perform(shard: &Arc<Shard>, room: &RoomUri, own: Own) {
        let Own::Wake { after_ms } = own;
        wake::<Self>(shard, room, after_ms, Input::Wake);
    }
}
