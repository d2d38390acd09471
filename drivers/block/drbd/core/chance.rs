//! Hook for branches that are legal but unlikely.
//!
//! In the kernel [`unlikely`] is constant `false` and the compiler removes the branch. A simulator
//! that wants to see such a branch taken calls the code with its own conditions instead; the hook
//! marks the places in the source.

/// Tells whether an unlikely but legal branch shall be taken on purpose.
#[inline]
pub const fn unlikely() -> bool {
    false
}
