//! The superblock: one block of 4 KiB that is always written as a whole.
//!
//! The magic number tells who wrote it last: the tools leave it *clean*, the driver makes it
//! *unclean* with its first write, and only replaying the activity log makes it clean again.
//! Facts: `reference/metadata.md` 2.

use super::layout::{BadStriping, Layout, Striping};
use super::{WrongBufferSize, BLOCK_BYTES};
use crate::bytes::{Reader, Writer};
use crate::types::{Uuid, UuidSet};
use crate::units::{SectorCount, BIT_BYTES};
use core::fmt;

const MAGIC_V06: u32 = 0x8374_0269;
const MAGIC_V07: u32 = 0x8374_026a;
const MAGIC_CLEAN: u32 = 0x8374_026b;
const MAGIC_UNCLEAN: u32 = 0x8374_026c;
const MAGIC_V09: u32 = 0x8374_026d;

/// Bytes in front of the zeroes that fill the block.
const FIELDS_BYTES: usize = 96;

/// Who wrote the superblock last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Magic {
    /// The tools.
    Clean,
    /// The driver: the activity log has to be applied before the next attach.
    Unclean,
}

impl Magic {
    const fn to_disk(self) -> u32 {
        match self {
            Self::Clean => MAGIC_CLEAN,
            Self::Unclean => MAGIC_UNCLEAN,
        }
    }
}

/// Flags of the superblock. Bits that we do not know are preserved.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MdFlags(pub u32);

impl MdFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The local data is a usable generation.
    pub const CONSISTENT: Self = Self(0x001);
    /// The node was primary.
    pub const PRIMARY_IND: Self = Self(0x002);
    /// A peer was connected.
    pub const CONNECTED_IND: Self = Self(0x004);
    /// The bitmap on disk is not trustworthy: every bit counts as set.
    pub const FULL_SYNC: Self = Self(0x008);
    /// The disk was better than Outdated.
    pub const WAS_UP_TO_DATE: Self = Self(0x010);
    /// The peer's disk was Inconsistent or Outdated.
    pub const PEER_OUT_DATED: Self = Self(0x020);
    /// The node was primary when it crashed, and has not been in sync with its peer since.
    pub const CRASHED_PRIMARY: Self = Self(0x040);
    /// The activity log has been applied to the bitmap.
    pub const AL_CLEAN: Self = Self(0x080);
    /// The activity log is not maintained.
    pub const AL_DISABLED: Self = Self(0x100);

    /// Tells whether all flags of `other` are set.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the flags set on either side.
    #[inline]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns these flags with all flags of `other` set or cleared.
    #[inline]
    pub const fn with(self, other: Self, set: bool) -> Self {
        if set {
            Self(self.0 | other.0)
        } else {
            Self(self.0 & !other.0)
        }
    }
}

/// The values of a superblock of format v08.
///
/// The magic, the size of a bit and the striping have been checked; whether the offsets make
/// sense on the device is for [`Layout::from_superblock`] to say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Superblock {
    /// Last agreed size of the device; 0 if none was agreed yet.
    pub la_size: SectorCount,
    /// Generations of the data.
    pub uuids: UuidSet,
    /// Identity of this metadata; only carried along.
    pub device_uuid: u64,
    /// Flags.
    pub flags: MdFlags,
    /// Who wrote the superblock last.
    pub magic: Magic,
    /// Size of the metadata area in sectors.
    pub md_size_sect: u32,
    /// Position of the activity log relative to the superblock, in sectors.
    pub al_offset: i32,
    /// Slots of the active set. Informational.
    pub al_nr_extents: u32,
    /// Position of the bitmap relative to the superblock, in sectors.
    pub bm_offset: i32,
    /// Largest request of the peer when it was last seen, in bytes.
    pub la_peer_max_bio_bytes: u32,
    /// Geometry of the activity log.
    pub striping: Striping,
}

/// Why a block is not a superblock that can be used.
///
/// `Display` gives the lines that the kernel logs (`reference/metadata.md` 2.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SuperblockError {
    /// The buffer does not hold one block.
    Buffer(WrongBufferSize),
    /// The activity log has to be applied first (error 165; only [`Superblock::decode_clean`]).
    Unclean,
    /// Metadata of another version: 6, 7 or 9.
    Version(u8),
    /// No metadata.
    Magic(u32),
    /// A bit of the bitmap must cover 4096 bytes.
    BytesPerBit(u32),
    /// The activity log has an impossible geometry.
    Striping(BadStriping),
}

impl fmt::Display for SuperblockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Buffer(error) => error.fmt(f),
            Self::Unclean => f.write_str("Found unclean meta data. Did you \"drbdadm apply-al\"?"),
            Self::Version(7) => {
                f.write_str("Found old (0.7) meta data magic. Did you \"drbdadm create-md\"?")
            }
            Self::Version(_) | Self::Magic(_) => {
                f.write_str("Meta data magic not found. Did you \"drbdadm create-md\"?")
            }
            Self::BytesPerBit(found) => {
                write!(
                    f,
                    "unexpected bm_bytes_per_bit: {found} (expected {BIT_BYTES})"
                )
            }
            Self::Striping(error) => error.fmt(f),
        }
    }
}

impl Superblock {
    /// Returns the superblock of a volume that has never been used.
    pub const fn new(layout: &Layout) -> Self {
        Self {
            la_size: SectorCount(0),
            uuids: UuidSet {
                current: Uuid::JUST_CREATED,
                bitmap: Uuid::NONE,
                history: [Uuid::NONE, Uuid::NONE],
            },
            device_uuid: 0,
            flags: MdFlags::AL_CLEAN,
            magic: Magic::Clean,
            md_size_sect: layout.md_size_sect(),
            al_offset: layout.al_offset(),
            al_nr_extents: 257,
            bm_offset: layout.bm_offset(),
            la_peer_max_bio_bytes: 0,
            striping: layout.striping(),
        }
    }

