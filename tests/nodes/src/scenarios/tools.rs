//! Not scenarios but the developer's inner loop: load the module, run a few commands, see the log.

use std::time::Duration;

use anyhow::Result;

use super::module_load::leak_check;
use crate::bed::Bed;
use crate::pair::{Pair, Plan};

/// Loads the module in one node, shows `/proc/drbd` and the kernel log, unloads it.
pub(crate) fn load(bed: &Bed) -> Result<()> {
    let mut pair = Pair::create(bed, "load", &Plan::default())?;
    let Pair { m, net, .. } = &mut pair;
    m.boot(net)?;
    let from = m.console().len();
    for command in [
        "modprobe drbd",
        "cat /proc/drbd",
        "modinfo drbd",
        "ls /sys/module/drbd/*",
        "rmmod drbd",
    ] {
        m.run(command)?;
    }
    leak_check(m)?;
    let console = m.console();
    pair.steps.say(&format!(
        "kernel log:\n{}",
        console.get(from..).unwrap_or_default()
    ));
    pair.finish()
}

/// Boots both nodes, loads the module and runs `commands` on M.
pub(crate) fn shell(bed: &Bed, commands: &str) -> Result<()> {
    let pair = Pair::boot(bed, "shell", &Plan::default())?;
    let from = pair.m.console().len();
    pair.run_both("modprobe drbd")?;
    pair.m.run_within(commands, Duration::from_secs(600))?;
    let console = pair.m.console();
    pair.steps.say(&format!(
        "kernel log of M:\n{}",
        console.get(from..).unwrap_or_default()
    ));
    pair.finish()
}

/// Says how to log in to each node and waits until both have been switched off.
pub(crate) fn stay(pair: &Pair) -> Result<()> {
    for node in pair.both() {
        let pid = node.host_pid().unwrap_or(0);
        println!(
            "{} runs as process {pid}, console in {}",
            node.spec.name,
            node.spec.dir.display()
        );
    }
    anyhow::bail!("KEEP=1 is for QEMU nodes")
}
