// SPDX-License-Identifier: GPL-2.0-only

//! Bios: those of the upper layer, which we must end exactly once, and our own ones.
//!
//! Memory safety rests on holds: whoever works with the pages of an upper bio (a clone on its way
//! to the disk, the sender, the receiver) has a [`BioHold`], and the upper layer gets its bio back
//! when it was ended *and* the last hold is gone. So ending it early is never dangerous.
//!
//! The context of our own bios travels in the front padding of the bio set, by value; no request
//! allocates memory outside the pools.

use super::{
    bdev::BackingDevice,
    drain::{
        Drain,
        Use, //
    },
    ffi,
    page::PageBuf, //
};
use core::{
    marker::PhantomData,
    mem::{
        align_of,
        size_of, //
    },
    ops::BitOr,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    prelude::*, //
};

const OP_MASK: u32 = 0xff;

/// What a bio wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Op {
    /// Read data.
    Read,
    /// Write data, perhaps with a flush before it or forced to stable storage.
    Write,
    /// No data, only "make everything that was written stable".
    Flush,
    /// The content is not needed any more.
    Discard,
    /// Fill with zeroes.
    WriteZeroes,
    /// Something that we do not offer.
    Other,
}

/// Modifiers of a bio.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Flags(u32);

impl Flags {
    /// No modifier.
    pub(crate) const NONE: Self = Self(0);
    /// The data must be on stable storage when the bio ends.
    pub(crate) const FUA: Self = Self(1 << bindings::req_flag_bits___REQ_FUA);
    /// Earlier writes must be on stable storage first.
    pub(crate) const PREFLUSH: Self = Self(1 << bindings::req_flag_bits___REQ_PREFLUSH);
    /// Somebody waits for it.
    pub(crate) const SYNC: Self = Self(1 << bindings::req_flag_bits___REQ_SYNC);
    /// Metadata.
    pub(crate) const META: Self = Self(1 << bindings::req_flag_bits___REQ_META);
    /// High priority.
    pub(crate) const PRIO: Self = Self(1 << bindings::req_flag_bits___REQ_PRIO);
    /// Read ahead; may fail at will.
    pub(crate) const RAHEAD: Self = Self(1 << bindings::req_flag_bits___REQ_RAHEAD);
    /// Write zeroes without giving back the space.
    pub(crate) const NOUNMAP: Self = Self(1 << bindings::req_flag_bits___REQ_NOUNMAP);

    /// Whether all modifiers of `other` are set.
    pub(crate) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What is common to the views of an upper bio.
///
/// # Invariants
///
/// `ptr` is a bio that was submitted to one of our disks and whose remaining count includes this
/// value. Until it is given back nobody changes its operation, iterator or vectors.
struct Upper {
    ptr: NonNull<bindings::bio>,
}

impl Upper {
    /// Operation and modifiers.
    fn opf(&self) -> bindings::blk_opf_t {
        // SAFETY: By the type invariant the bio is there and nobody changes this field. Others
        // change at any time, so that there is no reference to the whole.
        unsafe { (&raw const (*self.ptr.as_ptr()).bi_opf).read() }
    }

    fn iter(&self) -> bindings::bvec_iter {
        // SAFETY: As in `opf`.
        unsafe { (&raw const (*self.ptr.as_ptr()).bi_iter).read() }
    }

    fn op(&self) -> Op {
        let opf = self.opf();
        match opf & OP_MASK {
            bindings::req_op_REQ_OP_READ => Op::Read,
            bindings::req_op_REQ_OP_WRITE if self.len_bytes() == 0 => Op::Flush,
            bindings::req_op_REQ_OP_WRITE => Op::Write,
            bindings::req_op_REQ_OP_FLUSH => Op::Flush,
            bindings::req_op_REQ_OP_DISCARD => Op::Discard,
            bindings::req_op_REQ_OP_WRITE_ZEROES => Op::WriteZeroes,
            _ => Op::Other,
        }
    }

    fn flags(&self) -> Flags {
        Flags(self.opf() & !OP_MASK)
    }

