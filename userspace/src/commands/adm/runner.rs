//! Runs helper programs, or prints what would be run.
//!
//! The helpers are this very program under another name, so that they are found wherever it is
//! installed; `-s` and `-m` choose others (`reference/userland.md 2.3`).

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::process::{pidfd_open, Pid, PidfdFlags};

use super::args::General;
use super::Ending;
use crate::adjust::call::{escape, Call, Limit, Tool};
use crate::commands::setup;
use crate::config::model::Global;

/// Exit code if a helper cannot be run or does not come back.
pub(super) const CANNOT_RUN: u8 = 20;

/// The option whose value is nobody else's business.
const SECRET: &str = "--shared-secret=";

/// What happens to the error output of a helper.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Errors {
    /// It is thrown away.
    Hidden,
    /// It is collected.
    Kept,
    /// The user sees it.
    Shown,
}

/// How a call ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Ended {
    /// Exit code.
    pub(super) code: u8,
    /// Collected error output.
    pub(super) errors: String,
}

/// A helper that did not come back in time: drbdadm gives up at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct GaveUp;

/// A program and the name to print for it.
#[derive(Clone, Debug)]
struct Program {
    /// What is executed.
    path: OsString,
    /// What it believes to be called; also printed.
    shown: String,
}

/// Runs calls in the way the general options demand.
#[derive(Clone, Debug)]
pub(super) struct Runner {
    dry_run: bool,
    verbose: bool,
    variable: Option<String>,
    meta: Program,
    setup: Program,
    setup_is_ours: bool,
    short_s: u64,
    medium_s: u64,
    long_s: u64,
}

impl Runner {
    /// Makes a runner. `own_name` is the name under which drbdadm was called, with its directory.
    ///
    /// # Errors
    ///
    /// A helper that the user chose cannot be executed.
    pub(super) fn new(own_name: &str, general: &General, global: &Global) -> Result<Self, String> {
        let find = |chosen: &Option<String>, name: &str| match chosen {
            Some(path) if is_executable(path) => Ok(Program {
                path: path.into(),
                shown: path.clone(),
            }),
            Some(_) => Err("Can not find command (drbdsetup/drbdmeta)".to_owned()),
            None => Ok(own_program(own_name, name)),
        };
        let variable = general.variable.clone().filter(|variable| {
            let is_plain = variable
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !is_plain {
                eprintln!(
                    "ignored --sh-varname={variable}: contains suspect characters, allowed set is \
                     [a-zA-Z0-9_]"
                );
            }
            is_plain
        });
        Ok(Self {
            dry_run: general.dry_run > 0,
            verbose: general.verbose > 0,
            variable,
            meta: find(&general.drbdmeta, "drbdmeta")?,
            setup: find(&general.drbdsetup, "drbdsetup")?,
            setup_is_ours: general.drbdsetup.is_none(),
            short_s: global.number("cmd-timeout-short"),
            medium_s: global.number("cmd-timeout-medium"),
            long_s: global.number("cmd-timeout-long"),
        })
    }

    /// Reports whether calls are only printed.
    pub(super) fn is_dry(&self) -> bool {
        self.dry_run
    }

    /// Reports whether calls are printed.
    pub(super) fn is_talkative(&self) -> bool {
        self.dry_run || self.verbose
    }

    /// Runs `call` for `resource`, shows its output and complaints, and returns its exit code.
    pub(super) fn run(&self, resource: &str, call: &Call) -> Result<u8, GaveUp> {
        self.run_with(resource, call, Errors::Shown)
            .map(|ended| ended.code)
    }

    /// Runs `call` for `resource` and returns its exit code without a word about it.
    pub(super) fn run_plainly(&self, resource: &str, call: &Call) -> Result<u8, GaveUp> {
        self.announce(resource, call);
        if self.dry_run {
            return Ok(0);
        }
        match self.command(resource, call).spawn() {
            Ok(mut child) => self.wait(&mut child, call).map(exit_code),
            Err(error) => {
                eprintln!("Can not exec {}: {error}", self.program(call.tool).shown);
                Ok(CANNOT_RUN)
            }
        }
    }

