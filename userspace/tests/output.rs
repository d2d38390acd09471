//! What becomes of a command whose output cannot be written.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Takes no byte.
const FULL: &str = "/dev/full";

fn tool(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drbd-tools"));
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cli");
    command
        .args(words)
        .current_dir(folder)
        .env("__DRBD_NODE__", "alpha")
        .stdin(Stdio::null());
    command
}

/// A pipe that nobody reads.
fn deserted() -> Stdio {
    let mut reader = Command::new("true")
        .stdin(Stdio::piped())
        .spawn()
        .expect("true");
    let pipe = reader.stdin.take().expect("a pipe");
    reader.wait().expect("it ends");
    pipe.into()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

const UP: &[&str] = &["drbdadm", "-c", "conf/several.conf", "-d", "up", "r0"];

/// Otherwise a dump of metadata that did not fit would be taken for a good one.
#[test]
fn output_that_was_not_written_is_no_success() {
    let dump = &["drbdadm", "-c", "conf/several.conf", "-d", "dump"][..];
    for words in [UP, dump, &["drbdsetup", "xml-help", "attach"]] {
        let full = File::options().write(true).open(FULL).expect(FULL);
        let output = tool(words).stdout(full).output().expect("the tool runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(code(&output), Some(20), "{words:?}: {said}");
        let last = said.lines().last();
        assert_eq!(
            last,
            Some("write error: No space left on device"),
            "{words:?}"
        );
    }
}

/// Work is not left half done because nobody reads about it.
#[test]
fn nobody_has_to_listen() {
    let misuse = &["drbdadm", "-c", "conf/several.conf", "-d", "up", "nobody"][..];
    for (words, wanted) in [(UP, 0), (misuse, 1)] {
        let mut silent = tool(words);
        let output = silent.stdout(deserted()).output().expect("the tool runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(code(&output), Some(wanted), "{words:?}: {said}");
        let mut deaf = tool(words);
        let output = deaf.stderr(deserted()).output().expect("the tool runs");
        assert_eq!(code(&output), Some(wanted), "{words:?}");
    }
}
