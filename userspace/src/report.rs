//! One place that turns failures into sentences and exit codes.
//!
//! Texts and codes: `reference/userland.md` 3.3 and 4.2. Data goes to standard output, everything
//! here to standard error.

use crate::netlink::message::DrbdMessage;
use crate::netlink::request::{strerror, ChannelError};
use drbd_format::netlink::codes::RetCode;
use std::io::{ErrorKind, Write};
use std::sync::OnceLock;

/// Prints a line of data to standard output.
macro_rules! outln {
    ($($part:tt)*) => {
        $crate::report::out(&(format!($($part)*) + "\n"))
    };
}

pub(crate) use outln;

/// Exit code for usage errors, local problems and everything unforeseen.
pub(crate) const RC_LOCAL: u8 = 20;

/// A command that ends with a sentence and an exit code.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    /// Exit code of the program.
    pub(crate) code: u8,
    /// What is printed; may be empty.
    pub(crate) text: String,
}

/// Exit code, or why there is none.
pub(crate) type Outcome = Result<u8, Failure>;

impl Failure {
    /// A failure with an exit code of its own.
    pub(crate) fn new(code: u8, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    /// A usage error or local problem.
    pub(crate) fn local(text: impl Into<String>) -> Self {
        Self::new(RC_LOCAL, text)
    }

    /// Prints the sentence and returns the exit code.
    pub(crate) fn report(&self) -> u8 {
        let _ = std::io::stdout().flush();
        if !self.text.is_empty() {
            eprintln!("{}", self.text);
        }
        self.code
    }
}

impl From<ChannelError> for Failure {
    fn from(error: ChannelError) -> Self {
        Self::local(error.to_string())
    }
}

impl From<drbd_format::netlink::tlv::NoSpace> for Failure {
    fn from(_: drbd_format::netlink::tlv::NoSpace) -> Self {
        Self::local("a name or value is too long for the kernel")
    }
}

impl From<drbd_format::netlink::tlv::TlvError> for Failure {
    fn from(error: drbd_format::netlink::tlv::TlvError) -> Self {
        Self::local(format!("unreadable answer of the kernel: {error}"))
    }
}

/// Says why a command about `object` got no answer.
pub(crate) fn no_answer(object: &str, error: ChannelError) -> Failure {
    match error {
        ChannelError::Refused(error) => Failure::local(format!("{object}: {}", strerror(&error))),
        other => other.into(),
    }
}

/// Turns an answer of the kernel into success or the failure to report.
///
/// `object` is the object of the command as the user typed it.
pub(crate) fn check_answer(object: &str, answer: &DrbdMessage) -> Result<(), Failure> {
    let code = answer.ret_code();
    if code.is_success() {
        return Ok(());
    }
    let mut failure = describe(object, code);
    let texts = answer.info_texts();
    if !texts.is_empty() {
        failure.text.push_str("\nadditional info from kernel:");
        for text in texts {
            failure.text.push('\n');
            failure.text.push_str(&text);
        }
    }
    Err(failure)
}

fn describe(object: &str, code: RetCode) -> Failure {
    let number = code.0;
    match code.text() {
        None => Failure::local(format!(
            "{object}: Error code {number} unknown.\nYou should update the drbd userland tools."
        )),
        Some(text) if code.is_state_change() => {
            let gap = if number == 0 { "" } else { " " };
            let exit = match code {
                RetCode::SS_NO_UP_TO_DATE_DISK => 17,
                RetCode::SS_NO_LOCAL_DISK => 16,
                RetCode::SS_LOWER_THAN_OUTDATED => 5,
                _ => 11,
            };
            Failure::new(
                exit,
                format!("{object}: State change failed: ({number}){gap}{text}"),
            )
        }
        Some(text) => Failure::new(10, format!("{object}: Failure: ({number}) {text}")),
    }
}

/// Prints data to standard output at once. A reader that went away is no error.
pub(crate) fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    if let Err(error) = written {
        if error.kind() != ErrorKind::BrokenPipe {
            let _ = LOST.set(lost(&error));
        }
    }
}

/// Prints to standard error, if anybody reads it.
pub(crate) fn err(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// What became of the first output that was lost, other than by its reader.
static LOST: OnceLock<Failure> = OnceLock::new();

/// Returns what a command ends with that has lost some of its output.
pub(crate) fn loss() -> Option<&'static Failure> {
    LOST.get()
}

/// The failure of output that cannot be written.
pub(crate) fn lost(error: &std::io::Error) -> Failure {
    Failure::local(format!("write error: {}", strerror(error)))
}

/// Splits seconds since 1970 into a date and a time of day, in coordinated universal time.
pub(crate) fn utc(seconds: u64) -> (String, String) {
    let (days, rest) = (seconds / 86400, seconds % 86400);
    // Years are counted from March, so that the day of a leap year comes last.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = year + era * 400 + carry;
    (
        format!("{year:04}-{month:02}-{day:02}"),
        format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60),
    )
}

/// Shows a size in KiB as the kernel and drbdmeta do: four digits at most, then the next unit.
pub(crate) fn kib(mut value: u64) -> String {
    let mut units = ["KB", "MB", "GB", "TB", "PB", "EB"].iter();
    let mut unit = units.next().unwrap_or(&"");
    while value >= 10000 {
        let Some(next) = units.next() else { break };
        value = (value >> 10) + u64::from(value & 512 != 0);
        unit = next;
    }
    format!("{value} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lab_sees_its_exit_codes() {
        let failure = describe("0", RetCode::SS_NO_UP_TO_DATE_DISK);
        assert_eq!(failure.code, 17);
        assert_eq!(
            failure.text,
            "0: State change failed: (-2) Need access to UpToDate data"
        );
        let failure = describe("0", RetCode::SS_DEVICE_IN_USE);
        assert_eq!(failure.code, 11);
        assert_eq!(
            failure.text,
            "0: State change failed: (-12) Device is held open by someone"
        );
        let failure = describe("0", RetCode::MINOR_INVALID);
        assert_eq!(
            (failure.code, &*failure.text),
            (10, "0: Failure: (127) Device minor not allocated")
        );
        let failure = describe("r0", RetCode(0));
        assert_eq!(failure.text, "r0: State change failed: (0)unknown error.");
        assert_eq!(describe("r0", RetCode(4711)).code, 20);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let date = |seconds| {
            let (date, time) = utc(seconds);
            format!("{date} {time}")
        };
        assert_eq!(date(0), "1970-01-01 00:00:00");
        assert_eq!(date(951_782_399), "2000-02-28 23:59:59");
        assert_eq!(date(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(date(1_767_323_045), "2026-01-02 03:04:05");
    }

    #[test]
    fn sizes_have_at_most_four_digits() {
        assert_eq!(kib(96), "96 KB");
        assert_eq!(kib(9999), "9999 KB");
        assert_eq!(kib(65496), "64 MB");
        assert_eq!(kib(3144572), "3071 MB");
    }
}