    fn sector(&self) -> u64 {
        self.iter().bi_sector
    }

    fn len_bytes(&self) -> u32 {
        self.iter().bi_size
    }

    /// Whether there are pages behind the length.
    fn has_data(&self) -> bool {
        matches!(self.op(), Op::Read | Op::Write)
    }
}

/// A bio of the upper layer. Dropping it ends it with an I/O error.
pub(crate) struct IncomingBio {
    upper: Upper,
    accounting_start: Option<c_ulong>,
}

// SAFETY: A bio may be ended by any thread. The value is not `Sync`, because taking a hold sets a
// flag of the bio without atomics.
unsafe impl Send for IncomingBio {}

impl IncomingBio {
    /// Takes over a bio from the block layer.
    ///
    /// # Safety
    ///
    /// `ptr` is the bio that a `submit_bio` callback got, and the caller gives it away.
    pub(super) unsafe fn from_raw(ptr: NonNull<bindings::bio>) -> Self {
        // INVARIANT: A bio that was just submitted has one remaining count, which we take over.
        let upper = Upper { ptr };
        Self {
            upper,
            accounting_start: None,
        }
    }

    /// What the bio wants.
    pub(crate) fn op(&self) -> Op {
        self.upper.op()
    }

    /// The modifiers.
    pub(crate) fn flags(&self) -> Flags {
        self.upper.flags()
    }

    /// First sector, of 512 bytes.
    pub(crate) fn sector(&self) -> u64 {
        self.upper.sector()
    }

    /// Length in bytes; for discards too. 0 for a flush.
    pub(crate) fn len_bytes(&self) -> u32 {
        self.upper.len_bytes()
    }

    /// Starts the I/O statistics of the disk for this bio; [`end`](Self::end) closes them.
    pub(crate) fn start_accounting(&mut self) {
        let mut start: c_ulong = 0;
        // SAFETY: The bio is ours by the type invariant.
        unsafe { ffi::drbd_helper_bio_start_acct(self.upper.ptr.as_ptr(), &mut start) };
        self.accounting_start = Some(start);
    }

    /// Keeps the pages of the bio until the hold is dropped. Any context.
    pub(crate) fn hold(&self) -> BioHold {
        // SAFETY: The bio is ours by the type invariant, so its remaining count is not zero.
        unsafe { ffi::drbd_helper_bio_hold(self.upper.ptr.as_ptr()) };
        // INVARIANT: The count for the hold was just taken.
        BioHold {
            upper: Upper {
                ptr: self.upper.ptr,
            },
        }
    }

    /// Ends the bio. Any context.
    ///
    /// The upper layer sees it when the last hold is gone as well.
    pub(crate) fn end(self, result: Result) {
        core::mem::ManuallyDrop::new(self).finish(result);
    }

    fn finish(&mut self, result: Result) {
        let ptr = self.upper.ptr.as_ptr();
        // SAFETY: The bio is ours by the type invariant; `bio_endio` takes the count away, and the
        // value is not used any more by the two callers.
        unsafe {
            if let Some(start) = self.accounting_start {
                ffi::drbd_helper_bio_end_acct(ptr, start);
            }
            if let Err(error) = result {
                ffi::drbd_helper_bio_set_errno(ptr, error.to_errno());
            }
            bindings::bio_endio(ptr);
        }
    }
}

impl Drop for IncomingBio {
    fn drop(&mut self) {
        self.finish(Err(EIO));
    }
}

/// Keeps an upper bio and its pages alive. May be dropped in any context.
pub(crate) struct BioHold {
    upper: Upper,
}

// SAFETY: A remaining count may be given back by any thread.
unsafe impl Send for BioHold {}
// SAFETY: Shared access only reads fields that do not change.
unsafe impl Sync for BioHold {}

impl BioHold {
    /// What the bio wants.
    pub(crate) fn op(&self) -> Op {
        self.upper.op()
    }

    /// First sector, of 512 bytes.
    pub(crate) fn sector(&self) -> u64 {
        self.upper.sector()
    }

