//! The metadata of one volume: where it is, what it says, how it is written back.

use super::device::Device;
use super::last_known::LastKnown;
use crate::report::Failure;
use drbd_format::disk::al_transaction::encode_initialised;
use drbd_format::disk::layout::{Layout, LayoutError, Placement, Striping, SLOT_SECTORS};
use drbd_format::disk::layout::{CREATE_BYTES_MIN, TOOL_SECTORS_MAX};
use drbd_format::disk::superblock::{Superblock, SuperblockError};
use drbd_format::disk::BLOCK_BYTES;
use drbd_format::units::SectorCount;

/// Exit code if the device cannot hold metadata.
const RC_TOO_SMALL: u8 = 10;

const SECTOR_BYTES: u64 = 512;

/// Bytes that the fixed internal layout of version 7 took.
const V07_INTERNAL_BYTES: u64 = SLOT_SECTORS as u64 * SECTOR_BYTES;

/// Metadata that is valid where it was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Where everything lies.
    pub(crate) layout: Layout,
    /// What the superblock says.
    pub(crate) superblock: Superblock,
}

/// A device, and which kind of metadata is or will be on it.
#[derive(Debug)]
pub(crate) struct Store {
    /// The device.
    pub(crate) device: Device,
    /// Where on it the metadata lies.
    pub(crate) placement: Placement,
    /// What is remembered about it.
    pub(crate) last_known: LastKnown,
}

/// Returns bytes of sectors on a device whose size in bytes is known.
pub(crate) fn bytes(sectors: u64) -> u64 {
    sectors.saturating_mul(SECTOR_BYTES)
}

impl Store {
    /// Puts device and placement together.
    ///
    /// # Errors
    ///
    /// A device that is too small for any metadata, or too big.
    pub(crate) fn new(
        device: Device,
        placement: Placement,
        last_known: LastKnown,
    ) -> Result<Self, Failure> {
        if device.size() < CREATE_BYTES_MIN {
            return Err(too_small(&device));
        }
        let store = Self {
            device,
            placement,
            last_known,
        };
        if placement.is_internal() && store.sectors() > TOOL_SECTORS_MAX {
            return Err(Failure::new(
                RC_TOO_SMALL,
                "Bitmap for that device got too large.",
            ));
        }
        Ok(store)
    }

    /// The number called `meta_dev_idx` (`reference/metadata.md` 1.1).
    pub(crate) fn index(&self) -> i32 {
        match self.placement {
            Placement::Internal => -1,
            Placement::FlexibleExternal => -2,
            Placement::Indexed(slot) => i32::try_from(slot).unwrap_or(i32::MAX),
        }
    }

    /// Size of the device in whole sectors.
    pub(crate) fn sectors(&self) -> SectorCount {
        SectorCount(self.device.size() / SECTOR_BYTES)
    }

    /// Returns the layout for the device as it is now.
    pub(crate) fn layout(&self, striping: Striping) -> Result<Layout, Failure> {
        Layout::compute(self.placement, self.sectors(), striping).map_err(|error| match error {
            LayoutError::TooSmall(_) => too_small(&self.device),
            other => Failure::new(RC_TOO_SMALL, other.to_string()),
        })
    }

    /// Looks for metadata where it should be.
    pub(crate) fn find(&self) -> Result<Option<Found>, Failure> {
        self.find_for(self.sectors(), true)
    }

    /// Looks for metadata where it should be, and says nothing about what else is there.
    pub(crate) fn find_quietly(&self) -> Result<Option<Found>, Failure> {
        self.find_for(self.sectors(), false)
    }

    /// Looks for metadata where it was when the device had another size.
    pub(crate) fn find_at_last_known(&self) -> Result<Option<Found>, Failure> {
        if !self.placement.is_internal() {
            return Ok(None);
        }
        let Some(size) = self
            .last_known
            .size()
            .filter(|size| *size != self.device.size())
        else {
            return Ok(None);
        };
        if size < CREATE_BYTES_MIN || size > self.device.size() {
            return Ok(None);
        }
        self.find_for(SectorCount(size / SECTOR_BYTES), false)
    }

