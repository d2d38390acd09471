//! Commands about the data of one volume: invalidate, new-c-uuid, resize, verify, del-minor
//! (`reference/netlink.md` 2.5, 2.14, 2.16 to 2.18).

use drbd_format::types::{ConnState, DiskState, Role};
use drbd_format::wire::settings::SizeFlags;

use super::{code, JobKind, Meaning, Step};
use crate::control::engine::{Answer, Flags, SUCCESS};
use crate::control::jobs::{Then, VolumeJob};
use crate::control::sizes::agreed_size;
use crate::control::{Control, Progress, Volume};
use crate::generation::{FLAG_SKIP_INITIAL_SYNC, JUST_CREATED};
use crate::input::AdminRequest;
use crate::link::{Order, VolumeIndex};
use crate::put_back::{put_back, Bug};
use crate::state::transition::StateError;
use crate::state::Change;

/// Steps of commands that work on a volume's metadata.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WorkStep {
    /// Ask for the state that makes all data of one side worthless.
    Invalidate {
        /// The peer's data, else the own.
        remote: bool,
    },
    /// All bits are being set.
    SetAll {
        /// The peer's data is invalidated.
        remote: bool,
    },
    /// The new generation is being written, or the bitmap still is for another reason.
    BeginClear {
        /// The peer is told to skip the initial sync.
        skip: bool,
    },
    /// The cleared bitmap is being written.
    ClearBitmap {
        /// The peer is told to skip the initial sync.
        skip: bool,
    },
    /// The disk is Outdated; its superblock is to say so before anybody relies on it.
    Outdate {
        /// The answer.
        code: i32,
    },
    /// I/O is suspended; what is under way comes to its end.
    Quiesce {
        /// The answer.
        code: i32,
    },
    /// A new size is being written.
    Resize {
        /// Flags for the peer.
        flags: u16,
        /// The device has grown, while the peer was connected.
        grown: bool,
    },
}

