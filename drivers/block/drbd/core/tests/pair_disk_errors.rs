//! Disks that fail at a bad moment: in a resync, in a verify, with what is not a plain write.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::{DiskConfig, NetConfig};
use drbd_core::data::PeerIo;
use drbd_core::input::AdminRequest;
use drbd_core::peer_request::PeerId;
use drbd_core::request::{Op, RequestId};
use drbd_core::time::Duration;
use drbd_format::types::{ConnState, DiskState, OnIoError, Role, WriteOrdering};
use drbd_format::wire::command::Command;
use pair::both::{said, Pair};
use pair::node::V;

const VERIFY: AdminRequest = AdminRequest::Verify {
    volume: V,
    start: Some(0),
    stop: u64::MAX,
};

/// `a` is SyncSource, and has not begun to read.
fn source() -> Pair {
    let mut pair = Pair::synced();
    sync_from_a(&mut pair);
    pair
}

fn sync_from_a(pair: &mut Pair) {
    pair.a.hold_peer_io = true;
    pair.b.admin(AdminRequest::Invalidate { volume: V });
    pair.rounds_until("source", |pair| {
        let [a, b] = [pair.a.state(), pair.b.state()].map(|state| state.conn);
        (a, b) == (ConnState::SyncSource, ConnState::SyncTarget)
    });
}

/// With a verify algorithm; the disk of one node stays when it fails.
fn verified_with_pass_on(on_a: bool) -> Pair {
    let mut pair = Pair::synced_with_verify();
    let config = DiskConfig {
        on_io_error: OnIoError::PassOn,
        ..DiskConfig::DEFAULT
    };
    pair.set_disk_options(on_a, config);
    pair
}

fn all_local_fail(pair: &mut Pair) {
    let now = pair.a.now;
    for generation in 0..200_u64 {
        for slot in 0..64_u64 {
            let id = RequestId::from_wire(generation << 32 | slot);
            pair.a.core.local_done(id, false, now);
        }
    }
}

/// Zeroes that the peer alone has are acknowledged, and then the own disk is read.
#[test]
fn zeroes_that_the_own_disk_refused_are_read_as_zeroes() {
    let mut pair = Pair::synced();
    pair.a.write(800, 4096, 0x71);
    pair.run();
    pair.pass(Duration::from_millis(10));
    assert_eq!(pair.a.ended, [Ok(())]);
    pair.a.fail_local = true;
    assert!(pair.a.request(Op::WriteZeroes, 800, 4096, 0));
    pair.run();
    pair.pass(Duration::from_millis(10));
    pair.a.fail_local = false;
    let done = pair.a.ended.last() == Some(&Ok(()));
    pair.a.told.clear();
    assert!(pair.a.request(Op::Read, 800, 4096, 0));
    let here = said(&pair.a.told, "local Clone");
    assert!(pair.a.disk.data[800 * 512] == 0x71);
    assert!(pair.b.disk.data[800 * 512] == 0, "the peer has zeroes");
    assert!(
        !(done && here),
        "old data are read after zeroes were acknowledged"
    );
}

#[test]
fn a_sync_ends_though_the_source_failed_in_a_discard() {
    let mut pair = source();
    pair.a.fail_local = true;
    assert!(pair.a.request(Op::Discard, 8000, 4096, 0));
    for _ in 0..100 {
        pair.round_or_time();
    }
    pair.a.fail_local = false;
    pair.a.hold_peer_io = false;
    pair.until("in sync", Pair::in_sync);
}

/// The error is passed on to the application, and the disk stays.
#[test]
fn a_sync_ends_though_its_source_failed_an_application() {
    for op in [Op::Read, Op::Write, Op::WriteZeroes] {
        let mut pair = Pair::synced_with_pass_on();
        sync_from_a(&mut pair);
        pair.a.fail_local = true;
        assert!(pair.a.request(op, 8000, 4096, 7));
        for _ in 0..100 {
            pair.round_or_time();
        }
        assert!(matches!(pair.a.ended[..], [Err(_)]), "{op:?}");
        pair.a.fail_local = false;
        pair.a.hold_peer_io = false;
        pair.until("the end", |pair| {
            pair.a.state().conn == ConnState::Connected
                && pair.b.state().conn == ConnState::Connected
        });
    }
}

