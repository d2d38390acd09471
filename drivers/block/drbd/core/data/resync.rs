//! Resync and online verify of a volume: requests, answers, progress, end (`reference/io.md` 6,
//! 7).

use drbd_format::types::ConnState;
use drbd_format::units::{BitIndex, SectorCount, SectorRange};
use drbd_format::wire::features::FeatureFlags;
use drbd_format::wire::packet::Packet;
use drbd_format::wire::payload::{BlockAck, BlockId, BlockRequest};

use super::{DataPlane, Outgoing, Payload, SentToken, VolumeSlot};
use crate::bitmap::block_range;
use crate::chance::{chance, Unlikely};
use crate::link::{LinkError, Side, Upcall, VolumeIndex};
use crate::memory::Memory;
use crate::peer_request::{PeerKind, Stage};
use crate::put_back::{put_back, Bug};
use crate::quirk::{quirk, Quirk};
use crate::resync::extents::{Begin, ASK_LIMIT};
use crate::resync::rate::Allowance;
use crate::resync::session::{merge, verify_block, Job, RequestLimits, Session};
use crate::time::{earliest, Duration, Instant};

/// Least time between two requests to write the bitmap.
const WRITE_EVERY: Duration = Duration::from_secs(2);
/// How long a cancelled request keeps a target from asking.
const CANCELLED_FOR: Duration = Duration::from_secs(1);
/// The eighths of all slots that our own questions to the peer may have. They and those of the
/// peer, who asks as much, must leave some for answers and writes: otherwise two nodes that ask
/// each other, about two volumes, both wait for the other one to read.
const OWN_EIGHTHS: u32 = 3;

impl<M: Memory> VolumeSlot<M> {
    /// The source could not read these blocks, or the target could not write them. What is not
    /// marked here need not be marked there either: the data may have been an answer to a question
    /// of the run before.
    pub(crate) fn not_synced(&mut self, range: SectorRange) {
        if let (Some(disk), Some(session)) = (&self.disk, &mut self.session) {
            if session.side == Side::Source {
                let marked = disk.bitmap.count_range(range);
                session.failed += marked;
                session.refused_unmarked |= marked < range.len().bits().0;
            }
        }
    }

    /// The target of a resync from here has got our bitmap, or is told of it (Ahead). What is
    /// marked here alone from now on it would never ask for: a verify that has been given up tells
    /// both nodes what it finds.
    fn bits_are_told(&self) -> bool {
        let state = self.view.state;
        matches!(state.conn, ConnState::WfBitMapS | ConnState::Ahead) || state.is_sync_source()
    }
}

impl<M: Memory> DataPlane<M> {
    /// Generates the next request of a resync or verify, as far as its limits allow.
    pub(crate) fn next_resync_packet(&mut self, buf: &mut [u8], now: Instant) -> Option<Outgoing> {
        self.since_resync = 0;
        self.resync_timer = None;
        if !self.up {
            return None;
        }
        if let Some(outgoing) = self.next_mark(buf, now) {
            return Some(outgoing);
        }
        for number in 0..u8::try_from(self.volumes.len()).unwrap_or(0) {
            let volume = VolumeIndex(number);
            let Some(session) = &self.volumes[volume.slot()].session else {
                continue;
            };
            let job = session.job;
            let runs = match (job, session.side) {
                (Job::Resync, Side::Target) => ConnState::SyncTarget,
                (Job::Verify, Side::Source) => ConnState::VerifyS,
                (Job::Resync, Side::Source) => {
                    self.count_if_due(volume, now);
                    continue;
                }
                (Job::Verify, Side::Target) => continue,
            };
            let place = &self.volumes[volume.slot()];
            if place.view.state.conn != runs || !place.has_disk() {
                continue;
            }
            match place.waits_for_answers() {
                Some(until) if now < until => {
                    self.resync_timer = earliest(self.resync_timer, Some(until));
                    continue;
                }
                Some(_) => {
                    // Nothing that comes over another connection is about the run before.
                    self.upcall(Upcall::LinkFailed(LinkError::NetworkFailure));
                    return None;
                }
                None => {}
            }
            let len = match job {
                Job::Resync => self.ask_for_data(volume, buf, now),
                Job::Verify => self.ask_for_digest(volume, buf, now),
            };
            if let Some(len) = len {
                return Some(Outgoing {
                    len,
                    payload: Payload::None,
                    digest: false,
                    algorithm: None,
                    copy: false,
                    token: SentToken::Nothing,
                });
            }
        }
        None
    }

