//! What a hostile or broken peer can do: end the connection, with a line in the log, and nothing
//! else. Most was found by `make fuzz`; see `tests/fuzz`.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::{DiskConfig, Name, NetConfig};
use drbd_core::data::{AppIo, Incoming, Submit};
use drbd_core::epoch::EPOCH_WRITES_MAX;
use drbd_core::input::{AdminRequest, BackingFacts, DigestLengths};
use drbd_core::request::{Op, RequestId};
use drbd_core::resource::Front;
use drbd_core::state::mask;
use drbd_core::time::Duration;
use drbd_format::state_word::StateWord;
use drbd_format::types::{ConnState, DiskState, Role, Uuid};
use drbd_format::units::Sector;
use drbd_format::wire::packet::Packet;
use drbd_format::wire::payload::{
    Barrier, BarrierAck, BlockAck, BlockId, BlockRequest, Data, DataFlags, DelayProbe, State,
    StateChange,
};
use drbd_format::wire::settings::SyncUuid;
use pair::both::{shape, Pair};
use pair::node::{Node, V};

const GOOD: &str = "cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate r-----";
const DETACH: AdminRequest = AdminRequest::Detach {
    volume: V,
    force: false,
};

/// The peer of this node sends a packet that no peer in its right mind would send.
fn inject(node: &mut Node, packet: &Packet<'_>) {
    let terms = *node.core.data.terms();
    let mut bytes = vec![0; 8192];
    let len = packet.encode(&terms, 0, &mut bytes).expect("expressible");
    node.data_in.extend(&bytes[..len]);
}

fn change(mask: u32, value: u32) -> StateChange {
    StateChange {
        mask: StateWord(mask),
        value: StateWord(value),
    }
}

/// As the peer sees it: connection states that it may not ask for, our role, our disk, pauses,
/// parts of fields.
fn impertinent() -> Vec<StateChange> {
    let mut all = vec![
        change(mask::PEER, 2 << 2),
        change(mask::PDSK, DiskState::Diskless.to_wire() << 13),
        change(mask::PDSK, DiskState::Failed.to_wire() << 13),
        change(mask::ROLE, 2),
        change(mask::USER_ISP, mask::USER_ISP),
        change(0x10, 0x10),
        change(0x00d5_d5d5, 0),
        change(u32::MAX, u32::MAX),
    ];
    for &conn in ConnState::ALL {
        let fine = [
            ConnState::Disconnecting,
            ConnState::StartingSyncS,
            ConnState::StartingSyncT,
            ConnState::VerifyS,
            ConnState::WfReportParams,
        ];
        if !fine.contains(&conn) {
            all.push(change(mask::CONN, conn.to_wire() << 4));
        }
    }
    all
}

#[test]
fn a_peer_can_not_ask_for_states_that_are_not_its_to_change() {
    for request in impertinent() {
        for packet in [Packet::ConnStChgReq(request), Packet::StateChgReq(request)] {
            let mut pair = Pair::synced();
            inject(&mut pair.a, &packet);
            pair.run();
            assert_eq!(shape(&mut pair.a), GOOD, "{packet:?}\n{:#?}", pair.a.log);
            let said = pair.a.log.iter().any(|line| line.contains("mask = "));
            assert!(said, "{packet:?}\n{:#?}", pair.a.log);
        }
    }
}

#[test]
fn a_barrier_that_is_never_acknowledged_leaves_no_epoch_behind() {
    let mut pair = Pair::synced();
    pair.a.write(0, 4096, 0x33);
    pair.a.step();
    let write: Vec<u8> = pair.a.data_out.drain(..).collect();
    pair.b.data_in.extend(write);
    inject(&mut pair.b, &Packet::Barrier(Barrier { number: 3 }));
    pair.b.step();
    pair.cut = true;
    assert!(pair.b.notice_end(true));
    pair.run();
    assert_eq!(pair.b.core.counters(V).epochs, 1);
    assert_eq!(pair.b.core.counters(V).unacked, 0);
}

