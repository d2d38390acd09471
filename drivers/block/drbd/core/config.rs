//! Configuration in force: what the options of a command become once they have been checked.
//!
//! Plain `Copy` values with typed policies. Texts are bounded names. Defaults are those of
//! `reference/netlink.md` 3.2 to 3.4.

use core::fmt;

use drbd_format::types::{
    AfterSbPolicy, Fencing, OnCongestion, OnIoError, OnNoData, Protocol, ReadBalancing, RrConflict,
};

use crate::time::Duration;

/// A short text from the configuration: algorithm name or shared secret, at most 63 bytes.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Name {
    len: u8,
    bytes: [u8; Self::MAX],
}

impl Name {
    /// Longest name in bytes, without the terminating NUL of the wire form.
    pub const MAX: usize = 63;
    /// The empty name.
    pub const EMPTY: Self = Self {
        len: 0,
        bytes: [0; Self::MAX],
    };

    /// Takes the bytes up to the first NUL. `None` if they are too long.
    pub fn new(text: &[u8]) -> Option<Self> {
        let text = text.split(|&byte| byte == 0).next()?;
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self {
            len: u8::try_from(text.len()).ok()?,
            bytes,
        })
    }

    /// Returns the bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// Tells whether nothing is configured.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(self.as_bytes()).unwrap_or("?"))
    }
}

/// Shows the length only: the name may be a secret.
impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({} bytes)", self.len)
    }
}

/// Options of a resource.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ResourceConfig {
    /// What happens to I/O when no node has usable data.
    pub on_no_data: OnNoData,
}

impl ResourceConfig {
    /// The documented defaults.
    pub const DEFAULT: Self = Self {
        on_no_data: OnNoData::IoError,
    };
}

/// Options of a connection (`reference/netlink.md` 3.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NetConfig {
    /// Key of the authentication.
    pub shared_secret: Name,
    /// Digest of the authentication, empty: none.
    pub cram_hmac_alg: Name,
    /// Digest over write data, empty: none.
    pub integrity_alg: Name,
    /// Digest of online verify.
    pub verify_alg: Name,
    /// Digest of checksum-based resync.
    pub csums_alg: Name,
    /// Replication protocol.
    pub protocol: Protocol,
    /// Seconds between connection attempts.
    pub connect_int_secs: u32,
    /// Time without an answer after which the peer counts as blocked, 0.1 s.
    pub timeout_tenths: u32,
    /// Seconds of silence before a ping.
    pub ping_int_secs: u32,
    /// Time for the answer to a ping, 0.1 s.
    pub ping_timeout_tenths: u32,
    /// Time between accepting and checking the sockets, 0.1 s, 0: as `ping_timeout_tenths`.
    pub sock_check_timeout_tenths: u32,
    /// Send buffer in bytes, 0: the kernel's choice.
    pub sndbuf_bytes: u32,
    /// Receive buffer in bytes, 0: the kernel's choice.
    pub rcvbuf_bytes: u32,
    /// Timeouts in a row before the peer counts as dead, 0: never.
    pub ko_count: u32,
    /// Pages for data in flight.
    pub max_buffers: u32,
    /// Writes in an epoch.
    pub max_epoch_size: u32,
    /// Stored and reported only.
    pub unplug_watermark: u32,
    /// Split brain policy without a primary.
    pub after_sb_0p: AfterSbPolicy,
    /// Split brain policy with one primary.
    pub after_sb_1p: AfterSbPolicy,
    /// Split brain policy with two primaries.
    pub after_sb_2p: AfterSbPolicy,
    /// What a primary does that should become sync target.
    pub rr_conflict: RrConflict,
    /// What happens when the link is too slow.
    pub on_congestion: OnCongestion,
    /// Sectors in flight that count as congestion, 0: off.
    pub congestion_fill: u32,
    /// Activity-log extents in use that count as congestion.
    pub congestion_extents: u32,
    /// Both nodes may be primary at once.
    pub two_primaries: bool,
    /// This node's changes are given up in case of split brain.
    pub discard_my_data: bool,
    /// Only tell what a connect would do.
    pub tentative: bool,
    /// Cork the data socket while there is work.
    pub tcp_cork: bool,
    /// Apply the split brain policies also without a common bitmap.
    pub always_asbp: bool,
    /// Compress the bitmap on the wire.
    pub use_rle: bool,
    /// Checksum resync only after a crash.
    pub csums_after_crash_only: bool,
}

