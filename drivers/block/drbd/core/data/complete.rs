//! What happens to admitted requests: events, completion, destruction (`reference/io.md` 1.4 to
//! 1.7).

use drbd_format::types::{ConnState, DiskState, OnIoError, Role};

use super::{DataPlane, Done, DoneKind, VolumeSlot};
use crate::link::{LocalError, Upcall, VolumeIndex};
use crate::memory::Memory;
use crate::put_back::{put_back, Bug};
use crate::request::{
    Answer, Barrier, Completion, Effects, Event, IoError, Local, Op, Remote, RequestId,
};
use crate::time::Instant;

impl<M: Memory> VolumeSlot<M> {
    /// A Primary that loses its disk now has no good data left, and suspends I/O for that.
    fn is_last_good_disk(&self) -> bool {
        let state = &self.view.state;
        self.view.suspends_without_data
            && !state.suspended()
            && state.role == Role::Primary
            && state.disk == DiskState::UpToDate
            && state.pdsk != DiskState::UpToDate
    }

    /// As a Primary this node has no good disk, and suspends I/O when the peer's is none either.
    pub(super) fn is_last_good_disk_theirs(&self) -> bool {
        let state = &self.view.state;
        self.view.suspends_without_data
            && state.role == Role::Primary
            && state.disk < DiskState::UpToDate
    }
}

impl<M: Memory> DataPlane<M> {
    /// The local part of a request has ended. May be called in interrupt context. Stale ids are
    /// ignored.
    pub fn local_done(&mut self, id: RequestId, ok: bool, now: Instant) {
        if self.requests.get(id).is_none() {
            return;
        }
        let request = &self.requests[id.slot];
        if !matches!(request.local, Local::InFlight | Local::Aborted) {
            return;
        }
        let (volume, op, range) = (request.volume, request.op, request.range());
        let (aborted, read_ahead) = (request.local == Local::Aborted, request.read_ahead);
        let place = &mut self.volumes[volume.slot()];
        place.local.remove(&mut self.requests, id.slot);
        place.local_in_flight -= 1;
        let mut ok = ok;
        let last = !ok && !aborted && place.is_last_good_disk();
        if ok {
            match op {
                Op::Read => place.totals.read += range.len().0,
                Op::Discard | Op::Write | Op::WriteZeroes => {
                    place.totals.written += range.len().0;
                }
                Op::Flush => {}
            }
        } else if !aborted {
            match op {
                Op::Read if put_back(Bug::LocalReadErrorForgotten) => return,
                Op::Read if !read_ahead => {
                    // A disk that is passed on and whose data the peer is being given stays good:
                    // it would be asked again, and again, and what it can not read is not to be
                    // had from the peer.
                    let state = place.view.state;
                    let only_here = state.conn > ConnState::Connected
                        && state.disk == DiskState::UpToDate
                        && state.pdsk != DiskState::UpToDate;
                    let stays = only_here && place.view.disk.on_io_error == OnIoError::PassOn;
                    self.requests[id.slot].read_ahead = stays;
                    if !stays {
                        place.set_out_of_sync(range);
                    }
                    self.upcall(Upcall::LocalIoFailed {
                        volume,
                        error: LocalError::Read,
                    });
                }
                Op::Write | Op::WriteZeroes | Op::Flush => {
                    // With the disk all good data goes, and I/O is suspended: this request waits
                    // with those that come after it.
                    let request = &mut self.requests[id.slot];
                    request.retry |= last && request.answer != Answer::Pending;
                    // A flush that failed counts as done if the disk is given up for it while the
                    // peer has the data (`reference/io.md` Q19).
                    let state = &place.view.state;
                    let detaches = place.view.disk.on_io_error != OnIoError::PassOn;
                    ok = op == Op::Flush && detaches && state.pdsk == DiskState::UpToDate;
                    if !detaches {
                        // The request may end long before its barrier is acknowledged: nobody
                        // reads here what the peer has.
                        place.set_out_of_sync(range);
                    }
                    self.upcall(Upcall::LocalIoFailed {
                        volume,
                        error: LocalError::Write,
                    });
                }
                Op::Discard | Op::Read => {}
            }
        }
        self.apply(id.slot, Event::LocalDone { ok }, now);
        self.check_idle(volume);
    }

