//! The activity log of a volume: who waits for extents, transactions, bitmap pages
//! (`reference/io.md` 4.2, 4.3).

use drbd_format::disk::al_transaction as format;
use drbd_format::units::{AlExtent, Sector};

use super::{AlStep, DataPlane, Disk};
use crate::activity_log::{ActivityLog, Reserved, UPDATES_MAX};
use crate::bitmap::{page_number, PAGE_BYTES};
use crate::chance::{chance, Unlikely};
use crate::link::{LocalError, Upcall, VolumeIndex};
use crate::memory::Memory;
use crate::put_back::{put_back, Bug};
use crate::request::Wait;
use crate::time::Instant;

impl<M: Memory> DataPlane<M> {
    /// Returns the next step for the activity log of a volume. `buf` takes the transaction; `crc`
    /// is CRC-32C with initial value 0 and no final inversion. Called by the volume's worker
    /// until it answers `Idle`; one step at a time.
    pub fn al_next(
        &mut self,
        volume: VolumeIndex,
        buf: &mut [u8; PAGE_BYTES],
        crc: impl Fn(&[u8]) -> u32,
    ) -> AlStep {
        let v = volume.slot();
        if v >= self.volumes.len() {
            return AlStep::Idle;
        }
        if !self.volumes[v].has_disk() && !self.ring_pending(volume) {
            self.release_al_waiters(volume);
            return AlStep::Idle;
        }
        let busy = match &self.volumes[v].disk {
            Some(disk) => disk.al.transaction_in_flight(),
            None => true,
        };
        let place = &self.volumes[v];
        let locked = place.view.io_blocked && !place.al_wait.is_empty();
        if locked && put_back(Bug::ResizeAgainstActivityLog) {
            return AlStep::Idle;
        }
        self.reserve(volume);
        if busy {
            return AlStep::Idle;
        }
        let updates = self.volumes[v].view.al_updates;
        let flush = self.volumes[v].view.disk.md_flushes;
        let Some(disk) = &mut self.volumes[v].disk else {
            return AlStep::Idle;
        };
        if !disk.al.has_changes() && disk.ring_left == 0 {
            return AlStep::Idle;
        }
        if let Some(page) = page_to_write(disk) {
            // Bulk writes of the bitmap are not counted (watched on the C driver: `bm:0` after
            // attach, sync and disconnect).
            self.volumes[v].totals.bm_writes += 1;
            return AlStep::WriteBitmapPage { page };
        }
        // A page that is still on its way must not change its meaning: wait for its end.
        let waits = disk
            .al
            .changes()
            .filter_map(|update| update.evicted)
            .any(|extent| {
                disk.bitmap
                    .page_is_being_written(page_number(extent.bitmap_page()))
            });
        if waits {
            return AlStep::Idle;
        }
        disk.al.begin_transaction();
        if !updates && disk.ring_left == 0 {
            // Wakes the worker again: more may wait.
            self.commit(volume);
            return AlStep::Idle;
        }
        match encode(disk, buf, crc) {
            Some(md_sector) => AlStep::WriteTransaction { md_sector, flush },
            None => {
                self.upcall(Upcall::LocalIoFailed {
                    volume,
                    error: LocalError::Metadata,
                });
                AlStep::Idle
            }
        }
    }

    /// The transaction is durable, or could not be written.
    pub fn al_written(&mut self, volume: VolumeIndex, ok: bool, now: Instant) {
        let _ = now;
        let Some(place) = self.volumes.get_mut(volume.slot()) else {
            return;
        };
        place.totals.al_writes += 1;
        let Some(disk) = &mut place.disk else { return };
        if !disk.al.transaction_in_flight() {
            return;
        }
        if !ok {
            // Nothing follows it, no transaction and no write: who waits goes on without the disk.
            disk.ring_left = 0;
            self.upcall(Upcall::LocalIoFailed {
                volume,
                error: LocalError::Metadata,
            });
            return;
        }
        disk.ring_left = disk.ring_left.saturating_sub(1);
        self.commit(volume);
    }

