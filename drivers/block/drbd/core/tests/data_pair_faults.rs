//! Two data planes back to back whose disks or connection fail: what may be acknowledged, and what
//! has to count as out of sync afterwards.

#[path = "data_pair/node.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod node;
#[path = "data_pair/world.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod world;

use drbd_core::data::{AlStep, PeerIo};
use drbd_core::link::{LocalError, Order, Upcall};
use drbd_core::request::IoError;
use drbd_core::time::Duration;
use drbd_format::types::{ConnState, DiskState, Protocol, ReadBalancing};
use drbd_format::wire::command::Command;
use node::{Job, V};
use world::World;

const SECTORS: u64 = 8 * 3000 + 5;

/// A barrier ack says that everything before it is stable.
#[test]
fn a_barrier_is_not_acknowledged_after_a_flush_that_failed() {
    for pass_on in [false, true] {
        let mut world = World::new(1, SECTORS, Protocol::C);
        world.pass_on = pass_on;
        world.connect();
        world.nodes[1].disk.fail_flushes = 1;
        world.nodes[1].broken = pass_on;
        world.write(0, 16, 8);
        world.settle();
        world.write(0, 64, 8);
        world.settle();
        assert_eq!(world.disk_errors, [(1, LocalError::Write)]);
        assert_eq!(world.nodes[0].bios.len(), 2, "kept until they are stable");
        if pass_on {
            // The data plane asked for the end of the connection.
            world.disconnect();
            world.settle();
            world.nodes[1].lose_power();
            world.check_marked();
        } else {
            world.set_disk(1, DiskState::Failed);
            world.settle();
            world.check_idle();
        }
    }
}

/// The order to flush finds no disk any more: that is not a failure of the disk.
#[test]
fn a_flush_that_comes_too_late_for_its_disk_is_not_an_error() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.connect();
    world.write(0, 16, 8);
    let flushes = |world: &World| {
        let jobs = &world.nodes[1].jobs;
        jobs.iter().any(|job| matches!(job, Job::Flush(_)))
    };
    world.run_until(flushes);
    world.set_disk(1, DiskState::Diskless);
    world.nodes[1].order(&Order::DiskDetached(V));
    world.nodes[1].disk.fail_flushes = 1;
    world.settle();
    assert_eq!(world.disk_errors, []);
    world.check_idle();
}

/// The references went with the old log.
#[test]
fn a_frozen_write_that_starts_again_is_in_the_activity_log() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    let write = world.write(0, 16, 8);
    assert!(world.nodes[0].writes_locally());
    world.suspend(0, true);
    let Some(Job::App(id, _)) = world.nodes[0].jobs.pop() else {
        panic!("the write is with the disk");
    };
    let now = world.now;
    world.nodes[0].data.local_done(id, false, now);
    world.attach_again(0);
    world.nodes[0].order(&Order::RestartFrozen);
    world.suspend(0, false);
    assert!(world.nodes[0].writes_locally());
    world.check_al();
    assert_eq!(world.nodes[0].data.counters(V).al_used, 1);
    world.settle();
    assert_eq!(world.nodes[0].results.get(&write), Some(&Ok(())));
    world.check_idle();
}

/// It need not be a good one.
#[test]
fn a_frozen_read_is_not_served_by_the_disk_that_is_attached_meanwhile() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.connect();
    let _ = world.read(0, 16, 8);
    world.suspend(0, true);
    let Some(Job::App(id, _)) = world.nodes[0].jobs.pop() else {
        panic!("the read is with the disk");
    };
    let now = world.now;
    world.nodes[0].data.local_done(id, false, now);
    world.attach_again(0);
    world.set_disk(0, DiskState::Inconsistent);
    world.nodes[0].order(&Order::SetAllBits(V));
    world.nodes[0].order(&Order::RestartWrites(V));
    world.suspend(0, false);
    assert!(!world.nodes[0].writes_locally());
}

