// SPDX-License-Identifier: GPL-2.0-only

//! Disk requests on behalf of the peer: writes, reads, discards, flushes, digests.

use super::BackingRef;
use crate::{
    kabi::{
        bio::{
            BioDone,
            BufDone,
            Flags,
            Op, //
        },
        page::{
            PageBuf,
            PagePool, //
        },
        thread, //
    },
    resource::{
        Inner,
        Resource, //
    },
    volume::Volume, //
};
use drbd_core::{
    data::{
        FlushToken,
        PeerIo, //
    },
    peer_request::PeerId,
    time::Instant, //
};
use drbd_format::units::Sector;
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Longest digest of any algorithm that the kernel offers.
const DIGEST_LEN_MAX: usize = 64;

/// Travels with a read or write for the peer.
pub(crate) struct PeerDone {
    volume: Arc<Volume>,
    id: PeerId,
    kind: Kind,
}

/// What is done with the pages.
#[derive(Clone, Copy)]
enum Kind {
    /// They are read, and sent afterwards.
    Read {
        /// The core wants to know whether all bytes are zero.
        check_zero: bool,
    },
    /// They are written, and of no more use.
    Write(Flags),
}

impl BufDone for PeerDone {
    /// Runs in interrupt context.
    fn done(self, buf: PageBuf, result: Result) {
        let id = self.id;
        let ok = result.is_ok();
        let resource = &self.volume.resource;
        match self.kind {
            Kind::Write(_) => {
                drop(buf);
                let index = self.volume.index;
                resource.with(|inner, now| inner.peer_written(index, id, ok, now));
            }
            Kind::Read { check_zero } => {
                let all_zero = check_zero && ok && buf.is_zero();
                let left = resource.with(|inner, now| {
                    let left = inner.put_peer_pages(id, buf);
                    inner.core.peer_io_read(id, ok, all_zero, now);
                    left
                });
                drop(left);
            }
        }
    }
}

/// Travels with a flush between epochs.
pub(crate) struct FlushDone {
    volume: Arc<Volume>,
    token: FlushToken,
}

impl BioDone for FlushDone {
    /// Runs in interrupt context.
    fn done(self, result: Result) {
        let token = self.token;
        let ok = result.is_ok();
        self.volume
            .resource
            .with(|inner, now| inner.core.flush_done(token, ok, now));
    }
}

/// Submits what became ready while nobody was looking, until the thread is asked to stop.
pub(crate) fn run_worker(resource: &Arc<Resource>) {
    let mut mask = 0;
    while !thread::should_stop() {
        resource.follow_cpu_mask(&mut mask);
        resource.bells.peer_io.wait();
        run(resource);
    }
}

/// One piece of work, taken from the core.
pub(crate) struct Step {
    io: PeerIo,
    /// The disk that it is for.
    backing: Option<BackingRef>,
    pages: Option<PageBuf>,
    /// More may be ready.
    more: bool,
}

impl Step {
    /// Takes the next piece of work.
    pub(crate) fn next(inner: &mut Inner, now: Instant) -> Option<Self> {
        let io = match inner.core.next_peer_io(now) {
            Some(io) => io,
            // The look itself can turn requests away, and they and the flush that they held up come
            // first in the next one. Nobody is woken for them: the wish is taken for granted.
            None => inner.core.next_peer_io(now)?,
        };
        let pages = match io {
            PeerIo::Write { id, .. } | PeerIo::Digest { id, .. } | PeerIo::Free { id } => {
                inner.take_peer_pages(id)
            }
            PeerIo::Read { .. } | PeerIo::Discard { .. } | PeerIo::Flush { .. } => None,
        };
        let backing = match io {
            PeerIo::Read { volume, .. }
            | PeerIo::Write { volume, .. }
            | PeerIo::Discard { volume, .. }
            | PeerIo::Flush { volume, .. } => inner.backing(volume),
            PeerIo::Digest { .. } | PeerIo::Free { .. } => None,
        };
        let more = inner.core.has_peer_io();
        Some(Self {
            io,
            backing,
            pages,
            more,
        })
    }
}

