// SPDX-License-Identifier: GPL-2.0-only

//! Opening and closing of backing devices.
//!
//! The order of the checks is that of reference/metadata.md 6.1; whether the data may be used is
//! decided by the core, which gets the facts and the memory it needs.

use super::{
    Backing,
    InUse,
    Place, //
};
use crate::{
    admin::request::{
        Failure,
        Job, //
    },
    depend,
    kabi::{
        bdev::{
            BackingDevice,
            Holder, //
        },
        bio::{
            BioSet,
            BufSet, //
        },
        log,
        meta_io::{
            MetaIo,
            Patience, //
        },
        show::Show,
        thread::NoIo, //
    },
    resource::{
        table,
        Errand, //
    },
    volume::Volume, //
};
use drbd_core::{
    config::DiskConfig,
    data::{
        AlPlace,
        DiskMemory, //
    },
    discard::offered,
    input::{
        AdminRequest,
        BackingFacts,
        Input, //
    },
    resync::extents::RESYNC_EXTENTS, //
};
use drbd_format::{
    disk::{
        layout::{
            Layout,
            Placement, //
        },
        superblock::{
            Superblock,
            SuperblockError, //
        }, //
    },
    netlink::{
        codes::RetCode,
        info::ResizeParms, //
    },
    options::DiskConf,
    types::DiskState,
    units::SectorCount, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::Arc, //
};

/// How long a command waits for the end of a detach, in milliseconds.
const CLOSE_TIMEOUT_MS: u32 = 30_000;

/// Clones kept in reserve for each volume.
const CLONES_RESERVE: usize = 128;

/// Bios for the peer kept in reserve for each volume.
const PEER_BIOS_RESERVE: usize = 64;

/// Flushes kept in reserve for each volume.
const FLUSHES_RESERVE: usize = 2;

/// Largest request towards the disk, in sectors.
const BIO_SECTORS_MAX: u32 = 2048;

/// Bits of one 4 KiB page of the bitmap.
const BITS_PER_PAGE: u64 = 32_768;

/// Waits until nobody uses the disk that the volume had. Returns whether it came to that in time.
/// May sleep.
pub(crate) fn wait_closed(volume: &Volume) -> bool {
    let index = volume.index;
    let closed = || {
        let closed = volume.resource.with(|inner, _| {
            matches!(inner.place(index), Place::Empty) && inner.core.is_disk_gone(index)
        });
        closed.then_some(())
    };
    let resource = &volume.resource;
    resource.wait_event(CLOSE_TIMEOUT_MS, closed).is_some()
}

/// Attaches a disk. The caller holds the admin mutex. May sleep.
#[inline(never)]
pub(crate) fn attach(
    job: &mut Job<'_>,
    volume: &Arc<Volume>,
    conf: DiskConf,
) -> Result<RetCode, Failure> {
    let configured = Failure::code(RetCode::DISK_CONFIGURED);
    if volume.status().disk() > DiskState::Diskless {
        return Err(configured);
    }
    // A detach may not have ended completely yet.
    if !wait_closed(volume) {
        return Err(configured);
    }
    let (data, meta, placement) = open(volume, &conf)?;
    let mut io = MetaIo::new()?;
    let superblock = read_superblock(volume, &meta, placement, &mut io)?;
    let layout = Layout::from_superblock(placement, SectorCount(meta.sectors()), &superblock)
        .map_err(|error| {
            let line = error.log_line(conf.meta_dev_idx);
            volume.log(log::Level::Error, fmt!("{}", Show(line)));
            Failure::code(RetCode::MD_INVALID)
        })?;
    let usable = layout.usable(SectorCount(data.sectors()));
    check_sizes(volume, &conf, &meta, placement, usable)?;
    depend::check(job.registry(), volume.minor, conf.resync_after).map_err(Failure::code)?;
    let config = DiskConfig {
        al_extents: u32::from(layout.striping().slots_clamped(conf.al_extents)),
        ..DiskConfig::from(&conf)
    };
    let facts = facts(&conf, &superblock, &layout, &data, usable);
    // Only the core has a disk closed that is in its place: it must hear of this one.
    let expected = volume.resource.expect_answer()?;
    let bitmap_pages = lend_memory(volume, &config, &layout, &data, usable)?;
    let backing = Arc::pin_init(
        try_pin_init!(Backing {
            clones: BioSet::new(CLONES_RESERVE)?,
            flushes: BioSet::new(FLUSHES_RESERVE)?,
            peer: BufSet::new(PEER_BIOS_RESERVE)?,
            metadata <- new_mutex!(io, "drbd_metadata"),
            activity_log <- new_mutex!(MetaIo::new()?, "drbd_activity_log"),
            layout,
            bitmap_pages,
            data,
            meta,
        }? Error),
        GFP_KERNEL,
    );
    let made = backing.and_then(InUse::new).map_err(Failure::from);
    match made.and_then(|disk| publish(job, volume, conf).map(|()| disk)) {
        Ok(disk) => volume.put_backing(disk),
        Err(failure) => {
            take_back(volume);
            return Err(failure);
        }
    }
    let request = AdminRequest::Attach {
        volume: volume.index,
        config,
        facts,
    };
    // After a refusal, or when the command is given up, the core asks to close the disk.
    job.command_expected(&volume.resource, &request, &expected)
}

