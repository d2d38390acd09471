//! The data plane: application I/O, work for the peer, bitmap, activity log and resync of all
//! volumes of a resource.
//!
//! Everything happens under the resource's lock. Inputs change slots and lists; the executors of
//! the shell pull their work (`next_packet`, `next_acks`, `next_peer_io`, `next_ready`, `al_next`,
//! `pop_done`). What concerns the control plane leaves as [`Upcall`]; what it decides comes in as
//! [`View`], [`LinkView`] and [`Order`].

use drbd_format::types::{ConnState, DiskState, WriteOrdering};
use drbd_format::units::{BitIndex, SectorRange};
use drbd_format::wire::features::Terms;

use crate::activity_log::ActivityLog;
use crate::bitmap::Bitmap;
use crate::bitmap_exchange::{BitmapReceive, BitmapSend, SendCursor};
use crate::chance::{chance, Unlikely};
use crate::epoch::Epochs;
use crate::link::{ControlItem, LinkView, Side, Upcall, View, VolumeIndex, VolumeNumber};
use crate::memory::interval::Tree;
use crate::memory::queue::Queue;
use crate::memory::slab::{List, Slab};
use crate::memory::Memory;
use crate::peer_request as peer;
use crate::quirk::{quirk, Quirk};
use crate::request as app;
use crate::resync::extents::ResyncExtents;
use crate::resync::session::{Job, Session};
use crate::time::{Duration, Instant};
use crate::unstable::Unstable;

mod acks;
mod activity;
mod ahead;
mod complete;
mod conflict;
mod facts;
mod meta_in;
mod orders;
mod peer_done;
mod peer_io;
mod receive;
mod resync;
mod submit;
pub mod types;

pub use crate::link::VOLUMES_MAX;
pub use meta_in::is_ack_command;
pub use receive::is_data_command;
pub use types::*;

/// Packets of the control plane that may wait on the data socket, for each volume; those of the
/// connection are with volume 0.
const CONTROL_MAX: usize = 24;
/// How long the barrier of an epoch may wait for a write that it can go with. The timer of the
/// shell makes a tick or two of it.
const BARRIER_DELAY: Duration = Duration::from_millis(1);
/// Upcalls that may wait; equal ones are merged.
const UPCALLS_MAX: usize = 32;

/// Memory lent to one volume when its disk is attached.
pub struct DiskMemory<M: Memory> {
    /// Words of the bitmap, with room for the largest size of the device.
    pub bitmap: M::Bitmap,
    /// Pages of the bitmap.
    pub pages: M::BitmapPages,
    /// Slots of the activity log, `al-extents` of them.
    pub al_extents: M::AlExtents,
    /// Slots for extents locked by resync.
    pub resync_extents: M::ResyncExtents,
    /// Where the activity log lies.
    pub al_place: AlPlace,
    /// The data device has a volatile write cache.
    pub volatile_cache: bool,
}

/// The disk of one volume.
pub(crate) struct Disk<M: Memory> {
    pub(crate) bitmap: Bitmap<M::Bitmap, M::BitmapPages>,
    pub(crate) al: ActivityLog<M::AlExtents>,
    pub(crate) extents: ResyncExtents<M::ResyncExtents>,
    pub(crate) al_place: AlPlace,
    pub(crate) volatile_cache: bool,
    /// The control plane has declared the disk attached.
    pub(crate) attached: bool,
    /// Transactions still to be written to fill the ring.
    pub(crate) ring_left: u32,
}

/// Counters of one volume that only grow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) written: u64,
    pub(crate) read: u64,
    pub(crate) al_writes: u64,
    pub(crate) bm_writes: u64,
}

