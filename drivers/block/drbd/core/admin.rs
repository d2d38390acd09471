//! Commands of the administrator (`reference/netlink.md` 2): what each checks and in which order.
//!
//! A command is a job: a few steps, each of which may have to wait. One runs at a time; its answer
//! is the action `AdminDone`.

use drbd_format::types::{ConnState, DiskState, OnCongestion, Protocol, Role};

use crate::action::{Action, Ticket};
use crate::attach::AttachStep;
use crate::config::{DiskConfig, NetConfig};
use crate::control::engine::{Answer, Flags, NOTHING_TO_DO, SUCCESS};
use crate::control::{Control, Volume};
use crate::input::{AdminRequest, BackingFacts, DigestLengths};
use crate::link::{ControlKind, Order, VolumeIndex};
use crate::state::transition::StateError;
use crate::state::{mask, Change};

pub mod cancel;
pub mod connection;
pub mod role;
pub mod volume;

use connection::LeaveStep;
use role::RoleJob;
use volume::WorkStep;

/// Positive return codes (`reference/netlink.md` 4.1).
#[allow(missing_docs, reason = "the names are those of the table")]
pub mod code {
    pub const NO_ERROR: i32 = 101;
    pub const DISK_TOO_SMALL: i32 = 111;
    pub const IO_MD_DISK: i32 = 118;
    pub const DISCARD_IMPOSSIBLE: i32 = 123;
    pub const DISK_CONFIGURED: i32 = 124;
    pub const NET_CONFIGURED: i32 = 125;
    pub const INTR: i32 = 129;
    pub const RESIZE_RESYNC: i32 = 130;
    pub const NO_PRIMARY: i32 = 131;
    pub const PAUSE_IS_SET: i32 = 134;
    pub const PAUSE_IS_CLEAR: i32 = 135;
    pub const NO_DISK: i32 = 138;
    pub const NOT_PROTO_C: i32 = 139;
    pub const CSUMS_RESYNC_RUNNING: i32 = 148;
    pub const VERIFY_RUNNING: i32 = 149;
    pub const NOMEM_BITMAP: i32 = 140;
    pub const DATA_NOT_CURRENT: i32 = 150;
    pub const CONNECTED: i32 = 151;
    pub const NEED_APV_93: i32 = 153;
    pub const STONITH_AND_PROT_A: i32 = 154;
    pub const CONG_NOT_PROTO_A: i32 = 155;
    pub const PIC_AFTER_DEP: i32 = 156;
    pub const PIC_PEER_DEP: i32 = 157;
    pub const MINOR_CONFIGURED: i32 = 160;
    pub const INVALID_REQUEST: i32 = 162;
    pub const NEED_APV_100: i32 = 163;
    pub const NEED_ALLOW_TWO_PRI: i32 = 164;
    pub const IMPLICIT_SHRINK: i32 = 170;
}

/// Outcome of one step of a command.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step<T> {
    /// Look again after the next event.
    Wait,
    /// Go on with this step at once.
    Next(T),
    /// The command has ended with this code.
    Done(i32),
}

/// A command in progress.
#[derive(Clone, Copy, Debug)]
pub struct AdminJob {
    /// Whom to answer.
    pub ticket: Ticket,
    /// What is being done.
    pub kind: JobKind,
}

/// What a command does and how far it has got.
#[derive(Clone, Copy, Debug)]
pub enum JobKind {
    /// attach
    Attach(VolumeIndex, AttachStep, DiskConfig, BackingFacts),
    /// A single change of state.
    Change(VolumeIndex, Change, Meaning),
    /// del-minor
    DelVolume(VolumeIndex),
    /// detach; whether the state has been changed already
    Detach(VolumeIndex, bool, bool),
    /// disconnect
    Disconnect(LeaveStep),
    /// invalidate, invalidate-peer, new-c-uuid, resize
    Work(VolumeIndex, WorkStep),
    /// primary, secondary
    Role(RoleJob),
    /// Wait until the metadata is on disk.
    Settle(VolumeIndex, i32),
}

impl JobKind {
    /// new-c-uuid for equal disks, which has begun its generation.
    pub(crate) fn skips_initial_sync(&self, v: VolumeIndex) -> bool {
        matches!(
            *self,
            Self::Work(
                of,
                WorkStep::BeginClear { skip: true } | WorkStep::ClearBitmap { skip: true },
            ) if of == v
        )
    }
}

/// How the result of a [`JobKind::Change`] is reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Meaning {
    /// outdate
    Outdate,
    /// Application I/O was blocked for the time of the change.
    Blocked,
    /// pause-sync
    Pause,
    /// resume-sync
    Resume,
    /// resume-io
    ResumeIo,
    /// suspend-io
    SuspendIo,
}

