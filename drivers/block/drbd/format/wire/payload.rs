//! Layouts of the fixed parts of packets: data, requests, acknowledgements, state changes.
//!
//! What two nodes tell each other about themselves is in [`super::settings`].
//!
//! Each struct here is a checked value: what its fields promise holds once decoding succeeded.
//! Numbers that only the connection can judge (a sequence number, a generation, a capacity) are
//! handed on as they came. Facts: `reference/wire.md` 3.3.

use super::command::{Command, Frame, DATA_BYTES_MAX};
use super::features::Terms;
use super::EncodeError;
use crate::bytes::{Reader, Writer};
use crate::state_word::StateWord;
use crate::types::UnknownNumber;
use crate::units::{Sector, SectorRange};
use core::fmt;

/// Most bytes that one discard, zero-out or out-of-sync notice may cover.
pub const DISCARD_BYTES_MAX: u32 = 128 << 20;

/// Why the fixed part of a packet was refused. The connection has to be given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PacketError {
    /// The caller passed fewer or more bytes than [`Frame::fixed_len`].
    Size(Command, usize),
    /// A field has a value that it must not have.
    Value(Command, &'static str, u64),
    /// A field should name one of a list, and does not.
    Number(Command, UnknownNumber),
    /// A text is not terminated or not printable.
    Text(Command, &'static str),
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(command, found) => write!(f, "{command}: fixed part of {found} bytes"),
            Self::Value(command, field, found) => write!(f, "{command}: bad {field} {found:#x}"),
            Self::Number(command, error) => write!(f, "{command}: {error}"),
            Self::Text(command, field) => write!(f, "{command}: {field} is not a name"),
        }
    }
}

/// How a payload is read and written. Implemented by every struct of this file.
pub(super) trait Layout<'a>: Sized {
    /// Reads the fixed part; all of it must be consumed or known to be padding.
    fn decode(terms: &Terms, frame: &Frame, input: Reader<'a>) -> Result<Self, PacketError>;

    /// Writes the fixed part.
    fn encode(&self, terms: &Terms, out: &mut Writer<'_>) -> Result<(), EncodeError>;

    /// Returns how many bytes of digest and data the caller sends behind the fixed part.
    fn tail_len(&self) -> u32 {
        0
    }
}

pub(super) fn size_error(frame: &Frame) -> PacketError {
    // The table of lengths in `command` and the layouts here agree, or a test fails.
    PacketError::Size(
        frame.command(),
        usize::try_from(frame.fixed_len()).unwrap_or(usize::MAX),
    )
}

/// A handle that the originator of a request chooses and the other side echoes unchanged.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct BlockId(pub u64);

impl BlockId {
    /// Resync and verify traffic; never an application request.
    pub const SYNCER: Self = Self(u64::MAX);
    /// In `P_OV_RESULT`: the block is the same on both nodes.
    pub const IN_SYNC: Self = Self(4711);
    /// In `P_OV_RESULT`: the block differs.
    pub const OUT_OF_SYNC: Self = Self(4712);
}

/// Flags of a write.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct DataFlags(pub u32);

impl DataFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Hint: somebody waits for this write.
    pub const RW_SYNC: Self = Self(2);
    /// The sender is in a resync: bits may be cleared once both nodes have written.
    pub const MAY_SET_IN_SYNC: Self = Self(4);
    /// Force unit access (95).
    pub const FUA: Self = Self(16);
    /// Flush the disk first (95).
    pub const FLUSH: Self = Self(32);
    /// Discard; with `ZEROES`: zeroing may deallocate (95).
    pub const DISCARD: Self = Self(64);
    /// Answer with `P_RECV_ACK` (100).
    pub const SEND_RECEIVE_ACK: Self = Self(128);
    /// Answer with `P_WRITE_ACK` (100).
    pub const SEND_WRITE_ACK: Self = Self(256);
    /// Write zeroes.
    pub const ZEROES: Self = Self(1024);

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
}

