//! How a resync begins: what is on the disks, and on its way, before it does.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::DiskConfig;
use drbd_core::input::AdminRequest;
use drbd_core::request::Op;
use drbd_core::time::Duration;
use drbd_format::types::{ConnState, DiskState, Protocol};
use drbd_format::wire::command::Command;
use pair::both::Pair;
use pair::node::V;

/// Sector that `b` lacks, that of another write, and that of a discard.
const LACKED: u64 = 800;
const LATER: u64 = 1600;
const DISCARDED: u64 = 2400;
/// Sector of another extent of the activity log.
const LAST: u64 = 8192;

const DETACH: AdminRequest = AdminRequest::Detach {
    volume: V,
    force: true,
};

/// What the disk of `b` has there.
fn written(pair: &Pair) -> [u8; 3] {
    [LACKED, LATER, DISCARDED].map(|sector| pair.b.disk.data[sector as usize * 512])
}

/// `b` lacks a write, and its helper is asked whether the resync may begin.
fn with_a_helper(protocol: Protocol) -> Pair {
    let mut pair = Pair::synced_by(protocol);
    pair.b.hold_helpers = true;
    pair.write_while_away(&[(LACKED, 0x91)]);
    pair.until("the helper runs", |pair| !pair.b.running.is_empty());
    assert_eq!(pair.a.state().conn, ConnState::SyncSource);
    pair.a.ended.clear();
    pair
}

/// The helper has agreed; the superblock that calls the disk of `b` Inconsistent is being written.
fn called_consistent() -> Pair {
    let mut pair = with_a_helper(Protocol::C);
    pair.b.hold_metadata = true;
    pair.b.end_helper();
    pair.b.hold_helpers = false;
    pair.run();
    assert_eq!(pair.b.state().conn, ConnState::SyncTarget);
    pair
}

/// Whoever takes a snapshot of the consistent data would have it in there, and not what `b` lacks.
#[test]
fn no_write_gets_to_the_disk_of_a_target_whose_helper_runs() {
    for protocol in [Protocol::A, Protocol::B, Protocol::C] {
        let mut pair = with_a_helper(protocol);
        pair.a.write(LATER, 4096, 0x92);
        assert!(pair.a.request(Op::Discard, DISCARDED, 8192, 0));
        pair.run();
        assert_eq!(written(&pair), [0x11; 3]);
        pair.b.end_helper();
        pair.until("in sync", Pair::in_sync);
        assert_eq!(pair.a.ended, [Ok(()); 2]);
        assert_eq!(written(&pair), [0x91, 0x92, 0]);
    }
}

#[test]
fn nothing_gets_to_the_disk_of_a_target_before_it_is_called_inconsistent() {
    let mut pair = called_consistent();
    pair.a.write(LATER, 4096, 0x92);
    assert!(pair.a.request(Op::Discard, DISCARDED, 8192, 0));
    pair.run();
    assert_eq!(written(&pair), [0x11; 3]);
    pair.b.release_metadata();
    pair.until("in sync", Pair::in_sync);
    assert_eq!(pair.a.ended, [Ok(()); 2]);
    assert_eq!(written(&pair), [0x91, 0x92, 0]);
}

