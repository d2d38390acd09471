//! The option sections.

use drbd_format::options::{
    find_in_syncer, Change, Domain, OptionSpec, ParseError, Section, IGNORED_DISK_OPTIONS,
};

use super::cursor::Cursor;
use super::top::Parser;
use crate::config::model::{refusal, ProxyOptions, Sections, Setting, Settings, Startup};
use crate::config::source::{Diagnostic, Place};

/// Options of the replication proxy.
const PROXY_OPTIONS: &[&str] = &[
    "memlimit",
    "read-loops",
    "compression",
    "bwlimit",
    "sndbuf-size",
    "rcvbuf-size",
    "ping-timeout",
];

/// The list that a setting is added to.
pub(super) struct Into<'s> {
    settings: &'s mut Settings,
    section: Section,
    is_legacy: bool,
}

impl<'s> Into<'s> {
    fn section(settings: &'s mut Settings, section: Section) -> Self {
        Self {
            settings,
            section,
            is_legacy: false,
        }
    }

    /// The older `protocol` statement outside of `net`.
    pub(super) fn legacy(settings: &'s mut Settings) -> Self {
        Self {
            settings,
            section: Section::Net,
            is_legacy: true,
        }
    }
}

/// An option as its name was written.
struct Named {
    spec: &'static OptionSpec,
    is_negated: bool,
}

/// Finds the option of `section` that the configuration calls `name`.
fn find(section: Section, name: &str) -> Option<Named> {
    let positive = |name: &str| {
        section
            .find(name)
            .filter(|spec| spec.change != Change::Connect)
    };
    if let Some(spec) = positive(name) {
        return Some(Named {
            spec,
            is_negated: false,
        });
    }
    let spec = positive(name.strip_prefix("no-")?).filter(|spec| spec.negatable)?;
    Some(Named {
        spec,
        is_negated: true,
    })
}

/// Returns the word that was probably meant by `word`.
pub(super) fn closest<'w>(word: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    words
        .map(|known| (distance(word, known), known))
        .filter(|&(distance, known)| distance <= 2 && distance < known.len() / 2)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, known)| known)
}

