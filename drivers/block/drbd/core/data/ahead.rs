//! The way out of Ahead (`reference/io.md` 8.4): wait until nothing is on its way to the peer, name
//! it all that is marked here, and begin to sync. And what the peer, which was Behind, has to know
//! about the run before.
//!
//! No bitmaps are exchanged before that resync, and its target asks for what is marked on its own
//! disk. What only the source marks (the target has written a block for the run before, and the
//! source does not know, or a write has failed late) would never be asked for.

use drbd_format::types::ConnState;
use drbd_format::units::{BitIndex, SectorRange};
use drbd_format::wire::features::{FeatureFlags, Terms};
use drbd_format::wire::packet::Packet;
use drbd_format::wire::payload::BlockRange;

use super::{bits, DataPlane, Outgoing, Payload, SentToken, VolumeSlot};
use crate::bitmap::block_range;
use crate::link::{Side, Upcall, VolumeIndex};
use crate::memory::Memory;
use crate::peer_request::Ack;
use crate::request::Remote;
use crate::resync::extents::{Begin, ASK_LIMIT};
use crate::time::{Duration, Instant};

/// How long nothing has been in flight when the resync begins.
const LEAVE_AFTER: Duration = Duration::from_secs(1);
/// How long a run waits for what was asked in the run before; then the connection ends.
const ANSWERED_AFTER: Duration = Duration::from_secs(45);
/// When to look again while something is still on its way.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How far a volume in state Ahead is on its way out of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Leave {
    /// Writes are in flight; or the volume is not Ahead.
    No,
    /// Nothing was in flight. Look then.
    At(Instant),
    /// The peer is being told what is marked, up to this bit.
    Telling(BitIndex),
    /// The resync can begin. If it has not by then the control plane had something else to do.
    Told(Instant),
}

/// Which [`Leave`] it is: a volume has no room for a tag and its padding.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    No,
    At,
    Telling,
    Told,
}

impl<M: Memory> VolumeSlot<M> {
    fn leave(&self) -> Leave {
        let at = self.leave_at;
        match self.leave_step {
            Step::No => Leave::No,
            Step::At => Leave::At(Instant(at)),
            Step::Telling => Leave::Telling(BitIndex(at)),
            Step::Told => Leave::Told(Instant(at)),
        }
    }

    pub(crate) fn set_leave(&mut self, leave: Leave) {
        (self.leave_step, self.leave_at) = match leave {
            Leave::No => (Step::No, 0),
            Leave::At(at) => (Step::At, at.0),
            Leave::Telling(bit) => (Step::Telling, bit.0),
            Leave::Told(at) => (Step::Told, at.0),
        };
    }

    /// The state has changed: what becomes of the answers that are due.
    pub(crate) fn age_answers(&mut self) {
        use ConnState::{Behind, Connected, PausedSyncT, SyncTarget};
        let conn = self.view.state.conn;
        if conn < Connected {
            self.forget_answers();
        } else if !matches!(conn, SyncTarget | PausedSyncT | Behind) {
            // Whatever comes is about the data of a run that has ended.
            self.answers_stale |= self.answers_due != 0;
        }
    }

    /// What was asked in the run before is not waited for any more.
    pub(crate) fn forget_answers(&mut self) {
        (self.answers_due, self.answers_stale) = (0, false);
    }

    /// Until when a run of this volume asks for nothing: answers to what was asked in the run
    /// before may still come, and look like those to come. A disk that hangs never gives them.
    pub(crate) fn waits_for_answers(&self) -> Option<Instant> {
        let session = self.session.as_ref().filter(|_| self.answers_due != 0)?;
        Some(session.started.after(ANSWERED_AFTER))
    }

    /// When [`DataPlane::leave_ahead`] has something to do.
    pub(crate) fn leaves_at(&self) -> Option<Instant> {
        match self.leave() {
            Leave::At(at) | Leave::Told(at) => Some(at),
            Leave::No | Leave::Telling(_) => None,
        }
    }
}

/// Blocks that one packet may name: the C driver ignores one that names more than its version could
/// write or discard at once.
fn blocks_max(terms: &Terms) -> u64 {
    let most = if terms.features.contains(FeatureFlags::TRIM) {
        terms.discard_bytes_max()
    } else {
        terms.version.request_bytes_max()
    };
    u64::from(most >> 12)
}

impl<M: Memory> DataPlane<M> {
    /// Resync reads that wait for their extent are not answered with data any more
    /// (`reference/io.md` 6.5). Loops over those of all volumes.
    pub(crate) fn cancel_waiting_reads(&mut self, volume: VolumeIndex) {
        let mut at = self.lock_wait.head();
        while let Some(slot) = at {
            at = self.lock_wait.after(&self.peers, slot);
            let peer = &self.peers[slot];
            if peer.volume == volume && peer.kind.is_for_a_run() {
                self.lock_wait.remove(&mut self.peers, slot);
                self.queue_ack(slot, Ack::ResyncCancel);
            }
        }
    }

    /// An answer has come. Tells whether it may be to what was asked in the run before. One without
    /// data is about the data of that run then, and must not be taken for news of this one.
    pub(crate) fn answers_run_before(&mut self, volume: VolumeIndex, now: Instant) -> bool {
        let due = &mut self.volumes[volume.slot()].answers_due;
        if *due == 0 {
            return false;
        }
        *due -= 1;
        if *due == 0 {
            self.volumes[volume.slot()].forget_answers();
            self.wants.sender = true;
            self.resync_progressed(volume, now);
        }
        true
    }

