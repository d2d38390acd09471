//! `events` and `events2`: what happens, line by line.
//!
//! Both end quietly when nobody listens any more or the module goes away. Lines:
//! `reference/netlink.md` 5.6, `reference/userland.md` 3.7.

mod objects;

use super::cmdline::Call;
use super::device;
use super::query::{self, resynced_percent, state_of, VolumeStatus};
use super::table::Arg;
use crate::netlink::message::{DrbdMessage, Request};
use crate::netlink::request::{Channel, ChannelError, Received};
use crate::report::{self, Failure, Outcome};
use drbd_format::netlink::ids::Command;
use drbd_format::netlink::info::sib_reason;
use drbd_format::state_word::VolumeState;
use objects::Known;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// How often to look whether anybody still listens.
const LISTENER_CHECK: Duration = Duration::from_millis(500);

/// `events`: the older form, about volumes.
pub(super) fn events(call: &Call<'_>) -> Outcome {
    let word = call.arg(Arg::Some).filter(|word| *word != "all");
    let minor = word.and_then(|word| device::minor_of(word).ok());
    let resource = word.filter(|_| minor.is_none());
    let mut channel = Channel::open()?;
    channel.subscribe()?;
    // What happens during the dump waits in the other socket, and must not end the dump if it is
    // too much for it.
    let mut questions = Channel::open()?;
    let show = |event: &Received| {
        if is_wanted(&event.message, minor, resource) {
            print(&volume_lines(event)?)?;
        }
        Ok(())
    };
    let mut ask = || {
        let mut request = Request::new(Command::GetStatus);
        if let Some(name) = resource {
            request = request.context(Some(name), None, None)?;
        }
        match questions.dump(request) {
            Ok(elements) => elements.iter().try_for_each(show),
            Err(error) if is_unloaded(&error) => Err(Failure::new(0, "")),
            Err(ChannelError::Refused(error)) if query::is_no_device(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    };
    ask()?;
    let mut next = || channel.next_event(Some(Instant::now() + LISTENER_CHECK));
    let handle = |event: Received| show(&event).map(|()| Heard::All);
    follow(&mut next, handle, ask)
}

/// `events2`: about all objects, only what changed.
pub(super) fn events2(call: &Call<'_>) -> Outcome {
    let wanted = call.arg(Arg::ResourceOrAll).filter(|word| *word != "all");
    let known = Known::new(wanted, call.has("statistics"), call.has("full"));
    let known = RefCell::new(known);
    let timestamps = call.has("timestamps");
    let mut channel = Channel::open()?;
    if !call.has("now") {
        channel.subscribe()?;
    }
    // As in `events`.
    let mut questions = Channel::open()?;
    // All of it before the first line: a reader may take its time, and the dump goes on in between.
    for element in questions.dump(Request::new(Command::GetInitialState))? {
        print(&text_of(&known.borrow_mut().lines(&element)?, timestamps))?;
    }
    if call.has("now") {
        return Ok(0);
    }
    let mut next = || channel.next_event(Some(Instant::now() + LISTENER_CHECK));
    let handle = |event: Received| {
        let mut known = known.borrow_mut();
        print(&text_of(&known.lines(&event)?, timestamps))?;
        Ok(if known.misses() {
            Heard::NotAll
        } else {
            Heard::All
        })
    };
    let lost = || {
        let now = match questions.dump(Request::new(Command::GetInitialState)) {
            Ok(elements) => elements,
            Err(error) if is_unloaded(&error) => return Err(Failure::new(0, "")),
            Err(error) => return Err(error.into()),
        };
        print(&text_of(&known.borrow_mut().catch_up(&now)?, timestamps))
    };
    follow(&mut next, handle, lost)
}

/// Whether there is nobody left to answer. That the module goes may be lost like any other event.
fn is_unloaded(error: &ChannelError) -> bool {
    match error {
        ChannelError::Refused(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Puts lines together, each with the time in front if wanted.
fn text_of(lines: &[String], timestamps: bool) -> String {
    let mut text = String::new();
    for line in lines {
        if timestamps {
            let _ = write!(text, "{} ", timestamp());
        }
        let _ = writeln!(text, "{line}");
    }
    text
}

/// Whether anything is missing in front of an event.
enum Heard {
    All,
    NotAll,
}

/// Hands events over until nobody listens or the module is gone. `lost` makes up for events that
/// were lost.
fn follow(
    next: &mut dyn FnMut() -> Result<Option<Received>, ChannelError>,
    mut handle: impl FnMut(Received) -> Result<Heard, Failure>,
    mut lost: impl FnMut() -> Result<(), Failure>,
) -> Outcome {
    loop {
        match next() {
            Ok(Some(event)) => match handle(event)? {
                Heard::All => {}
                Heard::NotAll => lost()?,
            },
            Ok(None) if is_deserted() => return Ok(0),
            Ok(None) => {}
            Err(ChannelError::Overrun) => lost()?,
            Err(ChannelError::Unloaded) => return Ok(0),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether the reader of our output is gone.
fn is_deserted() -> bool {
    use rustix::event::{poll, PollFd, PollFlags, Timespec};
    let stdout = std::io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let gone = PollFlags::ERR | PollFlags::HUP;
    poll(&mut fds, Some(&at_once)).is_ok() && fds[0].revents().intersects(gone)
}

/// Prints lines at once. If nobody reads them, the command is over.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    written
        .and_then(|()| stdout.flush())
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::new(0, ""),
            _ => report::lost(&error),
        })
}

fn is_wanted(message: &DrbdMessage, minor: Option<u32>, resource: Option<&str>) -> bool {
    if minor.is_some() {
        return message.minor() == minor;
    }
    let name = message.context().and_then(|context| context.resource_name);
    resource.is_none_or(|wanted| name.is_some_and(|name| name.as_bytes() == wanted.as_bytes()))
}

/// Returns the lines of `events` for one message.
fn volume_lines(event: &Received) -> Result<String, Failure> {
    let status = VolumeStatus::read(&event.message)?;
    let sequence = event.sequence;
    let Some(info) = status.info else {
        if status.resource.is_empty() {
            return Ok(String::new());
        }
        return Ok(format!("{sequence} R - {}\n", status.resource));
    };
    let minor = status.minor.unwrap_or_default();
    let volume = status.volume.unwrap_or_default();
    let object = format!("{minor},{}[{volume}]", status.resource);
    let mut text = String::new();
    let mut state_line = |tag: &str, word: u32| -> Result<(), Failure> {
        let _ = writeln!(
            text,
            "{sequence} {tag} {object} {}",
            state_text(&state_of(word)?)
        );
        Ok(())
    };
    match info.sib_reason {
        sib_reason::STATE_CHANGE => {
            if let (Some(before), Some(after)) = (info.prev_state, info.new_state) {
                state_line("ST-prev", before)?;
                state_line("ST-new", after)?;
            }
            state_line("ST", info.current_state)?;
        }
        sib_reason::HELPER_PRE | sib_reason::HELPER_POST => {
            let name = info.helper.unwrap_or_default();
            let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
            let _ = match info.helper_exit_code {
                Some(code) => writeln!(text, "{sequence} UH-post {object} {name} 0x{code:04x}"),
                None => writeln!(text, "{sequence} UH {object} {name}"),
            };
        }
        sib_reason::SYNC_PROGRESS => {
            let conn = state_of(info.current_state)?.conn;
            // The last report comes when nothing is left to resync.
            let percent = resynced_percent(&info, conn).unwrap_or_else(|| "100.0".to_owned());
            let _ = writeln!(text, "{sequence} SP {object} {percent}");
        }
        _ => state_line("ST", info.current_state)?,
    }
    Ok(text)
}

fn state_text(state: &VolumeState) -> String {
    let mark = |set, letter| if set { letter } else { '-' };
    let suspended = state.suspended || state.suspended_no_data || state.suspended_fencing;
    format!(
        "{{ cs:{} ro:{}/{} ds:{}/{} {}{}{}{} }}",
        state.conn,
        state.role,
        state.peer_role,
        state.disk,
        state.peer_disk,
        if suspended { 's' } else { 'r' },
        mark(state.paused_by_dependency, 'a'),
        mark(state.paused_by_peer, 'p'),
        mark(state.paused_by_user, 'u'),
    )
}

/// Returns the time of day with microseconds, in coordinated universal time.
fn timestamp() -> String {
    let now = std::time::SystemTime::now();
    let since = now
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let (date, time) = crate::report::utc(since.as_secs());
    format!("{date}T{time}.{:06}+00:00", since.subsec_micros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use drbd_format::netlink::info::StateInfo;
    use drbd_format::netlink::record::Text;
    use drbd_format::netlink::tlv::Writer;
    use drbd_format::types::{ConnState, DiskState, Role};

    fn event(info: StateInfo) -> Received {
        let mut message = Request::new(Command::Event)
            .context(Some("r0"), Some(0), None)
            .unwrap()
            .minor(0)
            .into_message();
        let mut buf = [0; 1024];
        let mut writer = Writer::reply(&mut buf);
        info.emit(&mut writer).unwrap();
        message.attrs.extend_from_slice(writer.written());
        Received {
            sequence: 7,
            message,
        }
    }

    fn state() -> VolumeState {
        VolumeState {
            role: Role::Primary,
            conn: ConnState::WfConnection,
            disk: DiskState::UpToDate,
            ..VolumeState::NEW
        }
    }

    #[test]
    fn a_change_is_shown_before_and_after() {
        let word = state().to_word().0;
        let info = StateInfo {
            sib_reason: sib_reason::STATE_CHANGE,
            current_state: word,
            prev_state: Some(VolumeState::NEW.to_word().0),
            new_state: Some(word),
            ..StateInfo::default()
        };
        assert_eq!(
            volume_lines(&event(info)).unwrap(),
            "7 ST-prev 0,r0[0] { cs:StandAlone ro:Secondary/Unknown ds:Diskless/DUnknown r--- }\n\
             7 ST-new 0,r0[0] { cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown r--- }\n\
             7 ST 0,r0[0] { cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown r--- }\n"
        );
    }

    #[test]
    fn lost_events_are_made_up_for() {
        let received = [
            Err(ChannelError::Overrun),
            Ok(Some(event(StateInfo::default()))),
            Err(ChannelError::Unloaded),
        ];
        let mut received = received.into_iter();
        let seen = RefCell::new(Vec::new());
        let handle = |event: Received| {
            seen.borrow_mut().push(event.sequence);
            Ok(Heard::All)
        };
        let lost = || {
            seen.borrow_mut().push(0);
            Ok(())
        };
        assert_eq!(
            follow(&mut || received.next().unwrap(), handle, lost),
            Ok(0)
        );
        assert_eq!(*seen.borrow(), [0, 7]);
    }

    #[test]
    fn helpers_are_shown_with_their_exit_code() {
        let info = StateInfo {
            sib_reason: sib_reason::HELPER_POST,
            current_state: state().to_word().0,
            helper: Text::new(b"fence-peer"),
            helper_exit_code: Some(0x700),
            ..StateInfo::default()
        };
        assert_eq!(
            volume_lines(&event(info)).unwrap(),
            "7 UH-post 0,r0[0] fence-peer 0x0700\n"
        );
    }
}
