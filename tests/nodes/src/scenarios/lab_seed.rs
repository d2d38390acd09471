//! The course's lab, step by step (`reference/userland.md` 6): first sync, roles, a file system,
//! an FTP service that moves with the role.
//!
//! Each step shows its commands, then pass or fail and its time; a failed step does not stop the
//! ones after it. The disks are smaller than the course's, so every figure is computed.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};

use super::Scenario;
use crate::bed::{Bed, Kernel};
use crate::node::{Driver, Node, Output, Tools};
use crate::pair::{first_difference, usable_kib, Pair, Plan};
use crate::provision::{LAB_DISK, VIRTUAL_IP};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "lab_seed",
    shows: "the course's lab: steps 1 to 23 and the FTP tests T1 to T5",
    run,
};

/// The course's other partition, which holds an ext4 that metadata would truncate.
const SEED_EXT4_KIB: u64 = 2_539_520;

/// A first sync must end within this time; QEMU without KVM needs most of it.
const SYNC_SECONDS: u64 = 300;

struct Lab {
    pair: Pair,
    usable_kib: u64,
    passed: u32,
    failed: u32,
}

/// Runs the lab and prints its last line.
pub(super) fn run(bed: &Bed) -> Result<()> {
    let disk_kib = match bed.kernel {
        Kernel::Fast => 192 * 1024,
        Kernel::Debug => 64 * 1024,
        Kernel::Stock => 128 * 1024,
    };
    let plan = Plan {
        disk_kib: [disk_kib; 2],
        more_disks_kib: vec![SEED_EXT4_KIB, 32 * 1024],
        ..Plan::default()
    };
    let pair = Pair::boot(bed, SCENARIO.name, &plan)?;
    let mut lab = Lab {
        pair,
        usable_kib: usable_kib(disk_kib),
        passed: 0,
        failed: 0,
    };
    lab.prepare();
    lab.first_sync();
    lab.file_system();
    lab.switch_over();
    lab.services();
    lab.ending();
    let Lab {
        mut pair,
        passed,
        failed,
        ..
    } = lab;
    if bed.keep && failed == 0 {
        super::tools::stay(&mut pair)?;
    }
    let kernels = pair.finish();
    println!("seed lab: {passed} passed, {failed} failed");
    ensure!(failed == 0, "{failed} steps of the lab failed");
    kernels
}

