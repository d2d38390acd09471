//! The three generations of packet headers.
//!
//! | Header | Bytes | When |
//! |---|---|---|
//! | h80 | 8 | before negotiation, versions up to 94, and 95 to 99 for payloads up to 32 KiB |
//! | h95 | 8 | versions 95 to 99, longer payloads |
//! | h100 | 16 | from version 100 on, and then always |
//!
//! Facts: `reference/wire.md` 2. What a command means, and which lengths it may have, is in
//! [`super::command`].

use super::features::ProtocolVersion;
use super::EncodeError;
use crate::bytes::{Reader, Writer};
use core::fmt;

/// Bytes of the longest header.
pub const HEADER_LEN_MAX: usize = 16;

/// No packet of any kind has a longer payload: 1 MiB of data, a digest, the longest fixed part.
///
/// The limit of each single command is in [`super::command`] and is never above this one.
pub const PAYLOAD_LEN_MAX: u32 = (1 << 20) + 64 + 24;

const MAGIC_80: u32 = 0x8374_0267;
const MAGIC_95: u16 = 0x835a;
const MAGIC_100: u32 = 0x8620_ec20;

/// Longest payload that versions 95 to 99 send with the short header.
const SHORT_HEADER_PAYLOAD_MAX: u32 = 32768;

/// A packet header whose magic, padding and length have been checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Volume the packet is about; 0 below version 100 and for packets about the connection.
    pub volume: u16,
    /// Command number, not yet checked.
    pub command: u16,
    /// Number of payload bytes that follow the header.
    pub payload_len: u32,
}

/// Why a header was refused.
///
/// Every error is fatal for the connection: after a bad header the packet boundary is lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeaderError {
    /// Fewer bytes than a header has.
    Truncated {
        /// Bytes needed.
        needed: usize,
        /// Bytes given.
        found: usize,
    },
    /// No magic that is valid for the agreed version.
    Magic(u32),
    /// The padding must be zero.
    Padding(u32),
    /// Longer than any packet may be.
    TooLong(u32),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, found } => {
                write!(f, "packet header has {found} of {needed} bytes")
            }
            Self::Magic(found) => write!(f, "wrong packet magic {found:#010x}"),
            Self::Padding(found) => write!(f, "packet header padding is {found:#x}, not zero"),
            Self::TooLong(found) => {
                write!(
                    f,
                    "packet of {found} bytes is longer than {PAYLOAD_LEN_MAX}"
                )
            }
        }
    }
}

impl Header {
    /// Decodes the header at the front of `buf`, which must hold
    /// [`ProtocolVersion::header_len`] bytes; bytes behind them are not looked at.
    ///
    /// # Errors
    ///
    /// See [`HeaderError`].
    #[inline]
    pub fn decode(version: ProtocolVersion, buf: &[u8]) -> Result<Self, HeaderError> {
        let truncated = HeaderError::Truncated {
            needed: version.header_len(),
            found: buf.len(),
        };
        let mut reader = Reader::new(buf);
        let header = if version.has_volumes() {
            Self::decode_100(reader.array().ok_or(truncated)?)?
        } else {
            Self::decode_short(reader.array().ok_or(truncated)?)?
        };
        if header.payload_len > PAYLOAD_LEN_MAX {
            return Err(HeaderError::TooLong(header.payload_len));
        }
        Ok(header)
    }

    /// Writes the header that `version` prescribes to the front of `buf` and returns its length.
    ///
    /// # Errors
    ///
    /// [`EncodeError::NoSpace`], or [`EncodeError::NotExpressible`] for a volume or a length that
    /// this version has no field for.
    #[inline]
    pub fn encode(&self, version: ProtocolVersion, buf: &mut [u8]) -> Result<usize, EncodeError> {
        let mut out = Writer::new(buf);
        if version.has_volumes() {
            out.u32(MAGIC_100);
            out.u16(self.volume);
            out.u16(self.command);
            out.u32(self.payload_len);
            out.u32(0);
            return out.finish();
        }
        if self.volume != 0 {
            return Err(EncodeError::NotExpressible("a volume number"));
        }
        if version.has_long_header() && self.payload_len > SHORT_HEADER_PAYLOAD_MAX {
            out.u16(MAGIC_95);
            out.u16(self.command);
            out.u32(self.payload_len);
            return out.finish();
        }
        let payload_len = u16::try_from(self.payload_len)
            .map_err(|_| EncodeError::NotExpressible("a packet above 65535 bytes"))?;
        out.u32(MAGIC_80);
        out.u16(self.command);
        out.u16(payload_len);
        out.finish()
    }

