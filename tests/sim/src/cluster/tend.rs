//! Administrators who look after the cluster: they bring up what is down, keep one node Primary and
//! decide what a person has to decide.

use drbd_core::request::Op;
use drbd_format::netlink::codes::RetCode;
use drbd_format::types::{ConnState, DiskState, Role};

use super::Cluster;
use crate::admin::{is_success, Admin, Command};
use crate::oracle::{Promise, Write};

/// Looks after which I/O that is frozen for lack of data is resumed.
const FROZEN_LOOKS: u32 = 10;

impl Cluster {
    pub(super) fn tend(&mut self) {
        for node in 0..2 {
            self.give_up_split(node);
            self.tend_node(node);
        }
        self.give_up_newer();
        self.begin_anew();
        self.help_c();
        self.tend_roles();
    }

    fn tend_node(&mut self, node: usize) {
        if !self.admins[node].is_idle() {
            return;
        }
        let mut commands = Vec::new();
        let mut kept_out = false;
        let mut attached = true;
        let given_up = self.is_frozen_for_good(node);
        for volume in 0..self.faults.volumes {
            let Some(state) = self.state(node, volume) else {
                return;
            };
            attached &= state.disk >= DiskState::Inconsistent;
            let v = volume as u8;
            if (state.susp || given_up) && self.healed {
                commands.push(Command::ResumeIo(v));
            }
            if state.user_isp && self.healed {
                commands.push(Command::ResumeSync(v));
            }
            if self.is_left_behind(node, volume) {
                let primary = state.role == Role::Primary;
                let resize = primary && self.healed;
                if resize {
                    commands.push(Command::Resize(v));
                } else if !primary {
                    commands.push(Command::Detach(v));
                }
            }
            if self.is_left_failed(node, volume) {
                commands.push(Command::Detach(v));
            }
            if state.disk == DiskState::Diskless && self.may_attach(node, volume) {
                commands.push(Command::Attach(v));
                kept_out |= state.conn >= ConnState::Connected;
            }
            if state.conn == ConnState::StandAlone && !self.apart {
                let victim = self.gives_way(node);
                if victim && state.role == Role::Primary {
                    commands.push(Command::Secondary(v));
                } else if volume == 0 {
                    commands.push(Command::Connect(victim));
                    self.refused += u32::from(!victim && state.role == Role::Primary);
                }
            }
            if state.conn >= ConnState::Connected {
                self.refused = 0;
            }
        }
        for command in commands {
            self.admins[node].add(command);
        }
        self.kept_out[node] += u32::from(kept_out);
        if attached {
            self.kept_out[node] = 0;
        }
    }

    /// Data do not come back to a node whose I/O is frozen for that: its applications are told.
    fn is_frozen_for_good(&mut self, node: usize) -> bool {
        let frozen = self.state(node, 0).is_some_and(|state| state.susp_nod);
        if !frozen || !self.healed {
            self.frozen[node] = 0;
            return false;
        }
        self.frozen[node] += 1;
        self.frozen[node] % FROZEN_LOOKS == 0
    }

    /// The newest generation is on a disk whose data nobody wants any more: it is given up.
    fn give_up_newer(&mut self) {
        let victim = 1 - self.holder;
        if self.refused < 5 || !self.healed || !self.admins[victim].is_idle() {
            return;
        }
        self.refused = 0;
        self.admins[victim].add(Command::Disconnect);
        let mut worthy = false;
        for volume in 0..self.faults.volumes {
            let good = self
                .state(self.holder, volume)
                .is_some_and(|state| state.disk == DiskState::UpToDate);
            if good && self.world.oracle.promises[volume][victim] == Promise::Nothing {
                self.admins[victim].add(Command::Invalidate(volume as u8));
            } else {
                worthy = true;
            }
        }
        self.admins[victim].add(Command::Connect(!worthy));
        if worthy {
            // The newest generation has what was acknowledged: the Primary becomes the target.
            self.give_up_role(self.holder);
        }
    }

    /// So much has happened behind a split brain that the nodes know of no common generation any
    /// more: the disk whose data nobody wants gets new metadata (seed 224676).
    fn begin_anew(&mut self) {
        let victim = 1 - self.holder;
        if !self.healed || !self.admins[victim].is_idle() {
            return;
        }
        for volume in 0..self.faults.volumes {
            let promised = self.world.oracle.promises[volume][victim] != Promise::Nothing;
            if self.world.unrelated[volume].said < 20 || promised {
                continue;
            }
            self.world.unrelated[volume].said = 0;
            let v = volume as u8;
            let steps = [
                Command::Disconnect,
                Command::Secondary(v),
                Command::Detach(v),
                Command::CreateMetadata(v),
                Command::Attach(v),
            ];
            for step in steps {
                self.admins[victim].add(step);
            }
        }
    }

