//! One application request: its way through the local disk and through the network.
//!
//! An event goes in, effects come out by value (`reference/io.md` 1.2 to 1.7). Lists, bitmap and
//! activity log are the data plane's business.

use drbd_format::types::{DiskState, Protocol};
use drbd_format::units::{Sector, SectorCount, SectorRange};

use crate::link::VolumeIndex;
use crate::memory::interval::{Interval, Node};
use crate::memory::slab::{Id, Link, Links, Slot};
use crate::put_back::{put_back, Bug};
use crate::time::Instant;

/// Identity of an application request; its wire form is the block id of packets.
pub type RequestId = Id;

/// Slot for one application request.
pub type RequestSlot = Slot<Request>;

/// What an application wants.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Op {
    /// The blocks are not needed any more; they read as anything or zero.
    Discard,
    /// Make completed writes durable; carries no data.
    Flush,
    /// Read.
    #[default]
    Read,
    /// Write.
    Write,
    /// Write zeroes without sending them.
    WriteZeroes,
}

impl Op {
    /// Anything but reads.
    #[inline]
    pub const fn is_write(self) -> bool {
        !matches!(self, Self::Read)
    }
}

/// Why an upper request failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IoError {
    /// The request is malformed or beyond the end of the device.
    Invalid,
    /// Disk and peer failed.
    Io,
    /// Neither local nor remote data is accessible.
    NoData,
}

/// Path through the local disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Local {
    /// Given up by a forced detach; the clone has not come back yet.
    Aborted,
    /// Came back.
    Done {
        /// With success.
        ok: bool,
    },
    /// With the disk.
    InFlight,
    /// The disk is not involved.
    #[default]
    None,
}

/// What is sent to the peer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Remote {
    /// The write itself.
    Data,
    /// Nothing.
    #[default]
    None,
    /// Only that the range is out of sync.
    OutOfSync,
    /// A request for the data.
    Read,
}

/// Where the packet is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Transport {
    /// Not queued, or given up before it was sent.
    #[default]
    Idle,
    /// Waits for its turn.
    Queued,
    /// Encoded; the socket is working on it and uses the payload.
    Sending,
    /// In the socket.
    Sent,
}

/// What the peer said.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Answer {
    /// It failed, or the connection was lost.
    Failed,
    /// No answer is needed.
    #[default]
    None,
    /// The peer has it, as far as the protocol demands.
    Ok,
    /// The upper request waits for it.
    Pending,
}

/// Whether the peer's copy is known to be stable.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Barrier {
    /// Acknowledged, or nothing more will come.
    Done,
    /// Not a replicated write.
    #[default]
    None,
    /// The barrier of its epoch has not been acknowledged.
    Pending,
}

/// How the upper request ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Completion {
    /// With an error.
    Failed,
    /// With success.
    Ok,
    /// It is submitted again: another path may work.
    Reissue,
}

/// Something that happened to the request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// Forced detach.
    AbortLocal,
    /// The barrier of its epoch was acknowledged.
    BarrierAcked,
    /// The connection is gone; nothing more will come.
    ConnectionLost,
    /// All data of a read has arrived.
    DataReceived,
    /// The administrator resumes I/O although the disk is gone.
    FailFrozen,
    /// The packet is in the socket.
    HandedOver,
    /// The disk is done.
    LocalDone {
        /// With success.
        ok: bool,
    },
    /// The peer could not do it.
    NegAcked,
    /// P_RECV_ACK.
    RecvAcked,
    /// The packet could not be sent, or was taken from the queue.
    SendCancelled,
    /// P_SUPERSEDED: the peer's own write won.
    Superseded,
    /// I/O goes on: what was held back may complete.
    Thaw,
    /// P_WRITE_ACK or P_RS_WRITE_ACK.
    WriteAcked {
        /// The peer has cleared its bits.
        in_sync: bool,
    },
}

/// What follows from an event.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[must_use]
pub struct Effects {
    /// End the upper request.
    pub complete: Option<Completion>,
    /// Nothing will happen to the request any more.
    pub destroy: bool,
}

