//! What was asked, answered, applied and delivered, and whether that may be: the checkers.
//!
//! Written at the edges of the world, never by the code under test. What anybody can tell is a fact for the ledger of
//! `mimi-history`, and what a log says in its order is for its chain: they ask the same of real runs. Here are, besides, the
//! checks that need a world in which everything is seen. Cheap checks are made with each event; the rest, at the end, in
//! `judge`. Names are those of the invariants: `I1` one Commit for each epoch, and so on.

pub(super) mod ages;
pub(super) mod codes;
mod expelled;
pub(super) mod leases;
pub(super) mod packages;
pub(super) mod times;

use self::{ages::Ages, codes::Codes, leases::Held, packages::Packages, times::Times};
use super::{
    counts::Counts,
    facts::{Here, Place, epoch_of, event_of, message_of, proposals_of, seq_of},
};
use crate::{
    ids::{ClientUri, RoomUri, UserUri},
    mls::check::{bundle::Bundle, proposal::ProposalKind},
    room::{desk::Checked, hub},
    wire::{
        Payload,
        answer::Accepted,
        claim::ClaimId,
        door::{RoomBody, RoomEvent},
        event::{Body, Epoch, Hash, Item, LinkSeq, RoomSeq},
        link::{Ack, Fanout},
        post::{Departed, WelcomeNotice},
    },
};
use bytes::Bytes;
use mimi_history::{At, Chain, Fact, Invariant, Judge, Ledger, RoomFacts};
use std::collections::{BTreeMap, BTreeSet};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which, for example `I3`.
    pub invariant: &'static str,
    /// How.
    pub why: String,
}

/// Where the checkers of `mimi-history` say what they found.
struct Marks<'a> {
    violation: &'a mut Option<Violation>,
    occasions: &'a mut Counts,
}

impl Judge for Marks<'_> {
    fn demand(
        &mut self,
        invariant: Invariant,
        holds: bool,
        _: impl FnOnce() -> Vec<u64>,
        why: impl FnOnce() -> String,
    ) {
        let invariant = invariant.name();
        self.occasions.one(invariant);
        if !holds && self.violation.is_none() {
            let why = why();
            *self.violation = Some(Violation { invariant, why });
        }
    }
}

/// A message that somebody wrote.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) client: usize,
    pub(super) room: RoomUri,
    id: Hash,
}

/// A room, as the log of its hub tells.
#[derive(Debug, Default)]
pub(super) struct RoomHistory {
    chain: Chain<ClientUri, Bytes>,
    /// Users with clients that came in by themselves or were added, gone or not.
    pub(super) users: BTreeSet<UserUri>,
    /// Who asked in this epoch to leave.
    leaving: BTreeSet<ClientUri>,
    /// Who proposed in this epoch to remove whom, by leaf.
    removals: BTreeMap<Bytes, (u32, u32)>,
    /// The leaves that the hub proposes to remove.
    expelled: BTreeSet<u32>,
    /// Whether a ReInit has ended its group.
    ended: bool,
}

impl RoomHistory {
    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.chain.epoch().0)
    }

    pub(super) fn last_seq(&self) -> RoomSeq {
        RoomSeq(self.chain.last().0)
    }

    pub(super) fn has(&self, client: &ClientUri) -> bool {
        self.chain.roster().members().any(|member| member == client)
    }

    fn has_user(&self, user: &UserUri) -> bool {
        let mut members = self.chain.roster().members();
        members.any(|member| member.user() == user)
    }
}

/// A batch: its last item, and its events.
type Sent = (LinkSeq, Vec<(RoomUri, RoomSeq)>);

