//! More seeds of the simulator, for what the first ones and the unit tests did not notice.

#[test]
fn more_seeds_are_good() {
    drbd_mutation::all_good(40..80);
}
