//! Everything that exists in a run: clock, nodes, network, events, trace.

use drbd_core::chance::{hold, Unlikely};
use drbd_core::link::VolumeIndex;
use drbd_core::quirk::{behave_as, Quirk, Quirks};
use drbd_core::resource::Wants;
use drbd_core::time::Instant;

use crate::extras::Activity;
use crate::features::Features;
use crate::heap::Heap;
use crate::network::{EndId, Network};
use crate::node::{name, Alive, Bio, Core, Node, Thread, Waiter, VOLUMES};
use crate::oracle::{Oracle, Write};
use crate::random::Random;
use crate::wire::{SentWrite, Wire};

/// Looks for work that find nothing, one after the other, before that is a fault. Some begin a read
/// of the own disk, up to what may be under way.
const VAIN_LOOKS_MAX: u32 = 100;

/// Nanoseconds in a microsecond.
pub const MICRO: u64 = 1_000;
/// Nanoseconds in a millisecond.
pub const MILLI: u64 = 1_000_000;
/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// Something that happens at a time.
#[derive(Debug)]
pub enum Event {
    /// A thread looks at its work.
    Run(usize, u32, Thread),
    /// A disk has done something.
    Disk {
        /// Node.
        node: usize,
        /// Its incarnation.
        life: u32,
        /// Volume.
        volume: u8,
        /// Request of the disk.
        request: u64,
        /// Who waits.
        waiter: Waiter,
    },
    /// The timer of a node.
    Timer(usize, u32, u64),
    /// Something reaches an end of a stream.
    Arrive(EndId),
    /// A connect attempt reaches the listener, or not.
    Knock(usize, u32, EndId),
    /// A connect attempt has ended.
    ConnectDone(usize, u32, Option<EndId>),
    /// One of those who act on the cluster from outside.
    Act(crate::cluster::Actor),
}

/// What an application was told.
#[derive(Clone, Copy, Debug)]
pub enum Heard {
    /// A write has ended well.
    Acked {
        /// Node.
        node: usize,
        /// Volume.
        volume: usize,
        /// The write.
        write: Write,
        /// It was to be durable.
        durable: bool,
    },
    /// A flush has ended well.
    Flushed {
        /// Node.
        node: usize,
        /// Volume.
        volume: usize,
        /// Acknowledgements before it was submitted.
        mark: u64,
    },
}

/// What is seen on behalf of the checkers at the moment it happens.
#[derive(Debug, Default)]
pub struct Witness {
    /// What the nodes say to each other.
    pub wire: Wire,
    /// What applications have heard.
    pub heard: Vec<Heard>,
    /// A barrier ack that came too early: who sent it, its number, what is not stable.
    pub unstable: Option<(usize, u32, SentWrite)>,
    /// A write for the peer that brings back old data, and on which node.
    pub went_back: Option<(usize, VolumeIndex, String)>,
}

/// A line that a core printed.
#[derive(Clone, Debug)]
pub struct Said {
    /// Where.
    pub node: usize,
    /// About which volume, unless about the connection.
    pub volume: Option<VolumeIndex>,
    /// The line.
    pub text: String,
}

/// Nodes may know of no common generation any more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unrelated {
    /// How often they have said so.
    pub said: u32,
    /// One of the disks has got new metadata for that.
    pub renewed: bool,
}

/// Everything there is.
pub struct World {
    /// Virtual time.
    pub now_ns: u64,
    /// Source of every decision.
    pub random: Random,
    /// Pending events.
    pub heap: Heap<Event>,
    /// Both nodes.
    pub nodes: [Node; 2],
    /// The network.
    pub net: Network,
    /// What applications may expect to read.
    pub oracle: Oracle,
    /// First thing that was found wrong.
    pub failure: Option<String>,
    /// Print what happens.
    pub verbose: bool,
    /// Bios that have ended: node, bio, success.
    pub ended: Vec<(usize, Bio, bool)>,
    /// Events so far.
    pub events: u64,
    /// A core or somebody outside has done something since the checkers looked last.
    pub changed: bool,
    /// Nodes to which anything has happened since the checkers looked last.
    pub touched: [bool; 2],
    /// Latency of the disks in nanoseconds: least and most.
    pub disk_latency_ns: (u64, u64),
    /// Largest time until a woken thread runs.
    pub wakeup_ns: u64,
    /// Names of helpers that ran.
    pub helpers: Vec<String>,
    /// Changes of state so far.
    pub diagram: crate::diagram::Diagram,
    /// Lines that the cores printed.
    pub log: Vec<Said>,
    /// What the nodes have done for applications.
    pub activity: [Activity; 2],
    /// What was seen since the checkers looked last.
    pub witness: Witness,
    /// Sizes that administrators have configured, per volume; 0: no limit.
    pub sizes: Vec<u64>,
    /// Data that are unrelated, per volume.
    pub unrelated: Vec<Unrelated>,
    /// Ways of the C driver that have made a difference so far.
    pub mattered: Quirks,
    /// Data were wrong after a defect of the C driver: the run ends there, and is not a failure.
    pub excused: Option<String>,
    /// What few clusters use.
    pub features: Features,
    /// Until when the disks of each node do not answer.
    pub hung_until_ns: [[u64; VOLUMES]; 2],
    /// Room for packets and blocks of metadata.
    pub(crate) scratch: Vec<u8>,
}

