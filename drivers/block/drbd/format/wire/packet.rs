//! Whole packets: the fixed part as one value, and the way back to bytes.
//!
//! Digest and data of a data packet never pass through here: [`Packet::decode`] gets the fixed
//! part only, and [`Packet::encode`] announces in the header what the caller sends behind it.

use super::command::{Command, Frame, Stream};
use super::features::{FeatureFlags, Offer, Terms};
use super::header::Header;
use super::payload::{
    Barrier, BarrierAck, BlockAck, BlockRange, BlockRequest, Data, DelayProbe, Layout, PacketError,
    State, StateChange, StateChangeReply, Trim,
};
use super::settings::{ProtocolSettings, Sizes, SyncParam, SyncUuid, Uuids};
use super::EncodeError;
use crate::bytes::{Reader, Writer};

/// Declares the packets: those that consist of a header only, and those with a payload.
macro_rules! packets {
    (
        empty { $( $empty:ident, )+ }
        full { $( $full:ident ( $layout:ty ), )+ }
    ) => {
        /// A packet: one variant for each [`Command`], named alike.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[allow(missing_docs, reason = "documented at `Command` and at the payload")]
        pub enum Packet<'a> {
            $( $empty, )+
            $( $full($layout), )+
        }

        impl<'a> Packet<'a> {
            /// Returns the command that announces this packet.
            pub const fn command(&self) -> Command {
                match self {
                    $( Self::$empty => Command::$empty, )+
                    $( Self::$full(_) => Command::$full, )+
                }
            }

            /// Decodes the fixed part of the packet that `frame` announced.
            ///
            /// `fixed` holds exactly [`Frame::fixed_len`] bytes; slices in the packet point into
            /// it. `terms` are the same as in [`Frame::check`].
            ///
            /// # Errors
            ///
            /// See [`PacketError`]. Each is fatal for the connection.
            #[inline]
            pub fn decode(
                terms: &Terms,
                frame: &Frame,
                fixed: &'a [u8],
            ) -> Result<Self, PacketError> {
                let command = frame.command();
                if u32::try_from(fixed.len()) != Ok(frame.fixed_len()) {
                    return Err(PacketError::Size(command, fixed.len()));
                }
                let input = Reader::new(fixed);
                match command {
                    $( Command::$empty => Ok(Self::$empty), )+
                    $( Command::$full => {
                        <$layout as Layout<'a>>::decode(terms, frame, input).map(Self::$full)
                    } )+
                }
            }

            fn put(&self, terms: &Terms, out: &mut Writer<'_>) -> Result<(), EncodeError> {
                match self {
                    $( Self::$empty => Ok(()), )+
                    $( Self::$full(payload) => Layout::encode(payload, terms, out), )+
                }
            }

            fn tail_len(&self) -> u32 {
                match self {
                    $( Self::$empty => 0, )+
                    $( Self::$full(payload) => Layout::tail_len(payload), )+
                }
            }
        }
    };
}

