// SPDX-License-Identifier: GPL-2.0-only

//! Many packets in one call of the socket.
//!
//! Headers are copied one behind the other into pages of their own, payload is passed by reference.
//! A header page is never written twice: TCP reads it until the peer has acknowledged it.

use super::{
    bio::BioHold,
    ffi,
    page::{
        PageBuf,
        PagePool, //
    },
    socket::{
        SendFlags,
        Socket, //
    }, //
};
use kernel::{
    bindings,
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};

/// Pieces of memory in one batch.
const VECTORS_MAX: usize = 768;
/// Payloads in one batch.
const OWNERS_MAX: usize = 128;
/// A payload has at most that many pieces: 1 MiB in single pages, plus headers around it.
const PAYLOAD_VECTORS_MAX: usize = 260;

/// What keeps the memory of a payload alive until it has been given to the socket.
enum Owner {
    Bio { _hold: BioHold },
    Pages { _buf: PageBuf },
}

/// A batch of packets for one socket.
///
/// # Invariants
///
/// The memory of every vector is kept alive by `owners` or `header`. `left` is the number
/// of bytes from byte `sent` of the first vector to the end of the last one.
pub(crate) struct SendBatch {
    pool: Arc<PagePool>,
    vectors: KVVec<bindings::bio_vec>,
    owners: KVec<Owner>,
    /// The header page that is being filled, and how far it is.
    header: Option<PageBuf>,
    filled: usize,
    sent: usize,
    left: usize,
}

// SAFETY: The vectors point to memory that the owners keep; all of them are `Send`.
unsafe impl Send for SendBatch {}

