//! Peers that speak older versions of the protocol, back to 86: what works with each, and what is
//! refused because the peer would not understand it.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use std::collections::VecDeque;

use drbd_core::config::{DiskConfig, Name, NetConfig};
use drbd_core::input::{AdminRequest, DigestLengths};
use drbd_format::types::{ConnState, DiskState, Protocol, Role};
use drbd_format::units::Sector;
use drbd_format::wire::command::Command;
use drbd_format::wire::features::FeatureFlags;
use drbd_format::wire::packet::Packet;
use drbd_format::wire::payload::{Barrier, BlockId, Data, DataFlags};
use pair::both::{said, shape, Pair, SECTORS};
use pair::node::{command_of, digest_len, Node, V};

const VERSIONS: std::ops::RangeInclusive<u32> = 86..=101;
const DISCONNECT: AdminRequest = AdminRequest::Disconnect { force: false };

fn connect(config: NetConfig) -> AdminRequest {
    let digests = DigestLengths::default();
    AdminRequest::Connect { config, digests }
}

fn fresh(version: u32) -> Pair {
    let mut pair = Pair::new();
    pair.version = version;
    pair.attach();
    pair
}

/// In sync, `a` primary.
fn synced(version: u32) -> Pair {
    let mut pair = fresh(version);
    pair.connect(NetConfig::DEFAULT);
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.until("first sync", Pair::in_sync);
    pair
}

#[test]
fn peers_of_every_version_sync_write_leave_and_catch_up() {
    for version in VERSIONS {
        let mut pair = synced(version);
        let agreed = format!("Agreed network protocol version {version}");
        assert!(said(&pair.a.log, &agreed), "{:#?}", pair.a.log);
        pair.a.write(16, 8192, 0xaa);
        pair.run();
        assert!(pair.a.disk.data == pair.b.disk.data, "version {version}");
        assert_eq!(pair.command(false, DISCONNECT), 101, "version {version}");
        pair.a.write(160, 8192, 0xbb);
        pair.run();
        assert_eq!(pair.command(false, connect(NetConfig::DEFAULT)), 1);
        pair.until("caught up", Pair::in_sync);
        assert!(pair.a.disk.data == pair.b.disk.data, "version {version}");
        let sent = pair.a.core.counters(V).sent_sectors;
        assert!((16..SECTORS / 2).contains(&sent), "{sent} of {version}");
    }
}

#[test]
fn each_version_is_sent_the_packets_it_knows() {
    let (new, old) = (Command::ConnStChgReq, Command::StateChgReq);
    for version in VERSIONS {
        let mut pair = synced(version);
        assert_eq!(pair.command(false, DISCONNECT), 101);
        let sent = &pair.b.sent;
        let has = |command: Command| sent.contains(&command.to_wire());
        assert_eq!(has(Command::SyncParam), version < 89, "{version}");
        assert_eq!(has(Command::SyncParam89), version >= 89, "{version}");
        assert_eq!((has(new), has(old)), (version >= 100, version < 100));
    }
}

#[test]
fn a_trial_needs_a_peer_that_knows_trials() {
    let trial = NetConfig {
        tentative: true,
        ..NetConfig::DEFAULT
    };
    for version in [91, 92] {
        let mut pair = fresh(version);
        assert_eq!(pair.command(true, connect(trial)), 1);
        assert_eq!(pair.command(false, connect(NetConfig::DEFAULT)), 1);
        let alone = |pair: &mut Pair| pair.a.state().conn == ConnState::StandAlone;
        pair.until("over", alone);
        let refused = said(&pair.a.log, "--dry-run is not supported by peer");
        assert_eq!(refused, version < 92, "{:#?}", pair.a.log);
        assert_eq!(said(&pair.a.log, "dry-run connect:"), version >= 92);
    }
}

#[test]
fn requests_are_no_larger_than_the_version_allows() {
    for version in VERSIONS {
        let pair = synced(version);
        let limit = match version {
            ..=94 => 32 << 10,
            95..=99 => 128 << 10,
            _ => 1 << 20,
        };
        assert_eq!(pair.a.max_bio_bytes, limit, "version {version}");
        assert_eq!(pair.b.max_bio_bytes, limit, "version {version}");
    }
}

