//! What a seed plays: the shape of the world, what clients do, and what goes wrong. Drawn once, before anything runs.
//!
//! Each seed draws its own mix: most kinds of fault are off in most seeds, one seed in eight has none at all. A plan is
//! data, so that a failing one can be made smaller by leaving moves and faults out.

use super::dice::Dice;
use crate::{bucket::Rate, limits::LINK_RUNS_MAX, user::command::Rules};

/// One process of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeRef {
    /// Its provider, by number.
    pub provider: u8,
    /// Its number there.
    pub node: u8,
}

impl std::fmt::Display for NodeRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let provider = char::from(b'a' + self.provider);
        write!(f, "{provider}{}", self.node + 1)
    }
}

/// A provider of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderShape {
    /// Its nodes.
    pub nodes: u8,
    /// Its shards.
    pub shards: u16,
    /// Its users: how many clients each has.
    pub users: Vec<u8>,
    /// Whether somebody also sends hostile frames in its name.
    pub hostile: bool,
}

/// How badly the network and the disks behave, all the time until the faults stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weather {
    /// Requests lost on their way, in thousandths.
    pub loss_permille: u32,
    /// Requests that arrive twice, in thousandths.
    pub twice_permille: u32,
    /// Longest way of a message, in milliseconds; the shortest is one.
    pub delay_ms_max: u64,
    /// Lanes cut with a frame on them, in thousandths.
    pub cut_permille: u32,
    /// Longest sync of a disk, in milliseconds; the shortest is one.
    pub sync_ms_max: u64,
    /// Longest check of a worker, in milliseconds.
    pub check_ms_max: u64,
    /// Actors put to sleep after an entry, in thousandths.
    pub sleep_permille: u32,
    /// Entries of a shard after which its state is sealed and older entries are discarded; zero for never.
    pub snapshot_entries: u64,
    /// Runs on one link, at most.
    pub runs_max: u32,
    /// Looks into the inbox after which a client opens its stream anew, in thousandths.
    pub reopens_permille: u32,
}

impl Default for Weather {
    /// Nothing goes wrong by itself, and nothing is ever full.
    fn default() -> Self {
        Self {
            loss_permille: 0,
            twice_permille: 0,
            delay_ms_max: 0,
            cut_permille: 0,
            sync_ms_max: 0,
            check_ms_max: 0,
            sleep_permille: 0,
            snapshot_entries: 0,
            runs_max: LINK_RUNS_MAX,
            reopens_permille: 0,
        }
    }
}

/// What a client is asked to do; with whom and where is drawn from what it knows at that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Create a room.
    Create,
    /// Claim KeyPackages of up to so many users, and add them.
    Invite(u8),
    /// Remove a member.
    Remove,
    /// Commit to nothing but what waits.
    Update,
    /// Propose an Update.
    ProposeUpdate,
    /// Propose to remove a member.
    ProposeRemove,
    /// Propose to leave.
    ProposeLeave,
    /// Enter a room of another client of the user, or again.
    Enter,
    /// Enter where that is not allowed, or do to others what is not.
    Intrude(Intrusion),
    /// Make a joining code for a room.
    MakeCode(CodeKind),
    /// End a joining code of a room.
    EndCode,
    /// Join a room with a code that somebody told.
    JoinByCode,
    /// Present so many codes that nobody made.
    GuessCodes(u8),
    /// End a room's group by a ReInit.
    ReInit,
    /// Propose to remove another member, which proposes the same of this one.
    Quarrel,
    /// Send so many messages to one room.
    Send(u8),
    /// Upload so many KeyPackages.
    Upload(u8),
    /// Commit with a bundle in which something is wrong.
    Flawed(Flaw),
    /// Claim packages and do nothing with them.
    Claim,
    /// The user is deleted.
    DeleteUser,
}

/// What a joining code is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeKind {
    /// Joins; absent for any number.
    pub uses: Option<u8>,
    /// For how long, in milliseconds; absent for ever.
    pub lifetime_ms: Option<u16>,
    /// Whether a passphrase belongs to it.
    pub passphrase: bool,
}

/// What is wrong with an external Commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intrusion {
    /// Its sender's user has no client in the room.
    Stranger,
    /// It removes another's leaf.
    RemovesAnother,
}

/// What is wrong with a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It adds, and has no Welcome.
    NoWelcome,
    /// Its Welcome is of another Commit.
    OtherWelcome,
    /// Its GroupInfo is of the epoch before.
    OldGroupInfo,
    /// Its tree is of the epoch before.
    OldTree,
    /// It takes in members that remove one another.
    Contradiction,
}

