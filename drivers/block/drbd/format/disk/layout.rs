//! Where superblock, activity log and bitmap lie on a device.
//!
//! | Variant | Order on the device |
//! |---|---|
//! | internal | data, bitmap, activity log, superblock, 0 to 7 unused sectors |
//! | flexible external | superblock, activity log, bitmap to the end |
//! | indexed external | slots of 128 MiB, in each: superblock, activity log, bitmap |
//!
//! [`Layout::compute`] says where metadata belongs on a device of a given size; attaching uses
//! [`Layout::from_superblock`], which takes the offsets from the superblock and checks them.
//! Facts: `reference/metadata.md` 1 and 2.3.

use super::superblock::Superblock;
use super::BLOCK_SECTORS;
use crate::types::UnknownNumber;
use crate::units::{BitCount, BitmapPage, Sector, SectorCount};
use core::fmt;

/// Sectors of one slot of indexed metadata: 128 MiB.
pub const SLOT_SECTORS: u32 = 262_144;
/// Smallest device that metadata is created on, in bytes.
pub const CREATE_BYTES_MIN: u64 = 69_632;
/// Largest usable data size with flexible layouts (internal included).
pub const FLEXIBLE_SECTORS_MAX: SectorCount = SectorCount(1 << 51);
/// Largest usable data size with indexed metadata.
pub const INDEXED_SECTORS_MAX: SectorCount = SectorCount(8_587_575_296);
/// Largest data size that the tools create metadata for: 1 PiB.
pub const TOOL_SECTORS_MAX: SectorCount = SectorCount(1 << 41);

/// Data sectors that one sector of bitmap covers.
const DATA_PER_BITMAP_SECTOR: u64 = 32_768;
/// Sectors that the superblock takes.
const SUPERBLOCK_SECTORS: u64 = BLOCK_SECTORS as u64;
/// Mask that rounds down to whole blocks.
const BLOCK_MASK: u64 = SUPERBLOCK_SECTORS - 1;
/// Largest metadata area that the 32-bit field of the superblock can hold, in whole blocks.
const MD_SIZE_MAX: u64 = (u32::MAX as u64) & !BLOCK_MASK;

/// Which kind of layout, from the number called `meta_dev_idx`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Placement {
    /// Numbers -1 and -3: at the end of the data device.
    Internal,
    /// Number -2: a whole device of its own.
    FlexibleExternal,
    /// Numbers 0 and up: this slot of a device shared by several volumes.
    Indexed(u32),
}

impl Placement {
    /// Converts the number.
    ///
    /// # Errors
    ///
    /// Numbers below -3.
    pub const fn from_index(index: i32) -> Result<Self, UnknownNumber> {
        match index {
            -1 | -3 => Ok(Self::Internal),
            -2 => Ok(Self::FlexibleExternal),
            // CAST: The pattern has no negative numbers.
            0.. => Ok(Self::Indexed(index.unsigned_abs())),
            // CAST: Shown as the two's complement that it came as.
            #[allow(clippy::cast_sign_loss, reason = "only for display")]
            _ => Err(UnknownNumber {
                what: "metadata index",
                found: index as u32,
            }),
        }
    }

    /// Returns the size of the smallest metadata device that is attached (error 112 below it).
    pub const fn device_sectors_min(self) -> SectorCount {
        match self {
            Self::Internal | Self::FlexibleExternal => SectorCount(2048),
            Self::Indexed(slot) => {
                SectorCount((slot as u64).saturating_add(1).saturating_mul(SLOT))
            }
        }
    }

    /// Returns where the superblock lies on a metadata device of this size; `None` if the device
    /// has no room for it.
    pub const fn superblock_of(self, device: SectorCount) -> Option<Sector> {
        match self {
            Self::Internal => match (device.0 & !BLOCK_MASK).checked_sub(SUPERBLOCK_SECTORS) {
                Some(sector) => Some(Sector(sector)),
                None => None,
            },
            Self::FlexibleExternal => Some(Sector(0)),
            Self::Indexed(slot) => match (slot as u64).checked_mul(SLOT) {
                Some(sector) => Some(Sector(sector)),
                None => None,
            },
        }
    }

