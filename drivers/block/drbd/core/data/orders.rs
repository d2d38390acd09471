//! Orders of the control plane: connection gained and lost, disks coming and going, frozen
//! requests, resync (`reference/io.md` 1.9, 1.10).

use drbd_format::types::{ConnState, DiskState, Fencing, Protocol};
use drbd_format::units::BitIndex;

use super::{bits, DataPlane, VolumeSlot};
use crate::bitmap_exchange::BitmapSend;
use crate::link::{LinkError, LocalError, Order, Side, Upcall, VolumeIndex};
use crate::memory::Memory;
use crate::peer_request::{PeerKind, Stage};
use crate::put_back::{put_back, Bug};
use crate::request::{Answer, Barrier, Event, Local, Remote, Transport, Wait};
use crate::resync::session::{verify_start, Job, Session};
use crate::time::{earliest, Duration, Instant};

impl<M: Memory> VolumeSlot<M> {
    /// The sector that a verify has reached, or the last one did; 0 once all is done.
    pub(crate) fn verify_reached(&self) -> u64 {
        match (&self.session, &self.disk) {
            (Some(session), Some(disk)) if session.job == Job::Verify => {
                if session.verify_left == 0 {
                    0
                } else {
                    disk.bitmap.bits().saturating_sub(session.verify_left) * 8
                }
            }
            _ => self.verify_start,
        }
    }
}

impl<M: Memory> DataPlane<M> {
    /// Carries out an order. `Order::View` and `Order::Link` are carried out by the resource,
    /// which knows the new views (`set_view`, `set_link`).
    pub fn order(&mut self, order: &Order, now: Instant) {
        match *order {
            Order::View(_) | Order::Link => {}
            Order::NewVolume(volume, number) => self.new_volume(volume, Some(number)),
            Order::DropVolume(volume) => self.new_volume(volume, None),
            Order::LinkUp => self.link_up(),
            Order::LinkLost { keep, keep_ended } => self.link_lost(keep, keep_ended, now),
            Order::ResendFrozen => self.resend_frozen(now),
            Order::EndFrozen => self.for_all_logged(now, Event::ConnectionLost),
            Order::EndFrozenOf(volume) => self.end_frozen_of(volume, now),
            Order::FailFrozen(volume) => self.fail_frozen(volume, now),
            Order::RestartFrozen => self.restart_frozen(),
            Order::RestartWrites(volume) => self.restart_writes(volume),
            Order::DiskAttached(volume) => self.disk_attached(volume),
            Order::DiskDetached(volume) => self.disk_detached(volume, now),
            Order::AbortLocal(volume) => self.abort_local(volume, now),
            Order::Resize {
                volume,
                capacity,
                set_new_bits,
            } => {
                if let Some(place) = self.volumes.get_mut(volume.slot()) {
                    if let Some(disk) = &mut place.disk {
                        disk.bitmap.resize(capacity, set_new_bits);
                    }
                }
            }
            Order::SetAllBits(volume) => {
                self.fill_bitmap(volume, true);
                self.forget_sync_marks(volume);
            }
            Order::ClearAllBits(volume) => self.fill_bitmap(volume, false),
            Order::SendBitmap(volume) => {
                self.forget_sync_marks(volume);
                self.start_bitmap_send(volume);
            }
            Order::KeepBitmap(volume) => self.give_up_bitmap_send(volume),
            Order::StartResync(volume, side) => self.start_resync(volume, side, now),
            Order::OnlyNewSpace { volume, old } => self.only_new_space(volume, old),
            Order::StartVerify {
                volume,
                side,
                start,
                stop,
            } => {
                let first = match side {
                    Side::Source => verify_start(start),
                    // The first request tells.
                    Side::Target => BitIndex(u64::MAX),
                };
                self.start_verify(volume, side, first, BitIndex(stop.0.div_ceil(8)), now);
            }
            Order::StopResync(volume) => self.stop_resync(volume, now),
            Order::CheckResyncDone { volume, failed } => {
                self.check_resync_done(volume, failed, now);
            }
            Order::GoOnSyncing(volume) => self.go_on_syncing(volume, now),
            Order::NewEpoch => self.close_epoch(now),
            Order::WriteRing(volume) => self.write_ring(volume),
            Order::SuspendAl(volume) => self.suspend_al(volume, true),
            Order::ResumeAl(volume) => self.suspend_al(volume, false),
            Order::Send(item) => self.send_control(item),
        }
    }

