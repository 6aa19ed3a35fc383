//! What clients make of the answers they get and the events they read.

use super::{
    World,
    client::{CLAIM_TRIES_MAX, ClientRoom, Purpose},
    reads::Reads,
};
use crate::sim::{
    mls::Intent,
    post::{ClientAsk, Reply},
};
use crate::{
    ids::RoomUri,
    room::outcome::{Answer, Refused},
    user::{
        cursors::Membership,
        outcome::{Answer as UserAnswer, Refused as UserRefused},
    },
    wire::{
        Payload,
        claim::{ClaimResponse, ClaimedUser, ClientRefused, UserRefused as ClaimRefused},
        door::{DoorItem, DoorRefused},
        event::{RoomSeq, Verdict},
        post::{Note, Notice},
        refusal::RefusalCode,
    },
};
use bytes::Bytes;

impl World {
    /// Takes an answer. `false` when the request goes on, or is asked again.
    pub(super) fn client_learns(
        &mut self,
        client: usize,
        request: u64,
        purpose: &Purpose,
        reply: Reply,
    ) -> bool {
        match (purpose, reply) {
            (Purpose::Inbox, Reply::Inbox { rooms, items }) => {
                self.read_inbox(client, rooms, items);
            }
            (Purpose::Read(of), Reply::Events { room, read, part }) if *of == room => {
                self.clients[client].requests.remove(&request);
                self.read_events(client, &room, read, part);
            }
            (Purpose::Claim { room, id, tries }, Reply::Claimed(response)) => {
                self.history.claim_answered(*id, &response);
                return self.learn_claim(client, request, room.as_ref(), *tries, &response);
            }
            (
                Purpose::Commit {
                    room,
                    commit,
                    flawed,
                    opened,
                    entry,
                },
                Reply::Room(answer),
            ) => {
                if let Answer::Refused(Refused::WrongEpoch { current, .. }) = &answer {
                    let name = self.clients[client].name();
                    self.history.told_epoch(&name, room, *opened, *current);
                }
                return self.learn_commit(
                    client,
                    request,
                    room,
                    commit,
                    (*flawed, *entry),
                    &answer,
                );
            }
            (Purpose::Create(room), Reply::Room(answer)) => match answer {
                Answer::Created => {
                    if let Some(known) = self.clients[client].rooms.get_mut(room) {
                        known.exists = true;
                    }
                    self.counts.one("rooms created");
                }
                answer if is_open(&answer) => {
                    self.ask_later(client, request);
                    return false;
                }
                other => self
                    .history
                    .violated("retry", format!("a new room was refused: {other:?}")),
            },
            (Purpose::CreateTwin(room), Reply::Room(answer)) => match answer {
                Answer::Refused(Refused::Invalid(flaw)) if flaw.code == RefusalCode::GroupTaken => {
                    self.counts.one("rooms refused for their group");
                }
                answer if is_open(&answer) => {
                    self.ask_later(client, request);
                    return false;
                }
                other => {
                    let why = format!("{room}, whose group another room has, was told {other:?}");
                    self.history.violated("group id", why);
                }
            },
            (
                Purpose::GroupInfo {
                    room,
                    teller,
                    intruder,
                    key,
                    presented,
                },
                Reply::Room(Answer::GroupInfo(sealed)),
            ) => {
                if let Some(presented) = presented {
                    self.learn_presented(client, room, presented, true);
                }
                // Who told of the room may be behind, or ahead by now; and the client may have begun something else.
                let told = self.clients[*teller].member.epoch(room);
                let busy = self.clients[client].rooms.get(room);
                let busy = busy.is_some_and(|known| known.staged.is_some() || known.inviting);
                // Some try it with what they have, though the epoch of their lease is over.
                let tries = told.is_some() && key.is_multiple_of(2);
                if (told == Some(sealed.epoch) || tries) && !busy {
                    let intruder = intruder.clone();
                    self.enter_as_told(client, room, *teller, intruder, *key);
                }
            }
            (
                Purpose::GroupInfo {
                    room, presented, ..
                },
                Reply::Room(answer),
            ) => {
                self.counts.one("requests for the GroupInfo refused");
                if answer == Answer::Refused(Refused::NotAuthorized)
                    && let Some(presented) = presented
                {
                    self.learn_presented(client, room, presented, false);
                }
            }
            (Purpose::Codes { room, ask }, Reply::Room(answer)) => {
                return self.learn_code(client, request, room, ask, answer);
            }
            (Purpose::Propose { room, message }, Reply::Room(answer)) => {
                if is_open(&answer) {
                    self.ask_later(client, request);
                    return false;
                }
                match answer {
                    Answer::Proposed(_) => self.counts.one("proposals accepted"),
                    _ => self.history.proposal_refused(room, message),
                }
            }
            (Purpose::Send { room, first, count }, Reply::Room(answer)) => {
                if is_open(&answer) {
                    self.ask_later(client, request);
                    return false;
                }
                self.learn_sent(client, room, *first, *count, &answer);
            }
            (Purpose::Upload, Reply::User(answer)) => {
                if is_open_user(&answer) {
                    self.ask_later(client, request);
                    return false;
                }
            }
            // Its user is gone.
            (Purpose::Upload, Reply::Refused(DoorRefused::NotKnown)) => {}
            (Purpose::Ack, Reply::User(answer)) => {
                if is_open_user(&answer) {
                    self.ask_later(client, request);
                    return false;
                }
                let pending = self.clients[client].requests.get(&request);
                if let Some(ClientAsk::Ack(ack)) = pending.map(|pending| pending.ask.clone())
                    && answer == UserAnswer::Done
                {
                    self.tell_read(client, &ack);
                }
            }
            (Purpose::Delete, Reply::User(answer)) => {
                if is_open_user(&answer) {
                    self.ask_later(client, request);
                    return false;
                }
                let user = self.clients[client].uri.user().clone();
                self.history.user_deleted(&user);
            }
            (purpose, reply) => {
                let why = format!("{purpose:?} was answered {reply:?}");
                self.history.violated("retry", why);
            }
        }
        true
    }

