//! Which states are valid, and which changes are allowed (`reference/states.md` 3.4 to 3.6).
//!
//! Pure functions of the old and the new state and a few facts. A change that reports what has
//! happened (*hard*) has to pass only [`check_hard`].

use drbd_format::types::{ConnState, DiskState, Fencing, Role};

use super::{mask, VolumeState};
use crate::quirk::{quirk, Quirk};

/// Why a change of state is refused. The numbers are part of netlink and of the wire protocol.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum StateError {
    /// Two primaries without `allow-two-primaries`.
    TwoPrimaries,
    /// No good data accessible.
    NoUpToDateDisk,
    /// Resync needs a local disk.
    NoLocalDisk,
    /// Resync needs the peer's disk.
    NoRemoteDisk,
    /// A connected node can not be Outdated.
    ConnectedOutdates,
    /// The peer has not been fenced.
    PrimaryNop,
    /// A resync or verify runs already.
    ResyncRunning,
    /// Nothing to disconnect.
    AlreadyStandAlone,
    /// The peer said no.
    FailedByPeer,
    /// Needs a disk.
    IsDiskless,
    /// Somebody has the device open.
    DeviceInUse,
    /// Nothing is configured.
    NoNetConfig,
    /// Verify without `verify-alg`.
    NoVerifyAlg,
    /// Needs a connection.
    NeedConnection,
    /// The disk is worse than Outdated.
    LowerThanOutdated,
    /// The peer's protocol version is too low.
    NotSupported,
    /// Try again after the next change.
    InTransientState,
    /// Both nodes changed the state at once.
    ConcurrentChange,
    /// Another volume is Primary on the peer.
    OtherVolumePeerPrimary,
    /// The peer can be outdated only through a connection.
    OutdateWithoutConnection,
}

impl StateError {
    /// All refusals, in the order of their numbers.
    pub const ALL: &'static [Self] = &[
        Self::TwoPrimaries,
        Self::NoUpToDateDisk,
        Self::NoLocalDisk,
        Self::NoRemoteDisk,
        Self::ConnectedOutdates,
        Self::PrimaryNop,
        Self::ResyncRunning,
        Self::AlreadyStandAlone,
        Self::FailedByPeer,
        Self::IsDiskless,
        Self::DeviceInUse,
        Self::NoNetConfig,
        Self::NoVerifyAlg,
        Self::NeedConnection,
        Self::LowerThanOutdated,
        Self::NotSupported,
        Self::InTransientState,
        Self::ConcurrentChange,
        Self::OtherVolumePeerPrimary,
        Self::OutdateWithoutConnection,
    ];

    /// Returns the number (`reference/netlink.md` 4.2).
    pub const fn code(self) -> i32 {
        match self {
            Self::TwoPrimaries => -1,
            Self::NoUpToDateDisk => -2,
            Self::NoLocalDisk => -4,
            Self::NoRemoteDisk => -5,
            Self::ConnectedOutdates => -6,
            Self::PrimaryNop => -7,
            Self::ResyncRunning => -8,
            Self::AlreadyStandAlone => -9,
            Self::FailedByPeer => -10,
            Self::IsDiskless => -11,
            Self::DeviceInUse => -12,
            Self::NoNetConfig => -13,
            Self::NoVerifyAlg => -14,
            Self::NeedConnection => -15,
            Self::LowerThanOutdated => -16,
            Self::NotSupported => -17,
            Self::InTransientState => -18,
            Self::ConcurrentChange => -19,
            Self::OtherVolumePeerPrimary => -20,
            Self::OutdateWithoutConnection => -21,
        }
    }

    /// Returns the refusal with this number.
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.iter().copied().find(|error| error.code() == code)
    }

    /// Returns the text for users.
    pub const fn text(self) -> &'static str {
        match self {
            Self::TwoPrimaries => "Multiple primaries not allowed by config",
            Self::NoUpToDateDisk => "Need access to UpToDate data",
            Self::NoLocalDisk => "Can not resync without local disk",
            Self::NoRemoteDisk => "Can not resync without remote disk",
            Self::ConnectedOutdates => "Refusing to be Outdated while Connected",
            Self::PrimaryNop => "Refusing to be Primary while peer is not outdated",
            Self::ResyncRunning => "Can not start OV/resync since it is already active",
            Self::AlreadyStandAlone => "Can not disconnect a StandAlone device",
            Self::FailedByPeer => "State change was refused by peer node",
            Self::IsDiskless => "Device is diskless, the requested operation requires a disk",
            Self::DeviceInUse => "Device is held open by someone",
            Self::NoNetConfig => "Have no net/connection configuration",
            Self::NoVerifyAlg => "Need a verify algorithm to start online verify",
            Self::NeedConnection => "Need a connection to start verify or resync",
            Self::LowerThanOutdated => "Disk state is lower than outdated",
            Self::NotSupported => "Peer does not support protocol",
            Self::InTransientState => "In transient state, retry after next state change",
            Self::ConcurrentChange => "Concurrent state changes detected and aborted",
            Self::OtherVolumePeerPrimary => "Other vol primary on peer not allowed by config",
            Self::OutdateWithoutConnection => {
                "Need a connection for a graceful disconnect/outdate peer"
            }
        }
    }
}

