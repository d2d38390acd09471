// SPDX-License-Identifier: GPL-2.0-only

//! Commands about the connection.

use super::{
    events,
    request::{
        lock,
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
    sync::{
        atomic::{
            Acquire,
            Release, //
        },
        Arc, //
    }, //
};

/// How long a connect waits until the last connection is forgotten, in milliseconds.
const FORGET_TIMEOUT_MS: u32 = 30_000;

/// connect (reference/netlink.md 2.8).
#[inline(never)]
pub(super) fn connect(registry: &Registry, job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let resource = job.resource()?;
    let _admin = lock(&resource)?;
    let refuse = |text| Failure::new(RetCode::INVALID_REQUEST, Some(text));
    let (Some(local), Some(peer)) = (job.context.my_addr, job.context.peer_addr) else {
        return Err(refuse("connection endpoint(s) missing"));
    };
    let invalid = |_| refuse("address family not supported");
    let local = Addr::from_bytes(local.as_bytes()).map_err(invalid)?;
    let peer = Addr::from_bytes(peer.as_bytes()).map_err(invalid)?;
    let status = resource.with(|inner, _| inner.core.status());
    let alone = u32::from(status.connection) == ConnState::StandAlone.to_wire();
    // The control thread may still be forgetting a connection that has just ended by itself.
    let forgotten = || (!resource.net_in_use.load(Acquire)).then_some(());
    if alone {
        let _ = resource.wait_event(FORGET_TIMEOUT_MS, forgotten);
    }
    let structure = registry.lock_structure();
    match registry.taken(&local, &peer) {
        Some(Taken::Local) => return Err(Failure::code(RetCode::LOCAL_ADDR)),
        Some(Taken::Peer) => return Err(Failure::code(RetCode::PEER_ADDR)),
        None => {}
    }
    if !alone || forgotten().is_none() {
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
    *resource.net_staged.lock() = Some(conf);
    resource.net_in_use.store(true, Release);
    resource.connector.set_addresses(Some((local, peer)));
    drop(structure);
    let result = job.command(
        &resource,
        &AdminRequest::Connect {
            config,
            digests: lengths,
        },
    );
    if !result.as_ref().is_ok_and(|code| code.is_success()) {
        unstage(&resource);
    }
    result
}

/// Undoes a connect that the core has refused; nobody has heard of it.
fn unstage(resource: &Resource) {
    let accepted = resource.with(|inner, _| inner.core.net_config().is_some());
    if accepted || resource.net_staged.lock().take().is_none() {
        return;
    }
    clear(resource);
}

/// The core has begun to use the network configuration.
pub(crate) fn publish(resource: &Resource) {
    let staged = resource.net_staged.lock().take();
    if let Some(conf) = staged {
        *resource.net_conf.lock() = Some(conf);
        events::connection_created(resource);
    }
}

/// Drops the network configuration: the connection is StandAlone.
pub(crate) fn forget(resource: &Resource) {
    if resource.net_conf.lock().take().is_some() {
        events::connection_gone(resource);
    }
    clear(resource);
}

fn clear(resource: &Resource) {
    resource.connector.set_addresses(None);
    *resource.digests.lock() = Digests::default();
    resource.net_in_use.store(false, Release);
    resource.announce_event();
}

/// disconnect (reference/netlink.md 2.10).
#[inline(never)]
pub(super) fn disconnect(job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let resource = job.resource()?;
    let parms = DisconnectParms::find(&job.message)?.unwrap_or_default();
    if parms.force_disconnect {
        // The way out when another command waits, with the mutex, for a peer that does not answer.
        return leave(job, &resource, true);
    }
    let _admin = lock(&resource)?;
    leave(job, &resource, false)
}

/// Ends the connection. The caller holds the admin mutex, unless it uses force. The control thread
/// forgets the configuration before the answer comes.
#[inline(never)]
pub(super) fn leave(
    job: &mut Job<'_>,
    resource: &Arc<Resource>,
    force: bool,
) -> Result<RetCode, Failure> {
    let code = job.command(resource, &AdminRequest::Disconnect { force })?;
    Ok(if code.is_success() {
        RetCode::NO_ERROR
    } else {
        code
    })
}

/// chg-net-opts (reference/netlink.md 2.9).
#[inline(never)]
pub(super) fn options(job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let resource = job.resource()?;
    let _admin = lock(&resource)?;
    let Some(current) = resource.net_conf_in_force() else {
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
        let mut loaded = resource.digests.lock();
        let names = resource.with(|inner, _| {
            let net = inner.core.net_config()?;
            Some((net.verify_alg, net.csums_alg))
        });
        let mut current = resource.net_conf.lock();
        // The connection may have ended by itself meanwhile.
        if let Some((verify, csums)) = names.filter(|_| current.is_some()) {
            *current = Some(conf);
            loaded.change(digests, &verify, &csums);
        }
        drop(current);
        drop(loaded);
        events::connection_changed(&resource, notification::CHANGE);
    }
    Ok(code)
}