    fn learn_claim(
        &mut self,
        client: usize,
        request: u64,
        room: Option<&RoomUri>,
        tries: u32,
        response: &ClaimResponse,
    ) -> bool {
        let open = response
            .users
            .iter()
            .any(|user| matches!(user.result, Err(ClaimRefused::TryLater(_))));
        if open && tries < CLAIM_TRIES_MAX {
            if let Some(pending) = self.clients[client].requests.get_mut(&request)
                && let Purpose::Claim { tries, .. } = &mut pending.purpose
            {
                *tries += 1;
            }
            self.counts.one("claims sent again");
            self.ask_later(client, request);
            return false;
        }
        let limited =
            |user: &&ClaimedUser| matches!(user.result, Err(ClaimRefused::Limited { .. }));
        let limited = response.users.iter().filter(limited).count();
        self.counts.many("claims limited", limited as u64);
        let mut packages: Vec<(crate::ids::ClientUri, Payload)> = Vec::new();
        for claimed in response
            .users
            .iter()
            .filter_map(|user| user.result.as_ref().ok())
        {
            for claimed in claimed {
                match &claimed.result {
                    Ok(package) => packages.push((claimed.client.clone(), package.clone())),
                    Err(ClientRefused::Exhausted) => self.counts.one("stocks exhausted"),
                    Err(ClientRefused::NoneCompatible) => {}
                }
            }
        }
        self.counts.many("packages claimed", packages.len() as u64);
        let Some(room) = room else { return true };
        if let Some(known) = self.clients[client].rooms.get_mut(room) {
            known.inviting = false;
            if known.staged.is_some() {
                return true;
            }
        }
        let roster = self.clients[client].member.roster(room);
        packages.retain(|(of, _)| !roster.contains(of));
        if !packages.is_empty() {
            let intent = Intent {
                add: packages.into_iter().map(|(_, package)| package).collect(),
                ..Intent::default()
            };
            self.commit(client, room, &intent, None);
        }
        true
    }

