//! What was asked, answered, applied and delivered, and whether that may be: the checkers.
//!
//! Written at the edges of the world, never by the code under test. Cheap checks are made with each event; the rest,
//! at the end, in `judge`. Names are those of the invariants: `I1` one Commit for each epoch, and so on.

use super::{
    codes::Codes, leases::Held, packages::Packages, retention::Ages, times::Times, world::Counts,
};
use crate::{
    ids::{ClientUri, RoomUri, UserUri},
    mls::check::{bundle::Bundle, proposal::ProposalKind},
    room::{desk::Checked, outcome::Accepted},
    wire::{
        self, Payload,
        claim::ClaimId,
        door::RoomEvent,
        event::{Body, Epoch, Hash, Item, LinkSeq, RoomSeq},
        link::{Ack, Fanout},
        post::WelcomeNotice,
    },
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which, for example `I3`.
    pub invariant: &'static str,
    /// How.
    pub why: String,
}

/// A message that somebody wrote.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) client: usize,
    pub(super) room: RoomUri,
    pub(super) seq: Option<RoomSeq>,
    pub(super) refused: bool,
    /// Who has read it.
    readers: BTreeSet<usize>,
}

/// A room, as the log of its hub tells.
#[derive(Debug, Default)]
pub(super) struct RoomHistory {
    pub(super) roster: BTreeSet<ClientUri>,
    /// Users with clients that came in by themselves or were added, gone or not.
    pub(super) users: BTreeSet<UserUri>,
    pub(super) epoch: Epoch,
    pub(super) last_seq: RoomSeq,
    pub(super) last_time: u64,
    /// References of Proposals accepted in this epoch.
    pub(super) pending: BTreeSet<Bytes>,
    /// Who asked in this epoch to leave.
    leaving: BTreeSet<ClientUri>,
    /// Who proposed in this epoch to remove whom, by leaf.
    removals: BTreeMap<Bytes, (u32, u32)>,
    /// Whether a ReInit has ended its group.
    ended: bool,
}

/// A batch: its last item, and its events.
type Sent = (LinkSeq, Vec<(RoomUri, RoomSeq)>);