/// `reference/wire.md` 6.3. The rest of the bitmap would be waited for for ever.
#[test]
fn nothing_else_comes_between_the_packets_of_a_bitmap() {
    let other = [
        Packet::UnplugRemote,
        Packet::State(State {
            word: StateWord(0x8000_8000),
        }),
    ];
    for packet in other {
        let mut pair = Pair::synced();
        let words = [0; 129 * 8];
        inject(&mut pair.b, &Packet::Bitmap(&words[..136]));
        inject(&mut pair.b, &packet);
        pair.b.step();
        let state = pair.b.state();
        assert!(state.conn < ConnState::Connected, "{packet:?} {state}");
        pair.until("in sync", Pair::in_sync);
    }
}

/// Hands one whole packet to the node; says what the receiver has to do.
fn receive(node: &mut Node, packet: &Packet<'_>) -> Incoming {
    let terms = *node.core.data.terms();
    let mut bytes = vec![0; 8192];
    let len = packet.encode(&terms, 0, &mut bytes).expect("expressible");
    match node.core.data_front(&bytes[..len], node.now) {
        Front::Packet { incoming, .. } => incoming,
        Front::Need(len) => panic!("{len} bytes wanted"),
    }
}

/// While the control worker waits for a slow disk, a peer that does not stop to change its state
/// has to wait as well: the end of the connection must not find the queue of actions full.
#[test]
fn a_flood_of_states_waits_for_the_control_worker() {
    let mut pair = Pair::synced();
    let word = pair.a.state().to_word() & !mask::ROLE;
    let b = &mut pair.b;
    let states = (0..2000).map(|number| State {
        word: StateWord(word | (1 + number % 2)),
    });
    let took = states.map(|state| receive(b, &Packet::State(state)));
    let all: Vec<Incoming> = took.take_while(|&took| took == Incoming::Done).collect();
    assert!(all.len() > 50 && all.len() < 150, "{} states", all.len());
    let _ = b.core.take_wants();
    assert_eq!(b.core.data_retry(b.now), Incoming::Wait);
    assert!(!b.core.take_wants().receiver, "nobody has done anything");
    let actions = std::iter::from_fn(|| b.core.pop_action()).count();
    assert!(actions >= all.len());
    assert!(b.core.take_wants().receiver);
    assert_eq!(b.core.data_retry(b.now), Incoming::Done);
    pair.run();
    assert_eq!(pair.b.state().conn, ConnState::Connected);
}

/// Metadata that says so takes up all of the device.
#[test]
fn a_disk_without_room_for_data_is_refused_whatever_its_superblock_says() {
    for la_size_sectors in [0, 8, 11_776] {
        let mut pair = Pair::new();
        let facts = BackingFacts {
            max_capacity_sectors: 0,
            la_size_sectors,
            ..pair.a.facts()
        };
        let config = DiskConfig::DEFAULT;
        let request = AdminRequest::Attach {
            volume: V,
            config,
            facts,
        };
        assert_eq!(pair.command(true, request), 111);
        assert_eq!(pair.a.state().disk, DiskState::Diskless);
    }
}

fn detach(pair: &mut Pair, on_a: bool) {
    assert_eq!(pair.command(on_a, DETACH), 1);
}

fn data(sector: u64, block_id: u64, data_len: u32) -> Data {
    Data {
        sector: Sector(sector),
        block_id: BlockId(block_id),
        seq: 0,
        flags: DataFlags(0),
        digest_len: 0,
        data_len,
    }
}

/// A Primary without a disk has asked its peer for the block at sector 64.
fn asking() -> (Pair, RequestId) {
    let mut pair = Pair::synced();
    detach(&mut pair, true);
    let id = sent(&mut pair, Op::Read);
    (pair, id)
}

/// The request for the block at sector 64 that the Primary has sent.
fn sent(pair: &mut Pair, op: Op) -> RequestId {
    let io = AppIo {
        volume: V,
        op,
        sector: Sector(64),
        len_bytes: 4096,
        fua: false,
        preflush: false,
        sync: false,
        may_unmap: false,
        read_ahead: false,
    };
    let now = pair.a.now;
    let Submit::Admitted { id, .. } = pair.a.core.submit(&io, now) else {
        panic!("not admitted");
    };
    let mut buf = vec![0; 8192];
    let sent = pair.a.core.next_packet(&mut buf, now).expect("a request");
    pair.a.core.sent(sent.token, true, now);
    id
}

