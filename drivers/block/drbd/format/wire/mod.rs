//! Packets between two nodes: headers, payload layouts, negotiation, the code of bitmaps.
//!
//! The receiving side works in three steps, each of which only looks at bytes it was given:
//!
//! 1. [`header::Header::decode`] on [`features::ProtocolVersion::header_len`] bytes;
//! 2. [`command::Frame::check`] says whether the packet may appear on this stream under the
//!    agreed [`features::Terms`], and how many bytes of fixed part, digest and data follow;
//! 3. [`packet::Packet::decode`] on the fixed part. Digest and data stay with the caller.
//!
//! The sending side builds a [`packet::Packet`] and calls [`packet::Packet::encode`].

pub mod command;
pub mod features;
pub mod header;
pub mod packet;
pub mod payload;
pub mod settings;
pub mod vli;

use core::fmt;

/// Why a packet or header could not be written into the buffer of the caller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EncodeError {
    /// The buffer is too small.
    NoSpace {
        /// Bytes needed.
        needed: usize,
        /// Bytes the buffer has.
        found: usize,
    },
    /// The agreed protocol version has no way to say this.
    NotExpressible(&'static str),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSpace { needed, found } => {
                write!(
                    f,
                    "packet of {needed} bytes does not fit into {found} bytes"
                )
            }
            Self::NotExpressible(what) => {
                write!(f, "the agreed protocol version cannot express {what}")
            }
        }
    }
}
