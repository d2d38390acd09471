//! The code of `P_COMPRESSED_BITMAP`: lengths of runs of equal bits, as integers of variable
//! length in a stream of bits.
//!
//! [`RunWriter`] fills the payload of one packet, [`Runs`] takes one apart. Both know the head
//! byte; where in the bitmap the packet starts is for the caller to remember.
//!
//! Facts: `reference/wire.md` 6.5. The stream is filled from the least significant bit of each
//! byte upwards; a code is a prefix that tells its level, then the distance from the smallest run
//! of that level, low-order bit first.

use super::EncodeError;
use core::fmt;

/// The longest run that has a code. A device of 1 EiB has fewer bits.
pub const RUN_MAX: u64 = 72_057_611_219_902_768;

/// One level of the code.
struct Level {
    /// Bits of the prefix.
    prefix_len: u32,
    /// The prefix.
    prefix: u64,
    /// Bits that follow the prefix.
    data_len: u32,
    /// The smallest run.
    base: u64,
}

const fn level(prefix_len: u32, prefix: u64, data_len: u32, base: u64) -> Level {
    Level {
        prefix_len,
        prefix,
        data_len,
        base,
    }
}

const LEVELS: [Level; 10] = [
    level(1, 0x00, 1, 1),
    level(2, 0x01, 1, 3),
    level(3, 0x03, 2, 5),
    level(4, 0x07, 3, 9),
    level(5, 0x0f, 5, 17),
    level(6, 0x1f, 8, 49),
    level(8, 0x3f, 13, 305),
    level(8, 0x7f, 21, 8497),
    level(8, 0xbf, 34, 2_105_649),
    level(8, 0xff, 56, 17_181_974_833),
];

/// Returns `len` ones, for 1 to 63.
const fn ones(len: u32) -> u64 {
    !(u64::MAX << len)
}

/// The code of one run: the low `len` bits of `bits`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Code {
    bits: u64,
    len: u32,
}

/// Returns the code of a run, or `None` for 0 and above [`RUN_MAX`].
fn encode(run: u64) -> Option<Code> {
    if run > RUN_MAX {
        return None;
    }
    let level = LEVELS.iter().rev().find(|level| run >= level.base)?;
    let value = run.checked_sub(level.base)?;
    let len = level.prefix_len.saturating_add(level.data_len);
    Some(Code {
        bits: value << level.prefix_len | level.prefix,
        len,
    })
}

/// Decodes the run at the front of `bits` and returns it with the length of its code.
fn decode(bits: u64) -> Option<(u64, u32)> {
    let level = LEVELS
        .iter()
        .find(|level| bits & ones(level.prefix_len) == level.prefix)?;
    let value = bits >> level.prefix_len & ones(level.data_len);
    let len = level.prefix_len.saturating_add(level.data_len);
    Some((level.base.checked_add(value)?, len))
}

const ENCODING: u8 = 2;
const ENCODING_MASK: u8 = 0x0f;
const PAD_SHIFT: u32 = 4;
const PAD_MASK: u8 = 7;
const FIRST_SET: u8 = 0x80;

/// A run does not fit into the packet any more. The packet is as it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Full;

/// Fills the payload of one `P_COMPRESSED_BITMAP`.
#[derive(Debug)]
pub struct RunWriter<'a> {
    head: &'a mut u8,
    stream: &'a mut [u8],
    bits: usize,
}

impl<'a> RunWriter<'a> {
    /// Starts a packet in `payload`, whose length is the limit for the packet:
    /// [`super::features::ProtocolVersion::bitmap_payload_max`] bytes, or fewer.
    ///
    /// `first_set` tells whether the first run consists of set bits.
    ///
    /// # Errors
    ///
    /// If there is not even room for the head and one byte.
    pub fn new(payload: &'a mut [u8], first_set: bool) -> Result<Self, EncodeError> {
        let no_space = EncodeError::NoSpace {
            needed: 2,
            found: payload.len(),
        };
        let (head, stream) = payload.split_first_mut().ok_or(no_space)?;
        if stream.is_empty() {
            return Err(no_space);
        }
        *head = if first_set {
            FIRST_SET | ENCODING
        } else {
            ENCODING
        };
        Ok(Self {
            head,
            stream,
            bits: 0,
        })
    }

