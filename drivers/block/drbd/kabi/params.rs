// SPDX-License-Identifier: GPL-2.0-only

//! Module parameters (reference/netlink.md 7.5). They are declared in `helpers.c`, because
//! `module!` knows neither strings nor entries in sysfs. Reading them: any context, but for the
//! path.

use super::ffi;
use kernel::prelude::*;

/// Size of the path of the user-mode helper, with its end.
pub(crate) const USERMODE_HELPER_LEN: usize = 80;

/// `minor_count`: sizes the pools, 1 to 255.
///
/// # Errors
///
/// `EINVAL` if it is outside.
pub(crate) fn minor_count() -> Result<u32> {
    // SAFETY: Reads a variable that does not change after loading.
    let count = unsafe { ffi::drbd_helper_param_minor_count() };
    if (1..=255).contains(&count) {
        Ok(count)
    } else {
        Err(EINVAL)
    }
}

/// `disable_sendpage`: pages are copied into the socket, never passed by reference.
pub(crate) fn disable_sendpage() -> bool {
    // SAFETY: Reads a variable.
    unsafe { ffi::drbd_helper_param_disable_sendpage() }
}

/// `allow_oos`: a Secondary may be opened for reading.
pub(crate) fn allow_oos() -> bool {
    // SAFETY: Reads a variable.
    unsafe { ffi::drbd_helper_param_allow_oos() }
}

/// `proc_details`: how much /proc/drbd shows.
pub(crate) fn proc_details() -> i32 {
    // SAFETY: Reads a variable.
    unsafe { ffi::drbd_helper_param_proc_details() }
}

/// `usermode_helper`: the program that handles events, copied into `path` with its end. May sleep.
///
/// # Errors
///
/// `EINVAL` if the parameter is not a string, which does not happen.
pub(crate) fn usermode_helper(path: &mut [u8; USERMODE_HELPER_LEN]) -> Result<&CStr> {
    // SAFETY: The function writes at most that many bytes, with an end.
    unsafe { ffi::drbd_helper_param_usermode_helper(path.as_mut_ptr(), path.len()) };
    CStr::from_bytes_until_nul(path).map_err(|_| EINVAL)
}
