//! Receiving from the data socket.

use drbd_core::data::Incoming;
use drbd_core::link::{LinkError, VolumeIndex};
use drbd_core::quirk::Quirk;

use super::target::targets;
use crate::digest;
use crate::network::Received;
use crate::node::{Packet, Receiver, Thread};
use crate::world::World;

/// What a step of the receiver came to.
enum Step {
    /// Go on with this.
    Next(Packet),
    /// Wait for bytes or for the bell, with this state.
    Wait(Packet),
    /// The core does not want any more.
    Stop(LinkError),
}

impl World {
    /// Receives until nothing is there; returns how the link ended, if it did.
    pub(crate) fn serve(&mut self, node: usize) -> Option<LinkError> {
        loop {
            let alive = self.alive(node)?;
            let Receiver::Serving(packet) = &mut alive.receiver else {
                return None;
            };
            let packet = std::mem::take(packet);
            if alive.link.is_none_or(|link| link.closing) {
                return Some(LinkError::BrokenPipe);
            }
            match self.packet_step(node, packet) {
                Step::Next(packet) => self.set_packet(node, packet),
                Step::Wait(packet) => {
                    self.set_packet(node, packet);
                    return None;
                }
                Step::Stop(error) => return Some(error),
            }
        }
    }

    fn set_packet(&mut self, node: usize, packet: Packet) {
        if let Some(alive) = self.alive(node) {
            if matches!(alive.receiver, Receiver::Serving(_)) {
                alive.receiver = Receiver::Serving(packet);
            }
        }
    }

