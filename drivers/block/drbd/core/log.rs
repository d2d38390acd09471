//! Every line the control plane writes into the kernel log, without the prefix
//! (`reference/states.md` 5). Scripts and people read them: the texts are literal.

use core::fmt;

use drbd_format::types::ConnState;
use drbd_format::wire::packet::StreamError;

use crate::config::Name;

mod display;

/// How important a line is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Level {
    /// Needs attention at once.
    Alert,
    /// Something failed.
    Error,
    /// Something is odd.
    Warning,
    /// For the record.
    Info,
}

/// The beginning of a name, short enough to travel inside an action.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ShortName([u8; Self::MAX]);

impl ShortName {
    const MAX: usize = 16;

    /// Keeps the first 16 bytes of `name`.
    pub fn new(name: &Name) -> Self {
        let mut bytes = [0; Self::MAX];
        for (to, from) in bytes.iter_mut().zip(name.as_bytes()) {
            *to = *from;
        }
        Self(bytes)
    }
}

impl fmt::Display for ShortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.split(|&byte| byte == 0).next().unwrap_or(&[]);
        f.write_str(core::str::from_utf8(text).unwrap_or("?"))
    }
}

/// One line of the kernel log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Line {
    /// A text without numbers.
    Text(Level, &'static str),
    /// `Handshake successful: Agreed network protocol version N`
    HandshakeDone {
        /// The version.
        version: u32,
    },
    /// `Feature flags enabled on protocol level: ...`
    Features {
        /// Agreed flags.
        flags: u32,
    },
    /// `incompatible DRBD dialects: ...`
    Dialects {
        /// The peer's lowest version.
        min: u32,
        /// The peer's highest version.
        max: u32,
    },
    /// `expected X, got packet N (M bytes): ...`
    UnexpectedPacket {
        /// Command number found.
        command: u16,
        /// Its length.
        len_bytes: u32,
        /// State of the connection.
        conn: ConnState,
    },
    /// What arrived can not be read on.
    BrokenStream(StreamError),
    /// `sock_sendmsg time expired, ko = N`
    SendBlocked {
        /// Timeouts left before the peer counts as dead.
        left: u32,
    },
    /// `Peer authenticated using N bytes HMAC`
    Authenticated {
        /// Length of the digest.
        bytes: u8,
    },
    /// `incompatible OPTION settings`
    Incompatible(&'static str),
    /// `Different X settings. me="X" peer="Y"`
    Different {
        /// The option.
        option: &'static str,
        /// Own setting.
        own: ShortName,
        /// The peer's setting.
        peer: ShortName,
    },
    /// The line of a state change: fields that differ.
    StateChange {
        /// Old word.
        old: u32,
        /// New word.
        new: u32,
    },
    /// The line of a connection-level change: fields common to all volumes.
    ConnStateChange {
        /// Old word.
        old: u32,
        /// New word.
        new: u32,
        /// Fields that are logged here.
        mask: u32,
    },
    /// `susp( 0 -> 1 ) `
    Suspension {
        /// Before.
        old: bool,
        /// After.
        new: bool,
    },
    /// `State change failed: TEXT`
    Refused(&'static str),
    /// `  state = { ... }` or ` wanted = { ... }`
    RefusedState {
        /// The state word.
        word: u32,
        /// The wanted one, else the present one.
        wanted: bool,
    },
    /// ` mask = 0xM val = 0xV`
    RefusedMask {
        /// Mask.
        mask: u32,
        /// Value.
        val: u32,
    },
    /// ` old_conn:A wanted_conn:B`
    RefusedConn {
        /// Present state.
        old: ConnState,
        /// Wanted state.
        wanted: ConnState,
    },
    /// `Requested state change failed by peer: TEXT (N)`
    RefusedByPeer {
        /// The peer's reason.
        text: &'static str,
        /// Its number.
        code: i32,
    },
    /// `TEXT UUID:UUID:UUID:UUID`
    Uuids {
        /// What happened.
        text: &'static str,
        /// Current, bitmap, history 1, history 2.
        uuids: [u64; 4],
    },
    /// `TEXT UUID` of a node without a disk, or of a refusal.
    Uuid {
        /// What happened.
        text: &'static str,
        /// The UUID.
        uuid: u64,
    },
    /// `self U:U:U:U bits:N flags:X` or `peer ...`
    HandshakeUuids {
        /// The peer's, else the own ones.
        peer: bool,
        /// Current, bitmap, history 1, history 2.
        uuids: [u64; 4],
        /// Set bits; more than 2^32 - 1 are shown as that.
        bits: u32,
        /// UUID flags.
        flags: u8,
    },
    /// `uuid_compare()=HG by rule N`
    Compared {
        /// Result.
        result: i32,
        /// Rule number.
        rule: u8,
    },
    /// `Split-Brain detected, N primaries, automatically solved. Sync from NODE`
    AutoSolved {
        /// Number of primaries.
        primaries: u8,
        /// The peer is the source.
        from_peer: bool,
    },
    /// `To resolve this both sides have to support at least protocol N [and feature flags 0xF]`
    NeedsVersion {
        /// Protocol version.
        version: u32,
        /// Feature flags, 0: none.
        features: u32,
    },
    /// `dry-run connect: Would become X, doing a Y resync.`
    DryRun {
        /// Would become source.
        source: bool,
        /// Full resync.
        full: bool,
    },
    /// `No resync, but N bits in bitmap!`
    StrayBits {
        /// Set bits.
        bits: u64,
    },
    /// `real peer disk state = X`
    RealPeerDisk(drbd_format::types::DiskState),
    /// `Can only connect to data with current UUID=X` and the like, see [`Line::Uuid`].
    /// `The peer's disk size is too small! (N < N sectors)`
    PeerTooSmall {
        /// The peer's device, else its disk.
        device: bool,
        /// New size.
        new: u64,
        /// Present size.
        old: u64,
    },
    /// `size = S U (N KB)`
    Size {
        /// Size in KiB.
        kib: u64,
    },
    /// `max BIO size = N`
    MaxBio {
        /// Bytes.
        bytes: u32,
    },
    /// `Requested disk size is too big (N > N)`
    RequestedTooBig {
        /// Wanted KiB.
        wanted_kib: u64,
        /// Possible KiB.
        possible_kib: u64,
    },
    /// `Peer sets u_size to N sectors (old: N)`
    PeerSetsSize {
        /// New limit.
        new: u64,
        /// Old limit.
        old: u64,
    },
    /// `Considerable difference in lower level device sizes: Ns vs. Ns`
    SizesDiffer {
        /// Own sectors.
        own: u64,
        /// The peer's sectors.
        peer: u64,
    },
    /// `refusing to truncate a consistent device (N < N)`
    RefuseTruncate {
        /// New size.
        new: u64,
        /// Old size.
        old: u64,
        /// The administrator has asked for just this size: go on.
        allowed: bool,
    },
    /// `max capacity N smaller than disk size N`
    CapacityTooSmall {
        /// Own maximum.
        max: u64,
        /// Wanted.
        wanted: u64,
    },
    /// `S U (N bits) marked out-of-sync by on disk bit-map.`
    MarkedOutOfSync {
        /// Set bits.
        bits: u64,
    },
    /// `resync bitmap: bits=N words=N pages=N`
    BitmapSize {
        /// Bits.
        bits: u64,
    },
    /// `Began resync as X (will sync N KB [M bits set]).`
    ResyncBegins {
        /// SyncSource, SyncTarget or a paused state.
        conn: ConnState,
        /// Set bits.
        bits: u64,
    },
    /// `Resync done (total T sec; paused P sec; R K/sec)` and the same for online verify.
    ResyncDone {
        /// Online verify, else resync.
        verify: bool,
        /// Seconds in all.
        total_secs: u64,
        /// Seconds paused.
        paused_secs: u64,
        /// Mean rate.
        kib_per_sec: u64,
    },
    /// `N % had equal checksums, eliminated: NK; transferred NK total NK`
    EqualChecksums {
        /// Bits whose blocks were not sent.
        equal: u64,
        /// Bits that were set at the start.
        total: u64,
    },
    /// 12 spaces, `N failed blocks`
    FailedBlocks {
        /// Blocks of 4 KiB.
        count: u64,
    },
    /// `Online verify found N 4k block out of sync!`
    VerifyFound {
        /// Blocks of 4 KiB.
        count: u64,
    },
    /// `Starting Online Verify from sector N` or `Online Verify reached sector N`
    VerifySector {
        /// At the start, else at the end.
        start: bool,
        /// Sector.
        sector: u64,
    },
    /// `fence-peer helper returned N (TEXT)`
    FenceReturned {
        /// Exit code.
        exit: u8,
        /// What it means.
        text: &'static str,
    },
    /// `fence-peer helper broken, returned N`
    FenceBroken {
        /// Exit code.
        exit: u8,
    },
    /// `before-resync-source handler returned N, dropping connection.` and for target.
    HandlerRefused {
        /// Name of the helper.
        handler: &'static str,
        /// Exit code.
        exit: u8,
        /// The connection is dropped, else the code is ignored.
        drop: bool,
    },
    /// `Local IO failed in FUNC.` with ` Detaching...` added if the disk is given up.
    LocalIoFailed {
        /// Where.
        place: &'static str,
        /// Detaching.
        detaching: bool,
    },
}

impl Line {
    /// Returns how important the line is.
    pub const fn level(&self) -> Level {
        match self {
            Self::Text(level, _) => *level,
            Self::Dialects { .. }
            | Self::UnexpectedPacket { .. }
            | Self::BrokenStream(_)
            | Self::SendBlocked { .. }
            | Self::Incompatible(_)
            | Self::Different { .. }
            | Self::Refused(_)
            | Self::RefusedState { .. }
            | Self::RefusedMask { .. }
            | Self::RefusedConn { .. }
            | Self::RefusedByPeer { .. }
            | Self::PeerTooSmall { .. }
            | Self::RequestedTooBig { .. }
            | Self::CapacityTooSmall { .. }
            | Self::FenceBroken { .. }
            | Self::LocalIoFailed {
                detaching: true, ..
            } => Level::Error,
            Self::NeedsVersion { .. } | Self::VerifyFound { .. } => Level::Alert,
            Self::AutoSolved { .. }
            | Self::RefuseTruncate { .. }
            | Self::SizesDiffer { .. }
            | Self::LocalIoFailed {
                detaching: false, ..
            } => Level::Warning,
            Self::HandshakeDone { .. }
            | Self::Features { .. }
            | Self::Authenticated { .. }
            | Self::StateChange { .. }
            | Self::ConnStateChange { .. }
            | Self::Suspension { .. }
            | Self::Uuids { .. }
            | Self::Uuid { .. }
            | Self::HandshakeUuids { .. }
            | Self::Compared { .. }
            | Self::DryRun { .. }
            | Self::StrayBits { .. }
            | Self::RealPeerDisk(_)
            | Self::Size { .. }
            | Self::MaxBio { .. }
            | Self::PeerSetsSize { .. }
            | Self::MarkedOutOfSync { .. }
            | Self::BitmapSize { .. }
            | Self::ResyncBegins { .. }
            | Self::ResyncDone { .. }
            | Self::EqualChecksums { .. }
            | Self::FailedBlocks { .. }
            | Self::VerifySector { .. }
            | Self::FenceReturned { .. }
            | Self::HandlerRefused { .. } => Level::Info,
        }
    }
}
