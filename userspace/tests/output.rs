//! What becomes of a command whose output cannot be written.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

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

/// What waits for hours must not keep a file system from being unmounted.
#[test]
fn a_waiting_drbdsetup_keeps_no_folder_busy() {
    const ONE_PAGE: usize = 4096;
    // Were the reader the child's as well, it would wait for itself.
    let ends = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let (reader, writer) = ends.expect("a pipe");
    let len = rustix::pipe::fcntl_setpipe_size(&writer, ONE_PAGE).expect("a small pipe");
    let filled = rustix::io::write(&writer, &vec![0; len]);
    assert_eq!(filled, Ok(len), "nothing more fits");
    let mut command = tool(&["drbdsetup", "xml-help", "attach"]);
    let mut child = command.stdout(writer).spawn().expect("the tool runs");
    let folder = PathBuf::from(format!("/proc/{}/cwd", child.id()));
    let deadline = Instant::now() + Duration::from_secs(20);
    let is_free = || std::fs::read_link(&folder).is_ok_and(|at| at == Path::new("/"));
    while !is_free() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(is_free(), "{:?}", std::fs::read_link(&folder));
    drop(reader);
    child.wait().expect("nobody listens, so it ends");
}
