//! Nodes that know each other's data find out what to sync, and sync no more than that. Each test
//! also runs with the bug put back that it is about (`Documentation/testing.md`).

use drbd_core::put_back::Bug;
use drbd_format::types::{ConnState, DiskState};

use drbd_sim::admin::Command;
use drbd_sim::faults::Faults;
use drbd_sim::scene::{falls, Outcome, Scene};
use drbd_sim::world::MILLI;

/// A resync is cut off at each of its first moments, several times in a row.
fn break_at_the_start_of_a_resync() -> Outcome {
    for moment in (0..120).step_by(6) {
        let mut faults = Faults::none();
        faults.network.delay_min_ns = MILLI;
        faults.network.delay_max_ns = 3 * MILLI;
        let mut scene = Scene::new(faults)?;
        scene.write_apart(3)?;
        for _ in 0..3 {
            scene.until("begun", |cluster| {
                cluster
                    .state(0, 0)
                    .is_some_and(|state| state.conn >= ConnState::Connected)
            })?;
            scene.steps(moment)?;
            scene.cut()?;
            scene.write(8000, 8);
            scene.written()?;
            scene.mend();
        }
        scene.end()?;
    }
    Ok(())
}

/// Regression 6.
#[test]
fn the_history_keeps_the_common_ancestor() {
    falls(Bug::PeerBitmapUuidInHistory, break_at_the_start_of_a_resync);
}

/// Regression 7.
#[test]
fn a_break_at_the_start_of_a_resync_does_not_make_it_a_full_one() {
    falls(
        Bug::FullSyncAfterBreakAtStart,
        break_at_the_start_of_a_resync,
    );
}

/// Regression 8: the node with the better data is promoted at each moment of the handshake.
#[test]
fn a_promotion_during_the_handshake_leaves_nobody_behind() {
    falls(Bug::PromotionDuringHandshake, || {
        for moment in (0..120).step_by(4) {
            let mut scene = Scene::new(Faults::none())?;
            scene.command(0, Command::Disconnect)?;
            scene.write(800, 8);
            scene.written()?;
            scene.close();
            scene.command(0, Command::Secondary(0))?;
            scene.connect();
            scene.until_conn(0, ConnState::WfReportParams)?;
            scene.steps(moment)?;
            scene.cluster.admins[0].add(Command::Primary(0, false));
            scene.end()?;
        }
        Ok(())
    });
}

/// Seed 3476 with a C node: a Primary without a disk, which lives on that of its peer, attaches its
/// own old one, and the peer's fails before it was compared.
#[test]
fn an_old_disk_is_not_taken_for_good_when_that_of_the_peer_fails() {
    for moment in 0..30 {
        let mut faults = Faults::none();
        faults.disk_latency_ns = (MILLI, MILLI);
        faults.network.delay_min_ns = 5 * MILLI;
        faults.network.delay_max_ns = 10 * MILLI;
        let mut scene = Scene::with_seed(1 + moment, faults).unwrap();
        scene.write(800, 8);
        scene.written().unwrap();
        let fails = |scene: &mut Scene, node: usize, fails| {
            scene.cluster.world.nodes[node].disks[0].fail_reads = fails;
        };
        fails(&mut scene, 0, true);
        scene.read(800, 8);
        scene
            .until("diskless", |cluster| {
                let state = cluster.state(0, 0);
                state.is_some_and(|state| state.disk == DiskState::Diskless)
            })
            .unwrap();
        scene.written().unwrap();
        scene.write(800, 8);
        scene.written().unwrap();
        fails(&mut scene, 0, false);
        fails(&mut scene, 1, true);
        scene.read(1600, 8);
        scene.steps(moment).unwrap();
        scene.cluster.admins[0].add(Command::Attach(0));
        scene
            .until("attached, or not", |cluster| {
                let state = cluster.state(0, 0);
                let open = [DiskState::Attaching, DiskState::Negotiating];
                cluster.admins[0].is_idle()
                    && state.is_some_and(|state| !open.contains(&state.disk))
            })
            .unwrap();
        scene.read(800, 8);
        assert_eq!(scene.end(), Ok(()), "after {moment} events");
    }
}
