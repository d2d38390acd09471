//! primary and secondary (`reference/states.md` 4, R1 to R8).

use drbd_format::types::{ConnState, DiskState, Role};

use super::Step;
use crate::action::Action;
use crate::control::engine::{Answer, Flags, NOTHING_TO_DO, SUCCESS};
use crate::control::{Control, Disk};
use crate::handshake::Fence;
use crate::link::{Order, VolumeIndex};
use crate::log::Level;
use crate::put_back::{put_back, Bug};
use crate::state::transition::StateError;
use crate::state::{mask, Change};
use crate::time::{Duration, Instant};

/// Attempts before the last, verbose one.
const TRIES: u8 = 4;

/// A role change in progress.
#[derive(Clone, Copy, Debug)]
pub struct RoleJob {
    volume: VolumeIndex,
    role: Role,
    force: bool,
    /// Fields besides the role that are asked for.
    extra: Change,
    tries: u8,
    forced: bool,
    /// It has waited for the peer to give up its role, or to be found dead.
    paused: bool,
    step: RoleStep,
}

#[derive(Clone, Copy, Debug)]
enum RoleStep {
    /// Ask for the change.
    Ask,
    /// Ask a last time, refusals are logged and final.
    AskVerbose,
    /// The peer is being fenced, because of this refusal.
    Fencing(StateError),
    /// The peer may give up its role, or turn out to be dead, and be fenced; ask again then.
    Pause(Instant),
    /// Writes are still under way to the peer.
    Drain,
    /// The superblock is being written.
    Metadata,
}

impl RoleJob {
    /// The first step.
    pub const fn begin(volume: VolumeIndex, role: Role, force: bool) -> Self {
        Self {
            volume,
            role,
            force,
            extra: Change { mask: 0, val: 0 },
            tries: 0,
            forced: false,
            paused: false,
            step: RoleStep::Ask,
        }
    }

    const fn at(self, step: RoleStep) -> Step<Self> {
        Step::Next(Self { step, ..self })
    }
}

