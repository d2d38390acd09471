//! Command numbers, and the one table of what each command may look like.
//!
//! [`Frame::check`] is the border: a packet that passes it is known, is on the right stream,
//! belongs to the agreed version and features, and has a length within its limits. Only then is
//! memory reserved or a byte of payload read.
//!
//! Facts: `reference/wire.md` 3.1, 3.2 and "Length limits" in 2.

use super::features::{FeatureFlags, Terms};
use super::header::Header;
use crate::types::UnknownNumber;
use core::fmt;

/// Most data bytes in one data packet, and the largest request.
pub const DATA_BYTES_MAX: u32 = 1 << 20;
/// Longest digest of any algorithm.
pub const DIGEST_LEN_MAX: u32 = 64;
/// Longest name of an algorithm with its NUL.
pub const NAME_LEN_MAX: u32 = 64;
/// Challenge bytes that we send, and the least a peer may send.
pub const CHALLENGE_LEN: u32 = 64;
/// Most challenge bytes that a peer may send.
pub const CHALLENGE_LEN_MAX: u32 = 128;
/// The longest fixed part of a packet that carries no bitmap.
pub const FIXED_LEN_MAX: usize = 148;

/// Where a packet arrived.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stream {
    /// A TCP connection that was just accepted: its first packet tells what it is for.
    Initial,
    /// The data socket.
    Data,
    /// The meta socket.
    Meta,
}

impl Stream {
    const fn name(self) -> &'static str {
        match self {
            Self::Initial => "new",
            Self::Data => "data",
            Self::Meta => "meta",
        }
    }
}

/// Declares the commands and the table of their rules in one go.
macro_rules! commands {
    (
        $( $(#[$attr:meta])* $variant:ident = $number:literal, $name:literal,
           $place:ident, $shape:expr, $needs:ident $( ( $arg:expr ) )?; )+
    ) => {
        /// A command that may appear on the wire.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[repr(u16)]
        pub enum Command {
            $( $(#[$attr])* $variant = $number, )+
        }

        impl Command {
            /// All commands, in ascending order of their numbers.
            pub const ALL: &'static [Self] = &[$( Self::$variant, )+];

            /// Returns the command with this number.
            ///
            /// # Errors
            ///
            /// Numbers that no peer may send: unknown, reserved or obsolete.
            pub const fn from_wire(number: u16) -> Result<Self, UnknownNumber> {
                match number {
                    $( $number => Ok(Self::$variant), )+
                    found => Err(UnknownNumber { what: "command", found: found as u32 }),
                }
            }

            /// Returns the number used on the wire.
            #[inline]
            pub const fn to_wire(self) -> u16 {
                self as u16
            }

            /// Returns the name used in the reference.
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$variant => $name, )+
                }
            }

            const fn rule(self) -> Rule {
                match self {
                    $( Self::$variant => Rule {
                        place: Place::$place,
                        shape: $shape,
                        needs: Needs::$needs $( ( $arg ) )?,
                    }, )+
                }
            }
        }
    };
}

/// What the table says about one command.
#[derive(Clone, Copy)]
struct Rule {
    place: Place,
    shape: Shape,
    needs: Needs,
}

/// On which streams a command may appear.
#[derive(Clone, Copy)]
enum Place {
    Initial,
    Data,
    Meta,
    Both,
}

/// How long the payload may be and what follows the fixed part.
#[derive(Clone, Copy)]
enum Shape {
    /// Exactly so many bytes.
    Exact(u32),
    /// Between so many bytes; all of them are the fixed part.
    Between(u32, u32),
    /// 24 bytes, then digest and at least so many bytes of data.
    Data(u32),
    /// Words of the bitmap, at least so many bytes, at most what fits a page with the header.
    Bitmap(u32),
    /// 24 bytes and from version 87 on a name.
    Protocol,
    /// 32 bytes, or 56 with feature WSAME.
    Sizes,
    /// Rate and algorithms, by version.
    SyncParam,
}

/// What must have been agreed upon.
#[derive(Clone, Copy)]
enum Needs {
    Nothing,
    From(u32),
    UpTo(u32),
    Feature(FeatureFlags),
}

