//! One node: its machine, its agent, and what a scenario may do with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};

use crate::link::{Link, Pending};
use crate::machine::{Backend, Boot, Machine};
use crate::proto::{lines_of_minor, Reply, Request};
use crate::relay::Net;
use crate::report::alarms;
use crate::steps::Steps;

/// A command that names no deadline must end within this time.
pub(crate) const COMMAND_DEADLINE: Duration = Duration::from_secs(60);

/// Which kernel module a node loads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Driver {
    /// The one of this project.
    Ours,
    /// The one in the kernel's own tree.
    C,
}

/// Which tools configure it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Tools {
    /// The ones of this project.
    Ours,
    /// Debian's drbd-utils.
    Utils,
}

/// Everything about a node that does not change from boot to boot.
pub(crate) struct NodeSpec {
    /// `M` or `S` in the steps.
    pub(crate) name: &'static str,
    /// Its place on the cable, 0 or 1.
    pub(crate) index: usize,
    /// Host name, as in `on NAME`.
    pub(crate) hostname: &'static str,
    /// Address of the replication link.
    pub(crate) address: &'static str,
    /// Kernel module.
    pub(crate) driver: Driver,
    /// Tools.
    pub(crate) tools: Tools,
    /// Memory in MiB.
    pub(crate) memory_mib: u32,
    /// Virtual processors.
    pub(crate) cpus: u32,
    /// The processor of the host that it stays on; none lets it wander.
    pub(crate) pinned: Option<usize>,
    /// Data disks: files of the host.
    pub(crate) disks: Vec<PathBuf>,
    /// Folder of this node in the scenario's folder.
    pub(crate) dir: PathBuf,
    /// Folder that the node sees as `/run/drop`.
    pub(crate) drop: PathBuf,
    /// A debug kernel: lockdep must be alive at the start and at the end.
    pub(crate) debug_kernel: bool,
}

/// A node, running or not.
pub(crate) struct Node {
    /// What it is.
    pub(crate) spec: NodeSpec,
    backend: Arc<dyn Backend>,
    steps: Arc<Steps>,
    running: Option<(Box<dyn Machine>, Link)>,
    boots: u32,
    judged_from: usize,
}

/// A command that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// Name of the node.
    pub(crate) node: &'static str,
    /// What was run.
    pub(crate) command: String,
    /// Exit status; 124 after a time-out, 128 plus the signal if it was killed.
    pub(crate) status: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

/// A command that goes on while the scenario does something else.
pub(crate) struct Job<'a> {
    node: &'a Node,
    command: String,
    start: Instant,
    pending: Pending,
}

impl Node {
    /// A node that is switched off.
    pub(crate) fn new(spec: NodeSpec, backend: Arc<dyn Backend>, steps: Arc<Steps>) -> Self {
        Self {
            spec,
            backend,
            steps,
            running: None,
            boots: 0,
            judged_from: 0,
        }
    }

    /// Switches it on and waits for its agent.
    pub(crate) fn boot(&mut self, net: &Net) -> Result<()> {
        let start = Instant::now();
        self.power_off();
        let boot = Boot {
            name: self.spec.name,
            drop: self.spec.drop.clone(),
            dir: self.spec.dir.clone(),
            disks: self.spec.disks.clone(),
            memory_mib: self.spec.memory_mib,
            cpus: self.spec.cpus,
            pinned: self.spec.pinned,
            net: net.port(self.spec.index),
            extra: Vec::new(),
        };
        let (machine, stream) = self.backend.start(&boot)?;
        let (link, release) = match Link::open(stream, Duration::from_secs(180)) {
            Ok(opened) => opened,
            Err(error) => {
                let tail = tail(&self.console(), 15);
                return Err(error.context(format!("{} does not boot:\n{tail}", self.spec.name)));
            }
        };
        self.running = Some((machine, link));
        self.boots += 1;
        self.steps.say(&format!(
            "{} is up: {}, kernel {release}, {:?} driver, {:?} tools, {:.1} s",
            self.spec.name,
            self.backend.label(),
            self.spec.driver,
            self.spec.tools,
            start.elapsed().as_secs_f64()
        ));
        if self.spec.debug_kernel {
            self.require_lockdep()?;
        }
        Ok(())
    }

