//! What goes out on the data socket, in one order (`reference/io.md` 3.2, 10.6 W1, W2).
//!
//! Requests of applications, replies to the peer, control packets and bitmaps carry a stamp from
//! one counter when they are queued; the smallest stamp goes next. Barriers are put between the
//! epochs as they are sent. Requests of a running resync are generated when nothing else waits,
//! and every few packets.

use drbd_format::types::Protocol;
use drbd_format::wire::packet::Packet;
use drbd_format::wire::payload::{
    Barrier as BarrierPacket, BlockId, BlockRange, BlockRequest, Data, DataFlags, Trim,
};

use crate::chance::{chance, Unlikely};
use crate::data::{DataPlane, Outgoing, Payload, QueuedItem, SentToken};
use crate::link::{ControlItem, LinkError, Upcall};
use crate::memory::Memory;
use crate::peer_request::{PeerKind, Stage};
use crate::quirk::{quirk, Quirk};
use crate::request::{Answer, Event, Op, Remote, Request, Transport};
use crate::time::{earliest, Instant};

/// After so many packets a resync request may go although others wait.
const RESYNC_EVERY: u32 = 8;

/// Room for the longest header and fixed part, bitmap packets included.
const BUFFER_BYTES: usize = 4096 + 64;

/// What comes next on the data socket.
#[derive(Clone, Copy, Debug)]
pub enum NextPacket {
    /// The control plane encodes this packet and then calls [`DataPlane::control_taken`].
    Control(ControlItem),
    /// Nothing waits.
    None,
    /// The packet is in the buffer.
    Packet(Outgoing),
}

/// Which queue has the oldest item.
#[derive(Clone, Copy)]
enum Source {
    App(u32),
    Item(usize, QueuedItem),
    None,
    Reply(u32),
}

impl<M: Memory> DataPlane<M> {
    /// Encodes the next packet into `buf` (at least 4096 + 64 bytes).
    pub fn next_packet(&mut self, buf: &mut [u8], now: Instant) -> NextPacket {
        if !self.up || buf.len() < BUFFER_BYTES {
            return NextPacket::None;
        }
        self.since_resync += 1;
        let free = !self.is_amid_bitmap();
        if free && (self.since_resync >= RESYNC_EVERY || chance(Unlikely::ResyncFirst)) {
            if let Some(outgoing) = self.next_resync_packet(buf, now) {
                return NextPacket::Packet(outgoing);
            }
        }
        if free {
            if let Some(outgoing) = self.early_barrier(buf, now) {
                return NextPacket::Packet(outgoing);
            }
        }
        // Each round without a packet takes something out of a queue.
        loop {
            let outgoing = match self.oldest() {
                Source::Item(volume, QueuedItem::Control(item)) => {
                    self.control_at = volume;
                    return NextPacket::Control(item);
                }
                Source::Item(_, QueuedItem::Bitmap(volume, stamp)) => {
                    self.next_bitmap_packet(volume, stamp, buf)
                }
                Source::App(slot) => self.app_packet(slot, buf, now),
                Source::Reply(slot) => self.reply_packet(slot, buf),
                Source::None => {
                    return match self.idle_barrier(buf, now) {
                        Some(outgoing) => NextPacket::Packet(outgoing),
                        None => match self.next_resync_packet(buf, now) {
                            Some(outgoing) => NextPacket::Packet(outgoing),
                            None => NextPacket::None,
                        },
                    };
                }
            };
            if let Some(outgoing) = outgoing {
                return NextPacket::Packet(outgoing);
            }
        }
    }

    /// The control packet at the head of the queue has been encoded.
    pub fn control_taken(&mut self) {
        self.pop_control(self.control_at);
    }

    pub(crate) fn pop_control(&mut self, volume: usize) {
        let place = self.volumes.get_mut(volume);
        if place.is_some_and(|place| place.control.pop().is_some()) {
            self.control_len -= 1;
        }
    }

    /// Queues a packet that the control plane encodes when it is dequeued.
    pub fn send_control(&mut self, item: ControlItem) {
        let stamp = self.next_stamp();
        self.queue_item(stamp, QueuedItem::Control(item));
    }

    fn oldest(&self) -> Source {
        let mut best = u64::MAX;
        let mut source = Source::None;
        if self.control_len != 0 {
            for (number, place) in self.volumes.iter().enumerate() {
                if let Some((stamp, item)) = place.control.front().filter(|(s, _)| *s < best) {
                    best = *stamp;
                    source = Source::Item(number, *item);
                }
            }
        }
        if let Some(slot) = self.send.head() {
            if self.requests[slot].stamp < best {
                best = self.requests[slot].stamp;
                source = Source::App(slot);
            }
        }
        if let Some(slot) = self.replies.head() {
            if self.peers[slot].stamp < best {
                source = Source::Reply(slot);
            }
        }
        source
    }

