use super::*;
use crate::{
    shard::names::GroupName,
    user::command::Rules,
    wire::{
        BVec, Payload,
        claim::{ClaimId, ClaimProof, ClaimTerms, ClaimedClient},
        refusal::TryLater,
    },
};

const KEY: [u8; 32] = [1; 32];
const LATER: TryLater = TryLater::unavailable(9);
const RETRY: UserRefused = UserRefused::TryLater(LATER);

fn provider(name: char) -> ProviderId {
    format!("{name}.example").parse().unwrap()
}

fn user(name: &str, provider: char) -> UserUri {
    format!("mimi://{provider}.example/u/{name}")
        .parse()
        .unwrap()
}

fn alice() -> ClientUri {
    "mimi://a.example/d/alice/phone".parse().unwrap()
}

fn den(provider: char) -> RoomUri {
    format!("mimi://{provider}.example/r/den").parse().unwrap()
}

fn house(own: char) -> House {
    House {
        own: provider(own),
        rules: Rules::default(),
        later: LATER,
        group_of: GroupName::in_group_info,
    }
}

/// A claim of alice for these users.
fn claim(room: Option<RoomUri>, users: &[UserUri]) -> ClaimRequest {
    ClaimRequest {
        id: ClaimId([7; 16]),
        terms: ClaimTerms {
            asking_client: Some(alice()),
            room,
            ..ClaimTerms::new(alice().user().clone())
        },
        users: BVec::try_from(users.to_vec()).unwrap(),
        proof: ClaimProof {
            key: KEY,
            ..ClaimProof::default()
        },
    }
}

fn got(user: &UserUri) -> ClaimedUser {
    let client = ClaimedClient {
        client: ClientUri::new(user, "phone").unwrap(),
        result: Ok(Payload::from(vec![1])),
    };
    ClaimedUser {
        user: user.clone(),
        result: Ok(BVec::from([client])),
    }
}

fn refused(user: &UserUri, why: UserRefused) -> ClaimedUser {
    ClaimedUser {
        user: user.clone(),
        result: Err(why),
    }
}

/// What a claim asks until it waits.
fn asks(claiming: &mut Claiming) -> Vec<(Slot, Ask)> {
    let mut asks = Vec::new();
    loop {
        match claiming.next() {
            Next::Ask(slot, ask) => asks.push((slot, ask)),
            Next::Wait => return asks,
            Next::End(response) => panic!("it is over: {response:?}"),
        }
    }
}

/// The only thing that it asks.
fn asks_once(claiming: &mut Claiming) -> (Slot, Ask) {
    let mut asks = asks(claiming);
    assert_eq!(asks.len(), 1, "{asks:?}");
    asks.remove(0)
}

fn end(claiming: &mut Claiming) -> Vec<ClaimedUser> {
    let Next::End(response) = claiming.next() else {
        panic!("it is not over")
    };
    response.users.into_vec()
}

/// The signatures of a part are right.
fn all_signed(claiming: &mut Claiming) -> Vec<(Slot, Ask)> {
    let (slot, ask) = asks_once(claiming);
    let Ask::Signatures(request) = ask else {
        panic!("the signatures are checked first: {ask:?}")
    };
    let signed = vec![true; request.users.len()];
    claiming.came(slot, Came::Signatures(signed));
    asks(claiming)
}

fn claimed_of(ask: &Ask) -> &UserUri {
    let Ask::Shard(ShardRequest::UserLog(user, Command::Claim(_))) = ask else {
        panic!("a user is claimed: {ask:?}")
    };
    user
}

fn gives(ask: &Ask) -> Came {
    let claimed = got(claimed_of(ask)).result;
    Came::Shard(ShardReply::User(Answer::Claimed(claimed)))
}

