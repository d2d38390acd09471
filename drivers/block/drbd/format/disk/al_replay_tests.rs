//! The vectors of `reference/metadata.md` 9.6, striping, wrap-around and a simple model.

use super::super::al_transaction::tests::crc;
use super::super::al_transaction::{encode, encode_initialised, TransactionHead, Update};
use super::super::BLOCK_BYTES;
use super::*;
use crate::units::AlExtent;
use proptest::prelude::*;

/// A ring in memory together with the active set of the writer.
struct Ring {
    striping: Striping,
    blocks: Vec<Vec<u8>>,
    head: TransactionHead,
    set: Vec<SlotValue>,
}

impl Ring {
    fn new(striping: Striping, context_size: u16, number: u32) -> Self {
        let mut initialised = vec![0; BLOCK_BYTES];
        encode_initialised(&mut initialised).unwrap();
        Self {
            striping,
            blocks: vec![initialised; striping.blocks() as usize],
            head: TransactionHead {
                number,
                context_size,
                context_start: 0,
            },
            set: vec![None; context_size as usize],
        }
    }

    /// Writes one transaction as the driver would.
    fn write(&mut self, updates: &[(u16, SlotValue)]) {
        let updates: Vec<Update> = updates
            .iter()
            .map(|&(slot, value)| Update { slot, value })
            .collect();
        let block = self.striping.block_of(self.head.number) as usize;
        let content = |slot: u16| self.set[slot as usize];
        encode(self.head, &updates, content, crc, &mut self.blocks[block]).unwrap();
        for update in updates {
            self.set[update.slot as usize] = update.value;
        }
        self.head = self.head.next();
    }

    fn damage(&mut self, position: u32) {
        let block = self.striping.block_of(position) as usize;
        self.blocks[block][2000] ^= 1;
    }

    /// Returns the result and the extents found, sorted.
    fn replay(&self) -> (Replay, Vec<u32>) {
        let mut slots = vec![Some(AlExtent(99)); SLOTS_LEN];
        let mut block = vec![0; BLOCK_BYTES];
        let mut source = Source {
            striping: self.striping,
            read: |index: u32, buf: &mut [u8]| -> Result<(), ()> {
                buf.copy_from_slice(&self.blocks[index as usize]);
                Ok(())
            },
            crc,
            ignored: |slot| panic!("{slot:?}"),
            block: &mut block,
        };
        let result = replay(&mut source, &mut slots).unwrap();
        let mut extents: Vec<u32> = slots.iter().flatten().map(|extent| extent.0).collect();
        extents.sort_unstable();
        extents.dedup();
        (result, extents)
    }
}

fn some(extent: u32) -> SlotValue {
    Some(AlExtent(extent))
}

/// T(8) to T(15), each with its own slot and extent.
fn full_ring() -> Ring {
    let mut ring = Ring::new(Striping::DEFAULT, 1237, 8);
    for extent in 0..8_u16 {
        ring.write(&[(1236 - extent, some(u32::from(extent)))]);
    }
    ring
}

