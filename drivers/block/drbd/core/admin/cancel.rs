//! Commands that are given up: their caller has gone, or a forced disconnect takes their place.
//!
//! What has been done stays done; what was only prepared is undone, so that nothing waits for good.

use drbd_format::types::DiskState;

use super::volume::WorkStep;
use super::{code, AdminJob, JobKind, Meaning};
use crate::action::Ticket;
use crate::attach::AttachStep;
use crate::control::engine::{Asker, Flags, TwoPhase, NOTHING_TO_DO, SUCCESS};
use crate::control::Control;
use crate::link::VolumeIndex;
use crate::state::{mask, Change};

impl Control<'_> {
    /// The caller of a command has gone.
    pub(crate) fn cancel(&mut self, ticket: Ticket) {
        if self.s.job.is_some_and(|job| job.ticket == ticket) {
            self.abandon();
        }
    }

    /// Ends the command in progress.
    pub(crate) fn abandon(&mut self) {
        let Some(AdminJob { ticket, kind }) = self.s.job.take() else {
            return;
        };
        match kind {
            JobKind::Attach(v, step, ..) => self.abandon_attach(v, step),
            JobKind::Change(v, _, Meaning::Blocked)
            | JobKind::Work(v, WorkStep::Invalidate { .. } | WorkStep::SetAll { .. }) => {
                self.watch_all(false);
                self.block(v, false);
            }
            JobKind::Work(v, WorkStep::Resize { flags, grown }) => {
                self.announce_size(v, flags, grown);
            }
            JobKind::Work(_, WorkStep::Quiesce { code }) => self.abandon_suspension(code),
            JobKind::Role(ref job) => self.abandon_role(job),
            JobKind::Change(..)
            | JobKind::DelVolume(_)
            | JobKind::Detach(..)
            | JobKind::Disconnect(_)
            | JobKind::Settle(..)
            | JobKind::Work(
                _,
                WorkStep::BeginClear { .. }
                | WorkStep::ClearBitmap { .. }
                | WorkStep::Outdate { .. },
            ) => {}
        }
        if let Some(asked) = self.s.two_phase.as_mut() {
            asked.leave(Asker::GaveUp);
        }
        self.conclude_abandoned();
        self.answer(ticket, code::INTR);
    }

    /// Who asked for the suspension does not know of it, and nobody would end it. One that was
    /// there before stays.
    fn abandon_suspension(&mut self, code: i32) {
        self.watch_all(false);
        self.s.resume_due |= code != NOTHING_TO_DO;
        self.step_resume_due();
    }

    /// Ends a suspension that was given up. Not before the end of a handshake, as with resume-io:
    /// the peer would not hear of a generation that begins meanwhile. Returns whether anything was
    /// done.
    pub(crate) fn step_resume_due(&mut self) -> bool {
        if !self.s.resume_due || self.is_meeting_peer() {
            return false;
        }
        self.s.resume_due = false;
        let resumes = !self.s.susp_nod && !self.s.susp_fen;
        let Some(v) = self.indices().next() else {
            self.s.susp = false;
            return true;
        };
        let code = self.set_state(v, Change::flag(mask::SUSP, false), Flags::HARD);
        if resumes && code == SUCCESS {
            self.begin_owed_generations();
            self.after_resume_io();
        }
        true
    }

    /// The disk is given up by force before it belongs to the volume.
    pub(crate) fn abandon_attach_of(&mut self, v: VolumeIndex) {
        let attaches = self
            .s
            .job
            .is_some_and(|job| matches!(job.kind, JobKind::Attach(of, ..) if of == v));
        if attaches {
            self.abandon();
        }
    }

    fn abandon_attach(&mut self, v: VolumeIndex, step: AttachStep) {
        match step {
            AttachStep::Begin => self.refuse_disk(v),
            AttachStep::Drain
            | AttachStep::Layout
            | AttachStep::Bitmap { .. }
            | AttachStep::Count => {
                self.attach_failed(v, code::INTR);
            }
            AttachStep::Metadata | AttachStep::Undo { .. } => {}
        }
    }

    /// The peer has answered what had come to its end here. Where it believes in a change that was
    /// not made, both compare all they know once more.
    fn answered_too_late(&mut self, volume: Option<VolumeIndex>, change: Change, code: i32) {
        let Some(v) = volume.filter(|&v| self.exists(v)) else {
            return;
        };
        if change.names(mask::CONN) {
            self.sync_grown_after_all(v);
        }
        // A disk that has gone meanwhile has been told of.
        let there = self.vol(v).state.disk >= DiskState::Negotiating;
        let shared = change.names(mask::CONN) || (change.names(mask::DISK) && there);
        if code >= SUCCESS && shared && self.is_open(v, change) {
            self.agreed_in_vain(v);
        }
    }

    /// The peer has agreed to a change that nobody waits for any more. It takes effect, so that
    /// both nodes go on believing the same. Returns whether anything was done.
    pub(crate) fn conclude_abandoned(&mut self) -> bool {
        let Some(TwoPhase {
            volume,
            change,
            reply: Some(code),
            asker: asker @ (Asker::GaveUp | Asker::Ended),
        }) = self.s.two_phase
        else {
            return false;
        };
        if asker == Asker::Ended {
            self.s.two_phase = None;
            self.answered_too_late(volume, change, code);
            return true;
        }
        if volume.is_some_and(|v| self.exists(v) && self.waits_for_size(v, change)) {
            return false;
        }
        self.s.two_phase = None;
        match volume {
            Some(v) if !self.exists(v) => {}
            Some(v) if code < SUCCESS => self.sync_grown_after_all(v),
            _ if code < SUCCESS => {}
            None => {
                self.set_conn_state(change, Flags::VERBOSE);
            }
            // A role is more than a state: the peer is told that it was not taken.
            Some(v) if change.names(mask::ROLE) => self.tell_state(v),
            Some(v) => {
                self.make_agreed(v, change, Flags::VERBOSE);
            }
        }
        true
    }
}
