//! The ways into the control plane: inputs of the shell, upcalls of the data plane, time.

use super::jobs::VolumeJob;
use super::metadata::FormerPrimary;
use super::{Control, Progress, ACTIONS_MIN};
use crate::action::{Action, Ticket};
use crate::handshake::Stage;
use crate::input::Input;
use crate::link::{Facts, LinkError, LocalError, Order, Upcall, VolumeIndex};
use crate::log::{Level, Line};
use crate::state::Change;
use crate::time::{earliest, Instant};
use drbd_format::types::{ConnState, DiskState, OnCongestion};
use drbd_format::wire::command::{FrameError, Stream};
use drbd_format::wire::packet::StreamError;

/// Rounds after which the control plane stops to look for more to do; never reached unless two
/// jobs keep waking each other.
const ROUNDS_MAX: usize = 1000;

impl Control<'_> {
    /// Something has happened, or a command has come in.
    pub fn handle(&mut self, input: &Input<'_>) {
        match *input {
            Input::Admin(request, ticket) => self.admin(request, ticket),
            Input::Cancel(ticket) => self.cancel(ticket),
            Input::ConnectFailed => self.connect_failed(),
            Input::HelperDone {
                handler,
                volume,
                run,
                exit,
            } => match volume.filter(|&v| self.exists(v)) {
                Some(v) if self.vol(v).helper_run == run => self.vol_mut(v).helper = Some(exit),
                Some(_) => {}
                None if handler.concerns_resource() => self.fenced(run, exit),
                None => {}
            },
            Input::HmacReady { job, digest } => self.hmac_ready(job, digest),
            Input::LinkLost(error) => self.link_lost(error),
            Input::ReceiverGone => self.receiver_gone(),
            Input::SendTimeout => self.send_timed_out(),
            Input::SocketsUp { resolver, random } => self.sockets_up(resolver, random),
            Input::BitmapRead { volume, .. }
            | Input::BitmapWritten { volume, .. }
            | Input::Closed { volume }
            | Input::DiskClosed { volume }
            | Input::MetadataTimedOut { volume }
            | Input::MetadataWritten { volume, .. }
            | Input::Opened { volume }
            | Input::SyncDependency { volume, .. } => {
                if self.exists(volume) {
                    self.handle_volume(volume, input);
                }
            }
        }
        self.finish();
    }

    fn handle_volume(&mut self, v: VolumeIndex, input: &Input<'_>) {
        match *input {
            Input::BitmapRead { ok, .. } | Input::BitmapWritten { ok, .. } => {
                let volume = self.vol_mut(v);
                volume.bitmap_io = Progress::Done(ok);
                if core::mem::take(&mut volume.bitmap_again) {
                    self.write_bitmap_soon(v);
                } else if ok {
                    self.former_primary_ends(v);
                }
                if !ok {
                    let text = "we had at least one MD IO ERROR during bitmap IO";
                    self.text(v, Level::Error, text);
                }
            }
            Input::Closed { .. } => {
                let volume = self.vol_mut(v);
                volume.opened = volume.opened.saturating_sub(1);
            }
            Input::DiskClosed { .. } => self.disk_closed(v),
            Input::MetadataTimedOut { .. } => self.local_io_failed(v, LocalError::Timeout),
            Input::MetadataWritten { ok, .. } => self.metadata_written(v, ok),
            Input::Opened { .. } => {
                let volume = self.vol_mut(v);
                volume.opened = volume.opened.saturating_add(1);
            }
            Input::SyncDependency { busy, .. } => {
                let change = Change::flag(crate::state::mask::AFTR_ISP, busy);
                self.set_state(v, change, super::engine::Flags::HARD);
            }
            _ => {}
        }
    }

    /// The data plane reports something.
    pub fn upcall(&mut self, upcall: Upcall) {
        match upcall {
            Upcall::LocalIoFailed { volume, error } => self.local_io_failed(volume, error),
            Upcall::PeerIoDrained => self.peer_io_drained(),
            Upcall::Idle(_) => {}
            Upcall::BitmapSent(v) => self.bitmap_sent(v),
            Upcall::BitmapReceived(v) => self.bitmap_received(v),
            Upcall::ResyncDone {
                volume,
                failed_bits,
            } => {
                self.run_done(volume, false, failed_bits);
            }
            Upcall::VerifyDone {
                volume,
                out_of_sync_bits,
            } => {
                self.run_done(volume, true, out_of_sync_bits);
            }
            Upcall::BitmapWriteDue(v) => self.write_bitmap_soon(v),
            Upcall::LinkFailed(error) => self.link_failed(error),
            Upcall::Congested(v) => self.congested(v),
            Upcall::Uncongested(v) => {
                let free = matches!(self.vol(v).job, VolumeJob::None | VolumeJob::Finish { .. });
                if self.vol(v).state.conn == ConnState::Ahead && free {
                    self.start_resync(v, crate::link::Side::Source);
                }
            }
            Upcall::PingWanted => self.s.liveness.nudge(),
            // The disk is marked for it below.
            Upcall::TookWrites(_) => {}
        }
        self.finish();
    }

    fn congested(&mut self, v: VolumeIndex) {
        let policy = self
            .s
            .net
            .map_or(OnCongestion::Block, |net| net.on_congestion);
        let quiet = super::engine::Flags::QUIET;
        let state = self.vol(v).state;
        if state.disk != DiskState::UpToDate || !state.replicates() {
            return;
        }
        match policy {
            OnCongestion::Block => {}
            // While disks are compared the peer needs the bitmap, or the answers to its questions.
            OnCongestion::PullAhead if !runs_ahead_from(state.conn) => {}
            // In Ahead the peer would not hear of the size (seed 527190).
            OnCongestion::PullAhead if self.is_early_for_size(v) || self.size_is_open(v) => {}
            OnCongestion::PullAhead => {
                self.text(v, Level::Info, "Congestion-fill threshold reached");
                self.set_state(v, Change::conn(ConnState::Ahead), quiet);
            }
            OnCongestion::Disconnect => {
                self.set_conn_state(Change::conn(ConnState::Disconnecting), quiet);
            }
        }
    }

    /// Time has passed.
    pub fn on_timer(&mut self) {
        self.check_liveness();
        self.finish();
    }

    /// When [`Self::on_timer`] has to be called at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        earliest(self.liveness_deadline(), self.role_deadline())
    }

    /// The numbers of the data plane as they are now; to be called before every other entry.
    pub fn take_facts(&mut self, v: VolumeIndex, facts: Facts) {
        if let Some(volume) = self.volumes.get_mut(v.slot()) {
            volume.facts = facts;
        }
    }

    /// Goes on with everything that can go on. Ends every entry.
    pub(crate) fn finish(&mut self) {
        loop {
            self.go_on();
            self.flush_metadata();
            self.send_reply_due();
            self.flush_outbox();
            if !self.thaw() {
                break;
            }
        }
        self.s.waiting = self.s.job.is_some()
            || self.s.link.stage == Stage::Closing
            || self.volumes.iter().any(|volume| {
                volume.job != VolumeJob::None
                    || volume.al_resuming
                    || volume.former_primary == FormerPrimary::Draining
            });
    }

    /// Works out all consequences.
    fn go_on(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.check_overflow();
            if let Some(work) = self.take_work() {
                self.after(work);
                continue;
            }
            let mut active = self.step_cleanup();
            for v in self.indices() {
                active |= self.step_volume(v) | self.step_role_due(v) | self.step_al_resuming(v);
                active |= self.step_former_primary(v) | self.step_served(v);
            }
            active |= self.step_admin() | self.conclude_abandoned() | self.step_resume_due();
            if !active {
                break;
            }
        }
    }

    /// Something that should have been done is lost: the shell was too slow, or one event had too
    /// many consequences. The peer must not go on as if nothing had happened.
    fn check_overflow(&mut self) {
        if core::mem::take(&mut self.s.overflow) {
            let text = "An internal queue was full, dropping the connection.";
            self.text_resource(Level::Alert, text);
            self.link_failed(LinkError::NetworkFailure);
            // What this leads to may not fit either.
            self.s.overflow = false;
        }
    }

    /// Looks again at the jobs that wait.
    pub fn look_again(&mut self) {
        self.finish();
    }

    /// Tells whether a job waits for something.
    pub fn is_waiting(&self) -> bool {
        self.s.waiting
    }

    /// Returns the places of all volumes.
    pub fn volume_indices(&self) -> impl Iterator<Item = VolumeIndex> {
        self.indices()
    }

    /// The peer has not yet said who it is. A response that is not one may have been interrupted.
    fn is_early(&self) -> bool {
        matches!(self.s.link.stage, Stage::Features | Stage::Challenge)
    }

    /// What arrived on a socket can not be read on. Returns how the connection ends.
    pub fn broken_stream(&mut self, error: &StreamError, stream: Stream) -> LinkError {
        self.log_resource(Line::BrokenStream(*error));
        let error = match (stream, error) {
            // Another packet than the one that is due, or of another length (`reference/wire.md`
            // 4.1, 4.2).
            (Stream::Data, StreamError::Frame(_) | StreamError::Packet(_)) if self.is_early() => {
                LinkError::StandAlone
            }
            (
                Stream::Meta,
                StreamError::Frame(FrameError::UnknownCommand(_) | FrameError::WrongStream(..)),
            ) => LinkError::StandAlone,
            (Stream::Meta, _) => LinkError::NetworkFailure,
            (Stream::Data | Stream::Initial, _) => LinkError::ProtocolError,
        };
        self.link_failed(error);
        self.finish();
        error
    }

    /// Takes the next order for the data plane.
    pub fn pop_order(&mut self) -> Option<Order> {
        self.orders.pop()
    }

    /// Tells whether an order waits.
    pub fn has_orders(&self) -> bool {
        !self.orders.is_empty()
    }

    /// Takes the next action for the shell.
    pub fn pop_action(&mut self) -> Option<Action> {
        self.actions.pop()
    }

    /// The answer to a command, while it waits to be taken with [`Self::pop_action`].
    pub fn answer_to(&self, ticket: Ticket) -> Option<i32> {
        self.actions.iter().find_map(|action| match action {
            Action::AdminDone {
                ticket: of, code, ..
            } if of == ticket => Some(code),
            _ => None,
        })
    }

    /// So many actions wait that no packet may add to them: the control worker is slow, and what
    /// the end of the connection leads to has to find room.
    pub fn is_crowded(&self) -> bool {
        self.actions.room() < ACTIONS_MIN / 2
    }

    /// Tells whether an action waits.
    pub fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }
}

