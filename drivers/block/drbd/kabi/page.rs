// SPDX-License-Identifier: GPL-2.0-only

//! Payload buffers: memory pages for received data, for reads on behalf of the peer and for
//! bitmap and metadata I/O.
//!
//! The pages are counted by the kernel's own page reference counts, so the network may go on using
//! a page that was sent by reference after its buffer is gone. High-order pages are tried first,
//! single pages from the reserve are the fall-back.

use super::ffi;
use core::{
    mem::size_of,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// Largest buffer, in bytes: the largest request of the protocol.
pub(crate) const BUF_LEN_MAX: u32 = 1 << 20;

/// Largest order of pages that is tried: 64 KiB with pages of 4 KiB.
const ORDER_MAX: u32 = 4;
const SMALL_PIECES: usize = 16;
const LARGE_PIECES: usize = (BUF_LEN_MAX as usize).div_ceil(PAGE_SIZE);

/// Reserves from which buffers are made when the system is short of memory.
///
/// # Invariants
///
/// The three pools are valid and all their elements are held by [`PageBuf`]s, which keep the
/// `PagePool` alive.
#[pin_data]
pub(crate) struct PagePool {
    pages: PoolGuard,
    small: PoolGuard,
    large: PoolGuard,
    /// Held by whoever collects a buffer of several pages from the reserve: two that are half
    /// complete would wait for each other.
    #[pin]
    collecting: Mutex<()>,
}

// SAFETY: Memory pools have their own lock.
unsafe impl Send for PagePool {}
// SAFETY: As above.
unsafe impl Sync for PagePool {}

const fn table_size(pieces: usize) -> usize {
    size_of::<Table>() + pieces * size_of::<bindings::bio_vec>()
}

impl PagePool {
    /// Creates a pool that guarantees `reserve_pages` single pages: as many as the largest buffer
    /// made from it has. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(reserve_pages: usize) -> Result<Arc<Self>> {
        let reserve = c_int::try_from(reserve_pages.max(1)).map_err(|_| EINVAL)?;
        // SAFETY: A plain constructor.
        let pages = NonNull::new(unsafe { ffi::drbd_helper_page_pool(reserve) }).ok_or(ENOMEM)?;
        let pages = PoolGuard(pages);
        // SAFETY: A plain constructor.
        let small = unsafe { ffi::drbd_helper_kmalloc_pool(reserve, table_size(SMALL_PIECES)) };
        let small = PoolGuard(NonNull::new(small).ok_or(ENOMEM)?);
        // SAFETY: A plain constructor.
        let large = unsafe { ffi::drbd_helper_kmalloc_pool(2, table_size(LARGE_PIECES)) };
        let large = PoolGuard(NonNull::new(large).ok_or(ENOMEM)?);
        // INVARIANT: The pools are new.
        Arc::pin_init(
            pin_init!(Self {
                pages,
                small,
                large,
                collecting <- new_mutex!(()),
            }),
            GFP_KERNEL,
        )
    }

    /// Makes a buffer of `len_bytes`; its content is undefined only in the sense of "old memory of
    /// the kernel" and must not leave the node. May sleep until a page comes back to the reserve.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the length is zero or above [`BUF_LEN_MAX`]. Never `ENOMEM`.
    pub(crate) fn alloc(pool: &Arc<Self>, len_bytes: u32) -> Result<PageBuf> {
        Self::make(pool, len_bytes, true)
    }

    /// Like [`alloc`](Self::alloc), but does not sleep: `ENOMEM` if memory is short. Any context
    /// but hard interrupts.
    pub(crate) fn try_alloc(pool: &Arc<Self>, len_bytes: u32) -> Result<PageBuf> {
        Self::make(pool, len_bytes, false)
    }

    fn make(pool: &Arc<Self>, len_bytes: u32, may_sleep: bool) -> Result<PageBuf> {
        if len_bytes == 0 || len_bytes > BUF_LEN_MAX {
            return Err(EINVAL);
        }
        let pages_wanted = (len_bytes as usize).div_ceil(PAGE_SIZE);
        let large = pages_wanted > SMALL_PIECES;
        let tables = if large { &pool.large } else { &pool.small };
        // SAFETY: By the type invariant the pool is valid.
        let table = unsafe { ffi::drbd_helper_pool_alloc(tables.0.as_ptr(), may_sleep) };
        let table = NonNull::new(table.cast::<Table>()).ok_or(ENOMEM)?;
        // SAFETY: The element is at least as large as a `Table` and aligned by kmalloc.
        unsafe {
            table.write(Table {
                pool: pool.clone(),
                len_bytes: 0,
                pieces: 0,
                large,
            });
        }
        // INVARIANT: The table is valid and has no pieces yet.
        let mut buf = PageBuf { table };
        while buf.len_bytes() < len_bytes && buf.grow(len_bytes - buf.len_bytes(), None).is_ok() {}
        if buf.len_bytes() == len_bytes {
            return Ok(buf);
        }
        // Memory is short: from here on the buffer lives from the reserve.
        let alone = may_sleep.then(|| pool.collecting.lock());
        while buf.len_bytes() < len_bytes {
            buf.grow(len_bytes - buf.len_bytes(), Some(may_sleep))?;
        }
        drop(alone);
        Ok(buf)
    }

    /// Gives a page back. Any context.
    ///
    /// One that the network still uses is freed by it, and so is lost for the reserve, if it came
    /// from there. Then the reserve gets another one, now or with a later page, once there is
    /// memory.
    ///
    /// # Safety
    ///
    /// The caller owns one reference to `page`, as a buffer of this pool does, and gives it away.
    unsafe fn release(&self, page: *mut bindings::page) {
        let pool = self.pages.0.as_ptr();
        // SAFETY: By the type invariant the pool is valid; by the contract of the function the
        // reference is ours. A new page is one that the pool could have made itself.
        unsafe {
            ffi::drbd_helper_page_release(page, pool);
            if ffi::drbd_helper_pool_lacks(pool) {
                // Null without memory, which is nothing to give.
                bindings::mempool_free(ffi::drbd_helper_page_try(0).cast(), pool);
            }
        }
    }
}

