//! How a node gets into each state: stories of two nodes, recorded once, replayed for each input.
//!
//! A story is told by two real cores. What happened to the first one is kept, packet by packet;
//! any beginning of it leads one node, without a second one, to where the attack starts.

use std::sync::OnceLock;

use drbd_core::config::{DiskConfig, Name, NetConfig};
use drbd_core::data::AppIo;
use drbd_core::input::{AdminRequest, DigestLengths};
use drbd_core::link::{LinkError, VolumeIndex, VolumeNumber};
use drbd_core::request::Op;
use drbd_core::time::Duration;
use drbd_format::disk::superblock::MdFlags;
use drbd_format::types::{OnCongestion, Protocol, Role};
use drbd_format::wire::command::Stream;
use drbd_format::wire::features::Terms;
use drbd_format::wire::packet::{decode_front, Packet};

use crate::node::{app_io, Generation, Node, Sent, DIGEST_LEN, MAX_BUFFERS, V, VOLUMES};

/// Events of a story, at most.
const EVENTS_MAX: usize = 160;

/// Something that happens to a node.
#[derive(Clone, Debug)]
pub enum Event {
    /// A command.
    Admin(Box<AdminRequest>),
    /// An application wants something.
    App(AppIo),
    /// A disk is attached.
    Attach(VolumeIndex, DiskConfig),
    /// Bytes on the data socket.
    Data(Vec<u8>),
    /// Bytes on the meta socket.
    Meta(Vec<u8>),
    /// The end of the stream.
    End,
    /// Milliseconds pass.
    Pass(u64),
    /// A connection is there.
    SocketsUp,
}

impl Event {
    /// Lets it happen.
    pub fn happen(&self, node: &mut Node) {
        match self {
            Self::Admin(request) => node.admin(request),
            Self::App(io) => node.submit(io),
            Self::Attach(volume, config) => node.attach(*volume, *config),
            Self::Data(bytes) => node.arrive(false, bytes),
            Self::Meta(bytes) => node.arrive(true, bytes),
            Self::End => node.lose_link(LinkError::BrokenPipe),
            Self::Pass(millis) => node.pass(Duration::from_millis(*millis)),
            Self::SocketsUp => node.sockets_up(),
        }
        node.settle();
    }
}

fn command(request: AdminRequest) -> Event {
    Event::Admin(Box::new(request))
}

/// A recorded story.
pub struct Story {
    generations: [Generation; VOLUMES as usize],
    /// What happened.
    pub events: Vec<Event>,
}

impl Story {
    /// A node to which the first `len` events have happened.
    pub fn begin(&self, len: usize) -> Node {
        let mut node = Node::new(1, self.generations);
        for event in self.events.iter().take(len) {
            event.happen(&mut node);
            node.outbox.clear();
        }
        node
    }
}

/// All stories.
pub fn stories() -> &'static [Story] {
    static STORIES: OnceLock<Vec<Story>> = OnceLock::new();
    STORIES.get_or_init(|| TELLERS.iter().map(|tell| tell()).collect())
}

const TELLERS: &[fn() -> Story] = &[
    first_sync,
    becomes_target,
    bitmap_source,
    bitmap_target,
    verify_here,
    verify_there,
    congested,
    peer_congested,
    diskless,
    peer_diskless,
    two_primaries,
    old_protocol,
    split_brain,
    checksum_target,
    old_writes,
    two_volumes,
    paused,
    invalidated,
    invalidates,
];

const GOOD: u32 = MdFlags::CONSISTENT.0 | MdFlags::WAS_UP_TO_DATE.0 | MdFlags::AL_CLEAN.0;

/// As `create-md` leaves it.
const NEW: Generation = Generation {
    uuids: [4, 0, 0, 0],
    flags: MdFlags::AL_CLEAN.0,
    bitmap: 0xff,
};

/// Both have the same data.
const EQUAL: Generation = Generation {
    uuids: [0x1230, 0, 0, 0],
    flags: GOOD,
    bitmap: 0,
};

/// Has gone on without its peer, which is [`EQUAL`].
const AHEAD: Generation = Generation {
    uuids: [0x4560, 0x1230, 0, 0],
    flags: GOOD,
    bitmap: 0x31,
};

