//! Acks going out on the meta socket, in order (`reference/wire.md` 3.2, 5.2, 5.3).
//!
//! All acks of an epoch are put into the stream before its barrier ack (`reference/io.md` 10.6
//! W4), and before it the news that some of its writes are lost (3.3); sequence numbers are given
//! in the order of the stream (W6).

use drbd_format::wire::packet::Packet;
use drbd_format::wire::payload::{BarrierAck, BlockAck, BlockId};

use super::{bits, DataPlane};
use crate::chance::{chance, Unlikely};
use crate::memory::Memory;
use crate::peer_request::{Ack, Stage};
use crate::time::Instant;

/// Room that one ack needs at most: header and fixed part.
const ACK_BYTES: usize = 40;

impl<M: Memory> DataPlane<M> {
    /// Fills `buf` with as many acks as there are, or fit; returns how many bytes. Also retires
    /// what was acknowledged.
    pub fn next_acks(&mut self, buf: &mut [u8], now: Instant) -> Option<usize> {
        let _ = now;
        let mut len = 0;
        if !self.up {
            return None;
        }
        while buf.len().saturating_sub(len) >= ACK_BYTES {
            let Some(rest) = buf.get_mut(len..) else {
                break;
            };
            if let Some(slot) = self.acks.head() {
                len += self.encode_ack(slot, rest);
                self.ack_encoded(slot);
            } else if self.to_refuse != 0 {
                len += self.encode_loss(rest);
            } else if let Some(finished) = self.epochs.pop_finished() {
                let ack = BarrierAck {
                    number: finished.number,
                    set_size: finished.set_size,
                };
                len += Packet::BarrierAck(ack)
                    .encode(&self.terms, 0, rest)
                    .unwrap_or(0);
                // There is room for one more epoch.
                self.wants.receiver |= self.stalled.is_kept();
                self.advance_epochs();
            } else {
                break;
            }
            if len > 0 && !self.acks_are_encoded() && chance(Unlikely::AckAlone) {
                break;
            }
        }
        let more = !self.acks_are_encoded();
        self.wants.acks |= more;
        (len > 0).then_some(len)
    }

    /// Tells whether every ack that is due has been encoded.
    pub fn acks_are_encoded(&self) -> bool {
        self.acks.is_empty() && self.to_refuse == 0 && !self.epochs.has_finished()
    }

    fn encode_ack(&mut self, slot: u32, buf: &mut [u8]) -> usize {
        let peer = &self.peers[slot];
        if peer.ack == Ack::None {
            return 0;
        }
        let place = &mut self.volumes[peer.volume.slot()];
        place.seq = place.seq.wrapping_add(1);
        let number = place.number.map_or(0, |number| number.0);
        let block_id = match peer.ack {
            Ack::VerifyResult { same: true } => BlockId::IN_SYNC,
            Ack::VerifyResult { same: false } => BlockId::OUT_OF_SYNC,
            _ => BlockId(peer.block_id),
        };
        let ack = BlockAck {
            sector: peer.sector,
            block_id,
            len_bytes: peer.len_bytes,
            seq: place.seq,
        };
        let packet = match peer.ack {
            Ack::Neg => Packet::NegAck(ack),
            Ack::NegRead => Packet::NegDReply(ack),
            Ack::NegResyncRead => Packet::NegRsDReply(ack),
            Ack::None => return 0,
            Ack::Received => Packet::RecvAck(ack),
            Ack::ResyncCancel => Packet::RsCancel(ack),
            Ack::ResyncInSync => Packet::RsIsInSync(ack),
            Ack::ResyncWritten => Packet::RsWriteAck(ack),
            Ack::Retry => Packet::RetryWrite(ack),
            Ack::Superseded => Packet::Superseded(ack),
            Ack::VerifyResult { .. } => Packet::OvResult(ack),
            Ack::Written => Packet::WriteAck(ack),
        };
        // An ack that the agreed version cannot express was never asked for.
        packet.encode(&self.terms, number, buf).unwrap_or(0)
    }

    /// A write that was acknowledged was with a disk that is given up.
    fn encode_loss(&mut self, buf: &mut [u8]) -> usize {
        let Some(volume) = bits(self.to_refuse).next() else {
            return 0;
        };
        let place = &mut self.volumes[volume.slot()];
        let Some(lost) = place.unstable.pop_lost() else {
            self.to_refuse &= !volume.bit();
            return 0;
        };
        place.seq = place.seq.wrapping_add(1);
        let ack = BlockAck {
            sector: lost.range.start(),
            block_id: BlockId(lost.block_id),
            len_bytes: lost.len_bytes(),
            seq: place.seq,
        };
        let number = place.number.map_or(0, |number| number.0);
        Packet::NegAck(ack)
            .encode(&self.terms, number, buf)
            .unwrap_or(0)
    }

    /// The ack at the head of the list is in the stream.
    fn ack_encoded(&mut self, slot: u32) {
        self.acks.remove(&mut self.peers, slot);
        let peer = &mut self.peers[slot];
        peer.ack = core::mem::replace(&mut peer.next_ack, Ack::None);
        if peer.ack != Ack::None {
            self.acks.push(&mut self.peers, slot);
            return;
        }
        if peer.stage != Stage::Acking {
            return;
        }
        let (counts, epoch) = (peer.in_epoch, peer.epoch);
        if counts {
            self.epochs.write_acked(epoch);
            self.advance_epochs();
        }
        self.retire(slot);
    }

    /// Queues an ack. Everything but P_RECV_ACK is the last thing to happen to a request;
    /// [`Ack::None`] then means that nothing needs to be said.
    pub(crate) fn queue_ack(&mut self, slot: u32, ack: Ack) {
        let last = ack != Ack::Received;
        let queued = self.acks.contains(&self.peers, slot);
        let peer = &mut self.peers[slot];
        if last {
            peer.stage = Stage::Acking;
        }
        if queued {
            peer.next_ack = ack;
        } else {
            peer.ack = ack;
            self.acks.push(&mut self.peers, slot);
        }
        self.wants.acks = true;
    }
}