/// Bytes of `scratch`.
pub(crate) const SCRATCH_LEN: usize = 4096 + 64;

impl World {
    /// Prints a line of the trace.
    pub fn trace(&self, node: usize, line: impl FnOnce() -> String) {
        if self.verbose {
            let at = self.now_ns;
            println!(
                "{:>6}.{:06} {} {}",
                at / SECOND,
                at % SECOND / MICRO,
                name(node),
                line()
            );
        }
    }

    /// Notes what was found wrong; the first finding counts.
    pub fn fail(&mut self, text: String) {
        if self.failure.is_none() {
            if self.verbose {
                println!("FAILURE at {} ms: {text}", self.now_ns / MILLI);
            }
            self.failure = Some(text);
        }
    }

    /// Notes that data are wrong. Behind a defect of the C driver that makes old data good nobody
    /// can tell whose fault it is: the run is over.
    pub fn fail_data(&mut self, text: String) {
        let harmful = |quirk: &&Quirk| self.mattered.contains(**quirk);
        match Quirk::HARMFUL.iter().find(harmful) {
            None => self.fail(text),
            Some(quirk) => {
                let text = format!("{quirk:?} of the C driver: {text}");
                self.trace(0, || text.clone());
                self.excused.get_or_insert(text);
            }
        }
    }

    /// A way of the C driver has made a difference.
    pub(crate) fn mattered(&mut self, quirk: Quirk) {
        self.mattered = self.mattered.or(Quirks::only(quirk));
    }

    /// How often each unlikely branch was taken, on both nodes.
    pub fn unlikely(&self) -> [u64; Unlikely::COUNT] {
        Unlikely::ALL.map(|unlikely| {
            let dice = self.nodes.iter().filter_map(|node| node.dice);
            dice.map(|dice| u64::from(dice.taken(unlikely))).sum()
        })
    }

    /// Adds an event after `delay_ns`.
    pub fn after(&mut self, delay_ns: u64, event: Event) {
        self.heap.push(self.now_ns + delay_ns, event);
    }

    /// The running part of a node.
    pub fn alive(&mut self, node: usize) -> Option<&mut Alive> {
        self.nodes[node].alive.as_deref_mut()
    }

    /// Wakes a thread.
    pub fn ring(&mut self, node: usize, thread: Thread) {
        let delay = self.random.below(self.wakeup_ns);
        let Some(alive) = self.alive(node) else {
            return;
        };
        if !std::mem::replace(&mut alive.bells[thread.bell()], true) {
            let life = self.nodes[node].life;
            self.after(delay, Event::Run(node, life, thread));
        }
    }

    /// Lets a thread look again at a point in time, whether its bell rings or not.
    pub fn ring_at(&mut self, node: usize, thread: Thread, at_ns: u64) {
        let life = self.nodes[node].life;
        self.heap
            .push(at_ns.max(self.now_ns), Event::Run(node, life, thread));
    }

    /// Calls the core of a node and wakes whoever has work afterwards.
    pub fn with<R>(
        &mut self,
        node: usize,
        call: impl FnOnce(&mut Alive, Instant) -> R,
    ) -> Option<R> {
        let (result, _) = self.with_wants(node, call)?;
        self.changed = true;
        Some(result)
    }

