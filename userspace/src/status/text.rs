//! `drbdsetup status` for people.

use super::model::{
    blocked, connection, disk, hundredths, in_sync, is_connected, is_syncing, replicates,
    replication, resync_suspended, role, suspended, write_ordering, yes_no, Connection, Device,
    PeerDevice, Resource,
};

/// What to show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Also what is as usual.
    pub(crate) verbose: bool,
    /// Also counters.
    pub(crate) statistics: bool,
    /// Columns of the terminal.
    pub(crate) width: usize,
}

/// Writes one paragraph, with an empty line behind it.
pub(crate) fn resource(resource: &Resource, style: Style) -> String {
    let mut out = Lines {
        text: String::new(),
        column: 0,
        indent: 0,
        width: style.width,
    };
    out.start(0, 4);
    out.word(&resource.name);
    out.pair("role", role(resource.info.res_role));
    let reasons = suspended(&resource.info);
    if style.verbose || reasons != "no" {
        out.pair("suspended", &reasons);
    }
    if style.verbose && style.statistics {
        out.start(4, 4);
        out.pair(
            "write-ordering",
            write_ordering(resource.statistics.res_stat_write_ordering),
        );
    }
    let name_volumes = style.verbose || !resource.has_only_volume_0();
    for device in &resource.devices {
        out.device(device, name_volumes, style);
    }
    for connection in &resource.connections {
        out.connection(connection, style);
        if !style.verbose && !style.statistics && !is_connected(&connection.info) {
            continue;
        }
        for peer_device in &connection.peer_devices {
            let size = resource.size_of(peer_device.volume);
            out.peer_device(peer_device, size, name_volumes, style);
        }
    }
    out.finish()
}

/// Folds words into lines.
struct Lines {
    text: String,
    column: usize,
    indent: usize,
    width: usize,
}

impl Lines {
    /// Starts a line; what does not fit goes to the next one, at `fold`.
    fn start(&mut self, indent: usize, fold: usize) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.text.extend(std::iter::repeat_n(' ', indent));
        self.column = indent;
        self.indent = fold;
    }

    fn word(&mut self, word: &str) {
        let is_first = self.text.is_empty() || self.text.ends_with(['\n', ' ']);
        if !is_first && self.column + 1 + word.len() > self.width {
            let fold = self.indent;
            self.start(fold, fold);
        } else if !is_first {
            self.text.push(' ');
            self.column += 1;
        }
        self.text.push_str(word);
        self.column += word.len();
    }

    fn pair(&mut self, key: &str, value: &str) {
        self.word(&format!("{key}:{value}"));
    }

    fn number(&mut self, key: &str, value: u64) {
        self.word(&format!("{key}:{value}"));
    }

    fn device(&mut self, device: &Device, name_volume: bool, style: Style) {
        let statistics = &device.statistics;
        self.start(2, 6);
        if name_volume {
            self.number("volume", device.volume.into());
        }
        if style.verbose {
            self.number("minor", device.minor.into());
        }
        self.pair("disk", disk(device.info.dev_disk_state));
        if style.statistics {
            self.start(6, 6);
            if style.verbose {
                self.number("size", statistics.dev_size / 2);
            }
            self.number("read", statistics.dev_read / 2);
            self.number("written", statistics.dev_write / 2);
            if style.verbose {
                self.number("al-writes", statistics.dev_al_writes);
                self.number("bm-writes", statistics.dev_bm_writes);
                self.number("upper-pending", statistics.dev_upper_pending.into());
                self.number("lower-pending", statistics.dev_lower_pending.into());
                self.pair("al-suspended", yes_no(statistics.dev_al_suspended));
            }
        }
        let what = blocked(statistics);
        if style.verbose || what != "no" {
            self.pair("blocked", &what);
        }
    }

    fn connection(&mut self, peer: &Connection, style: Style) {
        let is_up = is_connected(&peer.info);
        self.start(2, 6);
        self.word("peer");
        if style.verbose || !is_up {
            self.pair("connection", connection(peer.info.conn_connection_state));
        }
        if style.verbose || is_up {
            self.pair("role", role(peer.info.conn_role));
        }
        if style.verbose || peer.statistics.conn_congested {
            self.pair("congested", yes_no(peer.statistics.conn_congested));
        }
    }

    fn peer_device(&mut self, peer: &PeerDevice, size: u64, name_volume: bool, style: Style) {
        const DUNKNOWN: u32 = 6;
        let (info, statistics) = (&peer.info, &peer.statistics);
        let replicates = replicates(info);
        let reasons = resync_suspended(info);
        let is_usual = !replicates && info.peer_disk_state == DUNKNOWN && reasons == "no";
        if !style.verbose && !style.statistics && is_usual {
            return;
        }
        self.start(4, 8);
        if name_volume {
            self.number("volume", peer.volume.into());
        }
        if style.verbose || replicates {
            self.pair("replication", replication(info.peer_repl_state));
        }
        self.pair("peer-disk", disk(info.peer_disk_state));
        if is_syncing(info) {
            let done = hundredths(in_sync(statistics.peer_dev_out_of_sync, size));
            self.pair("done", &done);
        }
        if style.verbose || reasons != "no" {
            self.pair("resync-suspended", &reasons);
        }
        if !style.statistics {
            return;
        }
        self.start(8, 8);
        self.number("received", statistics.peer_dev_received / 2);
        self.number("sent", statistics.peer_dev_sent / 2);
        if style.verbose || statistics.peer_dev_out_of_sync != 0 {
            self.number("out-of-sync", statistics.peer_dev_out_of_sync / 2);
        }
        if style.verbose {
            self.number("pending", statistics.peer_dev_pending.into());
            self.number("unacked", statistics.peer_dev_unacked.into());
        }
    }

    fn finish(mut self) -> String {
        self.text.push_str("\n\n");
        self.text
    }
}

