//! Application requests coming in: admission, path, order (`reference/io.md` 1.5, 2.1, 2.2).

use drbd_format::types::{ConnState, DiskState, Protocol, ReadBalancing};
use drbd_format::units::{AlExtent, SectorRange};
use drbd_format::wire::payload::DISCARD_BYTES_MAX;

use super::{AppIo, DataPlane, LocalPart, Submit};
use crate::activity_log::ActivityLog;
use crate::bitmap_exchange::BitmapSend;
use crate::chance::{chance, Unlikely};
use crate::link::{Upcall, VolumeIndex};
use crate::memory::Memory;
use crate::put_back::{put_back, Bug};
use crate::request::{
    Answer, Barrier, IoError, Local, Op, Remote, Request, RequestId, Transport, Wait,
};
use crate::time::Instant;

/// Largest read or write in bytes.
const WRITE_MAX: u32 = 1 << 20;

/// What admission decided.
pub(crate) enum Admission {
    Failed(IoError),
    Finish,
    Go(LocalPart),
}

impl<M: Memory> DataPlane<M> {
    /// Takes an application request in. Does not sleep and may be called in any context that may
    /// take the lock.
    pub fn submit(&mut self, io: &AppIo, now: Instant) -> Submit {
        let Some(range) = self.check_range(io) else {
            return Submit::Refuse(IoError::Invalid);
        };
        if !self.may_take(io.volume) {
            self.submitters_wait = true;
            return Submit::Wait;
        }
        let others = self.volumes[io.volume.slot()].app_in_flight != 0;
        let full = others && chance(Unlikely::NoRequestSlot);
        let free = (!full).then(|| self.requests.take()).flatten();
        let Some(id) = free else {
            self.submitters_wait = true;
            self.hurry_barrier();
            return Submit::Wait;
        };
        let request = &mut self.requests[id.slot];
        request.volume = io.volume;
        request.op = io.op;
        request.sector = io.sector;
        request.len_bytes = io.len_bytes;
        request.fua = io.fua;
        request.preflush = io.preflush;
        request.sync = io.sync;
        request.may_unmap = io.may_unmap;
        request.read_ahead = io.read_ahead;
        request.since = now;
        self.volumes[io.volume.slot()].app_in_flight += 1;
        if self.park(id.slot, range) {
            return Submit::Parked { id };
        }
        match self.admit(id.slot, now) {
            Admission::Go(local) => Submit::Admitted { id, local },
            Admission::Failed(error) => {
                self.forget(id);
                Submit::Refuse(error)
            }
            Admission::Finish => {
                self.forget(id);
                Submit::Finish
            }
        }
    }

    /// Returns the next parked request of the volume that may go now, and what to do locally. May
    /// also end requests through `pop_done`. Called by the volume's worker.
    pub fn next_ready(
        &mut self,
        volume: VolumeIndex,
        now: Instant,
    ) -> Option<(RequestId, LocalPart)> {
        loop {
            let slot = self.volumes.get(volume.slot())?;
            if slot.view.state.suspended() && !put_back(Bug::SuspendRacesWithSubmit) {
                return None;
            }
            if slot.view.generation_due || slot.view.state.conn == ConnState::StartingSyncT {
                return None;
            }
            if self.refused & volume.bit() != 0 || !is_compared(slot.view.state.disk) {
                // The peer may have sent its bitmap, and marks nothing (seed 57758).
                return None;
            }
            let slot = self.take_ready(volume)?;
            let id = self.requests.id_of(slot);
            self.requests[slot].wait = Wait::None;
            if self.requests[slot].admitted {
                // It goes to a disk that came back (`Order::RestartFrozen`, `RestartWrites`).
                self.start_local(slot, now);
                return Some((id, self.local_part(slot)));
            }
            if self.conflicts(slot) {
                self.park_in(slot, Wait::Conflict);
                continue;
            }
            if self.lacks_log(slot) {
                self.park_in(slot, Wait::ActivityLog);
                continue;
            }
            match self.admit(slot, now) {
                Admission::Go(local) => return Some((id, local)),
                Admission::Failed(error) => self.end_unadmitted(slot, Err(error)),
                Admission::Finish => self.end_unadmitted(slot, Ok(())),
            }
        }
    }

    /// Tells whether the write has to get into the activity log once more: it waited while there
    /// was no disk, or no need of a log, and there is now.
    pub(crate) fn lacks_log(&self, slot: u32) -> bool {
        let request = &self.requests[slot];
        let place = &self.volumes[request.volume.slot()];
        request.op.is_write()
            && request.op != Op::Flush
            && request.al_count == 0
            && !place.al_suspended
            && place.has_disk()
            && !put_back(Bug::FullActivityLogIgnored)
    }

