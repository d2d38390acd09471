//! What a volume has on its node: a disk in memory, how that behaves, and how the device is.

use std::collections::{HashMap, VecDeque};
use std::ops::{Deref, DerefMut};

use drbd_core::action::Action;
use drbd_core::input::{BackingFacts, Input};
use drbd_core::link::VolumeIndex;
use drbd_core::request::IoError;
use drbd_format::disk::superblock::Superblock;
use drbd_format::units::Sector;

use super::{told_of, Node};

/// What survives a restart of the node.
pub(crate) struct Disk {
    pub(crate) data: Vec<u8>,
    pub(crate) superblock: Option<Vec<u8>>,
    pub(crate) bitmap: HashMap<u32, Vec<u8>>,
}

impl Disk {
    pub(crate) fn new(sectors: u64, fill: u8) -> Self {
        Self {
            data: vec![fill; sectors as usize * 512],
            superblock: None,
            bitmap: HashMap::new(),
        }
    }

    pub(super) fn put(&mut self, sector: Sector, data: &[u8]) {
        let at = sector.0 as usize * 512;
        self.data[at..at + data.len()].copy_from_slice(data);
    }
}

pub(crate) struct Backing {
    pub(crate) disk: Disk,
    /// The core has the memory for the disk.
    pub(crate) lent: bool,
    pub(crate) read_only: bool,
    pub(crate) capacity: u64,
    pub(crate) max_bio_bytes: u32,
    /// The disk can discard.
    pub(crate) discards: bool,
    /// Largest discard and write-zeroes in bytes.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) most: [u32; 2],
    pub(crate) ended: Vec<Result<(), IoError>>,
    /// Every superblock written, in order.
    pub(crate) superblocks: Vec<Superblock>,
    /// Whether the data device was flushed before each of them.
    pub(crate) flushed: Vec<bool>,
    /// Set while metadata writes are held back.
    pub(crate) hold_metadata: bool,
    /// Metadata writes fail.
    pub(crate) fail_metadata: bool,
    /// Number of metadata writes that are held back.
    held: usize,
    /// Set while writes of the bitmap are held back.
    pub(crate) hold_bitmap: bool,
    /// These writes, oldest first, and whether all of the bitmap is meant.
    pub(crate) held_bitmaps: VecDeque<bool>,
    /// Set while the worker of the volume does not get to the activity log.
    pub(crate) hold_log: bool,
    /// Transactions of the activity log fail.
    pub(crate) fail_log: bool,
    /// Requests of applications to the local disk fail.
    pub(crate) fail_local: bool,
    /// Requests of applications stay with the local disk.
    pub(crate) hold_local: bool,
    /// Requests of the peer to the local disk fail.
    pub(crate) fail_peer_io: bool,
}

impl Backing {
    /// The first ones have a disk of this size, and each has its own data.
    pub(super) fn all(used: u8, sectors: u64, fill: u8) -> [Self; 2] {
        let size = |at: u8| if at < used { sectors } else { 0 };
        [0, 1].map(|at| Self::new(size(at), fill.wrapping_add(at * 0x40)))
    }

    fn new(sectors: u64, fill: u8) -> Self {
        Self {
            disk: Disk::new(sectors, fill),
            lent: false,
            read_only: true,
            capacity: 0,
            max_bio_bytes: 0,
            discards: false,
            most: [0; 2],
            ended: Vec::new(),
            superblocks: Vec::new(),
            flushed: Vec::new(),
            hold_metadata: false,
            fail_metadata: false,
            held: 0,
            hold_bitmap: false,
            held_bitmaps: VecDeque::new(),
            hold_log: false,
            fail_log: false,
            fail_local: false,
            hold_local: false,
            fail_peer_io: false,
        }
    }

    pub(crate) fn facts(&self) -> BackingFacts {
        let sectors = self.disk.data.len() as u64 / 512;
        let mut facts = BackingFacts {
            uuids: [4, 0, 0, 0],
            device_uuid: 7,
            flags: 0x80,
            la_size_sectors: 0,
            la_peer_max_bio_bytes: 0,
            max_capacity_sectors: sectors,
            md_offset_sectors: 0,
            md_size_sectors: 2048,
            al_offset_sectors: 8,
            bm_offset_sectors: 72,
            al_stripes: 1,
            al_stripe_size_4k: 8,
            md_index: -2,
            max_bio_bytes: 1 << 20,
            physical_block_bytes: 4096,
            logical_block_bytes: 512,
            alignment_offset: 0,
            io_min_bytes: 4096,
            io_opt_bytes: 0,
            discard: self.discards,
        };
        if let Some(block) = &self.disk.superblock {
            let superblock = Superblock::decode(block).expect("we wrote it");
            let set = superblock.uuids;
            let [h0, h1] = set.history;
            facts.uuids = [set.current.0, set.bitmap.0, h0.0, h1.0];
            facts.flags = superblock.flags.0;
            facts.la_size_sectors = superblock.la_size.0;
            facts.la_peer_max_bio_bytes = superblock.la_peer_max_bio_bytes;
        }
        facts
    }

