//! Consequences inside the state vector (`reference/states.md` 3.3, rules S1 to S10).

use drbd_format::types::{ConnState, DiskState, Fencing, OnNoData, Role};

use super::VolumeState;
use crate::quirk::{quirk, Quirk};

/// Facts outside of the state vector that the rules look at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Facts {
    /// Fencing policy of the attached disk, `DontCare` while the disk is below Inconsistent.
    pub fencing: Fencing,
    /// `on-no-data-accessible`.
    pub on_no_data: OnNoData,
    /// Disk and peer disk as found at attach, if the data is the one that was exposed last.
    pub saved: Option<(DiskState, DiskState)>,
}

/// Something the administrator should know about the correction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Warning {
    /// The verify can not go on.
    VerifyAborted,
    /// The resync can not go on.
    ResyncAborted,
    /// The peer that had to say whether our data is good is gone.
    LostWhileNegotiating,
    /// The disk counts as better than requested.
    UpgradedDisk,
    /// The peer's disk counts as better than requested.
    UpgradedPdsk,
}

impl Warning {
    /// Returns the log line.
    pub const fn text(self) -> &'static str {
        match self {
            Self::VerifyAborted => "Online-verify aborted.",
            Self::ResyncAborted => "Resync aborted.",
            Self::LostWhileNegotiating => "Connection lost while negotiating, no data!",
            Self::UpgradedDisk => "Implicitly upgraded disk",
            Self::UpgradedPdsk => "Implicitly upgraded pdsk",
        }
    }
}

/// Smallest and largest state of own and peer disk for a connection state (table below S10).
fn disk_limits(conn: ConnState) -> ([DiskState; 2], [DiskState; 2]) {
    use ConnState as C;
    use DiskState::{Consistent, DUnknown, Diskless, Inconsistent, Outdated, UpToDate};
    match conn {
        C::StandAlone
        | C::Disconnecting
        | C::Unconnected
        | C::Timeout
        | C::BrokenPipe
        | C::NetworkFailure
        | C::ProtocolError
        | C::TearDown
        | C::WfConnection
        | C::WfReportParams => ([Diskless, UpToDate], [Inconsistent, DUnknown]),
        C::Connected => ([Diskless, UpToDate], [Diskless, UpToDate]),
        C::WfBitMapT | C::WfSyncUuid | C::PausedSyncT | C::Behind => {
            ([Inconsistent, Outdated], [UpToDate, UpToDate])
        }
        C::StartingSyncS | C::WfBitMapS | C::PausedSyncS | C::Ahead => {
            ([UpToDate, UpToDate], [Inconsistent, Consistent])
        }
        // The administrator has called the data worthless: they stay so if the link is lost. (In
        // the C driver the disk is Outdated, and of the peer's generation: good without a resync.)
        C::StartingSyncT | C::SyncTarget => ([Inconsistent, Inconsistent], [UpToDate, UpToDate]),
        C::SyncSource => ([UpToDate, UpToDate], [Inconsistent, Inconsistent]),
        C::VerifyS | C::VerifyT => ([UpToDate, UpToDate], [UpToDate, UpToDate]),
    }
}

/// Both nodes without good data, this one primary.
fn no_data(s: VolumeState) -> bool {
    s.role == Role::Primary && s.disk < DiskState::UpToDate && s.pdsk < DiskState::UpToDate
}

/// A primary that has lost a peer which may have good data.
fn peer_to_fence(s: VolumeState) -> bool {
    s.role == Role::Primary && s.conn < ConnState::Connected && s.pdsk > DiskState::Outdated
}