    /// Lets the next transactions fill the whole ring, `blocks` of them (`reference/metadata.md`
    /// 3.5, initial ring write). [`Self::ring_pending`] tells when it is done.
    pub fn write_ring(&mut self, volume: VolumeIndex) {
        let Some(place) = self.volumes.get_mut(volume.slot()) else {
            return;
        };
        if let Some(disk) = &mut place.disk {
            disk.ring_left = disk.al_place.striping.blocks();
        }
        self.wake_volume(volume);
    }

    /// Tells whether transactions are still needed to fill the ring.
    pub fn ring_pending(&self, volume: VolumeIndex) -> bool {
        self.volumes
            .get(volume.slot())
            .and_then(|place| place.disk.as_ref())
            .is_some_and(|disk| disk.ring_left != 0)
    }

    /// Copies a page of the bitmap in on-disk byte order. The shell writes it at
    /// `bitmap sector + 8 x page` and reports `bitmap_page_written`; it writes one page at a time.
    ///
    /// `true`: the data device has to be flushed after this and before the page is written. A
    /// block must not count as in sync on disk while its data are in a cache only.
    #[must_use]
    pub fn bitmap_page(&mut self, volume: VolumeIndex, page: u32, buf: &mut [u8]) -> bool {
        let Some(place) = self.volumes.get_mut(volume.slot()) else {
            return false;
        };
        let Some(disk) = &mut place.disk else {
            return false;
        };
        disk.bitmap.copy_page(page, buf);
        disk.al.page_copied(page);
        let flush = core::mem::take(&mut place.unstable_blocks);
        place.page_flush = flush;
        flush
    }

    /// Tells whether blocks were marked in sync that may be in the cache of the data device only. A
    /// superblock that is written now, and calls them good, has to come behind a flush of them.
    pub fn has_unstable_blocks(&self, volume: VolumeIndex) -> bool {
        self.volumes
            .get(volume.slot())
            .is_some_and(|place| place.unstable_blocks && place.has_disk())
    }

    /// A page of the bitmap has been written, or could not be.
    pub fn bitmap_page_written(&mut self, volume: VolumeIndex, page: u32, ok: bool, now: Instant) {
        let _ = now;
        let Some(place) = self.volumes.get_mut(volume.slot()) else {
            return;
        };
        let Some(disk) = &mut place.disk else { return };
        disk.bitmap.page_written(page, ok);
        place.unstable_blocks |= core::mem::take(&mut place.page_flush) && !ok;
        if !ok {
            self.upcall(Upcall::LocalIoFailed {
                volume,
                error: LocalError::Metadata,
            });
        }
        self.wake_volume(volume);
    }

    /// Takes a page read from disk, before the disk is declared attached.
    pub fn load_bitmap_page(&mut self, volume: VolumeIndex, page: u32, bytes: &[u8]) {
        let place = self.volumes.get_mut(volume.slot());
        if let Some(disk) = place.and_then(|place| place.disk.as_mut()) {
            disk.bitmap.load_page(page, bytes);
        }
    }

    /// Returns the next page at or after `from` that may differ from the disk, for writing the
    /// bitmap. A page that somebody else is writing is one of them: the shell waits for that write
    /// and writes it again.
    pub fn next_dirty_page(&self, volume: VolumeIndex, from: u32) -> Option<u32> {
        self.volumes
            .get(volume.slot())?
            .disk
            .as_ref()?
            .bitmap
            .next_uncertain_page(from)
    }

    /// Makes every page count as changed: the whole bitmap will be written.
    pub fn mark_bitmap_changed(&mut self, volume: VolumeIndex) {
        let place = self.volumes.get_mut(volume.slot());
        if let Some(disk) = place.and_then(|place| place.disk.as_mut()) {
            disk.bitmap.mark_all_changed();
        }
    }

