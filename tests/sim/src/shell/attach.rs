//! Opening a backing disk, and what the metadata tool does to it while no driver runs.

use std::rc::Rc;

use drbd_core::config::DiskConfig;
use drbd_core::data::{AlPlace, DiskMemory};
use drbd_core::input::{AdminRequest, BackingFacts};
use drbd_core::link::VolumeIndex;
use drbd_core::resync::extents::RESYNC_EXTENTS;
use drbd_format::disk::al_replay::{replay, Source};
use drbd_format::disk::bitmap::extent_bytes;
use drbd_format::disk::layout::{Layout, Placement, Striping};
use drbd_format::disk::superblock::{Magic, MdFlags, Superblock};
use drbd_format::types::Uuid;
use drbd_format::units::{BitmapPage, ByteCount, SectorCount};

use crate::digest;
use crate::disk::Disk;
use crate::memory::table;
use crate::node::Backing;
use crate::world::World;

/// Bits of one page of the bitmap.
const PAGE_BITS: u64 = 32_768;

/// How metadata begins its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CreateAs {
    /// As `create-md` leaves it.
    JustCreated,
    /// Both nodes agree already that their empty disks are equal.
    Equal {
        /// Common generation.
        uuid: u64,
        /// Size agreed on, if it is less than the disks have.
        size: Option<u64>,
    },
}

/// Creates metadata, as the tool does.
pub fn create_metadata(disk: &mut Disk, create: CreateAs) -> Option<Layout> {
    let size = SectorCount(disk.size_sectors);
    let device = disk.metadata_sectors();
    let layout = Layout::compute(disk.placement(), device, Striping::DEFAULT).ok()?;
    let mut superblock = Superblock::new(&layout);
    let usable = layout.usable(size);
    let fill = match create {
        CreateAs::JustCreated => 0xff,
        CreateAs::Equal { uuid, size } => {
            superblock.la_size = SectorCount(size.unwrap_or(usable.0));
            superblock.uuids.current = Uuid(uuid);
            superblock.flags = MdFlags::AL_CLEAN
                .or(MdFlags::CONSISTENT)
                .or(MdFlags::WAS_UP_TO_DATE);
            0
        }
    };
    for page in 0..usable.0.div_ceil(8).div_ceil(PAGE_BITS) {
        let (sector, _) = layout.bitmap_page(BitmapPage(page))?;
        disk.put_block(sector.0, Rc::new([fill; 4096]));
    }
    initialise_ring(disk, &layout)?;
    write_superblock(disk, &layout, &superblock)?;
    Some(layout)
}

fn write_superblock(disk: &mut Disk, layout: &Layout, superblock: &Superblock) -> Option<()> {
    let mut block = [0; 4096];
    superblock.encode(&mut block).ok()?;
    disk.put_block(layout.superblock().0, Rc::new(block));
    Some(())
}

/// Reads the superblock.
fn read_superblock(disk: &Disk) -> Option<(Superblock, Layout)> {
    let (placement, device) = (disk.placement(), disk.metadata_sectors());
    let sector = placement.superblock_of(device)?;
    let superblock = Superblock::decode(disk.block(sector.0).as_slice()).ok()?;
    let layout = Layout::from_superblock(placement, device, &superblock).ok()?;
    Some((superblock, layout))
}

/// Tells whether the metadata on a disk, which its cache need not have written to the medium, call
/// the data consistent.
pub(super) fn is_called_consistent(disk: &Disk) -> bool {
    read_superblock(disk)
        .is_some_and(|(superblock, _)| superblock.flags.contains(MdFlags::CONSISTENT))
}

/// Returns the current UUID in the metadata on a disk, without the bit for the role.
pub fn generation_on_disk(disk: &Disk) -> Option<u64> {
    let (superblock, _) = read_superblock(disk)?;
    Some(superblock.uuids.current.0 & !1)
}

/// Tells by the metadata on two disks whether the first one holds a generation that was begun on
/// the second one's.
pub fn is_later(disk: &Disk, than: &Disk) -> bool {
    let base = read_superblock(disk).map(|(superblock, _)| superblock.uuids.bitmap.0 & !1);
    base.is_some_and(|base| base != 0) && base == generation_on_disk(than)
}

/// What the metadata on a disk say about blocks that may differ.
#[derive(Clone, Debug)]
pub struct Marks {
    layout: Layout,
    everything: bool,
    extents: Vec<u32>,
}

