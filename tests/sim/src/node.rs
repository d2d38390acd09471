//! A node: what survives its crashes (disks, clock) and what does not (core, threads, sockets).

use std::collections::VecDeque;

use drbd_core::action::Action;
use drbd_core::chance::Dice;
use drbd_core::data::{Incoming, SentToken};
use drbd_core::establish::Establish;
use drbd_core::link::VolumeIndex;
use drbd_core::peer_request::PeerId;
use drbd_core::quirk::Quirks;
use drbd_core::request::{Op, RequestId};
use drbd_core::resource::Resource;
use drbd_core::time::Instant;
use drbd_format::disk::layout::Layout;

use crate::disk::Disk;
use crate::memory::HostMemory;
use crate::network::EndId;

/// The core as this shell uses it.
pub type Core = Resource<HostMemory>;

/// Volumes of a resource in the simulator, at most.
pub const VOLUMES: usize = 2;

/// Work that a thread of the shell does when its bell rings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Thread {
    /// Performs actions.
    Control,
    /// Sends on the data socket.
    Sender,
    /// Sends on the meta socket.
    Acks,
    /// Receives from the meta socket.
    MetaIn,
    /// Establishes connections and receives from the data socket.
    Receiver,
    /// Starts requests for the peer.
    PeerIo,
    /// Tasks that wait with a bio until the core takes it.
    Submitters,
    /// Worker of a volume.
    Volume(u8),
}

impl Thread {
    /// Number of threads.
    pub const COUNT: usize = 7 + VOLUMES;

    /// Index of the bell.
    pub fn bell(self) -> usize {
        match self {
            Self::Control => 0,
            Self::Sender => 1,
            Self::Acks => 2,
            Self::MetaIn => 3,
            Self::Receiver => 4,
            Self::PeerIo => 5,
            Self::Submitters => 6,
            Self::Volume(volume) => 7 + usize::from(volume),
        }
    }
}

/// A request of an application.
#[derive(Clone, Debug)]
pub struct Bio {
    /// Names it for the workload.
    pub tag: u64,
    /// Which volume.
    pub volume: VolumeIndex,
    /// What is wanted.
    pub op: Op,
    /// First sector.
    pub sector: u64,
    /// Number of sectors.
    pub count: u64,
    /// Contents: what is written, or what was read.
    pub data: Vec<u64>,
    /// Force unit access.
    pub fua: bool,
    /// Flush before.
    pub preflush: bool,
    /// Zeroing may deallocate.
    pub may_unmap: bool,
}

/// Who waits for a request of the disk.
#[derive(Clone, Copy, Debug)]
pub enum Waiter {
    /// Clone of an application request.
    App(RequestId),
    /// Request for the peer.
    Peer(PeerId),
    /// Flush between epochs.
    Flush(drbd_core::data::FlushToken),
    /// A thread that waits for it.
    Thread(Thread),
}

/// An attached disk.
#[derive(Clone, Copy, Debug)]
pub struct Backing {
    /// Where the metadata lies.
    pub layout: Layout,
    /// Pages of the bitmap.
    pub pages: u32,
    /// Flushes with metadata writes.
    pub md_flushes: bool,
}

/// A volume of a running node.
#[derive(Debug, Default)]
pub struct Device {
    /// Attached disk.
    pub backing: Option<Backing>,
    /// Size of the device.
    pub capacity: u64,
    /// Largest request in bytes.
    pub max_bio_bytes: u32,
    /// Writes are refused.
    pub read_only: bool,
    /// Requests with the disk, those of threads excepted.
    pub in_flight: usize,
    /// Somebody uses the buffer for superblock and bitmap.
    pub metadata_locked: bool,
    /// State of the worker.
    pub worker: Worker,
    /// Times the device is open.
    pub opened: u32,
    /// It exists.
    pub present: bool,
    /// Since when a resync to the disk begins or goes on.
    pub target_ns: Option<u64>,
}

impl Device {
    /// A device that nobody may write to yet: the node is Secondary.
    pub fn new() -> Self {
        Self {
            read_only: true,
            ..Self::default()
        }
    }
}

/// What the worker of a volume is in the middle of.
#[derive(Debug, Default)]
pub enum Worker {
    /// Writes a page of the bitmap.
    BitmapPage(u32),
    /// Waits for the buffer to write this page.
    BitmapPageLock(u32),
    /// Nothing.
    #[default]
    Ready,
    /// Writes a transaction.
    Transaction,
}

