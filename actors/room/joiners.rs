//! What the hub's desk keeps of joiners: whose request is being checked, who waits for the lease and in which place, for
//! whom a GroupInfo is being sealed.
//!
//! A request that finds the lease taken waits for its turn; when it cannot wait longer it is told its place, which is kept
//! for it until some time after its turn should have come. Volatile: the lease itself is the fold's.
//!
//! Source: transport requirements, sections 3.3 and 7.3.

use super::{
    codes::{CodeFlaw, KeepCode, Lock, RevokeCode, WrongCode},
    desk::{Check, Checked, Effect, Own},
    hub::{Command, Fold, Room},
    leases::{Grant, replayed, until_ms},
    outcome::{Answer, Done, Refused},
    queue::{Asking, Look, Queue},
};
use crate::{
    group_info::{self, Material, Sealing},
    ids::{ClientUri, ProviderId},
    limits::{
        CODE_BYTES_MAX, JOINER_CLOCK_SKEW_MS, JOINER_PLACE_KEPT_MS,
        JOINERS_IN_CHECK_PER_PROVIDER_MAX, JOINERS_IN_CHECK_PER_ROOM_MAX, LEASE_MS, LEASE_MS_MAX,
        LEASE_TREE_BYTES_PER_MS, PENDING_SEALED_BYTES_MAX, WRONG_CODES_LOOK_AFTER_MS,
    },
    machine::{Millis, Ticket},
    wire::{
        BText, Payload,
        joining::{CodeId, CodeTerms, CodesAsk, GroupInfoRequest, MadeCode},
        refusal::{RefusalCode, TryLater},
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// What a desk is given to decide with, and where its orders go.
pub(super) struct DeskTurn<'a> {
    pub(super) now: Millis,
    pub(super) fold: &'a Fold,
    pub(super) out: &'a mut Vec<Effect>,
}

impl DeskTurn<'_> {
    pub(super) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.out.push(Effect::Answer { ticket, answer });
    }

    pub(super) fn refuse(&mut self, ticket: Ticket, refused: Refused) {
        self.answer(ticket, Answer::Refused(refused));
    }

    pub(super) fn append(&mut self, ticket: Ticket, command: Command) {
        let command = Arc::new(command);
        self.out.push(Effect::Append { ticket, command });
    }

    pub(super) fn check(&mut self, ticket: Ticket, check: Check) {
        let check = Box::new(check);
        self.out.push(Effect::Own(Own::Check { ticket, check }));
    }
}

/// The joiners of a room.
#[derive(Debug, Default)]
pub(super) struct Joiners {
    in_check: BTreeMap<Ticket, Asking>,
    waiting: Queue,
    /// Whose grant is in the log's hands.
    granting: Option<Asking>,
    sealing: BTreeMap<Ticket, Asking>,
    /// Who presented wrong codes that the log does not have yet.
    uncounted: BTreeMap<Ticket, ClientUri>,
    /// When a code with a passphrase was last looked at, of each provider that tried too many wrong ones.
    looked: BTreeMap<ProviderId, Millis>,
    /// New codes that are being made, and those that are in the log's hands; in the clear for their makers.
    minting: BTreeMap<Ticket, Option<Payload>>,
    /// When this desk is woken.
    wake_at: Option<Millis>,
    /// How long leases last, as the last check said, in milliseconds.
    lease_ms: Option<u32>,
}

impl Joiners {
    pub(super) fn is_idle(&self) -> bool {
        self.in_check.is_empty()
            && self.waiting.is_empty()
            && self.granting.is_none()
            && self.sealing.is_empty()
            && self.uncounted.is_empty()
            && self.minting.is_empty()
    }

    fn lock(&self, joiner: &ClientUri, turn: &DeskTurn<'_>) -> Lock {
        let room = turn.fold.room();
        room.map_or(Lock::Open, |room| {
            room.code_lock(joiner, turn.now, self.uncounted.values())
        })
    }

