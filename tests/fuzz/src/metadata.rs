//! A damaged superblock: any 4 KiB, on a device of any size.
//!
//! Promises: what is accepted is written back as it was read; everything that the layout names
//! lies on the device and apart; an attach of what was accepted ends, one way or the other, and a
//! detach leaves nothing behind.

use drbd_core::config::DiskConfig;
use drbd_core::input::AdminRequest;
use drbd_core::link::VolumeNumber;
use drbd_format::disk::layout::{Layout, Placement, Striping};
use drbd_format::disk::superblock::Superblock;
use drbd_format::types::DiskState;
use drbd_format::units::{BitmapPage, SectorCount};

use crate::input::Input;
use crate::node::{Generation, Node, V};

/// Sectors above which the bitmap is not worth its memory here.
const ATTACH_MAX: u64 = 1 << 20;

/// Reads a superblock and attaches the disk.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.byte();
    let placement = match how & 3 {
        0 => Placement::Internal,
        1 => Placement::FlexibleExternal,
        _ => match Placement::from_index(i32::from(input.byte())) {
            Ok(placement) => placement,
            Err(_) => return,
        },
    };
    let device = SectorCount(match how >> 2 & 3 {
        0 => u64::from(input.u16()),
        1 => u64::from(input.u32()),
        2 => input.u64(),
        _ => 20_000,
    });
    let mut block = start(how, placement, device);
    for (to, from) in block.iter_mut().zip(input.rest) {
        // What was accepted stays so where the input is zero.
        *to ^= from;
    }
    let _ = Superblock::decode_clean(&block);
    let superblock = match Superblock::decode(&block) {
        Ok(superblock) => superblock,
        Err(error) => return assert_ne!(error.to_string(), ""),
    };
    let mut again = [0; 4096];
    assert!(superblock.encode(&mut again).is_ok());
    assert_eq!(Superblock::decode(&again), Ok(superblock));
    match Layout::from_superblock(placement, device, &superblock) {
        Ok(layout) => {
            check(&layout, device, &superblock);
            attach(&layout, device, &superblock);
        }
        Err(error) => assert_ne!(error.log_line(-1).to_string(), ""),
    }
}

/// A superblock that fits, if there is one.
fn start(how: u8, placement: Placement, device: SectorCount) -> [u8; 4096] {
    let mut block = [0; 4096];
    if how & 0x10 == 0 {
        if let Ok(layout) = Layout::compute(placement, device, Striping::DEFAULT) {
            let _ = Superblock::new(&layout).encode(&mut block);
        }
    }
    block
}

fn check(layout: &Layout, device: SectorCount, superblock: &Superblock) {
    let log = layout.activity_log().0..layout.activity_log().0 + layout.striping().sectors().0;
    let bitmap = layout.bitmap().0..layout.bitmap().0 + layout.bitmap_sectors().0;
    let block = layout.superblock().0..layout.superblock().0 + 8;
    for area in [&log, &bitmap, &block] {
        assert!(area.start >= layout.first().0, "{layout:?}");
        assert!(area.end <= device.0, "{layout:?} on {device:?}");
    }
    let apart = |a: &std::ops::Range<u64>, b: &std::ops::Range<u64>| {
        a.is_empty() || b.is_empty() || a.end <= b.start || b.end <= a.start
    };
    assert!(apart(&log, &bitmap) && apart(&log, &block) && apart(&bitmap, &block));
    let last = layout.striping().blocks() - 1;
    for index in [0, last] {
        let sector = layout.al_block(index).expect("in the ring").0;
        assert!(log.contains(&sector));
    }
    assert_eq!(layout.al_block(last + 1), None);
    let usable = layout.usable(device);
    assert!(usable.0 <= device.0);
    let pages = layout.bitmap_bits().pages();
    if pages > 0 {
        let (sector, len) = layout.bitmap_page(BitmapPage(pages - 1)).expect("a page");
        assert!(sector.0 + len.0 <= bitmap.end, "{layout:?}");
    }
    let _ = superblock;
}

/// What the shell does once it has read the superblock.
fn attach(layout: &Layout, device: SectorCount, superblock: &Superblock) {
    let usable = layout.usable(device);
    if superblock.is_unclean() || usable.0 > ATTACH_MAX {
        return;
    }
    let set = superblock.uuids;
    let generation = Generation {
        uuids: [
            set.current.0,
            set.bitmap.0,
            set.history[0].0,
            set.history[1].0,
        ],
        flags: superblock.flags.0,
        bitmap: 0x18,
    };
    let mut node = Node::new(1, [generation; 2]);
    node.admin(&AdminRequest::NewVolume {
        volume: V,
        number: VolumeNumber(0),
    });
    node.settle();
    node.attach_as(V, DiskConfig::DEFAULT, |facts| {
        facts.la_size_sectors = superblock.la_size.0;
        facts.la_peer_max_bio_bytes = superblock.la_peer_max_bio_bytes;
        facts.max_capacity_sectors = usable.0;
        facts.md_offset_sectors = layout.superblock().0;
        facts.md_size_sectors = superblock.md_size_sect;
        facts.al_offset_sectors = superblock.al_offset;
        facts.bm_offset_sectors = superblock.bm_offset;
        facts.al_stripes = layout.striping().stripes();
        facts.al_stripe_size_4k = layout.striping().stripe_blocks();
        facts.md_index = -1;
    });
    node.settle();
    assert_eq!(node.answers.len(), 2, "no answer to the attach");
    let attached = node.state().disk;
    assert!(attached == DiskState::Diskless || attached >= DiskState::Inconsistent);
    node.admin(&AdminRequest::Detach {
        volume: V,
        force: false,
    });
    node.settle();
    assert_eq!(node.state().disk, DiskState::Diskless);
    assert!(node.core.is_disk_gone(V));
    node.check_nothing_left();
}