/// Shows the options of the disk. Another one may have been attached since the first check.
#[inline(never)]
fn publish(job: &Job<'_>, volume: &Volume, conf: DiskConf) -> Result<(), Failure> {
    let take = || *volume.disk_conf.lock() = Some(conf);
    depend::check_and(job.registry(), volume.minor, conf.resync_after, take).map_err(Failure::code)
}

/// Opens both devices (steps 4 to 8).
#[inline(never)]
fn open(
    volume: &Volume,
    conf: &DiskConf,
) -> Result<(BackingDevice, BackingDevice, Placement), Failure> {
    let invalid = Failure::code(RetCode::MD_IDX_INVALID);
    let placement = Placement::from_index(conf.meta_dev_idx).map_err(|_| invalid)?;
    let open = |path: &[u8], holder: &Arc<Holder>, code| {
        let path = CStr::from_bytes_with_nul(path).map_err(|_| Failure::code(code))?;
        BackingDevice::open(path, holder).map_err(|error| {
            let shown = path.to_str().unwrap_or("?");
            let errno = error.to_errno();
            volume.log(
                log::Level::Error,
                fmt!("open(\"{shown}\") failed with {errno}"),
            );
            Failure::code(code)
        })
    };
    let data = open(
        conf.backing_dev.as_bytes_with_nul(),
        &volume.holder,
        RetCode::OPEN_DISK,
    )?;
    let meta_holder = match placement {
        Placement::Internal | Placement::FlexibleExternal => &volume.holder,
        Placement::Indexed(_) => &volume.shared_holder,
    };
    let meta = open(
        conf.meta_dev.as_bytes_with_nul(),
        meta_holder,
        RetCode::OPEN_MD_DISK,
    )?;
    if data.same_device(&meta) != placement.is_internal() {
        return Err(invalid);
    }
    data.link_to(&volume.disk)
        .map_err(|_| Failure::code(RetCode::OPEN_DISK))?;
    if placement == Placement::FlexibleExternal {
        meta.link_to(&volume.disk)
            .map_err(|_| Failure::code(RetCode::OPEN_MD_DISK))?;
    }
    Ok((data, meta, placement))
}

/// Reads and checks the superblock (step 9).
#[inline(never)]
fn read_superblock(
    volume: &Volume,
    meta: &BackingDevice,
    placement: Placement,
    io: &mut MetaIo,
) -> Result<Superblock, Failure> {
    let invalid = Failure::code(RetCode::MD_INVALID);
    let sector = placement
        .superblock_of(SectorCount(meta.sectors()))
        .ok_or(invalid)?;
    io.read(meta, sector.0, &Patience::ENDLESS)
        .map_err(|_| Failure::code(RetCode::IO_MD_DISK))?;
    Superblock::decode_clean(io.bytes()).map_err(|error| {
        volume.log(log::Level::Error, fmt!("{}", Show(error)));
        match error {
            SuperblockError::Unclean => Failure::code(RetCode::MD_UNCLEAN),
            SuperblockError::Buffer(_)
            | SuperblockError::Version(_)
            | SuperblockError::Magic(_)
            | SuperblockError::BytesPerBit(_)
            | SuperblockError::Striping(_) => invalid,
        }
    })
}

/// Steps 11 to 13.
fn check_sizes(
    volume: &Volume,
    conf: &DiskConf,
    meta: &BackingDevice,
    placement: Placement,
    usable: SectorCount,
) -> Result<(), Failure> {
    if usable.0 < conf.disk_size {
        let wanted = conf.disk_size;
        let max = usable.0;
        volume.log(
            log::Level::Error,
            fmt!("max capacity {max} smaller than disk size {wanted}"),
        );
        return Err(Failure::code(RetCode::DISK_TOO_SMALL));
    }
    let needed = placement.device_sectors_min();
    if meta.sectors() < needed.0 {
        let needed = needed.0;
        volume.log(
            log::Level::Warning,
            fmt!(
                "refusing attach: md-device too small, \
                 at least {needed} sectors needed for this meta-disk type"
            ),
        );
        return Err(Failure::code(RetCode::MD_DISK_TOO_SMALL));
    }
    if usable.0 < volume.disk.capacity() {
        return Err(Failure::code(RetCode::DISK_TOO_SMALL));
    }
    Ok(())
}

