//! States: the vector, which changes are allowed, and what follows from them.

#[expect(clippy::module_inception, reason = "named after what it holds")]
pub mod state;

pub use state::{mask, VolumeState};