    /// Stops it as a power cut would. The disks stay as they are.
    pub(crate) fn power_off(&mut self) {
        if let Some((mut machine, link)) = self.running.take() {
            // In this order: User-Mode Linux frees the interrupt of a line that hangs up while it
            // handles that very interrupt, and says so.
            machine.kill();
            drop(link);
            self.steps.say(&format!("{}: power off", self.spec.name));
        }
    }

    /// Whether it is switched on and its kernel has not ended.
    pub(crate) fn is_up(&mut self) -> bool {
        self.running
            .as_mut()
            .is_some_and(|(machine, _)| machine.ended().is_none())
    }

    /// Runs a shell command and waits for its end.
    ///
    /// # Errors
    ///
    /// The node died or hangs, or the command took longer than [`COMMAND_DEADLINE`].
    pub(crate) fn run(&self, command: &str) -> Result<Output> {
        self.run_within(command, COMMAND_DEADLINE)
    }

    /// Runs a shell command that may take until `deadline`.
    pub(crate) fn run_within(&self, command: &str, deadline: Duration) -> Result<Output> {
        self.start(command, deadline)?.wait()
    }

    /// Starts a shell command and goes on.
    pub(crate) fn start(&self, command: &str, deadline: Duration) -> Result<Job<'_>> {
        let deadline_ms = u64::try_from(deadline.as_millis())?;
        let request = Request::Run {
            command: command.to_owned(),
            deadline_ms,
        };
        let pending = self.ask(request, deadline)?;
        Ok(Job {
            node: self,
            command: command.to_owned(),
            start: Instant::now(),
            pending,
        })
    }

    /// Waits until `/proc/drbd` shows all of `wanted` for minor 0 and returns its lines.
    ///
    /// # Errors
    ///
    /// Not seen within `seconds`; the error shows what was seen instead.
    pub(crate) fn wait_proc(&self, wanted: &[&str], seconds: u64) -> Result<String> {
        self.wait_proc_minor(0, wanted, &[], seconds)
    }

    /// Like [`Self::wait_proc`] for any minor, and with words that must be absent.
    pub(crate) fn wait_proc_minor(
        &self,
        minor: u32,
        wanted: &[&str],
        unwanted: &[&str],
        seconds: u64,
    ) -> Result<String> {
        let start = Instant::now();
        let deadline = Duration::from_secs(seconds);
        let request = Request::Wait {
            path: "/proc/drbd".to_owned(),
            minor: Some(minor),
            all: wanted.iter().map(|&text| text.to_owned()).collect(),
            none: unwanted.iter().map(|&text| text.to_owned()).collect(),
            deadline_ms: u64::try_from(deadline.as_millis())?,
        };
        let reply = self
            .ask(request, deadline)?
            .wait()
            .with_context(|| self.epitaph())?;
        let Reply::Waited { met, text } = reply else {
            bail!("unexpected answer {reply:?}")
        };
        let lines = lines_of_minor(&text, minor);
        let what = format!("wait for {wanted:?}");
        let status = if met { "seen" } else { "NOT SEEN" };
        self.steps
            .ran(self.spec.name, &what, &lines, status, start.elapsed());
        ensure!(
            met,
            "{}: {what} for {seconds} s, but /proc/drbd says:\n{text}",
            self.spec.name
        );
        Ok(lines)
    }

    /// `/proc/drbd` now.
    pub(crate) fn proc_drbd(&self) -> Result<String> {
        Ok(self.run("cat /proc/drbd")?.ok()?.stdout)
    }

    /// The console log of every boot so far.
    pub(crate) fn console(&self) -> String {
        let bytes = fs::read(self.spec.dir.join("console.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Kernel reports on the console that must not be there.
    pub(crate) fn alarms(&self) -> Vec<String> {
        let console = self.console();
        let new = console.get(self.judged_from..).unwrap_or_default();
        alarms(new, self.spec.driver == Driver::C)
    }

    /// Gives the node another kernel module for its next boot; what the console says so far no
    /// longer counts.
    pub(crate) fn set_driver(&mut self, driver: Driver) {
        self.judged_from = self.console().len();
        self.spec.driver = driver;
    }

    /// Fails if lockdep has switched itself off, which would make the run meaningless.
    pub(crate) fn require_lockdep(&self) -> Result<()> {
        let stats = self.run("grep debug_locks /proc/lockdep_stats")?;
        ensure!(
            stats.stdout.split_whitespace().last() == Some("1"),
            "{}: lockdep is off, nothing would be checked: {:?}",
            self.spec.name,
            stats.stdout
        );
        Ok(())
    }

    /// Path of a data disk in the node, by its kernel name.
    pub(crate) fn disk_path(&self, index: usize) -> String {
        self.backend.disk_path(index)
    }

    /// File of a data disk on the host.
    pub(crate) fn disk_file(&self, index: usize) -> &Path {
        &self.spec.disks[index]
    }

    /// Serial line in the node that reports acknowledged writes to [`Self::acks_file`].
    pub(crate) fn acks_line(&self) -> &'static str {
        self.backend.acks_line()
    }

    /// What the node reported on [`Self::acks_line`], in every boot.
    pub(crate) fn acks_file(&self) -> PathBuf {
        self.spec.dir.join("acks.log")
    }

    /// Writes the resource file that the tools read, for this boot and the next ones.
    pub(crate) fn set_resource(&self, text: &str) -> Result<()> {
        fs::write(self.spec.drop.join("drbd.d/test.res"), text).context("write the resource")?;
        let command = format!("cat >/etc/drbd.d/test.res <<'END'\n{text}END\n");
        self.run(&command)?.ok()?;
        Ok(())
    }

    /// Network interface in the node.
    pub(crate) fn interface(&self) -> &'static str {
        self.backend.interface()
    }

    fn ask(&self, request: Request, deadline: Duration) -> Result<Pending> {
        let Some((_, link)) = &self.running else {
            bail!("{} is switched off", self.spec.name)
        };
        link.ask(request, deadline).with_context(|| self.epitaph())
    }

    fn epitaph(&self) -> String {
        format!(
            "{}, whose console ends with:\n{}",
            self.spec.name,
            tail(&self.console(), 12)
        )
    }
}

