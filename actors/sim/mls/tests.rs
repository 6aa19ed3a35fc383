//! Members of both kinds through the same scripts, against a hub that checks and remembers, and no more.

use super::*;
use crate::{
    mls::{
        check::{
            bundle::{BundleRefused, CheckedBundle, SenderRefused},
            proposal::PendingProposal,
        },
        tree::view::GroupView,
    },
    room::hub::CheckedOn,
    wire::room::Beginning,
};
use openmls::prelude::Lifetime;

const KINDS: [Kind; 2] = [Kind::Model, Kind::Real];

fn room() -> RoomUri {
    "mimi://a.example/r/clubhouse".parse().unwrap()
}

/// The real present, which OpenMLS knows.
fn now() -> Millis {
    Millis(Lifetime::new(0).not_after() * 1_000)
}

fn uri(client: usize) -> ClientUri {
    format!("mimi://a.example/d/u{client}/phone")
        .parse()
        .unwrap()
}

/// Clients, of whom the first founded a group, and what its hub knows.
struct Table {
    kind: Kind,
    members: Vec<Member>,
    view: GroupView,
    pending: Vec<PendingProposal>,
}

fn beginning(group_info: Bytes, tree: Bytes) -> Beginning {
    Beginning {
        group_info: group_info.into(),
        tree: tree.into(),
    }
}

impl Table {
    fn new(kind: Kind, clients: usize) -> Self {
        let mut members: Vec<Member> = (0..clients)
            .map(|client| Member::new(kind, &uri(client), client as u64))
            .collect();
        let (group_info, tree) = members[0].found(&room());
        let founding = Check::Create {
            creator: uri(0),
            beginning: beginning(group_info, tree),
        };
        let Checked::Create { result, .. } = check(kind, room().hub(), founding) else {
            panic!("another verdict");
        };
        Self {
            kind,
            members,
            view: result.unwrap().view,
            pending: Vec::new(),
        }
    }

    /// A group of that many clients, all of whom have joined.
    fn of(kind: Kind, clients: usize) -> Self {
        let mut table = Self::new(kind, clients);
        let others: Vec<usize> = (1..clients).collect();
        table.step(0, &others, &[]);
        table
    }

    fn bundle(&mut self, by: usize, add: &[usize], remove: &[usize]) -> Bundle {
        let add = add.iter();
        let intent = Intent {
            add: add
                .map(|client| self.members[*client].key_package(now()))
                .collect(),
            remove: remove.iter().map(|client| uri(*client)).collect(),
            ..Intent::default()
        };
        self.members[by].commit(&room(), &intent).unwrap()
    }

    fn check(&self, by: usize, bundle: &Bundle) -> Result<CheckedBundle, BundleRefused> {
        let on = CheckedOn {
            epoch: Epoch(self.view.epoch().unwrap()),
            pending: Hash::default(),
        };
        let question = Check::Bundle {
            view: self.view.clone(),
            pending: self.pending.clone(),
            on,
            bundle: bundle.clone(),
            sender: uri(by),
            now: now(),
        };
        let Checked::Bundle { result, .. } = check(self.kind, room().hub(), question) else {
            panic!("another verdict");
        };
        result
    }

    /// Gives a checked bundle to everybody, and compares what they make of it.
    fn accept(&mut self, by: usize, bundle: &Bundle) -> CheckedBundle {
        let checked = self.check(by, bundle).unwrap();
        let epoch = Epoch(self.view.epoch().unwrap() + 1);
        let event = RoomBody::Commit {
            epoch,
            commit: bundle.commit.clone(),
        };
        for (client, member) in self.members.iter_mut().enumerate() {
            let (joins, leaves) = (
                checked.joined.iter().any(|who| who.client == uri(client)),
                checked.left.iter().any(|who| who.client == uri(client)),
            );
            if client == by {
                assert_eq!(member.confirm(&room()), Ok(epoch));
            } else if joins {
                let welcome = bundle.welcome.as_ref().unwrap();
                assert_eq!(
                    member.join(
                        &room(),
                        welcome,
                        &Bytes::copy_from_slice(bundle.tree.carried())
                    ),
                    Ok(epoch)
                );
            } else if leaves {
                assert_eq!(member.take(&room(), &event), Ok(Took::Removed));
            } else if member.epoch(&room()).is_some() {
                assert_eq!(member.take(&room(), &event), Ok(Took::Commit(epoch)));
            }
        }
        self.view = checked.next.after(&self.view).unwrap();
        self.pending.clear();
        self.agree();
        checked
    }

