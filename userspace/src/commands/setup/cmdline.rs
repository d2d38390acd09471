//! The command line: positional arguments and options, checked against the table.

use super::device;
use super::table::{Arg, Local, Spec, Value};
use crate::netlink::address;
use crate::report::Failure;
use drbd_format::options::{Change, Domain, OptionSpec, ParseError, Parsed};
use std::fmt::Write;

/// A command with everything the user gave it.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// Name of the program.
    pub(super) program: &'a str,
    /// The command.
    pub(super) spec: &'a Spec,
    /// Positional arguments as typed.
    pub(super) args: Vec<&'a str>,
    /// Options that are sent, with their values.
    pub(super) options: Vec<(&'static OptionSpec, OptionArg<'a>)>,
    /// Whether to start from the defaults.
    pub(super) set_defaults: bool,
    locals: Vec<(&'static str, Option<&'a str>)>,
}

/// Value of an option that is sent.
#[derive(Debug)]
pub(super) enum OptionArg<'a> {
    /// An endpoint.
    Address(Vec<u8>),
    /// Anything else.
    Value(Parsed<'a>),
}

impl std::fmt::Debug for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl<'a> Call<'a> {
    /// Reads the words behind the name of the command.
    pub(super) fn parse(
        program: &'a str,
        spec: &'a Spec,
        words: &[&'a str],
    ) -> Result<Self, Failure> {
        let mut call = Self {
            program,
            spec,
            args: Vec::new(),
            options: Vec::new(),
            set_defaults: false,
            locals: Vec::new(),
        };
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            if word == "--" {
                call.args.extend(words.by_ref());
            } else if let Some(long) = word.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (long, None),
                };
                call.take_long(name, value, &mut words)?;
            } else if word.len() > 1 && word.starts_with('-') {
                call.take_letters(&word[1..], &mut words)?;
            } else {
                call.args.push(word);
            }
        }
        call.check_args()?;
        Ok(call)
    }

    fn take_long(
        &mut self,
        name: &str,
        value: Option<&'a str>,
        words: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), Failure> {
        if name == "set-defaults" && self.spec.online {
            self.set_defaults = value != Some("no");
            return Ok(());
        }
        if let Some(local) = unique(self.spec.locals.iter(), name, |local| local.name) {
            return self.take_local(local, value, words);
        }
        let exact = self
            .spec
            .options()
            .find(|option| option.aliases.contains(&name));
        match exact.or_else(|| unique(self.spec.options(), name, |option| option.name)) {
            Some(option) => self.take_option(option, value, words),
            None => Err(self.unknown(&format!("unrecognized option '--{name}'"))),
        }
    }

    fn take_letters(
        &mut self,
        letters: &'a str,
        words: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), Failure> {
        for (at, letter) in letters.char_indices() {
            let local = self.spec.locals.iter().find(|local| local.letter == letter);
            let Some(local) = local else {
                return Err(self.unknown(&format!("invalid option -- '{letter}'")));
            };
            if local.value == Value::None {
                self.take_local(local, None, words)?;
            } else {
                let rest = &letters[at + letter.len_utf8()..];
                return self.take_local(local, (!rest.is_empty()).then_some(rest), words);
            }
        }
        Ok(())
    }

    fn take_local(
        &mut self,
        local: &'static Local,
        value: Option<&'a str>,
        words: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), Failure> {
        let value = match (local.value, value) {
            (Value::None, Some(_)) => {
                let text = format!("option '--{}' doesn't allow an argument", local.name);
                return Err(self.unknown(&text));
            }
            (Value::Required, None) => Some(self.following(local.name, words)?),
            (_, value) => value,
        };
        self.locals.push((local.name, value));
        Ok(())
    }

    fn take_option(
        &mut self,
        option: &'static OptionSpec,
        value: Option<&'a str>,
        words: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), Failure> {
        let value = match (option.domain, value) {
            (Domain::Flag | Domain::Switch { .. }, None) => "yes",
            (_, Some(value)) => value,
            (_, None) => self.following(option.name, words)?,
        };
        if option.domain == Domain::Address {
            let address = address::parse(value).map_err(|e| Failure::local(e.to_string()))?;
            self.options.push((option, OptionArg::Address(address)));
            return Ok(());
        }
        let parsed = option
            .parse(value)
            .map_err(|error| bad_value(option, value, error))?;
        self.options.push((option, OptionArg::Value(parsed)));
        Ok(())
    }

    fn following(
        &self,
        name: &str,
        words: &mut impl Iterator<Item = &'a str>,
    ) -> Result<&'a str, Failure> {
        let text = || self.unknown(&format!("option '--{name}' requires an argument"));
        words.next().ok_or_else(text)
    }

    fn unknown(&self, what: &str) -> Failure {
        let synopsis = synopsis(self.program, self.spec);
        Failure::local(format!("{}: {what}\n{synopsis}", self.spec.name))
    }

    fn check_args(&self) -> Result<(), Failure> {
        let optional = |arg: &Arg| matches!(arg, Arg::Some | Arg::ResourceOrAll);
        if let Some(missing) = self
            .spec
            .args
            .get(self.args.len())
            .filter(|arg| !optional(arg))
        {
            let what = match missing {
                Arg::LocalAddr | Arg::RemoteAddr => {
                    "Missing connection endpoint argument".to_owned()
                }
                Arg::Minor if self.args.is_empty() => "Missing first argument".to_owned(),
                other => format!("Missing argument '{}'", placeholder(*other)),
            };
            return Err(Failure::local(format!(
                "{what}\n{}",
                synopsis(self.program, self.spec)
            )));
        }
        match self.args.get(self.spec.args.len()..) {
            Some(excess @ [_, ..]) => Err(Failure::local(format!(
                "Excess arguments: {}",
                excess.join(" ")
            ))),
            _ => Ok(()),
        }
    }

    /// Returns the positional argument of this kind as typed.
    pub(super) fn arg(&self, wanted: Arg) -> Option<&'a str> {
        let at = self.spec.args.iter().position(|arg| *arg == wanted)?;
        self.args.get(at).copied()
    }

    /// Returns the minor that the command is about.
    pub(super) fn minor(&self) -> Result<Option<u32>, Failure> {
        let Some(word) = self.arg(Arg::Minor) else {
            return Ok(None);
        };
        // Which numbers a new minor may have is for the kernel to say.
        match word.parse() {
            Ok(number) if self.spec.args.contains(&Arg::Volume) => Ok(Some(number)),
            _ => device::minor_of(word).map(Some),
        }
    }

    /// Whether an option that is not sent was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.locals.iter().any(|(given, _)| *given == name)
    }

    /// Returns the value of an option that is not sent; the last one given.
    pub(super) fn local(&self, name: &str) -> Option<Option<&'a str>> {
        self.locals
            .iter()
            .rev()
            .find(|(given, _)| *given == name)
            .map(|(_, value)| *value)
    }

    /// Returns the minor whose lock the command needs. A forced detach needs none: it is the way
    /// out when the command that holds the lock waits for a disk that does not answer.
    pub(super) fn minor_to_lock(&self) -> Option<u32> {
        let minor = self.minor().ok().flatten();
        minor.filter(|_| self.spec.modifies && !self.is_forced_detach())
    }

    fn is_forced_detach(&self) -> bool {
        let force = self.options.iter().rev();
        let mut force = force.filter(|(option, _)| option.name == "force");
        let is_set =
            |value: &OptionArg<'_>| matches!(value, OptionArg::Value(Parsed::Switch(true)));
        self.spec.name == "detach" && force.next().is_some_and(|(_, value)| is_set(value))
    }
}

