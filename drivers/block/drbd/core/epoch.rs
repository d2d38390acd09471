//! Epochs on the receiving side: which writes of the peer may go to disk, what has to be flushed,
//! which barriers may be acknowledged (`reference/io.md` 3.3, with Q1 and Q2 of section 11 put
//! right).
//!
//! The receiver never waits. Writes of a later epoch are held back until every earlier epoch is
//! finished and flushed. Barriers are acknowledged in order, each after its flush and after the
//! acks of its writes.

use drbd_format::types::WriteOrdering;

use crate::link::VolumeIndex;
use crate::memory::queue::Queue;
use crate::quirk::{quirk, Quirk};

/// Epochs that may wait for their end; a peer that sends more barriers has to wait.
pub const EPOCHS_MAX: usize = 48;

/// Writes that one epoch may have. The reference ends one after `max-epoch-size`, 20000 at most.
pub const EPOCH_WRITES_MAX: u32 = 100_000;

/// How far the flush of an epoch is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Flush {
    #[default]
    NotYet,
    /// One bit for each volume whose flush has not ended.
    Running(u32),
    Done,
}

#[derive(Clone, Copy, Debug, Default)]
struct Epoch {
    number: u32,
    closed: bool,
    size: u32,
    unfinished: u32,
    unacked: u32,
    flush: Flush,
    /// Volumes whose flush failed, one bit each: the barrier is not acknowledged.
    unstable: u32,
}

/// A barrier that may be acknowledged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Finished {
    /// Number of the barrier.
    pub number: u32,
    /// Writes in the epoch.
    pub set_size: u32,
}

/// Epochs in order; the newest is the one that writes join.
#[derive(Debug)]
pub struct Epochs {
    queue: Queue<Epoch, EPOCHS_MAX>,
    /// Sequence number of the oldest epoch in the queue.
    first: u64,
    /// Newest epoch whose writes may be submitted.
    open: u64,
}

impl Default for Epochs {
    #[inline]
    fn default() -> Self {
        let mut epochs = Self {
            queue: Queue::default(),
            first: 0,
            open: 0,
        };
        epochs.reset();
        epochs
    }
}

impl Epochs {
    /// Forgets all epochs (connection lost). Sequence numbers go on, so that late completions of
    /// forgotten epochs find nothing.
    pub fn reset(&mut self) {
        self.first += self.queue.len() as u64;
        self.open = self.first;
        self.queue.clear();
        let pushed = self.queue.push(Epoch::default());
        debug_assert!(pushed.is_ok(), "an empty queue has room");
    }

    /// Returns the number of epochs in existence, 1 when idle.
    pub fn count(&self) -> u32 {
        u32::try_from(self.queue.len()).unwrap_or(u32::MAX)
    }

    /// Tells whether one more barrier can be taken.
    #[inline]
    pub fn has_room(&self) -> bool {
        !self.queue.is_full()
    }

    /// Tells whether one more write may join the newest epoch.
    #[inline]
    pub fn takes_write(&self) -> bool {
        let newest = self.queue.len().checked_sub(1);
        let newest = newest.and_then(|at| self.queue.get(at));
        newest.is_none_or(|epoch| epoch.size < EPOCH_WRITES_MAX)
    }

    fn get_mut(&mut self, seq: u64) -> Option<&mut Epoch> {
        let position = seq.checked_sub(self.first)?;
        self.queue.get_mut(usize::try_from(position).ok()?)
    }

    /// A write joins the newest epoch, which takes it, and whose sequence number is returned.
    pub fn join(&mut self) -> u64 {
        let seq = self.first + self.queue.len() as u64 - 1;
        if let Some(epoch) = self.queue.back_mut() {
            epoch.size += 1;
            epoch.unfinished += 1;
            epoch.unacked += 1;
        }
        seq
    }

    /// The disk is done with a write (or will never see it).
    pub fn write_finished(&mut self, seq: u64) {
        if let Some(epoch) = self.get_mut(seq) {
            epoch.unfinished = epoch.unfinished.saturating_sub(1);
        }
    }

    /// The last ack of a write has been put into the stream.
    pub fn write_acked(&mut self, seq: u64) {
        if let Some(epoch) = self.get_mut(seq) {
            epoch.unacked = epoch.unacked.saturating_sub(1);
        }
    }

    /// The write was answered without being executed (two primaries): it does not count
    /// (`reference/io.md` Q25).
    pub fn leave(&mut self, seq: u64) {
        if let Some(epoch) = self.get_mut(seq) {
            epoch.size = epoch.size.saturating_sub(1);
            epoch.unfinished = epoch.unfinished.saturating_sub(1);
            epoch.unacked = epoch.unacked.saturating_sub(1);
        }
    }

