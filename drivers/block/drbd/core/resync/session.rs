//! One run of resync or online verify: position, what is outstanding, progress.

use drbd_format::units::{BitIndex, Sector, SectorCount, SectorRange};

use crate::bitmap::block_range;
use crate::config::DiskConfig;
use crate::link::Side;
use crate::put_back::{block_bits, put_back, Bug};
use crate::resync::rate::Rate;
use crate::time::{Duration, Instant};

/// Marks for the short-term speed.
pub const MARKS: usize = 8;
/// Begin of a pause that is none.
const NOT_PAUSED: Instant = Instant(u64::MAX);
/// Least time between two marks.
const MARK_EVERY: Duration = Duration::from_secs(3);
/// Bits in one resync extent, beyond which no request reaches.
const EXTENT_BITS: u64 = 4096;

/// A point in the history of a run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Mark {
    /// When.
    pub at: Instant,
    /// Bits left then.
    pub left: u64,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Job {
    /// Making replicas equal.
    Resync,
    /// Comparing replicas.
    Verify,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// Resync or verify.
    pub job: Job,
    /// Our side.
    pub side: Side,
    /// Bits to process in this run.
    pub total: u64,
    /// Bits that could not be processed; verify: bits found different.
    pub failed: u64,
    /// Bits of writes and discards that only the peer's disk has carried out: no run makes them
    /// equal.
    pub only_theirs: u32,
    /// Verify: bits not yet compared. Resync from here: bits that were marked before, of which the
    /// target may know nothing, as no bitmaps were exchanged.
    pub verify_left: u64,
    /// Where to search next.
    pub position: BitIndex,
    /// Verify: first bit not to be asked for.
    pub stop: BitIndex,
    /// Requests whose answer has not been dealt with completely.
    pub outstanding: u32,
    /// Sectors asked for and not yet answered.
    pub in_flight: u64,
    /// Blocks whose checksums were equal.
    pub same_checksum: u64,
    /// The peer has cancelled requests: do not ask until the state changes, or until then. It may
    /// have been about requests of the run before. 0: it has not.
    pub cancelled_until: Instant,
    /// The end has been reported.
    pub reported: bool,
    /// The peer has asked for a block.
    pub peer_asked: bool,
    /// The peer has said that the run is over.
    pub peer_ended: bool,
    /// Source: blocks that are not marked here could not be read, or the peer has refused them.
    pub refused_unmarked: bool,
    /// Use checksums.
    pub checksums: bool,
    /// Limits.
    pub rate: Rate,
    /// Begin.
    pub started: Instant,
    /// Time spent paused.
    pub paused: Duration,
    /// Begin of the present pause, [`NOT_PAUSED`] without one.
    paused_since: Instant,
    /// Ring of marks.
    pub marks: [Mark; MARKS],
    /// Newest mark.
    last_mark: u8,
    /// When the bitmap was last asked to be written.
    pub written: Instant,
}

impl Session {
    /// Begins a run over `total` bits.
    pub fn new(job: Job, side: Side, total: u64, now: Instant, config: &DiskConfig) -> Self {
        Self {
            job,
            side,
            total,
            failed: 0,
            only_theirs: 0,
            verify_left: if matches!(job, Job::Verify) { total } else { 0 },
            position: BitIndex(0),
            stop: BitIndex(u64::MAX),
            outstanding: 0,
            in_flight: 0,
            same_checksum: 0,
            cancelled_until: Instant(0),
            reported: false,
            peer_asked: false,
            peer_ended: false,
            refused_unmarked: false,
            checksums: false,
            rate: Rate::new(now, config),
            started: now,
            paused: Duration::ZERO,
            paused_since: NOT_PAUSED,
            marks: [Mark {
                at: now,
                left: total,
            }; MARKS],
            last_mark: 0,
            written: now,
        }
    }

