//! Two data planes back to back: packets that are rare, and what each of them promises.

#[path = "data_pair/node.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod node;
#[path = "data_pair/world.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod world;

use drbd_core::data::PeerIo;
use drbd_core::link::{
    ControlItem, ControlKind, LinkError, LocalError, Order, Upcall, View, VolumeIndex, VolumeNumber,
};
use drbd_core::request::IoError;
use drbd_core::time::Duration;
use drbd_format::types::{ConnState, DiskState, Protocol, ReadBalancing};
use drbd_format::units::SectorCount;
use drbd_format::wire::command::Command;
use node::{Job, V};
use world::World;

const SECTORS: u64 = 8 * 2000;

fn count(world: &World, at: usize, command: Command) -> usize {
    let sent = world.nodes[at].sent.iter();
    sent.filter(|&&sent| sent == command).count()
}

/// Both begin a full sync; the first node is the source.
fn full_sync(world: &mut World) {
    world.connect_as(ConnState::WfBitMapS, ConnState::WfBitMapT);
    for node in &mut world.nodes {
        node.order(&drbd_core::link::Order::SetAllBits(V));
    }
    world.start_sync(0);
}

#[test]
fn a_thin_resync_tells_of_empty_space_instead_of_sending_it() {
    for zeroes in [false, true] {
        let mut world = World::new(1, SECTORS, Protocol::C);
        world.granularity_bytes = 65_536;
        world.zeroes_for_discards = zeroes;
        world.nodes[1].disk.current.fill(0xee);
        world.nodes[0].disk.current[..100 * 4096].fill(0x11);
        full_sync(&mut world);
        world.settle();
        assert!(world.synced);
        world.check_equal();
        world.check_idle();
        assert!(count(&world, 1, Command::RsThinReq) > 0);
        assert!(count(&world, 0, Command::RsDeallocated) > 50);
        let sent = world.nodes[0].data.counters(V).sent_sectors;
        assert!(sent < 8 * 300, "{sent} sectors sent");
    }
}

#[test]
fn a_block_that_the_source_can_not_read_stays_out_of_sync() {
    for (checksums, granularity_bytes) in [(false, 0), (true, 0), (false, 65_536)] {
        let mut world = World::new(1, SECTORS, Protocol::C);
        world.may_fail = true;
        world.checksums = checksums;
        world.granularity_bytes = granularity_bytes;
        world.fill(0);
        world.nodes[0].disk.fail_reads = 1;
        full_sync(&mut world);
        world.settle();
        assert!(world.synced, "it ends all the same");
        assert!(world.failed_bits > 0);
        assert!(world.nodes[1].weight() > 0, "marked for the next time");
        assert_eq!(world.disk_errors, [(0, LocalError::Read)]);
        world.check_marked();
        world.check_idle();
    }
}

/// Both begin a full sync with checksums. The target can neither read nor compute so many.
fn checksums_that_fail(reads: u32, digests: u32) -> World {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.may_fail = true;
    world.checksums = true;
    world.fill(0);
    world.nodes[1].disk.fail_reads = reads;
    world.nodes[1].fail_digests = digests;
    full_sync(&mut world);
    world
}

#[test]
fn a_block_that_the_target_has_no_checksum_of_is_asked_for_without() {
    for (reads, digests) in [(1, 0), (0, 1)] {
        let mut world = checksums_that_fail(reads, digests);
        world.settle();
        assert!(world.synced);
        assert_eq!(world.failed_bits, 0);
        assert_eq!(count(&world, 1, Command::RsDataRequest), 1);
        assert!(count(&world, 1, Command::CsumRsRequest) > 0);
        let errors = [(1, LocalError::Read)];
        assert_eq!(world.disk_errors, errors[..reads as usize]);
        world.check_equal();
        world.check_idle();
    }
}

/// The source hears of it: the target refuses what was sent.
#[test]
fn blocks_that_the_target_can_neither_read_nor_write_stay_out_of_sync() {
    let mut world = checksums_that_fail(u32::MAX, 0);
    world.nodes[1].disk.fail_writes = u32::MAX;
    world.settle();
    assert!(world.synced && world.failed_bits == SECTORS / 8);
    assert!(count(&world, 1, Command::RsDataRequest) > 0);
    for node in &world.nodes {
        assert_eq!(node.weight(), SECTORS / 8);
    }
    world.check_idle();
}

