//! Two nodes with a cable between them, and the folder where they leave their traces.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{bail, ensure, Context, Result};

use crate::bed::{Bed, Kernel};
use crate::node::{Driver, Node, NodeSpec};
use crate::provision::{self, HOSTS};
use crate::relay::{Net, SNAP_DEFAULT};
use crate::steps::Steps;

/// How the pair of a scenario is made.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Size of the data disk of each node, in KiB.
    pub(crate) disk_kib: [u64; 2],
    /// More disks for each node, in KiB.
    pub(crate) more_disks_kib: Vec<u64>,
    /// Text of the resource file.
    pub(crate) resource: String,
    /// Bytes kept of each captured frame; 0 joins the nodes without a capture.
    pub(crate) snap: usize,
    /// Memory of a node in MiB; `None` for the kernel's usual.
    pub(crate) memory_mib: Option<u32>,
    /// Each node stays on one processor of the host, M and S on different ones if there are two.
    pub(crate) pinned: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            disk_kib: [64 * 1024; 2],
            more_disks_kib: Vec::new(),
            resource: provision::lab_resource(),
            snap: SNAP_DEFAULT,
            memory_mib: None,
            pinned: false,
        }
    }
}

/// M and S of the lab.
pub(crate) struct Pair {
    /// The master.
    pub(crate) m: Node,
    /// The standby.
    pub(crate) s: Node,
    /// The cable.
    pub(crate) net: Net,
    /// The record.
    pub(crate) steps: Arc<Steps>,
    /// Folder of the scenario.
    pub(crate) dir: PathBuf,
}

impl Pair {
    /// Makes folder, disks and drop folders; the nodes are switched off.
    pub(crate) fn create(bed: &Bed, name: &str, plan: &Plan) -> Result<Self> {
        let dir = bed.out.join(format!(
            "{name}-{}{}",
            bed.kernel.word(),
            bed.pairing.suffix()
        ));
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("clear {}", dir.display()))?;
        }
        fs::create_dir_all(&dir)?;
        let steps = Arc::new(Steps::create(&dir, bed.loud)?);
        steps.say(&format!(
            "{name}: kernel {}, drivers {:?}, tools {:?}, SEED={}, traces in {}",
            bed.kernel.word(),
            bed.pairing.drivers,
            bed.pairing.tools,
            bed.seed,
            dir.display()
        ));
        let net = match plan.snap {
            0 => Net::direct()?,
            snap => Net::relayed(&dir.join("net.pcap"), snap)?,
        };
        let backend = bed.backend()?;
        let make = |index: usize| -> Result<Node> {
            let spec = spec(bed, plan, &dir, index)?;
            provision::fill(bed, backend.as_ref(), &spec)?;
            fs::write(spec.drop.join("drbd.d/test.res"), &plan.resource)?;
            Ok(Node::new(spec, Arc::clone(&backend), Arc::clone(&steps)))
        };
        Ok(Self {
            m: make(0)?,
            s: make(1)?,
            net,
            steps,
            dir,
        })
    }

    /// Makes the pair and switches both nodes on, at the same time.
    pub(crate) fn boot(bed: &Bed, name: &str, plan: &Plan) -> Result<Self> {
        let mut pair = Self::create(bed, name, plan)?;
        pair.power_on()?;
        Ok(pair)
    }

    /// With both nodes switched off: gives them other kernel modules for their next boot.
    pub(crate) fn set_drivers(&mut self, bed: &Bed, drivers: [Driver; 2]) -> Result<()> {
        for (node, driver) in [&mut self.m, &mut self.s].into_iter().zip(drivers) {
            ensure!(
                !node.is_up(),
                "{} must be switched off first",
                node.spec.name
            );
            let resource = fs::read(node.spec.drop.join("drbd.d/test.res"))?;
            fs::remove_dir_all(&node.spec.drop).context("clear the drop folder")?;
            node.set_driver(driver);
            provision::fill(bed, bed.backend()?.as_ref(), &node.spec)?;
            fs::write(node.spec.drop.join("drbd.d/test.res"), resource)?;
        }
        Ok(())
    }

    /// Switches on what is off.
    pub(crate) fn power_on(&mut self) -> Result<()> {
        let Self { m, s, net, .. } = self;
        let (m_up, s_up) = (m.is_up(), s.is_up());
        let net = &*net;
        std::thread::scope(|scope| {
            let other = scope.spawn(|| if s_up { Ok(()) } else { s.boot(net) });
            let first = if m_up { Ok(()) } else { m.boot(net) };
            other
                .join()
                .unwrap_or_else(|_| bail!("the thread that boots S panicked"))?;
            first
        })
    }

    /// Both nodes, M first.
    pub(crate) fn both(&self) -> [&Node; 2] {
        [&self.m, &self.s]
    }

    /// Runs a command on both nodes at the same time and demands exit status 0.
    pub(crate) fn run_both(&self, command: &str) -> Result<()> {
        let jobs = self
            .both()
            .map(|node| node.start(command, crate::node::COMMAND_DEADLINE));
        for job in jobs {
            job?.wait()?.ok()?;
        }
        Ok(())
    }

    /// Makes metadata for resource resftp and brings it up on both nodes, whose modules are loaded:
    /// connected, with disks that count as equal without a resync, both Secondary.
    pub(crate) fn up_equal(&self) -> Result<()> {
        self.run_both("drbdadm create-md resftp && drbdadm up resftp")?;
        self.run_both("drbdadm wait-connect resftp")?;
        self.m
            .run("drbdsetup new-current-uuid 0 --clear-bitmap")?
            .ok()?;
        self.s.wait_proc(&["ds:UpToDate/UpToDate"], 20)?;
        Ok(())
    }

    /// The end of a scenario: what the kernels said decides over pass or fail.
    ///
    /// # Errors
    ///
    /// A kernel report, or lockdep switched off.
    pub(crate) fn finish(mut self) -> Result<()> {
        for node in [&mut self.m, &mut self.s] {
            if node.spec.debug_kernel && node.is_up() {
                node.require_lockdep()?;
            }
            node.power_off();
        }
        self.require_quiet_kernels()?;
        Ok(())
    }

    /// Fails if a kernel reported anything so far.
    pub(crate) fn require_quiet_kernels(&self) -> Result<()> {
        for node in self.both() {
            let found = node.alarms();
            ensure!(
                found.is_empty(),
                "kernel reports on {} ({} in all, see {}):\n{}",
                node.spec.name,
                found.len(),
                node.spec.dir.join("console.log").display(),
                found.iter().take(8).cloned().collect::<Vec<_>>().join("\n")
            );
        }
        Ok(())
    }
}

