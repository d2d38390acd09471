// SPDX-License-Identifier: GPL-2.0-only

//! Synchronous reads and writes of 4 KiB blocks: superblock, activity log, bitmap.

use super::{
    bdev::BackingDevice,
    bio::{
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

/// Where the result of an operation is left.
#[pin_data]
struct Slot {
    #[pin]
    result: SpinLockIrq<Option<(PageBuf, Result)>>,
    #[pin]
    done: WaitQueue,
}

impl Slot {
    fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                result <- new_spinlock_irq!(None),
                done <- WaitQueue::new(),
            }),
            GFP_KERNEL,
        )
    }
}

struct Finished(Arc<Slot>);

impl BufDone for Finished {
    fn done(self, buf: PageBuf, result: Result) {
        *self.0.result.lock() = Some((buf, result));
        self.0.done.wake_all();
    }
}

/// One block and one operation at a time; nothing is allocated while it works as it should.
///
/// Dropping it waits for an operation that ran into its time-out (may sleep).
pub(crate) struct MetaIo {
    // Before the pool, whose pages may still be on their way.
    set: BufSet<Finished>,
    slot: Arc<Slot>,
    block: Option<PageBuf>,
    pool: Arc<PagePool>,
    timeout_ms: Option<u32>,
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
            slot: Slot::new()?,
            block: Some(Self::fresh_block(&pool)?),
            pool,
            timeout_ms: None,
        };
        this.bytes_mut().fill(0);
        Ok(this)
    }

    fn fresh_block(pool: &Arc<PagePool>) -> Result<PageBuf> {
        let mut block = PagePool::alloc(pool, BLOCK_LEN as u32)?;
        block.zero();
        Ok(block)
    }

    /// Sets how long an operation may take; `None`, as at the beginning, is for ever.
    pub(crate) fn set_timeout_ms(&mut self, timeout_ms: Option<u32>) {
        self.timeout_ms = timeout_ms;
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
    /// `ETIMEDOUT` if the device did not answer in time: the block is a new one then, and empty.
    /// Errors of the device.
    pub(crate) fn read(&mut self, device: &BackingDevice, sector: u64) -> Result {
        let flags = Flags::META | Flags::PRIO | Flags::SYNC;
        self.run(device, Op::Read, flags, sector)
    }

    /// Writes the block to `sector` and waits. May sleep. `flags` say whether it must be stable
    /// ([`Flags::FUA`]) and after what ([`Flags::PREFLUSH`]).
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub(crate) fn write(&mut self, device: &BackingDevice, sector: u64, flags: Flags) -> Result {
        let flags = flags | Flags::META | Flags::PRIO | Flags::SYNC;
        self.run(device, Op::Write, flags, sector)
    }

    fn run(&mut self, device: &BackingDevice, op: Op, flags: Flags, sector: u64) -> Result {
        let block = match self.block.take() {
            Some(block) => block,
            // The last operation was given up.
            None => Self::fresh_block(&self.pool)?,
        };
        let context = Finished(self.slot.clone());
        self.set.submit(device, op, flags, sector, block, context);
        let slot = &self.slot;
        let take = || slot.result.lock().take();
        let answer = match self.timeout_ms {
            None => Some(slot.done.wait(take)),
            Some(timeout_ms) => slot.done.wait_timeout(timeout_ms, take),
        };
        match answer {
            Some((block, result)) => {
                self.block = Some(block);
                result
            }
            None => {
                // Block and slot stay with the operation; it must not meet the next one.
                self.slot = Slot::new()?;
                self.block = Some(Self::fresh_block(&self.pool)?);
                Err(ETIMEDOUT)
            }
        }
    }
}
