//! The nodes of a provider together: disks that sync, entries that are replicated, leaders that come and go.

use super::{ACK_RECORD_MS, Event, World};
use crate::sim::{
    node::sealed::Install,
    node::{Applied, InFlight},
    plan::NodeRef,
    post::{Answered, Body, End},
    replica::{Append, Appended},
};
use crate::{
    limits::SHARD_QUEUE_COMMANDS_MAX,
    machine::Ticket,
    record::{Command, Gathered},
    shard_request::ShardReply,
};
use std::sync::Arc;

impl World {
    /// Whether a node leads a shard, as far as it knows.
    pub(super) fn leads(&self, node: NodeRef, shard: u16) -> bool {
        self.nodes.get(&node).is_some_and(|is| {
            is.up
                && is
                    .shards
                    .get(usize::from(shard))
                    .is_some_and(|shard| shard.replica.leading.is_some())
        })
    }

    /// Whether a leader is still one, and has applied what was committed before it: what it reads is current.
    pub(super) fn is_confirmed(&self, node: NodeRef, shard: u16) -> bool {
        let Some(own) = self.shard(node, shard) else {
            return false;
        };
        if own.replica.leading.is_none() {
            return false;
        }
        let term = own.replica.term;
        let committed = own.replica.committed;
        let settled = own.replica.term_at(committed) == term && own.applied == committed;
        let voters = self.voters(node.provider, shard);
        let with = voters
            .iter()
            .filter(|voter| {
                let voter = NodeRef {
                    node: **voter,
                    ..node
                };
                voter == node
                    || (self.can_talk(node, voter)
                        && self.nodes.get(&voter).is_some_and(|is| is.up)
                        && self.shard(voter, shard).is_some_and(|other| {
                            other.replica.term <= term && !other.replica.must_not_vote
                        }))
            })
            .count();
        settled && with * 2 > voters.len()
    }

    pub(super) fn shard(&self, node: NodeRef, shard: u16) -> Option<&crate::sim::node::Shard> {
        self.nodes.get(&node)?.shards.get(usize::from(shard))
    }

    pub(super) fn shard_mut(
        &mut self,
        node: NodeRef,
        shard: u16,
    ) -> Option<&mut crate::sim::node::Shard> {
        self.nodes
            .get_mut(&node)?
            .shards
            .get_mut(usize::from(shard))
    }

    /// The leader of a shard, as far as a node can find it.
    pub(super) fn leader_for(&self, node: NodeRef, shard: u16) -> Option<NodeRef> {
        self.nodes
            .iter()
            .filter(|(other, is)| {
                other.provider == node.provider && is.up && self.can_talk(node, **other)
            })
            .filter_map(|(other, _)| {
                let replica = &self.shard(*other, shard)?.replica;
                replica.leading.as_ref().map(|_| (replica.term, *other))
            })
            .max()
            .map(|(_, leader)| leader)
    }

    /// Puts a command into the queue in front of the log; `false` when it does not go there.
    pub(super) fn queue_command(
        &mut self,
        node: NodeRef,
        shard: u16,
        command: Command,
        ticket: Option<Ticket>,
    ) -> bool {
        let leads = self.leads(node, shard) && !self.is_full(node);
        let Some(own) = self.shard_mut(node, shard) else {
            return false;
        };
        if !leads || own.queue.len() >= SHARD_QUEUE_COMMANDS_MAX {
            return false;
        }
        own.queue.push_back((command, ticket));
        self.gather(node, shard);
        true
    }

