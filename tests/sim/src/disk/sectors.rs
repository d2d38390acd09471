//! Contents of the data sectors of a disk.

use super::BLOCK_SECTORS;

/// Sectors that are held together.
const PAGE_SECTORS: usize = 128;

type Page = [u64; PAGE_SECTORS];

/// Contents of the data sectors; what was never written is 0.
#[derive(Debug, Default)]
pub struct Sectors {
    pages: Vec<Option<Box<Page>>>,
    /// Pages that may have changed since [`Sectors::note_differing`], a bit for each.
    changed: Vec<u64>,
}

impl Sectors {
    const EMPTY: Page = [0; PAGE_SECTORS];

    /// Returns the content of one sector.
    pub fn get(&self, sector: u64) -> u64 {
        self.page(sector as usize / PAGE_SECTORS)[sector as usize % PAGE_SECTORS]
    }

    /// Sets the content of one sector.
    pub fn set(&mut self, sector: u64, value: u64) {
        self.write(sector, &[value]);
    }

    /// Sets the contents of the sectors behind `sector`.
    pub fn write(&mut self, sector: u64, values: &[u64]) {
        let mut at = sector as usize;
        let mut rest = values;
        while !rest.is_empty() {
            let (number, offset) = (at / PAGE_SECTORS, at % PAGE_SECTORS);
            let (here, behind) = rest.split_at(rest.len().min(PAGE_SECTORS - offset));
            if let Some(page) = self.page_for(number, here) {
                page[offset..offset + here.len()].copy_from_slice(here);
            }
            at += here.len();
            rest = behind;
        }
    }

    /// The page that takes these values. `None`: it does not exist, and they are all 0.
    fn page_for(&mut self, number: usize, values: &[u64]) -> Option<&mut Page> {
        if self.held(number).is_none() && values.iter().all(|value| *value == 0) {
            return None;
        }
        if self.pages.len() <= number {
            self.pages.resize(number + 1, None);
        }
        self.mark(number);
        let page = self.pages[number].get_or_insert_with(|| Box::new(Self::EMPTY));
        Some(page)
    }

    /// Returns the contents of `count` sectors.
    pub fn read(&self, sector: u64, count: u64) -> Vec<u64> {
        let (mut at, end) = (sector as usize, (sector + count) as usize);
        let mut values = Vec::with_capacity(count as usize);
        while at < end {
            let (number, offset) = (at / PAGE_SECTORS, at % PAGE_SECTORS);
            let here = (end - at).min(PAGE_SECTORS - offset);
            values.extend_from_slice(&self.page(number)[offset..offset + here]);
            at += here;
        }
        values
    }

    /// From now on the contents are those of `other`.
    pub fn become_equal(&mut self, other: &Self) {
        for number in 0..self.pages.len().max(other.pages.len()) {
            if self.held(number).is_some() || other.held(number).is_some() {
                self.mark(number);
            }
        }
        self.pages.clone_from(&other.pages);
    }

    fn mark(&mut self, number: usize) {
        let word = number / 64;
        if self.changed.len() <= word {
            self.changed.resize(word + 1, 0);
        }
        self.changed[word] |= 1 << (number % 64);
    }

    /// Returns the first sector whose content differs, with both contents.
    pub fn first_difference(&self, other: &Self) -> Option<(u64, u64, u64)> {
        let number = self.differing_pages(other).next()?;
        (number * PAGE_SECTORS..)
            .map(|sector| sector as u64)
            .map(|sector| (sector, self.get(sector), other.get(sector)))
            .find(|(_, a, b)| a != b)
    }

    /// Returns the numbers of all blocks that differ, in order.
    pub fn differing_blocks(&self, other: &Self) -> Vec<u64> {
        let mut numbers = Vec::new();
        for page in self.differing_pages(other) {
            self.note_blocks(other, page, &mut numbers);
        }
        numbers
    }

    fn note_blocks(&self, other: &Self, page: usize, numbers: &mut Vec<u64>) {
        let mut left = self.blocks_of(other, page);
        while left != 0 {
            let first = page * PAGE_SECTORS / BLOCK_SECTORS as usize;
            numbers.push(first as u64 + u64::from(left.trailing_zeros()));
            left &= left - 1;
        }
    }

    /// The blocks of a page that differ, a bit for each.
    fn blocks_of(&self, other: &Self, page: usize) -> u16 {
        let blocks = [self.page(page), other.page(page)];
        let [here, there] = blocks.map(|page| page.chunks_exact(BLOCK_SECTORS as usize));
        let pairs = here.zip(there);
        pairs.enumerate().fold(0, |mask, (at, (here, there))| {
            let differ = here.iter().zip(there).map(|(a, b)| a ^ b);
            let differ = differ.fold(0, |all, one| all | one) != 0;
            mask | u16::from(differ) << at
        })
    }

    /// Brings `differing` up to date with both: asks only for pages that have changed since
    /// somebody asked last, of which there can be only one.
    pub fn note_differing(&mut self, other: &mut Self, differing: &mut Differing) {
        let words = self.changed.len().max(other.changed.len());
        for at in 0..words {
            let take = |from: &mut Vec<u64>| from.get_mut(at).map_or(0, std::mem::take);
            let mut changed = take(&mut self.changed) | take(&mut other.changed);
            while changed != 0 {
                let page = at * 64 + changed.trailing_zeros() as usize;
                changed &= changed - 1;
                differing.set(page, self.blocks_of(other, page));
            }
        }
    }

    fn held(&self, number: usize) -> Option<&Page> {
        self.pages.get(number)?.as_deref()
    }

    fn page(&self, number: usize) -> &Page {
        self.held(number).unwrap_or(&Self::EMPTY)
    }

    fn differing_pages<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = usize> + 'a {
        let count = self.pages.len().max(other.pages.len());
        (0..count).filter(|number| match (self.held(*number), other.held(*number)) {
            (None, None) => false,
            _ => self.page(*number) != other.page(*number),
        })
    }
}

/// Which blocks of two disks differ.
#[derive(Debug, Default)]
pub struct Differing {
    /// A bit for each page in which any do.
    pages: Vec<u64>,
    /// A bit for each block, by page.
    blocks: Vec<u16>,
}

impl Differing {
    fn set(&mut self, page: usize, blocks: u16) {
        let word = page / 64;
        if self.pages.len() <= word {
            self.pages.resize(word + 1, 0);
            self.blocks.resize((word + 1) * 64, 0);
        }
        self.blocks[page] = blocks;
        self.pages[word] &= !(1 << (page % 64));
        self.pages[word] |= u64::from(blocks != 0) << (page % 64);
    }

    /// Returns the numbers of all blocks that differ, in order.
    pub fn numbers(&self) -> Vec<u64> {
        let mut numbers = Vec::new();
        for (first, word) in (0..).step_by(64).zip(&self.pages) {
            let mut left = *word;
            while left != 0 {
                let page = first + left.trailing_zeros() as usize;
                left &= left - 1;
                let blocks = (0..16).filter(|bit| self.blocks[page] >> bit & 1 != 0);
                numbers.extend(blocks.map(|bit| page as u64 * 16 + bit));
            }
        }
        numbers
    }
}

// A mask has a bit for each block of a page.
const _: () = assert!(PAGE_SECTORS == 16 * BLOCK_SECTORS as usize);
