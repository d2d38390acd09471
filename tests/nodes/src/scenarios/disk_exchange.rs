//! Disks written by one driver attach under the other: after a clean stop and after the crash of a
//! Primary under load.

use anyhow::{Context, Result};

use super::storm::Storm;
use super::Scenario;
use crate::bed::Bed;
use crate::node::Driver;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "disk_exchange",
    shows: "both disks change drivers, cleanly and after a crash under load: nothing is lost",
    run,
};

/// Which modules M and S run, turn by turn; a node that changes runs on the other's disk format.
const TURNS: [[Driver; 2]; 4] = [
    [Driver::C, Driver::Ours],
    [Driver::Ours, Driver::C],
    [Driver::Ours, Driver::Ours],
    [Driver::C, Driver::C],
];

fn run(bed: &Bed) -> Result<()> {
    let mut storm = Storm::begin(bed, SCENARIO.name)?;
    let only_c = bed.pairing.drivers == [Driver::C; 2];
    for turn in 0..bed.rounds.unwrap_or(4) {
        for crash in [false, true] {
            let drivers = if only_c {
                [Driver::C; 2]
            } else {
                TURNS[turn as usize % TURNS.len()]
            };
            storm
                .pair
                .steps
                .say(&format!("== to {drivers:?}, crash: {crash}"));
            exchange(&mut storm, bed, drivers, crash)
                .with_context(|| format!("to {drivers:?}, crash: {crash}, SEED={}", bed.seed))?;
        }
    }
    storm.end()
}

fn exchange(storm: &mut Storm, bed: &Bed, drivers: [Driver; 2], crash: bool) -> Result<()> {
    storm.mark_logs();
    storm.start_load()?;
    let writes = storm.draw(900) + 100;
    storm.wait_acks(writes, 60)?;
    if !crash {
        storm.stop_load()?;
        storm
            .node(storm.primary)
            .run("drbdadm secondary resftp")?
            .ok()?;
        storm.pair.run_both("drbdadm down resftp && rmmod drbd")?;
    }
    storm.node_mut(storm.primary).power_off();
    storm.node_mut(1 - storm.primary).power_off();
    storm.pair.require_quiet_kernels()?;
    storm.pair.set_drivers(bed, drivers)?;
    storm.pair.power_on()?;
    storm.pair.run_both("modprobe drbd && drbdadm up resftp")?;
    storm.wait_whole(120)?;
    storm
        .node(storm.primary)
        .run("drbdadm primary resftp")?
        .ok()?;
    storm.check()
}
