//! What can happen next in the small world, and what it leads to.

use super::{
    checks::Broken,
    world::{A, B, Client, Known, Purpose, Request, Stage, Told, World, copy_of},
};
use crate::{
    machine::Ticket,
    room::{
        hub,
        outcome::{Answer, Refused},
    },
    shard::read,
    sim::mls::{Intent, Took, Wish},
    user::outcome::Answer as UserAnswer,
    wire::{
        self, Payload,
        door::{Order, RoomBody, RoomEvent},
        event::{ClientSeq, Hash, LaneCursor, RoomSeq},
    },
};
use std::{fmt, rc::Rc};

/// What a client may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Commit,
    /// A Commit that removes the other member.
    Remove,
    Proposal,
    Message,
    Claim,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    Ask(usize, Wanted),
    RequestArrives(usize),
    AnswerArrives(usize),
    AskAgain(usize),
    Read(usize),
    Checked(Ticket),
    Append,
    Sync,
    Apply,
    FollowerApplies,
    SendBatch,
    BatchArrives,
    AnswerBatch,
    AckArrives,
    RecordAck,
    SendSubmissions,
    SubmissionsArrive,
    AnswerSubmissions,
    SubmittedArrives,
    /// Faults.
    Lose(usize),
    NoRoom,
    CutFanout,
    CutSubmit,
    Crash(u8),
}

const NAMES: [&str; 2] = ["alice", "bob"];

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ask(who, wanted) => write!(f, "{} begins: {wanted:?}", NAMES[*who]),
            Self::RequestArrives(who) => write!(f, "the request of {} arrives", NAMES[*who]),
            Self::AnswerArrives(who) => write!(f, "{} hears the answer", NAMES[*who]),
            Self::AskAgain(who) => write!(f, "{} asks again", NAMES[*who]),
            Self::Read(who) => write!(f, "{} reads the room", NAMES[*who]),
            Self::Checked(Ticket(ticket)) => write!(f, "the check for ticket {ticket} is done"),
            Self::Append => f.write_str("the hub appends what waits"),
            Self::Sync => f.write_str("the hub's log is synced"),
            Self::Apply => f.write_str("the hub applies the next entry"),
            Self::FollowerApplies => f.write_str("the follower takes what waits into its log"),
            Self::SendBatch => f.write_str("the hub sends a batch"),
            Self::BatchArrives => f.write_str("the batch arrives"),
            Self::AnswerBatch => f.write_str("the follower answers the batch"),
            Self::AckArrives => f.write_str("the acknowledgement arrives"),
            Self::RecordAck => f.write_str("the hub records the acknowledgement"),
            Self::SendSubmissions => f.write_str("the follower sends submissions"),
            Self::SubmissionsArrive => f.write_str("the submissions arrive"),
            Self::AnswerSubmissions => f.write_str("the hub answers the submissions"),
            Self::SubmittedArrives => f.write_str("the answer to the submissions arrives"),
            Self::Lose(who) => write!(f, "FAULT: the request or answer of {} is lost", NAMES[*who]),
            Self::NoRoom => {
                f.write_str("FAULT: the batch arrives, the follower's log takes nothing")
            }
            Self::CutFanout => f.write_str("FAULT: the fan-out lane is cut"),
            Self::CutSubmit => f.write_str("FAULT: the submit lane is cut"),
            Self::Crash(kept) => {
                write!(f, "FAULT: the hub crashes, {kept} unsynced entries survive")
            }
        }
    }
}

impl Move {
    /// Whether it happens sooner or later by itself.
    pub(super) fn must(self) -> bool {
        !matches!(
            self,
            Self::Ask(..)
                | Self::RecordAck
                | Self::Lose(_)
                | Self::NoRoom
                | Self::CutFanout
                | Self::CutSubmit
                | Self::Crash(_)
        )
    }
}

