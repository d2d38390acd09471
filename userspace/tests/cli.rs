//! Runs the recorded command lines of `tests/cli` and compares what they print.
//!
//! Each file `tests/cli/*.session` holds a node name and command lines with their output:
//!
//! ```text
//! node alpha
//! $ drbdadm -c conf/several.conf -d primary r0
//! drbdsetup primary 0
//! ```
//!
//! Lines of the standard error follow those of the standard output and begin with `! `; an exit
//! code other than 0 follows as `? code`. `VAR=value` may stand in front of the command. With
//! `UPDATE_GOLDEN=1` in the environment the files are written anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the pretended node name adds to the standard error.
const PRETENDING: usize = 4;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cli")
}

/// A recorded command line and what it printed.
struct Record {
    line: String,
    output: String,
}

/// A file of records that were made on one node.
struct Session {
    comments: String,
    node: String,
    records: Vec<Record>,
}

fn parse(text: &str) -> Session {
    let mut session = Session {
        comments: String::new(),
        node: String::new(),
        records: Vec::new(),
    };
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            let line = command.to_owned();
            let output = String::new();
            session.records.push(Record { line, output });
        } else if let Some(record) = session.records.last_mut() {
            record.output.push_str(line);
            record.output.push('\n');
        } else if let Some(node) = line.strip_prefix("node ") {
            session.node = node.to_owned();
        } else {
            session.comments.push_str(line);
            session.comments.push('\n');
        }
    }
    session
}

fn run(node: &str, line: &str) -> String {
    let mut words = line.split_whitespace().peekable();
    let mut command = Command::new(env!("CARGO_BIN_EXE_drbd-tools"));
    while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
        command.env(name, value);
        words.next();
    }
    command
        .args(words)
        .current_dir(folder())
        .stdin(Stdio::null());
    command.env("__DRBD_NODE__", node).env_remove("SHOW_ALL");
    let output = command.output().expect("the tool can be started");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let is_notice = errors.starts_with("\n   found __DRBD_NODE__");
    for line in errors.lines().skip(if is_notice { PRETENDING } else { 0 }) {
        text.push_str(format!("! {line}").trim_end());
        text.push('\n');
    }
    match output.status.code() {
        Some(0) => {}
        code => text.push_str(&format!("? {}\n", code.map_or(-1, |code| code))),
    }
    let here = fs::canonicalize(folder()).expect("the folder exists");
    text.replace(&*here.to_string_lossy(), "[HERE]")
}

/// What users saw when the sessions were recorded is what they see today.
#[test]
fn recorded_sessions_repeat() {
    let is_update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut names: Vec<PathBuf> = fs::read_dir(folder())
        .expect("the folder can be read")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "session"))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "there are recorded sessions");
    let mut differences = String::new();
    for path in names {
        let session = parse(&fs::read_to_string(&path).expect("a text"));
        let mut text = format!("{}node {}\n", session.comments, session.node);
        for record in &session.records {
            let found = run(&session.node, &record.line);
            text.push_str(&format!("$ {}\n{found}", record.line));
            if found != record.output {
                differences.push_str(&format!(
                    "{}: {}\n--- recorded\n{}--- found\n{found}\n",
                    path.display(),
                    record.line,
                    record.output
                ));
            }
        }
        if is_update {
            fs::write(&path, text).expect("the file can be written");
        }
    }
    assert!(is_update || differences.is_empty(), "{differences}");
}

/// `dump` prints what it can read again, with the same meaning.
#[test]
fn what_dump_prints_can_be_read_again() {
    let scratch = std::env::temp_dir().join(format!("drbd-dump-{}", std::process::id()));
    fs::create_dir_all(&scratch).expect("a scratch folder");
    let conf = folder().join("conf");
    for entry in fs::read_dir(conf).expect("the folder can be read") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|ext| ext != "conf") {
            continue;
        }
        for options in [&["-d"][..], &["-d", "-v"]] {
            let first = dump(&path, options);
            let copy = scratch.join("copy.conf");
            fs::write(&copy, &first).expect("the copy can be written");
            let second = dump(&copy, options);
            assert_eq!(facts(&first), facts(&second), "{}", path.display());
        }
    }
    fs::remove_dir_all(scratch).expect("the scratch folder can be removed");
}

/// The kernel abandons a command whose caller is killed, so that one which waits there for a
/// bitmap, for writes or for a handshake has the longer limit.
#[test]
fn commands_that_wait_in_the_kernel_are_not_cut_short() {
    let patient = [
        "check-resize",
        "invalidate",
        "invalidate-remote",
        "new-current-uuid",
        "resize",
        "resume-io",
        "suspend-io",
        "verify",
    ];
    let hasty = ["outdate", "pause-sync", "resume-sync", "role"];
    let commands = patient.map(|command| (command, 2)).into_iter();
    let commands: Vec<_> = commands.chain(hasty.map(|command| (command, 1))).collect();
    std::thread::scope(|scope| {
        for (command, seconds) in commands {
            scope.spawn(move || {
                let call = command.trim_start_matches("check-");
                let line = format!(
                    "HANG={call} drbdadm -c conf/patient.conf -s ./drbdsetup -m ./drbdmeta \
                     {command} r0"
                );
                let wanted = format!(
                    "! Command './drbdsetup {call} 0' did not terminate within {seconds} \
                     seconds\n? 20\n"
                );
                assert_eq!(run("alpha", &line), wanted, "{command}");
            });
        }
    });
}

fn dump(path: &Path, options: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drbd-tools"));
    command
        .args(["drbdadm", "-c"])
        .arg(path)
        .args(options)
        .arg("dump");
    let output = command
        .env("__DRBD_NODE__", "alpha")
        .output()
        .expect("the tool runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", path.display());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The statements without the comments, which name the file.
fn facts(dump: &str) -> Vec<&str> {
    dump.lines().filter(|line| !line.starts_with('#')).collect()
}