/// The write has ended, as the peer has it, long before its barrier is acknowledged.
#[test]
fn what_a_disk_that_stays_could_not_write_is_not_read_from_it() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.pass_on = true;
    world.connect();
    world.write(0, 16, 8);
    assert!(world.nodes[0].writes_locally());
    let Some(Job::App(id, _)) = world.nodes[0].jobs.pop() else {
        panic!("the write is with the disk");
    };
    let now = world.now;
    world.nodes[0].data.local_done(id, false, now);
    world.set_disk(0, DiskState::Inconsistent);
    let _ = world.read(0, 16, 8);
    assert!(!world.nodes[0].writes_locally(), "the peer is asked");
    assert!(world.nodes[0].is_set(2));
    world.settle();
    assert!(world.nodes[0].is_set(2));
}

/// The peer asked while the disk was good; the write that its read waits for fails.
#[test]
fn nobody_reads_for_the_peer_from_a_disk_that_has_failed_and_stays() {
    let mut world = World::new(1, SECTORS, Protocol::A);
    world.pass_on = true;
    world.read_balancing = ReadBalancing::PreferRemote;
    world.connect();
    world.write(0, 16, 8);
    // Node 0 sends both; node 1 takes them, and its disk has the write.
    while [7, 8, 0, 6].into_iter().any(|kind| world.step(0, kind)) {}
    let _ = world.read(0, 16, 8);
    while world.step(0, 0) {}
    while [3, 5].into_iter().any(|kind| world.step(1, kind)) {}
    let Some(Job::Peer(PeerIo::Write { id, .. })) = world.nodes[1].jobs.pop() else {
        panic!("the write is with the disk");
    };
    let now = world.now;
    world.nodes[1].data.peer_io_done(id, false, now);
    world.set_disk(1, DiskState::Inconsistent);
    while world.step(1, 5) {}
    world.peer_disk_lost(0);
    world.settle();
    let (_, data) = world.nodes[0].read_back.values().next().expect("an answer");
    assert!(data[..] == world.nodes[0].disk.current[16 * 512..24 * 512]);
}

/// The next resync overwrites what only its target has: nobody may rely on it. Where the policy is
/// to wait for the peer, the write waits.
#[test]
fn a_write_to_a_sync_target_is_not_done_until_the_source_has_it() {
    for freeze in [false, true] {
        let mut world = World::new(1, SECTORS, Protocol::C);
        world.connect_as(ConnState::WfBitMapT, ConnState::WfBitMapS);
        for node in &mut world.nodes {
            node.order(&Order::SetAllBits(V));
        }
        world.start_sync(1);
        let write = world.write(0, 16, 8);
        // All that node 0 can do alone: activity log, send, write.
        while [7, 8, 0, 6].into_iter().any(|kind| world.step(0, kind)) {}
        let written = &world.nodes[0].disk.current[16 * 512..];
        assert_eq!(written[..8], write.to_le_bytes());
        if freeze {
            world.disconnect_and_freeze();
            world.settle();
            assert_eq!(world.nodes[0].results.get(&write), None);
            world.reconnect_and_resend();
            world.settle();
            assert_eq!(world.nodes[0].results.get(&write), Some(&Ok(())));
            world.check_promised(&[write]);
        } else {
            world.disconnect();
            world.settle();
            let failed = Some(&Err(IoError::Io));
            assert_eq!(world.nodes[0].results.get(&write), failed);
        }
        world.check_idle();
    }
}

/// Nothing would say after a crash that the disk may differ there.
#[test]
fn a_write_of_the_peer_whose_transaction_failed_does_not_reach_the_disk() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.connect_diskless(0);
    let write = world.write(0, 16, 8);
    world.run_until(|world| world.nodes[1].data.counters(V).unacked == 1);
    while world.nodes[1].fetch_peer_io() {}
    let mut buf = [0; 4096];
    let node = &mut world.nodes[1];
    let step = node.data.al_next(V, &mut buf, |_| 0);
    assert!(matches!(step, AlStep::WriteTransaction { .. }), "{step:?}");
    node.data.al_written(V, false, node.now);
    world.set_disk(1, DiskState::Failed);
    world.settle();
    assert_eq!(world.nodes[0].results.get(&write), Some(&Err(IoError::Io)));
    let there = &world.nodes[1].disk.current[16 * 512..];
    assert_ne!(there[..8], write.to_le_bytes());
    assert!(world.nodes[1].pages.is_empty());
}

