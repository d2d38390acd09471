//! Sizes, links and disks at their limits: what is just allowed, and what is just not.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::{DiskConfig, Name, NetConfig};
use drbd_core::input::{AdminRequest, DigestLengths, Input};
use drbd_core::link::{VolumeIndex, VolumeNumber};
use drbd_core::request::{IoError, Op};
use drbd_core::time::Duration;
use drbd_format::netlink::codes::RetCode;
use drbd_format::types::{ConnState, DiskState, OnIoError, ReadBalancing, Role};
use drbd_format::units::SectorCount;
use drbd_format::wire::command::Command;
use pair::both::{said, Pair, SECTORS};
use pair::node::V;

const USED: u64 = 4096;

fn resize(size_sectors: u64, max_capacity_sectors: u64, force: bool) -> AdminRequest {
    AdminRequest::Resize {
        volume: V,
        size_sectors,
        force,
        assume_clean: false,
        max_capacity_sectors,
    }
}

#[test]
fn a_device_shrinks_only_to_a_size_that_is_named() {
    for (size, capacity, code, becomes) in [
        (0, USED - 8, RetCode::IMPLICIT_SHRINK, USED),
        (0, USED, RetCode(101), USED),
        (USED - 8, USED - 8, RetCode(101), USED - 8),
        (USED - 8, SECTORS, RetCode(101), USED - 8),
        (SECTORS + 8, SECTORS, RetCode::DISK_TOO_SMALL, USED),
        (SECTORS, SECTORS, RetCode(101), SECTORS),
    ] {
        let mut pair = Pair::synced_in_front(USED);
        let answer = pair.command(true, resize(size, capacity, false));
        assert_eq!(
            (answer, pair.a.capacity),
            (code.0, becomes),
            "{size} {capacity}"
        );
        pair.until("in sync", Pair::in_sync);
    }
}

/// What the last peer had does not count: the next one may be smaller, and would be refused.
#[test]
fn a_node_that_is_alone_grows_only_by_force_and_warns() {
    for force in [false, true] {
        let mut pair = Pair::synced_in_front(USED);
        let leave = AdminRequest::Disconnect { force: false };
        assert_eq!(pair.command(false, leave), 101);
        pair.run();
        assert_eq!(pair.command(true, resize(0, SECTORS, force)), 101);
        assert_eq!(pair.a.capacity, if force { SECTORS } else { USED });
        let warned = said(&pair.a.log, "Resize while not connected was forced");
        assert_eq!(warned, force);
        if force {
            continue;
        }
        assert_eq!(pair.command(true, resize(SECTORS, SECTORS, force)), 111);
        pair.b.admin(AdminRequest::Connect {
            config: NetConfig::DEFAULT,
            digests: DigestLengths::default(),
        });
        pair.until("in sync", Pair::in_sync);
        assert_eq!((pair.a.capacity, pair.b.capacity), (USED, USED));
    }
}

#[test]
fn a_blocked_link_is_given_up_after_as_many_timeouts_as_configured() {
    for (ko_count, given_up_at) in [(0, None), (1, Some(1)), (3, Some(3))] {
        let config = NetConfig {
            ko_count,
            ..NetConfig::DEFAULT
        };
        let mut pair = Pair::new();
        pair.attach();
        pair.connect(config);
        assert_eq!(pair.a.state().conn, ConnState::Connected);
        for round in 1..=4 {
            pair.a.core.handle(&Input::SendTimeout, pair.a.now);
            if given_up_at == Some(round) {
                assert_eq!(pair.a.state().conn, ConnState::Timeout, "{ko_count}");
                break;
            }
            assert_eq!(pair.a.state().conn, ConnState::Connected, "{ko_count}");
            pair.a.step();
            let left = ko_count.saturating_sub(round);
            let words = format!("sock_sendmsg time expired, ko = {left}");
            assert!(said(&pair.a.log, &words), "{:#?}", pair.a.log);
        }
    }
}

#[test]
fn a_link_that_is_blocked_before_it_is_up_is_given_up_at_once() {
    let mut pair = Pair::new();
    pair.attach();
    let digests = DigestLengths::default();
    let config = NetConfig {
        ko_count: 7,
        ..NetConfig::DEFAULT
    };
    for on_a in [true, false] {
        let request = AdminRequest::Connect { config, digests };
        pair.node(on_a).admin(request);
    }
    pair.a.step();
    pair.a.sockets_up(true, 1);
    assert_eq!(pair.a.state().conn, ConnState::WfConnection);
    pair.a.core.handle(&Input::SendTimeout, pair.a.now);
    assert_eq!(pair.a.state().conn, ConnState::Timeout);
}