    /// All who are in the group have the same state of it.
    fn agree(&self) {
        let inside = self
            .members
            .iter()
            .filter(|member| member.epoch(&room()).is_some());
        let states: Vec<_> = inside
            .map(|member| {
                let mut roster = member.roster(&room());
                roster.sort();
                (
                    member.epoch(&room()),
                    member.authenticator(&room()).unwrap(),
                    roster,
                )
            })
            .collect();
        assert!(states.iter().all(|state| *state == states[0]));
        let insiders: Vec<ClientUri> = (0..self.members.len())
            .filter(|client| self.members[*client].epoch(&room()).is_some())
            .map(uri)
            .collect();
        assert_eq!(states[0].2, insiders);
    }

    fn step(&mut self, by: usize, add: &[usize], remove: &[usize]) -> CheckedBundle {
        let bundle = self.bundle(by, add, remove);
        self.accept(by, &bundle)
    }

    /// A Proposal that the hub takes; all members hear it, the proposer too.
    fn propose(&mut self, by: usize, wish: &Wish) {
        let message = self.members[by].propose(&room(), wish).unwrap();
        let question = Check::Proposals {
            view: self.view.clone(),
            on: Epoch(self.view.epoch().unwrap()),
            messages: vec![Payload(message.clone())].try_into().unwrap(),
            sender: uri(by),
            now: now(),
        };
        let Checked::Proposals { result, .. } = check(self.kind, room().hub(), question) else {
            panic!("another verdict");
        };
        self.pending.extend(result.unwrap());
        let event = RoomBody::Proposals(vec![Payload(message)].try_into().unwrap());
        for member in &mut self.members {
            if member.epoch(&room()).is_some() {
                assert_eq!(member.take(&room(), &event), Ok(Took::Proposals));
            }
        }
    }

    fn message(&mut self, by: usize, content: u64) -> RoomBody {
        let message = self.members[by].message(&room(), content).unwrap();
        RoomBody::Application(Payload(message))
    }

    fn take(&mut self, client: usize, event: &RoomBody) -> Result<Took, String> {
        self.members[client].take(&room(), event)
    }
}

#[test]
fn members_of_an_epoch_agree_on_it_and_read_one_another() {
    for kind in KINDS {
        let mut table = Table::new(kind, 3);
        table.agree();
        let checked = table.step(0, &[1, 2], &[]);
        assert_eq!(checked.joined.len(), 2);
        for by in 0..3 {
            let event = table.message(by, 7 + by as u64);
            for reader in (0..3).filter(|reader| *reader != by) {
                let read = table.take(reader, &event);
                assert_eq!(read, Ok(Took::Message(7 + by as u64)));
            }
        }
        table.step(2, &[], &[]);
        let event = table.message(0, u64::MAX);
        assert_eq!(table.take(2, &event), Ok(Took::Message(u64::MAX)));
    }
}

#[test]
fn a_removed_member_sees_it_and_reads_nothing_after() {
    for kind in KINDS {
        let mut table = Table::of(kind, 3);
        table.step(1, &[], &[2]);
        assert_eq!(table.members[2].epoch(&room()), None);
        assert_eq!(table.members[2].roster(&room()), []);
        let event = table.message(0, 1);
        assert_eq!(table.take(1, &event), Ok(Took::Message(1)));
        assert!(table.take(2, &event).is_err());
        assert_eq!(table.members[2].message(&room(), 2), None);
        // It joins the same group again, and is a member from then on only.
        table.step(0, &[2], &[]);
        assert_eq!(table.take(2, &event), Ok(Took::BeforeJoining));
        let event = table.message(2, 3);
        assert_eq!(table.take(0, &event), Ok(Took::Message(3)));
    }
}

#[test]
fn a_group_joined_again_replaces_the_one_that_its_member_has() {
    for kind in KINDS {
        let mut table = Table::of(kind, 2);
        let old = table.message(0, 1);
        let removal = table.bundle(0, &[], &[1]);
        table.view = table
            .check(0, &removal)
            .unwrap()
            .next
            .after(&table.view)
            .unwrap();
        table.members[0].confirm(&room()).unwrap();
        // The second client has not read of its removal when it is welcomed again.
        table.step(0, &[1], &[]);
        assert_eq!(table.take(1, &old), Ok(Took::BeforeJoining));
        let event = table.message(1, 2);
        assert_eq!(table.take(0, &event), Ok(Took::Message(2)));
    }
}

