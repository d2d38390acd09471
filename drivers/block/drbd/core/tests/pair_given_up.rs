//! Disks that are given up, and what is written, read or flushed meanwhile.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::{DiskConfig, Name, NetConfig, ResourceConfig};
use drbd_core::data::{FlushToken, PeerIo};
use drbd_core::input::{AdminRequest, DigestLengths};
use drbd_core::link::VolumeIndex;
use drbd_core::peer_request::PeerId;
use drbd_core::request::Op;
use drbd_core::time::Duration;
use drbd_format::types::{ConnState, DiskState, Fencing, OnIoError, OnNoData, Protocol, Role};
use drbd_format::wire::command::Command;
use drbd_format::wire::features::FeatureFlags;
use pair::both::Pair;
use pair::node::V;

const SECOND: VolumeIndex = VolumeIndex(1);

/// In the second extent of the activity log, which is in no log.
const COLD: u64 = 8192;

/// Bytes of a discard that needs the feature WSAME.
const LARGE: u32 = (4 << 20) + 4096;

/// The disk of `a` has failed, and its handler runs.
fn with_a_handler() -> Pair {
    let mut pair = Pair::synced();
    let config = DiskConfig {
        on_io_error: OnIoError::CallLocalIoError,
        ..DiskConfig::DEFAULT
    };
    pair.set_disk_options(true, config);
    pair.a.hold_helpers = true;
    pair.a.fail_local = true;
    assert!(pair.a.request(Op::Read, 80, 4096, 0));
    pair.run();
    pair.a.fail_local = false;
    assert_eq!(pair.a.state().disk, DiskState::Failed);
    pair
}

/// The peer alone can mark what is written from then on, and does not know of the disk.
#[test]
fn what_is_written_while_the_handler_for_a_failed_disk_runs_is_marked() {
    let mut pair = with_a_handler();
    pair.b.hold_peer_io = true;
    let taken = pair.a.request(Op::Write, COLD, 4096, 0x71);
    pair.run();
    pair.a.hold_helpers = false;
    pair.a.end_helper();
    pair.run();
    assert!(taken || pair.a.request(Op::Write, COLD, 4096, 0x71));
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Diskless);
    pair.b.hold_peer_io = false;
    pair.run();
    pair.pass(Duration::from_millis(10));
    assert_eq!(pair.a.ended, [Ok(()); 2]);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// Two volumes in sync, `a` primary. The disk of `b` for the first one hangs in the flush for a
/// barrier.
fn with_a_flush_that_hangs() -> (Pair, FlushToken) {
    let mut pair = Pair::synced_with_two_volumes();
    pair.b.hold_peer_io = true;
    pair.a.write(80, 4096, 0x71);
    for _ in 0..100 {
        pair.round_or_time();
        let now = pair.b.now;
        match pair.b.core.next_peer_io(now) {
            Some(PeerIo::Write { id, .. }) => pair.b.core.peer_io_done(id, true, now),
            Some(PeerIo::Flush { token, volume }) if volume == V => {
                pair.b.hold_peer_io = false;
                return (pair, token);
            }
            Some(PeerIo::Flush { token, .. }) => pair.b.core.flush_done(token, true, now),
            Some(PeerIo::Free { .. }) | None => {}
            Some(io) => panic!("{io:?}"),
        }
    }
    panic!("no flush");
}

/// Nobody relies on what that disk holds, and the other volumes wait for the barrier.
#[test]
fn a_flush_that_a_disk_that_is_given_up_keeps_is_not_waited_for() {
    let (mut pair, token) = with_a_flush_that_hangs();
    assert!(pair.a.request_on(SECOND, Op::Write, 80, 4096, 0x72));
    pair.run();
    let (volume, force) = (V, true);
    assert_eq!(
        pair.command(false, AdminRequest::Detach { volume, force }),
        1
    );
    pair.pass(Duration::from_millis(10));
    assert_eq!(pair.a.volume(SECOND).ended, [Ok(())]);
    for volume in [V, SECOND] {
        assert_eq!(pair.a.core.counters(volume).in_flight_sectors, 0);
    }
    assert!(pair.a.core.bit_is_set(V, 10), "it is lost with the cache");
    let now = pair.b.now;
    pair.b.core.flush_done(token, true, now);
    pair.run();
    assert!(pair.volume_in_sync(SECOND));
    assert_eq!(pair.b.core.counters(V).local, 0);
}

/// `a` keeps a request that the next connection can not carry.
fn resent_to_an_older_peer(op: Op, len_bytes: u32, becomes: impl FnOnce(&mut Pair)) -> Pair {
    let mut pair = Pair::synced();
    let config = DiskConfig {
        fencing: Fencing::ResourceAndStonith,
        ..DiskConfig::DEFAULT
    };
    pair.set_disk_options(true, config);
    pair.cut = true;
    pair.a.exits.insert("fence-peer", 1);
    assert!(pair.a.request(op, 0, len_bytes, 0));
    pair.until("a notices", |pair| {
        pair.a.state().conn < ConnState::Connected
    });
    assert!(pair.a.state().susp_fen && pair.a.ended.is_empty());
    becomes(&mut pair);
    pair.cut = false;
    pair
}

