// SPDX-License-Identifier: GPL-2.0-only

//! A listening TCP socket.

use super::{
    ffi,
    socket::{
        count,
        jiffies,
        Addr,
        Buffers,
        Socket, //
    }, //
};
use kernel::{
    bindings,
    error::to_result,
    prelude::*, //
};

/// Connections that may wait to be accepted.
const BACKLOG: c_int = 5;

/// Waits for connections. Dropping it closes it (may sleep).
pub(crate) struct Listener(Socket);

impl Listener {
    /// Listens on address and port of `local`. May sleep.
    ///
    /// # Errors
    ///
    /// `EADDRINUSE`, `EADDRNOTAVAIL`.
    pub(crate) fn new(local: &Addr, buffers: Buffers) -> Result<Self> {
        let socket = Socket::bound(local, buffers)?;
        // SAFETY: The socket is valid and bound.
        to_result(unsafe { bindings::kernel_listen(socket.as_ptr(), BACKLOG) })?;
        Ok(Self(socket))
    }

    /// Waits at most `timeout_ms` for a connection. May sleep; one thread at a time.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if none came in time, `EINTR` if the thread was interrupted, `EINVAL` after
    /// [`abort`](Self::abort).
    pub(crate) fn accept(&self, timeout_ms: u32) -> Result<Socket> {
        let mut raw = core::ptr::null_mut();
        // SAFETY: The socket is valid and listens; `raw` can be written.
        let status = unsafe {
            ffi::drbd_helper_socket_timeouts(self.0.as_ptr(), jiffies(Some(timeout_ms)), 0);
            ffi::drbd_helper_socket_accept(self.0.as_ptr(), &mut raw)
        };
        count(status)?;
        // SAFETY: The call made a socket and gave it to us.
        let socket = unsafe { Socket::adopt(raw) }?;
        // The new socket has inherited the time-out.
        socket.set_recv_timeout_ms(None);
        Ok(socket)
    }

    /// Ends listening and wakes a waiting [`accept`](Self::accept). May sleep; from any thread.
    pub(crate) fn abort(&self) {
        self.0.shutdown();
    }
}