#[test]
fn writes_of_the_peer_count_until_the_disk_has_them() {
    let mut pair = Pair::synced();
    assert!(!pair.b.core.has_peer_io());
    pair.b.hold_peer_io = true;
    pair.a.write(80, 4096, 7);
    pair.run();
    assert!(pair.b.core.has_peer_io());
    pair.b.hold_peer_io = false;
    pair.run();
    assert!(!pair.b.core.has_peer_io());
}

#[test]
fn blocks_are_unstable_from_a_resync_until_the_bitmap_that_says_so_is_on_disk() {
    let mut pair = Pair::new();
    pair.attach();
    pair.connect(NetConfig::DEFAULT);
    assert!(!pair.b.core.has_unstable_blocks(V));
    pair.a.admin(AdminRequest::SetRole {
        volume: V,
        role: Role::Primary,
        force: true,
    });
    pair.until("unstable", |pair| pair.b.core.has_unstable_blocks(V));
    pair.until("synced", Pair::in_sync);
}

#[test]
fn a_disk_that_does_not_take_the_bitmap_of_a_new_size_is_given_up() {
    let mut pair = Pair::synced_in_front(USED);
    pair.a.hold_bitmap = true;
    pair.a.admin(resize(0, SECTORS, false));
    pair.until("the bitmap", |pair| !pair.a.held_bitmaps.is_empty());
    pair.a.held_bitmaps.pop_front().unwrap();
    let now = pair.a.now;
    pair.a.hold_bitmap = false;
    let (volume, ok) = (V, false);
    pair.a
        .core
        .handle(&Input::BitmapWritten { volume, ok }, now);
    pair.until("an answer", |pair| pair.a.state().disk <= DiskState::Failed);
    pair.until("diskless", |pair| {
        pair.a.state().disk == DiskState::Diskless
    });
}

#[test]
fn commands_name_a_volume_that_there_is() {
    let mut pair = Pair::new();
    let new = |volume| AdminRequest::NewVolume {
        volume: VolumeIndex(volume),
        number: VolumeNumber(9),
    };
    let delete = |volume| AdminRequest::DelVolume {
        volume: VolumeIndex(volume),
    };
    let invalid = RetCode::INVALID_REQUEST.0;
    for (request, code) in [
        (new(0), invalid),
        (delete(1), invalid),
        (new(2), invalid),
        (delete(2), invalid),
        (new(1), 101),
        (new(1), invalid),
        (delete(1), 101),
    ] {
        assert_eq!(pair.command(true, request), code, "{request:?}");
    }
}

#[test]
fn reads_go_to_the_node_that_the_policy_names() {
    use ReadBalancing as Policy;
    for (policy, sectors) in [
        (Policy::PreferLocal, vec![(0, false), (64, false)]),
        (Policy::PreferRemote, vec![(0, true), (64, true)]),
        (Policy::RoundRobin, vec![(0, true), (0, false), (0, true)]),
        (Policy::LeastPending, vec![(0, false), (64, false)]),
        (Policy::WhenCongestedRemote, vec![(64, false)]),
        (
            Policy::Striping32k,
            vec![(56, false), (64, true), (128, false)],
        ),
        (
            Policy::Striping64k,
            vec![(120, false), (128, true), (256, false)],
        ),
        (
            Policy::Striping1m,
            vec![(2040, false), (2048, true), (4096, false)],
        ),
    ] {
        let mut pair = Pair::synced();
        let config = DiskConfig {
            read_balancing: policy,
            ..DiskConfig::DEFAULT
        };
        pair.set_disk_options(true, config);
        for (sector, remote) in sectors {
            pair.a.sent.clear();
            pair.a.request(Op::Read, sector, 4096, 0);
            pair.run();
            let asked = pair.a.sent.contains(&0x08);
            assert_eq!(asked, remote, "{policy:?} {sector}");
        }
    }
}

