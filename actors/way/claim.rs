//! A claim on its way through one provider: of its clients, of a peer's for its users or for a room here, or one that the
//! hub of a room has passed on.
//!
//! Every part of it carries the claim's id and is atomic in its user's shard; a part without an answer is `TryLater`,
//! which is never recorded, so that a retry completes the claim. Promises: nobody is left out or put in; nobody is claimed
//! whom the requester did not sign for; the hub passes a claim on once, for a room of its own and for a provider that is in
//! it; a claim that was passed on is taken only when the requester's own provider says that the key which signed is its
//! client's; where refusals are folded, a refusal takes as long as any other, whatever its reason.
//!
//! Source: transport requirements, section 3.1.

use super::{Ask, Came, House, Next, Slot, Slots, Way};
use crate::{
    doors,
    ids::{ClientUri, ProviderId, Requester, RoomUri, UserUri},
    limits::CLAIM_USERS_MAX,
    shard_request::{ShardReply, ShardRequest},
    user::{
        command::{Claim, Command},
        outcome::{Answer, Claimed},
    },
    wire::{
        BText, BVec,
        claim::{ClaimRequest, ClaimResponse, ClaimedUser, UserRefused},
        door::DoorRefused,
        link,
    },
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Users of one claim that are asked at a time.
const USERS_AT_ONCE: usize = 128;
/// How long a claim with a folded refusal takes at least, in milliseconds: longer than it takes to find out why.
const FOLDED_ANSWER_AFTER_MS: u32 = 50;

/// Who is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// The room, which says whether it knows the peer.
    Room,
    /// The requester's provider, or this one's shard, which says whose the key is.
    Voucher,
    /// The worker that checks the signatures.
    Checker,
    /// A user of this provider, by its place in the part.
    User(usize),
    /// Another provider, by its place among them.
    Provider(usize),
    /// The time before which a folded refusal is not answered.
    Pause,
}

/// A claim, until it is answered.
#[derive(Debug)]
pub struct Claiming {
    house: House,
    /// The users, in the order of the request.
    asked: BVec<UserUri, CLAIM_USERS_MAX>,
    slots: Slots<Who>,
    asks: VecDeque<(Slot, Ask)>,
    /// What waits for the room's answer, or the voucher's.
    held: Option<ClaimRequest>,
    own: Option<Own>,
    others: Vec<Part>,
    /// Users whose part is refused alike, without being asked.
    refused: Vec<ClaimedUser>,
}

/// The part of another provider.
#[derive(Debug)]
struct Part {
    users: Vec<UserUri>,
    claimed: Option<Vec<ClaimedUser>>,
}

/// The part of this provider.
#[derive(Debug)]
struct Own {
    request: ClaimRequest,
    users: Vec<(UserUri, Of)>,
    /// How many have been asked, or need not be.
    next: usize,
}

/// How it stands with one user.
#[derive(Debug)]
enum Of {
    ToAsk(Box<Claim>),
    Asked,
    Answered(Claimed),
}

