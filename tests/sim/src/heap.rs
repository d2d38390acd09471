//! Events in the order of virtual time; equal times keep the order in which they were added.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Lines beside the heap.
const LINES: usize = 8;

/// A queue of events.
///
/// Only times and places are kept in order: they are small and move a lot. Many events come in the
/// order in which they will happen, above all timers that are set anew again and again and run out
/// for nothing: they wait in lines, and only what fits in no line is in the heap.
#[derive(Debug)]
pub struct Heap<E> {
    entries: BinaryHeap<Reverse<Entry>>,
    /// Each in order.
    lines: [VecDeque<Entry>; LINES],
    /// First of the heap, then of each line.
    fronts: [Entry; 1 + LINES],
    /// Time of the last of each line, 0 if nobody waits there.
    backs_ns: [u64; LINES],
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
    /// Behind all others: nothing is there.
    const NEVER: Self = Self(u128::MAX);

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
            lines: Default::default(),
            fronts: [Entry::NEVER; 1 + LINES],
            backs_ns: [0; LINES],
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
        self.line_up(Entry::new(at_ns, order, place));
    }

    /// Goes to the end of the line whose last entry is the latest that comes before this one: of
    /// equal times those that came earlier.
    fn line_up(&mut self, entry: Entry) {
        let at_ns = entry.at_ns();
        let mut best = (LINES, 0);
        for (line, back_ns) in self.backs_ns.iter().enumerate() {
            if *back_ns <= at_ns && *back_ns >= best.1 {
                best = (line, *back_ns);
            }
        }
        let (line, _) = best;
        let Some(waiting) = self.lines.get_mut(line) else {
            self.entries.push(Reverse(entry));
            self.fronts[0] = self.fronts[0].min(entry);
            return;
        };
        if waiting.is_empty() {
            self.fronts[1 + line] = entry;
        }
        waiting.push_back(entry);
        self.backs_ns[line] = at_ns;
    }

    fn first(&self) -> (usize, Entry) {
        let mut first = (0, self.fronts[0]);
        for (at, entry) in self.fronts.iter().enumerate() {
            if *entry < first.1 {
                first = (at, *entry);
            }
        }
        first
    }

    /// Takes the earliest event with its time.
    pub fn pop(&mut self) -> Option<(u64, E)> {
        let (front, entry) = self.first();
        if entry == Entry::NEVER {
            return None;
        }
        let next = if front == 0 {
            self.entries.pop();
            self.entries.peek().map(|Reverse(entry)| *entry)
        } else {
            let line = &mut self.lines[front - 1];
            line.pop_front();
            if line.is_empty() {
                self.backs_ns[front - 1] = 0;
            }
            line.front().copied()
        };
        self.fronts[front] = next.unwrap_or(Entry::NEVER);
        let place = entry.place();
        self.free.push(place as u32);
        Some((entry.at_ns(), self.places[place].take()?))
    }

    /// Returns the time of the earliest event.
    pub fn next_at_ns(&self) -> Option<u64> {
        let (_, entry) = self.first();
        (entry != Entry::NEVER).then(|| entry.at_ns())
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

    #[test]
    fn events_that_are_added_between_others_come_in_order() {
        let (mut heap, mut random) = (Heap::default(), crate::random::Random::new(5));
        let (mut expected, mut now) = (std::collections::BTreeSet::new(), 0);
        for number in 0..20_000 {
            if random.chance(if number < 15_000 { 55 } else { 30 }) {
                let span = random.pick(&[0, 1, 50, 10_000]);
                let at = now + random.below(span + 1);
                heap.push(at, number);
                expected.insert((at, number));
            } else {
                assert_eq!(heap.next_at_ns(), expected.first().map(|(at, _)| *at));
                let next = heap.pop();
                assert_eq!(next, expected.pop_first());
                now = next.map_or(now, |(at, _)| at);
            }
        }
    }
}
