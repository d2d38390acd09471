//! The examples of `reference/wire.md` 12.2, round trips, truncation and random bytes.

use super::super::features::ProtocolVersion;
use super::super::payload::{BlockId, DataFlags};
use super::super::settings::{QueueLimits, RateController, SizeFlags, UuidFlags};
use super::*;
use crate::state_word::StateWord;
use crate::types::{AfterSbPolicy, Protocol, Uuid, UuidSet};
use crate::units::{Sector, SectorCount};
use proptest::prelude::*;

fn terms(version: u32, features: u32, integrity_len: u8) -> Terms {
    let version = ProtocolVersion::new(version).unwrap();
    Terms {
        version,
        features: FeatureFlags(features),
        integrity_len,
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

/// Demands that `packet` becomes exactly `hex`, and `hex` exactly `packet`.
fn golden(terms: &Terms, stream: Stream, volume: u16, packet: Packet<'_>, hex: &str) {
    let expected = bytes(hex);
    let mut buf = vec![0x5a; 4096 + 64];
    let len = packet.encode(terms, volume, &mut buf).unwrap();
    assert_eq!(&buf[..len], expected, "{packet:?}");
    let received = decode_front(terms, stream, &expected).unwrap().unwrap();
    assert_eq!(received.packet, packet);
    assert_eq!(received.frame.volume(), volume);
    assert!(received.rest.is_empty());
    for len in 0..expected.len() {
        assert!(decode_front(terms, stream, &expected[..len])
            .unwrap()
            .is_none());
        assert!(matches!(
            packet.encode(terms, volume, &mut buf[..len]),
            Err(EncodeError::NoSpace { .. })
        ));
    }
}

fn sample_data(seq: u32, flags: u32, data_len: u32) -> Data {
    let (sector, block_id) = (Sector(0x1234_5678), BlockId(0x8877_6655_4433_2211));
    Data {
        sector,
        block_id,
        seq,
        flags: DataFlags(flags),
        digest_len: 0,
        data_len,
    }
}

const WRITE: &str = "00 00 00 00 12 34 56 78 88 77 66 55 44 33 22 11 00 00 00 01";

#[test]
fn examples_of_the_handshake_are_reproduced() {
    use Stream::{Data, Initial};
    let all = terms(101, 15, 0);
    golden(
        &Terms::INITIAL,
        Initial,
        0,
        Packet::InitialData,
        "83 74 02 67 ff f2 00 00",
    );
    golden(
        &Terms::INITIAL,
        Initial,
        0,
        Packet::InitialMeta,
        "83 74 02 67 ff f1 00 00",
    );
    let features = "83 74 02 67 ff fe 00 48 00 00 00 56 00 00 00 0f 00 00 00 65 00 00 00 00"
        .to_owned()
        + &" 00".repeat(56);
    golden(
        &Terms::INITIAL,
        Data,
        0,
        Packet::ConnectionFeatures(Offer::OURS),
        &features,
    );

    let challenge: Vec<u8> = (0..64).collect();
    let hex: String = challenge
        .iter()
        .map(|byte| format!(" {byte:02x}"))
        .collect();
    let hex = "86 20 ec 20 00 00 00 10 00 00 00 40 00 00 00 00".to_owned() + &hex;
    golden(&all, Data, 0, Packet::AuthChallenge(&challenge), &hex);
    let response = "5f 5d 48 5f 22 28 77 6a d7 71 0a a4 7d 15 a4 d6 \
                    17 44 db b9 a2 a3 e5 64 7f 5a 1b bf cf 80 15 e1";
    let hex = "86 20 ec 20 00 00 00 11 00 00 00 20 00 00 00 00 ".to_owned() + response;
    golden(&all, Data, 0, Packet::AuthResponse(&bytes(response)), &hex);

    let settings = ProtocolSettings {
        protocol: Protocol::C,
        after_sb_0p: AfterSbPolicy::Disconnect,
        after_sb_1p: AfterSbPolicy::Disconnect,
        after_sb_2p: AfterSbPolicy::Disconnect,
        discard_my_data: false,
        dry_run: false,
        two_primaries: false,
        integrity_alg: "",
    };
    let hex = "86 20 ec 20 00 00 00 0b 00 00 00 19 00 00 00 00 00 00 00 03".to_owned()
        + &" 00".repeat(21);
    golden(&all, Data, 0, Packet::Protocol(settings), &hex);

    let state = Packet::State(State {
        word: StateWord(0xd082),
    });
    let hex = "86 20 ec 20 00 01 00 0e 00 00 00 04 00 00 00 00 00 00 d0 82";
    golden(&all, Data, 1, state, hex);
}

#[test]
fn example_of_sizes_is_reproduced() {
    let queue = QueueLimits {
        physical_block_size: 4096,
        logical_block_size: 512,
        io_min: 4096,
        discard_enabled: true,
        ..QueueLimits::default()
    };
    let sizes = Sizes {
        disk: SectorCount(0x20_0000),
        user: SectorCount(0),
        current: SectorCount(0x20_0000),
        max_bio_bytes: 1 << 20,
        queue_order_type: 0,
        flags: SizeFlags(0),
        queue: Some(queue),
    };
    let hex = "86 20 ec 20 00 00 00 0d 00 00 00 38 00 00 00 00 \
               00 00 00 00 00 20 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 20 00 00 \
               00 10 00 00 00 00 00 00 00 00 10 00 00 00 02 00 00 00 00 00 00 00 10 00 \
               00 00 00 00 01 00 00 00";
    golden(
        &terms(101, 15, 0),
        Stream::Data,
        0,
        Packet::Sizes(sizes),
        hex,
    );
}

#[test]
fn examples_of_writes_and_acks_are_reproduced() {
    use Stream::{Data, Meta};
    let (all, old) = (terms(101, 15, 0), terms(96, 15, 0));
    let hex = |head: &str, tail: &str| format!("{head} {WRITE} {tail}");

    let data = Packet::Data(sample_data(1, 0x102, 4096));
    golden(
        &all,
        Data,
        0,
        data,
        &hex(
            "86 20 ec 20 00 00 00 00 00 00 10 18 00 00 00 00",
            "00 00 01 02",
        ),
    );
    let data = Packet::Data(sample_data(1, 2, 4096));
    golden(
        &old,
        Data,
        0,
        data,
        &hex("83 74 02 67 00 00 10 18", "00 00 00 02"),
    );
    let h95 = bytes(&hex("83 5a 00 00 00 00 10 18", "00 00 00 02"));
    assert_eq!(
        decode_front(&old, Data, &h95).unwrap().unwrap().packet,
        data
    );
    let data = Packet::Data(sample_data(1, 2, 131_072));
    golden(
        &old,
        Data,
        0,
        data,
        &hex("83 5a 00 00 00 02 00 18", "00 00 00 02"),
    );

    let ack = BlockAck {
        sector: Sector(0x1234_5678),
        block_id: BlockId(0x8877_6655_4433_2211),
        len_bytes: 4096,
        seq: 1,
    };
    let ack_hex = "86 20 ec 20 00 00 00 16 00 00 00 18 00 00 00 00 \
                   00 00 00 00 12 34 56 78 88 77 66 55 44 33 22 11 00 00 10 00 00 00 00 01";
    golden(&all, Meta, 0, Packet::WriteAck(ack), ack_hex);

    let barrier = Packet::Barrier(Barrier {
        number: 0x0700_0000,
    });
    let hex = "86 20 ec 20 00 00 00 03 00 00 00 08 00 00 00 00 07 00 00 00 00 00 00 00";
    golden(&all, Data, 0, barrier, hex);
    let ack = Packet::BarrierAck(BarrierAck {
        number: 0x0700_0000,
        set_size: 1,
    });
    let hex = "86 20 ec 20 00 00 00 1c 00 00 00 08 00 00 00 00 07 00 00 00 00 00 00 01";
    golden(&all, Meta, 0, ack, hex);
}

#[test]
fn examples_of_discards_are_reproduced() {
    let trim = |seq, flags| Trim {
        sector: Sector(0x1234_5678),
        block_id: BlockId(0x8877_6655_4433_2211),
        seq,
        flags: DataFlags(flags),
        len_bytes: 1 << 20,
    };
    let all = terms(101, 15, 0);
    let head = "00 00 00 00 12 34 56 78 88 77 66 55 44 33 22 11";
    let hex = format!(
        "86 20 ec 20 00 00 00 31 00 00 00 1c 00 00 00 00 {head} \
         00 00 00 02 00 00 01 40 00 10 00 00"
    );
    golden(&all, Stream::Data, 0, Packet::Trim(trim(2, 64 + 256)), &hex);
    let hex = format!(
        "86 20 ec 20 00 00 00 36 00 00 00 1c 00 00 00 00 {head} \
         00 00 00 03 00 00 05 40 00 10 00 00"
    );
    golden(
        &all,
        Stream::Data,
        0,
        Packet::Zeroes(trim(3, 1024 + 256 + 64)),
        &hex,
    );
}

#[test]
fn examples_of_state_changes_resync_and_verify_are_reproduced() {
    use Stream::{Data, Meta};
    let all = terms(101, 15, 0);
    let change = StateChange {
        mask: StateWord(0x1f0),
        value: StateWord(0x10),
    };
    let hex = "86 20 ec 20 00 00 00 2a 00 00 00 08 00 00 00 00 00 00 01 f0 00 00 00 10";
    golden(&all, Data, 0, Packet::ConnStChgReq(change), hex);
    let reply = Packet::ConnStChgReply(StateChangeReply { code: 1 });
    let hex = "86 20 ec 20 00 00 00 2b 00 00 00 04 00 00 00 00 00 00 00 01";
    golden(&all, Meta, 0, reply, hex);
    let reply = Packet::StateChgReply(StateChangeReply { code: -19 });
    let hex = "86 20 ec 20 00 00 00 1d 00 00 00 04 00 00 00 00 ff ff ff ed";
    golden(&all, Meta, 0, reply, hex);

    let request = BlockRequest {
        sector: Sector(8),
        block_id: BlockId::SYNCER,
        len_bytes: 4096,
        digest: &[],
    };
    let hex = "86 20 ec 20 00 00 00 09 00 00 00 18 00 00 00 00 \
               00 00 00 00 00 00 00 08 ff ff ff ff ff ff ff ff 00 00 10 00 00 00 00 00";
    golden(&all, Data, 0, Packet::RsDataRequest(request), hex);
    let result = BlockAck {
        sector: Sector(2048),
        block_id: BlockId::OUT_OF_SYNC,
        len_bytes: 4096,
        seq: 5,
    };
    let hex = "86 20 ec 20 00 00 00 20 00 00 00 18 00 00 00 00 \
               00 00 00 00 00 00 08 00 00 00 00 00 00 00 12 68 00 00 10 00 00 00 00 05";
    golden(&all, Meta, 0, Packet::OvResult(result), hex);
}

#[test]
fn examples_of_bitmaps_are_reproduced() {
    let all = terms(101, 15, 0);
    for code in ["e2 c8 b7 c0 8b 00", "52 97 cb cf a8 00"] {
        let hex = "86 20 ec 20 00 00 00 24 00 00 00 06 00 00 00 00 ".to_owned() + code;
        golden(
            &all,
            Stream::Data,
            0,
            Packet::CompressedBitmap(&bytes(code)),
            &hex,
        );
    }
    let hex = "86 20 ec 20 00 00 00 24 00 00 00 05 00 00 00 00 b2 7f cf de 03";
    golden(
        &all,
        Stream::Data,
        0,
        Packet::CompressedBitmap(&bytes("b2 7f cf de 03")),
        hex,
    );
    let words = "09 00 00 00 00 00 00 00 01 00 00 00 08 00 00 00";
    let hex = "86 20 ec 20 00 00 00 04 00 00 00 10 00 00 00 00 ".to_owned() + words;
    golden(&all, Stream::Data, 0, Packet::Bitmap(&bytes(words)), &hex);
    let hex = "86 20 ec 20 00 00 00 04 00 00 00 00 00 00 00 00";
    golden(&all, Stream::Data, 0, Packet::Bitmap(&[]), hex);
}

#[test]
fn settings_have_the_length_of_their_version() {
    let param = SyncParam {
        resync_rate_kib: 250,
        verify_alg: Some("crc32c"),
        csums_alg: Some("sha1"),
        controller: Some(RateController {
            plan_ahead_tenths: 20,
            delay_target_tenths: 10,
            fill_target_sectors: 100,
            max_rate_kib: 102_400,
        }),
    };
    let mut buf = [0; 256];
    let mut len = |version, packet: Packet<'_>| {
        let terms = terms(version, 15, 0);
        packet.encode(&terms, 0, &mut buf).unwrap() - terms.version.header_len()
    };
    assert_eq!(len(87, Packet::SyncParam(param)), 4);
    assert_eq!(len(88, Packet::SyncParam(param)), 4 + 7);
    assert_eq!(len(89, Packet::SyncParam89(param)), 132);
    assert_eq!(len(94, Packet::SyncParam89(param)), 132);
    assert_eq!(len(95, Packet::SyncParam89(param)), 148);
    assert_eq!(len(101, Packet::SyncParam89(param)), 148);
}

#[test]
fn names_without_end_or_with_control_bytes_are_refused() {
    let all = terms(101, 15, 0);
    let mut packet = vec![0; 24];
    packet[3] = 3;
    let refused = |name: &[u8]| {
        let payload = [&packet, name].concat();
        let len = u32::try_from(payload.len()).unwrap();
        let header = Header {
            volume: 0,
            command: 0x0b,
            payload_len: len,
        };
        let frame = Frame::check(&all, Stream::Data, &header).unwrap();
        Packet::decode(&all, &frame, &payload).is_err()
    };
    assert!(!refused(b"\0"));
    assert!(!refused(b"sha256\0"));
    assert!(refused(b"sha256"));
    assert!(refused(&[b'a'; 64]));
    assert!(refused(b"sha\x0a256\0"));
    assert!(refused(b"sha\xff\0"));
}

#[test]
fn a_write_without_data_has_to_be_a_flush() {
    let all = terms(101, 15, 0);
    let mut buf = [0; 64];
    let mut accepted = |flags| {
        let len = Packet::Data(sample_data(1, flags, 0))
            .encode(&all, 0, &mut buf)
            .unwrap();
        decode_front(&all, Stream::Data, &buf[..len]).is_ok()
    };
    assert!(accepted(DataFlags::FLUSH.0));
    assert!(!accepted(DataFlags::FUA.0));
}

#[test]
fn what_was_not_agreed_upon_is_not_sent() {
    let mut buf = [0; 256];
    let trim = Packet::Trim(Trim {
        sector: Sector(0),
        block_id: BlockId(1),
        seq: 1,
        flags: DataFlags::DISCARD,
        len_bytes: 512,
    });
    assert!(trim.encode(&terms(101, 1, 0), 0, &mut buf).is_ok());
    assert!(trim.encode(&terms(101, 14, 0), 0, &mut buf).is_err());
    let notice = Packet::OutOfSync(BlockRange {
        sector: Sector(0),
        len_bytes: 4096,
    });
    assert!(notice.encode(&terms(95, 15, 0), 0, &mut buf).is_err());
}

/// Decodes `payload` as `command` if the table of lengths lets it pass.
fn try_decode(
    terms: &Terms,
    stream: Stream,
    command: Command,
    payload: &[u8],
) -> Option<Result<(), PacketError>> {
    let payload_len = u32::try_from(payload.len()).unwrap();
    let header = Header {
        volume: 0,
        command: command.to_wire(),
        payload_len,
    };
    let frame = Frame::check(terms, stream, &header).ok()?;
    let fixed = &payload[..frame.fixed_len() as usize];
    for len in 0..fixed.len() {
        let error = Packet::decode(terms, &frame, &fixed[..len]).unwrap_err();
        assert_eq!(error, PacketError::Size(command, len));
    }
    let packet = match Packet::decode(terms, &frame, fixed) {
        Ok(packet) => packet,
        Err(error) => return Some(Err(error)),
    };
    // What was accepted can be sent again and means the same.
    let mut buf = vec![0; 4096 + 64];
    if command.may_be_sent(terms) {
        let len = packet.encode(terms, 0, &mut buf).unwrap();
        let again = decode_front(terms, stream, &buf[..len]).unwrap().unwrap();
        assert_eq!(again.packet, packet);
        assert_eq!(again.frame, frame_of_encoded(&frame, &again.frame));
    }
    Some(Ok(()))
}

/// A name may be followed by garbage that is not sent again: only then may the length differ.
fn frame_of_encoded(first: &Frame, again: &Frame) -> Frame {
    let named = [
        Command::Protocol,
        Command::ProtocolUpdate,
        Command::SyncParam,
    ];
    if named.contains(&first.command()) && again.fixed_len() <= first.fixed_len() {
        return *again;
    }
    *first
}

/// A generator that needs no crate: xorshift64*.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Bytes that are small numbers now and then, so that more of them pass the first checks.
    fn fill(&mut self, buf: &mut [u8]) {
        let zeroes = self.next() % 4;
        for byte in buf {
            let random = self.next();
            *byte = if (random >> 8) % 4 < zeroes {
                0
            } else {
                random as u8
            };
        }
    }
}

