//! An application on the node that is Primary: reads, writes, flushes, discards, zeroes, no two
//! overlapping ones at once.

use drbd_core::input::Input;
use drbd_core::link::VolumeIndex;
use drbd_core::request::Op;
use drbd_format::types::{ConnState, DiskState, Protocol, Role};

use crate::faults::Faults;
use crate::features::Feature;
use crate::node::{Bio, Node};
use crate::numbered::Numbered;
use crate::oracle::{Promise, Write};
use crate::shell::is_later;
use crate::world::{Heard, World, MILLI};

/// One request in flight.
#[derive(Clone, Copy, Debug)]
struct Pending {
    node: usize,
    life: u32,
    volume: usize,
    op: Op,
    write: Write,
    durable: bool,
    preflush: bool,
    mark: u64,
    /// The node had a good disk when it was submitted: what a flush makes stable was on it.
    good_disk: bool,
    since_ns: u64,
    /// The peer and its disk when it was submitted: its incarnation, and the state changes and
    /// failed writes seen so far.
    then: Steady,
    /// Replication was on.
    replicated: bool,
    /// It was on towards the source of a resync, or of one that was about to begin.
    to_source: bool,
}

/// The application.
#[derive(Debug)]
pub struct Workload {
    /// Writes still to be submitted.
    pub left: u64,
    /// The node it runs on.
    pub node: Option<usize>,
    /// It rests: the role is about to move.
    pub resting: bool,
    /// Requests that failed.
    pub failed: u64,
    /// Requests that succeeded.
    pub done: u64,
    pending: Numbered<Pending>,
    next_tag: u64,
    depth: usize,
    regions: u64,
    overlap: bool,
    zeroes: bool,
    protocol: Protocol,
    /// Interruptions of replication, counted.
    pub breaks: u64,
    /// Protocols A and B: acknowledged writes that have not reached the disk of that node.
    under_way: Vec<(usize, usize, Write)>,
    /// Those that were sent to the target of a resync.
    to_target: Vec<(usize, usize, Write)>,
    /// Devices of a node, in its present life, that are open because what was left there has not
    /// ended.
    stuck: Vec<(usize, u32, VolumeIndex)>,
}

