//! Power is lost at every write of a command: what is on the device then?

use super::confirm::Confirm;
use super::create::{self, Wishes};
use super::device::{Access, Device};
use super::last_known::LastKnown;
use super::replay;
use super::restore::{self, Dump};
use super::store::{bytes, Found, Store};
use crate::report::Failure;
use drbd_format::disk::al_transaction::{encode, TransactionHead, Update};
use drbd_format::disk::layout::{Placement, Striping};
use drbd_format::disk::superblock::{Magic, MdFlags, Superblock};
use drbd_format::disk::BLOCK_BYTES;
use drbd_format::types::Uuid;
use drbd_format::units::{AlExtent, SectorCount};
use std::fs;
use std::path::PathBuf;

const SIZE: u64 = 2 << 20;
const CURRENT: Uuid = Uuid(0x1122_3344_5566_7788);
const YES: Confirm = Confirm {
    force: true,
    quiet: true,
    suppressed: 0,
};

/// A file that is used as device, and the folder of what is known about it.
struct Disk(PathBuf);

impl Disk {
    /// Makes the disk of a Primary that crashed: bits are set, and extents are in the log.
    fn crashed(name: &str) -> Self {
        let folder = format!("drbd-crash-{name}-{}", std::process::id());
        let disk = Self(std::env::temp_dir().join(folder));
        fs::create_dir_all(&disk.0).unwrap();
        disk.set_size(SIZE);
        let store = disk.store();
        let layout = store.layout(Striping::DEFAULT).unwrap();
        let mut superblock = Superblock::new(&layout);
        superblock.uuids.current = CURRENT;
        superblock.la_size = SectorCount(layout.first().0);
        superblock.flags = MdFlags::CONSISTENT
            .or(MdFlags::WAS_UP_TO_DATE)
            .or(MdFlags::PRIMARY_IND);
        superblock.magic = Magic::Unclean;
        let found = Found { layout, superblock };
        let (log, bitmap) = areas(&found);
        store.device.write(log.0, &pattern(0xa1, log.1)).unwrap();
        store
            .device
            .write(bitmap.0, &pattern(0xb1, bitmap.1))
            .unwrap();
        store.write_superblock(&found).unwrap();
        disk
    }

    fn set_size(&self, bytes: u64) {
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.0.join("device"))
            .unwrap();
        file.set_len(bytes).unwrap();
    }

    fn store(&self) -> Store {
        let access = Access {
            exclusive: false,
            files: true,
            dry_run: false,
        };
        let path = self.0.join("device");
        let device = Device::open(path.to_str().unwrap(), access)
            .unwrap()
            .unwrap();
        let last_known = LastKnown::read(&self.0, Some(3), false);
        Store::new(device, Placement::Internal, last_known).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Place and length of activity log and bitmap.
fn areas(found: &Found) -> ((u64, usize), (u64, usize)) {
    let log_len = found.layout.striping().blocks() as usize * BLOCK_BYTES;
    let bitmap_len = usize::try_from(bytes(found.layout.bitmap_sectors().0)).unwrap();
    let log = (bytes(found.layout.activity_log().0), log_len);
    (log, (bytes(found.layout.bitmap().0), bitmap_len))
}

fn pattern(first: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| first ^ (at / 128) as u8).collect()
}

/// Whether superblock, log and bitmap are those of the Primary that crashed.
fn is_untouched(store: &Store, found: &Found) -> bool {
    let (log, bitmap) = areas(found);
    found.superblock.magic == Magic::Unclean
        && found.superblock.uuids.current == CURRENT
        && store.device.read(log.0, log.1).unwrap() == pattern(0xa1, log.1)
        && store.device.read(bitmap.0, bitmap.1).unwrap() == pattern(0xb1, bitmap.1)
}

/// Runs `command` until it loses no power any more, and `check` after each time.
fn at_every_write(
    name: &str,
    prepare: impl Fn(&Disk),
    command: impl Fn(&Store) -> Result<(), Failure>,
    check: impl Fn(&Store, &str),
) {
    for writes in 0..100 {
        let disk = Disk::crashed(name);
        prepare(&disk);
        let store = disk.store();
        store.device.lose_power_after(writes);
        let is_done = command(&store).is_ok();
        check(
            &disk.store(),
            &format!("{name}: power lost after {writes} writes"),
        );
        if is_done {
            assert!(writes > 2, "{name} writes");
            return;
        }
    }
    panic!("{name} does not end");
}

