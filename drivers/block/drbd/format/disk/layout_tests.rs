//! The tables of `reference/metadata.md` 1.4 and properties up to 1 EiB.

use super::super::superblock::Superblock;
use super::*;
use proptest::prelude::*;

fn compute(placement: Placement, sectors: u64) -> Layout {
    Layout::compute(placement, SectorCount(sectors), Striping::DEFAULT).unwrap()
}

/// What one column of the table says.
#[derive(Debug, PartialEq)]
struct Column {
    bitmap: u64,
    md_size: u32,
    md_offset: u64,
    al: (i32, u64),
    bm: (i32, u64),
    usable: u64,
}

fn column(layout: &Layout, data: u64) -> Column {
    Column {
        bitmap: layout.bitmap_sectors().0,
        md_size: layout.md_size_sect(),
        md_offset: layout.superblock().0,
        al: (layout.al_offset(), layout.activity_log().0 * 512),
        bm: (layout.bm_offset(), layout.bitmap().0 * 512),
        usable: layout.usable(SectorCount(data)).0,
    }
}

#[test]
fn worked_examples_are_reproduced() {
    let mib64 = Column {
        bitmap: 8,
        md_size: 80,
        md_offset: 131_064,
        al: (-64, 67_072_000),
        bm: (-72, 67_067_904),
        usable: 130_992,
    };
    for sectors in [131_072, 131_079] {
        assert_eq!(
            column(&compute(Placement::Internal, sectors), sectors),
            mib64
        );
    }
    let gib3 = Column {
        bitmap: 192,
        md_size: 264,
        md_offset: 6_291_448,
        al: (-64, 3_221_188_608),
        bm: (-256, 3_221_090_304),
        usable: 6_291_192,
    };
    assert_eq!(column(&compute(Placement::Internal, 6_291_456), 0), gib3);
    let tib = Column {
        bitmap: 65_536,
        md_size: 65_608,
        md_offset: 2_147_483_640,
        al: (-64, 1_099_511_590_912),
        bm: (-65_600, 1_099_478_036_480),
        usable: 2_147_418_040,
    };
    assert_eq!(column(&compute(Placement::Internal, 2_147_483_648), 0), tib);
    let flexible = Column {
        bitmap: 1976,
        md_size: 2048,
        md_offset: 0,
        al: (8, 4096),
        bm: (72, 36_864),
        usable: 64_749_568,
    };
    assert_eq!(
        column(&compute(Placement::FlexibleExternal, 2048), u64::MAX),
        flexible
    );
    let indexed = Column {
        bitmap: 262_072,
        md_size: 262_144,
        md_offset: 262_144,
        al: (8, 134_221_824),
        bm: (72, 134_254_592),
        usable: 8_587_575_296,
    };
    assert_eq!(
        column(&compute(Placement::Indexed(1), 524_288), u64::MAX),
        indexed
    );
}

#[test]
fn other_stripes_move_the_bitmap() {
    let striping = Striping::new(3, 4).unwrap();
    let layout = Layout::compute(Placement::Internal, SectorCount(131_072), striping).unwrap();
    assert_eq!(
        (
            layout.md_size_sect(),
            layout.al_offset(),
            layout.bm_offset()
        ),
        (112, -96, -104)
    );
    assert_eq!(layout.usable(SectorCount(0)), SectorCount(130_960));
    assert!(Layout::compute(Placement::Indexed(0), SectorCount(1 << 20), striping).is_err());
}

#[test]
fn transactions_go_round_the_stripes() {
    let striping = Striping::new(3, 4).unwrap();
    let blocks: Vec<u32> = (0..12).map(|number| striping.block_of(number)).collect();
    assert_eq!(blocks, [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]);
    let layout = Layout::compute(Placement::Internal, SectorCount(131_072), striping).unwrap();
    let start = layout.activity_log().0;
    assert_eq!(layout.al_sector_of(12 + 4), Sector(start + 5 * 8));
    assert_eq!(layout.al_block(11), Some(Sector(start + 88)));
    assert_eq!(layout.al_block(12), None);
    // reference/metadata.md 9.4.
    let layout = compute(Placement::Internal, 131_072);
    assert_eq!(layout.al_sector_of(5).0 * 512, 67_092_480);
}