/// Everything that the checkers remember.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) violation: Option<Violation>,
    /// How often each invariant was put to the test.
    pub(super) occasions: Counts,
    /// What anybody told.
    pub(super) ledger: Ledger<Here>,
    pub(super) messages: BTreeMap<u64, Message>,
    pub(super) rooms: BTreeMap<RoomUri, RoomHistory>,
    welcomes: BTreeMap<Hash, Hash>,
    accepted_bundles: BTreeSet<Hash>,
    flawed_parts: BTreeSet<Hash>,
    /// Hostile bytes: none of them may get anywhere.
    forged: BTreeSet<Hash>,
    pub(super) forged_claims: BTreeSet<ClaimId>,
    pub(super) packages: Packages,
    pub(super) deleted: BTreeSet<UserUri>,
    /// Who was deleted while it was in a room.
    departing: BTreeSet<Departed>,
    /// Rooms that were asked for with the group of another.
    pub(super) twins: BTreeSet<RoomUri>,
    cursors: BTreeMap<(ClientUri, RoomUri, RoomSeq), RoomSeq>,
    batches: BTreeMap<(u8, u16, u8), LinkSeq>,
    /// Batches that are not acknowledged, by lane and shard: the last item, and which events.
    sent: BTreeMap<(u64, u16), Vec<Sent>>,
    /// The last event that a follower has taken for good.
    pub(super) followed: BTreeMap<(u8, RoomUri), RoomSeq>,
    contested: BTreeMap<(RoomUri, Epoch), u32>,
    /// Who has the lease of a room.
    pub(super) leases: BTreeMap<RoomUri, Held>,
    pub(super) codes: Codes,
    pub(super) ages: Ages,
    pub(super) times: Times,
    pub(super) counts: Counts,
}

impl History {
    /// Notes the first promise that was broken.
    pub(super) fn violated(&mut self, invariant: &'static str, why: String) {
        self.violation.get_or_insert(Violation { invariant, why });
    }

    fn tested(&mut self, invariant: &'static str) {
        self.occasions.one(invariant);
    }

    pub(super) fn demand(
        &mut self,
        invariant: &'static str,
        holds: bool,
        why: impl FnOnce() -> String,
    ) {
        self.tested(invariant);
        if !holds {
            self.violated(invariant, why());
        }
    }

    fn marks(
        &mut self,
    ) -> (
        &mut Ledger<Here>,
        &mut BTreeMap<RoomUri, RoomHistory>,
        Marks<'_>,
    ) {
        let marks = Marks {
            violation: &mut self.violation,
            occasions: &mut self.occasions,
        };
        (&mut self.ledger, &mut self.rooms, marks)
    }

    /// Has a fact compared with all that were told before it.
    pub(super) fn see(&mut self, fact: Fact<'_, Here>) {
        self.see_at(At::default(), fact);
    }

    pub(super) fn see_at(&mut self, at: At, fact: Fact<'_, Here>) {
        let (ledger, _, mut marks) = self.marks();
        ledger.see(at, fact, &mut marks);
    }

    /// Somebody wrote a message.
    pub(super) fn wrote(&mut self, client: usize, room: &RoomUri, content: u64, bytes: &Bytes) {
        let id = message_of(bytes);
        let message = Message {
            client,
            room: room.clone(),
            id,
        };
        self.messages.insert(content, message);
        self.see(Fact::Sent { room, id });
    }

    /// Somebody is about to send a Proposal.
    pub(super) fn proposed(&mut self, room: &RoomUri, message: &Bytes) {
        let id = proposals_of([&message[..]]);
        self.see(Fact::Sent { room, id });
    }

    /// The sender was told that its message is event `seq`.
    pub(super) fn accepted(&mut self, content: u64, room: &RoomUri, seq: RoomSeq) {
        self.verdict(content, room, Some(seq));
    }

    /// The sender was told that its message is not, and never will be.
    pub(super) fn refused(&mut self, content: u64) {
        if let Some(message) = self.messages.get(&content) {
            let room = message.room.clone();
            self.verdict(content, &room, None);
        }
    }

    fn verdict(&mut self, content: u64, room: &RoomUri, seq: Option<RoomSeq>) {
        let Some(message) = self.messages.get(&content).map(|message| message.id) else {
            return;
        };
        let seq = seq.map(seq_of);
        self.see(Fact::Word { room, message, seq });
    }

