//! Events in the order of virtual time; equal times keep the order in which they were added.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A queue of events.
///
/// Only times and places are kept in order: they are small and move a lot.
#[derive(Debug)]
pub struct Heap<E> {
    /// Time, order of arrival, place.
    entries: BinaryHeap<Reverse<(u64, u64, usize)>>,
    places: Vec<Option<E>>,
    free: Vec<usize>,
    added: u64,
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
                self.places[place] = Some(event);
                place
            }
            None => {
                self.places.push(Some(event));
                self.places.len() - 1
            }
        };
        self.entries.push(Reverse((at_ns, order, place)));
    }

    /// Takes the earliest event with its time.
    pub fn pop(&mut self) -> Option<(u64, E)> {
        let Reverse((at_ns, _, place)) = self.entries.pop()?;
        self.free.push(place);
        Some((at_ns, self.places[place].take()?))
    }

    /// Returns the time of the earliest event.
    pub fn next_at_ns(&self) -> Option<u64> {
        self.entries.peek().map(|Reverse((at_ns, ..))| *at_ns)
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
