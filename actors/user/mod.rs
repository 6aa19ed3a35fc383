//! Users: their devices, KeyPackages, consent, and where each device stands in its rooms and its inbox.
//!
//! Owns: who may log in as a user, which packages are gone, who may claim them, what each device has read. Promises: a
//! KeyPackage is handed out once, whatever is retried, raced or restarted (a last-resort one once to each hub, where the
//! provider allows it at all); claims are limited; a cursor never goes back; a notice is taken once. Not here: validity of a KeyPackage and of a device's proof (`mls` and the door), the bytes of notices
//! (they stay in the log), who may speak for a requester (the doors).
//!
//! Source: transport requirements, section 3.1.

pub mod asking;
pub mod budget;
pub mod claims;
pub mod command;
pub mod consent;
pub mod cursors;
pub mod desk;
pub mod devices;
pub mod fold;
mod given;
pub mod inbox;
pub mod introductions;
pub mod key_packages;
pub mod last_resort;
pub mod outcome;
pub mod pending_adds;
pub mod requests;
pub mod spent;
pub mod stock;

use crate::{
    ids::{ClientUri, RoomUri, UserUri},
    machine::Millis,
    wire::event::{Hash, LinkSeq},
};
use asking::Asking;
use budget::Budgets;
use claims::Claims;
use consent::Consents;
use cursors::Membership;
use inbox::Inbox;
use introductions::Introductions;
use last_resort::LastResort;
use pending_adds::PendingAdds;
use serde::{Deserialize, Serialize};
use spent::Spent;
use std::collections::BTreeMap;
use stock::Stock;

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod testing;

/// A user, or the place where one could be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fold {
    account: Account,
}

/// Whether there is a user, and its state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Account {
    /// There never was one.
    #[default]
    Absent,
    /// There is.
    Active(Box<User>),
    /// There was one. Nothing else of it is left, and its name is not given away again.
    Deleted,
}

/// Whether a user exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It never did.
    Absent,
    /// It does.
    Active,
    /// It did.
    Deleted,
}

/// The state of a user that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct User {
    uri: UserUri,
    codes: Codes,
    /// In order of name, which is the order in which a claim serves them.
    devices: BTreeMap<ClientUri, Device>,
    spent: Spent,
    claims: Claims,
    budgets: Budgets,
    pending_adds: PendingAdds,
    consents: Consents,
    introductions: Introductions,
    /// The last notice or refill taken of each shard.
    heard: BTreeMap<u16, LinkSeq>,
    /// It follows the fold, for the first release did not know it.
    #[serde(skip)]
    asking: Asking,
}

/// An enrolled client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Device {
    key: [u8; 32],
    /// The code that enrolled it: the same code issued again, by a retry, is not a new one.
    code: Hash,
    stock: Stock,
    last_resort: Option<LastResort>,
    inbox: Inbox,
    rooms: BTreeMap<RoomUri, Membership>,
}

/// Enrolment codes that wait to be used, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Codes {
    waiting: Vec<(Hash, Millis)>,
}