#[test]
fn a_digest_that_authenticates_has_64_bytes_at_most() {
    for (words, good) in [(8, true), (9, false), (0, false)] {
        let mut pair = Pair::new();
        for node in [&mut pair.a, &mut pair.b] {
            node.hmac_words = words;
            let config = NetConfig {
                shared_secret: Name::new(b"secret").unwrap(),
                cram_hmac_alg: Name::new(b"sha512").unwrap(),
                ..NetConfig::DEFAULT
            };
            let digests = DigestLengths {
                hmac: 64,
                ..DigestLengths::default()
            };
            node.admin(AdminRequest::Connect { config, digests });
        }
        pair.run();
        let conn = pair.a.state().conn;
        assert_eq!(conn == ConnState::Connected, good, "{words} {conn}");
        let refused = said(&pair.a.log, "Authentication of peer failed");
        assert_eq!(refused, !good, "{words}");
    }
}

/// The disk does not answer: with the peer's answer the write is done.
#[test]
fn what_a_dead_disk_keeps_ends_without_it() {
    let mut pair = Pair::synced();
    pair.a.hold_local = true;
    pair.a.write(80, 4096, 1);
    pair.run();
    assert_eq!(pair.a.ended, []);
    let request = AdminRequest::Detach {
        volume: V,
        force: true,
    };
    pair.a.admin(request);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
}

/// `reference/io.md` Q19.
#[test]
fn a_flush_that_fails_counts_if_the_disk_goes_for_it_and_the_peer_has_the_data() {
    for (policy, connected, result) in [
        (OnIoError::Detach, true, Ok(())),
        (OnIoError::Detach, false, Err(IoError::Io)),
        (OnIoError::PassOn, true, Err(IoError::Io)),
    ] {
        let mut pair = Pair::synced();
        let config = DiskConfig {
            on_io_error: policy,
            ..DiskConfig::DEFAULT
        };
        pair.set_disk_options(true, config);
        if !connected {
            let leave = AdminRequest::Disconnect { force: false };
            assert_eq!(pair.command(true, leave), 101);
        }
        pair.a.fail_local = true;
        pair.a.request(Op::Flush, 0, 0, 0);
        pair.run();
        assert_eq!(pair.a.ended, [result], "{policy:?} {connected}");
    }
}

#[test]
fn only_a_secondary_without_a_disk_is_deleted() {
    let detach = AdminRequest::Detach {
        volume: V,
        force: false,
    };
    for (primary, has_disk, code) in [
        (true, true, RetCode::MINOR_CONFIGURED),
        (true, false, RetCode::MINOR_CONFIGURED),
        (false, true, RetCode::MINOR_CONFIGURED),
        (false, false, RetCode(101)),
    ] {
        let mut pair = Pair::synced();
        if !has_disk {
            assert_eq!(pair.command(primary, detach), 1);
        }
        let delete = AdminRequest::DelVolume { volume: V };
        let answer = pair.command(primary, delete);
        assert_eq!(answer, code.0, "{primary} {has_disk}");
    }
}

/// `reference/io.md` 0.4.
#[test]
fn requests_fit_the_device_and_have_an_allowed_length() {
    for (op, sector, len, good) in [
        (Op::Read, 0, 1 << 20, true),
        (Op::Read, 0, (1 << 20) + 512, false),
        (Op::Write, 0, 1 << 20, true),
        (Op::Write, 0, (1 << 20) + 512, false),
        (Op::Read, 0, 0, false),
        (Op::Write, 0, 0, false),
        (Op::Discard, 0, 0, false),
        (Op::Read, SECTORS - 8, 4096, true),
        (Op::Read, SECTORS - 8, 4608, false),
        (Op::Write, SECTORS, 512, false),
        (Op::Discard, 0, 4_206_592, true),
        (Op::Discard, 0, 4_207_104, false),
        (Op::Flush, 0, 0, true),
        (Op::Flush, 0, 512, false),
    ] {
        let mut pair = Pair::synced();
        pair.a.request(op, sector, len, 0);
        pair.run();
        let refused = pair.a.ended == [Err(IoError::Invalid)];
        assert_eq!(refused, !good, "{op:?} {sector} {len}: {:?}", pair.a.ended);
    }
}

/// Only a node that is alone, and in the role that goes with it, just marks all blocks.
#[test]
fn data_are_given_up_alone_by_a_secondary_and_for_the_peer_by_a_primary() {
    let give_up = |remote| {
        if remote {
            AdminRequest::InvalidateRemote { volume: V }
        } else {
            AdminRequest::Invalidate { volume: V }
        }
    };
    let total = SectorCount(SECTORS).bits().0;
    for (primary, remote, code, bits) in [
        (false, false, 1, total),
        (true, true, 1, total),
        (true, false, -15, 0),
        (false, true, -15, 0),
    ] {
        let mut pair = Pair::synced();
        let leave = AdminRequest::Disconnect { force: false };
        assert_eq!(pair.command(primary, leave), 101);
        let answer = pair.command(primary, give_up(remote));
        let marked = pair.node(primary).core.counters(V).out_of_sync_bits;
        assert_eq!((answer, marked), (code, bits), "{primary} {remote}");
    }
}

