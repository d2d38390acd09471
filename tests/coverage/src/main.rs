//! Prints which lines of the two crates were run, by file and in total, and which packet handlers
//! and state transitions were not.
//!
//! `drbd-coverage FILE` reads what `llvm-cov export -format=lcov` wrote; `scripts/coverage` makes
//! it. Fails below 95 % of the lines, or if a handler or a transition is missing.

use std::collections::BTreeMap;
use std::process::ExitCode;

use drbd_coverage::{counts_file, ranges, read_counts, report, Kind, Report};
use drbd_tidy::{rust_sources, top};

/// Least part of the lines, in percent.
const WANTED: f64 = 95.0;

fn percent(part: usize, whole: usize) -> f64 {
    // CAST: Numbers of lines are small.
    100.0 * part as f64 / whole.max(1) as f64
}

fn line_of(name: &str, lines: usize, missed: usize) -> String {
    let run = lines - missed;
    let part = percent(run, lines);
    format!("{part:6.2} %  {run:>5} of {lines:>5}  {name}")
}

fn sum(name: &str, reports: &[(String, Report)]) -> f64 {
    let of_crate = reports
        .iter()
        .filter(|(path, _)| name == "both" || path.starts_with(name));
    let (lines, missed) = of_crate.fold((0, 0), |(lines, missed), (_, report)| {
        (lines + report.lines, missed + report.missed.len())
    });
    println!("{}", line_of(name, lines, missed));
    percent(lines - missed, lines)
}

/// Prints what is missing of a kind; returns whether nothing is.
fn print_places(kind: Kind, title: &str, reports: &[(String, Report)]) -> bool {
    let all: usize = reports.iter().map(|(_, r)| r.places[kind as usize]).sum();
    let missed: Vec<String> = reports
        .iter()
        .flat_map(|(path, report)| {
            let places = report.missed_places.iter().filter(|p| p.kind == kind);
            places.map(move |p| format!("  {path}:{}: {}", p.line, p.text))
        })
        .collect();
    println!("{title}: {} of {all} run", all - missed.len());
    for line in &missed {
        println!("{line}");
    }
    missed.is_empty() && all > 0
}

fn main() -> ExitCode {
    let Some(text) = std::env::args()
        .nth(1)
        .and_then(|file| std::fs::read_to_string(file).ok())
    else {
        eprintln!("usage: drbd-coverage FILE (see scripts/coverage)");
        return ExitCode::from(2);
    };
    let top = top().canonicalize().unwrap_or_else(|_| top());
    let counts: BTreeMap<String, BTreeMap<usize, u64>> = read_counts(&text)
        .into_iter()
        .filter_map(|(path, lines)| {
            let below = path.strip_prefix(top.to_str()?)?.trim_start_matches('/');
            Some((below.to_owned(), lines))
        })
        .collect();
    let mut reports = Vec::new();
    for source in rust_sources().iter().filter(|s| counts_file(&s.path)) {
        if let Some(lines) = counts.get(&source.path) {
            let name = source.path.trim_start_matches("drivers/block/drbd/");
            reports.push((name.to_owned(), report(source, lines)));
        }
    }
    for (path, report) in &reports {
        let line = line_of(path, report.lines, report.missed.len());
        println!(
            "{}",
            format!("{line:<60} {}", ranges(&report.missed)).trim_end()
        );
    }
    println!();
    sum("core", &reports);
    sum("format", &reports);
    let part = sum("both", &reports);
    let packets = print_places(Kind::Packet, "packet handlers", &reports);
    let transitions = print_places(Kind::Transition, "state transitions", &reports);
    if part >= WANTED && packets && transitions {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