#[test]
fn a_sync_ends_though_the_source_can_not_read_a_block() {
    let mut pair = Pair::synced_with_pass_on();
    pair.a.hold_peer_io = true;
    pair.b.admin(AdminRequest::Invalidate { volume: V });
    pair.rounds_until("source", |pair| {
        pair.a.state().conn == ConnState::SyncSource && pair.a.core.data.has_peer_io()
    });
    let now = pair.a.now;
    let Some(PeerIo::Read { id, .. }) = pair.a.core.next_peer_io(now) else {
        panic!("a read");
    };
    pair.a.core.peer_io_done(id, false, now);
    pair.a.hold_peer_io = false;
    for _ in 0..2000 {
        pair.run();
        pair.pass(Duration::from_millis(100));
    }
    assert_eq!(pair.a.state().conn, ConnState::Connected);
}

#[test]
fn a_flush_that_fails_while_only_the_own_disk_is_good_is_not_done() {
    let mut pair = source();
    pair.a.fail_local = true;
    assert!(pair.a.request(Op::Flush, 0, 0, 0));
    for _ in 0..100 {
        pair.round_or_time();
    }
    assert!(pair.a.state().disk < DiskState::Inconsistent, "given up");
    assert!(matches!(pair.a.ended[..], [Err(_)]), "{:?}", pair.a.ended);
}

/// As `what_a_dead_disk_keeps_ends_without_it` of pair_edges.rs: a flush ends as a write does.
#[test]
fn a_flush_that_a_dead_disk_keeps_ends_as_one_that_failed_does() {
    for timeout in [false, true] {
        let mut pair = Pair::synced();
        if timeout {
            let config = DiskConfig {
                disk_timeout_tenths: 10,
                ..DiskConfig::DEFAULT
            };
            pair.set_disk_options(true, config);
        }
        pair.a.hold_local = true;
        assert!(pair.a.request(Op::Flush, 0, 0, 0));
        assert!(pair.a.request(Op::Write, 80, 4096, 1));
        pair.run();
        if timeout {
            pair.pass(Duration::from_millis(1100));
        } else {
            let force = true;
            pair.a.admin(AdminRequest::Detach { volume: V, force });
        }
        pair.run();
        assert_eq!(pair.a.ended, [Ok(()); 2]);
    }
}

#[test]
fn a_disk_that_goes_in_a_verify_does_not_end_the_connection() {
    for force in [false, true] {
        let mut pair = Pair::synced_with_verify();
        pair.b.hold_peer_io = true;
        pair.a.admin(VERIFY);
        pair.run();
        assert_eq!(pair.a.state().conn, ConnState::VerifyS);
        assert!(pair.b.core.counters(V).unacked > 0);
        pair.b.admin(AdminRequest::Detach { volume: V, force });
        pair.run();
        pair.b.hold_peer_io = false;
        pair.run();
        assert!(!said(&pair.a.log, "ProtocolError"), "{force}");
    }
}

#[test]
fn a_read_error_in_a_verify_does_not_end_the_connection() {
    let mut pair = Pair::synced_with_verify();
    pair.b.hold_peer_io = true;
    pair.a.admin(VERIFY);
    pair.run();
    pair.b.fail_peer_io = true;
    pair.b.hold_peer_io = false;
    pair.run();
    assert!(!said(&pair.a.log, "ProtocolError"));
}