    /// Returns how many sectors may be asked for now. If none, writes to the extent that would
    /// have been next go first (`reference/io.md` 4.5).
    fn allowed(&mut self, volume: VolumeIndex, now: Instant) -> Option<u64> {
        let tick = next_tick(now);
        self.resync_timer = earliest(self.resync_timer, tick);
        let sectors = match tick {
            Some(_) => None,
            None => self.allowance(volume, now),
        };
        if sectors.is_none() {
            self.give_up_extents(volume, None);
        }
        sectors
    }

    /// Questions of all volumes that the peer has not answered completely. Loops over them.
    fn outstanding(&self) -> u32 {
        let sessions = self
            .volumes
            .iter()
            .filter_map(|place| place.session.as_ref());
        sessions.map(|session| session.outstanding).sum()
    }

    fn allowance(&mut self, volume: VolumeIndex, now: Instant) -> Option<u64> {
        let window_max = self.resync_window();
        let outstanding = self.outstanding();
        let most = self.peers.capacity() / 8 * OWN_EIGHTHS;
        let place = &mut self.volumes[volume.slot()];
        let session = place.session.as_mut()?;
        if session.outstanding != 0 && outstanding >= most {
            return None;
        }
        let in_flight = session.in_flight;
        match session
            .rate
            .allowance(now, &place.view.disk, in_flight, window_max)
        {
            Allowance::Sectors(sectors) => Some(sectors),
            Allowance::Window => None,
            Allowance::Until(at) => {
                self.resync_timer = earliest(self.resync_timer, Some(at));
                None
            }
        }
    }

    /// The peer has cancelled what it was asked for. If nothing comes of it all is asked for again
    /// in another pass: behind the last answer, as nothing may be asked for, or fail, twice in one.
    fn is_cancelled(&mut self, volume: VolumeIndex, now: Instant) -> bool {
        let Some(session) = &mut self.volumes[volume.slot()].session else {
            return false;
        };
        let until = session.cancelled_until;
        if !session.is_cancelled() {
            return false;
        }
        if now < until {
            self.resync_timer = earliest(self.resync_timer, Some(until));
            return true;
        }
        if session.outstanding != 0 {
            return true;
        }
        session.cancelled_until = Instant(0);
        session.position = BitIndex(0);
        session.failed = 0;
        false
    }

    /// Asks for the next set bits. Checksum requests go to the disk first; the loop is bounded by
    /// the window.
    fn ask_for_data(&mut self, volume: VolumeIndex, buf: &mut [u8], now: Instant) -> Option<usize> {
        loop {
            if self.is_cancelled(volume, now) {
                return None;
            }
            let place = &self.volumes[volume.slot()];
            let (session, disk) = (place.session.as_ref()?, place.disk.as_ref()?);
            if session.reported {
                return None;
            }
            let Some(bit) = disk.bitmap.find_next(session.position) else {
                let end = disk.bitmap.bits();
                self.give_up_extents(volume, None);
                self.set_position(volume, BitIndex(end));
                self.resync_progressed(volume, now);
                // A new pass may have begun.
                let place = &self.volumes[volume.slot()];
                let restarted = place.session.as_ref()?.position == BitIndex(0)
                    && place.disk.as_ref()?.bitmap.weight() != 0;
                if restarted {
                    continue;
                }
                return None;
            };
            let sectors = self.allowed(volume, now)?;
            let extent = bit.resync_extent().0;
            if self.begin_extent(volume, extent, ASK_LIMIT) != Begin::Locked {
                self.set_position(volume, bit);
                return None;
            }
            let range = self.merged(volume, bit, sectors)?;
            self.set_position(volume, BitIndex(bit.0 + range.len().bits().0));
            let place = &mut self.volumes[volume.slot()];
            let session = place.session.as_mut()?;
            let checksums = session.checksums;
            session.asked(range.len());
            if !checksums {
                return self.encode_request(volume, range, buf);
            }
            if !self.read_for_checksum(volume, range) {
                // No slot: take it back and wait for one.
                self.take_back(volume, range, extent, bit);
                return None;
            }
        }
    }