const EMPTY: Shape = Shape::Exact(0);
const BLOCK: Shape = Shape::Exact(24);
const BLOCK_AND_DIGEST: Shape = Shape::Between(25, 24 + DIGEST_LEN_MAX);
const TRIM: Shape = Shape::Exact(28);
const STATE: Shape = Shape::Exact(4);
const CHANGE: Shape = Shape::Exact(8);

commands! {
    /// Application data to be written.
    Data = 0x00, "P_DATA", Data, Shape::Data(0), Nothing;
    /// Data of an application read.
    DataReply = 0x01, "P_DATA_REPLY", Data, Shape::Data(512), Nothing;
    /// Data of a resync read.
    RsDataReply = 0x02, "P_RS_DATA_REPLY", Data, Shape::Data(512), Nothing;
    /// End of an epoch.
    Barrier = 0x03, "P_BARRIER", Data, CHANGE, Nothing;
    /// Plain words of the bitmap; empty at the end of a plain transfer.
    Bitmap = 0x04, "P_BITMAP", Data, Shape::Bitmap(0), Nothing;
    /// Hint that a batch ends here.
    UnplugRemote = 0x07, "P_UNPLUG_REMOTE", Data, EMPTY, Nothing;
    /// Application read.
    DataRequest = 0x08, "P_DATA_REQUEST", Data, BLOCK, Nothing;
    /// Resync read.
    RsDataRequest = 0x09, "P_RS_DATA_REQUEST", Data, BLOCK, Nothing;
    /// Resync settings, up to version 88.
    SyncParam = 0x0a, "P_SYNC_PARAM", Data, Shape::SyncParam, UpTo(88);
    /// Replication protocol and policies.
    Protocol = 0x0b, "P_PROTOCOL", Data, Shape::Protocol, Nothing;
    /// Data generations.
    Uuids = 0x0c, "P_UUIDS", Data, Shape::Exact(48), Nothing;
    /// Sizes of disk and device.
    Sizes = 0x0d, "P_SIZES", Data, Shape::Sizes, Nothing;
    /// State of a volume.
    State = 0x0e, "P_STATE", Data, STATE, Nothing;
    /// Generation that a resync leads to.
    SyncUuid = 0x0f, "P_SYNC_UUID", Data, Shape::Exact(8), Nothing;
    /// Random bytes to be signed by the peer.
    AuthChallenge = 0x10, "P_AUTH_CHALLENGE", Data,
        Shape::Between(CHALLENGE_LEN, CHALLENGE_LEN_MAX), Nothing;
    /// The signature.
    AuthResponse = 0x11, "P_AUTH_RESPONSE", Data, Shape::Between(1, DIGEST_LEN_MAX), Nothing;
    /// Cluster-wide state change of a volume.
    StateChgReq = 0x12, "P_STATE_CHG_REQ", Data, CHANGE, Nothing;
    /// Are you there?
    Ping = 0x13, "P_PING", Meta, EMPTY, Nothing;
    /// Yes.
    PingAck = 0x14, "P_PING_ACK", Meta, EMPTY, Nothing;
    /// Write received.
    RecvAck = 0x15, "P_RECV_ACK", Meta, BLOCK, Nothing;
    /// Write on disk.
    WriteAck = 0x16, "P_WRITE_ACK", Meta, BLOCK, Nothing;
    /// Write on disk, clear the bits.
    RsWriteAck = 0x17, "P_RS_WRITE_ACK", Meta, BLOCK, Nothing;
    /// Two primaries: that write lost.
    Superseded = 0x18, "P_SUPERSEDED", Meta, BLOCK, Nothing;
    /// Write failed.
    NegAck = 0x19, "P_NEG_ACK", Meta, BLOCK, Nothing;
    /// Application read failed.
    NegDReply = 0x1a, "P_NEG_DREPLY", Meta, BLOCK, Nothing;
    /// Resync or verify read failed.
    NegRsDReply = 0x1b, "P_NEG_RS_DREPLY", Meta, BLOCK, Nothing;
    /// Epoch complete.
    BarrierAck = 0x1c, "P_BARRIER_ACK", Meta, CHANGE, Nothing;
    /// Answer to `P_STATE_CHG_REQ`.
    StateChgReply = 0x1d, "P_STATE_CHG_REPLY", Meta, STATE, Nothing;
    /// Verify: read this block.
    OvRequest = 0x1e, "P_OV_REQUEST", Data, BLOCK, From(88);
    /// Verify: digest of the block.
    OvReply = 0x1f, "P_OV_REPLY", Data, BLOCK_AND_DIGEST, From(88);
    /// Verify: result for the block.
    OvResult = 0x20, "P_OV_RESULT", Meta, BLOCK, From(88);
    /// Resync read, unless the digest is the same.
    CsumRsRequest = 0x21, "P_CSUM_RS_REQUEST", Data, BLOCK_AND_DIGEST, From(89);
    /// The digest is the same.
    RsIsInSync = 0x22, "P_RS_IS_IN_SYNC", Meta, BLOCK, From(89);
    /// Resync settings, from version 89.
    SyncParam89 = 0x23, "P_SYNC_PARAM89", Data, Shape::SyncParam, From(89);
    /// Run lengths of the bitmap.
    CompressedBitmap = 0x24, "P_COMPRESSED_BITMAP", Data, Shape::Bitmap(2), From(90);
    /// Never sent, ignored.
    DelayProbe = 0x27, "P_DELAY_PROBE", Both, CHANGE, Nothing;
    /// Range that was written without being sent.
    OutOfSync = 0x28, "P_OUT_OF_SYNC", Data, Shape::Exact(16), From(96);
    /// Resync request dropped.
    RsCancel = 0x29, "P_RS_CANCEL", Meta, BLOCK, From(96);
    /// Cluster-wide state change of the connection.
    ConnStChgReq = 0x2a, "P_CONN_ST_CHG_REQ", Data, CHANGE, From(100);
    /// Answer to `P_CONN_ST_CHG_REQ`.
    ConnStChgReply = 0x2b, "P_CONN_ST_CHG_REPLY", Meta, STATE, From(100);
    /// Two primaries: submit that write again later.
    RetryWrite = 0x2c, "P_RETRY_WRITE", Meta, BLOCK, From(100);
    /// New protocol and policies without reconnecting.
    ProtocolUpdate = 0x2d, "P_PROTOCOL_UPDATE", Data, Shape::Protocol, From(100);
    /// Discard. The reference sends it from version 95 on even if the feature was not agreed.
    Trim = 0x31, "P_TRIM", Data, TRIM, From(95);
    /// Resync read, answered without data if nothing is allocated.
    RsThinReq = 0x32, "P_RS_THIN_REQ", Data, BLOCK, Feature(FeatureFlags::THIN_RESYNC);
    /// Nothing is allocated there.
    RsDeallocated = 0x33, "P_RS_DEALLOCATED", Data, Shape::Exact(16),
        Feature(FeatureFlags::THIN_RESYNC);
    /// Zero a range.
    Zeroes = 0x36, "P_ZEROES", Data, TRIM, Feature(FeatureFlags::WZEROES);
    /// First packet of a TCP connection: this is the meta socket.
    InitialMeta = 0xfff1, "P_INITIAL_META", Initial, EMPTY, Nothing;
    /// First packet of a TCP connection: this is the data socket.
    InitialData = 0xfff2, "P_INITIAL_DATA", Initial, EMPTY, Nothing;
    /// Versions and features.
    ConnectionFeatures = 0xfffe, "P_CONNECTION_FEATURES", Data, Shape::Exact(72), Nothing;
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Command {
    /// Returns the least and the most payload bytes under `terms`.
    pub fn payload_limits(self, terms: &Terms) -> (u32, u32) {
        let digest_len = u32::from(terms.integrity_len);
        match self.rule().shape {
            Shape::Exact(len) => (len, len),
            Shape::Between(min, max) => (min, max),
            Shape::Data(min) => {
                let head = DATA_HEAD_LEN.saturating_add(digest_len);
                (
                    head.saturating_add(min),
                    head.saturating_add(DATA_BYTES_MAX),
                )
            }
            Shape::Bitmap(min) => (min, terms.version.bitmap_payload_max()),
            Shape::Protocol => match terms.version.number() {
                ..=86 => (24, 24),
                _ => (25, 24 + NAME_LEN_MAX),
            },
            Shape::Sizes if terms.features.contains(FeatureFlags::WSAME) => (56, 56),
            Shape::Sizes => (32, 32),
            Shape::SyncParam => match terms.version.number() {
                ..=87 => (4, 4),
                88 => (5, 4 + NAME_LEN_MAX),
                89..=94 => (132, 132),
                _ => (148, 148),
            },
        }
    }

    fn may_appear_on(self, stream: Stream) -> bool {
        match self.rule().place {
            Place::Initial => stream == Stream::Initial,
            Place::Data => stream == Stream::Data,
            Place::Meta => stream == Stream::Meta,
            Place::Both => stream != Stream::Initial,
        }
    }

    pub(super) fn is_agreed(self, terms: &Terms) -> bool {
        match self.rule().needs {
            Needs::Nothing => true,
            Needs::From(version) => terms.version.number() >= version,
            Needs::UpTo(version) => terms.version.number() <= version,
            Needs::Feature(flag) => terms.features.contains(flag),
        }
    }
}

/// Bytes of a data packet in front of digest and data.
const DATA_HEAD_LEN: u32 = 24;

/// A packet that may be read: known, in its place, agreed upon and within its length limits.
///
/// After the header follow `fixed_len` bytes for [`super::packet::Packet::decode`], then
/// `digest_len` bytes of digest, then `data_len` bytes of data.
///
/// # Invariants
///
/// Only made by [`Frame::check`]; the three lengths add up to the length in the header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frame {
    command: Command,
    volume: u16,
    fixed_len: u32,
    digest_len: u32,
    data_len: u32,
}

