//! One node: a resource, a disk in memory for each volume, and a shell that does as it is told.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::{HashMap, VecDeque};

use drbd_core::action::{Action, Handler, HmacJob, Ticket};
use drbd_core::activity_log::AlSlot;
use drbd_core::bitmap::PageState;
use drbd_core::config::{DiskConfig, Name, ResourceConfig};
use drbd_core::control::{Held, Volume, ACTIONS_MIN, ORDERS_MIN, OUTBOX_MIN};
use drbd_core::data::{
    AlPlace, AlStep, Algorithm, AppIo, DataPlane, DiskMemory, DoneKind, Incoming, LocalPart,
    Payload, PeerIo, Submit, VolumeSlot,
};
use drbd_core::input::{AdminRequest, DigestUse, Input};
use drbd_core::link::{LinkError, Order, VolumeIndex};
use drbd_core::memory::Memory;
use drbd_core::peer_request::PeerSlot;
use drbd_core::request::{Op, RequestId, RequestSlot};
use drbd_core::resource::{ControlMemory, Resource, Wants};
use drbd_core::resync::extents::ResyncSlot;
use drbd_core::state::VolumeState;
use drbd_core::time::Instant;
use drbd_format::disk::layout::Striping;
use drbd_format::units::{Sector, SectorCount};

mod backing;
mod power;
mod told;

use backing::Backing;
pub(crate) use backing::Disk;
use told::{hex, told_of, told_of_action, told_of_log, told_of_packet, Woken};

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

pub(crate) struct Node {
    pub(crate) core: Resource<Vecs>,
    /// What each volume has here.
    volumes: [Backing; 2],
    /// Number of volumes with a disk.
    used: u8,
    pub(crate) now: Instant,
    /// A connection is wanted (`StartConnect` seen).
    pub(crate) connecting: bool,
    /// Sockets exist.
    pub(crate) linked: bool,
    /// The loss has been reported; the core has not closed the sockets yet.
    pub(crate) lost: bool,
    pub(crate) data_out: VecDeque<u8>,
    pub(crate) meta_out: VecDeque<u8>,
    pub(crate) data_in: VecDeque<u8>,
    pub(crate) meta_in: VecDeque<u8>,
    /// Length of the fixed part expected next, after its header.
    fixed: Option<usize>,
    waiting: bool,
    woken: Woken,
    pub(crate) log: Vec<String>,
    /// Everything the core has told its shell to do, and each packet, in order.
    pub(crate) told: Vec<String>,
    pub(crate) answers: Vec<(Ticket, i32)>,
    pub(crate) helpers: Vec<&'static str>,
    pub(crate) exits: HashMap<&'static str, u8>,
    /// Set while helpers run on and on.
    pub(crate) hold_helpers: bool,
    /// Helpers whose end is waited for, oldest first.
    pub(crate) running: VecDeque<(Handler, Option<VolumeIndex>, u32)>,
    bios: HashMap<u32, (AppIo, Vec<u8>)>,
    /// Handed back, and they had to wait.
    again: VecDeque<(AppIo, Vec<u8>)>,
    /// With a disk that is slow.
    held: Vec<RequestId>,
    pub(crate) pages: HashMap<u32, Vec<u8>>,
    /// Set while the disk is slow with requests of the peer.
    pub(crate) hold_peer_io: bool,
    /// Disks that are attached have no volatile cache.
    pub(crate) stable_cache: bool,
    pub(crate) sent: Vec<u16>,
    /// Algorithms of the digests that are sent and expected with data.
    digest_out: Name,
    digest_in: Name,
    /// How many times eight bytes the digests have that authenticate.
    pub(crate) hmac_words: usize,
    /// Packets that the sender of the data socket still takes; `None`: all.
    pub(crate) sends_left: Option<u32>,
}

impl Node {
    pub(crate) fn new(seed: u64, sectors: u64, fill: u8) -> Self {
        Self::with_volumes(1, seed, sectors, fill)
    }

