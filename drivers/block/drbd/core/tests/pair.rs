//! Two resources back to back, with everything between attach and down.
//!
//! The shell of [`node`] is the simplest one possible: it does what it is told, at once. What is
//! shown here is that the decisions of the two planes and of the two nodes fit together.

mod pair {
    pub(crate) mod node;
}

use drbd_core::config::{DiskConfig, NetConfig};
use drbd_core::input::{AdminRequest, DigestLengths, Input};
use drbd_core::link::{LinkError, VolumeNumber};
use drbd_core::time::{Duration, Instant};
use drbd_format::types::{ConnState, DiskState, Role};
use pair::node::{Node, V};

const SECTORS: u64 = 4096 * 8 + 24;

struct Pair {
    a: Node,
    b: Node,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self {
            a: Node::new(1, SECTORS, 0x11),
            b: Node::new(2, SECTORS, 0x22),
        };
        for node in [&mut pair.a, &mut pair.b] {
            node.admin(AdminRequest::NewVolume {
                volume: V,
                number: VolumeNumber(0),
            });
        }
        pair.run();
        pair
    }

    /// Lets both nodes work until nothing moves; time passes only when nothing else does.
    fn run(&mut self) {
        for _ in 0..100_000 {
            let mut active = self.a.step() | self.b.step();
            active |= self.network();
            if !active {
                return;
            }
        }
        panic!("no rest: {:?} {:?}", self.a.state(), self.b.state());
    }

    fn network(&mut self) -> bool {
        let mut active = false;
        if self.a.connecting && self.b.connecting && !self.a.linked && !self.b.linked {
            for (node, resolver, random) in
                [(&mut self.a, false, [1; 64]), (&mut self.b, true, [2; 64])]
            {
                node.linked = true;
                node.core.handle(
                    &Input::SocketsUp {
                        resolver,
                        random: &random,
                    },
                    node.now,
                );
            }
            active = true;
        }
        for (from, to) in [(&mut self.a, &mut self.b)] {
            active |= carry(from, to);
            active |= carry(to, from);
            for (one, other) in [(true, false), (false, true)] {
                let gone = if one {
                    !other && !from.linked
                } else {
                    !to.linked
                };
                let node = if one { &mut *to } else { &mut *from };
                if gone && node.linked && node.data_in.is_empty() && node.meta_in.is_empty() {
                    node.linked = false;
                    node.core
                        .handle(&Input::LinkLost(LinkError::BrokenPipe), node.now);
                    active = true;
                }
            }
        }
        active
    }

    fn pass(&mut self, time: Duration) {
        for node in [&mut self.a, &mut self.b] {
            node.now = node.now.after(time);
            node.core.on_timer(node.now);
        }
        self.run();
    }

    /// Lets time pass in small steps until `wanted` holds.
    fn until(&mut self, what: &str, wanted: impl Fn(&mut Self) -> bool) {
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

    fn connect(&mut self, config: NetConfig) {
        for node in [&mut self.a, &mut self.b] {
            let digests = DigestLengths {
                hmac: 32,
                ..DigestLengths::default()
            };
            node.admin(AdminRequest::Connect { config, digests });
        }
        self.run();
    }

    fn attach(&mut self) {
        self.a.attach(DiskConfig::DEFAULT);
        self.b.attach(DiskConfig::DEFAULT);
        self.run();
    }

    fn role(&mut self, on_a: bool, role: Role, force: bool) -> i32 {
        self.command(
            on_a,
            AdminRequest::SetRole {
                volume: V,
                role,
                force,
            },
        )
    }

    fn node(&mut self, on_a: bool) -> &mut Node {
        if on_a {
            &mut self.a
        } else {
            &mut self.b
        }
    }

    /// Runs a command to its answer.
    fn command(&mut self, on_a: bool, request: AdminRequest) -> i32 {
        let before = self.node(on_a).answers.len();
        self.node(on_a).admin(request);
        self.until("an answer", |pair| pair.node(on_a).answers.len() > before);
        self.node(on_a).answers[before].1
    }

    fn in_sync(&mut self) -> bool {
        [self.a.state(), self.b.state()].iter().all(|state| {
            state.conn == ConnState::Connected
                && state.disk == DiskState::UpToDate
                && state.pdsk == DiskState::UpToDate
        })
    }

    /// Up to the point where both nodes are in sync, `a` primary.
    fn synced() -> Self {
        let mut pair = Self::new();
        pair.attach();
        pair.connect(NetConfig::DEFAULT);
        assert_eq!(pair.role(true, Role::Primary, true), 1);
        pair.until("first sync", Pair::in_sync);
        pair
    }
}