/// Returns what the wanted state `s` really becomes, and the last warning that was raised.
pub fn sanitize(old: VolumeState, s: VolumeState, facts: &Facts) -> (VolumeState, Option<Warning>) {
    let mut s = s;
    let mut warning = None;
    if s.conn < ConnState::Connected {
        s.peer_isp = false;
        s.peer = Role::Unknown;
        if s.pdsk > DiskState::DUnknown || s.pdsk < DiskState::Inconsistent {
            s.pdsk = DiskState::DUnknown;
        }
    }
    if s.unconfigured() {
        s.aftr_isp = false;
    }
    let aborted = s.conn > ConnState::Connected
        && (s.disk <= DiskState::Failed || s.pdsk <= DiskState::Failed);
    if aborted {
        warning = Some(match old.conn {
            ConnState::VerifyS | ConnState::VerifyT => Warning::VerifyAborted,
            _ => Warning::ResyncAborted,
        });
        s.conn = ConnState::Connected;
    }
    if s.conn < ConnState::Connected && s.disk == DiskState::Negotiating {
        if let Some((disk, pdsk)) = facts.saved {
            s.disk = disk;
            s.pdsk = pdsk;
        } else {
            warning = Some(Warning::LostWhileNegotiating);
            s.disk = DiskState::Diskless;
            s.pdsk = DiskState::DUnknown;
        }
    }
    if s.conn >= ConnState::Connected && s.conn < ConnState::Ahead {
        let connected = s.conn == ConnState::Connected && old.conn >= ConnState::Connected;
        let kept =
            |was| aborted || (connected && (doubtful(was) || was == DiskState::Inconsistent));
        let compared = s.disk >= DiskState::Negotiating && s.pdsk >= DiskState::Negotiating;
        let alone = |disk| disk == DiskState::Outdated && !compared;
        // The command to outdate a good disk comes to nothing.
        let was_good = connected && old.disk == DiskState::UpToDate;
        let used = s.role == Role::Primary;
        let disk = agreed_disk(kept(old.disk) || (alone(s.disk) && !was_good), s.disk);
        s.pdsk = agreed_disk(kept(old.pdsk) || (alone(s.pdsk) && !used), s.pdsk);
        s.disk = disk;
    }
    clamp_disks(&mut s, &mut warning);
    if facts.fencing == Fencing::ResourceAndStonith && peer_to_fence(s) && !peer_to_fence(old) {
        s.susp_fen = true;
    }
    if facts.on_no_data == OnNoData::SuspendIo && no_data(s) && !no_data(old) {
        s.susp_nod = true;
    }
    s.conn = paused_or_running(s);
    (s, warning)
}

/// Rule S5: connected, so the data is good, or the handshake would have found something to sync.
///
/// The C driver also raises the disks when a resync is aborted because one of them failed: the
/// old data of the target then counts as good. Here such a disk stays what it is until a
/// handshake or a resync decides about it. So does an Outdated one that meets a node without a
/// disk, unless that is a Primary which takes its data.
fn agreed_disk(kept: bool, new: DiskState) -> DiskState {
    if doubtful(new) && (!kept || quirk(Quirk::AbortedCountsAsGood)) {
        DiskState::UpToDate
    } else {
        new
    }
}

/// Not known to be good.
fn doubtful(disk: DiskState) -> bool {
    matches!(disk, DiskState::Consistent | DiskState::Outdated)
}

/// Rule S6.
fn clamp_disks(s: &mut VolumeState, warning: &mut Option<Warning>) {
    let ([disk_min, disk_max], [pdsk_min, pdsk_max]) = disk_limits(s.conn);
    s.disk = s.disk.min(disk_max);
    if s.disk < disk_min {
        *warning = Some(Warning::UpgradedDisk);
        s.disk = disk_min;
    }
    s.pdsk = s.pdsk.min(pdsk_max);
    if s.pdsk < pdsk_min {
        *warning = Some(Warning::UpgradedPdsk);
        s.pdsk = pdsk_min;
    }
}

/// Rules S9 and S10.
fn paused_or_running(s: VolumeState) -> ConnState {
    match (s.conn, s.sync_paused()) {
        (ConnState::SyncSource, true) => ConnState::PausedSyncS,
        (ConnState::SyncTarget, true) => ConnState::PausedSyncT,
        (ConnState::PausedSyncS, false) => ConnState::SyncSource,
        (ConnState::PausedSyncT, false) => ConnState::SyncTarget,
        (conn, _) => conn,
    }
}