/// One volume of the resource; also an empty place for one.
pub struct VolumeSlot<M: Memory> {
    pub(crate) number: Option<VolumeNumber>,
    pub(crate) view: View,
    pub(crate) disk: Option<Disk<M>>,
    pub(crate) tr_number: u32,
    pub(crate) al_suspended: bool,
    /// Replicated writes of applications that are not completed.
    pub(crate) app_writes: Tree,
    /// Unfinished writes for the peer, and reads of a verify that they must not overtake.
    pub(crate) peer_writes: Tree,
    /// How many of them are writes of its applications.
    pub(crate) peer_app_writes: u32,
    pub(crate) al_wait: List<{ app::LIST_WAIT }>,
    pub(crate) al_commit: List<{ app::LIST_WAIT }>,
    pub(crate) conflict: List<{ app::LIST_WAIT }>,
    pub(crate) ready: List<{ app::LIST_WAIT }>,
    pub(crate) local: List<{ app::LIST_LOCAL }>,
    pub(crate) peer_al: List<{ peer::LIST_WORK }>,
    pub(crate) peer_commit: List<{ peer::LIST_WORK }>,
    pub(crate) session: Option<Session>,
    pub(crate) verify_start: u64,
    pub(crate) bitmap_send: BitmapSend,
    /// Control packets and bitmaps that wait on the data socket.
    pub(crate) control: Queue<(u64, QueuedItem), CONTROL_MAX>,
    /// Sequence number of the last data or ack packet sent.
    pub(crate) seq: u32,
    /// Highest sequence number of the peer that has been dealt with.
    pub(crate) peer_seq: u32,
    pub(crate) totals: Totals,
    pub(crate) app_in_flight: u32,
    pub(crate) local_in_flight: u32,
    pub(crate) peer_pending: u32,
    pub(crate) unanswered: u32,
    /// Sectors sent and not covered by a barrier ack.
    pub(crate) in_flight_sectors: u64,
    /// Applications have written to the peer alone since the own disk was UpToDate.
    missed_writes: bool,
    /// Some of them have ended.
    lacks_ended: bool,
    /// Some have ended in vain since then.
    failed_writes: bool,
    /// Writes of the peer's applications have failed here since the own disk became UpToDate.
    refused_writes: bool,
    /// Writes have come in over this connection, for this disk, while the peer had none.
    pub(crate) took_writes: bool,
    /// The bitmap names all blocks that an Inconsistent disk lacks: it was synced with it.
    pub(crate) bits_known: bool,
    /// Ended writes of which the peer may lack some, since its disk was UpToDate.
    pub(crate) peer_missed: bool,
    /// Writes that came in while the peer had no disk and that are not on ours.
    pub(crate) diskless_writes: u32,
    pub(crate) untracked_writes: u32,
    /// Epoch of the last write that only the own disk was to get.
    pub(crate) kept_back: Option<u32>,
    /// Written for the peer since the last flush.
    pub(crate) cache_dirty: bool,
    /// Writes for the peer since then.
    pub(crate) unstable: Unstable,
    /// Blocks were marked in sync that may be in the cache of the disk only.
    pub(crate) unstable_blocks: bool,
    /// A page of the bitmap is being written behind a flush that makes them stable.
    pub(crate) page_flush: bool,
    /// The connection over which a flush failed last, and none has succeeded since; or 0.
    pub(crate) flush_failed_in: u32,
    pub(crate) read_toggle: bool,
    pub(crate) congested: bool,
    /// How far the volume is on its way out of Ahead ([`ahead::Leave`]): which step, and its time
    /// or bit.
    pub(crate) leave_step: ahead::Step,
    pub(crate) leave_at: u64,
    /// Resync data sent of which the peer has not said whether it has written them.
    pub(crate) replies_unacked: u16,
    /// Answers that are due to what was asked over this connection in runs that have ended.
    pub(crate) answers_due: u16,
    /// They are of no use: applications have written here since, or the peer's disk has gone.
    pub(crate) answers_stale: bool,
}

impl<M: Memory> Default for VolumeSlot<M> {
    fn default() -> Self {
        Self {
            number: None,
            view: View::INITIAL,
            disk: None,
            tr_number: 0,
            al_suspended: false,
            app_writes: Tree::default(),
            peer_writes: Tree::default(),
            peer_app_writes: 0,
            al_wait: List::default(),
            al_commit: List::default(),
            conflict: List::default(),
            ready: List::default(),
            local: List::default(),
            peer_al: List::default(),
            peer_commit: List::default(),
            session: None,
            verify_start: 0,
            bitmap_send: BitmapSend::Idle,
            control: Queue::default(),
            seq: 0,
            peer_seq: 0,
            totals: Totals::default(),
            app_in_flight: 0,
            local_in_flight: 0,
            peer_pending: 0,
            unanswered: 0,
            in_flight_sectors: 0,
            missed_writes: false,
            lacks_ended: false,
            failed_writes: false,
            refused_writes: false,
            took_writes: false,
            bits_known: false,
            peer_missed: false,
            diskless_writes: 0,
            untracked_writes: 0,
            kept_back: None,
            cache_dirty: false,
            unstable: Unstable::default(),
            unstable_blocks: false,
            page_flush: false,
            flush_failed_in: 0,
            read_toggle: false,
            congested: false,
            leave_step: ahead::Step::No,
            leave_at: 0,
            replies_unacked: 0,
            answers_due: 0,
            answers_stale: false,
        }
    }
}