    /// A part of a bitmap has been sent. Nothing may come before the rest of it
    /// (`reference/wire.md` 6.3).
    fn is_amid_bitmap(&self) -> bool {
        self.control_len != 0
            && self
                .present_volumes()
                .any(|place| place.bitmap_send.has_begun())
    }

    fn bare(&self, len: usize) -> Outgoing {
        Outgoing {
            len,
            payload: Payload::None,
            digest: false,
            algorithm: None,
            copy: false,
            token: SentToken::Nothing,
        }
    }

    /// The barrier of the last epoch sent goes before control packets: the peer may be asked to let
    /// go, and what it has is settled first. And, when its time has come, before replies: of those
    /// there may be more than the network takes for hours, and without the ack extents of the
    /// activity log stay in use. (The C driver sends it when nothing else waits.)
    fn early_barrier(&mut self, buf: &mut [u8], now: Instant) -> Option<Outgoing> {
        if !self.send.is_empty() {
            return None;
        }
        if self.control_len != 0 {
            self.barrier_due = None;
            return self.idle_barrier(buf, now);
        }
        let closed = self.sending_epoch != self.epoch && self.sending_writes != 0;
        if !closed || self.replies.is_empty() || quirk(Quirk::BarrierAtOnce) {
            return None;
        }
        self.idle_barrier(buf, now)
    }

    /// The barrier of the last epoch sent, if it is closed.
    fn idle_barrier(&mut self, buf: &mut [u8], now: Instant) -> Option<Outgoing> {
        let waits = self.barrier_due.is_some_and(|at| at > now);
        if self.sending_epoch == self.epoch || waits {
            return None;
        }
        self.barrier_packet(buf, now)
    }

    fn barrier_packet(&mut self, buf: &mut [u8], now: Instant) -> Option<Outgoing> {
        if self.sending_writes == 0 {
            return None;
        }
        let oldest = self.unacked.head().map(|slot| self.requests[slot].epoch);
        if oldest == Some(self.sending_epoch) {
            self.barrier_since = now;
        }
        self.sending_writes = 0;
        self.barrier_due = None;
        let packet = Packet::Barrier(BarrierPacket {
            number: self.sending_epoch,
        });
        let len = packet.encode(&self.terms, 0, buf).ok()?;
        Some(self.bare(len))
    }

    /// A packet of an application request, or the barrier that has to go before it.
    fn app_packet(&mut self, slot: u32, buf: &mut [u8], now: Instant) -> Option<Outgoing> {
        let epoch = self.requests[slot].epoch;
        if epoch != self.sending_epoch && self.sending_writes != 0 {
            return self.barrier_packet(buf, now);
        }
        self.send.remove(&mut self.requests, slot);
        let request = &mut self.requests[slot];
        request.transport = Transport::Sending;
        request.since = now;
        let id = self.requests.id_of(slot);
        let encoded = self.encode_app(slot, buf);
        let Some(len) = encoded else {
            self.can_not_be_sent(slot, now);
            return None;
        };
        let request = &self.requests[slot];
        let remote = request.remote;
        let copy = remote == Remote::Data && request.protocol == Protocol::A;
        let with_data = remote == Remote::Data && request.op == Op::Write;
        let sectors = request.sectors().0;
        let volume = request.volume;
        if remote == Remote::Data {
            self.sending_epoch = epoch;
            self.sending_writes += 1;
            self.unacked.push(&mut self.requests, slot);
            if self.unanswered.is_none() && self.requests[slot].answer == Answer::Pending {
                self.unanswered = Some(slot);
            }
            let place = &mut self.volumes[volume.slot()];
            place.in_flight_sectors += sectors;
            place.totals.sent += if with_data { sectors } else { 0 };
        } else if remote == Remote::Read {
            self.asked.push(&mut self.requests, slot);
        }
        Some(Outgoing {
            payload: if with_data {
                Payload::App(id)
            } else {
                Payload::None
            },
            digest: with_data && self.link.digest_out_len != 0,
            copy,
            token: SentToken::App(id),
            ..self.bare(len)
        })
    }

