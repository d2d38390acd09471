//! Reads what llvm-cov counted and what the sources of the two crates say about themselves: which
//! lines count, and which of them begin the handling of a packet or a transition of states.
//!
//! Tests do not count, neither do known bugs put back on purpose (`core/put_back.rs`).

use std::collections::BTreeMap;
use std::fmt::Write;

use drbd_tidy::{scan, Source};

/// How often each line of each file was run; lines without code are missing. Files are named as
/// llvm-cov names them.
pub type Counts = BTreeMap<String, BTreeMap<usize, u64>>;

/// Reads the output of `llvm-cov export -format=lcov`.
pub fn read_counts(text: &str) -> Counts {
    let mut counts = Counts::new();
    let mut file = String::new();
    for line in text.lines() {
        if let Some(path) = line.strip_prefix("SF:") {
            file = path.to_owned();
        }
        let pair = line.strip_prefix("DA:").and_then(|l| l.split_once(','));
        if let Some((line, count)) = pair {
            if let (Ok(line), Ok(count)) = (line.parse(), count.parse::<u64>()) {
                let lines = counts.entry(file.clone()).or_default();
                *lines.entry(line).or_default() += count;
            }
        }
    }
    counts
}

/// What a place in the code is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Deals with a packet.
    Packet,
    /// Belongs to the table of states.
    Transition,
}

/// A function or an arm of a `match` that has to be run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// Packet or transition.
    pub kind: Kind,
    /// Its line, counted from one.
    pub line: usize,
    /// The line itself.
    pub text: String,
    /// Its code begins on a later line.
    opens: bool,
}

/// Whether the file has code of the two crates that is not a test.
pub fn counts_file(path: &str) -> bool {
    let Some(path) = path.strip_prefix("drivers/block/drbd/") else {
        return false;
    };
    let inside = path.starts_with("core/") || path.starts_with("format/");
    let test = path.contains("/tests") || path.ends_with("_tests.rs");
    inside && !test && path != "core/put_back.rs"
}

/// For each line whether it counts: not part of a test, not of a known bug.
pub fn lines_that_count(source: &Source) -> Vec<bool> {
    let mut counted = vec![true; source.code.len()];
    for (index, line) in source.code.iter().enumerate() {
        let test = line.trim() == "#[cfg(test)]";
        let bug = scan::has_word(line, "put_back") && line.contains("Bug::");
        // A bug that is not put back is the usual way.
        let block = test || (bug && !line.contains("!put_back") && line.trim_end().ends_with('{'));
        let end = if block {
            end_of_block(&source.code, index)
        } else {
            index
        };
        if test || bug {
            counted
                .iter_mut()
                .take(end + 1)
                .skip(index)
                .for_each(|c| *c = false);
        }
    }
    counted
}

/// The last line of the block, or of the declaration, that begins at `from`.
fn end_of_block(code: &[String], from: usize) -> usize {
    let mut depth = 0_usize;
    for (index, line) in code.iter().enumerate().skip(from) {
        for char in line.chars() {
            match char {
                '{' => depth += 1,
                '}' if depth <= 1 => return index,
                '}' => depth -= 1,
                ';' if depth == 0 => return index,
                _ => {}
            }
        }
    }
    code.len().saturating_sub(1)
}

/// The places of a file that have to be run.
///
/// Packets: arms of `core` that name one, and functions whose description begins with one.
/// Transitions: every arm and every function of `core/state` and of what follows from a change.
pub fn places(source: &Source) -> Vec<Place> {
    let path = source.path.as_str();
    let table = path.contains("/core/state/") || path.ends_with("/core/control/after.rs");
    let core = path.contains("/core/");
    let raw: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    let mut announced = false;
    for (index, line) in source.code.iter().enumerate() {
        let text = raw.get(index).copied().unwrap_or_default().trim();
        if text.starts_with("///") {
            let first = index == 0 || !raw[index - 1].trim().starts_with("///");
            announced = if first {
                text.starts_with("/// P_")
            } else {
                announced
            };
            continue;
        }
        let function = scan::has_word(line, "fn") && line.contains('(');
        let arm = line.contains("=>");
        let packet = arm && (line.contains("Packet::") || line.contains("Command::"));
        let kind = if table && (arm || function) {
            Some(Kind::Transition)
        } else if core && (packet || (function && announced)) {
            Some(Kind::Packet)
        } else {
            None
        };
        if let Some(kind) = kind {
            found.push(Place {
                kind,
                line: index + 1,
                text: text.to_owned(),
                opens: function || !line.trim_end().ends_with([',', '}']),
            });
        }
        if !text.starts_with("#[") {
            announced = false;
        }
    }
    found
}

