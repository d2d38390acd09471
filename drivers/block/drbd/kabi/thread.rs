// SPDX-License-Identifier: GPL-2.0-only

//! Kernel threads that run a closure.
//!
//! Every thread runs with memory allocations barred from starting I/O, because all of them are on
//! the write-out path (reference/io.md 9.2). The signals SIGHUP and SIGXCPU end a blocking socket
//! call; nobody but the driver and root can send them.

use super::ffi;
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::from_err_ptr,
    fmt,
    new_mutex,
    prelude::*,
    str::CString,
    sync::Mutex, //
};

const SIGHUP: c_int = 1;

/// A thread. Dropping it stops it (may sleep).
#[pin_data(PinnedDrop)]
pub(crate) struct Thread {
    #[pin]
    running: Mutex<bool>,
    /// Holds a reference, so it is valid even when the thread has ended.
    task: Task,
    unstarted: Unstarted,
}

/// # Invariants
///
/// The pointer is valid, with a reference of ours.
struct Task(NonNull<bindings::task_struct>);

// SAFETY: The functions that we call for tasks are thread-safe.
unsafe impl Send for Task {}
// SAFETY: As above.
unsafe impl Sync for Task {}

impl Drop for Task {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours.
        unsafe { ffi::drbd_helper_task_put(self.0.as_ptr()) };
    }
}

/// The closure of a thread that was stopped before it ran for the first time.
struct Unstarted {
    data: *mut c_void,
    /// Frees the closure.
    free: unsafe fn(*mut c_void),
}

// SAFETY: The closure is `Send`; it is touched only by whoever stops the thread.
unsafe impl Send for Unstarted {}
// SAFETY: As above.
unsafe impl Sync for Unstarted {}

impl Thread {
    /// Starts a thread named `name` (the kernel shows the first 15 characters). May sleep.
    ///
    /// The closure should look at [`should_stop`] whenever it wakes up. It may also just return.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EINTR`.
    pub(crate) fn spawn<F: FnOnce() + Send + 'static>(
        name: fmt::Arguments<'_>,
        f: F,
    ) -> Result<Pin<KBox<Self>>> {
        let name = CString::try_from_fmt(name)?;
        let closure = KBox::new(f, GFP_KERNEL)?;
        let data = KBox::into_raw(closure).cast::<c_void>();
        // SAFETY: `run` takes the closure over when the thread runs.
        let task = from_err_ptr(unsafe {
            ffi::drbd_helper_thread_create(run::<F>, data, name.as_char_ptr())
        });
        let task = match task {
            Ok(task) => task,
            Err(error) => {
                // SAFETY: No thread was made, so the closure is still ours.
                unsafe { free::<F>(data) };
                return Err(error);
            }
        };
        // SAFETY: The thread sleeps until it is woken below, so it is valid.
        unsafe { ffi::drbd_helper_task_get(task) };
        let raw = NonNull::new(task).ok_or(ENOMEM)?;
        // INVARIANT: The reference was just taken.
        let task = Task(raw);
        let unstarted = Unstarted {
            data,
            free: free::<F>,
        };
        let thread = KBox::pin_init(
            pin_init!(Self {
                running <- new_mutex!(true),
                task,
                unstarted,
            }),
            GFP_KERNEL,
        );
        match thread {
            Ok(thread) => {
                thread.wake();
                Ok(thread)
            }
            Err(error) => {
                // SAFETY: The thread exists and was not woken, so it ends without running the
                // closure, which is ours again.
                unsafe {
                    bindings::kthread_stop(raw.as_ptr());
                    free::<F>(data);
                }
                Err(error)
            }
        }
    }

    /// Tells the thread to stop, wakes and signals it, and waits until it has ended. May sleep. A
    /// second call waits as well and then does nothing.
    ///
    /// # Errors
    ///
    /// `EDEADLK` if the thread itself calls it.
    pub(crate) fn stop(&self) -> Result {
        if self.is_current() {
            return Err(EDEADLK);
        }
        let mut running = self.running.lock();
        if *running {
            *running = false;
            self.interrupt();
            // SAFETY: The task is valid. The return value tells whether the function ran at all.
            let status = unsafe { bindings::kthread_stop(self.task.0.as_ptr()) };
            if status == EINTR.to_errno() {
                // SAFETY: The thread ended without running the closure, and we get here once.
                unsafe { (self.unstarted.free)(self.unstarted.data) };
            }
        }
        Ok(())
    }

    /// Wakes the thread. Any context.
    pub(crate) fn wake(&self) {
        // SAFETY: The task is valid; waking one that has ended does nothing.
        unsafe { bindings::wake_up_process(self.task.0.as_ptr()) };
    }

    /// Ends a blocking socket call or an interruptible wait of the thread with `EINTR`. The signal
    /// stays pending until the thread calls [`flush_signals`]. Any context.
    pub(crate) fn interrupt(&self) {
        // SAFETY: The task is valid; a signal to one that has ended is refused.
        unsafe { bindings::send_sig(SIGHUP, self.task.0.as_ptr(), 1) };
    }

    /// Whether this thread is the one that asks.
    pub(crate) fn is_current(&self) -> bool {
        // SAFETY: The task is valid.
        unsafe { ffi::drbd_helper_task_is_current(self.task.0.as_ptr()) }
    }
}

