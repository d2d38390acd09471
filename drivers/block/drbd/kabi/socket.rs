// SPDX-License-Identifier: GPL-2.0-only

//! TCP sockets of the kernel, IPv4 and IPv6, in the initial network namespace.
//!
//! A socket may be shared: one thread receives, one sends, and any thread may
//! [`shutdown`](Socket::shutdown) it, which ends the blocking calls of the others. Memory for a
//! socket is allocated without starting I/O.

use super::{
    bio::BioHold,
    ffi,
    page::PageBuf, //
};
use core::{
    fmt,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::to_result,
    prelude::*, //
};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const MSG_PEEK: c_int = 0x2;
const MSG_DONTWAIT: c_int = 0x40;
const MSG_WAITALL: c_int = 0x100;
const MSG_NOSIGNAL: c_int = 0x4000;
const MSG_MORE: c_int = 0x8000;
const MSG_SPLICE_PAGES: c_int = 0x800_0000;
const SHUT_RDWR: bindings::sock_shutdown_cmd = 2;

/// Longest address of any family, in bytes: a `struct sockaddr_storage`.
const STORAGE_LEN: usize = 128;

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Storage([u8; STORAGE_LEN]);

/// An address and a port, as the administrator gave them: a `sockaddr` (reference/netlink.md 6.1).
#[derive(Clone, Copy)]
pub(crate) struct Addr {
    storage: Storage,
    len: usize,
}

impl Addr {
    /// Takes over the bytes of a `sockaddr_in` (at least 16) or `sockaddr_in6` (at least 28).
    ///
    /// # Errors
    ///
    /// `EINVAL` if the length does not fit the family, `EAFNOSUPPORT` for another family.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let family = bytes.first_chunk().map(|raw| u16::from_ne_bytes(*raw));
        let len = match family {
            Some(AF_INET) => 16,
            Some(AF_INET6) => 28,
            Some(_) => return Err(EAFNOSUPPORT),
            None => return Err(EINVAL),
        };
        let mut storage = Storage([0; STORAGE_LEN]);
        let bytes = bytes.get(..len).ok_or(EINVAL)?;
        for (to, from) in storage.0.iter_mut().zip(bytes) {
            *to = *from;
        }
        Ok(Self { storage, len })
    }

    /// The bytes of the `sockaddr`.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.storage.0.get(..self.len).unwrap_or(&[])
    }

    /// The address family: 2 for IPv4, 10 for IPv6.
    pub(crate) fn family(&self) -> u16 {
        let [low, high, ..] = self.storage.0;
        u16::from_ne_bytes([low, high])
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        let [_, _, high, low, ..] = self.storage.0;
        u16::from_be_bytes([high, low])
    }

    /// The same address with another port.
    #[must_use]
    pub(crate) fn with_port(mut self, port: u16) -> Self {
        let [high, low] = port.to_be_bytes();
        let [_, _, port_high, port_low, ..] = &mut self.storage.0;
        *port_high = high;
        *port_low = low;
        self
    }

    /// Returns the host as helpers of the configuration see it: dotted quad, or eight groups of
    /// four digits.
    pub(crate) fn host(&self) -> Host<'_> {
        Host(self)
    }

    fn as_mut_ptr(&mut self) -> *mut c_void {
        self.storage.0.as_mut_ptr().cast()
    }
}

/// The host of an address, without its port.
pub(crate) struct Host<'a>(&'a Addr);

impl kernel::fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, _, _, _, a, b, c, d, rest @ ..] = &self.0.storage.0;
        if self.0.family() == AF_INET {
            return write!(f, "{a}.{b}.{c}.{d}");
        }
        for (index, pair) in rest.chunks_exact(2).take(8).enumerate() {
            if let [high, low] = pair {
                let colon = if index == 0 { "" } else { ":" };
                write!(f, "{colon}{:04x}", u16::from_be_bytes([*high, *low]))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, _, _, _, a, b, c, d, rest @ ..] = &self.storage.0;
        if self.family() == AF_INET {
            return write!(f, "{a}.{b}.{c}.{d}:{}", self.port());
        }
        f.write_str("[")?;
        for (index, pair) in rest.chunks_exact(2).take(8).enumerate() {
            if let [high, low] = pair {
                let colon = if index == 0 { "" } else { ":" };
                write!(f, "{colon}{:x}", u16::from_be_bytes([*high, *low]))?;
            }
        }
        write!(f, "]:{}", self.port())
    }
}

