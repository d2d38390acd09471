//! The activity log: which 4 MiB extents may have writes in flight.
//!
//! A write needs a reference on each of its extents before it goes to the disk or to the peer. An
//! extent that is not in the log needs a slot, and the change has to be durable first: up to 64
//! changes go into one transaction, which the shell writes (`reference/metadata.md` 3). This file
//! knows slots, references and transactions; who waits for what is the data plane's business.

use core::ops::DerefMut;

use drbd_format::units::{AlExtent, SectorRange};

use crate::bitmap::page_number;
use crate::chance::{chance, Unlikely};
use crate::memory::slab::NIL;

/// Changes in one transaction.
pub const UPDATES_MAX: usize = 64;
/// Slots re-stated by one transaction.
pub const CONTEXT_SLOTS: u32 = 919;

/// Extent number of a free slot.
const FREE: u32 = u32::MAX;

/// One slot of the log, numbered as on disk by its index.
#[derive(Clone, Copy, Debug)]
pub struct AlSlot {
    /// Extent in this slot, perhaps not yet on disk.
    extent: u32,
    /// What the disk says while the change is pending.
    on_disk: u32,
    refs: u32,
    prev: u32,
    next: u32,
    hash_next: u32,
    hash_head: u32,
    pending: bool,
    listed: bool,
}

impl Default for AlSlot {
    fn default() -> Self {
        Self {
            extent: FREE,
            on_disk: FREE,
            refs: 0,
            prev: NIL,
            next: NIL,
            hash_next: NIL,
            hash_head: NIL,
            pending: false,
            listed: false,
        }
    }
}

/// What became of a reservation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reserved {
    /// All extents are referenced and on disk.
    Ready,
    /// All extents are referenced, some wait for a transaction.
    Pending,
    /// No slot could be had for the next extent; those before it stay referenced.
    NoSlot,
}

/// Changes that go into one transaction.
#[derive(Clone, Copy, Debug)]
struct Changes {
    slots: [u16; UPDATES_MAX],
    count: usize,
    /// One bit for each change whose evicted extent has had its bitmap page copied to be written.
    copied: u64,
}

impl Changes {
    const NONE: Self = Self {
        slots: [0; UPDATES_MAX],
        count: 0,
        copied: 0,
    };

    fn slots(&self) -> &[u16] {
        &self.slots[..self.count]
    }
}

/// The log over slots lent by the shell.
#[derive(Debug)]
pub struct ActivityLog<S> {
    slots: S,
    count: u32,
    lru_head: u32,
    lru_tail: u32,
    used: u32,
    starving: bool,
    waiting: Changes,
    writing: Changes,
    in_flight: bool,
    /// Number of the next transaction.
    pub tr_number: u32,
    context_start: u32,
}

/// One change of a transaction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Update {
    /// Slot that changes.
    pub slot: u16,
    /// Extent it takes.
    pub extent: u32,
    /// Extent that leaves, if any.
    pub evicted: Option<AlExtent>,
}

impl<S: DerefMut<Target = [AlSlot]>> ActivityLog<S> {
    /// Makes an empty log. At most 65534 slots are used.
    pub fn new(slots: S, tr_number: u32) -> Self {
        let count = u32::try_from(slots.len()).unwrap_or(u32::MAX).min(65_534);
        let mut log = Self {
            slots,
            count,
            lru_head: NIL,
            lru_tail: NIL,
            used: 0,
            starving: false,
            waiting: Changes::NONE,
            writing: Changes::NONE,
            in_flight: false,
            tr_number,
            context_start: 0,
        };
        log.clear();
        log
    }

    /// Forgets all extents and references. Loops over all slots.
    pub fn clear(&mut self) {
        for slot in self.slots.iter_mut() {
            *slot = AlSlot::default();
        }
        self.lru_head = NIL;
        self.lru_tail = NIL;
        self.used = 0;
        self.starving = false;
        self.waiting = Changes::NONE;
        self.writing = Changes::NONE;
        self.in_flight = false;
        for index in 0..self.count {
            self.unused_push(index);
        }
    }

    /// Gives the memory back.
    pub fn into_memory(self) -> S {
        self.slots
    }

