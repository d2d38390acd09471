// SPDX-License-Identifier: GPL-2.0-only

//! Lines of the kernel log with a prefix of their own.

use core::fmt::Write;
use kernel::{
    fmt,
    prelude::*,
    print::{
        call_printk,
        format_strings, //
    }, //
};

/// How important a line is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    /// Needs attention at once.
    Alert,
    /// Something failed.
    Error,
    /// Something is odd.
    Warning,
    /// For the record.
    Info,
}

/// Longest prefix: a resource name, a volume number and a minor.
const PREFIX_LEN: usize = 192;

/// A prefix that always ends with a NUL.
struct Prefix {
    bytes: [u8; PREFIX_LEN],
    len: usize,
}

impl Write for Prefix {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        // INVARIANT: The last byte stays NUL; what does not fit is cut off.
        let room = PREFIX_LEN - 1 - self.len;
        let text = &text.as_bytes()[..text.len().min(room)];
        self.bytes[self.len..self.len + text.len()].copy_from_slice(text);
        self.len += text.len();
        Ok(())
    }
}

/// Prints `prefix: text` followed by a line end. Any context.
pub(crate) fn print(level: Level, prefix: fmt::Arguments<'_>, text: fmt::Arguments<'_>) {
    let mut name = Prefix {
        bytes: [0; PREFIX_LEN],
        len: 0,
    };
    // Writing into the prefix does not fail.
    let _ = name.write_fmt(prefix);
    let format = match level {
        Level::Alert => &format_strings::ALERT,
        Level::Error => &format_strings::ERR,
        Level::Warning => &format_strings::WARNING,
        Level::Info => &format_strings::INFO,
    };
    // SAFETY: The format string is one of those of the kernel crate, the prefix ends with a NUL.
    unsafe { call_printk(format, &name.bytes, fmt!("{text}\n")) };
}