    /// A node has only its peer's disk; its own one is from the other side of a split brain. It
    /// steps back and connects once more, with its disk, whose data it gives up: that of all
    /// volumes, or only those of which the peer has the better data.
    fn give_up_split(&mut self, node: usize) {
        let volumes = self.faults.volumes;
        if self.kept_out[node] < 5 || !self.healed || !self.admins[node].is_idle() {
            return;
        }
        if !self.workload.leave(&mut self.world, node, volumes) {
            return;
        }
        self.kept_out[node] = 0;
        let primary: Vec<bool> = (0..volumes)
            .map(|volume| {
                let state = self.state(node, volume);
                state.is_some_and(|state| state.role == Role::Primary)
            })
            .collect();
        // Only a connection as a whole can be told to discard data.
        let promises = &self.world.oracle.promises[..volumes];
        let poor = |promises: &[Promise; 2], node: usize| promises[node] == Promise::Nothing;
        let better = |both: &[Promise; 2], node: usize| !poor(both, node) && poor(both, 1 - node);
        let worthy = promises.iter().any(|both| better(both, node));
        let admin = &mut self.admins[node];
        for (volume, _) in (0..).zip(primary).filter(|(_, primary)| *primary) {
            admin.add(Command::Secondary(volume));
        }
        admin.add(Command::Disconnect);
        for volume in 0..volumes as u8 {
            admin.add(Command::Attach(volume));
        }
        for (volume, both) in (0..).zip(promises) {
            if worthy && better(both, 1 - node) {
                admin.add(Command::Invalidate(volume));
            }
        }
        admin.add(Command::Connect(!worthy));
    }

    /// Both disks have gone, and that of the Primary before it could write down that it was alone:
    /// no node can tell that this one is older. Who knows it attaches the other one first (seed
    /// 204913).
    fn comes_second(&mut self, node: usize, volume: usize) -> bool {
        let promises = self.world.oracle.promises[volume];
        let worse = promises[node] == Promise::Nothing && promises[1 - node] != Promise::Nothing;
        self.healed && worse && node != self.holder && self.are_both_forgotten(self.holder)[volume]
    }

    pub(super) fn may_attach(&mut self, node: usize, volume: usize) -> bool {
        let disk = &self.world.nodes[node].disks[volume];
        let works = !disk.fail_reads && !disk.fail_writes && !disk.fail_flushes;
        works
            && self.is_closed(node, volume)
            && !self.comes_second(node, volume)
            && (self.healed || self.world.random.chance(30))
    }

    pub(crate) fn tend_roles(&mut self) {
        if let Some(to) = self.switch_to {
            self.tend_switch(to);
            return;
        }
        if !self.admins.iter().all(Admin::is_idle) {
            return;
        }
        if let Some(node) = self.workload.node {
            if (0..self.faults.volumes).any(|volume| self.is_failed_everywhere(volume)) {
                self.give_up_role(node);
                return;
            }
            self.promote_new(node);
            return;
        }
        if self.has_patience() {
            return;
        }
        let Some(node) = self.candidate() else {
            return;
        };
        // A stale Primary that nobody uses has to step back first.
        let other = 1 - node;
        let stale = self
            .state(other, 0)
            .is_some_and(|s| s.role == Role::Primary);
        let connected = self
            .state(node, 0)
            .is_some_and(|s| s.conn >= ConnState::Connected);
        if stale && connected {
            for volume in 0..self.faults.volumes as u8 {
                self.admins[other].add(Command::Secondary(volume));
            }
            return;
        }
        for volume in 0..self.faults.volumes {
            let new = self.faults.full_sync && self.is_new(volume);
            let failed = node == self.holder && self.is_failed_everywhere(volume);
            let force = new || failed || self.is_given_up(node, volume);
            self.admins[node].add(Command::Primary(volume as u8, force));
        }
    }

    /// Applications use other volumes: one that was not there in time is promoted later.
    fn promote_new(&mut self, node: usize) {
        for volume in 0..self.faults.volumes {
            let secondary = self.state(node, volume).is_some_and(|state| {
                state.role == Role::Secondary && state.conn >= ConnState::Connected
            });
            if self.healed && self.faults.full_sync && secondary && self.is_new(volume) {
                self.admins[node].add(Command::Primary(volume as u8, true));
            }
        }
    }

