// SPDX-License-Identifier: GPL-2.0-only

//! The two sockets of a connection and the threads that serve them.

mod acks;
pub(crate) mod connect;
pub(crate) mod digests;
pub(crate) mod link;
mod receiver;
mod sender;
