//! The texts a configuration was read from, places in them, and sentences about them.
//!
//! Every value of the configuration keeps the [`Place`] it came from, so that each complaint can
//! name `FILE:LINE` the way administrators and scripts expect and show the line itself below.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// A range of bytes in one of the [`Sources`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Place {
    file: usize,
    start: usize,
    end: usize,
}

impl Place {
    /// Names the bytes `range` of the source number `file`.
    pub(crate) fn new(file: usize, range: Range<usize>) -> Self {
        Self {
            file,
            start: range.start,
            end: range.end,
        }
    }

    /// Returns the place from the start of `self` to the end of `last`.
    pub(crate) fn to(self, last: Self) -> Self {
        Self {
            end: last.end.max(self.end),
            ..self
        }
    }
}

/// One text and the names it goes by.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The name as the user wrote it, for messages.
    pub(crate) name: String,
    /// The absolute path, for everything that outlives the current directory.
    pub(crate) path: PathBuf,
    /// The path that all links to the file have in common.
    pub(crate) real: PathBuf,
    /// The whole text.
    pub(crate) text: String,
}

/// All texts of one configuration, in the order in which they were opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources(Vec<Source>);

impl Sources {
    /// Adds a text and returns its number.
    pub(crate) fn add(&mut self, name: &str, path: &Path, real: PathBuf, text: String) -> usize {
        self.0.push(Source {
            name: name.to_owned(),
            path: path.to_owned(),
            real,
            text,
        });
        self.0.len() - 1
    }

    /// Returns the text number `file`.
    pub(crate) fn get(&self, file: usize) -> Option<&Source> {
        self.0.get(file)
    }

    /// Returns the first text, the one the user named.
    pub(crate) fn main(&self) -> Option<&Source> {
        self.0.first()
    }

    /// Reports whether the file with this real path was read already.
    pub(crate) fn contains(&self, real: &Path) -> bool {
        self.0.iter().any(|source| source.real == real)
    }

    /// Returns the line number of `place`, counted from 1.
    pub(crate) fn line(&self, place: Place) -> usize {
        let text = self
            .get(place.file)
            .map_or("", |source| source.text.as_str());
        let before = text.get(..place.start).unwrap_or(text);
        before.bytes().filter(|&byte| byte == b'\n').count() + 1
    }

    /// Returns `FILE:LINE` with the name the user used.
    pub(crate) fn at(&self, place: Place) -> String {
        let name = self
            .get(place.file)
            .map_or("", |source| source.name.as_str());
        format!("{name}:{}", self.line(place))
    }

    /// Returns `FILE:LINE` with the absolute path.
    pub(crate) fn at_path(&self, place: Place) -> String {
        match self.get(place.file) {
            Some(source) => format!("{}:{}", source.path.display(), self.line(place)),
            None => format!(":{}", self.line(place)),
        }
    }
}

/// How bad a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Severity {
    /// The configuration cannot be used.
    Error,
    /// The configuration is used, the user should know.
    Warning,
}

/// A sentence about the configuration, with the places it is about.
#[derive(Clone, Debug)]
pub(crate) struct Diagnostic {
    /// Whether the configuration can be used in spite of it.
    pub(crate) severity: Severity,
    /// The text after `FILE:LINE: `; may have several lines.
    pub(crate) sentence: String,
    /// What the sentence is about, and the remark under the marked text.
    pub(crate) place: Option<(Place, String)>,
    /// Another place, with the sentence about it.
    pub(crate) related: Option<Box<(Place, String)>>,
    /// A suggestion, printed last.
    pub(crate) hint: Option<String>,
}

impl Diagnostic {
    /// Makes an error about `place`; `remark` stands under the marked text.
    pub(crate) fn error(place: Place, sentence: String, remark: &str) -> Self {
        Self {
            severity: Severity::Error,
            sentence,
            place: Some((place, remark.to_owned())),
            related: None,
            hint: None,
        }
    }