impl Marks {
    /// Tells whether the metadata mark this block of 4 KiB.
    pub fn mark(&self, disk: &Disk, block: u64) -> bool {
        let extent = (block / 1024) as u32;
        if self.everything || self.extents.contains(&extent) {
            return true;
        }
        let Some((sector, _)) = self.layout.bitmap_page(BitmapPage(block / PAGE_BITS)) else {
            return true;
        };
        let bit = (block % PAGE_BITS) as usize;
        disk.block(sector.0)[bit / 8] >> (bit % 8) & 1 != 0
    }
}

/// Reads what a node that boots now would know about its disk: the bitmap, the activity log of a
/// former Primary, and whether a full resync is due anyway. `None`: the metadata are unreadable.
pub fn marks_on_disk(disk: &Disk) -> Option<Marks> {
    let (superblock, layout) = read_superblock(disk)?;
    let fresh = superblock.uuids.current.0 & !1 == 4;
    let applies = superblock.is_unclean() && superblock.flags.contains(MdFlags::PRIMARY_IND);
    let extents = if applies {
        active_extents(disk, &layout).ok()?
    } else {
        Vec::new()
    };
    Some(Marks {
        layout,
        everything: fresh || superblock.flags.contains(MdFlags::FULL_SYNC),
        extents,
    })
}

/// Slots of an activity log at most: the simulated administrators ask for fewer.
const SLOTS_HERE: usize = 128;

/// Replays the activity log.
fn active_extents(disk: &Disk, layout: &Layout) -> Result<Vec<u32>, String> {
    let mut slots = [None; SLOTS_HERE];
    let mut lost = false;
    let mut block = [0; 4096];
    let mut source = Source {
        striping: layout.striping(),
        read: |index: u32, to: &mut [u8]| -> Result<(), String> {
            let sector = layout.al_block(index).ok_or("beyond the ring")?;
            to.copy_from_slice(disk.block(sector.0).as_slice());
            Ok(())
        },
        crc: digest::transaction,
        ignored: |_| lost = true,
        block: &mut block,
    };
    let outcome = replay(&mut source, &mut slots)?;
    if lost || !outcome.is_usable() {
        return Err(format!("the activity log is not usable: {outcome:?}"));
    }
    let mut extents: Vec<u32> = slots.iter().flatten().map(|extent| extent.0).collect();
    extents.sort_unstable();
    extents.dedup();
    Ok(extents)
}

/// Applies the activity log to the bitmap, as `drbdmeta apply-al` does before an attach
/// (`reference/metadata.md` 3.6). Returns the extents that were active, or what is wrong with the
/// metadata.
pub fn apply_activity_log(disk: &mut Disk) -> Result<Vec<u32>, String> {
    let (mut superblock, layout) =
        read_superblock(disk).ok_or_else(|| "the superblock is unreadable".to_string())?;
    if !superblock.is_unclean() {
        return Ok(Vec::new());
    }
    let extents = active_extents(disk, &layout)?;
    if superblock.flags.contains(MdFlags::PRIMARY_IND) {
        mark_extents(disk, &layout, &extents)?;
    }
    // The driver counts its transactions from 0 and never reads the ring.
    initialise_ring(disk, &layout).ok_or("beyond the ring")?;
    superblock.magic = Magic::Clean;
    superblock.flags = superblock.flags.or(MdFlags::AL_CLEAN);
    write_superblock(disk, &layout, &superblock).ok_or("superblock")?;
    Ok(extents)
}

fn initialise_ring(disk: &mut Disk, layout: &Layout) -> Option<()> {
    let mut block = [0; 4096];
    drbd_format::disk::al_transaction::encode_initialised(&mut block).ok()?;
    let block = Rc::new(block);
    for index in 0..layout.striping().blocks() {
        let sector = layout.al_block(index)?;
        disk.put_block(sector.0, block.clone());
    }
    Some(())
}

fn mark_extents(disk: &mut Disk, layout: &Layout, extents: &[u32]) -> Result<(), String> {
    let usable = layout.usable(SectorCount(disk.size_sectors));
    let len = ByteCount(usable.0.div_ceil(8).div_ceil(PAGE_BITS) * 4096);
    for extent in extents {
        let Some((start, end)) = extent_bytes(drbd_format::units::AlExtent(*extent), len) else {
            continue;
        };
        let page = BitmapPage(start / 4096);
        let (sector, _) = layout.bitmap_page(page).ok_or("beyond the bitmap")?;
        let mut bytes = *disk.block(sector.0);
        let from = (start % 4096) as usize;
        bytes[from..from + (end - start) as usize].fill(0xff);
        disk.put_block(sector.0, Rc::new(bytes));
    }
    Ok(())
}