#[test]
fn the_answer_keeps_the_order_of_the_request_and_who_does_not_answer_is_unavailable() {
    let users = [
        user("bob", 'b'),
        user("amy", 'a'),
        user("carl", 'c'),
        user("bella", 'b'),
    ];
    let request = claim(None, &users);
    let mut claiming =
        Claiming::of_client(&house('a'), &alice(), Some(&KEY), request.clone()).unwrap();
    let first = asks(&mut claiming);
    let (mut peers, mut checks) = (Vec::new(), Vec::new());
    for (slot, ask) in first {
        if let Ask::Peer(whom, link::Request::Claim(part)) = ask {
            peers.push((slot, whom, part.users.into_vec()));
        } else if let Ask::Signatures(part) = ask {
            checks.push((slot, part.users.into_vec()));
        }
    }
    let (b, c) = (provider('b'), provider('c'));
    let bs = vec![users[0].clone(), users[3].clone()];
    assert_eq!(
        peers,
        [(peers[0].0, b, bs), (peers[1].0, c, vec![users[2].clone()])]
    );
    assert_eq!(checks[0].1, [users[1].clone()]);
    claiming.came(checks[0].0, Came::Signatures(vec![true]));
    let (slot, ask) = asks_once(&mut claiming);
    assert_eq!(claimed_of(&ask), &users[1]);

    // b.example leaves one of its users out, c.example does not answer.
    let part = ClaimResponse {
        users: BVec::from([got(&users[3])]),
    };
    claiming.came(peers[0].0, Came::Peer(link::Reply::Claimed(part)));
    claiming.came(slot, gives(&ask));
    assert!(asks(&mut claiming).is_empty(), "c.example is waited for");
    claiming.came(peers[1].0, Came::Nothing);
    assert_eq!(
        end(&mut claiming),
        [
            refused(&users[0], RETRY),
            got(&users[1]),
            refused(&users[2], RETRY),
            got(&users[3]),
        ]
    );
}

#[test]
fn users_of_a_provider_without_a_link_are_refused_for_good() {
    let users = [user("bob", 'b'), user("xena", 'x')];
    let mut claiming =
        Claiming::of_client(&house('a'), &alice(), Some(&KEY), claim(None, &users)).unwrap();
    for (slot, ask) in asks(&mut claiming) {
        let Ask::Peer(whom, _) = ask else {
            panic!("other providers are asked: {ask:?}")
        };
        let came = if whom == provider('x') {
            Came::NoLink
        } else {
            Came::Nothing
        };
        claiming.came(slot, came);
    }
    assert_eq!(
        end(&mut claiming),
        [
            refused(&users[0], RETRY),
            refused(&users[1], UserRefused::ProviderUnknown),
        ]
    );
}

#[test]
fn a_client_claims_with_the_key_that_it_proved() {
    let request = claim(None, &[user("bob", 'b')]);
    for key in [None, Some(&[2; 32])] {
        let refused = Claiming::of_client(&house('a'), &alice(), key, request.clone());
        assert!(matches!(refused, Err(DoorRefused::SenderNotBound { .. })));
    }
}

#[test]
fn whom_the_requester_did_not_sign_for_is_not_asked() {
    let users = [user("bob", 'b'), user("bella", 'b'), user("carl", 'c')];
    let mut claiming = Claiming::of_users(&house('b'), claim(None, &users));
    let (slot, _) = asks_once(&mut claiming);
    claiming.came(slot, Came::Signatures(vec![true, false, true]));
    let (slot, ask) = asks_once(&mut claiming);
    assert_eq!(claimed_of(&ask), &users[0]);
    claiming.came(slot, gives(&ask));
    assert_eq!(
        end(&mut claiming),
        [
            got(&users[0]),
            refused(&users[1], UserRefused::Unsigned),
            refused(&users[2], UserRefused::ForeignUser),
        ]
    );
}

#[test]
fn nobody_is_claimed_while_the_signatures_cannot_be_checked() {
    let users = [user("bob", 'b'), user("bella", 'b')];
    let mut claiming = Claiming::of_users(&house('b'), claim(None, &users));
    let (slot, _) = asks_once(&mut claiming);
    claiming.came(slot, Came::Nothing);
    let unavailable = users.map(|user| refused(&user, RETRY));
    assert_eq!(end(&mut claiming), unavailable);
}

#[test]
fn so_many_users_are_asked_at_a_time_and_each_answers_once() {
    let users: Vec<UserUri> = (0..300).map(|n| user(&format!("u{n}"), 'b')).collect();
    let mut claiming = Claiming::of_users(&house('b'), claim(None, &users));
    let mut waiting = VecDeque::from(all_signed(&mut claiming));
    assert_eq!(waiting.len(), USERS_AT_ONCE);
    let mut asked = Vec::new();
    while let Some((slot, ask)) = waiting.pop_front() {
        asked.push(claimed_of(&ask).clone());
        claiming.came(slot, gives(&ask));
        // It has answered: this is passed over.
        claiming.came(slot, Came::Nothing);
        if asked.len() < users.len() {
            waiting.extend(asks(&mut claiming));
            assert!(waiting.len() <= USERS_AT_ONCE);
        }
    }
    assert_eq!(asked, users);
    let all: Vec<ClaimedUser> = users.iter().map(got).collect();
    assert_eq!(end(&mut claiming), all);
}

