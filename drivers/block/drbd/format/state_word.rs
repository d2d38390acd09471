//! The packed state of a volume, as in `P_STATE`, state-change requests and netlink.
//!
//! | Bits | Field | Bits | Field |
//! |---|---|---|---|
//! | 0-1 | role | 17 | suspended by the user |
//! | 2-3 | peer's role | 18 | resync paused by a dependency |
//! | 4-8 | connection | 19 | resync paused by the peer |
//! | 9-12 | disk | 20 | resync paused by the user |
//! | 13-16 | peer's disk | 21, 22 | suspended for lack of data, by fencing |
//!
//! Facts: `reference/wire.md` 8.1 and 8.2.

use crate::types::{ConnState, DiskState, Role, UnknownNumber};

/// A state word: either a state, or the mask or the value of a change.
///
/// The fields may hold any number; [`VolumeState::from_word`] is the checked conversion.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct StateWord(pub u32);

/// All bits of the role.
pub const ROLE_MASK: StateWord = StateWord(0x0000_0003);
/// All bits of the peer's role.
pub const PEER_ROLE_MASK: StateWord = StateWord(0x0000_000c);
/// All bits of the connection state.
pub const CONN_MASK: StateWord = StateWord(0x0000_01f0);
/// All bits of the disk state.
pub const DISK_MASK: StateWord = StateWord(0x0000_1e00);
/// All bits of the peer's disk state.
pub const PEER_DISK_MASK: StateWord = StateWord(0x0001_e000);

const PEER_ROLE_SHIFT: u32 = 2;
const CONN_SHIFT: u32 = 4;
const DISK_SHIFT: u32 = 9;
const PEER_DISK_SHIFT: u32 = 13;

const SUSPENDED: u32 = 1 << 17;
const AFTER_DEPENDENCY: u32 = 1 << 18;
const PEER_PAUSED: u32 = 1 << 19;
const USER_PAUSED: u32 = 1 << 20;
const SUSPENDED_NO_DATA: u32 = 1 << 21;
const SUSPENDED_FENCING: u32 = 1 << 22;
const FLAGS_COPIED: u32 =
    SUSPENDED | AFTER_DEPENDENCY | USER_PAUSED | SUSPENDED_NO_DATA | SUSPENDED_FENCING;

impl StateWord {
    /// Returns the role field, 0 to 3.
    #[inline]
    pub const fn role(self) -> u32 {
        self.0 & ROLE_MASK.0
    }

    /// Returns the field of the peer's role, 0 to 3.
    #[inline]
    pub const fn peer_role(self) -> u32 {
        (self.0 & PEER_ROLE_MASK.0) >> PEER_ROLE_SHIFT
    }

    /// Returns the connection field, 0 to 31.
    #[inline]
    pub const fn conn(self) -> u32 {
        (self.0 & CONN_MASK.0) >> CONN_SHIFT
    }

    /// Returns the disk field, 0 to 15.
    #[inline]
    pub const fn disk(self) -> u32 {
        (self.0 & DISK_MASK.0) >> DISK_SHIFT
    }

    /// Returns the field of the peer's disk, 0 to 15.
    #[inline]
    pub const fn peer_disk(self) -> u32 {
        (self.0 & PEER_DISK_MASK.0) >> PEER_DISK_SHIFT
    }

    /// Returns a word that has only the role field.
    #[inline]
    pub const fn with_role(role: Role) -> Self {
        Self(role.to_wire())
    }

    /// Returns a word that has only the connection field.
    #[inline]
    pub const fn with_conn(conn: ConnState) -> Self {
        Self(conn.to_wire() << CONN_SHIFT)
    }

    /// Returns a word that has only the disk field.
    #[inline]
    pub const fn with_disk(disk: DiskState) -> Self {
        Self(disk.to_wire() << DISK_SHIFT)
    }

    /// Returns a word that has only the field of the peer's disk.
    #[inline]
    pub const fn with_peer_disk(disk: DiskState) -> Self {
        Self(disk.to_wire() << PEER_DISK_SHIFT)
    }

    /// Returns what a mask or value of the sender means for the receiver.
    ///
    /// Own and peer's fields are exchanged, a connection state turns into its counterpart and
    /// into 0 if it has none, and a pause at the sender is a pause by the peer here
    /// (`reference/wire.md` 8.2).
    pub const fn seen_by_peer(self) -> Self {
        let paused = self.0 & (AFTER_DEPENDENCY | USER_PAUSED) != 0;
        let mut word = self.peer_role()
            | (self.role() << PEER_ROLE_SHIFT)
            | (conn_seen_by_peer(self.conn()) << CONN_SHIFT)
            | (self.peer_disk() << DISK_SHIFT)
            | (self.disk() << PEER_DISK_SHIFT)
            | (self.0 & FLAGS_COPIED);
        if paused {
            word |= PEER_PAUSED;
        }
        Self(word)
    }
}

const fn conn_seen_by_peer(conn: u32) -> u32 {
    match conn {
        9 | 10 | 31 => conn,
        11 => 12,
        12 => 11,
        1 => 7,
        18 => 19,
        _ => 0,
    }
}

/// A state word in which every field holds a known value.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct VolumeState {
    /// Own role.
    pub role: Role,
    /// Role of the peer.
    pub peer_role: Role,
    /// Connection and replication state.
    pub conn: ConnState,
    /// Own disk.
    pub disk: DiskState,
    /// Disk of the peer.
    pub peer_disk: DiskState,
    /// I/O is suspended by the user.
    pub suspended: bool,
    /// Resync is paused because of a dependency.
    pub paused_by_dependency: bool,
    /// Resync is paused by the peer.
    pub paused_by_peer: bool,
    /// Resync is paused by the user.
    pub paused_by_user: bool,
    /// I/O is suspended because no data is accessible.
    pub suspended_no_data: bool,
    /// I/O is suspended until fencing has ended.
    pub suspended_fencing: bool,
}

