//! The module loads, shows its header and unloads without a trace.

use anyhow::{ensure, Result};

use super::Scenario;
use crate::bed::Bed;
use crate::node::{Driver, Node};
use crate::pair::{Pair, Plan};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "module_load",
    shows: "load, /proc/drbd header, refused second load, unload, nothing leaked, ten times over",
    run,
};

fn run(bed: &Bed) -> Result<()> {
    let mut pair = Pair::create(bed, SCENARIO.name, &Plan::default())?;
    let Pair { m, net, .. } = &mut pair;
    m.boot(net)?;
    for _ in 0..bed.rounds.unwrap_or(10) {
        load_and_unload(m)?;
    }
    leak_check(m)?;
    pair.finish()
}

fn load_and_unload(node: &Node) -> Result<()> {
    node.run("modprobe drbd")?.ok()?;
    node.run("lsmod")?.ok()?.says("drbd")?;
    let proc_drbd = node.proc_drbd()?;
    let lines: Vec<&str> = proc_drbd.lines().collect();
    ensure!(
        lines.len() == 2
            && lines[0].starts_with("version: 8.4.")
            && lines[0].ends_with("(api:1/proto:86-101)")
            && lines[1].starts_with("srcversion: "),
        "header of /proc/drbd: {proc_drbd:?}"
    );
    node.run("rmmod drbd")?.ok()?;
    node.run("test ! -e /proc/drbd && ! lsmod | grep -q ^drbd")?
        .ok()?;
    Ok(())
}

/// Scans for leaked memory twice, as kmemleak needs to be sure. Does nothing without kmemleak.
pub(crate) fn leak_check(node: &Node) -> Result<()> {
    let scan = "f=/sys/kernel/debug/kmemleak; [ -e $f ] || exit 0; \
         for i in 1 2 3; do echo scan >$f; done; cat $f | tee /dev/console";
    let found = node.run(scan)?.ok()?;
    ensure!(
        !found.stdout.contains("unreferenced object"),
        "{}: leaked memory:\n{}",
        node.spec.name,
        found.stdout
    );
    Ok(())
}

/// Looks for leaked memory on those nodes of a pair that have had our module.
pub(crate) fn leak_checks(pair: &Pair) -> Result<()> {
    let ours = |node: &&Node| node.spec.driver == Driver::Ours;
    pair.both()
        .into_iter()
        .filter(ours)
        .try_for_each(leak_check)
}