    /// Carries out what follows from several orders together. Called by the resource when no
    /// order is left.
    pub fn orders_done(&mut self, now: Instant) {
        for volume in bits(core::mem::take(&mut self.thawed)) {
            if !self.volumes[volume.slot()].view.state.suspended() {
                self.thaw(volume, now);
            }
        }
    }

    /// I/O is not suspended any more: what was held back completes.
    fn thaw(&mut self, volume: VolumeIndex, now: Instant) {
        let mut at = self.log.head();
        while let Some(slot) = at {
            at = self.log.after(&self.requests, slot);
            if self.requests[slot].volume == volume && self.requests[slot].frozen {
                self.apply(slot, Event::Thaw, now);
            }
        }
        // Flushes are in no log.
        for slot in 0..self.requests.capacity() {
            if self.requests.is_used(slot)
                && self.requests[slot].frozen
                && self.requests[slot].volume == volume
            {
                self.apply(slot, Event::Thaw, now);
            }
        }
        self.wake_volume(volume);
        self.wants.submitters = true;
    }

    fn new_volume(&mut self, volume: VolumeIndex, number: Option<crate::link::VolumeNumber>) {
        let Some(place) = self.volumes.get_mut(volume.slot()) else {
            return;
        };
        if place.app_in_flight == 0 && place.local_in_flight == 0 && place.disk.is_none() {
            let queued = u32::try_from(place.control.len()).unwrap_or(u32::MAX);
            self.control_len = self.control_len.saturating_sub(queued);
            *place = VolumeSlot::default();
        }
        place.number = number;
        if number.is_some() {
            self.present |= volume.bit();
        } else {
            self.present &= !volume.bit();
        }
    }

    fn link_up(&mut self) {
        self.up = true;
        self.connection = self.connection.wrapping_add(1);
        self.connected_at = self.next_stamp();
        self.forget_epochs();
        self.sending_writes = 0;
        self.sending_epoch = self.epoch;
        self.stalled.clear();
        self.draining = false;
        for place in self.volumes.iter_mut() {
            place.seq = 0;
            place.peer_seq = 0;
            place.totals.sent = 0;
            place.totals.received = 0;
            place.replies_unacked = 0;
        }
        self.bitmap_receive = None;
        self.wants.sender = true;
        self.wants.acks = true;
    }

    fn link_lost(&mut self, keep: bool, keep_ended: bool, now: Instant) {
        self.up = false;
        self.sending_writes = 0;
        for place in self.volumes.iter_mut() {
            place.control.clear();
        }
        self.control_len = 0;
        self.stalled.clear();
        self.bitmap_receive = None;
        self.note_unsettled();
        self.unqueue_requests(now);
        if keep {
            self.give_up_ended(keep_ended, now);
            while let Some(slot) = self.unacked.head().or(self.asked.head()) {
                self.leave_unacked(slot);
            }
        } else {
            self.for_all_logged(now, Event::ConnectionLost);
        }
        self.cancel_peers();
        for number in 0..u8::try_from(self.volumes.len()).unwrap_or(0) {
            let volume = VolumeIndex(number);
            let place = &mut self.volumes[volume.slot()];
            place.bitmap_send = BitmapSend::Idle;
            self.stop_resync(volume, now);
        }
        self.close_epoch(now);
        self.wants.submitters = true;
        self.wants.receiver = true;
        self.draining = true;
        self.check_drained();
    }

    /// In protocol A an application may be done with a write that the peer never gets, and that
    /// can not be sent again.
    fn note_unsettled(&mut self) {
        let mut at = self.log.head();
        while let Some(slot) = at {
            at = self.log.after(&self.requests, slot);
            let request = &self.requests[slot];
            if request.is_promised_by_sending() {
                self.volumes[request.volume.slot()].peer_missed = true;
            }
        }
    }

