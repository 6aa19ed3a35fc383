//! Rooms: at their hub, where Commits are chosen, and at a follower, where events arrive.
//!
//! Owns: what a room accepts, in which order, and who is told. Promises: at most one Commit for each epoch; a refused
//! bundle leaves nothing behind; every accepted event has the next number. Not here: cryptography (`mls`), who may
//! talk to whom between providers (the doors), delivery (links and cursors follow from what is emitted).
//!
//! Source: transport requirements, sections 3.2, 3.3, 4, 5 and 7.3.

mod admission;
pub mod checks;
pub mod codes;
pub mod commits;
pub mod desk;
pub mod entering;
pub mod expelling;
pub mod fanout;
pub mod follower;
pub mod follower_desk;
pub mod hub;
pub mod joiners;
pub mod leases;
pub mod numbers;
pub mod outcome;
mod policy;
mod preflight;
pub mod proposals;
mod queue;
mod refusals;
pub mod secrets;
mod state;
pub mod submissions;
pub mod verdicts;

#[cfg(test)]
mod commits_tests;
#[cfg(test)]
mod desk_tests;
#[cfg(test)]
mod entering_tests;
#[cfg(test)]
mod expelling_tests;
#[cfg(test)]
mod follower_tests;
#[cfg(test)]
mod hub_tests;
#[cfg(test)]
mod joiners_tests;
#[cfg(test)]
mod leases_tests;
#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod preflight_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod submissions_tests;
#[cfg(test)]
pub(crate) mod testing;
