// SPDX-License-Identifier: GPL-2.0-only

//! Counts the users of an object that must outlive them, and waits for the last one.

use core::{
    pin::Pin,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    prelude::*,
    sync::atomic::{
        ordering,
        Atomic, //
    },
    types::Opaque, //
};

/// A count of users; dropping it waits until all of them are gone.
///
/// # Invariants
///
/// `users` is one for the owner plus one for every [`Use`]; whoever takes it to zero completes
/// `empty`, and does so once.
pub(crate) struct Drain {
    inner: Pin<KBox<Inner>>,
}

#[pin_data]
struct Inner {
    users: Atomic<i64>,
    #[pin]
    empty: Opaque<bindings::completion>,
}

// SAFETY: An atomic and a completion may be used from every thread.
unsafe impl Send for Inner {}
// SAFETY: As above.
unsafe impl Sync for Inner {}

impl Drain {
    /// Creates a drain without users. May sleep.
    pub(crate) fn new() -> Result<Self> {
        let inner = KBox::pin_init(
            pin_init!(Inner {
                // INVARIANT: The owner counts.
                users: Atomic::new(1),
                // SAFETY: `init_completion` initialises the completion at the place it is given.
                empty <- Opaque::ffi_init(|slot| unsafe { bindings::init_completion(slot) }),
            }),
            GFP_KERNEL,
        )?;
        Ok(Self { inner })
    }

    /// Registers a user. Any context.
    pub(crate) fn enter(&self) -> Use {
        self.inner.users.fetch_add(1, ordering::Relaxed);
        Use {
            inner: NonNull::from(&*self.inner),
        }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        leave(&self.inner);
        // SAFETY: The completion was initialised in `new`. The last user completes it, and does
        // not touch it after that.
        unsafe { bindings::wait_for_completion(self.inner.empty.get()) };
    }
}

fn leave(inner: &Inner) {
    if inner.users.fetch_sub(1, ordering::Full) == 1 {
        // SAFETY: The completion was initialised in `Drain::new`. `complete` takes the lock of the
        // completion, which the waiter takes as well before it returns and frees the memory.
        unsafe { bindings::complete(inner.empty.get()) };
    }
}

/// One user of a [`Drain`]. Dropping it is possible in any context.
///
/// # Invariants
///
/// `inner` is counted for this value, hence the drain waits before it frees it.
pub(crate) struct Use {
    inner: NonNull<Inner>,
}

// SAFETY: `Inner` is shared safely between threads.
unsafe impl Send for Use {}
// SAFETY: As above.
unsafe impl Sync for Use {}

impl Drop for Use {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the memory is there until this user has left.
        leave(unsafe { self.inner.as_ref() });
    }
}