/// Counts the letters to insert, remove or replace to get from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut above_left = i;
        let mut previous = i + 1;
        for (right, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let replace = above_left + usize::from(left != *right);
            above_left = *cell;
            previous = replace.min(*cell + 1).min(previous + 1);
            *cell = previous;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

impl Parser<'_> {
    /// Reads a section of options with its braces.
    pub(super) fn options(
        &mut self,
        cursor: &mut Cursor,
        section: Section,
        settings: &mut Settings,
    ) -> Result<(), Diagnostic> {
        cursor.expect('{')?;
        while !cursor.take_mark('}') {
            let place = cursor.here();
            let name = cursor.peek_word().unwrap_or_default().to_owned();
            if section == Section::Disk && IGNORED_DISK_OPTIONS.contains(&name.as_str()) {
                self.ignored(cursor)?;
                continue;
            }
            let known = self.is_running() && section.find(&name).is_some();
            if !known && find(section, &name).is_none() {
                return Err(unknown(cursor, "an option keyword", section));
            }
            cursor.take();
            // A command may say things in any encoding, and is no reason not to start.
            let is_command = section == Section::Handlers;
            if let Some(foreign) = cursor.foreign_bytes().filter(|_| is_command) {
                self.warnings.push(foreign.warning());
            }
            cursor.take_any_bytes(is_command || self.is_running());
            let read = self.option_value(cursor, &name, place, Into::section(settings, section));
            cursor.take_any_bytes(self.is_running());
            read?;
        }
        Ok(())
    }

    /// Reads an option that older versions knew.
    fn ignored(&mut self, cursor: &mut Cursor) -> Result<(), Diagnostic> {
        let place = cursor.here();
        let name = cursor.take().map(|token| token.text).unwrap_or_default();
        while !cursor.at(';') && !cursor.at('}') && !cursor.at_end() {
            cursor.take();
        }
        cursor.expect(';')?;
        let sentence = format!("the option '{name}' is ignored");
        self.warnings
            .push(Diagnostic::error(place, sentence, "has no effect any more").warning());
        Ok(())
    }

    /// Reads the value of the option `name`, which has just been taken, and the semicolon.
    pub(super) fn option_value(
        &mut self,
        cursor: &mut Cursor,
        name: &str,
        place: Place,
        target: Into<'_>,
    ) -> Result<(), Diagnostic> {
        let found = find(target.section, name).or_else(|| {
            let spec = target.section.find(name)?;
            Some(Named {
                spec,
                is_negated: false,
            })
        });
        let Some(Named { spec, is_negated }) = found else {
            return Err(cursor.unexpected("an option keyword"));
        };
        let value = match spec.domain {
            _ if is_negated => "no".to_owned(),
            Domain::Switch { .. } | Domain::Flag => switch(cursor)?,
            _ => {
                let value = cursor.value()?;
                if !self.is_running() {
                    check_value(spec, &value.text).map_err(|error| {
                        explain(spec, place.to(value.place), &value.text, error)
                    })?;
                }
                value.text
            }
        };
        let value = if spec.name == "protocol" {
            value.to_ascii_uppercase()
        } else {
            value
        };
        let place = place.to(cursor.before());
        cursor.expect(';')?;
        let is_legacy = target.is_legacy;
        target.settings.0.push(Setting {
            spec,
            value,
            place,
            is_legacy,
        });
        Ok(())
    }

    /// Reads one statement of `global { }`.
    pub(super) fn global_option(&mut self, cursor: &mut Cursor) -> Result<Setting, Diagnostic> {
        let place = cursor.here();
        let name = cursor.peek_word().unwrap_or_default().to_owned();
        let Some(Named { spec, .. }) = find(Section::Global, &name) else {
            let wanted = "dialog-refresh | minor-count | disable-ip-verification";
            return Err(unknown(cursor, wanted, Section::Global));
        };
        cursor.take();
        let value = match spec.domain {
            Domain::Flag => "yes".to_owned(),
            Domain::Number { .. } => {
                let (number, at) = cursor.number()?;
                let value = number.to_string();
                check_value(spec, &value)
                    .map_err(|error| explain(spec, place.to(at), &value, error))?;
                value
            }
            Domain::Choice { .. } => {
                let word = cursor
                    .peek_word()
                    .filter(|word| check_value(spec, word).is_ok());
                let Some(word) = word.map(str::to_owned) else {
                    return Err(cursor.unexpected("yes | no | ask"));
                };
                cursor.take();
                word
            }
            _ => cursor.value()?.text,
        };
        let place = place.to(cursor.before());
        cursor.expect(';')?;
        Ok(Setting {
            spec,
            value,
            place,
            is_legacy: false,
        })
    }

    /// Reads the deprecated section whose options have moved to other ones.
    pub(super) fn syncer(
        &mut self,
        cursor: &mut Cursor,
        sections: &mut Sections,
    ) -> Result<(), Diagnostic> {
        cursor.expect('{')?;
        while !cursor.take_mark('}') {
            let place = cursor.here();
            let name = cursor.peek_word().unwrap_or_default().to_owned();
            let Some(spec) = find_in_syncer(&name) else {
                return Err(unknown(cursor, "a syncer option keyword", Section::Disk));
            };
            cursor.take();
            let settings = match spec.section {
                Section::Net => &mut sections.net,
                Section::Options => &mut sections.options,
                _ => &mut sections.disk,
            };
            self.option_value(cursor, &name, place, Into::section(settings, spec.section))?;
        }
        Ok(())
    }

    /// Reads the `startup` section.
    pub(super) fn startup(
        &mut self,
        cursor: &mut Cursor,
        startup: &mut Startup,
    ) -> Result<(), Diagnostic> {
        cursor.expect('{')?;
        while !cursor.take_mark('}') {
            let place = cursor.here();
            let name = cursor.peek_word().unwrap_or_default().to_owned();
            if cursor.take_word("stacked-timeouts") {
                startup.stacked_timeouts = true;
                cursor.expect(';')?;
            } else if cursor.take_word("become-primary-on") {
                startup.become_primary_on.push(cursor.name()?);
                while !cursor.at(';') {
                    startup.become_primary_on.push(cursor.name()?);
                }
                cursor.expect(';')?;
            } else if find(Section::Startup, &name).is_some() {
                cursor.take();
                let target = Into::section(&mut startup.settings, Section::Startup);
                self.option_value(cursor, &name, place, target)?;
            } else {
                return Err(unknown(cursor, "an option keyword", Section::Startup));
            }
        }
        Ok(())
    }

    /// Reads the `proxy` section, or the `options` of a `proxy on` section.
    pub(super) fn proxy_options(
        &mut self,
        cursor: &mut Cursor,
        proxy: &mut ProxyOptions,
    ) -> Result<(), Diagnostic> {
        cursor.expect('{')?;
        while !cursor.take_mark('}') {
            let name = cursor.peek_word().unwrap_or_default().to_owned();
            if cursor.take_word("plugin") {
                cursor.expect('{')?;
                while !cursor.take_mark('}') {
                    let mut words = Vec::new();
                    while !cursor.at(';') {
                        words.push(cursor.value()?.text);
                    }
                    cursor.expect(';')?;
                    proxy.plugins.push(words);
                }
            } else if PROXY_OPTIONS.contains(&name.as_str()) {
                cursor.take();
                let value = cursor.value()?.text;
                cursor.expect(';')?;
                proxy.options.push((name, value));
            } else {
                return Err(cursor.unexpected("an option keyword"));
            }
        }
        Ok(())
    }
}