/// Pages are read into as they were when the request was made: nothing else fits.
#[test]
fn a_read_reply_of_another_length_is_refused() {
    let (mut pair, id) = asking();
    let id = id.to_wire();
    let good = receive(&mut pair.a, &Packet::DataReply(data(64, id, 4096)));
    let fits = |incoming| {
        matches!(
            incoming,
            Incoming::AppPayload {
                len_bytes: 4096,
                ..
            }
        )
    };
    assert!(fits(good));
    let twice = receive(&mut pair.a, &Packet::DataReply(data(64, id, 4096)));
    assert!(matches!(twice, Incoming::Error(_)), "{twice:?}");
    for reply in [
        data(64, id, 512),
        data(64, id, 8192),
        data(64, id, 1 << 20),
        data(72, id, 4096),
        data(64, id + 1, 4096),
        data(64, id + (1 << 32), 4096),
        data(64, u64::MAX - 1, 4096),
    ] {
        let (mut pair, _) = asking();
        let incoming = receive(&mut pair.a, &Packet::DataReply(reply));
        assert!(matches!(incoming, Incoming::Error(_)), "{reply:?}");
        pair.a.step();
        let said = pair.a.log.iter().any(|line| line.contains("ProtocolError"));
        assert!(said, "{:#?}", pair.a.log);
    }
}

#[test]
fn what_a_node_without_a_disk_throws_away_is_bounded() {
    let mut pair = Pair::synced();
    detach(&mut pair, false);
    let write = Packet::Data(data(0, 1, 1 << 20));
    let len_bytes = 1 << 20;
    assert_eq!(receive(&mut pair.b, &write), Incoming::Drain { len_bytes });
    let resync = Packet::RsDataReply(data(0, 1, 1 << 20));
    assert_eq!(receive(&mut pair.b, &resync), Incoming::Drain { len_bytes });
    assert!(pair.b.core.counters(V).unacked <= 2);
}

/// Nothing would make it due: what comes behind it waited for ever.
#[test]
fn the_start_of_a_resync_during_another_run_ends_the_connection() {
    let mut verifies = Pair::synced_with_verify();
    let (start, stop) = (Some(0), u64::MAX);
    let volume = V;
    let verify = AdminRequest::Verify {
        volume,
        start,
        stop,
    };
    verifies.a.admin(verify);
    let mut syncs = Pair::synced();
    syncs.a.admin(AdminRequest::InvalidateRemote { volume });
    for (mut pair, conn) in [
        (verifies, ConnState::VerifyS),
        (syncs, ConnState::SyncSource),
    ] {
        for _ in 0..1000 {
            if pair.a.state().conn != conn {
                pair.round();
            }
        }
        assert_eq!(pair.a.state().conn, conn);
        let uuid = Uuid(0x1234);
        let incoming = receive(&mut pair.a, &Packet::SyncUuid(SyncUuid { uuid }));
        assert!(matches!(incoming, Incoming::Error(_)), "{incoming:?}");
        pair.until("in sync again", Pair::in_sync);
    }
}

/// The first one is that of a run of the disk before: the bitmap would never come, which is behind
/// it on the same socket. The other one is the start of this run.
#[test]
fn only_a_sync_uuid_behind_the_bitmap_is_waited_with() {
    let packet = Packet::SyncUuid(SyncUuid { uuid: Uuid(0x1234) });
    for (on_a, has_bitmap) in [(true, false), (false, false), (false, true)] {
        let mut pair = Pair::synced();
        pair.cut = true;
        pair.a.write(80, 4096, 0x71);
        pair.until("both notice", |pair| {
            let states = [pair.a.state(), pair.b.state()];
            states.iter().all(|state| state.conn < ConnState::Connected)
        });
        pair.cut = false;
        while pair.b.state().conn != ConnState::WfBitMapT {
            let compared = pair.a.state().conn == ConnState::WfBitMapS;
            pair.a.sends_left = compared.then_some(0);
            pair.round_or_time();
        }
        if has_bitmap {
            pair.a.sends_left = None;
            pair.b.sends_left = Some(0);
            pair.run();
        }
        let before = pair.node(on_a).state();
        let incoming = receive(pair.node(on_a), &packet);
        assert_eq!(incoming == Incoming::Wait, has_bitmap, "{incoming:?}");
        assert_eq!(pair.node(on_a).state(), before);
        if !has_bitmap {
            pair.a.sends_left = None;
            pair.until("in sync", Pair::in_sync);
            assert!(pair.a.disk.data == pair.b.disk.data);
        }
    }
}

