//! Decisions of the replicated block device: no I/O, no allocation, no clock, no `unsafe`.
//!
//! The shell (the kernel module or the simulator) holds one `resource::Resource` per resource
//! behind one lock. What happens goes in through its methods; what has to be done is *pulled* out
//! again: actions of the control plane, packets, acknowledgements, disk requests. After each lock
//! hold the shell asks which executors have work and wakes them.
//!
//! The *control plane* (state, handshake, administration, metadata) and the *data plane*
//! (application I/O, peer requests, bitmap, resync) talk to each other only through the values of
//! [`link`].

#![forbid(unsafe_code)]
#![cfg_attr(not(any(test, feature = "put-back", CONFIG_RUST)), no_std)]

// Control plane.
pub mod action;
pub mod admin;
pub mod attach;
pub mod chance;
pub mod config;
pub mod control;
pub mod generation;
pub mod handshake;
pub mod input;
pub mod link;
pub mod liveness;
pub mod log;
pub mod put_back;
pub mod quirk;
pub mod resource;
pub mod state;
pub mod time;

// Connecting.
pub mod discard;
pub mod establish;

// Data plane.
pub mod activity_log;
pub mod bitmap;
pub mod bitmap_exchange;
pub mod data;
pub mod epoch;
pub mod memory;
pub mod options;
pub mod peer_request;
pub mod query;
pub mod report;
pub mod request;
pub mod resync;
pub mod send_queue;
pub mod unstable;