/// A move, when, and of which client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedMove {
    /// When, in milliseconds.
    pub at_ms: u64,
    /// The client, by number.
    pub client: usize,
    /// What it does.
    pub what: Move,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A node ends at its next effect but so many, and comes back after so many milliseconds.
    Crash {
        /// The node.
        node: NodeRef,
        /// Effects that it still carries out.
        after_effects: u64,
        /// How long it is gone, in milliseconds.
        gone_ms: u64,
    },
    /// All nodes of a provider lose power at once.
    PowerLoss {
        /// The provider.
        provider: u8,
        /// How long, in milliseconds.
        gone_ms: u64,
    },
    /// A node comes back with a disk that lacks what it had synced.
    StaleDisk {
        /// The node.
        node: NodeRef,
        /// How long it is gone, in milliseconds.
        gone_ms: u64,
    },
    /// Nothing goes from one node to the others of its provider, or to other providers; perhaps both ways.
    Partition {
        /// The node.
        node: NodeRef,
        /// Whether the other direction is cut too.
        both: bool,
        /// Whether other providers are cut off, rather than the node's own.
        outside: bool,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// Everything that a node does takes so many times as long.
    Slow {
        /// The node.
        node: NodeRef,
        /// How many times.
        times: u64,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// A node's clock jumps.
    Clock {
        /// The node.
        node: NodeRef,
        /// By how much, in milliseconds.
        by_ms: i64,
    },
    /// A node's process is started again while it runs.
    StartedTwice {
        /// The node.
        node: NodeRef,
    },
    /// A shard's leader loses its office although it is well.
    Deposed {
        /// The provider.
        provider: u8,
        /// The shard.
        shard: u16,
    },
    /// Some rooms that a provider follows are frozen there: it refuses their events, until an operator mends it and has
    /// them sent again.
    Frozen {
        /// The provider.
        provider: u8,
        /// Which rooms.
        roll: u64,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// Somebody sends a hostile frame in the name of the hostile provider.
    Hostile {
        /// Which kind, and with which details.
        roll: u64,
    },
}

/// A fault, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedFault {
    /// When, in milliseconds.
    pub at_ms: u64,
    /// What.
    pub what: Fault,
}

/// Everything that a seed draws in advance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Whether members are real OpenMLS ones.
    pub real_mls: bool,
    /// The providers.
    pub providers: Vec<ProviderShape>,
    /// The weather while faults go on.
    pub weather: Weather,
    /// KeyPackages that each client begins with.
    pub stock: u8,
    /// The rules by which every provider gives KeyPackages.
    pub rules: Rules,
    /// Whether each client begins with a last-resort KeyPackage besides.
    pub last_resort: bool,
    /// When moves and faults are over, in milliseconds.
    pub calm_ms: u64,
    /// What clients do, in order of time.
    pub moves: Vec<PlannedMove>,
    /// What goes wrong, in order of time.
    pub faults: Vec<PlannedFault>,
}

/// When the world is set up and moves begin, in milliseconds.
pub const BEGIN_MS: u64 = 1_500;

/// One seed in so many has no faults.
const FAULTLESS_ONE_IN: u64 = 8;
/// One seed in so many plays real OpenMLS members.
const REAL_ONE_IN: u64 = 50;

impl Plan {
    /// What `seed` plays.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 1);
        // Not those that are played twice to compare their traces: real members draw keys of their own.
        let real_mls = seed % REAL_ONE_IN == REAL_ONE_IN / 2;
        let faultless = seed.is_multiple_of(FAULTLESS_ONE_IN);
        let hostile = !faultless && dice.hits(250);
        let providers: Vec<ProviderShape> = (0..dice.between(2, if real_mls { 2 } else { 4 }))
            .map(|number| ProviderShape {
                nodes: *dice.pick(&[1, 1, 1, 2, 3, 3, 3, 4, 5]).unwrap_or(&1),
                shards: *dice.pick(&[1, 1, 2, 3]).unwrap_or(&1),
                users: (0..dice.between(1, if real_mls { 2 } else { 4 }))
                    .map(|_| *dice.pick(&[1, 1, 1, 2, 3]).unwrap_or(&1))
                    .collect(),
                hostile: hostile && number == 1,
            })
            .collect();
        let clients: usize = providers
            .iter()
            .flat_map(|provider| &provider.users)
            .map(|clients| usize::from(*clients))
            .sum();
        let calm_ms = BEGIN_MS + dice.between(2_000, 12_000);
        let mut weather = weather(&mut dice, faultless);
        let mut moves = moves(&mut dice, clients, calm_ms, real_mls);
        let faults = if faultless {
            Vec::new()
        } else {
            faults(&mut dice, &providers, calm_ms)
        };
        let stock = *dice.pick(&[1, 2, 4, 8]).unwrap_or(&4);
        weather.snapshot_entries = *dice.pick(&[0, 2, 5, 20]).unwrap_or(&0);
        weather.runs_max = *dice
            .pick(&[LINK_RUNS_MAX, LINK_RUNS_MAX, 8, 2])
            .unwrap_or(&LINK_RUNS_MAX);
        // Drawn from dice of their own, so that older seeds keep their stories.
        let reopens = &[0, 50, 250, 600];
        weather.reopens_permille = *Dice::new(seed, 9).pick(reopens).unwrap_or(&0);
        let mut dice = Dice::new(seed, 7);
        let rules = rules(&mut dice);
        let last_resort = !real_mls && dice.hits(500);
        if !real_mls {
            moves.extend(code_moves(&mut Dice::new(seed, 8), clients, calm_ms));
            moves.sort_by_key(|planned| planned.at_ms);
        }
        Self {
            seed,
            real_mls,
            providers,
            weather,
            stock,
            rules,
            last_resort,
            calm_ms,
            moves,
            faults,
        }
    }

    /// The nodes.
    pub fn nodes(&self) -> impl Iterator<Item = NodeRef> + '_ {
        let numbered = (0_u8..).zip(&self.providers);
        numbered.flat_map(|(provider, shape)| {
            (0..shape.nodes).map(move |node| NodeRef { provider, node })
        })
    }
}

/// Tight or generous limits; what else a provider may decide.
fn rules(dice: &mut Dice) -> Rules {
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

fn weather(dice: &mut Dice, faultless: bool) -> Weather {
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

fn moves(dice: &mut Dice, clients: usize, calm_ms: u64, real_mls: bool) -> Vec<PlannedMove> {
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
    if dice.hits(60) {
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
fn code_moves(dice: &mut Dice, clients: usize, calm_ms: u64) -> Vec<PlannedMove> {
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

fn faults(dice: &mut Dice, providers: &[ProviderShape], calm_ms: u64) -> Vec<PlannedFault> {
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
