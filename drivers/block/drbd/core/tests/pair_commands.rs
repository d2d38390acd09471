//! Commands on two connected resources: what they do and what they answer.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::{DiskConfig, NetConfig};
use drbd_core::input::{AdminRequest, DigestLengths};
use drbd_core::link::{VolumeIndex, VolumeNumber};
use drbd_core::time::Duration;
use drbd_format::types::{ConnState, DiskState, Role};
use pair::both::{grow, said, shape, Pair, SECTORS};
use pair::node::V;

const DISCONNECT: AdminRequest = AdminRequest::Disconnect { force: false };
const DETACH: AdminRequest = AdminRequest::Detach {
    volume: V,
    force: false,
};

#[test]
fn both_nodes_may_disconnect_at_the_same_moment() {
    let cases = [None, Some(true), Some(false)];
    for (primary, slow) in cases
        .into_iter()
        .flat_map(|one| cases.map(|two| (one, two)))
    {
        let mut pair = Pair::synced();
        assert_eq!(pair.role(true, Role::Secondary, false), 1);
        if let Some(on_a) = primary {
            assert_eq!(pair.role(on_a, Role::Primary, false), 1);
        }
        let before = [pair.a.answers.len(), pair.b.answers.len()];
        // The question of a slow node comes after its answer to the other's question.
        if let Some(on_a) = slow {
            pair.node(on_a).sends_left = Some(0);
        }
        pair.a.admin(DISCONNECT);
        pair.b.admin(DISCONNECT);
        pair.run();
        pair.a.sends_left = None;
        pair.b.sends_left = None;
        pair.until("both left", |pair| {
            pair.a.answers.len() > before[0] && pair.b.answers.len() > before[1]
        });
        for (node, before) in [&mut pair.a, &mut pair.b].into_iter().zip(before) {
            assert_eq!(node.answers[before].1, 101, "{primary:?}: {:#?}", node.log);
            assert_eq!(node.state().conn, ConnState::StandAlone);
            assert_eq!(node.state().disk, DiskState::UpToDate);
        }
    }
}

#[test]
fn invalidate_makes_this_node_the_target_of_a_full_sync() {
    let mut pair = Pair::synced();
    pair.b.disk.data[4096] ^= 0xff;
    assert_eq!(
        pair.command(false, AdminRequest::Invalidate { volume: V }),
        1
    );
    pair.until("synced again", Pair::in_sync);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
    assert!(pair.a.core.counters(V).sent_sectors >= SECTORS);
}

#[test]
fn invalidate_remote_makes_the_peer_the_target_of_a_full_sync() {
    let mut pair = Pair::synced();
    pair.b.disk.data[4096] ^= 0xff;
    let request = AdminRequest::InvalidateRemote { volume: V };
    assert_eq!(pair.command(true, request), 1);
    pair.until("synced again", Pair::in_sync);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
}

/// The peer's disk was left Inconsistent with a few blocks to sync: only those were synced.
#[test]
fn a_stand_alone_primary_syncs_a_disk_fully_that_it_invalidates_though_it_is_inconsistent() {
    let mut pair = Pair::synced_with_pass_on();
    pair.b.fail_peer_io = true;
    pair.a.write(8000, 4096, 0x71);
    pair.until("Inconsistent", |pair| {
        pair.a.state().pdsk == DiskState::Inconsistent
    });
    pair.b.fail_peer_io = false;
    assert_eq!(pair.command(true, DISCONNECT), 101);
    assert_eq!(pair.a.state().pdsk, DiskState::Inconsistent);
    pair.b.disk.data[4096] ^= 0xff;
    let request = AdminRequest::InvalidateRemote { volume: V };
    assert_eq!(pair.command(true, request), 1);
    let digests = DigestLengths::default();
    let config = NetConfig::DEFAULT;
    pair.command(true, AdminRequest::Connect { config, digests });
    pair.until("synced again", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

#[test]
fn a_stand_alone_secondary_can_be_invalidated_and_syncs_fully_on_connect() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(false, DISCONNECT), 101);
    assert_eq!(
        pair.command(false, AdminRequest::Invalidate { volume: V }),
        1
    );
    assert_eq!(pair.b.state().disk, DiskState::Inconsistent);
    let digests = DigestLengths::default();
    let config = NetConfig::DEFAULT;
    pair.command(false, AdminRequest::Connect { config, digests });
    pair.until("synced again", Pair::in_sync);
    assert!(pair.a.core.counters(V).sent_sectors >= SECTORS);
}

