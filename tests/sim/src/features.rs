//! What few clusters use, and disks that misbehave in other ways: online verify, zeroes,
//! `on-io-error pass-on`, congestion, I/O that freezes, disks that hang, disks that take writes and
//! fail flushes, helpers that take their time.
//!
//! Drawn from a stream of its own: seeds that have none of it run as if it did not exist.

use drbd_format::types::Protocol;

use crate::faults::{Fault, Faults};
use crate::random::Random;
use crate::world::{MILLI, SECOND};

/// One of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Feature {
    /// `on-congestion pull-ahead`, with limits that are soon reached.
    Congestion,
    /// Disks take writes and fail flushes.
    Flushes,
    /// `on-no-data-accessible suspend-io`.
    Freezes,
    /// Disks do not answer for a while, and are detached by force.
    Hangs,
    /// The helpers that are asked before a resync take their time.
    Helpers,
    /// `on-io-error pass-on`.
    PassOn,
    /// Administrators start an online verify.
    Verify,
    /// Applications write zeroes.
    Zeroes,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Congestion,
        Self::Flushes,
        Self::Freezes,
        Self::Hangs,
        Self::Helpers,
        Self::PassOn,
        Self::Verify,
        Self::Zeroes,
    ];

    /// Those that have a part in what is drawn for all.
    const DRAWN: [Self; 6] = [
        Self::Congestion,
        Self::Flushes,
        Self::Hangs,
        Self::PassOn,
        Self::Verify,
        Self::Zeroes,
    ];

    /// Those that seeds have by themselves; the others are drawn apart.
    const SETTLED: [Self; 5] = [
        Self::Flushes,
        Self::Hangs,
        Self::PassOn,
        Self::Verify,
        Self::Zeroes,
    ];

    /// Those of them of which a seed with features has at least one.
    const FIRST: [Self; 4] = [Self::Flushes, Self::Hangs, Self::Verify, Self::Zeroes];
}

/// Sectors and extents that count as congestion.
const LIMITS: [(u32, u32); 6] = [
    (8, 1237),
    (100, 1237),
    (600, 1237),
    (0, 1),
    (0, 3),
    (100, 5),
];

/// What a run uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Features {
    on: [bool; Feature::ALL.len()],
    /// Sectors and extents that count as congestion; 0 sectors: no limit.
    pub limits: (u32, u32),
    /// `disk-timeout` in tenths of a second, 0: none.
    pub timeout_tenths: u32,
}

impl Features {
    /// Nothing.
    pub const NONE: Self = Self {
        on: [false; Feature::ALL.len()],
        limits: (0, 0),
        timeout_tenths: 0,
    };

    /// Draws those of a seed: more than a quarter of the seeds have any.
    pub fn draw(seed: u64) -> Self {
        let mut r = Random::new(seed ^ 0x6665_6174_7572);
        let drawn = if r.chance(25) {
            Self::some(&mut r, 35)
        } else {
            Self::NONE
        };
        drawn
            .with_congestion(&mut Random::new(seed ^ 0x636f_6e67), 6)
            .with(Feature::Helpers, &mut Random::new(seed ^ 0x6865_6c70), 6)
            .with(
                Feature::Freezes,
                &mut Random::new(seed ^ 0x6672_6565_7a65),
                8,
            )
    }

    /// Congestion has a stream of its own: seeds without it are those that they were before any
    /// had it.
    fn with_congestion(self, r: &mut Random, percent: u64) -> Self {
        if !r.chance(percent) {
            return self;
        }
        let mut on = self.on;
        on[Feature::Congestion as usize] = true;
        let limits = r.pick(&LIMITS);
        Self { on, limits, ..self }
    }

    /// So have Helpers and Freezes.
    fn with(mut self, feature: Feature, r: &mut Random, percent: u64) -> Self {
        self.on[feature as usize] |= r.chance(percent);
        self
    }

    /// All that seeds have by themselves.
    pub fn all(seed: u64) -> Self {
        let mut all = Self::some(&mut Random::new(seed), 100);
        all.on[Feature::Congestion as usize] = true;
        all.on[Feature::Helpers as usize] = true;
        all
    }

    fn some(r: &mut Random, percent: u64) -> Self {
        let mut on = [false; Feature::ALL.len()];
        on[r.pick(&Feature::FIRST) as usize] = true;
        for feature in Feature::DRAWN {
            on[feature as usize] |= r.chance(percent) && Feature::SETTLED.contains(&feature);
        }
        Self {
            on,
            limits: r.pick(&LIMITS),
            timeout_tenths: r.pick(&[0, 0, 5, 50]),
        }
    }

    /// These only.
    #[must_use]
    pub fn only(self, these: &[Feature]) -> Self {
        let mut on = [false; Feature::ALL.len()];
        for &feature in these {
            on[feature as usize] = true;
        }
        Self { on, ..self }
    }

    /// Tells whether the run has it.
    pub fn has(&self, feature: Feature) -> bool {
        self.on[feature as usize]
    }

    /// Tells whether the run has any that shapes it.
    pub fn any(&self) -> bool {
        let shapes = Feature::ALL.into_iter();
        let mut shapes = shapes.filter(|feature| *feature != Feature::Freezes);
        shapes.any(|feature| self.has(feature))
    }

    /// What they need of the rest. They only matter where nodes stay connected for a while.
    pub fn shape(&self, faults: &mut Faults) {
        if !self.any() {
            return;
        }
        faults.pause_ns = faults
            .pause_ns
            .map(|(low, high)| (low.max(100 * MILLI), high.max(4 * SECOND)));
        if self.has(Feature::Congestion) {
            faults.protocol = Protocol::A;
        }
    }

    /// What makes one of them matter.
    pub fn next(&self, random: &mut Random) -> Option<Fault> {
        let feature = random.pick(&Feature::DRAWN);
        self.has(feature).then_some(match feature {
            Feature::Congestion | Feature::Freezes | Feature::Helpers => return None,
            Feature::Flushes | Feature::PassOn | Feature::Zeroes => Fault::DiskError,
            Feature::Hangs => Fault::Hang,
            Feature::Verify => Fault::Verify,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_quarter_of_all_runs_has_any_and_each_is_had() {
        let mut runs = [0; Feature::SETTLED.len()];
        let (mut any, mut congested, mut freezing) = (0, 0, 0);
        for features in (0..1000).map(Features::draw) {
            any += u32::from(features.any());
            congested += u32::from(features.has(Feature::Congestion));
            freezing += u32::from(features.has(Feature::Freezes));
            for (count, feature) in runs.iter_mut().zip(Feature::SETTLED) {
                *count += u32::from(features.has(feature));
            }
        }
        assert!((250..350).contains(&any), "{any}");
        assert!((40..80).contains(&congested), "{congested}");
        assert!((60..100).contains(&freezing), "{freezing}");
        assert!(runs.iter().all(|count| *count > 50), "{runs:?}");
    }
}
