//! What a seed plays: the shape of the world, what clients do, and what goes wrong. Drawn once, before anything runs.
//!
//! Each seed draws its own mix: most kinds of fault are off in most seeds, one seed in eight has none at all. A plan is
//! data, so that a failing one can be made smaller by leaving moves and faults out.

use super::{
    dice::Dice,
    draw::{code_moves, faults, full_disks, moves, repeats, rules, weather},
};
use crate::{limits::LINK_RUNS_MAX, user::command::Rules};

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
    /// Items that may be owed to a provider by one shard before it is brought into no more rooms.
    pub backlog_items_max: u64,
    /// Words of what clients have read that are lost on their way to the room's shard, in thousandths.
    pub reads_lost_permille: u32,
    /// How long events are kept that somebody has not read, in milliseconds.
    pub retention_ms: u64,
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
            backlog_items_max: u64::MAX,
            reads_lost_permille: 0,
            retention_ms: u64::MAX,
        }
    }
}

/// What a client is asked to do; with whom and where is drawn from what it knows at that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Create a room.
    Create,
    /// Create another room with the group of one that there is.
    CreateTwin,
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
    /// Send the last message that was accepted once more, under another number.
    SendAgain,
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
    /// The disk of a node takes nothing more, or the disks of all nodes of a provider.
    FullDisk {
        /// The provider.
        provider: u8,
        /// The node; absent for all.
        only: Option<u8>,
        /// How long, in milliseconds.
        lasts_ms: u64,
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
/// One seed in so many has events forgotten by their age.
const RETENTION_ONE_IN: u64 = 8;
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
        let mut faults = if faultless {
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
        let mut dice = Dice::new(seed, 11);
        let items_max = &[u64::MAX, u64::MAX, 20, 0];
        weather.backlog_items_max = *dice.pick(items_max).unwrap_or(&u64::MAX);
        weather.reads_lost_permille = *dice.pick(&[0, 0, 100, 700]).unwrap_or(&0);
        // In few seeds, so that the others keep their stories.
        if !real_mls && seed % RETENTION_ONE_IN == 3 {
            let kept_ms = &[500, 1_500, 4_000];
            let picked = Dice::new(seed, 12).pick(kept_ms).copied();
            weather.retention_ms = picked.unwrap_or(u64::MAX);
            // Only who is away, or opens its stream anew, comes too late.
            weather.reopens_permille = weather.reopens_permille.max(250);
        }
        if !faultless {
            faults.extend(full_disks(&mut Dice::new(seed, 21), &providers, calm_ms));
            faults.sort_by_key(|planned| planned.at_ms);
        }
        let mut dice = Dice::new(seed, 7);
        let rules = rules(&mut dice);
        let last_resort = !real_mls && dice.hits(500);
        if !real_mls {
            moves.extend(code_moves(&mut Dice::new(seed, 8), clients, calm_ms));
            moves.extend(repeats(&mut Dice::new(seed, 31), clients, calm_ms));
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
