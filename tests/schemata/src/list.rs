//! The changes that cargo-mutants lists.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{ensure, Context, Result};
use serde::Deserialize;

/// One change, by the place where it is made.
#[derive(Clone, Debug, Deserialize)]
pub struct Change {
    /// Its file, from the root of the sources.
    pub file: String,
    /// The function it is in, if it is in one.
    pub function: Option<Function>,
    /// What kind of change it is.
    pub genre: Genre,
    /// The text that takes the place of the old one.
    pub replacement: String,
    /// The old text.
    pub span: Span,
    /// Its number in the list.
    #[serde(skip)]
    pub id: u32,
    /// How cargo-mutants names it.
    #[serde(skip)]
    pub name: String,
}

/// A function that is changed.
#[derive(Clone, Debug, Deserialize)]
pub struct Function {
    /// What it returns, with the arrow.
    pub return_type: String,
}

/// Kinds of changes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Genre {
    /// Another operator.
    BinaryOperator,
    /// A function that only returns a value.
    FnValue,
    /// An arm that is not there.
    MatchArm,
    /// An arm whose guard is constant.
    MatchArmGuard,
    /// A field that its base gives.
    StructField,
    /// An operator that is not there.
    UnaryOperator,
}

/// A range of text; its end is behind it.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Span {
    /// The first character.
    pub start: Position,
    /// The first character behind it.
    pub end: Position,
}

/// A character; both numbers begin at one.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Position {
    /// Its line.
    pub line: usize,
    /// Its column.
    pub column: usize,
}

impl Change {
    /// Whether it may be made at run time: constants are the compiler's, and what is returned as
    /// `impl` has one type.
    pub fn can_be_switched(&self) -> bool {
        let opaque = |function: &Function| function.return_type.contains("impl ");
        self.function
            .as_ref()
            .is_some_and(|f| self.genre != Genre::FnValue || !opaque(f))
    }
}

/// Reads `mutants.json` and `mutants.txt` in a folder: the same list, in the same order.
///
/// # Errors
///
/// If the two do not agree.
pub fn read(folder: &Path) -> Result<Vec<Change>> {
    let json = std::fs::read(folder.join("mutants.json")).context("mutants.json")?;
    let names = std::fs::read_to_string(folder.join("mutants.txt")).context("mutants.txt")?;
    let mut changes: Vec<Change> = serde_json::from_slice(&json)?;
    ensure!(
        changes.len() == names.lines().count(),
        "the two lists differ in length"
    );
    for (id, (change, name)) in (0..).zip(changes.iter_mut().zip(names.lines())) {
        let place = format!("{}:{}:", change.file, change.span.start.line);
        ensure!(
            name.starts_with(&place),
            "the two lists differ: {name}, {place}"
        );
        change.id = id;
        change.name = name.to_owned();
    }
    Ok(changes)
}

/// The changes of each file.
pub fn by_file(changes: &[Change]) -> BTreeMap<&str, Vec<&Change>> {
    let mut files = BTreeMap::<&str, Vec<&Change>>::new();
    for change in changes {
        files.entry(&change.file).or_default().push(change);
    }
    files
}