/// The application is done with it, and a node that takes over reads old data.
#[test]
fn what_an_older_peer_can_not_be_sent_gets_there_by_a_resync() {
    let no_zeroes = |pair: &mut Pair| pair.version = 100;
    let none_so_large = |pair: &mut Pair| pair.features = !FeatureFlags::WSAME.0;
    let becomes: [(_, _, fn(&mut Pair)); 4] = [
        (Op::WriteZeroes, 4096, no_zeroes),
        (Op::Discard, 4096, no_zeroes),
        (Op::WriteZeroes, LARGE, none_so_large),
        (Op::Discard, LARGE, none_so_large),
    ];
    for (op, len_bytes, becomes) in becomes {
        let mut pair = resent_to_an_older_peer(op, len_bytes, becomes);
        pair.until("ended", |pair| !pair.a.ended.is_empty());
        assert_eq!(pair.a.ended, [Ok(())]);
        pair.until("in sync", Pair::in_sync);
        let left = [&pair.a, &pair.b].map(|node| node.core.counters(V).out_of_sync_bits);
        assert_eq!(left, [0; 2], "{op:?}");
        let links = pair
            .a
            .log
            .iter()
            .filter(|line| line.contains("Handshake successful"));
        assert_eq!(links.count(), 3, "{op:?} of {len_bytes} bytes");
    }
}

/// They are not sent, as the C driver would take what comes next for their digest
/// (`reference/wire.md` A.1).
#[test]
fn zeroes_that_are_kept_get_to_a_peer_that_expects_digests_by_a_resync() {
    let mut pair = resent_to_an_older_peer(Op::WriteZeroes, 4096, |pair| {
        let config = NetConfig {
            integrity_alg: Name::new(b"md5").unwrap(),
            ..NetConfig::DEFAULT
        };
        let digests = DigestLengths {
            integrity: 16,
            ..DigestLengths::default()
        };
        for node in [&mut pair.a, &mut pair.b] {
            node.admin(AdminRequest::NetOptions { config, digests });
        }
        pair.a.sent.clear();
    });
    pair.until("ended", |pair| !pair.a.ended.is_empty());
    assert_eq!(pair.a.ended, [Ok(())]);
    pair.until("in sync", Pair::in_sync);
    assert!(!pair.a.sent.contains(&Command::Zeroes.to_wire()));
    for node in [&pair.a, &pair.b] {
        assert_eq!(node.core.counters(V).out_of_sync_bits, 0);
    }
}

/// With the disk of the peer, which can not take it, the last good data go; and come back. Behind
/// P_RECV_ACK nobody had what its application was done with.
#[test]
fn a_write_of_a_node_without_a_disk_is_done_when_the_peer_has_written_it() {
    for protocol in [Protocol::A, Protocol::B, Protocol::C] {
        let mut pair = Pair::synced_by(protocol);
        let config = ResourceConfig {
            on_no_data: OnNoData::SuspendIo,
        };
        let request = AdminRequest::ResourceOptions { config };
        assert_eq!(pair.command(true, request), 101);
        let (volume, force) = (V, true);
        assert_eq!(
            pair.command(true, AdminRequest::Detach { volume, force }),
            1
        );
        pair.run();
        let before = pair.b.disk.data.clone();
        pair.b.fail_peer_io = true;
        pair.a.write(80, 4096, 0x71);
        pair.run();
        assert_eq!(pair.b.state().disk, DiskState::Diskless);
        assert!(pair.a.state().susp_nod);
        pair.b.fail_peer_io = false;
        pair.b.disk.data = before;
        pair.b.attach(DiskConfig::DEFAULT);
        pair.until("ended", |pair| !pair.a.ended.is_empty());
        assert_eq!(pair.a.ended, [Ok(())]);
        assert_eq!(pair.b.disk.data[80 * 512], 0x71, "{protocol:?}");
    }
}

/// The disk of the source stays: the target would be refused again, and again.
#[test]
fn a_read_that_the_source_of_a_resync_can_not_answer_ends() {
    let mut pair = Pair::synced_with_pass_on();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.a.hold_peer_io = true;
    pair.b.admin(AdminRequest::Invalidate { volume: V });
    pair.rounds_until("target", |pair| {
        pair.b.state().conn == ConnState::SyncTarget && pair.a.core.data.has_peer_io()
    });
    assert_eq!(pair.role(false, Role::Primary, false), 1);
    let mut ids = Vec::new();
    let now = pair.a.now;
    while let Some(PeerIo::Read { id, .. }) = pair.a.core.next_peer_io(now) {
        ids.push(id);
    }
    assert!(!ids.is_empty());
    assert!(pair.b.request(Op::Read, 8000, 4096, 0));
    pair.a.fail_peer_io = true;
    pair.a.hold_peer_io = false;
    for _ in 0..40 {
        pair.round();
    }
    assert!(matches!(pair.b.ended[..], [Err(_)]));
    assert_eq!(pair.b.state().conn, ConnState::SyncTarget, "it goes on");
}