/// Head of `P_DATA`, `P_DATA_REPLY` and `P_RS_DATA_REPLY`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Data {
    /// First sector. `sector` plus `data_len` does not overflow.
    pub sector: Sector,
    /// Handle of the originator.
    pub block_id: BlockId,
    /// Sequence number of the sender; 0 in replies.
    pub seq: u32,
    /// Flags of a write; 0 in replies.
    pub flags: DataFlags,
    /// Bytes of digest that follow.
    pub digest_len: u32,
    /// Bytes of data that follow the digest: a multiple of 512, at most 1 MiB. Zero only in a
    /// `P_DATA` that is a mere flush.
    pub data_len: u32,
}

impl<'a> Layout<'a> for Data {
    fn decode(_: &Terms, frame: &Frame, mut input: Reader<'a>) -> Result<Self, PacketError> {
        let command = frame.command();
        let mut read = || {
            Some(Self {
                sector: Sector(input.u64()?),
                block_id: BlockId(input.u64()?),
                seq: input.u32()?,
                flags: DataFlags(input.u32()?),
                digest_len: frame.digest_len(),
                data_len: frame.data_len(),
            })
        };
        let data = read().ok_or_else(|| size_error(frame))?;
        if data.data_len == 0 && !data.flags.contains(DataFlags::FLUSH) {
            return Err(PacketError::Value(command, "data length", 0));
        }
        check_end(command, data.sector, data.data_len)?;
        Ok(data)
    }

    fn encode(&self, _: &Terms, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        if self.data_len > DATA_BYTES_MAX {
            return Err(EncodeError::NotExpressible("data above 1 MiB"));
        }
        out.u64(self.sector.0);
        out.u64(self.block_id.0);
        out.u32(self.seq);
        out.u32(self.flags.0);
        Ok(())
    }

    fn tail_len(&self) -> u32 {
        self.data_len.saturating_add(self.digest_len)
    }
}

fn check_end(command: Command, sector: Sector, len_bytes: u32) -> Result<(), PacketError> {
    match SectorRange::from_bytes(sector, len_bytes) {
        Some(range) if range.end().bytes().is_some() => Ok(()),
        Some(_) | None => Err(PacketError::Value(command, "sector", sector.0)),
    }
}

fn check_len(command: Command, len_bytes: u32, max: u32) -> Result<(), PacketError> {
    if len_bytes == 0 || len_bytes & 511 != 0 || len_bytes > max {
        return Err(PacketError::Value(command, "length", u64::from(len_bytes)));
    }
    Ok(())
}

/// `P_TRIM` and `P_ZEROES`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Trim {
    /// First sector. `sector` plus `len_bytes` does not overflow.
    pub sector: Sector,
    /// Handle of the originator.
    pub block_id: BlockId,
    /// Sequence number of the sender.
    pub seq: u32,
    /// Flags.
    pub flags: DataFlags,
    /// Bytes affected: a multiple of 512, not 0, at most 128 MiB.
    pub len_bytes: u32,
}

impl<'a> Layout<'a> for Trim {
    fn decode(_: &Terms, frame: &Frame, mut input: Reader<'a>) -> Result<Self, PacketError> {
        let mut read = || {
            Some(Self {
                sector: Sector(input.u64()?),
                block_id: BlockId(input.u64()?),
                seq: input.u32()?,
                flags: DataFlags(input.u32()?),
                len_bytes: input.u32()?,
            })
        };
        let trim = read().ok_or_else(|| size_error(frame))?;
        check_len(frame.command(), trim.len_bytes, DISCARD_BYTES_MAX)?;
        check_end(frame.command(), trim.sector, trim.len_bytes)?;
        Ok(trim)
    }

    fn encode(&self, _: &Terms, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u64(self.sector.0);
        out.u64(self.block_id.0);
        out.u32(self.seq);
        out.u32(self.flags.0);
        out.u32(self.len_bytes);
        Ok(())
    }
}