/// Owns a memory pool and destroys it. Any context.
struct PoolGuard(NonNull<bindings::mempool>);

impl Drop for PoolGuard {
    fn drop(&mut self) {
        // SAFETY: The pool is owned by this value, and nobody uses it any more. It frees the
        // elements that lie in it; a page that a socket still has left it for good in `release`
        // and goes with its last reference.
        unsafe { bindings::mempool_destroy(self.0.as_ptr()) };
    }
}

/// Head of the element that describes a buffer; `pieces` times `struct bio_vec` follow it.
#[repr(C)]
struct Table {
    pool: Arc<PagePool>,
    len_bytes: u32,
    pieces: u16,
    large: bool,
}

// The vectors behind the head must be aligned.
const _: () = assert!(size_of::<Table>() % align_of::<bindings::bio_vec>() == 0);

/// A buffer of pages. The value itself is one pointer; it may be dropped in any context.
///
/// # Invariants
///
/// `table` is a valid element of a table pool, owned by this value. Each of its `pieces` vectors
/// holds a reference to its page, starts at offset 0 of it and covers existing memory. The sum of
/// the vectors' lengths is `len_bytes`. Nobody writes to the memory but the owner of this value, or
/// the device or the socket the value was lent to. Until one of them has, it holds whatever its
/// last user left there.
pub(crate) struct PageBuf {
    table: NonNull<Table>,
}

// SAFETY: The memory belongs to the value; pages have no thread affinity.
unsafe impl Send for PageBuf {}
// SAFETY: Shared access only reads.
unsafe impl Sync for PageBuf {}

impl PageBuf {
    fn head(&self) -> &Table {
        // SAFETY: By the type invariant.
        unsafe { self.table.as_ref() }
    }

    fn vectors_ptr(&self) -> *mut bindings::bio_vec {
        // SAFETY: The vectors follow the head in the same allocation.
        unsafe { self.table.as_ptr().add(1) }.cast()
    }

    /// The vectors, to be lent to the block layer or a socket.
    pub(super) fn vectors(&self) -> &[bindings::bio_vec] {
        // SAFETY: By the type invariant that many vectors are initialised.
        unsafe { core::slice::from_raw_parts(self.vectors_ptr(), usize::from(self.head().pieces)) }
    }

