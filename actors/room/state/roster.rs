//! The members of a room, by client.
//!
//! Source: transport requirements, section 3.2.

use crate::{
    ids::{ClientUri, ProviderId},
    mls::{check::bundle::Joined, tree::view::Member},
    policy::state::Clients,
    wire::event::{Copy, Epoch, Recipient},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who is in the group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Roster(BTreeMap<ClientUri, Membership>);

/// A client's place in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Membership {
    /// Its leaf.
    pub(crate) leaf: u32,
    /// The epoch it joined in: messages of earlier epochs are not its own.
    pub(crate) since: Epoch,
}

impl Roster {
    /// The members that a group begins with.
    pub(crate) fn begin(members: &[Member]) -> Self {
        let since = Epoch(0);
        let place = |leaf| Membership { leaf, since };
        let each = members.iter();
        Self(
            each.map(|member| (member.client.clone(), place(member.leaf)))
                .collect(),
        )
    }

    /// Takes out who left, then takes in who joined, in the epoch that begins: a client may be among both.
    pub(crate) fn change(&mut self, left: &[Member], joined: &[Joined], since: Epoch) {
        for left in left {
            self.0.remove(&left.client);
        }
        for joined in joined {
            let leaf = joined.leaf;
            self.0
                .insert(joined.client.clone(), Membership { leaf, since });
        }
    }

    /// A member's place.
    pub(crate) fn member(&self, client: &ClientUri) -> Option<Membership> {
        self.0.get(client).copied()
    }

    /// The members, in the order of clients.
    pub(crate) fn clients(&self) -> impl Iterator<Item = &ClientUri> {
        self.0.keys()
    }

    /// How many clients each user has.
    pub(crate) fn by_user(&self) -> Clients {
        let mut users = Clients::new();
        for client in self.clients() {
            *users.entry(client.user().clone()).or_default() += 1;
        }
        users
    }

    /// The clients by leaf.
    pub(crate) fn by_leaf(&self) -> BTreeMap<u32, &ClientUri> {
        let all = self.0.iter();
        all.map(|(client, place)| (place.leaf, client)).collect()
    }

    /// Whether a client of the same user is a member.
    pub(crate) fn has_client_of_user(&self, client: &ClientUri) -> bool {
        let first = self.0.range(client_floor(client)..).next();
        first.is_some_and(|(member, _)| member.user() == client.user())
    }

    /// Whether a client of the provider is a member.
    pub(crate) fn has_client_of_provider(&self, provider: &ProviderId) -> bool {
        self.clients().any(|client| client.provider() == provider)
    }

    /// The providers that have a member, each once, without `hub`; each gets the event itself.
    pub(crate) fn followers(&self, hub: &ProviderId) -> Vec<Recipient> {
        let mut followers: Vec<Recipient> = Vec::new();
        // Clients sort by provider first, so equal providers are neighbours.
        for provider in self.clients().map(ClientUri::provider) {
            let last = followers.last();
            let listed = last.is_some_and(|last| last.provider == *provider);
            if provider != hub && !listed {
                followers.push(Recipient {
                    provider: provider.clone(),
                    copy: Copy::Full,
                });
            }
        }
        followers
    }
}

/// Where the clients of a user begin, in the order of clients.
fn client_floor(client: &ClientUri) -> ClientUri {
    // No name is shorter or sorts before this one.
    ClientUri::new(client.user(), "-").unwrap_or_else(|_| client.clone())
}
