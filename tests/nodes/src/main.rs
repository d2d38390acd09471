//! Runs scenarios on two real kernels.
//!
//! The same program is the harness on the host and the agent on the nodes.

mod agent;
mod awake;
mod bed;
mod bench;
mod link;
mod machine;
mod node;
mod pair;
mod poke;
mod proto;
mod provision;
mod relay;
mod report;
mod scenarios;
mod scribble;
mod steps;
mod streams;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{bail, Result};
use libtest_mimic::{Arguments, Trial};

use crate::bed::Bed;
use crate::scenarios::{Scenario, ALL, TESTS};

const HELP: &str = "\
usage: drbd-nodes list                      names of the scenarios
       drbd-nodes run NAME... [KEY=VALUE]   run scenarios, showing every step
       drbd-nodes load [KEY=VALUE]          load and unload our module in one node, show its log
       drbd-nodes shell 'COMMANDS' [...]    run shell commands on M of a fresh pair (module loaded)
       drbd-nodes test [NAME...] [libtest options]  scenarios as tests; settings in $DRBD_NODES
       drbd-nodes demo [KEY=VALUE]          the lab, step by step; KEEP=1 leaves the nodes running
       drbd-nodes bench [ROWS] kernel=fast [N=5]  our pair against the C pair, in turns
       drbd-nodes login SOCKET              a root shell on a node that was kept running

KEY=VALUE:
  kernel=fast|debug|stock     UML without checks, UML with all checks (default), Debian's under QEMU
  pair=ours|c|ours/c|c/ours   modules of M and S (default ours)
  tools=ours|utils|...        tools of M and S (default ours)
  N=20  SEED=7                rounds and seed of scenarios that repeat or draw lots
  KEEP=1                      leave the nodes running at the end (demo)
  AWAKE=0                     let idle processors of the host halt (bench)

Traces (consoles, steps, captures, disks) are left in target/nodes/NAME-KERNEL.
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&words) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("drbd-nodes: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(words: &[String]) -> Result<ExitCode> {
    match words.first().map(String::as_str) {
        Some("agent") if words.get(1).is_some_and(|word| word == "--serve") => agent::serve()?,
        Some("agent") => agent::init()?,
        Some("list" | "--list") => {
            for scenario in ALL {
                println!("{:24} {}", scenario.name, scenario.shows);
            }
        }
        Some("run") => return run(&words[1..]),
        Some("test") => return test(&words[1..]),
        Some("load") => scenarios::tools::load(&loud(&words[1..])?)?,
        Some("shell") if words.len() >= 2 => {
            scenarios::tools::shell(&loud(&words[2..])?, &words[1])?;
        }
        Some("bench") => {
            let (settings, rows): (Vec<String>, Vec<String>) = words[1..]
                .iter()
                .cloned()
                .partition(|word| word.contains('='));
            bench::bench(&Bed::from_words(&settings)?, &rows.join(" "))?;
        }
        Some("demo") => scenarios::demo(&loud(&words[1..])?)?,
        Some("scribble") if words.len() > 3 => scribble::scribble(
            Path::new(&words[1]),
            Path::new(&words[2]),
            scribble::Scribble::from_words(&words[3..])?,
        )?,
        Some("poke") if words.len() == 3 => poke::poke(&words[1], words[2].parse()?)?,
        Some("login") if words.len() == 2 => scenarios::tools::login(Path::new(&words[1]))?,
        Some("help" | "--help" | "-h") => print!("{HELP}"),
        _ => {
            eprint!("{HELP}");
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn loud(words: &[String]) -> Result<Bed> {
    let mut bed = Bed::from_words(words)?;
    bed.loud = true;
    Ok(bed)
}

fn run(words: &[String]) -> Result<ExitCode> {
    let (settings, names): (Vec<String>, Vec<String>) =
        words.iter().cloned().partition(|word| word.contains('='));
    let bed = loud(&settings)?;
    let mut chosen: Vec<&Scenario> = Vec::new();
    for name in &names {
        match ALL.iter().find(|scenario| scenario.name == name) {
            Some(scenario) => chosen.push(scenario),
            None => bail!("no scenario {name:?}; see drbd-nodes list"),
        }
    }
    let mut failed = 0_u32;
    for scenario in &chosen {
        match (scenario.run)(&bed) {
            Ok(()) => println!("{}: passed", scenario.name),
            Err(error) => {
                failed += 1;
                println!("{}: FAILED: {error:#}", scenario.name);
            }
        }
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The tests whose scenario has one of `names` in its name; all of them if there are no names.
///
/// # Errors
///
/// A name that chooses nothing: a round without tests would pass.
fn chosen(names: &[String]) -> Result<Vec<&'static (&'static Scenario, &'static str)>> {
    let has = |test: &(&Scenario, &str), name: &str| test.0.name.contains(name);
    for name in names {
        if !TESTS.iter().any(|test| has(test, name)) {
            bail!("no test has {name:?} in its name; see drbd-nodes test --list");
        }
    }
    let wanted = |test: &&_| names.is_empty() || names.iter().any(|name| has(test, name));
    Ok(TESTS.iter().filter(wanted).collect())
}

/// Scenarios as tests of their own: names, then options of libtest.
fn test(words: &[String]) -> Result<ExitCode> {
    let options = words.iter().position(|word| word.starts_with('-'));
    let (names, options) = words.split_at(options.unwrap_or(words.len()));
    let mut arguments = Arguments::from_iter(
        std::iter::once("drbd-nodes".to_owned()).chain(options.iter().cloned()),
    );
    // Two nodes already keep two processors busy.
    arguments.test_threads.get_or_insert(1);
    let settings = std::env::var("DRBD_NODES").unwrap_or_default();
    let settings: Vec<String> = settings.split_whitespace().map(str::to_owned).collect();
    // Words given by hand replace those of the table that have the same key.
    let trials = chosen(names)?.into_iter().map(|(scenario, usual)| {
        let mut words: Vec<String> = usual.split_whitespace().map(str::to_owned).collect();
        words.extend(settings.iter().cloned());
        let name = format!("{} {usual}", scenario.name);
        Trial::test(name, move || {
            let bed = Bed::from_words(&words)?;
            (scenario.run)(&bed).map_err(|error| format!("{error:#}").into())
        })
    });
    Ok(libtest_mimic::run(&arguments, trials.collect()).exit_code())
}

#[cfg(test)]
mod tests {
    use super::chosen;

    fn names_of(words: &[&str]) -> Vec<&'static str> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let tests = chosen(&words).expect("these are names of tests");
        tests.iter().map(|test| test.0.name).collect()
    }

    #[test]
    fn a_name_that_chooses_no_test_is_an_error_also_beside_one_that_does() {
        let error = chosen(&["lab_seed".to_owned(), "lab_sead".to_owned()]).err();
        let text = error.map(|error| error.to_string());
        assert!(text.is_some_and(|text| text.contains("lab_sead")));
    }

    #[test]
    fn several_names_choose_the_tests_of_each() {
        assert_eq!(
            names_of(&["lab_seed", "bad_peer"]),
            ["lab_seed", "lab_seed", "bad_peer"]
        );
        assert_eq!(names_of(&[]).len(), super::TESTS.len());
    }
}
