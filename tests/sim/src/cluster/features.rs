//! Disks that hang, and disks that failed and stayed, in runs that have them.

use drbd_core::link::VolumeIndex;
use drbd_format::types::{ConnState, DiskState, Role};

use super::{Actor, Cluster};
use crate::admin::Command;
use crate::faults::Fault;
use crate::features::Feature;
use crate::node::{Busy, Waiter};
use crate::world::{Event, MILLI, SECOND};

/// The longest that a disk does not answer: with what is behind it, shorter than anybody waits for
/// an answer of the peer.
const HANG_NS: u64 = 20 * SECOND;

impl Cluster {
    /// Begins what the features of this run bring.
    pub(crate) fn begin_features(&mut self) {
        if self.faults.features.any() {
            self.world.after(SECOND, Event::Act(Actor::Feature));
        }
    }

    /// Tells whether a disk may begin to fail. Two that fail at the same time may lose what was
    /// acknowledged, which is not what such runs are about.
    pub(super) fn may_fail(&self, node: usize) -> bool {
        let mut others = self.world.nodes[1 - node].disks.iter();
        let fails = others.any(|disk| disk.fail_reads || disk.fail_writes || disk.fail_flushes);
        !(self.faults.features.any() && fails)
    }

    /// Most often while everything is well: that is when it matters.
    pub(super) fn use_feature(&mut self) {
        self.later(20 * MILLI, SECOND, Actor::Feature);
        let well = (0..self.faults.volumes).all(|volume| self.is_in_sync(volume));
        if !well && !self.world.random.chance(20) {
            return;
        }
        let node = self.world.random.below(2) as usize;
        if let Some(fault) = self.faults.features.next(&mut self.world.random) {
            self.happened += 1;
            self.cause(fault, node);
        }
    }

    /// An administrator starts a verify. Often something happens before it ends.
    pub(super) fn verify(&mut self, node: usize, volume: u8) {
        self.admins[node].add(Command::Verify(volume));
        let random = &mut self.world.random;
        if random.chance(50) {
            let fault = random.pick(&[
                Fault::Cut,
                Fault::Detach,
                Fault::Disconnect,
                Fault::DiskError,
                Fault::DiskError,
                Fault::PowerLoss,
                Fault::Reset,
                Fault::Stall,
            ]);
            let node = random.below(2) as usize;
            self.later(0, 300 * MILLI, Actor::Cause(fault, node));
        }
    }

    /// A disk does not answer any more, for a while. Most administrators do not wait for it.
    pub(super) fn hang(&mut self, node: usize) {
        let now_ns = self.world.now_ns;
        let volume = self.world.random.below(self.faults.volumes as u64) as usize;
        let hung = self.world.hung_until_ns.iter().flatten();
        if hung.copied().any(|until_ns| now_ns < until_ns + HANG_NS) {
            // The peer's patience begins anew only after a while.
            return;
        }
        let most = self.world.random.pick(&[SECOND, HANG_NS]);
        self.world.hung_until_ns[node][volume] =
            now_ns + self.world.random.between(10 * MILLI, most);
        if self.world.random.chance(70) {
            let command = Command::ForceDetach(volume as u8);
            self.later(MILLI, most, Actor::Command(node, command));
        }
    }

    /// A disk is about to be done with something. True: it hangs, and will be later. What is read
    /// and written for the driver itself is not waited for longer than `disk-timeout`, and so only
    /// hangs without.
    pub(super) fn hangs(&mut self, event: &Event) -> bool {
        let Event::Disk {
            node,
            life,
            volume,
            request,
            waiter,
        } = *event
        else {
            return false;
        };
        let until_ns = self.world.hung_until_ns[node][usize::from(volume)];
        let timeout = self.world.features.timeout_tenths != 0;
        if self.world.now_ns >= until_ns || (timeout && matches!(waiter, Waiter::Thread(_))) {
            return false;
        }
        let delay = until_ns - self.world.now_ns + self.world.random.below(10 * MILLI);
        let event = Event::Disk {
            node,
            life,
            volume,
            request,
            waiter,
        };
        self.world.after(delay, event);
        true
    }

    /// The node has nothing more to do with the disk that it has given up.
    pub(super) fn is_closed(&self, node: usize, volume: usize) -> bool {
        if !self.world.features.has(Feature::Hangs) {
            return true;
        }
        let alive = self.world.nodes[node].alive.as_ref();
        let closing = alive.is_some_and(|alive| matches!(alive.control, Busy::CloseDisk(_)));
        !closing && self.world.nodes[node].disks[volume].running() == 0
    }

    /// A disk that failed and stayed, as `on-io-error pass-on` has it, while the peer's is good: as
    /// soon as it works again somebody attaches it anew, to have it synced.
    pub(super) fn is_left_failed(&mut self, node: usize, volume: usize) -> bool {
        if !self.world.features.has(Feature::PassOn) {
            return false;
        }
        let state = self.state(node, volume);
        let failed = state.is_some_and(|state| {
            state.conn == ConnState::Connected
                && state.disk == DiskState::Inconsistent
                && state.pdsk == DiskState::UpToDate
        });
        failed && self.may_attach(node, volume)
    }
}

impl Cluster {
    /// A disk that failed and stayed was the only good one. The node whose applications used it is
    /// told that it is good all the same: only reads may fail there.
    pub(super) fn is_failed_everywhere(&mut self, volume: usize) -> bool {
        if !self.world.features.has(Feature::PassOn) || self.faults.full_sync {
            return false;
        }
        let apart = self.healed;
        let states = [0, 1].map(|node| self.state(node, volume));
        states.iter().all(|state| {
            state.is_some_and(|state| {
                let close = apart || state.conn >= ConnState::Connected;
                close && state.disk <= DiskState::Inconsistent
            })
        }) && states[self.holder].is_some_and(|state| state.disk == DiskState::Inconsistent)
    }
}

impl crate::world::World {
    /// The disk of a node may fail something for an application or for the peer, and stay: both
    /// nodes know that the other one's disk is good, or it only fails to read while it is synced
    /// from, and nobody reads from it on the other node. Elsewhere a disk that is Inconsistent
    /// would be the only one with what was acknowledged, and the next resync, which goes by the
    /// states of the disks, might run the wrong way (`reference/metadata.md` 5.7): whoever wants
    /// `pass-on` has accepted that.
    pub(crate) fn may_fail_and_stay(
        &mut self,
        node: usize,
        volume: VolumeIndex,
        reads: bool,
    ) -> bool {
        let good = DiskState::UpToDate;
        let Some(own) = self.core(node).map(|core| core.state(volume)) else {
            return false;
        };
        if own.conn == ConnState::SyncSource {
            return reads && own.role == Role::Primary;
        }
        let has = self.core(1 - node).map(|core| core.state(volume).disk);
        own.pdsk == good && has == Some(good)
    }
}
