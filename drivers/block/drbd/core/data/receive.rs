//! Packets of the data socket that concern data: writes, reads, resync, verify, bitmap
//! (`reference/wire.md` 3.1, 5, 6, 7).
//!
//! What cannot be taken at once (no slot, too many pages) is remembered and tried again.

use drbd_format::types::{ConnState, DiskState, Protocol};
use drbd_format::units::{Sector, SectorRange};
use drbd_format::wire::command::{Command, Frame, FIXED_LEN_MAX};
use drbd_format::wire::features::FeatureFlags;
use drbd_format::wire::packet::Packet;
use drbd_format::wire::payload::{BlockRange, BlockRequest, Data, DataFlags, Trim};

use super::{DataPlane, Incoming};
use crate::bitmap_exchange::BitmapPart;
use crate::chance::{chance, Unlikely};
use crate::link::{LinkError, Side, Upcall, VolumeIndex};
use crate::memory::Memory;
use crate::peer_request::{Ack, PeerId, PeerKind, Stage};
use crate::put_back::{put_back, Bug};
use crate::quirk::{quirk, Quirk};
use crate::request::{Event, Remote, RequestId};
use crate::resync::session::Job;
use crate::time::{Duration, Instant};

/// A packet that could not be taken yet.
#[derive(Debug)]
pub(crate) struct Stalled {
    frame: Option<Frame>,
    fixed: [u8; FIXED_LEN_MAX],
    len: usize,
    patience: Patience,
}

/// How long reads of the peer wait for the end of others: longer could be for ever, as our replies
/// may wait for the peer's receiver and that one for us.
const PATIENCE: Duration = Duration::from_millis(100);

/// Whether a read of the peer waits for the end of others.
#[derive(Clone, Copy, Debug, Default)]
enum Patience {
    /// It has not waited.
    #[default]
    Fresh,
    /// It has waited long enough.
    Over,
    /// It waits until this time.
    Until(Instant),
}

impl Default for Stalled {
    fn default() -> Self {
        Self {
            frame: None,
            fixed: [0; FIXED_LEN_MAX],
            len: 0,
            patience: Patience::Fresh,
        }
    }
}

impl Stalled {
    /// Keeps a packet for [`DataPlane::data_retry`].
    pub(crate) fn keep(&mut self, frame: &Frame, fixed: &[u8]) {
        if let Some(space) = self.fixed.get_mut(..fixed.len()) {
            space.copy_from_slice(fixed);
            self.len = fixed.len();
            self.frame = Some(*frame);
        }
    }

    /// Takes a packet back that is not about data.
    pub(crate) fn take_control(&mut self) -> Option<(Frame, [u8; FIXED_LEN_MAX])> {
        let frame = self
            .frame
            .filter(|frame| !is_data_command(frame.command()))?;
        self.frame = None;
        Some((frame, self.fixed))
    }

    /// Tells whether a packet waits.
    #[inline]
    pub(crate) fn is_kept(&self) -> bool {
        self.frame.is_some()
    }

    /// Forgets the packet.
    pub(crate) fn clear(&mut self) {
        self.frame = None;
        self.patience = Patience::Fresh;
    }

    /// Returns the time at which the packet stops waiting.
    pub(crate) fn until(&self) -> Option<Instant> {
        match self.patience {
            Patience::Until(at) => Some(at),
            Patience::Fresh | Patience::Over => None,
        }
    }

    /// Tells whether the packet stops waiting now.
    pub(crate) fn lose_patience(&mut self, now: Instant) -> bool {
        let over = self.until().is_some_and(|at| at <= now);
        if over {
            self.patience = Patience::Over;
        }
        over
    }
}

/// Result of handling a packet; errors are violations of the protocol.
type Handled = Result<Incoming, LinkError>;

const VIOLATION: Handled = Err(LinkError::ProtocolError);

