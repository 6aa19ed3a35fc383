//! Several processes of which some are away: nodes of one provider, links and hubs that fail, and what the history of it
//! shows.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests stop at what they did not expect"
)]

mod history;
mod nemesis;
mod nodes;
mod rolling;
#[path = "../support/mod.rs"]
mod support;