#[test]
fn a_hub_passes_a_claim_on_for_whom_its_room_knows_and_for_nobody_else() {
    let users = [user("carl", 'c'), user("bob", 'b')];
    let begin = || {
        let request = claim(Some(den('b')), &users);
        let mut claiming = Claiming::for_room(&house('b'), provider('a'), den('b'), request);
        let (slot, ask) = asks_once(&mut claiming);
        let knows = ShardRequest::Knows(den('b'), provider('a'));
        assert_eq!(ask, Ask::Shard(knows));
        (claiming, slot)
    };
    let (mut claiming, slot) = begin();
    claiming.came(slot, Came::Shard(ShardReply::Knows(false)));
    let all = users.clone();
    let not_relayed = all.map(|user| refused(&user, UserRefused::NotRelayed));
    assert_eq!(end(&mut claiming), not_relayed);

    let (mut claiming, slot) = begin();
    claiming.came(slot, Came::Nothing);
    let all = users.clone();
    assert_eq!(end(&mut claiming), all.map(|user| refused(&user, RETRY)));

    let (mut claiming, slot) = begin();
    claiming.came(slot, Came::Shard(ShardReply::Knows(true)));
    let parts = asks(&mut claiming);
    let relayed = parts.iter().find_map(|(_, ask)| {
        if let Ask::Peer(whom, link::Request::Relayed(part)) = ask {
            return Some((whom, &part.users));
        }
        None
    });
    let (whom, part) = relayed.unwrap();
    assert_eq!((whom, &**part), (&provider('c'), &users[..1]));
    let here = |(_, ask): &(Slot, Ask)| matches!(ask, Ask::Signatures(_));
    assert!(parts.iter().any(here), "bob is a user of the hub itself");
}

#[test]
fn a_claim_that_was_passed_on_is_taken_when_the_requesters_provider_vouches_for_the_key() {
    let bob = user("bob", 'b');
    let begin = |own| {
        let request = claim(Some(den('c')), std::slice::from_ref(&bob));
        let mut claiming = Claiming::relayed(&house(own), request);
        let (slot, ask) = asks_once(&mut claiming);
        (claiming, slot, ask)
    };
    let (_, _, ask) = begin('b');
    let client = alice();
    let vouch = link::Request::Vouch { client, key: KEY };
    assert_eq!(ask, Ask::Peer(provider('a'), vouch));
    for (came, why) in [
        (
            Came::Peer(link::Reply::Vouched(false)),
            UserRefused::Unsigned,
        ),
        (Came::Nothing, RETRY),
    ] {
        let (mut claiming, slot, _) = begin('b');
        claiming.came(slot, came);
        assert_eq!(end(&mut claiming), [refused(&bob, why)]);
    }
    let (mut claiming, slot, _) = begin('b');
    claiming.came(slot, Came::Peer(link::Reply::Vouched(true)));
    assert_eq!(claimed_of(&all_signed(&mut claiming)[0].1), &bob);

    // At the requester's own provider its shard is asked.
    let (mut claiming, slot, ask) = begin('a');
    assert_eq!(ask, Ask::Shard(ShardRequest::DeviceKey(alice())));
    claiming.came(slot, Came::Shard(ShardReply::DeviceKey(None)));
    assert_eq!(end(&mut claiming), [refused(&bob, UserRefused::Unsigned)]);
}

#[test]
fn who_does_not_say_which_client_asks_is_vouched_for_by_nobody() {
    let bob = user("bob", 'b');
    let mut request = claim(Some(den('c')), std::slice::from_ref(&bob));
    request.terms.asking_client = None;
    let mut claiming = Claiming::relayed(&house('b'), request);
    assert_eq!(end(&mut claiming), [refused(&bob, UserRefused::Unsigned)]);
}

#[test]
fn a_folded_refusal_takes_its_time_and_a_package_does_not() {
    let mut house = house('b');
    house.rules.folded = true;
    let bob = user("bob", 'b');
    for (result, waits) in [
        (Err(UserRefused::NoConsent), true),
        (got(&bob).result, false),
    ] {
        let request = claim(None, std::slice::from_ref(&bob));
        let mut claiming = Claiming::of_users(&house, request);
        let first = asks(&mut claiming);
        let [(pause, Ask::Pause { .. }), (check, Ask::Signatures(_))] = &first[..] else {
            panic!("{first:?}")
        };
        claiming.came(*check, Came::Signatures(vec![true]));
        let (slot, _) = asks_once(&mut claiming);
        let answer = Answer::Claimed(result.clone());
        claiming.came(slot, Came::Shard(ShardReply::User(answer)));
        if waits {
            assert!(asks(&mut claiming).is_empty());
            claiming.came(*pause, Came::Nothing);
        }
        let users = end(&mut claiming);
        assert_eq!(users[0].result, result);
    }
}
