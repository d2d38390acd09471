// SPDX-License-Identifier: GPL-2.0-only

//! The thread that owns the sending side of the data socket.
//!
//! It pulls packets from the core in wire order, up to a batch per lock hold, hands the whole batch
//! to the socket in one call with the pages spliced, and reports what was handed over.

use super::{
    connect::lost,
    digests::Digests,
    link::Link, //
};
use crate::{
    kabi::{
        bio::BioHold,
        page::{
            PageBuf,
            PagePool, //
        },
        params,
        send_batch::SendBatch,
        socket::SendFlags, //
    },
    resource::{
        Inner,
        Resource, //
    }, //
};
use drbd_core::{
    config::Name,
    data::{
        Algorithm,
        Outgoing,
        Payload,
        SentToken, //
    },
    input::Input,
    link::LinkError,
    time::Instant, //
};
use kernel::{
    alloc::KVVec,
    prelude::*,
    sync::Arc, //
};

/// Packets that are pulled per lock hold and sent with one call.
const BATCH: usize = 32;

/// Room for the encoded part of a batch; the largest single packet is a bitmap chunk.
const HEADERS_LEN: usize = 16 * 1024;

/// Room that one packet may need.
const PACKET_LEN_MAX: usize = 4096 + 64;

/// Payload bytes after which a batch is sent, so that a sender of large writes starts early.
const BATCH_BYTES: u32 = 4 << 20;

/// Pages in reserve for headers and for one copy of the largest payload.
const PAGES_RESERVE: usize = 256 + 16;

/// Longest digest of any algorithm that the kernel offers.
const DIGEST_LEN_MAX: usize = 64;

/// What follows the encoded bytes of a packet.
enum Pages {
    None,
    App(BioHold),
    Peer(PageBuf),
}

/// One packet of a batch.
struct Item {
    token: SentToken,
    start: usize,
    end: usize,
    digest: bool,
    copy: bool,
    /// Data behind it have digests of this algorithm.
    algorithm: Option<(Algorithm, Name)>,
    pages: Pages,
}

/// Runs until the link is closed.
pub(super) fn run(resource: &Arc<Resource>, link: &Arc<Link>) {
    let result = Sender::new().and_then(|mut sender| sender.run(resource, link));
    if result.is_err() {
        lost(resource, link, LinkError::BrokenPipe);
    }
}

struct Sender {
    headers: KVVec<u8>,
    items: KVVec<Item>,
    batch: SendBatch,
}

impl Sender {
    fn new() -> Result<Self> {
        Ok(Self {
            headers: KVVec::from_elem(0, HEADERS_LEN, GFP_KERNEL)?,
            items: KVVec::with_capacity(BATCH, GFP_KERNEL)?,
            // Pages of its own: what is received must not wait until something was sent.
            batch: SendBatch::new(&PagePool::new(PAGES_RESERVE)?)?,
        })
    }

    fn run(&mut self, resource: &Arc<Resource>, link: &Link) -> Result {
        let mut mask = 0;
        while !link.is_closing() {
            resource.follow_cpu_mask(&mut mask);
            resource.with_sender(|inner, now| {
                self.report(true, inner, now);
                // Their pages are with the socket: nothing is dropped under the lock.
                self.items.clear();
                self.pull(inner, now);
            });
            if self.items.is_empty() {
                resource.bells.sender.wait();
                continue;
            }
            let result = self.send(resource, link);
            if result.is_err() {
                resource.with(|inner, now| self.report(false, inner, now));
                self.items.clear();
                return result;
            }
        }
        resource.with(|inner, now| self.report(true, inner, now));
        self.items.clear();
        Ok(())
    }

    /// Tells the core what became of the last batch.
    fn report(&self, sent: bool, inner: &mut Inner, now: Instant) {
        for item in self.items.iter() {
            inner.core.sent(item.token, sent, now);
        }
    }

    /// Takes packets while they fit.
    fn pull(&mut self, inner: &mut Inner, now: Instant) {
        let mut start = 0;
        let mut payload_bytes = 0;
        while self.items.len() < BATCH && payload_bytes < BATCH_BYTES {
            let Some(room) = self.headers.get_mut(start..) else {
                break;
            };
            if room.len() < PACKET_LEN_MAX {
                break;
            }
            let out = match inner.core.next_packet(room, now) {
                // The look itself can bring up what the peer is to be told, such as the end of a
                // resync. Nobody is woken for that: the wish is taken for granted.
                None if self.items.is_empty() => inner.core.next_packet(room, now),
                out => out,
            };
            let Some(out) = out else {
                break;
            };
            let end = start.saturating_add(out.len);
            let pages = take_pages(inner, &out);
            payload_bytes = payload_bytes.saturating_add(pages.len_bytes());
            let algorithm = out.algorithm.map(|algorithm| {
                let net = inner.core.net_config();
                (algorithm, net.map_or(Name::EMPTY, |net| net.integrity_alg))
            });
            let item = Item {
                token: out.token,
                start,
                end,
                digest: out.digest,
                copy: out.copy,
                algorithm,
                pages,
            };
            if self.items.push_within_capacity(item).is_err() {
                break;
            }
            start = end;
        }
    }