/// Nothing that came would be written.
#[test]
fn a_target_whose_disk_is_lost_does_not_ask_for_what_it_has_no_checksum_of() {
    let mut world = checksums_that_fail(0, 0);
    world.run_until(|world| world.nodes[1].data.has_peer_io());
    world.set_disk(1, DiskState::Attaching);
    while [5, 0, 1].into_iter().any(|kind| world.step(1, kind)) {}
    assert!(world.nodes[1].jobs.is_empty() && !world.nodes[1].data.has_peer_io());
    assert_eq!(count(&world, 1, Command::RsDataRequest), 0);
}

#[test]
fn a_block_that_can_not_be_read_counts_as_different_in_a_verify() {
    for (broken, digest) in [(0, false), (0, true), (1, false), (1, true)] {
        let mut world = World::new(1, SECTORS, Protocol::C);
        world.fill(0);
        world.nodes[1].disk.current = world.nodes[0].disk.current.clone();
        world.nodes[1].disk.stable = world.nodes[0].disk.current.clone();
        world.connect();
        world.nodes[broken].disk.fail_reads = u32::from(!digest);
        world.nodes[broken].fail_digests = u32::from(digest);
        world.start_verify(0);
        world.settle();
        assert_eq!(world.verified, 2, "both ended");
        assert!(world.nodes[0].weight() > 0);
        let errors = [(broken, LocalError::Read)];
        assert_eq!(world.disk_errors, errors[usize::from(digest)..]);
    }
}

#[test]
fn a_read_that_the_peers_disk_fails_is_tried_again() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.connect_diskless(0);
    world.nodes[1].disk.fail_reads = 1;
    let read = world.read(0, 0, 8);
    world.settle();
    assert_eq!(world.disk_errors, [(1, LocalError::Read)]);
    assert_eq!(count(&world, 0, Command::DataRequest), 2);
    assert_eq!(world.nodes[0].results[&read], Ok(()));
    world.check_reads(0);
    world.check_idle();
}

/// What the peer has asked for waits for its turn when the disk is lost, and another one comes.
#[test]
fn a_read_of_the_peer_does_not_go_to_the_disk_that_comes_after_the_one_it_was_for() {
    for resync in [false, true] {
        let mut world = World::new(1, SECTORS, Protocol::C);
        if resync {
            full_sync(&mut world);
        } else {
            world.connect_diskless(1);
            world.read(1, 0, 8);
        }
        for _ in 0..10 {
            while (0..10).any(|kind| world.step(1, kind) || (kind != 5 && world.step(0, kind))) {}
            world.advance_clock(Duration::from_millis(100));
        }
        assert!(world.nodes[0].data.has_peer_io());
        let jobs = world.nodes[0].jobs.len();
        world.set_disk(0, DiskState::Attaching);
        while world.step(0, 5) {}
        assert_eq!(world.nodes[0].jobs.len(), jobs, "none of them reads");
        assert!(!world.nodes[0].data.has_peer_io());
        while world.step(0, 2) {}
        assert_eq!(
            world.nodes[0].data.counters(V).unacked,
            0,
            "all were answered"
        );
    }
}

#[test]
fn a_source_that_runs_ahead_takes_back_what_it_was_asked_for() {
    let mut world = World::new(1, SECTORS, Protocol::A);
    world.fill(0);
    full_sync(&mut world);
    world.run_until(|world| count(world, 1, Command::RsDataRequest) > 0);
    world.set_conn(0, ConnState::Ahead);
    world.settle();
    let session = world.nodes[1].data.session(V).expect("not over");
    assert!(session.is_cancelled());
    assert_eq!((session.in_flight, session.outstanding), (0, 0));
    assert!(world.nodes[1].weight() > 0);
    world.check_marked();
}

/// The target asks for the device in two parts, of which the source can not read the first one,
/// and takes back the second one as it runs ahead.
fn fails_and_cancels(world: &mut World) {
    world.set_conn(0, ConnState::SyncSource);
    world.nodes[0].disk.fail_reads = 1;
    let errors = world.disk_errors.len();
    world.run_until(|world| world.disk_errors.len() > errors);
    let asked = count(world, 1, Command::RsDataRequest);
    world.set_conn(0, ConnState::Ahead);
    world.run_until(|world| count(world, 1, Command::RsDataRequest) > asked);
    for _ in 0..10 {
        for kind in 0..10 {
            world.step(0, kind);
            world.step(1, kind);
        }
    }
}