    /// Tells whether metadata and data are on the same device.
    pub const fn is_internal(self) -> bool {
        matches!(self, Self::Internal)
    }
}

const SLOT: u64 = SLOT_SECTORS as u64;

/// Geometry of the activity log: `stripes` runs of `stripe_blocks` blocks of 4 KiB.
///
/// # Invariants
///
/// The product is between 8 and 4194304 blocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Striping {
    stripes: u32,
    stripe_blocks: u32,
}

/// A geometry of the activity log that is not possible.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadStriping {
    /// Number of stripes.
    pub stripes: u32,
    /// Blocks of 4 KiB in each.
    pub stripe_blocks: u32,
}

impl fmt::Display for BadStriping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid activity log striping: al_stripes={}, al_stripe_size_4k={}",
            self.stripes, self.stripe_blocks
        )
    }
}

impl Striping {
    /// One stripe of 32 KiB.
    pub const DEFAULT: Self = Self {
        stripes: 1,
        stripe_blocks: 8,
    };

    const BLOCKS_MIN: u32 = 8;
    const BLOCKS_MAX: u32 = 4_194_304;

    /// Returns the geometry; two zeroes mean the default (metadata of older versions).
    ///
    /// # Errors
    ///
    /// One zero, or a product outside 8 to 4194304 blocks.
    pub const fn new(stripes: u32, stripe_blocks: u32) -> Result<Self, BadStriping> {
        if stripes == 0 && stripe_blocks == 0 {
            return Ok(Self::DEFAULT);
        }
        match stripes.checked_mul(stripe_blocks) {
            Some(Self::BLOCKS_MIN..=Self::BLOCKS_MAX) => Ok(Self {
                stripes,
                stripe_blocks,
            }),
            Some(_) | None => Err(BadStriping {
                stripes,
                stripe_blocks,
            }),
        }
    }

    /// Returns the number of stripes.
    pub const fn stripes(self) -> u32 {
        self.stripes
    }

    /// Returns the number of 4 KiB blocks in each stripe.
    pub const fn stripe_blocks(self) -> u32 {
        self.stripe_blocks
    }

    /// Returns the number of 4 KiB blocks in the ring.
    pub const fn blocks(self) -> u32 {
        // INVARIANT: The product is small.
        self.stripes.saturating_mul(self.stripe_blocks)
    }

    /// Returns the size of the ring.
    pub const fn sectors(self) -> SectorCount {
        SectorCount((self.blocks() as u64).saturating_mul(SUPERBLOCK_SECTORS))
    }

    /// Returns the block in which transaction `number` is written
    /// (`reference/metadata.md` 3.4).
    #[allow(
        clippy::arithmetic_side_effects,
        reason = "no divisor is zero, products are small"
    )]
    pub const fn block_of(self, number: u32) -> u32 {
        let position = number % self.blocks();
        (position % self.stripes) * self.stripe_blocks + position / self.stripes
    }

    /// Returns the most slots that the active set may have.
    ///
    /// Every slot must be stated again before the ring has come round.
    pub const fn slots_max(self) -> u16 {
        if self.blocks() > 72 {
            return SLOTS_MAX;
        }
        #[allow(clippy::cast_possible_truncation, reason = "at most 71 times 919")]
        let slots = self.blocks().saturating_sub(1).saturating_mul(919) as u16;
        slots
    }

    /// Returns `wanted` raised and lowered to what this log can hold.
    pub const fn slots_clamped(self, wanted: u32) -> u16 {
        if wanted < SLOTS_MIN as u32 {
            return SLOTS_MIN;
        }
        if wanted > self.slots_max() as u32 {
            return self.slots_max();
        }
        #[allow(clippy::cast_possible_truncation, reason = "not above a `u16`")]
        let wanted = wanted as u16;
        wanted
    }
}

/// Fewest slots in an active set.
pub const SLOTS_MIN: u16 = 67;
/// Most slots in an active set.
pub const SLOTS_MAX: u16 = 65_534;

