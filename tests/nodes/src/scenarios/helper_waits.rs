//! Helpers that take long: what they are told is what was so when they were called, and nobody
//! waits for them, least of all those that an emergency calls.

use std::time::Duration;

use anyhow::{ensure, Context, Result};

use super::Scenario;
use crate::bed::Bed;
use crate::node::Node;
use crate::pair::{Pair, Plan};
use crate::provision::{resource, HOSTS, LAB_DISK};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "helper_waits",
    shows: "a helper knows the peer that is gone when it runs; a failing disk has its own called, \
            and down answers, while one runs",
    run,
};

const NET: &str = "net { ping-int 1; ping-timeout 5; connect-int 1; timeout 8; }\n";

/// In the place of drbdadm: writes down what the kernel said.
const HELPER: &str = r#"cat >/tmp/helper <<'END'
#!/bin/sh
echo "$1 $2 ${DRBD_PEER_AF-none} ${DRBD_PEER_ADDRESS-none}" >>/tmp/helped
case $1 in
initial-split-brain) sleep 3 ;;
after-resync-target) if test -e /tmp/slow; then sleep 20; echo rested >>/tmp/helped; fi ;;
fence-peer) sleep 20; echo fenced >>/tmp/helped; exit 4 ;;
esac
exit 0
END
chmod +x /tmp/helper && modprobe drbd usermode_helper=/tmp/helper
"#;

/// Commands that must not wait for a helper. They may take 5 s.
const QUICK: Duration = Duration::from_secs(12);

fn run(bed: &Bed) -> Result<()> {
    let plan = Plan {
        disk_kib: [16 * 1024; 2],
        resource: resource("resftp", NET, &[]).replace(LAB_DISK, "/dev/mapper/weak"),
        ..Plan::default()
    };
    let pair = Pair::boot(bed, SCENARIO.name, &plan)?;
    for node in pair.both() {
        node.run(&format!(
            "dmsetup create weak --table \"{}\" && dmsetup mknodes",
            sound()
        ))?
        .ok()?;
    }
    pair.run_both(HELPER)?;
    pair.up_equal()?;
    connection_gone(&pair).context("a connection that is gone")?;
    disk_fails_meanwhile(&pair).context("a disk that fails while a helper runs")?;
    down_meanwhile(&pair).context("down while a helper runs")?;
    pair.s.run("drbdadm down resftp && rmmod drbd")?.ok()?;
    pair.run_both("dmsetup remove weak")?;
    super::module_load::leak_checks(&pair)?;
    pair.finish()
}

/// Waits until the helper has written this line.
fn helped(node: &Node, line: &str, seconds: u32) -> Result<()> {
    let found = node.run_within(
        &format!(
            "for i in $(seq {}); do grep -qx '{line}' /tmp/helped && exit 0; sleep 0.1; done; \
             cat /tmp/helped; exit 1",
            seconds * 10
        ),
        Duration::from_secs(u64::from(seconds) * 3),
    )?;
    found.ok()?;
    Ok(())
}

fn write(node: &Node) -> Result<()> {
    node.run(
        "drbdadm primary resftp && dd if=/dev/urandom of=/dev/drbd0 bs=4k count=1 oflag=direct && \
         drbdadm secondary resftp",
    )?
    .ok()?;
    Ok(())
}

