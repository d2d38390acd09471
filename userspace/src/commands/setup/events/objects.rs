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
    /// A dump has made up for what is missing in front of the next message.
    is_up_to_date: bool,
    misses: bool,
}

/// One object as a message describes it.
struct Described {
    action: u32,
    kind: &'static str,
    /// Kind and keys: the name under which it is remembered.
    object: String,
    values: Values,
}

impl Described {
    /// Whether it is a connection, or part of one, that has no addresses yet.
    ///
    /// Dumps show these; no message tells of their beginning or end.
    fn is_unconfigured(&self) -> bool {
        matches!(self.kind, "connection" | "peer-device") && !self.object.contains(CONFIGURED)
    }
}

/// Key of a connection that has addresses.
const CONFIGURED: &str = " conn-name:peer";

/// Kinds in the order in which objects end.
const ENDING: [&str; 4] = ["peer-device", "connection", "device", "resource"];

impl<'a> Known<'a> {
    /// Starts with nothing known. `full` adds what only newer tools print.
    pub(super) fn new(wanted: Option<&'a str>, statistics: bool, full: bool) -> Self {
        Self {
            wanted,
            statistics,
            full,
            objects: BTreeMap::new(),
            last_sequence: None,
            is_up_to_date: false,
            misses: false,
        }
    }

    /// Returns the lines for one message.
    pub(super) fn lines(&mut self, event: &Received) -> Result<Vec<String>, Failure> {
        if event.message.command == Command::InitialStateDone.number() {
            return Ok(vec!["exists -".to_owned()]);
        }
        let Some(described) = self.read(&event.message)? else {
            return Ok(Vec::new());
        };
        let mut lines = Vec::new();
        if described.action != notification::EXISTS {
            lines.extend(self.gap(event.sequence));
        }
        if self.is_wanted(&event.message) {
            lines.extend(self.line(described));
        }
        Ok(lines)
    }

    /// Whether messages are missing, since the last question, that no dump has made up for.
    pub(super) fn misses(&mut self) -> bool {
        std::mem::take(&mut self.misses)
    }

    /// Returns the lines that lead from what was printed to what a new dump shows, as if the
    /// messages in between had not been lost.
    pub(super) fn catch_up(&mut self, dump: &[Received]) -> Result<Vec<String>, Failure> {
        self.is_up_to_date = true;
        let mut present = Vec::new();
        for element in dump {
            if self.is_wanted(&element.message) {
                present.extend(self.read(&element.message)?);
            }
        }
        let mut lines = self.end_others(&present);
        for described in present {
            let action = match self.objects.get(&described.object) {
                Some(known) if *known == described.values => continue,
                Some(_) => notification::CHANGE,
                None if described.is_unconfigured() => continue,
                None => notification::CREATE,
            };
            lines.extend(self.line(Described {
                action,
                ..described
            }));
        }
        Ok(lines)
    }

    /// Forgets everything that is not `present`.
    fn end_others(&mut self, present: &[Described]) -> Vec<String> {
        let mut lines = Vec::new();
        for kind in ENDING {
            let gone: Vec<String> = self
                .objects
                .keys()
                .filter(|object| object.split(' ').next() == Some(kind))
                .filter(|object| present.iter().all(|other| other.object != **object))
                .cloned()
                .collect();
            for object in gone {
                let described = Described {
                    action: notification::DESTROY,
                    kind,
                    object,
                    values: Vec::new(),
                };
                if !described.is_unconfigured() {
                    lines.extend(self.line(described));
                }
            }
        }
        lines
    }

    fn is_wanted(&self, message: &DrbdMessage) -> bool {
        let name = message.context().and_then(|context| context.resource_name);
        let name = name.unwrap_or_default();
        let name = String::from_utf8_lossy(name.as_bytes());
        self.wanted.is_none_or(|wanted| wanted == name)
    }

    /// Reads what a message says; `None` if it is about something else.
    fn read(&self, message: &DrbdMessage) -> Result<Option<Described>, Failure> {
        let kind = match Command::from_number(message.command) {
            Some(Command::ResourceState) => "resource",
            Some(Command::DeviceState) => "device",
            Some(Command::ConnectionState) => "connection",
            Some(Command::PeerDeviceState) => "peer-device",
            Some(Command::Helper) => "helper",
            _ => return Ok(None),
        };
        let attrs = message.read()?;
        let header = NotificationHeader::find(&attrs)?.unwrap_or_default();
        let action = header.nh_type & !notification::CONTINUES;
        let context = Context::find(&attrs)?.unwrap_or_default();
        let values = match kind {
            "resource" => resource(&attrs, self.statistics, self.full)?,
            "device" => device(&attrs, self.statistics)?,
            "connection" => connection(&attrs, self.statistics)?,
            "peer-device" => peer_device(&attrs, self.statistics)?,
            _ => helper(&attrs, action)?,
        };
        Ok(Some(Described {
            action,
            kind,
            object: format!("{kind} {}", identity(kind, &context, message)),
            values,
        }))
    }