#[test]
fn commands_that_do_not_fit_the_state_are_refused_with_their_codes() {
    let mut pair = Pair::synced();
    let verify = AdminRequest::Verify {
        volume: V,
        start: None,
        stop: u64::MAX,
    };
    assert_eq!(pair.command(true, verify), -14);
    assert_eq!(pair.command(true, AdminRequest::Outdate { volume: V }), 2);
    assert_eq!(
        pair.command(true, AdminRequest::ResumeSync { volume: V }),
        135
    );
    assert_eq!(
        pair.command(true, AdminRequest::PauseSync { volume: V }),
        101
    );
    assert_eq!(
        pair.command(true, AdminRequest::PauseSync { volume: V }),
        134
    );
    assert_eq!(
        pair.command(true, AdminRequest::ResumeSync { volume: V }),
        101
    );
    let again = AdminRequest::Connect {
        config: NetConfig::DEFAULT,
        digests: DigestLengths::default(),
    };
    assert_eq!(pair.command(true, again), 125);
    assert_eq!(
        pair.command(true, AdminRequest::DelVolume { volume: V }),
        160
    );
    let fresh = AdminRequest::NewCurrentUuid {
        volume: V,
        clear_bitmap: true,
    };
    assert_eq!(pair.command(true, fresh), 151);
    assert_eq!(pair.role(true, Role::Primary, false), 2);

    assert_eq!(pair.command(true, DISCONNECT), 101);
    assert_eq!(pair.command(true, DISCONNECT), 101, "already alone is fine");
    assert_eq!(pair.command(true, verify), -15);
    assert_eq!(pair.command(true, AdminRequest::Outdate { volume: V }), -2);
    assert_eq!(pair.command(true, DETACH), -2, "the last good data");
    pair.until("b notices", |pair| {
        pair.b.state().conn < ConnState::Connected
    });
    assert_eq!(pair.command(false, AdminRequest::Outdate { volume: V }), 1);
    assert_eq!(pair.command(false, DETACH), 1);
    assert_eq!(pair.command(false, DETACH), 2);
    assert_eq!(
        pair.command(false, AdminRequest::Invalidate { volume: V }),
        138
    );
    assert_eq!(
        pair.command(false, AdminRequest::Outdate { volume: V }),
        -16
    );
}

#[test]
fn a_device_in_use_stays_primary() {
    use drbd_core::input::Input;
    let mut pair = Pair::synced();
    let now = pair.a.now;
    pair.a.core.handle(&Input::Opened { volume: V }, now);
    assert_eq!(pair.role(true, Role::Secondary, false), -12);
    pair.a.core.handle(&Input::Closed { volume: V }, now);
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
}

#[test]
fn a_primary_without_its_disk_goes_on_through_the_peer_and_attaches_again() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(true, DETACH), 1);
    assert_eq!(
        shape(&mut pair.a),
        "cs:Connected ro:Primary/Secondary ds:Diskless/UpToDate r-----"
    );
    pair.a.write(800, 4096, 0x91);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    assert_eq!(pair.b.disk.data[800 * 512], 0x91);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("synced again", Pair::in_sync);
    assert_eq!(pair.a.answers.last().unwrap().1, 101);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
    assert_eq!(pair.a.state().role, Role::Primary);
}

#[test]
fn a_secondary_that_was_detached_syncs_only_what_was_written_meanwhile() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(false, DETACH), 1);
    pair.a.write(800, 4096, 0x91);
    pair.run();
    let before = pair.a.core.counters(V).sent_sectors;
    pair.b.attach(DiskConfig::DEFAULT);
    pair.until("synced again", Pair::in_sync);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
    assert!(
        pair.a.core.counters(V).sent_sectors - before <= 8,
        "{:#?}",
        pair.a.log
    );
}