    /// How the code of a request is looked at.
    fn look(&mut self, request: &GroupInfoRequest, turn: &DeskTurn<'_>) -> Look {
        if request.code.is_none() {
            return Look::Whole;
        }
        match self.lock(&request.joiner, turn) {
            Lock::Open => Look::Whole,
            Lock::Locked => Look::Nothing,
            Lock::Slowed if request.passphrase.is_none() => Look::WithoutPassphrases,
            Lock::Slowed => {
                let now = turn.now;
                self.looked
                    .retain(|_, last| last.plus(WRONG_CODES_LOOK_AFTER_MS) > now);
                let provider = request.joiner.provider();
                if self.looked.contains_key(provider) {
                    return Look::WithoutPassphrases;
                }
                self.looked.insert(provider.clone(), now);
                Look::NowAndThen
            }
        }
    }

    /// How long a lease of the room lasts, in milliseconds: longer where there is more to fetch, so that who has a slow
    /// network is not one that wastes leases.
    fn lease_ms(&self, turn: &DeskTurn<'_>) -> u32 {
        let configured = self.lease_ms.unwrap_or(LEASE_MS);
        let bytes = turn.fold.room().map_or(0, |room| room.view().tree.len());
        let fetching = u32::try_from(bytes / LEASE_TREE_BYTES_PER_MS).unwrap_or(u32::MAX);
        configured.saturating_add(fetching).min(LEASE_MS_MAX)
    }

    fn owns(&self, ticket: Ticket) -> bool {
        let granting = self.granting.as_ref();
        self.in_check.contains_key(&ticket)
            || self.sealing.contains_key(&ticket)
            || self.minting.contains_key(&ticket)
            || granting.is_some_and(|asking| asking.ticket == ticket)
    }

    /// Somebody asks for the GroupInfo.
    pub(super) fn ask(
        &mut self,
        ticket: Ticket,
        request: Arc<GroupInfoRequest>,
        turn: &mut DeskTurn<'_>,
    ) {
        let apart = request.time.0.abs_diff(turn.now.0);
        if apart > JOINER_CLOCK_SKEW_MS {
            let detail = "the request is of another time; look at the clock";
            return turn.refuse(ticket, Refused::invalid(RefusalCode::RequestTime, detail));
        }
        if request
            .code
            .as_ref()
            .is_some_and(|code| code.len() > CODE_BYTES_MAX)
        {
            let detail = "no code is as long as this one";
            return turn.refuse(ticket, Refused::invalid(RefusalCode::RequestCode, detail));
        }
        let provider = request.joiner.provider();
        let in_check = self.in_check.values();
        let theirs = in_check.filter(|asking| asking.request.joiner.provider() == provider);
        if theirs.count() >= JOINERS_IN_CHECK_PER_PROVIDER_MAX && provider != request.room.hub()
            || self.in_check.len() + self.minting.len() >= JOINERS_IN_CHECK_PER_ROOM_MAX
        {
            return turn.refuse(ticket, overloaded());
        }
        let look = self.look(&request, turn);
        let room = turn.fold.room();
        // The same work is done whether the room exists or not.
        let codes = room.filter(|_| look != Look::Nothing).map(Room::codes);
        let codes = codes.map(|mut codes| {
            codes.retain(|(_, code)| look.sees(code));
            codes
        });
        let check = Check::Admit {
            request: Arc::clone(&request),
            group_id: room.map_or_else(Payload::default, |room| {
                Payload(bytes::Bytes::copy_from_slice(room.group_id()))
            }),
            codes: codes.unwrap_or_default(),
            now: turn.now,
        };
        let asking = Asking {
            ticket,
            name: group_info::name_request(&request),
            deadline: turn.now.plus(request.wait_ms.into()),
            request,
            code: None,
            look,
        };
        self.in_check.insert(ticket, asking);
        turn.check(ticket, check);
    }