impl World {
    /// Everything that can happen next.
    pub(super) fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        for who in [A, B] {
            self.client_moves(who, &mut moves);
        }
        let (hub, follower) = (&self.shards[A], &self.shards[B]);
        moves.extend(self.checks.iter().map(|(ticket, _)| Move::Checked(*ticket)));
        let mut when = |may: bool, then: Move| {
            if may {
                moves.push(then);
            }
        };
        when(hub.may_append(), Move::Append);
        when(hub.synced < hub.len(), Move::Sync);
        when(hub.applied < hub.synced, Move::Apply);
        when(follower.may_append(), Move::FollowerApplies);
        when(self.batch_from().is_some(), Move::SendBatch);
        when(self.submissions().is_some(), Move::SendSubmissions);
        let left = &self.left;
        if let Some(fan) = &self.fan {
            when(!fan.batches.is_empty(), Move::BatchArrives);
            when(!fan.batches.is_empty() && left.no_room > 0, Move::NoRoom);
            let answered = fan.here.front().is_some_and(|here| here.2.is_some());
            when(answered, Move::AnswerBatch);
            when(!fan.acks.is_empty(), Move::AckArrives);
            let record = fan.sender.has_to_record();
            when(record && left.acks > 0, Move::RecordAck);
            when(left.resends > 0, Move::CutFanout);
        }
        if let Some(sub) = &self.sub {
            when(!sub.frames.is_empty(), Move::SubmissionsArrive);
            let judged =
                |answers: &[(Ticket, Option<Answer>)]| answers.iter().all(|of| of.1.is_some());
            let answered = sub.here.front().is_some_and(|here| judged(&here.1));
            when(answered, Move::AnswerSubmissions);
            when(!sub.answers.is_empty(), Move::SubmittedArrives);
            when(left.resends > 0, Move::CutSubmit);
        }
        if left.crashes > 0 {
            let unsynced = (hub.len() - hub.synced) as u8;
            moves.extend((0..=unsynced).map(Move::Crash));
        }
        moves
    }

    fn client_moves(&self, who: usize, moves: &mut Vec<Move>) {
        let client = &self.clients[who];
        if !self.unread(who).is_empty() {
            moves.push(Move::Read(who));
        }
        if let Some(request) = &client.request {
            match request.stage {
                Stage::Asked => moves.push(Move::RequestArrives(who)),
                Stage::AtDesk => {}
                Stage::Answered(_) => moves.push(Move::AnswerArrives(who)),
                Stage::Lost => moves.push(Move::AskAgain(who)),
            }
            let flies = matches!(request.stage, Stage::Asked | Stage::Answered(_));
            if flies && self.left.losses > 0 {
                moves.push(Move::Lose(who));
            }
            return;
        }
        if client.removed {
            return;
        }
        let left = &self.left;
        let epoch = client.member.epoch(&self.names.room);
        let open = epoch.is_some_and(|epoch| epoch.0 < left.epochs) && epoch != client.tried;
        if open && client.commits < left.commits[who] && client.staged.is_none() {
            moves.push(Move::Ask(who, Wanted::Commit));
            if who == A
                && left.removes
                && client
                    .member
                    .roster(&self.names.room)
                    .contains(&self.names.clients[B])
            {
                moves.push(Move::Ask(who, Wanted::Remove));
            }
        }
        if client.proposals < left.proposals[who] {
            moves.push(Move::Ask(who, Wanted::Proposal));
        }
        if client.messages < left.messages[who] {
            moves.push(Move::Ask(who, Wanted::Message));
        }
        if left.claims && !client.claimed {
            moves.push(Move::Ask(who, Wanted::Claim));
        }
    }

    /// Makes one thing happen.
    pub(super) fn play(&mut self, then: Move) -> Result<(), Broken> {
        match then {
            Move::Ask(who, wanted) => self.ask(who, wanted),
            Move::RequestArrives(who) => return self.request_arrives(who),
            Move::AnswerArrives(who) => return self.hear(who),
            Move::AskAgain(who) => self.stage(who, Stage::Asked),
            Move::Read(who) => return self.read(who),
            Move::Checked(ticket) => {
                let place = self.checks.iter().position(|check| check.0 == ticket);
                return place.map_or(Ok(()), |place| self.checked(place));
            }
            Move::Append => Rc::make_mut(&mut self.shards[A]).append(super::world::NOW),
            Move::Sync => {
                let shard = Rc::make_mut(&mut self.shards[A]);
                shard.synced = shard.len();
            }
            Move::Apply => return self.apply(A),
            Move::FollowerApplies => return self.all_in(B),
            Move::SendBatch => return self.send_batch(),
            Move::BatchArrives => return self.batch_arrives(false),
            Move::AnswerBatch => self.answer_batch(),
            Move::AckArrives => return self.ack_arrives(),
            Move::RecordAck => {
                self.left.acks -= 1;
                self.record_ack();
            }
            Move::SendSubmissions => self.send_submissions(),
            Move::SubmissionsArrive => return self.submissions_arrive(),
            Move::AnswerSubmissions => self.answer_submissions(),
            Move::SubmittedArrives => return self.submitted_arrives(),
            Move::Lose(who) => {
                self.left.losses -= 1;
                self.stage(who, Stage::Lost);
            }
            Move::NoRoom => {
                self.left.no_room -= 1;
                return self.batch_arrives(true);
            }
            Move::CutFanout => {
                self.left.resends -= 1;
                self.fan = None;
            }
            Move::CutSubmit => {
                self.left.resends -= 1;
                self.sub = None;
            }
            Move::Crash(kept) => return self.crash(usize::from(kept)),
        }
        Ok(())
    }

    fn stage(&mut self, who: usize, stage: Stage) {
        if let Some(request) = &mut self.clients[who].request {
            let request = Rc::make_mut(request);
            request.again |= matches!(stage, Stage::Lost);
            request.stage = stage;
        }
    }

    fn ask(&mut self, who: usize, wanted: Wanted) {
        let room = self.names.room.clone();
        let other = self.names.clients[1 - who].clone();
        let carol = self.names.carol.clone();
        let client = &mut self.clients[who];
        let mut member = copy_of(&client.member);
        let purpose = match wanted {
            Wanted::Commit | Wanted::Remove => {
                let new = !member.roster(&room).contains(&carol);
                let intent = if wanted == Wanted::Remove {
                    Intent {
                        remove: vec![other],
                        ..Intent::default()
                    }
                } else {
                    let add = client.package.iter().filter(|_| new).cloned().collect();
                    Intent {
                        add,
                        ..Intent::default()
                    }
                };
                client.tried = member.epoch(&room);
                client.commits += 1;
                member.commit(&room, &intent).map(|bundle| {
                    client.staged = Some(bundle.commit.0.clone());
                    Purpose::Commit(bundle)
                })
            }
            Wanted::Proposal => {
                client.proposals += 1;
                member.propose(&room, &Wish::Update).map(Purpose::Propose)
            }
            Wanted::Message => {
                client.messages += 1;
                let number = u64::from(client.messages);
                let message = member.message(&room, 10 * (who as u64 + 1) + number);
                message.map(|message| Purpose::Send(Payload(message), ClientSeq(number)))
            }
            Wanted::Claim => {
                client.claimed = true;
                Some(Purpose::Claim)
            }
        };
        client.member = Known::new(member);
        let promises = Rc::make_mut(&mut self.promises);
        match &purpose {
            Some(Purpose::Commit(bundle)) => promises.sends(&bundle.commit),
            Some(Purpose::Propose(message)) => promises.sends(message),
            Some(Purpose::Send(message, _)) => promises.sends(message),
            Some(Purpose::Claim) | None => {}
        }
        client.request = purpose.map(|purpose| {
            Rc::new(Request {
                purpose,
                stage: Stage::Asked,
                again: false,
            })
        });
    }

    fn hear(&mut self, who: usize) -> Result<(), Broken> {
        let client = &mut self.clients[who];
        let Some(request) = client.request.take() else {
            return Ok(());
        };
        let Stage::Answered(told) = &request.stage else {
            return Ok(());
        };
        match (&request.purpose, told) {
            (Purpose::Commit(bundle), Told::Room(Answer::Refused(_))) => {
                if client
                    .staged
                    .take_if(|staged| *staged == *bundle.commit)
                    .is_some()
                {
                    let mut member = copy_of(&client.member);
                    member.discard(&self.names.room);
                    client.member = Known::new(member);
                }
            }
            (Purpose::Commit(_), Told::Room(Answer::Committed(_)))
            | (Purpose::Propose(_), Told::Room(Answer::Proposed(_)))
            | (Purpose::Send(..), Told::Room(Answer::Sent(_)))
            | (
                Purpose::Propose(_),
                Told::Room(Answer::Refused(
                    Refused::WrongEpoch { .. } | Refused::NotMember | Refused::NotAuthorized,
                )),
            )
            | (
                Purpose::Send(..),
                Told::Room(Answer::Refused(Refused::NotMember | Refused::NotAuthorized)),
            ) => {}
            (Purpose::Claim, Told::User(UserAnswer::Claimed(Ok(clients)))) => {
                client.package = clients.iter().find_map(|of| of.result.clone().ok());
            }
            (purpose, told) => {
                return Err(("answer", format!("{purpose:?} was answered {told:?}")));
            }
        }
        Ok(())
    }

    fn unread(&self, who: usize) -> Vec<RoomEvent> {
        let client = &self.clients[who];
        if client.removed || self.truths[who].last() < client.next {
            return Vec::new();
        }
        let (room, reader) = (&self.names.room, &self.names.clients[who]);
        read::room_events(
            &*self.shards[who],
            room,
            reader,
            LaneCursor::all(RoomSeq(client.next.0 - 1)),
            None,
            Order::InOrder,
        )
        .map(|part| part.events.into_vec())
        .unwrap_or_default()
    }

    /// A client reads everything that it has not read.
    fn read(&mut self, who: usize) -> Result<(), Broken> {
        let room = self.names.room.clone();
        for event in self.unread(who) {
            let client = &mut self.clients[who];
            if event.seq != client.next {
                let why = format!(
                    "{} reads event {} for {}",
                    NAMES[who], event.seq, client.next
                );
                return Err(("I26", why));
            }
            client.next = event.seq.next();
            if event.own.is_some() {
                continue;
            }
            let mut member = copy_of(&client.member);
            let is_commit = matches!(event.body, RoomBody::Commit { .. });
            let staged = client.staged.take_if(|_| is_commit);
            let own = matches!((&event.body, &staged), (RoomBody::Commit { commit, .. }, Some(staged)) if commit.0 == *staged);
            let took = if own {
                member.confirm(&room).map(Took::Commit)
            } else {
                member.take(&room, &event.body)
            };
            client.member = Known::new(member);
            match took.map_err(|why| {
                (
                    "I2",
                    format!("{} cannot take event {}: {why}", NAMES[who], event.seq),
                )
            })? {
                Took::Commit(epoch) => {
                    let with = client.member.authenticator(&room).unwrap_or_default();
                    Rc::make_mut(&mut self.promises).entered(epoch, with)?;
                }
                Took::Removed => {
                    client.removed = true;
                    return Ok(());
                }
                Took::Message(_) | Took::Proposals | Took::BeforeJoining => {}
            }
        }
        Ok(())
    }

    /// The hub's process ends and begins again: it has applied what it had applied, and nobody waits.
    fn crash(&mut self, kept: usize) -> Result<(), Broken> {
        self.left.crashes -= 1;
        let shard = Rc::make_mut(&mut self.shards[A]);
        self.signs.before_sync = shard.synced < shard.len() && kept == 0;
        self.signs.before_answer = shard.applied < shard.synced
            || self.clients.iter().flatten_requests().any(|request| {
                matches!(request.stage, Stage::Answered(_))
                    && !matches!(request.purpose, Purpose::Claim)
            });
        let (applied, before) = (shard.applied, shard.folds());
        shard.crash(kept);
        self.checks.clear();
        (self.fan, self.sub) = (None, None);
        for who in [A, B] {
            let to_follower = who == B
                && self.clients[who]
                    .request
                    .as_ref()
                    .is_some_and(|request| matches!(request.purpose, Purpose::Send(..)));
            if !to_follower {
                self.stage(who, Stage::Lost);
            }
        }
        self.truths[A] = Rc::default();
        for _ in 0..applied {
            self.apply(A)?;
        }
        if self.shards[A].folds() == before {
            Ok(())
        } else {
            Err((
                "I11",
                "the log makes something else of the folds".to_owned(),
            ))
        }
    }

    /// What must hold in every state.
    pub(super) fn check(&self) -> Result<(), Broken> {
        for (commit, accepted) in &self.promises.commits {
            let holds = self.shards[A].durable().any(|command| {
                matches!(command, crate::record::Command::Hub(_, command)
                    if matches!(&**command, hub::Command::Commit(of) if Hash::of(&of.commit) == *commit))
            });
            if *accepted && !holds {
                return Err(("I2", "an acknowledged Commit is not in the log".to_owned()));
            }
        }
        if let Some(room) = self.shards[A].hub.fold().room()
            && room.epoch().0 > self.left.epochs
        {
            let why = format!("epoch {} was opened", room.epoch());
            return Err(("I1", why));
        }
        Ok(())
    }

    /// What must hold when nothing is left to do: everybody has everything.
    pub(super) fn check_end(&self) -> Result<(), Broken> {
        let waits = |why: &str| Err(("I15", why.to_owned()));
        if self.clients.iter().any(|client| client.request.is_some()) {
            return waits("a request is never answered");
        }
        if !self.shards.iter().all(|shard| shard.is_idle()) {
            return waits("a desk still waits");
        }
        let last = self.truths[A].last();
        for who in [A, B] {
            let client = &self.clients[who];
            if !client.removed && client.next != RoomSeq(last.0 + 1) {
                let why = format!("{} has read up to {} of {last}", NAMES[who], client.next);
                return Err(("I15", why));
            }
            if client.staged.is_some() && !client.removed {
                return waits("a Commit that was made has no outcome");
            }
        }
        let waiting = self.shards[B]
            .derived
            .links
            .submissions(&self.names.providers[A]);
        if waiting.is_some_and(|waiting| !waiting.is_empty()) {
            return Err(("I25", "a submission has no verdict".to_owned()));
        }
        let room = self.shards[A].hub.fold().room();
        let epoch = room.map(hub::Room::epoch);
        if self.clients[A].member.epoch(&self.names.room) != epoch {
            return waits("alice is not in the room's epoch");
        }
        Ok(())
    }

    /// Names the state: equal names, equal futures.
    pub(super) fn hash(&self) -> u128 {
        let mut all = Vec::with_capacity(4_096);
        for shard in &self.shards {
            shard.hash(&mut all);
        }
        for client in &self.clients {
            client.hash(&mut all);
        }
        let tickets = self.checks.iter().map(|(ticket, check)| {
            let on = match &**check {
                crate::room::desk::Check::Bundle { on, .. } => Some((on.epoch, on.pending)),
                crate::room::desk::Check::Proposals { on, .. } => Some((*on, Hash::default())),
                crate::room::desk::Check::Expel(expel) => Some((expel.on, Hash::default())),
                crate::room::desk::Check::Create { .. }
                | crate::room::desk::Check::Admit { .. }
                | crate::room::desk::Check::Seal(_)
                | crate::room::desk::Check::MintCode { .. } => None,
            };
            (ticket, on)
        });
        let mut text = format!("{:?}", tickets.collect::<Vec<_>>());
        if let Some(fan) = &self.fan {
            for batch in &fan.batches {
                all.extend_from_slice(&wire::canonical(&**batch));
            }
            text += &format!(
                "{:?}{:?}{:?}{:?}",
                fan.sender, fan.taken, fan.here, fan.acks
            );
        }
        if let Some(sub) = &self.sub {
            for frame in &sub.frames {
                all.extend_from_slice(&wire::canonical(&**frame));
            }
            for frame in &sub.here {
                all.extend_from_slice(&wire::canonical(&frame.0));
                text += &format!("{:?}", frame.1);
            }
            text += &format!("|{:?}{:?}", sub.sender, sub.answers);
        }
        text += &format!("{:?}", self.left);
        self.promises.hash(&mut all);
        all.extend(text.bytes());
        let Hash(hash) = Hash::of(&all);
        let mut name = [0; 16];
        name.copy_from_slice(&hash[..16]);
        u128::from_be_bytes(name)
    }
}