/// A block that fails in each pass was counted in each, and the run seemed to be over.
#[test]
fn a_block_that_fails_again_counts_once_when_what_was_taken_back_is_asked_for_again() {
    let mut world = World::new(1, 2 * 2048, Protocol::A);
    world.may_fail = true;
    world.fill(0);
    full_sync(&mut world);
    for pass in 1..4 {
        fails_and_cancels(&mut world);
        assert!(!world.synced, "pass {pass}");
        let session = world.nodes[1].data.session(V).expect("not over");
        assert!(session.is_cancelled() && session.outstanding == 0);
        assert_eq!(session.failed, 256, "pass {pass}");
    }
    world.set_conn(0, ConnState::SyncSource);
    world.run_until(|world| world.synced);
    world.settle();
    assert_eq!(world.failed_bits, 0);
    world.check_equal();
}

/// Nor is what the source still reads then asked for twice.
#[test]
fn what_was_taken_back_is_asked_for_again_behind_the_last_answer() {
    let mut world = World::new(1, 2 * 16, Protocol::A);
    world.granularity_bytes = 8192;
    world.fill(0);
    full_sync(&mut world);
    world.run_until(|world| !world.nodes[0].jobs.is_empty());
    world.set_conn(0, ConnState::Ahead);
    for _ in 0..200 {
        for kind in 0..10 {
            world.step(1, kind);
            if kind != 6 {
                world.step(0, kind);
            }
        }
        world.advance_clock(Duration::from_millis(10));
        if world.nodes[1]
            .data
            .session(V)
            .is_some_and(|run| run.is_cancelled())
        {
            world.set_conn(0, ConnState::SyncSource);
        }
    }
    assert_eq!(count(&world, 1, Command::RsThinReq), 2);
    world.settle();
    assert!(world.synced);
    assert_eq!(count(&world, 1, Command::RsThinReq), 3);
    world.check_equal();
}

/// What the source could not read was written anew; a later write is on the source's disk only. It
/// was taken for what had failed, and the run was over.
#[test]
fn a_failed_block_that_was_written_since_does_not_count_any_more() {
    for writer in 0..2 {
        let mut world = World::new(1, 2 * 32_768, Protocol::C);
        world.may_fail = true;
        world.fill(0);
        world.nodes[0].disk.fail_reads = 1;
        full_sync(&mut world);
        world.run_until(|world| {
            let session = world.nodes[1].data.session(V).expect("not over");
            session.position.0 > 4096 && session.failed != 0
        });
        world.write(writer, 0, 2048);
        world.run_until(|world| !world.nodes[1].is_set(0));
        world.write(0, 4096, 2048);
        let is_write =
            |job: &Job| matches!(job, Job::Peer(PeerIo::Write { sector, .. }) if sector.0 == 4096);
        world.run_until(|world| world.nodes[1].jobs.iter().any(is_write));
        let number = world.nodes[1].jobs.iter().position(is_write);
        world.nodes[1].disk.fail_writes = 1;
        world.nodes[1].run_job(number.expect("it is there"));
        assert!(world.nodes[1].is_set(512) && !world.synced);
        world.settle();
        assert!(world.synced);
        assert_eq!(world.failed_bits, 0);
        world.check_equal();
    }
}

/// The socket is full: the packet that tells of a write stays with the sender for long.
#[test]
fn a_write_of_a_source_that_runs_ahead_does_not_wait_for_the_socket() {
    for (queued, given_up) in [(true, false), (false, false), (false, true)] {
        let mut world = World::new(1, SECTORS, Protocol::A);
        world.connect();
        world.settle();
        world.state[0].pdsk = DiskState::Inconsistent;
        world.set_conn(0, ConnState::Ahead);
        world.set_conn(1, ConnState::Behind);
        let write = world.write(0, 16, 8);
        while world.nodes[0].al_step() || world.nodes[0].housekeeping() {}
        if !queued {
            assert!(world.nodes[0].send());
        }
        while [6, 7, 8].into_iter().any(|kind| world.step(0, kind)) {}
        let result = world.nodes[0].results.get(&write);
        assert_eq!(result, Some(&Ok(())), "{queued} {given_up}");
        if given_up {
            world.disconnect();
        }
        world.settle();
        assert!(world.nodes[0].data.bit_is_set(V, 2));
        world.check_idle();
    }
}

