//! `drbdsetup status --json`, for monitoring.
//!
//! Names of the fields: `reference/userland.md` 5.8. Sizes are in KiB.

use super::model::{
    connection, disk, hundredths, in_sync, replication, resync_suspended, role, suspended,
    write_ordering, Connection, Device, PeerDevice, Resource,
};
use serde_json::{json, Value};

/// Writes an array of resources.
pub(crate) fn resources(resources: &[Resource]) -> String {
    let all: Vec<Value> = resources.iter().map(resource).collect();
    format!("{:#}\n", Value::Array(all))
}

fn resource(resource: &Resource) -> Value {
    let devices: Vec<Value> = resource.devices.iter().map(device).collect();
    let connections: Vec<Value> = resource
        .connections
        .iter()
        .map(|peer| peer_node(resource, peer))
        .collect();
    json!({
        "name": resource.name,
        "node-id": 0,
        "role": role(resource.info.res_role),
        "suspended": suspended(&resource.info) != "no",
        "suspended-reasons": suspended(&resource.info),
        "write-ordering": write_ordering(resource.statistics.res_stat_write_ordering),
        "devices": devices,
        "connections": connections,
    })
}

fn device(device: &Device) -> Value {
    let statistics = &device.statistics;
    json!({
        "volume": device.volume,
        "minor": device.minor,
        "disk-state": disk(device.info.dev_disk_state),
        "quorum": true,
        "size": statistics.dev_size / 2,
        "read": statistics.dev_read / 2,
        "written": statistics.dev_write / 2,
        "al-writes": statistics.dev_al_writes,
        "bm-writes": statistics.dev_bm_writes,
        "upper-pending": statistics.dev_upper_pending,
        "lower-pending": statistics.dev_lower_pending,
        "al-suspended": statistics.dev_al_suspended,
    })
}

fn peer_node(resource: &Resource, peer: &Connection) -> Value {
    let of_volume = |device: &PeerDevice| peer_device(resource, device);
    let peer_devices: Vec<Value> = peer.peer_devices.iter().map(of_volume).collect();
    json!({
        "peer-node-id": 0,
        "name": "peer",
        "connection-state": connection(peer.info.conn_connection_state),
        "congested": peer.statistics.conn_congested,
        "peer-role": role(peer.info.conn_role),
        "peer_devices": peer_devices,
    })
}

fn peer_device(resource: &Resource, peer: &PeerDevice) -> Value {
    let statistics = &peer.statistics;
    let size = resource.size_of(peer.volume);
    let percent = hundredths(in_sync(statistics.peer_dev_out_of_sync, size));
    json!({
        "volume": peer.volume,
        "replication-state": replication(peer.info.peer_repl_state),
        "peer-disk-state": disk(peer.info.peer_disk_state),
        "resync-suspended": resync_suspended(&peer.info),
        "received": statistics.peer_dev_received / 2,
        "sent": statistics.peer_dev_sent / 2,
        "out-of-sync": statistics.peer_dev_out_of_sync / 2,
        "pending": statistics.peer_dev_pending,
        "unacked": statistics.peer_dev_unacked,
        "percent-in-sync": percent.parse::<f64>().unwrap_or(0.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_that_exporters_read_are_there() {
        let text = resources(&[super::super::text::sample()]);
        let value: Value = serde_json::from_str(&text).unwrap();
        let resource = &value[0];
        assert_eq!(resource["role"], "Primary");
        assert_eq!(resource["devices"][0]["size"], 65496);
        let peer = &resource["connections"][0];
        assert_eq!(peer["connection-state"], "Connecting");
        assert_eq!(peer["peer_devices"][0]["out-of-sync"], 65496);
        assert_eq!(peer["peer_devices"][0]["percent-in-sync"], 0.0);
    }
}
