//! The command line of drbdadm.
//!
//! Options may stand anywhere in front of `--`. What is meant for the helper program can be given
//! in three ways (`reference/userland.md 2.1`): as a known option, with `-W`, and, as in the days
//! of version 0.7, as words in front of the command.

use super::table::{self, Command, Value};

/// What the user asked for.
#[derive(Clone, Debug)]
pub(super) enum Request {
    /// Run a command.
    Run(Box<Invocation>),
    /// Print the usage, of one command if it is known.
    Help(Option<&'static Command>),
    /// Print the versions.
    Version,
}

/// A command with its options and resource names.
#[derive(Clone, Debug)]
pub(super) struct Invocation {
    /// The command.
    pub(super) command: &'static Command,
    /// The old name of the command, if it was called by it.
    pub(super) old_name: Option<String>,
    /// Resource names as written.
    pub(super) names: Vec<String>,
    /// Options for the helper program.
    pub(super) backend: Vec<String>,
    /// The general options.
    pub(super) general: General,
}

/// The general options.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct General {
    /// `-d`: how often.
    pub(super) dry_run: u8,
    /// `-v`: how often.
    pub(super) verbose: u8,
    /// `-c`.
    pub(super) config: Option<String>,
    /// `-t`.
    pub(super) config_to_test: Option<String>,
    /// `-s`.
    pub(super) drbdsetup: Option<String>,
    /// `-m`.
    pub(super) drbdmeta: Option<String>,
    /// `-S`.
    pub(super) stacked: bool,
    /// `-P`.
    pub(super) peer: Option<String>,
    /// `-n`.
    pub(super) variable: Option<String>,
}

/// Why the command line cannot be used; the text goes to standard error, the exit code is 1.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Misuse {
    /// There is no command.
    NoCommand,
    /// The command needs a resource.
    NoResource(&'static str),
    /// Anything else.
    Text(String),
}

/// The general options: long name, letter, whether a value follows.
pub(super) const GENERAL: &[(&str, char, bool)] = &[
    ("stacked", 'S', false),
    ("dry-run", 'd', false),
    ("verbose", 'v', false),
    ("config-file", 'c', true),
    ("config-to-test", 't', true),
    ("drbdsetup", 's', true),
    ("drbdmeta", 'm', true),
    ("drbd-proxy-ctl", 'p', true),
    ("sh-varname", 'n', true),
    ("peer", 'P', true),
    ("version", 'V', false),
    ("setup-option", 'W', true),
    ("help", 'h', false),
];

/// Reads the words behind the name of the program.
///
/// # Errors
///
/// What is wrong with them.
pub(super) fn parse(program: &str, words: &[String]) -> Result<Request, Misuse> {
    let mut parser = Parser {
        program,
        ..Parser::default()
    };
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            parser.plain.extend(rest.by_ref().cloned());
        } else if let Some(long) = word.strip_prefix("--") {
            parser.long(long, &mut rest)?;
        } else if word.len() > 1 && word.starts_with('-') {
            parser.short(&word[1..], &mut rest)?;
        } else {
            parser.plain.push(word.clone());
        }
    }
    parser.finish()
}

/// An option for the helper that was recognised before the command was known.
#[derive(Clone, Debug)]
struct Known {
    name: &'static str,
    text: String,
}

#[derive(Default)]
struct Parser<'p> {
    program: &'p str,
    general: General,
    plain: Vec<String>,
    known: Vec<Known>,
    verbatim: Vec<String>,
    wants_help: bool,
    wants_version: bool,
}

