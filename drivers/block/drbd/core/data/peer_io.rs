//! Work for the disk on behalf of the peer: what may go now, in which order.

use drbd_format::types::{DiskState, OnIoError, WriteOrdering};

use super::{bits, DataPlane, FlushToken, PeerIo};
use crate::chance::{chance, Unlikely};
use crate::link::{LinkError, LocalError, Upcall, VolumeIndex};
use crate::memory::slab::List;
use crate::memory::Memory;
use crate::peer_request::{PeerKind, Stage, LIST_WORK};
use crate::put_back::{put_back, Bug};
use crate::quirk::{quirk, Quirk};
use crate::resync::extents::{Begin, SERVE_LIMIT};
use crate::time::Instant;

/// Reads of the peer for whose pages there is memory, in multiples of `max-buffers`.
const READS_HELD_MAX: u32 = 8;

impl<M: Memory> DataPlane<M> {
    /// Returns the next piece of work for the disk. Called until it answers `None`.
    pub fn next_peer_io(&mut self, now: Instant) -> Option<PeerIo> {
        if let Some(slot) = self.to_free.pop(&mut self.peers) {
            let id = self.peers.id_of(slot);
            self.give_back_peer(slot);
            return Some(PeerIo::Free { id });
        }
        if let Some(flush) = self.next_flush() {
            return Some(flush);
        }
        if let Some(slot) = self.to_digest.pop(&mut self.peers) {
            let peer = &self.peers[slot];
            let verify = matches!(peer.kind, PeerKind::VerifyRead | PeerKind::VerifyCompare);
            return Some(PeerIo::Digest {
                id: self.peers.id_of(slot),
                verify,
            });
        }
        while let Some(slot) = self.io_ready.pop(&mut self.peers) {
            if !self.turn_away(slot, now) {
                return Some(self.start_peer(slot, now));
            }
        }
        loop {
            let slot = self.next_for_disk()?;
            if !self.turn_away(slot, now) && !self.needs_log(slot) {
                return Some(self.start_peer(slot, now));
            }
        }
    }

    /// Takes the next request out whose turn has come.
    fn next_for_disk(&mut self) -> Option<u32> {
        if let Some(slot) = self.next_read() {
            return Some(slot);
        }
        if let Some(slot) = self.lock_next() {
            return Some(slot);
        }
        if let Some(slot) = self.next_write(self.resync_held) {
            self.resync_held.remove(&mut self.peers, slot);
            return Some(slot);
        }
        let slot = self.next_write(self.held)?;
        self.held.remove(&mut self.peers, slot);
        Some(slot)
    }

    /// Nothing goes to a disk that is given up, or to the one that is attached next and not yet
    /// compared. For a write that is for the activity log, nothing would say after a crash that the
    /// disk may differ there.
    fn turn_away(&mut self, slot: u32, now: Instant) -> bool {
        let peer = &self.peers[slot];
        let place = &self.volumes[peer.volume.slot()];
        // A disk that has failed may stay, without the write that the read has waited for.
        let good = place.view.state.disk == DiskState::UpToDate;
        let gone = !place.has_disk() || (peer.kind == PeerKind::Read && !good);
        if gone {
            self.refuse(slot, now);
        }
        gone
    }

    /// Tells whether [`Self::next_peer_io`] may have an answer; it is cheap.
    pub fn has_peer_io(&self) -> bool {
        let lists = [
            self.to_free,
            self.to_digest,
            self.io_ready,
            self.read_wait,
            self.lock_wait,
            self.resync_held,
            self.held,
        ];
        self.to_flush != 0 || lists.iter().any(|list| !list.is_empty())
    }

    fn next_flush(&mut self) -> Option<PeerIo> {
        if self.to_flush == 0 {
            return None;
        }
        let number = self.to_flush.trailing_zeros();
        self.to_flush &= self.to_flush - 1;
        let volume = VolumeIndex(u8::try_from(number).ok()?);
        let place = self.volumes.get_mut(volume.slot())?;
        place.cache_dirty = false;
        place.unstable.flush_begins();
        place.local_in_flight += 1;
        let token = FlushToken {
            volume,
            connection: self.connection,
        };
        Some(PeerIo::Flush { token, volume })
    }

