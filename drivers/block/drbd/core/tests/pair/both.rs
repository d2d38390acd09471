//! Two nodes and the network between them.

use std::collections::VecDeque;

use drbd_core::config::{DiskConfig, Name, NetConfig};
use drbd_core::input::{AdminRequest, DigestLengths};
use drbd_core::link::VolumeIndex;
use drbd_core::time::Duration;
use drbd_format::types::{ConnState, DiskState, OnIoError, Protocol, Role};

use super::node::{Node, V};

pub(crate) const SECTORS: u64 = 1024 * 8 + 24;

pub(crate) struct Pair {
    pub(crate) a: Node,
    pub(crate) b: Node,
    /// Nothing gets through.
    pub(crate) cut: bool,
    /// The link breaks after so many more rounds.
    pub(crate) breaks_in: Option<u32>,
    /// First byte of each node's challenge.
    pub(crate) random: [u8; 2],
    /// The newest version of the protocol that each node hears the other one speaks.
    pub(crate) version: u32,
    /// The features that each node hears the other one offers, unless the version is older.
    pub(crate) features: u32,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::with_volumes(1, SECTORS)
    }

    /// Nodes with one or two volumes of this size.
    pub(crate) fn with_volumes(volumes: u8, sectors: u64) -> Self {
        let mut pair = Self {
            a: Node::with_volumes(volumes, 1, sectors, 0x11),
            b: Node::with_volumes(volumes, 2, sectors, 0x22),
            cut: false,
            breaks_in: None,
            random: [1, 2],
            version: 101,
            features: u32::MAX,
        };
        for node in [&mut pair.a, &mut pair.b] {
            node.make_volumes();
        }
        pair.run();
        pair
    }

    /// Lets both nodes work until nothing moves; time passes only when nothing else does.
    pub(crate) fn run(&mut self) {
        for _ in 0..100_000 {
            if !self.round() {
                return;
            }
        }
        panic!("no rest: {:?} {:?}", self.a.state(), self.b.state());
    }

    /// Lets both nodes work for a moment. Returns whether anything moved.
    pub(crate) fn round(&mut self) -> bool {
        let mut active = self.a.step() | self.b.step();
        active |= self.breaks();
        active | self.network()
    }

    /// Lets both nodes work for a moment, or time pass if they have nothing to do.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn round_or_time(&mut self) {
        if self.round() {
            return;
        }
        for node in [&mut self.a, &mut self.b] {
            node.now = node.now.after(Duration::from_millis(100));
        }
    }

    /// Breaks the link when its time has come.
    fn breaks(&mut self) -> bool {
        match self.breaks_in {
            Some(0) => self.breaks_in = None,
            Some(rounds) => {
                self.breaks_in = Some(rounds - 1);
                return false;
            }
            None => return false,
        }
        self.break_now();
        true
    }

    /// Breaks the link: everything under way is lost.
    pub(crate) fn break_now(&mut self) {
        for node in [&mut self.a, &mut self.b] {
            for queue in [
                &mut node.data_in,
                &mut node.meta_in,
                &mut node.data_out,
                &mut node.meta_out,
            ] {
                queue.clear();
            }
            node.notice_end(true);
        }
    }

    /// Carries bytes, makes connections and reports lost ones. Returns whether anything moved.
    fn network(&mut self) -> bool {
        let ready = |node: &Node| node.connecting && !node.linked && !node.lost;
        let mut active = false;
        if !self.cut && ready(&self.a) && ready(&self.b) {
            self.a.sockets_up(false, self.random[0]);
            self.b.sockets_up(true, self.random[1]);
            active = true;
        }
        if self.cut {
            return active;
        }
        for node in [&mut self.a, &mut self.b] {
            speak(&mut node.data_out, self.version, self.features);
        }
        active |= carry(&mut self.a, &mut self.b);
        active |= carry(&mut self.b, &mut self.a);
        active |= self.a.notice_end(!self.b.linked);
        active | self.b.notice_end(!self.a.linked)
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        for node in [&mut self.a, &mut self.b] {
            node.now = node.now.after(time);
        }
        self.run();
    }

    /// Takes single rounds, and lets time pass only when nothing else happens, until `reached`.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn rounds_until(&mut self, what: &str, reached: impl Fn(&mut Self) -> bool) {
        for _ in 0..100_000 {
            if reached(self) {
                return;
            }
            self.round_or_time();
        }
        panic!("never {what}: a {} b {}", self.a.state(), self.b.state());
    }

    /// Lets time pass in small steps until `wanted` holds.
    pub(crate) fn until(&mut self, what: &str, wanted: impl Fn(&mut Self) -> bool) {
        for _ in 0..2000 {
            self.run();
            if wanted(self) {
                return;
            }
            self.pass(Duration::from_millis(100));
        }
        panic!(
            "{what}: a {} b {}\na: {:#?}\nb: {:#?}",
            self.a.state(),
            self.b.state(),
            self.a.log,
            self.b.log
        );
    }

    pub(crate) fn connect(&mut self, config: NetConfig) {
        for node in [&mut self.a, &mut self.b] {
            let digests = DigestLengths {
                hmac: 32,
                ..DigestLengths::default()
            };
            node.admin(AdminRequest::Connect { config, digests });
        }
        self.run();
    }

    pub(crate) fn attach(&mut self) {
        self.a.attach(DiskConfig::DEFAULT);
        self.b.attach(DiskConfig::DEFAULT);
        self.run();
    }

    pub(crate) fn role(&mut self, on_a: bool, role: Role, force: bool) -> i32 {
        self.command(
            on_a,
            AdminRequest::SetRole {
                volume: V,
                role,
                force,
            },
        )
    }

    pub(crate) fn node(&mut self, on_a: bool) -> &mut Node {
        if on_a {
            &mut self.a
        } else {
            &mut self.b
        }
    }

    /// Runs a command to its answer.
    pub(crate) fn command(&mut self, on_a: bool, request: AdminRequest) -> i32 {
        let before = self.node(on_a).answers.len();
        self.node(on_a).admin(request);
        self.until("an answer", |pair| pair.node(on_a).answers.len() > before);
        self.node(on_a).answers[before].1
    }

    /// All volumes are in sync.
    pub(crate) fn in_sync(&mut self) -> bool {
        let mut volumes = self.a.indices();
        volumes.all(|volume| self.volume_in_sync(volume))
    }

    pub(crate) fn volume_in_sync(&mut self, volume: VolumeIndex) -> bool {
        [&mut self.a, &mut self.b].into_iter().all(|node| {
            let state = node.state_of(volume);
            state.conn == ConnState::Connected
                && state.disk == DiskState::UpToDate
                && state.pdsk == DiskState::UpToDate
        })
    }

    /// In sync; disks that fail stay (`on-io-error pass_on`).
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn synced_with_pass_on() -> Self {
        let mut pair = Self::new();
        let config = DiskConfig {
            on_io_error: OnIoError::PassOn,
            ..DiskConfig::DEFAULT
        };
        pair.a.attach(config);
        pair.b.attach(config);
        pair.run();
        pair.connect(NetConfig::DEFAULT);
        assert_eq!(pair.role(true, Role::Primary, true), 1);
        pair.until("first sync", Self::in_sync);
        pair
    }

    /// `a` has been synced from `b` and its run is over; `b` has not ended it yet.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn ended_at_the_target() -> Self {
        let mut pair = Self::synced();
        let request = AdminRequest::Invalidate { volume: V };
        assert_eq!(pair.command(true, request), 1);
        pair.rounds_until("done", |pair| {
            let state = pair.a.state();
            state.conn == ConnState::Connected && state.disk == DiskState::UpToDate
        });
        assert!(pair.b.state().is_sync_source());
        pair
    }

    /// As [`Self::synced`], with an algorithm for online verify.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn synced_with_verify() -> Self {
        let mut pair = Self::synced();
        pair.choose_verify();
        pair
    }

    /// From now on there is an algorithm for online verify.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn choose_verify(&mut self) {
        let config = NetConfig {
            verify_alg: Name::new(b"crc32c").unwrap(),
            ..NetConfig::DEFAULT
        };
        let digests = DigestLengths {
            verify: 4,
            ..DigestLengths::default()
        };
        for on_a in [true, false] {
            let request = AdminRequest::NetOptions { config, digests };
            assert_eq!(self.command(on_a, request), 101);
        }
    }

    /// As [`Self::synced`], over a connection of this protocol.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn synced_by(protocol: Protocol) -> Self {
        let mut pair = Self::new();
        pair.attach();
        pair.connect(NetConfig {
            protocol,
            ..NetConfig::DEFAULT
        });
        assert_eq!(pair.role(true, Role::Primary, true), 1);
        pair.until("first sync", Self::in_sync);
        pair
    }

    /// As [`Self::synced`], on devices of which only the front is used.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn synced_in_front(sectors: u64) -> Self {
        let mut pair = Self::new();
        pair.sync_front(sectors);
        pair
    }

    /// Attaches disks of which only the front is used, and syncs them, `a` primary.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn sync_front(&mut self, sectors: u64) {
        let config = DiskConfig {
            disk_size_sectors: sectors,
            ..DiskConfig::DEFAULT
        };
        self.a.attach(config);
        self.b.attach(config);
        self.run();
        self.connect(NetConfig::DEFAULT);
        assert_eq!(self.a.capacity, sectors);
        assert_eq!(self.role(true, Role::Primary, true), 1);
        self.until("first sync", Pair::in_sync);
    }

    /// The link is cut, `a` writes these blocks (sector and byte), and once both have noticed the
    /// network is up again.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn write_while_away(&mut self, blocks: &[(u64, u8)]) {
        self.cut = true;
        for &(sector, byte) in blocks {
            self.a.write(sector, 4096, byte);
        }
        self.until("both notice", |pair| {
            let states = [pair.a.state(), pair.b.state()];
            states.iter().all(|state| state.conn < ConnState::Connected)
        });
        self.cut = false;
    }

    /// `b` becomes the target of a resync that compares checksums, with these options besides, of
    /// block 10, which is the same on both nodes, and block 20, which is not.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn sync_with_checksums(&mut self, options: NetConfig) {
        self.use_checksums(options);
        self.write_while_away(&[(80, 0x11), (160, 8)]);
        self.rounds_until("target", |pair| {
            pair.b.state().conn == ConnState::SyncTarget
        });
    }

    /// The next resync compares checksums.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn use_checksums(&mut self, options: NetConfig) {
        let digests = DigestLengths {
            csums: 4,
            ..DigestLengths::default()
        };
        let config = NetConfig {
            csums_alg: Name::new(b"crc32c").unwrap(),
            ..options
        };
        for on_a in [true, false] {
            let request = AdminRequest::NetOptions { config, digests };
            assert_eq!(self.command(on_a, request), 101);
        }
    }

    /// `b` was away while `a` wrote the block at sector 80 with `8`, is back and in sync. The
    /// source has not heard of that when the link is lost.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn synced_unheard() -> Self {
        let mut pair = Self::synced();
        pair.write_while_away(&[(80, 8)]);
        pair.rounds_until("done", |pair| {
            let state = pair.b.state();
            state.disk == DiskState::UpToDate && state.conn == ConnState::Connected
        });
        assert!(pair.a.state().is_sync_source(), "{}", shape(&mut pair.a));
        pair.cut = true;
        pair.b.data_out.clear();
        pair.b.meta_out.clear();
        pair.a.data_in.clear();
        pair.a.meta_in.clear();
        pair
    }

    /// `b` was away while `a` wrote a block, and waits for the UUID of the resync.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn before_sync_uuid() -> Self {
        let mut pair = Self::synced();
        let leave = AdminRequest::Disconnect { force: false };
        assert_eq!(pair.command(false, leave), 101);
        pair.a.write(800, 4096, 0x77);
        pair.run();
        pair.b.admin(AdminRequest::Connect {
            config: NetConfig::DEFAULT,
            digests: DigestLengths::default(),
        });
        while pair.b.state().conn != ConnState::WfSyncUuid {
            pair.round_or_time();
        }
        pair
    }

    /// Up to the point where both nodes are in sync, `a` primary.
    pub(crate) fn synced() -> Self {
        let mut pair = Self::new();
        pair.attach();
        pair.connect(NetConfig::DEFAULT);
        assert_eq!(pair.role(true, Role::Primary, true), 1);
        pair.until("first sync", Pair::in_sync);
        pair
    }

    /// Gives the disk of the first volume other options.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn set_disk_options(&mut self, on_a: bool, config: DiskConfig) {
        let request = AdminRequest::DiskOptions { volume: V, config };
        assert_eq!(self.command(on_a, request), 101);
    }

    /// Makes `a` primary of a volume, by force.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn promote(&mut self, volume: VolumeIndex) {
        let (role, force) = (Role::Primary, true);
        let request = AdminRequest::SetRole {
            volume,
            role,
            force,
        };
        assert_eq!(self.command(true, request), 1);
    }

    /// As [`Self::synced`], with two volumes.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn synced_with_two_volumes() -> Self {
        let volumes = [V, VolumeIndex(1)];
        let mut pair = Self::with_volumes(2, SECTORS);
        for volume in volumes {
            pair.a.attach_volume(volume, DiskConfig::DEFAULT);
            pair.b.attach_volume(volume, DiskConfig::DEFAULT);
            pair.run();
        }
        pair.connect(NetConfig::DEFAULT);
        for volume in volumes {
            pair.promote(volume);
        }
        pair.until("first sync", Pair::in_sync);
        pair
    }
}

