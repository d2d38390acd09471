//! States: the vector, which changes are allowed, and what follows from them.

pub mod follow_up;
pub mod sanitize;
#[expect(clippy::module_inception, reason = "named after what it holds")]
pub mod state;
pub mod transition;

pub use state::{mask, VolumeState};
pub use transition::{Change, StateError};

#[cfg(test)]
mod tally_tests;
#[cfg(test)]
mod tests;
