//! The scenarios, one file each, named area_what.

mod bad_config;
mod bad_metadata;
mod bad_peer;
mod disk_changes;
mod disk_exchange;
mod disk_hangs;
mod fault_net_cut;
mod fault_power_loss;
mod format_record;
mod helper_waits;
mod lab_seed;
mod module_load;
mod pair_mixed;
mod storm;
pub(crate) mod tools;

use anyhow::Result;

use crate::bed::Bed;

/// A scenario: a name, a sentence, and what to do.
pub(crate) struct Scenario {
    /// Name for `drbd-nodes run`.
    pub(crate) name: &'static str,
    /// What it shows, in one sentence.
    pub(crate) shows: &'static str,
    /// Does it; fails with the reason.
    pub(crate) run: fn(&Bed) -> Result<()>,
}

/// Every scenario.
pub(crate) const ALL: &[Scenario] = &[
    module_load::SCENARIO,
    lab_seed::SCENARIO,
    pair_mixed::SCENARIO,
    disk_exchange::SCENARIO,
    disk_hangs::SCENARIO,
    disk_changes::SCENARIO,
    helper_waits::SCENARIO,
    bad_config::SCENARIO,
    bad_metadata::SCENARIO,
    bad_peer::SCENARIO,
    fault_power_loss::SCENARIO,
    fault_net_cut::SCENARIO,
    format_record::SCENARIO,
];

/// What `make test` runs: a scenario and the words that say with what.
pub(crate) const TESTS: &[(&Scenario, &str)] = &[
    (&module_load::SCENARIO, "pair=ours"),
    (&lab_seed::SCENARIO, "pair=ours tools=ours"),
    (&lab_seed::SCENARIO, "pair=ours tools=utils"),
    (&pair_mixed::SCENARIO, "pair=ours"),
    (&pair_mixed::SCENARIO, "pair=ours/c"),
    (&pair_mixed::SCENARIO, "pair=c/ours tools=utils/ours"),
    (&disk_exchange::SCENARIO, "pair=ours/c"),
    (&disk_hangs::SCENARIO, "pair=ours"),
    (&disk_changes::SCENARIO, "pair=ours"),
    (&helper_waits::SCENARIO, "pair=ours"),
    (&bad_config::SCENARIO, "pair=ours"),
    (&bad_config::SCENARIO, "pair=ours/c"),
    (&bad_metadata::SCENARIO, "pair=ours"),
    (&bad_peer::SCENARIO, "pair=ours"),
    (&fault_power_loss::SCENARIO, "pair=ours N=10"),
    (&fault_power_loss::SCENARIO, "pair=ours/c N=5"),
    (&fault_power_loss::SCENARIO, "pair=c/ours N=5"),
    (&fault_net_cut::SCENARIO, "pair=ours N=10"),
    (&fault_net_cut::SCENARIO, "pair=ours/c N=5"),
    (&fault_net_cut::SCENARIO, "pair=c/ours N=5"),
];

/// The lab for a person to watch.
pub(crate) fn demo(bed: &Bed) -> Result<()> {
    lab_seed::run(bed)
}
