//! What two nodes with the C driver said to each other (`tests/golden/recorded`), fed to the core
//! in the place of one of them: it has to say and to store what that node did.
//!
//! This ties the shells in memory, here and in `tests/sim`, to real kernels.

mod pair {
    pub(crate) mod node;
}

use std::collections::VecDeque;
use std::path::Path;

use drbd_core::config::{DiskConfig, NetConfig};
use drbd_core::input::{AdminRequest, DigestLengths, Input};
use drbd_core::link::{LinkError, VolumeNumber};
use drbd_core::time::Duration;
use drbd_format::disk::superblock::Superblock;
use drbd_format::types::{ConnState, DiskState};
use drbd_format::wire::command::Command;
use pair::node::{command_of, Node, V};

/// Sectors of the recorded devices.
const SECTORS: u64 = 8112;

/// A packet as it was on the wire.
#[derive(Clone)]
struct Recorded {
    command: u16,
    header_len: usize,
    bytes: Vec<u8>,
}

impl Recorded {
    fn body(&self) -> &[u8] {
        &self.bytes[self.header_len..]
    }

    fn is(&self, command: Command) -> bool {
        self.command == command.to_wire()
    }
}

fn recorded(name: &str) -> Vec<u8> {
    // Of whichever package these tests are compiled with.
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = package.ancestors().map(|top| top.join("tests/golden"));
    let golden = golden.filter(|folder| folder.is_dir()).last();
    let path = golden.unwrap_or_default().join("recorded/plain").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Cuts a stream into its packets. The first one, which tells the sockets apart, is the shell's.
fn packets(mut bytes: &[u8]) -> Vec<Recorded> {
    let number = |at: &[u8]| {
        at.iter()
            .fold(0_usize, |all, &byte| all << 8 | usize::from(byte))
    };
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (header_len, len) = match bytes[..2] {
            [0x86, 0x20] => (16, number(&bytes[8..12])),
            [0x83, 0x5a] => (8, number(&bytes[4..8])),
            _ => (8, number(&bytes[6..8])),
        };
        let (packet, rest) = bytes.split_at(header_len + len);
        all.push(Recorded {
            command: command_of(packet),
            header_len,
            bytes: packet.to_vec(),
        });
        bytes = rest;
    }
    all.retain(|packet| !packet.is(Command::InitialData) && !packet.is(Command::InitialMeta));
    all
}

fn stream(name: &str) -> Vec<Recorded> {
    packets(&recorded(name))
}

fn drained(bytes: &mut VecDeque<u8>) -> Vec<Recorded> {
    let bytes: Vec<u8> = bytes.drain(..).collect();
    packets(&bytes)
}

fn commands(packets: &[Recorded]) -> Vec<u16> {
    packets.iter().map(|packet| packet.command).collect()
}

/// The node of the recording that was Secondary.
struct Replay {
    node: Node,
    /// What it said so far.
    data: Vec<Recorded>,
    meta: Vec<Recorded>,
    /// What the other node answers to a ping.
    pong: Vec<u8>,
}

impl Replay {
    fn new() -> Self {
        let mut node = Node::new(2, SECTORS, 0);
        let number = VolumeNumber(0);
        node.admin(AdminRequest::NewVolume { volume: V, number });
        node.attach(DiskConfig::DEFAULT);
        let mut replay = Self {
            node,
            data: Vec::new(),
            meta: Vec::new(),
            pong: stream("stream09-ms.bin")[0].bytes.clone(),
        };
        replay.run();
        replay
    }

    fn run(&mut self) {
        while self.node.step() {
            self.data.extend(drained(&mut self.node.data_out));
            let said = drained(&mut self.node.meta_out);
            let pings = said
                .iter()
                .filter(|packet| packet.is(Command::Ping))
                .count();
            for _ in 0..pings {
                self.node.meta_in.extend(&self.pong);
            }
            self.meta.extend(said);
        }
    }

    fn connect(&mut self) {
        self.data.clear();
        self.meta.clear();
        self.node.sockets_up(false, 1);
        self.run();
    }

    fn hear(&mut self, packet: &Recorded) {
        self.node.data_in.extend(&packet.bytes);
        self.run();
    }

    fn hear_meta(&mut self, packet: &Recorded) {
        self.node.meta_in.extend(&packet.bytes);
        self.run();
    }

    /// The peer is gone.
    fn end(&mut self) {
        let now = self.node.now;
        if self.node.linked {
            self.node.linked = false;
            self.node.lost = true;
            let lost = Input::LinkLost(LinkError::BrokenPipe);
            self.node.core.handle(&lost, now);
        }
        self.run();
        self.until(|replay| replay.node.connecting.then_some(()));
    }

