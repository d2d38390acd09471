//! Senders of both sockets.

use drbd_core::data::Payload;
use drbd_core::input::Input;
use drbd_core::link::LinkError;

use crate::digest;
use crate::network::{EndId, Received};
use crate::node::{Alive, Thread};
use crate::world::{World, MILLI};

/// Packets pulled at once, at most.
const BATCH: u64 = 32;
/// Payload pulled at once: no more packets above that; eight bytes stand for a sector.
const BATCH_BYTES: usize = (4 << 20) / 512 * 8;

/// Appends payload to a stream: eight bytes stand for a sector.
fn push_payload(bytes: &mut Vec<u8>, sectors: &[u64], with_digest: bool) {
    if with_digest {
        bytes.extend(digest::of(sectors));
    }
    for sector in sectors {
        bytes.extend(sector.to_le_bytes());
    }
}

/// Takes a packet; returns its name for the trace.
fn pull(alive: &mut Alive, now: drbd_core::time::Instant) -> Option<(Vec<u8>, String)> {
    let mut buffer = [0; 4096 + 64];
    let out = alive.core.next_packet(&mut buffer, now)?;
    let mut bytes = buffer[..out.len].to_vec();
    match out.payload {
        Payload::None => {}
        Payload::App(id) => {
            let bio = alive.app.get(id.slot as usize).and_then(Option::as_ref);
            push_payload(&mut bytes, bio.map_or(&[], |bio| &bio.data), out.digest);
        }
        Payload::Peer(id) => {
            let pages = alive.peer[id.slot as usize].take().unwrap_or_default();
            push_payload(&mut bytes, &pages, out.digest);
        }
    }
    alive.batch.tokens.push(out.token);
    let command = crate::trace::command(&buffer[..out.len], alive.core.header_len());
    Some((bytes, format!("sends {command} {:?}", out.payload)))
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
        let mut payload_bytes = 0;
        for _ in 0..most {
            if payload_bytes >= BATCH_BYTES {
                break;
            }
            let Some((mut bytes, text)) = self.look(node, Thread::Sender, pull) else {
                break;
            };
            self.rewrite(node, &mut bytes);
            self.trace(node, || text);
            payload_bytes += bytes.len();
            if let Some(alive) = self.alive(node) {
                alive.batch.bytes.extend(&bytes);
            }
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
        let now_ns = self.now_ns;
        let Some(alive) = self.alive(node) else {
            return;
        };
        let tenths = alive.core.net_config().map_or(60, |net| net.timeout_tenths);
        let timeout_ns = u64::from(tenths.max(1)) * 100 * MILLI;
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
                let mut buffer = [0; 4096];
                let out = self.look(node, Thread::Acks, |alive, now| {
                    alive.core.next_acks(&mut buffer, now)
                });
                let Some(len) = out else {
                    self.barrier_may_be_over(node);
                    return;
                };
                self.rewrite(node, &mut buffer[..len]);
                self.trace(node, || crate::trace::acks(&buffer[..len]));
                if let Some(alive) = self.alive(node) {
                    alive.acks.bytes.extend(&buffer[..len]);
                    alive.acks.sending = true;
                }
            }
            match self.send_bytes(node, end, true) {
                None => {
                    self.end_acks(node);
                    self.link_lost(node, LinkError::NetworkFailure);
                    return;
                }
                Some(0) => return,
                Some(taken) => {
                    if let Some(alive) = self.alive(node) {
                        alive.acks.bytes.took(taken);
                    }
                }
            }
        }
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
            let Some(alive) = self.alive(node) else {
                return;
            };
            let room = 4096_usize.saturating_sub(alive.meta_bytes.len());
            if room == 0 {
                self.link_lost(node, LinkError::NetworkFailure);
                return;
            }
            match self.net.receive(end, room) {
                Received::Nothing => return,
                Received::Ended => {
                    self.link_lost(node, LinkError::NetworkFailure);
                    return;
                }
                Received::Bytes(bytes) => {
                    self.room_made(end);
                    if !self.meta_bytes(node, &bytes) {
                        self.link_lost(node, LinkError::NetworkFailure);
                        return;
                    }
                }
            }
        }
    }

    /// Hands received bytes to the core. False: the connection cannot go on.
    fn meta_bytes(&mut self, node: usize, bytes: &[u8]) -> bool {
        let used = self.with(node, |alive, now| {
            alive.meta_bytes.extend(bytes);
            let held = std::mem::take(&mut alive.meta_bytes);
            let used = alive.core.meta_bytes(&held, now);
            if let Ok(used) = used {
                alive.meta_bytes = held[used..].to_vec();
            }
            used
        });
        matches!(used, Some(Ok(_)))
    }
}