/// One application request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which volume.
    pub volume: VolumeIndex,
    /// What is wanted.
    pub op: Op,
    /// First sector.
    pub sector: Sector,
    /// Length in bytes.
    pub len_bytes: u32,
    /// Force unit access.
    pub fua: bool,
    /// Flush before.
    pub preflush: bool,
    /// Somebody waits for it.
    pub sync: bool,
    /// Zeroing may deallocate.
    pub may_unmap: bool,
    /// Failing is no problem.
    pub read_ahead: bool,
    /// Protocol at the time it was queued for the peer.
    pub protocol: Protocol,
    /// Local path.
    pub local: Local,
    /// What goes to the peer.
    pub remote: Remote,
    /// Where it is on its way there.
    pub transport: Transport,
    /// What came back.
    pub answer: Answer,
    /// Whether it is stable there.
    pub barrier: Barrier,
    /// The peer has cleared its bits for this range.
    pub in_sync: bool,
    /// Bits have been exchanged or set for a resync since it was sent, or its disk is gone: it
    /// clears none of them.
    pub before_run: bool,
    /// The upper request has been ended or handed back.
    pub completed: bool,
    /// Completion is due but held back: I/O is suspended.
    pub frozen: bool,
    /// The packet carried DP_MAY_SET_IN_SYNC or asked for an ack nobody waits for.
    pub extra_ack: bool,
    /// Must be submitted again after P_RETRY_WRITE.
    pub retry: bool,
    /// Past admission: it counts for epochs and lists.
    pub admitted: bool,
    /// The shell is receiving data into its pages.
    pub receiving: bool,
    /// A write with the local disk that holds no extents (the activity log is suspended).
    pub untracked: bool,
    /// The own disk is not up to date, or given up: a replicated write that only this disk has is
    /// overwritten by the next resync.
    pub stale_disk: bool,
    /// The same of the peer's disk.
    pub stale_peer: bool,
    /// Write epoch.
    pub epoch: u32,
    /// Place in the order of everything on the data socket.
    pub stamp: u64,
    /// Extents of the activity log it holds, from `al_first` on.
    pub al_count: u32,
    /// First extent of the activity log.
    pub al_first: u32,
    /// When it was submitted, later: when it was handed to the sender.
    pub since: Instant,
    /// When it went to the disk.
    pub local_since: Instant,
    /// Result to be told, with [`Self::free_due`] the content of the done list.
    pub(crate) end_due: Option<Completion>,
    pub(crate) free_due: bool,
    pub(crate) error: IoError,
    pub(crate) wait: Wait,
    links: [Link; LISTS],
    node: Node,
}

/// What a parked request waits for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Wait {
    /// For its extents of the activity log.
    ActivityLog,
    /// For the transaction that makes its extents durable.
    Commit,
    /// For an overlapping write.
    Conflict,
    #[default]
    None,
    /// For nothing but its turn.
    Ready,
}

/// Transfer log: all admitted requests in order.
pub(crate) const LIST_LOG: usize = 0;
/// Requests whose packet waits for its turn.
pub(crate) const LIST_SEND: usize = 1;
/// Parked requests, or those in the done list (never both).
pub(crate) const LIST_WAIT: usize = 2;
/// Replicated writes given to the sender and not covered by a barrier ack; in a list of their own
/// the reads given to the sender and not answered.
pub(crate) const LIST_UNACKED: usize = 3;
/// Requests with the local disk, in order of submission.
pub(crate) const LIST_LOCAL: usize = 4;
/// Ended requests that the shell has not taken note of.
pub(crate) const LIST_DONE: usize = 5;
const LISTS: usize = 6;

impl Default for Request {
    fn default() -> Self {
        Self {
            volume: VolumeIndex(0),
            op: Op::Read,
            sector: Sector(0),
            len_bytes: 0,
            fua: false,
            preflush: false,
            sync: false,
            may_unmap: false,
            read_ahead: false,
            protocol: Protocol::C,
            local: Local::None,
            remote: Remote::None,
            transport: Transport::Idle,
            answer: Answer::None,
            barrier: Barrier::None,
            in_sync: false,
            before_run: false,
            completed: false,
            frozen: false,
            extra_ack: false,
            retry: false,
            admitted: false,
            receiving: false,
            untracked: false,
            stale_disk: false,
            stale_peer: false,
            epoch: 0,
            stamp: 0,
            al_count: 0,
            al_first: 0,
            since: Instant(0),
            local_since: Instant(0),
            end_due: None,
            free_due: false,
            error: IoError::Io,
            wait: Wait::None,
            links: [Link::NONE; LISTS],
            node: Node::default(),
        }
    }
}

