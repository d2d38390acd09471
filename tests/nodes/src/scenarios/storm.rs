//! What the scenarios of power loss and network cuts share: a pair under a checked workload.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};

use crate::bed::Bed;
use crate::node::Node;
use crate::pair::{first_difference, usable_kib, Pair, Plan};
use crate::provision::resource;
use crate::scribble::{next_random, Acks, Scribble};

const DISK_KIB: u64 = 128 * 1024;

/// The workload touches this much of the disk, so that a bitmap resync is far from a full one.
const TOUCHED_KIB: u64 = 24 * 1024;

/// Failures are noticed within a second or two.
const QUICK: &str = "net { ping-int 1; ping-timeout 5; connect-int 1; timeout 8; }\n\
     disk { c-plan-ahead 0; resync-rate 200M; }\n";

/// A pair under load.
pub(super) struct Storm {
    /// The nodes.
    pub(super) pair: Pair,
    /// 0 if M is Primary, 1 if S is.
    pub(super) primary: usize,
    /// What the application was told.
    pub(super) acks: Acks,
    random: u64,
    marks: [usize; 2],
    plan: Scribble,
    usable_kib: u64,
}

impl Storm {
    /// Boots the pair, equal by decree, M Primary.
    pub(super) fn begin(bed: &Bed, name: &str) -> Result<Self> {
        let plan = Plan {
            disk_kib: [DISK_KIB; 2],
            resource: resource("resftp", QUICK, &[]),
            ..Plan::default()
        };
        let pair = Pair::boot(bed, name, &plan)?;
        pair.run_both("modprobe drbd")?;
        pair.up_equal()?;
        pair.m.run("drbdadm primary resftp")?.ok()?;
        let plan = Scribble {
            seed: bed.seed,
            first: 1,
            blocks: 1024,
            stride: TOUCHED_KIB / 4 / 1024,
            depth: 8,
            count: 0,
        };
        Ok(Self {
            pair,
            primary: 0,
            acks: Acks::default(),
            random: bed.seed,
            marks: [0; 2],
            plan,
            usable_kib: usable_kib(DISK_KIB),
        })
    }

    /// A number below `limit` from the seeded sequence.
    pub(super) fn draw(&mut self, limit: u64) -> u64 {
        next_random(&mut self.random) % limit
    }

    /// Node 0 or 1.
    pub(super) fn node(&self, index: usize) -> &Node {
        self.pair.both()[index]
    }

    /// Node 0 or 1, to be switched on or off.
    pub(super) fn node_mut(&mut self, index: usize) -> &mut Node {
        if index == 0 {
            &mut self.pair.m
        } else {
            &mut self.pair.s
        }
    }

    /// Starts the workload on the Primary.
    pub(super) fn start_load(&mut self) -> Result<()> {
        self.read_acks()?;
        self.plan.first = self.acks.last + 1000;
        let node = self.node(self.primary);
        let line = node.acks_line();
        node.run(&format!(
            "stty raw <{line}; setsid /run/drop/drbd-nodes scribble /dev/drbd0 {line} {} \
             >/tmp/scribble.log 2>&1 & echo $! >/tmp/scribble.pid",
            self.plan.words()
        ))?
        .ok()?;
        Ok(())
    }

    /// Ends the workload; writes in flight are waited for.
    pub(super) fn stop_load(&mut self) -> Result<()> {
        let node = self.node(self.primary);
        node.run(
            "p=$(cat /tmp/scribble.pid); kill -0 $p || { cat /tmp/scribble.log; exit 1; }; \
             kill $p; while kill -0 $p 2>/dev/null; do sleep 0.02; done",
        )?
        .ok()?;
        self.read_acks()
    }

    fn read_acks(&mut self) -> Result<()> {
        for index in [0, 1] {
            let file = self.node(index).acks_file();
            self.acks.read(&file)?;
        }
        Ok(())
    }

    /// Waits until `more` further writes have been acknowledged.
    pub(super) fn wait_acks(&mut self, more: u64, seconds: u64) -> Result<()> {
        self.read_acks()?;
        let wanted = self.acks.count + more;
        let end = Instant::now() + Duration::from_secs(seconds);
        while self.acks.count < wanted {
            if Instant::now() > end {
                let node = self.node(self.primary);
                let log = node.run("cat /tmp/scribble.log /proc/drbd")?;
                anyhow::bail!("no {more} writes in {seconds} s: {}", log.text());
            }
            thread::sleep(Duration::from_millis(2));
            self.read_acks()?;
        }
        Ok(())
    }

    /// Waits until both nodes are connected and up to date.
    pub(super) fn wait_whole(&self, seconds: u64) -> Result<()> {
        for node in self.pair.both() {
            node.wait_proc(&["cs:Connected", "ds:UpToDate/UpToDate"], seconds)?;
        }
        Ok(())
    }

    /// Notes where the kernel logs end now, for [`Self::require_partial_resync`].
    pub(super) fn mark_logs(&mut self) {
        self.marks = self.pair.both().map(|node| node.console().len());
    }

    /// Whatever resync began since [`Self::mark_logs`] must have been a bitmap one.
    fn require_partial_resync(&self) -> Result<()> {
        for (node, mark) in self.pair.both().into_iter().zip(self.marks) {
            let console = node.console();
            let new = console.get(mark..).unwrap_or_default();
            for rest in new.split("(will sync ").skip(1) {
                let kib: u64 = rest
                    .split_once(" KB")
                    .and_then(|(number, _)| number.parse().ok())
                    .context("the size of a resync")?;
                ensure!(
                    kib <= TOUCHED_KIB + 8 * 1024,
                    "{}: {kib} KiB to sync where only a part can differ",
                    node.spec.name
                );
            }
        }
        Ok(())
    }

    /// With the load stopped: nothing acknowledged is lost, both disks are equal, no kernel
    /// complained.
    pub(super) fn check(&mut self) -> Result<()> {
        for node in self.pair.both() {
            node.wait_proc(&["cs:Connected", "ds:UpToDate/UpToDate", " oos:0"], 30)?;
        }
        self.require_partial_resync()?;
        self.read_acks()?;
        for index in [1 - self.primary, self.primary] {
            let node = self.node(index);
            self.acks
                .check(node.disk_file(0), self.plan.seed)
                .with_context(|| format!("the disk of {}", node.spec.name))?;
        }
        let (m, s) = (self.pair.m.disk_file(0), self.pair.s.disk_file(0));
        let differ = first_difference(m, s, self.usable_kib * 1024)?;
        ensure!(
            differ.is_none(),
            "the disks differ at byte {differ:?} after convergence"
        );
        self.pair.require_quiet_kernels()
    }

    /// Switches a node on again and starts the resource.
    pub(super) fn revive(&mut self, index: usize) -> Result<()> {
        self.pair.power_on()?;
        self.node(index)
            .run("modprobe drbd && drbdadm up resftp")?
            .ok()?;
        Ok(())
    }

    /// The end: everything down, kernels quiet.
    pub(super) fn end(self) -> Result<()> {
        let count = self.acks.count;
        self.pair
            .steps
            .say(&format!("{count} acknowledged writes, none lost"));
        self.node(self.primary)
            .run("drbdadm secondary resftp")?
            .ok()?;
        self.pair.run_both("drbdadm down resftp && rmmod drbd")?;
        super::module_load::leak_checks(&self.pair)?;
        self.pair.finish()
    }
}
