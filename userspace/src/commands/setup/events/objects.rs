//! Lines of `events2`: objects by name, and of their values only those that changed.

use crate::netlink::message::DrbdMessage;
use crate::netlink::request::Received;
use crate::report::Failure;
use crate::status::model;
use drbd_format::netlink::ids::{Command, Message};
use drbd_format::netlink::info::{
    notification, ConnectionInfo, ConnectionStatistics, Context, DeviceInfo, DeviceStatistics,
    HelperInfo, NotificationHeader, PeerDeviceInfo, PeerDeviceStatistics, ResourceInfo,
    ResourceStatistics,
};
use std::collections::BTreeMap;

/// Values of an object, in the order in which they are printed.
type Values = Vec<(&'static str, String)>;

/// What was printed so far.
pub(super) struct Known<'a> {
    wanted: Option<&'a str>,
    statistics: bool,
    full: bool,
    objects: BTreeMap<String, Values>,
    last_sequence: Option<u32>,
}

impl<'a> Known<'a> {
    /// Starts with nothing known. `full` adds what only newer tools print.
    pub(super) fn new(wanted: Option<&'a str>, statistics: bool, full: bool) -> Self {
        Self {
            wanted,
            statistics,
            full,
            objects: BTreeMap::new(),
            last_sequence: None,
        }
    }

    /// Returns the lines for one message.
    pub(super) fn lines(&mut self, event: &Received) -> Result<Vec<String>, Failure> {
        let message = &event.message;
        let Some(command) = Command::from_number(message.command) else {
            return Ok(Vec::new());
        };
        let kind = match command {
            Command::ResourceState => "resource",
            Command::DeviceState => "device",
            Command::ConnectionState => "connection",
            Command::PeerDeviceState => "peer-device",
            Command::Helper => "helper",
            Command::InitialStateDone => return Ok(vec!["exists -".to_owned()]),
            _ => return Ok(Vec::new()),
        };
        let attrs = message.read()?;
        let header = NotificationHeader::find(&attrs)?.unwrap_or_default();
        let action = header.nh_type & !notification::CONTINUES;
        let mut lines = Vec::new();
        if action != notification::EXISTS {
            lines.extend(self.gap(event.sequence));
        }
        let context = Context::find(&attrs)?.unwrap_or_default();
        let name = String::from_utf8_lossy(context.resource_name.unwrap_or_default().as_bytes())
            .into_owned();
        if self.wanted.is_some_and(|wanted| wanted != name) {
            return Ok(lines);
        }
        let object = format!("{kind} {}", identity(kind, &name, &context, message));
        let values = match kind {
            "resource" => resource(&attrs, self.statistics, self.full)?,
            "device" => device(&attrs, self.statistics)?,
            "connection" => connection(&attrs, self.statistics)?,
            "peer-device" => peer_device(&attrs, self.statistics)?,
            _ => helper(&attrs, action)?,
        };
        lines.extend(self.line(action, object, values, kind == "helper"));
        Ok(lines)
    }

    /// Notices lost messages by their numbers.
    fn gap(&mut self, sequence: u32) -> Option<String> {
        let lost = match self.last_sequence {
            Some(last) => sequence.wrapping_sub(last).wrapping_sub(1),
            None => 0,
        };
        self.last_sequence = Some(sequence);
        (lost != 0).then(|| format!("- skipped {lost}"))
    }

    fn line(
        &mut self,
        action: u32,
        object: String,
        values: Values,
        is_helper: bool,
    ) -> Option<String> {
        let verb = match action {
            notification::EXISTS => "exists",
            notification::CREATE => "create",
            notification::CHANGE => "change",
            notification::DESTROY => "destroy",
            notification::CALL => "call",
            notification::RESPONSE => "response",
            _ => return None,
        };
        let shown: Values = match action {
            notification::DESTROY => {
                self.objects.remove(&object);
                Vec::new()
            }
            notification::CHANGE => {
                let old = self
                    .objects
                    .insert(object.clone(), values.clone())
                    .unwrap_or_default();
                values.into_iter().filter(|v| !old.contains(v)).collect()
            }
            _ if is_helper => values,
            _ => {
                self.objects.insert(object.clone(), values.clone());
                values
            }
        };
        let mut line = format!("{verb} {object}");
        for (key, value) in shown {
            line.push_str(&format!(" {key}:{value}"));
        }
        Some(line)
    }
}

/// Returns the keys that say which object it is.
fn identity(kind: &str, name: &str, context: &Context, message: &DrbdMessage) -> String {
    let mut text = format!("name:{name}");
    if matches!(kind, "connection" | "peer-device" | "helper") {
        text.push_str(" peer-node-id:0");
        if context.peer_addr.is_some_and(|address| !address.is_empty()) {
            text.push_str(" conn-name:peer");
        }
    }
    if let Some(volume) = context.volume {
        text.push_str(&format!(" volume:{volume}"));
    }
    if let Some(minor) = message.minor() {
        text.push_str(&format!(" minor:{minor}"));
    }
    text
}

fn resource(attrs: &Message<'_>, statistics: bool, full: bool) -> Result<Values, Failure> {
    let info = ResourceInfo::find(attrs)?.unwrap_or_default();
    let mut values = vec![
        ("role", model::role(info.res_role).to_owned()),
        ("suspended", model::suspended(&info)),
    ];
    if full {
        // Whether a promotion would succeed is not known here; being suspended speaks against it.
        let may = !(info.res_susp || info.res_susp_nod || info.res_susp_fen);
        values.push(("may_promote", model::yes_no(may).to_owned()));
    }
    if statistics {
        let numbers = ResourceStatistics::find(attrs)?.unwrap_or_default();
        let ordering = model::write_ordering(numbers.res_stat_write_ordering);
        values.push(("write-ordering", ordering.to_owned()));
    }
    Ok(values)
}