/// A digest in front of the data says what it was when it was sent.
#[test]
fn data_damaged_on_the_way_ends_the_connection_and_does_not_reach_the_disk() {
    let mut world = World::new(0, SECTORS, Protocol::C);
    world.connect();
    assert_ne!(world.nodes[1].data.terms().integrity_len, 0);
    world.write(0, 16, 8);
    while world.nodes[0].writes_locally() && !world.nodes[0].jobs.is_empty() {
        world.nodes[0].run_job(0);
    }
    while world.nodes[0].send() {}
    *world.nodes[0].data_out.back_mut().expect("data") ^= 1;
    world.nodes[1].broken = true;
    let mut stream = std::mem::take(&mut world.nodes[0].data_out);
    while !stream.is_empty() && world.nodes[1].receive(&mut stream) {}
    let failed = Upcall::LinkFailed(LinkError::ProtocolError);
    let mut upcalls = std::mem::take(&mut world.nodes[1].upcalls);
    upcalls.extend(std::iter::from_fn(|| world.nodes[1].data.pop_upcall()));
    assert!(upcalls.contains(&failed), "{upcalls:?}");
    world.disconnect();
    world.settle();
    assert!(world.nodes[1].disk.current.iter().all(|&byte| byte == 0));
    world.check_marked();
}

#[test]
fn an_answer_damaged_on_the_way_is_not_given_to_the_application() {
    let mut world = World::new(0, SECTORS, Protocol::C);
    world.connect_diskless(0);
    let read = world.read(0, 0, 8);
    world.run_until(|world| !world.nodes[1].data_out.is_empty());
    *world.nodes[1].data_out.back_mut().expect("data") ^= 1;
    world.nodes[0].broken = true;
    let mut stream = std::mem::take(&mut world.nodes[1].data_out);
    while !stream.is_empty() && world.nodes[0].receive(&mut stream) {}
    assert!(!world.nodes[0].results.contains_key(&read));
    world.disconnect();
    world.settle();
    assert_eq!(world.nodes[0].results[&read], Err(IoError::NoData));
}

#[test]
fn reads_are_balanced_as_configured_and_right_wherever_they_go() {
    for &policy in ReadBalancing::ALL {
        let mut world = World::new(1, SECTORS, Protocol::C);
        world.read_balancing = policy;
        world.connect();
        for number in 0..40 {
            world.write(0, number * 8, 8);
        }
        world.settle();
        let mut reads = Vec::new();
        for number in 0..40 {
            reads.push(world.read(0, number * 8, 8));
        }
        world.settle();
        for read in reads {
            assert_eq!(world.nodes[0].results[&read], Ok(()), "{policy:?}");
        }
        let remote = count(&world, 0, Command::DataRequest);
        match policy {
            ReadBalancing::PreferLocal => assert_eq!(remote, 0),
            ReadBalancing::PreferRemote => assert_eq!(remote, 40),
            ReadBalancing::RoundRobin => assert_eq!(remote, 20),
            _ => {}
        }
        world.check_reads(0);
        world.check_idle();
    }
}

#[test]
fn a_disk_that_takes_too_long_is_reported() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.disk_timeout_tenths = 20;
    world.connect();
    world.write(0, 0, 8);
    assert!(world.nodes[0].writes_locally());
    world.advance_clock(Duration::from_millis(1900));
    assert!(world.nodes[0].data.pop_upcall().is_none());
    world.advance_clock(Duration::from_millis(200));
    let failed = Upcall::LocalIoFailed {
        volume: V,
        error: LocalError::Timeout,
    };
    assert_eq!(world.nodes[0].data.pop_upcall(), Some(failed));
}

#[test]
fn a_node_knows_whether_there_is_work_for_its_disk() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.connect();
    assert!(!world.nodes[1].data.has_peer_io());
    world.write(0, 0, 8);
    world.run_until(|world| world.nodes[1].data.has_peer_io());
    world.settle();
    assert!(!world.nodes[1].data.has_peer_io());
}

/// The node begins to send the bitmap of another volume, which takes more than twenty packets.
fn begin_bitmap(world: &mut World, at: usize) {
    let (other, sectors) = (VolumeIndex(1), 8 * 700_000);
    let (now, node) = (world.now, &mut world.nodes[at]);
    node.order(&Order::NewVolume(other, VolumeNumber(1)));
    node.lend(other, sectors, 7);
    for page in 0..20 {
        node.data.load_bitmap_page(other, page, &[0x55; 4096]);
    }
    let mut view = View::INITIAL;
    view.state.disk = DiskState::UpToDate;
    view.state.conn = ConnState::WfBitMapS;
    view.capacity = SectorCount(sectors);
    node.data.set_view(other, &view, now);
    node.order(&Order::DiskAttached(other));
    node.order(&Order::SendBitmap(other));
    node.sent.clear();
}

