//! Rooms whose members run different MLS libraries: OpenMLS and mls-rs, at two providers, on real processes.
//!
//! Source: transport requirements, section 3.2.

mod party;
use crate::support::{self, Net, room, user};
use mimi_actors::{
    ids::{ClientUri, RoomUri, UserUri},
    wire::{
        Payload,
        answer::{Accepted, Answer, Refused},
        event::Epoch,
    },
};
use mimi_client::member::{Entrance, Member, MemberError, Ticket, packages};
use mls_rs::client_builder::MlsConfig;
use party::{Party, party};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

const A: &str = "a.example";
const B: &str = "b.example";
/// KeyPackages of each device: a claim takes one of each device of a user, whether it is then added or not.
const PACKAGES: usize = 90;
/// Operations of the random run.
const OPERATIONS: usize = 50;

/// A device of either library.
enum Device<C: MlsConfig> {
    Open(Box<Member>),
    Rs(Box<Party<C>>),
}

use Device::{Open, Rs};

fn decided(result: Result<Accepted, MemberError>) -> Result<Accepted, Refused> {
    result.map_err(|error| match error {
        MemberError::Refused(refused) => refused,
        MemberError::Lost { current, winner } => Refused::WrongEpoch { current, winner },
        other => panic!("{other:?}"),
    })
}

impl<C: MlsConfig> Device<C> {
    fn uri(&self) -> &ClientUri {
        match self {
            Open(member) => member.client(),
            Rs(party) => &party.uri,
        }
    }

    fn authenticator(&self, den: &RoomUri) -> Option<Vec<u8>> {
        match self {
            Open(member) => member.epoch_authenticator(den),
            Rs(party) => party.authenticator(),
        }
    }

    fn entrance(&mut self, den: &RoomUri) -> Entrance {
        match self {
            Open(member) => member.entrance(den).unwrap(),
            Rs(party) => party.entrance(),
        }
    }

    async fn claim(&mut self, den: &RoomUri, whom: &UserUri) -> Vec<Payload> {
        let users = [whom.clone()];
        match self {
            Open(member) => packages(&member.claim(Some(den.clone()), &users).await.unwrap()),
            Rs(party) => party.claim(den, &users).await,
        }
    }

    async fn add(&mut self, den: &RoomUri, list: &[Payload]) -> Result<Accepted, Refused> {
        match self {
            Open(member) => {
                let prepared = member.prepare_add(den, list).unwrap();
                decided(member.commit(&prepared).await)
            }
            Rs(party) => party.add(den, list).await,
        }
    }

    async fn remove(&mut self, den: &RoomUri, whom: &ClientUri) -> Result<Accepted, Refused> {
        match self {
            Open(member) => {
                let whom = std::slice::from_ref(whom);
                let prepared = member.prepare_remove(den, whom).unwrap();
                decided(member.commit(&prepared).await)
            }
            Rs(party) => party.remove(den, whom).await,
        }
    }

    async fn update(&mut self, den: &RoomUri) -> Result<Accepted, Refused> {
        match self {
            Open(member) => {
                let prepared = member.prepare_update(den).unwrap();
                decided(member.commit(&prepared).await)
            }
            Rs(party) => party.update(den).await,
        }
    }

    async fn enter(&mut self, den: &RoomUri, told: &Entrance) -> Result<Accepted, Refused> {
        match self {
            Open(member) => {
                // The hub wants the lease to be asked for, whoever told what it takes.
                match member.ask_group_info(den, &Ticket::default()).await {
                    Ok(_) => {}
                    Err(MemberError::Refused(refused)) => return Err(refused),
                    Err(other) => panic!("{other}"),
                }
                let prepared = member.prepare_entry(den, told).unwrap();
                decided(member.commit(&prepared).await)
            }
            Rs(party) => party.enter(den, told).await,
        }
    }

    async fn propose_update(&mut self, den: &RoomUri) {
        match self {
            Open(member) => drop(member.propose_update(den).await.unwrap()),
            Rs(party) => {
                let answer = party.propose_update(den).await;
                assert!(matches!(answer, Answer::Proposed(_)), "{answer:?}");
            }
        }
    }

    /// Proposes its own removal: mls-rs numbers SelfRemove otherwise than the draft, so both leave by a Remove.
    async fn propose_to_leave(&mut self, den: &RoomUri) {
        match self {
            Open(member) => {
                let own = [member.client().clone()];
                drop(member.propose_remove(den, &own).await.unwrap());
            }
            Rs(party) => {
                let answer = party.propose_to_leave(den).await;
                assert!(matches!(answer, Answer::Proposed(_)), "{answer:?}");
            }
        }
    }

    async fn heard(&mut self, den: &RoomUri, proposals: usize) {
        match self {
            Open(member) => {
                support::wait(member, "the proposals", |member| {
                    member.pending_proposals(den) == proposals
                })
                .await;
            }
            Rs(party) => {
                party
                    .follow("proposals", |one| one.heard() == proposals)
                    .await
            }
        }
    }