impl Client {
    fn hash(&self, into: &mut Vec<u8>) {
        into.extend(self.member.hash.0);
        if let Some(request) = &self.request {
            let bytes = match &request.purpose {
                Purpose::Commit(bundle) => &bundle.commit[..],
                Purpose::Propose(bytes) => &bytes[..],
                Purpose::Send(message, _) => &message[..],
                Purpose::Claim => b"claim",
            };
            into.extend(Hash::of(bytes).0);
            into.extend(format!("{:?}{}", request.stage, request.again).bytes());
        }
        for bytes in [
            self.staged.as_ref(),
            self.package.as_ref().map(|package| &package.0),
        ] {
            into.extend(bytes.map_or([0; 32], |bytes| Hash::of(bytes).0));
        }
        into.extend(format!("{:?}{:?}", self.next, self.tried).bytes());
        into.extend([
            self.commits,
            self.proposals,
            self.messages,
            u8::from(self.claimed),
            u8::from(self.removed),
        ]);
    }
}

/// The requests under way.
trait Requests<'a> {
    fn flatten_requests(self) -> impl Iterator<Item = &'a Rc<Request>>;
}

impl<'a, I: Iterator<Item = &'a Client>> Requests<'a> for I {
    fn flatten_requests(self) -> impl Iterator<Item = &'a Rc<Request>> {
        self.filter_map(|client| client.request.as_ref())
    }
}
