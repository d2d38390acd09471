//! What is on stable storage when the power goes: which write waits for which.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::DiskConfig;
use drbd_core::input::AdminRequest;
use drbd_core::time::Duration;
use drbd_format::disk::superblock::MdFlags;
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

fn set_al_updates(pair: &mut Pair, al_updates: bool) -> i32 {
    let config = DiskConfig {
        al_updates,
        ..DiskConfig::DEFAULT
    };
    pair.command(true, AdminRequest::DiskOptions { volume: V, config })
}

/// What is on disk then is not all of it.
#[test]
fn an_activity_log_that_can_not_be_written_anew_does_not_count() {
    let mut pair = Pair::synced();
    assert_eq!(set_al_updates(&mut pair, false), 101);
    pair.a.fail_log = true;
    set_al_updates(&mut pair, true);
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
        let request = AdminRequest::DiskOptions { volume: V, config };
        assert_eq!(pair.command(true, request), 101);
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