    fn find_for(&self, device: SectorCount, complain: bool) -> Result<Option<Found>, Failure> {
        let Ok(probe) = Layout::compute(self.placement, device, Striping::DEFAULT) else {
            return Ok(None);
        };
        // The place of the superblock does not depend on the striping.
        let block = self.device.read(bytes(probe.superblock().0), BLOCK_BYTES)?;
        let superblock = match Superblock::decode(&block) {
            Ok(superblock) => superblock,
            Err(error) => {
                let is_ours = matches!(
                    error,
                    SuperblockError::BytesPerBit(_) | SuperblockError::Striping(_)
                );
                if complain && is_ours {
                    eprintln!("{error}");
                }
                return Ok(None);
            }
        };
        let Ok(layout) = Layout::compute(self.placement, device, superblock.striping) else {
            return Ok(None);
        };
        let checks = [
            (
                "al_offset",
                i64::from(layout.al_offset()),
                i64::from(superblock.al_offset),
            ),
            (
                "bm_offset",
                i64::from(layout.bm_offset()),
                i64::from(superblock.bm_offset),
            ),
            (
                "md_size_sect",
                layout.md_size_sect().into(),
                superblock.md_size_sect.into(),
            ),
        ];
        let is_checked = |name: &str| name != "md_size_sect" || self.placement.is_internal();
        for (name, expected, found) in checks.into_iter().filter(|(name, ..)| is_checked(name)) {
            if expected != found {
                if complain {
                    eprintln!("v08 {name}: expected {expected}, found {found}");
                }
                return Ok(None);
            }
        }
        Ok(Some(Found { layout, superblock }))
    }

    /// Returns the version of metadata of another format, if there is any.
    pub(crate) fn other_version(&self) -> Result<Option<u8>, Failure> {
        let mut places = Vec::new();
        if let Ok(layout) = Layout::compute(self.placement, self.sectors(), Striping::DEFAULT) {
            places.push(bytes(layout.superblock().0));
        }
        if self.placement.is_internal() {
            let aligned = self.device.size() & !(BLOCK_BYTES as u64 - 1);
            places.extend(aligned.checked_sub(V07_INTERNAL_BYTES));
        }
        for place in places {
            let block = self.device.read(place, BLOCK_BYTES)?;
            if let Err(SuperblockError::Version(version)) = Superblock::decode(&block) {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    /// Writes the superblock, waits for it, and remembers where it is.
    pub(crate) fn write_superblock(&self, found: &Found) -> Result<(), Failure> {
        let mut block = vec![0; BLOCK_BYTES];
        found
            .superblock
            .encode(&mut block)
            .map_err(|error| Failure::local(error.to_string()))?;
        self.device.flush()?;
        self.device
            .write(bytes(found.layout.superblock().0), &block)?;
        self.device.flush()?;
        self.last_known
            .update(&self.device, self.placement, found.superblock.device_uuid);
        Ok(())
    }

    /// Erases the superblock and waits for it: what follows is of another generation.
    pub(crate) fn erase_superblock(&self, layout: &Layout) -> Result<(), Failure> {
        let zeroes = vec![0; BLOCK_BYTES];
        self.device.write(bytes(layout.superblock().0), &zeroes)?;
        self.device.flush()
    }

    /// Makes every block of the activity log one that says nothing.
    ///
    /// The first block comes last: if it is torn, and alone, nothing is lost. Any other one that is
    /// torn may be all that is left of the log.
    pub(crate) fn initialise_log(&self, layout: &Layout) -> Result<(), Failure> {
        let mut block = vec![0; BLOCK_BYTES];
        encode_initialised(&mut block).map_err(|error| Failure::local(error.to_string()))?;
        let others = block.repeat(layout.striping().blocks() as usize - 1);
        let start = bytes(layout.activity_log().0);
        self.device.write(start + BLOCK_BYTES as u64, &others)?;
        self.device.flush()?;
        self.device.write(start, &block)
    }

    /// Returns how many bytes of the bitmap on disk belong to a device of this size.
    pub(crate) fn bitmap_len(&self, found: &Found) -> u64 {
        let bits = found.superblock.la_size.bits();
        let used = drbd_format::disk::bitmap::disk_bytes(bits).0;
        used.min(bytes(found.layout.bitmap_sectors().0))
    }
}

fn too_small(device: &Device) -> Failure {
    let text = format!(
        "{} is only {} bytes. That's not enough.",
        device.path(),
        device.size()
    );
    Failure::new(RC_TOO_SMALL, text)
}
