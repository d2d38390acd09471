//! A congested Primary that runs ahead of its peer (protocol A), at any moment.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::{DiskConfig, NetConfig};
use drbd_core::data::PeerIo;
use drbd_core::input::AdminRequest;
use drbd_core::link::VolumeIndex;
use drbd_core::request::{Op, RequestId};
use drbd_core::time::Duration;
use drbd_format::types::{ConnState, DiskState, OnCongestion, OnIoError, Protocol, Role};
use pair::both::{Pair, SECTORS};
use pair::node::{Node, V};

/// Sectors of a device with more than one extent that a resync locks.
const LARGE: u64 = 48 << 10;

fn config(extents: u32, fill: u32) -> NetConfig {
    NetConfig {
        protocol: Protocol::A,
        on_congestion: OnCongestion::PullAhead,
        congestion_extents: extents,
        congestion_fill: fill,
        ..NetConfig::DEFAULT
    }
}

/// In sync, `a` Primary, which runs ahead with so many extents of its log in use, or so many
/// sectors on their way.
fn hasty(extents: u32, fill: u32) -> Pair {
    hasty_with(SECTORS, extents, fill)
}

/// Likewise, on a device of this size.
fn hasty_with(sectors: u64, extents: u32, fill: u32) -> Pair {
    let mut pair = Pair::with_volumes(1, sectors);
    pair.attach();
    pair.connect(config(extents, fill));
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.until("first sync", Pair::in_sync);
    pair
}

fn away(pair: &mut Pair) {
    pair.cut = true;
    for block in 0..40 {
        pair.a.write(80 + 160 * block, 4096, 8);
    }
    pair.until("both notice", |pair| {
        let states = [pair.a.state(), pair.b.state()];
        states.iter().all(|state| state.conn < ConnState::Connected)
    });
}

/// Nothing is in flight to the peer then, so no barrier ack says that it is time to sync.
#[test]
fn whoever_waits_for_a_bitmap_does_not_run_ahead_for_ever() {
    let mut pair = hasty(1, 0);
    away(&mut pair);
    pair.cut = false;
    pair.rounds_until("waiting", |pair| {
        let waits = pair.b.state().conn == ConnState::WfBitMapT
            || pair.b.state().conn == ConnState::WfSyncUuid;
        if waits {
            pair.b.sends_left = Some(0);
        }
        waits && pair.a.state().conn == ConnState::WfBitMapS
    });
    let mut taken = false;
    for _ in 0..10 {
        while pair.round() {}
        taken = pair.a.request(Op::Write, 40, 4096, 9);
        if taken {
            break;
        }
    }
    assert!(taken);
    while pair.round() {}
    pair.b.sends_left = None;
    pair.until("in sync", Pair::in_sync);
}