#[test]
fn no_bytes_make_any_decoder_panic() {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut payload = vec![0; 4096];
    let mut accepted = 0;
    for _ in 0..400 {
        let version = 86 + (noise.next() % 16) as u32;
        let terms = terms(
            version,
            (noise.next() % 16) as u32,
            (noise.next() % 65) as u8,
        );
        for &command in Command::ALL {
            for stream in [Stream::Initial, Stream::Data, Stream::Meta] {
                let (min, max) = command.payload_limits(&terms);
                let max = max.min(4096);
                let len = (min + (noise.next() % u64::from(max - min + 1)) as u32) as usize;
                noise.fill(&mut payload[..len]);
                let result = try_decode(&terms, stream, command, &payload[..len]);
                accepted += u32::from(result == Some(Ok(())));
            }
        }
    }
    assert!(
        accepted > 1000,
        "only {accepted} packets were accepted: the test tests nothing"
    );
}

#[test]
fn no_stream_of_bytes_makes_the_receiver_panic() {
    let mut noise = Noise(42);
    let mut buf = vec![0; 512];
    for round in 0..20_000_u32 {
        noise.fill(&mut buf);
        let version = 86 + round % 16;
        let terms = terms(version, round % 16, 0);
        let command = Command::ALL[round as usize % Command::ALL.len()];
        let header = Header {
            volume: 0,
            command: command.to_wire(),
            payload_len: (noise.next() % 200) as u32,
        };
        header.encode(terms.version, &mut buf).unwrap();
        for stream in [Stream::Initial, Stream::Data, Stream::Meta] {
            let mut rest = &buf[..];
            while let Ok(Some(received)) = decode_front(&terms, stream, rest) {
                assert!(received.rest.len() < rest.len());
                rest = received.rest;
            }
        }
    }
}

