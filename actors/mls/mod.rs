//! What the hub can know and verify of MLS without any group secret.
//!
//! Owns: bounded reading of RFC 9420 objects, the public state of a group ([`tree::view::GroupView`]), and the verdict on
//! KeyPackages, Proposals, Commit bundles and new groups. Promises: no input makes it panic; whatever is accepted
//! leaves the public state that every honest member computes too. Not here: who may do what in a room, and whatever
//! needs a group secret: confirmation and membership tags, path secrets, whether external_pub is the true key.
//!
//! Source: transport requirements, sections 3.1, 3.2 and 3.3.

pub mod check;
pub mod codec;
pub mod tree;

#[cfg(test)]
mod differential;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod mls_rs_tests;
#[cfg(test)]
mod tests;
