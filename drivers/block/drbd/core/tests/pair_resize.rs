//! Resize beside what else may go on: other commands, other volumes, a disk that fails.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::action::Ticket;
use drbd_core::config::{DiskConfig, NetConfig};
use drbd_core::input::{AdminRequest, Input};
use drbd_core::link::VolumeIndex;
use drbd_core::request::Op;
use drbd_core::time::Duration;
use drbd_format::disk::superblock::MdFlags;
use drbd_format::types::{ConnState, DiskState, OnCongestion, Protocol, Role};
use pair::both::{grow, grow_volume, said, Pair, SECTORS};
use pair::node::{Node, V};

/// The size of the device before it grows by one block.
const FRONT: u64 = SECTORS - 8;
/// The second volume.
const W: VolumeIndex = VolumeIndex(1);

/// A disk of which only the front is used.
const IN_FRONT: DiskConfig = DiskConfig {
    disk_size_sectors: FRONT,
    ..DiskConfig::DEFAULT
};

fn all_is_grown_and_in_sync(pair: &mut Pair) {
    pair.until("in sync", Pair::in_sync);
    assert_eq!((pair.a.capacity, pair.b.capacity), (SECTORS, SECTORS));
    assert!(pair.a.disk.data == pair.b.disk.data);
    for node in [&mut pair.a, &mut pair.b] {
        assert_eq!(node.core.counters(V).out_of_sync_bits, 0);
        assert!(!node.core.view(V).io_blocked);
    }
}

/// Tells whether the superblock on disk says that nobody maintains the activity log.
fn says_log_is_off(node: &Node) -> bool {
    let written = node.superblocks.last().expect("one is there");
    written.flags.contains(MdFlags::AL_DISABLED)
}

/// The log was off, and the superblock did not say so any more once the size was written: a crash
/// would have lost track of what was being written.
#[test]
fn an_activity_log_that_is_switched_while_a_size_is_written_is_what_the_disk_says() {
    for from in [true, false] {
        for updates in [true, false] {
            let what = format!("{from} {updates}");
            let mut pair = Pair::synced_in_front(FRONT);
            let volume = V;
            let config = |al_updates| DiskConfig {
                al_updates,
                ..IN_FRONT
            };
            let options = |al_updates| AdminRequest::DiskOptions {
                volume,
                config: config(al_updates),
            };
            assert_eq!(pair.command(true, options(from)), 101, "{what}");
            assert_eq!(says_log_is_off(&pair.a), !from, "{what}");
            pair.a.hold_metadata = true;
            pair.b.admin(grow(false));
            pair.run();
            assert!(pair.a.core.view(V).io_blocked, "{what}");
            let before = pair.a.answers.len();
            pair.a.admin(options(updates));
            pair.run();
            pair.a.release_metadata();
            all_is_grown_and_in_sync(&mut pair);
            assert_eq!(pair.a.answers[before].1, 101, "{what}");
            assert_eq!(says_log_is_off(&pair.a), !updates, "{what}");
            assert_eq!(pair.a.core.view(V).al_updates, updates, "{what}");
        }
    }
}

/// It had grown already, and did not go on through the peer, whose device had not.
#[test]
fn a_primary_whose_disk_fails_while_it_grows_goes_on_through_the_peer() {
    for late in [true, false] {
        let mut pair = Pair::synced_in_front(FRONT);
        if late {
            pair.a.hold_bitmap = true;
            pair.a.admin(grow(false));
            pair.until("the bitmap", |pair| !pair.a.held_bitmaps.is_empty());
            pair.a.held_bitmaps.pop_front().unwrap();
            pair.a.hold_bitmap = false;
            let written = Input::BitmapWritten {
                volume: V,
                ok: false,
            };
            let now = pair.a.now;
            pair.a.core.handle(&written, now);
        } else {
            pair.a.fail_metadata = true;
            pair.a.admin(grow(false));
        }
        pair.until("diskless", |pair| {
            pair.a.state().disk == DiskState::Diskless
        });
        assert_eq!(pair.a.state().conn, ConnState::Connected, "{late}");
        assert_eq!((pair.a.capacity, pair.b.capacity), (FRONT, FRONT), "{late}");
        assert_eq!(pair.a.answers.last().unwrap().1, 118, "{late}");
        pair.a.write(FRONT - 8, 4096, 0x71);
        pair.run();
        assert_eq!(pair.a.ended, [Ok(())], "{late}");
        pair.a.fail_metadata = false;
        pair.a.attach(DiskConfig::DEFAULT);
        pair.until("in sync", Pair::in_sync);
        assert_eq!(pair.command(true, grow(false)), 101, "{late}");
        all_is_grown_and_in_sync(&mut pair);
    }
}

