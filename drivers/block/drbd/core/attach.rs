//! Attaching and detaching a backing disk (`reference/metadata.md` 6.1 to 6.3).

use drbd_format::types::{ConnState, DiskState, Fencing, Protocol, Role};
use drbd_format::units::SectorCount;

use crate::action::Action;
use crate::admin::{code, Step};
use crate::config::DiskConfig;
use crate::control::engine::{Answer, Flags, SUCCESS};
use crate::control::jobs::{Then, VolumeJob};
use crate::control::metadata::flag;
use crate::control::sizes::agreed_size;
use crate::control::{Control, Disk, Progress};
use crate::generation::Uuids;
use crate::input::BackingFacts;
use crate::link::{Order, VolumeIndex};
use crate::log::{Level, Line};
use crate::state::transition::StateError;
use crate::state::{Change, VolumeState};

/// Steps of an attach.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AttachStep {
    /// Nothing done.
    Begin,
    /// Application I/O is being drained.
    Drain,
    /// The metadata is being laid out anew.
    Layout,
    /// The bitmap is being read, or set and written.
    Bitmap {
        /// The whole bitmap is being set.
        full: bool,
    },
    /// The data plane counts the bits.
    Count,
    /// The superblock is being written.
    Metadata,
    /// The devices are being closed after a failure.
    Undo {
        /// The answer.
        code: i32,
    },
}

/// Returns own and peer disk state that the flags stand for (`reference/metadata.md` 6.1, 24).
pub fn derived_state(flags: u32, fencing: Fencing) -> (DiskState, Option<DiskState>) {
    let peer_outdated = flags & flag::PEER_OUT_DATED != 0;
    let disk = match (
        flags & flag::CONSISTENT != 0,
        flags & flag::WAS_UP_TO_DATE != 0,
    ) {
        (false, _) => DiskState::Inconsistent,
        (true, false) => DiskState::Outdated,
        (true, true) if peer_outdated || fencing == Fencing::DontCare => DiskState::UpToDate,
        (true, true) => DiskState::Consistent,
    };
    (disk, peer_outdated.then_some(DiskState::Outdated))
}