/// Submits everything that is ready. May sleep.
pub(crate) fn run(resource: &Arc<Resource>) {
    run_from(resource, resource.with_peer_io(Step::next));
}

/// As [`run`], beginning with what was taken already.
pub(crate) fn run_from(resource: &Arc<Resource>, first: Option<Step>) {
    let mut next = first;
    while let Some(step) = next {
        start(resource, step.io, step.backing, step.pages);
        next = if step.more {
            resource.with_peer_io(Step::next)
        } else {
            None
        };
    }
}

fn start(
    resource: &Arc<Resource>,
    io: PeerIo,
    backing: Option<BackingRef>,
    pages: Option<PageBuf>,
) {
    match io {
        PeerIo::Read {
            id,
            volume,
            sector,
            len_bytes,
            check_zero,
        } => {
            let pages = PagePool::alloc(&resource.pages, len_bytes).ok();
            let kind = Kind::Read { check_zero };
            let target = Target {
                volume: resource.volume(volume),
                backing,
            };
            submit(resource, id, target, kind, sector, pages);
        }
        PeerIo::Write {
            id,
            volume,
            sector,
            fua,
            preflush,
            sync,
            ..
        } => {
            let flags = [
                (fua, Flags::FUA),
                (preflush, Flags::PREFLUSH),
                (sync, Flags::SYNC),
            ]
            .into_iter()
            .filter(|(wanted, _)| *wanted)
            .fold(Flags::NONE, |all, (_, flag)| all | flag);
            let target = Target {
                volume: resource.volume(volume),
                backing,
            };
            submit(resource, id, target, Kind::Write(flags), sector, pages);
        }
        PeerIo::Discard {
            id,
            volume,
            sector,
            len_bytes,
            zero_out,
            may_unmap,
            ..
        } => {
            let ok = backing.is_some_and(|backing| {
                backing
                    .discard(sector, len_bytes, zero_out, may_unmap)
                    .is_ok()
            });
            resource.with(|inner, now| inner.peer_written(volume, id, ok, now));
        }
        PeerIo::Flush { token, volume } => match (resource.volume(volume), backing) {
            (Some(volume), Some(backing)) => backing
                .flushes
                .submit_flush(&backing.data, FlushDone { volume, token }),
            _ => resource.with(|inner, now| inner.core.flush_done(token, false, now)),
        },
        PeerIo::Digest { id, verify } => digest(resource, id, verify, pages),
        PeerIo::Free { .. } => drop(pages),
    }
}

fn digest(resource: &Arc<Resource>, id: PeerId, verify: bool, pages: Option<PageBuf>) {
    let mut digest = [0; DIGEST_LEN_MAX];
    let len = pages
        .as_ref()
        .and_then(|pages| {
            resource
                .digests
                .lock()
                .pages(verify, pages, &mut digest)
                .ok()
        })
        .unwrap_or(0);
    let left = resource.with(|inner, now| {
        let left = pages.and_then(|pages| inner.put_peer_pages(id, pages));
        let digest = digest.get(..len).unwrap_or(&[]);
        inner.core.digest_ready(id, digest, now);
        left
    });
    drop(left);
}

/// Where a request goes.
struct Target {
    volume: Option<Arc<Volume>>,
    backing: Option<BackingRef>,
}

fn submit(
    resource: &Arc<Resource>,
    id: PeerId,
    target: Target,
    kind: Kind,
    sector: Sector,
    pages: Option<PageBuf>,
) {
    let Target { volume, backing } = target;
    let (Some(volume), Some(backing), Some(pages)) = (volume, backing, pages) else {
        resource.with(|inner, now| inner.core.peer_io_done(id, false, now));
        return;
    };
    let context = PeerDone { volume, id, kind };
    let (op, flags) = match kind {
        Kind::Read { .. } => (Op::Read, Flags::NONE),
        Kind::Write(flags) => (Op::Write, flags),
    };
    backing
        .peer
        .submit(&backing.data, op, flags, sector.0, pages, context);
}