/// Sends all there is. The bitmap is in one piece.
fn sends_bitmap_in_one_piece(world: &mut World, at: usize) {
    while world.nodes[at].send() {}
    let sent = &world.nodes[at].sent;
    let is_part = |command: &Command| *command == Command::Bitmap;
    let (first, last) = (
        sent.iter().position(is_part),
        sent.iter().rposition(is_part),
    );
    let parts = &sent[first.expect("a part")..=last.expect("a part")];
    assert!(parts.len() > 20 && parts.iter().all(is_part), "{parts:?}");
}

/// The receiver takes anything else for an error (`reference/wire.md` 6.3).
#[test]
fn no_resync_request_comes_between_the_parts_of_a_bitmap() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    full_sync(&mut world);
    begin_bitmap(&mut world, 1);
    sends_bitmap_in_one_piece(&mut world, 1);
    assert!(count(&world, 1, Command::RsDataRequest) > 0, "afterwards");
}

#[test]
fn no_barrier_comes_between_the_parts_of_a_bitmap() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.connect();
    world.write(0, 16, 8);
    world.run_until(|world| count(world, 0, Command::Data) > 0);
    while world.step(1, 3) {}
    begin_bitmap(&mut world, 0);
    for _ in 0..3 {
        assert!(world.nodes[0].send());
    }
    // The write ends, and its epoch with it.
    for _ in 0..10 {
        for (at, kind) in [(1, 5), (1, 6), (1, 2), (0, 1), (0, 6), (0, 4), (0, 8)] {
            world.step(at, kind);
        }
        world.advance_clock(Duration::from_millis(1));
    }
    sends_bitmap_in_one_piece(&mut world, 0);
    assert!(count(&world, 0, Command::Barrier) > 0, "afterwards");
}

/// What was queued for a volume that is gone counts no more: the barrier of a write waits for the
/// next one, as it does while nothing else is to be sent.
#[test]
fn packets_of_a_volume_that_is_gone_are_not_counted() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.connect();
    let (volume, kind) = (VolumeIndex(1), ControlKind::State(0));
    let node = &mut world.nodes[0];
    node.order(&Order::NewVolume(volume, VolumeNumber(1)));
    node.order(&Order::Send(ControlItem { volume, kind }));
    node.order(&Order::DropVolume(volume));
    node.sent.clear();
    world.write(0, 80, 8);
    world.settle_at_once();
    let sent = [Command::Data, Command::Barrier].map(|command| count(&world, 0, command));
    assert_eq!(sent, [1, 0]);
    world.settle();
    assert_eq!(count(&world, 0, Command::Barrier), 1);
}

/// The write waits for an ack of the peer that is still under way when an administrator switches
/// two primaries off: nothing is left to wait for, and that ack wakes nobody.
#[test]
fn a_write_that_waits_for_acks_goes_on_when_two_primaries_are_switched_off() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.two_primaries = true;
    world.connect();
    world.write(0, 16, 8);
    while [0, 1, 6, 7, 8].into_iter().any(|kind| world.step(0, kind)) {}
    while [2, 3, 5, 6].into_iter().any(|kind| world.step(1, kind)) {}
    assert!(!world.nodes[1].meta_out.is_empty(), "an ack under way");
    world.write(1, 160, 8);
    while [0, 1, 6, 7, 8].into_iter().any(|kind| world.step(1, kind)) {}
    while world.step(0, 3) {}
    assert!(world.nodes[0].stalled, "the write waits for it");
    let _ = world.nodes[0].data.take_wants();
    world.two_primaries = false;
    world.publish_link(0);
    assert!(world.nodes[0].data.take_wants().receiver);
    world.settle();
    world.check_idle();
}

/// What the peer has answered is held back while I/O is suspended, so that the epoch stays open:
/// its head says nothing of the write behind it, which the peer's disk does not finish.
#[test]
fn a_write_behind_one_that_was_answered_has_its_time_from_when_it_was_sent() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.ko_count = 2;
    world.connect();
    world.write(0, 16, 8);
    world.write(0, 160, 8);
    while [0, 1, 6, 7, 8].into_iter().any(|kind| world.step(0, kind)) {}
    while world.step(1, 3) || world.step(1, 5) {}
    assert_eq!(world.nodes[1].jobs.len(), 2);
    world.suspend(0, true);
    world.nodes[1].run_job(0);
    while world.step(1, 2) || world.step(0, 4) || world.step(0, 8) {}
    assert_eq!(world.nodes[0].data.counters(V).pending, 1);
    for _ in 0..130 {
        world.advance_clock(Duration::from_millis(100));
    }
    let upcall = world.nodes[0].data.pop_upcall();
    assert_eq!(upcall, Some(Upcall::LinkFailed(LinkError::Timeout)));
}