    /// A member does something with the joining codes.
    pub(super) fn codes(
        &mut self,
        ticket: Ticket,
        member: ClientUri,
        ask: CodesAsk,
        turn: &mut DeskTurn<'_>,
    ) {
        let Some(room) = turn.fold.room().filter(|room| room.has_member(&member)) else {
            return turn.refuse(ticket, Refused::NotAuthorized);
        };
        match ask {
            CodesAsk::List => turn.answer(ticket, Answer::Codes(room.code_list())),
            CodesAsk::Revoke(id) => {
                self.minting.insert(ticket, None);
                turn.append(ticket, Command::RevokeCode(RevokeCode { member, id }));
            }
            CodesAsk::Create(terms) => {
                if let Some(refused) = terms_flaw(&terms) {
                    return turn.refuse(ticket, refused);
                }
                if self.in_check.len() + self.minting.len() >= JOINERS_IN_CHECK_PER_ROOM_MAX {
                    return turn.refuse(ticket, overloaded());
                }
                let check = Check::MintCode {
                    creator: member,
                    group_id: Payload(bytes::Bytes::copy_from_slice(room.group_id())),
                    terms,
                    now: turn.now,
                };
                self.minting.insert(ticket, None);
                turn.check(ticket, check);
            }
        }
    }

    /// Takes what a worker found, if it is of a joiner or a code; gives it back otherwise.
    pub(super) fn checked(
        &mut self,
        ticket: Ticket,
        checked: Checked,
        turn: &mut DeskTurn<'_>,
    ) -> Option<Checked> {
        if !self.owns(ticket) {
            return Some(checked);
        }
        match checked {
            Checked::Admit {
                flaw,
                code,
                lease_ms,
            } => {
                self.lease_ms = Some(lease_ms);
                if let Some(asking) = self.in_check.remove(&ticket) {
                    self.admit(asking, flaw, code, turn);
                }
            }
            Checked::Sealed(Ok(sealed)) => self.sealed(ticket, sealed, turn),
            Checked::Sealed(Err(error)) => {
                self.sealing.remove(&ticket);
                turn.refuse(
                    ticket,
                    Refused::invalid(RefusalCode::HpkeKey, &error.to_string()),
                );
            }
            Checked::Minted(Some((clear, code))) => {
                self.minting.insert(ticket, Some(clear));
                turn.append(ticket, Command::KeepCode(KeepCode { code }));
            }
            Checked::Minted(None) | Checked::Overloaded => {
                self.forget(ticket);
                turn.refuse(ticket, overloaded());
            }
            other @ (Checked::Create { .. }
            | Checked::Bundle { .. }
            | Checked::Expel { .. }
            | Checked::Proposals { .. }) => return Some(other),
        }
        None
    }

    /// Takes what the log made of a command of a joiner's or about a code; whether it was one.
    pub(super) fn applied(&mut self, ticket: Ticket, done: &Done, turn: &mut DeskTurn<'_>) -> bool {
        if self.uncounted.remove(&ticket).is_some() {
            return true;
        }
        if let Some(asking) = self.granting.take_if(|asking| asking.ticket == ticket) {
            self.granted(asking, done, turn);
            return true;
        }
        let Some(clear) = self.minting.remove(&ticket) else {
            return false;
        };
        let answer = match (done, clear) {
            (Done::CodeKept(id), Some(code)) => Answer::CodeMade(MadeCode { id: *id, code }),
            (other, _) => other.to_answer(),
        };
        turn.answer(ticket, answer);
        true
    }

    /// The log did not take a command of a joiner's or about a code; whether it was one.
    pub(super) fn not_appended(
        &mut self,
        ticket: Ticket,
        refused: &Refused,
        turn: &mut DeskTurn<'_>,
    ) -> bool {
        if self.uncounted.remove(&ticket).is_some() {
            return true;
        }
        let owned = self.owns(ticket);
        if owned {
            self.forget(ticket);
            turn.refuse(ticket, refused.clone());
            self.serve(turn);
        }
        owned
    }

    /// It is the time that this desk wanted to be woken at.
    pub(super) fn wake(&mut self, turn: &mut DeskTurn<'_>) {
        self.wake_at = None;
        self.serve(turn);
    }

