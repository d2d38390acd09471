//! Sizes: what the device's size is, and how both nodes come to the same
//! (`reference/wire.md` 4.5, `reference/metadata.md` 6.6).

use drbd_format::types::{ConnState, DiskState, Role};
use drbd_format::units::SectorCount;
use drbd_format::wire::features::FeatureFlags;
use drbd_format::wire::payload::DISCARD_BYTES_MAX;
use drbd_format::wire::settings::{QueueLimits, SizeFlags, Sizes};

use super::engine::Flags;
use super::jobs::{Relayout, VolumeJob};
use super::metadata::flag;
use super::packets::{Handled, Pending};
use super::Control;
use crate::action::Action;
use crate::link::{ControlKind, LinkError, Order, Side, VolumeIndex};
use crate::log::{Level, Line};
use crate::put_back::{put_back, Bug};
use crate::state::{mask, Change, VolumeState};

/// Largest request of all, in bytes.
const BIO_MAX: u32 = 1 << 20;
/// Smallest request that every peer takes, in bytes.
const BIO_MIN: u32 = 4096;

/// The smaller of two numbers of which 0 means "not set".
fn min_set(a: u64, b: u64) -> u64 {
    match (a, b) {
        (0, set) | (set, 0) => set,
        (a, b) => a.min(b),
    }
}

/// The larger of two limits of which 0 means "none".
fn wider(a: u64, b: u64) -> u64 {
    if a == 0 || b == 0 {
        0
    } else {
        a.max(b)
    }
}

/// Returns the size that follows from the peer's maximum, the own maximum, the last agreed size
/// and the user's limit, 0 standing for "unknown" or "none" (`reference/metadata.md` 6.6, 2 to 4).
/// The second value is the size without the user's limit if that was too big.
pub fn agreed_size(peer: u64, own: u64, last: u64, user: u64) -> (u64, Option<u64>) {
    let size = if peer != 0 && own != 0 {
        peer.min(own)
    } else if last != 0 {
        min_set(last, min_set(own, peer))
    } else {
        peer.max(own)
    };
    if user == 0 {
        (size, None)
    } else if user > size {
        (size, Some(size))
    } else {
        (user, None)
    }
}

