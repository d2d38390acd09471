//! The program that runs on a node: first as its init, then as the hand of the harness.
//!
//! As process 1 it mounts what a system needs, runs the node's own `setup.sh`, starts itself again
//! as the serving agent and reaps orphans for ever. The serving agent reads requests from the
//! serial line named by `agent_tty=` on the kernel command line, one thread per request.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::process::{kill_process_group, pidfd_open, Pid, PidfdFlags, Signal, WaitOptions};

use crate::proto::{lines_of_minor, Framed, Reply, Request};

/// Where the folder of the run is mounted in the node.
pub(crate) const DROP: &str = "/run/drop";

/// Output beyond this many bytes is cut: the serial line is no place for bulk data.
const OUTPUT_MAX_BYTES: usize = 4 << 20;

/// How often a waited-for file is read. `/proc` files cannot be polled for changes.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

const INIT: &str = r#"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
grep -q ' /dev devtmpfs' /proc/mounts || mount -t devtmpfs dev /dev
mount -o remount,rw /
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs tmp /tmp
mkdir -p /run/lock /run/drop /run/agent /var/lib/drbd
mount --move /mnt /run/drop
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
ln -sf /proc/self/fd /dev/fd
sh /run/drop/setup.sh
"#;

/// Runs as process 1. Returns only if the node cannot be set up at all.
pub(crate) fn init() -> Result<()> {
    let status = Command::new("/bin/sh")
        .args(["-c", INIT])
        .status()
        .context("run the init text")?;
    println!("agent: node set up, {status}");
    let me = Path::new(DROP).join("drbd-nodes");
    let child = Command::new(&me)
        .arg("agent")
        .arg("--serve")
        .spawn()
        .context("start the agent")?;
    let serving = i32::try_from(child.id()).unwrap_or(0);
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == serving => {
                println!("agent: the serving process ended: {status:?}");
                let _ = Command::new("busybox").args(["poweroff", "-f"]).status();
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Serves requests until the line is closed.
pub(crate) fn serve() -> Result<()> {
    let tty = std::env::var("agent_tty").unwrap_or_else(|_| "/dev/ttyS0".to_owned());
    let line = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&tty)
        .context("open the line")?;
    let status = Command::new("stty")
        .args(["raw", "-echo", "-hupcl", "clocal"])
        .stdin(Stdio::from(line.try_clone()?))
        .status()
        .context("run stty")?;
    anyhow::ensure!(status.success(), "stty on {tty} failed");
    let out = Arc::new(Mutex::new(line.try_clone()?));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    send(
        &out,
        0,
        Reply::Hello {
            release: release.trim().to_owned(),
        },
    );
    for text in BufReader::new(line).lines() {
        let text = text.context("read the line")?;
        let Ok(Framed { id, body }) = serde_json::from_str::<Framed<Request>>(&text) else {
            println!("agent: not understood: {text:?}");
            continue;
        };
        let out = Arc::clone(&out);
        thread::spawn(move || {
            let reply = answer(id, body).unwrap_or_else(|error| Reply::Ran {
                status: 125,
                stdout: String::new(),
                stderr: format!("agent: {error:#}\n"),
                timed_out: false,
            });
            send(&out, id, reply);
        });
    }
    Ok(())
}

fn send(out: &Mutex<File>, id: u64, body: Reply) {
    let Ok(mut text) = serde_json::to_string(&Framed { id, body }) else {
        return;
    };
    text.push('\n');
    if let Ok(mut line) = out.lock() {
        if let Err(error) = line.write_all(text.as_bytes()) {
            println!("agent: cannot answer: {error}");
        }
    }
}

fn answer(id: u64, request: Request) -> Result<Reply> {
    match request {
        Request::Run {
            command,
            deadline_ms,
        } => run(id, &command, Duration::from_millis(deadline_ms)),
        Request::Wait {
            path,
            minor,
            all,
            none,
            deadline_ms,
        } => {
            let end = Instant::now() + Duration::from_millis(deadline_ms);
            Ok(wait(Path::new(&path), minor, &all, &none, end))
        }
    }
}

/// Runs `command`. Its output goes to files, so that a daemon which keeps them open does not keep
/// us waiting.
fn run(id: u64, command: &str, deadline: Duration) -> Result<Reply> {
    let out = Path::new("/run/agent").join(format!("{id}.out"));
    let err = Path::new("/run/agent").join(format!("{id}.err"));
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/root")
        .stdin(Stdio::null())
        .stdout(File::create(&out).context("create the output file")?)
        .stderr(File::create(&err).context("create the error file")?)
        .process_group(0)
        .spawn()
        .context("start the shell")?;
    let ended = wait_child(&mut child, deadline)?;
    let timed_out = ended.is_none();
    if timed_out {
        stop_late(&mut child);
    }
    let reply = Reply::Ran {
        status: ended.map_or(124, status_number),
        stdout: take(&out),
        stderr: take(&err),
        timed_out,
    };
    Ok(reply)
}

fn status_number(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn wait_child(child: &mut Child, deadline: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + deadline;
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("pid 0")?;
    let fd = pidfd_open(pid, PidfdFlags::empty()).context("pidfd_open")?;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let limit = Timespec::try_from(left).context("deadline too far away")?;
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        match poll(&mut fds, Some(&limit)) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(child.wait()?)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
    }
}

/// Writes where the command and every blocked task hang to the console, then kills the command.
fn stop_late(child: &mut Child) {
    let report = format!(
        "exec >/dev/console 2>&1; echo 'agent: deadline of pid {0}'; cat /proc/{0}/stack; \
         for t in $(ps -o pid= --ppid {0}); do cat /proc/$t/comm /proc/$t/stack; done; \
         echo w >/proc/sysrq-trigger",
        child.id()
    );
    let _ = Command::new("/bin/sh").args(["-c", &report]).status();
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let _ = child.try_wait();
}

fn take(path: &Path) -> String {
    let mut bytes = fs::read(path).unwrap_or_default();
    let _ = fs::remove_file(path);
    let cut = bytes.len() > OUTPUT_MAX_BYTES;
    bytes.truncate(OUTPUT_MAX_BYTES);
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if cut {
        text.push_str("\n[agent: output cut here]\n");
    }
    text
}

fn wait(path: &Path, minor: Option<u32>, all: &[String], none: &[String], end: Instant) -> Reply {
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        let part = minor.map_or_else(|| text.clone(), |minor| lines_of_minor(&text, minor));
        let met = all.iter().all(|wanted| part.contains(wanted.as_str()))
            && !none.iter().any(|unwanted| part.contains(unwanted.as_str()))
            && !(part.is_empty() && minor.is_some());
        if met || Instant::now() >= end {
            return Reply::Waited { met, text };
        }
        thread::sleep(LOOK_AGAIN);
    }
}