#[test]
fn verify_finds_and_marks_what_differs() {
    let mut pair = Pair::synced_with_verify();
    pair.b.disk.data[8192] ^= 0xff;
    let verify = AdminRequest::Verify {
        volume: V,
        start: Some(0),
        stop: u64::MAX,
    };
    assert_eq!(pair.command(true, verify), 1);
    pair.until("verified", Pair::in_sync);
    assert!(
        said(&pair.a.log, "Online verify found 1 4k block out of sync!"),
        "{:#?}",
        pair.a.log
    );
    assert!(pair.a.helpers.contains(&"out-of-sync"));
    assert_eq!(pair.a.core.counters(V).out_of_sync_bits, 1);
    assert_eq!(pair.b.core.counters(V).out_of_sync_bits, 1);
}

#[test]
fn the_initial_sync_can_be_skipped() {
    let mut pair = Pair::new();
    pair.attach();
    pair.connect(NetConfig::DEFAULT);
    let request = AdminRequest::NewCurrentUuid {
        volume: V,
        clear_bitmap: true,
    };
    assert_eq!(pair.command(true, request), 101);
    pair.until("no sync needed", Pair::in_sync);
    assert_eq!(pair.a.core.counters(V).out_of_sync_bits, 0);
    assert_eq!(pair.b.core.counters(V).out_of_sync_bits, 0);
    assert_ne!(pair.a.disk.data, pair.b.disk.data, "nothing was copied");
    assert_eq!(pair.role(true, Role::Primary, false), 1);
}

#[test]
fn a_paused_resync_waits_and_goes_on() {
    let mut pair = Pair::new();
    pair.attach();
    pair.connect(NetConfig::DEFAULT);
    assert_eq!(
        pair.command(false, AdminRequest::PauseSync { volume: V }),
        101
    );
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.until("paused", |pair| {
        pair.b.state().conn == ConnState::PausedSyncT
    });
    assert_eq!(pair.a.state().conn, ConnState::PausedSyncS);
    assert_ne!(pair.a.disk.data, pair.b.disk.data);
    assert_eq!(
        pair.command(false, AdminRequest::ResumeSync { volume: V }),
        101
    );
    pair.until("synced", Pair::in_sync);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
}

#[test]
fn both_nodes_may_leave_at_the_same_time() {
    let mut pair = Pair::synced();
    pair.a.admin(DISCONNECT);
    pair.b.admin(DISCONNECT);
    pair.until("both alone", |pair| {
        pair.a.state().conn == ConnState::StandAlone && pair.b.state().conn == ConnState::StandAlone
    });
    assert_eq!(pair.a.answers.last().unwrap().1, 101);
    assert_eq!(pair.b.answers.last().unwrap().1, 101);
}

#[test]
fn two_nodes_may_be_primary_if_both_allow_it() {
    let config = NetConfig {
        two_primaries: true,
        ..NetConfig::DEFAULT
    };
    let mut pair = Pair::new();
    pair.attach();
    pair.connect(config);
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.until("first sync", Pair::in_sync);
    assert_eq!(pair.role(false, Role::Primary, false), 1);
    pair.b.write(80, 4096, 0x61);
    pair.a.write(800, 4096, 0x62);
    pair.run();
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
}

#[test]
fn volumes_of_one_connection_do_not_stop_each_other() {
    const SECOND: VolumeIndex = VolumeIndex(1);
    let number = VolumeNumber(7);
    let second = AdminRequest::NewVolume {
        volume: SECOND,
        number,
    };
    let mut pair = Pair::new();
    for on_a in [true, false] {
        assert_eq!(pair.command(on_a, second), 101);
    }
    pair.attach();
    pair.connect(NetConfig::DEFAULT);
    let state = pair.a.core.state(SECOND);
    assert_eq!(state.conn, ConnState::Connected, "{:#?}", pair.a.log);
    assert_eq!(state.pdsk, DiskState::Diskless);
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.until("first sync", Pair::in_sync);
    assert_eq!(pair.command(false, DISCONNECT), 101);
    pair.a.write(80, 4096, 1);
    pair.run();
    let digests = DigestLengths::default();
    let config = NetConfig::DEFAULT;
    assert_eq!(
        pair.command(false, AdminRequest::Connect { config, digests }),
        1
    );
    pair.until("synced again", Pair::in_sync);
    assert_eq!(pair.b.core.state(SECOND).conn, ConnState::Connected);
}

