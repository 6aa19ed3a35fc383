//! Room policy: who takes part in a room, in which role, and what each may do.
//!
//! Owns: the components in which a room says it ([`components`]), what they come to ([`state`]), one decision for all ways
//! ([`decide`]), what a Commit changes ([`change`]) and what members are told of it ([`told`]). Promises: pure, and the same answer for every replica. Not here: when
//! it is asked and what follows from a refusal (`room::policy`).
//!
//! Source: transport requirements, sections 5 and 6.4; draft-ietf-mimi-room-policy-03.

pub mod capability;
pub mod change;
pub mod components;
pub mod decide;
pub mod sets;
pub mod state;
pub mod told;
