//! Helpers that take their time: what has happened meanwhile decides what their end means.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::{DiskConfig, NetConfig, ResourceConfig};
use drbd_core::input::{AdminRequest, DigestLengths, Input};
use drbd_core::time::Duration;
use drbd_format::types::{ConnState, DiskState, Fencing, OnIoError, OnNoData, Protocol, Role};
use pair::both::{said, shape, Pair};
use pair::node::V;

fn set_fencing(pair: &mut Pair, on_a: bool, fencing: Fencing) {
    let config = DiskConfig {
        fencing,
        ..DiskConfig::DEFAULT
    };
    pair.set_disk_options(on_a, config);
}

fn connect_b(pair: &mut Pair, protocol: Protocol) {
    let config = NetConfig {
        protocol,
        ..NetConfig::DEFAULT
    };
    let digests = DigestLengths::default();
    pair.b.admin(AdminRequest::Connect { config, digests });
}

fn cut(pair: &mut Pair) {
    cut_only(pair);
    pair.pass(Duration::from_secs(2));
}

fn cut_only(pair: &mut Pair) {
    pair.cut = true;
    pair.until("both notice", |pair| {
        pair.a.state().conn < ConnState::Connected && pair.b.state().conn < ConnState::Connected
    });
}

#[test]
fn a_promotion_ends_although_the_peer_came_back_while_it_was_being_fenced() {
    let mut pair = Pair::synced();
    set_fencing(&mut pair, false, Fencing::ResourceOnly);
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    cut(&mut pair);
    pair.b.hold_helpers = true;
    pair.b.exits.insert("fence-peer", 4);
    let answers = pair.b.answers.len();
    pair.b.admin(AdminRequest::SetRole {
        volume: V,
        role: Role::Primary,
        force: false,
    });
    pair.run();
    assert_eq!(pair.b.running.len(), 1, "{:#?}", pair.b.log);
    pair.cut = false;
    pair.until("connected", |pair| {
        pair.b.state().conn >= ConnState::Connected
    });
    pair.b.end_helper();
    pair.until("an answer", |pair| pair.b.answers.len() > answers);
    assert_eq!(pair.b.answers.last().unwrap().1, 1);
    assert!(said(&pair.b.log, "Ignoring fence-peer exit code"));
    assert_eq!(
        shape(&mut pair.b),
        "cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate r-----"
    );
}

#[test]
fn a_fence_result_from_before_a_reconnect_is_ignored_and_the_peer_fenced_again() {
    let mut pair = Pair::synced();
    set_fencing(&mut pair, true, Fencing::ResourceAndStonith);
    pair.a.hold_helpers = true;
    pair.a.exits.insert("fence-peer", 7);
    cut(&mut pair);
    assert_eq!(pair.a.running.len(), 1);
    pair.cut = false;
    pair.until("connected", |pair| {
        pair.a.state().conn >= ConnState::Connected
    });
    cut(&mut pair);
    assert_eq!(pair.a.running.len(), 2, "fenced again");
    assert!(pair.a.state().suspended());
    pair.a.end_helper();
    pair.run();
    assert_eq!(pair.a.state().pdsk, DiskState::DUnknown);
    assert!(pair.a.state().suspended());
    assert!(said(&pair.a.log, "Ignoring fence-peer exit code"));
    pair.a.end_helper();
    pair.run();
    assert_eq!(pair.a.state().pdsk, DiskState::Outdated);
    assert!(!pair.a.state().suspended());
}

/// `b` lacks a write, and its helper is asked whether the resync may begin.
fn with_a_target_whose_helper_runs() -> Pair {
    let mut pair = Pair::synced();
    cut(&mut pair);
    pair.a.write(800, 4096, 0x91);
    pair.run();
    pair.b.hold_helpers = true;
    pair.cut = false;
    pair.until("the helper runs", |pair| !pair.b.running.is_empty());
    pair
}

#[test]
fn a_resync_does_not_begin_with_the_consent_given_to_an_earlier_one() {
    let mut pair = with_a_target_whose_helper_runs();
    cut(&mut pair);
    pair.cut = false;
    pair.until("the helper runs again", |pair| pair.b.running.len() == 2);
    pair.b.end_helper();
    pair.run();
    assert_eq!(pair.b.state().conn, ConnState::WfSyncUuid);
    pair.b.end_helper();
    pair.until("synced", Pair::in_sync);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
}