#[test]
fn a_volume_joins_and_leaves_a_living_connection() {
    const SECOND: VolumeIndex = VolumeIndex(1);
    let second = AdminRequest::NewVolume {
        volume: SECOND,
        number: VolumeNumber(1),
    };
    let mut pair = Pair::synced();
    assert_eq!(pair.command(true, second), 101);
    pair.run();
    assert_eq!(pair.a.core.state(SECOND).conn, ConnState::WfReportParams);
    assert!(pair.in_sync(), "the first volume does not care");
    assert_eq!(pair.command(false, second), 101);
    pair.until("joined", |pair| {
        pair.a.core.state(SECOND).conn == ConnState::Connected
            && pair.b.core.state(SECOND).conn == ConnState::Connected
    });
    assert_eq!(
        pair.command(true, AdminRequest::DelVolume { volume: SECOND }),
        101
    );
    assert_eq!(
        pair.command(false, AdminRequest::DelVolume { volume: SECOND }),
        101
    );
    assert!(pair.in_sync());
    pair.a.write(80, 4096, 1);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
}

#[test]
fn suspended_writes_go_on_when_io_is_resumed() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(true, AdminRequest::SuspendIo { volume: V }), 1);
    assert_eq!(pair.command(true, AdminRequest::SuspendIo { volume: V }), 2);
    assert!(pair.a.state().suspended());
    assert_eq!(pair.command(true, AdminRequest::ResumeIo { volume: V }), 1);
    pair.a.write(80, 4096, 9);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
}

/// Suspension is a matter of the resource, generations are one of each volume.
#[test]
fn io_resumed_through_one_volume_begins_the_generation_that_another_owes() {
    let mut pair = Pair::synced();
    let volume = VolumeIndex(1);
    let number = VolumeNumber(7);
    let second = AdminRequest::NewVolume { volume, number };
    assert_eq!(pair.command(true, second), 101);
    assert_eq!(pair.command(true, AdminRequest::SuspendIo { volume: V }), 1);
    pair.cut = true;
    pair.a.notice_end(true);
    pair.run();
    let before = pair.a.log.len();
    assert_eq!(pair.command(true, AdminRequest::ResumeIo { volume }), 1);
    assert!(
        said(&pair.a.log[before..], "new current UUID"),
        "{:#?}",
        pair.a.log
    );
}