/// The disk has got larger than its bitmap can be without another attach.
#[test]
fn a_size_of_the_peer_is_not_beyond_the_room_for_the_bitmap() {
    let mut pair = Pair::new();
    pair.b = Node::with_volumes(1, 2, 2 * SECTORS, 0x22);
    pair.b.make_volumes();
    pair.sync_front(FRONT);
    pair.a.disk.data.resize(2 * SECTORS as usize * 512, 0);
    let larger = AdminRequest::Resize {
        volume: V,
        size_sectors: FRONT + 8,
        force: false,
        assume_clean: false,
        max_capacity_sectors: 2 * SECTORS,
    };
    assert_eq!(pair.command(true, larger), 101);
    pair.until("in sync", Pair::in_sync);
    assert_eq!(pair.command(false, grow_volume(V, 2 * SECTORS, false)), 101);
    pair.until("in sync", Pair::in_sync);
    assert_eq!(pair.a.capacity, pair.b.capacity);
    let end = pair.a.capacity;
    let last = (end - 1) & !7;
    let request = AdminRequest::Disconnect { force: false };
    assert_eq!(pair.command(false, request), 101);
    for sector in [800, last - 8] {
        pair.a.write(sector, 4096, 0x71);
    }
    pair.run();
    assert_eq!(pair.a.core.counters(V).out_of_sync_bits, 2);
}

/// The size waited behind what another volume has to tell, which waits for its superblock. A write
/// behind the old end came first, and ended the connection.
#[test]
fn no_write_to_new_space_overtakes_the_size() {
    let mut pair = Pair::with_volumes(2, SECTORS);
    for volume in [V, W] {
        for node in [&mut pair.a, &mut pair.b] {
            node.attach_volume(volume, IN_FRONT);
        }
        pair.run();
    }
    pair.connect(NetConfig::DEFAULT);
    for volume in [V, W] {
        pair.promote(volume);
    }
    pair.until("in sync", Pair::in_sync);
    pair.a.volume(W).hold_metadata = true;
    let (volume, force) = (W, false);
    assert_eq!(
        pair.command(false, AdminRequest::Detach { volume, force }),
        1
    );
    pair.run();
    pair.a.admin(grow(false));
    pair.run();
    if pair.a.request(Op::Write, FRONT, 4096, 0x71) {
        pair.run();
    }
    pair.a.release_metadata();
    pair.until("in sync", |pair| pair.volume_in_sync(V));
    assert!(!said(&pair.b.log, "ProtocolError"), "{:#?}", pair.b.log);
    assert_eq!((pair.a.capacity, pair.b.capacity), (SECTORS, SECTORS));
    assert_eq!(pair.a.answers.last().unwrap().1, 101);
}

/// The metadata are still being written for a size although nobody waits for that any more. Another
/// command that works on them failed at once, or was never answered.
#[test]
fn commands_wait_for_a_size_whose_command_was_cancelled() {
    for clears in [true, false] {
        let mut pair = Pair::synced_in_front(FRONT);
        assert_eq!(pair.role(true, Role::Secondary, false), 1);
        let force = false;
        assert_eq!(pair.command(true, AdminRequest::Disconnect { force }), 101);
        let ticket = Ticket(pair.a.answers.len() as u32 + 1000);
        let volume = V;
        pair.a.hold_metadata = true;
        pair.a.admin(grow(true));
        pair.run();
        pair.a.core.handle(&Input::Cancel(ticket), pair.a.now);
        pair.run();
        assert_eq!(pair.a.answers.last().unwrap().1, 129, "{clears}");
        let before = pair.a.answers.len();
        pair.a.admin(if clears {
            AdminRequest::NewCurrentUuid {
                volume,
                clear_bitmap: true,
            }
        } else {
            AdminRequest::Invalidate { volume }
        });
        pair.run();
        pair.a.hold_bitmap = true;
        pair.a.release_metadata();
        pair.run();
        pair.a.release_bitmap();
        pair.until("an answer", |pair| pair.a.answers.len() > before);
        let answer = pair.a.answers[before].1;
        assert_eq!(answer, if clears { 101 } else { 1 });
        pair.run();
        assert!(!pair.a.core.view(V).io_blocked, "{clears}");
        assert!(!says_log_is_off(&pair.a), "{clears}");
        let bits = if clears { 0 } else { SECTORS / 8 };
        assert_eq!(pair.a.core.counters(V).out_of_sync_bits, bits, "{clears}");
    }
}

