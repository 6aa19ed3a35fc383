//! Random groups of members of both libraries against the hub: whatever they send it takes, and computes what they do.
//!
//! `MLS_STEPS=100000` plays that many Commits of each kind of group, `MLS_SEED` begins elsewhere; a failure names its seed.

mod players;

use self::players::{Library, Player, Rs};
use super::{
    check::{
        bundle::{Bundle, CheckedBundle, Terms, check_bundle},
        create::check_create,
        hub_senders::HubSenders,
        key_package::check_key_package,
        objections::Objections,
        proposal::{PendingProposal, check_proposal},
    },
    codec::message::welcome_references,
    fixture::{self, SUITE, now},
    mls_rs_tests::{bytes, client_with, uri},
    tree::{
        cache::TreeCache,
        container::{self, Before},
        view::GroupView,
    },
};
use crate::{
    limits::AUDITED_MEMBERS_MAX,
    wire::tree::{TreeContainer, TreeKind},
};
use bytes::Bytes;
use mls_rs::{
    Client, Extension, ExtensionList, client_builder::MlsConfig, extension::ExtensionType,
};

/// Commits of each kind of group, unless `MLS_STEPS` says otherwise.
const STEPS: u64 = 25;
/// Changed bundles for each Commit.
const MUTANTS: usize = 4;
/// Clients of a world, at most as many of them members.
const CLIENTS: usize = 9;
/// Numbers that mean nothing.
const GREASE: u16 = 0x3a3a;

/// Which clients there are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Of both libraries, with GREASE wherever OpenMLS takes it: in what they say they support.
    Mixed,
    /// Of mls-rs, with GREASE in their leaves and KeyPackages too.
    Greased,
    /// Of OpenMLS, which leave by SelfRemove.
    Open,
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.roll(of.len())].clone())
    }
}

/// Clients, and what the hub knows of their group.
struct World<C: MlsConfig> {
    kind: Kind,
    dice: Dice,
    players: Vec<Player<C>>,
    view: GroupView,
    pending: Vec<PendingProposal>,
    terms: Terms,
    mutants: [u64; 2],
}