/// The source has lost its disk meanwhile, and another comparison has begun.
#[test]
fn a_resync_does_not_begin_with_the_consent_given_before_the_source_had_another_disk() {
    let mut pair = with_a_target_whose_helper_runs();
    let (volume, force) = (V, true);
    assert_eq!(
        pair.command(true, AdminRequest::Detach { volume, force }),
        1
    );
    pair.run();
    assert_eq!(pair.b.state().conn, ConnState::Connected);
    pair.a.attach(DiskConfig::DEFAULT);
    while pair.b.state().conn != ConnState::WfBitMapT {
        pair.round_or_time();
    }
    pair.b.end_helper();
    assert_eq!(pair.b.state().conn, ConnState::WfBitMapT);
    pair.b.hold_helpers = false;
    pair.until("synced", Pair::in_sync);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
}

#[test]
fn the_peer_hears_of_a_failed_disk_before_the_handler_has_ended() {
    let mut pair = Pair::synced();
    let config = DiskConfig {
        on_io_error: OnIoError::CallLocalIoError,
        ..DiskConfig::DEFAULT
    };
    pair.set_disk_options(true, config);
    pair.a.hold_helpers = true;
    pair.a.fail_local = true;
    pair.a.write(80, 4096, 9);
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Failed);
    assert_eq!(pair.b.state().pdsk, DiskState::Failed);
    let request = AdminRequest::Invalidate { volume: V };
    assert_eq!(pair.command(true, request), 138, "no disk");
    pair.a.end_helper();
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Diskless);
    assert_eq!(pair.b.state().pdsk, DiskState::Diskless);
    assert_eq!(pair.a.ended, [Ok(())]);
}

/// Such a handler may well restart the node. What has been written through the peer meanwhile is
/// not undone by the disk that has failed, should it work again.
#[test]
fn a_node_that_the_handler_restarts_does_not_count_as_the_last_primary() {
    let mut pair = Pair::synced();
    let config = DiskConfig {
        on_io_error: OnIoError::CallLocalIoError,
        ..DiskConfig::DEFAULT
    };
    pair.set_disk_options(true, config);
    pair.pass(Duration::from_secs(6));
    pair.a.hold_helpers = true;
    pair.a.fail_local = true;
    pair.a.write(80, 4096, 9);
    pair.run();
    pair.pass(Duration::from_millis(100));
    assert_eq!(pair.a.ended, [Ok(())]);
    assert_eq!(pair.b.disk.data[80 * 512], 9);
    pair.a.crash(5);
    pair.b.notice_end(true);
    pair.run();
    pair.a.attach(config);
    pair.run();
    pair.a.admin(AdminRequest::Connect {
        config: NetConfig::DEFAULT,
        digests: DigestLengths::default(),
    });
    pair.until("in sync", Pair::in_sync);
    assert_eq!(pair.b.disk.data[80 * 512], 9);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
}

#[test]
fn a_resync_waits_for_the_volume_named_in_resync_after() {
    let mut pair = Pair::new();
    pair.attach();
    pair.connect(NetConfig::DEFAULT);
    let busy = |busy| Input::SyncDependency { volume: V, busy };
    pair.b.core.handle(&busy(true), pair.b.now);
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.until("paused", |pair| {
        pair.b.state().conn == ConnState::PausedSyncT
    });
    assert!(pair.b.state().keeps_dependents_waiting(), "so do its own");
    pair.b.core.handle(&busy(false), pair.b.now);
    pair.until("synced", Pair::in_sync);
    assert!(!pair.b.state().keeps_dependents_waiting());
}

/// Fences with this answer of the helper, between two secondaries of which one is promoted.
fn promoted_with(exit: u8) -> (i32, String, Vec<String>) {
    let mut pair = Pair::synced();
    set_fencing(&mut pair, false, Fencing::ResourceOnly);
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    cut(&mut pair);
    pair.b.exits.insert("fence-peer", exit);
    let code = pair.role(false, Role::Primary, false);
    (code, shape(&mut pair.b), pair.b.log)
}

