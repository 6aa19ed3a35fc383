use super::{
    desk::{Check, Checked, Desk, Effect, Input, Own},
    follower, follower_desk,
    hub::{self, Fold, Via},
    outcome::{Answer, Refused},
    testing::*,
};
use crate::{
    caller::Caller,
    ids::ClientUri,
    limits::LEASE_MS,
    machine::{Desk as _, Millis, Ticket},
    wire::{
        BVec, Payload,
        event::{ClientSeq, SubmitRefused, SubmitSeq, Verdict, VerdictRun},
        joining::{CodeId, CodeTerms, CodesAsk},
        room::{Bundle, Request},
    },
};
use std::sync::Arc;

const NOT_AUTHORIZED: Answer = Answer::Refused(Refused::NotAuthorized);

fn give(desk: &mut Desk, input: Input, fold: &Fold) -> Vec<Effect> {
    let mut out = Vec::new();
    desk.handle(input, Millis(1), fold, &mut out);
    out
}

/// What a client is told that asks once and whose request a worker, if it is asked, finds right.
fn told(fold: &Fold, client: &ClientUri, request: Request) -> Answer {
    let mut desk = Desk::default();
    let ticket = Ticket(1);
    let caller = Caller::of(client.clone());
    let asked = Input::Ask {
        ticket,
        caller,
        request,
    };
    let mut effects = give(&mut desk, asked, fold);
    if let [Effect::Own(Own::Check { check, .. })] = &effects[..] {
        assert!(matches!(**check, Check::Admit { .. }), "{check:?}");
        let checked = Box::new(Checked::Admit {
            flaw: None,
            code: None,
            lease_ms: LEASE_MS,
        });
        effects = give(&mut desk, Input::Checked { ticket, checked }, fold);
    }
    assert!(desk.is_idle());
    answer_of(&effects)
}

fn answer_of<C: std::fmt::Debug, O: std::fmt::Debug>(
    effects: &[crate::machine::Effect<C, Answer, O>],
) -> Answer {
    match effects {
        [crate::machine::Effect::Answer { answer, .. }] => answer.clone(),
        other => panic!("not one answer: {other:?}"),
    }
}

fn submit_of(sender: &ClientUri, first: u64, count: usize) -> Input {
    Input::Submit {
        ticket: Ticket(1),
        submit: hub::Submit {
            sender: sender.clone(),
            via: Via::Client(ClientSeq(first)),
            messages: BVec::first_max((0..count).map(|i| message(1, &format!("text {i}")))),
        },
    }
}

/// Every request that a room can be asked besides its creation, right and wrong.
fn requests(joiner: &ClientUri) -> Vec<Request> {
    let commit = |bundle: Bundle| Request::Commit(bundle);
    let mut garbled = bundle(1, "A");
    garbled.commit = garbled.commit.slice(..8).into();
    let codes = |ask: CodesAsk| Request::Codes(ask);
    let proposal = Payload::from(b"p".to_vec());
    let terms = CodeTerms {
        uses: Some(0),
        lifetime_ms: None,
        role_index: None,
        passphrase: None,
    };
    vec![
        commit(bundle(1, "A")),
        commit(bundle(0, "stale")),
        commit(bundle_of(b"another", 1, "A")),
        commit(entering(1)),
        commit(garbled),
        Request::Propose(BVec::from([proposal])),
        Request::Propose(BVec::default()),
        codes(CodesAsk::List),
        codes(CodesAsk::Revoke(CodeId(1))),
        codes(CodesAsk::Create(terms)),
        Request::GroupInfo(Arc::new(joining(1, joiner, Millis(1)))),
    ]
}

/// The beginning of an external Commit.
fn entering(epoch: u64) -> Bundle {
    let mut bundle = bundle(epoch, "enter");
    let mut commit = bundle.commit.to_vec();
    // The sender, which is the first byte after the epoch: a new member that commits, without a leaf.
    let sender = 4 + 1 + GROUP.len() + 8;
    commit.splice(sender..sender + 5, [4]);
    bundle.commit = commit.into();
    bundle
}

