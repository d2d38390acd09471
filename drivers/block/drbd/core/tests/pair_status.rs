//! What tools and operators are told, and who may open a device.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::{DiskConfig, NetConfig};
use drbd_core::input::{AdminRequest, DigestLengths};
use drbd_core::query::{Held, LinkOptions, OpenError};
use drbd_core::report::ResourceStatus;
use drbd_core::time::Duration;
use drbd_format::options::{DiskConf, NetConf};
use drbd_format::types::{ConnState, DiskState, Fencing, Protocol, Role};
use pair::both::{said, Pair, SECTORS};
use pair::node::{Node, V};

fn proc(node: &mut Node, details: i32) -> String {
    let mut text = String::new();
    let now = node.now;
    node.core
        .proc_volume(V, 3, details, now, &mut text)
        .unwrap();
    text
}

#[test]
fn only_a_primary_is_opened_and_it_stays_one_while_it_is_open() {
    let mut pair = Pair::synced();
    let now = pair.a.now;
    assert_eq!(
        pair.b.core.open(V, true, true, now),
        Err(OpenError::ReadOnly)
    );
    assert_eq!(
        pair.b.core.open(V, false, false, now),
        Err(OpenError::MediumType)
    );
    assert_eq!(pair.b.core.open(V, false, true, now), Ok(()));
    pair.b.core.close(V, now);
    assert_eq!(pair.a.core.open(V, true, false, now), Ok(()));
    assert_eq!(pair.role(true, Role::Secondary, false), -12);
    pair.a.core.close(V, now);
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
}

#[test]
fn the_status_of_a_resource_is_that_of_its_best_volume() {
    let mut pair = Pair::new();
    let fresh = ResourceStatus {
        role: 2,
        write_ordering: 2,
        ..ResourceStatus::default()
    };
    assert_eq!(pair.a.core.status(), fresh);
    pair.attach();
    pair.connect(NetConfig::DEFAULT);
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.until("first sync", Pair::in_sync);
    let told = pair.a.core.status();
    assert_eq!((told.role, told.peer_role, told.connection), (1, 2, 9));
    let told = pair.b.core.status();
    assert_eq!((told.role, told.peer_role, told.connection), (2, 1, 9));
    assert_eq!(pair.command(true, AdminRequest::SuspendIo { volume: V }), 1);
    assert!(pair.a.core.status().susp);
    assert!(pair.a.core.volume_status(V).blocked);
}

#[test]
fn the_status_of_a_volume_has_metadata_once_there_is_a_disk() {
    let mut pair = Pair::new();
    assert!(pair.a.core.is_disk_gone(V));
    let told = pair.a.core.volume_status(V);
    assert_eq!(told.disk(), DiskState::Diskless);
    assert!(told.metadata.is_none());
    pair.attach();
    assert!(!pair.a.core.is_disk_gone(V));
    pair.connect(NetConfig::DEFAULT);
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.until("first sync", Pair::in_sync);
    let told = pair.a.core.volume_status(V);
    assert_eq!(told.disk(), DiskState::UpToDate);
    assert_eq!(told.capacity_sectors, SECTORS);
    assert_eq!(told.bits_total, SECTORS.div_ceil(8));
    assert_eq!((told.resync_total, told.timeout_type), (0, 0));
    assert!(!told.blocked);
    let [current, ..] = told.metadata.unwrap().uuids;
    assert_eq!(current & !1, told.exposed_uuid & !1);
}

/// 2: the wait for a peer that is known to be outdated may be shorter.
#[test]
fn the_wait_for_an_outdated_peer_is_one_of_its_own() {
    let mut pair = Pair::synced();
    let config = DiskConfig {
        fencing: Fencing::ResourceOnly,
        ..DiskConfig::DEFAULT
    };
    pair.set_disk_options(true, config);
    assert_eq!(pair.a.core.volume_status(V).timeout_type, 0);
    pair.a.exits.insert("fence-peer", 4);
    pair.cut = true;
    pair.until("fenced", |pair| pair.a.state().pdsk == DiskState::Outdated);
    assert_eq!(pair.a.core.volume_status(V).timeout_type, 2);
}

#[test]
fn proc_has_the_state_and_the_progress_of_a_resync_and_of_a_verify() {
    let mut pair = Pair::new();
    assert_eq!(proc(&mut pair.a, 0), " 3: cs:Unconfigured\n");
    pair.attach();
    pair.connect(NetConfig::DEFAULT);
    pair.a.admin(AdminRequest::SetRole {
        volume: V,
        role: Role::Primary,
        force: true,
    });
    while pair.b.state().conn != ConnState::SyncTarget {
        pair.round_or_time();
    }
    for (text, side) in [
        (proc(&mut pair.a, 0), "cs:SyncSource ro:Primary/Secondary"),
        (proc(&mut pair.b, 1), "cs:SyncTarget ro:Secondary/Primary"),
    ] {
        assert!(text.contains(side), "{text}");
        assert!(
            text.contains("sync'ed:") && text.contains(" K/sec"),
            "{text}"
        );
    }
    assert!(proc(&mut pair.b, 1).contains("sector pos:"));
    assert!(proc(&mut pair.b, 0).contains(" want: "));
    pair.until("first sync", Pair::in_sync);
    let text = proc(&mut pair.a, 1);
    let state = " 3: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----\n";
    assert!(
        text.starts_with(state) && text.ends_with("oos:0\n"),
        "{text}"
    );

    let mut pair = Pair::synced_with_verify();
    pair.a.admin(AdminRequest::Verify {
        volume: V,
        start: None,
        stop: u64::MAX,
    });
    while pair.a.state().conn != ConnState::VerifyS {
        pair.round_or_time();
    }
    let text = proc(&mut pair.a, 1);
    assert!(
        text.contains("cs:VerifyS") && text.contains("verified:"),
        "{text}"
    );
}

