//! The verdict on KeyPackages, Proposals, Commit bundles, new groups and claims.

pub(crate) mod audit;
pub mod bundle;
mod change;
pub mod claim;
pub mod create;
pub mod expel;
mod external;
pub mod hub_senders;
pub mod key_package;
mod keys;
pub mod objections;
pub(crate) mod parts;
mod path;
pub mod proposal;
mod refused;
mod terms;
