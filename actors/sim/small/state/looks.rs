//! What clients and checkers make of what happens in the small world.

use super::*;

impl State {
    /// What the checkers must know of a command that was applied for the first time.
    pub(super) fn look(&mut self, command: &Command, seen: &Seen) {
        match (command, seen) {
            (Command::Hub(room, command), Seen::Room(outcome)) => {
                match &**command {
                    hub::Command::Create(create) => {
                        let members = create.members.iter().map(|member| member.client.clone());
                        self.history.room_begins(room, members);
                    }
                    hub::Command::Commit(commit) if !outcome.emitted.is_empty() => {
                        self.history.applied_commit(room, commit);
                        self.situations.one("commits accepted");
                    }
                    hub::Command::Commit(_) => self.situations.one("commits refused in the log"),
                    hub::Command::Propose(propose) if !outcome.emitted.is_empty() => {
                        self.history.applied_proposals(room, propose);
                    }
                    hub::Command::Propose(_) => {}
                    hub::Command::Submit(submit) => {
                        for emission in &outcome.emitted {
                            let messages = submit.messages.iter().skip(emission.item as usize);
                            let messages = messages.take(emission.count as usize).cloned();
                            let first = emission.first;
                            self.history
                                .applied_messages(room, &submit.sender, messages, first);
                        }
                    }
                }
                for emission in &outcome.emitted {
                    let time = emission.time.0;
                    self.history
                        .emitted(room, emission.first, emission.count, time);
                }
            }
            (Command::Follower(room, _), Seen::Room(outcome)) => {
                if let Answer::Gap { .. } | Answer::Refused(_) = outcome.answer {
                    let why = format!("the follower answered {:?}", outcome.answer);
                    self.history.violated("I15", why);
                }
                let last = self.shards[1].followers.get(room);
                let last = last.map(|actor| actor.fold.last_seq());
                self.history
                    .followed
                    .insert((1, room.clone()), last.unwrap_or_default());
                for decided in &outcome.decided {
                    let content = self.clients[1].unsettled.get(&decided.run.first.0).copied();
                    if let (Some(content), Verdict::Accepted { seq, .. }) =
                        (content, decided.run.verdict)
                    {
                        let room = room.clone();
                        self.history.accepted(content, &room, seq);
                    }
                }
            }
            (Command::User(user, command), Seen::User(outcome)) => {
                if let (UserCommand::Claim(claim), UserAnswer::Claimed(claimed)) =
                    (&**command, &outcome.answer)
                {
                    self.history.handed(claim.id, user, claimed);
                }
            }
            _ => {}
        }
    }

    /// Whether an answer is lost: then whoever waits asks again.
    pub(super) fn is_lost(&mut self, ticket: Ticket) -> bool {
        let Some(request) = self.requests.get_mut(&ticket.0) else {
            return true;
        };
        if !std::mem::take(&mut self.losing) {
            return false;
        }
        request.open = true;
        self.situations.one("answers lost");
        true
    }

    pub(super) fn claimed(&mut self, ticket: Ticket, answer: &UserAnswer) {
        if let Some(Request {
            asked: Asked::Claim(claim),
            ..
        }) = self.requests.get(&ticket.0)
            && let UserAnswer::Claimed(claimed) = answer
        {
            let id = claim.id;
            let user = self.carol.clone();
            self.history.handed(id, &user, claimed);
        }
        if !self.is_lost(ticket) {
            self.requests.remove(&ticket.0);
        }
    }

    pub(super) fn answer(&mut self, ticket: Ticket, answer: &Answer) {
        if self.is_lost(ticket) {
            return;
        }
        let Some(request) = self.requests.remove(&ticket.0) else {
            return;
        };
        let room = self.room.clone();
        let client = request.client;
        match (request.asked, answer) {
            (Asked::Hub(_, Some(commit)), Answer::Committed(accepted)) => {
                self.history.commit_acked(&room, &commit, accepted);
            }
            (Asked::Hub(_, Some(commit)), Answer::Refused(refused)) => {
                self.history.commit_refused(&room, &commit);
                if let Refused::WrongEpoch { .. } = refused {
                    self.situations.one("commits that lost their epoch");
                }
                let is = &mut self.clients[client];
                if is.staged.take_if(|staged| *staged == commit).is_some() {
                    is.member.discard(&room);
                }
            }
            (Asked::Hub(HubAsk::Submit(_), _) | Asked::Queue(_), Answer::Sent(runs)) => {
                for run in runs {
                    let unsettled = &mut self.clients[client].unsettled;
                    let content = unsettled.get(&run.first.0).copied();
                    match (content, run.verdict) {
                        (Some(content), Verdict::Accepted { seq, .. }) => {
                            unsettled.remove(&run.first.0);
                            self.history.accepted(content, &room, seq);
                        }
                        (Some(content), Verdict::Refused(_)) => {
                            unsettled.remove(&run.first.0);
                            self.history.refused(content);
                        }
                        (_, Verdict::Queued) | (None, _) => {}
                    }
                }
            }
            _ => {}
        }
    }