/// `reference/wire.md` 8, 25. Without a peer larger ones are carried out as well.
#[test]
fn discards_are_no_larger_than_the_features_allow() {
    for features in [FeatureFlags::WSAME, FeatureFlags::NONE] {
        let mut pair = Pair::new();
        pair.features = !FeatureFlags::WSAME.0 | features.0;
        pair.a.discards = true;
        pair.attach();
        pair.role(true, Role::Primary, true);
        assert_eq!(pair.a.most[0], 128 << 20);
        pair.connect(NetConfig::DEFAULT);
        pair.until("first sync", Pair::in_sync);
        let limit = if features == FeatureFlags::WSAME {
            128 << 20
        } else {
            4 << 20
        };
        assert_eq!(pair.a.most, [limit; 2]);
    }
}

#[test]
fn the_first_sync_is_skipped_only_with_a_peer_that_knows_how() {
    let request = AdminRequest::NewCurrentUuid {
        volume: V,
        clear_bitmap: true,
    };
    for version in [89, 90] {
        let mut pair = fresh(version);
        pair.connect(NetConfig::DEFAULT);
        let code = if version < 90 { 151 } else { 101 };
        assert_eq!(pair.command(true, request), code, "version {version}");
        pair.run();
        assert_eq!(pair.in_sync(), version >= 90, "version {version}");
    }
}

#[test]
fn verify_needs_a_peer_that_knows_it() {
    let config = NetConfig {
        verify_alg: Name::new(b"crc32c").unwrap(),
        ..NetConfig::DEFAULT
    };
    let verify = AdminRequest::Verify {
        volume: V,
        start: None,
        stop: u64::MAX,
    };
    for version in [87, 88, 89] {
        let mut pair = fresh(version);
        for on_a in [true, false] {
            let digests = DigestLengths {
                verify: 4,
                ..DigestLengths::default()
            };
            pair.node(on_a)
                .admin(AdminRequest::Connect { config, digests });
        }
        pair.run();
        assert_eq!(pair.role(true, Role::Primary, true), 1);
        pair.until("first sync", Pair::in_sync);
        let code = if version < 88 { -17 } else { 1 };
        assert_eq!(pair.command(true, verify), code, "version {version}");
    }
}

#[test]
fn space_is_called_clean_only_to_a_peer_that_knows_the_word() {
    for version in [92, 93] {
        let mut pair = Pair::new();
        pair.version = version;
        pair.sync_front(4096);
        let resize = AdminRequest::Resize {
            volume: V,
            size_sectors: SECTORS,
            force: false,
            assume_clean: true,
            max_capacity_sectors: SECTORS,
        };
        let code = if version < 93 { 153 } else { 101 };
        assert_eq!(pair.command(true, resize), code, "version {version}");
    }
}

#[test]
fn options_that_both_must_share_change_online_only_with_a_peer_that_can_be_told() {
    let changes = [
        NetConfig {
            protocol: Protocol::B,
            ..NetConfig::DEFAULT
        },
        NetConfig {
            two_primaries: true,
            ..NetConfig::DEFAULT
        },
        NetConfig::DEFAULT,
    ];
    for version in [99, 100] {
        for config in changes {
            let mut pair = synced(version);
            let digests = DigestLengths::default();
            let request = AdminRequest::NetOptions { config, digests };
            let refused = version < 100 && config != NetConfig::DEFAULT;
            let code = if refused { 163 } else { 101 };
            assert_eq!(pair.command(true, request), code, "version {version}");
            pair.run();
            let told = Command::ProtocolUpdate.to_wire();
            assert_eq!(pair.a.sent.contains(&told), version >= 100);
            assert_eq!(pair.a.state().conn, ConnState::Connected);
        }
    }
}