impl World {
    /// Opens the disk of a volume and lends the memory it needs; returns the command that
    /// attaches it. `Err`: the code that the module would answer with.
    pub(crate) fn open_disk(
        &mut self,
        node: usize,
        volume: VolumeIndex,
        config: DiskConfig,
        log_slots: Option<usize>,
    ) -> Result<AdminRequest, i32> {
        if self.has_backing(node, volume) {
            return Err(124);
        }
        let disk = &self.nodes[node].disks[volume.slot()];
        let (superblock, layout) = read_superblock(disk).ok_or(119)?;
        if superblock.is_unclean() {
            return Err(165);
        }
        let usable = layout.usable(SectorCount(disk.size_sectors));
        let (volatile, placement) = (disk.volatile, disk.placement());
        let config = DiskConfig {
            al_extents: u32::from(layout.striping().slots_clamped(config.al_extents)),
            ..config
        };
        let pages = usable.0.div_ceil(8).div_ceil(PAGE_BITS);
        let memory = DiskMemory {
            al_extents: table(log_slots.unwrap_or(config.al_extents as usize)),
            resync_extents: table(RESYNC_EXTENTS),
            bitmap: vec![0; pages as usize * 512],
            pages: table(pages as usize),
            al_place: AlPlace {
                sector: layout.activity_log(),
                striping: layout.striping(),
            },
            volatile_cache: volatile,
        };
        self.with(node, |alive, _| {
            alive.core.lend_disk(volume, memory).is_ok()
        });
        self.nodes[node].disks[volume.slot()].open();
        if let Some(alive) = self.alive(node) {
            alive.devices[volume.slot()].backing = Some(Backing {
                layout,
                pages: pages as u32,
                md_flushes: config.md_flushes,
            });
        }
        let facts = facts(&superblock, &layout, placement, usable);
        Ok(AdminRequest::Attach {
            volume,
            config,
            facts,
        })
    }

    /// Usable sectors of a disk of a node.
    pub(crate) fn usable(&self, node: usize, volume: usize) -> Option<u64> {
        let disk = &self.nodes[node].disks[volume];
        let (_, layout) = read_superblock(disk)?;
        Some(layout.usable(SectorCount(disk.size_sectors)).0)
    }

    /// An attach was refused: the disk is closed again.
    pub(crate) fn release_disk(&mut self, node: usize, volume: VolumeIndex) {
        if self.nodes[node].disks[volume.slot()].running() > 0 {
            // The core gives it up itself, when it is done with it.
            return;
        }
        self.with(node, |alive, _| {
            alive.devices[volume.slot()].backing = None;
            drop(alive.core.take_disk(volume));
        });
    }
}

fn facts(
    superblock: &Superblock,
    layout: &Layout,
    placement: Placement,
    usable: SectorCount,
) -> BackingFacts {
    let uuids = superblock.uuids;
    BackingFacts {
        uuids: [
            uuids.current.0,
            uuids.bitmap.0,
            uuids.history[0].0,
            uuids.history[1].0,
        ],
        device_uuid: superblock.device_uuid,
        flags: superblock.flags.0,
        la_size_sectors: superblock.la_size.0,
        la_peer_max_bio_bytes: superblock.la_peer_max_bio_bytes,
        max_capacity_sectors: usable.0,
        md_offset_sectors: layout.superblock().0,
        md_size_sectors: superblock.md_size_sect,
        al_offset_sectors: superblock.al_offset,
        bm_offset_sectors: superblock.bm_offset,
        al_stripes: layout.striping().stripes(),
        al_stripe_size_4k: layout.striping().stripe_blocks(),
        md_index: if placement.is_internal() { -1 } else { -2 },
        max_bio_bytes: 1 << 20,
        physical_block_bytes: 512,
        logical_block_bytes: 512,
        alignment_offset: 0,
        io_min_bytes: 512,
        io_opt_bytes: 0,
        discard: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applying_the_log_leaves_an_initialised_ring() {
        let mut disk = Disk::new(10_000, true);
        let layout = create_metadata(&mut disk, CreateAs::JustCreated).unwrap();
        let ring = |disk: &Disk| {
            let blocks = 0..layout.striping().blocks();
            let block = |index| *disk.block(layout.al_block(index).unwrap().0);
            blocks.map(block).collect::<Vec<[u8; 4096]>>()
        };
        let fresh = ring(&disk);
        let (mut superblock, _) = read_superblock(&disk).unwrap();
        superblock.flags = MdFlags(superblock.flags.0 & !MdFlags::AL_CLEAN.0);
        write_superblock(&mut disk, &layout, &superblock).unwrap();
        let torn = layout.al_block(0).unwrap();
        disk.put_block(torn.0, Rc::new([7; 4096]));
        assert_eq!(apply_activity_log(&mut disk), Ok(Vec::new()));
        assert_eq!(ring(&disk), fresh);
    }
}
