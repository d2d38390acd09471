// SPDX-License-Identifier: GPL-2.0-only

//! The backing disk of a volume.

pub(crate) mod attach;
pub(crate) mod bitmap_pages;
pub(crate) mod metadata;
pub(crate) mod peer_io;

use crate::{
    complete::CloneDone,
    kabi::{
        bdev::BackingDevice,
        bio::{
            BioSet,
            BufSet, //
        },
        meta_io::MetaIo, //
    }, //
};
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
    sync::Mutex, //
};
use peer_io::{
    FlushDone,
    PeerDone, //
};

/// Open backing devices and the pools of their bios.
///
/// Fields drop in order: the sets wait for their bios, then the devices are closed. Dropped in
/// process context only.
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
    /// May sleep, for as long as the device takes.
    ///
    /// # Errors
    ///
    /// That of the device.
    pub(crate) fn flush_data_apart(&self) -> Result {
        if self.data.same_device(&self.meta) {
            return Ok(());
        }
        self.data.flush()
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
