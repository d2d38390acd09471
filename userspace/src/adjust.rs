//! From the resources as configured to the helper commands that make the kernel agree.
//!
//! Everything here is a function from values to values; `commands::adm` carries the results out.

pub(crate) mod call;
pub(crate) mod diff;
pub(crate) mod plan;
