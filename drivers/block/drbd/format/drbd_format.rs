//! Bytes and values of the replicated block device: packets, metadata, netlink attributes, options.
//!
//! Everything here turns bytes into checked values and back. Nothing allocates, does I/O or
//! decides what a value means for the connection; encoders write into buffers of the caller.

#![forbid(unsafe_code)]
#![cfg_attr(not(any(test, CONFIG_RUST)), no_std)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::large_stack_arrays,
        clippy::large_types_passed_by_value,
        clippy::panic,
        clippy::unwrap_used,
        clippy::wildcard_enum_match_arm
    )
)]

mod bytes;
pub mod disk;
pub mod netlink;
pub mod options;
pub mod state_word;
pub mod types;
pub mod units;
pub mod wire;

#[cfg(test)]
mod edge_tests;
#[cfg(test)]
mod recorded_tests;
#[cfg(test)]
mod sentence_tests;