    /// A member has read a message.
    pub(super) fn read(&mut self, client: &ClientUri, room: &RoomUri, seq: RoomSeq, content: u64) {
        let Some(event) = self.messages.get(&content).map(|message| message.id) else {
            return self.violated("I13", format!("nobody wrote message {content}"));
        };
        let seq = seq_of(seq);
        self.see(Fact::Numbered { room, seq, event });
        self.see(Fact::Took {
            client,
            room,
            seq,
            event,
        });
    }

    /// A client read an event.
    pub(super) fn delivered(&mut self, client: usize, room: &RoomUri, event: &RoomEvent) {
        self.see(Fact::Numbered {
            room,
            seq: seq_of(event.seq),
            event: event_of(&event.body),
        });
        let last = self.rooms.get(room).map(RoomHistory::last_seq);
        self.demand("I13", last.is_some_and(|last| event.seq <= last), || {
            format!(
                "client {client} read event {} of {room}, which the hub never made",
                event.seq
            )
        });
        if let RoomBody::Commit { epoch, commit } = &event.body {
            self.opens(room, *epoch, Hash::of(commit));
        }
    }

    /// The log, an answer or an event says which Commit opened an epoch.
    fn opens(&mut self, room: &RoomUri, epoch: Epoch, commit: Hash) {
        let opened = epoch_of(epoch);
        self.see(Fact::Opened {
            room,
            epoch: opened,
            commit,
        });
        let forged = self.forged.contains(&commit);
        self.demand("I21", !forged, || {
            format!("a forged Commit opened epoch {epoch} of {room}")
        });
    }

    /// A client is about to send a bundle.
    pub(super) fn committed(&mut self, room: &RoomUri, epoch: Epoch, bundle: &Bundle) {
        let id = Hash::of(&bundle.commit);
        self.see(Fact::Sent { room, id });
        if let Some(welcome) = &bundle.welcome {
            self.welcomes.insert(Hash::of(welcome), id);
        }
        let contenders = self.contested.entry((room.clone(), epoch)).or_default();
        *contenders += 1;
        if *contenders == 2 {
            self.counts.one("contested epochs");
        }
    }

    /// A bundle that must be refused: its parts must not be found anywhere.
    pub(super) fn flawed_bundle(&mut self, bundle: &Bundle) {
        self.flawed_parts.insert(Hash::of(&bundle.commit));
    }

    /// A committer was told that its bundle was accepted.
    pub(super) fn commit_acked(&mut self, room: &RoomUri, commit: &Bytes, accepted: &Accepted) {
        self.see(Fact::Acknowledged {
            room,
            epoch: epoch_of(accepted.epoch),
            seq: seq_of(accepted.seq),
            commit: Hash::of(commit),
        });
    }

    /// A committer was told the room's epoch; when it asked, it knew already that it had opened `opened`.
    pub(super) fn told_epoch(&mut self, name: &str, room: &RoomUri, opened: Epoch, told: Epoch) {
        self.demand("I17", told >= opened, || {
            format!("{name} was told epoch {told} of {room} after it opened {opened}")
        });
    }

    /// A committer was told that its bundle was refused.
    pub(super) fn commit_refused(&mut self, room: &RoomUri, commit: &Bytes) {
        let id = Hash::of(commit);
        self.see(Fact::Refused { room, id });
    }

    pub(super) fn proposal_refused(&mut self, room: &RoomUri, message: &Bytes) {
        let id = proposals_of([&message[..]]);
        self.see(Fact::Refused { room, id });
    }

    /// A worker has checked something.
    pub(super) fn checked(&mut self, checked: &Checked) {
        if let Checked::Bundle { result: Err(_), .. } = checked {
            self.tested("I24");
        }
    }

    /// A hub's log has created a room.
    pub(super) fn room_begins(&mut self, room: &RoomUri, members: impl Iterator<Item = ClientUri>) {
        let twin = self.twins.contains(room);
        self.demand("group id", !twin, || {
            format!("{room} has the group id of another room")
        });
        let known = self.rooms.contains_key(room);
        if !known {
            let mut begun = RoomHistory::default();
            for member in members {
                begun.users.insert(member.user().clone());
                begun.chain.begins([member]);
            }
            self.rooms.insert(room.clone(), begun);
        }
    }