/// Before version 87 a peer cannot name any, so it has none.
#[test]
fn a_digest_of_the_data_that_the_peer_does_not_name_ends_the_connection() {
    let config = NetConfig {
        integrity_alg: Name::new(b"crc32c").unwrap(),
        ..NetConfig::DEFAULT
    };
    for version in VERSIONS {
        let mut pair = fresh(version);
        assert_eq!(pair.command(true, connect(config)), 1);
        assert_eq!(pair.command(false, connect(NetConfig::DEFAULT)), 1);
        let alone = |pair: &mut Pair| pair.a.state().conn == ConnState::StandAlone;
        pair.until("refused", alone);
        assert!(said(&pair.a.log, "data-integrity-alg"), "{version}");
    }
}

#[test]
fn a_disk_is_given_back_with_its_peer_of_every_version() {
    for version in VERSIONS {
        let mut pair = synced(version);
        let detach = AdminRequest::Detach {
            volume: V,
            force: false,
        };
        assert_eq!(pair.command(false, detach), 1, "version {version}");
        pair.a.write(160, 8192, 0xbb);
        pair.run();
        pair.b.attach(DiskConfig::DEFAULT);
        pair.until("caught up", Pair::in_sync);
        assert_eq!(pair.b.state().disk, DiskState::UpToDate);
        assert!(pair.a.disk.data == pair.b.disk.data, "version {version}");
    }
}

/// Takes all packets out of a stream.
fn packets(stream: &mut VecDeque<u8>) -> Vec<(u16, Vec<u8>)> {
    let mut all = Vec::new();
    while !stream.is_empty() {
        let front = stream.make_contiguous();
        let long = |at: usize| u32::from_be_bytes(front[at..at + 4].try_into().unwrap());
        let len = match front[..2] {
            [0x86, 0x20] => 16 + long(8),
            [0x83, 0x5a] => 8 + long(4),
            _ => 8 + (long(4) & 0xffff),
        };
        let command = command_of(front);
        all.push((command, stream.drain(..len as usize).collect()));
    }
    all
}

/// Takes what this node says of its state out of what it sends.
fn hush(node: &mut Node) {
    for (command, packet) in packets(&mut node.data_out) {
        if command != Command::State.to_wire() {
            node.data_out.extend(packet);
        }
    }
}

/// `b` is to be synced. It says nothing when that is over, as peers before version 95, and has
/// ended it.
fn sync_in_silence(pair: &mut Pair) {
    let mut was_target = false;
    for _ in 0..10_000 {
        while pair.b.step() {}
        let state = pair.b.state();
        was_target |= state.conn == ConnState::SyncTarget;
        if was_target && state.conn == ConnState::Connected {
            hush(&mut pair.b);
            pair.run();
            return;
        }
        pair.round_or_time();
    }
    panic!(
        "b never synced: {} {}",
        shape(&mut pair.a),
        shape(&mut pair.b)
    );
}

/// `reference/wire.md` 6.8: before version 96 a source counts its own bits.
#[test]
fn a_source_ends_its_run_though_an_old_target_does_not_say_that_it_is_over() {
    for version in 86..=95 {
        let mut pair = synced(version);
        pair.write_while_away(&[(16, 0xbb), (160, 0xbb)]);
        sync_in_silence(&mut pair);
        let good = "cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate r-----";
        assert_eq!(shape(&mut pair.a), good, "version {version}");
        assert!(pair.in_sync());
        assert!(pair.a.disk.data == pair.b.disk.data, "version {version}");
        pair.break_now();
        pair.until("back", Pair::in_sync);
        assert_eq!(pair.a.core.counters(V).sent_sectors, 0, "version {version}");
    }
}

/// The link breaks when all has been synced and the run has not ended.
fn broken_at_the_end(version: u32) -> Pair {
    let mut pair = synced(version);
    pair.write_while_away(&[(16, 0xbb), (160, 0xbb)]);
    pair.rounds_until("a run", |pair| pair.a.state().is_sync_source());
    pair.rounds_until("no bit", |pair| {
        let mut nodes = [&mut pair.a, &mut pair.b].into_iter();
        nodes.all(|node| node.core.counters(V).out_of_sync_bits == 0)
    });
    assert!(pair.a.state().is_sync_source() && pair.b.state().is_sync_target());
    pair.break_now();
    pair
}

