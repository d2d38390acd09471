//! Says what can be done when the kernel refuses a change of state.
//!
//! Printed behind the messages that scripts know (`reference/userland.md 7`).

use std::fs;
use std::path::Path;

use super::Session;
use crate::config::resolve::LocalVolume;

/// Exit code of drbdsetup if there is no good data.
const NO_GOOD_DATA: u8 = 17;
/// Exit code of drbdsetup for the other refusals.
const REFUSED: u8 = 11;

/// Prints a hint about `volume` if the command ended with `code`.
pub(super) fn after(session: &Session<'_>, resource: &str, volume: &LocalVolume, code: u8) {
    let program = session.program;
    match (session.command().name, code) {
        ("primary", NO_GOOD_DATA) => eprintln!(
            "hint: {resource}/{}: the disk of this node is not up to date; if it holds the good \
             data, '{program} primary --force {resource}' overwrites the peer with it",
            volume.number
        ),
        ("primary", REFUSED) => eprintln!(
            "hint: {resource}/{}: see '{program} role {resource}': the peer may be primary",
            volume.number
        ),
        ("secondary" | "down", REFUSED) => {
            for holder in holders(&volume.node) {
                eprintln!("hint: {resource}/{}: {holder}", volume.number);
            }
        }
        _ => {}
    }
}

/// Finds out who uses the device: mounts first, then processes that have it open.
fn holders(node: &str) -> Vec<String> {
    let device = fs::canonicalize(node).unwrap_or_else(|_| node.into());
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mut found: Vec<String> = mounts_of(&mounts, &device)
        .map(|place| format!("{node} is mounted on {place}: umount {place}"))
        .collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let pid = process.file_name();
        let Some(pid) = pid
            .to_str()
            .filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()))
        else {
            continue;
        };
        let files = fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        let holds = |file: fs::DirEntry| fs::read_link(file.path()).is_ok_and(|at| at == device);
        if files.into_iter().any(holds) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            found.push(format!("process {pid} ({}) has {node} open", name.trim()));
        }
    }
    found
}

/// Returns the places where `device` is mounted.
fn mounts_of<'m>(mounts: &'m str, device: &'m Path) -> impl Iterator<Item = &'m str> {
    mounts.lines().filter_map(move |line| {
        let mut words = line.split(' ');
        let what = words.next()?;
        words.next().filter(|_| Path::new(what) == device)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_the_device_are_found() {
        let mounts = "/dev/sda1 / ext4 rw 0 0\n/dev/drbd0 /home ext4 rw 0 0\nproc /proc proc\n";
        let found: Vec<&str> = mounts_of(mounts, Path::new("/dev/drbd0")).collect();
        assert_eq!(found, ["/home"]);
    }
}
