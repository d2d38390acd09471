//! A run: two nodes and those who act on them from outside.

use drbd_core::link::VolumeIndex;
use drbd_core::state::VolumeState;
use drbd_format::types::{ConnState, DiskState, OnNoData};

use crate::admin::{Admin, Command};
use crate::check::{self, Checker};
use crate::disk::Disk;
use crate::extras::Asked;
use crate::faults::{Fault, Faults};
use crate::features::Feature;
use crate::heap::Heap;
use crate::memory;
use crate::network::Network;
use crate::node::{Alive, Node, VOLUMES};
use crate::oracle::{Oracle, Promise};
use crate::random::Random;
use crate::shell::{create_metadata, CreateAs};
use crate::workload::Workload;
use crate::world::{Event, World, MILLI, SCRATCH_LEN, SECOND};

mod blame;
mod crash;
mod features;
mod losses;
mod split;
mod tend;

pub use crash::{Crash, Reached};

/// Simulated time in which everything must be well again after the last fault.
pub const HEAL_LIMIT_NS: u64 = 900 * SECOND;
/// Simulated time after which faults end in any case.
const FAULTS_LIMIT_NS: u64 = 300 * SECOND;
/// Events after which a run counts as endless. A control thread that waits for a buffer which a
/// hung disk keeps asks for it as often as it can wake up (seed 919168).
const EVENTS_MAX: u64 = 100_000_000;

/// Those who act from outside, and when they come back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Actor {
    /// The administrators look after the cluster.
    Tend,
    /// The application submits something.
    Work,
    /// Something goes wrong.
    Fault,
    /// Power comes back.
    PowerOn(usize, u32),
    /// The network works again.
    NetworkUp(u64),
    /// A disk works again.
    DiskWorks(usize),
    /// An administrator gives a command.
    Command(usize, Command),
    /// The checkers look at a quiet moment.
    Check,
    /// Devices grow.
    Grow,
    /// Both nodes are to read from each other.
    Cross,
    /// Something that the features of this run are about.
    Feature,
    /// Something goes wrong on a node at a chosen moment.
    Cause(Fault, usize),
    /// The application reads as much as it can.
    ReadAll,
    /// The link of a node breaks.
    Break(usize),
    /// The helper that a node has asked before a resync has ended.
    Asked(usize, u32, Asked),
    /// The helper that a node has called has fenced the peer.
    Fenced(usize, u32, u32),
}

/// A run.
pub struct Cluster {
    /// What exists.
    pub world: World,
    /// Its shape.
    pub faults: Faults,
    /// Administrators.
    pub admins: [Admin; 2],
    /// The application.
    pub workload: Workload,
    /// The node through which applications wrote last.
    pub holder: usize,
    /// The node through which applications used each volume last: not the holder if that could not
    /// be promoted for it.
    pub(crate) users: [usize; VOLUMES],
    /// A node has lost power since its disk of a volume was synced.
    cold: [[bool; VOLUMES]; 2],
    /// When a node lost power, and whose disks were gone then.
    went: [(u64, [bool; VOLUMES]); 2],
    /// Volumes of which the nodes have different data.
    split: split::Split,
    /// Nothing goes wrong any more.
    pub healed: bool,
    /// Faults that happened.
    pub happened: u64,
    /// A loss of power that is to come.
    pub crash: Option<Crash>,
    /// Blocks of metadata that each node has written.
    pub block_writes: [u64; 2],
    /// The nodes are looked after by themselves.
    pub tended: bool,
    /// Where the role is to move.
    switch_to: Option<usize>,
    /// Disconnected on purpose.
    apart: bool,
    cuts: u64,
    replicating: [bool; VOLUMES],
    /// Lines of the cores that have been read for the end of a resync.
    log_seen: usize,
    /// Whether the cluster was idle when somebody asked, as long as nothing has changed.
    rested: Option<bool>,
    /// Attempts to connect of a Primary that the peer's data kept apart, in a row.
    refused: u32,
    /// Attempts of a node to attach a disk that the peer's data kept apart, in a row.
    kept_out: [u32; 2],
    /// Looks at a node, in a row, that found I/O frozen for lack of data.
    frozen: [u32; 2],
    /// A disk was invalidated before the command to invalidate the peer's one had its answer.
    given_up: [bool; VOLUMES],
    /// Looks of the administrators, in a row, at a node that its own defect makes wait.
    stuck: u32,
    /// How often somebody had to disconnect it.
    pub helped: u32,
    /// State of the connection on both nodes when somebody in a hurry looked last.
    pub(crate) conns: [Option<ConnState>; 2],
    /// A resync was about to begin when somebody looked last.
    pub(crate) begins: bool,
    /// When a resize was answered last.
    resized_ns: Option<u64>,
    /// How often both disks of a volume had changed when they were equal.
    pub(crate) equal: [Option<[u64; 2]>; VOLUMES],
    /// All of them; true: it looks after every event.
    checkers: Vec<(bool, Box<dyn Checker>)>,
}

