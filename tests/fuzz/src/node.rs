//! A node under attack: a resource with two volumes, and a shell that does as it is told.
//!
//! The shell receives as the kernel module does, byte by byte, and keeps account of the memory it
//! would have to allocate. Disks hold nothing: what is read is zeroes.

use std::fmt::Write as _;
use std::sync::OnceLock;

use drbd_core::action::{Action, HmacJob, Ticket};
use drbd_core::activity_log::AlSlot;
use drbd_core::bitmap::PageState;
use drbd_core::config::{DiskConfig, ResourceConfig};
use drbd_core::control::{Held, Volume, ACTIONS_MIN, ORDERS_MIN, OUTBOX_MIN};
use drbd_core::data::{
    AlPlace, AlStep, AppIo, DataPlane, DiskMemory, DoneKind, LocalPart, Outgoing, Payload, PeerIo,
    Submit, VolumeSlot,
};
use drbd_core::input::{AdminRequest, BackingFacts, Input};
use drbd_core::link::{LinkError, Order, VolumeIndex};
use drbd_core::memory::Memory;
use drbd_core::peer_request::{PeerId, PeerSlot};
use drbd_core::request::{Op, RequestId, RequestSlot};
use drbd_core::resource::{ControlMemory, Resource};
use drbd_core::resync::extents::{ResyncSlot, RESYNC_EXTENTS};
use drbd_core::state::VolumeState;
use drbd_core::time::{Duration, Instant};
use drbd_format::disk::layout::Striping;
use drbd_format::units::{Sector, SectorCount};
use drbd_format::wire::command::DATA_BYTES_MAX;

mod receiving;

use receiving::{Inbox, Receiver};

/// The volume that all stories are about.
pub const V: VolumeIndex = VolumeIndex(0);
/// Volumes of the resource.
pub const VOLUMES: u8 = 2;
/// Size of a disk: some more than two extents of the activity log.
pub const SECTORS: u64 = 20_000;
/// Length of every digest.
pub const DIGEST_LEN: usize = 16;
/// Pages that the configuration allows for data in flight.
pub const MAX_BUFFERS: u32 = 64;
/// Requests of applications and of the peer at a time.
const SLOTS: usize = 64;
/// Rounds after which a node that still finds something to do is said to run in circles.
const ROUNDS_MAX: u32 = 20_000;

/// Memory from the host.
#[derive(Debug)]
pub struct Vecs;

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

/// What a disk says when it is attached.
#[derive(Clone, Copy, Debug)]
pub struct Generation {
    /// Current, bitmap and history UUIDs.
    pub uuids: [u64; 4],
    /// Flags of the superblock.
    pub flags: u32,
    /// Every byte of its bitmap.
    pub bitmap: u8,
}

/// Memory for a request of the peer.
#[derive(Debug)]
struct Pages(u32);

/// Work that is held back.
#[derive(Debug)]
enum Job {
    App(RequestId),
    Bitmap(VolumeIndex, bool),
    /// With the pages that go with it.
    Peer(PeerIo, Option<Pages>),
    Superblock(VolumeIndex),
}

/// A packet that the node has sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// On the meta socket.
    pub meta: bool,
    /// Header and fixed part; payload only if somebody listens.
    pub bytes: Vec<u8>,
}

/// Prints what happens if the environment has `TRACE`, to understand one input.
pub fn trace(line: impl FnOnce() -> String) {
    static WANTED: OnceLock<bool> = OnceLock::new();
    if *WANTED.get_or_init(|| std::env::var_os("TRACE").is_some()) {
        println!("{}", line());
    }
}

