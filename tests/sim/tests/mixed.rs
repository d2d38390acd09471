//! Pairs of which one node stands for the C driver (`Documentation/testing.md`, "A peer with the C
//! driver").

use drbd_core::quirk::{Quirk, Quirks};
use drbd_format::types::{ConnState, DiskState};

use drbd_sim::admin::Command;
use drbd_sim::cluster::{Cluster, HEAL_LIMIT_NS};
use drbd_sim::faults::{Fault, Faults};
use drbd_sim::scene::Scene;
use drbd_sim::world::{MILLI, SECOND};

/// Writes of each run.
const WRITES: u64 = 500;

/// Each found something that is mended since.
const ONCE_FAILED: [u64; 10] = [274, 849, 983, 989, 1039, 1964, 2326, 4054, 5220, 9593];

/// Node a is ours, b has this quirk.
fn with(quirk: Quirk) -> Faults {
    let mut faults = Faults::none();
    faults.quirks[1] = Quirks::only(quirk);
    faults
}

#[test]
fn fifty_seeds_with_one_c_node_are_good() {
    let mut failed = Vec::new();
    let mut mattered = Quirks::NONE;
    for seed in (0..50).chain(ONCE_FAILED) {
        let mut cluster = Cluster::new(seed, Faults::draw_with(seed, Quirks::C));
        drbd_sim::complete_run(&mut cluster, WRITES, HEAL_LIMIT_NS);
        mattered = mattered.or(cluster.world.mattered);
        if let Some(text) = cluster.world.failure {
            failed.push(format!("seed {seed}: {text}"));
        }
    }
    assert_eq!(failed, [""; 0]);
    for quirk in [
        Quirk::AckBeforeFlush,
        Quirk::BarrierAtOnce,
        Quirk::ReceiverWaits,
        Quirk::ResyncInTicks,
        Quirk::EndOvertakesAck,
        Quirk::StaleBytes,
        Quirk::Addresses,
    ] {
        assert!(mattered.contains(quirk), "{quirk:?} never mattered");
    }
}

/// The writes of an epoch that the C node has acknowledged are in the cache of its disk still: it
/// is known whose fault their loss would be.
#[test]
fn what_a_c_node_acknowledged_before_its_flush_is_its_own_fault() {
    let lost = |quirks| {
        let mut faults = Faults::none();
        faults.disk_latency_ns = (5 * MILLI, 5 * MILLI);
        faults.quirks[1] = quirks;
        (0..20)
            .map(|seed| {
                let mut scene = Scene::with_seed(seed, faults.clone()).expect("in sync");
                for block in 0..20 {
                    scene.write(64 * block, 8);
                }
                scene.written().expect("written");
                scene.steps(seed).expect("nothing wrong");
                scene.cause(Fault::PowerLoss, 1);
                let kept = scene.cluster.world.nodes[1].disks[0].kept;
                assert_eq!(scene.end(), Ok(()));
                kept
            })
            .sum::<u64>()
    };
    assert!(lost(Quirks::only(Quirk::AckBeforeFlush)) > 0);
    assert_eq!(lost(Quirks::NONE), 0);
}

/// A C node takes no packet before a barrier is carried out: its ack does not wait for one.
#[test]
fn a_c_node_acknowledges_a_barrier_though_more_has_arrived_behind_it() {
    let mut faults = with(Quirk::ReceiverWaits);
    faults.volatile = false;
    faults.max_epoch_size = 1;
    let mut scene = Scene::new(faults).expect("in sync");
    let before_ns = scene.cluster.world.now_ns;
    // The barrier of each write goes out in front of the next one.
    for block in 0..20 {
        scene.write(64 * block, 8);
        scene.written().expect("written");
    }
    assert!(scene.cluster.world.now_ns - before_ns < SECOND);
    assert!(scene.cluster.world.mattered.contains(Quirk::ReceiverWaits));
    assert_eq!(scene.end(), Ok(()));
}

/// As target ours does not tell the end before its acks: a C source looks for it once only.
#[test]
fn a_c_source_that_looks_once_sees_the_end_of_every_resync() {
    for seed in 0..10 {
        let mut faults = with(Quirk::EndSeenOnce);
        faults.network.delay_max_ns = 20 * MILLI;
        faults.quirks.swap(0, 1);
        let mut scene = Scene::with_seed(seed, faults).expect("in sync");
        scene.write_apart(20).expect("written");
        assert_eq!(scene.end(), Ok(()), "seed {seed}");
    }
}

/// A C target tells the end before its last ack is there.
#[test]
fn the_end_of_a_resync_may_overtake_the_acks_of_a_c_target() {
    let mut mattered = false;
    for seed in 0..10 {
        let mut faults = with(Quirk::EndOvertakesAck);
        faults.network.delay_max_ns = 20 * MILLI;
        let mut scene = Scene::with_seed(seed, faults).expect("in sync");
        scene.write_apart(20).expect("written");
        scene.until_conn(0, ConnState::SyncSource).expect("begun");
        scene
            .until("in sync", |cluster| cluster.is_in_sync(0))
            .expect("ended");
        mattered |= scene
            .cluster
            .world
            .mattered
            .contains(Quirk::EndOvertakesAck);
        assert_eq!(scene.end(), Ok(()), "seed {seed}");
    }
    assert!(mattered);
}

/// The refusal of a discard by a C node without a disk names no length that makes sense.
#[test]
fn a_discard_that_a_diskless_c_node_refuses_is_marked() {
    let mut faults = with(Quirk::LengthOfNothing);
    faults.integrity = true;
    faults.network.delay_max_ns = 20 * MILLI;
    let mut mattered = false;
    for seed in 0..10 {
        let mut scene = Scene::with_seed(seed, faults.clone()).expect("in sync");
        scene.cluster.world.nodes[1].disks[0].fail_writes = true;
        scene.write(4000, 8);
        scene
            .until("detached", |cluster| {
                let state = cluster.state(1, 0);
                state.is_some_and(|state| state.disk < DiskState::Inconsistent)
            })
            .expect("detached");
        for block in 0..10 {
            scene.discard(64 * block, 8);
        }
        scene.written().expect("ended");
        mattered |= scene
            .cluster
            .world
            .mattered
            .contains(Quirk::LengthOfNothing);
        assert_eq!(scene.end(), Ok(()), "seed {seed}");
    }
    assert!(mattered);
}

/// Node a attaches while the nodes shake hands: a C node tells its UUIDs only to a peer that was
/// Diskless before.
#[test]
fn a_disk_that_is_attached_during_the_handshake_is_answered_by_a_c_node() {
    for moment in 0..60 {
        let mut faults = with(Quirk::AttachUnanswered);
        faults.disk_latency_ns = (MILLI, MILLI);
        let mut scene = Scene::new(faults).expect("in sync");
        scene.close();
        for command in [
            Command::Secondary(0),
            Command::Disconnect,
            Command::Detach(0),
        ] {
            scene.command(0, command).expect("answered");
        }
        scene.connect();
        scene.until_conn(0, ConnState::WfConnection).expect("asked");
        scene.steps(moment).expect("nothing wrong");
        scene.cluster.admins[0].add(Command::Attach(0));
        scene
            .until("connected", |cluster| {
                let state = cluster.state(1, 0);
                state.is_some_and(|state| state.conn >= ConnState::Connected)
            })
            .expect("connected");
        scene
            .until("attached", |cluster| {
                let state = cluster.state(0, 0);
                state.is_some_and(|state| state.disk == DiskState::UpToDate)
            })
            .expect("attached");
        assert_eq!(scene.end(), Ok(()), "after {moment} events");
    }
}
