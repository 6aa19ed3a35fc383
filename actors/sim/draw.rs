//! How a plan is drawn: rules, weather, moves and faults, each from dice that the plan gives.

use super::{
    dice::Dice,
    plan::{
        BEGIN_MS, CodeKind, Fault, Flaw, Intrusion, Move, NodeRef, PlannedFault, PlannedMove,
        ProviderShape, Weather,
    },
};
use crate::{bucket::Rate, user::command::Rules};

/// By how many times ten minutes at most a clock leaps: an hour, a day and 40 days are among them.
const LEAPS: [i64; 8] = [1, 1, 1, 1, 1, 6, 144, 5_760];

/// Tight or generous limits; what else a provider may decide.
pub(super) fn rules(dice: &mut Dice) -> Rules {
    let rate = |burst, per_minute| Rate { burst, per_minute };
    let tight = dice.hits(400);
    let usual = Rules {
        allow_last_resort: dice.hits(600),
        folded: dice.hits(200),
        ..Rules::default()
    };
    if !tight {
        return usual;
    }
    Rules {
        requester_on_user: rate(1, *dice.pick(&[1, 6]).unwrap_or(&6)),
        provider_on_user: rate(2, 12),
        user: rate(3, 12),
        requester: rate(4, 60),
        provider: rate(8, 60),
        ..usual
    }
}

pub(super) fn weather(dice: &mut Dice, faultless: bool) -> Weather {
    let mut weather = Weather {
        delay_ms_max: *dice.pick(&[2, 5, 20, 60]).unwrap_or(&5),
        sync_ms_max: *dice.pick(&[1, 4, 15, 50]).unwrap_or(&4),
        check_ms_max: *dice.pick(&[1, 5, 40]).unwrap_or(&5),
        sleep_permille: *dice.pick(&[0, 100, 500]).unwrap_or(&0),
        ..Weather::default()
    };
    if !faultless {
        weather.loss_permille = *dice.pick(&[0, 0, 0, 10, 80]).unwrap_or(&0);
        weather.twice_permille = *dice.pick(&[0, 0, 30, 200]).unwrap_or(&0);
        weather.cut_permille = *dice.pick(&[0, 0, 5, 50]).unwrap_or(&0);
        weather.delay_ms_max *= *dice.pick(&[1, 1, 1, 10]).unwrap_or(&1);
    }
    weather
}

pub(super) fn moves(
    dice: &mut Dice,
    clients: usize,
    calm_ms: u64,
    real_mls: bool,
) -> Vec<PlannedMove> {
    // Each seed has its own taste.
    let kinds = [
        Move::Create,
        Move::Invite(2),
        Move::Remove,
        Move::Update,
        Move::ProposeUpdate,
        Move::ProposeRemove,
        Move::Send(3),
        Move::Upload(2),
        Move::Flawed(Flaw::NoWelcome),
        Move::Claim,
        Move::ProposeLeave,
        Move::Enter,
        Move::Intrude(Intrusion::Stranger),
    ];
    let taste: Vec<(Move, u64)> = kinds
        .into_iter()
        .map(|kind| {
            let usual = match kind {
                Move::Create => 2,
                Move::Invite(_) | Move::Update => 5,
                Move::Send(_) => 8,
                Move::Remove | Move::ProposeUpdate | Move::ProposeRemove | Move::Upload(_) => 3,
                Move::Enter => 3,
                Move::Flawed(_)
                | Move::Claim
                | Move::DeleteUser
                | Move::ProposeLeave
                | Move::MakeCode(_)
                | Move::EndCode
                | Move::JoinByCode
                | Move::GuessCodes(_)
                | Move::ReInit
                | Move::Quarrel
                | Move::SendAgain
                | Move::CreateTwin
                | Move::Intrude(_) => 1,
            };
            (kind, usual * *dice.pick(&[0, 1, 1, 1, 4]).unwrap_or(&1) + 1)
        })
        .collect();
    let total: u64 = taste.iter().map(|(_, weight)| weight).sum();
    let count = if real_mls {
        dice.between(10, 30)
    } else {
        dice.between(15, 110)
    };
    let mut moves: Vec<PlannedMove> = (0..count)
        .map(|_| {
            let mut roll = dice.below(total);
            let kind = taste
                .iter()
                .find(|(_, weight)| {
                    let found = roll < *weight;
                    roll = roll.saturating_sub(*weight);
                    found
                })
                .map_or(Move::Update, |(kind, _)| *kind);
            PlannedMove {
                at_ms: dice.between(BEGIN_MS, calm_ms),
                client: dice.place(clients),
                what: detailed(dice, kind),
            }
        })
        .collect();
    // Every world begins with a few rooms, and somebody in them.
    for number in 0..dice.between(1, 3) {
        let client = dice.place(clients);
        for (after, what) in [(0, Move::Create), (60, Move::Invite(3))] {
            let at_ms = BEGIN_MS + 10 * number + after;
            moves.push(PlannedMove {
                at_ms,
                client,
                what,
            });
        }
    }
    if dice.hits(300) {
        moves.push(PlannedMove {
            at_ms: dice.between(BEGIN_MS, calm_ms),
            client: dice.place(clients),
            what: Move::DeleteUser,
        });
    }
    moves.sort_by_key(|planned| planned.at_ms);
    moves
}