/// Wherever the device ended before and ends now, the areas overlapping or not.
#[test]
fn metadata_that_is_being_moved_is_never_lost() {
    for grown in [4096, 8192, 16_384, 40_960, 65_536, 1 << 20] {
        at_every_write(
            &format!("move by {grown}"),
            |disk| disk.set_size(SIZE + grown),
            |store| {
                let old = store.find_at_last_known()?.unwrap();
                restore::move_to_end(store, &old).map(|_| ())
            },
            |store, when| {
                let found = match store.find_quietly().unwrap() {
                    Some(found) => found,
                    None => store.find_at_last_known().unwrap().expect(when),
                };
                assert_eq!(found.superblock.uuids.current, CURRENT, "{when}");
                let needs_full_sync = found.superblock.flags.contains(MdFlags::FULL_SYNC);
                assert!(needs_full_sync || is_untouched(store, &found), "{when}");
            },
        );
    }
}

/// A superblock that vouches for a bitmap or log that is another's would lose what they knew.
#[test]
fn a_superblock_never_stands_beside_the_bitmap_of_another() {
    let check = |new: Uuid| {
        move |store: &Store, when: &str| {
            if let Some(found) = store.find_quietly().unwrap() {
                let is_new = found.superblock.uuids.current == new;
                assert!(is_new || is_untouched(store, &found), "{when}");
            }
        }
    };
    let create = |store: &Store| {
        let mut confirm = YES;
        create::create(store, &Wishes::default(), &mut confirm).map(|_| ())
    };
    at_every_write("create", |_| (), create, check(Uuid::JUST_CREATED));
    let dump = Dump {
        uuids: [0x8877_6655_4433_2210, 0, 0, 0],
        flags: MdFlags::AL_CLEAN.0,
        al_stripes: 1,
        al_stripe_blocks: 8,
        bitmap: vec![(512, 0)],
        ..Dump::default()
    };
    let restore = |store: &Store| {
        let mut confirm = YES;
        restore::restore(store, &dump, None, &mut confirm, false).map(|_| ())
    };
    let new = Uuid(0x8877_6655_4433_2210);
    at_every_write("restore", |_| (), restore, check(new));
}

/// A full log whose every transaction moves another extent into the active set.
fn full_log(len: usize) -> Vec<u8> {
    let mut log = vec![0; len];
    for (block, number) in log.chunks_mut(BLOCK_BYTES).zip(0..) {
        let head = TransactionHead {
            number,
            context_size: 67,
            context_start: 0,
        };
        let update = Update {
            slot: u16::try_from(number).unwrap(),
            value: Some(AlExtent(number)),
        };
        let before = |slot: u16| (slot < update.slot).then_some(AlExtent(slot.into()));
        encode(head, &[update], before, replay::crc, block).unwrap();
    }
    log
}

/// The bits are on the disk before the first block of the log goes, and the last one to go is the
/// one whose loss is known to mean nothing.
#[test]
fn a_log_can_be_applied_once_more_wherever_that_was_interrupted() {
    let fill = |disk: &Disk| {
        let store = disk.store();
        let (log, bitmap) = areas(&store.find_quietly().unwrap().unwrap());
        store.device.write(log.0, &full_log(log.1)).unwrap();
        store.device.fill(bitmap.0, bitmap.1 as u64, 0).unwrap();
    };
    let apply = |store: &Store| {
        let found = store.find_quietly()?.unwrap();
        replay::apply(store, &found).map(|_| ())
    };
    at_every_write("apply", fill, apply, |store, when| {
        assert_eq!(apply(store), Ok(()), "{when}");
        let found = store.find_quietly().unwrap().unwrap();
        assert!(!found.superblock.is_unclean(), "{when}");
        let (_, bitmap) = areas(&found);
        let bits = store.device.read(bitmap.0, bitmap.1).unwrap();
        let (marked, rest) = bits.split_at(8 * 128);
        assert!(marked.iter().all(|byte| *byte == 0xff), "{when}");
        assert!(rest.iter().all(|byte| *byte == 0), "{when}");
    });
}

/// A device that grew by less than a block may need a larger bitmap in front of the same place.
#[test]
fn metadata_does_not_move_onto_data() {
    const EVEN: u64 = 128 << 20;
    let disk = Disk::crashed("onto data");
    disk.set_size(EVEN);
    let store = disk.store();
    let layout = store.layout(Striping::DEFAULT).unwrap();
    let mut superblock = Superblock::new(&layout);
    superblock.uuids.current = CURRENT;
    superblock.la_size = SectorCount(layout.first().0);
    store
        .write_superblock(&Found { layout, superblock })
        .unwrap();
    let last_data = bytes(layout.first().0) - BLOCK_BYTES as u64;
    let data = pattern(0xd1, BLOCK_BYTES);
    store.device.write(last_data, &data).unwrap();
    disk.set_size(EVEN + 512);
    let store = disk.store();
    assert!(store.find_quietly().unwrap().is_none());
    let old = store.find_at_last_known().unwrap().unwrap();
    let refused = restore::move_to_end(&store, &old).unwrap_err();
    assert_eq!(refused.code, 10);
    assert_eq!(store.device.read(last_data, BLOCK_BYTES).unwrap(), data);
    assert!(disk.store().find_at_last_known().unwrap().is_some());
}
