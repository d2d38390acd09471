//! `wait-con-int`: waits for all connections while the service starts.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::process::Child;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use rustix::process::{kill_process, Pid, Signal};

use super::Session;
use crate::config::resolve::View;

/// How long only dots are printed.
const QUIET: Duration = Duration::from_secs(10);

/// What the waiting thread is told.
enum News {
    /// One helper has ended.
    Ended,
    /// The user typed a line.
    Line(String),
}

/// Starts one waiting helper for each volume and waits for all of them.
///
/// A peer that does not come is no error here: the service goes on without it.
pub(super) fn interactively(session: &Session<'_>) {
    let stacked = session.general().stacked;
    let mut console = Console::open();
    let fits = |view: &&View<'_>| !view.is_ignored() && view.is_stacked() == stacked;
    let mut children = Vec::new();
    for view in session.views.iter().filter(fits) {
        let maker = session.maker(view);
        for volume in view.volumes() {
            let call = maker
                .wait("wait-connect", &volume)
                .with(&session.invocation.backend);
            children.extend(session.runner.start(view.name(), &call));
        }
    }
    if children.is_empty() {
        return;
    }
    let pids: Vec<u32> = children.iter().map(Child::id).collect();
    let (news, inbox) = mpsc::channel();
    let mut running = children.len();
    for child in children {
        watch(child, news.clone());
    }
    let started = Instant::now();
    let refresh = match session.config.global.number("dialog-refresh") {
        0 => None,
        seconds => Some(Duration::from_secs(seconds)),
    };
    let mut has_asked = false;
    while running > 0 {
        let pause = if has_asked {
            refresh
        } else {
            Some(Duration::from_secs(1))
        };
        let message = match pause {
            Some(pause) => inbox.recv_timeout(pause),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match message {
            Ok(News::Ended) => running -= 1,
            Ok(News::Line(line)) if line.trim() == "yes" => {
                abort(&pids);
                break;
            }
            Ok(News::Line(_)) => console.prompt(started.elapsed()),
            Err(RecvTimeoutError::Timeout) if has_asked => console.elapsed(started.elapsed()),
            Err(RecvTimeoutError::Timeout) if started.elapsed() < QUIET => console.write("."),
            Err(RecvTimeoutError::Timeout) => {
                has_asked = true;
                console.ask(session, news.clone());
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    console.write("\n");
}

fn watch(mut child: Child, news: Sender<News>) {
    std::thread::spawn(move || {
        let _ = child.wait();
        let _ = news.send(News::Ended);
    });
}

fn abort(pids: &[u32]) {
    for &pid in pids {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::INT);
        }
    }
}

/// Where the user sits, if there is one.
enum Console {
    /// The standard streams are a terminal.
    Standard,
    /// The system console.
    Device(File),
    /// Nobody reads along.
    Nobody,
}

impl Console {
    fn open() -> Self {
        if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
            return Self::Standard;
        }
        let text = "WARN: stdin/stdout is not a TTY; using /dev/console";
        eprint!("{text}");
        print!("{text}");
        let _ = std::io::stdout().flush();
        match OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/console")
        {
            Ok(device) if device.is_terminal() => Self::Device(device),
            _ => Self::Nobody,
        }
    }

    fn write(&mut self, text: &str) {
        // Nobody can be told that the console is gone.
        let _ = match self {
            Self::Device(device) => device.write_all(text.as_bytes()),
            Self::Standard | Self::Nobody => {
                let mut stdout = std::io::stdout();
                stdout
                    .write_all(text.as_bytes())
                    .and_then(|()| stdout.flush())
            }
        };
    }

    /// Explains what is going on and listens for an answer.
    fn ask(&mut self, session: &Session<'_>, news: Sender<News>) {
        let startup = session.views.iter().find(|view| !view.is_ignored());
        let timeout = |name: &str| {
            let settings = startup.map(|view| &view.resource.sections.startup.settings);
            settings
                .and_then(|settings| settings.number(name))
                .unwrap_or(0)
        };
        let line = "*".repeat(63);
        self.write(&format!(
            "\n{line}\n The start-up script waits for the peer nodes of the replicated devices.\n \
             - If this node was already degraded before the reboot, the timeout is {} seconds.\n   \
             [degr-wfc-timeout]\n - Otherwise the timeout is {} seconds.\n   [wfc-timeout]\n   \
             0 means to wait forever.\n",
            timeout("degr-wfc-timeout"),
            timeout("wfc-timeout"),
        ));
        let input = match self {
            Self::Standard => File::open("/dev/stdin").ok(),
            Self::Device(device) => device.try_clone().ok(),
            Self::Nobody => None,
        };
        let Some(input) = input else {
            let pid = std::process::id();
            self.write(&format!(
                " To abort waiting for DRBD connections, kill this process: kill {pid}\n"
            ));
            return;
        };
        self.prompt(Duration::ZERO);
        std::thread::spawn(move || {
            for line in BufReader::new(input).lines().map_while(Result::ok) {
                if news.send(News::Line(line)).is_err() {
                    break;
                }
            }
        });
    }

    fn prompt(&mut self, elapsed: Duration) {
        let seconds = elapsed.as_secs();
        self.write(&format!(" To abort waiting enter 'yes' [{seconds:4}]: "));
    }

    /// Redraws the seconds in column 31.
    fn elapsed(&mut self, elapsed: Duration) {
        let seconds = elapsed.as_secs();
        if !matches!(self, Self::Nobody) {
            self.write(&format!("\x1b[s\x1b[31G{seconds:3}\x1b[u"));
        }
    }
}