impl SendBatch {
    /// Makes an empty batch. Pages for headers and copies come from `pool`. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(pool: &Arc<PagePool>) -> Result<Self> {
        Ok(Self {
            pool: pool.clone(),
            vectors: KVVec::with_capacity(VECTORS_MAX, GFP_KERNEL)?,
            owners: KVec::with_capacity(OWNERS_MAX, GFP_KERNEL)?,
            header: None,
            filled: 0,
            sent: 0,
            left: 0,
        })
    }

    /// Whether there is room for one more packet with the largest payload.
    pub(crate) fn has_room(&self) -> bool {
        self.vectors.len() + PAYLOAD_VECTORS_MAX <= VECTORS_MAX
            && self.owners.len() + 4 <= OWNERS_MAX
    }

    /// Whether everything was sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Makes sure that so many vectors and one owner can be added.
    fn check_room(&self, vectors: usize) -> Result {
        let room = self.vectors.len().saturating_add(vectors) <= VECTORS_MAX
            && self.owners.len() < OWNERS_MAX;
        room.then_some(()).ok_or(ENOBUFS)
    }

    fn push(&mut self, vector: bindings::bio_vec) -> Result {
        let len = vector.bv_len as usize;
        self.vectors
            .push_within_capacity(vector)
            .map_err(|_| ENOBUFS)?;
        self.left += len;
        Ok(())
    }

    fn own(&mut self, owner: Owner) -> Result {
        self.owners.push_within_capacity(owner).map_err(|_| ENOBUFS)
    }

    /// Appends a copy of `bytes`, which is shortened by what was appended. Waits for memory only if
    /// the batch is empty, as what it holds may be what is missing. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: flush the batch, then go on with the rest. `ENOBUFS` if the batch is full; ask
    /// [`has_room`](Self::has_room) before.
    pub(crate) fn push_bytes(&mut self, bytes: &mut &[u8]) -> Result {
        while !bytes.is_empty() {
            if self.header.is_none() || self.filled == PAGE_SIZE {
                self.next_header_page()?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(PAGE_SIZE - self.filled));
            let Some(header) = &mut self.header else {
                return Err(ENOBUFS);
            };
            header.copy_from(self.filled, now);
            let page = header.vectors().first().map(|vector| vector.bv_page);
            self.append_header(page.ok_or(ENOBUFS)?, now.len())?;
            *bytes = later;
        }
        Ok(())
    }

    /// Appends `len` bytes of the header page, to the last vector if it ends there.
    fn append_header(&mut self, page: *mut bindings::page, len: usize) -> Result {
        let start = self.filled as u32;
        self.filled += len;
        if self.left > 0 {
            if let Some(last) = self.vectors.last_mut() {
                if last.bv_page == page && last.bv_offset + last.bv_len == start {
                    last.bv_len += len as u32;
                    self.left += len;
                    return Ok(());
                }
            }
        }
        // INVARIANT: The page is that of `header`.
        self.push(bindings::bio_vec {
            bv_page: page,
            bv_len: len as u32,
            bv_offset: start,
        })
    }

    fn next_header_page(&mut self) -> Result {
        // A full page must find an owner, as vectors point to it.
        self.check_room(1)?;
        let page = if self.is_empty() {
            PagePool::alloc(&self.pool, PAGE_SIZE as u32)?
        } else {
            PagePool::try_alloc(&self.pool, PAGE_SIZE as u32)?
        };
        if let Some(full) = self.header.replace(page) {
            self.own(Owner::Pages { _buf: full })?;
        }
        self.filled = 0;
        Ok(())
    }

    /// Appends the data of an upper write, which may not change before TCP is done. Gives the hold
    /// back if the pages cannot be passed by reference: then push a copy.
    ///
    /// # Errors
    ///
    /// `ENOBUFS` as with [`push_bytes`](Self::push_bytes).
    pub(crate) fn push_bio(&mut self, hold: BioHold) -> Result<Option<BioHold>> {
        if !Self::can_splice(&hold) {
            return Ok(Some(hold));
        }
        let (vectors, number, start, len) = hold.vectors();
        self.check_room(number)?;
        // INVARIANT: From here on the pages stay.
        self.own(Owner::Bio { _hold: hold })?;
        let mut offset = start as u32;
        let mut left = len as u32;
        for index in 0..number {
            // SAFETY: The hold says that there are so many vectors, and is among the owners.
            let vector = unsafe { &*vectors.add(index) };
            let len = (vector.bv_len - offset).min(left);
            self.push(bindings::bio_vec {
                bv_page: vector.bv_page,
                bv_len: len,
                bv_offset: vector.bv_offset + offset,
            })?;
            offset = 0;
            left -= len;
        }
        Ok(None)
    }

    fn can_splice(hold: &BioHold) -> bool {
        let (vectors, number, _, _) = hold.vectors();
        (0..number).all(|index| {
            // SAFETY: The hold says that there are so many vectors, and keeps their pages.
            unsafe {
                let vector = &*vectors.add(index);
                ffi::drbd_helper_page_spliceable(vector.bv_page, vector.bv_offset, vector.bv_len)
            }
        })
    }

    /// Copies the data of an upper write, which the upper layer may change. May sleep, so the batch
    /// is empty: what it holds may be what is missing.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no data.
    pub(crate) fn copy_of(&self, hold: &BioHold) -> Result<PageBuf> {
        Ok(Self::fill(
            PagePool::alloc(&self.pool, hold.len_bytes())?,
            hold,
        ))
    }

    /// As [`copy_of`](Self::copy_of), but does not wait for memory.
    ///
    /// # Errors
    ///
    /// Also `ENOMEM`.
    pub(crate) fn try_copy_of(&self, hold: &BioHold) -> Result<PageBuf> {
        Ok(Self::fill(
            PagePool::try_alloc(&self.pool, hold.len_bytes())?,
            hold,
        ))
    }

    fn fill(mut buf: PageBuf, hold: &BioHold) -> PageBuf {
        let mut offset = 0;
        for chunk in buf.chunks_mut() {
            offset += hold.copy_to(offset, chunk);
        }
        buf
    }

    /// Appends a buffer, which must not change any more.
    ///
    /// # Errors
    ///
    /// `ENOBUFS` as with [`push_bytes`](Self::push_bytes).
    pub(crate) fn push_pages(&mut self, buf: PageBuf) -> Result {
        self.check_room(buf.vectors().len())?;
        for vector in buf.vectors() {
            // INVARIANT: There is room for the buffer among the owners.
            self.push(*vector)?;
        }
        self.own(Owner::Pages { _buf: buf })
    }

    /// Gives everything to the socket. May sleep.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if there was no room in time: call it again to go on where it stopped. `EINTR`, the
    /// same. Others end the connection.
    pub(crate) fn flush(&mut self, socket: &Socket, flags: SendFlags) -> Result {
        let mut first = 0;
        let mut result = Ok(());
        while self.left > 0 {
            let Some(vectors) = self.vectors.get(first..) else {
                break;
            };
            // SAFETY: By the type invariant the vectors cover the bytes. Their pages are counted:
            // header pages and buffers by construction, those of bios were asked.
            let sent = unsafe { socket.send_vectors(vectors, self.sent, self.left, flags) };
            match sent {
                Ok(0) => result = Err(EPIPE),
                Ok(count) => first += self.advance(first, count),
                Err(error) => result = Err(error),
            }
            if result.is_err() {
                break;
            }
        }
        if self.left == 0 {
            self.clear();
        } else {
            self.forget_front(first);
        }
        result
    }

    /// Marks `count` bytes as sent; returns the number of vectors that were sent completely.
    fn advance(&mut self, first: usize, count: usize) -> usize {
        self.left -= count.min(self.left);
        self.sent += count;
        let mut done = 0;
        while let Some(vector) = self.vectors.get(first + done) {
            let len = vector.bv_len as usize;
            if self.sent < len {
                break;
            }
            self.sent -= len;
            done += 1;
        }
        done
    }

    /// Removes the first `number` vectors.
    fn forget_front(&mut self, number: usize) {
        let len = self.vectors.len();
        let number = number.min(len);
        self.vectors.copy_within(number.., 0);
        self.vectors.truncate(len - number);
    }

    /// Throws away what was not sent. After a partial send the connection is of no more use.
    pub(crate) fn clear(&mut self) {
        // INVARIANT: No vectors, so nobody needs the owners. The header page goes on being filled
        // behind what was sent.
        self.vectors.truncate(0);
        self.owners.truncate(0);
        self.sent = 0;
        self.left = 0;
    }
}
