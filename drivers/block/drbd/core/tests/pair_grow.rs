//! New sizes that meet something else: a lost link, another command, a disk that goes.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::action::Ticket;
use drbd_core::config::{DiskConfig, NetConfig};
use drbd_core::input::{AdminRequest, DigestLengths, Input};
use drbd_core::request::Op;
use drbd_core::time::Duration;
use drbd_format::types::{ConnState, DiskState, OnIoError, Role};
use pair::both::{grow, Pair, SECTORS};
use pair::node::V;

/// The size of the device before it grows by one block.
const FRONT: u64 = SECTORS - 8;

/// The node tells its peer of the new size, which does not get there.
fn announce(pair: &mut Pair) {
    let answers = pair.a.answers.len();
    pair.a.admin(grow(false));
    while pair.a.answers.len() == answers {
        assert!(pair.a.step(), "{:#?}", pair.a.log);
    }
    while pair.a.step() {}
    assert_eq!((pair.a.capacity, pair.b.capacity), (SECTORS, FRONT));
}

/// Lets both nodes work, a moment at a time, until `wanted` holds.
fn rounds(pair: &mut Pair, wanted: impl Fn(&mut Pair) -> bool) {
    for _ in 0..1000 {
        if wanted(pair) {
            return;
        }
        pair.round_or_time();
    }
    panic!("{} {}", pair.a.state(), pair.b.state());
}

/// Lets both nodes work; what `a` says on its meta socket does not get through.
fn without_acks_of_a(pair: &mut Pair) {
    for _ in 0..1000 {
        pair.a.step();
        pair.b.step();
        pair.b.data_in.append(&mut pair.a.data_out);
        pair.a.data_in.append(&mut pair.b.data_out);
        pair.a.meta_in.append(&mut pair.b.meta_out);
    }
}

/// Lets both nodes work for a second; what `b` says on its data socket comes later.
fn without_data_of_b(pair: &mut Pair) {
    for _ in 0..1000 {
        for node in [&mut pair.a, &mut pair.b] {
            node.now = node.now.after(Duration::from_millis(1));
            while node.step() {}
        }
        pair.b.data_in.append(&mut pair.a.data_out);
        pair.b.meta_in.append(&mut pair.a.meta_out);
        pair.a.meta_in.append(&mut pair.b.meta_out);
    }
}

fn all_is_grown_and_in_sync(pair: &mut Pair) {
    pair.until("in sync", Pair::in_sync);
    assert_eq!((pair.a.capacity, pair.b.capacity), (SECTORS, SECTORS));
    assert!(pair.a.disk.data == pair.b.disk.data);
    for node in [&mut pair.a, &mut pair.b] {
        assert_eq!(node.core.counters(V).out_of_sync_bits, 0);
        assert!(!node.core.view(V).io_blocked);
    }
}

/// Seed 55327: applications would wait for a size that nobody writes any more.
#[test]
fn a_disk_that_is_given_up_while_it_gets_a_new_size_leaves_io_free() {
    let mut pair = Pair::synced_in_front(FRONT);
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    assert_eq!(pair.role(false, Role::Primary, false), 1);
    let (volume, force) = (V, false);
    assert_eq!(
        pair.command(false, AdminRequest::Detach { volume, force }),
        1
    );
    pair.b.write(800, 4096, 0x77);
    pair.run();
    let config = DiskConfig {
        disk_size_sectors: FRONT,
        ..DiskConfig::DEFAULT
    };
    pair.b.sends_left = Some(0);
    pair.b.attach(config);
    rounds(&mut pair, |pair| {
        pair.b.state().disk == DiskState::Negotiating
    });
    pair.run();
    pair.b.hold_metadata = true;
    assert_eq!(pair.command(true, grow(true)), 101);
    rounds(&mut pair, |pair| {
        pair.b.state().disk == DiskState::Negotiating && pair.b.core.view(V).io_blocked
    });
    pair.breaks_in = Some(0);
    pair.until("given up", |pair| {
        pair.b.state().disk == DiskState::Diskless
    });
    pair.b.release_metadata();
    pair.b.sends_left = None;
    pair.until("connected", |pair| {
        pair.b.state().conn >= ConnState::Connected
    });
    assert!(!pair.b.core.view(V).io_blocked);
    pair.b.attach(DiskConfig::DEFAULT);
    all_is_grown_and_in_sync(&mut pair);
}