/// Finds by name, or by the beginning of a name if only one begins so.
fn unique<T>(
    items: impl Iterator<Item = &'static T>,
    name: &str,
    name_of: impl Fn(&'static T) -> &'static str,
) -> Option<&'static T> {
    let mut begins = Vec::new();
    for item in items {
        if name_of(item) == name {
            return Some(item);
        }
        if !name.is_empty() && name_of(item).starts_with(name) {
            begins.push(item);
        }
    }
    match *begins {
        [one] => Some(one),
        _ => None,
    }
}

fn bad_value(option: &OptionSpec, value: &str, error: ParseError) -> Failure {
    Failure::local(match error {
        ParseError::UnknownChoice | ParseError::NotASwitch => {
            format!("Option --{}: invalid argument '{value}'", option.name)
        }
        ParseError::Overflow => format!("{value}: out of range"),
        other => format!("{value} {other}"),
    })
}

fn placeholder(arg: Arg) -> &'static str {
    match arg {
        Arg::LowerDev => "lower_dev",
        Arg::LocalAddr => "[{af}:]{local_addr}[:{port}]",
        Arg::MetaDev => "meta_data_dev",
        Arg::MetaIndex => "meta_data_index",
        Arg::Minor => "minor",
        Arg::RemoteAddr => "[{af}:]{remote_addr}[:{port}]",
        Arg::Resource => "resource",
        Arg::ResourceOrAll => "resource|all",
        Arg::Some => "resource|minor|all",
        Arg::Volume => "volume",
    }
}

