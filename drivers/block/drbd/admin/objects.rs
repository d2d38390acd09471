// SPDX-License-Identifier: GPL-2.0-only

//! What answers, dumps and events say about resources, volumes and connections
//! (reference/netlink.md 5.3 to 5.5).

use crate::{
    kabi::{
        genl::{
            Dump,
            Request, //
        },
        socket::Addr, //
    },
    name::Name,
    registry::Registry,
    resource::Resource,
    volume::Volume, //
};
use drbd_core::{
    report::{
        ResourceStatus,
        VolumeStatus, //
    },
    state::mask, //
};
use drbd_format::{
    netlink::{
        codes::RetCode,
        ids::{
            Command,
            Message,
            NO_MINOR, //
        },
        info::{
            notification,
            ConnectionInfo,
            ConnectionStatistics,
            Context,
            DeviceInfo,
            DeviceStatistics,
            NotificationHeader,
            PeerDeviceInfo,
            PeerDeviceStatistics,
            ResourceInfo,
            ResourceStatistics, //
        },
        record::{
            Bytes,
            Text, //
        },
        tlv::{
            NoSpace,
            Writer, //
        }, //
    },
    options::NetConf,
    state_word::StateWord, //
};
use kernel::{
    alloc::KVVec,
    prelude::*,
    sync::Arc, //
};

/// Bytes of the largest element.
pub(super) const ELEMENT_LEN: usize = 4096;