    /// Takes what waits, as one entry, once the entry before it is applied.
    fn gather(&mut self, node: NodeRef, shard: u16) {
        let stamp = self.clock(node);
        let Some(own) = self.shard_mut(node, shard) else {
            return;
        };
        if own.in_flight.is_some() || own.queue.is_empty() || own.replica.leading.is_none() {
            return;
        }
        let mut tickets = Vec::new();
        let mut gathered = Gathered::new(own.derived.level);
        while gathered.may_take()
            && let Some((command, ticket)) = own.queue.pop_front()
        {
            if let Err(command) = gathered.push(command) {
                own.queue.push_front((command, ticket));
                break;
            }
            tickets.push(ticket);
        }
        let count = tickets.len();
        let shared = gathered.shared();
        let index = own.replica.append(Arc::new(gathered.entry(stamp)));
        let term = own.replica.term;
        own.in_flight = Some(InFlight {
            index,
            term,
            tickets,
        });
        self.counts
            .many("Welcomes that lie in an entry once", shared);
        self.story.tell(self.now_ms, || {
            format!(
                "{node}  appends entry {index} ({count} commands) to shard {shard}, term {term}"
            )
        });
        self.replicate(node, shard);
        self.want_sync(node);
    }

    /// Sends every other replica what it may lack.
    fn replicate(&mut self, node: NodeRef, shard: u16) {
        for other in 0..self.plan.providers[usize::from(node.provider)].nodes {
            if other != node.node {
                self.replicate_to(node, shard, other);
            }
        }
    }

    fn replicate_to(&mut self, node: NodeRef, shard: u16, other: u8) {
        let Some(own) = self.shard(node, shard) else {
            return;
        };
        if own.replica.leading.is_none() {
            return;
        }
        let append = own.replica.append_for(other);
        let body = match append {
            Some(append) => Some(Body::Append { shard, append }),
            None => own
                .install_for()
                .map(|install| Body::Install { shard, install }),
        };
        if let Some(body) = body {
            let to = NodeRef {
                node: other,
                ..node
            };
            self.send(End::Node(node), End::Node(to), body);
        }
    }

    /// A leader's snapshot comes, for this replica lags behind the beginning of its log.
    pub(super) fn take_install(
        &mut self,
        node: NodeRef,
        from: NodeRef,
        shard: u16,
        install: &Install,
    ) {
        // There is no room for it; it is offered again.
        if self.is_full(node) {
            return;
        }
        let Some(own) = self.shard_mut(node, shard) else {
            return;
        };
        let led = own.replica.leading.is_some() && install.term > own.replica.term;
        let took = own.replica.install(install);
        if led {
            self.step_down(node, shard);
        }
        let (Ok(answer) | Err(answer)) = took;
        if took.is_ok() {
            self.counts.one("snapshots installed");
            self.story.tell(self.now_ms, || {
                let at = install.sealed.at;
                format!("{node}  takes {from}'s snapshot of shard {shard} over, entry {at}")
            });
            self.unseal(node, shard);
        }
        self.answer_leader(node, from, shard, answer);
        self.apply(node, shard);
    }

    /// A shard's state becomes that of its newest snapshot.
    pub(super) fn unseal(&mut self, node: NodeRef, shard: u16) {
        let unsealed = self
            .shard_mut(node, shard)
            .map(crate::sim::node::Shard::unseal);
        if let Some(Err(error)) = unsealed {
            self.history
                .violated("I11", format!("a snapshot does not read: {error}"));
        }
    }

    pub(super) fn heartbeat(&mut self, provider: u8, shard: u16) {
        let leaders: Vec<NodeRef> = self
            .plan
            .nodes()
            .filter(|node| node.provider == provider && self.leads(*node, shard))
            .collect();
        for leader in leaders {
            self.replicate(leader, shard);
            self.enter_again(leader, shard);
            self.give_way(leader, shard);
            self.raise_level(leader, shard);
        }
    }

