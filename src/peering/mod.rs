//! The providers' door: links to peers and from them, and the routing of what they carry to the shards.
//!
//! The provider that dials sends: `outgoing` carries our requests, fan-out and submissions; `incoming` takes the
//! peer's. What a frame means is checked here against the peer's certificate before any shard hears of it.

pub(crate) mod connection;
pub(crate) mod credits;
pub(crate) mod exchange;
pub(crate) mod fanout;
pub(crate) mod in_vain;
pub(crate) mod incoming;
pub(crate) mod lane;
pub(crate) mod led;
pub(crate) mod outgoing;
pub(crate) mod receive;
pub(crate) mod share;
pub(crate) mod submit;
pub(crate) mod trouble;
pub(crate) mod walk;

use mimi_actors::ids::ProviderId;
use mimi_actors::wire::link::{Reply, Request};
use outgoing::Peer;
use share::Share;
use std::{collections::BTreeMap, sync::Arc};

/// The peer cannot be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the provider cannot be reached now")]
pub(crate) struct PeerUnavailable;

/// Why another provider was not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAsked {
    /// It cannot be reached, or did not answer.
    #[error(transparent)]
    Unavailable(#[from] PeerUnavailable),
    /// The operator does not list it.
    #[error("the provider is not listed")]
    NoLink,
}

/// The providers that this node talks to: only those that its operator lists.
#[derive(Clone, Default)]
pub(crate) struct Peers(Arc<BTreeMap<ProviderId, Arc<Peer>>>);

impl Peers {
    pub(crate) fn new(peers: BTreeMap<ProviderId, Arc<Peer>>) -> Self {
        Self(Arc::new(peers))
    }

    /// All peers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ProviderId, &Arc<Peer>)> {
        self.0.iter()
    }

    /// Whether the operator lists a provider.
    pub(crate) fn knows(&self, provider: &ProviderId) -> bool {
        self.0.contains_key(provider)
    }

    /// What a provider may hold of this node's memory.
    fn share(&self, provider: &ProviderId) -> Option<&Arc<Share>> {
        Some(self.0.get(provider)?.share())
    }

    /// Asks a provider; fails at once when it is not connected, or no peer.
    pub(crate) async fn request(
        &self,
        provider: &ProviderId,
        request: Request,
    ) -> Result<Reply, NotAsked> {
        let peer = self.0.get(provider).ok_or(NotAsked::NoLink)?;
        Ok(peer.request(request).await?)
    }
}