    /// What applications are done with can not be sent again. Whether it is on the peer's disk for
    /// good only the ack of its barrier would say, or, with `keep_fenced`, a disk with fencing.
    fn give_up_ended(&mut self, keep_fenced: bool, now: Instant) {
        let mut at = self.log.head();
        while let Some(slot) = at {
            at = self.log.after(&self.requests, slot);
            let request = &self.requests[slot];
            let place = &self.volumes[request.volume.slot()];
            let fences = place.has_disk() && place.view.disk.fencing != Fencing::DontCare;
            let kept = keep_fenced && fences;
            if !kept && request.completed && request.barrier == Barrier::Pending {
                self.apply(slot, Event::ConnectionLost, now);
            }
        }
    }

    /// Takes everything out of the send queue. What the socket is working on ends with `sent`.
    fn unqueue_requests(&mut self, now: Instant) {
        while let Some(slot) = self.send.pop(&mut self.requests) {
            let suspended = self.volumes[self.requests[slot].volume.slot()]
                .view
                .state
                .suspended();
            if suspended {
                // Kept for a resend: only the transport is undone.
                self.requests[slot].transport = Transport::Idle;
                let effects = self.requests[slot].effects(true);
                self.carry_out(slot, effects, now);
            } else {
                self.apply(slot, Event::SendCancelled, now);
            }
        }
    }

    /// Applies an event to every request of the transfer log.
    fn for_all_logged(&mut self, now: Instant, event: Event) {
        let mut at = self.log.head();
        while let Some(slot) = at {
            at = self.log.after(&self.requests, slot);
            self.apply(slot, event, now);
        }
    }

    fn end_frozen_of(&mut self, volume: VolumeIndex, now: Instant) {
        let mut at = self.log.head();
        while let Some(slot) = at {
            at = self.log.after(&self.requests, slot);
            if self.requests[slot].volume == volume {
                self.apply(slot, Event::ConnectionLost, now);
            }
        }
    }

    /// Work for the peer that is not with the disk or a thread of the shell ends at once; the rest
    /// when it comes back. Writes that were received go to the disk, epoch by epoch.
    fn cancel_peers(&mut self) {
        let mut at = self.all_peers.head();
        while let Some(slot) = at {
            at = self.all_peers.after(&self.peers, slot);
            self.peers[slot].cancelled = true;
        }
        while let Some(slot) = self.acks.pop(&mut self.peers) {
            if self.peers[slot].stage == Stage::Acking {
                self.retire(slot);
            }
        }
        while let Some(slot) = self.next_waiting() {
            self.retire(slot);
        }
    }

    /// Takes one request out of the lists of those that wait for something. Writes of applications
    /// stay: a receive ack may have promised that they reach the disk.
    fn next_waiting(&mut self) -> Option<u32> {
        if !put_back(Bug::PeerRequestKeptOnList) {
            if let Some(slot) = self.replies.pop(&mut self.peers) {
                return Some(slot);
            }
        }
        let lists = [
            &mut self.resync_held,
            &mut self.lock_wait,
            &mut self.read_wait,
            &mut self.to_digest,
        ];
        for list in lists {
            if let Some(slot) = list.pop(&mut self.peers) {
                return Some(slot);
            }
        }
        let mut at = self.io_ready.head();
        while let Some(slot) = at {
            if !self.peers[slot].kind.is_application_write() {
                self.io_ready.remove(&mut self.peers, slot);
                return Some(slot);
            }
            at = self.io_ready.after(&self.peers, slot);
        }
        None
    }

    /// The threads that use the sockets have ended: payloads that were being received are given
    /// up. Called by the resource when the shell says so.
    pub fn receiver_gone(&mut self, now: Instant) {
        let mut at = self.all_peers.head();
        while let Some(slot) = at {
            at = self.all_peers.after(&self.peers, slot);
            if self.peers[slot].stage == Stage::Receiving {
                self.abandon(slot);
            }
        }
        let mut at = self.log.head();
        while let Some(slot) = at {
            at = self.log.after(&self.requests, slot);
            if core::mem::replace(&mut self.requests[slot].receiving, false) {
                self.apply(slot, Event::ConnectionLost, now);
            }
        }
        self.check_drained();
    }

