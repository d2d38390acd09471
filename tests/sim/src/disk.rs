//! A disk with a volatile cache, its metadata on it or on a device of its own.
//!
//! Sectors of data hold one number instead of 512 bytes; blocks of metadata hold real bytes. A
//! completed write is visible at once, and durable after a flush or with forced unit access. At
//! power loss every sector that was not durable takes any of the values it had since then, each
//! sector for itself: writes are lost, torn and reordered. Writes that had not completed count too.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::rc::Rc;

mod sectors;

pub use sectors::{Differing, Sectors};

use drbd_format::disk::layout::Placement;
use drbd_format::units::SectorCount;

use crate::numbered::Numbered;
use crate::random::Random;

/// Sectors of a block.
pub const BLOCK_SECTORS: u64 = 8;

/// Hashes block numbers the same way in every process.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockHasher(u64);

impl Hasher for BlockHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}

/// A block of metadata. Disks keep several copies of what is written to them.
pub type Block = Rc<[u8; 4096]>;

/// What a request does.
#[derive(Clone, Debug)]
pub enum DiskOp {
    /// Nothing but what the flags say.
    Flush,
    /// Reads data.
    Read {
        /// Number of sectors.
        count: u64,
    },
    /// Reads a block of metadata.
    ReadBlock,
    /// Writes data.
    Write(Vec<u64>),
    /// Writes a block of metadata.
    WriteBlock(Block),
    /// Makes sectors read as zero.
    Zero {
        /// Number of sectors.
        count: u64,
    },
}

/// One request of the disk.
#[derive(Clone, Debug)]
pub struct DiskRequest {
    /// What it does.
    pub op: DiskOp,
    /// First sector.
    pub sector: u64,
    /// Flush before.
    pub preflush: bool,
    /// Flush the data before, if they are on another device.
    pub data_first: bool,
    /// Durable when it completes.
    pub fua: bool,
}

impl DiskRequest {
    /// Writes a block of metadata, with forced unit access behind a flush of its device if `flush`,
    /// and behind one of the data as well if `data_first`.
    pub fn block(sector: u64, block: Block, flush: bool, data_first: bool) -> Self {
        Self {
            op: DiskOp::WriteBlock(block),
            sector,
            preflush: flush,
            data_first,
            fua: flush,
        }
    }

    fn is_metadata(&self) -> bool {
        matches!(self.op, DiskOp::ReadBlock | DiskOp::WriteBlock(_))
    }
}

/// A device of its own for the metadata.
#[derive(Debug, Default)]
struct Apart {
    volatile: bool,
    /// Completed and not durable, in order.
    cache: Vec<(u64, Block)>,
    flushed: u64,
}

/// Length of the caches, of data and of metadata apart, with what has been flushed from them.
#[derive(Clone, Copy, Debug)]
struct Position {
    data: usize,
    metadata: usize,
}

/// What a request gives back.
#[derive(Clone, Debug)]
pub enum DiskResult {
    /// Contents of a metadata block.
    Block(Block),
    /// Success without data.
    Done,
    /// The disk reported an error.
    Failed,
    /// Contents of data sectors.
    Sectors(Vec<u64>),
}

#[derive(Clone, Debug)]
enum Cached {
    Block(u64, Block),
    Data(u64, Vec<u64>),
}

/// How a power loss treats what was not durable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Loss {
    Everything,
    Mixed,
    Nothing,
}

impl Loss {
    const ALL: [Self; 4] = [Self::Everything, Self::Mixed, Self::Mixed, Self::Nothing];
}

