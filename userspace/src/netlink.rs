//! Conversation with the kernel module over generic netlink.
//!
//! What the messages mean is described in `reference/netlink.md`; their bytes are the business of
//! `drbd_format::netlink`.

pub(crate) mod address;
pub(crate) mod message;
pub(crate) mod request;
