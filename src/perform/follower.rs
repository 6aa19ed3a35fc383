//! A followed room orders nothing of its own.

use super::Performed;
use crate::cluster::shard::Shard;
use mimi_actors::{ids::RoomUri, room::follower_desk::Desk};
use std::{convert::Infallible, sync::Arc};

impl Performed for Desk {
    fn perform(_: &Arc<Shard>, _: &RoomUri, own: Infallible) {
        match own {}
    }
}
