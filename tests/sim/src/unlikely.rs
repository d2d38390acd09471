//! Unlikely branches of the core (`core/chance.rs`): which runs take them, and how often.

use drbd_core::chance::{Dice, Unlikely};
use drbd_core::quirk::Quirks;

use crate::random::Random;

/// Odds that a branch may have in a run, in 256ths: most runs have some branches only.
const ODDS: [u8; 8] = [0, 0, 0, 3, 3, 25, 128, 230];

/// Odds of a branch at most. Where each time costs a tenth of a second, or what the disk takes for
/// a write, a resync could take hours otherwise.
const fn limit(unlikely: Unlikely) -> u8 {
    match unlikely {
        Unlikely::NoReadPages => 3,
        Unlikely::NoWritePages | Unlikely::TurnMissed => 25,
        _ => u8::MAX,
    }
}

/// The unlikely branches of a run.
#[derive(Clone, Copy, Debug)]
pub struct Branches {
    /// What fixes when they are taken.
    seed: u64,
    /// The only one; `None`: all.
    only: Option<Unlikely>,
}

impl Branches {
    /// All of them, when the seed says so.
    pub const fn all(seed: u64) -> Self {
        Self { seed, only: None }
    }

    /// This one only.
    #[must_use]
    pub const fn only(self, unlikely: Unlikely) -> Self {
        let only = Some(unlikely);
        Self { only, ..self }
    }

    /// The dice of a node. The C driver can not do all that ours can.
    pub fn dice(&self, node: usize, quirks: Quirks) -> Dice {
        let mut random = Random::new(self.seed ^ node as u64);
        let state = random.draw();
        let mut odds = Unlikely::ALL.map(|unlikely| random.pick(&ODDS).min(limit(unlikely)));
        for unlikely in Unlikely::ALL {
            let ours = quirks == Quirks::NONE || !Unlikely::OURS.contains(&unlikely);
            if !ours || self.only.is_some_and(|only| only != unlikely) {
                odds[unlikely as usize] = 0;
            }
        }
        Dice::new(state, odds)
    }
}
