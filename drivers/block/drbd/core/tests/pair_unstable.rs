//! What becomes of writes that only the volatile cache of the peer's disk has.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::{DiskConfig, NetConfig};
use drbd_core::data::{FlushToken, PeerIo};
use drbd_core::input::{AdminRequest, DigestLengths};
use drbd_core::time::Duration;
use drbd_format::types::{ConnState, DiskState, Protocol, Role};
use pair::both::Pair;
use pair::node::V;

/// Long enough for the barrier of an idle epoch.
const MOMENT: Duration = Duration::from_millis(10);

fn detach_by_force(pair: &mut Pair) {
    let (volume, force) = (V, true);
    pair.command(false, AdminRequest::Detach { volume, force });
    pair.pass(MOMENT);
    assert_eq!(pair.b.state().disk, DiskState::Diskless);
    assert_eq!(pair.a.state().conn, ConnState::Connected);
}

/// Seed 27628: the barrier was acknowledged without a flush, and a loss of power took the write.
#[test]
fn writes_that_were_never_flushed_are_marked_when_the_disk_is_given_up() {
    let mut pair = Pair::synced();
    pair.a.write(800, 4096, 0x71);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    assert_eq!(
        pair.a.core.counters(V).in_flight_sectors,
        8,
        "no barrier yet"
    );
    detach_by_force(&mut pair);
    let counters = pair.a.core.counters(V);
    assert_eq!(counters.in_flight_sectors, 0, "the barrier is acknowledged");
    assert_eq!(counters.out_of_sync_bits, 1);
    assert!(pair.a.core.bit_is_set(V, 100));
}

#[test]
fn writes_that_were_flushed_are_not_marked() {
    let mut pair = Pair::synced();
    pair.a.write(800, 4096, 0x71);
    pair.run();
    pair.pass(MOMENT);
    assert_eq!(pair.a.core.counters(V).in_flight_sectors, 0);
    detach_by_force(&mut pair);
    assert_eq!(pair.a.core.counters(V).out_of_sync_bits, 0);
}

/// Nothing is lost with a disk without a volatile cache, unless it has got one since the attach.
#[test]
fn writes_to_a_disk_that_has_got_a_cache_are_flushed_from_then_on() {
    for gets_one in [false, true] {
        let mut pair = Pair::synced();
        detach_by_force(&mut pair);
        pair.b.stable_cache = true;
        pair.b.attach(DiskConfig::DEFAULT);
        pair.until("in sync", Pair::in_sync);
        if gets_one {
            pair.b.core.has_volatile_cache(V);
        }
        pair.a.write(800, 4096, 0x71);
        pair.run();
        detach_by_force(&mut pair);
        let marked = pair.a.core.counters(V).out_of_sync_bits;
        assert_eq!(marked, u64::from(gets_one));
    }
}

/// Then nobody can be told by name which writes are lost.
#[test]
fn more_writes_than_can_be_named_are_marked_as_well() {
    let mut pair = Pair::synced();
    pair.b.hold_peer_io = true;
    for number in 0..60 {
        pair.a.write(number * 80, 4096, 0x71);
    }
    pair.run();
    pair.b.hold_peer_io = false;
    pair.run();
    assert_eq!(pair.a.core.counters(V).in_flight_sectors, 480);
    detach_by_force(&mut pair);
    assert_eq!(pair.a.core.counters(V).in_flight_sectors, 0);
    for number in 0..60 {
        assert!(pair.a.core.bit_is_set(V, number * 10), "{number}");
    }
}

/// What the disk says then is about its cache.
#[test]
fn a_write_that_ends_when_the_disk_is_given_up_already_is_refused() {
    let mut pair = Pair::synced();
    pair.b.hold_peer_io = true;
    pair.a.write(800, 4096, 0x71);
    pair.run();
    let now = pair.b.now;
    let Some(PeerIo::Write { id, .. }) = pair.b.core.next_peer_io(now) else {
        panic!("the write goes to the disk");
    };
    let (volume, force) = (V, true);
    pair.b.admin(AdminRequest::Detach { volume, force });
    pair.run();
    pair.b.hold_peer_io = false;
    pair.b.core.peer_io_done(id, true, now);
    pair.pass(MOMENT);
    assert_eq!(pair.a.core.counters(V).in_flight_sectors, 0);
    assert!(pair.a.core.bit_is_set(V, 100));
}

