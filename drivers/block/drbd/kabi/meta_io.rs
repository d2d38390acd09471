// SPDX-License-Identifier: GPL-2.0-only

//! Synchronous reads and writes of 4 KiB blocks: superblock, activity log, bitmap; flushes that go
//! before them. Whoever waits may lose patience.

use super::{
    bdev::BackingDevice,
    bio::{
        BioDone,
        BioSet,
        BufDone,
        BufSet,
        Flags,
        Op, //
    },
    page::{
        PageBuf,
        PagePool, //
    },
    wait::WaitQueue, //
};
use kernel::{
    new_spinlock_irq,
    prelude::*,
    sync::{
        Arc,
        SpinLockIrq, //
    }, //
};

/// Size of a metadata block, in bytes.
pub(crate) const BLOCK_LEN: usize = 4096;

/// How often somebody who waits is asked whether the answer is still wanted, in milliseconds.
const LOOK_MS: u32 = 200;

/// How long an operation is waited for.
pub(crate) struct Patience<'a> {
    /// At most; `None` is for ever.
    pub(crate) timeout_ms: Option<u32>,
    /// Asked now and again while the device does not answer: nobody wants the answer any more.
    pub(crate) given_up: &'a dyn Fn() -> bool,
}

impl Patience<'_> {
    /// Waits until the device answers, whatever that takes.
    pub(crate) const ENDLESS: Self = Patience {
        timeout_ms: None,
        given_up: &|| false,
    };
}

/// Why an operation failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MetaError {
    /// The device, or the want of memory.
    Failed(Error),
    /// The device did not answer in time. It may still do what it was told to.
    NoAnswer,
}

impl From<Error> for MetaError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Where the result of an operation is left.
#[pin_data]
struct Slot<T> {
    #[pin]
    result: SpinLockIrq<Option<T>>,
    #[pin]
    done: WaitQueue,
}

impl<T: Unpin> Slot<T> {
    fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                result <- new_spinlock_irq!(None),
                done <- WaitQueue::new(),
            }),
            GFP_KERNEL,
        )
    }

    fn put(&self, result: T) {
        *self.result.lock() = Some(result);
        self.done.wake_all();
    }

    /// Waits for the result, unless patience is lost before. May sleep.
    fn wait(&self, patience: &Patience<'_>) -> Option<T> {
        let mut left = patience.timeout_ms;
        loop {
            let slice = left.map_or(LOOK_MS, |left| left.min(LOOK_MS));
            let take = || self.result.lock().take();
            if let Some(result) = self.done.wait_timeout(slice, take) {
                return Some(result);
            }
            left = left.map(|left| left.saturating_sub(slice));
            if left == Some(0) || (patience.given_up)() {
                return None;
            }
        }
    }
}

struct Finished(Arc<Slot<(PageBuf, Result)>>);

impl BufDone for Finished {
    fn done(self, buf: PageBuf, result: Result) {
        self.0.put((buf, result));
    }
}

struct Flushed(Arc<Slot<Result>>);

impl BioDone for Flushed {
    fn done(self, result: Result) {
        self.0.put(result);
    }
}

/// One block and one operation at a time; nothing is allocated while it works as it should.
///
/// Dropping it waits for an operation that nobody waited for to its end (may sleep).
pub(crate) struct MetaIo {
    // Before the pool, whose pages may still be on their way.
    set: BufSet<Finished>,
    flushes: BioSet<Flushed>,
    /// Those that no operation has: what nobody waited for to its end keeps its own.
    slot: Option<Arc<Slot<(PageBuf, Result)>>>,
    flush_slot: Option<Arc<Slot<Result>>>,
    block: Option<PageBuf>,
    pool: Arc<PagePool>,
}

