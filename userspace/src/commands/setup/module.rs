//! Whether the kernel module is there.

use crate::report::Failure;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

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
    let _ = Command::new("/sbin/modprobe")
        .arg("drbd")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    for _ in 0..ATTEMPTS {
        if is_loaded() {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    Err(Failure::local(
        "Could not stat /proc/drbd: No such file or directory\n\
         Make sure that the DRBD kernel module is installed and can be loaded!",
    ))
}
