//! Finds out which changes compile beside all others, and makes the programs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, ensure, Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::list::{by_file, Change};
use crate::weave::{weave, Woven};

/// The programs, and which changes are not in them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Made {
    /// The programs.
    pub programs: Vec<Program>,
    /// Their own text does not compile.
    pub unviable: BTreeSet<u32>,
    /// They may compile alone.
    pub unwoven: BTreeSet<u32>,
}

impl Made {
    fn all(&self) -> BTreeSet<u32> {
        self.unviable.union(&self.unwoven).copied().collect()
    }
}

/// The packages whose programs are made, and where the switch is.
const PACKAGES: [&str; 3] = ["drbd_format", "drbd_core", "drbd-mutation"];
const FORMAT: &str = "drivers/block/drbd/format";
const ROOT: &str = "drivers/block/drbd/format/drbd_format.rs";

/// A program with tests.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// Where its tests expect to be run.
    pub folder: PathBuf,
}

/// Weaves the changes of the sources into the copy and makes its programs.
///
/// # Errors
///
/// If the copy does not compile for a reason that is none of the changes.
pub fn compile(sources: &Path, copy: &Path, changes: &[Change]) -> Result<Made> {
    let mut made = Made::default();
    for round in 1.. {
        let files = weave_all(sources, copy, changes, &made.all())?;
        let errors = cargo(copy, &["check", "--tests", "--keep-going"])?
            .into_iter()
            .filter(|m| m["reason"] == "compiler-message" && m["message"]["level"] == "error");
        let before = made.all().len();
        let mut blameless = Vec::new();
        let mut found = 0;
        for error in errors {
            found += 1;
            if !blame(&error["message"], &files, &mut made) {
                blameless.push(error["message"]["rendered"].to_string());
            }
        }
        eprintln!(
            "round {round}: {found} errors, {} changes left out",
            made.all().len()
        );
        if found == 0 {
            break;
        }
        ensure!(
            made.all().len() > before,
            "does not compile: {}",
            blameless.join("\n")
        );
    }
    let woven: BTreeSet<u32> = weave_all(sources, copy, changes, &made.all())?
        .values()
        .flat_map(|woven| woven.ids())
        .collect();
    let rest = changes
        .iter()
        .map(|c| c.id)
        .filter(|id| !woven.contains(id));
    made.unwoven
        .extend(rest.filter(|id| !made.unviable.contains(id)));
    made.programs = cargo(copy, &["test", "--no-run"])?
        .iter()
        .filter_map(program)
        .collect();
    Ok(made)
}

fn weave_all(
    sources: &Path,
    copy: &Path,
    changes: &[Change],
    left_out: &BTreeSet<u32>,
) -> Result<BTreeMap<String, Woven>> {
    let mut files = BTreeMap::new();
    for (file, changes) in by_file(changes) {
        let source = std::fs::read_to_string(sources.join(file))?;
        let path = if file.starts_with(FORMAT) {
            "crate::switch"
        } else {
            "drbd_format::switch"
        };
        let mut woven = weave(&source, &changes, left_out, path).context(file.to_owned())?;
        if file == ROOT {
            woven.text = with_switch(&woven.text);
        }
        write_if_new(&copy.join(file), &woven.text)?;
        files.insert(file.to_owned(), woven);
    }
    if !files.contains_key(ROOT) {
        let root = std::fs::read_to_string(sources.join(ROOT))?;
        write_if_new(&copy.join(ROOT), &with_switch(&root))?;
    }
    write_if_new(
        &copy.join(FORMAT).join("switch.rs"),
        include_str!("switch.rs.in"),
    )?;
    Ok(files)
}

/// The root of the format with the module that the changes ask.
fn with_switch(root: &str) -> String {
    format!(
        "#![feature(core_intrinsics, const_eval_select)]\n{root}\n#[allow(missing_docs)]\n\
         pub mod switch;\n"
    )
}

fn write_if_new(path: &Path, text: &str) -> Result<()> {
    if std::fs::read_to_string(path).ok().as_deref() != Some(text) {
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Runs cargo in the copy.
fn cargo(copy: &Path, arguments: &[&str]) -> Result<Vec<Value>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(arguments)
        .args(["--profile", "mutants", "--message-format=json", "--quiet"])
        .args(PACKAGES.iter().flat_map(|package| ["-p", package]))
        .args(["--lib", "--test=directed", "--test=scenes", "--test=seeds"])
        .current_dir(copy)
        // Only there: `const_eval_select`, with which constants stay what they are.
        .env("RUSTC_BOOTSTRAP", "drbd_format")
        .env("RUSTFLAGS", "--cap-lints=allow")
        .output()?;
    let messages = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<Vec<Value>, _>>()?;
    if !output.status.success() && (arguments[0] == "test" || messages.is_empty()) {
        bail!(
            "cargo {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(messages)
}

fn program(message: &Value) -> Option<Program> {
    let path = message["executable"].as_str()?;
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
    Some(Program {
        path: path.into(),
        folder: folder.into(),
    })
}

/// Leaves out the changes that an error is about, if there are any.
fn blame(error: &Value, files: &BTreeMap<String, Woven>, made: &mut Made) -> bool {
    let exhaustive = error["code"]["code"] == "E0004";
    let spans = error["spans"].as_array().cloned().unwrap_or_default();
    let before = made.all().len();
    for primary in [true, false] {
        for span in spans.iter().filter(|span| span["is_primary"] == primary) {
            let Some(woven) = span["file_name"].as_str().and_then(|name| files.get(name)) else {
                continue;
            };
            let byte = |end: &str| span[end].as_u64().unwrap_or(0) as usize;
            let at = byte("byte_start")..byte("byte_end");
            if let Some(id) = woven.piece(&at).filter(|_| !exhaustive) {
                made.unviable.insert(id);
            } else if let Some(node) = woven.innermost(&at, exhaustive) {
                made.unwoven.extend(&node.ids);
            }
        }
        if made.all().len() > before {
            return true;
        }
    }
    false
}

impl Woven {
    fn ids(&self) -> Vec<u32> {
        let pieces = self.pieces.iter().map(|(_, id)| *id);
        pieces
            .chain(self.nodes.iter().flat_map(|node| node.ids.clone()))
            .collect()
    }

    /// The change whose own text has this range in it.
    fn piece(&self, at: &Range<usize>) -> Option<u32> {
        let has = |range: &Range<usize>| range.start <= at.start && at.end <= range.end;
        self.pieces
            .iter()
            .find(|(range, _)| has(range))
            .map(|(_, id)| *id)
    }

    fn innermost(&self, at: &Range<usize>, arms: bool) -> Option<&crate::weave::Node> {
        let has = |range: &Range<usize>| range.start <= at.start && at.end <= range.end;
        self.nodes
            .iter()
            .filter(|node| has(&node.range) && !node.ids.is_empty() && (!arms || node.arms))
            .min_by_key(|node| node.range.len())
    }
}
