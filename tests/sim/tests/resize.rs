//! A device that grows keeps its data, its marks and its size. Some tests also run with the bug
//! put back that they are about (`Documentation/testing.md`).

use drbd_core::put_back::Bug;

use drbd_sim::admin::Command;
use drbd_sim::faults::Faults;
use drbd_sim::scene::{falls, Scene};
use drbd_sim::world::MILLI;

const FIRST: u64 = 270_000;

fn growing() -> Faults {
    let mut faults = Faults::none();
    faults.volatile = false;
    faults.extras.first_sectors = Some(FIRST);
    faults.disk_sectors = 800_000;
    faults
}

fn grow(scene: &mut Scene, sectors: u64) {
    scene.cluster.world.sizes[0] = sectors;
    scene.cluster.admins[0].add(Command::Resize(0));
}

/// Regression 15: writes wait for the activity log while the size changes.
#[test]
fn a_resize_and_the_activity_log_do_not_wait_for_each_other() {
    falls(Bug::ResizeAgainstActivityLog, || {
        let mut faults = growing();
        faults.extras.log_slots = Some(2);
        let mut scene = Scene::new(faults)?;
        for extent in 0..20 {
            scene.write(8192 * extent, 8);
        }
        grow(&mut scene, 2 * FIRST);
        scene.end()
    });
}

/// Regression 16.
#[test]
fn a_new_size_survives_a_crash() {
    falls(Bug::MetadataNotWrittenOnResize, || {
        let mut scene = Scene::new(growing())?;
        scene.command(0, Command::Disconnect)?;
        grow(&mut scene, 2 * FIRST);
        scene.until("grown", |cluster| cluster.admins[0].is_idle())?;
        scene.write(2 * FIRST - 8, 8);
        scene.written()?;
        scene.cluster.power_off(0);
        scene.cluster.power_on(0);
        scene.end()
    });
}

/// Regression 17: new space is written to, leaves the activity log, and the node crashes.
#[test]
fn the_bitmap_of_new_space_survives_a_crash() {
    falls(Bug::BitmapNotWrittenOnResize, || {
        let mut faults = growing();
        faults.extras.log_slots = Some(2);
        let mut scene = Scene::new(faults)?;
        scene.command(0, Command::Disconnect)?;
        grow(&mut scene, 2 * FIRST);
        scene.until("grown", |cluster| cluster.admins[0].is_idle())?;
        for sector in [2 * FIRST - 8, 0, 8192, 2 * 8192, 3 * 8192] {
            scene.write(sector, 8);
            scene.written()?;
        }
        scene.cluster.power_off(0);
        scene.cluster.power_on(0);
        scene.end()
    });
}

/// A node that learns of a larger size while it connects gets the new space with the bitmap, and
/// does not wait for a second resync that nobody begins.
#[test]
fn space_that_came_while_connecting_is_synced_once() -> Result<(), String> {
    for moment in (0..60).step_by(3) {
        let mut faults = growing();
        faults.network.delay_max_ns = 2 * MILLI;
        let mut scene = Scene::new(faults)?;
        grow(&mut scene, 2 * FIRST);
        scene.steps(moment)?;
        scene.cut()?;
        scene.write(800, 8);
        scene.end()?;
    }
    Ok(())
}

/// A node learns of a larger size in the moment it becomes the target of a resync: that one covers
/// the new space, and no second one begins of which the source knows nothing.
#[test]
fn space_that_comes_while_a_resync_begins_is_synced_with_it() -> Result<(), String> {
    let mut scene = Scene::new(growing())?;
    scene.stall_data(1)?;
    grow(&mut scene, 2 * FIRST);
    scene.until("grown", |cluster| cluster.admins[0].is_idle())?;
    scene.command(1, Command::Invalidate(0))?;
    scene.end()
}