fn names() -> impl Strategy<Value = String> {
    "[!-~]{0,63}"
}

proptest! {
    #[test]
    fn protocol_settings_survive_the_wire(
        version in 86_u32..=101, protocol in 1_u32..=3, sb in [0_u32..=10, 0..=10, 0..=10],
        flags: [bool; 3], name in names(),
    ) {
        let policy = |number| AfterSbPolicy::from_wire(number).unwrap();
        let settings = ProtocolSettings {
            protocol: Protocol::from_wire(protocol).unwrap(),
            after_sb_0p: policy(sb[0]),
            after_sb_1p: policy(sb[1]),
            after_sb_2p: policy(sb[2]),
            discard_my_data: flags[0],
            dry_run: flags[1],
            two_primaries: flags[2],
            integrity_alg: if version == 86 { "" } else { &name },
        };
        let (terms, packet) = (terms(version, 15, 0), Packet::Protocol(settings));
        let mut buf = [0xcc; 128];
        let len = packet.encode(&terms, 0, &mut buf).unwrap();
        let received = decode_front(&terms, Stream::Data, &buf[..len]).unwrap().unwrap();
        prop_assert_eq!(received.packet, packet);
    }

    #[test]
    fn sync_settings_survive_the_wire(
        version in 86_u32..=101, numbers: [u32; 5], verify in names(), csums in names(),
    ) {
        let controller = RateController {
            plan_ahead_tenths: numbers[1],
            delay_target_tenths: numbers[2],
            fill_target_sectors: numbers[3],
            max_rate_kib: numbers[4],
        };
        let param = SyncParam {
            resync_rate_kib: numbers[0],
            verify_alg: (version >= 88).then_some(&*verify),
            csums_alg: (version >= 89).then_some(&*csums),
            controller: (version >= 95).then_some(controller),
        };
        let terms = terms(version, 15, 0);
        let packet =
            if version < 89 { Packet::SyncParam(param) } else { Packet::SyncParam89(param) };
        let mut buf = [0xcc; 256];
        let len = packet.encode(&terms, 0, &mut buf).unwrap();
        let received = decode_front(&terms, Stream::Data, &buf[..len]).unwrap().unwrap();
        prop_assert_eq!(received.packet, packet);
    }

    #[test]
    fn generations_and_sizes_survive_the_wire(
        uuids: [u64; 4], bits_set: u64, flags: u64, sectors in [0..1_u64 << 54, 0..9, 0..9],
        max_bio_bytes in 512_u32.., long: bool,
    ) {
        let terms = terms(101, if long { 15 } else { 11 }, 0);
        let set = UuidSet {
            current: Uuid(uuids[0]),
            bitmap: Uuid(uuids[1]),
            history: [Uuid(uuids[2]), Uuid(uuids[3])],
        };
        let uuids = Packet::Uuids(Uuids { set, bits_set, flags: UuidFlags(flags) });
        let sizes = Packet::Sizes(Sizes {
            disk: SectorCount(sectors[0]),
            user: SectorCount(sectors[1]),
            current: SectorCount(sectors[2]),
            max_bio_bytes,
            queue_order_type: 0,
            flags: SizeFlags(3),
            queue: long.then_some(QueueLimits { logical_block_size: 512, ..Default::default() }),
        });
        for packet in [uuids, sizes] {
            let mut buf = [0xcc; 128];
            let len = packet.encode(&terms, 7, &mut buf).unwrap();
            let received = decode_front(&terms, Stream::Data, &buf[..len]).unwrap().unwrap();
            prop_assert_eq!(received.packet, packet);
            prop_assert_eq!(received.frame.volume(), 7);
        }
    }

    #[test]
    fn ranges_that_leave_64_bits_are_refused(sector: u64, sectors in 1_u32..=2048) {
        let request = BlockRequest {
            sector: Sector(sector),
            block_id: BlockId(0),
            len_bytes: sectors * 512,
            digest: &[],
        };
        let all = terms(101, 15, 0);
        let mut buf = [0; 64];
        let len = Packet::DataRequest(request).encode(&all, 0, &mut buf).unwrap();
        let end = sector.checked_add(u64::from(sectors)).and_then(|end| end.checked_mul(512));
        prop_assert_eq!(decode_front(&all, Stream::Data, &buf[..len]).is_ok(), end.is_some());
    }
}

