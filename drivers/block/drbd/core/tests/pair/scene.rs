//! What two nodes do in a scene, as a text.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fmt::Write;

use drbd_core::config::{DiskConfig, NetConfig};
use drbd_core::input::{AdminRequest, DigestLengths};
use drbd_core::request::Op;
use drbd_core::time::Duration;
use drbd_format::types::{ConnState, Role};

use super::both::Pair;
use super::node::V;

const ROUNDS: usize = 20_000;

/// A pair, and what was told so far.
pub(crate) struct Scene {
    pub(crate) pair: Pair,
    pub(crate) text: String,
    /// What /proc/drbd has shown last of each node.
    shown: [String; 2],
}

impl Scene {
    pub(crate) fn of(pair: Pair) -> Self {
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

    pub(crate) fn new() -> Self {
        Self::of(Pair::new())
    }

    pub(crate) fn synced() -> Self {
        Self::of(Pair::synced())
    }

    /// Ends a step: notes what it made the nodes do, and how they are if that is new.
    pub(crate) fn note(&mut self, step: &str) {
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
    pub(crate) fn command(&mut self, on_a: bool, request: AdminRequest) {
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

    pub(crate) fn role(&mut self, on_a: bool, role: Role, force: bool) {
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

    pub(crate) fn disk(&mut self, on_a: bool, config: DiskConfig) {
        self.command(on_a, AdminRequest::DiskOptions { volume: V, config });
    }

    pub(crate) fn attach(&mut self, on_a: bool, config: DiskConfig) {
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

    pub(crate) fn connect(&mut self, config: NetConfig) {
        for on_a in [true, false] {
            self.command(on_a, connect(config));
        }
    }

    pub(crate) fn cut(&mut self) {
        self.pair.cut = true;
        self.pair.until("both notice", |pair| {
            pair.a.state().conn < ConnState::Connected && pair.b.state().conn < ConnState::Connected
        });
        self.note("cut");
    }

    pub(crate) fn mend(&mut self) {
        self.pair.cut = false;
        self.quiet("mended");
    }

    /// Lets three seconds pass.
    pub(crate) fn quiet(&mut self, step: &str) {
        for _ in 0..30 {
            self.pair.pass(Duration::from_millis(100));
        }
        self.note(step);
    }

    pub(crate) fn write(&mut self, on_a: bool, sector: u64, len: u32) {
        self.pair.node(on_a).request(Op::Write, sector, len, 0x5a);
        self.pair.run();
        self.note("written");
    }

    /// Ends the scene and compares.
    pub(crate) fn end(self, name: &str) {
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.set_snapshot_path("../snapshots");
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

pub(crate) fn connect(config: NetConfig) -> AdminRequest {
    let digests = DigestLengths::default();
    AdminRequest::Connect { config, digests }
}
