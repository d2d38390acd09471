//! Rules about the sources that no compiler checks, also for the files that only Kbuild compiles.

use drbd_tidy::{rust_sources, scan, Source};

/// Fails with every offence, one on a line.
fn none(offences: &[String], rule: &str) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

fn offences(filter: impl Fn(&Source) -> bool, word: &str) -> Vec<String> {
    let sources = rust_sources();
    sources
        .iter()
        .filter(|file| filter(file))
        .flat_map(|file| file.lines_with(word))
        .collect()
}

#[test]
fn unsafe_stands_only_in_kabi() {
    none(
        &offences(|file| !file.is_kabi(), "unsafe"),
        "unsafe code belongs into kabi/",
    );
}

#[test]
fn raw_bindings_are_used_only_in_kabi() {
    let sources = rust_sources();
    let module = sources
        .iter()
        .filter(|file| file.path.starts_with("drivers/") && !file.is_kabi());
    let hits: Vec<String> = module
        .flat_map(|file| file.lines_with("bindings"))
        .collect();
    none(&hits, "kernel::bindings belongs into kabi/");
}

#[test]
fn kabi_does_not_know_the_core() {
    none(
        &offences(Source::is_kabi, "drbd_core"),
        "kabi/ decides nothing, so it names no core",
    );
}

#[test]
fn the_two_pure_crates_forbid_unsafe_code() {
    for root in ["core/drbd_core.rs", "format/drbd_format.rs"] {
        let path = format!("drivers/block/drbd/{root}");
        let sources = rust_sources();
        let file = sources.iter().find(|file| file.path == path);
        let text = file.map(|file| file.text.as_str()).unwrap_or_default();
        assert!(
            text.contains("#![forbid(unsafe_code)]"),
            "{path} must forbid unsafe code"
        );
    }
}

#[test]
fn every_unsafe_is_explained() {
    let mut hits = Vec::new();
    for file in rust_sources() {
        let lines: Vec<&str> = file.text.lines().collect();
        for (index, code) in file.code.iter().enumerate() {
            let opens = scan::has_word(code, "unsafe")
                && (code.contains("unsafe {") || code.contains("unsafe impl"));
            if opens && !is_explained(&lines, index) {
                hits.push(format!("{}:{}", file.path, index + 1));
            }
        }
    }
    none(&hits, "unsafe needs a SAFETY comment above it");
}

/// Whether the statement that line `index` belongs to carries the comment asked for.
fn is_explained(lines: &[&str], index: usize) -> bool {
    let above = lines.get(..=index).unwrap_or_default();
    for (distance, line) in above.iter().rev().enumerate() {
        let line = line.trim();
        if line.contains("SAFETY:") {
            return true;
        }
        let comment = line.starts_with("//") || line.starts_with('#');
        let ends = line.is_empty() || line.ends_with(';') || line.ends_with('}');
        if distance > 0 && !comment && ends {
            return false;
        }
    }
    false
}

#[test]
fn files_are_short_enough_to_read() {
    let mut hits = Vec::new();
    for file in rust_sources() {
        let limit = if file.path.ends_with("drbd/core/resource.rs") {
            400
        } else {
            800
        };
        let len_lines = file.text.lines().count();
        if len_lines > limit {
            hits.push(format!("{}: {len_lines} lines, {limit} allowed", file.path));
        }
    }
    none(&hits, "a file does too much");
}

#[test]
fn functions_are_short_enough_to_see() {
    const LIMIT: usize = 70;
    let mut hits = Vec::new();
    for file in rust_sources() {
        let long = scan::functions(&file.code)
            .into_iter()
            .filter(|f| f.len_lines > LIMIT);
        hits.extend(long.map(|f| {
            format!(
                "{}:{}: {} has {} lines, {LIMIT} allowed",
                file.path, f.line, f.name, f.len_lines
            )
        }));
    }
    none(&hits, "a function does too much");
}

#[test]
fn lines_fit_into_a_hundred_columns() {
    let mut hits = Vec::new();
    for file in rust_sources() {
        let long = file
            .text
            .lines()
            .enumerate()
            .filter(|(_, line)| line.chars().count() > 100);
        hits.extend(long.map(|(index, _)| format!("{}:{}", file.path, index + 1)));
    }
    none(&hits, "lines are longer than 100 columns");
}

#[test]
fn every_file_says_what_it_is_for() {
    let sources = rust_sources();
    let silent = sources
        .iter()
        .filter(|file| !file.text.trim_start().starts_with("//!"));
    let hits: Vec<String> = silent
        .filter(|file| !file.text.starts_with("// SPDX") || !file.text.contains("\n//! "))
        .map(|file| file.path.clone())
        .collect();
    none(&hits, "a file opens with a comment about its purpose");
}

#[test]
fn nothing_is_left_for_later() {
    let mut hits = Vec::new();
    for mark in ["FIXME", "XXX", "HACK"] {
        for file in rust_sources()
            .iter()
            .filter(|file| !file.path.starts_with("tests/tidy/"))
        {
            let lines = file.text.lines().enumerate();
            let marked = lines.filter(|(_, line)| {
                // A name like the lab's "intralabXX" is not a mark.
                line.contains("//") && scan::has_word(line, mark)
            });
            hits.extend(marked.map(|(index, _)| format!("{}:{}: {mark}", file.path, index + 1)));
        }
    }
    for name in ["todo", "unimplemented", "dbg"] {
        for file in rust_sources() {
            let calls = file.code.iter().enumerate();
            let calls = calls.filter(|(_, line)| line.contains(&format!("{name}!(")));
            hits.extend(calls.map(|(index, _)| format!("{}:{}: {name}!", file.path, index + 1)));
        }
    }
    none(&hits, "unfinished code");
}
