//! Whether the kernel module is there.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{memfd_create, MemfdFlags};

use crate::report::Failure;

const PROC_DRBD: &str = "/proc/drbd";

/// How often, and after which time, the module is looked for once it was asked to load.
const ATTEMPTS: usize = 10;
const PAUSE: Duration = Duration::from_millis(1);

/// Loads the module unless it is there.
pub(super) fn ensure_loaded() -> Result<(), Failure> {
    let is_loaded = || Path::new(PROC_DRBD).exists();
    if is_loaded() {
        return Ok(());
    }
    let complaint = load(Command::new("/sbin/modprobe").arg("drbd"));
    for _ in 0..ATTEMPTS {
        if is_loaded() {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    Err(missing(&complaint))
}

/// Runs modprobe and returns what it complained about.
fn load(modprobe: &mut Command) -> String {
    let modprobe = modprobe.stdin(Stdio::null()).stdout(Stdio::null());
    let errors = complaint(modprobe).unwrap_or_default();
    String::from_utf8_lossy(&errors).trim_end().to_owned()
}

/// Runs a command and returns its error messages.
///
/// They go to memory, not into a pipe: what the configuration of modprobe starts may live on and
/// keep them open.
fn complaint(command: &mut Command) -> io::Result<Vec<u8>> {
    let mut errors = File::from(memfd_create("complaint", MemfdFlags::CLOEXEC)?);
    command.stderr(errors.try_clone()?).status()?;
    let mut text = Vec::new();
    errors.rewind()?;
    errors.read_to_end(&mut text)?;
    Ok(text)
}

/// The module is not there; modprobe may have said why.
fn missing(complaint: &str) -> Failure {
    let gap = if complaint.is_empty() { "" } else { "\n" };
    Failure::local(format!(
        "{complaint}{gap}Could not stat /proc/drbd: No such file or directory\n\
         Make sure that the DRBD kernel module is installed and can be loaded!"
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rustix::process::{kill_process, Pid, Signal};

    use super::*;

    #[test]
    fn what_modprobe_complains_about_is_shown_first() {
        let why = "modprobe: ERROR: could not insert 'drbd': Key was rejected by service";
        let script = format!("echo \"{why}\" >&2; echo unheard; exit 1");
        let complaint = load(Command::new("sh").args(["-c", &script]));
        let failure = missing(&complaint);
        assert_eq!(failure.code, 20);
        let lines: Vec<&str> = failure.text.lines().collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(lines[0], why);
        assert!(lines[1].starts_with("Could not stat /proc/drbd"));
        let silent = missing(&load(Command::new("sh").args(["-c", "exit 1"])));
        assert!(silent.text.starts_with("Could not stat /proc/drbd"));
    }

    #[test]
    fn what_modprobe_leaves_running_is_not_waited_for() {
        let script = "sleep 100 & echo why >&2; echo $! >&2";
        let begun = Instant::now();
        let complaint = load(Command::new("sh").args(["-c", script]));
        let took = begun.elapsed();
        let (why, left) = complaint.split_once('\n').expect("two lines");
        assert_eq!(why, "why");
        let left = left.parse().ok().and_then(Pid::from_raw).expect("a number");
        kill_process(left, Signal::KILL).expect("it runs");
        assert!(took < Duration::from_secs(90), "{took:?}");
    }
}