impl<M: Memory> VolumeSlot<M> {
    /// The disk, if it may serve I/O (`reference/io.md` 0.4 "has-disk").
    #[inline]
    pub(crate) fn usable_disk(&mut self) -> Option<&mut Disk<M>> {
        if self.view.state.disk < DiskState::Inconsistent {
            return None;
        }
        self.disk.as_mut().filter(|disk| disk.attached)
    }

    /// Tells whether the disk may serve I/O.
    #[inline]
    pub(crate) fn has_disk(&self) -> bool {
        self.view.state.disk >= DiskState::Inconsistent
            && self.disk.as_ref().is_some_and(|disk| disk.attached)
    }

    /// Tells whether nothing of the peer's may be written to the disk yet.
    #[inline]
    pub(crate) fn is_good_target(&self) -> bool {
        self.view.target.is_good() && self.has_disk()
    }

    /// Marks a range out of sync in the bitmap, whatever the state of the disk. Returns how many
    /// bits were new.
    pub(crate) fn set_out_of_sync(&mut self, range: SectorRange) -> u64 {
        match &mut self.disk {
            Some(disk) if disk.attached => disk.bitmap.set_out_of_sync(range),
            Some(_) | None => 0,
        }
    }

    /// A write of the peer's applications has failed here: the disks differ.
    pub(crate) fn write_refused(&mut self, range: SectorRange) {
        self.set_out_of_sync(range);
        self.refused_writes = true;
    }

    /// Marks a range in sync. Returns how many bits were cleared.
    pub(crate) fn set_in_sync(&mut self, range: SectorRange, now: Instant) -> u64 {
        let Some(disk) = self.disk.as_mut().filter(|disk| disk.attached) else {
            return 0;
        };
        let cleared = disk.bitmap.set_in_sync(range);
        if cleared != 0 {
            self.unstable_blocks = disk.volatile_cache;
            let weight = disk.bitmap.weight();
            if let Some(session) = &mut self.session {
                let left = weight.saturating_sub(session.failed);
                session.progress(left, now);
            }
        }
        cleared
    }

    /// An application's write is on both disks. It may be that of blocks which a target could not
    /// sync: those that it counts as failed are still marked.
    pub(crate) fn written_everywhere(&mut self, range: SectorRange, now: Instant) {
        let cleared = self.set_in_sync(range, now);
        let to_here =
            |session: &&mut Session| session.job == Job::Resync && session.side == Side::Target;
        if let Some(session) = self.session.as_mut().filter(to_here) {
            session.failed = session.failed.saturating_sub(cleared);
        }
    }

    /// A write later than those of this epoch, which may be to the same blocks, was kept from the
    /// peer.
    pub(crate) fn keeps_back_later_than(&self, epoch: u32) -> bool {
        self.kept_back
            .is_some_and(|kept| conflict::is_newer(kept, epoch))
    }

    /// A counter that the control plane may be waiting for is zero.
    pub(crate) fn is_idle(&self) -> bool {
        self.app_in_flight == 0
            || self.local_in_flight == 0
            || self.local.is_empty()
            || self.peer_pending == 0
    }
}

/// What waits in the queue of control packets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum QueuedItem {
    /// The whole bitmap of a volume; which of them, if it is given up and sent after all.
    Bitmap(VolumeIndex, u64),
    /// A packet encoded by the control plane.
    Control(ControlItem),
}

