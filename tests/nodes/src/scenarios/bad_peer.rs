//! Garbage, oversized, damaged and truncated packets before and after the handshake: the node hangs
//! up, says why, and goes on. A peer that does not hear gets nothing any more once it was given up.

use anyhow::{ensure, Context, Result};

use super::Scenario;
use crate::bed::Bed;
use crate::pair::{Pair, Plan};
use crate::provision::resource;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "bad_peer",
    shows: "N malicious connections: a logged disconnect each, nothing lost, nothing leaked; \
            TCP keeps nothing for a deaf peer",
    run,
};

const QUICK: &str = "net { ping-int 1; ping-timeout 5; connect-int 1; timeout 8; }\n";

fn run(bed: &Bed) -> Result<()> {
    let plan = Plan {
        // As large as the disk of the recording, so that a replayed handshake can succeed.
        disk_kib: [4 * 1024; 2],
        resource: resource("resftp", QUICK, &[]),
        ..Plan::default()
    };
    let pair = Pair::boot(bed, SCENARIO.name, &plan)?;
    let m = &pair.m;
    m.run("modprobe drbd && drbdadm create-md resftp && drbdadm up resftp")?
        .ok()?;
    let rounds = bed.rounds.unwrap_or(30);
    for round in 0..rounds {
        let seed = bed.seed + u64::from(round);
        pair.s
            .run(&format!(
                "/run/drop/drbd-nodes poke {}:7789 {seed}",
                m.spec.address
            ))?
            .ok()?;
        let passing = ["cs:Connected", "cs:Disconnecting", "cs:WFReportParams"];
        let lines = m.wait_proc_minor(0, &["cs:"], &passing, 20)?;
        if lines.contains("cs:StandAlone") {
            m.run("drbdadm connect resftp")?.ok()?;
        }
        m.wait_proc(&["cs:WFConnection"], 20)
            .with_context(|| format!("after poke {seed}"))?;
        pair.require_quiet_kernels()?;
    }
    // After all that the real peer is welcome, and data flow.
    pair.s
        .run("modprobe drbd && drbdadm create-md resftp && drbdadm up resftp")?
        .ok()?;
    m.wait_proc(&["cs:Connected"], 30)?;
    m.run("drbdadm -- --overwrite-data-of-peer primary resftp")?
        .ok()?;
    m.run("dd if=/dev/urandom of=/dev/drbd0 bs=64k count=20 oflag=direct conv=fsync")?
        .ok()?;
    wait_whole(&pair)?;
    let sum = |node: &crate::node::Node| -> Result<String> {
        Ok(node
            .run(&format!("head -c 1M {} | md5sum", node.disk_path(0)))?
            .ok()?
            .stdout)
    };
    ensure!(sum(m)? == sum(&pair.s)?, "the disks differ");
    deaf_peer(&pair)?;
    wait_whole(&pair)?;
    ensure!(sum(m)? == sum(&pair.s)?, "the disks differ");
    m.run("drbdadm secondary resftp")?.ok()?;
    pair.run_both("drbdadm down resftp && rmmod drbd")?;
    super::module_load::leak_checks(&pair)?;
    pair.finish()
}

fn wait_whole(pair: &Pair) -> Result<()> {
    for node in pair.both() {
        node.wait_proc(&["cs:Connected", "ds:UpToDate/UpToDate", " oos:0"], 60)?;
    }
    Ok(())
}

/// A write ends with the loss of the peer, and the application puts something else into its pages.
/// A peer that was merely deaf would take that for what was written, if TCP still sent it.
fn deaf_peer(pair: &Pair) -> Result<()> {
    let m = &pair.m;
    pair.net.cut();
    m.run("dd if=/dev/urandom of=/dev/drbd0 bs=64k count=1 oflag=direct")?
        .ok()?;
    m.wait_proc_minor(0, &["cs:"], &["cs:Connected"], 1)?;
    let sockets = m.run("sleep 0.5; cat /proc/net/tcp")?.ok()?.stdout;
    pair.net.heal();
    for socket in sockets.lines().skip(1) {
        let queues = socket.split_whitespace().nth(4).unwrap_or_default();
        let unsent = queues.split(':').next().unwrap_or_default();
        let unsent = u64::from_str_radix(unsent, 16).context("no queue of a socket")?;
        // A ping and the end of a stream may be left.
        ensure!(unsent < 4096, "TCP still sends what was written: {socket}");
    }
    Ok(())
}
