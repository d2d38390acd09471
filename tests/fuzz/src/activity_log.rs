//! A damaged activity log: any blocks in any order in a ring of any striping.
//!
//! Promises: what is decoded stays in its limits; what is encoded is decoded again; a replay ends,
//! whatever the ring holds, and names no extent twice as often as there are slots.

use drbd_format::disk::al_replay::{replay, Outcome, Source, SLOTS_LEN};
use drbd_format::disk::al_transaction::{
    decode, encode, encode_initialised, AlBlock, TransactionHead, Update,
};
use drbd_format::disk::bitmap::extent_bytes;
use drbd_format::disk::layout::Striping;
use drbd_format::units::{AlExtent, ByteCount};

use crate::input::Input;

/// Blocks of a ring here, at most.
const BLOCKS_MAX: u32 = 64;

/// Reads blocks and rings.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 4 {
        0 => any_block(&mut input),
        1 => written_block(&mut input),
        _ => ring(&mut input),
    }
}

/// The checksum of a block is whatever it says: damage that a checksum finds is of no interest.
fn stated(block: &[u8]) -> u32 {
    block.get(8..12).map_or(0, |sum| {
        u32::from_be_bytes([sum[0], sum[1], sum[2], sum[3]])
    })
}

fn any_block(input: &mut Input<'_>) {
    let wrong = input.byte() == 0xff;
    let mut block = [0; 4096];
    let _ = encode_initialised(&mut block);
    for (to, from) in block.iter_mut().zip(input.rest) {
        *to ^= from;
    }
    let sum = stated(&block).wrapping_add(u32::from(wrong));
    let before = block;
    match decode(&mut block, |_| sum) {
        Some(AlBlock::Update(transaction)) => {
            assert!(transaction.context().count() <= 919);
            assert!(transaction.updates().count() <= 64);
        }
        Some(AlBlock::Initialised) | None => {}
    }
    assert_eq!(block, before, "the block is as it was");
}

fn written_block(input: &mut Input<'_>) {
    let head = TransactionHead {
        number: input.u32(),
        context_size: input.u16(),
        context_start: input.u16(),
    };
    let count = usize::from(input.byte() % 70);
    let updates: Vec<Update> = (0..count).map(|_| update(input)).collect();
    let content = input.u32();
    let value = |slot: u16| (slot % 3 != 0).then_some(AlExtent(content & 0x7fff_ffff));
    let mut block = [0; 4096];
    if encode(head, &updates, value, |_| 77, &mut block).is_err() {
        return;
    }
    let Some(AlBlock::Update(read)) = decode(&mut block, |_| 77) else {
        panic!("not read back");
    };
    assert_eq!(read.head, head);
    let read: Vec<_> = read.updates().collect();
    let written: Vec<_> = updates
        .iter()
        .map(|update| (u32::from(update.slot), update.value))
        .collect();
    assert_eq!(read, written);
}

fn update(input: &mut Input<'_>) -> Update {
    let (slot, extent) = (input.u16(), input.u32());
    Update {
        slot,
        value: (extent != u32::MAX).then_some(AlExtent(extent)),
    }
}

/// A ring whose blocks are described in short: most of a block is always the same.
fn ring(input: &mut Input<'_>) {
    let (stripes, blocks) = (u32::from(input.byte() % 9), u32::from(input.byte() % 33));
    let Ok(striping) = Striping::new(stripes, blocks) else {
        return;
    };
    if striping.blocks() > BLOCKS_MAX {
        return;
    }
    let blocks: Vec<[u8; 4096]> = (0..striping.blocks()).map(|_| short_block(input)).collect();
    let mut buffer = [0; 4096];
    let mut ignored = 0_u32;
    let mut source = Source {
        striping,
        read: |index: u32, to: &mut [u8]| -> Result<(), u32> {
            to.copy_from_slice(blocks.get(index as usize).ok_or(index)?);
            Ok(())
        },
        crc: |_: &[u8]| 0,
        ignored: |_| ignored += 1,
        block: &mut buffer,
    };
    let mut slots = vec![None; SLOTS_LEN];
    let found = replay(&mut source, &mut slots).expect("only blocks of the ring are read");
    assert!(found.corrupt <= striping.blocks());
    let len = ByteCount(4096 * 1024);
    for extent in slots.iter().flatten() {
        if let Some((start, end)) = extent_bytes(*extent, len) {
            assert!(start <= end && end <= len.0);
        }
    }
    match found.outcome {
        Outcome::NoLog | Outcome::NoTransaction | Outcome::Unused => {
            assert_eq!(slots.iter().flatten().count(), 0);
        }
        Outcome::Applied { .. } => {}
    }
}

fn short_block(input: &mut Input<'_>) -> [u8; 4096] {
    let mut block = [0; 4096];
    match input.byte() {
        0..=0x3f => {
            let _ = encode_initialised(&mut block);
        }
        0x40..=0x4f => {}
        how => {
            let head = TransactionHead {
                number: u32::from(how & 7) << 29 | u32::from(input.byte()),
                context_size: input.u16(),
                context_start: input.u16(),
            };
            let count = usize::from(input.byte() % 9);
            let updates: Vec<Update> = (0..count).map(|_| update(input)).collect();
            let value = |slot: u16| Some(AlExtent(u32::from(slot)));
            let _ = encode(head, &updates, value, |_| 0, &mut block);
            let damage = input.byte();
            if damage > 0xe0 {
                block[usize::from(input.u16()) % 4096] ^= damage;
            }
        }
    }
    // The checksum of every block is right.
    if let Some(sum) = block.get_mut(8..12) {
        sum.fill(0);
    }
    block
}
