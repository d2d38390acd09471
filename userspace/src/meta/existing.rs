//! Recognises data that new metadata would destroy.
//!
//! Only the first 68 KiB are looked at. Signatures and texts: `reference/userland.md` 4.5.

use super::confirm::Confirm;
use super::store::{bytes, Store};
use crate::report::{outln, Failure};
use drbd_format::disk::layout::Layout;
use std::process::Command;

/// Bytes at the front of the device that are examined.
const EXAMINED: usize = 69_632;

/// Exit code if data would be destroyed.
const RC_REFUSED: u8 = 40;

/// Exit code if the user said no.
const RC_CANCELLED: u8 = 1;

/// What was found at the front of a device.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Content {
    name: &'static str,
    extent: Extent,
}

/// How much of the device the content takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Extent {
    /// So many KiB.
    Kib(u64),
    /// Nobody knows, and it may be anything.
    Unknown,
    /// Nobody knows, but it is surely in use.
    Undetermined,
    /// All of it.
    Whole,
}

/// Refuses or asks if there is data that the layout would destroy.
pub(crate) fn check(
    store: &Store,
    layout: &Layout,
    confirm: &mut Confirm,
    ignore: bool,
) -> Result<(), Failure> {
    let len = EXAMINED.min(usize::try_from(store.device.size()).unwrap_or(EXAMINED)) & !511;
    let front = store.device.read(0, len)?;
    if front.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    let mut content = recognise(&front);
    if content.extent == Extent::Undetermined {
        if let Some(kib) = lvm_kib(store.device.path()) {
            content.extent = Extent::Kib(kib);
        }
    }
    outln!("md_offset {}", bytes(layout.superblock().0));
    outln!("al_offset {}", bytes(layout.activity_log().0));
    outln!("bm_offset {}", bytes(layout.bitmap().0));
    outln!("\nFound {}", content.name);
    if content.extent == Extent::Unknown {
        outln!("\n ==> This might destroy existing data! <==");
        return proceed(confirm);
    }
    if !store.placement.is_internal() {
        outln!("\nThis would corrupt existing data.");
        return refuse_unless(ignore);
    }
    let usable_kib = bytes(layout.first().0) / 1024;
    match content.extent {
        Extent::Kib(used_kib) => {
            outln!("{used_kib:12} kB data area apparently used");
            outln!("{usable_kib:12} kB left usable by current configuration");
            if used_kib > usable_kib {
                outln!("\n{TRUNCATED}\n{ALTERNATIVES}");
                return Err(refused());
            }
            outln!("\n{MAY_FIT}");
            proceed(confirm)
        }
        Extent::Undetermined => {
            outln!("{usable_kib:12} kB left usable by current configuration");
            outln!("Could not determine the size of the actually used data area.\n");
            outln!("{TRUNCATED}");
            refuse_unless(ignore)
        }
        Extent::Whole | Extent::Unknown => {
            outln!("{usable_kib:12} kB left usable by current configuration");
            outln!("{TRUNCATED}");
            refuse_unless(ignore)
        }
    }
}

const TRUNCATED: &str = "Device size would be truncated, which
would corrupt data and result in
'access beyond end of device' errors.";

const ALTERNATIVES: &str = "You need to either
   * use external meta data (recommended)
   * shrink that filesystem first
   * zero out the device (destroy the filesystem)
Operation refused.
";

const MAY_FIT: &str = "Even though it looks like this would place the new meta data into
unused space, you still need to confirm, as this is only a guess.";

const ADVICE: &str = "If you want me to do this, you need to zero out the first part
of the device (destroy the content).
You should be very sure that you mean it.
Operation refused.
";

fn refused() -> Failure {
    Failure::new(RC_REFUSED, "")
}

fn refuse_unless(ignore: bool) -> Result<(), Failure> {
    if ignore {
        outln!("\nIgnoring sanity check on user request.\n");
        return Ok(());
    }
    outln!("{ADVICE}");
    Err(refused())
}

fn proceed(confirm: &mut Confirm) -> Result<(), Failure> {
    if confirm.ask("Do you want to proceed?") {
        return Ok(());
    }
    outln!("Operation canceled.");
    Err(Failure::new(RC_CANCELLED, ""))
}

fn recognise(front: &[u8]) -> Content {
    let content = |name, extent| Content { name, extent };
    let kib = |blocks: u64, block_bytes: u64| {
        // What does not fit into 64 bits is bigger than any device.
        Extent::Kib(
            blocks
                .checked_mul(block_bytes)
                .map_or(u64::MAX, |bytes| bytes / 1024),
        )
    };
    for page in [4096, 8192] {
        if matches!(at(front, page - 10, 10), b"SWAP-SPACE" | b"SWAPSPACE2") {
            return content("swap space signature", Extent::Whole);
        }
    }
    if at(front, 0x218, 4) == b"LVM2" {
        return content("LVM2 physical volume signature", Extent::Undetermined);
    }
    if le16(front, 0x438) == 0xef53 {
        return ext(front);
    }
    if at(front, 0, 4) == b"XFSB" {
        return content("xfs filesystem", kib(be64(front, 8), be32(front, 4)));
    }
    if at(front, 0x8000, 4) == b"JFS1" {
        return content(
            "JFS filesystem",
            kib(le64(front, 0x8008), le32(front, 0x8018)),
        );
    }
    if matches!(at(front, 0x10034, 8), b"ReIsErFs") || at(front, 0x10034, 9) == b"ReIsEr2Fs" {
        let block_bytes = le16(front, 0x1002c);
        return content("reiser filesystem", kib(le32(front, 0x10000), block_bytes));
    }
    content("some data", Extent::Unknown)
}