    /// The peer has cancelled requests, and that still counts.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled_until != Instant(0)
    }

    /// Bits that may be left when the run is over. The target has to have asked for what it knows.
    pub fn not_to_be_done(&self) -> u64 {
        let untold = if self.peer_asked { self.verify_left } else { 0 };
        self.failed
            .saturating_add(u64::from(self.only_theirs))
            .saturating_add(untold)
    }

    /// Returns the time from which a run from here ends with the last bit, whatever the peer says;
    /// `None`: it does not. Before version 96 a target need not say anything. Of a run without
    /// bits it may not have heard for `silence_max`; that of version 95 says that there was nothing
    /// to do.
    pub fn counts_from(&self, version: u32, silence_max: Duration) -> Option<Instant> {
        if self.job != Job::Resync || self.side != Side::Source {
            return None;
        }
        match version {
            ..=95 if self.total != 0 => Some(Instant(0)),
            ..=94 => Some(self.started.after(silence_max)),
            _ => None,
        }
    }

    /// Returns the place of the newest mark.
    pub fn last_mark(&self) -> usize {
        usize::from(self.last_mark) % MARKS
    }

    /// Remembers progress; at most every 3 s (`reference/states.md` 2.3).
    pub fn progress(&mut self, left: u64, now: Instant) {
        let Some(last) = self.marks.get(self.last_mark()).copied() else {
            return;
        };
        let due = now.since(last.at) >= MARK_EVERY && left != last.left;
        if !due || self.paused_since != NOT_PAUSED {
            return;
        }
        self.last_mark = self.last_mark.wrapping_add(1);
        self.marks[self.last_mark()] = Mark { at: now, left };
    }

    /// The run pauses or goes on.
    pub fn pause(&mut self, paused: bool, now: Instant) {
        let since = self.paused_since;
        match (since != NOT_PAUSED, paused) {
            (false, true) => {
                self.paused_since = now;
                self.marks[self.last_mark()].at = now;
            }
            (true, false) => {
                self.paused = Duration(self.paused.0.saturating_add(now.since(since).0));
                self.paused_since = NOT_PAUSED;
            }
            (false, false) | (true, true) => {}
        }
    }

    /// A request of this length has been sent.
    pub fn asked(&mut self, len: SectorCount) {
        self.outstanding += 1;
        self.in_flight += len.0;
        self.rate.asked(len.0);
    }

    /// The peer has answered, whatever it said.
    pub fn answered(&mut self, len: SectorCount) {
        self.in_flight = self.in_flight.saturating_sub(len.0);
        self.rate.answered(len.0);
    }

    /// A request has been dealt with completely.
    pub fn finished(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
    }
}

/// Limits for the size of one request.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Sectors allowed by the rate, at least 8.
    pub sectors: u64,
    /// Largest request in bytes.
    pub max_bytes: u32,
    /// Thin resync: stop at this size, 0: off.
    pub granularity_bytes: u32,
    /// Size of the device.
    pub capacity: SectorCount,
}

/// Returns the range to ask for, beginning with the set bit `first`.
///
/// A request of n blocks starts aligned to the next power of two at least n, does not cross a
/// 16 MiB extent and contains set bits only (`reference/io.md` 6.2 step 5).
pub fn merge(
    first: BitIndex,
    limits: &RequestLimits,
    is_set: impl Fn(BitIndex) -> bool,
) -> SectorRange {
    let first = if put_back(Bug::ResyncRequestBeyond8TiB) {
        BitIndex(first.0 & ((1 << block_bits()) - 1))
    } else {
        first
    };
    let mut blocks = 1_u64;
    let mut align = 1_u32;
    let max_blocks = (limits.sectors / 8)
        .min(u64::from(limits.max_bytes / 4096))
        .max(1);
    while blocks < max_blocks {
        let sector = first.0 << 3;
        if sector & ((1 << (align + 3)) - 1) != 0 {
            break;
        }
        if limits.granularity_bytes != 0 && blocks * 4096 == u64::from(limits.granularity_bytes) {
            break;
        }
        let next = BitIndex(first.0 + blocks);
        if next.0 % EXTENT_BITS == 0 || !is_set(next) {
            break;
        }
        blocks += 1;
        if blocks == 1 << align {
            align += 1;
        }
    }
    block_range(first.0, first.0 + blocks, limits.capacity)
}