    /// Decodes a block, clean or not. For the tools.
    ///
    /// # Errors
    ///
    /// See [`SuperblockError`].
    pub fn decode(block: &[u8]) -> Result<Self, SuperblockError> {
        let raw = Self::read(block)?;
        Self::check(raw)
    }

    /// Decodes a block that the driver may attach: as [`Superblock::decode`], but unclean
    /// metadata is refused, before anything else about it is looked at.
    ///
    /// # Errors
    ///
    /// See [`SuperblockError`].
    pub fn decode_clean(block: &[u8]) -> Result<Self, SuperblockError> {
        let raw = Self::read(block)?;
        let applied = MdFlags(raw.flags).contains(MdFlags::AL_CLEAN);
        if raw.magic == MAGIC_UNCLEAN || (raw.magic == MAGIC_CLEAN && !applied) {
            return Err(SuperblockError::Unclean);
        }
        Self::check(raw)
    }

    /// Tells whether the activity log has to be applied before the metadata can be used.
    pub fn is_unclean(&self) -> bool {
        self.magic == Magic::Unclean || !self.flags.contains(MdFlags::AL_CLEAN)
    }

    fn read(block: &[u8]) -> Result<Raw, SuperblockError> {
        let wrong = SuperblockError::Buffer(WrongBufferSize(block.len()));
        if block.len() != BLOCK_BYTES {
            return Err(wrong);
        }
        Raw::read(Reader::new(block)).ok_or(wrong)
    }

    fn check(raw: Raw) -> Result<Self, SuperblockError> {
        let magic = match raw.magic {
            MAGIC_CLEAN => Magic::Clean,
            MAGIC_UNCLEAN => Magic::Unclean,
            MAGIC_V06 => return Err(SuperblockError::Version(6)),
            MAGIC_V07 => return Err(SuperblockError::Version(7)),
            MAGIC_V09 => return Err(SuperblockError::Version(9)),
            found => return Err(SuperblockError::Magic(found)),
        };
        if raw.bm_bytes_per_bit != BIT_BYTES {
            return Err(SuperblockError::BytesPerBit(raw.bm_bytes_per_bit));
        }
        let striping = Striping::new(raw.al_stripes, raw.al_stripe_size_4k)
            .map_err(SuperblockError::Striping)?;
        Ok(Self {
            la_size: SectorCount(raw.la_size_sect),
            uuids: raw.uuids,
            device_uuid: raw.device_uuid,
            flags: MdFlags(raw.flags),
            magic,
            md_size_sect: raw.md_size_sect,
            al_offset: raw.al_offset,
            al_nr_extents: raw.al_nr_extents,
            bm_offset: raw.bm_offset,
            la_peer_max_bio_bytes: raw.la_peer_max_bio_size,
            striping,
        })
    }

    /// Writes all 4096 bytes of `block`.
    ///
    /// # Errors
    ///
    /// If the buffer has another size.
    pub fn encode(&self, block: &mut [u8]) -> Result<(), WrongBufferSize> {
        if block.len() != BLOCK_BYTES {
            return Err(WrongBufferSize(block.len()));
        }
        block.fill(0);
        let mut out = Writer::new(block);
        let [younger, older] = self.uuids.history;
        out.u64(self.la_size.0);
        for uuid in [self.uuids.current, self.uuids.bitmap, younger, older] {
            out.u64(uuid.0);
        }
        out.u64(self.device_uuid);
        out.u64(0);
        out.u32(self.flags.0);
        out.u32(self.magic.to_disk());
        out.u32(self.md_size_sect);
        out.i32(self.al_offset);
        out.u32(self.al_nr_extents);
        out.i32(self.bm_offset);
        out.u32(BIT_BYTES);
        out.u32(self.la_peer_max_bio_bytes);
        out.u32(self.striping.stripes());
        out.u32(self.striping.stripe_blocks());
        debug_assert_eq!(out.finish(), Ok(FIELDS_BYTES));
        Ok(())
    }
}

/// The fields as they are on disk.
struct Raw {
    la_size_sect: u64,
    uuids: UuidSet,
    device_uuid: u64,
    flags: u32,
    magic: u32,
    md_size_sect: u32,
    al_offset: i32,
    al_nr_extents: u32,
    bm_offset: i32,
    bm_bytes_per_bit: u32,
    la_peer_max_bio_size: u32,
    al_stripes: u32,
    al_stripe_size_4k: u32,
}

impl Raw {
    fn read(mut input: Reader<'_>) -> Option<Self> {
        let la_size_sect = input.u64()?;
        let uuids = UuidSet {
            current: Uuid(input.u64()?),
            bitmap: Uuid(input.u64()?),
            history: [Uuid(input.u64()?), Uuid(input.u64()?)],
        };
        let device_uuid = input.u64()?;
        input.skip(8)?;
        Some(Self {
            la_size_sect,
            uuids,
            device_uuid,
            flags: input.u32()?,
            magic: input.u32()?,
            md_size_sect: input.u32()?,
            al_offset: input.i32()?,
            al_nr_extents: input.u32()?,
            bm_offset: input.i32()?,
            bm_bytes_per_bit: input.u32()?,
            la_peer_max_bio_size: input.u32()?,
            al_stripes: input.u32()?,
            al_stripe_size_4k: input.u32()?,
        })
    }
}

#[cfg(test)]
#[path = "superblock_tests.rs"]
mod tests;