/// The target has a block already, and the source has not heard of it when it runs ahead.
#[test]
fn a_write_to_a_block_just_synced_is_told_to_the_peer_by_who_runs_ahead() {
    let mut pair = hasty(1, 0);
    away(&mut pair);
    pair.cut = false;
    pair.rounds_until("source", |pair| {
        pair.a.hold_peer_io = pair.a.state().conn == ConnState::SyncSource;
        pair.a.hold_peer_io && pair.a.core.data.has_peer_io()
    });
    let now = pair.a.now;
    let Some(PeerIo::Read {
        id,
        sector,
        len_bytes,
        ..
    }) = pair.a.core.next_peer_io(now)
    else {
        panic!("a read");
    };
    let at = sector.0 as usize * 512;
    let data = pair.a.disk.data[at..at + len_bytes as usize].to_vec();
    pair.a.pages.insert(id.slot, data);
    pair.a.core.peer_io_done(id, true, now);
    let bit = sector.0 / 8;
    assert!(pair.a.core.bit_is_set(V, bit) && pair.b.core.bit_is_set(V, bit));
    pair.rounds_until("synced", |pair| !pair.b.core.bit_is_set(V, bit));
    assert!(pair.a.core.bit_is_set(V, bit), "no news of it");
    assert_eq!(pair.a.state().conn, ConnState::SyncSource);
    pair.a.write(6000, 512, 9);
    pair.a.step();
    assert_eq!(pair.a.state().conn, ConnState::Ahead);
    pair.a.write(sector.0, 4096, 10);
    pair.a.step();
    pair.a.hold_peer_io = false;
    for _ in 0..2000 {
        pair.run();
        if pair.in_sync() {
            break;
        }
        pair.pass(Duration::from_millis(100));
    }
    assert!(pair.in_sync(), "never in sync");
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// It runs ahead because the socket takes nothing.
#[test]
fn who_runs_ahead_does_not_wait_for_the_peer_to_be_told() {
    let mut pair = hasty(1, 0);
    pair.b.hold_peer_io = true;
    for block in 0..5 {
        pair.a.write(160 + 8 * block, 4096, 2);
        pair.run();
    }
    assert_eq!(pair.a.state().conn, ConnState::Ahead);
    pair.a.sends_left = Some(0);
    for value in 3..6 {
        let ended = pair.a.ended.len();
        pair.a.write(800, 4096, value);
        pair.run();
        assert_eq!(pair.a.ended.len(), ended + 1);
    }
    assert_eq!(pair.a.state().conn, ConnState::Ahead);
    pair.a.sends_left = None;
    pair.b.hold_peer_io = false;
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// Rounds in which nothing arrives on the meta socket of `a`.
fn rounds_without_acks(pair: &mut Pair, kept: &mut Vec<u8>, rounds: usize) {
    for _ in 0..rounds {
        pair.round();
        kept.extend(pair.a.meta_in.drain(..));
    }
}

/// A congested Primary must not pull ahead out of the exchange of the bitmaps.
#[test]
fn a_primary_does_not_pull_ahead_of_the_exchange_of_bitmaps() {
    let mut pair = hasty(NetConfig::DEFAULT.congestion_extents, 8);
    let mut kept = Vec::new();
    // In flight: no ack gets through.
    pair.a.write(80, 4096, 0x71);
    rounds_without_acks(&mut pair, &mut kept, 20);
    let (volume, force) = (V, true);
    pair.b.admin(AdminRequest::Detach { volume, force });
    rounds_without_acks(&mut pair, &mut kept, 40);
    assert_eq!(pair.a.state().pdsk, DiskState::Diskless);
    // Only `a` has this.
    pair.a.write(800, 4096, 0x72);
    rounds_without_acks(&mut pair, &mut kept, 40);
    // One more waits for the activity log.
    pair.a.hold_log = true;
    pair.a.write(8192, 4096, 0x73);
    pair.b.attach(DiskConfig::DEFAULT);
    for _ in 0..200 {
        rounds_without_acks(&mut pair, &mut kept, 1);
        if pair.a.state().pdsk == DiskState::Diskless {
            continue;
        }
        break;
    }
    assert_eq!(
        pair.a.state().conn,
        ConnState::WfBitMapS,
        "{:#?}",
        pair.a.log
    );
    pair.a.hold_log = false;
    rounds_without_acks(&mut pair, &mut kept, 60);
    pair.a.meta_in.extend(kept.drain(..));
    for _ in 0..50 {
        pair.pass(Duration::from_millis(100));
    }
    let good = pair.b.state().disk == DiskState::UpToDate;
    assert!(
        !good || pair.a.disk.data == pair.b.disk.data,
        "b counts as good"
    );
    assert!(pair.in_sync());
}

/// `reference/metadata.md` 5.3, branch: a Primary that pulls ahead out of a resync of whose end it
/// has not heard goes on in a generation that the peer has, too.
#[test]
fn who_pulls_ahead_of_an_unheard_end_of_a_resync_goes_on_in_a_branch() {
    let mut pair = hasty(NetConfig::DEFAULT.congestion_extents, 8);
    pair.cut = true;
    pair.a.write(80, 4096, 8);
    pair.until("both notice", |pair| {
        let states = [pair.a.state(), pair.b.state()];
        states.iter().all(|state| state.conn < ConnState::Connected)
    });
    pair.cut = false;
    pair.rounds_until("done", |pair| {
        let state = pair.b.state();
        state.disk == DiskState::UpToDate && state.conn == ConnState::Connected
    });
    assert!(pair.a.state().is_sync_source(), "{}", pair.a.state());
    // Nothing gets through any more, and nobody knows.
    pair.cut = true;
    pair.b.data_out.clear();
    pair.a.data_in.clear();
    pair.a.meta_in.clear();
    for number in 0..4 {
        pair.a.request(Op::Write, 1600 + 80 * number, 4096, 0x73);
        while pair.a.step() {}
    }
    pair.until("both notice", |pair| {
        let states = [pair.a.state(), pair.b.state()];
        states.iter().all(|state| state.conn < ConnState::Connected)
    });
    pair.a.write(800, 4096, 0x77);
    pair.run();
    // It loses power, and the peer takes over without force.
    pair.a.crash(3);
    pair.run();
    assert_eq!(
        pair.role(false, Role::Primary, false),
        1,
        "{}",
        pair.b.state()
    );
    pair.b.write(4000, 4096, 0x44);
    pair.run();
    pair.cut = false;
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    pair.a.admin(AdminRequest::Connect {
        config: pair.b.core.net_config().copied().unwrap(),
        digests: Default::default(),
    });
    pair.until("in sync or split", |pair| {
        pair.in_sync() || pair.a.state().conn == ConnState::StandAlone
    });
    assert!(
        !pair.in_sync() || pair.a.disk.data[800 * 512] == 0x77,
        "it is split brain"
    );
}

/// `reference/io.md` 8.4: not by the first barrier ack that leaves nothing in flight.
#[test]
fn a_resync_begins_a_second_after_nothing_is_in_flight() {
    let mut pair = hasty(1, 0);
    pair.a.write(80, 4096, 2);
    pair.run();
    pair.a.write(160, 4096, 3);
    pair.run();
    pair.pass(Duration::from_millis(900));
    assert_eq!(pair.a.state().conn, ConnState::Ahead);
    assert_eq!(pair.b.state().conn, ConnState::Behind);
    pair.pass(Duration::from_millis(100));
    assert!(pair.in_sync(), "{}", pair.a.state());
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// Each volume has a state of its own, and both share the acks of barriers.
#[test]
fn each_volume_leaves_ahead_by_itself() {
    let mut pair = Pair::with_volumes(2, SECTORS);
    let second = VolumeIndex(1);
    for volume in [V, second] {
        pair.a.attach_volume(volume, DiskConfig::DEFAULT);
        pair.b.attach_volume(volume, DiskConfig::DEFAULT);
        pair.run();
    }
    pair.connect(config(1, 0));
    for volume in [V, second] {
        pair.promote(volume);
    }
    pair.until("first sync", |pair| {
        pair.volume_in_sync(V) && pair.volume_in_sync(second)
    });
    pair.a.write(80, 4096, 2);
    pair.run();
    assert_eq!(pair.a.state_of(V).conn, ConnState::Ahead);
    assert_eq!(pair.a.state_of(second).conn, ConnState::Connected);
    pair.pass(Duration::from_millis(600));
    pair.a.request_on(second, Op::Write, 80, 4096, 3);
    pair.run();
    assert_eq!(pair.a.state_of(second).conn, ConnState::Ahead);
    pair.pass(Duration::from_millis(600));
    pair.run();
    assert!(pair.volume_in_sync(V), "{}", pair.a.state_of(V));
    assert_eq!(pair.a.state_of(second).conn, ConnState::Ahead);
    pair.pass(Duration::from_millis(600));
    pair.run();
    assert!(pair.volume_in_sync(second));
}

/// Seeds 6000015 and 6000036: the source pulls ahead while the target's helper runs.
#[test]
fn a_target_does_not_begin_a_resync_that_its_source_has_pulled_ahead_of() {
    let mut pair = hasty(1, 0);
    pair.b.hold_helpers = true;
    pair.a.write(80, 4096, 2);
    pair.run();
    pair.a.write(160, 4096, 3);
    pair.run();
    pair.pass(Duration::from_millis(1000));
    assert_eq!(pair.a.state().conn, ConnState::SyncSource);
    assert_eq!(pair.b.state().conn, ConnState::Behind);
    pair.a.write(240, 4096, 4);
    pair.run();
    assert_eq!(pair.a.state().conn, ConnState::Ahead);
    pair.b.hold_helpers = false;
    pair.b.end_helper();
    pair.run();
    assert_eq!(pair.b.state().conn, ConnState::Behind);
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// Seed 6000030: the target has written a block for the run before, and its ack comes when that
/// run has ended. The next one goes by the target's bitmap.
#[test]
fn a_resync_out_of_ahead_ends_though_the_target_has_what_its_source_marks() {
    let mut pair = hasty_with(LARGE, 1, 0);
    away(&mut pair);
    pair.cut = false;
    pair.rounds_until("target", |pair| {
        pair.b.state().conn == ConnState::SyncTarget
    });
    let mut kept = Vec::new();
    let bits = |node: &Node| node.core.data.facts(V).bits_set;
    for _ in 0..1000 {
        pair.round_or_time();
        kept.extend(pair.a.meta_in.drain(..));
        if bits(&pair.b) < bits(&pair.a) {
            break;
        }
    }
    assert_eq!(pair.a.state().conn, ConnState::SyncSource);
    // Its extent is open.
    pair.a.write(40_000, 4096, 9);
    while pair.a.step() {}
    assert_eq!(pair.a.state().conn, ConnState::Ahead);
    pair.a.meta_in.extend(kept);
    for _ in 0..100 {
        pair.pass(Duration::from_millis(100));
    }
    assert!(pair.in_sync(), "{}", pair.a.state());
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// Seed 6000031: a read that has waited for its extent is answered with data after its run, which
/// the target throws away.
#[test]
fn who_pulls_ahead_cancels_reads_that_wait() {
    let mut pair = hasty_with(LARGE, NetConfig::DEFAULT.congestion_extents, 8);
    away(&mut pair);
    pair.cut = false;
    pair.rounds_until("source", |pair| {
        pair.a.state().conn == ConnState::SyncSource
    });
    let mut kept = Vec::new();
    // In flight, and in the way of all reads of the resync.
    pair.a.write(6000, 4096, 0x71);
    rounds_without_acks(&mut pair, &mut kept, 40);
    assert_eq!(pair.b.state().conn, ConnState::SyncTarget);
    assert_ne!(pair.a.core.data.facts(V).bits_set, 0);
    // The extent is closed.
    pair.a.write(40_000, 4096, 0x72);
    while pair.a.step() {}
    assert_eq!(pair.a.state().conn, ConnState::Ahead);
    rounds_without_acks(&mut pair, &mut kept, 40);
    pair.a.meta_in.extend(kept);
    for _ in 0..100 {
        pair.pass(Duration::from_millis(100));
    }
    assert!(pair.in_sync(), "{}", pair.a.state());
    let sent = pair.a.core.counters(V).sent_sectors;
    assert_eq!(sent, pair.b.core.counters(V).received_sectors);
}

/// Seed 6900680: the peer's disk goes and comes before the state packet is there.
#[test]
fn a_disk_that_waits_for_a_comparison_is_not_left_behind_by_an_old_state() {
    let mut pair = hasty(1, 0);
    let mut held = Vec::new();
    let mut hold = |pair: &mut Pair, rounds| {
        for _ in 0..rounds {
            pair.round();
            held.extend(pair.b.data_in.drain(..));
        }
        std::mem::take(&mut held)
    };
    pair.a.write(80, 4096, 2);
    let mut late = hold(&mut pair, 20);
    assert_eq!(pair.a.state().conn, ConnState::Ahead);
    assert_eq!(pair.b.state().conn, ConnState::Connected);
    let (volume, force) = (V, true);
    pair.b.admin(AdminRequest::Detach { volume, force });
    late.extend(hold(&mut pair, 40));
    assert_eq!(pair.a.state().pdsk, DiskState::Diskless);
    pair.b.attach(DiskConfig::DEFAULT);
    late.extend(hold(&mut pair, 40));
    assert_eq!(pair.b.state().disk, DiskState::Negotiating);
    pair.b.data_in.extend(late);
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// Seed 6900696: what it has asked in the run before arrives when the next one has begun, and is
/// answered once more.
#[test]
fn a_target_asks_when_all_is_answered_that_it_has_asked_in_the_run_before() {
    let mut pair = hasty_with(LARGE, 1, 0);
    away(&mut pair);
    pair.cut = false;
    let mut late = Vec::new();
    let mut hold = |pair: &mut Pair, rounds| {
        for _ in 0..rounds {
            pair.round_or_time();
            late.extend(pair.a.data_in.drain(..));
        }
        std::mem::take(&mut late)
    };
    pair.rounds_until("ready", |pair| pair.a.state().conn == ConnState::SyncSource);
    let mut kept = hold(&mut pair, 20);
    assert_eq!(pair.b.state().conn, ConnState::SyncTarget);
    assert!(!kept.is_empty());
    pair.a.write(40_000, 4096, 9);
    kept.extend(hold(&mut pair, 5));
    assert_eq!(pair.b.state().conn, ConnState::Behind);
    kept.extend(hold(&mut pair, 60));
    assert_eq!(pair.a.state().conn, ConnState::SyncSource);
    assert_eq!(pair.b.state().conn, ConnState::SyncTarget);
    pair.a.data_in.extend(kept);
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
    let sent = pair.a.core.counters(V).sent_sectors;
    assert_eq!(sent, pair.b.core.counters(V).received_sectors);
}

/// The block is equal no more: the source, which is ahead, has written to it since it said so.
#[test]
fn an_old_answer_does_not_make_a_block_equal_in_the_next_run() {
    let mut pair = hasty_with(LARGE, 1, 0);
    pair.sync_with_checksums(config(1, 0));
    let mut kept = Vec::new();
    for _ in 0..20 {
        pair.round_or_time();
        kept.extend(pair.b.meta_in.drain(..));
    }
    assert_eq!(pair.b.state().conn, ConnState::SyncTarget);
    pair.a.write(40_000, 4096, 9);
    pair.a.step();
    assert_eq!(pair.a.state().conn, ConnState::Ahead);
    pair.a.write(80, 4096, 0x33);
    for _ in 0..20 {
        pair.round();
        kept.extend(pair.b.meta_in.drain(..));
    }
    pair.b.sends_left = Some(0);
    for _ in 0..60 {
        pair.round_or_time();
        kept.extend(pair.b.meta_in.drain(..));
    }
    assert_eq!(pair.b.state().conn, ConnState::SyncTarget);
    pair.b.meta_in.extend(kept);
    while pair.round() {}
    pair.b.sends_left = None;
    for _ in 0..100 {
        pair.pass(Duration::from_millis(100));
    }
    assert!(pair.in_sync(), "{} {}", pair.a.state(), pair.b.state());
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// Lengths of the P_OUT_OF_SYNC that a node has sent, in bytes.
fn marks_told(node: &Node) -> Vec<u32> {
    let heads = ["8620ec20 00000028", "83740267 00280010"];
    let packets = node
        .told
        .iter()
        .filter_map(|line| line.strip_prefix("data "));
    let packets = packets.filter_map(|line| line.split_once(" bytes "));
    let marks = packets.filter(|(_, packet)| heads.iter().any(|head| packet.starts_with(head)));
    // Nothing but zeroes follows the length.
    let len = |packet: &str| u32::from_str_radix(packet.rsplit(' ').next()?, 16).ok();
    marks.filter_map(|(_, packet)| len(packet)).collect()
}

/// `reference/io.md` 8.4: one that gets more at once marks nothing.
#[test]
fn a_peer_is_told_of_no_more_out_of_sync_blocks_at_once_than_it_marks() {
    for (version, most) in [(99, 128 << 10), (100, 1 << 20), (101, 128 << 20)] {
        let mut pair = Pair::with_volumes(1, LARGE);
        pair.version = version;
        pair.attach();
        pair.connect(config(1, 0));
        assert_eq!(pair.role(true, Role::Primary, true), 1);
        pair.rounds_until("source", |pair| {
            pair.a.state().conn == ConnState::SyncSource
        });
        pair.a.write(80, 4096, 2);
        pair.a.write(160, 4096, 3);
        while pair.a.step() {}
        assert_eq!(pair.a.state().conn, ConnState::Ahead, "{version}");
        pair.until("in sync", Pair::in_sync);
        assert!(pair.a.disk.data == pair.b.disk.data);
        let told = marks_told(&pair.a);
        assert!(told.iter().any(|&len| len > 64 << 10), "{told:?}");
        assert!(told.iter().all(|&len| len <= most), "{version}: {told:?}");
    }
}

/// The write is with the target, and fails on the own disk, which stays, when all has been told.
#[test]
fn a_resync_out_of_ahead_waits_for_writes_that_the_own_disk_has_not_ended() {
    let mut pair = Pair::with_volumes(1, SECTORS);
    for node in [&mut pair.a, &mut pair.b] {
        node.attach(DiskConfig {
            on_io_error: OnIoError::PassOn,
            ..DiskConfig::DEFAULT
        });
    }
    pair.run();
    pair.connect(config(1, 0));
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.until("first sync", Pair::in_sync);
    pair.a.volume(V).hold_local = true;
    pair.a.write(80, 4096, 2);
    pair.run();
    pair.a.volume(V).hold_local = false;
    pair.a.write(160, 4096, 3);
    pair.run();
    assert_eq!(pair.a.state().conn, ConnState::Ahead);
    pair.a.hold_helpers = true;
    for _ in 0..30 {
        pair.pass(Duration::from_millis(100));
    }
    let now = pair.a.now;
    for (generation, slot) in (0..50).flat_map(|at| (0..64).map(move |slot| (at, slot))) {
        let id = RequestId::from_wire(generation << 32 | slot);
        pair.a.core.local_done(id, false, now);
    }
    pair.a.hold_helpers = false;
    pair.run();
    if !pair.a.running.is_empty() {
        pair.a.end_helper();
    }
    for _ in 0..100 {
        pair.pass(Duration::from_millis(100));
    }
    let state = pair.a.state();
    assert_eq!(state.conn, ConnState::Connected, "{state}");
}

/// The nodes have changed roles, and applications write to the target what it has asked for in the
/// run before: the answer, which was read before that, comes behind the ack of the write.
#[test]
fn an_old_answer_does_not_undo_a_write_of_the_target() {
    let mut pair = hasty_with(LARGE, 1, 0);
    away(&mut pair);
    pair.cut = false;
    let mut kept = Vec::new();
    pair.rounds_until("ready", |pair| pair.a.state().conn == ConnState::SyncSource);
    for _ in 0..20 {
        pair.round_or_time();
        kept.extend(pair.a.data_in.drain(..));
    }
    assert_eq!(pair.b.state().conn, ConnState::SyncTarget);
    assert!(!kept.is_empty());
    pair.a.write(40_000, 4096, 9);
    for _ in 0..65 {
        pair.round_or_time();
        kept.extend(pair.a.data_in.drain(..));
    }
    assert_eq!(pair.a.state().conn, ConnState::SyncSource);
    assert_eq!(pair.b.state().conn, ConnState::SyncTarget);
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    // The disk of `a` has read, and says so later.
    pair.a.hold_peer_io = true;
    pair.a.data_in.extend(kept);
    pair.run();
    let now = pair.a.now;
    let mut read = Vec::new();
    while let Some(io) = pair.a.core.next_peer_io(now) {
        let PeerIo::Read {
            id,
            sector,
            len_bytes,
            ..
        } = io
        else {
            panic!("{io:?}");
        };
        let at = sector.0 as usize * 512;
        let data = pair.a.disk.data[at..at + len_bytes as usize].to_vec();
        pair.a.pages.insert(id.slot, data);
        read.push((id, sector.0));
    }
    pair.a.hold_peer_io = false;
    assert_eq!(pair.role(false, Role::Primary, false), 1);
    assert_eq!(pair.b.state().conn, ConnState::SyncTarget);
    assert!(read.iter().any(|&(_, sector)| sector == 80));
    pair.b.write(80, 4096, 0x77);
    pair.run();
    pair.pass(Duration::from_millis(100));
    assert_eq!(pair.b.ended.last(), Some(&Ok(())));
    for (id, _) in read {
        pair.a.core.peer_io_done(id, true, now);
    }
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
    assert_eq!(pair.b.disk.data[80 * 512], 0x77);
}
