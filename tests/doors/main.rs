//! What comes in at the doors of real nodes: bad input, difficult peers and networks, claims at once, members on another
//! MLS library.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "tests stop at what they did not expect"
)]

mod claims;
mod crowds;
mod hostile;
mod in_vain;
mod links;
mod made_up;
mod mixed;
mod stage;
#[path = "../support/mod.rs"]
mod support;
