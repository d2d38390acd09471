//! What the oracle expects, and what it does not: the protocols allow more than one would like.

use drbd_core::request::Op;
use drbd_format::types::{ConnState, DiskState, Protocol, Role};

use drbd_sim::admin::Command;
use drbd_sim::cluster::Cluster;
use drbd_sim::faults::Faults;
use drbd_sim::scene::Scene;
use drbd_sim::world::MILLI;

fn loses_its_disk(cluster: &mut Cluster, node: usize) -> bool {
    let state = cluster.state(node, 0);
    state.is_some_and(|state| state.disk < DiskState::Attaching)
}

/// A block has been written in protocol B, to disks that take their time.
fn written_in_protocol_b(seed: u64) -> Scene {
    let mut faults = Faults::none();
    faults.protocol = Protocol::B;
    faults.disk_latency_ns = (MILLI, 40 * MILLI);
    let mut scene = Scene::with_seed(seed, faults).unwrap();
    scene.write(800, 8);
    scene.written().unwrap();
    scene
}

/// The disk of `a` is lost by a read.
fn fail_a_read(scene: &mut Scene, sector: u64) {
    scene.cluster.world.nodes[0].disks[0].fail_reads = true;
    scene.read(sector, 8);
    scene
        .until("diskless", |cluster| loses_its_disk(cluster, 0))
        .unwrap();
}

/// Seed 592: the flush comes when the disk of its node has failed, and does not reach it
/// (`reference/io.md` 1.7, "empty flush, diskless").
#[test]
fn a_flush_without_a_disk_promises_nothing_about_that_disk() {
    for seed in 1..10 {
        let mut scene = Scene::with_seed(seed, Faults::none()).unwrap();
        for block in 0..8 {
            scene.write(64 * block, 8);
        }
        scene.written().unwrap();
        scene.cluster.world.net.cut = true;
        scene.cluster.world.nodes[0].disks[0].fail_reads = true;
        scene.cluster.world.nodes[0].disks[0].fail_writes = true;
        scene.read(800, 8);
        scene
            .until("diskless", |cluster| loses_its_disk(cluster, 0))
            .unwrap();
        let Cluster {
            workload, world, ..
        } = &mut scene.cluster;
        workload.submit(world, 0, 0, Op::Flush, (0, 0));
        scene.written().unwrap();
        scene.cluster.power_off(0);
        let world = &scene.cluster.world;
        let disk = &world.nodes[0].disks[0].live;
        assert_eq!(world.oracle.check_disk(0, 0, disk), Ok(()));
    }
}

/// Seed 690: in protocol B a write is acknowledged when the peer has received it. The peer's disk,
/// the only good one, fails before it is written, and overwrites it when it comes back.
#[test]
fn a_write_that_the_last_good_disk_has_not_got_may_be_lost_in_protocol_b() {
    for seed in 1..10 {
        let mut scene = written_in_protocol_b(seed);
        fail_a_read(&mut scene, 800);
        for block in 0..20 {
            scene.write(64 * block, 8);
        }
        scene.written().unwrap();
        scene.cluster.world.nodes[0].disks[0].fail_reads = false;
        scene.command(0, Command::Attach(0)).unwrap();
        scene.until_conn(0, ConnState::SyncTarget).unwrap();
        scene.command(0, Command::PauseSync(0)).unwrap();
        scene.cluster.world.nodes[1].disks[0].fail_writes = true;
        scene.write(800, 8);
        scene
            .until("given up", |cluster| loses_its_disk(cluster, 1))
            .unwrap();
        scene.mend();
        scene.command(0, Command::ResumeSync(0)).unwrap();
        scene.command(1, Command::Attach(0)).unwrap();
        scene.until_conn(0, ConnState::SyncTarget).unwrap();
        scene.until_conn(0, ConnState::Connected).unwrap();
        scene.read(800, 8);
        scene.written().unwrap();
        assert_eq!(scene.end(), Ok(()));
    }
}

/// Seed 34876: zeros on the peer's disk are those of a discard that it has only received, or the
/// write before the discard has not got there either.
#[test]
fn a_discard_that_the_last_good_disk_has_not_got_may_be_lost_in_protocol_b() {
    let has_it = |cluster: &mut Cluster| cluster.world.nodes[1].disks[0].live.get(800) != 0;
    let mut tried = 0;
    for seed in 1..3000 {
        let mut scene = written_in_protocol_b(seed);
        scene.discard(800, 8);
        scene.written().unwrap();
        fail_a_read(&mut scene, 1600);
        if has_it(&mut scene.cluster) || scene.until("on the peer", has_it).is_err() {
            continue;
        }
        scene.cluster.world.nodes[1].disks[0].fail_writes = true;
        scene
            .until("given up", |cluster| loses_its_disk(cluster, 1))
            .unwrap();
        scene.mend();
        scene.close();
        scene.command(0, Command::Secondary(0)).unwrap();
        scene
            .until("told", |cluster| {
                let state = cluster.state(1, 0);
                state.is_some_and(|state| state.peer == Role::Secondary)
            })
            .unwrap();
        scene.command(1, Command::Attach(0)).unwrap();
        scene.command(0, Command::Attach(0)).unwrap();
        if scene.until_conn(0, ConnState::SyncTarget).is_err() {
            // The new generation has not got to the disk either.
            continue;
        }
        tried += 1;
        scene.until_conn(0, ConnState::Connected).unwrap();
        scene.command(0, Command::Primary(0, false)).unwrap();
        assert_eq!(scene.end(), Ok(()), "seed {seed}");
    }
    assert!(tried > 0);
}