#[test]
fn a_peer_takes_requests_of_a_sector_at_least() {
    let terms = terms(100, 0, 0);
    for (max_bio_bytes, taken) in [(511, false), (512, true), (4096, true)] {
        let packet = Packet::Sizes(Sizes {
            disk: SectorCount(8),
            user: SectorCount(0),
            current: SectorCount(8),
            max_bio_bytes,
            queue_order_type: 0,
            flags: SizeFlags(0),
            queue: None,
        });
        let mut buf = [0; 128];
        let len = packet.encode(&terms, 0, &mut buf).unwrap();
        let read = decode_front(&terms, Stream::Data, &buf[..len]);
        assert_eq!(read.is_ok(), taken, "{max_bio_bytes}");
    }
}

/// Nobody acts on them (`reference/wire.md` 3.3), and there are disks with blocks of 2 MiB, or of
/// no power of two.
#[test]
fn a_peer_may_have_blocks_of_any_size() {
    let all = terms(101, 15, 0);
    for size in [0, 1, 513, 4096, 1536, 3 << 19, 1 << 21, 1 << 31, u32::MAX] {
        let queue = QueueLimits {
            physical_block_size: size,
            logical_block_size: size,
            alignment_offset: size,
            io_min: size,
            io_opt: size,
            ..QueueLimits::default()
        };
        let packet = Packet::Sizes(Sizes {
            disk: SectorCount(8),
            user: SectorCount(0),
            current: SectorCount(8),
            max_bio_bytes: 4096,
            queue_order_type: 0,
            flags: SizeFlags(0),
            queue: Some(queue),
        });
        let mut buf = [0; 128];
        let len = packet.encode(&all, 0, &mut buf).unwrap();
        let read = decode_front(&all, Stream::Data, &buf[..len]);
        assert_eq!(read.unwrap().unwrap().packet, packet, "{size}");
    }
}

