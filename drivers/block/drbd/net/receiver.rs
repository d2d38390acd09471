// SPDX-License-Identifier: GPL-2.0-only

//! The thread that receives the data socket.
//!
//! It reads the header and fixed part of a packet with as few calls as the stream allows, asks the
//! core what it means, and receives payload with one call straight into the pages that are written
//! or into the pages of the upper bio that is read. It waits for nothing but data, memory and the
//! core's [`Incoming::Wait`].

use super::link::Link;
use crate::{
    disk::peer_io::{
        self,
        Step, //
    },
    kabi::{
        bio::BioHold,
        digest,
        page::{
            PageBuf,
            PagePool, //
        },
        socket::Recv, //
    },
    resource::Resource, //
};
use drbd_core::{
    data::Incoming,
    link::LinkError,
    peer_request::PeerId,
    request::RequestId,
    resource::Front, //
};
use kernel::{
    alloc::KVVec,
    prelude::*,
    sync::Arc, //
};

/// The largest header and fixed part: a bitmap chunk.
const BUFFER_LEN: usize = 4096 + 64;

/// Every packet with a payload has a fixed part of at least that many bytes, so that so much can
/// be read ahead.
const LIKELY_FIXED_LEN: usize = 24;

/// How long the receiver waits at most before it asks the core again, in milliseconds.
const RETRY_MS: u32 = 1000;

/// Longest digest of any algorithm that the kernel offers.
const DIGEST_LEN_MAX: usize = 64;

/// Receives until the stream ends; returns why.
pub(super) fn run(resource: &Arc<Resource>, link: &Arc<Link>) -> LinkError {
    let outcome = Receiver::new(resource, link).and_then(|mut receiver| receiver.run());
    match outcome {
        // The core has dealt with it already; it keeps the first reason.
        Ok(()) => LinkError::ProtocolError,
        Err(_) => LinkError::BrokenPipe,
    }
}

struct Receiver<'a> {
    resource: &'a Arc<Resource>,
    link: &'a Arc<Link>,
    buffer: KVVec<u8>,
    /// Bytes at the front of `buffer` that belong to the packet in progress or the next one.
    filled: usize,
    /// Length of the next header, as far as the core has told. It only grows, so that a header is
    /// never read too far.
    header_len: usize,
}

impl<'a> Receiver<'a> {
    fn new(resource: &'a Arc<Resource>, link: &'a Arc<Link>) -> Result<Self> {
        Ok(Self {
            resource,
            link,
            buffer: KVVec::from_elem(0, BUFFER_LEN, GFP_KERNEL)?,
            filled: 0,
            header_len: resource.with(|inner, _| inner.core.header_len()),
        })
    }

    fn run(&mut self) -> Result {
        let mut mask = 0;
        loop {
            self.resource.follow_cpu_mask(&mut mask);
            if !self.packet()? {
                return Ok(());
            }
        }
    }

    /// Receives one packet. Returns whether the core wants another.
    fn packet(&mut self) -> Result<bool> {
        let resource = self.resource;
        let mut need = self.header_len;
        let mut most = need.saturating_add(LIKELY_FIXED_LEN);
        let mut incoming = loop {
            self.fill(need, most)?;
            let bytes = self.buffer.get(..self.filled).ok_or(EINVAL)?;
            match resource.with(|inner, now| inner.core.data_front(bytes, now)) {
                Front::Need(len) => (need, most) = (len, len),
                Front::Packet {
                    used,
                    next_header_len,
                    incoming,
                } => {
                    // What was read ahead belongs to the next packet: payload is never read ahead,
                    // as packets with payload have at least the likely fixed part.
                    self.buffer.copy_within(used..self.filled, 0);
                    self.filled = self.filled.saturating_sub(used);
                    self.header_len = next_header_len;
                    break incoming;
                }
            }
        };
        loop {
            match incoming {
                Incoming::Done => return Ok(true),
                Incoming::PeerPayload {
                    id,
                    len_bytes,
                    digest_len,
                } => return self.peer_payload(id, len_bytes, digest_len).map(|()| true),
                Incoming::AppPayload {
                    id,
                    len_bytes,
                    digest_len,
                } => return self.app_payload(id, len_bytes, digest_len).map(|()| true),
                Incoming::LoadDigest => incoming = self.load_digest()?,
                Incoming::Drain { len_bytes } => return self.drain(len_bytes).map(|()| true),
                Incoming::Wait => {
                    resource.bells.receiver.wait_timeout(RETRY_MS);
                    if self.link.is_closing() {
                        return Ok(false);
                    }
                    incoming = resource.with(|inner, now| inner.core.data_retry(now));
                }
                Incoming::Error(_) => return Ok(false),
            }
        }
    }

