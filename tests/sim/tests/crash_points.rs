//! For every write of metadata in a few short runs: power is lost right before it, right after it,
//! and with it torn. The node comes back, and all must be well as after any random run.

use drbd_sim::admin::Command;
use drbd_sim::cluster::{Actor, Cluster, Crash, Reached, HEAL_LIMIT_NS};
use drbd_sim::faults::{Fault, Faults};
use drbd_sim::world::{Event, MILLI};

/// What a run came to.
struct Outcome {
    /// What went wrong.
    failure: Option<String>,
    /// Blocks that each node had written when it began to be of interest, and at the end.
    blocks: [[u64; 2]; 2],
}

/// Runs to the end.
fn run(seed: u64, faults: &Faults, writes: u64, crash: Option<Crash>) -> Outcome {
    let mut cluster = Cluster::new(seed, faults.clone());
    cluster.crash = crash;
    drbd_sim::complete_run(&mut cluster, writes, HEAL_LIMIT_NS);
    Outcome {
        failure: cluster.world.failure,
        blocks: [[0; 2], cluster.block_writes],
    }
}

/// Loses power at every write of a run that is good without.
fn survives(faults: &Faults, writes: u64) {
    loses_power(|seed, crash| run(seed, faults, writes, crash));
}

/// Loses power at every write of interest of a run that is good without.
fn loses_power(run: impl Fn(u64, Option<Crash>) -> Outcome) {
    let mut bad = Vec::new();
    let mut points = 0;
    for seed in [1, 2] {
        let Outcome { failure, blocks } = run(seed, None);
        assert_eq!(failure, None, "without a loss of power");
        let [first, last] = blocks;
        for (node, (first, last)) in first.into_iter().zip(last).enumerate() {
            for at in first..last {
                for reached in [Reached::Nothing, Reached::Part, Reached::All] {
                    let crash = Crash { node, at, reached };
                    points += 1;
                    if let Some(text) = run(seed, Some(crash)).failure {
                        bad.push(format!("seed {seed} {crash:?}: {text}"));
                    }
                }
            }
        }
    }
    println!("{points} losses of power");
    assert!(points > 0, "nothing was written");
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

/// The disk of a Primary leaves and comes back: its activity log begins anew, and the first
/// transaction may be torn like any other.
#[test]
fn detach_and_attach_of_the_primary() {
    let mut faults = Faults::none();
    faults.volatile = false;
    loses_power(|seed, crash| {
        let mut cluster = Cluster::new(seed, faults.clone());
        cluster.crash = crash;
        cluster.run(20);
        cluster.run_until_idle(HEAL_LIMIT_NS);
        let before = cluster.block_writes;
        let node = cluster.holder;
        for command in [Command::Detach(0), Command::Attach(0)] {
            cluster.admins[node].add(command);
        }
        cluster.run_for(500 * MILLI);
        cluster.workload.left = 20;
        cluster.world.after(0, Event::Act(Actor::Work));
        cluster.run_for(500 * MILLI);
        cluster.heal();
        cluster.run_until_idle(HEAL_LIMIT_NS);
        cluster.check_end();
        Outcome {
            failure: cluster.world.failure,
            blocks: [before, cluster.block_writes],
        }
    });
}

#[test]
fn the_role_moves() {
    survives(&only(Fault::Switch), 40);
}

/// A device grows by another page of its bitmap while applications write.
fn grows(seed: u64, faults: &Faults, apart: bool, crash: Option<Crash>) -> Outcome {
    const FIRST: u64 = 260_000;
    let mut faults = faults.clone();
    faults.disk_sectors = 600_000;
    faults.extras.first_sectors = Some(FIRST);
    let mut cluster = Cluster::new(seed, faults);
    cluster.crash = crash;
    cluster.run(20);
    cluster.run_until_idle(HEAL_LIMIT_NS);
    let before = cluster.block_writes;
    let node = cluster.holder;
    if apart {
        cluster.cause(Fault::Disconnect, node);
        cluster.run_for(900 * MILLI);
    }
    cluster.world.sizes[0] = 2 * FIRST;
    cluster.admins[node].add(Command::Resize(0));
    cluster.workload.left = 20;
    cluster.world.after(0, Event::Act(Actor::Work));
    cluster.run_for(2000 * MILLI);
    cluster.heal();
    cluster.run_until_idle(HEAL_LIMIT_NS);
    let mut failure = None;
    for node in 0..2 {
        let device = cluster.world.alive(node).map(|alive| &alive.devices[0]);
        let sectors = device.map(|device| device.capacity);
        if crash.is_none() && sectors != Some(2 * FIRST) {
            failure = Some(format!("node {node} has {sectors:?} sectors"));
        }
    }
    cluster.check_end();
    Outcome {
        failure: cluster.world.failure.or(failure),
        blocks: [before, cluster.block_writes],
    }
}

#[test]
fn a_resize_of_a_connected_device() {
    loses_power(|seed, crash| grows(seed, &Faults::none(), false, crash));
}

#[test]
fn a_resize_of_a_device_that_is_alone() {
    loses_power(|seed, crash| grows(seed, &Faults::none(), true, crash));
}

#[test]
fn a_resize_while_extents_leave_the_activity_log() {
    let mut faults = Faults::none();
    faults.extras.log_slots = Some(2);
    faults.regions = 30;
    loses_power(|seed, crash| grows(seed, &faults, false, crash));
}
