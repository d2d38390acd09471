//! Consequences of a committed change: at once (`reference/states.md` 3.8) and afterwards (3.9).

use drbd_format::types::{ConnState, DiskState, Fencing, OnIoError, Protocol, Role};

use super::engine::{Flags, Work};
use super::jobs::{Detach, Then, VolumeJob};
use super::{Control, Heard};
use crate::action::{Action, Handler};
use crate::generation::Uuids;
use crate::link::{Order, Side, VolumeIndex};
use crate::log::{Level, Line};
use crate::quirk::{quirk, Quirk};
use crate::state::follow_up::{follow_up, Context, FollowUp};
use crate::state::{mask, Change, VolumeState};

fn syncing(s: VolumeState) -> bool {
    s.conn >= ConnState::SyncSource && s.conn <= ConnState::PausedSyncT
}

pub(super) fn verifying(s: VolumeState) -> bool {
    matches!(s.conn, ConnState::VerifyS | ConnState::VerifyT)
}

impl Control<'_> {
    /// What happens together with the change itself.
    pub(crate) fn immediately(&mut self, v: VolumeIndex, o: VolumeState, n: VolumeState) {
        if o.replicates() != n.replicates() {
            self.order(Order::NewEpoch);
        }
        if o.disk == DiskState::Attaching && n.disk >= DiskState::Negotiating {
            self.log_uuids(v, "attached to UUIDs");
        }
        if o.conn == ConnState::WfReportParams
            && n.conn != ConnState::WfReportParams
            && !self
                .indices()
                .any(|i| self.vol(i).state.conn == ConnState::WfReportParams)
        {
            self.s.link.state_sent = false;
        }
        if o.conn >= ConnState::Connected && n.conn == ConnState::WfReportParams {
            // One of the nodes has taken it away.
            self.vol_mut(v).heard = Heard::NotThere;
        }
        let begins = !syncing(o) && syncing(n) && !verifying(n);
        if begins || matches!(n.conn, ConnState::WfBitMapS | ConnState::WfBitMapT) {
            // The bitmaps name the new space; nothing is left to be synced after that.
            self.vol_mut(v).grown = false;
        }
        let exchanges = matches!(o.conn, ConnState::WfBitMapS | ConnState::WfBitMapT);
        if exchanges && o.conn != n.conn {
            self.keep_bitmap(v);
        }
        self.forget_answer(v, n);
        self.vol_mut(v).lacks_writes &= n.conn >= ConnState::Connected;
        self.vol_mut(v).peer_refused &= n.conn >= ConnState::Connected;
        self.resync_edges(v, o, n);
        if o.conn > ConnState::Connected && n.conn == ConnState::Connected {
            self.forget_consent(v);
        }
        let connects = o.conn < ConnState::Connected && n.conn >= ConnState::Connected;
        if connects || n.disk < DiskState::Inconsistent {
            // What is known is of the connection or the disk before.
            self.vol_mut(v).facts.took_writes = false;
        }
        if n.disk >= DiskState::Inconsistent {
            self.update_flags(v, n);
        }
        if o.pdsk != n.pdsk && n.pdsk <= DiskState::Failed {
            // They were those of the disk that the peer has lost; another one comes with its own.
            self.vol_mut(v).peer.uuids = None;
        }
        self.note_own_disk_used(v, o, n);
        self.note_peer_behind(v, o, n);
        self.note_generation_told(v, o, n);
        if o.conn >= ConnState::Connected && n.conn < ConnState::Connected {
            self.diskless_peer_went(v);
        }
        if o.disk == DiskState::Inconsistent
            && o.pdsk == DiskState::Inconsistent
            && o.peer == Role::Secondary
            && n.peer == Role::Primary
        {
            self.vol_mut(v).consider_resync = true;
        }
        if o.conn < ConnState::Connected && n.conn >= ConnState::Connected {
            self.order(Order::View(v));
            self.order(Order::ResumeAl(v));
        }
        if o.disk == DiskState::Negotiating && n.disk == DiskState::Diskless {
            // The connection was lost before it was clear what the data is worth.
            self.order(Order::View(v));
            self.order(Order::DiskDetached(v));
            self.act(Action::CloseDisk { volume: v });
            self.begin_job(v, VolumeJob::Detach(Detach::Close));
        }
    }

    /// A resync that was about to begin does not: another comparison may ask for the next one.
    pub(super) fn forget_consent(&mut self, v: VolumeIndex) {
        let volume = self.vol_mut(v);
        if matches!(volume.job, VolumeJob::StartSync(..)) {
            volume.job = VolumeJob::None;
            self.order(Order::View(v));
        }
    }

    /// The data in use are those of the own disk from now on.
    fn note_own_disk_used(&mut self, v: VolumeIndex, o: VolumeState, n: VolumeState) {
        let used = o.disk < DiskState::Consistent && n.disk >= DiskState::Consistent;
        let volume = self.vol_mut(v);
        if let Some(disk) = volume.disk.filter(|_| used) {
            volume.exposed_uuid = disk.uuids.current;
            volume.promoted_diskless = false;
        }
    }

    /// A Primary loses its disk. What its bitmap marks for the peer nobody has any more, and the
    /// peer need not know: it may not have been told of the resync that was to bring it.
    fn note_peer_behind(&mut self, v: VolumeIndex, o: VolumeState, n: VolumeState) {
        let lost = o.disk >= DiskState::Inconsistent && n.disk < DiskState::Inconsistent;
        let volume = self.vol_mut(v);
        if n.role != Role::Primary || n.disk >= DiskState::Inconsistent {
            volume.peer_behind = false;
        } else if lost && n.pdsk != DiskState::UpToDate {
            // Before a resync has a bitmap UUID nothing is mirrored either.
            let marks = volume.disk.is_some_and(|disk| disk.uuids.bitmap != 0);
            volume.peer_behind |= marks || o.conn > ConnState::Connected;
        }
    }

    /// A Primary loses its disk, and goes on with the peer's. Word of the generation that the peer
    /// has begun for that may have come before its consent, which takes the other socket.
    fn note_generation_told(&mut self, v: VolumeIndex, o: VolumeState, n: VolumeState) {
        let lost = o.disk >= DiskState::Inconsistent && n.disk < DiskState::Inconsistent;
        let through_peer = n.conn >= ConnState::Connected && n.pdsk == DiskState::UpToDate;
        let goes_on = lost && through_peer && n.role == Role::Primary;
        let volume = self.vol_mut(v);
        let exposed = volume.exposed_uuid & !1;
        let begun = |told: &Uuids| exposed != 0 && told.bitmap & !1 == exposed;
        if let Some(told) = volume.peer.uuids.filter(|told| goes_on && begun(told)) {
            self.expose(v, told.current);
        }
    }

    /// The data in use are of another generation, which the peer has begun for us.
    pub(super) fn expose(&mut self, v: VolumeIndex, uuid: u64) {
        self.vol_mut(v).exposed_uuid = uuid;
        let text = "effective data uuid: ";
        self.log(v, Line::Uuid { text, uuid });
    }

    /// A Primary without a disk that has taken the data of this disk is going to write.
    pub(crate) fn begin_generation_if_taken(&mut self, v: VolumeIndex) {
        let volume = self.vol_mut(v);
        let taken = volume.taken || (volume.uuid_due_if_taken && quirk(Quirk::GenerationForNobody));
        if !taken || !core::mem::take(&mut volume.uuid_due_if_taken) {
            return;
        }
        // It may have stepped down meanwhile, and never have written.
        let writes = volume.state.peer == Role::Primary || volume.facts.took_writes;
        if writes && volume.state.disk == DiskState::UpToDate && self.leave_generation(v) {
            self.tell_uuids(v);
        }
    }

    /// It is gone before it said that it takes the data: if it did, it may have written.
    fn diskless_peer_went(&mut self, v: VolumeIndex) {
        let volume = self.vol_mut(v);
        volume.uuid_due_if_taken &= volume.facts.took_writes;
        volume.taken = true;
        self.begin_generation_if_taken(v);
        self.vol_mut(v).taken = false;
    }

    /// Begin, pause, continuation and end of a resync or verify.
    fn resync_edges(&mut self, v: VolumeIndex, o: VolumeState, n: VolumeState) {
        let now = self.now;
        let paused =
            |s: VolumeState| matches!(s.conn, ConnState::PausedSyncS | ConnState::PausedSyncT);
        let running =
            |s: VolumeState| matches!(s.conn, ConnState::SyncSource | ConnState::SyncTarget);
        if paused(o) && running(n) {
            self.text(v, Level::Info, "Syncer continues.");
            let run = &mut self.vol_mut(v).run;
            if let Some(since) = run.paused_at.take() {
                run.paused_nanos = run.paused_nanos.saturating_add(now.since(since).0);
            }
        }
        if running(o) && paused(n) {
            self.text(v, Level::Info, "Resync suspended");
            self.vol_mut(v).run.paused_at = Some(now);
        }
        if n.conn == ConnState::VerifyS && o.conn == ConnState::Connected {
            let (start, stop) = self.vol(v).verify;
            self.begin_run(v, 0);
            self.log(
                v,
                Line::VerifySector {
                    start: true,
                    sector: start,
                },
            );
            self.order(Order::View(v));
            self.order(Order::StartVerify {
                volume: v,
                side: Side::Source,
                start: drbd_format::units::Sector(start),
                stop: drbd_format::units::Sector(stop),
            });
        }
        if n.conn == ConnState::VerifyT && o.conn == ConnState::Connected {
            self.begin_run(v, 0);
            self.order(Order::View(v));
            self.order(Order::StartVerify {
                volume: v,
                side: Side::Target,
                start: drbd_format::units::Sector(0),
                stop: drbd_format::units::Sector(u64::MAX),
            });
        }
        if syncing(o) && !syncing(n) {
            self.order(Order::StopResync(v));
            if verifying(o) && n.conn < ConnState::Connected {
                let sector = self.vol(v).facts.verify_start;
                self.log(
                    v,
                    Line::VerifySector {
                        start: false,
                        sector,
                    },
                );
            }
        }
    }

    /// Logs the generation UUIDs of the disk.
    pub(crate) fn log_uuids(&mut self, v: VolumeIndex, text: &'static str) {
        if let Some(disk) = self.vol(v).disk {
            let uuids = disk.uuids.to_array();
            self.log(v, Line::Uuids { text, uuids });
        }
    }

    /// Carries out what follows from a committed change.
    pub(crate) fn after(&mut self, work: Work) {
        let Work { volume, old, new } = work;
        let Some(v) = volume else {
            self.after_conn(new);
            return;
        };
        if !self.exists(v) {
            return;
        }
        let volume = self.vol(v);
        let context = Context {
            has_disk: volume.disk.is_some(),
            no_bitmap_uuid: volume.disk.is_some_and(|disk| disk.uuids.bitmap == 0),
            may_be_elsewhere: volume.disk.is_some_and(|disk| disk.may_be_elsewhere()),
            grown: volume.grown,
            unsettled: volume.facts.unsettled,
            version: self.version(),
        };
        for item in follow_up(old, new, &context).iter() {
            self.carry_out(v, item, new);
        }
        self.keep_old_space(v, old, new);
        self.answer_behind_verify(v);
        self.unfence_if_good();
    }

    fn carry_out(&mut self, v: VolumeIndex, item: FollowUp, n: VolumeState) {
        match item {
            FollowUp::ForgetCrash => {
                let volume = self.vol_mut(v);
                volume.crashed_primary = false;
                volume.peer.flags &= !crate::generation::FLAG_CRASHED_PRIMARY;
                self.update_flags(v, self.state(v));
                self.order(Order::View(v));
            }
            FollowUp::PrimaryDegraded => {
                self.helper(Handler::PriOnInconDegr, Some(v), false);
            }
            FollowUp::RestartOnDisk => self.order(Order::RestartWrites(v)),
            FollowUp::SendSyncUuid => self.begin_source_uuid(v),
            FollowUp::PeerGotDisk => {
                self.send_uuids(v, 0);
                self.send_state(v);
            }
            FollowUp::SendBitmap => {
                if self.vol(v).state.conn == ConnState::WfBitMapS {
                    self.send_bitmap(v);
                }
            }
            FollowUp::PeerDataLost => {
                // What is frozen here is not written. The writes of a diskless Primary come in
                // nevertheless: only this disk has them. Writes that have ended nobody can send
                // again, and the peer may lack them: in protocol A, or as it loses power. A disk
                // with fencing tells the latter. It does lack those that it has refused.
                let promises = self.s.net.is_some_and(|net| net.protocol == Protocol::A);
                let facts = self.vol(v).facts;
                let tells = n.susp_fen && self.fencing(v) != Fencing::DontCare;
                let unsettled = (promises || !tells) && facts.ended_unsettled;
                let lacks = unsettled || facts.peer_missed;
                if self.suspended() && n.role == Role::Primary && !lacks {
                    self.vol_mut(v).new_uuid_due = true;
                    // It is settled with what is kept.
                    self.s.resend_due |= n.conn < ConnState::Connected;
                } else {
                    self.leave_generation(v);
                    self.tell_uuids(v);
                }
            }
            FollowUp::LaggingPeerLost | FollowUp::DisklessPeerPromoted => {
                self.leave_generation(v);
                self.tell_uuids(v);
            }
            FollowUp::DisklessPeerCame => {
                self.vol_mut(v).uuid_due_if_taken = true;
                self.begin_generation_if_taken(v);
            }
            FollowUp::WriteBitmap => self.write_bitmap_soon(v),
            FollowUp::Negotiate => self.negotiate(v),
            FollowUp::SendState => self.tell_state(v),
            FollowUp::StartFullSync => self.start_full_sync(v, n.conn),
            FollowUp::DiskFailed => self.disk_failed(v),
            FollowUp::DiskGone => self.tell_state(v),
            FollowUp::SyncGrown => self.sync_grown_early(v),
        }
    }

    /// The disk is to be compared with the peer's, which is told of everything. A generation that
    /// was put off begins before: both have to compare the same.
    fn negotiate(&mut self, v: VolumeIndex) {
        self.leave_due_generation(v);
        self.send_sizes(v, false, 0);
        self.send_uuids(v, 0);
        self.send_state(v);
    }

    /// Tells the peer our state if it listens.
    pub(crate) fn tell_state(&mut self, v: VolumeIndex) {
        if self.vol(v).state.conn >= ConnState::WfReportParams
            && self.s.conn == ConnState::WfReportParams
        {
            self.send_state(v);
        }
    }

    /// Tells the peer our UUIDs if it listens.
    pub(crate) fn tell_uuids(&mut self, v: VolumeIndex) {
        if self.vol(v).state.conn >= ConnState::Connected {
            self.send_uuids(v, 0);
        }
    }

    /// Runs a helper. Returns the number of the run.
    pub(crate) fn helper(
        &mut self,
        handler: Handler,
        volume: Option<VolumeIndex>,
        wait: bool,
    ) -> u32 {
        let run = self.s.helper_runs.wrapping_add(1);
        self.s.helper_runs = run;
        self.act(Action::RunHelper {
            handler,
            volume,
            wait,
            run,
        });
        run
    }

    /// A20: all bits are set and written, then the sync begins.
    fn start_full_sync(&mut self, v: VolumeIndex, conn: ConnState) {
        self.text(v, Level::Info, "Starting full resync");
        let side = match conn {
            ConnState::StartingSyncT => Side::Target,
            _ => Side::Source,
        };
        self.begin_job(v, VolumeJob::set_all(Then::StartSync(side)));
    }

    /// A21: the disk goes: everything that waits for it is told, then it is closed
    /// (`jobs.rs`).
    fn disk_failed(&mut self, v: VolumeIndex) {
        let volume = *self.vol(v);
        let policy = volume
            .disk
            .map_or(OnIoError::Detach, |disk| disk.config.on_io_error);
        if volume.forced_detach {
            self.order(Order::AbortLocal(v));
        }
        // Before a helper that may end this node: what is written through the peer from now on
        // belongs to a generation that this disk does not have.
        self.tell_state(v);
        if volume.io_error && policy == OnIoError::CallLocalIoError {
            self.begin_job(v, VolumeJob::Detach(Detach::Helper));
            let run = self.helper(Handler::LocalIoError, Some(v), true);
            let volume = self.vol_mut(v);
            volume.helper = None;
            volume.helper_run = run;
            return;
        }
        self.begin_job(v, VolumeJob::detach());
    }

    /// Consequences of a change of the connection itself (`reference/states.md` 3.7).
    fn after_conn(&mut self, new: VolumeState) {
        let fenced = self
            .indices()
            .all(|v| self.vol(v).state.pdsk <= DiskState::Outdated);
        if self.s.susp_fen && fenced && self.indices().next().is_some() {
            self.end_fencing();
        }
        self.conn_entered(new.conn);
    }

    /// Fencing has succeeded: go on without the peer.
    pub(crate) fn end_fencing(&mut self) {
        self.begin_due_generations();
        self.end_frozen();
        self.set_conn_state(Change::flag(mask::SUSP_FEN, false), Flags::VERBOSE);
    }

    pub(super) fn begin_due_generations(&mut self) {
        for v in self.indices() {
            self.begin_due_generation(v);
        }
    }

    /// A new generation that was put off as I/O was suspended begins now.
    pub(crate) fn begin_due_generation(&mut self, v: VolumeIndex) {
        if self.leave_due_generation(v) {
            self.tell_uuids(v);
        }
    }

    /// As [`Self::begin_due_generation`], without telling the peer. Returns whether one was due.
    pub(crate) fn leave_due_generation(&mut self, v: VolumeIndex) -> bool {
        let due = core::mem::take(&mut self.vol_mut(v).new_uuid_due);
        if due {
            self.leave_generation(v);
        }
        due
    }
}