    fn set_position(&mut self, volume: VolumeIndex, bit: BitIndex) {
        if let Some(session) = &mut self.volumes[volume.slot()].session {
            session.position = bit;
        }
    }

    fn merged(&self, volume: VolumeIndex, bit: BitIndex, sectors: u64) -> Option<SectorRange> {
        let place = &self.volumes[volume.slot()];
        let bitmap = &place.disk.as_ref()?.bitmap;
        let thin = self.terms.features.contains(FeatureFlags::THIN_RESYNC);
        let granularity = place.view.disk.rs_discard_granularity_bytes;
        let alone = sectors > 8 && chance(Unlikely::BlockAlone);
        let limits = RequestLimits {
            sectors: if alone { 8 } else { sectors },
            max_bytes: place
                .view
                .max_bio_bytes
                .min(self.terms.version.request_bytes_max()),
            granularity_bytes: if thin { granularity } else { 0 },
            capacity: bitmap.capacity(),
        };
        Some(merge(bit, &limits, |bit| bitmap.is_set(bit)))
    }

    fn encode_request(
        &mut self,
        volume: VolumeIndex,
        range: SectorRange,
        buf: &mut [u8],
    ) -> Option<usize> {
        let place = &self.volumes[volume.slot()];
        let len_bytes = u32::try_from(range.len().bytes()?.0).ok()?;
        let request = BlockRequest {
            sector: range.start(),
            block_id: BlockId::SYNCER,
            len_bytes,
            digest: &[],
        };
        let granularity = place.view.disk.rs_discard_granularity_bytes;
        let verify = place
            .session
            .as_ref()
            .is_some_and(|session| session.job == Job::Verify);
        let thin = self.terms.features.contains(FeatureFlags::THIN_RESYNC)
            && granularity != 0
            && len_bytes == granularity;
        let packet = if verify {
            Packet::OvRequest(request)
        } else if thin {
            Packet::RsThinReq(request)
        } else {
            Packet::RsDataRequest(request)
        };
        packet.encode(&self.terms, place.number?.0, buf).ok()
    }

    fn read_for_checksum(&mut self, volume: VolumeIndex, range: SectorRange) -> bool {
        let len_bytes = u32::try_from(range.len().0 << 9).unwrap_or(0);
        let start = range.start();
        let Some(slot) = self.new_peer(volume, PeerKind::ChecksumRead, start, len_bytes) else {
            return false;
        };
        let peer = &mut self.peers[slot];
        peer.stage = Stage::Waiting;
        peer.holds_extent = true;
        peer.counted = true;
        self.io_ready.push(&mut self.peers, slot);
        self.wants.peer_io = true;
        true
    }

    fn take_back(&mut self, volume: VolumeIndex, range: SectorRange, extent: u64, bit: BitIndex) {
        if let Some(session) = &mut self.volumes[volume.slot()].session {
            session.in_flight = session.in_flight.saturating_sub(range.len().0);
            session.finished();
            session.position = bit;
        }
        if put_back(Bug::PutTwiceOnAllocationFailure) {
            self.open_extent(volume, extent);
        }
        // All is as it was before: nobody has to look again, least of all the sender.
        let wants = self.wants;
        self.open_extent(volume, extent);
        self.wants = wants;
    }