    /// Length in bytes.
    pub(crate) fn len_bytes(&self) -> u32 {
        self.upper.len_bytes()
    }

    /// The vectors with the offset into the first one, the number of vectors, and the number of
    /// bytes: what an `iov_iter` wants. Empty for bios without data.
    pub(super) fn vectors(&self) -> (*const bindings::bio_vec, usize, usize, usize) {
        if !self.upper.has_data() {
            return (core::ptr::null(), 0, 0, 0);
        }
        let iter = self.upper.iter();
        let len = iter.bi_size as usize;
        let offset = iter.bi_offset as usize;
        // SAFETY: The bio is there and its vectors are not changed, by the type invariant. The
        // iterator of a valid bio points to an existing vector.
        let first = unsafe {
            let vectors = (&raw const (*self.upper.ptr.as_ptr()).bi_io_vec).read();
            vectors.add(iter.bi_idx as usize).cast_const()
        };
        let mut count = 0;
        let mut covered = 0;
        while covered < offset + len {
            // SAFETY: The vectors of a bio cover its length.
            covered += unsafe { (*first.add(count)).bv_len } as usize;
            count += 1;
        }
        (first, count, offset, len)
    }

    /// Calls `f` with address and length of each piece of memory of the bio.
    pub(super) fn for_each_piece(&self, mut f: impl FnMut(*mut u8, usize)) {
        let (vectors, count, mut offset, mut left) = self.vectors();
        for index in 0..count {
            // SAFETY: `vectors` says that there are `count` of them. The pages are mapped, as
            // 64-bit kernels have no high memory, and a vector is contiguous in memory.
            let (address, len) = unsafe {
                let vector = &*vectors.add(index);
                let page = ffi::drbd_helper_page_address(vector.bv_page).cast::<u8>();
                (page.add(vector.bv_offset as usize), vector.bv_len as usize)
            };
            let len = (len - offset).min(left);
            // SAFETY: `offset` is smaller than the first vector and zero for the others.
            f(unsafe { address.add(offset) }, len);
            offset = 0;
            left -= len;
        }
    }

    /// Copies the data of the bio from byte `offset` on into `out`; returns how many there were.
    pub(crate) fn copy_to(&self, offset: usize, out: &mut [u8]) -> usize {
        let mut skip = offset;
        let mut done = 0;
        self.for_each_piece(|address, len| {
            if skip >= len {
                skip -= len;
                return;
            }
            let take = (len - skip).min(out.len() - done);
            // SAFETY: The piece is valid. The upper layer may write to it meanwhile, as it may
            // while a device reads it: like there, any of the bytes may be the old or the new one,
            // and nothing is concluded from them. No reference to the piece exists.
            unsafe { core::ptr::copy(address.add(skip), out.as_mut_ptr().add(done), take) };
            done += take;
            skip = 0;
        });
        done
    }
}

impl Drop for BioHold {
    fn drop(&mut self) {
        // SAFETY: Gives back the count that `hold` took.
        unsafe { bindings::bio_endio(self.upper.ptr.as_ptr()) };
    }
}

/// Context of a bio without a buffer of ours: a clone, a flush.
pub(crate) trait BioDone: Send + 'static {
    /// The bio came back. May run in hard interrupt context; must not sleep.
    fn done(self, result: Result);
}

/// Context of a bio over a [`PageBuf`].
pub(crate) trait BufDone: Send + 'static {
    /// The bio came back, with its buffer. May run in hard interrupt context; must not sleep.
    fn done(self, buf: PageBuf, result: Result);
}

/// What the front padding of a bio in flight holds.
struct Front<P> {
    payload: P,
    _device: Use,
    _set: Use,
}

trait Payload: Send + 'static {
    fn done(self, result: Result);
}

/// A bio set whose bios carry a `P`.
///
/// # Invariants
///
/// `set` has room for a `Front<P>` in front of each bio.
struct RawSet<P: Payload> {
    // Goes first: it waits for all bios.
    users: Drain,
    set: SetPtr,
    _payload: PhantomData<P>,
}