impl Workload {
    /// An application that will submit `writes` writes.
    pub fn new(writes: u64, faults: &Faults) -> Self {
        Self {
            left: writes,
            node: None,
            resting: false,
            failed: 0,
            done: 0,
            pending: Numbered::default(),
            next_tag: 1,
            depth: faults.depth,
            regions: faults.regions,
            overlap: faults.extras.overlap,
            // None are offered while data are sent with a digest.
            zeroes: faults.features.has(Feature::Zeroes) && !faults.integrity,
            protocol: faults.protocol,
            breaks: 0,
            under_way: Vec::new(),
            to_target: Vec::new(),
            stuck: Vec::new(),
        }
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Requests submitted so far.
    pub fn submitted(&self) -> u64 {
        self.next_tag
    }

    /// Describes the oldest request in flight.
    pub fn oldest(&self) -> String {
        match self.pending.iter().next() {
            Some((tag, pending)) => format!("bio {tag} {:?} {:?}", pending.op, pending.write),
            None => "none".to_string(),
        }
    }

    /// When the oldest request in flight was submitted.
    pub fn oldest_ns(&self) -> Option<u64> {
        let (_, oldest) = self.pending.iter().next()?;
        Some(oldest.since_ns)
    }

    /// A node has lost power: its requests never end.
    pub fn forget(&mut self, world: &mut World, node: usize) {
        self.pending.retain(|pending| pending.node != node);
        if self.node == Some(node) {
            self.node = None;
            world.oracle.interrupted();
        }
    }

    /// Opens the device on a node that has become Primary.
    pub fn move_to(&mut self, world: &mut World, node: usize, volumes: usize) {
        if self.node == Some(node) {
            return;
        }
        self.pending.clear();
        world.oracle.interrupted();
        self.under_way.clear();
        self.to_target.clear();
        let before = self.node.replace(node);
        if let Some(before) = before {
            let life = world.nodes[before].life;
            let open = (0..volumes).map(|volume| (before, life, VolumeIndex(volume as u8)));
            self.stuck.extend(open);
            self.close_unused(world);
        }
        for volume in 0..volumes {
            let volume = VolumeIndex(volume as u8);
            world.handle(node, &Input::Opened { volume });
        }
    }

    /// Nobody can close a device as long as a request of theirs has not ended, nor is it demoted
    /// then.
    pub(crate) fn close_unused(&mut self, world: &mut World) {
        self.stuck.retain(|&(node, life, volume)| {
            let alive = world.nodes[node].alive.as_ref();
            let Some(alive) = alive.filter(|_| world.nodes[node].life == life) else {
                return false;
            };
            let used = alive.bios().any(|bio| bio.volume == volume);
            if !used {
                world.handle(node, &Input::Closed { volume });
            }
            used
        });
    }

    /// Closes the device, once nothing is in flight. False: something is.
    pub fn leave(&mut self, world: &mut World, node: usize, volumes: usize) -> bool {
        if self.node != Some(node) {
            return true;
        }
        if !self.pending.is_empty() {
            return false;
        }
        self.node = None;
        for volume in 0..volumes {
            let volume = VolumeIndex(volume as u8);
            world.handle(node, &Input::Closed { volume });
        }
        true
    }

    /// Submits some requests.
    pub fn tick(&mut self, world: &mut World, volumes: usize) {
        let Some(node) = self.node else {
            return;
        };
        world.edit_in_flight(node);
        let burst = world.random.between(1, self.depth as u64);
        for _ in 0..burst {
            if self.left == 0 || self.resting || self.pending.len() >= self.depth {
                return;
            }
            self.one(world, node, volumes);
        }
    }

    fn one(&mut self, world: &mut World, node: usize, volumes: usize) {
        let volume = world.random.below(volumes as u64) as usize;
        let Some(alive) = world.alive(node) else {
            return;
        };
        let capacity = alive.devices[volume].capacity;
        if alive.devices[volume].read_only || capacity < 64 {
            return;
        }
        let op = match world.random.below(100) {
            0..=69 if self.zeroes && world.random.chance(15) => Op::WriteZeroes,
            0..=69 => Op::Write,
            70..=87 => Op::Read,
            88..=95 => Op::Flush,
            _ => Op::Discard,
        };
        let again = self.again(world, volume, op);
        let (sector, count) = again.unwrap_or_else(|| self.place(world, capacity, op));
        if again.is_none() && self.pending_at(volume, sector, count) > 0 {
            return;
        }
        self.submit(world, node, volume, op, (sector, count));
    }

    /// Submits a write to each extent of the activity log, as far as nothing is there.
    pub(crate) fn write_everywhere(&mut self, world: &mut World, volume: usize) {
        let Some((node, capacity)) = self.open_device(world, volume) else {
            return;
        };
        for sector in (0..capacity.saturating_sub(8)).step_by(8192).take(40) {
            if self.pending_at(volume, sector, 8) == 0 {
                self.submit(world, node, volume, Op::Write, (sector, 8));
            }
        }
    }

    /// Submits many large reads.
    pub(crate) fn read_much(&mut self, world: &mut World, volume: usize) {
        let Some((node, capacity)) = self.open_device(world, volume) else {
            return;
        };
        for _ in self.pending.len()..64 {
            let count = 100.min(capacity);
            let sector = world.random.below(capacity - count + 1);
            if self.pending_at(volume, sector, count) == 0 {
                self.submit(world, node, volume, Op::Read, (sector, count));
            }
        }
    }

    /// The node and the size of a device that is in use.
    fn open_device(&self, world: &mut World, volume: usize) -> Option<(usize, u64)> {
        let node = self.node.filter(|_| !self.resting && self.left > 0)?;
        let device = &world.alive(node)?.devices[volume];
        (!device.read_only).then_some((node, device.capacity))
    }

    /// Submits one request to the device of the node that is Primary.
    pub fn submit(
        &mut self,
        world: &mut World,
        node: usize,
        volume: usize,
        op: Op,
        (sector, count): (u64, u64),
    ) {
        let tag = self.next_tag;
        self.next_tag += 1;
        let value = if op == Op::Write { tag << 12 } else { 0 };
        let write = Write {
            sector,
            count,
            value,
        };
        let fua = op == Op::Write && world.random.chance(10);
        let preflush = op == Op::Flush || (op == Op::Write && world.random.chance(5));
        if matches!(op, Op::Write | Op::Discard | Op::WriteZeroes) {
            self.left = self.left.saturating_sub(1);
            world.oracle.submitted(volume, &write);
        }
        let pending = Pending {
            node,
            life: world.nodes[node].life,
            volume,
            op,
            write,
            durable: fua,
            preflush,
            mark: world.oracle.flush_mark(),
            good_disk: has_good_disk(world, node, volume),
            since_ns: world.now_ns,
            then: Steady::now(self.breaks, world, 1 - node, volume),
            replicated: is_replicating(world, node, volume),
            to_source: is_target(world, node, volume),
        };
        self.pending.push(tag, pending);
        let data = match op {
            Op::Write => (0..count).map(|at| write.value_at(at)).collect(),
            _ => Vec::new(),
        };
        let bio = Bio {
            tag,
            volume: VolumeIndex(volume as u8),
            op,
            sector,
            count,
            data,
            fua,
            preflush,
            may_unmap: op != Op::WriteZeroes || world.random.chance(50),
        };
        world.submit_bio(node, bio);
    }

    /// Number of requests in flight that overlap a range.
    fn pending_at(&self, volume: usize, sector: u64, count: u64) -> usize {
        let overlaps = |p: &&Pending| {
            p.volume == volume
                && p.write.sector < sector + count
                && sector < p.write.sector + p.write.count
        };
        self.pending.values().filter(overlaps).count()
    }

    /// The place of a write in flight, to be written to again: the second write has to wait for
    /// the first one.
    fn again(&self, world: &mut World, volume: usize, op: Op) -> Option<(u64, u64)> {
        if !self.overlap || op != Op::Write || !world.random.chance(20) {
            return None;
        }
        let node = self
            .node
            .filter(|node| is_replicating(world, *node, volume));
        let replicated = |p: &&Pending| p.op == Op::Write && p.replicated;
        let mut writes = self
            .pending
            .values()
            .filter(|p| node.is_some() && replicated(p));
        let found = writes.find(|p| {
            p.volume == volume && self.pending_at(volume, p.write.sector, p.write.count) == 1
        })?;
        Some((found.write.sector, found.write.count))
    }

    fn place(&self, world: &mut World, capacity: u64, op: Op) -> (u64, u64) {
        if op == Op::Flush {
            return (0, 0);
        }
        let random = &mut world.random;
        let span = 256.min(capacity);
        let start = random.below(self.regions) * (capacity / self.regions);
        let room = span.min(capacity - start);
        let count = if random.chance(75) {
            8 * random.between(1, 8)
        } else {
            random.between(1, 100)
        };
        let count = count.min(room);
        let mut at = random.below(room - count + 1);
        if random.chance(75) {
            at &= !7;
        }
        if random.chance(3) {
            // The very end of the device.
            return (capacity - count, count);
        }
        (start + at, count)
    }

    /// A request has ended.
    pub fn ended(&mut self, world: &mut World, node: usize, bio: &Bio, ok: bool) {
        let Some(pending) = self.pending.get(bio.tag).copied() else {
            return;
        };
        if pending.node != node || pending.life != world.nodes[node].life {
            return;
        }
        self.pending.remove(bio.tag);
        if !ok {
            if !matches!(pending.op, Op::Read | Op::Flush) {
                world.oracle.failed(pending.volume, &pending.write);
            }
            self.failed += 1;
            return;
        }
        self.done += 1;
        // Without its disk a node ends a flush at once, and nothing is stable then: not that disk,
        // and not the peer's (`reference/io.md` 1.7, 3.4). Nor what a resync brings later.
        let covers = pending.preflush && pending.good_disk;
        if covers && has_disk(world, node, pending.volume) {
            world.oracle.flushed(pending.volume, pending.mark);
            world.witness.heard.push(Heard::Flushed {
                node,
                volume: pending.volume,
                mark: pending.mark,
            });
        }
        match pending.op {
            Op::Read => {
                let read = world
                    .oracle
                    .check_read(pending.volume, bio.sector, &bio.data);
                if let Err(text) = read {
                    world.fail_data(text);
                }
            }
            Op::Flush => {}
            Op::Write | Op::Discard | Op::WriteZeroes => self.acked(world, node, &pending),
        }
    }

    /// A write has been acknowledged: whose disk has it?
    fn acked(&mut self, world: &mut World, node: usize, pending: &Pending) {
        let (volume, write) = (pending.volume, pending.write);
        let here = write.is_on(&world.nodes[node].disks[volume].live);
        // What the own disk has failed to write the peer has only received in protocols A and B.
        let durable = pending.durable && (here || self.protocol == Protocol::C);
        world.oracle.acked(volume, &write, durable, world.now_ns);
        world.witness.heard.push(Heard::Acked {
            node,
            volume,
            write,
            durable,
        });
        let peer = 1 - node;
        let there = write.is_on(&world.nodes[peer].disks[volume].live)
            && !self.comes_behind(self.under_way.len(), (volume, peer, write));
        let replicating = is_replicating(world, node, volume);
        if !here {
            world.oracle.promises[volume][node] = Promise::Nothing;
            world.oracle.missed(volume, &write, node);
        }
        // What a target of a resync writes is sent to the source, and the ack says that it is
        // there.
        let received = self.protocol == Protocol::B && is_target(world, node, volume);
        let now = Steady::now(self.breaks, world, peer, volume);
        // The disk that it was sent to has been given up, and attached again, while the ack was on
        // its way (seeds 37751, 891919).
        let sent = pending.replicated || (pending.to_source && received);
        let given_up = sent && pending.then.openings != now.openings;
        let under_way = ((replicating && self.protocol != Protocol::C) || received) && !given_up;
        if !(there || under_way) {
            world.oracle.promises[volume][peer] = Promise::Nothing;
        }
        if write.value != 0 {
            self.under_way
                .retain(|(at, _, old)| *at != volume || !old.is_within(&write));
        }
        if under_way && !there {
            self.under_way.push((volume, peer, write));
        } else if !there && is_source(world, node, volume) {
            self.sent_to_target(world, (volume, peer, write));
        }
        let nowhere = !here && !there && self.protocol == Protocol::C;
        // What the target of a resync has is overwritten by the source, as far as it is marked.
        let there_only = !here || !has_good_disk(world, node, volume);
        let crashed = world.nodes[peer].alive.is_none() || pending.then.life != now.life;
        let only_sent = given_up && (!here || pending.to_source) && self.protocol != Protocol::C;
        let lost = crashed || only_sent;
        if !there && there_only && lost && !durable {
            // The ack was on its way, or held back by suspend-io (seed 69814), when the only disk
            // that counts lost power or was given up.
            world.oracle.lost(volume, &write);
        } else if nowhere {
            world.fail_data(format!(
                "write {write:?} was acknowledged and is on no disk"
            ));
        }
        // A write that the peer's disk has refused (P_NEG_ACK) ends with the local result, before
        // this node learns the state of that disk (`reference/io.md` 1.8, "negative ack").
        let steady = pending.replicated
            && pending.then == now
            && replicating
            && has_disk(world, peer, volume);
        if steady && !there && self.protocol == Protocol::C {
            world.fail_data(format!(
                "protocol C acknowledged {write:?} at {} ms before the peer had it",
                world.now_ns / MILLI
            ));
        }
    }
}

impl Workload {
    /// Replication of these volumes has ended, or the node that wrote is gone: what was
    /// acknowledged in protocol A and has not reached the peer's disk may never get there.
    pub fn lost_on_the_way(&mut self, world: &mut World, concerns: impl Fn(usize) -> bool) {
        self.to_target.retain(|(volume, ..)| !concerns(*volume));
        if self.protocol != Protocol::A {
            // What was received gets to the disk nevertheless.
            return;
        }
        let (lost, others) = std::mem::take(&mut self.under_way)
            .into_iter()
            .partition(|(volume, ..)| concerns(*volume));
        self.under_way = others;
        let lost: Vec<_> = lost;
        for (volume, peer, write) in lost {
            if write.has_reached(&world.nodes[peer].disks[volume].live) {
                continue;
            }
            if !has_good_disk(world, 1 - peer, volume) {
                // The disk that has it was given up for the peer's.
                world.oracle.lost(volume, &write);
            }
            world.oracle.promises[volume][peer] = Promise::Nothing;
        }
    }

