//! All that two nodes do in some scenes, as golden texts: what is logged, sent, written to disk,
//! told to listeners and answered, in order. To be read after a change.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use std::fmt::Write;

use drbd_core::config::{DiskConfig, Name, NetConfig, ResourceConfig};
use drbd_core::input::{AdminRequest, DigestLengths, Input};
use drbd_core::link::{VolumeIndex, VolumeNumber};
use drbd_core::request::Op;
use drbd_core::time::Duration;
use drbd_format::types::{
    AfterSbPolicy, ConnState, DiskState, Fencing, OnCongestion, OnIoError, OnNoData, Protocol,
    Role, RrConflict,
};
use pair::both::{grow, Pair, SECTORS};
use pair::node::V;

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
const ROUNDS: usize = 20_000;

/// A pair, and what was told so far.
struct Scene {
    pair: Pair,
    text: String,
    /// What /proc/drbd has shown last of each node.
    shown: [String; 2],
}

impl Scene {
    fn of(pair: Pair) -> Self {
        let mut scene = Self {
            pair,
            text: String::new(),
            shown: Default::default(),
        };
        for node in [&mut scene.pair.a, &mut scene.pair.b] {
            node.told.clear();
        }
        scene
    }

    fn new() -> Self {
        Self::of(Pair::new())
    }

    fn synced() -> Self {
        Self::of(Pair::synced())
    }

    /// Ends a step: notes what it made the nodes do, and how they are if that is new.
    fn note(&mut self, step: &str) {
        writeln!(self.text, "== {step}").unwrap();
        for (at, node) in [&mut self.pair.a, &mut self.pair.b].into_iter().enumerate() {
            let name = ["a", "b"][at];
            brief(name, &mut self.text, node.told.drain(..));
            let now = node.now;
            let mut shown = String::new();
            node.core.proc_volume(V, 3, 1, now, &mut shown).unwrap();
            if shown != self.shown[at] {
                write!(self.text, "{name}{shown}").unwrap();
                self.shown[at] = shown;
            }
        }
    }

    /// Gives a command, and lets everything that follows happen.
    fn command(&mut self, on_a: bool, request: AdminRequest) {
        let answers = self.pair.node(on_a).answers.len();
        self.pair.node(on_a).admin(request);
        for _ in 0..ROUNDS {
            self.pair.round_or_time();
            if self.pair.node(on_a).answers.len() > answers {
                break;
            }
        }
        self.pair.run();
        let name = format!("{request:?}");
        let name = name.split([' ', '{']).next().unwrap();
        self.note(&format!("{} {name}", if on_a { "a" } else { "b" }));
    }

    fn role(&mut self, on_a: bool, role: Role, force: bool) {
        let volume = V;
        self.command(
            on_a,
            AdminRequest::SetRole {
                volume,
                role,
                force,
            },
        );
    }

    fn disk(&mut self, on_a: bool, config: DiskConfig) {
        self.command(on_a, AdminRequest::DiskOptions { volume: V, config });
    }

    fn attach(&mut self, on_a: bool, config: DiskConfig) {
        let answers = self.pair.node(on_a).answers.len();
        self.pair.node(on_a).attach(config);
        for _ in 0..ROUNDS {
            self.pair.round_or_time();
            if self.pair.node(on_a).answers.len() > answers {
                break;
            }
        }
        self.pair.run();
        self.note(if on_a { "a Attach" } else { "b Attach" });
    }

    fn connect(&mut self, config: NetConfig) {
        for on_a in [true, false] {
            self.command(on_a, connect(config));
        }
    }

    fn cut(&mut self) {
        self.pair.cut = true;
        self.pair.until("both notice", |pair| {
            pair.a.state().conn < ConnState::Connected && pair.b.state().conn < ConnState::Connected
        });
        self.note("cut");
    }

    fn mend(&mut self) {
        self.pair.cut = false;
        self.quiet("mended");
    }

    /// Lets three seconds pass.
    fn quiet(&mut self, step: &str) {
        for _ in 0..30 {
            self.pair.pass(Duration::from_millis(100));
        }
        self.note(step);
    }

    fn write(&mut self, on_a: bool, sector: u64, len: u32) {
        self.pair.node(on_a).request(Op::Write, sector, len, 0x5a);
        self.pair.run();
        self.note("written");
    }

    /// Ends the scene and compares.
    fn end(self, name: &str) {
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name, self.text));
    }
}

/// What kind of packet or block a line is about, if it is about one.
fn kind(line: &str) -> Option<(&str, Vec<&str>)> {
    let (first, rest) = line.split_once(' ')?;
    let words = rest.split(' ');
    match first {
        "data" | "meta" => Some((first, words.skip(2).take(2).collect())),
        "disk" => Some((first, words.take(1).collect())),
        "log" => Some((first, Vec::new())),
        _ => None,
    }
}

/// Of packets of one kind that follow each other the first, how many more, and the last.
fn brief(name: &str, text: &mut String, told: impl Iterator<Item = String>) {
    let told: Vec<String> = told.collect();
    for run in told.chunk_by(|one, two| kind(one).is_some() && kind(one) == kind(two)) {
        let [first, more @ ..] = run else { continue };
        writeln!(text, "{name} {}", first.trim_end()).unwrap();
        if let [between @ .., last] = more {
            if !between.is_empty() {
                let len: usize = between.iter().map(String::len).sum();
                writeln!(text, "{name} {} more ({len})", between.len()).unwrap();
            }
            writeln!(text, "{name} {}", last.trim_end()).unwrap();
        }
    }
}

fn connect(config: NetConfig) -> AdminRequest {
    let digests = DigestLengths::default();
    AdminRequest::Connect { config, digests }
}

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
