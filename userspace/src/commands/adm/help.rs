//! Usage texts of drbdadm.

use std::fmt::Write as _;

use super::args::GENERAL;
use super::table::{Command, Listed, Value, COMMANDS};

/// Returns the usage of one command, or of drbdadm with the list of commands.
///
/// Shell completion reads the lines between `OPTIONS FOR` and the next empty one
/// (`reference/userland.md 5.4`).
pub(super) fn usage(program: &str, command: Option<&Command>) -> String {
    let mut text = String::new();
    let word = command.map_or("COMMAND", |command| command.name);
    let _ = writeln!(
        text,
        "\nUSAGE: {program} {word} [OPTION...] {{all|RESOURCE...}}\n"
    );
    let _ = writeln!(text, "GENERAL OPTIONS:");
    for (long, letter, has_value) in GENERAL {
        let (after_long, after_letter) = if *has_value {
            ("=...", " ...")
        } else {
            ("", "")
        };
        let _ = writeln!(text, "  --{long}{after_long}, -{letter}{after_letter}");
    }
    match command {
        Some(command) => {
            let options = command.options();
            if !options.is_empty() {
                let _ = writeln!(text, "\nOPTIONS FOR {}:", command.name);
            }
            for (name, value) in options {
                let value = match value {
                    Value::Optional => "[=...]",
                    Value::Required => "=...",
                };
                let _ = writeln!(text, "  --{name}{value}");
            }
        }
        None => {
            let _ = writeln!(text, "\nCOMMANDS:");
            text.push_str(&columns(Listed::Help));
        }
    }
    let _ = writeln!(text, "\nVersion: {} (api:1)", super::version::VERSION);
    text
}

/// Returns the lists of the commands that the usage does not mention.
pub(super) fn hidden() -> String {
    let mut text = String::from("\nCommands for shell scripts that build on drbdadm:\n\n");
    text.push_str(&columns(Listed::Script));
    text.push_str("\nCommands that the kernel module calls to run the configured handlers:\n\n");
    text.push_str(&columns(Listed::Handler));
    text.push_str("\nCommands for experts and developers:\n\n");
    text.push_str(&columns(Listed::Expert));
    text.push('\n');
    text
}

fn columns(listed: Listed) -> String {
    let names: Vec<&str> = COMMANDS
        .iter()
        .filter(|command| command.listed == listed)
        .map(|c| c.name)
        .collect();
    let mut text = String::new();
    for pair in names.chunks(2) {
        for (name, is_first) in pair.iter().zip([true, false]) {
            let gap = if is_first { " " } else { "" };
            let _ = write!(text, "{gap}{name:<35}");
        }
        text.push('\n');
    }
    text
}
