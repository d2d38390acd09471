//! Keeps the processors of the host from halting while something is measured.
//!
//! A node hands every system call of its applications from one process of the host to another and
//! back. If the other processor has halted meanwhile, each hand-over pays for waking it, above
//! all inside a virtual machine, and a driver that leaves the processors more idle looks slower
//! than one that keeps them busy. A loop of the lowest priority on each processor takes nothing
//! away from the nodes (it runs when nobody else wants to) and makes the measured speed one of
//! work done.

use std::fs;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::machine::processors;

/// Loops that run when a processor has nothing else to do, until this is dropped.
pub(crate) struct Awake {
    loops: Vec<Child>,
}

impl Awake {
    /// Starts one loop for each processor of the host.
    ///
    /// # Errors
    ///
    /// `chrt` or `nice` is missing.
    pub(crate) fn keep() -> Result<Self> {
        let mut awake = Self { loops: Vec::new() };
        for _ in 0..processors() {
            // Ends with the harness even if that is killed.
            let child = Command::new("chrt")
                .args(["--idle", "0", "setpriv", "--pdeathsig", "KILL"])
                .args(["nice", "-n", "19", "sh", "-c", "while :; do :; done"])
                .stdin(Stdio::null())
                .spawn()
                .context("chrt (package util-linux)")?;
            awake.loops.push(child);
        }
        Ok(awake)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        for child in &mut self.loops {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Time that the host's processors were idle or did work of lowered priority (the loops), and all
/// their time, since it booted, in ticks.
pub(crate) fn idle_and_all() -> Result<[f64; 2]> {
    let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    idle_and_all_of(&text).context("the times in /proc/stat")
}

fn idle_and_all_of(stat: &str) -> Option<[f64; 2]> {
    let times: Option<Vec<f64>> = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace()
        .take(8)
        .map(|word| word.parse().ok())
        .collect();
    let times = times?;
    // user, nice, system, idle, ...
    Some([times.get(1)? + times.get(3)?, times.iter().sum()])
}

#[cfg(test)]
mod tests {
    use super::idle_and_all_of;

    #[test]
    fn lowered_priority_counts_as_idle_and_guests_not_twice() {
        let stat = "cpu  10 20 30 40 1 2 3 4 10 20\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(idle_and_all_of(stat), Some([60.0, 110.0]));
        assert_eq!(idle_and_all_of("cpu  10 x\n"), None);
    }
}