/// The node.
pub struct Node {
    /// The core.
    pub core: Resource<Vecs>,
    /// Its clock.
    pub now: Instant,
    /// A connection is wanted.
    pub wanted: bool,
    /// Both sockets exist.
    pub linked: bool,
    /// What was sent and not yet looked at.
    pub outbox: Vec<Sent>,
    /// Somebody listens: payload is kept.
    pub heard: bool,
    /// Disk and metadata writes wait to be told how they end.
    pub hold: bool,
    /// The control worker does not get to its work.
    pub busy: bool,
    /// There is something for it to do.
    to_act: bool,
    /// Memory for packets and blocks.
    buf: Box<[u8; 4096 + 64]>,
    /// Lines printed so far.
    pub lines: u32,
    /// Times the core has asked to close the sockets.
    pub closings: u32,
    /// Answers to commands.
    pub answers: Vec<i32>,
    /// 1 or 2.
    name: u8,
    generations: [Generation; VOLUMES as usize],
    pages_of_bitmap: [u32; VOLUMES as usize],
    data_in: Inbox,
    meta_in: Inbox,
    receiver: Receiver,
    /// The end of the link has been reported.
    lost: bool,
    jobs: Vec<Job>,
    bios: Vec<Option<AppIo>>,
    /// Of each request of the peer.
    pages: Vec<Option<Pages>>,
    /// Pages allocated at present.
    allocated: u64,
    line: String,
}

impl Node {
    /// A node that has booted.
    pub fn new(name: u8, generations: [Generation; VOLUMES as usize]) -> Self {
        let slots = (0..VOLUMES).map(|_| VolumeSlot::default()).collect();
        let data = DataPlane::new(
            vec![RequestSlot::default(); SLOTS],
            vec![PeerSlot::default(); SLOTS],
            slots,
        );
        let memory = ControlMemory {
            volumes: vec![Volume::EMPTY; usize::from(VOLUMES)],
            actions: vec![None; ACTIONS_MIN],
            orders: vec![None; ORDERS_MIN],
            outbox: vec![None; OUTBOX_MIN],
        };
        let config = ResourceConfig::DEFAULT;
        Self {
            core: Resource::new([u64::from(name), 0x1234_5678_9abc], config, memory, data),
            name,
            now: Instant(1_000_000_000),
            wanted: false,
            linked: false,
            outbox: Vec::new(),
            heard: false,
            hold: false,
            busy: false,
            to_act: false,
            buf: Box::new([0; 4096 + 64]),
            lines: 0,
            closings: 0,
            answers: Vec::new(),
            generations,
            pages_of_bitmap: [0; VOLUMES as usize],
            data_in: Inbox::default(),
            meta_in: Inbox::default(),
            receiver: Receiver::Header,
            lost: false,
            jobs: Vec::new(),
            bios: vec![None; SLOTS],
            pages: (0..SLOTS).map(|_| None).collect(),
            allocated: 0,
            line: String::new(),
        }
    }

    /// State of the first volume.
    pub fn state(&mut self) -> VolumeState {
        self.core.state(V)
    }

    /// Text of the last line of the log.
    pub fn last_line(&self) -> &str {
        &self.line
    }

    /// Gives a command.
    pub fn admin(&mut self, request: &AdminRequest) {
        let ticket = Ticket(1);
        self.core.handle(&Input::Admin(request, ticket), self.now);
    }

    /// Opens the disk of a volume and attaches it, unless it has one.
    pub fn attach(&mut self, volume: VolumeIndex, config: DiskConfig) {
        self.attach_as(volume, config, |_| ());
    }

    /// As [`Self::attach`], with other facts.
    pub fn attach_as(
        &mut self,
        volume: VolumeIndex,
        config: DiskConfig,
        change: impl FnOnce(&mut BackingFacts),
    ) {
        if !self.core.is_disk_gone(volume) {
            return;
        }
        let generation = self.generations[volume.slot()];
        let mut facts = facts(&generation);
        change(&mut facts);
        let bits = SectorCount(facts.max_capacity_sectors).bits();
        let memory = DiskMemory {
            bitmap: vec![0; bits.words() as usize],
            pages: vec![PageState::default(); bits.pages() as usize],
            al_extents: vec![AlSlot::default(); 67],
            resync_extents: vec![ResyncSlot::default(); RESYNC_EXTENTS],
            al_place: AlPlace {
                sector: Sector(8),
                striping: Striping::DEFAULT,
            },
            volatile_cache: true,
        };
        self.pages_of_bitmap[volume.slot()] = bits.pages() as u32;
        if self.core.lend_disk(volume, memory).is_ok() {
            self.admin(&AdminRequest::Attach {
                volume,
                config,
                facts,
            });
        }
    }

