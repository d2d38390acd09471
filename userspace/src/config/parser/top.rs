//! The outermost level: `global`, `common`, `resource`, `skip` and `include`.

use std::path::Path;

use drbd_format::options::Section;

use super::cursor::Cursor;
use super::options::Into;
use crate::config::include;
use crate::config::lexer;
use crate::config::model::{Config, Name, Resource, Running, Sections};
use crate::config::source::{Diagnostic, Place};

/// What the outermost level accepts.
const TOP: &str = "global | common | resource | skip | include";
/// What a resource accepts, in the words that scripts know.
const IN_RESOURCE: &str = "protocol | on | disk | net | syncer | startup | handlers | ignore-on | \
                           stacked-on-top-of";
/// Deepest nesting of includes.
const INCLUDE_DEPTH_MAX: usize = 32;

/// Whether sections and statements may be repeated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Uniqueness {
    /// A second one is an error.
    Checked,
    /// Anything goes: the text was written by a program.
    Unchecked,
}

/// Reads one file and all that it includes into `config`.
///
/// `name` is the name for messages, `path` the absolute path. Returns the warnings. The texts stay
/// in `config.sources` even after an error, so that it can be shown.
///
/// # Errors
///
/// The first mistake.
pub(crate) fn parse(
    config: &mut Config,
    name: &str,
    path: &Path,
    text: String,
) -> Result<Vec<Diagnostic>, Diagnostic> {
    parse_after(config, &mut Claims::default(), name, path, text)
}

/// Like [`parse`], for one of several files: nothing may occur again that `claims` of them has.
///
/// # Errors
///
/// The first mistake.
pub(crate) fn parse_after(
    config: &mut Config,
    claims: &mut Claims,
    name: &str,
    path: &Path,
    text: String,
) -> Result<Vec<Diagnostic>, Diagnostic> {
    let mut parser = Parser::new(config, Uniqueness::Checked);
    std::mem::swap(&mut parser.claims, claims);
    let read = parser.file(name, path, text, 0);
    std::mem::swap(&mut parser.claims, claims);
    read.map(|()| parser.warnings)
}

/// Reads what `drbdsetup show` printed about `resource`.
///
/// # Errors
///
/// The first thing that the grammar does not know.
pub(crate) fn parse_running(
    config: &mut Config,
    resource: &str,
    text: String,
) -> Result<(), Diagnostic> {
    let mut parser = Parser::new(config, Uniqueness::Unchecked);
    let name = format!("drbdsetup show {resource}");
    parser.file(&name, Path::new(&name), text, 0)
}

/// Reads files into a configuration.
pub(super) struct Parser<'c> {
    pub(super) config: &'c mut Config,
    pub(super) warnings: Vec<Diagnostic>,
    uniqueness: Uniqueness,
    claims: Claims,
    in_common: bool,
}

/// What occurred and may not occur again.
#[derive(Default)]
pub(crate) struct Claims(Vec<Claim>);

/// Something that may occur once.
struct Claim {
    kind: &'static str,
    key: String,
    place: Place,
}

impl<'c> Parser<'c> {
    fn new(config: &'c mut Config, uniqueness: Uniqueness) -> Self {
        Self {
            config,
            warnings: Vec::new(),
            uniqueness,
            claims: Claims::default(),
            in_common: false,
        }
    }

    /// Complains if a `kind` with this `key` occurred before.
    pub(super) fn claim(
        &mut self,
        kind: &'static str,
        key: String,
        place: Place,
    ) -> Result<(), Diagnostic> {
        if self.uniqueness == Uniqueness::Unchecked {
            return Ok(());
        }
        let is_same = |claim: &&Claim| claim.kind == kind && claim.key == key;
        if let Some(first) = self.claims.0.iter().find(is_same) {
            return Err(conflict(kind, &key, place, first.place));
        }
        self.claims.0.push(Claim { kind, key, place });
        Ok(())
    }

    /// Reports whether the text was written by `drbdsetup show`.
    pub(super) fn is_running(&self) -> bool {
        self.uniqueness == Uniqueness::Unchecked
    }

