//! What is checked where a log is applied, and what must be true once faults have stopped.

use super::World;
use crate::sim::{
    facts::Place,
    node::{Applied, Seen},
    plan::NodeRef,
};
use crate::{
    ids::{RoomUri, UserUri},
    link::Peer,
    machine::Millis,
    record::Command,
    room::{
        follower,
        hub::{self, Enter},
        outcome::{Answer, Done, Outcome, Refused},
    },
    user::{
        command::{self as user, Command as UserCommand},
        outcome::Answer as UserAnswer,
    },
    wire::event::{Copy, Hash},
};

impl World {
    /// Looks at an entry that a replica applied: the first one is checked in full, the others must be the same.
    pub(super) fn check_applied(
        &mut self,
        node: NodeRef,
        shard: u16,
        applied: &Applied,
        leads: bool,
    ) {
        let at = Place {
            provider: node.provider,
            shard,
            index: applied.index,
        };
        self.trace = Hash::of_parts([&self.trace.0[..], &applied.state.0[..]]);
        if leads && applied.own {
            self.counts.one("entries applied by their proposer");
        }
        if !self.history.state(at, applied.state) {
            return;
        }
        self.counts.one("entries");
        let (of, stamp, now) = ((node.provider, shard), applied.entry.stamp, self.now());
        self.history.stamped(of, stamp, applied.time, now);
        for (command, seen) in applied.entry.commands.iter().zip(&applied.outcomes) {
            self.counts.one("commands");
            match (command, seen) {
                (Command::Hub(room, command), Seen::Room(outcome)) => {
                    self.check_hub(node, room, command, outcome, applied.time);
                }
                (Command::Follower(room, command), Seen::Room(outcome)) => {
                    self.check_follower(node, shard, room, command, outcome);
                }
                (Command::User(user, command), Seen::User(outcome)) => {
                    match (&**command, &outcome.answer) {
                        (UserCommand::Claim(claim), UserAnswer::Claimed(claimed)) => {
                            let counted = outcome.handed_out.is_some();
                            self.history
                                .handed(claim, user, claimed, counted, applied.time);
                        }
                        (UserCommand::Upload(upload), UserAnswer::Uploaded(results)) => {
                            let mut stored = upload.packages.iter().flatten().zip(results);
                            if stored
                                .any(|(package, stored)| !package.last_resort && stored.is_ok())
                            {
                                self.history.restocked(&upload.client, &outcome.refilled);
                            }
                        }
                        (UserCommand::Ack(ack), _) => self.check_cursors(node, shard, user, ack),
                        (UserCommand::Delete, UserAnswer::Done) => {
                            self.history.applied_delete(user, &outcome.departed);
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
    }

    /// A client's cursors never go back.
    fn check_cursors(&mut self, node: NodeRef, shard: u16, user: &UserUri, ack: &user::Ack) {
        let actor = self.shard(node, shard).and_then(|own| own.users.get(user));
        let cursors: Vec<_> = actor
            .into_iter()
            .flat_map(|actor| actor.fold.memberships(&ack.client))
            .map(|(room, is)| (room.clone(), is.after, is.acked))
            .collect();
        for (room, after, acked) in cursors {
            self.history.cursor(&ack.client, &room, after, acked);
        }
    }

    fn check_hub(
        &mut self,
        node: NodeRef,
        room: &RoomUri,
        command: &hub::Command,
        outcome: &Outcome,
        time: Millis,
    ) {
        if outcome.done == Answer::Refused(Refused::Ended) {
            self.counts.one("refused after a ReInit");
            self.history.refused_as_ended(room);
        }
        match command {
            hub::Command::Create(create) if outcome.done == Answer::Created => {
                let members = create.members.iter().map(|member| member.client.clone());
                self.history.room_begins(room, members);
            }
            hub::Command::Commit(_) | hub::Command::Enter(_) if !outcome.emitted.is_empty() => {
                let Some(commit) = command.commit() else {
                    return;
                };
                self.counts.one("commits accepted");
                self.story.tell(self.now_ms, || {
                    let hash = Hash::of(&commit.commit).to_string();
                    format!(
                        "{node}  applies Commit {} of {}: {room} enters epoch {}",
                        hash.get(..8).unwrap_or_default(),
                        commit.sender,
                        commit.on.epoch.next()
                    )
                });
                let recipients = outcome.emitted.iter().flat_map(|one| &one.recipients);
                let mut begin = recipients.filter(|one| one.copy == Copy::Invitation);
                let behind = begin.find(|one| commit.behind.contains(&one.provider));
                let is_kept = commit.checked.external || behind.is_none();
                self.history.demand("behind", is_kept, || {
                    format!("{room} brings in a provider for which too much waits: {behind:?}")
                });
                let first = outcome.emitted.first();
                let first = first.map(|one| one.first).unwrap_or_default();
                self.history.applied_commit(room, commit, first);
                let time = outcome.emitted.first().map_or(0, |one| one.time.0);
                self.history.lease_ends(room, commit, time);
                let again: &[_] = match command {
                    hub::Command::Enter(enter) => &enter.again,
                    _ => &[],
                };
                self.history.proposed_again(room, commit, again);
                if let Some(emission) = outcome.emitted.get(1) {
                    self.counts.one("hub Proposals made anew");
                    self.history.hub_proposed(room, again, emission.first);
                }
            }
            hub::Command::Depart(depart) => self.history.applied_depart(&depart.client),
            hub::Command::Expel(expel) => {
                if let Some(emission) = outcome.emitted.first() {
                    self.counts.one("hub Proposals");
                    self.history
                        .hub_proposed(room, &expel.proposals, emission.first);
                }
            }
            hub::Command::Commit(commit) | hub::Command::Enter(Enter { commit, .. }) => {
                if let Done::Answer(Answer::Refused(Refused::WrongEpoch { .. })) = outcome.done {
                    self.counts.one("commits that met in the log");
                }
                self.story.tell(self.now_ms, || {
                    format!("{node}  refuses a Commit of {} in the log", commit.sender)
                });
            }
            hub::Command::Propose(propose) if !outcome.emitted.is_empty() => {
                let first = outcome.emitted.first();
                let first = first.map(|one| one.first).unwrap_or_default();
                self.history.applied_proposals(room, propose, first);
            }
            hub::Command::Grant(grant) => {
                if let Done::Granted { until } = outcome.done {
                    self.counts.one("leases granted");
                    self.story.tell(self.now_ms, || {
                        let by = grant
                            .code
                            .map_or(String::new(), |code| format!(" by code {code}"));
                        format!("{node}  grants {} the lease of {room}{by}", grant.joiner)
                    });
                    if self.history.leased(room, grant, time.0, until.0) {
                        self.history.admitted(room, grant, time);
                    }
                } else if let Done::Answer(Answer::Refused(Refused::Limited { .. })) = outcome.done
                {
                    self.history.lease_given_up(room, &grant.joiner);
                }
            }
            hub::Command::KeepCode(keep) => {
                if let Done::CodeKept(id) = outcome.done {
                    self.history.code_kept(room, id, &keep.code);
                }
            }
            hub::Command::RevokeCode(revoke) if outcome.done == Answer::CodeRevoked => {
                self.history.code_revoked(room, revoke.id);
            }
            hub::Command::WrongCode(wrong) => {
                self.history.wrong_code(room, &wrong.joiner, time);
            }
            hub::Command::Submit(submit) => {
                for emission in &outcome.emitted {
                    let from = emission.item as usize;
                    let messages = submit.messages.iter().skip(from);
                    let messages = messages.take(emission.count as usize).cloned();
                    self.history
                        .applied_messages(room, &submit.sender, messages, emission.first);
                    self.counts
                        .many("messages accepted", u64::from(emission.count));
                }
                let gone = self
                    .history
                    .rooms
                    .get(room)
                    .is_some_and(|room| !room.has(&submit.sender));
                if gone {
                    self.counts.one("messages that raced a removal");
                }
            }
            // Of any other there is nothing to see here.
            _ => {}
        }
        for emission in &outcome.emitted {
            let (first, count, time) = (emission.first, emission.count, emission.time.0);
            self.history.emitted(room, first, count, time);
            self.history.accepted_at(room, first, count, time);
        }
    }

    fn check_follower(
        &mut self,
        node: NodeRef,
        shard: u16,
        room: &RoomUri,
        command: &follower::Command,
        outcome: &Outcome,
    ) {
        if let follower::Command::Deliver(_) = command
            && let Some(last) = self
                .shard(node, shard)
                .and_then(|own| own.followers.get(room))
                .map(|actor| actor.fold.last_seq())
        {
            self.history
                .followed
                .insert((node.provider, room.clone()), last);
        }
        self.counts
            .many("verdicts that came back", outcome.decided.len() as u64);
    }

    /// What is not as it must be in the end; `None` when all is.
    pub(super) fn unfinished(&self) -> Option<String> {
        for (number, is) in self.nodes.iter() {
            if !is.up {
                return Some(format!("node {number} is down"));
            }
        }
        for client in self.clients.iter().filter(|client| !client.deleted) {
            let lasting = client.requests.values().find(|pending| {
                !matches!(
                    pending.purpose,
                    super::client::Purpose::Inbox
                        | super::client::Purpose::Read(_)
                        | super::client::Purpose::Ack
                )
            });
            if let Some(pending) = lasting {
                return Some(format!("{} waits for {:?}", client.name(), pending.purpose));
            }
            for (room, known) in &client.rooms {
                if let Some((number, _)) = known.unsettled.first_key_value() {
                    return Some(format!(
                        "message {number} of {} in {room} has no verdict",
                        client.name()
                    ));
                }
            }
        }
        if let Some(unheard) = self.history.refill_unheard() {
            return Some(format!("{unheard:?} was not heard"));
        }
        for (provider, _) in (0_u8..).zip(&self.providers) {
            for shard in 0..self.shards(provider) {
                if let Some(why) = self.shard_is_unfinished(provider, shard) {
                    return Some(why);
                }
            }
        }
        None
    }

    fn shard_is_unfinished(&self, provider: u8, shard: u16) -> Option<String> {
        let leader = self.plan.nodes().find(|node| {
            node.provider == provider && self.leads(*node, shard) && self.is_confirmed(*node, shard)
        });
        let Some(leader) = leader else {
            return Some(format!(
                "shard {shard} of provider {provider} has no leader"
            ));
        };
        let own = self.shard(leader, shard)?;
        for (peer, link) in own.derived.links.peers() {
            if let Some((room, parked)) = link.parked().next() {
                let items = parked.items();
                return Some(format!(
                    "{leader} keeps {items} items of {room} from {peer}"
                ));
            }
            if link.acked() < link.last() {
                let what = match peer {
                    Peer::Provider(_) => "events",
                    Peer::Shard(_) => "notices",
                };
                return Some(format!(
                    "{leader} owes {peer} {what} {} to {}",
                    link.acked().next(),
                    link.last()
                ));
            }
        }
        for (room, is) in own.rooms() {
            if let Some(why) = self.history.departure_unheard(room, is) {
                return Some(why);
            }
            let Some(history) = self.history.rooms.get(room) else {
                return Some(format!("{room} was never created"));
            };
            if is.epoch() != history.epoch() {
                return Some(format!(
                    "{room} is at epoch {}, and was at {}",
                    is.epoch(),
                    history.epoch()
                ));
            }
            for client in self.clients.iter().filter(|client| !client.deleted) {
                let member = is.has_member(&client.uri);
                let epoch = client.member.epoch(room);
                let known = client.rooms.get(room);
                if known.is_some_and(|known| known.lost) {
                    // It is a member, and can read nothing any more.
                    continue;
                }
                let upto = known.map(|known| known.reads.upto());
                // Who missed the last Commit cannot know.
                let gapped = known.is_some_and(|known| known.gapped);
                let current = gapped || epoch == Some(is.epoch());
                let level = upto == Some(history.last_seq()) && current;
                if member && !level {
                    return Some(format!(
                        "{} is in epoch {epoch:?} of {room}, and has read up to {upto:?}; the room is at {}, {}",
                        client.name(),
                        is.epoch(),
                        history.last_seq()
                    ));
                }
                let exists = known.is_some_and(|known| known.exists);
                // Who missed the Commit that removed it has its inbox' word for it.
                let told = gapped && known.is_some_and(|known| known.upto.is_some());
                if !member && exists && epoch.is_some() && !told {
                    return Some(format!(
                        "{} has not heard that it left {room}",
                        client.name()
                    ));
                }
            }
        }
        None
    }

    /// The last look, when everything is delivered.
    pub(super) fn last_look(&mut self) {
        self.history
            .occasions
            .many("I25", self.history.messages.len() as u64);
        let exists = |client: usize| !self.clients[client].deleted;
        let undecided = self.history.undecided(exists);
        if let Some((content, room)) = undecided {
            let why = format!("message {content} in {room} never got a verdict");
            self.history.violated("I25", why);
        }
        self.history
            .occasions
            .many("I15", self.counts.of("events delivered to clients"));
        // Every replica that holds an entry holds the same one: leaders and laggards, after all that happened.
        for node in self.plan.nodes().collect::<Vec<_>>() {
            for shard in 0..self.shards(node.provider) {
                let Some(own) = self.shard(node, shard) else {
                    continue;
                };
                let (applied, state) = (own.applied, own.state);
                let known = self.history.ledger.state_at(&Place {
                    provider: node.provider,
                    shard,
                    index: applied,
                });
                if applied > 0 && known.is_some_and(|known| known != state) {
                    let why = format!("{node} and others differ in shard {shard} at {applied}");
                    self.history.violated("I11", why);
                }
            }
        }
    }
}
