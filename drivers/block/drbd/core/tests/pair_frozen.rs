//! I/O that is frozen while a connection comes about again: it ends, and on both disks.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::{DiskConfig, ResourceConfig};
use drbd_core::input::AdminRequest;
use drbd_core::link::VolumeIndex;
use drbd_core::request::{IoError, Op};
use drbd_core::time::Duration;
use drbd_format::disk::superblock::{MdFlags, Superblock};
use drbd_format::types::{ConnState, DiskState, Fencing, OnIoError, OnNoData};
use pair::both::Pair;
use pair::node::V;

const SECTOR: u64 = 800;
const AT: usize = 800 * 512;
const W: VolumeIndex = VolumeIndex(1);

fn suspend_without_data(pair: &mut Pair) {
    let config = ResourceConfig {
        on_no_data: OnNoData::SuspendIo,
    };
    let request = AdminRequest::ResourceOptions { config };
    assert_eq!(pair.command(true, request), 101);
}

/// The link comes back, and `b` stops after so many packets. Returns whether `a` waits for more.
fn stops_in_handshake(pair: &mut Pair, sends: u32) -> bool {
    pair.until("both notice", |pair| {
        pair.a.state().conn < ConnState::Connected && pair.b.state().conn < ConnState::Connected
    });
    pair.b.sends_left = Some(sends);
    pair.cut = false;
    for _ in 0..2000 {
        if pair.a.state().conn >= ConnState::WfReportParams {
            break;
        }
        pair.round_or_time();
    }
    pair.run();
    let conn = pair.a.state().conn;
    conn == ConnState::WfReportParams
}

fn ends_and_is_equal(pair: &mut Pair, sends: u32) {
    pair.b.sends_left = None;
    pair.until("equal", Pair::in_sync);
    pair.run();
    assert_eq!(pair.a.ended.len(), 1, "{sends}: {:#?}", pair.a.log);
    assert!(pair.a.disk.data == pair.b.disk.data, "{sends}");
    assert_eq!(pair.a.core.counters(V).out_of_sync_bits, 0, "{sends}");
    assert!(!pair.a.state().suspended());
    pair.a.write(SECTOR, 4096, 7);
    pair.until("ended", |pair| pair.a.ended.len() == 2);
}

#[test]
fn a_frozen_write_goes_on_when_the_disk_comes_back_in_the_midst_of_a_handshake() {
    for sends in 0..12 {
        let mut pair = Pair::synced();
        suspend_without_data(&mut pair);
        pair.cut = true;
        pair.a.fail_local = true;
        pair.a.write(SECTOR, 4096, 9);
        pair.until("a notices", |pair| {
            pair.a.state().conn < ConnState::Connected
        });
        assert!(pair.a.state().susp_nod && pair.a.ended.is_empty());
        pair.a.fail_local = false;
        if stops_in_handshake(&mut pair, sends) {
            pair.a.attach(DiskConfig::DEFAULT);
            pair.run();
            ends_and_is_equal(&mut pair, sends);
        }
    }
}

#[test]
fn a_frozen_write_goes_on_when_io_is_resumed_in_the_midst_of_a_handshake() {
    for sends in 0..12 {
        let mut pair = Pair::synced();
        let config = DiskConfig {
            fencing: Fencing::ResourceAndStonith,
            ..DiskConfig::DEFAULT
        };
        pair.set_disk_options(true, config);
        pair.cut = true;
        pair.a.write(SECTOR, 4096, 9);
        pair.until("a notices", |pair| {
            pair.a.state().conn < ConnState::Connected
        });
        assert!(pair.a.state().susp_fen && pair.a.ended.is_empty());
        if stops_in_handshake(&mut pair, sends) {
            pair.a.admin(AdminRequest::ResumeIo { volume: V });
            pair.run();
            ends_and_is_equal(&mut pair, sends);
        }
    }
}

fn notice(pair: &mut Pair) {
    pair.until("a notices", |pair| {
        pair.a.state().conn < ConnState::Connected
    });
}

/// `a` is alone, and its disk fails with a request.
fn fails_with_the_last_good_disk(op: Op) -> Pair {
    let mut pair = Pair::synced();
    suspend_without_data(&mut pair);
    pair.cut = true;
    notice(&mut pair);
    pair.a.fail_local = true;
    let (sector, len) = match op {
        Op::Flush => (0, 0),
        _ => (SECTOR, 4096),
    };
    assert!(pair.a.request(op, sector, len, 9));
    pair.run();
    pair
}

