//! `wait-connect` and `wait-sync`: wait for the peer, but not for ever.
//!
//! Which of the three timeouts applies is known to the kernel: `reference/userland.md` 3.8.

use super::cmdline::Call;
use super::query::{state_of, VolumeStatus};
use crate::netlink::message::{DrbdMessage, Request};
use crate::netlink::request::{Channel, ChannelError, Received};
use crate::report::{Failure, Outcome};
use drbd_format::netlink::ids::Command;
use drbd_format::netlink::info::{
    notification, sib_reason, timeout_type, NotificationHeader, StateInfo, TimeoutParms,
};
use drbd_format::options::{number_in, Unit};
use drbd_format::types::ConnState;
use std::time::{Duration, Instant};

/// Exit code after a timeout.
const RC_TIMEOUT: u8 = 5;

const TIMEOUT_MAX_S: u64 = 300_000;

/// Waits until the peer is connected.
pub(super) fn wait_connect(call: &Call<'_>) -> Outcome {
    wait(call, |conn| conn >= ConnState::Connected)
}

/// Waits until the peer is connected and nothing is left to sync.
pub(super) fn wait_sync(call: &Call<'_>) -> Outcome {
    wait(call, |conn| conn == ConnState::Connected)
}

/// Timeouts in seconds, 0 for ever.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Timeouts {
    wfc: u64,
    degraded: u64,
    outdated: u64,
}

impl Timeouts {
    fn read(call: &Call<'_>) -> Result<Self, Failure> {
        let given = |name: &str| match call.local(name).flatten() {
            Some(word) => seconds(name, word),
            None => Ok(0),
        };
        let mut timeouts = Self {
            wfc: given("wfc-timeout")?,
            degraded: given("degr-wfc-timeout")?,
            outdated: given("outdated-wfc-timeout")?,
        };
        for note in timeouts.order() {
            eprintln!("{note}");
        }
        Ok(timeouts)
    }

    /// Shortens timeouts that are longer than the more general one.
    fn order(&mut self) -> Vec<String> {
        let mut notes = Vec::new();
        let mut shorten = |inner: &mut u64, outer: u64, inner_name: &str, outer_name: &str| {
            if outer != 0 && (outer < *inner || *inner == 0) {
                *inner = outer;
                notes.push(format!("{inner_name} has to be shorter than {outer_name}"));
                notes.push(format!(
                    "{inner_name} implicitly set to {outer_name} ({outer}s)"
                ));
            }
        };
        shorten(
            &mut self.degraded,
            self.wfc,
            "degr-wfc-timeout",
            "wfc-timeout",
        );
        shorten(
            &mut self.outdated,
            self.degraded,
            "outdated-wfc-timeout",
            "degr-wfc-timeout",
        );
        notes
    }

    /// Returns the longest that may apply, once they are in order.
    fn longest(self) -> u64 {
        self.wfc
    }

    fn that_applies(self, class: u32) -> u64 {
        match class {
            timeout_type::DEGRADED => self.degraded,
            timeout_type::PEER_OUTDATED => self.outdated,
            _ => self.wfc,
        }
    }
}

fn seconds(name: &str, word: &str) -> Result<u64, Failure> {
    let value = number_in(Unit::Seconds, word)
        .map_err(|_| Failure::local(format!("{word} is not a valid number")))?;
    if value > TIMEOUT_MAX_S {
        let name = name.replace('-', "_");
        return Err(Failure::local(format!(
            "{name} => {value} out of range [0..{TIMEOUT_MAX_S}]"
        )));
    }
    Ok(value)
}

fn wait(call: &Call<'_>, is_reached: fn(ConnState) -> bool) -> Outcome {
    let timeouts = Timeouts::read(call)?;
    let wait_after_sb = match call.local("wait-after-sb") {
        None | Some(Some("no")) => false,
        Some(None | Some("yes")) => true,
        Some(Some(word)) => {
            let text = format!("Option --wait-after-sb: invalid argument '{word}'");
            return Err(Failure::local(text));
        }
    };
    let minor = call.minor()?.unwrap_or_default();
    let start = Instant::now();
    let mut events = Channel::open()?;
    events.subscribe()?;
    // The answer to a question would be lost in a socket that is full of events.
    let mut questions = Channel::open()?;
    let after = |seconds: u64| (seconds != 0).then(|| start + Duration::from_secs(seconds));
    let mut class = || {
        let request = Request::new(Command::GetTimeoutType).minor(minor);
        questions.command_until(request, after(timeouts.longest()))
    };
    let Some(class) = class_of(&mut class, after(timeouts.longest()))? else {
        return Ok(RC_TIMEOUT);
    };
    let deadline = after(timeouts.that_applies(class));
    let mut ask = || {
        let request = Request::new(Command::GetStatus).minor(minor);
        questions.command_until(request, deadline)
    };
    let mut next = || events.next_event(deadline);
    let is_over = |conn| is_over(conn, is_reached, wait_after_sb);
    watch(&mut ask, &mut next, minor, deadline, &is_over)
}

