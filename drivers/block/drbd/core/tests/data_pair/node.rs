//! One node: a data plane, a disk with a volatile cache, and a shell that does as it is told.

use std::collections::{HashMap, VecDeque};

use drbd_core::action::Action;
use drbd_core::activity_log::AlSlot;
use drbd_core::bitmap::PageState;
use drbd_core::control::{Held, Volume};
use drbd_core::data::{
    is_ack_command, is_data_command, AlPlace, AlStep, AppIo, DataPlane, DiskMemory, DoneKind,
    FlushToken, Incoming, LocalPart, Payload, PeerIo, SentToken, Submit, VolumeSlot,
};
use drbd_core::link::{Order, Upcall, VolumeIndex, VolumeNumber};
use drbd_core::memory::Memory;
use drbd_core::peer_request::{PeerId, PeerSlot};
use drbd_core::request::{IoError, Op, RequestId, RequestSlot};
use drbd_core::resync::extents::ResyncSlot;
use drbd_core::send_queue::NextPacket;
use drbd_core::time::Instant;
use drbd_format::disk::layout::Striping;
use drbd_format::units::{Sector, SectorCount};
use drbd_format::wire::command::{Command, Frame, Stream};
use drbd_format::wire::header::Header;
use drbd_format::wire::packet::Packet;

pub(crate) const V: VolumeIndex = VolumeIndex(0);

pub(crate) struct Vecs;

impl Memory for Vecs {
    type Requests = Vec<RequestSlot>;
    type PeerRequests = Vec<PeerSlot>;
    type Volumes = Vec<VolumeSlot<Vecs>>;
    type AlExtents = Vec<AlSlot>;
    type ResyncExtents = Vec<ResyncSlot>;
    type Bitmap = Vec<u64>;
    type BitmapPages = Vec<PageState>;
    type ControlVolumes = Vec<Volume>;
    type Actions = Vec<Option<Action>>;
    type Orders = Vec<Option<Order>>;
    type Outbox = Vec<Option<Held>>;
}

/// A disk whose writes are lost with the power unless they were flushed.
pub(crate) struct DiskModel {
    pub(crate) current: Vec<u8>,
    pub(crate) stable: Vec<u8>,
    pub(crate) fail_reads: u32,
    pub(crate) fail_writes: u32,
    pub(crate) fail_flushes: u32,
}

impl DiskModel {
    pub(crate) fn write(&mut self, sector: u64, data: &[u8], fua: bool) {
        let at = sector as usize * 512;
        self.current[at..at + data.len()].copy_from_slice(data);
        if fua {
            self.stable[at..at + data.len()].copy_from_slice(data);
        }
    }

    pub(crate) fn flush(&mut self) {
        self.stable.copy_from_slice(&self.current);
    }

    pub(crate) fn read(&self, sector: u64, len: u32) -> Vec<u8> {
        let at = sector as usize * 512;
        self.current[at..at + len as usize].to_vec()
    }
}

#[derive(Clone)]
pub(crate) struct Bio {
    pub(crate) io: AppIo,
    pub(crate) data: Vec<u8>,
    pub(crate) number: u64,
}

pub(crate) enum Job {
    App(RequestId, LocalPart),
    Peer(PeerIo),
    Flush(FlushToken),
}

pub(crate) struct Node {
    pub(crate) data: DataPlane<Vecs>,
    pub(crate) disk: DiskModel,
    pub(crate) bios: HashMap<u32, Bio>,
    pub(crate) waiting: VecDeque<Bio>,
    pub(crate) pages: HashMap<u32, Vec<u8>>,
    /// What was sent on the data socket.
    pub(crate) sent: Vec<Command>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) data_out: VecDeque<u8>,
    pub(crate) meta_out: VecDeque<u8>,
    pub(crate) tokens: VecDeque<SentToken>,
    pub(crate) results: HashMap<u64, Result<(), IoError>>,
    pub(crate) read_back: HashMap<u64, (AppIo, Vec<u8>)>,
    pub(crate) upcalls: Vec<Upcall>,
    pub(crate) al_disk: HashMap<u32, u32>,
    pub(crate) bitmap_disk: HashMap<u32, Vec<u8>>,
    pub(crate) stalled: bool,
    pub(crate) broken: bool,
    /// So many digests can not be computed.
    pub(crate) fail_digests: u32,
    /// Payloads of the peer's writes are on their way; the last one, and whether its digest fits.
    pub(crate) hold_payload: bool,
    pub(crate) held_payload: Option<(PeerId, bool)>,
    pub(crate) now: Instant,
}