/// A write must not reach the disk, nor a second transaction come behind a gap in the log, in the
/// time that it takes to give the disk up.
#[test]
fn nothing_follows_a_transaction_that_failed() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.connect();
    let first = world.write(0, 16, 8);
    let mut buf = [0; 4096];
    let node = &mut world.nodes[0];
    let step = node.data.al_next(V, &mut buf, |_| 0);
    assert!(matches!(step, AlStep::WriteTransaction { .. }), "{step:?}");
    let second = world.write(0, 8192 + 16, 8);
    let node = &mut world.nodes[0];
    node.data.al_written(V, false, node.now);
    let step = node.data.al_next(V, &mut buf, |_| 0);
    assert_eq!(step, AlStep::Idle);
    world.settle();
    for (sector, write) in [(16, first), (8192 + 16, second)] {
        let there = &world.nodes[0].disk.current[sector * 512..];
        assert_ne!(there[..8], write.to_le_bytes());
    }
    world.set_disk(0, DiskState::Failed);
    world.settle();
    for write in [first, second] {
        assert_eq!(world.nodes[0].results.get(&write), Some(&Ok(())));
    }
}

/// Whether the peer has them may not be known yet when their applications are done with them.
#[test]
fn the_bitmap_names_writes_that_the_peer_has_received_and_then_refused() {
    let mut world = World::new(1, SECTORS, Protocol::B);
    world.pass_on = true;
    world.connect();
    let write = world.write(0, 16, 8);
    // All but the disk of node 1.
    let slow = |world: &mut World| {
        let steps = [
            (0, 7),
            (0, 6),
            (0, 0),
            (0, 1),
            (1, 3),
            (1, 2),
            (0, 4),
            (0, 8),
        ];
        while steps.into_iter().any(|(at, kind)| world.step(at, kind)) {}
    };
    slow(&mut world);
    assert_eq!(world.nodes[0].results.get(&write), Some(&Ok(())));
    world.set_conn(0, ConnState::WfBitMapS);
    world.set_conn(1, ConnState::WfBitMapT);
    world.nodes[0].order(&Order::NewEpoch);
    world.nodes[0].order(&Order::SendBitmap(V));
    let bitmap = |sent: &[Command]| {
        sent.contains(&Command::CompressedBitmap) || sent.contains(&Command::Bitmap)
    };
    slow(&mut world);
    assert!(!bitmap(&world.nodes[0].sent));
    world.nodes[1].disk.fail_writes = 1;
    world.run_until(|world| bitmap(&world.nodes[0].sent));
    assert!(world.nodes[0].is_set(2));
}

/// Seed 1123731: the references of the later write went with the log of the disk that failed.
#[test]
fn an_older_write_clears_no_bit_of_a_disk_that_was_attached_since() {
    let mut world = World::new(1, SECTORS, Protocol::A);
    world.connect_as(ConnState::WfBitMapS, ConnState::WfBitMapT);
    for node in &mut world.nodes {
        node.order(&Order::SetAllBits(V));
    }
    world.start_sync(0);
    world.set_conn(0, ConnState::PausedSyncS);
    world.set_conn(1, ConnState::PausedSyncT);
    for _ in 0..2 {
        world.write(0, 16, 8);
        // All but the disk of node 1.
        let steps = [
            (0, 7),
            (0, 6),
            (0, 0),
            (0, 1),
            (0, 8),
            (1, 3),
            (1, 2),
            (0, 4),
        ];
        while steps.into_iter().any(|(at, kind)| world.step(at, kind)) {}
    }
    world.attach_again(0);
    world.nodes[0].data.load_bitmap_page(V, 0, &[0xff; 4096]);
    for number in 0..100 {
        world.step(
            1 - number / 10 % 2,
            [6, 2, 4, 1, 0, 3, 8, 7, 9, 5][number % 10],
        );
        world.check_marked();
    }
}

