//! What happens when the disk or the digest is done with a request for the peer.

use drbd_format::types::{ConnState, DiskState};

use super::DataPlane;
use crate::link::{LocalError, Upcall, VolumeIndex};
use crate::memory::Memory;
use crate::peer_request::{Ack, PeerId, PeerKind, Stage};
use crate::time::Instant;

impl<M: Memory> DataPlane<M> {
    /// The disk is done with a peer request. May be called in interrupt context. Stale ids are
    /// ignored.
    pub fn peer_io_done(&mut self, id: PeerId, ok: bool, now: Instant) {
        self.peer_io_read(id, ok, false, now);
    }

    /// As [`Self::peer_io_done`], for reads with `check_zero`: all bytes read are zero.
    pub fn peer_io_read(&mut self, id: PeerId, ok: bool, all_zero: bool, now: Instant) {
        if self.peers.get(id).is_some_and(|peer| peer.aborted) {
            self.aborted_came_back(id.slot);
            return;
        }
        if self.peers.get(id).map(|peer| peer.stage) != Some(Stage::InFlight) {
            return;
        }
        let slot = id.slot;
        let (volume, kind) = (self.peers[slot].volume, self.peers[slot].kind);
        self.count_local(slot, ok);
        match kind {
            PeerKind::Trim | PeerKind::Write => self.write_finished(slot, ok, now),
            PeerKind::ResyncTrim | PeerKind::ResyncWrite => self.resync_written(slot, ok, now),
            PeerKind::ChecksumCompare
            | PeerKind::ChecksumRead
            | PeerKind::Read
            | PeerKind::Refused
            | PeerKind::ResyncRead
            | PeerKind::ThinRead
            | PeerKind::VerifyCompare
            | PeerKind::VerifyRead => self.read_finished(slot, ok, all_zero, now),
        }
        self.check_idle(volume);
    }

    /// The disk of a volume is detached by force: what it has for the peer has failed. It may keep
    /// that for ever, and the peer's applications, all other volumes and the next connection do not
    /// wait for it. Loops over all requests for the peer.
    pub(crate) fn abort_for_peer(&mut self, volume: VolumeIndex, now: Instant) {
        let mut at = self.all_peers.head();
        while let Some(slot) = at {
            at = self.all_peers.after(&self.peers, slot);
            let peer = &mut self.peers[slot];
            if peer.volume == volume && peer.stage == Stage::InFlight {
                peer.aborted = true;
                self.refuse(slot, now);
            }
        }
    }

    /// Returns how many requests for the peer are over but for the disk, which was detached by
    /// force. Loops over all slots, if any is in use.
    pub(crate) fn abandoned(&self) -> u32 {
        let slots = match self.peers.used() {
            0 => 0,
            _ => self.peers.capacity(),
        };
        let is_over = |slot: u32| {
            let stage = self.peers[slot].stage;
            // The pages of what has come back are given back next.
            self.peers.is_taken(slot) && matches!(stage, Stage::Abandoned | Stage::Freeing)
        };
        (0..slots).map(|slot| u32::from(is_over(slot))).sum()
    }

    /// What the disk did with it does not count any more.
    fn aborted_came_back(&mut self, slot: u32) {
        let peer = &mut self.peers[slot];
        peer.aborted = false;
        peer.has_pages = !peer.kind.is_write();
        let (volume, abandoned) = (peer.volume, peer.stage == Stage::Abandoned);
        let place = &mut self.volumes[volume.slot()];
        place.local_in_flight = place.local_in_flight.saturating_sub(1);
        if abandoned {
            self.release_slot(slot);
        }
        self.check_idle(volume);
    }

    fn count_local(&mut self, slot: u32, ok: bool) {
        let peer = &self.peers[slot];
        let (volume, sectors) = (peer.volume, peer.sectors().0);
        let place = &mut self.volumes[volume.slot()];
        place.local_in_flight = place.local_in_flight.saturating_sub(1);
        if peer.kind.is_write() {
            place.totals.written += if ok { sectors } else { 0 };
            if !ok {
                self.upcall(Upcall::LocalIoFailed {
                    volume,
                    error: LocalError::Write,
                });
            }
        } else {
            place.totals.read += if ok { sectors } else { 0 };
            if !ok {
                self.upcall(Upcall::LocalIoFailed {
                    volume,
                    error: LocalError::Read,
                });
            }
        }
    }