    fn file(
        &mut self,
        name: &str,
        path: &Path,
        text: String,
        depth: usize,
    ) -> Result<(), Diagnostic> {
        let tokens = lexer::tokens(&text);
        let len = text.len();
        let file = self
            .config
            .sources
            .add(name, path, include::real(path), text);
        let mut cursor = Cursor::new(file, tokens, len);
        cursor.take_any_bytes(self.is_running());
        while !cursor.at_end() {
            let place = cursor.here();
            match cursor.peek_word() {
                Some("global") => self.global(&mut cursor)?,
                Some("common") => self.common(&mut cursor)?,
                Some("resource") => self.resource(&mut cursor)?,
                Some("skip") => skip(&mut cursor)?,
                Some("include") => {
                    cursor.take();
                    let pattern = cursor.name()?;
                    cursor.expect(';')?;
                    self.include(name, path, place, &pattern, depth)?;
                }
                _ => return Err(cursor.unexpected(TOP)),
            }
        }
        Ok(())
    }

    fn include(
        &mut self,
        name: &str,
        path: &Path,
        place: Place,
        pattern: &Name,
        depth: usize,
    ) -> Result<(), Diagnostic> {
        let failed = |file: &str, remark: &str| {
            let sentence = format!("Failed to open include file '{file}'.");
            Diagnostic::error(place.to(pattern.place), sentence, remark)
        };
        if depth == INCLUDE_DEPTH_MAX {
            return Err(failed(&pattern.text, "too many files include each other"));
        }
        for found in include::expand(path, &pattern.text) {
            if self.config.sources.contains(&include::real(&found.path)) {
                continue;
            }
            let text =
                include::read(&found.path).map_err(|e| failed(&found.name, &e.to_string()))?;
            let shown = include::name_beside(name, &found.name);
            self.file(&shown, &found.path, text, depth + 1)?;
        }
        Ok(())
    }

    fn global(&mut self, cursor: &mut Cursor) -> Result<(), Diagnostic> {
        let place = cursor.here();
        cursor.take();
        self.claim("global section", "global".into(), place)?;
        if !self.config.resources.is_empty() && !self.is_running() {
            let sentence =
                "You should put the global {} section\n\tin front of any resource {} section";
            let late = Diagnostic::error(place, sentence.into(), "stands behind a resource");
            self.warnings.push(late.warning());
        }
        cursor.expect('{')?;
        while !cursor.take_mark('}') {
            let setting = self.global_option(cursor)?;
            self.config.global.settings.0.push(setting);
        }
        Ok(())
    }

    fn common(&mut self, cursor: &mut Cursor) -> Result<(), Diagnostic> {
        let place = cursor.here();
        cursor.take();
        self.claim("resource section", "common".into(), place)?;
        let name = Name {
            text: "common".into(),
            place,
        };
        self.in_common = true;
        let resource = self.body(cursor, name, place)?;
        self.in_common = false;
        if let Some(volume) = resource.volumes.first() {
            let sentence = "volumes in the common section have no effect";
            let ignored = Diagnostic::error(volume.place, sentence.into(), "ignored");
            self.warnings.push(ignored.warning());
        }
        self.config.common = Some(resource.sections);
        Ok(())
    }

    fn resource(&mut self, cursor: &mut Cursor) -> Result<(), Diagnostic> {
        let place = cursor.here();
        cursor.take();
        let name = cursor.name()?;
        if name.text.is_empty() {
            let sentence = "Resource name is empty.";
            return Err(Diagnostic::error(
                name.place,
                sentence.into(),
                "must not be empty",
            ));
        }
        if name.text.chars().any(char::is_control) {
            let sentence = "Resource name contains control characters.";
            return Err(Diagnostic::error(
                name.place,
                sentence.into(),
                "not allowed here",
            ));
        }
        self.claim("resource section", name.text.clone(), place)?;
        let mut resource = self.body(cursor, name, place)?;
        resource.inherit_volumes();
        self.config.resources.push(resource);
        Ok(())
    }

    /// Reads the braces of a resource, or of `common`, and what is between them.
    fn body(
        &mut self,
        cursor: &mut Cursor,
        name: Name,
        place: Place,
    ) -> Result<Resource, Diagnostic> {
        let mut resource = Resource {
            name,
            place,
            hosts: Vec::new(),
            volumes: Vec::new(),
            sections: Sections::default(),
            running: Running::default(),
        };
        cursor.expect('{')?;
        while !cursor.take_mark('}') {
            self.item(cursor, &mut resource)?;
        }
        Ok(resource)
    }

