//! UUIDs and flags on disk, and the order between writing and telling.
//!
//! Every change of what the superblock holds goes through [`Control::dirty`], which raises the
//! version. A packet queued after that leaves only when this version is stable
//! (`reference/metadata.md` 9.1 item 35).

use drbd_format::disk::layout::Striping;
use drbd_format::disk::superblock::{Magic, MdFlags, Superblock};
use drbd_format::types::{ConnState, DiskState, Role};
use drbd_format::units::SectorCount;

use super::jobs::{Detach, VolumeJob};
use super::{Control, Disk, Held};
use crate::action::Action;
use crate::chance::{chance, Unlikely};
use crate::link::{ControlKind, LocalError, Order, VolumeIndex};
use crate::quirk::{quirk, Quirk};
use crate::state::VolumeState;

/// Metadata flags (`reference/metadata.md` 2.2).
pub mod flag {
    /// The data is a usable generation.
    pub const CONSISTENT: u32 = 0x001;
    /// The node was primary.
    pub const PRIMARY_IND: u32 = 0x002;
    /// A peer was connected.
    pub const CONNECTED_IND: u32 = 0x004;
    /// Treat every bit as set.
    pub const FULL_SYNC: u32 = 0x008;
    /// The disk was better than Outdated.
    pub const WAS_UP_TO_DATE: u32 = 0x010;
    /// The peer's disk was Inconsistent or Outdated.
    pub const PEER_OUT_DATED: u32 = 0x020;
    /// Was primary when it crashed.
    pub const CRASHED_PRIMARY: u32 = 0x040;
    /// The activity log has been applied.
    pub const AL_CLEAN: u32 = 0x080;
    /// The activity log is not maintained.
    pub const AL_DISABLED: u32 = 0x100;
}

/// Versions of the superblock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MetadataIo {
    /// Version in memory.
    pub version: u32,
    /// Version known to be on disk.
    pub stable: u32,
    /// Version that the shell is writing.
    pub writing: Option<u32>,
}

impl Disk {
    /// The superblock shall say that there is a Primary. The one on disk does not, or the one that
    /// is being written takes it back; or it is still that of `apply-al`, which says that the
    /// activity log is empty (seed 586699).
    pub(crate) const fn primary_is_due(&self) -> bool {
        let clean = self.stable_flags & flag::AL_CLEAN != 0;
        let on_disk = self.stable_flags & self.written_flags;
        let needed = self.flags & flag::PRIMARY_IND != 0;
        needed && (clean || on_disk & flag::PRIMARY_IND == 0)
    }

    /// The superblock that is being written counts on data that may be in a cache only: it takes
    /// back that there is a Primary, whose log named them, or is the first one since the attach in
    /// a state in which the disk counts.
    pub(crate) const fn counts_on_data(&self) -> bool {
        self.stable_flags & !self.written_flags & (flag::PRIMARY_IND | flag::AL_CLEAN) != 0
    }

    /// The superblock on disk, or the one that is being written, calls the data consistent.
    pub(crate) const fn is_called_consistent(&self) -> bool {
        (self.stable_flags | self.written_flags) & flag::CONSISTENT != 0
    }

    /// The generation is not that of the superblock on disk.
    pub(crate) const fn generation_is_due(&self) -> bool {
        (self.uuids.current ^ self.stable_uuids.current) & !1 != 0
    }
}

impl MetadataIo {
    /// Nothing to write.
    pub const NEW: Self = Self {
        version: 0,
        stable: 0,
        writing: None,
    };

    /// Version `needed` is on disk.
    pub const fn is_stable(&self, needed: u32) -> bool {
        // Versions wrap; half of the range counts as the past.
        self.stable.wrapping_sub(needed) < 1 << 31
    }
}

/// The disk serves a Primary that has none. One that is not good serves nobody.
fn serves(n: VolumeState) -> bool {
    n.pdsk < DiskState::Inconsistent && n.peer == Role::Primary && n.disk == DiskState::UpToDate
}