/// Why there is no layout for a device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LayoutError {
    /// The metadata does not fit.
    TooSmall(SectorCount),
    /// The offsets do not fit the 32-bit fields of the superblock.
    TooBig(SectorCount),
    /// Indexed metadata has room for the default activity log only.
    Striping(BadStriping),
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall(size) => write!(f, "{} sectors are too few for metadata", size.0),
            Self::TooBig(size) => write!(f, "{} sectors are too many for metadata", size.0),
            Self::Striping(error) => error.fmt(f),
        }
    }
}

/// Positions of all metadata of one volume.
///
/// # Invariants
///
/// All positions lie on the device, no two areas overlap, every area starts at a multiple of
/// 8 sectors, and `al_offset` is negative exactly for [`Placement::Internal`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Layout {
    placement: Placement,
    striping: Striping,
    md_offset: u64,
    md_size_sect: u32,
    al_offset: i32,
    bm_offset: i32,
}

impl Layout {
    /// Returns the layout for a metadata device (with internal metadata: the whole backing
    /// device) of `device` sectors.
    ///
    /// # Errors
    ///
    /// See [`LayoutError`]. A device below [`Placement::device_sectors_min`] may have a layout
    /// and yet be refused by attach.
    pub fn compute(
        placement: Placement,
        device: SectorCount,
        striping: Striping,
    ) -> Result<Self, LayoutError> {
        match placement {
            Placement::Internal => Self::compute_internal(device, striping),
            Placement::FlexibleExternal => Self::compute_flexible(device, striping),
            Placement::Indexed(_) => Self::compute_indexed(placement, device, striping),
        }
    }

    fn compute_internal(device: SectorCount, striping: Striping) -> Result<Self, LayoutError> {
        let (too_small, too_big) = (LayoutError::TooSmall(device), LayoutError::TooBig(device));
        let log = striping.sectors().0;
        let bitmap = device
            .0
            .div_ceil(DATA_PER_BITMAP_SECTOR)
            .next_multiple_of(SUPERBLOCK_SECTORS);
        let before = log.checked_add(bitmap).ok_or(too_big)?;
        let md_offset = (device.0 & !BLOCK_MASK)
            .checked_sub(SUPERBLOCK_SECTORS)
            .ok_or(too_small)?;
        if md_offset < before {
            return Err(too_small);
        }
        let size = before.checked_add(SUPERBLOCK_SECTORS).ok_or(too_big)?;
        let negative = |sectors: u64| i32::try_from(sectors).map(i32::wrapping_neg);
        Ok(Self {
            placement: Placement::Internal,
            striping,
            md_offset,
            md_size_sect: u32::try_from(size).map_err(|_| too_big)?,
            al_offset: negative(log).map_err(|_| too_big)?,
            bm_offset: negative(before).map_err(|_| too_big)?,
        })
    }

    fn compute_flexible(device: SectorCount, striping: Striping) -> Result<Self, LayoutError> {
        let too_small = LayoutError::TooSmall(device);
        let bm_offset = striping.sectors().0.saturating_add(SUPERBLOCK_SECTORS);
        // A page of bitmap at least; what does not fit the 32-bit field stays unused.
        if device.0 < bm_offset.saturating_add(SUPERBLOCK_SECTORS) {
            return Err(too_small);
        }
        let size = if device.0 > MD_SIZE_MAX {
            MD_SIZE_MAX
        } else {
            device.0
        };
        Ok(Self {
            placement: Placement::FlexibleExternal,
            striping,
            md_offset: 0,
            md_size_sect: u32::try_from(size).map_err(|_| LayoutError::TooBig(device))?,
            al_offset: 8,
            bm_offset: i32::try_from(bm_offset).map_err(|_| too_small)?,
        })
    }

    fn compute_indexed(
        placement: Placement,
        device: SectorCount,
        striping: Striping,
    ) -> Result<Self, LayoutError> {
        if striping != Striping::DEFAULT {
            let (stripes, stripe_blocks) = (striping.stripes, striping.stripe_blocks);
            return Err(LayoutError::Striping(BadStriping {
                stripes,
                stripe_blocks,
            }));
        }
        let end = placement.device_sectors_min().0;
        if device.0 < end {
            return Err(LayoutError::TooSmall(device));
        }
        let md_offset = end.saturating_sub(SLOT);
        let md_size_sect = SLOT_SECTORS;
        Ok(Self {
            placement,
            striping,
            md_offset,
            md_size_sect,
            al_offset: 8,
            bm_offset: 72,
        })
    }