/// Seed 63767: they counted as if their barrier had been acknowledged when the peer was back.
#[test]
fn ended_writes_that_the_peer_may_have_lost_while_io_is_suspended_are_synced() {
    let mut pair = Pair::synced();
    pair.a.write(800, 4096, 0x71);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    let volume = V;
    assert_eq!(pair.command(true, AdminRequest::SuspendIo { volume }), 1);
    restart_b_without(&mut pair, 800);
    pair.until("in sync", Pair::in_sync);
    assert_eq!(pair.command(true, AdminRequest::ResumeIo { volume }), 1);
    pair.until("still in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
    assert_eq!(pair.a.core.counters(V).out_of_sync_bits, 0);
}

/// `a` has sent a write, which has not got to the disk of `b`, and I/O is suspended.
fn suspended_before_the_disk_of_b() -> Pair {
    let mut pair = Pair::synced();
    pair.b.hold_peer_io = true;
    pair.a.write(800, 4096, 0x71);
    pair.run();
    pair.a.admin(AdminRequest::SuspendIo { volume: V });
    pair.run();
    pair
}

fn connect_b(pair: &mut Pair) {
    let (config, digests) = (NetConfig::DEFAULT, DigestLengths::default());
    pair.b.admin(AdminRequest::Connect { config, digests });
}

/// Their data are still there, so they are sent again.
#[test]
fn writes_that_wait_for_the_end_of_a_suspension_are_sent_again_though_acknowledged() {
    let mut pair = suspended_before_the_disk_of_b();
    pair.b.hold_peer_io = false;
    pair.run();
    assert_eq!(pair.a.ended, [], "suspended");
    restart_b_without(&mut pair, 800);
    pair.until("in sync", Pair::in_sync);
    pair.a.admin(AdminRequest::ResumeIo { volume: V });
    pair.until("still in sync", Pair::in_sync);
    assert_eq!(pair.a.ended, [Ok(())]);
    assert!(pair.a.disk.data == pair.b.disk.data);
    assert_eq!(pair.a.core.counters(V).out_of_sync_bits, 0);
}

/// The peer was there without its disk meanwhile, and nothing could be sent again.
#[test]
fn writes_that_were_given_up_in_a_suspension_are_synced_when_the_peer_has_its_disk_again() {
    let mut pair = suspended_before_the_disk_of_b();
    pair.b.fail_peer_io = true;
    pair.b.hold_peer_io = false;
    pair.run();
    assert_eq!(pair.a.state().pdsk, DiskState::Diskless);
    assert_eq!(pair.a.ended, [], "suspended");
    pair.break_now();
    pair.until("back without its disk", |pair| {
        let state = pair.a.state();
        state.conn == ConnState::Connected && state.pdsk == DiskState::Diskless
    });
    let force = false;
    assert_eq!(pair.command(false, AdminRequest::Disconnect { force }), 101);
    pair.b.fail_peer_io = false;
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    connect_b(&mut pair);
    pair.until("compared", |pair| {
        pair.a.state().conn >= ConnState::Connected
    });
    pair.a.admin(AdminRequest::ResumeIo { volume: V });
    pair.until("in sync", Pair::in_sync);
    assert_eq!(pair.a.ended, [Ok(())]);
    assert!(pair.a.disk.data == pair.b.disk.data);
    assert_eq!(pair.a.core.counters(V).out_of_sync_bits, 0);
}

/// It loses power, and with it what was in its cache at this sector; then it comes back.
fn restart_b_without(pair: &mut Pair, sector: usize) {
    pair.b.crash(98);
    pair.b.disk.data[sector * 512..sector * 512 + 4096].fill(0x11);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.until("a notices", |pair| {
        pair.a.state().conn < ConnState::Connected
    });
    connect_b(pair);
}

/// They come on the other socket than the state of the disk, and may be faster. A disk of the same
/// generation would not be synced when it comes back.
#[test]
fn a_former_primary_that_hears_of_lost_writes_first_begins_a_generation() {
    let mut pair = Pair::synced();
    pair.a.write(800, 4096, 0x71);
    pair.run();
    let (volume, role, force) = (V, Role::Secondary, true);
    pair.b.admin(AdminRequest::Detach { volume, force });
    while pair.b.step() {}
    let force = false;
    pair.a.admin(AdminRequest::SetRole {
        volume,
        role,
        force,
    });
    while pair.a.step() {}
    assert_eq!(pair.a.state().role, role);
    pair.b.data_in.append(&mut pair.a.data_out);
    while pair.b.step() {}
    pair.a.meta_in.append(&mut pair.b.meta_out);
    while pair.a.step() {}
    assert_eq!(pair.a.core.counters(V).in_flight_sectors, 0);
    assert!(pair.a.core.bit_is_set(V, 100));
    assert_eq!(pair.a.state().pdsk, DiskState::UpToDate, "no news of it");
    pair.until("detached", |pair| {
        pair.a.state().pdsk == DiskState::Diskless
    });
    pair.b.disk.data[800 * 512..808 * 512].fill(0x11);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.until("in sync", Pair::in_sync);
    assert_eq!(pair.a.core.counters(V).out_of_sync_bits, 0);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// `b` has begun to write two epochs at once, and has a disk that is to be flushed from now on.
/// What ends behind the begin of the flush of the first one is not in it.
fn ends_while_the_first_epoch_is_flushed() -> Pair {
    let mut pair = Pair::synced_by(Protocol::A);
    let volume = V;
    let none = DiskConfig {
        disk_flushes: false,
        disk_drain: false,
        ..DiskConfig::DEFAULT
    };
    let request = |config| AdminRequest::DiskOptions { volume, config };
    assert_eq!(pair.command(false, request(none)), 101);
    pair.b.hold_peer_io = true;
    for sector in [800, 1600] {
        pair.a.write(sector, 4096, 0x71);
        pair.run();
        pair.pass(MOMENT);
    }
    assert_eq!(pair.a.ended, [Ok(()); 2]);
    let now = pair.b.now;
    let [first, second] = [(); 2].map(|()| match pair.b.core.next_peer_io(now) {
        Some(PeerIo::Write { id, .. }) => id,
        other => panic!("the write goes to the disk: {other:?}"),
    });
    assert_eq!(pair.command(false, request(DiskConfig::DEFAULT)), 101);
    pair.b.core.peer_io_done(first, true, now);
    let flush = flush_of(&mut pair);
    pair.b.core.peer_io_done(second, true, now);
    pair.b.core.flush_done(flush, true, now);
    pair
}

fn flush_of(pair: &mut Pair) -> FlushToken {
    let now = pair.b.now;
    loop {
        match pair.b.core.next_peer_io(now) {
            Some(PeerIo::Flush { token, .. }) => return token,
            Some(PeerIo::Free { .. }) => {}
            other => panic!("no flush: {other:?}"),
        }
    }
}

#[test]
fn a_write_that_ends_during_a_flush_is_flushed_before_its_barrier_is_acknowledged() {
    let mut pair = ends_while_the_first_epoch_is_flushed();
    pair.run();
    assert_eq!(pair.a.core.counters(V).in_flight_sectors, 8);
    let (flush, now) = (flush_of(&mut pair), pair.b.now);
    pair.b.core.flush_done(flush, true, now);
    pair.run();
    assert_eq!(pair.a.core.counters(V).in_flight_sectors, 0);
    assert_eq!(pair.a.core.counters(V).out_of_sync_bits, 0);
}

#[test]
fn a_write_that_ends_during_a_flush_is_lost_with_the_disk() {
    let mut pair = ends_while_the_first_epoch_is_flushed();
    pair.run();
    let (volume, force) = (V, true);
    pair.b.admin(AdminRequest::Detach { volume, force });
    pair.run();
    pair.b.hold_peer_io = false;
    pair.pass(MOMENT);
    assert_eq!(pair.a.core.counters(V).in_flight_sectors, 0);
    assert!(pair.a.core.bit_is_set(V, 200));
}
