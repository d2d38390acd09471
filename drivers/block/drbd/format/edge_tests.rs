//! The last value that is allowed and the first that is not.

use crate::disk::layout::{Layout, Placement, Striping};
use crate::disk::superblock::Superblock;
use crate::netlink::tlv::{Field, Kind, Nest, TlvError, Unknown, Writer};
use crate::options::{Domain, ParseError, Parsed, Section};
use crate::units::{AlExtent, BitIndex, Sector, SectorCount, SectorRange};
use crate::wire::features::{FeatureFlags, Offer, Terms};
use crate::wire::header::{Header, HeaderError, HEADER_LEN_MAX, PAYLOAD_LEN_MAX};

fn range(start: u64, len: u64) -> SectorRange {
    SectorRange::new(Sector(start), SectorCount(len)).unwrap()
}

#[test]
fn the_places_of_an_extent_are_multiples_of_its_size() {
    for number in [0, 1, 7, u32::MAX - 1] {
        let extent = AlExtent(number);
        let number = u64::from(number);
        assert_eq!(extent.first_sector(), Sector(number * AlExtent::SECTORS.0));
        assert_eq!(extent.first_bit(), BitIndex(number * AlExtent::BITS.0));
    }
    let last = BitIndex(u64::MAX >> 3);
    assert_eq!(last.first_sector(), Some(Sector(u64::MAX - 7)));
    assert_eq!(BitIndex(last.0 + 1).first_sector(), None);
}

#[test]
fn ranges_that_only_touch_do_not_overlap() {
    let middle = range(8, 8);
    for (start, len, overlaps) in [
        (0, 8, false),
        (0, 9, true),
        (8, 8, true),
        (15, 1, true),
        (16, 8, false),
        (10, 0, false),
    ] {
        let other = range(start, len);
        assert_eq!(middle.overlaps(other), overlaps, "{start}+{len}");
        assert_eq!(other.overlaps(middle), overlaps, "{start}+{len}");
    }
}

#[test]
fn every_option_takes_its_limits_and_nothing_beyond() {
    let mut numbers = 0;
    let sections = [
        Section::Disk,
        Section::Net,
        Section::Options,
        Section::Startup,
    ];
    for option in sections.iter().flat_map(|section| section.options()) {
        let Domain::Number { min, max, .. } = option.domain else {
            continue;
        };
        numbers += 1;
        let check = |value| option.check(Parsed::Number(value));
        for value in [min, max] {
            assert_eq!(check(value), Ok(()), "{} {value}", option.name);
        }
        let beyond = [min.checked_sub(1), max.checked_add(1)];
        for found in beyond.into_iter().flatten() {
            let refused = matches!(check(found), Err(ParseError::OutOfRange { .. }));
            assert!(refused, "{} {found}", option.name);
        }
    }
    assert!(numbers > 20, "{numbers}");
}

#[test]
fn a_text_that_fills_its_room_lacks_its_end() {
    const TEXT: Field = Field::mandatory(4, "text", Kind::Text(8));
    const BLOB: Field = Field::mandatory(4, "text", Kind::Binary(9));
    let told = |payload: &[u8]| {
        let mut buf = [0; 64];
        let mut writer = Writer::request(&mut buf);
        writer.put(&BLOB, payload).unwrap();
        let len = writer.len();
        Nest::checked(&buf[..len], &[TEXT], Unknown::Refuse).map(|_| ())
    };
    let field = "text";
    assert_eq!(told(b"seven77\0"), Ok(()));
    assert_eq!(told(b"eight888"), Err(TlvError::NotTerminated { field }));
    assert_eq!(told(b"eight888\0"), Err(TlvError::TooLong { field }));
    assert_eq!(told(b"nine99999"), Err(TlvError::TooLong { field }));
}

#[test]
fn a_nest_where_a_value_should_be_is_refused_by_the_kernel_alone() {
    const BLOB: Field = Field::mandatory(4, "blob", Kind::Binary(64));
    const NESTED: u16 = 1 << 15;
    for (nested, unknown, good) in [
        (0, Unknown::Refuse, true),
        (NESTED, Unknown::Refuse, false),
        (NESTED, Unknown::Ignore, true),
    ] {
        let mut buf = [0; 64];
        let mut writer = Writer::request(&mut buf);
        writer.put(&BLOB, &[1, 2, 3, 4]).unwrap();
        let len = writer.len();
        let number = u16::from_ne_bytes([buf[2], buf[3]]) | nested;
        buf[2..4].copy_from_slice(&number.to_ne_bytes());
        let checked = Nest::checked(&buf[..len], &[BLOB], unknown);
        assert_eq!(checked.is_ok(), good, "{nested} {unknown:?}");
    }
}

#[test]
fn a_discard_is_as_large_as_the_peer_knows() {
    let terms = |features| Terms {
        features,
        ..Terms::INITIAL
    };
    assert_eq!(terms(FeatureFlags::NONE).discard_bytes_max(), 4 << 20);
    assert_eq!(terms(FeatureFlags::WSAME).discard_bytes_max(), 128 << 20);
}

#[test]
fn a_peer_that_begins_with_our_newest_version_speaks_it() {
    let flags = FeatureFlags::NONE;
    let agreed = |min, max| {
        let terms = Offer::agree(flags, &Offer { min, max, flags });
        terms.map(|terms| terms.version.number())
    };
    assert_eq!(agreed(101, 101), Ok(101));
    assert_eq!(agreed(101, 121), Ok(101));
    assert!(agreed(102, 102).is_err());
}

#[test]
fn the_largest_payload_is_taken() {
    let version = Offer::agree(FeatureFlags::NONE, &Offer::OURS)
        .unwrap()
        .version;
    let mut buf = [0; HEADER_LEN_MAX];
    let decoded = |payload_len| {
        let header = Header {
            volume: 0,
            command: 0,
            payload_len,
        };
        header.encode(version, &mut buf).unwrap();
        Header::decode(version, &buf).map(|header| header.payload_len)
    };
    let mut decoded = decoded;
    assert_eq!(decoded(PAYLOAD_LEN_MAX), Ok(PAYLOAD_LEN_MAX));
    let above = PAYLOAD_LEN_MAX + 1;
    assert_eq!(decoded(above), Err(HeaderError::TooLong(above)));
}

#[test]
fn an_indexed_slot_has_one_size_and_one_striping() {
    let (placement, device) = (Placement::Indexed(0), SectorCount(1 << 20));
    let layout = Layout::compute(placement, device, Striping::DEFAULT).unwrap();
    let good = Superblock::new(&layout);
    let accepted = |change: &dyn Fn(&mut Superblock)| {
        let mut superblock = good;
        change(&mut superblock);
        Layout::from_superblock(placement, device, &superblock).is_ok()
    };
    assert!(accepted(&|_| ()));
    assert!(!accepted(&|superblock| superblock.md_size_sect += 8));
    let as_long = Striping::new(2, 4).unwrap();
    assert!(!accepted(&|superblock| superblock.striping = as_long));
}

#[test]
fn the_smallest_flexible_device_has_a_page_of_bitmap() {
    let compute = |sectors| {
        let device = SectorCount(sectors);
        Layout::compute(Placement::FlexibleExternal, device, Striping::DEFAULT)
    };
    assert_eq!(compute(80).unwrap().bitmap_sectors(), SectorCount(8));
    assert!(compute(79).is_err());
}