/// Some fields of the state word with new values.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Change {
    /// Which bits.
    pub mask: u32,
    /// Their values.
    pub val: u32,
}

impl Change {
    /// A new own role.
    pub const fn role(role: Role) -> Self {
        Self {
            mask: mask::ROLE,
            val: role.to_wire(),
        }
    }

    /// A new role of the peer.
    pub const fn peer(role: Role) -> Self {
        Self {
            mask: mask::PEER,
            val: role.to_wire() << 2,
        }
    }

    /// A new connection state.
    pub const fn conn(conn: ConnState) -> Self {
        Self {
            mask: mask::CONN,
            val: conn.to_wire() << 4,
        }
    }

    /// A new state of the own disk.
    pub const fn disk(disk: DiskState) -> Self {
        Self {
            mask: mask::DISK,
            val: disk.to_wire() << 9,
        }
    }

    /// A new state of the peer's disk.
    pub const fn pdsk(pdsk: DiskState) -> Self {
        Self {
            mask: mask::PDSK,
            val: pdsk.to_wire() << 13,
        }
    }

    /// One or more flags of [`mask`], set or clear.
    pub const fn flag(bits: u32, set: bool) -> Self {
        Self {
            mask: bits,
            val: if set { bits } else { 0 },
        }
    }

    /// This change and `other`; `other` wins where both name a field.
    pub const fn and(self, other: Self) -> Self {
        Self {
            mask: self.mask | other.mask,
            val: self.val & !other.mask | other.val,
        }
    }

    /// Removes a field from the change.
    pub const fn without(self, field: u32) -> Self {
        Self {
            mask: self.mask & !field,
            val: self.val & !field,
        }
    }

    /// Tells whether the change names this field.
    pub const fn names(self, field: u32) -> bool {
        self.mask & field != 0
    }

    /// Applies the change. `None` if a field gets a number that is no state.
    pub const fn apply(self, state: VolumeState) -> Option<VolumeState> {
        VolumeState::from_word(state.to_word() & !self.mask | self.val & self.mask)
    }

    /// Translates a change from the peer's point of view into ours (`reference/wire.md` 8.2).
    pub fn mirrored(self) -> Self {
        let conn = match self.mask & mask::CONN {
            0 => 0,
            _ => mirrored_conn(self.val >> 4 & 0x1f) << 4,
        };
        let swap = |word: u32| {
            (word & mask::ROLE) << 2
                | (word & mask::PEER) >> 2
                | (word & mask::DISK) << 4
                | (word & mask::PDSK) >> 4
        };
        let paused = |word: u32| word & (mask::AFTR_ISP | mask::USER_ISP) != 0;
        let isp = |set: bool| if set { mask::PEER_ISP } else { 0 };
        Self {
            mask: swap(self.mask) | self.mask & mask::CONN | isp(paused(self.mask)),
            val: swap(self.val) | conn | isp(paused(self.val)),
        }
    }

    /// Tells whether the peer may ask for this change of a volume, seen from here: its own role or
    /// disk, or something in which both nodes take part (`reference/wire.md` 8.3).
    pub fn may_be_asked(self) -> bool {
        use ConnState::{StartingSyncS, StartingSyncT, VerifyT, WfReportParams};
        let conns = [StartingSyncS, StartingSyncT, VerifyT, WfReportParams];
        self.names_wholly(mask::PEER | mask::PDSK | mask::CONN)
            && (!self.names(mask::PEER) || self.names_value(Self::peer(Role::Primary)))
            && (!self.names(mask::CONN)
                || conns.iter().any(|&conn| self.names_value(Self::conn(conn))))
    }

