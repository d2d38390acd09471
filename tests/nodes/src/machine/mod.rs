//! A node as the harness sees it: something that boots with disks, a cable and a serial line.

pub(crate) mod qemu;
pub(crate) mod uml;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use rustix::io::{fcntl_getfd, fcntl_setfd, FdFlags};

/// What a machine is started with.
pub(crate) struct Boot<'a> {
    /// Short name, used for files.
    pub(crate) name: &'a str,
    /// Folder that the node sees as `/run/drop`, with the agent in it.
    pub(crate) drop: PathBuf,
    /// Folder for what the machine itself writes.
    pub(crate) dir: PathBuf,
    /// Data disks, in order.
    pub(crate) disks: Vec<PathBuf>,
    /// Memory in MiB.
    pub(crate) memory_mib: u32,
    /// Virtual processors.
    pub(crate) cpus: u32,
    /// The processor of the host that it stays on; none lets it wander.
    pub(crate) pinned: Option<usize>,
    /// The node's end of the cable.
    pub(crate) net: BorrowedFd<'a>,
    /// More words for the kernel command line.
    pub(crate) extra: Vec<String>,
}

/// Processors of the host.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A running machine.
pub(crate) trait Machine: Send {
    /// Stops it as a power cut would: nothing is flushed, nothing is told.
    fn kill(&mut self);
    /// How it ended, if it has.
    fn ended(&mut self) -> Option<ExitStatus>;
}

/// A way to make machines.
pub(crate) trait Backend: Send + Sync {
    /// Starts a machine and returns it with the harness' end of the agent's line.
    fn start(&self, boot: &Boot<'_>) -> Result<(Box<dyn Machine>, UnixStream)>;
    /// Path of data disk `index` inside the node.
    fn disk_path(&self, index: usize) -> String;
    /// Name of the network interface inside the node.
    fn interface(&self) -> &'static str;
    /// Serial line in the node whose bytes the host appends to `acks.log` at once.
    fn acks_line(&self) -> &'static str;
    /// Folders of kernel modules that the image does not have: `lib/modules/RELEASE`.
    fn modules(&self) -> Option<PathBuf>;
    /// Name for people and files.
    fn label(&self) -> String;
}

/// Started with descriptors that only this child may inherit; one start at a time, so that no
/// other child gets them by accident.
static SPAWN: Mutex<()> = Mutex::new(());

/// Starts `command` with `inherited` open under the numbers they have here.
pub(crate) fn spawn_inheriting(
    command: &mut Command,
    inherited: &[BorrowedFd<'_>],
) -> Result<Child> {
    let _one = SPAWN.lock().unwrap_or_else(PoisonError::into_inner);
    for fd in inherited {
        fcntl_setfd(fd, fcntl_getfd(fd)? - FdFlags::CLOEXEC).context("clear close-on-exec")?;
    }
    let child = command
        .spawn()
        .with_context(|| format!("start {command:?}"));
    for fd in inherited {
        fcntl_setfd(fd, fcntl_getfd(fd)? | FdFlags::CLOEXEC).context("set close-on-exec")?;
    }
    child
}

/// A stream for the agent: the harness' end and the node's end.
pub(crate) fn agent_pair() -> Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair().context("socketpair")?;
    Ok((ours, OwnedFd::from(theirs)))
}

/// A machine that is one process of the host.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts `command`, which inherits these descriptors under their numbers.
    pub(crate) fn start(command: &mut Command, inherited: &[BorrowedFd<'_>]) -> Result<Self> {
        Ok(Self {
            child: spawn_inheriting(command, inherited)?,
        })
    }
}

impl Machine for Process {
    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
