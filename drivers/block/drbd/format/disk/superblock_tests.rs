//! The examples of `reference/metadata.md` 9.2 and 9.3, round trips and damaged blocks.

use super::super::layout::Placement;
use super::*;
use proptest::prelude::*;

/// `reference/metadata.md` 9.2.
const CREATED: &str = "\
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 04 \
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 \
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 \
    00 00 00 00 00 00 00 00 00 00 00 80 83 74 02 6b \
    00 00 00 50 ff ff ff c0 00 00 01 01 ff ff ff b8 \
    00 00 10 00 00 00 00 00 00 00 00 01 00 00 00 08";

/// `reference/metadata.md` 9.3.
const IN_USE: &str = "\
    00 00 00 00 00 01 ff b0 11 22 33 44 55 66 77 89 \
    01 02 03 04 05 06 07 08 00 00 00 00 00 00 00 04 \
    00 00 00 00 00 00 00 00 aa bb cc dd ee ff 00 11 \
    00 00 00 00 00 00 00 00 00 00 00 13 83 74 02 6c \
    00 00 00 50 ff ff ff c0 00 00 00 43 ff ff ff b8 \
    00 00 10 00 00 00 10 00 00 00 00 01 00 00 00 08";

fn block(hex: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = hex
        .split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    bytes.resize(BLOCK_BYTES, 0);
    bytes
}

fn created() -> Superblock {
    let device = SectorCount(131_072);
    let layout = Layout::compute(Placement::Internal, device, Striping::DEFAULT).unwrap();
    Superblock::new(&layout)
}

#[test]
fn a_new_superblock_has_the_documented_bytes() {
    let mut bytes = vec![0x77; BLOCK_BYTES];
    created().encode(&mut bytes).unwrap();
    assert_eq!(bytes, block(CREATED));
    assert_eq!(Superblock::decode_clean(&bytes), Ok(created()));
}

#[test]
fn a_superblock_in_use_has_the_documented_bytes() {
    let superblock = Superblock {
        la_size: SectorCount(130_992),
        uuids: UuidSet {
            current: Uuid(0x1122_3344_5566_7789),
            bitmap: Uuid(0x0102_0304_0506_0708),
            history: [Uuid(4), Uuid(0)],
        },
        device_uuid: 0xaabb_ccdd_eeff_0011,
        flags: MdFlags::CONSISTENT
            .or(MdFlags::PRIMARY_IND)
            .or(MdFlags::WAS_UP_TO_DATE),
        magic: Magic::Unclean,
        al_nr_extents: 67,
        la_peer_max_bio_bytes: 4096,
        ..created()
    };
    let mut bytes = vec![0; BLOCK_BYTES];
    superblock.encode(&mut bytes).unwrap();
    assert_eq!(bytes, block(IN_USE));
    assert_eq!(Superblock::decode(&bytes), Ok(superblock));
    assert_eq!(
        std::format!("{}", superblock.uuids),
        "1122334455667789:0102030405060708:0000000000000004:0000000000000000"
    );
}

#[test]
fn attaching_refuses_unclean_metadata_before_anything_else() {
    let mut bytes = block(IN_USE);
    bytes[80..84].fill(0);
    assert_eq!(
        Superblock::decode_clean(&bytes),
        Err(SuperblockError::Unclean)
    );
    assert_eq!(
        Superblock::decode(&bytes),
        Err(SuperblockError::BytesPerBit(0))
    );
    let mut bytes = block(CREATED);
    assert!(!Superblock::decode(&bytes).unwrap().is_unclean());
    bytes[59] = 0x13;
    assert_eq!(
        Superblock::decode_clean(&bytes),
        Err(SuperblockError::Unclean)
    );
    assert!(Superblock::decode(&bytes).unwrap().is_unclean());
}