/// Returns the range of one verify request: exactly one block, shorter at the device's end.
pub fn verify_block(bit: BitIndex, capacity: SectorCount) -> SectorRange {
    block_range(bit.0, bit.0 + 1, capacity)
}

/// Returns the first bit of a verify that starts at `sector`.
pub fn verify_start(sector: Sector) -> BitIndex {
    sector.bit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::put_back::select;

    fn limits(sectors: u64, max_bytes: u32, capacity: u64) -> RequestLimits {
        RequestLimits {
            sectors,
            max_bytes,
            granularity_bytes: 0,
            capacity: SectorCount(capacity),
        }
    }

    #[test]
    fn a_request_is_aligned_to_the_next_power_of_two_of_its_size() {
        let all = limits(1 << 20, 1 << 20, 1 << 30);
        for first in 0..20_000 {
            let range = merge(BitIndex(first), &all, |_| true);
            let blocks = range.len().0 / 8;
            assert_eq!(first % blocks.next_power_of_two(), 0, "{first} {blocks}");
            assert!(blocks <= 256);
            let last = first + blocks - 1;
            assert_eq!(first / EXTENT_BITS, last / EXTENT_BITS, "crosses an extent");
        }
        assert_eq!(merge(BitIndex(0), &all, |_| true).len().0, 2048, "1 MiB");
        assert_eq!(merge(BitIndex(1), &all, |_| true).len().0, 8);
        assert_eq!(merge(BitIndex(2), &all, |_| true).len().0, 16);
    }

    /// A block near each multiple of 8 TiB, up to 1 EiB, is asked for under its own number.
    fn names_every_block() -> bool {
        let all = limits(1 << 20, 1 << 20, 1 << 51);
        (0..1 << 17).all(|multiple: u64| {
            let edge = multiple << 31;
            (edge.saturating_sub(2)..edge + 2).all(|block| {
                let range = merge(BitIndex(block), &all, |_| false);
                range.start().0 == block * 8 && range.len().0 == 8
            })
        })
    }

    /// Regression 26 of `Documentation/testing.md`.
    #[test]
    fn requests_beyond_8_tib_name_the_right_sector() {
        assert!(names_every_block());
        select(Some(Bug::ResyncRequestBeyond8TiB));
        let noticed = !names_every_block();
        select(None);
        assert!(noticed, "the bug was put back");
    }

    #[test]
    fn clear_bits_limits_and_the_end_of_the_device_stop_a_request() {
        let all = limits(1 << 20, 1 << 20, 1 << 30);
        assert_eq!(merge(BitIndex(0), &all, |bit| bit.0 < 5).len().0, 40);
        assert_eq!(
            merge(BitIndex(0), &limits(24, 1 << 20, 1 << 30), |_| true)
                .len()
                .0,
            24
        );
        assert_eq!(
            merge(BitIndex(0), &limits(99, 8192, 1 << 30), |_| true)
                .len()
                .0,
            16
        );
        assert_eq!(
            merge(BitIndex(0), &limits(99, 8192, 11), |bit| bit.0 < 2)
                .len()
                .0,
            11
        );
        assert_eq!(merge(BitIndex(0), &limits(0, 0, 3), |_| true).len().0, 3);
        let thin = RequestLimits {
            granularity_bytes: 16384,
            ..all
        };
        assert_eq!(merge(BitIndex(0), &thin, |_| true).len().0, 32);
    }

    #[test]
    fn time_spent_paused_is_not_counted() {
        let mut session = Session::new(
            Job::Resync,
            Side::Target,
            100,
            Instant(0),
            &DiskConfig::DEFAULT,
        );
        session.pause(true, Instant(10));
        session.pause(true, Instant(20));
        session.pause(false, Instant(25));
        assert_eq!(session.paused, Duration(15));
        let later = Instant(0).after(Duration::from_secs(4));
        session.progress(90, later);
        session.progress(80, later);
        assert_eq!(session.last_mark(), 1);
        assert_eq!(session.marks[1].left, 90);
    }
}
