//! The people of a test: users with devices at real doors, and the rooms they are in.

use super::{LOOK_INTERVAL, WAIT, client, history::Watched, net::Net, room};
use mimi_actors::{
    ids::{ClientUri, RoomUri, UserUri},
    wire::{
        claim::{ClaimId, ClaimResponse},
        event::Epoch,
    },
};
use mimi_client::member::{Member, MemberError, new_claim_id, packages};
use mimi_stage::cast::enrolled;
use std::{collections::BTreeMap, path::PathBuf, time::Instant};

/// A user and its provider.
pub type Who<'a> = (&'a str, &'a str);

/// The device of a user that has one.
pub const DEVICE: &str = "phone";
/// KeyPackages that a guest comes with where it does not matter how many.
pub const PACKAGES: usize = 5;

impl Net {
    /// A fresh device of a user, who is made if need be; enrolled, logged in, with a state file.
    pub async fn member(&self, name: &str, device: &str, provider: &str) -> Member {
        let state = self.path(&format!("{provider}-{name}-{device}.state"));
        self.device(name, device, provider, Some(state)).await
    }

    async fn device(
        &self,
        name: &str,
        device: &str,
        provider: &str,
        state: Option<PathBuf>,
    ) -> Member {
        let node = self.any(provider);
        let code = node.add_user(name).await;
        let who = (client(name, device, provider), &*code);
        let member = enrolled(&self.dialer, node.door, who, state);
        member.await.unwrap()
    }

    /// A device of a user who lets `host` add it to rooms, with so many KeyPackages.
    pub async fn guest(&self, who: Who<'_>, host: &UserUri, packages: usize) -> Member {
        let member = self.member(who.0, DEVICE, who.1).await;
        self.invited(member, host, packages).await
    }

    /// The same without a state file: where much is done, a disk that syncs each step of each device costs most of the time.
    pub async fn light_guest(&self, who: Who<'_>, host: &UserUri, packages: usize) -> Member {
        let member = self.device(who.0, DEVICE, who.1, None).await;
        self.invited(member, host, packages).await
    }

    async fn invited(&self, mut member: Member, host: &UserUri, packages: usize) -> Member {
        let user = member.client().user().clone();
        if user != *host {
            let node = self.any(user.provider().as_str());
            node.consent(user.user(), host, None).await;
        }
        assert_eq!(member.upload(packages).await.unwrap(), packages);
        member
    }

