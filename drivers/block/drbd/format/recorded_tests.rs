//! Everything in `tests/golden/recorded`, bytes of the C driver, is understood completely and
//! comes out again byte for byte.

use crate::disk::al_replay::{replay, Outcome, Source, SLOTS_LEN};
use crate::disk::al_transaction::{decode, encode, encode_initialised, AlBlock, Update};
use crate::disk::layout::{Layout, Placement, Striping};
use crate::disk::superblock::{Magic, MdFlags, Superblock};
use crate::disk::BLOCK_BYTES;
use crate::units::SectorCount;
use crate::wire::command::{Command, Stream};
use crate::wire::features::{FeatureFlags, Offer, Terms};
use crate::wire::packet::{decode_front, Packet, Received};
use crate::wire::payload::BlockId;
use crate::wire::vli::{RunWriter, Runs};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Size of the recorded devices: 4 MiB.
const DEVICE: SectorCount = SectorCount(8192);

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../../tests/golden/recorded")
        .join(name)
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(folder(name)).unwrap()
}

fn streams(name: &str) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = std::fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|file| file.starts_with("stream"))
        .map(|file| {
            let bytes = std::fs::read(folder(name).join(&file)).unwrap();
            (file, bytes)
        })
        .collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

fn layout() -> Layout {
    Layout::compute(Placement::Internal, DEVICE, Striping::DEFAULT).unwrap()
}

/// Copies `bytes` without what the C driver leaves uninitialised: the padding of requests.
fn without_stale_padding(terms: &Terms, packet: &Packet<'_>, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let padding = match packet {
        Packet::DataRequest(_)
        | Packet::RsDataRequest(_)
        | Packet::OvRequest(_)
        | Packet::OvReply(_)
        | Packet::CsumRsRequest(_)
        | Packet::RsThinReq(_) => 20..24,
        Packet::OutOfSync(_) | Packet::RsDeallocated(_) => 12..16,
        _ => 0..0,
    };
    let header_len = terms.version.header_len();
    bytes[header_len + padding.start..header_len + padding.end].fill(0);
    bytes
}

/// Reads one packet, demands that it is reproduced, and returns the bytes behind its tail.
fn check_packet<'a>(
    terms: &mut Terms,
    received: &Received<'a>,
    original: &[u8],
    cursor: &mut u64,
) -> &'a [u8] {
    let Received {
        frame,
        packet,
        rest,
    } = *received;
    let mut again = vec![0x11; 8192];
    let len = packet.encode(terms, frame.volume(), &mut again).unwrap();
    assert_eq!(
        again[..len],
        without_stale_padding(terms, &packet, original),
        "{packet:?}"
    );

    let (digest, rest) = rest.split_at(frame.digest_len() as usize);
    let (data, rest) = rest.split_at(frame.data_len() as usize);
    if !digest.is_empty() {
        assert_eq!(digest, crc32c::crc32c(data).to_le_bytes());
    }
    match packet {
        Packet::ConnectionFeatures(offer) => {
            assert_eq!(offer, Offer::OURS);
            *terms = Offer::agree(FeatureFlags::OFFERED, &offer).unwrap();
        }
        Packet::Protocol(settings) => {
            assert!(["", "crc32c"].contains(&settings.integrity_alg));
            terms.integrity_len = if settings.integrity_alg.is_empty() {
                0
            } else {
                4
            };
        }
        Packet::CompressedBitmap(payload) => check_bitmap(payload, cursor),
        Packet::OvResult(ack) => {
            assert!([BlockId::IN_SYNC, BlockId::OUT_OF_SYNC].contains(&ack.block_id));
        }
        _ => {}
    }
    rest
}

/// Expands a compressed bitmap, demands that the same runs give the same bytes.
fn check_bitmap(payload: &[u8], cursor: &mut u64) {
    let left = layout().usable(DEVICE).bits().0 - *cursor;
    let mut runs = Runs::new(payload, left).unwrap();
    let lengths: Vec<_> = runs.by_ref().map(Result::unwrap).collect();
    assert_eq!(runs.left(), 0);
    let mut again = vec![0x22; payload.len()];
    let mut writer = RunWriter::new(&mut again, lengths[0].set).unwrap();
    for run in &lengths {
        writer.push(run.len).unwrap();
    }
    assert_eq!(writer.finish(), Some(payload.len()));
    assert_eq!(again, payload);
}

