//! Resync: which blocks to ask for, which extents to lock meanwhile, and how fast.

pub mod extents;
pub mod rate;
pub mod session;