impl Links for Request {
    #[inline]
    fn link(&self, list: usize) -> Link {
        self.links[list]
    }

    #[inline]
    fn set_link(&mut self, list: usize, link: Link) {
        self.links[list] = link;
    }
}

impl Interval for Request {
    #[inline]
    fn node(&self) -> &Node {
        &self.node
    }

    #[inline]
    fn node_mut(&mut self) -> &mut Node {
        &mut self.node
    }
}

impl Request {
    /// Returns the sectors concerned.
    #[inline]
    pub fn range(&self) -> SectorRange {
        SectorRange::from_bytes(self.sector, self.len_bytes).unwrap_or_default()
    }

    /// Returns the length in sectors.
    #[inline]
    pub fn sectors(&self) -> SectorCount {
        self.range().len()
    }

    /// The upper request may not be ended yet. It does not wait for the peer to be told that a
    /// range is out of sync, nor for the socket that is to take the news: who runs ahead does so
    /// because that is full. A read waits for a disk that hangs, given up or not: its pages are
    /// with that (`reference/io.md` Q4).
    #[inline]
    fn holds_completion(&self) -> bool {
        let under_way = matches!(self.transport, Transport::Queued | Transport::Sending);
        let tells = self.remote == Remote::OutOfSync && under_way;
        let pages_are_out = self.op == Op::Read && matches!(self.local, Local::Aborted);
        (self.is_busy() && (!tells || matches!(self.local, Local::InFlight))) || pages_are_out
    }

    /// Something is still to happen to the request.
    #[inline]
    pub fn is_busy(&self) -> bool {
        (matches!(self.local, Local::InFlight) && !self.ends_early())
            || matches!(self.answer, Answer::Pending)
            || matches!(self.transport, Transport::Queued | Transport::Sending)
            || self.receiving
    }

    fn ends_early(&self) -> bool {
        self.protocol == Protocol::A
            && matches!(self.answer, Answer::Failed)
            && put_back(Bug::CompletionBeforeLocalDisk)
    }

    /// The write is on both disks.
    #[inline]
    pub fn is_everywhere(&self) -> bool {
        matches!(self.local, Local::Done { ok: true }) && matches!(self.answer, Answer::Ok)
    }

    /// The own disk has it, or is going to.
    #[inline]
    pub fn has_local_part(&self) -> bool {
        matches!(self.local, Local::InFlight | Local::Done { ok: true })
    }

    /// The write has ended well, and only the peer has it. In protocol A that is known with the
    /// barrier ack.
    #[inline]
    pub fn is_only_with_peer(&self) -> bool {
        self.completed
            && !self.retry
            && self.op.is_write()
            && self.op != Op::Flush
            && !matches!(self.local, Local::Done { ok: true })
            && self.answer_counts()
            && !self.is_promised_by_sending()
    }

    /// It was ended as soon as it was sent, and the peer has said nothing about it.
    #[inline]
    pub fn is_promised_by_sending(&self) -> bool {
        self.completed
            && self.protocol == Protocol::A
            && matches!(self.answer, Answer::Ok)
            && matches!(self.barrier, Barrier::Pending)
    }

    /// Takes note of the states of own and peer's disk, before each event.
    #[inline]
    pub fn note_disks(&mut self, disk: DiskState, pdsk: DiskState) {
        self.stale_disk = !matches!(disk, DiskState::UpToDate);
        self.stale_peer = !matches!(pdsk, DiskState::UpToDate);
    }

    /// Applies one event. `suspended`: I/O is frozen, nothing may be told to the upper layer.
    ///
    /// Neither allocates nor loops. Events that cannot happen in the present state change nothing.
    #[inline]
    pub fn apply(&mut self, event: Event, suspended: bool) -> Effects {
        match event {
            Event::AbortLocal => {
                if matches!(self.local, Local::InFlight) {
                    self.local = Local::Aborted;
                }
            }
            Event::BarrierAcked => self.barrier_acked(),
            Event::ConnectionLost => self.connection_lost(),
            Event::DataReceived => self.answered(Answer::Ok),
            Event::FailFrozen | Event::Thaw => self.frozen = false,
            Event::HandedOver => self.handed_over(),
            Event::LocalDone { ok } => {
                if matches!(self.local, Local::InFlight | Local::Aborted) {
                    self.local = Local::Done { ok };
                }
            }
            Event::NegAcked => self.answered(Answer::Failed),
            Event::RecvAcked | Event::WriteAcked { in_sync: false } => self.answered(Answer::Ok),
            Event::SendCancelled => {
                if matches!(self.transport, Transport::Queued | Transport::Sending) {
                    self.transport = Transport::Idle;
                }
            }
            Event::Superseded => {
                self.answered(Answer::Ok);
                self.end_barrier();
            }
            Event::WriteAcked { in_sync: true } => {
                self.in_sync = true;
                self.answered(Answer::Ok);
            }
        }
        self.effects(suspended)
    }

