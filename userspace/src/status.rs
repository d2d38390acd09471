//! What the kernel says about its objects, and how it is printed.

pub(crate) mod gi;
pub(crate) mod json;
pub(crate) mod model;
pub(crate) mod text;