    /// Returns the number of slots.
    pub fn slot_count(&self) -> u32 {
        self.count
    }

    /// Returns the number of slots with references.
    #[inline]
    pub fn used(&self) -> u32 {
        self.used
    }

    /// Returns the first and last extent of a range; `None` beyond the format's limits or empty.
    #[inline]
    pub fn extents(range: SectorRange) -> Option<(u32, u32)> {
        if range.is_empty() {
            return None;
        }
        let last = drbd_format::units::Sector(range.end().0 - 1);
        Some((range.start().al_extent()?.0, last.al_extent()?.0))
    }

    /// Takes a reference on one extent if it is in the log, on disk, and nobody starves.
    #[inline]
    pub fn try_get(&mut self, extent: u32) -> bool {
        if self.starving {
            return false;
        }
        match self.find(extent) {
            Some(index) if !self.slots[index as usize].pending => {
                self.reference(index);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Takes references on the extents from `first + *gained` to `last`, of which there are at
    /// most 33, and counts them in `gained`.
    pub fn reserve(&mut self, first: u32, last: u32, gained: &mut u32) -> Reserved {
        let mut pending = false;
        for (extent, number) in (first..=last).zip(0..) {
            let index = match self.find(extent) {
                Some(index) if number < *gained => index,
                Some(index) => {
                    self.reference(index);
                    *gained += 1;
                    index
                }
                None => match self.change(extent) {
                    Some(index) => {
                        *gained += 1;
                        index
                    }
                    None => {
                        self.starving = true;
                        return Reserved::NoSlot;
                    }
                },
            };
            pending |= self.slots[index as usize].pending;
        }
        self.starving = false;
        if pending {
            Reserved::Pending
        } else {
            Reserved::Ready
        }
    }

    /// Drops the references on the extents from `first` on, `count` of them. Answers whether some
    /// extent is now unused.
    pub fn release(&mut self, first: u32, count: u32) -> bool {
        let mut unused = false;
        for extent in (first..=u32::MAX).take(count as usize) {
            let Some(index) = self.find(extent) else {
                continue;
            };
            let slot = &mut self.slots[index as usize];
            if slot.refs == 0 {
                continue;
            }
            slot.refs -= 1;
            if slot.refs == 0 {
                self.used -= 1;
                self.unused_push(index);
                unused = true;
            }
        }
        unused
    }

    /// Tells whether somebody holds a reference on the extent.
    #[inline]
    pub fn is_used(&self, extent: u32) -> bool {
        self.find(extent)
            .is_some_and(|index| self.slots[index as usize].refs != 0)
    }

    /// Tells whether all changes that `first..=last` needs are on disk.
    pub fn is_committed(&self, first: u32, last: u32) -> bool {
        (first..=last).all(|extent| {
            self.find(extent)
                .is_some_and(|index| !self.slots[index as usize].pending)
        })
    }

    /// Tells whether changes wait for a transaction.
    #[inline]
    pub fn has_changes(&self) -> bool {
        self.waiting.count != 0
    }

    /// Tells whether a transaction is being written.
    #[inline]
    pub fn transaction_in_flight(&self) -> bool {
        self.in_flight
    }

    /// Returns the changes that wait for a transaction.
    pub fn changes(&self) -> impl Iterator<Item = Update> + '_ {
        self.updates_of(&self.waiting)
    }

    /// Returns the bitmap pages of extents that leave the log, except those that were copied to be
    /// written since then: nobody sets bits for such an extent any more.
    pub fn pages_to_write(&self) -> impl Iterator<Item = u32> + '_ {
        let copied = self.waiting.copied;
        self.changes().enumerate().filter_map(move |(at, update)| {
            let page = page_number(update.evicted?.bitmap_page());
            (copied >> at & 1 == 0).then_some(page)
        })
    }

    /// A page of the bitmap has been copied to be written.
    pub fn page_copied(&mut self, page: u32) {
        let mut copied = 0;
        for (at, update) in self.changes().enumerate() {
            if update
                .evicted
                .is_some_and(|extent| page_number(extent.bitmap_page()) == page)
            {
                copied |= 1 << at;
            }
        }
        self.waiting.copied |= copied;
    }

    /// Puts all waiting changes into one transaction. The caller has written the bitmap pages of
    /// the evicted extents.
    pub fn begin_transaction(&mut self) {
        self.writing = self.waiting;
        self.waiting = Changes::NONE;
        self.in_flight = true;
    }

    /// Returns the changes of the transaction being written.
    pub fn updates(&self) -> impl Iterator<Item = Update> + '_ {
        self.updates_of(&self.writing)
    }

