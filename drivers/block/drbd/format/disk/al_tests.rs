//! The examples of `reference/metadata.md` 3.3, 9.4 and 9.5, round trips and torn blocks.

use super::*;
use proptest::prelude::*;

/// CRC-32C from 0 without inversion.
pub(in super::super) fn crc(bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!0, bytes)
}

/// `reference/metadata.md` 9.4: slot 2 holds extent 9; slots 0 and 1 take extents 7 and 2.
fn example() -> Vec<u8> {
    let mut block = vec![0; BLOCK_BYTES];
    let head = TransactionHead {
        number: 5,
        context_size: 67,
        context_start: 0,
    };
    let updates = [
        Update {
            slot: 0,
            value: Some(AlExtent(7)),
        },
        Update {
            slot: 1,
            value: Some(AlExtent(2)),
        },
    ];
    let content = |slot| (slot == 2).then_some(AlExtent(9));
    encode(head, &updates, content, crc, &mut block).unwrap();
    block
}

#[test]
fn the_checksum_starts_at_zero_and_is_not_inverted() {
    assert_eq!(crc(b"123456789"), 0x58e3_fa20);
}

#[test]
fn a_transaction_has_the_documented_bytes() {
    let mut expected = vec![0xff; BLOCK_BYTES];
    expected[..16].copy_from_slice(&[
        0x69, 0xcb, 0x65, 0xa2, 0, 0, 0, 5, 0x54, 0x13, 0x88, 0x67, 0, 0, 0, 2,
    ]);
    expected[16..40].fill(0);
    expected[17] = 0x43;
    expected[39] = 1;
    expected[0xa4..0xac].copy_from_slice(&[0, 0, 0, 7, 0, 0, 0, 2]);
    expected[0x1ac..0x1b0].copy_from_slice(&[0, 0, 0, 9]);
    assert_eq!(example(), expected);
}

#[test]
fn an_initialised_block_has_the_documented_bytes() {
    let mut block = vec![0x33; BLOCK_BYTES];
    encode_initialised(&mut block).unwrap();
    let head = [
        0x69, 0xcb, 0x65, 0xa2, 0, 0, 0, 0, 0x70, 0x9c, 0xc6, 0x51, 0xff, 0xff,
    ];
    assert_eq!(block[..14], head);
    assert!(block[14..].iter().all(|&byte| byte == 0));
    assert!(matches!(
        decode(&mut block, crc),
        Some(AlBlock::Initialised)
    ));
}

#[test]
fn every_flipped_bit_and_every_truncation_is_noticed() {
    let mut block = example();
    for byte in 0..BLOCK_BYTES {
        for bit in [0, 7] {
            block[byte] ^= 1 << bit;
            assert!(decode(&mut block, crc).is_none(), "byte {byte}");
            block[byte] ^= 1 << bit;
        }
    }
    assert!(decode(&mut block, crc).is_some());
    for len in 0..BLOCK_BYTES {
        assert!(decode(&mut block[..len], crc).is_none());
    }
}

#[test]
fn decoding_leaves_the_block_as_it_was() {
    let mut block = example();
    assert!(decode(&mut block, crc).is_some());
    assert_eq!(block, example());
    block[100] ^= 1;
    let damaged = block.clone();
    assert!(decode(&mut block, crc).is_none());
    assert_eq!(block, damaged);
}

#[test]
fn a_65th_update_is_refused() {
    let head = TransactionHead {
        number: 0,
        context_size: 67,
        context_start: 0,
    };
    let update = Update {
        slot: 0,
        value: None,
    };
    let mut block = vec![0; BLOCK_BYTES];
    assert!(encode(head, &[update; 64], |_| None, crc, &mut block).is_ok());
    let error = encode(head, &[update; 65], |_| None, crc, &mut block).unwrap_err();
    assert_eq!(error, TransactionError::TooManyUpdates(65));
    assert!(encode(head, &[], |_| None, crc, &mut block[1..]).is_err());
}

#[test]
fn the_window_visits_every_slot() {
    for (size, rounds) in [(67, 1), (919, 1), (920, 2), (1237, 2), (65_534, 72)] {
        let first = TransactionHead {
            number: u32::MAX,
            context_size: size,
            context_start: 0,
        };
        let mut head = first;
        for _ in 0..rounds {
            assert!(head.context_start < size);
            head = head.next();
        }
        assert_eq!((head.context_start, head.number), (0, rounds - 1));
    }
}

fn slot_value() -> impl Strategy<Value = SlotValue> {
    prop_oneof![
        Just(None),
        (0..u32::MAX).prop_map(|number| Some(AlExtent(number)))
    ]
}

proptest! {
    #[test]
    fn decoding_gives_back_what_was_encoded(
        number: u32, size in 67_u16..=65_534, window in 0_u16..72, seed: u32,
        updates in prop::collection::vec((0_u16..65_534, slot_value()), 0..=64),
    ) {
        let start = window.saturating_mul(CONTEXT_LEN);
        let context_start = if start < size { start } else { 0 };
        let head = TransactionHead { number, context_size: size, context_start };
        let updates: Vec<Update> =
            updates.into_iter().map(|(slot, value)| Update { slot, value }).collect();
        let content = |slot: u16| (slot % 3 != 0).then_some(AlExtent(seed >> 1 ^ u32::from(slot)));
        let mut block = vec![0x99; BLOCK_BYTES];
        encode(head, &updates, content, crc, &mut block).unwrap();
        let Some(AlBlock::Update(found)) = decode(&mut block, crc) else {
            panic!("not decoded");
        };
        prop_assert_eq!(found.head, head);
        let expected: Vec<_> = updates.iter().map(|u| (u32::from(u.slot), u.value)).collect();
        prop_assert_eq!(found.updates().collect::<Vec<_>>(), expected);
        let end = size.min(context_start.saturating_add(CONTEXT_LEN));
        let expected: Vec<_> =
            (context_start..end).map(|slot| (u32::from(slot), content(slot))).collect();
        prop_assert_eq!(found.context().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(seed: u64, kind: u8) {
        let mut block = vec![0; BLOCK_BYTES];
        let mut state = seed | 1;
        for byte in &mut block {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state as u8;
        }
        block[..4].copy_from_slice(&MAGIC.to_be_bytes());
        block[12..14].fill(kind & 1);
        put_crc(&mut block, 0);
        let sum = crc(&block);
        put_crc(&mut block, sum);
        if let Some(AlBlock::Update(found)) = decode(&mut block, crc) {
            prop_assert!(found.updates().count() <= UPDATES_MAX);
            prop_assert!(found.context().count() <= usize::from(CONTEXT_LEN));
        }
    }
}
