//! What depends on whether somebody sits in front of it.

use std::fs;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{grantpt, openpt, ptsname, unlockpt, OpenptFlags};

const WAITS_FOR_NOBODY: &str = "
global { usage-count no; disable-ip-verification; }
resource r0 {
  device /dev/drbd0; disk /dev/sda2; meta-disk internal;
  disk { resync-after nobody; }
  on a { address 10.0.0.1:7789; }
  on b { address 10.0.0.2:7789; }
}";

/// Both ends of a terminal; it lasts as long as the first one.
fn terminal() -> (OwnedFd, OwnedFd) {
    let front = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&front).expect("access");
    unlockpt(&front).expect("access");
    let name = ptsname(&front, Vec::new()).expect("a name");
    let back = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty());
    (front, back.expect("the other end"))
}

/// A script that was started by hand, and the boot, do not stop at an absent resource.
#[test]
fn an_unknown_resync_after_stops_only_somebody_who_reads_about_it() {
    let path = std::env::temp_dir().join(format!("drbd-tty-{}.conf", std::process::id()));
    fs::write(&path, WAITS_FOR_NOBODY).expect("a file");
    let (_front, back) = terminal();
    for (types, reads, wanted) in [(true, true, 10), (true, false, 0), (false, true, 0)] {
        let end = |is_terminal: bool, other: Stdio| match is_terminal {
            true => Stdio::from(back.try_clone().expect("another handle")),
            false => other,
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_drbd-tools"));
        command.args(["drbdadm", "-d", "attach", "r0", "-c"]);
        command.arg(&path).env("__DRBD_NODE__", "a");
        command.stdin(end(types, Stdio::null()));
        command.stdout(end(reads, Stdio::piped()));
        command.stderr(Stdio::piped());
        let output = command.spawn().and_then(|child| child.wait_with_output());
        let output = output.expect("the tool runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("resource 'nobody' mentioned"), "{said}");
        assert_eq!(output.status.code(), Some(wanted), "{types} {reads}");
        let attaches = String::from_utf8_lossy(&output.stdout).contains("drbdsetup attach 0");
        assert_eq!(attaches, !reads, "{types} {reads}");
    }
    fs::remove_file(path).expect("it was there");
}