/// A verify wants both disks good, and the clamp of the state raises the one that has just failed.
#[test]
fn a_write_that_failed_here_during_a_verify_is_not_read_from_here() {
    for verifies in [false, true] {
        let mut pair = verified_with_pass_on(true);
        pair.a.hold_local = true;
        pair.a.write(800, 4096, 0x71);
        pair.run();
        if verifies {
            pair.a.admin(VERIFY);
            pair.run();
            assert_eq!(pair.a.state().conn, ConnState::VerifyS);
        }
        all_local_fail(&mut pair);
        pair.a.hold_local = false;
        while pair.a.step() {}
        pair.run();
        let acked = pair.a.ended == [Ok(())];
        assert!(acked, "the peer has it");
        pair.a.told.clear();
        assert!(pair.a.request(Op::Read, 800, 4096, 0));
        let here = said(&pair.a.told, "local Clone");
        assert!(!here, "verifies {verifies}: the own disk has old data");
    }
}

/// Whichever node it is, and whoever asked for the verify.
#[test]
fn a_disk_that_fails_and_stays_ends_a_verify_on_both_nodes() {
    for asks in [true, false] {
        let mut pair = verified_with_pass_on(true);
        pair.a.hold_local = true;
        pair.a.write(800, 4096, 0x71);
        pair.run();
        pair.a.hold_peer_io = true;
        pair.b.hold_peer_io = true;
        pair.node(asks).admin(VERIFY);
        pair.run();
        all_local_fail(&mut pair);
        pair.a.hold_local = false;
        pair.a.hold_peer_io = false;
        pair.b.hold_peer_io = false;
        pair.until("the end", |pair| {
            let [a, b] = [pair.a.state(), pair.b.state()];
            [a.conn, b.conn] == [ConnState::Connected; 2]
                && [a.disk, b.pdsk] == [DiskState::Inconsistent; 2]
        });
        let (volume, force) = (V, false);
        assert_ne!(
            pair.command(false, AdminRequest::Detach { volume, force }),
            1,
            "it is the last good one"
        );
    }
}

/// The same on the other node: the disk that lacks an acknowledged write stays UpToDate.
#[test]
fn a_write_that_failed_on_the_peer_during_a_verify_makes_its_disk_inconsistent() {
    let mut pair = verified_with_pass_on(false);
    pair.b.hold_peer_io = true;
    pair.a.write(800, 4096, 0x71);
    pair.run();
    let now = pair.b.now;
    let Some(PeerIo::Write { id, .. }) = pair.b.core.next_peer_io(now) else {
        panic!("the write goes to the disk");
    };
    pair.a.admin(VERIFY);
    pair.run();
    assert_eq!(pair.b.state().conn, ConnState::VerifyT);
    pair.b.core.peer_io_done(id, false, now);
    pair.b.hold_peer_io = false;
    pair.run();
    pair.pass(Duration::from_millis(200));
    assert!(pair.b.state().disk <= DiskState::Inconsistent);
}

/// The only good disk can not read a block: that ends with an error.
#[test]
fn a_read_that_fails_on_a_source_ends() {
    let mut pair = Pair::synced_with_pass_on();
    pair.a.hold_peer_io = true;
    pair.b.admin(AdminRequest::Invalidate { volume: V });
    pair.rounds_until("source", |pair| {
        pair.a.state().conn == ConnState::SyncSource && pair.a.core.data.has_peer_io()
    });
    pair.a.told.clear();
    pair.a.hold_local = true;
    assert!(pair.a.request(Op::Read, 8000, 4096, 0));
    for _ in 0..20 {
        all_local_fail(&mut pair);
        for _ in 0..5 {
            pair.round();
        }
    }
    let tries = pair
        .a
        .told
        .iter()
        .filter(|line| line.contains("local Clone"))
        .count();
    assert!(tries < 5, "again and again");
    assert!(matches!(pair.a.ended[..], [Err(_)]));
}

/// `b` is SyncTarget and has what it asked for; it waits for the answer to its ping.
fn target_at_its_end() -> Pair {
    let mut pair = Pair::synced_with_pass_on();
    pair.b.admin(AdminRequest::Invalidate { volume: V });
    pair.rounds_until("the end of the run", |pair| {
        pair.b.state().conn == ConnState::SyncTarget
            && pair.b.core.counters(V).out_of_sync_bits == 0
            && said(&pair.b.log, "Began resync as SyncTarget")
    });
    pair
}

