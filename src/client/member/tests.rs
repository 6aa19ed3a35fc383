//! Members against a hub of a few lines: no network, no checks, only the order of things.

mod contests;
mod devices;
mod entering;
mod lifetimes;
mod network;
mod provider;
mod stream;

use super::*;
use mimi_actors::{
    machine::Millis,
    wire::{
        BVec, Payload,
        answer::{Accepted, Answer},
        door::{DoorItem, HubSender, RoomBody, RoomEvent, Send},
        event::{ClientSeq, InboxSeq, RoomSeq, Verdict, VerdictRun},
        post::{Notice, WelcomeNotice},
    },
};
use openmls::prelude::{
    Ciphersuite, ExtensionType, MlsMessageBodyIn, MlsMessageIn, tls_codec::DeserializeBytes,
};

/// The bookkeeping of a hub, as far as members can tell.
struct Hub {
    room: RoomUri,
    epoch: Epoch,
    opened_by: Hash,
    seq: RoomSeq,
    inboxes: BTreeMap<ClientUri, InboxSeq>,
}

fn room() -> RoomUri {
    "mimi://a.example/r/clubhouse".parse().unwrap()
}

fn uri(name: &str) -> ClientUri {
    format!("mimi://a.example/d/{name}/phone").parse().unwrap()
}

fn member(name: &str) -> Member {
    Member::create(uri(name), None).unwrap()
}

fn one_package(member: &mut Member) -> Vec<Payload> {
    let packages = member.key_packages(1, &PackageOptions::default()).unwrap();
    packages.into_iter().map(Payload::from).collect()
}

impl Hub {
    fn opened_by(creator: &mut Member) -> Self {
        let hub = HubSender {
            provider: "a.example".parse().unwrap(),
            signature_key: DeviceKey::generate().unwrap().public(),
        };
        let opening = creator.prepare_room(&room(), &hub).unwrap();
        assert_eq!(creator.prepare_room(&room(), &hub).unwrap(), opening);
        check_group_info(&opening.group_info);
        let mut hub = Self {
            room: room(),
            epoch: Epoch(0),
            opened_by: Hash::default(),
            seq: RoomSeq(0),
            inboxes: BTreeMap::new(),
        };
        let after = RoomSeq(0);
        hub.notify(
            creator,
            Notice::Joined {
                after,
                welcome: None,
            },
        );
        hub
    }

    fn notify(&mut self, to: &mut Member, notice: Notice) {
        let inbox = self.inboxes.entry(to.client().clone()).or_default();
        *inbox = inbox.next();
        to.take(DoorItem::Inbox {
            seq: *inbox,
            room: self.room.clone(),
            notice,
        });
    }

    fn event(&mut self, body: RoomBody) -> RoomEvent {
        self.seq = self.seq.next();
        RoomEvent {
            seq: self.seq,
            time: Millis(self.seq.0),
            own: None,
            body,
        }
    }

    fn fan_out(&self, event: &RoomEvent, to: &mut [&mut Member]) {
        for member in to {
            member.take(DoorItem::Room {
                room: self.room.clone(),
                events: vec![event.clone()].try_into().unwrap(),
            });
        }
    }

    /// Takes a Commit or says who won.
    fn commit(&mut self, prepared: &PreparedCommit) -> (Answer, Option<RoomEvent>) {
        check_group_info(&prepared.group_info);
        if prepared.epoch != self.epoch.next() {
            let refused = Refused::WrongEpoch {
                current: self.epoch,
                winner: self.opened_by,
            };
            return (Answer::Refused(refused), None);
        }
        self.epoch = prepared.epoch;
        self.opened_by = Hash::of(&prepared.commit);
        let event = self.event(RoomBody::Commit {
            epoch: prepared.epoch,
            commit: prepared.commit.clone(),
        });
        let accepted = Accepted {
            epoch: self.epoch,
            seq: event.seq,
            time: event.time,
        };
        (Answer::Committed(accepted), Some(event))
    }

    fn welcome(&mut self, prepared: &PreparedCommit, to: &mut Member) {
        let notice = Notice::Joined {
            after: self.seq,
            welcome: Some(WelcomeNotice {
                epoch: prepared.epoch,
                welcome: prepared.welcome.clone().unwrap(),
                tree: prepared.tree.carried().to_vec().into(),
            }),
        };
        self.notify(to, notice);
    }

    /// `by` commits, `others` hear of it.
    fn committed(
        &mut self,
        by: &mut Member,
        prepared: &PreparedCommit,
        others: &mut [&mut Member],
    ) {
        let (answer, event) = self.commit(prepared);
        by.commit_answered(&self.room, answer).unwrap();
        let event = event.unwrap();
        self.fan_out(&event, &mut [by]);
        self.fan_out(&event, others);
    }

    /// Takes messages: an event each.
    fn messages(&mut self, frames: Vec<Send>) -> Vec<RoomEvent> {
        let mut events = Vec::new();
        for frame in frames {
            for message in frame.messages {
                events.push(self.event(RoomBody::Application(message)));
            }
        }
        events
    }

    fn say(&mut self, by: &mut Member, text: &str, others: &mut [&mut Member]) {
        let first = by.encrypt(&self.room, &[text]).unwrap();
        for event in self.messages(by.frames(&self.room, first)) {
            let own = RoomEvent {
                own: Some(first),
                ..event.clone()
            };
            self.fan_out(&own, &mut [by]);
            self.fan_out(&event, others);
        }
    }
}

fn check_group_info(bytes: &Payload) {
    let message = MlsMessageIn::tls_deserialize_exact_bytes(bytes).unwrap();
    let MlsMessageBodyIn::GroupInfo(group_info) = message.extract() else {
        panic!("no GroupInfo");
    };
    let extensions = group_info.extensions();
    assert!(extensions.contains(ExtensionType::ExternalPub));
    assert!(!extensions.contains(ExtensionType::RatchetTree));
}

fn agree(members: &[&Member]) {
    let states: Vec<_> = members
        .iter()
        .map(|one| {
            (
                one.epoch(&room()).unwrap(),
                one.epoch_authenticator(&room()).unwrap(),
                one.tree_hash(&room()).unwrap(),
                one.members(&room()),
            )
        })
        .collect();
    assert!(states.windows(2).all(|pair| pair[0] == pair[1]));
    for one in members {
        assert_eq!(one.faults().collect::<Vec<_>>(), Vec::<&Fault>::new());
        assert_eq!(one.counts().gaps, 0);
    }
}

/// A room of alice and bob.
fn pair() -> (Hub, Member, Member) {
    let (mut alice, mut bob) = (member("alice"), member("bob"));
    let mut hub = Hub::opened_by(&mut alice);
    let add = alice.prepare_add(&room(), &one_package(&mut bob)).unwrap();
    hub.committed(&mut alice, &add, &mut []);
    hub.welcome(&add, &mut bob);
    agree(&[&alice, &bob]);
    (hub, alice, bob)
}
