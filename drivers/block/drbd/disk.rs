// SPDX-License-Identifier: GPL-2.0-only

//! The backing disk of a volume.

pub(crate) mod attach;
pub(crate) mod bitmap_pages;
pub(crate) mod metadata;
pub(crate) mod peer_io;

use crate::{
    complete::CloneDone,
    disk::peer_io::{
        FlushDone,
        PeerDone, //
    },
    kabi::{
        bdev::BackingDevice,
        bio::{
            BioSet,
            BufSet, //
        },
        drain::{
            Drain,
            Use, //
        },
        meta_io::{
            MetaError,
            MetaIo,
            Patience, //
        }, //
    }, //
};
use core::ops::Deref;
use drbd_core::discard::{
    DiscardLimits,
    Plan,
    Step, //
};
use drbd_format::{
    disk::layout::Layout,
    units::{
        Sector,
        SectorCount, //
    }, //
};
use kernel::{
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// What a volume has for a disk. Lies beside the core, under the same lock: whoever is let go by
/// the core gets the disk that the core means.
#[derive(Default)]
pub(crate) enum Place {
    /// None.
    #[default]
    Empty,
    /// A disk that may be used.
    InUse(InUse),
    /// One that nobody gets any more; those who have it still use it.
    Closing,
}

impl Place {
    /// Gives the disk to somebody. Any context.
    pub(crate) fn get(&self) -> Option<BackingRef> {
        match self {
            Self::InUse(disk) => Some(disk.get()),
            Self::Empty | Self::Closing => None,
        }
    }

    /// Whether the data are on a device that has a volatile cache now. Any context.
    pub(crate) fn has_cache(&self) -> bool {
        matches!(self, Self::InUse(disk) if disk.backing.data.has_cache())
    }
}

/// A backing disk and the count of those who use it.
///
/// Fields drop in order: the last user is waited for, then the disk is closed. May sleep.
pub(crate) struct InUse {
    users: Drain,
    backing: Arc<Backing>,
}

impl InUse {
    /// Puts a disk into use. May sleep.
    pub(crate) fn new(backing: Arc<Backing>) -> Result<Self> {
        Ok(Self {
            users: Drain::new()?,
            backing,
        })
    }

    /// Takes the links to the devices out of sysfs. May sleep.
    pub(crate) fn unlink(&self) {
        self.backing.data.unlink();
        self.backing.meta.unlink();
    }

    fn get(&self) -> BackingRef {
        BackingRef {
            backing: self.backing.clone(),
            _use: self.users.enter(),
        }
    }
}

/// The disk in the hands of somebody, for the time of a call. It is not closed before it comes
/// back, and no other one takes its place. Dropping it is possible in any context and never waits.
///
/// The reference goes before the use, so it is never the last one.
pub(crate) struct BackingRef {
    backing: Arc<Backing>,
    _use: Use,
}

impl Deref for BackingRef {
    type Target = Backing;

    fn deref(&self) -> &Backing {
        &self.backing
    }
}

/// Open backing devices and the pools of their bios.
///
/// Fields drop in order: the sets wait for their bios, then the devices are closed. Dropped by a
/// work item, which waits for a disk that does not answer (`attach::close`).
#[pin_data]
pub(crate) struct Backing {
    /// Clones of upper bios.
    pub(crate) clones: BioSet<CloneDone>,
    /// Flushes between epochs.
    pub(crate) flushes: BioSet<FlushDone>,
    /// Reads and writes for the peer.
    pub(crate) peer: BufSet<PeerDone>,
    /// Superblock and bitmap: one synchronous operation at a time.
    #[pin]
    pub(crate) metadata: Mutex<MetaIo>,
    /// Activity log; used by the volume's worker only.
    #[pin]
    pub(crate) activity_log: Mutex<MetaIo>,
    /// Where superblock, activity log and bitmap lie on the metadata device.
    pub(crate) layout: Layout,
    /// 4 KiB pages of the bitmap that the device needs.
    pub(crate) bitmap_pages: u32,
    /// The device that holds the data.
    pub(crate) data: BackingDevice,
    /// The device that holds the metadata; the same device opened again if they are internal.
    pub(crate) meta: BackingDevice,
}

impl Backing {
    /// Makes the data stable if a flush of the metadata does not: they are on devices of their own.
    /// May sleep. `io` is one of the two for metadata.
    ///
    /// # Errors
    ///
    /// As [`MetaIo::flush`].
    pub(crate) fn flush_data_apart(
        &self,
        io: &mut MetaIo,
        patience: &Patience<'_>,
    ) -> Result<(), MetaError> {
        if self.data.same_device(&self.meta) {
            return Ok(());
        }
        io.flush(&self.data, patience)
    }

    /// Discards or zeroes a range of data. May sleep.
    ///
    /// # Errors
    ///
    /// The first error ends the operation.
    pub(crate) fn discard(
        &self,
        sector: Sector,
        len_bytes: u32,
        zero_out: bool,
        may_unmap: bool,
    ) -> Result {
        let limits = self.data.limits();
        let limits = DiscardLimits {
            granularity: limits.discard_granularity_bytes / 512,
            alignment: limits.discard_alignment_bytes / 512,
            max: limits.max_discard_sectors,
        };
        let count = SectorCount(u64::from(len_bytes / 512));
        for step in Plan::new(sector, count, limits, zero_out, may_unmap) {
            match step {
                Step::Discard(at, count) => self.data.discard(at.0, count.0)?,
                Step::Zero(at, count, unmap) => self.data.zeroout(at.0, count.0, unmap)?,
            }
        }
        Ok(())
    }
}