    /// The source of a resync has acknowledged a write that its target has not got yet.
    fn sent_to_target(&mut self, world: &World, sent: (usize, usize, Write)) {
        if self.protocol == Protocol::C {
            return;
        }
        let is_waiting = |(volume, peer, old): &(usize, usize, Write)| {
            let replaced = *volume == sent.0 && sent.2.value != 0 && old.is_within(&sent.2);
            !replaced && !old.has_reached(&world.nodes[*peer].disks[*volume].live)
        };
        self.to_target.retain(is_waiting);
        self.to_target.push(sent);
    }

    /// The target has done with a resync: it counts as equal, but what it was sent meanwhile is
    /// still on its way (seed 56852).
    pub(crate) fn still_on_the_way(&mut self, nodes: &[Node; 2], volume: usize, target: usize) {
        let (ended, others) = std::mem::take(&mut self.to_target)
            .into_iter()
            .partition(|(at, ..)| *at == volume);
        self.to_target = others;
        let ended: Vec<_> = ended;
        let disk = &nodes[target].disks[volume].live;
        let waits = |(_, peer, write): &(_, _, Write)| *peer == target && !write.has_reached(disk);
        self.under_way.extend(ended.into_iter().filter(waits));
    }

    /// A disk that was given up gets nothing more of what its node has received. If both are, the
    /// write is lost: the peer had begun a new generation for it. So it is if the disk that has it
    /// is the target of a resync, which overwrites it with what the lost disk holds, or holds an
    /// earlier generation than the lost disk, which will overwrite it when it is back: the disk
    /// that has the write was away, too, before the peer's was given up (seed 865996).
    pub fn lost_with_the_disk(&mut self, world: &mut World) {
        let mut at = 0;
        while let Some((volume, peer, write)) = self.under_way.get(at).copied() {
            let reached = write.has_reached(&world.nodes[peer].disks[volume].live)
                && !self.comes_behind(at, (volume, peer, write));
            let gone = !has_disk(world, peer, volume);
            if gone && !reached {
                let disk = |node: usize| &world.nodes[node].disks[volume];
                let later = is_later(disk(peer), disk(1 - peer));
                let kept = has_good_disk(world, 1 - peer, volume);
                if kept {
                    world.oracle.promises[volume][peer] = Promise::Nothing;
                }
                if !kept || later {
                    world.oracle.lost(volume, &write);
                }
            }
            if gone || reached {
                self.under_way.remove(at);
            } else {
                at += 1;
            }
        }
    }