impl Parser<'_> {
    fn long<'w>(
        &mut self,
        text: &str,
        rest: &mut impl Iterator<Item = &'w String>,
    ) -> Result<(), Misuse> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if let Some(&(long, letter, has_value)) = general(name) {
            let value = match value {
                None if has_value => Some(rest.next().cloned().ok_or_else(|| {
                    self.misuse(&format!("option '--{long}' requires an argument"), None)
                })?),
                value => value,
            };
            return self.apply(letter, value);
        }
        let Some((known, needs)) = table::passed_option(name) else {
            return Err(self.misuse(&format!("unrecognized option '--{text}'"), None));
        };
        let value = match (value, needs) {
            (Some(value), _) => Some(value),
            (None, Value::Optional) => None,
            (None, Value::Required) => Some(rest.next().cloned().ok_or_else(|| {
                self.misuse(&format!("option '--{known}' requires an argument"), None)
            })?),
        };
        let text = match value {
            Some(value) => format!("--{known}={value}"),
            None => format!("--{known}"),
        };
        self.known.push(Known { name: known, text });
        Ok(())
    }

    fn short<'w>(
        &mut self,
        letters: &str,
        rest: &mut impl Iterator<Item = &'w String>,
    ) -> Result<(), Misuse> {
        let mut letters = letters.chars();
        while let Some(letter) = letters.next() {
            let Some(&(_, _, has_value)) = GENERAL.iter().find(|option| option.1 == letter) else {
                return Err(self.misuse(&format!("invalid option -- '{letter}'"), None));
            };
            if !has_value {
                self.apply(letter, None)?;
                continue;
            }
            let attached = letters.as_str();
            let value = if attached.is_empty() {
                let wanted = format!("option requires an argument -- '{letter}'");
                rest.next()
                    .cloned()
                    .ok_or_else(|| self.misuse(&wanted, None))?
            } else {
                attached.to_owned()
            };
            return self.apply(letter, Some(value));
        }
        Ok(())
    }

    fn apply(&mut self, letter: char, value: Option<String>) -> Result<(), Misuse> {
        let general = &mut self.general;
        match letter {
            'S' => general.stacked = true,
            'd' => general.dry_run = general.dry_run.saturating_add(1),
            'v' => general.verbose = general.verbose.saturating_add(1),
            'c' => general.config = value,
            't' => general.config_to_test = value,
            's' => general.drbdsetup = value,
            'm' => general.drbdmeta = value,
            // The replication proxy is not steered from here.
            'p' => {}
            'P' => general.peer = value,
            'n' => general.variable = value,
            'W' => self.verbatim.extend(value),
            'V' => self.wants_version = true,
            _ => self.wants_help = true,
        }
        Ok(())
    }

    fn misuse(&self, text: &str, command: Option<&str>) -> Misuse {
        let help = command
            .map(|command| format!(" {command}"))
            .unwrap_or_default();
        Misuse::Text(format!("{0}: {text}\ntry '{0} help{help}'", self.program))
    }

    fn finish(mut self) -> Result<Request, Misuse> {
        if self.wants_version {
            return Ok(Request::Version);
        }
        if self.plain.first().is_some_and(|word| word == "help") {
            self.plain.remove(0);
            self.wants_help = true;
        }
        let is_command =
            |word: &String| table::find(word).is_some() || table::renamed(word).is_some();
        let found = self.plain.iter().position(is_command);
        if self.wants_help {
            let named = found.and_then(|at| self.plain.get(at));
            return Ok(Request::Help(named.and_then(|word| table::find(word))));
        }
        let Some(at) = found else {
            return Err(match self.plain.first() {
                Some(word) => Misuse::Text(format!("{}: Unknown command '{word}'", self.program)),
                None => Misuse::NoCommand,
            });
        };
        let names = self.plain.split_off(at + 1);
        let word = self.plain.pop().unwrap_or_default();
        let today = table::renamed(&word);
        let Some(command) = table::find(today.unwrap_or(&word)) else {
            return Err(Misuse::NoCommand);
        };
        let backend = self.backend(command)?;
        if self.general.config_to_test.is_some()
            && !matches!(command.name, "dump" | "dump-xml" | "sh-nop")
        {
            let text = "The --config-to-test (-t) option is only allowed with the dump and sh-nop \
                        commands";
            return Err(Misuse::Text(text.to_owned()));
        }
        let needs_names = command.scope != super::table::Scope::Nothing;
        if names.is_empty() && needs_names && !command.defaults_to_all {
            return Err(Misuse::NoResource(command.name));
        }
        let old_name = today.map(|_| word);
        Ok(Request::Run(Box::new(Invocation {
            command,
            old_name,
            names,
            backend,
            general: self.general,
        })))
    }

    /// Collects what is passed on, and refuses options that belong to other commands.
    fn backend(&self, command: &'static Command) -> Result<Vec<String>, Misuse> {
        let mut backend = self.plain.clone();
        let options = command.options();
        for known in &self.known {
            let belongs = options.iter().any(|(name, _)| *name == known.name);
            if !belongs && command.name != "create-md" {
                let text = format!("unrecognized option '{}'", known.text);
                return Err(self.misuse(&text, Some(command.name)));
            }
            backend.push(known.text.clone());
        }
        backend.extend(self.verbatim.iter().cloned());
        Ok(backend)
    }
}

