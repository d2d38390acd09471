// SPDX-License-Identifier: GPL-2.0-only

//! Both directions of the meta socket: acknowledgements and pings.
//!
//! The sender packs every acknowledgement that is due into one call. The receiver takes whatever
//! has arrived with one call and feeds the core all complete packets under one lock hold. Neither
//! waits for a disk, for the data socket or for memory. The receiver has real-time priority: what
//! it brings lets requests end and new ones begin. The sender has not, on purpose: woken by every
//! end of a write it would push the thread aside that submits the next one, and pack one
//! acknowledgement per call.

use super::{
    connect::lost,
    link::Link, //
};
use crate::{
    complete,
    kabi::{
        socket::{
            Recv,
            SendFlags, //
        },
        thread, //
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

/// Time after which bytes that the core did not take are offered again: it takes none before the
/// handshake is over, and the peer may not send more.
const RETRY_MS: u32 = 100;

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
        let due = resource.with(|inner, now| {
            // Those of the last turn.
            inner.core.acks_sent(now);
            inner.core.next_acks(&mut buffer, now)
        });
        let Some(len) = due else {
            resource.bells.acks.wait();
            continue;
        };
        let bytes = buffer.get(..len).ok_or(EINVAL)?;
        let result = link.meta.send(bytes, SendFlags::default());
        if !matches!(result, Ok(sent) if sent == len) {
            resource.with(|inner, now| inner.core.acks_sent(now));
            return Err(result.err().unwrap_or(EPIPE));
        }
    }
    Ok(())
}

/// Receives acknowledgements until the link is closed.
pub(super) fn run_receiver(resource: &Arc<Resource>, link: &Arc<Link>) {
    thread::set_realtime();
    // End of stream, an error of the socket, or a violation that the core has dealt with already:
    // it keeps the first reason.
    let _ = receive_loop(resource, link);
    lost(resource, link, LinkError::NetworkFailure);
}

fn receive_loop(resource: &Resource, link: &Link) -> Result {
    let mut buffer = KVVec::from_elem(0_u8, BUFFER_LEN, GFP_KERNEL)?;
    let mut filled = 0_usize;
    let mut limited = false;
    let mut mask = 0;
    loop {
        resource.follow_cpu_mask(&mut mask);
        if limited != (filled != 0) {
            limited = filled != 0;
            link.meta.set_recv_timeout_ms(limited.then_some(RETRY_MS));
        }
        let room = buffer.get_mut(filled..).ok_or(EINVAL)?;
        if room.is_empty() {
            // More than anybody says before the handshake is over.
            return Err(EMSGSIZE);
        }
        // What arrives here is an answer already: a segment for each would cost both nodes an
        // interrupt per write. TCP forgets this wish whenever the stream has been quiet.
        link.meta.delay_acks();
        match link.meta.recv(room, Recv::Some) {
            Ok(0) => return Ok(()),
            Ok(received) => filled = filled.saturating_add(received),
            Err(error) if error == EAGAIN && limited => {}
            Err(error) => return Err(error),
        }
        let bytes = buffer.get(..filled).ok_or(EINVAL)?;
        let used = complete::with(resource, |inner, now| inner.core.meta_bytes(bytes, now))
            .map_err(|_| EPROTO)?;
        buffer.copy_within(used..filled, 0);
        filled = filled.saturating_sub(used);
    }
}