    /// Resync data are here, which [`Self::takes_resync`] allows (`taken`) or not. Those that were
    /// asked for in the run before have been read in this one, and are taken as if they had been
    /// asked for now; unless applications have written here since, whom no extent has kept off.
    pub(crate) fn expects_resync(
        &mut self,
        volume: VolumeIndex,
        range: SectorRange,
        taken: bool,
        now: Instant,
    ) -> bool {
        if self.volumes[volume.slot()].answers_due == 0 {
            return taken;
        }
        let extent = range.start().resync_extent().0;
        let taken = taken && !self.volumes[volume.slot()].answers_stale;
        let locked = taken && self.begin_extent(volume, extent, ASK_LIMIT) == Begin::Locked;
        let session = self.volumes[volume.slot()].session.as_mut();
        if let Some(session) = session.filter(|_| locked) {
            session.asked(range.len());
        }
        let _ = self.answers_run_before(volume, now);
        locked
    }

    /// Tells whether resync data for the range are expected: it lies in an extent that we locked,
    /// or is going to be. `None`: once the run has begun that they are for.
    pub(crate) fn takes_resync(&self, volume: VolumeIndex, range: SectorRange) -> Option<bool> {
        let place = &self.volumes[volume.slot()];
        let late = place.answers_due != 0;
        let begins = late && place.session.is_none() && place.view.target.begins();
        if begins || (place.session.is_some() && place.is_good_target()) {
            return None;
        }
        let asks = place
            .session
            .as_ref()
            .is_some_and(|session| session.side == Side::Target);
        let locked = place
            .disk
            .as_ref()
            .is_some_and(|disk| disk.extents.is_locked(range.start().resync_extent().0));
        Some(place.has_disk() && asks && (locked || late) && !range.is_empty())
    }

    /// The acks of a barrier may have left nothing in flight. Loops over the volumes.
    pub(crate) fn check_uncongested(&mut self, now: Instant) {
        for volume in bits(self.present) {
            let place = &mut self.volumes[volume.slot()];
            let ahead = place.view.state.conn == ConnState::Ahead;
            if ahead && place.in_flight_sectors == 0 && place.leave() == Leave::No {
                place.set_leave(Leave::At(now.after(LEAVE_AFTER)));
            }
        }
    }

    /// Time has passed.
    pub(crate) fn leave_ahead(&mut self, volume: VolumeIndex, now: Instant) {
        let place = &self.volumes[volume.slot()];
        match place.leave() {
            Leave::At(at) if at <= now => {
                let leave = if self.is_under_way(volume) {
                    Leave::At(now.after(LOOK_AGAIN))
                } else {
                    self.wants.sender = true;
                    Leave::Telling(BitIndex(0))
                };
                self.volumes[volume.slot()].set_leave(leave);
            }
            Leave::Told(at) if at <= now => self.all_told(volume, now),
            Leave::No | Leave::At(_) | Leave::Telling(_) | Leave::Told(_) => {}
        }
    }

    /// The fate of writes or of resync data is not known yet. The own disk is waited for, too: a
    /// write that fails there alone is marked then, and nobody would tell the peer. Loops over the
    /// transfer log.
    fn is_under_way(&self, volume: VolumeIndex) -> bool {
        let place = &self.volumes[volume.slot()];
        place.in_flight_sectors != 0
            || place.unanswered != 0
            || place.replies_unacked != 0
            || self.has_request(volume, |request| request.remote == Remote::Data)
    }

    fn all_told(&mut self, volume: VolumeIndex, now: Instant) {
        self.volumes[volume.slot()].set_leave(Leave::Told(now.after(LEAVE_AFTER)));
        self.upcall(Upcall::Uncongested(volume));
    }

    /// The next packet that tells the peer what is marked here. Their order among those of other
    /// volumes does not matter, and what is set behind the position meanwhile goes out by itself.
    pub(crate) fn next_mark(&mut self, buf: &mut [u8], now: Instant) -> Option<Outgoing> {
        for volume in bits(self.present) {
            let place = &self.volumes[volume.slot()];
            let (Leave::Telling(position), Some(disk)) = (place.leave(), &place.disk) else {
                continue;
            };
            let Some(first) = disk.bitmap.find_next(position) else {
                self.all_told(volume, now);
                continue;
            };
            let most = first.0.saturating_add(blocks_max(&self.terms));
            let end = disk.bitmap.find_next_clear(first).0.min(most);
            let range = block_range(first.0, end, disk.bitmap.capacity());
            let number = place.number?.0;
            self.volumes[volume.slot()].set_leave(Leave::Telling(BitIndex(end)));
            let packet = Packet::OutOfSync(BlockRange {
                sector: range.start(),
                len_bytes: u32::try_from(range.len().0 << 9).ok()?,
            });
            return Some(Outgoing {
                len: packet.encode(&self.terms, number, buf).ok()?,
                payload: Payload::None,
                digest: false,
                algorithm: None,
                copy: false,
                token: SentToken::Nothing,
            });
        }
        None
    }
}
