//! One block of the activity log: up to 64 slot changes and a window of the active set.
//!
//! The *context* states slots as they were before the updates of the same block; its window moves
//! on with every block, so that each slot is stated again before the ring has come round.
//! Facts: `reference/metadata.md` 3.2 and 3.3.
//!
//! The checksum is CRC-32C with initial value 0 and without inversion at the end. It is passed in
//! as a function over bytes: in the kernel `crc32c(0, …)`, with the host crate of that name
//! `!crc32c_append(!0, …)`.

use super::{WrongBufferSize, BLOCK_BYTES};
use crate::bytes::{Reader, Writer};
use crate::units::AlExtent;
use core::fmt;

/// Most slot changes in one block.
pub const UPDATES_MAX: usize = 64;
/// Slots that one block states.
pub const CONTEXT_LEN: u16 = 919;

const MAGIC: u32 = 0x69cb_65a2;
const KIND_UPDATE: u16 = 0;
const KIND_INITIALISED: u16 = 0xffff;
const INITIALISED_CRC: u32 = 0x709c_c651;
const NO_SLOT: u16 = u16::MAX;
const NO_EXTENT: u32 = u32::MAX;

const CRC_OFFSET: usize = 8;

// Head, slot numbers, extents and context fill the block.
const _: () = assert!(36 + 6 * UPDATES_MAX + 4 * CONTEXT_LEN as usize == BLOCK_BYTES);

/// The contents of a slot: an extent, or nothing.
pub type SlotValue = Option<AlExtent>;

const fn slot_to_disk(value: SlotValue) -> u32 {
    match value {
        Some(extent) => extent.0,
        None => NO_EXTENT,
    }
}

const fn slot_from_disk(value: u32) -> SlotValue {
    match value {
        NO_EXTENT => None,
        number => Some(AlExtent(number)),
    }
}

/// A new content for one slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Update {
    /// The slot.
    pub slot: u16,
    /// What it holds from now on.
    pub value: SlotValue,
}

/// The numbers in front of a transaction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TransactionHead {
    /// Number of the transaction; wraps.
    pub number: u32,
    /// Slots in the active set.
    pub context_size: u16,
    /// First slot that the context states.
    pub context_start: u16,
}

impl TransactionHead {
    /// Returns the head of the next transaction.
    pub const fn next(self) -> Self {
        let start = self.context_start.saturating_add(CONTEXT_LEN);
        let start = if start >= self.context_size { 0 } else { start };
        Self {
            number: self.number.wrapping_add(1),
            context_start: start,
            ..self
        }
    }
}

/// Why a transaction could not be written into the buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TransactionError {
    /// The buffer does not hold one block.
    Buffer(WrongBufferSize),
    /// More than [`UPDATES_MAX`] changes.
    TooManyUpdates(usize),
}

impl fmt::Display for TransactionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Buffer(error) => error.fmt(f),
            Self::TooManyUpdates(found) => {
                write!(f, "{found} slot changes do not fit into one transaction")
            }
        }
    }
}

/// Writes a transaction into all 4096 bytes of `block`.
///
/// `content` tells what a slot held *before* `updates`; it is asked for at most 919 slots from
/// `head.context_start` on, all below `head.context_size`. `crc` is called once, on the block.
///
/// # Errors
///
/// See [`TransactionError`].
pub fn encode(
    head: TransactionHead,
    updates: &[Update],
    mut content: impl FnMut(u16) -> SlotValue,
    crc: impl FnOnce(&[u8]) -> u32,
    block: &mut [u8],
) -> Result<(), TransactionError> {
    if block.len() != BLOCK_BYTES {
        return Err(TransactionError::Buffer(WrongBufferSize(block.len())));
    }
    let too_many = TransactionError::TooManyUpdates(updates.len());
    let n_updates = u16::try_from(updates.len()).map_err(|_| too_many)?;
    let unused = UPDATES_MAX.checked_sub(updates.len()).ok_or(too_many)?;
    let mut out = Writer::new(block);
    out.u32(MAGIC);
    out.u32(head.number);
    out.u32(0);
    out.u16(KIND_UPDATE);
    out.u16(n_updates);
    out.u16(head.context_size);
    out.u16(head.context_start);
    out.fill(0, 16);
    for update in updates {
        out.u16(update.slot);
    }
    out.fill(0xff, unused.saturating_mul(2));
    for update in updates {
        out.u32(slot_to_disk(update.value));
    }
    out.fill(0xff, unused.saturating_mul(4));
    let end = head
        .context_start
        .saturating_add(CONTEXT_LEN)
        .min(head.context_size);
    for slot in head.context_start..end {
        out.u32(slot_to_disk(content(slot)));
    }
    let stated = end.saturating_sub(head.context_start);
    out.fill(
        0xff,
        usize::from(CONTEXT_LEN.saturating_sub(stated)).saturating_mul(4),
    );
    debug_assert_eq!(out.finish(), Ok(BLOCK_BYTES));
    let sum = crc(block);
    put_crc(block, sum);
    Ok(())
}