    /// Reserves extents for all that wait. Who has part of what it needs goes first: two such would
    /// wait for each other if there is no other slot.
    fn reserve(&mut self, volume: VolumeIndex) {
        let v = volume.slot();
        let peer_first = |plane: &Self| {
            let first = plane.volumes[v].peer_al.head();
            first.is_some_and(|slot| plane.peers[slot].al_count != 0)
        };
        if peer_first(self) {
            self.reserve_for_peers(volume);
        }
        if !peer_first(self) {
            self.reserve_for_requests(volume);
        }
        let first = self.volumes[v].al_wait.head();
        if first.is_none_or(|slot| self.requests[slot].al_count == 0) {
            self.reserve_for_peers(volume);
        }
    }

    /// Reserves extents for waiting application requests, in order. Those that are stopped by a
    /// resync are passed over, and keep none; one that finds no slot stops the rest, and is the
    /// first of all if it has got some. None before the superblock
    /// says that there is a Primary with a log: after an attach it is that of `apply-al`, and
    /// nobody would look at the log after a crash.
    fn reserve_for_requests(&mut self, volume: VolumeIndex) {
        let v = volume.slot();
        let suspended = self.volumes[v].al_suspended;
        if !suspended && self.volumes[v].view.log_is_void {
            return;
        }
        let mut at = self.volumes[v].al_wait.head();
        while let Some(slot) = at {
            at = self.volumes[v].al_wait.after(&self.requests, slot);
            let range = self.requests[slot].range();
            let Some((first, last)) = ActivityLog::<M::AlExtents>::extents(range) else {
                continue;
            };
            let place = &mut self.volumes[v];
            let Some(disk) = &mut place.disk else { return };
            let mut wait = Wait::Ready;
            if disk.al.has_changes() && chance(Unlikely::ChangesLeft) {
                // Once they are written the worker looks again.
                return;
            }
            if !suspended {
                if stopped(disk, first, last) {
                    // Perhaps since it got some. The resync may wait for those.
                    self.release_extents(slot);
                    continue;
                }
                let request = &mut self.requests[slot];
                request.al_first = first;
                match disk.al.reserve(first, last, &mut request.al_count) {
                    Reserved::Ready => {}
                    Reserved::Pending => wait = Wait::Commit,
                    Reserved::NoSlot if put_back(Bug::FullActivityLogIgnored) => {}
                    Reserved::NoSlot => {
                        if request.al_count != 0 {
                            place.al_wait.remove(&mut self.requests, slot);
                            place.al_wait.push_front(&mut self.requests, slot);
                        }
                        return;
                    }
                }
            }
            place.al_wait.remove(&mut self.requests, slot);
            self.park_in(slot, wait);
        }
    }

    /// The same for writes of a diskless peer. The log says nothing of them to anybody before the
    /// superblock says that there is a Primary.
    fn reserve_for_peers(&mut self, volume: VolumeIndex) {
        let v = volume.slot();
        if self.volumes[v].view.log_is_void {
            return;
        }
        while let Some(slot) = self.volumes[v].peer_al.head() {
            let place = &mut self.volumes[v];
            let Some(disk) = &mut place.disk else { return };
            let peer = &mut self.peers[slot];
            let Some((first, last)) = ActivityLog::<M::AlExtents>::extents(peer.range()) else {
                return;
            };
            peer.al_first = first;
            let reserved = disk.al.reserve(first, last, &mut peer.al_count);
            if reserved == Reserved::NoSlot {
                return;
            }
            place.peer_al.remove(&mut self.peers, slot);
            if reserved == Reserved::Pending {
                place.peer_commit.push(&mut self.peers, slot);
            } else {
                self.io_ready.push(&mut self.peers, slot);
                self.wants.peer_io = true;
            }
        }
    }