    /// Our own read for a checksum failed. The data are asked for without: they may heal what can
    /// not be read, and if they can not be written that tells the source that the blocks stay out
    /// of sync. Nothing is asked for that a disk that is given up, or a run that is over (before
    /// version 96), would not take.
    pub(crate) fn own_read_failed(&mut self, slot: u32) {
        let peer = &self.peers[slot];
        if peer.holds_extent && self.volumes[peer.volume.slot()].has_disk() {
            self.queue_reply(slot);
        } else {
            self.retire(slot);
        }
    }

    /// Asks for the digest of the next block.
    fn ask_for_digest(
        &mut self,
        volume: VolumeIndex,
        buf: &mut [u8],
        now: Instant,
    ) -> Option<usize> {
        let place = &self.volumes[volume.slot()];
        let (session, disk) = (place.session.as_ref()?, place.disk.as_ref()?);
        let bit = session.position;
        let end = session.stop.0.min(disk.bitmap.bits());
        if bit.0 >= end {
            self.resync_progressed(volume, now);
            return None;
        }
        let range = verify_block(bit, disk.bitmap.capacity());
        self.allowed(volume, now)?;
        if self.begin_extent(volume, bit.resync_extent().0, ASK_LIMIT) != Begin::Locked {
            return None;
        }
        self.set_position(volume, BitIndex(bit.0 + 1));
        if let Some(session) = &mut self.volumes[volume.slot()].session {
            session.asked(range.len());
        }
        self.encode_request(volume, range, buf)
    }

    /// One of our requests has been answered on the meta socket: refused, cancelled or found in
    /// sync.
    pub(crate) fn request_answered(
        &mut self,
        volume: VolumeIndex,
        ack: &BlockAck,
        failed: bool,
        cancelled: bool,
        now: Instant,
    ) {
        if self.answers_run_before(volume, now) {
            return;
        }
        let range = self.ack_range(volume, ack);
        let extent = range.start().resync_extent().0;
        let place = &mut self.volumes[volume.slot()];
        let Some(disk) = &place.disk else { return };
        if range.is_empty() || !disk.extents.is_locked(extent) {
            return;
        }
        let Some(session) = &mut place.session else {
            return;
        };
        session.answered(range.len());
        session.finished();
        if cancelled {
            session.cancelled_until = now.after(CANCELLED_FOR);
        }
        match session.job {
            Job::Resync if failed => session.failed += disk.bitmap.count_range(range),
            Job::Resync => {}
            Job::Verify => session.verify_left = session.verify_left.saturating_sub(1),
        }
        self.open_extent(volume, extent);
        self.wants.sender = true;
        self.resync_progressed(volume, now);
    }

    /// The first request of a verify tells the answering side where it starts.
    pub(crate) fn verify_begins(&mut self, volume: VolumeIndex, range: SectorRange) {
        let place = &mut self.volumes[volume.slot()];
        let Some(disk) = &place.disk else { return };
        let Some(session) = &mut place.session else {
            return;
        };
        let first = session.job == Job::Verify && session.position == BitIndex(u64::MAX);
        if first {
            session.position = range.start().bit();
            session.total = disk.bitmap.bits().saturating_sub(session.position.0);
            session.verify_left = session.total;
        }
    }

    /// The asking side has compared a block.
    pub(crate) fn verify_compared(&mut self, slot: u32, same: bool, now: Instant) {
        let (volume, range) = (self.peers[slot].volume, self.peers[slot].range());
        let place = &mut self.volumes[volume.slot()];
        if !same && !place.bits_are_told() {
            place.set_out_of_sync(range);
        }
        let verify = |session: &&mut Session| session.job == Job::Verify;
        if let Some(session) = place.session.as_mut().filter(verify) {
            session.verify_left = session.verify_left.saturating_sub(1);
            session.failed += u64::from(!same);
            let left = session.verify_left;
            session.progress(left, now);
        }
        self.complete_extent(slot);
        self.queue_ack(slot, crate::peer_request::Ack::VerifyResult { same });
        self.wants.sender = true;
        self.resync_progressed(volume, now);
    }