    /// Follows the room until it is in this epoch, or out.
    async fn reach(&mut self, den: &RoomUri, epoch: Option<Epoch>) {
        match self {
            Open(member) => {
                support::wait(member, "an epoch", |member| member.epoch(den) == epoch).await;
                support::unhurt(member);
            }
            Rs(party) => party.follow("an epoch", |one| one.epoch() == epoch).await,
        }
    }
}

/// Devices of four users at two providers, of both libraries, and who of them is in.
struct Crowd<C: MlsConfig> {
    net: Net,
    den: RoomUri,
    devices: Vec<Device<C>>,
    inside: Vec<bool>,
    epoch: Epoch,
}

/// Four users, each with a device of either library; nobody is in the room but the first device.
async fn crowd() -> Crowd<impl MlsConfig> {
    let net = Net::start(&[A, B]).await;
    let mut devices = Vec::new();
    let users = [("ann", A), ("abe", A), ("bea", B), ("ben", B)];
    for (name, provider) in users {
        let member = net.member(name, "open", provider).await;
        devices.push(Open(Box::new(member)));
        devices.push(Rs(Box::new(party(&net, name, "rs", provider).await)));
    }
    for (name, provider) in users {
        for (other, at) in users.into_iter().filter(|(other, _)| *other != name) {
            let node = net.node(provider);
            node.consent(name, &user(other, at), None).await;
        }
    }
    for device in &mut devices {
        match device {
            Open(member) => assert_eq!(member.upload(PACKAGES).await.unwrap(), PACKAGES),
            Rs(party) => party.upload(PACKAGES).await,
        }
    }
    let inside = devices.iter().map(|_| false).collect();
    Crowd {
        net,
        den: room("den", A),
        devices,
        inside,
        epoch: Epoch(0),
    }
}

impl<C: MlsConfig> Crowd<C> {
    /// After an accepted Commit: everybody inside is in its epoch and has the same secrets, everybody else is out.
    async fn settle(&mut self, accepted: Result<Accepted, Refused>) {
        self.epoch = self.epoch.next();
        assert_eq!(accepted.map(|accepted| accepted.epoch), Ok(self.epoch));
        let mut common = None;
        for (device, inside) in self.devices.iter_mut().zip(&self.inside) {
            let epoch = inside.then_some(self.epoch);
            device.reach(&self.den, epoch).await;
            if *inside {
                let own = device.authenticator(&self.den);
                assert_eq!(
                    common.get_or_insert_with(|| own.clone()),
                    &own,
                    "{}",
                    device.uri()
                );
            }
        }
    }

    fn insiders(&self) -> Vec<usize> {
        self.which(true)
    }

    fn which(&self, inside: bool) -> Vec<usize> {
        let places = self.inside.iter().enumerate();
        places
            .filter(|(_, is)| **is == inside)
            .map(|(at, _)| at)
            .collect()
    }

    /// Whether another device of its user is in.
    fn may_enter(&self, who: usize) -> bool {
        self.inside[who] || self.inside[who ^ 1]
    }

    async fn add(&mut self, by: usize, whom: usize) {
        let user = self.devices[whom].uri().user().clone();
        let wanted = self.devices[whom].uri().to_string().into_bytes();
        let claimed = self.devices[by].claim(&self.den, &user).await;
        let of_whom =
            |package: &&Payload| package.windows(wanted.len()).any(|window| window == wanted);
        let package: Vec<_> = claimed.iter().filter(of_whom).cloned().collect();
        assert_eq!(package.len(), 1);
        let accepted = self.devices[by].add(&self.den, &package).await;
        self.inside[whom] = true;
        self.settle(accepted).await;
    }

    async fn remove(&mut self, by: usize, whom: usize) {
        let uri = self.devices[whom].uri().clone();
        let accepted = self.devices[by].remove(&self.den, &uri).await;
        self.inside[whom] = false;
        self.settle(accepted).await;
    }

    async fn update(&mut self, by: usize) {
        let accepted = self.devices[by].update(&self.den).await;
        self.settle(accepted).await;
    }

    async fn enter(&mut self, who: usize, teller: usize) {
        let told = self.devices[teller].entrance(&self.den);
        let accepted = self.devices[who].enter(&self.den, &told).await;
        self.inside[who] = true;
        self.settle(accepted).await;
    }

    async fn propose_update(&mut self, by: usize, committer: usize) {
        self.devices[by].propose_update(&self.den).await;
        self.devices[committer].heard(&self.den, 1).await;
        self.update(committer).await;
    }

    async fn leave(&mut self, who: usize, committer: usize) {
        self.devices[who].propose_to_leave(&self.den).await;
        self.devices[committer].heard(&self.den, 1).await;
        self.inside[who] = false;
        self.update(committer).await;
    }
}

