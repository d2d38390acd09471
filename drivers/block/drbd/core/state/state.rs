//! The state vector of a volume and its predicates (`reference/states.md` 1).

use core::fmt;

use drbd_format::types::{ConnState, DiskState, Role};

/// State of one volume as seen by this node.
///
/// The suspension flags exist once per resource; a volume's state carries copies of them, overlaid
/// whenever it is read (`reference/states.md` 1.5).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct VolumeState {
    /// Own role.
    pub role: Role,
    /// The peer's role.
    pub peer: Role,
    /// Connection or replication state.
    pub conn: ConnState,
    /// Own disk.
    pub disk: DiskState,
    /// The peer's disk.
    pub pdsk: DiskState,
    /// I/O suspended by the administrator (resource wide).
    pub susp: bool,
    /// Resync paused because another volume has to sync first.
    pub aftr_isp: bool,
    /// Resync paused by the peer.
    pub peer_isp: bool,
    /// Resync paused by the administrator.
    pub user_isp: bool,
    /// I/O frozen because no good data is accessible (resource wide).
    pub susp_nod: bool,
    /// I/O frozen until the peer has been fenced (resource wide).
    pub susp_fen: bool,
}

/// State word with all bits of a field set: the mask for that field (`reference/wire.md` 8.1).
pub mod mask {
    /// Own role.
    pub const ROLE: u32 = 0x0000_0003;
    /// The peer's role.
    pub const PEER: u32 = 0x0000_000c;
    /// Connection state.
    pub const CONN: u32 = 0x0000_01f0;
    /// Own disk.
    pub const DISK: u32 = 0x0000_1e00;
    /// The peer's disk.
    pub const PDSK: u32 = 0x0001_e000;
    /// Suspended by the administrator.
    pub const SUSP: u32 = 0x0002_0000;
    /// Paused by dependency.
    pub const AFTR_ISP: u32 = 0x0004_0000;
    /// Paused by the peer.
    pub const PEER_ISP: u32 = 0x0008_0000;
    /// Paused by the administrator.
    pub const USER_ISP: u32 = 0x0010_0000;
    /// Frozen: no data.
    pub const SUSP_NOD: u32 = 0x0020_0000;
    /// Frozen: fencing.
    pub const SUSP_FEN: u32 = 0x0040_0000;
}

impl VolumeState {
    /// State of a volume that has just been created.
    pub const INITIAL: Self = Self {
        role: Role::Secondary,
        peer: Role::Unknown,
        conn: ConnState::StandAlone,
        disk: DiskState::Diskless,
        pdsk: DiskState::DUnknown,
        susp: false,
        aftr_isp: false,
        peer_isp: false,
        user_isp: false,
        susp_nod: false,
        susp_fen: false,
    };

    /// Returns the packed state word (`reference/states.md` 1.5).
    pub const fn to_word(self) -> u32 {
        // CAST: `bool` to `u32` gives 0 or 1.
        self.role.to_wire()
            | self.peer.to_wire() << 2
            | self.conn.to_wire() << 4
            | self.disk.to_wire() << 9
            | self.pdsk.to_wire() << 13
            | (self.susp as u32) << 17
            | (self.aftr_isp as u32) << 18
            | (self.peer_isp as u32) << 19
            | (self.user_isp as u32) << 20
            | (self.susp_nod as u32) << 21
            | (self.susp_fen as u32) << 22
    }

    /// Unpacks a state word. `None` if a field holds a number that is no state.
    pub const fn from_word(word: u32) -> Option<Self> {
        let Ok(role) = Role::from_wire(word & 3) else {
            return None;
        };
        let Ok(peer) = Role::from_wire(word >> 2 & 3) else {
            return None;
        };
        let Ok(conn) = ConnState::from_wire(word >> 4 & 0x1f) else {
            return None;
        };
        let Ok(disk) = DiskState::from_wire(word >> 9 & 0xf) else {
            return None;
        };
        let Ok(pdsk) = DiskState::from_wire(word >> 13 & 0xf) else {
            return None;
        };
        Some(Self {
            role,
            peer,
            conn,
            disk,
            pdsk,
            susp: word & mask::SUSP != 0,
            aftr_isp: word & mask::AFTR_ISP != 0,
            peer_isp: word & mask::PEER_ISP != 0,
            user_isp: word & mask::USER_ISP != 0,
            susp_nod: word & mask::SUSP_NOD != 0,
            susp_fen: word & mask::SUSP_FEN != 0,
        })
    }

