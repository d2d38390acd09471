//! The out-of-sync bitmap: set, clear, count and find bits on words lent by the shell.
//!
//! A set bit says that its 4 KiB block may differ from the peer's (`reference/metadata.md` 4).
//! Each 4 KiB page remembers how many of its bits are set, so that empty pages are skipped, and
//! whether it was changed since it was last written. Nothing is written here: the shell asks for
//! dirty pages.

use core::ops::DerefMut;

use drbd_format::units::{BitCount, BitIndex, BitmapPage, Sector, SectorCount, SectorRange};

use crate::put_back::{put_back, Bug};

/// Bits of one page.
pub const PAGE_BITS: u64 = 1 << 15;
/// Words of one page.
pub const PAGE_WORDS: usize = 512;
/// Bytes of one page.
pub const PAGE_BYTES: usize = 4096;

const WORD_BITS: u64 = 64;

/// What is known about one page of the bitmap.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PageState {
    set: u16,
    full: bool,
    dirty: bool,
    lazy: bool,
    /// Copies on their way to the disk.
    writing: u8,
}

impl PageState {
    fn count(self) -> u64 {
        if self.full {
            PAGE_BITS
        } else {
            u64::from(self.set)
        }
    }

    fn set_count(&mut self, count: u64) {
        self.full = count >= PAGE_BITS;
        self.set = u16::try_from(count).unwrap_or(0);
        if self.full {
            self.set = 0;
        }
    }
}

/// Bits over lent words and page states.
#[derive(Debug)]
pub struct Bitmap<W, P> {
    words: W,
    pages: P,
    bits: u64,
    set: u64,
    capacity: SectorCount,
}

/// Returns the bits from `first` up to, not including, `end` (at most 64) as a mask of one word.
#[inline]
const fn word_mask(first: u64, end: u64) -> u64 {
    let low = u64::MAX << (first % WORD_BITS);
    match end % WORD_BITS {
        // The whole word counts: the mask of remainder 0 is all ones (`reference/metadata.md`
        // 4.1, masking hazard).
        0 => low,
        rest => low & !(u64::MAX << rest),
    }
}

impl<W: DerefMut<Target = [u64]>, P: DerefMut<Target = [PageState]>> Bitmap<W, P> {
    /// Takes the lent memory; the bitmap has no bits until [`Self::set_capacity`].
    pub fn new(words: W, pages: P) -> Self {
        Self {
            words,
            pages,
            bits: 0,
            set: 0,
            capacity: SectorCount(0),
        }
    }

    /// Gives the memory back.
    pub fn into_memory(self) -> (W, P) {
        (self.words, self.pages)
    }

    /// Tells whether the lent memory has room for a device of this size.
    pub fn has_room_for(&self, capacity: SectorCount) -> bool {
        let bits = capacity.bits();
        bits.words() <= self.words.len() as u64 && bits.pages() <= self.pages.len() as u64
    }

    /// Fixes the size of the device and counts the bits anew. Bits beyond the end are cleared.
    /// Loops over the whole bitmap. Answers `false`, changing nothing, if the memory is too small.
    pub fn set_capacity(&mut self, capacity: SectorCount) -> bool {
        if !self.has_room_for(capacity) {
            return false;
        }
        self.capacity = capacity;
        self.bits = capacity.bits().0;
        let first_unused = BitCount(self.bits).words() as usize;
        if self.bits % WORD_BITS != 0 {
            self.words[first_unused - 1] &= word_mask(0, self.bits);
        }
        for word in self.words.iter_mut().skip(first_unused) {
            *word = 0;
        }
        self.recount();
        true
    }

    /// Changes the size of the device. Bits of new space are set or clear.
    pub fn resize(&mut self, capacity: SectorCount, set_new_bits: bool) -> bool {
        let old = self.bits;
        if !self.set_capacity(capacity) {
            return false;
        }
        if set_new_bits && self.bits > old {
            self.set_bits(old, self.bits);
        }
        let all = !put_back(Bug::BitmapNotWrittenOnResize);
        for (number, page) in self.pages.iter_mut().enumerate() {
            page.dirty = all || number == 0;
        }
        true
    }