fn carry(from: &mut Node, to: &mut Node) -> bool {
    if !from.linked && from.data_out.is_empty() && from.meta_out.is_empty() {
        return false;
    }
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

fn shape(node: &mut Node) -> String {
    node.state().to_string()
}

#[test]
fn the_lab_runs_from_fresh_disks_to_down() {
    let mut pair = Pair::new();
    pair.attach();
    assert_eq!(pair.a.answers.last().unwrap().1, 101, "{:#?}", pair.a.log);
    assert_eq!(
        shape(&mut pair.a),
        "cs:StandAlone ro:Secondary/Unknown ds:Inconsistent/DUnknown r-----"
    );
    assert_eq!(pair.a.capacity, SECTORS);

    pair.connect(NetConfig::DEFAULT);
    let both = "cs:Connected ro:Secondary/Secondary ds:Inconsistent/Inconsistent r-----";
    assert_eq!(shape(&mut pair.a), both, "{:#?}", pair.a.log);
    assert_eq!(shape(&mut pair.b), both, "{:#?}", pair.b.log);

    assert_eq!(pair.role(true, Role::Primary, false), -2);
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.until("first sync", Pair::in_sync);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
    assert_eq!(pair.b.disk.data[0], 0x11);
    assert!(!pair.a.read_only);
    assert_eq!(
        shape(&mut pair.a),
        "cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate r-----"
    );
    assert_eq!(
        shape(&mut pair.b),
        "cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate r-----"
    );

    pair.a.write(64, 8192, 0x33);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);

    assert_eq!(
        pair.role(false, Role::Primary, false),
        -1,
        "a is still primary"
    );
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    assert!(pair.a.read_only);
    assert_eq!(pair.role(false, Role::Primary, false), 1);
    assert_eq!(
        shape(&mut pair.a),
        "cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate r-----"
    );
    pair.b.write(128, 4096, 0x44);
    pair.run();
    assert_eq!(pair.a.disk.data, pair.b.disk.data);

    assert_eq!(
        pair.command(true, AdminRequest::Disconnect { force: false }),
        101
    );
    assert_eq!(pair.a.state().conn, ConnState::StandAlone);
    assert_eq!(
        pair.b.state().conn,
        ConnState::WfConnection,
        "{:#?}",
        pair.b.log
    );
    pair.b.write(8000, 4096, 0x55);
    pair.run();
    assert_ne!(pair.a.disk.data, pair.b.disk.data);

    let digests = DigestLengths::default();
    let config = NetConfig::DEFAULT;
    assert_eq!(
        pair.command(true, AdminRequest::Connect { config, digests }),
        1
    );
    pair.until("resync after reconnect", Pair::in_sync);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
    let moved = pair.b.core.counters(V).sent_sectors;
    assert_eq!(moved, 8, "one block and not the whole device");

    assert_eq!(pair.role(false, Role::Secondary, false), 1);
    for on_a in [true, false] {
        let disconnect = AdminRequest::Disconnect { force: false };
        assert_eq!(pair.command(on_a, disconnect), 101);
        let detach = AdminRequest::Detach {
            volume: V,
            force: false,
        };
        assert_eq!(pair.command(on_a, detach), 1);
        assert_eq!(pair.node(on_a).state().disk, DiskState::Diskless);
        assert_eq!(
            pair.command(on_a, AdminRequest::DelVolume { volume: V }),
            101
        );
    }
}

#[test]
fn a_synced_pair_stays_connected_while_nothing_happens() {
    let mut pair = Pair::synced();
    for _ in 0..100 {
        pair.pass(Duration::from_secs(1));
        assert!(pair.in_sync(), "{:#?}", pair.a.log);
    }
    assert!(pair.a.now > Instant(100_000_000_000));
}
