//! Positions and lengths, as distinct integer types so that they cannot be mixed up.
//!
//! A *sector* has 512 bytes. One *bit* of the out-of-sync bitmap covers 4 KiB, one activity-log
//! extent 4 MiB, one resync extent 16 MiB (`reference/metadata.md` 0). Everything here is plain
//! arithmetic with checks; limits of devices are in [`crate::disk::layout`].

/// A position on a device, in sectors of 512 bytes.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Sector(pub u64);

/// A length in sectors of 512 bytes.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SectorCount(pub u64);

/// A length in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ByteCount(pub u64);

/// A bit of the out-of-sync bitmap. One bit covers 4 KiB.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BitIndex(pub u64);

/// A number of bitmap bits.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BitCount(pub u64);

/// A 4 KiB page of the bitmap, counted from its start. One page covers 128 MiB.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BitmapPage(pub u64);

/// An extent of the activity log: 4 MiB. `u32::MAX` is no extent but marks a free slot on disk.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AlExtent(pub u32);

/// An extent that is locked as a whole during resync: 16 MiB, four activity-log extents.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ResyncExtent(pub u64);

/// Bytes in a sector.
pub const SECTOR_BYTES: u32 = 512;
/// Bytes that one bitmap bit covers.
pub const BIT_BYTES: u32 = 4096;

const SECTOR_SHIFT: u32 = 9;
const SECTOR_BYTES_MASK: u64 = 511;
const SECTORS_PER_BIT_SHIFT: u32 = 3;
const SECTORS_PER_AL_EXTENT_SHIFT: u32 = 13;
const SECTORS_PER_RESYNC_EXTENT_SHIFT: u32 = 15;
const BITS_PER_PAGE_SHIFT: u32 = 15;
const BITS_PER_AL_EXTENT_SHIFT: u32 = 10;
const BITS_PER_RESYNC_EXTENT_SHIFT: u32 = 12;
const AL_EXTENTS_PER_RESYNC_EXTENT_SHIFT: u32 = 2;

impl Sector {
    /// Returns the bit that covers this sector.
    #[inline]
    pub const fn bit(self) -> BitIndex {
        BitIndex(self.0 >> SECTORS_PER_BIT_SHIFT)
    }

    /// Returns the activity-log extent of this sector, or `None` beyond 16 PiB, where the on-disk
    /// format has no numbers any more.
    #[inline]
    pub const fn al_extent(self) -> Option<AlExtent> {
        al_extent_number(self.0 >> SECTORS_PER_AL_EXTENT_SHIFT)
    }

    /// Returns the resync extent of this sector.
    #[inline]
    pub const fn resync_extent(self) -> ResyncExtent {
        ResyncExtent(self.0 >> SECTORS_PER_RESYNC_EXTENT_SHIFT)
    }

