//! Which changes each test could notice, and what the test costs.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{ensure, Context, Result};
use serde::{Deserialize, Serialize};

use crate::compile::Program;

/// A test by itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Test {
    /// The number of its program.
    pub program: usize,
    /// Its name there.
    pub name: String,
    /// Milliseconds of the processor.
    pub ms: u64,
    /// The changes whose place it runs through; of comparisons only those whose answer differs at
    /// least once.
    pub reaches: Vec<u32>,
}

/// Seconds of the processor; a test that takes longer is not used.
const LIMIT_S: u64 = 6;

/// Runs each test of the programs without any change.
///
/// # Errors
///
/// If one fails.
pub fn trace(programs: &[Program], notes: &Path) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    for (number, program) in programs.iter().enumerate() {
        for name in names(program)? {
            let before = children_ms()?;
            let _ = std::fs::remove_file(notes);
            let limited = format!("ulimit -c 0; ulimit -t {LIMIT_S}; exec \"$@\"");
            let status = Command::new("sh")
                .args(["-c", &limited, "sh"])
                .arg(&program.path)
                .args(["--exact", &name, "--test-threads=1"])
                .current_dir(&program.folder)
                .env("DRBD_CHANGE", format!("trace:{}", notes.display()))
                .stdout(Stdio::null())
                .status()?;
            if status.signal().is_some() {
                eprintln!("{name} takes too long");
                continue;
            }
            ensure!(status.success(), "{name} fails without a change");
            let reaches = std::fs::read(notes).unwrap_or_default();
            let reaches = reaches.chunks_exact(4).map(|id| {
                id.iter()
                    .rev()
                    .fold(0, |id, byte| id << 8 | u32::from(*byte))
            });
            let reaches = reaches.collect();
            tests.push(Test {
                program: number,
                name,
                ms: children_ms()? - before,
                reaches,
            });
        }
    }
    Ok(tests)
}

fn names(program: &Program) -> Result<Vec<String>> {
    let output = Command::new(&program.path)
        .args(["--list", "--format=terse"])
        .output()?;
    let output = String::from_utf8(output.stdout)?;
    let names = output
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(str::to_owned).collect())
}

/// Processor time of all processes that were waited for.
fn children_ms() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(") ").context("/proc/self/stat")?;
    // Behind the name the third field comes first; ticks of 10 ms.
    let ticks = fields.split(' ').skip(13).take(2).map(str::parse::<u64>);
    Ok(ticks.sum::<Result<u64, _>>()? * 10)
}
