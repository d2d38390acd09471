// SPDX-License-Identifier: GPL-2.0-only

//! Safe wrappers of the kernel facilities that the driver needs, one file per C object.
//!
//! This is the only place of the driver with `unsafe` code and with `kernel::bindings`. It decides
//! nothing about replication: it owns C objects, keeps their rules and hands out values that cannot
//! be misused without `unsafe`. Each public item says in which context it may be called:
//!
//! * *may sleep*: process context, no spin lock held;
//! * *any context*: also from hard and soft interrupts and under spin locks.

mod ffi;

pub(crate) mod bdev;
pub(crate) mod bio;
pub(crate) mod digest;
pub(crate) mod disk;
pub(crate) mod drain;
pub(crate) mod genl;
pub(crate) mod listener;
pub(crate) mod log;
pub(crate) mod meta_io;
pub(crate) mod module;
pub(crate) mod page;
pub(crate) mod params;
pub(crate) mod proc;
pub(crate) mod send_batch;
pub(crate) mod show;
pub(crate) mod socket;
pub(crate) mod thread;
pub(crate) mod timer;
pub(crate) mod usermode_helper;
pub(crate) mod wait;
pub(crate) mod workqueue;