/// One disk. It outlives its node.
#[derive(Debug)]
pub struct Disk {
    /// Size in sectors.
    pub size_sectors: u64,
    /// There is a volatile cache.
    pub volatile: bool,
    /// What a reader sees.
    pub live: Sectors,
    durable: Sectors,
    /// Grows whenever anything on the disk changes.
    pub changes: u64,
    /// Grows whenever a block of metadata changes.
    pub block_changes: u64,
    blocks: BTreeMap<u64, Block>,
    durable_blocks: BTreeMap<u64, Block>,
    /// Completed and not durable, in order.
    cache: Vec<Cached>,
    apart: Option<Apart>,
    /// Requests that have begun, with what was in the caches at that time.
    running: Numbered<(DiskRequest, Position)>,
    flushed: u64,
    /// First entries of the cache that count as stable for the peer.
    acknowledged: usize,
    /// Of those, how many losses of power would have taken.
    pub kept: u64,
    next_id: u64,
    /// Writes fail.
    pub fail_writes: bool,
    /// Reads fail.
    pub fail_reads: bool,
    /// Flushes fail, and with them writes behind a flush.
    pub fail_flushes: bool,
    /// Only the device of the metadata fails (true), or only that of the data.
    pub fail_only: Option<bool>,
    /// Number of writes of data that have failed so far.
    pub failed_writes: u64,
    /// Number of requests that have failed so far.
    pub failures: u64,
    /// How often a node has opened it.
    pub openings: u64,
    /// Sectors of data read since then.
    pub sectors_read: u64,
    /// Sectors of data written since then.
    pub sectors_written: u64,
    /// Transactions of the activity log written since then.
    pub transactions: u64,
    /// Pages of the bitmap written for the activity log since then.
    pub pages_for_log: u64,
    /// Number of durable writes of metadata blocks so far.
    pub stable_writes: u64,
}

impl Disk {
    /// An empty disk.
    pub fn new(size_sectors: u64, volatile: bool) -> Self {
        Self {
            size_sectors,
            volatile,
            live: Sectors::default(),
            durable: Sectors::default(),
            changes: 0,
            block_changes: 0,
            blocks: BTreeMap::new(),
            durable_blocks: BTreeMap::new(),
            cache: Vec::new(),
            apart: None,
            running: Numbered::default(),
            flushed: 0,
            acknowledged: 0,
            kept: 0,
            next_id: 0,
            fail_writes: false,
            fail_reads: false,
            fail_flushes: false,
            fail_only: None,
            failed_writes: 0,
            failures: 0,
            openings: 0,
            sectors_read: 0,
            sectors_written: 0,
            transactions: 0,
            pages_for_log: 0,
            stable_writes: 0,
        }
    }

    /// The same with its metadata on a device of their own, which has a volatile cache or not.
    pub fn with_metadata_apart(size_sectors: u64, volatile: bool, metadata_volatile: bool) -> Self {
        let apart = Apart {
            volatile: metadata_volatile,
            ..Apart::default()
        };
        Self {
            apart: Some(apart),
            ..Self::new(size_sectors, volatile)
        }
    }

    /// Where the metadata are.
    pub fn placement(&self) -> Placement {
        match self.apart {
            Some(_) => Placement::FlexibleExternal,
            None => Placement::Internal,
        }
    }

    /// Size of the device with the metadata.
    pub fn metadata_sectors(&self) -> SectorCount {
        match self.apart {
            Some(_) => self.placement().device_sectors_min(),
            None => SectorCount(self.size_sectors),
        }
    }

    /// A node opens the disk: its counts begin anew.
    pub fn open(&mut self) {
        self.openings += 1;
        self.sectors_read = 0;
        self.sectors_written = 0;
        self.transactions = 0;
        self.pages_for_log = 0;
    }