    /// Returns the layout that `superblock` describes, found on a metadata device of `device`
    /// sectors: the checks that attaching makes (`reference/metadata.md` 2.3, number 7).
    ///
    /// # Errors
    ///
    /// See [`GeometryError`].
    pub fn from_superblock(
        placement: Placement,
        device: SectorCount,
        superblock: &Superblock,
    ) -> Result<Self, GeometryError> {
        let error = GeometryError {
            superblock: *superblock,
            device,
        };
        let Sector(md_offset) = placement.superblock_of(device).ok_or(error)?;
        let layout = Self {
            placement,
            striping: superblock.striping,
            md_offset,
            md_size_sect: superblock.md_size_sect,
            al_offset: superblock.al_offset,
            bm_offset: superblock.bm_offset,
        };
        layout.check(device, superblock.la_size).ok_or(error)?;
        Ok(layout)
    }

    /// Returns `None` if anything about the layout is impossible.
    fn check(&self, device: SectorCount, la_size: SectorCount) -> Option<()> {
        let expect = |condition: bool| condition.then_some(());
        let (al, bm) = (i64::from(self.al_offset), i64::from(self.bm_offset));
        let (log, bitmap) = if self.placement.is_internal() {
            expect(al < 0 && bm <= al)?;
            (al.checked_neg()?, al.checked_sub(bm)?)
        } else {
            expect(al == 8 && bm >= al)?;
            (
                bm.checked_sub(al)?,
                i64::from(self.md_size_sect).checked_sub(bm)?,
            )
        };
        expect(u64::try_from(log).ok()? == self.striping.sectors().0)?;
        expect(bm & 7 == 0)?;
        // Bits, bytes, sectors: the reference rounds down each time, and old metadata relies on it.
        let needed = la_size.0.checked_add(7)? >> 3 >> 3 >> 9;
        expect(u64::try_from(bitmap).ok()? >= needed)?;
        if let Placement::Indexed(_) = self.placement {
            expect(self.md_size_sect == SLOT_SECTORS && bm == 72)?;
            expect(self.striping == Striping::DEFAULT)?;
        }
        let start = self
            .md_offset
            .checked_add_signed(i64::from(self.first_offset()))?;
        let room = device.0.checked_sub(u64::from(self.md_size_sect))?;
        expect(room >= start)
    }

    /// Offset of the first metadata sector from the superblock.
    const fn first_offset(&self) -> i32 {
        if self.placement.is_internal() {
            self.bm_offset
        } else {
            0
        }
    }

    fn at(&self, offset: i32) -> Sector {
        // INVARIANT: All areas lie on the device.
        Sector(self.md_offset.saturating_add_signed(i64::from(offset)))
    }

    /// Returns the geometry of the activity log.
    pub const fn striping(&self) -> Striping {
        self.striping
    }

    /// Returns the size of the metadata area, as stored in the superblock.
    pub const fn md_size_sect(&self) -> u32 {
        self.md_size_sect
    }

    /// Returns the offset of the activity log from the superblock, as stored in it, in sectors.
    pub const fn al_offset(&self) -> i32 {
        self.al_offset
    }

    /// Returns the offset of the bitmap from the superblock, as stored in it, in sectors.
    pub const fn bm_offset(&self) -> i32 {
        self.bm_offset
    }

    /// Returns the position of the superblock.
    pub const fn superblock(&self) -> Sector {
        Sector(self.md_offset)
    }

    /// Returns the first sector of all metadata.
    pub fn first(&self) -> Sector {
        self.at(self.first_offset())
    }

    /// Returns the position of the activity log.
    pub fn activity_log(&self) -> Sector {
        self.at(self.al_offset)
    }

