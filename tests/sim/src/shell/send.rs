//! Senders of both sockets.

use drbd_core::data::Payload;
use drbd_core::input::Input;
use drbd_core::link::{LinkError, VolumeIndex};
use drbd_format::types::WriteOrdering;

use crate::digest;
use crate::network::{EndId, Received};
use crate::node::{Alive, Outbound, Thread};
use crate::world::{World, MILLI};

/// Packets pulled at once, at most.
const BATCH: u64 = 32;
/// Payload pulled at once: no more packets above that; eight bytes stand for a sector.
const BATCH_BYTES: usize = (4 << 20) / 512 * 8;

/// Appends payload to a stream: eight bytes stand for a sector.
fn push_payload(bytes: &mut Outbound, sectors: &[u64], with_digest: bool) {
    if with_digest {
        bytes.extend(&digest::of(sectors));
    }
    bytes.extend_sectors(sectors);
}

/// A packet on its way into the data socket.
struct Pulled {
    /// Header and fixed part.
    front_len: usize,
    header_len: usize,
    payload: Payload,
    /// Number of sectors, and the content of the first one.
    data: (u64, u64),
}

impl Pulled {
    /// Its name for the trace.
    fn describe(&self, front: &[u8]) -> String {
        let command = crate::trace::command(front, self.header_len);
        format!("sends {command} {:?}", self.payload)
    }
}

/// Takes a packet and appends it to `bytes`.
fn pull(
    alive: &mut Alive,
    now: drbd_core::time::Instant,
    bytes: &mut Outbound,
    buffer: &mut [u8],
) -> Option<Pulled> {
    let out = alive.core.next_packet(buffer, now)?;
    bytes.extend(&buffer[..out.len]);
    let taken;
    let data = match out.payload {
        Payload::None => &[],
        Payload::App(id) => {
            let bio = alive.app.get(id.slot as usize).and_then(Option::as_ref);
            bio.map_or(&[][..], |bio| &bio.data)
        }
        Payload::Peer(id) => {
            taken = alive.peer[id.slot as usize].take().unwrap_or_default();
            &taken
        }
    };
    if out.payload != Payload::None {
        push_payload(bytes, data, out.digest);
    }
    alive.batch.tokens.push(out.token);
    Some(Pulled {
        front_len: out.len,
        header_len: alive.core.header_len(),
        payload: out.payload,
        data: (data.len() as u64, data.first().copied().unwrap_or(0)),
    })
}

impl World {
    /// The end of a socket of the link, if it may be used.
    pub(super) fn end(&mut self, node: usize, meta: bool) -> Option<EndId> {
        let link = self.alive(node)?.link.filter(|link| !link.closing)?;
        Some(if meta { link.meta } else { link.data })
    }

    /// Sends on the data socket until it takes no more or there is nothing to send.
    pub(crate) fn run_sender(&mut self, node: usize) {
        loop {
            let Some(end) = self.end(node, false) else {
                self.end_batch(node, false);
                return;
            };
            self.fill_batch(node);
            let Some(alive) = self.alive(node) else {
                return;
            };
            if alive.batch.bytes.is_empty() {
                if alive.batch.tokens.is_empty() {
                    return;
                }
                self.end_batch(node, true);
                continue;
            }
            match self.send_bytes(node, end, false) {
                None => {
                    self.end_batch(node, false);
                    self.link_lost(node, LinkError::BrokenPipe);
                    return;
                }
                Some(0) => {
                    self.send_blocked(node);
                    return;
                }
                Some(taken) => {
                    let now_ns = self.now_ns;
                    if let Some(alive) = self.alive(node) {
                        alive.batch.bytes.took(taken);
                        alive.batch.since_ns = now_ns;
                    }
                }
            }
        }
    }