    /// The terms have changed since the request was submitted: the peer that is back has not the
    /// feature for zeroes or discards, or for such large ones, or expects digests, which zeroes
    /// have not (`reference/wire.md` A.1). It does not get this one, so the range counts as
    /// different, and only another handshake sees to that.
    fn can_not_be_sent(&mut self, slot: u32, now: Instant) {
        let request = &self.requests[slot];
        let place = &mut self.volumes[request.volume.slot()];
        place.peer_missed |= request.remote == Remote::Data && request.has_local_part();
        self.apply(slot, Event::ConnectionLost, now);
        self.apply(slot, Event::SendCancelled, now);
        self.upcall(Upcall::LinkFailed(LinkError::NetworkFailure));
    }

    fn encode_app(&mut self, slot: u32, buf: &mut [u8]) -> Option<usize> {
        let request = &self.requests[slot];
        let place = &mut self.volumes[request.volume.slot()];
        let number = place.number?.0;
        let block_id = BlockId(self.requests.id_of(slot).to_wire());
        let (sector, len_bytes) = (request.sector, request.len_bytes);
        match request.remote {
            Remote::None => None,
            Remote::OutOfSync => {
                let range = BlockRange { sector, len_bytes };
                Packet::OutOfSync(range)
                    .encode(&self.terms, number, buf)
                    .ok()
            }
            Remote::Read => {
                let read = BlockRequest {
                    sector,
                    block_id,
                    len_bytes,
                    digest: &[],
                };
                Packet::DataRequest(read)
                    .encode(&self.terms, number, buf)
                    .ok()
            }
            Remote::Data => {
                place.seq = place.seq.wrapping_add(1);
                let seq = place.seq;
                let syncs = place.view.state.conn >= drbd_format::types::ConnState::SyncSource
                    && place.view.state.conn <= drbd_format::types::ConnState::PausedSyncT;
                let good = syncs && !place.keeps_back_later_than(request.epoch);
                let version = self.link.terms.version.number();
                let flags = data_flags(request, version, syncs, good);
                let zeroes = request.op == Op::WriteZeroes && flags.contains(DataFlags::ZEROES);
                let digest_len = u32::from(self.link.digest_out_len);
                let packet = match request.op {
                    Op::WriteZeroes if zeroes && digest_len != 0 => return None,
                    Op::Discard | Op::WriteZeroes if len_bytes > self.terms.discard_bytes_max() => {
                        return None;
                    }
                    Op::Discard | Op::WriteZeroes => {
                        let trim = Trim {
                            sector,
                            block_id,
                            seq,
                            flags,
                            len_bytes,
                        };
                        if zeroes {
                            Packet::Zeroes(trim)
                        } else {
                            Packet::Trim(trim)
                        }
                    }
                    Op::Flush | Op::Read | Op::Write => Packet::Data(Data {
                        sector,
                        block_id,
                        seq,
                        flags,
                        digest_len,
                        data_len: len_bytes,
                    }),
                };
                packet.encode(&self.terms, number, buf).ok()
            }
        }
    }

    /// The answer to a request of the peer, or our own request with a digest, or without one if
    /// there is none.
    fn reply_packet(&mut self, slot: u32, buf: &mut [u8]) -> Option<Outgoing> {
        self.replies.remove(&mut self.peers, slot);
        let peer = &self.peers[slot];
        let place = &self.volumes[peer.volume.slot()];
        let number = place.number.map_or(0, |number| number.0);
        let id = self.peers.id_of(slot);
        let kind = peer.kind;
        let hole = kind == PeerKind::ThinRead && peer.zero_out;
        let encoded = self.encode_reply(slot, hole, number, buf);
        let with_data = !hole && !matches!(kind, PeerKind::ChecksumRead | PeerKind::VerifyRead);
        let Some(len) = encoded else {
            self.retire(slot);
            return None;
        };
        let sectors = peer.sectors().0;
        if kind.is_acked() {
            let place = &mut self.volumes[self.peers[slot].volume.slot()];
            place.replies_unacked = place.replies_unacked.saturating_add(1);
        }
        let peer = &mut self.peers[slot];
        peer.stage = Stage::Sending;
        if kind == PeerKind::ChecksumRead {
            // The extent stays locked and the request counted until the answer arrives.
            peer.holds_extent = false;
            peer.counted = false;
        }
        if with_data {
            // They go with the packet.
            peer.has_pages = false;
            self.volumes[peer.volume.slot()].totals.sent += sectors;
        }
        // From here on application writes are queued behind the reply (`reference/io.md` W2).
        self.complete_extent(slot);
        Some(Outgoing {
            payload: if with_data {
                Payload::Peer(id)
            } else {
                Payload::None
            },
            digest: with_data && self.link.digest_out_len != 0,
            token: SentToken::Peer(id),
            ..self.bare(len)
        })
    }