/// Rooms that are joined by codes, in half of the seeds; in some a group that is ended, and members that quarrel.
pub(super) fn code_moves(dice: &mut Dice, clients: usize, calm_ms: u64) -> Vec<PlannedMove> {
    let mut moves = Vec::new();
    let mut plan = |at_ms, client, what| {
        moves.push(PlannedMove {
            at_ms,
            client,
            what,
        });
    };
    let begin_ms = BEGIN_MS + 100;
    if dice.hits(500) {
        let guesses = dice.hits(300);
        for _ in 0..dice.between(2, 10) {
            let at_ms = dice.between(begin_ms, calm_ms);
            let kind = CodeKind {
                uses: *dice
                    .pick(&[Some(1), Some(1), Some(2), None])
                    .unwrap_or(&None),
                lifetime_ms: *dice.pick(&[None, None, Some(2_000)]).unwrap_or(&None),
                // Seldom, for it takes much memory and time.
                passphrase: dice.hits(40),
            };
            plan(at_ms, dice.place(clients), Move::MakeCode(kind));
            // Several at once want what may be enough for one.
            for _ in 0..dice.between(1, 3) {
                let joins_ms = at_ms + *dice.pick(&[200, 500, 2_500]).unwrap_or(&500);
                for _ in 0..dice.between(1, 3) {
                    let at_ms = joins_ms + dice.between(1, 10);
                    plan(at_ms, dice.place(clients), Move::JoinByCode);
                }
            }
            if guesses {
                let (guesser, count) = (dice.place(clients), 1 + dice.place(7) as u8);
                let at_ms = at_ms + dice.between(200, 3_000);
                plan(at_ms, guesser, Move::GuessCodes(count));
                plan(at_ms + 1_000, guesser, Move::JoinByCode);
            }
            if dice.hits(250) {
                let at_ms = at_ms + dice.between(200, 3_000);
                plan(at_ms, dice.place(clients), Move::EndCode);
            }
        }
    }
    if dice.hits(150) {
        let at_ms = dice.between(begin_ms, calm_ms);
        plan(at_ms, dice.place(clients), Move::ReInit);
    }
    if dice.hits(200) {
        for _ in 0..dice.between(1, 4) {
            let at_ms = dice.between(begin_ms, calm_ms);
            plan(at_ms, dice.place(clients), Move::Quarrel);
            for _ in 0..clients {
                let at_ms = at_ms + dice.between(100, 600);
                plan(
                    at_ms,
                    dice.place(clients),
                    Move::Flawed(Flaw::Contradiction),
                );
            }
        }
    }
    moves
}

/// Clients that lose count of their messages, or give two rooms one group, in half of the seeds.
pub(super) fn repeats(dice: &mut Dice, clients: usize, calm_ms: u64) -> Vec<PlannedMove> {
    let count = if dice.hits(500) {
        dice.between(5, 40)
    } else {
        0
    };
    let planned = |number| PlannedMove {
        at_ms: dice.between(BEGIN_MS, calm_ms),
        client: dice.place(clients),
        what: if number % 4 == 0 {
            Move::CreateTwin
        } else {
            Move::SendAgain
        },
    };
    (0..count).map(planned).collect()
}

fn detailed(dice: &mut Dice, kind: Move) -> Move {
    match kind {
        Move::Invite(_) => Move::Invite(1 + dice.place(4) as u8),
        Move::Send(_) => Move::Send(*dice.pick(&[1, 1, 2, 5, 20]).unwrap_or(&1)),
        Move::Upload(_) => Move::Upload(1 + dice.place(4) as u8),
        Move::Flawed(_) => {
            let flaws = [
                Flaw::NoWelcome,
                Flaw::OtherWelcome,
                Flaw::OldGroupInfo,
                Flaw::OldTree,
                Flaw::Contradiction,
            ];
            Move::Flawed(*dice.pick(&flaws).unwrap_or(&Flaw::NoWelcome))
        }
        Move::Intrude(_) => {
            let intrusions = [Intrusion::Stranger, Intrusion::RemovesAnother];
            Move::Intrude(*dice.pick(&intrusions).unwrap_or(&Intrusion::Stranger))
        }
        other => other,
    }
}