/// Has gone on without its peer as well.
const OTHER: Generation = Generation {
    uuids: [0x7890, 0x1230, 0, 0],
    flags: GOOD,
    bitmap: 0x0c,
};

/// Two nodes and what happened to the first.
struct Teller {
    a: Node,
    b: Node,
    generations: [Generation; VOLUMES as usize],
    events: Vec<Event>,
    version_max: u32,
    net: NetConfig,
    digests: DigestLengths,
    disk: DiskConfig,
}

impl Teller {
    fn new(a: Generation, b: Generation) -> Self {
        Self::with_volumes(VOLUMES, a, b)
    }

    fn with_volumes(volumes: u8, a: Generation, b: Generation) -> Self {
        let generations = [a, EQUAL];
        let mut teller = Self {
            a: Node::new(1, generations),
            b: Node::new(2, [b, EQUAL]),
            generations,
            events: Vec::new(),
            version_max: 101,
            net: NetConfig {
                max_buffers: MAX_BUFFERS,
                ..NetConfig::DEFAULT
            },
            digests: DigestLengths::default(),
            disk: DiskConfig::DEFAULT,
        };
        teller.a.heard = true;
        teller.b.heard = true;
        for number in 0..volumes {
            let volume = VolumeIndex(number);
            let number = VolumeNumber(u16::from(number));
            teller.both(&command(AdminRequest::NewVolume { volume, number }));
        }
        teller
    }

    /// All algorithms that there are.
    fn with_digests(mut self) -> Self {
        let name = |text: &[u8]| Name::new(text).unwrap_or(Name::EMPTY);
        self.net.shared_secret = name(b"secret");
        self.net.cram_hmac_alg = name(b"sha1");
        self.net.integrity_alg = name(b"md5");
        self.net.verify_alg = name(b"md5");
        self.net.csums_alg = name(b"md5");
        let len = u8::try_from(DIGEST_LEN).unwrap_or(0);
        self.digests = DigestLengths {
            hmac: len,
            integrity: len,
            verify: len,
            csums: len,
        };
        self
    }

    fn attach(&mut self) {
        let disk = self.disk;
        self.here(Event::Attach(V, disk));
        self.there(&Event::Attach(V, disk));
    }

    fn connect(&mut self) {
        let (config, digests) = (self.net, self.digests);
        self.both(&command(AdminRequest::Connect { config, digests }));
        self.carry();
    }

    fn promotion(force: bool) -> Event {
        command(AdminRequest::SetRole {
            volume: V,
            role: Role::Primary,
            force,
        })
    }

    fn here(&mut self, event: Event) {
        if self.events.len() < EVENTS_MAX {
            event.happen(&mut self.a);
            self.events.push(event);
        }
    }

    fn there(&mut self, event: &Event) {
        event.happen(&mut self.b);
    }

    fn both(&mut self, event: &Event) {
        self.here(event.clone());
        self.there(event);
    }

    /// Carries packets, and lets time pass when there are none, until the story is long enough or
    /// nothing happens any more.
    fn carry(&mut self) {
        let mut quiet = 0;
        while quiet < 3 && self.events.len() < EVENTS_MAX {
            if self.exchange() {
                quiet = 0;
            } else {
                quiet += 1;
                self.both(&Event::Pass(100));
            }
        }
    }

    fn exchange(&mut self) -> bool {
        let ready = |node: &Node| node.wanted && !node.linked;
        if ready(&self.a) && ready(&self.b) {
            self.both(&Event::SocketsUp);
            return true;
        }
        let from_a: Vec<Sent> = std::mem::take(&mut self.a.outbox);
        let active = !from_a.is_empty();
        for sent in from_a {
            let event = self.on_the_way(sent);
            self.there(&event);
        }
        if self.b.outbox.is_empty() {
            return active || self.ends();
        }
        let sent = self.b.outbox.remove(0);
        let event = self.on_the_way(sent);
        self.here(event);
        true
    }

    /// Whoever has not hung up learns that the other one has.
    fn ends(&mut self) -> bool {
        if self.a.hears() && !self.b.linked {
            self.here(Event::End);
        } else if self.b.hears() && !self.a.linked {
            self.there(&Event::End);
        } else {
            return false;
        }
        true
    }

