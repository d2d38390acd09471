//! `restore-md` and `verify-dump`: metadata from text; moving it after a device grew.

mod parse;

use super::confirm::Confirm;
use super::existing;
use super::store::{bytes, Found, Store};
use crate::report::{Failure, Outcome};
use drbd_format::disk::layout::Striping;
use drbd_format::disk::superblock::{Magic, MdFlags, Superblock};
use drbd_format::disk::BLOCK_BYTES;
use drbd_format::types::{Uuid, UuidSet};
use drbd_format::units::SectorCount;
pub(crate) use parse::Dump;

/// Exit code if the user said no.
const RC_CANCELLED: u8 = 1;

/// Exit code for a dump that cannot be used.
const RC_PARSE: u8 = 10;

/// Exit code if metadata would take the place of data.
const RC_ROOM: u8 = 10;

/// Slots of the activity log as create-md writes them.
const AL_EXTENTS: u32 = 257;

/// Words of the bitmap that are written at once.
const WORDS_AT_ONCE: usize = 1 << 16;

/// Reads a dump from a file.
pub(crate) fn read(path: &str) -> Result<Dump, Failure> {
    let failed = |error: &std::io::Error| {
        let reason = crate::netlink::request::strerror(error);
        Failure::local(format!("open('{path}') failed: {reason}"))
    };
    let text = std::fs::read(path).map_err(|error| failed(&error))?;
    Dump::parse(&text).map_err(|error| Failure::new(RC_PARSE, error))
}

/// Writes the metadata that a dump describes.
pub(crate) fn restore(
    store: &Store,
    dump: &Dump,
    striping: Option<Striping>,
    confirm: &mut Confirm,
    ignore_sanity_checks: bool,
) -> Outcome {
    let is_in_place = store.find()?.is_some() || store.other_version()?.is_some();
    if is_in_place && !confirm.ask("Valid meta-data in place, overwrite?") {
        return Err(Failure::new(RC_CANCELLED, ""));
    }
    eprintln!("reinitializing");
    let from_dump = Striping::new(dump.al_stripes, dump.al_stripe_blocks)
        .map_err(|error| Failure::new(RC_PARSE, error.to_string()))?;
    if striping.is_some_and(|striping| striping != from_dump) {
        eprintln!("override activity log striping from commandline");
    }
    let layout = store.layout(striping.unwrap_or(from_dump))?;
    existing::check(store, &layout, confirm, ignore_sanity_checks)?;
    let [current, bitmap, younger, older] = dump.uuids.map(Uuid);
    let superblock = Superblock {
        la_size: SectorCount(dump.la_size_sect),
        uuids: UuidSet {
            current,
            bitmap,
            history: [younger, older],
        },
        device_uuid: dump.device_uuid,
        flags: MdFlags(dump.flags),
        magic: Magic::Clean,
        al_nr_extents: AL_EXTENTS,
        la_peer_max_bio_bytes: dump.la_peer_max_bio_bytes,
        ..Superblock::new(&layout)
    };
    let found = Found { layout, superblock };
    // The old superblock must not vouch for this bitmap.
    store.erase_superblock(&layout)?;
    write_bitmap(store, &found, dump)?;
    // Old transactions must not win a later replay.
    store.initialise_log(&layout)?;
    store.write_superblock(&found)?;
    store.device.say_done("Successfully restored meta data");
    Ok(0)
}

fn write_bitmap(store: &Store, found: &Found, dump: &Dump) -> Result<(), Failure> {
    let start = bytes(found.layout.bitmap().0);
    let room = usize::try_from(bytes(found.layout.bitmap_sectors().0)).unwrap_or(usize::MAX);
    let mut at = 0;
    let mut pending: Vec<u8> = Vec::new();
    let mut is_cut = false;
    let mut flush = |pending: &mut Vec<u8>, at: &mut usize| -> Result<(), Failure> {
        let fits = pending.len().min(room - *at);
        is_cut |= fits < pending.len();
        if fits > 0 {
            store.device.write(start + *at as u64, &pending[..fits])?;
        }
        *at += fits;
        pending.clear();
        Ok(())
    };
    for (count, word) in &dump.bitmap {
        for _ in 0..*count {
            pending.extend_from_slice(&word.to_le_bytes());
            if pending.len() >= WORDS_AT_ONCE * 8 {
                flush(&mut pending, &mut at)?;
                if at == room {
                    break;
                }
            }
        }
    }
    let whole = pending.len().next_multiple_of(BLOCK_BYTES);
    pending.resize(whole, 0);
    flush(&mut pending, &mut at)?;
    if is_cut {
        eprintln!("Bitmap info too large, truncated!");
    }
    Ok(())
}

/// Moves internal metadata from where it was to the present end of the device; returns what is
/// there then, or would be after more than a dry run.
pub(crate) fn move_to_end(store: &Store, old: &Found) -> Result<Found, Failure> {
    eprintln!("Moving the internal meta data to its proper location");
    let layout = store.layout(old.layout.striping())?;
    let data_sectors = old.superblock.la_size.0;
    if layout.first().0 < data_sectors {
        let room = layout.first().0;
        return Err(Failure::new(
            RC_ROOM,
            format!("Not moved: {data_sectors} sectors of data, {room} in front of the meta data."),
        ));
    }
    // All is read before anything is written: old and new place may overlap.
    let log_len = layout.striping().blocks() as usize * BLOCK_BYTES;
    let log = store
        .device
        .read(bytes(old.layout.activity_log().0), log_len)?;
    let used = usize::try_from(store.bitmap_len(old)).unwrap_or(0);
    let bitmap = store.device.read(bytes(old.layout.bitmap().0), used)?;
    let superblock = Superblock {
        md_size_sect: layout.md_size_sect(),
        al_offset: layout.al_offset(),
        bm_offset: layout.bm_offset(),
        ..old.superblock
    };
    let found = Found { layout, superblock };
    let old_start = bytes(old.layout.first().0);
    let old_end = bytes(old.layout.superblock().0) + BLOCK_BYTES as u64;
    let new_start = bytes(layout.first().0);
    if new_start < old_end {
        // Where the areas overlap the old superblock may be overwritten. Until all is at its
        // place, the new one says that nothing but itself is to be trusted.
        let mut on_the_way = found;
        on_the_way.superblock.flags = superblock.flags.or(MdFlags::FULL_SYNC);
        store.write_superblock(&on_the_way)?;
    }
    let bitmap_len = bytes(layout.bitmap_sectors().0);
    let start = bytes(layout.bitmap().0);
    let used = used as u64;
    store.device.write(bytes(layout.activity_log().0), &log)?;
    store.device.write(start, &bitmap)?;
    store
        .device
        .fill(start + used, bitmap_len.saturating_sub(used), 0)?;
    store.write_superblock(&found)?;
    store
        .device
        .say_done("Internal drbd meta data successfully moved.");
    store.device.fill(
        old_start,
        old_end.min(new_start).saturating_sub(old_start),
        0,
    )?;
    store.device.flush()?;
    store.device.say_done("Old meta data region zeroed.");
    Ok(found)
}