/// Writes attributes into a fresh buffer. May sleep.
pub(super) fn element(
    write: impl FnOnce(&mut Writer<'_>) -> Result<(), NoSpace>,
) -> Result<(KVVec<u8>, usize)> {
    let mut buffer = KVVec::from_elem(0, ELEMENT_LEN, GFP_KERNEL)?;
    let mut writer = Writer::reply(&mut buffer);
    write(&mut writer).map_err(|NoSpace| EMSGSIZE)?;
    let len = writer.len();
    Ok((buffer, len))
}

/// Names the resource, and the volume and the addresses if asked for.
#[inline(never)]
pub(super) fn context(
    resource: &Resource,
    volume: Option<&Volume>,
    addresses: bool,
    writer: &mut Writer<'_>,
) -> Result<(), NoSpace> {
    let addresses = if addresses {
        resource.connector.addresses()
    } else {
        None
    };
    context_at(resource, volume, addresses.as_ref(), writer)
}

/// As [`context`], with the own and the peer's address as they were at some time.
#[inline(never)]
pub(super) fn context_at(
    resource: &Resource,
    volume: Option<&Volume>,
    addresses: Option<&(Addr, Addr)>,
    writer: &mut Writer<'_>,
) -> Result<(), NoSpace> {
    let mut context = Context {
        resource_name: Text::new(resource.name.as_bytes()),
        volume: volume.map(|volume| u32::from(volume.number)),
        ..Context::default()
    };
    if let Some((local, peer)) = addresses {
        context.my_addr = Bytes::new(local.as_bytes());
        context.peer_addr = Bytes::new(peer.as_bytes());
    }
    context.emit(writer)
}

/// Returns the network options as they may be shown.
#[inline(never)]
pub(super) fn shown_net_conf(resource: &Resource, secrets: bool) -> Option<NetConf> {
    let mut conf = resource.net_conf_in_force()?;
    if !secrets {
        conf.shared_secret = Text::EMPTY;
    }
    Some(conf)
}

pub(super) fn resource_info(status: &ResourceStatus) -> ResourceInfo {
    ResourceInfo {
        res_role: u32::from(status.role),
        res_susp: status.susp,
        res_susp_nod: status.susp_nod,
        res_susp_fen: status.susp_fen,
    }
}

pub(super) fn resource_statistics(status: &ResourceStatus) -> ResourceStatistics {
    ResourceStatistics {
        res_stat_write_ordering: u32::from(status.write_ordering),
    }
}

pub(super) fn device_info(status: &VolumeStatus) -> DeviceInfo {
    DeviceInfo {
        dev_disk_state: StateWord(status.word).disk(),
    }
}

pub(super) fn device_statistics(status: &VolumeStatus) -> DeviceStatistics {
    let mut history = [0; 32];
    let uuids = status.metadata.map_or([0; 4], |md| md.uuids);
    for (place, uuid) in history.chunks_exact_mut(8).zip(uuids.iter().skip(2)) {
        place.copy_from_slice(&uuid.to_ne_bytes());
    }
    let [current, ..] = uuids;
    DeviceStatistics {
        dev_size: status.capacity_sectors,
        dev_read: status.counters.read_sectors,
        dev_write: status.counters.written_sectors,
        dev_al_writes: status.counters.al_writes,
        dev_bm_writes: status.counters.bm_writes,
        dev_upper_pending: status.counters.app,
        dev_lower_pending: status.counters.local,
        dev_upper_blocked: status.blocked,
        dev_lower_blocked: false,
        dev_al_suspended: status.counters.al_suspended,
        dev_exposed_data_uuid: status.exposed_uuid,
        dev_current_uuid: current,
        dev_disk_flags: status.metadata.map_or(0, |md| md.flags),
        history_uuids: match status.metadata {
            Some(_) => Bytes::new(&history).unwrap_or_default(),
            None => Bytes::EMPTY,
        },
    }
}

pub(super) fn connection_info(status: &ResourceStatus) -> ConnectionInfo {
    ConnectionInfo {
        conn_connection_state: u32::from(status.connection),
        conn_role: u32::from(status.peer_role),
    }
}

pub(super) fn peer_device_info(status: &VolumeStatus) -> PeerDeviceInfo {
    let word = StateWord(status.word);
    PeerDeviceInfo {
        peer_repl_state: word.conn().max(9),
        peer_disk_state: word.peer_disk(),
        peer_resync_susp_user: u32::from(status.word & mask::USER_ISP != 0),
        peer_resync_susp_peer: u32::from(status.word & mask::PEER_ISP != 0),
        peer_resync_susp_dependency: u32::from(status.word & mask::AFTR_ISP != 0),
    }
}

/// Flags of a volume at the peer that follow from the metadata.
const MD_CONSISTENT: u32 = 1;
const MD_CONNECTED: u32 = 4;
const MD_FULL_SYNC: u32 = 8;
const MD_WAS_UP_TO_DATE: u32 = 16;

pub(super) fn peer_device_statistics(status: &VolumeStatus) -> PeerDeviceStatistics {
    let flags = status.metadata.map_or(0, |md| md.flags);
    let has = |flag| flags & flag != 0;
    let outdated = has(MD_CONSISTENT) && !has(MD_WAS_UP_TO_DATE);
    let bitmap_uuid = status.metadata.map_or(0, |md| {
        let [_, bitmap, ..] = md.uuids;
        bitmap
    });
    PeerDeviceStatistics {
        peer_dev_received: status.counters.received_sectors,
        peer_dev_sent: status.counters.sent_sectors,
        peer_dev_pending: status.counters.pending,
        peer_dev_unacked: status.counters.unacked,
        peer_dev_out_of_sync: status.counters.out_of_sync_bits.saturating_mul(8),
        peer_dev_resync_failed: status.resync_failed.saturating_mul(8),
        peer_dev_bitmap_uuid: bitmap_uuid,
        peer_dev_flags: u32::from(has(MD_CONNECTED))
            | u32::from(outdated) << 1
            | u32::from(has(MD_FULL_SYNC)) << 3,
    }
}

/// One of the four kinds of objects, as dumps and notifications describe it.
#[derive(Clone, Copy)]
pub(super) enum Object<'a> {
    Resource(&'a Resource),
    Device(&'a Volume),
    Connection(&'a Resource),
    PeerDevice(&'a Volume),
}

impl Object<'_> {
    /// Returns the command number of notifications about this kind.
    pub(super) const fn command(self) -> Command {
        match self {
            Self::Resource(_) => Command::ResourceState,
            Self::Device(_) => Command::DeviceState,
            Self::Connection(_) => Command::ConnectionState,
            Self::PeerDevice(_) => Command::PeerDeviceState,
        }
    }

    /// Returns the resource that the object belongs to.
    pub(super) fn resource(&self) -> &Resource {
        match self {
            Self::Resource(resource) | Self::Connection(resource) => resource,
            Self::Device(volume) | Self::PeerDevice(volume) => &volume.resource,
        }
    }

    /// Returns the minor in the header of a notification.
    pub(super) fn minor(self) -> u32 {
        match self {
            Self::Device(volume) => volume.minor,
            Self::Resource(_) | Self::Connection(_) | Self::PeerDevice(_) => NO_MINOR,
        }
    }

    /// Writes the notification `nh_type` about the object.
    pub(super) fn notification(self, nh_type: u32, writer: &mut Writer<'_>) -> Result<(), NoSpace> {
        let header = NotificationHeader { nh_type };
        let alive = nh_type & !notification::CONTINUES != notification::DESTROY;
        self.name(writer)?;
        header.emit(writer)?;
        self.describe(alive, writer)
    }

    fn name(self, writer: &mut Writer<'_>) -> Result<(), NoSpace> {
        match self {
            Self::Resource(resource) => context(resource, None, false, writer),
            Self::Device(volume) => context(&volume.resource, Some(volume), false, writer),
            Self::Connection(resource) => context(resource, None, true, writer),
            Self::PeerDevice(volume) => context(&volume.resource, Some(volume), true, writer),
        }
    }

    fn describe(self, alive: bool, writer: &mut Writer<'_>) -> Result<(), NoSpace> {
        match self {
            Self::Resource(resource) => {
                let status = resource.status();
                if alive {
                    resource_info(&status).emit(writer)?;
                }
                resource_statistics(&status).emit(writer)
            }
            Self::Device(volume) => {
                let status = volume.status();
                if alive {
                    device_info(&status).emit(writer)?;
                }
                device_statistics(&status).emit(writer)
            }
            Self::Connection(resource) => {
                let status = resource.status();
                if alive {
                    connection_info(&status).emit(writer)?;
                }
                ConnectionStatistics::default().emit(writer)
            }
            Self::PeerDevice(volume) => {
                let status = volume.status();
                if alive {
                    peer_device_info(&status).emit(writer)?;
                }
                peer_device_statistics(&status).emit(writer)
            }
        }
    }

    /// Writes the element of a dump.
    fn dumped(self, secrets: bool, writer: &mut Writer<'_>) -> Result<(), NoSpace> {
        self.name(writer)?;
        match self {
            Self::Resource(resource) => resource.options.lock().emit(writer)?,
            Self::Device(volume) => {
                if let Some(conf) = volume.disk_conf_in_force() {
                    conf.emit(writer)?;
                }
            }
            Self::Connection(resource) => {
                if let Some(conf) = shown_net_conf(resource, secrets) {
                    conf.emit(writer)?;
                }
            }
            Self::PeerDevice(_) => {}
        }
        self.describe(true, writer)
    }
}

/// Returns the resource with which a dump goes on: the next one, if the one before is deleted. The
/// first of the three numbers of the place is its serial number, the second counts in it.
pub(super) fn resume(registry: &Registry, out: &mut Dump<'_>) -> Option<Arc<Resource>> {
    let (serial, resource) = registry.next_serial(out.state[0])?;
    if serial != out.state[0] {
        out.state[0] = serial;
        out.state[1] = 0;
    }
    Some(resource)
}

/// Returns the volumes with which a dump goes on: their numbers are not less than the second
/// number of the place.
pub(super) fn left<'a>(
    volumes: &'a [Option<Arc<Volume>>],
    out: &Dump<'_>,
) -> impl Iterator<Item = &'a Arc<Volume>> {
    let from = out.state[1];
    let volumes = volumes.iter().flatten();
    volumes.skip_while(move |volume| after(volume) <= from)
}

/// The second number of the place behind a volume.
pub(super) fn after(volume: &Volume) -> isize {
    isize::try_from(u32::from(volume.number).saturating_add(1)).unwrap_or(isize::MAX)
}

/// Dumps 30 to 33. The place to resume is kept as (resource, volume, finished).
#[inline(never)]
pub(super) fn dump(
    registry: &Registry,
    command: Command,
    request: &Request<'_>,
    out: &mut Dump<'_>,
) -> Result {
    let filter = filter(command, request)?;
    if let Some(filter) = &filter {
        if registry.by_name(filter).is_none() {
            if out.state[0] == 0 {
                out.message(request.command(), NO_MINOR, RetCode::RES_NOT_KNOWN.0, &[])?;
                out.state[0] = 1;
            }
            return Ok(());
        }
    }
    let secrets = request.may_admin_system();
    while let Some(resource) = resume(registry, out) {
        let wanted = command == Command::GetResources
            || filter.as_ref().is_none_or(|name| resource.name == *name);
        if wanted && !dump_resource(command, &resource, secrets, filter.is_some(), out)? {
            return Ok(());
        }
        out.state[0] = out.state[0].saturating_add(1);
        out.state[1] = 0;
    }
    Ok(())
}

fn place(state: isize) -> usize {
    usize::try_from(state).unwrap_or(usize::MAX)
}

/// Returns the name that a dump is restricted to.
pub(super) fn filter(command: Command, request: &Request<'_>) -> Result<Option<Name>> {
    let message = Message::request(command, request.attrs()).map_err(|_| EINVAL)?;
    let context = Context::find(&message).map_err(|_| EINVAL)?;
    match context.and_then(|context| context.resource_name) {
        None => Ok(None),
        Some(name) => Name::new(name.as_bytes()).map(Some).map_err(|_| ENODEV),
    }
}

/// Writes what belongs to one resource. Returns whether all of it had room.
fn dump_resource(
    command: Command,
    resource: &Arc<Resource>,
    secrets: bool,
    filtered: bool,
    out: &mut Dump<'_>,
) -> Result<bool> {
    let number = command.number();
    let configured = resource.net_conf.lock().is_some();
    match command {
        Command::GetResources => {
            return one(number, NO_MINOR, Object::Resource(resource), secrets, out);
        }
        Command::GetConnections if configured => {
            return one(number, NO_MINOR, Object::Connection(resource), secrets, out);
        }
        Command::GetPeerDevices if !configured => return Ok(true),
        Command::GetDevices | Command::GetPeerDevices => {}
        _ => return Ok(true),
    }
    for volume in left(&sorted(resource), out) {
        let (object, minor) = if command == Command::GetDevices {
            (Object::Device(volume), volume.minor)
        } else if filtered {
            (Object::PeerDevice(volume), u32::from(volume.number))
        } else {
            (Object::PeerDevice(volume), volume.minor)
        };
        if !one(number, minor, object, secrets, out)? {
            return Ok(false);
        }
        out.state[1] = after(volume);
    }
    Ok(true)
}

/// Returns the volumes in ascending number, those that exist first.
pub(super) fn sorted(resource: &Resource) -> [Option<Arc<Volume>>; drbd_core::link::VOLUMES_MAX] {
    let mut volumes = resource.volumes();
    volumes.sort_unstable_by_key(|volume| {
        volume
            .as_ref()
            .map_or(u32::MAX, |volume| u32::from(volume.number))
    });
    volumes
}

fn one(
    number: u8,
    minor: u32,
    object: Object<'_>,
    secrets: bool,
    out: &mut Dump<'_>,
) -> Result<bool> {
    let (buffer, len) = element(|writer| object.dumped(secrets, writer))?;
    let attrs = buffer.get(..len).unwrap_or(&[]);
    out.message(number, minor, RetCode::NO_ERROR.0, attrs)
}

/// The dump of everything in the form of notifications (reference/netlink.md 5.5).
#[inline(never)]
pub(super) fn dump_initial_state(
    registry: &Registry,
    request: &Request<'_>,
    out: &mut Dump<'_>,
) -> Result {
    let _ = request;
    if out.state[2] != 0 {
        // Who was created since the end was told has had an event of its own.
        return Ok(());
    }
    while let Some(resource) = resume(registry, out) {
        let volumes = sorted(&resource);
        let count = volumes.iter().flatten().count();
        let last = count.saturating_mul(2).saturating_add(1);
        for step in place(out.state[1])..=last {
            let object = match step {
                0 => Some(Object::Resource(&resource)),
                1 => Some(Object::Connection(&resource)),
                step if step < count.saturating_add(2) => volumes
                    .get(step.saturating_sub(2))
                    .and_then(|v| v.as_deref())
                    .map(Object::Device),
                step => volumes
                    .get(step.saturating_sub(count).saturating_sub(2))
                    .and_then(|v| v.as_deref())
                    .map(Object::PeerDevice),
            };
            let Some(object) = object else {
                continue;
            };
            let more = if step == last {
                0
            } else {
                notification::CONTINUES
            };
            let (buffer, len) =
                element(|writer| object.notification(notification::EXISTS | more, writer))?;
            let attrs = buffer.get(..len).unwrap_or(&[]);
            let command = object.command().number();
            if !out.event(command, object.minor(), RetCode::NO_ERROR.0, attrs)? {
                return Ok(());
            }
            out.state[1] = out.state[1].saturating_add(1);
        }
        out.state[0] = out.state[0].saturating_add(1);
        out.state[1] = 0;
    }
    let header = NotificationHeader {
        nh_type: notification::EXISTS,
    };
    let (buffer, len) = element(|writer| header.emit(writer))?;
    let attrs = buffer.get(..len).unwrap_or(&[]);
    let done = Command::InitialStateDone.number();
    if out.event(done, NO_MINOR, RetCode::NO_ERROR.0, attrs)? {
        out.state[2] = 1;
    }
    Ok(())
}
