//! First sync, writes, switch-over both ways, disconnect, writes on one side, reconnect, bitmap
//! resync, for any pairing of modules and tools: after each the disks are equal byte by byte.

use std::time::Duration;

use anyhow::{ensure, Result};

use super::Scenario;
use crate::bed::Bed;
use crate::node::Node;
use crate::pair::{first_difference, usable_kib, Pair, Plan};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "pair_mixed",
    shows: "first sync, fio --verify, switch-over both ways, bitmap resync both ways, equal disks",
    run,
};

const DISK_KIB: u64 = 48 * 1024;

fn run(bed: &Bed) -> Result<()> {
    let plan = Plan {
        disk_kib: [DISK_KIB; 2],
        ..Plan::default()
    };
    let pair = Pair::boot(bed, SCENARIO.name, &plan)?;
    pair.run_both("modprobe drbd && drbdadm create-md resftp && drbdadm up resftp")?;
    pair.run_both("drbdadm wait-connect resftp")?;
    pair.run_both("drbdsetup disk-options 0 --c-plan-ahead=0 --resync-rate=100M")?;
    // Old content of M, which only the first sync can bring to S.
    pair.m
        .run("drbdadm -- --overwrite-data-of-peer primary resftp")?
        .ok()?;
    fio(&pair.m, 1)?;
    settled(&pair, "first sync with writes going on")?;
    for round in 0..bed.rounds.unwrap_or(2) {
        hand_over(&pair.m, &pair.s)?;
        fio(&pair.s, 2 + round)?;
        settled(&pair, "after writes on S")?;
        apart(&pair, &pair.s, 3 + round)?;
        hand_over(&pair.s, &pair.m)?;
        fio(&pair.m, 4 + round)?;
        settled(&pair, "after writes on M")?;
        apart(&pair, &pair.m, 5 + round)?;
    }
    pair.m.run("drbdadm secondary resftp")?.ok()?;
    pair.run_both("drbdadm down resftp && rmmod drbd")?;
    super::module_load::leak_checks(&pair)?;
    pair.finish()
}

/// Random writes of mixed sizes, read back and compared.
pub(super) fn fio(node: &Node, seed: u32) -> Result<()> {
    node.run_within(
        &format!(
            "fio --name=v --filename=/dev/drbd0 --direct=1 --ioengine=psync --thread --numjobs=1 \
             --rw=randwrite --bsrange=512-64k --blockalign=512 --size=6M --offset={}M \
             --verify=crc32c --do_verify=1 --verify_fatal=1 --randseed={seed} --fsync=64 \
             --minimal",
            (seed % 5) * 8
        ),
        Duration::from_secs(180),
    )?
    .ok()?;
    Ok(())
}

fn hand_over(from: &Node, to: &Node) -> Result<()> {
    from.run("drbdadm secondary resftp")?.ok()?;
    to.run("drbdadm primary resftp")?.ok()?;
    Ok(())
}

/// Disconnected writes on `writer`, then a resync of just these.
fn apart(pair: &Pair, writer: &Node, seed: u32) -> Result<()> {
    // Both at once: one may be refused, and has then lost the other.
    pair.run_both("drbdadm disconnect resftp || true")?;
    for node in pair.both() {
        node.run("grep -q cs:StandAlone /proc/drbd || drbdadm disconnect resftp")?
            .ok()?;
    }
    writer.wait_proc(&["cs:StandAlone"], 10)?;
    fio(writer, seed)?;
    let dirty = writer.wait_proc(&["cs:StandAlone"], 5)?;
    ensure!(
        !dirty.contains(" oos:0"),
        "disconnected writes must mark the bitmap: {dirty}"
    );
    pair.run_both("drbdadm connect resftp")?;
    settled(pair, "after a bitmap resync")
}

fn settled(pair: &Pair, when: &str) -> Result<()> {
    for node in pair.both() {
        let wanted = ["cs:Connected", "ds:UpToDate/UpToDate", " ap:0 ", " oos:0"];
        node.wait_proc(&wanted, 120)?;
    }
    let (m, s) = (pair.m.disk_file(0), pair.s.disk_file(0));
    let differ = first_difference(m, s, usable_kib(DISK_KIB) * 1024)?;
    ensure!(
        differ.is_none(),
        "{when}: the disks differ at byte {differ:?}"
    );
    pair.steps.say(&format!("{when}: both disks are equal"));
    pair.require_quiet_kernels()
}
