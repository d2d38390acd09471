//! What cargo-mutants runs for each small change of the two crates besides unit tests, in as few
//! programs as can be: each is linked anew for every change. See `scripts/mutants`.

use drbd_sim::cluster::{Cluster, HEAL_LIMIT_NS};
use drbd_sim::faults::Faults;

/// Writes of each run.
const WRITES: u64 = 500;

/// Runs a seed of the simulator.
///
/// # Panics
///
/// If it fails.
pub fn is_good(seed: u64) {
    let mut cluster = Cluster::new(seed, Faults::draw(seed));
    drbd_sim::complete_run(&mut cluster, WRITES, HEAL_LIMIT_NS);
    assert_eq!(cluster.world.failure, None, "seed {seed}");
}
