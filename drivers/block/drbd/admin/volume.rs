// SPDX-License-Identifier: GPL-2.0-only

//! Commands about one volume.

use super::{
    events,
    request::{
        check_there,
        lock,
        lock_volume,
        Failure,
        Job, //
    }, //
};
use crate::{
    depend,
    disk::attach,
    registry::Registry,
    volume::Volume, //
};
use drbd_core::{
    config::DiskConfig,
    input::AdminRequest,
    link::{
        VolumeIndex,
        VolumeNumber,
        VOLUMES_MAX, //
    }, //
};
use drbd_format::{
    netlink::{
        codes::RetCode,
        ids::{
            Command,
            MINOR_MAX,
            VOLUME_MAX, //
        },
        info::{
            notification,
            DetachParms,
            NewCurrentUuidParms,
            ResizeParms,
            SetRoleParms,
            StartVerifyParms, //
        }, //
    },
    options::DiskConf,
    types::Role, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// new-minor (reference/netlink.md 2.4).
#[inline(never)]
pub(super) fn create(registry: &Registry, job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let resource = job.resource()?;
    let _admin = lock(&resource)?;
    let structure = registry.lock_structure();
    let refuse = |text| Failure::new(RetCode::INVALID_REQUEST, Some(text));
    let minor = job.minor();
    if minor > MINOR_MAX {
        return Err(refuse("requested minor out of range"));
    }
    let number = job
        .context
        .volume
        .filter(|number| *number <= VOLUME_MAX)
        .and_then(|number| u16::try_from(number).ok())
        .ok_or(refuse("requested volume id out of range"))?;
    if let Some(volume) = registry.by_minor(minor) {
        let same = Arc::ptr_eq(&volume.resource, &resource) && volume.number == number;
        return if same && !job.exclusive() {
            Ok(RetCode::NO_ERROR)
        } else {
            Err(Failure::code(RetCode::MINOR_OR_VOLUME_EXISTS))
        };
    }
    let exists = Failure::code(RetCode::MINOR_OR_VOLUME_EXISTS);
    let volumes = resource.volumes();
    if volumes.iter().flatten().any(|v| v.number == number) {
        return Err(exists);
    }
    let free = volumes.iter().take(VOLUMES_MAX).position(Option::is_none);
    let index = free
        .and_then(|place| u8::try_from(place).ok())
        .map(VolumeIndex)
        .ok_or(Failure::new(
            RetCode::INVALID_REQUEST,
            Some("a resource can have 16 volumes at most"),
        ))?;
    let volume = Volume::new(&resource, index, number, minor, registry.shared_holder())?;
    resource.set_volume(index, Some(volume.clone()));
    drop(structure);
    add(job, volume)
}

#[inline(never)]
fn add(job: &mut Job<'_>, volume: Arc<Volume>) -> Result<RetCode, Failure> {
    let resource = &volume.resource;
    let index = volume.index;
    let request = AdminRequest::NewVolume {
        volume: index,
        number: VolumeNumber(volume.number),
    };
    let code = job.command(resource, &request);
    let published = match &code {
        Ok(code) if code.is_success() => volume.publish(),
        Ok(_) | Err(_) => Err(EINVAL),
    };
    if published.is_err() {
        let request = AdminRequest::DelVolume { volume: index };
        let created = code.as_ref().is_ok_and(|code| code.is_success());
        // What the core keeps stays here as well, without a device, for the next del-minor.
        if !created || matches!(job.command(resource, &request), Ok(RetCode::NO_ERROR)) {
            drop_volume(&volume);
        }
        return code.and_then(|code| {
            if code.is_success() {
                Err(Failure::code(RetCode::NOMEM))
            } else {
                Ok(code)
            }
        });
    }
    events::device(&volume, notification::CREATE);
    Ok(RetCode::NO_ERROR)
}

fn drop_volume(volume: &Arc<Volume>) {
    volume.withdraw();
    volume.resource.set_volume(volume.index, None);
}

/// del-minor (reference/netlink.md 2.5).
#[inline(never)]
pub(super) fn delete(job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let volume = job.volume()?;
    let _admin = lock_volume(&volume)?;
    remove(job, &volume)
}

/// Deletes the volume. The caller holds the admin mutex.
pub(super) fn remove(job: &mut Job<'_>, volume: &Arc<Volume>) -> Result<RetCode, Failure> {
    let request = AdminRequest::DelVolume {
        volume: volume.index,
    };
    let code = job.command(&volume.resource, &request)?;
    if code == RetCode::NO_ERROR {
        events::device_gone(volume);
        drop_volume(volume);
    }
    Ok(code)
}

/// attach (reference/netlink.md 2.11).
#[inline(never)]
pub(super) fn attach(job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let volume = job.volume()?;
    let _admin = lock_volume(&volume)?;
    let nest = job.message.nest(DiskConf::TLA, DiskConf::FIELDS)?;
    let nest = nest.unwrap_or(drbd_format::netlink::tlv::Nest::EMPTY);
    let conf = DiskConf::for_attach(&nest)?;
    attach::attach(job, &volume, conf)
}

/// detach (reference/netlink.md 2.12).
#[inline(never)]
pub(super) fn detach(job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let volume = job.volume()?;
    let parms = DetachParms::find(&job.message)?.unwrap_or_default();
    if parms.force_detach {
        // The way out when another command waits, with the mutex, for a disk that does not answer.
        check_there(&volume)?;
        return leave_disk(job, &volume, true);
    }
    let _admin = lock_volume(&volume)?;
    leave_disk(job, &volume, false)
}

/// Detaches the disk. The caller holds the admin mutex, unless it uses force.
pub(super) fn leave_disk(
    job: &mut Job<'_>,
    volume: &Arc<Volume>,
    force: bool,
) -> Result<RetCode, Failure> {
    let request = AdminRequest::Detach {
        volume: volume.index,
        force,
    };
    let code = job.command(&volume.resource, &request)?;
    if !force && code.is_success() {
        // The next command may be one of drbdmeta, which opens the devices alone. A disk that does
        // not let go is detached all the same.
        let _ = attach::wait_closed(volume);
    }
    Ok(code)
}

/// chg-disk-opts (reference/netlink.md 2.13).
#[inline(never)]
pub(super) fn options(job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let volume = job.volume()?;
    let _admin = lock_volume(&volume)?;
    let Some(current) = volume.disk_conf_in_force() else {
        return Err(Failure::code(RetCode::NO_DISK));
    };
    let mut conf = current;
    if job.set_defaults() {
        conf = DiskConf {
            backing_dev: current.backing_dev,
            meta_dev: current.meta_dev,
            meta_dev_idx: current.meta_dev_idx,
            disk_size: current.disk_size,
            max_bio_bvecs: current.max_bio_bvecs,
            ..DiskConf::default()
        };
    }
    if let Some(nest) = job.message.nest(DiskConf::TLA, DiskConf::FIELDS)? {
        conf.apply(&nest)?;
        DiskConf::refuse_invariants(&nest)?;
    }
    if conf.al_extents != current.al_extents {
        // The cache of the activity log was made at attach.
        return Err(Failure::new(
            RetCode::NOMEM,
            Some("Try again without changing current al-extents setting"),
        ));
    }
    wait_for(job, &volume, conf.resync_after)?;
    let request = AdminRequest::DiskOptions {
        volume: volume.index,
        config: DiskConfig::from(&conf),
    };
    let result = job.command(&volume.resource, &request);
    if result.as_ref().is_ok_and(|code| code.is_success()) {
        // The disk may have been closed meanwhile.
        let mut current = volume.disk_conf.lock();
        if current.is_some() {
            *current = Some(conf);
        }
    } else {
        // If somebody relies on the new chain, so that the old one would be a loop, it stays.
        let _ = wait_for(job, &volume, current.resync_after);
    }
    depend::evaluate(job.registry());
    result
}

/// Changes which minor the volume waits for. Before the core has answered: nobody may build on the
/// old chain meanwhile.
fn wait_for(job: &Job<'_>, volume: &Volume, after: i32) -> Result<(), Failure> {
    let take = || {
        // The disk may be closed at any time.
        if let Some(conf) = &mut *volume.disk_conf.lock() {
            conf.resync_after = after;
        }
    };
    depend::check_and(job.registry(), volume.minor, after, take).map_err(Failure::code)
}

/// resize (reference/netlink.md 2.14).
#[inline(never)]
pub(super) fn resize(job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let volume = job.volume()?;
    let _admin = lock_volume(&volume)?;
    let parms = ResizeParms::find(&job.message)?.unwrap_or_default();
    attach::resize(job, &volume, &parms)
}

/// primary and secondary (reference/netlink.md 2.15).
#[inline(never)]
pub(super) fn role(job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let volume = job.volume()?;
    let parms = SetRoleParms::find(&job.message)?.unwrap_or_default();
    let primary = job.command == Command::Primary;
    let request = AdminRequest::SetRole {
        volume: volume.index,
        role: if primary {
            Role::Primary
        } else {
            Role::Secondary
        },
        force: primary && parms.assume_uptodate,
    };
    let _admin = lock_volume(&volume)?;
    job.command(&volume.resource, &request)
}

/// Makes the volume Secondary. The caller holds the admin mutex.
pub(super) fn demote(job: &mut Job<'_>, volume: &Arc<Volume>) -> Result<RetCode, Failure> {
    let request = AdminRequest::SetRole {
        volume: volume.index,
        role: Role::Secondary,
        force: false,
    };
    job.command(&volume.resource, &request)
}

/// start-ov (reference/netlink.md 2.17).
#[inline(never)]
pub(super) fn verify(job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let volume = job.volume()?;
    let _admin = lock_volume(&volume)?;
    let parms = StartVerifyParms::find(&job.message)?.unwrap_or_default();
    let request = AdminRequest::Verify {
        volume: volume.index,
        start: parms.ov_start_sector,
        stop: parms.ov_stop_sector.unwrap_or(u64::MAX),
    };
    job.command(&volume.resource, &request)
}

/// new-c-uuid (reference/netlink.md 2.16).
#[inline(never)]
pub(super) fn new_current_uuid(job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let volume = job.volume()?;
    let _admin = lock_volume(&volume)?;
    let parms = NewCurrentUuidParms::find(&job.message)?.unwrap_or_default();
    let request = AdminRequest::NewCurrentUuid {
        volume: volume.index,
        clear_bitmap: parms.clear_bm,
    };
    job.command(&volume.resource, &request)
}

/// Commands without arguments (reference/netlink.md 2.18, 2.19).
#[inline(never)]
pub(super) fn simple(job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let found = job.volume()?;
    let _admin = lock_volume(&found)?;
    let volume = found.index;
    let request = match job.command {
        Command::Invalidate => AdminRequest::Invalidate { volume },
        Command::InvalidatePeer => AdminRequest::InvalidateRemote { volume },
        Command::PauseSync => AdminRequest::PauseSync { volume },
        Command::ResumeSync => AdminRequest::ResumeSync { volume },
        Command::SuspendIo => AdminRequest::SuspendIo { volume },
        Command::ResumeIo => AdminRequest::ResumeIo { volume },
        _ => AdminRequest::Outdate { volume },
    };
    job.command(&found.resource, &request)
}
