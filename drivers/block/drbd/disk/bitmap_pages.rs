// SPDX-License-Identifier: GPL-2.0-only

//! The bitmap between memory and disk, page by page.

use super::{
    metadata::{
        is_given_up,
        settle, //
    },
    Backing, //
};
use crate::{
    kabi::{
        bio::Flags,
        meta_io::{
            MetaError,
            Patience,
            BLOCK_LEN, //
        }, //
    },
    volume::Volume, //
};
use drbd_core::input::Input;
use drbd_format::units::BitmapPage;
use kernel::prelude::*;

/// How many pages are read at once.
const STRETCH_PAGES: u32 = 64;

/// Reads the whole bitmap and reports the outcome to the core. May sleep.
pub(crate) fn read_all(volume: &Volume) {
    let index = volume.index;
    let ok = volume
        .backing()
        .is_some_and(|backing| settle(volume, try_read_all(volume, &backing)));
    volume
        .resource
        .handle(Input::BitmapRead { volume: index, ok });
}

fn try_read_all(volume: &Volume, backing: &Backing) -> Result<(), MetaError> {
    let index = volume.index;
    let pages = backing.bitmap_pages;
    let load = |page, block: &[u8]| {
        volume
            .resource
            .with(|inner, _| inner.core.load_bitmap_page(index, page, block));
    };
    let given_up = || is_given_up(volume);
    let patience = Patience {
        timeout_ms: volume
            .resource
            .with(|inner, _| inner.core.disk_timeout_ms(index)),
        given_up: &given_up,
    };
    let mut io = backing.metadata.lock();
    let mut page = 0;
    while page < pages {
        let (sector, _) = backing
            .layout
            .bitmap_page(BitmapPage(u64::from(page)))
            .ok_or(EOVERFLOW)?;
        // The pages lie one behind the other.
        let count = STRETCH_PAGES.min(pages - page);
        let len_bytes = count * BLOCK_LEN as u32;
        match io.read_many(&backing.meta, sector.0, len_bytes, &patience) {
            Ok(stretch) => {
                let blocks = stretch.chunks().flat_map(|chunk| chunk.chunks(BLOCK_LEN));
                for (page, block) in (page..).zip(blocks) {
                    load(page, block);
                }
                page += count;
            }
            Err(MetaError::Failed(ENOMEM)) => {
                io.read(&backing.meta, sector.0, &patience)?;
                load(page, io.bytes());
                page += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes the pages that changed, or all of them, and reports the outcome to the core. The first
/// error ends it: the disk is given up. May sleep.
pub(crate) fn write(volume: &Volume, all: bool) {
    let index = volume.index;
    if all {
        volume
            .resource
            .with(|inner, _| inner.core.mark_bitmap_changed(index));
    }
    let ok = match volume.backing() {
        None => false,
        Some(backing) => {
            let mut ok = true;
            let mut from = 0;
            let next = |from| {
                volume
                    .resource
                    .with(|inner, _| inner.core.next_dirty_page(index, from))
            };
            while let Some(page) = next(from).filter(|_| ok) {
                ok = write_one(volume, &backing, page);
                from = page.saturating_add(1);
            }
            ok
        }
    };
    volume
        .resource
        .handle(Input::BitmapWritten { volume: index, ok });
}

/// Writes one page and tells the core. May sleep.
pub(crate) fn write_one(volume: &Volume, backing: &Backing, page: u32) -> bool {
    let index = volume.index;
    let mut io = backing.metadata.lock();
    let bytes = io.bytes_mut();
    let complete = bytes.len() == BLOCK_LEN;
    let (flush, timeout_ms) = volume.resource.with(|inner, _| {
        let flush = inner.core.bitmap_page(index, page, bytes);
        (flush, inner.core.disk_timeout_ms(index))
    });
    let mut flags = Flags::META | Flags::SYNC;
    if flush {
        // Reaches the data if they are on the same device.
        flags = flags | Flags::PREFLUSH;
    }
    let given_up = || is_given_up(volume);
    let patience = Patience {
        timeout_ms,
        given_up: &given_up,
    };
    let result = match backing.layout.bitmap_page(BitmapPage(u64::from(page))) {
        // Another operation keeps the block: what would be written is an empty one.
        Some(_) if !complete => Err(ENOMEM.into()),
        Some((sector, _)) => {
            let stable = if flush {
                backing.flush_data_apart(&mut io, &patience)
            } else {
                Ok(())
            };
            stable.and_then(|()| io.write(&backing.meta, sector.0, flags, &patience))
        }
        None => Err(EOVERFLOW.into()),
    };
    drop(io);
    let ok = settle(volume, result);
    volume
        .resource
        .with(|inner, now| inner.core.bitmap_page_written(index, page, ok, now));
    ok
}
