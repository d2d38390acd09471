//! A node as a QEMU virtual machine with Debian's own kernel.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};

use super::{agent_pair, Backend, Boot, Machine, Process};
use crate::bed::Bed;

/// A kernel that has not ended in its own panic after this time does not run under KVM.
const KVM_PROBE: Duration = Duration::from_secs(12);

/// Shell commands that make `/dev/ns2` lead to the namespace numbered 2, and so on.
const NAME_DISKS: &str = "for n in /sys/block/nvme0n*/nsid; do d=${n%/nsid}; \
                          ln -s ${d##*/} /dev/ns$(cat $n); done";

/// The stock kernel and the image that its nodes start from.
pub(crate) struct Qemu {
    vmlinuz: PathBuf,
    modules: PathBuf,
    image: PathBuf,
    accelerator: &'static str,
}

impl Qemu {
    /// Finds kernel, image and QEMU, and whether KVM really works.
    pub(crate) fn find(bed: &Bed) -> Result<Self> {
        let kernel = bed.place("DRBD_STOCK_IMAGE", &["prepare-kernel", "--image"])?;
        let image = bed.place("DRBD_NODE_DISK", &["build-node-image", "--disk"])?;
        let vmlinuz = kernel.join("vmlinuz");
        ensure!(vmlinuz.exists(), "no kernel at {}", vmlinuz.display());
        Command::new("qemu-system-x86_64")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .context("qemu-system-x86_64 is not installed (package qemu-system-x86)")?;
        fs::create_dir_all(&bed.out)?;
        let accelerator = match std::env::var("DRBD_ACCEL").as_deref() {
            Ok("kvm") => "kvm",
            Ok("tcg") => "tcg",
            _ if kvm_works(&vmlinuz, &bed.out.join("kvm-probe.log")) => "kvm",
            _ => "tcg",
        };
        Ok(Self {
            vmlinuz,
            modules: kernel.join("modules/lib/modules"),
            image,
            accelerator,
        })
    }
}

