//! The receiver thread outside of packets: two sockets come about, and go.

use drbd_core::establish::{Establish, FirstPacket, Placement, Step, Stream};
use drbd_core::input::Input;
use drbd_core::put_back::{put_back, Bug};
use drbd_format::wire::command::Command;
use drbd_format::wire::features::ProtocolVersion;
use drbd_format::wire::header::Header;

use crate::network::{EndId, Owner, Received};
use crate::node::{Link, Packet, Receiver, Thread};
use crate::world::{Event, World, MILLI, SECOND};

/// Length of the packet that tells what a stream is for.
const FIRST_LEN: usize = 8;

impl World {
    /// The control plane wants a connection.
    pub(crate) fn start_connect(&mut self, node: usize) {
        if let Some(alive) = self.alive(node) {
            alive.wanted = true;
            alive.started = true;
        }
        self.ring(node, Thread::Receiver);
    }

    /// The control plane wants the connection, or the attempt, to end.
    pub(crate) fn close_sockets(&mut self, node: usize) {
        if let Some(alive) = self.alive(node) {
            alive.wanted = false;
        }
        self.close_link(node);
        self.ring(node, Thread::Receiver);
    }

    /// Runs the receiver thread until it waits.
    pub(crate) fn run_receiver(&mut self, node: usize) {
        loop {
            let Some(alive) = self.alive(node) else {
                return;
            };
            let wanted = alive.wanted;
            let attempt = !matches!(
                alive.receiver,
                Receiver::Idle | Receiver::Serving(_) | Receiver::Lost
            );
            if attempt && !wanted {
                self.give_up(node);
                continue;
            }
            match &alive.receiver {
                Receiver::Idle if !alive.started => return,
                Receiver::Idle => self.begin_attempt(node),
                Receiver::Serving(_) => {
                    let Some(error) = self.serve(node) else {
                        return;
                    };
                    self.link_lost(node, error);
                    self.set_receiver(node, Receiver::Lost);
                }
                Receiver::Lost if wanted => return,
                Receiver::Lost => self.end_link(node),
                _ => {
                    if !self.attempt_step(node) {
                        return;
                    }
                }
            }
        }
    }

    fn set_receiver(&mut self, node: usize, receiver: Receiver) {
        if let Some(alive) = self.alive(node) {
            alive.receiver = receiver;
        }
    }

    /// A resource of the node's configuration, in milliseconds.
    fn times_ns(&mut self, node: usize) -> (u64, u64) {
        let net = self.core(node).and_then(|core| core.net_config().copied());
        let net = net.unwrap_or(drbd_core::config::NetConfig::DEFAULT);
        let connect = u64::from(net.connect_int_secs) * SECOND;
        (connect, u64::from(net.ping_timeout_tenths) * 100 * MILLI)
    }

    fn begin_attempt(&mut self, node: usize) {
        self.net.backlog[node] = Some(Default::default());
        if let Some(alive) = self.alive(node) {
            // One that was taken back at once is answered like any other.
            alive.started = false;
            alive.establish = Establish::new();
            alive.slots = [None, None];
            alive.receiver = Receiver::Establishing;
        }
    }

    /// Nobody wants the connection any more.
    fn give_up(&mut self, node: usize) {
        if !put_back(Bug::ListenerOutlivesAttempt) {
            self.close_listener(node);
        }
        let Some(alive) = self.alive(node) else {
            return;
        };
        let state = std::mem::take(&mut alive.receiver);
        let mut ends: Vec<EndId> = alive.slots.iter_mut().filter_map(Option::take).collect();
        match state {
            Receiver::FirstPacket(end, _) | Receiver::Connected(Some(end)) => ends.push(end),
            _ => {}
        }
        for end in ends {
            self.close_end(end);
        }
        self.handle(node, &Input::ReceiverGone);
    }

    fn close_listener(&mut self, node: usize) {
        for end in self.net.backlog[node].take().into_iter().flatten() {
            self.close_end(end);
        }
    }

    /// One step of establishing. False: it waits.
    fn attempt_step(&mut self, node: usize) -> bool {
        let now_ns = self.now_ns;
        let Some(alive) = self.alive(node) else {
            return false;
        };
        match alive.receiver {
            Receiver::Establishing => self.next_step(node),
            Receiver::Connected(end) => {
                alive.receiver = Receiver::Establishing;
                self.connected(node, end);
                true
            }
            Receiver::Probing(until) if now_ns >= until => {
                self.probed(node);
                true
            }
            Receiver::Accepting(until) => self.accepting(node, until),
            Receiver::FirstPacket(end, until) => self.first_packet(node, end, until),
            _ => false,
        }
    }

