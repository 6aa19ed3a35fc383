//! Who makes a request: authenticated where it comes in, carried beside it to whoever decides, never inside it.
//!
//! What is known of a caller is what a node may count against it, whichever request it makes.

use crate::ids::{ClientUri, ProviderId};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Where a request came in: a connection of one of this provider's clients, or of another provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The provider at the other end; this one for its own clients.
    pub provider: ProviderId,
    /// The network address at the other end; not known of what a node of the version before passes on.
    pub address: Option<IpAddr>,
    /// Tells the connection from all others of the node that accepted it; not known as the address is not.
    pub connection: Option<u64>,
}

impl Origin {
    /// Of a provider of which nothing else is known.
    #[must_use]
    pub fn of(provider: ProviderId) -> Self {
        Self {
            provider,
            address: None,
            connection: None,
        }
    }
}

/// A client that makes a request, and where it came in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// Where it came in.
    pub origin: Origin,
    /// The client: logged in on that connection, or vouched for by the provider whose connection it is.
    pub client: ClientUri,
}

impl Caller {
    /// A client of which nothing else is known.
    #[must_use]
    pub fn of(client: ClientUri) -> Self {
        Self {
            origin: Origin::of(client.provider().clone()),
            client,
        }
    }
}

/// Who asks something of a user of this provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Principal {
    /// A device of this provider.
    Device {
        /// Its client, and where it came in.
        caller: Caller,
        /// The Ed25519 public key that it proved on that connection.
        key: [u8; 32],
    },
    /// Another provider; or this one, for a client that its request does not name.
    Provider(Origin),
    /// The operator of this provider, on the node's local socket.
    Operator,
}
