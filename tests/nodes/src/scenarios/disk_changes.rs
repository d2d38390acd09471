//! A disk that is not, or no longer, what it was when it was attached: it gets a volatile cache, or
//! it is gone and the peer has sectors of 4096 bytes.

use anyhow::{ensure, Context, Result};

use super::Scenario;
use crate::bed::Bed;
use crate::node::Node;
use crate::pair::{Pair, Plan};
use crate::provision::{resource, LAB_DISK};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "disk_changes",
    shows: "a cache that appears later is flushed; a Primary without disk keeps its block sizes",
    run,
};

const NET: &str = "net { ping-int 1; ping-timeout 5; connect-int 1; timeout 8; }\n";

fn run(bed: &Bed) -> Result<()> {
    let plan = Plan {
        disk_kib: [16 * 1024; 2],
        resource: resource("resftp", NET, &[]),
        ..Plan::default()
    };
    let pair = Pair::boot(bed, SCENARIO.name, &plan)?;
    pair.run_both("modprobe drbd")?;
    set_cache(&pair.s, "write through")?;
    up(&pair)?;
    cache_appears(&pair).context("a cache that appears")?;
    down(&pair)?;
    pair.run_both(&format!(
        "modprobe null_blk nr_devices=1 gb=1 bs=4096 memory_backed=1 && rm {LAB_DISK} && \
         mknod {LAB_DISK} b $(stat -Lc '0x%t 0x%T' /dev/nullb0)"
    ))?;
    up(&pair)?;
    disk_goes(&pair).context("a disk that goes")?;
    down(&pair)?;
    pair.run_both("rmmod drbd")?;
    super::module_load::leak_checks(&pair)?;
    pair.finish()
}

/// New disks, equal without a resync; M is Primary.
fn up(pair: &Pair) -> Result<()> {
    pair.up_equal()?;
    pair.m.run("drbdadm primary resftp")?.ok()?;
    Ok(())
}

fn down(pair: &Pair) -> Result<()> {
    pair.m.run("drbdadm secondary resftp")?.ok()?;
    pair.run_both("drbdadm down resftp")
}

/// The folder of the lab's disk in sysfs, for a shell.
fn sysfs() -> String {
    format!("/sys/dev/block/$(printf %d:%d $(stat -Lc '0x%t 0x%T' {LAB_DISK}))")
}

fn set_cache(node: &Node, word: &str) -> Result<()> {
    node.run(&format!("echo '{word}' >{}/queue/write_cache", sysfs()))?
        .ok()?;
    Ok(())
}

/// How many flushes the disk of the node has got.
fn flushes(node: &Node) -> Result<u64> {
    let stat = node.run(&format!("cat {}/stat", sysfs()))?.ok()?;
    let count = stat.line().split_whitespace().nth(15);
    count
        .context("no count of flushes")?
        .parse()
        .context("count of flushes")
}

/// Writes one block after the other, each an epoch of its own; tells how often S has flushed.
fn flushes_of_writes(pair: &Pair) -> Result<u64> {
    let write = "dd if=/dev/zero of=/dev/drbd0 bs=4k count=20 oflag=direct && sleep 1";
    // What metadata have to be written is written by the first one.
    pair.m.run(write)?.ok()?;
    let before = flushes(&pair.s)?;
    pair.m.run(write)?.ok()?;
    Ok(flushes(&pair.s)?.saturating_sub(before))
}

/// The disk of S is attached without a volatile cache and gets one.
fn cache_appears(pair: &Pair) -> Result<()> {
    let without = flushes_of_writes(pair)?;
    ensure!(
        without == 0,
        "{without} flushes of a disk that has no cache"
    );
    set_cache(&pair.s, "write back")?;
    let with = flushes_of_writes(pair)?;
    ensure!(with >= 5, "{with} flushes for 20 epochs of a disk with one");
    Ok(())
}

/// M loses its disk with sectors of 4096 bytes: S has no smaller ones.
fn disk_goes(pair: &Pair) -> Result<()> {
    let m = &pair.m;
    let blocks = "cat /sys/block/drbd0/queue/logical_block_size";
    let attached = m.run(blocks)?.ok()?.line().to_owned();
    ensure!(attached == "4096", "blocks of {attached} with a disk");
    m.run("drbdadm detach resftp")?.ok()?;
    m.wait_proc(&["cs:Connected", "ds:Diskless/UpToDate"], 10)?;
    // The sizes are told, and the limits set, with each handshake.
    pair.net.cut();
    m.wait_proc_minor(0, &["cs:"], &["cs:Connected"], 10)?;
    pair.net.heal();
    m.wait_proc(&["cs:Connected", "ds:Diskless/UpToDate"], 20)?;
    let alone = m.run(blocks)?.ok()?.line().to_owned();
    ensure!(alone == "4096", "blocks of {alone} without a disk");
    let small =
        m.run("dd if=/dev/drbd0 of=/dev/null bs=512 count=1 iflag=direct; echo ended $?")?;
    ensure!(
        !small.text().contains("ended 0"),
        "a block of 512 bytes was read"
    );
    m.run("dd if=/dev/zero of=/dev/drbd0 bs=4k count=1 oflag=direct")?
        .ok()?;
    pair.s.wait_proc(&["ds:UpToDate/Diskless"], 5)?;
    m.run("drbdadm attach resftp")?.ok()?;
    m.wait_proc(&["cs:Connected", "ds:UpToDate/UpToDate"], 30)?;
    Ok(())
}
