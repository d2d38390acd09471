//! `create-md`: new metadata, and the questions before.

use super::confirm::Confirm;
use super::store::{bytes, Found, Store};
use super::{existing, restore};
use crate::report::{kib, outln, Failure, Outcome};
use drbd_format::disk::layout::{Layout, Striping};
use drbd_format::disk::superblock::Superblock;

/// Exit code if the user said no.
const RC_CANCELLED: u8 = 1;

/// What happens to the bitmap.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum InitialBitmap {
    /// It stays as it is. The just-created generation makes every bit count as set.
    #[default]
    Skip,
    /// All bits are set.
    Set,
    /// All bits are cleared.
    Zero,
}

/// Options of create-md.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wishes {
    /// Geometry of the activity log.
    pub(crate) striping: Option<Striping>,
    /// Largest request that the peer is known to take, in bytes.
    pub(crate) peer_max_bio_bytes: u32,
    /// Size of the device in sectors, 0 if it was never agreed.
    pub(crate) effective_sectors: u64,
    /// What happens to the bitmap.
    pub(crate) bitmap: InitialBitmap,
    /// Overwrite data that would be truncated.
    pub(crate) ignore_sanity_checks: bool,
}

/// Creates metadata.
pub(crate) fn create(store: &Store, wishes: &Wishes, confirm: &mut Confirm) -> Outcome {
    let layout = store.layout(wishes.striping.unwrap_or(Striping::DEFAULT))?;
    if !may_replace(store, confirm)? {
        outln!("Operation cancelled.");
        return Err(Failure::new(RC_CANCELLED, ""));
    }
    if let Some(old) = store.find_at_last_known()? {
        if store.find_quietly()?.is_none() && store.last_known.is_same(old.superblock.device_uuid) {
            let question = "Move internal meta data from last-known position?";
            if confirm.force || confirm.ask(question) {
                restore::move_to_end(store, &old)?;
                return Ok(0);
            }
        }
    }
    existing::check(store, &layout, confirm, wishes.ignore_sanity_checks)?;
    outln!("initializing activity log");
    // The old superblock must not find its log empty.
    store.erase_superblock(&layout)?;
    store.initialise_log(&layout)?;
    initialise_bitmap(store, &layout, wishes.bitmap)?;
    outln!("Writing meta data...");
    let mut superblock = Superblock::new(&layout);
    superblock.la_peer_max_bio_bytes = wishes.peer_max_bio_bytes;
    superblock.la_size.0 = wishes.effective_sectors;
    store.write_superblock(&Found { layout, superblock })?;
    store
        .device
        .say_done("New drbd meta data block successfully created.");
    Ok(0)
}

fn may_replace(store: &Store, confirm: &mut Confirm) -> Result<bool, Failure> {
    if let Some(found) = store.find()? {
        if !store.placement.is_internal() {
            return Ok(confirm
                .ask("Valid meta data seems to be in place.\nDo you really want to overwrite?"));
        }
        eprintln!(
            "You want me to create a v08 style flexible-size internal meta data block.\n\
             There appears to be a v08 flexible-size internal meta data block\n\
             already in place on {} at byte offset {}",
            store.device.path(),
            bytes(found.layout.superblock().0)
        );
        return Ok(confirm.ask("Do you really want to overwrite the existing meta-data?"));
    }
    match store.other_version()? {
        None => Ok(true),
        Some(version) => Ok(confirm.ask(&format!(
            "Valid v{version:02} meta-data found.\n\
             So you want me to replace the v{version:02} meta-data\n\
             with newly initialized v08 meta-data?"
        ))),
    }
}

fn initialise_bitmap(store: &Store, layout: &Layout, wish: InitialBitmap) -> Result<(), Failure> {
    let len = bytes(layout.bitmap_sectors().0);
    let (byte, word) = match wish {
        InitialBitmap::Skip => {
            eprintln!("NOT initializing bitmap");
            return Ok(());
        }
        InitialBitmap::Set => (0xff, "ones"),
        InitialBitmap::Zero => (0, "zero"),
    };
    eprintln!("initializing bitmap ({}) to all {word}", kib(len / 1024));
    store.device.fill(bytes(layout.bitmap().0), len, byte)
}
