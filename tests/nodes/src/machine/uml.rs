//! A node as a User-Mode Linux process.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::{agent_pair, Backend, Boot, Machine, Process};

/// One UML kernel and the image that its nodes start from.
pub(crate) struct Uml {
    /// `fast` or `debug`.
    pub(crate) kind: String,
    /// Kernel build folder: `vmlinux`, `modules/lib/modules/RELEASE`.
    pub(crate) build: PathBuf,
    /// Root file system, never written.
    pub(crate) image: PathBuf,
    /// Program that runs a command inside the toolchain root, whose libraries the kernel needs.
    pub(crate) in_root: PathBuf,
}

impl Backend for Uml {
    fn start(&self, boot: &Boot<'_>) -> Result<(Box<dyn Machine>, UnixStream)> {
        let (ours, theirs) = agent_pair()?;
        let console = File::options()
            .create(true)
            .append(true)
            .open(boot.dir.join("console.log"))
            .context("open the console log")?;
        let acks = File::options()
            .create(true)
            .append(true)
            .open(boot.dir.join("acks.log"))
            .context("open the log of acknowledged writes")?;
        let state = boot.dir.join("uml");
        fs::create_dir_all(&state).context("create the UML folder")?;
        let mut command = match boot.pinned {
            None => Command::new(&self.in_root),
            Some(processor) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &processor.to_string()]);
                command.arg(&self.in_root);
                command
            }
        };
        command
            .env("DRBD_ROOT_BIND", &boot.dir)
            .env("TMPDIR", "/dev/shm")
            .stdin(Stdio::null())
            .stderr(Stdio::from(console.try_clone().context("console")?))
            .stdout(Stdio::from(console))
            .arg(self.build.join("vmlinux"))
            .arg(format!("mem={}M", boot.memory_mib))
            .arg("seccomp=on")
            .arg(format!("umid={}", boot.name))
            .arg(format!("uml_dir={}/", state.display()))
            .arg(format!(
                "ubd0={},{}",
                boot.dir.join("root.cow").display(),
                self.image.display()
            ))
            .args(["con=null", "con0=null,fd:1", "ssl=null"])
            .arg(format!("ssl0=fd:{}", theirs.as_raw_fd()))
            .arg(format!("ssl1=null,fd:{}", acks.as_raw_fd()))
            .arg(format!(
                "vec0:transport=fd,fd={},depth=128,gro=0",
                boot.net.as_raw_fd()
            ))
            .args([
                "root=/dev/ubda",
                "rootfstype=ext4",
                "loglevel=8",
                "panic=-1",
            ])
            .args(["printk.time=1", "agent_tty=/dev/ttyS0", "init=/bin/sh"]);
        if boot.cpus > 1 {
            command.arg(format!("ncpus={}", boot.cpus));
        }
        for (index, disk) in boot.disks.iter().enumerate() {
            command.arg(format!("ubd{}={}", index + 1, disk.display()));
        }
        command.args(&boot.extra).arg("--").arg("-c").arg(format!(
            "\"busybox mount -t hostfs -o {} none /mnt; exec /mnt/drbd-nodes agent\"",
            boot.drop.display()
        ));
        let machine = Process::start(&mut command, &[boot.net, theirs.as_fd(), acks.as_fd()])?;
        Ok((Box::new(machine), ours))
    }

    fn disk_path(&self, index: usize) -> String {
        let letter = char::from(b"bcdefgh"[index]);
        format!("/dev/ubd{letter}")
    }

    fn interface(&self) -> &'static str {
        "vec0"
    }

    fn acks_line(&self) -> &'static str {
        "/dev/ttyS1"
    }

    fn modules(&self) -> Option<PathBuf> {
        Some(self.build.join("modules/lib/modules"))
    }

    fn label(&self) -> String {
        format!("uml-{}", self.kind)
    }
}