    /// Takes the first request that waits for nothing but its turn, else the first one whose
    /// conflict is over. Looks at each waiting request once.
    fn take_ready(&mut self, volume: VolumeIndex) -> Option<u32> {
        let v = volume.slot();
        if let Some(slot) = self.volumes[v].ready.pop(&mut self.requests) {
            return Some(slot);
        }
        let mut at = self.volumes[v].conflict.head();
        while let Some(slot) = at {
            if !self.conflicts(slot) {
                self.volumes[v].conflict.remove(&mut self.requests, slot);
                return Some(slot);
            }
            at = self.volumes[v].conflict.after(&self.requests, slot);
        }
        None
    }

    fn check_range(&self, io: &AppIo) -> Option<SectorRange> {
        let slot = self.volumes.get(io.volume.slot())?;
        slot.number?;
        let range = SectorRange::from_bytes(io.sector, io.len_bytes)?;
        let max = match io.op {
            Op::Discard | Op::WriteZeroes => DISCARD_BYTES_MAX,
            Op::Flush => return (io.len_bytes == 0).then_some(range),
            Op::Read | Op::Write => WRITE_MAX,
        };
        let fits = range.end().0 <= slot.view.capacity.0 && !range.is_empty();
        (fits && io.len_bytes <= max).then_some(range)
    }

    /// `reference/io.md` 0.4 "may-take-bio".
    fn may_take(&self, volume: VolumeIndex) -> bool {
        let slot = &self.volumes[volume.slot()];
        let state = &slot.view.state;
        let stable = match state.conn {
            ConnState::StartingSyncT | ConnState::WfBitMapT | ConnState::WfSyncUuid => false,
            ConnState::WfBitMapS => self.link.terms.version.number() >= 96,
            _ => true,
        };
        !state.suspended()
            && !slot.view.io_blocked
            && !slot.view.generation_due
            && stable
            && is_compared(state.disk)
            && self.refused & volume.bit() == 0
            && slot.app_in_flight < self.link.max_buffers
            && matches!(slot.bitmap_send, BitmapSend::Idle)
    }

    /// Parks a new request if it has to wait for anything; answers `true` then.
    fn park(&mut self, slot: u32, range: SectorRange) -> bool {
        let Request { volume, op, .. } = self.requests[slot];
        if !op.is_write() || op == Op::Flush {
            return false;
        }
        let needs_log = !self.volumes[volume.slot()].al_suspended;
        let extents = ActivityLog::<M::AlExtents>::extents(range);
        if let (true, Some((first, last)), Some(disk)) = (
            needs_log,
            extents,
            self.volumes[volume.slot()].usable_disk(),
        ) {
            let single = first == last && op == Op::Write;
            let closed = disk.extents.stops_write(AlExtent(first).resync_extent().0);
            let looks = single && !closed && !chance(Unlikely::ExtentUnseen);
            let hit = looks && disk.al.try_get(first);
            self.requests[slot].al_first = first;
            if !hit {
                self.park_in(slot, Wait::ActivityLog);
                return true;
            }
            self.requests[slot].al_count = 1;
        }
        if op != Op::Write {
            self.park_in(slot, Wait::Ready);
            return true;
        }
        if self.conflicts(slot) {
            self.park_in(slot, Wait::Conflict);
            return true;
        }
        false
    }

    /// Puts a request into the list for what it waits for.
    pub(crate) fn park_in(&mut self, slot: u32, wait: Wait) {
        let volume = self.requests[slot].volume;
        self.requests[slot].wait = wait;
        let place = &mut self.volumes[volume.slot()];
        match wait {
            Wait::ActivityLog => {
                place.al_wait.push(&mut self.requests, slot);
                self.hurry_barrier();
            }
            Wait::Commit => place.al_commit.push(&mut self.requests, slot),
            Wait::Conflict => place.conflict.push(&mut self.requests, slot),
            Wait::Ready => place.ready.push(&mut self.requests, slot),
            Wait::None => {}
        }
        self.wake_volume(volume);
    }

    /// Tells whether the write overlaps one that is in flight (`reference/io.md` 1.5 S.1).
    fn conflicts(&self, slot: u32) -> bool {
        let request = &self.requests[slot];
        if !request.op.is_write() || request.op == Op::Flush {
            return false;
        }
        let place = &self.volumes[request.volume.slot()];
        let (start, end) = (request.sector.0, request.range().end().0);
        place
            .app_writes
            .find(&self.requests, start, end, |_, _| true)
            .is_some()
            || (place.has_disk()
                && place
                    .peer_writes
                    .find(&self.peers, start, end, |_, peer| {
                        if peer.kind.is_application_write() {
                            self.link.two_primaries
                        } else {
                            // Data of a resync that has ended: no extent keeps them apart.
                            !peer.holds_extent
                        }
                    })
                    .is_some())
    }