    /// Loads the algorithm that the peer has chosen.
    fn load_digest(&self) -> Result<Incoming> {
        let wanted = self.resource.with(|inner, _| inner.core.digest_to_load());
        // The connection may have ended meanwhile.
        let (what, name) = wanted.ok_or(ESHUTDOWN)?;
        // A command that changes options finds neither done, or both.
        let mut digests = self.resource.digests.lock();
        let len = digests.adopt(what, &name);
        Ok(self
            .resource
            .with(|inner, now| inner.core.digest_loaded(len, now)))
    }

    /// Reads until `need` bytes are there, without taking more than `most`.
    fn fill(&mut self, need: usize, most: usize) -> Result {
        while self.filled < need {
            let room = self.buffer.get_mut(self.filled..most).ok_or(EMSGSIZE)?;
            let received = self.link.data.recv(room, Recv::Some)?;
            if received == 0 {
                return Err(ESHUTDOWN);
            }
            self.filled = self.filled.saturating_add(received);
        }
        Ok(())
    }

    /// Reads exactly `out.len()` bytes, those read ahead first.
    fn exact(&mut self, out: &mut [u8]) -> Result {
        let ahead = self.filled.min(out.len());
        let (front, rest) = out.split_at_mut(ahead);
        front.copy_from_slice(self.buffer.get(..ahead).ok_or(EINVAL)?);
        self.buffer.copy_within(ahead..self.filled, 0);
        self.filled = self.filled.saturating_sub(ahead);
        if !rest.is_empty() && self.link.data.recv(rest, Recv::Exact)? != rest.len() {
            return Err(ESHUTDOWN);
        }
        Ok(())
    }

    fn peer_payload(&mut self, id: PeerId, len_bytes: u32, digest_len: u32) -> Result {
        let mut digest = [0; DIGEST_LEN_MAX];
        let digest = digest.get_mut(..digest_len as usize).ok_or(EMSGSIZE)?;
        self.exact(digest)?;
        let mut pages = PagePool::alloc(&self.resource.pages, len_bytes)?;
        self.receive_pages(&mut pages)?;
        let intact = self.intact(digest, |hasher| hasher.update_pages(&pages))?;
        let (left, next) = self.resource.with_peer_io(|inner, now| {
            let left = inner.put_peer_pages(id, pages);
            inner.core.peer_payload(id, intact, now);
            (left, Step::next(inner, now))
        });
        drop(left);
        peer_io::run_from(self.resource, next);
        Ok(())
    }

    fn receive_pages(&mut self, pages: &mut PageBuf) -> Result {
        // Nothing of a payload is ever read ahead; see `packet`.
        if self.filled != 0 {
            return Err(EINVAL);
        }
        if self.link.data.recv_pages(pages, 0)? != pages.len_bytes() as usize {
            return Err(ESHUTDOWN);
        }
        Ok(())
    }

    fn app_payload(&mut self, id: RequestId, len_bytes: u32, digest_len: u32) -> Result {
        let mut digest = [0; DIGEST_LEN_MAX];
        let digest = digest.get_mut(..digest_len as usize).ok_or(EMSGSIZE)?;
        self.exact(digest)?;
        let bio: BioHold = self
            .resource
            .with(|inner, _| inner.app_bio(id).map(|bio| bio.hold()))
            .ok_or(EINVAL)?;
        if self.filled != 0 || self.link.data.recv_bio(&bio, 0)? != len_bytes as usize {
            return Err(ESHUTDOWN);
        }
        let intact = self.intact(digest, |hasher| hasher.update_bio(&bio))?;
        drop(bio);
        self.resource
            .with(|inner, now| inner.core.app_payload(id, intact, now));
        Ok(())
    }

    fn intact(
        &self,
        expected: &[u8],
        update: impl FnOnce(&mut digest::Hasher<'_>),
    ) -> Result<bool> {
        if expected.is_empty() {
            return Ok(true);
        }
        let mut found = [0; DIGEST_LEN_MAX];
        let len = self.resource.digests.lock().incoming(update, &mut found)?;
        Ok(found
            .get(..len)
            .is_some_and(|found| digest::equal(found, expected)))
    }

    fn drain(&mut self, len_bytes: u32) -> Result {
        let mut left = len_bytes as usize;
        let mut sink = KVVec::from_elem(0_u8, 4096, GFP_KERNEL)?;
        while left > 0 {
            let part = left.min(sink.len());
            self.exact(sink.get_mut(..part).ok_or(EINVAL)?)?;
            left = left.saturating_sub(part);
        }
        Ok(())
    }
}