/// Why a packet must not be read. The connection has to be given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameError {
    /// The number stands for no command.
    UnknownCommand(u16),
    /// The command does not belong on this stream.
    WrongStream(Command, Stream),
    /// The command does not belong to the agreed version or features.
    NotAgreed(Command),
    /// The payload is too short, too long or not made of whole units.
    Length {
        /// The command.
        command: Command,
        /// Payload bytes announced by the header.
        found: u32,
        /// Least bytes.
        min: u32,
        /// Most bytes.
        max: u32,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCommand(number) => write!(f, "unknown packet {number:#x}"),
            Self::WrongStream(command, stream) => {
                write!(
                    f,
                    "{command} does not belong on the {} socket",
                    stream.name()
                )
            }
            Self::NotAgreed(command) => write!(f, "{command} was not agreed upon"),
            Self::Length {
                command,
                found,
                min,
                max,
            } if min == max => {
                write!(f, "{command} has {found} bytes, expected {min}")
            }
            Self::Length {
                command,
                found,
                min,
                max,
            } => {
                write!(f, "{command} has {found} bytes, expected {min} to {max}")
            }
        }
    }
}

impl Frame {
    /// Checks what `header` announces.
    ///
    /// # Errors
    ///
    /// See [`FrameError`]. An unknown or misplaced command on the meta socket ends the connection
    /// for good, everything else leads to a new attempt (`reference/wire.md` 3.2).
    #[inline]
    pub fn check(terms: &Terms, stream: Stream, header: &Header) -> Result<Self, FrameError> {
        let command = Command::from_wire(header.command)
            .map_err(|_| FrameError::UnknownCommand(header.command))?;
        if !command.may_appear_on(stream) {
            return Err(FrameError::WrongStream(command, stream));
        }
        if !command.is_agreed(terms) {
            return Err(FrameError::NotAgreed(command));
        }
        let found = header.payload_len;
        let (min, max) = command.payload_limits(terms);
        let wrong_length = FrameError::Length {
            command,
            found,
            min,
            max,
        };
        if found < min || found > max {
            return Err(wrong_length);
        }
        let volume = header.volume;
        let frame = Self {
            command,
            volume,
            fixed_len: found,
            digest_len: 0,
            data_len: 0,
        };
        match command.rule().shape {
            Shape::Data(_) => {
                let digest_len = u32::from(terms.integrity_len);
                let head = DATA_HEAD_LEN.saturating_add(digest_len);
                let data_len = found.checked_sub(head).ok_or(wrong_length)?;
                if data_len & 511 != 0 {
                    return Err(wrong_length);
                }
                Ok(Self {
                    fixed_len: DATA_HEAD_LEN,
                    digest_len,
                    data_len,
                    ..frame
                })
            }
            Shape::Bitmap(0) if found & 7 != 0 => Err(wrong_length),
            Shape::Exact(_)
            | Shape::Between(..)
            | Shape::Bitmap(_)
            | Shape::Protocol
            | Shape::Sizes
            | Shape::SyncParam => Ok(frame),
        }
    }

