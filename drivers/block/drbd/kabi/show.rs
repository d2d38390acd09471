// SPDX-License-Identifier: GPL-2.0-only

//! Prints values of the two crates that know nothing of the kernel.

use core::fmt;

/// Makes a value printable with `pr_info!` and `fmt!`, which want the kernel's own trait:
/// `pr_info!("{}\n", Show(state))`.
pub(crate) struct Show<T>(pub(crate) T);

impl<T: fmt::Display> kernel::fmt::Display for Show<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
