//! A disk that does not answer: it can be given up by force, nothing else of the resource waits for
//! it, commands that somebody gave up meanwhile leave nothing behind, and a node whose disk it is
//! comes back to its peer.

use std::time::Duration;

use anyhow::{ensure, Result};

use super::Scenario;
use crate::bed::Bed;
use crate::node::Node;
use crate::pair::{Pair, Plan};
use crate::provision::{HOSTS, LAB_DISK};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "disk_hangs",
    shows:
        "a hung disk is detached by force, its neighbour works on; killed commands leave nothing; \
         a Secondary without it connects again",
    run,
};

/// Commands that must not wait for the disk.
const QUICK: Duration = Duration::from_secs(10);

fn run(bed: &Bed) -> Result<()> {
    let mut plan = Plan {
        disk_kib: [16 * 1024; 2],
        more_disks_kib: vec![16 * 1024],
        ..Plan::default()
    };
    let mut pair = Pair::create(bed, SCENARIO.name, &plan)?;
    plan.resource = two_volumes(&pair.m);
    {
        let Pair { m, net, .. } = &mut pair;
        m.boot(net)?;
    }
    let m = &pair.m;
    m.set_resource(&plan.resource)?;
    make_slow(m)?;
    m.run("modprobe drbd && drbdadm create-md resftp && drbdadm up resftp")?
        .ok()?;
    m.run("drbdadm primary --force resftp")?.ok()?;
    // The extents are in the activity log from now on.
    for minor in [0, 1] {
        m.run(&format!(
            "dd if=/dev/zero of=/dev/drbd{minor} bs=4k count=1 oflag=direct"
        ))?
        .ok()?;
    }
    given_up_suspension(m)?;
    killed_commands(m)?;
    forced_detach(m)?;
    m.run("drbdadm secondary resftp && drbdadm down resftp && rmmod drbd && dmsetup remove slow")?
        .ok()?;
    hung_secondary(&mut pair)?;
    super::module_load::leak_checks(&pair)?;
    pair.finish()
}

/// Makes the disk that can be told to hang.
fn make_slow(node: &Node) -> Result<()> {
    node.run(&format!(
        "dmsetup create slow --table \"0 $(blockdev --getsz {LAB_DISK}) linear {LAB_DISK} 0\" && \
         dmsetup mknodes"
    ))?
    .ok()?;
    Ok(())
}

fn two_volumes(node: &Node) -> String {
    resource(&format!(
        "volume 0 {{ device /dev/drbd0; disk /dev/mapper/slow; meta-disk internal; }}\n\
         volume 1 {{ device /dev/drbd1; disk {}; meta-disk internal; }}\n",
        node.disk_path(1)
    ))
}

/// The metadata are not on the disk that hangs, and writes end before the peer has them.
fn separate_metadata(node: &Node) -> String {
    resource(&format!(
        "net {{ protocol A; ping-int 1; ping-timeout 5; connect-int 1; timeout 8; }}\n\
         volume 0 {{ device /dev/drbd0; disk /dev/mapper/slow; meta-disk {}; }}\n",
        node.disk_path(1)
    ))
}

fn resource(sections: &str) -> String {
    let mut text = format!("resource resftp {{\n{sections}");
    for (host, address) in HOSTS {
        text.push_str(&format!("on {host} {{ address {address}:7789; }}\n"));
    }
    text.push_str("}\n");
    text
}

/// The disk takes requests from now on, and does not answer.
fn hang(node: &Node) -> Result<()> {
    node.run("dmsetup suspend --noflush --nolockfs slow")?
        .ok()?;
    // Sees to it that an application waits for it.
    node.run(
        "dd if=/dev/zero of=/dev/drbd0 bs=4k count=1 oflag=direct >/tmp/dd.log 2>&1 & \
         echo $! >/tmp/dd.pid; sleep 0.5",
    )?
    .ok()?;
    Ok(())
}

/// What waited for the disk is done.
fn answer(node: &Node) -> Result<()> {
    node.run("dmsetup resume slow")?.ok()?;
    application_ends(node)
}

fn application_ends(node: &Node) -> Result<()> {
    node.run("while kill -0 $(cat /tmp/dd.pid) 2>/dev/null; do sleep 0.05; done")?
        .ok()?;
    Ok(())
}

/// suspend-io waits for writes on their way. Whoever gives it up has not suspended anything.
fn given_up_suspension(node: &Node) -> Result<()> {
    hang(node)?;
    let out = node.run("timeout -s TERM 2 drbdsetup suspend-io 1; echo ended $?")?;
    ensure!(!out.text().contains("ended 0"), "nothing was waited for");
    answer(node)?;
    node.run_within(
        "dd if=/dev/zero of=/dev/drbd1 bs=4k count=1 oflag=direct",
        QUICK,
    )?
    .ok()?;
    ensure!(
        !node.proc_drbd()?.contains(" C s"),
        "I/O is still suspended"
    );
    Ok(())
}