impl Control<'_> {
    /// Largest request towards peer and disk, in bytes.
    pub(crate) fn max_bio_bytes(&self, v: VolumeIndex) -> u32 {
        let volume = self.vol(v);
        let own = volume.disk.map_or(BIO_MAX, |disk| disk.facts.max_bio_bytes);
        let peer = match (volume.peer.max_bio_bytes, volume.disk) {
            (0, Some(disk)) => disk.facts.la_peer_max_bio_bytes.max(BIO_MIN),
            (0, None) => BIO_MAX,
            (reported, _) => {
                let version = self.version();
                let cap = match version {
                    ..=94 => 32 << 10,
                    95..=99 => 128 << 10,
                    _ => BIO_MAX,
                };
                if version == 94 {
                    cap
                } else {
                    reported.max(reported.min(cap))
                }
            }
        };
        BIO_MAX.min(own).min(peer).max(BIO_MIN)
    }

    /// Tells the shell the queue limits (`reference/io.md` 5.1).
    pub(crate) fn set_limits(&mut self, v: VolumeIndex) {
        let max_bio_bytes = self.max_bio_bytes(v);
        let linked = self.s.link.protocol_seen;
        let disk = self.vol(v).disk;
        let peer_can = |flag| !linked || self.feature(flag);
        let discard = disk.is_none_or(|disk| disk.facts.discard) && peer_can(FeatureFlags::TRIM);
        let write_zeroes = peer_can(FeatureFlags::WZEROES)
            && self.s.net.is_none_or(|net| net.integrity_alg.is_empty());
        let most = if linked {
            self.s.link.terms.discard_bytes_max()
        } else {
            DISCARD_BYTES_MAX
        };
        let if_offered = |offered| if offered { most } else { 0 };
        self.act(Action::SetLimits {
            volume: v,
            max_bio_bytes,
            max_discard_bytes: if_offered(discard),
            max_write_zeroes_bytes: if_offered(write_zeroes),
        });
    }

    /// The contents of P_SIZES.
    pub(crate) fn own_sizes(&self, v: VolumeIndex, trigger_reply: bool, flags: u16) -> Sizes {
        let volume = self.vol(v);
        let disk = volume
            .disk
            .filter(|_| volume.state.disk >= DiskState::Negotiating);
        let cap = match self.version() {
            ..=94 => 32 << 10,
            95..=99 => 128 << 10,
            _ => BIO_MAX,
        };
        let queue = QueueLimits {
            physical_block_size: disk.map_or(512, |disk| disk.facts.physical_block_bytes),
            logical_block_size: disk.map_or(512, |disk| disk.facts.logical_block_bytes),
            alignment_offset: disk.map_or(0, |disk| disk.facts.alignment_offset),
            io_min: disk.map_or(512, |disk| disk.facts.io_min_bytes),
            io_opt: disk.map_or(0, |disk| disk.facts.io_opt_bytes),
            discard_enabled: disk.is_none_or(|disk| disk.facts.discard),
            discard_zeroes_data: false,
            write_same_capable: false,
        };
        Sizes {
            disk: SectorCount(disk.map_or(0, |disk| disk.facts.max_capacity_sectors)),
            user: SectorCount(disk.map_or(0, |disk| disk.config.disk_size_sectors)),
            current: SectorCount(if trigger_reply { 0 } else { volume.capacity }),
            max_bio_bytes: disk
                .map_or(BIO_MAX, |disk| disk.facts.max_bio_bytes)
                .min(cap),
            queue_order_type: 0,
            flags: SizeFlags(flags),
            queue: self.feature(FeatureFlags::WSAME).then_some(queue),
        }
    }

    /// Tells the peer the sizes. NEW: it takes over the limit of a command, and one that is smaller
    /// than its own, perhaps without an answer: what it last said does not hold any more then.
    pub(crate) fn send_sizes(&mut self, v: VolumeIndex, trigger_reply: bool, flags: u16) {
        let volume = self.vol_mut(v);
        let attached = volume.state.disk >= DiskState::Negotiating;
        if let Some(disk) = volume.disk.filter(|_| attached) {
            let limit = disk.config.disk_size_sectors;
            let peer = &mut volume.peer.user_sectors;
            *peer = if trigger_reply {
                limit
            } else {
                min_set(*peer, limit)
            };
        }
        self.send(
            v,
            ControlKind::Sizes {
                trigger_reply,
                flags,
            },
        );
    }

    /// P_SIZES.
    pub(crate) fn receive_sizes(&mut self, v: VolumeIndex, sizes: &Sizes) -> Handled {
        let state = self.state(v);
        if state.disk == DiskState::Attaching && self.vol(v).disk.is_some() {
            return self.size_while_attaching(v, sizes);
        }
        if self.is_early_for_size(v) {
            let (volume, sizes) = (v, *sizes);
            self.s.link.pending = Some(Pending::EarlySizes { volume, sizes });
            return Handled::Wait;
        }
        let (peer_disk, peer_user) = (sizes.disk.0, sizes.user.0);
        let crosses = self.vol(v).resize_asked;
        let late = self.note_peer_sizes(v, sizes);
        let disk = self
            .vol(v)
            .disk
            .filter(|_| state.disk >= DiskState::Negotiating);
        let Some(disk) = disk else {
            let handled = self.size_without_disk(v, sizes.current.0, peer_user, peer_disk);
            self.set_limits(v);
            return handled;
        };
        let own_user = disk.config.disk_size_sectors;
        let user = if late && peer_user < self.vol(v).capacity {
            own_user
        } else {
            self.agreed_limit(v, sizes, own_user, crosses)
        };
        if peer_disk != 0 {
            // The peer has come to the same, or does when it hears of ours.
            self.vol_mut(v).peer.user_sectors = user;
        }
        let own = disk.facts.max_capacity_sectors;
        if peer_disk != 0 && own.abs_diff(peer_disk) > own / 8 {
            let peer = peer_disk;
            self.log(v, Line::SizesDiffer { own, peer });
        }
        let (new, _) = agreed_size(peer_disk, own, disk.la_size, user);
        let old = self.vol(v).capacity;
        let alone = state.conn < ConnState::Connected || state.pdsk == DiskState::Diskless;
        if new < old && state.disk >= DiskState::Outdated && alone {
            let device = false;
            self.log(v, Line::PeerTooSmall { device, new, old });
            return Handled::Fail(LinkError::StandAlone);
        }
        if user != own_user {
            self.adopt_user_size(v, user, own_user);
        }
        self.set_limits(v);
        let flags = sizes.flags.0;
        let set_new_bits = flags & SizeFlags::NO_RESYNC.0 == 0;
        let changed = self.apply_size(v, new, set_new_bits);
        // While connecting the exchange of the bitmaps sees to the new space, and a resync that has
        // begun to what is marked.
        let idle = state.conn == ConnState::Connected;
        if changed && old != 0 && set_new_bits && idle {
            self.note_growth(v, old, new, crosses);
        }
        let established = state.conn > ConnState::WfReportParams;
        let reply = established && (changed || sizes.current.0 != self.vol(v).capacity);
        let reply = self.put_off_answer(v, sizes, old, reply.then_some(flags));
        if changed {
            self.s.link.pending = Some(Pending::Sizes { volume: v, reply });
            return Handled::Wait;
        }
        self.sizes_applied(v, reply)
    }

    /// A C driver that resizes may agree to our verify before we hear of the size. It syncs the new
    /// space when it hears the answer, but not during a verify: the answer waits for the end.
    fn put_off_answer(
        &mut self,
        v: VolumeIndex,
        sizes: &Sizes,
        old: u64,
        reply: Option<u16>,
    ) -> Option<u16> {
        let volume = self.vol_mut(v);
        let commanded = sizes.current.0 == 0;
        let syncs = sizes.flags.0 & SizeFlags::NO_RESYNC.0 == 0;
        let grows = old != 0 && volume.capacity > old && syncs;
        if volume.state.conn != ConnState::VerifyS || !commanded || !grows {
            return reply;
        }
        volume.size_answer = reply;
        volume.resized_from = old;
        None
    }

    /// Our verify is over during which the peer told a larger size.
    pub(crate) fn answer_behind_verify(&mut self, v: VolumeIndex) {
        let state = self.vol(v).state;
        if state.conn != ConnState::Connected || self.is_relaid(v) {
            return;
        }
        let Some(flags) = self.vol_mut(v).size_answer.take() else {
            return;
        };
        self.send_sizes(v, false, flags);
        if state.disk.min(state.pdsk) >= DiskState::Inconsistent {
            let volume = self.vol_mut(v);
            volume.grown |= volume.capacity > volume.resized_from;
            self.sync_grown_after_all(v);
        }
    }

    /// Returns the user's limit that both nodes are to have. NEW: only the command to resize takes
    /// the place of another limit. What a node says of itself, for a disk that it attaches or as an
    /// answer, may be what it is just giving up: both would exchange their limits for ever.
    fn agreed_limit(&self, v: VolumeIndex, sizes: &Sizes, own: u64, crosses: bool) -> u64 {
        let connecting = self.vol(v).state.conn == ConnState::WfReportParams;
        let commanded = sizes.current.0 == 0 && !connecting;
        let peer = sizes.user.0;
        if sizes.disk.0 == 0 {
            // Without a disk there is no limit to tell.
            own
        } else if !commanded {
            min_set(own, peer)
        } else if crosses {
            // Both nodes resize at once. Neither is to cut off what it has just got, or to get back
            // what it has just cut off.
            let before = self.vol(v).resized_from;
            let shrinks = |limit: u64| limit != 0 && limit < before;
            if shrinks(own) || shrinks(peer) {
                min_set(own, peer)
            } else {
                wider(own, peer)
            }
        } else {
            peer
        }
    }

    /// Remembers whether there is space that nobody has synced, other than before all resizes that
    /// have crossed each other.
    fn note_growth(&mut self, v: VolumeIndex, old: u64, new: u64, crosses: bool) {
        let volume = self.vol_mut(v);
        if !crosses && !volume.grown {
            volume.resized_from = old;
        }
        volume.grown = new > volume.resized_from;
    }

    /// The disk that is being attached has its size already, and is to tell of it. A new limit is
    /// for it as well.
    fn size_while_attaching(&mut self, v: VolumeIndex, sizes: &Sizes) -> Handled {
        let _ = self.note_peer_sizes(v, sizes);
        let own = self.vol(v).disk.map(|disk| disk.config.disk_size_sectors);
        if sizes.current.0 == 0 && sizes.disk.0 != 0 && own != Some(sizes.user.0) {
            self.adopt_user_size(v, sizes.user.0, own.unwrap_or(0));
        }
        self.set_limits(v);
        Handled::Done
    }

    /// All bits are being set for a resync that begins, one that has ended is about to end here as
    /// well, another size is being written, or the peer has been asked about our role, by which it
    /// and we tell who syncs the new space.
    pub(crate) fn is_early_for_size(&self, v: VolumeIndex) -> bool {
        let job = self.vol(v).job;
        let asks = self
            .s
            .two_phase
            .is_some_and(|asked| asked.volume == Some(v) && asked.change.names(mask::ROLE));
        asks || matches!(
            job,
            VolumeJob::SetAll(..) | VolumeJob::Finish { .. } | VolumeJob::Relayout(_)
        )
    }

    /// The nodes are about to agree on a size, and on who syncs the new space. That follows from
    /// the roles: they stay as they are until then.
    pub(crate) fn size_is_open(&self, v: VolumeIndex) -> bool {
        let volume = self.vol(v);
        let state = volume.state;
        let usable = state.disk.min(state.pdsk) >= DiskState::Inconsistent;
        state.conn == ConnState::Connected
            && (volume.resize_asked || self.size_applies(v) || (volume.grown && usable))
    }

    /// A size of the peer's is being written; the answer goes when that is done.
    fn size_applies(&self, v: VolumeIndex) -> bool {
        matches!(self.s.link.pending, Some(Pending::Sizes { volume, .. }) if volume == v)
    }

    fn adopt_user_size(&mut self, v: VolumeIndex, new: u64, old: u64) {
        if let Some(disk) = self.vol_mut(v).disk.as_mut() {
            disk.config.disk_size_sectors = new;
        }
        self.log(v, Line::PeerSetsSize { new, old });
    }

    /// Remembers what the peer says about its disk. Returns whether it may have said so late
    /// ([`Self::may_be_late`]).
    fn note_peer_sizes(&mut self, v: VolumeIndex, sizes: &Sizes) -> bool {
        let max_bio_bytes = sizes.max_bio_bytes.clamp(BIO_MIN, BIO_MAX);
        let late = self.may_be_late(v, sizes);
        let volume = self.vol_mut(v);
        volume.peer.disk_sectors = sizes.disk.0;
        volume.peer.user_sectors = sizes.user.0;
        // What is no command may be the answer to the own one.
        let answered = volume.resize_asked && sizes.current.0 != 0;
        volume.resize_asked &= !answered;
        if late && !answered {
            volume.late_answers -= 1;
        }
        volume.peer.max_bio_bytes = max_bio_bytes;
        if let Some(disk) = volume.disk.as_mut() {
            disk.facts.la_peer_max_bio_bytes = max_bio_bytes;
        }
        if answered {
            // Congestion is looked for once more.
            self.order(Order::View(v));
        }
        late
    }

    /// Tells whether the peer may have said this when it heard of a size other than the last one
    /// it was told of. NEW: a limit below the present size counts for nothing then. The peer takes
    /// over the last one when it hears of that, and the one it names would take that back here.
    ///
    /// Our nodes have not answered to sizes that they heard of without a disk. As many answers to
    /// other sizes count as late then, to no harm: they name what was told here. What a peer says
    /// first when it has a disk again is no answer: it is about that disk.
    fn may_be_late(&self, v: VolumeIndex, sizes: &Sizes) -> bool {
        let volume = self.vol(v);
        let attaches = volume.state.pdsk < DiskState::Failed && sizes.disk.0 != 0;
        volume.late_answers > 0 && sizes.current.0 != 0 && !attaches
    }

    /// Nobody waits any more for the answer to a size that the peer was told of, if it is gone or
    /// its disk. In the latter case it may still come.
    pub(crate) fn forget_answer(&mut self, v: VolumeIndex, n: VolumeState) {
        let volume = self.vol_mut(v);
        if n.conn < ConnState::Connected {
            volume.size_answer = None;
            volume.resize_asked = false;
            volume.late_answers = 0;
        } else if n.pdsk < DiskState::Failed && volume.resize_asked {
            volume.resize_asked = false;
            volume.late_answers = volume.late_answers.saturating_add(1);
        }
    }

    /// The rest of P_SIZES, once a new size has been written.
    pub(crate) fn sizes_applied(&mut self, v: VolumeIndex, reply: Option<u16>) -> Handled {
        if self.is_relaid(v) {
            return Handled::Wait;
        }
        if let Some(flags) = reply {
            self.send_sizes(v, false, flags);
        }
        self.answer_behind_verify(v);
        if self.vol(v).grown && self.vol(v).state.conn == ConnState::Connected {
            let state = self.vol(v).state;
            if state.disk >= DiskState::Inconsistent && state.pdsk >= DiskState::Inconsistent {
                self.sync_grown(v);
            }
        }
        Handled::Done
    }

    fn size_without_disk(&mut self, v: VolumeIndex, current: u64, user: u64, disk: u64) -> Handled {
        let new = [current, user, disk]
            .into_iter()
            .find(|&size| size != 0)
            .unwrap_or(0);
        let old = self.vol(v).capacity;
        if new == 0 || new == old || (disk == 0 && old != 0) {
            return Handled::Done;
        }
        if new < old && self.vol(v).state.role == Role::Primary {
            self.log(
                v,
                Line::PeerTooSmall {
                    device: true,
                    new,
                    old,
                },
            );
            return Handled::Fail(LinkError::StandAlone);
        }
        self.change_capacity(v, new);
        Handled::Done
    }

    pub(crate) fn change_capacity(&mut self, v: VolumeIndex, new: u64) {
        self.vol_mut(v).capacity = new;
        self.log(v, Line::Size { kib: new >> 1 });
        self.act(Action::SetCapacity {
            volume: v,
            capacity: SectorCount(new),
        });
        self.order(Order::View(v));
    }

    /// Gives an attached device a new size, if it is one. Returns whether the metadata is being
    /// rewritten (a [`VolumeJob::Relayout`] runs).
    pub(crate) fn apply_size(&mut self, v: VolumeIndex, new: u64, set_new_bits: bool) -> bool {
        let volume = self.vol(v);
        let Some(disk) = volume.disk else {
            return false;
        };
        // While attaching the data plane takes the size from the view.
        let volume_attached = volume.state.disk >= DiskState::Negotiating;
        let old_size = volume.capacity;
        let same_size = old_size == new;
        if same_size && disk.la_size == new {
            return false;
        }
        let bits = SectorCount(new).bits().0;
        if !same_size {
            self.change_capacity(v, new);
            self.log(v, Line::BitmapSize { bits });
        }
        self.order(Order::View(v));
        if volume_attached {
            self.order(Order::Resize {
                volume: v,
                capacity: SectorCount(new),
                set_new_bits,
            });
        }
        let agreed_before = disk.la_size;
        if agreed_before == new || (old_size != 0 && put_back(Bug::MetadataNotWrittenOnResize)) {
            return false;
        }
        let flags = disk.flags;
        if let Some(disk) = self.vol_mut(v).disk.as_mut() {
            disk.la_size = new;
            disk.flags |= flag::FULL_SYNC | flag::AL_DISABLED;
        }
        self.dirty(v);
        let volume = self.vol_mut(v);
        volume.blocks = volume.blocks.saturating_add(1);
        volume.job = VolumeJob::Relayout(Relayout::Guard { flags });
        self.order(Order::View(v));
        true
    }

    /// Tells which node is the source of space that nobody has written to.
    pub(crate) fn gives_new_space(&self, own: Role, peer: Role) -> bool {
        match (own, peer) {
            (Role::Primary, Role::Primary) | (Role::Secondary, Role::Secondary) => {
                self.s.link.resolver
            }
            (Role::Primary, _) => true,
            _ => false,
        }
    }

    /// Syncs the space by which the device has grown, unless the peer has been asked for something
    /// that takes its place: it may be about to begin that.
    pub(crate) fn sync_grown(&mut self, v: VolumeIndex) {
        let asks = self
            .s
            .two_phase
            .is_some_and(|asked| asked.volume == Some(v) && asked.change.names(mask::CONN));
        if !asks {
            self.vol_mut(v).grown = false;
            self.resync_after_grow(v);
        }
    }

    /// A change of state finds new space. The peer that is to answer with its size may have changed
    /// its role before it heard of ours: until then only a single Primary knows that it is the
    /// source. A peer that waits for our answer does not begin before it, either. If the nodes have
    /// to connect anew, the peer is to have heard of the size: its older limit would win.
    pub(crate) fn sync_grown_early(&mut self, v: VolumeIndex) {
        let volume = self.vol(v);
        let alone = volume.state.role == Role::Primary
            && volume.state.peer != Role::Primary
            && !volume.state.lacks_a_sync();
        if (alone || !volume.resize_asked) && !self.size_applies(v) {
            self.sync_grown(v);
        }
    }

    /// What the peer was asked for has come to nothing: the new space is still to be synced, if
    /// both nodes have got that far.
    pub(crate) fn sync_grown_after_all(&mut self, v: VolumeIndex) {
        let volume = self.vol(v);
        let usable = volume.state.disk.min(volume.state.pdsk) >= DiskState::Inconsistent;
        if volume.grown && !volume.resize_asked && usable && !self.size_applies(v) {
            self.sync_grown(v);
        }
    }

    /// Syncs the space by which the device has grown (`reference/metadata.md` 6.6).
    fn resync_after_grow(&mut self, v: VolumeIndex) {
        let state = self.state(v);
        if state.conn != ConnState::Connected {
            return;
        }
        if state.lacks_a_sync() {
            // By the roles it might be the source, and what is marked is not the same on both.
            let text = "The device grew while a disk is Inconsistent; connecting anew.";
            self.text(v, Level::Warning, text);
            self.link_failed(LinkError::ProtocolError);
            return;
        }
        self.text(v, Level::Info, "Resync of new storage after online grow");
        if self.gives_new_space(state.role, state.peer) {
            self.start_resync(v, Side::Source);
        } else {
            self.vol_mut(v).lacks_new_space = state.disk == DiskState::UpToDate;
            self.set_state(v, Change::conn(ConnState::WfSyncUuid), Flags::VERBOSE);
        }
    }

    /// The peer's disk is gone before it could sync the new space. What applications have is on the
    /// own disk, and what a diskless Primary writes from now on is nowhere else.
    pub(crate) fn keep_old_space(&mut self, v: VolumeIndex, o: VolumeState, n: VolumeState) {
        let waited = o.conn == ConnState::WfSyncUuid && n.conn != ConnState::WfSyncUuid;
        if !waited || !core::mem::take(&mut self.vol_mut(v).lacks_new_space) {
            return;
        }
        let state = self.state(v);
        let left = state.conn == ConnState::Connected && state.pdsk < DiskState::Inconsistent;
        if !left || state.disk != DiskState::Outdated {
            return;
        }
        self.set_state(v, Change::disk(DiskState::UpToDate), Flags::VERBOSE);
        if state.peer == Role::Primary {
            self.vol_mut(v).uuid_due_if_taken = true;
            self.begin_generation_if_taken(v);
        }
        self.send_uuids_and_state(v);
    }
}

#[cfg(test)]
mod tests {
    use super::agreed_size;

    #[test]
    fn both_nodes_come_to_the_same_size_and_an_unconnected_node_never_grows() {
        assert_eq!(agreed_size(100, 80, 50, 0), (80, None));
        assert_eq!(agreed_size(80, 100, 50, 0), (80, None));
        assert_eq!(
            agreed_size(0, 100, 50, 0),
            (50, None),
            "la wins without a peer"
        );
        assert_eq!(agreed_size(0, 40, 50, 0), (40, None));
        assert_eq!(agreed_size(0, 100, 0, 0), (100, None), "never agreed");
        assert_eq!(agreed_size(0, 100, 0, 60), (60, None));
        assert_eq!(agreed_size(0, 100, 0, 160), (100, Some(100)));
        for peer in 0..4 {
            for own in 0..4 {
                for last in 0..4 {
                    for user in 0..4 {
                        let (size, _) = agreed_size(peer, own, last, user);
                        if own != 0 {
                            assert!(size <= own);
                        }
                        assert_eq!(
                            agreed_size(own, peer, last, user).0,
                            size,
                            "peers must agree"
                        );
                    }
                }
            }
        }
    }
}