#[test]
fn each_answer_of_the_fencing_helper_has_its_consequence() {
    let fenced = "cs:WFConnection ro:Primary/Unknown ds:UpToDate/Outdated r-----";
    let inconsistent = "cs:WFConnection ro:Primary/Unknown ds:UpToDate/Inconsistent r-----";
    let outdated = "cs:WFConnection ro:Secondary/Unknown ds:Outdated/DUnknown r-----";
    let unchanged = "cs:WFConnection ro:Secondary/Unknown ds:UpToDate/DUnknown r-----";
    for (exit, code, state, words) in [
        (2, -7, unchanged, "fence-peer helper broken, returned 2"),
        (3, 1, inconsistent, "3 (peer is inconsistent or worse)"),
        (4, 1, fenced, "4 (peer was fenced)"),
        (5, 1, fenced, "5 (peer is unreachable, assumed to be dead)"),
        (6, -2, outdated, "Peer is primary, outdating myself."),
        (7, 1, fenced, "fence-peer() = 7 && fencing != Stonith !!!"),
    ] {
        let (answer, found, log) = promoted_with(exit);
        assert_eq!((answer, found.as_str()), (code, state), "exit {exit}");
        assert!(said(&log, words), "{log:#?}");
    }
}

/// `reference/states.md` 33.
#[test]
fn a_helper_before_a_resync_stops_it_but_for_three_on_the_source() {
    for (on_source, exit, stops) in [
        (true, 0, false),
        (true, 3, false),
        (true, 1, true),
        (true, 4, true),
        (false, 0, false),
        (false, 3, true),
        (false, 1, true),
    ] {
        let mut pair = Pair::synced();
        let helper = if on_source {
            "before-resync-source"
        } else {
            "before-resync-target"
        };
        pair.node(on_source).exits.insert(helper, exit);
        let invalidate = AdminRequest::Invalidate { volume: V };
        pair.command(false, invalidate);
        pair.until("an end", |pair| {
            pair.in_sync() || pair.node(on_source).state().conn == ConnState::StandAlone
        });
        let stopped = pair.node(on_source).state().conn == ConnState::StandAlone;
        assert_eq!(stopped, stops, "{helper} {exit}");
        let log = &pair.node(on_source).log;
        assert_eq!(said(log, helper), exit != 0, "{log:#?}");
        assert_eq!(said(log, "dropping connection"), stops, "{log:#?}");
    }
}

fn suspend_without_data(pair: &mut Pair) {
    let config = ResourceConfig {
        on_no_data: OnNoData::SuspendIo,
    };
    let request = AdminRequest::ResourceOptions { config };
    assert_eq!(pair.command(true, request), 101);
}

/// A write of `a` fails with its disk and does not get to `b`; the disk comes back alone, and it is
/// not known whether it is good.
fn frozen_behind_a_disk_that_came_back() -> Pair {
    let mut pair = Pair::synced();
    suspend_without_data(&mut pair);
    pair.cut = true;
    pair.a.fail_local = true;
    pair.a.write(800, 4096, 9);
    pair.until("a notices", |pair| {
        pair.a.state().conn < ConnState::Connected
    });
    assert!(pair.a.state().susp_nod && pair.a.ended.is_empty());
    pair.a.fail_local = false;
    pair.a.attach(DiskConfig {
        fencing: Fencing::ResourceOnly,
        ..DiskConfig::DEFAULT
    });
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Consistent);
    pair
}

/// It is not on the disk that failed; the peer gets it when it is back, and both count as equal.
#[test]
fn a_frozen_write_goes_to_the_disk_that_is_back_also_before_the_peer_is_fenced() {
    let mut pair = frozen_behind_a_disk_that_came_back();
    pair.cut = false;
    pair.until("equal", Pair::in_sync);
    assert_eq!(pair.a.ended, [Ok(())]);
    assert_eq!(pair.a.disk.data[800 * 512], 9);
    assert!(pair.a.disk.data == pair.b.disk.data);
    assert_eq!(pair.a.core.counters(V).out_of_sync_bits, 0);
}

/// Nobody knows which disk has it, and both are of one generation.
#[test]
fn a_frozen_write_that_is_given_up_by_hand_is_synced_when_the_peer_is_back() {
    let mut pair = frozen_behind_a_disk_that_came_back();
    pair.command(true, AdminRequest::ResumeIo { volume: V });
    pair.run();
    assert!(pair.a.ended[0].is_err());
    pair.cut = false;
    pair.until("equal", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
    assert_eq!(pair.a.core.counters(V).out_of_sync_bits, 0);
}

/// The disk was detached when the link broke, and then it was in doubt.
#[test]
fn a_write_of_protocol_a_that_the_peer_never_got_is_synced_also_behind_another_attach() {
    let mut pair = Pair::synced_by(Protocol::A);
    suspend_without_data(&mut pair);
    pair.cut = true;
    pair.a.write(800, 4096, 9);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    let (volume, force) = (V, true);
    assert_eq!(
        pair.command(true, AdminRequest::Detach { volume, force }),
        1
    );
    cut_only(&mut pair);
    assert!(pair.a.state().susp_nod);
    // As `apply-al` does it.
    let page = pair.a.disk.bitmap.entry(0);
    page.or_insert_with(|| vec![0; 4096])[100 / 8] |= 1 << (100 % 8);
    pair.a.attach(DiskConfig {
        fencing: Fencing::ResourceOnly,
        ..DiskConfig::DEFAULT
    });
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Consistent);
    pair.cut = false;
    pair.until("equal", Pair::in_sync);
    assert_eq!(pair.b.disk.data[800 * 512], 9);
    assert_eq!(pair.a.core.counters(V).out_of_sync_bits, 0);
}