/// Seed 9593 with a C peer: a target had all the data when the answer to its request came late,
/// and called the disk good that it was going to detach. What was written meanwhile is not on it.
#[test]
fn the_disk_of_a_peer_that_may_detach_it_does_not_become_good() {
    let mut pair = Pair::synced();
    let word = pair.b.state().to_word() & !(mask::SUSP | mask::SUSP_NOD | mask::SUSP_FEN);
    pair.b.admin(DETACH);
    for _ in 0..1000 {
        pair.round();
        if pair.a.state().pdsk == DiskState::Failed {
            break;
        }
    }
    assert_eq!(pair.a.state().pdsk, DiskState::Failed);
    let word = StateWord(word);
    receive(&mut pair.a, &Packet::State(State { word }));
    pair.a.step();
    assert_eq!(pair.a.state().pdsk, DiskState::Failed);
    pair.until("detached", |pair| {
        pair.a.state().pdsk == DiskState::Diskless
    });
}

/// What the peer says on the meta socket: that it can not read what it was asked for.
fn can_not_read(node: &mut Node, sector: u64, block_id: u64) -> bool {
    let ack = Packet::NegDReply(BlockAck {
        sector: Sector(sector),
        block_id: BlockId(block_id),
        len_bytes: 4096,
        seq: 0,
    });
    let terms = *node.core.data.terms();
    let mut bytes = vec![0; 64];
    let len = ack.encode(&terms, 0, &mut bytes).expect("expressible");
    node.core.meta_bytes(&bytes[..len], node.now).is_ok()
}

#[test]
fn a_peer_refuses_only_reads_that_it_was_asked_for() {
    let (mut pair, id) = asking();
    assert!(can_not_read(&mut pair.a, 64, id.to_wire()));
    let (mut pair, id) = asking();
    assert!(!can_not_read(&mut pair.a, 72, id.to_wire()), "sector");
    let (mut pair, id) = asking();
    assert!(!can_not_read(&mut pair.a, 64, id.to_wire() + 1), "id");
    let mut pair = Pair::synced();
    pair.a.write(64, 4096, 1);
    pair.run();
    let id = sent(&mut pair, Op::Write);
    assert!(!can_not_read(&mut pair.a, 64, id.to_wire()), "a write");
}

/// Takes a packet of the meta socket. Answers whether the connection goes on.
fn acked(node: &mut Node, number: u32, set_size: u32) -> bool {
    let ack = Packet::BarrierAck(BarrierAck { number, set_size });
    let terms = *node.core.data.terms();
    let mut bytes = vec![0; 64];
    let len = ack.encode(&terms, 0, &mut bytes).expect("expressible");
    node.core.meta_bytes(&bytes[..len], node.now).is_ok()
}

/// Has written two blocks, which the peer has acknowledged, and sent the barrier if told.
fn with_an_epoch(closed: bool) -> (Pair, u32) {
    let mut pair = Pair::synced();
    for sector in [0, 8] {
        pair.a.write(sector, 4096, 0x33);
    }
    pair.a.told.clear();
    pair.a.step();
    pair.round();
    let barrier = |pair: &Pair| {
        let mut told = pair.a.told.iter();
        told.find(|line| line.starts_with("data 24 bytes 8620ec20 00000003"))
            .cloned()
    };
    while pair.a.ended.len() < 2 {
        pair.round();
    }
    assert_eq!(barrier(&pair), None);
    pair.cut = true;
    if closed {
        for _ in 0..5 {
            pair.pass(Duration::from_millis(100));
        }
        assert!(barrier(&pair).is_some());
    }
    (pair, 0)
}

#[test]
fn a_barrier_ack_names_the_oldest_epoch_that_was_closed_and_all_its_writes() {
    for (closed, beyond, set_size, good) in [
        (true, 0, 2, true),
        (true, 0, 1, false),
        (true, 0, 3, false),
        (true, 1, 2, false),
        (false, 0, 2, false),
        (false, 1, 2, false),
    ] {
        let (mut pair, number) = with_an_epoch(closed);
        let taken = acked(&mut pair.a, number + beyond, set_size);
        assert_eq!(taken, good, "{closed} {beyond} {set_size}");
    }
}

