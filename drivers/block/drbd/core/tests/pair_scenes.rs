//! More scenes of two nodes as golden texts, as in `pair_told.rs`: how nodes part and meet, what
//! breaks off in the middle, and what is late.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
    pub(crate) mod scene;
}

use drbd_core::config::{DiskConfig, Name, NetConfig, ResourceConfig};
use drbd_core::input::{AdminRequest, DigestLengths};
use drbd_core::request::Op;
use drbd_core::time::Duration;
use drbd_format::types::{AfterSbPolicy, Fencing, OnNoData, Protocol, Role, Uuid, UuidSet};
use pair::both::{said, Pair};
use pair::node::{Disk, Node, V};
use pair::scene::{connect, Scene};

const DETACH: AdminRequest = AdminRequest::Detach {
    volume: V,
    force: false,
};
const DISCONNECT: AdminRequest = AdminRequest::Disconnect { force: false };
const OUTDATE: AdminRequest = AdminRequest::Outdate { volume: V };

fn verify(start: Option<u64>) -> AdminRequest {
    AdminRequest::Verify {
        volume: V,
        start,
        stop: u64::MAX,
    }
}

/// Breaks the link after some more rounds of work, during which the command is given.
fn break_in(scene: &mut Scene, rounds: u32, on_a: bool, request: AdminRequest) {
    scene.pair.breaks_in = Some(rounds);
    scene.command(on_a, request);
    scene.quiet("broken and mended");
}

fn apart(scene: &mut Scene) {
    scene.command(true, DISCONNECT);
    scene.command(false, DISCONNECT);
}

/// Both have written alone.
fn diverged() -> Scene {
    let mut scene = Scene::synced();
    apart(&mut scene);
    for (on_a, len) in [(true, 4096), (false, 65_536)] {
        scene.role(on_a, Role::Primary, false);
        scene.write(on_a, 80, len);
        scene.role(on_a, Role::Secondary, false);
    }
    scene.text.clear();
    scene
}

#[test]
fn nodes_that_share_a_secret_or_not_are_told_as_reviewed() {
    let with = |secret: &[u8]| NetConfig {
        shared_secret: Name::new(secret).unwrap(),
        cram_hmac_alg: Name::new(b"sha256").unwrap(),
        ..NetConfig::DEFAULT
    };
    let request = |config| AdminRequest::Connect {
        config,
        digests: DigestLengths {
            hmac: 32,
            ..DigestLengths::default()
        },
    };
    let mut scene = Scene::new();
    for (a, b) in [
        (with(b"one"), with(b"one")),
        (with(b"one"), with(b"other")),
        (with(b"one"), NetConfig::DEFAULT),
    ] {
        scene.command(true, request(a));
        scene.command(false, request(b));
        scene.quiet("met");
        apart(&mut scene);
    }
    scene.end("told_auth");
}

#[test]
fn two_primaries_that_write_the_same_blocks_are_told_as_reviewed() {
    for version in [99, 101] {
        let mut pair = Pair::new();
        pair.version = version;
        pair.attach();
        let config = NetConfig {
            two_primaries: true,
            ..NetConfig::DEFAULT
        };
        pair.connect(config);
        assert_eq!(pair.role(true, Role::Primary, true), 1);
        pair.until("first sync", Pair::in_sync);
        let mut scene = Scene::of(pair);
        scene.role(false, Role::Primary, false);
        scene.pair.a.write(80, 4096, 0xaa);
        scene.pair.b.write(80, 4096, 0xbb);
        scene.quiet("written at once");
        // Before version 100 the node that loses has no way to write again what is not covered.
        if version > 99 {
            scene.pair.a.write(160, 8192, 0xaa);
            scene.pair.b.write(168, 2048, 0xbb);
            scene.quiet("written at once, in part");
        }
        scene.pair.a.write(400, 4096, 0xaa);
        scene.pair.round();
        scene.pair.b.write(400, 4096, 0xbb);
        scene.quiet("written after one another");
        assert!(scene.pair.a.disk.data == scene.pair.b.disk.data);
        scene.end(&format!("told_conflicts_{version}"));
    }
}

