// SPDX-License-Identifier: GPL-2.0-only

//! The module itself: its identity for the kernel, and references that keep it loaded.

use super::ffi;
use kernel::{
    bindings,
    module::this_module,
    prelude::*, //
};

/// The owner of everything that the driver registers.
pub(super) const THIS_MODULE: *mut bindings::module = this_module::<crate::Drbd>().as_ptr();

/// Keeps the module loaded. Any context.
pub(crate) struct ModuleRef(());

impl ModuleRef {
    /// Takes a reference; `None` if the module is being unloaded.
    pub(crate) fn get() -> Option<Self> {
        // SAFETY: A plain call; a reference that was granted is given back by `drop`.
        unsafe { ffi::drbd_helper_module_get() }.then_some(Self(()))
    }
}

impl Drop for ModuleRef {
    fn drop(&mut self) {
        // SAFETY: The value stands for a reference.
        unsafe { ffi::drbd_helper_module_put() };
    }
}

/// The checksum of the module's sources as `modinfo` shows it; empty if there is none.
pub(crate) fn srcversion() -> &'static str {
    // SAFETY: The string belongs to the module and is not changed while it is loaded.
    let text = unsafe { CStr::from_char_ptr(ffi::drbd_helper_module_srcversion()) };
    text.to_str().unwrap_or("")
}
