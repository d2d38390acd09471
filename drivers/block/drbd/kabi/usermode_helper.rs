// SPDX-License-Identifier: GPL-2.0-only

//! Runs programs in user space.

use super::ffi;
use kernel::prelude::*;

/// Most arguments or variables that one call takes.
const STRINGS_MAX: usize = 24;

type Strings = [*mut c_char; STRINGS_MAX + 1];

fn pointers(strings: &[&CStr]) -> Result<Strings> {
    let mut pointers = [core::ptr::null_mut(); STRINGS_MAX + 1];
    if strings.len() > STRINGS_MAX {
        return Err(E2BIG);
    }
    for (slot, string) in pointers.iter_mut().zip(strings) {
        *slot = string.as_char_ptr().cast_mut();
    }
    Ok(pointers)
}

/// Runs the program `argv[0]` as root and waits until it has ended, without a time limit. Returns
/// its wait status: the exit code is in bits 8 to 15. May sleep.
///
/// # Errors
///
/// The program could not be started; `E2BIG` with more than 24 strings.
pub(crate) fn call(argv: &[&CStr], env: &[&CStr]) -> Result<i32> {
    if argv.is_empty() {
        return Err(EINVAL);
    }
    let mut argv = pointers(argv)?;
    let mut env = pointers(env)?;
    // SAFETY: Both arrays end with a null pointer; the program is started from copies, and the
    // call returns after that.
    let status = unsafe { ffi::drbd_helper_usermode(argv.as_mut_ptr(), env.as_mut_ptr()) };
    if status < 0 {
        Err(Error::from_errno(status))
    } else {
        Ok(status)
    }
}