    /// Runs `call` for `resource`.
    pub(super) fn run_with(
        &self,
        resource: &str,
        call: &Call,
        errors: Errors,
    ) -> Result<Ended, GaveUp> {
        self.announce(resource, call);
        if self.dry_run {
            return Ok(Ended::default());
        }
        if self.setup_is_ours && has_secret(call) {
            let code = self.run_inside(call)?;
            return Ok(Ended {
                code,
                ..Ended::default()
            });
        }
        let mut command = self.command(resource, call);
        match errors {
            Errors::Hidden => command.stderr(Stdio::null()),
            Errors::Kept => command.stderr(Stdio::piped()),
            Errors::Shown => command.stderr(Stdio::inherit()),
        };
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                eprintln!("Can not exec {}: {error}", self.program(call.tool).shown);
                return Ok(Ended {
                    code: CANNOT_RUN,
                    errors: String::new(),
                });
            }
        };
        let status = self.wait(&mut child, call)?;
        let mut kept = Vec::new();
        if let Some(mut pipe) = child.stderr.take() {
            // The helper has ended: what it wrote fits into the pipe or was read by nobody.
            let _ = pipe.read_to_end(&mut kept);
        }
        let code = exit_code(status);
        if code >= 10 && errors == Errors::Shown {
            self.complain(call, code);
        }
        Ok(Ended {
            code,
            errors: String::from_utf8_lossy(&kept).into_owned(),
        })
    }

    /// Says which call failed.
    pub(super) fn complain(&self, call: &Call, code: u8) {
        eprintln!(
            "Command '{}' terminated with exit code {code}",
            self.plain(call)
        );
    }

    /// Runs `call` silently, even with `--dry-run`, to get its output; `None` if it fails.
    pub(super) fn silently(&self, resource: &str, call: &Call) -> Option<String> {
        let mut command = self.command(resource, call);
        command.stderr(Stdio::null()).stdin(Stdio::null());
        let output = command
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts `call` and does not wait for it. `None`: it was only printed, or could not start.
    pub(super) fn start(&self, resource: &str, call: &Call) -> Option<Child> {
        self.announce(resource, call);
        if self.dry_run {
            return None;
        }
        self.command(resource, call).spawn().ok()
    }

    fn announce(&self, resource: &str, call: &Call) {
        if self.is_talkative() {
            if let Some(variable) = &self.variable {
                println!("{variable}={}", escape(resource));
            }
            let mut line = escape(&self.program(call.tool).shown);
            for argument in &call.args {
                line.push(' ');
                // With --dry-run the line is meant to be used; else it may end up in a log.
                let shown = if self.dry_run {
                    argument
                } else {
                    public(argument)
                };
                line.push_str(&escape(shown));
            }
            println!("{line}");
        }
        let _ = std::io::stdout().flush();
        let _ = std::io::stderr().flush();
    }

    /// Returns the call as it appears in messages.
    fn plain(&self, call: &Call) -> String {
        let mut line = self.program(call.tool).shown.clone();
        for argument in &call.args {
            line.push(' ');
            line.push_str(public(argument));
        }
        line
    }

    /// Runs a call of drbdsetup without a process of its own.
    fn run_inside(&self, call: &Call) -> Ending {
        let (done, outcome) = mpsc::channel();
        let (name, args) = (self.setup.shown.clone(), call.args.clone());
        std::thread::spawn(move || {
            let _ = done.send(setup::run(&name, &args));
        });
        let seconds = self.seconds(call.limit);
        let code = match seconds {
            0 => outcome.recv().ok(),
            _ => match outcome.recv_timeout(Duration::from_secs(seconds)) {
                Ok(code) => Some(code),
                Err(RecvTimeoutError::Disconnected) => None,
                Err(RecvTimeoutError::Timeout) => return Err(self.late(call, seconds)),
            },
        };
        let code = code.unwrap_or(CANNOT_RUN);
        if code >= 10 {
            self.complain(call, code);
        }
        Ok(code)
    }

    fn late(&self, call: &Call, seconds: u64) -> GaveUp {
        eprintln!(
            "Command '{}' did not terminate within {seconds} seconds",
            self.plain(call)
        );
        GaveUp
    }

    fn seconds(&self, limit: Limit) -> u64 {
        match limit {
            Limit::Forever => 0,
            Limit::Short => self.short_s,
            Limit::Medium => self.medium_s,
            Limit::Long => self.long_s,
        }
    }

    fn program(&self, tool: Tool) -> Program {
        match tool {
            Tool::Meta => self.meta.clone(),
            Tool::Setup => self.setup.clone(),
            Tool::Shell => Program {
                path: "/bin/sh".into(),
                shown: "/bin/sh".into(),
            },
        }
    }

    fn command(&self, resource: &str, call: &Call) -> Command {
        let program = self.program(call.tool);
        let mut command = Command::new(&program.path);
        command
            .arg0(&program.shown)
            .args(&call.args)
            .env("DRBD_RESOURCE", resource);
        if call.tool != Tool::Shell {
            command.env(super::HELPER, "1");
        }
        command
    }

    fn wait(&self, child: &mut Child, call: &Call) -> Result<ExitStatus, GaveUp> {
        let seconds = self.seconds(call.limit);
        if seconds > 0 && !ends_within(child, Duration::from_secs(seconds)) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(self.late(call, seconds));
        }
        child.wait().map_err(|error| {
            eprintln!("lost '{}': {error}", self.plain(call));
            GaveUp
        })
    }
}

