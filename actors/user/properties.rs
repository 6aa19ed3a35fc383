//! What holds of a user whatever is asked of it, in whatever order.

use super::{
    command::StoredPackage,
    fold::Fold,
    outcome::Answer,
    testing::{KEY, Log, alice, claim, client, code, joined, left, package, post, room, user},
};
use crate::{
    limits::KEY_PACKAGES_PER_CLIENT_MAX,
    machine::Fold as _,
    wire::{
        Payload,
        claim::{ClaimId, ClaimTerms},
    },
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const CLIENTS: [&str; 3] = ["phone", "tablet", "watch"];
const ROOMS: [&str; 2] = ["club", "den"];

/// Something that happens to a user; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Enrol(usize, u64),
    Revoke(usize),
    /// So many packages from this number on; some share the init keys of others.
    Upload(usize, u64, u64, bool),
    Claim {
        id: u8,
        foreign: bool,
        own: bool,
    },
    Consent(Option<bool>, bool),
    Deliver(u64, usize, bool, u64),
    Ack(usize, u64, u64),
    Wait(u64),
    Restart,
    Delete,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..3_usize, 0..6_u64).prop_map(|(c, code)| Step::Enrol(c, code)),
        1 => (0..3_usize).prop_map(Step::Revoke),
        // Few and the same again and again, so that they come back when they are gone.
        9 => (0..3_usize, 0..6_u64, 1..4_u64, any::<bool>())
            .prop_map(|(c, first, count, shared)| Step::Upload(c, first, count, shared)),
        // Many, so that the stock is full.
        1 => (0..3_usize, 0..300_u64, any::<bool>())
            .prop_map(|(c, first, shared)| Step::Upload(c, first, 150, shared)),
        9 => (0..12_u8, any::<bool>(), any::<bool>())
            .prop_map(|(id, foreign, own)| Step::Claim { id, foreign, own }),
        2 => (proptest::option::of(any::<bool>()), any::<bool>())
            .prop_map(|(grant, room)| Step::Consent(grant, room)),
        4 => (0..20_u64, 0..2_usize, any::<bool>(), 0..9_u64)
            .prop_map(|(link, room, join, seq)| Step::Deliver(link, room, join, seq)),
        3 => (0..3_usize, 0..9_u64, 0..12_u64).prop_map(|(c, i, r)| Step::Ack(c, i, r)),
        2 => (0..20_u64).prop_map(|hours| Step::Wait(hours * 3_600_000)),
        2 => Just(Step::Restart),
    ];
    // A deletion ends it all, so there is at most one, late.
    let end = proptest::option::weighted(0.1, Just(Step::Delete));
    (proptest::collection::vec(step, 1..60), end).prop_map(|(mut steps, end)| {
        steps.extend(end);
        steps.push(Step::Claim {
            id: 1,
            foreign: false,
            own: false,
        });
        steps
    })
}

/// Who got which package, by provider and claim.
type HandedOut = BTreeMap<Payload, (String, ClaimId)>;

fn take(log: &mut Log, step: Step, handed_out: &mut HandedOut) {
    match step {
        Step::Enrol(who, number) => {
            log.issue(code(1_000 + number));
            log.enrol_as(CLIENTS[who], KEY, code(1_000 + number));
        }
        Step::Revoke(who) => drop(log.revoke(CLIENTS[who])),
        Step::Upload(who, first, count, shared) => {
            // A package is bound to its client, so each client has numbers of its own.
            let numbers = (first..first + count).map(|number| 10_000 * who as u64 + number);
            let packages = numbers.map(|number| {
                let key = if shared { number / 2 * 2 } else { number };
                let init_key = package(key).init_key;
                Ok(StoredPackage {
                    init_key,
                    ..package(number)
                })
            });
            let upload = super::command::Upload {
                client: client(CLIENTS[who]),
                packages: packages.collect(),
            };
            log.apply(super::command::Command::Upload(upload));
        }
        Step::Claim { id, foreign, own } => {
            let requester = if own { user("bobby") } else { alice() };
            let asking_client = own.then(|| client("phone"));
            let terms = ClaimTerms {
                asking_client,
                ..ClaimTerms::new(requester)
            };
            let mut claim = claim(id, terms);
            if foreign {
                claim.peer = "c.example".parse().unwrap();
            }
            let by = (claim.peer.to_string(), claim.id);
            for claimed in log.claim(claim).into_iter().flatten() {
                if let Ok(package) = claimed.result {
                    let first = handed_out.entry(package).or_insert_with(|| by.clone());
                    assert_eq!(*first, by, "a package was handed out twice");
                }
            }
        }
        Step::Consent(grant, for_room) => {
            log.consent(alice(), for_room.then(|| room("club")), grant);
        }
        Step::Deliver(link, place, join, seq) => {
            let notice = if join { joined(seq) } else { left(seq) };
            log.deliver_as(1, link, post(ROOMS[place], &CLIENTS, notice));
        }
        Step::Ack(who, inbox, seq) => {
            let rooms = ROOMS.map(|room| (room, seq));
            log.ack(CLIENTS[who], Some(inbox), &rooms);
        }
        Step::Wait(ms) => log.wait(ms),
        Step::Restart => log.restart(),
        Step::Delete => {
            let answer = log.apply(super::command::Command::Delete).answer;
            assert_eq!(answer, Answer::Done);
        }
    }
}

/// The cursors of one client: of each room its beginning and what was read.
fn cursors(fold: &Fold, name: &str) -> BTreeMap<String, (u64, u64)> {
    let client = client(name);
    let memberships = fold.memberships(&client);
    memberships
        .map(|(room, place)| (room.to_string(), (place.after.0, place.acked.0)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_package_is_handed_out_twice_and_no_bound_is_passed(steps in steps()) {
        let mut log = Log::bobby(&CLIENTS);
        let mut handed_out = HandedOut::new();
        for step in steps {
            let may_begin_again = matches!(step, Step::Deliver(..) | Step::Revoke(_));
            let before = CLIENTS.map(|name| cursors(&log.fold, name));
            take(&mut log, step, &mut handed_out);
            for (name, before) in CLIENTS.into_iter().zip(before) {
                prop_assert!(log.fold.stock(&client(name)) <= KEY_PACKAGES_PER_CLIENT_MAX);
                let seqs: Vec<_> = log.fold.inbox(&client(name)).map(|item| item.seq).collect();
                prop_assert!(seqs.windows(2).all(|pair| pair[0].next() == pair[1]));
                for (room, now) in cursors(&log.fold, name) {
                    let was = before.get(&room).copied().unwrap_or_default();
                    prop_assert!(may_begin_again || was <= now, "{room} went back");
                }
            }
            let bytes = log.fold.compact();
            let revived = Fold::revive(&bytes).unwrap();
            prop_assert_eq!(&revived, &log.fold);
            prop_assert_eq!(revived.compact(), bytes);
        }
    }

    #[test]
    fn bytes_that_are_not_a_fold_are_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(fold) = Fold::revive(&bytes) {
            prop_assert_eq!(Fold::revive(&fold.compact()), Ok(fold));
        }
    }
}