impl Control<'_> {
    /// Takes an attach one step further.
    pub(crate) fn step_attach(
        &mut self,
        v: VolumeIndex,
        step: AttachStep,
        config: &DiskConfig,
        facts: &BackingFacts,
    ) -> Step<AttachStep> {
        match step {
            AttachStep::Begin => self.attach_begin(v, config, facts),
            AttachStep::Drain => {
                if self.vol(v).facts.app_in_flight != 0 && !self.suspended() {
                    return Step::Wait;
                }
                let attaching = Change::disk(DiskState::Attaching);
                match self.request(v, attaching, Flags::VERBOSE) {
                    Answer::Pending => Step::Wait,
                    Answer::Ready(code) if code == StateError::InTransientState.code() => {
                        Step::Wait
                    }
                    Answer::Ready(code) if code < SUCCESS => self.attach_failed(v, code),
                    Answer::Ready(_) => self.attach_publish(v, config, facts),
                }
            }
            AttachStep::Layout => match self.vol_mut(v).result.take() {
                None => Step::Wait,
                Some(false) => self.attach_failed(v, code::IO_MD_DISK),
                Some(true) => self.attach_bitmap(v, true),
            },
            AttachStep::Bitmap { full } => self.attach_bitmap_done(v, full),
            AttachStep::Count => {
                let volume = self.vol(v);
                if volume.facts.bits_total == 0 && volume.capacity != 0 {
                    return Step::Wait;
                }
                if volume.io_error {
                    return self.attach_failed(v, code::IO_MD_DISK);
                }
                if self.awaits_handshake(v) {
                    // The peer has been told that there is no disk: it compares this one later.
                    return Step::Wait;
                }
                self.attach_state(v)
            }
            AttachStep::Metadata => {
                if self.is_disk_lost(v) {
                    return Step::Done(code::IO_MD_DISK);
                }
                if !self.metadata_stable(v) {
                    return Step::Wait;
                }
                self.act(Action::Uevent { volume: v });
                Step::Done(code::NO_ERROR)
            }
            AttachStep::Undo { code } => {
                if self.vol(v).job != VolumeJob::None || self.vol(v).disk.is_some() {
                    return Step::Wait;
                }
                Step::Done(code)
            }
        }
    }

    fn attach_begin(
        &mut self,
        v: VolumeIndex,
        config: &DiskConfig,
        facts: &BackingFacts,
    ) -> Step<AttachStep> {
        if self.vol(v).state.disk > DiskState::Diskless {
            return Step::Done(code::DISK_CONFIGURED);
        }
        if self.vol(v).job != VolumeJob::None || self.vol(v).disk.is_some() {
            return Step::Wait;
        }
        let stonith = config.fencing == Fencing::ResourceAndStonith;
        if stonith && self.s.net.is_some_and(|net| net.protocol == Protocol::A) {
            return self.attach_refused(v, code::STONITH_AND_PROT_A);
        }
        let max = facts.max_capacity_sectors;
        if config.disk_size_sectors > max {
            self.log(
                v,
                Line::CapacityTooSmall {
                    max,
                    wanted: config.disk_size_sectors,
                },
            );
            return self.attach_refused(v, code::DISK_TOO_SMALL);
        }
        // Without any room the last agreed size would count as possible.
        let wanted = self.vol(v).capacity.max(1);
        if max < wanted {
            self.log(v, Line::CapacityTooSmall { max, wanted });
            return self.attach_refused(v, code::DISK_TOO_SMALL);
        }
        let volume = self.vol_mut(v);
        volume.forced_detach = false;
        volume.io_error = false;
        volume.read_error = false;
        volume.result = None;
        volume.blocks = volume.blocks.saturating_add(1);
        volume.watching = true;
        self.order(Order::View(v));
        Step::Next(AttachStep::Drain)
    }

    /// Before the state was touched: only the devices have to be closed again.
    fn attach_refused(&mut self, v: VolumeIndex, code: i32) -> Step<AttachStep> {
        self.refuse_disk(v);
        Step::Done(code)
    }

    /// The devices that the shell has opened for an attach are not wanted.
    pub(crate) fn refuse_disk(&mut self, v: VolumeIndex) {
        if self.vol(v).job == VolumeJob::None && self.vol(v).disk.is_none() {
            self.begin_job(v, VolumeJob::Detach(crate::control::jobs::Detach::Close));
        }
        self.act(Action::CloseDisk { volume: v });
    }

    pub(crate) fn attach_failed(&mut self, v: VolumeIndex, code: i32) -> Step<AttachStep> {
        self.unblock_attach(v);
        if self.vol(v).state.disk > DiskState::Diskless {
            self.set_state(v, Change::disk(DiskState::Diskless), Flags::HARD);
        }
        if self.vol(v).disk.is_some() {
            self.order(Order::DiskDetached(v));
        }
        self.begin_job(v, VolumeJob::Detach(crate::control::jobs::Detach::Close));
        self.act(Action::CloseDisk { volume: v });
        Step::Next(AttachStep::Undo { code })
    }

    fn unblock_attach(&mut self, v: VolumeIndex) {
        let volume = self.vol_mut(v);
        volume.blocks = volume.blocks.saturating_sub(1);
        volume.watching = false;
        self.order(Order::View(v));
    }

    /// Checks 16 and 17, then the disk belongs to the volume.
    fn attach_publish(
        &mut self,
        v: VolumeIndex,
        config: &DiskConfig,
        facts: &BackingFacts,
    ) -> Step<AttachStep> {
        let state = self.state(v);
        let uuids = Uuids::from_array(facts.uuids);
        if self.is_not_what_was_lost(v, uuids.current) {
            return self.attach_failed(v, code::DATA_NOT_CURRENT);
        }
        let user = config.disk_size_sectors;
        let peer = self.vol(v).peer;
        // A node whose peer, or the peer's disk, is not there does not grow by itself.
        let there = match state.conn {
            ConnState::WfReportParams => true,
            conn => conn >= ConnState::Connected && state.pdsk >= DiskState::Inconsistent,
        };
        let (mut new, too_big) = agreed_size(
            if there { peer.disk_sectors } else { 0 },
            facts.max_capacity_sectors,
            facts.la_size_sectors,
            user,
        );
        let old = facts.la_size_sectors;
        let keeps = state.conn >= ConnState::Connected && state.pdsk >= DiskState::Inconsistent;
        // What applications of a Primary see. The disk has got a larger size that came to nothing,
        // as it failed before all of it was written.
        let guard = flag::FULL_SYNC | flag::AL_DISABLED;
        let half_written = facts.flags & guard == guard;
        let seen = if keeps && state.role == Role::Primary && half_written {
            old.min(self.vol(v).capacity)
        } else {
            old
        };
        if keeps && peer.user_sectors != 0 {
            // Its limit holds for both: a Primary is not to see growth that does not last.
            new = new.min(peer.user_sectors.max(seen));
        }
        if facts.flags & flag::CONSISTENT != 0 && new < old {
            let allowed = new == user || (seen < old && new >= seen);
            self.log(v, Line::RefuseTruncate { new, old, allowed });
            if !allowed {
                return self.attach_failed(v, code::IMPLICIT_SHRINK);
            }
        }
        if let Some(possible) = too_big {
            let line = Line::RequestedTooBig {
                wanted_kib: user / 2,
                possible_kib: possible / 2,
            };
            self.log(v, line);
        }
        self.install_disk(v, config, facts, &state, uuids);
        if self.apply_size(v, new, true) {
            // Another size than agreed before: nothing is known about any block.
            self.order(Order::DiskAttached(v));
            self.order(Order::SetAllBits(v));
            return Step::Next(AttachStep::Layout);
        }
        self.attach_bitmap(v, false)
    }

    /// Check 16: the peer's disk is not there, and this one has not what applications saw last.
    fn is_not_what_was_lost(&mut self, v: VolumeIndex, current: u64) -> bool {
        let state = self.state(v);
        let uuid = self.vol(v).exposed_uuid;
        let primary = state.role == Role::Primary || state.peer == Role::Primary;
        // The peer was about to be synced from a disk that went, and goes on with its own one,
        // perhaps without a word: a comparison will tell.
        let compared = state.conn == ConnState::Connected
            && state.role == Role::Secondary
            && state.pdsk == DiskState::Consistent;
        let exposed = compared || self.is_exposed(v, current);
        let other = state.pdsk != DiskState::UpToDate
            && uuid != 0
            && primary
            && (!exposed || self.vol(v).lacks_writes);
        if other {
            let text = "Can only attach to data with current UUID=";
            self.log(v, Line::Uuid { text, uuid });
        }
        other
    }

    fn install_disk(
        &mut self,
        v: VolumeIndex,
        config: &DiskConfig,
        facts: &BackingFacts,
        state: &VolumeState,
        uuids: Uuids,
    ) {
        let settled = !self.vol(v).has_lost_writes();
        let frozen_primary = state.role == Role::Primary && self.s.susp_nod && settled;
        let marked = facts.flags & flag::PRIMARY_IND != 0;
        let volume = self.vol_mut(v);
        volume.disk = Some(Disk {
            config: config.put_right(),
            facts: *facts,
            room_sectors: SectorCount(facts.max_capacity_sectors).bits().words() * 64 * 8,
            uuids,
            written_uuids: uuids,
            written_flags: facts.flags,
            stable_uuids: uuids,
            stable_flags: facts.flags,
            flags: facts.flags,
            la_size: facts.la_size_sectors,
            alone: false,
        });
        volume.md = crate::control::metadata::MetadataIo::NEW;
        // Until the superblock says that there is none.
        volume.al_updates = true;
        volume.al_resuming = false;
        volume.crashed_primary =
            facts.flags & flag::CRASHED_PRIMARY != 0 || (marked && !frozen_primary);
        volume.degraded_timeout =
            state.role != Role::Primary && marked && facts.flags & flag::CONNECTED_IND == 0;
        self.order(Order::View(v));
        let bytes = self.max_bio_bytes(v);
        self.log(v, Line::MaxBio { bytes });
        self.set_limits(v);
    }

    /// Step 22: the bitmap, unless `laid_out` has just made it.
    fn attach_bitmap(&mut self, v: VolumeIndex, laid_out: bool) -> Step<AttachStep> {
        let flags = self.vol(v).disk.map_or(0, |disk| disk.flags);
        let log_off = flags & flag::AL_DISABLED != 0 && self.vol(v).crashed_primary;
        if flags & flag::FULL_SYNC != 0 || log_off {
            let text = "Assuming that all blocks are out of sync (aka FullSync)";
            self.text(v, Level::Info, text);
            if !laid_out {
                self.order(Order::DiskAttached(v));
            }
            self.begin_job(v, VolumeJob::set_all(Then::Attach));
            return Step::Next(AttachStep::Bitmap { full: true });
        }
        if laid_out {
            return Step::Next(AttachStep::Count);
        }
        self.vol_mut(v).bitmap_io = Progress::Running;
        self.act(Action::ReadBitmap { volume: v });
        Step::Next(AttachStep::Bitmap { full: false })
    }

    fn attach_bitmap_done(&mut self, v: VolumeIndex, full: bool) -> Step<AttachStep> {
        let ok = if full {
            self.vol_mut(v).result.take()
        } else {
            match self.vol(v).bitmap_io {
                Progress::Done(ok) => {
                    self.vol_mut(v).bitmap_io = Progress::Idle;
                    Some(ok)
                }
                Progress::Idle | Progress::Running => None,
            }
        };
        match ok {
            None => Step::Wait,
            Some(false) => self.attach_failed(v, code::IO_MD_DISK),
            Some(true) => {
                if !full {
                    // The data plane counts the bits that have been loaded.
                    self.order(Order::DiskAttached(v));
                }
                Step::Next(AttachStep::Count)
            }
        }
    }

    /// Steps 23 to 27.
    fn attach_state(&mut self, v: VolumeIndex) -> Step<AttachStep> {
        let Some(disk) = self.vol(v).disk else {
            return self.attach_failed(v, code::IO_MD_DISK);
        };
        if self.is_not_what_was_lost(v, disk.uuids.current) {
            // The peer's disk has gone since.
            return self.attach_failed(v, code::DATA_NOT_CURRENT);
        }
        let facts = self.vol(v).facts;
        let state = self.state(v);
        self.log(
            v,
            Line::MarkedOutOfSync {
                bits: facts.bits_set,
            },
        );
        if facts.bits_set == facts.bits_total && state.conn < ConnState::Connected {
            self.order(Order::SuspendAl(v));
        }
        let (mut own, peer) = derived_state(disk.flags, disk.config.fencing);
        if facts.lacks_ended {
            // Its flags know nothing of the writes that the peer alone has acknowledged.
            own = own.min(DiskState::Inconsistent);
        }
        self.set_flag(v, flag::AL_DISABLED, !disk.config.al_updates);
        let change = if state.conn == ConnState::Connected {
            self.vol_mut(v).saved = Some((own, peer.unwrap_or(DiskState::DUnknown)));
            self.vol_mut(v).peer.uuids = None;
            Change::disk(DiskState::Negotiating)
        } else {
            let change = Change::disk(own);
            peer.map_or(change, |pdsk| change.and(Change::pdsk(pdsk)))
        };
        self.unblock_attach(v);
        let code = self.set_state(v, change, Flags::VERBOSE);
        if code < SUCCESS {
            return self.attach_failed(v, code);
        }
        self.mark_primary(v, state.role == Role::Primary);
        self.dirty(v);
        Step::Next(AttachStep::Metadata)
    }

    /// Takes a detach one step further. `asked` tells whether the state has been changed already.
    pub(crate) fn step_detach_command(
        &mut self,
        v: VolumeIndex,
        force: bool,
        asked: bool,
    ) -> Step<bool> {
        if asked {
            let gone = self.vol(v).state.disk != DiskState::Failed;
            return if gone {
                Step::Done(SUCCESS)
            } else {
                Step::Wait
            };
        }
        let change = Change::disk(DiskState::Failed);
        if force {
            // Nobody would take the mark back that is made without a disk.
            let volume = self.vol_mut(v);
            volume.forced_detach = volume.disk.is_some();
            match volume.state.disk {
                DiskState::Diskless | DiskState::Attaching => self.abandon_attach_of(v),
                DiskState::Failed => self.order(Order::AbortLocal(v)),
                DiskState::Negotiating
                | DiskState::Inconsistent
                | DiskState::Outdated
                | DiskState::DUnknown
                | DiskState::Consistent
                | DiskState::UpToDate => {
                    self.set_state(v, change, Flags::HARD);
                }
            }
            return Step::Done(SUCCESS);
        }
        let state = self.vol(v).state;
        if state.conn < ConnState::Connected && !self.s.link.drained {
            // Applications of the peer that is gone may be done with writes that are on their way.
            return Step::Wait;
        }
        match self.request(v, change, Flags::VERBOSE) {
            Answer::Pending => Step::Wait,
            Answer::Ready(code) if code == StateError::InTransientState.code() => Step::Wait,
            Answer::Ready(code) if code == StateError::IsDiskless.code() => {
                Step::Done(crate::control::engine::NOTHING_TO_DO)
            }
            Answer::Ready(code) if code < SUCCESS => Step::Done(code),
            Answer::Ready(_) => Step::Next(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_on_disk_stand_for_the_documented_states() {
        use DiskState::{Consistent, Inconsistent, Outdated, UpToDate};
        for flags in 0..0x200 {
            for fencing in [
                Fencing::DontCare,
                Fencing::ResourceOnly,
                Fencing::ResourceAndStonith,
            ] {
                let (disk, peer) = derived_state(flags, fencing);
                let expected = match (flags & 1, flags & 0x10, flags & 0x20, fencing) {
                    (0, _, _, _) => Inconsistent,
                    (_, 0, _, _) => Outdated,
                    (_, _, 0, Fencing::ResourceOnly | Fencing::ResourceAndStonith) => Consistent,
                    _ => UpToDate,
                };
                assert_eq!(disk, expected, "flags {flags:#x} {fencing}");
                assert_eq!(peer, (flags & 0x20 != 0).then_some(Outdated));
            }
        }
    }
}