    /// Older peers are played by changing what both say they can do.
    fn on_the_way(&self, sent: Sent) -> Event {
        if sent.meta {
            return Event::Meta(sent.bytes);
        }
        let terms = Terms::INITIAL;
        if let Ok(Some(found)) = decode_front(&terms, Stream::Data, &sent.bytes) {
            if let Packet::ConnectionFeatures(mut offer) = found.packet {
                offer.max = offer.max.min(self.version_max);
                let mut bytes = vec![0; 256];
                let packet = Packet::ConnectionFeatures(offer);
                if let Ok(len) = packet.encode(&terms, 0, &mut bytes) {
                    bytes.truncate(len);
                    return Event::Data(bytes);
                }
            }
        }
        Event::Data(sent.bytes)
    }

    fn end(self) -> Story {
        Story {
            generations: self.generations,
            events: self.events,
        }
    }
}

fn first_sync() -> Story {
    let mut teller = Teller::new(NEW, NEW);
    teller.attach();
    teller.connect();
    teller.here(Teller::promotion(true));
    teller.carry();
    teller.end()
}

fn becomes_target() -> Story {
    let mut teller = Teller::new(NEW, NEW);
    teller.attach();
    teller.connect();
    teller.there(&Teller::promotion(true));
    teller.carry();
    teller.end()
}

fn bitmap_source() -> Story {
    let mut teller = Teller::new(AHEAD, EQUAL).with_digests();
    teller.attach();
    teller.connect();
    teller.end()
}

fn bitmap_target() -> Story {
    let mut teller = Teller::new(EQUAL, AHEAD);
    teller.net.use_rle = false;
    teller.attach();
    teller.connect();
    teller.end()
}

fn checksum_target() -> Story {
    let mut teller = Teller::new(EQUAL, AHEAD).with_digests();
    teller.attach();
    teller.connect();
    teller.end()
}

fn verification() -> Event {
    command(AdminRequest::Verify {
        volume: V,
        start: Some(0),
        stop: u64::MAX,
    })
}

fn verify_here() -> Story {
    let mut teller = Teller::new(EQUAL, EQUAL).with_digests();
    teller.attach();
    teller.connect();
    teller.here(verification());
    teller.carry();
    teller.end()
}

fn verify_there() -> Story {
    let mut teller = Teller::new(EQUAL, EQUAL).with_digests();
    teller.attach();
    teller.connect();
    teller.there(&verification());
    teller.carry();
    teller.end()
}

/// Protocol A with a link that counts as congested at once.
fn congestible() -> Teller {
    let mut teller = Teller::new(EQUAL, EQUAL);
    teller.net.protocol = Protocol::A;
    teller.net.on_congestion = OnCongestion::PullAhead;
    teller.net.congestion_fill = 8;
    teller.net.congestion_extents = 1;
    teller.attach();
    teller.connect();
    teller
}

fn burst(mut write: impl FnMut(Event)) {
    for number in 0..8 {
        write(Event::App(app_io(Op::Write, number * 2048, 8192)));
    }
}

fn congested() -> Story {
    let mut teller = congestible();
    teller.here(Teller::promotion(false));
    teller.carry();
    burst(|event| teller.here(event));
    teller.carry();
    teller.end()
}

fn peer_congested() -> Story {
    let mut teller = congestible();
    teller.there(&Teller::promotion(false));
    teller.carry();
    burst(|event| teller.there(&event));
    teller.carry();
    teller.end()
}

fn diskless() -> Story {
    let mut teller = Teller::new(EQUAL, EQUAL);
    let disk = teller.disk;
    teller.there(&Event::Attach(V, disk));
    teller.connect();
    teller.here(Teller::promotion(false));
    teller.carry();
    for op in [Op::Read, Op::Write, Op::Flush] {
        let len = if op == Op::Flush { 0 } else { 4096 };
        teller.here(Event::App(app_io(op, 64, len)));
    }
    teller.carry();
    teller.end()
}

fn peer_diskless() -> Story {
    let mut teller = Teller::new(EQUAL, EQUAL);
    let disk = teller.disk;
    teller.here(Event::Attach(V, disk));
    teller.connect();
    teller.there(&Teller::promotion(false));
    teller.carry();
    teller.there(&Event::App(app_io(Op::Read, 64, 4096)));
    teller.carry();
    teller.end()
}