/// Finds a general option by its long name or a beginning of it that no other has.
fn general(name: &str) -> Option<&'static (&'static str, char, bool)> {
    if let Some(exact) = GENERAL.iter().find(|option| option.0 == name) {
        return Some(exact);
    }
    if table::passed_option(name).is_some_and(|(known, _)| known == name) {
        return None;
    }
    let mut close = GENERAL.iter().filter(|option| option.0.starts_with(name));
    let first = close.next();
    first.filter(|_| close.next().is_none() && table::passed_option(name).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Invocation {
        match parse("drbdadm", &words(line)) {
            Ok(Request::Run(invocation)) => *invocation,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn misuse(line: &str) -> String {
        match parse("drbdadm", &words(line)) {
            Err(Misuse::Text(text)) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn every_option_that_a_command_offers_is_passed_on() {
        for command in table::COMMANDS {
            for (name, _) in command.options() {
                let line = format!("{} r0 --{name}=1", command.name);
                assert_eq!(run(&line).backend, [format!("--{name}=1")], "{line}");
            }
        }
    }

    #[test]
    fn all_spellings_of_backend_options_are_the_same() {
        for line in [
            "primary --force r0",
            "primary r0 --force",
            "primary r0 -W--force",
            "-W --force primary r0",
            "-- --force primary r0",
            "primary --forc r0",
        ] {
            let invocation = run(line);
            assert_eq!(invocation.command.name, "primary", "{line}");
            assert_eq!(invocation.backend, ["--force"], "{line}");
            assert_eq!(invocation.names, ["r0"], "{line}");
        }
        let old = run("-- --overwrite-data-of-peer primary resftp");
        assert_eq!(old.backend, ["--overwrite-data-of-peer"]);
        assert_eq!(run("-- 123:456 set-gi r0").backend, ["123:456"]);
    }

    #[test]
    fn values_may_follow_or_be_attached() {
        assert_eq!(run("resize --size 10G r0").backend, ["--size=10G"]);
        assert_eq!(run("resize --size=10G r0").backend, ["--size=10G"]);
        assert_eq!(run("attach --disk-flushes r0").backend, ["--disk-flushes"]);
        assert_eq!(run("-c a -t b dump").general.config.as_deref(), Some("a"));
        assert_eq!(run("-cfile dump").general.config.as_deref(), Some("file"));
        assert_eq!(
            run("--config-file=x dump").general.config.as_deref(),
            Some("x")
        );
        assert_eq!(run("-dd up r0").general.dry_run, 2);
        assert_eq!(run("-vd --dry up r0").general.dry_run, 2);
    }

    #[test]
    fn words_behind_the_command_are_resource_names() {
        assert_eq!(
            run("resize r0 -- --assume-clean").names,
            ["r0", "--assume-clean"]
        );
    }

    #[test]
    fn options_of_other_commands_are_refused() {
        assert_eq!(
            misuse("connect --force r0"),
            "drbdadm: unrecognized option '--force'\ntry 'drbdadm help connect'"
        );
        assert_eq!(
            misuse("primary r0 --zork=3"),
            "drbdadm: unrecognized option '--zork=3'\ntry 'drbdadm help'"
        );
        assert_eq!(
            run("create-md --clear-bitmap r0").backend,
            ["--clear-bitmap"]
        );
        assert_eq!(
            misuse("up -P"),
            "drbdadm: option requires an argument -- 'P'\ntry 'drbdadm help'"
        );
    }

    #[test]
    fn missing_words_are_noticed() {
        let parse = |line: &str| parse("drbdadm", &words(line)).unwrap_err();
        assert_eq!(parse(""), Misuse::NoCommand);
        assert_eq!(parse("up"), Misuse::NoResource("up"));
        assert_eq!(misuse("zork r0"), "drbdadm: Unknown command 'zork'");
        assert!(misuse("-t x up r0").starts_with("The --config-to-test (-t) option is only"));
        assert!(run("dump").names.is_empty());
        assert!(run("wait-con-int").names.is_empty());
    }

    #[test]
    fn old_names_still_work() {
        let invocation = run("state r0");
        assert_eq!(invocation.command.name, "role");
        assert_eq!(invocation.old_name.as_deref(), Some("state"));
    }
}