fn device(attrs: &Message<'_>, statistics: bool) -> Result<Values, Failure> {
    let info = DeviceInfo::find(attrs)?.unwrap_or_default();
    let mut values = vec![("disk", model::disk(info.dev_disk_state).to_owned())];
    if statistics {
        let numbers = DeviceStatistics::find(attrs)?.unwrap_or_default();
        values.extend([
            ("size", (numbers.dev_size / 2).to_string()),
            ("read", (numbers.dev_read / 2).to_string()),
            ("written", (numbers.dev_write / 2).to_string()),
            ("al-writes", numbers.dev_al_writes.to_string()),
            ("bm-writes", numbers.dev_bm_writes.to_string()),
            ("upper-pending", numbers.dev_upper_pending.to_string()),
            ("lower-pending", numbers.dev_lower_pending.to_string()),
            (
                "al-suspended",
                model::yes_no(numbers.dev_al_suspended).to_owned(),
            ),
            ("blocked", model::blocked(&numbers)),
        ]);
    }
    Ok(values)
}

fn connection(attrs: &Message<'_>, statistics: bool) -> Result<Values, Failure> {
    let info = ConnectionInfo::find(attrs)?.unwrap_or_default();
    let mut values = vec![
        (
            "connection",
            model::connection(info.conn_connection_state).to_owned(),
        ),
        ("role", model::role(info.conn_role).to_owned()),
    ];
    if statistics {
        let numbers = ConnectionStatistics::find(attrs)?.unwrap_or_default();
        values.push((
            "congested",
            model::yes_no(numbers.conn_congested).to_owned(),
        ));
    }
    Ok(values)
}

fn peer_device(attrs: &Message<'_>, statistics: bool) -> Result<Values, Failure> {
    let info = PeerDeviceInfo::find(attrs)?.unwrap_or_default();
    let mut values = vec![
        (
            "replication",
            model::replication(info.peer_repl_state).to_owned(),
        ),
        ("peer-disk", model::disk(info.peer_disk_state).to_owned()),
        ("resync-suspended", model::resync_suspended(&info)),
    ];
    if statistics {
        let numbers = PeerDeviceStatistics::find(attrs)?.unwrap_or_default();
        values.extend([
            ("received", (numbers.peer_dev_received / 2).to_string()),
            ("sent", (numbers.peer_dev_sent / 2).to_string()),
            (
                "out-of-sync",
                (numbers.peer_dev_out_of_sync / 2).to_string(),
            ),
            ("pending", numbers.peer_dev_pending.to_string()),
            ("unacked", numbers.peer_dev_unacked.to_string()),
        ]);
    }
    Ok(values)
}

fn helper(attrs: &Message<'_>, action: u32) -> Result<Values, Failure> {
    let info = HelperInfo::find(attrs)?.unwrap_or_default();
    let name = String::from_utf8_lossy(info.helper_name.as_bytes()).into_owned();
    let mut values = vec![("helper", name)];
    if action == notification::RESPONSE {
        values.push(("status", info.helper_status.to_string()));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::Request;
    use drbd_format::netlink::tlv::Writer;

    fn device_event(sequence: u32, action: u32, disk_state: u32) -> Received {
        let mut message = Request::new(Command::DeviceState)
            .context(Some("r0"), Some(0), None)
            .unwrap()
            .minor(0)
            .into_message();
        let mut buf = [0; 256];
        let mut writer = Writer::reply(&mut buf);
        NotificationHeader { nh_type: action }
            .emit(&mut writer)
            .unwrap();
        DeviceInfo {
            dev_disk_state: disk_state,
        }
        .emit(&mut writer)
        .unwrap();
        message.attrs.extend_from_slice(writer.written());
        Received { sequence, message }
    }

    #[test]
    fn only_what_changed_is_printed() {
        let mut known = Known::new(None, false, false);
        let exists = device_event(99, notification::EXISTS, 8);
        let lines = known.lines(&exists).unwrap();
        assert_eq!(
            lines,
            ["exists device name:r0 volume:0 minor:0 disk:UpToDate"]
        );
        let same = device_event(3, notification::CHANGE | notification::CONTINUES, 8);
        let lines = known.lines(&same).unwrap();
        assert_eq!(lines, ["change device name:r0 volume:0 minor:0"]);
        let changed = device_event(4, notification::CHANGE, 2);
        let lines = known.lines(&changed).unwrap();
        assert_eq!(
            lines,
            ["change device name:r0 volume:0 minor:0 disk:Failed"]
        );
        let gone = device_event(5, notification::DESTROY, 0);
        let lines = known.lines(&gone).unwrap();
        assert_eq!(lines, ["destroy device name:r0 volume:0 minor:0"]);
    }

    #[test]
    fn lost_messages_are_reported() {
        let mut known = Known::new(None, false, false);
        known
            .lines(&device_event(3, notification::CREATE, 0))
            .unwrap();
        let lines = known
            .lines(&device_event(7, notification::CHANGE, 1))
            .unwrap();
        assert_eq!(lines[0], "- skipped 3");
    }

    #[test]
    fn other_resources_are_left_out() {
        let mut known = Known::new(Some("r1"), false, false);
        assert!(known
            .lines(&device_event(3, notification::CREATE, 0))
            .unwrap()
            .is_empty());
    }
}
