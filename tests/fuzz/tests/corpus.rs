//! Every input that was worth keeping, without a fuzzer.

use std::fs;
use std::path::Path;

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// Inputs of a target, in the order of their names.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder().join(target)).expect("a corpus for every target");
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("readable").path();
            let name = path.display().to_string();
            (name, fs::read(path).expect("readable"))
        })
        .collect();
    inputs.sort();
    inputs
}

#[test]
fn every_input_of_the_corpus_is_taken_by_its_target() {
    for (target, run) in drbd_fuzz::TARGETS {
        let inputs = inputs(target);
        assert!(inputs.len() > 20, "{target} has lost its corpus");
        for (name, data) in inputs {
            // Printed only after a failure.
            println!("{name}");
            run(&data);
        }
    }
}

#[test]
fn the_corpus_belongs_to_targets_and_stays_small() {
    let mut total = 0;
    for entry in fs::read_dir(folder()).expect("a corpus") {
        let entry = entry.expect("readable");
        let name = entry.file_name().into_string().expect("a plain name");
        assert!(
            drbd_fuzz::TARGETS.iter().any(|(target, _)| *target == name),
            "{name} is no target"
        );
        total += inputs(&name)
            .iter()
            .map(|(_, data)| data.len())
            .sum::<usize>();
    }
    assert!(total < 400 * 1024, "{total} bytes: make fuzz MERGE=1");
}