/// A request for a block, or the digest of one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BlockRequest<'a> {
    /// First sector. `sector` plus `len_bytes` does not overflow.
    pub sector: Sector,
    /// Handle of the originator, [`BlockId::SYNCER`] for resync and verify.
    pub block_id: BlockId,
    /// Bytes: a multiple of 512 from 512 to 1 MiB.
    pub len_bytes: u32,
    /// Digest of the block in `P_OV_REPLY` and `P_CSUM_RS_REQUEST` (1 to 64 bytes), else empty.
    ///
    /// Its length is not yet compared with that of the algorithm in use.
    pub digest: &'a [u8],
}

impl<'a> Layout<'a> for BlockRequest<'a> {
    fn decode(_: &Terms, frame: &Frame, mut input: Reader<'a>) -> Result<Self, PacketError> {
        let mut read = || {
            let sector = Sector(input.u64()?);
            let block_id = BlockId(input.u64()?);
            let len_bytes = input.u32()?;
            // Peers leave stale bytes in the padding.
            input.skip(4)?;
            Some(Self {
                sector,
                block_id,
                len_bytes,
                digest: input.rest(),
            })
        };
        let request = read().ok_or_else(|| size_error(frame))?;
        check_len(frame.command(), request.len_bytes, DATA_BYTES_MAX)?;
        check_end(frame.command(), request.sector, request.len_bytes)?;
        Ok(request)
    }

    fn encode(&self, _: &Terms, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u64(self.sector.0);
        out.u64(self.block_id.0);
        out.u32(self.len_bytes);
        out.u32(0);
        out.bytes(self.digest);
        Ok(())
    }
}

/// Any acknowledgement of a block. All four fields are as the peer sent them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BlockAck {
    /// Sector echoed from the request.
    pub sector: Sector,
    /// Handle echoed from the request; the result in `P_OV_RESULT`.
    pub block_id: BlockId,
    /// Bytes. **Not checked**: a `P_NEG_ACK` may hold nonsense here (`reference/wire.md` A.5).
    pub len_bytes: u32,
    /// Sequence number of the sender.
    pub seq: u32,
}

impl<'a> Layout<'a> for BlockAck {
    fn decode(_: &Terms, frame: &Frame, mut input: Reader<'a>) -> Result<Self, PacketError> {
        let mut read = || {
            Some(Self {
                sector: Sector(input.u64()?),
                block_id: BlockId(input.u64()?),
                len_bytes: input.u32()?,
                seq: input.u32()?,
            })
        };
        read().ok_or_else(|| size_error(frame))
    }

    fn encode(&self, _: &Terms, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u64(self.sector.0);
        out.u64(self.block_id.0);
        out.u32(self.len_bytes);
        out.u32(self.seq);
        Ok(())
    }
}

/// `P_OUT_OF_SYNC` and `P_RS_DEALLOCATED`: a range without a handle.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BlockRange {
    /// First sector. `sector` plus `len_bytes` does not overflow.
    pub sector: Sector,
    /// Bytes: a multiple of 512, not 0, at most 128 MiB (1 MiB in `P_RS_DEALLOCATED`).
    pub len_bytes: u32,
}

impl<'a> Layout<'a> for BlockRange {
    fn decode(_: &Terms, frame: &Frame, mut input: Reader<'a>) -> Result<Self, PacketError> {
        let mut read = || {
            Some(Self {
                sector: Sector(input.u64()?),
                len_bytes: input.u32()?,
            })
        };
        let range = read().ok_or_else(|| size_error(frame))?;
        let command = frame.command();
        let is_reply = command == Command::RsDeallocated;
        let max = if is_reply {
            DATA_BYTES_MAX
        } else {
            DISCARD_BYTES_MAX
        };
        check_len(command, range.len_bytes, max)?;
        check_end(command, range.sector, range.len_bytes)?;
        Ok(range)
    }

    fn encode(&self, _: &Terms, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u64(self.sector.0);
        out.u32(self.len_bytes);
        out.u32(0);
        Ok(())
    }
}

/// `P_BARRIER`: the epoch with this number ends here. The number is an opaque handle.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Barrier {
    /// Number of the epoch.
    pub number: u32,
}