    /// A discard whose place is still to be written to by one of the first `count` writes under
    /// way: zeros there do not tell that it has been carried out.
    fn comes_behind(&self, count: usize, (volume, peer, write): (usize, usize, Write)) -> bool {
        let mut before = self.under_way[..count].iter();
        write.value == 0
            && before.any(|(at, to, old)| (*at, *to) == (volume, peer) && old.overlaps(&write))
    }
}

/// Tells whether a node lets its disk serve requests.
pub(crate) fn has_disk(world: &mut World, node: usize, volume: usize) -> bool {
    let core = world.core(node);
    core.is_some_and(|core| core.state(VolumeIndex(volume as u8)).disk >= DiskState::Inconsistent)
}

/// Tells whether the disk of a node is being synced, or about to be.
fn is_target(world: &mut World, node: usize, volume: usize) -> bool {
    use ConnState::{WfBitMapT, WfSyncUuid};
    let Some(core) = world.core(node) else {
        return false;
    };
    let state = core.state(VolumeIndex(volume as u8));
    state.is_sync_target() || matches!(state.conn, WfBitMapT | WfSyncUuid)
}

/// Tells whether the disk of the peer is being synced from that of a node.
fn is_source(world: &mut World, node: usize, volume: usize) -> bool {
    let core = world.core(node);
    core.is_some_and(|core| {
        let conn = core.state(VolumeIndex(volume as u8)).conn;
        matches!(conn, ConnState::SyncSource | ConnState::PausedSyncS)
    })
}

/// Tells whether the disk of a node is worth being read when the peer's is not there.
fn has_good_disk(world: &mut World, node: usize, volume: usize) -> bool {
    let core = world.core(node);
    core.is_some_and(|core| core.state(VolumeIndex(volume as u8)).disk > DiskState::Inconsistent)
}

/// What stays the same while nothing goes wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Steady {
    breaks: u64,
    /// Incarnation of the peer.
    life: u32,
    failed_writes: u64,
    openings: u64,
}

impl Steady {
    pub(crate) fn now(breaks: u64, world: &World, peer: usize, volume: usize) -> Self {
        let disk = &world.nodes[peer].disks[volume];
        Self {
            breaks,
            life: world.nodes[peer].life,
            failed_writes: disk.failed_writes,
            openings: disk.openings,
        }
    }
}

/// Tells whether writes are sent to a peer that is in sync.
pub fn is_replicating(world: &mut World, node: usize, volume: usize) -> bool {
    let Some(core) = world.core(node) else {
        return false;
    };
    let state = core.state(VolumeIndex(volume as u8));
    use ConnState::{Connected, VerifyS, VerifyT};
    matches!(state.conn, Connected | VerifyS | VerifyT)
        && state.pdsk == DiskState::UpToDate
        && state.role == Role::Primary
}