    /// Returns the command.
    #[inline]
    pub const fn command(&self) -> Command {
        self.command
    }

    /// Returns the volume the packet is about; no meaning for packets about the connection.
    #[inline]
    pub const fn volume(&self) -> u16 {
        self.volume
    }

    /// Returns how many bytes [`super::packet::Packet::decode`] needs: at most
    /// [`FIXED_LEN_MAX`], for the two bitmap packets at most 4088.
    #[inline]
    pub const fn fixed_len(&self) -> u32 {
        self.fixed_len
    }

    /// Returns how many bytes of data-integrity digest follow the fixed part, at most 255.
    #[inline]
    pub const fn digest_len(&self) -> u32 {
        self.digest_len
    }

    /// Returns how many bytes of data follow the digest: a multiple of 512, at most 1 MiB.
    #[inline]
    pub const fn data_len(&self) -> u32 {
        self.data_len
    }
}

#[cfg(test)]
mod tests {
    use super::super::features::ProtocolVersion;
    use super::super::header::PAYLOAD_LEN_MAX;
    use super::*;
    use proptest::prelude::*;

    fn terms(version: u32, features: u32, integrity_len: u8) -> Terms {
        let version = ProtocolVersion::new(version).unwrap();
        Terms {
            version,
            features: FeatureFlags(features),
            integrity_len,
        }
    }