/// Seed 178282: the peer had lost its power, and with it the write.
#[test]
fn an_ended_write_that_counts_as_settled_when_the_peer_is_back_clears_no_bits() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.connect_as(ConnState::WfBitMapT, ConnState::WfBitMapS);
    for node in &mut world.nodes {
        node.order(&Order::SetAllBits(V));
    }
    world.start_sync(1);
    world.set_conn(0, ConnState::PausedSyncT);
    world.set_conn(1, ConnState::PausedSyncS);
    let write = world.write(0, 16, 8);
    world.run_until(|world| world.nodes[0].results.contains_key(&write));
    assert_ne!(world.nodes[0].data.counters(V).in_flight_sectors, 0);
    world.disconnect_and_freeze();
    world.settle_at_once();
    world.reconnect_and_resend();
    assert_eq!(world.nodes[0].data.counters(V).in_flight_sectors, 0);
    assert!(world.nodes[0].is_set(2));
}

/// Nobody asks for its next part once the disk is gone.
#[test]
fn a_bitmap_to_be_sent_from_a_disk_that_fails_holds_up_no_requests() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.connect();
    world.set_conn(0, ConnState::WfBitMapS);
    world.nodes[0].order(&Order::SendBitmap(V));
    world.set_disk(0, DiskState::Failed);
    world.set_conn(0, ConnState::Connected);
    world.set_disk(0, DiskState::Diskless);
    world.nodes[0].order(&Order::DiskDetached(V));
    assert!(world.nodes[0].data.take_disk(V).is_some());
    let write = world.write(0, 64, 8);
    world.settle();
    assert_eq!(world.nodes[0].results.get(&write), Some(&Ok(())));
}

/// Only the peer, whose disk has failed, knew which blocks the disk that was attached has missed.
#[test]
fn nothing_is_read_from_an_inconsistent_disk_before_its_bitmap_is_complete() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.connect_diskless(0);
    world.write(0, 16, 8);
    world.settle();
    world.attach_again(0);
    world.set_conn(0, ConnState::WfBitMapT);
    world.set_disk(0, DiskState::Inconsistent);
    world.peer_disk_lost(0);
    let read = world.read(0, 16, 8);
    assert_eq!(
        world.nodes[0].results.get(&read),
        Some(&Err(IoError::NoData))
    );
}

/// By the time it gets to the disk the peer may have a disk again, or be gone.
#[test]
fn a_write_of_a_diskless_peer_is_marked_when_it_arrives() {
    let mut world = World::new(1, SECTORS, Protocol::A);
    world.connect_diskless(0);
    for sector in [16, 64] {
        world.write(0, sector, 8);
        // Send, report, end: the next one is in another epoch.
        while [0, 1, 8].into_iter().any(|kind| world.step(0, kind)) {}
    }
    while world.step(1, 3) {}
    assert_eq!(world.nodes[1].data.counters(V).unacked, 2);
    assert!(world.nodes[1].is_set(2) && world.nodes[1].is_set(8));
    world.settle();
}

/// The C driver as target may tell of the end on one socket before its last ack is on the other.
#[test]
fn the_end_of_a_resync_that_overtakes_the_last_ack_is_not_forgotten() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.connect_as(ConnState::WfBitMapS, ConnState::WfBitMapT);
    for node in &mut world.nodes {
        node.order(&Order::SetAllBits(V));
    }
    world.start_sync(0);
    let done = |upcalls: &[Upcall]| {
        let end = |upcall: &&Upcall| matches!(upcall, Upcall::ResyncDone { .. });
        upcalls.iter().filter(end).count()
    };
    world.run_until(|world| world.nodes[0].data.counters(V).sent_sectors != 0);
    world.nodes[0].order(&Order::CheckResyncDone {
        volume: V,
        failed: false,
    });
    for _ in 0..100_000 {
        // All but the control plane.
        let worked = (0..9).any(|kind| world.step(0, kind) | world.step(1, kind));
        if !worked && done(&world.nodes[1].upcalls) != 0 {
            break;
        }
        if !worked {
            world.advance_clock(Duration::from_millis(100));
        }
    }
    assert_eq!(done(&world.nodes[1].upcalls), 1, "the target");
    assert_eq!(done(&world.nodes[0].upcalls), 1, "the source");
}

