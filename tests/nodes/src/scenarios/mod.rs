//! The scenarios, one file each, named area_what.

mod bad_config;
mod bad_metadata;
mod bad_peer;
mod disk_exchange;
mod fault_net_cut;
mod fault_power_loss;
mod format_record;
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
    bad_config::SCENARIO,
    bad_metadata::SCENARIO,
    bad_peer::SCENARIO,
    fault_power_loss::SCENARIO,
    fault_net_cut::SCENARIO,
    format_record::SCENARIO,
];

/// The lab for a person to watch.
pub(crate) fn demo(bed: &Bed) -> Result<()> {
    lab_seed::run(bed)
}