/// What the control thread is in the middle of.
#[derive(Clone, Copy, Debug, Default)]
pub enum Busy {
    /// Writes the superblock.
    Superblock(VolumeIndex),
    /// Waits for the buffer.
    Lock(Action),
    /// Reads this page of the bitmap.
    BitmapRead(VolumeIndex, u32),
    /// Writes this page of the bitmap.
    BitmapWrite {
        /// Which volume.
        volume: VolumeIndex,
        /// Page under way; the next one starts behind it.
        page: u32,
        /// No error so far.
        ok: bool,
        /// The page is with the disk.
        writing: bool,
    },
    /// Waits until no request is with the disk.
    CloseDisk(VolumeIndex),
    /// Nothing.
    #[default]
    Ready,
}

/// What the receiver thread is in the middle of.
#[derive(Debug, Default)]
pub enum Receiver {
    /// Nobody wants a connection.
    #[default]
    Idle,
    /// Between two steps of establishing.
    Establishing,
    /// Waits for the outcome of a connect.
    Connecting(u64),
    /// A connect has ended.
    Connected(Option<EndId>),
    /// Rests before it looks at the sockets.
    Probing(u64),
    /// Waits for somebody to connect.
    Accepting(u64),
    /// Waits for the first packet of an accepted socket.
    FirstPacket(EndId, u64),
    /// Receives.
    Serving(Packet),
    /// The link is lost; waits for the control plane to say so.
    Lost,
}

/// How far a packet on the data socket has been received.
#[derive(Debug, Default)]
pub enum Packet {
    /// Waits for a header.
    #[default]
    Header,
    /// Waits for the fixed part, so many bytes.
    Fixed(usize),
    /// The core has asked to wait.
    Wait,
    /// Digest and payload.
    Payload(Incoming),
}

/// A connection.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Data socket.
    pub data: EndId,
    /// Meta socket.
    pub meta: EndId,
    /// Somebody has closed it.
    pub closing: bool,
}

/// Bytes on their way into a socket.
#[derive(Debug, Default)]
pub struct Outbound {
    bytes: Vec<u8>,
    taken: usize,
}

impl Outbound {
    /// Appends bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends eight bytes for each sector.
    pub fn extend_sectors(&mut self, sectors: &[u64]) {
        let start = self.bytes.len();
        self.bytes.resize(start + 8 * sectors.len(), 0);
        let places = self.bytes[start..].chunks_exact_mut(8);
        for (to, sector) in places.zip(sectors) {
            to.copy_from_slice(&sector.to_le_bytes());
        }
    }

    /// Number of bytes, those included that the socket has taken.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes behind the first `start`.
    pub fn from(&mut self, start: usize) -> &mut [u8] {
        &mut self.bytes[start..]
    }

    /// The bytes that the socket has not taken.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// The socket has taken so many bytes.
    pub fn took(&mut self, len: usize) {
        self.taken += len;
        if self.taken == self.bytes.len() {
            self.clear();
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.taken = 0;
    }

    /// The socket has taken everything.
    pub fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }
}

/// What a sender has in its hands.
#[derive(Debug, Default)]
pub struct Batch {
    /// Bytes not yet taken by the socket.
    pub bytes: Outbound,
    /// Packets to report.
    pub tokens: Vec<SentToken>,
    /// When the socket last took something.
    pub since_ns: u64,
    /// When the sender looks at the clock again.
    pub alarm_ns: u64,
}

/// Acks not yet taken by the socket.
#[derive(Debug, Default)]
pub struct AckBatch {
    /// Bytes.
    pub bytes: Outbound,
    /// Their end has to be reported.
    pub sending: bool,
    /// When the socket last took something.
    pub since_ns: u64,
    /// When the sender looks at the clock again.
    pub alarm_ns: u64,
}