    /// P_OV_RESULT on the answering side.
    pub(crate) fn verify_result(&mut self, volume: VolumeIndex, ack: &BlockAck, now: Instant) {
        let range = self.ack_range(volume, ack);
        let different = ack.block_id == BlockId::OUT_OF_SYNC;
        let place = &mut self.volumes[volume.slot()];
        if different && !place.bits_are_told() {
            place.set_out_of_sync(range);
        }
        if let Some(session) = &mut place.session {
            if session.job == Job::Verify {
                session.verify_left = session.verify_left.saturating_sub(1);
                session.failed += u64::from(different);
                let left = session.verify_left;
                session.progress(left, now);
            }
        }
        self.resync_progressed(volume, now);
    }

    /// Something was synced or compared: is the run over, is a write of the bitmap due?
    pub(crate) fn resync_progressed(&mut self, volume: VolumeIndex, now: Instant) {
        let counts = self.counts_from(volume).is_some_and(|from| from <= now);
        let place = &mut self.volumes[volume.slot()];
        let Some(disk) = &place.disk else { return };
        let Some(session) = &mut place.session else {
            return;
        };
        let conn = place.view.state.conn;
        let end = match (session.job, session.side) {
            (Job::Resync, Side::Target) => {
                conn == ConnState::SyncTarget
                    && place.answers_due == 0
                    && resync_end(session, &disk.bitmap)
            }
            (Job::Verify, Side::Source) => {
                let last = session.stop.0.min(disk.bitmap.bits());
                conn == ConnState::VerifyS && session.outstanding == 0 && session.position.0 >= last
            }
            (Job::Verify, Side::Target) => {
                session.position != BitIndex(u64::MAX) && session.verify_left == 0
            }
            // The source learns of the end from the peer's state, which may come on one socket
            // before the last ack is there on the other.
            (Job::Resync, Side::Source) => source_end(session, disk.bitmap.weight(), counts),
        };
        let is_time = now.since(session.written) >= WRITE_EVERY;
        let due = (is_time || chance(Unlikely::BitmapWrittenEarly))
            && disk.bitmap.next_changed_page(0).is_some();
        if due {
            session.written = now;
        }
        let (job, failed) = (session.job, session.failed);
        let reported = session.reported;
        session.reported |= end;
        let weight = disk.bitmap.weight();
        if due {
            self.upcall(Upcall::BitmapWriteDue(volume));
        }
        if end && !reported {
            self.upcall(match job {
                Job::Resync => Upcall::ResyncDone {
                    volume,
                    failed_bits: failed.min(weight),
                },
                Job::Verify => Upcall::VerifyDone {
                    volume,
                    out_of_sync_bits: failed,
                },
            });
        }
    }

    /// Since when a run from here ends with its last bit, if it does.
    pub(crate) fn counts_from(&self, volume: VolumeIndex) -> Option<Instant> {
        let session = self.volumes.get(volume.slot())?.session.as_ref()?;
        let version = self.link.terms.version.number();
        session.counts_from(version, self.link.silence_max)
    }

    /// A run without bits from here ends unheard of when it has gone on for long enough.
    fn count_if_due(&mut self, volume: VolumeIndex, now: Instant) {
        let reported = |session: &Session| session.reported;
        let session = &self.volumes[volume.slot()].session;
        if session.as_ref().is_some_and(reported) {
            return;
        }
        match self.counts_from(volume) {
            None | Some(Instant(0)) => {}
            Some(at) if now < at => self.resync_timer = earliest(self.resync_timer, Some(at)),
            Some(_) => self.resync_progressed(volume, now),
        }
    }

    /// The target asks for a block. What it said before its first request was not about this run.
    pub(crate) fn target_asks(&mut self, volume: VolumeIndex) {
        if let Some(session) = &mut self.volumes[volume.slot()].session {
            session.peer_ended &= session.peer_asked;
            session.peer_asked = true;
        }
    }