impl<'a> Layout<'a> for Barrier {
    fn decode(_: &Terms, frame: &Frame, mut input: Reader<'a>) -> Result<Self, PacketError> {
        let number = input.u32().ok_or_else(|| size_error(frame))?;
        Ok(Self { number })
    }

    fn encode(&self, _: &Terms, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u32(self.number);
        out.u32(0);
        Ok(())
    }
}

/// `P_BARRIER_ACK`: all writes of the epoch are done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BarrierAck {
    /// Number echoed from the barrier.
    pub number: u32,
    /// Write packets in the epoch, over all volumes.
    pub set_size: u32,
}

impl<'a> Layout<'a> for BarrierAck {
    fn decode(_: &Terms, frame: &Frame, mut input: Reader<'a>) -> Result<Self, PacketError> {
        let mut read = || {
            Some(Self {
                number: input.u32()?,
                set_size: input.u32()?,
            })
        };
        read().ok_or_else(|| size_error(frame))
    }

    fn encode(&self, _: &Terms, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u32(self.number);
        out.u32(self.set_size);
        Ok(())
    }
}

/// `P_STATE`: the state of the sender; its fields are not yet checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct State {
    /// The state word.
    pub word: StateWord,
}

impl<'a> Layout<'a> for State {
    fn decode(_: &Terms, frame: &Frame, mut input: Reader<'a>) -> Result<Self, PacketError> {
        let word = StateWord(input.u32().ok_or_else(|| size_error(frame))?);
        Ok(Self { word })
    }

    fn encode(&self, _: &Terms, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u32(self.word.0);
        Ok(())
    }
}

/// A requested state change, from the sender's point of view; see [`StateWord::seen_by_peer`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StateChange {
    /// The bits to be changed.
    pub mask: StateWord,
    /// Their new values.
    pub value: StateWord,
}

impl<'a> Layout<'a> for StateChange {
    fn decode(_: &Terms, frame: &Frame, mut input: Reader<'a>) -> Result<Self, PacketError> {
        let mut read = || {
            Some(Self {
                mask: StateWord(input.u32()?),
                value: StateWord(input.u32()?),
            })
        };
        read().ok_or_else(|| size_error(frame))
    }

    fn encode(&self, _: &Terms, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u32(self.mask.0);
        out.u32(self.value.0);
        Ok(())
    }
}

/// Answer to a requested state change (`reference/wire.md` 8.4): 1 and up is success.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StateChangeReply {
    /// The code.
    pub code: i32,
}

impl<'a> Layout<'a> for StateChangeReply {
    fn decode(_: &Terms, frame: &Frame, mut input: Reader<'a>) -> Result<Self, PacketError> {
        let code = input.i32().ok_or_else(|| size_error(frame))?;
        Ok(Self { code })
    }

    fn encode(&self, _: &Terms, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.i32(self.code);
        Ok(())
    }
}

/// `P_DELAY_PROBE`: never sent, ignored when received.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DelayProbe {
    /// Number of the probe.
    pub seq: u32,
    /// Time in microseconds.
    pub offset_us: u32,
}

impl<'a> Layout<'a> for DelayProbe {
    fn decode(_: &Terms, frame: &Frame, mut input: Reader<'a>) -> Result<Self, PacketError> {
        let mut read = || {
            Some(Self {
                seq: input.u32()?,
                offset_us: input.u32()?,
            })
        };
        read().ok_or_else(|| size_error(frame))
    }

    fn encode(&self, _: &Terms, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u32(self.seq);
        out.u32(self.offset_us);
        Ok(())
    }
}

/// Bytes without structure: challenge, response, bitmap.
impl<'a> Layout<'a> for &'a [u8] {
    fn decode(_: &Terms, _: &Frame, input: Reader<'a>) -> Result<Self, PacketError> {
        Ok(input.rest())
    }

    fn encode(&self, _: &Terms, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.bytes(self);
        Ok(())
    }
}