    fn next_step(&mut self, node: usize) -> bool {
        let (connect_ns, ping_ns) = self.times_ns(node);
        let coin = self.random.chance(50);
        let now_ns = self.now_ns;
        let Some(alive) = self.alive(node) else {
            return false;
        };
        match alive.establish.next(coin) {
            Step::Connect => {
                alive.receiver = Receiver::Connecting(now_ns + connect_ns);
                self.knock(node, connect_ns);
                false
            }
            Step::Probe => {
                alive.receiver = Receiver::Probing(now_ns + ping_ns);
                self.ring_at(node, Thread::Receiver, now_ns + ping_ns);
                false
            }
            Step::Accept { shorter } => {
                let seventh = connect_ns / 7;
                let wait = if shorter {
                    connect_ns - seventh
                } else {
                    connect_ns + seventh
                };
                alive.receiver = Receiver::Accepting(now_ns + wait);
                self.ring_at(node, Thread::Receiver, now_ns + wait);
                true
            }
            Step::Established { .. } => true,
        }
    }

    /// Tries to connect; the outcome comes as an event.
    fn knock(&mut self, node: usize, timeout_ns: u64) {
        let life = self.nodes[node].life;
        let there = self.net.delay_ns(&mut self.random);
        let opened = if self.net.cut {
            None
        } else {
            self.net.open(Owner { node, life }, 1 - node)
        };
        match opened {
            Some((_, other)) => self.after(there, Event::Knock(node, life, other)),
            None => self.after(timeout_ns, Event::ConnectDone(node, life, None)),
        }
    }

    /// A connect attempt has reached the peer: whether somebody listens there.
    pub fn knocked(&mut self, node: usize, life: u32, other: EndId) {
        let peer = 1 - node;
        let back = self.net.delay_ns(&mut self.random);
        let mine = self.net.other(other);
        let same_life = self.is_current(peer, self.net.owner(other).life);
        let accepted = match self.net.backlog[peer].as_mut().filter(|_| same_life) {
            Some(backlog) if backlog.len() < 8 => {
                backlog.push_back(other);
                Some(mine)
            }
            _ => None,
        };
        if accepted.is_some() {
            self.net.accept(mine);
            self.ring(peer, Thread::Receiver);
        }
        self.after(back, Event::ConnectDone(node, life, accepted));
    }

    /// A connect attempt has ended.
    pub fn connect_done(&mut self, node: usize, end: Option<EndId>) {
        let waits = self
            .alive(node)
            .is_some_and(|alive| matches!(alive.receiver, Receiver::Connecting(_)));
        if waits {
            self.set_receiver(node, Receiver::Connected(end));
            self.ring(node, Thread::Receiver);
        } else if let Some(end) = end {
            self.close_end(end);
        }
    }

    fn connected(&mut self, node: usize, end: Option<EndId>) {
        let Some(alive) = self.alive(node) else {
            return;
        };
        match (alive.establish.connected(end.is_some()), end) {
            (Placement::Keep(stream), Some(end)) => {
                let bytes = first_packet_bytes(stream);
                self.send_first(end, &bytes);
                self.keep(node, stream, end);
            }
            (_, Some(end)) => self.close_end(end),
            (_, None) => {}
        }
    }

    fn keep(&mut self, node: usize, stream: Stream, end: EndId) {
        let Some(alive) = self.alive(node) else {
            return;
        };
        let slot = match stream {
            Stream::Data => 0,
            Stream::Meta => 1,
        };
        if let Some(old) = alive.slots[slot].replace(end) {
            self.close_end(old);
        }
    }

    /// Looks at both sockets; closes what is dead.
    fn probe(&mut self, node: usize) -> (bool, bool) {
        let slots = self.alive(node).map_or([None, None], |alive| alive.slots);
        let mut lives = [false; 2];
        for (index, slot) in slots.into_iter().enumerate() {
            let Some(end) = slot else {
                continue;
            };
            lives[index] = self.net.is_alive(end);
            if !lives[index] {
                self.close_end(end);
                if let Some(alive) = self.alive(node) {
                    alive.slots[index] = None;
                }
            }
        }
        (lives[0], lives[1])
    }

