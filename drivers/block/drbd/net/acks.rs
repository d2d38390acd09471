// SPDX-License-Identifier: GPL-2.0-only

//! Both directions of the meta socket: acknowledgements and pings.
//!
//! The sender packs every acknowledgement that is due into one call. The receiver takes whatever
//! has arrived with one call and feeds the core all complete packets under one lock hold. Neither
//! waits for a disk, for the data socket or for memory.

use super::{
    connect::lost,
    link::Link, //
};
use crate::{
    kabi::socket::{
        Recv,
        SendFlags, //
    },
    resource::Resource, //
};
use drbd_core::link::LinkError;
use kernel::{
    alloc::KVVec,
    prelude::*,
    sync::Arc, //
};

const BUFFER_LEN: usize = 4096;

/// Sends acknowledgements until the link is closed.
pub(super) fn run_sender(resource: &Arc<Resource>, link: &Arc<Link>) {
    if send_loop(resource, link).is_err() {
        lost(resource, link, LinkError::NetworkFailure);
    }
}

fn send_loop(resource: &Resource, link: &Link) -> Result {
    let mut buffer = KVVec::from_elem(0_u8, BUFFER_LEN, GFP_KERNEL)?;
    let mut mask = 0;
    while !link.is_closing() {
        resource.follow_cpu_mask(&mut mask);
        let Some(out) = resource.with(|inner, now| inner.core.next_acks(&mut buffer, now)) else {
            resource.bells.acks.wait();
            continue;
        };
        let bytes = buffer.get(..out.len).ok_or(EINVAL)?;
        let result = link.meta.send(bytes, SendFlags::default());
        let sent = matches!(result, Ok(len) if len == out.len);
        resource.with(|inner, now| inner.core.acks_sent(out.token, sent, now));
        if !sent {
            return Err(result.err().unwrap_or(EPIPE));
        }
    }
    Ok(())
}

/// Receives acknowledgements until the link is closed.
pub(super) fn run_receiver(resource: &Arc<Resource>, link: &Arc<Link>) {
    // End of stream, an error of the socket, or a violation that the core has dealt with already:
    // it keeps the first reason.
    let _ = receive_loop(resource, link);
    lost(resource, link, LinkError::NetworkFailure);
}

fn receive_loop(resource: &Resource, link: &Link) -> Result {
    let mut buffer = KVVec::from_elem(0_u8, BUFFER_LEN, GFP_KERNEL)?;
    let mut filled = 0_usize;
    let mut mask = 0;
    loop {
        resource.follow_cpu_mask(&mut mask);
        let room = buffer.get_mut(filled..).ok_or(EINVAL)?;
        let received = link.meta.recv(room, Recv::Some)?;
        if received == 0 {
            return Ok(());
        }
        filled = filled.saturating_add(received);
        let bytes = buffer.get(..filled).ok_or(EINVAL)?;
        let used = resource
            .with(|inner, now| inner.core.meta_bytes(bytes, now))
            .map_err(|_| EPROTO)?;
        buffer.copy_within(used..filled, 0);
        filled = filled.saturating_sub(used);
    }
}