fn spec(bed: &Bed, plan: &Plan, dir: &Path, index: usize) -> Result<NodeSpec> {
    let name = ["M", "S"][index];
    let node_dir = dir.join(name);
    fs::create_dir_all(&node_dir)?;
    let mut disks = Vec::new();
    let sizes = std::iter::once(&plan.disk_kib[index]).chain(&plan.more_disks_kib);
    for (number, size_kib) in sizes.enumerate() {
        let path = node_dir.join(format!("disk{number}.img"));
        File::create(&path)?
            .set_len(size_kib * 1024)
            .context("make a disk")?;
        disks.push(path);
    }
    let (hostname, address) = HOSTS[index];
    let usual_mib = if bed.kernel == Kernel::Debug {
        512
    } else {
        256
    };
    Ok(NodeSpec {
        name,
        index,
        hostname,
        address,
        driver: bed.pairing.drivers[index],
        tools: bed.pairing.tools[index],
        memory_mib: plan.memory_mib.unwrap_or(usual_mib),
        cpus: 1,
        pinned: plan.pinned.then(|| index % crate::machine::processors()),
        disks,
        drop: node_dir.join("drop"),
        dir: node_dir,
        debug_kernel: bed.kernel == Kernel::Debug,
    })
}

/// Usable size of a device with internal metadata, in KiB (`reference/userland.md` 4.5).
pub(crate) fn usable_kib(device_kib: u64) -> u64 {
    let bits = (device_kib / 4).div_ceil(64) * 64;
    let bitmap = (bits / 8).div_ceil(4096) * 4;
    device_kib / 4 * 4 - 4 - 32 - bitmap
}

/// Compares the first `length` bytes of two disk files and returns the first differing byte.
pub(crate) fn first_difference(a: &Path, b: &Path, length: u64) -> Result<Option<u64>> {
    let mut files = [File::open(a)?, File::open(b)?];
    let mut buffers = [vec![0_u8; 1 << 20], vec![0_u8; 1 << 20]];
    let mut at = 0;
    while at < length {
        let part = usize::try_from((length - at).min(1 << 20))?;
        for (file, buffer) in files.iter_mut().zip(&mut buffers) {
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(&mut buffer[..part])
                .context("read a disk")?;
        }
        let [a, b] = &buffers;
        if a[..part] != b[..part] {
            let offset = a
                .iter()
                .zip(b)
                .take(part)
                .position(|(a, b)| a != b)
                .unwrap_or(0);
            return Ok(Some(at + offset as u64));
        }
        at += part as u64;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::usable_kib;

    #[test]
    fn the_seeds_partition_leaves_the_seeds_usable_size() {
        assert_eq!(usable_kib(3_144_704), 3_144_572);
        assert_eq!(usable_kib(2_539_520), 2_539_404);
    }
}
