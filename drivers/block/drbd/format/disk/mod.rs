//! Metadata on disk: where it lies and what its blocks contain.
//!
//! All integers are big-endian except for the bitmap, which is a little-endian string of bits.
//! Blocks have 4 KiB and are read into and written from buffers of the caller; the checksum
//! function of the activity log is passed in. Facts: `reference/metadata.md` 1 to 4.

pub mod al_replay;
pub mod al_transaction;
pub mod bitmap;
pub mod layout;
pub mod superblock;

/// Bytes in a metadata block: superblock, transaction, page of the bitmap.
pub const BLOCK_BYTES: usize = 4096;
/// Sectors in a metadata block.
pub const BLOCK_SECTORS: u32 = 8;

/// A buffer that does not hold a whole block of 4 KiB.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WrongBufferSize(pub usize);

impl core::fmt::Display for WrongBufferSize {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "metadata block of {} bytes, expected {BLOCK_BYTES}",
            self.0
        )
    }
}
