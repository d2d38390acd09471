// SPDX-License-Identifier: GPL-2.0-only

//! Timers, and the clocks.

use super::ffi;
use core::cell::UnsafeCell;
use kernel::{
    bindings,
    container_of,
    new_mutex,
    prelude::*,
    sync::Mutex,
    types::Opaque, //
};

/// What a timer calls. Runs in soft interrupt context; must not sleep.
type Callback = KBox<dyn Fn() + Send + Sync>;

/// A timer. Dropping it stops it and waits for its callback (may sleep; not under a lock that the
/// callback takes).
pub(crate) struct Timer(Pin<KBox<Inner>>);

/// # Invariants
///
/// `timer` is initialised. `callback` is read only by the timer's function, and written only when
/// the timer is shut down for good.
#[pin_data(PinnedDrop)]
struct Inner {
    #[pin]
    timer: Opaque<bindings::timer_list>,
    callback: UnsafeCell<Option<Callback>>,
    #[pin]
    live: Mutex<bool>,
}

// SAFETY: The callback is `Send` and `Sync`; the other parts have their own locks.
unsafe impl Send for Inner {}
// SAFETY: As above, and by the type invariant.
unsafe impl Sync for Inner {}

impl Timer {
    /// Makes a timer that is not armed. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(callback: impl Fn() + Send + Sync + 'static) -> Result<Self> {
        let callback: Callback = KBox::new(callback, GFP_KERNEL)?;
        let inner = KBox::pin_init(
            pin_init!(Inner {
                // SAFETY: The function initialises the timer at the place it is given.
                timer <- Opaque::ffi_init(|slot| unsafe {
                    ffi::drbd_helper_timer_setup(slot, fire)
                }),
                callback: UnsafeCell::new(Some(callback)),
                live <- new_mutex!(true),
            }),
            GFP_KERNEL,
        )?;
        Ok(Self(inner))
    }

    /// Lets the timer fire in `ms` from now, whether it was armed or not. Any context. Does nothing
    /// after [`shutdown`](Self::shutdown).
    pub(crate) fn arm_ms(&self, ms: u32) {
        // SAFETY: By the type invariant the timer is initialised.
        unsafe {
            let expires =
                ffi::drbd_helper_jiffies().wrapping_add(ffi::drbd_helper_ms_to_jiffies(ms));
            bindings::mod_timer(self.0.timer.get(), expires);
        }
    }

    /// Lets the timer fire when [`now_ns`] has reached `at_ns`, rounded up to a tick. Any context.
    pub(crate) fn arm_at_ns(&self, at_ns: u64) {
        let delay_ms = at_ns.saturating_sub(now_ns()).div_ceil(1_000_000);
        self.arm_ms(u32::try_from(delay_ms).unwrap_or(u32::MAX));
    }

    /// Stops the timer for good, waits for its callback and drops it, with what it refers to. May
    /// sleep; not from the callback nor under a lock that it takes.
    pub(crate) fn shutdown(&self) {
        self.0.shutdown();
    }
}

impl Inner {
    fn shutdown(&self) {
        let mut live = self.live.lock();
        if !*live {
            return;
        }
        *live = false;
        // SAFETY: By the type invariant the timer is initialised. Afterwards the callback does not
        // run and cannot be armed, so it is ours.
        let callback = unsafe {
            bindings::timer_shutdown_sync(self.timer.get());
            (*self.callback.get()).take()
        };
        drop(live);
        drop(callback);
    }
}

#[pinned_drop]
impl PinnedDrop for Inner {
    fn drop(self: Pin<&mut Self>) {
        self.shutdown();
    }
}

/// # Safety
///
/// Called by the kernel for the timer of an [`Inner`].
unsafe extern "C" fn fire(timer: *mut bindings::timer_list) {
    // SAFETY: The timer lies in an `Inner`, which waits for this function before it goes away.
    let callback = unsafe {
        let inner = container_of!(Opaque::cast_from(timer), Inner, timer);
        &*(*inner).callback.get()
    };
    if let Some(callback) = callback {
        callback();
    }
}

/// Monotonic time in nanoseconds. Any context.
pub(crate) fn now_ns() -> u64 {
    // SAFETY: A plain call.
    unsafe { ffi::drbd_helper_now_ns() }
}