impl Lab {
    /// One step: shows its title, does it, says pass or fail and the time.
    fn step(&mut self, number: &str, title: &str, work: impl FnOnce(&mut Self) -> Result<()>) {
        self.pair.steps.say(&format!("== step {number}: {title}"));
        let start = Instant::now();
        let result = work(self);
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                self.passed += 1;
                self.pair
                    .steps
                    .say(&format!("== step {number}: PASS ({seconds:.2} s)"));
            }
            Err(error) => {
                self.failed += 1;
                self.pair.steps.say(&format!(
                    "== step {number}: FAIL ({seconds:.2} s): {error:#}"
                ));
            }
        }
    }

    fn prepare(&mut self) {
        self.step(
            "1",
            "the FTP server runs, a user reads a file of his home",
            |lab| {
                lab.pair
                    .run_both("mkdir -p /run/proftpd && proftpd && pidof proftpd")?;
                for (node, client) in [(&lab.pair.m, &lab.pair.s), (&lab.pair.s, &lab.pair.m)] {
                    ftp_get(client, node.spec.address, "essai_fichier_ftp")?
                        .ok()?
                        .says("home")?;
                }
                Ok(())
            },
        );
        self.step("2", "the partition exists, without a file system", |lab| {
            lab.pair.run_both(&format!(
                "test -b {LAB_DISK}; ! grep -q {LAB_DISK} /proc/mounts"
            ))
        });
        self.step("3", "the module loads", |lab| {
            lab.pair.run_both("modprobe drbd && lsmod | grep drbd")
        });
        self.step("4", "modinfo", |lab| {
            for node in lab.pair.both() {
                node.run("modinfo drbd")?
                    .ok()?
                    .says("drbd.ko")?
                    .says("block-major-147-*")?
                    .says("GPL")?
                    .says("version:        8.4.")?
                    .says("drbd - Distributed Replicated Block Device v8.4.")?;
            }
            Ok(())
        });
        self.step("5", "/proc/drbd without resources", |lab| {
            for node in lab.pair.both() {
                let text = node.proc_drbd()?;
                let lines: Vec<&str> = text.lines().collect();
                ensure!(lines.len() == 2, "two lines, not {text:?}");
                ensure!(lines[0].starts_with("version: 8.4."), "{text:?}");
                ensure!(lines[0].ends_with(" (api:1/proto:86-101)"), "{text:?}");
                ensure!(lines[1].starts_with("srcversion: "), "{text:?}");
            }
            Ok(())
        });
        self.step("6", "the configuration is understood", |lab| {
            for node in lab.pair.both() {
                node.run("drbdadm dump")?.ok()?.says("resource resftp")?;
                let names = node.run("drbdadm sh-resources")?.ok()?;
                ensure!(names.line() == "resftp", "sh-resources: {:?}", names.stdout);
            }
            Ok(())
        });
        self.create_md();
    }

    fn create_md(&mut self) {
        self.step(
            "7b",
            "an ext4 that would be truncated is refused, nothing is written",
            |lab| {
                let node = &lab.pair.m;
                lab_disk_is(node, 1)?;
                node.run(&format!("mkfs.ext4 -q -E lazy_itable_init=1 {LAB_DISK}"))?
                    .ok()?;
                // create-md would write in the last MiB; the first has the ext4 superblock.
                let sum = format!(
                    "head -c 1M {LAB_DISK} | md5sum; dd if={LAB_DISK} bs=1M skip=2470 | md5sum"
                );
                let before = node.run(&sum)?.ok()?;
                let refused = node.run("drbdadm create-md resftp")?.rc(40)?;
                expect_refusal(&refused, node.spec.tools)?;
                let after = node.run(&sum)?.ok()?;
                ensure!(
                    before.stdout == after.stdout,
                    "the partition was written to"
                );
                Ok(())
            },
        );
        self.step("7c", "after shred the same partition is taken", |lab| {
            let node = &lab.pair.m;
            lab_disk_is(node, 2)?;
            node.run(&format!("mkfs.ext4 -q {LAB_DISK} && mount {LAB_DISK} /mnt"))?
                .ok()?;
            node.run("umount /mnt; drbdadm create-md resftp")?.rc(40)?;
            node.run(&format!("shred -zvf -n 1 {LAB_DISK}"))?.ok()?;
            expect_created(&node.run("drbdadm create-md resftp")?.ok()?)?;
            lab_disk_is(node, 0)
        });
        self.step("7a", "create-md on the fresh partition", |lab| {
            for node in lab.pair.both() {
                lab_disk_is(node, 0)?;
                expect_created(&node.run("drbdadm create-md resftp")?.ok()?)?;
            }
            Ok(())
        });
    }

    fn first_sync(&mut self) {
        self.step(
            "8",
            "both nodes start the resource and find each other",
            |lab| {
                lab.pair.run_both("drbdadm up resftp")?;
                lab.pair.run_both("drbdadm wait-connect resftp")
            },
        );
        self.step(
            "10",
            "state A: connected, inconsistent, nothing sent",
            |lab| {
                lab.expect_state_a()?;
                for node in lab.pair.both() {
                    expect_states(
                        node,
                        "Secondary/Secondary",
                        "Connected",
                        "Inconsistent/Inconsistent",
                    )?;
                }
                Ok(())
            },
        );
        self.step("11", "becoming Primary without force is refused", |lab| {
            lab.pair
                .m
                .run("drbdadm primary resftp")?
                .rc(17)?
                .says("0: State change failed: (-2) Need access to UpToDate data")?
                .says(&helper_failed(&lab.pair.m, "primary 0", 17))?;
            lab.expect_state_a()
        });
        self.step(
            "12, 13",
            "forced, and the first sync shows its progress",
            Self::sync_begins,
        );
        self.step("14", "state C: the first sync is complete", Self::sync_ends);
    }

    fn expect_state_a(&self) -> Result<()> {
        let oos = format!("oos:{}", self.usable_kib);
        for node in self.pair.both() {
            node.wait_proc(
                &[
                    " 0: cs:Connected ro:Secondary/Secondary ds:Inconsistent/Inconsistent C r-----",
                    "    ns:0 nr:0 dw:0 dr:0 al:",
                    " bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:",
                    &oos,
                ],
                5,
            )?;
        }
        Ok(())
    }

    fn sync_begins(&mut self) -> Result<()> {
        // The sync may be over before anyone looks; slowed down, state B can be seen.
        self.pair
            .run_both("drbdsetup disk-options 0 --c-plan-ahead=0 --resync-rate=8M")?;
        let out = self.pair.m.run_within(
            "drbdadm -- --overwrite-data-of-peer primary resftp",
            Duration::from_secs(5),
        )?;
        ensure!(
            out.clone().ok()?.text().is_empty(),
            "no output expected: {:?}",
            out.text()
        );
        let mine = self
            .pair
            .m
            .wait_proc(&["cs:SyncSource", "sync'ed:", "finish:"], 20)?;
        let theirs = self.pair.s.wait_proc(&["cs:SyncTarget", "sync'ed:"], 20)?;
        expect_progress(
            &mine,
            "ro:Primary/Secondary ds:UpToDate/Inconsistent",
            self.usable_kib,
        )?;
        expect_progress(
            &theirs,
            "ro:Secondary/Primary ds:Inconsistent/UpToDate",
            self.usable_kib,
        )?;
        expect_states(
            &self.pair.m,
            "Primary/Secondary",
            "SyncSource",
            "UpToDate/Inconsistent",
        )?;
        // On a debug kernel the C driver's rate controller never leaves 512 KiB/s.
        let slow_controller = self.pair.m.spec.debug_kernel
            && self
                .pair
                .both()
                .iter()
                .any(|node| node.spec.driver == Driver::C);
        self.pair.run_both(if slow_controller {
            "drbdsetup disk-options 0 --c-plan-ahead=0 --resync-rate=100M"
        } else {
            "drbdadm adjust resftp"
        })
    }

    fn sync_ends(&mut self) -> Result<()> {
        let limit = Duration::from_secs(SYNC_SECONDS);
        for node in self.pair.both() {
            node.run_within("drbdsetup wait-sync 0", limit)?.ok()?;
        }
        let size = self.usable_kib;
        let m = self.pair.m.wait_proc(
            &[
                " 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----",
                " oos:0",
            ],
            10,
        )?;
        let s = self.pair.s.wait_proc(
            &[
                " 0: cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate C r-----",
                " oos:0",
            ],
            10,
        )?;
        for (lines, key, wanted) in [(&m, "ns", size), (&s, "nr", size), (&s, "dw", size)] {
            let seen = counter(lines, key)?;
            ensure!(seen == wanted, "{key}:{seen}, expected {wanted}");
        }
        ensure!(
            counter(&m, "dr")? >= size,
            "M has read at least what it sent: {m}"
        );
        expect_states(
            &self.pair.m,
            "Primary/Secondary",
            "Connected",
            "UpToDate/UpToDate",
        )?;
        expect_states(
            &self.pair.s,
            "Secondary/Primary",
            "Connected",
            "UpToDate/UpToDate",
        )
    }

    fn file_system(&mut self) {
        self.step("15", "mkfs on the mirrored disk", |lab| {
            let block_kib = if lab.usable_kib < 512 * 1024 { 1 } else { 4 };
            let blocks = lab.usable_kib / block_kib;
            let out = lab
                .pair
                .m
                .run_within("mkfs.ext4 /dev/drbd0", Duration::from_secs(200))?;
            out.ok()?
                .says(&format!("with {blocks} {block_kib}k blocks"))?
                .says("done")?;
            lab.pair
                .s
                .wait_proc(&["ds:UpToDate/UpToDate", " oos:0"], 10)?;
            Ok(())
        });
        self.step("16", "a Secondary cannot be mounted", |lab| {
            lab.refused_mount(false)
        });
        self.step(
            "17",
            "/home moves to the mirrored disk, FTP goes on",
            |lab| {
                let m = &lab.pair.m;
                m.run(
                    "set -e; mkdir /root/sauvhome; mv /home/* /root/sauvhome/; \
                 mount /dev/drbd0 /home/; mv /root/sauvhome/* /home/; rmdir /root/sauvhome; \
                 test -e /home/user/essai_fichier_ftp; sync",
                )?
                .ok()?;
                take_virtual_ip(m)?;
                ftp_get(&lab.pair.s, VIRTUAL_IP, "essai_fichier_ftp")?
                    .ok()?
                    .says("home")?;
                Ok(())
            },
        );
        self.step("18", "the local /home of S is emptied", |lab| {
            lab.pair
                .s
                .run("rm -rf /home/*; ls /home; ! grep -q ' /home ' /proc/mounts")?
                .ok()?;
            Ok(())
        });
        self.step("19", "a mounted disk keeps its Primary", |lab| {
            lab.pair
                .m
                .run("drbdadm secondary resftp")?
                .rc(11)?
                .says("0: State change failed: (-12) Device is held open by someone")?
                .says(&helper_failed(&lab.pair.m, "secondary 0", 11))?;
            Ok(())
        });
    }

    fn switch_over(&mut self) {
        self.step(
            "T1",
            "on the master: a file is created by FTP and read again",
            |lab| {
                ftp_put(&lab.pair.s, VIRTUAL_IP, "t1.txt", "cree sur le maitre")?;
                ftp_get(&lab.pair.s, VIRTUAL_IP, "t1.txt")?
                    .ok()?
                    .says("cree sur le maitre")?;
                Ok(())
            },
        );
        self.step("20", "M gives the disk back", |lab| {
            lab.release(true)?;
            let wanted = ["ro:Secondary/Secondary ds:UpToDate/UpToDate"];
            lab.pair.m.wait_proc(&wanted, 10)?;
            lab.pair.s.wait_proc(&wanted, 10)?;
            lab.refused_mount(true)
        });
        self.step("21", "S takes over", |lab| {
            lab.take_over(false)?;
            lab.pair.s.wait_proc(&["ro:Primary/Secondary"], 10)?;
            lab.refused_mount(true)
        });
        self.step(
            "T2",
            "services and address are on S, the file of T1 is there",
            |lab| {
                ftp_get(&lab.pair.m, VIRTUAL_IP, "t1.txt")?
                    .ok()?
                    .says("cree sur le maitre")?;
                ftp_get(&lab.pair.m, VIRTUAL_IP, "essai_fichier_ftp")?
                    .ok()?
                    .says("home")?;
                let gone = ftp_get(&lab.pair.s, lab.pair.m.spec.address, "essai_fichier_ftp")?;
                ensure!(gone.status != 0, "M must not serve the file any more");
                Ok(())
            },
        );
    }

    fn services(&mut self) {
        self.step("22, T3", "a second file is created on S by FTP", |lab| {
            ftp_put(&lab.pair.m, VIRTUAL_IP, "t3.txt", "cree sur le second")?;
            ftp_get(&lab.pair.m, VIRTUAL_IP, "t3.txt")?
                .ok()?
                .says("cree sur le second")?;
            Ok(())
        });
        self.step("23, T4", "back to M, with both files", |lab| {
            lab.release(false)?;
            lab.refused_mount(true)?;
            lab.refused_mount(false)?;
            lab.take_over(true)?;
            for (name, text) in [("t1.txt", "maitre"), ("t3.txt", "second")] {
                ftp_get(&lab.pair.s, VIRTUAL_IP, name)?.ok()?.says(text)?;
            }
            Ok(())
        });
        self.step("T5", "never mounted on both", |lab| {
            lab.refused_mount(false)?;
            lab.pair.s.run("! grep -q ^/dev/drbd /proc/mounts")?.ok()?;
            Ok(())
        });
    }

    fn ending(&mut self) {
        self.step(
            "24",
            "stop and start again: no resync, data intact",
            |lab| {
                lab.release(true)?;
                lab.pair
                    .run_both("drbdadm down resftp && rmmod drbd && test ! -e /proc/drbd")?;
                lab.pair.run_both("modprobe drbd && drbdadm up resftp")?;
                for node in lab.pair.both() {
                    let wanted = ["cs:Connected ro:Secondary/Secondary ds:UpToDate/UpToDate"];
                    let lines = node.wait_proc(&wanted, 30)?;
                    ensure!(
                        lines.contains("ns:0 nr:0") && lines.contains(" oos:0"),
                        "{lines}"
                    );
                }
                lab.take_over(true)?;
                ftp_get(&lab.pair.s, VIRTUAL_IP, "t3.txt")?
                    .ok()?
                    .says("second")?;
                lab.release(true)?;
                lab.pair.run_both("drbdadm down resftp")
            },
        );
        self.step(
            "25",
            "the two disks hold the same data, byte by byte",
            |lab| {
                let (m, s) = (lab.pair.m.disk_file(0), lab.pair.s.disk_file(0));
                lab.pair.run_both("sync; blockdev --flushbufs /dev/sda2")?;
                match first_difference(m, s, lab.usable_kib * 1024)? {
                    None => Ok(()),
                    Some(at) => bail!("the disks differ at byte {at}"),
                }
            },
        );
        self.step("26", "the modules unload, no memory is lost", |lab| {
            lab.pair.run_both("rmmod drbd")?;
            super::module_load::leak_checks(&lab.pair)?;
            lab.pair.require_quiet_kernels()
        });
    }

    /// The node that is, or is not, the master.
    fn node(&self, master: bool) -> &Node {
        if master {
            &self.pair.m
        } else {
            &self.pair.s
        }
    }

    fn refused_mount(&self, on_master: bool) -> Result<()> {
        let node = self.node(on_master);
        let before = state_line(node)?;
        let out = node.run("mount /dev/drbd0 /mnt")?;
        ensure!(out.status != 0, "mounting a Secondary must fail");
        // The first two are older mounts' words; the last one is util-linux 2.41's.
        let words = ["wrong medium type", "read-only", "Can't open blockdev"];
        ensure!(
            words.iter().any(|word| out.text().contains(word)),
            "not the expected words: {}",
            out.text()
        );
        ensure!(
            before == state_line(node)?,
            "a refused mount changed the state"
        );
        Ok(())
    }

    fn release(&self, from_master: bool) -> Result<()> {
        let node = self.node(from_master);
        // A session whose client has just left may still stand in /home.
        node.run("timeout 10 sh -c 'until [ $(pidof proftpd | wc -w) = 1 ]; do sleep 0.05; done'")?
            .ok()?;
        node.run(&format!(
            "ip addr del {VIRTUAL_IP}/24 dev {} || true",
            node.interface()
        ))?;
        node.run("umount /dev/drbd0 && drbdadm secondary resftp")?
            .ok()?;
        Ok(())
    }

    fn take_over(&self, to_master: bool) -> Result<()> {
        let node = self.node(to_master);
        node.run("drbdadm primary resftp && mount /dev/drbd0 /home")?
            .ok()?;
        take_virtual_ip(node)
    }
}

