//! All that two nodes do in some scenes, as golden texts: what is logged, sent, written to disk,
//! told to listeners and answered, in order. To be read after a change.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
    pub(crate) mod scene;
}

use std::fmt::Write;

use drbd_core::config::{DiskConfig, Name, NetConfig, ResourceConfig};
use drbd_core::input::{AdminRequest, DigestLengths, Input};
use drbd_core::link::{VolumeIndex, VolumeNumber};
use drbd_core::request::Op;
use drbd_format::types::{
    AfterSbPolicy, DiskState, Fencing, OnCongestion, OnIoError, OnNoData, Protocol, Role,
    RrConflict,
};
use pair::both::{grow, Pair, SECTORS};
use pair::node::V;
use pair::scene::{connect, Scene};

const DISCONNECT: AdminRequest = AdminRequest::Disconnect { force: false };
const DETACH: AdminRequest = AdminRequest::Detach {
    volume: V,
    force: false,
};
const VERIFY: AdminRequest = AdminRequest::Verify {
    volume: V,
    start: Some(0),
    stop: u64::MAX,
};

#[test]
fn a_first_sync_its_end_and_a_second_one_after_writes_alone_are_as_reviewed() {
    let mut scene = Scene::new();
    scene.attach(true, DiskConfig::DEFAULT);
    scene.attach(false, DiskConfig::DEFAULT);
    scene.connect(NetConfig::DEFAULT);
    scene.role(true, Role::Primary, false);
    scene.role(true, Role::Primary, true);
    scene.quiet("first sync");
    scene.write(true, 80, 4096);
    scene.command(false, DISCONNECT);
    scene.write(true, 800, 8192);
    scene.command(false, connect(NetConfig::DEFAULT));
    scene.quiet("synced");
    scene.role(true, Role::Secondary, false);
    scene.end("told_first_sync");
}

#[test]
fn what_is_refused_is_said_as_reviewed() {
    let mut scene = Scene::new();
    for on_a in [true, false] {
        scene.role(on_a, Role::Primary, false);
        scene.command(on_a, VERIFY);
        scene.command(on_a, grow(false));
    }
    scene.attach(true, DiskConfig::DEFAULT);
    scene.role(true, Role::Primary, false);
    let outdate = AdminRequest::Outdate { volume: V };
    scene.command(true, outdate);
    scene.attach(false, DiskConfig::DEFAULT);
    scene.connect(NetConfig::DEFAULT);
    scene.command(true, grow(false));
    scene.role(true, Role::Primary, true);
    scene.quiet("synced");
    scene.role(false, Role::Primary, false);
    scene.command(true, AdminRequest::Invalidate { volume: V });
    scene.command(true, AdminRequest::DelVolume { volume: V });
    scene.command(false, outdate);
    scene
        .pair
        .a
        .core
        .handle(&Input::Opened { volume: V }, scene.pair.a.now);
    scene.role(true, Role::Secondary, false);
    scene.command(false, DETACH);
    scene.command(true, DETACH);
    scene.command(true, DISCONNECT);
    scene.command(true, DETACH);
    scene.end("told_refused");
}

#[test]
fn disks_that_leave_fail_and_come_back_are_told_as_reviewed() {
    let mut scene = Scene::synced();
    scene.command(false, DETACH);
    scene.write(true, 80, 4096);
    scene.attach(false, DiskConfig::DEFAULT);
    scene.quiet("synced");
    scene.command(true, DETACH);
    scene.write(true, 160, 4096);
    scene.pair.a.request(Op::Read, 160, 4096, 0);
    scene.pair.run();
    scene.note("read");
    scene.attach(true, DiskConfig::DEFAULT);
    scene.quiet("synced");
    scene.pair.a.fail_local = true;
    scene.write(true, 240, 4096);
    scene.pair.a.fail_local = false;
    scene.quiet("gone");
    scene.attach(true, DiskConfig::DEFAULT);
    scene.quiet("synced");
    scene.pair.b.fail_peer_io = true;
    scene.write(true, 320, 4096);
    scene.quiet("gone");
    scene.end("told_disks");
}