/// `a` has written, and the disk of `b` is at it. Nothing that `b` sends arrives meanwhile.
fn write_at_the_peers_disk(pair: &mut Pair) -> PeerId {
    pair.b.hold_peer_io = true;
    pair.a.write(800, 4096, 0x71);
    let mut write = None;
    for _ in 0..20 {
        pair.a.step();
        pair.b.data_in.append(&mut pair.a.data_out);
        pair.b.step();
        let now = pair.b.now;
        write = write.or(pair.b.core.next_peer_io(now));
    }
    let Some(PeerIo::Write { id, .. }) = write else {
        panic!("the write goes to the disk: {write:?}");
    };
    id
}

#[test]
fn a_write_that_fails_at_the_end_of_a_resync_is_made_up_for() {
    let mut pair = target_at_its_end();
    let id = write_at_the_peers_disk(&mut pair);
    assert_eq!(pair.b.state().conn, ConnState::SyncTarget);
    let now = pair.b.now;
    pair.b.core.peer_io_done(id, false, now);
    pair.b.hold_peer_io = false;
    pair.until("the end", |pair| {
        [pair.a.state(), pair.b.state()].map(|state| state.conn) == [ConnState::Connected; 2]
    });
    let left = pair.b.core.counters(V).out_of_sync_bits;
    assert!(left == 0 || pair.b.state().disk == DiskState::Inconsistent);
    assert_eq!(pair.a.state().pdsk, pair.b.state().disk);
}

/// The source is still waiting for the answer to its ping when it hears of that.
#[test]
fn a_disk_that_fails_behind_the_end_of_its_resync_is_not_good_for_the_source() {
    let mut pair = target_at_its_end();
    pair.rounds_until("done", |pair| {
        pair.b.state().conn == ConnState::Connected && pair.a.state().is_sync_source()
    });
    let id = write_at_the_peers_disk(&mut pair);
    let now = pair.b.now;
    pair.b.core.peer_io_done(id, false, now);
    pair.b.hold_peer_io = false;
    for _ in 0..20 {
        pair.b.step();
        pair.a.data_in.append(&mut pair.b.data_out);
        pair.a.step();
        pair.b.data_in.append(&mut pair.a.data_out);
    }
    pair.until("the end", |pair| {
        [pair.a.state(), pair.b.state()].map(|state| state.conn) == [ConnState::Connected; 2]
    });
    assert_eq!(pair.b.state().disk, DiskState::Inconsistent);
    assert_eq!(pair.a.state().pdsk, DiskState::Inconsistent);
    let (volume, force) = (V, false);
    assert_eq!(
        pair.command(false, AdminRequest::Detach { volume, force }),
        1
    );
    pair.b.attach(DiskConfig::DEFAULT);
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
    assert!(!said(&pair.a.log, "Split-Brain"));
}

/// `b`, Primary, is SyncTarget and has what it asked for; it waits for the answer to its ping.
fn primary_target_at_its_end(checksums: bool) -> Pair {
    let mut pair = Pair::synced_with_pass_on();
    if checksums {
        pair.use_checksums(NetConfig::DEFAULT);
    }
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    sync_from_a(&mut pair);
    assert_eq!(pair.role(false, Role::Primary, false), 1);
    pair.a.hold_peer_io = false;
    pair.rounds_until("the end of the run", |pair| {
        pair.b.state().is_sync_target() && pair.b.core.counters(V).out_of_sync_bits == 0
    });
    pair
}

