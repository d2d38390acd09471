//! A bounded queue over slots lent by the shell, borrowed for one call.

/// Where the queue begins and how long it is; kept between calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    pub(super) head: usize,
    pub(super) len: usize,
}

/// The queue itself.
#[derive(Debug)]
pub struct Fifo<'a, T> {
    slots: &'a mut [Option<T>],
    ends: &'a mut Ends,
}

impl<'a, T: Copy> Fifo<'a, T> {
    /// Joins slots and ends.
    pub fn new(slots: &'a mut [Option<T>], ends: &'a mut Ends) -> Self {
        Self { slots, ends }
    }

    fn index(&self, offset: usize) -> usize {
        // No overflow: both are at most the number of slots.
        (self.ends.head + offset)
            .checked_rem(self.slots.len())
            .unwrap_or(0)
    }

    /// Appends `item`; hands it back if the queue is full.
    ///
    /// # Errors
    ///
    /// The queue is full.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.ends.len >= self.slots.len() {
            return Err(item);
        }
        let index = self.index(self.ends.len);
        match self.slots.get_mut(index) {
            Some(slot) => *slot = Some(item),
            None => return Err(item),
        }
        self.ends.len += 1;
        Ok(())
    }

    /// Returns the first item without taking it.
    pub fn front(&self) -> Option<T> {
        if self.ends.len == 0 {
            return None;
        }
        self.slots.get(self.ends.head).copied().flatten()
    }

    /// Takes the first item.
    pub fn pop(&mut self) -> Option<T> {
        if self.ends.len == 0 {
            return None;
        }
        let item = self.slots.get_mut(self.ends.head)?.take();
        self.ends.head = self.index(1);
        self.ends.len -= 1;
        item
    }

    /// Returns the items, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        (0..self.ends.len).filter_map(|at| self.slots.get(self.index(at)).copied().flatten())
    }

    /// Number of queued items.
    pub fn len(&self) -> usize {
        self.ends.len
    }

    /// Number of free slots.
    pub fn room(&self) -> usize {
        self.slots.len().saturating_sub(self.ends.len)
    }

    /// Tells whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.ends.len == 0
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        while self.pop().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_handed_back_and_order_is_kept() {
        let mut slots = [None; 3];
        let mut ends = Ends::default();
        for round in 0..5 {
            let mut fifo = Fifo::new(&mut slots, &mut ends);
            for n in 0..3 {
                assert_eq!(fifo.push(round * 10 + n), Ok(()));
            }
            assert_eq!(fifo.push(99), Err(99));
            assert_eq!(fifo.front(), Some(round * 10));
            assert!(fifo.iter().eq((0..3).map(|n| round * 10 + n)));
            for n in 0..3 {
                assert_eq!(fifo.pop(), Some(round * 10 + n));
            }
            assert!(fifo.is_empty());
            fifo.push(7).unwrap();
            assert_eq!(fifo.pop(), Some(7));
        }
        assert_eq!(Fifo::<u8>::new(&mut [], &mut ends).push(1), Err(1));
    }
}
