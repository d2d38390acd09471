//! What is legal and hardly ever happens, made to happen in simulated runs.
//!
//! Much that may come at any moment comes once in a thousand runs, if at all: pages that run out,
//! an epoch that ends after one write, a packet that holds less than it could. Where the core does
//! such a thing it also asks [`chance`]; in some runs the answer is yes now and then, by a
//! generator of its own for each node ([`Dice`]). The question comes last in a condition, so that
//! `true` means that it made a difference: each is counted.
//!
//! No branch may do what another configuration, another order of events or less memory could not
//! do, and nobody who waits because of one may be without somebody to wake it.
//!
//! Only builds with the feature `put-back`, and the unit tests of this crate, have dice. In the
//! kernel [`chance`] is constant `false` and the branches vanish.

/// One branch; the table in `Documentation/testing.md` tells why each is legal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unlikely {
    /// No slot is free for a request while others of the volume are in use (`reference/io.md` 3.7).
    NoRequestSlot,
    /// No pages are free for a write of the peer while others have some (`reference/io.md` 3.7).
    NoWritePages,
    /// No pages are free for a read of the peer, for a while (`reference/io.md` 3.7).
    NoReadPages,
    /// An epoch ends with this write, as if `max-epoch-size` were that small (`reference/io.md`
    /// 3.2).
    EpochEnds,
    /// The barrier of a closed epoch does not wait for a write (`reference/io.md` 3.2).
    BarrierAtOnce,
    /// A read goes to the peer although the own disk is good (`reference/io.md` 2.2).
    ReadElsewhere,
    /// A read of the peer waits for one of its writes that it does not overlap (`reference/io.md`
    /// 2.3).
    ReadBehindWrite,
    /// Acks are sent one by one (`reference/io.md` 10.5 item 9).
    AckAlone,
    /// A disk is flushed to which nothing was written (`reference/io.md` 3.3).
    FlushInVain,
    /// A write to an extent that is active takes the way of one that is not (`reference/io.md`
    /// 4.1).
    ExtentUnseen,
    /// Another unused extent than the oldest one leaves the log
    /// (`reference/metadata.md` 3.5).
    OtherVictim,
    /// The log is written though there is room for more changes, which wait
    /// (`reference/metadata.md` 3.5).
    ChangesLeft,
    /// The bitmap is written before it is time (`reference/metadata.md` 4.4).
    BitmapWrittenEarly,
    /// A part of a bitmap goes out plain though it could be compressed (`reference/wire.md` 6.3).
    PlainBitmap,
    /// A compressed part of a bitmap is short (`reference/wire.md` 6.5).
    ShortCode,
    /// A resync request is for one block (`reference/io.md` 6.2).
    BlockAlone,
    /// Resync misses its turn (`reference/io.md` 6.2).
    TurnMissed,
    /// A resync request goes before what waits (`reference/io.md` 6.2).
    ResyncFirst,
    /// The superblock is written, and written again (`reference/metadata.md` 2.1).
    SuperblockTwice,
    /// A ping is sent before it is time (`reference/wire.md` 10.1).
    PingEarly,
}

impl Unlikely {
    /// Number of branches.
    pub const COUNT: usize = 20;

    /// All of them.
    pub const ALL: [Self; Self::COUNT] = [
        Self::NoRequestSlot,
        Self::NoWritePages,
        Self::NoReadPages,
        Self::EpochEnds,
        Self::BarrierAtOnce,
        Self::ReadElsewhere,
        Self::ReadBehindWrite,
        Self::AckAlone,
        Self::FlushInVain,
        Self::ExtentUnseen,
        Self::OtherVictim,
        Self::ChangesLeft,
        Self::BitmapWrittenEarly,
        Self::PlainBitmap,
        Self::ShortCode,
        Self::BlockAlone,
        Self::TurnMissed,
        Self::ResyncFirst,
        Self::SuperblockTwice,
        Self::PingEarly,
    ];

    /// Those that the C driver does not have under any configuration or load.
    pub const OURS: [Self; 5] = [
        Self::ReadBehindWrite,
        Self::AckAlone,
        Self::OtherVictim,
        Self::ShortCode,
        Self::ResyncFirst,
    ];
}

#[cfg(any(test, feature = "put-back"))]
mod dice {
    use super::Unlikely;
    use std::cell::Cell;

    /// What decides for one node.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Dice {
        state: u64,
        odds: [u8; Unlikely::COUNT],
        taken: [u32; Unlikely::COUNT],
    }

    impl Dice {
        /// A generator that this seed fixes; the odds of each branch in 256ths.
        pub const fn new(seed: u64, odds: [u8; Unlikely::COUNT]) -> Self {
            Self {
                state: seed,
                odds,
                taken: [0; Unlikely::COUNT],
            }
        }

        /// Returns how often a branch was taken.
        pub const fn taken(&self, unlikely: Unlikely) -> u32 {
            self.taken[unlikely as usize]
        }

        /// Throws them, by splitmix64.
        fn throw(&mut self, unlikely: Unlikely) -> bool {
            let place = unlikely as usize;
            if self.odds[place] == 0 {
                return false;
            }
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let hit = (z ^ (z >> 31)) % 256 < u64::from(self.odds[place]);
            self.taken[place] += u32::from(hit);
            hit
        }
    }

    std::thread_local! {
        static HELD: Cell<Option<Dice>> = const { Cell::new(None) };
    }

    /// From now on the present thread runs a node with these dice; `None`: without. Returns those
    /// of before.
    pub fn hold(dice: Option<Dice>) -> Option<Dice> {
        HELD.replace(dice)
    }

    /// Tells whether an unlikely branch is taken this time.
    pub fn chance(unlikely: Unlikely) -> bool {
        let Some(mut dice) = HELD.get() else {
            return false;
        };
        let hit = dice.throw(unlikely);
        HELD.set(Some(dice));
        hit
    }
}

#[cfg(any(test, feature = "put-back"))]
pub use dice::{chance, hold, Dice};

/// Tells whether an unlikely branch is taken this time: never.
#[cfg(not(any(test, feature = "put-back")))]
#[inline(always)]
pub const fn chance(_: Unlikely) -> bool {
    false
}

/// The compiler knows it, whatever is asked.
#[cfg(not(any(test, feature = "put-back")))]
const _: () = {
    let mut rest: &[Unlikely] = &Unlikely::ALL;
    while let [first, others @ ..] = rest {
        assert!(!chance(*first));
        rest = others;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_what_happens_and_nothing_does_without_dice() {
        let one = Unlikely::EpochEnds;
        let mut odds = [0; Unlikely::COUNT];
        odds[one as usize] = 128;
        let throw = |seed| {
            let before = hold(Some(Dice::new(seed, odds)));
            assert!(before.is_none());
            let hits: Vec<bool> = (0..100).map(|_| chance(one)).collect();
            assert!(!chance(Unlikely::AckAlone), "it has no odds");
            let dice = hold(None).unwrap();
            let taken = hits.iter().filter(|hit| **hit).count();
            assert_eq!(dice.taken(one) as usize, taken);
            assert!((20..80).contains(&taken));
            hits
        };
        assert_eq!(throw(7), throw(7));
        assert_ne!(throw(7), throw(8));
        assert!(!Unlikely::ALL.into_iter().any(chance));
    }

    #[test]
    fn every_branch_has_a_place() {
        for (place, unlikely) in Unlikely::ALL.into_iter().enumerate() {
            assert_eq!(unlikely as usize, place);
        }
    }
}