    fn send(&mut self, resource: &Resource, link: &Link) -> Result {
        for item in self.items.iter_mut() {
            let bytes = self.headers.get(item.start..item.end).ok_or(EINVAL)?;
            push_bytes(resource, link, &mut self.batch, bytes)?;
            // With protocol A the upper layer gets its pages back before TCP is done with them. And
            // it may change them under way: what is sent must be what was digested.
            if item.digest || item.copy || params::disable_sendpage() {
                if let Pages::App(bio) = &item.pages {
                    item.pages = Pages::Peer(copy(resource, link, &mut self.batch, bio)?);
                }
            }
            if item.digest {
                let mut digest = [0; DIGEST_LEN_MAX];
                let len = item
                    .pages
                    .digest(&mut resource.digests.lock(), &mut digest)?;
                let digest = digest.get(..len).ok_or(EINVAL)?;
                push_bytes(resource, link, &mut self.batch, digest)?;
            }
            if let Some((algorithm, name)) = &item.algorithm {
                let both = *algorithm == Algorithm::First;
                resource.digests.lock().told(name, both)?;
            }
            match core::mem::replace(&mut item.pages, Pages::None) {
                Pages::None => {}
                Pages::App(bio) => {
                    link.lend();
                    if let Some(bio) = self.batch.push_bio(bio)? {
                        let pages = copy(resource, link, &mut self.batch, &bio)?;
                        self.batch.push_pages(pages)?;
                    }
                }
                Pages::Peer(pages) => self.batch.push_pages(pages)?,
            }
            if !self.batch.has_room() {
                flush(resource, link, &mut self.batch, true)?;
            }
        }
        flush(resource, link, &mut self.batch, false)
    }
}

/// Appends a copy of `bytes`.
fn push_bytes(resource: &Resource, link: &Link, batch: &mut SendBatch, mut bytes: &[u8]) -> Result {
    loop {
        match batch.push_bytes(&mut bytes) {
            // What the batch holds may be what is missing.
            Err(error) if error == ENOMEM => flush(resource, link, batch, true)?,
            result => return result,
        }
    }
}

/// Copies the data of an upper write.
fn copy(resource: &Resource, link: &Link, batch: &mut SendBatch, bio: &BioHold) -> Result<PageBuf> {
    match batch.try_copy_of(bio) {
        // What the batch holds may be what is missing.
        Err(error) if error == ENOMEM => {
            flush(resource, link, batch, true)?;
            batch.copy_of(bio)
        }
        result => result,
    }
}

/// Sends what the batch holds.
fn flush(resource: &Resource, link: &Link, batch: &mut SendBatch, more: bool) -> Result {
    let flags = SendFlags { more, splice: true };
    loop {
        match batch.flush(&link.data, flags) {
            // The peer takes nothing. The core counts, and closes the link when it is too much.
            Err(error) if error == EAGAIN && !link.is_closing() => {
                resource.handle(Input::SendTimeout);
            }
            result => {
                if result.is_err() {
                    batch.clear();
                }
                return result;
            }
        }
    }
}

fn take_pages(inner: &mut Inner, out: &Outgoing) -> Pages {
    match out.payload {
        Payload::None => Pages::None,
        Payload::App(id) => inner
            .app_bio(id)
            .map_or(Pages::None, |bio| Pages::App(bio.hold())),
        Payload::Peer(id) => inner.take_peer_pages(id).map_or(Pages::None, Pages::Peer),
    }
}

impl Pages {
    fn len_bytes(&self) -> u32 {
        match self {
            Self::None => 0,
            Self::App(bio) => bio.len_bytes(),
            Self::Peer(pages) => pages.len_bytes(),
        }
    }

    fn digest(&self, digests: &mut Digests, out: &mut [u8]) -> Result<usize> {
        match self {
            // Pages of the upper layer are copied before.
            Self::None | Self::App(_) => Err(EINVAL),
            Self::Peer(pages) => digests.outgoing_pages(pages, out),
        }
    }
}
