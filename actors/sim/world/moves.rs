//! What clients do of their own accord: the moves of a plan, played with what the client knows at that time.

use super::{
    World,
    client::{ClientRoom, Purpose, Staged, Unsettled},
};
use crate::sim::{
    history::codes::Presented,
    mls::{Intent, Wish},
    plan::{Flaw, Intrusion, Move},
    post::ClientAsk,
};
use crate::{
    ids::{ClientUri, RoomUri, UserUri},
    limits::MESSAGES_REMEMBERED_PER_EPOCH_MAX,
    mls::{check::bundle::Bundle, tree::container::compress},
    wire::{
        BText, BVec, Payload,
        claim::{ClaimId, ClaimProof, ClaimRequest, ClaimTerms},
        event::Epoch,
        joining::GroupInfoRequest,
        room::{Beginning, Request},
        tree::{TreeContainer, TreeKind},
        version::Level,
    },
};
use bytes::Bytes;
use std::sync::Arc;

impl World {
    pub(super) fn client_moves(&mut self, client: usize, what: Move) {
        if self.calm || self.clients.get(client).is_none_or(|is| is.deleted) {
            return;
        }
        match what {
            Move::Create => self.create_room(client),
            Move::CreateTwin => self.create_twin(client),
            Move::Invite(users) => self.invite(client, usize::from(users)),
            Move::Remove => {
                let room = self.quiet_room(client);
                if let Some(room) = room
                    && let Some(gone) = self.other_member(client, &room)
                {
                    let intent = Intent {
                        remove: vec![gone],
                        ..Intent::default()
                    };
                    self.commit(client, &room, &intent, None);
                }
            }
            Move::Update => {
                if let Some(room) = self.quiet_room(client) {
                    self.commit(client, &room, &Intent::default(), None);
                }
            }
            Move::ProposeUpdate => self.propose(client, |_, _, _| Some(Wish::Update)),
            Move::ProposeRemove => self.propose(client, |world, client, room| {
                world.other_member(client, room).map(Wish::Remove)
            }),
            Move::ProposeLeave => self.propose(client, |_, _, _| Some(Wish::Leave)),
            Move::Enter => self.enter(client),
            Move::MakeCode(kind) => self.make_code(client, kind),
            Move::EndCode => self.end_code(client),
            Move::JoinByCode => self.join_by_code(client),
            Move::GuessCodes(count) => self.guess_codes(client, count),
            Move::ReInit => self.reinit(client),
            Move::Quarrel => self.quarrel(client),
            Move::Intrude(intrusion) => self.intrude(client, intrusion),
            Move::Send(count) => self.write(client, u64::from(count)),
            Move::SendAgain => self.write_again(client),
            Move::Upload(count) => {
                let now = self.client_time();
                let member = &mut self.clients[client].member;
                let packages = (0..count).map(|_| member.key_package(now)).collect();
                self.ask(client, Purpose::Upload, ClientAsk::Upload(packages));
            }
            Move::Flawed(flaw) => {
                if let Some(room) = self.quiet_room(client) {
                    let contradict = flaw == Flaw::Contradiction;
                    let possible = self.clients[client].member.contradicts(&room);
                    let intent = Intent {
                        contradict: contradict && possible,
                        ..Intent::default()
                    };
                    let flaw = Some(flaw).filter(|_| !contradict || possible);
                    self.commit(client, &room, &intent, flaw);
                }
            }
            Move::Claim => {
                let users = self.some_users(client, 2, &[]);
                self.claim(client, None, users);
            }
            Move::DeleteUser => {
                let user = self.clients[client].uri.user().clone();
                for is in self.clients.iter_mut() {
                    if *is.uri.user() == user {
                        is.deleted = true;
                        is.requests.clear();
                    }
                }
                self.counts.one("users deleted");
                self.ask(client, Purpose::Delete, ClientAsk::Delete(user));
            }
        }
    }