#[test]
fn whoever_is_no_member_is_told_what_a_room_that_does_not_exist_tells() {
    let mut hub = Hub::with(&[client("a", "anna", "phone")]);
    let anna = client("a", "anna", "phone");
    let remove = hub.removing("out", vec![(1, anna.clone())]);
    hub.apply(&remove);
    let nowhere = Fold::default();
    for stranger in [client("a", "adam", "phone"), bob(), anna] {
        for request in requests(&stranger) {
            let here = told(&hub.fold, &stranger, request.clone());
            assert_eq!(
                here,
                told(&nowhere, &stranger, request.clone()),
                "{request:?}"
            );
            let empty = matches!(&request, Request::Propose(messages) if messages.is_empty());
            assert!(empty || here == NOT_AUTHORIZED, "{request:?}: {here:?}");
        }
    }
}

#[test]
fn messages_of_a_local_client_that_is_no_member_cost_no_log() {
    let (adam, anna) = (client("a", "adam", "phone"), client("a", "anna", "phone"));
    let mut hub = Hub::with(std::slice::from_ref(&anna));
    hub.send(&anna, 1, vec![message(1, "x"), message(9, "y")]);
    let remove = hub.removing("out", vec![(1, anna.clone())]);
    hub.apply(&remove);
    let mut desk = Desk::default();
    let mut said = |sender: &ClientUri, first: u64, count: usize| {
        answer_of(&give(&mut desk, submit_of(sender, first, count), &hub.fold))
    };
    assert_eq!(said(&adam, 1, 1), NOT_AUTHORIZED);
    assert_eq!(said(&anna, 3, 1), NOT_AUTHORIZED);
    assert_eq!(said(&anna, 2, 2), NOT_AUTHORIZED);
    // What it sent as a member has its verdicts.
    let Answer::Sent(verdicts) = said(&anna, 1, 2) else {
        panic!("the first verdicts")
    };
    assert_eq!(verdicts.iter().map(|run| run.count).sum::<u32>(), 2);
    assert!(desk.is_idle());
    let mut nowhere = Desk::default();
    let effects = give(&mut nowhere, submit_of(&adam, 1, 1), &Fold::default());
    assert_eq!(answer_of(&effects), NOT_AUTHORIZED);
}

#[test]
fn messages_of_a_client_that_is_no_member_of_a_followed_room_cost_no_log() {
    let mut follower = Follower::invited();
    follower.queue(&bob(), 1, vec![message(1, "x")]);
    follower.deliver(vec![commit_event(6, &[bob()], None)]);
    let said = |sender: &ClientUri, first: u64, fold: &follower::Fold| {
        let queue = follower::Queue {
            sender: sender.clone(),
            first: ClientSeq(first),
            messages: BVec::from([message(1, "x")]),
        };
        let input = follower_desk::Input::asked(Ticket(1), follower::Command::Queue(queue));
        let mut out = Vec::new();
        follower_desk::Desk::default().handle(input, Millis(1), fold, &mut out);
        answer_of(&out)
    };
    let adam = client("b", "adam", "phone");
    assert_eq!(said(&adam, 1, &follower.fold), NOT_AUTHORIZED);
    assert_eq!(said(&adam, 1, &follower::Fold::default()), NOT_AUTHORIZED);
    assert_eq!(said(&bob(), 2, &follower.fold), NOT_AUTHORIZED);
    let queued = VerdictRun {
        first: ClientSeq(1),
        count: 1,
        verdict: Verdict::Queued,
    };
    let sent = Answer::Sent(BVec::from([queued]));
    assert_eq!(said(&bob(), 1, &follower.fold), sent);
}

