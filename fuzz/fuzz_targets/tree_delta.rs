//! A delta applied to a tree: no panic, and whatever is taken has no other spelling.
//!
//! The input is a 16-bit length, a tree of that length, and a delta behind epoch and tree hash, which are written in
//! front of it so that the input gets past them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mimi_actors::mls::tree::delta::{Base, apply, between};

fuzz_target!(|input: &[u8]| {
    let Some((length, rest)) = input.split_first_chunk::<2>() else {
        return;
    };
    let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
    let (tree, rest) = rest.split_at(length);
    let base = Base {
        epoch: 7,
        tree_hash: &[7; 32],
    };
    let mut delta = vec![1];
    delta.extend(base.epoch.to_be_bytes());
    delta.push(32);
    delta.extend_from_slice(base.tree_hash);
    delta.extend_from_slice(rest);
    if let Ok(next) = apply(&base, tree, &delta) {
        assert_eq!(between(&base, tree, &next).as_deref(), Ok(&delta[..]));
    }
    let _ = apply(&base, tree, rest);
});
