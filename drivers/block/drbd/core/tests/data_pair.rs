//! Two data planes back to back: an in-memory shell with disks that have a volatile cache, and
//! packets that cross as real bytes, in any order of events that a seed chooses.
//!
//! The control plane is played by the test: it hands out views and orders.

#[path = "data_pair/node.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod node;
#[path = "data_pair/world.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod world;

use drbd_core::data::PeerIo;
use drbd_core::link::{LinkError, Order, Upcall};
use drbd_core::put_back::{select, Bug};
use drbd_core::request::Op;
use drbd_core::time::Duration;
use drbd_format::types::{ConnState, Protocol};
use drbd_format::wire::command::Command;
use node::{Job, V};
use world::World;

const PROTOCOLS: [Protocol; 3] = [Protocol::A, Protocol::B, Protocol::C];
const SECTORS: u64 = 8 * 3000 + 5;

#[test]
fn a_write_is_acknowledged_and_its_barrier_after_it() {
    for protocol in PROTOCOLS {
        let mut world = World::new(1, SECTORS, protocol);
        world.connect();
        let id = world.write(0, 16, 8);
        world.settle();
        assert_eq!(
            world.nodes[0].results.get(&id),
            Some(&Ok(())),
            "{protocol:?}"
        );
        world.check_idle();
        world.check_equal();
    }
}

#[test]
fn the_barrier_of_a_lone_write_goes_with_the_next_write_or_after_a_moment() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.connect();
    let first = world.write(0, 16, 8);
    world.settle_at_once();
    assert_eq!(world.nodes[0].results.get(&first), Some(&Ok(())));
    assert_eq!(world.nodes[0].sent, [Command::Data]);
    world.write(0, 32, 8);
    world.settle_at_once();
    let with_it = [Command::Data, Command::Barrier, Command::Data];
    assert_eq!(world.nodes[0].sent, with_it);
    world.settle();
    assert_eq!(world.nodes[0].sent[3..], [Command::Barrier]);
    world.check_idle();
}

/// One call, one frame and one interrupt of the peer less for each write in a row.
#[test]
fn the_ack_of_a_barrier_goes_with_that_of_the_write_behind_it() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.no_flushes = true;
    world.connect();
    world.write(0, 16, 8);
    world.settle_at_once();
    world.write(0, 32, 8);
    let [a, b] = &mut world.nodes;
    while a.send() {}
    let with_it = [Command::Data, Command::Barrier, Command::Data];
    assert_eq!(a.sent, with_it);
    b.data.take_wants();
    assert!(b.receive(&mut a.data_out));
    assert!(
        !b.data.take_wants().acks,
        "a write comes behind the barrier"
    );
    world.settle_at_once();
    world.write(0, 48, 8);
    world.settle();
    world.check_idle();

    let last = world.write(0, 64, 8);
    world.settle_at_once();
    assert_eq!(world.nodes[0].results.get(&last), Some(&Ok(())));
    world.flush(0);
    let [a, b] = &mut world.nodes;
    while a.send() {}
    b.data.take_wants();
    assert!(b.receive(&mut a.data_out));
    assert!(b.data.take_wants().acks, "nothing comes behind the barrier");
    world.settle();
    world.check_idle();
}

#[test]
fn the_barrier_of_a_flush_waits_for_nothing() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.connect();
    world.write(0, 16, 8);
    world.settle_at_once();
    world.flush(0);
    world.settle_at_once();
    assert_eq!(world.nodes[0].sent, [Command::Data, Command::Barrier]);
}

#[test]
fn random_writes_leave_equal_disks() {
    for seed in 0..6 {
        for protocol in PROTOCOLS {
            let mut world = World::new(seed, SECTORS, protocol);
            world.connect();
            for round in 0..200 {
                world.random_io(0);
                world.random_steps(30);
                if round % 10 == 0 {
                    world.check_stable();
                }
            }
            world.settle();
            world.check_idle();
            world.check_equal();
            assert_eq!(world.nodes[0].weight(), 0);
        }
    }
}

#[test]
fn a_small_activity_log_and_small_tables_only_delay() {
    for seed in 0..6 {
        let mut world = World::with_limits(seed, 8192 * 12, Protocol::C, 3, 12, 4);
        world.connect();
        for _ in 0..200 {
            world.random_io(0);
            world.random_steps(20);
            world.check_al();
        }
        world.settle();
        world.check_idle();
        world.check_equal();
    }
}