/// Boots the kernel under KVM without a disk; a healthy one ends in its own panic. The device node
/// may exist and QEMU hang all the same.
fn kvm_works(vmlinuz: &Path, log: &Path) -> bool {
    if !Path::new("/dev/kvm").exists() {
        return false;
    }
    let child = Command::new("qemu-system-x86_64")
        .args([
            "-accel",
            "kvm",
            "-cpu",
            "host",
            "-m",
            "256",
            "-nodefaults",
            "-no-reboot",
        ])
        .args([
            "-display",
            "none",
            "-append",
            "console=ttyS0 panic=-1",
            "-kernel",
        ])
        .arg(vmlinuz)
        .arg("-serial")
        .arg(format!("file:{}", log.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    let end = Instant::now() + KVM_PROBE;
    while Instant::now() < end && matches!(child.try_wait(), Ok(None)) {
        thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
    fs::read_to_string(log).is_ok_and(|text| text.contains("Kernel panic"))
}

impl Backend for Qemu {
    fn start(&self, boot: &Boot<'_>) -> Result<(Box<dyn Machine>, UnixStream)> {
        let (ours, theirs) = agent_pair()?;
        let drop_image = boot.dir.join("drop.img");
        pack(&boot.drop, &drop_image)?;
        let errors = File::create(boot.dir.join("qemu.log")).context("create qemu.log")?;
        let cpu = if self.accelerator == "kvm" {
            "host"
        } else {
            "max"
        };
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args([
                "-accel",
                self.accelerator,
                "-cpu",
                cpu,
                "-nodefaults",
                "-no-reboot",
            ])
            .args([
                "-m",
                &boot.memory_mib.to_string(),
                "-smp",
                &boot.cpus.to_string(),
            ])
            .args(["-display", "none", "-kernel"])
            .arg(&self.vmlinuz)
            .args(firmware())
            .stdin(Stdio::null())
            .stdout(Stdio::from(errors.try_clone()?))
            .stderr(Stdio::from(errors));
        serial_lines(&mut command, boot, &theirs)?;
        let mac = format!("52:54:00:12:34:{:02x}", boot.name.as_bytes()[0]);
        command
            .arg("-netdev")
            .arg(format!(
                "dgram,id=cable,local.type=fd,local.str={}",
                boot.net.as_raw_fd()
            ))
            .arg("-device")
            .arg(format!("virtio-net-pci,netdev=cable,romfile=,mac={mac}"));
        self.disks(&mut command, boot, &drop_image);
        command.arg("-append").arg(format!(
            "root=PARTUUID=d4bd0001-01 rootfstype=ext4 ro console=ttyS0 loglevel=8 panic=-1 \
             net.ifnames=0 \
             agent_tty=/dev/ttyS1 login_tty=/dev/ttyS2 init=/bin/sh {} -- -c \
             \"mount -t devtmpfs dev /dev; mount -t sysfs sys /sys; {NAME_DISKS}; \
             umount /sys; mount /dev/ns2 /mnt; exec /mnt/drbd-nodes agent\"",
            boot.extra.join(" ")
        ));
        let machine = Process::start(&mut command, &[boot.net, theirs.as_fd()])?;
        Ok((Box::new(machine), ours))
    }

    fn disk_path(&self, index: usize) -> String {
        format!("/dev/ns{}", index + 3)
    }

    fn interface(&self) -> &'static str {
        "eth0"
    }

    fn acks_line(&self) -> &'static str {
        "/dev/ttyS3"
    }

    fn modules(&self) -> Option<PathBuf> {
        Some(self.modules.clone())
    }

    fn label(&self) -> String {
        format!("QEMU ({})", self.accelerator)
    }
}

impl Qemu {
    /// One controller with a namespace per disk. The kernel meets the namespaces in any order,
    /// so that the root is found by its partition and the others by [`NAME_DISKS`].
    fn disks(&self, command: &mut Command, boot: &Boot<'_>, drop_image: &Path) {
        command.args(["-device", "nvme,id=nvme,serial=disks"]);
        let mut add = |number: usize, path: &Path, options: &str| {
            command
                .arg("-drive")
                .arg(format!(
                    "file={},format=raw,if=none,id=d{number},discard=unmap,{options}",
                    path.display()
                ))
                .arg("-device")
                .arg(format!("nvme-ns,drive=d{number},bus=nvme,nsid={number}"));
        };
        add(1, &self.image, "snapshot=on,file.locking=off");
        add(2, drop_image, "cache=unsafe");
        for (index, disk) in boot.disks.iter().enumerate() {
            add(index + 3, disk, "cache=writeback");
        }
    }
}

/// Console, agent, login and log of acknowledged writes: ttyS0 to ttyS3.
fn serial_lines(command: &mut Command, boot: &Boot<'_>, theirs: &OwnedFd) -> Result<()> {
    let console = boot.dir.join("console.log");
    let login = boot.dir.join("login");
    let _ = fs::remove_file(&login);
    let acks = boot.dir.join("acks.log");
    for (id, chardev) in [
        (
            "console",
            format!("file,path={},append=on", console.display()),
        ),
        ("agent", format!("socket,fd={}", theirs.as_raw_fd())),
        (
            "login",
            format!("socket,path={},server=on,wait=off", login.display()),
        ),
        ("acks", format!("file,path={},append=on", acks.display())),
    ] {
        let (kind, rest) = chardev.split_once(',').context("a chardev")?;
        command
            .arg("-chardev")
            .arg(format!("{kind},id={id},{rest}"));
        command.arg("-serial").arg(format!("chardev:{id}"));
    }
    Ok(())
}

/// The firmware that boots in half the time, where it is installed.
fn firmware() -> Vec<String> {
    let qboot = "/usr/share/qemu/qboot.rom";
    if Path::new(qboot).exists() {
        vec!["-bios".to_owned(), qboot.to_owned()]
    } else {
        Vec::new()
    }
}

/// Makes an ext4 image of a folder, without mounting anything.
fn pack(folder: &Path, image: &Path) -> Result<()> {
    let _ = fs::remove_file(image);
    let output = Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-m", "0", "-O", "^has_journal", "-d"])
        .arg(folder)
        .arg(image)
        .arg("160M")
        .output()
        .context("mke2fs is not installed (package e2fsprogs)")?;
    ensure!(
        output.status.success(),
        "mke2fs: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