    /// Enters a replica again that lost its disk, once it has everything and the other voters agree.
    fn enter_again(&mut self, leader: NodeRef, shard: u16) {
        let voters = self.voters(leader.provider, shard);
        for voter in &voters {
            let out = NodeRef {
                node: *voter,
                ..leader
            };
            if !self.learners.contains(&(out, shard)) {
                continue;
            }
            let Some(own) = self.shard(leader, shard) else {
                return;
            };
            let term = own.replica.term;
            let level = own.replica.is_level_with(*voter);
            let agreed = voters.iter().filter(|other| *other != voter).all(|other| {
                let other = NodeRef {
                    node: *other,
                    ..leader
                };
                other == leader
                    || (self.can_talk(leader, other)
                        && self.nodes.get(&other).is_some_and(|is| is.up)
                        && self
                            .shard(other, shard)
                            .is_some_and(|is| is.replica.term <= term && !is.replica.must_not_vote))
            });
            if level && agreed && self.is_confirmed(leader, shard) {
                self.learners.remove(&(out, shard));
                if let Some(replica) = self.shard_mut(out, shard).map(|is| &mut is.replica) {
                    replica.must_not_vote = false;
                    replica.term = replica.term.max(term);
                }
                self.counts.one("replicas entered again");
                self.story.tell(self.now_ms, || {
                    format!("{out}  votes again in shard {shard}")
                });
            }
        }
    }

    fn answer_leader(&mut self, node: NodeRef, leader: NodeRef, shard: u16, answer: Appended) {
        let life = self.life(node);
        let body = Body::Appended {
            life,
            shard,
            answer,
        };
        self.send(End::Node(node), End::Node(leader), body);
    }

    pub(super) fn take_append(
        &mut self,
        node: NodeRef,
        from: NodeRef,
        shard: u16,
        append: &Append,
    ) {
        let Some(own) = self.shard_mut(node, shard) else {
            return;
        };
        let led = own.replica.leading.is_some() && append.term > own.replica.term;
        let took = own.replica.take(append);
        if led {
            self.step_down(node, shard);
        }
        match took {
            Err(answer) => self.answer_leader(node, from, shard, answer),
            Ok(matched) => {
                if let Some(own) = self.shard_mut(node, shard) {
                    own.owed = Some((from.node, matched));
                }
                self.apply(node, shard);
                self.want_sync(node);
            }
        }
    }

    pub(super) fn take_appended(
        &mut self,
        node: NodeRef,
        from: NodeRef,
        shard: u16,
        answer: Appended,
    ) {
        let voters = self.voters(node.provider, shard);
        let counts = voters.contains(&from.node)
            && !self
                .shard(from, shard)
                .is_some_and(|is| is.replica.must_not_vote);
        let Some(own) = self.shard_mut(node, shard) else {
            return;
        };
        if own.replica.answered(from.node, answer) {
            return self.step_down(node, shard);
        }
        let behind = answer.matched < own.replica.len() && own.replica.leading.is_some();
        if counts {
            self.counted(node, shard);
        }
        // The rest goes with the next entry or heartbeat, unless it was refused.
        if behind && !answer.took {
            self.replicate_to(node, shard, from.node);
        }
    }

    fn counted(&mut self, node: NodeRef, shard: u16) {
        let voters: Vec<u8> = self
            .voters(node.provider, shard)
            .into_iter()
            .filter(|voter| {
                let voter = NodeRef {
                    node: *voter,
                    ..node
                };
                // A voter that is out counts for nothing, and is not counted either way.
                !self.learners.contains(&(voter, shard)) || voter == node
            })
            .collect();
        let all = self.voters(node.provider, shard);
        // While one is out, all others are needed: that is what its exclusion was agreed on.
        let needed = if voters.len() < all.len() {
            voters.clone()
        } else {
            all
        };
        if let Some(own) = self.shard_mut(node, shard) {
            own.replica.count(node.node, &needed);
        }
        self.apply(node, shard);
    }

    /// The disk begins to sync what was written, if it is not at it.
    pub(super) fn want_sync(&mut self, node: NodeRef) {
        let usual = self.dice.between(1, self.plan.weather.sync_ms_max.max(1));
        let Some(is) = self.nodes.get_mut(&node) else {
            return;
        };
        if is.syncing || is.full.is_some() {
            is.sync_again = true;
            return;
        }
        is.syncing = true;
        is.sync_again = false;
        let counts = is.shards.iter().map(|shard| shard.replica.len()).collect();
        let (life, ms) = (is.life, usual * is.slow);
        self.after(ms, Event::Synced { node, life, counts });
    }