    /// Lets the next joiner have the lease, if it is free; tells those their place who cannot wait longer.
    pub(super) fn serve(&mut self, turn: &mut DeskTurn<'_>) {
        self.dismiss(turn);
        if self.granting.is_none()
            && let Some(room) = turn.fold.room()
            && let Some((place, next)) = self.waiting.next()
            && is_free_for(&next.asking.request.joiner, turn)
            && let Some(asking) = self.waiting.take(place, &room.hub)
        {
            self.grant(asking, turn);
        }
        self.wake_in_time(turn);
    }

    fn admit(
        &mut self,
        mut asking: Asking,
        flaw: Option<RefusalCode>,
        code: Option<Result<CodeId, CodeFlaw>>,
        turn: &mut DeskTurn<'_>,
    ) {
        let (ticket, joiner) = (asking.ticket, &asking.request.joiner);
        if let Some(flaw) = flaw {
            let detail = "the GroupInfo request is not what it must be";
            return turn.refuse(ticket, Refused::invalid(flaw, detail));
        }
        let room = turn.fold.room();
        // Others may have been found wrong while this one was looked at.
        let lock = self.lock(joiner, turn);
        let code = code.map(|code| seen(code, asking.look, lock, room));
        match (room, code) {
            (Some(room), _) if room.comes_freely(joiner) => {}
            (Some(_), Some(Ok(id))) => asking.code = Some(id),
            (Some(_), Some(Err(flaw))) => {
                let joiner = joiner.clone();
                let counts = lock == Lock::Open
                    || asking.look == Look::NowAndThen && flaw == CodeFlaw::Passphrase;
                let command = (counts && flaw.is_guess()).then(|| {
                    self.uncounted.insert(ticket, joiner.clone());
                    let joiner = joiner.clone();
                    Arc::new(Command::WrongCode(WrongCode { joiner }))
                });
                turn.out.push(Effect::Own(Own::CodeRefused {
                    ticket,
                    joiner,
                    flaw,
                    command,
                }));
                return turn.refuse(ticket, Refused::NotAuthorized);
            }
            (Some(_), None) | (None, _) => return turn.refuse(ticket, Refused::NotAuthorized),
        }
        self.enter(asking, turn);
    }

    /// A joiner that may join: it gets the lease, or a place in the queue.
    fn enter(&mut self, asking: Asking, turn: &mut DeskTurn<'_>) {
        let Some(room) = turn.fold.room() else {
            return turn.refuse(asking.ticket, Refused::NotAuthorized);
        };
        let joiner = &asking.request.joiner;
        if let Some(refused) = too_large(room) {
            return turn.refuse(asking.ticket, refused);
        }
        if room.had_lease(asking.name, turn.now) {
            return turn.refuse(asking.ticket, replayed());
        }
        if let Some(retry_after_ms) = room.lease_limited(joiner, turn.now) {
            return turn.refuse(asking.ticket, Refused::Limited { retry_after_ms });
        }
        // A client has one place; who asks again keeps it.
        if let Some(place) = self.waiting.place_of(joiner) {
            return self.sit_again(place, asking, turn);
        }
        let first = self.waiting.next().is_none() || holds(joiner, turn);
        if self.granting.is_none() && first && is_free_for(joiner, turn) {
            self.waiting.pass(joiner, &room.hub);
            return self.grant(asking, turn);
        }
        if !self.waiting.makes_room_for(joiner, &room.hub) {
            let busy = self.busy(self.waiting.len(), turn);
            return turn.refuse(asking.ticket, busy);
        }
        if room.was_overtaken(joiner) {
            // A member was faster than who had its turn already.
            self.waiting.sit_first(asking);
        } else {
            self.waiting.sit(asking, &room.hub);
        }
        self.serve(turn);
    }

