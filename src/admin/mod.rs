//! The operator's side of a running node: a local socket that only its owner can open.

mod cluster;
pub mod local;
pub mod protocol;