    /// Tells whether a read of the peer has to wait for memory (`reference/io.md` 3.7, NEW). The
    /// receiver goes on: the peer may be waiting for it before it takes the answers that hold the
    /// memory.
    fn lacks_read_memory(&self, slot: u32) -> bool {
        let most = self.link.max_buffers.saturating_mul(READS_HELD_MAX);
        let held = self.read_pages_held;
        held != 0 && held.saturating_add(self.peers[slot].pages) > most
    }

    /// Takes the first read of the peer out that overlaps no unfinished write that arrived before
    /// it. Looks at each waiting read once.
    fn next_read(&mut self) -> Option<u32> {
        let mut at = self.read_wait.head();
        while let Some(slot) = at {
            let peer = &self.peers[slot];
            let place = &self.volumes[peer.volume.slot()];
            let (start, end) = (peer.sector.0, peer.range().end().0);
            let earlier = place.peer_writes.find(&self.peers, start, end, |_, other| {
                other.arrival < peer.arrival
            });
            let writes = !place.peer_writes.is_empty();
            if self.lacks_read_memory(slot) {
                return None;
            }
            if earlier.is_none() && !(writes && chance(Unlikely::ReadBehindWrite)) {
                self.read_wait.remove(&mut self.peers, slot);
                return Some(slot);
            }
            at = self.read_wait.after(&self.peers, slot);
        }
        None
    }

    /// Locks the extent of the first request that waits for one and can have it. Of each volume
    /// only the oldest one is tried: it has closed its extent, and its turn is not passed over. A
    /// volume with writes that do not end, as its disk hangs, holds up no other one. Looks at each
    /// waiting request once.
    fn lock_next(&mut self) -> Option<u32> {
        let mut left = self.present;
        let mut at = self.lock_wait.head();
        while let Some(slot) = at.filter(|_| left != 0) {
            at = self.lock_wait.after(&self.peers, slot);
            let peer = &self.peers[slot];
            let (volume, extent) = (peer.volume, peer.sector.resync_extent().0);
            if left & volume.bit() == 0 {
                continue;
            }
            if !self.volumes[volume.slot()].has_disk() {
                self.lock_wait.remove(&mut self.peers, slot);
                return Some(slot);
            }
            if self.lacks_read_memory(slot) {
                return None;
            }
            if self.begin_extent(volume, extent, SERVE_LIMIT) == Begin::Locked {
                self.lock_wait.remove(&mut self.peers, slot);
                self.peers[slot].holds_extent = true;
                return Some(slot);
            }
            left &= !volume.bit();
        }
        None
    }

    /// Locks a resync extent against application writes.
    pub(crate) fn begin_extent(&mut self, volume: VolumeIndex, extent: u64, limit: u32) -> Begin {
        self.give_up_extents(volume, Some(extent));
        let place = &mut self.volumes[volume.slot()];
        let untracked = place.untracked_writes != 0;
        let Some(disk) = &mut place.disk else {
            return Begin::Busy;
        };
        let al = &disk.al;
        let unused = || {
            !untracked
                && (extent * 4..extent * 4 + 4)
                    .filter_map(|al_extent| u32::try_from(al_extent).ok())
                    .all(|al_extent| !al.is_used(al_extent))
        };
        let begin = disk.extents.begin(extent, limit, unused);
        if begin == Begin::Busy {
            self.hurry_barrier();
        }
        begin
    }

    /// Opens the extent that resync waits for, unless it is `keep`: writes that waited may go.
    pub(crate) fn give_up_extents(&mut self, volume: VolumeIndex, keep: Option<u64>) {
        let disk = self.volumes[volume.slot()].disk.as_mut();
        if disk.is_some_and(|disk| disk.extents.give_up_but(keep)) {
            self.wake_volume(volume);
        }
    }