#[test]
fn a_commit_covers_the_proposals_that_its_committer_has_heard() {
    for kind in KINDS {
        let mut table = Table::of(kind, 4);
        table.propose(1, &Wish::Update);
        table.propose(1, &Wish::Remove(uri(3)));
        // What waits already is not removed a second time, and an Update of a leaf that goes is left out.
        table.propose(3, &Wish::Update);
        let checked = table.step(0, &[], &[3]);
        assert_eq!(checked.covered.len(), 2);
        assert_eq!(checked.left.len(), 1);
        assert_eq!(table.members[3].epoch(&room()), None);
        let event = table.message(1, 1);
        assert_eq!(table.take(2, &event), Ok(Took::Message(1)));
    }
}

#[test]
fn a_commit_covers_a_remove_that_its_committer_proposed_but_no_update_of_its_own() {
    for kind in KINDS {
        let mut table = Table::of(kind, 3);
        table.propose(0, &Wish::Update);
        table.propose(0, &Wish::Remove(uri(2)));
        table.propose(2, &Wish::Remove(uri(0)));
        let checked = table.step(0, &[], &[]);
        assert_eq!(checked.covered.len(), 1);
        assert_eq!(checked.left.len(), 1);
    }
}

#[test]
fn of_several_proposals_about_one_leaf_a_commit_covers_one() {
    for kind in KINDS {
        let mut table = Table::of(kind, 4);
        // One that the hub refused leaves a key behind that nobody will ever know.
        assert!(table.members[1].propose(&room(), &Wish::Update).is_some());
        table.propose(1, &Wish::Update);
        table.propose(1, &Wish::Update);
        table.propose(1, &Wish::Remove(uri(3)));
        table.propose(2, &Wish::Remove(uri(3)));
        let checked = table.step(0, &[], &[]);
        assert_eq!((checked.covered.len(), checked.left.len()), (2, 1));
        table.step(1, &[], &[]);
    }
}

#[test]
fn a_client_can_be_removed_and_added_by_one_commit() {
    for kind in KINDS {
        let mut table = Table::of(kind, 3);
        let checked = table.step(0, &[2], &[2]);
        assert_eq!((checked.joined.len(), checked.left.len()), (1, 1));
        let event = table.message(2, 1);
        assert_eq!(table.take(1, &event), Ok(Took::Message(1)));
    }
}

#[test]
fn only_members_of_the_model_speak_while_proposals_wait_and_propose_while_they_commit() {
    for kind in KINDS {
        let mut table = Table::of(kind, 3);
        table.propose(1, &Wish::Update);
        let message = table.members[0].message(&room(), 1);
        assert_eq!(message.is_some(), kind == Kind::Model);
        let bundle = table.bundle(0, &[], &[]);
        let proposal = table.members[0].propose(&room(), &Wish::Update);
        assert_eq!(proposal.is_some(), kind == Kind::Model);
        table.accept(0, &bundle);
        assert!(table.members[0].message(&room(), 1).is_some());
    }
}

#[test]
fn a_proposal_that_no_event_held_is_not_covered() {
    for kind in KINDS {
        let mut table = Table::of(kind, 3);
        let refused = table.members[0].propose(&room(), &Wish::Remove(uri(2)));
        assert!(refused.is_some());
        let event = table.message(0, 1);
        assert_eq!(table.take(1, &event), Ok(Took::Message(1)));
        let checked = table.step(0, &[], &[]);
        assert_eq!((checked.covered.len(), checked.left.len()), (0, 0));
    }
}

#[test]
fn a_commit_that_lost_leaves_its_committer_able_to_take_the_winner() {
    for kind in KINDS {
        let mut table = Table::of(kind, 4);
        // The first loser is told, the second only sees the winner.
        let (told, stale) = (table.bundle(1, &[], &[]), table.bundle(2, &[], &[3]));
        assert!(table.check(1, &told).is_ok() && table.check(2, &stale).is_ok());
        table.members[1].discard(&room());
        assert!(table.members[1].confirm(&room()).is_err());
        table.step(0, &[], &[]);
        assert!(table.members[2].confirm(&room()).is_err());
        assert!(table.check(2, &stale).is_err());
        table.step(1, &[], &[]);
        table.step(2, &[], &[3]);
    }
}

#[test]
fn a_commit_made_again_replaces_the_one_made_before() {
    for kind in KINDS {
        let mut table = Table::of(kind, 3);
        table.bundle(0, &[], &[2]);
        let checked = table.step(0, &[], &[1]);
        assert_eq!(checked.left[0].client, uri(1));
    }
}