    /// Tells whether the peer may ask for this change of the connection, seen from here: to end
    /// it, and what that makes of the disks.
    pub fn may_be_asked_of_connection(self) -> bool {
        self.names_wholly(mask::CONN | mask::PDSK | mask::DISK)
            && self.names_value(Self::conn(ConnState::TearDown))
            && (!self.names(mask::DISK) || self.names_value(Self::disk(DiskState::Outdated)))
    }

    /// Nothing but these fields is named, each with all of its bits.
    fn names_wholly(self, fields: u32) -> bool {
        let each = [mask::PEER, mask::CONN, mask::DISK, mask::PDSK];
        let whole = |field: u32| !self.names(field) || self.mask & field == field;
        self.mask & !fields == 0 && each.into_iter().all(whole)
    }

    /// The field of `wanted` is named and gets that value.
    const fn names_value(self, wanted: Self) -> bool {
        self.mask & wanted.mask == wanted.mask && self.val & wanted.mask == wanted.val
    }
}

/// The state that follows here from a connection state requested by the peer.
fn mirrored_conn(number: u32) -> u32 {
    let Ok(conn) = ConnState::from_wire(number) else {
        return 0;
    };
    let here = match conn {
        ConnState::WfReportParams | ConnState::Connected => conn,
        ConnState::StartingSyncS => ConnState::StartingSyncT,
        ConnState::StartingSyncT => ConnState::StartingSyncS,
        ConnState::Disconnecting => ConnState::TearDown,
        ConnState::VerifyS => ConnState::VerifyT,
        ConnState::StandAlone
        | ConnState::Unconnected
        | ConnState::Timeout
        | ConnState::BrokenPipe
        | ConnState::NetworkFailure
        | ConnState::ProtocolError
        | ConnState::TearDown
        | ConnState::WfConnection
        | ConnState::WfBitMapS
        | ConnState::WfBitMapT
        | ConnState::WfSyncUuid
        | ConnState::SyncSource
        | ConnState::SyncTarget
        | ConnState::VerifyT
        | ConnState::PausedSyncS
        | ConnState::PausedSyncT
        | ConnState::Ahead
        | ConnState::Behind => ConnState::StandAlone,
    };
    here.to_wire()
}

/// Facts outside of the state vector that the rules look at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rules {
    /// A network configuration exists; the following three belong to it.
    pub net: bool,
    /// `allow-two-primaries`.
    pub two_primaries: bool,
    /// `verify-alg` is set.
    pub verify_alg: bool,
    /// Agreed protocol version.
    pub version: u32,
    /// The peer of another volume is Primary.
    pub other_peer_primary: bool,
    /// The device is open.
    pub open: bool,
    /// Fencing policy of the attached disk, `DontCare` while the disk is below Inconsistent.
    pub fencing: Fencing,
    /// "State sent": between sending the first state and leaving WFReportParams.
    pub state_sent: bool,
}

impl Rules {
    /// Nothing configured, nothing open.
    pub const NONE: Self = Self {
        net: false,
        two_primaries: false,
        verify_alg: false,
        version: 0,
        other_peer_primary: false,
        open: false,
        fencing: Fencing::DontCare,
        state_sent: false,
    };
}