/// Two nodes with disks that have been made for each other, without power.
fn new_nodes(faults: &Faults, random: &mut Random) -> [Node; 2] {
    let uuid = random.draw() | 0x100;
    let create = if faults.full_sync {
        CreateAs::JustCreated
    } else {
        CreateAs::Equal {
            uuid: uuid & !1,
            size: faults.extras.first_sectors,
        }
    };
    [0, 1].map(|id| {
        let mut disks = Vec::new();
        for _ in 0..faults.volumes {
            let (size, volatile) = (faults.disk_sectors, faults.volatile);
            let mut disk = match faults.extras.metadata_apart {
                Some(cache) => Disk::with_metadata_apart(size, volatile, cache),
                None => Disk::new(size, volatile),
            };
            let created = create_metadata(&mut disk, create);
            debug_assert!(created.is_some(), "disks are large enough for metadata");
            disks.push(disk);
        }
        Node {
            id,
            life: 0,
            alive: None,
            disks,
            clock: (random.below(100) * SECOND, faults.drift_ppm[id]),
            quirks: faults.quirks[id],
            dice: faults
                .extras
                .unlikely
                .map(|branches| branches.dice(id, faults.quirks[id])),
        }
    })
}

impl Cluster {
    /// Two nodes that have just booted; nothing is configured.
    pub fn new(seed: u64, faults: Faults) -> Self {
        let mut random = Random::new(seed);
        let nodes = new_nodes(&faults, &mut random);
        let world = World {
            now_ns: 0,
            random,
            heap: Heap::default(),
            nodes,
            net: Network::new(faults.network),
            oracle: Oracle::new(faults.volumes),
            failure: None,
            verbose: false,
            ended: Vec::new(),
            events: 0,
            changed: true,
            touched: [true; 2],
            disk_latency_ns: faults.disk_latency_ns,
            wakeup_ns: faults.wakeup_ns,
            helpers: Vec::new(),
            diagram: Default::default(),
            log: Vec::new(),
            activity: Default::default(),
            witness: Default::default(),
            sizes: vec![faults.extras.first_sectors.unwrap_or(0); faults.volumes],
            unrelated: vec![Default::default(); faults.volumes],
            mattered: Default::default(),
            excused: None,
            features: faults.features,
            hung_until_ns: Default::default(),
            scratch: vec![0; SCRATCH_LEN],
        };
        let mut cluster = Self {
            world,
            workload: Workload::new(0, &faults),
            split: split::Split::default(),
            faults,
            admins: [Admin::default(), Admin::default()],
            holder: 0,
            users: [0; VOLUMES],
            cold: [[false; VOLUMES]; 2],
            went: Default::default(),
            healed: false,
            happened: 0,
            crash: None,
            block_writes: [0; 2],
            tended: false,
            switch_to: None,
            apart: false,
            cuts: 0,
            replicating: [false; VOLUMES],
            log_seen: 0,
            rested: None,
            refused: 0,
            kept_out: [0; 2],
            frozen: [0; 2],
            given_up: [false; VOLUMES],
            stuck: 0,
            helped: 0,
            conns: [None; 2],
            begins: false,
            resized_ns: None,
            equal: [None; VOLUMES],
            checkers: check::all()
                .into_iter()
                .map(|checker| (!checker.is_for_the_end(), checker))
                .collect(),
        };
        (0..2).for_each(|node| cluster.power_on(node));
        cluster
    }

    /// Looks after the nodes, gives them work and lets things go wrong, until `writes` writes
    /// have been submitted or the faults have lasted long enough.
    pub fn run(&mut self, writes: u64) {
        self.workload = Workload::new(writes, &self.faults);
        self.tended = true;
        self.begin_extras();
        for actor in [Actor::Tend, Actor::Work, Actor::Check] {
            self.world.after(MILLI, Event::Act(actor));
        }
        if let Some((_, high)) = self.faults.pause_ns {
            let first = self.world.random.below(high);
            self.world.after(first + SECOND, Event::Act(Actor::Fault));
        }
        while self.workload.left > 0 && self.world.now_ns < FAULTS_LIMIT_NS {
            if !self.step() {
                return;
            }
        }
    }

