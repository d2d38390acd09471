//! The record of a scenario: every command, what it printed, how long it took, what was checked.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Output of a command longer than this is cut on the screen; the file has all of it.
const SHOWN_LINES: usize = 40;

/// Where a scenario writes what it does.
pub(crate) struct Steps {
    start: Instant,
    state: Mutex<State>,
}

struct State {
    file: File,
    loud: bool,
}

impl Steps {
    /// Writes to `steps.log` in `dir`, and to the screen if `loud`.
    pub(crate) fn create(dir: &Path, loud: bool) -> Result<Self> {
        let file = File::create(dir.join("steps.log")).context("create steps.log")?;
        let state = State { file, loud };
        Ok(Self {
            start: Instant::now(),
            state: Mutex::new(state),
        })
    }

    /// One line of narration.
    pub(crate) fn say(&self, text: &str) {
        self.emit(
            &format!("[{:8.3}] {text}\n", self.start.elapsed().as_secs_f64()),
            usize::MAX,
        );
    }

    /// A command that has ended.
    pub(crate) fn ran(
        &self,
        node: &str,
        command: &str,
        output: &str,
        status: &str,
        took: Duration,
    ) {
        let mut text = format!(
            "[{:8.3}] {node}# {command}\n",
            self.start.elapsed().as_secs_f64() - took.as_secs_f64()
        );
        for line in output.lines() {
            let _ = writeln!(text, "           | {line}");
        }
        let _ = writeln!(text, "           = {status}, {:.3} s", took.as_secs_f64());
        self.emit(&text, SHOWN_LINES);
    }

    fn emit(&self, text: &str, shown: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = state.file.write_all(text.as_bytes());
        if !state.loud {
            return;
        }
        let lines: Vec<&str> = text.lines().collect();
        let mut out = std::io::stdout().lock();
        if lines.len() <= shown.saturating_add(2) {
            let _ = out.write_all(text.as_bytes());
        } else {
            let half = shown / 2;
            let cut = lines.len() - 2 * half;
            for line in &lines[..half] {
                let _ = writeln!(out, "{line}");
            }
            let _ = writeln!(out, "           | [{cut} lines, see steps.log]");
            for line in &lines[lines.len() - half..] {
                let _ = writeln!(out, "{line}");
            }
        }
        let _ = out.flush();
    }
}