/// Seed 43566: only one node knows that the device has grown. The other one follows its state, and
/// has no use for a bitmap that comes first.
#[test]
fn a_peer_that_sees_equal_generations_hears_of_the_exchange_before_the_bitmap_comes() {
    let mut pair = Pair::synced_in_front(FRONT);
    let volume = V;
    // Without a new generation for the time when the peer is away.
    assert_eq!(pair.command(true, AdminRequest::SuspendIo { volume }), 1);
    announce(&mut pair);
    pair.b.sends_left = Some(0);
    rounds(&mut pair, |pair| {
        pair.b.state().conn == ConnState::WfSyncUuid
    });
    pair.breaks_in = Some(0);
    pair.b.sends_left = None;
    // Its features only: it hears all that the peer says first.
    pair.a.sends_left = Some(1);
    pair.until("decided", |pair| {
        pair.a.state().conn == ConnState::WfBitMapS
    });
    pair.a.sends_left = None;
    assert_eq!(pair.command(true, AdminRequest::ResumeIo { volume }), 1);
    all_is_grown_and_in_sync(&mut pair);
}

/// Seeds 49653 and 62689: the peer has agreed to a full sync and begins it. A resync of the new
/// space alone leaves it waiting for ever.
#[test]
fn a_full_sync_that_the_peer_has_agreed_to_is_not_given_up_for_the_new_space() {
    for late in [false, true] {
        let mut pair = Pair::synced_in_front(FRONT);
        announce(&mut pair);
        let volume = V;
        pair.b.admin(AdminRequest::Invalidate { volume });
        while pair.b.step() {}
        if late {
            without_acks_of_a(&mut pair);
            assert_eq!(pair.a.state().conn, ConnState::SyncSource, "{late}");
        } else {
            pair.b.hold_metadata = true;
            pair.run();
            pair.b.release_metadata();
        }
        all_is_grown_and_in_sync(&mut pair);
        let moved = pair.b.core.counters(V).received_sectors;
        assert!(moved >= SECTORS, "{late}: {moved}");
    }
}

/// As above, but the peer refuses: the new space is still to be synced, whether or not anybody
/// waits for the answer.
#[test]
fn new_space_is_synced_if_the_peer_refuses_what_it_was_asked_meanwhile() {
    for cancelled in [false, true] {
        let mut pair = Pair::synced_in_front(FRONT);
        announce(&mut pair);
        let volume = V;
        let ticket = Ticket(pair.b.answers.len() as u32 + 1000);
        pair.b.admin(AdminRequest::Invalidate { volume });
        while pair.b.step() {}
        if cancelled {
            pair.b.core.handle(&Input::Cancel(ticket), pair.b.now);
        }
        // Something has begun there.
        pair.a.admin(AdminRequest::PauseSync { volume });
        while pair.a.step() {}
        without_acks_of_a(&mut pair);
        assert_eq!(pair.b.capacity, SECTORS);
        assert_eq!(pair.b.state().conn, ConnState::Connected, "{cancelled}");
        pair.run();
        assert_eq!(pair.command(true, AdminRequest::ResumeSync { volume }), 101);
        all_is_grown_and_in_sync(&mut pair);
    }
}