#[test]
fn what_became_of_messages_is_told_to_who_sent_them_and_to_members() {
    let follower = Follower::invited();
    let said = |sender: &ClientUri, fold: &follower::Fold| {
        let asked = super::verdicts::AskVerdicts {
            sender: sender.clone(),
            first: ClientSeq(1),
            count: 1,
            wait_ms: 0,
        };
        let ticket = Ticket(1);
        let input = follower_desk::Input::Verdicts { ticket, asked };
        let mut out = Vec::new();
        follower_desk::Desk::default().handle(input, Millis(1), fold, &mut out);
        answer_of(&out)
    };
    let adam = client("b", "adam", "phone");
    assert_eq!(said(&adam, &follower.fold), NOT_AUTHORIZED);
    assert_eq!(said(&adam, &follower::Fold::default()), NOT_AUTHORIZED);
    assert_eq!(said(&bob(), &follower.fold), Answer::Sent(BVec::default()));
}

#[test]
fn only_who_sent_a_bundle_gets_the_first_answer_to_it() {
    let anna = client("a", "anna", "phone");
    let mut hub = Hub::with(std::slice::from_ref(&anna));
    let mut commit = hub.commit("A");
    commit.bundle = super::preflight::name_bundle(&alice(), &bundle(1, "A"));
    let accepted = hub.apply(&hub::Command::Commit(Box::new(commit)));
    let request = || Request::Commit(bundle(1, "A"));
    let again = told(&hub.fold, &alice(), request());
    assert_eq!(again, accepted.done.to_answer());
    let wrong_epoch = Answer::Refused(hub.room().wrong_epoch());
    assert_eq!(told(&hub.fold, &anna, request()), wrong_epoch);
    // Also once she is no member any more.
    assert_eq!(told(&hub.fold, &bob(), request()), NOT_AUTHORIZED);
}

#[test]
fn a_room_that_exists_is_not_made_again_at_the_cost_of_the_log() {
    let hub = Hub::created();
    let again = |creator: ClientUri| {
        let mut desk = Desk::default();
        let ticket = Ticket(1);
        let asked = Input::Ask {
            ticket,
            caller: Caller::of(creator.clone()),
            request: Request::Create(crate::wire::room::Beginning {
                group_info: Payload::default(),
                tree: Payload::default().0.into(),
            }),
        };
        give(&mut desk, asked, &hub.fold);
        let made = create();
        let checked = Box::new(Checked::Create {
            creator,
            result: Ok(crate::mls::check::create::CheckedCreate {
                view: made.view,
                members: made.members,
            }),
        });
        let answer = answer_of(&give(
            &mut desk,
            Input::Checked { ticket, checked },
            &hub.fold,
        ));
        assert!(desk.is_idle());
        answer
    };
    assert_eq!(again(alice()), Answer::Created);
    let exists = Answer::Refused(Refused::Exists);
    assert_eq!(again(client("a", "adam", "phone")), exists);
}

#[test]
fn messages_of_a_peer_go_to_the_log_when_it_ever_had_a_member() {
    let mut hub = Hub::with(&[bob()]);
    let remove = hub.removing("out", vec![(1, bob())]);
    hub.apply(&remove);
    let input = |sender: &ClientUri| Input::Submit {
        ticket: Ticket(1),
        submit: hub::Submit {
            sender: sender.clone(),
            via: Via::Provider {
                first: SubmitSeq(1),
                undecided: SubmitSeq(1),
            },
            messages: BVec::from([message(1, "x")]),
        },
    };
    let mut desk = Desk::default();
    let effects = give(&mut desk, input(&bob()), &hub.fold);
    let [Effect::Append { command, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    let refused = hub.apply(command).refused;
    assert_eq!(refused[0].reason, SubmitRefused::NotMember);
    let effects = give(&mut Desk::default(), input(&carol()), &hub.fold);
    assert_eq!(answer_of(&effects), NOT_AUTHORIZED);
}