    pub(super) fn synced(&mut self, node: NodeRef, counts: &[u64]) {
        let mut answers = Vec::new();
        let Some(is) = self.nodes.get_mut(&node) else {
            return;
        };
        is.syncing = false;
        let again = is.sync_again;
        for ((number, shard), count) in (0_u16..).zip(&mut is.shards).zip(counts) {
            shard.replica.sync(*count);
            let synced = shard.replica.synced();
            if let Some((to, matched)) = shard.owed.take_if(|(_, matched)| *matched <= synced) {
                let term = shard.replica.term;
                answers.push((
                    number,
                    to,
                    Appended {
                        term,
                        matched,
                        took: true,
                    },
                ));
            }
        }
        if !self.boundary(node) {
            return;
        }
        for (shard, to, answer) in answers {
            let to = NodeRef { node: to, ..node };
            self.answer_leader(node, to, shard, answer);
        }
        let life = self.life(node);
        for shard in 0..self.shards(node.provider) {
            if self.is_alive(node, life) && self.leads(node, shard) {
                self.counted(node, shard);
            }
        }
        if again && self.is_alive(node, life) {
            self.want_sync(node);
        }
    }

    /// Looks whether a shard has a leader that a majority can reach; if not, a majority chooses one.
    pub(super) fn election(&mut self, provider: u8, shard: u16) {
        let led = self.plan.nodes().any(|node| {
            node.provider == provider && self.leads(node, shard) && self.is_heard(node, shard)
        });
        if !led {
            self.elect(provider, shard, None);
        }
    }

    /// Whether a majority hears a node: those follow it if it leads, also where nobody's disk has room for a vote.
    fn is_heard(&self, node: NodeRef, shard: u16) -> bool {
        let voters = self.voters(node.provider, shard);
        let hear = voters.iter().filter(|voter| {
            let voter = NodeRef {
                node: **voter,
                ..node
            };
            self.nodes.get(&voter).is_some_and(|is| is.up)
                && (voter == node || self.can_talk(node, voter))
                && self
                    .shard(voter, shard)
                    .is_some_and(|is| !is.replica.must_not_vote)
        });
        hear.count() * 2 > voters.len()
    }

    /// The voters that would vote for a node, if they are a majority.
    fn majority_of(&self, node: NodeRef, shard: u16) -> Option<Vec<NodeRef>> {
        let voters = self.voters(node.provider, shard);
        let with: Vec<NodeRef> = voters
            .iter()
            .map(|voter| NodeRef {
                node: *voter,
                ..node
            })
            .filter(|voter| {
                self.nodes.get(voter).is_some_and(|is| is.up)
                    && (*voter == node || self.can_talk(node, *voter))
                    // A vote that cannot be written is not given.
                    && !self.is_full(*voter)
                    && self
                        .shard(*voter, shard)
                        .is_some_and(|is| !is.replica.must_not_vote)
            })
            .collect();
        (with.contains(&node) && with.len() * 2 > voters.len()).then_some(with)
    }

    /// The voters that would have a candidate lead, if they are a majority.
    pub(super) fn would_elect(&self, candidate: NodeRef, shard: u16) -> Option<Vec<NodeRef>> {
        let with = self.majority_of(candidate, shard)?;
        let reach = |node: &NodeRef| {
            let is = self.shard(*node, shard);
            is.map(|is| is.replica.reach()).unwrap_or_default()
        };
        let own = reach(&candidate);
        let granting: Vec<NodeRef> = with
            .into_iter()
            .filter(|voter| reach(voter) <= own)
            .collect();
        let needed = self.voters(candidate.provider, shard).len();
        (granting.len() * 2 > needed).then_some(granting)
    }