    /// Takes note of one ended request. Call it until it answers `None`.
    pub fn pop_done(&mut self) -> Option<Done> {
        let slot = self.done.head()?;
        let id = self.requests.id_of(slot);
        let request = &mut self.requests[slot];
        let error = request.error;
        if let Some(completion) = request.end_due.take() {
            if !request.free_due {
                self.done.remove(&mut self.requests, slot);
            }
            let what = match completion {
                Completion::Failed => DoneKind::EndBio(Err(error)),
                Completion::Ok => DoneKind::EndBio(Ok(())),
                Completion::Reissue => DoneKind::Reissue,
            };
            return Some(Done { id, what });
        }
        self.done.remove(&mut self.requests, slot);
        self.requests.give_back(id);
        self.wants.submitters = true;
        Some(Done {
            id,
            what: DoneKind::Free,
        })
    }

    /// Applies an event to an admitted request and carries out what follows.
    pub(crate) fn apply(&mut self, slot: u32, event: Event, now: Instant) {
        let request = &mut self.requests[slot];
        let place = &mut self.volumes[request.volume.slot()];
        let state = &place.view.state;
        let suspended = state.suspended();
        request.note_disks(state.disk, state.pdsk);
        let was_pending = request.answer == Answer::Pending;
        let was_replicated = request.barrier == Barrier::Pending;
        let effects = request.apply(event, suspended);
        if was_pending && request.answer != Answer::Pending {
            place.peer_pending -= 1;
        }
        let ends = was_replicated && request.barrier != Barrier::Pending;
        let answered = was_pending && request.answer != Answer::Pending;
        let leaves = ends || (answered && request.remote == Remote::Read);
        if answered {
            self.pass_answered(slot);
        }
        if leaves {
            self.leave_unacked(slot);
        }
        self.carry_out(slot, effects, now);
    }

    /// The write is not waiting for a barrier ack any more, the read not for its data.
    pub(crate) fn leave_unacked(&mut self, slot: u32) {
        if !self.unacked.contains(&self.requests, slot) {
            return;
        }
        if self.requests[slot].remote == Remote::Read {
            self.asked.remove(&mut self.requests, slot);
            return;
        }
        self.pass_answered(slot);
        self.unacked.remove(&mut self.requests, slot);
        let request = &self.requests[slot];
        let place = &mut self.volumes[request.volume.slot()];
        place.in_flight_sectors = place.in_flight_sectors.saturating_sub(request.sectors().0);
    }

    /// A write waits for no answer any more: if it was the first one that did, the next one is.
    /// Passes over each write once.
    fn pass_answered(&mut self, slot: u32) {
        if self.unanswered != Some(slot) {
            return;
        }
        let mut next = self.unacked.after(&self.requests, slot);
        while let Some(at) = next.filter(|&at| self.requests[at].answer != Answer::Pending) {
            next = self.unacked.after(&self.requests, at);
        }
        self.unanswered = next;
    }

    pub(crate) fn carry_out(&mut self, slot: u32, effects: Effects, now: Instant) {
        if let Some(completion) = effects.complete {
            self.end_upper(slot, completion, now);
        }
        if effects.destroy {
            self.destroy(slot, now);
        }
    }

    /// The upper request ends, or goes back to be submitted again.
    fn end_upper(&mut self, slot: u32, completion: Completion, now: Instant) {
        let request = &mut self.requests[slot];
        let volume = request.volume;
        request.end_due = Some(completion);
        if request.remote == Remote::None && request.local == Local::None {
            request.error = IoError::NoData;
        }
        // Before the upper layer can learn of it: later writes may depend on this one
        // (`reference/io.md` 3.1).
        let closes =
            request.op.is_write() && request.op != Op::Flush && request.epoch == self.epoch;
        if closes {
            self.close_epoch(now);
        }
        let request = &self.requests[slot];
        let written = request.op.is_write() && request.op != Op::Flush;
        let missed = completion == Completion::Ok && request.local != Local::Done { ok: true };
        let lacks = request.is_only_with_peer();
        let place = &mut self.volumes[volume.slot()];
        place.missed_writes |= written && missed;
        place.failed_writes |= written && completion != Completion::Ok;
        place.lacks_ended |= lacks;
        place.app_in_flight -= 1;
        place.app_writes.remove(&mut self.requests, slot);
        if !place.conflict.is_empty() && !put_back(Bug::ConflictRestartForgotten) {
            self.wake_volume(volume);
        }
        // A write of the peer may have waited for this one (two primaries).
        self.wants.peer_io |= !self.held.is_empty();
        self.done.push(&mut self.requests, slot);
        self.wants.done = true;
        self.wants.submitters = true;
        self.check_idle(volume);
    }