#[test]
fn a_disk_that_fails_is_dealt_with_as_configured() {
    for (policy, name) in [
        (OnIoError::PassOn, "told_pass_on"),
        (OnIoError::CallLocalIoError, "told_local_io_error"),
    ] {
        let mut scene = Scene::synced();
        let config = DiskConfig {
            on_io_error: policy,
            ..DiskConfig::DEFAULT
        };
        scene.disk(true, config);
        scene.pair.a.fail_local = true;
        scene.pair.a.request(Op::Read, 160, 4096, 0);
        scene.quiet("read");
        scene.write(true, 240, 4096);
        scene.quiet("gone");
        scene.end(name);
    }
}

#[test]
fn a_device_that_gets_another_size_tells_it_as_reviewed() {
    let mut scene = Scene::of(Pair::synced_in_front(4096));
    let resize = |size_sectors, force, assume_clean, max_capacity_sectors| AdminRequest::Resize {
        volume: V,
        size_sectors,
        force,
        assume_clean,
        max_capacity_sectors,
    };
    scene.command(true, resize(4608, false, true, SECTORS));
    scene.command(true, resize(4096, false, false, SECTORS));
    scene.command(true, resize(0, false, false, SECTORS));
    scene.quiet("grown");
    scene.command(true, resize(6000, false, false, SECTORS));
    scene.quiet("shrunk");
    scene.command(false, DISCONNECT);
    scene.command(true, resize(0, true, false, SECTORS));
    scene.command(false, connect(NetConfig::DEFAULT));
    scene.quiet("together");
    scene.end("told_sizes");
}

#[test]
fn a_verify_and_what_it_finds_are_told_as_reviewed() {
    let mut scene = Scene::of(Pair::synced_with_verify());
    for at in [0, 8192, 12_288, 2 << 20] {
        scene.pair.b.disk.data[at] ^= 0xff;
    }
    scene.command(true, VERIFY);
    scene.quiet("verified");
    let part = |start, stop| AdminRequest::Verify {
        volume: V,
        start,
        stop,
    };
    scene.command(false, part(Some(2048), 4096));
    scene.quiet("verified");
    scene.command(true, DISCONNECT);
    scene.command(true, connect(NetConfig::DEFAULT));
    scene.quiet("synced");
    scene.command(true, part(None, u64::MAX));
    scene.command(true, DISCONNECT);
    scene.end("told_verify");
}

#[test]
fn a_sync_that_is_paused_and_data_that_is_given_up_are_told_as_reviewed() {
    let mut scene = Scene::synced();
    scene.command(true, AdminRequest::PauseSync { volume: V });
    scene.command(false, AdminRequest::PauseSync { volume: V });
    scene.command(false, AdminRequest::Invalidate { volume: V });
    scene.quiet("paused");
    scene.command(true, AdminRequest::ResumeSync { volume: V });
    scene.command(false, AdminRequest::ResumeSync { volume: V });
    scene.quiet("synced");
    scene.command(true, AdminRequest::InvalidateRemote { volume: V });
    scene.quiet("synced");
    for busy in [true, false] {
        let now = scene.pair.b.now;
        let input = Input::SyncDependency { volume: V, busy };
        scene.pair.b.core.handle(&input, now);
        scene.quiet("dependency");
    }
    scene.end("told_pause");
}

#[test]
fn io_that_is_suspended_and_goes_on_is_told_as_reviewed() {
    let mut scene = Scene::synced();
    scene.command(true, AdminRequest::SuspendIo { volume: V });
    scene.cut();
    scene.command(true, AdminRequest::ResumeIo { volume: V });
    scene.write(true, 80, 4096);
    scene.mend();
    let config = ResourceConfig {
        on_no_data: OnNoData::SuspendIo,
    };
    scene.command(true, AdminRequest::ResourceOptions { config });
    scene.command(true, DETACH);
    scene.write(true, 160, 4096);
    scene.cut();
    scene.write(true, 240, 4096);
    scene.mend();
    scene.cut();
    scene.write(true, 320, 4096);
    scene.command(true, AdminRequest::ResumeIo { volume: V });
    scene.mend();
    scene.end("told_suspend");
}

