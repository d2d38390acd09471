//! Events in the order of virtual time; equal times keep the order in which they were added.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A queue of events.
///
/// Only times and places are kept in order: they are small and move a lot.
#[derive(Debug)]
pub struct Heap<E> {
    entries: BinaryHeap<Reverse<Entry>>,
    places: Vec<Option<E>>,
    free: Vec<u32>,
    added: u64,
}

/// Time, order of arrival and place, from the highest bit to the lowest: one number, as comparing
/// and moving them is most of the work.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Entry(u128);

impl Entry {
    const PLACE_BITS: u32 = 24;
    const ORDER_BITS: u32 = 40;

    fn new(at_ns: u64, order: u64, place: u32) -> Self {
        assert!(order >> Self::ORDER_BITS == 0 && place >> Self::PLACE_BITS == 0);
        let low = order << Self::PLACE_BITS | u64::from(place);
        Self(u128::from(at_ns) << 64 | u128::from(low))
    }

    fn at_ns(self) -> u64 {
        (self.0 >> 64) as u64
    }

    fn place(self) -> usize {
        (self.0 as usize) & ((1 << Self::PLACE_BITS) - 1)
    }
}

impl<E> Default for Heap<E> {
    fn default() -> Self {
        Self {
            entries: BinaryHeap::new(),
            places: Vec::new(),
            free: Vec::new(),
            added: 0,
        }
    }
}

impl<E> Heap<E> {
    /// Adds an event that happens at `at_ns`.
    pub fn push(&mut self, at_ns: u64, event: E) {
        let order = self.added;
        self.added += 1;
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = Some(event);
                place
            }
            None => {
                self.places.push(Some(event));
                (self.places.len() - 1) as u32
            }
        };
        self.entries.push(Reverse(Entry::new(at_ns, order, place)));
    }

    /// Takes the earliest event with its time.
    pub fn pop(&mut self) -> Option<(u64, E)> {
        let Reverse(entry) = self.entries.pop()?;
        let place = entry.place();
        self.free.push(place as u32);
        Some((entry.at_ns(), self.places[place].take()?))
    }

    /// Returns the time of the earliest event.
    pub fn next_at_ns(&self) -> Option<u64> {
        self.entries.peek().map(|Reverse(entry)| entry.at_ns())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_and_equal_times_in_order_of_arrival() {
        let mut heap = Heap::default();
        for (at, name) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
            heap.push(at, name);
        }
        assert_eq!(heap.next_at_ns(), Some(1));
        let order: Vec<_> = std::iter::from_fn(|| heap.pop()).collect();
        assert_eq!(order, [(1, 'a'), (2, 'b'), (5, 'c'), (5, 'd')]);
    }
}