    /// Returns the position `count` sectors later, or `None` on overflow.
    #[inline]
    pub const fn checked_add(self, count: SectorCount) -> Option<Self> {
        match self.0.checked_add(count.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// Returns the position in bytes, or `None` on overflow.
    #[inline]
    pub const fn bytes(self) -> Option<ByteCount> {
        SectorCount(self.0).bytes()
    }
}

impl SectorCount {
    /// Returns the number of bits needed to cover that many sectors, the last one perhaps partly.
    #[inline]
    pub const fn bits(self) -> BitCount {
        BitCount(self.0.div_ceil(1 << SECTORS_PER_BIT_SHIFT))
    }

    /// Returns the length in bytes, or `None` on overflow.
    #[inline]
    pub const fn bytes(self) -> Option<ByteCount> {
        match self.0.checked_mul(SECTOR_BYTES as u64) {
            Some(bytes) => Some(ByteCount(bytes)),
            None => None,
        }
    }
}

impl ByteCount {
    /// Returns the length in sectors, or `None` if it is not a multiple of 512.
    #[inline]
    pub const fn sectors(self) -> Option<SectorCount> {
        if self.0 & SECTOR_BYTES_MASK != 0 {
            return None;
        }
        Some(SectorCount(self.0 >> SECTOR_SHIFT))
    }
}

impl BitIndex {
    /// Returns the first sector covered, or `None` on overflow.
    #[inline]
    pub const fn first_sector(self) -> Option<Sector> {
        match shl(self.0, SECTORS_PER_BIT_SHIFT) {
            Some(sector) => Some(Sector(sector)),
            None => None,
        }
    }

    /// Returns the page of the bitmap that holds this bit.
    #[inline]
    pub const fn page(self) -> BitmapPage {
        BitmapPage(self.0 >> BITS_PER_PAGE_SHIFT)
    }

    /// Returns the activity-log extent of this bit, or `None` beyond 16 PiB.
    #[inline]
    pub const fn al_extent(self) -> Option<AlExtent> {
        al_extent_number(self.0 >> BITS_PER_AL_EXTENT_SHIFT)
    }

    /// Returns the resync extent of this bit.
    #[inline]
    pub const fn resync_extent(self) -> ResyncExtent {
        ResyncExtent(self.0 >> BITS_PER_RESYNC_EXTENT_SHIFT)
    }
}

impl BitCount {
    /// Returns the number of 64-bit words that hold so many bits.
    #[inline]
    pub const fn words(self) -> u64 {
        self.0.div_ceil(64)
    }

    /// Returns the number of 4 KiB pages that hold so many bits.
    #[inline]
    pub const fn pages(self) -> u64 {
        self.0.div_ceil(1 << BITS_PER_PAGE_SHIFT)
    }
}

impl BitmapPage {}

impl AlExtent {
    /// Sectors in one extent.
    pub const SECTORS: SectorCount = SectorCount(1 << SECTORS_PER_AL_EXTENT_SHIFT);
    /// Bitmap bits in one extent.
    pub const BITS: BitCount = BitCount(1 << BITS_PER_AL_EXTENT_SHIFT);

    /// Returns the first sector of the extent.
    #[inline]
    pub const fn first_sector(self) -> Sector {
        // A 32-bit number shifted by 13 fits.
        Sector((self.0 as u64) << SECTORS_PER_AL_EXTENT_SHIFT)
    }

    /// Returns the first bit of the extent.
    #[inline]
    pub const fn first_bit(self) -> BitIndex {
        BitIndex((self.0 as u64) << BITS_PER_AL_EXTENT_SHIFT)
    }

    /// Returns the resync extent that contains this one.
    #[inline]
    pub const fn resync_extent(self) -> ResyncExtent {
        ResyncExtent((self.0 as u64) >> AL_EXTENTS_PER_RESYNC_EXTENT_SHIFT)
    }

    /// Returns the page of the bitmap that holds the bits of this extent.
    #[inline]
    pub const fn bitmap_page(self) -> BitmapPage {
        self.first_bit().page()
    }
}

impl ResyncExtent {
    /// Sectors in one extent.
    pub const SECTORS: SectorCount = SectorCount(1 << SECTORS_PER_RESYNC_EXTENT_SHIFT);
    /// Bitmap bits in one extent.
    pub const BITS: BitCount = BitCount(1 << BITS_PER_RESYNC_EXTENT_SHIFT);
    /// Activity-log extents in one extent.
    pub const AL_EXTENTS: u32 = 1 << AL_EXTENTS_PER_RESYNC_EXTENT_SHIFT;

    /// Returns the first sector of the extent, or `None` on overflow.
    #[inline]
    pub const fn first_sector(self) -> Option<Sector> {
        match shl(self.0, SECTORS_PER_RESYNC_EXTENT_SHIFT) {
            Some(sector) => Some(Sector(sector)),
            None => None,
        }
    }
}

/// A non-empty or empty range of sectors whose end is known not to overflow.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct SectorRange {
    start: Sector,
    len: SectorCount,
}

impl SectorRange {
    /// Returns the range of `len` sectors from `start`, or `None` if its end overflows.
    #[inline]
    pub const fn new(start: Sector, len: SectorCount) -> Option<Self> {
        match start.checked_add(len) {
            Some(_) => Some(Self { start, len }),
            None => None,
        }
    }

    /// Returns the range of `len_bytes` from `start`, or `None` if its end overflows or it does
    /// not consist of whole sectors.
    #[inline]
    pub const fn from_bytes(start: Sector, len_bytes: u32) -> Option<Self> {
        match ByteCount(len_bytes as u64).sectors() {
            Some(len) => Self::new(start, len),
            None => None,
        }
    }

    /// Returns the first sector.
    #[inline]
    pub const fn start(self) -> Sector {
        self.start
    }

    /// Returns the number of sectors.
    #[inline]
    pub const fn len(self) -> SectorCount {
        self.len
    }

    /// Tells whether the range has no sectors.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.len.0 == 0
    }