/// `reference/wire.md` 6.8: before version 95 nobody speaks of the end of a run without bits; the
/// target has to hear of it before the source forgets it.
#[test]
fn a_source_of_nothing_gives_an_old_target_time_to_hear_of_the_run() {
    for version in 86..95 {
        let mut pair = broken_at_the_end(version);
        sync_in_silence(&mut pair);
        let state = pair.a.state();
        assert!(state.is_sync_source(), "version {version}: {state}");
        let before = pair.a.now;
        pair.until("over", Pair::in_sync);
        let waited = pair.a.now.since(before).as_millis();
        assert!((10_000..11_000).contains(&waited), "{waited} ms, {version}");
    }
}

/// A run without bits ends on what the target says of it, at once.
#[test]
fn a_source_of_nothing_believes_a_target_that_says_that_there_is_nothing() {
    for version in VERSIONS {
        let mut pair = broken_at_the_end(version);
        let before = pair.a.now;
        pair.until("over", Pair::in_sync);
        let waited = pair.a.now.since(before).as_millis();
        assert!(waited < 9_000, "{waited} ms, {version}");
    }
}

/// `reference/wire.md` 6.6. Before version 89 there is no packet for the digest of a block.
#[test]
fn checksums_are_compared_only_with_a_peer_that_knows_how() {
    for version in VERSIONS {
        let mut pair = synced(version);
        pair.sync_with_checksums(NetConfig::DEFAULT);
        pair.until("in sync", Pair::in_sync);
        assert!(pair.a.disk.data == pair.b.disk.data, "version {version}");
        let asked = Command::CsumRsRequest.to_wire();
        assert_eq!(pair.b.sent.contains(&asked), version >= 89, "{version}");
    }
}

/// What `b` answers to an empty flush of an older node and the barrier behind it.
fn flush(version: u32, protocol: Protocol, alg: &str) -> Vec<u16> {
    let integrity_alg = Name::new(alg.as_bytes()).unwrap();
    let config = NetConfig {
        integrity_alg,
        protocol,
        ..NetConfig::DEFAULT
    };
    let integrity = digest_len(&integrity_alg).unwrap_or(0);
    let digests = DigestLengths {
        integrity,
        ..DigestLengths::default()
    };
    let mut pair = fresh(version);
    for on_a in [true, false] {
        pair.node(on_a)
            .admin(AdminRequest::Connect { config, digests });
    }
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.until("first sync", Pair::in_sync);
    let told = match protocol {
        _ if version < 100 => DataFlags::NONE,
        Protocol::A => DataFlags::NONE,
        Protocol::B => DataFlags::SEND_RECEIVE_ACK,
        Protocol::C => DataFlags::SEND_WRITE_ACK,
    };
    let flush = Packet::Data(Data {
        sector: Sector(0),
        block_id: BlockId(7),
        seq: 0,
        flags: told.or(DataFlags::FLUSH),
        digest_len: integrity.into(),
        data_len: 0,
    });
    let barrier = Packet::Barrier(Barrier { number: 9 });
    let terms = *pair.b.core.data.terms();
    let mut bytes = [0; 128];
    for (packet, digest) in [(flush, integrity), (barrier, 0)] {
        let len = packet.encode(&terms, 0, &mut bytes).expect("expressible");
        pair.b.data_in.extend(&bytes[..len]);
        pair.b.data_in.extend(vec![0; digest.into()]);
    }
    while pair.b.step() {}
    assert_eq!(pair.b.state().conn, ConnState::Connected);
    let answers = packets(&mut pair.b.meta_out);
    answers.into_iter().map(|(command, _)| command).collect()
}

/// `reference/wire.md` 5.2, 5.4.
#[test]
fn an_empty_flush_is_acknowledged_as_any_write() {
    for version in [95, 99, 101] {
        for alg in ["", "md5"] {
            for (protocol, ack) in [
                (Protocol::A, None),
                (Protocol::B, Some(Command::RecvAck)),
                (Protocol::C, Some(Command::WriteAck)),
            ] {
                let due = ack.into_iter().chain([Command::BarrierAck]);
                let due: Vec<u16> = due.map(Command::to_wire).collect();
                let answers = flush(version, protocol, alg);
                assert_eq!(answers, due, "{version} {protocol:?} {alg}");
            }
        }
    }
}
