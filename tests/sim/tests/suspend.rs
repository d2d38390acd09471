//! While I/O is suspended nothing moves, and what changes meanwhile is noticed. Most tests also run
//! with the bug put back that they are about (`Documentation/testing.md`).

use drbd_core::put_back::Bug;
use drbd_format::types::ConnState;

use drbd_sim::admin::Command;
use drbd_sim::faults::Faults;
use drbd_sim::scene::{falls, Outcome, Scene};
use drbd_sim::world::{MILLI, SECOND};

/// I/O is suspended at each moment of some writes, to hot extents and to cold ones.
fn suspend_at_any_moment() -> Outcome {
    for moment in (0..80).step_by(4) {
        let mut faults = Faults::none();
        faults.disk_sectors = 400_000;
        let mut scene = Scene::new(faults)?;
        scene.write(800, 8);
        scene.written()?;
        for place in 0..8 {
            scene.write(800 + 8 * place, 8);
            scene.write(8192 * (2 + place), 8);
        }
        scene.steps(moment)?;
        scene.command(0, Command::SuspendIo(0))?;
        scene.cluster.run_for(2 * SECOND);
        scene.command(0, Command::ResumeIo(0))?;
        scene.end()?;
    }
    Ok(())
}

/// Regression 12.
#[test]
fn no_request_completes_while_io_is_suspended() {
    falls(Bug::CompletionWhileSuspended, suspend_at_any_moment);
}

/// Regression 13.
#[test]
fn suspending_waits_for_what_is_under_way() {
    falls(Bug::SuspendReturnsEarly, suspend_at_any_moment);
}

/// Regression 14.
#[test]
fn no_request_begins_while_io_is_suspended() {
    falls(Bug::SuspendRacesWithSubmit, suspend_at_any_moment);
}

/// The peer comes back without its disk while I/O is suspended, and has it again later. What is
/// written meanwhile is not there, and the generations must tell.
#[test]
fn a_peer_that_came_back_without_its_disk_gets_what_it_missed() {
    let outcome = (|| {
        let mut faults = Faults::none();
        faults.volumes = 2;
        let mut scene = Scene::new(faults)?;
        scene.command(0, Command::SuspendIo(0))?;
        scene.cut()?;
        scene.command(1, Command::Detach(0))?;
        scene.mend();
        scene.until_conn(0, ConnState::Connected)?;
        scene.cut()?;
        scene.command(0, Command::ResumeIo(0))?;
        scene.write(800, 8);
        scene.written()?;
        scene.command(1, Command::Attach(0))?;
        scene.end()
    })();
    assert_eq!(outcome, Ok(()));
}

/// The peer gives up its disk and has it again while I/O is suspended: writes that were under way
/// are not there.
#[test]
fn a_peer_that_had_its_disk_off_while_io_was_suspended_is_synced() {
    let scenario = |moment| {
        let mut faults = Faults::none();
        faults.disk_latency_ns = (MILLI, 40 * MILLI);
        faults.max_epoch_size = 1;
        let mut scene = Scene::new(faults)?;
        for place in 0..20 {
            scene.write(800 + 8 * place, 8);
        }
        scene.steps(moment)?;
        scene.cluster.admins[0].add(Command::SuspendIo(0));
        scene.command(1, Command::Detach(0))?;
        scene.command(1, Command::Attach(0))?;
        scene.cluster.run_for(SECOND);
        scene.command(0, Command::ResumeIo(0))?;
        scene.end()
    };
    let outcomes: Vec<_> = (0..300).step_by(20).map(|at| (at, scenario(at))).collect();
    let bad: Vec<_> = outcomes.iter().filter(|(_, it)| it.is_err()).collect();
    assert!(bad.is_empty(), "{bad:?}");
}