/// Commands of the data socket that [`DataPlane::data_packet`] handles.
pub const fn is_data_command(command: Command) -> bool {
    matches!(
        command,
        Command::Data
            | Command::DataReply
            | Command::RsDataReply
            | Command::Barrier
            | Command::Bitmap
            | Command::CompressedBitmap
            | Command::UnplugRemote
            | Command::DataRequest
            | Command::RsDataRequest
            | Command::RsThinReq
            | Command::CsumRsRequest
            | Command::OvRequest
            | Command::OvReply
            | Command::OutOfSync
            | Command::Trim
            | Command::Zeroes
            | Command::RsDeallocated
    )
}

impl<M: Memory> DataPlane<M> {
    /// Handles the fixed part of a packet for which [`is_data_command`] holds. `followed`: the next
    /// packet has begun to arrive.
    ///
    /// Nobody waits for the ack of a barrier behind which a write comes: it goes with the ack of
    /// that write, and saves a call, a frame and the peer's interrupt.
    pub fn data_packet(
        &mut self,
        frame: &Frame,
        fixed: &[u8],
        followed: bool,
        now: Instant,
    ) -> Incoming {
        self.stalled.clear();
        let acks = self.wants.acks;
        let incoming = self.take_packet(frame, fixed, now);
        match (frame.command(), incoming) {
            (Command::Barrier, Incoming::Done) if followed => self.wants.acks = acks,
            // Its end looks at the epochs.
            (Command::Data, Incoming::PeerPayload { .. }) => {}
            _ => self.wants.acks |= self.epochs.has_finished(),
        }
        incoming
    }

    fn take_packet(&mut self, frame: &Frame, fixed: &[u8], now: Instant) -> Incoming {
        if !self.up {
            // The connection is lost already; a request taken now would never be cancelled. The
            // receiver ends with the sockets.
            self.stalled.keep(frame, fixed);
            return Incoming::Wait;
        }
        let terms = self.terms;
        let handled = match Packet::decode(&terms, frame, fixed) {
            Ok(packet) => self.handle(frame, &packet, now),
            Err(_) => VIOLATION,
        };
        match handled {
            Ok(Incoming::Wait) => {
                self.stalled.keep(frame, fixed);
                Incoming::Wait
            }
            Ok(incoming) => incoming,
            Err(error) => {
                self.upcall(Upcall::LinkFailed(error));
                Incoming::Error(error)
            }
        }
    }

    /// Tries the packet again that could not be taken.
    pub fn data_retry(&mut self, now: Instant) -> Incoming {
        let Some(frame) = self.stalled.frame.take() else {
            return Incoming::Done;
        };
        let fixed = self.stalled.fixed;
        match fixed.get(..self.stalled.len) {
            Some(fixed) => self.take_packet(&frame, fixed, now),
            None => Incoming::Done,
        }
    }

    fn handle(&mut self, frame: &Frame, packet: &Packet<'_>, now: Instant) -> Handled {
        match packet {
            Packet::UnplugRemote => return Ok(Incoming::Done),
            Packet::Barrier(barrier) => return self.barrier(barrier.number),
            _ => {}
        }
        let volume = self
            .volume_index(frame.volume())
            .ok_or(LinkError::ProtocolError)?;
        match packet {
            Packet::Data(_) | Packet::Trim(_) | Packet::Zeroes(_) if !self.epochs.takes_write() => {
                VIOLATION
            }
            Packet::Data(data) => self.write(volume, frame, data),
            Packet::Trim(trim) => self.trim(volume, trim, false),
            Packet::Zeroes(trim) => self.trim(volume, trim, true),
            Packet::DataReply(data) => self.read_reply(volume, frame, data),
            Packet::RsDataReply(data) => self.resync_data(volume, frame, data, now),
            Packet::RsDeallocated(range) => self.resync_hole(volume, range, now),
            Packet::DataRequest(request) => self.serve(volume, PeerKind::Read, request, now),
            Packet::RsDataRequest(request) => {
                self.serve(volume, PeerKind::ResyncRead, request, now)
            }
            Packet::RsThinReq(request) => self.serve(volume, PeerKind::ThinRead, request, now),
            Packet::CsumRsRequest(request) => {
                self.serve(volume, PeerKind::ChecksumCompare, request, now)
            }
            Packet::OvRequest(request) => self.serve(volume, PeerKind::VerifyRead, request, now),
            Packet::OvReply(request) => self.verify_reply(volume, request, now),
            Packet::OutOfSync(range) => self.out_of_sync(volume, range),
            Packet::Bitmap(words) => self.bitmap_part(volume, &BitmapPart::Words(words)),
            Packet::CompressedBitmap(code) => self.bitmap_part(volume, &BitmapPart::Code(code)),
            _ => VIOLATION,
        }
    }