/// How far the end of the Primary's mark on disk has got.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FormerPrimary {
    /// The activity log is in use: what becomes of the last writes is not known.
    Draining,
    /// Nothing is to be done.
    #[default]
    No,
    /// The bitmap is being written.
    Writing,
}

impl Control<'_> {
    /// The superblock has changed in memory.
    pub(crate) fn dirty(&mut self, v: VolumeIndex) {
        let volume = self.vol_mut(v);
        if volume.disk.is_some() {
            volume.md.version = volume.md.version.wrapping_add(1);
        }
    }

    /// Everything written before this point is on disk (or there is none that could be written).
    pub(crate) fn metadata_stable(&self, v: VolumeIndex) -> bool {
        let volume = self.vol(v);
        let none = volume.disk.is_none() || self.is_closing_disk(v);
        none || volume.md.is_stable(volume.md.version)
    }

    /// The shell has been told to close the disk.
    fn is_closing_disk(&self, v: VolumeIndex) -> bool {
        self.vol(v).job == VolumeJob::Detach(Detach::Close)
    }

    /// The disk has gone, or is being given up: what a command has changed may not be on it.
    pub(crate) fn is_disk_lost(&self, v: VolumeIndex) -> bool {
        let volume = self.vol(v);
        let gone = volume.disk.is_none() || volume.state.disk <= DiskState::Attaching;
        gone || volume.io_error
    }

    /// Starts writing where something is dirty. Called at the end of every event.
    pub(crate) fn flush_metadata(&mut self) {
        for v in self.indices() {
            let closing = self.is_closing_disk(v);
            let volume = self.vol_mut(v);
            let idle = volume.md.writing.is_none() && !closing;
            if volume.disk.is_none() {
                volume.md.stable = volume.md.version;
                volume.md.writing = None;
            } else if idle && volume.md.stable != volume.md.version {
                volume.md.writing = Some(volume.md.version);
                self.act(Action::WriteMetadata { volume: v });
            }
        }
    }

    /// Hands the packets to the data plane whose metadata is stable, in order.
    pub(crate) fn flush_outbox(&mut self) {
        while let Some(held) = self.outbox.front() {
            let due = self.is_stable(&held) || self.is_urgent(held.volume);
            if !due || self.orders.room() < 8 {
                break;
            }
            self.outbox.pop();
            self.hand_over(held);
        }
        self.overtake_outbox();
    }

    /// A packet that does not wait any more. Of a disk that is lost what is about its resync is
    /// not sent, unless it was on disk.
    fn hand_over(&mut self, held: Held) {
        if self.is_stable(&held) || !is_about_resync(&held.order) {
            self.order(held.order);
        }
        if is_sync_uuid(&held.order) {
            // Writes have waited for it.
            self.order(Order::View(held.volume));
        }
    }

    /// P_SYNC_UUID waits for the superblock (`reference/io.md` 6.1, NEW).
    pub(super) fn holds_sync_uuid(&self, v: VolumeIndex) -> bool {
        let held = |held: Held| held.volume == v && is_sync_uuid(&held.order);
        self.outbox.iter().any(held)
    }

    fn is_stable(&self, held: &Held) -> bool {
        let v = held.volume;
        !self.exists(v) || self.vol(v).disk.is_none() || self.vol(v).md.is_stable(held.needs)
    }

    /// The disk has failed, or is gone. The peer has to know that before it gets the first write
    /// that is not on it: it alone can mark what differs.
    fn is_urgent(&self, v: VolumeIndex) -> bool {
        self.exists(v) && self.vol(v).state.disk <= DiskState::Failed
    }

    fn overtakes(&self, v: VolumeIndex) -> bool {
        let hurries = self.is_urgent(v) || (self.exists(v) && self.vol(v).resize_asked);
        hurries && self.state(v).conn >= ConnState::Connected
    }

    /// News of a failed disk do not wait for the superblock of another volume either, nor does a
    /// new size: applications write to the new space already. Behind the handshake the packets of
    /// one volume mean nothing for those of another.
    fn overtake_outbox(&mut self) {
        if self.outbox.is_empty() || !self.indices().any(|v| self.overtakes(v)) {
            return;
        }
        for _ in 0..self.outbox.len() {
            let Some(held) = self.outbox.pop() else {
                return;
            };
            let due = self.is_stable(&held) || self.is_urgent(held.volume);
            if !due || !self.overtakes(held.volume) || self.orders.room() < 8 {
                // There is room: it was just taken out.
                let _ = self.outbox.push(held);
            } else {
                self.hand_over(held);
            }
        }
    }

    /// Writes the superblock as it is now into `block` of 4096 bytes.
    ///
    /// # Errors
    ///
    /// `None` without a disk, or if the layout found at attach is impossible.
    pub fn encode_superblock(&mut self, v: VolumeIndex, block: &mut [u8]) -> Option<()> {
        let volume = self.vol_mut(v);
        let disk = volume.disk.as_mut()?;
        let facts = &disk.facts;
        let superblock = Superblock {
            la_size: SectorCount(disk.la_size),
            uuids: disk.uuids.to_set(),
            device_uuid: facts.device_uuid,
            flags: MdFlags(disk.flags & !flag::AL_CLEAN),
            magic: Magic::Unclean,
            md_size_sect: facts.md_size_sectors,
            al_offset: facts.al_offset_sectors,
            al_nr_extents: disk.config.al_extents,
            bm_offset: facts.bm_offset_sectors,
            la_peer_max_bio_bytes: facts.la_peer_max_bio_bytes.max(4096),
            striping: Striping::new(facts.al_stripes, facts.al_stripe_size_4k).ok()?,
        };
        superblock.encode(block).ok()?;
        disk.written_uuids = disk.uuids;
        disk.written_flags = disk.flags;
        let md = &mut volume.md;
        if md.writing.is_some() {
            md.writing = Some(md.version);
        }
        Some(())
    }

    /// The shell has written the superblock.
    pub(crate) fn metadata_written(&mut self, v: VolumeIndex, ok: bool) {
        let volume = self.vol_mut(v);
        let Some(written) = volume.md.writing.take() else {
            return;
        };
        // After a failure nobody waits any more: the disk is given up.
        if !ok || !chance(Unlikely::SuperblockTwice) {
            volume.md.stable = written;
        }
        if let Some(disk) = volume.disk.as_mut() {
            disk.stable_uuids = disk.written_uuids;
            disk.stable_flags = disk.written_flags;
            let off = disk.written_flags & flag::AL_DISABLED != 0 && !disk.config.al_updates;
            if off && volume.al_updates {
                volume.al_updates = false;
                self.order(Order::View(v));
            }
        }
        // Writes of a diskless peer may wait for what is on disk now.
        self.order(Order::View(v));
        if !ok {
            self.drop_sync_uuid(v);
            self.text(v, crate::log::Level::Error, "meta data update failed!");
            self.local_io_failed(v, LocalError::Metadata);
        }
    }

    /// A sync UUID that is not on disk must not get on the peer's disk: nobody would recognise it.
    /// The resync ends together with the disk.
    fn drop_sync_uuid(&mut self, v: VolumeIndex) {
        self.drop_held(v, is_about_resync);
    }

    /// The exchange that our bitmap is for has come to nothing, and another one may follow.
    pub(crate) fn keep_bitmap(&mut self, v: VolumeIndex) {
        self.vol_mut(v).bitmap_due = false;
        self.drop_held(v, |order| matches!(order, Order::SendBitmap(_)));
        self.order(Order::KeepBitmap(v));
    }

    /// Drops what waits for metadata of this volume.
    fn drop_held(&mut self, v: VolumeIndex, what: impl Fn(&Order) -> bool) {
        for _ in 0..self.outbox.len() {
            let Some(held) = self.outbox.pop() else {
                return;
            };
            if held.volume != v || !what(&held.order) {
                // There is room: it was just taken out.
                let _ = self.outbox.push(held);
            }
        }
        self.order(Order::View(v));
    }

    /// Recomputes the flags from the new state (`reference/metadata.md` 7).
    pub(crate) fn update_flags(&mut self, v: VolumeIndex, n: VolumeState) {
        let volume = self.vol(v);
        let crashed = volume.crashed_primary;
        let took_writes = volume.facts.took_writes;
        let Some(disk) = self.vol_mut(v).disk.as_mut() else {
            return;
        };
        if n.disk < DiskState::Inconsistent {
            return;
        }
        let marked = took_writes || disk.flags & flag::PRIMARY_IND != 0;
        let served = serves(n) && (marked || quirk(Quirk::GenerationForNobody));
        let rules = [
            (flag::CRASHED_PRIMARY, crashed),
            (flag::PRIMARY_IND, n.role == Role::Primary || served),
            (flag::CONNECTED_IND, n.conn > ConnState::WfReportParams),
            (flag::CONSISTENT, n.disk > DiskState::Inconsistent),
            (flag::WAS_UP_TO_DATE, n.disk > DiskState::Outdated),
            (
                flag::PEER_OUT_DATED,
                matches!(n.pdsk, DiskState::Inconsistent | DiskState::Outdated),
            ),
            (flag::AL_CLEAN, false),
        ];
        let mut flags = disk.flags;
        for (bit, set) in rules {
            flags = if set { flags | bit } else { flags & !bit };
        }
        // Only this flag makes somebody look at the activity log after a crash.
        let ends = disk.flags & !flags & flag::PRIMARY_IND != 0;
        flags |= disk.flags & flag::PRIMARY_IND;
        let changed = flags != disk.flags;
        disk.flags = flags;
        if changed {
            self.dirty(v);
        }
        let former = &mut self.vol_mut(v).former_primary;
        if !ends {
            *former = FormerPrimary::No;
        } else if *former == FormerPrimary::No {
            *former = FormerPrimary::Draining;
        }
    }

    /// The disk serves a Primary that has none, and is not marked for it yet: the peer has written
    /// nothing. It may refuse the connection, which this node has taken for made, and what it never
    /// wrote to must not count as the disk of a Primary that has crashed (seed 300449).
    pub(crate) fn awaits_writes(&self, v: VolumeIndex) -> bool {
        let disk = self.vol(v).disk;
        serves(self.state(v)) && disk.is_some_and(|disk| disk.flags & flag::PRIMARY_IND == 0)
    }

    /// The first write of a Primary without a disk waits for the mark. Returns whether anything was
    /// done.
    pub(crate) fn step_served(&mut self, v: VolumeIndex) -> bool {
        let due = self.vol(v).facts.took_writes && self.awaits_writes(v);
        if due {
            self.set_flag(v, flag::PRIMARY_IND, true);
            self.order(Order::View(v));
        }
        due
    }

    /// Once the activity log is not in use the bitmap is written, which then tells all that the log
    /// told. Returns whether anything was done.
    pub(crate) fn step_former_primary(&mut self, v: VolumeIndex) -> bool {
        let busy = self.s.job.is_some();
        let volume = self.vol(v);
        if volume.former_primary != FormerPrimary::Draining
            || volume.facts.al_used
            || volume.bitmap_io == super::Progress::Running
            || volume.job != super::VolumeJob::None
            || busy
        {
            return false;
        }
        self.vol_mut(v).former_primary = FormerPrimary::Writing;
        self.write_bitmap_soon(v);
        true
    }

    /// The bitmap is written before the disk is closed: that does as well.
    pub(crate) fn former_primary_detaches(&mut self, v: VolumeIndex) {
        let volume = self.vol_mut(v);
        if volume.former_primary == FormerPrimary::Draining && !volume.facts.al_used {
            volume.former_primary = FormerPrimary::Writing;
        }
    }

    /// The bitmap has been written.
    pub(crate) fn former_primary_ends(&mut self, v: VolumeIndex) {
        if self.vol(v).former_primary == FormerPrimary::Writing {
            self.vol_mut(v).former_primary = FormerPrimary::No;
            self.set_flag(v, flag::PRIMARY_IND, false);
            self.order(Order::View(v));
        }
    }

    /// Sets or clears one flag.
    pub(crate) fn set_flag(&mut self, v: VolumeIndex, bit: u32, set: bool) {
        let Some(disk) = self.vol_mut(v).disk.as_mut() else {
            return;
        };
        let flags = if set {
            disk.flags | bit
        } else {
            disk.flags & !bit
        };
        if flags != disk.flags {
            disk.flags = flags;
            self.dirty(v);
        }
    }

    /// Follows a change of `al-updates`. Whatever happens in between, a crash leaves either a
    /// complete activity log or the flag that says that there is none: the log is switched off
    /// after the flag is on disk, and the flag is cleared after the log has been written anew.
    pub(crate) fn switch_al_updates(&mut self, v: VolumeIndex) {
        let Some(disk) = self.vol(v).disk else { return };
        if !disk.config.al_updates {
            self.vol_mut(v).al_resuming = false;
            self.set_flag(v, flag::AL_DISABLED, true);
        } else if disk.flags & flag::AL_DISABLED != 0 && !self.vol(v).al_resuming {
            let volume = self.vol_mut(v);
            volume.al_updates = true;
            volume.al_resuming = true;
            // True until the data plane says otherwise.
            volume.facts.ring_pending = true;
            self.order(Order::View(v));
            self.order(Order::WriteRing(v));
        }
    }

    /// The activity log is complete again. Returns whether anything was done. A size that is being
    /// written ends with the flags that it began with, and this comes behind it.
    pub(crate) fn step_al_resuming(&mut self, v: VolumeIndex) -> bool {
        let volume = self.vol(v);
        if !volume.al_resuming || volume.facts.ring_pending || self.is_relaid(v) {
            return false;
        }
        // One that could not be written is not complete.
        let complete = !volume.io_error;
        self.vol_mut(v).al_resuming = false;
        if complete {
            self.set_flag(v, flag::AL_DISABLED, false);
        }
        true
    }

    /// Begins a new generation (`reference/metadata.md` 5.3).
    pub(crate) fn new_current_uuid(&mut self, v: VolumeIndex) {
        let random = self.random_uuid();
        let primary = self.vol(v).state.role == Role::Primary;
        let Some(disk) = self.vol_mut(v).disk.as_mut() else {
            return;
        };
        let old_bitmap = disk.uuids.bitmap;
        disk.uuids.new_current(random, primary);
        if old_bitmap != 0 {
            let line = crate::log::Line::Uuid {
                text: "bm UUID was already set: ",
                uuid: old_bitmap,
            };
            self.log(v, line);
        }
        self.generation_begun(v);
    }

    /// The disk is going to be written without the peer: its generation must not be that of another
    /// disk. Returns whether a new one had to begin.
    pub(crate) fn leave_generation(&mut self, v: VolumeIndex) -> bool {
        let primary = self.vol(v).state.role == Role::Primary;
        match self.vol_mut(v).disk.as_mut() {
            Some(disk) if disk.uuids.bitmap == 0 => {
                self.new_current_uuid(v);
                true
            }
            Some(disk) if disk.may_be_elsewhere() => {
                disk.uuids.branch(primary);
                self.generation_begun(v);
                true
            }
            Some(_) | None => false,
        }
    }

    fn generation_begun(&mut self, v: VolumeIndex) {
        self.differs_from_told(v);
        let volume = self.vol_mut(v);
        if let Some(disk) = volume.disk.as_mut() {
            disk.alone = true;
            volume.exposed_uuid = disk.uuids.current;
        }
        self.log_uuids(v, "new current UUID");
        self.dirty(v);
        self.order(Order::View(v));
    }

    /// Sets bit 0 of the current UUID according to the role.
    pub(crate) fn mark_primary(&mut self, v: VolumeIndex, primary: bool) {
        let volume = self.vol_mut(v);
        let Some(disk) = volume.disk.as_mut() else {
            return;
        };
        let before = disk.uuids.current;
        disk.uuids.mark_primary(primary);
        let after = disk.uuids.current;
        if volume.exposed_uuid & !1 == after & !1 {
            volume.exposed_uuid = after;
        }
        if before != after {
            self.dirty(v);
        }
    }

    /// A21 and others: reaction to a failed local request (`reference/states.md` 3.10).
    pub(crate) fn local_io_failed(&mut self, v: VolumeIndex, error: LocalError) {
        use crate::control::engine::Flags;
        use crate::log::Line;
        use crate::state::Change;
        use drbd_format::types::OnIoError;
        let Some(disk) = self.vol(v).disk else {
            return;
        };
        let state = self.vol(v).state.disk;
        let (place, data) = match error {
            LocalError::Read => ("read", true),
            LocalError::Write => ("write", true),
            LocalError::Metadata => ("metadata", false),
            LocalError::Timeout => ("disk-timeout", false),
            LocalError::Flush => ("flush", false),
        };
        if error == LocalError::Read {
            self.vol_mut(v).read_error = true;
        }
        if data && disk.config.on_io_error == OnIoError::PassOn {
            self.log(
                v,
                Line::LocalIoFailed {
                    place,
                    detaching: false,
                },
            );
            if state > DiskState::Inconsistent {
                let change = Change::disk(DiskState::Inconsistent);
                let change = match self.vol(v).state.conn {
                    // A verify would have it that the disk is good.
                    ConnState::VerifyS | ConnState::VerifyT => {
                        change.and(Change::conn(ConnState::Connected))
                    }
                    _ => change,
                };
                self.set_state(v, change, Flags::HARD);
            }
            return;
        }
        if error == LocalError::Timeout {
            self.vol_mut(v).forced_detach = true;
            if state == DiskState::Failed {
                // A detach waits for it already.
                self.order(Order::AbortLocal(v));
            }
        }
        self.vol_mut(v).io_error = true;
        if state > DiskState::Failed {
            self.set_state(v, Change::disk(DiskState::Failed), Flags::HARD);
            self.log(
                v,
                Line::LocalIoFailed {
                    place,
                    detaching: true,
                },
            );
        }
    }

    /// Nothing is out of sync. What is written from now on may be: the activity log has to tell it.
    pub(crate) fn clear_all_bits(&mut self, v: VolumeIndex) {
        self.order(Order::ResumeAl(v));
        self.order(Order::ClearAllBits(v));
    }

    /// Asks the shell to write changed bitmap pages; nobody waits for it.
    pub(crate) fn write_bitmap_soon(&mut self, v: VolumeIndex) {
        let volume = self.vol_mut(v);
        if volume.disk.is_none() || volume.state.disk <= DiskState::Attaching {
            return;
        }
        if volume.bitmap_io == super::Progress::Running {
            // Pages may have changed behind the one that is being written.
            volume.bitmap_again = true;
            return;
        }
        volume.bitmap_io = super::Progress::Running;
        self.act(Action::WriteBitmap {
            volume: v,
            all: false,
        });
    }
}

/// What a resync begins with: of no use without the disk, and a sync UUID that is on no disk must
/// not get on the peer's.
fn is_about_resync(order: &Order) -> bool {
    is_sync_uuid(order) || matches!(order, Order::SendBitmap(_))
}

fn is_sync_uuid(order: &Order) -> bool {
    matches!(order, Order::Send(item) if matches!(item.kind, ControlKind::SyncUuid(_)))
}