    fn learn_commit(
        &mut self,
        client: usize,
        request: u64,
        room: &RoomUri,
        commit: &Bytes,
        (flawed, entry): (bool, bool),
        answer: &Answer,
    ) -> bool {
        if matches!(answer, Answer::Refused(Refused::PeerBehind { .. })) {
            self.counts.one("commits refused for a peer that is behind");
            let bounded = self.plan.weather.backlog_items_max < u64::MAX;
            self.history.demand("I24", bounded, || {
                format!("nothing is too much in this world, and yet: {answer:?}")
            });
        }
        // Who waits for its turn must not give a Commit up: a copy of it may come late, when its turn has come.
        if is_open(answer) || matches!(answer, Answer::Refused(Refused::Limited { .. })) {
            self.ask_later(client, request);
            return false;
        }
        let name = self.clients[client].name();
        match answer {
            Answer::Committed(accepted) => {
                self.story.tell(self.now_ms, || {
                    format!(
                        "{name}  is told: its Commit opened epoch {} of {room}",
                        accepted.epoch
                    )
                });
                self.history.commit_acked(room, commit, accepted);
                if let Some(known) = self.clients[client].rooms.get_mut(room) {
                    known.opened = known.opened.max(accepted.epoch);
                }
                self.counts.one("commits acknowledged");
                if entry {
                    self.entered(client, room, commit, accepted.seq);
                }
                return true;
            }
            Answer::Refused(Refused::WrongEpoch { current, winner }) => {
                self.counts.one("commits that lost their epoch");
                self.story.tell(self.now_ms, || {
                    let winner = winner.to_string();
                    format!(
                        "{name}  is told: wrong epoch, {room} is at epoch {current}, opened by Commit {}",
                        winner.get(..8).unwrap_or_default()
                    )
                });
            }
            Answer::Refused(refused) => {
                self.counts.one("commits refused otherwise");
                self.story
                    .tell(self.now_ms, || format!("{name}  is told: {refused}"));
                // Members that proposed to remove one another: whoever takes both in is refused, and honest.
                let race = matches!(
                    refused,
                    Refused::NotAuthorized
                        | Refused::NotMember
                        | Refused::Ended
                        | Refused::UnknownProposals { .. }
                        | Refused::OmittedProposals { .. }
                ) || entry
                    && matches!(
                        refused,
                        Refused::InvalidProposals { .. }
                            | Refused::LeaseRequired
                            | Refused::LeaseExpired
                    )
                    // A real member takes in whatever waits.
                    || self.plan.real_mls && matches!(refused, Refused::InvalidProposals { .. });
                if !flawed && !race {
                    let why =
                        format!("an honest bundle of {name} in {room} was refused: {refused}");
                    self.history.violated("I24", why);
                }
            }
            other => {
                let why = format!("a Commit was answered {other:?}");
                self.history.violated("retry", why);
            }
        }
        self.history.commit_refused(room, commit);
        let is = &mut self.clients[client];
        if let Some(known) = is.rooms.get_mut(room)
            && known
                .staged
                .take_if(|staged| staged.commit == *commit)
                .is_some()
        {
            is.member.discard(room);
        }
        true
    }

    /// An external Commit was taken: what follows it is the client's, as soon as its provider knows that too.
    fn entered(&mut self, client: usize, room: &RoomUri, commit: &Bytes, seq: RoomSeq) {
        let is = &mut self.clients[client];
        let Some(known) = is.rooms.get_mut(room) else {
            return;
        };
        if known.after >= seq {
            // It was in the room before, and has read on since.
            return;
        }
        if known
            .staged
            .take_if(|staged| staged.commit == *commit)
            .is_some()
        {
            if let Err(why) = is.member.confirm(room) {
                let why = format!("{} cannot enter {room}: {why}", is.name());
                return self.history.violated("I2", why);
            }
            let epoch = is.member.epoch(room).unwrap_or_default();
            let with = is.member.authenticator(room);
            self.history.entered(room, epoch, with);
        }
        self.counts.one("joins by external Commit");
        let Some(known) = self.clients[client].rooms.get_mut(room) else {
            return;
        };
        known.after = seq;
        known.reads.enters_after(seq);
        known.upto = None;
        known.exists = false;
        known.gapped = false;
        known.lost = false;
    }

    fn learn_sent(
        &mut self,
        client: usize,
        room: &RoomUri,
        first: u64,
        count: u64,
        answer: &Answer,
    ) {
        let Some(known) = self.clients[client].rooms.get_mut(room) else {
            return;
        };
        match answer {
            Answer::Sent(runs) => {
                known.probing = false;
                for run in runs {
                    for offset in 0..u64::from(run.count) {
                        let number = run.first.0 + offset;
                        let Some(message) = known.unsettled.get_mut(&number) else {
                            continue;
                        };
                        let (content, again) = (message.content, message.again);
                        match run.verdict {
                            Verdict::Queued => message.queued = true,
                            Verdict::Accepted { seq, .. } => {
                                known.accepted(number);
                                let seq = RoomSeq(seq.0 + offset);
                                self.history.accepted(content, room, seq);
                            }
                            Verdict::Refused(_) => {
                                known.unsettled.remove(&number);
                                if again {
                                    self.counts.one("messages known again");
                                    continue;
                                }
                                self.history.refused(content);
                                self.counts.one("messages refused with a verdict");
                            }
                        }
                    }
                }
            }
            Answer::Gap { expected } => {
                if *expected < first {
                    let why = format!("{room} forgot numbers from {expected} on");
                    self.history.violated("I25", why);
                }
            }
            // Some of these may have been taken before; the first alone tells.
            Answer::Refused(Refused::NotMember | Refused::NotAuthorized) if count > 1 => {
                known.probing = true;
            }
            Answer::Refused(Refused::NotMember | Refused::NotAuthorized) => {
                let untaken = known.unsettled.split_off(&first);
                known.number = first - 1;
                known.probing = false;
                for message in untaken.into_values() {
                    if message.queued {
                        let why = format!("{room} forgot message {first}, which it had queued");
                        self.history.violated("I25", why);
                    }
                    if !message.again {
                        self.history.refused(message.content);
                    }
                }
                self.counts.one("messages refused at the door");
            }
            other => {
                let why = format!("messages were answered {other:?}");
                self.history.violated("I25", why);
            }
        }
    }

