//! One node: a resource with one volume, a disk in memory, and a shell that does as it is told.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::{HashMap, VecDeque};

use drbd_core::action::{Action, Handler, HmacJob, Ticket};
use drbd_core::activity_log::AlSlot;
use drbd_core::bitmap::PageState;
use drbd_core::config::{DiskConfig, ResourceConfig};
use drbd_core::control::{Held, Volume, ACTIONS_MIN, ORDERS_MIN, OUTBOX_MIN};
use drbd_core::data::{
    AlPlace, AlStep, AppIo, DataPlane, DiskMemory, DoneKind, Incoming, LocalPart, Payload, PeerIo,
    Submit, VolumeSlot,
};
use drbd_core::input::{AdminRequest, BackingFacts, Input};
use drbd_core::link::{LinkError, Order, VolumeIndex};
use drbd_core::memory::Memory;
use drbd_core::peer_request::PeerSlot;
use drbd_core::request::{IoError, Op, RequestId, RequestSlot};
use drbd_core::resource::{ControlMemory, Resource, Wants};
use drbd_core::resync::extents::ResyncSlot;
use drbd_core::state::VolumeState;
use drbd_core::time::Instant;
use drbd_format::disk::layout::Striping;
use drbd_format::disk::superblock::Superblock;
use drbd_format::units::{Sector, SectorCount};

mod power;
mod told;

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

/// What survives a restart of the node.
pub(crate) struct Disk {
    pub(crate) data: Vec<u8>,
    pub(crate) superblock: Option<Vec<u8>>,
    pub(crate) bitmap: HashMap<u32, Vec<u8>>,
}

impl Disk {
    pub(crate) fn new(sectors: u64, fill: u8) -> Self {
        Self {
            data: vec![fill; sectors as usize * 512],
            superblock: None,
            bitmap: HashMap::new(),
        }
    }
}

pub(crate) struct Node {
    pub(crate) core: Resource<Vecs>,
    pub(crate) disk: Disk,
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
    pub(crate) read_only: bool,
    pub(crate) capacity: u64,
    pub(crate) max_bio_bytes: u32,
    pub(crate) helpers: Vec<&'static str>,
    pub(crate) exits: HashMap<&'static str, u8>,
    /// Set while helpers run on and on.
    pub(crate) hold_helpers: bool,
    /// Helpers whose end is waited for, oldest first.
    pub(crate) running: VecDeque<(Handler, Option<VolumeIndex>, u32)>,
    bios: HashMap<u32, (AppIo, Vec<u8>)>,
    pub(crate) pages: HashMap<u32, Vec<u8>>,
    pub(crate) ended: Vec<Result<(), IoError>>,
    /// Every superblock written, in order.
    pub(crate) superblocks: Vec<Superblock>,
    /// Set while metadata writes are held back.
    pub(crate) hold_metadata: bool,
    /// Metadata writes fail.
    pub(crate) fail_metadata: bool,
    held: Vec<VolumeIndex>,
    /// Set while writes of the bitmap are held back.
    pub(crate) hold_bitmap: bool,
    /// These writes, oldest first.
    pub(crate) held_bitmaps: VecDeque<(VolumeIndex, bool)>,
    /// Set while the worker of the volume does not get to the activity log.
    pub(crate) hold_log: bool,
    /// Set while the disk is slow with requests of the peer.
    pub(crate) hold_peer_io: bool,
    pub(crate) sent: Vec<u16>,
    /// Requests of applications to the local disk fail.
    pub(crate) fail_local: bool,
    /// Requests of applications stay with the local disk.
    pub(crate) hold_local: bool,
    /// How many times eight bytes the digests have that authenticate.
    pub(crate) hmac_words: usize,
    /// Requests of the peer to the local disk fail.
    pub(crate) fail_peer_io: bool,
    /// Packets that the sender of the data socket still takes; `None`: all.
    pub(crate) sends_left: Option<u32>,
}