/// Seed 101172: a state from before the target began counted as the end of its run. The next
/// generation of the source is too far ahead of a target that has not ended.
#[test]
fn a_source_does_not_end_before_a_target_that_pauses() {
    let mut pair = Pair::synced_in_front(FRONT);
    announce(&mut pair);
    let volume = V;
    let (pause, resume) = (
        AdminRequest::PauseSync { volume },
        AdminRequest::ResumeSync { volume },
    );
    // The source begins with any change of its state.
    pair.a.admin(pause);
    while pair.a.step() {}
    assert_eq!(pair.a.state().conn, ConnState::PausedSyncS);
    for request in [pause, resume] {
        pair.b.admin(request);
        while pair.b.step() {}
        pair.a.data_in.append(&mut pair.b.data_out);
        while pair.a.step() {}
    }
    pair.b.hold_peer_io = true;
    assert_eq!(pair.command(true, resume), 101);
    pair.run();
    assert_eq!(pair.command(false, pause), 101);
    pair.run();
    assert_eq!(pair.b.state().conn, ConnState::PausedSyncT);
    pair.b.hold_peer_io = false;
    for _ in 0..10 {
        pair.pass(Duration::from_millis(100));
        assert_eq!(pair.a.state().conn, ConnState::PausedSyncS);
    }
    pair.cut = true;
    pair.until("both notice", |pair| {
        pair.a.state().conn < ConnState::Connected && pair.b.state().conn < ConnState::Connected
    });
    assert_eq!(pair.command(false, resume), 101);
    pair.cut = false;
    all_is_grown_and_in_sync(&mut pair);
    let full = |line: &String| line.contains("full sync required after drbd_sync_handshake");
    assert_eq!(pair.a.log.iter().filter(|line| full(line)).count(), 1);
}

/// Seed 842776: the same, where an application writes the new space, so that nothing is left to be
/// synced when the state of long ago arrives, right in front of the target's first request.
#[test]
fn a_source_does_not_end_by_a_state_from_before_the_answer_to_its_size() {
    let mut pair = Pair::synced_in_front(FRONT);
    announce(&mut pair);
    let volume = V;
    pair.b.admin(AdminRequest::ResumeSync { volume });
    pair.b.admin(AdminRequest::PauseSync { volume });
    while pair.b.step() {}
    pair.a.admin(AdminRequest::PauseSync { volume });
    while pair.a.step() {}
    pair.a.admin(AdminRequest::ResumeSync { volume });
    while pair.a.step() {}
    pair.b.admin(AdminRequest::ResumeSync { volume });
    without_data_of_b(&mut pair);
    assert_eq!(pair.b.state().conn, ConnState::SyncTarget);
    assert!(pair.a.request(Op::Write, FRONT, 4096, 9));
    without_data_of_b(&mut pair);
    assert_eq!(pair.a.state().conn, ConnState::SyncSource);
    assert_eq!(pair.b.state().conn, ConnState::SyncTarget);
    assert_eq!(pair.a.core.counters(V).out_of_sync_bits, 0);
    pair.b.hold_peer_io = true;
    pair.run();
    assert_eq!(pair.b.state().conn, ConnState::SyncTarget);
    assert_eq!(pair.a.state().conn, ConnState::SyncSource);
    pair.b.hold_peer_io = false;
    all_is_grown_and_in_sync(&mut pair);
}

/// Seeds 49414 and 207332: it told the peer that it is Primary no more behind the size. Then each
/// took the other one for the source of the new space.
#[test]
fn a_primary_steps_back_when_the_peer_has_taken_the_new_size() {
    let mut pair = Pair::synced_in_front(FRONT);
    announce(&mut pair);
    let (volume, role) = (V, Role::Secondary);
    pair.a.admin(AdminRequest::SetRole {
        volume,
        role,
        force: false,
    });
    while pair.a.step() {}
    assert_eq!(pair.a.state().role, Role::Primary);
    all_is_grown_and_in_sync(&mut pair);
    assert_eq!(pair.a.state().role, Role::Secondary);
}

