//! A bounded queue of small values.

/// First in, first out; at most `N` values.
#[derive(Clone, Debug)]
pub struct Queue<T, const N: usize> {
    slots: [Option<T>; N],
    head: usize,
    len: usize,
}

impl<T: Copy, const N: usize> Default for Queue<T, N> {
    #[inline]
    fn default() -> Self {
        Self {
            slots: [None; N],
            head: 0,
            len: 0,
        }
    }
}

impl<T: Copy, const N: usize> Queue<T, N> {
    /// Appends `value`, or gives it back if the queue is full.
    ///
    /// # Errors
    ///
    /// The queue is full.
    pub fn push(&mut self, value: T) -> Result<(), T> {
        if self.len == N {
            return Err(value);
        }
        // INVARIANT: `index < N`.
        let index = (self.head + self.len) % N;
        self.slots[index] = Some(value);
        self.len += 1;
        Ok(())
    }

    /// Takes the oldest value out.
    pub fn pop(&mut self) -> Option<T> {
        if self.len == 0 {
            return None;
        }
        let value = self.slots[self.head].take();
        self.head = (self.head + 1) % N;
        self.len -= 1;
        value
    }

    /// Returns the oldest value.
    pub fn front(&self) -> Option<&T> {
        self.get(0)
    }

    /// Returns the newest value.
    pub fn back_mut(&mut self) -> Option<&mut T> {
        self.get_mut(self.len.checked_sub(1)?)
    }

    /// Returns the value at `position`, counted from the oldest.
    pub fn get(&self, position: usize) -> Option<&T> {
        if position >= self.len {
            return None;
        }
        self.slots[(self.head + position) % N].as_ref()
    }

    /// Returns the value at `position`, counted from the oldest.
    pub fn get_mut(&mut self, position: usize) -> Option<&mut T> {
        if position >= self.len {
            return None;
        }
        self.slots[(self.head + position) % N].as_mut()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        while self.pop().is_some() {}
    }

    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Tells whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tells whether nothing can be appended.
    pub fn is_full(&self) -> bool {
        self.len == N
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_handed_back_and_order_is_kept() {
        let mut queue = Queue::<u8, 3>::default();
        for round in 0..5_u8 {
            assert_eq!(queue.push(round), Ok(()));
            assert_eq!(queue.push(round + 1), Ok(()));
            assert_eq!(queue.push(round + 2), Ok(()));
            assert!(queue.is_full());
            assert_eq!(queue.push(9), Err(9));
            assert_eq!(queue.front(), Some(&round));
            assert_eq!(queue.get(2), Some(&(round + 2)));
            assert_eq!(queue.get(3), None);
            assert_eq!(queue.pop(), Some(round));
            assert_eq!(queue.pop(), Some(round + 1));
            assert_eq!(queue.back_mut(), Some(&mut (round + 2)));
            assert_eq!(queue.pop(), Some(round + 2));
            assert_eq!(queue.pop(), None);
            assert!(queue.is_empty());
        }
    }
}
