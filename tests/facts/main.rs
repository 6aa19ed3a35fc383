//! What holds without a process: the bytes of every format, and the order of the house.
//!
//! `cargo test --test facts golden` and `cargo test --test facts tidy` check one of the two.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests stop at what they did not expect"
)]

mod fuzz;
mod golden;
mod tidy;
