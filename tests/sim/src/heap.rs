//! Events in the order of virtual time; equal times keep the order in which they were added.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A queue of events.
#[derive(Debug)]
pub struct Heap<E> {
    entries: BinaryHeap<Entry<E>>,
    added: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at_ns: u64,
    order: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    /// Reversed: the heap hands out its greatest entry.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_ns, other.order).cmp(&(self.at_ns, self.order))
    }
}

impl<E> Default for Heap<E> {
    fn default() -> Self {
        Self {
            entries: BinaryHeap::new(),
            added: 0,
        }
    }
}

impl<E> Heap<E> {
    /// Adds an event that happens at `at_ns`.
    pub fn push(&mut self, at_ns: u64, event: E) {
        let order = self.added;
        self.added += 1;
        self.entries.push(Entry {
            at_ns,
            order,
            event,
        });
    }

    /// Takes the earliest event with its time.
    pub fn pop(&mut self) -> Option<(u64, E)> {
        self.entries.pop().map(|entry| (entry.at_ns, entry.event))
    }

    /// Returns the time of the earliest event.
    pub fn next_at_ns(&self) -> Option<u64> {
        self.entries.peek().map(|entry| entry.at_ns)
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