/// The data plane of one resource.
pub struct DataPlane<M: Memory> {
    pub(crate) requests: Slab<M::Requests>,
    pub(crate) peers: Slab<M::PeerRequests>,
    pub(crate) volumes: M::Volumes,
    /// Places with a volume, one bit each: what runs at every hold of the lock skips the others.
    pub(crate) present: u32,
    /// Volumes whose I/O is not suspended any more since the last order, one bit each.
    pub(crate) thawed: u32,
    pub(crate) link: LinkView,
    pub(crate) terms: Terms,
    /// Both sockets exist.
    pub(crate) up: bool,
    /// Counts connections, so that reports about an old one are recognised.
    pub(crate) connection: u32,
    // Requests of applications.
    pub(crate) log: List<{ app::LIST_LOG }>,
    pub(crate) send: List<{ app::LIST_SEND }>,
    pub(crate) unacked: List<{ app::LIST_UNACKED }>,
    /// The first write in `unacked` that the peer has not answered.
    pub(crate) unanswered: Option<u32>,
    pub(crate) asked: List<{ app::LIST_UNACKED }>,
    pub(crate) done: List<{ app::LIST_DONE }>,
    pub(crate) stamp: u64,
    /// Stamp of the beginning of the connection.
    pub(crate) connected_at: u64,
    pub(crate) epoch: u32,
    pub(crate) epoch_writes: u32,
    /// Epoch of the writes sent last, and how many of it were sent without a barrier behind them.
    pub(crate) sending_epoch: u32,
    pub(crate) sending_writes: u32,
    /// Since when the peer owes the ack of the oldest barrier that was sent, if it owes one.
    pub(crate) barrier_since: Instant,
    /// Until when the barrier of a closed epoch waits for a write that it can go with.
    pub(crate) barrier_due: Option<Instant>,
    /// Volumes of which the peer has refused a request with its disk, the only good one: no more
    /// come in until it says what has become of the disk, one bit each.
    pub(crate) refused: u32,
    /// When they are tried again, though it has not.
    pub(crate) refused_until: Option<Instant>,
    /// Volumes that were tried again so and whose state has not changed since, one bit each.
    pub(crate) unheard: u32,
    /// Items in the queues of all volumes.
    pub(crate) control_len: u32,
    /// Volume whose item was handed out last.
    pub(crate) control_at: usize,
    // Requests of the peer and of our resync.
    pub(crate) all_peers: List<{ peer::LIST_ALL }>,
    pub(crate) acks: List<{ peer::LIST_ACK }>,
    pub(crate) replies: List<{ peer::LIST_WORK }>,
    pub(crate) held: List<{ peer::LIST_WORK }>,
    pub(crate) resync_held: List<{ peer::LIST_WORK }>,
    pub(crate) lock_wait: List<{ peer::LIST_WORK }>,
    /// Reads of the peer that overlap its own unfinished writes.
    pub(crate) read_wait: List<{ peer::LIST_WORK }>,
    pub(crate) io_ready: List<{ peer::LIST_WORK }>,
    pub(crate) to_digest: List<{ peer::LIST_WORK }>,
    pub(crate) to_free: List<{ peer::LIST_WORK }>,
    pub(crate) epochs: Epochs,
    pub(crate) arrival: u64,
    /// Volumes of which the peer has to hear that writes are lost, one bit each.
    pub(crate) to_refuse: u32,
    /// Volumes whose flush has to be started, one bit each.
    pub(crate) to_flush: u32,
    /// Pages of writes and of resync data for the peer.
    pub(crate) write_pages: u32,
    /// Pages of reads for the peer.
    pub(crate) read_pages: u32,
    /// Those of them for which there is memory: the disk has been asked.
    pub(crate) read_pages_held: u32,
    pub(crate) stalled: receive::Stalled,
    pub(crate) bitmap_receive: Option<BitmapReceive>,
    /// Report when nothing for the peer is in flight any more.
    pub(crate) draining: bool,
    /// Packets since a resync request was last generated.
    pub(crate) since_resync: u32,
    pub(crate) resync_timer: Option<Instant>,
    pub(crate) upcalls: Queue<Upcall, UPCALLS_MAX>,
    pub(crate) wants: DataWants,
    /// Somebody was told to wait since `Wants::submitters` was last given out.
    pub(crate) submitters_wait: bool,
}