    fn fill_batch(&mut self, node: usize) {
        let most = self.random.between(1, BATCH);
        let now_ns = self.now_ns;
        let Some(alive) = self.alive(node) else {
            return;
        };
        if !alive.batch.tokens.is_empty() {
            return;
        }
        alive.batch.since_ns = now_ns;
        let mut bytes = std::mem::take(&mut alive.batch.bytes);
        let first = bytes.len();
        let mut buffer = std::mem::take(&mut self.scratch);
        for _ in 0..most {
            let start = bytes.len();
            if start - first >= BATCH_BYTES {
                break;
            }
            let Some(pulled) = self.look(node, Thread::Sender, |alive, now| {
                pull(alive, now, &mut bytes, &mut buffer)
            }) else {
                break;
            };
            let packet = bytes.from(start);
            let front = &packet[..pulled.front_len];
            self.trace(node, || pulled.describe(front));
            self.listen(node, front, pulled.data);
            self.rewrite(node, packet);
        }
        self.scratch = buffer;
        if let Some(alive) = self.alive(node) {
            alive.batch.bytes = bytes;
        }
    }

    /// Reports what became of the packets of the batch.
    fn end_batch(&mut self, node: usize, ok: bool) {
        let Some(alive) = self.alive(node) else {
            return;
        };
        alive.batch.bytes.clear();
        let tokens = std::mem::take(&mut alive.batch.tokens);
        if tokens.is_empty() {
            return;
        }
        self.with(node, |alive, now| {
            for token in tokens {
                alive.core.sent(token, ok, now);
            }
        });
    }

    /// The socket took nothing: a timeout is reported once for each `timeout`.
    fn send_blocked(&mut self, node: usize) {
        let (now_ns, timeout_ns) = (self.now_ns, self.send_timeout_ns(node));
        let Some(alive) = self.alive(node) else {
            return;
        };
        if now_ns >= alive.batch.since_ns + timeout_ns {
            alive.batch.since_ns = now_ns;
            self.trace(node, || "send timeout".to_string());
            self.handle(node, &Input::SendTimeout);
        }
        let Some(alive) = self.alive(node) else {
            return;
        };
        let at = alive.batch.since_ns + timeout_ns;
        if alive.batch.alarm_ns <= now_ns {
            alive.batch.alarm_ns = at;
            self.ring_at(node, Thread::Sender, at);
        }
    }

    /// Takes acks that are due. False: there are none.
    fn fill_acks(&mut self, node: usize) -> bool {
        let mut buffer = std::mem::take(&mut self.scratch);
        let out = self.look(node, Thread::Acks, |alive, now| {
            alive.core.next_acks(&mut buffer[..4096], now)
        });
        if let Some(len) = out {
            let bytes = &mut buffer[..len];
            self.rewrite(node, bytes);
            self.trace(node, || crate::trace::acks(bytes));
            self.listen_to_acks(node, bytes);
            let now_ns = self.now_ns;
            if let Some(alive) = self.alive(node) {
                alive.acks.bytes.extend(bytes);
                alive.acks.sending = true;
                alive.acks.since_ns = now_ns;
            }
        }
        self.scratch = buffer;
        out.is_some()
    }

    /// Sends acks until there are none.
    pub(crate) fn run_acks(&mut self, node: usize) {
        loop {
            let end = self.end(node, true);
            let Some(alive) = self.alive(node) else {
                return;
            };
            let Some(end) = end else {
                self.end_acks(node);
                return;
            };
            if alive.acks.bytes.is_empty() {
                if alive.acks.sending {
                    self.end_acks(node);
                    continue;
                }
                if !self.fill_acks(node) {
                    self.barrier_may_be_over(node);
                    return;
                }
            }
            match self.send_bytes(node, end, true) {
                None => {
                    self.end_acks(node);
                    self.link_lost(node, LinkError::NetworkFailure);
                    return;
                }
                Some(0) => {
                    self.acks_blocked(node);
                    return;
                }
                Some(taken) => {
                    let now_ns = self.now_ns;
                    if let Some(alive) = self.alive(node) {
                        alive.acks.bytes.took(taken);
                        alive.acks.since_ns = now_ns;
                    }
                }
            }
        }
    }

