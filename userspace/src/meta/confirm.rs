//! Questions before something is overwritten.
//!
//! Only the line `yes` counts (`reference/userland.md` 4.3).

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use std::io::{IsTerminal, Read};

/// How long a pipe may take to deliver its answer.
const PIPE_PATIENCE: Timespec = Timespec {
    tv_sec: 2,
    tv_nsec: 0,
};

/// How questions are answered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Confirm {
    /// Everything is answered with yes.
    pub(crate) force: bool,
    /// With `force`: questions are not even printed.
    pub(crate) quiet: bool,
    /// How many were answered without being printed.
    pub(crate) suppressed: u32,
}

impl Confirm {
    /// Asks, and returns whether the answer is yes.
    pub(crate) fn ask(&mut self, question: &str) -> bool {
        if self.force && self.quiet {
            self.suppressed += 1;
            return true;
        }
        eprintln!("\n{question}");
        if self.force {
            eprintln!("*** confirmation forced via --force option ***");
            return true;
        }
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            eprint!("[need to type 'yes' to confirm] ");
            let answer = line();
            eprintln!();
            return answer == "yes";
        }
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        let is_there = matches!(poll(&mut fds, Some(&PIPE_PATIENCE)), Ok(ready) if ready > 0);
        if is_there && line() == "yes" {
            eprintln!("[need to type 'yes' to confirm] yes\n");
            return true;
        }
        eprintln!("stdin not a TTY, not waiting for confirmation");
        false
    }
}

/// Reads one line and no byte more: what follows belongs to the next question.
fn line() -> String {
    let mut bytes = Vec::new();
    let mut byte = [0; 1];
    let mut stdin = std::io::stdin().lock();
    while let Ok(1) = stdin.read(&mut byte) {
        if byte[0] == b'\n' {
            break;
        }
        bytes.push(byte[0]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