    /// A hub's log has emitted events of a room.
    pub(super) fn emitted(&mut self, room: &RoomUri, first: RoomSeq, count: u32, time: u64) {
        let (_, rooms, mut marks) = self.marks();
        let known = rooms.entry(room.clone()).or_default();
        let (first, count) = (seq_of(first), u64::from(count));
        known
            .chain
            .emits(At::default(), first, count, time, &mut marks);
    }

    /// A hub's log has accepted a Commit, as event `seq`.
    pub(super) fn applied_commit(&mut self, room: &RoomUri, commit: &hub::Commit, seq: RoomSeq) {
        let hash = Hash::of(&commit.commit);
        self.accepted_bundles.insert(hash);
        let epoch = commit.on.epoch.next();
        self.opens(room, epoch, hash);
        let user = commit.sender.user();
        let has_code = self.leases.get(room);
        let has_code = has_code.is_some_and(|held| held.code.is_some());
        let checked = &commit.checked;
        let left: Vec<ClientUri> = checked.left.iter().map(|one| one.client.clone()).collect();
        let joined: Vec<ClientUri> = checked
            .joined
            .iter()
            .map(|one| one.client.clone())
            .collect();
        let (_, rooms, mut marks) = self.marks();
        let known = rooms.entry(room.clone()).or_default();
        let accepted = mimi_history::Accepted {
            seq: seq_of(seq),
            opens: epoch_of(epoch),
            sender: &commit.sender,
            admitted: checked.external && (has_code || known.has_user(user)),
            covers: &checked.covered,
            left: &left,
            joined: &joined,
        };
        known.chain.commits(At::default(), &accepted, &mut marks);
        let stays = known
            .leaving
            .iter()
            .find(|client| !left.contains(client))
            .cloned();
        let covered = checked.covered.iter();
        let removals: BTreeSet<(u32, u32)> = covered
            .filter_map(|reference| known.removals.get(reference).copied())
            .collect();
        let contradict = removals
            .iter()
            .any(|(by, whom)| by != whom && removals.contains(&(*whom, *by)));
        let foreign = checked.external
            && left
                .iter()
                .any(|left| *left != commit.sender && !known.leaving.contains(left));
        let goes_on = std::mem::replace(&mut known.ended, checked.reinit);
        known.leaving.clear();
        known.removals.clear();
        let users = joined.iter().map(|joined| joined.user().clone());
        known.users.extend(users);
        self.goes_on(room, goes_on);
        self.demand("leaving", stays.is_none(), || {
            format!("a Commit of {room} leaves {stays:?} in, who is leaving")
        });
        self.demand("contradiction", !contradict, || {
            format!("a Commit of {room} takes in members that remove one another")
        });
        self.demand("own leaf", !foreign, || {
            format!("{} entered {room} and removed another", commit.sender)
        });
        let flawed = self.flawed_parts.contains(&hash);
        self.demand("I24", !flawed, || {
            format!("a flawed bundle opened epoch {epoch} of {room}")
        });
        self.see(Fact::Numbered {
            room,
            seq: seq_of(seq),
            event: hash,
        });
    }

    /// A hub's log has taken something of a room; `ended` is whether a ReInit came before.
    fn goes_on(&mut self, room: &RoomUri, ended: bool) {
        if ended {
            self.violated("reinit", format!("{room} went on after a ReInit"));
        }
    }

    /// A hub's log has refused something of a room because a ReInit came before.
    pub(super) fn refused_as_ended(&mut self, room: &RoomUri) {
        let ended = self.rooms.get(room).is_some_and(|room| room.ended);
        self.demand("reinit", ended, || {
            format!("{room} was called ended, and it is not")
        });
    }

