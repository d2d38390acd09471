//! Two nodes that do not fit together: each case ends in the specified state with a clear message,
//! nothing is lost, and after the mistake is mended they connect.

use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};

use super::Scenario;
use crate::bed::Bed;
use crate::node::Node;
use crate::pair::{Pair, Plan};
use crate::provision::resource;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "bad_config",
    shows: "wrong secret, wrong protocol, too small a disk, foreign data, split brain",
    run,
};

const QUICK: &str = "net { ping-int 1; ping-timeout 5; connect-int 1; timeout 8; ";

fn text(net: &str) -> String {
    resource("resftp", &format!("{QUICK}{net} }}\n"), &[])
}

fn run(bed: &Bed) -> Result<()> {
    let plan = Plan {
        disk_kib: [16 * 1024; 2],
        more_disks_kib: vec![8 * 1024],
        resource: text(""),
        ..Plan::default()
    };
    let pair = Pair::boot(bed, SCENARIO.name, &plan)?;
    pair.run_both("modprobe drbd")?;
    pair.up_equal()?;
    wrong_net(
        &pair,
        "cram-hmac-alg sha256; shared-secret eins;",
        "cram-hmac-alg sha256; \
         shared-secret zwei;",
        "Authentication of peer failed",
    )
    .context("wrong secret")?;
    wrong_net(
        &pair,
        "protocol C;",
        "protocol A;",
        "incompatible protocol settings",
    )
    .context("wrong protocol")?;
    split_brain(&pair).context("split brain")?;
    foreign_disk(&pair).context("foreign disk")?;
    small_disk(&pair).context("too small a disk")?;
    pair.run_both("drbdadm down resftp && rmmod drbd")?;
    super::module_load::leak_checks(&pair)?;
    pair.finish()
}

/// Waits until one of the nodes says `wanted` on its console after `from`, and both are apart.
fn refused(pair: &Pair, from: [usize; 2], wanted: &str) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    let said = loop {
        let said = pair.both().into_iter().zip(from).find(|(node, from)| {
            node.console()
                .get(*from..)
                .is_some_and(|new| new.contains(wanted))
        });
        if let Some((node, _)) = said {
            break node.spec.name;
        }
        ensure!(Instant::now() < end, "no node says {wanted:?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    pair.steps.say(&format!("{said} says {wanted:?}"));
    for node in pair.both() {
        node.wait_proc_minor(0, &["cs:"], &["cs:Connected", "cs:WFReportParams"], 15)?;
    }
    let apart = pair.both().map(|node| node.proc_drbd());
    let alone = apart
        .into_iter()
        .flatten()
        .filter(|text| text.contains("cs:StandAlone"))
        .count();
    ensure!(
        alone >= 1,
        "at least one node must have given up (StandAlone)"
    );
    Ok(())
}

fn ends(pair: &Pair) -> [usize; 2] {
    pair.both().map(|node| node.console().len())
}

fn wrong_net(pair: &Pair, m: &str, s: &str, wanted: &str) -> Result<()> {
    pair.run_both("drbdadm disconnect resftp")?;
    pair.m.set_resource(&text(m))?;
    pair.s.set_resource(&text(s))?;
    let from = ends(pair);
    for node in pair.both() {
        node.run("drbdadm adjust resftp")?;
    }
    refused(pair, from, wanted)?;
    mend(pair)
}

/// Gives both nodes the same plain configuration and lets them connect.
fn mend(pair: &Pair) -> Result<()> {
    for node in pair.both() {
        node.set_resource(&text(""))?;
        node.run("drbdadm disconnect resftp; drbdadm adjust resftp")?;
    }
    for node in pair.both() {
        node.wait_proc(&["cs:Connected", "ds:UpToDate/UpToDate"], 30)?;
    }
    pair.require_quiet_kernels()
}

fn write(node: &Node, text: &str) -> Result<()> {
    node.run(&format!(
        "drbdadm primary resftp && yes {text} | dd of=/dev/drbd0 bs=4k count=4 iflag=fullblock \
         oflag=direct && drbdadm secondary resftp"
    ))?
    .ok()?;
    Ok(())
}

fn starts_with(node: &Node, text: &str) -> Result<()> {
    let disk = node.disk_path(0);
    node.run(&format!("blockdev --flushbufs {disk}; head -c 4 {disk}"))?
        .ok()?
        .says(text)?;
    Ok(())
}

fn split_brain(pair: &Pair) -> Result<()> {
    write(&pair.m, "both")?;
    pair.run_both("drbdadm disconnect resftp")?;
    write(&pair.m, "mine")?;
    write(&pair.s, "your")?;
    let from = ends(pair);
    pair.run_both("drbdadm connect resftp")?;
    refused(
        pair,
        from,
        "Split-Brain detected but unresolved, dropping connection!",
    )?;
    starts_with(&pair.m, "mine")?;
    starts_with(&pair.s, "your")?;
    // A person decides for M. The one that gave up has no connection any more.
    pair.run_both("drbdadm disconnect resftp || true")?;
    pair.s
        .run("drbdadm -- --discard-my-data connect resftp")?
        .ok()?;
    pair.m.run("drbdadm connect resftp")?.ok()?;
    for node in pair.both() {
        node.wait_proc(&["cs:Connected", "ds:UpToDate/UpToDate", " oos:0"], 30)?;
    }
    starts_with(&pair.s, "mine")
}

/// A disk that was never part of this pair.
fn foreign_disk(pair: &Pair) -> Result<()> {
    pair.s
        .run("drbdadm down resftp && yes yes | drbdadm create-md --force resftp")?
        .ok()?;
    pair.s.run("drbdadm attach resftp")?;
    pair.s
        .run("drbdadm up resftp; drbdadm disconnect resftp; drbdadm primary --force resftp")?;
    pair.s
        .run("yes alien | dd of=/dev/drbd0 bs=4k count=1 iflag=fullblock oflag=direct")?
        .ok()?;
    pair.s
        .run("drbdadm secondary resftp; drbdadm disconnect resftp")?;
    pair.m.run("drbdadm disconnect resftp")?;
    let from = ends(pair);
    pair.run_both("drbdadm adjust resftp")?;
    refused(pair, from, "Unrelated data, aborting!")?;
    starts_with(&pair.m, "mine")?;
    starts_with(&pair.s, "alie")?;
    // A person declares the foreign data worthless.
    pair.run_both("drbdadm disconnect resftp || true")?;
    pair.s
        .run("drbdadm down resftp && yes yes | drbdadm create-md --force resftp")?
        .ok()?;
    pair.s.run("drbdadm up resftp")?.ok()?;
    pair.m.run("drbdadm adjust resftp")?.ok()?;
    for node in pair.both() {
        node.wait_proc(&["cs:Connected", "ds:UpToDate/UpToDate", " oos:0"], 60)?;
    }
    starts_with(&pair.s, "mine")
}

/// S comes with a disk of half the size: M's data do not fit.
fn small_disk(pair: &Pair) -> Result<()> {
    let s = &pair.s;
    s.run("drbdadm down resftp")?.ok()?;
    let disk = s.disk_path(1);
    s.run(&format!(
        "rm /dev/sda2 && mknod /dev/sda2 b $(stat -Lc '0x%t 0x%T' {disk})"
    ))?
    .ok()?;
    s.run("drbdadm create-md resftp")?.ok()?;
    let from = ends(pair);
    s.run("drbdadm up resftp")?.ok()?;
    refused(pair, from, "disk size is too small!")?;
    starts_with(&pair.m, "mine")?;
    pair.m.wait_proc(&["ds:UpToDate/"], 5)?;
    Ok(())
}