/// As above, the other way round: what the peer says of its role is under way, and a change of the
/// own state comes first.
#[test]
fn a_secondary_waits_for_the_size_of_the_peer_before_it_tells_who_is_the_source() {
    let mut pair = Pair::synced_in_front(FRONT);
    let answers = pair.b.answers.len();
    pair.b.admin(grow(false));
    while pair.b.answers.len() == answers {
        assert!(pair.b.step(), "{:#?}", pair.b.log);
    }
    while pair.b.step() {}
    let (volume, role) = (V, Role::Secondary);
    pair.a.admin(AdminRequest::SetRole {
        volume,
        role,
        force: false,
    });
    while pair.a.step() {}
    for request in [
        AdminRequest::PauseSync { volume },
        AdminRequest::ResumeSync { volume },
    ] {
        pair.b.admin(request);
        while pair.b.step() {}
    }
    assert_eq!(pair.b.state().conn, ConnState::Connected);
    all_is_grown_and_in_sync(&mut pair);
}

/// A resize on the target, right behind the end of its resync: the source forgot to end it, and
/// each node waited for the other one.
#[test]
fn a_new_size_waits_until_the_resync_before_it_has_ended() {
    let mut pair = Pair::synced_in_front(FRONT - 8);
    pair.b.hold_peer_io = true;
    let first = AdminRequest::Resize {
        volume: V,
        size_sectors: FRONT,
        force: false,
        assume_clean: false,
        max_capacity_sectors: SECTORS,
    };
    assert_eq!(pair.command(true, first), 101);
    pair.until("syncs", |pair| pair.b.state().conn == ConnState::SyncTarget);
    pair.b.hold_peer_io = false;
    rounds(&mut pair, |pair| {
        while pair.b.step() {}
        pair.b.state().conn == ConnState::Connected
    });
    pair.b.admin(grow(false));
    while pair.b.step() {}
    assert_eq!(pair.b.capacity, SECTORS);
    pair.a.meta_in.append(&mut pair.b.meta_out);
    while pair.a.step() {}
    assert_eq!(pair.a.state().conn, ConnState::SyncSource);
    pair.a.data_in.append(&mut pair.b.data_out);
    while pair.a.step() {}
    all_is_grown_and_in_sync(&mut pair);
}

/// The peer waits for the answer, and would never get to it behind the beginning of the resync.
#[test]
fn a_primary_answers_to_a_size_before_it_syncs_the_new_space() {
    let mut pair = Pair::synced_in_front(FRONT);
    pair.a.hold_metadata = true;
    pair.b.admin(grow(false));
    pair.run();
    assert_eq!(pair.a.capacity, SECTORS);
    assert!(pair.a.core.view(V).io_blocked, "the size is being written");
    for request in [
        AdminRequest::PauseSync { volume: V },
        AdminRequest::ResumeSync { volume: V },
    ] {
        assert_eq!(pair.command(true, request), 101);
    }
    pair.a.release_metadata();
    all_is_grown_and_in_sync(&mut pair);
}

/// The peer has agreed and sees two Primaries, this node not yet.
#[test]
fn a_new_size_waits_until_the_peer_has_agreed_to_the_role() {
    let mut pair = Pair::synced_in_front(FRONT);
    let config = NetConfig {
        two_primaries: true,
        ..NetConfig::DEFAULT
    };
    let digests = DigestLengths::default();
    for on_a in [true, false] {
        let request = AdminRequest::NetOptions { config, digests };
        assert_eq!(pair.command(on_a, request), 101);
    }
    let (volume, role) = (V, Role::Primary);
    pair.b.admin(AdminRequest::SetRole {
        volume,
        role,
        force: false,
    });
    // It pings the peer first.
    pair.b.step();
    pair.a.meta_in.append(&mut pair.b.meta_out);
    pair.a.step();
    pair.b.meta_in.append(&mut pair.a.meta_out);
    while pair.b.step() {}
    pair.a.data_in.append(&mut pair.b.data_out);
    while pair.a.step() {}
    assert_eq!(pair.a.state().peer, Role::Primary);
    announce(&mut pair);
    without_acks_of_a(&mut pair);
    assert_eq!(pair.b.state().role, Role::Secondary);
    all_is_grown_and_in_sync(&mut pair);
}