#[test]
fn an_intent_that_cannot_be_meets_no_commit_and_the_group_goes_on() {
    for kind in KINDS {
        let mut table = Table::of(kind, 2);
        let own = table.members[1].key_package(now());
        for add in [own, Payload::from(vec![1, 2, 3])] {
            let intent = Intent {
                add: vec![add],
                ..Intent::default()
            };
            assert_eq!(table.members[0].commit(&room(), &intent), None);
        }
        table.step(0, &[], &[]);
    }
}

#[test]
fn messages_are_read_out_of_order_and_for_five_epochs_after_theirs() {
    for kind in KINDS {
        let mut table = Table::of(kind, 2);
        let events: Vec<RoomBody> = (0..200).map(|content| table.message(0, content)).collect();
        for (content, event) in events.iter().enumerate().skip(2).rev() {
            assert_eq!(table.take(1, event), Ok(Took::Message(content as u64)));
        }
        for _ in 0..5 {
            table.step(0, &[], &[]);
        }
        assert_eq!(table.take(1, &events[0]), Ok(Took::Message(0)));
        table.step(0, &[], &[]);
        assert!(table.take(1, &events[1]).is_err());
    }
}

#[test]
fn a_welcome_is_for_those_it_names() {
    for kind in KINDS {
        let mut table = Table::new(kind, 3);
        let bundle = table.bundle(0, &[1], &[]);
        let welcome = bundle.welcome.as_ref().unwrap();
        let refused = table.members[2].join(
            &room(),
            welcome,
            &Bytes::copy_from_slice(bundle.tree.carried()),
        );
        assert!(refused.is_err());
        assert_eq!(table.members[2].epoch(&room()), None);
        table.accept(0, &bundle);
    }
}

#[test]
fn a_group_that_was_given_up_can_be_founded_anew() {
    for kind in KINDS {
        let mut table = Table::of(kind, 2);
        let event = table.message(1, 1);
        let first = table.view.group_id().unwrap();
        table.members[0].forget(&room());
        assert_eq!(table.members[0].epoch(&room()), None);
        assert!(table.take(0, &event).is_err());
        let (group_info, tree) = table.members[0].found(&room());
        let founding = Check::Create {
            creator: uri(0),
            beginning: beginning(group_info.clone(), tree.clone()),
        };
        let Checked::Create { result, .. } = check(kind, room().hub(), founding) else {
            panic!("another verdict");
        };
        assert_ne!(result.unwrap().view.group_id().unwrap(), first);
        assert!(table.take(0, &event).is_err());
        let foreign = Check::Create {
            creator: uri(1),
            beginning: beginning(group_info, tree),
        };
        let Checked::Create { result, .. } = check(kind, room().hub(), foreign) else {
            panic!("another verdict");
        };
        assert!(result.is_err());
    }
}

#[test]
fn the_check_refuses_a_bundle_without_its_welcome_with_another_group_info_or_of_another_sender() {
    for kind in KINDS {
        let mut table = Table::new(kind, 3);
        table.step(0, &[1], &[]);
        let (good, other) = (table.bundle(0, &[2], &[]), table.bundle(1, &[], &[]));
        let bare = Bundle {
            welcome: None,
            ..good.clone()
        };
        let refused = table.check(0, &bare);
        let missing = matches!(refused, Err(BundleRefused::WelcomeMismatch { .. }));
        assert!(missing, "{refused:?}");
        for group_info in [
            other.group_info.clone(),
            table.view.group_info.clone().into(),
        ] {
            let swapped = Bundle {
                group_info,
                ..good.clone()
            };
            assert!(table.check(0, &swapped).is_err());
        }
        let not_bound = BundleRefused::Sender(SenderRefused::NotBound);
        assert_eq!(table.check(1, &good), Err(not_bound.clone()));
        assert_eq!(table.check(0, &other), Err(not_bound));
        let checked = table.accept(0, &good);
        assert_eq!(checked.audited, kind == Kind::Real);
    }
}

#[test]
fn a_key_package_is_taken_from_its_own_client_and_from_nobody_else() {
    for kind in KINDS {
        let mut member = Member::new(kind, &uri(0), 0);
        let (package, another) = (member.key_package(now()), member.key_package(now()));
        let stored = check_package(kind, &package, &uri(0), now()).unwrap();
        assert_eq!(stored.package, package);
        assert!(stored.not_before_s * 1_000 <= now().0 && !stored.is_expired(now()));
        let other = check_package(kind, &another, &uri(0), now()).unwrap();
        assert_ne!(stored.reference, other.reference);
        assert_ne!(stored.init_key, other.init_key);
        let refused = check_package(kind, &package, &uri(1), now());
        assert!(matches!(refused, Err(PackageRefused::Invalid { .. })));
    }
}