    fn recount(&mut self) {
        self.set = 0;
        for (page, words) in self.pages.iter_mut().zip(self.words.chunks(PAGE_WORDS)) {
            let count = words.iter().map(|word| u64::from(word.count_ones())).sum();
            page.set_count(count);
            self.set += count;
        }
    }

    /// Returns the number of bits.
    #[inline]
    pub fn bits(&self) -> u64 {
        self.bits
    }

    /// Returns the number of set bits.
    #[inline]
    pub fn weight(&self) -> u64 {
        self.set
    }

    /// Returns the size of the device.
    #[inline]
    pub fn capacity(&self) -> SectorCount {
        self.capacity
    }

    /// Returns the number of pages in use.
    pub fn page_count(&self) -> u32 {
        u32::try_from(BitCount(self.bits).pages()).unwrap_or(u32::MAX)
    }

    /// Returns the bits touched by the range, as first and end.
    pub fn touched(&self, range: SectorRange) -> (u64, u64) {
        if range.is_empty() {
            return (0, 0);
        }
        let end = SectorCount(range.end().0).bits().0.min(self.bits);
        (range.start().bit().0.min(end), end)
    }

    /// Returns the bits whose blocks lie entirely in the range, as first and end. The last block
    /// of the device counts as covered when its end is (`reference/metadata.md` 4.2).
    pub fn covered(&self, range: SectorRange) -> (u64, u64) {
        let first = SectorCount(range.start().0).bits().0;
        let end = if range.end().0 >= self.capacity.0 {
            self.bits
        } else {
            range.end().bit().0
        };
        if first >= end {
            return (0, 0);
        }
        (first, end)
    }

    /// Marks every block touched by the range out of sync. Returns how many bits were new.
    pub fn set_out_of_sync(&mut self, range: SectorRange) -> u64 {
        let (first, end) = self.touched(range);
        self.set_bits(first, end)
    }

    /// Marks every block covered by the range in sync. Returns how many bits were cleared.
    pub fn set_in_sync(&mut self, range: SectorRange) -> u64 {
        let (first, end) = self.covered(range);
        self.clear_bits(first, end)
    }

    /// Sets the bits from `first` up to `end` and returns how many were clear.
    pub fn set_bits(&mut self, first: u64, end: u64) -> u64 {
        self.change(first, end, |word, mask| word | mask)
    }

    /// Clears the bits from `first` up to `end` and returns how many were set.
    pub fn clear_bits(&mut self, first: u64, end: u64) -> u64 {
        self.change(first, end, |word, mask| word & !mask)
    }

    /// Applies `change` to the words of a range; at most 512 words for the largest request.
    fn change(&mut self, first: u64, end: u64, change: impl Fn(u64, u64) -> u64) -> u64 {
        let end = end.min(self.bits);
        let mut at = first;
        let mut total = 0;
        while at < end {
            let stop = (at / WORD_BITS + 1).saturating_mul(WORD_BITS).min(end);
            let word = &mut self.words[(at / WORD_BITS) as usize];
            let new = change(*word, word_mask(at, stop));
            let gained = u64::from((new & !*word).count_ones());
            let lost = u64::from((*word & !new).count_ones());
            if gained + lost != 0 {
                *word = new;
                total += gained + lost;
                self.set = self.set + gained - lost;
                let page = &mut self.pages[(at / PAGE_BITS) as usize];
                page.set_count(page.count() + gained - lost);
                page.dirty |= gained != 0;
                page.lazy |= lost != 0;
            }
            at = stop;
        }
        total
    }

    /// Tells whether the bit is set. Bits beyond the end are not.
    #[inline]
    pub fn is_set(&self, bit: BitIndex) -> bool {
        bit.0 < self.bits
            && self.words[(bit.0 / WORD_BITS) as usize] >> (bit.0 % WORD_BITS) & 1 != 0
    }

    /// Returns the number of set bits touched by the range.
    pub fn count_range(&self, range: SectorRange) -> u64 {
        let (mut at, end) = self.touched(range);
        let mut count = 0;
        while at < end {
            let stop = (at / WORD_BITS + 1).saturating_mul(WORD_BITS).min(end);
            let word = self.words[(at / WORD_BITS) as usize] & word_mask(at, stop);
            count += u64::from(word.count_ones());
            at = stop;
        }
        count
    }