/// The source of a sync hears of the loss of its target's disk before all acks have arrived, and
/// goes on to write to blocks that the lost disk had got. The acks travel on the other socket.
fn an_ack_that_comes_after_the_loss_of_the_disk(resync: bool) {
    let mut world = World::new(1, SECTORS, Protocol::A);
    world.connect_as(ConnState::WfBitMapS, ConnState::WfBitMapT);
    for node in world.nodes.iter_mut().filter(|_| resync) {
        node.order(&Order::SetAllBits(V));
    }
    world.start_sync(0);
    if !resync {
        world.write(0, 16, 8);
    }
    // All but the arrival of acks at the source.
    for _ in 0..10 {
        for at in 0..2 {
            while (0..9).any(|kind| (at, kind) != (0, 4) && world.step(at, kind)) {}
        }
        world.advance_clock(Duration::from_millis(100));
    }
    assert!(!world.nodes[1].meta_out.is_empty() && !world.nodes[1].is_set(2));
    world.peer_disk_lost(0);
    world.write(0, 16, 8);
    while [0, 1, 6, 7, 8].into_iter().any(|kind| world.step(0, kind)) {}
    assert!(world.nodes[0].is_set(2), "marked");
    while world.step(0, 4) {}
    assert!(world.nodes[0].is_set(2), "kept");
}

#[test]
fn an_ack_of_a_resync_that_has_ended_clears_no_bits() {
    an_ack_that_comes_after_the_loss_of_the_disk(true);
}

#[test]
fn an_ack_of_an_older_write_does_not_clear_the_bits_of_a_later_one() {
    an_ack_that_comes_after_the_loss_of_the_disk(false);
}

/// A slot that becomes free wakes it; until then it would keep a processor busy.
#[test]
fn a_resync_that_has_no_slot_for_a_checksum_comes_to_rest() {
    let extent = 32768;
    let mut world = World::with_limits(1, extent + 8, Protocol::C, 67, 1, 2048);
    world.checksums = true;
    world.connect_as(ConnState::WfBitMapS, ConnState::WfBitMapT);
    for node in &mut world.nodes {
        node.order(&Order::SetAllBits(V));
    }
    world.start_sync(0);
    world.write(0, extent, 8);
    while [7, 8, 0, 6].into_iter().any(|kind| world.step(0, kind)) {}
    while world.step(1, 3) {}
    assert_eq!(
        world.nodes[1].data.counters(V).unacked,
        1,
        "in the only slot"
    );
    world.nodes[1].data.take_wants();
    assert!(!world.step(1, 0));
    assert!(!world.nodes[1].data.take_wants().sender);
    world.settle();
    world.check_idle();
}

/// Seeds 75269, 84634 and 130659: two nodes that asked each other about two volumes had no slot
/// left for the answers, and neither read.
#[test]
fn what_a_resync_asks_for_leaves_slots_for_the_answers() {
    for checksums in [false, true] {
        let mut world = World::with_limits(1, SECTORS, Protocol::C, 67, 32, 2048);
        world.checksums = checksums;
        world.connect();
        world.settle();
        world.disconnect();
        for block in 0..100 {
            world.write(0, 16 * block, 8);
            world.settle();
        }
        world.reconnect_with_bitmaps(0);
        world.run_until(|world| world.conn(1) == ConnState::SyncTarget);
        for _ in 0..50 {
            while [0, 1, 5, 6].into_iter().any(|kind| world.step(1, kind)) {}
            world.advance_clock(Duration::from_millis(100));
        }
        let asked = world.nodes[1].data.counters(V);
        assert!(asked.unacked + asked.pending <= 12, "{asked:?}");
        world.settle();
        world.check_equal();
        world.check_idle();
    }
}

