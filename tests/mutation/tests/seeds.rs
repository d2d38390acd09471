//! The first seeds of the simulator and its directed scenes.

#[path = "../../sim/tests/directed.rs"]
mod directed;
#[path = "../../sim/tests/generations.rs"]
mod generations;
#[path = "../../sim/tests/lost_write.rs"]
mod lost_write;
#[path = "../../sim/tests/promises.rs"]
mod promises;
#[path = "../../sim/tests/resize.rs"]
mod resize;
#[path = "../../sim/tests/stuck.rs"]
mod stuck;
#[path = "../../sim/tests/suspend.rs"]
mod suspend;

#[test]
fn the_first_seeds_are_good() {
    drbd_mutation::all_good(0..40);
}
