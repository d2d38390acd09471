//! The out-of-sync bitmap as it lies on disk: a little-endian string of bits.
//!
//! Bit `k` is bit `k mod 8` (least significant first) of byte `k / 8`, which is the same as
//! little-endian words of any width; the wire uses the same form. In memory the bitmap consists
//! of native 64-bit words. Facts: `reference/metadata.md` 4.1.

use crate::units::{AlExtent, BitCount, ByteCount};

/// Bits in a word.
pub const WORD_BITS: u64 = 64;
/// Bytes of bitmap that one activity-log extent takes.
pub const AL_EXTENT_BYTES: u64 = 128;
/// Bytes of bitmap that one resync extent takes.
pub const RESYNC_EXTENT_BYTES: u64 = 512;

/// Returns the bits of the last word that lie within a bitmap of `bits` bits.
///
/// All of them if the last word is full: forgetting a whole word there loses 256 KiB of
/// out-of-sync data (`reference/metadata.md` 4.1 "Masking hazard").
#[inline]
pub const fn last_word_mask(bits: BitCount) -> u64 {
    match bits.0 & 63 {
        0 => u64::MAX,
        used => !(u64::MAX << used),
    }
}

/// Copies little-endian `bytes` into native `words` and returns the number of words copied.
///
/// The shorter of both decides; an incomplete last word is left out.
#[inline]
pub fn words_from_disk(bytes: &[u8], words: &mut [u64]) -> usize {
    let mut copied: usize = 0;
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        if let Some(bytes) = bytes.first_chunk() {
            *word = u64::from_le_bytes(*bytes);
            copied = copied.saturating_add(1);
        }
    }
    copied
}

/// Copies native `words` into little-endian `bytes` and returns the number of words copied.
///
/// The shorter of both decides; bytes that are not covered keep what they hold.
#[inline]
pub fn words_to_disk(words: &[u64], bytes: &mut [u8]) -> usize {
    let mut copied: usize = 0;
    for (word, bytes) in words.iter().zip(bytes.chunks_exact_mut(8)) {
        if let Some(bytes) = bytes.first_chunk_mut() {
            *bytes = word.to_le_bytes();
            copied = copied.saturating_add(1);
        }
    }
    copied
}

/// Returns the bytes of the bitmap on disk that are in use for so many bits: whole 4 KiB pages.
pub const fn disk_bytes(bits: BitCount) -> ByteCount {
    ByteCount(bits.pages().saturating_mul(4096))
}

/// Returns first and last (excluded) byte of the bitmap that belong to `extent`, clipped to a
/// bitmap of `len` bytes, or `None` if the extent starts at or beyond its end.
pub const fn extent_bytes(extent: AlExtent, len: ByteCount) -> Option<(u64, u64)> {
    let start = (extent.0 as u64).saturating_mul(AL_EXTENT_BYTES);
    if start >= len.0 {
        return None;
    }
    let end = start.saturating_add(AL_EXTENT_BYTES);
    Some((start, if end < len.0 { end } else { len.0 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_full_last_word_keeps_all_its_bits() {
        assert_eq!(last_word_mask(BitCount(64)), u64::MAX);
        assert_eq!(last_word_mask(BitCount(16_384)), u64::MAX);
        assert_eq!(last_word_mask(BitCount(1)), 1);
        assert_eq!(last_word_mask(BitCount(63)), u64::MAX >> 1);
        assert_eq!(last_word_mask(BitCount(65)), 1);
    }

    #[test]
    fn bit_positions_are_those_of_the_disk() {
        // reference/wire.md 12.2, E12: bits 0, 3, 64 and 99.
        let words = [0b1001, 1 | 1 << 35];
        let mut bytes = [0xff; 17];
        assert_eq!(words_to_disk(&words, &mut bytes), 2);
        assert_eq!(
            bytes,
            [9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0xff]
        );
        let mut back = [0; 3];
        assert_eq!(words_from_disk(&bytes, &mut back), 2);
        assert_eq!(back, [words[0], words[1], 0]);
    }

    #[test]
    fn the_last_extent_of_a_bitmap_is_marked() {
        // reference/metadata.md 9.1, number 21.
        let len = ByteCount(4096);
        assert_eq!(extent_bytes(AlExtent(31), len), Some((3968, 4096)));
        assert_eq!(extent_bytes(AlExtent(32), len), None);
        assert_eq!(extent_bytes(AlExtent(u32::MAX), len), None);
        assert_eq!(extent_bytes(AlExtent(0), ByteCount(64)), Some((0, 64)));
    }

    proptest! {
        #[test]
        fn words_survive_the_disk(words: Vec<u64>) {
            let mut bytes = vec![0; words.len() * 8];
            prop_assert_eq!(words_to_disk(&words, &mut bytes), words.len());
            let mut back = vec![0; words.len()];
            prop_assert_eq!(words_from_disk(&bytes, &mut back), words.len());
            prop_assert_eq!(&back, &words);
            for bit in 0..words.len() * 64 {
                let in_word = words[bit / 64] >> (bit % 64) & 1 == 1;
                prop_assert_eq!(bytes[bit / 8] >> (bit % 8) & 1 == 1, in_word);
            }
        }
    }

    #[test]
    fn a_bitmap_takes_whole_pages_on_disk() {
        assert_eq!(disk_bytes(BitCount(0)), ByteCount(0));
        assert_eq!(disk_bytes(BitCount(1)), ByteCount(4096));
        assert_eq!(disk_bytes(BitCount(32_768)), ByteCount(4096));
        assert_eq!(disk_bytes(BitCount(32_769)), ByteCount(8192));
    }
}