    /// Tells the control plane that nothing for the peer is in flight any more.
    pub(crate) fn check_drained(&mut self) {
        if self.draining && self.all_peers.is_empty() {
            self.draining = false;
            // Nobody acknowledges the barriers that have come.
            self.forget_epochs();
            self.upcall(Upcall::PeerIoDrained);
        }
    }

    /// `reference/io.md` 1.4 "resend", with Q6 and Q20 put right.
    fn resend_frozen(&mut self, now: Instant) {
        let mut at = self.log.head();
        while let Some(slot) = at {
            at = self.log.after(&self.requests, slot);
            self.resend(slot, now);
        }
    }

    fn resend(&mut self, slot: u32, now: Instant) {
        let request = &mut self.requests[slot];
        if request.remote != Remote::None && request.stamp > self.connected_at {
            // I/O has gone on meanwhile: it was sent over this connection.
            return;
        }
        request.frozen = false;
        let state = self.volumes[request.volume.slot()].view.state;
        match request.remote {
            Remote::Data if request.barrier == Barrier::Pending => {
                let acked = request.answer == Answer::Ok && request.protocol != Protocol::A;
                let sends = state.replicates();
                if sends && request.completed && acked {
                    // If the peer has lost its power since it may lack it again.
                    request.before_run = true;
                    self.apply(slot, Event::BarrierAcked, now);
                } else if sends && !request.completed {
                    // Acknowledged or not: the peer may have lost power since.
                    request.epoch = self.epoch;
                    if request.answer != Answer::Pending {
                        request.answer = Answer::Pending;
                        self.volumes[request.volume.slot()].peer_pending += 1;
                    }
                    self.epoch_writes += 1;
                    if request.transport != Transport::Sending {
                        self.queue_for_peer(slot);
                    }
                } else {
                    // Not sent again: the range counts as different.
                    self.apply(slot, Event::ConnectionLost, now);
                }
            }
            Remote::Read if request.answer == Answer::Pending => {
                if state.pdsk == DiskState::UpToDate && !request.receiving {
                    self.queue_for_peer(slot);
                } else {
                    self.apply(slot, Event::ConnectionLost, now);
                }
            }
            Remote::Data | Remote::None | Remote::OutOfSync | Remote::Read => {
                self.apply(slot, Event::Thaw, now);
            }
        }
    }

    /// The bitmap is about to be sent. What is kept from the connection before counts as different
    /// if I/O goes on before the resync begins, and the peer is not told then (seed 4000052).
    pub(crate) fn mark_kept(&mut self, volume: VolumeIndex) {
        let mut at = self.log.head();
        while let Some(slot) = at {
            at = self.log.after(&self.requests, slot);
            let request = &self.requests[slot];
            if request.volume == volume && request.barrier == Barrier::Pending {
                self.volumes[volume.slot()].set_out_of_sync(request.range());
            }
        }
    }

    fn fail_frozen(&mut self, volume: VolumeIndex, now: Instant) {
        let mut at = self.log.head();
        while let Some(slot) = at {
            at = self.log.after(&self.requests, slot);
            let request = &self.requests[slot];
            let concerned = request.volume == volume && matches!(request.local, Local::Done { .. });
            if concerned {
                self.apply(slot, Event::FailFrozen, now);
            }
        }
    }

    /// The disks are good again: what failed locally while frozen goes to them once more.
    fn restart_frozen(&mut self) {
        let mut at = self.log.head();
        while let Some(slot) = at {
            at = self.log.after(&self.requests, slot);
            let request = &self.requests[slot];
            let failed = request.local == Local::Done { ok: false };
            let usable = self.volumes[request.volume.slot()].has_disk();
            if failed && request.frozen && !request.completed && usable {
                self.restart_local(slot);
            }
        }
    }