    /// A room in which a client has a group.
    pub(super) fn some_room(&mut self, client: usize) -> Option<RoomUri> {
        let is = &self.clients[client];
        let rooms: Vec<RoomUri> = is
            .rooms
            .iter()
            .filter(|(room, known)| known.exists && is.member.epoch(room).is_some())
            .map(|(room, _)| room.clone())
            .collect();
        self.dice.pick(&rooms).cloned()
    }

    /// A room in which a client may commit: it has no Commit of its own under way.
    pub(super) fn quiet_room(&mut self, client: usize) -> Option<RoomUri> {
        let room = self.some_room(client)?;
        let known = self.clients[client].rooms.get(&room)?;
        (known.staged.is_none() && !known.inviting).then_some(room)
    }

    fn other_member(&mut self, client: usize, room: &RoomUri) -> Option<ClientUri> {
        let is = &self.clients[client];
        let roster = is.member.roster(room);
        let others: Vec<ClientUri> = roster
            .into_iter()
            .filter(|other| *other != is.uri)
            .collect();
        self.dice.pick(&others).cloned()
    }

    fn create_room(&mut self, client: usize) {
        let number = self.fresh();
        let is = &mut self.clients[client];
        let hub = is.uri.provider().clone();
        let Ok(room) = format!("mimi://{hub}/r/{number}").parse::<RoomUri>() else {
            return;
        };
        let (group_info, tree) = is.member.found(&room);
        let beginning = Beginning {
            group_info: Payload(group_info),
            tree: founding_tree(number, tree),
        };
        let provider = is.provider;
        let named = self.keeps_names(provider).then(|| beginning.clone());
        self.clients[client].rooms.insert(
            room.clone(),
            ClientRoom {
                beginning: named,
                ..ClientRoom::default()
            },
        );
        let ask = ClientAsk::To(room.clone(), Request::Create(beginning));
        self.ask(client, Purpose::Create(room), ask);
    }

    /// Asks for another room with the group of one that there is: it must be refused.
    fn create_twin(&mut self, client: usize) {
        let number = self.fresh();
        let is = &self.clients[client];
        let rooms = is.rooms.values().filter(|known| known.exists);
        let begun: Vec<Beginning> = rooms.filter_map(|known| known.beginning.clone()).collect();
        let twin = format!("mimi://{}/r/twin{number}", is.uri.provider()).parse::<RoomUri>();
        let (Some(beginning), Ok(room)) = (self.dice.pick(&begun).cloned(), twin) else {
            return;
        };
        self.history.twins.insert(room.clone());
        self.counts.one("rooms asked for with the group of another");
        let ask = ClientAsk::To(room.clone(), Request::Create(beginning));
        self.ask(client, Purpose::CreateTwin(room), ask);
    }

    /// Users, not of `except`, of whom a client may want KeyPackages.
    fn some_users(&mut self, client: usize, count: usize, except: &[UserUri]) -> Vec<UserUri> {
        let own = self.clients[client].uri.user().clone();
        let mut users: Vec<UserUri> = self
            .clients
            .iter()
            .map(|other| other.uri.user().clone())
            .filter(|user| *user != own && !except.contains(user))
            .collect();
        users.dedup();
        let mut chosen = Vec::new();
        while chosen.len() < count && !users.is_empty() {
            let place = self.dice.place(users.len());
            chosen.push(users.swap_remove(place));
        }
        chosen
    }

    fn invite(&mut self, client: usize, count: usize) {
        let Some(room) = self.quiet_room(client) else {
            return;
        };
        let members: Vec<UserUri> = self.clients[client]
            .member
            .roster(&room)
            .iter()
            .map(|member| member.user().clone())
            .collect();
        let users = self.some_users(client, count, &members);
        if users.is_empty() {
            return;
        }
        if let Some(known) = self.clients[client].rooms.get_mut(&room) {
            known.inviting = true;
        }
        self.claim(client, Some(room), users);
    }