impl Control<'_> {
    /// Takes a role change one step further.
    pub(crate) fn step_role(&mut self, job: RoleJob) -> Step<RoleJob> {
        let v = job.volume;
        match job.step {
            RoleStep::Ask => self.ask_role(job, Flags::QUIET),
            RoleStep::AskVerbose => self.ask_role(job, Flags::VERBOSE),
            RoleStep::Fencing(error) => {
                let Fence::Done(fenced) = self.s.link.fence else {
                    return Step::Wait;
                };
                self.s.link.fence = Fence::Idle;
                self.after_fencing(job, error, fenced)
            }
            RoleStep::Pause(until) if self.now < until => Step::Wait,
            RoleStep::Pause(_) => RoleJob {
                paused: true,
                ..job
            }
            .at(RoleStep::Ask),
            RoleStep::Drain => {
                if self.vol(v).facts.peer_pending != 0 && !self.suspended() {
                    self.watch(v, true);
                    return Step::Wait;
                }
                self.watch(v, false);
                self.role_changed(&job);
                job.at(RoleStep::Metadata)
            }
            RoleStep::Metadata => {
                if !self.metadata_stable(v) {
                    return Step::Wait;
                }
                self.device_follows_role(v);
                Step::Done(SUCCESS)
            }
        }
    }

    /// Deadline of a role change that pauses.
    pub(crate) fn role_deadline(&self) -> Option<Instant> {
        match self.s.job?.kind {
            super::JobKind::Role(RoleJob {
                step: RoleStep::Pause(until),
                ..
            }) => Some(until),
            _ => None,
        }
    }

    pub(crate) fn watch(&mut self, v: VolumeIndex, watching: bool) {
        if self.vol(v).watching != watching {
            self.vol_mut(v).watching = watching;
            self.order(Order::View(v));
        }
    }

    /// Nobody waits for the role change any more. If the state has changed, the rest follows.
    pub(super) fn abandon_role(&mut self, job: &RoleJob) {
        let v = job.volume;
        match job.step {
            RoleStep::Ask | RoleStep::AskVerbose | RoleStep::Fencing(_) | RoleStep::Pause(_) => {
                self.watch(v, false);
            }
            RoleStep::Drain => {
                self.watch(v, false);
                self.role_changed(job);
                self.vol_mut(v).role_due = true;
            }
            RoleStep::Metadata => self.vol_mut(v).role_due = true,
        }
    }

    /// The end of a role change that nobody waits for. Returns whether anything was done.
    pub(crate) fn step_role_due(&mut self, v: VolumeIndex) -> bool {
        if !self.vol(v).role_due || !self.metadata_stable(v) {
            return false;
        }
        self.vol_mut(v).role_due = false;
        self.device_follows_role(v);
        true
    }

    fn device_follows_role(&mut self, v: VolumeIndex) {
        let read_only = self.vol(v).state.role != Role::Primary;
        self.act(Action::SetReadOnly {
            volume: v,
            read_only,
        });
        self.act(Action::Uevent { volume: v });
    }

    fn ask_role(&mut self, job: RoleJob, flags: Flags) -> Step<RoleJob> {
        let v = job.volume;
        let hurries = put_back(Bug::SurvivorPromotedUnreconciled);
        if job.role == Role::Primary && !self.s.link.drained && !hurries {
            // Writes of the former peer must not come to the disk behind those of this node.
            return Step::Wait;
        }
        if job.role == Role::Primary && self.former_primary_writes(v) {
            self.watch(v, true);
            return Step::Wait;
        }
        if self.vol(v).state.role != job.role && self.size_is_open(v) {
            return Step::Wait;
        }
        if self.needs_no_force_any_more(&job) {
            let extra = Change { mask: 0, val: 0 };
            let forced = false;
            return RoleJob {
                extra,
                forced,
                ..job
            }
            .at(job.step);
        }
        let change = Change::role(job.role).and(job.extra);
        let code = match self.request(v, change, flags) {
            Answer::Pending => return Step::Wait,
            Answer::Ready(code) => code,
        };
        if code == NOTHING_TO_DO {
            return Step::Done(NOTHING_TO_DO);
        }
        if code >= SUCCESS {
            if job.forced {
                let text = "Forced to consider local data as UpToDate!";
                self.text(v, Level::Warning, text);
            }
            return job.at(RoleStep::Drain);
        }
        let Some(error) = StateError::from_code(code) else {
            return Step::Done(code);
        };
        if error == StateError::InTransientState {
            return Step::Wait;
        }
        let stays = error == StateError::TwoPrimaries && job.paused;
        if flags.verbose || job.tries >= TRIES || stays {
            return Step::Done(code);
        }
        let job = RoleJob {
            tries: job.tries.saturating_add(1),
            ..job
        };
        self.role_refused(job, error)
    }

    /// The peer has come since force was needed, or a fenced peer: the disk is what the comparison
    /// has made of it, and a generation that begins beside the peer's good disk would be a split
    /// brain when that is promoted alone. (The C driver begins it.) What is being asked stays.
    fn needs_no_force_any_more(&self, job: &RoleJob) -> bool {
        let state = self.state(job.volume);
        let good = state.conn >= ConnState::Connected && state.may_write();
        job.extra.mask != 0 && good && self.s.two_phase.is_none()
    }

    /// The connected peer has stepped back, and writes that its applications may be done with
    /// (protocol A or B) are not on this disk yet.
    fn former_primary_writes(&self, v: VolumeIndex) -> bool {
        let volume = self.vol(v);
        volume.state.peer == Role::Secondary && volume.facts.peer_writes != 0
    }

    fn role_refused(&mut self, job: RoleJob, error: StateError) -> Step<RoleJob> {
        let disk = self.vol(job.volume).state.disk;
        let fenceable = !job.extra.names(mask::PDSK);
        match error {
            StateError::FailedByPeer if job.extra.names(mask::PDSK) => {
                let extra = job.extra.without(mask::PDSK);
                RoleJob { extra, ..job }.at(RoleStep::Ask)
            }
            StateError::NoUpToDateDisk
                if job.force && disk >= DiskState::Inconsistent && disk < DiskState::UpToDate =>
            {
                let extra = job.extra.and(Change::disk(DiskState::UpToDate));
                RoleJob {
                    extra,
                    forced: true,
                    ..job
                }
                .at(RoleStep::Ask)
            }
            StateError::NoUpToDateDisk if disk == DiskState::Consistent && fenceable => {
                self.begin_fencing();
                job.at(RoleStep::Fencing(error))
            }
            StateError::PrimaryNop if fenceable => {
                self.begin_fencing();
                job.at(RoleStep::Fencing(error))
            }
            StateError::TwoPrimaries => {
                let tenths = self.s.net.map_or(5, |net| net.ping_timeout_tenths);
                let pause = Duration::from_tenths(tenths.saturating_add(1));
                job.at(RoleStep::Pause(self.now.after(pause)))
            }
            _ => job.at(RoleStep::AskVerbose),
        }
    }

    fn after_fencing(&mut self, job: RoleJob, error: StateError, fenced: bool) -> Step<RoleJob> {
        let mut job = job;
        if error == StateError::NoUpToDateDisk {
            if fenced {
                job.extra = job.extra.and(Change::disk(DiskState::UpToDate));
            }
        } else if !fenced && job.force {
            let text = "Forced into split brain situation!";
            self.text(job.volume, Level::Warning, text);
            job.extra = job.extra.and(Change::pdsk(DiskState::Outdated));
        }
        job.at(RoleStep::Ask)
    }

    /// Step 5 and 6: generations, and what the peer is told.
    fn role_changed(&mut self, job: &RoleJob) {
        let v = job.volume;
        let primary = job.role == Role::Primary;
        if primary {
            if let Some(net) = self.s.net.as_mut() {
                net.discard_my_data = false;
            }
            let state = self.vol(v).state;
            // The loss of the peer may have begun one already: a second one would push the base of
            // the bitmap into the history, and the peer would get all blocks (seed 760964).
            let begun = |disk: Disk| disk.alone && disk.uuids.bitmap != 0;
            if job.forced {
                // As a branch, so that the bitmap still has its base.
                let left = self.vol(v).disk.is_some_and(begun) || self.leave_generation(v);
                if !left {
                    self.new_current_uuid(v);
                }
            } else if state.conn < ConnState::Connected || state.pdsk <= DiskState::Failed {
                self.leave_generation(v);
            }
            let shown = self.vol(v).peer.uuids.filter(|_| {
                state.disk < DiskState::Inconsistent && state.pdsk == DiskState::UpToDate
            });
            if let Some(uuids) = shown {
                // What applications see now is on the peer's disk only.
                let volume = self.vol_mut(v);
                volume.exposed_uuid = uuids.current;
                volume.promoted_diskless = true;
            }
        } else {
            self.vol_mut(v).promoted_diskless = false;
            // It was put off for what is frozen, which nobody waits for any more.
            self.begin_due_generation(v);
        }
        self.mark_primary(v, primary);
        self.dirty(v);
        if self.vol(v).state.conn >= ConnState::WfReportParams {
            if job.forced {
                self.send_uuids(v, 0);
            }
            self.send_state(v);
        }
    }
}