    /// Changes what the disk says about itself.
    pub(crate) fn edit_superblock(&mut self, change: impl FnOnce(&mut Superblock)) {
        let block = self.disk.superblock.as_mut().expect("there is one");
        let mut superblock = Superblock::decode(block).expect("we wrote it");
        change(&mut superblock);
        superblock.encode(block).expect("a block");
    }
}

/// Most tests know one volume only.
impl Deref for Node {
    type Target = Backing;

    fn deref(&self) -> &Backing {
        &self.volumes[0]
    }
}

impl DerefMut for Node {
    fn deref_mut(&mut self) -> &mut Backing {
        &mut self.volumes[0]
    }
}

impl Node {
    /// Writes of the bitmap are not held back any more.
    pub(crate) fn release_bitmap(&mut self) {
        for v in self.indices() {
            self.release_bitmap_of(v);
        }
    }

    pub(crate) fn release_bitmap_of(&mut self, v: VolumeIndex) {
        self.volume(v).hold_bitmap = false;
        while !self.volume(v).held_bitmaps.is_empty() {
            self.write_held_bitmap_of(v);
        }
    }

    /// Metadata writes are not held back any more.
    pub(crate) fn release_metadata(&mut self) {
        for v in self.indices() {
            self.release_metadata_of(v);
        }
    }

    pub(crate) fn release_metadata_of(&mut self, volume: VolumeIndex) {
        self.volume(volume).hold_metadata = false;
        let ok = true;
        for _ in 0..std::mem::take(&mut self.volume(volume).held) {
            self.core
                .handle(&Input::MetadataWritten { volume, ok }, self.now);
        }
    }

    /// What is under way on the disk comes to its end.
    pub(super) fn await_disk(&mut self, v: VolumeIndex) {
        let volume = self.volume(v);
        let hold = (volume.hold_metadata, volume.hold_bitmap);
        self.release_metadata_of(v);
        self.release_bitmap_of(v);
        let volume = self.volume(v);
        (volume.hold_metadata, volume.hold_bitmap) = hold;
    }

    /// The oldest write of the bitmap that is held back goes on.
    pub(crate) fn write_held_bitmap(&mut self) {
        self.write_held_bitmap_of(super::V);
    }

    fn write_held_bitmap_of(&mut self, volume: VolumeIndex) {
        let all = self.volume(volume).held_bitmaps.pop_front();
        let all = all.expect("a write");
        let hold = std::mem::take(&mut self.volume(volume).hold_bitmap);
        self.perform_metadata(Action::WriteBitmap { volume, all });
        self.volume(volume).hold_bitmap = hold;
    }

    pub(super) fn perform_metadata(&mut self, action: Action) {
        match action {
            Action::ReadBitmap { volume } => {
                for (page, bytes) in &self.volumes[volume.slot()].disk.bitmap {
                    self.core.load_bitmap_page(volume, *page, bytes);
                }
                let read = Input::BitmapRead { volume, ok: true };
                self.core.handle(&read, self.now);
            }
            Action::WriteBitmap { volume, all } if self.volume(volume).hold_bitmap => {
                self.volume(volume).held_bitmaps.push_back(all);
            }
            Action::WriteBitmap { volume, all } => {
                if all {
                    self.core.mark_bitmap_changed(volume);
                }
                let mut from = 0;
                while let Some(page) = self.core.next_dirty_page(volume, from) {
                    self.write_page(volume, page);
                    from = page + 1;
                }
                let written = Input::BitmapWritten { volume, ok: true };
                self.core.handle(&written, self.now);
            }
            Action::WriteMetadata { volume } => self.write_metadata(volume),
            _ => {}
        }
    }

    fn write_metadata(&mut self, volume: VolumeIndex) {
        let mut block = vec![0; 4096];
        let ok = !self.volume(volume).fail_metadata;
        let there = self.core.encode_superblock(volume, &mut block).is_some();
        let flush = self.core.has_unstable_blocks(volume);
        let backing = &mut self.volumes[volume.slot()];
        if there && ok {
            let superblock = Superblock::decode(&block).expect("valid");
            self.told.push(told_of(&superblock));
            backing.superblocks.push(superblock);
            backing.flushed.push(flush);
            backing.disk.superblock = Some(block);
        }
        if backing.hold_metadata && there {
            backing.held += 1;
        } else {
            let written = Input::MetadataWritten { volume, ok };
            self.core.handle(&written, self.now);
        }
    }

    pub(super) fn write_page(&mut self, volume: VolumeIndex, page: u32) {
        let mut bytes = vec![0; 4096];
        let flush = self.core.bitmap_page(volume, page, &mut bytes);
        let set: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
        self.told
            .push(format!("bitmap page {page}: {set} bits, flush {flush}"));
        self.volume(volume).disk.bitmap.insert(page, bytes);
        self.core.bitmap_page_written(volume, page, true, self.now);
    }
}