/// split-brain waits for initial-split-brain, and the connection does not.
fn connection_gone(pair: &Pair) -> Result<()> {
    pair.run_both("drbdadm disconnect resftp || true")?;
    for node in pair.both() {
        node.run("grep -q cs:StandAlone /proc/drbd || drbdadm disconnect resftp")?
            .ok()?;
        write(node)?;
    }
    pair.run_both("drbdadm connect resftp")?;
    // One node may be left by the other before it has compared.
    let seen = "for i in $(seq 50); do grep -q ^initial-split-brain /tmp/helped && exit 0; \
                sleep 0.1; done; exit 1";
    let mut told = 0;
    for (node, (_, peer)) in pair.both().into_iter().zip([HOSTS[1], HOSTS[0]]) {
        if node.run(seen)?.status == 0 {
            helped(node, &format!("split-brain minor-0 ipv4 {peer}"), 10)?;
            told += 1;
        }
    }
    ensure!(told > 0, "no node has called a helper");
    for node in pair.both() {
        node.run("grep -q cs:StandAlone /proc/drbd || drbdadm disconnect resftp")?
            .ok()?;
    }
    pair.s
        .run("drbdadm -- --discard-my-data connect resftp")?
        .ok()?;
    pair.m.run("drbdadm connect resftp")?.ok()?;
    for node in pair.both() {
        node.wait_proc(&["cs:Connected", "ds:UpToDate/UpToDate", " oos:0"], 30)?;
    }
    Ok(())
}

/// The table of a disk that works, for dmsetup.
fn sound() -> String {
    format!("0 $(blockdev --getsz {LAB_DISK}) linear {LAB_DISK} 0")
}

/// after-resync-target runs for 20 s; local-io-error, which may have to stop the node, does not
/// wait for it.
fn disk_fails_meanwhile(pair: &Pair) -> Result<()> {
    let Pair { m, s, .. } = pair;
    let (_, address) = HOSTS[0];
    let replace = |table: &str| {
        s.run(&format!(
            "dmsetup suspend --noflush --nolockfs weak && dmsetup load weak --table \"{table}\" && \
             dmsetup resume weak"
        ))
    };
    s.run("touch /tmp/slow && drbdsetup disk-options 0 --on-io-error=call-local-io-error")?
        .ok()?;
    m.run("drbdadm disconnect resftp")?.ok()?;
    write(m)?;
    s.run(": >/tmp/helped")?.ok()?;
    m.run("drbdadm connect resftp")?.ok()?;
    helped(
        s,
        &format!("after-resync-target minor-0 ipv4 {address}"),
        30,
    )?;
    replace(&format!("0 $(blockdev --getsz {LAB_DISK}) error"))?.ok()?;
    write(m)?;
    helped(s, &format!("local-io-error minor-0 ipv4 {address}"), 10)?;
    let helped_so_far = s.run("rm /tmp/slow; cat /tmp/helped")?;
    ensure!(
        !helped_so_far.text().contains("\nrested"),
        "the helper has ended too early to show anything"
    );
    s.wait_proc(&["cs:Connected", "ds:Diskless/UpToDate"], 10)?;
    replace(&sound())?.ok()?;
    s.run("drbdadm attach resftp")?.ok()?;
    for node in pair.both() {
        node.wait_proc(&["cs:Connected", "ds:UpToDate/UpToDate", " oos:0"], 30)?;
    }
    helped(s, "rested", 30)
}

/// fence-peer runs for 20 s. The resource is taken down, comes back and goes again; the module
/// stays until the helper has ended.
fn down_meanwhile(pair: &Pair) -> Result<()> {
    let m = &pair.m;
    m.run("drbdsetup disk-options 0 --fencing=resource-only && drbdadm primary resftp")?
        .ok()?;
    pair.net.cut();
    let (_, peer) = HOSTS[1];
    helped(m, &format!("fence-peer resftp ipv4 {peer}"), 10)?;
    m.run_within("drbdadm down resftp", QUICK)?.ok()?;
    m.run_within("drbdadm up resftp && drbdadm down resftp", QUICK)?
        .ok()?;
    let early = m.run("rmmod drbd; echo ended $?; cat /tmp/helped")?;
    ensure!(
        !early.text().contains("\nfenced"),
        "the helper has ended too early to show anything"
    );
    ensure!(
        !early.text().contains("ended 0"),
        "the module was unloaded under a helper"
    );
    m.run_within(
        "for i in $(seq 60); do rmmod drbd && exit 0; sleep 0.5; done; exit 1",
        Duration::from_secs(60),
    )?
    .ok()?;
    helped(m, "fenced", 1)
}