/// What drbdadm says when its helper fails; drbd-utils 9 calls the helper of 8.4 by another name.
fn helper_failed(node: &Node, arguments: &str, code: i32) -> String {
    let helper = match node.spec.tools {
        Tools::Ours => "drbdsetup",
        Tools::Utils => "drbdsetup-84",
    };
    format!("Command '{helper} {arguments}' terminated with exit code {code}")
}

fn take_virtual_ip(node: &Node) -> Result<()> {
    let dev = node.interface();
    node.run(&format!(
        "ip addr add {VIRTUAL_IP}/24 dev {dev} && busybox arping -q -U -c 1 -I {dev} {VIRTUAL_IP}; \
         ip -br addr show {dev} | grep -q {VIRTUAL_IP}"
    ))?
    .ok()?;
    Ok(())
}

/// Makes the lab's partition another name of a data disk.
fn lab_disk_is(node: &Node, index: usize) -> Result<()> {
    let disk = node.disk_path(index);
    node.run(&format!(
        "rm -f {LAB_DISK} && mknod {LAB_DISK} b $(stat -Lc '0x%t 0x%T' {disk})"
    ))?
    .ok()?;
    Ok(())
}

fn expect_created(out: &Output) -> Result<()> {
    let wanted = [
        "initializing activity log",
        "NOT initializing bitmap",
        "Writing meta data...",
        "New drbd meta data block successfully created.",
    ];
    for line in wanted {
        let seen = out.text();
        let zeroed = line.starts_with("NOT") && seen.contains("initializing bitmap (");
        ensure!(
            zeroed || seen.contains(line),
            "create-md should print {line:?}: {seen}"
        );
    }
    Ok(())
}