    fn decode_100(bytes: &[u8; 16]) -> Result<Self, HeaderError> {
        let &[m0, m1, m2, m3, v0, v1, c0, c1, l0, l1, l2, l3, p0, p1, p2, p3] = bytes;
        let magic = u32::from_be_bytes([m0, m1, m2, m3]);
        if magic != MAGIC_100 {
            return Err(HeaderError::Magic(magic));
        }
        let padding = u32::from_be_bytes([p0, p1, p2, p3]);
        if padding != 0 {
            return Err(HeaderError::Padding(padding));
        }
        Ok(Self {
            volume: u16::from_be_bytes([v0, v1]),
            command: u16::from_be_bytes([c0, c1]),
            payload_len: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }

    fn decode_short(bytes: &[u8; 8]) -> Result<Self, HeaderError> {
        let &[b0, b1, b2, b3, b4, b5, b6, b7] = bytes;
        if u16::from_be_bytes([b0, b1]) == MAGIC_95 {
            return Ok(Self {
                volume: 0,
                command: u16::from_be_bytes([b2, b3]),
                payload_len: u32::from_be_bytes([b4, b5, b6, b7]),
            });
        }
        let magic = u32::from_be_bytes([b0, b1, b2, b3]);
        if magic != MAGIC_80 {
            return Err(HeaderError::Magic(magic));
        }
        Ok(Self {
            volume: 0,
            command: u16::from_be_bytes([b4, b5]),
            payload_len: u32::from(u16::from_be_bytes([b6, b7])),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(number: u32) -> ProtocolVersion {
        ProtocolVersion::new(number).unwrap()
    }

    #[test]
    fn each_version_uses_its_header() {
        let mut buf = [0; HEADER_LEN_MAX];
        let mut lead = |number, payload_len| {
            let header = Header {
                volume: 0,
                command: 0,
                payload_len,
            };
            header
                .encode(version(number), &mut buf)
                .map(|len| (len, buf[0], buf[1]))
        };
        assert_eq!(lead(86, 65535), Ok((8, 0x83, 0x74)));
        assert!(lead(94, 65536).is_err());
        assert_eq!(lead(95, 32768), Ok((8, 0x83, 0x74)));
        assert_eq!(lead(99, 32769), Ok((8, 0x83, 0x5a)));
        assert_eq!(lead(100, 0), Ok((16, 0x86, 0x20)));
        assert_eq!(lead(101, 1 << 20), Ok((16, 0x86, 0x20)));
    }

    #[test]
    fn damaged_headers_are_refused() {
        let mut buf = [0; 16];
        let header = Header {
            volume: 1,
            command: 2,
            payload_len: 3,
        };
        header.encode(version(101), &mut buf).unwrap();
        assert!(matches!(
            Header::decode(version(99), &buf),
            Err(HeaderError::Magic(_))
        ));
        for len in 0..16 {
            let error = Header::decode(version(101), &buf[..len]).unwrap_err();
            assert_eq!(
                error,
                HeaderError::Truncated {
                    needed: 16,
                    found: len
                }
            );
        }
        for byte in 12..16 {
            let mut damaged = buf;
            damaged[byte] = 1;
            let error = Header::decode(version(101), &damaged).unwrap_err();
            assert!(matches!(error, HeaderError::Padding(_)));
        }
        for byte in 0..4 {
            let mut damaged = buf;
            damaged[byte] ^= 1;
            let error = Header::decode(version(101), &damaged).unwrap_err();
            assert!(matches!(error, HeaderError::Magic(_)));
        }
        buf[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
        let error = Header::decode(version(101), &buf).unwrap_err();
        assert_eq!(error, HeaderError::TooLong(u32::MAX));
    }

    #[test]
    fn short_headers_have_no_place_for_a_volume() {
        let header = Header {
            volume: 1,
            command: 2,
            payload_len: 3,
        };
        assert!(header.encode(version(99), &mut [0; 16]).is_err());
    }

    proptest! {
        #[test]
        fn decoding_gives_back_what_was_encoded(
            number in 86_u32..=101, volume: u16, command: u16, len in 0..=PAYLOAD_LEN_MAX,
        ) {
            let version = version(number);
            let volume = if version.has_volumes() { volume } else { 0 };
            let header = Header { volume, command, payload_len: len };
            let mut buf = [0xaa; HEADER_LEN_MAX];
            match header.encode(version, &mut buf) {
                Ok(used) => {
                    prop_assert_eq!(used, version.header_len());
                    prop_assert_eq!(Header::decode(version, &buf[..used]), Ok(header));
                }
                Err(_) => prop_assert!(number < 95 && len > 65535),
            }
            for space in 0..version.header_len() {
                prop_assert!(header.encode(version, &mut buf[..space]).is_err());
            }
        }

        #[test]
        fn any_bytes_give_a_header_or_an_error(number in 86_u32..=101, bytes: [u8; 16]) {
            if let Ok(header) = Header::decode(version(number), &bytes) {
                prop_assert!(header.payload_len <= PAYLOAD_LEN_MAX);
            }
        }
    }
}