/// The source has the write, and takes the block for one that is in sync: only the refusal of what
/// it sends for it afterwards tells otherwise (`features=Flushes,PassOn`, seed 264). It sends that,
/// too, if the target could not read the block for its checksum (seed 1634). If it can not, that it
/// was asked tells.
#[test]
fn a_disk_that_took_no_write_behind_its_resync_needs_no_full_sync() {
    for (checksums, source_reads) in [(false, true), (true, true), (false, false)] {
        let mut pair = primary_target_at_its_end(checksums);
        pair.a.log.clear();
        (pair.b.fail_local, pair.b.fail_peer_io) = (true, true);
        pair.b.write(800, 4096, 0x71);
        if !source_reads {
            pair.rounds_until("written", |pair| pair.a.disk.data[800 * 512] == 0x71);
            pair.a.fail_peer_io = true;
        }
        pair.until("the end", |pair| {
            [pair.a.state(), pair.b.state()].map(|state| state.conn) == [ConnState::Connected; 2]
        });
        assert_eq!(pair.b.state().disk, DiskState::Inconsistent);
        assert_eq!(pair.a.state().pdsk, DiskState::Inconsistent);
        assert_eq!(is_marked(&pair, 100), [false, true]);
        assert!(!said(&pair.a.log, "updated UUIDs"), "{checksums}");
        (pair.b.fail_local, pair.b.fail_peer_io) = (false, false);
        pair.a.fail_peer_io = false;
        let (volume, force) = (V, false);
        let detached = pair.command(false, AdminRequest::Detach { volume, force });
        assert_eq!(detached, 1);
        pair.b.attach(DiskConfig::DEFAULT);
        pair.until("in sync", Pair::in_sync);
        assert!(pair.a.disk.data == pair.b.disk.data);
        assert!(!said(&pair.a.log, "full sync required"), "{checksums}");
    }
}

/// The same, where the source has the block marked when its data are refused, and unmarks it for
/// the write (seed 934673).
#[test]
fn a_disk_that_took_neither_its_resync_nor_a_write_needs_no_full_sync() {
    let mut pair = Pair::synced_with_pass_on();
    pair.cut = true;
    pair.until("alone", |pair| {
        pair.a.state().conn < ConnState::Connected && pair.b.state().conn < ConnState::Connected
    });
    pair.a.write(800, 4096, 0x70);
    pair.run();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.a.hold_peer_io = true;
    pair.cut = false;
    pair.rounds_until("target", |pair| pair.b.state().is_sync_target());
    assert_eq!(pair.role(false, Role::Primary, false), 1);
    (pair.b.fail_local, pair.b.fail_peer_io) = (true, true);
    pair.a.hold_peer_io = false;
    pair.a.log.clear();
    pair.rounds_until("the refusal", |pair| {
        said(&pair.b.log, "Local IO failed in write")
    });
    assert!(pair.b.state().is_sync_target());
    pair.b.write(800, 4096, 0x71);
    pair.until("the end", |pair| {
        [pair.a.state(), pair.b.state()].map(|state| state.conn) == [ConnState::Connected; 2]
    });
    assert_eq!(pair.b.state().disk, DiskState::Inconsistent);
    assert_eq!(pair.a.state().pdsk, DiskState::Inconsistent);
    assert_eq!(is_marked(&pair, 100), [false, true]);
    assert!(!said(&pair.a.log, "updated UUIDs"));
}

/// Whichever node it is, and whoever asked for the verify.
#[test]
fn a_node_whose_read_failed_in_a_verify_is_promoted_or_refuses() {
    for (asks, fails) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut pair = verified_with_pass_on(fails);
        assert_eq!(pair.role(true, Role::Secondary, false), 1);
        pair.node(fails).hold_peer_io = true;
        pair.node(asks).admin(VERIFY);
        pair.run();
        pair.node(fails).fail_peer_io = true;
        pair.node(fails).hold_peer_io = false;
        pair.run();
        pair.node(fails).fail_peer_io = false;
        pair.pass(Duration::from_millis(200));
        assert_eq!(pair.node(fails).state().disk, DiskState::Inconsistent);
        assert!(
            pair.role(fails, Role::Primary, false) >= 1,
            "{asks} {fails}"
        );
    }
}