impl Job<'_> {
    /// Waits for the end of the command.
    pub(crate) fn wait(self) -> Result<Output> {
        let Self {
            node,
            command,
            start,
            pending,
        } = self;
        let reply = pending
            .wait()
            .with_context(|| format!("{command:?} on {}", node.epitaph()))?;
        let Reply::Ran {
            status,
            stdout,
            stderr,
            timed_out,
        } = reply
        else {
            bail!("unexpected answer {reply:?}")
        };
        let word = if timed_out {
            "TIMED OUT".to_owned()
        } else {
            format!("exit {status}")
        };
        let text = format!("{stdout}{stderr}");
        node.steps
            .ran(node.spec.name, &command, &text, &word, start.elapsed());
        ensure!(
            !timed_out,
            "{}: {command:?} did not end in time\n{text}",
            node.spec.name
        );
        Ok(Output {
            node: node.spec.name,
            command,
            status,
            stdout,
            stderr,
        })
    }
}

impl Output {
    /// Demands exit status 0.
    pub(crate) fn ok(self) -> Result<Self> {
        self.rc(0)
    }

    /// Demands this exit status.
    pub(crate) fn rc(self, wanted: i32) -> Result<Self> {
        ensure!(
            self.status == wanted,
            "{}: {:?} ended with {}, expected {wanted}:\n{}{}",
            self.node,
            self.command,
            self.status,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }

    /// Demands that the output contains `wanted`.
    pub(crate) fn says(self, wanted: &str) -> Result<Self> {
        ensure!(
            self.text().contains(wanted),
            "{}: {:?} should say {wanted:?}, but says:\n{}",
            self.node,
            self.command,
            self.text()
        );
        Ok(self)
    }

    /// Output and error output.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Standard output without white space at its ends.
    pub(crate) fn line(&self) -> &str {
        self.stdout.trim()
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
