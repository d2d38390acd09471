//! Protocol versions, feature flags and the arithmetic of their negotiation.
//!
//! Facts: `reference/wire.md` 4.1 and 11.

use core::fmt;

/// A version of the wire protocol.
///
/// # Invariants
///
/// Either [`ProtocolVersion::INITIAL`] or between [`ProtocolVersion::MIN`] and
/// [`ProtocolVersion::MAX`].
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ProtocolVersion(u8);

impl ProtocolVersion {
    /// The version assumed until both sides have sent their features.
    pub const INITIAL: Self = Self(80);
    /// The oldest version we speak.
    pub const MIN: Self = Self(86);
    /// The newest version we speak.
    pub const MAX: Self = Self(101);

    /// Returns the version with this number if we speak it.
    pub const fn new(number: u32) -> Option<Self> {
        if number < Self::MIN.0 as u32 || number > Self::MAX.0 as u32 {
            return None;
        }
        // CAST: At most `MAX`, which is a `u8`.
        #[allow(
            clippy::cast_possible_truncation,
            reason = "compared with the limits above"
        )]
        let number = number as u8;
        Some(Self(number))
    }

    /// Returns the number.
    #[inline]
    pub const fn number(self) -> u32 {
        self.0 as u32
    }

    /// Returns the number of bytes of every packet header.
    #[inline]
    pub const fn header_len(self) -> usize {
        if self.has_volumes() {
            16
        } else {
            8
        }
    }

    /// Returns the limit for the payload of one bitmap packet: a page less the header.
    #[inline]
    pub const fn bitmap_payload_max(self) -> u32 {
        if self.has_volumes() {
            4080
        } else {
            4088
        }
    }

    /// Returns the largest request that may be announced, in bytes (`reference/wire.md` 3.3).
    pub const fn request_bytes_max(self) -> u32 {
        if self.0 >= 100 {
            1 << 20
        } else if self.0 >= 95 {
            128 << 10
        } else {
            32 << 10
        }
    }

    /// Tells whether headers carry a volume number and acks are asked for by data flags (100).
    #[inline]
    pub const fn has_volumes(self) -> bool {
        self.0 >= 100
    }

    /// Tells whether lengths above 65535 can be expressed, and flush, FUA and discard (95).
    #[inline]
    pub const fn has_long_header(self) -> bool {
        self.0 >= 95
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A set of feature flags. Flags that we do not know are kept and never agreed upon.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FeatureFlags(pub u32);

impl FeatureFlags {
    /// No feature.
    pub const NONE: Self = Self(0);
    /// `P_TRIM` may be sent.
    pub const TRIM: Self = Self(1);
    /// Unallocated ranges need not be sent during resync.
    pub const THIN_RESYNC: Self = Self(2);
    /// Long `P_SIZES`, discards up to 128 MiB; the packet it is named after is never sent.
    pub const WSAME: Self = Self(4);
    /// `P_ZEROES` may be sent.
    pub const WZEROES: Self = Self(8);
    /// Everything we offer.
    pub const OFFERED: Self = Self(15);

    /// Tells whether all flags of `other` are set.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the flags set on both sides.
    #[inline]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// Everything that decides how the bytes of a packet are to be read or written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Terms {
    /// The agreed version.
    pub version: ProtocolVersion,
    /// The agreed features.
    pub features: FeatureFlags,
    /// Bytes of digest in front of the data of received data packets, 0 without an algorithm.
    ///
    /// This is the *peer's* data-integrity algorithm (`reference/wire.md` 5.6).
    pub integrity_len: u8,
}

impl Terms {
    /// What holds before the features have been exchanged.
    pub const INITIAL: Self = Self {
        version: ProtocolVersion::INITIAL,
        features: FeatureFlags::NONE,
        integrity_len: 0,
    };

    /// Returns the largest discard or zero-out that may be sent, in bytes.
    pub const fn discard_bytes_max(&self) -> u32 {
        if self.features.contains(FeatureFlags::WSAME) {
            128 << 20
        } else {
            4 << 20
        }
    }
}

/// No version is spoken by both sides. The connection has to be given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoCommonVersion {
    /// Oldest version of the peer.
    pub peer_min: u32,
    /// Newest version of the peer.
    pub peer_max: u32,
}

impl fmt::Display for NoCommonVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer_min, peer_max } = self;
        let (min, max) = (ProtocolVersion::MIN, ProtocolVersion::MAX);
        write!(
            f,
            "incompatible protocol versions: we speak {min}-{max}, the peer {peer_min}-{peer_max}"
        )
    }
}

/// What one side offers: the values of `P_CONNECTION_FEATURES`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Offer {
    /// Oldest version spoken.
    pub min: u32,
    /// Newest version spoken; 0 means the same as `min`.
    pub max: u32,
    /// Features offered.
    pub flags: FeatureFlags,
}

impl Offer {
    /// What we offer.
    pub const OURS: Self = Self {
        min: ProtocolVersion::MIN.number(),
        max: ProtocolVersion::MAX.number(),
        flags: FeatureFlags::OFFERED,
    };

    /// Combines what we offer with what `peer` offers. Both sides come to the same result.
    ///
    /// # Errors
    ///
    /// If the ranges do not overlap.
    pub fn agree(ours: FeatureFlags, peer: &Self) -> Result<Terms, NoCommonVersion> {
        let peer_max = if peer.max == 0 { peer.min } else { peer.max };
        let none = NoCommonVersion {
            peer_min: peer.min,
            peer_max,
        };
        if peer.min > peer_max || peer.min > ProtocolVersion::MAX.number() {
            return Err(none);
        }
        let number = peer_max.min(ProtocolVersion::MAX.number());
        let version = ProtocolVersion::new(number).ok_or(none)?;
        Ok(Terms {
            version,
            features: ours.and(peer.flags),
            integrity_len: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offer(min: u32, max: u32) -> Offer {
        Offer {
            min,
            max,
            flags: FeatureFlags(u32::MAX),
        }
    }

    #[test]
    fn the_newest_common_version_wins() {
        let version = |min, max| {
            Offer::agree(FeatureFlags::OFFERED, &offer(min, max)).map(|t| t.version.number())
        };
        assert_eq!(version(86, 101), Ok(101));
        assert_eq!(version(80, 95), Ok(95));
        assert_eq!(version(86, 121), Ok(101));
        assert_eq!(version(86, 0), Ok(86));
        assert!(version(102, 121).is_err());
        assert!(version(80, 85).is_err());
        assert!(version(101, 86).is_err());
        assert!(version(0, 0).is_err());
    }

    #[test]
    fn only_features_of_both_sides_are_agreed() {
        let terms = Offer::agree(FeatureFlags(5), &offer(86, 101)).unwrap();
        assert_eq!(terms.features, FeatureFlags(5));
        assert_eq!(terms.discard_bytes_max(), 134_217_728);
    }

    proptest! {
        #[test]
        fn agreement_is_always_within_both_ranges(min in 0_u32..200, max in 0_u32..200) {
            if let Ok(terms) = Offer::agree(FeatureFlags::OFFERED, &offer(min, max)) {
                let number = terms.version.number();
                prop_assert!((86..=101).contains(&number));
                prop_assert!(min <= number && (number <= max || max == 0));
            }
        }
    }
}