    /// Ends all faults: network, disks and power are good from now on.
    pub fn heal(&mut self) {
        self.healed = true;
        self.apart = false;
        self.world.trace(0, || "HEAL".to_string());
        self.network_up();
        for node in 0..2 {
            self.disk_works(node);
            if self.world.nodes[node].alive.is_none() {
                self.power_on(node);
            }
        }
    }

    /// Runs until both nodes are connected, in sync and have nothing to do, or the time is over.
    pub fn run_until_idle(&mut self, limit_ns: u64) {
        let end_ns = self.world.now_ns + limit_ns;
        while !self.is_idle() {
            if self.world.now_ns > end_ns {
                let text = self.describe();
                self.world.fail(format!("did not come to rest: {text}"));
            }
            if !self.step() {
                return;
            }
        }
    }

    /// Lets everything settle for a while.
    pub fn run_for(&mut self, span_ns: u64) {
        let end_ns = self.world.now_ns + span_ns;
        while self.world.heap.next_at_ns().is_some_and(|at| at <= end_ns) {
            if !self.step() {
                return;
            }
        }
        self.world.now_ns = end_ns;
    }

    /// Checks what must hold at the end.
    pub fn check_end(&mut self) {
        let mut checkers = std::mem::take(&mut self.checkers);
        for (_, checker) in &mut checkers {
            if self.world.failure.is_some() || self.world.excused.is_some() {
                break;
            }
            if let Err(text) = checker.at_rest(self) {
                self.found(checker.as_ref(), &text);
            }
        }
        self.checkers = checkers;
    }

    /// Lets the next event happen. False: nothing happens any more, or something is wrong.
    pub fn step(&mut self) -> bool {
        if self.world.failure.is_some() || self.world.excused.is_some() {
            return false;
        }
        let Some((at_ns, event)) = self.world.heap.pop() else {
            self.world.fail("nothing happens any more".to_string());
            return false;
        };
        self.world.now_ns = self.world.now_ns.max(at_ns);
        self.world.events += 1;
        if self.world.events > EVENTS_MAX {
            let text = self.describe();
            self.world.fail(format!("too many events: {text}"));
        }
        self.happen(event);
        self.after_event();
        self.world.failure.is_none() && self.world.excused.is_none()
    }

    fn happen(&mut self, event: Event) {
        if self.hangs(&event) {
            return;
        }
        if let Event::Disk {
            node,
            life,
            volume,
            request,
            ..
        } = event
        {
            if self.world.is_current(node, life) && self.crashes(node, volume, request) {
                return;
            }
        }
        let world = &mut self.world;
        match event {
            Event::Run(node, life, thread) if world.is_current(node, life) => {
                world.run(node, thread);
            }
            Event::Disk {
                node,
                life,
                volume,
                request,
                waiter,
            } if world.is_current(node, life) => {
                world.disk_done(node, VolumeIndex(volume), request, waiter);
            }
            Event::Timer(node, life, number) if world.is_current(node, life) => {
                world.timer(node, number);
            }
            Event::Arrive(end) => world.arrive(end),
            Event::Knock(node, life, end) if world.is_current(node, life) => {
                world.knocked(node, life, end);
            }
            Event::ConnectDone(node, life, end) if world.is_current(node, life) => {
                world.connect_done(node, end);
            }
            Event::Act(actor) => {
                self.world.changed = true;
                self.world.touched = [true; 2];
                self.act(actor);
            }
            _ => {}
        }
    }

    /// A checker has found something.
    fn found(&mut self, checker: &dyn Checker, text: &str) {
        let text = format!("{}: {text}", checker.name());
        if checker.is_about_data() {
            self.world.fail_data(text);
        } else {
            self.world.fail(text);
        }
    }

