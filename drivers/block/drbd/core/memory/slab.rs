//! Slots with generation numbers over memory lent by the shell.
//!
//! Taking and giving back a slot is O(1). An id is the slot's index and the generation under which
//! it was taken; after the slot was given back the id is stale and finds nothing.

use core::ops::{DerefMut, Index, IndexMut};

/// Index that stands for "no slot".
pub const NIL: u32 = u32::MAX;

/// Identity of a taken slot. On the wire it is the block id of a packet.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Id {
    /// Index of the slot.
    pub slot: u32,
    /// Generation of the slot; never `u32::MAX`.
    pub generation: u32,
}

impl Id {
    /// Returns the id as the 64-bit block id of the wire; never all ones.
    #[inline]
    pub const fn to_wire(self) -> u64 {
        // CAST: Widening only.
        (self.generation as u64) << 32 | self.slot as u64
    }

    /// Returns the id that a block id of the wire stands for. It may be stale or forged.
    #[inline]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the halves of a 64-bit number"
    )]
    pub const fn from_wire(block_id: u64) -> Self {
        Self {
            slot: block_id as u32,
            generation: (block_id >> 32) as u32,
        }
    }
}

/// Place of an element in one doubly linked list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Link {
    /// Slot before this one, or [`NIL`].
    pub prev: u32,
    /// Slot after this one, or [`NIL`].
    pub next: u32,
    /// Whether the element is in the list.
    pub listed: bool,
}

impl Link {
    /// A link that is in no list.
    pub const NONE: Self = Self {
        prev: NIL,
        next: NIL,
        listed: false,
    };
}

impl Default for Link {
    fn default() -> Self {
        Self::NONE
    }
}

/// Element that can be in several lists, numbered from 0.
pub trait Links {
    /// Returns the link for list number `list`.
    fn link(&self, list: usize) -> Link;
    /// Replaces the link for list number `list`.
    fn set_link(&mut self, list: usize, link: Link);
}

/// A slot of memory lent by the shell.
#[derive(Clone, Debug, Default)]
pub struct Slot<T> {
    generation: u32,
    next_free: u32,
    used: bool,
    value: T,
}

/// Slots over the storage `S`, of which some are taken.
#[derive(Debug)]
pub struct Slab<S> {
    slots: S,
    free: u32,
    used: u32,
}

impl<T: Default, S: DerefMut<Target = [Slot<T>]>> Slab<S> {
    /// Makes all `slots` free. Slots beyond 2^32 - 2 are never used. Loops over all slots.
    pub fn new(mut slots: S) -> Self {
        let count = u32::try_from(slots.len()).unwrap_or(NIL).min(NIL - 1);
        for (index, slot) in (0..count).zip(slots.iter_mut()) {
            slot.used = false;
            slot.next_free = if index + 1 == count { NIL } else { index + 1 };
        }
        Self {
            slots,
            free: if count == 0 { NIL } else { 0 },
            used: 0,
        }
    }

    /// Returns the number of taken slots.
    #[inline]
    pub fn used(&self) -> u32 {
        self.used
    }

    /// Returns the number of slots.
    #[inline]
    pub fn capacity(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(NIL).min(NIL - 1)
    }

    /// Tells whether no slot is free.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.free == NIL
    }

    /// Tells whether a slot is taken.
    pub fn is_taken(&self, slot: u32) -> bool {
        self.slots.get(slot as usize).is_some_and(|slot| slot.used)
    }

    /// Takes a free slot and sets it to its default value.
    #[inline]
    pub fn take(&mut self) -> Option<Id> {
        let index = self.free;
        let slot = self.slots.get_mut(index as usize)?;
        self.free = slot.next_free;
        slot.used = true;
        slot.value = T::default();
        self.used += 1;
        Some(Id {
            slot: index,
            generation: slot.generation,
        })
    }

    /// Gives the slot back. A stale id changes nothing and answers `false`.
    #[inline]
    pub fn give_back(&mut self, id: Id) -> bool {
        if self.get(id).is_none() {
            return false;
        }
        let slot = &mut self.slots[id.slot as usize];
        slot.used = false;
        let next = slot.generation.wrapping_add(1);
        // All ones as a generation could make the block id all ones, which means "resync".
        slot.generation = if next == u32::MAX { 0 } else { next };
        slot.next_free = self.free;
        self.free = id.slot;
        self.used -= 1;
        true
    }

    /// Returns the value with this id, or `None` if the id is stale or forged.
    #[inline]
    pub fn get(&self, id: Id) -> Option<&T> {
        let slot = self.slots.get(id.slot as usize)?;
        (slot.used && slot.generation == id.generation).then_some(&slot.value)
    }

    /// Returns the value with this id, or `None` if the id is stale or forged.
    #[inline]
    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        (slot.used && slot.generation == id.generation).then_some(&mut slot.value)
    }

    /// Returns the present id of a taken slot.
    #[inline]
    pub fn id_of(&self, slot: u32) -> Id {
        Id {
            slot,
            generation: self.slots[slot as usize].generation,
        }
    }

    /// Tells whether the slot with this index is taken.
    #[inline]
    pub fn is_used(&self, slot: u32) -> bool {
        self.slots.get(slot as usize).is_some_and(|slot| slot.used)
    }
}

