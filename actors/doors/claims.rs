//! Claims at the doors: split by whom to ask, put together again, cut to what an answer holds.
//!
//! Promises: a claim is split and put together again without anybody left out or put in, each user with the signature
//! for it; for a room elsewhere the room's hub is asked, which asks once more.
//!
//! Source: transport requirements, section 3.1.

use crate::{
    ids::{ClientUri, ProviderId, Requester, RoomUri, UserUri},
    limits::{CLAIM_ANSWER_BYTES_MAX, CLAIM_CLIENTS_MAX, CLAIM_USERS_MAX, URI_BYTES_MAX},
    user::command::{Claim, Rules},
    wire::{
        self, BText, BVec,
        claim::{ClaimProof, ClaimRequest, ClaimResponse, ClaimedUser, UserRefused},
        door::DoorRefused,
        event::Hash,
        refusal::TryLater,
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// Whether the client that asks is the requester's; a pseudonym does not say which client asks.
pub(super) fn asks_for_itself(claim: &ClaimRequest) -> bool {
    let asking = claim.terms.asking_client.as_ref();
    match &claim.terms.requester {
        Requester::User(user) => asking.is_none_or(|client| client.user() == user),
        Requester::Pseudonym(_) => asking.is_none(),
    }
}

/// A client's claim, one part for each provider that is to be asked: the room's hub for all users of others, which it
/// passes on, or else the users' own providers.
///
/// # Errors
/// [`DoorRefused::SenderNotBound`] when it is made for another user.
pub fn split_claim(
    client: &ClientUri,
    mut request: ClaimRequest,
) -> Result<BTreeMap<ProviderId, ClaimRequest>, DoorRefused> {
    let own = client.provider().clone();
    let bound = match &request.terms.requester {
        Requester::User(user) => user == client.user(),
        Requester::Pseudonym(pseudonym) => *pseudonym.provider() == own,
    };
    if !bound {
        let detail = BText::clipped("a claim is made for the user of this connection");
        return Err(DoorRefused::SenderNotBound { detail });
    }
    let named = request.terms.requester.user().is_some();
    request.terms.asking_client = named.then(|| client.clone());
    let room = request.terms.room.as_ref();
    let hub = room.map_or_else(|| own.clone(), |room| room.hub().clone());
    Ok(parts(&request, |user| {
        let there = user.provider();
        if hub == own || *there == own {
            there.clone()
        } else {
            hub.clone()
        }
    }))
}

/// A claim that a peer makes for a room here, one part for each provider whose users are wanted.
#[must_use]
pub fn relay_claim(request: &ClaimRequest) -> BTreeMap<ProviderId, ClaimRequest> {
    parts(request, |user| user.provider().clone())
}

/// Splits a claim by whom to ask for each user, each once and with the signature for it.
fn parts(
    request: &ClaimRequest,
    whom: impl Fn(&UserUri) -> ProviderId,
) -> BTreeMap<ProviderId, ClaimRequest> {
    let mut seen = BTreeSet::new();
    let mut providers: BTreeMap<ProviderId, BTreeSet<usize>> = BTreeMap::new();
    for (place, user) in request.users.iter().enumerate() {
        if seen.insert(user) {
            providers.entry(whom(user)).or_default().insert(place);
        }
    }
    let proof = &request.proof;
    let part = |places: &BTreeSet<usize>| ClaimRequest {
        id: request.id,
        terms: request.terms.clone(),
        users: request.users.at(places),
        proof: ClaimProof {
            key: proof.key,
            signatures: proof.signatures.at(places),
            requests: proof.requests.clone(),
            envelope: proof.envelope.clone(),
            before: proof.before.at(places),
        },
    };
    let providers = providers.iter();
    providers
        .map(|(provider, places)| (provider.clone(), part(places)))
        .collect()
}

/// A provider's answer to its part of a claim: nobody is left out, and nobody is put in.
#[must_use]
pub fn complete_claim(
    part: &[UserUri],
    mut claimed: Vec<ClaimedUser>,
    unanswered: TryLater,
) -> Vec<ClaimedUser> {
    claimed.retain(|claimed| part.contains(&claimed.user) && names_its_own(claimed));
    for user in part {
        if !claimed.iter().any(|claimed| claimed.user == *user) {
            claimed.push(ClaimedUser {
                user: user.clone(),
                result: Err(UserRefused::TryLater(unanswered)),
            });
        }
    }
    claimed
}

/// Whether every client of a result is one of its user.
fn names_its_own(claimed: &ClaimedUser) -> bool {
    let Ok(clients) = &claimed.result else {
        return true;
    };
    clients
        .iter()
        .all(|client| *client.client.user() == claimed.user)
}

/// The parts of a claim as one table, in the order of the request.
#[must_use]
pub fn merge_claim(
    asked: &BVec<UserUri, CLAIM_USERS_MAX>,
    parts: Vec<ClaimedUser>,
) -> ClaimResponse {
    let mut results: BTreeMap<UserUri, ClaimedUser> = parts
        .into_iter()
        .map(|claimed| (claimed.user.clone(), claimed))
        .collect();
    let users = asked.refs().filter_map(|user| results.remove(user));
    let mut fill = Fill::default();
    ClaimResponse {
        users: users.map(|user| fill.fit(user)),
    }
}

/// The answer to a claim that is refused for each of its users alike.
#[must_use]
pub fn refuse_claim(asked: &[UserUri], refused: UserRefused) -> Vec<ClaimedUser> {
    let of = |user: &UserUri| ClaimedUser {
        user: user.clone(),
        result: Err(refused),
    };
    asked.iter().map(of).collect()
}

/// The results that fit one answer; in the others' place stands that the answer is full.
///
/// What a user gave stays given to this claim: the same one gets it when it asks for that user again.
#[must_use]
pub fn fitting(claimed: Vec<ClaimedUser>) -> Vec<ClaimedUser> {
    let mut fill = Fill::default();
    claimed.into_iter().map(|user| fill.fit(user)).collect()
}

/// What an answer holds so far.
#[derive(Default)]
struct Fill {
    clients: usize,
    bytes: usize,
}

impl Fill {
    /// A result, if it fits still.
    fn fit(&mut self, mut user: ClaimedUser) -> ClaimedUser {
        let Ok(of_user) = &user.result else {
            return user;
        };
        let packages = of_user
            .iter()
            .filter_map(|client| client.result.as_ref().ok());
        let bytes = packages.map(|package| package.len()).sum::<usize>();
        let bytes = self.bytes + bytes + of_user.len() * (URI_BYTES_MAX / 4);
        let clients = self.clients + of_user.len();
        if clients > CLAIM_CLIENTS_MAX || bytes > CLAIM_ANSWER_BYTES_MAX {
            user.result = Err(UserRefused::AnswerFull);
        } else {
            (self.clients, self.bytes) = (clients, bytes);
        }
        user
    }
}

/// The commands that a claim becomes, whose requester is vouched for: one for each user named, in order.
///
/// A user of another provider gets its refusal at once.
#[must_use]
pub fn claims(
    own: &ProviderId,
    request: &ClaimRequest,
    rules: &Rules,
) -> Vec<(UserUri, Result<Claim, UserRefused>)> {
    let terms = &request.terms;
    let body = Hash::of(&wire::canonical(terms));
    let peer = terms.requester.provider();
    let hub = terms.room.as_ref().map_or(peer, RoomUri::hub);
    let mut asked = BTreeSet::new();
    let part = |user: &UserUri| {
        if user.provider() != own {
            return Err(UserRefused::ForeignUser);
        }
        Ok(Claim {
            id: request.id,
            peer: peer.clone(),
            hub: hub.clone(),
            terms: terms.clone(),
            body,
            rules: *rules,
            over_ms: None,
        })
    };
    let users = request.users.iter();
    users
        .filter(|user| asked.insert(*user))
        .map(|user| (user.clone(), part(user)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{
        Payload,
        claim::{ClaimId, ClaimTerms, ClaimedClient},
    };

    fn user(name: &str, provider: char) -> UserUri {
        format!("mimi://{provider}.example/u/{name}")
            .parse()
            .unwrap()
    }

    fn alice() -> ClientUri {
        "mimi://a.example/d/alice/phone".parse().unwrap()
    }

    /// A claim of these users; the signature for each is its name.
    fn request(room: Option<&str>, users: &[UserUri]) -> ClaimRequest {
        let terms = ClaimTerms {
            asking_client: Some(alice()),
            room: room.map(|room| room.parse().unwrap()),
            ..ClaimTerms::new(alice().user().clone())
        };
        let sign = |user: &UserUri| Payload::from(user.to_string().into_bytes());
        ClaimRequest {
            id: ClaimId([7; 16]),
            terms,
            users: BVec::try_from(users.to_vec()).unwrap(),
            proof: ClaimProof {
                key: [1; 32],
                signatures: BVec::try_from(users.iter().map(sign).collect::<Vec<_>>()).unwrap(),
                before: BVec::try_from(users.iter().map(sign).collect::<Vec<_>>()).unwrap(),
                ..ClaimProof::default()
            },
        }
    }

    /// Whom a claim is split to, and for which users; each has its own signature.
    fn split(parts: BTreeMap<ProviderId, ClaimRequest>) -> Vec<(String, Vec<UserUri>)> {
        let of = |(whom, part): (ProviderId, ClaimRequest)| {
            let users = part.users.into_vec();
            let signed: Vec<Vec<u8>> = part.proof.signatures.iter().map(|s| s.to_vec()).collect();
            let names: Vec<Vec<u8>> = users.iter().map(|u| u.to_string().into_bytes()).collect();
            assert_eq!(signed, names);
            assert_eq!(part.proof.before, part.proof.signatures);
            (whom.to_string(), users)
        };
        parts.into_iter().map(of).collect()
    }

    #[test]
    fn each_provider_is_asked_for_its_own_users_and_a_user_named_twice_once() {
        let users = [
            user("bob", 'b'),
            user("carl", 'c'),
            user("amy", 'a'),
            user("bob", 'b'),
            user("bella", 'b'),
        ];
        let parts = vec![
            ("a.example".to_owned(), vec![user("amy", 'a')]),
            (
                "b.example".to_owned(),
                vec![user("bob", 'b'), user("bella", 'b')],
            ),
            ("c.example".to_owned(), vec![user("carl", 'c')]),
        ];
        let plain = split_claim(&alice(), request(None, &users)).unwrap();
        assert_eq!(split(plain), parts);
        let own = request(Some("mimi://a.example/r/den"), &users);
        assert_eq!(split(split_claim(&alice(), own).unwrap()), parts);
    }

    #[test]
    fn for_a_room_elsewhere_its_hub_is_asked_for_everybody_but_the_own_users() {
        let users = [user("bob", 'b'), user("amy", 'a'), user("carl", 'c')];
        let claim = request(Some("mimi://c.example/r/den"), &users);
        let mut parts = split_claim(&alice(), claim).unwrap();
        let for_hub = parts[&"c.example".parse::<ProviderId>().unwrap()].clone();
        let relayed = vec![
            ("b.example".to_owned(), vec![user("bob", 'b')]),
            ("c.example".to_owned(), vec![user("carl", 'c')]),
        ];
        assert_eq!(split(relay_claim(&for_hub)), relayed);
        parts.retain(|whom, _| whom.as_str() != "c.example");
        let own = vec![("a.example".to_owned(), vec![user("amy", 'a')])];
        assert_eq!(split(parts), own);
    }

    #[test]
    fn a_claim_is_made_for_the_own_user_or_under_a_pseudonym_here() {
        let mut other = request(None, &[user("bob", 'b')]);
        other.terms.requester = user("amy", 'a').into();
        assert!(split_claim(&alice(), other.clone()).is_err());
        other.terms.requester = "mimi://b.example/p/owl".parse().unwrap();
        assert!(split_claim(&alice(), other.clone()).is_err());
        other.terms.requester = "mimi://a.example/p/owl".parse().unwrap();
        let parts = split_claim(&alice(), other).unwrap();
        let hides = |part: &ClaimRequest| part.terms.asking_client.is_none();
        assert!(
            parts.values().all(hides),
            "who hides does not say which client it is"
        );
    }

    #[test]
    fn an_answer_holds_only_so_much_and_the_rest_is_to_be_asked_for_again() {
        let claimed = |number: usize, clients: usize, bytes: usize| {
            let user = user(&format!("u{number}"), 'b');
            let client = |number: usize| ClaimedClient {
                client: ClientUri::new(&user, &number.to_string()).unwrap(),
                result: Ok(Payload::from(vec![0; bytes])),
            };
            ClaimedUser {
                result: Ok(BVec::try_from((0..clients).map(client).collect::<Vec<_>>()).unwrap()),
                user: user.clone(),
            }
        };
        let full = |users: Vec<ClaimedUser>| {
            let users = fitting(users);
            let full = |user: &&ClaimedUser| user.result == Err(UserRefused::AnswerFull);
            (users.len(), users.iter().filter(full).count())
        };
        let crowd = |clients, bytes| (0..1_000).map(|n| claimed(n, clients, bytes)).collect();
        assert_eq!(full(crowd(1, 300)), (1_000, 0));
        let (users, cut) = full(crowd(2, 4_096));
        assert_eq!(users, 1_000);
        assert!((600..1_000).contains(&cut), "{cut}");
        let response = ClaimResponse {
            users: BVec::try_from(fitting(crowd(32, 16 << 10))).unwrap(),
        };
        let frame = wire::canonical(&response).len();
        assert!(frame < crate::limits::REQUEST_FRAME_BYTES_MAX, "{frame}");
    }

    #[test]
    fn of_what_a_provider_answers_only_what_it_was_asked_for_counts() {
        let (bob, eve) = (user("bob", 'b'), user("eve", 'b'));
        let of = |user: &UserUri, result| ClaimedUser {
            user: user.clone(),
            result,
        };
        let strange = ClaimedClient {
            client: alice(),
            result: Ok(Payload::default()),
        };
        let answers = vec![
            of(&eve, Err(UserRefused::NoConsent)),
            of(&bob, Ok(BVec::from([strange]))),
        ];
        let completed = complete_claim(
            std::slice::from_ref(&bob),
            answers,
            TryLater::unavailable(9),
        );
        let unavailable = UserRefused::TryLater(TryLater::unavailable(9));
        assert_eq!(completed, [of(&bob, Err(unavailable))]);
    }
}
