//! Values with ascending numbers, of which there are few at a time.

/// Values by number, in order. What is added has a higher number than all before it.
#[derive(Clone, Debug)]
pub struct Numbered<T> {
    entries: Vec<(u64, T)>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
        }
    }
}

impl<T> Numbered<T> {
    /// Adds a value behind all others.
    pub fn push(&mut self, number: u64, value: T) {
        debug_assert!(self.entries.last().is_none_or(|(last, _)| *last < number));
        self.entries.push((number, value));
    }

    fn place(&self, number: u64) -> Option<usize> {
        let found = self.entries.binary_search_by_key(&number, |(at, _)| *at);
        found.ok()
    }

    /// Returns the value with this number.
    pub fn get(&self, number: u64) -> Option<&T> {
        let place = self.place(number)?;
        Some(&self.entries[place].1)
    }

    /// Takes the value with this number.
    pub fn remove(&mut self, number: u64) -> Option<T> {
        let place = self.place(number)?;
        Some(self.entries.remove(place).1)
    }

    /// Returns all values with their numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.entries.iter().map(|(number, value)| (*number, value))
    }

    /// Returns all values, in order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, value)| value)
    }

    /// Takes all values, in order.
    pub fn take_values(&mut self) -> impl Iterator<Item = T> {
        std::mem::take(&mut self.entries)
            .into_iter()
            .map(|(_, value)| value)
    }

    /// Keeps what `keep` says.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.entries.retain(|(_, value)| keep(value));
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Nothing is there.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_number_and_stay_in_order() {
        let mut numbered = Numbered::default();
        for (number, name) in [(1, 'a'), (4, 'b'), (9, 'c'), (10, 'd')] {
            numbered.push(number, name);
        }
        assert_eq!(numbered.get(9), Some(&'c'));
        assert_eq!(numbered.remove(4), Some('b'));
        assert_eq!(numbered.get(4), None);
        assert_eq!(numbered.remove(5), None);
        numbered.retain(|name| *name != 'd');
        assert_eq!(numbered.iter().collect::<Vec<_>>(), [(1, &'a'), (9, &'c')]);
        assert_eq!(numbered.take_values().collect::<String>(), "ac");
        assert!(numbered.is_empty());
    }
}