/// Everything that the checkers remember.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) violation: Option<Violation>,
    /// How often each invariant was put to the test.
    pub(super) occasions: Counts,
    pub(super) messages: BTreeMap<u64, Message>,
    contents: BTreeMap<Hash, u64>,
    pub(super) rooms: BTreeMap<RoomUri, RoomHistory>,
    /// The Commit that opened each epoch.
    opened: BTreeMap<(RoomUri, Epoch), Hash>,
    bundles: BTreeMap<Hash, (usize, RoomUri)>,
    welcomes: BTreeMap<Hash, Hash>,
    accepted_bundles: BTreeSet<Hash>,
    refused_commits: BTreeSet<Hash>,
    flawed_parts: BTreeSet<Hash>,
    accepted_proposals: BTreeSet<Hash>,
    refused_proposals: BTreeSet<Hash>,
    /// Hostile bytes: none of them may get anywhere.
    forged: BTreeSet<Hash>,
    pub(super) forged_claims: BTreeSet<ClaimId>,
    pub(super) packages: Packages,
    pub(super) deleted: BTreeSet<UserUri>,
    events: BTreeMap<(RoomUri, RoomSeq), Hash>,
    cursors: BTreeMap<(ClientUri, RoomUri, RoomSeq), RoomSeq>,
    authenticators: BTreeMap<(RoomUri, Epoch), Hash>,
    pub(super) states: BTreeMap<(u8, u16, u64), Hash>,
    batches: BTreeMap<(u8, u16, u8), LinkSeq>,
    /// Batches that are not acknowledged, by lane: the last item, and which events.
    sent: BTreeMap<u64, Vec<Sent>>,
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

    /// Somebody wrote a message.
    pub(super) fn wrote(&mut self, client: usize, room: &RoomUri, content: u64, bytes: &Bytes) {
        self.contents.insert(Hash::of(bytes), content);
        self.messages.insert(
            content,
            Message {
                client,
                room: room.clone(),
                seq: None,
                refused: false,
                readers: BTreeSet::new(),
            },
        );
    }

    /// The sender was told that its message is event `seq`.
    pub(super) fn accepted(&mut self, content: u64, room: &RoomUri, seq: RoomSeq) {
        let Some(message) = self.messages.get_mut(&content) else {
            return;
        };
        let (refused, was, of) = (message.refused, message.seq, message.room == *room);
        message.seq = Some(seq);
        self.demand(
            "I25",
            !refused && was.is_none_or(|was| was == seq) && of,
            || {
                format!(
                    "message {content} was accepted as {seq} of {room} after another final word"
                )
            },
        );
    }

    /// The sender was told that its message is not, and never will be.
    pub(super) fn refused(&mut self, content: u64) {
        let Some(message) = self.messages.get_mut(&content) else {
            return;
        };
        message.refused = true;
        let (seq, read) = (message.seq, !message.readers.is_empty());
        self.demand("I12", seq.is_none() && !read, || {
            format!("message {content} was refused, and it is in the room")
        });
    }

    /// A member has read a message.
    pub(super) fn read(&mut self, client: usize, room: &RoomUri, content: u64) {
        let Some(message) = self.messages.get_mut(&content) else {
            return self.violated("I13", format!("nobody wrote message {content}"));
        };
        let first = message.readers.insert(client);
        let (right, refused) = (message.room == *room, message.refused);
        self.demand("I14", first, || {
            format!("message {content} was delivered twice to one client")
        });
        self.demand("I20", right, || {
            format!("message {content} was delivered in {room}, where it is not from")
        });
        self.demand("I12", !refused, || {
            format!("message {content} was refused, and delivered")
        });
    }

    /// A client read an event.
    pub(super) fn delivered(&mut self, client: usize, room: &RoomUri, event: &RoomEvent) {
        let hash = Hash::of(&wire::canonical(&event.body));
        let known = *self.events.entry((room.clone(), event.seq)).or_insert(hash);
        self.demand("I26", known == hash, || {
            format!("event {} of {room} is not the same for all", event.seq)
        });
        let last = self.rooms.get(room).map(|room| room.last_seq);
        self.demand("I13", last.is_some_and(|last| event.seq <= last), || {
            format!(
                "client {client} read event {} of {room}, which the hub never made",
                event.seq
            )
        });
        if let crate::wire::door::RoomBody::Commit { epoch, commit } = &event.body {
            self.opens(room, *epoch, Hash::of(commit));
        }
    }

    /// The log, an answer or an event says which Commit opened an epoch.
    fn opens(&mut self, room: &RoomUri, epoch: Epoch, commit: Hash) {
        let known = *self.opened.entry((room.clone(), epoch)).or_insert(commit);
        self.demand("I1", known == commit, || {
            format!("two Commits opened epoch {epoch} of {room}")
        });
        let refused = self.refused_commits.contains(&commit);
        self.demand("I12", !refused, || {
            format!("a refused Commit opened epoch {epoch} of {room}")
        });
        let forged = self.forged.contains(&commit);
        self.demand("I21", !forged, || {
            format!("a forged Commit opened epoch {epoch} of {room}")
        });
    }

    /// A client is about to send a bundle.
    pub(super) fn committed(
        &mut self,
        client: usize,
        room: &RoomUri,
        epoch: Epoch,
        bundle: &Bundle,
    ) {
        let commit = Hash::of(&bundle.commit);
        self.bundles.insert(commit, (client, room.clone()));
        if let Some(welcome) = &bundle.welcome {
            self.welcomes.insert(Hash::of(welcome), commit);
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
        let hash = Hash::of(commit);
        self.opens(room, accepted.epoch, hash);
        let applied = self.accepted_bundles.contains(&hash);
        self.demand("I2", applied, || {
            format!("a Commit of {room} was acknowledged that no log holds")
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
        let hash = Hash::of(commit);
        self.refused_commits.insert(hash);
        let applied = self.accepted_bundles.contains(&hash);
        self.demand("I12", !applied, || {
            format!("a Commit of {room} was refused that the log has accepted")
        });
    }

    pub(super) fn proposal_refused(&mut self, room: &RoomUri, message: &Bytes) {
        let hash = Hash::of(message);
        self.refused_proposals.insert(hash);
        let accepted = self.accepted_proposals.contains(&hash);
        self.demand("I12", !accepted, || {
            format!("a Proposal in {room} was refused that the log has accepted")
        });
    }

    /// A worker has checked something.
    pub(super) fn checked(&mut self, checked: &Checked) {
        if let Checked::Bundle { result: Err(_), .. } = checked {
            self.tested("I24");
        }
    }

    /// A hub's log has created a room.
    pub(super) fn room_begins(&mut self, room: &RoomUri, members: impl Iterator<Item = ClientUri>) {
        let known = self.rooms.contains_key(room);
        if !known {
            let roster: BTreeSet<ClientUri> = members.collect();
            self.rooms.insert(
                room.clone(),
                RoomHistory {
                    users: roster.iter().map(|member| member.user().clone()).collect(),
                    roster,
                    ..RoomHistory::default()
                },
            );
        }
    }

    /// A hub's log has emitted events of a room.
    pub(super) fn emitted(&mut self, room: &RoomUri, first: RoomSeq, count: u32, time: u64) {
        let known = self.rooms.entry(room.clone()).or_default();
        let (expected, before) = (known.last_seq.next(), known.last_time);
        known.last_seq = RoomSeq(first.0 + u64::from(count) - 1);
        known.last_time = time;
        self.demand("I26", first == expected, || {
            format!("{room} emitted event {first} where {expected} was next")
        });
        self.demand("I26", time >= before, || {
            format!("the time of {room} went back from {before} to {time}")
        });
    }

    /// A hub's log has accepted a Commit.
    pub(super) fn applied_commit(&mut self, room: &RoomUri, commit: &crate::room::hub::Commit) {
        let hash = Hash::of(&commit.commit);
        self.accepted_bundles.insert(hash);
        let epoch = commit.on.epoch.next();
        self.opens(room, epoch, hash);
        let known = self.rooms.entry(room.clone()).or_default();
        let user = commit.sender.user();
        let has_code = self.leases.get(room);
        let has_code = has_code.is_some_and(|held| held.code.is_some());
        let member = if commit.checked.external {
            has_code || known.roster.iter().any(|member| member.user() == user)
        } else {
            known.roster.contains(&commit.sender)
        };
        let before = known.epoch;
        let gone: BTreeSet<&ClientUri> = commit
            .checked
            .left
            .iter()
            .map(|left| &left.client)
            .collect();
        let stays = known
            .leaving
            .iter()
            .find(|client| !gone.contains(client))
            .cloned();
        let covered = commit.checked.covered.iter();
        let removals: BTreeSet<(u32, u32)> = covered
            .filter_map(|reference| known.removals.get(reference).copied())
            .collect();
        let contradict = removals
            .iter()
            .any(|(by, whom)| by != whom && removals.contains(&(*whom, *by)));
        let foreign = commit.checked.external
            && gone
                .iter()
                .any(|left| **left != commit.sender && !known.leaving.contains(*left));
        let unknown = commit
            .checked
            .covered
            .iter()
            .any(|reference| !known.pending.contains(reference));
        let goes_on = std::mem::replace(&mut known.ended, commit.checked.reinit);
        known.epoch = epoch;
        known.pending.clear();
        known.leaving.clear();
        known.removals.clear();
        for left in &commit.checked.left {
            known.roster.remove(&left.client);
        }
        for joined in &commit.checked.joined {
            known.users.insert(joined.client.user().clone());
            known.roster.insert(joined.client.clone());
        }
        self.goes_on(room, goes_on);
        self.demand("I1", epoch == before.next(), || {
            format!("{room} went from epoch {before} to {epoch}")
        });
        self.demand("I5", member, || {
            format!("{} committed in {room} and is no member", commit.sender)
        });
        self.demand("leaving", stays.is_none(), || {
            format!("a Commit of {room} leaves {stays:?} in, who is leaving")
        });
        self.demand("contradiction", !contradict, || {
            format!("a Commit of {room} takes in members that remove one another")
        });
        self.demand("own leaf", !foreign, || {
            format!("{} entered {room} and removed another", commit.sender)
        });
        self.demand("I4", !unknown, || {
            format!("a Commit of {room} names a Proposal that was not accepted before it")
        });
        let flawed = self.flawed_parts.contains(&hash);
        self.demand("I24", !flawed, || {
            format!("a flawed bundle opened epoch {epoch} of {room}")
        });
        let known = self.bundles.get(&hash);
        let known = known.is_some_and(|(_, of)| of == room);
        self.demand("I13", known, || {
            format!("nobody made the Commit that opened epoch {epoch} of {room}")
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

    /// A hub's log has accepted Proposals.
    pub(super) fn applied_proposals(
        &mut self,
        room: &RoomUri,
        propose: &crate::room::hub::Propose,
    ) {
        let mut refused = false;
        let mut forged = false;
        for proposal in &propose.proposals {
            let hash = Hash::of(&proposal.message);
            refused |= self.refused_proposals.contains(&hash);
            forged |= self.forged.contains(&hash);
            self.accepted_proposals.insert(hash);
        }
        let known = self.rooms.entry(room.clone()).or_default();
        let goes_on = known.ended;
        let member = known.roster.contains(&propose.sender);
        let references = propose.proposals.iter();
        known
            .pending
            .extend(references.map(|proposal| proposal.reference.clone()));
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
                | ProposalKind::ReInit => {}
            }
        }
        self.goes_on(room, goes_on);
        self.demand("I5", member, || {
            format!("{} proposed in {room} and is no member", propose.sender)
        });
        self.demand("I12", !refused, || {
            format!("{room} accepted a refused Proposal")
        });
        self.demand("I21", !forged, || {
            format!("{room} accepted a forged Proposal")
        });
    }

    /// A hub's log has accepted messages.
    pub(super) fn applied_messages(
        &mut self,
        room: &RoomUri,
        sender: &ClientUri,
        messages: impl Iterator<Item = Payload>,
        first: RoomSeq,
    ) {
        let known = self.rooms.get(room);
        let member = known.is_some_and(|room| room.roster.contains(sender));
        let ended = known.is_some_and(|room| room.ended);
        self.goes_on(room, ended);
        self.demand("I5", member, || {
            format!("a message of {sender} was accepted in {room} after it had left")
        });
        for (offset, message) in (0..).zip(messages) {
            let hash = Hash::of(&message);
            let forged = self.forged.contains(&hash);
            self.demand("I21", !forged, || {
                format!("{room} accepted a forged message")
            });
            let Some(content) = self.contents.get(&hash).copied() else {
                return self.violated("I13", format!("nobody wrote a message that is in {room}"));
            };
            let Some(known) = self.messages.get_mut(&content) else {
                return;
            };
            let seq = first.plus(offset);
            let (refused, twice, right) = (
                known.refused,
                known.seq.is_some_and(|known| known != seq),
                known.room == *room,
            );
            known.seq = Some(seq);
            self.demand("I12", !refused, || {
                format!("message {content} was refused and then accepted")
            });
            self.demand("I14", !twice, || {
                format!("message {content} is in {room} twice")
            });
            self.demand("I20", right, || {
                format!("message {content} is in the wrong room")
            });
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

    /// A user's log has deleted it.
    pub(super) fn applied_delete(&mut self, user: &UserUri) {
        self.deleted.insert(user.clone());
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
        let Some(with) = with else { return };
        let known = *self
            .authenticators
            .entry((room.clone(), epoch))
            .or_insert(with);
        self.demand("I2", known == with, || {
            format!("members of {room} are in different epochs {epoch}")
        });
    }

    /// A hub sends a batch to a peer.
    pub(super) fn sent_to(
        &mut self,
        lane: u64,
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
        self.sent.entry(lane).or_default().push((upto, events));
    }

    /// A lane has ended: what was sent on it is acknowledged by nobody any more.
    pub(super) fn lane_ended(&mut self, lane: u64) {
        self.sent.remove(&lane);
    }

    /// A follower says that it has everything up to an item of a lane, for good: is it so?
    pub(super) fn acknowledged(&mut self, lane: u64, peer: u8, ack: &Ack) {
        let sent = self.sent.entry(lane).or_default();
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
    pub(super) fn state(&mut self, at: (u8, u16, u64), state: Hash) -> bool {
        match self.states.get(&at).copied() {
            None => {
                self.states.insert(at, state);
                true
            }
            Some(known) => {
                self.demand("I11", known == state, || {
                    let (provider, shard, index) = at;
                    format!(
                        "entry {index} of shard {shard} of provider {provider} is not what it was"
                    )
                });
                false
            }
        }
    }
}