    /// Lets time pass until there is an answer.
    fn until<T>(&mut self, answer: impl Fn(&Self) -> Option<T>) -> T {
        for _ in 0..100 {
            if let Some(found) = answer(self) {
                return found;
            }
            self.node.now = self.node.now.after(Duration::from_millis(100));
            self.node.core.on_timer(self.node.now);
            self.run();
        }
        panic!("not within ten seconds: {:#?}", self.node.log);
    }

    fn superblock(&self) -> Superblock {
        let block = self.node.disk.superblock.as_ref().expect("written");
        Superblock::decode(block).expect("we wrote it")
    }
}

/// First connection, promotion of the peer, writes of several sizes, discards, disconnect.
fn first_session() -> Replay {
    let mut replay = Replay::new();
    let config = NetConfig::DEFAULT;
    let digests = DigestLengths::default();
    let node = &mut replay.node;
    node.admin(AdminRequest::Connect { config, digests });
    replay.run();
    replay.connect();
    let ping = stream("stream04-ms.bin");
    for packet in stream("stream01-ms.bin") {
        replay.hear(&packet);
        if packet.is(Command::State) && replay.meta.is_empty() {
            replay.hear_meta(&ping[0]);
        }
    }
    replay
}

#[test]
fn a_secondary_says_to_a_recorded_primary_what_the_c_driver_said() {
    let replay = first_session();
    assert_eq!(
        commands(&replay.data),
        commands(&stream("stream02-sm.bin")),
        "{:#?}",
        replay.node.log
    );
    // Acks name sectors, sizes, block ids and their place in the sequence: byte for byte.
    let theirs = stream("stream03-sm.bin");
    assert_eq!(commands(&replay.meta), commands(&theirs));
    for (ours, theirs) in replay.meta.iter().zip(&theirs) {
        assert_eq!(ours.bytes, theirs.bytes);
    }
}

#[test]
fn what_a_recorded_primary_wrote_is_on_the_disk() {
    let mut replay = first_session();
    let mut expected = vec![0_u8; SECTORS as usize * 512];
    for packet in stream("stream01-ms.bin") {
        let sector = |body: &[u8]| u64::from_be_bytes(body[..8].try_into().unwrap()) as usize;
        let body = packet.body();
        if packet.is(Command::Data) {
            let (fixed, data) = body.split_at(24);
            let at = sector(fixed) * 512;
            expected[at..at + data.len()].copy_from_slice(data);
        } else if packet.is(Command::Trim) || packet.is(Command::Zeroes) {
            let len = u32::from_be_bytes(body[24..28].try_into().unwrap()) as usize;
            let at = sector(body) * 512;
            expected[at..at + len].fill(0);
        }
    }
    assert!(replay.node.disk.data == expected);
    assert_eq!(replay.node.state().disk, DiskState::UpToDate);
}

/// The peer was written to meanwhile; it comes back with a bitmap.
#[test]
fn a_recorded_resync_ends_with_the_generations_that_the_c_driver_had() {
    let mut replay = first_session();
    replay.end();
    replay.connect();
    let theirs = stream("stream07-sm.bin");
    let uuids = |said: &[Recorded]| {
        let uuids = said.iter().find(|packet| packet.is(Command::Uuids));
        uuids.expect("UUIDs").body().to_vec()
    };
    let asked = |said: &[Recorded]| {
        let requests = said
            .iter()
            .filter(|packet| packet.is(Command::RsDataRequest));
        requests
            .map(|packet| {
                let body = packet.body();
                (
                    body[..8].to_vec(),
                    body[16..20].to_vec(),
                    body[8..16].to_vec(),
                )
            })
            .collect::<Vec<_>>()
    };
    for mut packet in stream("stream08-ms.bin") {
        if packet.is(Command::RsDataReply) {
            // The recorded node named its requests in its own way.
            let sector = packet.body()[..8].to_vec();
            let id = replay.until(|replay| {
                let requests = asked(&replay.data).into_iter();
                let mut same = requests.filter(|request| request.0 == sector);
                same.next().map(|(_, _, id)| id)
            });
            let at = packet.header_len + 8;
            packet.bytes[at..at + 8].copy_from_slice(&id);
        }
        replay.hear(&packet);
    }
    assert_eq!(
        uuids(&replay.data),
        uuids(&theirs),
        "{:#?}",
        replay.node.log
    );
    let places = |said| -> Vec<_> {
        let requests = asked(said).into_iter();
        requests.map(|(sector, len, _)| (sector, len)).collect()
    };
    assert_eq!(places(&replay.data), places(&theirs));
    assert_eq!(replay.node.state().conn, ConnState::Connected);
    assert_eq!(replay.node.state().disk, DiskState::UpToDate);

    replay.end();
    let theirs = Superblock::decode(&recorded("superblock-clean.bin")).expect("the C driver's");
    let ours = replay.superblock();
    assert_eq!(ours.uuids, theirs.uuids);
    assert_eq!(ours.la_size, theirs.la_size);
}
