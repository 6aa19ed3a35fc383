//! Users: their devices, KeyPackages, consent, and where each device stands in its rooms and its inbox.
//!
//! Owns: who may log in as a user, which packages are gone, who may claim them, what each device has read. Promises: a
//! KeyPackage is handed out once, whatever is retried, raced or restarted (a last-resort one once to each hub, where the
//! provider allows it at all); claims are limited; a cursor never goes back; a notice is taken once. Not here: validity of a KeyPackage and of a device's proof (`mls` and the door), the bytes of notices
//! (they stay in the log), who may speak for a requester (the doors).
//!
//! Source: transport requirements, section 3.1.

pub mod budget;
pub mod claims;
pub mod command;
pub mod consent;
pub mod cursors;
pub mod desk;
pub mod devices;
pub mod fold;
pub mod inbox;
pub mod introductions;
pub mod key_packages;
pub mod last_resort;
pub mod outcome;
pub mod spent;
pub mod stock;
pub mod wanted;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod testing;