#[test]
fn a_verify_that_breaks_off_is_told_as_reviewed() {
    let mut scene = Scene::of(Pair::synced_with_verify());
    scene.pair.breaks_in = Some(40);
    scene.command(true, verify(Some(0)));
    scene.quiet("broken and mended");
    // Where it goes on.
    let reached = "Online Verify reached sector 1352";
    assert!(said(&scene.pair.a.log, reached), "{:#?}", scene.pair.a.log);
    scene.pair.b.disk.data[4096 * 700] ^= 1;
    scene.command(true, verify(None));
    scene.quiet("verified");
    scene.end("told_verify_breaks");
}

#[test]
fn a_resync_that_breaks_off_is_told_as_reviewed() {
    let mut scene = Scene::synced();
    let give_up = AdminRequest::Invalidate { volume: V };
    for rounds in [3, 6, 9, 12] {
        break_in(&mut scene, rounds, false, give_up);
    }
    scene.end("told_resync_breaks");
}

#[test]
fn a_disk_that_fails_in_a_resync_is_told_as_reviewed() {
    for on_a in [true, false] {
        let mut scene = Scene::synced();
        scene.pair.node(on_a).fail_peer_io = true;
        scene.command(false, AdminRequest::Invalidate { volume: V });
        scene.quiet("failed");
        scene.pair.node(on_a).fail_peer_io = false;
        scene.attach(on_a, DiskConfig::DEFAULT);
        scene.quiet("attached");
        let side = if on_a { "source" } else { "target" };
        scene.end(&format!("told_{side}_fails"));
    }
}

#[test]
fn nodes_that_part_under_fencing_are_told_as_reviewed() {
    let mut scene = Scene::synced();
    let config = DiskConfig {
        fencing: Fencing::ResourceOnly,
        ..DiskConfig::DEFAULT
    };
    scene.disk(true, config);
    scene.disk(false, config);
    for (on_a, force) in [(true, false), (false, false), (true, true), (false, true)] {
        scene.command(on_a, AdminRequest::Disconnect { force });
        scene.command(!on_a, DISCONNECT);
        scene.role(false, Role::Primary, false);
        scene.connect(NetConfig::DEFAULT);
        scene.quiet("together");
    }
    scene.cut();
    scene.command(true, DISCONNECT);
    scene.end("told_leave");
}

#[test]
fn data_that_are_called_outdated_are_told_as_reviewed() {
    let mut scene = Scene::synced();
    scene.command(true, OUTDATE);
    scene.command(false, OUTDATE);
    apart(&mut scene);
    scene.command(true, OUTDATE);
    scene.command(false, OUTDATE);
    scene.command(false, OUTDATE);
    scene.role(false, Role::Primary, false);
    scene.role(false, Role::Primary, true);
    scene.command(false, OUTDATE);
    scene.role(false, Role::Secondary, false);
    scene.command(false, DETACH);
    scene.command(false, OUTDATE);
    scene.end("told_outdated");
}

#[test]
fn trials_and_changes_given_up_by_hand_are_told_as_reviewed() {
    let give_up = |discard_my_data, tentative| NetConfig {
        discard_my_data,
        tentative,
        ..NetConfig::DEFAULT
    };
    let mut scene = diverged();
    for (a, b) in [
        (give_up(false, false), give_up(false, false)),
        (give_up(true, false), give_up(true, false)),
        (give_up(true, true), give_up(false, false)),
        (give_up(false, false), give_up(true, true)),
        (give_up(false, false), give_up(true, false)),
    ] {
        scene.command(true, connect(a));
        scene.command(false, connect(b));
        scene.quiet("met");
        apart(&mut scene);
    }
    scene.command(true, connect(give_up(false, true)));
    scene.command(false, connect(give_up(false, false)));
    scene.quiet("met");
    scene.end("told_by_hand");
}

