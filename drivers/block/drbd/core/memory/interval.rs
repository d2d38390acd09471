//! Overlap search over slots: which requests touch a given range of sectors?
//!
//! A treap, keyed by start sector and slot, each node augmented with the largest end sector of its
//! subtree. Insertion, removal and the search for one overlap take O(log n) expected steps. The
//! heap priority is a hash of the slot index, so that shapes are reproducible.

use core::ops::{Index, IndexMut};

use crate::memory::slab::NIL;

/// What an element keeps for the tree.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    start: u64,
    end: u64,
    subtree_end: u64,
    left: u32,
    right: u32,
    parent: u32,
    linked: bool,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            start: 0,
            end: 0,
            subtree_end: 0,
            left: NIL,
            right: NIL,
            parent: NIL,
            linked: false,
        }
    }
}

/// Element that carries a node.
pub trait Interval {
    /// Returns the node.
    fn node(&self) -> &Node;
    /// Returns the node.
    fn node_mut(&mut self) -> &mut Node;
}

/// Root of a tree over the elements of a slab.
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    root: u32,
}

impl Default for Tree {
    fn default() -> Self {
        Self { root: NIL }
    }
}

#[inline]
fn priority(slot: u32) -> u32 {
    let mixed = slot.wrapping_mul(0x9e37_79b9) ^ (slot >> 15);
    mixed.wrapping_mul(0x85eb_ca6b) ^ (mixed >> 13)
}

impl Tree {
    /// Inserts `slot` with the range `start..end`, both in sectors. Empty ranges and slots that
    /// are linked already are left alone.
    pub fn insert<T: Interval, E>(&mut self, elements: &mut E, slot: u32, start: u64, end: u64)
    where
        E: IndexMut<u32, Output = T>,
    {
        if elements[slot].node().linked || start >= end {
            return;
        }
        let mut parent = NIL;
        let mut at = self.root;
        while at != NIL {
            parent = at;
            let node = elements[at].node_mut();
            node.subtree_end = node.subtree_end.max(end);
            at = if (start, slot) < (node.start, at) {
                node.left
            } else {
                node.right
            };
        }
        *elements[slot].node_mut() = Node {
            start,
            end,
            subtree_end: end,
            left: NIL,
            right: NIL,
            parent,
            linked: true,
        };
        if parent == NIL {
            self.root = slot;
        } else if (start, slot) < (elements[parent].node().start, parent) {
            elements[parent].node_mut().left = slot;
        } else {
            elements[parent].node_mut().right = slot;
        }
        while elements[slot].node().parent != NIL
            && priority(slot) > priority(elements[slot].node().parent)
        {
            self.rotate_up(elements, slot);
        }
    }

    /// Removes `slot`. A slot that is not linked is left alone.
    pub fn remove<T: Interval, E>(&mut self, elements: &mut E, slot: u32)
    where
        E: IndexMut<u32, Output = T>,
    {
        if !elements[slot].node().linked {
            return;
        }
        loop {
            let node = *elements[slot].node();
            match (node.left, node.right) {
                (NIL, NIL) => break,
                (NIL, child) | (child, NIL) => self.rotate_up(elements, child),
                (left, right) if priority(left) > priority(right) => {
                    self.rotate_up(elements, left);
                }
                (_, right) => self.rotate_up(elements, right),
            }
        }
        let mut parent = elements[slot].node().parent;
        *elements[slot].node_mut() = Node::default();
        if parent == NIL {
            self.root = NIL;
            return;
        }
        let above = elements[parent].node_mut();
        if above.left == slot {
            above.left = NIL;
        } else {
            above.right = NIL;
        }
        while parent != NIL {
            Self::update(elements, parent);
            parent = elements[parent].node().parent;
        }
    }

    /// Returns the first slot in key order whose range overlaps `start..end` and for which
    /// `wanted` answers `true`.
    pub fn find<T: Interval, E>(
        &self,
        elements: &E,
        start: u64,
        end: u64,
        mut wanted: impl FnMut(u32, &T) -> bool,
    ) -> Option<u32>
    where
        E: Index<u32, Output = T>,
    {
        let mut at = Self::leftmost(elements, self.root, start);
        while at != NIL {
            let node = elements[at].node();
            if node.start >= end {
                return None;
            }
            if node.end > start && wanted(at, &elements[at]) {
                return Some(at);
            }
            at = Self::following(elements, at, start);
        }
        None
    }

