//! What happens in some runs besides the faults: administrators in a hurry, devices that grow or
//! end where a page of the bitmap ends, a fencing helper that takes its time, a tiny activity log,
//! applications that write to one place twice or everywhere at once, links that break while a
//! resync begins, nodes that read from each other, metadata on devices of their own, unlikely
//! branches of the core.
//!
//! Drawn from a stream of its own, so that the faults of a seed stay what they are.

use drbd_core::action::Handler;
use drbd_core::input::Input;
use drbd_core::link::VolumeIndex;
use drbd_core::put_back::{put_back, Bug};
use drbd_format::disk::layout::{Layout, Placement, Striping};
use drbd_format::types::{ConnState, DiskState, Role};
use drbd_format::units::SectorCount;

use crate::admin::{Admin, Command};
use crate::cluster::{Actor, Cluster};
use crate::faults::{Fault, Faults};
use crate::features::Feature;
use crate::node::Core;
use crate::oracle::Promise;
use crate::random::Random;
use crate::unlikely::Branches;
use crate::world::{Event, World, MILLI, SECOND};

/// Data that fills one page of the bitmap, in sectors.
const PAGE_SECTORS: u64 = 262_144;

/// The extras of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras {
    /// Somebody is promoted the moment a connection changes.
    pub hasty: bool,
    /// The device holds so many whole pages of the bitmap, to the sector.
    pub pages: Option<u64>,
    /// The devices are this large at first, and grow.
    pub first_sectors: Option<u64>,
    /// A Primary that loses its peer has it fenced.
    pub fencing: bool,
    /// Slots of the activity log.
    pub log_slots: Option<usize>,
    /// The application writes to a place again before its first write there has ended.
    pub overlap: bool,
    /// Links break while a resync begins, often after a crash.
    pub abrupt: bool,
    /// The application writes all over a device in the moment in which it grows.
    pub rush: bool,
    /// Both nodes read from each other at times, and the first one has few buffers for it.
    pub crossed: bool,
    /// The metadata are on devices of their own, with a volatile cache or without.
    pub metadata_apart: Option<bool>,
    /// What is legal and unlikely happens in the cores.
    pub unlikely: Option<Branches>,
}

impl Extras {
    /// Draws the extras of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut r = Random::new(seed ^ 0x6578_7472_6173);
        let grows = r.chance(10);
        let exact = !grows && r.chance(4);
        // A device that grows meets a log under pressure.
        let small_log = r.chance(if grows { 60 } else { 15 });
        Self {
            hasty: r.chance(20),
            pages: exact.then(|| r.between(1, 2)),
            first_sectors: grows.then(|| r.pick(&[1_000, 30_000, PAGE_SECTORS - 8, 290_000])),
            fencing: r.chance(7),
            log_slots: small_log.then(|| r.between(2, 9) as usize),
            overlap: r.chance(15),
            abrupt: r.chance(8),
            rush: r.chance(60),
            crossed: r.chance(5),
            metadata_apart: Self::metadata_apart(seed, 10),
            unlikely: r.chance(25).then(|| Branches::all(r.draw())),
        }
    }

    /// Drawn apart: seeds without it are those that they were before any had it.
    pub fn metadata_apart(seed: u64, percent: u64) -> Option<bool> {
        let mut r = Random::new(seed ^ 0x6578_7465_726e);
        r.chance(percent).then(|| r.chance(70))
    }

    /// What the extras need of the rest.
    pub fn shape(&self, faults: &mut Faults) {
        if self.abrupt {
            faults.weights[0] = faults.weights[0].max(3);
        }
        if self.crossed {
            faults.volumes = 2;
            // Whatever else happened would keep them from it.
            faults.pause_ns = None;
            faults.depth = faults.depth.min(4);
            faults.slots = (256, 512);
            faults.disk_sectors = faults.disk_sectors.max(20_000);
            faults.network.buffer_bytes = 500;
        }
    }

    /// Size of the disks in sectors, if it matters.
    pub fn disk_sectors(&self) -> Option<u64> {
        match (self.pages, self.first_sectors) {
            (Some(pages), _) if self.metadata_apart.is_some() => Some(pages * PAGE_SECTORS),
            (Some(pages), _) => device_with(pages * PAGE_SECTORS),
            (None, Some(first)) => device_with(2 * first + 2000),
            (None, None) => None,
        }
    }
}

/// Returns the size of a device with internal metadata and so many usable sectors.
fn device_with(usable: u64) -> Option<u64> {
    (usable + 72..usable + 4096).find(|size| {
        let size = SectorCount(*size);
        let layout = Layout::compute(Placement::Internal, size, Striping::DEFAULT);
        layout.is_ok_and(|layout| layout.usable(size).0 == usable)
    })
}