impl Control<'_> {
    /// Begins a command.
    pub(crate) fn admin(&mut self, request: &AdminRequest, ticket: Ticket) {
        if let Some(v) = request.volume() {
            let creates = matches!(request, AdminRequest::NewVolume { .. });
            if self.exists(v) == creates || v.slot() >= self.volumes.len() {
                self.answer(ticket, code::INVALID_REQUEST);
                return;
            }
        }
        let forced = matches!(request, AdminRequest::Detach { force: true, .. });
        if !forced && self.s.job.is_some() {
            let leaves = matches!(request, AdminRequest::Disconnect { force: true });
            if !leaves {
                if let AdminRequest::Attach { volume, .. } = *request {
                    self.refuse_disk(volume);
                }
                self.answer(ticket, StateError::InTransientState.code());
                return;
            }
            // A forced disconnect is the way out when the peer does not answer.
            self.abandon();
            self.s.two_phase = None;
        }
        match self.start(request) {
            Step::Done(code) => self.answer(ticket, code),
            Step::Next(kind) if forced => {
                if let JobKind::Detach(v, ..) = kind {
                    self.step_detach_command(v, true, false);
                }
                self.answer(ticket, SUCCESS);
            }
            Step::Next(kind) => self.s.job = Some(AdminJob { ticket, kind }),
            Step::Wait => self.answer(ticket, code::INVALID_REQUEST),
        }
    }

    fn answer(&mut self, ticket: Ticket, code: i32) {
        self.act(Action::AdminDone {
            ticket,
            code,
            text: None,
        });
    }

    /// A background job of a volume that a command waits for has ended.
    pub(crate) fn job_result(&mut self, v: VolumeIndex, ok: bool) {
        self.vol_mut(v).result = Some(ok);
    }

    fn start(&mut self, request: &AdminRequest) -> Step<JobKind> {
        match *request {
            AdminRequest::Attach {
                volume,
                config,
                facts,
            } => Step::Next(JobKind::Attach(volume, AttachStep::Begin, config, facts)),
            AdminRequest::Connect {
                ref config,
                digests,
            } => self.connect(config, digests),
            AdminRequest::DelVolume { volume } => self.start_del_volume(volume),
            AdminRequest::Detach { volume, force } => {
                Step::Next(JobKind::Detach(volume, force, false))
            }
            AdminRequest::Disconnect { force } => {
                Step::Next(JobKind::Disconnect(LeaveStep::begin(force)))
            }
            AdminRequest::DiskOptions { volume, ref config } => self.disk_options(volume, config),
            AdminRequest::NetOptions {
                ref config,
                digests,
            } => self.net_options(config, digests),
            AdminRequest::NewVolume { volume, number } => {
                self.new_volume(volume, number);
                Step::Done(code::NO_ERROR)
            }
            AdminRequest::ResourceOptions { config } => {
                self.s.config = config;
                for v in self.indices() {
                    self.order(Order::View(v));
                }
                Step::Done(code::NO_ERROR)
            }
            AdminRequest::SetRole {
                volume,
                role,
                force,
            } => {
                if role == Role::Primary && self.s.conn >= ConnState::WfReportParams {
                    // A dead peer is noticed early.
                    self.s.liveness.nudge();
                }
                let force = force && role == Role::Primary;
                Step::Next(JobKind::Role(RoleJob::begin(volume, role, force)))
            }
            AdminRequest::Outdate { .. }
            | AdminRequest::PauseSync { .. }
            | AdminRequest::ResumeSync { .. }
            | AdminRequest::SuspendIo { .. }
            | AdminRequest::ResumeIo { .. } => self.start_change(request),
            AdminRequest::Invalidate { volume } => self.start_invalidate(volume, false),
            AdminRequest::InvalidateRemote { volume } => self.start_invalidate(volume, true),
            AdminRequest::NewCurrentUuid {
                volume,
                clear_bitmap,
            } => self.new_generation(volume, clear_bitmap),
            AdminRequest::Resize { .. } => self.start_resize(request),
            AdminRequest::Verify {
                volume,
                start,
                stop,
            } => self.start_verify(volume, start, stop),
        }
    }

    /// Commands that only change the state.
    fn start_change(&mut self, request: &AdminRequest) -> Step<JobKind> {
        let Some(volume) = request.volume() else {
            return Step::Done(code::INVALID_REQUEST);
        };
        let (change, meaning) = match request {
            AdminRequest::Outdate { .. } => (Change::disk(DiskState::Outdated), Meaning::Outdate),
            AdminRequest::PauseSync { .. } => (Change::flag(mask::USER_ISP, true), Meaning::Pause),
            AdminRequest::ResumeSync { .. } => {
                (Change::flag(mask::USER_ISP, false), Meaning::Resume)
            }
            AdminRequest::SuspendIo { .. } => (Change::flag(mask::SUSP, true), Meaning::SuspendIo),
            _ => {
                let frozen = mask::SUSP | mask::SUSP_NOD | mask::SUSP_FEN;
                (Change::flag(frozen, false), Meaning::ResumeIo)
            }
        };
        Step::Next(JobKind::Change(volume, change, meaning))
    }

    /// Takes the command in progress as far as it goes. Returns whether anything was done.
    pub(crate) fn step_admin(&mut self) -> bool {
        let Some(AdminJob { ticket, kind }) = self.s.job else {
            return false;
        };
        let step = match kind {
            JobKind::Attach(v, step, ref config, ref facts) => self
                .step_attach(v, step, config, facts)
                .map(|step| JobKind::Attach(v, step, *config, *facts)),
            JobKind::Change(v, change, meaning) => self.step_change(v, change, meaning),
            JobKind::DelVolume(v) => self.step_del_volume(v),
            JobKind::Detach(v, force, asked) => self
                .step_detach_command(v, force, asked)
                .map(|asked| JobKind::Detach(v, force, asked)),
            JobKind::Disconnect(step) => self.step_leave(step).map(JobKind::Disconnect),
            JobKind::Work(v, step) => self.step_work(v, step).map(|step| JobKind::Work(v, step)),
            JobKind::Role(job) => self.step_role(job).map(JobKind::Role),
            JobKind::Settle(v, _) if self.is_disk_lost(v) => Step::Done(code::IO_MD_DISK),
            JobKind::Settle(v, code) if self.metadata_stable(v) && !self.vol(v).al_resuming => {
                Step::Done(code)
            }
            JobKind::Settle(..) => Step::Wait,
        };
        match step {
            Step::Wait => false,
            Step::Next(kind) => {
                self.s.job = Some(AdminJob { ticket, kind });
                true
            }
            Step::Done(code) => {
                self.s.job = None;
                self.answer(ticket, code);
                true
            }
        }
    }

    fn step_change(&mut self, v: VolumeIndex, change: Change, meaning: Meaning) -> Step<JobKind> {
        if change.names(mask::DISK) && self.state(v).disk == DiskState::Negotiating {
            // It would count as compared.
            return Step::Wait;
        }
        if meaning == Meaning::Blocked && self.writes_before_full_sync(v, change) {
            return Step::Wait;
        }
        if meaning == Meaning::ResumeIo && self.is_meeting_peer() {
            return Step::Wait;
        }
        let code = match self.request(v, change, Flags::VERBOSE) {
            Answer::Pending => return Step::Wait,
            Answer::Ready(code) if code == StateError::InTransientState.code() => {
                return Step::Wait;
            }
            Answer::Ready(code) => code,
        };
        let nothing = code == NOTHING_TO_DO;
        let state = self.state(v);
        let paused = matches!(state.conn, ConnState::PausedSyncS | ConnState::PausedSyncT);
        if meaning == Meaning::SuspendIo && code >= SUCCESS {
            // One that was given up, and still goes on, is this one's from now on.
            let given_up = core::mem::take(&mut self.s.resume_due);
            let code = if given_up { SUCCESS } else { code };
            return Step::Next(JobKind::Work(v, WorkStep::Quiesce { code }));
        }
        if meaning == Meaning::Outdate && code >= SUCCESS {
            return Step::Next(JobKind::Work(v, WorkStep::Outdate { code }));
        }
        Step::Done(match meaning {
            Meaning::Outdate | Meaning::SuspendIo => code,
            Meaning::Blocked => {
                let volume = self.vol_mut(v);
                volume.blocks = volume.blocks.saturating_sub(1);
                self.order(Order::View(v));
                code
            }
            Meaning::Pause if nothing => code::PAUSE_IS_SET,
            Meaning::Resume if nothing && paused && state.aftr_isp => code::PIC_AFTER_DEP,
            Meaning::Resume if nothing && paused && state.peer_isp => code::PIC_PEER_DEP,
            Meaning::Resume if nothing => code::PAUSE_IS_CLEAR,
            Meaning::Pause | Meaning::Resume => code::NO_ERROR,
            Meaning::ResumeIo => {
                self.s.resume_due = false;
                if code == SUCCESS {
                    self.begin_owed_generations();
                    self.after_resume_io();
                }
                code
            }
        })
    }

    /// Suspension concerns all volumes: each that owes a new generation begins it now. Not earlier:
    /// if the command had to wait for the end of a handshake no generation may be owed any more, as
    /// the peer gets what was kept.
    pub(crate) fn begin_owed_generations(&mut self) {
        if self.resends_kept() {
            return;
        }
        for v in self.indices() {
            if self.vol(v).disk.is_some() {
                self.begin_due_generation(v);
            } else if self.vol(v).new_uuid_due {
                self.resume_without_disk(v);
            }
        }
    }

    fn resume_without_disk(&mut self, v: VolumeIndex) {
        let uuid = self.random_uuid();
        let volume = self.vol_mut(v);
        volume.new_uuid_due = false;
        volume.exposed_uuid = uuid;
        let text = "Resumed without access to data; please tear down before attempting to \
                    re-configure.";
        self.text(v, crate::log::Level::Warning, text);
    }

    /// What is frozen is given up with the connection, or with that of its volume: what the peer
    /// gets of other volumes goes on.
    fn after_resume_io(&mut self) {
        if self.s.conn < ConnState::WfReportParams {
            self.end_frozen();
        } else if !self.resends_kept() {
            for v in self.indices() {
                if self.vol(v).state.conn < ConnState::Connected {
                    self.give_up_frozen(v);
                    self.order(Order::EndFrozenOf(v));
                }
            }
        }
        for v in self.indices() {
            if matches!(self.state(v).disk, DiskState::Diskless | DiskState::Failed) {
                self.order(Order::FailFrozen(v));
            }
        }
    }

    /// What is frozen is given up, also that of volumes that had no reason to suspend I/O.
    pub(crate) fn end_frozen(&mut self) {
        for v in self.indices() {
            self.give_up_frozen(v);
        }
        self.give_up_kept();
    }

    /// Writes that the peer may have, or the own disk alone, are given up. If no generation has
    /// begun the disks count as equal, unless this one is that of a crashed Primary.
    pub(crate) fn give_up_frozen(&mut self, v: VolumeIndex) {
        let volume = self.vol_mut(v);
        let shared = volume.disk.is_some_and(|disk| disk.uuids.bitmap == 0);
        let facts = &volume.facts;
        let frozen = facts.app_in_flight != 0 || facts.keeps_ended;
        if shared && volume.state.role == Role::Primary && frozen {
            volume.crashed_primary = true;
            self.update_flags(v, self.state(v));
            self.order(Order::View(v));
        }
    }

    fn new_volume(&mut self, v: VolumeIndex, number: crate::link::VolumeNumber) {
        let conn = self.s.conn;
        let volume = self.vol_mut(v);
        *volume = Volume {
            present: true,
            number,
            ..Volume::EMPTY
        };
        volume.state.conn = conn;
        self.order(Order::NewVolume(v, number));
        self.order(Order::View(v));
        if conn == ConnState::WfReportParams {
            self.send_volume_parameters(v);
            self.expect_more();
        }
    }

    fn disk_options(&mut self, v: VolumeIndex, config: &DiskConfig) -> Step<JobKind> {
        if self.vol(v).state.disk < DiskState::Inconsistent {
            return Step::Done(code::NO_DISK);
        }
        let Some(disk) = self.vol_mut(v).disk.as_mut() else {
            return Step::Done(code::NO_DISK);
        };
        let size = disk.config.disk_size_sectors;
        // The activity log keeps the size that it got at attach.
        let al_extents = disk.config.al_extents;
        disk.config = DiskConfig {
            disk_size_sectors: size,
            al_extents,
            ..config.put_right()
        };
        self.switch_al_updates(v);
        self.dirty(v);
        self.order(Order::View(v));
        self.set_limits(v);
        if self.vol(v).state.conn >= ConnState::Connected {
            self.send(v, ControlKind::SyncParam);
        }
        Step::Next(JobKind::Settle(v, code::NO_ERROR))
    }

    /// Option consistency check (`reference/netlink.md` 2.8).
    pub(crate) fn check_net_options(&self, config: &NetConfig, live: bool) -> Result<(), i32> {
        if let (true, Some(now)) = (live && self.version() < 100, self.s.net) {
            if now.protocol != config.protocol
                || now.two_primaries != config.two_primaries
                || now.integrity_alg != config.integrity_alg
            {
                return Err(code::NEED_APV_100);
            }
        }
        let primary = self
            .indices()
            .any(|v| self.vol(v).state.role == Role::Primary);
        if !config.two_primaries && primary && self.peer_is_primary() {
            return Err(code::NEED_ALLOW_TWO_PRI);
        }
        if config.two_primaries && config.protocol != Protocol::C {
            return Err(code::NOT_PROTO_C);
        }
        for v in self.indices() {
            let stonith = self.vol(v).disk.is_some_and(|disk| {
                disk.config.fencing == drbd_format::types::Fencing::ResourceAndStonith
            });
            if config.protocol == Protocol::A && stonith {
                return Err(code::STONITH_AND_PROT_A);
            }
            if self.vol(v).state.role == Role::Primary && config.discard_my_data {
                return Err(code::DISCARD_IMPOSSIBLE);
            }
        }
        if config.on_congestion != OnCongestion::Block && config.protocol != Protocol::A {
            return Err(code::CONG_NOT_PROTO_A);
        }
        Ok(())
    }

    fn net_options(&mut self, config: &NetConfig, digests: DigestLengths) -> Step<JobKind> {
        let Some(now) = self.s.net else {
            return Step::Done(code::INVALID_REQUEST);
        };
        let live = self.s.conn == ConnState::WfReportParams;
        if let Err(code) = self.check_net_options(config, live) {
            return Step::Done(code);
        }
        let any = |states: &[ConnState]| {
            self.indices()
                .any(|v| states.contains(&self.vol(v).state.conn))
        };
        let resyncing = [
            ConnState::SyncSource,
            ConnState::SyncTarget,
            ConnState::PausedSyncS,
            ConnState::PausedSyncT,
        ];
        if now.csums_alg != config.csums_alg && any(&resyncing) {
            return Step::Done(code::CSUMS_RESYNC_RUNNING);
        }
        if now.verify_alg != config.verify_alg && any(&[ConnState::VerifyS, ConnState::VerifyT]) {
            return Step::Done(code::VERIFY_RUNNING);
        }
        self.s.net = Some(NetConfig {
            discard_my_data: now.discard_my_data,
            tentative: now.tentative,
            ..*config
        });
        self.s.digests = digests;
        self.order(Order::Link);
        if now.integrity_alg.is_empty() != config.integrity_alg.is_empty() {
            // Zeroes are offered only without.
            for v in self.indices() {
                self.set_limits(v);
            }
        }
        if live {
            if self.version() >= 100 {
                self.send(VolumeIndex(0), ControlKind::ProtocolUpdate);
            }
            for v in self.indices() {
                self.send(v, ControlKind::SyncParam);
            }
        }
        Step::Done(code::NO_ERROR)
    }

    fn connect(&mut self, config: &NetConfig, digests: DigestLengths) -> Step<JobKind> {
        if self.s.conn > ConnState::StandAlone || self.s.net.is_some() {
            return Step::Done(code::NET_CONFIGURED);
        }
        if let Err(code) = self.check_net_options(config, false) {
            return Step::Done(code);
        }
        self.s.net = Some(*config);
        self.s.digests = digests;
        self.order(Order::Link);
        let result = self.set_conn_state(Change::conn(ConnState::Unconnected), Flags::VERBOSE);
        if result < SUCCESS {
            self.s.net = None;
        }
        Step::Done(result)
    }
}