/// What was found out about a file.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Lines with code.
    pub lines: usize,
    /// Those that were not run.
    pub missed: Vec<usize>,
    /// Places that have to be run, by kind: packets, transitions.
    pub places: [usize; 2],
    /// Those that were not.
    pub missed_places: Vec<Place>,
}

/// Compares a source with what was counted.
pub fn report(source: &Source, counts: &BTreeMap<usize, u64>) -> Report {
    let counted = lines_that_count(source);
    let is_counted = |line: usize| counted.get(line - 1).copied().unwrap_or(false);
    let mut report = Report::default();
    for (&line, &count) in counts.iter().filter(|(&line, _)| is_counted(line)) {
        report.lines += 1;
        if count == 0 {
            report.missed.push(line);
        }
    }
    for place in places(source) {
        let last = if place.opens { usize::MAX } else { place.line };
        let Some((_, &count)) = counts.range(place.line..=last).next() else {
            continue;
        };
        if !is_counted(place.line) {
            continue;
        }
        report.places[place.kind as usize] += 1;
        if count == 0 {
            report.missed_places.push(place);
        }
    }
    report
}

/// Lines as ranges: `3-5, 9`.
pub fn ranges(lines: &[usize]) -> String {
    let mut text = String::new();
    let mut lines = lines.iter().copied().peekable();
    while let Some(first) = lines.next() {
        let mut last = first;
        while let Some(next) = lines.next_if_eq(&(last + 1)) {
            last = next;
        }
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{comma}{first}");
        if last != first {
            let _ = write!(text, "-{last}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
/// P_DATA: a write.
fn write() {
    if put_back(Bug::Lost) {
        forget();
    }
    match packet {
        Packet::Data(data) => take(data),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    fn helper() {}
}
";

    fn source() -> Source {
        Source::new("drivers/block/drbd/core/data/receive.rs", TEXT)
    }

    #[test]
    fn tests_and_bugs_put_back_do_not_count() {
        let missing: Vec<usize> = lines_that_count(&source())
            .iter()
            .enumerate()
            .filter(|(_, counted)| !**counted)
            .map(|(index, _)| index + 1)
            .collect();
        assert_eq!(missing, [3, 4, 5, 12, 13, 14, 15]);
        assert!(!counts_file("drivers/block/drbd/core/tests/pair.rs"));
        assert!(!counts_file("drivers/block/drbd/core/state/tests.rs"));
        assert!(!counts_file("drivers/block/drbd/format/recorded_tests.rs"));
        assert!(!counts_file("drivers/block/drbd/net/acks.rs"));
        assert!(counts_file("drivers/block/drbd/core/data/receive.rs"));
    }

    #[test]
    fn a_handler_that_was_not_run_is_named() {
        let lcov = "SF:a.rs\nDA:2,1\nDA:3,1\nDA:4,0\nDA:6,1\nDA:7,0\nDA:8,1\nDA:14,0\n";
        let counts = read_counts(lcov);
        let report = report(&source(), &counts["a.rs"]);
        assert_eq!((report.lines, report.missed), (4, vec![7]));
        assert_eq!(report.places, [2, 0]);
        let missed: Vec<usize> = report.missed_places.iter().map(|p| p.line).collect();
        assert_eq!(missed, [7]);
    }

    #[test]
    fn every_arm_and_function_of_the_table_of_states_is_a_place() {
        let source = Source::new("drivers/block/drbd/core/state/sanitize.rs", TEXT);
        let lines: Vec<usize> = places(&source).iter().map(|p| p.line).collect();
        assert_eq!(lines, [2, 7, 8, 14]);
        assert!(places(&source).iter().all(|p| p.kind == Kind::Transition));
    }

    #[test]
    fn neighbouring_lines_are_one_range() {
        assert_eq!(ranges(&[3, 4, 5, 9, 11, 12]), "3-5, 9, 11-12");
        assert_eq!(ranges(&[]), "");
    }
}
