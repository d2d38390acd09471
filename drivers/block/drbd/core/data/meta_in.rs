//! Acks and negative replies coming in on the meta socket (`reference/wire.md` 3.2).

use drbd_format::types::{ConnState, DiskState};
use drbd_format::units::SectorRange;
use drbd_format::wire::command::{Command, Frame};
use drbd_format::wire::packet::Packet;
use drbd_format::wire::payload::{BarrierAck, BlockAck, BlockId};

use super::{DataPlane, Disk};
use crate::link::{LinkError, Side, Upcall, VolumeIndex};
use crate::memory::Memory;
use crate::put_back::{put_back, Bug};
use crate::request::{Answer, Event, Remote, RequestId};
use crate::resync::session::{Job, Session};
use crate::time::{Duration, Instant};

/// How long nothing is sent to a disk that has refused something.
const REFUSED_PAUSE: Duration = Duration::from_millis(1000);

/// Commands of the meta socket that [`DataPlane::ack_packet`] handles.
pub const fn is_ack_command(command: Command) -> bool {
    matches!(
        command,
        Command::RecvAck
            | Command::WriteAck
            | Command::RsWriteAck
            | Command::Superseded
            | Command::NegAck
            | Command::NegDReply
            | Command::NegRsDReply
            | Command::BarrierAck
            | Command::OvResult
            | Command::RsIsInSync
            | Command::RsCancel
            | Command::RetryWrite
    )
}

impl<M: Memory> DataPlane<M> {
    /// Handles a packet for which [`is_ack_command`] holds.
    ///
    /// # Errors
    ///
    /// The peer acknowledged what does not exist; the connection has to end. The control plane
    /// has been told.
    pub fn ack_packet(
        &mut self,
        frame: &Frame,
        packet: &Packet<'_>,
        now: Instant,
    ) -> Result<(), LinkError> {
        let handled = self.handle_ack(frame, packet, now);
        if let Err(error) = handled {
            self.upcall(Upcall::LinkFailed(error));
        }
        handled
    }

    fn handle_ack(
        &mut self,
        frame: &Frame,
        packet: &Packet<'_>,
        now: Instant,
    ) -> Result<(), LinkError> {
        if let Packet::BarrierAck(ack) = packet {
            return self.barrier_ack(ack, now);
        }
        let volume = self
            .volume_index(frame.volume())
            .ok_or(LinkError::NetworkFailure)?;
        let handled = self.handle_block_ack(volume, packet, now);
        if let Some(ack) = block_ack(packet) {
            self.note_sequence(volume, ack.seq);
            // A write that follows this ack may be waiting.
            self.wants.receiver |= self.link.two_primaries;
        }
        handled
    }

    fn handle_block_ack(
        &mut self,
        volume: VolumeIndex,
        packet: &Packet<'_>,
        now: Instant,
    ) -> Result<(), LinkError> {
        match packet {
            Packet::RecvAck(ack) => self.write_ack(volume, ack, Event::RecvAcked, now),
            Packet::WriteAck(ack) => {
                self.write_ack(volume, ack, Event::WriteAcked { in_sync: false }, now)
            }
            Packet::RsWriteAck(ack) if ack.block_id == BlockId::SYNCER => {
                self.synced(volume, ack, now);
                Ok(())
            }
            Packet::RsWriteAck(ack) => {
                self.write_ack(volume, ack, Event::WriteAcked { in_sync: true }, now)
            }
            Packet::Superseded(ack) => self.write_ack(volume, ack, Event::Superseded, now),
            Packet::RetryWrite(ack) => self.retry_write(volume, ack, now),
            Packet::NegAck(ack) if ack.block_id == BlockId::SYNCER => {
                self.not_synced(volume, ack, now);
                Ok(())
            }
            Packet::NegAck(ack) => self.negative_ack(volume, ack, now),
            Packet::NegDReply(ack) => self.read_refused(volume, ack, now),
            Packet::NegRsDReply(ack) => {
                self.request_answered(volume, ack, true, false, now);
                Ok(())
            }
            Packet::RsCancel(ack) => {
                self.request_answered(volume, ack, false, true, now);
                Ok(())
            }
            Packet::RsIsInSync(ack) => {
                self.same_checksum(volume, ack, now);
                Ok(())
            }
            Packet::OvResult(ack) => {
                self.verify_result(volume, ack, now);
                Ok(())
            }
            _ => Err(LinkError::NetworkFailure),
        }
    }

    /// Returns the range of an ack, cut at the end of the device.
    pub(crate) fn ack_range(&self, volume: VolumeIndex, ack: &BlockAck) -> SectorRange {
        let capacity = self.volumes[volume.slot()].view.capacity;
        SectorRange::from_bytes(ack.sector, ack.len_bytes)
            .filter(|range| range.end().0 <= capacity.0)
            .unwrap_or_default()
    }