    /// A disk is back, perhaps another one: what was written to the one before has to be written
    /// once more. Reads wait: the disk need not be a good one.
    fn restart_writes(&mut self, volume: VolumeIndex) {
        if !self.volumes[volume.slot()].has_disk() {
            return;
        }
        let mut at = self.log.head();
        while let Some(slot) = at {
            at = self.log.after(&self.requests, slot);
            let request = &self.requests[slot];
            let done = matches!(request.local, Local::Done { .. });
            let waits = request.volume == volume && !request.completed;
            if waits && done && request.op.is_write() {
                self.restart_local(slot);
            }
        }
    }

    /// Writes take their references on the activity log again: they went with the old log.
    fn restart_local(&mut self, slot: u32) {
        self.requests[slot].frozen = false;
        self.requests[slot].local = Local::InFlight;
        let wait = if self.lacks_log(slot) {
            Wait::ActivityLog
        } else {
            Wait::Ready
        };
        self.park_in(slot, wait);
    }

    fn disk_attached(&mut self, volume: VolumeIndex) {
        let Some(place) = self.volumes.get_mut(volume.slot()) else {
            return;
        };
        place.totals = super::Totals::default();
        place.cache_dirty = true;
        place.flush_failed_in = 0;
        let capacity = place.view.capacity;
        if let Some(disk) = &mut place.disk {
            disk.attached = true;
            disk.bitmap.set_capacity(capacity);
        }
        self.wake_volume(volume);
        self.wants.submitters = true;
    }

    fn disk_detached(&mut self, volume: VolumeIndex, now: Instant) {
        let Some(place) = self.volumes.get_mut(volume.slot()) else {
            return;
        };
        if let Some(disk) = &mut place.disk {
            disk.attached = false;
            disk.extents.clear();
        }
        place.session = None;
        place.al_suspended = false;
        self.skip_bitmap(volume);
        self.give_up_cache(volume);
        self.release_al_waiters(volume);
        self.forget_references(volume);
        self.refuse_waiting(volume, now);
        self.wants.submitters = true;
        self.wants.receiver = true;
        self.wants.peer_io = true;
        self.check_idle(volume);
    }

    /// The references went with the log. Whoever has some is admitted, or parked for a conflict or
    /// for its turn. What was admitted clears no bits of the next disk either: no log holds back
    /// the news of a later write to the same blocks.
    fn forget_references(&mut self, volume: VolumeIndex) {
        let mut at = self.log.head();
        while let Some(slot) = at {
            at = self.log.after(&self.requests, slot);
            let request = &mut self.requests[slot];
            if request.volume == volume {
                request.al_count = 0;
                request.before_run = true;
            }
        }
        let place = &self.volumes[volume.slot()];
        for parked in [place.conflict, place.ready] {
            let mut at = parked.head();
            while let Some(slot) = at {
                at = parked.after(&self.requests, slot);
                self.requests[slot].al_count = 0;
            }
        }
        let mut at = self.all_peers.head();
        while let Some(slot) = at {
            at = self.all_peers.after(&self.peers, slot);
            if self.peers[slot].volume == volume {
                self.peers[slot].al_count = 0;
                self.peers[slot].holds_extent = false;
                self.peers[slot].counted = false;
            }
        }
    }

    fn abort_local(&mut self, volume: VolumeIndex, now: Instant) {
        let Some(place) = self.volumes.get(volume.slot()) else {
            return;
        };
        let mut at = place.local.head();
        while let Some(slot) = at {
            at = self.volumes[volume.slot()]
                .local
                .after(&self.requests, slot);
            self.apply(slot, Event::AbortLocal, now);
        }
        self.abort_for_peer(volume, now);
    }

    fn fill_bitmap(&mut self, volume: VolumeIndex, set: bool) {
        let Some(place) = self.volumes.get_mut(volume.slot()) else {
            return;
        };
        if let Some(disk) = &mut place.disk {
            if set {
                disk.bitmap.set_all();
            } else {
                disk.bitmap.clear_all();
            }
        }
    }