    /// Nobody has ever written anything to the volume.
    pub(super) fn is_new(&mut self, volume: usize) -> bool {
        self.are_both_inconsistent(volume)
    }

    fn are_both_inconsistent(&mut self, volume: usize) -> bool {
        (0..2).all(|node| {
            self.state(node, volume)
                .is_some_and(|state| state.disk == DiskState::Inconsistent)
        })
    }

    /// Both disks were invalidated at once, each while the other one still counted as good: neither
    /// will be the source of a resync. The administrator says that the one of this node is good
    /// all the same, if it holds no less of what was acknowledged than the other one (seed 869484).
    fn is_given_up(&mut self, node: usize, volume: usize) -> bool {
        let promises = self.world.oracle.promises[volume];
        let useful = promises[node] != Promise::Nothing && !is_poorer(promises, node);
        self.given_up[volume] && useful && self.are_both_inconsistent(volume)
    }

    /// Both disks of a volume were given up, and that of this node holds more of it; there is no
    /// volume of which it holds less.
    fn is_better_given_up(&mut self, node: usize) -> bool {
        let mut better = false;
        for volume in 0..self.faults.volumes {
            let promises = self.world.oracle.promises[volume];
            if is_poorer(promises, node) {
                return false;
            }
            better |= is_poorer(promises, 1 - node) && self.is_given_up(node, volume);
        }
        better
    }

    /// The node to be promoted next.
    fn candidate(&mut self) -> Option<usize> {
        let holder = self.holder;
        let other = 1 - holder;
        let alive = |cluster: &Self, node: usize| cluster.world.nodes[node].alive.is_some();
        let in_sync = (0..self.faults.volumes).all(|volume| self.is_in_sync(volume));
        if !in_sync {
            self.workload.lost_on_the_way(&mut self.world, |_| true);
        }
        let complete = self
            .world
            .oracle
            .promises
            .iter()
            .all(|promises| promises[other] == Promise::Everything);
        if self.is_better_given_up(other) {
            return Some(other);
        }
        let good = !self.would_go_back(holder);
        if alive(self, holder) && good && !self.world.random.chance(20) {
            return Some(holder);
        }
        let allowed = complete || in_sync || (self.faults.reckless && !self.healed);
        let diskless = self.state(other, 0)?.disk < DiskState::UpToDate;
        (alive(self, other) && allowed && !diskless).then_some(other)
    }

    /// What applications would see on this node is older than what is on the other disk, whose
    /// newer generation nobody has told of: its node did not come, or the disk is not attached.
    fn would_go_back(&mut self, node: usize) -> bool {
        let reckless = self.faults.reckless && !self.healed;
        !reckless
            && (0..self.faults.volumes).any(|volume| {
                let promises = self.world.oracle.promises[volume];
                let older = |shown: usize| {
                    promises[shown] == Promise::Nothing && promises[1 - shown] != Promise::Nothing
                };
                self.shown(node, volume).is_some_and(older) && !self.is_in_sync(volume)
            })
    }

    fn tend_switch(&mut self, to: usize) {
        let from = 1 - to;
        let volumes = self.faults.volumes;
        if !self.admins.iter().all(Admin::is_idle) {
            return;
        }
        let Some(state) = self.state(from, 0) else {
            return;
        };
        if state.role == Role::Primary {
            let good = (0..volumes).all(|volume| self.is_in_sync(volume));
            if !good || !self.workload.leave(&mut self.world, from, volumes) {
                // Not now.
                self.switch_to = None;
                self.workload.resting = false;
                return;
            }
            for volume in 0..volumes as u8 {
                self.admins[from].add(Command::Secondary(volume));
            }
            return;
        }
        self.switch_to = None;
        self.workload.resting = false;
        for volume in 0..volumes as u8 {
            self.admins[to].add(Command::Primary(volume, false));
        }
    }

    pub(super) fn answered(&mut self, node: usize, command: Command, code: i32) {
        match command {
            Command::SuspendIo(_) if is_success(code) => {
                let activity = &mut self.world.activity[node];
                activity.suspended = Some(activity.counts);
            }
            Command::Primary(volume, _) if is_success(code) => {
                self.promoted(node, usize::from(volume));
            }
            Command::Resize(_) => self.resized_ns = Some(self.world.now_ns),
            Command::Secondary(volume) if is_success(code) => {
                self.lost_with_the_role(node, usize::from(volume));
            }
            Command::Attach(volume) if code == RetCode::DATA_NOT_CURRENT.0 => {
                self.step_back(node, usize::from(volume));
            }
            _ => {}
        }
    }