/// P_SIZES of a node that resizes to all that its disk has.
fn told_by_resize() -> Vec<u8> {
    let mut pair = Pair::synced_in_front(FRONT);
    pair.b.sends_left = Some(0);
    pair.b.admin(grow(false));
    for _ in 0..20 {
        pair.round();
    }
    // Behind P_UUIDS.
    pair.b.sends_left = Some(1);
    pair.round();
    pair.b.sends_left = None;
    pair.a.data_in.clear();
    pair.b.step();
    pair.b.data_out.into_iter().collect()
}

/// A verify by `a` of the last blocks, of which it holds back the answers.
fn verifying(primary: bool) -> Pair {
    let mut pair = Pair::synced_in_front(FRONT);
    pair.choose_verify();
    if !primary {
        assert_eq!(pair.role(true, Role::Secondary, false), 1);
        assert_eq!(pair.role(false, Role::Primary, false), 1);
    }
    pair.a.hold_peer_io = true;
    let verify = AdminRequest::Verify {
        volume: V,
        start: Some(FRONT - 64),
        stop: u64::MAX,
    };
    assert_eq!(pair.command(true, verify), 1);
    for _ in 0..20 {
        pair.pass(Duration::from_millis(100));
    }
    assert_eq!(pair.a.state().conn, ConnState::VerifyS);
    pair
}

/// A C driver agrees to a verify although it has told a size that we have not heard of. It syncs
/// the new space when it hears our answer, unless the verify goes on: nobody ever synced it. The
/// end of the verify took the place of the size that was being written, too.
#[test]
fn the_answer_to_a_size_that_crosses_our_verify_waits_for_its_end() {
    let sizes = told_by_resize();
    for primary in [true, false] {
        let mut pair = verifying(primary);
        pair.a.hold_metadata = true;
        pair.a.data_in.extend(&sizes);
        let sent = pair.a.sent.len();
        pair.run();
        assert_eq!(pair.a.capacity, SECTORS);
        assert!(pair.a.core.view(V).io_blocked);
        pair.a.hold_peer_io = false;
        pair.run();
        assert_eq!(pair.a.state().conn, ConnState::VerifyS);
        assert!(!pair.a.sent[sent..].contains(&0xd));
        pair.a.release_metadata();
        pair.a.hold_helpers = true;
        for _ in 0..50 {
            pair.a.step();
            pair.b.step();
            // Our peer would make something else of the answer.
            pair.a.data_out.clear();
            pair.a.meta_in.append(&mut pair.b.meta_out);
            pair.b.meta_in.append(&mut pair.a.meta_out);
        }
        let sent = pair.a.sent[sent..].iter().copied();
        let told: Vec<u16> = sent.filter(|it| [0xd, 0xe].contains(it)).collect();
        assert_eq!(told[..2], [0xe, 0xd], "{told:x?}");
        if primary {
            assert_eq!(pair.a.running.len(), 1, "before-resync-source");
        } else {
            assert_eq!(pair.a.state().conn, ConnState::WfSyncUuid);
        }
        assert!(!pair.a.core.view(V).io_blocked);
        let written = pair.a.superblocks.last().expect("one is there");
        assert!(!written.flags.contains(MdFlags::FULL_SYNC));
        assert!(!says_log_is_off(&pair.a));
    }
}

