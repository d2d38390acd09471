// SPDX-License-Identifier: GPL-2.0-only

//! Waiting for a condition, with wake-ups from any context.
//!
//! Unlike the kernel crate's `CondVar` a [`WaitQueue`] is not bound to a lock: the condition takes
//! whatever spin lock it needs, and whoever changes it wakes the queue after its unlock.

use super::{
    ffi,
    thread, //
};
use kernel::{
    bindings,
    prelude::*,
    sync::LockClassKey,
    types::Opaque, //
};

/// Tasks that wait for something.
///
/// # Invariants
///
/// `head` is initialised and does not move.
#[pin_data]
pub(crate) struct WaitQueue {
    #[pin]
    head: Opaque<bindings::wait_queue_head>,
}

// SAFETY: Wait queues have their own lock.
unsafe impl Send for WaitQueue {}
// SAFETY: As above.
unsafe impl Sync for WaitQueue {}

/// How a task sleeps.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Mode {
    Uninterruptible,
    Idle,
    Interruptible,
}

impl WaitQueue {
    /// Makes an initialiser, for `queue <- WaitQueue::new()`.
    pub(crate) fn new() -> impl PinInit<Self> {
        let key: Pin<&'static LockClassKey> = kernel::static_lock_class!();
        pin_init!(Self {
            // SAFETY: The function initialises the head at the place it is given; name and key
            // are static.
            head <- Opaque::ffi_init(|slot| unsafe {
                bindings::__init_waitqueue_head(slot, c"drbd".as_char_ptr(), key.as_ptr())
            }),
        })
    }

    /// Wakes every waiting task. Any context.
    pub(crate) fn wake_all(&self) {
        let (all, key) = (0, core::ptr::null_mut());
        // SAFETY: By the type invariant.
        unsafe { bindings::__wake_up(self.head.get(), bindings::TASK_NORMAL, all, key) };
    }

    /// Sleeps until `condition` gives a value. Cannot be interrupted. May sleep.
    ///
    /// The condition is evaluated again after each wake-up. It may take spin locks, but must not
    /// sleep.
    pub(crate) fn wait<R>(&self, condition: impl FnMut() -> Option<R>) -> R {
        let mut condition = condition;
        loop {
            if let Ok(Some(value)) = self.sleep(Mode::Uninterruptible, None, &mut condition) {
                return value;
            }
        }
    }

    /// Like [`wait`](Self::wait) for at most `timeout_ms`; `None` if the time is over.
    pub(crate) fn wait_timeout<R>(
        &self,
        timeout_ms: u32,
        condition: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        let mut condition = condition;
        self.sleep(Mode::Uninterruptible, Some(timeout_ms), &mut condition)
            .unwrap_or(None)
    }

    /// For threads that wait for work: does not count as load. `None` as time-out means for ever;
    /// returns `None` when the time is over.
    pub(crate) fn wait_idle<R>(
        &self,
        timeout_ms: Option<u32>,
        condition: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        let mut condition = condition;
        self.sleep(Mode::Idle, timeout_ms, &mut condition)
            .unwrap_or(None)
    }

    /// Like [`wait_idle`](Self::wait_idle), but a signal ends it.
    ///
    /// # Errors
    ///
    /// `EINTR` after a signal: for a thread of ours [`thread::Thread::interrupt`] or `stop`.
    pub(crate) fn wait_interruptible<R>(
        &self,
        timeout_ms: Option<u32>,
        condition: impl FnMut() -> Option<R>,
    ) -> Result<Option<R>> {
        let mut condition = condition;
        self.sleep(Mode::Interruptible, timeout_ms, &mut condition)
    }

    fn sleep<R>(
        &self,
        mode: Mode,
        timeout_ms: Option<u32>,
        condition: &mut dyn FnMut() -> Option<R>,
    ) -> Result<Option<R>> {
        if let Some(value) = condition() {
            return Ok(Some(value));
        }
        let state = match mode {
            Mode::Uninterruptible => bindings::TASK_UNINTERRUPTIBLE,
            Mode::Idle => bindings::TASK_IDLE,
            Mode::Interruptible => bindings::TASK_INTERRUPTIBLE,
        };
        let mut left = timeout_ms.map_or(c_long::MAX, |ms| {
            // SAFETY: A plain conversion.
            let jiffies = unsafe { ffi::drbd_helper_ms_to_jiffies(ms) };
            c_long::try_from(jiffies).unwrap_or(c_long::MAX)
        });
        let entry = Opaque::<bindings::wait_queue_entry>::uninit();
        // SAFETY: The entry stays at its place on this stack until `finish_wait` below. The head
        // is initialised and outlives the call.
        unsafe { bindings::init_wait_entry(entry.get(), 0) };
        let result = loop {
            // SAFETY: As above; `state` is a sleeping state.
            unsafe {
                bindings::prepare_to_wait(self.head.get(), entry.get(), state as c_int);
            }
            if let Some(value) = condition() {
                break Ok(Some(value));
            }
            if mode == Mode::Interruptible && thread::signal_pending() {
                break Err(EINTR);
            }
            if left == 0 {
                break Ok(None);
            }
            // SAFETY: We may sleep, by contract of the public functions.
            left = unsafe { bindings::schedule_timeout(left) };
        };
        // SAFETY: Takes the entry off the queue, if it is still there.
        unsafe { bindings::finish_wait(self.head.get(), entry.get()) };
        result
    }
}
