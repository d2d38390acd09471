//! Writes for the peer that so far only the volatile cache of a disk has for certain
//! (`reference/io.md` 3.3).
//!
//! Once the disk is given up nobody can flush it. The peer has been told that they are written;
//! before their barrier is acknowledged it has to hear that they may be lost.

use drbd_format::units::{Sector, SectorCount, SectorRange};

/// Writes that are known one by one. More than that are joined with their neighbours.
pub const WRITES_MAX: usize = 4;

/// Most of a joined range that one refusal names: no peer takes offence at so much.
const REFUSAL_MAX: u64 = 8192;

/// The block id of a joined range. No request has it: no slot has this generation, and nothing
/// lies at this address.
const NOBODY: u64 = 0xffff_ffff_0000_0000;

/// Something that the peer has to take for lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lost {
    /// Where.
    pub range: SectorRange,
    /// The peer's name for the write; if it is about several, one that no write has.
    pub block_id: u64,
}

impl Lost {
    /// Returns the length in bytes: of a request, or little.
    pub fn len_bytes(&self) -> u32 {
        u32::try_from(self.range.len().0 << 9).unwrap_or(u32::MAX)
    }
}

#[derive(Clone, Copy, Debug)]
struct Write {
    start: u64,
    end: u64,
    block_id: u64,
}

/// The writes of one volume.
#[derive(Debug)]
pub struct Unstable {
    writes: [Write; WRITES_MAX],
    len: usize,
    lost: bool,
    /// One has come since the flush that goes on was asked for.
    late: bool,
}

impl Default for Unstable {
    #[inline]
    fn default() -> Self {
        let none = Write {
            start: 0,
            end: 0,
            block_id: NOBODY,
        };
        Self {
            writes: [none; WRITES_MAX],
            len: 0,
            lost: false,
            late: false,
        }
    }
}

impl Unstable {
    /// The disk has carried out a write, into its cache. Loops over [`WRITES_MAX`] writes if there
    /// are as many.
    #[inline]
    pub fn written(&mut self, range: SectorRange, block_id: u64) {
        self.late = true;
        let write = Write {
            start: range.start().0,
            end: range.end().0,
            block_id,
        };
        match self.writes.get_mut(self.len) {
            Some(place) => {
                *place = write;
                self.len += 1;
            }
            None => self.join(write),
        }
    }

    fn join(&mut self, write: Write) {
        let gap = |it: &&mut Write| {
            let (left, right) = (write.start.max(it.start), write.end.min(it.end));
            left.saturating_sub(right)
        };
        if let Some(nearest) = self.writes.iter_mut().min_by_key(gap) {
            nearest.start = nearest.start.min(write.start);
            nearest.end = nearest.end.max(write.end);
            nearest.block_id = NOBODY;
        }
    }

    /// A flush is asked for.
    pub fn flush_begins(&mut self) {
        self.late = false;
    }

    /// It has ended well. With a write that ended meanwhile, which was begun before writes had to
    /// wait for it, all others count as not flushed, too.
    pub fn flushed(&mut self) {
        if !self.lost && !self.late {
            self.len = 0;
        }
    }

    /// The disk is given up. Answers whether the peer has to hear of anything.
    pub fn given_up(&mut self) -> bool {
        self.lost = self.len != 0;
        self.lost
    }

    /// The connection over which they came is gone, and the peer takes them all for lost.
    pub fn clear(&mut self) {
        self.len = 0;
        self.lost = false;
    }

    /// Takes out the next that the peer has to hear of.
    pub fn pop_lost(&mut self) -> Option<Lost> {
        if !self.lost {
            return None;
        }
        let last = self.len.checked_sub(1)?;
        let write = self.writes.get_mut(last)?;
        let mut end = write.end;
        if write.block_id == NOBODY {
            end = end.min(write.start + REFUSAL_MAX);
        }
        let len = SectorCount(end.saturating_sub(write.start));
        let lost = Lost {
            range: SectorRange::new(Sector(write.start), len)?,
            block_id: write.block_id,
        };
        write.start = end;
        if write.start >= write.end {
            self.len = last;
            self.lost = last != 0;
        }
        Some(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, len: u64) -> SectorRange {
        SectorRange::new(Sector(start), SectorCount(len)).unwrap()
    }

    fn all_lost(unstable: &mut Unstable) -> Vec<Lost> {
        std::iter::from_fn(|| unstable.pop_lost()).collect()
    }

    #[test]
    fn only_what_was_not_flushed_is_lost_with_the_disk() {
        let mut unstable = Unstable::default();
        unstable.written(range(0, 8), 1);
        unstable.flush_begins();
        unstable.flushed();
        unstable.written(range(8, 16), 2);
        // That one is not in a flush that was asked for before.
        unstable.flushed();
        unstable.written(range(64, 8), 3);
        assert_eq!(unstable.pop_lost(), None, "the disk is there");
        assert!(unstable.given_up());
        // Too late.
        unstable.flushed();
        let wanted = [(range(64, 8), 3), (range(8, 16), 2)];
        let wanted = wanted.map(|(range, block_id)| Lost { range, block_id });
        assert_eq!(all_lost(&mut unstable), wanted);
        assert!(!unstable.given_up());
    }

    #[test]
    fn a_lost_connection_leaves_nothing_to_tell() {
        let mut unstable = Unstable::default();
        unstable.written(range(0, 8), 1);
        assert!(unstable.given_up());
        unstable.clear();
        assert_eq!(unstable.pop_lost(), None);
    }

    #[test]
    fn what_does_not_fit_is_covered_by_joined_ranges_that_no_request_has() {
        let mut unstable = Unstable::default();
        let place = |number: u64| (number * 7919 % 1_000) * 1_000;
        for number in 0..300 {
            unstable.written(range(place(number), 8), number);
        }
        assert!(unstable.given_up());
        let lost = all_lost(&mut unstable);
        for number in 0..300 {
            let mut sectors = place(number)..place(number) + 8;
            let covers = |lost: &Lost, sector| lost.range.contains(range(sector, 1));
            assert!(sectors.all(|sector| lost.iter().any(|lost| covers(lost, sector))));
        }
        for lost in &lost {
            let single = lost.block_id < 300 && lost.range.len().0 == 8;
            assert!(single || lost.block_id == NOBODY && lost.range.len().0 <= REFUSAL_MAX);
        }
    }
}
