//! Directed runs: a scene is set, something happens at a chosen moment, then everything must be
//! well.

use std::panic::{catch_unwind, AssertUnwindSafe};

use drbd_core::link::VolumeIndex;
use drbd_core::put_back::{select, Bug};
use drbd_core::request::Op;
use drbd_core::state::VolumeState;
use drbd_format::types::ConnState;

use crate::admin::Command;
use crate::cluster::{Cluster, HEAL_LIMIT_NS};
use crate::faults::{Fault, Faults};
use crate::network::EndId;
use crate::node::Link;
use crate::world::SECOND;

/// What a scene came to; `Err` tells what was found wrong.
pub type Outcome = Result<(), String>;

/// Simulated time in which an expected moment must come.
const PATIENCE_NS: u64 = 200 * SECOND;

/// Two nodes in a state of one's choice.
pub struct Scene {
    /// The nodes and those around them.
    pub cluster: Cluster,
}

impl Scene {
    /// Both nodes are connected and in sync, `a` is Primary, nobody writes, and nobody looks after
    /// them any more.
    ///
    /// # Errors
    ///
    /// They did not get there.
    pub fn new(faults: Faults) -> Result<Self, String> {
        Self::with_seed(1, faults)
    }

    /// As [`Self::new`], with other delays.
    ///
    /// # Errors
    ///
    /// They did not get there.
    pub fn with_seed(seed: u64, faults: Faults) -> Result<Self, String> {
        for seed in (seed..).step_by(1000) {
            let mut cluster = Cluster::new(seed, faults.clone());
            cluster.run(0);
            let mut scene = Self { cluster };
            scene.until("in sync", |cluster| {
                let volumes = cluster.faults.volumes;
                let primary = cluster.workload.node.is_some();
                primary && (0..volumes).all(|volume| cluster.is_in_sync(volume))
            })?;
            // Which node they promote is up to the administrators.
            if scene.cluster.workload.node == Some(0) {
                scene.cluster.tended = false;
                return Ok(scene);
            }
        }
        Err("a never becomes Primary".to_string())
    }

    /// State of the first volume of a node that has power.
    pub fn state(&mut self, node: usize) -> VolumeState {
        self.cluster.state(node, 0).unwrap_or(VolumeState::INITIAL)
    }

    /// Lets the next `count` events happen.
    ///
    /// # Errors
    ///
    /// Something went wrong meanwhile.
    pub fn steps(&mut self, count: u64) -> Outcome {
        for _ in 0..count {
            self.cluster.step();
        }
        self.outcome()
    }

    /// Lets things happen until `reached` holds.
    ///
    /// # Errors
    ///
    /// Something went wrong meanwhile, or it never holds.
    pub fn until(&mut self, what: &str, reached: impl Fn(&mut Cluster) -> bool) -> Outcome {
        let end_ns = self.cluster.world.now_ns + PATIENCE_NS;
        while !reached(&mut self.cluster) {
            if self.cluster.world.now_ns > end_ns {
                let text = self.cluster.describe();
                return Err(format!("never {what}: {text}"));
            }
            if !self.cluster.step() {
                break;
            }
        }
        self.outcome()
    }

    /// Lets things happen until the connection of a node is in this state.
    ///
    /// # Errors
    ///
    /// As [`Self::until`].
    pub fn until_conn(&mut self, node: usize, conn: ConnState) -> Outcome {
        self.until(&format!("{conn}"), |cluster| {
            cluster
                .state(node, 0)
                .is_some_and(|state| state.conn == conn)
        })
    }

    /// Gives a command and waits for its answer.
    ///
    /// # Errors
    ///
    /// As [`Self::until`].
    pub fn command(&mut self, node: usize, command: Command) -> Outcome {
        self.cluster.admins[node].add(command);
        self.until("answered", |cluster| cluster.admins[node].is_idle())
    }

    /// Submits a write to `a`.
    pub fn write(&mut self, sector: u64, count: u64) {
        let Cluster {
            workload, world, ..
        } = &mut self.cluster;
        workload.submit(world, 0, 0, Op::Write, (sector, count));
    }

