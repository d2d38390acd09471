// SPDX-License-Identifier: GPL-2.0-only

//! Commands about the connection.

use super::{
    events,
    request::{
        Failure,
        Job, //
    }, //
};
use crate::{
    kabi::socket::Addr,
    net::digests::Digests,
    registry::{
        Registry,
        Taken, //
    },
    resource::Resource, //
};
use drbd_core::{
    config::NetConfig,
    input::AdminRequest, //
};
use drbd_format::{
    netlink::{
        codes::RetCode,
        info::{
            notification,
            DisconnectParms, //
        }, //
    },
    options::NetConf,
    types::ConnState, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// connect (reference/netlink.md 2.8).
#[inline(never)]
pub(super) fn connect(registry: &Registry, job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let resource = job.resource()?;
    let _admin = resource.admin.lock();
    let refuse = |text| Failure::new(RetCode::INVALID_REQUEST, Some(text));
    let (Some(local), Some(peer)) = (job.context.my_addr, job.context.peer_addr) else {
        return Err(refuse("connection endpoint(s) missing"));
    };
    let invalid = |_| refuse("address family not supported");
    let local = Addr::from_bytes(local.as_bytes()).map_err(invalid)?;
    let peer = Addr::from_bytes(peer.as_bytes()).map_err(invalid)?;
    match registry.taken(&local, &peer) {
        Some(Taken::Local) => return Err(Failure::code(RetCode::LOCAL_ADDR)),
        Some(Taken::Peer) => return Err(Failure::code(RetCode::PEER_ADDR)),
        None => {}
    }
    let status = resource.with(|inner, _| inner.core.status());
    if u32::from(status.connection) > ConnState::StandAlone.to_wire() {
        return Err(Failure::code(RetCode::NET_CONFIGURED));
    }
    let mut conf = NetConf::default();
    if let Some(nest) = job.message.nest(NetConf::TLA, NetConf::FIELDS)? {
        conf.apply(&nest)?;
    }
    let config = NetConfig::from(&conf);
    let digests = Digests::load(&config).map_err(Failure::code)?;
    let lengths = digests.lengths();
    *resource.digests.lock() = digests;
    *resource.net_conf.lock() = Some(conf);
    resource.connector.set_addresses(Some((local, peer)));
    let result = job.command(
        &resource,
        &AdminRequest::Connect {
            config,
            digests: lengths,
        },
    );
    if result.as_ref().is_ok_and(|code| code.is_success()) {
        events::connection_created(&resource);
    } else {
        forget(&resource);
    }
    result
}

/// Drops the network configuration: the connection is StandAlone.
pub(crate) fn forget(resource: &Resource) {
    if resource.net_conf.lock().take().is_some() {
        events::connection_gone(resource);
    }
    resource.connector.set_addresses(None);
    *resource.digests.lock() = Digests::default();
}

/// disconnect (reference/netlink.md 2.10).
#[inline(never)]
pub(super) fn disconnect(job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let resource = job.resource()?;
    let _admin = resource.admin.lock();
    let parms = DisconnectParms::find(&job.message)?.unwrap_or_default();
    leave(job, &resource, parms.force_disconnect)
}

/// Ends the connection. The caller holds the admin mutex.
#[inline(never)]
pub(super) fn leave(
    job: &mut Job<'_>,
    resource: &Arc<Resource>,
    force: bool,
) -> Result<RetCode, Failure> {
    let code = job.command(resource, &AdminRequest::Disconnect { force })?;
    if code.is_success() {
        forget(resource);
        return Ok(RetCode::NO_ERROR);
    }
    Ok(code)
}

/// chg-net-opts (reference/netlink.md 2.9).
#[inline(never)]
pub(super) fn options(job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let resource = job.resource()?;
    let _admin = resource.admin.lock();
    let Some(current) = *resource.net_conf.lock() else {
        return Err(Failure::new(
            RetCode::INVALID_REQUEST,
            Some("net conf missing, try connect"),
        ));
    };
    let mut conf = current;
    if job.set_defaults() {
        conf = NetConf {
            discard_my_data: current.discard_my_data,
            tentative: current.tentative,
            ..NetConf::default()
        };
    }
    if let Some(nest) = job.message.nest(NetConf::TLA, NetConf::FIELDS)? {
        conf.apply(&nest)?;
        NetConf::refuse_invariants(&nest)?;
    }
    let config = NetConfig::from(&conf);
    let digests = Digests::load(&config).map_err(Failure::code)?;
    let code = job.command(
        &resource,
        &AdminRequest::NetOptions {
            config,
            digests: digests.lengths(),
        },
    )?;
    if code.is_success() {
        *resource.digests.lock() = digests;
        *resource.net_conf.lock() = Some(conf);
        events::connection_changed(&resource, notification::CHANGE);
    }
    Ok(code)
}