impl Node {
    pub(crate) fn new(seed: u64, sectors: u64, fill: u8) -> Self {
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
            disk: Disk::new(sectors, fill),
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
            read_only: true,
            capacity: 0,
            max_bio_bytes: 0,
            helpers: Vec::new(),
            exits: HashMap::new(),
            hold_helpers: false,
            running: VecDeque::new(),
            bios: HashMap::new(),
            pages: HashMap::new(),
            ended: Vec::new(),
            superblocks: Vec::new(),
            hold_metadata: false,
            fail_metadata: false,
            held: Vec::new(),
            hold_bitmap: false,
            hold_log: false,
            hold_peer_io: false,
            held_bitmaps: VecDeque::new(),
            sent: Vec::new(),
            fail_local: false,
            hold_local: false,
            hmac_words: 4,
            fail_peer_io: false,
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

    pub(crate) fn facts(&self) -> BackingFacts {
        let sectors = self.disk.data.len() as u64 / 512;
        let mut facts = BackingFacts {
            uuids: [4, 0, 0, 0],
            device_uuid: 7,
            flags: 0x80,
            la_size_sectors: 0,
            la_peer_max_bio_bytes: 0,
            max_capacity_sectors: sectors,
            md_offset_sectors: 0,
            md_size_sectors: 2048,
            al_offset_sectors: 8,
            bm_offset_sectors: 72,
            al_stripes: 1,
            al_stripe_size_4k: 8,
            md_index: -2,
            max_bio_bytes: 1 << 20,
            physical_block_bytes: 4096,
            logical_block_bytes: 512,
            alignment_offset: 0,
            io_min_bytes: 4096,
            io_opt_bytes: 0,
            discard: false,
        };
        if let Some(block) = &self.disk.superblock {
            let superblock = Superblock::decode(block).expect("we wrote it");
            let set = superblock.uuids;
            let [h0, h1] = set.history;
            facts.uuids = [set.current.0, set.bitmap.0, h0.0, h1.0];
            facts.flags = superblock.flags.0;
            facts.la_size_sectors = superblock.la_size.0;
            facts.la_peer_max_bio_bytes = superblock.la_peer_max_bio_bytes;
        }
        facts
    }

    pub(crate) fn attach(&mut self, config: DiskConfig) {
        let facts = self.facts();
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
            volatile_cache: true,
        };
        assert!(self.core.lend_disk(V, memory).is_ok());
        self.admin(AdminRequest::Attach {
            volume: V,
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
        let io = AppIo {
            volume: V,
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
            Submit::Refuse(error) => self.ended.push(Err(error)),
            Submit::Finish => self.ended.push(Ok(())),
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
        if self.hold_local {
            return;
        }
        if self.fail_local {
            self.core.local_done(id, false, self.now);
            return;
        }
        let (io, data) = self.bios[&id.slot].clone();
        let at = io.sector.0 as usize * 512;
        self.disk.data[at..at + data.len()].copy_from_slice(&data);
        self.core.local_done(id, true, self.now);
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

    /// Changes what the disk says about itself.
    #[allow(dead_code)] // Not every test does.
    pub(crate) fn edit_superblock(&mut self, change: impl FnOnce(&mut Superblock)) {
        let block = self.disk.superblock.as_mut().expect("there is one");
        let mut superblock = Superblock::decode(block).expect("we wrote it");
        change(&mut superblock);
        superblock.encode(block).expect("a block");
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
        active |= self.volume_worker();
        active |= self.peer_io();
        active |= self.volume_worker();
        active |= self.senders();
        active |= self.receive_data();
        active |= self.receive_meta();
        self.look();
        while let Some(done) = self.woken.done.then(|| self.core.pop_done()).flatten() {
            active = true;
            match done.what {
                DoneKind::EndBio(result) => {
                    self.told.push(format!("ended {result:?}"));
                    self.ended.push(result);
                }
                DoneKind::Free => {
                    self.bios.remove(&done.id.slot);
                }
                DoneKind::Reissue => {
                    self.told.push("reissued".into());
                    if let Some((io, data)) = self.bios.get(&done.id.slot).cloned() {
                        assert!(self.submit(io, data), "there is room");
                    }
                }
            }
        }
        self.woken.done = false;
        active
    }

    pub(crate) fn release_bitmap(&mut self) {
        self.hold_bitmap = false;
        while !self.held_bitmaps.is_empty() {
            self.write_held_bitmap();
        }
    }

    pub(crate) fn release_metadata(&mut self) {
        self.hold_metadata = false;
        let ok = true;
        for volume in std::mem::take(&mut self.held) {
            self.core
                .handle(&Input::MetadataWritten { volume, ok }, self.now);
        }
    }

    /// What is under way on the disk comes to its end.
    fn await_disk(&mut self) {
        let hold = (self.hold_metadata, self.hold_bitmap);
        self.release_metadata();
        self.release_bitmap();
        (self.hold_metadata, self.hold_bitmap) = hold;
    }

    /// The oldest write of the bitmap that is held back goes on.
    pub(crate) fn write_held_bitmap(&mut self) {
        let (volume, all) = self.held_bitmaps.pop_front().expect("a write");
        let hold = std::mem::take(&mut self.hold_bitmap);
        self.perform_metadata(Action::WriteBitmap { volume, all });
        self.hold_bitmap = hold;
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
                self.await_disk();
                self.core.take_disk(volume);
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
            Action::Log { line, .. } => self.log.push(line.to_string()),
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
            Action::SetCapacity { capacity, .. } => self.capacity = capacity.0,
            Action::SetReadOnly { read_only, .. } => self.read_only = read_only,
            Action::StartConnect => self.connecting = true,
            Action::SetLimits { max_bio_bytes, .. } => self.max_bio_bytes = max_bio_bytes,
            Action::NotifyConnection { .. }
            | Action::NotifyVolume { .. }
            | Action::Uevent { .. } => {}
        }
    }

    fn perform_metadata(&mut self, action: Action) {
        let now = self.now;
        match action {
            Action::ReadBitmap { volume } => {
                for (page, bytes) in &self.disk.bitmap {
                    self.core.load_bitmap_page(volume, *page, bytes);
                }
                self.core
                    .handle(&Input::BitmapRead { volume, ok: true }, now);
            }
            Action::WriteBitmap { volume, all } if self.hold_bitmap => {
                self.held_bitmaps.push_back((volume, all));
            }
            Action::WriteBitmap { volume, all } => {
                if all {
                    self.core.mark_bitmap_changed(volume);
                }
                let mut from = 0;
                while let Some(page) = self.core.next_dirty_page(volume, from) {
                    self.write_page(volume, page);
                    from = page + 1;
                }
                self.core
                    .handle(&Input::BitmapWritten { volume, ok: true }, now);
            }
            Action::WriteMetadata { volume } => {
                let mut block = vec![0; 4096];
                let ok = !self.fail_metadata;
                let there = self.core.encode_superblock(volume, &mut block);
                if there.is_some() && ok {
                    let superblock = Superblock::decode(&block).expect("valid");
                    self.told.push(told_of(&superblock));
                    self.superblocks.push(superblock);
                    self.disk.superblock = Some(block);
                }
                if self.hold_metadata && there.is_some() {
                    self.held.push(volume);
                } else {
                    self.core
                        .handle(&Input::MetadataWritten { volume, ok }, now);
                }
            }
            _ => {}
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

    fn write_page(&mut self, volume: VolumeIndex, page: u32) {
        let mut bytes = vec![0; 4096];
        let flush = self.core.bitmap_page(volume, page, &mut bytes);
        let set: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
        self.told
            .push(format!("bitmap page {page}: {set} bits, flush {flush}"));
        self.disk.bitmap.insert(page, bytes);
        self.core.bitmap_page_written(volume, page, true, self.now);
    }

    fn volume_worker(&mut self) -> bool {
        let mut active = false;
        self.look();
        if !self.woken.volume {
            return false;
        }
        self.woken.volume = self.hold_log;
        while let Some((id, local)) = self.core.next_ready(V, self.now) {
            active = true;
            self.local(id, local);
        }
        let mut block = [0; 4096];
        while !self.hold_log {
            match self.core.al_next(V, &mut block, |_| 0, self.now) {
                AlStep::Idle => return active,
                AlStep::WriteBitmapPage { page } => self.write_page(V, page),
                AlStep::WriteTransaction { md_sector, flush } => {
                    self.told.push(told_of_log(md_sector, flush, &block));
                    self.core.al_written(V, true, self.now);
                }
            }
            active = true;
        }
        active
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
                    sector,
                    len_bytes,
                    check_zero,
                    ..
                } => {
                    let at = sector.0 as usize * 512;
                    let data = self.disk.data[at..at + len_bytes as usize].to_vec();
                    let zero = data.iter().all(|&byte| byte == 0);
                    self.pages.insert(id.slot, data);
                    let ok = !self.fail_peer_io;
                    if check_zero {
                        self.core.peer_io_read(id, ok, zero, now);
                    } else {
                        self.core.peer_io_done(id, ok, now);
                    }
                }
                PeerIo::Write { id, sector, .. } => {
                    let data = self.pages[&id.slot].clone();
                    let at = sector.0 as usize * 512;
                    self.disk.data[at..at + data.len()].copy_from_slice(&data);
                    self.core.peer_io_done(id, !self.fail_peer_io, now);
                }
                PeerIo::Discard {
                    id,
                    sector,
                    len_bytes,
                    ..
                } => {
                    let at = sector.0 as usize * 512;
                    self.disk.data[at..at + len_bytes as usize].fill(0);
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
            Incoming::Wait => self.waiting = true,
            Incoming::Error(_) => return false,
            Incoming::Drain { len_bytes } => {
                self.take(len_bytes as usize);
            }
            Incoming::PeerPayload { id, len_bytes, .. } => {
                let data = self
                    .take(len_bytes as usize)
                    .expect("whole packets are sent");
                self.pages.insert(id.slot, data);
                self.core.peer_payload(id, true, self.now);
            }
            Incoming::AppPayload { id, len_bytes, .. } => {
                self.take(len_bytes as usize);
                self.core.app_payload(id, true, self.now);
            }
        }
        true
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

/// Command number of the packet at the front of `buf`, whatever its header form.
pub(crate) fn command_of(buf: &[u8]) -> u16 {
    let at = match buf[..2] {
        [0x86, 0x20] => 6,
        [0x83, 0x5a] => 2,
        _ => 4,
    };
    u16::from_be_bytes([buf[at], buf[at + 1]])
}