#[test]
fn a_pause_names_who_keeps_it_up() {
    let pause = AdminRequest::PauseSync { volume: V };
    let resume = AdminRequest::ResumeSync { volume: V };
    let mut pair = Pair::synced();
    let dependency = |pair: &mut Pair, busy| {
        let now = pair.b.now;
        let input = Input::SyncDependency { volume: V, busy };
        pair.b.core.handle(&input, now);
        pair.run();
    };
    assert_eq!(pair.command(false, resume), RetCode::PAUSE_IS_CLEAR.0);
    dependency(&mut pair, true);
    let idle = pair.command(false, resume);
    assert_eq!(idle, RetCode::PAUSE_IS_CLEAR.0, "nothing is paused");
    dependency(&mut pair, false);
    assert_eq!(pair.command(true, pause), 101);
    assert_eq!(pair.command(true, pause), RetCode::PAUSE_IS_SET.0);
    assert_eq!(
        pair.command(false, AdminRequest::Invalidate { volume: V }),
        1
    );
    pair.until("paused", |pair| {
        pair.b.state().conn == ConnState::PausedSyncT
    });
    assert_eq!(pair.command(false, resume), RetCode::PIC_PEER_DEP.0);
    dependency(&mut pair, true);
    assert_eq!(pair.command(false, resume), RetCode::PIC_AFTER_DEP.0);
    assert_eq!(pair.command(true, resume), 101);
    assert_eq!(pair.b.state().conn, ConnState::PausedSyncT);
    assert_eq!(pair.command(false, resume), RetCode::PIC_AFTER_DEP.0);
    dependency(&mut pair, false);
    pair.until("in sync", Pair::in_sync);
}

/// `a` waits for a second for its disk, which has a write and does not answer.
fn with_a_write_on_a_slow_disk() -> Pair {
    let mut pair = Pair::synced();
    let config = DiskConfig {
        disk_timeout_tenths: 10,
        ..DiskConfig::DEFAULT
    };
    pair.set_disk_options(true, config);
    pair.a.hold_local = true;
    pair.a.write(80, 4096, 1);
    pair.run();
    pair
}

#[test]
fn a_disk_that_is_too_slow_is_given_up_when_its_time_is_over() {
    let mut pair = with_a_write_on_a_slow_disk();
    pair.pass(Duration::from_millis(900));
    assert_eq!(pair.a.ended, []);
    assert_eq!(pair.a.state().disk, DiskState::UpToDate);
    pair.pass(Duration::from_millis(100));
    assert_eq!(pair.a.ended, [Ok(())]);
    assert!(pair.a.state().disk <= DiskState::Failed);
    assert_eq!(pair.b.state().disk, DiskState::UpToDate);
}

/// `reference/io.md` 4.3, 8.2: what the disk has besides is not waited for.
#[test]
fn a_disk_whose_metadata_took_too_long_is_given_up_by_force() {
    for forced in [false, true] {
        let mut pair = Pair::synced();
        pair.a.hold_local = true;
        pair.a.write(80, 4096, 1);
        pair.run();
        assert!(!pair.a.core.gives_up_disk(V));
        if forced {
            let late = Input::MetadataTimedOut { volume: V };
            pair.a.core.handle(&late, pair.a.now);
            assert!(pair.a.core.gives_up_disk(V));
            pair.run();
            assert_eq!(pair.a.state().disk, DiskState::Diskless);
            assert_eq!(pair.a.ended, [Ok(())]);
        } else {
            pair.a.admin(AdminRequest::Detach {
                volume: V,
                force: false,
            });
            pair.run();
            assert_eq!(
                pair.a.state().disk,
                DiskState::Failed,
                "waits for the write"
            );
            assert_eq!(pair.a.ended, []);
        }
    }
}

