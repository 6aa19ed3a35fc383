//! One process and its directory: how it starts and ends, what it shows of itself, what it makes of what lies on its disk.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests stop at what they did not expect"
)]

mod admin;
mod idle;
mod lifecycle;
mod power_loss;
#[path = "../support/mod.rs"]
mod support;
mod upgrade;
