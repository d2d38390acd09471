//! What two nodes say and do about each relation of their data generations, as a golden text.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use std::fmt::Write;

use drbd_core::config::NetConfig;
use drbd_core::time::Duration;
use drbd_format::disk::superblock::{MdFlags, Superblock};
use drbd_format::types::{DiskState, Role, Uuid, UuidSet};
use pair::both::{said, Pair};
use pair::node::Node;

/// What the first node says in each case, and what becomes of both: to be read after a change.
const REVIEWED: &str = include_str!("pair_generations.txt");

const GOOD: u32 = MdFlags::CONSISTENT.0 | MdFlags::WAS_UP_TO_DATE.0;
const BAD: u32 = 0;
const CRASHED: u32 = GOOD | MdFlags::CRASHED_PRIMARY.0;
/// How far the UUID of a resync is from the generation it is relative to.
const OFFSET: u64 = 1 << 48;
/// How far a branch is from the generation that it leaves.
const BRANCH: u64 = 1 << 32;

/// A name, the UUIDs and flags of both nodes, and whether the first one is Primary.
type Case = (&'static str, [u64; 4], u32, [u64; 4], u32, bool);

const CASES: [Case; 29] = [
    (
        "10 both just created",
        [4, 0, 0, 0],
        BAD,
        [4, 0, 0, 0],
        BAD,
        false,
    ),
    (
        "20 this one just created",
        [4, 0, 0, 0],
        BAD,
        [0xc0, 0, 0, 0],
        GOOD,
        false,
    ),
    (
        "30 the peer just created",
        [0xc0, 0, 0, 0],
        GOOD,
        [4, 0, 0, 0],
        BAD,
        false,
    ),
    (
        "34 missed the end",
        [0xc0, 0xb0, 0xa0, 0x90],
        GOOD,
        [0xc0, 0, 0xb0, 0xa0],
        GOOD,
        false,
    ),
    (
        "35 the peer missed it",
        [0xc0, 0, 0xb0, 0xa0],
        GOOD,
        [0xc0, 0xb0, 0xa0, 0x90],
        GOOD,
        false,
    ),
    (
        "34 missed the end, the peer crashed",
        [0xc0, 0xb0, 0xa0, 0x90],
        GOOD,
        [0xc0, 0, 0xb0, 0xa0],
        CRASHED,
        false,
    ),
    (
        "35 the peer missed it, crashed",
        [0xc0, 0, 0xb0, 0xa0],
        CRASHED,
        [0xc0, 0xb0, 0xa0, 0x90],
        GOOD,
        false,
    ),
    (
        "34 missed the end, both crashed",
        [0xc0, 0xb0, 0xa0, 0x90],
        CRASHED,
        [0xc0, 0, 0xb0, 0xa0],
        CRASHED,
        false,
    ),
    (
        "35 the peer missed it, both crashed",
        [0xc0, 0, 0xb0, 0xa0],
        CRASHED,
        [0xc0, 0xb0, 0xa0, 0x90],
        CRASHED,
        false,
    ),
    (
        "36 the peer not begun",
        [0xc0, 0xb0, 0, 0],
        GOOD,
        [0xc0, 0, 0, 0],
        GOOD,
        false,
    ),
    (
        "37 not begun",
        [0xc0, 0, 0, 0],
        GOOD,
        [0xc0, 0xb0, 0, 0],
        GOOD,
        false,
    ),
    (
        "40 equal",
        [0xc0, 0, 0xb0, 0],
        GOOD,
        [0xc0, 0, 0xb0, 0],
        GOOD,
        false,
    ),
    (
        "40 crashed",
        [0xc0, 0, 0, 0],
        CRASHED,
        [0xc0, 0, 0, 0],
        GOOD,
        false,
    ),
    (
        "40 the peer crashed",
        [0xc0, 0, 0, 0],
        GOOD,
        [0xc0, 0, 0, 0],
        CRASHED,
        false,
    ),
    (
        "70 crashed and primary again",
        [0xc0, 0, 0, 0],
        CRASHED,
        [0xc0, 0, 0, 0],
        GOOD,
        true,
    ),
    (
        "50 behind",
        [0xb0, 0, 0, 0],
        GOOD,
        [0xc0, 0xb0, 0, 0],
        GOOD,
        false,
    ),
    (
        "51 lost",
        [0xb0, 0, 0, 0],
        GOOD,
        [0xc0, 0xb0 + OFFSET, 0xb0, 0xa0],
        GOOD,
        false,
    ),
    (
        "55 the peer left",
        [0xc0, 0, 0xb0, 0x90],
        GOOD,
        [0xc0 + BRANCH, 0xb0, 0xa0, 0xc0],
        GOOD,
        false,
    ),
    (
        "60 far behind",
        [0xb0, 0, 0, 0],
        GOOD,
        [0xc0, 0, 0x90, 0xb0],
        GOOD,
        false,
    ),
    (
        "70 ahead",
        [0xc0, 0xb0, 0, 0],
        GOOD,
        [0xb0, 0, 0, 0],
        GOOD,
        false,
    ),
    (
        "70 ahead and primary",
        [0xc0, 0xb0, 0, 0],
        GOOD,
        [0xb0, 0, 0, 0],
        GOOD,
        true,
    ),
    (
        "70 ahead, of a bad disk",
        [0xc0, 0xb0, 0, 0],
        BAD,
        [0xb0, 0, 0, 0],
        GOOD,
        false,
    ),
    (
        "50 behind, with the good disk",
        [0xb0, 0, 0, 0],
        GOOD,
        [0xc0, 0xb0, 0, 0],
        BAD,
        false,
    ),
    (
        "71 not delivered",
        [0xc0, 0xb0 + OFFSET, 0xb0, 0xa0],
        GOOD,
        [0xb0, 0, 0, 0],
        GOOD,
        false,
    ),
    (
        "75 left",
        [0xc0 + BRANCH, 0xb0, 0xa0, 0xc0],
        GOOD,
        [0xc0, 0, 0xb0, 0x90],
        GOOD,
        false,
    ),
    (
        "80 far ahead",
        [0xc0, 0, 0x90, 0xb0],
        GOOD,
        [0xb0, 0, 0, 0],
        GOOD,
        false,
    ),
    (
        "90 split brain",
        [0xc0, 0xa0, 0, 0],
        GOOD,
        [0xb0, 0xa0, 0, 0],
        GOOD,
        false,
    ),
    (
        "100 split long ago",
        [0xc0, 0, 0xa0, 0],
        GOOD,
        [0xb0, 0, 0xa0, 0],
        GOOD,
        false,
    ),
    (
        "100 unrelated",
        [0xc0, 0, 0xa0, 0x90],
        GOOD,
        [0xb0, 0, 0x80, 0x70],
        GOOD,
        false,
    ),
];

/// Gives a node that is down these generations.
fn rewrite(node: &mut Node, [current, bitmap, h0, h1]: [u64; 4], flags: u32) {
    let block = node.disk.superblock.as_mut().unwrap();
    let mut superblock = Superblock::decode(block).unwrap();
    superblock.uuids = UuidSet {
        current: Uuid(current),
        bitmap: Uuid(bitmap),
        history: [Uuid(h0), Uuid(h1)],
    };
    superblock.flags = MdFlags(flags);
    superblock.encode(block).unwrap();
    node.crash(5);
}

fn tell(case: &Case, into: &mut String) {
    let (name, own, own_flags, peer, peer_flags, primary) = *case;
    let mut pair = Pair::synced();
    rewrite(&mut pair.a, own, own_flags);
    rewrite(&mut pair.b, peer, peer_flags);
    pair.attach();
    let expected = [own_flags, peer_flags].map(|flags| flags & GOOD == GOOD);
    let good = [pair.a.state(), pair.b.state()].map(|state| state.disk == DiskState::UpToDate);
    assert_eq!(good, expected, "{name}");
    if primary {
        assert_eq!(pair.role(true, Role::Primary, false), 1, "{name}");
    }
    let before = pair.a.log.len();
    pair.connect(NetConfig::DEFAULT);
    if said(&pair.a.log, "connecting anew.") {
        pair.pass(Duration::from_secs(2));
    }
    writeln!(into, "== {name}").unwrap();
    let lines = pair.a.log[before..].iter();
    for line in lines
        .skip_while(|line| *line != "drbd_sync_handshake:")
        .skip(1)
    {
        // What follows from the decision is for other tests.
        if ["peer( ", "role( ", "conn( "]
            .iter()
            .any(|state| line.starts_with(state))
        {
            break;
        }
        writeln!(into, "{line}").unwrap();
    }
    if said(&pair.a.log, "connecting anew.") {
        let mut results = pair.a.log.iter().rev();
        let last = results.find(|line| line.starts_with("uuid_compare"));
        writeln!(into, "then {}", last.unwrap()).unwrap();
    }
    let outcome = if pair.in_sync() {
        "in sync"
    } else {
        "not in sync"
    };
    writeln!(into, "{outcome}: {}", pair.a.state().conn).unwrap();
}

#[test]
fn what_nodes_say_about_each_relation_of_generations_is_as_reviewed() {
    let mut told = String::new();
    for case in &CASES {
        tell(case, &mut told);
    }
    assert!(told == REVIEWED, "{told}");
}

#[test]
fn generations_that_only_a_newer_version_can_tell_apart_are_refused() {
    let ended = [0xc0, 0, 0xb0, 0xa0];
    let missed = [0xc0, 0xb0, 0xa0, 0x90];
    let words = "To resolve this both sides have to support at least protocol 91";
    for (version, own, peer, refused) in [
        (90, missed, ended, true),
        (91, missed, ended, false),
        (90, ended, missed, true),
        (91, ended, missed, false),
    ] {
        let mut pair = Pair::synced();
        rewrite(&mut pair.a, own, GOOD);
        rewrite(&mut pair.b, peer, GOOD);
        pair.version = version;
        pair.attach();
        pair.connect(NetConfig::DEFAULT);
        let told = pair.a.log.iter().any(|line| line == words);
        assert_eq!(told, refused, "version {version}: {:#?}", pair.a.log);
        assert_eq!(pair.in_sync(), !refused, "version {version}");
    }
}