/// The devices by user and library, as [`crowd`] makes them.
const ANN_OPEN: usize = 0;
const ANN_RS: usize = 1;
const BEA_OPEN: usize = 4;
const BEA_RS: usize = 5;
const BEN_RS: usize = 7;

/// The crowd, of which nobody is in the room yet but Ann, whose device on mls-rs made it.
async fn crowd_in_anns_room() -> Crowd<impl MlsConfig> {
    let mut crowd = crowd().await;
    let den = crowd.den.clone();
    match &mut crowd.devices[ANN_RS] {
        Rs(party) => party.create(&den).await,
        Open(_) => unreachable!(),
    }
    crowd.inside[ANN_RS] = true;
    crowd
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_two_libraries_join_in_both_ways_update_remove_and_leave() {
    let mut crowd = crowd_in_anns_room().await;
    // mls-rs adds OpenMLS and mls-rs at the other provider; OpenMLS adds mls-rs.
    crowd.add(ANN_RS, BEA_OPEN).await;
    crowd.add(ANN_RS, BEN_RS).await;
    crowd.update(BEA_OPEN).await;
    // Both join by an external Commit into what the other made.
    crowd.enter(ANN_OPEN, ANN_RS).await;
    crowd.enter(BEA_RS, BEA_OPEN).await;
    // Both take the place of their own former leaf.
    crowd.enter(BEA_OPEN, BEN_RS).await;
    crowd.enter(BEN_RS, ANN_OPEN).await;
    // Proposals of one library, committed by the other.
    crowd.propose_update(BEA_OPEN, ANN_RS).await;
    crowd.propose_update(ANN_RS, ANN_OPEN).await;
    crowd.leave(BEA_RS, ANN_OPEN).await;
    crowd.leave(BEA_OPEN, BEN_RS).await;
    crowd.add(ANN_OPEN, BEA_RS).await;
    crowd.remove(BEA_RS, BEN_RS).await;
    crowd.remove(ANN_OPEN, BEA_RS).await;
    assert_eq!(crowd.insiders(), [ANN_OPEN, ANN_RS]);
    let errors = crowd.net.errors();
    assert!(errors.is_empty(), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_random_operations_leave_all_members_in_one_epoch_each_time() {
    let seed = std::env::var("SEED").map_or_else(
        |_| rand::rng().random(),
        |seed| seed.parse().expect("SEED is a number"),
    );
    println!("SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let mut crowd = crowd().await;
    let den = crowd.den.clone();
    match &mut crowd.devices[ANN_OPEN] {
        Open(member) => member.create_room(&den).await.unwrap(),
        Rs(_) => unreachable!(),
    }
    crowd.inside[ANN_OPEN] = true;
    for _ in 0..OPERATIONS {
        let insiders = crowd.insiders();
        let outside = crowd.which(false);
        let one = *insiders.choose(&mut dice).unwrap();
        let others: Vec<_> = insiders.iter().copied().filter(|at| *at != one).collect();
        let other = others.choose(&mut dice).copied();
        let new = outside.choose(&mut dice).copied();
        let entering = new.filter(|new| crowd.may_enter(*new));
        match (dice.random_range(0..8), other, new, entering) {
            (0 | 1, _, Some(new), _) => {
                println!("{one} adds {new}");
                crowd.add(one, new).await;
            }
            (2 | 3, _, _, Some(new)) => {
                println!("{new} enters as {one} tells it");
                crowd.enter(new, one).await;
            }
            (3, Some(other), ..) => {
                println!("{other} enters again as {one} tells it");
                crowd.enter(other, one).await;
            }
            (4, Some(other), ..) => {
                println!("{one} removes {other}");
                crowd.remove(one, other).await;
            }
            (5, Some(other), ..) => {
                println!("{other} proposes an update, {one} commits");
                crowd.propose_update(other, one).await;
            }
            (6, Some(other), ..) => {
                println!("{other} asks to leave, {one} commits");
                crowd.leave(other, one).await;
            }
            _ => {
                println!("{one} updates");
                crowd.update(one).await;
            }
        }
    }
    assert_eq!(crowd.epoch, Epoch(OPERATIONS as u64));
    let errors = crowd.net.errors();
    assert!(errors.is_empty(), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reinit_ends_the_room_and_every_request_after_it_is_told_so() {
    let mut crowd = crowd_in_anns_room().await;
    let den = crowd.den.clone();
    crowd.add(ANN_RS, BEN_RS).await;
    let accepted = match &mut crowd.devices[ANN_RS] {
        Rs(party) => party.reinit(&den).await,
        Open(_) => unreachable!(),
    };
    crowd.settle(accepted).await;
    let told = crowd.devices[BEN_RS].entrance(&den);
    let refused = crowd.devices[BEN_RS].enter(&den, &told).await;
    assert_eq!(refused, Err(Refused::Ended));
    let errors = crowd.net.errors();
    assert!(errors.is_empty(), "{errors:?}");
}
