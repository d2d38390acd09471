//! No acknowledged write is lost. Each test also runs with the bug put back that it is about; the
//! numbers are those of the table in `Documentation/testing.md`.

use drbd_core::link::VolumeIndex;
use drbd_core::put_back::Bug;
use drbd_format::types::{ConnState, DiskState, Protocol};

use drbd_sim::admin::Command;
use drbd_sim::faults::{Fault, Faults};
use drbd_sim::scene::{falls, Outcome, Scene};
use drbd_sim::world::MILLI;

fn slow_network() -> Faults {
    let mut faults = Faults::none();
    faults.network.delay_min_ns = 5 * MILLI;
    faults.network.delay_max_ns = 20 * MILLI;
    faults.volatile = false;
    faults
}

/// The application writes all the time while the bitmaps are exchanged and the resync begins.
fn write_while_the_bitmaps_travel() -> Outcome {
    let mut scene = Scene::new(slow_network())?;
    scene.write_apart(3)?;
    scene.until_conn(0, ConnState::WfBitMapS)?;
    for place in 0..2000 {
        if scene.state(0).conn != ConnState::WfBitMapS {
            break;
        }
        scene.write(8000 + 8 * place, 8);
        scene.steps(1)?;
    }
    scene.end()
}

/// Regression 1.
#[test]
fn a_write_that_races_with_a_short_resync_is_synced() {
    falls(Bug::WriteDuringShortResync, write_while_the_bitmaps_travel);
}

/// Regression 2.
#[test]
fn a_write_while_the_bitmaps_travel_is_sent_or_marked() {
    falls(Bug::WriteWhileBitmapsTravel, write_while_the_bitmaps_travel);
}

/// Regression 3.
#[test]
fn a_write_that_the_peers_disk_refuses_is_marked() {
    for protocol in [Protocol::A, Protocol::B] {
        falls(Bug::PeerWriteErrorForgotten, || {
            let mut faults = Faults::none();
            faults.protocol = protocol;
            let mut scene = Scene::new(faults)?;
            scene.cluster.world.nodes[1].disks[0].fail_writes = true;
            scene.write(800, 8);
            scene.written()?;
            scene.until("given up", |cluster| {
                cluster
                    .state(1, 0)
                    .is_some_and(|state| state.disk < drbd_format::types::DiskState::Attaching)
            })?;
            scene.end()
        });
    }
}

/// Regression 4: the primary crashes, the resync after that is cut short, and both nodes still
/// have the same generation.
#[test]
fn bits_count_when_both_generations_are_equal() {
    falls(Bug::BitsDroppedAtEqualGenerations, || {
        let mut scene = Scene::new(slow_network())?;
        scene.cluster.world.net.cut = true;
        scene.write(800, 8);
        scene.until("on one disk only", |cluster| {
            let [a, b] = &cluster.world.nodes;
            !a.disks[0]
                .live
                .differing_blocks(&b.disks[0].live)
                .is_empty()
        })?;
        scene.cluster.power_off(0);
        scene.until_conn(1, ConnState::WfConnection)?;
        scene.mend();
        scene.until_conn(0, ConnState::WfBitMapS)?;
        scene.cut()?;
        scene.mend();
        scene.until_conn(0, ConnState::Connected)?;
        scene.end()
    });
}

/// Regression 5: protocol B has promised writes that wait behind others for the survivor's disk.
#[test]
fn a_survivor_is_promoted_when_the_writes_of_the_lost_primary_are_done() {
    falls(Bug::SurvivorPromotedUnreconciled, || {
        let mut faults = Faults::none();
        faults.protocol = Protocol::B;
        faults.max_epoch_size = 1;
        faults.disk_latency_ns = (20 * MILLI, 40 * MILLI);
        let mut scene = Scene::new(faults)?;
        for place in 0..8 {
            scene.write(800 + 8 * place, 8);
        }
        scene.written()?;
        for place in 0..8 {
            scene.write(800 + 8 * place, 8);
        }
        scene.written()?;
        scene.cause(Fault::Reset, 0);
        scene.cluster.power_off(0);
        scene.until("lost", |cluster| {
            cluster
                .state(1, 0)
                .is_some_and(|state| state.conn < ConnState::Connected)
        })?;
        scene.command(1, Command::Primary(0, false))?;
        scene.end()
    });
}

/// The resync has been aborted when its target acknowledges the last block: the Primary has
/// overwritten that block since, without the target.
#[test]
fn an_ack_of_a_resync_that_was_aborted_forgets_no_later_write() {
    for seed in 1..10 {
        let mut faults = Faults::none();
        faults.disk_latency_ns = (MILLI, 40 * MILLI);
        let mut scene = Scene::with_seed(seed, faults).unwrap();
        scene.write_apart(1).unwrap();
        scene
            .until("written by the resync", |cluster| {
                let core = cluster.world.core(1);
                core.is_some_and(|core| core.counters(VolumeIndex(0)).local > 0)
            })
            .unwrap();
        scene.cluster.admins[1].add(Command::Detach(0));
        scene.until_conn(0, ConnState::Connected).unwrap();
        scene.write(0, 8);
        assert_eq!(scene.end(), Ok(()));
    }
}