    /// Returns the first sector after the range.
    #[inline]
    pub const fn end(self) -> Sector {
        // INVARIANT: `new` checked the sum.
        Sector(self.start.0.wrapping_add(self.len.0))
    }

    /// Tells whether both ranges have a sector in common.
    #[inline]
    pub const fn overlaps(self, other: Self) -> bool {
        let (start, end) = (self.start.0, self.end().0);
        let (other_start, other_end) = (other.start.0, other.end().0);
        start < other_end && other_start < end && !self.is_empty() && !other.is_empty()
    }

    /// Tells whether every sector of `other` lies in this range.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.start.0 <= other.start.0 && other.end().0 <= self.end().0
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "compared with the limit first"
)]
const fn al_extent_number(number: u64) -> Option<AlExtent> {
    if number >= u32::MAX as u64 {
        return None;
    }
    // CAST: See above; `u32::MAX` itself is the mark of a free slot.
    Some(AlExtent(number as u32))
}

const fn shl(value: u64, shift: u32) -> Option<u64> {
    if value > u64::MAX >> shift {
        return None;
    }
    Some(value << shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sectors in 1 EiB.
    const EIB: u64 = 1 << 51;

    #[test]
    fn units_agree_at_every_power_of_two_plus_minus_one() {
        for shift in 0..=51 {
            for sector in [(1_u64 << shift) - 1, 1 << shift, (1 << shift) + 1] {
                let bit = Sector(sector).bit();
                assert_eq!(bit.0, sector / 8);
                assert_eq!(bit.first_sector().unwrap().0, sector / 8 * 8);
                assert_eq!(Sector(sector).resync_extent(), bit.resync_extent());
                assert_eq!(Sector(sector).al_extent(), bit.al_extent());
                assert_eq!(SectorCount(sector).bits().0, sector.div_ceil(8));
                assert_eq!(
                    SectorCount(sector).bytes().unwrap().sectors(),
                    Some(SectorCount(sector))
                );
            }
        }
    }

    #[test]
    fn extents_beyond_the_disk_format_have_no_number() {
        let limit = u64::from(u32::MAX) * 8192;
        assert_eq!(Sector(limit - 1).al_extent(), Some(AlExtent(u32::MAX - 1)));
        assert_eq!(Sector(limit).al_extent(), None);
        assert_eq!(Sector(u64::MAX).al_extent(), None);
    }

    #[test]
    fn overflow_is_reported_not_wrapped() {
        assert_eq!(BitIndex(u64::MAX >> 2).first_sector(), None);
        assert_eq!(SectorCount(u64::MAX).bytes(), None);
        assert_eq!(ResyncExtent(u64::MAX).first_sector(), None);
        assert_eq!(SectorRange::new(Sector(u64::MAX), SectorCount(1)), None);
        assert_eq!(SectorRange::from_bytes(Sector(0), 513), None);
    }

    proptest! {
        #[test]
        fn a_sector_lies_in_its_bit_and_extents(sector in 0..EIB) {
            let s = Sector(sector);
            let first = s.bit().first_sector().unwrap();
            prop_assert!(first <= s && s.0 - first.0 < 8);
            let extent = s.resync_extent().first_sector().unwrap();
            prop_assert!(extent <= s && s.0 - extent.0 < ResyncExtent::SECTORS.0);
            if let Some(al) = s.al_extent() {
                prop_assert!(al.first_sector() <= s);
                prop_assert!(s.0 - al.first_sector().0 < AlExtent::SECTORS.0);
                prop_assert_eq!(al.resync_extent(), s.resync_extent());
                prop_assert_eq!(al.bitmap_page(), s.bit().page());
                prop_assert!(al.first_bit() <= s.bit());
            }
        }

        #[test]
        fn overlap_is_symmetric_and_matches_the_definition(
            a in 0_u64..64, la in 0_u64..16, b in 0_u64..64, lb in 0_u64..16,
        ) {
            let x = SectorRange::new(Sector(a), SectorCount(la)).unwrap();
            let y = SectorRange::new(Sector(b), SectorCount(lb)).unwrap();
            let common = (a..a + la).any(|s| (b..b + lb).contains(&s));
            prop_assert_eq!(x.overlaps(y), common);
            prop_assert_eq!(y.overlaps(x), common);
            if lb > 0 {
                let inside = (b..b + lb).all(|s| (a..a + la).contains(&s));
                prop_assert_eq!(x.contains(y), inside);
            }
        }
    }
}