fn option_form(option: &OptionSpec) -> String {
    let name = option.name;
    match option.domain {
        Domain::Switch { .. } | Domain::Flag => format!("[--{name}={{yes|no}}]"),
        Domain::Choice { choices, .. } => {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            format!("[--{name}={{{}}}]", names.join("|"))
        }
        Domain::Number { min, max, .. } => format!("[--{name}=({min} ... {max})]"),
        Domain::Minor => format!("[--{name}=(-1 ... 1048575)]"),
        Domain::Address => format!("[--{name}=[{{af}}:]{{local_addr}}[:{{port}}]]"),
        Domain::Text | Domain::Words | Domain::Argument => format!("[--{name}=<str>]"),
    }
}

/// Returns the lines that explain the command line of a command.
pub(super) fn synopsis(program: &str, spec: &Spec) -> String {
    let mut words = vec![program.to_owned(), spec.name.to_owned()];
    words.extend(spec.args.iter().map(|arg| match arg {
        Arg::LocalAddr | Arg::RemoteAddr => placeholder(*arg).to_owned(),
        _ => format!("{{{}}}", placeholder(*arg)),
    }));
    if spec.online {
        words.push("[--set-defaults]".to_owned());
    }
    words.extend(spec.options().map(option_form));
    words.extend(spec.locals.iter().map(|local| match local.value {
        Value::None => format!("[--{}]", local.name),
        Value::Optional | Value::Required => format!("[--{}=...]", local.name),
    }));
    let mut text = "USAGE:\n".to_owned();
    let mut line = String::new();
    for word in words {
        if !line.is_empty() && line.len() + word.len() + 1 > 80 {
            let _ = writeln!(text, "{line}");
            line = "   ".to_owned();
        }
        line.push(' ');
        line.push_str(&word);
    }
    text.push_str(&line);
    text
}

/// Returns the description of a command that other tools read.
pub(super) fn xml(spec: &Spec) -> String {
    let mut text = format!("<command name=\"{}\">\n", spec.name);
    for arg in spec.args {
        let _ = writeln!(text, "\t<argument>{}</argument>", placeholder(*arg));
    }
    if spec.online {
        text.push_str("\t<option name=\"set-defaults\" type=\"flag\">\n\t</option>\n");
    }
    for option in spec.options() {
        xml_option(&mut text, option);
    }
    for local in spec.locals {
        let _ = writeln!(
            text,
            "\t<option name=\"{}\" type=\"flag\">\n\t</option>",
            local.name
        );
    }
    text.push_str("</command>\n");
    text
}

