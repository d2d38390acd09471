//! What the harness and the agent on a node say to each other.
//!
//! One JSON object per line over a serial line of the node. Requests carry a number; answers carry
//! the same one and may come in any order, so a long command does not hold up the others.

use serde::{Deserialize, Serialize};

/// A request or answer with the number that joins the two.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Framed<T> {
    /// Chosen by the harness, unique per boot of the node. 0 is the agent's greeting.
    pub(crate) id: u64,
    /// The message itself.
    pub(crate) body: T,
}

/// What the harness asks of the agent.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Request {
    /// Run a shell command and report how it ended.
    Run {
        /// Text for `sh -c`.
        command: String,
        /// The command and its process group are killed after this time.
        deadline_ms: u64,
    },
    /// Read a file again and again until it says what is wanted.
    Wait {
        /// The file, usually `/proc/drbd`.
        path: String,
        /// Look only at the lines of this minor, as `/proc/drbd` groups them.
        minor: Option<u32>,
        /// All of these must be there.
        all: Vec<String>,
        /// None of these may be there.
        none: Vec<String>,
        /// Give up after this time.
        deadline_ms: u64,
    },
}

/// What the agent answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Reply {
    /// First message after boot.
    Hello {
        /// `uname -r` of the node.
        release: String,
    },
    /// A command has ended, or its deadline has passed.
    Ran {
        /// Exit status; 128 plus the signal for a killed command.
        status: i32,
        /// Standard output.
        stdout: String,
        /// Standard error.
        stderr: String,
        /// The command was killed at its deadline.
        timed_out: bool,
    },
    /// A wait has ended.
    Waited {
        /// The condition was met before the deadline.
        met: bool,
        /// The text that was seen last.
        text: String,
    },
}

/// Returns the lines of one minor of a `/proc/drbd` text: the line that starts with its number and
/// everything up to the next device or empty line.
pub(crate) fn lines_of_minor(text: &str, minor: u32) -> String {
    let head = format!("{minor:2}: ");
    let mut out = String::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with(&head) {
            inside = true;
        } else if inside && !(line.starts_with('\t') || line.starts_with("    ")) {
            break;
        }
        if inside {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::lines_of_minor;

    #[test]
    fn a_minor_owns_its_counters_and_progress_and_nothing_else() {
        let text = "version: 8.4.11 (api:1/proto:86-101)\nsrcversion: 0F \n \
             0: cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent C r-----\n    \
             ns:1 nr:0\n\t[>....] sync'ed:  8.0% (1/2)K\n\tfinish: 0:00:01\n \
             1: cs:Unconfigured\n10: cs:Unconfigured\n";
        let zero = lines_of_minor(text, 0);
        assert!(
            zero.contains("SyncSource") && zero.contains("finish"),
            "{zero}"
        );
        assert!(!zero.contains("Unconfigured"), "{zero}");
        assert_eq!(lines_of_minor(text, 1), " 1: cs:Unconfigured\n");
        assert_eq!(lines_of_minor(text, 10), "10: cs:Unconfigured\n");
        assert_eq!(lines_of_minor(text, 7), "");
    }
}