impl VolumeState {
    /// The state of a volume that was just created.
    pub const NEW: Self = Self {
        role: Role::Secondary,
        peer_role: Role::Unknown,
        conn: ConnState::StandAlone,
        disk: DiskState::Diskless,
        peer_disk: DiskState::DUnknown,
        suspended: false,
        paused_by_dependency: false,
        paused_by_peer: false,
        paused_by_user: false,
        suspended_no_data: false,
        suspended_fencing: false,
    };

    /// Converts a word; bits 23 and up are ignored.
    ///
    /// # Errors
    ///
    /// If a field holds a number without a meaning.
    pub const fn from_word(word: StateWord) -> Result<Self, UnknownNumber> {
        macro_rules! field {
            ($value:expr) => {
                match $value {
                    Ok(value) => value,
                    Err(error) => return Err(error),
                }
            };
        }
        Ok(Self {
            role: field!(Role::from_wire(word.role())),
            peer_role: field!(Role::from_wire(word.peer_role())),
            conn: field!(ConnState::from_wire(word.conn())),
            disk: field!(DiskState::from_wire(word.disk())),
            peer_disk: field!(DiskState::from_wire(word.peer_disk())),
            suspended: word.0 & SUSPENDED != 0,
            paused_by_dependency: word.0 & AFTER_DEPENDENCY != 0,
            paused_by_peer: word.0 & PEER_PAUSED != 0,
            paused_by_user: word.0 & USER_PAUSED != 0,
            suspended_no_data: word.0 & SUSPENDED_NO_DATA != 0,
            suspended_fencing: word.0 & SUSPENDED_FENCING != 0,
        })
    }

    /// Packs the state.
    pub const fn to_word(&self) -> StateWord {
        const fn flag(set: bool, bit: u32) -> u32 {
            if set {
                bit
            } else {
                0
            }
        }
        StateWord(
            self.role.to_wire()
                | (self.peer_role.to_wire() << PEER_ROLE_SHIFT)
                | (self.conn.to_wire() << CONN_SHIFT)
                | (self.disk.to_wire() << DISK_SHIFT)
                | (self.peer_disk.to_wire() << PEER_DISK_SHIFT)
                | flag(self.suspended, SUSPENDED)
                | flag(self.paused_by_dependency, AFTER_DEPENDENCY)
                | flag(self.paused_by_peer, PEER_PAUSED)
                | flag(self.paused_by_user, USER_PAUSED)
                | flag(self.suspended_no_data, SUSPENDED_NO_DATA)
                | flag(self.suspended_fencing, SUSPENDED_FENCING),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_documented_example_is_reproduced() {
        // reference/wire.md 12.2, E5.
        let state = VolumeState {
            conn: ConnState::WfConnection,
            disk: DiskState::UpToDate,
            ..VolumeState::NEW
        };
        assert_eq!(state.to_word(), StateWord(0x0000_d082));
        assert_eq!(VolumeState::from_word(StateWord(0x0000_d082)), Ok(state));
    }

    #[test]
    fn requests_have_the_documented_words() {
        // reference/wire.md 8.3.
        assert_eq!(StateWord::with_role(Role::Primary).0, 1);
        assert_eq!(StateWord::with_disk(DiskState::UpToDate).0, 0x1000);
        assert_eq!(StateWord::with_disk(DiskState::Failed).0, 0x400);
        assert_eq!(StateWord::with_conn(ConnState::StartingSyncT).0, 0xc0);
        assert_eq!(StateWord::with_conn(ConnState::VerifyS).0, 0x120);
        assert_eq!(StateWord::with_peer_disk(DiskState::Outdated).0, 0xa000);
    }

    #[test]
    fn a_request_is_converted_to_the_receivers_view() {
        let counterparts = [
            (1, 7),
            (9, 9),
            (10, 10),
            (11, 12),
            (12, 11),
            (18, 19),
            (31, 31),
        ];
        for conn in 0..32 {
            let known = counterparts.iter().find(|&&(from, _)| from == conn);
            let expected = known.map_or(0, |&(_, to)| to);
            assert_eq!(
                StateWord(conn << CONN_SHIFT).seen_by_peer().conn(),
                expected
            );
        }
        let disconnect = StateWord::with_conn(ConnState::Disconnecting);
        let tear_down = StateWord::with_conn(ConnState::TearDown);
        assert_eq!(disconnect.seen_by_peer(), tear_down);
        assert_eq!(CONN_MASK.seen_by_peer(), CONN_MASK);
        assert_eq!(ROLE_MASK.seen_by_peer(), PEER_ROLE_MASK);
        assert_eq!(PEER_DISK_MASK.seen_by_peer(), DISK_MASK);
        let target = StateWord::with_conn(ConnState::SyncTarget);
        assert_eq!(target.seen_by_peer(), StateWord(0));
        let paused = StateWord(USER_PAUSED).seen_by_peer();
        assert_eq!(paused, StateWord(USER_PAUSED | PEER_PAUSED));
        assert_eq!(StateWord(PEER_PAUSED).seen_by_peer(), StateWord(0));
    }

    proptest! {
        #[test]
        fn a_word_is_a_state_or_refused(word: u32) {
            if let Ok(state) = VolumeState::from_word(StateWord(word)) {
                prop_assert_eq!(state.to_word().0, word & 0x007f_ffff);
            }
        }
    }
}
