//! What `scripts/mutants` calls.

use std::path::{Path, PathBuf};

use anyhow::{bail, Result};
use drbd_schemata::results::Results;
use drbd_schemata::{compile, list, results, trace, trials};
use serde::de::DeserializeOwned;
use serde::Serialize;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["weave", sources, copy, work] => {
            let (sources, copy, work) = (sources.as_ref(), copy.as_ref(), PathBuf::from(work));
            let changes = list::read(&work)?;
            let made = compile::compile(sources, copy, &changes)?;
            write(&work.join("woven.json"), &made)
        }
        ["trace", work] => {
            let work = PathBuf::from(work);
            let made: compile::Made = read(&work.join("woven.json"))?;
            let tests = trace::trace(&made.programs, &work.join("trace"))?;
            write(&work.join("tests.json"), &tests)
        }
        ["try", sources, work, file, tests, shard] => {
            let work = PathBuf::from(work);
            let changes = list::read(&work)?;
            let made = read(&work.join("woven.json"))?;
            let known: Vec<trace::Test> = read(&work.join("tests.json"))?;
            let results = Results::read(file.as_ref(), sources.as_ref(), &changes)?;
            trials::try_all(&changes, &made, &known, results, tests, shard)
        }
        ["score", sources, work, file, tests] => {
            let changes = list::read(work.as_ref())?;
            let results = Results::read(file.as_ref(), sources.as_ref(), &changes)?;
            results::print_score(&results, &changes, tests);
            Ok(())
        }
        _ => bail!("usage: drbd-schemata weave|trace|try|score ..."),
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    Ok(std::fs::write(path, serde_json::to_vec(value)?)?)
}
