//! Commands that ask for the status of volumes and print it for scripts.

use super::cmdline::Call;
use super::device;
use super::table::Arg;
use crate::meta::attached;
use crate::meta::last_known::{LastKnown, VAR_LIB};
use crate::netlink::message::{DrbdMessage, Request};
use crate::netlink::request::{Channel, ChannelError};
use crate::report::{check_answer, outln, Failure, Outcome};
use crate::status::gi;
use drbd_format::netlink::ids::{tla, Command, NO_MINOR};
use drbd_format::netlink::info::{Context, StateInfo};
use drbd_format::options::DiskConf;
use drbd_format::state_word::{StateWord, VolumeState};
use drbd_format::types::{ConnState, DiskState, Role};
use std::io::ErrorKind;
use std::path::Path;

/// Index from which on metadata is external.
const FIRST_EXTERNAL: i32 = 0;

/// Index of flexible external metadata.
const FLEX_EXTERNAL: i32 = -2;

/// Status of one volume.
#[derive(Debug)]
pub(super) struct VolumeStatus {
    /// Its minor, if the kernel names it.
    pub(super) minor: Option<u32>,
    /// Its resource.
    pub(super) resource: String,
    /// Its number in the resource.
    pub(super) volume: Option<u32>,
    /// Its state; absent for a resource without volumes.
    pub(super) state: Option<VolumeState>,
    /// Everything the kernel says; absent for a resource without volumes.
    pub(super) info: Option<StateInfo>,
    /// Its disk options, if there is a disk.
    pub(super) disk: Option<DiskConf>,
}

impl VolumeStatus {
    /// Reads an answer or an element of a dump.
    pub(super) fn read(message: &DrbdMessage) -> Result<Self, Failure> {
        let attrs = message.read()?;
        let context = Context::find(&attrs)?.unwrap_or_default();
        let info = StateInfo::find(&attrs)?;
        let state = match info {
            Some(info) => Some(state_of(info.current_state)?),
            None => None,
        };
        let name = context.resource_name.unwrap_or_default();
        Ok(Self {
            minor: message.minor(),
            resource: String::from_utf8_lossy(name.as_bytes()).into_owned(),
            volume: context.volume,
            state,
            info,
            disk: DiskConf::find(&attrs)?,
        })
    }

    /// Whether there is neither a disk nor a connection nor a user.
    fn is_unconfigured(&self) -> bool {
        self.state.is_none_or(|state| {
            state.conn == ConnState::StandAlone
                && state.disk == DiskState::Diskless
                && state.role != Role::Primary
        })
    }
}

/// Unpacks a state word of the kernel.
pub(super) fn state_of(word: u32) -> Result<VolumeState, Failure> {
    VolumeState::from_word(StateWord(word)).map_err(|error| Failure::local(error.to_string()))
}

fn ask(call: &Call<'_>) -> Result<VolumeStatus, Failure> {
    let minor = call.minor()?.unwrap_or_default();
    let answer = Channel::open()?.command(Request::new(Command::GetStatus).minor(minor))?;
    check_answer(call.args.first().copied().unwrap_or("??"), &answer)?;
    VolumeStatus::read(&answer)
}

/// Prints one line made of the state, or `Unconfigured`.
fn print_line(call: &Call<'_>, line: fn(&VolumeState) -> String) -> Outcome {
    let status = ask(call)?;
    match status.state.filter(|_| !status.is_unconfigured()) {
        Some(state) => outln!("{}", line(&state)),
        None => outln!("Unconfigured"),
    }
    Ok(0)
}

/// `role`
pub(super) fn role(call: &Call<'_>) -> Outcome {
    print_line(call, |state| format!("{}/{}", state.role, state.peer_role))
}

/// `cstate`
pub(super) fn cstate(call: &Call<'_>) -> Outcome {
    print_line(call, |state| state.conn.to_string())
}

/// `dstate`
pub(super) fn dstate(call: &Call<'_>) -> Outcome {
    print_line(call, |state| format!("{}/{}", state.disk, state.peer_disk))
}

fn generation(call: &Call<'_>) -> Result<(gi::Generation, VolumeState), Failure> {
    let status = ask(call)?;
    let Some(state) = status.state.filter(|_| !status.is_unconfigured()) else {
        return Err(Failure::new(1, "Device is unconfigured"));
    };
    let uuids = status
        .info
        .and_then(|info| Some((info.uuids?, info.disk_flags?)));
    let Some((uuids, flags)) = uuids else {
        return Err(Failure::new(1, "Device has no disk"));
    };
    Ok((gi::Generation { uuids, flags }, state))
}