packets! {
    empty { UnplugRemote, Ping, PingAck, InitialMeta, InitialData, }
    full {
        Data(Data),
        DataReply(Data),
        RsDataReply(Data),
        Barrier(Barrier),
        Bitmap(&'a [u8]),
        DataRequest(BlockRequest<'a>),
        RsDataRequest(BlockRequest<'a>),
        SyncParam(SyncParam<'a>),
        Protocol(ProtocolSettings<'a>),
        Uuids(Uuids),
        Sizes(Sizes),
        State(State),
        SyncUuid(SyncUuid),
        AuthChallenge(&'a [u8]),
        AuthResponse(&'a [u8]),
        StateChgReq(StateChange),
        RecvAck(BlockAck),
        WriteAck(BlockAck),
        RsWriteAck(BlockAck),
        Superseded(BlockAck),
        NegAck(BlockAck),
        NegDReply(BlockAck),
        NegRsDReply(BlockAck),
        BarrierAck(BarrierAck),
        StateChgReply(StateChangeReply),
        OvRequest(BlockRequest<'a>),
        OvReply(BlockRequest<'a>),
        OvResult(BlockAck),
        CsumRsRequest(BlockRequest<'a>),
        RsIsInSync(BlockAck),
        SyncParam89(SyncParam<'a>),
        CompressedBitmap(&'a [u8]),
        DelayProbe(DelayProbe),
        OutOfSync(BlockRange),
        RsCancel(BlockAck),
        ConnStChgReq(StateChange),
        ConnStChgReply(StateChangeReply),
        RetryWrite(BlockAck),
        ProtocolUpdate(ProtocolSettings<'a>),
        Trim(Trim),
        RsThinReq(BlockRequest<'a>),
        RsDeallocated(BlockRange),
        Zeroes(Trim),
        ConnectionFeatures(Offer),
    }
}

// Packets are passed by value in and out of the core.
const _: () = assert!(size_of::<Packet<'_>>() <= 96);

impl Packet<'_> {
    /// Writes header and fixed part to the front of `buf` and returns their length.
    ///
    /// For data packets the caller sends `digest_len` and `data_len` bytes behind them, which the
    /// header already counts. `volume` is 0 for packets about the connection.
    ///
    /// # Errors
    ///
    /// [`EncodeError::NotExpressible`] if the packet was not agreed upon or its values have no
    /// place in the agreed version; the peer would give up the connection otherwise.
    #[inline]
    pub fn encode(&self, terms: &Terms, volume: u16, buf: &mut [u8]) -> Result<usize, EncodeError> {
        let command = self.command();
        if !command.may_be_sent(terms) {
            return Err(EncodeError::NotExpressible(command.name()));
        }
        let header_len = terms.version.header_len();
        let available = buf.len();
        let Some((front, rest)) = buf.split_at_mut_checked(header_len) else {
            return Err(EncodeError::NoSpace {
                needed: header_len,
                found: available,
            });
        };
        let mut out = Writer::new(rest);
        self.put(terms, &mut out)?;
        let fixed_len = out.finish().map_err(|error| match error {
            EncodeError::NoSpace { needed, .. } => EncodeError::NoSpace {
                needed: needed.saturating_add(header_len),
                found: available,
            },
            EncodeError::NotExpressible(_) => error,
        })?;
        let too_long = EncodeError::NotExpressible(command.name());
        let payload_len = u32::try_from(fixed_len)
            .ok()
            .and_then(|len| len.checked_add(self.tail_len()));
        let payload_len = payload_len.ok_or(too_long)?;
        // The own integrity algorithm may differ from the one in `terms`, which is the peer's.
        let (min, max) = command.payload_limits(terms);
        if !matches!(
            self,
            Self::Data(_) | Self::DataReply(_) | Self::RsDataReply(_)
        ) && (payload_len < min || payload_len > max)
        {
            return Err(too_long);
        }
        Header {
            volume,
            command: command.to_wire(),
            payload_len,
        }
        .encode(terms.version, front)?;
        Ok(header_len.saturating_add(fixed_len))
    }
}

impl Command {
    /// Tells whether we may send this command under `terms`.
    ///
    /// One rule is stricter than for receiving: a discard needs its feature
    /// (`reference/wire.md` A.3).
    pub fn may_be_sent(self, terms: &Terms) -> bool {
        let discard_agreed = terms.features.contains(FeatureFlags::TRIM);
        self.is_agreed(terms) && (self != Self::Trim || discard_agreed)
    }
}

/// A packet at the front of a longer piece of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// What the header announced.
    pub frame: Frame,
    /// The packet.
    pub packet: Packet<'a>,
    /// The bytes that follow the fixed part: digest, data, the next packet.
    pub rest: &'a [u8],
}

/// Decodes header and fixed part of one packet from the front of `buf`, for streams that are read
/// in larger pieces (the meta socket) and for tests.
///
/// Returns `Ok(None)` if `buf` ends before the
/// fixed part does.
///
/// # Errors
///
/// See [`StreamError`].
pub fn decode_front<'a>(
    terms: &Terms,
    stream: Stream,
    buf: &'a [u8],
) -> Result<Option<Received<'a>>, StreamError> {
    let Some((front, rest)) = buf.split_at_checked(terms.version.header_len()) else {
        return Ok(None);
    };
    let header = Header::decode(terms.version, front).map_err(StreamError::Header)?;
    let frame = Frame::check(terms, stream, &header).map_err(StreamError::Frame)?;
    let fixed_len = usize::try_from(frame.fixed_len()).unwrap_or(usize::MAX);
    let Some((fixed, rest)) = rest.split_at_checked(fixed_len) else {
        return Ok(None);
    };
    let packet = Packet::decode(terms, &frame, fixed).map_err(StreamError::Packet)?;
    Ok(Some(Received {
        frame,
        packet,
        rest,
    }))
}

/// Any error of the three steps of receiving.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StreamError {
    /// The header is damaged.
    Header(super::header::HeaderError),
    /// The packet must not appear here or has a wrong length.
    Frame(super::command::FrameError),
    /// The fixed part holds what it must not.
    Packet(PacketError),
}

impl core::fmt::Display for StreamError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Header(error) => error.fmt(f),
            Self::Frame(error) => error.fmt(f),
            Self::Packet(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