    /// Finds the replicated write that an ack names.
    fn acked_write(&self, volume: VolumeIndex, ack: &BlockAck) -> Option<u32> {
        let id = RequestId::from_wire(ack.block_id.0);
        let request = self.requests.get(id)?;
        let matches = request.remote == Remote::Data
            && request.volume == volume
            && request.sector == ack.sector;
        matches.then_some(id.slot)
    }

    fn write_ack(
        &mut self,
        volume: VolumeIndex,
        ack: &BlockAck,
        event: Event,
        now: Instant,
    ) -> Result<(), LinkError> {
        let slot = self
            .acked_write(volume, ack)
            .ok_or(LinkError::NetworkFailure)?;
        self.apply(slot, event, now);
        Ok(())
    }

    fn negative_ack(
        &mut self,
        volume: VolumeIndex,
        ack: &BlockAck,
        now: Instant,
    ) -> Result<(), LinkError> {
        let slot = self.acked_write(volume, ack);
        // If the own disk is lost now nobody has it, though its application may be done.
        let only_here = slot.is_none_or(|slot| self.requests[slot].has_local_part());
        self.volumes[volume.slot()].peer_missed |= only_here;
        match slot {
            Some(slot) => {
                // With the peer's disk all good data go. What has failed so waits with what comes
                // behind it, though the news of the disk take the other socket.
                let waits = self.volumes[volume.slot()].is_last_good_disk_theirs()
                    && !self.is_known_to_stay(volume);
                self.requests[slot].retry |= waits;
                if waits {
                    self.await_news(volume, now);
                }
                self.apply(slot, Event::NegAcked, now);
            }
            // Forgotten already (protocols A and B): the range differs now.
            None if put_back(Bug::PeerWriteErrorForgotten) => {}
            None => {
                let range = self.ack_range(volume, ack);
                self.volumes[volume.slot()].set_out_of_sync(range);
                self.acked_writes_fail(volume, range, now);
            }
        }
        Ok(())
    }

    /// The peer has refused something with the last good disk. If nothing is heard of that disk, as
    /// a helper runs, it is asked again after a while: the refusal may be about the one before.
    fn await_news(&mut self, volume: VolumeIndex, now: Instant) {
        let place = &self.volumes[volume.slot()];
        let state = &place.view.state;
        let unheard = state.conn >= ConnState::Connected && state.pdsk == DiskState::UpToDate;
        if place.is_last_good_disk_theirs() && unheard && !state.suspended() {
            self.refused |= volume.bit();
            self.refused_until = Some(now.after(REFUSED_PAUSE));
        }
    }

    /// The source of a resync to the own disk had refused something, nothing was heard of its disk
    /// for a while, and it refuses again: the disk stays (pass-on), and would do so for ever.
    fn is_known_to_stay(&self, volume: VolumeIndex) -> bool {
        let state = &self.volumes[volume.slot()].view.state;
        self.unheard & volume.bit() != 0
            && state.conn > ConnState::Connected
            && state.pdsk == DiskState::UpToDate
            && !state.suspended()
    }

    /// Several writes at once are lost on the peer's disk: those that it had acknowledged must not
    /// end as if they were there. Loops over the writes that wait for their barrier.
    fn acked_writes_fail(&mut self, volume: VolumeIndex, range: SectorRange, now: Instant) {
        let mut at = self.unacked.head();
        while let Some(slot) = at {
            at = self.unacked.after(&self.requests, slot);
            let request = &self.requests[slot];
            let concerned = request.volume == volume && request.range().overlaps(range);
            if concerned && request.answer == Answer::Ok {
                self.apply(slot, Event::NegAcked, now);
            }
        }
    }

    fn retry_write(
        &mut self,
        volume: VolumeIndex,
        ack: &BlockAck,
        now: Instant,
    ) -> Result<(), LinkError> {
        let slot = self
            .acked_write(volume, ack)
            .ok_or(LinkError::NetworkFailure)?;
        self.requests[slot].retry = true;
        self.apply(slot, Event::Superseded, now);
        Ok(())
    }

    fn read_refused(
        &mut self,
        volume: VolumeIndex,
        ack: &BlockAck,
        now: Instant,
    ) -> Result<(), LinkError> {
        let id = RequestId::from_wire(ack.block_id.0);
        let request = self.requests.get(id).ok_or(LinkError::NetworkFailure)?;
        let matches = request.remote == Remote::Read
            && request.answer == Answer::Pending
            && request.volume == volume
            && request.sector == ack.sector;
        if !matches {
            return Err(LinkError::NetworkFailure);
        }
        if !self.is_synced_meanwhile(volume, id.slot) {
            let ends = self.is_final_refusal(volume);
            self.requests[id.slot].read_ahead |= ends;
            if !ends {
                self.await_news(volume, now);
            }
        }
        self.apply(id.slot, Event::NegAcked, now);
        Ok(())
    }