#[test]
fn nor_do_data_of_the_resync() {
    let mut pair = called_consistent();
    assert!(pair.b.sent.contains(&Command::RsDataRequest.to_wire()));
    assert_eq!(written(&pair), [0x11; 3]);
    pair.b.release_metadata();
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// What waits for the helper is lost with the link: the disk stays what it was.
#[test]
fn writes_for_a_target_that_wait_are_not_written_when_the_link_is_lost() {
    for called in [false, true] {
        let mut pair = if called {
            called_consistent()
        } else {
            with_a_helper(Protocol::B)
        };
        pair.a.write(LATER, 4096, 0x92);
        pair.run();
        pair.break_now();
        pair.cut = true;
        pair.pass(Duration::from_secs(2));
        assert_eq!(written(&pair), [0x11; 3]);
        pair.cut = false;
        pair.b.release_metadata();
        pair.b.hold_helpers = false;
        while !pair.b.running.is_empty() {
            pair.b.end_helper();
        }
        pair.until("in sync", Pair::in_sync);
        assert_eq!(pair.a.ended, [Ok(())]);
        assert!(pair.a.disk.data == pair.b.disk.data);
    }
}

/// The helper need not come to an end for that.
#[test]
fn writes_for_a_target_that_wait_are_refused_when_its_disk_goes() {
    let mut pair = with_a_helper(Protocol::C);
    pair.a.write(LATER, 4096, 0x92);
    pair.run();
    assert!(pair.a.ended.is_empty());
    assert_eq!(pair.command(false, DETACH), 1);
    assert_eq!(pair.a.ended, [Ok(())]);
    assert_eq!(pair.a.state().pdsk, DiskState::Diskless);
    pair.b.end_helper();
    pair.b.hold_helpers = false;
    pair.b.attach(DiskConfig::DEFAULT);
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

#[test]
fn writes_for_a_target_that_wait_are_refused_when_its_superblock_can_not_be_written() {
    let mut pair = with_a_helper(Protocol::C);
    pair.a.write(LATER, 4096, 0x92);
    pair.run();
    pair.b.fail_metadata = true;
    pair.b.end_helper();
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    assert_eq!(pair.a.state().pdsk, DiskState::Diskless);
    assert_eq!(written(&pair), [0x11; 3]);
}

/// A disk that was a target before is not what the helper has to see.
#[test]
fn writes_do_not_wait_for_the_helper_if_the_target_was_inconsistent() {
    let mut pair = Pair::synced();
    assert_eq!(
        pair.command(false, AdminRequest::Invalidate { volume: V }),
        1
    );
    pair.break_now();
    pair.b.hold_helpers = true;
    pair.until("the helper runs", |pair| !pair.b.running.is_empty());
    pair.a.write(LATER, 4096, 0x92);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    assert_eq!(written(&pair)[1], 0x92);
    pair.b.end_helper();
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// Where these two commands are among the packets that `a` has sent.
fn sent_at(pair: &Pair) -> [Option<usize>; 2] {
    [Command::SyncUuid, Command::Data].map(|command| {
        let mut sent = pair.a.sent.iter();
        sent.position(|&sent| sent == command.to_wire())
    })
}

/// It would get to a disk of which the target does not know yet that it is one.
#[test]
fn no_write_overtakes_the_uuid_of_the_resync() {
    let mut pair = Pair::before_sync_uuid();
    pair.a.hold_metadata = true;
    pair.a.sent.clear();
    pair.rounds_until("source", |pair| {
        pair.a.state().conn == ConnState::SyncSource
    });
    let taken = pair.a.request(Op::Write, LATER, 4096, 0x92);
    pair.run();
    assert_eq!(sent_at(&pair), [None; 2]);
    pair.a.release_metadata();
    if !taken {
        pair.a.write(LATER, 4096, 0x92);
    }
    pair.until("in sync", Pair::in_sync);
    let [uuid, data] = sent_at(&pair);
    assert!(uuid.is_some() && uuid < data);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// It came before, and waited for an extent of the activity log that was not in there.
#[test]
fn nor_does_one_that_waited_for_the_activity_log() {
    let mut pair = Pair::before_sync_uuid();
    assert_eq!(pair.a.state().conn, ConnState::WfBitMapS);
    pair.a.hold_log = true;
    pair.a.write(LAST, 4096, 0x92);
    pair.a.hold_metadata = true;
    pair.a.sent.clear();
    pair.rounds_until("source", |pair| {
        pair.a.state().conn == ConnState::SyncSource
    });
    pair.a.hold_log = false;
    pair.run();
    assert_eq!(sent_at(&pair), [None; 2]);
    pair.a.release_metadata();
    pair.until("in sync", Pair::in_sync);
    let [uuid, data] = sent_at(&pair);
    assert!(uuid.is_some() && uuid < data);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

#[test]
fn writes_do_not_wait_for_the_uuid_of_a_resync_whose_link_is_lost() {
    let mut pair = Pair::before_sync_uuid();
    pair.a.hold_metadata = true;
    pair.rounds_until("source", |pair| {
        pair.a.state().conn == ConnState::SyncSource
    });
    assert!(!pair.a.request(Op::Write, LATER, 4096, 0x92));
    pair.break_now();
    pair.cut = true;
    pair.a.release_metadata();
    pair.pass(Duration::from_secs(1));
    pair.a.write(LATER, 4096, 0x92);
    pair.cut = false;
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}