/// Commands that wait for another one and are killed meanwhile are carried out or not, but not
/// halfway.
fn killed_commands(node: &Node) -> Result<()> {
    for command in ["new-minor resftp 7 7", "del-minor 7"] {
        hang(node)?;
        node.run("drbdsetup suspend-io 1 >/tmp/suspend.log 2>&1 & sleep 0.5")?
            .ok()?;
        node.run(&format!(
            "drbdsetup {command} >/tmp/killed.log 2>&1 & p=$!; sleep 0.5; kill -9 $p"
        ))?
        .ok()?;
        node.run("dmsetup resume slow && sleep 1 && drbdsetup resume-io 1")?
            .ok()?;
        application_ends(node)?;
        let there = node.run("drbdsetup new-minor resftp 7 7; echo said $?")?;
        ensure!(
            there.text().contains("said 0"),
            "new-minor after a killed {command}: {}",
            there.text()
        );
        node.run("drbdsetup show resftp")?.ok()?.says("minor")?;
    }
    node.run_within("drbdsetup del-minor 7", QUICK)?.ok()?;
    node.run_within("drbdsetup new-minor resftp 7 7", QUICK)?
        .ok()?;
    node.run_within("drbdsetup del-minor 7", QUICK)?.ok()?;
    Ok(())
}

/// While another command waits for the hung disk, with the lock of its minor, it is given up by
/// force; the neighbour's metadata are written, and once the disk has answered it can be attached
/// again.
fn forced_detach(node: &Node) -> Result<()> {
    hang(node)?;
    node.run("drbdsetup suspend-io 0 >/tmp/suspend.log 2>&1 & sleep 0.5")?
        .ok()?;
    node.run_within("drbdsetup detach --force 0", QUICK)?.ok()?;
    // The suspension has what it waited for.
    node.run_within("sleep 0.5; drbdsetup resume-io 1", QUICK)?
        .ok()?;
    node.wait_proc(&["ds:Diskless/"], 5)?;
    node.run_within("drbdsetup disk-options 1 --resync-rate=10M", QUICK)?
        .ok()?;
    node.run_within(
        "dd if=/dev/zero of=/dev/drbd1 bs=4k count=1 oflag=direct",
        QUICK,
    )?
    .ok()?;
    // The old one is not closed before it has answered.
    let slow = "/dev/mapper/slow";
    let busy = node.run_within(
        &format!("timeout 3 drbdsetup attach 0 {slow} {slow} internal; echo ended $?"),
        QUICK,
    )?;
    ensure!(
        !busy.text().contains("ended 0"),
        "another disk in the place of one that still works"
    );
    answer(node)?;
    node.run_within("drbdadm attach resftp/0", QUICK)?.ok()?;
    node.wait_proc(&["ds:UpToDate/"], 5)?;
    node.run("dd if=/dev/zero of=/dev/drbd0 bs=4k count=1 oflag=direct")?
        .ok()?;
    Ok(())
}

/// The disk of the Secondary hangs with a write of one epoch, and one of the next waits for its
/// turn, when the link is lost. Given up by force it holds up neither: the nodes connect before it
/// answers.
fn hung_secondary(pair: &mut Pair) -> Result<()> {
    pair.power_on()?;
    let pair = &*pair;
    let (m, s) = (&pair.m, &pair.s);
    for node in pair.both() {
        node.set_resource(&separate_metadata(node))?;
        for disk in [0, 1] {
            let disk = node.disk_path(disk);
            node.run(&format!("dd if=/dev/zero of={disk} bs=1M count=16"))?
                .ok()?;
        }
        make_slow(node)?;
    }
    pair.run_both("modprobe drbd")?;
    pair.up_equal()?;
    m.run("drbdadm primary resftp")?.ok()?;
    s.run("dmsetup suspend --noflush --nolockfs slow")?.ok()?;
    for block in [0, 1] {
        let write =
            format!("dd if=/dev/zero of=/dev/drbd0 bs=4k count=1 seek={block} oflag=direct");
        m.run_within(&format!("{write}; sleep 0.5"), QUICK)?.ok()?;
    }
    pair.net.cut();
    s.wait_proc_minor(0, &["cs:"], &["cs:Connected"], 10)?;
    s.run_within("drbdsetup detach --force 0", QUICK)?.ok()?;
    pair.net.heal();
    m.wait_proc(&["cs:Connected", "ds:UpToDate/Diskless"], 30)?;
    s.run("dmsetup resume slow")?.ok()?;
    s.run("drbdadm attach resftp")?.ok()?;
    for node in pair.both() {
        node.wait_proc(&["cs:Connected", "ds:UpToDate/UpToDate", " oos:0"], 60)?;
    }
    m.run("drbdadm secondary resftp")?.ok()?;
    pair.run_both("drbdadm down resftp && rmmod drbd && dmsetup remove slow")
}