/// Access by an index that came from a list of ours. Indices from outside go through `get`.
impl<T, S: DerefMut<Target = [Slot<T>]>> Index<u32> for Slab<S> {
    type Output = T;

    #[inline]
    fn index(&self, slot: u32) -> &T {
        &self.slots[slot as usize].value
    }
}

impl<T, S: DerefMut<Target = [Slot<T>]>> IndexMut<u32> for Slab<S> {
    #[inline]
    fn index_mut(&mut self, slot: u32) -> &mut T {
        &mut self.slots[slot as usize].value
    }
}

/// A doubly linked list over slots; list number `L` of the elements' links.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct List<const L: usize> {
    head: u32,
    tail: u32,
    len: u32,
}

impl<const L: usize> Default for List<L> {
    fn default() -> Self {
        Self {
            head: NIL,
            tail: NIL,
            len: 0,
        }
    }
}

impl<const L: usize> List<L> {
    /// Returns the first slot.
    #[inline]
    pub fn head(&self) -> Option<u32> {
        (self.head != NIL).then_some(self.head)
    }

    /// Returns the number of elements.
    #[inline]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Tells whether the list is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head == NIL
    }

    /// Returns the slot after `slot`, which is in this list.
    #[inline]
    pub fn after<T: Links, S>(&self, slots: &Slab<S>, slot: u32) -> Option<u32>
    where
        S: DerefMut<Target = [Slot<T>]>,
    {
        let next = slots[slot].link(L).next;
        (next != NIL).then_some(next)
    }

    /// Tells whether `slot` is in list number `L`.
    #[inline]
    pub fn contains<T: Links, S>(&self, slots: &Slab<S>, slot: u32) -> bool
    where
        S: DerefMut<Target = [Slot<T>]>,
    {
        slots[slot].link(L).listed
    }

    /// Appends `slot`. A slot that is already listed stays where it is.
    #[inline]
    pub fn push<T: Links, S>(&mut self, slots: &mut Slab<S>, slot: u32)
    where
        S: DerefMut<Target = [Slot<T>]>,
    {
        if slots[slot].link(L).listed {
            return;
        }
        slots[slot].set_link(
            L,
            Link {
                prev: self.tail,
                next: NIL,
                listed: true,
            },
        );
        if self.tail == NIL {
            self.head = slot;
        } else {
            let before = slots[self.tail].link(L);
            slots[self.tail].set_link(
                L,
                Link {
                    next: slot,
                    ..before
                },
            );
        }
        self.tail = slot;
        self.len += 1;
    }

    /// Puts `slot` in front of all others. A slot that is already listed stays where it is.
    #[inline]
    pub fn push_front<T: Links, S>(&mut self, slots: &mut Slab<S>, slot: u32)
    where
        S: DerefMut<Target = [Slot<T>]>,
    {
        if slots[slot].link(L).listed {
            return;
        }
        slots[slot].set_link(
            L,
            Link {
                prev: NIL,
                next: self.head,
                listed: true,
            },
        );
        if self.head == NIL {
            self.tail = slot;
        } else {
            let after = slots[self.head].link(L);
            slots[self.head].set_link(
                L,
                Link {
                    prev: slot,
                    ..after
                },
            );
        }
        self.head = slot;
        self.len += 1;
    }

    /// Takes `slot` out of the list. A slot that is not listed is left alone.
    #[inline]
    pub fn remove<T: Links, S>(&mut self, slots: &mut Slab<S>, slot: u32)
    where
        S: DerefMut<Target = [Slot<T>]>,
    {
        let link = slots[slot].link(L);
        if !link.listed {
            return;
        }
        slots[slot].set_link(L, Link::NONE);
        if link.prev == NIL {
            self.head = link.next;
        } else {
            let before = slots[link.prev].link(L);
            slots[link.prev].set_link(
                L,
                Link {
                    next: link.next,
                    ..before
                },
            );
        }
        if link.next == NIL {
            self.tail = link.prev;
        } else {
            let after = slots[link.next].link(L);
            slots[link.next].set_link(
                L,
                Link {
                    prev: link.prev,
                    ..after
                },
            );
        }
        self.len -= 1;
    }

    /// Takes the first element out of the list.
    #[inline]
    pub fn pop<T: Links, S>(&mut self, slots: &mut Slab<S>) -> Option<u32>
    where
        S: DerefMut<Target = [Slot<T>]>,
    {
        let slot = self.head()?;
        self.remove(slots, slot);
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[derive(Clone, Debug, Default)]
    struct Element {
        links: [Link; 2],
    }

    impl Links for Element {
        fn link(&self, list: usize) -> Link {
            self.links[list]
        }
        fn set_link(&mut self, list: usize, link: Link) {
            self.links[list] = link;
        }
    }

    type TestSlab = Slab<Vec<Slot<Element>>>;

    fn slab(count: usize) -> TestSlab {
        Slab::new(vec![Slot::default(); count])
    }

    #[test]
    fn a_stale_or_forged_id_finds_nothing() {
        let mut slab = slab(2);
        let id = slab.take().unwrap();
        assert!(slab.get(id).is_some() && slab.is_used(id.slot));
        assert!(slab.give_back(id));
        assert!(!slab.is_used(id.slot) && !slab.is_used(2));
        assert!(slab.get(id).is_none());
        assert!(!slab.give_back(id), "given back twice");
        let again = slab.take().unwrap();
        assert_eq!(again.slot, id.slot);
        assert_ne!(again.generation, id.generation);
        assert!(slab.get(Id::from_wire(u64::MAX)).is_none());
        assert!(
            slab.get(Id {
                slot: 1,
                generation: 0
            })
            .is_none(),
            "free slot"
        );
    }

    #[test]
    fn full_is_an_answer_and_every_slot_comes_back() {
        let mut slab = slab(3);
        let ids: Vec<Id> = core::iter::from_fn(|| slab.take()).collect();
        assert_eq!(ids.len(), 3);
        assert!(slab.is_full());
        for id in &ids {
            assert!(slab.give_back(*id));
        }
        assert_eq!(slab.used(), 0);
        assert_eq!(core::iter::from_fn(|| slab.take()).count(), 3);
    }

    #[test]
    fn a_block_id_is_never_all_ones() {
        let mut slab = slab(1);
        slab.slots[0].generation = u32::MAX - 1;
        let id = slab.take().unwrap();
        assert_eq!(Id::from_wire(id.to_wire()), id);
        slab.give_back(id);
        assert_eq!(slab.take().unwrap().generation, 0, "u32::MAX is skipped");
        assert_eq!(Slab::<Vec<Slot<Element>>>::new(vec![]).capacity(), 0);
    }

    #[test]
    fn lists_keep_the_order_of_a_model() {
        let mut slots = slab(8);
        for _ in 0..8 {
            slots.take().unwrap();
        }
        let mut list = List::<1>::default();
        let mut model: VecDeque<u32> = VecDeque::new();
        let mut random = 1_u32;
        for _ in 0..20_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let slot = random >> 8 & 7;
            match random >> 20 & 3 {
                0 => {
                    list.push(&mut slots, slot);
                    if !model.contains(&slot) {
                        model.push_back(slot);
                    }
                }
                1 => {
                    list.push_front(&mut slots, slot);
                    if !model.contains(&slot) {
                        model.push_front(slot);
                    }
                }
                2 => {
                    list.remove(&mut slots, slot);
                    model.retain(|s| *s != slot);
                }
                _ => assert_eq!(list.pop(&mut slots), model.pop_front()),
            }
            let mut walked = VecDeque::new();
            let mut at = list.head();
            while let Some(slot) = at {
                walked.push_back(slot);
                at = list.after(&slots, slot);
            }
            assert_eq!(walked, model);
            assert_eq!(list.len() as usize, model.len());
        }
    }
}