    /// Tells whether the tree is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.root == NIL
    }

    /// Goes down to the first node of the subtree that may end behind `start`.
    fn leftmost<T: Interval, E: Index<u32, Output = T>>(
        elements: &E,
        mut at: u32,
        start: u64,
    ) -> u32 {
        if at == NIL || elements[at].node().subtree_end <= start {
            return NIL;
        }
        loop {
            let left = elements[at].node().left;
            if left == NIL || elements[left].node().subtree_end <= start {
                return at;
            }
            at = left;
        }
    }

    /// Goes to the next node in key order, leaving out subtrees that end before `start`.
    fn following<T: Interval, E: Index<u32, Output = T>>(
        elements: &E,
        mut at: u32,
        start: u64,
    ) -> u32 {
        let right = Self::leftmost(elements, elements[at].node().right, start);
        if right != NIL {
            return right;
        }
        loop {
            let parent = elements[at].node().parent;
            if parent == NIL || elements[parent].node().left == at {
                return parent;
            }
            at = parent;
        }
    }

    fn update<T: Interval, E: IndexMut<u32, Output = T>>(elements: &mut E, slot: u32) {
        let node = *elements[slot].node();
        let mut end = node.end;
        for child in [node.left, node.right] {
            if child != NIL {
                end = end.max(elements[child].node().subtree_end);
            }
        }
        elements[slot].node_mut().subtree_end = end;
    }

    /// Exchanges `child` and its parent.
    fn rotate_up<T: Interval, E>(&mut self, elements: &mut E, child: u32)
    where
        E: IndexMut<u32, Output = T>,
    {
        let parent = elements[child].node().parent;
        let grandparent = elements[parent].node().parent;
        let moved = if elements[parent].node().left == child {
            let moved = elements[child].node().right;
            elements[parent].node_mut().left = moved;
            elements[child].node_mut().right = parent;
            moved
        } else {
            let moved = elements[child].node().left;
            elements[parent].node_mut().right = moved;
            elements[child].node_mut().left = parent;
            moved
        };
        if moved != NIL {
            elements[moved].node_mut().parent = parent;
        }
        elements[parent].node_mut().parent = child;
        elements[child].node_mut().parent = grandparent;
        if grandparent == NIL {
            self.root = child;
        } else if elements[grandparent].node().left == parent {
            elements[grandparent].node_mut().left = child;
        } else {
            elements[grandparent].node_mut().right = child;
        }
        Self::update(elements, parent);
        Self::update(elements, child);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Element(Node);

    impl Interval for Element {
        fn node(&self) -> &Node {
            &self.0
        }
        fn node_mut(&mut self) -> &mut Node {
            &mut self.0
        }
    }

    struct Elements(Vec<Element>);

    impl Index<u32> for Elements {
        type Output = Element;
        fn index(&self, slot: u32) -> &Element {
            &self.0[slot as usize]
        }
    }

    impl IndexMut<u32> for Elements {
        fn index_mut(&mut self, slot: u32) -> &mut Element {
            &mut self.0[slot as usize]
        }
    }

    proptest! {
        #[test]
        fn overlaps_are_the_ones_of_a_linear_search(
            steps in prop::collection::vec((0_u32..24, 0_u64..64, 0_u64..20, any::<bool>()), 1..120)
        ) {
            let mut elements = Elements((0..24).map(|_| Element::default()).collect());
            let mut tree = Tree::default();
            let mut model: Vec<Option<(u64, u64)>> = vec![None; 24];
            for (slot, start, len, insert) in steps {
                if insert {
                    tree.insert(&mut elements, slot, start, start + len);
                    if model[slot as usize].is_none() && len > 0 {
                        model[slot as usize] = Some((start, start + len));
                    }
                } else {
                    tree.remove(&mut elements, slot);
                    model[slot as usize] = None;
                }
                for (from, to) in [(0, 100), (start, start + len), (start, start + 1), (40, 41)] {
                    let mut found = Vec::new();
                    tree.find(&elements, from, to, |slot, _| {
                        found.push(slot);
                        false
                    });
                    found.sort_unstable();
                    let expected: Vec<u32> = (0..24)
                        .filter(|s| {
                            model[*s as usize].is_some_and(|(a, b)| a < to && from < b)
                        })
                        .collect();
                    prop_assert_eq!(found, expected);
                }
                prop_assert_eq!(tree.is_empty(), model.iter().all(Option::is_none));
            }
        }
    }

    #[test]
    fn the_tree_stays_shallow() {
        let count = 8192_u32;
        let mut elements = Elements((0..count).map(|_| Element::default()).collect());
        let mut tree = Tree::default();
        for slot in 0..count {
            tree.insert(
                &mut elements,
                slot,
                u64::from(slot) * 8,
                u64::from(slot) * 8 + 8,
            );
        }
        let depth = (0..count).map(|slot| {
            let mut depth = 0;
            let mut at = slot;
            while at != NIL {
                depth += 1;
                at = elements[at].node().parent;
            }
            depth
        });
        assert!(depth.max().unwrap() < 60);
    }
}