impl kernel::fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Sizes of the buffers of a socket.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Buffers {
    /// Send buffer in bytes, 0 leaves it to TCP.
    pub(crate) send_bytes: u32,
    /// Receive buffer in bytes, 0 leaves it to TCP.
    pub(crate) receive_bytes: u32,
}

/// How to receive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Recv {
    /// Wait until everything is there.
    Exact,
    /// Wait until something is there.
    Some,
    /// Look at what is there and leave it there; `EAGAIN` if there is nothing.
    Peek,
}

impl Recv {
    const fn flags(self) -> c_int {
        let flags = match self {
            Self::Exact => MSG_WAITALL,
            Self::Some => 0,
            Self::Peek => MSG_PEEK | MSG_DONTWAIT,
        };
        flags | MSG_NOSIGNAL
    }
}

/// How to send.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SendFlags {
    /// More follows soon: TCP may wait for it.
    pub(crate) more: bool,
    /// Pass pages by reference instead of copying them.
    pub(crate) splice: bool,
}

impl SendFlags {
    pub(super) const fn bits(self) -> c_int {
        let mut flags = MSG_NOSIGNAL;
        if self.more {
            flags |= MSG_MORE;
        }
        if self.splice {
            flags |= MSG_SPLICE_PAGES;
        }
        flags
    }
}

/// The number of bytes that a call moved, or its error. A system call that wants to be started
/// again after a signal was interrupted, as far as we are concerned.
pub(super) fn count(result: c_int) -> Result<usize> {
    if let Ok(count) = usize::try_from(result) {
        return Ok(count);
    }
    let error = Error::from_errno(result);
    let restart = [
        ERESTARTSYS,
        ERESTARTNOINTR,
        ERESTARTNOHAND,
        ERESTART_RESTARTBLOCK,
    ];
    Err(if restart.contains(&error) {
        EINTR
    } else {
        error
    })
}

pub(super) fn jiffies(timeout_ms: Option<u32>) -> c_long {
    timeout_ms.map_or(c_long::MAX, |ms| {
        // SAFETY: A plain conversion.
        let jiffies = unsafe { ffi::drbd_helper_ms_to_jiffies(ms) };
        c_long::try_from(jiffies).map_or(c_long::MAX, |jiffies| jiffies.max(1))
    })
}

/// A TCP socket. Dropping it closes it (may sleep).
///
/// # Invariants
///
/// The pointer is a valid TCP socket of the kernel, which belongs to this value.
pub(crate) struct Socket(NonNull<bindings::socket>);

// SAFETY: Sockets have their own locks.
unsafe impl Send for Socket {}
// SAFETY: As above.
unsafe impl Sync for Socket {}

impl Socket {
    /// Makes a socket that is bound to `local` but not connected.
    pub(super) fn bound(local: &Addr, buffers: Buffers) -> Result<Self> {
        let mut raw = core::ptr::null_mut();
        let family = c_int::from(local.family());
        // SAFETY: `raw` can be written.
        to_result(unsafe { ffi::drbd_helper_socket_new(family, &mut raw) })?;
        // SAFETY: The socket is new and ours.
        let socket = unsafe { Self::adopt(raw) }?;
        let mut local = *local;
        // SAFETY: By the type invariant; the address has that many bytes.
        unsafe {
            ffi::drbd_helper_socket_buffers(
                socket.as_ptr(),
                buffers.send_bytes,
                buffers.receive_bytes,
            );
            ffi::drbd_helper_socket_reuseaddr(socket.as_ptr());
            to_result(ffi::drbd_helper_socket_bind(
                socket.as_ptr(),
                local.as_mut_ptr(),
                local.len as c_int,
            ))?;
        }
        Ok(socket)
    }

