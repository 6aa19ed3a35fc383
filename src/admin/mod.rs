//! The operator's side of a running node: a local socket that only its owner can open, and what it shows of itself.

mod change;
mod cluster;
mod door_metrics;
mod figures;
mod forget;
pub(crate) mod http;
mod listener;
pub mod local;
mod metrics;
mod parked;
pub(crate) mod ready;
mod unwell;