/// A log of two slots, and two writes that need two each. The first of them is stopped by a resync
/// until the second one has got a slot.
#[test]
fn writes_that_have_part_of_their_extents_do_not_wait_for_each_other() {
    let mut world = World::with_limits(1, 8192 * 12, Protocol::C, 2, 64, 2048);
    world.connect();
    world.settle();
    world.disconnect();
    world.write(0, 8, 8);
    world.settle();
    world.reconnect_with_bitmaps(0);
    world.run_until(|world| world.conn(1) == ConnState::SyncTarget);
    let small = world.write(1, 64, 8);
    assert!(world.nodes[1].writes_locally());
    while world.nodes[1].send() {}
    world.write(1, 8 * 8192, 8);
    assert!(world.nodes[1].writes_locally());
    let slow = world.nodes[1].jobs.pop();
    let stopped = world.write(1, 8192 - 4, 8);
    let other = world.write(1, 5 * 8192 - 4, 8);
    world.run_until(|world| world.nodes[1].results.contains_key(&small));
    world.nodes[1].writes_locally();
    world.run_until(|world| world.nodes[1].weight() == 0);
    world.settle();
    assert_eq!(world.nodes[1].results.len(), 1);
    world.nodes[1].jobs.extend(slow);
    world.settle();
    for write in [stopped, other] {
        assert!(world.nodes[1].results.contains_key(&write));
    }
}

#[test]
fn a_full_sync_makes_disks_equal_while_the_source_is_written_to() {
    for seed in 0..6 {
        let mut world = World::new(seed, SECTORS, PROTOCOLS[(seed % 3) as usize]);
        world.fill(0);
        world.connect_as(ConnState::WfBitMapS, ConnState::WfBitMapT);
        for node in &mut world.nodes {
            node.order(&Order::SetAllBits(V));
        }
        world.start_sync(0);
        for _ in 0..200 {
            world.random_io(0);
            world.random_steps(40);
        }
        world.settle();
        assert!(world.synced, "seed {seed}");
        world.check_idle();
        world.check_equal();
        assert_eq!(world.nodes[0].weight(), 0, "seed {seed}");
        assert_eq!(world.nodes[1].weight(), 0, "seed {seed}");
    }
}

/// What the disk forgets at a loss of power has to count as out of sync afterwards.
#[test]
fn a_page_that_says_in_sync_is_written_behind_a_flush_of_the_data() {
    let mut world = World::new(1, SECTORS, PROTOCOLS[2]);
    world.connect_as(ConnState::WfBitMapS, ConnState::WfBitMapT);
    for node in &mut world.nodes {
        node.order(&Order::SetAllBits(V));
    }
    world.start_sync(0);
    world.settle();
    assert!(world.synced);
    let target = &mut world.nodes[1];
    let now = target.now;
    let mut page = [0_u8; 4096];
    assert!(target.data.has_unstable_blocks(V), "nor may the superblock");
    assert!(target.data.bitmap_page(V, 0, &mut page));
    target.data.bitmap_page_written(V, 0, false, now);
    assert!(target.data.bitmap_page(V, 0, &mut page), "it failed");
    target.data.bitmap_page_written(V, 0, true, now);
    assert!(!target.data.has_unstable_blocks(V), "flushed with the page");
    assert!(!target.data.bitmap_page(V, 0, &mut page), "flushed already");
    target.data.bitmap_page_written(V, 0, true, now);
}

#[test]
fn what_was_written_while_disconnected_is_synced_afterwards() {
    for seed in 0..6 {
        let mut world = World::new(seed, SECTORS, PROTOCOLS[(seed % 3) as usize]);
        world.connect();
        for round in 0..3 {
            for _ in 0..60 {
                world.random_io(0);
                world.random_steps(20);
            }
            world.disconnect();
            for _ in 0..30 {
                world.random_io(0);
                world.random_steps(20);
            }
            world.settle();
            world.reconnect_with_bitmaps(0);
            for _ in 0..60 {
                world.random_io(0);
                world.random_steps(20);
            }
            world.settle();
            assert!(world.synced, "seed {seed} round {round}");
            world.check_idle();
            world.check_equal();
        }
    }
}