/// A bio set of the kernel.
///
/// # Invariants
///
/// The pointer is valid and belongs to this value.
struct SetPtr(NonNull<c_void>);

impl Drop for SetPtr {
    fn drop(&mut self) {
        // SAFETY: By the type invariant. The owner has waited for all bios of the set.
        unsafe { ffi::drbd_helper_bioset_free(self.0.as_ptr()) };
    }
}

// SAFETY: Bio sets are safe to use from several threads; `P` is `Send`, only moved through.
unsafe impl<P: Payload> Send for RawSet<P> {}
// SAFETY: As above.
unsafe impl<P: Payload> Sync for RawSet<P> {}

impl<P: Payload> RawSet<P> {
    /// Bios are aligned to eight bytes.
    const PAD: usize = size_of::<Front<P>>().next_multiple_of(8);

    fn new(reserve: usize) -> Result<Self> {
        const { assert!(align_of::<Front<P>>() <= 8) };
        let reserve = c_uint::try_from(reserve.max(1)).map_err(|_| EINVAL)?;
        let users = Drain::new()?;
        // SAFETY: A plain constructor.
        let set = unsafe { ffi::drbd_helper_bioset_new(reserve, Self::PAD as c_uint) };
        // INVARIANT: The set is new and was made with the padding.
        Ok(Self {
            users,
            set: SetPtr(NonNull::new(set).ok_or(ENOMEM)?),
            _payload: PhantomData,
        })
    }

    fn as_ptr(&self) -> *mut c_void {
        self.set.0.as_ptr()
    }

    /// Sends `bio` off.
    ///
    /// # Safety
    ///
    /// `bio` comes from this set, is complete, and belongs to the caller, who gives it away.
    /// Whatever its vectors point to is kept alive by `payload`.
    unsafe fn submit(&self, bio: *mut bindings::bio, device: Use, payload: P) {
        let front = Front {
            payload,
            _device: device,
            _set: self.users.enter(),
        };
        // SAFETY: By the type invariant there are `PAD` bytes in front of the bio, suitably
        // aligned. `end_io` takes the value out again, once.
        unsafe {
            bio.byte_sub(Self::PAD).cast::<Front<P>>().write(front);
            (*bio).bi_end_io = Some(Self::end_io);
            bindings::submit_bio_noacct(bio);
        }
    }

    /// # Safety
    ///
    /// Called by the block layer for a bio that `submit` sent off.
    unsafe extern "C" fn end_io(bio: *mut bindings::bio) {
        // SAFETY: `submit` put the value there. The bio is ours again, and freed here.
        let (front, errno) = unsafe {
            let front = bio.byte_sub(Self::PAD).cast::<Front<P>>().read();
            let errno = ffi::drbd_helper_bio_errno(bio);
            bindings::bio_put(bio);
            (front, errno)
        };
        let Front {
            payload,
            _device,
            _set,
        } = front;
        payload.done(kernel::error::to_result(errno));
    }
}

struct CloneIo<C> {
    hold: Option<BioHold>,
    ctx: C,
}

impl<C: BioDone> Payload for CloneIo<C> {
    fn done(self, result: Result) {
        let Self { hold, ctx } = self;
        drop(hold);
        ctx.done(result);
    }
}

/// Bios without a buffer of ours: clones of upper bios, flushes.
///
/// Dropping the set waits until all its bios are back (may sleep).
pub(crate) struct BioSet<C: BioDone>(RawSet<CloneIo<C>>);

impl<C: BioDone> BioSet<C> {
    /// Creates a set that guarantees `reserve` bios at a time. May sleep.
    pub(crate) fn new(reserve: usize) -> Result<Self> {
        Ok(Self(RawSet::new(reserve)?))
    }

