//! Decisions of the replicated block device: no I/O, no allocation, no clock, no `unsafe`.

#![forbid(unsafe_code)]
#![cfg_attr(not(any(test, CONFIG_RUST)), no_std)]

pub mod establish;