    /// As [`World::with`], with what the core wants afterwards; whether anything has changed is for
    /// the caller to say.
    fn with_wants<R>(
        &mut self,
        node: usize,
        call: impl FnOnce(&mut Alive, Instant) -> R,
    ) -> Option<(R, Wants)> {
        self.touched[node] = true;
        let now = self.nodes[node].clock(self.now_ns);
        let Node {
            alive,
            quirks,
            dice,
            ..
        } = &mut self.nodes[node];
        let alive = alive.as_deref_mut()?;
        behave_as(*quirks);
        hold(*dice);
        let result = call(alive, now);
        *dice = hold(None);
        let mattered = behave_as(Quirks::NONE);
        self.mattered = self.mattered.or(mattered);
        if mattered.contains(Quirk::AckBeforeFlush) {
            for disk in &mut self.nodes[node].disks {
                disk.acknowledge_cached();
            }
        }
        let wants = self.alive(node)?.core.take_wants();
        self.dispatch(node, &wants);
        Some((result, wants))
    }

    /// As [`World::with`] for a thread that looks for work: if there is none it must come to rest.
    /// One look too many does no harm; a thread that goes on keeps the processor from all others.
    /// Where nothing is found and nobody is wanted nothing has changed for the checkers.
    pub fn look<R>(
        &mut self,
        node: usize,
        thread: Thread,
        call: impl FnOnce(&mut Alive, Instant) -> Option<R>,
    ) -> Option<R> {
        self.alive(node)?.bells[thread.bell()] = false;
        let (found, wants) = self.with_wants(node, call)?;
        let timer = wants.timer;
        let nobody = Wants {
            timer,
            ..Wants::default()
        };
        self.changed |= found.is_some() || wants != nobody;
        let alive = self.alive(node)?;
        let again = found.is_none() && alive.bells[thread.bell()];
        let vain = &mut alive.vain_looks[thread.bell()];
        *vain = if again { *vain + 1 } else { 0 };
        if *vain == VAIN_LOOKS_MAX {
            let who = name(node);
            self.fail(format!(
                "{thread:?} of {who} finds nothing and never comes to rest"
            ));
        }
        found
    }

    /// Tells the core something.
    pub fn handle(&mut self, node: usize, input: &drbd_core::input::Input<'_>) {
        self.with(node, |alive, now| alive.core.handle(input, now));
    }

    fn dispatch(&mut self, node: usize, wants: &Wants) {
        if wants.done {
            self.finish(node);
        }
        let bells = [
            (wants.sender, Thread::Sender),
            (wants.acks, Thread::Acks),
            (wants.peer_io, Thread::PeerIo),
            (wants.receiver, Thread::Receiver),
            (wants.actions, Thread::Control),
            (wants.submitters, Thread::Submitters),
        ];
        for (wanted, thread) in bells {
            if wanted {
                self.ring(node, thread);
            }
        }
        for volume in 0..crate::node::VOLUMES as u8 {
            if wants.volumes >> volume & 1 != 0 || wants.submitters {
                self.ring(node, Thread::Volume(volume));
            }
        }
        if let Some(at) = wants.timer {
            self.arm(node, at);
        }
    }

    /// Arms the one timer of the node.
    fn arm(&mut self, node: usize, at: Instant) {
        let it = &self.nodes[node];
        if it.alive.as_ref().is_none_or(|it| it.timer.0 == Some(at)) {
            return;
        }
        let (at_ns, life) = (it.global_ns(at).max(self.now_ns), it.life);
        let Some(alive) = self.alive(node) else {
            return;
        };
        alive.timer.1 += 1;
        alive.timer.0 = Some(at);
        alive.timer_ns = at_ns;
        let number = alive.timer.1;
        self.heap.push(at_ns, Event::Timer(node, life, number));
    }

    /// A timer has run out.
    pub fn timer(&mut self, node: usize, number: u64) {
        let Some(alive) = self.alive(node) else {
            return;
        };
        if alive.timer.1 != number {
            return;
        }
        alive.timer.0 = None;
        self.with(node, |alive, now| alive.core.on_timer(now));
    }

    /// Tells whether an event for this life of a node still concerns anybody.
    pub fn is_current(&self, node: usize, life: u32) -> bool {
        self.nodes[node].life == life && self.nodes[node].alive.is_some()
    }

    /// The core of a node, for queries.
    pub fn core(&mut self, node: usize) -> Option<&mut Core> {
        self.alive(node).map(|alive| &mut alive.core)
    }
}