    fn after_event(&mut self) {
        if !std::mem::take(&mut self.world.changed) {
            return;
        }
        self.rested = None;
        while let Some((node, bio, ok)) = self.world.ended.pop() {
            self.workload.ended(&mut self.world, node, &bio, ok);
        }
        self.workload.close_unused(&mut self.world);
        self.note_synced();
        for node in 0..2 {
            while let Some((command, code)) =
                self.admins[node].step(&mut self.world, node, &self.faults)
            {
                self.answered(node, command, code);
            }
        }
        self.note_breaks();
        self.workload.lost_with_the_disk(&mut self.world);
        self.note_splits();
        self.settle_claims();
        self.hurry();
        self.break_early();
        let mut checkers = std::mem::take(&mut self.checkers);
        for (_, checker) in checkers.iter_mut().filter(|(looks, _)| *looks) {
            if let Err(text) = checker.after_event(self) {
                self.found(checker.as_ref(), &text);
            }
        }
        self.checkers = checkers;
        self.world.touched = [false; 2];
    }

    /// State of a volume of a node; `None` while it has no power or no volume.
    pub fn state(&mut self, node: usize, volume: usize) -> Option<VolumeState> {
        let core = self.world.core(node)?;
        Some(core.state(VolumeIndex(volume as u8)))
    }

    /// Both nodes are connected and in sync for this volume.
    pub fn is_in_sync(&mut self, volume: usize) -> bool {
        (0..2).all(|node| {
            self.state(node, volume).is_some_and(|state| {
                state.conn == ConnState::Connected
                    && state.disk == DiskState::UpToDate
                    && state.pdsk == DiskState::UpToDate
            })
        })
    }

    /// No new size of the volume is on its way.
    fn has_one_size(&mut self, volume: usize) -> bool {
        let [a, b] = [0, 1].map(|node| {
            let alive = self.world.alive(node)?;
            let (_, volumes) = alive.core.control_state();
            let told = &volumes[volume];
            let waits = told.blocks > 0 || told.resize_asked;
            (!waits).then_some(alive.devices[volume].capacity)
        });
        a.is_some() && a == b
    }

    /// Nothing is in flight on behalf of applications. In protocol A an acknowledged write is still
    /// on its way; its barrier ack tells of its arrival.
    pub fn is_quiet(&mut self) -> bool {
        if self.workload.in_flight() > 0 {
            return false;
        }
        (0..2).all(|node| {
            let volumes = self.faults.volumes;
            let Some(alive) = self.world.alive(node) else {
                return false;
            };
            (0..volumes).all(|volume| {
                let counters = alive.core.counters(VolumeIndex(volume as u8));
                counters.app == 0
                    && counters.local == 0
                    && counters.pending == 0
                    && counters.unacked == 0
                    && counters.in_flight_sectors == 0
            })
        })
    }

    fn is_idle(&mut self) -> bool {
        if let Some(idle) = self.rested {
            return idle;
        }
        // The peer grows behind the answer, then the new space is synced.
        let settled = self
            .resized_ns
            .is_none_or(|at| self.world.now_ns >= at + SECOND);
        let idle = settled
            && self.workload.left == 0
            && self.is_quiet()
            && self.admins.iter().all(Admin::is_idle)
            && (0..self.faults.volumes)
                .all(|volume| self.is_in_sync(volume) && self.has_one_size(volume));
        self.rested = Some(idle);
        idle
    }

    /// One line about everybody.
    pub fn describe(&mut self) -> String {
        let mut text = format!(
            "at {} s, {} writes left, {} in flight, oldest {}",
            self.world.now_ns / SECOND,
            self.workload.left,
            self.workload.in_flight(),
            self.workload.oldest()
        );
        for node in 0..2 {
            text += &format!("; {}:", self.world.nodes[node].name());
            for volume in 0..self.faults.volumes {
                match self.state(node, volume) {
                    Some(state) => {
                        let counters = self.world.core(node).map(|core| {
                            let c = core.counters(VolumeIndex(volume as u8));
                            let told = &core.control_state().1[volume];
                            format!(
                                "lo {} pe {} ua {} ap {} oos {}; size {}, {} blocks, asked {}",
                                c.local,
                                c.pending,
                                c.unacked,
                                c.app,
                                c.out_of_sync_bits,
                                told.capacity,
                                told.blocks,
                                told.resize_asked
                            )
                        });
                        text += &format!(" {state} {}", counters.unwrap_or_default());
                    }
                    None => text += " no power",
                }
            }
            let admin = &self.admins[node];
            text += &format!(" {:?} {:?}", admin.current, admin.queue.front());
        }
        text
    }

    // Power, network, disks.