    /// Returns the first set bit at or after `from`. Skips empty pages.
    pub fn find_next(&self, from: BitIndex) -> Option<BitIndex> {
        self.find(from.0, false)
    }

    /// Returns the first clear bit at or after `from`, or the end of the bitmap.
    pub fn find_next_clear(&self, from: BitIndex) -> BitIndex {
        self.find(from.0, true).unwrap_or(BitIndex(self.bits))
    }

    fn find(&self, mut at: u64, clear: bool) -> Option<BitIndex> {
        while at < self.bits + u64::from(put_back(Bug::BitmapScanAtPageBoundary)) {
            if at % PAGE_BITS == 0 {
                let page = self.pages[(at / PAGE_BITS) as usize];
                let skip = if clear { page.full } else { page.count() == 0 };
                if skip {
                    at += PAGE_BITS;
                    continue;
                }
            }
            let word = self.words[(at / WORD_BITS) as usize];
            let word = if clear { !word } else { word } & (u64::MAX << (at % WORD_BITS));
            if word != 0 {
                let bit = at / WORD_BITS * WORD_BITS + u64::from(word.trailing_zeros());
                return (bit < self.bits).then_some(BitIndex(bit));
            }
            at = (at / WORD_BITS + 1) * WORD_BITS;
        }
        None
    }

    /// Sets all bits. Loops over the whole bitmap.
    pub fn set_all(&mut self) {
        self.fill(u64::MAX);
    }

    /// Clears all bits. Loops over the whole bitmap.
    pub fn clear_all(&mut self) {
        self.fill(0);
    }

    fn fill(&mut self, value: u64) {
        let words = BitCount(self.bits).words() as usize;
        for word in self.words.iter_mut().take(words) {
            *word = value;
        }
        if words != 0 {
            self.words[words - 1] &= word_mask(0, self.bits);
        }
        for page in self.pages.iter_mut() {
            page.dirty = true;
        }
        self.recount();
    }