/// The next disk has other data, and may still be on its way to be attached.
#[test]
fn a_request_that_waits_for_a_disk_does_not_wait_for_the_next_one() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.may_fail = true;
    world.connect_as(ConnState::WfBitMapS, ConnState::WfBitMapT);
    for node in &mut world.nodes {
        node.order(&Order::SetAllBits(V));
    }
    world.start_sync(0);
    world.write(0, 16, 8);
    // The write stays with the disk and keeps its extent.
    while [7, 8].into_iter().any(|kind| world.step(0, kind)) {}
    for _ in 0..10 {
        while [(1, 0), (1, 1), (0, 3), (0, 5)]
            .into_iter()
            .any(|(at, kind)| world.step(at, kind))
        {}
        world.advance_clock(Duration::from_millis(100));
    }
    assert!(world.nodes[0].data.counters(V).unacked > 0, "asked");
    assert_eq!(world.nodes[0].jobs.len(), 1, "the write only");
    world.set_disk(0, DiskState::Failed);
    world.step(0, 6);
    world.peer_disk_lost(1);
    world.set_conn(0, ConnState::Connected);
    world.attach_again(0);
    world.settle();
    assert_eq!(world.nodes[0].data.counters(V).read_sectors, 0);
    world.check_idle();
}

/// What the peer hears of its end comes on another way than the bitmaps, and may be later.
#[test]
fn a_write_that_is_refused_while_a_disk_is_attached_is_marked_on_both_nodes() {
    let mut world = World::new(1, SECTORS, Protocol::A);
    world.connect();
    world.set_disk(1, DiskState::Negotiating);
    world.write(0, 16, 8);
    world.settle();
    for node in &world.nodes {
        assert!(node.is_set(2));
    }
    world.check_idle();
}

/// The disk is lost and another one attached while data for the first one are being received.
#[test]
fn data_of_a_resync_do_not_reach_the_next_disk() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.connect_as(ConnState::WfBitMapS, ConnState::WfBitMapT);
    for node in &mut world.nodes {
        node.order(&Order::SetAllBits(V));
    }
    world.start_sync(0);
    world.nodes[1].hold_payload = true;
    world.run_until(|world| world.nodes[1].held_payload.is_some());
    world.set_disk(1, DiskState::Failed);
    world.peer_disk_lost(0);
    world.set_conn(1, ConnState::Connected);
    world.attach_again(1);
    world.nodes[1].order(&Order::SetAllBits(V));
    let (now, node) = (world.now, &mut world.nodes[1]);
    let weight = node.weight();
    let (id, ok) = node.held_payload.take().expect("held");
    node.hold_payload = false;
    node.data.peer_payload(id, ok, now);
    world.settle();
    assert_eq!(world.nodes[1].weight(), weight);
    assert_eq!(world.nodes[1].data.counters(V).written_sectors, 0);
    world.check_idle();
}

/// The run of the target ends while data for it wait for their turn, or are with the disk.
fn data_of_a_run_that_has_ended(at_the_disk: bool) {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.connect_as(ConnState::WfBitMapS, ConnState::WfBitMapT);
    for node in &mut world.nodes {
        node.order(&Order::SetAllBits(V));
    }
    world.start_sync(0);
    let held = |world: &World| {
        let node = &world.nodes[1];
        node.data.has_peer_io() && node.data.counters(V).received_sectors != 0
    };
    // All but the disk of the target, or all but what goes to it.
    let skip = if at_the_disk { 6 } else { 5 };
    for _ in 0..100 {
        for at in 0..2 {
            while (0..9).any(|kind| (at, kind) != (1, skip) && world.step(at, kind)) {}
        }
        world.advance_clock(Duration::from_millis(1));
    }
    assert!(at_the_disk || held(&world));
    let (weight, written) = (
        world.nodes[1].weight(),
        world.nodes[1].data.counters(V).written_sectors,
    );
    for at in 0..2 {
        world.nodes[at].order(&Order::StopResync(V));
        world.set_conn(at, ConnState::Connected);
    }
    world.settle();
    let node = &world.nodes[1];
    assert_eq!(node.weight(), weight, "calls nothing good");
    if !at_the_disk {
        assert_eq!(node.data.counters(V).written_sectors, written);
    }
    world.check_idle();
}