    /// An application write of the peer has ended.
    pub(crate) fn write_finished(&mut self, slot: u32, ok: bool, now: Instant) {
        let peer = &mut self.peers[slot];
        peer.ok = ok;
        let (volume, range, epoch) = (peer.volume, peer.range(), peer.epoch);
        let (may_set_in_sync, wants_ack, cancelled) =
            (peer.may_set_in_sync, peer.wants_write_ack, peer.cancelled);
        if core::mem::take(&mut peer.peer_is_diskless) {
            let place = &mut self.volumes[volume.slot()];
            place.diskless_writes = place.diskless_writes.saturating_sub(1);
        }
        self.free_pages(slot);
        if !self.link.two_primaries {
            self.leave_tree(slot);
        }
        // Otherwise it leaves when its ack is in the stream: a write of ours to the same place
        // must have a higher sequence number (`reference/io.md` W7).
        self.release_peer_al(slot);
        self.epochs.write_finished(epoch);
        if cancelled {
            self.retire(slot);
            self.advance_epochs();
            return;
        }
        // Nothing but a flush makes it stable, and a disk that is given up is not flushed.
        let ok = ok && self.note_unstable(slot);
        let place = &mut self.volumes[volume.slot()];
        let state = place.view.state;
        let resyncs = state.conn >= ConnState::SyncSource && state.conn <= ConnState::PausedSyncT;
        let ack = if !ok {
            place.write_refused(range);
            Ack::Neg
        } else if may_set_in_sync && resyncs && state.pdsk >= DiskState::Inconsistent {
            place.written_everywhere(range, now);
            Ack::ResyncWritten
        } else if wants_ack {
            Ack::Written
        } else {
            Ack::None
        };
        self.queue_ack(slot, ack);
        self.advance_epochs();
        self.resync_progressed(volume, now);
    }

    /// A write of resync data has ended. It says something about the blocks only in the run for
    /// which the data were asked: the bits of the next run are another matter. The peer hears how
    /// the write ended all the same (a C source counts a refusal among the failures of its run).
    pub(crate) fn resync_written(&mut self, slot: u32, ok: bool, now: Instant) {
        let peer = &mut self.peers[slot];
        peer.ok = ok;
        let (volume, range, cancelled) = (peer.volume, peer.range(), peer.cancelled);
        let current = peer.holds_extent;
        self.leave_tree(slot);
        if cancelled {
            self.complete_extent(slot);
            self.retire(slot);
            return;
        }
        let place = &mut self.volumes[volume.slot()];
        if ok && current {
            place.set_in_sync(range, now);
        } else if let (true, Some(disk), Some(session)) = (current, &place.disk, &mut place.session)
        {
            session.failed += disk.bitmap.count_range(range);
        }
        self.complete_extent(slot);
        self.queue_ack(slot, if ok { Ack::ResyncWritten } else { Ack::Neg });
        self.resync_progressed(volume, now);
    }

    /// The disk is gone. What waits for it on behalf of the peer has failed: the next disk has
    /// other data, and nobody has locked its extents.
    pub(crate) fn refuse_waiting(&mut self, volume: VolumeIndex, now: Instant) {
        while let Some(slot) = self.take_waiting(volume) {
            self.refuse(slot, now);
        }
    }

    /// The run is over. Its data that are not with the disk yet do not go there any more.
    pub(crate) fn refuse_resync_data(&mut self, volume: VolumeIndex, now: Instant) {
        let mut at = self.resync_held.head();
        while let Some(slot) = at {
            at = self.resync_held.after(&self.peers, slot);
            if self.peers[slot].volume == volume {
                self.resync_held.remove(&mut self.peers, slot);
                self.refuse(slot, now);
            }
        }
    }

    /// A request that is in no list any more has failed without having been with the disk.
    pub(crate) fn refuse(&mut self, slot: u32, now: Instant) {
        let kind = self.peers[slot].kind;
        if kind.is_application_write() {
            self.write_finished(slot, false, now);
        } else if kind.is_write() {
            self.resync_written(slot, false, now);
        } else {
            self.answer_read(slot, false, false, now);
        }
    }

    /// Takes a request out of the lists of those that wait for the disk. Writes of applications
    /// stay: they are turned away in their order.
    fn take_waiting(&mut self, volume: VolumeIndex) -> Option<u32> {
        let lists = [
            &mut self.io_ready,
            &mut self.lock_wait,
            &mut self.read_wait,
            &mut self.resync_held,
        ];
        for list in lists {
            let mut at = list.head();
            while let Some(slot) = at {
                let peer = &self.peers[slot];
                if peer.volume == volume && !peer.kind.is_application_write() {
                    list.remove(&mut self.peers, slot);
                    return Some(slot);
                }
                at = list.after(&self.peers, slot);
            }
        }
        None
    }

    /// A read has ended.
    fn read_finished(&mut self, slot: u32, ok: bool, all_zero: bool, now: Instant) {
        self.peers[slot].has_pages = true;
        if self.peers[slot].kind == PeerKind::VerifyCompare {
            self.leave_tree(slot);
        }
        self.answer_read(slot, ok, all_zero, now);
    }