/// A block could not be synced: the generation on the disk of the new Primary is the one before.
#[test]
fn data_of_the_peer_come_back_to_a_primary_whose_disk_was_not_synced() {
    for cuts in [true, false] {
        let mut pair = Pair::synced_with_pass_on();
        pair.a.hold_peer_io = true;
        pair.b.admin(AdminRequest::Invalidate { volume: V });
        pair.rounds_until("source", |pair| {
            pair.a.state().conn == ConnState::SyncSource && pair.a.core.data.has_peer_io()
        });
        let now = pair.a.now;
        let Some(PeerIo::Read { id, .. }) = pair.a.core.next_peer_io(now) else {
            panic!("a read");
        };
        pair.a.core.peer_io_done(id, false, now);
        pair.a.hold_peer_io = false;
        pair.until("the end", |pair| {
            [pair.a.state(), pair.b.state()].map(|state| state.conn) == [ConnState::Connected; 2]
        });
        assert_eq!(pair.b.state().disk, DiskState::Inconsistent);
        assert_eq!(pair.role(true, Role::Secondary, false), 1);
        assert!(pair.role(false, Role::Primary, false) >= 1);
        pair.b.write(800, 4096, 0x71);
        pair.run();
        assert_eq!(pair.b.ended, [Ok(())]);
        if cuts {
            pair.break_now();
        } else {
            let (volume, force) = (V, true);
            pair.command(true, AdminRequest::Detach { volume, force });
            pair.run();
            pair.a.attach(DiskConfig::DEFAULT);
        }
        pair.until("in sync or apart", |pair| {
            pair.volume_in_sync(V) || pair.a.state().conn == ConnState::StandAlone
        });
        assert!(pair.volume_in_sync(V), "{cuts}");
        assert!(pair.b.disk.data[800 * 512] == 0x71);
    }
}

/// It may not have been able to write that it is Inconsistent (`features=PassOn`, seed 6504580).
#[test]
fn what_is_written_without_a_peer_whose_disk_had_failed_is_of_a_new_generation() {
    let mut pair = Pair::synced_with_pass_on();
    pair.b.fail_peer_io = true;
    pair.a.write(800, 4096, 0x71);
    pair.until("it failed", |pair| {
        pair.a.state().pdsk == DiskState::Inconsistent
    });
    pair.b.fail_peer_io = false;
    pair.a.log.clear();
    pair.cut = true;
    pair.break_now();
    pair.run();
    pair.a.write(80, 4096, 0x72);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(()); 2]);
    assert!(said(&pair.a.log, "new current UUID"), "{:#?}", pair.a.log);
    pair.cut = false;
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// A few rounds, of which what arrives on the meta socket of `b` is kept.
fn rounds_without_acks(pair: &mut Pair, kept: &mut Vec<u8>, rounds: usize) {
    for _ in 0..rounds {
        pair.round_or_time();
        kept.extend(pair.b.meta_in.drain(..));
    }
}

fn is_marked(pair: &Pair, bit: u64) -> [bool; 2] {
    [&pair.a, &pair.b].map(|node| node.core.bit_is_set(V, bit))
}

/// `b` has asked, with checksums, for the blocks of which only `a` knew that they are written, and
/// the disk of `a`, the source, has gone and come. Returns with the answers that `b` has not seen:
/// block 10 is the same on both nodes, block 20 was not.
fn source_that_came_back() -> (Pair, Vec<u8>) {
    let mut pair = Pair::synced();
    pair.sync_with_checksums(NetConfig::DEFAULT);
    let mut kept = Vec::new();
    rounds_without_acks(&mut pair, &mut kept, 20);
    assert!(!kept.is_empty());
    assert!(pair.b.core.bit_is_set(V, 10) && !pair.b.core.bit_is_set(V, 20));
    let (volume, force) = (V, true);
    pair.a.admin(AdminRequest::Detach { volume, force });
    rounds_without_acks(&mut pair, &mut kept, 20);
    assert_eq!(pair.a.state().disk, DiskState::Diskless);
    assert_eq!(pair.b.state().conn, ConnState::Connected);
    pair.b.sent.clear();
    pair.a.attach(DiskConfig::DEFAULT);
    rounds_without_acks(&mut pair, &mut kept, 40);
    let conns = [pair.a.state(), pair.b.state()].map(|state| state.conn);
    assert_eq!(conns, [ConnState::SyncSource, ConnState::SyncTarget]);
    (pair, kept)
}