    fn claim(&mut self, client: usize, room: Option<RoomUri>, users: Vec<UserUri>) {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.dice.number().to_be_bytes());
        let id = ClaimId(id);
        let mut terms = ClaimTerms::new(self.clients[client].uri.user().clone());
        terms.room.clone_from(&room);
        // Nothing is signed in this world; a provider knows its clients' keys all the same.
        let key = super::client::device_key(&self.clients[client].uri);
        let claim = ClaimRequest {
            id,
            terms,
            users: BVec::first_max(users),
            proof: ClaimProof {
                key,
                ..ClaimProof::default()
            },
        };
        let tries = 0;
        let purpose = Purpose::Claim { room, id, tries };
        self.ask(client, purpose, ClientAsk::Claim(claim));
    }

    /// Makes a Commit and sends it.
    pub(super) fn commit(
        &mut self,
        client: usize,
        room: &RoomUri,
        intent: &Intent,
        flaw: Option<Flaw>,
    ) {
        let is = &mut self.clients[client];
        let Some(epoch) = is.member.epoch(room) else {
            return;
        };
        let Some(bundle) = is.member.commit(room, intent) else {
            return;
        };
        let mut bundle = is.member.repack(room, bundle, container(epoch, client));
        if let Some(flaw) = flaw {
            Self::flaw(&mut bundle, flaw);
            self.history.flawed_bundle(&bundle);
        }
        if let Some(known) = is.rooms.get_mut(room) {
            known.staged = Some(Staged {
                commit: bundle.commit.0.clone(),
                opens: epoch.next(),
                enters: false,
            });
        }
        self.history.committed(room, epoch, &bundle);
        let name = is.name();
        self.story.tell(self.now_ms, || {
            let adds = intent.add.len();
            let removes = intent.remove.len();
            let wrong = flaw.map_or(String::new(), |flaw| format!(", flawed: {flaw:?}"));
            format!(
                "{name}  commits in epoch {epoch} of {room}: {adds} added, {removes} removed{wrong}"
            )
        });
        let purpose = Purpose::Commit {
            room: room.clone(),
            commit: bundle.commit.0.clone(),
            flawed: flaw.is_some(),
            opened: self.clients[client]
                .rooms
                .get(room)
                .map_or(Epoch(0), |known| known.opened),
            entry: false,
        };
        self.ask(client, purpose, commit(room, bundle));
    }

    /// Enters a room of another client of the user, or one that it is in already, with what a member tells.
    fn enter(&mut self, client: usize) {
        let user = self.clients[client].uri.user().clone();
        let told = self.told_of(client, |world, room, teller| {
            let quiet = world.clients[client].rooms.get(room);
            let quiet = quiet.is_none_or(|known| known.staged.is_none() && !known.inviting);
            quiet && *world.clients[teller].uri.user() == user
        });
        if let Some((room, teller)) = told {
            if self.dice.hits(250) {
                // Without the lease, unless it has one of before.
                let key = self.fresh();
                return self.enter_as_told(client, &room, teller, None, key);
            }
            self.ask_to_enter(client, &room, teller, None, None);
        }
    }

    /// Asks for the lease without which nobody enters.
    pub(super) fn ask_to_enter(
        &mut self,
        client: usize,
        room: &RoomUri,
        teller: usize,
        intruder: Option<Option<ClientUri>>,
        presented: Option<Presented>,
    ) {
        let key = self.fresh();
        let mut id = [0; 16];
        id[..8].copy_from_slice(&key.to_be_bytes());
        let mut request = GroupInfoRequest {
            room: room.clone(),
            joiner: self.clients[client].uri.clone(),
            id,
            time: self.client_time(),
            ciphersuite: 1,
            hpke_key: Payload::from(vec![1]),
            signature_key: Payload::from(key.to_be_bytes().to_vec()),
            container: TreeKind::Full,
            wait_ms: 1_000,
            code: presented.as_ref().map(|presented| presented.code.clone()),
            passphrase: presented
                .as_ref()
                .and_then(|presented| presented.passphrase.map(BText::clipped)),
            signature: Payload::default(),
            envelope: Payload::default(),
            before: Payload::default(),
        };
        request.signature = crate::sim::mls::sign_request(&request);
        let purpose = Purpose::GroupInfo {
            room: room.clone(),
            teller,
            intruder,
            key,
            presented,
        };
        self.counts.one("requests for the GroupInfo");
        let ask = ClientAsk::To(request.room.clone(), Request::GroupInfo(Arc::new(request)));
        self.ask(client, purpose, ask);
    }

    fn intrude(&mut self, client: usize, intrusion: Intrusion) {
        let uri = self.clients[client].uri.clone();
        let outside = |world: &Self, room: &RoomUri, teller: usize| {
            let roster = world.clients[teller].member.roster(room);
            let staged = world.clients[client].rooms.get(room);
            let known = roster.iter().any(|other| other.user() == uri.user());
            let stranger = intrusion == Intrusion::Stranger;
            staged.is_none_or(|known| known.staged.is_none()) && known != stranger
        };
        let Some((room, teller)) = self.told_of(client, outside) else {
            return;
        };
        let roster = self.clients[teller].member.roster(&room);
        let others: Vec<ClientUri> = roster.into_iter().filter(|other| *other != uri).collect();
        let victim = match intrusion {
            Intrusion::Stranger => None,
            Intrusion::RemovesAnother => self.dice.pick(&others).cloned(),
        };
        if intrusion == Intrusion::RemovesAnother && victim.is_none() {
            return;
        }
        if intrusion == Intrusion::RemovesAnother {
            return self.ask_to_enter(client, &room, teller, Some(victim), None);
        }
        let key = self.fresh();
        self.enter_as_told(client, &room, teller, Some(victim), key);
    }

    /// A room of which somebody can tell, and who.
    pub(super) fn told_of(
        &mut self,
        client: usize,
        fits: impl Fn(&Self, &RoomUri, usize) -> bool,
    ) -> Option<(RoomUri, usize)> {
        let mut told = Vec::new();
        for (teller, is) in self.clients.iter().enumerate() {
            let rooms = is.rooms.iter().filter(|(_, known)| known.exists);
            for (room, _) in rooms.filter(|(room, _)| is.member.entrance(room).is_some()) {
                if !is.deleted && (teller != client || is.member.epoch(room).is_some()) {
                    told.push((room.clone(), teller));
                }
            }
        }
        told.retain(|(room, teller)| fits(self, room, *teller));
        self.dice.pick(&told).cloned()
    }

    /// Makes an external Commit and sends it; an intruder's is not to be taken, and may have a victim.
    pub(super) fn enter_as_told(
        &mut self,
        client: usize,
        room: &RoomUri,
        teller: usize,
        intruder: Option<Option<ClientUri>>,
        key: u64,
    ) {
        let teller = &self.clients[teller].member;
        let told = teller.entrance(room).zip(teller.epoch(room));
        let Some((entrance, epoch)) = told else {
            return;
        };
        let flawed = intruder.is_some();
        let victim = intruder.flatten();
        let roster = teller.roster(room);
        if victim.as_ref().is_some_and(|gone| !roster.contains(gone)) {
            // It was removed meanwhile: nothing would be wrong with this Commit.
            return;
        }
        let is = &mut self.clients[client];
        let Some(bundle) = is.member.entry(room, &entrance, victim.as_ref(), key) else {
            return;
        };
        if flawed {
            self.history.flawed_bundle(&bundle);
        }
        let known = is.rooms.entry(room.clone()).or_default();
        known.staged = Some(Staged {
            commit: bundle.commit.0.clone(),
            opens: epoch.next(),
            enters: true,
        });
        let opened = known.opened;
        self.history.committed(room, epoch, &bundle);
        let name = is.name();
        self.story.tell(self.now_ms, || {
            let wrong = if flawed { ", which it may not" } else { "" };
            format!("{name}  enters {room} in epoch {epoch} by an external Commit{wrong}")
        });
        let purpose = Purpose::Commit {
            room: room.clone(),
            commit: bundle.commit.0.clone(),
            flawed,
            opened,
            entry: true,
        };
        self.counts.one(if flawed {
            "external Commits that may not be"
        } else {
            "external Commits"
        });
        self.ask(client, purpose, commit(room, bundle));
    }

    /// Two members propose to remove one another.
    fn quarrel(&mut self, client: usize) {
        let Some(room) = self.some_room(client) else {
            return;
        };
        let other = self.other_member(client, &room);
        let other = other.and_then(|uri| self.clients.iter().position(|other| other.uri == uri));
        if let Some(other) = other {
            let (one, another) = (
                self.clients[client].uri.clone(),
                self.clients[other].uri.clone(),
            );
            self.propose_in(client, room.clone(), &Wish::Remove(another));
            self.propose_in(other, room, &Wish::Remove(one));
        }
    }

    fn propose(
        &mut self,
        client: usize,
        wish: impl Fn(&mut Self, usize, &RoomUri) -> Option<Wish>,
    ) {
        let Some(room) = self.some_room(client) else {
            return;
        };
        if let Some(wish) = wish(self, client, &room) {
            self.propose_in(client, room, &wish);
        }
    }

    fn propose_in(&mut self, client: usize, room: RoomUri, wish: &Wish) {
        let Some(message) = self.clients[client].member.propose(&room, wish) else {
            return;
        };
        self.history.proposed(&room, &message);
        let proposals = BVec::from([Payload(message.clone())]);
        let ask = ClientAsk::To(room.clone(), Request::Propose(proposals));
        self.ask(client, Purpose::Propose { room, message }, ask);
    }

    /// Writes messages to a room, which go out as soon as they may.
    fn write(&mut self, client: usize, count: u64) {
        let Some(room) = self.some_room(client) else {
            return;
        };
        let is_heard = self.level_of(&room) >= Level::SECOND;
        for _ in 0..count {
            let content = self.fresh();
            let is = &mut self.clients[client];
            let Some(bytes) = is.member.message(&room, content) else {
                return;
            };
            let Some(known) = is.rooms.get_mut(&room) else {
                return;
            };
            known.number += 1;
            self.history.wrote(client, &room, content, &bytes);
            let message = Unsettled {
                content,
                bytes,
                queued: false,
                is_heard,
                again: false,
            };
            known.unsettled.insert(known.number, message);
        }
        self.send_unsettled(client, &room);
    }

    /// Sends a message that was accepted once more, under the next number: it must not be in the room twice.
    fn write_again(&mut self, client: usize) {
        let is = &self.clients[client];
        let heard = is.rooms.iter().filter(|(_, known)| known.heard.is_some());
        let heard: Vec<RoomUri> = heard.map(|(room, _)| room.clone()).collect();
        let Some(room) = self.dice.pick(&heard).cloned() else {
            return;
        };
        let Some(known) = self.clients[client].rooms.get_mut(&room) else {
            return;
        };
        let Some((number, message)) = &known.heard else {
            return;
        };
        if known.number.saturating_sub(*number) >= MESSAGES_REMEMBERED_PER_EPOCH_MAX as u64 {
            return;
        }
        let message = Unsettled {
            queued: false,
            is_heard: false,
            again: true,
            ..message.clone()
        };
        known.number += 1;
        known.unsettled.insert(known.number, message);
        self.counts.one("messages sent under another number");
        self.send_unsettled(client, &room);
    }
}

/// The container that a client sends in an epoch: members of one room use all there are.
fn container(epoch: Epoch, client: usize) -> TreeKind {
    let turn = usize::try_from(epoch.0).unwrap_or_default() + client;
    match turn % 4 {
        0 => TreeKind::Full,
        1 => TreeKind::Delta,
        2 => TreeKind::Zstd,
        _ => TreeKind::DistributionService,
    }
}

/// The first tree of a room, in one of the two containers that hold all of it.
fn founding_tree(room: u64, tree: Bytes) -> TreeContainer {
    if room.is_multiple_of(2) {
        TreeContainer::Full(Payload(tree))
    } else {
        TreeContainer::Zstd(compress(&tree).into())
    }
}

fn commit(room: &RoomUri, bundle: Bundle) -> ClientAsk {
    ClientAsk::To(room.clone(), Request::Commit(bundle))
}
