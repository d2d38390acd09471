//! Damaged metadata: a truncated device, a broken superblock, a broken activity log. Attaching is
//! refused with a clear message or the safe choice is made; nothing is written over data.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use anyhow::{ensure, Context, Result};

use super::Scenario;
use crate::bed::Bed;
use crate::node::Node;
use crate::pair::{Pair, Plan};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "bad_metadata",
    shows: "truncated device, broken superblock, damaged activity log",
    run,
};

const DISK_KIB: u64 = 16 * 1024;
const SUPERBLOCK: u64 = DISK_KIB * 1024 - 4096;
const LOG: u64 = SUPERBLOCK - 32 * 1024;

fn run(bed: &Bed) -> Result<()> {
    let plan = Plan {
        disk_kib: [DISK_KIB; 2],
        ..Plan::default()
    };
    let mut pair = Pair::create(bed, SCENARIO.name, &plan)?;
    {
        let Pair { m, net, .. } = &mut pair;
        m.boot(net)?;
    }
    let m = &pair.m;
    m.run("modprobe drbd && drbdadm create-md resftp && drbdadm up resftp")?
        .ok()?;
    m.run("drbdadm primary --force resftp")?.ok()?;
    m.run("yes data | dd of=/dev/drbd0 bs=4k count=4 iflag=fullblock oflag=direct")?
        .ok()?;
    m.run("drbdadm secondary resftp && drbdadm down resftp")?
        .ok()?;
    let good = read(m, 0, usize::try_from(DISK_KIB * 1024)?)?;
    broken_superblock(m, &good)?;
    truncated(m)?;
    broken_log(&mut pair)?;
    let m = &pair.m;
    m.run("drbdadm down resftp; rmmod drbd")?.ok()?;
    if m.spec.driver == crate::node::Driver::Ours {
        super::module_load::leak_check(m)?;
    }
    pair.finish()
}

fn read(node: &Node, at: u64, length: usize) -> Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).open(node.disk_file(0))?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at)
        .context("read the disk")?;
    Ok(bytes)
}

/// Writes to the disk behind the node's back and makes the node forget what it has cached.
fn patch(node: &Node, at: u64, bytes: &[u8]) -> Result<()> {
    let file = OpenOptions::new().write(true).open(node.disk_file(0))?;
    file.write_all_at(bytes, at).context("write the disk")?;
    node.run("blockdev --flushbufs /dev/sda2; echo 3 >/proc/sys/vm/drop_caches")?
        .ok()?;
    Ok(())
}

/// Attaching must fail and leave the device unconfigured, and must not touch the disk.
fn refused(node: &Node, what: &str) -> Result<()> {
    let before = read(node, 0, usize::try_from(DISK_KIB * 1024)?)?;
    let out = node.run("drbdadm up resftp")?;
    ensure!(out.status != 0, "{what}: up must fail");
    ensure!(!out.text().trim().is_empty(), "{what}: up must say why");
    ensure!(
        node.proc_drbd()?.contains("Diskless") || !node.proc_drbd()?.contains("ds:"),
        "{what}"
    );
    node.run("drbdadm down resftp")?.ok()?;
    let after = read(node, 0, usize::try_from(DISK_KIB * 1024)?)?;
    ensure!(
        before == after,
        "{what}: a refused attach wrote to the disk"
    );
    Ok(())
}

fn usable(node: &Node, what: &str) -> Result<()> {
    node.run("drbdadm up resftp")?
        .ok()
        .with_context(|| what.to_owned())?;
    node.wait_proc(&["ds:UpToDate/"], 10)?;
    node.run("drbdadm primary resftp && head -c 4 /dev/drbd0")?
        .ok()?
        .says("data")?;
    node.run("drbdadm secondary resftp && drbdadm down resftp")?
        .ok()?;
    Ok(())
}

fn broken_superblock(node: &Node, good: &[u8]) -> Result<()> {
    let place = usize::try_from(SUPERBLOCK)?;
    for (what, offset, bytes) in [
        ("zeroed superblock", 0_u64, vec![0; 4096]),
        ("wrong magic", 60, vec![0x12, 0x34, 0x56, 0x78]),
        (
            "noise",
            0,
            (0..4096_u32)
                .map(|i| (i.wrapping_mul(197) >> 3).to_le_bytes()[0])
                .collect(),
        ),
    ] {
        patch(node, SUPERBLOCK + offset, &bytes)?;
        refused(node, what)?;
        patch(node, SUPERBLOCK, &good[place..place + 4096])?;
    }
    usable(node, "after the superblock was put back")
}

/// The end of the partition, with the metadata, is gone: seen through a shorter loop device.
fn truncated(node: &Node) -> Result<()> {
    let good = read(node, 0, usize::try_from(DISK_KIB * 1024)?)?;
    let size = (DISK_KIB - 64) * 1024;
    node.run(&format!(
        "l=$(losetup -f --show --sizelimit {size} /dev/sda2) && rm /dev/sda2 && \
         mknod /dev/sda2 b $(stat -Lc '0x%t 0x%T' $l)"
    ))?
    .ok()?;
    let out = node.run("drbdadm up resftp")?;
    ensure!(
        out.status != 0 && !out.text().trim().is_empty(),
        "a truncated device must be refused"
    );
    node.run("drbdadm down resftp; losetup -D")?;
    let disk = node.disk_path(0);
    node.run(&format!(
        "rm /dev/sda2; mknod /dev/sda2 b $(stat -Lc '0x%t 0x%T' {disk})"
    ))?
    .ok()?;
    ensure!(
        read(node, 0, good.len())? == good,
        "a refused attach wrote to the disk"
    );
    usable(node, "the whole device again")
}

/// A Primary crashes, then one block of its log is damaged. Either attach is refused, or more than
/// needed is resynced; never may it come up as if nothing had happened without the log.
fn broken_log(pair: &mut Pair) -> Result<()> {
    pair.m
        .run("drbdadm up resftp && drbdadm primary resftp")?
        .ok()?;
    pair.m
        .run("yes more | dd of=/dev/drbd0 bs=4k count=1 seek=1024 iflag=fullblock oflag=direct")?
        .ok()?;
    pair.m.power_off();
    let log = read(&pair.m, LOG, 32 * 1024)?;
    let superblock = read(&pair.m, SUPERBLOCK, 4096)?;
    {
        let Pair { m, net, .. } = &mut *pair;
        m.boot(net)?;
    }
    let m = &pair.m;
    m.run("modprobe drbd")?.ok()?;
    // Every block of the ring: no transaction is left whole.
    let mut bytes = log.clone();
    for block in bytes.chunks_exact_mut(4096) {
        block[100] ^= 0x5a;
    }
    patch(m, LOG, &bytes)?;
    let up = m.run("drbdadm up resftp")?;
    if up.status == 0 {
        m.wait_proc(&["ds:"], 5)?;
        m.run("drbdadm down resftp")?.ok()?;
    } else {
        ensure!(!up.text().trim().is_empty(), "a refusal must say why");
        m.run("drbdadm down resftp")?;
    }
    pair.steps.say(&format!(
        "a log without a whole block: up ended with {}",
        up.status
    ));
    // Put back, the log is replayed and the data are there.
    patch(m, SUPERBLOCK, &superblock)?;
    patch(m, LOG, &log)?;
    usable(m, "the log is whole again")
}