/// Checks whether a state may exist (rules V1 to V15).
///
/// # Errors
///
/// The first rule that is violated.
pub fn check_valid(s: VolumeState, rules: &Rules) -> Result<(), StateError> {
    use ConnState::{Connected, PausedSyncS, StartingSyncS, StartingSyncT, SyncSource, WfBitMapS};
    use DiskState::{DUnknown, Inconsistent, Outdated, UpToDate};
    let primary = s.role == Role::Primary;
    let verify = matches!(s.conn, ConnState::VerifyS | ConnState::VerifyT);
    let no_good_disk = s.disk < UpToDate && s.pdsk < UpToDate;
    let refusals = [
        (
            rules.net && !rules.two_primaries && primary && s.peer == Role::Primary,
            StateError::TwoPrimaries,
        ),
        (
            rules.net && !rules.two_primaries && primary && rules.other_peer_primary,
            StateError::OtherVolumePeerPrimary,
        ),
        (
            s.role == Role::Secondary && rules.open,
            StateError::DeviceInUse,
        ),
        (
            primary && s.conn < Connected && s.disk < UpToDate,
            StateError::NoUpToDateDisk,
        ),
        (
            rules.fencing >= Fencing::ResourceOnly
                && primary
                && s.conn < Connected
                && s.pdsk >= DUnknown,
            StateError::PrimaryNop,
        ),
        (
            primary && s.disk <= Inconsistent && s.pdsk <= Inconsistent,
            StateError::NoUpToDateDisk,
        ),
        (
            s.conn > Connected && s.disk < Inconsistent,
            StateError::NoLocalDisk,
        ),
        (
            s.conn > Connected && s.pdsk < Inconsistent,
            StateError::NoRemoteDisk,
        ),
        (
            s.conn > Connected && no_good_disk,
            StateError::NoUpToDateDisk,
        ),
        (
            s.disk == Outdated
                && (matches!(s.conn, WfBitMapS | SyncSource | PausedSyncS)
                    || (s.conn == Connected && s.pdsk >= DiskState::Negotiating)),
            StateError::ConnectedOutdates,
        ),
        (
            verify && rules.net && !rules.verify_alg,
            StateError::NoVerifyAlg,
        ),
        (verify && rules.version < 88, StateError::NotSupported),
        (primary && no_good_disk, StateError::NoUpToDateDisk),
        (
            matches!(s.conn, StartingSyncS | StartingSyncT) && s.pdsk == DUnknown,
            StateError::NeedConnection,
        ),
        (
            s.conn >= Connected && s.pdsk == DUnknown,
            StateError::ConnectedOutdates,
        ),
    ];
    match refusals.iter().find(|(violated, _)| *violated) {
        Some(&(_, error)) => Err(error),
        None => Ok(()),
    }
}

/// Checks what even a fact from outside can not change (`reference/states.md` 3.5 "hard").
///
/// # Errors
///
/// The rule that is violated.
pub fn check_hard(old: VolumeState, new: VolumeState) -> Result<(), StateError> {
    if old.disk == DiskState::Diskless && new.disk == DiskState::Failed {
        return Err(StateError::IsDiskless);
    }
    check_hard_conn(old.conn, new.conn)
}

/// The part of [`check_hard`] that concerns the connection.
///
/// # Errors
///
/// The first rule that is violated.
pub fn check_hard_conn(old: ConnState, new: ConnState) -> Result<(), StateError> {
    use ConnState::{
        Connected, Disconnecting, StandAlone, TearDown, Timeout, Unconnected, WfReportParams,
    };
    if old == new {
        return Ok(());
    }
    if old == StandAlone && new == Disconnecting {
        return Err(StateError::AlreadyStandAlone);
    }
    if old == StandAlone && new != Unconnected {
        return Err(StateError::NeedConnection);
    }
    if old < WfReportParams && new >= Connected {
        return Err(StateError::NeedConnection);
    }
    if old >= Timeout && old <= TearDown && !matches!(new, Unconnected | Disconnecting) {
        return Err(StateError::InTransientState);
    }
    if old == Disconnecting && new != StandAlone {
        return Err(StateError::InTransientState);
    }
    Ok(())
}

