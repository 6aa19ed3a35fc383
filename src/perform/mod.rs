//! What each order of a desk means in the real world: those that every desk gives here, those of one kind in its module.
//!
//! Nothing here waits: a command is offered to the shard's queue, an answer is handed to whoever holds the ticket, a
//! check goes to the worker pool. What cannot be done comes back to the actor as an input.

pub(crate) mod answers;
mod follower;
mod hub;
mod user;
pub(crate) mod workers;

use crate::cluster::{
    feeds::{peer_throttle::PeerThrottles, wake::Wakers},
    shard::{Shard, actors::Kept, directory::Awake},
};
use mimi_actors::{
    host::Clock,
    ids::ProviderId,
    kind::NotAppended,
    machine::{CommandOf, Effect, EffectOf, Ticket},
    room::checks::Mls,
    user::command::Rules,
};
use std::{sync::Arc, time::Duration};
use workers::Workers;

/// Everything that orders are carried out with; one for each node.
pub(crate) struct Environment {
    /// The provider that this node belongs to.
    pub(crate) provider: ProviderId,
    /// How many shards it has.
    pub(crate) shards: u16,
    /// The node's clock.
    pub(crate) clock: Clock,
    /// How many actors are awake, and may be.
    pub(crate) awake: Awake,
    /// Where cryptography is done.
    pub(crate) workers: Workers,
    /// The client streams of this node.
    pub(crate) wakers: Wakers,
    /// What makes the lanes of peers wait.
    pub(crate) throttles: PeerThrottles,
    /// The hub's public key that new rooms list in external_senders.
    pub(crate) hub_key: [u8; 32],
    /// What rooms are checked with.
    pub(crate) mls: Arc<Mls>,
    /// By which rules KeyPackages are given.
    pub(crate) rules: Rules,
    /// Payload bytes that each shard of a peer may have under way on its fan-out lane, at most.
    pub(crate) lane_credit_bytes: u32,
    /// Items that may be owed to a peer by one shard before it is brought into no more rooms.
    pub(crate) backlog_items_max: u64,
    /// How long a request may wait for its answer.
    pub(crate) request_deadline: Duration,
}

/// What an order to answer rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnsweredFrom {
    /// On an entry of the log, which is committed and applied.
    Log,
    /// On a look at the fold alone: another node may lead by now and have moved on.
    Memory,
}

/// A kind of actor whose orders are carried out here.
pub(crate) trait Performed: Kept {
    /// A command as it goes into the log of this node.
    fn to_log(_: &Shard, command: Arc<CommandOf<Self>>) -> Arc<CommandOf<Self>> {
        command
    }

    /// Carries out an order that only actors of this kind give.
    fn perform(shard: &Arc<Shard>, key: &Self::Key, own: Self::Own);
}

/// Carries out one order of an actor.
pub(crate) fn perform<D: Performed>(
    shard: &Arc<Shard>,
    key: &D::Key,
    effect: EffectOf<D>,
    from: AnsweredFrom,
) {
    match effect {
        Effect::Append { ticket, command } => {
            // An actor whose command is not taken has been told so.
            let _ = append::<D>(shard, key, ticket, D::to_log(shard, command));
        }
        Effect::Answer { ticket, answer } => shard.answer_ticket(ticket, D::reply(answer), from),
        Effect::Own(own) => D::perform(shard, key, own),
    }
}

/// Puts an actor's command into the queue in front of the log.
///
/// # Errors
/// Why it is not taken; the actor is told so.
fn append<D: Kept>(
    shard: &Arc<Shard>,
    key: &D::Key,
    ticket: Ticket,
    command: Arc<CommandOf<D>>,
) -> Result<(), NotAppended> {
    let record = D::record(key.clone(), command);
    shard.queue(record, Some(ticket)).inspect_err(|why| {
        shard.report::<D>(key, D::not_appended(ticket, *why));
    })
}

/// Brings an actor back to itself after a while.
fn wake<D: Kept>(shard: &Arc<Shard>, key: &D::Key, after_ms: u32, input: D::Input) {
    let (shard, key) = (Arc::downgrade(shard), key.clone());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(after_ms.into())).await;
        if let Some(shard) = shard.upgrade() {
            shard.report::<D>(&key, input);
        }
    });
}