fn digest(data: &[u8]) -> [u8; 8] {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for byte in data {
        sum = (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    sum.to_be_bytes()
}

impl Node {
    pub(crate) fn new(sectors: u64, al: usize, requests: usize, peers: usize) -> Self {
        let data = DataPlane::new(
            vec![RequestSlot::default(); requests],
            vec![PeerSlot::default(); peers],
            vec![VolumeSlot::default(), VolumeSlot::default()],
        );
        let bytes = sectors as usize * 512;
        let mut node = Self {
            data,
            disk: DiskModel {
                current: vec![0; bytes],
                stable: vec![0; bytes],
                fail_reads: 0,
                fail_writes: 0,
                fail_flushes: 0,
            },
            bios: HashMap::new(),
            waiting: VecDeque::new(),
            pages: HashMap::new(),
            sent: Vec::new(),
            jobs: Vec::new(),
            data_out: VecDeque::new(),
            meta_out: VecDeque::new(),
            tokens: VecDeque::new(),
            results: HashMap::new(),
            read_back: HashMap::new(),
            upcalls: Vec::new(),
            al_disk: HashMap::new(),
            bitmap_disk: HashMap::new(),
            stalled: false,
            broken: false,
            fail_digests: 0,
            hold_payload: false,
            held_payload: None,
            now: Instant(1),
        };
        node.order(&Order::NewVolume(V, VolumeNumber(0)));
        node.lend(V, sectors, al);
        node
    }

    pub(crate) fn lend(&mut self, volume: VolumeIndex, sectors: u64, al: usize) {
        let bits = SectorCount(sectors).bits();
        let memory = DiskMemory {
            bitmap: vec![0; bits.words() as usize],
            pages: vec![PageState::default(); bits.pages() as usize],
            al_extents: vec![AlSlot::default(); al],
            resync_extents: vec![ResyncSlot::default(); 61],
            al_place: AlPlace {
                sector: Sector(0),
                striping: Striping::DEFAULT,
            },
            volatile_cache: true,
        };
        assert!(self.data.lend_disk(volume, memory).is_ok());
    }

    pub(crate) fn order(&mut self, order: &Order) {
        self.data.order(order, self.now);
        self.data.orders_done(self.now);
    }

    pub(crate) fn weight(&self) -> u64 {
        self.data.facts(V).bits_set
    }

    pub(crate) fn is_set(&self, block: u64) -> bool {
        // Read through the copy that goes to disk.
        self.data.bit_is_set(V, block)
    }

    /// Everything that was not flushed may be gone, or not.
    pub(crate) fn lose_power(&mut self) {
        for at in (0..self.disk.current.len()).step_by(512) {
            let lost = (at / 512 * 2_654_435_761) >> 7 & 1 == 0;
            if lost {
                let stable = self.disk.stable[at..at + 512].to_vec();
                self.disk.current[at..at + 512].copy_from_slice(&stable);
            }
        }
        self.disk.stable = self.disk.current.clone();
    }

    pub(crate) fn submit(&mut self, bio: Bio) {
        match self.data.submit(&bio.io, self.now) {
            Submit::Admitted { id, local } => {
                self.bios.insert(id.slot, bio);
                self.start_local(id, local);
            }
            Submit::Parked { id } => {
                self.bios.insert(id.slot, bio);
            }
            Submit::Wait => self.waiting.push_back(bio),
            Submit::Refuse(error) => {
                self.results.insert(bio.number, Err(error));
            }
            Submit::Finish => {
                self.results.insert(bio.number, Ok(()));
            }
        }
    }

    fn start_local(&mut self, id: RequestId, local: LocalPart) {
        if local != LocalPart::None {
            self.jobs.push(Job::App(id, local));
        }
    }

    /// Waiting submitters try again, the volume worker does its rounds, ended requests are noted.
    pub(crate) fn housekeeping(&mut self) -> bool {
        let mut worked = false;
        if let Some(bio) = self.waiting.pop_front() {
            let before = self.waiting.len();
            self.submit(bio);
            worked |= self.waiting.len() == before;
        }
        while let Some((id, local)) = self.data.next_ready(V, self.now) {
            self.start_local(id, local);
            worked = true;
        }
        while let Some(done) = self.data.pop_done() {
            worked = true;
            match done.what {
                DoneKind::EndBio(result) => {
                    let bio = &self.bios[&done.id.slot];
                    if bio.io.op == Op::Read && result.is_ok() {
                        self.read_back
                            .insert(bio.number, (bio.io, bio.data.clone()));
                    }
                    assert!(
                        self.results.insert(bio.number, result).is_none(),
                        "ended twice"
                    );
                }
                DoneKind::Reissue => {
                    let bio = self.bios[&done.id.slot].clone();
                    self.waiting.push_back(bio);
                }
                DoneKind::Free => {
                    self.bios.remove(&done.id.slot).expect("freed once");
                }
            }
        }
        while let Some(upcall) = self.data.pop_upcall() {
            worked = true;
            self.upcalls.push(upcall);
        }
        worked
    }

    pub(crate) fn al_step(&mut self) -> bool {
        let mut buf = Box::new([0_u8; 4096]);
        match self.data.al_next(V, &mut buf, |_| 0) {
            AlStep::Idle => false,
            AlStep::WriteBitmapPage { page } => {
                let mut bytes = vec![0; 4096];
                let _ = self.data.bitmap_page(V, page, &mut bytes);
                self.bitmap_disk.insert(page, bytes);
                self.data.bitmap_page_written(V, page, true, self.now);
                true
            }
            AlStep::WriteTransaction { .. } => {
                let mut copy = *buf;
                copy[8..12].fill(0);
                let updates = u16::from_be_bytes([copy[14], copy[15]]);
                for update in 0..usize::from(updates) {
                    let slot = u16::from_be_bytes([copy[36 + 2 * update], copy[37 + 2 * update]]);
                    let at = 164 + 4 * update;
                    let extent = u32::from_be_bytes(copy[at..at + 4].try_into().unwrap());
                    self.al_disk.insert(u32::from(slot), extent);
                }
                self.data.al_written(V, true, self.now);
                true
            }
        }
    }

    /// The sender hands one packet to the socket; the report about it comes later.
    pub(crate) fn send(&mut self) -> bool {
        let mut buf = vec![0; 4096 + 64];
        let NextPacket::Packet(out) = self.data.next_packet(&mut buf, self.now) else {
            return false;
        };
        let header = Header::decode(self.data.terms().version, &buf).expect("a header");
        self.sent
            .push(Command::from_wire(header.command).expect("a command"));
        self.data_out.extend(&buf[..out.len]);
        match out.payload {
            Payload::None => {}
            Payload::App(id) => {
                let data = self.bios[&id.slot].data.clone();
                self.payload(&data, out.digest);
            }
            Payload::Peer(id) => {
                let data = self.pages.remove(&id.slot).expect("pages of a reply");
                self.payload(&data, out.digest);
            }
        }
        self.tokens.push_back(out.token);
        true
    }

    fn payload(&mut self, data: &[u8], with_digest: bool) {
        if with_digest {
            self.data_out.extend(digest(data));
        }
        self.data_out.extend(data);
    }

    pub(crate) fn report_sent(&mut self, ok: bool) -> bool {
        match self.tokens.pop_front() {
            Some(token) => {
                self.data.sent(token, ok, self.now);
                true
            }
            None => false,
        }
    }

    pub(crate) fn send_acks(&mut self) -> bool {
        let mut buf = vec![0; 4096];
        match self.data.next_acks(&mut buf, self.now) {
            Some(len) => {
                self.meta_out.extend(&buf[..len]);
                true
            }
            None => false,
        }
    }

    /// Takes one packet out of the bytes that the peer sent.
    pub(crate) fn receive(&mut self, stream: &mut VecDeque<u8>) -> bool {
        if self.held_payload.is_some() {
            return false;
        }
        if self.stalled {
            self.stalled = false;
            let incoming = self.data.data_retry(self.now);
            return self.incoming(incoming, stream);
        }
        if stream.is_empty() {
            return false;
        }
        let terms = *self.data.terms();
        let header = take(stream, terms.version.header_len());
        let header = Header::decode(terms.version, &header).expect("header");
        let frame = Frame::check(&terms, Stream::Data, &header).expect("frame");
        assert!(is_data_command(frame.command()), "{frame:?}");
        let fixed = take(stream, frame.fixed_len() as usize);
        let incoming = self
            .data
            .data_packet(&frame, &fixed, !stream.is_empty(), self.now);
        self.incoming(incoming, stream);
        true
    }

    fn incoming(&mut self, incoming: Incoming, stream: &mut VecDeque<u8>) -> bool {
        match incoming {
            Incoming::Done => {}
            Incoming::Wait => {
                self.stalled = true;
                return false;
            }
            Incoming::Drain { len_bytes } => {
                take(stream, len_bytes as usize);
            }
            Incoming::PeerPayload {
                id,
                len_bytes,
                digest_len,
            } => {
                let sum = take(stream, digest_len as usize);
                let data = take(stream, len_bytes as usize);
                let ok = sum.is_empty() || sum == digest(&data);
                assert!(self.pages.insert(id.slot, data).is_none(), "slot in use");
                if self.hold_payload {
                    self.held_payload = Some((id, ok));
                    return false;
                }
                self.data.peer_payload(id, ok, self.now);
            }
            Incoming::AppPayload {
                id,
                len_bytes,
                digest_len,
            } => {
                let sum = take(stream, digest_len as usize);
                let data = take(stream, len_bytes as usize);
                let ok = sum.is_empty() || sum == digest(&data);
                self.bios.get_mut(&id.slot).unwrap().data = data;
                self.data.app_payload(id, ok, self.now);
            }
            Incoming::LoadDigest => unreachable!("no control plane"),
            Incoming::Error(error) => {
                assert!(self.broken, "protocol error {error:?}");
            }
        }
        true
    }

    pub(crate) fn receive_ack(&mut self, stream: &mut VecDeque<u8>) -> bool {
        if stream.is_empty() {
            return false;
        }
        let terms = *self.data.terms();
        let header = take(stream, terms.version.header_len());
        let header = Header::decode(terms.version, &header).expect("header");
        let frame = Frame::check(&terms, Stream::Meta, &header).expect("frame");
        assert!(is_ack_command(frame.command()));
        let fixed = take(stream, frame.fixed_len() as usize);
        let packet = Packet::decode(&terms, &frame, &fixed).expect("packet");
        self.data
            .ack_packet(&frame, &packet, self.now)
            .expect("ack accepted");
        true
    }

    /// Works on the activity log; tells whether a write of an application has begun.
    pub(crate) fn writes_locally(&mut self) -> bool {
        while self.al_step() || self.housekeeping() {}
        self.jobs.iter().any(|job| matches!(job, Job::App(..)))
    }

    /// Takes work for the disk.
    pub(crate) fn fetch_peer_io(&mut self) -> bool {
        match self.data.next_peer_io(self.now) {
            None => false,
            Some(PeerIo::Free { id }) => {
                self.pages.remove(&id.slot);
                true
            }
            Some(PeerIo::Flush { token, .. }) => {
                self.jobs.push(Job::Flush(token));
                true
            }
            Some(io) => {
                self.jobs.push(Job::Peer(io));
                true
            }
        }
    }

    /// Completes the disk job with this number.
    pub(crate) fn run_job(&mut self, number: usize) {
        match self.jobs.swap_remove(number) {
            Job::Flush(token) => {
                let ok = self.disk.fail_flushes == 0;
                if ok {
                    self.disk.flush();
                } else {
                    self.disk.fail_flushes -= 1;
                }
                self.data.flush_done(token, ok, self.now);
            }
            Job::App(id, part) => self.run_app(id, part),
            Job::Peer(io) => self.run_peer(io),
        }
    }

    fn run_app(&mut self, id: RequestId, part: LocalPart) {
        let bio = self.bios.get_mut(&id.slot).expect("bio");
        let io = bio.io;
        match (io.op, part) {
            (Op::Read, _) => bio.data = self.disk.read(io.sector.0, io.len_bytes),
            (Op::Flush, _) => self.disk.flush(),
            (Op::Discard | Op::WriteZeroes, _) => {
                let zeroes = vec![0; io.len_bytes as usize];
                self.disk.write(io.sector.0, &zeroes, false);
            }
            (Op::Write, LocalPart::Clone { fua, preflush }) => {
                if preflush {
                    self.disk.flush();
                }
                let data = bio.data.clone();
                self.disk.write(io.sector.0, &data, fua);
            }
            (Op::Write, _) => unreachable!(),
        }
        self.data.local_done(id, true, self.now);
    }

    fn run_peer(&mut self, io: PeerIo) {
        match io {
            PeerIo::Read {
                id,
                sector,
                len_bytes,
                check_zero,
                ..
            } => {
                if self.disk.fail_reads > 0 {
                    self.disk.fail_reads -= 1;
                    self.data.peer_io_read(id, false, false, self.now);
                    return;
                }
                let data = self.disk.read(sector.0, len_bytes);
                let zero = check_zero && data.iter().all(|byte| *byte == 0);
                self.pages.insert(id.slot, data);
                self.data.peer_io_read(id, true, zero, self.now);
            }
            PeerIo::Write {
                id,
                sector,
                fua,
                preflush,
                ..
            } => {
                if preflush {
                    self.disk.flush();
                }
                let ok = self.disk.fail_writes == 0;
                let data = self.pages.remove(&id.slot).expect("pages of a write");
                if ok {
                    self.disk.write(sector.0, &data, fua);
                } else {
                    self.disk.fail_writes -= 1;
                }
                self.data.peer_io_done(id, ok, self.now);
            }
            PeerIo::Discard {
                id,
                sector,
                len_bytes,
                ..
            } => {
                let zeroes = vec![0; len_bytes as usize];
                self.disk.write(sector.0, &zeroes, false);
                self.data.peer_io_done(id, true, self.now);
            }
            PeerIo::Digest { id, .. } => {
                let mut sum = digest(&self.pages[&id.slot]).to_vec();
                if self.fail_digests > 0 {
                    self.fail_digests -= 1;
                    sum.clear();
                }
                self.data.digest_ready(id, &sum, self.now);
            }
            PeerIo::Flush { .. } | PeerIo::Free { .. } => unreachable!(),
        }
    }

    #[allow(dead_code)]
    pub(crate) fn page_of(&self, id: PeerId) -> Option<&Vec<u8>> {
        self.pages.get(&id.slot)
    }
}

fn take(stream: &mut VecDeque<u8>, len: usize) -> Vec<u8> {
    assert!(stream.len() >= len, "packets arrive whole");
    stream.drain(..len).collect()
}
