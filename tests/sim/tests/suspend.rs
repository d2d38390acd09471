//! While I/O is suspended nothing moves. Each test also runs with the bug put back that it is about
//! (`Documentation/testing.md`).

use drbd_core::put_back::Bug;

use drbd_sim::admin::Command;
use drbd_sim::faults::Faults;
use drbd_sim::scene::{falls, Outcome, Scene};
use drbd_sim::world::SECOND;

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
