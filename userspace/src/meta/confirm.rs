//! Questions before something is overwritten.
//!
//! Only the line `yes` counts (`reference/userland.md` 4.3).

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd};

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
            let answer = line(stdin.as_fd());
            eprintln!();
            return answer == "yes";
        }
        if arrived(stdin.as_fd()).is_some_and(|answer| answer == "yes") {
            eprintln!("[need to type 'yes' to confirm] yes\n");
            return true;
        }
        eprintln!("stdin not a TTY, not waiting for confirmation");
        false
    }
}

/// Returns the line that a pipe or file delivers in time.
fn arrived(input: BorrowedFd<'_>) -> Option<String> {
    let mut fds = [PollFd::new(&input, PollFlags::IN)];
    let is_there = matches!(poll(&mut fds, Some(&PIPE_PATIENCE)), Ok(ready) if ready > 0);
    is_there.then(|| line(input))
}

/// Reads one line and no byte more: what follows belongs to the next question, which may be that
/// of another process.
fn line(input: BorrowedFd<'_>) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0; 1];
    loop {
        match rustix::io::read(input, &mut byte) {
            Ok(1) if byte[0] != b'\n' => bytes.push(byte[0]),
            Err(Errno::INTR) => {}
            _ => break,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_takes_the_line_that_is_meant_for_it() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&writer, b"yes\nno\nyes\nrest").unwrap();
        let answers = [0; 3].map(|_| arrived(reader.as_fd()).unwrap_or_default());
        assert_eq!(answers, ["yes", "no", "yes"]);
        let mut left = [0; 8];
        let len = rustix::io::read(&reader, &mut left).unwrap();
        assert_eq!(&left[..len], b"rest", "for whoever asks next");
        assert_eq!(arrived(reader.as_fd()), None, "nobody has to wait for long");
    }
}
