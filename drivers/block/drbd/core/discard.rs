//! How a discard or write-zeroes request is carried out on a backing device
//! (`reference/io.md` 5.2).
//!
//! A discard promises zeroes between the nodes: what the device cannot discard as a whole granule
//! is zeroed instead, so that both nodes read the same afterwards.

use drbd_format::units::{Sector, SectorCount};

/// Most sectors in one discard.
const DISCARD_MAX: u64 = 4_194_304;

/// What the backing device can do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DiscardLimits {
    /// Smallest unit of a discard in sectors; 0 counts as 1.
    pub granularity: u32,
    /// First sector of a granule.
    pub alignment: u32,
    /// Most sectors in one discard, 0: the device cannot discard.
    pub max: u32,
}

/// Returns the unit in bytes and the largest size in sectors of discards that are offered, both 0
/// if none are (`reference/netlink.md` 7.8). `disk`: the same of the backing device; `most`: what
/// the peer takes, in sectors.
pub fn offered(disk: Option<(u32, u32)>, most: u32) -> (u32, u32) {
    let (granularity, of_disk) = disk.unwrap_or((0, u32::MAX));
    let (granularity, most) = (granularity.max(512), most.min(of_disk));
    // A bio of less than one unit would not be split, however large it is.
    if most < granularity / 512 || most == 0 {
        return (0, 0);
    }
    (granularity, most)
}

/// One operation on the device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Discard.
    Discard(Sector, SectorCount),
    /// Write zeroes; deallocate if the flag is set.
    Zero(Sector, SectorCount, bool),
}

/// The operations for one request, in order.
#[derive(Clone, Debug)]
pub struct Plan {
    sector: u64,
    left: u64,
    granularity: u64,
    alignment: u64,
    max: u64,
    may_unmap: bool,
    zero_all: bool,
}

impl Plan {
    /// Plans a request of `count` sectors. `zero_out`: the range must read as zeroes whatever the
    /// device does with discards. `may_unmap`: blocks may be deallocated.
    pub fn new(
        sector: Sector,
        count: SectorCount,
        limits: DiscardLimits,
        zero_out: bool,
        may_unmap: bool,
    ) -> Self {
        let granularity = u64::from(limits.granularity.max(1));
        let alignment = u64::from(limits.alignment)
            .checked_rem(granularity)
            .unwrap_or(0);
        let most = u64::from(limits.max).min(DISCARD_MAX);
        let max = round_down(most, granularity);
        let mut plan = Self {
            sector: sector.0,
            left: count.0,
            granularity,
            alignment,
            max,
            may_unmap,
            zero_all: false,
        };
        let unaligned = plan.past_granule() != 0;
        plan.zero_all = zero_out
            || !may_unmap
            || max == 0
            || count.0 < granularity
            || (unaligned && count.0 < granularity.saturating_mul(2));
        plan
    }

    /// Sectors between the last start of a granule and the present position.
    fn past_granule(&self) -> u64 {
        let from = self
            .sector
            .wrapping_add(self.granularity)
            .wrapping_sub(self.alignment);
        from.checked_rem(self.granularity).unwrap_or(0)
    }

    fn take(&mut self, count: u64) -> (Sector, SectorCount) {
        let at = Sector(self.sector);
        self.sector = self.sector.saturating_add(count);
        self.left = self.left.saturating_sub(count);
        (at, SectorCount(count))
    }

    fn zero(&mut self, count: u64) -> Step {
        let (at, count) = self.take(count);
        Step::Zero(at, count, self.may_unmap)
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.left == 0 {
            return None;
        }
        if self.zero_all || self.left < self.granularity {
            return Some(self.zero(self.left));
        }
        let past = self.past_granule();
        if past != 0 {
            let head = self.granularity.saturating_sub(past);
            return Some(self.zero(head.min(self.left)));
        }
        let count = round_down(self.left, self.granularity).min(self.max);
        let (at, count) = self.take(count);
        Some(Step::Discard(at, count))
    }
}

fn round_down(value: u64, unit: u64) -> u64 {
    value.saturating_sub(value.checked_rem(unit).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(sector: u64, count: u64, limits: DiscardLimits, zero: bool, trim: bool) -> Vec<Step> {
        Plan::new(Sector(sector), SectorCount(count), limits, zero, trim).collect()
    }

    const LIMITS: DiscardLimits = DiscardLimits {
        granularity: 8,
        alignment: 0,
        max: 64,
    };

    #[test]
    fn a_unit_larger_than_the_largest_discard_switches_discards_off() {
        assert_eq!(offered(None, 262_144), (512, 262_144));
        assert_eq!(offered(None, 0), (0, 0));
        assert_eq!(offered(Some((4096, 0)), 262_144), (0, 0));
        assert_eq!(offered(Some((4096, 16_384)), 262_144), (4096, 16_384));
        assert_eq!(offered(Some((4 << 20, u32::MAX)), 8192), (4 << 20, 8192));
        assert_eq!(offered(Some((8 << 20, u32::MAX)), 8192), (0, 0));
    }

    #[test]
    fn every_sector_is_covered_once_and_discards_are_whole_granules() {
        for granularity in [0, 1, 8, 12] {
            for alignment in 0..13 {
                for max in [0, 5, 24, 64] {
                    for sector in 0..30 {
                        for count in 1..100 {
                            let limits = DiscardLimits {
                                granularity,
                                alignment,
                                max,
                            };
                            check(sector, count, limits);
                        }
                    }
                }
            }
        }
    }

    fn check(sector: u64, count: u64, limits: DiscardLimits) {
        let unit = u64::from(limits.granularity.max(1));
        let mut at = sector;
        for step in steps(sector, count, limits, false, true) {
            let (start, len) = match step {
                Step::Discard(start, len) => {
                    assert_eq!(
                        (start.0 + unit - u64::from(limits.alignment) % unit) % unit,
                        0
                    );
                    assert_eq!(len.0 % unit, 0);
                    assert!(len.0 <= u64::from(limits.max));
                    (start, len)
                }
                Step::Zero(start, len, unmap) => {
                    assert!(unmap);
                    (start, len)
                }
            };
            assert_eq!(start.0, at);
            assert!(len.0 > 0);
            at += len.0;
        }
        assert_eq!(at, sector + count, "{limits:?} {sector}+{count}");
    }

    #[test]
    fn unaligned_ends_are_zeroed() {
        assert_eq!(
            steps(3, 80, LIMITS, false, true),
            [
                Step::Zero(Sector(3), SectorCount(5), true),
                Step::Discard(Sector(8), SectorCount(64)),
                Step::Discard(Sector(72), SectorCount(8)),
                Step::Zero(Sector(80), SectorCount(3), true),
            ]
        );
    }

    #[test]
    fn zeroes_that_must_stay_allocated_are_never_discarded() {
        let all = [Step::Zero(Sector(0), SectorCount(80), false)];
        assert_eq!(steps(0, 80, LIMITS, true, false), all);
        assert_eq!(steps(0, 80, LIMITS, false, false), all);
    }

    #[test]
    fn a_device_without_discard_gets_zeroes() {
        let limits = DiscardLimits { max: 0, ..LIMITS };
        let all = [Step::Zero(Sector(0), SectorCount(80), true)];
        assert_eq!(steps(0, 80, limits, false, true), all);
    }
}
