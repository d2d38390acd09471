//! Resync and online verify as seen by the control plane: begin, UUIDs, end
//! (`reference/io.md` 6.1, 6.7; `reference/metadata.md` 5.4), and fencing.

use drbd_format::types::{ConnState, DiskState, Fencing, Role};
use drbd_format::units::SectorCount;

use super::engine::{Flags, SUCCESS};
use super::jobs::{StartSync, VolumeJob};
use super::packets::{Handled, Pending};
use super::{Control, Progress, Run, Volume};
use crate::action::Handler;
use crate::admin::JobKind;
use crate::generation::Uuids;
use crate::handshake::Fence;
use crate::link::{ControlKind, LinkError, Order, Side, Target, VolumeIndex};
use crate::log::{Level, Line};
use crate::put_back::{put_back, Bug};
use crate::state::transition::StateError;
use crate::state::{mask, Change, VolumeState};

impl Control<'_> {
    /// Resets the book-keeping of a run.
    pub(crate) fn begin_run(&mut self, v: VolumeIndex, total_bits: u64) {
        self.vol_mut(v).target_failed = false;
        self.vol_mut(v).run = Run {
            started: self.now,
            paused_at: None,
            paused_nanos: 0,
            total_bits,
        };
    }

    /// Begins a resync in the given direction.
    pub(crate) fn start_resync(&mut self, v: VolumeIndex, side: Side) {
        let conn = self.vol(v).state.conn;
        if conn >= ConnState::SyncSource && conn < ConnState::Ahead {
            self.text(v, Level::Error, "Resync already running!");
            return;
        }
        self.vol_mut(v).helper = None;
        self.begin_job(v, VolumeJob::StartSync(side, StartSync::Begin));
    }

    /// Steps of [`VolumeJob::StartSync`].
    pub(crate) fn step_start_sync(&mut self, v: VolumeIndex, side: Side, step: StartSync) -> bool {
        let handler = match side {
            Side::Source => Handler::BeforeResyncSource,
            Side::Target => Handler::BeforeResyncTarget,
        };
        match step {
            StartSync::Begin => {
                self.vol_mut(v).helper_run = self.helper(handler, Some(v), true);
                self.vol_mut(v).job = VolumeJob::StartSync(side, StartSync::Helper);
                true
            }
            StartSync::Helper => {
                let Some(exit) = self.vol_mut(v).helper.take() else {
                    return false;
                };
                let ignored = side == Side::Source && exit == 3;
                if exit != 0 {
                    let handler = handler.name();
                    self.log(
                        v,
                        Line::HandlerRefused {
                            handler,
                            exit,
                            drop: !ignored,
                        },
                    );
                }
                if exit != 0 && !ignored {
                    self.vol_mut(v).job = VolumeJob::None;
                    self.link_failed(LinkError::StandAlone);
                    return true;
                }
                self.vol_mut(v).job = VolumeJob::StartSync(side, StartSync::Ready);
                true
            }
            // The source forgets a block when we acknowledge it: before that our disk has to mark
            // all that is to come. This superblock makes the bitmap stable that was written.
            StartSync::Ready if side == Side::Target && !self.metadata_stable(v) => false,
            // The peer's bitmap may come first, as an answer to one of an exchange that came to
            // nothing.
            StartSync::Ready if side == Side::Source && self.vol(v).bitmap_due => false,
            StartSync::Ready => self.enter_resync(v, side),
        }
    }

    /// How far a resync to this disk has begun. One that is consistent stays so until the resync
    /// has begun and the superblock says otherwise.
    pub(super) fn target(&self, v: VolumeIndex) -> Target {
        let volume = self.vol(v);
        let good = volume.disk.is_some_and(|disk| disk.is_called_consistent());
        let waits = matches!(volume.state.conn, ConnState::WfSyncUuid | ConnState::Behind);
        match volume.job {
            VolumeJob::StartSync(Side::Target, _) => Target::Begins {
                good: good && waits,
            },
            _ if good && volume.state.is_sync_target() => Target::Good,
            _ => Target::No,
        }
    }

    /// The state changes to SyncSource or SyncTarget.
    fn enter_resync(&mut self, v: VolumeIndex, side: Side) -> bool {
        let change = match side {
            Side::Source => {
                Change::conn(ConnState::SyncSource).and(Change::pdsk(DiskState::Inconsistent))
            }
            Side::Target => {
                Change::conn(ConnState::SyncTarget).and(Change::disk(DiskState::Inconsistent))
            }
        };
        let state = self.vol(v).state;
        let aborted = state.disk <= DiskState::Failed || state.pdsk <= DiskState::Failed;
        // What led to it may have ended while the helper ran, and something else have begun.
        let leads = match side {
            Side::Source => matches!(
                state.conn,
                ConnState::Connected
                    | ConnState::StartingSyncS
                    | ConnState::WfBitMapS
                    | ConnState::Ahead
            ),
            Side::Target => matches!(state.conn, ConnState::WfSyncUuid | ConnState::Behind),
        };
        if aborted || !leads {
            self.vol_mut(v).job = VolumeJob::None;
            self.order(Order::View(v));
            return true;
        }
        let code = self.set_state(v, change, Flags::VERBOSE);
        if code == StateError::InTransientState.code() {
            return false;
        }
        self.vol_mut(v).job = VolumeJob::None;
        if code != SUCCESS {
            self.order(Order::View(v));
            return true;
        }
        let bits = self.vol(v).facts.bits_set;
        self.begin_run(v, bits);
        let conn = self.vol(v).state.conn;
        self.log(v, Line::ResyncBegins { conn, bits });
        self.order(Order::View(v));
        self.order(Order::StartResync(v, side));
        if side == Side::Source && state.conn == ConnState::Connected {
            let old = SectorCount(self.vol(v).resized_from);
            self.order(Order::OnlyNewSpace { volume: v, old });
        }
        true
    }

    /// A8: the source draws a new bitmap UUID and tells the target.
    pub(crate) fn begin_source_uuid(&mut self, v: VolumeIndex) {
        let random = self.random_uuid();
        let volume = self.vol_mut(v);
        let Some(disk) = volume.disk.as_mut() else {
            return;
        };
        let peer = volume.peer.uuids;
        let uuid = if peer.is_some_and(|peer| disk.uuids.begins_once_more(&peer)) {
            disk.uuids.bitmap
        } else {
            disk.uuids.begin_source(random & !1)
        };
        disk.alone = false;
        self.log_uuids(v, "updated sync UUID");
        self.dirty(v);
        self.send(v, ControlKind::SyncUuid(uuid));
    }

    /// P_SYNC_UUID: the resync that we are the target of begins, once our disk marks all that has
    /// to come (`marks`: it has been asked for). The source forgets a block when we acknowledge
    /// it, and then a loss of power may take it out of our disk's cache.
    pub(crate) fn receive_sync_uuid(&mut self, v: VolumeIndex, uuid: u64, marks: bool) -> Handled {
        let state = self.state(v);
        if state.conn < ConnState::Connected {
            return Handled::Fail(LinkError::ProtocolError);
        }
        if !matches!(state.conn, ConnState::WfSyncUuid | ConnState::Behind) {
            if has_no_use_for_sync_uuid(self.vol(v)) {
                return Handled::Done;
            }
            if is_in_another_run(&state) {
                let text = "The peer begins a resync during another run; connecting anew.";
                self.text(v, Level::Warning, text);
                return Handled::Fail(LinkError::ProtocolError);
            }
            self.s.link.pending = Some(Pending::SyncUuid {
                volume: v,
                uuid,
                marks,
            });
            return Handled::Wait;
        }
        // The size that is being written is told before the resync begins.
        let resized = self.is_relaid(v);
        if !marks && !resized {
            self.write_bitmap_soon(v);
        }
        if resized || self.vol(v).bitmap_io == Progress::Running {
            self.s.link.pending = Some(Pending::SyncUuid {
                volume: v,
                uuid,
                marks: marks || !resized,
            });
            return Handled::Wait;
        }
        let primary = state.role == Role::Primary;
        let volume = self.vol_mut(v);
        volume.source = volume.peer.uuids;
        if let Some(disk) = volume.disk.as_mut() {
            disk.uuids.begin_target(uuid, primary);
            self.log_uuids(v, "updated sync uuid");
            self.dirty(v);
            self.start_resync(v, Side::Target);
        }
        Handled::Done
    }

    /// The whole bitmap has been handed to the socket.
    pub(crate) fn bitmap_sent(&mut self, v: VolumeIndex) {
        self.vol_mut(v).bitmap_due = false;
        if self.vol(v).state.conn == ConnState::WfBitMapT {
            self.set_state(v, Change::conn(ConnState::WfSyncUuid), Flags::HARD);
        }
    }

    /// The peer's bitmap has arrived.
    pub(crate) fn bitmap_received(&mut self, v: VolumeIndex) {
        match self.vol(v).state.conn {
            ConnState::WfBitMapT => self.send_bitmap(v),
            ConnState::WfBitMapS
                if self.s.job.is_some() && put_back(Bug::PromotionDuringHandshake) => {}
            ConnState::WfBitMapS => self.start_resync(v, Side::Source),
            _ => {}
        }
    }

    /// The data plane has nothing left to sync or to verify: wait for what is still on its way.
    pub(crate) fn run_done(&mut self, v: VolumeIndex, verify: bool, count: u64) {
        let conn = self.vol(v).state.conn;
        let verifying = matches!(conn, ConnState::VerifyS | ConnState::VerifyT);
        let running = conn >= ConnState::SyncSource && conn <= ConnState::PausedSyncT;
        if !running || verifying != verify || matches!(self.vol(v).job, VolumeJob::Finish { .. }) {
            return;
        }
        if self.is_relaid(v) {
            self.vol_mut(v).run_over = Some((verify, count));
            return;
        }
        let ping = self.s.liveness.ping();
        self.begin_job(
            v,
            VolumeJob::Finish {
                verify,
                count,
                ping,
            },
        );
    }

    /// Logs how long it took.
    fn log_run(&mut self, v: VolumeIndex, verify: bool) {
        let run = self.vol(v).run;
        let total_secs = self.now.since(run.started).as_secs();
        let paused_secs = run.paused_nanos / 1_000_000_000;
        let least = u64::from(!put_back(Bug::DivideByZeroInterval));
        let active = total_secs.saturating_sub(paused_secs).max(least);
        let facts = self.vol(v).facts;
        let resynced = run.total_bits.saturating_sub(facts.bits_set);
        let done = if verify {
            facts.verified_bits
        } else {
            resynced
        };
        let kib_per_sec = done.saturating_mul(4) / active;
        self.log(
            v,
            Line::ResyncDone {
                verify,
                total_secs,
                paused_secs,
                kib_per_sec,
            },
        );
    }

    /// Logs how much need not be sent, if checksums were compared.
    fn log_checksums(&mut self, v: VolumeIndex) {
        let total = self.vol(v).run.total_bits;
        if let Some(equal) = self.vol(v).facts.equal_bits.filter(|_| total != 0) {
            self.log(v, Line::EqualChecksums { equal, total });
        }
    }

    /// Nothing of the run is on its way any more. A target makes up for what has failed meanwhile,
    /// such as a write on a disk that stays; a source has all acks now, and waits for that if it
    /// has counted alone.
    pub(crate) fn end_or_go_on(&mut self, v: VolumeIndex, failed: u64) {
        let (bits_set, counted) = {
            let facts = &self.vol(v).facts;
            (facts.bits_set, facts.ends_on_count)
        };
        if (self.vol(v).state.is_sync_target() || counted) && bits_set > failed {
            self.order(Order::GoOnSyncing(v));
        } else {
            self.finish_resync(v, failed.min(bits_set));
        }
    }

    /// The target says that the run is over, and what its disk is worth: it may have failed since.
    pub(crate) fn target_ended(&mut self, v: VolumeIndex, disk: DiskState) {
        let failed = disk == DiskState::Inconsistent;
        self.vol_mut(v).target_failed = failed;
        self.order(Order::CheckResyncDone { volume: v, failed });
    }

    /// Ends a resync (`reference/io.md` 6.7, steps 3 to 8).
    pub(crate) fn finish_resync(&mut self, v: VolumeIndex, failed: u64) {
        let state = self.state(v);
        let source = state.is_sync_source();
        if !source && !state.is_sync_target() {
            return;
        }
        self.log_run(v, false);
        self.log_checksums(v);
        let good = DiskState::UpToDate;
        let lost = source && core::mem::take(&mut self.vol_mut(v).target_failed);
        let other = if failed == 0 && !lost {
            good
        } else {
            DiskState::Inconsistent
        };
        let (disk, pdsk) = if source { (good, other) } else { (other, good) };
        // A write of the target's applications that failed on its disk clears the bit here only:
        // what was sent for the block then has failed all the same (`reference/io.md` 6.7, step 4).
        let unmarked = lost && self.vol(v).facts.refused_unmarked;
        if failed != 0 {
            self.log(v, Line::FailedBlocks { count: failed });
        } else if !unmarked {
            self.rotate_after_resync(v, source, state.role == Role::Primary);
        }
        let change = Change::conn(ConnState::Connected)
            .and(Change::disk(disk))
            .and(Change::pdsk(pdsk));
        self.set_state(v, change, Flags::HARD);
        self.dirty(v);
        if state.is_sync_target() {
            self.helper(Handler::AfterResyncTarget, Some(v), false);
        }
        let fencing = self
            .vol(v)
            .disk
            .is_some_and(|disk| disk.config.fencing != Fencing::DontCare);
        if source && fencing && self.is_good_everywhere() {
            self.unfence();
        }
    }

    /// All data are good on both nodes.
    fn is_good_everywhere(&self) -> bool {
        self.indices().all(|i| {
            let state = self.vol(i).state;
            state.disk == DiskState::UpToDate && state.pdsk == DiskState::UpToDate
        })
    }

    fn unfence(&mut self) {
        self.s.unfence_due = false;
        self.helper(Handler::UnfencePeer, None, false);
    }

    /// The peer has come back while or after it was being fenced, and there was nothing to sync:
    /// what the helper has done is undone. (In the C driver that is left to the next resync.)
    pub(crate) fn unfence_if_good(&mut self) {
        let fencing = self.highest_fencing() > Some(Fencing::DontCare);
        let running = matches!(self.s.link.fence, Fence::Running { .. });
        if self.s.unfence_due && fencing && !running && self.is_good_everywhere() {
            self.unfence();
        }
    }

    /// UUIDs at the clean end of a resync (`reference/metadata.md` 5.4).
    /// A source that has begun a generation since the run began has left this disk out of it:
    /// another P_UUIDS does not count (`reference/io.md` 6.7, step 5).
    fn rotate_after_resync(&mut self, v: VolumeIndex, source: bool, primary: bool) {
        let told = self.vol(v).peer.uuids;
        let began = self.vol(v).source;
        let another = |told: &Uuids| began.is_some_and(|began| began.current != told.current);
        let left_out = !source && told.is_some_and(|told| another(&told));
        let peer = if left_out { began } else { told };
        let Some(disk) = self.vol_mut(v).disk.as_mut() else {
            return;
        };
        if source {
            disk.uuids.clear_bitmap();
        } else if let Some(peer) = peer {
            disk.uuids.finish_target(&peer, primary);
        }
        let uuids = disk.uuids;
        if peer.is_some() && !left_out {
            // Both sets are equal now.
            self.vol_mut(v).peer.uuids = Some(uuids);
        }
        self.log_uuids(v, "updated UUIDs");
    }

    /// Ends an online verify.
    pub(crate) fn finish_verify(&mut self, v: VolumeIndex, out_of_sync: u64) {
        let conn = self.vol(v).state.conn;
        if !matches!(conn, ConnState::VerifyS | ConnState::VerifyT) {
            return;
        }
        self.log_run(v, true);
        if out_of_sync != 0 {
            self.log(v, Line::VerifyFound { count: out_of_sync });
            self.helper(Handler::OutOfSync, Some(v), false);
        }
        self.set_state(v, Change::conn(ConnState::Connected), Flags::HARD);
    }

    /// Highest fencing policy of all volumes with good enough data, `None` without such a volume.
    fn highest_fencing(&self) -> Option<Fencing> {
        self.indices()
            .filter(|&v| self.vol(v).state.disk >= DiskState::Consistent)
            .filter_map(|v| self.vol(v).disk)
            .map(|disk| disk.config.fencing)
            .max()
    }

    /// Calls the fence-peer helper if the policy says so (`reference/netlink.md` 8.3). The result
    /// is in `link.fence`.
    pub(crate) fn begin_fencing(&mut self) {
        let now = self.s.link.generation;
        if matches!(self.s.link.fence, Fence::Running { generation, .. } if generation == now) {
            return;
        }
        match self.highest_fencing() {
            None => {
                let text = "Not fencing peer, I'm not even Consistent myself.";
                self.text_resource(Level::Warning, text);
                self.s.link.fence = Fence::Done(false);
                if self.s.susp_fen {
                    self.set_conn_state(Change::flag(mask::SUSP_FEN, false), Flags::HARD);
                    if !self.suspended() {
                        self.give_up_kept();
                    }
                }
            }
            Some(Fencing::DontCare) => self.s.link.fence = Fence::Done(true),
            Some(Fencing::ResourceOnly | Fencing::ResourceAndStonith) => {
                if self.s.conn >= ConnState::WfReportParams {
                    self.s.link.fence = Fence::Done(false);
                    return;
                }
                let run = self.helper(Handler::FencePeer, None, true);
                self.s.link.fence = Fence::Running {
                    run,
                    generation: now,
                };
            }
        }
    }

    /// The fence-peer helper has ended.
    pub(crate) fn fenced(&mut self, run: u32, exit: u8) {
        self.take_fence_result(run, exit);
        self.s.unfence_due = true;
        self.unfence_if_good();
    }

    fn take_fence_result(&mut self, run: u32, exit: u8) {
        let leaves = self
            .s
            .job
            .is_some_and(|job| matches!(job.kind, JobKind::Disconnect(_)));
        if leaves && put_back(Bug::DisconnectWaitsForFencing) {
            return;
        }
        let generation = match self.s.link.fence {
            Fence::Running {
                run: awaited,
                generation,
            } if awaited == run => generation,
            Fence::Running { .. } => {
                // The peer was here meanwhile and has to be fenced anew.
                self.text_resource(Level::Info, "Ignoring fence-peer exit code");
                return;
            }
            Fence::Idle | Fence::Done(_) => return,
        };
        let some_good = self
            .indices()
            .any(|v| self.vol(v).state.disk == DiskState::UpToDate);
        let outdated = Some(Change::pdsk(DiskState::Outdated));
        let (text, change) = match exit {
            3 => (
                "peer is inconsistent or worse",
                Some(Change::pdsk(DiskState::Inconsistent)),
            ),
            4 => ("peer was fenced", outdated),
            5 if some_good => ("peer is unreachable, assumed to be dead", outdated),
            5 => (
                "peer unreachable, doing nothing since disk != UpToDate",
                None,
            ),
            6 => ("peer is active", Some(Change::disk(DiskState::Outdated))),
            7 => ("peer was stonithed", outdated),
            _ => {
                self.log_resource(Line::FenceBroken { exit });
                self.s.link.fence = Fence::Done(false);
                return;
            }
        };
        self.log_resource(Line::FenceReturned { exit, text });
        if exit == 6 {
            self.text_resource(Level::Warning, "Peer is primary, outdating myself.");
        }
        if exit == 7 && self.highest_fencing() != Some(Fencing::ResourceAndStonith) {
            let text = "fence-peer() = 7 && fencing != Stonith !!!";
            self.text_resource(Level::Error, text);
        }
        if self.s.conn >= ConnState::WfReportParams || self.s.link.generation != generation {
            self.text_resource(Level::Info, "Ignoring fence-peer exit code");
        } else if let Some(change) = change {
            self.set_conn_state(change, Flags::VERBOSE);
        }
        let highest = self.indices().map(|v| self.vol(v).state.pdsk).max();
        let done = highest.is_some_and(|pdsk| pdsk <= DiskState::Outdated);
        self.s.link.fence = Fence::Done(done);
        if done && self.s.susp_fen {
            self.end_fencing();
        }
    }
}

/// A disk went away meanwhile, ours or that of the source, or is another one: there is nothing to
/// begin. Nor before the peer's bitmap is there, which comes behind it on the same socket: the
/// resync is that of the disk before (`reference/states.md` 3.12).
pub(super) fn has_no_use_for_sync_uuid(volume: &Volume) -> bool {
    let state = &volume.state;
    let source_is_gone = state.conn == ConnState::Connected && state.pdsk < DiskState::Inconsistent;
    let before_bitmap = match state.conn {
        ConnState::WfBitMapT => !volume.bitmap_due,
        conn => conn == ConnState::WfBitMapS,
    };
    state.disk <= DiskState::Negotiating || source_is_gone || before_bitmap
}

/// The end of a verify, or of a resync from here, does not lead to one from the peer.
pub(super) fn is_in_another_run(state: &VolumeState) -> bool {
    let verifies = matches!(state.conn, ConnState::VerifyS | ConnState::VerifyT);
    verifies || state.is_sync_source()
}
