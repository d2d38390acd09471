//! `apply-al`: after a crash, marks everything that may have been in flight as out of sync.
//!
//! Rules and order of the writes: `reference/metadata.md` 3.6. A crash in the middle leaves a state
//! from which the same command gives the same result: bits, log and superblock reach the disk one
//! after the other.

use super::store::{bytes, Found, Store};
use crate::report::{kib, Failure, Outcome};
use drbd_format::disk::al_replay::{self, Source, SLOTS_LEN};
use drbd_format::disk::bitmap::extent_bytes;
use drbd_format::disk::layout::Layout;
use drbd_format::disk::superblock::{Magic, MdFlags};
use drbd_format::disk::BLOCK_BYTES;
use drbd_format::units::{AlExtent, ByteCount};

/// Exit code if the metadata does not fit the device.
const RC_TOO_SMALL: u8 = 10;

/// Exit code if there is no activity log.
const RC_NO_LOG: u8 = 1;

/// Exit code if the activity log contradicts itself.
const RC_INCONSISTENT: u8 = 2;

/// First word of the log of newer major versions in persistent memory.
const PERSISTENT_MEMORY_MAGIC: [u8; 4] = [0x6a, 0xa6, 0x67, 0xa6];

/// KiB of data that one bit of the bitmap covers.
const KIB_PER_BIT: u64 = 4;

/// Checksum function of the activity log: CRC-32C without inversions.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(u32::MAX, bytes)
}

/// Applies the activity log and marks the metadata as clean.
pub(crate) fn apply(store: &Store, found: &Found) -> Outcome {
    let was_primary = found.superblock.flags.contains(MdFlags::PRIMARY_IND);
    // What does not fit would be lost for good: the log is empty afterwards.
    Layout::from_superblock(store.placement, store.sectors(), &found.superblock)
        .map_err(|error| Failure::new(RC_TOO_SMALL, error.log_line(store.index()).to_string()))?;
    let needs_full_sync = found.superblock.flags.contains(MdFlags::FULL_SYNC);
    let log = read_log(store, found)?;
    match (log.verdict, was_primary && !needs_full_sync) {
        (Ok(()), _) => {}
        (Err(failure), true) => return Err(failure),
        (Err(failure), false) => {
            eprintln!("{}\nError ignored, no need to apply the AL", failure.text);
        }
    }
    if was_primary && log.is_applied {
        mark(store, found, &log.extents)?;
    }
    if !log.is_pristine {
        store.device.flush()?;
        store.initialise_log(&found.layout)?;
    }
    if found.superblock.is_unclean() {
        let mut clean = *found;
        clean.superblock.magic = Magic::Clean;
        clean.superblock.flags = clean.superblock.flags.or(MdFlags::AL_CLEAN);
        store.write_superblock(&clean)?;
    }
    Ok(0)
}

struct Log {
    /// Extents in the active set, ascending.
    extents: Vec<AlExtent>,
    /// Whether transactions were found.
    is_applied: bool,
    /// Whether the ring is as it was initialised.
    is_pristine: bool,
    /// Whether the active set is known.
    verdict: Result<(), Failure>,
}

fn read_log(store: &Store, found: &Found) -> Result<Log, Failure> {
    let blocks = found.layout.striping().blocks();
    let place = bytes(found.layout.activity_log().0);
    let ring = store.device.read(place, blocks as usize * BLOCK_BYTES)?;
    if ring.starts_with(&PERSISTENT_MEMORY_MAGIC) {
        return Err(Failure::local(
            "The activity log was written by a newer version in persistent memory.",
        ));
    }
    let mut slots = vec![None; SLOTS_LEN];
    let mut block = vec![0; BLOCK_BYTES];
    let mut source = Source {
        striping: found.layout.striping(),
        read: |index: u32, into: &mut [u8]| {
            let start = index as usize * BLOCK_BYTES;
            match ring.get(start..start + BLOCK_BYTES) {
                Some(from) => {
                    into.copy_from_slice(from);
                    Ok(())
                }
                None => Err(Failure::local("activity log out of bounds")),
            }
        },
        crc,
        ignored: |slot: al_replay::SlotOutOfRange| {
            let what = if slot.is_update {
                "update slot"
            } else {
                "slot"
            };
            eprintln!(
                "{what} number out of range: tr:{} slot:{}",
                slot.number, slot.slot
            );
        },
        block: &mut block,
    };
    let replay = al_replay::replay(&mut source, &mut slots)?;
    if replay.corrupt > 0 && replay.corrupt < blocks {
        eprintln!("{} corrupt AL transactions found", replay.corrupt);
    }
    let is_applied = matches!(replay.outcome, al_replay::Outcome::Applied { .. });
    let verdict = match replay.outcome {
        al_replay::Outcome::NoLog => Err(Failure::new(
            RC_NO_LOG,
            "No usable activity log found. Do you need to create-md?",
        )),
        al_replay::Outcome::NoTransaction => Err(Failure::new(
            RC_INCONSISTENT,
            "No valid AL update transaction found.",
        )),
        al_replay::Outcome::Unused | al_replay::Outcome::Applied { .. } => Ok(()),
    };
    let mut extents: Vec<AlExtent> = slots.into_iter().flatten().collect();
    extents.sort_unstable_by_key(|extent| extent.0);
    extents.dedup();
    let is_pristine = !is_applied && replay.corrupt == 0;
    Ok(Log {
        extents,
        is_applied,
        is_pristine,
        verdict,
    })
}

/// Sets the bits of the extents on disk.
fn mark(store: &Store, found: &Found, extents: &[AlExtent]) -> Result<(), Failure> {
    if extents.is_empty() {
        eprintln!("Nothing to do.");
        return Ok(());
    }
    let len = store.bitmap_len(found);
    let start = bytes(found.layout.bitmap().0);
    let mut page: Option<(u64, Vec<u8>)> = None;
    let mut added = 0u64;
    for extent in extents {
        let Some((first, end)) = extent_bytes(*extent, ByteCount(len)) else {
            let at = u64::from(extent.0) * drbd_format::disk::bitmap::AL_EXTENT_BYTES;
            eprintln!("extent {} beyond end of bitmap! ({at} >= {len})", extent.0);
            continue;
        };
        // An extent never crosses a page: 32 of them fill one.
        let number = first / BLOCK_BYTES as u64;
        if page.as_ref().is_none_or(|(loaded, _)| *loaded != number) {
            write_page(store, start, page.take())?;
            let offset = number * BLOCK_BYTES as u64;
            let size = usize::try_from((len - offset).min(BLOCK_BYTES as u64)).unwrap_or(0);
            page = Some((number, store.device.read(start + offset, size)?));
        }
        let Some((_, content)) = &mut page else {
            continue;
        };
        let within = |at: u64| usize::try_from(at - number * BLOCK_BYTES as u64).unwrap_or(0);
        for byte in content
            .get_mut(within(first)..within(end))
            .unwrap_or(&mut [])
        {
            added += u64::from(byte.count_zeros());
            *byte = 0xff;
        }
    }
    write_page(store, start, page)?;
    eprintln!(
        "Marked additional {} as out-of-sync based on AL.",
        kib(added * KIB_PER_BIT)
    );
    Ok(())
}

fn write_page(store: &Store, start: u64, page: Option<(u64, Vec<u8>)>) -> Result<(), Failure> {
    match page {
        Some((number, content)) => store
            .device
            .write(start + number * BLOCK_BYTES as u64, &content),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_uninverted_one() {
        assert_eq!(crc(b"123456789"), 0x58E3_FA20);
    }
}
