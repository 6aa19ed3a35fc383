//! The people on stage and their devices: real OpenMLS members on real doors.

use super::Stage;
use anyhow::{Context, bail};
use mimi_actors::ids::{ClientUri, RoomUri, UserUri};
use mimi_client::member::{Member, MemberError, PackageOptions};
use mimi_operator::protocol::{Request, Response};
use mimi_quic::DoorDialer;
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

/// How long the cast waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The devices on stage, by name.
#[derive(Default)]
pub struct Cast(BTreeMap<String, Member>);

impl Cast {
    /// KeyPackages that each device comes with.
    pub const PACKAGES: usize = 8;

    /// A device.
    ///
    /// # Errors
    /// When it is not on stage.
    pub fn get(&mut self, name: &str) -> anyhow::Result<&mut Member> {
        self.0
            .get_mut(name)
            .with_context(|| format!("{name} is on stage"))
    }

    /// Takes a device from the stage, for a task of its own.
    pub fn take(&mut self, name: &str) -> Option<Member> {
        self.0.remove(name)
    }

    /// All devices, with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Member)> {
        self.0.iter()
    }

    /// The names of the devices that are members of a room.
    #[must_use]
    pub fn members(&self, room: &RoomUri) -> Vec<String> {
        let member = self
            .0
            .iter()
            .filter(|(_, member)| member.epoch(room).is_some());
        member.map(|(name, _)| name.clone()).collect()
    }

    /// Creates a user and enrols a device for each of `devices`, each with KeyPackages.
    ///
    /// # Errors
    /// When the node or its door refuses.
    pub async fn enter(
        &mut self,
        stage: &mut Stage,
        provider: char,
        user: &str,
        devices: &[(&str, PackageOptions)],
    ) -> anyhow::Result<UserUri> {
        let uri = user_uri(provider, user)?;
        let add = Request::AddUser {
            user: user.to_owned(),
        };
        if devices.is_empty() {
            stage.ask(provider, &add).await?;
        }
        for (device, options) in devices {
            let Response::UserAdded { enrolment_code, .. } = stage.ask(provider, &add).await?
            else {
                bail!("no enrolment code for {user}");
            };
            let who = (ClientUri::new(&uri, device)?, &*enrolment_code);
            let door = stage.door(provider)?;
            let mut member = enrolled(&stage.dialer, door, who, None).await?;
            let taken = member.upload_with(Self::PACKAGES, options).await?;
            if !taken.iter().all(Result::is_ok) {
                bail!("{device}: its KeyPackages were not taken: {taken:?}");
            }
            self.0.insert((*device).to_owned(), member);
        }
        Ok(uri)
    }

    /// Connects every device of a provider again, after its node was started again.
    ///
    /// # Errors
    /// When a door does not take it.
    pub async fn reconnect(&mut self, stage: &mut Stage, provider: char) -> anyhow::Result<()> {
        let doors = stage.doors(provider)?;
        let domain = format!("{provider}.example");
        for member in self
            .0
            .values_mut()
            .filter(|m| m.client().provider().as_str() == domain)
        {
            member.connect_to_any(&stage.dialer, &doors).await?;
        }
        Ok(())
    }

    /// Lets every device of `names` read until the condition holds for it.
    ///
    /// # Errors
    /// When it does not hold in time.
    pub async fn until(
        &mut self,
        names: &[String],
        condition: impl Fn(&Member) -> bool + Copy,
    ) -> anyhow::Result<()> {
        let reading = self.0.iter_mut().filter(|(name, _)| names.contains(name));
        let reading = reading.map(|(name, member)| async move {
            let read = member.run_until(PATIENCE, condition).await;
            read.with_context(|| format!("{name} waits for its events"))
        });
        futures::future::try_join_all(reading).await?;
        Ok(())
    }
}

/// A new device that has come in by a door with a code of enrolment: it has a state file, or lasts as long as its process.
///
/// # Errors
/// What the door says.
pub async fn enrolled(
    dialer: &DoorDialer,
    door: SocketAddr,
    (client, code): (ClientUri, &str),
    state: Option<PathBuf>,
) -> Result<Member, MemberError> {
    let mut member = Member::create(client, state)?;
    member.connect(dialer, door).await?;
    member.enrol(code).await?;
    Ok(member)
}

/// A user's URI.
///
/// # Errors
/// When the name is none.
pub fn user_uri(provider: char, user: &str) -> anyhow::Result<UserUri> {
    Ok(UserUri::new(&format!("{provider}.example").parse()?, user)?)
}
