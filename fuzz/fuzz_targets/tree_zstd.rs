//! A compressed tree: no panic, and nothing larger than a tree may be.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mimi_actors::{limits::{TREE_BYTES_MAX, ZSTD_RATIO_MAX}, mls::tree::container::decompress};

fuzz_target!(|frame: &[u8]| {
    if let Ok(tree) = decompress(frame) {
        assert!(tree.len() <= TREE_BYTES_MAX && tree.len() <= frame.len() * ZSTD_RATIO_MAX);
    }
});
