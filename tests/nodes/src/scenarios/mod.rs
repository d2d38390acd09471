//! The scenarios, one file each, named area_what.

mod format_record;
mod lab_seed;
mod module_load;
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
    format_record::SCENARIO,
];