    /// Returns the first slot that this transaction re-states.
    pub fn context_start(&self) -> u32 {
        self.context_start
    }

    /// Returns what the disk says about a slot, before the transaction being written.
    pub fn slot_on_disk(&self, index: u32) -> Option<AlExtent> {
        let slot = self.slots.get(index as usize)?;
        let extent = if slot.pending {
            slot.on_disk
        } else {
            slot.extent
        };
        (extent != FREE).then_some(AlExtent(extent))
    }

    /// The transaction is durable (or the disk is given up): its extents are active.
    pub fn commit(&mut self) {
        let writing = core::mem::replace(&mut self.writing, Changes::NONE);
        for index in writing.slots() {
            let slot = &mut self.slots[usize::from(*index)];
            slot.pending = false;
            slot.on_disk = slot.extent;
        }
        self.in_flight = false;
        self.tr_number = self.tr_number.wrapping_add(1);
        self.context_start += CONTEXT_SLOTS;
        if self.context_start >= self.count {
            self.context_start = 0;
        }
    }

    fn updates_of<'a>(&'a self, changes: &'a Changes) -> impl Iterator<Item = Update> + 'a {
        changes.slots().iter().map(|index| {
            let slot = &self.slots[usize::from(*index)];
            let evicted = (slot.on_disk != FREE).then_some(AlExtent(slot.on_disk));
            Update {
                slot: *index,
                extent: slot.extent,
                evicted,
            }
        })
    }

    #[inline]
    fn bucket(&self, extent: u32) -> usize {
        (extent.wrapping_mul(0x9e37_79b1) % self.count.max(1)) as usize
    }

    #[inline]
    fn find(&self, extent: u32) -> Option<u32> {
        let mut at = self.slots.get(self.bucket(extent))?.hash_head;
        while at != NIL {
            let slot = &self.slots[at as usize];
            if slot.extent == extent {
                return Some(at);
            }
            at = slot.hash_next;
        }
        None
    }

    /// Takes a reference on a slot that is in the log.
    #[inline]
    fn reference(&mut self, index: u32) {
        if self.slots[index as usize].refs == 0 {
            self.unused_remove(index);
            self.used += 1;
        }
        self.slots[index as usize].refs += 1;
    }

    /// Gives an unused slot to `extent`.
    fn change(&mut self, extent: u32) -> Option<u32> {
        if self.waiting.count == UPDATES_MAX {
            return None;
        }
        // A slot whose change is not on disk yet must not change again: its old extent could be
        // forgotten. Such slots are unused only after a request was given up.
        let mut index = self.lru_head;
        while index != NIL && self.slots[index as usize].pending {
            index = self.slots[index as usize].next;
        }
        if index == NIL {
            return None;
        }
        let next = self.slots[index as usize].next;
        let other = next != NIL && !self.slots[next as usize].pending;
        if other && chance(Unlikely::OtherVictim) {
            index = next;
        }
        self.unused_remove(index);
        self.unhash(index);
        let bucket = self.bucket(extent);
        let head = self.slots[bucket].hash_head;
        let slot = &mut self.slots[index as usize];
        slot.on_disk = slot.extent;
        slot.extent = extent;
        slot.pending = true;
        slot.refs = 1;
        slot.hash_next = head;
        self.slots[bucket].hash_head = index;
        self.used += 1;
        // CAST: At most 65534 slots are used.
        self.waiting.slots[self.waiting.count] = index as u16;
        self.waiting.count += 1;
        Some(index)
    }