#[pinned_drop]
impl PinnedDrop for Thread {
    fn drop(self: Pin<&mut Self>) {
        if self.stop().is_err() {
            pr_warn!("a thread gave up its own handle; it ends on its own\n");
        }
    }
}

/// # Safety
///
/// `data` is the closure of a thread, given away for this call.
unsafe extern "C" fn run<F: FnOnce() + Send + 'static>(data: *mut c_void) -> c_int {
    // SAFETY: `spawn` made it of a `KBox<F>` and gave it away.
    let closure = unsafe { KBox::from_raw(data.cast::<F>()) };
    // SAFETY: A plain call for the current task.
    unsafe { ffi::drbd_helper_thread_allow_signals() };
    let noio = NoIo::enter();
    (KBox::into_inner(closure))();
    drop(noio);
    0
}

/// # Safety
///
/// `data` is the closure of a thread that will never run it, given away for this call.
unsafe fn free<F>(data: *mut c_void) {
    // SAFETY: `spawn` made it of a `KBox<F>`.
    drop(unsafe { KBox::from_raw(data.cast::<F>()) });
}

/// Whether somebody waits in [`Thread::stop`] for the calling thread; `false` in any other task.
pub(crate) fn should_stop() -> bool {
    // SAFETY: A plain question about the current task.
    unsafe { ffi::drbd_helper_thread_should_stop() }
}

/// Whether the calling thread was interrupted.
pub(crate) fn signal_pending() -> bool {
    // SAFETY: A plain question about the current task.
    unsafe { ffi::drbd_helper_signal_pending() }
}

/// Forgets the signals of the calling thread.
pub(crate) fn flush_signals() {
    // SAFETY: A plain call for the current task.
    unsafe { ffi::drbd_helper_flush_signals() };
}

/// Gives the calling thread low real-time priority.
pub(crate) fn set_realtime() {
    // SAFETY: A plain call for the current task.
    unsafe { ffi::drbd_helper_thread_realtime() };
}

/// Binds the calling thread to the processors of `mask` (hexadecimal, as `cpu-mask` of the resource
/// options); a mask that is empty, or names none that is there, means all of them. May sleep.
///
/// # Errors
///
/// `EOVERFLOW` if the mask names processors that this machine does not have: the others have been
/// taken (all of them if a group of it has more than eight digits). `EINVAL` if the mask cannot be
/// read; nothing has changed then.
pub(crate) fn set_affinity(mask: &CStr) -> Result {
    // SAFETY: The mask is a C string; the call concerns the current task.
    kernel::error::to_result(unsafe { ffi::drbd_helper_thread_affinity(mask.as_char_ptr()) })
}

/// While it exists, allocations of the current task start no I/O.
pub(crate) struct NoIo {
    flags: c_uint,
    /// Belongs to the task.
    _not_send: PhantomData<*mut ()>,
}

impl NoIo {
    /// Enters the scope.
    pub(crate) fn enter() -> Self {
        Self {
            // SAFETY: A plain call for the current task; `drop` restores.
            flags: unsafe { ffi::drbd_helper_noio_save() },
            _not_send: PhantomData,
        }
    }
}

impl Drop for NoIo {
    fn drop(&mut self) {
        // SAFETY: The value cannot leave its task.
        unsafe { ffi::drbd_helper_noio_restore(self.flags) };
    }
}
