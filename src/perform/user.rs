//! What the orders mean that only a user's actor gives.

use super::Performed;
use crate::{cluster::shard::Shard, directory};
use mimi_actors::{
    ids::UserUri,
    user::desk::{Desk, Input, Own},
};
use std::sync::Arc;

impl Performed for Desk {
    fn perform(shard: &Arc<Shard>, user: &UserUri, own: Own) {
        let Own::Draw { ticket } = own;
        let random = Some(directory::random());
        shard.report::<Self>(user, Input::Drawn { ticket, random });
    }
}
