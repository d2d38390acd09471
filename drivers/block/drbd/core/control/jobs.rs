//! What a volume does in the background: a few steps, each of which waits for the shell, the data
//! plane or the peer.
//!
//! One job per volume at a time. [`Control::step_volume`] looks at it after every event and takes
//! it as far as it goes.

use drbd_format::types::{ConnState, DiskState};

use super::engine::Flags;
use super::metadata::flag;
use super::{Control, Progress};
use crate::action::Action;
use crate::link::{Order, Side, VolumeIndex};
use crate::log::Level;
use crate::put_back::{put_back, Bug};
use crate::quirk::{quirk, Quirk};
use crate::state::Change;

/// A job and how far it has got.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum VolumeJob {
    /// Nothing to do.
    #[default]
    None,
    /// Set all bits, in memory and on disk (`reference/metadata.md` 4.4).
    SetAll(SetAll, Then),
    /// Begin a resync (`reference/io.md` 6.1).
    StartSync(Side, StartSync),
    /// End a resync or verify once the peer has answered a ping.
    Finish {
        /// Verify, else resync.
        verify: bool,
        /// Blocks that failed (resync) or differ (verify).
        count: u64,
        /// The answer to the ping with this number is waited for.
        ping: u32,
    },
    /// Give up the disk.
    Detach(Detach),
    /// New size or place of the metadata (`reference/metadata.md` 6.6).
    Relayout(Relayout),
}

/// Steps of [`VolumeJob::SetAll`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SetAll {
    /// Not begun.
    Begin,
    /// The flag that makes a half-written bitmap harmless is being written.
    FlagSet,
    /// The bitmap is being written.
    Bitmap,
    /// The flag is being cleared.
    FlagCleared {
        /// All went well so far.
        ok: bool,
    },
}

/// What follows when all bits are set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Then {
    /// A command waits for it.
    Command,
    /// Sync after an administrator's request.
    StartSync(Side),
    /// The handshake goes on.
    Handshake,
    /// Attach goes on.
    Attach,
    /// The link is lost over which it was to go on.
    Nobody,
}

/// Steps of [`VolumeJob::StartSync`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StartSync {
    /// Not begun.
    Begin,
    /// The helper runs.
    Helper,
    /// The helper agrees.
    Ready,
}

/// Steps of [`VolumeJob::Detach`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Detach {
    /// The helper runs that the administrator wants to see the failure first.
    Helper,
    /// Requests to the disk are in flight.
    Drain,
    /// The bitmap is being written.
    Bitmap,
    /// The superblock is being written.
    Metadata,
    /// The shell closes the devices.
    Close,
}

/// Steps of [`VolumeJob::Relayout`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Relayout {
    /// A superblock that says "full sync" is being written.
    Guard {
        /// The flags to be restored.
        flags: u32,
    },
    /// The activity log is being filled.
    Log {
        /// The flags to be restored.
        flags: u32,
    },
    /// The bitmap is being written.
    Bitmap {
        /// The flags to be restored.
        flags: u32,
    },
    /// The final superblock is being written.
    Final,
}

impl VolumeJob {
    /// Sets all bits, then does what `then` says.
    pub const fn set_all(then: Then) -> Self {
        Self::SetAll(SetAll::Begin, then)
    }

    /// Gives up the disk.
    pub const fn detach() -> Self {
        Self::Detach(Detach::Drain)
    }
}