#[test]
fn other_versions_and_foreign_blocks_are_told_apart() {
    let with_magic = |last: u8| {
        let mut bytes = block(CREATED);
        bytes[63] = last;
        Superblock::decode(&bytes).map(|superblock| superblock.magic)
    };
    assert_eq!(with_magic(0x69), Err(SuperblockError::Version(6)));
    assert_eq!(with_magic(0x6a), Err(SuperblockError::Version(7)));
    assert_eq!(with_magic(0x6b), Ok(Magic::Clean));
    assert_eq!(with_magic(0x6c), Ok(Magic::Unclean));
    assert_eq!(with_magic(0x6d), Err(SuperblockError::Version(9)));
    assert_eq!(with_magic(0x6e), Err(SuperblockError::Magic(0x8374_026e)));
    let empty = vec![0; BLOCK_BYTES];
    assert_eq!(
        Superblock::decode_clean(&empty),
        Err(SuperblockError::Magic(0))
    );
}

#[test]
fn damaged_geometry_is_refused() {
    let with = |offset: usize, value: u32| {
        let mut bytes = block(CREATED);
        bytes[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
        Superblock::decode_clean(&bytes)
    };
    assert_eq!(with(80, 512), Err(SuperblockError::BytesPerBit(512)));
    assert!(matches!(with(88, 0), Err(SuperblockError::Striping(_))));
    assert!(matches!(with(92, 7), Err(SuperblockError::Striping(_))));
    assert!(matches!(
        with(92, 4_194_305),
        Err(SuperblockError::Striping(_))
    ));
    let mut bytes = block(CREATED);
    bytes[88..96].fill(0);
    assert_eq!(
        Superblock::decode_clean(&bytes).unwrap().striping,
        Striping::DEFAULT
    );
}

#[test]
fn every_truncation_is_refused() {
    let bytes = block(CREATED);
    for len in 0..BLOCK_BYTES {
        let error = SuperblockError::Buffer(WrongBufferSize(len));
        assert_eq!(Superblock::decode(&bytes[..len]), Err(error));
    }
    assert!(created().encode(&mut [0; 95]).is_err());
}

proptest! {
    #[test]
    fn decoding_gives_back_what_was_encoded(
        numbers: [u64; 6], flags: u32, offsets: [i32; 2], sizes: [u32; 3], clean: bool,
    ) {
        let superblock = Superblock {
            la_size: SectorCount(numbers[0]),
            uuids: UuidSet {
                current: Uuid(numbers[1]),
                bitmap: Uuid(numbers[2]),
                history: [Uuid(numbers[3]), Uuid(numbers[4])],
            },
            device_uuid: numbers[5],
            flags: MdFlags(flags),
            magic: if clean { Magic::Clean } else { Magic::Unclean },
            md_size_sect: sizes[0],
            al_offset: offsets[0],
            al_nr_extents: sizes[1],
            bm_offset: offsets[1],
            la_peer_max_bio_bytes: sizes[2],
            striping: Striping::new(3, 4).unwrap(),
        };
        let mut bytes = vec![0xee; BLOCK_BYTES];
        superblock.encode(&mut bytes).unwrap();
        prop_assert_eq!(Superblock::decode(&bytes), Ok(superblock));
        prop_assert!(bytes[96..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(fields: [[u8; 32]; 3], magic in 0x69_u8..0x70) {
        let mut bytes = fields.concat();
        bytes.resize(BLOCK_BYTES, 0);
        bytes[60..64].copy_from_slice(&[0x83, 0x74, 0x02, magic]);
        if fields[0][0] & 1 == 0 {
            bytes[80..96].copy_from_slice(&block(CREATED)[80..96]);
        }
        for superblock in [Superblock::decode(&bytes), Superblock::decode_clean(&bytes)] {
            for index in [-3, -2, 0, 7] {
                let placement = Placement::from_index(index).unwrap();
                if let Ok(superblock) = superblock {
                    let device = SectorCount(superblock.la_size.0 >> 20);
                    let _ = Layout::from_superblock(placement, device, &superblock);
                }
            }
        }
    }
}

#[test]
fn a_flag_is_set_and_cleared_without_the_others() {
    let flags = MdFlags::CONSISTENT.with(MdFlags::AL_CLEAN, true);
    assert!(flags.contains(MdFlags::CONSISTENT) && flags.contains(MdFlags::AL_CLEAN));
    assert_eq!(flags.with(MdFlags::AL_CLEAN, false), MdFlags::CONSISTENT);
}