    /// Both sockets exist.
    pub fn sockets_up(&mut self) {
        self.linked = true;
        self.lost = false;
        let input = Input::SocketsUp {
            resolver: self.name == 2,
            random: &[self.name; 64],
        };
        self.core.handle(&input, self.now);
        self.send_data();
        self.send_acks();
    }

    /// The shell notices that the link has ended.
    pub fn lose_link(&mut self, error: LinkError) {
        if self.linked && !self.lost {
            self.lost = true;
            self.core.handle(&Input::LinkLost(error), self.now);
        }
    }

    /// The link is there and has not been found broken.
    pub fn hears(&self) -> bool {
        self.linked && !self.lost
    }

    /// An application wants something.
    pub fn submit(&mut self, io: &AppIo) {
        match self.core.submit(io, self.now) {
            Submit::Admitted { id, local } => {
                self.keep_bio(id, io);
                self.local(id, local);
            }
            Submit::Parked { id } => self.keep_bio(id, io),
            Submit::Finish | Submit::Refuse(_) | Submit::Wait => {}
        }
    }

    fn keep_bio(&mut self, id: RequestId, io: &AppIo) {
        let old = self.bios[id.slot as usize].replace(*io);
        assert!(old.is_none(), "a slot is given out twice");
    }

    fn local(&mut self, id: RequestId, local: LocalPart) {
        if local != LocalPart::None {
            self.start(Job::App(id));
        }
    }

    fn start(&mut self, job: Job) {
        if self.hold {
            self.jobs.push(job);
        } else {
            self.end_job(job, true);
        }
    }

    /// A job that was held back ends. False: there is none.
    pub fn end_one_job(&mut self, which: usize, ok: bool) -> bool {
        if self.jobs.is_empty() {
            return false;
        }
        let which = which % self.jobs.len();
        let job = self.jobs.remove(which);
        self.end_job(job, ok);
        true
    }

    fn end_job(&mut self, job: Job, ok: bool) {
        let now = self.now;
        match job {
            Job::App(id) => self.core.local_done(id, ok, now),
            Job::Bitmap(volume, all) => {
                self.write_bitmap(volume, all, ok);
                self.core.handle(&Input::BitmapWritten { volume, ok }, now);
            }
            Job::Superblock(volume) => {
                let input = Input::MetadataWritten { volume, ok };
                self.core.handle(&input, now);
            }
            Job::Peer(io, pages) => self.end_peer_io(io, pages, ok),
        }
    }

    fn end_peer_io(&mut self, io: PeerIo, pages: Option<Pages>, ok: bool) {
        let now = self.now;
        match (io, pages) {
            (PeerIo::Digest { id, .. } | PeerIo::Read { id, .. }, Some(pages)) => {
                self.put(id, pages);
            }
            (_, Some(pages)) => self.release(&pages),
            (_, None) => {}
        }
        match io {
            PeerIo::Digest { id, .. } => {
                // Whatever is equal: zeroes everywhere.
                let digest = if ok { [0; DIGEST_LEN] } else { [1; DIGEST_LEN] };
                self.core.digest_ready(id, &digest, now);
            }
            PeerIo::Discard { id, .. } | PeerIo::Write { id, .. } => {
                self.core.peer_io_done(id, ok, now);
            }
            PeerIo::Flush { token, .. } => self.core.flush_done(token, ok, now),
            PeerIo::Read { id, check_zero, .. } if check_zero => {
                self.core.peer_io_read(id, ok, false, now);
            }
            PeerIo::Read { id, .. } => self.core.peer_io_done(id, ok, now),
            PeerIo::Free { .. } => {}
        }
    }