/// Resizes to all that the devices have.
#[allow(dead_code, reason = "each test file uses a part of it")]
pub(crate) fn grow(force: bool) -> AdminRequest {
    grow_volume(V, SECTORS, force)
}

/// As [`grow`], of any volume.
#[allow(dead_code, reason = "each test file uses a part of it")]
pub(crate) fn grow_volume(volume: VolumeIndex, sectors: u64, force: bool) -> AdminRequest {
    AdminRequest::Resize {
        volume,
        size_sectors: 0,
        force,
        assume_clean: false,
        max_capacity_sectors: sectors,
    }
}

/// Tells whether a line of a log has this in it.
#[allow(dead_code, reason = "each test file uses a part of it")]
pub(crate) fn said(log: &[String], text: &str) -> bool {
    log.iter().any(|line| line.contains(text))
}

/// Lowers the newest version that P_CONNECTION_FEATURES offers and takes features away, with an
/// older version all.
fn speak(stream: &mut VecDeque<u8>, version: u32, features: u32) {
    const OFFER: [u8; 6] = [0x83, 0x74, 0x02, 0x67, 0xff, 0xfe];
    if !stream.iter().take(6).eq(&OFFER) {
        return;
    }
    for (at, mask) in (12..16).zip(features.to_be_bytes()) {
        stream[at] &= mask;
    }
    if version < 101 {
        for (at, byte) in (12..20).zip([[0; 4], version.to_be_bytes()].concat()) {
            stream[at] = byte;
        }
    }
}

fn carry(from: &mut Node, to: &mut Node) -> bool {
    let active = !from.data_out.is_empty() || !from.meta_out.is_empty();
    if to.linked {
        to.data_in.append(&mut from.data_out);
        to.meta_in.append(&mut from.meta_out);
    } else {
        from.data_out.clear();
        from.meta_out.clear();
    }
    active
}

#[allow(dead_code, reason = "each test file uses a part of it")]
pub(crate) fn shape(node: &mut Node) -> String {
    node.state().to_string()
}