#[test]
fn impossible_stripes_are_refused() {
    assert_eq!(Striping::new(0, 0), Ok(Striping::DEFAULT));
    for (stripes, blocks) in [
        (0, 8),
        (8, 0),
        (1, 7),
        (2, 2_097_153),
        (u32::MAX, 2),
        (1 << 16, 1 << 16),
    ] {
        assert_eq!(
            Striping::new(stripes, blocks),
            Err(BadStriping {
                stripes,
                stripe_blocks: blocks
            })
        );
    }
    assert_eq!(Striping::new(1, 4_194_304).unwrap().blocks(), 4_194_304);
}

#[test]
fn the_active_set_fits_the_ring() {
    assert_eq!(Striping::DEFAULT.slots_max(), 6433);
    assert_eq!(Striping::new(1, 72).unwrap().slots_max(), 65_249);
    assert_eq!(Striping::new(1, 73).unwrap().slots_max(), 65_534);
    assert_eq!(Striping::DEFAULT.slots_clamped(0), 67);
    assert_eq!(Striping::DEFAULT.slots_clamped(1237), 1237);
    assert_eq!(Striping::DEFAULT.slots_clamped(u32::MAX), 6433);
}

#[test]
fn the_smallest_device_has_room_for_nothing_but_metadata() {
    let create_min = CREATE_BYTES_MIN / 512;
    assert!(
        compute(Placement::Internal, create_min)
            .usable(SectorCount(0))
            .0
            > 0
    );
    for sectors in 0..80 {
        let device = SectorCount(sectors);
        let error = Layout::compute(Placement::Internal, device, Striping::DEFAULT).unwrap_err();
        assert_eq!(error, LayoutError::TooSmall(device));
    }
    assert_eq!(compute(Placement::Internal, 80).usable(SectorCount(0)).0, 0);
    let device = SectorCount(262_144 * 2 - 1);
    assert!(Layout::compute(Placement::Indexed(1), device, Striping::DEFAULT).is_err());
}

#[test]
fn a_large_external_device_does_not_wrap() {
    let layout = compute(Placement::FlexibleExternal, 1 << 33);
    assert_eq!(layout.md_size_sect(), !7);
    assert!(layout.usable(SectorCount(1 << 41)).0 == 1 << 41);
}

/// A sector count: random, or within one of a power of two, up to 1 EiB.
fn sectors() -> impl Strategy<Value = u64> {
    let near_power = (7_u32..=51, -1_i64..=1)
        .prop_map(|(shift, delta)| (1_u64 << shift).wrapping_add_signed(delta));
    prop_oneof![near_power, 0..=1_u64 << 51, 0..1_u64 << 20]
}

fn striping() -> impl Strategy<Value = Striping> {
    (1_u32..=64, 1_u32..=64).prop_filter_map("too small", |(a, b)| Striping::new(a, b).ok())
}