    /// P_BARRIER: the newest epoch ends. Answers `false` if there is no room for another one.
    pub fn barrier(&mut self, number: u32) -> bool {
        let Some(newest) = self.queue.back_mut() else {
            return false;
        };
        if newest.size == 0 {
            // Nothing to acknowledge; the epoch stays the newest one.
            return true;
        }
        if self.queue.push(Epoch::default()).is_err() {
            return false;
        }
        if let Some(epoch) = self
            .queue
            .len()
            .checked_sub(2)
            .and_then(|at| self.queue.get_mut(at))
        {
            epoch.number = number;
            epoch.closed = true;
        }
        true
    }

    /// Tells whether a write of this epoch may go to disk.
    #[inline]
    pub fn may_submit(&self, seq: u64, ordering: WriteOrdering) -> bool {
        ordering == WriteOrdering::None || seq <= self.open
    }

    /// Moves on: if the oldest epoch that has not been flushed is closed and its writes are
    /// finished, `flush` is asked for the volumes to flush (one bit each). Epochs that need no
    /// flush are passed at once. Loops over at most [`EPOCHS_MAX`] epochs.
    pub fn advance(&mut self, mut flush: impl FnMut() -> u32) -> u32 {
        let mut started = 0;
        loop {
            let seq = self.open;
            let Some(epoch) = self.get_mut(seq) else {
                return started;
            };
            if !epoch.closed || epoch.unfinished != 0 {
                return started;
            }
            match epoch.flush {
                Flush::NotYet => {
                    let volumes = flush();
                    if volumes == 0 {
                        epoch.flush = Flush::Done;
                    } else {
                        epoch.flush = Flush::Running(volumes);
                        started |= volumes;
                    }
                }
                Flush::Running(_) => return started,
                Flush::Done => self.open += 1,
            }
        }
    }

    /// The flush of a volume has ended (or is not needed any more).
    pub fn flushed(&mut self, volume: u8) {
        let seq = self.open;
        if let Some(epoch) = self.get_mut(seq) {
            if let Flush::Running(volumes) = epoch.flush {
                let left = volumes & !VolumeIndex(volume).bit();
                epoch.flush = if left == 0 {
                    Flush::Done
                } else {
                    Flush::Running(left)
                };
            }
        }
    }

    /// The flush of a volume has failed. Later writes may go, but neither this epoch nor a later
    /// one is acknowledged.
    pub fn flush_failed(&mut self, volume: u8) {
        let seq = self.open;
        if let Some(epoch) = self.get_mut(seq) {
            epoch.unstable |= VolumeIndex(volume).bit();
        }
        self.flushed(volume);
    }

    /// The disk of a volume is given up: nobody relies on what it holds any more, nor waits for a
    /// flush that it may keep for ever.
    pub fn given_up(&mut self, volume: u8) {
        self.flushed(volume);
        let bit = VolumeIndex(volume).bit();
        for position in 0..self.queue.len() {
            if let Some(epoch) = self.queue.get_mut(position) {
                epoch.unstable &= !bit;
            }
        }
    }

    /// Tells whether [`Self::pop_finished`] has something to do.
    #[inline]
    pub fn has_finished(&self) -> bool {
        let due = |epoch: &Epoch| epoch.is_finished() || epoch.is_acked_early();
        self.queue.front().is_some_and(due)
    }

    /// Takes the oldest epoch out if its barrier may be acknowledged. Epochs that have become
    /// empty are passed over: nobody waits for them.
    pub fn pop_finished(&mut self) -> Option<Finished> {
        while self.has_finished() {
            let front = self.queue.get_mut(0)?;
            if !front.is_finished() {
                let finished = Finished {
                    number: front.number,
                    set_size: core::mem::take(&mut front.size),
                };
                return Some(finished);
            }
            let epoch = self.queue.pop()?;
            self.first += 1;
            self.open = self.open.max(self.first);
            if epoch.size != 0 {
                return Some(Finished {
                    number: epoch.number,
                    set_size: epoch.size,
                });
            }
        }
        None
    }
}

impl Epoch {
    fn is_finished(&self) -> bool {
        self.closed
            && self.unfinished == 0
            && self.unacked == 0
            && self.flush == Flush::Done
            && self.unstable == 0
    }