#[test]
fn generations_that_are_far_apart_are_told_as_reviewed() {
    for (name, has_history, always_asbp) in [
        ("unrelated", false, true),
        ("ambiguous", true, false),
        ("ambiguous_solved", true, true),
    ] {
        let mut scene = diverged();
        scene.command(false, DETACH);
        scene.pair.b.edit_superblock(|superblock| {
            let history = superblock
                .uuids
                .history
                .map(|uuid| if has_history { uuid } else { Uuid(0) });
            superblock.uuids = UuidSet {
                current: Uuid(0xee00),
                bitmap: Uuid(0),
                history,
            };
        });
        scene.attach(false, DiskConfig::DEFAULT);
        scene.connect(NetConfig {
            after_sb_0p: AfterSbPolicy::DiscardYoungerPrimary,
            always_asbp,
            ..NetConfig::DEFAULT
        });
        scene.quiet("met");
        scene.end(&format!("told_{name}"));
    }
}

#[test]
fn requests_that_freeze_without_data_and_go_on_are_told_as_reviewed() {
    let mut scene = Scene::synced();
    let config = ResourceConfig {
        on_no_data: OnNoData::SuspendIo,
    };
    scene.command(true, AdminRequest::ResourceOptions { config });
    scene.command(true, DETACH);
    scene.pair.b.hold_peer_io = true;
    scene.pair.a.request(Op::Read, 80, 4096, 0);
    scene.pair.a.request(Op::Write, 160, 4096, 1);
    scene.pair.run();
    scene.note("asked");
    scene.cut();
    scene.pair.b.hold_peer_io = false;
    scene.quiet("frozen");
    scene.mend();
    scene.end("told_frozen");
}

#[test]
fn a_peer_that_is_late_is_told_as_reviewed() {
    let mut scene = Scene::synced();
    let config = NetConfig {
        ko_count: 2,
        timeout_tenths: 10,
        ping_int_secs: 1,
        ..NetConfig::DEFAULT
    };
    let digests = DigestLengths::default();
    for on_a in [true, false] {
        scene.command(on_a, AdminRequest::NetOptions { config, digests });
    }
    scene.pair.b.hold_peer_io = true;
    scene.write(true, 80, 4096);
    for _ in 0..3 {
        scene.quiet("waiting");
    }
    scene.pair.b.hold_peer_io = false;
    scene.quiet("goes on");
    scene.pair.a.sends_left = Some(0);
    scene.write(true, 160, 4096);
    scene.quiet("not sent");
    scene.pair.a.sends_left = None;
    scene.quiet("goes on");
    scene.end("told_late");
}

#[test]
fn a_resync_by_checksums_is_told_as_reviewed() {
    let digests = DigestLengths {
        csums: 4,
        ..DigestLengths::default()
    };
    let config = NetConfig {
        csums_alg: Name::new(b"crc32c").unwrap(),
        protocol: Protocol::B,
        use_rle: false,
        ..NetConfig::DEFAULT
    };
    let mut scene = Scene::synced();
    for on_a in [true, false] {
        scene.command(on_a, AdminRequest::NetOptions { config, digests });
    }
    apart(&mut scene);
    scene.write(true, 80, 4096);
    scene.write(true, 800, 16_384);
    // One of the blocks is the same on the other node, too.
    scene.pair.b.disk.data[80 * 512..][..4096].fill(0x5a);
    for on_a in [true, false] {
        scene.command(on_a, AdminRequest::Connect { config, digests });
    }
    scene.quiet("synced");
    scene.end("told_checksums");
}

#[test]
fn extents_that_get_hot_together_are_told_as_reviewed() {
    const SECTORS: u64 = 8192 * 16;
    let mut pair = Pair::new();
    let device = |node: &mut Node, fill| node.disk = Disk::new(SECTORS, fill);
    device(&mut pair.a, 0x11);
    device(&mut pair.b, 0x11);
    pair.attach();
    pair.connect(NetConfig::DEFAULT);
    let skip = AdminRequest::NewCurrentUuid {
        volume: V,
        clear_bitmap: true,
    };
    assert_eq!(pair.command(true, skip), 101);
    assert_eq!(pair.role(true, Role::Primary, false), 1);
    let mut scene = Scene::of(pair);
    for extent in 0..10 {
        scene.pair.a.write(extent * 8192, 4096, 1);
    }
    scene.pair.run();
    scene.note("ten extents");
    scene.write(true, 8192 - 8, 8192);
    scene.write(true, 0, 4096);
    scene.pair.pass(Duration::from_millis(100));
    scene.cut();
    scene.write(true, 8192 * 12, 4096);
    scene.mend();
    scene.end("told_log");
}
