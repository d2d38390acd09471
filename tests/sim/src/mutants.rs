//! Bugs put back on purpose: which seed finds each of them, and which checker.

use std::panic::{catch_unwind, AssertUnwindSafe};

use drbd_core::put_back::{select, set_block_bits, Bug};

use crate::cluster::{Cluster, HEAL_LIMIT_NS};
use crate::faults::Faults;

/// How the hunt for one bug ended.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// The bug.
    pub bug: Bug,
    /// Seeds that were run.
    pub seeds: u64,
    /// Seeds that fail without any bug; they say nothing.
    pub excluded: Vec<u64>,
    /// First seed that fails because of the bug, and what it said.
    pub found: Option<(u64, String)>,
}

/// Bits of the number of a block that [`Bug::ResyncRequestBeyond8TiB`] leaves here: its boundary is
/// at 16 MiB. A device beyond 8 TiB has a bitmap of 256 MiB, on each node and for each volume.
const BLOCK_BITS: u32 = 12;

/// Puts a bug back for the runs of this thread.
pub fn choose(bug: Option<Bug>) {
    select(bug);
    set_block_bits(BLOCK_BITS);
}

/// Runs one seed with a bug put back; returns what was found wrong.
pub fn run(bug: Option<Bug>, seed: u64, writes: u64) -> Option<String> {
    choose(bug);
    let mut cluster = Cluster::new(seed, Faults::draw(seed));
    let result = catch_unwind(AssertUnwindSafe(|| {
        crate::complete_run(&mut cluster, writes, HEAL_LIMIT_NS);
    }));
    select(None);
    let panicked = result.err().map(|payload| {
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied());
        format!("panic: {}", text.unwrap_or("of an unknown kind"))
    });
    panicked.or(cluster.world.failure)
}

/// Runs seeds with a bug put back until one fails that does not fail without it.
pub fn hunt(bug: Bug, from: u64, count: u64, writes: u64) -> Hunt {
    let mut excluded = Vec::new();
    for seed in from..from.saturating_add(count) {
        let Some(text) = run(Some(bug), seed, writes) else {
            continue;
        };
        if run(None, seed, writes).is_some() {
            excluded.push(seed);
            continue;
        }
        return Hunt {
            bug,
            seeds: seed - from + 1,
            excluded,
            found: Some((seed, text)),
        };
    }
    Hunt {
        bug,
        seeds: count,
        excluded,
        found: None,
    }
}