    /// `Order::OnlyNewSpace`: what is marked in front of it the target need not ask for. A verify
    /// may have found it whose result the target has not heard of.
    pub(crate) fn only_new_space(&mut self, volume: VolumeIndex, old: SectorCount) {
        let place = &mut self.volumes[volume.slot()];
        if let (Some(disk), Some(session)) = (&place.disk, &mut place.session) {
            let before = block_range(0, old.bits().0, old);
            session.verify_left = disk.bitmap.count_range(before);
        }
    }

    /// `Order::GoOnSyncing`: blocks were marked behind the end of the run.
    pub(crate) fn go_on_syncing(&mut self, volume: VolumeIndex, now: Instant) {
        if let Some(session) = &mut self.volumes[volume.slot()].session {
            session.reported = false;
            self.wants.sender = true;
        }
        self.resync_progressed(volume, now);
    }

    /// `Order::CheckResyncDone`: the peer says the run is over. What is marked on a disk that has
    /// `failed` stays so, and there may be more of it than the acks have told.
    pub(crate) fn check_resync_done(&mut self, volume: VolumeIndex, failed: bool, now: Instant) {
        let place = &mut self.volumes[volume.slot()];
        let Some(disk) = &place.disk else { return };
        let Some(session) = &mut place.session else {
            return;
        };
        let weight = disk.bitmap.weight();
        let over = failed && (session.peer_asked || session.peer_ended);
        let failed = if over { weight } else { session.failed };
        let done = over || weight <= session.not_to_be_done();
        session.peer_ended = done || !quirk(Quirk::EndSeenOnce);
        let forgets = put_back(Bug::WriteDuringShortResync);
        let upcall = match session.job {
            Job::Resync if done || forgets => Some(Upcall::ResyncDone {
                volume,
                failed_bits: if forgets { 0 } else { failed.min(weight) },
            }),
            Job::Resync => None,
            Job::Verify => Some(Upcall::VerifyDone {
                volume,
                out_of_sync_bits: failed,
            }),
        };
        match upcall {
            Some(_) if session.reported => {}
            Some(upcall) => {
                session.reported = true;
                self.upcall(upcall);
            }
            None => self.resync_progressed(volume, now),
        }
    }
}

/// Tells whether a resync source is done with `weight` bits set: the target says so, or need not
/// (`counts`). Then nothing may be left: what it has refused may have been an answer to a question
/// of the run before, and it asks again.
fn source_end(session: &Session, weight: u64, counts: bool) -> bool {
    let told = session.peer_ended && weight <= session.not_to_be_done();
    told || (counts && weight == 0)
}

/// When the C driver would ask next, if that is not now. It may be ours as well.
fn next_tick(now: Instant) -> Option<Instant> {
    const TICK_NS: u64 = 100_000_000;
    const MOMENT_NS: u64 = 1_000_000;
    let since = now.0 % TICK_NS;
    let wait = Duration(TICK_NS - since);
    if since < MOMENT_NS {
        return None;
    }
    let later = quirk(Quirk::ResyncInTicks) || chance(Unlikely::TurnMissed);
    later.then(|| now.after(wait))
}

/// Tells whether a resync target is done; begins a new pass if bits were set behind its position.
fn resync_end<W, P>(session: &mut Session, bitmap: &crate::bitmap::Bitmap<W, P>) -> bool
where
    W: core::ops::DerefMut<Target = [u64]>,
    P: core::ops::DerefMut<Target = [crate::bitmap::PageState]>,
{
    if session.outstanding != 0 || session.reported {
        return false;
    }
    let weight = bitmap.weight();
    if weight == 0 {
        return true;
    }
    if bitmap.find_next(session.position).is_some() {
        return false;
    }
    if weight <= session.failed {
        return true;
    }
    if !session.is_cancelled() {
        session.position = BitIndex(0);
        session.failed = 0;
    }
    false
}
