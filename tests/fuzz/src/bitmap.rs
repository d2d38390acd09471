//! Bitmaps on the wire and in memory.
//!
//! Promises: no code of a compressed bitmap goes beyond the end of the bitmap, whatever it holds;
//! what is coded is decoded again; operations on ranges of bits do what they would do bit by bit.

use drbd_core::bitmap::{Bitmap, PageState};
use drbd_format::units::{BitIndex, Sector, SectorCount, SectorRange};
use drbd_format::wire::vli::{Run, RunError, RunWriter, Runs};

use crate::input::Input;

/// Decodes, codes, and works on bitmaps.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 3 {
        0 => any_code(&mut input),
        1 => round_trip(&mut input),
        _ => operations(&mut input),
    }
}

fn any_code(input: &mut Input<'_>) {
    let left = match input.byte() & 3 {
        0 => u64::from(input.u16()),
        1 => u64::from(input.u32()),
        2 => input.u64(),
        _ => u64::MAX,
    };
    let mut runs = match Runs::new(input.rest, left) {
        Ok(runs) => runs,
        Err(error) => return assert_ne!(error.to_string(), ""),
    };
    let (mut covered, mut last) = (0_u64, None);
    let mut good: Vec<Run> = Vec::new();
    while let Some(run) = runs.next() {
        match run {
            Ok(run) => {
                assert!(run.len > 0 && last != Some(run.set));
                last = Some(run.set);
                covered = covered
                    .checked_add(run.len)
                    .expect("no more than there are");
                assert_eq!(covered + runs.left(), left);
                good.push(run);
            }
            Err(RunError::Beyond { run, left }) => assert!(run > left),
            Err(error) => assert_ne!(error.to_string(), ""),
        }
    }
    write_and_read(&good, left);
}

fn round_trip(input: &mut Input<'_>) {
    let mut set = input.byte() & 1 != 0;
    let mut runs = Vec::new();
    while !input.rest.is_empty() && runs.len() < 4096 {
        let len = match input.byte() {
            0xff => input.u64() >> (input.byte() & 63),
            0xfe => u64::from(input.u32()),
            len => u64::from(len),
        };
        runs.push(Run { set, len });
        set = !set;
    }
    write_and_read(&runs, u64::MAX);
}

/// Writes as many runs as fit, and reads them again.
fn write_and_read(runs: &[Run], left: u64) {
    let Some(first) = runs.first() else {
        return;
    };
    let mut payload = [0xa5; 300];
    let mut writer = RunWriter::new(&mut payload, first.set).expect("there is room");
    let mut total = 0_u64;
    let mut written = 0;
    for run in runs {
        let Some(sum) = total.checked_add(run.len).filter(|sum| *sum <= left) else {
            break;
        };
        if writer.push(run.len).is_err() {
            break;
        }
        total = sum;
        written += 1;
    }
    let Some(len) = writer.finish() else {
        return assert_eq!(written, 0);
    };
    let read: Result<Vec<Run>, RunError> =
        Runs::new(&payload[..len], total).expect("codes").collect();
    assert_eq!(read.as_deref(), Ok(&runs[..written]));
}

/// A bitmap and a plain list of its bits.
struct Pair {
    bitmap: Bitmap<Vec<u64>, Vec<PageState>>,
    bits: Vec<bool>,
    capacity: u64,
}

fn operations(input: &mut Input<'_>) {
    let capacity = u64::from(input.u16()) + 1;
    let bits = SectorCount(capacity).bits();
    let mut pair = Pair {
        bitmap: Bitmap::new(
            vec![0; bits.words() as usize],
            vec![PageState::default(); bits.pages() as usize],
        ),
        bits: vec![false; bits.0 as usize],
        capacity,
    };
    assert!(pair.bitmap.set_capacity(SectorCount(capacity)));
    assert_eq!(pair.bitmap.bits(), bits.0);
    for _ in 0..64 {
        if input.rest.is_empty() {
            break;
        }
        pair.step(input);
        let weight = pair.bits.iter().filter(|&&bit| bit).count() as u64;
        assert_eq!(pair.bitmap.weight(), weight);
    }
}

impl Pair {
    fn step(&mut self, input: &mut Input<'_>) {
        let how = input.byte();
        let sector = u64::from(input.u16()) % self.capacity;
        let len = u64::from(input.u16()) % (self.capacity - sector + 1);
        let range = SectorRange::from_bytes(Sector(sector), (len as u32) << 9).expect("small");
        let (first, end) = match how % 8 {
            0 | 1 => self.bitmap.touched(range),
            2 | 3 => self.bitmap.covered(range),
            _ => (sector / 8, (sector + len) / 8),
        };
        let slice = first.min(end) as usize..end as usize;
        assert!(slice.end <= self.bits.len());
        match how % 8 {
            0 | 1 => self.fill(slice, true, |bitmap| bitmap.set_out_of_sync(range)),
            2 | 3 => self.fill(slice, false, |bitmap| bitmap.set_in_sync(range)),
            4 => self.fill(slice, true, |bitmap| bitmap.set_bits(first, end)),
            5 => self.fill(slice, false, |bitmap| bitmap.clear_bits(first, end)),
            6 => self.find(first),
            _ => self.merge(first / 64, input.u64()),
        }
    }

    fn fill(
        &mut self,
        slice: std::ops::Range<usize>,
        set: bool,
        change: impl FnOnce(&mut Bitmap<Vec<u64>, Vec<PageState>>) -> u64,
    ) {
        let bits = &mut self.bits[slice];
        let changed = bits.iter().filter(|&&bit| bit != set).count() as u64;
        bits.fill(set);
        assert_eq!(change(&mut self.bitmap), changed);
    }

    fn find(&self, from: u64) {
        let search = |wanted: bool| {
            let rest = self.bits.iter().enumerate().skip(from as usize);
            let mut found = rest.filter(|(_, &bit)| bit == wanted);
            found.next().map(|(at, _)| BitIndex(at as u64))
        };
        assert_eq!(self.bitmap.find_next(BitIndex(from)), search(true));
        let end = BitIndex(self.bits.len() as u64);
        let clear = search(false).unwrap_or(end);
        assert_eq!(self.bitmap.find_next_clear(BitIndex(from)), clear);
    }

    fn merge(&mut self, word: u64, value: u64) {
        self.bitmap.merge_word(word, value);
        for bit in 0..64 {
            if let Some(place) = self.bits.get_mut((word * 64 + bit) as usize) {
                *place |= value >> bit & 1 != 0;
            }
        }
        let own = self.bitmap.word(word);
        let bits = self.bits.iter().skip((word * 64) as usize).take(64);
        let expected = bits.rev().fold(0, |word, &bit| word << 1 | u64::from(bit));
        assert_eq!(own, expected);
    }
}