    fn probed(&mut self, node: usize) {
        let (data, meta) = self.probe(node);
        let Some(alive) = self.alive(node) else {
            return;
        };
        alive.receiver = Receiver::Establishing;
        if let Some(Step::Established { resolver }) = alive.establish.probed(data, meta) {
            self.begin_link(node, resolver);
        }
    }

    fn accepting(&mut self, node: usize, until_ns: u64) -> bool {
        let (_, ping_ns) = self.times_ns(node);
        let now_ns = self.now_ns;
        let knocked = self.net.backlog[node].as_mut().and_then(|b| b.pop_front());
        if let Some(end) = knocked {
            let until = now_ns + 4 * ping_ns;
            self.set_receiver(node, Receiver::FirstPacket(end, until));
            self.ring_at(node, Thread::Receiver, until);
            return true;
        }
        if now_ns < until_ns {
            return false;
        }
        self.accepted(node, FirstPacket::Nobody, None);
        true
    }

    fn first_packet(&mut self, node: usize, end: EndId, until_ns: u64) -> bool {
        let first = if self.net.readable(end) >= FIRST_LEN {
            let mut bytes = Vec::new();
            match self.net.receive(end, FIRST_LEN, &mut bytes) {
                Received::Bytes => decode_first(&bytes),
                Received::Ended | Received::Nothing => FirstPacket::Unusable,
            }
        } else if self.now_ns >= until_ns || !self.net.is_open_for_more(end) {
            FirstPacket::Unusable
        } else {
            return false;
        };
        self.accepted(node, first, Some(end));
        true
    }

    fn accepted(&mut self, node: usize, first: FirstPacket, end: Option<EndId>) {
        let (data, meta) = self.probe(node);
        let Some(alive) = self.alive(node) else {
            return;
        };
        alive.receiver = Receiver::Establishing;
        match (alive.establish.accepted(first, data, meta), end) {
            (Placement::Keep(stream), Some(end)) => self.keep(node, stream, end),
            (_, Some(end)) => self.close_end(end),
            (_, None) => {}
        }
    }

    fn begin_link(&mut self, node: usize, resolver: bool) {
        self.close_listener(node);
        let Some(alive) = self.alive(node) else {
            return;
        };
        let [Some(data), Some(meta)] = alive.slots else {
            return;
        };
        alive.slots = [None, None];
        alive.link = Some(Link {
            data,
            meta,
            closing: false,
        });
        alive.data_bytes.clear();
        alive.meta_bytes.clear();
        self.witness.wire.begin(node);
        let Some(alive) = self.alive(node) else {
            return;
        };
        alive.receiver = Receiver::Serving(Packet::Header);
        let mut random = [0; 64];
        for byte in &mut random {
            *byte = self.random.below(256) as u8;
        }
        let random = &random;
        self.handle(node, &Input::SocketsUp { resolver, random });
        for thread in [Thread::Sender, Thread::Acks, Thread::MetaIn] {
            self.ring(node, thread);
        }
    }

    /// Joins the threads of the link and reports that nobody uses it any more.
    fn end_link(&mut self, node: usize) {
        self.close_link(node);
        self.run_sender(node);
        self.run_acks(node);
        if let Some(alive) = self.alive(node) {
            alive.link = None;
            alive.receiver = Receiver::Idle;
        }
        self.handle(node, &Input::ReceiverGone);
    }
}

fn first_packet_bytes(stream: Stream) -> [u8; FIRST_LEN] {
    let command = match stream {
        Stream::Data => Command::InitialData,
        Stream::Meta => Command::InitialMeta,
    };
    let header = Header {
        volume: 0,
        command: command.to_wire(),
        payload_len: 0,
    };
    let mut bytes = [0; FIRST_LEN];
    let _ = header.encode(ProtocolVersion::INITIAL, &mut bytes);
    bytes
}

fn decode_first(bytes: &[u8]) -> FirstPacket {
    let command = Header::decode(ProtocolVersion::INITIAL, bytes)
        .ok()
        .and_then(|header| Command::from_wire(header.command).ok());
    match command {
        Some(Command::InitialData) => FirstPacket::Initial(Stream::Data),
        Some(Command::InitialMeta) => FirstPacket::Initial(Stream::Meta),
        Some(_) | None => FirstPacket::Unusable,
    }
}