#[test]
fn a_sync_that_is_interrupted_goes_on_later() {
    for seed in 0..6 {
        let mut world = World::new(seed, SECTORS, Protocol::C);
        world.fill(0);
        world.connect_as(ConnState::WfBitMapS, ConnState::WfBitMapT);
        for node in &mut world.nodes {
            node.order(&Order::SetAllBits(V));
        }
        world.start_sync(0);
        for _ in 0..4 {
            for _ in 0..10 {
                world.random_io(0);
                world.random_steps(60);
            }
            world.disconnect();
            world.random_steps(200);
            world.settle();
            world.reconnect_with_bitmaps(0);
        }
        world.settle();
        assert!(world.synced, "seed {seed}");
        world.check_idle();
        world.check_equal();
    }
}

#[test]
fn nothing_acknowledged_as_stable_is_lost_with_the_peers_cache() {
    for seed in 0..6 {
        let mut world = World::new(seed, SECTORS, PROTOCOLS[(seed % 3) as usize]);
        world.connect();
        for _ in 0..120 {
            world.random_io(0);
            world.random_steps(25);
        }
        world.disconnect();
        world.settle();
        world.nodes[1].lose_power();
        // Every block that differs is marked.
        world.check_marked();
        world.reconnect_with_bitmaps(0);
        world.settle();
        world.check_equal();
    }
}

#[test]
fn roles_can_be_exchanged() {
    for seed in 0..6 {
        let mut world = World::new(seed, SECTORS, Protocol::C);
        world.connect();
        for round in 0..6 {
            let primary = round % 2;
            for _ in 0..40 {
                world.random_io(primary);
                world.random_steps(20);
            }
            world.settle();
            world.check_idle();
            world.check_equal();
        }
    }
}

#[test]
fn a_failed_write_of_the_peer_is_marked_and_not_reported() {
    for protocol in PROTOCOLS {
        for seed in 0..4 {
            let mut world = World::new(seed, SECTORS, protocol);
            world.connect();
            world.nodes[1].disk.fail_writes = 3;
            for _ in 0..50 {
                world.random_io(0);
                world.random_steps(20);
            }
            world.settle();
            world.check_idle();
            assert!(world.nodes[0].results.values().all(Result::is_ok));
            world.check_marked();
        }
    }
}

#[test]
fn a_diskless_node_reads_and_writes_through_its_peer() {
    for seed in 0..6 {
        let mut world = World::new(seed, SECTORS, PROTOCOLS[(seed % 3) as usize]);
        world.connect_diskless(0);
        for _ in 0..100 {
            world.random_io(0);
            world.random_steps(30);
        }
        world.settle();
        world.check_idle();
        assert!(
            world.nodes[0].results.values().all(Result::is_ok),
            "seed {seed}"
        );
        world.check_reads(0);
    }
}

/// The peer may hold a write back that it has acknowledged as received; a read must not overtake
/// it.
#[test]
fn a_remote_read_sees_every_write_that_was_reported_as_done() {
    for seed in 0..8 {
        for protocol in PROTOCOLS {
            let mut world = World::new(seed, SECTORS, protocol);
            world.connect_diskless(0);
            for place in 0..120 {
                let sector = place * 24;
                let number = world.write(0, sector, 8);
                while !world.nodes[0].results.contains_key(&number) {
                    world.random_steps(10);
                }
                let read = world.read(0, sector, 8);
                world.random_steps(5);
                while !world.nodes[0].results.contains_key(&read) {
                    world.random_steps(10);
                }
                let (_, data) = &world.nodes[0].read_back[&read];
                assert_eq!(data[..8], number.to_le_bytes(), "seed {seed} {protocol:?}");
            }
            world.settle();
            world.check_idle();
        }
    }
}

#[test]
fn verify_finds_exactly_the_blocks_that_differ() {
    for seed in 0..4 {
        let mut world = World::new(seed, 8 * 300 + 3, Protocol::C);
        world.fill(0);
        world.nodes[1].disk.current = world.nodes[0].disk.current.clone();
        world.nodes[1].disk.stable = world.nodes[0].disk.current.clone();
        for block in [0_usize, 17, 299, 300] {
            world.nodes[1].disk.current[block * 4096] ^= 1;
        }
        world.connect();
        world.start_verify(0);
        for _ in 0..20 {
            world.random_io_read(0);
            world.random_steps(50);
        }
        world.settle();
        assert_eq!(world.verified, 2, "both ended");
        assert_eq!(world.nodes[0].weight(), 4);
        assert_eq!(world.nodes[1].weight(), 4);
    }
}