    /// Adds one piece of at most `missing` bytes: free memory, or with `reserve` a page of the
    /// reserve, `Some(true)`: and sleeps until there is one.
    fn grow(&mut self, missing: u32, reserve: Option<bool>) -> Result {
        let pages = (missing as usize).div_ceil(PAGE_SIZE);
        let mut order = pages.ilog2().min(ORDER_MAX);
        let page = loop {
            if let (0, Some(may_sleep)) = (order, reserve) {
                let pages = self.head().pool.pages.0;
                // SAFETY: The pool is alive, the table holds a reference.
                break unsafe { ffi::drbd_helper_pool_page(pages.as_ptr(), may_sleep) };
            }
            // SAFETY: A plain constructor.
            let page = unsafe { ffi::drbd_helper_page_try(order) };
            if order == 0 || !page.is_null() {
                break page;
            }
            order -= 1;
        };
        if page.is_null() {
            return Err(ENOMEM);
        }
        let capacity = (PAGE_SIZE << order) as u32;
        let len = missing.min(capacity);
        // SAFETY: The table was chosen so that single pages for the whole length fit into it, so
        // there is room for one more vector. We have exclusive access.
        unsafe {
            let head = self.table.as_mut();
            let slot = self.table.as_ptr().add(1).cast::<bindings::bio_vec>();
            slot.add(usize::from(head.pieces)).write(bindings::bio_vec {
                bv_page: page,
                bv_len: len,
                bv_offset: 0,
            });
            // INVARIANT: The new vector owns the reference that the allocation gave us.
            head.pieces += 1;
            head.len_bytes += len;
        }
        Ok(())
    }

    /// Length in bytes.
    pub(crate) fn len_bytes(&self) -> u32 {
        self.head().len_bytes
    }

    /// The bytes, piece by piece: only what was written before means anything. Any context.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.vectors().iter().map(|vector| {
            // SAFETY: By the type invariant the vector covers memory that nobody writes to while
            // the buffer is borrowed. It comes from the page allocator, where all memory has
            // values, and each is a valid `u8`. There is no high memory on 64-bit machines.
            unsafe {
                let address = ffi::drbd_helper_page_address(vector.bv_page).cast::<u8>();
                core::slice::from_raw_parts(address, vector.bv_len as usize)
            }
        })
    }

    /// The bytes for writing, piece by piece. Not for a buffer that was already sent by reference:
    /// the peer would receive the new content.
    pub(crate) fn chunks_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let vectors = self.vectors_ptr();
        let pieces = usize::from(self.head().pieces);
        (0..pieces).map(move |index| {
            // SAFETY: As in `chunks`, with exclusive access; the pieces do not overlap.
            unsafe {
                let vector = &*vectors.add(index);
                let address = ffi::drbd_helper_page_address(vector.bv_page).cast::<u8>();
                core::slice::from_raw_parts_mut(address, vector.bv_len as usize)
            }
        })
    }

    /// Copies `bytes` to `offset` and returns how many fitted.
    pub(crate) fn copy_from(&mut self, offset: usize, bytes: &[u8]) -> usize {
        let mut skip = offset;
        let mut done = 0;
        for chunk in self.chunks_mut() {
            let chunk_len = chunk.len();
            let Some(rest) = chunk.get_mut(skip..) else {
                skip -= chunk_len;
                continue;
            };
            skip = 0;
            let len = rest.len().min(bytes.len() - done);
            rest[..len].copy_from_slice(&bytes[done..done + len]);
            done += len;
            if done == bytes.len() {
                break;
            }
        }
        done
    }

    /// Fills the buffer with zeroes.
    pub(crate) fn zero(&mut self) {
        for chunk in self.chunks_mut() {
            chunk.fill(0);
        }
    }

    /// Whether all bytes are zero.
    pub(crate) fn is_zero(&self) -> bool {
        self.chunks().all(|chunk| {
            // SAFETY: Every bit pattern is a valid `u64`.
            let (head, words, tail) = unsafe { chunk.align_to::<u64>() };
            let zero = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
            zero(head) && words.iter().all(|&word| word == 0) && zero(tail)
        })
    }
}

impl Drop for PageBuf {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the table, its pages and its pool are ours; the pool lives
        // until the reference taken out of the table is dropped at the end.
        unsafe {
            let head = self.table.read();
            for vector in self.vectors() {
                head.pool.release(vector.bv_page);
            }
            let tables = if head.large {
                &head.pool.large
            } else {
                &head.pool.small
            };
            bindings::mempool_free(self.table.as_ptr().cast(), tables.0.as_ptr());
        }
    }
}