    /// Lets the checkers hear what a node says on its meta socket.
    fn listen_to_acks(&mut self, node: usize, bytes: &[u8]) {
        let Some(alive) = self.nodes[node].alive.as_deref() else {
            return;
        };
        if alive.core.data.ordering() != WriteOrdering::Flush {
            return;
        }
        let terms = *alive.core.data.terms();
        // Nobody relies on what a disk holds that was given up.
        let in_use = [0, 1].map(|volume| alive.core.held(VolumeIndex(volume)).in_use);
        let disks = &self.nodes[node].disks;
        let found = self
            .witness
            .wire
            .acknowledges(node, &terms, bytes, disks, in_use);
        if let Some((number, write)) = found {
            self.witness.unstable = Some((node, number, write));
        }
    }

    /// Lets the checkers hear what a node says on its data socket.
    fn listen(&mut self, node: usize, front: &[u8], data: (u64, u64)) {
        let Some(alive) = self.nodes[node].alive.as_deref() else {
            return;
        };
        let terms = *alive.core.data.terms();
        let disks = &self.nodes[1 - node].disks;
        self.witness.wire.says(node, &terms, front, data, disks);
    }

    /// The meta socket took nothing: after `timeout` the link is lost (`reference/wire.md` 10.2).
    fn acks_blocked(&mut self, node: usize) {
        let (now_ns, timeout_ns) = (self.now_ns, self.send_timeout_ns(node));
        let Some(alive) = self.alive(node) else {
            return;
        };
        let at = alive.acks.since_ns + timeout_ns;
        if now_ns >= at {
            self.end_acks(node);
            self.link_lost(node, LinkError::Timeout);
        } else if alive.acks.alarm_ns <= now_ns {
            alive.acks.alarm_ns = at;
            self.ring_at(node, Thread::Acks, at);
        }
    }

    /// `timeout`: how long a socket may take nothing.
    fn send_timeout_ns(&mut self, node: usize) -> u64 {
        let net = self.core(node).and_then(|core| core.net_config().copied());
        let tenths = net.map_or(60, |net| net.timeout_tenths);
        u64::from(tenths.max(1)) * 100 * MILLI
    }

    fn end_acks(&mut self, node: usize) {
        let Some(alive) = self.alive(node) else {
            return;
        };
        alive.acks.bytes.clear();
        if std::mem::take(&mut alive.acks.sending) {
            self.with(node, |alive, now| alive.core.acks_sent(now));
            self.barrier_may_be_over(node);
        }
    }

    /// Receives from the meta socket what has arrived.
    pub(crate) fn run_meta_in(&mut self, node: usize) {
        while let Some(end) = self.end(node, true) {
            let Some(alive) = self.nodes[node].alive.as_deref_mut() else {
                return;
            };
            let room = 4096_usize.saturating_sub(alive.meta_bytes.len());
            if room == 0 {
                self.link_lost(node, LinkError::NetworkFailure);
                return;
            }
            match self.net.receive(end, room, &mut alive.meta_bytes) {
                Received::Nothing => return,
                Received::Ended => {
                    self.link_lost(node, LinkError::NetworkFailure);
                    return;
                }
                Received::Bytes => {
                    self.room_made(end);
                    if !self.meta_bytes(node) {
                        self.link_lost(node, LinkError::NetworkFailure);
                        return;
                    }
                }
            }
        }
    }

    /// Hands received bytes to the core. False: the connection cannot go on.
    fn meta_bytes(&mut self, node: usize) -> bool {
        let used = self.with(node, |alive, now| {
            let mut held = std::mem::take(&mut alive.meta_bytes);
            let used = alive.core.meta_bytes(&held, now);
            if let Ok(used) = used {
                held.drain(..used);
                alive.meta_bytes = held;
            }
            used
        });
        matches!(used, Some(Ok(_)))
    }
}