    /// The C driver does not wait for the flush. The epoch stays, empty, until that is done.
    fn is_acked_early(&self) -> bool {
        self.closed
            && self.unfinished == 0
            && self.unacked == 0
            && self.size != 0
            && self.flush != Flush::Done
            && quirk(Quirk::AckBeforeFlush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLUSH: WriteOrdering = WriteOrdering::Flush;

    #[test]
    fn late_completions_of_forgotten_epochs_find_nothing() {
        let mut epochs = Epochs::default();
        for _ in 0..3 {
            let forgotten = epochs.join();
            epochs.reset();
            let present = epochs.join();
            assert_ne!(present, forgotten);
            epochs.write_finished(forgotten);
            epochs.write_acked(forgotten);
            assert!(epochs.barrier(7));
            assert_eq!(epochs.advance(|| 0), 0);
            assert_eq!(epochs.pop_finished(), None, "its own write is not done");
            epochs.reset();
        }
    }

    /// Each of what an epoch waits for keeps it.
    #[test]
    fn an_epoch_is_finished_when_nothing_is_left() {
        let done = Epoch {
            closed: true,
            flush: Flush::Done,
            ..Epoch::default()
        };
        assert!(done.is_finished());
        for epoch in [
            Epoch {
                closed: false,
                ..done
            },
            Epoch {
                unfinished: 1,
                ..done
            },
            Epoch { unacked: 1, ..done },
            Epoch {
                flush: Flush::default(),
                ..done
            },
            Epoch {
                unstable: 1,
                ..done
            },
        ] {
            assert!(!epoch.is_finished(), "{epoch:?}");
        }
    }

    #[test]
    fn a_barrier_is_acknowledged_only_after_writes_acks_and_flush() {
        let mut epochs = Epochs::default();
        let one = epochs.join();
        assert_eq!(epochs.join(), one);
        assert!(epochs.barrier(7));
        let two = epochs.join();
        assert!(epochs.may_submit(one, FLUSH) && !epochs.may_submit(two, FLUSH));
        assert!(epochs.may_submit(two, WriteOrdering::None));
        epochs.write_finished(one);
        assert_eq!(epochs.advance(|| unreachable!()), 0);
        epochs.write_finished(one);
        assert_eq!(epochs.advance(|| 0b101), 0b101);
        assert!(!epochs.may_submit(two, FLUSH), "not flushed yet");
        epochs.write_acked(one);
        epochs.write_acked(one);
        epochs.flushed(0);
        assert_eq!(epochs.advance(|| unreachable!()), 0);
        assert_eq!(epochs.pop_finished(), None);
        epochs.flushed(2);
        assert_eq!(epochs.advance(|| unreachable!()), 0);
        assert!(epochs.may_submit(two, FLUSH));
        assert_eq!(
            epochs.pop_finished(),
            Some(Finished {
                number: 7,
                set_size: 2
            })
        );
        assert_eq!(epochs.pop_finished(), None);
        assert_eq!(epochs.count(), 1);
    }

    #[test]
    fn writes_that_lost_a_conflict_do_not_count() {
        let mut epochs = Epochs::default();
        let one = epochs.join();
        epochs.leave(one);
        let same = epochs.join();
        assert_eq!(one, same);
        epochs.barrier(1);
        let two = epochs.join();
        epochs.barrier(2);
        epochs.leave(two);
        epochs.write_finished(one);
        epochs.write_acked(one);
        epochs.advance(|| 0);
        assert_eq!(
            epochs.pop_finished(),
            Some(Finished {
                number: 1,
                set_size: 1
            })
        );
        assert_eq!(epochs.pop_finished(), None, "an empty epoch needs no ack");
        assert_eq!(epochs.count(), 1);
    }

    #[test]
    fn barriers_are_acknowledged_in_order_in_every_mode() {
        let mut epochs = Epochs::default();
        let one = epochs.join();
        epochs.barrier(1);
        let two = epochs.join();
        epochs.barrier(2);
        epochs.write_finished(two);
        epochs.write_acked(two);
        epochs.advance(|| 0);
        assert_eq!(epochs.pop_finished(), None, "the older one is active");
        epochs.write_finished(one);
        epochs.write_acked(one);
        epochs.advance(|| 0);
        assert_eq!(epochs.pop_finished().map(|epoch| epoch.number), Some(1));
        assert_eq!(epochs.pop_finished().map(|epoch| epoch.number), Some(2));
    }

    #[test]
    fn empty_epochs_are_not_acknowledged_and_the_number_of_epochs_is_bounded() {
        let mut epochs = Epochs::default();
        assert!(epochs.barrier(1));
        assert!(!epochs.has_finished());
        let mut seqs = Vec::new();
        while epochs.has_room() {
            seqs.push(epochs.join());
            assert!(epochs.barrier(3));
        }
        let last = epochs.join();
        assert!(!epochs.barrier(4), "no room");
        epochs.reset();
        for seq in seqs.into_iter().chain([last]) {
            epochs.write_finished(seq);
            epochs.write_acked(seq);
        }
        assert_eq!(epochs.advance(|| 1), 0);
        assert_eq!(
            epochs.pop_finished(),
            None,
            "late completions of a lost connection"
        );
        let seq = epochs.join();
        assert!(epochs.may_submit(seq, FLUSH));
    }
}