impl Control<'_> {
    pub(super) fn block(&mut self, v: VolumeIndex, on: bool) {
        let volume = self.vol_mut(v);
        volume.blocks = if on {
            volume.blocks.saturating_add(1)
        } else {
            volume.blocks.saturating_sub(1)
        };
        self.order(Order::View(v));
    }

    pub(super) fn start_del_volume(&mut self, v: VolumeIndex) -> Step<JobKind> {
        let state = self.vol(v).state;
        if state.disk != DiskState::Diskless || state.role != Role::Secondary {
            return Step::Done(code::MINOR_CONFIGURED);
        }
        Step::Next(JobKind::DelVolume(v))
    }

    pub(super) fn step_del_volume(&mut self, v: VolumeIndex) -> Step<JobKind> {
        if self.vol(v).disk.is_some() || self.vol(v).job != VolumeJob::None {
            return Step::Wait;
        }
        if self.vol(v).state.conn >= ConnState::Connected {
            let change = Change::conn(ConnState::WfReportParams);
            match self.request(v, change, Flags::VERBOSE) {
                Answer::Pending => return Step::Wait,
                Answer::Ready(code) if code == StateError::InTransientState.code() => {
                    return Step::Wait;
                }
                // The peer goes on with its volume, and would not take part in a new handshake.
                Answer::Ready(code) if code < SUCCESS => return Step::Done(code),
                Answer::Ready(_) => {}
            }
        }
        self.order(Order::DropVolume(v));
        *self.vol_mut(v) = Volume::EMPTY;
        if !self
            .indices()
            .any(|i| self.vol(i).state.conn == ConnState::WfReportParams)
        {
            self.s.link.state_sent = false;
        }
        Step::Done(code::NO_ERROR)
    }

    pub(super) fn start_invalidate(&mut self, v: VolumeIndex, remote: bool) -> Step<JobKind> {
        let state = self.vol(v).state;
        if self.vol(v).disk.is_none() || state.disk < DiskState::Inconsistent {
            return Step::Done(code::NO_DISK);
        }
        if matches!(self.vol(v).job, VolumeJob::SetAll(_, Then::Handshake)) {
            // A full sync is about to begin already, with an exchange of the bitmaps.
            return Step::Done(StateError::ResyncRunning.code());
        }
        let role = if remote {
            Role::Primary
        } else {
            Role::Secondary
        };
        self.vol_mut(v).result = None;
        if state.conn == ConnState::StandAlone && state.role == role {
            self.block(v, true);
            return Step::Next(JobKind::Work(v, WorkStep::Invalidate { remote }));
        }
        let conn = if remote {
            ConnState::StartingSyncS
        } else {
            ConnState::StartingSyncT
        };
        self.block(v, true);
        Step::Next(JobKind::Change(v, Change::conn(conn), Meaning::Blocked))
    }

    /// The own data are going to be given up, and the peer may not have all writes of applications
    /// for good yet. No more come in.
    pub(super) fn writes_before_full_sync(&mut self, v: VolumeIndex, change: Change) -> bool {
        let state = self.state(v);
        let begins = change
            .apply(state)
            .is_some_and(|new| new.conn == ConnState::StartingSyncT);
        let facts = self.vol(v).facts;
        let busy = facts.app_in_flight != 0 || facts.ended_unsettled;
        let waits = begins && busy && state.conn == ConnState::Connected && !state.suspended();
        if begins {
            self.watch_all(waits);
        }
        waits
    }

    pub(super) fn start_verify(
        &mut self,
        v: VolumeIndex,
        start: Option<u64>,
        stop: u64,
    ) -> Step<JobKind> {
        let start = start.unwrap_or(self.vol(v).facts.verify_start);
        self.vol_mut(v).verify = (start & !7, stop);
        self.block(v, true);
        let change = Change::conn(ConnState::VerifyS);
        Step::Next(JobKind::Change(v, change, Meaning::Blocked))
    }

    pub(super) fn new_generation(&mut self, v: VolumeIndex, clear: bool) -> Step<JobKind> {
        let state = self.vol(v).state;
        let Some(disk) = self.vol(v).disk else {
            return Step::Done(code::NO_DISK);
        };
        let there = state.pdsk >= DiskState::Inconsistent;
        let skip = state.conn == ConnState::Connected
            && there
            && self.version() >= 90
            && disk.uuids.current & !1 == JUST_CREATED
            && clear;
        if !skip && state.conn != ConnState::StandAlone {
            return Step::Done(code::CONNECTED);
        }
        if let Some(disk) = self.vol_mut(v).disk.as_mut() {
            disk.uuids.set_bitmap(0);
        }
        self.new_current_uuid(v);
        if !clear {
            return Step::Next(JobKind::Settle(v, code::NO_ERROR));
        }
        Step::Next(JobKind::Work(v, WorkStep::BeginClear { skip }))
    }

    /// Takes such a command one step further.
    pub(super) fn step_work(&mut self, v: VolumeIndex, step: WorkStep) -> Step<WorkStep> {
        let resized = self.is_relaid(v);
        match step {
            // A size whose command was cancelled, or that the peer told, is still being written.
            WorkStep::Invalidate { .. } | WorkStep::BeginClear { .. } if resized => Step::Wait,
            WorkStep::Invalidate { remote } => self.invalidate_state(v, remote),
            WorkStep::SetAll { remote } => {
                let waits = matches!(self.vol(v).job, VolumeJob::SetAll(_, Then::Command));
                let ok = match self.vol_mut(v).result.take() {
                    Some(ok) => ok,
                    None if waits => return Step::Wait,
                    None => false,
                };
                if remote && ok {
                    self.order(Order::SuspendAl(v));
                }
                self.block(v, false);
                Step::Done(if ok { SUCCESS } else { code::IO_MD_DISK })
            }
            WorkStep::BeginClear { skip } => {
                if self.vol(v).disk.is_none() || self.vol(v).io_error {
                    return Step::Done(code::IO_MD_DISK);
                }
                // The old generation must not meet an empty bitmap.
                if !self.metadata_stable(v) || self.vol(v).bitmap_io == Progress::Running {
                    return Step::Wait;
                }
                self.clear_all_bits(v);
                self.write_bitmap(v, false);
                Step::Next(WorkStep::ClearBitmap { skip })
            }
            WorkStep::ClearBitmap { skip } => self.bitmap_cleared(v, skip),
            WorkStep::Outdate { .. } if self.is_disk_lost(v) => Step::Done(code::IO_MD_DISK),
            WorkStep::Outdate { .. } if !self.metadata_stable(v) => Step::Wait,
            WorkStep::Outdate { code } => Step::Done(code),
            WorkStep::Quiesce { code } => self.quiesce(code),
            WorkStep::Resize { .. } if resized => Step::Wait,
            WorkStep::Resize { .. } if self.vol(v).state.disk < DiskState::Negotiating => {
                self.resize_failed(v)
            }
            WorkStep::Resize { flags, grown } => {
                self.announce_size(v, flags, grown);
                Step::Done(code::NO_ERROR)
            }
        }
    }

    /// Whoever has asked for the suspension may take a snapshot now: no write is with a disk any
    /// more. Without a connection the peer's disk does not count, and a disk that was given up by
    /// force may never answer.
    fn quiesce(&mut self, code: i32) -> Step<WorkStep> {
        let busy = self.indices().any(|v| {
            let (facts, state) = (self.vol(v).facts, self.vol(v).state);
            let local = state.disk != DiskState::Diskless && facts.app_local != 0;
            local || (state.conn >= ConnState::Connected && facts.peer_pending != 0)
        });
        let waits = busy && !put_back(Bug::SuspendReturnsEarly);
        self.watch_all(waits);
        if waits {
            Step::Wait
        } else {
            Step::Done(code)
        }
    }

    /// Lets the data plane report when something has come to its end. A disk that is being given
    /// up is watched anyway.
    pub(super) fn watch_all(&mut self, on: bool) {
        for v in self.indices() {
            let detaches = matches!(self.vol(v).job, VolumeJob::Detach(_));
            self.watch(v, on || detaches);
        }
    }

    /// The disk has failed while it got a new size, of which the peer has not been told. A Primary
    /// goes on through the peer, and no application has seen the new size: I/O was suspended.
    fn resize_failed(&mut self, v: VolumeIndex) -> Step<WorkStep> {
        let volume = self.vol(v);
        let (old, now) = (volume.resized_from, volume.capacity);
        if old != now {
            self.change_capacity(v, old);
        }
        Step::Done(code::IO_MD_DISK)
    }

    /// Tells the peer about a new size. It may have run ahead since the command began: the resync
    /// that follows is of the new space as well, which both mark.
    pub(super) fn announce_size(&mut self, v: VolumeIndex, flags: u16, grown: bool) {
        self.vol_mut(v).grown |= grown;
        if self.vol(v).state.conn >= ConnState::Connected {
            let volume = self.vol_mut(v);
            // One that is only about to be given up may still answer. Without a disk nobody waits
            // for an answer.
            volume.resize_asked = volume.state.pdsk >= DiskState::Failed;
            if !volume.resize_asked {
                volume.late_answers = volume.late_answers.saturating_add(1);
            }
            self.send_uuids(v, 0);
            self.send_sizes(v, true, flags);
        }
    }

    fn invalidate_state(&mut self, v: VolumeIndex, remote: bool) -> Step<WorkStep> {
        let change = if remote {
            Change::pdsk(DiskState::Inconsistent)
        } else {
            Change::disk(DiskState::Inconsistent)
        };
        match self.request(v, change, Flags::VERBOSE) {
            Answer::Pending => Step::Wait,
            Answer::Ready(code) if code < SUCCESS => {
                self.block(v, false);
                Step::Done(code)
            }
            Answer::Ready(_) => {
                self.vol_mut(v).result = None;
                self.begin_job(v, VolumeJob::set_all(Then::Command));
                Step::Next(WorkStep::SetAll { remote })
            }
        }
    }

    fn bitmap_cleared(&mut self, v: VolumeIndex, skip: bool) -> Step<WorkStep> {
        if self.vol(v).disk.is_none() || self.vol(v).io_error {
            return Step::Done(code::IO_MD_DISK);
        }
        let Progress::Done(ok) = self.vol(v).bitmap_io else {
            return Step::Wait;
        };
        if !self.metadata_stable(v) {
            return Step::Wait;
        }
        self.vol_mut(v).bitmap_io = Progress::Idle;
        if skip {
            self.send_uuids(v, FLAG_SKIP_INITIAL_SYNC);
            if let Some(disk) = self.vol_mut(v).disk.as_mut() {
                disk.uuids.bitmap = 0;
            }
            self.dirty(v);
            let mut good = Change::disk(DiskState::UpToDate);
            if self.vol(v).state.pdsk >= DiskState::Inconsistent {
                good = good.and(Change::pdsk(DiskState::UpToDate));
            }
            self.set_state(v, good, Flags::VERBOSE);
        }
        Step::Done(if ok { code::NO_ERROR } else { code::IO_MD_DISK })
    }

    pub(super) fn start_resize(&mut self, request: &AdminRequest) -> Step<JobKind> {
        let AdminRequest::Resize {
            volume: v,
            size_sectors,
            force,
            assume_clean,
            max_capacity_sectors,
        } = *request
        else {
            return Step::Done(code::INVALID_REQUEST);
        };
        let state = self.vol(v).state;
        let Some(disk) = self.vol(v).disk else {
            return Step::Done(code::NO_DISK);
        };
        // An answer to an older size would take the newer one back, and a size of the peer's may
        // be on its way to the disk.
        let busy = !matches!(self.vol(v).job, VolumeJob::None);
        // The peer may have decided on an exchange of bitmaps, with the size it knows.
        let negotiates =
            state.conn == ConnState::WfReportParams || state.disk == DiskState::Negotiating;
        let syncs = state.conn > ConnState::Connected || negotiates || state.lacks_a_sync();
        if syncs || self.vol(v).resize_asked || busy {
            return Step::Done(code::RESIZE_RESYNC);
        }
        if state.role == Role::Secondary && state.peer == Role::Secondary {
            return Step::Done(code::NO_PRIMARY);
        }
        if assume_clean && self.version() < 93 {
            return Step::Done(code::NEED_APV_93);
        }
        let own = max_capacity_sectors;
        let mut peer = self.vol(v).peer.disk_sectors;
        if state.conn < ConnState::Connected {
            // What the last peer had says nothing about the next one.
            peer = 0;
            if force {
                let text = "Resize while not connected was forced by the user!";
                self.text(v, crate::log::Level::Warning, text);
                peer = own;
            }
        }
        let (new, too_big) = agreed_size(peer, own, disk.la_size, size_sectors);
        if too_big.is_some() {
            return Step::Done(code::DISK_TOO_SMALL);
        }
        if new < self.vol(v).capacity && size_sectors == 0 {
            return Step::Done(code::IMPLICIT_SHRINK);
        }
        if new > disk.room_sectors {
            return Step::Done(code::NOMEM_BITMAP);
        }
        if let Some(disk) = self.vol_mut(v).disk.as_mut() {
            // A size of the peer's must not be beyond the bitmap either.
            disk.facts.max_capacity_sectors = own.min(disk.room_sectors);
            disk.config.disk_size_sectors = size_sectors;
        }
        let old = self.vol(v).capacity;
        self.vol_mut(v).resized_from = old;
        // If the link breaks meanwhile the next handshake has to see to the new space.
        let grown = new > old && !assume_clean && state.conn == ConnState::Connected;
        self.apply_size(v, new, !assume_clean);
        let mut flags = SizeFlags(0);
        if force {
            flags.0 |= SizeFlags::FORCED.0;
        }
        if assume_clean {
            flags.0 |= SizeFlags::NO_RESYNC.0;
        }
        Step::Next(JobKind::Work(
            v,
            WorkStep::Resize {
                flags: flags.0,
                grown,
            },
        ))
    }
}
