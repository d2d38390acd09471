//! Handlers: commands of the configuration that the kernel module wants to be run.
//!
//! The kernel calls `drbdadm HANDLER minor-N` or `drbdadm HANDLER RES`, with addresses in the
//! environment (`reference/userland.md 5.6`).

use super::args::Invocation;
use super::{register, select, Ending, Session, MISUSED};
use crate::adjust::call::{Call, Limit, Tool};
use crate::config;
use crate::config::resolve::{LocalVolume, View};

/// Finds the configuration file that a handler belongs to.
pub(super) fn config_file(invocation: &Invocation) -> Option<String> {
    if invocation.general.config.is_some() {
        return invocation.general.config.clone();
    }
    let name = invocation.names.first()?;
    let minor = name
        .strip_prefix("minor-")
        .and_then(|minor| minor.parse().ok());
    let known = match minor {
        Some(minor) => register::file_of_minor(minor),
        None => register::file_of_resource(name),
    };
    match known {
        Some(path) => Some(path.to_string_lossy().into_owned()),
        None => {
            eprintln!(
                "Don't know which config file belongs to resource {name}, trying default ones..."
            );
            Some(config::default_file().to_owned())
        }
    }
}

/// Returns the address of the peer that the kernel module named, if any.
pub(super) fn peer() -> Option<String> {
    std::env::var("DRBD_PEER_ADDRESS")
        .ok()
        .filter(|address| !address.is_empty())
}

/// Runs the configured command, if there is one.
pub(super) fn run(session: &Session<'_>) -> Ending {
    let command = session.command();
    let mut code = 0;
    for name in &session.invocation.names {
        let selected = match select::select(command, session.views, name, false) {
            Ok(selected) => selected,
            Err(mismatch) => {
                eprintln!("{}", mismatch.text());
                return Ok(MISUSED);
            }
        };
        let view = selected.view;
        let Some(script) = view.resource.sections.handlers.get(command.name) else {
            continue;
        };
        let one = selected.one_volume.and_then(|_| selected.volumes.first());
        set_environment(session, view, one);
        let args = vec!["-c".to_owned(), script.value.clone()];
        let call = Call {
            tool: Tool::Shell,
            args,
            limit: Limit::Long,
        };
        code = session.runner.run_plainly(view.name(), &call)?.max(code);
    }
    Ok(code)
}

/// Tells the command what it is about. The process runs nothing else afterwards.
fn set_environment(session: &Session<'_>, view: &View<'_>, one: Option<&LocalVolume>) {
    let set = |name: &str, value: &str| std::env::set_var(name, value);
    set("DRBD_RESOURCE", view.name());
    set("DRBD_CONF", &session.config_path.to_string_lossy());
    match one {
        Some(volume) => {
            set("DRBD_MINOR", &volume.minor.to_string());
            set("DRBD_VOLUME", &volume.number.to_string());
            set("DRBD_LL_DISK", &volume.disk);
        }
        None => {
            let minors: Vec<String> = view
                .volumes()
                .iter()
                .map(|volume| volume.minor.to_string())
                .collect();
            set("DRBD_MINOR", &minors.join(" "));
            std::env::remove_var("DRBD_VOLUME");
            std::env::remove_var("DRBD_LL_DISK");
        }
    }
    if let Some(peer) = view.theirs() {
        set("DRBD_PEERS", &peer.names.join(" "));
        set("DRBD_PEER", peer.names.first().unwrap_or(&""));
        if let Some(address) = view.peer_address() {
            set("DRBD_PEER_AF", address.family.name());
            set("DRBD_PEER_ADDRESS", &address.host);
        }
    }
}
