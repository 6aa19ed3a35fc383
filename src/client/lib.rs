//! The client side: what a device does at its provider's door.
//!
//! Owns: [`door`], the client door in bytes for any MLS library; [`member`], one device with its MLS state on OpenMLS;
//! [`load`], messages made in bulk. Promises: nothing of a device is lost by a restart that it had acknowledged.
//! Not here: the door itself, which is the gateway's.

pub mod door;
pub mod load;
pub mod member;

pub use door::{DeviceKey, DoorClient, DoorError};
pub use member::{Member, MemberError, PreparedCommit};