    /// A joiner that has a place asks again.
    fn sit_again(&mut self, place: usize, asking: Asking, turn: &mut DeskTurn<'_>) {
        if let Some(seat) = self.waiting.get_mut(place) {
            let before = std::mem::replace(&mut seat.asking, asking);
            if seat.away_until.take().is_none() {
                let busy = self.busy(place, turn);
                turn.refuse(before.ticket, busy);
            }
        }
        self.serve(turn);
    }

    fn grant(&mut self, asking: Asking, turn: &mut DeskTurn<'_>) {
        let GroupInfoRequest {
            joiner,
            signature_key,
            ..
        } = &*asking.request;
        let grant = Grant {
            joiner: joiner.clone(),
            request: asking.name,
            signature_key: signature_key.clone(),
            code: asking.code,
            lease_ms: self.lease_ms(turn),
        };
        turn.append(asking.ticket, Command::Grant(grant));
        self.granting = Some(asking);
    }

    /// What became of a grant.
    fn granted(&mut self, asking: Asking, done: &Done, turn: &mut DeskTurn<'_>) {
        let ticket = asking.ticket;
        match (done, turn.fold.room()) {
            (Done::Granted { until }, Some(room)) => {
                let sealing = Sealing {
                    request: Arc::clone(&asking.request),
                    epoch: room.epoch(),
                    time: turn.now,
                    lease_ms: until_ms(turn.now, *until),
                    material: material(room),
                };
                turn.check(ticket, Check::Seal(Box::new(sealing)));
                self.sealing.insert(ticket, asking);
            }
            // The log's clock is ahead of this node's, or behind it: its turn comes.
            (Done::Answer(Answer::Refused(Refused::Busy { .. })), _) => {
                self.waiting.sit_first(asking);
            }
            (other, _) => turn.answer(ticket, other.to_answer()),
        }
        self.serve(turn);
    }

    /// A GroupInfo is sealed: it is of use if its lease is still there, and so the epoch.
    fn sealed(
        &mut self,
        ticket: Ticket,
        sealed: crate::wire::joining::SealedGroupInfo,
        turn: &mut DeskTurn<'_>,
    ) {
        let Some(asking) = self.sealing.remove(&ticket) else {
            return;
        };
        let lease = turn.fold.room().and_then(|room| room.lease(turn.now));
        let has_lease = lease.is_some_and(|lease| lease.request == asking.name);
        let current = turn
            .fold
            .room()
            .is_some_and(|room| room.epoch() == sealed.epoch);
        if has_lease && current {
            turn.answer(ticket, Answer::GroupInfo(Box::new(sealed)));
        } else {
            let busy = self.busy(0, turn);
            turn.refuse(ticket, busy);
        }
    }

    /// Tells those their place who cannot wait longer, and gives up what was kept for those who did not come again.
    fn dismiss(&mut self, turn: &mut DeskTurn<'_>) {
        self.waiting.give_up(turn.now);
        for place in 0..self.waiting.len() {
            let (busy, expected_wait_ms) = self.place_and_wait(place, turn);
            if let Some(seat) = self.waiting.get_mut(place)
                && !seat.is_away()
                && seat.asking.deadline <= turn.now
            {
                let kept_ms = expected_wait_ms.saturating_add(JOINER_PLACE_KEPT_MS);
                seat.away_until = Some(turn.now.plus(kept_ms.into()));
                turn.refuse(seat.asking.ticket, busy);
            }
        }
    }

    /// The refusal of whoever has this place, from zero.
    fn busy(&self, place: usize, turn: &DeskTurn<'_>) -> Refused {
        self.place_and_wait(place, turn).0
    }

    /// The refusal of whoever has this place, from zero, and how long it will take until its turn, in milliseconds.
    fn place_and_wait(&self, place: usize, turn: &DeskTurn<'_>) -> (Refused, u32) {
        let lease = turn.fold.room().and_then(|room| room.lease(turn.now));
        let now = lease.map_or(0, |lease| until_ms(turn.now, lease.until));
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        let before = place.saturating_mul(self.lease_ms(turn));
        let expected_wait_ms = now.saturating_add(before);
        let busy = Refused::Busy {
            place: place.saturating_add(1),
            expected_wait_ms,
        };
        (busy, expected_wait_ms)
    }

