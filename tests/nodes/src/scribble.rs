//! A workload that can be checked after any crash, and its check.
//!
//! On a node, [`scribble`] writes 4 KiB blocks whose every sector says where it belongs, which
//! generation it is and which run it is of. After each write that the device acknowledged it tells
//! the host over a serial line of its own, which a power cut cannot take back. On the host,
//! [`Acks::check`] reads the disk files: no sector may be older than what was acknowledged.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{bail, ensure, Context, Result};

/// Size of a write.
pub(crate) const BLOCK_BYTES: usize = 4096;

const SECTOR_BYTES: usize = 512;
const MAGIC: u64 = 0x6472_6264_7363_7262;
const O_DIRECT: i32 = 0o40000;

/// What a run of the workload does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scribble {
    /// Seed of the block numbers, and the mark of the run in every sector.
    pub(crate) seed: u64,
    /// Number of the first write; the run must continue where the last one ended.
    pub(crate) first: u64,
    /// The blocks written to: multiples of `stride` from 0, this many.
    pub(crate) blocks: u64,
    /// Distance of the blocks, in blocks.
    pub(crate) stride: u64,
    /// Writes in flight.
    pub(crate) depth: u64,
    /// Ends after this many writes; 0 runs until it is killed.
    pub(crate) count: u64,
}

impl Scribble {
    /// Words for the command line of `drbd-nodes scribble`.
    pub(crate) fn words(&self) -> String {
        format!(
            "{} {} {} {} {} {}",
            self.seed, self.first, self.blocks, self.stride, self.depth, self.count
        )
    }

    /// Reads what [`Self::words`] wrote.
    pub(crate) fn from_words(words: &[String]) -> Result<Self> {
        let numbers: Vec<u64> = words
            .iter()
            .map(|word| word.parse())
            .collect::<Result<_, _>>()
            .context("a number")?;
        let &[seed, first, blocks, stride, depth, count] = numbers.as_slice() else {
            bail!("six numbers expected")
        };
        ensure!(
            blocks > 0 && depth > 0 && depth <= blocks,
            "nothing to write"
        );
        Ok(Self {
            seed,
            first,
            blocks,
            stride,
            depth,
            count,
        })
    }
}

/// Next number of a sequence (splitmix64): small, and the same on every machine.
pub(crate) fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Writes to `device` and tells of each acknowledged write on the line `acks`.
pub(crate) fn scribble(device: &Path, acks: &Path, plan: Scribble) -> Result<()> {
    let disk = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(O_DIRECT)
        .open(device)
        .with_context(|| format!("open {}", device.display()))?;
    let line = OpenOptions::new()
        .append(true)
        .open(acks)
        .context("open the line for acks")?;
    let shared = Arc::new((disk, Mutex::new(line), AtomicU64::new(plan.first)));
    let workers: Vec<_> = (0..plan.depth)
        .map(|worker| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || work(&shared.0, &shared.1, &shared.2, plan, worker))
        })
        .collect();
    for worker in workers {
        worker
            .join()
            .map_err(|_| anyhow::anyhow!("a writer panicked"))??;
    }
    Ok(())
}

/// One writer. It has its own blocks, so that writes to one block do not overtake each other.
fn work(
    disk: &File,
    line: &Mutex<File>,
    next: &AtomicU64,
    plan: Scribble,
    worker: u64,
) -> Result<()> {
    let mut space = vec![0_u8; 2 * BLOCK_BYTES];
    let start = space.as_ptr().align_offset(BLOCK_BYTES);
    let buffer = &mut space[start..start + BLOCK_BYTES];
    let own = plan.blocks / plan.depth;
    let mut random = plan.seed ^ (worker << 40) ^ plan.first;
    loop {
        let generation = next.fetch_add(1, Ordering::Relaxed);
        if plan.count > 0 && generation >= plan.first + plan.count {
            return Ok(());
        }
        let block = (next_random(&mut random) % own) * plan.depth + worker;
        let place = block * plan.stride;
        fill(buffer, plan.seed, place, generation);
        disk.write_all_at(buffer, place * BLOCK_BYTES as u64)
            .context("write")?;
        let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
        line.write_all(format!("w {place} {generation};\n").as_bytes())
            .context("tell the host")?;
    }
}