/// Writes the block that every position of a new or replayed ring holds.
///
/// # Errors
///
/// If the buffer has not 4096 bytes.
pub fn encode_initialised(block: &mut [u8]) -> Result<(), WrongBufferSize> {
    if block.len() != BLOCK_BYTES {
        return Err(WrongBufferSize(block.len()));
    }
    block.fill(0);
    let mut out = Writer::new(block);
    out.u32(MAGIC);
    out.u32(0);
    out.u32(INITIALISED_CRC);
    out.u16(KIND_INITIALISED);
    Ok(())
}

fn put_crc(block: &mut [u8], sum: u32) {
    if let Some(field) = block
        .get_mut(CRC_OFFSET..)
        .and_then(<[u8]>::first_chunk_mut)
    {
        *field = sum.to_be_bytes();
    }
}

/// What a block of the ring holds.
#[derive(Clone, Copy, Debug)]
pub enum AlBlock<'a> {
    /// Never used since the log was initialised.
    Initialised,
    /// A transaction.
    Update(Transaction<'a>),
}

/// A transaction whose magic and checksum have been found correct.
#[derive(Clone, Copy, Debug)]
pub struct Transaction<'a> {
    /// The numbers in front.
    pub head: TransactionHead,
    n_updates: u16,
    slots: &'a [u8],
    extents: &'a [u8],
    context: &'a [u8],
}

/// Decodes a block, or returns `None` if it is torn or something else.
///
/// The checksum field is set to zero while `crc` looks at the block, and then restored.
pub fn decode(block: &mut [u8], crc: impl FnOnce(&[u8]) -> u32) -> Option<AlBlock<'_>> {
    if block.len() != BLOCK_BYTES {
        return None;
    }
    let mut input = Reader::new(block);
    if input.u32()? != MAGIC {
        return None;
    }
    input.skip(4)?;
    let expected = input.u32()?;
    put_crc(block, 0);
    let found = crc(block);
    put_crc(block, expected);
    if found != expected {
        return None;
    }
    parse(block)
}

/// Reads the fields of a block whose magic and checksum are known to be right.
fn parse(block: &[u8]) -> Option<AlBlock<'_>> {
    let mut input = Reader::new(block);
    input.skip(4)?;
    let number = input.u32()?;
    input.skip(4)?;
    if input.u16()? == KIND_INITIALISED {
        return Some(AlBlock::Initialised);
    }
    let n_updates = input.u16()?;
    let head = TransactionHead {
        number,
        context_size: input.u16()?,
        context_start: input.u16()?,
    };
    input.skip(16)?;
    let slots = input.bytes(2 * UPDATES_MAX)?;
    let extents = input.bytes(4 * UPDATES_MAX)?;
    Some(AlBlock::Update(Transaction {
        head,
        n_updates,
        slots,
        extents,
        context: input.rest(),
    }))
}

impl<'a> Transaction<'a> {
    /// Returns the slots stated by the context. Slot numbers are not limited to the active set;
    /// entries that say nothing (free, and beyond the active set) are left out.
    pub fn context(&self) -> impl Iterator<Item = (u32, SlotValue)> + 'a {
        let (start, size) = (
            u32::from(self.head.context_start),
            u32::from(self.head.context_size),
        );
        let values = self.context.chunks_exact(4).map(be32).map(slot_from_disk);
        (start..)
            .zip(values)
            .filter(move |&(slot, value)| value.is_some() || slot < size)
    }

    /// Returns the slot changes. Slot numbers are not limited to the active set.
    pub fn updates(&self) -> impl Iterator<Item = (u32, SlotValue)> + 'a {
        let used = usize::from(self.n_updates);
        let slots = self.slots.chunks_exact(2).map(be16);
        let values = self.extents.chunks_exact(4).map(be32).map(slot_from_disk);
        slots
            .zip(values)
            .enumerate()
            .filter(move |&(index, (slot, _))| index < used || slot != NO_SLOT)
            .map(|(_, (slot, value))| (u32::from(slot), value))
    }
}

fn be16(bytes: &[u8]) -> u16 {
    bytes
        .first_chunk()
        .map_or(NO_SLOT, |bytes| u16::from_be_bytes(*bytes))
}

fn be32(bytes: &[u8]) -> u32 {
    bytes
        .first_chunk()
        .map_or(NO_EXTENT, |bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
#[path = "al_tests.rs"]
pub(super) mod tests;
