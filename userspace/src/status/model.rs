//! Resources, volumes and connections as the kernel reports them, with the names users see.
//!
//! The names are those of the newer tools (`Connecting`, `Established`): `reference/userland.md`
//! 3.4. Sizes are in sectors of 512 bytes, as received.

use drbd_format::netlink::info::{
    ConnectionInfo, ConnectionStatistics, DeviceInfo, DeviceStatistics, PeerDeviceInfo,
    PeerDeviceStatistics, ResourceInfo, ResourceStatistics,
};
use drbd_format::types::{ConnState, DiskState, Role, WriteOrdering};

/// A resource with everything that belongs to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resource {
    /// Its name.
    pub(crate) name: String,
    /// Its state.
    pub(crate) info: ResourceInfo,
    /// Its counters.
    pub(crate) statistics: ResourceStatistics,
    /// Its volumes.
    pub(crate) devices: Vec<Device>,
    /// Its connections, at most one.
    pub(crate) connections: Vec<Connection>,
}

/// A volume.
#[derive(Clone, Debug, Default)]
pub(crate) struct Device {
    /// Its number in the resource.
    pub(crate) volume: u32,
    /// Its minor.
    pub(crate) minor: u32,
    /// Its state.
    pub(crate) info: DeviceInfo,
    /// Its counters.
    pub(crate) statistics: DeviceStatistics,
}

/// A connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connection {
    /// Its state.
    pub(crate) info: ConnectionInfo,
    /// Its counters.
    pub(crate) statistics: ConnectionStatistics,
    /// The volumes at the peer.
    pub(crate) peer_devices: Vec<PeerDevice>,
}

/// A volume at the peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerDevice {
    /// Its number in the resource.
    pub(crate) volume: u32,
    /// Its state.
    pub(crate) info: PeerDeviceInfo,
    /// Its counters.
    pub(crate) statistics: PeerDeviceStatistics,
}

impl Resource {
    /// Whether volumes need not be named because there is only number 0.
    pub(crate) fn has_only_volume_0(&self) -> bool {
        matches!(self.devices[..], [Device { volume: 0, .. }])
    }

    /// Returns the size of a volume in sectors, 0 if it is not known.
    pub(crate) fn size_of(&self, volume: u32) -> u64 {
        let device = self.devices.iter().find(|device| device.volume == volume);
        device.map_or(0, |device| device.statistics.dev_size)
    }
}

/// Name of a role.
pub(crate) fn role(number: u32) -> &'static str {
    Role::from_wire(number).map_or("Unknown", Role::name)
}

/// Name of a disk state.
pub(crate) fn disk(number: u32) -> &'static str {
    DiskState::from_wire(number).map_or("DUnknown", DiskState::name)
}

/// Name of the state of a connection.
pub(crate) fn connection(number: u32) -> &'static str {
    match ConnState::from_wire(number) {
        Ok(ConnState::WfConnection) => "Connecting",
        Ok(ConnState::WfReportParams) => "Connected",
        Ok(state) => state.name(),
        Err(_) => "Unknown",
    }
}

/// Name of the replication state of a volume.
pub(crate) fn replication(number: u32) -> &'static str {
    match ConnState::from_wire(number) {
        Ok(ConnState::WfReportParams) => "Off",
        Ok(ConnState::Connected) => "Established",
        Ok(state) => state.name(),
        Err(_) => "Unknown",
    }
}

/// Whether the connection is established.
pub(crate) fn is_connected(info: &ConnectionInfo) -> bool {
    info.conn_connection_state >= ConnState::WfReportParams.to_wire()
}

/// Whether the volume replicates.
pub(crate) fn replicates(info: &PeerDeviceInfo) -> bool {
    info.peer_repl_state > ConnState::WfReportParams.to_wire()
}

/// Whether a resync or verify run is under way.
pub(crate) fn is_syncing(info: &PeerDeviceInfo) -> bool {
    let running = ConnState::SyncSource.to_wire()..=ConnState::PausedSyncT.to_wire();
    running.contains(&info.peer_repl_state)
}

/// Why application requests are suspended, or `no`.
pub(crate) fn suspended(info: &ResourceInfo) -> String {
    reasons(&[
        (info.res_susp, "user"),
        (info.res_susp_nod, "no-data"),
        (info.res_susp_fen, "fencing"),
    ])
}

/// Why the resync is suspended, or `no`.
pub(crate) fn resync_suspended(info: &PeerDeviceInfo) -> String {
    reasons(&[
        (info.peer_resync_susp_user != 0, "user"),
        (info.peer_resync_susp_peer != 0, "peer"),
        (info.peer_resync_susp_dependency != 0, "dependency"),
    ])
}

/// What blocks requests, or `no`.
pub(crate) fn blocked(statistics: &DeviceStatistics) -> String {
    reasons(&[
        (statistics.dev_upper_blocked, "upper"),
        (statistics.dev_lower_blocked, "lower"),
    ])
}

/// Name of the method that keeps writes in order.
pub(crate) fn write_ordering(number: u32) -> &'static str {
    WriteOrdering::from_wire(number).map_or("barrier", WriteOrdering::name)
}

/// `yes` or `no`.
pub(crate) fn yes_no(value: bool) -> &'static str {
    if value {
        "yes"
    } else {
        "no"
    }
}

fn reasons(all: &[(bool, &str)]) -> String {
    let given: Vec<&str> = all
        .iter()
        .filter(|(holds, _)| *holds)
        .map(|(_, name)| *name)
        .collect();
    if given.is_empty() {
        "no".to_owned()
    } else {
        given.join(",")
    }
}

/// How much of a volume is in sync, in hundredths of a percent.
pub(crate) fn in_sync(out_of_sync: u64, size: u64) -> u64 {
    if size == 0 {
        return 0;
    }
    let out = u128::from(out_of_sync.min(size)) * 10000;
    let out = u64::try_from(out.div_ceil(u128::from(size))).unwrap_or(10000);
    10000 - out
}

/// Shows hundredths with two decimals.
pub(crate) fn hundredths(value: u64) -> String {
    format!("{}.{:02}", value / 100, value % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_done_while_anything_is_left() {
        assert_eq!(hundredths(in_sync(0, 1000)), "100.00");
        assert_eq!(hundredths(in_sync(1, u64::MAX)), "99.99");
        assert_eq!(hundredths(in_sync(1000, 1000)), "0.00");
        assert_eq!(hundredths(in_sync(250, 1000)), "75.00");
        assert_eq!(in_sync(1, 0), 0);
    }

    #[test]
    fn states_have_the_newer_names_where_they_are_seen_from_outside() {
        assert_eq!(connection(8), "Connecting");
        assert_eq!(connection(9), "Connected");
        assert_eq!(connection(0), "StandAlone");
        assert_eq!(replication(9), "Off");
        assert_eq!(replication(10), "Established");
        assert_eq!(replication(16), "SyncSource");
    }
}
