//! drbdmeta: the tool for metadata on devices that are not attached.
//!
//! Commands, texts and exit codes: `reference/userland.md` 4, `reference/metadata.md` 8.

mod cmdline;
mod simple;

use super::setup::device::{minor_of, MinorLock};
use crate::meta::confirm::Confirm;
use crate::meta::create::{self, Wishes};
use crate::meta::device::{Access, Device};
use crate::meta::last_known::LastKnown;
use crate::meta::store::{Found, Store};
use crate::meta::{dump, replay, restore};
use crate::netlink::message::Request;
use crate::netlink::request::{Channel, ChannelError};
use crate::report::{outln, Failure, Outcome, RC_LOCAL};
use cmdline::{Call, What};
use drbd_format::netlink::ids::Command;
use drbd_format::netlink::info::StateInfo;
use drbd_format::state_word::StateWord;
use std::path::Path;

/// Exit code if there is no metadata.
const RC_NO_METADATA: u8 = 1;

const UNCLEAN: &str = "Found meta data is \"unclean\", please apply-al first";

/// Runs drbdmeta with the words behind its name and returns its exit code.
pub(crate) fn run(program: &str, args: &[String]) -> u8 {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = Call::parse(&words).and_then(|call| match call {
        Some(call) => carry_out(program, &words, &call),
        None => {
            cmdline::usage(program);
            Ok(RC_LOCAL)
        }
    });
    match outcome {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn carry_out(program: &str, words: &[&str], call: &Call<'_>) -> Outcome {
    if call.what == What::VerifyDump {
        restore::read(call.argument()?)?;
        outln!("input file parsed ok");
        return Ok(0);
    }
    let minor = match call.device {
        "-" => None,
        word => Some(minor_of(word).map_err(|_| {
            Failure::local(format!(
                "Cannot determine minor device number of drbd device '{word}'"
            ))
        })?),
    };
    let _lock = minor.map(MinorLock::take).transpose()?;
    let is_attached = minor.map(is_attached).transpose()?.unwrap_or(false);
    if is_attached && call.what.modifies() {
        return Err(Failure::local(format!(
            "Device '{}' is configured!",
            call.device
        )));
    }
    let mut confirm = Confirm {
        force: call.force,
        quiet: call.quiet,
        suppressed: 0,
    };
    let device = open(call, is_attached, &mut confirm)?;
    let last_known = LastKnown::read(Path::new(call.var_lib), minor, call.dry_run);
    let store = Store::new(device, call.placement, last_known)?;
    let outcome = on_store(program, words, call, &store, &mut confirm);
    if confirm.suppressed > 0 {
        eprintln!(
            "# --force --quiet: {} confirmation(s) suppressed and auto-confirmed",
            confirm.suppressed
        );
    }
    if let (true, Some(minor)) = (is_attached, minor) {
        eprintln!("# Output might be stale, since minor {minor} is attached");
    }
    outcome
}

fn open(call: &Call<'_>, is_attached: bool, confirm: &mut Confirm) -> Result<Device, Failure> {
    let is_indexed = matches!(
        call.placement,
        drbd_format::disk::layout::Placement::Indexed(_)
    );
    let mut access = Access {
        exclusive: !is_indexed && !is_attached,
        files: call.force,
        dry_run: call.dry_run,
    };
    if let Some(device) = Device::open(call.meta_dev, access)? {
        return Ok(device);
    }
    eprintln!("open({}) failed: Device or resource busy", call.meta_dev);
    let may_ask = call.what != What::ApplyAl || call.force;
    if may_ask && confirm.ask("Exclusive open failed. Do it anyways?") {
        access.exclusive = false;
        if let Some(device) = Device::open(call.meta_dev, access)? {
            return Ok(device);
        }
    }
    if may_ask {
        outln!("Operation canceled.");
    }
    Err(Failure::local(""))
}

/// Whether the kernel has a disk attached to the minor.
///
/// # Errors
///
/// A module that is there but does not answer: then nobody knows, and nothing must be changed.
fn is_attached(minor: u32) -> Result<bool, Failure> {
    if !Path::new("/proc/drbd").exists() {
        return Ok(false);
    }
    let mut channel = match Channel::open() {
        Err(ChannelError::NoFamily) => return Ok(false),
        other => other?,
    };
    let answer = channel.command(Request::new(Command::GetStatus).minor(minor))?;
    if !answer.ret_code().is_success() {
        return Ok(false);
    }
    let info = StateInfo::find(&answer.read()?)?.unwrap_or_default();
    Ok(StateWord(info.current_state).disk() != 0)
}

fn on_store(
    program: &str,
    words: &[&str],
    call: &Call<'_>,
    store: &Store,
    confirm: &mut Confirm,
) -> Outcome {
    match call.what {
        What::CreateMd => {
            let wishes = Wishes {
                striping: call.striping()?,
                peer_max_bio_bytes: call.peer_max_bio_bytes,
                effective_sectors: call.effective_sectors,
                bitmap: call.bitmap,
                ignore_sanity_checks: call.ignore_sanity_checks,
            };
            create::create(store, &wishes, confirm)
        }
        What::RestoreMd => {
            let content = restore::read(call.argument()?)?;
            let ignore = call.ignore_sanity_checks;
            restore::restore(store, &content, call.striping()?, confirm, ignore)
        }
        What::DumpMd => dump_md(program, words, call, store),
        What::ApplyAl => {
            let found = match store.find()? {
                Some(found) => found,
                None => moved(call, store)?.ok_or_else(|| nothing(store))?,
            };
            replay::apply(store, &found)
        }
        What::CheckResize => check_resize(call, store),
        What::WipeMd => simple::wipe(store, confirm),
        What::Dstate => simple::dstate(&store.find()?.ok_or_else(|| nothing(store))?),
        What::GetGi => simple::get_gi(&silently(store)?),
        What::ShowGi => simple::show_gi(&silently(store)?),
        What::SetGi => simple::set_gi(store, silently(store)?, call.argument()?, confirm),
        What::Outdate => simple::outdate(store, silently(store)?),
        What::Invalidate => simple::invalidate(store, silently(store)?),
        What::ReadDevUuid => simple::read_dev_uuid(&silently(store)?),
        What::WriteDevUuid => simple::write_dev_uuid(store, silently(store)?, call.argument()?),
        What::VerifyDump => Ok(0),
    }
}

fn nothing(store: &Store) -> Failure {
    // Whoever takes such a disk for a new one loses what is on it.
    if let Ok(Some(version)) = store.other_version() {
        eprintln!("Found v{version:02} meta data, only v08 is supported.");
    }
    Failure::new(RC_NO_METADATA, "No valid meta data found")
}

fn silently(store: &Store) -> Result<Found, Failure> {
    store
        .find()?
        .ok_or_else(|| Failure::new(RC_NO_METADATA, ""))
}

fn dump_md(program: &str, words: &[&str], call: &Call<'_>, store: &Store) -> Outcome {
    let (found, remark) = match store.find()? {
        Some(found) => (found, ""),
        None => (
            store.find_at_last_known()?.ok_or_else(|| nothing(store))?,
            "#\n### Device seems to have been resized!\n\
             ### dumping meta data from the last known position\n#\n\n",
        ),
    };
    let is_unclean = found.superblock.is_unclean();
    if is_unclean {
        let failure = Failure::new(RC_NO_METADATA, UNCLEAN);
        if !call.force {
            return Err(failure);
        }
        failure.report();
    }
    let host = rustix::system::uname();
    let origin = dump::Origin {
        host: &host.nodename().to_string_lossy(),
        command: &format!("{program} {}", words.join(" ")),
        remark,
        is_unclean,
    };
    crate::report::out(&dump::dump(store, &found, &origin)?);
    Ok(0)
}

/// Moves metadata from its last known position; returns where it is then.
fn moved(call: &Call<'_>, store: &Store) -> Result<Option<Found>, Failure> {
    let Some(old) = store.find_at_last_known()? else {
        return Ok(None);
    };
    if !call.force && !store.last_known.is_same(old.superblock.device_uuid) {
        eprintln!("The meta data at the last known position belongs to another device.");
        return Ok(None);
    }
    restore::move_to_end(store, &old).map(Some)
}

fn check_resize(call: &Call<'_>, store: &Store) -> Outcome {
    if let Some(found) = store.find()? {
        let uuid = found.superblock.device_uuid;
        store
            .last_known
            .update(&store.device, store.placement, uuid);
        return Ok(0);
    }
    match moved(call, store)? {
        Some(_) => Ok(0),
        None => Err(Failure::new(
            RC_NO_METADATA,
            "no suitable meta data found :(",
        )),
    }
}