fn placement() -> impl Strategy<Value = Placement> {
    prop_oneof![
        Just(Placement::Internal),
        Just(Placement::FlexibleExternal),
        (0_u32..256).prop_map(Placement::Indexed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn areas_lie_on_the_device_in_order_and_apart(
        sectors in sectors(), striping in striping(), placement in placement(),
    ) {
        let device = SectorCount(sectors);
        let Ok(layout) = Layout::compute(placement, device, striping) else {
            return Ok(());
        };
        let log = (layout.activity_log().0, striping.sectors().0);
        let bitmap = (layout.bitmap().0, layout.bitmap_sectors().0);
        let superblock = (layout.superblock().0, 8);
        let order = match placement {
            Placement::Internal => [bitmap, log, superblock],
            Placement::FlexibleExternal | Placement::Indexed(_) => [superblock, log, bitmap],
        };
        let mut at = layout.first().0;
        for (start, len) in order {
            prop_assert_eq!(start, at);
            prop_assert_eq!(start % 8, 0);
            at = start + len;
        }
        prop_assert!(at <= sectors);
        prop_assert_eq!(at - layout.first().0, u64::from(layout.md_size_sect()));
        // Data never reaches into the metadata, and every data block has its bit.
        let usable = layout.usable(device);
        if placement.is_internal() {
            prop_assert!(usable.0 <= layout.first().0);
        }
        prop_assert!(usable.bits().0 <= layout.bitmap_bits().0);
        let again = Layout::from_superblock(placement, device, &Superblock::new(&layout));
        prop_assert_eq!(again, Ok(layout));
    }

    #[test]
    fn bitmap_size_agrees_with_the_formula_of_the_tools(sectors in sectors()) {
        let Ok(layout) =
            Layout::compute(Placement::Internal, SectorCount(sectors), Striping::DEFAULT)
        else {
            return Ok(());
        };
        let bits = sectors.div_ceil(8).next_multiple_of(64);
        prop_assert_eq!(layout.bitmap_sectors().0 * 512, (bits / 8).next_multiple_of(4096));
    }

    #[test]
    fn every_page_of_the_bitmap_lies_in_its_area(
        sectors in sectors(), placement in placement(), page: u64,
    ) {
        let Ok(layout) =
            Layout::compute(placement, SectorCount(sectors), Striping::DEFAULT)
        else {
            return Ok(());
        };
        let pages = layout.bitmap_sectors().0.div_ceil(8);
        for page in [0, page % pages, pages - 1] {
            let (start, len) = layout.bitmap_page(BitmapPage(page)).unwrap();
            prop_assert!(start >= layout.bitmap() && (1..=8).contains(&len.0));
            prop_assert!(start.0 + len.0 <= layout.bitmap().0 + layout.bitmap_sectors().0);
        }
        prop_assert_eq!(layout.bitmap_page(BitmapPage(pages)), None);
        prop_assert_eq!(layout.bitmap_page(BitmapPage(u64::MAX)), None);
    }

    #[test]
    fn each_number_of_a_round_has_its_own_block(striping in striping(), number: u32) {
        let mut seen = vec![false; striping.blocks() as usize];
        let start = number - number % striping.blocks();
        for offset in 0..striping.blocks() {
            let block = striping.block_of(start.wrapping_add(offset)) as usize;
            prop_assert!(!std::mem::replace(&mut seen[block], true));
        }
    }

    #[test]
    fn no_superblock_leads_outside_the_device(
        sectors in sectors(), placement in placement(), md_size: u32, al: i32, bm: i32,
        la_size: u64, striping in striping(), near: bool,
    ) {
        let device = SectorCount(sectors);
        let base = compute(Placement::FlexibleExternal, 1 << 20);
        let mut superblock = Superblock::new(&base);
        superblock.la_size = SectorCount(la_size);
        superblock.striping = striping;
        superblock.md_size_sect = md_size;
        superblock.al_offset = if near { 8 } else { al };
        superblock.bm_offset = bm;
        if let Ok(layout) = Layout::from_superblock(placement, device, &superblock) {
            prop_assert!(layout.first().0 + u64::from(layout.md_size_sect()) <= sectors);
            prop_assert!(layout.bitmap().0 + layout.bitmap_sectors().0 <= sectors);
            prop_assert!(layout.activity_log().0 + striping.sectors().0 <= sectors);
        }
    }
}

#[test]
fn every_wrong_offset_is_refused() {
    let device = SectorCount(131_072);
    let good = Superblock::new(&compute(Placement::Internal, device.0));
    let refused = |change: &dyn Fn(&mut Superblock)| {
        let mut superblock = good;
        change(&mut superblock);
        Layout::from_superblock(Placement::Internal, device, &superblock).is_err()
    };
    assert!(!refused(&|_| ()));
    assert!(refused(&|s| s.al_offset = 8));
    assert!(refused(&|s| s.al_offset = -56));
    assert!(refused(&|s| s.bm_offset = -71));
    assert!(refused(&|s| s.bm_offset = -73));
    assert!(refused(&|s| s.md_size_sect = 88));
    assert!(refused(&|s| s.bm_offset = -63));
    assert!(refused(&|s| s.bm_offset = i32::MIN));
    assert!(refused(&|s| s.al_offset = i32::MIN));
    assert!(refused(&|s| s.md_size_sect = u32::MAX));
    assert!(refused(&|s| s.striping = Striping::new(2, 8).unwrap()));
    assert!(refused(&|s| s.la_size = SectorCount(u64::MAX)));
    assert!(refused(&|s| s.la_size = SectorCount(32_768 * 80)));
}

#[test]
fn every_wrong_offset_of_an_external_layout_is_refused() {
    let device = SectorCount(131_072);
    let placement = Placement::FlexibleExternal;
    let good = Superblock::new(&compute(placement, device.0));
    let refused = |change: &dyn Fn(&mut Superblock)| {
        let mut superblock = good;
        change(&mut superblock);
        Layout::from_superblock(placement, device, &superblock).is_err()
    };
    assert!(!refused(&|_| ()));
    // All of it farther from the superblock.
    assert!(refused(&|s| (s.al_offset, s.bm_offset) = (16, 80)));
    assert!(refused(&|s| s.bm_offset = 0));
    assert!(refused(&|s| s.bm_offset = 73));
    assert!(refused(&|s| s.bm_offset = -72));
}

#[test]
fn the_index_number_selects_the_placement() {
    assert_eq!(Placement::from_index(-1), Ok(Placement::Internal));
    assert_eq!(Placement::from_index(-3), Ok(Placement::Internal));
    assert_eq!(Placement::from_index(-2), Ok(Placement::FlexibleExternal));
    assert_eq!(Placement::from_index(255), Ok(Placement::Indexed(255)));
    assert!(Placement::from_index(-4).is_err() && Placement::from_index(i32::MIN).is_err());
    assert_eq!(
        Placement::Indexed(0).device_sectors_min(),
        SectorCount(262_144)
    );
}

#[test]
fn offsets_that_make_no_sense_are_told_with_all_numbers() {
    let device = SectorCount(131_072);
    let mut superblock = Superblock::new(&compute(Placement::Internal, device.0));
    superblock.al_offset = 8;
    let error = Layout::from_superblock(Placement::Internal, device, &superblock).unwrap_err();
    let line = error.log_line(-1).to_string();
    for part in [
        "meta data offsets don't make sense: idx=-1 al_s=1, al_sz4k=8, al_offset=8, bm_offset=",
        "md_capacity=131072",
    ] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn a_device_without_room_has_no_superblock() {
    assert_eq!(Placement::Internal.superblock_of(SectorCount(7)), None);
    assert_eq!(
        Placement::Internal.superblock_of(SectorCount(131_079)),
        Some(Sector(131_064))
    );
    assert_eq!(
        Placement::FlexibleExternal.superblock_of(SectorCount(8)),
        Some(Sector(0))
    );
    assert_eq!(
        Placement::Indexed(2).superblock_of(SectorCount(1 << 20)),
        Some(Sector(2 * 262_144))
    );
    assert_eq!(
        Placement::FlexibleExternal.device_sectors_min(),
        SectorCount(2048)
    );
}

#[test]
fn an_active_set_is_limited_by_the_ring() {
    let small = Striping::new(1, 8).unwrap();
    assert_eq!(small.slots_max(), 7 * 919);
    assert_eq!(small.slots_clamped(1), 67);
    assert_eq!(small.slots_clamped(1237), 1237);
    assert_eq!(small.slots_clamped(60_000), 7 * 919);
    let big = Striping::new(4, 64).unwrap();
    assert_eq!(big.slots_max(), 65_534);
    assert_eq!(Striping::new(1, 72).unwrap().slots_max(), 65_249);
}

#[test]
fn only_internal_metadata_moves_and_only_with_a_device_that_grew() {
    let at = |placement, device| Layout::compute(placement, device, Striping::DEFAULT).unwrap();
    let (old, grown) = (SectorCount(1 << 20), SectorCount((1 << 20) + 8));
    let layout = at(Placement::Internal, old);
    assert!(layout.would_move(grown));
    // The last sectors are not a whole block.
    assert!(!layout.would_move(SectorCount(old.0 + 7)));
    assert!(!layout.would_move(old) && !layout.would_move(SectorCount(old.0 - 8)));
    for placement in [Placement::FlexibleExternal, Placement::Indexed(1)] {
        assert!(!at(placement, old).would_move(grown), "{placement:?}");
    }
}
