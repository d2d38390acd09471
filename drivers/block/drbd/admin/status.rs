// SPDX-License-Identifier: GPL-2.0-only

//! The status of a volume: get-status and its dump (reference/netlink.md 5.1, 5.2).

use super::{
    objects::{
        after,
        context,
        element,
        filter,
        left,
        resume,
        shown_net_conf,
        sorted, //
    },
    request::{
        Failure,
        Job, //
    }, //
};
use crate::{
    kabi::genl::{
        Dump,
        Request, //
    },
    registry::Registry,
    volume::Volume, //
};
use drbd_format::{
    netlink::{
        codes::RetCode,
        ids::{
            tla,
            Command,
            Message,
            NO_MINOR, //
        },
        info::{
            sib_reason,
            StateInfo,
            TimeoutParms, //
        },
        tlv::{
            NoSpace,
            Writer, //
        }, //
    },
    state_word::StateWord, //
};
use kernel::prelude::*;

/// First connection state in which a resync or verify has numbers.
const SYNC_SOURCE: u32 = 16;
/// Last such state.
const PAUSED_SYNC_T: u32 = 21;

/// Returns the state of a volume as every answer and event shows it.
pub(super) fn state_info(volume: &Volume, reason: u32) -> StateInfo {
    let status = volume.status();
    let counters = status.counters;
    let mut info = StateInfo {
        sib_reason: reason,
        current_state: status.word,
        capacity: status.capacity_sectors,
        ed_uuid: status.exposed_uuid,
        send_cnt: counters.sent_sectors,
        recv_cnt: counters.received_sectors,
        read_cnt: counters.read_sectors,
        writ_cnt: counters.written_sectors,
        al_writ_cnt: counters.al_writes,
        bm_writ_cnt: counters.bm_writes,
        ap_bio_cnt: counters.app,
        ap_pending_cnt: counters.pending,
        ..StateInfo::default()
    };
    if let Some(md) = status.metadata {
        info.uuids = Some(md.uuids);
        info.disk_flags = Some(md.flags);
        info.bits_total = Some(status.bits_total);
        info.bits_oos = Some(counters.out_of_sync_bits);
        let conn = StateWord(status.word).conn();
        if (SYNC_SOURCE..=PAUSED_SYNC_T).contains(&conn) {
            info.bits_rs_total = Some(status.resync_total);
            info.bits_rs_failed = Some(status.resync_failed);
        }
    }
    info
}

/// Writes everything about a volume except its context.
pub(super) fn describe(
    volume: &Volume,
    info: &StateInfo,
    secrets: bool,
    writer: &mut Writer<'_>,
) -> Result<(), NoSpace> {
    volume.resource.options.lock().emit(writer)?;
    if let Some(conf) = volume.disk_conf_in_force() {
        conf.emit(writer)?;
    }
    if let Some(conf) = shown_net_conf(&volume.resource, secrets) {
        conf.emit(writer)?;
    }
    info.emit(writer)
}

/// get-status.
#[inline(never)]
pub(super) fn get(job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let volume = job.volume()?;
    let secrets = job.may_see_secrets();
    let info = state_info(&volume, sib_reason::GET_STATUS_REPLY);
    let echoed = job.message.raw(tla::CFG_CONTEXT).is_some();
    job.write(|writer| {
        if !echoed {
            context(&volume.resource, Some(&volume), true, writer)?;
        }
        describe(&volume, &info, secrets, writer)
    })
    .map_err(|NoSpace| Failure::code(RetCode::NOMEM))?;
    Ok(RetCode::NO_ERROR)
}

/// get-timeout-type.
#[inline(never)]
pub(super) fn timeout_type(job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let volume = job.volume()?;
    let parms = TimeoutParms {
        timeout_type: volume.status().timeout_type,
    };
    job.write(|writer| parms.emit(writer))
        .map_err(|NoSpace| Failure::code(RetCode::NOMEM))?;
    Ok(RetCode::NO_ERROR)
}

/// The dump of get-status. The place to resume is kept as (resource, volume).
#[inline(never)]
pub(super) fn dump(registry: &Registry, request: &Request<'_>, out: &mut Dump<'_>) -> Result {
    let wanted = filter(Command::GetStatus, request)?;
    let message = Message::request(Command::GetStatus, request.attrs()).map_err(|_| EINVAL)?;
    match &wanted {
        None if message.raw(tla::CFG_CONTEXT).is_some() => return Err(EINVAL),
        Some(name) if out.state[0] == 0 && registry.by_name(name).is_none() => {
            return Err(ENODEV);
        }
        Some(_) | None => {}
    }
    let secrets = request.may_admin_system();
    while let Some(resource) = resume(registry, out) {
        if wanted.as_ref().is_none_or(|name| resource.name == *name) {
            let volumes = sorted(&resource);
            if volumes.iter().flatten().next().is_none() {
                let (buffer, len) = element(|writer| {
                    context(&resource, None, true, writer)?;
                    match shown_net_conf(&resource, false) {
                        Some(conf) => conf.emit(writer),
                        None => Ok(()),
                    }
                })?;
                if !message_of(NO_MINOR, &buffer, len, out)? {
                    return Ok(());
                }
            }
            for volume in left(&volumes, out) {
                let info = state_info(volume, sib_reason::GET_STATUS_REPLY);
                let (buffer, len) = element(|writer| {
                    context(&resource, Some(volume), true, writer)?;
                    describe(volume, &info, secrets, writer)
                })?;
                if !message_of(volume.minor, &buffer, len, out)? {
                    return Ok(());
                }
                out.state[1] = after(volume);
            }
        }
        out.state[0] = out.state[0].saturating_add(1);
        out.state[1] = 0;
    }
    Ok(())
}

fn message_of(minor: u32, buffer: &[u8], len: usize, out: &mut Dump<'_>) -> Result<bool> {
    let attrs = buffer.get(..len).unwrap_or(&[]);
    out.message(
        Command::GetStatus.number(),
        minor,
        RetCode::NO_ERROR.0,
        attrs,
    )
}