    fn read_inbox(
        &mut self,
        client: usize,
        rooms: Vec<(RoomUri, Membership)>,
        items: Vec<DoorItem>,
    ) {
        let mut news = false;
        for item in items {
            let (seq, said) = match item {
                DoorItem::Inbox { seq, room, notice } => (seq, Ok((room, notice))),
                DoorItem::Note { seq, note } => (seq, Err(note)),
                DoorItem::Room { .. } | DoorItem::Gap { .. } | DoorItem::Verdict { .. } => continue,
            };
            let is = &mut self.clients[client];
            if seq <= is.inbox {
                continue;
            }
            if seq != is.inbox.next() {
                let why = format!("{} misses an inbox item before {seq}", is.name());
                return self.history.violated("I26", why);
            }
            is.inbox = seq;
            news = true;
            let (room, notice) = match said {
                Ok(notice) => notice,
                Err(note) => {
                    self.learn_note(client, &note);
                    continue;
                }
            };
            match notice {
                Notice::Joined { after, welcome } => {
                    let Some(welcome) = welcome else { continue };
                    let entered = is.rooms.get(&room).is_some_and(|known| known.after > after);
                    if entered {
                        // The client has come in by itself since.
                        continue;
                    }
                    self.history.welcomed(client, &room, &welcome);
                    let is = &mut self.clients[client];
                    let joined = is.member.join(&room, &welcome.welcome, &welcome.tree);
                    let name = is.name();
                    match joined {
                        Ok(epoch) => {
                            self.story.tell(self.now_ms, || {
                                format!(
                                    "{name}  joins {room} in epoch {epoch}, after event {after}"
                                )
                            });
                            self.counts.one("joins by Welcome");
                            let old = is.rooms.remove(&room).unwrap_or_default();
                            // An external Commit under way may still lead further.
                            let staged = old.staged.filter(|staged| staged.opens > epoch);
                            is.rooms.insert(
                                room,
                                ClientRoom {
                                    after,
                                    reads: Reads::after(after),
                                    exists: true,
                                    number: old.number,
                                    unsettled: old.unsettled,
                                    probing: old.probing,
                                    staged,
                                    ..ClientRoom::default()
                                },
                            );
                        }
                        Err(why) => {
                            let hub = self.provider(room.hub());
                            let hostile = hub
                                .is_some_and(|hub| self.plan.providers[usize::from(hub)].hostile);
                            if !hostile {
                                let why = format!("{name} cannot join {room}: {why}");
                                self.history.violated("I22", why);
                            }
                        }
                    }
                }
                Notice::Left { upto } => {
                    if let Some(known) = is.rooms.get_mut(&room)
                        && known.after < upto
                    {
                        known.upto = Some(upto);
                    }
                }
            }
        }
        let is = &mut self.clients[client];
        let mut known = Vec::new();
        for (room, membership) in rooms {
            if let Some(of) = is.rooms.get_mut(&room)
                && of.after == membership.after
            {
                of.upto = membership.upto.or(of.upto);
                of.exists = true;
                known.push((room, membership));
            }
        }
        if news {
            self.acknowledge(client);
        }
        for (room, membership) in known {
            self.reopen(client, &room, &membership);
            self.read_room(client, &room);
        }
    }

    /// The provider has something to say.
    fn learn_note(&mut self, client: usize, note: &Note) {
        let user = self.clients[client].uri.user().clone();
        match note {
            Note::LowStock { .. } => self.counts.one("low stocks told"),
            Note::LastResortUsed => self.counts.one("last-resort packages given"),
            Note::Refilled { room, client } => {
                self.counts.one("refills told");
                self.history.heard_of_refill(&user, room, client);
            }
            // No client here is brought into so many rooms, or waits so long.
            Note::Missed { room } => {
                let why = format!("a notice of {room} found no place");
                self.history.violated("I26", why);
            }
            // Nobody here asks for consent: the operators have said it all.
            Note::ConsentAsked { .. } | Note::ConsentSaid { .. } | Note::ConsentsChanged => {
                let why = format!("{user} is told about consent that nobody asked for");
                self.history.violated("I7", why);
            }
        }
    }
}

/// Whether nobody knows yet what became of a request.
fn is_open(answer: &Answer) -> bool {
    matches!(
        answer,
        Answer::Refused(Refused::TryLater(_) | Refused::PeerBehind { .. })
    )
}

fn is_open_user(answer: &UserAnswer) -> bool {
    matches!(answer, UserAnswer::Refused(UserRefused::TryLater(_)))
}