    /// Takes over a new socket.
    ///
    /// # Safety
    ///
    /// `raw` is null or a valid TCP socket that the caller gives away.
    pub(super) unsafe fn adopt(raw: *mut bindings::socket) -> Result<Self> {
        // INVARIANT: By the contract of the function.
        let socket = Self(NonNull::new(raw).ok_or(ENOTCONN)?);
        // SAFETY: By the type invariant.
        unsafe { ffi::drbd_helper_socket_prepare(socket.as_ptr()) };
        Ok(socket)
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::socket {
        self.0.as_ptr()
    }

    /// Connects to `peer` from the host of `local` and any port. May sleep.
    ///
    /// # Errors
    ///
    /// `ETIMEDOUT` if it takes longer than `timeout_ms`, `EINTR` if the thread was interrupted,
    /// and the usual ones: `ECONNREFUSED`, `EHOSTUNREACH`, `EADDRNOTAVAIL`.
    pub(crate) fn connect(
        local: &Addr,
        peer: &Addr,
        buffers: Buffers,
        timeout_ms: u32,
    ) -> Result<Self> {
        let socket = Self::bound(&local.with_port(0), buffers)?;
        socket.set_send_timeout_ms(Some(timeout_ms));
        let mut peer = *peer;
        // SAFETY: By the type invariant; the address has that many bytes.
        let status = unsafe {
            ffi::drbd_helper_socket_connect(
                socket.as_ptr(),
                peer.as_mut_ptr(),
                peer.len as c_int,
                0,
            )
        };
        match count(status) {
            Ok(_) => {
                socket.set_send_timeout_ms(None);
                Ok(socket)
            }
            // The time-out of the socket shows itself like this.
            Err(EINPROGRESS | EAGAIN) => Err(ETIMEDOUT),
            Err(error) => Err(error),
        }
    }

    /// Sends small packets at once.
    pub(crate) fn set_nodelay(&self) {
        // SAFETY: By the type invariant.
        unsafe { ffi::drbd_helper_socket_nodelay(self.as_ptr()) };
    }

    /// Lets TCP acknowledge with what is sent next, or a moment later, instead of with a segment of
    /// its own each time that everything received has been read.
    pub(crate) fn delay_acks(&self) {
        // SAFETY: By the type invariant.
        unsafe { ffi::drbd_helper_socket_delay_acks(self.as_ptr()) };
    }

    /// Sets the priority of the packets: 6 is interactive, 2 is bulk.
    pub(crate) fn set_priority(&self, priority: u32) {
        // SAFETY: By the type invariant.
        unsafe { ffi::drbd_helper_socket_priority(self.as_ptr(), priority) };
    }

    /// Limits how long a receive may block; `None` is for ever.
    pub(crate) fn set_recv_timeout_ms(&self, timeout_ms: Option<u32>) {
        // SAFETY: By the type invariant.
        unsafe { ffi::drbd_helper_socket_timeouts(self.as_ptr(), jiffies(timeout_ms), 0) };
    }

    /// Limits how long a send may block; `None` is for ever.
    pub(crate) fn set_send_timeout_ms(&self, timeout_ms: Option<u32>) {
        // SAFETY: By the type invariant.
        unsafe { ffi::drbd_helper_socket_timeouts(self.as_ptr(), 0, jiffies(timeout_ms)) };
    }

    /// Ends the connection in both directions and wakes whoever blocks on the socket. May sleep;
    /// from any thread.
    pub(crate) fn shutdown(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::kernel_sock_shutdown(self.as_ptr(), SHUT_RDWR) };
    }

    /// Tells whether the peer has not acknowledged all that was sent, or waits to be. May sleep;
    /// from any thread.
    pub(crate) fn has_unacked(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { ffi::drbd_helper_socket_unacked(self.as_ptr()) != 0 }
    }

    /// Gives the connection up: the peer gets a reset, and TCP drops what it has not sent and what
    /// the peer has not acknowledged, with the pages. Whoever blocks on the socket wakes. May
    /// sleep; from any thread.
    pub(crate) fn abort(&self) {
        // SAFETY: By the type invariant.
        unsafe { ffi::drbd_helper_socket_abort(self.as_ptr()) };
    }