    /// Has this desk woken when the lease ends, or somebody cannot wait longer.
    fn wake_in_time(&mut self, turn: &mut DeskTurn<'_>) {
        let Some(deadline) = self.waiting.iter().map(|seat| seat.due()).min() else {
            return;
        };
        let lease = turn.fold.room().and_then(|room| room.lease(turn.now));
        let at = lease.map_or(deadline, |lease| lease.until.min(deadline));
        if self.wake_at.is_none_or(|wake_at| at < wake_at) {
            self.wake_at = Some(at);
            let after_ms = until_ms(turn.now, at).max(1);
            turn.out.push(Effect::Own(Own::Wake { after_ms }));
        }
    }

    fn forget(&mut self, ticket: Ticket) {
        self.in_check.remove(&ticket);
        self.sealing.remove(&ticket);
        self.minting.remove(&ticket);
        self.granting.take_if(|asking| asking.ticket == ticket);
    }
}

/// What is made of what a worker found of a code, for who is looked at so.
fn seen(
    found: Result<CodeId, CodeFlaw>,
    look: Look,
    lock: Lock,
    room: Option<&Room>,
) -> Result<CodeId, CodeFlaw> {
    let guarded = |id: CodeId| room.is_some_and(|room| room.has_passphrase(id));
    match (look, lock, found) {
        (Look::Nothing, _, _) | (_, Lock::Locked, _) | (Look::WithoutPassphrases, _, Err(_)) => {
            Err(CodeFlaw::Locked)
        }
        (Look::Whole, Lock::Slowed, Ok(id)) if guarded(id) => Err(CodeFlaw::Locked),
        (_, _, found) => found,
    }
}

/// What the room has for joiners.
fn material(room: &Room) -> Material {
    let pending = room.pending().iter();
    Material {
        group_info: room.view().group_info.clone(),
        tree: room.view().tree.clone(),
        delta: room.group.tree_delta().cloned(),
        place: room.group.tree_place().cloned(),
        pending: pending
            .map(|proposal| (proposal.message.clone(), proposal.accepted))
            .collect(),
    }
}

/// The refusal when what a joiner needs is more than an answer holds.
fn too_large(room: &Room) -> Option<Refused> {
    let pending = room.pending().iter().map(|proposal| proposal.message.len());
    (pending.sum::<usize>() > PENDING_SEALED_BYTES_MAX).then(|| Refused::TooMany {
        what: BText::clipped("bytes of pending Proposals; a member must commit"),
        max: u32::try_from(PENDING_SEALED_BYTES_MAX).unwrap_or(u32::MAX),
    })
}

fn holds(joiner: &ClientUri, turn: &DeskTurn<'_>) -> bool {
    let lease = turn.fold.room().and_then(|room| room.lease(turn.now));
    lease.is_some_and(|lease| lease.joiner == *joiner)
}

fn is_free_for(joiner: &ClientUri, turn: &DeskTurn<'_>) -> bool {
    let lease = turn.fold.room().and_then(|room| room.lease(turn.now));
    lease.is_none_or(|lease| lease.joiner == *joiner)
}

fn overloaded() -> Refused {
    Refused::TryLater(TryLater::BUSY)
}

/// What is wrong with the terms of a code.
fn terms_flaw(terms: &CodeTerms) -> Option<Refused> {
    let refuse = |detail| Some(Refused::invalid(RefusalCode::CodeTerms, detail));
    if terms.uses == Some(0) {
        refuse("a code without uses admits nobody")
    } else if terms.lifetime_ms == Some(0) {
        refuse("a code without a lifetime admits nobody")
    } else if terms
        .passphrase
        .as_ref()
        .is_some_and(|text| text.is_empty())
    {
        refuse("an empty passphrase is none")
    } else {
        None
    }
}