    fn encode_reply(&self, slot: u32, hole: bool, number: u16, buf: &mut [u8]) -> Option<usize> {
        let peer = &self.peers[slot];
        let (sector, len_bytes) = (peer.sector, peer.len_bytes);
        let data = Data {
            sector,
            block_id: BlockId(peer.block_id),
            seq: 0,
            flags: DataFlags::NONE,
            digest_len: u32::from(self.link.digest_out_len),
            data_len: len_bytes,
        };
        let own = BlockRequest {
            sector,
            block_id: BlockId::SYNCER,
            len_bytes,
            digest: peer.digest(),
        };
        let packet = match peer.kind {
            PeerKind::Read => Packet::DataReply(data),
            PeerKind::ThinRead if hole => Packet::RsDeallocated(BlockRange { sector, len_bytes }),
            PeerKind::ChecksumCompare | PeerKind::ResyncRead | PeerKind::ThinRead => {
                Packet::RsDataReply(Data {
                    block_id: BlockId::SYNCER,
                    ..data
                })
            }
            PeerKind::ChecksumRead if own.digest.is_empty() => Packet::RsDataRequest(own),
            PeerKind::ChecksumRead => Packet::CsumRsRequest(own),
            PeerKind::VerifyRead => Packet::OvReply(own),
            PeerKind::Refused
            | PeerKind::ResyncTrim
            | PeerKind::ResyncWrite
            | PeerKind::Trim
            | PeerKind::VerifyCompare
            | PeerKind::Write => return None,
        };
        packet.encode(&self.terms, number, buf).ok()
    }

    /// The packet is in the socket, or could not be sent. Stale tokens are ignored.
    pub fn sent(&mut self, token: SentToken, ok: bool, now: Instant) {
        match token {
            SentToken::Nothing => {}
            SentToken::App(id) => {
                if self.requests.get(id).is_none() {
                    return;
                }
                let event = if ok {
                    Event::HandedOver
                } else {
                    Event::SendCancelled
                };
                self.apply(id.slot, event, now);
            }
            SentToken::Peer(id) => {
                if self.peers.get(id).map(|peer| peer.stage) == Some(Stage::Sending) {
                    self.retire(id.slot);
                }
            }
        }
    }

    /// Since when the peer owes an answer: data, an ack, or the ack of a barrier, for which it has
    /// its time from when that was sent (`reference/io.md` 8.1). Not earlier than the connection.
    pub(crate) fn answer_due_since(&self) -> Option<Instant> {
        let since = |request: &Request| request.since.max(self.link.since);
        let write = self.unacked.head().map(|slot| &self.requests[slot]);
        let write = write.and_then(|request| {
            let barrier_sent = request.epoch != self.sending_epoch || self.sending_writes == 0;
            if barrier_sent && request.answer != Answer::Pending {
                return Some(since(request).max(self.barrier_since));
            }
            // In an open epoch others may have been answered before it.
            self.unanswered.map(|slot| since(&self.requests[slot]))
        });
        let read = self.asked.head().map(|slot| &self.requests[slot]);
        earliest(write, read.map(since))
    }
}

/// Flags of a write (`reference/wire.md` 3.3, 5.2, 5.4).
fn data_flags(request: &Request, version: u32, syncs: bool, good: bool) -> DataFlags {
    let mut flags = DataFlags::NONE;
    let mut set = |condition: bool, flag: DataFlags| {
        if condition {
            flags = flags.or(flag);
        }
    };
    set(request.sync, DataFlags::RW_SYNC);
    set(good, DataFlags::MAY_SET_IN_SYNC);
    if version >= 95 {
        set(request.fua, DataFlags::FUA);
        set(request.preflush, DataFlags::FLUSH);
        set(request.op == Op::Discard, DataFlags::DISCARD);
        set(request.op == Op::WriteZeroes, DataFlags::ZEROES);
        set(
            request.op == Op::WriteZeroes && request.may_unmap,
            DataFlags::DISCARD,
        );
    }
    if version >= 100 {
        set(request.protocol == Protocol::B, DataFlags::SEND_RECEIVE_ACK);
        set(
            request.protocol == Protocol::C || syncs,
            DataFlags::SEND_WRITE_ACK,
        );
    }
    flags
}
