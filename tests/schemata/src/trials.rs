//! Switches changes on, one after the other, and runs the tests that could notice.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::compile::{Made, Program};
use crate::list::Change;
use crate::results::{Outcome, Results};
use crate::trace::Test;

/// Milliseconds of tests, as they are without a change, that a change has to survive.
const BUDGET_MS: u64 = 10_000;
/// The first programs are those of unit tests.
const UNIT_TESTS: usize = 2;
/// Of the first tests that are run together; twice as much each time.
const FIRST_MS: u64 = 40;
const BATCH_MS: u64 = 2_000;
/// The time of a test may become this many times longer, and more by some seconds.
const PATIENCE: u64 = 10;
const PATIENCE_S: u64 = 3;
const MEMORY_KIB: u64 = 8 * 1024 * 1024;
/// Seconds of the clock after which a test waits for something that never comes.
const CLOCK_S: u64 = 900;

/// Tries each `n`-th change of a scattered list from the `k`-th on, but what is known.
///
/// # Errors
///
/// If a program cannot be run.
pub fn try_all(
    changes: &[Change],
    made: &Made,
    tests: &[Test],
    mut results: Results,
    key: &str,
    shard: &str,
) -> Result<()> {
    let (k, n) = shard.split_once('/').context("SHARD=<k>/<n>")?;
    let (k, n): (usize, usize) = (k.parse()?, n.parse()?);
    let mut scattered: Vec<&Change> = changes.iter().collect();
    scattered.sort_by_key(|change| change.id.wrapping_mul(2_654_435_761));
    let open: Vec<_> = scattered
        .into_iter()
        .skip(k)
        .step_by(n)
        .filter(|change| !results.is_known(change, key))
        .collect();
    eprintln!("{} changes to try", open.len());
    let start = Instant::now();
    for (number, change) in open.iter().enumerate() {
        let outcome = if made.unviable.contains(&change.id) {
            Some(Outcome::Unviable)
        } else if made.unwoven.contains(&change.id) {
            Some(Outcome::Unwoven)
        } else {
            verdict(change.id, &made.programs, tests)?
        };
        if let Some(outcome) = outcome {
            results.add(change, outcome, key)?;
        }
        if outcome == Some(Outcome::Missed) {
            println!("survived: {}", change.name);
        }
        if (number + 1) % 200 == 0 {
            eprintln!(
                "{} of {}, {} s",
                number + 1,
                open.len(),
                start.elapsed().as_secs()
            );
        }
    }
    Ok(())
}

/// Whether a test notices the change. Nothing is known if the clock ended one.
fn verdict(id: u32, programs: &[Program], tests: &[Test]) -> Result<Option<Outcome>> {
    let mut able: Vec<&Test> = tests
        .iter()
        .filter(|test| test.reaches.contains(&id))
        .collect();
    // Unit tests look closer.
    able.sort_by_key(|test| test.ms * if test.program < UNIT_TESTS { 1 } else { 4 });
    let (mut spent, mut limit) = (0, FIRST_MS);
    let mut rest = &able[..];
    while !rest.is_empty() && spent < BUDGET_MS {
        let mut together = 0;
        let len = rest.iter().take_while(|test| {
            let more = together < limit;
            together += test.ms + 1;
            more
        });
        let (batch, later) = rest.split_at(len.count());
        match noticed(id, programs, batch)? {
            Some(true) => return Ok(Some(Outcome::Caught)),
            Some(false) => {}
            None => return Ok(None),
        }
        spent += batch.iter().map(|test| test.ms).sum::<u64>();
        (rest, limit) = (later, (limit * 2).min(BATCH_MS));
    }
    Ok(Some(Outcome::Missed))
}

fn noticed(id: u32, programs: &[Program], batch: &[&Test]) -> Result<Option<bool>> {
    let mut by_program = BTreeMap::<usize, Vec<&Test>>::new();
    for test in batch {
        by_program.entry(test.program).or_default().push(test);
    }
    for (number, tests) in by_program {
        let program = &programs[number];
        let ms: u64 = tests.iter().map(|test| test.ms).sum();
        let seconds = PATIENCE_S + PATIENCE * ms / 1000;
        let limits = format!(
            "ulimit -c 0; ulimit -v {MEMORY_KIB}; ulimit -t {seconds}; \
             exec timeout -s KILL {CLOCK_S} \"$@\""
        );
        let status = Command::new("sh")
            .args(["-c", &limits, "sh"])
            .arg(&program.path)
            .args(["--exact", "--test-threads=1"])
            .args(tests.iter().map(|test| &test.name))
            .current_dir(&program.folder)
            .env("DRBD_CHANGE", id.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        match status.code() {
            Some(0) => {}
            // Ended by the clock.
            Some(137) => return Ok(None),
            _ => return Ok(Some(true)),
        }
    }
    Ok(Some(false))
}
