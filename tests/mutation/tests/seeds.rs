//! The first seeds of the simulator.

#[test]
fn the_first_seeds_are_good() {
    drbd_mutation::all_good(0..15);
}