/// Seed 37673: the peer has sent its bitmap already, for the old size.
#[test]
fn a_device_is_not_resized_while_its_disk_is_compared() {
    let mut pair = Pair::synced_in_front(FRONT);
    let (volume, force) = (V, false);
    assert_eq!(
        pair.command(true, AdminRequest::Detach { volume, force }),
        1
    );
    pair.a.write(800, 4096, 0x77);
    pair.run();
    let config = DiskConfig {
        disk_size_sectors: FRONT,
        ..DiskConfig::DEFAULT
    };
    pair.b.sends_left = Some(0);
    pair.a.attach(config);
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Negotiating);
    assert_eq!(pair.command(true, grow(false)), 130);
    pair.b.sends_left = None;
    pair.until("in sync", Pair::in_sync);
    assert_eq!(pair.command(true, grow(false)), 101);
    all_is_grown_and_in_sync(&mut pair);
}

/// Seeds 158025 and 301854: what a diskless Primary wrote to it went to a disk that counted as
/// outdated, and was overwritten when the Primary had its disk back.
#[test]
fn a_disk_that_lacks_new_space_only_stays_good_if_the_source_loses_its_own() {
    let mut pair = Pair::synced_in_front(FRONT);
    announce(&mut pair);
    pair.a.fail_local = true;
    pair.a.write(800, 4096, 0x32);
    pair.until("gone", |pair| pair.b.state().pdsk == DiskState::Diskless);
    pair.a.fail_local = false;
    assert_eq!(pair.b.state().disk, DiskState::UpToDate);
    assert_eq!(pair.a.state().pdsk, DiskState::UpToDate);
    pair.a.ended.clear();
    pair.a.write(80, 4096, 9);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("in sync", Pair::in_sync);
    assert_eq!(pair.a.disk.data[80 * 512], 9);
    assert_eq!(pair.b.disk.data[80 * 512], 9);
}

/// Found by the storms of `pair_storm.rs`: it took the size that it remembered of the peer
/// for one that both had agreed to.
#[test]
fn a_disk_that_is_attached_without_the_peer_does_not_grow() {
    let mut pair = Pair::synced_in_front(FRONT);
    let leave = AdminRequest::Disconnect { force: false };
    assert_eq!(pair.command(false, leave), 101);
    let (volume, force) = (V, false);
    assert_eq!(
        pair.command(false, AdminRequest::Detach { volume, force }),
        1
    );
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.b.state().disk, DiskState::UpToDate);
    assert_eq!(pair.b.capacity, FRONT);
}

/// In front of one more block, with an algorithm for online verify.
fn in_front_with_verify() -> Pair {
    let mut pair = Pair::synced_in_front(FRONT);
    pair.choose_verify();
    pair
}

/// The source of new space runs its helper, and is Connected still. A verify that began then went
/// on as a resync on one node, for which the other one waited for ever.
#[test]
fn no_verify_begins_while_the_source_of_new_space_runs_its_helper() {
    const VERIFY: AdminRequest = AdminRequest::Verify {
        volume: V,
        start: Some(0),
        stop: u64::MAX,
    };
    for by_target in [true, false] {
        let mut pair = in_front_with_verify();
        pair.a.hold_helpers = true;
        let answers = pair.b.answers.len();
        pair.b.admin(grow(false));
        rounds(&mut pair, |pair| {
            if by_target {
                pair.b.answers.len() > answers
            } else {
                !pair.a.running.is_empty()
            }
        });
        assert_eq!(pair.b.answers[answers].1, 101);
        let answers = pair.node(!by_target).answers.len();
        pair.node(!by_target).admin(VERIFY);
        for _ in 0..60 {
            pair.round();
        }
        assert_eq!(pair.a.state().conn, ConnState::Connected);
        assert!(!pair.a.running.is_empty());
        pair.a.hold_helpers = false;
        while !pair.a.running.is_empty() {
            pair.a.end_helper();
        }
        all_is_grown_and_in_sync(&mut pair);
        let refused = if by_target { -10 } else { -8 };
        assert_eq!(pair.node(!by_target).answers[answers].1, refused);
    }
}

