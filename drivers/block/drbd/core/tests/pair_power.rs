//! What is on stable storage when the power goes: which write waits for which.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::DiskConfig;
use drbd_core::input::AdminRequest;
use drbd_core::request::Op;
use drbd_core::time::Duration;
use drbd_format::disk::superblock::{MdFlags, Superblock};
use drbd_format::types::{ConnState, DiskState, Fencing, Role};
use pair::both::Pair;
use pair::node::V;

/// The log names what may be in the cache of the data device only. Without the mark of a Primary
/// nobody looks at it.
#[test]
fn the_mark_of_a_primary_goes_behind_a_flush_of_its_data() {
    let mut pair = Pair::synced();
    pair.a.write(800, 4096, 0x71);
    pair.run();
    pair.pass(Duration::from_secs(6));
    let before = pair.a.superblocks.len();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.pass(Duration::from_secs(6));
    let since = &pair.a.superblocks[before..];
    let at = since
        .iter()
        .position(|it| !it.flags.contains(MdFlags::PRIMARY_IND))
        .expect("the mark goes");
    assert!(pair.a.flushed[before + at], "{:?}", pair.a.flushed);
    assert!(!pair.a.flushed[before - 1], "no flush without need");
}

/// What the disk carried out before it was given up, refused writes among them, may be in its cache
/// only. The peer reads it in the next resync, and marks it in sync (seed 520412).
#[test]
fn the_data_of_an_attached_disk_are_flushed_before_a_superblock_that_counts_on_them() {
    let mut pair = Pair::synced();
    let force = false;
    assert_eq!(
        pair.command(false, AdminRequest::Detach { volume: V, force }),
        1
    );
    // As `apply-al` leaves it.
    let clean = |superblock: &mut Superblock| {
        superblock.flags = superblock.flags.with(MdFlags::AL_CLEAN, true);
    };
    pair.b.edit_superblock(clean);
    let before = pair.b.flushed.len();
    pair.b.attach(DiskConfig::DEFAULT);
    pair.until("equal", Pair::in_sync);
    pair.pass(Duration::from_secs(6));
    let since = &pair.b.flushed[before..];
    assert_eq!(since.iter().filter(|flush| **flush).count(), 1, "{since:?}");
    assert!(!pair.b.core.has_unstable_blocks(V));
}

/// The superblock on the disk of `b` says that there is a Primary.
fn is_marked(pair: &Pair) -> bool {
    let last = pair.b.superblocks.last().expect("one was written");
    last.flags.contains(MdFlags::PRIMARY_IND)
}

/// The disk of `b` serves the Primary, which has written nothing since it lost its own.
fn serving(pair: &mut Pair) {
    let force = false;
    let detach = AdminRequest::Detach { volume: V, force };
    assert_eq!(pair.command(true, detach), 1);
    pair.pass(Duration::from_secs(6));
    assert_eq!(pair.b.state().pdsk, DiskState::Diskless);
    assert!(!is_marked(pair), "nothing was written");
    pair.b.hold_metadata = true;
}

/// The first write is on the way, and waits for the mark.
fn assert_mark_comes_first(pair: &mut Pair, op: Op) {
    pair.b.disk.data[800 * 512] = 0x70;
    assert!(pair.a.request(op, 800, 4096, 0x71));
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.b.disk.data[800 * 512], 0x70, "not marked yet");
    pair.b.release_metadata();
    pair.run();
    assert!(is_marked(pair));
    assert_ne!(pair.b.disk.data[800 * 512], 0x70);
}

/// The peer may refuse the connection that this node takes for made: a disk that it has never
/// written to must not count as that of a crashed Primary.
#[test]
fn a_disk_that_serves_a_diskless_primary_is_marked_for_its_first_write() {
    let mut pair = Pair::synced();
    serving(&mut pair);
    assert_mark_comes_first(&mut pair, Op::Write);
}

#[test]
fn a_disk_that_serves_a_diskless_primary_is_marked_for_its_first_discard() {
    let mut pair = Pair::synced();
    serving(&mut pair);
    assert_mark_comes_first(&mut pair, Op::Discard);
}

/// The write waits although there is no log.
#[test]
fn a_disk_without_a_log_that_serves_a_diskless_primary_is_marked_first() {
    let mut pair = Pair::synced();
    assert_eq!(set_al_updates(&mut pair, false, false), 101);
    serving(&mut pair);
    assert_mark_comes_first(&mut pair, Op::Write);
}

/// Nothing that comes before can be that write: the control plane need not look at every packet and
/// request for it.
#[test]
fn the_first_write_of_a_diskless_primary_is_not_looked_for() {
    let mut pair = Pair::synced();
    serving(&mut pair);
    for _ in 0..3 {
        assert!(pair.a.request(Op::Read, 800, 4096, 0));
        pair.run();
        assert!(!pair.b.core.control_state().0.core.waiting);
    }
    assert_eq!(pair.a.ended, [Ok(()); 3]);
    assert_mark_comes_first(&mut pair, Op::Write);
}