    /// Works out what is due now.
    #[inline]
    pub fn effects(&mut self, suspended: bool) -> Effects {
        let mut effects = Effects::default();
        if !self.completed && !self.holds_completion() && !self.frozen {
            if suspended && !put_back(Bug::CompletionWhileSuspended) {
                self.frozen = true;
                // It is in no log: no disk that comes back gets it from there.
                self.retry |= self.op == Op::Flush && !self.succeeds();
            } else {
                self.completed = true;
                effects.complete = Some(self.result());
            }
        }
        effects.destroy = self.completed
            && !self.is_busy()
            && !matches!(self.local, Local::Aborted)
            && !matches!(self.barrier, Barrier::Pending);
        effects
    }

    fn result(&self) -> Completion {
        if self.retry {
            Completion::Reissue
        } else if self.succeeds() || self.ends_early() {
            Completion::Ok
        } else if self.op == Op::Read && !self.read_ahead {
            Completion::Reissue
        } else {
            Completion::Failed
        }
    }

    fn succeeds(&self) -> bool {
        self.local_counts() || self.answer_counts() || self.is_flush_for_the_peer()
    }

    /// A flush of a disk that is given up while the peer has the data (`reference/io.md` Q19).
    fn is_flush_for_the_peer(&self) -> bool {
        self.op == Op::Flush && matches!(self.local, Local::Aborted) && !self.stale_peer
    }

    fn local_counts(&self) -> bool {
        let overwritten = self.stale_disk && matches!(self.remote, Remote::Data);
        matches!(self.local, Local::Done { ok: true }) && !overwritten
    }

    fn answer_counts(&self) -> bool {
        let overwritten = self.stale_peer && matches!(self.remote, Remote::Data);
        matches!(self.answer, Answer::Ok) && !overwritten
    }

    fn answered(&mut self, answer: Answer) {
        match self.answer {
            Answer::Pending => self.answer = answer,
            // A later refusal counts even if the protocol did not wait (`reference/wire.md` 5.2:
            // in protocol B a P_NEG_ACK may follow a P_RECV_ACK; in A it is the only answer).
            Answer::Ok if matches!(self.barrier, Barrier::Pending) => {
                if matches!(answer, Answer::Failed) && !put_back(Bug::PeerWriteErrorForgotten) {
                    self.answer = answer;
                }
            }
            Answer::Failed | Answer::None | Answer::Ok => {}
        }
    }

    fn handed_over(&mut self) {
        if !matches!(self.transport, Transport::Sending | Transport::Queued) {
            return;
        }
        self.transport = Transport::Sent;
        if self.protocol == Protocol::A && matches!(self.remote, Remote::Data) {
            self.answered(Answer::Ok);
        }
    }

    fn barrier_acked(&mut self) {
        if !matches!(self.barrier, Barrier::Pending) {
            return;
        }
        // In protocol A the peer may be faster than the report that the packet was sent.
        if self.protocol == Protocol::A {
            self.answered(Answer::Ok);
        }
        self.barrier = Barrier::Done;
    }

    fn end_barrier(&mut self) {
        if matches!(self.barrier, Barrier::Pending) {
            self.barrier = Barrier::Done;
        }
    }

    fn connection_lost(&mut self) {
        if matches!(self.answer, Answer::Pending)
            || (matches!(self.answer, Answer::Ok) && matches!(self.barrier, Barrier::Pending))
        {
            self.answer = Answer::Failed;
        }
        // What the socket is working on ends with the report of the sender.
        if matches!(self.transport, Transport::Queued) {
            self.transport = Transport::Idle;
        }
        self.end_barrier();
        self.frozen = false;
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