    /// Submits a read to `a`.
    pub fn read(&mut self, sector: u64, count: u64) {
        let Cluster {
            workload, world, ..
        } = &mut self.cluster;
        workload.submit(world, 0, 0, Op::Read, (sector, count));
    }

    /// Waits until nothing is in flight for the application.
    ///
    /// # Errors
    ///
    /// As [`Self::until`].
    pub fn written(&mut self) -> Outcome {
        self.until("written", |cluster| cluster.workload.in_flight() == 0)
    }

    /// Disconnects `a`, writes `blocks` blocks, and lets it connect again.
    ///
    /// # Errors
    ///
    /// As [`Self::until`].
    pub fn write_apart(&mut self, blocks: u64) -> Outcome {
        self.command(0, Command::Disconnect)?;
        for block in 0..blocks {
            self.write(64 * block, 8);
        }
        self.written()?;
        self.connect();
        Ok(())
    }

    /// The application on `a` closes the device.
    pub fn close(&mut self) {
        let Cluster {
            workload, world, ..
        } = &mut self.cluster;
        workload.leave(world, 0, 1);
    }

    /// Lets both nodes connect.
    pub fn connect(&mut self) {
        for node in 0..2 {
            if self.state(node).conn == ConnState::StandAlone {
                self.cluster.admins[node].add(Command::Connect(false));
            }
        }
    }

    /// The network is gone until the scene ends; both nodes notice.
    ///
    /// # Errors
    ///
    /// As [`Self::until`].
    pub fn cut(&mut self) -> Outcome {
        self.cluster.world.net.cut = true;
        self.until("cut", |cluster| {
            (0..2).all(|node| {
                cluster
                    .state(node, 0)
                    .is_none_or(|state| state.conn < ConnState::Connected)
            })
        })
    }

    /// The network works again.
    pub fn mend(&mut self) {
        self.cluster.heal();
        self.cluster.healed = false;
    }

    /// Something goes wrong.
    pub fn cause(&mut self, fault: Fault, node: usize) {
        self.cluster.cause(fault, node);
    }

    /// Nothing arrives at `a` on the meta socket for a while.
    ///
    /// # Errors
    ///
    /// There is no connection.
    pub fn stall_acks(&mut self) -> Outcome {
        self.stall(0, |link| link.meta)
    }

    /// Nothing arrives at a node on the data socket for a while.
    ///
    /// # Errors
    ///
    /// There is no connection.
    pub fn stall_data(&mut self, node: usize) -> Outcome {
        self.stall(node, |link| link.data)
    }

    fn stall(&mut self, node: usize, end: impl Fn(Link) -> EndId) -> Outcome {
        let world = &mut self.cluster.world;
        let link = world.alive(node).and_then(|alive| alive.link);
        let end = end(link.ok_or("no connection")?);
        let until_ns = world.now_ns + 20 * SECOND;
        world.net.stall(end, until_ns);
        Ok(())
    }

    /// Number of bits set on a node.
    pub fn bits(&mut self, node: usize) -> u64 {
        let core = self.cluster.world.core(node);
        core.map_or(0, |core| core.counters(VolumeIndex(0)).out_of_sync_bits)
    }

    /// Everything is good from now on: the nodes must come to rest, and all promises hold.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn end(mut self) -> Outcome {
        let cluster = &mut self.cluster;
        cluster.tended = true;
        cluster.heal();
        cluster.run_until_idle(HEAL_LIMIT_NS);
        cluster.check_end();
        self.outcome()
    }

    fn outcome(&self) -> Outcome {
        match &self.cluster.world.failure {
            Some(text) => Err(text.clone()),
            None => Ok(()),
        }
    }
}

/// Runs a scenario as the code is, which must go well, and with a bug put back, which must not.
///
/// # Panics
///
/// If one of the two is otherwise.
pub fn falls(bug: Bug, scenario: impl Fn() -> Outcome) {
    select(None);
    assert_eq!(scenario(), Ok(()), "without any bug");
    select(Some(bug));
    let outcome = catch_unwind(AssertUnwindSafe(&scenario));
    select(None);
    assert!(!matches!(outcome, Ok(Ok(()))), "{bug:?} was not noticed");
}
