//! The mimi-node binary.
fn main() {}