/// Somebody asked for it before, and would wait as long.
#[test]
fn a_disk_that_is_too_slow_to_be_detached_is_given_up_as_well() {
    let mut pair = with_a_write_on_a_slow_disk();
    pair.a.admin(AdminRequest::Detach {
        volume: V,
        force: false,
    });
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Failed);
    assert_eq!(pair.a.ended, []);
    pair.pass(Duration::from_millis(1000));
    assert_eq!(pair.a.ended, [Ok(())]);
    assert_eq!(pair.a.state().disk, DiskState::Diskless);
}

/// `reference/wire.md` A.7.
#[test]
fn blocks_that_the_target_can_not_write_are_counted_on_both_nodes() {
    let mut pair = Pair::synced();
    let config = DiskConfig {
        on_io_error: OnIoError::PassOn,
        ..DiskConfig::DEFAULT
    };
    pair.set_disk_options(false, config);
    pair.b.fail_peer_io = true;
    pair.command(false, AdminRequest::Invalidate { volume: V });
    pair.until("an end", |pair| {
        pair.a.state().conn == ConnState::Connected && pair.b.state().conn == ConnState::Connected
    });
    assert_eq!(pair.b.state().disk, DiskState::Inconsistent);
    assert_eq!(pair.a.state().pdsk, DiskState::Inconsistent);
    for node in [&pair.a, &pair.b] {
        assert!(said(&node.log, "1027 failed blocks"), "{:#?}", node.log);
        assert_eq!(node.core.counters(V).out_of_sync_bits, 1027);
    }
}

#[test]
fn a_receiver_that_goes_without_being_told_ends_the_connection() {
    let mut pair = Pair::synced();
    let now = pair.a.now;
    pair.a.core.handle(&Input::ReceiverGone, now);
    assert!(pair.a.state().conn < ConnState::Connected);
    pair.run();
    let failed = "conn( Connected -> NetworkFailure )";
    assert!(said(&pair.a.log, failed), "{:#?}", pair.a.log);
}

/// `reference/wire.md` 4.2, step 5.
#[test]
fn a_response_of_the_wrong_length_is_no_reason_to_give_up() {
    let mut pair = Pair::new();
    for (node, words) in [(&mut pair.a, 4), (&mut pair.b, 3)] {
        node.hmac_words = words;
        let config = NetConfig {
            shared_secret: Name::new(b"secret").unwrap(),
            cram_hmac_alg: Name::new(b"sha256").unwrap(),
            ..NetConfig::DEFAULT
        };
        let digests = DigestLengths {
            hmac: 32,
            ..DigestLengths::default()
        };
        node.admin(AdminRequest::Connect { config, digests });
    }
    for _ in 0..200 {
        pair.round();
        for node in [&mut pair.a, &mut pair.b] {
            let conn = node.state().conn;
            assert!(conn > ConnState::StandAlone || node.log.is_empty());
            assert!(conn < ConnState::WfReportParams, "{conn}");
        }
    }
    let failed = "Authentication of peer failed";
    let [a, b] = [&pair.a.log, &pair.b.log];
    let count = |text| a.iter().chain(b).filter(|line| line.contains(text)).count();
    assert!(count(failed) > 0, "{a:#?} {b:#?}");
    assert_eq!(count(failed), count("trying again."), "{a:#?} {b:#?}");
}

/// As long as the peer asks for more answers than the network takes the data socket never rests.
#[test]
fn a_barrier_does_not_wait_for_all_answers_that_the_peer_asks_for() {
    let mut pair = Pair::new();
    pair.a.attach(DiskConfig::DEFAULT);
    pair.b.attach(DiskConfig {
        read_balancing: ReadBalancing::PreferRemote,
        ..DiskConfig::DEFAULT
    });
    pair.run();
    pair.connect(NetConfig {
        two_primaries: true,
        ..NetConfig::DEFAULT
    });
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.until("first sync", Pair::in_sync);
    assert_eq!(pair.role(false, Role::Primary, false), 1);
    pair.a.write(800, 4096, 7);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    pair.a.sends_left = Some(0);
    for number in 0..8 {
        pair.b.request(Op::Read, number * 8, 4096, 0);
    }
    pair.pass(Duration::from_millis(10));
    pair.a.sent.clear();
    pair.a.sends_left = Some(2);
    pair.run();
    let [barrier, reply] = [Command::Barrier, Command::DataReply].map(Command::to_wire);
    assert_eq!(pair.a.sent, [barrier, reply]);
    assert_eq!(pair.a.core.counters(V).in_flight_sectors, 0);
    pair.a.sends_left = None;
    pair.run();
    assert_eq!(pair.b.ended, [Ok(()); 8]);
}
