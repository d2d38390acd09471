//! The commands of the tools.

pub(crate) mod adm;
pub(crate) mod meta;
pub(crate) mod setup;