    /// A node with one or two volumes.
    pub(crate) fn with_volumes(volumes: u8, seed: u64, sectors: u64, fill: u8) -> Self {
        let data = DataPlane::new(
            vec![RequestSlot::default(); 64],
            vec![PeerSlot::default(); 64],
            (0..2).map(|_| VolumeSlot::default()).collect(),
        );
        let memory = ControlMemory {
            volumes: vec![Volume::EMPTY; 2],
            actions: vec![None; ACTIONS_MIN],
            orders: vec![None; ORDERS_MIN],
            outbox: vec![None; OUTBOX_MIN],
        };
        let core = Resource::new(
            [seed, 0x1234_5678_9abc],
            ResourceConfig::DEFAULT,
            memory,
            data,
        );
        Self {
            core,
            volumes: Backing::all(volumes, sectors, fill),
            used: volumes,
            now: Instant(1_000_000_000),
            connecting: false,
            linked: false,
            lost: false,
            data_out: VecDeque::new(),
            meta_out: VecDeque::new(),
            data_in: VecDeque::new(),
            meta_in: VecDeque::new(),
            fixed: None,
            waiting: false,
            woken: Woken::default(),
            log: Vec::new(),
            told: Vec::new(),
            answers: Vec::new(),
            helpers: Vec::new(),
            exits: HashMap::new(),
            hold_helpers: false,
            running: VecDeque::new(),
            again: VecDeque::new(),
            held: Vec::new(),
            bios: HashMap::new(),
            pages: HashMap::new(),
            hold_peer_io: false,
            stable_cache: false,
            sent: Vec::new(),
            digest_out: Name::EMPTY,
            digest_in: Name::EMPTY,
            hmac_words: 4,
            sends_left: None,
        }
    }

    pub(crate) fn state(&mut self) -> VolumeState {
        self.core.state(V)
    }

    pub(crate) fn admin(&mut self, request: AdminRequest) {
        let ticket = Ticket(self.answers.len() as u32 + 1000);
        let now = self.now;
        self.core.handle(&Input::Admin(&request, ticket), now);
    }

    /// State of any volume.
    pub(crate) fn state_of(&mut self, volume: VolumeIndex) -> VolumeState {
        self.core.state(volume)
    }

    pub(crate) fn volume(&mut self, volume: VolumeIndex) -> &mut Backing {
        &mut self.volumes[volume.slot()]
    }

    /// All volumes with a disk.
    pub(crate) fn indices(&self) -> impl Iterator<Item = VolumeIndex> {
        (0..self.used).map(VolumeIndex)
    }

    pub(crate) fn attach(&mut self, config: DiskConfig) {
        self.attach_volume(V, config);
    }

    pub(crate) fn attach_volume(&mut self, volume: VolumeIndex, config: DiskConfig) {
        let facts = self.volume(volume).facts();
        let bits = SectorCount(facts.max_capacity_sectors).bits();
        let memory = DiskMemory {
            bitmap: vec![0; bits.words() as usize],
            pages: vec![PageState::default(); bits.pages() as usize],
            al_extents: vec![AlSlot::default(); 67],
            resync_extents: vec![ResyncSlot::default(); 61],
            al_place: AlPlace {
                sector: Sector(8),
                striping: Striping::DEFAULT,
            },
            volatile_cache: !self.stable_cache,
        };
        assert!(self.core.lend_disk(volume, memory).is_ok());
        self.volume(volume).lent = true;
        self.admin(AdminRequest::Attach {
            volume,
            config,
            facts,
        });
    }

    /// Writes `len` bytes of `byte` through the device. The result ends up in `ended`.
    pub(crate) fn write(&mut self, sector: u64, len: u32, byte: u8) {
        let taken = self.request(Op::Write, sector, len, byte);
        assert!(taken, "the test writes only when it may");
    }

    /// Any request of an application. Returns whether it was taken.
    pub(crate) fn request(&mut self, op: Op, sector: u64, len: u32, byte: u8) -> bool {
        self.request_on(V, op, sector, len, byte)
    }

    /// As [`Self::request`], on any volume.
    pub(crate) fn request_on(
        &mut self,
        volume: VolumeIndex,
        op: Op,
        sector: u64,
        len: u32,
        byte: u8,
    ) -> bool {
        let io = AppIo {
            volume,
            op,
            sector: Sector(sector),
            len_bytes: len,
            fua: false,
            preflush: false,
            sync: false,
            may_unmap: false,
            read_ahead: false,
        };
        let data = match op {
            Op::Write => vec![byte; len as usize],
            Op::Discard | Op::Flush | Op::Read | Op::WriteZeroes => Vec::new(),
        };
        self.told.push(format!("{op:?} {sector} {len}"));
        self.submit(io, data)
    }