    fn check(terms: &Terms, stream: Stream, command: u16, len: u32) -> Result<Frame, FrameError> {
        Frame::check(
            terms,
            stream,
            &Header {
                volume: 0,
                command,
                payload_len: len,
            },
        )
    }

    #[test]
    fn numbers_and_commands_correspond_one_to_one() {
        let known: Vec<u16> = (0..=u16::MAX)
            .filter(|&n| Command::from_wire(n).is_ok())
            .collect();
        let listed: Vec<u16> = Command::ALL.iter().map(|c| c.to_wire()).collect();
        assert_eq!(known, listed);
    }

    #[test]
    fn obsolete_and_reserved_commands_are_refused() {
        let all = terms(101, 15, 0);
        for number in [
            0x05, 0x06, 0x25, 0x26, 0x2e, 0x2f, 0x30, 0x34, 0x35, 0x37, 0x100, 0x101,
        ] {
            let error = check(&all, Stream::Data, number, 28).unwrap_err();
            assert_eq!(error, FrameError::UnknownCommand(number));
        }
    }

    #[test]
    fn acks_are_refused_on_the_data_socket_and_data_on_the_meta_socket() {
        let all = terms(101, 15, 0);
        let meta = [
            0x13..=0x1d_u16,
            0x20..=0x20,
            0x22..=0x22,
            0x29..=0x29,
            0x2b..=0x2c,
        ];
        for &command in Command::ALL {
            let number = command.to_wire();
            let is_meta = meta.iter().any(|range| range.contains(&number));
            let wrong = if is_meta { Stream::Data } else { Stream::Meta };
            if command == Command::DelayProbe {
                continue;
            }
            let (min, _) = command.payload_limits(&all);
            let error = check(&all, wrong, number, min).unwrap_err();
            assert_eq!(error, FrameError::WrongStream(command, wrong));
        }
        assert!(check(&all, Stream::Data, 0xfff2, 0).is_err());
        assert!(check(&all, Stream::Initial, 0xfff2, 0).is_ok());
        assert!(check(&all, Stream::Initial, 0x27, 8).is_err());
    }