fn expect_refusal(out: &Output, tools: Tools) -> Result<()> {
    // drbd-utils calls every ext file system ext3.
    let found = match tools {
        Tools::Ours => "Found ext4 filesystem",
        Tools::Utils => "Found ext3 filesystem",
    };
    let wanted = [
        "md_offset 2600464384\nal_offset 2600431616\nbm_offset 2600349696\n",
        found,
        "     2539520 kB data area apparently used\n     2539404 kB left usable by current \
         configuration\n",
        "Device size would be truncated, which\nwould corrupt data and result in\n",
        "Operation refused.",
        "Command 'drbdmeta 0 v08 /dev/sda2 internal create-md' terminated with exit code 40",
    ];
    for text in wanted {
        ensure!(
            out.text().contains(text),
            "expected {text:?} in:\n{}",
            out.text()
        );
    }
    Ok(())
}

fn expect_states(node: &Node, role: &str, cstate: &str, dstate: &str) -> Result<()> {
    for (command, wanted) in [("role", role), ("cstate", cstate), ("dstate", dstate)] {
        let out = node.run(&format!("drbdadm {command} resftp"))?.ok()?;
        ensure!(
            out.line() == wanted,
            "{command}: {:?}, expected {wanted:?}",
            out.line()
        );
    }
    Ok(())
}

