//! Garbage, oversized, damaged and truncated packets before and after the handshake: the node hangs
//! up, says why, and goes on.

use anyhow::{ensure, Context, Result};

use super::Scenario;
use crate::bed::Bed;
use crate::node::Driver;
use crate::pair::{Pair, Plan};
use crate::provision::resource;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "bad_peer",
    shows: "N malicious connections: a logged disconnect each, nothing lost, nothing leaked",
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
    for node in pair.both() {
        node.wait_proc(&["cs:Connected", "ds:UpToDate/UpToDate", " oos:0"], 60)?;
    }
    let sum = |node: &crate::node::Node| -> Result<String> {
        Ok(node
            .run(&format!("head -c 1M {} | md5sum", node.disk_path(0)))?
            .ok()?
            .stdout)
    };
    ensure!(sum(m)? == sum(&pair.s)?, "the disks differ");
    m.run("drbdadm secondary resftp")?.ok()?;
    pair.run_both("drbdadm down resftp && rmmod drbd")?;
    for node in pair.both() {
        if node.spec.driver == Driver::Ours {
            super::module_load::leak_check(node)?;
        }
    }
    pair.finish()
}