impl<T> Step<T> {
    /// Wraps the next step.
    pub fn map<U>(self, wrap: impl FnOnce(T) -> U) -> Step<U> {
        match self {
            Self::Wait => Step::Wait,
            Self::Next(step) => Step::Next(wrap(step)),
            Self::Done(code) => Step::Done(code),
        }
    }
}

impl AdminRequest {
    /// The volume that the command names.
    pub const fn volume(&self) -> Option<VolumeIndex> {
        match self {
            Self::Attach { volume, .. }
            | Self::DelVolume { volume }
            | Self::Detach { volume, .. }
            | Self::DiskOptions { volume, .. }
            | Self::Invalidate { volume }
            | Self::InvalidateRemote { volume }
            | Self::NewCurrentUuid { volume, .. }
            | Self::NewVolume { volume, .. }
            | Self::Outdate { volume }
            | Self::PauseSync { volume }
            | Self::Resize { volume, .. }
            | Self::ResumeIo { volume }
            | Self::ResumeSync { volume }
            | Self::SetRole { volume, .. }
            | Self::SuspendIo { volume }
            | Self::Verify { volume, .. } => Some(*volume),
            Self::Connect { .. }
            | Self::Disconnect { .. }
            | Self::NetOptions { .. }
            | Self::ResourceOptions { .. } => None,
        }
    }
}