/// Checks the invariants of state B in the lines of one minor.
fn expect_progress(lines: &str, states: &str, size_kib: u64) -> Result<()> {
    ensure!(lines.contains(states), "expected {states}: {lines}");
    let (left, total) = lines
        .split_once("% (")
        .and_then(|(_, rest)| rest.split_once(")K"))
        .and_then(|(pair, _)| pair.split_once('/'))
        .with_context(|| format!("no (left/total)K in {lines}"))?;
    let (left, total): (u64, u64) = (left.parse()?, total.parse()?);
    ensure!(
        total == size_kib && left <= total,
        "({left}/{total})K of {size_kib} KiB"
    );
    // One decimal, from bits in units of 1024 (`reference/states.md` 2.3).
    let (left, total) = ((left / 4) >> 10, (total / 4) >> 10);
    let permille = 1000 - left * 1000 / (1 + total);
    let shown = format!("sync'ed:{:3}.{}% ", permille / 10, permille % 10);
    ensure!(lines.contains(&shown), "expected {shown:?} in {lines}");
    Ok(())
}

/// Value of a counter like `ns:123`.
fn counter(lines: &str, key: &str) -> Result<u64> {
    let head = format!("{key}:");
    lines
        .split_whitespace()
        .find_map(|word| word.strip_prefix(&head))
        .with_context(|| format!("no {key}: in {lines}"))?
        .parse()
        .with_context(|| format!("{key}: in {lines}"))
}

fn state_line(node: &Node) -> Result<String> {
    let text = node.proc_drbd()?;
    Ok(text
        .lines()
        .find(|line| line.starts_with(" 0: "))
        .unwrap_or_default()
        .to_owned())
}

fn lftp(client: &Node, server: &str, commands: &str) -> Result<Output> {
    client.run(&format!(
        "lftp -u user,secret -e 'set net:timeout 8; set net:max-retries 2; \
         set net:reconnect-interval-base 1; set ftp:ssl-allow no; {commands}; bye' ftp://{server}"
    ))
}

fn ftp_get(client: &Node, server: &str, name: &str) -> Result<Output> {
    lftp(client, server, &format!("cat {name}"))
}

fn ftp_put(client: &Node, server: &str, name: &str, text: &str) -> Result<()> {
    client.run(&format!("echo {text} >/tmp/{name}"))?.ok()?;
    lftp(client, server, &format!("put -O . /tmp/{name}"))?.ok()?;
    Ok(())
}