    /// Returns word number `index`, 0 beyond the end.
    #[inline]
    pub fn word(&self, index: u64) -> u64 {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.words.get(index))
            .copied()
            .unwrap_or(0)
    }

    /// ORs a word of the peer's bitmap in. Bits beyond the end are ignored.
    #[inline]
    pub fn merge_word(&mut self, index: u64, value: u64) {
        let Some(first) = index.checked_mul(WORD_BITS) else {
            return;
        };
        if value == 0 || first >= self.bits {
            return;
        }
        let value = value & word_mask(first, self.bits.min(first + WORD_BITS));
        let word = &mut self.words[index as usize];
        let gained = u64::from((value & !*word).count_ones());
        if gained != 0 {
            *word |= value;
            self.set += gained;
            let page = &mut self.pages[(first / PAGE_BITS) as usize];
            page.set_count(page.count() + gained);
            page.dirty = true;
        }
    }

    /// Copies a page, in on-disk byte order, into `buf` and remembers that it is being written.
    /// Bytes beyond the bitmap are zero.
    pub fn copy_page(&mut self, page: u32, buf: &mut [u8]) {
        let first = page as usize * PAGE_WORDS;
        for (index, bytes) in buf.chunks_mut(8).enumerate().take(PAGE_WORDS) {
            let word = self
                .words
                .get(first + index)
                .copied()
                .unwrap_or(0)
                .to_le_bytes();
            bytes.copy_from_slice(&word[..bytes.len()]);
        }
        if let Some(state) = self.pages.get_mut(page as usize) {
            state.dirty = false;
            state.lazy = false;
            state.writing = state.writing.saturating_add(1);
        }
    }

    /// The copy of a page has been written, or could not be.
    pub fn page_written(&mut self, page: u32, ok: bool) {
        if let Some(state) = self.pages.get_mut(page as usize) {
            state.writing = state.writing.saturating_sub(1);
            state.dirty |= !ok;
        }
    }

    /// Takes a page read from disk, before or after the size is fixed. Bits beyond the end are
    /// cleared.
    pub fn load_page(&mut self, page: u32, bytes: &[u8]) {
        let first = page as usize * PAGE_WORDS;
        let mut count = 0;
        for (index, chunk) in bytes.chunks_exact(8).enumerate().take(PAGE_WORDS) {
            let Some(word) = self.words.get_mut(first + index) else {
                break;
            };
            let mut raw = [0; 8];
            raw.copy_from_slice(chunk);
            let start = (first + index) as u64 * WORD_BITS;
            let mask = match self.bits.saturating_sub(start) {
                _ if self.bits == 0 => u64::MAX,
                0 => 0,
                used if used < WORD_BITS => word_mask(0, used),
                _ => u64::MAX,
            };
            *word = u64::from_le_bytes(raw) & mask;
            count += u64::from(word.count_ones());
        }
        if let Some(state) = self.pages.get_mut(page as usize) {
            self.set = (self.set + count).saturating_sub(state.count());
            *state = PageState::default();
            state.set_count(count);
        }
    }

    /// Tells whether bits of the page were set since it was last written, or are being written.
    pub fn page_must_be_written(&self, page: u32) -> bool {
        self.pages
            .get(page as usize)
            .is_some_and(|state| state.dirty)
    }

    /// Tells whether a copy of the page is on its way to the disk.
    pub fn page_is_being_written(&self, page: u32) -> bool {
        self.pages
            .get(page as usize)
            .is_some_and(|state| state.writing != 0)
    }

    /// Returns the next page at or after `from` that differs from the disk and is not being
    /// written.
    pub fn next_changed_page(&self, from: u32) -> Option<u32> {
        let pages = self.pages.iter().take(self.page_count() as usize);
        let found = pages
            .enumerate()
            .skip(from as usize)
            .find(|(_, page)| (page.dirty || page.lazy) && page.writing == 0)?;
        u32::try_from(found.0).ok()
    }

    /// Returns the next page at or after `from` of which it is not certain that the disk has it as
    /// it is. Also those on their way: that write may fail, or miss what was changed since.
    pub fn next_uncertain_page(&self, from: u32) -> Option<u32> {
        let pages = self.pages.iter().take(self.page_count() as usize);
        let found = pages
            .enumerate()
            .skip(from as usize)
            .find(|(_, page)| page.dirty || page.lazy || page.writing != 0)?;
        u32::try_from(found.0).ok()
    }

    /// Makes every page count as changed (whole bitmap to be written).
    pub fn mark_all_changed(&mut self) {
        for page in self.pages.iter_mut() {
            page.dirty = true;
        }
    }
}

/// Returns the number of the page as the shell counts them.
#[inline]
pub fn page_number(page: BitmapPage) -> u32 {
    u32::try_from(page.0).unwrap_or(u32::MAX)
}

