//! `wait-con-int`: waits for all connections while the service starts.

use std::fs::File;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use rustix::fs::{open, Mode, OFlags};
use rustix::process::{pidfd_send_signal, Signal};

use super::{runner, Session};
use crate::config::resolve::View;

/// How long only dots are printed.
const QUIET: Duration = Duration::from_secs(10);

/// How often a dot is printed.
const DOT: Duration = Duration::from_secs(1);

/// How often the journal is told who is being waited for, unless the user sits right here.
const REPORT: Duration = Duration::from_secs(30);

/// What the waiting thread is told.
enum News {
    /// The helper with this number has ended.
    Ended(usize),
    /// The user typed a line.
    Line(String),
}

/// Starts one waiting helper for each volume and waits for all of them.
///
/// A peer that does not come is no error here: the service goes on without it.
pub(super) fn interactively(session: &Session<'_>) {
    let console = Console::open();
    let helpers = start(session);
    if helpers.is_empty() {
        return;
    }
    let (news, inbox) = mpsc::channel();
    let mut waiting = Vec::new();
    for (number, (child, name)) in helpers.into_iter().enumerate() {
        waiting.push(Some(Helper::new(&child, name)));
        watch(number, child, news.clone());
    }
    let mut wait = Wait {
        console,
        waiting,
        started: Instant::now(),
        reported: Duration::ZERO,
        has_asked: false,
    };
    wait.run(session, &news, &inbox);
    wait.console.write("\n");
}

/// Starts a helper for each volume; returns it with the name of what it waits for.
fn start(session: &Session<'_>) -> Vec<(Child, String)> {
    let stacked = session.general().stacked;
    let fits = |view: &&View<'_>| !view.is_ignored() && view.is_stacked() == stacked;
    let mut started = Vec::new();
    for view in session.views.iter().filter(fits) {
        let maker = session.maker(view);
        for volume in view.volumes() {
            let call = maker.wait("wait-connect", &volume);
            let call = call.with(&session.invocation.backend);
            if let Some(child) = session.runner.start(view.name(), &call) {
                let peer = view.peer_address().map(|address| address.endpoint());
                let peer = peer.unwrap_or_default();
                started.push((child, format!("{}/{} ({peer})", view.name(), volume.number)));
            }
        }
    }
    started
}

/// A helper that is waited for.
struct Helper {
    /// What it waits for.
    name: String,
    /// Itself, even when the watching thread has reaped it and its number is that of another.
    handle: Option<OwnedFd>,
}

impl Helper {
    fn new(child: &Child, name: String) -> Self {
        let handle = runner::handle_of(child);
        Self { name, handle }
    }
}

/// The wait for several helpers.
struct Wait {
    console: Console,
    /// The helpers, nothing in place of one that has ended.
    waiting: Vec<Option<Helper>>,
    started: Instant,
    /// When the journal was told last.
    reported: Duration,
    /// Whether the user has been asked.
    has_asked: bool,
}