/// What a node has done for applications, counted, and what it had done when it was answered that
/// I/O is suspended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Activity {
    /// Bios ended, requests given to the disk, requests that the disk has ended.
    pub counts: [u64; 3],
    /// Of the bios ended and the requests begun, those while I/O was suspended: it may go on and
    /// stop again before anybody looks.
    pub while_suspended: u64,
    /// The counts when the command was answered.
    pub suspended: Option<[u64; 3]>,
}

/// A helper that is asked before a resync.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Asked {
    handler: Handler,
    volume: Option<VolumeIndex>,
    run: u32,
}

impl World {
    /// Counts bios that have ended, or requests that the disk is given.
    pub fn count_moves(&mut self, node: usize, kind: usize, count: usize) {
        let first = VolumeIndex(0);
        let suspended = self
            .core(node)
            .is_some_and(|core| core.state(first).suspended());
        let activity = &mut self.activity[node];
        activity.counts[kind] += count as u64;
        activity.while_suspended += if suspended { count as u64 } else { 0 };
    }

    /// The pages of writes may change under way if the device does not ask for stable ones; then
    /// this guest changes them.
    pub fn edit_in_flight(&mut self, node: usize) {
        if !put_back(Bug::StablePagesLost) {
            return;
        }
        let Some(alive) = self.alive(node) else {
            return;
        };
        let bio = alive
            .app
            .iter_mut()
            .flatten()
            .find(|bio| !bio.data.is_empty());
        if let Some(first) = bio.and_then(|bio| bio.data.first_mut()) {
            *first ^= 1 << 60;
        }
    }

    /// Runs a helper. Its end comes later.
    pub(crate) fn run_helper(
        &mut self,
        node: usize,
        handler: Handler,
        volume: Option<VolumeIndex>,
        run: u32,
    ) {
        let life = self.nodes[node].life;
        let asked = matches!(
            handler,
            Handler::BeforeResyncSource | Handler::BeforeResyncTarget
        );
        if asked && self.features.has(Feature::Helpers) {
            let most = self.random.pick(&[MILLI, 300 * MILLI, 5 * SECOND]);
            let delay = self.random.between(0, most);
            let asked = Asked {
                handler,
                volume,
                run,
            };
            self.after(delay, Event::Act(Actor::Asked(node, life, asked)));
            return;
        }
        if handler != Handler::FencePeer {
            let done = Input::HelperDone {
                handler,
                volume,
                run,
                exit: 0,
            };
            self.handle(node, &done);
            return;
        }
        let most = self.random.pick(&[100 * MILLI, 2 * SECOND, 20 * SECOND]);
        let delay = self.random.between(10 * MILLI, most);
        self.after(delay, Event::Act(Actor::Fenced(node, life, run)));
    }
}

impl Cluster {
    /// Begins what the extras of this run bring.
    pub(crate) fn begin_extras(&mut self) {
        if self.faults.extras.first_sectors.is_some() {
            self.world.after(SECOND, Event::Act(Actor::Grow));
        }
        if self.faults.extras.crossed {
            self.world.after(SECOND, Event::Act(Actor::Cross));
        }
        self.begin_features();
    }

    /// The Secondary takes a new copy of one volume. Meanwhile the Primary, if it is the node with
    /// few buffers, loses its disk of the other one and reads from the Secondary.
    pub(crate) fn cross(&mut self) {
        let pause = self.world.random.between(300 * MILLI, 3 * SECOND);
        self.world.after(pause, Event::Act(Actor::Cross));
        let idle = self.admins.iter().all(Admin::is_idle);
        let promises = &self.world.oracle.promises;
        let good = [promises[0][1], promises[1][0]] == [Promise::Everything; 2];
        let in_sync = self.is_in_sync(0) && self.is_in_sync(1);
        if !idle || !good || !in_sync || self.workload.node != Some(0) {
            return;
        }
        self.admins[1].add(Command::Invalidate(1));
        let detach = Actor::Command(0, Command::Detach(0));
        let delay = self.world.random.between(MILLI, 300 * MILLI);
        self.world.after(delay, Event::Act(detach));
        for more in 0..60 {
            let at = delay + more * 20 * MILLI;
            self.world.after(at, Event::Act(Actor::ReadAll));
        }
    }