    fn barrier(&mut self, number: u32) -> Handled {
        if !self.epochs.barrier(number) {
            return Ok(Incoming::Wait);
        }
        self.advance_epochs();
        Ok(Incoming::Done)
    }

    /// Checks a range named by the peer against the size of the device.
    fn peer_range(
        &self,
        volume: VolumeIndex,
        sector: Sector,
        len_bytes: u32,
    ) -> Result<SectorRange, LinkError> {
        let capacity = self.volumes[volume.slot()].view.capacity;
        SectorRange::from_bytes(sector, len_bytes)
            .filter(|range| range.end().0 <= capacity.0)
            .ok_or(LinkError::ProtocolError)
    }

    /// Takes a slot for a request on behalf of the peer or of our resync.
    pub(crate) fn new_peer(
        &mut self,
        volume: VolumeIndex,
        kind: PeerKind,
        sector: Sector,
        len_bytes: u32,
    ) -> Option<u32> {
        let id = self.peers.take()?;
        let peer = &mut self.peers[id.slot];
        peer.volume = volume;
        peer.kind = kind;
        peer.sector = sector;
        peer.len_bytes = len_bytes;
        self.all_peers.push(&mut self.peers, id.slot);
        self.volumes[volume.slot()].unanswered += 1;
        Some(id.slot)
    }

    /// P_DATA.
    fn write(&mut self, volume: VolumeIndex, frame: &Frame, data: &Data) -> Handled {
        self.peer_range(volume, data.sector, data.data_len)?;
        let tail = frame.digest_len().saturating_add(frame.data_len());
        let pages = data.data_len.div_ceil(4096);
        let has_disk = self.volumes[volume.slot()].has_disk();
        let waits = self.volumes[volume.slot()].is_good_target();
        if waits || (has_disk && self.lacks_write_pages(pages)) {
            return Ok(Incoming::Wait);
        }
        let kind = if has_disk {
            PeerKind::Write
        } else {
            PeerKind::Refused
        };
        if !self.follows_its_acks(volume, data.seq) {
            return Ok(Incoming::Wait);
        }
        let Some(slot) = self.new_peer(volume, kind, data.sector, data.data_len) else {
            return Ok(Incoming::Wait);
        };
        self.note_sequence(volume, data.seq);
        self.join_epoch(slot, data.block_id.0, data.flags);
        if !has_disk {
            self.refuse_write(slot);
            return Ok(Incoming::Drain { len_bytes: tail });
        }
        self.volumes[volume.slot()].totals.received += u64::from(data.data_len >> 9);
        self.peers[slot].pages = pages;
        self.write_pages += pages;
        let id = self.peers.id_of(slot);
        if data.data_len == 0 {
            // A flush of an old peer: the barrier that follows flushes.
            self.volumes[volume.slot()].cache_dirty = true;
            self.receive_ack(slot);
            self.write_finished(slot, true, Instant(0));
            return Ok(match tail {
                0 => Incoming::Done,
                len_bytes => Incoming::Drain { len_bytes },
            });
        }
        Ok(Incoming::PeerPayload {
            id,
            len_bytes: data.data_len,
            digest_len: frame.digest_len(),
        })
    }

    fn too_many_pages(&self, in_use: u32, pages: u32) -> bool {
        in_use != 0 && in_use.saturating_add(pages) > self.link.max_buffers
    }

    /// Tells whether data of the peer have to wait for the end of other writes.
    fn lacks_write_pages(&self, pages: u32) -> bool {
        let in_use = self.write_pages;
        self.too_many_pages(in_use, pages) || (in_use != 0 && chance(Unlikely::NoWritePages))
    }

