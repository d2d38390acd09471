// SPDX-License-Identifier: GPL-2.0-only

//! A bell wakes one executor. A ring while the executor works is not lost.

use crate::kabi::{
    thread,
    wait::WaitQueue, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Full, //
    }, //
};

/// Wakes the thread that waits in [`Bell::wait`], now or when it comes back.
#[pin_data]
pub(crate) struct Bell {
    #[pin]
    queue: WaitQueue,
    rung: Atomic<bool>,
}

impl Bell {
    /// Creates a silent bell.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            queue <- WaitQueue::new(),
            rung: Atomic::new(false),
        })
    }

    /// Rings. May be called in any context.
    pub(crate) fn ring(&self) {
        // Whoever rang before wakes the waiter, who has not looked yet.
        if !self.rung.xchg(true, Full) {
            self.queue.wake_all();
        }
    }

    /// Waits until the bell has rung since the last wait, or the thread is asked to stop. Only for
    /// threads of this module; may sleep; does not count as load.
    pub(crate) fn wait(&self) {
        let _ = self.queue.wait_idle(None, || {
            self.take().or_else(|| thread::should_stop().then_some(()))
        });
    }

    /// As [`Bell::wait`], for at most `timeout_ms`; returns whether the bell rang.
    pub(crate) fn wait_timeout(&self, timeout_ms: u32) -> bool {
        self.queue
            .wait_idle(Some(timeout_ms), || self.take())
            .is_some()
    }

    fn take(&self) -> Option<()> {
        self.rung.xchg(false, Full).then_some(())
    }
}