#[test]
fn a_full_ring_gives_all_extents() {
    let (result, extents) = full_ring().replay();
    assert_eq!(
        result,
        Replay {
            outcome: Outcome::Applied {
                oldest: 8,
                newest: 15
            },
            corrupt: 0
        }
    );
    assert_eq!(extents, [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn one_torn_block_anywhere_loses_nothing_but_itself() {
    for (position, expected) in [(7, 0..7), (0, 0..8), (3, 0..8)] {
        let mut ring = full_ring();
        ring.damage(position);
        let (result, extents) = ring.replay();
        assert_eq!(result.corrupt, 1);
        assert_eq!(
            extents,
            expected.collect::<Vec<u32>>(),
            "position {position}"
        );
    }
}

#[test]
fn later_transactions_win_over_earlier_ones() {
    let mut ring = Ring::new(Striping::DEFAULT, 1237, 8);
    for extent in 1..=3 {
        ring.write(&[(1236, some(extent))]);
    }
    assert_eq!(ring.replay().1, [3]);
    let mut ring = Ring::new(Striping::DEFAULT, 1237, 8);
    ring.write(&[(1236, some(1))]);
    ring.write(&[(1236, None)]);
    let (result, extents) = ring.replay();
    assert!(result.is_usable() && extents.is_empty());
}

#[test]
fn an_unused_ring_needs_nothing_even_if_its_first_write_was_torn() {
    let mut ring = Ring::new(Striping::DEFAULT, 1237, 0);
    assert_eq!(
        ring.replay().0,
        Replay {
            outcome: Outcome::Unused,
            corrupt: 0
        }
    );
    ring.damage(0);
    assert_eq!(
        ring.replay().0,
        Replay {
            outcome: Outcome::Unused,
            corrupt: 1
        }
    );
}

#[test]
fn rings_without_a_transaction_are_refused() {
    let mut ring = Ring::new(Striping::DEFAULT, 1237, 0);
    ring.damage(1);
    assert_eq!(ring.replay().0.outcome, Outcome::NoTransaction);
    ring.damage(0);
    assert_eq!(ring.replay().0.outcome, Outcome::NoTransaction);
    for position in 2..8 {
        ring.damage(position);
    }
    let (result, _) = ring.replay();
    assert_eq!(
        result,
        Replay {
            outcome: Outcome::NoLog,
            corrupt: 8
        }
    );
    assert!(!result.is_usable());
}

#[test]
fn transaction_numbers_wrap() {
    let mut ring = Ring::new(Striping::DEFAULT, 1237, 0xffff_fffe);
    for extent in 0..4 {
        ring.write(&[(100 + extent, some(u32::from(extent)))]);
    }
    let (result, extents) = ring.replay();
    assert_eq!(
        result.outcome,
        Outcome::Applied {
            oldest: 0xffff_fffe,
            newest: 1
        }
    );
    assert_eq!(extents, [0, 1, 2, 3]);
}

#[test]
fn transactions_count_where_they_lie_not_where_their_number_belongs() {
    // The vector has its first block at position 0, whatever the number.
    let mut written = Ring::new(Striping::DEFAULT, 1237, 0xffff_fffe);
    let mut ring = Ring::new(Striping::DEFAULT, 1237, 0);
    for position in 0..4_u16 {
        let block = Striping::DEFAULT.block_of(written.head.number) as usize;
        written.write(&[(100 + position, some(u32::from(position)))]);
        ring.blocks[usize::from(position)].clone_from(&written.blocks[block]);
    }
    let (result, extents) = ring.replay();
    assert_eq!(
        result.outcome,
        Outcome::Applied {
            oldest: 0xffff_fffe,
            newest: 1
        }
    );
    assert_eq!(extents, [0, 1, 2, 3]);
}

#[test]
fn slots_that_no_set_has_are_reported_and_ignored() {
    let mut ring = Ring::new(Striping::DEFAULT, 67, 0);
    let head = TransactionHead {
        number: 0,
        context_size: 65_535,
        context_start: 65_533,
    };
    let updates = [
        Update {
            slot: 65_534,
            value: some(5),
        },
        Update {
            slot: 1,
            value: some(6),
        },
    ];
    let content = |slot| some(u32::from(slot));
    encode(head, &updates, content, crc, &mut ring.blocks[0]).unwrap();
    let mut slots = vec![None; SLOTS_LEN];
    let mut reported = Vec::new();
    let mut block = vec![0; BLOCK_BYTES];
    let mut source = Source {
        striping: ring.striping,
        read: |index: u32, buf: &mut [u8]| -> Result<(), ()> {
            buf.copy_from_slice(&ring.blocks[index as usize]);
            Ok(())
        },
        crc,
        ignored: |slot: SlotOutOfRange| reported.push((slot.slot, slot.is_update)),
        block: &mut block,
    };
    replay(&mut source, &mut slots).unwrap();
    assert_eq!(reported, [(65_534, false), (65_534, true)]);
    assert_eq!((slots[1], slots[65_533]), (some(6), some(65_533)));
}

#[test]
fn a_read_error_is_handed_on() {
    let mut block = vec![0; BLOCK_BYTES];
    let mut source = Source {
        striping: Striping::DEFAULT,
        read: |index: u32, _: &mut [u8]| {
            if index == 3 {
                Err("unreadable")
            } else {
                Ok(())
            }
        },
        crc,
        ignored: |_| (),
        block: &mut block,
    };
    assert_eq!(replay(&mut source, &mut []), Err("unreadable"));
}

fn striping() -> impl Strategy<Value = Striping> {
    prop_oneof![
        Just(Striping::DEFAULT),
        Just(Striping::new(3, 4).unwrap()),
        Just(Striping::new(2, 16).unwrap()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What replay finds is exactly the active set at the time of the crash, however often the
    /// ring went round, and a torn newest block takes back exactly its own updates.
    #[test]
    fn replay_finds_the_active_set(
        striping in striping(), number: u32, size in 67_u16..=1237,
        writes in prop::collection::vec(
            prop::collection::vec((any::<u16>(), prop::option::of(0_u32..1000)), 1..8), 1..60,
        ),
        torn: bool,
    ) {
        let mut ring = Ring::new(striping, size, number);
        let mut before = ring.set.clone();
        let mut tried = Vec::new();
        for write in &writes {
            before.clone_from(&ring.set);
            tried = write.iter().map(|&(s, e)| (s % size, e.map(AlExtent))).collect();
            tried.sort_by_key(|&(slot, _)| slot);
            tried.dedup_by_key(|&mut (slot, _)| slot);
            ring.write(&tried);
        }
        // The window has to have been everywhere unless the set was empty at the start.
        let mut expected = if torn { before } else { ring.set.clone() };
        if torn && writes.len() > 1 {
            ring.damage(ring.head.number.wrapping_sub(1) % striping.blocks());
        } else if torn {
            expected.clone_from(&ring.set);
        }
        let mut extents: Vec<u32> = expected.iter().flatten().map(|extent| extent.0).collect();
        extents.sort_unstable();
        extents.dedup();
        let (result, found) = ring.replay();
        prop_assert!(result.is_usable());
        prop_assert_eq!(found, extents, "{:?}", tried);
    }
}