    fn start_resync(&mut self, volume: VolumeIndex, side: Side, now: Instant) {
        // Before version 89 no packet carries a digest.
        let version = self.link.terms.version.number();
        let csums = self.link.csums_len != 0 && version >= 89;
        let after_crash_only = self.link.csums_after_crash_only;
        let Some(place) = self.volumes.get_mut(volume.slot()) else {
            return;
        };
        let Some(disk) = &mut place.disk else { return };
        let mut session = Session::new(
            Job::Resync,
            side,
            disk.bitmap.weight(),
            now,
            &place.view.disk,
        );
        session.checksums = csums && (!after_crash_only || place.view.crashed_primary);
        let paused = matches!(
            place.view.state.conn,
            ConnState::PausedSyncS | ConnState::PausedSyncT
        );
        session.pause(paused, now);
        place.session = Some(session);
        self.open_extents(volume);
        self.forget_sync_marks(volume);
        self.wake_volume(volume);
        self.wants.sender = true;
        self.resync_progressed(volume, now);
    }

    /// A run begins with all extents open. What the peer asked for in the one before may have got
    /// its extent since: it must not give back that of another request, and without it what is read
    /// may be older than a write that gets to the peer first. Loops over all requests for the peer.
    fn open_extents(&mut self, volume: VolumeIndex) {
        if let Some(disk) = &mut self.volumes[volume.slot()].disk {
            disk.extents.clear();
        }
        let mut at = self.all_peers.head();
        while let Some(slot) = at {
            at = self.all_peers.after(&self.peers, slot);
            if self.peers[slot].volume == volume {
                self.peers[slot].holds_extent = false;
            }
        }
    }

    /// What was written before a resync says nothing about the bits of this one: a later write to
    /// the same blocks may have been kept back since. Loops over all requests that are on their
    /// way, also for the peer.
    fn forget_sync_marks(&mut self, volume: VolumeIndex) {
        let mut at = self.all_peers.head();
        while let Some(slot) = at {
            at = self.all_peers.after(&self.peers, slot);
            let peer = &mut self.peers[slot];
            peer.may_set_in_sync &= peer.volume != volume;
        }
        let mut at = self.log.head();
        while let Some(slot) = at {
            at = self.log.after(&self.requests, slot);
            let request = &mut self.requests[slot];
            request.before_run |= request.volume == volume;
        }
    }

    fn start_verify(
        &mut self,
        volume: VolumeIndex,
        side: Side,
        first: BitIndex,
        stop: BitIndex,
        now: Instant,
    ) {
        let Some(place) = self.volumes.get_mut(volume.slot()) else {
            return;
        };
        let Some(disk) = &mut place.disk else { return };
        let bits = disk.bitmap.bits();
        // At least one request before the stop sector is honoured.
        let stop = BitIndex(stop.0.max(first.0.saturating_add(1)).min(bits));
        let total = bits.saturating_sub(first.0);
        let mut session = Session::new(Job::Verify, side, total, now, &place.view.disk);
        session.position = first;
        session.stop = stop;
        place.session = Some(session);
        self.open_extents(volume);
        self.wants.sender = true;
    }

    fn stop_resync(&mut self, volume: VolumeIndex, now: Instant) {
        let Some(place) = self.volumes.get_mut(volume.slot()) else {
            return;
        };
        place.verify_start = place.verify_reached();
        let extents = place.disk.as_mut().map(|disk| &mut disk.extents);
        let closed = extents.is_some_and(|extents| extents.clear());
        let session = place.session.take();
        if session.is_none() && !closed {
            // Nobody uses an extent: a volume that was in sync when the connection broke.
            return;
        }
        // For data, or for digests.
        let asks = |session: &Session| match session.job {
            Job::Resync => session.side == Side::Target,
            Job::Verify => session.side == Side::Source,
        };
        let mut asked = session
            .filter(asks)
            .map_or(0, |session| session.outstanding);
        // Requests for the peer that still run must not open extents of the next run.
        let mut at = self.all_peers.head();
        while let Some(slot) = at {
            at = self.all_peers.after(&self.peers, slot);
            let peer = &mut self.peers[slot];
            if peer.volume == volume {
                let leaves = peer.kind == PeerKind::ChecksumRead && peer.stage == Stage::Replying;
                asked = asked.saturating_sub(u32::from(peer.counted && !leaves));
                peer.holds_extent = false;
                peer.counted = false;
            }
        }
        let due = &mut self.volumes[volume.slot()].answers_due;
        *due = due.saturating_add(u16::try_from(asked).unwrap_or(u16::MAX));
        self.refuse_resync_data(volume, now);
        self.resync_timer = None;
        self.wake_volume(volume);
        self.wants.peer_io = true;
    }