    fn submit(&mut self, io: AppIo, data: Vec<u8>) -> bool {
        match self.core.submit(&io, self.now) {
            Submit::Admitted { id, local } => {
                self.bios.insert(id.slot, (io, data));
                self.local(id, local);
            }
            Submit::Parked { id } => {
                self.bios.insert(id.slot, (io, data));
            }
            Submit::Refuse(error) => self.volume(io.volume).ended.push(Err(error)),
            Submit::Finish => self.volume(io.volume).ended.push(Ok(())),
            Submit::Wait => {
                self.told.push("has to wait".into());
                return false;
            }
        }
        true
    }

    fn local(&mut self, id: RequestId, local: LocalPart) {
        if local == LocalPart::None {
            return;
        }
        self.told.push(format!("local {local:?}"));
        let (io, data) = self.bios[&id.slot].clone();
        let volume = self.volume(io.volume);
        if volume.hold_local {
            self.held.push(id);
            return;
        }
        let ok = !volume.fail_local;
        if ok {
            volume.disk.put(io.sector, &data);
        }
        self.core.local_done(id, ok, self.now);
    }

    /// All that the slow disk has fails.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn fail_held(&mut self) {
        for id in std::mem::take(&mut self.held) {
            self.core.local_done(id, false, self.now);
        }
    }

    /// The slow disk is done with all that it has.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn end_held(&mut self) {
        for id in std::mem::take(&mut self.held) {
            let (io, data) = self.bios[&id.slot].clone();
            self.volume(io.volume).disk.put(io.sector, &data);
            self.core.local_done(id, true, self.now);
        }
    }

    /// Both sockets exist.
    pub(crate) fn sockets_up(&mut self, resolver: bool, random: u8) {
        self.linked = true;
        let random = &[random; 64];
        self.core
            .handle(&Input::SocketsUp { resolver, random }, self.now);
    }

    /// Reports the end of the sockets once everything received before is used up.
    pub(crate) fn notice_end(&mut self, peer_gone: bool) -> bool {
        let used_up = self.data_in.is_empty() && self.meta_in.is_empty();
        if !peer_gone || !self.linked || !used_up {
            return false;
        }
        self.linked = false;
        self.lost = true;
        let error = LinkError::BrokenPipe;
        self.core.handle(&Input::LinkLost(error), self.now);
        true
    }

    /// Takes note of who has something to do. Nobody else is asked to do anything.
    fn look(&mut self) -> Wants {
        let wants = self.core.take_wants();
        self.woken.by(&wants);
        wants
    }

    /// Lets the executors run until nothing moves. Returns whether anything did.
    pub(crate) fn step(&mut self) -> bool {
        let wants = self.look();
        if wants.timer.is_some_and(|at| at <= self.now) {
            self.core.on_timer(self.now);
        }
        let mut active = false;
        while let Some(action) = self.core.pop_action() {
            active = true;
            self.perform(action);
        }
        while !self.again.is_empty() && !self.core.state(V).suspended() {
            let (io, data) = self.again[0].clone();
            if !self.submit(io, data) {
                break;
            }
            self.again.pop_front();
            active = true;
        }
        active |= self.volume_workers();
        active |= self.peer_io();
        active |= self.volume_workers();
        active |= self.senders();
        active |= self.receive_data();
        active |= self.receive_meta();
        self.look();
        while let Some(done) = self.woken.done.then(|| self.core.pop_done()).flatten() {
            active = true;
            match done.what {
                DoneKind::EndBio(result) => {
                    self.told.push(format!("ended {result:?}"));
                    let volume = self.bios[&done.id.slot].0.volume;
                    self.volume(volume).ended.push(result);
                }
                DoneKind::Free => {
                    self.bios.remove(&done.id.slot);
                }
                DoneKind::Reissue => {
                    self.told.push("reissued".into());
                    if let Some((io, data)) = self.bios.get(&done.id.slot).cloned() {
                        if !self.submit(io, data.clone()) {
                            self.again.push_back((io, data));
                        }
                    }
                }
            }
        }
        self.woken.done = false;
        active
    }

    /// The oldest helper ends with the exit code set for it, or 0.
    pub(crate) fn end_helper(&mut self) {
        let (handler, volume, run) = self.running.pop_front().expect("one runs");
        let exit = self.exits.get(handler.name()).map_or(0, |exit| *exit);
        let done = Input::HelperDone {
            handler,
            volume,
            run,
            exit,
        };
        self.core.handle(&done, self.now);
    }

    fn perform(&mut self, action: Action) {
        let now = self.now;
        self.told.push(told_of_action(&action));
        match action {
            Action::AdminDone { ticket, code, .. } => self.answers.push((ticket, code)),
            Action::CloseDisk { volume } => {
                self.await_disk(volume);
                self.core.take_disk(volume);
                self.volume(volume).lent = false;
                self.core.handle(&Input::DiskClosed { volume }, now);
            }
            Action::CloseSockets => {
                self.connecting = false;
                self.linked = false;
                self.lost = false;
                self.data_out.clear();
                self.meta_out.clear();
                self.data_in.clear();
                self.meta_in.clear();
                self.fixed = None;
                self.waiting = false;
                self.core.handle(&Input::ReceiverGone, now);
            }
            Action::Hmac(job) => {
                let digest = self.hmac(job);
                self.core.handle(
                    &Input::HmacReady {
                        job,
                        digest: &digest,
                    },
                    now,
                );
            }
            Action::Log { volume, line } => {
                let about = volume.filter(|&v| v != V).map_or("", |_| "second volume: ");
                self.log.push(format!("{about}{line}"));
            }
            Action::ReadBitmap { .. }
            | Action::WriteBitmap { .. }
            | Action::WriteMetadata { .. } => self.perform_metadata(action),
            Action::RunHelper {
                handler,
                volume,
                wait,
                run,
            } => {
                self.helpers.push(handler.name());
                if wait {
                    self.running.push_back((handler, volume, run));
                }
                if wait && !self.hold_helpers {
                    self.end_helper();
                }
            }
            Action::SetCapacity { volume, capacity } => self.volume(volume).capacity = capacity.0,
            Action::SetReadOnly { volume, read_only } => self.volume(volume).read_only = read_only,
            Action::StartConnect => self.connecting = true,
            Action::SetLimits {
                volume,
                max_bio_bytes,
                max_discard_bytes,
                max_write_zeroes_bytes,
            } => {
                let volume = self.volume(volume);
                volume.max_bio_bytes = max_bio_bytes;
                volume.most = [max_discard_bytes, max_write_zeroes_bytes];
            }
            Action::NotifyConnection { .. }
            | Action::NotifyVolume { .. }
            | Action::Uevent { .. } => {}
        }
    }

    /// Something that depends on key and message.
    fn hmac(&self, job: HmacJob) -> Vec<u8> {
        let (mut key, mut message) = ([0; 64], [0; 128]);
        let (key_len, len) = self.core.hmac_input(job, &mut key, &mut message);
        let mut sum = 0xcbf2_9ce4_8422_2325_u64;
        for byte in key[..key_len].iter().chain(&message[..len]) {
            sum = (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        sum.to_be_bytes().repeat(self.hmac_words)
    }

    fn volume_workers(&mut self) -> bool {
        let mut active = false;
        for v in self.indices() {
            active |= self.volume_worker(v);
        }
        active
    }

    fn volume_worker(&mut self, v: VolumeIndex) -> bool {
        let mut active = false;
        self.look();
        let hold_log = self.volume(v).hold_log;
        if !self.woken.volume(v, hold_log) {
            return false;
        }
        while let Some((id, local)) = self.core.next_ready(v, self.now) {
            active = true;
            self.local(id, local);
        }
        if hold_log {
            return active;
        }
        let mut block = [0; 4096];
        loop {
            match self.core.al_next(v, &mut block, |_| 0, self.now) {
                AlStep::Idle => return active,
                AlStep::WriteBitmapPage { page } => self.write_page(v, page),
                AlStep::WriteTransaction { md_sector, flush } => {
                    self.told.push(told_of_log(md_sector, flush, &block));
                    let ok = !self.volume(v).fail_log;
                    self.core.al_written(v, ok, self.now);
                }
            }
            active = true;
        }
    }

    fn peer_io(&mut self) -> bool {
        let mut active = false;
        self.look();
        if self.hold_peer_io || !self.woken.peer_io {
            return false;
        }
        self.woken.peer_io = false;
        while let Some(io) = self.core.next_peer_io(self.now) {
            active = true;
            let now = self.now;
            if matches!(io, PeerIo::Discard { .. } | PeerIo::Flush { .. }) {
                self.told.push(format!("disk {io:?}"));
            }
            match io {
                PeerIo::Read {
                    id,
                    volume,
                    sector,
                    len_bytes,
                    check_zero,
                } => {
                    let at = sector.0 as usize * 512;
                    let volume = self.volume(volume);
                    let data = volume.disk.data[at..at + len_bytes as usize].to_vec();
                    let zero = data.iter().all(|&byte| byte == 0);
                    let ok = !volume.fail_peer_io;
                    self.pages.insert(id.slot, data);
                    if check_zero {
                        self.core.peer_io_read(id, ok, zero, now);
                    } else {
                        self.core.peer_io_done(id, ok, now);
                    }
                }
                PeerIo::Write {
                    id, volume, sector, ..
                } => {
                    let volume = &mut self.volumes[volume.slot()];
                    volume.disk.put(sector, &self.pages[&id.slot]);
                    self.core.peer_io_done(id, !volume.fail_peer_io, now);
                }
                PeerIo::Discard {
                    id,
                    volume,
                    sector,
                    len_bytes,
                    ..
                } => {
                    let zeroes = vec![0; len_bytes as usize];
                    self.volume(volume).disk.put(sector, &zeroes);
                    self.core.peer_io_done(id, true, now);
                }
                PeerIo::Flush { token, .. } => self.core.flush_done(token, true, now),
                PeerIo::Digest { id, .. } => {
                    let sum: u32 = self.pages[&id.slot].iter().map(|&b| u32::from(b)).sum();
                    self.core.digest_ready(id, &sum.to_be_bytes(), now);
                }
                PeerIo::Free { id } => {
                    self.pages.remove(&id.slot);
                }
            }
        }
        active
    }

    fn senders(&mut self) -> bool {
        let (mut active, mut in_vain) = (false, false);
        let mut buf = vec![0; 8192];
        self.look();
        while self.sends_left != Some(0) && self.woken.sender {
            self.look();
            let Some(out) = self.core.next_packet(&mut buf, self.now) else {
                // A thread would not come to rest, and may keep the processor from all others. That
                // a resync is over may bring something to send once.
                self.woken.sender = false;
                let again = self.look().sender;
                assert!(!(again && in_vain), "who found no packet is to look again");
                in_vain = true;
                continue;
            };
            self.sends_left = self.sends_left.map(|left| left - 1);
            in_vain = false;
            active = true;
            if self.linked {
                self.data_out.extend(&buf[..out.len]);
                self.sent.push(command_of(&buf));
                self.told.push(told_of_packet(&out, &buf));
                if out.digest {
                    self.data_out.extend(digest_by(&self.digest_out));
                }
                if let Some(algorithm) = out.algorithm {
                    self.switch_digest(algorithm);
                }
                match out.payload {
                    Payload::App(id) => self.data_out.extend(&self.bios[&id.slot].1),
                    Payload::Peer(id) => self.data_out.extend(&self.pages[&id.slot]),
                    Payload::None => {}
                }
            }
            self.core.sent(out.token, self.linked, self.now);
        }
        while self.woken.acks {
            self.look();
            let Some(len) = self.core.next_acks(&mut buf, self.now) else {
                self.woken.acks = false;
                let again = self.look().acks;
                assert!(!again, "whoever found no ack is sent to look again");
                break;
            };
            active = true;
            self.told.push(format!("meta {}", hex(&buf[..len])));
            if self.linked {
                self.meta_out.extend(&buf[..len]);
            }
            self.core.acks_sent(self.now);
        }
        active
    }

    fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        if self.data_in.len() < len {
            return None;
        }
        Some(self.data_in.drain(..len).collect())
    }

    fn receive_data(&mut self) -> bool {
        self.look();
        if self.waiting && !self.woken.receiver {
            return false;
        }
        self.woken.receiver = false;
        if self.waiting {
            self.waiting = false;
            let incoming = self.core.data_retry(self.now);
            return self.after_packet(incoming) && !self.waiting;
        }
        let mut active = false;
        while self.linked && !self.waiting {
            if self.fixed.is_none() {
                let Some(header) = self.take(self.core.header_len()) else {
                    return active;
                };
                match self.core.data_header(&header, self.now) {
                    Ok(expect) => self.fixed = Some(expect.fixed_len),
                    Err(_) => return true,
                }
            }
            let Some(fixed) = self.take(self.fixed.unwrap_or(0)) else {
                return active;
            };
            self.fixed = None;
            active = true;
            let followed = !self.data_in.is_empty();
            let incoming = self.core.data_packet(&fixed, followed, self.now);
            self.after_packet(incoming);
        }
        active
    }

    fn after_packet(&mut self, incoming: Incoming) -> bool {
        match incoming {
            Incoming::Done => {}
            Incoming::LoadDigest => return self.load_digest(),
            Incoming::Wait => self.waiting = true,
            Incoming::Error(_) => return false,
            Incoming::Drain { len_bytes } => {
                self.take(len_bytes as usize);
            }
            Incoming::PeerPayload {
                id,
                len_bytes,
                digest_len,
            } => {
                let intact = self.takes_digest(digest_len);
                let data = self
                    .take(len_bytes as usize)
                    .expect("whole packets are sent");
                self.pages.insert(id.slot, data);
                self.core.peer_payload(id, intact, self.now);
            }
            Incoming::AppPayload {
                id,
                len_bytes,
                digest_len,
            } => {
                let intact = self.takes_digest(digest_len);
                self.take(len_bytes as usize);
                self.core.app_payload(id, intact, self.now);
            }
        }
        true
    }

    /// Receives a digest and tells whether it is of the algorithm that is expected.
    fn takes_digest(&mut self, len: u32) -> bool {
        let digest = self.take(len as usize).expect("whole packets are sent");
        digest.is_empty() || digest == digest_by(&self.digest_in)
    }

    /// The peer has chosen an algorithm.
    fn load_digest(&mut self) -> bool {
        let (what, name) = self.core.digest_to_load().expect("one to load");
        let len = digest_len(&name);
        if what == DigestUse::Integrity {
            self.digest_in = name;
        }
        let incoming = self.core.digest_loaded(len, self.now);
        self.after_packet(incoming)
    }

    /// A packet that tells the peer of the algorithm has been taken.
    fn switch_digest(&mut self, algorithm: Algorithm) {
        let name = self.core.net_config().map(|net| net.integrity_alg);
        self.digest_out = name.unwrap_or(Name::EMPTY);
        if algorithm == Algorithm::First {
            self.digest_in = self.digest_out;
        }
    }

    fn receive_meta(&mut self) -> bool {
        if !self.linked || self.meta_in.is_empty() {
            return false;
        }
        let bytes: Vec<u8> = self.meta_in.iter().copied().collect();
        match self.core.meta_bytes(&bytes, self.now) {
            Ok(used) => {
                let used = used.min(self.meta_in.len());
                self.meta_in.drain(..used);
                used > 0
            }
            Err(_) => true,
        }
    }
}

/// Length of the digests of an algorithm, of which there are a few.
pub(crate) fn digest_len(name: &Name) -> Option<u8> {
    match name.as_bytes() {
        b"crc32c" => Some(4),
        b"md5" => Some(16),
        b"sha1" => Some(20),
        _ => None,
    }
}

/// What stands for a digest by this algorithm.
fn digest_by(name: &Name) -> Vec<u8> {
    let len = digest_len(name).unwrap_or(0);
    vec![len; usize::from(len)]
}

/// Command number of the packet at the front of `buf`, whatever its header form.
pub(crate) fn command_of(buf: &[u8]) -> u16 {
    let at = match buf[..2] {
        [0x86, 0x20] => 6,
        [0x83, 0x5a] => 2,
        _ => 4,
    };
    u16::from_be_bytes([buf[at], buf[at + 1]])
}