/// Nothing of that reaches the application.
#[test]
fn what_fails_with_the_last_good_disk_waits_for_the_next_one() {
    for op in [Op::Write, Op::WriteZeroes, Op::Flush, Op::Read] {
        let mut pair = fails_with_the_last_good_disk(op);
        assert!(pair.a.state().susp_nod, "{op:?}");
        assert_eq!(pair.a.ended, [], "{op:?}");
        pair.a.fail_local = false;
        pair.a.attach(DiskConfig::DEFAULT);
        pair.run();
        assert_eq!(pair.a.ended, [Ok(())], "{op:?}");
        pair.cut = false;
        pair.until("equal", Pair::in_sync);
        assert!(pair.a.disk.data == pair.b.disk.data);
    }
}

/// The administrator does not wait for the disk.
#[test]
fn what_fails_with_the_last_good_disk_ends_when_io_is_resumed_without_one() {
    for op in [Op::Write, Op::WriteZeroes, Op::Flush, Op::Read] {
        let mut pair = fails_with_the_last_good_disk(op);
        assert_eq!(pair.a.ended, [], "{op:?}");
        assert_eq!(pair.command(true, AdminRequest::ResumeIo { volume: V }), 1);
        pair.run();
        assert_eq!(pair.a.ended, [Err(IoError::NoData)], "{op:?}");
    }
}

