//! Documentation/states.md.

use std::path::Path;

use drbd_sim::cluster::{Cluster, HEAL_LIMIT_NS};
use drbd_sim::faults::Faults;

#[test]
fn the_state_diagram_shows_every_change_that_runs_make() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Documentation/states.md");
    let page = std::fs::read_to_string(path).expect("Documentation/states.md");
    for seed in 0..10 {
        let mut cluster = Cluster::new(seed, Faults::draw(seed));
        drbd_sim::complete_run(&mut cluster, 100, HEAL_LIMIT_NS);
        for line in cluster.world.diagram.lines().concat() {
            let known = page.lines().any(|known| known == line);
            assert!(known, "seed {seed}: {line} is not in the diagram");
        }
    }
}