#[test]
fn checksum_resync_sends_only_what_differs() {
    for seed in 0..4 {
        let mut world = World::new(seed, 8 * 2000, Protocol::C);
        world.fill(0);
        world.nodes[1].disk.current = world.nodes[0].disk.current.clone();
        world.nodes[1].disk.stable = world.nodes[0].disk.current.clone();
        for block in [3_usize, 700] {
            world.nodes[1].disk.current[block * 4096] ^= 1;
        }
        world.checksums = true;
        world.connect_as(ConnState::WfBitMapS, ConnState::WfBitMapT);
        for node in &mut world.nodes {
            node.order(&Order::SetAllBits(V));
        }
        world.start_sync(0);
        world.settle();
        assert!(world.synced, "seed {seed}");
        world.check_equal();
        let sent = world.nodes[0].data.counters(V).sent_sectors;
        assert!(sent < 8 * 600, "{sent} sectors sent");
        world.check_idle();
    }
}

#[test]
fn discards_and_zeroes_reach_both_disks() {
    let mut zeroes = 0;
    for seed in 0..12 {
        let mut world = World::new(seed, SECTORS, Protocol::C);
        world.connect();
        // Zeroes are not sent to who expects digests.
        let digests = world.nodes[1].data.terms().integrity_len != 0;
        let op = if seed % 2 == 0 || digests {
            Op::Discard
        } else {
            Op::WriteZeroes
        };
        zeroes += u32::from(op == Op::WriteZeroes);
        for _ in 0..30 {
            world.random_io(0);
            world.random_steps(10);
            world.random_discard(0, op);
            world.random_steps(10);
        }
        world.settle();
        world.check_idle();
        world.check_equal();
    }
    assert!(zeroes > 1, "seeds without digests: {zeroes}");
}

/// Protocols B and C: a write reported as done survives the end of the connection on the peer,
/// even if it was only received and waited for an earlier epoch.
#[test]
fn a_promise_of_the_peer_outlives_the_connection() {
    for seed in 0..8 {
        let mut world = World::new(seed, SECTORS, PROTOCOLS[1 + (seed % 2) as usize]);
        world.connect();
        for _ in 0..100 {
            world.random_io(0);
            world.random_steps(15);
        }
        let done = world.done_writes();
        world.disconnect();
        world.settle();
        world.check_promised(&done);
    }
}

#[test]
fn frozen_requests_are_sent_again_and_succeed() {
    for seed in 0..6 {
        let mut world = World::new(seed, SECTORS, PROTOCOLS[(seed % 3) as usize]);
        world.connect();
        for _ in 0..3 {
            for _ in 0..40 {
                world.random_io(0);
                world.random_steps(15);
            }
            world.disconnect_and_freeze();
            let told = world.nodes[0].results.len();
            for _ in 0..20 {
                world.random_io(0);
                world.random_steps(20);
            }
            world.settle();
            let noted = world.nodes[0].results.len();
            assert!(
                noted <= told + 64,
                "what ended before was noted later, nothing else"
            );
            world.reconnect_and_resend();
            world.settle();
            world.check_idle();
            world.check_marked();
        }
        assert!(
            world.nodes[0].results.values().all(Result::is_ok),
            "seed {seed}"
        );
    }
}

#[test]
fn two_primaries_that_write_to_the_same_blocks_agree_in_the_end() {
    for seed in 0..12 {
        let mut world = World::new(seed, 304, Protocol::C);
        world.two_primaries = true;
        world.connect();
        for _ in 0..150 {
            for at in 0..2 {
                world.random_io(at);
            }
            world.random_steps(40);
        }
        world.settle();
        world.check_idle();
        world.check_equal();
        for node in &world.nodes {
            assert!(node.results.values().all(Result::is_ok), "seed {seed}");
        }
    }
}

/// A target that is written to closes the extent it syncs next and waits for the writes in it.
#[test]
fn an_extent_that_resync_waits_for_is_open_while_the_resync_is_paused() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.connect_as(ConnState::WfBitMapS, ConnState::WfBitMapT);
    for node in &mut world.nodes {
        node.order(&Order::SetAllBits(V));
    }
    world.start_sync(0);
    world.write(1, 8, 8);
    assert!(world.nodes[1].writes_locally());
    while world.nodes[1].send() {}
    world.set_conn(1, ConnState::PausedSyncT);
    world.set_conn(0, ConnState::PausedSyncS);
    let second = world.write(1, 64, 8);
    world.settle();
    assert!(world.nodes[1].results.contains_key(&second));
}

