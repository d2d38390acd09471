//! Reads the files into the model.
//!
//! The grammar is that of `reference/userland.md 1.2`, including the two pseudo host sections of
//! `drbdsetup show`. Reading stops at the first mistake: behind it the structure is lost.
//! What can only be judged with everything in view is left to `check`.

mod cursor;
mod host;
mod options;
mod top;

pub(crate) use cursor::is_keyword;
pub(crate) use host::missing;
pub(crate) use top::{conflict, parse, parse_after, parse_running, Claims};