fn two_primaries() -> Story {
    let mut teller = Teller::new(EQUAL, EQUAL);
    teller.net.two_primaries = true;
    teller.attach();
    teller.connect();
    teller.both(&Teller::promotion(false));
    teller.carry();
    teller.both(&Event::App(app_io(Op::Write, 64, 4096)));
    teller.carry();
    teller.end()
}

/// Before volumes had numbers on the wire.
fn old_protocol() -> Story {
    let mut teller = Teller::with_volumes(1, AHEAD, EQUAL);
    teller.version_max = 87;
    teller.attach();
    teller.connect();
    teller.there(&Teller::promotion(false));
    teller.carry();
    teller.there(&Event::App(app_io(Op::Write, 64, 4096)));
    teller.carry();
    teller.end()
}

/// The resync of this node, then that of the other one rests.
fn paused() -> Story {
    let mut teller = Teller::new(NEW, NEW);
    teller.attach();
    teller.connect();
    teller.there(&Teller::promotion(true));
    for _ in 0..8 {
        teller.exchange();
    }
    let pause = command(AdminRequest::PauseSync { volume: V });
    teller.here(pause.clone());
    for _ in 0..24 {
        teller.exchange();
    }
    let resume = command(AdminRequest::ResumeSync { volume: V });
    teller.here(resume);
    teller.exchange();
    teller.there(&pause);
    teller.carry();
    teller.end()
}

/// Either data are given up by command.
fn invalidated() -> Story {
    let mut teller = Teller::new(EQUAL, EQUAL);
    teller.attach();
    teller.connect();
    let volume = V;
    teller.here(command(AdminRequest::Invalidate { volume }));
    for _ in 0..24 {
        teller.exchange();
    }
    teller.there(&command(AdminRequest::PauseSync { volume }));
    teller.carry();
    teller.end()
}

/// As above, the other way round.
fn invalidates() -> Story {
    let mut teller = Teller::new(EQUAL, EQUAL);
    teller.attach();
    teller.connect();
    let volume = V;
    teller.here(command(AdminRequest::InvalidateRemote { volume }));
    for _ in 0..24 {
        teller.exchange();
    }
    teller.there(&command(AdminRequest::PauseSync { volume }));
    teller.carry();
    teller.end()
}

fn split_brain() -> Story {
    let mut teller = Teller::new(AHEAD, OTHER);
    teller.attach();
    teller.connect();
    teller.end()
}

/// Protocol B of version 95.
fn old_writes() -> Story {
    let mut teller = Teller::with_volumes(1, EQUAL, EQUAL);
    teller.version_max = 95;
    teller.net.protocol = Protocol::B;
    teller.attach();
    teller.connect();
    writes(teller)
}

/// Two volumes with disks.
fn two_volumes() -> Story {
    let mut teller = Teller::new(EQUAL, EQUAL);
    let disk = teller.disk;
    teller.attach();
    teller.both(&Event::Attach(VolumeIndex(1), disk));
    teller.connect();
    writes(teller)
}

fn writes(mut teller: Teller) -> Story {
    teller.here(Teller::promotion(false));
    teller.carry();
    burst(|event| teller.here(event));
    teller.here(Event::App(app_io(Op::Discard, 4096, 1 << 20)));
    teller.carry();
    teller.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use drbd_format::types::ConnState;

    /// Where an attack begins is worth nothing if stories do not lead there.
    #[test]
    fn stories_lead_to_every_state_of_a_connection() {
        let mut seen = Vec::new();
        for story in stories() {
            let mut node = Node::new(1, story.generations);
            for event in &story.events {
                event.happen(&mut node);
                node.outbox.clear();
                let state = node.state().conn;
                if !seen.contains(&state) {
                    seen.push(state);
                }
            }
            assert!(story.events.len() > 8, "a story ends early");
        }
        // States in which nothing arrives, and those that last only while the disk is written.
        let short = ConnState::Disconnecting..=ConnState::TearDown;
        let writing = ConnState::StartingSyncS..=ConnState::StartingSyncT;
        let missing: Vec<_> = ConnState::ALL
            .iter()
            .filter(|state| !short.contains(state) && !writing.contains(state))
            .filter(|state| !seen.contains(state))
            .collect();
        assert_eq!(missing, Vec::<&ConnState>::new());
    }
}
