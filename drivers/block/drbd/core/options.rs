//! What the options of a command become once they are in force.

use drbd_format::netlink::record::Text;
use drbd_format::options::{DiskConf, NetConf, ResourceOpts};

use crate::config::{DiskConfig, Name, NetConfig, ResourceConfig};

/// A text option is never longer than a name.
fn name(text: &Text<64>) -> Name {
    Name::new(text.as_bytes()).unwrap_or(Name::EMPTY)
}

impl From<&ResourceOpts> for ResourceConfig {
    fn from(options: &ResourceOpts) -> Self {
        Self {
            on_no_data: options.on_no_data,
        }
    }
}

impl From<&NetConf> for NetConfig {
    fn from(conf: &NetConf) -> Self {
        Self {
            shared_secret: name(&conf.shared_secret),
            cram_hmac_alg: name(&conf.cram_hmac_alg),
            integrity_alg: name(&conf.integrity_alg),
            verify_alg: name(&conf.verify_alg),
            csums_alg: name(&conf.csums_alg),
            protocol: conf.wire_protocol,
            connect_int_secs: conf.connect_int,
            timeout_tenths: conf.timeout,
            ping_int_secs: conf.ping_int,
            ping_timeout_tenths: conf.ping_timeo,
            sock_check_timeout_tenths: conf.sock_check_timeo,
            sndbuf_bytes: conf.sndbuf_size,
            rcvbuf_bytes: conf.rcvbuf_size,
            ko_count: conf.ko_count,
            max_buffers: conf.max_buffers,
            max_epoch_size: conf.max_epoch_size,
            unplug_watermark: conf.unplug_watermark,
            after_sb_0p: conf.after_sb_0p,
            after_sb_1p: conf.after_sb_1p,
            after_sb_2p: conf.after_sb_2p,
            rr_conflict: conf.rr_conflict,
            on_congestion: conf.on_congestion,
            congestion_fill: conf.cong_fill,
            congestion_extents: conf.cong_extents,
            two_primaries: conf.two_primaries,
            discard_my_data: conf.discard_my_data,
            tentative: conf.tentative,
            tcp_cork: conf.tcp_cork,
            always_asbp: conf.always_asbp,
            use_rle: conf.use_rle,
            csums_after_crash_only: conf.csums_after_crash_only,
        }
    }
}

impl NetConfig {
    /// Puts into options as they were given what has changed since without a command: what the peer
    /// has told (`reference/wire.md` 4.3), and what holds for one handshake only.
    pub fn tell(&self, conf: &mut NetConf) {
        conf.wire_protocol = self.protocol;
        conf.after_sb_0p = self.after_sb_0p;
        conf.after_sb_1p = self.after_sb_1p;
        conf.after_sb_2p = self.after_sb_2p;
        conf.two_primaries = self.two_primaries;
        conf.discard_my_data = self.discard_my_data;
        let text = |name: &Name| Text::new(name.as_bytes()).unwrap_or_default();
        conf.verify_alg = text(&self.verify_alg);
        conf.csums_alg = text(&self.csums_alg);
    }
}

impl DiskConfig {
    /// Puts into options as they were given what has changed since without disk-options: what the
    /// peer has told (`reference/wire.md` 4.4), and the size that was asked for last.
    pub fn tell(&self, conf: &mut DiskConf) {
        conf.disk_size = self.disk_size_sectors;
        conf.resync_rate = self.resync_rate_kib;
        conf.c_plan_ahead = self.c_plan_ahead_tenths;
        conf.c_delay_target = self.c_delay_target_tenths;
        conf.c_fill_target = self.c_fill_target;
        conf.c_max_rate = self.c_max_rate_kib;
    }
}

impl From<&DiskConf> for DiskConfig {
    fn from(conf: &DiskConf) -> Self {
        Self {
            disk_size_sectors: conf.disk_size,
            on_io_error: conf.on_io_error,
            fencing: conf.fencing,
            resync_rate_kib: conf.resync_rate,
            resync_after: conf.resync_after,
            al_extents: conf.al_extents,
            c_plan_ahead_tenths: conf.c_plan_ahead,
            c_delay_target_tenths: conf.c_delay_target,
            c_fill_target: conf.c_fill_target,
            c_max_rate_kib: conf.c_max_rate,
            c_min_rate_kib: conf.c_min_rate,
            disk_timeout_tenths: conf.disk_timeout,
            read_balancing: conf.read_balancing,
            rs_discard_granularity_bytes: conf.rs_discard_granularity,
            disk_barrier: conf.disk_barrier,
            disk_flushes: conf.disk_flushes,
            disk_drain: conf.disk_drain,
            md_flushes: conf.md_flushes,
            al_updates: conf.al_updates,
            discard_zeroes_if_aligned: conf.discard_zeroes_if_aligned,
            disable_write_same: conf.disable_write_same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tables_have_the_same_defaults() {
        assert_eq!(NetConfig::from(&NetConf::default()), NetConfig::DEFAULT);
        assert_eq!(DiskConfig::from(&DiskConf::default()), DiskConfig::DEFAULT);
        let options = ResourceOpts::default();
        assert_eq!(ResourceConfig::from(&options), ResourceConfig::DEFAULT);
    }
}