    /// Volumes that name this one in `resync-after` have to wait.
    pub fn keeps_dependents_waiting(self) -> bool {
        let syncing = self.conn >= ConnState::SyncSource && self.conn <= ConnState::PausedSyncT;
        syncing || self.aftr_isp || self.peer_isp || self.user_isp
    }

    /// I/O is suspended for any reason.
    #[inline]
    pub const fn suspended(self) -> bool {
        self.susp || self.susp_nod || self.susp_fen
    }

    /// Application writes are sent to the peer (`reference/io.md` 0.4 "replicate").
    #[inline]
    pub fn replicates(self) -> bool {
        self.pdsk == DiskState::UpToDate
            || (self.pdsk >= DiskState::Inconsistent
                && self.conn >= ConnState::WfBitMapT
                && self.conn < ConnState::Ahead)
    }

    /// Application writes are only announced as out of sync (`reference/io.md` 0.4 "send-oos").
    #[inline]
    pub fn sends_out_of_sync(self) -> bool {
        matches!(self.conn, ConnState::Ahead | ConnState::WfBitMapS)
    }

    /// Good data is accessible on at least one node (`reference/io.md` 0.4 "may-write").
    #[inline]
    pub fn may_write(self) -> bool {
        self.disk == DiskState::UpToDate || self.pdsk == DiskState::UpToDate
    }

    /// Any of the three reasons to pause a resync holds.
    #[inline]
    pub const fn sync_paused(self) -> bool {
        self.aftr_isp || self.peer_isp || self.user_isp
    }

    /// This node is the source of a resync, running or paused.
    #[inline]
    pub const fn is_sync_source(self) -> bool {
        matches!(self.conn, ConnState::SyncSource | ConnState::PausedSyncS)
    }

    /// Nobody syncs one of the disks, which failed or could not be synced, with the other one.
    pub fn lacks_a_sync(&self) -> bool {
        self.conn == ConnState::Connected
            && self.disk != self.pdsk
            && self.disk.min(self.pdsk) == DiskState::Inconsistent
    }

    /// This node is the target of a resync, running or paused.
    #[inline]
    pub const fn is_sync_target(self) -> bool {
        matches!(self.conn, ConnState::SyncTarget | ConnState::PausedSyncT)
    }

    /// The volume is as new: nothing is configured (`reference/states.md` 2.2).
    pub fn unconfigured(self) -> bool {
        self.conn == ConnState::StandAlone
            && self.disk == DiskState::Diskless
            && self.role == Role::Secondary
    }
}

/// Formats the state as in a refusal: `cs:C ro:R/P ds:D/P FFFFFF`.
impl fmt::Display for VolumeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = |set: bool, letter: char| if set { letter } else { '-' };
        write!(
            f,
            "cs:{} ro:{}/{} ds:{}/{} {}{}{}{}{}{}",
            self.conn,
            self.role,
            self.peer,
            self.disk,
            self.pdsk,
            if self.susp { 's' } else { 'r' },
            flag(self.aftr_isp, 'a'),
            flag(self.peer_isp, 'p'),
            flag(self.user_isp, 'u'),
            flag(self.susp_fen, 'F'),
            flag(self.susp_nod, 'N'),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_state_packet_of_the_reference_has_this_word() {
        let state = VolumeState {
            conn: ConnState::WfConnection,
            disk: DiskState::UpToDate,
            ..VolumeState::INITIAL
        };
        assert_eq!(state.to_word(), 0xd082);
    }

    #[test]
    fn every_word_of_valid_fields_survives_the_round_trip() {
        for word in 0..1u32 << 23 {
            if let Some(state) = VolumeState::from_word(word) {
                assert_eq!(state.to_word(), word);
            }
        }
        assert_eq!(VolumeState::from_word(3), None);
    }
}