#[cfg(test)]
pub(super) fn sample() -> Resource {
    let mut resource = Resource {
        name: "r0".to_owned(),
        ..Resource::default()
    };
    resource.info.res_role = 1;
    resource.statistics.res_stat_write_ordering = 2;
    let mut device = Device::default();
    device.info.dev_disk_state = 8;
    device.statistics.dev_size = 130_992;
    device.statistics.dev_al_writes = 8;
    device.statistics.dev_al_suspended = true;
    resource.devices.push(device);
    let mut connection = Connection::default();
    connection.info.conn_connection_state = 8;
    let mut peer_device = PeerDevice::default();
    peer_device.info.peer_repl_state = 9;
    peer_device.info.peer_disk_state = 6;
    peer_device.statistics.peer_dev_out_of_sync = 130_992;
    connection.peer_devices.push(peer_device);
    resource.connections.push(connection);
    resource
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRIEF: Style = Style {
        verbose: false,
        statistics: false,
        width: 80,
    };
    const LONG: Style = Style {
        verbose: true,
        statistics: true,
        width: 80,
    };

    #[test]
    fn output_is_that_of_the_reference() {
        // Recorded with drbd-utils 9.22 and the C driver 8.4.11.
        assert_eq!(
            resource(&sample(), BRIEF),
            "r0 role:Primary\n  disk:UpToDate\n  peer connection:Connecting\n\n"
        );
        assert_eq!(
            resource(&sample(), LONG),
            "r0 role:Primary suspended:no
    write-ordering:flush
  volume:0 minor:0 disk:UpToDate
      size:65496 read:0 written:0 al-writes:8 bm-writes:0 upper-pending:0
      lower-pending:0 al-suspended:yes blocked:no
  peer connection:Connecting role:Unknown congested:no
    volume:0 replication:Off peer-disk:DUnknown resync-suspended:no
        received:0 sent:0 out-of-sync:65496 pending:0 unacked:0

"
        );
    }

    #[test]
    fn what_was_last_known_of_a_peer_that_is_gone_is_shown_on_request() {
        let mut gone = sample();
        let volume = &mut gone.connections[0].peer_devices[0].info;
        volume.peer_disk_state = 5;
        volume.peer_resync_susp_user = 1;
        assert_eq!(
            resource(&gone, BRIEF),
            "r0 role:Primary\n  disk:UpToDate\n  peer connection:Connecting\n\n"
        );
        for (verbose, statistics) in [(true, false), (false, true)] {
            let style = Style {
                verbose,
                statistics,
                ..BRIEF
            };
            assert!(resource(&gone, style).contains(" peer-disk:Outdated resync-suspended:user"));
        }
        let peer = &mut gone.connections[0].info;
        peer.conn_connection_state = 9;
        peer.conn_role = 2;
        assert_eq!(
            resource(&gone, BRIEF),
            "r0 role:Primary\n  disk:UpToDate\n  peer role:Secondary\n    \
             peer-disk:Outdated resync-suspended:user\n\n"
        );
    }

    #[test]
    fn a_resync_shows_how_far_it_is() {
        let mut syncing = sample();
        let peer = &mut syncing.connections[0];
        peer.info.conn_connection_state = 9;
        peer.info.conn_role = 2;
        peer.peer_devices[0].info.peer_repl_state = 16;
        peer.peer_devices[0].info.peer_disk_state = 4;
        peer.peer_devices[0].statistics.peer_dev_out_of_sync = 32748;
        assert_eq!(
            resource(&syncing, BRIEF),
            "r0 role:Primary\n  disk:UpToDate\n  peer role:Secondary\n    \
             replication:SyncSource peer-disk:Inconsistent done:75.00\n\n"
        );
    }

    #[test]
    fn what_is_unusual_is_always_shown() {
        let mut odd = sample();
        odd.connections.clear();
        odd.info.res_susp = true;
        odd.devices[0].statistics.dev_upper_blocked = true;
        assert_eq!(
            resource(&odd, BRIEF),
            "r0 role:Primary suspended:user\n  disk:UpToDate blocked:upper\n\n"
        );
    }
}
