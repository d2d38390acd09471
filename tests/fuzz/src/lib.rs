//! What the fuzz targets do with their input.
//!
//! Each target is a function over bytes that panics if a promise is broken. `make fuzz` links them
//! with libFuzzer; `tests/corpus.rs` runs every file of the corpus through them.

pub mod activity_log;
pub mod bitmap;
pub mod config;
pub mod input;
pub mod metadata;
pub mod netlink;
pub mod node;
pub mod receiver;
pub mod story;

/// A target: its name and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("activity_log", activity_log::run),
    ("bitmap", bitmap::run),
    ("config", config::run),
    ("metadata", metadata::run),
    ("netlink", netlink::run),
    ("receiver", receiver::run),
];