    /// Boots a node; its administrator brings the resource up.
    pub fn power_on(&mut self, node: usize) {
        let (requests, peers) = self.faults.slots;
        let seed = [self.world.random.draw() | 1, self.world.random.draw() | 1];
        let on_no_data = if self.faults.features.has(Feature::Freezes) {
            OnNoData::SuspendIo
        } else {
            OnNoData::IoError
        };
        let core = memory::resource(seed, on_no_data, requests, peers);
        self.world.touched[node] = true;
        let it = &mut self.world.nodes[node];
        it.life += 1;
        it.alive = Some(Box::new(Alive::new(core, requests, peers)));
        let life = it.life;
        self.world.net.set_life(node, Some(life));
        self.world.trace(node, || format!("POWER ON, life {life}"));
        let admin = &mut self.admins[node];
        admin.reset();
        for volume in 0..self.faults.volumes as u8 {
            admin.add(Command::NewVolume(volume));
        }
        for volume in 0..self.faults.volumes as u8 {
            admin.add(Command::Attach(volume));
        }
        admin.add(Command::Connect(false));
        // What was on its way meets a reset.
        for end in self.world.net.all_ends() {
            if self.world.net.owner(end).node == node {
                self.world.after(0, Event::Arrive(end));
            }
        }
    }

    fn network_up(&mut self) {
        self.world.net.cut = false;
        self.world.trace(0, || "network up".to_string());
        for end in self.world.net.all_ends() {
            self.world.net.stall(end, 0);
            self.world.after(0, Event::Arrive(end));
        }
    }

    fn disk_works(&mut self, node: usize) {
        for disk in &mut self.world.nodes[node].disks {
            disk.fail_reads = false;
            disk.fail_writes = false;
            disk.fail_flushes = false;
            disk.fail_only = None;
        }
    }

    fn later(&mut self, low_ns: u64, high_ns: u64, actor: Actor) {
        let delay = self.world.random.between(low_ns, high_ns);
        self.world.after(delay, Event::Act(actor));
    }

    // Actors.

    fn act(&mut self, actor: Actor) {
        match actor {
            Actor::Tend => {
                self.later(200 * MILLI, 2 * SECOND, Actor::Tend);
                if self.tended {
                    self.tend();
                }
            }
            // Nothing is left to submit.
            Actor::Work if self.workload.left == 0 => {}
            Actor::Work => {
                let pause = if self.world.random.chance(3) {
                    3 * SECOND
                } else {
                    20 * MILLI
                };
                self.later(0, pause, Actor::Work);
                let volumes = self.faults.volumes;
                self.workload.tick(&mut self.world, volumes);
            }
            Actor::Fault => {
                if let Some((low, high)) = self.faults.pause_ns.filter(|_| !self.healed) {
                    self.later(low, high, Actor::Fault);
                    self.fault();
                }
            }
            Actor::PowerOn(node, life) => {
                let it = &self.world.nodes[node];
                if it.alive.is_none() && it.life == life {
                    self.power_on(node);
                }
            }
            Actor::NetworkUp(cut) => {
                if cut == self.cuts {
                    self.network_up();
                }
            }
            Actor::DiskWorks(node) => self.disk_works(node),
            Actor::Command(node, command) => {
                if command == Command::Connect(false) {
                    self.apart = false;
                } else {
                    self.admins[node].add(command);
                }
            }
            Actor::Grow | Actor::Cross | Actor::Break(_) | Actor::Feature | Actor::Cause(..)
                if self.healed => {}
            Actor::Feature => self.use_feature(),
            Actor::Cause(fault, node) => self.cause(fault, node),
            Actor::Cross => self.cross(),
            Actor::Break(node) => self.break_link(node),
            Actor::ReadAll => self.workload.read_much(&mut self.world, 0),
            Actor::Grow => self.grow(),
            Actor::Asked(node, life, asked) => self.agreed(node, life, asked),
            Actor::Fenced(node, life, run) => self.fenced(node, life, run),
            Actor::Check => {
                self.later(50 * MILLI, SECOND, Actor::Check);
                self.check_quiet();
            }
        }
    }

    /// At a quiet moment both disks of a pair in sync are equal.
    fn check_quiet(&mut self) {
        for volume in 0..self.faults.volumes {
            if !self.is_in_sync(volume) {
                continue;
            }
            if self.is_quiet() {
                if let Err(text) = check::replicas_equal(self, volume) {
                    self.world.fail_data(text);
                }
                self.world.oracle.synced(volume);
            }
        }
    }

    fn fault(&mut self) {
        let Some(fault) = self.faults.next(&mut self.world.random) else {
            return;
        };
        self.happened += 1;
        let node = self.world.random.below(2) as usize;
        self.cause(fault, node);
    }