    /// Drops a request whose connection has gone, or the run that it was for: what was read for
    /// that run may be older than what the next one is about. The peer hears that its question is
    /// settled, which versions before 96 can not say.
    fn drop_if_over(&mut self, slot: u32) -> bool {
        let peer = &self.peers[slot];
        let over = peer.kind.is_for_a_run()
            && peer.stage != Stage::Waiting
            && !peer.holds_extent
            && self.link.terms.version.number() >= 96;
        if peer.cancelled || (over && peer.kind == PeerKind::ChecksumRead) {
            self.complete_extent(slot);
            self.retire(slot);
            true
        } else {
            if over {
                self.queue_ack(slot, Ack::ResyncCancel);
            }
            over
        }
    }

    /// Answers a read, or computes a digest first.
    fn answer_read(&mut self, slot: u32, ok: bool, all_zero: bool, now: Instant) {
        let kind = self.peers[slot].kind;
        self.peers[slot].ok = ok;
        if self.drop_if_over(slot) {
            return;
        }
        if ok && kind.wants_digest() {
            self.peers[slot].stage = Stage::Digest;
            self.to_digest.push(&mut self.peers, slot);
            self.wants.peer_io = true;
            return;
        }
        match kind {
            PeerKind::ThinRead if ok && all_zero => {
                // The reply says so without data.
                self.peers[slot].zero_out = true;
                self.queue_reply(slot);
            }
            PeerKind::Read | PeerKind::ResyncRead | PeerKind::ThinRead if ok => {
                self.queue_reply(slot);
            }
            PeerKind::Read => self.queue_ack(slot, Ack::NegRead),
            PeerKind::ChecksumCompare | PeerKind::ResyncRead | PeerKind::ThinRead => {
                let peer = &self.peers[slot];
                let (volume, range) = (peer.volume, peer.range());
                self.volumes[volume.slot()].not_synced(range);
                self.complete_extent(slot);
                self.queue_ack(slot, Ack::NegResyncRead);
            }
            PeerKind::ChecksumRead => self.own_read_failed(slot),
            PeerKind::VerifyCompare => self.verify_compared(slot, false, now),
            PeerKind::VerifyRead => self.answer_without_digest(slot),
            PeerKind::Refused
            | PeerKind::ResyncTrim
            | PeerKind::ResyncWrite
            | PeerKind::Trim
            | PeerKind::Write => self.retire(slot),
        }
    }

    /// There is no digest for the answer to the peer's verify: one of zeroes is not that of its
    /// block.
    fn answer_without_digest(&mut self, slot: u32) {
        let zeroes = [0; crate::peer_request::DIGEST_MAX];
        let len = usize::from(self.link.verify_len);
        let digest = zeroes.get(..len).unwrap_or(&[]);
        self.peers[slot].set_digest(digest);
        self.queue_reply(slot);
    }

    /// The digest of a request's pages has been computed; empty: that failed.
    pub fn digest_ready(&mut self, id: PeerId, digest: &[u8], now: Instant) {
        if self.peers.get(id).map(|peer| peer.stage) != Some(Stage::Digest) {
            return;
        }
        let slot = id.slot;
        if self.drop_if_over(slot) {
            return;
        }
        self.peers[slot].stage = Stage::Waiting;
        let same = !digest.is_empty() && self.peers[slot].digest() == digest;
        match self.peers[slot].kind {
            PeerKind::ChecksumCompare => {
                if !same {
                    self.queue_reply(slot);
                    return;
                }
                let (volume, range) = (self.peers[slot].volume, self.peers[slot].range());
                let place = &mut self.volumes[volume.slot()];
                place.set_in_sync(range, now);
                if let Some(session) = &mut place.session {
                    session.same_checksum += range.len().bits().0;
                }
                self.complete_extent(slot);
                self.queue_ack(slot, Ack::ResyncInSync);
            }
            PeerKind::VerifyCompare => self.verify_compared(slot, same, now),
            PeerKind::VerifyRead if digest.is_empty() => self.answer_without_digest(slot),
            PeerKind::ChecksumRead | PeerKind::VerifyRead => {
                let kept = self.peers[slot].set_digest(digest);
                debug_assert!(kept, "no algorithm has a longer digest");
                self.queue_reply(slot);
            }
            PeerKind::Read
            | PeerKind::Refused
            | PeerKind::ResyncRead
            | PeerKind::ResyncTrim
            | PeerKind::ResyncWrite
            | PeerKind::ThinRead
            | PeerKind::Trim
            | PeerKind::Write => self.retire(slot),
        }
    }

    /// Puts the reply of a request at the end of the order of the data socket.
    pub(crate) fn queue_reply(&mut self, slot: u32) {
        let stamp = self.next_stamp();
        let peer = &mut self.peers[slot];
        peer.stage = Stage::Replying;
        peer.stamp = stamp;
        self.replies.push(&mut self.peers, slot);
        self.wants.sender = true;
    }