/// The write that the resync waits for makes its blocks equal: nothing is left to sync there.
#[test]
fn an_extent_that_resync_waited_for_in_vain_is_open_again() {
    let mut world = World::new(1, 70_000, Protocol::C);
    world.connect();
    world.settle();
    world.disconnect();
    world.write(0, 8, 8);
    world.write(0, 40_000, 8);
    world.settle();
    world.reconnect_with_bitmaps(0);
    world.run_until(|world| world.conn(1) == ConnState::SyncTarget);
    world.write(1, 8, 8);
    assert!(world.nodes[1].writes_locally());
    while world.nodes[1].send() {}
    world.run_until(|world| world.nodes[1].weight() == 1);
    while world.nodes[1].send() {}
    world.nodes[1].jobs.clear();
    world.write(1, 64, 8);
    assert!(world.nodes[1].writes_locally(), "it need not wait");
}

/// What node 1 may hold in memory for the reads of its peer is bounded, but it does not wait for
/// ever: its peer may wait for the same reason. (Regression 18 of `Documentation/testing.md`.)
#[test]
fn reads_of_the_peer_wait_for_a_while_when_there_are_too_many_pages() {
    read_more_than_there_are_pages_for();
    select(Some(Bug::MaxBuffersDeadlock));
    let noticed = std::panic::catch_unwind(read_more_than_there_are_pages_for).is_err();
    select(None);
    assert!(noticed, "the bug was put back");
}

fn read_more_than_there_are_pages_for() {
    let mut world = World::with_limits(1, SECTORS, Protocol::C, 67, 64, 40);
    world.connect_diskless(0);
    for number in 0..4 {
        world.read(0, number * 256, 256);
    }
    while world.nodes[0].send() {}
    let received = |world: &World| world.nodes[1].data.counters(V).unacked;
    for _ in 0..8 {
        world.step(1, 3);
    }
    assert_eq!(received(&world), 1, "32 of 40 pages");
    assert!(world.nodes[1].data.next_timeout().is_some());
    world.advance_clock(Duration::from_millis(100));
    world.step(1, 3);
    assert_eq!(received(&world), 2, "after 100 ms");
    world.settle();
    world.check_idle();
    assert!(world.nodes[0].results.values().all(Result::is_ok));
}

/// Seed 3005907: the peer had asked for more than 8 x `max-buffers` of this node, for two volumes
/// that it synced and for an application, and was given up, though it took all answers. Waiting
/// alone would let a peer that takes none have all memory there is.
#[test]
fn reads_of_the_peer_are_held_in_memory_only_so_far() {
    for takes_answers in [true, false] {
        let mut world = World::with_limits(1, SECTORS, Protocol::C, 67, 64, 40);
        world.connect_diskless(0);
        for number in 0..20 {
            world.read(0, number * 256, 256);
        }
        while world.nodes[0].send() {}
        let held = |world: &World| world.nodes[1].jobs.len() + world.nodes[1].pages.len();
        for _ in 0..20 {
            for _ in 0..8 {
                world.step(1, 3);
            }
            while world.step(1, 5) {}
            // The answers of what was read stay here.
            while !takes_answers && world.step(1, 6) {}
            while world.step(1, 5) {}
            assert!(held(&world) <= 10, "8 x 40 pages");
            world.advance_clock(Duration::from_millis(100));
        }
        // The peer may send other things behind them, and the receiver has them all the same.
        assert_eq!(world.nodes[1].data.counters(V).unacked, 20);
        assert_eq!(held(&world), 10);
        assert_eq!(world.nodes[1].data.pop_upcall(), None);
        world.settle();
        world.check_idle();
        assert_eq!(world.nodes[0].results.len(), 20);
        assert!(world.nodes[0].results.values().all(Result::is_ok));
    }
}

/// The target of a resync asks for more than its source has memory for.
#[test]
fn a_source_with_few_buffers_syncs_a_target_with_many() {
    let mut world = World::with_limits(1, SECTORS, Protocol::C, 67, 64, 40);
    world.connect();
    world.disconnect();
    for number in 0..20 {
        world.write(0, number * 512, 256);
    }
    world.settle();
    world.max_buffers = [1, 2048];
    world.reconnect_with_bitmaps(0);
    let mut most = 0;
    for _ in 0..10_000 {
        for (at, kind) in (0..20).map(|n| (n / 10, n as u64 % 10)) {
            if (at, kind) != (0, 6) {
                world.step(at, kind);
            }
            most = most.max(world.nodes[0].jobs.len());
        }
        world.advance_clock(Duration::from_millis(1));
        if world.chance(100) == 0 {
            world.step(0, 6);
        }
    }
    assert_eq!(most, 1, "a read is larger than the memory");
    world.settle();
    world.check_idle();
    world.check_equal();
}