    /// Receives into `buf` and returns the number of bytes; 0 means that the peer has closed. May
    /// sleep. [`Recv::Exact`] comes back short when something happened on the way.
    ///
    /// # Errors
    ///
    /// Only if nothing was received: `EAGAIN` after the time-out, `EINTR` if the thread was
    /// interrupted, errors of the connection.
    pub(crate) fn recv(&self, buf: &mut [u8], mode: Recv) -> Result<usize> {
        // SAFETY: By the type invariant; the slice can be written.
        count(unsafe {
            ffi::drbd_helper_socket_recv(
                self.as_ptr(),
                buf.as_mut_ptr().cast(),
                buf.len(),
                mode.flags(),
            )
        })
    }

    /// Fills `buf` from byte `offset` on, in one call. Result, errors and context as with
    /// [`recv`](Self::recv) and [`Recv::Exact`]; to continue call it again with a larger offset.
    pub(crate) fn recv_pages(&self, buf: &mut PageBuf, offset: usize) -> Result<usize> {
        let len = (buf.len_bytes() as usize).saturating_sub(offset);
        let vectors = buf.vectors();
        // SAFETY: By the type invariant; the vectors cover the length, exclusively ours.
        count(unsafe {
            ffi::drbd_helper_socket_recv_bvec(
                self.as_ptr(),
                vectors.as_ptr(),
                vectors.len(),
                offset,
                len,
                Recv::Exact.flags(),
            )
        })
    }

    /// Fills the pages of an upper read from byte `offset` on, in one call; else as
    /// [`recv_pages`](Self::recv_pages).
    ///
    /// # Errors
    ///
    /// Also `EINVAL` if the bio is not a read: its pages are not ours to write.
    pub(crate) fn recv_bio(&self, bio: &BioHold, offset: usize) -> Result<usize> {
        if bio.op() != super::bio::Op::Read {
            return Err(EINVAL);
        }
        let (vectors, number, start, len) = bio.vectors();
        // SAFETY: By the type invariant; the vectors cover the length; the upper layer wants its
        // pages written, and the hold keeps them.
        count(unsafe {
            ffi::drbd_helper_socket_recv_bvec(
                self.as_ptr(),
                vectors,
                number,
                start + offset.min(len),
                len - offset.min(len),
                Recv::Exact.flags(),
            )
        })
    }

    /// Sends a copy of `bytes`; returns how many of them. May sleep. For single packets; whoever
    /// has more uses a [`SendBatch`](super::send_batch::SendBatch).
    ///
    /// # Errors
    ///
    /// `EAGAIN` after the time-out, `EINTR`, `EPIPE`, `ECONNRESET`.
    pub(crate) fn send(&self, bytes: &[u8], flags: SendFlags) -> Result<usize> {
        let flags = SendFlags {
            splice: false,
            ..flags
        };
        // SAFETY: By the type invariant; the slice can be read.
        count(unsafe {
            ffi::drbd_helper_socket_send(
                self.as_ptr(),
                bytes.as_ptr().cast(),
                bytes.len(),
                flags.bits(),
            )
        })
    }

    /// Sends `len` bytes from byte `offset` of the vectors on.
    ///
    /// # Safety
    ///
    /// The vectors cover that many bytes. With [`SendFlags::splice`] their pages are counted by
    /// reference and not changed until the peer has them.
    pub(super) unsafe fn send_vectors(
        &self,
        vectors: &[bindings::bio_vec],
        offset: usize,
        len: usize,
        flags: SendFlags,
    ) -> Result<usize> {
        // SAFETY: By the type invariant and the contract of the function.
        count(unsafe {
            ffi::drbd_helper_socket_send_bvec(
                self.as_ptr(),
                vectors.as_ptr(),
                vectors.len(),
                offset,
                len,
                flags.bits(),
            )
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.shutdown();
        // SAFETY: By the type invariant the socket is ours.
        unsafe { bindings::sock_release(self.as_ptr()) };
    }
}