/// Neither disk counted as good when the link broke: nobody could begin a generation for it.
#[test]
fn a_write_that_the_peer_may_lack_is_synced_also_if_the_disk_was_in_doubt() {
    let mut pair = Pair::synced_by(Protocol::A);
    suspend_without_data(&mut pair);
    pair.b.hold_peer_io = true;
    pair.a.write(800, 4096, 9);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    let (volume, force) = (V, true);
    pair.a.hold_bitmap = true;
    pair.b.admin(AdminRequest::Invalidate { volume });
    pair.run();
    assert_eq!(pair.a.state().conn, ConnState::StartingSyncS);
    pair.a.admin(AdminRequest::Detach { volume, force });
    pair.a.release_bitmap();
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Diskless);
    pair.b.sends_left = Some(0);
    pair.a.attach(DiskConfig {
        fencing: Fencing::ResourceOnly,
        ..DiskConfig::DEFAULT
    });
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Negotiating);
    let role = Role::Secondary;
    assert_eq!(pair.role(true, role, false), 1);
    assert_eq!(pair.command(true, AdminRequest::ResumeIo { volume }), 1);
    pair.b.fail_peer_io = true;
    pair.break_now();
    let force = false;
    pair.b.admin(AdminRequest::Disconnect { force });
    pair.b.hold_peer_io = false;
    pair.b.sends_left = None;
    pair.run();
    pair.b.fail_peer_io = false;
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    connect_b(&mut pair, Protocol::A);
    pair.until("equal", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
    assert_eq!(pair.a.core.counters(V).out_of_sync_bits, 0);
}

/// The peer was not fenced, and the generation that is due had been put off.
#[test]
fn a_frozen_primary_that_steps_down_leaves_its_generation() {
    let mut pair = Pair::synced_by(Protocol::B);
    set_fencing(&mut pair, true, Fencing::ResourceAndStonith);
    pair.b.hold_peer_io = true;
    pair.a.write(800, 4096, 9);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    cut_only(&mut pair);
    assert!(pair.a.state().susp_fen);
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    // What it had not written yet is gone with its power.
    pair.b.crash(98);
    pair.b.disk.data[800 * 512..808 * 512].fill(0x11);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    pair.cut = false;
    connect_b(&mut pair, Protocol::B);
    pair.until("equal", Pair::in_sync);
    assert_eq!(pair.b.disk.data[800 * 512], 9);
    assert_eq!(pair.a.core.counters(V).out_of_sync_bits, 0);
}

/// It was put off when the link broke, and the peer has begun one of its own for the writes since.
#[test]
fn a_generation_that_was_put_off_is_not_begun_when_the_peer_has_come_back() {
    let mut pair = Pair::synced();
    suspend_without_data(&mut pair);
    let (volume, force) = (V, true);
    assert_eq!(pair.command(true, AdminRequest::SuspendIo { volume }), 1);
    cut_only(&mut pair);
    assert_eq!(
        pair.command(true, AdminRequest::Detach { volume, force }),
        1
    );
    pair.run();
    assert!(pair.a.state().susp_nod);
    pair.cut = false;
    pair.until("served", |pair| pair.a.state().pdsk == DiskState::UpToDate);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.command(true, AdminRequest::ResumeIo { volume }), 1);
    pair.until("equal", Pair::in_sync);
}

