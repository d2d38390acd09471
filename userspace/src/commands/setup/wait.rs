//! `wait-connect` and `wait-sync`: wait for the peer, but not for ever.
//!
//! Which of the three timeouts applies is known to the kernel: `reference/userland.md` 3.8.

use super::cmdline::Call;
use super::query::{state_of, VolumeStatus};
use crate::netlink::message::{DrbdMessage, Request};
use crate::netlink::request::{Channel, ChannelError};
use crate::report::{Failure, Outcome};
use drbd_format::netlink::ids::Command;
use drbd_format::netlink::info::{sib_reason, timeout_type, StateInfo, TimeoutParms};
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
        let mut timeouts = Self {
            wfc: seconds(call, "wfc-timeout")?,
            degraded: seconds(call, "degr-wfc-timeout")?,
            outdated: seconds(call, "outdated-wfc-timeout")?,
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

    fn that_applies(self, class: u32) -> u64 {
        match class {
            timeout_type::DEGRADED => self.degraded,
            timeout_type::PEER_OUTDATED => self.outdated,
            _ => self.wfc,
        }
    }
}

fn seconds(call: &Call<'_>, name: &str) -> Result<u64, Failure> {
    let Some(word) = call.local(name).flatten() else {
        return Ok(0);
    };
    let value = word
        .parse()
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
    let mut channel = Channel::open()?;
    channel.subscribe()?;
    let timeout = timeouts.that_applies(class_of(&mut channel, minor)?);
    let deadline = (timeout != 0).then(|| start + Duration::from_secs(timeout));
    loop {
        let answer = channel.command(Request::new(Command::GetStatus).minor(minor))?;
        if !answer.ret_code().is_success() {
            return Err(Failure::local(format!("minor {minor} is no longer there")));
        }
        if let Some(state) = VolumeStatus::read(&answer)?.state {
            if is_over(state.conn, is_reached, wait_after_sb) {
                return Ok(0);
            }
        }
        match wait_for_change(&mut channel, minor, deadline, |conn| {
            is_over(conn, is_reached, wait_after_sb)
        })? {
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
    channel: &mut Channel,
    minor: u32,
    deadline: Option<Instant>,
    is_over: impl Fn(ConnState) -> bool,
) -> Result<Waited, Failure> {
    loop {
        let event = match channel.next_event(deadline) {
            Ok(Some(event)) => event.message,
            Ok(None) => return Ok(Waited::TooLong),
            Err(ChannelError::Overrun) => return Ok(Waited::Lost),
            Err(error) => return Err(error.into()),
        };
        if event.minor() == Some(minor) && reported(&event)?.is_some_and(&is_over) {
            return Ok(Waited::Over);
        }
    }
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

fn class_of(channel: &mut Channel, minor: u32) -> Result<u32, Failure> {
    let answer = channel.command(Request::new(Command::GetTimeoutType).minor(minor))?;
    if !answer.ret_code().is_success() {
        let text = "error determining which timeout to use: minor not available";
        return Err(Failure::local(text));
    }
    Ok(TimeoutParms::find(&answer.read()?)?
        .unwrap_or_default()
        .timeout_type)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