/// States whose way through Ahead leads back to a resync of everything that is marked: both know
/// their marks.
fn runs_ahead_from(conn: ConnState) -> bool {
    use ConnState::{Connected, PausedSyncS, SyncSource};
    matches!(conn, Connected | SyncSource | PausedSyncS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ResourceConfig;
    use crate::control::{ControlState, Lent, Volume, ORDERS_MIN, OUTBOX_MIN};
    use std::vec;

    /// Acks of another volume say so once more while the helper runs.
    #[test]
    fn a_volume_begins_to_catch_up_once() {
        let v = VolumeIndex(0);
        let mut state = ControlState::new([1, 2], ResourceConfig::DEFAULT);
        let mut volume = Volume::EMPTY;
        volume.present = true;
        volume.state.conn = ConnState::Ahead;
        let lent = Lent {
            volumes: &mut [volume],
            actions: &mut vec![None; ACTIONS_MIN],
            orders: &mut vec![None; ORDERS_MIN],
            outbox: &mut vec![None; OUTBOX_MIN],
        };
        let mut control = Control::new(&mut state, lent, Instant(0));
        for begins in [1, 0] {
            control.upcall(Upcall::Uncongested(v));
            let helpers = core::iter::from_fn(|| control.pop_action())
                .filter(|action| matches!(action, Action::RunHelper { .. }));
            assert_eq!(helpers.count(), begins);
        }
    }
}