    pub(super) fn fan_out(&mut self) {
        let peer = Peer::Provider(self.providers[1].clone());
        let own = &self.shards[0];
        let Some(acked) = own.derived.links.outgoing(&peer).map(|owed| owed.acked()) else {
            return;
        };
        // From the last acknowledgement that the log knows: what came after it comes again.
        let batch = read::fanout(own, &self.providers[1], acked.next());
        let Ok(Some((batch, after))) = batch else {
            let why = "what is owed cannot be read".to_owned();
            return self.history.violated("I15", why);
        };
        if self.to_ack.is_some_and(|upto| upto >= batch.first) {
            self.situations.one("batches that came again");
        }
        for group in batch.groups {
            let deliver = follower::Deliver { items: group.items };
            let ticket = Ticket(u64::MAX);
            self.follower_input(follower_desk::Input::Deliver { ticket, deliver });
        }
        self.to_ack = Some(crate::wire::event::LinkSeq(after.0 - 1));
    }

    pub(super) fn submit(&mut self) {
        let hub = self.providers[0].clone();
        let batch = read::submissions(&self.shards[1], &hub, 0);
        let Ok(Some((batch, _))) = batch else {
            let why = "what waits cannot be read".to_owned();
            return self.history.violated("I25", why);
        };
        // Until the hub crashes, or its word comes back: then whatever still waits goes again.
        self.submitted = true;
        for group in batch.groups {
            if let Some((_, ask)) = doors::submission(&hub, group) {
                self.hub_input(ask.input(Ticket(u64::MAX)));
            }
        }
    }

    pub(super) fn read(&mut self, client: usize) {
        let room = self.room.clone();
        let from = self.clients[client].next;
        let uri = self.clients[client].uri.clone();
        let part = match read::room_events(&self.shards[client], &room, &uri, from, None) {
            Ok(part) => part,
            Err(error) => return self.history.violated("I2", error.to_string()),
        };
        for event in part.events {
            let is = &mut self.clients[client];
            if event.seq != is.next {
                let why = format!("event {} was given where {} was next", event.seq, is.next);
                return self.history.violated("I26", why);
            }
            is.next = event.seq.next();
            self.history.delivered(client, &room, &event);
            if let Some(own) = event.own {
                let is = &mut self.clients[client];
                if let Some(content) = is.unsettled.remove(&own.0) {
                    self.history.accepted(content, &room, event.seq);
                }
                continue;
            }
            let is = &mut self.clients[client];
            let own = matches!(&event.body, RoomBody::Commit { commit, .. }
                if Some(&commit.0) == is.staged.as_ref());
            let took = if own {
                is.staged = None;
                is.member.confirm(&room).map(Took::Commit)
            } else {
                if let RoomBody::Commit { .. } = &event.body
                    && is.staged.take().is_some()
                {
                    is.member.discard(&room);
                }
                is.member.take(&room, &event.body)
            };
            match took {
                Ok(Took::Message(content)) => self.history.read(client, &room, content),
                Ok(Took::Commit(epoch)) => {
                    let with = is.member.authenticator(&room);
                    self.history.entered(&room, epoch, with);
                }
                Ok(_) => {}
                Err(why) => self.history.violated("I2", why),
            }
        }
    }

    pub(in crate::sim::small) fn violation(&self) -> Option<Violation> {
        self.history.violation.clone()
    }

    /// What is missing although nothing is left to do.
    pub(in crate::sim::small) fn unfinished(&self) -> Option<String> {
        let history = self.history.rooms.get(&self.room)?;
        if let Some((request, _)) = self.requests.first_key_value() {
            return Some(format!("request {request} was never answered"));
        }
        self.clients.iter().find_map(|client| {
            let level = client.next == history.last_seq.next()
                && client.member.epoch(&self.room) == Some(history.epoch);
            let settled = client.unsettled.is_empty();
            (!level || !settled).then(|| format!("{} has not everything", client.uri))
        })
    }

    /// Equal for states from which the same can happen.
    pub(in crate::sim::small) fn hash(&self) -> Hash {
        let text = format!(
            "{:?} {:?} {:?} {:?} {:?} {} {} {} {:?} {} {:?}",
            self.bounds,
            self.shards,
            self.clients,
            self.requests,
            self.checks.keys().collect::<Vec<_>>(),
            self.crashes,
            self.losses,
            self.losing,
            self.to_ack,
            self.submitted,
            self.history.followed,
        );
        Hash::of(text.as_bytes())
    }
}