/// Everything that a receiver reserves or throws away follows from these numbers.
#[test]
fn no_length_in_a_header_reserves_more_than_was_negotiated() {
    let mut lengths: Vec<u32> = (0..64).map(|shift| u32::MAX >> (shift / 2)).collect();
    lengths.extend((0..32).flat_map(|shift| [1 << shift, (1 << shift) + 24, (1 << shift) + 512]));
    let mut taken = 0;
    for (version, integrity_len) in [(86, 0), (90, 4), (95, 16), (100, 20), (101, 64)] {
        let terms = terms(version, 15, integrity_len);
        for &command in Command::ALL {
            for stream in [Stream::Initial, Stream::Data, Stream::Meta] {
                for &payload_len in &lengths {
                    let header = Header {
                        volume: 0,
                        command: command.to_wire(),
                        payload_len,
                    };
                    let Ok(frame) = super::super::command::Frame::check(&terms, stream, &header)
                    else {
                        continue;
                    };
                    taken += 1;
                    assert!(frame.fixed_len() <= 4088, "{command} {payload_len}");
                    assert!(frame.data_len() <= 1 << 20, "{command} {payload_len}");
                    assert!(frame.digest_len() <= u32::from(integrity_len));
                    let whole = frame.fixed_len() + frame.digest_len() + frame.data_len();
                    assert_eq!(whole, payload_len);
                }
            }
        }
    }
    assert!(
        taken > 300,
        "only {taken} were accepted: the test tests nothing"
    );
}

#[test]
fn a_digest_longer_than_any_algorithm_has_is_refused() {
    let terms = terms(101, 15, 0);
    let commands = [
        Command::CsumRsRequest,
        Command::OvReply,
        Command::AuthResponse,
    ];
    for command in commands {
        for payload_len in [0, 24 + 65, 4096, 1 << 31, u32::MAX] {
            let header = Header {
                volume: 0,
                command: command.to_wire(),
                payload_len,
            };
            let frame = super::super::command::Frame::check(&terms, Stream::Data, &header);
            assert!(frame.is_err(), "{command} {payload_len}");
        }
    }
}
