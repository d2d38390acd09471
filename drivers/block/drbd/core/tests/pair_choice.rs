//! Which node's data are kept when disks, generations and commands do not fit together.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::{DiskConfig, NetConfig};
use drbd_core::input::{AdminRequest, DigestLengths};
use drbd_core::link::VolumeIndex;
use drbd_core::request::Op;
use drbd_core::time::Duration;
use drbd_format::types::{AfterSbPolicy, ConnState, DiskState, Fencing, Role};
use pair::both::{said, Pair, SECTORS};
use pair::node::V;

const DISCONNECT: AdminRequest = AdminRequest::Disconnect { force: false };
const SKIP: AdminRequest = AdminRequest::NewCurrentUuid {
    volume: V,
    clear_bitmap: true,
};

fn connect(config: NetConfig) -> AdminRequest {
    let digests = DigestLengths::default();
    AdminRequest::Connect { config, digests }
}

/// The peer's disk can not be told that it is equal: there is none.
#[test]
fn the_initial_sync_is_not_skipped_without_the_peers_disk() {
    let mut pair = Pair::new();
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    pair.connect(NetConfig::DEFAULT);
    let code = pair.command(true, SKIP);
    assert_eq!(
        pair.a.state().pdsk,
        DiskState::Diskless,
        "{code} {:#?}",
        pair.a.log
    );
    assert_eq!(code, 151);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.command(true, SKIP), 101);
    pair.until("no sync needed", Pair::in_sync);
}

/// The node has been written to since it told the peer how many blocks it has changed, and gives
/// none of them up.
#[test]
fn changes_count_up_to_the_attach_of_the_other_disk() {
    let mut pair = Pair::synced();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    assert_eq!(pair.command(true, DISCONNECT), 101);
    assert_eq!(pair.command(false, DISCONNECT), 101);
    assert_eq!(pair.role(true, Role::Primary, false), 1);
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    assert_eq!(pair.role(false, Role::Primary, false), 1);
    pair.b.write(80, 4096, 0xbb);
    pair.run();
    assert_eq!(pair.role(false, Role::Secondary, false), 1);
    pair.b.crash(5);
    pair.run();
    let config = NetConfig {
        after_sb_0p: AfterSbPolicy::DiscardZeroChanges,
        ..NetConfig::DEFAULT
    };
    assert_eq!(pair.command(true, connect(config)), 1);
    assert_eq!(pair.command(false, connect(config)), 1);
    pair.until("connected", |pair| {
        pair.a.state().conn == ConnState::Connected
    });
    assert_eq!(pair.role(true, Role::Primary, false), 1);
    pair.a.write(800, 65_536, 0xaa);
    pair.run();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.pass(Duration::from_secs(3));
    assert_eq!(pair.a.disk.data[800 * 512], 0xaa, "{:#?}", pair.a.log);
    assert!(said(&pair.a.log, "Split-Brain detected but unresolved"));
    assert_eq!(pair.a.state().disk, DiskState::UpToDate);
}

/// The last good data are not given up for those of a disk that has failed.
#[test]
fn good_data_are_not_invalidated_for_those_of_a_failed_disk() {
    for told in [true, false] {
        for remote in [false, true] {
            let mut pair = Pair::synced_with_pass_on();
            pair.b.fail_peer_io = true;
            pair.a.write(80, 4096, 0xaa);
            if told {
                pair.run();
                assert_eq!(pair.a.state().pdsk, DiskState::Inconsistent);
            } else {
                pair.rounds_until("failed", |pair| {
                    pair.b.state().disk == DiskState::Inconsistent
                });
            }
            pair.b.fail_peer_io = false;
            let request = if remote {
                AdminRequest::InvalidateRemote { volume: V }
            } else {
                AdminRequest::Invalidate { volume: V }
            };
            let code = pair.command(!remote, request);
            pair.pass(Duration::from_secs(5));
            assert_eq!(code, -2, "{told} {remote} {:#?}", pair.a.log);
            assert_eq!(pair.a.state().disk, DiskState::UpToDate);
            assert_eq!(pair.a.state().pdsk, DiskState::Inconsistent);
            assert_eq!(pair.b.state().disk, DiskState::Inconsistent);
            assert_eq!(pair.a.state().conn, ConnState::Connected);
            // The other way round the failed disk gets all.
            let request = AdminRequest::Invalidate { volume: V };
            assert_eq!(pair.command(false, request), 1);
            pair.until("in sync", Pair::in_sync);
            assert!(!said(&pair.b.log, "Began resync as SyncSource"));
        }
    }
}