#[test]
fn data_of_a_resync_that_has_ended_do_not_go_to_the_disk() {
    data_of_a_run_that_has_ended(false);
}

#[test]
fn data_of_a_resync_that_has_ended_call_no_blocks_good() {
    data_of_a_run_that_has_ended(true);
}

/// The source runs ahead while its disk is slow with a read, and syncs again at once. What it has
/// read was not protected from the write in between.
#[test]
fn what_was_read_for_a_run_that_has_ended_is_not_data_of_the_next_one() {
    let mut world = World::new(1, SECTORS, Protocol::A);
    world.connect();
    world.settle();
    world.disconnect();
    world.write(0, 16, 8);
    world.settle();
    world.reconnect_with_bitmaps(0);
    let read = |job: &Job| matches!(job, Job::Peer(drbd_core::data::PeerIo::Read { .. }));
    world.run_until(|world| world.nodes[0].jobs.iter().any(read));
    let Some(Job::Peer(drbd_core::data::PeerIo::Read {
        id,
        sector,
        len_bytes,
        ..
    })) = world.nodes[0].jobs.pop()
    else {
        panic!("a read");
    };
    let old = world.nodes[0].disk.read(sector.0, len_bytes);
    world.set_conn(0, ConnState::Ahead);
    world.nodes[0].order(&Order::StopResync(V));
    world.set_conn(1, ConnState::Behind);
    world.nodes[1].order(&Order::StopResync(V));
    let write = world.write(0, 16, 8);
    while [0, 1, 6, 7, 8].into_iter().any(|kind| world.step(0, kind)) {}
    assert_eq!(world.nodes[0].results.get(&write), Some(&Ok(())));
    world.start_sync(0);
    let all = |world: &mut World, steps: &[(usize, u64)]| {
        for _ in 0..10 {
            while steps.iter().any(|(at, kind)| world.step(*at, *kind)) {}
            world.advance_clock(Duration::from_millis(20));
        }
    };
    // The target asks again; then the old read ends, and its reply is faster.
    all(&mut world, &[(1, 0), (1, 1)]);
    let now = world.now;
    world.nodes[0].pages.insert(id.slot, old);
    world.nodes[0].data.peer_io_read(id, true, false, now);
    all(&mut world, &[(0, 0), (0, 1), (1, 3), (1, 5), (1, 6)]);
    // It waits for a moment with asking again.
    world.settle();
    world.advance_clock(Duration::from_secs(2));
    world.settle();
    world.check_equal();
    world.check_idle();
}

/// The worker for the disk is late: a flush that is due when the link is lost would begin in the
/// next connection, before the writes that come over that, and be taken for the flush of those.
#[test]
fn a_flush_that_the_lost_connection_was_due_is_not_one_of_the_next() {
    let flush = |job: &Job| matches!(job, Job::Flush(_));
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.connect();
    world.settle();
    let write = |world: &mut World| {
        world.write(0, 16, 8);
        while [0, 1, 6, 7, 8].into_iter().any(|kind| world.step(0, kind)) {}
        while world.step(1, 3) {}
        world.step(1, 5);
        let begun = world.nodes[1].jobs.iter().any(flush);
        while world.step(1, 6) {}
        while world.step(1, 2) || world.step(0, 4) || world.step(0, 8) {}
        world.advance_clock(Duration::from_millis(5));
        while [0, 1].into_iter().any(|kind| world.step(0, kind)) || world.step(1, 3) {}
        assert!(world.nodes[1].data.has_peer_io(), "a flush is due");
        begun
    };
    assert!(!write(&mut world));
    world.disconnect();
    while world.step(0, 6) || world.step(0, 8) || world.step(0, 1) || world.step(1, 1) {}
    for node in &mut world.nodes {
        node.broken = false;
        node.upcalls.clear();
    }
    world.connect();
    assert!(!write(&mut world), "a flush before the write");
    world.settle();
    world.check_equal();
    world.check_idle();
}
