//! What was configured for the day on which something is wrong: split brain, roles that do not fit,
//! no data within reach, a link that is too slow; and trials.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::{DiskConfig, NetConfig, ResourceConfig};
use drbd_core::input::{AdminRequest, DigestLengths, Input};
use drbd_core::time::Duration;
use drbd_format::types::{
    AfterSbPolicy, ConnState, DiskState, OnCongestion, OnNoData, Protocol, Role, RrConflict,
};
use pair::both::{said, Pair, SECTORS};
use pair::node::{Disk, V};

const DISCONNECT: AdminRequest = AdminRequest::Disconnect { force: false };

fn connect(config: NetConfig) -> AdminRequest {
    let digests = DigestLengths::default();
    AdminRequest::Connect { config, digests }
}

/// In sync, then apart, both Secondary.
fn apart() -> Pair {
    let mut pair = Pair::synced();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    assert_eq!(pair.command(true, DISCONNECT), 101);
    assert_eq!(pair.command(false, DISCONNECT), 101);
    pair
}

/// Both have written alone, the second more. They are Primary afterwards as told.
fn diverged(primary: [bool; 2]) -> Pair {
    let mut pair = apart();
    for (on_a, len) in [(true, 4096), (false, 65_536)] {
        assert_eq!(pair.role(on_a, Role::Primary, false), 1);
        pair.node(on_a)
            .write(80, len, if on_a { 0xaa } else { 0xbb });
        pair.run();
        if !primary[usize::from(!on_a)] {
            assert_eq!(pair.role(on_a, Role::Secondary, false), 1);
        }
    }
    pair
}

fn meet(pair: &mut Pair, a: NetConfig, b: NetConfig) {
    assert_eq!(pair.command(true, connect(a)), 1);
    assert_eq!(pair.command(false, connect(b)), 1);
    pair.run();
}

