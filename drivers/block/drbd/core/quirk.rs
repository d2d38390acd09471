//! What a node with the C driver 8.4 does otherwise, for one node of a simulated pair.
//!
//! A mixed cluster is simulated with the same core on both nodes. Where the C driver differs in a
//! way that its peer or its disk can see, the source asks [`quirk`]; it is true only while the
//! simulator runs the node that stands for the C driver ([`behave_as`]). The question comes last
//! in a condition, so that `true` means that it made a difference: the simulator takes note.
//!
//! Only builds with the feature `put-back`, and the unit tests of this crate, can play the C
//! driver. In the kernel [`quirk`] is constant `false` and the branches vanish.

/// One difference; the table in `Documentation/testing.md` tells where each comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Quirk {
    /// A barrier is acknowledged before the flush that it asks for (`reference/io.md` Q1).
    AckBeforeFlush,
    /// A worker without work sends the barrier of a closed epoch at once (`reference/io.md` 3.2).
    BarrierAtOnce,
    /// The receiver takes nothing more until a barrier is carried out (`reference/io.md` 3.3).
    ReceiverWaits,
    /// Resync requests are made ten times a second, all at once (`reference/io.md` 6.2).
    ResyncInTicks,
    /// As target the end of a resync may be told before the last ack is (`reference/wire.md` 6.1).
    EndOvertakesAck,
    /// As source the end of a resync is looked for once (`reference/states.md` 3.11, P4).
    EndSeenOnce,
    /// As source a resync with failed blocks does not end (`reference/wire.md` A.7).
    FailedResyncStays,
    /// The old data of an aborted sync target counts as good (`reference/states.md` 3.3, S5).
    AbortedCountsAsGood,
    /// A disk is taken for good before it was compared (`reference/states.md` 3.11, P10).
    DiskNotCompared,
    /// A peer that attached during the handshake is told nothing (`reference/states.md` A9).
    AttachUnanswered,
    /// A node without a disk, or with one that was to be compared, does not answer when the peer
    /// loses its own one (`reference/states.md` A16).
    LossUnanswered,
    /// A former Primary does not mind that its last writes are on their way when it loses the peer
    /// (`reference/states.md` 4, step 4, and A11).
    UnsettledForgotten,
    /// No generation begins for what is written to a disk that is attached while the other one is
    /// not there (`reference/states.md` A11).
    AttachedUntold,
    /// A generation begins for a diskless Primary that connects, and the disk is marked for it,
    /// even if it then does not take the data (`reference/states.md` A11).
    GenerationForNobody,
    /// A source that missed the end of a resync overwrites what its target, which was Primary and
    /// crashed, has written since (`reference/metadata.md` 5.6, rules 34 and 35).
    CrashUnheeded,
    /// The refusal of a discard names an absurd length (`reference/wire.md` A.5).
    LengthOfNothing,
    /// Padding and block ids that mean nothing hold anything (`reference/wire.md` A.6).
    StaleBytes,
    /// Requests are named by addresses of the kernel (`reference/wire.md` 5.2, "opaque").
    Addresses,
}

impl Quirk {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::AckBeforeFlush,
        Self::BarrierAtOnce,
        Self::ReceiverWaits,
        Self::ResyncInTicks,
        Self::EndOvertakesAck,
        Self::EndSeenOnce,
        Self::FailedResyncStays,
        Self::AbortedCountsAsGood,
        Self::DiskNotCompared,
        Self::AttachUnanswered,
        Self::LossUnanswered,
        Self::UnsettledForgotten,
        Self::AttachedUntold,
        Self::GenerationForNobody,
        Self::CrashUnheeded,
        Self::LengthOfNothing,
        Self::StaleBytes,
        Self::Addresses,
    ];

    /// Defects after which the node that has them may show old data for good ones.
    pub const HARMFUL: [Self; 6] = [
        Self::AbortedCountsAsGood,
        Self::DiskNotCompared,
        Self::UnsettledForgotten,
        Self::AttachedUntold,
        Self::GenerationForNobody,
        Self::CrashUnheeded,
    ];
}

/// A set of quirks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Quirks(u32);

impl Quirks {
    /// None: a node of ours.
    pub const NONE: Self = Self(0);
    /// All that the C driver has.
    pub const C: Self = Self((1 << Quirk::ALL.len()) - 1);

    /// This one only.
    pub const fn only(quirk: Quirk) -> Self {
        Self(1 << quirk as u32)
    }

    /// Tells whether one is in the set.
    pub const fn contains(self, quirk: Quirk) -> bool {
        self.0 & Self::only(quirk).0 != 0
    }

    /// Those in either set.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[cfg(any(test, feature = "put-back"))]
mod played {
    use super::{Quirk, Quirks};
    use std::cell::Cell;

    std::thread_local! {
        static PLAYED: Cell<Quirks> = const { Cell::new(Quirks::NONE) };
        static MATTERED: Cell<Quirks> = const { Cell::new(Quirks::NONE) };
    }

    /// From now on the present thread runs a node with these quirks. Returns those that made a
    /// difference since the last call.
    pub fn behave_as(quirks: Quirks) -> Quirks {
        PLAYED.set(quirks);
        MATTERED.take()
    }

    /// Tells whether the node that runs has this quirk.
    pub fn quirk(quirk: Quirk) -> bool {
        let has = PLAYED.get().contains(quirk);
        if has {
            MATTERED.set(MATTERED.get().or(Quirks::only(quirk)));
        }
        has
    }
}

#[cfg(any(test, feature = "put-back"))]
pub use played::{behave_as, quirk};

/// Tells whether the node that runs has this quirk: never.
#[cfg(not(any(test, feature = "put-back")))]
#[inline(always)]
pub const fn quirk(_: Quirk) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_the_quirks_it_was_given_and_those_that_mattered_are_told() {
        let one = Quirk::ReceiverWaits;
        assert!(Quirk::ALL.iter().all(|quirk| Quirks::C.contains(*quirk)));
        assert_eq!(behave_as(Quirks::only(one)), Quirks::NONE);
        assert!(quirk(one) && !quirk(Quirk::StaleBytes));
        assert_eq!(behave_as(Quirks::NONE), Quirks::only(one));
        assert!(!quirk(one));
        assert_eq!(behave_as(Quirks::NONE), Quirks::NONE);
    }
}