/// Seed 5191: the Primary lives on without a disk of its own, and the only good disk loses what was
/// in its cache.
#[test]
fn what_the_only_disk_loses_with_its_power_may_be_lost_for_a_primary_that_lives_on() {
    for seed in 1..10 {
        let mut scene = Scene::with_seed(seed, Faults::none()).unwrap();
        fail_a_read(&mut scene, 800);
        for block in 0..8 {
            scene.write(64 * block, 8);
        }
        scene.written().unwrap();
        scene.cluster.power_off(1);
        scene.cluster.power_on(1);
        scene.until_conn(0, ConnState::WfConnection).unwrap();
        scene.until_conn(0, ConnState::Connected).unwrap();
        for block in 0..8 {
            scene.read(64 * block, 8);
        }
        scene.written().unwrap();
    }
}

/// Seed 989 with a C node: the disk fails when the new generation is written to it, in the moment
/// of the promotion. Its peer has a write that was under way before, and becomes the better one.
#[test]
fn nobody_has_seen_what_is_on_a_disk_that_fails_at_the_promotion() {
    let mut tried = 0;
    for seed in 1..40 {
        let mut scene = Scene::with_seed(seed, Faults::none()).unwrap();
        scene.write(800, 8);
        let has_it = |cluster: &Cluster, node: usize| {
            let disk = &cluster.world.nodes[node].disks[0];
            disk.live.get(800) != 0
        };
        scene
            .until("on the peer", |cluster| has_it(cluster, 1))
            .unwrap();
        if has_it(&scene.cluster, 0) {
            continue;
        }
        tried += 1;
        scene.cluster.world.net.cut = true;
        scene.cluster.power_off(0);
        scene.cluster.power_on(0);
        scene
            .until("attached", |cluster| cluster.admins[0].is_idle())
            .unwrap();
        scene.cluster.admins[0].add(Command::Primary(0, false));
        scene.cluster.world.nodes[0].disks[0].fail_writes = true;
        scene
            .until("diskless", |cluster| loses_its_disk(cluster, 0))
            .unwrap();
        // While the node is Primary the peer begins a generation for it, and is refused.
        scene.mend();
        for _ in 0..5 {
            scene
                .until("refused, or connected", |cluster| {
                    let state = cluster.state(0, 0);
                    state.is_some_and(|state| {
                        matches!(state.conn, ConnState::StandAlone | ConnState::Connected)
                    })
                })
                .unwrap();
            scene.connect();
        }
        assert_eq!(scene.end(), Ok(()), "seed {seed}");
    }
    assert!(tried > 0);
}

/// Seed 148209: the Primary's disk fails, the peer does not hear of it, and both lose power. The
/// peer's disk alone has what was written with forced unit access, and is the one to be
/// overwritten: that of the Primary counts as that of a crashed one.
#[test]
fn what_was_forced_on_the_peers_disk_alone_is_lost_if_its_node_has_not_heard_of_that() {
    let blocks = 0..8;
    let has_them = |cluster: &Cluster, node: usize| {
        let disk = &cluster.world.nodes[node].disks[0].live;
        blocks.clone().all(|block| disk.get(64 * block) != 0)
    };
    let mut tried = 0;
    for seed in 1..40 {
        for first in 0..2 {
            let mut faults = Faults::none();
            faults.disk_latency_ns = (MILLI, 40 * MILLI);
            let mut scene = Scene::with_seed(seed, faults).unwrap();
            for block in blocks.clone() {
                scene.write(64 * block, 8);
            }
            scene
                .until("on the peer", |cluster| has_them(cluster, 1))
                .unwrap();
            if has_them(&scene.cluster, 0) {
                continue;
            }
            tried += 1;
            scene.stall_data(1).unwrap();
            scene.cluster.world.nodes[0].disks[0].fail_writes = true;
            scene
                .until("diskless", |cluster| loses_its_disk(cluster, 0))
                .unwrap();
            scene.written().unwrap();
            for node in [first, 1 - first] {
                scene.cluster.power_off(node);
            }
            assert_eq!(scene.end(), Ok(()), "seed {seed}, {first} first");
        }
    }
    assert!(tried > 0);
}
