// SPDX-License-Identifier: GPL-2.0-only

//! The name of a resource.

use core::fmt;
use kernel::prelude::*;

/// A resource name: 1 to 127 bytes, no `/` (reference/netlink.md 6.2).
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) struct Name {
    len: u8,
    bytes: [u8; Self::MAX],
}

impl Name {
    /// Longest name in bytes.
    pub(crate) const MAX: usize = 127;

    /// Takes the bytes of a name.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is empty, too long or contains `/` or NUL.
    pub(crate) fn new(name: &[u8]) -> Result<Self> {
        if name.is_empty() || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
            return Err(EINVAL);
        }
        let mut bytes = [0; Self::MAX];
        bytes
            .get_mut(..name.len())
            .ok_or(EINVAL)?
            .copy_from_slice(name);
        let len = u8::try_from(name.len()).map_err(|_| EINVAL)?;
        Ok(Self { len, bytes })
    }

    /// Returns the bytes of the name.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl kernel::fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.as_bytes() {
            // Bytes outside ASCII are shown as they are stored, one by one.
            fmt::Write::write_char(f, char::from(*byte))?;
        }
        Ok(())
    }
}