/// Checks a wanted change (rules T1 to T13; the last one violated decides).
///
/// # Errors
///
/// The last rule that is violated.
pub fn check_soft(o: VolumeState, n: VolumeState, rules: &Rules) -> Result<(), StateError> {
    use ConnState::{
        Connected, Disconnecting, StandAlone, StartingSyncS, StartingSyncT, SyncSource, SyncTarget,
        Unconnected, VerifyS, VerifyT, WfConnection, WfReportParams,
    };
    use DiskState::{Attaching, Diskless, Negotiating, Outdated, UpToDate};
    let starting = matches!(n.conn, StartingSyncS | StartingSyncT);
    // What the disk is worth only the peer knows.
    let unknown = starting && o.disk == Negotiating && !quirk(Quirk::DiskNotCompared);
    let verify = matches!(n.conn, VerifyS | VerifyT);
    let conn_changes = n.conn != o.conn;
    // In these states both disks count as good.
    let good = o.disk == UpToDate && o.pdsk == UpToDate || quirk(Quirk::DiskNotCompared);
    let refusals = [
        (worse_source(o, n), StateError::NoUpToDateDisk),
        (starting && o.conn > Connected, StateError::ResyncRunning),
        (unknown, StateError::InTransientState),
        (
            n.conn == Disconnecting && o.conn == StandAlone,
            StateError::AlreadyStandAlone,
        ),
        (
            n.disk > Attaching && o.disk == Diskless,
            StateError::IsDiskless,
        ),
        (
            n.conn == WfConnection && o.conn < Unconnected,
            StateError::NoNetConfig,
        ),
        (
            n.disk == Outdated && o.disk < Outdated && o.disk != Attaching,
            StateError::LowerThanOutdated,
        ),
        (
            n.conn == Disconnecting && o.conn == Unconnected,
            StateError::InTransientState,
        ),
        (
            rules.state_sent
                && !((o.conn == WfConnection && n.conn == WfReportParams)
                    || (o.conn == WfReportParams && n.conn >= Connected)),
            StateError::InTransientState,
        ),
        (promoted_before_sync(o, n), StateError::InTransientState),
        (verify && conn_changes && !good, StateError::NoUpToDateDisk),
        (verify && o.conn < Connected, StateError::NeedConnection),
        (
            verify && conn_changes && o.conn > Connected,
            StateError::ResyncRunning,
        ),
        (starting && o.conn < Connected, StateError::NeedConnection),
        (
            matches!(n.conn, SyncTarget | SyncSource) && o.conn < WfReportParams,
            StateError::NeedConnection,
        ),
        (
            n.conn == Disconnecting
                && n.pdsk == Outdated
                && o.conn < Connected
                && o.pdsk > Outdated,
            StateError::OutdateWithoutConnection,
        ),
    ];
    match refusals.iter().rev().find(|(violated, _)| *violated) {
        Some(&(_, error)) => Err(error),
        None => Ok(()),
    }
}

/// A full sync would begin from a disk that is known to be worse than the one that it overwrites:
/// it has failed and stays (pass-on), or has not been synced to its end (T0). In the states that
/// follow it would count as good.
fn worse_source(o: VolumeState, n: VolumeState) -> bool {
    use DiskState::{Inconsistent, Outdated};
    let (source, target) = match n.conn {
        ConnState::StartingSyncS => (o.disk, o.pdsk),
        ConnState::StartingSyncT => (o.pdsk, o.disk),
        _ => return false,
    };
    n.conn != o.conn
        && matches!(source, Inconsistent | Outdated)
        && target > source
        && !quirk(Quirk::AbortedCountsAsGood)
}

/// A node becomes Primary whose disk is about to be synced with the peer's (T8). One that is
/// Inconsistent while Connected has failed and stays (pass-on): nothing is under way.
fn promoted_before_sync(o: VolumeState, n: VolumeState) -> bool {
    use ConnState::{Connected, WfSyncUuid};
    use DiskState::{Diskless, Inconsistent, UpToDate};
    let becomes = o.role != Role::Primary && n.role == Role::Primary;
    let stays = o.conn == Connected && n.conn == Connected && n.disk == Inconsistent;
    becomes
        && n.pdsk == UpToDate
        && !matches!(n.disk, UpToDate | Diskless)
        && !stays
        && (n.conn <= WfSyncUuid || n.conn != o.conn)
}

/// Checks a change that is not imposed from outside (`reference/states.md` 3.2 step 3). With
/// `lenient` a fault that the old state has as well does not count.
///
/// # Errors
///
/// The rule that is violated.
pub fn check(
    old: VolumeState,
    new: VolumeState,
    rules: &Rules,
    lenient: bool,
) -> Result<(), StateError> {
    if let Err(error) = check_valid(new, rules) {
        if !lenient || check_valid(old, rules) != Err(error) {
            return Err(error);
        }
    }
    check_soft(old, new, rules)
}

/// Tells whether the peer must agree to this change (`reference/states.md` 3.6).
pub fn is_cluster_wide(o: VolumeState, n: VolumeState) -> bool {
    use ConnState::{
        Connected, Disconnecting, StartingSyncS, StartingSyncT, VerifyS, WfReportParams,
    };
    let becomes = |conn: ConnState| n.conn == conn && o.conn != conn;
    (o.conn >= Connected
        && n.conn >= Connected
        && (n.role == Role::Primary && o.role != Role::Primary
            || becomes(StartingSyncT)
            || becomes(StartingSyncS)
            || n.disk == DiskState::Failed && o.disk != DiskState::Failed))
        || (o.conn >= Connected && n.conn == Disconnecting)
        || (o.conn == Connected && n.conn == VerifyS)
        || (o.conn == Connected && n.conn == WfReportParams)
}