    /// Tells whether a read of the peer has to wait for the end of others before it is taken; not
    /// for ever (`reference/io.md` 3.7). Memory for it is another matter
    /// ([`Self::lacks_read_memory`]).
    fn waits_for_pages(&mut self, pages: u32, now: Instant) -> bool {
        let waits = put_back(Bug::MaxBuffersDeadlock);
        let many = self.too_many_pages(self.read_pages, pages);
        if !many && (waits || !chance(Unlikely::NoReadPages)) {
            return false;
        }
        if !waits {
            let _ = self.stalled.lose_patience(now);
        }
        match self.stalled.patience {
            Patience::Fresh => {
                self.stalled.patience = Patience::Until(now.after(PATIENCE));
                true
            }
            Patience::Over => waits,
            Patience::Until(_) => true,
        }
    }

    /// P_TRIM, P_ZEROES (`reference/io.md` 5.2).
    fn trim(&mut self, volume: VolumeIndex, trim: &Trim, zeroes: bool) -> Handled {
        self.peer_range(volume, trim.sector, trim.len_bytes)?;
        let has_disk = self.volumes[volume.slot()].has_disk();
        let kind = if has_disk {
            PeerKind::Trim
        } else {
            PeerKind::Refused
        };
        let waits = self.volumes[volume.slot()].is_good_target();
        if waits || !self.follows_its_acks(volume, trim.seq) {
            return Ok(Incoming::Wait);
        }
        let Some(slot) = self.new_peer(volume, kind, trim.sector, trim.len_bytes) else {
            return Ok(Incoming::Wait);
        };
        self.note_sequence(volume, trim.seq);
        self.join_epoch(slot, trim.block_id.0, trim.flags);
        if !has_disk {
            self.refuse_write(slot);
            let digest_len = u32::from(self.terms.integrity_len);
            if digest_len != 0 && quirk(Quirk::LengthOfNothing) {
                self.peers[slot].len_bytes = digest_len.wrapping_neg();
            }
            return Ok(Incoming::Done);
        }
        let old_sender = !self.terms.features.contains(FeatureFlags::WZEROES);
        let zeroes_only = self.discards_as_zeroes(volume);
        let peer = &mut self.peers[slot];
        peer.zero_out = zeroes || old_sender || zeroes_only;
        peer.may_unmap = !zeroes || trim.flags.contains(DataFlags::DISCARD);
        self.receive_ack(slot);
        self.hold(slot);
        Ok(Incoming::Done)
    }

    /// Discards on behalf of the peer are carried out by writing zeroes.
    fn discards_as_zeroes(&self, volume: VolumeIndex) -> bool {
        let disk = &self.volumes[volume.slot()].view.disk;
        !disk.discard_zeroes_if_aligned
    }

    /// Notes what the peer wants to know and counts the write in its epoch.
    fn join_epoch(&mut self, slot: u32, block_id: u64, flags: DataFlags) {
        let (receive, write) = if self.link.terms.version.number() >= 100 {
            (
                flags.contains(DataFlags::SEND_RECEIVE_ACK),
                flags.contains(DataFlags::SEND_WRITE_ACK),
            )
        } else {
            (
                self.link.protocol == Protocol::B,
                self.link.protocol == Protocol::C,
            )
        };
        let epoch = self.epochs.join();
        self.arrival += 1;
        let peer = &mut self.peers[slot];
        peer.block_id = block_id;
        peer.in_epoch = true;
        peer.epoch = epoch;
        peer.arrival = self.arrival;
        peer.fua = flags.contains(DataFlags::FUA);
        peer.preflush = flags.contains(DataFlags::FLUSH);
        peer.sync = flags.contains(DataFlags::RW_SYNC);
        peer.may_set_in_sync = flags.contains(DataFlags::MAY_SET_IN_SYNC);
        peer.wants_receive_ack = receive;
        peer.wants_write_ack = write;
    }