/// The three generations of the extended file system share their superblock.
fn ext(front: &[u8]) -> Content {
    const HAS_JOURNAL: u64 = 0x4;
    const IS_64BIT: u64 = 0x80;
    const EXT4_ONLY: u64 = 0x40 | IS_64BIT | 0x200;
    let incompatible = le32(front, 0x460);
    let name = if incompatible & EXT4_ONLY != 0 {
        "ext4 filesystem"
    } else if le32(front, 0x45c) & HAS_JOURNAL != 0 {
        "ext3 filesystem"
    } else {
        "ext2 filesystem"
    };
    let high = if incompatible & IS_64BIT != 0 {
        le32(front, 0x550) << 32
    } else {
        0
    };
    let blocks = high | le32(front, 0x404);
    let block_kib = match le32(front, 0x418) {
        shift @ 0..=6 => 1 << shift,
        _ => 4,
    };
    Content {
        name,
        extent: Extent::Kib(blocks.saturating_mul(block_kib)),
    }
}

/// Asks the volume manager how much of the device it uses.
fn lvm_kib(path: &str) -> Option<u64> {
    let output = Command::new("pvs")
        .args([
            "--noheadings",
            "--nosuffix",
            "--units",
            "k",
            "-o",
            "pv_size",
            path,
        ])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let number: f64 = text.trim().parse().ok()?;
    // CAST: Not negative, and far below the limit.
    (number.is_finite() && number >= 0.0).then_some(number.ceil() as u64)
}

fn at(front: &[u8], offset: usize, len: usize) -> &[u8] {
    front.get(offset..offset + len).unwrap_or(&[])
}

fn number(front: &[u8], offset: usize, len: usize, big_endian: bool) -> u64 {
    let bytes = at(front, offset, len).iter();
    let shift_in = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    if big_endian {
        bytes.fold(0, shift_in)
    } else {
        bytes.rev().fold(0, shift_in)
    }
}

fn le16(front: &[u8], offset: usize) -> u64 {
    number(front, offset, 2, false)
}

fn le32(front: &[u8], offset: usize) -> u64 {
    number(front, offset, 4, false)
}

fn le64(front: &[u8], offset: usize) -> u64 {
    number(front, offset, 8, false)
}

fn be32(front: &[u8], offset: usize) -> u64 {
    number(front, offset, 4, true)
}

fn be64(front: &[u8], offset: usize) -> u64 {
    number(front, offset, 8, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(parts: &[(usize, &[u8])]) -> Content {
        let mut front = vec![0; EXAMINED];
        for (offset, bytes) in parts {
            front[*offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        recognise(&front)
    }

    #[test]
    fn file_systems_are_named_and_measured() {
        let magic: (usize, &[u8]) = (0x438, &[0x53, 0xef]);
        let blocks: (usize, &[u8]) = (0x404, &634_880u32.to_le_bytes());
        let size: (usize, &[u8]) = (0x418, &[2]);
        let used = Extent::Kib(2_539_520);
        for (name, compat, incompat) in [
            ("ext2 filesystem", 0u8, 0u8),
            ("ext3 filesystem", 4, 0),
            ("ext4 filesystem", 4, 0x40),
        ] {
            let features: [(usize, &[u8]); 2] = [(0x45c, &[compat]), (0x460, &[incompat])];
            let found = with(&[magic, blocks, size, features[0], features[1]]);
            assert_eq!(found, Content { name, extent: used });
        }
        let found = with(&[(0, b"XFSB\0\0\x10\0"), (8, &1024u64.to_be_bytes())]);
        assert_eq!(
            found,
            Content {
                name: "xfs filesystem",
                extent: Extent::Kib(4096)
            }
        );
        let found = with(&[
            (0x8000, b"JFS1"),
            (0x8008, &2048u64.to_le_bytes()),
            (0x8018, &512u32.to_le_bytes()),
        ]);
        assert_eq!(
            found,
            Content {
                name: "JFS filesystem",
                extent: Extent::Kib(1024)
            }
        );
        let found = with(&[
            (0x10000, &100u32.to_le_bytes()),
            (0x1002c, &4096u16.to_le_bytes()),
            (0x10034, b"ReIsEr2Fs"),
        ]);
        assert_eq!(
            found,
            Content {
                name: "reiser filesystem",
                extent: Extent::Kib(400)
            }
        );
    }

    #[test]
    fn what_is_in_use_as_a_whole_is_recognised() {
        assert_eq!(with(&[(4086, b"SWAPSPACE2")]).extent, Extent::Whole);
        assert_eq!(with(&[(8182, b"SWAP-SPACE")]).extent, Extent::Whole);
        assert_eq!(with(&[(0x218, b"LVM2")]).extent, Extent::Undetermined);
        assert_eq!(with(&[(60_000, b"x")]).name, "some data");
    }
}