    /// A resync is about to begin: the link may break now.
    pub(crate) fn break_early(&mut self) {
        if !self.faults.extras.abrupt || self.healed {
            return;
        }
        let begins = (0..2).any(|node| {
            let conn = self.state(node, 0).map(|state| state.conn);
            conn.is_some_and(|conn| (ConnState::WfBitMapS..=ConnState::WfSyncUuid).contains(&conn))
        });
        if std::mem::replace(&mut self.begins, begins) == begins || !begins {
            return;
        }
        if self.world.random.chance(50) {
            let node = self.world.random.below(2) as usize;
            let most = 3 * self.faults.network.delay_max_ns + self.faults.disk_latency_ns.1;
            let delay = self.world.random.between(0, most);
            self.world.after(delay, Event::Act(Actor::Break(node)));
        }
    }

    /// Who knows that links break waits for the peer, which may have crashed, before a promotion.
    pub(crate) fn has_patience(&mut self) -> bool {
        let apart = (0..2).any(|node| {
            let state = self.state(node, 0);
            state.is_none_or(|state| state.conn < ConnState::Connected)
        });
        self.faults.extras.abrupt && !self.healed && apart && !self.world.random.chance(5)
    }

    /// The link breaks.
    pub(crate) fn break_link(&mut self, node: usize) {
        self.cause(Fault::Reset, node);
    }

    /// The helper that was asked before a resync agrees.
    pub(crate) fn agreed(&mut self, node: usize, life: u32, asked: Asked) {
        if !self.world.is_current(node, life) {
            return;
        }
        let done = Input::HelperDone {
            handler: asked.handler,
            volume: asked.volume,
            run: asked.run,
            exit: 0,
        };
        self.world.handle(node, &done);
    }

    /// The helper has turned the peer off, as `stonith` does.
    pub(crate) fn fenced(&mut self, node: usize, life: u32, run: u32) {
        if !self.world.is_current(node, life) {
            return;
        }
        let lost = |core: &mut Core| core.state(VolumeIndex(0)).conn < ConnState::Connected;
        if self.world.core(node).is_some_and(lost) {
            self.lose_power(1 - node);
        }
        let done = Input::HelperDone {
            handler: Handler::FencePeer,
            volume: None,
            run,
            exit: 7,
        };
        self.world.handle(node, &done);
    }

    /// All administrators give the devices more room, then one of them says so.
    pub(crate) fn grow(&mut self) {
        let pause = self.world.random.between(SECOND, 20 * SECOND);
        self.world.after(pause, Event::Act(Actor::Grow));
        let node = self.holder;
        if !self.admins[node].is_idle() || self.workload.node != Some(node) {
            return;
        }
        let volume = self.world.random.below(self.faults.volumes as u64) as u8;
        let Some(most) = self.world.usable(node, usize::from(volume)) else {
            return;
        };
        let old = self.world.sizes[usize::from(volume)];
        if old + 8 > most {
            return;
        }
        let step = self.world.random.between(8, (most - old).min(40_000));
        self.world.sizes[usize::from(volume)] = old + (step & !7);
        self.admins[node].add(Command::Resize(volume));
        if self.faults.extras.rush {
            let volume = usize::from(volume);
            self.workload.write_everywhere(&mut self.world, volume);
        }
    }

    /// A node has missed that its device may be larger now, and cannot connect.
    pub(crate) fn is_left_behind(&mut self, node: usize, volume: usize) -> bool {
        let wanted = self.world.sizes[volume];
        let Some(core) = self.world.core(node) else {
            return false;
        };
        let view = core.view(VolumeIndex(volume as u8));
        let alone = view.state.conn < ConnState::Connected;
        let attached = view.state.disk >= DiskState::Inconsistent;
        alone && attached && view.disk.disk_size_sectors != wanted
    }

    /// A connection has changed: who is in a hurry promotes a node now.
    pub(crate) fn hurry(&mut self) {
        if !self.faults.extras.hasty || !self.tended || self.workload.node.is_some() {
            return;
        }
        let conns = [0, 1].map(|node| self.state(node, 0).map(|state| state.conn));
        if std::mem::replace(&mut self.conns, conns) == conns {
            return;
        }
        let idle = self.admins.iter().all(Admin::is_idle);
        let primary = (0..2).any(|node| {
            self.state(node, 0)
                .is_some_and(|state| state.role == Role::Primary)
        });
        if idle && !primary {
            self.tend_roles();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_can_hold_whole_pages_of_the_bitmap() {
        for pages in 1..3 {
            let size = device_with(pages * PAGE_SECTORS).expect("such a size exists");
            let size = SectorCount(size);
            let layout = Layout::compute(Placement::Internal, size, Striping::DEFAULT);
            let usable = layout.map(|layout| layout.usable(size).0);
            assert_eq!(usable.ok(), Some(pages * PAGE_SECTORS));
        }
    }
}
