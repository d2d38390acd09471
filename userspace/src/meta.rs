//! Metadata on devices, as drbdmeta sees it: offline, with nobody else changing it.
//!
//! Positions, blocks and the replay of the activity log are the business of
//! `drbd_format::disk`. Behaviour and texts: `reference/metadata.md` 8, `reference/userland.md` 4.

pub(crate) mod attached;
pub(crate) mod confirm;
pub(crate) mod create;
pub(crate) mod device;
pub(crate) mod dump;
pub(crate) mod existing;
pub(crate) mod last_known;
pub(crate) mod replay;
pub(crate) mod restore;
pub(crate) mod store;

#[cfg(test)]
mod crash_tests;
