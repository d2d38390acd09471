//! The commands of the tools.

pub(crate) mod setup;
