//! The clustered node of a messaging provider.