    /// The target of a resync has got what it has asked the source for.
    fn is_synced_meanwhile(&mut self, volume: VolumeIndex, slot: u32) -> bool {
        let range = self.requests[slot].range();
        let place = &mut self.volumes[volume.slot()];
        let here = |disk: &mut Disk<M>| disk.bitmap.count_range(range) == 0;
        place.view.state.conn > ConnState::Connected
            && place.bits_known
            && place.usable_disk().is_some_and(here)
    }

    /// The source of a resync to the own disk can not read what that has not got. Its disk may stay
    /// (pass-on): it would be asked again and again. If it goes there are no data either, and where
    /// I/O waits for some the read does.
    fn is_final_refusal(&self, volume: VolumeIndex) -> bool {
        let place = &self.volumes[volume.slot()];
        let state = &place.view.state;
        let theirs = state.disk < DiskState::UpToDate && state.pdsk == DiskState::UpToDate;
        let resyncs = theirs && state.conn > ConnState::Connected;
        let waits = place.view.suspends_without_data || state.suspended();
        resyncs && (!waits || self.is_known_to_stay(volume))
    }

    /// P_BARRIER_ACK: must name the oldest epoch and the number of its writes
    /// (`reference/wire.md` 5.3). Loops over the writes of the epoch, at most `max-epoch-size`.
    fn barrier_ack(&mut self, ack: &BarrierAck, now: Instant) -> Result<(), LinkError> {
        let oldest = self.unacked.head().ok_or(LinkError::ProtocolError)?;
        let epoch = self.requests[oldest].epoch;
        // Of the present epoch no barrier has been sent.
        let open = epoch == self.sending_epoch && self.sending_writes != 0;
        if epoch != ack.number || open {
            return Err(LinkError::ProtocolError);
        }
        let mut count = 0_u32;
        let mut at = Some(oldest);
        while let Some(slot) = at {
            let request = &self.requests[slot];
            if request.epoch != epoch {
                break;
            }
            if request.answer == Answer::Pending
                && request.protocol != drbd_format::types::Protocol::A
            {
                return Err(LinkError::ProtocolError);
            }
            count += 1;
            at = self.unacked.after(&self.requests, slot);
        }
        if count != ack.set_size {
            return Err(LinkError::ProtocolError);
        }
        for _ in 0..count {
            let Some(slot) = self.unacked.head() else {
                break;
            };
            self.apply(slot, Event::BarrierAcked, now);
        }
        // The next one, if it has been sent, is owed from now on.
        self.barrier_since = now;
        self.check_uncongested(now);
        Ok(())
    }

    /// The peer has written resync data that we sent. Once that resync has ended it is too late:
    /// the peer may have lost the disk, and applications may have written to the block since. Nor
    /// does it say anything about a resync from the peer.
    fn synced(&mut self, volume: VolumeIndex, ack: &BlockAck, now: Instant) {
        let range = self.ack_range(volume, ack);
        let place = &mut self.volumes[volume.slot()];
        place.replies_unacked = place.replies_unacked.saturating_sub(1);
        let from_here =
            |session: &Session| session.job == Job::Resync && session.side == Side::Source;
        if !place.session.as_ref().is_some_and(from_here) {
            return;
        }
        place.set_in_sync(range, now);
        self.resync_progressed(volume, now);
    }

    /// The peer has found that its data are those that we asked for.
    fn same_checksum(&mut self, volume: VolumeIndex, ack: &BlockAck, now: Instant) {
        let range = self.ack_range(volume, ack);
        let place = &mut self.volumes[volume.slot()];
        let of_this_run = place.answers_due == 0;
        if let Some(session) = place.session.as_mut().filter(|_| of_this_run) {
            session.same_checksum += range.len().bits().0;
            place.set_in_sync(range, now);
        }
        self.request_answered(volume, ack, false, false, now);
    }

    /// The peer could not write resync data that we sent.
    fn not_synced(&mut self, volume: VolumeIndex, ack: &BlockAck, now: Instant) {
        let range = self.ack_range(volume, ack);
        let place = &mut self.volumes[volume.slot()];
        place.replies_unacked = place.replies_unacked.saturating_sub(1);
        place.not_synced(range);
        self.resync_progressed(volume, now);
    }
}

/// Returns the ack that a packet consists of.
fn block_ack<'a>(packet: &'a Packet<'_>) -> Option<&'a BlockAck> {
    match packet {
        Packet::RecvAck(ack)
        | Packet::WriteAck(ack)
        | Packet::RsWriteAck(ack)
        | Packet::Superseded(ack)
        | Packet::NegAck(ack)
        | Packet::NegDReply(ack)
        | Packet::NegRsDReply(ack)
        | Packet::OvResult(ack)
        | Packet::RsIsInSync(ack)
        | Packet::RsCancel(ack)
        | Packet::RetryWrite(ack) => Some(ack),
        _ => None,
    }
}