    /// Decides the way of a request and puts it on it (`reference/io.md` 1.5, step S).
    pub(crate) fn admit(&mut self, slot: u32, now: Instant) -> Admission {
        match self.requests[slot].op {
            Op::Flush => self.admit_flush(slot, now),
            Op::Read => self.admit_read(slot, now),
            Op::Discard | Op::Write | Op::WriteZeroes => self.admit_write(slot, now),
        }
    }

    fn admit_flush(&mut self, slot: u32, now: Instant) -> Admission {
        let volume = self.requests[slot].volume;
        let place = &self.volumes[volume.slot()];
        let replicates = place.view.state.replicates();
        if replicates {
            self.close_epoch(now);
            // The peer's disk shall not be later than the application's flush.
            self.hurry_barrier();
        }
        if self.volumes[volume.slot()].has_disk() {
            self.requests[slot].preflush = true;
            self.requests[slot].admitted = true;
            self.start_local(slot, now);
            return Admission::Go(self.local_part(slot));
        }
        if replicates {
            Admission::Finish
        } else {
            Admission::Failed(IoError::NoData)
        }
    }

    fn admit_read(&mut self, slot: u32, now: Instant) -> Admission {
        let range = self.requests[slot].range();
        let volume = self.requests[slot].volume;
        let place = &mut self.volumes[volume.slot()];
        let state = place.view.state;
        let local_disk = place.local_in_flight;
        let pending = place.peer_pending;
        let balancing = place.view.disk.read_balancing;
        let bits_known = place.bits_known;
        let local = match place.usable_disk() {
            Some(_) if state.disk == DiskState::UpToDate => true,
            Some(disk) if state.disk == DiskState::Inconsistent => {
                bits_known && disk.bitmap.count_range(range) == 0
            }
            Some(_) | None => false,
        };
        let remote = state.pdsk == DiskState::UpToDate;
        let go_remote = match (local, remote) {
            (true, false) => false,
            (false, true) => true,
            (false, false) => return Admission::Failed(IoError::NoData),
            (true, true) => match balancing {
                _ if chance(Unlikely::ReadElsewhere) => true,
                ReadBalancing::PreferLocal | ReadBalancing::WhenCongestedRemote => false,
                ReadBalancing::PreferRemote => true,
                ReadBalancing::RoundRobin => {
                    place.read_toggle = !place.read_toggle;
                    place.read_toggle
                }
                ReadBalancing::LeastPending => local_disk > pending,
                _ => match stripe_shift(balancing) {
                    Some(shift) => range.start().0 >> (shift - 9) & 1 == 1,
                    None => false,
                },
            },
        };
        self.requests[slot].admitted = true;
        self.requests[slot].epoch = self.epoch;
        self.log.push(&mut self.requests, slot);
        if !go_remote {
            self.start_local(slot, now);
            return Admission::Go(self.local_part(slot));
        }
        self.requests[slot].remote = Remote::Read;
        self.expect_answer(slot);
        self.queue_for_peer(slot);
        Admission::Go(LocalPart::None)
    }

    fn admit_write(&mut self, slot: u32, now: Instant) -> Admission {
        let volume = self.requests[slot].volume;
        self.check_congestion(volume);
        let range = self.requests[slot].range();
        let place = &mut self.volumes[volume.slot()];
        let state = place.view.state;
        let local = place.has_disk();
        if local && !state.may_write() {
            return Admission::Failed(IoError::NoData);
        }
        place.answers_stale |= place.answers_due != 0;
        let forgets = state.conn == ConnState::WfBitMapS && put_back(Bug::WriteWhileBitmapsTravel);
        let newly = if state.sends_out_of_sync() && !forgets {
            place.set_out_of_sync(range)
        } else {
            0
        };
        if !local && !state.replicates() {
            return Admission::Failed(IoError::NoData);
        }
        let request = &mut self.requests[slot];
        request.admitted = true;
        request.epoch = self.epoch;
        request.protocol = self.link.protocol;
        let agreed = self.link.terms.version.number();
        if state.disk != DiskState::UpToDate && agreed >= 100 {
            // No good disk is here: that it was sent, or received, means nothing.
            request.protocol = Protocol::C;
        }
        self.epoch_writes += 1;
        self.log.push(&mut self.requests, slot);
        // Also if it stays here: a later write to these blocks may be replicated, and then both
        // disks must have that one.
        let (start, end) = (range.start().0, range.end().0);
        let writes = &mut self.volumes[volume.slot()].app_writes;
        writes.insert(&mut self.requests, slot, start, end);
        if state.replicates() {
            let request = &mut self.requests[slot];
            request.remote = Remote::Data;
            request.barrier = Barrier::Pending;
            self.expect_answer(slot);
            self.queue_for_peer(slot);
            if self.epoch_writes >= self.link.max_epoch_size || chance(Unlikely::EpochEnds) {
                self.close_epoch(now);
            }
        } else {
            self.volumes[volume.slot()].kept_back = Some(self.epoch);
            // The target may have cleared bits that are still set here: what it wrote for the run
            // that has ended is not known.
            let unknown = newly != 0 || state.conn == ConnState::Ahead;
            if unknown && self.up && !put_back(Bug::WriteDuringShortResync) {
                self.requests[slot].remote = Remote::OutOfSync;
                self.queue_for_peer(slot);
            }
        }
        if !local {
            self.volumes[volume.slot()].missed_writes = true;
            return Admission::Go(LocalPart::None);
        }
        self.start_local(slot, now);
        Admission::Go(self.local_part(slot))
    }

