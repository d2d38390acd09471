//! One application request: its way through the local disk and through the network.
//!
//! An event goes in, effects come out by value (`reference/io.md` 1.2 to 1.7). Lists, bitmap and
//! activity log are the data plane's business.

use drbd_format::types::{DiskState, Protocol};
use drbd_format::units::{Sector, SectorCount, SectorRange};

use crate::link::VolumeIndex;
use crate::memory::interval::{Interval, Node};
use crate::memory::slab::{Id, Link, Links, Slot};
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
            completed: false,
            frozen: false,
            extra_ack: false,
            retry: false,
            admitted: false,
            receiving: false,
            untracked: false,
            stale_disk: false,
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

    /// A write that the peer has to acknowledge with a barrier ack.
    #[inline]
    pub fn is_replicated(&self) -> bool {
        matches!(self.barrier, Barrier::Pending)
    }

    /// The upper request may not be ended yet.
    #[inline]
    pub fn is_busy(&self) -> bool {
        matches!(self.local, Local::InFlight)
            || matches!(self.answer, Answer::Pending)
            || matches!(self.transport, Transport::Queued | Transport::Sending)
            || self.receiving
    }

    /// The write is on both disks.
    #[inline]
    pub fn is_everywhere(&self) -> bool {
        matches!(self.local, Local::Done { ok: true }) && matches!(self.answer, Answer::Ok)
    }

    /// Takes note of the state of the own disk, before each event.
    #[inline]
    pub fn note_disk(&mut self, disk: DiskState) {
        self.stale_disk = !matches!(disk, DiskState::UpToDate);
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
        if !self.completed && !self.is_busy() && !self.frozen {
            if suspended {
                self.frozen = true;
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
        } else if self.local_counts() || matches!(self.answer, Answer::Ok) {
            Completion::Ok
        } else if self.op == Op::Read && !self.read_ahead {
            Completion::Reissue
        } else {
            Completion::Failed
        }
    }

    fn local_counts(&self) -> bool {
        let only_good_copy_elsewhere = self.stale_disk && matches!(self.remote, Remote::Data);
        matches!(self.local, Local::Done { ok: true }) && !only_good_copy_elsewhere
    }

    fn answered(&mut self, answer: Answer) {
        match self.answer {
            Answer::Pending => self.answer = answer,
            // A later refusal counts even if the protocol did not wait (`reference/wire.md` 5.2:
            // in protocol B a P_NEG_ACK may follow a P_RECV_ACK; in A it is the only answer).
            Answer::Ok if matches!(self.barrier, Barrier::Pending) => {
                if matches!(answer, Answer::Failed) {
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
mod tests {
    use super::*;

    fn write(protocol: Protocol, local: bool, remote: Remote) -> Request {
        let data = matches!(remote, Remote::Data);
        Request {
            op: Op::Write,
            len_bytes: 4096,
            protocol,
            local: if local { Local::InFlight } else { Local::None },
            remote,
            transport: if remote == Remote::None {
                Transport::Idle
            } else {
                Transport::Queued
            },
            answer: if data { Answer::Pending } else { Answer::None },
            barrier: if data {
                Barrier::Pending
            } else {
                Barrier::None
            },
            admitted: true,
            ..Request::default()
        }
    }

    const EVENTS: [Event; 13] = [
        Event::AbortLocal,
        Event::BarrierAcked,
        Event::ConnectionLost,
        Event::HandedOver,
        Event::LocalDone { ok: true },
        Event::LocalDone { ok: false },
        Event::NegAcked,
        Event::RecvAcked,
        Event::SendCancelled,
        Event::Superseded,
        Event::Thaw,
        Event::WriteAcked { in_sync: false },
        Event::WriteAcked { in_sync: true },
    ];

    /// What an observer knows from the outside.
    #[derive(Clone, Default)]
    struct Observer {
        sent: bool,
        acked: bool,
        completions: u32,
        destroyed: bool,
    }

    fn step(request: &mut Request, seen: &mut Observer, event: Event, suspended: bool) {
        if seen.destroyed {
            return;
        }
        let local_ok = request.local;
        let effects = request.apply(event, suspended);
        match event {
            Event::HandedOver => seen.sent = true,
            Event::RecvAcked | Event::WriteAcked { .. } | Event::Superseded => seen.acked = true,
            // The peer has it for sure.
            Event::BarrierAcked => seen.sent = true,
            _ => {}
        }
        if let Some(completion) = effects.complete {
            seen.completions += 1;
            assert!(!suspended, "told while suspended");
            assert!(
                !matches!(request.transport, Transport::Queued | Transport::Sending),
                "the socket still needs the payload"
            );
            assert!(
                !matches!(request.local, Local::InFlight),
                "the disk still needs the payload"
            );
            if completion == Completion::Ok {
                let stale = request.stale_disk && request.remote == Remote::Data;
                let proof = (matches!(request.local, Local::Done { ok: true }) && !stale)
                    || match request.protocol {
                        Protocol::A => seen.sent || seen.acked,
                        Protocol::B | Protocol::C => seen.acked,
                    }
                    || matches!(event, Event::BarrierAcked);
                assert!(proof, "success without proof: {local_ok:?} {request:?}");
            }
        }
        assert!(seen.completions <= 1, "completed twice");
        if effects.destroy {
            assert_eq!(seen.completions, 1, "destroyed before it was completed");
            assert!(!matches!(request.barrier, Barrier::Pending));
            seen.destroyed = true;
        }
    }

    fn walk(request: &Request, seen: &Observer, depth: u32, suspended: bool) {
        if depth == 0 || seen.destroyed {
            return;
        }
        for event in EVENTS {
            let (mut request, mut seen) = (request.clone(), seen.clone());
            step(&mut request, &mut seen, event, suspended);
            walk(&request, &seen, depth - 1, suspended);
        }
    }

    /// 13^5 sequences for each protocol and kind of write.
    #[test]
    fn no_sequence_of_events_completes_twice_or_too_early() {
        for protocol in [Protocol::A, Protocol::B, Protocol::C] {
            for local in [true, false] {
                for remote in [Remote::Data, Remote::OutOfSync, Remote::None] {
                    if !local && remote != Remote::Data {
                        continue;
                    }
                    for (suspended, stale) in
                        [(false, false), (false, true), (true, false), (true, true)]
                    {
                        let mut request = write(protocol, local, remote);
                        request.stale_disk = stale;
                        walk(&request, &Observer::default(), 5, suspended);
                    }
                }
            }
        }
    }

    /// Whatever happened: once the disk is done, the sender reported and the connection is gone,
    /// the request ends.
    #[test]
    fn connection_loss_ends_every_request() {
        for protocol in [Protocol::A, Protocol::B, Protocol::C] {
            for a in EVENTS {
                for b in EVENTS {
                    for suspended in [false, true] {
                        let mut request = write(protocol, true, Remote::Data);
                        let mut seen = Observer::default();
                        step(&mut request, &mut seen, a, suspended);
                        step(&mut request, &mut seen, b, suspended);
                        step(&mut request, &mut seen, Event::ConnectionLost, false);
                        step(&mut request, &mut seen, Event::SendCancelled, false);
                        step(
                            &mut request,
                            &mut seen,
                            Event::LocalDone { ok: true },
                            false,
                        );
                        assert!(seen.destroyed, "{a:?} {b:?} {request:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn each_protocol_waits_for_its_own_proof() {
        for (protocol, proof) in [
            (Protocol::A, Event::HandedOver),
            (Protocol::B, Event::RecvAcked),
            (Protocol::C, Event::WriteAcked { in_sync: false }),
        ] {
            let mut request = write(protocol, true, Remote::Data);
            request.transport = Transport::Sending;
            let local = request.apply(Event::LocalDone { ok: true }, false);
            assert_eq!(local, Effects::default());
            if protocol != Protocol::A {
                assert_eq!(request.apply(Event::HandedOver, false), Effects::default());
            }
            let done = request.apply(proof, false);
            assert_eq!(done.complete, Some(Completion::Ok), "{protocol:?}");
            assert!(!done.destroy, "held until the barrier ack");
            let end = request.apply(Event::BarrierAcked, false);
            assert!(end.destroy && end.complete.is_none());
            assert!(request.is_everywhere());
        }
    }

    #[test]
    fn a_write_that_lost_its_connection_is_not_everywhere() {
        for protocol in [Protocol::A, Protocol::B, Protocol::C] {
            let mut request = write(protocol, true, Remote::Data);
            for event in [
                Event::HandedOver,
                Event::RecvAcked,
                Event::WriteAcked { in_sync: false },
                Event::LocalDone { ok: true },
            ] {
                let _ = request.apply(event, false);
            }
            assert!(request.completed && request.is_everywhere());
            let effects = request.apply(Event::ConnectionLost, false);
            assert!(effects.destroy);
            assert!(!request.is_everywhere(), "the barrier was not acknowledged");
        }
    }

    /// The resync overwrites what only its target has.
    #[test]
    fn a_write_that_only_a_stale_disk_has_fails() {
        use DiskState::{Failed, Inconsistent, UpToDate};
        for (disks, expected) in [
            ([UpToDate, UpToDate], Completion::Ok),
            ([UpToDate, Failed], Completion::Failed),
            ([Inconsistent, UpToDate], Completion::Ok),
            ([Inconsistent, Inconsistent], Completion::Failed),
            ([Inconsistent, Failed], Completion::Failed),
            ([UpToDate, Inconsistent], Completion::Failed),
        ] {
            for loss in [Event::ConnectionLost, Event::NegAcked] {
                let mut request = write(Protocol::C, true, Remote::Data);
                request.note_disk(disks[0]);
                let _ = request.apply(Event::HandedOver, false);
                let _ = request.apply(Event::LocalDone { ok: true }, false);
                request.note_disk(disks[1]);
                let effects = request.apply(loss, false);
                assert_eq!(effects.complete, Some(expected), "{disks:?} {loss:?}");
            }
        }
    }

    #[test]
    fn a_refused_write_is_not_everywhere_even_after_its_barrier() {
        for protocol in [Protocol::A, Protocol::B, Protocol::C] {
            let mut request = write(protocol, true, Remote::Data);
            let _ = request.apply(Event::LocalDone { ok: true }, false);
            let _ = request.apply(Event::HandedOver, false);
            if protocol == Protocol::B {
                let _ = request.apply(Event::RecvAcked, false);
            }
            let _ = request.apply(Event::NegAcked, false);
            assert!(request.completed);
            assert!(request.apply(Event::BarrierAcked, false).destroy);
            assert!(!request.is_everywhere());
        }
    }

    #[test]
    fn a_failed_read_is_tried_again_and_a_failed_read_ahead_is_not() {
        for (read_ahead, expected) in [(false, Completion::Reissue), (true, Completion::Failed)] {
            let mut request = Request {
                local: Local::InFlight,
                read_ahead,
                ..Request::default()
            };
            let effects = request.apply(Event::LocalDone { ok: false }, false);
            assert_eq!(effects.complete, Some(expected));
            assert!(effects.destroy);
        }
    }

    #[test]
    fn an_aborted_clone_keeps_its_slot_until_it_comes_back() {
        let mut request = write(Protocol::C, true, Remote::None);
        let effects = request.apply(Event::AbortLocal, false);
        assert_eq!(effects.complete, Some(Completion::Failed));
        assert!(!effects.destroy);
        assert!(request.apply(Event::LocalDone { ok: false }, false).destroy);
    }
}
