//! What the commands of an operator share, whatever program they are part of.
//!
//! What is said to a running node ([`protocol`], [`ask`]), what is printed ([`output`]), and the files that nodes begin
//! with ([`cluster_files`], [`hub_key`]). Knows no node.

pub mod ask;
pub mod cluster_files;
pub mod hub_key;
pub mod output;
pub mod protocol;