    /// Begins a request; it takes effect with [`Disk::complete`].
    pub fn begin(&mut self, request: DiskRequest) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let metadata = self
            .apart
            .as_ref()
            .map_or(0, |apart| apart.flushed as usize + apart.cache.len());
        let position = Position {
            data: self.flushed as usize + self.cache.len(),
            metadata,
        };
        self.running.push(id, (request, position));
        id
    }

    /// Carries out a request that was begun. `None` if power was lost since.
    pub fn complete(&mut self, id: u64) -> Option<DiskResult> {
        let (request, position) = self.running.remove(id)?;
        let reads = matches!(request.op, DiskOp::Read { .. } | DiskOp::ReadBlock);
        let metadata = request.is_metadata() && self.apart.is_some();
        let data_first = request.data_first && metadata;
        let fails = |metadata| self.fail_only.is_none_or(|only| only == metadata);
        let data_fail = data_first && fails(false) && (self.fail_flushes || self.fail_writes);
        let fails = self.apart.is_none() || fails(metadata);
        let flushes = request.preflush || matches!(request.op, DiskOp::Flush);
        if data_fail || (fails && flushes && self.fail_flushes && !self.fail_writes) {
            // Nothing comes behind a flush that has failed.
            self.failures += 1;
            self.failed_writes += u64::from(!matches!(request.op, DiskOp::Flush));
            return Some(DiskResult::Failed);
        }
        if fails && ((reads && self.fail_reads) || (!reads && self.fail_writes)) {
            self.failures += 1;
            match request.op {
                // A failed write may have reached some of its sectors. Without a cache that is for
                // good: what reads find is on the medium (seed 163958).
                DiskOp::Write(values) => {
                    let half = values.len() / 2;
                    let stable = !self.is_volatile(metadata);
                    self.write(request.sector, values[..half].to_vec(), stable);
                    self.failed_writes += 1;
                }
                DiskOp::Zero { .. } => self.failed_writes += 1,
                _ => {}
            }
            return Some(DiskResult::Failed);
        }
        if flushes || data_first {
            self.flush_for(&request, position);
        }
        let fua = request.fua || !self.is_volatile(metadata);
        match request.op {
            DiskOp::Flush => {}
            DiskOp::Read { count } => {
                self.sectors_read += count;
                let sectors = self.live.read(request.sector, count);
                return Some(DiskResult::Sectors(sectors));
            }
            DiskOp::ReadBlock => {
                return Some(DiskResult::Block(Rc::new(*self.block(request.sector))))
            }
            DiskOp::Write(values) => {
                self.sectors_written += values.len() as u64;
                self.write(request.sector, values, fua);
            }
            DiskOp::WriteBlock(block) => self.write_block(request.sector, block, fua),
            DiskOp::Zero { count } => {
                self.sectors_written += count;
                self.write(request.sector, vec![0; count as usize], fua);
            }
        }
        Some(DiskResult::Done)
    }

    /// Tells whether a request that was begun writes a block of metadata.
    pub fn writes_block(&self, id: u64) -> bool {
        let request = self.running.get(id);
        request.is_some_and(|(request, _)| matches!(request.op, DiskOp::WriteBlock(_)))
    }

    /// Tells whether a request that was begun makes sectors read as zero.
    pub fn is_discard(&self, id: u64) -> bool {
        let request = self.running.get(id);
        request.is_some_and(|(request, _)| matches!(request.op, DiskOp::Zero { .. }))
    }

    /// Tells whether a request that was begun reads data.
    pub fn is_read(&self, id: u64) -> bool {
        let request = self.running.get(id);
        request.is_some_and(|(request, _)| matches!(request.op, DiskOp::Read { .. }))
    }

    /// Drops a request that was begun: nothing of it reaches the disk.
    pub fn forget(&mut self, id: u64) {
        self.running.remove(id);
    }

    /// The first sectors of a block of metadata reach the medium, the others do not.
    pub fn tear(&mut self, id: u64) {
        let Some((request, position)) = self.running.remove(id) else {
            return;
        };
        if request.preflush || request.data_first {
            self.flush_for(&request, position);
        }
        if let DiskOp::WriteBlock(new) = request.op {
            let mut block = *self.block(request.sector);
            block[..1536].copy_from_slice(&new[..1536]);
            self.write_block(request.sector, Rc::new(block), true);
        }
    }

    fn write(&mut self, sector: u64, values: Vec<u64>, fua: bool) {
        self.changes += 1;
        self.live.write(sector, &values);
        if fua {
            self.durable.write(sector, &values);
            // A durable write may still be overtaken by an older cached one that it replaces.
            self.forget_older(sector, &values);
        } else {
            self.cache.push(Cached::Data(sector, values));
        }
    }

    /// Older cached contents of sectors that were just written durably are gone.
    fn forget_older(&mut self, start: u64, values: &[u64]) {
        let end = start + values.len() as u64;
        for cached in &mut self.cache {
            let Cached::Data(first, old) = cached else {
                continue;
            };
            let from = start.max(*first);
            let until = end.min(*first + old.len() as u64);
            if from < until {
                let len = (until - from) as usize;
                let (to, of) = ((from - *first) as usize, (from - start) as usize);
                old[to..to + len].copy_from_slice(&values[of..of + len]);
            }
        }
    }

    fn write_block(&mut self, sector: u64, block: Block, fua: bool) {
        self.changes += 1;
        self.block_changes += 1;
        self.blocks.insert(sector, block.clone());
        if fua {
            self.stable_writes += 1;
            self.forget_block(sector);
            self.durable_blocks.insert(sector, block);
        } else if let Some(apart) = &mut self.apart {
            apart.cache.push((sector, block));
        } else {
            self.cache.push(Cached::Block(sector, block));
        }
    }

    /// What is cached of a block of metadata must not come back.
    fn forget_block(&mut self, sector: u64) {
        if let Some(apart) = &mut self.apart {
            apart.cache.retain(|(at, _)| *at != sector);
        } else {
            let older = |entry: &Cached| matches!(entry, Cached::Block(at, _) if *at == sector);
            self.cache.retain(|entry| !older(entry));
        }
    }

    /// The device that a request is for has a volatile cache.
    fn is_volatile(&self, metadata: bool) -> bool {
        match &self.apart {
            Some(apart) if metadata => apart.volatile,
            _ => self.volatile,
        }
    }

    /// Carries out the flushes in front of a request.
    fn flush_for(&mut self, request: &DiskRequest, position: Position) {
        if self.apart.is_none() || !request.is_metadata() {
            if request.preflush || matches!(request.op, DiskOp::Flush) {
                self.flush(position.data);
            }
            return;
        }
        if request.data_first {
            self.flush(position.data);
        }
        if request.preflush {
            self.flush_metadata(position.metadata);
        }
    }

    /// As [`Disk::flush`] for metadata apart.
    fn flush_metadata(&mut self, cached: usize) {
        let Some(apart) = &mut self.apart else { return };
        let count = cached
            .saturating_sub(apart.flushed as usize)
            .min(apart.cache.len());
        self.durable_blocks.extend(apart.cache.drain(..count));
        apart.flushed += count as u64;
    }

    /// Content of one sector as it would be after the worst loss of power.
    pub fn stable(&self, sector: u64) -> u64 {
        self.durable.get(sector)
    }

    /// A write of data that was begun: its first sector and the contents.
    pub fn write_begun(&self, id: u64) -> Option<(u64, &[u64])> {
        match self.running.get(id) {
            Some((request, _)) => match &request.op {
                DiskOp::Write(values) => Some((request.sector, values)),
                _ => None,
            },
            None => None,
        }
    }

    /// Makes the first completed writes durable, up to the position `cached`.
    fn flush(&mut self, cached: usize) {
        let count = cached
            .saturating_sub(self.flushed as usize)
            .min(self.cache.len());
        for entry in self.cache.drain(..count) {
            match entry {
                Cached::Block(sector, block) => {
                    self.durable_blocks.insert(sector, block);
                }
                Cached::Data(sector, values) => self.durable.write(sector, &values),
            }
        }
        self.flushed += count as u64;
        self.acknowledged = self.acknowledged.saturating_sub(count);
    }

    /// The node has told its peer that everything in the cache is stable, though it is not
    /// (`reference/io.md` Q1). A loss of power would take writes that nobody sends again, and no
    /// node could know: they are kept, and counted.
    pub fn acknowledge_cached(&mut self) {
        self.acknowledged = self.cache.len();
    }

    /// Returns a block of metadata as a reader sees it.
    pub fn block(&self, sector: u64) -> &[u8; 4096] {
        static EMPTY: [u8; 4096] = [0; 4096];
        self.blocks.get(&sector).map_or(&EMPTY, |block| block)
    }

    /// Writes a block of metadata durably, as a tool does while no driver runs.
    pub fn put_block(&mut self, sector: u64, block: Block) {
        self.changes += 1;
        self.block_changes += 1;
        // What the driver wrote there before must not come back.
        self.forget_block(sector);
        self.blocks.insert(sector, block.clone());
        self.durable_blocks.insert(sector, block);
    }

    /// Tells how many requests have begun and not completed.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Everything that was not durable is lost, kept or torn; running requests never complete.
    pub fn lose_power(&mut self, random: &mut Random) {
        self.changes += 1;
        self.block_changes += 1;
        let loss = random.pick(&Loss::ALL);
        let mut running = std::mem::take(&mut self.running);
        // Nothing of a write gets to the medium before the flush in front of it is done.
        running.retain(|(request, position)| {
            let metadata = request.is_metadata() && self.apart.is_some();
            if metadata && request.data_first && self.volatile {
                if random.chance(50) {
                    return false;
                }
                self.flush(position.data);
            }
            let volatile = self.is_volatile(metadata);
            let begun = !(request.preflush && volatile) || random.chance(50);
            if begun && request.preflush {
                self.flush_for(request, *position);
            }
            begun
        });
        let mut entries = std::mem::take(&mut self.cache);
        let mut blocks = Vec::new();
        if let Some(apart) = &mut self.apart {
            blocks = std::mem::take(&mut apart.cache);
            apart.flushed = 0;
        }
        for (request, _) in running.take_values() {
            match request.op {
                DiskOp::Write(values) => entries.push(Cached::Data(request.sector, values)),
                DiskOp::WriteBlock(block) if self.apart.is_some() => {
                    blocks.push((request.sector, block));
                }
                DiskOp::WriteBlock(block) => entries.push(Cached::Block(request.sector, block)),
                DiskOp::Zero { count } => {
                    entries.push(Cached::Data(request.sector, vec![0; count as usize]));
                }
                DiskOp::Flush | DiskOp::Read { .. } | DiskOp::ReadBlock => {}
            }
        }
        self.flushed = 0;
        let acknowledged = std::mem::take(&mut self.acknowledged);
        for (at, entry) in entries.into_iter().enumerate() {
            let lucky = at < acknowledged && loss != Loss::Nothing;
            self.kept += u64::from(lucky);
            self.settle(entry, if lucky { Loss::Nothing } else { loss }, random);
        }
        if self.apart.is_some() {
            let loss = random.pick(&Loss::ALL);
            for (sector, block) in blocks {
                self.settle(Cached::Block(sector, block), loss, random);
            }
        }
        self.live.become_equal(&self.durable);
        self.blocks.clone_from(&self.durable_blocks);
    }

    /// Lets some sectors of a write that was not durable reach the medium.
    ///
    /// Called in order, so a sector ends with the last of its values that got through.
    fn settle(&mut self, entry: Cached, loss: Loss, random: &mut Random) {
        let reaches = |random: &mut Random| match loss {
            Loss::Everything => false,
            Loss::Mixed => random.chance(50),
            Loss::Nothing => true,
        };
        match entry {
            Cached::Block(at, block) => {
                let old = self.durable_blocks.get(&at).cloned();
                let mut old = old.unwrap_or_else(|| Rc::new([0; 4096]));
                let bytes = Rc::make_mut(&mut old);
                for (to, from) in bytes.chunks_exact_mut(512).zip(block.chunks_exact(512)) {
                    if reaches(random) {
                        to.copy_from_slice(from);
                    }
                }
                self.durable_blocks.insert(at, old);
            }
            Cached::Data(sector, values) => {
                for (offset, value) in (0..).zip(values) {
                    if reaches(random) {
                        self.durable.set(sector + offset, value);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(disk: &mut Disk, sector: u64, value: u64, fua: bool) {
        let id = disk.begin(DiskRequest {
            op: DiskOp::Write(vec![value]),
            sector,
            preflush: false,
            data_first: false,
            fua,
        });
        assert!(matches!(disk.complete(id), Some(DiskResult::Done)));
    }

    fn flush(disk: &mut Disk) {
        let id = disk.begin(DiskRequest {
            op: DiskOp::Flush,
            sector: 0,
            preflush: true,
            data_first: false,
            fua: false,
        });
        assert!(matches!(disk.complete(id), Some(DiskResult::Done)));
    }

    #[test]
    fn what_was_flushed_or_forced_survives_and_the_rest_may_not() {
        let mut seen = [false; 2];
        for seed in 0..40 {
            let mut disk = Disk::new(100, true);
            write(&mut disk, 1, 11, false);
            flush(&mut disk);
            write(&mut disk, 2, 22, true);
            write(&mut disk, 3, 33, false);
            assert_eq!(disk.live.get(3), 33);
            disk.lose_power(&mut Random::new(seed));
            assert_eq!((disk.live.get(1), disk.live.get(2)), (11, 22));
            seen[usize::from(disk.live.get(3) == 33)] = true;
        }
        assert_eq!(seen, [true, true]);
    }

    #[test]
    fn a_flush_covers_what_had_completed_before_it_began() {
        let mut lost = false;
        for seed in 0..40 {
            let mut disk = Disk::new(100, true);
            let early = disk.begin(DiskRequest {
                op: DiskOp::Flush,
                sector: 0,
                preflush: true,
                data_first: false,
                fua: false,
            });
            write(&mut disk, 1, 11, false);
            assert!(disk.complete(early).is_some());
            disk.lose_power(&mut Random::new(seed));
            lost |= disk.live.get(1) == 0;
        }
        assert!(lost);
    }

    #[test]
    fn a_write_behind_a_flush_reaches_the_medium_after_what_was_flushed() {
        let mut reached = false;
        for seed in 0..80 {
            let mut disk = Disk::new(100, true);
            write(&mut disk, 1, 11, false);
            disk.begin(DiskRequest {
                op: DiskOp::Write(vec![22]),
                sector: 2,
                preflush: true,
                data_first: false,
                fua: true,
            });
            disk.lose_power(&mut Random::new(seed));
            if disk.live.get(2) == 22 {
                reached = true;
                assert_eq!(disk.live.get(1), 11);
            }
        }
        assert!(reached);
    }

    #[test]
    fn metadata_apart_are_not_flushed_with_the_data_and_come_behind_them_if_asked() {
        let (mut lost, mut kept) = (false, true);
        for seed in 0..40 {
            let mut disk = Disk::with_metadata_apart(100, true, true);
            let block = |first| Rc::new([first; 4096]);
            for (sector, data_first) in [(0, false), (8, true)] {
                write(&mut disk, sector, 11, false);
                let request = DiskRequest::block(sector, block(7), data_first, data_first);
                let id = disk.begin(request);
                assert!(disk.complete(id).is_some());
            }
            let id = disk.begin(DiskRequest::block(16, block(7), false, false));
            assert!(disk.complete(id).is_some());
            flush(&mut disk);
            disk.lose_power(&mut Random::new(seed));
            lost |= disk.block(16)[0] == 0;
            kept &= disk.block(0)[0] == 7 && disk.block(8)[0] == 7;
            assert_eq!((disk.live.get(0), disk.live.get(8)), (11, 11));
        }
        assert!(lost && kept);
        let mut disk = Disk::with_metadata_apart(100, true, true);
        write(&mut disk, 1, 11, false);
        let forced = |data_first| DiskRequest::block(0, Rc::new([7; 4096]), true, data_first);
        for (data_first, stable) in [(false, 0), (true, 11)] {
            let id = disk.begin(forced(data_first));
            assert!(disk.complete(id).is_some());
            assert_eq!(disk.stable(1), stable);
        }
    }

    #[test]
    fn what_reached_a_disk_without_a_cache_of_a_failed_write_stays() {
        for (volatile, stable) in [(true, 0), (false, 11)] {
            let mut disk = Disk::new(100, volatile);
            disk.fail_writes = true;
            let id = disk.begin(DiskRequest {
                op: DiskOp::Write(vec![11, 12]),
                sector: 1,
                preflush: false,
                data_first: false,
                fua: true,
            });
            assert!(matches!(disk.complete(id), Some(DiskResult::Failed)));
            assert_eq!((disk.live.get(1), disk.live.get(2)), (11, 0));
            assert_eq!((disk.stable(1), disk.stable(2)), (stable, 0));
        }
    }

    #[test]
    fn an_older_cached_value_never_comes_back_over_a_durable_one() {
        for seed in 0..40 {
            let mut disk = Disk::new(100, true);
            write(&mut disk, 1, 10, false);
            write(&mut disk, 1, 11, true);
            disk.lose_power(&mut Random::new(seed));
            assert_eq!(disk.live.get(1), 11);
        }
    }
}