fn facts(
    conf: &DiskConf,
    superblock: &Superblock,
    layout: &Layout,
    data: &BackingDevice,
    usable: SectorCount,
) -> BackingFacts {
    let limits = data.limits();
    let uuids = superblock.uuids;
    BackingFacts {
        uuids: [
            uuids.current.0,
            uuids.bitmap.0,
            uuids.history[0].0,
            uuids.history[1].0,
        ],
        device_uuid: superblock.device_uuid,
        flags: superblock.flags.0,
        la_size_sectors: superblock.la_size.0,
        la_peer_max_bio_bytes: superblock.la_peer_max_bio_bytes,
        max_capacity_sectors: usable.0,
        md_offset_sectors: layout.superblock().0,
        md_size_sectors: superblock.md_size_sect,
        al_offset_sectors: superblock.al_offset,
        bm_offset_sectors: superblock.bm_offset,
        al_stripes: layout.striping().stripes(),
        al_stripe_size_4k: layout.striping().stripe_blocks(),
        md_index: conf.meta_dev_idx,
        max_bio_bytes: limits
            .max_hw_sectors
            .min(BIO_SECTORS_MAX)
            .saturating_mul(512),
        physical_block_bytes: limits.physical_block_bytes,
        logical_block_bytes: limits.logical_block_bytes,
        alignment_offset: limits.alignment_offset_bytes,
        io_min_bytes: limits.io_min_bytes,
        io_opt_bytes: limits.io_opt_bytes,
        discard: limits.max_discard_sectors > 0,
    }
}

/// Allocates what the core needs for the disk: activity log, resync extents, bitmap.
#[inline(never)]
fn lend_memory(
    volume: &Volume,
    config: &DiskConfig,
    layout: &Layout,
    data: &BackingDevice,
    usable: SectorCount,
) -> Result<u32, Failure> {
    let no_bitmap = |_| Failure::code(RetCode::NOMEM_BITMAP);
    let pages = usable.0.div_ceil(8).div_ceil(BITS_PER_PAGE);
    let pages = usize::try_from(pages).map_err(|_| Failure::code(RetCode::NOMEM_BITMAP))?;
    let words = pages.saturating_mul(512);
    let memory = DiskMemory {
        al_extents: table(config.al_extents as usize)?,
        resync_extents: table(RESYNC_EXTENTS)?,
        bitmap: VVec::from_elem(0, words, GFP_KERNEL).map_err(no_bitmap)?,
        pages: table(pages).map_err(|_| Failure::code(RetCode::NOMEM_BITMAP))?,
        al_place: AlPlace {
            sector: layout.activity_log(),
            striping: layout.striping(),
        },
        // It may get one later: `Inner::peer_written` looks again.
        volatile_cache: data.has_cache(),
    };
    let index = volume.index;
    let lent = volume
        .resource
        .with(|inner, _| inner.core.lend_disk(index, memory));
    // What is not taken is freed here, outside of the lock.
    lent.map_err(|_| Failure::code(RetCode::DISK_CONFIGURED))?;
    u32::try_from(pages).map_err(|_| Failure::code(RetCode::NOMEM_BITMAP))
}

fn take_back(volume: &Volume) {
    let index = volume.index;
    let memory = volume.resource.with(|inner, _| inner.core.take_disk(index));
    drop(memory);
}

/// The core no longer gives anybody the disk. It is closed by a work item: those who use it come
/// back when it answers, and that may take any time. May sleep.
pub(crate) fn close(volume: &Arc<Volume>) {
    let index = volume.index;
    let resource = &volume.resource;
    match resource.with(|inner, _| core::mem::replace(inner.place(index), Place::Closing)) {
        Place::InUse(disk) => {
            // The volume may be gone when the last one comes back: its links go now.
            disk.unlink();
            *volume.disk_conf.lock() = None;
            let rest = Rest {
                volume: volume.clone(),
                disk: Some(disk),
            };
            // Without memory for the item it is dropped here, and this thread waits.
            let errand = Errand::begin(resource);
            let _ = resource.closing.spawn(move || {
                let _noio = NoIo::enter();
                drop(rest);
                drop(errand);
            });
        }
        // Its end will be reported.
        Place::Closing => {}
        Place::Empty => closed(volume),
    }
}