/// The bitmap still tells what the peer lacks.
#[test]
fn a_disk_that_is_forced_to_be_good_keeps_its_bitmap() {
    let mut pair = Pair::new();
    let config = DiskConfig {
        fencing: Fencing::ResourceOnly,
        ..DiskConfig::DEFAULT
    };
    pair.a.attach(config);
    pair.b.attach(config);
    pair.run();
    pair.connect(NetConfig::DEFAULT);
    pair.a.exits.insert("fence-peer", 1);
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.until("first sync", Pair::in_sync);
    pair.cut = true;
    pair.until("noticed", |pair| pair.a.state().conn < ConnState::Connected);
    pair.a.write(80, 4096, 0xaa);
    pair.run();
    pair.a.crash(5);
    pair.run();
    pair.a.attach(config);
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Consistent);
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.a.write(160, 4096, 0xab);
    pair.run();
    assert_eq!(pair.command(false, DISCONNECT), 101);
    pair.cut = false;
    pair.connect(NetConfig::DEFAULT);
    pair.until("in sync", Pair::in_sync);
    assert!(
        !said(&pair.a.log, "full sync required"),
        "{:#?}",
        pair.a.log
    );
    assert!(said(&pair.a.log, "uuid_compare()=1 by rule 70"));
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// Each begins a generation of its own, and they agree on one of them.
#[test]
fn both_nodes_skip_the_initial_sync_at_once() {
    for ahead in [0, 1, 2, 3, 5, 8] {
        for first in [true, false] {
            let mut pair = Pair::new();
            pair.attach();
            pair.connect(NetConfig::DEFAULT);
            pair.node(first).admin(SKIP);
            for _ in 0..ahead {
                pair.node(first).step();
            }
            pair.node(!first).admin(SKIP);
            pair.run();
            pair.until("no sync needed", Pair::in_sync);
            assert_eq!(pair.role(true, Role::Primary, false), 1);
            pair.a.write(80, 4096, 0xaa);
            pair.run();
            pair.cut = true;
            pair.until("a notices", |pair| {
                pair.a.state().conn < ConnState::Connected
            });
            pair.a.write(160, 4096, 0xab);
            pair.run();
            pair.cut = false;
            pair.until("in sync again", Pair::in_sync);
            assert!(!said(&pair.a.log, "full sync required"));
            for at in [80, 160] {
                assert!(pair.b.disk.data[at * 512] == pair.a.disk.data[at * 512]);
            }
        }
    }
}

/// The UUIDs wait for the superblock, and with them the number of changes: it is not that of the
/// connection before.
#[test]
fn changes_count_that_the_peer_has_not_been_told_yet() {
    let v = VolumeIndex(1);
    let mut pair = Pair::with_volumes(2, SECTORS);
    for node in [&mut pair.a, &mut pair.b] {
        for volume in [V, v] {
            node.attach_volume(volume, DiskConfig::DEFAULT);
            while node.step() {}
        }
    }
    pair.run();
    let primary = |role, force| AdminRequest::SetRole {
        volume: v,
        role,
        force,
    };
    let leave = |pair: &mut Pair| {
        assert_eq!(pair.command(true, DISCONNECT), 101);
        assert_eq!(pair.command(false, DISCONNECT), 101);
    };
    pair.connect(NetConfig::DEFAULT);
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    assert_eq!(pair.command(true, primary(Role::Primary, true)), 1);
    pair.until("first sync", Pair::in_sync);
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    assert_eq!(pair.command(true, primary(Role::Secondary, false)), 1);
    leave(&mut pair);
    pair.connect(NetConfig::DEFAULT);
    pair.until("nothing to sync", Pair::in_sync);
    leave(&mut pair);
    for (on_a, len) in [(false, 4096), (true, 65_536)] {
        let byte = if on_a { 0xaa } else { 0xbb };
        assert_eq!(pair.command(on_a, primary(Role::Primary, false)), 1);
        assert!(pair.node(on_a).request_on(v, Op::Write, 80, len, byte));
        pair.run();
    }
    assert_eq!(pair.command(false, primary(Role::Secondary, false)), 1);
    let config = NetConfig {
        after_sb_0p: AfterSbPolicy::DiscardLeastChanges,
        ..NetConfig::DEFAULT
    };
    assert_eq!(pair.command(true, connect(config)), 1);
    pair.a.volume(v).hold_metadata = true;
    pair.a.admin(primary(Role::Secondary, false));
    pair.run();
    assert_eq!(pair.command(false, connect(config)), 1);
    pair.run();
    pair.a.release_metadata_of(v);
    pair.until("in sync", Pair::in_sync);
    assert!(
        said(&pair.a.log, "Sync from this node"),
        "{:#?}",
        pair.a.log
    );
    assert_eq!(pair.a.volume(v).disk.data[80 * 512], 0xaa);
    assert_eq!(pair.b.volume(v).disk.data[80 * 512], 0xaa);
}