    /// Returns the first write of a queue if it may go: its epoch is open and it overlaps no
    /// write that arrived earlier.
    fn next_write(&self, queue: List<LIST_WORK>) -> Option<u32> {
        let slot = queue.head()?;
        let peer = &self.peers[slot];
        if peer.kind.is_application_write() {
            let ordering = self.ordering();
            if !self.epochs.may_submit(peer.epoch, ordering) || self.waits_for_verdict(slot) {
                return None;
            }
        }
        let tree = &self.volumes[peer.volume.slot()].peer_writes;
        let (start, end) = (peer.sector.0, peer.range().end().0);
        let earlier = tree.find(&self.peers, start, end, |_, other| {
            other.arrival < peer.arrival
        });
        (earlier.is_none() || put_back(Bug::ResyncWriteOvertakes)).then_some(slot)
    }

    /// Writes while the peer has no disk need the activity log; answers `true` if the write now
    /// waits for it.
    fn needs_log(&mut self, slot: u32) -> bool {
        let peer = &self.peers[slot];
        let (volume, empty) = (peer.volume, peer.range().is_empty());
        let place = &mut self.volumes[volume.slot()];
        if !peer.peer_is_diskless || !place.has_disk() || place.al_suspended || empty {
            return false;
        }
        place.peer_al.push(&mut self.peers, slot);
        self.wake_volume(volume);
        true
    }

    /// Hands a request to the disk.
    fn start_peer(&mut self, slot: u32, now: Instant) -> PeerIo {
        let id = self.peers.id_of(slot);
        let peer = &mut self.peers[slot];
        peer.stage = Stage::InFlight;
        // They go with the request to the disk.
        peer.has_pages = false;
        if !peer.kind.is_write() {
            peer.holds_pages = true;
            self.read_pages_held += peer.pages;
        }
        let (volume, sector, len_bytes) = (peer.volume, peer.sector, peer.len_bytes);
        let place = &mut self.volumes[volume.slot()];
        place.local_in_flight += 1;
        if !peer.kind.holds_extent() {
            // Load that a resync competes with.
            if let Some(session) = &mut place.session {
                session.rate.application(peer.sectors().0, now);
            }
        }
        match peer.kind {
            PeerKind::Write | PeerKind::ResyncWrite => {
                place.cache_dirty |= !peer.fua;
                let (fua, preflush, sync) = (peer.fua, peer.preflush, peer.sync);
                PeerIo::Write {
                    id,
                    volume,
                    sector,
                    len_bytes,
                    fua,
                    preflush,
                    sync,
                }
            }
            PeerKind::Trim | PeerKind::ResyncTrim => {
                place.cache_dirty = true;
                let (zero_out, may_unmap) = (peer.zero_out, peer.may_unmap);
                PeerIo::Discard {
                    id,
                    volume,
                    sector,
                    len_bytes,
                    zero_out,
                    may_unmap,
                }
            }
            PeerKind::ChecksumCompare
            | PeerKind::ChecksumRead
            | PeerKind::Read
            | PeerKind::Refused
            | PeerKind::ResyncRead
            | PeerKind::ThinRead
            | PeerKind::VerifyCompare
            | PeerKind::VerifyRead => {
                let check_zero = peer.kind == PeerKind::ThinRead;
                PeerIo::Read {
                    id,
                    volume,
                    sector,
                    len_bytes,
                    check_zero,
                }
            }
        }
    }

    /// Moves the epochs on: flushes that are due, writes that may go, barriers to acknowledge.
    pub(crate) fn advance_epochs(&mut self) {
        let ordering = self.ordering();
        let mut dirty = 0;
        if ordering == WriteOrdering::Flush {
            for volume in bits(self.present) {
                let place = &self.volumes[volume.slot()];
                let volatile = place.disk.as_ref().is_some_and(|disk| disk.volatile_cache);
                let flushed = volatile && place.has_disk();
                if flushed && (place.cache_dirty || chance(Unlikely::FlushInVain)) {
                    dirty |= volume.bit();
                }
            }
        }
        let started = self.epochs.advance(|| dirty);
        self.to_flush |= started;
        self.wants.peer_io |= started != 0 || !self.held.is_empty();
        self.wants.acks |= self.epochs.has_finished();
    }

