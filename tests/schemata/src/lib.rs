//! Builds all changes that cargo-mutants would make into one set of programs, each behind a
//! switch, and tries them one after the other: a build for all of them instead of one for each.
//!
//! Called by `scripts/mutants`.

pub mod compile;
pub mod list;
pub mod results;
pub mod trace;
pub mod trials;
pub mod weave;
