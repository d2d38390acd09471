// SPDX-License-Identifier: GPL-2.0-only

//! Multicasts about changes (reference/netlink.md 5.1, 5.4).
//!
//! An event that cannot be built or that nobody hears is lost, as everywhere in netlink; the
//! sequence numbers tell listeners. Messages that belong together leave together: whoever sends
//! holds the group's mutex from the first number to the last message.

use super::{
    objects::{
        context_at,
        element,
        sorted,
        Object, //
    },
    status, //
};
use crate::{
    helper::Subject,
    kabi::socket::Addr,
    resource::Resource,
    volume::Volume, //
};
use drbd_format::{
    netlink::{
        codes::RetCode,
        ids::Command,
        info::{
            notification,
            sib_reason,
            HelperInfo,
            NotificationHeader,
            StateInfo, //
        },
        record::Text,
        tlv::{
            NoSpace,
            Writer, //
        }, //
    },
    state_word::StateWord,
    types::ConnState, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full, //
        }, //
    }, //
};

/// Sequence number of the next broadcast of a volume's status.
static STATUS_SEQUENCE: Atomic<u32> = Atomic::new(3);
/// Sequence number of the next notification about an object.
static OBJECT_SEQUENCE: Atomic<u32> = Atomic::new(3);

fn send(
    resource: &Resource,
    command: Command,
    minor: u32,
    sequence: &Atomic<u32>,
    write: impl FnOnce(&mut Writer<'_>) -> Result<(), NoSpace>,
) {
    let seq = sequence.fetch_add(1, Full);
    if let Ok((buffer, len)) = element(write) {
        let attrs = buffer.get(..len).unwrap_or(&[]);
        // Nobody has to listen.
        let code = RetCode::NO_ERROR.0;
        let _ = resource
            .events
            .multicast(command.number(), seq, minor, code, attrs);
    }
}

fn object(object: Object<'_>, nh_type: u32) {
    let (resource, command) = (object.resource(), object.command());
    send(
        resource,
        command,
        object.minor(),
        &OBJECT_SEQUENCE,
        |writer| object.notification(nh_type, writer),
    );
}

/// A resource was created, changed or deleted.
pub(crate) fn resource(resource: &Resource, action: u32) {
    let _group = resource.events.group();
    object(Object::Resource(resource), action);
}

/// A volume was created: the device, then its peer device if there is a network configuration.
pub(crate) fn device(volume: &Volume, action: u32) {
    let _group = volume.resource.events.group();
    let configured = volume.resource.net_conf.lock().is_some();
    let more = if configured {
        notification::CONTINUES
    } else {
        0
    };
    object(Object::Device(volume), action | more);
    if configured {
        object(Object::PeerDevice(volume), action);
    }
}

/// A volume is deleted: the peer device goes first.
pub(crate) fn device_gone(volume: &Volume) {
    let _group = volume.resource.events.group();
    if volume.resource.net_conf.lock().is_some() {
        object(
            Object::PeerDevice(volume),
            notification::DESTROY | notification::CONTINUES,
        );
    }
    object(Object::Device(volume), notification::DESTROY);
}

/// A network configuration appeared.
pub(crate) fn connection_created(resource: &Resource) {
    let _group = resource.events.group();
    let volumes = sorted(resource);
    let count = volumes.iter().flatten().count();
    let more = |left: usize| if left > 0 { notification::CONTINUES } else { 0 };
    object(
        Object::Connection(resource),
        notification::CREATE | more(count),
    );
    for (nth, volume) in volumes.iter().flatten().enumerate() {
        let left = count.saturating_sub(nth).saturating_sub(1);
        object(
            Object::PeerDevice(volume),
            notification::CREATE | more(left),
        );
    }
}

/// The network configuration is dropped.
pub(crate) fn connection_gone(resource: &Resource) {
    let _group = resource.events.group();
    for volume in sorted(resource).iter().flatten() {
        object(
            Object::PeerDevice(volume),
            notification::DESTROY | notification::CONTINUES,
        );
    }
    object(Object::Connection(resource), notification::DESTROY);
}

/// Something about the connection changed.
pub(crate) fn connection_changed(resource: &Resource, action: u32) {
    let _group = resource.events.group();
    object(Object::Connection(resource), action);
}

/// The connection changed its state.
pub(crate) fn connection(resource: &Resource, old: u8, new: u8) {
    let alone = ConnState::StandAlone.to_wire();
    if u32::from(old) == alone {
        super::connection::publish(resource);
    }
    connection_changed(resource, notification::CHANGE);
    if u32::from(new) == alone {
        super::connection::forget(resource);
    }
}

/// A volume changed its state: the notifications of its objects, then the status broadcast.
pub(crate) fn volume(volume: &Volume, old: u32, new: u32) {
    let alone = |word| StateWord(word).conn() == ConnState::StandAlone.to_wire();
    if alone(old) && !alone(new) {
        // The volumes hear first that the connection begins.
        super::connection::publish(&volume.resource);
    }
    let _group = volume.resource.events.group();
    let configured = volume.resource.net_conf.lock().is_some();
    let more = notification::CHANGE | notification::CONTINUES;
    object(Object::Resource(&volume.resource), more);
    if configured {
        object(Object::Connection(&volume.resource), more);
        object(Object::Device(volume), more);
        object(Object::PeerDevice(volume), notification::CHANGE);
    } else {
        object(Object::Device(volume), notification::CHANGE);
    }
    let info = StateInfo {
        prev_state: Some(old),
        new_state: Some(new),
        ..status::state_info(volume, sib_reason::STATE_CHANGE)
    };
    let addresses = volume.resource.connector.addresses();
    broadcast(volume, addresses.as_ref(), &info);
}

fn broadcast(volume: &Volume, addresses: Option<&(Addr, Addr)>, info: &StateInfo) {
    let resource = &volume.resource;
    send(
        resource,
        Command::Event,
        volume.minor,
        &STATUS_SEQUENCE,
        |writer| {
            context_at(resource, Some(volume), addresses, writer)?;
            status::describe(volume, info, false, writer)
        },
    );
}

/// A helper is about to run (`exit` is `None`) or has ended with this wait status.
pub(crate) fn helper(subject: &Subject, name: &str, exit: Option<u32>) {
    let (resource, volume) = (&subject.resource, subject.volume.as_deref());
    let addresses = subject.addresses.as_ref();
    let _group = resource.events.group();
    // One that was deleted has no state, or that of another one which has its place now.
    let there = |volume: &&Volume| {
        let found = resource.volume(volume.index);
        found.is_some_and(|found| core::ptr::eq(&*found, *volume))
    };
    if let Some(volume) = volume.filter(there) {
        let reason = match exit {
            None => sib_reason::HELPER_PRE,
            Some(_) => sib_reason::HELPER_POST,
        };
        let info = StateInfo {
            helper: Text::new(name.as_bytes()),
            helper_exit_code: exit,
            ..status::state_info(volume, reason)
        };
        broadcast(volume, addresses, &info);
    }
    let action = match exit {
        None => notification::CALL,
        Some(_) => notification::RESPONSE,
    };
    let minor = volume.map_or(drbd_format::netlink::ids::NO_MINOR, |v| v.minor);
    send(
        resource,
        Command::Helper,
        minor,
        &OBJECT_SEQUENCE,
        |writer| {
            context_at(resource, volume, addresses, writer)?;
            NotificationHeader { nh_type: action }.emit(writer)?;
            HelperInfo {
                helper_name: Text::new(name.as_bytes()).unwrap_or_default(),
                helper_status: exit.unwrap_or(0),
            }
            .emit(writer)
        },
    );
}