    #[test]
    fn commands_of_other_versions_are_refused() {
        let refused = |terms: &Terms, stream, command: Command| {
            let (min, _) = command.payload_limits(terms);
            check(terms, stream, command.to_wire(), min) == Err(FrameError::NotAgreed(command))
        };
        assert!(refused(&terms(95, 15, 0), Stream::Data, Command::OutOfSync));
        assert!(refused(&terms(95, 15, 0), Stream::Meta, Command::RsCancel));
        assert!(refused(
            &terms(99, 15, 0),
            Stream::Meta,
            Command::RetryWrite
        ));
        assert!(refused(
            &terms(99, 15, 0),
            Stream::Data,
            Command::ProtocolUpdate
        ));
        assert!(refused(
            &terms(89, 15, 0),
            Stream::Data,
            Command::CompressedBitmap
        ));
        assert!(refused(&terms(89, 15, 0), Stream::Data, Command::SyncParam));
        assert!(refused(&terms(101, 7, 0), Stream::Data, Command::Zeroes));
        assert!(refused(
            &terms(101, 13, 0),
            Stream::Data,
            Command::RsThinReq
        ));
        assert!(!refused(&terms(95, 0, 0), Stream::Data, Command::Trim));
    }

    #[test]
    fn every_length_outside_the_limits_is_refused() {
        for version in 86..=101 {
            for features in [0, 15] {
                let terms = terms(version, features, 20);
                for &command in Command::ALL.iter().filter(|c| c.is_agreed(&terms)) {
                    assert_limits_hold(&terms, command);
                }
            }
        }
    }

    fn assert_limits_hold(terms: &Terms, command: Command) {
        let streams = [Stream::Initial, Stream::Data, Stream::Meta];
        let stream = *streams.iter().find(|&&s| command.may_appear_on(s)).unwrap();
        let (min, max) = command.payload_limits(terms);
        assert!(min <= max && max <= PAYLOAD_LEN_MAX, "{command}");
        let ok = |len| check(terms, stream, command.to_wire(), len).is_ok();
        assert!(ok(min) && ok(max), "{command}");
        assert!(min == 0 || !ok(min - 1), "{command}");
        assert!(!ok(max + 1) && !ok(u32::MAX) && !ok(1 << 31), "{command}");
    }

    #[test]
    fn data_is_split_into_head_digest_and_whole_sectors() {
        let with_digest = terms(101, 15, 32);
        let frame = check(&with_digest, Stream::Data, 0, 24 + 32 + 4096).unwrap();
        assert_eq!(
            (frame.fixed_len(), frame.digest_len(), frame.data_len()),
            (24, 32, 4096)
        );
        assert!(check(&with_digest, Stream::Data, 0, 24 + 31).is_err());
        for odd in [1, 256, 511, 513, 768] {
            assert!(check(&with_digest, Stream::Data, 0, 24 + 32 + odd).is_err());
        }
        // An empty write is the flush of old peers, an empty reply is nothing.
        assert!(check(&with_digest, Stream::Data, 0, 24 + 32).is_ok());
        assert!(check(&with_digest, Stream::Data, 1, 24 + 32).is_err());
        assert!(check(&with_digest, Stream::Data, 2, 24 + 32).is_err());
    }

    #[test]
    fn bitmaps_come_in_whole_words_within_a_page() {
        let old = terms(99, 15, 0);
        assert!(check(&old, Stream::Data, 4, 4088).is_ok());
        assert!(check(&terms(100, 15, 0), Stream::Data, 4, 4088).is_err());
        for odd in [1, 4, 4084, 4087] {
            assert!(check(&old, Stream::Data, 4, odd).is_err());
        }
        assert!(check(&old, Stream::Data, 0x24, 4087).is_ok());
        assert!(check(&old, Stream::Data, 0x24, 1).is_err());
    }

    proptest! {
        #[test]
        fn the_parts_of_a_frame_add_up(
            version in 86_u32..=101, features in 0_u32..16, integrity_len in 0_u8..=64,
            command in 0_u16..0x40, len in 0_u32..10_000,
        ) {
            let terms = terms(version, features, integrity_len);
            for stream in [Stream::Initial, Stream::Data, Stream::Meta] {
                if let Ok(frame) = check(&terms, stream, command, len) {
                    prop_assert_eq!(frame.fixed_len() + frame.digest_len() + frame.data_len(), len);
                }
            }
        }
    }
}