    /// A majority chooses a leader, not `except`, among those whose log has all that the majority has.
    pub(super) fn elect(&mut self, provider: u8, shard: u16, except: Option<NodeRef>) {
        let voters = self.voters(provider, shard);
        let start = self.dice.place(voters.len());
        let turned = voters.iter().cycle().skip(start).take(voters.len());
        for candidate in turned {
            let candidate = NodeRef {
                provider,
                node: *candidate,
            };
            if Some(candidate) == except {
                continue;
            }
            let Some(granting) = self.would_elect(candidate, shard) else {
                continue;
            };
            let newest = self.terms.entry((provider, shard)).or_default();
            *newest += 1;
            let term = *newest;
            for voter in granting {
                let led = self
                    .shard_mut(voter, shard)
                    .is_some_and(|is| is.replica.hear_of(term));
                if led {
                    self.step_down(voter, shard);
                }
            }
            let busy = self.is_busy(provider, shard);
            if let Some(is) = self.shard_mut(candidate, shard) {
                is.replica.lead(term, &voters);
            }
            self.counts.one("leaders elected");
            if busy {
                self.counts
                    .one("leader changes while a command was in flight");
            }
            self.story.tell(self.now_ms, || {
                format!("{candidate}  leads shard {shard} from now on, term {term}")
            });
            self.replicate(candidate, shard);
            self.want_sync(candidate);
            let life = self.life(candidate);
            self.after(
                ACK_RECORD_MS,
                Event::Links {
                    node: candidate,
                    life,
                    shard,
                },
            );
            return self.lead_seen(provider, shard);
        }
    }

    /// Whether some replica holds entries that are not committed anywhere.
    fn is_busy(&self, provider: u8, shard: u16) -> bool {
        let of = || self.plan.nodes().filter(|node| node.provider == provider);
        let committed = of()
            .filter_map(|node| Some(self.shard(node, shard)?.replica.committed))
            .max();
        of().filter_map(|node| self.shard(node, shard)).any(|is| {
            Some(is.replica.len()) > committed
                && is
                    .replica
                    .slot(is.replica.len())
                    .is_some_and(|slot| slot.entry.is_some())
        })
    }

    /// Whoever waits here for the shard does not know what became of its request.
    pub(super) fn step_down(&mut self, node: NodeRef, shard: u16) {
        let Some(is) = self.nodes.get_mut(&node) else {
            return;
        };
        if let Some(own) = is.shards.get_mut(usize::from(shard)) {
            own.step_down();
        }
        let gone: Vec<_> = is
            .waiting
            .extract_if(.., |_, (of, _)| *of == shard)
            .map(|(_, (_, back))| back)
            .collect();
        self.counts.one("leaders deposed");
        self.story.tell(self.now_ms, || {
            format!("{node}  no longer leads shard {shard}")
        });
        self.leave_lanes(node, shard);
        for back in gone {
            self.give(node, back, Answered::Shard(ShardReply::Nobody));
        }
    }

    /// Applies what is committed; what follows is recorded before anybody is answered.
    pub(super) fn apply(&mut self, node: NodeRef, shard: u16) {
        let (now, shards, life) = (
            self.shard_time(node, shard),
            self.shards(node.provider),
            self.life(node),
        );
        let naps = self.dice.hits(self.plan.weather.sleep_permille);
        while let Some(applied) = self
            .shard_mut(node, shard)
            .and_then(|is| is.apply_next(now, shards))
        {
            let leads = self.leads(node, shard);
            self.check_applied(node, shard, &applied, leads);
            self.check_level(node, shard);
            let Applied {
                news,
                orders,
                named,
                ..
            } = applied;
            let every = self.plan.weather.snapshot_entries;
            // A full disk has no room for a snapshot.
            if !self.is_full(node)
                && self
                    .shard_mut(node, shard)
                    .is_some_and(|is| is.seal_when_due(every))
            {
                self.counts.one("snapshots sealed");
            }
            if naps
                && let Some(Err(why)) = self
                    .shard_mut(node, shard)
                    .map(crate::sim::node::Shard::sleep)
            {
                self.history.violated("I11", why);
            }
            for order in orders {
                if !self.boundary(node) {
                    return;
                }
                self.perform(node, shard, order);
            }
            for (ticket, taken) in named {
                self.answer(node, ticket, ShardReply::Named(taken));
            }
            if leads {
                self.ring(node.provider, &news);
                self.pump(node, shard);
            }
            if !self.is_alive(node, life) {
                return;
            }
        }
        self.gather(node, shard);
    }
}