/// Seed 157: the old disk of the Primary came back as source and took away what the peer alone
/// had.
#[test]
fn a_suspended_secondary_begins_a_generation_when_the_primary_loses_its_disk() {
    let mut pair = Pair::synced();
    assert_eq!(
        pair.command(false, AdminRequest::SuspendIo { volume: V }),
        1
    );
    assert_eq!(pair.command(true, DETACH), 1);
    pair.until("diskless", |pair| {
        pair.b.state().pdsk == DiskState::Diskless
    });
    assert!(said(&pair.b.log, "new current UUID"), "{:#?}", pair.b.log);
    pair.a.write(80, 4096, 0x5a);
    pair.run();
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("synced", Pair::in_sync);
    assert_eq!(pair.b.disk.data[80 * 512], 0x5a);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

#[test]
fn a_write_frozen_by_the_administrator_survives_a_lost_link() {
    let mut pair = Pair::synced();
    pair.cut = true;
    pair.a.write(80, 4096, 9);
    pair.run();
    assert_eq!(pair.command(true, AdminRequest::SuspendIo { volume: V }), 1);
    pair.until("a notices", |pair| {
        pair.a.state().conn < ConnState::Connected
    });
    assert!(pair.a.ended.is_empty());
    pair.cut = false;
    pair.until("together", |pair| {
        pair.a.state().conn >= ConnState::Connected
    });
    assert_eq!(pair.command(true, AdminRequest::ResumeIo { volume: V }), 1);
    pair.until("synced", Pair::in_sync);
    assert_eq!(pair.a.ended, [Ok(())]);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
}

#[test]
fn forced_commands_answer_at_once_even_if_the_peer_is_silent() {
    let mut pair = Pair::synced();
    pair.cut = true;
    pair.a.admin(DISCONNECT);
    pair.run();
    let answers = pair.a.answers.len();
    pair.a.admin(AdminRequest::Disconnect { force: true });
    pair.run();
    assert_eq!(pair.a.answers.len(), answers + 2, "both are answered");
    assert_eq!(pair.a.state().conn, ConnState::StandAlone);
    let detach = AdminRequest::Detach {
        volume: V,
        force: true,
    };
    assert_eq!(pair.command(true, detach), 1);
    pair.until("gone", |pair| pair.a.state().disk == DiskState::Diskless);
}

#[test]
fn a_resize_is_followed_by_the_peer_and_the_new_space_is_synced() {
    let mut pair = Pair::synced_in_front(4096);
    assert_eq!(pair.command(true, grow(false)), 101);
    pair.until("new space synced", Pair::in_sync);
    assert_eq!((pair.a.capacity, pair.b.capacity), (SECTORS, SECTORS));
    pair.until("really", |pair| pair.a.disk.data == pair.b.disk.data);
    assert_eq!(pair.a.core.counters(V).out_of_sync_bits, 0);
}

/// Nobody has written since; only one node knows that there is something to sync.
#[test]
fn space_that_an_attached_disk_brings_is_synced_though_the_generations_are_equal() {
    let mut pair = Pair::new();
    pair.b.disk.data.truncate(4096 * 512);
    pair.attach();
    pair.connect(NetConfig::DEFAULT);
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.until("first sync", Pair::in_sync);
    assert_eq!((pair.a.capacity, pair.b.capacity), (4096, 4096));
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    assert_eq!(pair.command(false, DETACH), 1);
    pair.run();
    pair.b.disk.data.resize(SECTORS as usize * 512, 0x22);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.until("new space synced", |pair| {
        pair.a.capacity == SECTORS && pair.b.capacity == SECTORS && pair.in_sync()
    });
    assert!(said(&pair.a.log, "by rule 40"), "{:#?}", pair.a.log);
    assert!(pair.a.disk.data == pair.b.disk.data);
    for node in [&pair.a, &pair.b] {
        assert_eq!(node.core.counters(V).out_of_sync_bits, 0);
    }
}

/// Two sizes on their way to one disk would leave applications waiting for the first for ever.
#[test]
fn a_resize_is_refused_while_a_size_of_the_peer_is_being_written() {
    let mut pair = Pair::synced_in_front(4096);
    let resize = |size_sectors| AdminRequest::Resize {
        volume: V,
        size_sectors,
        force: false,
        assume_clean: false,
        max_capacity_sectors: SECTORS,
    };
    pair.b.hold_metadata = true;
    pair.a.admin(resize(6144));
    pair.run();
    assert!(pair.b.core.view(V).io_blocked);
    assert_eq!(pair.command(false, resize(0)), 130);
    pair.b.release_metadata();
    pair.until("new space synced", Pair::in_sync);
    assert_eq!((pair.a.capacity, pair.b.capacity), (6144, 6144));
    assert!(!pair.b.core.view(V).io_blocked);
}

#[test]
fn space_that_came_while_a_disk_was_away_is_synced() {
    let mut pair = Pair::synced_in_front(4096);
    assert_eq!(pair.command(false, DETACH), 1);
    pair.until("diskless", |pair| {
        pair.a.state().pdsk == DiskState::Diskless
    });
    assert_eq!(pair.command(true, grow(true)), 101, "{:#?}", pair.a.log);
    pair.a.write(SECTORS - 8, 4096, 9);
    pair.run();
    pair.b.attach(DiskConfig::DEFAULT);
    pair.until("synced", Pair::in_sync);
    assert_eq!((pair.a.capacity, pair.b.capacity), (SECTORS, SECTORS));
    pair.until("really", |pair| pair.a.disk.data == pair.b.disk.data);
}

/// Something else changes before the peer has answered to a new size: the resync of the new space
/// begins at once, and the answer does not begin another one.
#[test]
fn new_space_is_synced_once_if_the_state_changes_before_the_peer_answers() {
    let mut pair = Pair::synced_in_front(4096);
    let answers = pair.a.answers.len();
    pair.a.admin(grow(false));
    while pair.a.answers.len() == answers {
        assert!(pair.a.step(), "{:#?}", pair.a.log);
    }
    pair.a.admin(AdminRequest::PauseSync { volume: V });
    while pair.a.step() {}
    assert!(said(&pair.a.log, "Resync of new storage"), "not yet");
    assert_eq!(pair.b.capacity, 4096);
    assert_eq!(
        pair.command(true, AdminRequest::ResumeSync { volume: V }),
        101
    );
    pair.until("grown", |pair| pair.b.capacity == SECTORS);
    pair.until("synced", Pair::in_sync);
    for node in [&pair.a, &pair.b] {
        let begun = |line: &&String| line.contains("Resync of new storage");
        assert_eq!(node.log.iter().filter(begun).count(), 1);
        assert_eq!(node.core.counters(V).out_of_sync_bits, 0);
    }
    pair.until("really", |pair| pair.a.disk.data == pair.b.disk.data);
}

#[test]
fn a_disk_that_fails_is_given_up_and_the_primary_goes_on_through_the_peer() {
    let mut pair = Pair::synced();
    pair.a.fail_local = true;
    pair.a.write(80, 4096, 9);
    pair.until("detached", |pair| {
        pair.a.state().disk == DiskState::Diskless
    });
    assert_eq!(pair.a.ended, [Ok(())]);
    assert_eq!(pair.b.disk.data[80 * 512], 9);
    assert!(said(&pair.a.log, "Detaching..."));
    assert_eq!(pair.a.state().role, Role::Primary);
}

/// A primary whose disk failed; the peer's new generation arrives before the disk is let go.
fn failed_disk() -> Pair {
    let mut pair = Pair::synced();
    pair.a.fail_local = true;
    pair.a.hold_bitmap = true;
    pair.a.write(80, 4096, 9);
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Failed);
    assert!(said(&pair.b.log, "new current UUID"), "{:#?}", pair.b.log);
    pair.a.fail_local = false;
    pair.a.release_bitmap();
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Diskless);
    assert_eq!(pair.a.ended, [Ok(())]);
    pair
}