    /// Ends a request that was parked and never admitted.
    pub(crate) fn end_unadmitted(&mut self, slot: u32, result: Result<(), IoError>) {
        let request = &mut self.requests[slot];
        let volume = request.volume;
        request.completed = true;
        match result {
            Ok(()) => request.end_due = Some(Completion::Ok),
            Err(error) => {
                request.end_due = Some(Completion::Failed);
                request.error = error;
            }
        }
        request.free_due = true;
        self.release_extents(slot);
        self.volumes[volume.slot()].app_in_flight -= 1;
        self.done.push(&mut self.requests, slot);
        self.wants.done = true;
        self.wants.submitters = true;
        self.check_idle(volume);
    }

    /// Nothing will happen to the request any more.
    fn destroy(&mut self, slot: u32, now: Instant) {
        self.log.remove(&mut self.requests, slot);
        self.leave_unacked(slot);
        let request = &mut self.requests[slot];
        let volume = request.volume;
        let range = request.range();
        let touched = request.local != Local::None || request.remote != Remote::None;
        let marks = request.op.is_write() && touched && !range.is_empty();
        let everywhere = request.is_everywhere();
        let lacks = request.is_only_with_peer();
        let in_sync = request.in_sync && !request.before_run;
        let (remote, epoch) = (request.remote, request.epoch);
        let failed = request.local == Local::Done { ok: false };
        let only_theirs = failed && request.answer == Answer::Ok;
        let untracked = core::mem::replace(&mut request.untracked, false);
        request.free_due = true;
        let given_up = marks && request.answer == Answer::Failed;
        let place = &mut self.volumes[volume.slot()];
        place.lacks_ended |= lacks;
        // Nothing can be marked.
        place.failed_writes |= given_up && place.view.state.disk < DiskState::Inconsistent;
        place.app_writes.remove(&mut self.requests, slot);
        if untracked {
            place.untracked_writes = place.untracked_writes.saturating_sub(1);
            self.wake_extent_waiters(volume);
        }
        let place = &mut self.volumes[volume.slot()];
        let forgets = remote == Remote::None
            && place.view.state.conn > ConnState::Connected
            && put_back(Bug::WriteWhileBitmapsTravel);
        if marks && !everywhere && !forgets {
            place.set_out_of_sync(range);
            if let (true, Some(disk), Some(session)) =
                (only_theirs, &place.disk, &mut place.session)
            {
                let bits = disk.bitmap.count_range(range);
                let bits = u32::try_from(bits).unwrap_or(u32::MAX);
                session.only_theirs = session.only_theirs.saturating_add(bits);
            }
        } else if marks && in_sync && !place.keeps_back_later_than(epoch) {
            place.written_everywhere(range, now);
            self.resync_progressed(volume, now);
        }
        self.release_extents(slot);
        self.done.push(&mut self.requests, slot);
        self.wants.done = true;
        self.check_idle(volume);
    }

    /// Drops the references on extents of the activity log.
    pub(crate) fn release_extents(&mut self, slot: u32) {
        let request = &mut self.requests[slot];
        let count = core::mem::replace(&mut request.al_count, 0);
        if count == 0 {
            return;
        }
        let (volume, first) = (request.volume, request.al_first);
        self.release_al(volume, first, count);
    }

    /// Drops references on extents and wakes whoever waited for unused ones.
    pub(crate) fn release_al(&mut self, volume: VolumeIndex, first: u32, count: u32) {
        let place = &mut self.volumes[volume.slot()];
        let Some(disk) = &mut place.disk else { return };
        if !disk.al.release(first, count) {
            return;
        }
        let waiting = !place.al_wait.is_empty() || !place.peer_al.is_empty();
        if waiting {
            self.wake_volume(volume);
        }
        self.wake_extent_waiters(volume);
    }

    /// Lets whoever waits for a resync extent try again.
    pub(crate) fn wake_extent_waiters(&mut self, volume: VolumeIndex) {
        if !self.lock_wait.is_empty() {
            self.wants.peer_io = true;
        }
        if self.volumes[volume.slot()].session.is_some() {
            self.wants.sender = true;
        }
    }
}
