//! Finding out, after a crash, which extents may have had writes in flight.
//!
//! [`replay`] walks the ring twice: once to find the oldest and the newest transaction, once to
//! apply all of them in order to a table of slots that the caller lends. It changes nothing on
//! disk. Facts: `reference/metadata.md` 3.6.
//!
//! The order is that of positions in the ring. Where a transaction number wraps in a ring whose
//! length is no power of two, positions jump; a volume would have to write 2^32 transactions
//! without being created anew to get there.

use super::al_transaction::{decode, AlBlock, SlotValue, Transaction};
use super::layout::{Striping, SLOTS_MAX};

/// Number of entries that the table of slots must have.
pub const SLOTS_LEN: usize = SLOTS_MAX as usize;

/// What the ring says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// No block is readable: not an activity log, or everything is lost.
    NoLog,
    /// Blocks are readable, none is a transaction, and that is not as it was initialised.
    NoTransaction,
    /// The log was never written to, or the very first write was torn: no extent was active.
    Unused,
    /// Transactions were applied; the table of slots holds the active set.
    Applied {
        /// Number of the oldest transaction.
        oldest: u32,
        /// Number of the newest transaction.
        newest: u32,
    },
}

/// The result of [`replay`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Replay {
    /// What the ring says.
    pub outcome: Outcome,
    /// Blocks that are torn or something else; reported if not all are.
    pub corrupt: u32,
}

impl Replay {
    /// Tells whether the active set is known.
    pub const fn is_usable(&self) -> bool {
        matches!(self.outcome, Outcome::Unused | Outcome::Applied { .. })
    }
}

/// A slot that no active set can have. It is ignored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SlotOutOfRange {
    /// Number of the transaction.
    pub number: u32,
    /// The slot.
    pub slot: u32,
    /// It was in the updates, not in the context.
    pub is_update: bool,
}

/// Everything that [`replay`] needs from its caller.
pub struct Source<'a, R, C, N> {
    /// Geometry of the ring.
    pub striping: Striping,
    /// Reads the block with this index (0 is the first one on disk) into a buffer of 4096 bytes.
    pub read: R,
    /// The checksum function of [`super::al_transaction`].
    pub crc: C,
    /// Told about every slot that had to be ignored.
    pub ignored: N,
    /// A buffer of 4096 bytes.
    pub block: &'a mut [u8],
}

/// Range of transaction numbers and of positions in the ring.
#[derive(Clone, Copy)]
struct Span {
    oldest: (u32, u32),
    newest: (u32, u32),
}

impl Span {
    /// Takes in the transaction `number` at `position`. Numbers wrap.
    fn include(self, number: u32, position: u32) -> Self {
        let at = (number, position);
        let is_older = is_negative(number.wrapping_sub(self.oldest.0));
        let is_newer = is_negative(self.newest.0.wrapping_sub(number));
        Self {
            oldest: if is_older { at } else { self.oldest },
            newest: if is_newer { at } else { self.newest },
        }
    }
}

const fn is_negative(difference: u32) -> bool {
    difference >> 31 != 0
}

/// Replays the ring into `slots`, which must have [`SLOTS_LEN`] entries; all are overwritten.
///
/// # Errors
///
/// Those of the `read` function; the contents of `slots` mean nothing then.
///
/// # Panics
///
/// Never; a table that is too short loses slots, which are then reported as out of range.
pub fn replay<E>(
    source: &mut Source<
        '_,
        impl FnMut(u32, &mut [u8]) -> Result<(), E>,
        impl Fn(&[u8]) -> u32,
        impl FnMut(SlotOutOfRange),
    >,
    slots: &mut [SlotValue],
) -> Result<Replay, E> {
    slots.fill(None);
    let blocks = source.striping.blocks();
    let mut valid = 0_u32;
    let mut first_is_valid = false;
    let mut span: Option<Span> = None;
    for position in 0..blocks {
        (source.read)(source.striping.block_of(position), source.block)?;
        let found = decode(source.block, &source.crc);
        if found.is_some() {
            valid = valid.saturating_add(1);
            first_is_valid |= position == 0;
        }
        if let Some(AlBlock::Update(transaction)) = found {
            let at = (transaction.head.number, position);
            let start = Span {
                oldest: at,
                newest: at,
            };
            span = Some(span.map_or(start, |span| span.include(at.0, at.1)));
        }
    }
    let corrupt = blocks.saturating_sub(valid);
    let outcome = match span {
        Some(span) => {
            apply_all(source, span, slots)?;
            Outcome::Applied {
                oldest: span.oldest.0,
                newest: span.newest.0,
            }
        }
        None if valid == 0 => Outcome::NoLog,
        None if corrupt == 0 || (corrupt == 1 && !first_is_valid) => Outcome::Unused,
        None => Outcome::NoTransaction,
    };
    Ok(Replay { outcome, corrupt })
}

/// Applies the transactions from the oldest to the newest, in the order of the ring.
fn apply_all<E>(
    source: &mut Source<
        '_,
        impl FnMut(u32, &mut [u8]) -> Result<(), E>,
        impl Fn(&[u8]) -> u32,
        impl FnMut(SlotOutOfRange),
    >,
    span: Span,
    slots: &mut [SlotValue],
) -> Result<(), E> {
    let blocks = source.striping.blocks();
    let mut position = span.oldest.1;
    // Bounded: at most once around, even if a damaged disk answers differently the second time.
    for _ in 0..blocks {
        (source.read)(source.striping.block_of(position), source.block)?;
        if let Some(AlBlock::Update(transaction)) = decode(source.block, &source.crc) {
            apply(&transaction, slots, &mut source.ignored);
        }
        if position == span.newest.1 {
            break;
        }
        position = position.saturating_add(1);
        if position == blocks {
            position = 0;
        }
    }
    Ok(())
}

fn apply(
    transaction: &Transaction<'_>,
    slots: &mut [SlotValue],
    ignored: &mut impl FnMut(SlotOutOfRange),
) {
    let number = transaction.head.number;
    let mut set = |(slot, value): (u32, SlotValue), is_update| {
        let index = usize::try_from(slot).unwrap_or(usize::MAX);
        match slots.get_mut(index) {
            Some(entry) if index < SLOTS_LEN => *entry = value,
            Some(_) | None => ignored(SlotOutOfRange {
                number,
                slot,
                is_update,
            }),
        }
    };
    transaction.context().for_each(|entry| set(entry, false));
    transaction.updates().for_each(|entry| set(entry, true));
}

#[cfg(test)]
#[path = "al_replay_tests.rs"]
mod tests;
