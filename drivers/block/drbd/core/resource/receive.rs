//! The receiving side of the data socket.

use drbd_format::wire::command::{Frame, Stream};
use drbd_format::wire::header::Header;
use drbd_format::wire::packet::{Packet, StreamError};

use super::Resource;
use crate::config::Name;
use crate::control::packets::Handled;
use crate::data::{is_data_command, Incoming};
use crate::input::DigestUse;
use crate::link::LinkError;
use crate::memory::Memory;
use crate::time::Instant;

/// Bytes to receive after a header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Expect {
    /// Length of the fixed part.
    pub fixed_len: usize,
}

/// What the receiver of the data socket does with what it has read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Front {
    /// Read on until so many bytes are there.
    Need(usize),
    /// The first `used` bytes were a packet.
    Packet {
        /// Length of header and fixed part.
        used: usize,
        /// Length of the next header.
        next_header_len: usize,
        /// What to do now.
        incoming: Incoming,
    },
}

impl<M: Memory> Resource<M> {
    /// Length of the next header on either socket.
    pub fn header_len(&self) -> usize {
        self.data.terms().version.header_len()
    }

    /// A header has arrived on the data socket.
    ///
    /// # Errors
    ///
    /// The connection can not go on; the state has changed already.
    pub fn data_header(&mut self, bytes: &[u8], now: Instant) -> Result<Expect, LinkError> {
        self.state.core.liveness.heard_data(now);
        let terms = *self.data.terms();
        let frame = Header::decode(terms.version, bytes)
            .map_err(StreamError::Header)
            .and_then(|h| Frame::check(&terms, Stream::Data, &h).map_err(StreamError::Frame));
        match frame {
            Ok(frame) => {
                self.frame = Some(frame);
                Ok(Expect {
                    fixed_len: frame.fixed_len() as usize,
                })
            }
            Err(error) => Err(self.broken_stream(&error, Stream::Data, now)),
        }
    }

    /// Looks at what has been read on the data socket: header and fixed part of one packet, or the
    /// front of it.
    pub fn data_front(&mut self, bytes: &[u8], now: Instant) -> Front {
        let header_len = self.header_len();
        let Some(header) = bytes.get(..header_len) else {
            return Front::Need(header_len);
        };
        let (used, incoming) = match self.data_header(header, now) {
            Ok(expect) => {
                let end = header_len.saturating_add(expect.fixed_len);
                let Some(fixed) = bytes.get(header_len..end) else {
                    return Front::Need(end);
                };
                (end, self.data_packet(fixed, bytes.len() > end, now))
            }
            Err(error) => (header_len, Incoming::Error(error)),
        };
        Front::Packet {
            used,
            next_header_len: self.header_len(),
            incoming,
        }
    }

    pub(super) fn broken_stream(
        &mut self,
        error: &StreamError,
        stream: Stream,
        now: Instant,
    ) -> LinkError {
        self.control(now, |control| control.broken_stream(error, stream))
    }

    /// The fixed part of the packet has arrived; `followed`: and the front of the next one, or of
    /// the payload.
    pub fn data_packet(&mut self, fixed: &[u8], followed: bool, now: Instant) -> Incoming {
        let Some(frame) = self.frame.take() else {
            return Incoming::Error(LinkError::ProtocolError);
        };
        self.take_packet(&frame, fixed, followed, now)
    }

    fn take_packet(
        &mut self,
        frame: &Frame,
        fixed: &[u8],
        followed: bool,
        now: Instant,
    ) -> Incoming {
        if self.data.interrupts_bitmap(frame) {
            self.settle(now);
            return Incoming::Error(LinkError::ProtocolError);
        }
        if is_data_command(frame.command()) && self.state.core.link.protocol_seen {
            let incoming = self.data.data_packet(frame, fixed, followed, now);
            self.settle(now);
            return incoming;
        }
        if self.is_crowded() {
            self.data.stalled.keep(frame, fixed);
            return Incoming::Wait;
        }
        let terms = *self.data.terms();
        match Packet::decode(&terms, frame, fixed) {
            Ok(packet) => {
                let handled = self.control(now, |c| c.packet(frame.volume(), &packet));
                // The ack of a barrier may have been left for this packet.
                self.acks_wanted |= !self.data.acks_are_encoded();
                incoming(handled)
            }
            Err(error) => {
                let error = StreamError::Packet(error);
                Incoming::Error(self.broken_stream(&error, Stream::Data, now))
            }
        }
    }

    /// The algorithm that [`Incoming::LoadDigest`] is about. Not empty.
    pub fn digest_to_load(&self) -> Option<(DigestUse, Name)> {
        self.state.core.link.load.iter().find_map(|load| *load)
    }

    /// The shell has loaded it: from now on it is used for what the peer sends, or for verify and
    /// checksums. `len`: that of its digests; `None`: there is no such algorithm.
    pub fn digest_loaded(&mut self, len: Option<u8>, now: Instant) -> Incoming {
        incoming(self.control(now, |control| control.digest_loaded(len)))
    }

    /// Tries again the packet that had to wait.
    pub fn data_retry(&mut self, now: Instant) -> Incoming {
        if self.state.core.link.pending.is_some() {
            let handled = self.control(now, |control| control.retry_packet());
            self.receiver_wanted = false; // Only news are a reason to try again.
            return incoming(handled);
        }
        if let Some((frame, fixed)) = self.data.stalled.take_control() {
            let fixed = fixed.get(..frame.fixed_len() as usize).unwrap_or(&[]);
            return self.take_packet(&frame, fixed, false, now);
        }
        let incoming = self.data.data_retry(now);
        self.settle(now);
        incoming
    }
}

/// What the receiver does after a control packet.
const fn incoming(handled: Handled) -> Incoming {
    match handled {
        Handled::Done => Incoming::Done,
        Handled::Load => Incoming::LoadDigest,
        Handled::Wait => Incoming::Wait,
        Handled::Fail(error) => Incoming::Error(error),
    }
}