/// Asks for the state, again whenever events were lost, and waits for its change.
fn watch(
    ask: &mut dyn FnMut() -> Result<DrbdMessage, ChannelError>,
    next: &mut dyn FnMut() -> Result<Option<Received>, ChannelError>,
    minor: u32,
    deadline: Option<Instant>,
    is_over: &dyn Fn(ConnState) -> bool,
) -> Outcome {
    loop {
        let answer = match ask() {
            Ok(answer) => answer,
            Err(ChannelError::Overrun) => continue,
            Err(ChannelError::Timeout) if is_past(deadline) => return Ok(RC_TIMEOUT),
            Err(error) => return Err(error.into()),
        };
        if !answer.ret_code().is_success() {
            return Err(deleted(minor));
        }
        let state = VolumeStatus::read(&answer)?.state;
        if state.is_some_and(|state| is_over(state.conn)) {
            return Ok(0);
        }
        match wait_for_change(next, minor, is_over)? {
            Waited::Over => return Ok(0),
            Waited::Lost => {}
            Waited::TooLong => return Ok(RC_TIMEOUT),
        }
    }
}

fn is_over(conn: ConnState, is_reached: fn(ConnState) -> bool, wait_after_sb: bool) -> bool {
    is_reached(conn) || (!wait_after_sb && conn < ConnState::Unconnected)
}

enum Waited {
    /// The state waited for was reported.
    Over,
    /// Events were lost: the state has to be asked for again.
    Lost,
    /// The deadline has passed.
    TooLong,
}

fn wait_for_change(
    next: &mut dyn FnMut() -> Result<Option<Received>, ChannelError>,
    minor: u32,
    is_over: &dyn Fn(ConnState) -> bool,
) -> Result<Waited, Failure> {
    loop {
        let event = match next() {
            Ok(Some(event)) => event.message,
            Ok(None) => return Ok(Waited::TooLong),
            Err(ChannelError::Overrun) => return Ok(Waited::Lost),
            Err(error) => return Err(error.into()),
        };
        if event.minor() == Some(minor) && is_end(&event)? {
            return Err(deleted(minor));
        }
        if event.minor() == Some(minor) && reported(&event)?.is_some_and(is_over) {
            return Ok(Waited::Over);
        }
    }
}

fn is_past(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|end| end <= Instant::now())
}

fn deleted(minor: u32) -> Failure {
    Failure::local(format!("minor {minor} is no longer there"))
}

/// Whether the event says that the volume has been deleted.
fn is_end(event: &DrbdMessage) -> Result<bool, Failure> {
    if event.command != Command::DeviceState.number() {
        return Ok(false);
    }
    let header = NotificationHeader::find(&event.read()?)?.unwrap_or_default();
    Ok(header.nh_type & !notification::CONTINUES == notification::DESTROY)
}

/// Returns the connection state in a report of a state or its change.
fn reported(event: &DrbdMessage) -> Result<Option<ConnState>, Failure> {
    let Some(info) = StateInfo::find(&event.read()?)? else {
        return Ok(None);
    };
    match info.sib_reason {
        sib_reason::GET_STATUS_REPLY | sib_reason::STATE_CHANGE => {
            Ok(Some(state_of(info.current_state)?.conn))
        }
        _ => Ok(None),
    }
}