    /// Without a disk the write is refused, but counts for its epoch. One that is being attached
    /// lacks it: the peer may have sent its bitmap before it hears of this.
    fn refuse_write(&mut self, slot: u32) {
        let peer = &self.peers[slot];
        let (volume, range, epoch) = (peer.volume, peer.range(), peer.epoch);
        self.volumes[volume.slot()].write_refused(range);
        self.epochs.write_finished(epoch);
        self.advance_epochs();
        self.queue_ack(slot, Ack::Neg);
    }

    fn receive_ack(&mut self, slot: u32) {
        if self.peers[slot].wants_receive_ack {
            self.queue_ack(slot, Ack::Received);
        }
    }

    /// Puts a write into the queue for the disk, behind earlier ones it overlaps.
    fn hold(&mut self, slot: u32) {
        if self.loses_conflict(slot) {
            return;
        }
        let peer = &mut self.peers[slot];
        peer.stage = Stage::Waiting;
        let (start, end) = (peer.sector.0, peer.range().end().0);
        let application = peer.kind.is_application_write();
        let (volume, range) = (peer.volume, peer.range());
        let place = &mut self.volumes[volume.slot()];
        let mut first = false;
        if application && place.view.state.pdsk < DiskState::Inconsistent {
            // Now, not when it goes to the disk: by then the peer may have a disk again, and the
            // bitmap that it was sent must name this write.
            peer.peer_is_diskless = true;
            place.diskless_writes += 1;
            first = !core::mem::replace(&mut place.took_writes, true);
            place.set_out_of_sync(range);
        }
        place.peer_app_writes += u32::from(application);
        place.peer_writes.insert(&mut self.peers, slot, start, end);
        if application {
            self.peers[slot].is_counted_write = true;
            self.held.push(&mut self.peers, slot);
        } else {
            self.resync_held.push(&mut self.peers, slot);
        }
        if first {
            // Before the link or the disk can go.
            self.upcall(Upcall::TookWrites(volume));
        }
        self.wants.peer_io = true;
    }

    /// Digest and payload of a peer request have been received into its pages; `digest_ok` is
    /// `false` if the digest does not match.
    pub fn peer_payload(&mut self, id: PeerId, digest_ok: bool, now: Instant) {
        if self.peers.get(id).map(|peer| peer.stage) != Some(Stage::Receiving) {
            return;
        }
        self.peers[id.slot].has_pages = true;
        if !digest_ok || self.peers[id.slot].cancelled {
            if !digest_ok {
                self.upcall(Upcall::LinkFailed(LinkError::ProtocolError));
            }
            self.abandon(id.slot);
            return;
        }
        if self.peers[id.slot].kind.is_application_write() {
            self.receive_ack(id.slot);
        } else if !self.peers[id.slot].holds_extent {
            // Meanwhile the disk or the resync for which it was asked for has gone.
            self.resync_written(id.slot, false, now);
            return;
        }
        self.hold(id.slot);
    }

    /// P_DATA_REPLY.
    fn read_reply(&mut self, volume: VolumeIndex, frame: &Frame, data: &Data) -> Handled {
        let id = RequestId::from_wire(data.block_id.0);
        let request = self.requests.get_mut(id).ok_or(LinkError::ProtocolError)?;
        let matches = request.remote == Remote::Read
            && request.answer == crate::request::Answer::Pending
            && request.volume == volume
            && request.sector == data.sector
            && request.len_bytes == data.data_len
            && !request.receiving;
        if !matches {
            return VIOLATION;
        }
        request.receiving = true;
        self.volumes[volume.slot()].totals.received += u64::from(data.data_len >> 9);
        Ok(Incoming::AppPayload {
            id,
            len_bytes: data.data_len,
            digest_len: frame.digest_len(),
        })
    }

    /// The data of a read has been received into the pages of the upper request.
    pub fn app_payload(&mut self, id: RequestId, digest_ok: bool, now: Instant) {
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        if !core::mem::replace(&mut request.receiving, false) {
            return;
        }
        if digest_ok {
            self.apply(id.slot, Event::DataReceived, now);
        } else {
            self.upcall(Upcall::LinkFailed(LinkError::ProtocolError));
            // The end of the connection ends the request.
            self.apply(id.slot, Event::Thaw, now);
        }
    }