/// What is left to be done with a disk. Dropping it waits for the disk and tells the core.
struct Rest {
    volume: Arc<Volume>,
    disk: Option<InUse>,
}

impl Drop for Rest {
    fn drop(&mut self) {
        drop(self.disk.take());
        closed(&self.volume);
    }
}

/// Nobody uses the devices any more. May sleep.
fn closed(volume: &Volume) {
    let index = volume.index;
    let memory = volume.resource.with(|inner, now| {
        let memory = inner.core.take_disk(index);
        *inner.place(index) = Place::Empty;
        let input = Input::DiskClosed { volume: index };
        inner.core.handle(&input, now);
        memory
    });
    drop(memory);
    volume.resource.announce_event();
}

/// Recomputes the limits of the upper queue (reference/netlink.md 7.8, reference/io.md 5.1).
/// `discard_sectors` and `zero_sectors`: the largest discard and write-zeroes, 0: none. May sleep.
pub(crate) fn set_limits(
    volume: &Volume,
    max_bio_bytes: u32,
    discard_sectors: u32,
    zero_sectors: u32,
) {
    let backing = volume.backing();
    let update = |volume: &Volume| -> Result {
        let mut limits = volume.disk.limits()?;
        if backing.is_some() {
            limits.stacking_defaults();
        } else {
            // What uses the device counts on the blocks of the disk that is gone, and the disk of
            // the peer may refuse smaller ones.
            limits.defaults_but_blocks();
        }
        limits
            .max_hw_sectors(max_bio_bytes / 512)
            .max_segments(128)
            .segment_boundary_mask(4095);
        if let Some(backing) = &backing {
            limits.stack(&backing.data);
        } else {
            limits.rotational(true);
        }
        // Whatever the disk below does, the peer's cache may be volatile.
        limits.write_cache(true).fua(true).stable_writes(true);
        let of_disk = backing.as_ref().map(|backing| {
            let of_disk = backing.data.limits();
            let granularity = of_disk.discard_granularity_bytes;
            (granularity, of_disk.max_discard_sectors)
        });
        let (granularity, most) = offered(of_disk, discard_sectors);
        limits.discard(granularity, most);
        limits.max_write_zeroes_sectors(zero_sectors);
        limits.commit()
    };
    if let Err(error) = update(volume) {
        volume.log(
            log::Level::Error,
            fmt!("can not set queue limits: {error:?}"),
        );
    }
}

/// What is said if internal metadata keeps the device from growing.
const MOVES_AT_ATTACH: &str = "the backing device has grown: the metadata are moved when it is \
     detached and attached again (down, up)";

/// What is said if the bitmap in memory keeps the device from growing.
const ROOM_AT_ATTACH: &str =
    "the backing device has grown beyond the room made when it was attached: attach again to grow";

/// resize: the backing device may have grown. The caller holds the admin mutex. May sleep.
pub(crate) fn resize(
    job: &mut Job<'_>,
    volume: &Arc<Volume>,
    parms: &ResizeParms,
) -> Result<RetCode, Failure> {
    let backing = volume.backing().ok_or(Failure::code(RetCode::NO_DISK))?;
    let striping = backing.layout.striping();
    let same = |wanted: Option<u32>, now: u32| wanted.is_none_or(|wanted| wanted == now);
    let stripe_kib = striping.stripe_blocks().saturating_mul(4);
    if !same(parms.al_stripes, striping.stripes()) || !same(parms.al_stripe_size, stripe_kib) {
        return Err(Failure::new(
            RetCode::INVALID_REQUEST,
            Some("the geometry of the activity log can not be changed online"),
        ));
    }
    let device = SectorCount(backing.data.sectors());
    let usable = backing.layout.usable(device);
    let fits = (1..=usable.0).contains(&parms.resize_size);
    if !fits && backing.layout.would_move(device) {
        let text = Some(MOVES_AT_ATTACH);
        return Err(Failure::new(RetCode::INVALID_REQUEST, text));
    }
    let request = AdminRequest::Resize {
        volume: volume.index,
        size_sectors: parms.resize_size,
        force: parms.resize_force,
        assume_clean: parms.no_resync,
        max_capacity_sectors: usable.0,
    };
    match job.command(&volume.resource, &request)? {
        RetCode::NOMEM_BITMAP => {
            let text = Some(ROOM_AT_ATTACH);
            Err(Failure::new(RetCode::INVALID_REQUEST, text))
        }
        code => Ok(code),
    }
}