/// Asks which timeout applies. `None`: no answer came while any of them may hold.
fn class_of(
    ask: &mut dyn FnMut() -> Result<DrbdMessage, ChannelError>,
    deadline: Option<Instant>,
) -> Result<Option<u32>, Failure> {
    let answer = match ask() {
        Ok(answer) => answer,
        Err(ChannelError::Timeout) if is_past(deadline) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if !answer.ret_code().is_success() {
        let text = "error determining which timeout to use: minor not available";
        return Err(Failure::local(text));
    }
    let parms = TimeoutParms::find(&answer.read()?)?.unwrap_or_default();
    Ok(Some(parms.timeout_type))
}

#[cfg(test)]
mod tests {
    use super::*;
    use drbd_format::netlink::codes::RetCode;
    use drbd_format::netlink::tlv::Writer;
    use drbd_format::state_word::VolumeState;

    /// As in the file, so that what drbdadm has accepted is not refused.
    #[test]
    fn timeouts_are_written_like_all_numbers_of_the_configuration() {
        let read = |word| seconds("degr-wfc-timeout", word).map_err(|failure| failure.text);
        for (word, value) in [("0", 0), ("300000", 300_000), ("1K", 1024), ("2s", 1024)] {
            assert_eq!(read(word), Ok(value), "{word}");
        }
        for word in ["", "-1", "2x", "s"] {
            assert_eq!(read(word), Err(format!("{word} is not a valid number")));
        }
        let beyond = "degr_wfc_timeout => 1048576 out of range [0..300000]";
        assert_eq!(read("1M"), Err(beyond.to_owned()));
    }

    #[test]
    fn special_timeouts_are_never_longer_than_the_general_one() {
        let mut timeouts = Timeouts {
            wfc: 1,
            degraded: 5,
            outdated: 9,
        };
        assert_eq!(timeouts.order().len(), 4);
        assert_eq!(
            timeouts,
            Timeouts {
                wfc: 1,
                degraded: 1,
                outdated: 1
            }
        );
        let mut timeouts = Timeouts {
            wfc: 0,
            degraded: 5,
            outdated: 3,
        };
        assert!(timeouts.order().is_empty());
        assert_eq!(timeouts.that_applies(timeout_type::PEER_OUTDATED), 3);
        assert_eq!(timeouts.that_applies(timeout_type::DEFAULT), 0);
    }

    #[test]
    fn a_lost_peer_ends_the_wait_unless_told_otherwise() {
        let connected = |conn| conn >= ConnState::Connected;
        assert!(is_over(ConnState::SyncTarget, connected, false));
        assert!(is_over(ConnState::StandAlone, connected, false));
        assert!(!is_over(ConnState::StandAlone, connected, true));
        assert!(!is_over(ConnState::WfConnection, connected, false));
    }

    /// An answer that says in which state the connection is.
    fn status(conn: ConnState) -> DrbdMessage {
        let mut message = Request::new(Command::GetStatus).minor(0).into_message();
        message.header.word = RetCode::NO_ERROR.0.unsigned_abs();
        let info = StateInfo {
            current_state: VolumeState {
                conn,
                ..VolumeState::NEW
            }
            .to_word()
            .0,
            ..StateInfo::default()
        };
        let mut buf = [0; 1024];
        let mut writer = Writer::reply(&mut buf);
        info.emit(&mut writer).unwrap();
        message.attrs.extend_from_slice(writer.written());
        message
    }

    /// Waits with these answers and no event that is not lost.
    fn wait_with(
        answers: Vec<Result<DrbdMessage, ChannelError>>,
        deadline: Option<Instant>,
    ) -> Outcome {
        let mut answers = answers.into_iter();
        let mut ask = || answers.next().unwrap();
        let mut next = || Err(ChannelError::Overrun);
        let connected = |conn| conn >= ConnState::Connected;
        let outcome = watch(&mut ask, &mut next, 0, deadline, &connected);
        assert!(answers.next().is_none(), "asked too rarely");
        outcome
    }

    #[test]
    fn lost_events_are_made_up_for_by_a_question() {
        let waits = || Ok(status(ConnState::WfConnection));
        let answers = vec![waits(), waits(), Ok(status(ConnState::Connected))];
        assert_eq!(wait_with(answers, None), Ok(0));
        let answers = vec![
            waits(),
            Err(ChannelError::Overrun),
            Ok(status(ConnState::Connected)),
        ];
        assert_eq!(wait_with(answers, None), Ok(0));
    }

    #[test]
    fn nobody_waits_for_a_minor_that_is_deleted() {
        let mut gone = Request::new(Command::DeviceState).minor(0).into_message();
        let mut buf = [0; 64];
        let mut writer = Writer::reply(&mut buf);
        let nh_type = notification::DESTROY | notification::CONTINUES;
        NotificationHeader { nh_type }.emit(&mut writer).unwrap();
        gone.attrs.extend_from_slice(writer.written());
        for (minor, outcome) in [(0, Err(20)), (1, Ok(RC_TIMEOUT))] {
            let mut events = [Some(gone.clone()), None].into_iter();
            let mut next = || {
                let message = events.next().unwrap();
                let received = |message| Received {
                    sequence: 3,
                    message,
                };
                Ok(message.map(received))
            };
            let mut ask = || Ok(status(ConnState::StandAlone));
            let found = watch(&mut ask, &mut next, minor, None, &|_| false);
            assert_eq!(found.map_err(|failure| failure.code), outcome);
        }
    }

    #[test]
    fn the_first_question_takes_no_longer_than_the_longest_timeout() {
        let mut silent = || Err(ChannelError::Timeout);
        let passed = Some(Instant::now());
        assert_eq!(class_of(&mut silent, passed), Ok(None));
        assert_eq!(class_of(&mut silent, None).unwrap_err().code, 20);
        for (wfc, degraded, outdated, longest) in [(4, 0, 0, 4), (4, 9, 7, 4), (0, 3, 2, 0)] {
            let mut timeouts = Timeouts {
                wfc,
                degraded,
                outdated,
            };
            timeouts.order();
            assert_eq!(timeouts.longest(), longest);
        }
    }

    #[test]
    fn a_question_without_answer_takes_no_longer_than_the_wait() {
        let silent = || vec![Err(ChannelError::Timeout)];
        let passed = Some(Instant::now());
        assert_eq!(wait_with(silent(), passed), Ok(RC_TIMEOUT));
        let later = Some(Instant::now() + Duration::from_secs(3600));
        for deadline in [None, later] {
            assert_eq!(wait_with(silent(), deadline).unwrap_err().code, 20);
        }
    }
}