    /// Returns the position of the block with this index in the ring, or `None` beyond its end.
    pub fn al_block(&self, block: u32) -> Option<Sector> {
        if block >= self.striping.blocks() {
            return None;
        }
        let offset = u64::from(block).saturating_mul(SUPERBLOCK_SECTORS);
        self.activity_log().checked_add(SectorCount(offset))
    }

    /// Returns the position at which transaction `number` is written.
    pub fn al_sector_of(&self, number: u32) -> Sector {
        let offset = u64::from(self.striping.block_of(number)).saturating_mul(SUPERBLOCK_SECTORS);
        Sector(self.activity_log().0.saturating_add(offset))
    }

    /// Returns the position of the bitmap.
    pub fn bitmap(&self) -> Sector {
        self.at(self.bm_offset)
    }

    /// Returns the size of the bitmap area.
    pub fn bitmap_sectors(&self) -> SectorCount {
        let (al, bm) = (i64::from(self.al_offset), i64::from(self.bm_offset));
        let end = if self.placement.is_internal() {
            al
        } else {
            i64::from(self.md_size_sect)
        };
        SectorCount(u64::try_from(end.saturating_sub(bm)).unwrap_or(0))
    }

    /// Returns how many bits the bitmap area can hold.
    pub fn bitmap_bits(&self) -> BitCount {
        BitCount(self.bitmap_sectors().0.saturating_mul(4096))
    }

    /// Returns position and length of a page of the bitmap, or `None` beyond the end of the area.
    ///
    /// Only the last page of flexible external metadata can be shorter than 8 sectors.
    pub fn bitmap_page(&self, page: BitmapPage) -> Option<(Sector, SectorCount)> {
        let offset = page.0.checked_mul(SUPERBLOCK_SECTORS)?;
        let left = self.bitmap_sectors().0.checked_sub(offset)?;
        if left == 0 {
            return None;
        }
        let sector = self.bitmap().checked_add(SectorCount(offset))?;
        Some((sector, SectorCount(left.min(SUPERBLOCK_SECTORS))))
    }

    /// Returns how many sectors can hold data, on a data device of `data` sectors.
    ///
    /// With internal metadata the size of the data device is already part of the layout.
    pub fn usable(&self, data: SectorCount) -> SectorCount {
        match self.placement {
            Placement::Internal => SectorCount(self.first().0).min(FLEXIBLE_SECTORS_MAX),
            Placement::FlexibleExternal => {
                let covered = self
                    .bitmap_sectors()
                    .0
                    .saturating_mul(DATA_PER_BITMAP_SECTOR);
                data.min(SectorCount(covered)).min(FLEXIBLE_SECTORS_MAX)
            }
            Placement::Indexed(_) => data.min(INDEXED_SECTORS_MAX),
        }
    }

    /// Tells whether metadata would lie farther back on a device of `device` sectors: the space
    /// behind it is of no use until it has been moved there. Only internal metadata does.
    pub fn would_move(&self, device: SectorCount) -> bool {
        let end = self.placement.superblock_of(device);
        end.is_some_and(|Sector(end)| end > self.md_offset)
    }
}

/// The superblock describes areas that cannot be (error 119).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GeometryError {
    /// The superblock.
    pub superblock: Superblock,
    /// Size of the metadata device.
    pub device: SectorCount,
}

impl GeometryError {
    /// Returns the line that the kernel logs; `index` is the number called `meta_dev_idx`.
    pub fn log_line(&self, index: i32) -> impl fmt::Display {
        GeometryLine {
            error: *self,
            index,
        }
    }
}

struct GeometryLine {
    error: GeometryError,
    index: i32,
}

impl fmt::Display for GeometryLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GeometryError { superblock, device } = &self.error;
        write!(
            f,
            "meta data offsets don't make sense: idx={} al_s={}, al_sz4k={}, al_offset={}, \
             bm_offset={}, md_size_sect={}, la_size={}, md_capacity={}",
            self.index,
            superblock.striping.stripes(),
            superblock.striping.stripe_blocks(),
            superblock.al_offset,
            superblock.bm_offset,
            superblock.md_size_sect,
            superblock.la_size.0,
            device.0,
        )
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