    /// Lets something go wrong on a node.
    pub fn cause(&mut self, fault: Fault, node: usize) {
        self.world.trace(node, || format!("FAULT {fault:?}"));
        match fault {
            Fault::PowerLoss => self.lose_power(node),
            Fault::BothLosePower => {
                self.lose_power(node);
                self.lose_power(1 - node);
            }
            Fault::Cut => {
                self.cuts += 1;
                self.world.net.cut = true;
                let most = self.world.random.pick(&[SECOND, 5 * SECOND, 60 * SECOND]);
                self.later(MILLI, most, Actor::NetworkUp(self.cuts));
            }
            Fault::Stall => {
                let link = self.world.alive(node).and_then(|alive| alive.link);
                if let Some(link) = link {
                    let end = self.world.random.pick(&[link.data, link.meta]);
                    let span = self.world.random.between(10 * MILLI, 20 * SECOND);
                    self.world.net.stall(end, self.world.now_ns + span);
                }
            }
            Fault::Reset => {
                let link = self.world.alive(node).and_then(|alive| alive.link);
                if let Some(link) = link {
                    let end = self.world.random.pick(&[link.data, link.meta]);
                    self.world.close_end(end);
                    self.world.after(0, Event::Arrive(end));
                    self.world.ring(node, crate::node::Thread::Sender);
                    self.world.ring(node, crate::node::Thread::MetaIn);
                    self.world.ring(node, crate::node::Thread::Receiver);
                }
            }
            Fault::DiskError if !self.may_fail(node) => {}
            Fault::DiskError => {
                let volume = self.world.random.below(self.faults.volumes as u64) as usize;
                let which = self.world.random.below(3);
                let only_flushes =
                    self.faults.features.has(Feature::Flushes) && self.world.random.chance(50);
                let apart = self.faults.extras.metadata_apart.is_some();
                let only = apart.then(|| self.world.random.pick(&[None, Some(false), Some(true)]));
                let disk = &mut self.world.nodes[node].disks[volume];
                disk.fail_only = only.flatten();
                disk.fail_flushes = only_flushes;
                disk.fail_reads = which != 1 && !only_flushes;
                disk.fail_writes = which != 0 && !only_flushes;
                self.later(MILLI, 3 * SECOND, Actor::DiskWorks(node));
            }
            Fault::Hang => self.hang(node),
            other => self.administer(node, other),
        }
    }

    pub(crate) fn lose_power(&mut self, node: usize) {
        self.power_off(node);
        let life = self.world.nodes[node].life;
        let most = self.world.random.pick(&[SECOND, 10 * SECOND, 60 * SECOND]);
        self.later(100 * MILLI, most, Actor::PowerOn(node, life));
    }

    fn administer(&mut self, node: usize, fault: Fault) {
        let volume = self.world.random.below(self.faults.volumes as u64) as u8;
        if !self.admins[node].is_idle() || self.world.nodes[node].alive.is_none() {
            return;
        }
        let away = node != self.holder || self.workload.node.is_none();
        let (now, then) = match fault {
            Fault::Disconnect => {
                self.apart = true;
                (Command::Disconnect, Command::Connect(false))
            }
            Fault::Switch => {
                if self.switch_to.is_none() && self.workload.node.is_some() {
                    self.switch_to = Some(1 - self.holder);
                    self.workload.resting = true;
                }
                return;
            }
            Fault::Detach if away => (Command::Detach(volume), Command::Attach(volume)),
            Fault::Invalidate if away => {
                let one = VolumeIndex(volume);
                let good = self.world.oracle.promises[one.slot()][1 - node];
                let usable = self
                    .state(1 - node, one.slot())
                    .is_some_and(|state| state.disk == DiskState::UpToDate);
                if good != Promise::Everything || !usable {
                    return;
                }
                let command = Command::Invalidate(volume);
                self.given_up[one.slot()] |= self.admins[1 - node].waits_for(command);
                self.admins[node].add(command);
                return;
            }
            Fault::Verify if self.is_in_sync(volume.into()) => {
                return self.verify(node, volume);
            }
            Fault::Suspend => (Command::SuspendIo(volume), Command::ResumeIo(volume)),
            Fault::PauseSync => (Command::PauseSync(volume), Command::ResumeSync(volume)),
            _ => return,
        };
        self.admins[node].add(now);
        self.later(MILLI, 10 * SECOND, Actor::Command(node, then));
    }

    // Looking after the nodes.
}