/// The front is used, and disks that fail stay. `a` is Primary.
fn passed_on_in_front() -> Pair {
    let mut pair = Pair::synced_in_front(FRONT);
    let config = DiskConfig {
        disk_size_sectors: FRONT,
        on_io_error: OnIoError::PassOn,
        ..DiskConfig::DEFAULT
    };
    for on_a in [true, false] {
        pair.set_disk_options(on_a, config);
    }
    pair
}

/// Its source would be the Primary, whichever disk has failed.
#[test]
fn new_space_beside_a_disk_that_failed_and_stayed_is_refused() {
    for on_a in [true, false] {
        let mut pair = passed_on_in_front();
        pair.a.fail_local = on_a;
        pair.b.fail_peer_io = !on_a;
        pair.a.write(800, 4096, 0x71);
        pair.run();
        pair.a.fail_local = false;
        pair.b.fail_peer_io = false;
        assert_eq!(pair.node(on_a).state().disk, DiskState::Inconsistent);
        for resizes in [true, false] {
            assert_eq!(pair.command(resizes, grow(false)), 130);
        }
        let (volume, force) = (V, false);
        pair.command(on_a, AdminRequest::Detach { volume, force });
        pair.run();
        pair.node(on_a).attach(DiskConfig {
            disk_size_sectors: FRONT,
            ..DiskConfig::DEFAULT
        });
        pair.until("in sync", Pair::in_sync);
        assert_eq!(pair.command(true, grow(false)), 101);
        all_is_grown_and_in_sync(&mut pair);
        assert!(pair.a.disk.data[800 * 512] == 0x71);
    }
}

/// The peer does not know yet that a disk has failed.
#[test]
fn a_disk_that_fails_while_the_device_grows_is_not_the_source() {
    for on_a in [true, false] {
        let mut pair = passed_on_in_front();
        announce(&mut pair);
        pair.a.fail_local = on_a;
        pair.b.fail_peer_io = !on_a;
        pair.a.write(800, 4096, 0x71);
        let fails = pair.node(on_a);
        for _ in 0..5 {
            fails.step();
        }
        pair.run();
        pair.a.fail_local = false;
        pair.b.fail_peer_io = false;
        pair.until("one end", |pair| {
            [pair.a.state(), pair.b.state()].map(|state| state.conn) == [ConnState::Connected; 2]
        });
        for node in [true, false] {
            let bad = pair.node(node).state().disk == DiskState::Inconsistent;
            let (volume, force) = (V, false);
            if bad {
                pair.command(node, AdminRequest::Detach { volume, force });
                pair.run();
                pair.node(node).attach(DiskConfig::DEFAULT);
            }
        }
        // Seed 3000207: both have heard of the size before they connect anew, or the smaller limit
        // would win, under the hands of a Primary.
        all_is_grown_and_in_sync(&mut pair);
        let done = pair.a.ended == [Ok(())];
        assert!(!done || pair.a.disk.data[800 * 512] == 0x71, "{on_a}");
    }
}

/// Whoever asks for it, and before or behind the new size.
#[test]
fn a_verify_does_not_keep_new_space_from_its_sync() {
    for (asks, first) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut pair = in_front_with_verify();
        let verify = AdminRequest::Verify {
            volume: V,
            start: Some(0),
            stop: u64::MAX,
        };
        if first {
            pair.node(asks).admin(verify);
            pair.node(asks).step();
            pair.node(!asks).admin(grow(false));
        } else {
            announce(&mut pair);
            pair.node(asks).admin(verify);
        }
        pair.run();
        if pair.a.capacity == FRONT {
            pair.until("in sync", Pair::in_sync);
            assert_eq!(pair.command(true, grow(false)), 101);
        }
        all_is_grown_and_in_sync(&mut pair);
    }
}