    /// `reference/io.md` 8.4.
    fn check_congestion(&mut self, volume: VolumeIndex) {
        let Some(limits) = self.link.congestion else {
            return;
        };
        let place = &mut self.volumes[volume.slot()];
        let state = place.view.state;
        let watched = self.link.protocol == Protocol::A
            && self.link.terms.version.number() >= 96
            && state.disk == DiskState::UpToDate
            && state.conn >= ConnState::Connected
            && state.replicates();
        if !watched || place.congested {
            return;
        }
        let fill = u64::from(limits.fill_sectors);
        let used = place.disk.as_ref().map_or(0, |disk| disk.al.used());
        if (fill != 0 && place.in_flight_sectors >= fill) || used >= limits.extents {
            place.congested = true;
            self.upcall(Upcall::Congested(volume));
        }
    }

    fn expect_answer(&mut self, slot: u32) {
        let request = &mut self.requests[slot];
        request.answer = Answer::Pending;
        self.volumes[request.volume.slot()].peer_pending += 1;
    }

    /// Puts the packet of a request at the end of the order of the data socket.
    pub(crate) fn queue_for_peer(&mut self, slot: u32) {
        let stamp = self.next_stamp();
        let request = &mut self.requests[slot];
        request.transport = Transport::Queued;
        request.before_run = false;
        request.stamp = stamp;
        self.send.push(&mut self.requests, slot);
        self.wants.sender = true;
    }

    /// The request goes to the local disk now.
    pub(crate) fn start_local(&mut self, slot: u32, now: Instant) {
        let request = &mut self.requests[slot];
        request.local = Local::InFlight;
        request.local_since = now;
        let sectors = request.sectors().0;
        let untracked = request.op.is_write() && request.op != Op::Flush && request.al_count == 0;
        let newly_untracked = untracked && !request.untracked;
        request.untracked |= untracked;
        let place = &mut self.volumes[request.volume.slot()];
        place.local_in_flight += 1;
        place.untracked_writes += u32::from(newly_untracked);
        if let Some(session) = &mut place.session {
            session.rate.application(sectors, now);
        }
        place.local.push(&mut self.requests, slot);
    }

    pub(crate) fn local_part(&self, slot: u32) -> LocalPart {
        let request = &self.requests[slot];
        match request.op {
            Op::Discard => LocalPart::Discard {
                zero_out: false,
                may_unmap: true,
            },
            Op::WriteZeroes => LocalPart::Discard {
                zero_out: true,
                may_unmap: request.may_unmap,
            },
            Op::Flush | Op::Read | Op::Write => LocalPart::Clone {
                fua: request.fua,
                preflush: request.preflush,
            },
        }
    }

    /// Gives the slot of a request back that was never admitted and whose upper request the
    /// caller ends.
    fn forget(&mut self, id: RequestId) {
        let volume = self.requests[id.slot].volume;
        self.release_extents(id.slot);
        self.requests.give_back(id);
        self.volumes[volume.slot()].app_in_flight -= 1;
        self.wants.submitters = true;
        self.check_idle(volume);
    }
}

/// The own disk is not on its way in: it is known what it is worth, or that there is none.
fn is_compared(disk: DiskState) -> bool {
    !matches!(
        disk,
        DiskState::Attaching | DiskState::Negotiating | DiskState::DUnknown
    )
}

/// Returns the size of a stripe as a power of two.
fn stripe_shift(balancing: ReadBalancing) -> Option<u32> {
    match balancing.to_wire() {
        number @ 5..=10 => Some(number + 10),
        _ => None,
    }
}