/// Walks through one direction of one connection and counts the commands.
fn walk(name: &str, bytes: &[u8], seen: &mut BTreeMap<&'static str, u32>) {
    let mut terms = Terms::INITIAL;
    let mut rest = bytes;
    let mut stream = Stream::Meta;
    if let Ok(Some(first)) = decode_front(&terms, Stream::Initial, rest) {
        stream = if first.packet == Packet::InitialData {
            Stream::Data
        } else {
            Stream::Meta
        };
        rest = first.rest;
    } else if rest.starts_with(&[0x83, 0x74]) {
        stream = Stream::Data;
    }
    if stream == Stream::Meta {
        terms = Offer::agree(FeatureFlags::OFFERED, &Offer::OURS).unwrap();
    }
    let mut cursor = 0;
    while !rest.is_empty() {
        let offset = bytes.len() - rest.len();
        let received = decode_front(&terms, stream, rest)
            .unwrap_or_else(|error| panic!("{name} at {offset}: {error}"))
            .unwrap_or_else(|| panic!("{name} at {offset}: truncated"));
        let original = &rest[..rest.len() - received.rest.len()];
        *seen.entry(received.packet.command().name()).or_default() += 1;
        rest = check_packet(&mut terms, &received, original, &mut cursor);
    }
}

#[test]
fn recorded_connections_are_understood_and_reproduced() {
    let mut seen = BTreeMap::new();
    for folder in ["plain", "rich"] {
        for (name, bytes) in streams(folder) {
            walk(&format!("{folder}/{name}"), &bytes, &mut seen);
        }
    }
    for command in [
        Command::Data,
        Command::Trim,
        Command::Barrier,
        Command::BarrierAck,
        Command::WriteAck,
        Command::RecvAck,
        Command::CompressedBitmap,
        Command::SyncUuid,
        Command::SyncParam89,
        Command::Sizes,
        Command::Uuids,
        Command::State,
        Command::StateChgReq,
        Command::StateChgReply,
        Command::ConnStChgReq,
        Command::ConnStChgReply,
        Command::AuthChallenge,
        Command::AuthResponse,
        Command::CsumRsRequest,
        Command::OvRequest,
        Command::OvReply,
        Command::OvResult,
        Command::Ping,
        Command::PingAck,
    ] {
        assert!(
            seen.contains_key(command.name()),
            "no {command} among {seen:?}"
        );
    }
}

#[test]
fn recorded_superblocks_are_understood_and_reproduced() {
    for name in ["created", "diverged", "crashed", "clean"] {
        let bytes = file(&format!("plain/superblock-{name}.bin"));
        let superblock = Superblock::decode(&bytes).unwrap();
        let mut again = vec![0x33; BLOCK_BYTES];
        superblock.encode(&mut again).unwrap();
        assert_eq!(again, bytes, "{name}");
        assert_eq!(
            superblock.magic,
            Magic::Unclean,
            "the driver was the last to write"
        );
        let found = Layout::from_superblock(Placement::Internal, DEVICE, &superblock);
        assert_eq!(found, Ok(layout()));
        assert_eq!(superblock.la_size, layout().usable(DEVICE));
        let primary = superblock.flags.contains(MdFlags::PRIMARY_IND);
        assert_eq!(primary, ["diverged", "crashed"].contains(&name), "{name}");
    }
}

/// Encodes what was decoded and returns the block.
fn encode_again(block: &AlBlock<'_>) -> Vec<u8> {
    let mut again = vec![0x44; BLOCK_BYTES];
    match block {
        AlBlock::Initialised => encode_initialised(&mut again).unwrap(),
        AlBlock::Update(transaction) => {
            let updates: Vec<_> = transaction
                .updates()
                .map(|(slot, value)| Update {
                    slot: u16::try_from(slot).unwrap(),
                    value,
                })
                .collect();
            let context: BTreeMap<_, _> = transaction.context().collect();
            let content = |slot| context[&u32::from(slot)];
            encode(transaction.head, &updates, content, crc, &mut again).unwrap();
        }
    }
    again
}

fn crc(bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!0, bytes)
}

#[test]
fn recorded_activity_logs_are_understood_and_reproduced() {
    for name in ["created", "diverged", "crashed", "clean"] {
        let ring = file(&format!("plain/al-{name}.bin"));
        for (index, bytes) in ring.chunks(BLOCK_BYTES).enumerate() {
            let mut block = bytes.to_vec();
            let found = decode(&mut block, crc).unwrap_or_else(|| panic!("{name} {index}"));
            assert_eq!(encode_again(&found), bytes, "{name} {index}");
        }
        let mut slots = vec![None; SLOTS_LEN];
        let mut block = vec![0; BLOCK_BYTES];
        let mut source = Source {
            striping: Striping::DEFAULT,
            read: |index: u32, buf: &mut [u8]| -> Result<(), ()> {
                buf.copy_from_slice(&ring[index as usize * BLOCK_BYTES..][..BLOCK_BYTES]);
                Ok(())
            },
            crc,
            ignored: |slot| panic!("{slot:?}"),
            block: &mut block,
        };
        let result = replay(&mut source, &mut slots).unwrap();
        assert!(matches!(result.outcome, Outcome::Applied { .. }), "{name}");
        assert_eq!(result.corrupt, 0);
        // A device of 4 MiB has one extent; only a node that wrote as primary had it active.
        let active = slots.iter().flatten().count();
        assert_eq!(
            active,
            usize::from(["diverged", "crashed"].contains(&name)),
            "{name}"
        );
    }
}
