// SPDX-License-Identifier: GPL-2.0-only

//! Superblock and activity log: what the core has encoded is written durably.

use super::Backing;
use crate::{
    kabi::{
        bio::Flags,
        digest,
        meta_io::{
            MetaError,
            MetaIo,
            Patience,
            BLOCK_LEN, //
        }, //
    },
    volume::Volume, //
};
use drbd_core::{
    data::AlStep,
    input::Input, //
};
use drbd_format::units::Sector;
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Flags of a metadata write.
fn flags(flush: bool) -> Flags {
    let base = Flags::META | Flags::SYNC | Flags::PRIO;
    if flush {
        base | Flags::FUA | Flags::PREFLUSH
    } else {
        base
    }
}

/// The checksum of activity-log transactions (reference/metadata.md 3.3).
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    digest::crc32c(0, bytes)
}

/// Whether the disk is being given up by force.
pub(super) fn is_given_up(volume: &Volume) -> bool {
    let index = volume.index;
    volume
        .resource
        .with(|inner, _| inner.core.gives_up_disk(index))
}

/// Tells the core of a disk that has not answered. Returns whether the operation succeeded.
pub(super) fn settle(volume: &Volume, result: Result<(), MetaError>) -> bool {
    if result == Err(MetaError::NoAnswer) {
        let late = Input::MetadataTimedOut {
            volume: volume.index,
        };
        volume.resource.handle(late);
    }
    result.is_ok()
}

/// Writes the superblock and reports the outcome to the core. May sleep.
pub(crate) fn write_superblock(volume: &Volume) {
    let index = volume.index;
    let written = |ok| Input::MetadataWritten { volume: index, ok };
    // Whoever finds no disk says so at once: later it would be about the next one.
    let backing = volume.resource.with(|inner, now| {
        let backing = inner.backing(index);
        if backing.is_none() {
            inner.core.handle(&written(false), now);
        }
        backing
    });
    let Some(backing) = backing else {
        return;
    };
    let ok = settle(volume, try_write_superblock(volume, &backing));
    volume.resource.handle(written(ok));
}

fn try_write_superblock(volume: &Volume, backing: &Backing) -> Result<(), MetaError> {
    let index = volume.index;
    let mut io = backing.metadata.lock();
    let page = io.bytes_mut();
    let (flush, flush_data, timeout_ms) = volume
        .resource
        .with(|inner, _| {
            inner.core.encode_superblock(index, page)?;
            Some((
                inner.core.view(index).disk.md_flushes,
                inner.core.has_unstable_blocks(index),
                inner.core.disk_timeout_ms(index),
            ))
        })
        .ok_or(ENODEV)?;
    let given_up = || is_given_up(volume);
    let patience = Patience {
        timeout_ms,
        given_up: &given_up,
    };
    if flush_data {
        backing.flush_data_apart(&mut io, &patience)?;
    }
    let sector = backing.layout.superblock().0;
    io.write(&backing.meta, sector, flags(flush), &patience)
}

/// Writes activity-log transactions until none is due. May sleep. Returns whether one was written.
pub(crate) fn advance_activity_log(volume: &Arc<Volume>) -> bool {
    let index = volume.index;
    let given_up = || is_given_up(volume);
    let mut any = false;
    loop {
        let backing = volume.backing();
        let Some(backing) = backing else {
            return any;
        };
        let mut io = backing.activity_log.lock();
        let Ok(block) = <&mut [u8; BLOCK_LEN]>::try_from(io.bytes_mut()) else {
            return any;
        };
        let (step, timeout_ms) = volume.resource.with(|inner, now| {
            let step = inner.core.al_next(index, block, crc32c, now);
            (step, inner.core.disk_timeout_ms(index))
        });
        let patience = Patience {
            timeout_ms,
            given_up: &given_up,
        };
        match step {
            AlStep::Idle => return any,
            AlStep::WriteBitmapPage { page } => {
                drop(io);
                super::bitmap_pages::write_one(volume, &backing, page);
            }
            AlStep::WriteTransaction { md_sector, flush } => {
                let result = write_transaction(&backing, &mut io, md_sector, flush, &patience);
                drop(io);
                let ok = settle(volume, result);
                volume
                    .resource
                    .with(|inner, now| inner.core.al_written(index, ok, now));
            }
        }
        any = true;
    }
}

fn write_transaction(
    backing: &Backing,
    io: &mut MetaIo,
    md_sector: Sector,
    flush: bool,
    patience: &Patience<'_>,
) -> Result<(), MetaError> {
    // Extents that leave the log must have their data on the disk. Where data and log share a
    // device the flush that comes with the write sees to that.
    if flush {
        backing.flush_data_apart(io, patience)?;
    }
    io.write(&backing.meta, md_sector.0, flags(flush), patience)
}