#[test]
fn a_primary_whose_disk_failed_knows_its_data_when_the_peer_comes_back() {
    let mut pair = failed_disk();
    pair.a.notice_end(true);
    pair.b.notice_end(true);
    pair.until("connected again", |pair| {
        pair.a.state().conn == ConnState::Connected && pair.b.state().conn == ConnState::Connected
    });
    assert_eq!(pair.a.state().pdsk, DiskState::UpToDate);
}

#[test]
fn the_old_data_of_a_failed_disk_does_not_come_back_while_the_peer_is_away() {
    let mut pair = failed_disk();
    pair.cut = true;
    pair.a.notice_end(true);
    pair.run();
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.a.answers.last().unwrap().1, 150, "{:#?}", pair.a.log);
}

/// The answer goes before the link is closed: nobody has to wait until a time has run out.
#[test]
fn a_peer_that_is_left_agrees_before_it_closes_the_link() {
    let mut pair = Pair::synced();
    let before = pair.a.now;
    pair.a.admin(AdminRequest::Disconnect { force: false });
    pair.run();
    assert_eq!(pair.a.answers.last().unwrap().1, 101, "{:#?}", pair.a.log);
    assert_eq!(pair.a.state().conn, ConnState::StandAlone);
    assert_eq!(pair.b.state().conn, ConnState::WfConnection);
    assert_eq!(pair.a.now, before);
}

/// The UUIDs of the peer tell whether the disk is still good; a word about something else that was
/// under way does not.
#[test]
fn an_attached_disk_counts_once_it_has_been_compared() {
    let mut pair = Pair::synced();
    assert!(pair.command(true, DETACH) >= 1);
    pair.run();
    pair.a.write(800, 4096, 0x33);
    pair.run();
    pair.a.sends_left = Some(0);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Negotiating);
    pair.b.admin(AdminRequest::PauseSync { volume: V });
    pair.run();
    assert!(pair.a.state().peer_isp, "the word has arrived");
    assert_eq!(pair.a.state().disk, DiskState::Negotiating);
    pair.b.admin(AdminRequest::ResumeSync { volume: V });
    pair.a.sends_left = None;
    pair.until("synced", Pair::in_sync);
    assert_eq!(pair.a.disk.data[800 * 512], 0x33);
}

