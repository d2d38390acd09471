//! Nobody waits for ever, and nothing is held for ever. Each test also runs with the bug put back
//! that it is about (`Documentation/testing.md`).

use drbd_core::put_back::Bug;
use drbd_format::types::{ConnState, Protocol};

use drbd_sim::admin::Command;
use drbd_sim::faults::{Fault, Faults};
use drbd_sim::scene::{falls, Outcome, Scene};
use drbd_sim::world::MILLI;

fn a_short_resync() -> Outcome {
    let mut scene = Scene::new(Faults::none())?;
    scene.write_apart(3)?;
    scene.until_conn(0, ConnState::SyncSource)?;
    scene.end()
}

/// Regression 9.
#[test]
fn the_source_learns_of_the_end_of_a_resync() {
    falls(Bug::EndOfResyncMissed, a_short_resync);
}

/// Regression 10.
#[test]
fn a_resync_of_no_duration_has_a_speed() {
    falls(Bug::DivideByZeroInterval, a_short_resync);
}

/// Regression 11: the link is lost while the own disk still writes.
#[test]
fn a_write_completes_when_the_own_disk_has_it() {
    falls(Bug::CompletionBeforeLocalDisk, || {
        let mut faults = Faults::none();
        faults.protocol = Protocol::A;
        faults.disk_latency_ns = (30 * MILLI, 40 * MILLI);
        let mut scene = Scene::new(faults)?;
        scene.write(800, 8);
        scene.written()?;
        scene.write(800, 8);
        scene.cause(Fault::Reset, 0);
        scene.end()
    });
}

/// Regression 19: a disconnect comes while the helper fences the peer.
#[test]
fn a_disconnect_does_not_wait_for_the_fencing_helper() {
    falls(Bug::DisconnectWaitsForFencing, || {
        let mut faults = Faults::none();
        faults.extras.fencing = true;
        let mut scene = Scene::new(faults)?;
        scene.write(800, 8);
        scene.written()?;
        scene.cut()?;
        scene.command(0, Command::Disconnect)?;
        scene.connect();
        scene.end()
    });
}

/// Regression 20.
#[test]
fn a_write_that_waited_for_an_overlapping_one_goes_on() {
    falls(Bug::ConflictRestartForgotten, || {
        let mut scene = Scene::new(Faults::none())?;
        scene.write(800, 8);
        scene.written()?;
        scene.write(800, 8);
        scene.write(800, 8);
        scene.end()
    });
}

/// Regression 21: checksums are compared while writes have all slots for requests.
#[test]
fn an_extent_is_given_back_once_when_there_is_no_slot() {
    falls(Bug::PutTwiceOnAllocationFailure, || {
        let mut faults = Faults::none();
        faults.csums = true;
        faults.slots = (256, 5);
        faults.disk_latency_ns = (5 * MILLI, 5 * MILLI);
        let mut scene = Scene::new(faults)?;
        scene.write_apart(200)?;
        scene.until("syncs", |cluster| {
            let state = cluster.state(1, 0);
            state.is_some_and(|state| state.conn == ConnState::SyncTarget)
        })?;
        for block in 0..400 {
            scene.write(8 * block, 8);
        }
        scene.end()
    });
}

/// All slots are with requests of one extent, and the next one has to be locked in vain.
#[test]
fn a_resync_without_a_slot_comes_to_rest() {
    let mut faults = Faults::none();
    faults.csums = true;
    faults.slots = (256, 4);
    faults.disk_latency_ns = (20 * MILLI, 20 * MILLI);
    let mut scene = Scene::new(faults).expect("in sync");
    scene.command(0, Command::Disconnect).expect("apart");
    for block in 0..12 {
        scene.write(32_256 + 64 * block, 8);
    }
    scene.written().expect("written");
    scene.connect();
    assert_eq!(scene.end(), Ok(()));
}

/// Regression 22: the link is lost while replies wait to be sent.
#[test]
fn requests_of_the_peer_end_with_the_connection() {
    falls(Bug::PeerRequestKeptOnList, || {
        let mut faults = Faults::none();
        faults.network.buffer_bytes = 2000;
        faults.network.delay_max_ns = 5 * MILLI;
        let mut scene = Scene::new(faults)?;
        scene.write_apart(300)?;
        scene.until_conn(0, ConnState::SyncSource)?;
        scene.steps(300)?;
        scene.cause(Fault::Reset, 0);
        scene.end()
    });
}

/// Regression 23: an attempt to connect is given up while the peer knocks.
#[test]
fn no_listener_outlives_its_attempt_to_connect() {
    falls(Bug::ListenerOutlivesAttempt, || {
        let mut scene = Scene::new(Faults::none())?;
        for moment in 0..60 {
            scene.command(0, Command::Disconnect)?;
            scene.connect();
            scene.steps(5 + moment)?;
        }
        scene.end()
    });
}

/// Regression 24: a disk fails while transactions are written.
#[test]
fn a_disk_is_closed_when_nothing_is_with_it() {
    falls(Bug::DiskClosedEarly, || {
        for moment in (0..100).step_by(5) {
            let mut faults = Faults::none();
            faults.disk_sectors = 400_000;
            faults.extras.log_slots = Some(2);
            let mut scene = Scene::new(faults)?;
            for extent in 0..20 {
                scene.write(8192 * extent, 8);
            }
            scene.steps(moment)?;
            scene.cluster.admins[0].add(Command::Detach(0));
            scene.end()?;
        }
        Ok(())
    });
}

/// Regression 25.
#[test]
fn a_device_may_end_where_a_page_of_the_bitmap_ends() {
    falls(Bug::BitmapScanAtPageBoundary, || {
        let mut faults = Faults::none();
        faults.extras.pages = Some(1);
        faults.disk_sectors = faults.extras.disk_sectors().ok_or("no such size")?;
        let mut scene = Scene::new(faults)?;
        scene.write_apart(3)?;
        scene.end()
    });
}

/// Regression 29.
#[test]
fn a_read_that_failed_on_the_own_disk_is_answered_by_the_peer() {
    falls(Bug::LocalReadErrorForgotten, || {
        let mut scene = Scene::new(Faults::none())?;
        scene.cluster.world.nodes[0].disks[0].fail_reads = true;
        scene.read(800, 8);
        scene.written()?;
        scene.end()
    });
}

/// The bitmap of a node waits until its applications are done with what they have in flight, here
/// for an ack that is stuck; when the connection goes, it must not wait for the next one.
#[test]
fn a_bitmap_that_waits_for_applications_goes_with_its_connection() -> Outcome {
    let mut scene = Scene::new(Faults::none())?;
    scene.stall_acks()?;
    scene.write(800, 8);
    scene.until("on both disks", |cluster| {
        let [a, b] = &cluster.world.nodes;
        let disks = [&a.disks[0].live, &b.disks[0].live];
        disks.iter().all(|disk| disk.get(800) != 0)
    })?;
    scene.command(1, Command::Detach(0))?;
    scene.command(1, Command::Attach(0))?;
    scene.until_conn(0, ConnState::WfBitMapS)?;
    scene.cause(Fault::Reset, 0);
    scene.end()
}