    /// Makes a copy of the bio that `hold` keeps, with the same operation, sector and pages, and
    /// submits it to `device`. May sleep until memory comes back to the reserve.
    pub(crate) fn submit_held(&self, device: &BackingDevice, hold: BioHold, ctx: C) {
        // SAFETY: Device and set are valid, the hold keeps the bio; sleeping allocations from a bio
        // set do not fail.
        let bio = unsafe {
            ffi::drbd_helper_bio_clone(device.as_ptr(), hold.upper.ptr.as_ptr(), self.0.as_ptr())
        };
        let hold = Some(hold);
        let payload = CloneIo { hold, ctx };
        if bio.is_null() {
            payload.done(Err(ENOMEM));
            return;
        }
        // SAFETY: The bio is new and ours, from this set. The hold keeps its pages and vectors.
        unsafe { self.0.submit(bio, device.enter(), payload) };
    }

    /// Submits an empty flush. May sleep.
    pub(crate) fn submit_flush(&self, device: &BackingDevice, ctx: C) {
        let opf = bindings::req_op_REQ_OP_WRITE | (Flags::PREFLUSH | Flags::SYNC).0;
        // SAFETY: Device and set are valid.
        let bio = unsafe { ffi::drbd_helper_bio_alloc(device.as_ptr(), opf, self.0.as_ptr()) };
        let payload = CloneIo { hold: None, ctx };
        if bio.is_null() {
            payload.done(Err(ENOMEM));
            return;
        }
        // SAFETY: The bio is new and ours, from this set, and has no vectors.
        unsafe { self.0.submit(bio, device.enter(), payload) };
    }
}

struct BufIo<C> {
    buf: PageBuf,
    ctx: C,
}

impl<C: BufDone> Payload for BufIo<C> {
    fn done(self, result: Result) {
        self.ctx.done(self.buf, result);
    }
}

/// Bios over buffers of ours.
///
/// Dropping the set waits until all its bios are back (may sleep).
pub(crate) struct BufSet<C: BufDone>(RawSet<BufIo<C>>);

impl<C: BufDone> BufSet<C> {
    /// Creates a set that guarantees `reserve` bios at a time. May sleep.
    pub(crate) fn new(reserve: usize) -> Result<Self> {
        Ok(Self(RawSet::new(reserve)?))
    }

    /// Reads into `buf` or writes it, as one bio; the block layer cuts it to what the device can
    /// take. May sleep. An `op` other than read or write comes back with `EINVAL`.
    pub(crate) fn submit(
        &self,
        device: &BackingDevice,
        op: Op,
        flags: Flags,
        sector: u64,
        buf: PageBuf,
        ctx: C,
    ) {
        let code = match op {
            Op::Read => bindings::req_op_REQ_OP_READ,
            Op::Write => bindings::req_op_REQ_OP_WRITE,
            Op::Flush | Op::Discard | Op::WriteZeroes | Op::Other => {
                ctx.done(buf, Err(EINVAL));
                return;
            }
        };
        // SAFETY: Device and set are valid.
        let bio =
            unsafe { ffi::drbd_helper_bio_alloc(device.as_ptr(), code | flags.0, self.0.as_ptr()) };
        if bio.is_null() {
            ctx.done(buf, Err(ENOMEM));
            return;
        }
        let vectors = buf.vectors();
        let count = vectors.len() as u16;
        let len = buf.len_bytes();
        let vectors = vectors.as_ptr().cast_mut();
        let payload = BufIo { buf, ctx };
        // SAFETY: The bio is new and ours, from this set. The payload owns the table with the
        // vectors, which does not move when the value moves, and its pages.
        unsafe {
            ffi::drbd_helper_bio_attach(bio, sector, vectors, count, len);
            self.0.submit(bio, device.enter(), payload);
        }
    }
}

/// Runs `f` with a block plug, so that the requests submitted inside go out together. May sleep.
pub(crate) fn with_plug<R>(f: impl FnOnce() -> R) -> R {
    let mut plug = bindings::blk_plug::default();
    // SAFETY: The plug stays at its place on the stack until it is finished below, by the same
    // task. Code in the kernel does not unwind.
    unsafe { bindings::blk_start_plug(&mut plug) };
    let result = f();
    // SAFETY: As above.
    unsafe { bindings::blk_finish_plug(&mut plug) };
    result
}
