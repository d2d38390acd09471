//! The generic netlink family `drbd`: numbers, attributes, answers.
//!
//! What the messages mean, in which order a command checks what, and which answer belongs to which
//! failure is in `reference/netlink.md`. Here are only the bytes.

pub mod codes;
pub mod ids;
pub mod info;
pub mod record;
pub mod tlv;