    /// Appends a run. Runs of set and of clear bits alternate.
    ///
    /// # Errors
    ///
    /// If its code does not fit any more, or has no code: 0 or above [`RUN_MAX`].
    pub fn push(&mut self, run: u64) -> Result<(), Full> {
        let code = encode(run).ok_or(Full)?;
        let len = usize::try_from(code.len).map_err(|_| Full)?;
        let end = self.bits.checked_add(len).ok_or(Full)?;
        if end > self.stream.len().saturating_mul(8) {
            return Err(Full);
        }
        let (mut bits, mut left, mut at) = (code.bits, code.len, self.bits);
        while left > 0 {
            let shift = u32::try_from(at & 7).unwrap_or(0);
            let take = left.min(8_u32.saturating_sub(shift));
            if let Some(byte) = self.stream.get_mut(at >> 3) {
                if shift == 0 {
                    *byte = 0;
                }
                let [low, ..] = (bits & ones(take)).to_le_bytes();
                *byte |= low << shift;
            }
            bits >>= take;
            left = left.saturating_sub(take);
            at = at.saturating_add(usize::try_from(take).unwrap_or(8));
        }
        self.bits = end;
        Ok(())
    }

    /// Returns how many bytes of codes there are, the last one perhaps in part; the head byte not
    /// counted. The sender compares this with the bits covered (`reference/wire.md` 6.5).
    pub const fn code_bytes(&self) -> usize {
        self.bits.div_ceil(8)
    }

    /// Completes the head and returns the number of payload bytes, or `None` without any run.
    pub fn finish(self) -> Option<usize> {
        if self.bits == 0 {
            return None;
        }
        let unused = self
            .code_bytes()
            .saturating_mul(8)
            .saturating_sub(self.bits);
        let pad = u8::try_from(unused).unwrap_or(0) & PAD_MASK;
        *self.head |= pad << PAD_SHIFT;
        self.code_bytes().checked_add(1)
    }
}

/// A run of equal bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Run {
    /// Whether the bits are set: out of sync.
    pub set: bool,
    /// Number of bits, at least 1.
    pub len: u64,
}

/// Why a compressed bitmap was refused. The connection has to be given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RunError {
    /// The payload has no head or no code.
    Empty,
    /// The encoding is not the one we know.
    Encoding(u8),
    /// A code is longer than what is left of the packet.
    Truncated,
    /// A run goes beyond the end of the bitmap.
    Beyond {
        /// Length of the run.
        run: u64,
        /// Bits left in the bitmap.
        left: u64,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("compressed bitmap without codes"),
            Self::Encoding(found) => write!(f, "compressed bitmap in unknown encoding {found}"),
            Self::Truncated => f.write_str("compressed bitmap ends within a code"),
            Self::Beyond { run, left } => {
                write!(f, "run of {run} bits with {left} bits left in the bitmap")
            }
        }
    }
}

/// Takes the payload of one `P_COMPRESSED_BITMAP` apart.
///
/// After an error the iterator gives nothing more.
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    stream: &'a [u8],
    at: usize,
    end: usize,
    set: bool,
    left: u64,
}

impl<'a> Runs<'a> {
    /// Begins to read `payload`; `left` is the number of bits from the cursor to the end of the
    /// bitmap, which no run may exceed.
    ///
    /// # Errors
    ///
    /// See [`RunError`].
    pub fn new(payload: &'a [u8], left: u64) -> Result<Self, RunError> {
        let (&head, stream) = payload.split_first().ok_or(RunError::Empty)?;
        if head & ENCODING_MASK != ENCODING {
            return Err(RunError::Encoding(head & ENCODING_MASK));
        }
        let pad = usize::from(head >> PAD_SHIFT & PAD_MASK);
        let end = stream
            .len()
            .saturating_mul(8)
            .checked_sub(pad)
            .ok_or(RunError::Empty)?;
        if end == 0 {
            return Err(RunError::Empty);
        }
        Ok(Self {
            stream,
            at: 0,
            end,
            set: head & FIRST_SET != 0,
            left,
        })
    }

    /// Returns the number of bits from the end of the last run to the end of the bitmap.
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// Returns the next 64 bits of the stream, zeroes behind its end.
    fn peek(&self) -> u64 {
        let shift = u32::try_from(self.at & 7).unwrap_or(0);
        let rest = self.stream.get(self.at >> 3..).unwrap_or(&[]);
        if let Some(bytes) = rest.first_chunk::<9>() {
            let &[a, b, c, d, e, f, g, h, last] = bytes;
            let low = u64::from_le_bytes([a, b, c, d, e, f, g, h]) >> shift;
            // In two steps, as a shift by 64 is not allowed.
            return low | u64::from(last) << 1 << 63_u32.saturating_sub(shift);
        }
        let mut low = 0;
        for (index, &byte) in (0_u32..).zip(rest).take(8) {
            low |= u64::from(byte) << index.saturating_mul(8);
        }
        low >> shift
    }