/// A running node.
pub struct Alive {
    /// The core.
    pub core: Core,
    /// Upper requests by slot.
    pub app: Vec<Option<Bio>>,
    /// Payload of requests for the peer by slot.
    pub peer: Vec<Option<Vec<u64>>>,
    /// When it was received.
    pub peer_ns: Vec<u64>,
    /// The volumes that were the target of a resync then, one bit each.
    pub peer_targets: Vec<u32>,
    /// Requests to be submitted again.
    pub reissue: VecDeque<Bio>,
    /// Requests that the core did not take.
    pub waiting: VecDeque<Bio>,
    /// Which bells have rung.
    pub bells: [bool; Thread::COUNT],
    /// How often each thread found nothing and was woken at once, one time after the other.
    pub vain_looks: [u32; Thread::COUNT],
    /// Devices.
    pub devices: Vec<Device>,
    /// Control thread.
    pub control: Busy,
    /// Outcome for the control thread.
    pub control_result: Option<bool>,
    /// Receiver thread.
    pub receiver: Receiver,
    /// A connection is wanted.
    pub wanted: bool,
    /// A connection was asked for, and the receiver has not begun to work on it.
    pub started: bool,
    /// Establishing.
    pub establish: Establish,
    /// Sockets while establishing: data, meta.
    pub slots: [Option<EndId>; 2],
    /// The connection.
    pub link: Option<Link>,
    /// Data sender.
    pub batch: Batch,
    /// Ack sender.
    pub acks: AckBatch,
    /// The receiver has taken a barrier and waits until it is carried out (C driver only).
    pub at_barrier: bool,
    /// Front of what is being received on the data socket: header, fixed part or payload.
    pub data_bytes: Vec<u8>,
    /// Bytes received on the meta socket and not used.
    pub meta_bytes: Vec<u8>,
    /// Armed timer and its number.
    pub timer: (Option<Instant>, u64),
    /// Global time at which it runs out.
    pub timer_ns: u64,
    /// Answer to the command under way.
    pub answer: Option<(u32, i32, Option<&'static str>)>,
    /// Next ticket.
    pub next_ticket: u32,
}

/// A node with its disks.
pub struct Node {
    /// Its number.
    pub id: usize,
    /// Incarnation.
    pub life: u32,
    /// What runs; `None`: no power.
    pub alive: Option<Box<Alive>>,
    /// One disk per volume.
    pub disks: Vec<Disk>,
    /// Clock: offset and drift in parts per million.
    pub clock: (u64, i64),
    /// What it does as the C driver does.
    pub quirks: Quirks,
    /// What decides about its unlikely branches.
    pub dice: Option<Dice>,
}

impl Node {
    /// Reads the clock of the node at the global time `now_ns`.
    pub fn clock(&self, now_ns: u64) -> Instant {
        let (offset, ppm) = self.clock;
        let drift = match now_ns.checked_mul(ppm.unsigned_abs()) {
            Some(parts) => (parts / 1_000_000) as i64 * ppm.signum(),
            None => (i128::from(now_ns) * i128::from(ppm) / 1_000_000) as i64,
        };
        Instant(offset + now_ns.saturating_add_signed(drift))
    }

    /// Returns the global time at which the clock shows `at`, or a little later.
    pub fn global_ns(&self, at: Instant) -> u64 {
        let (offset, ppm) = self.clock;
        let local = at.0.saturating_sub(offset);
        let rate = 1_000_000_u64.saturating_add_signed(ppm);
        match local.checked_mul(1_000_000) {
            Some(scaled) => scaled.div_ceil(rate) + 1,
            None => {
                let scaled = u128::from(local) * 1_000_000;
                u64::try_from(scaled.div_ceil(rate.into()) + 1).unwrap_or(u64::MAX)
            }
        }
    }

    /// Name in traces.
    pub fn name(&self) -> char {
        name(self.id)
    }
}

/// Name of a node in traces.
pub fn name(node: usize) -> char {
    if node == 0 {
        'a'
    } else {
        'b'
    }
}

impl Alive {
    /// A node that has just booted, without volumes.
    pub fn new(core: Core, requests: usize, peers: usize) -> Self {
        Self {
            core,
            app: vec![None; requests],
            peer: vec![None; peers],
            peer_ns: vec![0; peers],
            peer_targets: vec![0; peers],
            reissue: VecDeque::new(),
            waiting: VecDeque::new(),
            bells: [false; Thread::COUNT],
            vain_looks: [0; Thread::COUNT],
            devices: (0..VOLUMES).map(|_| Device::new()).collect(),
            control: Busy::Ready,
            control_result: None,
            receiver: Receiver::Idle,
            wanted: false,
            started: false,
            establish: Establish::new(),
            slots: [None, None],
            link: None,
            batch: Batch::default(),
            acks: AckBatch::default(),
            at_barrier: false,
            data_bytes: Vec::new(),
            meta_bytes: Vec::new(),
            timer: (None, 0),
            timer_ns: 0,
            answer: None,
            next_ticket: 1,
        }
    }
    /// Requests of applications that have not ended, in no order.
    pub fn bios(&self) -> impl Iterator<Item = &Bio> {
        let queued = self.waiting.iter().chain(&self.reissue);
        self.app.iter().flatten().chain(queued)
    }
}