/// Both are Primary in turn, and neither has written without the other one's data.
fn other_one_is_promoted_alone(pair: &mut Pair) {
    pair.a.write(80, 4096, 7);
    pair.run();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    cut(pair);
    pair.b.exits.insert("fence-peer", 4);
    assert_eq!(pair.role(false, Role::Primary, false), 1);
    pair.b.write(160, 4096, 8);
    pair.run();
    pair.cut = false;
    pair.until("in sync", Pair::in_sync);
    assert!(!said(&pair.a.log, "Split-Brain"));
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// `a` is Outdated and promoted by force as the link comes.
#[test]
fn a_promotion_by_force_that_waits_for_the_handshake_begins_no_generation() {
    let mut pair = Pair::synced();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    cut(&mut pair);
    let outdate = AdminRequest::Outdate { volume: V };
    assert_eq!(pair.command(true, outdate), 1);
    pair.cut = false;
    pair.rounds_until("handshake", |pair| {
        pair.a.state().conn == ConnState::WfReportParams
    });
    let mut held: Vec<u8> = pair.a.data_in.drain(..).collect();
    let answers = pair.a.answers.len();
    let (volume, role, force) = (V, Role::Primary, true);
    pair.a.admin(AdminRequest::SetRole {
        volume,
        role,
        force,
    });
    for _ in 0..20 {
        pair.round();
        held.extend(pair.a.data_in.drain(..));
    }
    assert_eq!(pair.a.answers.len(), answers);
    pair.a.data_in.extend(held);
    pair.until("an answer", |pair| pair.a.answers.len() > answers);
    assert_eq!(pair.a.answers[answers].1, 1);
    other_one_is_promoted_alone(&mut pair);
}

/// `a` is Consistent and promoted by force; the peer comes back while it is being fenced.
#[test]
fn a_promotion_by_force_begins_no_generation_beside_a_peer_that_came_back() {
    let mut pair = Pair::synced();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    cut(&mut pair);
    let (volume, role, force) = (V, Role::Primary, true);
    let detach = AdminRequest::Detach {
        volume,
        force: false,
    };
    assert_eq!(pair.command(true, detach), 1);
    pair.a.attach(DiskConfig {
        fencing: Fencing::ResourceOnly,
        ..DiskConfig::DEFAULT
    });
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Consistent);
    let answers = pair.a.answers.len();
    pair.a.hold_helpers = true;
    pair.a.exits.insert("fence-peer", 5);
    pair.a.admin(AdminRequest::SetRole {
        volume,
        role,
        force,
    });
    pair.run();
    assert_eq!(pair.a.running.len(), 1, "{:#?}", pair.a.log);
    pair.cut = false;
    pair.until("in sync", Pair::in_sync);
    pair.a.end_helper();
    pair.until("an answer", |pair| pair.a.answers.len() > answers);
    assert_eq!(pair.a.answers[answers].1, 1);
    pair.a.hold_helpers = false;
    other_one_is_promoted_alone(&mut pair);
}

/// Nobody has noticed yet that the Primary is gone: the question is put again when a ping was not
/// answered. Then its node has to be fenced.
#[test]
fn a_promotion_in_the_moment_in_which_the_primary_is_lost_fences_it() {
    for (exit, answer) in [(4, 1), (1, -7)] {
        let mut pair = Pair::synced();
        set_fencing(&mut pair, false, Fencing::ResourceOnly);
        pair.b.exits.insert("fence-peer", exit);
        pair.cut = true;
        assert_eq!(pair.b.state().conn, ConnState::Connected);
        assert_eq!(pair.role(false, Role::Primary, false), answer);
        assert!(pair.b.helpers.contains(&"fence-peer"));
    }
}

/// There is nothing to sync, after which it would be unfenced: nobody could promote it any more.
#[test]
fn a_peer_that_was_being_fenced_when_it_came_back_is_unfenced() {
    for ends_first in [false, true] {
        let mut pair = Pair::synced();
        set_fencing(&mut pair, true, Fencing::ResourceAndStonith);
        pair.a.hold_helpers = true;
        pair.a.exits.insert("fence-peer", 1);
        cut(&mut pair);
        if ends_first {
            pair.a.end_helper();
        }
        pair.cut = false;
        pair.until("in sync", Pair::in_sync);
        assert!(!pair.a.state().suspended());
        if !ends_first {
            assert!(!pair.a.helpers.contains(&"unfence-peer"));
            pair.a.exits.insert("fence-peer", 4);
            pair.a.end_helper();
        }
        pair.run();
        assert_eq!(pair.a.helpers.last(), Some(&"unfence-peer"));
        pair.pass(Duration::from_secs(2));
        let helpers = pair.a.helpers.iter();
        assert_eq!(helpers.filter(|name| **name == "unfence-peer").count(), 1);
    }
}