/// `b` is the target of a resync that is paused, Primary, and waits for data if there are none. The
/// disk of the source refuses everything, and stays.
fn with_a_source_that_refuses() -> Pair {
    let mut pair = Pair::synced_with_pass_on();
    let config = ResourceConfig {
        on_no_data: OnNoData::SuspendIo,
    };
    let request = AdminRequest::ResourceOptions { config };
    assert_eq!(pair.command(false, request), 101);
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    let pause = AdminRequest::PauseSync { volume: V };
    assert_eq!(pair.command(false, pause), 101);
    pair.b.admin(AdminRequest::Invalidate { volume: V });
    pair.until("target", |pair| {
        pair.b.state().conn == ConnState::PausedSyncT
    });
    assert_eq!(pair.role(false, Role::Primary, false), 1);
    pair.a.fail_peer_io = true;
    pair
}

/// The disk of the source stays, so no data are waited for: both nodes were busy with it for ever.
#[test]
fn what_the_source_of_a_resync_refuses_twice_ends_though_io_waits_for_data() {
    for (op, command) in [(Op::Write, 0), (Op::Read, 8)] {
        let mut pair = with_a_source_that_refuses();
        assert!(pair.b.request(op, 800, 4096, 0x71));
        let before = pair.b.sent.len();
        let asked = |pair: &Pair| {
            let sent = pair.b.sent[before..].iter();
            sent.filter(|&&is| is == command).count()
        };
        for _ in 0..100 {
            pair.round();
        }
        assert_eq!(asked(&pair), 1, "{op:?}: once, and then it waits for news");
        assert_eq!(pair.b.ended, []);
        for _ in 0..12 {
            pair.pass(Duration::from_millis(100));
        }
        assert_eq!(asked(&pair), 2, "{op:?}");
        assert!(matches!(pair.b.ended[..], [Err(_)]), "{op:?}");
        let state = pair.b.state();
        assert_eq!(state.conn, ConnState::PausedSyncT, "it goes on");
        assert_eq!(state.pdsk, DiskState::UpToDate);
        assert!(!state.suspended());
    }
}

/// What was refused before the state changed says nothing of the disk after it.
#[test]
fn what_the_source_of_a_resync_refuses_waits_for_news_again_when_there_were_some() {
    let mut pair = with_a_source_that_refuses();
    assert!(pair.b.request(Op::Write, 800, 4096, 0x71));
    pair.until("ended", |pair| !pair.b.ended.is_empty());
    let pause = AdminRequest::PauseSync { volume: V };
    assert_eq!(pair.command(true, pause), 101);
    assert!(pair.b.request(Op::Write, 800, 4096, 0x72));
    for _ in 0..100 {
        pair.round();
    }
    assert_eq!(pair.b.ended.len(), 1, "it waits");
    pair.a.fail_peer_io = false;
    pair.until("ended", |pair| pair.b.ended.len() == 2);
    assert_eq!(pair.b.ended[1], Ok(()));
    assert_eq!(pair.a.disk.data[800 * 512], 0x72);
}

/// A write of `a` is with the disk of `b`, which hangs.
fn with_a_write_that_hangs() -> (Pair, PeerId) {
    let mut pair = Pair::synced();
    pair.b.hold_peer_io = true;
    pair.a.write(80, 4096, 0x71);
    pair.run();
    let now = pair.b.now;
    let Some(PeerIo::Write { id, .. }) = pair.b.core.next_peer_io(now) else {
        panic!("the write goes to the disk");
    };
    pair.b.hold_peer_io = false;
    (pair, id)
}

fn detach_by_force(pair: &mut Pair) {
    let (volume, force) = (V, true);
    let request = AdminRequest::Detach { volume, force };
    assert_eq!(pair.command(false, request), 1);
    pair.run();
}

/// The application on the other node waited until the connection was given up, and there was none
/// before the disk answered.
#[test]
fn what_a_disk_that_is_detached_by_force_keeps_for_the_peer_is_refused() {
    for lost in [false, true] {
        let (mut pair, id) = with_a_write_that_hangs();
        if lost {
            pair.break_now();
            pair.run();
            assert!(pair.b.state().conn < ConnState::Connected);
        }
        detach_by_force(&mut pair);
        pair.until("connected", |pair| {
            pair.b.state().conn == ConnState::Connected
        });
        pair.pass(Duration::from_millis(10));
        assert_eq!(pair.a.ended, [Ok(())], "{lost}");
        let counters = pair.a.core.counters(V);
        assert_eq!(
            (counters.in_flight_sectors, counters.out_of_sync_bits),
            (0, 1)
        );
        pair.break_now();
        pair.until("connected", |pair| {
            pair.b.state().conn == ConnState::Connected
        });
        assert_eq!(pair.b.core.counters(V).local, 1, "it is with the disk");
        let now = pair.b.now;
        pair.b.core.peer_io_done(id, true, now);
        pair.run();
        assert_eq!(pair.b.core.counters(V).local, 0);
        pair.b.attach(DiskConfig::DEFAULT);
        pair.until("in sync", Pair::in_sync);
        assert!(pair.a.disk.data == pair.b.disk.data);
    }
}