/// A generation that a Primary without a disk has shown is the one that it goes on with.
#[test]
fn a_primary_that_showed_the_data_of_its_peer_does_not_attach_another_generation() {
    let mut pair = Pair::synced();
    pair.cut = true;
    pair.a.write(800, 4096, 0x33);
    let alone = |pair: &mut Pair| {
        pair.a.state().conn < ConnState::Connected && pair.b.state().conn < ConnState::Connected
    };
    pair.until("both notice", alone);
    pair.a.write(800, 4096, 0x34);
    pair.run();
    assert!(pair.role(true, Role::Secondary, false) >= 1);
    assert!(pair.command(false, DETACH) >= 1);
    pair.cut = false;
    pair.until("together", |pair| {
        pair.b.state().pdsk == DiskState::UpToDate
    });
    assert_eq!(pair.role(false, Role::Primary, false), 1);
    pair.cut = true;
    pair.until("both notice again", alone);
    let before = pair.b.answers.len();
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.b.answers[before].1, 150);
}

/// The peer has begun a new generation for the writes; word of it may come later than the acks.
#[test]
fn a_disk_that_missed_writes_is_not_attached_alone_even_if_no_other_generation_is_known() {
    let mut pair = Pair::synced();
    pair.b.sends_left = Some(0);
    assert_eq!(pair.command(true, DETACH), 1);
    pair.a.write(800, 4096, 0x33);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    pair.cut = true;
    pair.until("both notice", |pair| {
        pair.a.state().conn < ConnState::Connected && pair.b.state().conn < ConnState::Connected
    });
    let before = pair.a.answers.len();
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.a.answers[before].1, 150);
    pair.b.sends_left = None;
    pair.cut = false;
    pair.until("together", |pair| {
        pair.a.state().pdsk == DiskState::UpToDate
    });
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("synced", Pair::in_sync);
    assert_eq!(pair.a.disk.data[800 * 512], 0x33);
}

/// The activity log is looked at after a crash if the superblock says that there was a Primary.
#[test]
fn a_write_of_a_diskless_peer_waits_for_the_mark_that_makes_the_log_count() {
    let mut pair = Pair::synced();
    pair.a.write(800, 4096, 0x32);
    pair.run();
    pair.b.hold_metadata = true;
    assert_eq!(pair.command(true, DETACH), 1);
    pair.a.write(800, 4096, 0x33);
    pair.run();
    assert_eq!(pair.b.disk.data[800 * 512], 0x32);
    pair.b.release_metadata();
    pair.run();
    assert_eq!(pair.b.disk.data[800 * 512], 0x33);
}

/// The node waits for the write before it connects again.
#[test]
fn a_write_of_a_diskless_peer_gets_to_the_disk_although_the_link_breaks() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(true, DETACH), 1);
    pair.b.hold_log = true;
    pair.a.write(800, 4096, 0x33);
    pair.run();
    pair.cut = true;
    pair.until("b notices", |pair| {
        pair.b.state().conn < ConnState::Connected
    });
    pair.pass(Duration::from_secs(1));
    pair.b.hold_log = false;
    pair.until("b is ready", |pair| {
        pair.b.state().conn == ConnState::WfConnection
    });
    assert_eq!(pair.b.disk.data[800 * 512], 0x33);
}

/// UUIDs belong to a disk. Those of one that is gone say nothing about the next attempt to attach.
#[test]
fn a_disk_that_fails_while_it_is_attached_is_not_compared() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(false, DETACH), 1);
    pair.a.write(800, 4096, 0x33);
    pair.run();
    let before = pair.a.log.len();
    pair.b.fail_metadata = true;
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.a.state().pdsk, DiskState::Diskless);
    assert!(
        !said(&pair.a.log[before..], "uuid_compare"),
        "{:#?}",
        pair.a.log
    );
    pair.b.fail_metadata = false;
    pair.b.attach(DiskConfig::DEFAULT);
    pair.until("synced", Pair::in_sync);
    assert_eq!(pair.b.disk.data[800 * 512], 0x33);
}