fn fill(block: &mut [u8], seed: u64, place: u64, generation: u64) {
    for (index, sector) in block.chunks_exact_mut(SECTOR_BYTES).enumerate() {
        let sector_number = place * (BLOCK_BYTES / SECTOR_BYTES) as u64 + index as u64;
        for (word, value) in [(0, MAGIC), (1, seed), (2, sector_number), (3, generation)] {
            sector[word * 8..word * 8 + 8].copy_from_slice(&value.to_le_bytes());
        }
        let mut state = generation ^ (sector_number << 24);
        for word in sector[32..].chunks_exact_mut(8) {
            word.copy_from_slice(&next_random(&mut state).to_le_bytes());
        }
    }
}

/// What the device has acknowledged so far.
#[derive(Default)]
pub(crate) struct Acks {
    newest: HashMap<u64, u64>,
    read_to: HashMap<PathBuf, usize>,
    /// Acknowledged writes in all.
    pub(crate) count: u64,
    /// The newest generation that was acknowledged.
    pub(crate) last: u64,
}

impl Acks {
    /// Takes in what a line has said since the last call; each node has a line of its own.
    pub(crate) fn read(&mut self, line: &Path) -> Result<()> {
        let bytes = std::fs::read(line).unwrap_or_default();
        let read_to = self.read_to.entry(line.to_owned()).or_default();
        let Some(new) = bytes.get(*read_to..) else {
            return Ok(());
        };
        // A power cut may leave half a line, which then is followed by the next run's first one.
        let Some(end) = new.iter().rposition(|&byte| byte == b'\n') else {
            return Ok(());
        };
        *read_to += end + 1;
        for text in String::from_utf8_lossy(&new[..=end]).lines() {
            let text = text
                .trim()
                .strip_prefix("w ")
                .and_then(|text| text.strip_suffix(';'));
            let Some((place, generation)) = text.and_then(|text| text.split_once(' ')) else {
                continue;
            };
            let (Ok(place), Ok(generation)) = (place.parse(), generation.parse()) else {
                continue;
            };
            let newest: &mut u64 = self.newest.entry(place).or_default();
            *newest = (*newest).max(generation);
            self.last = self.last.max(generation);
            self.count += 1;
        }
        Ok(())
    }

    /// Checks a disk file: every sector of every acknowledged block is of this run, at its place,
    /// whole, and not older than acknowledged.
    pub(crate) fn check(&self, disk: &Path, seed: u64) -> Result<()> {
        let file = File::open(disk).context("open the disk")?;
        let mut block = vec![0_u8; BLOCK_BYTES];
        let mut wanted = vec![0_u8; BLOCK_BYTES];
        for (&place, &acked) in &self.newest {
            file.read_exact_at(&mut block, place * BLOCK_BYTES as u64)
                .context("read")?;
            for (index, sector) in block.chunks_exact(SECTOR_BYTES).enumerate() {
                let word = |at: usize| {
                    u64::from_le_bytes(sector[at * 8..at * 8 + 8].try_into().unwrap_or_default())
                };
                let at = format!("block {place} sector {index} of {}", disk.display());
                ensure!(word(0) == MAGIC && word(1) == seed, "{at}: not of this run");
                ensure!(
                    word(3) >= acked,
                    "{at}: lost write: generation {} acknowledged, {} on disk",
                    acked,
                    word(3)
                );
                fill(&mut wanted, seed, place, word(3));
                let range = index * SECTOR_BYTES..(index + 1) * SECTOR_BYTES;
                ensure!(sector == &wanted[range], "{at}: damaged");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_write_and_a_damaged_sector_are_found() {
        let dir = std::env::temp_dir();
        let (disk, line) = (
            dir.join(format!("scribble-disk-{}", std::process::id())),
            dir.join(format!("scribble-line-{}", std::process::id())),
        );
        let mut block = vec![0; BLOCK_BYTES];
        fill(&mut block, 7, 0, 12);
        std::fs::write(&disk, &block).unwrap();
        let check = |text: &str, disk: &Path| {
            std::fs::write(&line, text).unwrap();
            let mut acks = Acks::default();
            acks.read(&line).unwrap();
            acks.check(disk, 7)
        };
        check("w 0 11;\nw 0 12;\nw 0 1w 0 9;\nw 0 1", &disk).unwrap();
        assert!(check("w 0 13;\n", &disk)
            .unwrap_err()
            .to_string()
            .contains("lost write"));
        block[600] ^= 1;
        std::fs::write(&disk, &block).unwrap();
        assert!(check("w 0 12;\n", &disk)
            .unwrap_err()
            .to_string()
            .contains("damaged"));
        std::fs::remove_file(&disk).unwrap();
        std::fs::remove_file(&line).unwrap();
    }
}
