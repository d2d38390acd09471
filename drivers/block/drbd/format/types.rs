//! States, roles and policies, numbered as users and peers see them.
//!
//! The numbers are part of the wire protocol, of the netlink interface and of `/proc/drbd`; the
//! names are the ones printed there (`reference/states.md` 1, `reference/wire.md` 8.1). What the
//! states *mean* is decided elsewhere: this file knows only numbers and names.
//!
//! Return codes of commands and state changes live with the netlink numbers.

use core::fmt;

/// A number from outside that stands for nothing we know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UnknownNumber {
    /// What the number should have been, in words fit for a log line.
    pub what: &'static str,
    /// The number found.
    pub found: u32,
}

impl fmt::Display for UnknownNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown {} {}", self.what, self.found)
    }
}

/// Declares an enumeration with numbers and printed names, and the checked conversions.
macro_rules! numbered {
    (
        $(#[$attr:meta])*
        $name:ident, $what:literal {
            $( $(#[$vattr:meta])* $variant:ident = $number:literal, $text:literal; )+
        }
    ) => {
        $(#[$attr])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u8)]
        pub enum $name {
            $( $(#[$vattr])* $variant = $number, )+
        }

        impl $name {
            /// All values, in ascending order of their numbers.
            pub const ALL: &'static [Self] = &[$( Self::$variant, )+];

            /// Returns the value with this number.
            ///
            /// # Errors
            ///
            /// Numbers that are not listed, including the all-ones value of a bit field.
            pub const fn from_wire(number: u32) -> Result<Self, UnknownNumber> {
                match number {
                    $( $number => Ok(Self::$variant), )+
                    found => Err(UnknownNumber { what: $what, found }),
                }
            }

            /// Returns the number used on the wire, in netlink and on disk.
            #[inline]
            pub const fn to_wire(self) -> u32 {
                // CAST: The discriminant is a `u8`, nothing is lost.
                self as u32
            }

            /// Returns the name that users see.
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$variant => $text, )+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

numbered! {
    /// Role of a node for one resource (`reference/states.md` 1.1).
    Role, "role" {
        /// Nothing is known about the peer.
        Unknown = 0, "Unknown";
        /// The node may be written to by applications.
        Primary = 1, "Primary";
        /// The node only follows.
        Secondary = 2, "Secondary";
    }
}

numbered! {
    /// Connection and replication state (`reference/states.md` 1.2).
    ///
    /// A *connection* is never above [`ConnState::WfReportParams`]; a volume may have any value.
    /// Comparisons follow the numbers.
    ConnState, "connection state" {
        /// No network configuration is active.
        StandAlone = 0, "StandAlone";
        /// On the way to `StandAlone`.
        Disconnecting = 1, "Disconnecting";
        /// About to try again.
        Unconnected = 2, "Unconnected";
        /// Connection lost: the peer did not answer.
        Timeout = 3, "Timeout";
        /// Connection lost: sending or receiving failed.
        BrokenPipe = 4, "BrokenPipe";
        /// Connection lost: any other reason.
        NetworkFailure = 5, "NetworkFailure";
        /// Connection lost: the peer sent what it must not send.
        ProtocolError = 6, "ProtocolError";
        /// The peer asked to close the connection.
        TearDown = 7, "TearDown";
        /// Listening and connecting.
        WfConnection = 8, "WFConnection";
        /// Both sockets exist, the handshake runs.
        WfReportParams = 9, "WFReportParams";
        /// In sync and replicating.
        Connected = 10, "Connected";
        /// Full sync towards the peer requested by the administrator.
        StartingSyncS = 11, "StartingSyncS";
        /// Full sync from the peer requested by the administrator.
        StartingSyncT = 12, "StartingSyncT";
        /// Bitmap exchange, will become source.
        WfBitMapS = 13, "WFBitMapS";
        /// Bitmap exchange, will become target.
        WfBitMapT = 14, "WFBitMapT";
        /// The target waits for the sync UUID.
        WfSyncUuid = 15, "WFSyncUUID";
        /// Resync running, this node has the good data.
        SyncSource = 16, "SyncSource";
        /// Resync running, this node is being updated.
        SyncTarget = 17, "SyncTarget";
        /// Online verify running, this node asks.
        VerifyS = 18, "VerifyS";
        /// Online verify running, this node answers.
        VerifyT = 19, "VerifyT";
        /// Resync as source, paused.
        PausedSyncS = 20, "PausedSyncS";
        /// Resync as target, paused.
        PausedSyncT = 21, "PausedSyncT";
        /// Congested: writes are only remembered, not sent.
        Ahead = 22, "Ahead";
        /// The peer is congested and runs ahead.
        Behind = 23, "Behind";
    }
}

numbered! {
    /// State of a disk, own or peer's (`reference/states.md` 1.3). Comparisons follow the numbers.
    DiskState, "disk state" {
        /// No disk.
        Diskless = 0, "Diskless";
        /// Metadata is being read.
        Attaching = 1, "Attaching";
        /// On the way to `Diskless`.
        Failed = 2, "Failed";
        /// Attached while connected, waiting for the peer's opinion.
        Negotiating = 3, "Negotiating";
        /// Part of the data is missing.
        Inconsistent = 4, "Inconsistent";
        /// Consistent, but known to be old.
        Outdated = 5, "Outdated";
        /// Only for the peer's disk: nothing is known.
        DUnknown = 6, "DUnknown";
        /// Consistent, may turn out to be outdated or up to date.
        Consistent = 7, "Consistent";
        /// The current data.
        UpToDate = 8, "UpToDate";
    }
}

numbered! {
    /// When a write counts as done (`reference/wire.md` 5.2).
    Protocol, "replication protocol" {
        /// Handed to TCP.
        A = 1, "A";
        /// Received by the peer.
        B = 2, "B";
        /// On the peer's disk.
        C = 3, "C";
    }
}

numbered! {
    /// How writes of two epochs are kept apart on a disk (`reference/wire.md` 5.3).
    WriteOrdering, "write ordering method" {
        /// Nothing is done.
        None = 0, "none";
        /// Wait until the writes of the old epoch have completed.
        Drain = 1, "drain";
        /// As drain, then flush the disk.
        Flush = 2, "flush";
    }
}

impl WriteOrdering {
    /// Returns the letter printed after `wo:` in `/proc/drbd`.
    pub const fn letter(self) -> char {
        match self {
            Self::None => 'n',
            Self::Drain => 'd',
            Self::Flush => 'f',
        }
    }
}

numbered! {
    /// What to do after split brain (`reference/wire.md` 3.3 "Policy codes").
    ///
    /// One numbering serves the options for 0, 1 and 2 primaries; see [`AfterSbPolicy::fits`].
    AfterSbPolicy, "after-split-brain policy" {
        /// Give up and disconnect.
        Disconnect = 0, "disconnect";
        /// Discard the data of the node that became primary last.
        DiscardYoungerPrimary = 1, "discard-younger-primary";
        /// Discard the data of the node that was primary first.
        DiscardOlderPrimary = 2, "discard-older-primary";
        /// If one node has no changes, take the other's.
        DiscardZeroChanges = 3, "discard-zero-changes";
        /// Discard the data of the node with fewer changes.
        DiscardLeastChanges = 4, "discard-least-changes";
        /// Discard the own data.
        DiscardLocal = 5, "discard-local";
        /// Discard the peer's data.
        DiscardRemote = 6, "discard-remote";
        /// Take the 0-primaries decision if it discards the secondary.
        Consensus = 7, "consensus";
        /// Discard the secondary's data.
        DiscardSecondary = 8, "discard-secondary";
        /// Take the 0-primaries decision; a losing primary has to give up its role.
        CallPriLostAfterSb = 9, "call-pri-lost-after-sb";
        /// Take the 0-primaries decision whatever it does to a primary.
        ViolentlyAs0p = 10, "violently-as0p";
    }
}

impl AfterSbPolicy {
    /// Returns the same policy as the peer states it: local and remote are exchanged.
    pub const fn mirrored(self) -> Self {
        match self {
            Self::DiscardLocal => Self::DiscardRemote,
            Self::DiscardRemote => Self::DiscardLocal,
            Self::Disconnect
            | Self::DiscardYoungerPrimary
            | Self::DiscardOlderPrimary
            | Self::DiscardZeroChanges
            | Self::DiscardLeastChanges
            | Self::Consensus
            | Self::DiscardSecondary
            | Self::CallPriLostAfterSb
            | Self::ViolentlyAs0p => self,
        }
    }

    /// Tells whether the policy has a meaning while `primaries` (0 to 2) nodes are primary.
    ///
    /// A policy in the wrong place is accepted from users and peers, reported as a configuration
    /// error when it is needed, and then means `disconnect` (`reference/netlink.md` 3.7).
    pub const fn fits(self, primaries: u8) -> bool {
        match self {
            Self::Disconnect => true,
            Self::DiscardYoungerPrimary
            | Self::DiscardOlderPrimary
            | Self::DiscardZeroChanges
            | Self::DiscardLeastChanges
            | Self::DiscardLocal
            | Self::DiscardRemote => primaries == 0,
            Self::Consensus | Self::DiscardSecondary => primaries == 1,
            Self::CallPriLostAfterSb | Self::ViolentlyAs0p => primaries == 1 || primaries == 2,
        }
    }
}

numbered! {
    /// What a primary does that should become sync target (`reference/netlink.md` 3.7).
    RrConflict, "rr-conflict policy" {
        /// Refuse and disconnect.
        Disconnect = 0, "disconnect";
        /// Call the helper `pri-lost`, then disconnect.
        CallPriLost = 9, "call-pri-lost";
        /// Become sync target although data changes under the application.
        Violently = 10, "violently";
    }
}

numbered! {
    /// What happens when the backing disk fails (`reference/metadata.md` 6.5).
    OnIoError, "on-io-error policy" {
        /// Stay attached as Inconsistent, report the error upwards if the peer cannot help.
        PassOn = 0, "pass_on";
        /// Call the helper `local-io-error`, then detach.
        CallLocalIoError = 1, "call-local-io-error";
        /// Detach.
        Detach = 2, "detach";
    }
}

numbered! {
    /// Whether a lost peer must be fenced (`reference/netlink.md` 3.7).
    Fencing, "fencing policy" {
        /// No fencing.
        DontCare = 0, "dont-care";
        /// Call the fence-peer helper, go on meanwhile.
        ResourceOnly = 1, "resource-only";
        /// Call the fence-peer helper, freeze I/O until it has answered.
        ResourceAndStonith = 2, "resource-and-stonith";
    }
}

numbered! {
    /// What happens to I/O when no node has usable data (`reference/netlink.md` 3.7).
    OnNoData, "on-no-data-accessible policy" {
        /// Fail it.
        IoError = 0, "io-error";
        /// Freeze it.
        SuspendIo = 1, "suspend-io";
    }
}

numbered! {
    /// What happens when the link is too slow (`reference/wire.md` 10.4).
    OnCongestion, "on-congestion policy" {
        /// Writes wait.
        Block = 0, "block";
        /// Go Ahead, remember instead of send.
        PullAhead = 1, "pull-ahead";
        /// Disconnect.
        Disconnect = 2, "disconnect";
    }
}

numbered! {
    /// Which node serves application reads (`reference/netlink.md` 3.7).
    ReadBalancing, "read-balancing policy" {
        /// The own disk.
        PreferLocal = 0, "prefer-local";
        /// The peer.
        PreferRemote = 1, "prefer-remote";
        /// In turn.
        RoundRobin = 2, "round-robin";
        /// The one with fewer requests in flight.
        LeastPending = 3, "least-pending";
        /// The peer if the own disk is congested.
        WhenCongestedRemote = 4, "when-congested-remote";
        /// By position, stripes of 32 KiB.
        Striping32k = 5, "32K-striping";
        /// By position, stripes of 64 KiB.
        Striping64k = 6, "64K-striping";
        /// By position, stripes of 128 KiB.
        Striping128k = 7, "128K-striping";
        /// By position, stripes of 256 KiB.
        Striping256k = 8, "256K-striping";
        /// By position, stripes of 512 KiB.
        Striping512k = 9, "512K-striping";
        /// By position, stripes of 1 MiB.
        Striping1m = 10, "1M-striping";
    }
}

/// The identity of a generation of data.
///
/// Bit 0 tells whether the node was primary when the value was stored; comparisons between nodes
/// leave it out (`reference/metadata.md` 5.1).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Uuid(pub u64);

impl Uuid {
    /// No generation.
    pub const NONE: Self = Self(0);
    /// Metadata was just created, the data belongs to no generation yet.
    pub const JUST_CREATED: Self = Self(4);
}

impl fmt::Display for Uuid {
    /// Prints 16 upper-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

/// The four generations that metadata and `P_UUIDS` hold.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct UuidSet {
    /// The current generation.
    pub current: Uuid,
    /// The generation that the bitmap is relative to, 0 if none.
    pub bitmap: Uuid,
    /// Earlier generations, the younger one first.
    pub history: [Uuid; 2],
}

impl fmt::Display for UuidSet {
    /// Prints current, bitmap and history, separated by colons.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [younger, older] = self.history;
        write!(f, "{}:{}:{}:{}", self.current, self.bitmap, younger, older)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that numbers and values correspond one to one below `limit`.
    macro_rules! assert_round_trip {
        ($name:ident, $limit:literal) => {
            let mut known = 0;
            for number in 0..$limit {
                if let Ok(value) = $name::from_wire(number) {
                    assert_eq!(value.to_wire(), number);
                    known += 1;
                }
            }
            assert_eq!(known, $name::ALL.len());
            assert!($name::from_wire(u32::MAX).is_err());
            assert!($name::ALL.windows(2).all(|w| w[0] < w[1]));
        };
    }

    #[test]
    fn every_number_converts_to_at_most_one_value_and_back() {
        assert_round_trip!(Role, 1024);
        assert_round_trip!(ConnState, 1024);
        assert_round_trip!(DiskState, 1024);
        assert_round_trip!(Protocol, 1024);
        assert_round_trip!(WriteOrdering, 1024);
        assert_round_trip!(AfterSbPolicy, 1024);
        assert_round_trip!(RrConflict, 1024);
        assert_round_trip!(OnIoError, 1024);
        assert_round_trip!(Fencing, 1024);
        assert_round_trip!(OnNoData, 1024);
        assert_round_trip!(OnCongestion, 1024);
        assert_round_trip!(ReadBalancing, 1024);
    }

    #[test]
    fn names_are_those_printed_in_proc() {
        assert_eq!(ConnState::from_wire(8).unwrap().name(), "WFConnection");
        assert_eq!(ConnState::from_wire(15).unwrap().name(), "WFSyncUUID");
        assert_eq!(ConnState::from_wire(23).unwrap().name(), "Behind");
        assert_eq!(DiskState::from_wire(6).unwrap().name(), "DUnknown");
        assert_eq!(DiskState::from_wire(8).unwrap().name(), "UpToDate");
        assert_eq!(Role::from_wire(2).unwrap().name(), "Secondary");
        assert_eq!(std::format!("{:>4}", Protocol::C), "   C");
    }

    #[test]
    fn mask_values_of_bit_fields_are_not_states() {
        assert!(Role::from_wire(3).is_err());
        assert!(ConnState::from_wire(31).is_err());
        assert!(DiskState::from_wire(15).is_err());
    }

    #[test]
    fn mirroring_a_policy_twice_gives_the_policy() {
        for &policy in AfterSbPolicy::ALL {
            assert_eq!(policy.mirrored().mirrored(), policy);
        }
        assert_eq!(
            AfterSbPolicy::DiscardLocal.mirrored(),
            AfterSbPolicy::DiscardRemote
        );
    }

    #[test]
    fn the_letter_of_a_write_ordering_is_that_of_proc() {
        let letters = WriteOrdering::ALL.iter().map(|ordering| ordering.letter());
        assert_eq!(letters.collect::<std::string::String>(), "ndf");
    }
}