    /// The host and its guests in the room `den` of the host's provider, all in epoch 1.
    pub async fn gather<const N: usize>(
        &self,
        host: Who<'_>,
        guests: [Who<'_>; N],
    ) -> (RoomUri, Member, [Member; N]) {
        let den = room("den", host.1);
        let mut alice = self.member(host.0, DEVICE, host.1).await;
        let mut members = Vec::new();
        for who in guests {
            let guest = self.guest(who, alice.client().user(), PACKAGES);
            members.push(guest.await);
        }
        alice.create_room(&den).await.unwrap();
        let users: Vec<_> = members
            .iter()
            .map(|member| member.client().user().clone())
            .collect();
        invite(&mut alice, &den, &users).await.unwrap();
        for member in &mut members {
            wait_epoch(member, &den, Epoch(1)).await;
        }
        let members = members.try_into().expect("as many as were asked for");
        (den, alice, members)
    }

    /// Connects a member again, until it works.
    pub async fn reconnect(&self, member: &mut Member) {
        let doors: Vec<_> = self
            .of(member.client().provider().as_str())
            .map(|node| node.door)
            .collect();
        let deadline = Instant::now() + WAIT;
        while let Err(error) = member.connect_to_any(&self.dialer, &doors).await {
            assert!(Instant::now() < deadline, "{}: {error}", member.client());
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

/// Members of whom everything is recorded, by name.
#[derive(Default)]
pub struct Cast(BTreeMap<String, Watched>);

impl Cast {
    pub fn put(&mut self, name: &str, one: Watched) {
        self.0.insert(name.to_owned(), one);
    }

    pub fn one(&mut self, name: &str) -> &mut Watched {
        self.0
            .get_mut(name)
            .unwrap_or_else(|| panic!("nobody who is watched is called {name}"))
    }

    /// Two of them, for what they do at the same time.
    pub fn two(&mut self, first: &str, second: &str) -> [&mut Watched; 2] {
        let names = [first, second];
        let both = self.0.iter_mut();
        let both = both.filter(|(name, _)| names.contains(&name.as_str()));
        let mut both: Vec<_> = both.map(|(_, one)| one).collect();
        // They come in the order of their names.
        if first > second {
            both.reverse();
        }
        let both = both.try_into();
        both.unwrap_or_else(|_| panic!("{names:?} are not two who are watched"))
    }

    /// Takes one out, for a task of its own.
    pub fn take(&mut self, name: &str) -> Watched {
        self.0
            .remove(name)
            .unwrap_or_else(|| panic!("nobody who is watched is called {name}"))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&String, &Watched)> {
        self.0.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&String, &mut Watched)> {
        self.0.iter_mut()
    }

    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.0.values().map(|one| &one.member)
    }

    pub fn all(&mut self) -> impl Iterator<Item = &mut Watched> {
        self.0.values_mut()
    }

    /// The host makes a room and adds guests to it; gives what it claimed for that.
    pub async fn open(
        &mut self,
        room: &RoomUri,
        host: &str,
        guests: &[&str],
    ) -> (ClaimId, ClaimResponse) {
        let added: Vec<ClientUri> = guests.iter().map(|name| self.client(name)).collect();
        let users: Vec<UserUri> = added.iter().map(|client| client.user().clone()).collect();
        let host = self.one(host);
        host.create_room(room).await.unwrap();
        let id = new_claim_id().unwrap();
        let claimed = host.claim(id, room, &users).await.unwrap();
        host.add(room, &claimed, &added).await;
        (id, claimed)
    }

    fn client(&mut self, name: &str) -> ClientUri {
        self.one(name).member.client().clone()
    }
}

/// Processes events until the condition holds; says who waited in vain for what.
pub async fn wait(member: &mut Member, what: &str, condition: impl Fn(&Member) -> bool) {
    let waited = member.run_until(WAIT, condition).await;
    if let Err(error) = waited {
        let faults: Vec<_> = member.faults().collect();
        panic!(
            "{} waited for {what}: {error}; {:?} {faults:?}",
            member.client(),
            member.counts()
        );
    }
}

/// Waits until the member is in an epoch of a room.
pub async fn wait_epoch(member: &mut Member, room: &RoomUri, epoch: Epoch) {
    wait(member, &format!("epoch {epoch} of {room}"), |member| {
        member.epoch(room) >= Some(epoch)
    })
    .await;
    assert_eq!(member.epoch(room), Some(epoch), "{}", member.client());
}

/// Checks that the members have one state, and that nothing was lost, doubled or broken on the way.
pub fn agree(members: &[&Member], room: &RoomUri) {
    let [first, others @ ..] = members else {
        panic!("nobody is there to agree");
    };
    assert!(
        first.epoch(room).is_some(),
        "{} is not in it",
        first.client()
    );
    for member in others {
        let who = member.client();
        assert_eq!(member.epoch(room), first.epoch(room), "{who}");
        assert_eq!(
            member.epoch_authenticator(room),
            first.epoch_authenticator(room),
            "{who}"
        );
        assert_eq!(member.tree_hash(room), first.tree_hash(room), "{who}");
    }
    for member in members {
        unhurt(member);
    }
}

/// Checks that nothing came to a member that should not have come, and that no number was left out.
pub fn unhurt(member: &Member) {
    let faults: Vec<_> = member.faults().collect();
    assert!(faults.is_empty(), "{}: {faults:?}", member.client());
    assert_eq!(member.counts().gaps, 0, "{}", member.client());
    assert_eq!(member.counts().dropped, 0, "{}", member.client());
}

/// Claims one KeyPackage of each client of these users and adds them all.
pub async fn invite(
    member: &mut Member,
    room: &RoomUri,
    users: &[UserUri],
) -> Result<Epoch, MemberError> {
    let claimed = member.claim(Some(room.clone()), users).await?;
    let packages = packages(&claimed);
    let add = member.prepare_add(room, &packages)?;
    Ok(member.commit(&add).await?.epoch)
}
