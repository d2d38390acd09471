//! Two data planes back to back: a resync, the writes of applications that meet it, and the speed
//! at which it goes.

#[path = "data_pair/node.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod node;
#[path = "data_pair/world.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod world;

use drbd_core::data::PeerIo;
use drbd_core::time::Duration;
use drbd_format::types::{ConnState, Protocol};
use drbd_format::wire::command::Command;
use node::{Job, V};
use world::World;

/// Sectors of an extent of the activity log.
const AL: u64 = 8192;

/// A log of two slots. A write that ends in the next resync extent has got one for its first
/// extent; while it waits for another one the second extent is locked, and read for the peer.
#[test]
fn a_write_that_has_part_of_its_extents_stays_out_of_one_that_is_locked_meanwhile() {
    let mut world = World::with_limits(1, AL * 5, Protocol::C, 2, 64, 2048);
    world.connect();
    world.settle();
    world.disconnect();
    world.write(0, AL * 4, 8);
    world.settle();
    world.reconnect_with_bitmaps(0);
    world.run_until(|world| world.conn(0) == ConnState::SyncSource);
    world.write(0, 0, 8);
    assert!(world.nodes[0].writes_locally());
    let slow = world.nodes[0].jobs.pop();
    let across = world.write(0, AL * 4 - 8, 16);
    assert!(!world.nodes[0].writes_locally(), "one slot is left for two");
    let is_read = |job: &Job| matches!(job, Job::Peer(PeerIo::Read { .. }));
    world.run_until(|world| world.nodes[0].jobs.iter().any(is_read));
    let read = world.nodes[0].jobs.pop();
    world.nodes[0].jobs.extend(slow);
    world.nodes[0].run_job(0);
    for _ in 0..100 {
        for at in 0..2 {
            while (0..9).any(|kind| (at, kind) != (0, 6) && world.step(at, kind)) {}
        }
        world.advance_clock(Duration::from_millis(1));
    }
    world.nodes[0].jobs.extend(read);
    let last = world.nodes[0].jobs.len() - 1;
    world.nodes[0].run_job(last);
    world.settle();
    assert!(world.nodes[0].results.contains_key(&across));
    assert!(world.synced);
    world.check_equal();
    world.check_idle();
    assert_eq!(world.nodes[0].data.facts(V).bits_set, 0);
}

/// The disk may carry out the write first, and then the block looks as if it were out of sync.
#[test]
fn a_write_of_the_peer_waits_until_the_block_that_is_verified_has_been_read() {
    let mut world = World::new(1, AL * 2, Protocol::C);
    world.connect();
    world.settle();
    world.start_verify(0);
    let read_of = |job: &Job| match job {
        Job::Peer(PeerIo::Read { sector, .. }) => Some(sector.0),
        _ => None,
    };
    world.run_until(|world| world.nodes[0].jobs.iter().any(|job| read_of(job).is_some()));
    let read = world.nodes[0].jobs.pop().expect("a read");
    let sector = read_of(&read).expect("a read");
    let number = world.write(1, sector, 8);
    for _ in 0..500 {
        for at in 0..2 {
            while (0..10).any(|kind| world.step(at, kind)) {}
        }
        world.advance_clock(Duration::from_millis(1));
    }
    assert!(world.nodes[1].sent.contains(&Command::Data));
    world.nodes[0].jobs.push(read);
    world.settle();
    assert!(world.nodes[1].results.contains_key(&number));
    assert_eq!(world.verified, 2);
    world.check_equal();
    let found = [0, 1].map(|at| world.nodes[at].data.facts(V).bits_set);
    assert_eq!(found, [0, 0], "out of sync");
    world.check_idle();
}