#[test]
fn a_read_that_the_peer_does_not_answer_ends_the_connection() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    world.ko_count = 7;
    world.connect_diskless(0);
    assert_eq!(world.nodes[0].data.next_timeout(), None);
    world.read(0, 0, 8);
    while world.nodes[0].send() {}
    while world.nodes[0].report_sent(true) {}
    let limit = world.now.after(Duration::from_secs(42));
    assert_eq!(world.nodes[0].data.next_timeout(), Some(limit));
    world.advance_clock(Duration::from_secs(42));
    let failed = Upcall::LinkFailed(LinkError::Timeout);
    assert_eq!(world.nodes[0].data.pop_upcall(), Some(failed));
    // An answer in time ends the wait.
    world.nodes[0].broken = true;
    world.settle();
    assert_eq!(world.nodes[0].data.next_timeout(), None);
    world.check_idle();
}

#[test]
fn discards_of_the_peer_write_zeroes_where_discards_do_not_zero() {
    for zeroes in [false, true] {
        let mut world = World::new(1, SECTORS, Protocol::C);
        world.zeroes_for_discards = zeroes;
        world.connect();
        world.random_discard(0, Op::Discard);
        let discards = |world: &World| {
            let mut jobs = world.nodes[1].jobs.iter();
            jobs.any(|job| {
                matches!(job, Job::Peer(PeerIo::Discard { zero_out, .. }) if *zero_out == zeroes)
            })
        };
        world.run_until(discards);
    }
}

/// A shell builds it by value; kernel stacks have 16 KiB.
#[test]
fn the_data_plane_fits_on_a_kernel_stack() {
    use drbd_core::data::{DataPlane, VolumeSlot};
    assert!(size_of::<DataPlane<node::Vecs>>() <= 3072);
    assert!(size_of::<VolumeSlot<node::Vecs>>() <= 2048);
}

/// Seed 237497: the first one was not replicated any more, the second one was again, and each disk
/// had another one last.
#[test]
fn writes_to_the_same_blocks_go_one_after_the_other_also_without_a_peer() {
    let mut world = World::new(1, SECTORS, Protocol::C);
    let first = world.write(0, 80, 8);
    assert!(world.nodes[0].writes_locally());
    world.connect();
    let second = world.write(0, 84, 8);
    while world.nodes[0].al_step() || world.nodes[0].housekeeping() {}
    assert_eq!(world.nodes[0].jobs.len(), 1, "the second one waits");
    world.settle();
    for number in [first, second] {
        assert_eq!(world.nodes[0].results[&number], Ok(()));
    }
    let [one, other] = &mut world.nodes;
    assert_eq!(one.disk.read(84, 4096), other.disk.read(84, 4096));
}

/// Seed 5878: the barrier of a write was acknowledged when the next run had begun; it cleared bits
/// on one of the nodes, and the other one waited for ever.
#[test]
fn what_was_written_before_a_run_clears_no_bits_of_it() {
    for source in 0..2 {
        for ended in [false, true] {
            let mut world = World::new(1, SECTORS, Protocol::C);
            world.connect();
            let set_all = |world: &mut World| {
                for node in &mut world.nodes {
                    node.order(&Order::SetAllBits(V));
                }
                world.start_sync(source);
            };
            set_all(&mut world);
            let number = world.write(0, 80, 8);
            world.run_until(|world| {
                let arrived = |job: &Job| match job {
                    Job::Peer(PeerIo::Write { sector, .. }) => sector.0 == 80,
                    _ => false,
                };
                let [a, b] = &world.nodes;
                match ended {
                    true => a.results.contains_key(&number),
                    false => b.jobs.iter().any(arrived),
                }
            });
            for node in &mut world.nodes {
                node.order(&Order::StopResync(V));
            }
            set_all(&mut world);
            world.settle();
            assert!(world.synced, "source {source} ended {ended}");
            assert_eq!(world.nodes[0].weight() + world.nodes[1].weight(), 0);
            assert!(
                world.nodes[0].disk.read(0, 4096 * 3000)
                    == world.nodes[1].disk.read(0, 4096 * 3000)
            );
        }
    }
}