/// The bitmap is that of another resync since: it does not name what was written before. That was
/// left on the disk that gives its data up.
#[test]
fn a_node_that_discards_its_data_gets_all_if_no_bitmap_is_of_use() {
    let mut pair = diverged([true, false]);
    pair.a.write(800, 4096, 0xaa);
    pair.run();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    let old = std::mem::replace(&mut pair.b.disk, Disk::new(SECTORS, 0));
    pair.b.crash(5);
    pair.run();
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    pair.connect(NetConfig::DEFAULT);
    pair.until("another peer is in sync", Pair::in_sync);
    assert_eq!(pair.command(true, DISCONNECT), 101);
    pair.pass(Duration::from_secs(1));
    pair.b.disk = old;
    pair.b.crash(6);
    pair.run();
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    pair.a.log.clear();
    let discards = NetConfig {
        discard_my_data: true,
        ..NetConfig::DEFAULT
    };
    meet(&mut pair, NetConfig::DEFAULT, discards);
    pair.until("in sync", Pair::in_sync);
    assert!(said(&pair.a.log, "uuid_compare()=-100 by rule 100"));
    assert!(said(&pair.a.log, "manually solved. Sync from this node"));
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// The second node has more changes.
fn least_changes(after_sb_1p: AfterSbPolicy, rr_conflict: RrConflict) -> NetConfig {
    NetConfig {
        after_sb_0p: AfterSbPolicy::DiscardLeastChanges,
        after_sb_1p,
        after_sb_2p: after_sb_1p,
        rr_conflict,
        ..NetConfig::DEFAULT
    }
}

#[test]
fn a_primary_becomes_target_only_if_that_was_configured() {
    for policy in [
        RrConflict::Disconnect,
        RrConflict::CallPriLost,
        RrConflict::Violently,
    ] {
        let mut pair = diverged([true, false]);
        let config = least_changes(AfterSbPolicy::ViolentlyAs0p, policy);
        meet(&mut pair, config, config);
        if policy == RrConflict::Violently {
            pair.until("synced", Pair::in_sync);
            assert!(
                said(&pair.a.log, "violating the stable-data"),
                "{:#?}",
                pair.a.log
            );
            assert_eq!(pair.a.state().role, Role::Primary);
            assert_eq!(pair.a.disk.data[80 * 512], 0xbb);
            continue;
        }
        assert!(said(
            &pair.a.log,
            "I shall become SyncTarget, but I am primary!"
        ));
        assert_eq!(pair.a.state().conn, ConnState::StandAlone);
        assert_eq!(pair.a.disk.data[80 * 512], 0xaa);
        let called = pair.a.helpers.contains(&"pri-lost");
        assert_eq!(called, policy == RrConflict::CallPriLost);
    }
}

/// Its state is on the way already: it can not change it, and the helper has to see to it.
#[test]
fn a_primary_that_loses_a_split_brain_calls_for_help_and_keeps_its_data() {
    let mut pair = diverged([true, false]);
    let config = least_changes(AfterSbPolicy::CallPriLostAfterSb, RrConflict::Disconnect);
    meet(&mut pair, config, config);
    assert!(
        pair.a.helpers.contains(&"pri-lost-after-sb"),
        "{:#?}",
        pair.a.log
    );
    assert_eq!(pair.a.state().role, Role::Primary);
    assert_eq!(pair.a.state().conn, ConnState::StandAlone);
    assert_eq!(pair.a.disk.data[80 * 512], 0xaa);
}

#[test]
fn a_split_brain_policy_in_the_wrong_place_solves_nothing() {
    let mut pair = diverged([false, false]);
    let config = NetConfig {
        after_sb_0p: AfterSbPolicy::Consensus,
        ..NetConfig::DEFAULT
    };
    meet(&mut pair, config, config);
    assert!(
        said(&pair.a.log, "Configuration error."),
        "{:#?}",
        pair.a.log
    );
    assert!(said(&pair.a.log, "Split-Brain detected but unresolved"));
    assert_eq!(pair.a.disk.data[80 * 512], 0xaa);
    assert_eq!(pair.b.disk.data[80 * 512], 0xbb);
}

#[test]
fn two_primaries_in_split_brain_ask_the_policy_for_two() {
    let mut pair = diverged([true, true]);
    let config = NetConfig {
        two_primaries: true,
        ..least_changes(AfterSbPolicy::ViolentlyAs0p, RrConflict::Violently)
    };
    meet(&mut pair, config, config);
    pair.until("healed", Pair::in_sync);
    assert!(
        said(&pair.a.log, "Split-Brain detected, 2 primaries"),
        "{:#?}",
        pair.a.log
    );
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
    assert_eq!(pair.a.disk.data[80 * 512], 0xbb);
}

#[test]
fn a_trial_tells_what_a_connect_would_do_and_does_not_do_it() {
    let trial = NetConfig {
        tentative: true,
        ..NetConfig::DEFAULT
    };
    let mut pair = apart();
    meet(&mut pair, trial, NetConfig::DEFAULT);
    let line = "dry-run connect: No resync, would become Connected immediately.";
    assert!(said(&pair.a.log, line), "{:#?}", pair.a.log);
    assert_eq!(pair.a.state().conn, ConnState::StandAlone);

    for (writer, other) in [
        (true, NetConfig::DEFAULT),
        (false, NetConfig::DEFAULT),
        (true, trial),
        (false, trial),
    ] {
        let mut pair = apart();
        assert_eq!(pair.role(writer, Role::Primary, false), 1);
        pair.node(writer).write(80, 4096, 0xcc);
        pair.run();
        meet(&mut pair, trial, other);
        let becomes = if writer { "SyncSource" } else { "SyncTarget" };
        let line = format!("dry-run connect: Would become {becomes}, doing a bit-map based");
        assert!(said(&pair.a.log, &line), "{:#?}", pair.a.log);
        assert_eq!(pair.a.state().conn, ConnState::StandAlone);
        assert_ne!(pair.a.disk.data, pair.b.disk.data);
    }
}

fn suspend_without_data(pair: &mut Pair) {
    let config = ResourceConfig {
        on_no_data: OnNoData::SuspendIo,
    };
    let request = AdminRequest::ResourceOptions { config };
    assert_eq!(pair.command(true, request), 101);
}

#[test]
fn io_frozen_for_lack_of_data_goes_on_when_the_peer_is_back() {
    let mut pair = Pair::synced();
    suspend_without_data(&mut pair);
    let detach = AdminRequest::Detach {
        volume: V,
        force: false,
    };
    assert_eq!(pair.command(true, detach), 1);
    pair.until("diskless", |pair| {
        pair.a.state().disk == DiskState::Diskless
    });
    pair.cut = true;
    pair.a.write(80, 4096, 9);
    pair.until("a notices", |pair| {
        pair.a.state().conn < ConnState::Connected
    });
    assert!(pair.a.state().susp_nod, "{:#?}", pair.a.log);
    assert!(pair.a.ended.is_empty());
    pair.cut = false;
    pair.until("it goes on", |pair| !pair.a.state().suspended());
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    assert_eq!(pair.b.disk.data[80 * 512], 9);
}

/// It was on the disk before that was detached, and nobody can tell whether it still is.
#[test]
fn a_write_that_froze_behind_its_disk_goes_to_the_next_one() {
    let mut pair = Pair::synced();
    suspend_without_data(&mut pair);
    pair.cut = true;
    pair.a.write(80, 4096, 9);
    pair.run();
    let (volume, force) = (V, true);
    assert_eq!(
        pair.command(true, AdminRequest::Detach { volume, force }),
        1
    );
    pair.until("a notices", |pair| {
        pair.a.state().conn < ConnState::Connected
    });
    assert!(pair.a.state().susp_nod && pair.a.ended.is_empty());
    pair.a.disk.data[80 * 512..88 * 512].fill(0x11);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("it goes on", |pair| !pair.a.ended.is_empty());
    assert_eq!(pair.a.ended, [Ok(())]);
    assert_eq!(pair.a.disk.data[80 * 512], 9);
    pair.cut = false;
    pair.until("synced", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

#[test]
fn io_frozen_for_lack_of_data_goes_on_when_the_disk_is_back() {
    let mut pair = Pair::synced();
    suspend_without_data(&mut pair);
    pair.cut = true;
    pair.until("a notices", |pair| {
        pair.a.state().conn < ConnState::Connected
    });
    let detach = AdminRequest::Detach {
        volume: V,
        force: true,
    };
    assert_eq!(pair.command(true, detach), 1);
    pair.until("frozen", |pair| pair.a.state().susp_nod);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("it goes on", |pair| !pair.a.state().suspended());
    pair.a.write(80, 4096, 9);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    pair.cut = false;
    pair.until("synced", Pair::in_sync);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
}

#[test]
fn a_diskless_peer_that_becomes_primary_begins_a_generation_here() {
    let mut pair = Pair::synced();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    let detach = AdminRequest::Detach {
        volume: V,
        force: false,
    };
    assert_eq!(pair.command(true, detach), 1);
    pair.until("diskless", |pair| {
        pair.b.state().pdsk == DiskState::Diskless
    });
    let begun = |pair: &Pair| {
        let log = pair.b.log.iter();
        log.filter(|line| line.contains("new current UUID")).count()
    };
    let before = begun(&pair);
    assert_eq!(pair.role(true, Role::Primary, false), 1);
    pair.run();
    assert_eq!(begun(&pair), before + 1, "{:#?}", pair.b.log);
    pair.a.write(80, 4096, 9);
    pair.run();
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("synced", Pair::in_sync);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
}

fn slow_link(policy: OnCongestion) -> Pair {
    slow_link_of(101, policy)
}

fn slow_link_of(version: u32, policy: OnCongestion) -> Pair {
    let config = NetConfig {
        protocol: Protocol::A,
        on_congestion: policy,
        congestion_fill: 8,
        ..NetConfig::DEFAULT
    };
    let mut pair = Pair::new();
    pair.version = version;
    pair.attach();
    pair.connect(config);
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.until("first sync", Pair::in_sync);
    for number in 0..4 {
        pair.a.write(number * 64, 32_768, 0x40 + number as u8);
        // It goes out, and no answer comes in.
        pair.a.step();
    }
    pair
}

#[test]
fn a_primary_runs_ahead_of_a_slow_link_and_syncs_afterwards() {
    let mut pair = slow_link(OnCongestion::PullAhead);
    pair.until("synced", Pair::in_sync);
    assert!(
        said(&pair.a.log, "Congestion-fill threshold reached"),
        "{:#?}",
        pair.a.log
    );
    assert_eq!(pair.a.ended, [Ok(()); 4]);
    pair.until("equal", |pair| pair.a.disk.data == pair.b.disk.data);
}

/// `reference/io.md` 8.4.
#[test]
fn only_a_version_that_knows_it_runs_ahead() {
    for (version, ahead) in [(96, true), (95, false)] {
        let mut pair = slow_link_of(version, OnCongestion::PullAhead);
        pair.until("all written", |pair| pair.a.ended.len() == 4);
        pair.until("in sync", Pair::in_sync);
        let ran = said(&pair.a.log, "Congestion-fill threshold reached");
        assert_eq!(ran, ahead, "{version}");
    }
}

#[test]
fn a_slow_link_is_given_up_if_that_was_configured() {
    let mut pair = slow_link(OnCongestion::Disconnect);
    pair.until("alone", |pair| pair.a.state().conn == ConnState::StandAlone);
    assert_eq!(pair.a.ended, [Ok(()); 4]);
    assert_eq!(pair.a.disk.data[0], 0x40);
}

#[test]
fn a_slow_link_slows_the_primary_down_by_default() {
    let mut pair = slow_link(OnCongestion::Block);
    pair.run();
    assert!(pair.in_sync());
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
}

#[test]
fn an_address_that_can_not_be_used_ends_the_attempt_to_connect() {
    let mut pair = Pair::new();
    pair.attach();
    pair.cut = true;
    pair.connect(NetConfig::DEFAULT);
    let now = pair.a.now;
    pair.a.core.handle(&Input::ConnectFailed, now);
    pair.run();
    assert_eq!(
        pair.a.state().conn,
        ConnState::StandAlone,
        "{:#?}",
        pair.a.log
    );
}

/// Behind it nobody knows where the next packet begins.
#[test]
fn a_damaged_header_ends_the_connection_and_both_meet_again() {
    for on_meta in [false, true] {
        let mut pair = Pair::synced();
        let stream = if on_meta {
            &mut pair.a.meta_in
        } else {
            &mut pair.a.data_in
        };
        stream.extend([0xff; 16]);
        pair.run();
        assert!(
            said(&pair.a.log, "giving up the connection"),
            "{:#?}",
            pair.a.log
        );
        pair.until("together again", Pair::in_sync);
    }
}
