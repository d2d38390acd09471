//! Commands that only touch the superblock.

use crate::meta::confirm::Confirm;
use crate::meta::store::{Found, Store};
use crate::report::{kib, outln, Failure, Outcome};
use crate::status::gi::Generation;
use drbd_format::disk::superblock::MdFlags;
use drbd_format::types::{Uuid, UuidSet};

/// Exit code if the user said no.
const RC_CANCELLED: u8 = 1;

/// Exit code of outdate on inconsistent data.
const RC_INCONSISTENT: u8 = 5;

/// Exit code for a bad value.
const RC_VALUE: u8 = 10;

fn generation(found: &Found) -> Generation {
    let uuids = &found.superblock.uuids;
    let [younger, older] = uuids.history;
    Generation {
        uuids: [uuids.current.0, uuids.bitmap.0, younger.0, older.0],
        flags: found.superblock.flags.0,
    }
}

/// `get-gi`
pub(super) fn get_gi(found: &Found) -> Outcome {
    outln!("{}", generation(found));
    Ok(0)
}

/// `show-gi`
pub(super) fn show_gi(found: &Found) -> Outcome {
    crate::report::out(&generation(found).explained());
    let superblock = &found.superblock;
    if superblock.la_size.0 == 0 {
        outln!("zero size device -- never seen peer yet?");
    } else {
        let sectors = superblock.la_size.0;
        outln!("last agreed size: {} ({sectors} sectors)", kib(sectors / 2));
        outln!(
            "last agreed max bio size: {} Byte",
            superblock.la_peer_max_bio_bytes
        );
    }
    Ok(0)
}

/// `dstate`
pub(super) fn dstate(found: &Found) -> Outcome {
    let has = |flag| found.superblock.flags.contains(flag);
    let state = if !has(MdFlags::CONSISTENT) {
        "Inconsistent"
    } else if !has(MdFlags::WAS_UP_TO_DATE) {
        "Outdated"
    } else if has(MdFlags::PEER_OUT_DATED) {
        "UpToDate"
    } else {
        "Consistent"
    };
    outln!("{state}");
    Ok(0)
}

/// `set-gi`
pub(super) fn set_gi(
    store: &Store,
    mut found: Found,
    text: &str,
    confirm: &mut Confirm,
) -> Outcome {
    let old = generation(&found);
    let new = old
        .changed(text)
        .map_err(|error| Failure::new(RC_VALUE, error))?;
    outln!("previously {old}");
    outln!("set GI to  {new}");
    if !confirm.ask("Write new GI to disk?") {
        outln!("Operation canceled.");
        return Ok(0);
    }
    let [current, bitmap, younger, older] = new.uuids.map(Uuid);
    found.superblock.uuids = UuidSet {
        current,
        bitmap,
        history: [younger, older],
    };
    found.superblock.flags = MdFlags(new.flags);
    store.write_superblock(&found)?;
    Ok(0)
}

/// `outdate`
pub(super) fn outdate(store: &Store, mut found: Found) -> Outcome {
    if !found.superblock.flags.contains(MdFlags::CONSISTENT) {
        return Err(Failure::new(RC_INCONSISTENT, "Device is inconsistent."));
    }
    found.superblock.flags = found.superblock.flags.with(MdFlags::WAS_UP_TO_DATE, false);
    store.write_superblock(&found)?;
    Ok(0)
}

/// `invalidate`
pub(super) fn invalidate(store: &Store, mut found: Found) -> Outcome {
    let good = MdFlags::CONSISTENT.or(MdFlags::WAS_UP_TO_DATE);
    let flags = found
        .superblock
        .flags
        .with(good, false)
        .or(MdFlags::FULL_SYNC);
    found.superblock.flags = flags;
    store.write_superblock(&found)?;
    Ok(0)
}

/// `read-dev-uuid`
pub(super) fn read_dev_uuid(found: &Found) -> Outcome {
    outln!("{:016X}", found.superblock.device_uuid);
    Ok(0)
}

/// `write-dev-uuid`
pub(super) fn write_dev_uuid(store: &Store, mut found: Found, text: &str) -> Outcome {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    found.superblock.device_uuid = u64::from_str_radix(digits, 16)
        .map_err(|_| Failure::new(RC_VALUE, format!("'{text}' is not a hexadecimal number.")))?;
    store.write_superblock(&found)?;
    Ok(0)
}

/// `wipe-md`
pub(super) fn wipe(store: &Store, confirm: &mut Confirm) -> Outcome {
    let Some(found) = store.find()? else {
        eprintln!("There appears to be no drbd meta data to wipe out?");
        return Ok(0);
    };
    if !confirm.ask("Do you really want to wipe out the DRBD meta data?") {
        outln!("Operation cancelled.");
        return Err(Failure::new(RC_CANCELLED, ""));
    }
    outln!("Wiping meta data...");
    store.erase_superblock(&found.layout)?;
    store.last_known.forget();
    store
        .device
        .say_done("DRBD meta data block successfully wiped out.");
    Ok(0)
}