/// Returns the argument, or what may be shown of it.
fn public(argument: &str) -> &str {
    match argument.starts_with(SECRET) {
        true => "--shared-secret=...",
        false => argument,
    }
}

/// Reports whether the arguments must not show up in the list of processes.
fn has_secret(call: &Call) -> bool {
    call.tool == Tool::Setup
        && call
            .args
            .iter()
            .any(|argument| argument.starts_with(SECRET))
}

/// Returns a handle of the child. Unlike its number it never comes to mean another process.
pub(super) fn handle_of(child: &Child) -> Option<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Waits until the child has ended. False: it has not, and the time is over.
fn ends_within(child: &Child, limit: Duration) -> bool {
    let Some(handle) = handle_of(child) else {
        // Without a handle there is no way to limit the wait.
        return true;
    };
    let seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    let limit = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    let mut watched = [PollFd::new(&handle, PollFlags::IN)];
    loop {
        match poll(&mut watched, Some(&limit)) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return true,
        }
    }
}

/// Returns the exit code; a helper that was killed could not be run to its end.
fn exit_code(status: ExitStatus) -> u8 {
    match status.code() {
        Some(code) => u8::try_from(code).unwrap_or(u8::MAX),
        None => {
            if let Some(signal) = status.signal() {
                eprintln!("helper was killed by signal {signal}");
            }
            CANNOT_RUN
        }
    }
}

/// Chooses the name to print for a helper: beside drbdadm if it was called with its directory and
/// the helper is there, else bare.
fn own_program(own_name: &str, name: &str) -> Program {
    let beside = own_name
        .rsplit_once('/')
        .map(|(folder, _)| format!("{folder}/{name}"));
    let shown = beside
        .filter(|path| is_executable(path))
        .unwrap_or_else(|| name.to_owned());
    Program {
        path: "/proc/self/exe".into(),
        shown,
    }
}

fn is_executable(path: &str) -> bool {
    let access = rustix::fs::access(Path::new(path), rustix::fs::Access::EXEC_OK);
    access.is_ok() && Path::new(path).is_file()
}