    /// Notices lost messages by their numbers.
    fn gap(&mut self, sequence: u32) -> Option<String> {
        let lost = match self.last_sequence {
            Some(last) => sequence.wrapping_sub(last).wrapping_sub(1),
            None => 0,
        };
        self.last_sequence = Some(sequence);
        let is_up_to_date = std::mem::take(&mut self.is_up_to_date);
        self.misses |= lost != 0 && !is_up_to_date;
        (lost != 0).then(|| format!("- skipped {lost}"))
    }

    fn line(&mut self, described: Described) -> Option<String> {
        let Described {
            mut action,
            kind,
            object,
            values,
        } = described;
        match (action, self.objects.contains_key(&object)) {
            // A dump has shown it before the message about its beginning was read.
            (notification::CREATE, true) => action = notification::CHANGE,
            // A dump has shown that it is gone before the last messages about it were read; or a
            // connection without addresses, of whose beginning nobody told.
            (notification::CHANGE | notification::DESTROY, false) => return None,
            _ => {}
        }
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
            _ if kind == "helper" => values,
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
fn identity(kind: &str, context: &Context, message: &DrbdMessage) -> String {
    let name = context.resource_name.unwrap_or_default();
    let mut text = format!("name:{}", String::from_utf8_lossy(name.as_bytes()));
    if matches!(kind, "connection" | "peer-device" | "helper") {
        text.push_str(" peer-node-id:0");
        if context.peer_addr.is_some_and(|address| !address.is_empty()) {
            text.push_str(CONFIGURED);
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
    use drbd_format::netlink::tlv::{NoSpace, Writer};

    fn of(resource: &str, sequence: u32, action: u32, disk_state: u32) -> Received {
        let mut message = Request::new(Command::DeviceState)
            .context(Some(resource), Some(0), None)
            .unwrap()
            .minor(0)
            .into_message();
        add(&mut message, action, |writer| {
            let dev_disk_state = disk_state;
            DeviceInfo { dev_disk_state }.emit(writer)
        });
        Received { sequence, message }
    }

    fn device_event(sequence: u32, action: u32, disk_state: u32) -> Received {
        of("r0", sequence, action, disk_state)
    }

    fn add(
        message: &mut DrbdMessage,
        action: u32,
        info: impl FnOnce(&mut Writer<'_>) -> Result<(), NoSpace>,
    ) {
        let mut buf = [0; 256];
        let mut writer = Writer::reply(&mut buf);
        NotificationHeader { nh_type: action }
            .emit(&mut writer)
            .unwrap();
        info(&mut writer).unwrap();
        message.attrs.extend_from_slice(writer.written());
    }

    /// A message about a connection, with addresses or without.
    fn connection_event(sequence: u32, action: u32, state: u32, configured: bool) -> Received {
        let addresses = configured.then_some((&[2u8, 0][..], &[2u8, 1][..]));
        let mut message = Request::new(Command::ConnectionState)
            .context(Some("r0"), None, addresses)
            .unwrap()
            .into_message();
        add(&mut message, action, |writer| {
            let info = ConnectionInfo {
                conn_connection_state: state,
                ..ConnectionInfo::default()
            };
            info.emit(writer)
        });
        Received { sequence, message }
    }

    fn known<'a>(events: &[Received]) -> Known<'a> {
        let mut known = Known::new(None, false, false);
        for event in events {
            known.lines(event).unwrap();
        }
        known
    }

    const EXISTS: u32 = notification::EXISTS;

    #[test]
    fn a_new_dump_is_shown_as_what_led_to_it() {
        let mut known = known(&[
            of("gone", 9, EXISTS, 8),
            of("same", 9, EXISTS, 8),
            of("worse", 9, EXISTS, 8),
        ]);
        let dump = [
            of("new", 10, EXISTS, 4),
            of("same", 10, EXISTS, 8),
            of("worse", 10, EXISTS, 0),
        ];
        assert_eq!(
            known.catch_up(&dump).unwrap(),
            [
                "destroy device name:gone volume:0 minor:0",
                "create device name:new volume:0 minor:0 disk:Inconsistent",
                "change device name:worse volume:0 minor:0 disk:Diskless",
            ]
        );
        assert!(known.catch_up(&dump).unwrap().is_empty());
    }

    #[test]
    fn what_the_dump_has_told_already_is_not_told_again() {
        let mut known = known(&[
            of("gone", 9, EXISTS, 8),
            of("gone", 3, notification::CHANGE, 7),
        ]);
        known.catch_up(&[of("new", 10, EXISTS, 4)]).unwrap();
        let late = [
            of("gone", 5, notification::CHANGE, 0),
            of("gone", 6, notification::DESTROY, 0),
            of("new", 7, notification::CREATE, 4),
            of("gone", 8, notification::CREATE, 0),
            of("gone", 9, notification::CHANGE, 8),
        ];
        let lines: Vec<String> = late.iter().flat_map(|e| known.lines(e).unwrap()).collect();
        assert_eq!(
            lines,
            [
                "- skipped 1",
                "change device name:new volume:0 minor:0",
                "create device name:gone volume:0 minor:0 disk:Diskless",
                "change device name:gone volume:0 minor:0 disk:UpToDate",
            ]
        );
        assert!(!known.misses(), "the dump has made up for the gap");
        known
            .lines(&of("new", 11, notification::CHANGE, 4))
            .unwrap();
        assert!(known.misses(), "no dump has made up for this one");
        assert!(!known.misses());
    }

    #[test]
    fn connections_without_addresses_neither_begin_nor_end_in_a_dump() {
        let unconfigured = [connection_event(9, EXISTS, 0, false)];
        let configured = [connection_event(9, EXISTS, 8, true)];
        let end = "destroy connection name:r0 peer-node-id:0 conn-name:peer";
        assert_eq!(known(&configured).catch_up(&unconfigured).unwrap(), [end]);
        let begin =
            "create connection name:r0 peer-node-id:0 conn-name:peer connection:Connecting \
                     role:Unknown";
        assert_eq!(known(&unconfigured).catch_up(&configured).unwrap(), [begin]);
    }

    #[test]
    fn a_dump_of_all_shows_the_wanted_resource_alone() {
        let mut known = Known::new(Some("r1"), false, false);
        let dump = [of("r0", 9, EXISTS, 8), of("r1", 9, EXISTS, 8)];
        let line = "create device name:r1 volume:0 minor:0 disk:UpToDate";
        assert_eq!(known.catch_up(&dump).unwrap(), [line]);
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

    /// The kernel with three devices, a socket for few messages, and a reader who believes what is
    /// printed.
    #[derive(Default)]
    struct Model {
        devices: BTreeMap<&'static str, u32>,
        queue: std::collections::VecDeque<Received>,
        sequence: u32,
        has_lost: bool,
        asks: bool,
        believed: BTreeMap<String, String>,
    }

    impl Model {
        const ROOM: usize = 3;

        /// Creates, changes or ends a device. Of what does not fit, nothing is heard.
        fn act(&mut self, name: &'static str, disk: u32) {
            let known = self.devices.get(name).copied();
            let action = match (known, disk) {
                (None, 0) => return,
                (None, _) => notification::CREATE,
                (Some(_), 0) => notification::DESTROY,
                (Some(_), _) => notification::CHANGE,
            };
            match disk {
                0 => drop(self.devices.remove(name)),
                disk => drop(self.devices.insert(name, disk)),
            }
            self.sequence += 1;
            self.has_lost |= self.queue.len() == Self::ROOM;
            if !self.has_lost {
                let event = of(name, self.sequence, action, disk);
                self.queue.push_back(event);
            }
        }

        /// Reads one message, or asks for everything if a loss was reported before.
        fn read(&mut self, known: &mut Known<'_>) {
            let lines = if std::mem::take(&mut self.asks) {
                let devices = self.devices.iter();
                let dump: Vec<Received> = devices.map(|(n, d)| of(n, 0, EXISTS, *d)).collect();
                known.catch_up(&dump).unwrap()
            } else if let Some(event) = self.queue.pop_front() {
                let lines = known.lines(&event).unwrap();
                self.asks = known.misses();
                lines
            } else {
                self.asks = std::mem::take(&mut self.has_lost);
                return;
            };
            lines.iter().for_each(|line| self.believe(line));
        }

        fn believe(&mut self, line: &str) {
            let words: Vec<&str> = line.split(' ').collect();
            let old = match words[0] {
                "-" => return,
                "create" | "change" => {
                    let disk = words.get(5).map(|disk| (*disk).to_owned());
                    let old = self.believed.remove(words[2]);
                    let now = disk.or_else(|| old.clone()).expect(line);
                    self.believed.insert(words[2].to_owned(), now);
                    old
                }
                _ => self.believed.remove(words[2]),
            };
            assert_eq!(old.is_some(), words[0] != "create", "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_lost_the_reader_gets_to_know_how_things_are(
            acts in proptest::collection::vec((0usize..3, 0u32..9, 0usize..3), 0..60)
        ) {
            let mut model = Model::default();
            let mut known = Known::new(None, false, false);
            for (which, disk, reads) in acts {
                model.act(["a", "b", "c"][which], disk);
                (0..reads).for_each(|_| model.read(&mut known));
            }
            while !model.queue.is_empty() || model.has_lost || model.asks {
                model.read(&mut known);
            }
            let shown = |(name, disk): (&&str, &u32)| {
                (format!("name:{name}"), format!("disk:{}", model::disk(*disk)))
            };
            let true_state: BTreeMap<String, String> = model.devices.iter().map(shown).collect();
            proptest::prop_assert_eq!(&model.believed, &true_state);
        }
    }
}
