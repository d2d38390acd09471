//! drbdadm, drbdsetup and drbdmeta.
//!
//! The name under which the binary is called selects the tool (`reference/userland.md` 0.1). Under
//! any other name the first argument does: `drbd-tools drbdsetup status`.

// In front of all modules, to take the place of the macros of std: these panic where nobody reads
// any more or a disk is full, which is no reason to end a command halfway.
macro_rules! print {
    ($($part:tt)*) => { $crate::report::out(&format!($($part)*)) };
}

macro_rules! println {
    ($($part:tt)*) => { $crate::report::out(&(format!($($part)*) + "\n")) };
}

macro_rules! eprint {
    ($($part:tt)*) => { $crate::report::err(&format!($($part)*)) };
}

macro_rules! eprintln {
    () => { $crate::report::err("\n") };
    ($($part:tt)*) => { $crate::report::err(&(format!($($part)*) + "\n")) };
}

mod adjust;
mod commands;
mod config;
mod meta;
mod netlink;
pub mod probe;
mod report;
mod status;

use report::Failure;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// A tool of the family.
struct Tool {
    names: &'static [&'static str],
    run: fn(&str, &[String]) -> u8,
}

const TOOLS: &[Tool] = &[
    Tool {
        names: &["drbdadm", "drbdadm-84"],
        run: commands::adm::run,
    },
    Tool {
        names: &["drbdmeta"],
        run: commands::meta::run,
    },
    Tool {
        names: &["drbdsetup", "drbdsetup-84"],
        run: commands::setup::run_alone,
    },
];

/// Runs the tool that the name of the program or its first argument selects.
#[must_use]
pub fn run() -> ExitCode {
    if std::env::var_os(commands::adm::HELPER).is_some() {
        // Started by drbdadm: end with it. That this cannot be had on every system is no reason
        // not to work.
        let kill = Some(rustix::process::Signal::KILL);
        let _ = rustix::process::set_parent_process_death_signal(kill);
    }
    let mut words = std::env::args_os();
    let Some(own_name) = words.next() else {
        eprintln!("called without a name");
        return ExitCode::from(report::RC_LOCAL);
    };
    let mut words: Vec<OsString> = words.collect();
    let mut name = basename(&own_name);
    if find(&name).is_none() && !words.is_empty() {
        name = basename(&words.remove(0));
    }
    let Some(tool) = find(&name) else {
        eprintln!("usage: drbd-tools TOOL ARGUMENTS..., where TOOL is one of");
        for tool in TOOLS {
            eprintln!("    {}", tool.names.join(", "));
        }
        return ExitCode::from(1);
    };
    let args: Result<Vec<String>, OsString> =
        words.into_iter().map(OsString::into_string).collect();
    let code = match args {
        Ok(args) => (tool.run)(&name, &args),
        Err(word) => Failure::local(format!("{name}: not a text: {word:?}")).report(),
    };
    ExitCode::from(match report::loss() {
        Some(loss) if code == 0 => loss.report(),
        _ => code,
    })
}

fn basename(path: &OsString) -> String {
    Path::new(path)
        .file_name()
        .unwrap_or(path)
        .to_string_lossy()
        .into_owned()
}

fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.names.contains(&name))
}