    /// P_RS_DATA_REPLY.
    fn resync_data(
        &mut self,
        volume: VolumeIndex,
        frame: &Frame,
        data: &Data,
        now: Instant,
    ) -> Handled {
        let range = self.peer_range(volume, data.sector, data.data_len)?;
        let tail = frame.digest_len().saturating_add(frame.data_len());
        let Some(wanted) = self.takes_resync(volume, range) else {
            return Ok(Incoming::Wait);
        };
        let pages = data.data_len.div_ceil(4096);
        if wanted && self.lacks_write_pages(pages) {
            return Ok(Incoming::Wait);
        }
        let kind = if wanted {
            PeerKind::ResyncWrite
        } else {
            PeerKind::Refused
        };
        let Some(slot) = self.new_peer(volume, kind, data.sector, data.data_len) else {
            return Ok(Incoming::Wait);
        };
        if !self.expects_resync(volume, range, wanted, now) {
            self.peers[slot].kind = PeerKind::Refused;
            self.queue_ack(slot, Ack::Neg);
            return Ok(Incoming::Drain { len_bytes: tail });
        }
        self.peers[slot].pages = pages;
        self.write_pages += pages;
        self.answer_arrived(slot);
        self.volumes[volume.slot()].totals.received += range.len().0;
        Ok(Incoming::PeerPayload {
            id: self.peers.id_of(slot),
            len_bytes: data.data_len,
            digest_len: frame.digest_len(),
        })
    }

    /// P_RS_DEALLOCATED.
    fn resync_hole(&mut self, volume: VolumeIndex, hole: &BlockRange, now: Instant) -> Handled {
        let range = self.peer_range(volume, hole.sector, hole.len_bytes)?;
        let Some(wanted) = self.takes_resync(volume, range) else {
            return Ok(Incoming::Wait);
        };
        let kind = if wanted {
            PeerKind::ResyncTrim
        } else {
            PeerKind::Refused
        };
        let Some(slot) = self.new_peer(volume, kind, hole.sector, hole.len_bytes) else {
            return Ok(Incoming::Wait);
        };
        if !self.expects_resync(volume, range, wanted, now) {
            self.peers[slot].kind = PeerKind::Refused;
            self.queue_ack(slot, Ack::Neg);
            return Ok(Incoming::Done);
        }
        self.peers[slot].may_unmap = true;
        self.peers[slot].zero_out = self.discards_as_zeroes(volume);
        self.answer_arrived(slot);
        self.hold(slot);
        Ok(Incoming::Done)
    }

    /// The answer to one of our resync requests is here; the request's user of the extent and
    /// its count go over to `slot`.
    fn answer_arrived(&mut self, slot: u32) {
        self.arrival += 1;
        let arrival = self.arrival;
        let peer = &mut self.peers[slot];
        peer.arrival = arrival;
        peer.holds_extent = true;
        peer.counted = true;
        let len = peer.sectors();
        if let Some(session) = &mut self.volumes[peer.volume.slot()].session {
            session.answered(len);
        }
        self.wants.sender = true;
    }