    /// Time passes.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.core.on_timer(self.now);
        self.retry();
    }

    /// Lets the executors that the core wants to see run until nothing moves.
    pub fn settle(&mut self) {
        let (mut rounds, mut quiet) = (0, 0);
        // What an executor that finds nothing leaves behind is looked at once more.
        while quiet < 2 {
            quiet = if self.step() { 0 } else { quiet + 1 };
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "the node runs in circles");
        }
        let core = &self.core.control_state().0.core;
        assert!(!core.overflow, "a queue of the control plane was too short");
    }

    fn step(&mut self) -> bool {
        let wants = self.core.take_wants();
        if wants.timer.is_some_and(|at| at <= self.now) {
            self.core.on_timer(self.now);
        }
        self.to_act |= wants.actions;
        let mut active = false;
        if self.to_act && !self.busy {
            active |= self.act();
        }
        active |= self.volume_workers(wants.volumes);
        if wants.peer_io {
            active |= self.peer_io();
        }
        if wants.sender {
            active |= self.send_data();
        }
        if wants.acks {
            active |= self.send_acks();
        }
        active |= self.receive_data();
        active |= self.receive_meta();
        if wants.done {
            active |= self.end_requests();
        }
        if wants.receiver {
            active |= self.retry();
        }
        active
    }

    fn end_requests(&mut self) -> bool {
        let mut active = false;
        while let Some(done) = self.core.pop_done() {
            active = true;
            if done.what == DoneKind::Free {
                let bio = self.bios[done.id.slot as usize].take();
                assert!(bio.is_some(), "a request is freed twice");
            }
        }
        active
    }

    /// The control worker performs what there is to do.
    pub fn act(&mut self) -> bool {
        self.to_act = false;
        let mut active = false;
        while let Some(action) = self.core.pop_action() {
            active = true;
            self.perform(action);
        }
        active
    }

    fn perform(&mut self, action: Action) {
        let now = self.now;
        trace(|| format!("{action:?}"));
        match action {
            Action::AdminDone { code, .. } => self.answers.push(code),
            Action::CloseDisk { volume } => {
                let _ = self.core.take_disk(volume);
                self.core.handle(&Input::DiskClosed { volume }, now);
            }
            Action::CloseSockets => self.close(),
            Action::Hmac(job) => {
                let digest = self.hmac(job);
                let digest = digest.as_slice();
                self.core.handle(&Input::HmacReady { job, digest }, now);
            }
            Action::Log { line, .. } => {
                self.lines += 1;
                self.line.clear();
                let _ = write!(self.line, "{line}");
                trace(|| format!("log: {line}"));
            }
            Action::ReadBitmap { volume } => self.read_bitmap(volume),
            Action::RunHelper {
                handler,
                volume,
                wait: true,
                run,
            } => {
                let done = Input::HelperDone {
                    handler,
                    volume,
                    run,
                    exit: 0,
                };
                self.core.handle(&done, now);
            }
            Action::StartConnect => self.wanted = true,
            Action::WriteBitmap { volume, all } => self.start(Job::Bitmap(volume, all)),
            Action::WriteMetadata { volume } => {
                let block = &mut self.buf[..4096];
                let _ = self.core.encode_superblock(volume, block);
                self.start(Job::Superblock(volume));
            }
            Action::NotifyConnection { .. }
            | Action::NotifyVolume { .. }
            | Action::RunHelper { .. }
            | Action::SetCapacity { .. }
            | Action::SetLimits { .. }
            | Action::SetReadOnly { .. }
            | Action::Uevent { .. } => {}
        }
    }

    /// The threads of the link end.
    fn close(&mut self) {
        self.closings += 1;
        self.wanted = false;
        self.linked = false;
        self.lost = false;
        self.data_in.clear();
        self.meta_in.clear();
        if let Receiver::Payload(_, Some(pages)) = std::mem::take(&mut self.receiver) {
            self.release(&pages);
        }
        self.send_data();
        self.send_acks();
        if !self.heard {
            self.outbox.clear();
        }
        self.core.handle(&Input::ReceiverGone, self.now);
    }

    /// Something that depends on key and message.
    fn hmac(&self, job: HmacJob) -> Vec<u8> {
        let (mut key, mut message) = ([0; 64], [0; 128]);
        let (key_len, len) = self.core.hmac_input(job, &mut key, &mut message);
        let mut sum = 0xcbf2_9ce4_8422_2325_u64;
        for byte in key[..key_len].iter().chain(&message[..len]) {
            sum = (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        sum.to_be_bytes().repeat(DIGEST_LEN / 8)
    }

    fn read_bitmap(&mut self, volume: VolumeIndex) {
        let bytes = [self.generations[volume.slot()].bitmap; 4096];
        for page in 0..self.pages_of_bitmap[volume.slot()] {
            self.core.load_bitmap_page(volume, page, &bytes);
        }
        let ok = true;
        self.core
            .handle(&Input::BitmapRead { volume, ok }, self.now);
    }

    fn write_bitmap(&mut self, volume: VolumeIndex, all: bool, ok: bool) {
        if all {
            self.core.mark_bitmap_changed(volume);
        }
        let mut from = 0;
        while let Some(page) = self.core.next_dirty_page(volume, from) {
            self.write_page(volume, page, ok);
            from = page + 1;
        }
    }

    fn write_page(&mut self, volume: VolumeIndex, page: u32, ok: bool) {
        let bytes = &mut self.buf[..4096];
        let _ = self.core.bitmap_page(volume, page, bytes);
        self.core.bitmap_page_written(volume, page, ok, self.now);
    }

    fn volume_workers(&mut self, wanted: u32) -> bool {
        let mut active = false;
        let all = (0..VOLUMES).map(VolumeIndex);
        for volume in all.filter(|volume| wanted & volume.bit() != 0) {
            while let Some((id, local)) = self.core.next_ready(volume, self.now) {
                active = true;
                self.local(id, local);
            }
            active |= self.activity_log(volume);
        }
        active
    }

    fn activity_log(&mut self, volume: VolumeIndex) -> bool {
        let mut active = false;
        loop {
            let block = self.buf.first_chunk_mut().expect("room for a block");
            match self.core.al_next(volume, block, |_| 0, self.now) {
                AlStep::Idle => return active,
                AlStep::WriteBitmapPage { page } => self.write_page(volume, page, true),
                AlStep::WriteTransaction { .. } => self.core.al_written(volume, true, self.now),
            }
            active = true;
        }
    }

    fn peer_io(&mut self) -> bool {
        let mut active = false;
        while let Some(io) = self.core.next_peer_io(self.now) {
            active = true;
            let pages = match io {
                PeerIo::Digest { id, .. } | PeerIo::Free { id } | PeerIo::Write { id, .. } => {
                    let pages = self.pages[id.slot as usize].take();
                    assert!(pages.is_some(), "no pages for {io:?}");
                    pages
                }
                PeerIo::Read { len_bytes, .. } => Some(self.allocate(len_bytes)),
                PeerIo::Discard { .. } | PeerIo::Flush { .. } => None,
            };
            match io {
                PeerIo::Free { .. } => self.end_job(Job::Peer(io, pages), true),
                _ => self.start(Job::Peer(io, pages)),
            }
        }
        active
    }

    /// What the peer can make the node allocate is bounded by what was negotiated: `max-buffers`
    /// for what it writes, eight times as much for what it reads, as much for our own resync; and
    /// one request more each.
    fn allocate(&mut self, len: u32) -> Pages {
        assert!(len <= DATA_BYTES_MAX, "{len} bytes at once");
        self.allocated += u64::from(len.div_ceil(4096));
        let most = u64::from(10 * MAX_BUFFERS + 2 * DATA_BYTES_MAX / 4096);
        assert!(self.allocated <= most, "{} pages", self.allocated);
        Pages(len)
    }

    fn release(&mut self, pages: &Pages) {
        self.allocated -= u64::from(pages.0.div_ceil(4096));
    }

    fn put(&mut self, id: PeerId, pages: Pages) {
        let old = self.pages[id.slot as usize].replace(pages);
        assert!(old.is_none(), "pages for a slot that has some");
    }

    fn send_data(&mut self) -> bool {
        let mut active = false;
        while let Some(out) = self.core.next_packet(self.buf.as_mut_slice(), self.now) {
            active = true;
            let sent = self.packet(&out);
            if self.linked {
                self.outbox.push(sent);
            }
            self.core.sent(out.token, self.linked, self.now);
        }
        active
    }

    fn send_acks(&mut self) -> bool {
        let mut active = false;
        while let Some(len) = self
            .core
            .next_acks(&mut self.buf.as_mut_slice()[..4096], self.now)
        {
            active = true;
            if self.linked {
                self.outbox.push(Sent {
                    meta: true,
                    bytes: self.buf[..len].to_vec(),
                });
            }
            self.core.acks_sent(self.now);
        }
        active
    }

    fn packet(&mut self, out: &Outgoing) -> Sent {
        let mut bytes = self.buf[..out.len].to_vec();
        let payload = match out.payload {
            Payload::App(id) => self.bios[id.slot as usize].map_or(0, |io| io.len_bytes),
            Payload::Peer(id) => {
                let pages = self.pages[id.slot as usize].take();
                let pages = pages.expect("pages of a reply");
                self.release(&pages);
                pages.0
            }
            Payload::None => 0,
        };
        if self.heard {
            let digest = if out.digest { DIGEST_LEN } else { 0 };
            bytes.resize(out.len + digest + payload as usize, 0);
        }
        Sent { meta: false, bytes }
    }

    /// After the end of the link and of all that was under way nothing may be left.
    ///
    /// # Panics
    ///
    /// If anything is.
    pub fn check_nothing_left(&self) {
        assert_eq!(self.allocated, 0, "pages left");
        let bios = self.bios.iter().flatten().count();
        assert_eq!(bios, 0, "requests of applications left");
        for volume in (0..VOLUMES).map(VolumeIndex) {
            let counters = self.core.counters(volume);
            assert_eq!(counters.local, 0, "requests with the disk");
            assert_eq!(counters.pending, 0, "requests without an answer");
            assert_eq!(counters.unacked, 0, "requests of the peer");
            assert_eq!(counters.app, 0, "requests of applications");
            assert_eq!(counters.al_used, 0, "references in the activity log");
            assert!(counters.epochs <= 1, "{} epochs", counters.epochs);
        }
    }
}

fn facts(generation: &Generation) -> BackingFacts {
    BackingFacts {
        uuids: generation.uuids,
        device_uuid: 7,
        flags: generation.flags,
        la_size_sectors: if generation.flags & 1 == 0 {
            0
        } else {
            SECTORS
        },
        la_peer_max_bio_bytes: 0,
        max_capacity_sectors: SECTORS,
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
        discard: true,
    }
}

/// A write, read or discard of an application.
pub fn app_io(op: Op, sector: u64, len_bytes: u32) -> AppIo {
    AppIo {
        volume: V,
        op,
        sector: Sector(sector),
        len_bytes,
        fua: false,
        preflush: false,
        sync: false,
        may_unmap: false,
        read_ahead: false,
    }
}