#[test]
fn digests_are_compared_only_if_an_algorithm_was_agreed_on() {
    let request = |digest| BlockRequest {
        sector: Sector(64),
        block_id: BlockId::SYNCER,
        len_bytes: 4096,
        digest,
    };
    let checksum = Packet::CsumRsRequest(request(&[1, 2, 3, 4]));
    let verify = Packet::OvRequest(request(&[]));
    for (packet, algorithm, good) in [
        (&checksum, false, false),
        (&checksum, true, false),
        (&verify, false, false),
        (&verify, true, true),
    ] {
        let mut pair = if algorithm {
            Pair::synced_with_verify()
        } else {
            Pair::synced()
        };
        let incoming = receive(&mut pair.a, packet);
        assert_eq!(
            matches!(incoming, Incoming::Error(_)),
            !good,
            "{incoming:?}"
        );
    }
}

/// Seed 605055: a peer was allowed to detach its disk and then kept it, as it had become the last
/// good one. A disk that is attached later is compared with it nevertheless.
#[test]
fn a_peer_that_keeps_the_disk_it_might_have_detached_has_it_for_the_next_comparison() {
    let mut pair = Pair::synced();
    let failed = DiskState::Failed.to_wire() << 9;
    inject(
        &mut pair.b,
        &Packet::StateChgReq(change(mask::DISK, failed)),
    );
    pair.run();
    assert_eq!(pair.b.state().pdsk, DiskState::Failed);
    detach(&mut pair, false);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.until("in sync", Pair::in_sync);
}

/// Seed 606264: a node that had not heard that the Primary's disk was gone was allowed to
/// invalidate its own data, the last good ones.
#[test]
fn a_resync_for_which_a_disk_is_missing_is_refused() {
    for (mine, conn) in [
        (true, ConnState::StartingSyncT),
        (true, ConnState::StartingSyncS),
        (true, ConnState::VerifyS),
        (false, ConnState::StartingSyncT),
    ] {
        let mut pair = Pair::synced();
        detach(&mut pair, mine);
        pair.until("known", |pair| {
            let states = [pair.a.state(), pair.b.state()];
            states
                .iter()
                .all(|state| state.disk == DiskState::Diskless || state.pdsk == DiskState::Diskless)
        });
        let request = change(mask::CONN, conn.to_wire() << 4);
        receive(&mut pair.a, &Packet::StateChgReq(request));
        let code = reply(&mut pair.a);
        assert_eq!(code, if mine { -5 } else { -4 }, "{conn:?}");
    }
}

/// Seed 947926: the peer had not heard that the Primary's disk had been away, and had what was
/// written meanwhile.
#[test]
fn a_disk_that_is_not_compared_yet_is_the_source_of_no_resync() {
    let mut pair = Pair::synced();
    detach(&mut pair, true);
    pair.b.sends_left = Some(0);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Negotiating);
    let starting = ConnState::StartingSyncT.to_wire() << 4;
    receive(
        &mut pair.a,
        &Packet::StateChgReq(change(mask::CONN, starting)),
    );
    assert_eq!(reply(&mut pair.a), -18);
    assert_eq!(pair.a.state().disk, DiskState::Negotiating);
}

/// Seed 310512: the peer had asked for a verify before it heard of the disk, which lacked what was
/// written meanwhile, and counted as UpToDate without a comparison.
#[test]
fn a_disk_that_is_not_compared_yet_is_not_verified() {
    let mut pair = Pair::synced_with_verify();
    detach(&mut pair, true);
    pair.a.write(800, 4096, 0x71);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    pair.b.sends_left = Some(0);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Negotiating);
    let verify = ConnState::VerifyS.to_wire() << 4;
    receive(
        &mut pair.a,
        &Packet::StateChgReq(change(mask::CONN, verify)),
    );
    assert_eq!(reply(&mut pair.a), -18);
    let state = pair.a.state();
    assert_eq!(
        [state.disk, state.pdsk],
        [DiskState::Negotiating, DiskState::UpToDate]
    );
    assert_eq!(state.conn, ConnState::Connected);
    pair.b.sends_left = None;
    pair.until("in sync", Pair::in_sync);
    assert_eq!(pair.a.disk.data[800 * 512], 0x71);
}

