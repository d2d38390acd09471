//! Power loss of either node at random points under load: nothing acknowledged is lost.

use anyhow::{Context, Result};

use super::storm::Storm;
use super::Scenario;
use crate::bed::Bed;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "fault_power_loss",
    shows: "N power cuts of Primary or Secondary under load: no acknowledged write is lost",
    run,
};

fn run(bed: &Bed) -> Result<()> {
    let mut storm = Storm::begin(bed, SCENARIO.name)?;
    let rounds = bed.rounds.unwrap_or(20);
    for round in 1..=rounds {
        storm.pair.steps.say(&format!(
            "== power loss {round} of {rounds}, SEED={}",
            bed.seed
        ));
        power_loss(&mut storm).with_context(|| {
            format!(
                "power loss {round} of {rounds}; repeat with SEED={}",
                bed.seed
            )
        })?;
    }
    println!(
        "power loss: {rounds} rounds, {} acknowledged writes, none lost",
        storm.acks.count
    );
    storm.end()
}

fn power_loss(storm: &mut Storm) -> Result<()> {
    storm.mark_logs();
    storm.start_load()?;
    let before = storm.draw(1200) + 1;
    storm.wait_acks(before, 60)?;
    if storm.draw(2) == 0 {
        lose_secondary(storm)?;
    } else {
        lose_primary(storm)?;
    }
    storm.check()
}

/// The Primary goes on alone; the Secondary comes back to a bitmap resync.
fn lose_secondary(storm: &mut Storm) -> Result<()> {
    let victim = 1 - storm.primary;
    storm.node_mut(victim).power_off();
    let alone = storm.draw(300) + 1;
    storm.wait_acks(alone, 60)?;
    let quiet = storm.draw(2) == 0;
    if quiet {
        storm.stop_load()?;
    }
    storm.revive(victim)?;
    storm.wait_whole(120)?;
    if quiet {
        Ok(())
    } else {
        storm.stop_load()
    }
}

/// Either the Secondary takes over, or the crashed Primary comes back and replays its log.
fn lose_primary(storm: &mut Storm) -> Result<()> {
    let victim = storm.primary;
    let survivor = 1 - victim;
    storm.node_mut(victim).power_off();
    let take_over = storm.draw(2) == 0;
    if take_over {
        storm.node(survivor).wait_proc(&["cs:WFConnection"], 60)?;
        storm.node(survivor).run("drbdadm primary resftp")?.ok()?;
        storm.primary = survivor;
        storm.start_load()?;
        let alone = storm.draw(300) + 1;
        storm.wait_acks(alone, 60)?;
        storm.stop_load()?;
    }
    storm.revive(victim)?;
    storm.wait_whole(120)?;
    if !take_over {
        storm.node(victim).run("drbdadm primary resftp")?.ok()?;
    }
    Ok(())
}