fn xml_option(text: &mut String, option: &OptionSpec) {
    let kind = match option.domain {
        Domain::Switch { .. } => "boolean",
        Domain::Flag => "flag",
        Domain::Choice { .. } => "handler",
        Domain::Number { .. } | Domain::Minor => "numeric",
        Domain::Address | Domain::Argument | Domain::Text | Domain::Words => "string",
    };
    let _ = writeln!(text, "\t<option name=\"{}\" type=\"{kind}\">", option.name);
    match option.domain {
        Domain::Switch { default } => {
            let word = if default { "yes" } else { "no" };
            let _ = writeln!(text, "\t\t<default>{word}</default>");
        }
        Domain::Choice { choices, .. } => {
            for (name, _) in choices {
                let _ = writeln!(text, "\t\t<handler>{name}</handler>");
            }
        }
        Domain::Number {
            min,
            max,
            default,
            unit,
        } => {
            let _ = writeln!(text, "\t\t<min>{min}</min>\n\t\t<max>{max}</max>");
            let letter = if unit.letter().is_empty() {
                "1"
            } else {
                unit.letter()
            };
            let _ = writeln!(text, "\t\t<default>{default}</default>");
            let _ = writeln!(text, "\t\t<unit_prefix>{letter}</unit_prefix>");
            if let Some(words) = unit.words() {
                let _ = writeln!(text, "\t\t<unit>{words}</unit>");
            }
        }
        _ => {}
    }
    if option.change == Change::Connect && option.domain == Domain::Address {
        text.push_str("\t\t<!-- refused by kernels of this series -->\n");
    }
    text.push_str("\t</option>\n");
}

#[cfg(test)]
mod tests {
    use super::super::table::COMMANDS;
    use super::*;

    fn parse(line: &'static str) -> Result<Call<'static>, Failure> {
        let words: Vec<&'static str> = line.split(' ').collect();
        let spec = COMMANDS.iter().find(|spec| spec.name == words[0]).unwrap();
        Call::parse("drbdsetup", spec, &words[1..])
    }

    #[test]
    fn options_may_stand_anywhere_and_in_every_form() {
        for line in [
            "attach 0 /dev/a /dev/a internal --resync-rate=10M",
            "attach --resync-rate 10M 0 /dev/a /dev/a internal",
            "attach 0 --rate=10240 /dev/a /dev/a internal",
        ] {
            let call = parse(line).unwrap();
            let (option, value) = &call.options[0];
            assert_eq!(option.name, "resync-rate");
            assert!(
                matches!(value, OptionArg::Value(Parsed::Number(10240))),
                "{line}"
            );
        }
        let call = parse("primary 0 --overwrite-data-of-peer").unwrap();
        assert!(matches!(
            call.options[0].1,
            OptionArg::Value(Parsed::Switch(true))
        ));
    }

    #[test]
    fn what_does_not_belong_is_refused_with_20() {
        for (line, text) in [
            (
                "primary 0 --bogus",
                "primary: unrecognized option '--bogus'\n",
            ),
            ("new-minor r0", "Missing argument 'minor'\n"),
            ("new-minor r0 0 0 0", "Excess arguments: 0"),
            ("connect r0", "Missing connection endpoint argument\n"),
            ("primary", "Missing first argument\n"),
            (
                "connect r0 1.2.3.4 1.2.3.5 --protocol=Z",
                "Option --protocol: invalid argument 'Z'",
            ),
            (
                "attach 0 a a internal --resync-rate=foo",
                "foo is not a valid number",
            ),
            (
                "net-options 1.2.3.4 1.2.3.5 --discard-my-data",
                "net-options: unrecognized option",
            ),
        ] {
            let failure = parse(line).unwrap_err();
            assert_eq!(failure.code, 20);
            assert!(failure.text.starts_with(text), "{line}: {}", failure.text);
        }
    }

    #[test]
    fn a_forced_detach_asks_for_no_lock() {
        for (line, lock) in [
            ("detach 0 --force", None),
            ("detach 0 --force=yes", None),
            ("detach --force=no --force 0", None),
            ("detach 0 --force --force=no", Some(0)),
            ("detach 0", Some(0)),
            ("primary 0 --force", Some(0)),
            ("suspend-io 0", Some(0)),
            ("dstate 0", None),
        ] {
            assert_eq!(parse(line).unwrap().minor_to_lock(), lock, "{line}");
        }
    }

    #[test]
    fn the_synopsis_is_folded() {
        let spec = COMMANDS.iter().find(|spec| spec.name == "resize").unwrap();
        assert_eq!(
            synopsis("drbdsetup", spec),
            "USAGE:\n drbdsetup resize {minor} [--size=(0 ... 2199023255552)]\n    \
             [--assume-peer-has-space={yes|no}] [--assume-clean={yes|no}]\n    \
             [--al-stripes=(1 ... 1024)] [--al-stripe-size-kB=(4 ... 16777216)]"
        );
    }
}