    /// Makes an error that is about no place in particular.
    pub(crate) fn bare(sentence: String) -> Self {
        Self {
            severity: Severity::Error,
            sentence,
            place: None,
            related: None,
            hint: None,
        }
    }

    /// Turns the error into a warning.
    pub(crate) fn warning(self) -> Self {
        Self {
            severity: Severity::Warning,
            ..self
        }
    }

    /// Adds a second place with a sentence of its own.
    pub(crate) fn related(self, place: Place, sentence: String) -> Self {
        Self {
            related: Some(Box::new((place, sentence))),
            ..self
        }
    }

    /// Adds a suggestion.
    pub(crate) fn hint(self, hint: String) -> Self {
        Self {
            hint: Some(hint),
            ..self
        }
    }

    /// Returns the message as it is printed, ending in a newline.
    ///
    /// The first lines have the form scripts know (`reference/userland.md 1.9`); the excerpt and
    /// the hint below them are additions.
    pub(crate) fn render(&self, sources: &Sources) -> String {
        let mut text = String::new();
        match &self.place {
            Some((place, _)) => {
                let _ = writeln!(text, "{}: {}", sources.at(*place), self.sentence);
            }
            None => {
                let _ = writeln!(text, "{}", self.sentence);
            }
        }
        if let Some((place, sentence)) = self.related.as_deref() {
            let _ = writeln!(text, "{}: {sentence}", sources.at(*place));
        }
        if let Some((place, remark)) = &self.place {
            text.push_str(&excerpt(sources, *place, remark));
        }
        if let Some((place, _)) = self.related.as_deref() {
            text.push_str(&excerpt(sources, *place, "first used here"));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "hint: {hint}");
        }
        text
    }
}

/// Shows the line of `place` with the text in question marked.
fn excerpt(sources: &Sources, place: Place, remark: &str) -> String {
    let Some(source) = sources.get(place.file) else {
        return String::new();
    };
    let text = source.text.as_str();
    let Some(range) = first_line_of(text, place.start..place.end) else {
        return String::new();
    };
    let line_start = text
        .get(..range.start)
        .and_then(|before| before.rfind('\n'))
        .map_or(0, |at| at + 1);
    let line_end = text.get(range.start..).and_then(|rest| rest.find('\n'));
    let line_end = line_end.map_or(text.len(), |at| range.start + at);
    let line = text
        .get(line_start..line_end)
        .unwrap_or("")
        .trim_end_matches('\r')
        .to_owned();
    let marked = range.start - line_start..(range.end - line_start).min(line.len());
    if marked.start > marked.end {
        return String::new();
    }
    let annotation = AnnotationKind::Primary
        .span(marked)
        .label(remark.to_owned());
    let snippet = Snippet::source(line)
        .line_start(sources.line(place))
        .annotation(annotation);
    let group = Group::with_level(Level::ERROR).element(snippet);
    let shown = Renderer::plain()
        .decor_style(DecorStyle::Ascii)
        .render(&[group]);
    let mut result = String::new();
    for row in shown.lines() {
        let _ = writeln!(result, "{}", row.trim_end());
    }
    result
}

/// Cuts `range` at the end of its first line, and makes sure that it lies inside `text`.
fn first_line_of(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let start = range.start.min(text.len());
    let marked = text.get(start..range.end.clamp(start, text.len()))?;
    let len = marked.find(['\n', '\r']).unwrap_or(marked.len());
    Some(start..start + len)
}

/// Why a configuration cannot be used, and the exit code that says so.
#[derive(Clone, Debug)]
pub(crate) struct Invalid {
    /// The complaints, in the order of their places.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Exit code of the command (`reference/userland.md 1.9`).
    pub(crate) code: u8,
}

impl Invalid {
    /// Exit code for a configuration with errors in it.
    pub(crate) const CONFIGURATION: u8 = 10;
}

impl From<Diagnostic> for Invalid {
    fn from(diagnostic: Diagnostic) -> Self {
        Self {
            diagnostics: vec![diagnostic],
            code: Self::CONFIGURATION,
        }
    }
}