impl<C: MlsConfig> World<C> {
    /// The first client is of OpenMLS, or of mls-rs where all are.
    fn new(kind: Kind, seed: u64, client: impl Fn(&str) -> Client<C>) -> Self {
        let terms = Terms {
            audited_members_max: AUDITED_MEMBERS_MAX,
            tree_hosts: vec!["trees.a.example".to_owned()],
            trees: TreeCache::new(),
            objections: Objections::new(),
            ..Terms::default()
        };
        let mut extensions = ExtensionList::new();
        if kind == Kind::Greased {
            extensions.set(Extension::new(ExtensionType::new(GREASE), vec![1, 2]));
        }
        let mut players: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let name = format!("u{number}");
                let open = kind == Kind::Open || kind == Kind::Mixed && number % 2 == 0;
                let library = if open {
                    Library::Open(Box::new(fixture::Client::new(&name, SUITE)))
                } else {
                    Library::Rs(Box::new(Rs {
                        client: client(&name),
                        group: None,
                        extensions: extensions.clone(),
                    }))
                };
                Player {
                    uri: uri(&name),
                    library,
                }
            })
            .collect();
        let (info, tree, hub) = match &mut players[0].library {
            Library::Open(client) => {
                let (info, tree) = client.found(true);
                (info, tree, fixture::hub())
            }
            Library::Rs(rs) => {
                let (context, hub) = super::mls_rs_tests::with_hub();
                let leaf = rs.extensions.clone();
                let group = rs
                    .client
                    .create_group_with_id(b"den".to_vec(), context, leaf, None);
                let group = rs.group.insert(group.unwrap());
                let info = group.group_info_message_allowing_ext_commit(false).unwrap();
                let tree = group.export_tree().to_bytes().unwrap();
                (bytes(&info), tree.into(), hub)
            }
        };
        let uri = &players[0].uri;
        let created = check_create(&info, &tree.into(), &hub, uri, &terms).unwrap();
        Self {
            kind,
            dice: Dice(seed),
            players,
            view: created.view,
            pending: vec![],
            terms,
            mutants: [0; 2],
        }
    }

    fn members(&self) -> Vec<usize> {
        let players = 0..self.players.len();
        players
            .filter(|player| self.players[*player].is_member())
            .collect()
    }

    fn propose(&mut self, by: usize, message: &Bytes) {
        let sender = &self.players[by].uri;
        let pending = check_proposal(
            &self.view,
            message,
            sender,
            now(),
            &self.terms.trees,
            &HubSenders::NONE,
        );
        self.pending.push(pending.unwrap());
        for (number, player) in self.players.iter_mut().enumerate() {
            if number != by {
                player.take(message);
            }
        }
    }

    /// Proposals of some of `others`, of which every Commit takes in all; gives who is proposed to go.
    fn propose_some(&mut self, others: &[usize]) -> Option<usize> {
        let gone = self
            .dice
            .pick(others)
            .filter(|_| self.dice.roll(4) == 0 && others.len() > 1);
        if let Some(gone) = gone {
            let leaves = self.kind == Kind::Open && self.dice.roll(2) == 0;
            let message = leaves
                .then(|| self.players[gone].propose_to_leave())
                .flatten();
            let (by, message) = match message {
                Some(message) => (gone, message),
                None => {
                    let rest: Vec<_> = others.iter().copied().filter(|one| *one != gone).collect();
                    let by = self.dice.pick(&rest).unwrap();
                    let uri = self.players[gone].uri.clone();
                    (by, self.players[by].propose_remove(&uri))
                }
            };
            self.propose(by, &message);
        }
        for other in others {
            if Some(*other) != gone && self.dice.roll(4) == 0 {
                let message = self.players[*other].propose_update();
                self.propose(*other, &message);
            }
        }
        gone
    }

    fn check(&self, by: usize, bundle: &Bundle, terms: &Terms) -> Result<CheckedBundle, String> {
        let sender = &self.players[by].uri;
        check_bundle(&self.view, &self.pending, bundle, sender, now(), terms)
            .map_err(|refused| refused.to_string())
    }

    /// The bundle in any of the containers that there are.
    fn packed(&mut self, bundle: &Bundle) -> Bundle {
        let kind = self.dice.pick(&TreeKind::ALL).unwrap();
        let tree = Bytes::copy_from_slice(bundle.tree.carried());
        let before = Before::of(&self.view).unwrap();
        let uri = Some("https://trees.a.example/7");
        Bundle {
            tree: container::pack(&tree, kind, Some(&before), uri).unwrap(),
            ..bundle.clone()
        }
    }

    fn step(&mut self) {
        let members = self.members();
        let outside: Vec<_> = (0..self.players.len())
            .filter(|player| !members.contains(player))
            .collect();
        let by = self.dice.pick(&members).unwrap();
        let others: Vec<_> = members.iter().copied().filter(|one| *one != by).collect();
        let joiner = self.dice.pick(&outside).filter(|_| self.dice.roll(4) == 0);
        let (by, bundle) = if let Some(joiner) = joiner {
            let left = self.dice.pick(&others).filter(|_| self.kind == Kind::Open);
            if let Some(left) = left {
                let message = self.players[left].propose_to_leave().unwrap();
                self.propose(left, &message);
            }
            let waiting: Vec<_> = self.pending.iter().map(|one| one.message.clone()).collect();
            (joiner, self.players[joiner].enter(&self.view, &waiting))
        } else {
            let gone = self.propose_some(&others);
            let busy: Vec<u32> = self.pending.iter().map(|one| one.leaf).collect();
            let leaves = self.view.members().unwrap();
            let free = |player: &usize| {
                let uri = &self.players[*player].uri;
                let leaf = leaves.iter().find(|member| member.client == *uri).unwrap();
                !busy.contains(&leaf.leaf) && Some(*player) != gone
            };
            let free: Vec<_> = others.iter().copied().filter(free).collect();
            let removes: Vec<_> = free
                .into_iter()
                .filter(|_| self.dice.roll(6) == 0)
                .map(|player| self.players[player].uri.clone())
                .collect();
            let adds: Vec<_> = outside
                .into_iter()
                .filter(|_| self.dice.roll(3) == 0)
                .map(|player| {
                    let (package, uri) = (
                        self.players[player].key_package(),
                        &self.players[player].uri,
                    );
                    check_key_package(&package, uri, now(), &self.terms).unwrap();
                    package
                })
                .collect();
            let path = self.dice.roll(2) == 0;
            (by, self.players[by].commit(&adds, &removes, path))
        };
        self.mutate(by, &bundle);
        let packed = self.packed(&bundle);
        let checked = self.check(by, &packed, &self.terms).unwrap();
        let alone = self.check(
            by,
            &packed,
            &Terms {
                tree_hosts: self.terms.tree_hosts.clone(),
                ..Terms::default()
            },
        );
        let unaudited = CheckedBundle {
            audited: false,
            ..checked.clone()
        };
        assert_eq!(Ok(unaudited), alone);
        assert!(checked.audited || self.kind == Kind::Greased);
        self.follow(by, &bundle, &checked);
    }

    /// Everybody takes the Commit, and has then what the hub has.
    fn follow(&mut self, by: usize, bundle: &Bundle, checked: &CheckedBundle) {
        for (number, player) in self.players.iter_mut().enumerate() {
            let joins = checked.joined.iter().any(|one| one.client == player.uri);
            let leaves = checked.left.iter().any(|one| one.client == player.uri);
            if number == by {
                continue;
            }
            if joins {
                player.join(bundle);
            } else {
                player.take(&bundle.commit);
            }
            if leaves {
                player.forget();
            }
        }
        self.view = checked.next.after(&self.view).unwrap();
        self.pending.clear();
        let members = self.view.members().unwrap();
        let expected = (self.view.group_context.clone(), self.view.tree.clone());
        for player in &self.players {
            let member = members.iter().any(|member| member.client == player.uri);
            let state = player.state();
            assert_eq!(state, member.then(|| expected.clone()), "{}", player.uri);
        }
    }

    /// Changes one bit of a bundle here and there: it is taken only where nobody without the group's secrets can tell.
    fn mutate(&mut self, by: usize, bundle: &Bundle) {
        let external = bundle.welcome.is_none() && !self.view_has(by);
        for _ in 0..MUTANTS {
            let mut mutant = bundle.clone();
            let part = self.dice.roll(4);
            let TreeContainer::Full(tree) = &mut mutant.tree else {
                panic!("not a whole tree")
            };
            let field = match (part, &mut mutant.welcome) {
                (0, _) => &mut mutant.commit.0,
                (1, Some(welcome)) => &mut welcome.0,
                (2, _) => &mut tree.0,
                _ => &mut mutant.group_info.0,
            };
            let mut changed = field.to_vec();
            let at = self.dice.roll(changed.len());
            changed[at] ^= 1 << self.dice.roll(8);
            let bytes = changed.len();
            *field = changed.into();
            let verdicts = [&self.terms, &Terms::default()].map(|terms| {
                let terms = Terms {
                    trees: TreeCache::none(),
                    objections: Objections::unheard(),
                    ..terms.clone()
                };
                self.check(by, &mutant, &terms)
            });
            assert_eq!(verdicts[0].is_ok(), verdicts[1].is_ok(), "{verdicts:?}");
            let hidden = match part {
                // The membership tag, which an external Commit has not.
                0 => !external && at >= bytes - 33,
                // What is sealed.
                1 => mutant.welcome.as_ref().is_some_and(|welcome| {
                    let before = bundle.welcome.as_ref().unwrap();
                    welcome_references(welcome).ok() == welcome_references(before).ok()
                }),
                _ => false,
            };
            let taken = verdicts[0].is_ok();
            assert!(!taken || hidden, "part {part}, byte {at} of {bytes}");
            self.mutants[usize::from(taken)] += 1;
        }
    }

    fn view_has(&self, player: usize) -> bool {
        let members = self.view.members().unwrap();
        let uri = &self.players[player].uri;
        members.iter().any(|member| member.client == *uri)
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[expect(
    clippy::print_stdout,
    reason = "a failure is played again by its seed, and a long run says what it played"
)]
fn play(kind: Kind) {
    /// Commits of one world; then another begins.
    const COMMITS: u64 = 50;
    let steps = number("MLS_STEPS").unwrap_or(STEPS);
    let first = number("MLS_SEED").unwrap_or_else(|| now().0);
    let (mut played, mut seed, mut mutants) = (0, first, [0; 2]);
    while played < steps {
        println!("{kind:?}: MLS_SEED={seed}");
        let client = |name: &str| client_with(name, &[GREASE], &[0x5a5a]);
        let mut world = World::new(kind, seed, client);
        for _ in 0..COMMITS.min(steps - played) {
            world.step();
            played += 1;
        }
        let expected = kind == Kind::Greased;
        assert_eq!(world.terms.objections.count() > 0, expected);
        mutants = [mutants[0] + world.mutants[0], mutants[1] + world.mutants[1]];
        seed += 1;
    }
    let [refused, taken] = mutants;
    println!(
        "{kind:?}: {played} Commits, {refused} mutants refused, {taken} that only members can tell"
    );
}

#[test]
fn random_groups_of_both_libraries_and_the_hub_agree() {
    play(Kind::Mixed);
}

#[test]
fn random_groups_that_grease_all_they_can_and_the_hub_agree() {
    play(Kind::Greased);
}

#[test]
fn random_groups_whose_members_leave_and_the_hub_agree() {
    play(Kind::Open);
}