    /// Makes the changes of the transaction active and lets those who waited for them go.
    fn commit(&mut self, volume: VolumeIndex) {
        let v = volume.slot();
        let Some(disk) = &mut self.volumes[v].disk else {
            return;
        };
        disk.al.commit();
        let mut at = self.volumes[v].al_commit.head();
        while let Some(slot) = at {
            at = self.volumes[v].al_commit.after(&self.requests, slot);
            let request = &self.requests[slot];
            let (first, count) = (request.al_first, request.al_count);
            if self.is_committed(volume, first, count) {
                self.volumes[v].al_commit.remove(&mut self.requests, slot);
                self.park_in(slot, Wait::Ready);
            }
        }
        let mut at = self.volumes[v].peer_commit.head();
        while let Some(slot) = at {
            at = self.volumes[v].peer_commit.after(&self.peers, slot);
            let (first, count) = (self.peers[slot].al_first, self.peers[slot].al_count);
            if self.is_committed(volume, first, count) {
                self.volumes[v].peer_commit.remove(&mut self.peers, slot);
                self.io_ready.push(&mut self.peers, slot);
                self.wants.peer_io = true;
            }
        }
        self.wake_volume(volume);
    }

    fn is_committed(&self, volume: VolumeIndex, first: u32, count: u32) -> bool {
        let last = first.saturating_add(count.saturating_sub(1));
        match &self.volumes[volume.slot()].disk {
            Some(disk) => disk.al.is_committed(first, last),
            None => true,
        }
    }

    /// Without a disk nobody waits for the activity log.
    pub(crate) fn release_al_waiters(&mut self, volume: VolumeIndex) {
        let v = volume.slot();
        while let Some(slot) = self.volumes[v].al_wait.pop(&mut self.requests) {
            self.release_extents(slot);
            self.park_in(slot, Wait::Ready);
        }
        while let Some(slot) = self.volumes[v].al_commit.pop(&mut self.requests) {
            self.release_extents(slot);
            self.park_in(slot, Wait::Ready);
        }
        while let Some(slot) = self.volumes[v].peer_al.pop(&mut self.peers) {
            self.io_ready.push(&mut self.peers, slot);
            self.wants.peer_io = true;
        }
        while let Some(slot) = self.volumes[v].peer_commit.pop(&mut self.peers) {
            self.io_ready.push(&mut self.peers, slot);
            self.wants.peer_io = true;
        }
    }
}

/// Tells whether resync holds any of the extents.
fn stopped<M: Memory>(disk: &Disk<M>, first: u32, last: u32) -> bool {
    let first = AlExtent(first).resync_extent().0;
    let last = AlExtent(last).resync_extent().0;
    (first..=last).any(|extent| disk.extents.stops_write(extent))
}

/// Returns a page that holds bits of an extent that leaves the log and must be written before.
fn page_to_write<M: Memory>(disk: &Disk<M>) -> Option<u32> {
    disk.al.pages_to_write().find(|page| {
        disk.bitmap.page_must_be_written(*page) && !disk.bitmap.page_is_being_written(*page)
    })
}

/// Encodes the transaction that has begun; returns where it belongs.
fn encode<M: Memory>(
    disk: &Disk<M>,
    buf: &mut [u8; PAGE_BYTES],
    crc: impl Fn(&[u8]) -> u32,
) -> Option<Sector> {
    let al = &disk.al;
    let nothing = format::Update {
        slot: 0,
        value: None,
    };
    let mut updates = [nothing; UPDATES_MAX];
    let mut count = 0;
    for (space, update) in updates.iter_mut().zip(al.updates()) {
        *space = format::Update {
            slot: update.slot,
            value: Some(AlExtent(update.extent)),
        };
        count += 1;
    }
    let head = format::TransactionHead {
        number: al.tr_number,
        context_size: u16::try_from(al.slot_count()).ok()?,
        context_start: u16::try_from(al.context_start()).ok()?,
    };
    let content = |slot: u16| al.slot_on_disk(u32::from(slot));
    format::encode(head, updates.get(..count)?, content, crc, buf).ok()?;
    let block = disk.al_place.striping.block_of(al.tr_number);
    Some(Sector(
        disk.al_place.sector.0.saturating_add(u64::from(block) * 8),
    ))
}
