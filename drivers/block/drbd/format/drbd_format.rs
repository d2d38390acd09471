//! Bytes and values of the replicated block device: packets, metadata, netlink attributes, options.

#![forbid(unsafe_code)]
#![cfg_attr(not(any(test, CONFIG_RUST)), no_std)]