    /// A hub's log has accepted Proposals, as event `seq`.
    pub(super) fn applied_proposals(
        &mut self,
        room: &RoomUri,
        propose: &hub::Propose,
        seq: RoomSeq,
    ) {
        let messages = propose.proposals.iter().map(|one| &one.message[..]);
        let event = proposals_of(messages.clone());
        let forged = messages
            .map(Hash::of)
            .any(|hash| self.forged.contains(&hash));
        let (_, rooms, mut marks) = self.marks();
        let known = rooms.entry(room.clone()).or_default();
        let goes_on = known.ended;
        let references = propose.proposals.iter().map(|one| one.reference.clone());
        let (sender, number) = (&propose.sender, seq_of(seq));
        known
            .chain
            .proposes(At::default(), sender, number, references, &mut marks);
        for proposal in &propose.proposals {
            match proposal.kind {
                ProposalKind::SelfRemove => {
                    known.leaving.insert(propose.sender.clone());
                }
                ProposalKind::Remove(leaf) => {
                    let edge = (proposal.leaf, leaf);
                    known.removals.insert(proposal.reference.clone(), edge);
                }
                ProposalKind::Add
                | ProposalKind::Update
                | ProposalKind::Extensions
                | ProposalKind::ReInit
                | ProposalKind::Expel(_) => {}
            }
        }
        self.goes_on(room, goes_on);
        self.demand("I21", !forged, || {
            format!("{room} accepted a forged Proposal")
        });
        let seq = number;
        self.see(Fact::Numbered { room, seq, event });
    }

    /// A hub's log has accepted messages.
    pub(super) fn applied_messages(
        &mut self,
        room: &RoomUri,
        sender: &ClientUri,
        messages: impl Iterator<Item = Payload>,
        first: RoomSeq,
    ) {
        let (_, rooms, mut marks) = self.marks();
        let known = rooms.entry(room.clone()).or_default();
        let ended = known.ended;
        known
            .chain
            .says(At::default(), sender, seq_of(first), &mut marks);
        self.goes_on(room, ended);
        for (offset, message) in (0..).zip(messages) {
            let event = message_of(&message);
            let forged = self.forged.contains(&Hash::of(&message));
            self.demand("I21", !forged, || {
                format!("{room} accepted a forged message")
            });
            let seq = seq_of(first.plus(offset));
            self.see(Fact::Numbered { room, seq, event });
        }
    }

    /// A user's log has a client's cursor in a room.
    pub(super) fn cursor(
        &mut self,
        client: &ClientUri,
        room: &RoomUri,
        after: RoomSeq,
        acked: RoomSeq,
    ) {
        let membership = (client.clone(), room.clone(), after);
        let known = self.cursors.entry(membership).or_default();
        let before = *known;
        *known = acked;
        self.demand("I16", acked >= before, || {
            format!("the cursor of {client} in {room} went back from {before} to {acked}")
        });
    }

    /// Whoever asked was told that its user is deleted.
    pub(super) fn user_deleted(&mut self, user: &UserUri) {
        let applied = self.deleted.contains(user);
        self.demand("I30", applied, || {
            format!("{user} was told to be deleted, and no log says so")
        });
    }

    /// A client found a Welcome in its inbox.
    pub(super) fn welcomed(&mut self, client: usize, room: &RoomUri, welcome: &WelcomeNotice) {
        let hash = Hash::of(&welcome.welcome);
        let Some(commit) = self.welcomes.get(&hash).copied() else {
            return;
        };
        let accepted = self.accepted_bundles.contains(&commit);
        self.demand("I24", accepted, || {
            format!("client {client} got the Welcome of a Commit of {room} that was not accepted")
        });
        self.tested("I22");
    }

    /// A member entered an epoch; all who do share a secret.
    pub(super) fn entered(&mut self, room: &RoomUri, epoch: Epoch, with: Option<Hash>) {
        let Some(secret) = with else { return };
        let epoch = epoch_of(epoch);
        self.see(Fact::Entered {
            room,
            epoch,
            secret,
        });
    }