/// The code of the answer to a request of the peer.
fn reply(node: &mut Node) -> i32 {
    let mut reply = [0; 64];
    let len = node.core.next_acks(&mut reply, node.now).unwrap();
    i32::from_be_bytes(reply[len - 4..len].try_into().unwrap())
}

/// Seed 21046: it has not heard yet that the disk, which was just attached, is not good.
#[test]
fn a_node_without_a_disk_may_not_become_primary_on_an_outdated_one() {
    for outdated in [false, true] {
        let mut pair = Pair::synced();
        assert_eq!(pair.role(true, Role::Secondary, false), 1);
        pair.cut = true;
        pair.until("both notice", |pair| {
            pair.a.state().conn < ConnState::Connected && pair.b.state().conn < ConnState::Connected
        });
        if outdated {
            let outdate = AdminRequest::Outdate { volume: V };
            assert_eq!(pair.command(true, outdate), 1);
        }
        detach(&mut pair, false);
        pair.cut = false;
        pair.until("connected", |pair| {
            pair.a.state().conn == ConnState::Connected
        });
        pair.run();
        let request = change(mask::ROLE, 1);
        receive(&mut pair.a, &Packet::StateChgReq(request));
        assert_eq!(reply(&mut pair.a), if outdated { -2 } else { 1 });
    }
}

/// Hands a packet of the meta socket to the node. Answers whether the connection goes on.
fn hears(node: &mut Node, packet: &Packet<'_>, number: u16) -> bool {
    let terms = *node.core.data.terms();
    let mut bytes = vec![0; 64];
    let len = packet.encode(&terms, number, &mut bytes);
    let taken = node
        .core
        .meta_bytes(&bytes[..len.expect("expressible")], node.now);
    taken.is_ok() && node.state().conn == ConnState::Connected
}

/// `reference/wire.md` 3.1, 3.2: it says nothing, on either socket.
#[test]
fn a_probe_of_the_delay_is_ignored() {
    let probe = Packet::DelayProbe(DelayProbe {
        seq: 1,
        offset_us: 200,
    });
    let mut pair = Pair::synced();
    assert_eq!(receive(&mut pair.a, &probe), Incoming::Done);
    assert!(hears(&mut pair.a, &probe, 0));
    pair.run();
    assert_eq!(shape(&mut pair.a), GOOD, "{:#?}", pair.a.log);
}

/// No peer has so many writes in an epoch (`max-epoch-size` is 20000 at most).
#[test]
fn an_epoch_without_an_end_ends_the_connection() {
    let mut pair = Pair::synced();
    let flush = Packet::Data(Data {
        flags: DataFlags::FLUSH,
        ..data(0, 1, 0)
    });
    let mut buf = [0; 4096];
    for number in 1..=EPOCH_WRITES_MAX + 1 {
        let incoming = receive(&mut pair.b, &flush);
        let goes_on = incoming == Incoming::Done;
        assert_eq!(goes_on, number <= EPOCH_WRITES_MAX, "{number}");
        let now = pair.b.now;
        let _ = pair.b.core.next_acks(&mut buf, now);
    }
    pair.b.step();
    assert!(pair.b.log.iter().any(|line| line.contains("ProtocolError")));
}

/// A packet as before the versions have been agreed on.
fn early(command: u16, len: u16) -> Vec<u8> {
    let [command, len_bytes] = [command, len].map(u16::to_be_bytes);
    let mut bytes = [[0x83, 0x74], [0x02, 0x67], command, len_bytes].concat();
    bytes.resize(8 + usize::from(len), 0);
    bytes
}

