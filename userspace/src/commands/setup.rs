//! drbdsetup: the tool that speaks to the kernel module.
//!
//! Commands, arguments, texts and exit codes: `reference/userland.md` 3; what is sent for which
//! command: `reference/netlink.md` 9.

mod cmdline;
mod configure;
pub(crate) mod device;
mod events;
mod module;
mod query;
mod show;
mod status;
mod table;
mod wait;

use crate::report::{outln, Failure, Outcome, RC_LOCAL};
use cmdline::Call;
use table::{Spec, COMMANDS};

/// Runs drbdsetup in a process of its own, which keeps no file system busy while it waits.
pub(crate) fn run_alone(program: &str, args: &[String]) -> u8 {
    // What is named by an absolute path, as everything should be, is found from anywhere.
    let _ = std::env::set_current_dir("/");
    run(program, args)
}

/// Runs drbdsetup with the words behind its name and returns its exit code.
pub(crate) fn run(program: &str, args: &[String]) -> u8 {
    match dispatch(program, args) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn dispatch(program: &str, args: &[String]) -> Outcome {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let (name, rest) = match *words {
        [] => return Ok(usage(program, None)),
        ["help" | "--help" | "-h"] => return Ok(usage(program, None)),
        ["help", name] => return help(program, name),
        ["xml-help", name] => return xml_help(name),
        // The order of old: DEVICE COMMAND.
        [object, name, ..] if find(object).is_none() && find(name).is_some() => {
            let mut rest = vec![object];
            rest.extend(&words[2..]);
            (name, rest)
        }
        [name, ..] => (name, words[1..].to_vec()),
    };
    let Some(spec) = find(name) else {
        return Ok(usage(program, Some("invalid command")));
    };
    if rest.iter().any(|word| matches!(*word, "--help" | "-h")) {
        return help(program, name);
    }
    if name == "state" {
        eprintln!("'{program} state' is deprecated, use '{program} role' instead.");
    }
    let call = Call::parse(program, spec, &rest)?;
    if let Err(failure) = module::ensure_loaded() {
        // Without a module there is nothing left to take down.
        let code = failure.report();
        let harmless = matches!(spec.name, "down" | "secondary" | "disconnect" | "detach");
        return Ok(if harmless { 0 } else { code });
    }
    let _lock = match call.minor_to_lock() {
        Some(minor) => Some(device::MinorLock::take(minor)?),
        None => None,
    };
    (spec.run)(&call)
}

/// Reads a command line and forgets what it says.
pub(crate) fn understand(program: &str, words: &[&str]) {
    let Some((name, rest)) = words.split_first() else {
        return;
    };
    if let Some(spec) = find(name) {
        match Call::parse(program, spec, rest) {
            Ok(call) => drop(call.minor_to_lock()),
            Err(failure) => drop(failure),
        }
    }
}

fn find(name: &str) -> Option<&'static Spec> {
    COMMANDS.iter().find(|spec| spec.name == name)
}

fn usage(program: &str, last_line: Option<&str>) -> u8 {
    outln!("\nUSAGE: {program} command device arguments options\n");
    outln!("Device is usually /dev/drbdX or /dev/drbd/X.\n");
    outln!("Commands are:");
    let names: Vec<&str> = COMMANDS
        .iter()
        .filter(|s| !s.hidden)
        .map(|s| s.name)
        .collect();
    for row in names.chunks(3) {
        let row: String = row.iter().map(|name| format!("{name:<20}")).collect();
        outln!("    {row}");
    }
    outln!("\nTo get more details about a command issue '{program} help cmd'.\n");
    if let Some(line) = last_line {
        outln!("\n{line}");
    }
    RC_LOCAL
}

fn help(program: &str, name: &str) -> Outcome {
    match find(name) {
        Some(spec) => {
            outln!("{}", cmdline::synopsis(program, spec));
            Ok(0)
        }
        None => Err(Failure::local(format!("{name} is not a command"))),
    }
}

fn xml_help(name: &str) -> Outcome {
    match find(name) {
        Some(spec) => {
            crate::report::out(&cmdline::xml(spec));
            Ok(0)
        }
        None => Err(Failure::local(format!("{name} is not a command"))),
    }
}