/// One node misses what another loses, and the one that has it is gone when the two meet.
fn bad_day(loses: NodeRef, nodes: u8, at_ms: u64) -> [PlannedFault; 3] {
    let other = |place: u8| NodeRef {
        node: (loses.node + place) % nodes,
        ..loses
    };
    let fault = |at_ms: u64, what: Fault| PlannedFault { at_ms, what };
    [
        fault(
            at_ms,
            Fault::Partition {
                node: other(1),
                both: true,
                outside: false,
                lasts_ms: 1_000,
            },
        ),
        fault(
            at_ms + 900,
            Fault::StaleDisk {
                node: loses,
                gone_ms: 50,
            },
        ),
        fault(
            at_ms + 960,
            Fault::Crash {
                node: other(2),
                after_effects: 0,
                gone_ms: 3_000,
            },
        ),
    ]
}

pub(super) fn faults(
    dice: &mut Dice,
    providers: &[ProviderShape],
    calm_ms: u64,
) -> Vec<PlannedFault> {
    // Which kinds there are at all in this seed.
    let kinds: Vec<u64> = (0..9).filter(|_| dice.hits(350)).collect();
    let mut faults = Vec::new();
    let count = if kinds.is_empty() {
        0
    } else {
        dice.between(1, 14)
    };
    for _ in 0..count {
        let provider = dice.place(providers.len());
        let Some(shape) = providers.get(provider) else {
            continue;
        };
        let node = NodeRef {
            provider: provider as u8,
            node: dice.place(usize::from(shape.nodes)) as u8,
        };
        let provider = node.provider;
        let gone_ms = *dice.pick(&[1, 50, 400, 2_500]).unwrap_or(&50);
        let lasts_ms = *dice.pick(&[50, 400, 3_000]).unwrap_or(&400);
        let what = match dice.pick(&kinds) {
            Some(0) => Fault::Crash {
                node,
                after_effects: dice.below(30),
                gone_ms,
            },
            Some(1) => Fault::PowerLoss { provider, gone_ms },
            // With fewer voters nobody could tell that something is missing, and nothing could replace it.
            Some(2) if shape.nodes >= 3 => {
                if dice.hits(500) {
                    let at_ms = dice.between(BEGIN_MS, calm_ms);
                    faults.extend(bad_day(node, shape.nodes, at_ms));
                    continue;
                }
                Fault::StaleDisk { node, gone_ms }
            }
            Some(3) => Fault::Partition {
                node,
                both: dice.hits(500),
                outside: dice.hits(400),
                lasts_ms,
            },
            Some(4) => Fault::Slow {
                node,
                times: dice.between(3, 40),
                lasts_ms,
            },
            Some(5) => {
                let by = dice.between(1, 600_000) as i64;
                // Up to ten minutes, an hour, a day or 40 days.
                let by = by * LEAPS[by as usize % LEAPS.len()];
                let by_ms = if dice.hits(500) { by } else { -by };
                Fault::Clock { node, by_ms }
            }
            Some(6) => Fault::StartedTwice { node },
            Some(7) => Fault::Frozen {
                provider,
                roll: dice.below(4),
                lasts_ms,
            },
            _ => Fault::Deposed {
                provider,
                shard: dice.below(u64::from(shape.shards)) as u16,
            },
        };
        faults.push(PlannedFault {
            at_ms: dice.between(BEGIN_MS, calm_ms),
            what,
        });
    }
    if providers.iter().any(|provider| provider.hostile) {
        for _ in 0..dice.between(5, 40) {
            faults.push(PlannedFault {
                at_ms: dice.between(BEGIN_MS, calm_ms),
                what: Fault::Hostile {
                    roll: dice.number(),
                },
            });
        }
    }
    faults.sort_by_key(|planned| planned.at_ms);
    faults
}

/// Disks that are full for a while, and processes that end meanwhile.
pub(super) fn full_disks(
    dice: &mut Dice,
    providers: &[ProviderShape],
    calm_ms: u64,
) -> Vec<PlannedFault> {
    let mut faults = Vec::new();
    if !dice.hits(300) {
        return faults;
    }
    for _ in 0..dice.between(1, 3) {
        let provider = dice.place(providers.len());
        let Some(shape) = providers.get(provider) else {
            continue;
        };
        let (provider, node) = (provider as u8, dice.place(usize::from(shape.nodes)) as u8);
        let only = dice.hits(700).then_some(node);
        let lasts_ms = *dice.pick(&[400, 3_000, 6_000]).unwrap_or(&400);
        let at_ms = dice.between(BEGIN_MS, calm_ms);
        let what = Fault::FullDisk {
            provider,
            only,
            lasts_ms,
        };
        faults.push(PlannedFault { at_ms, what });
        if dice.hits(500) {
            let what = Fault::Crash {
                node: NodeRef { provider, node },
                after_effects: dice.below(5),
                gone_ms: *dice.pick(&[1, 400, 2_500]).unwrap_or(&400),
            };
            let at_ms = at_ms + dice.below(lasts_ms);
            faults.push(PlannedFault { at_ms, what });
        }
    }
    faults
}