impl Control<'_> {
    /// Starts a job. A detach replaces whatever else goes on; a command that waits for that fails.
    pub(crate) fn begin_job(&mut self, v: VolumeIndex, job: VolumeJob) {
        let volume = self.vol_mut(v);
        match volume.job {
            VolumeJob::Relayout(_) => {
                volume.blocks = volume.blocks.saturating_sub(1);
                volume.result = Some(false);
            }
            VolumeJob::SetAll(_, Then::Command | Then::Attach) => volume.result = Some(false),
            VolumeJob::SetAll(_, Then::Handshake) => self.handshake_bits_set(v, false),
            VolumeJob::None
            | VolumeJob::SetAll(_, Then::StartSync(_) | Then::Nobody)
            | VolumeJob::StartSync(..)
            | VolumeJob::Finish { .. }
            | VolumeJob::Detach(_) => {}
        }
        let volume = self.vol_mut(v);
        volume.job = job;
        volume.watching = matches!(job, VolumeJob::Detach(_));
        self.order(Order::View(v));
    }

    fn end_job(&mut self, v: VolumeIndex) {
        let volume = self.vol_mut(v);
        volume.job = VolumeJob::None;
        volume.watching = false;
        self.order(Order::View(v));
    }

    /// Asks the shell to write the bitmap; the answer is in `bitmap_io`.
    pub(crate) fn write_bitmap(&mut self, v: VolumeIndex, all: bool) {
        self.vol_mut(v).bitmap_io = Progress::Running;
        self.act(Action::WriteBitmap { volume: v, all });
    }

    /// Takes the volume's job one step further. Returns whether anything was done.
    pub(crate) fn step_volume(&mut self, v: VolumeIndex) -> bool {
        match self.vol(v).job {
            VolumeJob::None => match self.vol_mut(v).run_over.take() {
                Some((verify, count)) => {
                    self.run_done(v, verify, count);
                    true
                }
                None => false,
            },
            VolumeJob::SetAll(step, then) => self.step_set_all(v, step, then),
            VolumeJob::StartSync(side, step) => self.step_start_sync(v, side, step),
            VolumeJob::Finish {
                verify,
                count,
                ping,
            } => {
                if self.vol(v).state.conn < ConnState::Connected {
                    self.end_job(v);
                    return true;
                }
                let target = self.vol(v).state.is_sync_target();
                let answered =
                    self.s.liveness.answered(ping) || (target && quirk(Quirk::EndOvertakesAck));
                if !answered {
                    return false;
                }
                self.end_job(v);
                if verify {
                    self.finish_verify(v, count);
                } else {
                    self.end_or_go_on(v, count);
                }
                true
            }
            VolumeJob::Detach(step) => self.step_detach(v, step),
            VolumeJob::Relayout(step) => self.step_relayout(v, step),
        }
    }

    fn step_set_all(&mut self, v: VolumeIndex, step: SetAll, then: Then) -> bool {
        match step {
            SetAll::Begin => {
                self.set_flag(v, flag::FULL_SYNC, true);
                self.vol_mut(v).job = VolumeJob::SetAll(SetAll::FlagSet, then);
            }
            SetAll::FlagSet => {
                if !self.metadata_stable(v) || self.vol(v).bitmap_io == Progress::Running {
                    return false;
                }
                self.order(Order::SetAllBits(v));
                self.write_bitmap(v, false);
                self.vol_mut(v).job = VolumeJob::SetAll(SetAll::Bitmap, then);
            }
            SetAll::Bitmap => {
                let Progress::Done(ok) = self.vol(v).bitmap_io else {
                    return false;
                };
                self.vol_mut(v).bitmap_io = Progress::Idle;
                if ok {
                    self.set_flag(v, flag::FULL_SYNC, false);
                }
                self.vol_mut(v).job = VolumeJob::SetAll(SetAll::FlagCleared { ok }, then);
            }
            SetAll::FlagCleared { ok } => {
                if !self.metadata_stable(v) {
                    return false;
                }
                self.end_job(v);
                self.all_bits_set(v, ok, then);
            }
        }
        true
    }

    fn all_bits_set(&mut self, v: VolumeIndex, ok: bool, then: Then) {
        let conn = self.vol(v).state.conn;
        match then {
            // A disk went away meanwhile, here or at the peer: the resync has been aborted.
            Then::StartSync(_)
                if !matches!(conn, ConnState::StartingSyncS | ConnState::StartingSyncT) => {}
            Then::Nobody => {}
            Then::Command | Then::Attach => self.job_result(v, ok),
            Then::Handshake => self.handshake_bits_set(v, ok),
            Then::StartSync(_) if !ok => {
                self.set_state(v, Change::conn(ConnState::Connected), Flags::VERBOSE);
            }
            Then::StartSync(Side::Target) => {
                self.set_state(v, Change::conn(ConnState::WfSyncUuid), Flags::VERBOSE);
            }
            Then::StartSync(Side::Source) => self.start_resync(v, Side::Source),
        }
    }

    fn step_detach(&mut self, v: VolumeIndex, step: Detach) -> bool {
        match step {
            Detach::Helper => {
                if self.vol_mut(v).helper.take().is_none() && !self.vol(v).forced_detach {
                    return false;
                }
                self.vol_mut(v).job = VolumeJob::detach();
                true
            }
            Detach::Drain => {
                let volume = self.vol(v);
                let drained =
                    volume.facts.local_in_flight == 0 && volume.bitmap_io != Progress::Running;
                if !drained && !volume.forced_detach {
                    return false;
                }
                if volume.forced_detach || volume.disk.is_none() {
                    return self.detach_metadata(v);
                }
                self.former_primary_detaches(v);
                self.write_bitmap(v, false);
                self.vol_mut(v).job = VolumeJob::Detach(Detach::Bitmap);
                true
            }
            Detach::Bitmap => {
                let Progress::Done(ok) = self.vol(v).bitmap_io else {
                    return false;
                };
                self.vol_mut(v).bitmap_io = Progress::Idle;
                if !ok && self.vol(v).read_error {
                    self.set_flag(v, flag::FULL_SYNC, true);
                }
                self.detach_metadata(v)
            }
            Detach::Metadata => {
                if !self.metadata_stable(v) && !self.vol(v).forced_detach {
                    return false;
                }
                self.set_state(v, Change::disk(DiskState::Diskless), Flags::HARD);
                self.order(Order::DiskDetached(v));
                self.act(Action::CloseDisk { volume: v });
                self.vol_mut(v).job = VolumeJob::Detach(Detach::Close);
                true
            }
            Detach::Close => false,
        }
    }

    fn detach_metadata(&mut self, v: VolumeIndex) -> bool {
        if self.vol(v).disk.is_some() && !self.vol(v).io_error {
            self.dirty(v);
        }
        self.vol_mut(v).job = VolumeJob::Detach(Detach::Metadata);
        true
    }

    /// The shell has closed the devices.
    pub(crate) fn disk_closed(&mut self, v: VolumeIndex) {
        let volume = self.vol_mut(v);
        volume.disk = None;
        volume.io_error = false;
        volume.read_error = false;
        volume.forced_detach = false;
        volume.bitmap_io = Progress::Idle;
        volume.bitmap_again = false;
        volume.md = super::MetadataIo::NEW;
        volume.al_resuming = false;
        volume.former_primary = super::FormerPrimary::No;
        self.end_job(v);
    }

    /// A new size is being written.
    pub(crate) fn is_relaid(&self, v: VolumeIndex) -> bool {
        matches!(self.vol(v).job, VolumeJob::Relayout(_))
    }

    fn step_relayout(&mut self, v: VolumeIndex, step: Relayout) -> bool {
        match step {
            Relayout::Guard { flags } => {
                if !self.metadata_stable(v) {
                    return false;
                }
                self.order(Order::WriteRing(v));
                // True until the data plane says otherwise.
                self.vol_mut(v).facts.ring_pending = true;
                self.vol_mut(v).job = VolumeJob::Relayout(Relayout::Log { flags });
            }
            Relayout::Log { flags } => {
                if self.vol(v).facts.ring_pending || self.vol(v).bitmap_io == Progress::Running {
                    return false;
                }
                self.text(v, Level::Info, "Writing the whole bitmap, size changed");
                self.write_bitmap(v, !put_back(Bug::BitmapNotWrittenOnResize));
                self.vol_mut(v).job = VolumeJob::Relayout(Relayout::Bitmap { flags });
            }
            Relayout::Bitmap { flags } => {
                let Progress::Done(ok) = self.vol(v).bitmap_io else {
                    return false;
                };
                self.vol_mut(v).bitmap_io = Progress::Idle;
                if !ok {
                    return self.relayout_failed(v);
                }
                let volume = self.vol_mut(v);
                let resuming = volume.al_resuming;
                if let Some(disk) = volume.disk.as_mut() {
                    let kept = flag::FULL_SYNC | flag::AL_DISABLED;
                    disk.flags = disk.flags & !kept | flags & kept;
                    // It may have been switched off meanwhile, or not be complete again yet.
                    if !disk.config.al_updates || resuming {
                        disk.flags |= flag::AL_DISABLED;
                    }
                }
                self.dirty(v);
                self.vol_mut(v).job = VolumeJob::Relayout(Relayout::Final);
            }
            Relayout::Final => {
                if !self.metadata_stable(v) {
                    return false;
                }
                let volume = self.vol_mut(v);
                volume.blocks = volume.blocks.saturating_sub(1);
                self.end_job(v);
                self.job_result(v, true);
            }
        }
        true
    }

    fn relayout_failed(&mut self, v: VolumeIndex) -> bool {
        let volume = self.vol_mut(v);
        volume.blocks = volume.blocks.saturating_sub(1);
        self.end_job(v);
        self.job_result(v, false);
        self.local_io_failed(v, crate::link::LocalError::Metadata);
        true
    }
}
