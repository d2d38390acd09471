//! What is lost with a connection or a node: writes on their way, and what caches held.

use drbd_core::state::VolumeState;
use drbd_format::types::{ConnState, DiskState, Role};

use super::Cluster;
use crate::node::VOLUMES;
use crate::random::Random;
use crate::shell::generation_on_disk;
use crate::workload::is_replicating;

impl Cluster {
    /// Notes on which node's disk the data of a volume are that applications use: those of a node
    /// that goes on without a good disk of its own are on the other one.
    fn note_use(&mut self, volume: usize) {
        let Some(node) = self.workload.node else {
            return;
        };
        let Some(state) = self.state(node, volume) else {
            return;
        };
        if state.role != Role::Primary {
            // It has not got that far.
        } else if state.disk > DiskState::Outdated {
            self.users[volume] = node;
        } else if state.pdsk == DiskState::UpToDate {
            let peer = 1 - node;
            if self.users[volume] != peer && self.cold[peer][volume] && self.is_of_one(volume) {
                // The own disk has gone before anybody knew that the peer had lost power (seed
                // 525301).
                let disk = &self.world.nodes[peer].disks[volume].live;
                self.world.oracle.lost_in_the_cache(volume, peer, disk);
            }
            self.users[volume] = peer;
        }
    }

    /// Notes which volumes are not replicated any more.
    pub(super) fn note_breaks(&mut self) {
        for volume in 0..self.faults.volumes {
            self.note_use(volume);
            let used = self.workload.node;
            let replicating =
                used.is_some_and(|node| is_replicating(&mut self.world, node, volume));
            let broken = self.replicating[volume] && !replicating;
            self.workload.breaks += u64::from(broken);
            // A resync may have ended on the target alone.
            if broken || !used.is_some_and(|node| self.is_connected(node, volume)) {
                self.workload
                    .lost_on_the_way(&mut self.world, |at| at == volume);
            }
            self.replicating[volume] = replicating;
        }
    }

    fn is_connected(&mut self, node: usize, volume: usize) -> bool {
        let state = self.state(node, volume);
        state.is_some_and(|state| state.conn >= ConnState::Connected)
    }

    /// Notes where a resync begins to overwrite a disk, and where one has made both equal, also if
    /// one of them changes before the pair is found at rest.
    pub(super) fn note_synced(&mut self) {
        let log = &self.world.log;
        for said in log.get(self.log_seen..).unwrap_or(&[]) {
            let Some(volume) = said.volume else { continue };
            let oracle = &mut self.world.oracle;
            if said.text.starts_with("conn( WFSyncUUID -> SyncTarget )") {
                oracle.overwritten(volume.slot(), said.node);
            }
            let done = "conn( SyncTarget -> Connected ) disk( Inconsistent -> UpToDate )";
            if said.text.starts_with(done) {
                oracle.synced(volume.slot());
                oracle.equalled(volume.slot());
                self.workload
                    .still_on_the_way(&self.world.nodes, volume.slot(), said.node);
                self.given_up[volume.slot()] = false;
                for cold in &mut self.cold {
                    cold[volume.slot()] = false;
                }
            }
        }
        self.log_seen = log.len();
    }

    /// A node stops at once.
    pub fn power_off(&mut self, node: usize) {
        if self.world.nodes[node].alive.is_none() {
            return;
        }
        let users = self.users;
        let forgotten = self.is_forgotten(node);
        let gone = |state: Option<VolumeState>| state.is_some_and(is_gone);
        let went = core::array::from_fn(|volume| gone(self.state(node, volume)));
        self.went[node] = (self.world.now_ns, went);
        let world = &mut self.world;
        world.touched[node] = true;
        world.trace(node, || "POWER LOSS".to_string());
        if node == self.holder {
            self.workload.lost_on_the_way(world, |_| true);
        }
        world.nodes[node].alive = None;
        world.hung_until_ns[node] = [0; VOLUMES];
        self.workload.lost_with_the_disk(world);
        self.cold[node] = [true; VOLUMES];
        world.net.set_life(node, None);
        let mut random = Random::new(world.random.draw());
        for disk in &mut world.nodes[node].disks {
            disk.lose_power(&mut random);
        }
        self.world.activity[node].suspended = None;
        self.admins[node].reset();
        self.workload.forget(&mut self.world, node);
        self.world
            .oracle
            .power_lost(node, |volume| users[volume] == node);
        self.lost_at_the_only_disk(node, users, forgotten);
        self.lost_before_it_was_written(node);
        if self.switch_to.is_some() {
            self.switch_to = None;
            self.workload.resting = false;
        }
    }

