//! What trials came to, kept over changes of the sources.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::list::Change;

/// What became of a change.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Outcome {
    /// A test failed.
    Caught,
    /// None did.
    Missed,
    /// It does not compile.
    Unviable,
    /// It does not compile beside the others; it may alone.
    Unwoven,
}

impl Outcome {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Caught, "caught"),
        (Self::Missed, "missed"),
        (Self::Unviable, "unviable"),
        (Self::Unwoven, "unwoven"),
    ];

    fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(outcome, _)| *outcome == self)
            .map_or("", |(_, name)| name)
    }
}

/// The results, of which a line each is in a file.
#[derive(Debug)]
pub struct Results {
    /// By file's content and name: the outcome and the key of the tests.
    known: HashMap<(String, String), (Outcome, String)>,
    /// The content of each file.
    contents: BTreeMap<String, String>,
    file: File,
}

impl Results {
    /// Reads the results that there are, and the content of the files that have changes.
    ///
    /// # Errors
    ///
    /// If a file cannot be read.
    pub fn read(file: &Path, sources: &Path, changes: &[Change]) -> Result<Self> {
        let mut contents = BTreeMap::new();
        for change in changes {
            if !contents.contains_key(&change.file) {
                let text = std::fs::read_to_string(sources.join(&change.file))?;
                contents.insert(change.file.clone(), content(&text));
            }
        }
        let mut known = HashMap::new();
        for line in std::fs::read_to_string(file).unwrap_or_default().lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let [outcome, content, tests, name] = fields[..] else {
                continue;
            };
            let outcome = Outcome::ALL.iter().find(|(_, word)| *word == outcome);
            let (outcome, _) = outcome.context("an unknown outcome")?;
            known.insert((content.into(), name.into()), (*outcome, tests.into()));
        }
        let file = OpenOptions::new().create(true).append(true).open(file)?;
        Ok(Self {
            known,
            contents,
            file,
        })
    }

    fn of(&self, change: &Change) -> Option<&(Outcome, String)> {
        self.known
            .get(&(self.contents[&change.file].clone(), change.name.clone()))
    }

    /// Whether there is nothing to be learned: with other tests a survivor may fall.
    pub fn is_known(&self, change: &Change, tests: &str) -> bool {
        match self.of(change) {
            Some((Outcome::Caught | Outcome::Unviable, _)) => true,
            Some((Outcome::Missed | Outcome::Unwoven, seen)) => seen == tests,
            None => false,
        }
    }

    /// Adds one.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn add(&mut self, change: &Change, outcome: Outcome, tests: &str) -> Result<()> {
        let content = self.contents[&change.file].clone();
        // In one piece: others may write to the file as well.
        let line = format!("{}\t{content}\t{tests}\t{}\n", outcome.name(), change.name);
        self.file.write_all(line.as_bytes())?;
        self.known
            .insert((content, change.name.clone()), (outcome, tests.to_owned()));
        Ok(())
    }
}

/// The key of a file: its text up to its tests.
fn content(text: &str) -> String {
    let text = text
        .split_once("\n#[cfg(test)]\n")
        .map_or(text, |(text, _)| text);
    Sha256::digest(text)
        .iter()
        .take(5)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Prints the survivors, the score and its interval.
pub fn print_score(results: &Results, changes: &[Change], tests: &str) {
    let mut count = HashMap::new();
    let mut older = 0;
    for change in changes {
        let Some((outcome, seen)) = results.of(change) else {
            continue;
        };
        *count.entry(*outcome).or_insert(0) += 1;
        if *outcome == Outcome::Missed {
            println!("survived: {}", change.name);
            older += usize::from(seen != tests);
        }
    }
    let [caught, missed, unviable, unwoven] =
        Outcome::ALL.map(|(outcome, _)| count.get(&outcome).copied().unwrap_or(0));
    let known = caught + missed + unviable + unwoven;
    println!(
        "{known} of the {} changes of these sources were tried:",
        changes.len()
    );
    println!("{caught} caught, {missed} survived, {older} of them earlier tests");
    println!("{unviable} do not compile, {unwoven} only alone, if at all");
    let n = f64::from(caught + missed);
    if n > 0.0 {
        // The interval of Wilson, 95 %.
        let (z, p) = (1.96, f64::from(caught) / n);
        let d = 1.0 + z * z / n;
        let middle = (p + z * z / (2.0 * n)) / d;
        let half = z / d * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        println!(
            "score {:.1} % ({:.1} to {:.1} of all, if these are a sample)",
            100.0 * p,
            100.0 * (middle - half),
            100.0 * (middle + half)
        );
    }
}