impl Wait {
    fn run(&mut self, session: &Session<'_>, news: &Sender<News>, inbox: &Receiver<News>) {
        let refresh = match session.config.global.number("dialog-refresh") {
            0 => REPORT,
            seconds => Duration::from_secs(seconds),
        };
        let refresh = match self.console {
            Console::Standard => refresh,
            Console::Device(_) | Console::Nobody => refresh.min(REPORT),
        };
        while self.waiting.iter().any(Option::is_some) {
            let pause = if self.has_asked { refresh } else { DOT };
            match inbox.recv_timeout(pause) {
                Ok(News::Ended(number)) => {
                    if let Some(one) = self.waiting.get_mut(number) {
                        *one = None;
                    }
                }
                Ok(News::Line(line)) if line.trim() == "yes" => return abort(&self.waiting),
                Ok(News::Line(_)) => self.console.prompt(self.started.elapsed()),
                Err(RecvTimeoutError::Timeout) if self.has_asked => self.tick(),
                Err(RecvTimeoutError::Timeout) if self.started.elapsed() < QUIET => {
                    self.console.write(".");
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.has_asked = true;
                    self.console.ask(session, news.clone());
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Shows how long it has taken so far.
    fn tick(&mut self) {
        let elapsed = self.started.elapsed();
        self.console.elapsed(elapsed);
        if let Some(line) = self.report(elapsed) {
            eprintln!("{line}");
        }
    }

    /// Returns what the journal is to be told now. What a service prints ends up there, and who
    /// reads it does not sit at the system console.
    fn report(&mut self, elapsed: Duration) -> Option<String> {
        if self.console.is_standard() || elapsed.saturating_sub(self.reported) < REPORT {
            return None;
        }
        self.reported = elapsed;
        let helpers = self.waiting.iter().flatten();
        let names: Vec<&str> = helpers.map(|helper| helper.name.as_str()).collect();
        Some(format!(
            "waiting since {} s for {}; to abort, kill this process: kill {}",
            elapsed.as_secs(),
            names.join(", "),
            std::process::id()
        ))
    }
}

fn watch(number: usize, mut child: Child, news: Sender<News>) {
    std::thread::spawn(move || {
        let _ = child.wait();
        let _ = news.send(News::Ended(number));
    });
}

/// Interrupts the helpers that are still waited for.
fn abort(waiting: &[Option<Helper>]) {
    for helper in waiting.iter().flatten() {
        if let Some(handle) = &helper.handle {
            let _ = pidfd_send_signal(handle, Signal::INT);
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
        Self::at("/dev/console")
    }

    /// Takes the terminal with this name, if it is one.
    fn at(path: &str) -> Self {
        // It must not become the terminal that ends this process with itself.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        match open(path, flags, Mode::empty()).map(File::from) {
            Ok(device) if device.is_terminal() => Self::Device(device),
            _ => Self::Nobody,
        }
    }

    fn is_standard(&self) -> bool {
        matches!(self, Self::Standard)
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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Stdio};

    use rustix::pty::{grantpt, openpt, ptsname, unlockpt, OpenptFlags};

    use super::*;

    #[test]
    fn the_journal_hears_of_the_wait_whether_there_is_a_console_or_not() {
        let front = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&front).expect("access");
        unlockpt(&front).expect("access");
        let name = ptsname(&front, Vec::new()).expect("a name");
        let consoles = [
            Console::at(name.to_str().expect("a path")),
            Console::at("/dev/null"),
            Console::Standard,
        ];
        assert!(matches!(
            consoles,
            [Console::Device(_), Console::Nobody, Console::Standard]
        ));
        let pid = std::process::id();
        for console in consoles {
            let helper = |name: &str| {
                Some(Helper {
                    name: name.to_owned(),
                    handle: None,
                })
            };
            let is_heard = !matches!(console, Console::Standard);
            let mut wait = Wait {
                console,
                waiting: vec![helper("r0/0 (10.0.0.2:7789)"), None, helper("r1/0 (?)")],
                started: Instant::now(),
                reported: Duration::ZERO,
                has_asked: true,
            };
            let line = |seconds: u64| {
                is_heard.then(|| {
                    format!(
                        "waiting since {seconds} s for r0/0 (10.0.0.2:7789), r1/0 (?); \
                         to abort, kill this process: kill {pid}"
                    )
                })
            };
            assert_eq!(wait.report(Duration::from_secs(29)), None);
            assert_eq!(wait.report(Duration::from_secs(31)), line(31));
            assert_eq!(wait.report(Duration::from_secs(60)), None);
            assert_eq!(wait.report(Duration::from_secs(61)), line(61));
        }
    }

    #[test]
    fn only_helpers_that_are_waited_for_are_interrupted() {
        // Whoever started the tests may have them ignore the signal (a shell in the background).
        let start = || {
            let mut child = Command::new("env")
                .args(["--default-signal=INT", "sh", "-c", "echo up; exec sleep 60"])
                .stdout(Stdio::piped())
                .spawn()
                .expect("it starts");
            let mut up = String::new();
            let out = child.stdout.as_mut().expect("a pipe");
            BufReader::new(out).read_line(&mut up).expect("a line");
            child
        };
        let (mut ended, mut running) = (start(), start());
        abort(&[None, Some(Helper::new(&running, "r0/0".to_owned()))]);
        let status = running.wait().expect("a child of ours");
        assert_eq!(status.signal(), Some(Signal::INT.as_raw()));
        assert!(ended.try_wait().expect("a child of ours").is_none());
        ended.kill().expect("it runs");
        ended.wait().expect("a child of ours");
    }
}