    /// Requests for data or digests.
    fn serve(
        &mut self,
        volume: VolumeIndex,
        kind: PeerKind,
        request: &BlockRequest<'_>,
        now: Instant,
    ) -> Handled {
        let range = self.peer_range(volume, request.sector, request.len_bytes)?;
        let digest_len = request.digest.len();
        let expected = match kind {
            PeerKind::ChecksumCompare => digest_len == usize::from(self.link.csums_len),
            PeerKind::VerifyRead => self.link.verify_len != 0,
            _ => true,
        };
        let algorithm = kind != PeerKind::ChecksumCompare || digest_len != 0;
        if range.is_empty() || !expected || !algorithm {
            return VIOLATION;
        }
        let state = self.volumes[volume.slot()].view.state;
        let good = state.disk == DiskState::UpToDate && self.volumes[volume.slot()].has_disk();
        let ahead = state.conn == ConnState::Ahead && kind.holds_extent();
        let taken = if good && !ahead {
            kind
        } else {
            PeerKind::Refused
        };
        let pages = request.len_bytes.div_ceil(4096);
        if taken != PeerKind::Refused && self.waits_for_pages(pages, now) {
            return Ok(Incoming::Wait);
        }
        let Some(slot) = self.new_peer(volume, taken, request.sector, request.len_bytes) else {
            return Ok(Incoming::Wait);
        };
        self.peers[slot].block_id = request.block_id.0;
        if taken == PeerKind::Refused {
            let ack = match kind {
                PeerKind::Read => Ack::NegRead,
                _ if ahead => Ack::ResyncCancel,
                _ => Ack::NegResyncRead,
            };
            self.queue_ack(slot, ack);
            return Ok(Incoming::Done);
        }
        if kind.holds_extent() {
            self.target_asks(volume);
        }
        if !self.peers[slot].set_digest(request.digest) {
            return VIOLATION;
        }
        self.peers[slot].pages = pages;
        self.read_pages += pages;
        if kind == PeerKind::VerifyRead {
            self.verify_begins(volume, range);
        }
        self.peers[slot].stage = Stage::Waiting;
        if kind.holds_extent() {
            self.lock_wait.push(&mut self.peers, slot);
        } else {
            // Behind the writes that came before: they may have been acknowledged as received.
            self.arrival += 1;
            self.peers[slot].arrival = self.arrival;
            self.read_wait.push(&mut self.peers, slot);
        }
        self.wants.peer_io = true;
        Ok(Incoming::Done)
    }

    /// P_OV_REPLY: read our block and compare. The extent is locked since we asked.
    fn verify_reply(
        &mut self,
        volume: VolumeIndex,
        reply: &BlockRequest<'_>,
        now: Instant,
    ) -> Handled {
        let range = self.peer_range(volume, reply.sector, reply.len_bytes)?;
        let place = &self.volumes[volume.slot()];
        let session = place.session.as_ref().filter(|_| place.answers_due == 0);
        let asks = session
            .is_some_and(|session| session.job == Job::Verify && session.side == Side::Source);
        let asked = asks
            && place
                .disk
                .as_ref()
                .is_some_and(|disk| disk.extents.is_locked(range.start().resync_extent().0));
        let has_disk = place.has_disk();
        let len_fits = reply.digest.len() == usize::from(self.link.verify_len);
        // The answer to a question of a run that has ended meanwhile harms nobody.
        if !len_fits || (asks && !asked && has_disk) {
            return VIOLATION;
        }
        let kind = if asked && has_disk {
            PeerKind::VerifyCompare
        } else {
            PeerKind::Refused
        };
        let Some(slot) = self.new_peer(volume, kind, reply.sector, reply.len_bytes) else {
            return Ok(Incoming::Wait);
        };
        if self.answers_run_before(volume, now) || kind == PeerKind::Refused {
            self.peers[slot].kind = PeerKind::Refused;
            self.queue_ack(slot, Ack::VerifyResult { same: true });
            return Ok(Incoming::Done);
        }
        if !self.peers[slot].set_digest(reply.digest) {
            return VIOLATION;
        }
        self.answer_arrived(slot);
        self.peers[slot].stage = Stage::Waiting;
        // Writes of the peer that come behind the digest must not get to the disk before the read.
        let (start, end) = (range.start().0, range.end().0);
        let place = &mut self.volumes[volume.slot()];
        place.peer_writes.insert(&mut self.peers, slot, start, end);
        self.io_ready.push(&mut self.peers, slot);
        self.wants.peer_io = true;
        Ok(Incoming::Done)
    }

    /// P_OUT_OF_SYNC.
    fn out_of_sync(&mut self, volume: VolumeIndex, block: &BlockRange) -> Handled {
        let range = self.peer_range(volume, block.sector, block.len_bytes)?;
        self.volumes[volume.slot()].set_out_of_sync(range);
        Ok(Incoming::Done)
    }
}