    fn unhash(&mut self, index: u32) {
        let AlSlot {
            extent, hash_next, ..
        } = self.slots[index as usize];
        if extent == FREE {
            return;
        }
        let bucket = self.bucket(extent);
        if self.slots[bucket].hash_head == index {
            self.slots[bucket].hash_head = hash_next;
            return;
        }
        let mut at = self.slots[bucket].hash_head;
        while at != NIL {
            let next = self.slots[at as usize].hash_next;
            if next == index {
                self.slots[at as usize].hash_next = hash_next;
                return;
            }
            at = next;
        }
    }

    fn unused_push(&mut self, index: u32) {
        let tail = self.lru_tail;
        let slot = &mut self.slots[index as usize];
        if slot.listed {
            return;
        }
        (slot.prev, slot.next, slot.listed) = (tail, NIL, true);
        if tail == NIL {
            self.lru_head = index;
        } else {
            self.slots[tail as usize].next = index;
        }
        self.lru_tail = index;
    }

    fn unused_remove(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if !slot.listed {
            return;
        }
        let (prev, next) = (slot.prev, slot.next);
        (slot.prev, slot.next, slot.listed) = (NIL, NIL, false);
        if prev == NIL {
            self.lru_head = next;
        } else {
            self.slots[prev as usize].next = next;
        }
        if next == NIL {
            self.lru_tail = prev;
        } else {
            self.slots[next as usize].prev = prev;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    type TestLog = ActivityLog<Vec<AlSlot>>;

    fn log(slots: usize) -> TestLog {
        ActivityLog::new(vec![AlSlot::default(); slots], 0)
    }

    /// What a reader of the disk believes: contexts and updates of all transactions.
    fn write(log: &mut TestLog, disk: &mut HashMap<u32, u32>) {
        log.begin_transaction();
        assert!(log.updates().count() <= UPDATES_MAX);
        for update in log.updates() {
            disk.insert(u32::from(update.slot), update.extent);
        }
    }

    #[test]
    fn a_range_ends_in_the_extent_of_its_last_sector() {
        use drbd_format::units::{Sector, SectorCount};
        for (start, len, extents) in [
            (0, 0, None),
            (8184, 8, Some((0, 0))),
            (8184, 9, Some((0, 1))),
            (8192, 1, Some((1, 1))),
            (8191, 8194, Some((0, 2))),
        ] {
            let range = SectorRange::new(Sector(start), SectorCount(len)).unwrap();
            assert_eq!(TestLog::extents(range), extents, "{start} {len}");
        }
    }

    #[test]
    fn a_hit_needs_a_committed_extent() {
        let mut log = log(4);
        assert!(!log.try_get(7));
        let mut gained = 0;
        assert_eq!(log.reserve(7, 7, &mut gained), Reserved::Pending);
        assert!(!log.try_get(7), "not on disk yet");
        log.begin_transaction();
        assert!(!log.try_get(7), "not on disk yet");
        log.commit();
        assert!(log.try_get(7));
        assert!(!log.release(7, 1));
        assert!(log.release(7, 1));
        assert!(log.try_get(7), "stays in the log");
    }

    #[test]
    fn only_unused_extents_are_evicted_and_starvation_stops_hits() {
        let mut log = log(2);
        for extent in [1, 2] {
            let mut gained = 0;
            assert_eq!(log.reserve(extent, extent, &mut gained), Reserved::Pending);
        }
        log.begin_transaction();
        log.commit();
        let mut gained = 0;
        assert_eq!(log.reserve(3, 3, &mut gained), Reserved::NoSlot);
        assert!(!log.try_get(1), "hot traffic must not starve cold traffic");
        assert!(log.release(1, 1));
        assert_eq!(log.reserve(3, 3, &mut gained), Reserved::Pending);
        let evicted: Vec<_> = log.changes().map(|update| update.evicted).collect();
        assert_eq!(evicted, [Some(AlExtent(1))]);
        assert!(log.try_get(2));
    }

    #[test]
    fn each_page_of_evicted_extents_is_written_once() {
        // The bits of 32 extents are in a page.
        let old = [1, 2, 40];
        let mut log = log(3);
        let mut gained = 0;
        for extent in old {
            assert_eq!(log.reserve(extent, extent, &mut gained), Reserved::Pending);
        }
        log.begin_transaction();
        log.commit();
        for extent in old {
            assert!(log.release(extent, extent));
        }
        for extent in [100, 101, 102] {
            assert_eq!(log.reserve(extent, extent, &mut gained), Reserved::Pending);
        }
        let left = |log: &TestLog| {
            let mut pages: Vec<u32> = log.pages_to_write().collect();
            pages.sort_unstable();
            pages
        };
        assert_eq!(left(&log), [0, 0, 1]);
        log.page_copied(0);
        assert_eq!(left(&log), [1]);
        log.page_copied(0);
        assert_eq!(left(&log), [1], "copied twice");
        log.page_copied(1);
        assert_eq!(left(&log), []);
    }

    #[test]
    fn what_was_gained_before_running_out_of_slots_is_kept() {
        let mut log = log(3);
        let mut other = 0;
        assert_eq!(log.reserve(9, 9, &mut other), Reserved::Pending);
        log.begin_transaction();
        log.commit();
        let mut gained = 0;
        assert_eq!(log.reserve(0, 2, &mut gained), Reserved::NoSlot);
        assert_eq!(gained, 2);
        assert!(log.release(9, 1));
        assert_eq!(log.reserve(0, 2, &mut gained), Reserved::Pending);
        assert_eq!(gained, 3);
        assert_eq!(log.used(), 3);
        assert!(log.release(0, 3));
        assert_eq!(log.used(), 0);
    }

    #[test]
    fn the_context_shows_the_state_before_the_updates_and_rotates() {
        let mut log = log(1000);
        let mut gained = 0;
        assert_eq!(log.reserve(5, 5, &mut gained), Reserved::Pending);
        log.begin_transaction();
        let slot = u32::from(log.updates().next().unwrap().slot);
        assert_eq!(log.slot_on_disk(slot), None);
        log.commit();
        assert_eq!(log.slot_on_disk(slot), Some(AlExtent(5)));
        assert_eq!(log.context_start(), 919);
        log.begin_transaction();
        log.commit();
        assert_eq!(log.context_start(), 0);
        assert_eq!(log.tr_number, 2);
    }

    #[test]
    fn a_transaction_takes_at_most_64_changes() {
        let mut log = log(200);
        let mut reserved = 0;
        for extent in 0..100 {
            let mut gained = 0;
            if log.reserve(extent, extent, &mut gained) == Reserved::Pending {
                reserved += 1;
            }
        }
        assert_eq!(reserved, 64);
        log.begin_transaction();
        let mut gained = 0;
        assert_eq!(
            log.reserve(99, 99, &mut gained),
            Reserved::Pending,
            "for the next one"
        );
        log.commit();
        assert!(log.is_committed(0, 63));
        assert!(!log.is_committed(99, 99));
    }

    proptest! {
        #[test]
        fn the_disk_names_every_referenced_extent(
            steps in prop::collection::vec((0_u32..12, 0_u32..3, 0_u8..4), 1..200)
        ) {
            let mut log = log(5);
            let mut disk = HashMap::new();
            let mut held: Vec<(u32, u32)> = Vec::new();
            let mut stuck: Option<(u32, u32, u32)> = None;
            for (first, extra, step) in steps {
                match step {
                    0 if log.transaction_in_flight() => log.commit(),
                    0 => write(&mut log, &mut disk),
                    1 if !held.is_empty() => {
                        let (first, last) = held.swap_remove(0);
                        log.release(first, last - first + 1);
                    }
                    _ => {
                        let (first, last, mut gained) =
                            stuck.take().unwrap_or((first, first + extra, 0));
                        match log.reserve(first, last, &mut gained) {
                            Reserved::NoSlot => stuck = Some((first, last, gained)),
                            Reserved::Ready | Reserved::Pending => held.push((first, last)),
                        }
                    }
                }
                for (first, last) in &held {
                    if log.is_committed(*first, *last) {
                        for extent in *first..=*last {
                            prop_assert!(disk.values().any(|e| *e == extent), "{extent} missing");
                            prop_assert!(log.is_used(extent));
                        }
                    }
                }
            }
        }
    }
}