    fn item(&mut self, cursor: &mut Cursor, resource: &mut Resource) -> Result<(), Diagnostic> {
        let place = cursor.here();
        let name = resource.name.text.clone();
        let word = cursor.peek_word().unwrap_or_default().to_owned();
        if self.volume_statement(cursor, &name, &mut resource.volumes)? {
            return Ok(());
        }
        match word.as_str() {
            "on" | "floating" | "stacked-on-top-of" if self.in_common => {
                let sentence = "in the common section, there are no host sections allowed.";
                return Err(Diagnostic::error(
                    place,
                    sentence.into(),
                    "belongs into a resource",
                ));
            }
            "protocol" => return self.legacy_protocol(cursor, resource),
            "on" | "floating" | "stacked-on-top-of" => return self.host(cursor, resource),
            "_this_host" | "_remote_host" if self.is_running() => {
                return self.pseudo_host(cursor, resource);
            }
            "ignore-on" => return self.ignore_on(cursor, &name),
            _ => {}
        }
        let kind = match word.as_str() {
            "disk" => "disk section",
            "net" => "net section",
            "syncer" => "syncer section",
            "startup" => "startup section",
            "handlers" => "handlers section",
            "options" => "options section",
            "proxy" => "proxy section",
            _ if cursor.at_end() => return Err(cursor.unexpected("}")),
            _ => return Err(self.unknown_item(cursor)),
        };
        cursor.take();
        self.claim(kind, format!("{name}:{word}"), place)?;
        let sections = &mut resource.sections;
        match word.as_str() {
            "disk" => self.options(cursor, Section::Disk, &mut sections.disk),
            "net" => self.options(cursor, Section::Net, &mut sections.net),
            "handlers" => self.options(cursor, Section::Handlers, &mut sections.handlers),
            "options" => self.options(cursor, Section::Options, &mut sections.options),
            "startup" => self.startup(cursor, &mut sections.startup),
            "syncer" => self.syncer(cursor, sections),
            _ => self.proxy_options(cursor, &mut sections.proxy),
        }
    }

    fn unknown_item(&self, cursor: &Cursor) -> Diagnostic {
        let error = cursor.unexpected(IN_RESOURCE);
        let known = [
            "protocol", "on", "disk", "net", "syncer", "startup", "handlers", "options",
        ];
        let more = [
            "device",
            "meta-disk",
            "volume",
            "floating",
            "stacked-on-top-of",
            "proxy",
        ];
        let words = known.iter().chain(&more).copied();
        match cursor
            .peek_word()
            .and_then(|word| super::options::closest(word, words))
        {
            Some(close) => error.hint(format!("did you mean '{close}'?")),
            None => error,
        }
    }

    fn legacy_protocol(
        &mut self,
        cursor: &mut Cursor,
        resource: &mut Resource,
    ) -> Result<(), Diagnostic> {
        let place = cursor.here();
        cursor.take();
        self.claim(
            "protocol statement",
            format!("{}: protocol", resource.name.text),
            place,
        )?;
        self.option_value(
            cursor,
            "protocol",
            place,
            Into::legacy(&mut resource.sections.net),
        )
    }

    fn ignore_on(&mut self, cursor: &mut Cursor, resource: &str) -> Result<(), Diagnostic> {
        let place = cursor.here();
        cursor.take();
        let host = cursor.name()?;
        cursor.expect(';')?;
        let sentence =
            format!("in resource {resource}, WARN: The 'ignore-on' keyword is deprecated.");
        let old = Diagnostic::error(place.to(host.place), sentence, "has no effect");
        self.warnings.push(old.warning());
        Ok(())
    }
}

/// Says that two things exclude each other.
pub(crate) fn conflict(kind: &str, key: &str, place: Place, first: Place) -> Diagnostic {
    let sentence = format!("conflicting use of {kind} '{key}' ...");
    Diagnostic::error(place, sentence, "used again here")
        .related(first, format!("{kind} '{key}' first used here."))
}

/// Skips the `skip` keyword, an optional text and a block with balanced braces.
fn skip(cursor: &mut Cursor) -> Result<(), Diagnostic> {
    let start = cursor.here();
    cursor.take();
    if !cursor.at('{') {
        match cursor.peek_word() {
            Some("resource" | "common" | "global") => {
                return Err(cursor.unexpected("[ some_text ] {"));
            }
            _ => cursor.name()?,
        };
    }
    cursor.expect('{')?;
    let mut depth = 1_usize;
    while depth > 0 {
        if cursor.at('{') {
            depth += 1;
        } else if cursor.at('}') {
            depth -= 1;
        }
        if cursor.take().is_none() {
            let sentence = "reached eof while parsing this skip block.";
            return Err(Diagnostic::error(start, sentence.into(), "never closed"));
        }
    }
    Ok(())
}