    /// The connection over which the writes of the peer came is gone.
    pub(crate) fn forget_epochs(&mut self) {
        self.epochs.reset();
        self.to_refuse = 0;
        // What is in the caches counts as dirty until a flush begins.
        self.to_flush = 0;
        for place in self.volumes.iter_mut() {
            place.unstable.clear();
        }
    }

    /// The disk of a volume is given up: nobody flushes what is in its cache.
    pub(crate) fn give_up_cache(&mut self, volume: VolumeIndex) {
        if self.volumes[volume.slot()].unstable.given_up() {
            self.to_refuse |= volume.bit();
        }
        self.epochs.given_up(volume.0);
        self.advance_epochs();
        self.wants.acks |= self.to_refuse != 0 || self.epochs.has_finished();
    }

    /// Takes note of a write that the disk is done with and that a flush has to make stable.
    /// Answers `false` if nobody will flush it.
    pub(crate) fn note_unstable(&mut self, slot: u32) -> bool {
        let flushes = self.ordering() == WriteOrdering::Flush;
        let peer = &self.peers[slot];
        let place = &mut self.volumes[peer.volume.slot()];
        let volatile = place.disk.as_ref().is_none_or(|disk| disk.volatile_cache);
        let stable = peer.kind == PeerKind::Write && peer.fua;
        let waits = flushes && volatile && place.view.disk.disk_flushes && !stable;
        if !waits || peer.range().is_empty() || quirk(Quirk::AckBeforeFlush) {
            return true;
        }
        if !place.has_disk() {
            return false;
        }
        place.unstable.written(peer.range(), peer.block_id);
        // A flush may have been asked for since it was given to the disk: writes did not have to
        // wait for one before the options, or the disks, changed.
        place.cache_dirty = true;
        true
    }

    /// A flush has ended. After one that failed the barrier is not acknowledged unless the disk is
    /// given up. If it stays (`on-io-error pass_on`) the connection ends; over the next one it is
    /// flushed as before: the failure of a moment must not make all later writes unstable. If that
    /// fails, too, it is given up after all: the connection would never last.
    pub fn flush_done(&mut self, token: FlushToken, ok: bool, now: Instant) {
        let _ = now;
        let Some(place) = self.volumes.get_mut(token.volume.slot()) else {
            return;
        };
        place.local_in_flight = place.local_in_flight.saturating_sub(1);
        // A disk that is given up already has nothing to lose.
        let failed = !ok && place.has_disk();
        let current = token.connection == self.connection;
        let before = place.flush_failed_in;
        if current {
            place.flush_failed_in = if failed { self.connection } else { 0 };
        }
        let again = current && before != 0 && before != self.connection;
        let kept = !again && place.view.disk.on_io_error == OnIoError::PassOn;
        if failed {
            let error = if again {
                LocalError::Flush
            } else {
                LocalError::Write
            };
            let volume = token.volume;
            self.upcall(Upcall::LocalIoFailed { volume, error });
        }
        if failed && kept && current {
            // The peer must not rely on what it was told: it marks all writes of which it does not
            // know that they are stable when the connection ends.
            self.upcall(Upcall::LinkFailed(LinkError::NetworkFailure));
        }
        if current {
            if failed {
                self.epochs.flush_failed(token.volume.0);
            } else {
                self.epochs.flushed(token.volume.0);
            }
            if ok {
                self.volumes[token.volume.slot()].unstable.flushed();
            }
            self.advance_epochs();
        }
        self.check_idle(token.volume);
        self.check_drained();
    }
}
