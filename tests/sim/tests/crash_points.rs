//! For every write of metadata in a few short runs: power is lost right before it, right after it,
//! and with it torn. The node comes back, and all must be well as after any random run.

use drbd_sim::cluster::{Cluster, Crash, Reached, HEAL_LIMIT_NS};
use drbd_sim::faults::{Fault, Faults};
use drbd_sim::world::MILLI;

/// Runs to the end; returns what went wrong and how many blocks each node has written.
fn run(
    seed: u64,
    faults: &Faults,
    writes: u64,
    crash: Option<Crash>,
) -> (Option<String>, [u64; 2]) {
    let mut cluster = Cluster::new(seed, faults.clone());
    cluster.crash = crash;
    drbd_sim::complete_run(&mut cluster, writes, HEAL_LIMIT_NS);
    (cluster.world.failure, cluster.block_writes)
}

/// Loses power at every write of a run that is good without.
fn survives(faults: &Faults, writes: u64) {
    let mut bad = Vec::new();
    let mut points = 0;
    for seed in [1, 2] {
        let (failure, counts) = run(seed, faults, writes, None);
        assert_eq!(failure, None, "without a loss of power");
        for (node, count) in counts.into_iter().enumerate() {
            for at in 0..count {
                for reached in [Reached::Nothing, Reached::Part, Reached::All] {
                    let crash = Crash { node, at, reached };
                    points += 1;
                    if let (Some(text), _) = run(seed, faults, writes, Some(crash)) {
                        bad.push(format!("seed {seed} {crash:?}: {text}"));
                    }
                }
            }
        }
    }
    println!("{points} losses of power");
    assert!(bad.is_empty(), "{} of {points}: {bad:#?}", bad.len());
}

/// Only one kind of fault, at regular times.
fn only(fault: Fault) -> Faults {
    let mut faults = Faults::none();
    faults.pause_ns = Some((300 * MILLI, 500 * MILLI));
    for (kind, weight) in Fault::ALL.iter().zip(&mut faults.weights) {
        *weight = u64::from(*kind == fault);
    }
    faults
}

#[test]
fn attach_and_promotion() {
    survives(&Faults::none(), 0);
}

#[test]
fn transactions_of_the_activity_log() {
    let mut faults = Faults::none();
    faults.disk_sectors = 800_000;
    faults.regions = 150;
    survives(&faults, 60);
}

#[test]
fn the_end_of_the_first_sync() {
    let mut faults = Faults::none();
    faults.full_sync = true;
    survives(&faults, 10);
}

#[test]
fn bitmap_and_superblock_when_the_link_comes_and_goes() {
    survives(&only(Fault::Reset), 40);
}

#[test]
fn resync_of_an_invalidated_disk() {
    survives(&only(Fault::Invalidate), 40);
}

#[test]
fn detach_and_attach_of_the_secondary() {
    survives(&only(Fault::Detach), 40);
}

#[test]
fn the_role_moves() {
    survives(&only(Fault::Switch), 40);
}