    fn suspend_al(&mut self, volume: VolumeIndex, suspend: bool) {
        let Some(place) = self.volumes.get_mut(volume.slot()) else {
            return;
        };
        place.al_suspended = suspend;
        if suspend {
            let unused = place.disk.as_ref().is_some_and(|disk| disk.al.used() == 0);
            if let (true, Some(disk)) = (unused, &mut place.disk) {
                disk.al.clear();
            }
        }
        self.wake_volume(volume);
    }

    /// Returns the earliest time at which [`Self::on_timer`] has something to do.
    pub fn next_timeout(&self) -> Option<Instant> {
        let mut next = earliest(self.resync_timer, self.stalled.until());
        next = earliest(next, self.barrier_due);
        next = earliest(next, self.refused_until);
        if let (Some(limit), Some(since)) = (self.net_limit(), self.answer_due_since()) {
            next = earliest(next, Some(since.after(limit)));
        }
        for place in self.present_volumes() {
            next = earliest(next, place.leaves_at());
            if let (Some(limit), Some(since)) = (disk_limit(place), self.oldest_local(place)) {
                next = earliest(next, Some(since.after(limit)));
            }
        }
        next
    }

    /// Time without an answer after which the peer counts as dead (`reference/io.md` 8.1).
    fn net_limit(&self) -> Option<Duration> {
        let on = self.up && self.link.established && self.link.ko_count != 0;
        on.then(|| Duration::from_tenths(self.link.timeout_tenths).times(self.link.ko_count))
    }

    /// The peer has refused requests, and has not said why.
    fn try_refused(&mut self, now: Instant) {
        if self.refused_until.is_some_and(|at| at <= now) {
            self.refused_until = None;
            self.unheard |= self.refused;
            for volume in bits(core::mem::take(&mut self.refused)) {
                self.wake_volume(volume);
            }
            self.wants.submitters = true;
        }
    }

    fn oldest_local(&self, place: &VolumeSlot<M>) -> Option<Instant> {
        let slot = place.local.head()?;
        (self.requests[slot].local == Local::InFlight).then_some(self.requests[slot].local_since)
    }

    /// Looks at timeouts and lets a resync go on.
    pub fn on_timer(&mut self, now: Instant) {
        if self.resync_timer.is_some_and(|at| at <= now) {
            self.resync_timer = None;
            self.wants.sender = true;
        }
        if self.barrier_due.is_some_and(|at| at <= now) {
            self.hurry_barrier();
        }
        self.wants.receiver |= self.stalled.lose_patience(now);
        self.try_refused(now);
        if let (Some(limit), Some(since)) = (self.net_limit(), self.answer_due_since()) {
            if now.since(since) >= limit {
                self.upcall(Upcall::LinkFailed(LinkError::Timeout));
            }
        }
        for volume in bits(self.present) {
            self.leave_ahead(volume, now);
            let place = &self.volumes[volume.slot()];
            if let (Some(limit), Some(since)) = (disk_limit(place), self.oldest_local(place)) {
                if now.since(since) >= limit {
                    let error = LocalError::Timeout;
                    self.upcall(Upcall::LocalIoFailed { volume, error });
                }
            }
        }
    }
}

fn disk_limit<M: Memory>(place: &VolumeSlot<M>) -> Option<Duration> {
    let tenths = place.view.disk.disk_timeout_tenths;
    (tenths != 0).then(|| Duration::from_tenths(tenths))
}