    /// Reads exactly `len` bytes. `None`: not all of them are there yet; those that are have been
    /// taken out of the stream, which therefore never has to hold a whole payload.
    fn read_exact(&mut self, node: usize, len: usize) -> Result<Option<Vec<u8>>, LinkError> {
        let alive = self.nodes[node].alive.as_deref_mut();
        let alive = alive.ok_or(LinkError::BrokenPipe)?;
        let end = alive.link.ok_or(LinkError::BrokenPipe)?.data;
        let missing = len.saturating_sub(alive.data_bytes.len());
        if missing > 0 {
            match self.net.receive(end, missing, &mut alive.data_bytes) {
                Received::Bytes => self.room_made(end),
                Received::Ended => return Err(LinkError::BrokenPipe),
                Received::Nothing => return Ok(None),
            }
        }
        let alive = self.alive(node).ok_or(LinkError::BrokenPipe)?;
        if alive.data_bytes.len() < len {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut alive.data_bytes)))
    }

    fn packet_step(&mut self, node: usize, packet: Packet) -> Step {
        if matches!(packet, Packet::Header) && self.waits_at_barrier(node) {
            return Step::Wait(packet);
        }
        let wanted = match &packet {
            Packet::Header => self.core(node).map_or(8, |core| core.header_len()),
            Packet::Fixed(len) => *len,
            Packet::Wait => 0,
            Packet::Payload(incoming) => payload_len(incoming),
        };
        let bytes = match self.read_exact(node, wanted) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Step::Wait(packet),
            Err(error) => return Step::Stop(error),
        };
        let step = self.part(node, packet, &bytes);
        self.give_back(node, bytes);
        step
    }

    /// The buffer of what was received is used again.
    fn give_back(&mut self, node: usize, mut bytes: Vec<u8>) {
        if let Some(alive) = self.alive(node).filter(|alive| alive.data_bytes.is_empty()) {
            bytes.clear();
            alive.data_bytes = bytes;
        }
    }

    /// All of a part of a packet is there.
    fn part(&mut self, node: usize, packet: Packet, bytes: &[u8]) -> Step {
        match packet {
            Packet::Header => {
                match self.with(node, |alive, now| alive.core.data_header(bytes, now)) {
                    Some(Ok(expect)) => {
                        self.trace(node, || {
                            format!("gets {}", crate::trace::command(bytes, bytes.len()))
                        });
                        self.note_barrier(node, bytes);
                        Step::Next(Packet::Fixed(expect.fixed_len))
                    }
                    _ => Step::Stop(LinkError::ProtocolError),
                }
            }
            Packet::Fixed(_) => {
                let end = self.end(node, false);
                // Who takes no packet before a barrier is carried out leaves nothing for the next.
                let waits = self.alive(node).is_some_and(|alive| alive.at_barrier);
                let followed = !waits && end.is_some_and(|end| self.net.readable(end) != 0);
                let incoming = self.with(node, |alive, now| {
                    alive.core.data_packet(bytes, followed, now)
                });
                incoming_step(incoming)
            }
            Packet::Wait => {
                let incoming = self.with(node, |alive, now| alive.core.data_retry(now));
                match incoming_step(incoming) {
                    Step::Next(Packet::Wait) => Step::Wait(Packet::Wait),
                    step => step,
                }
            }
            Packet::Payload(Incoming::LoadDigest) => {
                let len = Some(digest::LEN);
                let incoming = self.with(node, |alive, now| alive.core.digest_loaded(len, now));
                incoming_step(incoming)
            }
            Packet::Payload(incoming) => {
                self.payload(node, incoming, bytes);
                Step::Next(Packet::Header)
            }
        }
    }

    /// The C driver's receiver carries a barrier out before it takes the next packet.
    fn note_barrier(&mut self, node: usize, header: &[u8]) {
        let waits = self.nodes[node].quirks.contains(Quirk::ReceiverWaits);
        if let Some(alive) = self.alive(node).filter(|_| waits) {
            let command = crate::trace::command(header, header.len());
            alive.at_barrier = command.starts_with("Barrier/");
        }
    }

    /// Writes and flush of an epoch are under way and the receiver waits for their end.
    fn waits_at_barrier(&mut self, node: usize) -> bool {
        let Some(alive) = self.alive(node).filter(|alive| alive.at_barrier) else {
            return false;
        };
        alive.at_barrier = alive.core.counters(VolumeIndex(0)).epochs > 1;
        if alive.at_barrier {
            self.mattered(Quirk::ReceiverWaits);
            return true;
        }
        false
    }

    fn payload(&mut self, node: usize, incoming: Incoming, bytes: &[u8]) {
        let digest_len = match incoming {
            Incoming::AppPayload { digest_len, .. } | Incoming::PeerPayload { digest_len, .. } => {
                digest_len as usize
            }
            _ => return,
        };
        let (digest, payload) = bytes.split_at(digest_len);
        let sectors: Vec<u64> = payload
            .chunks_exact(8)
            .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap_or_default()))
            .collect();
        let intact = digest.is_empty() || digest == digest::of(&sectors);
        if !intact {
            self.fail(format!("payload of {incoming:?} does not match its digest"));
        }
        let now_ns = self.now_ns;
        self.with(node, |alive, now| match incoming {
            Incoming::PeerPayload { id, .. } => {
                alive.peer_ns[id.slot as usize] = now_ns;
                alive.peer_targets[id.slot as usize] = targets(&mut alive.core);
                alive.peer[id.slot as usize] = Some(sectors);
                alive.core.peer_payload(id, intact, now);
            }
            Incoming::AppPayload { id, .. } => {
                if let Some(Some(bio)) = alive.app.get_mut(id.slot as usize) {
                    bio.data = sectors;
                }
                alive.core.app_payload(id, intact, now);
            }
            _ => {}
        });
        self.run(node, Thread::PeerIo);
    }
}

fn incoming_step(incoming: Option<Incoming>) -> Step {
    match incoming {
        Some(Incoming::Done) => Step::Next(Packet::Header),
        Some(Incoming::Wait) => Step::Next(Packet::Wait),
        Some(Incoming::Error(error)) => Step::Stop(error),
        Some(payload) => Step::Next(Packet::Payload(payload)),
        None => Step::Stop(LinkError::BrokenPipe),
    }
}

/// Length of digest and payload on this network, where eight bytes stand for a sector.
fn payload_len(incoming: &Incoming) -> usize {
    let scaled = |len: u32| (len / 512 * 8) as usize;
    match incoming {
        Incoming::AppPayload {
            len_bytes,
            digest_len,
            ..
        }
        | Incoming::PeerPayload {
            len_bytes,
            digest_len,
            ..
        } => *digest_len as usize + scaled(*len_bytes),
        // A digest is shorter than a sector.
        Incoming::Drain { len_bytes } => (*len_bytes % 512) as usize + scaled(*len_bytes),
        Incoming::Done | Incoming::LoadDigest | Incoming::Wait | Incoming::Error(_) => 0,
    }
}