impl<M: Memory> DataPlane<M> {
    /// Composes the data plane from lent memory. Loops over all slots.
    #[inline]
    pub fn new(requests: M::Requests, peers: M::PeerRequests, volumes: M::Volumes) -> Self {
        Self {
            requests: Slab::new(requests),
            peers: Slab::new(peers),
            volumes,
            present: 0,
            thawed: 0,
            link: LinkView::NONE,
            terms: Terms::INITIAL,
            up: false,
            connection: 0,
            log: List::default(),
            send: List::default(),
            unacked: List::default(),
            unanswered: None,
            asked: List::default(),
            done: List::default(),
            stamp: 0,
            connected_at: 0,
            epoch: 0,
            epoch_writes: 0,
            sending_epoch: 0,
            sending_writes: 0,
            barrier_since: Instant(0),
            barrier_due: None,
            refused: 0,
            refused_until: None,
            unheard: 0,
            control_len: 0,
            control_at: 0,
            all_peers: List::default(),
            acks: List::default(),
            replies: List::default(),
            held: List::default(),
            resync_held: List::default(),
            lock_wait: List::default(),
            read_wait: List::default(),
            io_ready: List::default(),
            to_digest: List::default(),
            to_free: List::default(),
            epochs: Epochs::default(),
            arrival: 0,
            to_refuse: 0,
            to_flush: 0,
            write_pages: 0,
            read_pages: 0,
            read_pages_held: 0,
            stalled: receive::Stalled::default(),
            bitmap_receive: None,
            draining: false,
            since_resync: 0,
            resync_timer: None,
            upcalls: Queue::default(),
            wants: DataWants::default(),
            submitters_wait: false,
        }
    }

    /// Returns which executors have work, and forgets it.
    pub fn take_wants(&mut self) -> DataWants {
        let timer = self.next_timeout();
        let wants = core::mem::take(&mut self.wants);
        let submitters = wants.submitters && core::mem::take(&mut self.submitters_wait);
        DataWants {
            submitters,
            timer,
            ..wants
        }
    }

    /// Takes the oldest upcall.
    pub fn pop_upcall(&mut self) -> Option<Upcall> {
        self.upcalls.pop()
    }

    pub(crate) fn upcall(&mut self, upcall: Upcall) {
        let known = (0..self.upcalls.len()).any(|at| self.upcalls.get(at) == Some(&upcall));
        if !known {
            // INVARIANT: Few kinds for at most 16 volumes each; the resource drains the queue
            // after every input.
            let pushed = self.upcalls.push(upcall);
            debug_assert!(pushed.is_ok(), "upcalls are drained after every input");
        }
    }