/// `get-gi`
pub(super) fn get_gi(call: &Call<'_>) -> Outcome {
    let (generation, _) = generation(call)?;
    outln!("{generation}");
    Ok(0)
}

/// `show-gi`
pub(super) fn show_gi(call: &Call<'_>) -> Outcome {
    let (generation, _) = generation(call)?;
    crate::report::out(&generation.explained());
    Ok(0)
}

/// `udev`: what the rule for device nodes needs.
pub(super) fn udev(call: &Call<'_>) -> Outcome {
    let status = ask(call)?;
    let minor = status.minor.unwrap_or_default();
    outln!("DEVICE=drbd{minor}");
    let volume = status.volume.unwrap_or_default();
    outln!("SYMLINK_BY_RES=drbd/by-res/{}/{volume}", status.resource);
    if let Some(disk) = status.disk {
        let path = String::from_utf8_lossy(disk.backing_dev.as_bytes()).into_owned();
        outln!(
            "SYMLINK_BY_DISK=drbd/by-disk/{}",
            path.strip_prefix("/dev/").unwrap_or(&path)
        );
    }
    Ok(0)
}

/// `check-resize`: remembers the size of the backing device, if the metadata is at its end.
pub(super) fn check_resize(call: &Call<'_>) -> Outcome {
    let status = ask(call)?;
    let minor = status.minor.unwrap_or_default();
    let last_known = LastKnown::read(Path::new(VAR_LIB), Some(minor), false);
    let internal = status
        .disk
        .filter(|disk| disk.meta_dev_idx < FIRST_EXTERNAL && disk.meta_dev_idx != FLEX_EXTERNAL);
    let Some(disk) = internal else {
        last_known.forget();
        return Ok(0);
    };
    let path = String::from_utf8_lossy(disk.backing_dev.as_bytes()).into_owned();
    attached::remember(&path, last_known, false)?;
    Ok(0)
}