impl Claiming {
    fn new(house: &House, request: &ClaimRequest) -> Self {
        Self {
            house: house.clone(),
            asked: request.users.clone(),
            slots: Slots::default(),
            asks: VecDeque::new(),
            held: None,
            own: None,
            others: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// A claim of a client, which proved `key` on its connection.
    ///
    /// # Errors
    /// [`DoorRefused::SenderNotBound`] when it is made for another user, or signed with another key: others are told that
    /// the key is the client's.
    pub fn of_client(
        house: &House,
        client: &ClientUri,
        key: Option<&[u8; 32]>,
        request: ClaimRequest,
    ) -> Result<Self, DoorRefused> {
        let named = matches!(request.terms.requester, Requester::User(_));
        if named && key != Some(&request.proof.key) {
            let detail = BText::clipped("a claim is signed with the key of the device that asks");
            return Err(DoorRefused::SenderNotBound { detail });
        }
        let mut claiming = Self::new(house, &request);
        let parts = doors::split_claim(client, request)?;
        claiming.ask_parts(parts, link::Request::Claim);
        Ok(claiming)
    }

    /// A claim of a peer, for one of its users, of this provider's.
    #[must_use]
    pub fn of_users(house: &House, request: ClaimRequest) -> Self {
        let mut claiming = Self::new(house, &request);
        claiming.claim_own(request);
        claiming
    }

    /// A claim of `peer` for a room here, of anybody's users, which is passed on if the peer is in the room.
    #[must_use]
    pub fn for_room(house: &House, peer: ProviderId, room: RoomUri, request: ClaimRequest) -> Self {
        let mut claiming = Self::new(house, &request);
        claiming.held = Some(request);
        claiming.ask(Who::Room, Ask::Shard(ShardRequest::Knows(room, peer)));
        claiming
    }

    /// A claim of this provider's users that the hub of its room has passed on.
    #[must_use]
    pub fn relayed(house: &House, request: ClaimRequest) -> Self {
        let mut claiming = Self::new(house, &request);
        let key = request.proof.key;
        match (
            &request.terms.requester,
            request.terms.asking_client.clone(),
        ) {
            // A pseudonym is its key's own, which the check of the signatures sees.
            (Requester::Pseudonym(_), _) => claiming.claim_own(request),
            (Requester::User(_), None) => claiming.refuse(&request.users, UserRefused::Unsigned),
            (Requester::User(requester), Some(client)) => {
                let provider = requester.provider().clone();
                let vouch = if provider == house.own {
                    Ask::Shard(ShardRequest::DeviceKey(client))
                } else {
                    Ask::Peer(provider, link::Request::Vouch { client, key })
                };
                claiming.held = Some(request);
                claiming.ask(Who::Voucher, vouch);
            }
        }
        claiming
    }

    fn ask(&mut self, who: Who, ask: Ask) {
        let slot = self.slots.open(who);
        self.asks.push_back((slot, ask));
    }

    fn unavailable(&self) -> UserRefused {
        UserRefused::TryLater(self.house.later)
    }

    fn refuse(&mut self, users: &[UserUri], why: UserRefused) {
        let refused = doors::refuse_claim(users, why);
        self.refused.extend(refused);
    }

    /// Asks every provider for its part. One that cannot be reached is not one without these users.
    fn ask_parts(
        &mut self,
        parts: BTreeMap<ProviderId, ClaimRequest>,
        ask: fn(ClaimRequest) -> link::Request,
    ) {
        for (provider, part) in parts {
            if provider == self.house.own {
                self.claim_own(part);
            } else {
                let who = Who::Provider(self.others.len());
                self.others.push(Part {
                    users: part.users.to_vec(),
                    claimed: None,
                });
                self.ask(who, Ask::Peer(provider, ask(part)));
            }
        }
    }

    /// Begins with the users of this provider: whom the requester signed for is to be known first.
    fn claim_own(&mut self, request: ClaimRequest) {
        if self.house.rules.folded {
            let ms = FOLDED_ANSWER_AFTER_MS;
            self.ask(Who::Pause, Ask::Pause { ms });
        }
        self.ask(Who::Checker, Ask::Signatures(request.clone()));
        self.own = Some(Own {
            request,
            users: Vec::new(),
            next: 0,
        });
    }

    /// The signatures were checked; without that, whoever is claimed is not asked.
    fn checked(&mut self, signed: Option<&[bool]>) {
        let unavailable = self.unavailable();
        let Some(own) = &mut self.own else { return };
        let asked = own.request.users.iter();
        own.users = match signed {
            None => {
                let refused = doors::refuse_claim(&own.request.users, unavailable);
                let users = refused.into_iter();
                users
                    .map(|claimed| (claimed.user, Of::Answered(claimed.result)))
                    .collect()
            }
            Some(signed) => {
                let unsigned: BTreeSet<&UserUri> = asked
                    .zip(signed)
                    .filter_map(|(user, signed)| (!signed).then_some(user))
                    .collect();
                let parts = doors::claims(&self.house.own, &own.request, &self.house.rules);
                let of = |(user, claim): (UserUri, Result<Claim, UserRefused>)| {
                    let is = match claim {
                        Ok(_) if unsigned.contains(&user) => {
                            Of::Answered(Err(UserRefused::Unsigned))
                        }
                        Ok(claim) => Of::ToAsk(Box::new(claim)),
                        Err(refused) => Of::Answered(Err(refused)),
                    };
                    (user, is)
                };
                parts.into_iter().map(of).collect()
            }
        };
    }

    /// The room here has said whether it knows the peer.
    fn room_said(&mut self, came: &Came) {
        let Some(claim) = self.held.take() else {
            return;
        };
        if let Came::Shard(ShardReply::Knows(knows)) = came {
            if *knows {
                return self.ask_parts(doors::relay_claim(&claim), link::Request::Relayed);
            }
            return self.refuse(&claim.users, UserRefused::NotRelayed);
        }
        self.refuse(&claim.users, self.unavailable());
    }

    /// The requester's provider has said whether the key is its client's.
    fn voucher_said(&mut self, came: &Came) {
        let Some(claim) = self.held.take() else {
            return;
        };
        let vouched = if let Came::Shard(ShardReply::DeviceKey(key)) = came {
            *key == Some(claim.proof.key)
        } else if let Came::Peer(link::Reply::Vouched(vouched)) = came {
            *vouched
        } else if *came == Came::NoLink {
            return self.refuse(&claim.users, UserRefused::ProviderUnknown);
        } else {
            return self.refuse(&claim.users, self.unavailable());
        };
        if vouched {
            return self.claim_own(claim);
        }
        self.refuse(&claim.users, UserRefused::Unsigned);
    }

    fn user_said(&mut self, place: usize, came: Came) {
        let claimed = if let Came::Shard(ShardReply::User(Answer::Claimed(claimed))) = came {
            claimed
        } else {
            Err(self.unavailable())
        };
        let own = self.own.as_mut().and_then(|own| own.users.get_mut(place));
        if let Some((_, is)) = own {
            *is = Of::Answered(claimed);
        }
    }

    fn provider_said(&mut self, place: usize, came: Came) {
        if came == Came::NoLink {
            if let Some(part) = self.others.get_mut(place) {
                let refused = doors::refuse_claim(&part.users, UserRefused::ProviderUnknown);
                part.claimed = Some(refused);
            }
            return;
        }
        let claimed = if let Came::Peer(link::Reply::Claimed(response)) = came {
            response.users.into_vec()
        } else {
            Vec::new()
        };
        let later = self.house.later;
        if let Some(part) = self.others.get_mut(place) {
            let claimed = doors::complete_claim(&part.users, claimed, later);
            part.claimed = Some(claimed);
        }
    }

    /// The next user of this provider that may be asked now.
    fn next_user(&mut self) -> Option<(Slot, Ask)> {
        let own = self.own.as_mut()?;
        let waiting = self.slots.iter();
        if waiting.filter(|who| matches!(who, Who::User(_))).count() >= USERS_AT_ONCE {
            return None;
        }
        while let Some((user, is)) = own.users.get_mut(own.next) {
            let place = own.next;
            own.next += 1;
            if let Of::ToAsk(_) = is
                && let Of::ToAsk(claim) = std::mem::replace(is, Of::Asked)
            {
                let request = ShardRequest::UserLog(user.clone(), Command::Claim(*claim));
                let slot = self.slots.open(Who::User(place));
                return Some((slot, Ask::Shard(request)));
            }
        }
        None
    }

    /// Whether a refusal of this provider's users is one that is folded.
    fn is_folded(&self) -> bool {
        let folded = |is: &Of| matches!(is, Of::Answered(Err(UserRefused::NoConsent)));
        let own = self.own.iter().flat_map(|own| &own.users);
        self.house.rules.folded && own.into_iter().any(|(_, is)| folded(is))
    }

    /// Whether nobody is waited for any more.
    fn is_whole(&self) -> bool {
        let mut waiting = self.slots.iter().peekable();
        let nobody = waiting.peek().is_none();
        nobody || waiting.all(|who| *who == Who::Pause) && !self.is_folded()
    }

    fn response(&mut self) -> ClaimResponse {
        let unavailable = self.unavailable();
        let own = self.own.take().map(|own| {
            let users = own.users.into_iter().map(|(user, is)| {
                let result = match is {
                    Of::Answered(result) => result,
                    Of::ToAsk(_) | Of::Asked => Err(unavailable),
                };
                ClaimedUser { user, result }
            });
            doors::fitting(users.collect())
        });
        let others = std::mem::take(&mut self.others).into_iter();
        let others = others.filter_map(|part| part.claimed).flatten();
        let refused = std::mem::take(&mut self.refused);
        let parts = own.into_iter().flatten().chain(others).chain(refused);
        doors::merge_claim(&self.asked, parts.collect())
    }
}

impl Way for Claiming {
    type End = ClaimResponse;

    fn next(&mut self) -> Next<ClaimResponse> {
        let ask = self.asks.pop_front().or_else(|| self.next_user());
        match ask {
            Some((slot, ask)) => Next::Ask(slot, ask),
            None if self.is_whole() => Next::End(self.response()),
            None => Next::Wait,
        }
    }

    fn came(&mut self, slot: Slot, came: Came) {
        match self.slots.close(slot) {
            Some(Who::Room) => self.room_said(&came),
            Some(Who::Voucher) => self.voucher_said(&came),
            Some(Who::Checker) => {
                let signed = if let Came::Signatures(signed) = came {
                    Some(signed)
                } else {
                    None
                };
                self.checked(signed.as_deref());
            }
            Some(Who::User(place)) => self.user_said(place, came),
            Some(Who::Provider(place)) => self.provider_said(place, came),
            Some(Who::Pause) | None => {}
        }
    }
}

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;