/// Seed 264293: the target forgot the block, and its source, which has marked it anew, never did.
#[test]
fn an_old_answer_of_a_source_whose_disk_was_away_clears_nothing() {
    let (mut pair, kept) = source_that_came_back();
    assert_eq!(is_marked(&pair, 10), [true; 2]);
    pair.b.sends_left = Some(0);
    pair.b.meta_in.extend(kept);
    while pair.round() {}
    assert_eq!(is_marked(&pair, 10), [true; 2]);
    pair.b.sends_left = None;
    pair.until("in sync", Pair::in_sync);
    for node in [&pair.a, &pair.b] {
        assert_eq!(node.core.counters(V).out_of_sync_bits, 0);
    }
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// How long the run is under way when `b` asks for a block.
fn asks_after(pair: &mut Pair) -> Duration {
    let asked = Command::CsumRsRequest.to_wire();
    pair.rounds_until("asking", |pair| pair.b.sent.contains(&asked));
    let session = pair.b.core.data.session(V).expect("it is under way");
    pair.b.now.since(session.started)
}

/// A disk that hangs gives no answer: the target would wait for as long as the connection is there.
#[test]
fn a_target_whose_old_questions_are_not_answered_connects_anew_after_45_seconds() {
    let (mut pair, _) = source_that_came_back();
    let begun = pair
        .b
        .core
        .data
        .session(V)
        .expect("it is under way")
        .started;
    asks_after(&mut pair);
    let after = pair.b.now.since(begun);
    let limit = Duration::from_secs(45);
    assert!(
        after >= limit && after < Duration::from_secs(47),
        "{after:?}"
    );
    let features = Command::ConnectionFeatures.to_wire();
    assert!(pair.b.sent.contains(&features), "over another connection");
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// No answer comes over another connection than its question.
#[test]
fn a_target_asks_at_once_over_the_next_connection() {
    let (mut pair, _) = source_that_came_back();
    pair.break_now();
    assert!(asks_after(&mut pair) < Duration::from_secs(1));
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// Seed 276416: the disk of the other node had failed in the verify, and had lost what it marked.
/// The result came when the bitmaps had been exchanged, and the source waited for ever for an ack.
#[test]
fn a_late_result_of_a_verify_does_not_hold_up_the_source_of_a_resync() {
    for wanted in [ConnState::WfBitMapS, ConnState::SyncSource] {
        let mut pair = Pair::synced_with_verify();
        assert_eq!(pair.role(true, Role::Secondary, false), 1);
        assert_eq!(pair.role(false, Role::Primary, false), 1);
        pair.run();
        pair.a.fail_peer_io = true;
        pair.a.admin(VERIFY);
        let mut kept = Vec::new();
        rounds_without_acks(&mut pair, &mut kept, 40);
        assert_eq!(pair.b.state().pdsk, DiskState::Diskless);
        // Nor could it write its bitmap.
        pair.a.fail_peer_io = false;
        pair.a.disk.bitmap.clear();
        pair.b.write(8000, 4096, 0x71);
        pair.a.attach(DiskConfig::DEFAULT);
        while pair.b.state().conn != wanted {
            rounds_without_acks(&mut pair, &mut kept, 1);
        }
        assert_eq!(is_marked(&pair, 0), [false; 2], "{wanted:?}");
        pair.b.meta_in.extend(kept);
        while pair.b.step() {}
        assert_eq!(pair.b.state().conn, wanted);
        assert!(pair.b.meta_in.is_empty(), "{wanted:?}");
        pair.until("in sync", Pair::in_sync);
        for node in [&pair.a, &pair.b] {
            assert_eq!(node.core.counters(V).out_of_sync_bits, 0, "{wanted:?}");
        }
    }
}

/// How often `b` has flushed its disk for a barrier.
fn flushes(pair: &Pair) -> usize {
    let lines = pair.b.told.iter();
    lines.filter(|line| line.contains("disk Flush")).count()
}

/// `a` writes the block at this sector, and the flush of `b` for its barrier fails.
fn fail_a_flush(pair: &mut Pair, sector: u64) {
    pair.b.hold_peer_io = true;
    pair.a.write(sector, 4096, 0x71);
    let now = pair.b.now;
    let mut flush = None;
    for _ in 0..20 {
        pair.round_or_time();
        match pair.b.core.next_peer_io(now) {
            Some(PeerIo::Write { id, .. }) => pair.b.core.peer_io_done(id, true, now),
            Some(PeerIo::Flush { token, .. }) => flush = Some(token),
            Some(PeerIo::Free { .. }) | None => {}
            Some(io) => panic!("{io:?}"),
        }
    }
    assert_eq!(pair.a.ended.last(), Some(&Ok(())));
    pair.b
        .core
        .flush_done(flush.expect("for its barrier"), false, now);
    pair.b.hold_peer_io = false;
}

/// Seed 285221: its disk was not flushed any more, and a loss of power took acknowledged writes.
#[test]
fn a_disk_that_stays_when_a_flush_fails_is_flushed_over_the_next_connection() {
    let mut pair = Pair::synced_with_pass_on();
    fail_a_flush(&mut pair, 800);
    pair.b.sent.clear();
    pair.until("in sync", Pair::in_sync);
    let features = Command::ConnectionFeatures.to_wire();
    assert!(pair.b.sent.contains(&features), "over another connection");
    assert!(pair.a.disk.data == pair.b.disk.data);
    for number in 0..3 {
        let before = flushes(&pair);
        pair.a.write(1600 + 80 * number, 4096, 0x72);
        pair.run();
        pair.pass(Duration::from_millis(10));
        assert_eq!(pair.a.core.counters(V).in_flight_sectors, 0);
        assert_eq!(flushes(&pair), before + 1, "{number}");
    }
    assert_eq!(pair.b.core.data.ordering(), WriteOrdering::Flush);
}

/// Else the connection would end at every barrier.
#[test]
fn a_disk_whose_flush_fails_over_the_next_connection_too_is_given_up() {
    let mut pair = Pair::synced_with_pass_on();
    fail_a_flush(&mut pair, 800);
    pair.until("in sync", Pair::in_sync);
    // Nothing is flushed for what it has synced.
    fail_a_flush(&mut pair, 1600);
    pair.until("given up", |pair| {
        pair.b.state().disk == DiskState::Diskless
    });
    assert_eq!(pair.a.state().conn, ConnState::Connected);
}

/// What was read for the run before is sent in the next one: an old peer cancels nothing. The disk
/// of the target was away meanwhile, and has not got what was written to the block since.
#[test]
fn old_data_that_come_after_the_disk_was_away_are_not_taken() {
    let mut pair = Pair::new();
    pair.version = 95;
    pair.attach();
    pair.connect(NetConfig::DEFAULT);
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.until("first sync", Pair::in_sync);
    pair.cut = true;
    pair.a.write(800, 4096, 0x21);
    pair.until("both notice", |pair| {
        let states = [pair.a.state(), pair.b.state()];
        states.iter().all(|state| state.conn < ConnState::Connected)
    });
    pair.cut = false;
    pair.a.hold_peer_io = true;
    pair.rounds_until("a read", |pair| {
        pair.a.state().conn == ConnState::SyncSource && pair.a.core.data.has_peer_io()
    });
    let now = pair.a.now;
    let Some(PeerIo::Read { id, sector, .. }) = pair.a.core.next_peer_io(now) else {
        panic!("a read");
    };
    assert_eq!(sector.0, 800);
    pair.a.pages.insert(id.slot, vec![0x21; 4096]);
    let (volume, force) = (V, true);
    pair.b.admin(AdminRequest::Detach { volume, force });
    pair.run();
    pair.a.write(800, 4096, 0x22);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    let conns = [pair.a.state(), pair.b.state()].map(|state| state.conn);
    assert_eq!(conns, [ConnState::SyncSource, ConnState::SyncTarget]);
    pair.a.core.peer_io_done(id, true, now);
    pair.a.hold_peer_io = false;
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
    for node in [&pair.a, &pair.b] {
        assert_eq!(node.core.counters(V).out_of_sync_bits, 0);
    }
}