impl MetaIo {
    /// Allocates what is needed. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        let pool = PagePool::new(2)?;
        let mut this = Self {
            set: BufSet::new(2)?,
            flushes: BioSet::new(2)?,
            slot: Some(Slot::new()?),
            flush_slot: Some(Slot::new()?),
            block: Some(Self::fresh_block(&pool)?),
            pool,
        };
        this.bytes_mut().fill(0);
        Ok(this)
    }

    fn fresh_block(pool: &Arc<PagePool>) -> Result<PageBuf> {
        let mut block = PagePool::alloc(pool, BLOCK_LEN as u32)?;
        block.zero();
        Ok(block)
    }

    /// The block: what was read, or is to be written.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.block
            .as_ref()
            .and_then(|block| block.chunks().next())
            .unwrap_or(&[])
    }

    /// The block, for filling.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.block
            .as_mut()
            .and_then(|block| block.chunks_mut().next())
            .unwrap_or(&mut [])
    }

    /// Reads the block at `sector` and waits. May sleep.
    ///
    /// # Errors
    ///
    /// No answer: the block is a new one then, and empty. Errors of the device.
    pub(crate) fn read(
        &mut self,
        device: &BackingDevice,
        sector: u64,
        patience: &Patience<'_>,
    ) -> Result<(), MetaError> {
        let flags = Flags::META | Flags::PRIO | Flags::SYNC;
        self.run(device, Op::Read, flags, sector, patience)
    }

    /// Reads `len_bytes` from `sector` on and waits. The block stays as it is. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: nothing was read, and [`read`](Self::read) does without memory. `EINVAL` for a
    /// length of zero or above [`BUF_LEN_MAX`](super::page::BUF_LEN_MAX). No answer; errors of the
    /// device.
    pub(crate) fn read_many(
        &mut self,
        device: &BackingDevice,
        sector: u64,
        len_bytes: u32,
        patience: &Patience<'_>,
    ) -> Result<PageBuf, MetaError> {
        let buf = PagePool::try_alloc(&self.pool, len_bytes)?;
        self.prepare_slot()?;
        let flags = Flags::META | Flags::PRIO | Flags::SYNC;
        let (buf, result) = self.transfer(device, Op::Read, flags, sector, buf, patience)?;
        result?;
        Ok(buf)
    }

    /// Writes the block to `sector` and waits. May sleep. `flags` say whether it must be stable
    /// ([`Flags::FUA`]) and after what ([`Flags::PREFLUSH`]).
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub(crate) fn write(
        &mut self,
        device: &BackingDevice,
        sector: u64,
        flags: Flags,
        patience: &Patience<'_>,
    ) -> Result<(), MetaError> {
        let flags = flags | Flags::META | Flags::PRIO | Flags::SYNC;
        self.run(device, Op::Write, flags, sector, patience)
    }

    /// Makes stable what the device has written, and waits. The block stays as it is. May sleep.
    ///
    /// # Errors
    ///
    /// No answer; errors of the device.
    pub(crate) fn flush(
        &mut self,
        device: &BackingDevice,
        patience: &Patience<'_>,
    ) -> Result<(), MetaError> {
        let slot = match self.flush_slot.take() {
            Some(slot) => slot,
            None => Slot::new()?,
        };
        self.flushes.submit_flush(device, Flushed(slot.clone()));
        let result = slot.wait(patience).ok_or(MetaError::NoAnswer)?;
        self.flush_slot = Some(slot);
        Ok(result?)
    }

    fn run(
        &mut self,
        device: &BackingDevice,
        op: Op,
        flags: Flags,
        sector: u64,
        patience: &Patience<'_>,
    ) -> Result<(), MetaError> {
        // Before the block, which is to stay if there is no memory.
        self.prepare_slot()?;
        let block = match self.block.take() {
            Some(block) => block,
            // There was no memory after the last operation was given up.
            None => Self::fresh_block(&self.pool)?,
        };
        match self.transfer(device, op, flags, sector, block, patience) {
            Ok((block, result)) => {
                self.block = Some(block);
                Ok(result?)
            }
            Err(error) => {
                self.block = Self::fresh_block(&self.pool).ok();
                Err(error)
            }
        }
    }

    /// Sees to it that there is a place for the result of the next operation. May sleep.
    fn prepare_slot(&mut self) -> Result {
        if self.slot.is_none() {
            self.slot = Some(Slot::new()?);
        }
        Ok(())
    }

    /// Reads into `buf` or writes it, and waits; there is a slot. Without an answer buffer and slot
    /// stay with the operation, which must not meet the next one. May sleep.
    fn transfer(
        &mut self,
        device: &BackingDevice,
        op: Op,
        flags: Flags,
        sector: u64,
        buf: PageBuf,
        patience: &Patience<'_>,
    ) -> Result<(PageBuf, Result), MetaError> {
        let slot = self.slot.take().ok_or(ENOMEM)?;
        let context = Finished(slot.clone());
        self.set.submit(device, op, flags, sector, buf, context);
        let answer = slot.wait(patience).ok_or(MetaError::NoAnswer)?;
        self.slot = Some(slot);
        Ok(answer)
    }
}