    /// A Primary without its disk may know of a generation that could not be written to any disk.
    /// If its disk has all the data nevertheless, or no disk has, it gives up its role to have the
    /// disk back.
    pub(super) fn step_back(&mut self, node: usize, volume: usize) {
        let promises = self.world.oracle.promises[volume];
        let nobody_better = promises[1 - node] == Promise::Nothing;
        if promises[node] != Promise::Nothing || (nobody_better && self.healed) {
            self.give_up_role(node);
        }
    }

    fn give_up_role(&mut self, node: usize) {
        let volumes = self.faults.volumes;
        if self.workload.leave(&mut self.world, node, volumes) {
            for volume in 0..volumes as u8 {
                self.admins[node].add(Command::Secondary(volume));
            }
        }
    }

    /// A node has become Primary for a volume: it shows what was acknowledged.
    pub(super) fn promoted(&mut self, node: usize, volume: usize) {
        if self.is_in_sync(volume) {
            self.world.oracle.synced(volume);
        }
        let alone = self
            .state(node, volume)
            .is_some_and(|state| state.conn < ConnState::Connected);
        if alone {
            // The other node need not have noticed that its writes do not get through.
            self.workload
                .lost_on_the_way(&mut self.world, |at| at == volume);
        }
        if let Some(shown) = self.shown(node, volume) {
            let disk = &self.world.nodes[shown].disks[volume].live;
            if let Err(text) = self.world.oracle.check_disk(volume, shown, disk) {
                let name = self.world.nodes[node].name();
                self.world.fail_data(format!("promoted {name}: {text}"));
            }
            self.split.claims[volume] = Some(shown);
        }
        if self.workload.node == Some(node) {
            self.seen(node, volume);
        } else if volume + 1 == self.faults.volumes {
            self.open(node);
        }
    }

    /// The last volume of a node has been promoted: applications open all of them, or none.
    fn open(&mut self, node: usize) {
        let volumes = self.faults.volumes;
        if (0..volumes).all(|volume| self.shown(node, volume).is_some()) {
            for volume in 0..volumes {
                let state = self.state(node, volume);
                if state.is_some_and(|state| state.role == Role::Primary) {
                    self.seen(node, volume);
                }
            }
            self.holder = node;
            self.workload.move_to(&mut self.world, node, volumes);
        } else {
            // Its disk has failed meanwhile: nobody has seen anything.
            for volume in 0..volumes as u8 {
                self.admins[node].add(Command::Secondary(volume));
            }
        }
    }

    /// Applications see a volume: what it shows is what counts from now on.
    fn seen(&mut self, node: usize, volume: usize) {
        self.users[volume] = node;
        let connected = self.is_in_sync(volume);
        if let Some(shown) = self.shown(node, volume) {
            let disk = &self.world.nodes[shown].disks[volume].live;
            self.world.oracle.adopt(volume, shown, disk);
            self.split.claims[volume] = None;
            self.await_left_over(node, volume);
        }
        if connected {
            self.world.oracle.promises[volume] = [Promise::Everything; 2];
        }
    }

    /// Applications that went away while this node was stuck have left writes there.
    fn await_left_over(&mut self, node: usize, volume: usize) {
        let world = &mut self.world;
        let Some(alive) = &world.nodes[node].alive else {
            return;
        };
        let bios = alive.bios();
        for bio in bios.filter(|bio| bio.volume.slot() == volume && bio.op == Op::Write) {
            let write = Write {
                sector: bio.sector,
                count: bio.count,
                value: bio.data.first().copied().unwrap_or(0),
            };
            world.oracle.still_to_come(volume, &write);
        }
    }

    /// The node whose disk a node shows to applications: its own, or that of its peer if its own
    /// one is no good.
    fn shown(&mut self, node: usize, volume: usize) -> Option<usize> {
        let state = self.state(node, volume)?;
        if state.disk == DiskState::UpToDate {
            Some(node)
        } else {
            (state.pdsk == DiskState::UpToDate).then_some(1 - node)
        }
    }
}

/// What the disk of a node holds of a volume is less than what the other one does.
fn is_poorer(promises: [Promise; 2], node: usize) -> bool {
    let rank = |promise| match promise {
        Promise::Everything => 0,
        Promise::Flushed => 1,
        Promise::Nothing => 2,
    };
    rank(promises[node]) > rank(promises[1 - node])
}