/// What becomes of a node that gets this first, or, if it wants that peers authenticate themselves,
/// next.
fn first_word(authenticates: bool, packet: &[u8]) -> ConnState {
    let mut config = NetConfig::DEFAULT;
    let mut hmac = 0;
    if authenticates {
        config.shared_secret = Name::new(b"secret").unwrap();
        config.cram_hmac_alg = Name::new(b"sha256").unwrap();
        hmac = 32;
    }
    let digests = DigestLengths {
        hmac,
        ..DigestLengths::default()
    };
    let mut pair = Pair::new();
    pair.attach();
    pair.a.admin(AdminRequest::Connect { config, digests });
    pair.a.step();
    pair.a.sockets_up(false, 1);
    while pair.a.step() {}
    if authenticates {
        // Nothing is newer than version 86, and no feature is offered.
        let mut features = early(0xfffe, 72);
        features[8..12].copy_from_slice(&86_u32.to_be_bytes());
        features[16..20].copy_from_slice(&86_u32.to_be_bytes());
        pair.a.data_in.extend(features);
        while pair.a.step() {}
    }
    pair.a.data_in.extend(packet);
    while pair.a.step() {}
    pair.a.state().conn
}

/// `reference/wire.md` 4.1, 4.2. That will not change, however often it is tried.
#[test]
fn who_begins_with_another_packet_is_left_alone() {
    let damaged = [&[0x83, 0x74, 0x02, 0x68][..], &early(0xfffe, 72)[4..]].concat();
    let (features, challenge) = (0xfffe, 0x10);
    for (authenticates, packet, alone) in [
        (false, early(features, 71), true),
        (false, early(features, 80), true),
        (false, early(challenge, 64), true),
        (false, early(0x13, 0), true),
        (false, early(0x99, 8), true),
        (false, damaged.clone(), false),
        (true, early(challenge, 63), true),
        (true, early(challenge, 129), true),
        (true, early(0x0b, 24), true),
        (true, early(0x0e, 3), true),
        (true, early(0x99, 8), true),
        (true, damaged, false),
    ] {
        let conn = first_word(authenticates, &packet);
        let left = conn == ConnState::StandAlone;
        assert_eq!(left, alone, "{conn} {authenticates} {packet:x?}");
    }
}

/// What a volume has sent another one can not answer, and is not blamed for.
#[test]
fn an_answer_names_the_volume_of_what_was_asked() {
    let ack = |id: RequestId| BlockAck {
        sector: Sector(64),
        block_id: BlockId(id.to_wire()),
        len_bytes: 4096,
        seq: 0,
    };
    type Make = fn(BlockAck) -> Packet<'static>;
    let packets: [(Op, Make); 5] = [
        (Op::Write, Packet::WriteAck),
        (Op::Write, Packet::RecvAck),
        (Op::Write, Packet::Superseded),
        (Op::Write, Packet::RetryWrite),
        (Op::Read, Packet::NegDReply),
    ];
    for (op, packet) in packets {
        for (number, good) in [(0, true), (1, false)] {
            let mut pair = Pair::synced_with_two_volumes();
            if op == Op::Read {
                detach(&mut pair, true);
            } else {
                pair.a.write(64, 4096, 1);
                pair.run();
            }
            let id = sent(&mut pair, op);
            let packet = packet(ack(id));
            assert_eq!(hears(&mut pair.a, &packet, number), good, "{packet:?}");
        }
    }
    let mut pair = Pair::synced_with_two_volumes();
    pair.a.write(64, 4096, 1);
    pair.run();
    let id = sent(&mut pair, Op::Write);
    assert!(hears(&mut pair.a, &Packet::NegAck(ack(id)), 1));
    let waits = pair.a.core.counters(V).pending;
    assert_eq!(waits, 1, "the volume that was asked has not answered");
}

#[test]
fn data_come_from_the_volume_that_was_asked() {
    for (number, good) in [(0, true), (1, false)] {
        let mut pair = Pair::synced_with_two_volumes();
        detach(&mut pair, true);
        let id = sent(&mut pair, Op::Read);
        let reply = Packet::DataReply(data(64, id.to_wire(), 4096));
        let terms = *pair.a.core.data.terms();
        let mut bytes = vec![0; 128];
        let len = reply.encode(&terms, number, &mut bytes).unwrap();
        let now = pair.a.now;
        let front = pair.a.core.data_front(&bytes[..len], now);
        let Front::Packet { incoming, .. } = front else {
            panic!("all is there");
        };
        let taken = matches!(incoming, Incoming::AppPayload { .. });
        assert_eq!(taken, good, "{incoming:?}");
    }
}