/// Protocol A has promised writes that wait for the disk of the node that becomes Primary next.
#[test]
fn a_node_is_promoted_when_the_writes_of_the_last_primary_are_done() {
    let scenario = || {
        let mut faults = Faults::none();
        faults.protocol = Protocol::A;
        faults.max_epoch_size = 1;
        faults.disk_latency_ns = (20 * MILLI, 40 * MILLI);
        let mut scene = Scene::new(faults)?;
        for place in 0..24 {
            scene.write(800 + 8 * place, 8);
        }
        scene.written()?;
        scene.close();
        scene.command(0, Command::Secondary(0))?;
        scene.command(1, Command::Primary(0, false))?;
        scene.end()
    };
    assert_eq!(scenario(), Ok(()));
}

/// Regression 27.
#[test]
fn resync_and_application_writes_keep_their_order_on_the_target() {
    falls(Bug::ResyncWriteOvertakes, || {
        for seed in 1..10 {
            let mut faults = Faults::none();
            faults.disk_latency_ns = (100_000, 5 * MILLI);
            let mut scene = Scene::with_seed(seed, faults)?;
            scene.write_apart(8)?;
            scene.until("read for the target", |cluster| {
                let core = cluster.world.core(0);
                core.is_some_and(|core| core.counters(VolumeIndex(0)).local > 0)
            })?;
            for block in 0..8 {
                scene.write(64 * block, 8);
            }
            scene.end()?;
        }
        Ok(())
    });
}

/// Regression 28: more extents are written to than the activity log has slots.
#[test]
fn a_write_waits_for_room_in_the_activity_log() {
    falls(Bug::FullActivityLogIgnored, || {
        for moment in (0..200).step_by(10) {
            let mut faults = Faults::none();
            faults.disk_sectors = 400_000;
            faults.volatile = false;
            faults.extras.log_slots = Some(2);
            let mut scene = Scene::new(faults)?;
            for extent in 0..20 {
                scene.write(8192 * extent, 8);
            }
            scene.steps(moment)?;
            scene.cluster.power_off(0);
            scene.end()?;
        }
        Ok(())
    });
}

/// Regression 30: a guest changes the buffer of a write that is under way.
#[test]
fn both_disks_get_the_same_data_of_a_write() {
    falls(Bug::StablePagesLost, || {
        let mut scene = Scene::new(Faults::none())?;
        scene.write(800, 8);
        scene.cluster.world.edit_in_flight(0);
        scene.end()
    });
}

/// The own disk fails in the middle of a write, the peer has it, and no word of the peer's new
/// generation comes back: a disk without that write is not what applications have seen.
#[test]
fn a_disk_that_failed_a_write_which_the_peer_has_does_not_come_back_alone() -> Outcome {
    let mut scene = Scene::new(Faults::none())?;
    // The second write finds its extent in the activity log.
    scene.write(800, 8);
    scene.written()?;
    scene.stall_data(0)?;
    scene.cluster.world.nodes[0].disks[0].fail_writes = true;
    scene.write(800, 8);
    scene.written()?;
    scene.cluster.power_off(1);
    scene.until_conn(0, ConnState::WfConnection)?;
    scene.cluster.world.nodes[0].disks[0].fail_writes = false;
    scene.command(0, Command::Attach(0))?;
    assert_eq!(scene.state(0).disk, DiskState::Diskless);
    scene.end()
}

/// In protocol A writes are still on their way when the Primary steps back; then the link is lost.
#[test]
fn writes_on_their_way_at_a_demotion_are_synced() {
    let mut faults = Faults::none();
    faults.protocol = Protocol::A;
    let mut scene = Scene::new(faults).unwrap();
    scene.cluster.world.net.cut = true;
    scene.write(0, 8);
    scene.written().unwrap();
    scene.close();
    scene.command(0, Command::Secondary(0)).unwrap();
    scene.cut().unwrap();
    scene.mend();
    assert_eq!(scene.end(), Ok(()));
}

/// The news waited for the superblock of the other volume; the writes did not.
#[test]
fn the_peer_hears_of_a_failed_disk_in_time_whatever_another_volume_does() {
    for seed in 1..40 {
        let mut faults = Faults::none();
        faults.volumes = 2;
        faults.disk_latency_ns = (MILLI, 40 * MILLI);
        let mut scene = Scene::with_seed(seed, faults).unwrap();
        scene.cluster.admins[1].add(Command::Detach(1));
        scene
            .until("a new generation", |cluster| {
                let state = cluster.state(0, 1);
                state.is_some_and(|state| state.pdsk < DiskState::Inconsistent)
            })
            .unwrap();
        scene.cluster.world.nodes[0].disks[0].fail_writes = true;
        for place in 0..8 {
            scene.write(800 + 8 * place, 8);
        }
        scene
            .until("failed", |cluster| {
                let state = cluster.state(0, 0);
                state.is_some_and(|state| state.disk <= DiskState::Failed)
            })
            .unwrap();
        for place in 0..8 {
            scene.write(8000 + 8 * place, 8);
        }
        assert_eq!(scene.written(), Ok(()), "seed {seed}");
        scene.cluster.world.nodes[0].disks[0].fail_writes = false;
        assert_eq!(scene.end(), Ok(()), "seed {seed}");
    }
}