#[test]
fn the_link_is_set_up_as_configured() {
    let mut pair = Pair::new();
    let wanted = LinkOptions {
        connect_int_ms: 10_000,
        ping_timeout_ms: 500,
        check_timeout_ms: 500,
        timeout_ms: 6000,
        sndbuf_bytes: 0,
        rcvbuf_bytes: 0,
    };
    assert_eq!(pair.a.core.link_options(), wanted);
    pair.cut = true;
    pair.connect(NetConfig {
        connect_int_secs: 3,
        sock_check_timeout_tenths: 7,
        sndbuf_bytes: 4096,
        ..NetConfig::DEFAULT
    });
    let wanted = LinkOptions {
        connect_int_ms: 3000,
        check_timeout_ms: 700,
        sndbuf_bytes: 4096,
        ..wanted
    };
    assert_eq!(pair.a.core.link_options(), wanted);
    pair.pass(Duration::from_millis(1));
    assert!(pair.a.core.disk_timeout_ms(V).is_none());
}

#[test]
fn what_is_held_is_told_to_those_who_look_for_leaks() {
    let mut pair = Pair::new();
    assert_eq!(pair.a.core.held(V), Held::default());
    pair.attach();
    let held = pair.a.core.held(V);
    assert!(held.disk && held.attached && held.in_use);
    pair.connect(NetConfig::DEFAULT);
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.until("first sync", Pair::in_sync);
    pair.a.hold_local = true;
    pair.b.hold_peer_io = true;
    pair.a.write(80, 4096, 1);
    pair.run();
    assert_eq!(pair.a.core.held(V).requests, 1);
    assert_eq!(pair.b.core.held(V).peer_requests, 1);
}

#[test]
fn options_of_a_disk_may_be_changed_as_soon_as_it_is_there() {
    let mut pair = Pair::new();
    let config = DiskConfig {
        disk_timeout_tenths: 70,
        ..DiskConfig::DEFAULT
    };
    let request = AdminRequest::DiskOptions { volume: V, config };
    assert_eq!(pair.command(true, request), 138);
    pair.attach();
    assert_eq!(pair.a.state().disk, DiskState::Inconsistent);
    assert_eq!(pair.command(true, request), 101);
}

/// It was 0 K/sec.
#[test]
fn the_end_of_a_verify_says_how_fast_it_was() {
    for (start, kib) in [(0, SECTORS / 2), (4096, (SECTORS - 4096) / 2)] {
        let mut pair = Pair::synced_with_verify();
        let request = AdminRequest::Verify {
            volume: V,
            start: Some(start),
            stop: u64::MAX,
        };
        assert_eq!(pair.command(true, request), 1);
        pair.until("verified", Pair::in_sync);
        let line = format!("Online verify done (total 0 sec; paused 0 sec; {kib} K/sec)");
        for node in [&pair.a, &pair.b] {
            assert!(said(&node.log, &line), "{line} {:#?}", node.log);
        }
    }
}

/// `show` tells them, and the next command begins with them.
#[test]
fn options_that_the_peer_has_told_or_a_handshake_has_used_up_are_those_in_force() {
    let mut pair = Pair::synced();
    let config = DiskConfig {
        resync_rate_kib: 777,
        disk_timeout_tenths: 70,
        ..DiskConfig::DEFAULT
    };
    pair.set_disk_options(true, config);
    let protocol = Protocol::B;
    let net = NetConfig {
        protocol,
        ..*pair.a.core.net_config().unwrap()
    };
    let request = AdminRequest::NetOptions {
        config: net,
        digests: DigestLengths::default(),
    };
    assert_eq!(pair.command(true, request), 101);
    pair.run();
    let mut disk = DiskConf::default();
    pair.b.core.disk_config(V).unwrap().tell(&mut disk);
    assert_eq!(
        (disk.resync_rate, disk.disk_timeout),
        (777, 0),
        "of both; its own"
    );
    let mut given = NetConf {
        discard_my_data: true,
        timeout: 55,
        ..NetConf::default()
    };
    pair.b.core.net_config().unwrap().tell(&mut given);
    assert_eq!(given.wire_protocol, protocol);
    assert!(!given.discard_my_data, "of no more use");
    assert_eq!(given.timeout, 55, "as it was given");
}