#[test]
fn each_answer_of_a_fencing_helper_is_told_as_reviewed() {
    for (fencing, exits) in [
        (Fencing::ResourceOnly, [3, 5, 6, 7]),
        (Fencing::ResourceAndStonith, [0, 4, 5, 7]),
    ] {
        let mut scene = Scene::synced();
        let config = DiskConfig {
            fencing,
            ..DiskConfig::DEFAULT
        };
        scene.disk(true, config);
        scene.disk(false, config);
        for exit in exits {
            scene.pair.a.exits.insert("fence-peer", exit);
            writeln!(scene.text, "== exit {exit}").unwrap();
            scene.cut();
            scene.write(true, 80, 4096);
            scene.quiet("fenced");
            scene.command(true, AdminRequest::ResumeIo { volume: V });
            scene.mend();
        }
        scene.end(&format!("told_{fencing:?}"));
    }
}

#[test]
fn a_node_that_crashes_and_comes_back_is_told_as_reviewed() {
    for (primary, name) in [(true, "told_crash_of_primary"), (false, "told_crash")] {
        let mut scene = Scene::synced();
        scene.write(true, 80, 4096);
        scene.cut();
        scene.pair.node(primary).crash(77);
        if primary {
            scene.role(false, Role::Primary, false);
        }
        scene.write(!primary, 160, 4096);
        scene.attach(primary, DiskConfig::DEFAULT);
        scene.pair.cut = false;
        scene.command(primary, connect(NetConfig::DEFAULT));
        scene.quiet("synced");
        scene.end(name);
    }
}

#[test]
fn each_version_of_the_protocol_is_spoken_as_reviewed() {
    for version in [86, 93, 95, 100] {
        let mut pair = Pair::new();
        pair.version = version;
        let mut scene = Scene::of(pair);
        scene.attach(true, DiskConfig::DEFAULT);
        scene.attach(false, DiskConfig::DEFAULT);
        scene.connect(NetConfig::DEFAULT);
        scene.role(true, Role::Primary, true);
        scene.quiet("first sync");
        scene.write(true, 80, 4096);
        scene.cut();
        scene.write(true, 800, 8192);
        scene.mend();
        scene.command(false, DETACH);
        scene.command(true, DISCONNECT);
        scene.end(&format!("told_{version}"));
    }
}

#[test]
fn settings_that_change_under_way_are_told_as_reviewed() {
    let mut scene = Scene::synced();
    let digests = DigestLengths {
        verify: 4,
        csums: 4,
        ..DigestLengths::default()
    };
    let config = NetConfig {
        verify_alg: Name::new(b"crc32c").unwrap(),
        csums_alg: Name::new(b"crc32c").unwrap(),
        protocol: Protocol::A,
        ..NetConfig::DEFAULT
    };
    for on_a in [true, false] {
        scene.command(on_a, AdminRequest::NetOptions { config, digests });
    }
    scene.write(true, 80, 4096);
    let config = DiskConfig {
        al_updates: false,
        c_max_rate_kib: 4096,
        resync_rate_kib: 0,
        c_plan_ahead_tenths: 301,
        ..DiskConfig::DEFAULT
    };
    scene.disk(true, config);
    scene.write(true, 4096, 4096);
    scene.disk(true, DiskConfig::DEFAULT);
    scene.write(true, 4800, 4096);
    scene.cut();
    scene.write(true, 160, 1 << 17);
    scene.mend();
    let generation = |clear_bitmap| AdminRequest::NewCurrentUuid {
        volume: V,
        clear_bitmap,
    };
    scene.command(true, DISCONNECT);
    scene.command(true, generation(false));
    scene.command(true, generation(true));
    scene.end("told_settings");
}