    fn step(&mut self) -> Result<Run, RunError> {
        let (len, code_len) = decode(self.peek()).ok_or(RunError::Truncated)?;
        let code_len = usize::try_from(code_len).map_err(|_| RunError::Truncated)?;
        let at = self.at.checked_add(code_len).ok_or(RunError::Truncated)?;
        if at > self.end {
            return Err(RunError::Truncated);
        }
        let beyond = RunError::Beyond {
            run: len,
            left: self.left,
        };
        self.left = self.left.checked_sub(len).ok_or(beyond)?;
        self.at = at;
        let run = Run { set: self.set, len };
        self.set = !self.set;
        Ok(run)
    }
}

impl Iterator for Runs<'_> {
    type Item = Result<Run, RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let run = self.step();
        if run.is_err() {
            self.at = self.end;
        }
        Some(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `reference/wire.md` 12.2 "VLI test vectors": run, code, bits.
    const VECTORS: &[(u64, u64, u32)] = &[
        (1, 0x0, 2),
        (2, 0x2, 2),
        (3, 0x1, 3),
        (4, 0x5, 3),
        (5, 0x3, 5),
        (8, 0x1b, 5),
        (9, 0x7, 7),
        (10, 0x17, 7),
        (16, 0x77, 7),
        (17, 0xf, 10),
        (48, 0x3ef, 10),
        (49, 0x1f, 14),
        (304, 0x3fdf, 14),
        (305, 0x3f, 21),
        (980, 0x2_a33f, 21),
        (8496, 0x1f_ff3f, 21),
        (8497, 0x7f, 29),
        (262_144, 0x3de_cf7f, 29),
        (2_105_648, 0x1fff_ff7f, 29),
        (2_105_649, 0xbf, 42),
        (17_181_974_832, 0x3ff_ffff_ffbf, 42),
        (17_181_974_833, 0xff, 64),
        (RUN_MAX, u64::MAX, 64),
    ];

    #[test]
    fn codes_are_the_documented_ones() {
        for &(run, bits, len) in VECTORS {
            assert_eq!(encode(run), Some(Code { bits, len }), "{run}");
            assert_eq!(decode(bits), Some((run, len)), "{run}");
        }
        for run in [0, RUN_MAX + 1, u64::MAX] {
            assert_eq!(encode(run), None);
        }
    }

    fn compress(first_set: bool, runs: &[u64], space: usize) -> Result<Vec<u8>, Full> {
        let mut payload = vec![0xff; space];
        let mut writer = RunWriter::new(&mut payload, first_set).unwrap();
        for &run in runs {
            writer.push(run)?;
        }
        let len = writer.finish().unwrap();
        payload.truncate(len);
        Ok(payload)
    }

    fn expand(payload: &[u8], left: u64) -> Result<Vec<Run>, RunError> {
        Runs::new(payload, left)?.collect()
    }

    #[test]
    fn examples_are_reproduced() {
        let examples: [(bool, &[u64], &[u8]); 3] = [
            (
                true,
                &[1, 2, 1, 60, 1, 34, 1],
                &[0xe2, 0xc8, 0xb7, 0xc0, 0x8b, 0x00],
            ),
            (false, &[10, 10, 980], &[0x52, 0x97, 0xcb, 0xcf, 0xa8, 0x00]),
            (true, &[262_144], &[0xb2, 0x7f, 0xcf, 0xde, 0x03]),
        ];
        for (first_set, runs, payload) in examples {
            assert_eq!(compress(first_set, runs, 4080).unwrap(), payload);
            let found = expand(payload, runs.iter().sum()).unwrap();
            assert_eq!(found.iter().map(|run| run.len).collect::<Vec<_>>(), runs);
            assert_eq!(found[0].set, first_set);
        }
    }

    #[test]
    fn runs_beyond_the_bitmap_are_refused() {
        let payload = compress(true, &[100, 28], 64).unwrap();
        assert_eq!(expand(&payload, 128).unwrap().len(), 2);
        assert_eq!(
            expand(&payload, 127),
            Err(RunError::Beyond { run: 28, left: 27 })
        );
        assert_eq!(
            expand(&payload, 0),
            Err(RunError::Beyond { run: 100, left: 0 })
        );
    }

    #[test]
    fn damaged_heads_are_refused() {
        assert_eq!(expand(&[], 1).unwrap_err(), RunError::Empty);
        assert_eq!(expand(&[2], 1).unwrap_err(), RunError::Empty);
        assert_eq!(expand(&[0x72, 0x00], 1).unwrap_err(), RunError::Truncated);
        for encoding in (0..16).filter(|&encoding| encoding != 2) {
            assert_eq!(
                expand(&[encoding, 0], 9).unwrap_err(),
                RunError::Encoding(encoding)
            );
        }
    }

    #[test]
    fn every_truncation_is_refused_or_ends_between_two_codes() {
        let runs = [1, 300, 2, 5_000_000_000, 7];
        let payload = compress(false, &runs, 64).unwrap();
        for len in 0..payload.len() {
            match expand(&payload[..len], u64::MAX) {
                Ok(found) => assert!(found.len() < runs.len()),
                Err(error) => assert!(matches!(error, RunError::Empty | RunError::Truncated)),
            }
        }
    }

    /// A run near a limit of a level, a power of two, or anywhere.
    fn run() -> impl Strategy<Value = u64> {
        let edge = (0..LEVELS.len(), 0_u64..3)
            .prop_map(|(level, back)| (LEVELS[level].base + 1).saturating_sub(back).max(1));
        let power = (0_u32..56, -1_i64..=1)
            .prop_map(|(shift, delta)| (1_u64 << shift).wrapping_add_signed(delta).max(1));
        prop_oneof![edge, power, 1..=RUN_MAX, 1_u64..100]
    }

    proptest! {
        #[test]
        fn every_run_survives_its_code(run in run()) {
            let code = encode(run).unwrap();
            prop_assert_eq!(decode(code.bits), Some((run, code.len)));
            prop_assert!(code.len == 64 || code.bits >> code.len == 0);
            // No code is the beginning of another: what follows does not matter.
            if code.len < 64 {
                prop_assert_eq!(decode(code.bits | u64::MAX << code.len), Some((run, code.len)));
            }
        }

        #[test]
        fn every_64_bits_are_a_code(bits: u64) {
            let (run, len) = decode(bits).unwrap();
            let code = encode(run).unwrap();
            prop_assert_eq!(code.len, len);
            prop_assert_eq!((bits ^ code.bits) << (64 - len), 0);
        }

        #[test]
        fn expanding_gives_back_what_was_compressed(
            first_set: bool, runs in prop::collection::vec(run(), 1..200),
        ) {
            let payload = compress(first_set, &runs, 4080).unwrap();
            let total = runs.iter().sum();
            let mut reader = Runs::new(&payload, total).unwrap();
            let mut set = first_set;
            for &len in &runs {
                prop_assert_eq!(reader.next(), Some(Ok(Run { set, len })));
                set = !set;
            }
            prop_assert_eq!(reader.next(), None);
            prop_assert_eq!(reader.left(), 0);
        }

        #[test]
        fn a_full_packet_keeps_the_runs_that_fitted(
            space in 2_usize..40, runs in prop::collection::vec(run(), 1..200),
        ) {
            let mut payload = vec![0xff; space];
            let mut writer = RunWriter::new(&mut payload, true).unwrap();
            let fitted: Vec<u64> =
                runs.iter().copied().take_while(|&run| writer.push(run).is_ok()).collect();
            let Some(len) = writer.finish() else {
                prop_assert!(fitted.is_empty());
                return Ok(());
            };
            prop_assert!(len <= space);
            let found = expand(&payload[..len], u64::MAX).unwrap();
            prop_assert_eq!(found.iter().map(|run| run.len).collect::<Vec<_>>(), fitted);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic_or_leave_the_bitmap(
            payload in prop::collection::vec(any::<u8>(), 0..300), left: u64, valid: bool,
        ) {
            let mut payload = payload;
            if let (true, Some(head)) = (valid, payload.first_mut()) {
                *head = *head & 0xf0 | 2;
            }
            if let Ok(runs) = Runs::new(&payload, left) {
                let mut sum = 0_u64;
                for run in runs.map_while(Result::ok) {
                    prop_assert!(run.len > 0);
                    sum += run.len;
                }
                prop_assert!(sum <= left);
            }
        }
    }

    #[test]
    fn the_levels_of_the_code_follow_each_other_without_a_gap() {
        let mut next = 1;
        for it in &LEVELS {
            assert_eq!(it.base, next);
            next = it.base + (1_u64 << it.data_len);
            assert_eq!(
                level(it.prefix_len, it.prefix, it.data_len, it.base).base,
                it.base
            );
        }
        assert_eq!(next - 1, RUN_MAX);
    }
}