/// Returns the range of whole blocks from `first` to `end`, cut at the end of the device.
pub fn block_range(first: u64, end: u64, capacity: SectorCount) -> SectorRange {
    let start = (first << 3).min(capacity.0);
    let end = (end << 3).min(capacity.0);
    SectorRange::new(Sector(start), SectorCount(end - start)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type TestBitmap = Bitmap<Vec<u64>, Vec<PageState>>;

    fn bitmap(sectors: u64) -> TestBitmap {
        let bits = SectorCount(sectors).bits();
        let words = vec![0; bits.words() as usize];
        let mut bitmap = Bitmap::new(words, vec![PageState::default(); bits.pages() as usize]);
        assert!(bitmap.set_capacity(SectorCount(sectors)));
        bitmap
    }

    fn range(start: u64, len: u64) -> SectorRange {
        SectorRange::new(Sector(start), SectorCount(len)).unwrap()
    }

    #[test]
    fn words_beyond_the_end_are_not_merged() {
        let mut bitmap = bitmap(8 * 100);
        for (word, value) in [(2, 1), (1 << 40, 1), (u64::MAX, 1), (0, 0)] {
            bitmap.merge_word(word, value);
        }
        assert_eq!(bitmap.weight(), 0);
        bitmap.merge_word(1, u64::MAX);
        bitmap.merge_word(1, 1);
        assert_eq!(bitmap.weight(), 36);
        check(&bitmap);
    }

    fn check(bitmap: &TestBitmap) {
        let naive = (0..bitmap.bits())
            .filter(|bit| bitmap.is_set(BitIndex(*bit)))
            .count() as u64;
        assert_eq!(bitmap.weight(), naive);
        let pages: u64 = bitmap.pages.iter().map(|page| page.count()).sum();
        assert_eq!(pages, naive);
    }

    /// The size is fixed before the pages are read at attach: the bits must be counted anyway.
    #[test]
    fn a_page_read_after_the_size_is_fixed_is_counted() {
        let mut bitmap = bitmap(100 * 8);
        bitmap.load_page(0, &[0xff; PAGE_BYTES]);
        assert_eq!((bitmap.bits(), bitmap.weight()), (100, 100));
        assert!(!bitmap.is_set(BitIndex(100)));
        bitmap.load_page(0, &[1; PAGE_BYTES]);
        assert_eq!(bitmap.weight(), 13);
        assert_eq!(bitmap.clear_bits(0, 100), 13);
        assert_eq!(bitmap.weight(), 0);
    }

    #[test]
    fn no_bit_is_lost_at_sizes_around_powers_of_two() {
        for shift in 0..22 {
            for sectors in [(1_u64 << shift) - 1, 1 << shift, (1 << shift) + 1] {
                let mut bitmap = bitmap(sectors);
                bitmap.set_all();
                assert_eq!(bitmap.weight(), sectors.div_ceil(8), "{sectors} sectors");
                assert!(bitmap.set_capacity(SectorCount(sectors)));
                assert_eq!(bitmap.weight(), sectors.div_ceil(8), "counted again");
                check(&bitmap);
                let mut at = BitIndex(0);
                let mut found = 0;
                while let Some(bit) = bitmap.find_next(at) {
                    found += 1;
                    at = BitIndex(bit.0 + 1);
                }
                assert_eq!(found, sectors.div_ceil(8));
                assert_eq!(bitmap.set_in_sync(range(0, sectors)), sectors.div_ceil(8));
                assert_eq!(bitmap.weight(), 0);
                assert_eq!(bitmap.find_next(BitIndex(0)), None);
            }
        }
    }

    #[test]
    fn the_last_short_block_counts_as_covered() {
        let mut bitmap = bitmap(8 * 10 + 3);
        bitmap.set_all();
        assert_eq!(bitmap.bits(), 11);
        assert_eq!(bitmap.set_in_sync(range(80, 2)), 0, "not up to the end");
        assert_eq!(bitmap.set_in_sync(range(80, 3)), 1);
        assert_eq!(bitmap.set_in_sync(range(1, 8)), 0, "no whole block");
        assert_eq!(bitmap.set_in_sync(range(1, 15)), 1, "the second block");
        assert_eq!(
            bitmap.set_out_of_sync(range(15, 2)),
            1,
            "touches blocks 1 and 2"
        );
    }

    #[test]
    fn a_page_is_dirty_until_its_copy_was_written() {
        let mut bitmap = bitmap(8 * PAGE_BITS * 3);
        bitmap.set_out_of_sync(range(8 * PAGE_BITS, 8));
        assert_eq!(bitmap.next_changed_page(0), Some(1));
        let mut buf = [0_u8; PAGE_BYTES];
        bitmap.copy_page(1, &mut buf);
        assert_eq!(buf[0], 1);
        assert_eq!(bitmap.next_changed_page(0), None);
        bitmap.set_out_of_sync(range(8 * PAGE_BITS + 8, 8));
        bitmap.page_written(1, true);
        assert_eq!(
            bitmap.next_changed_page(0),
            Some(1),
            "changed while it was written"
        );
        bitmap.copy_page(1, &mut buf);
        bitmap.page_written(1, false);
        assert!(bitmap.page_must_be_written(1), "failed");
    }

    /// Whoever writes the whole bitmap may not rely on somebody else's write that has not ended.
    #[test]
    fn a_page_on_its_way_is_written_again_and_counts_until_both_writes_end() {
        let mut bitmap = bitmap(8 * PAGE_BITS * 3);
        bitmap.set_out_of_sync(range(8 * PAGE_BITS, 8));
        let mut buf = [0_u8; PAGE_BYTES];
        bitmap.copy_page(1, &mut buf);
        assert_eq!(bitmap.next_uncertain_page(0), Some(1));
        bitmap.set_out_of_sync(range(8 * PAGE_BITS + 8, 8));
        bitmap.copy_page(1, &mut buf);
        bitmap.page_written(1, true);
        assert!(bitmap.page_is_being_written(1), "the second write");
        assert_eq!(bitmap.next_changed_page(0), None);
        bitmap.page_written(1, true);
        assert!(!bitmap.page_is_being_written(1));
        assert_eq!(bitmap.next_uncertain_page(0), None);
    }

    #[test]
    fn pages_survive_a_round_trip_and_stale_bits_beyond_the_end_are_ignored() {
        let mut one = bitmap(1000 * 8 + 5);
        one.set_bits(3, 700);
        let mut buf = [0_u8; PAGE_BYTES];
        one.copy_page(0, &mut buf);
        buf[500] = 0xff;
        buf[125] |= 0xfe;
        let mut two = bitmap(1000 * 8 + 5);
        two.load_page(0, &buf);
        assert!(two.set_capacity(SectorCount(1000 * 8 + 5)));
        assert_eq!(two.weight(), 697);
        assert_eq!(two.words, one.words);
    }

    /// Pages are loaded before the size is known, and may have anything beyond the end.
    #[test]
    fn bits_beyond_the_end_do_not_count_whenever_the_size_becomes_known() {
        for bits in [1, 10, 63, 64, 65, 128, 1000] {
            let sectors = SectorCount(bits * 8);
            let mut early = Bitmap::new(vec![0; 17], vec![PageState::default()]);
            early.load_page(0, &[0xff; PAGE_BYTES]);
            assert_eq!(early.weight(), 17 * 64);
            assert!(early.set_capacity(sectors));
            let mut late = Bitmap::new(vec![0; 17], vec![PageState::default()]);
            assert!(late.set_capacity(sectors));
            late.load_page(0, &[0xff; PAGE_BYTES]);
            assert_eq!((early.weight(), late.weight()), (bits, bits));
            assert_eq!(early.words, late.words);
            check(&early);
            check(&late);
        }
    }

    #[test]
    fn growing_sets_exactly_the_new_bits() {
        let words = vec![0; 1024];
        let mut bitmap = Bitmap::new(words, vec![PageState::default(); 2]);
        assert!(bitmap.set_capacity(SectorCount(800)));
        assert!(bitmap.resize(SectorCount(8 * PAGE_BITS + 8), true));
        assert_eq!(bitmap.weight(), PAGE_BITS + 1 - 100);
        assert!(
            !bitmap.resize(SectorCount(8 * PAGE_BITS * 2 + 1), true),
            "no room"
        );
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_model(
            sectors in 1_u64..300_000,
            steps in prop::collection::vec((0_u64..300_000, 1_u64..4096, any::<bool>()), 1..40),
        ) {
            let mut bitmap = bitmap(sectors);
            let mut model = vec![false; bitmap.bits() as usize];
            for (start, len, set) in steps {
                let start = start % sectors;
                let len = len.min(sectors - start);
                let range = range(start, len);
                let mut changed = 0;
                for (bit, value) in model.iter_mut().enumerate() {
                    let (from, to) = (bit as u64 * 8, (bit as u64 * 8 + 8).min(sectors));
                    let hit = if set {
                        from < start + len && start < to
                    } else {
                        start <= from && to <= start + len
                    };
                    if hit && *value != set {
                        *value = set;
                        changed += 1;
                    }
                }
                let answer =
                    if set { bitmap.set_out_of_sync(range) } else { bitmap.set_in_sync(range) };
                prop_assert_eq!(answer, changed);
                let touched = model.iter().enumerate().filter(|(bit, value)| {
                    **value && (*bit as u64) * 8 < start + len && start < *bit as u64 * 8 + 8
                });
                prop_assert_eq!(bitmap.count_range(range), touched.count() as u64);
                let from = start / 8;
                let next = (from..bitmap.bits()).find(|bit| model[*bit as usize]);
                prop_assert_eq!(bitmap.find_next(BitIndex(from)).map(|bit| bit.0), next);
                let clear = (from..bitmap.bits()).find(|bit| !model[*bit as usize]);
                prop_assert_eq!(
                    bitmap.find_next_clear(BitIndex(from)).0,
                    clear.unwrap_or(bitmap.bits())
                );
            }
            check(&bitmap);
        }
    }
}