    /// Messages whose senders know no verdict, of clients for which one may be.
    pub(super) fn undecided(&self, may_know: impl Fn(usize) -> bool) -> Option<(u64, &RoomUri)> {
        let decided = |told: &RoomFacts<Here>, id: &Hash| {
            told.placed.contains_key(id) || told.refused.contains_key(id)
        };
        let mut open = self.messages.iter().filter(|(_, message)| {
            let told = self.ledger.of(&message.room);
            let decided = told.is_some_and(|told| decided(told, &message.id));
            !decided && may_know(message.client)
        });
        open.next()
            .map(|(content, message)| (*content, &message.room))
    }

    /// A hub sends a batch to a peer.
    pub(super) fn sent_to(
        &mut self,
        of: (u64, u16),
        provider: &crate::ids::ProviderId,
        batch: &Fanout,
        upto: LinkSeq,
    ) {
        let mut events = Vec::new();
        for group in &batch.groups {
            for item in &group.items {
                let Item::Event(event) = item else { continue };
                let invited = match &event.body {
                    Body::Invited(invitation) => Some(invitation),
                    Body::Commit(commit) => commit.invitation.as_ref(),
                    Body::Application(_) | Body::Proposals(_) | Body::Entered(_) | Body::Own(_) => {
                        None
                    }
                };
                if let Some(invited) = invited {
                    let own = |client: &ClientUri| client.provider() == provider;
                    let right = !invited.clients.is_empty() && invited.clients.iter().all(own);
                    self.demand("I22", right, || {
                        format!("a Welcome of {} goes to {provider}", group.room)
                    });
                }
                events.push((group.room.clone(), event.seq));
            }
        }
        self.sent.entry(of).or_default().push((upto, events));
    }

    /// A lane has ended: what was sent on it is acknowledged by nobody any more.
    pub(super) fn lane_ended(&mut self, lane: u64) {
        self.sent.retain(|(of, _), _| *of != lane);
    }

    /// The session of a shard on a lane has ended.
    pub(super) fn session_ended(&mut self, lane: u64, shard: u16) {
        self.sent.remove(&(lane, shard));
    }

    /// A follower says that it has everything up to an item of a lane, for good: is it so?
    pub(super) fn acknowledged(&mut self, of: (u64, u16), peer: u8, ack: &Ack) {
        let sent = self.sent.entry(of).or_default();
        let (done, rest) = std::mem::take(sent)
            .into_iter()
            .partition::<Vec<Sent>, _>(|(upto, _)| *upto <= ack.upto);
        *sent = rest;
        for (room, seq) in done.into_iter().flat_map(|(_, events)| events) {
            let refused = ack.refused.iter().any(|refused| refused.room == room);
            let has = self.followed.get(&(peer, room.clone())).copied();
            self.demand("I16", refused || has.is_some_and(|has| has >= seq), || {
                format!("event {seq} of {room} was acknowledged before it was on disk")
            });
        }
    }

    /// Bytes that somebody sends in another's name: they must not get anywhere.
    pub(super) fn forged(&mut self, bytes: &Bytes) {
        self.forged.insert(Hash::of(bytes));
    }

    /// A claim in another's name: it must not get anything.
    pub(super) fn forged_claim(&mut self, id: ClaimId) {
        self.forged_claims.insert(id);
    }

    /// A batch arrived; whether some of it had arrived before.
    pub(super) fn batch_came(
        &mut self,
        from: u8,
        shard: u16,
        to: u8,
        first: LinkSeq,
        upto: LinkSeq,
    ) -> bool {
        let last = self.batches.entry((from, shard, to)).or_default();
        let again = first <= *last;
        *last = (*last).max(upto);
        if again {
            self.tested("I14");
        }
        again
    }

    /// Whether a state is what it was, or is on other replicas, at the same place. `true` the first time.
    pub(super) fn state(&mut self, place: Place, state: Hash) -> bool {
        let place = &place;
        let first = self.ledger.state_at(place).is_none();
        self.see(Fact::State { place, state });
        first
    }
}