    pub(crate) fn free_pages(&mut self, slot: u32) {
        let pages = core::mem::replace(&mut self.peers[slot].pages, 0);
        let counter = if self.peers[slot].kind.is_write() {
            &mut self.write_pages
        } else {
            &mut self.read_pages
        };
        *counter = counter.saturating_sub(pages);
        if core::mem::take(&mut self.peers[slot].holds_pages) {
            self.read_pages_held = self.read_pages_held.saturating_sub(pages);
            self.wants.peer_io |= !self.read_wait.is_empty() || !self.lock_wait.is_empty();
        }
        self.wants.receiver |= pages != 0 && self.stalled.is_kept();
    }

    fn leave_tree(&mut self, slot: u32) {
        let volume = self.peers[slot].volume;
        let place = &mut self.volumes[volume.slot()];
        place.peer_writes.remove(&mut self.peers, slot);
        if core::mem::take(&mut self.peers[slot].is_counted_write) {
            place.peer_app_writes = place.peer_app_writes.saturating_sub(1);
        }
        let last = place.peer_app_writes == 0;
        let waiting = !place.conflict.is_empty();
        if waiting {
            self.wake_volume(volume);
        }
        self.wants.peer_io |=
            !self.held.is_empty() || !self.resync_held.is_empty() || !self.read_wait.is_empty();
        if last {
            self.check_idle(volume);
        }
    }

    fn release_peer_al(&mut self, slot: u32) {
        let peer = &mut self.peers[slot];
        let count = core::mem::replace(&mut peer.al_count, 0);
        if count != 0 {
            let (volume, first) = (peer.volume, peer.al_first);
            self.release_al(volume, first, count);
        }
    }

    /// The request gives its user of a resync extent back.
    pub(crate) fn complete_extent(&mut self, slot: u32) {
        let peer = &mut self.peers[slot];
        let (volume, extent) = (peer.volume, peer.sector.resync_extent().0);
        let holds = core::mem::replace(&mut peer.holds_extent, false);
        let counted = core::mem::replace(&mut peer.counted, false);
        let place = &mut self.volumes[volume.slot()];
        if counted {
            if let Some(session) = &mut place.session {
                session.finished();
            }
        }
        if holds {
            self.open_extent(volume, extent);
        }
    }

    /// One user of a resync extent is done.
    pub(crate) fn open_extent(&mut self, volume: VolumeIndex, extent: u64) {
        let place = &mut self.volumes[volume.slot()];
        let Some(disk) = &mut place.disk else { return };
        let opened = disk.extents.complete(extent);
        if opened {
            // Application writes may wait for it, other requests for a free place.
            self.wake_volume(volume);
            self.wake_extent_waiters(volume);
            self.wants.sender = true;
        }
    }

    /// Nothing is left to do for a request but to give its pages and slot back. Without pages the
    /// slot is free when this returns.
    pub(crate) fn retire(&mut self, slot: u32) {
        if matches!(self.peers[slot].stage, Stage::Abandoned | Stage::Freeing) {
            return;
        }
        self.free_pages(slot);
        self.leave_tree(slot);
        self.release_peer_al(slot);
        self.complete_extent(slot);
        let peer = &mut self.peers[slot];
        let place = &mut self.volumes[peer.volume.slot()];
        place.unanswered = place.unanswered.saturating_sub(1);
        if peer.aborted {
            peer.stage = Stage::Abandoned;
            self.all_peers.remove(&mut self.peers, slot);
            self.check_drained();
        } else {
            self.release_slot(slot);
        }
    }

    fn release_slot(&mut self, slot: u32) {
        let peer = &mut self.peers[slot];
        peer.stage = Stage::Freeing;
        if peer.has_pages {
            self.to_free.push(&mut self.peers, slot);
            self.wants.peer_io = true;
        } else {
            self.give_back_peer(slot);
        }
    }

    /// The slot can be used again: by a packet that waits for one, or by a resync.
    pub(crate) fn give_back_peer(&mut self, slot: u32) {
        let id = self.peers.id_of(slot);
        let volume = self.peers[slot].volume;
        self.all_peers.remove(&mut self.peers, slot);
        self.peers.give_back(id);
        self.wants.receiver |= self.stalled.is_kept();
        self.wants.sender |= self.volumes[volume.slot()].session.is_some();
        self.check_drained();
    }

    /// Drops a request whose payload could not be received. It leaves its epoch unacknowledged:
    /// the connection goes away.
    pub(crate) fn abandon(&mut self, slot: u32) {
        if self.peers[slot].in_epoch {
            let epoch = self.peers[slot].epoch;
            self.epochs.write_finished(epoch);
            self.advance_epochs();
        }
        self.retire(slot);
    }
}