/// Reads `yes`, `no`, or nothing, which means yes.
fn switch(cursor: &mut Cursor) -> Result<String, Diagnostic> {
    match cursor.peek_word() {
        Some(word @ ("yes" | "no")) => {
            let word = word.to_owned();
            cursor.take();
            Ok(word)
        }
        _ if cursor.at(';') => Ok("yes".to_owned()),
        _ => Err(cursor.unexpected("yes | no | ;")),
    }
}

/// Complains about the next word, and says which option it resembles.
fn unknown(cursor: &Cursor, wanted: &str, section: Section) -> Diagnostic {
    if cursor.at_end() {
        return cursor.unexpected("}");
    }
    let error = cursor.unexpected(wanted);
    let names = section
        .options()
        .iter()
        .filter(|spec| spec.domain != Domain::Argument);
    let names = names
        .filter(|spec| spec.change != Change::Connect)
        .map(|spec| spec.name);
    match cursor.peek_word().and_then(|word| closest(word, names)) {
        Some(close) => error.hint(format!("did you mean '{close}'?")),
        None => error,
    }
}

/// Refuses a value that the option cannot have.
fn check_value(spec: &OptionSpec, value: &str) -> Result<(), ParseError> {
    let is_host_choice = spec.name == "after-sb-0pri" && value.starts_with("discard-node-");
    match spec.domain {
        Domain::Minor | Domain::Words => Ok(()),
        _ if is_host_choice => Ok(()),
        Domain::Number { .. } if !spec.checked => spec.parse(value).map(|_| ()),
        _ => spec.parse(value).and_then(|parsed| spec.check(parsed)),
    }
}

/// Says why a value was refused.
fn explain(spec: &OptionSpec, place: Place, value: &str, error: ParseError) -> Diagnostic {
    if spec.name == "protocol" {
        let sentence = format!("unknown protocol '{value}', should be one of A,B,C");
        return Diagnostic::error(place, sentence, "unknown protocol");
    }
    if let Domain::Choice { choices, .. } = spec.domain {
        let names: Vec<&str> = choices.iter().map(|&(name, _)| name).collect();
        let sentence = format!(
            "{}: invalid value '{value}', expected one of {}",
            spec.name,
            names.join(", ")
        );
        let error = Diagnostic::error(place, sentence, "unknown value");
        return match closest(value, names.into_iter()) {
            Some(close) => error.hint(format!("did you mean '{close}'?")),
            None => error,
        };
    }
    let remark = match error {
        ParseError::OutOfRange { .. } => "out of range",
        ParseError::NotANumber | ParseError::NotAUnit => "must be a number",
        ParseError::Overflow => "too large",
        ParseError::TooLong => "too long",
        ParseError::NotASwitch | ParseError::UnknownChoice | ParseError::NoValue => "not possible",
    };
    Diagnostic::error(place, refusal(spec.name, value, error), remark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let words = ["timeout", "ping-timeout", "ko-count"];
        assert_eq!(closest("timout", words.into_iter()), Some("timeout"));
        assert_eq!(closest("kocount", words.into_iter()), Some("ko-count"));
        assert_eq!(closest("zork", words.into_iter()), None);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
