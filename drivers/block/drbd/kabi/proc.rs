// SPDX-License-Identifier: GPL-2.0-only

//! A file in /proc whose text is made anew for every reader.

use super::ffi;
use core::fmt;
use kernel::{
    bindings,
    prelude::*,
    sync::Arc, //
};

/// Makes the text of the file.
pub(crate) trait ProcShow: Send + Sync + 'static {
    /// Writes the text. May sleep. The kernel may call it again with more room.
    ///
    /// # Errors
    ///
    /// The reader gets the error.
    fn show(&self, out: &mut SeqWriter<'_>) -> Result;
}

/// Where the text goes.
pub(crate) struct SeqWriter<'a> {
    seq: &'a mut bindings::seq_file,
}

impl fmt::Write for SeqWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: The file is valid for the call of `show`. A full buffer is remembered by the
        // file itself, which then calls `show` again with a larger one.
        unsafe { bindings::seq_write(self.seq, text.as_ptr().cast(), text.len()) };
        Ok(())
    }
}

/// The file. Dropping it removes it and waits for its readers (may sleep).
///
/// # Invariants
///
/// The entry exists, and its data is `show`.
pub(crate) struct ProcFile<T: ProcShow> {
    name: &'static CStr,
    _show: Arc<T>,
}

impl<T: ProcShow> ProcFile<T> {
    /// Creates the file, readable for everybody. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also if the name is taken.
    pub(crate) fn new(name: &'static CStr, show: Arc<T>) -> Result<Self> {
        let data = Arc::as_ptr(&show).cast_mut().cast::<c_void>();
        // SAFETY: The data lives until the entry is removed in `drop`.
        let made = unsafe { ffi::drbd_helper_proc_new(name.as_char_ptr(), Self::callback, data) };
        if !made {
            return Err(ENOMEM);
        }
        // INVARIANT: The entry was just made.
        Ok(Self { name, _show: show })
    }

    /// # Safety
    ///
    /// Called by the kernel for a reader of the file.
    unsafe extern "C" fn callback(seq: *mut bindings::seq_file, _: *mut c_void) -> c_int {
        // SAFETY: The private pointer of the file is the data of the entry, which is a `T` that
        // lives until the entry is removed. The file is ours for the call.
        let (show, seq) = unsafe {
            let data = ffi::drbd_helper_seq_private(seq);
            (&*data.cast::<T>(), &mut *seq)
        };
        match show.show(&mut SeqWriter { seq }) {
            Ok(()) => 0,
            Err(error) => error.to_errno(),
        }
    }
}

impl<T: ProcShow> Drop for ProcFile<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the entry exists.
        unsafe { ffi::drbd_helper_proc_remove(self.name.as_char_ptr()) };
    }
}