/// The first one takes the disk with it, the others come back when I/O is suspended.
#[test]
fn all_that_fails_with_the_last_good_disk_waits_for_the_next_one() {
    let mut pair = Pair::synced();
    suspend_without_data(&mut pair);
    pair.cut = true;
    notice(&mut pair);
    pair.a.hold_local = true;
    assert!(pair.a.request(Op::Write, SECTOR, 4096, 9));
    for op in [Op::Flush, Op::Flush] {
        assert!(pair.a.request(op, 0, 0, 0));
    }
    assert!(pair.a.request(Op::Read, SECTOR + 8, 4096, 0));
    assert!(pair.a.request(Op::Write, SECTOR + 16, 4096, 9));
    pair.run();
    pair.a.hold_local = false;
    pair.a.fail_held();
    pair.run();
    assert!(pair.a.state().susp_nod);
    assert_eq!(pair.a.ended, []);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(()); 5]);
    pair.cut = false;
    pair.until("equal", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// The barrier of what is frozen is sent when I/O is resumed. The peer has not been asked before.
#[test]
fn a_peer_has_its_time_for_the_barrier_of_what_was_frozen_for_long() {
    let mut pair = Pair::synced();
    pair.b.hold_peer_io = true;
    pair.a.write(SECTOR, 4096, 9);
    pair.run();
    let volume = V;
    pair.a.admin(AdminRequest::SuspendIo { volume });
    pair.run();
    pair.b.hold_peer_io = false;
    for _ in 0..60 {
        pair.pass(Duration::from_secs(1));
    }
    assert_eq!(pair.a.ended, [], "suspended");
    assert_eq!(pair.a.core.data.next_timeout(), None);
    let (lines, resumed) = (pair.a.log.len(), pair.a.now);
    pair.a.admin(AdminRequest::ResumeIo { volume });
    pair.a.step();
    pair.a.now = resumed.after(Duration::from_millis(10));
    pair.a.step();
    // From now on its ack is waited for.
    let limit = pair.a.now.after(Duration::from_secs(42));
    assert_eq!(pair.a.core.data.next_timeout(), Some(limit));
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    assert!(pair.in_sync());
    let log = &pair.a.log[lines..];
    assert!(!log.iter().any(|line| line.contains("Timeout")), "{log:#?}");
    assert_eq!(pair.a.core.counters(V).in_flight_sectors, 0);
}

/// The command waits until the second volume is connected, and by then what was kept is sent: the
/// generation that the first one owed had begun, and `b` did not get it.
#[test]
fn no_generation_begins_if_the_peer_is_back_before_io_is_resumed() {
    let mut between = 0;
    for sends in 0..12 {
        let mut pair = Pair::synced_with_two_volumes();
        pair.b.hold_peer_io = true;
        pair.a.write(SECTOR, 4096, 9);
        pair.run();
        pair.a.admin(AdminRequest::SuspendIo { volume: V });
        pair.cut = true;
        notice(&mut pair);
        pair.b.hold_peer_io = false;
        let _ = stops_in_handshake(&mut pair, sends);
        let connected = pair.a.state().conn == ConnState::Connected;
        between += u32::from(connected && pair.a.state_of(W).conn < ConnState::Connected);
        pair.a.admin(AdminRequest::ResumeIo { volume: V });
        pair.run();
        pair.b.sends_left = None;
        pair.until("in sync", Pair::in_sync);
        pair.pass(Duration::from_secs(1));
        assert_eq!(pair.a.ended, [Ok(())], "{sends}");
        assert!(pair.a.disk.data == pair.b.disk.data, "{sends}");
        for volume in [V, W] {
            let nodes = [&mut pair.a, &mut pair.b];
            let [a, b] = nodes.map(|node| node.volume(volume).superblocks.last().unwrap().uuids);
            assert_eq!(a.current.0 & !1, b.current.0 & !1, "{sends} {volume:?}");
            assert_eq!([a.bitmap.0, b.bitmap.0], [0; 2], "{sends} {volume:?}");
        }
    }
    assert_ne!(between, 0);
}

/// A Primary whose only good disk is the peer's.
fn without_own_disk() -> Pair {
    let mut pair = Pair::synced();
    suspend_without_data(&mut pair);
    detach(&mut pair, true);
    pair
}

fn detach(pair: &mut Pair, on_a: bool) {
    let (volume, force) = (V, true);
    let request = AdminRequest::Detach { volume, force };
    assert_eq!(pair.command(on_a, request), 1);
    pair.run();
}

/// I/O goes on, and the peer has the write.
fn goes_on(pair: &mut Pair, op: Op) {
    pair.until("it goes on", |pair| !pair.a.ended.is_empty());
    assert!(!pair.a.state().suspended());
    assert_eq!(pair.a.ended, [Ok(())], "{op:?}");
    if op == Op::Write {
        assert_eq!(pair.b.disk.data[AT], 9);
    }
    pair.a.write(SECTOR, 4096, 7);
    pair.until("ended", |pair| pair.a.ended.len() == 2);
    assert_eq!(pair.a.ended[1], Ok(()));
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("equal", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// The peer has sent its bitmap, and does not mark what comes behind that (seed 57758).
#[test]
fn what_waits_for_its_turn_waits_until_the_disk_is_compared() {
    let mut pair = Pair::synced();
    pair.a.hold_log = true;
    pair.a.write(SECTOR, 4096, 9);
    pair.run();
    pair.a.admin(AdminRequest::SuspendIo { volume: V });
    pair.run();
    pair.a.hold_log = false;
    pair.a.fail_log = true;
    pair.until("no disk", |pair| {
        pair.a.state().disk == DiskState::Diskless && pair.b.state().pdsk == DiskState::Diskless
    });
    pair.a.fail_log = false;
    pair.b.sends_left = Some(0);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Negotiating);
    pair.a.admin(AdminRequest::ResumeIo { volume: V });
    pair.run();
    assert!(!pair.a.state().suspended());
    assert_ne!(pair.b.disk.data[AT], 9);
    pair.b.sends_left = None;
    pair.until("ended", |pair| !pair.a.ended.is_empty());
    assert_eq!(pair.a.ended, [Ok(())]);
    pair.until("equal", Pair::in_sync);
    assert_eq!(pair.b.disk.data[AT], 9);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// There is no own disk, and the peer's fails. It comes back over the same connection.
#[test]
fn what_the_last_good_disk_refuses_waits_until_the_peer_has_it_back() {
    for op in [Op::Write, Op::Read] {
        let mut pair = without_own_disk();
        pair.b.fail_peer_io = true;
        assert!(pair.a.request(op, SECTOR, 4096, 9));
        pair.run();
        assert!(pair.a.state().susp_nod);
        assert_eq!(pair.a.ended, []);
        pair.b.fail_peer_io = false;
        pair.b.attach(DiskConfig::DEFAULT);
        goes_on(&mut pair, op);
    }
}

/// The same when the peer gives its disk up before there is a request.
#[test]
fn io_goes_on_when_the_peer_has_its_disk_back() {
    let mut pair = without_own_disk();
    detach(&mut pair, false);
    assert!(pair.a.state().susp_nod);
    assert!(!pair.a.request(Op::Write, SECTOR, 4096, 9));
    pair.b.attach(DiskConfig::DEFAULT);
    pair.until("thawed", |pair| !pair.a.state().suspended());
    pair.a.write(SECTOR, 4096, 9);
    goes_on(&mut pair, Op::Write);
}

/// As `drbdmeta apply-al` does, so that the superblock is written when the disk is compared.
fn clean_log(pair: &mut Pair) {
    let block = pair.a.disk.superblock.as_mut().expect("written");
    let mut superblock = Superblock::decode(block).unwrap();
    superblock.flags = superblock.flags.with(MdFlags::AL_CLEAN, true);
    superblock.encode(block).unwrap();
}

/// Both disks are gone, as the peer could not write its generation down. That of the Primary comes
/// back first and is written to alone: the other one must not seem to be equal (seed 148663).
#[test]
fn a_disk_that_comes_back_alone_begins_a_generation_before_it_is_written_to() {
    let mut pair = Pair::synced();
    suspend_without_data(&mut pair);
    pair.b.fail_metadata = true;
    detach(&mut pair, true);
    assert_eq!(pair.b.state().disk, DiskState::Diskless);
    assert!(pair.a.state().susp_nod);
    pair.b.fail_metadata = false;
    clean_log(&mut pair);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("thawed", |pair| !pair.a.state().suspended());
    pair.a.write(SECTOR, 4096, 9);
    pair.until("ended", |pair| !pair.a.ended.is_empty());
    pair.cut = true;
    notice(&mut pair);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.cut = false;
    pair.until("equal", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// The link is back before the peer's disk is.
#[test]
fn a_frozen_write_waits_until_the_peer_that_is_back_has_its_disk() {
    let mut pair = back_without_disks();
    assert!(pair.a.state().susp_nod);
    assert_eq!(pair.a.ended, []);
    pair.b.attach(DiskConfig::DEFAULT);
    goes_on(&mut pair, Op::Write);
}

/// A write was under way to the peer, the only one with a disk, which comes back without it.
fn back_without_disks() -> Pair {
    let mut pair = without_own_disk();
    pair.cut = true;
    assert!(pair.a.request(Op::Write, SECTOR, 4096, 9));
    pair.until("both notice", |pair| {
        pair.a.state().conn < ConnState::Connected && pair.b.state().conn < ConnState::Connected
    });
    detach(&mut pair, false);
    pair.cut = false;
    pair.until("connected", |pair| {
        pair.a.state().conn >= ConnState::Connected
    });
    pair
}

/// The administrator does not wait for any disk.
#[test]
fn a_frozen_write_ends_when_io_is_resumed_beside_a_peer_without_a_disk() {
    let mut pair = back_without_disks();
    assert_eq!(pair.command(true, AdminRequest::ResumeIo { volume: V }), 1);
    pair.until("ended", |pair| !pair.a.ended.is_empty());
    assert!(pair.a.ended[0].is_err());
}

/// Word of the refusal takes the other socket than word of the disk.
#[test]
fn a_write_whose_refusal_comes_before_the_news_of_the_disk_waits() {
    for op in [Op::Write, Op::Read] {
        let mut pair = without_own_disk();
        pair.b.sends_left = Some(0);
        pair.b.fail_peer_io = true;
        assert!(pair.a.request(op, SECTOR, 4096, 9));
        pair.run();
        assert!(!pair.a.state().suspended());
        assert_eq!(pair.a.ended, []);
        pair.b.fail_peer_io = false;
        pair.b.sends_left = None;
        pair.run();
        assert!(pair.a.state().susp_nod);
        pair.b.attach(DiskConfig::DEFAULT);
        goes_on(&mut pair, op);
    }
}

/// A peer with the C driver says nothing of its disk as long as the helper runs. Its sender stands
/// still here.
#[test]
fn io_waits_as_long_as_the_peer_runs_its_helper_for_a_failed_disk() {
    for op in [Op::Write, Op::Read] {
        let mut pair = without_own_disk();
        let config = DiskConfig {
            on_io_error: OnIoError::CallLocalIoError,
            ..DiskConfig::DEFAULT
        };
        pair.set_disk_options(false, config);
        pair.b.hold_helpers = true;
        pair.b.sends_left = Some(0);
        pair.b.fail_peer_io = true;
        assert!(pair.a.request(op, SECTOR, 4096, 9));
        pair.run();
        assert!(!pair.b.running.is_empty());
        assert!(!pair.a.state().suspended());
        assert!(!pair.a.request(Op::Read, SECTOR, 4096, 0));
        assert_eq!(pair.a.ended, []);
        pair.b.fail_peer_io = false;
        pair.b.hold_helpers = false;
        pair.b.sends_left = None;
        pair.b.end_helper();
        pair.until("frozen", |pair| pair.a.state().susp_nod);
        pair.until("no disk", |pair| pair.b.state().disk == DiskState::Diskless);
        pair.b.attach(DiskConfig::DEFAULT);
        goes_on(&mut pair, op);
    }
}