/// The write is carried out although the peer is gone.
#[test]
fn a_write_that_the_link_leaves_behind_waits_for_the_mark() {
    let mut pair = Pair::synced();
    serving(&mut pair);
    pair.b.disk.data[800 * 512] = 0x70;
    pair.a.write(800, 4096, 0x71);
    pair.pass(Duration::from_secs(1));
    pair.cut = true;
    pair.until("b notices", |pair| {
        pair.b.state().conn < ConnState::Connected
    });
    assert_eq!(pair.b.disk.data[800 * 512], 0x70, "not marked yet");
    pair.b.release_metadata();
    let marked = pair.b.superblocks.len();
    pair.run();
    let marks = |superblock: &Superblock| superblock.flags.contains(MdFlags::PRIMARY_IND);
    let was = pair.b.superblocks[marked - 1..].iter().any(marks);
    assert!(was || pair.b.disk.data[800 * 512] == 0x70);
}

/// What was written over the connection before says nothing of this one.
#[test]
fn the_mark_for_a_diskless_primary_ends_with_the_connection() {
    let mut pair = Pair::synced();
    serving(&mut pair);
    assert_mark_comes_first(&mut pair, Op::Write);
    pair.cut = true;
    pair.until("apart, and not marked", |pair| {
        pair.b.state().conn < ConnState::Connected && !is_marked(pair)
    });
    pair.cut = false;
    pair.until("connected", |pair| {
        pair.b.state().conn == ConnState::Connected && pair.a.state().conn == ConnState::Connected
    });
    pair.run();
    assert!(!is_marked(&pair), "nothing was written since");
    pair.b.hold_metadata = true;
    assert_mark_comes_first(&mut pair, Op::Write);
}

fn set_al_updates(pair: &mut Pair, on_a: bool, al_updates: bool) -> i32 {
    let config = DiskConfig {
        al_updates,
        ..DiskConfig::DEFAULT
    };
    pair.command(on_a, AdminRequest::DiskOptions { volume: V, config })
}

/// What is on disk then is not all of it.
#[test]
fn an_activity_log_that_can_not_be_written_anew_does_not_count() {
    let mut pair = Pair::synced();
    assert_eq!(set_al_updates(&mut pair, true, false), 101);
    pair.a.fail_log = true;
    set_al_updates(&mut pair, true, true);
    pair.until("diskless", |pair| {
        pair.a.state().disk == DiskState::Diskless
    });
    let last = pair.a.superblocks.last().unwrap();
    assert!(last.flags.contains(MdFlags(0x100)), "{:?}", last.flags);
}

/// Whoever has asked for it, such as the fencing helper of the peer, goes on then.
#[test]
fn a_disk_is_outdated_only_when_its_superblock_says_so() {
    for fails in [false, true] {
        let mut pair = Pair::synced();
        pair.cut = true;
        pair.until("alone", |pair| pair.b.state().conn < ConnState::Connected);
        pair.pass(Duration::from_secs(6));
        pair.b.hold_metadata = !fails;
        pair.b.fail_metadata = fails;
        let before = pair.b.answers.len();
        pair.b.admin(AdminRequest::Outdate { volume: V });
        pair.run();
        if !fails {
            assert_eq!(pair.b.answers.len(), before, "not on disk yet");
            pair.b.release_metadata();
        }
        pair.until("an answer", |pair| pair.b.answers.len() > before);
        let code = if fails { 118 } else { 1 };
        assert_eq!(pair.b.answers[before].1, code);
        let outdated = !pair
            .b
            .superblocks
            .last()
            .unwrap()
            .flags
            .contains(MdFlags(0x10));
        assert_eq!(outdated, !fails);
    }
}

/// A Primary that leaves goes on without fencing the peer that has agreed to be Outdated.
#[test]
fn the_peer_agrees_to_be_outdated_when_its_superblock_says_so() {
    for in_time in [true, false] {
        let mut pair = Pair::synced();
        let config = DiskConfig {
            fencing: Fencing::ResourceOnly,
            ..DiskConfig::DEFAULT
        };
        pair.set_disk_options(true, config);
        pair.pass(Duration::from_secs(6));
        pair.b.hold_metadata = true;
        let before = pair.a.answers.len();
        let force = false;
        pair.a.admin(AdminRequest::Disconnect { force });
        pair.run();
        assert_eq!(pair.b.state().disk, DiskState::Outdated);
        assert_ne!(pair.a.state().pdsk, DiskState::Outdated, "not on disk yet");
        if in_time {
            pair.b.release_metadata();
            pair.run();
            assert_eq!(pair.a.state().pdsk, DiskState::Outdated);
        }
        pair.until("an answer", |pair| pair.a.answers.len() > before);
        pair.b.release_metadata();
        pair.run();
        assert_eq!(pair.a.state().conn, ConnState::StandAlone);
        assert_eq!(pair.a.helpers.contains(&"fence-peer"), !in_time);
    }
}
