//! Directed runs: each pins something that a random run once found.

use drbd_sim::cluster::{Cluster, HEAL_LIMIT_NS};
use drbd_sim::faults::Faults;
use drbd_sim::world::MILLI;

/// Runs to the end and returns what went wrong.
fn failure(seed: u64, faults: Faults, writes: u64) -> Option<String> {
    let mut cluster = Cluster::new(seed, faults);
    drbd_sim::complete_run(&mut cluster, writes, HEAL_LIMIT_NS);
    cluster.world.failure
}

/// A resync asks for 1 MiB at a time; the reader takes it out of the stream piece by piece.
#[test]
fn a_resync_gets_through_a_stream_with_little_room() {
    let mut faults = Faults::none();
    faults.full_sync = true;
    faults.network.delay_max_ns = 20 * MILLI;
    faults.network.buffer_bytes = 2_000;
    assert_eq!(failure(1, faults, 20), None);
}