    /// Lends the memory of a disk. It is used once the control plane says `DiskAttached`; pages of
    /// the bitmap may be loaded before. Hands the memory back if the volume has a disk already.
    #[allow(
        clippy::result_large_err,
        reason = "the memory has to go back to its owner"
    )]
    pub fn lend_disk(
        &mut self,
        volume: VolumeIndex,
        memory: DiskMemory<M>,
    ) -> Result<(), DiskMemory<M>> {
        let Some(slot) = self.volumes.get_mut(volume.slot()) else {
            return Err(memory);
        };
        if slot.disk.is_some() {
            return Err(memory);
        }
        // From the first block of the ring on: only there may the very first transaction be torn
        // (`reference/metadata.md` 3.6). Numbers of before never come back.
        let blocks = memory.al_place.striping.blocks();
        let number = slot.tr_number.checked_next_multiple_of(blocks);
        slot.disk = Some(Disk {
            bitmap: Bitmap::new(memory.bitmap, memory.pages),
            al: ActivityLog::new(memory.al_extents, number.unwrap_or(0)),
            extents: ResyncExtents::new(memory.resync_extents),
            al_place: memory.al_place,
            volatile_cache: memory.volatile_cache,
            attached: false,
            ring_left: 0,
        });
        Ok(())
    }

    /// The disk has a volatile cache: what it carries out from now on has to be flushed. Also for
    /// one that had none when it was lent. Any context; before the end of the write is reported.
    pub fn has_volatile_cache(&mut self, volume: VolumeIndex) {
        let slot = self.volumes.get_mut(volume.slot());
        if let Some(disk) = slot.and_then(|slot| slot.disk.as_mut()) {
            disk.volatile_cache = true;
        }
    }

    /// Gives the memory of a disk back, once it is detached and nothing uses it.
    pub fn take_disk(&mut self, volume: VolumeIndex) -> Option<DiskMemory<M>> {
        let slot = self.volumes.get_mut(volume.slot())?;
        if slot.disk.as_ref().is_some_and(|disk| disk.attached) {
            return None;
        }
        let disk = slot.disk.take()?;
        slot.tr_number = disk.al.tr_number;
        let (bitmap, pages) = disk.bitmap.into_memory();
        Some(DiskMemory {
            bitmap,
            pages,
            al_extents: disk.al.into_memory(),
            resync_extents: disk.extents.into_memory(),
            al_place: disk.al_place,
            volatile_cache: disk.volatile_cache,
        })
    }

    /// Replaces the view of one volume.
    pub fn set_view(&mut self, volume: VolumeIndex, view: &View, now: Instant) {
        let Some(slot) = self.volumes.get_mut(volume.slot()) else {
            return;
        };
        let old = slot.view;
        slot.view = *view;
        slot.congested = false;
        let was_ahead = old.state.conn == ConnState::Ahead;
        let pulls_ahead = !was_ahead && view.state.conn == ConnState::Ahead;
        if view.state.conn != ConnState::Ahead {
            slot.set_leave(ahead::Leave::No);
        }
        let is_good = |view: &View| view.state.disk == DiskState::UpToDate;
        slot.missed_writes &= !is_good(view);
        slot.lacks_ended &= !is_good(view);
        slot.failed_writes &= !is_good(view);
        slot.refused_writes &= is_good(&old) || !is_good(view);
        let connects =
            old.state.conn < ConnState::Connected && view.state.conn >= ConnState::Connected;
        slot.took_writes &= !connects && view.state.disk >= DiskState::Inconsistent;
        if old.state != view.state {
            self.refused &= !volume.bit();
            self.unheard &= !volume.bit();
        }
        slot.age_answers();
        // Behind the exchange; before it only the peer knows what this disk has missed.
        slot.bits_known |= view.state.is_sync_target() || view.state.disk == DiskState::UpToDate;
        slot.bits_known &=
            view.state.disk >= DiskState::Inconsistent && view.state.conn != ConnState::WfBitMapT;
        let good = |view: &View| view.state.pdsk == DiskState::UpToDate;
        slot.peer_missed &= good(&old) || !good(view);
        let given_up = slot.disk.is_some() && view.state.disk < DiskState::Inconsistent;
        if given_up {
            slot.bitmap_send = slot.bitmap_send.given_up();
        }
        let paused = matches!(
            view.state.conn,
            ConnState::PausedSyncS | ConnState::PausedSyncT
        );
        if let Some(session) = &mut slot.session {
            session.pause(paused, now);
            if old.state.conn != view.state.conn {
                session.cancelled_until = Instant(0);
            }
        }
        if old.state.suspended() && !view.state.suspended() {
            self.thawed |= volume.bit();
        }
        if let Some(disk) = slot.disk.as_mut().filter(|_| paused) {
            // The worker of the volume is woken below.
            let _ = disk.extents.give_up_but(None);
        }
        if old.state.replicates() != view.state.replicates() {
            self.close_epoch(now);
        }
        if given_up {
            self.give_up_cache(volume);
        }
        if pulls_ahead {
            self.cancel_waiting_reads(volume);
        }
        self.wants.submitters = true;
        self.wants.receiver = true;
        self.wants.sender = true;
        self.wants.peer_io = true;
        self.wake_volume(volume);
        self.check_idle(volume);
    }

    /// Replaces the view of the connection.
    pub fn set_link(&mut self, link: &LinkView) {
        self.link = *link;
        self.terms = link.terms;
        self.wants.submitters = true;
        // Without a second primary nothing waits for acks any more.
        self.wants.receiver = true;
        self.wants.sender = true;
        self.wants.acks = true;
    }

    /// Returns the terms under which packets are read and written.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Tells whether writes to an extent of the activity log are in flight.
    pub fn extent_is_used(&self, volume: VolumeIndex, extent: u32) -> bool {
        let place = self.volumes.get(volume.slot());
        place
            .and_then(|place| place.disk.as_ref())
            .is_some_and(|disk| disk.al.is_used(extent))
    }

    /// Returns `disk-timeout` of a volume.
    pub(crate) fn disk_timeout_tenths(&self, volume: VolumeIndex) -> u32 {
        let slot = self.volumes.get(volume.slot());
        slot.map_or(0, |slot| slot.view.disk.disk_timeout_tenths)
    }

    /// Tells whether a block counts as out of sync.
    pub fn bit_is_set(&self, volume: VolumeIndex, bit: u64) -> bool {
        let place = self.volumes.get(volume.slot());
        place
            .and_then(|place| place.disk.as_ref())
            .is_some_and(|disk| disk.bitmap.is_set(BitIndex(bit)))
    }

    /// Returns the present run of resync or verify.
    pub fn session(&self, volume: VolumeIndex) -> Option<&Session> {
        self.volumes.get(volume.slot())?.session.as_ref()
    }

    /// Returns the write ordering method in force (`reference/io.md` 3.3).
    pub fn ordering(&self) -> WriteOrdering {
        let mut ordering = WriteOrdering::Flush;
        for volume in self.present_volumes().filter(|volume| volume.has_disk()) {
            let disk = &volume.view.disk;
            if ordering == WriteOrdering::Flush && !disk.disk_flushes {
                ordering = WriteOrdering::Drain;
            }
            if ordering == WriteOrdering::Drain && !disk.disk_drain {
                ordering = WriteOrdering::None;
            }
        }
        ordering
    }

    /// Returns the place of the volume with this number.
    pub fn volume_index(&self, number: u16) -> Option<VolumeIndex> {
        let number = Some(VolumeNumber(number));
        bits(self.present).find(|volume| self.volumes[volume.slot()].number == number)
    }

    /// Returns the places that hold a volume.
    pub(crate) fn present_volumes(&self) -> impl Iterator<Item = &VolumeSlot<M>> {
        bits(self.present).filter_map(|volume| self.volumes.get(volume.slot()))
    }

    pub(crate) fn next_stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }

    #[inline]
    pub(crate) fn wake_volume(&mut self, volume: VolumeIndex) {
        self.wants.volumes |= volume.bit();
    }

    /// Ends the current epoch if it has writes. Its barrier goes with the next write, or after a
    /// moment (`reference/io.md` 10.5 item 17).
    pub(crate) fn close_epoch(&mut self, now: Instant) {
        if self.epoch_writes == 0 {
            return;
        }
        self.epoch = self.epoch.wrapping_add(1);
        self.epoch_writes = 0;
        if quirk(Quirk::BarrierAtOnce) || chance(Unlikely::BarrierAtOnce) {
            self.wants.sender = true;
        } else if self.barrier_due.is_none() {
            self.barrier_due = Some(now.after(BARRIER_DELAY));
        }
        if self
            .present_volumes()
            .any(|place| !place.al_wait.is_empty())
        {
            self.hurry_barrier();
        }
    }

    /// Somebody waits for what the ack of the barrier releases: it does not wait for a write.
    pub(crate) fn hurry_barrier(&mut self) {
        if self.barrier_due.take().is_some() {
            self.wants.sender = true;
        }
    }

    /// Reports a counter that has become zero to the control plane, and starts what waits for
    /// it here.
    pub(crate) fn check_idle(&mut self, volume: VolumeIndex) {
        let Some(slot) = self.volumes.get_mut(volume.slot()) else {
            return;
        };
        let draining = matches!(slot.bitmap_send, BitmapSend::Draining) && slot.app_in_flight == 0;
        if draining && slot.in_flight_sectors != 0 {
            // The peer may still refuse what applications are done with.
            self.hurry_barrier();
        } else if draining {
            self.mark_kept(volume);
            let Some(slot) = self.volumes.get_mut(volume.slot()) else {
                return;
            };
            self.stamp += 1;
            slot.bitmap_send = BitmapSend::Queued(self.stamp, SendCursor::default());
            self.queue_item(self.stamp, QueuedItem::Bitmap(volume, self.stamp));
        }
        let Some(slot) = self.volumes.get(volume.slot()) else {
            return;
        };
        if slot.view.watch_idle && slot.is_idle() {
            self.upcall(Upcall::Idle(volume));
        }
    }

    pub(crate) fn queue_item(&mut self, stamp: u64, item: QueuedItem) {
        if !self.up {
            // What belonged to a connection that is gone is not for the next one.
            return;
        }
        let volume = match item {
            QueuedItem::Bitmap(volume, _) => volume,
            QueuedItem::Control(item) => item.volume,
        };
        let place = self.volumes.get_mut(volume.slot());
        let pushed = place.is_some_and(|place| place.control.push((stamp, item)).is_ok());
        if pushed {
            self.control_len += 1;
        } else {
            self.upcall(Upcall::LinkFailed(crate::link::LinkError::NetworkFailure));
        }
        self.wants.sender = true;
    }

    /// Largest part of `max-buffers` that resync may have in flight, in sectors.
    pub(crate) fn resync_window(&self) -> u64 {
        u64::from(self.link.max_buffers.min(131_072) / 2) * 8
    }
}

/// Returns the volumes whose bits are set.
pub(crate) fn bits(mask: u32) -> impl Iterator<Item = VolumeIndex> {
    let mut left = mask;
    core::iter::from_fn(move || {
        let number = u8::try_from(left.trailing_zeros()).ok()?;
        left &= left.checked_sub(1)?;
        Some(VolumeIndex(number))
    })
}