/// The disk that the peer attaches is compared while a size is being written of which it has not
/// heard. The nodes exchanged bitmaps of different sizes, or the one that was being written stayed
/// behind.
#[test]
fn a_size_is_written_before_a_disk_is_compared() {
    for full in [false, true] {
        for first in 0..5 {
            let what = format!("{full} {first}");
            let mut pair = Pair::synced_in_front(FRONT);
            let (volume, force) = (V, false);
            let detach = AdminRequest::Detach { volume, force };
            assert_eq!(pair.command(false, detach), 1, "{what}");
            pair.a.write(800, 4096, 0x77);
            pair.run();
            if full {
                pair.b.disk.superblock = None;
            }
            pair.b.sends_left = Some(0);
            pair.b.attach(DiskConfig::DEFAULT);
            pair.run();
            assert_eq!(pair.b.state().disk, DiskState::Negotiating, "{what}");
            pair.b.sends_left = Some(first);
            pair.run();
            pair.a.hold_metadata = true;
            pair.a.admin(grow(false));
            pair.run();
            pair.b.sends_left = None;
            pair.run();
            pair.a.release_metadata();
            pair.until("in sync", Pair::in_sync);
            for node in [&mut pair.a, &mut pair.b] {
                assert!(!said(&node.log, "Connection closed"), "{:#?}", node.log);
            }
            let answer = pair.a.answers.last().unwrap().1;
            assert_eq!(answer, if first < 3 { 101 } else { 130 }, "{what}");
            if answer == 101 {
                all_is_grown_and_in_sync(&mut pair);
            }
            assert!(!says_log_is_off(&pair.a), "{what}");
        }
    }
}

/// The peer runs ahead while the size is being written here: it never heard of that. Or it begins
/// the resync behind that, which took the place of the size.
#[test]
fn a_size_is_told_to_a_peer_that_has_run_ahead_meanwhile() {
    for comes_back in [false, true] {
        let mut pair = Pair::new();
        pair.a.attach(IN_FRONT);
        pair.b.attach(IN_FRONT);
        pair.run();
        pair.connect(NetConfig {
            protocol: Protocol::A,
            on_congestion: OnCongestion::PullAhead,
            congestion_extents: 1,
            ..NetConfig::DEFAULT
        });
        assert_eq!(pair.role(true, Role::Primary, true), 1);
        pair.until("in sync", Pair::in_sync);
        pair.b.hold_metadata = true;
        pair.b.admin(grow(false));
        pair.run();
        assert!(pair.b.core.view(V).io_blocked);
        pair.a.write(80, 4096, 0x71);
        pair.a.write(160, 4096, 0x72);
        for _ in 0..20 {
            pair.round();
        }
        assert_eq!(pair.a.state().conn, ConnState::Ahead);
        assert_eq!(pair.b.state().conn, ConnState::Behind);
        if comes_back {
            pair.until("back", |pair| pair.a.state().conn == ConnState::SyncSource);
            pair.pass(Duration::from_millis(100));
        }
        pair.b.release_metadata();
        all_is_grown_and_in_sync(&mut pair);
        for node in [&mut pair.a, &mut pair.b] {
            assert!(!said(&node.log, "Connection closed"), "{:#?}", node.log);
        }
        assert_eq!(pair.b.answers.last().unwrap().1, 101);
        let written = pair.b.superblocks.last().expect("one is there");
        assert!(!written.flags.contains(MdFlags::FULL_SYNC), "{comes_back}");
        assert!(!says_log_is_off(&pair.b), "{comes_back}");
    }
}

/// The link breaks before the peer is told of the size, and both are of one generation when they
/// are connected again: the new space was never synced.
#[test]
fn a_link_that_breaks_while_a_size_is_written_leaves_no_new_space_behind() {
    for late in [false, true] {
        let mut pair = Pair::new();
        pair.a = Node::with_volumes(1, 1, FRONT, 0x11);
        pair.a.make_volumes();
        pair.attach();
        pair.connect(NetConfig::DEFAULT);
        assert_eq!(pair.role(true, Role::Primary, true), 1);
        pair.until("in sync", Pair::in_sync);
        assert_eq!((pair.a.capacity, pair.b.capacity), (FRONT, FRONT));
        pair.a.disk.data.resize(SECTORS as usize * 512, 0);
        let volume = V;
        // Without a new generation for the time when the peer is away.
        assert_eq!(pair.command(true, AdminRequest::SuspendIo { volume }), 1);
        pair.a.hold_metadata = true;
        pair.a.admin(grow(false));
        pair.run();
        pair.break_now();
        if late {
            pair.run();
        }
        pair.a.release_metadata();
        let back = |pair: &mut Pair| pair.a.state().conn >= ConnState::Connected;
        pair.until("connected", back);
        assert_eq!(pair.command(true, AdminRequest::ResumeIo { volume }), 1);
        all_is_grown_and_in_sync(&mut pair);
    }
}