#[test]
fn a_first_sync_that_is_skipped_is_told_as_reviewed() {
    let mut scene = Scene::new();
    scene.attach(true, DiskConfig::DEFAULT);
    scene.attach(false, DiskConfig::DEFAULT);
    scene.connect(NetConfig::DEFAULT);
    let request = AdminRequest::NewCurrentUuid {
        volume: V,
        clear_bitmap: true,
    };
    scene.command(true, request);
    scene.quiet("equal");
    scene.end("told_skipped");
}

#[test]
fn each_way_out_of_a_split_brain_is_told_as_reviewed() {
    let heal = |after_sb_0p, after_sb_1p, rr_conflict| NetConfig {
        after_sb_0p,
        after_sb_1p,
        after_sb_2p: AfterSbPolicy::Disconnect,
        rr_conflict,
        two_primaries: true,
        ..NetConfig::DEFAULT
    };
    use AfterSbPolicy as Policy;
    for (name, policy_0p, policy_1p, conflict, primary) in [
        (
            "zero",
            Policy::DiscardZeroChanges,
            Policy::Disconnect,
            RrConflict::Disconnect,
            false,
        ),
        (
            "younger",
            Policy::DiscardYoungerPrimary,
            Policy::Disconnect,
            RrConflict::Disconnect,
            false,
        ),
        (
            "secondary",
            Policy::Disconnect,
            Policy::DiscardSecondary,
            RrConflict::CallPriLost,
            true,
        ),
        (
            "call",
            Policy::DiscardLeastChanges,
            Policy::CallPriLostAfterSb,
            RrConflict::Violently,
            true,
        ),
        (
            "none",
            Policy::Disconnect,
            Policy::Disconnect,
            RrConflict::Disconnect,
            true,
        ),
    ] {
        let mut scene = Scene::synced();
        scene.cut();
        scene.write(true, 80, 4096);
        if !primary {
            scene.role(true, Role::Secondary, false);
        }
        scene.role(false, Role::Primary, false);
        scene.write(false, 160, 65_536);
        scene.role(false, Role::Secondary, false);
        scene.command(true, DISCONNECT);
        scene.command(false, DISCONNECT);
        scene.pair.cut = false;
        scene.connect(heal(policy_0p, policy_1p, conflict));
        scene.quiet("met");
        scene.end(&format!("told_split_{name}"));
    }
}

#[test]
fn a_slow_link_is_told_as_reviewed() {
    for (policy, name) in [
        (OnCongestion::PullAhead, "told_ahead"),
        (OnCongestion::Disconnect, "told_congested"),
    ] {
        let mut scene = Scene::new();
        let config = NetConfig {
            protocol: Protocol::A,
            on_congestion: policy,
            congestion_fill: 8,
            ..NetConfig::DEFAULT
        };
        scene.attach(true, DiskConfig::DEFAULT);
        scene.attach(false, DiskConfig::DEFAULT);
        scene.connect(config);
        scene.role(true, Role::Primary, true);
        scene.quiet("synced");
        for number in 0..4 {
            scene.pair.a.write(number * 64, 32_768, 0x40);
            scene.pair.a.step();
        }
        scene.note("too fast");
        scene.quiet("synced");
        scene.end(name);
    }
}

#[test]
fn other_requests_and_a_second_volume_are_told_as_reviewed() {
    let mut scene = Scene::synced();
    for (op, sector, len) in [
        (Op::Discard, 80, 65_536),
        (Op::WriteZeroes, 800, 4096),
        (Op::Flush, 0, 0),
        (Op::Read, 80, 4096),
        (Op::Write, 81, 512),
        (Op::Write, SECTORS - 8, 4096),
    ] {
        scene.pair.a.request(op, sector, len, 1);
        scene.pair.run();
        scene.note("requested");
    }
    let second = VolumeIndex(1);
    for on_a in [true, false] {
        let number = VolumeNumber(7);
        let volume = second;
        scene.command(on_a, AdminRequest::NewVolume { volume, number });
    }
    scene.cut();
    scene.mend();
    scene.command(true, AdminRequest::DelVolume { volume: second });
    scene.pair.until("in sync", Pair::in_sync);
    assert_eq!(scene.pair.a.state().disk, DiskState::UpToDate);
    scene.end("told_requests");
}