impl NetConfig {
    /// The documented defaults.
    pub const DEFAULT: Self = Self {
        shared_secret: Name::EMPTY,
        cram_hmac_alg: Name::EMPTY,
        integrity_alg: Name::EMPTY,
        verify_alg: Name::EMPTY,
        csums_alg: Name::EMPTY,
        protocol: Protocol::C,
        connect_int_secs: 10,
        timeout_tenths: 60,
        ping_int_secs: 10,
        ping_timeout_tenths: 5,
        sock_check_timeout_tenths: 0,
        sndbuf_bytes: 0,
        rcvbuf_bytes: 0,
        ko_count: 7,
        max_buffers: 2048,
        max_epoch_size: 2048,
        unplug_watermark: 128,
        after_sb_0p: AfterSbPolicy::Disconnect,
        after_sb_1p: AfterSbPolicy::Disconnect,
        after_sb_2p: AfterSbPolicy::Disconnect,
        rr_conflict: RrConflict::Disconnect,
        on_congestion: OnCongestion::Block,
        congestion_fill: 0,
        congestion_extents: 1237,
        two_primaries: false,
        discard_my_data: false,
        tentative: false,
        tcp_cork: true,
        always_asbp: false,
        use_rle: true,
        csums_after_crash_only: false,
    };

    /// How long a peer may be silent before it counts as gone.
    pub fn silence_max(&self) -> Duration {
        let tenths = self.ping_int_secs.saturating_mul(10);
        Duration::from_tenths(tenths.saturating_add(self.ping_timeout_tenths))
    }
}

/// Options of a backing disk (`reference/netlink.md` 3.2), paths excepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DiskConfig {
    /// Size limit set by the user in sectors, 0: none.
    pub disk_size_sectors: u64,
    /// What happens when the disk fails.
    pub on_io_error: OnIoError,
    /// Whether a lost peer must be fenced.
    pub fencing: Fencing,
    /// Fixed resync rate, KiB/s.
    pub resync_rate_kib: u32,
    /// Minor that has to sync first, -1: none.
    pub resync_after: i32,
    /// Slots of the activity log.
    pub al_extents: u32,
    /// Planning horizon of the resync controller, 0.1 s.
    pub c_plan_ahead_tenths: u32,
    /// Wanted delay of the resync controller, 0.1 s.
    pub c_delay_target_tenths: u32,
    /// Wanted sectors in flight of the resync controller.
    pub c_fill_target: u32,
    /// Upper limit of the resync rate, KiB/s.
    pub c_max_rate_kib: u32,
    /// Resync rate below which application I/O does not throttle it, KiB/s.
    pub c_min_rate_kib: u32,
    /// Time after which the disk counts as dead, 0.1 s, 0: never.
    pub disk_timeout_tenths: u32,
    /// Which node serves reads.
    pub read_balancing: ReadBalancing,
    /// Granularity of discards during resync in bytes, 0: off.
    pub rs_discard_granularity_bytes: u32,
    /// Accepted, no effect.
    pub disk_barrier: bool,
    /// Flush the disk between epochs.
    pub disk_flushes: bool,
    /// Drain the disk between epochs.
    pub disk_drain: bool,
    /// Flush with metadata writes.
    pub md_flushes: bool,
    /// Maintain the activity log.
    pub al_updates: bool,
    /// Treat aligned discards as zeroing.
    pub discard_zeroes_if_aligned: bool,
    /// Do not offer write-same.
    pub disable_write_same: bool,
}

impl DiskConfig {
    /// The documented defaults.
    pub const DEFAULT: Self = Self {
        disk_size_sectors: 0,
        on_io_error: OnIoError::Detach,
        fencing: Fencing::DontCare,
        resync_rate_kib: 250,
        resync_after: -1,
        al_extents: 1237,
        c_plan_ahead_tenths: 20,
        c_delay_target_tenths: 10,
        c_fill_target: 100,
        c_max_rate_kib: 102_400,
        c_min_rate_kib: 250,
        disk_timeout_tenths: 0,
        read_balancing: ReadBalancing::PreferLocal,
        rs_discard_granularity_bytes: 0,
        disk_barrier: false,
        disk_flushes: true,
        disk_drain: true,
        md_flushes: true,
        al_updates: true,
        discard_zeroes_if_aligned: true,
        disable_write_same: false,
    };

    /// The values that are used if these are given (`reference/netlink.md` 2.11, step 5).
    #[must_use]
    pub fn put_right(self) -> Self {
        Self {
            c_plan_ahead_tenths: self.c_plan_ahead_tenths.min(300),
            resync_rate_kib: self.resync_rate_kib.max(1),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_the_first_nul_and_is_never_longer_than_63_bytes() {
        assert_eq!(Name::new(b"sha1\0junk").unwrap().as_bytes(), b"sha1");
        assert!(Name::new(&[b'x'; 63]).is_some());
        assert!(Name::new(&[b'x'; 64]).is_none());
        assert!(Name::new(b"").unwrap().is_empty());
        assert!(!std::format!("{:?}", Name::new(b"geheim").unwrap()).contains("geheim"));
        assert_eq!(std::format!("{}", Name::new(b"crc32c").unwrap()), "crc32c");
    }
}
