//! Cuts of the network at random points under load, short and long, also in the middle of a resync.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::storm::Storm;
use super::Scenario;
use crate::bed::Bed;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "fault_net_cut",
    shows: "N cuts of the network under load: both sides reconnect and converge, nothing is lost",
    run,
};

fn run(bed: &Bed) -> Result<()> {
    let mut storm = Storm::begin(bed, SCENARIO.name)?;
    let rounds = bed.rounds.unwrap_or(20);
    for round in 1..=rounds {
        storm
            .pair
            .steps
            .say(&format!("== cut {round} of {rounds}, SEED={}", bed.seed));
        cut(&mut storm)
            .with_context(|| format!("cut {round} of {rounds}; repeat with SEED={}", bed.seed))?;
    }
    println!(
        "network cut: {rounds} rounds, {} acknowledged writes, none lost",
        storm.acks.count
    );
    storm.end()
}

fn cut(storm: &mut Storm) -> Result<()> {
    storm.mark_logs();
    storm.start_load()?;
    let before = storm.draw(1200) + 1;
    storm.wait_acks(before, 60)?;
    storm.pair.net.cut();
    let quiet = match storm.draw(3) {
        // Too short to be noticed, or just at the edge.
        0 => {
            let length_ms = storm.draw(2500);
            thread::sleep(Duration::from_millis(length_ms));
            false
        }
        // Noticed; the Primary goes on alone.
        1 => {
            let alone = storm.draw(300) + 1;
            storm.wait_acks(alone, 60)?;
            false
        }
        _ => {
            let alone = storm.draw(300) + 1;
            storm.wait_acks(alone, 60)?;
            storm.stop_load()?;
            true
        }
    };
    storm.pair.net.heal();
    if storm.draw(2) == 0 {
        // Once more, somewhere in reconnection or resync.
        let after_ms = storm.draw(1500);
        thread::sleep(Duration::from_millis(after_ms));
        storm.pair.net.cut();
        let length_ms = storm.draw(2000);
        thread::sleep(Duration::from_millis(length_ms));
        storm.pair.net.heal();
    }
    if !quiet {
        // Written to all the time, also while connecting and resyncing.
        storm.wait_acks(50, 60)?;
    }
    storm.wait_whole(120)?;
    if !quiet {
        storm.stop_load()?;
    }
    storm.check()
}
