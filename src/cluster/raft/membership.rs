//! Carries out what an operator wishes of a shard's members, at the shard's leader: the shell around
//! [`mimi_actors::membership`].
//!
//! Each step is computed from the members that the shard has now, and from whom the leader hears now; the node that
//! comes is spoken to by the leader itself. Nothing is remembered between steps.

use super::{group::Group, members::NotChanged};
use crate::cluster::mesh::{
    Mesh,
    frame::{Control, ControlAnswer, Why},
};
use futures::future::join_all;
use mimi_actors::membership::{Next, Order, View, Wish, next};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;

/// How long carrying a wish out in one shard may take, a node's catching up included.
const CARRY_DEADLINE: Duration = Duration::from_secs(60);
/// How long another node may take to answer.
const ASK_DEADLINE: Duration = Duration::from_secs(1);
/// How often it is looked whether what is waited for has come.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

impl Mesh {
    /// The members of a shard that this node leads.
    pub(crate) fn view(&self, group: &Group) -> ControlAnswer {
        match group.view(|node| self.hears(node)) {
            Some(view) => ControlAnswer::View(Box::new(view)),
            None => ControlAnswer::NotLed(group.figures().leader),
        }
    }

    /// The next step of a wish in a shard that this node leads; `None` where it does not lead.
    async fn step(&self, group: &Group, wish: &Wish) -> Option<Next> {
        let mut view: View = group.view(|node| self.hears(node))?;
        // A connection outlives the process at its other end by some seconds.
        let answering = self.answering(view.lag_entries.keys().copied()).await;
        view.lag_entries.retain(|node, _| answering.contains(node));
        if let Some((node, address)) = wish.newcomer() {
            let there = view
                .addresses
                .get(&node)
                .is_some_and(|at| **at == **address);
            // A member at that address is heard, or waited for.
            if !there {
                view.newcomer = Some(self.probe(node, address, &view).await);
            }
        }
        Some(next(wish, &view))
    }

    /// Which of some nodes answer now.
    async fn answering(&self, nodes: impl Iterator<Item = u64>) -> BTreeSet<u64> {
        let asked = nodes.map(|node| async move {
            let answer = self.known_neighbour(node)?;
            let answer = answer.control(Control::Ping, ASK_DEADLINE).await;
            (answer == Ok(ControlAnswer::Done)).then_some(node)
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Says what the next step of a wish would be.
    pub(crate) async fn look(&self, group: &Group, wish: &Wish) -> ControlAnswer {
        match self.step(group, wish).await {
            Some(next) => ControlAnswer::Next(next),
            None => ControlAnswer::NotLed(group.figures().leader),
        }
    }

    /// Carries a wish out in one shard.
    pub(crate) async fn carry(&self, group: &Group, wish: &Wish) -> ControlAnswer {
        let gives_up = Instant::now() + CARRY_DEADLINE;
        loop {
            match self.step(group, wish).await {
                None => return ControlAnswer::NotLed(group.figures().leader),
                Some(Next::Done) => return ControlAnswer::Done,
                Some(Next::Refuse(refusal)) => {
                    return ControlAnswer::Refused(Why::clipped(&refusal.to_string()));
                }
                Some(Next::Wait(waiting)) if Instant::now() >= gives_up => {
                    let why = format!("{waiting} after {} s", CARRY_DEADLINE.as_secs());
                    return ControlAnswer::Refused(Why::clipped(&why));
                }
                Some(Next::Wait(_)) => tokio::time::sleep(LOOK_INTERVAL).await,
                Some(Next::Do(Order::HandOver { to })) => {
                    tracing::info!(shard = group.shard(), to, "the leader of a shard is to go");
                    return self.hand_over(group, to).await;
                }
                Some(Next::Do(order)) => {
                    tracing::info!(
                        shard = group.shard(),
                        ?order,
                        "the members of a shard change"
                    );
                    match group.order(order).await {
                        Ok(()) => {}
                        Err(NotChanged::Answer(answer)) => return answer,
                        Err(NotChanged::Again) => tokio::time::sleep(LOOK_INTERVAL).await,
                    }
                }
            }
        }
    }

    /// Gives the leadership of a shard to another voter. Whoever asked asks there then.
    pub(crate) async fn hand_over(&self, group: &Group, to: u64) -> ControlAnswer {
        let given = group.give_up(to).await;
        if given != ControlAnswer::Done {
            return given;
        }
        let take = Control::Take {
            shard: group.shard(),
        };
        // A node that does not hear it elects by itself, a little later.
        if let Some(neighbour) = self.known_neighbour(to) {
            let _ = neighbour.control(take, ASK_DEADLINE).await;
        }
        ControlAnswer::NotLed(Some(to))
    }
}
