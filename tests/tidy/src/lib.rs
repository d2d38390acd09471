//! Helpers of the tests about the sources: finding files, telling code from comments, measuring.
//!
//! The tests themselves are in `tests/`. Nothing here parses Rust; a scanner that knows comments,
//! strings and braces is enough for what is asked, and it also reads the files of the module that
//! cargo never compiles.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub mod scan;

/// One source file.
pub struct Source {
    /// Path below the top of the checkout, with `/`.
    pub path: String,
    /// The text as it stands.
    pub text: String,
    /// The same lines with comments, strings and characters blanked.
    pub code: Vec<String>,
}

impl Source {
    /// Makes a source of a text, as if it had been read from `path`.
    pub fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code: scan::code_lines(text),
        }
    }

    /// Whether the file belongs to the layer that wraps C.
    pub fn is_kabi(&self) -> bool {
        self.path.starts_with("drivers/block/drbd/kabi/")
    }

    /// Names the lines whose code contains `word` as a whole word.
    pub fn lines_with(&self, word: &str) -> Vec<String> {
        let hits = self
            .code
            .iter()
            .enumerate()
            .filter(|(_, line)| scan::has_word(line, word));
        hits.map(|(index, _)| format!("{}:{}", self.path, index + 1))
            .collect()
    }
}

/// The top folder of the checkout.
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every Rust file of the project, read once.
///
/// # Panics
///
/// If a folder or file cannot be read.
pub fn rust_sources() -> &'static [Source] {
    static SOURCES: OnceLock<Vec<Source>> = OnceLock::new();
    SOURCES.get_or_init(read_rust_sources)
}

fn read_rust_sources() -> Vec<Source> {
    let mut files = Vec::new();
    for folder in ["drivers", "userspace", "tests"] {
        collect(&top().join(folder), "rs", &mut files);
    }
    files.sort();
    assert!(
        !files.is_empty(),
        "no sources found below {}",
        top().display()
    );
    files.iter().map(|file| read(file)).collect()
}

/// Files below `folder` whose name ends in `.extension`, without build products.
///
/// # Panics
///
/// If a folder cannot be read.
pub fn collect(folder: &Path, extension: &str, into: &mut Vec<PathBuf>) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => panic!("cannot read {}: {error}", folder.display()),
    };
    for entry in entries {
        let path = entry.expect("read a folder").path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && !path.is_symlink() {
            if name != "target" && name != "out" && !name.starts_with('.') {
                collect(&path, extension, into);
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            into.push(path);
        }
    }
}

/// Reads one file of the checkout.
///
/// # Panics
///
/// If it is not UTF-8 or cannot be read.
pub fn read(file: &Path) -> Source {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => panic!("cannot read {}: {error}", file.display()),
    };
    let path = file.strip_prefix(top()).unwrap_or(file);
    Source::new(&path.to_string_lossy(), &text)
}
