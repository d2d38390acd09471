//! Bugs of other implementations, put back on purpose in test builds.
//!
//! Replicated block devices of this kind really had each of them. A test or the simulator selects
//! one for the present thread with [`select`]; wherever the code avoids it the source asks
//! [`put_back`]. Somebody has to notice: that is how the checkers are checked.
//!
//! Only builds with the feature `put-back`, and the unit tests of this crate, know how to select.
//! In the kernel [`put_back`] is constant `false` and the wrong branches vanish.

/// One bug, named after what it does. Its number is that of the table in
/// `Documentation/testing.md`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bug {
    /// A write between the exchange of the bitmaps and the resync is not told to the target.
    WriteDuringShortResync = 1,
    /// A write while the bitmaps travel is neither sent nor marked.
    WriteWhileBitmapsTravel = 2,
    /// A write that the peer's disk refuses after its early ack is not marked.
    PeerWriteErrorForgotten = 3,
    /// Bits are dropped when both generations are equal, though a resync was cut short.
    BitsDroppedAtEqualGenerations = 4,
    /// The survivor becomes Primary while writes of the lost peer are on their way to its disk.
    SurvivorPromotedUnreconciled = 5,
    /// The peer's bitmap UUID pushes true ancestors out of the history.
    PeerBitmapUuidInHistory = 6,
    /// A break at the start of a resync makes it a full one.
    FullSyncAfterBreakAtStart = 7,
    /// A promotion during the handshake loses the arrival of the peer's bitmap.
    PromotionDuringHandshake = 8,
    /// The source does not take the peer's word for the end of the resync.
    EndOfResyncMissed = 9,
    /// The speed of a resync of no duration is a division by zero.
    DivideByZeroInterval = 10,
    /// In protocol A a lost connection completes a write before the own disk has it.
    CompletionBeforeLocalDisk = 11,
    /// Requests complete while I/O is suspended.
    CompletionWhileSuspended = 12,
    /// Suspending I/O does not wait for what is under way.
    SuspendReturnsEarly = 13,
    /// A request that waited for its turn does not see that I/O is suspended.
    SuspendRacesWithSubmit = 14,
    /// A resize and the activity log wait for each other.
    ResizeAgainstActivityLog = 15,
    /// The superblock is not written after a resize.
    MetadataNotWrittenOnResize = 16,
    /// Only a part of the bitmap is written after a resize.
    BitmapNotWrittenOnResize = 17,
    /// Requests of the peer wait for buffers for ever, both ways.
    MaxBuffersDeadlock = 18,
    /// A disconnect and the fencing helper wait for each other.
    DisconnectWaitsForFencing = 19,
    /// A write that waited for an overlapping one is not started again.
    ConflictRestartForgotten = 20,
    /// Without a slot for its request an extent is given back twice.
    PutTwiceOnAllocationFailure = 21,
    /// A request of the peer outlives its connection on the list of those to be sent.
    PeerRequestKeptOnList = 22,
    /// A listener lives on after the attempt to connect that it belonged to.
    ListenerOutlivesAttempt = 23,
    /// A disk is let go while requests are with it.
    DiskClosedEarly = 24,
    /// A scan of the bitmap looks one page too far.
    BitmapScanAtPageBoundary = 25,
    /// Resync requests beyond 8 TiB name the wrong sector.
    ResyncRequestBeyond8TiB = 26,
    /// A resync write and an application write change places on the target.
    ResyncWriteOvertakes = 27,
    /// A full activity log does not stop a write.
    FullActivityLogIgnored = 28,
    /// A read that failed on the own disk is forgotten.
    LocalReadErrorForgotten = 29,
    /// The pages of a write may change while it is under way.
    StablePagesLost = 30,
}

impl Bug {
    /// All bugs, in the order of their numbers.
    pub const ALL: [Self; 30] = [
        Self::WriteDuringShortResync,
        Self::WriteWhileBitmapsTravel,
        Self::PeerWriteErrorForgotten,
        Self::BitsDroppedAtEqualGenerations,
        Self::SurvivorPromotedUnreconciled,
        Self::PeerBitmapUuidInHistory,
        Self::FullSyncAfterBreakAtStart,
        Self::PromotionDuringHandshake,
        Self::EndOfResyncMissed,
        Self::DivideByZeroInterval,
        Self::CompletionBeforeLocalDisk,
        Self::CompletionWhileSuspended,
        Self::SuspendReturnsEarly,
        Self::SuspendRacesWithSubmit,
        Self::ResizeAgainstActivityLog,
        Self::MetadataNotWrittenOnResize,
        Self::BitmapNotWrittenOnResize,
        Self::MaxBuffersDeadlock,
        Self::DisconnectWaitsForFencing,
        Self::ConflictRestartForgotten,
        Self::PutTwiceOnAllocationFailure,
        Self::PeerRequestKeptOnList,
        Self::ListenerOutlivesAttempt,
        Self::DiskClosedEarly,
        Self::BitmapScanAtPageBoundary,
        Self::ResyncRequestBeyond8TiB,
        Self::ResyncWriteOvertakes,
        Self::FullActivityLogIgnored,
        Self::LocalReadErrorForgotten,
        Self::StablePagesLost,
    ];

    /// Number in the table.
    pub const fn number(self) -> u32 {
        self as u32
    }
}

#[cfg(any(test, feature = "put-back"))]
mod chosen {
    use super::Bug;
    use std::cell::Cell;

    std::thread_local! {
        static CHOSEN: Cell<Option<Bug>> = const { Cell::new(None) };
        static BLOCK_BITS: Cell<u32> = const { Cell::new(31) };
    }

    /// Bits that are left of the number of a block with [`Bug::ResyncRequestBeyond8TiB`].
    pub fn block_bits() -> u32 {
        BLOCK_BITS.get()
    }

    /// Leaves fewer of them from now on: simulated devices are smaller than 8 TiB.
    pub fn set_block_bits(bits: u32) {
        BLOCK_BITS.set(bits);
    }

    /// Puts a bug back for whatever the present thread does from now on; `None`: none.
    pub fn select(bug: Option<Bug>) {
        CHOSEN.set(bug);
    }

    /// Tells whether this bug is put back.
    pub fn put_back(bug: Bug) -> bool {
        CHOSEN.get() == Some(bug)
    }
}

#[cfg(any(test, feature = "put-back"))]
pub use chosen::{block_bits, put_back, select, set_block_bits};

/// Bits that are left of the number of a block with [`Bug::ResyncRequestBeyond8TiB`].
#[cfg(not(any(test, feature = "put-back")))]
#[inline(always)]
pub const fn block_bits() -> u32 {
    31
}

/// Tells whether this bug is put back: never.
#[cfg(not(any(test, feature = "put-back")))]
#[inline(always)]
pub const fn put_back(_: Bug) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bugs_are_numbered_as_in_the_table_and_one_thread_does_not_see_the_others() {
        for (bug, number) in Bug::ALL.iter().zip(1..) {
            assert_eq!(bug.number(), number);
        }
        select(Some(Bug::ALL[0]));
        assert!(put_back(Bug::ALL[0]) && !put_back(Bug::ALL[1]));
        let other = std::thread::spawn(|| put_back(Bug::ALL[0]));
        assert_eq!(other.join().ok(), Some(false));
        select(None);
    }
}
