// SPDX-License-Identifier: GPL-2.0-only

//! Work queues of our own, with a rescuer thread, so that they make progress without memory.
//!
//! Items are those of `kernel::workqueue` (`Work`, `impl_has_work!`); an item keeps its `Arc` until
//! it has run.

use super::ffi;
use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    prelude::*,
    workqueue::Queue, //
};

/// A work queue. Dropping it runs what is queued and waits for it (may sleep).
///
/// # Invariants
///
/// The pointer is a valid work queue that belongs to this value.
pub(crate) struct WorkQueue(NonNull<bindings::workqueue_struct>);

// SAFETY: Work queues are safe to use from several threads.
unsafe impl Send for WorkQueue {}
// SAFETY: As above.
unsafe impl Sync for WorkQueue {}

impl WorkQueue {
    /// A queue that runs one item at a time, in order. May sleep.
    pub(crate) fn ordered(name: &CStr) -> Result<Self> {
        Self::new(name, true)
    }

    /// A queue that runs items side by side, on any processor. May sleep.
    pub(crate) fn unbound(name: &CStr) -> Result<Self> {
        Self::new(name, false)
    }

    fn new(name: &CStr, ordered: bool) -> Result<Self> {
        // SAFETY: The name is a C string, which the kernel copies.
        let queue = unsafe { ffi::drbd_helper_workqueue_new(name.as_char_ptr(), ordered) };
        // INVARIANT: The queue is new.
        NonNull::new(queue).map(Self).ok_or(ENOMEM)
    }

    /// Runs a closure on the queue. Allocates; may sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; the closure is dropped.
    pub(crate) fn spawn(&self, f: impl FnOnce() + Send + 'static) -> Result {
        Ok(self.try_spawn(GFP_KERNEL, f)?)
    }

    /// Waits until everything that was queued before has run. May sleep.
    pub(crate) fn flush(&self) {
        // SAFETY: By the type invariant.
        unsafe { ffi::drbd_helper_workqueue_flush(self.0.as_ptr()) };
    }
}

impl Deref for WorkQueue {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        // SAFETY: By the type invariant the queue is valid as long as `self`.
        unsafe { Queue::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for WorkQueue {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the queue is ours; the call runs what is queued.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}