/// Returns the elements of a status dump, of all resources or one.
///
/// A resource that does not exist has none.
pub(super) fn dump_status(
    channel: &mut Channel,
    resource: Option<&str>,
) -> Result<Vec<DrbdMessage>, Failure> {
    let mut request = Request::new(Command::GetStatus);
    if let Some(name) = resource {
        request = request.context(Some(name), None, None)?;
    }
    match channel.dump(request) {
        Ok(elements) => Ok(elements
            .into_iter()
            .map(|element| element.message)
            .collect()),
        Err(ChannelError::Refused(error)) if is_no_device(&error) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Whether the kernel says that there is no such device.
pub(super) fn is_no_device(error: &std::io::Error) -> bool {
    const ENODEV: i32 = 19;
    error.raw_os_error() == Some(ENODEV) || error.kind() == ErrorKind::NotFound
}

/// Returns the minors of a resource.
pub(super) fn minors_of(channel: &mut Channel, resource: &str) -> Result<Vec<u32>, Failure> {
    let elements = dump_status(channel, Some(resource))?;
    Ok(elements.iter().filter_map(DrbdMessage::minor).collect())
}

/// Returns the names of all resources.
pub(super) fn resource_names(channel: &mut Channel) -> Result<Vec<String>, Failure> {
    let mut names: Vec<String> = Vec::new();
    for element in dump_status(channel, None)? {
        let name = VolumeStatus::read(&element)?.resource;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Returns the status of what the optional argument names: a minor, a resource, or everything.
pub(super) fn selected(call: &Call<'_>) -> Result<Vec<DrbdMessage>, Failure> {
    let word = call.arg(Arg::Some).filter(|word| *word != "all");
    let mut channel = Channel::open()?;
    let Some(word) = word else {
        return dump_status(&mut channel, None);
    };
    match device::minor_of(word) {
        Ok(minor) => {
            let answer = channel.command(Request::new(Command::GetStatus).minor(minor))?;
            check_answer(word, &answer)?;
            Ok(vec![answer])
        }
        Err(_) => dump_status(&mut channel, Some(word)),
    }
}

/// `sh-status`: variables for a shell.
pub(super) fn sh_status(call: &Call<'_>) -> Outcome {
    let word = call.arg(Arg::Some).filter(|word| *word != "all");
    let minor = word.and_then(|word| device::minor_of(word).ok());
    let messages = match selected(call) {
        Ok(messages) => messages,
        Err(failure) if minor.is_some() && failure.code == 10 => Vec::new(),
        Err(failure) => return Err(failure),
    };
    if let (true, Some(minor)) = (messages.is_empty(), minor) {
        outln!("_minor={minor}\n_res_name=\n_volume=-1");
        outln!("_known={NOT_KNOWN}\n");
        crate::report::out(&state_variables(None));
    }
    for message in &messages {
        let status = VolumeStatus::read(message)?;
        let volume = status.volume.map_or(-1, i64::from);
        outln!("_minor={}", status.minor.unwrap_or(NO_MINOR));
        outln!("_res_name={}", shell_word(&status.resource));
        outln!("_volume={volume}");
        outln!("_known={}\n", known(&status));
        crate::report::out(&state_variables(Some(&status)));
    }
    // Without the data there must be no success.
    debug_assert!(message_has_state(&messages));
    Ok(0)
}

/// Says whether there is anything behind the name. The words are part of the interface.
fn known(status: &VolumeStatus) -> &'static str {
    match status.state {
        None => NOT_KNOWN,
        Some(_) if status.is_unconfigured() => "Unconfigured",
        Some(_) => "Configured",
    }
}

const NOT_KNOWN: &str = "NA # not available or not yet created";

fn message_has_state(messages: &[DrbdMessage]) -> bool {
    messages
        .iter()
        .all(|message| message.minor().is_none() || message.has(tla::STATE_INFO))
}

fn state_variables(status: Option<&VolumeStatus>) -> String {
    let state = status
        .filter(|status| !status.is_unconfigured())
        .and_then(|s| s.state);
    let name = |of: fn(&VolumeState) -> &'static str| state.as_ref().map_or("", of);
    let flag = |of: fn(&VolumeState) -> bool| {
        if state.as_ref().is_some_and(of) {
            "1"
        } else {
            ""
        }
    };
    let percent = status
        .and_then(|status| Some((status.info?, status.state?)))
        .and_then(|(info, state)| resynced_percent(&info, state.conn))
        .unwrap_or_default();
    let gap = if state.is_some() { "\n" } else { "" };
    format!(
        "_cstate={}\n_role={}\n_peer={}\n_disk={}\n_pdsk={}\n{gap}\
         _flags_susp={}\n_flags_aftr_isp={}\n_flags_peer_isp={}\n_flags_user_isp={}\n{gap}\
         _resynced_percent={percent}\n\n_sh_status_process\n\n\n",
        state
            .as_ref()
            .map_or("Unconfigured", |state| state.conn.name()),
        name(|state| state.role.name()),
        name(|state| state.peer_role.name()),
        name(|state| state.disk.name()),
        name(|state| state.peer_disk.name()),
        flag(|s| s.suspended || s.suspended_no_data || s.suspended_fencing),
        flag(|state| state.paused_by_dependency),
        flag(|state| state.paused_by_peer),
        flag(|state| state.paused_by_user),
    )
}

fn shell_word(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "%+-./:=@_".contains(letter);
    let mut quoted = String::new();
    for letter in word.chars() {
        if !is_plain(letter) {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted
}

/// Returns how far a resync is, with one decimal; never 100.0 while anything is left.
pub(super) fn resynced_percent(info: &StateInfo, conn: ConnState) -> Option<String> {
    if !(ConnState::SyncSource..=ConnState::PausedSyncT).contains(&conn) {
        return None;
    }
    let total = info.bits_rs_total?;
    let left = info
        .bits_oos?
        .saturating_sub(info.bits_rs_failed.unwrap_or(0));
    let shift = if total >= 1 << 32 { 16 } else { 10 };
    let (left, total) = (left >> shift, 1 + (total >> shift));
    let permille = 1000u64.saturating_sub(left.saturating_mul(1000) / total);
    Some(format!("{}.{}", permille / 10, permille % 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_shown_with_one_decimal() {
        let info = |total, oos| StateInfo {
            bits_rs_total: Some(total),
            bits_oos: Some(oos),
            bits_rs_failed: Some(0),
            ..StateInfo::default()
        };
        let percent = |total, oos| resynced_percent(&info(total, oos), ConnState::SyncTarget);
        assert_eq!(percent(786143, 724703).as_deref(), Some("8.0"));
        assert_eq!(percent(786143, 786143).as_deref(), Some("0.2"));
        assert_eq!(resynced_percent(&info(1, 1), ConnState::Connected), None);
    }

    #[test]
    fn names_are_quoted_for_the_shell() {
        assert_eq!(shell_word("r0"), "r0");
        assert_eq!(shell_word("a b;c"), "a\\ b\\;c");
    }
}