    /// Applications had a volume through the peer's disk last, but that is gone, too, or its node
    /// has not heard of it, and was never told of its generation: after a loss of power the
    /// Primary's disk counts as that of a crashed Primary (seeds 1200225, 416053), also if the
    /// peer had lost power before (seed 148209).
    fn is_forgotten(&mut self, node: usize) -> [bool; VOLUMES] {
        let holds = node == self.holder;
        core::array::from_fn(|volume| {
            let own = self.state(node, volume).is_some_and(is_gone);
            holds && own && self.is_deaf(1 - node, volume) && self.is_of_one(volume)
        })
    }

    /// The disk of a node is gone, or the node takes that of its peer for a good one. What it had
    /// heard when it lost power does not matter: its disk tells whether it was written.
    fn is_deaf(&mut self, node: usize, volume: usize) -> bool {
        let state = self.state(node, volume);
        state.is_none_or(|state| is_gone(state) || state.pdsk >= DiskState::Inconsistent)
    }

    /// Both nodes lose power at once, this one last: it had heard that the Primary's disk was gone,
    /// and its generation was still to be written (seed 46241).
    fn lost_before_it_was_written(&mut self, node: usize) {
        let holder = self.holder;
        let (at_ns, went) = self.went[holder];
        let both = self.world.nodes[holder].alive.is_none() && at_ns == self.world.now_ns;
        if node == holder || !both {
            return;
        }
        for volume in (0..self.faults.volumes).filter(|volume| went[*volume]) {
            if self.is_of_one(volume) {
                let disk = &self.world.nodes[holder].disks[volume].live;
                self.world.oracle.lost_in_the_cache(volume, holder, disk);
            }
        }
    }

    /// Both disks of a volume are gone, and neither was told of another generation.
    pub(super) fn are_both_forgotten(&mut self, node: usize) -> [bool; VOLUMES] {
        let holds = node == self.holder;
        core::array::from_fn(|volume| {
            let gone = [0, 1]
                .into_iter()
                .all(|node| self.state(node, volume).is_some_and(is_gone));
            holds && gone && self.is_of_one(volume)
        })
    }

    /// Both disks hold the same generation.
    fn is_of_one(&self, volume: usize) -> bool {
        let [a, b] = &self.world.nodes;
        let [a, b] = [a, b].map(|node| node.disks.get(volume).and_then(generation_on_disk));
        a == b
    }

    /// A Primary has stepped back whose generation neither disk was told of: what only the peer's
    /// one has is lost (seed 208446).
    ///
    /// Or the peer's is attached already, and its node is not connected (seed 30963): it may be
    /// promoted then as well as the one with the other disk. Or it is about to be: if its node does
    /// not hear of the step back first, it begins a generation for the Primary that it still sees
    /// (seed 457522), and the disk of that one is what loses.
    pub(super) fn lost_with_the_role(&mut self, node: usize, volume: usize) {
        let peer = 1 - node;
        let state = self.state(peer, volume);
        let alone = state.is_some_and(|s| !is_gone(s) && s.conn < ConnState::WfReportParams);
        let gone = self.state(node, volume).is_some_and(is_gone);
        let either = node == self.holder && gone && alone && self.is_of_one(volume);
        let both = self.are_both_forgotten(node)[volume];
        let attaches = both && state.is_some_and(|s| s.disk == DiskState::Negotiating);
        if either || both {
            let disk = &self.world.nodes[node].disks[volume].live;
            self.world.oracle.lost_in_the_cache(volume, node, disk);
        }
        if either || attaches {
            let disk = &self.world.nodes[peer].disks[volume].live;
            self.world.oracle.lost_in_the_cache(volume, peer, disk);
        }
    }

    /// The Primary has only the disk of a node that has lost power, or the one that it had itself
    /// (`forgotten`): what it has not made stable there is gone.
    fn lost_at_the_only_disk(
        &mut self,
        node: usize,
        users: [usize; VOLUMES],
        forgotten: [bool; VOLUMES],
    ) {
        for volume in 0..self.faults.volumes {
            if forgotten[volume] || (node != self.holder && users[volume] == node) {
                let disk = &self.world.nodes[node].disks[volume].live;
                self.world.oracle.lost_in_the_cache(volume, node, disk);
            }
        }
    }
}

fn is_gone(state: VolumeState) -> bool {
    state.disk < DiskState::Inconsistent
}
