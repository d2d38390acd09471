//! The commands that work on one resource or volume at a time.

use super::runner::{Ended, Errors, Runner};
use super::select::Selected;
use super::{hint, register, sh, Ending, Session};
use crate::adjust::call::{Call, Limit, Maker};
use crate::adjust::plan::Register;
use crate::config::resolve::LocalVolume;

/// Exit code of drbdmeta and drbdsetup if the disk state is already too old to be outdated.
const INCONSISTENT: u8 = 5;
/// Exit codes with which the kernel refuses a change of state.
const REFUSED: [u8; 2] = [11, 17];

/// Runs the command on one resource: as a whole, or on one volume after the other until one fails.
pub(super) fn on_resource(session: &Session<'_>, selected: &Selected<'_>) -> Ending {
    let view = selected.view;
    let maker = session.maker(view);
    let backend = &session.invocation.backend;
    let run = |call: Call| session.runner.run(view.name(), &call.with(backend));
    match session.command().name {
        "connect" => run(maker.connect()),
        "disconnect" => run(maker.disconnect()),
        "net-options" => run(maker.net_options_call()),
        "resource-options" => run(maker.on_resource(Limit::Short, "resource-options")),
        "status" => run(maker.on_resource(Limit::Short, "status")),
        "down" => {
            let code = run(maker.on_resource(Limit::Medium, "down"))?;
            for volume in &selected.volumes {
                hint::after(session, view.name(), volume, code);
            }
            Ok(code)
        }
        "new-resource" => registered(session, &maker, maker.new_resource(), Register::Resource),
        "sh-resource" => {
            println!("{}", view.name());
            Ok(0)
        }
        "sh-lr-of" => Ok(sh::lower_resource(session, view)),
        "proxy-up" | "proxy-down" => Ok(sh::proxy(view)),
        _ => {
            for volume in &selected.volumes {
                let code = on_volume(session, &maker, volume)?;
                if code != 0 {
                    return Ok(code);
                }
            }
            Ok(0)
        }
    }
}

fn on_volume(session: &Session<'_>, maker: &Maker<'_>, volume: &LocalVolume) -> Ending {
    let command = session.command().name;
    let backend = &session.invocation.backend;
    let runner = &session.runner;
    let name = maker.view.name();
    let setup = |limit: Limit| maker.on_volume(limit, command, volume).with(backend);
    let meta = || Call::meta(volume, command).with(backend);
    let simple = |call: Call| runner.run(name, &call);
    match command {
        "attach" => {
            let [apply, attach] = maker.attach(volume);
            match simple(apply)? {
                0 => simple(attach.with(backend)),
                code => Ok(code),
            }
        }
        "primary" | "secondary" | "detach" => {
            let code = simple(setup(Limit::Medium))?;
            hint::after(session, name, volume, code);
            Ok(code)
        }
        // These wait for a bitmap, for writes or for a handshake, and are abandoned when killed.
        "disk-options" | "invalidate-remote" | "new-current-uuid" | "resume-io" | "suspend-io"
        | "verify" => simple(setup(Limit::Medium)),
        "invalidate" => invalidate(runner, name, &setup(Limit::Medium), &meta()),
        "pause-sync" | "resume-sync" | "role" | "cstate" => simple(setup(Limit::Short)),
        // The other node, whose I/O is frozen, may wait for it. Once begun it takes effect.
        "outdate" => outdate(runner, name, &setup(Limit::Short), &meta()),
        "dstate" | "show-gi" | "get-gi" => ask_both(runner, name, &setup(Limit::Short), &meta()),
        "resize" => resize(session, maker, volume),
        "check-resize" => check_resize(session, maker, volume),
        "wait-connect" | "wait-sync" => simple(maker.wait_alone(command, volume).with(backend)),
        "create-md" => create_md(runner, name, volume, &meta()),
        "dump-md" | "wipe-md" | "apply-al" | "set-gi" => simple(meta()),
        "new-minor" | "sh-new-minor" => registered(
            session,
            maker,
            maker.new_minor(volume),
            Register::Minor(volume.minor),
        ),
        _ => sh::on_volume(session, maker, volume),
    }
}

/// Runs a call that creates something, and remembers which file it came from.
fn registered(session: &Session<'_>, maker: &Maker<'_>, call: Call, what: Register) -> Ending {
    let name = maker.view.name();
    let code = session
        .runner
        .run(name, &call.with(&session.invocation.backend))?;
    if code == 0 && !session.runner.is_dry() {
        register::register(what, name, &session.config_path);
    }
    Ok(code)
}

/// Asks the kernel; if the volume is down, changes the metadata instead.
fn invalidate(runner: &Runner, name: &str, setup: &Call, meta: &Call) -> Ending {
    let ended = runner.run_with(name, setup, Errors::Kept)?;
    if runner.is_dry() {
        return runner.run(name, meta);
    }
    if ended.code == 0 || REFUSED.contains(&ended.code) {
        return Ok(tell(&ended));
    }
    runner.run(name, meta)
}

/// Outdates the volume in the kernel or, if it is down, in its metadata.
fn outdate(runner: &Runner, name: &str, setup: &Call, meta: &Call) -> Ending {
    let ended = runner.run_with(name, setup, Errors::Hidden)?;
    if !runner.is_dry() && matches!(ended.code, 0 | 17) {
        return Ok(ended.code);
    }
    let code = runner.run(name, meta)?;
    let is_inconsistent = ended.code == INCONSISTENT && code != 0;
    Ok(if is_inconsistent { INCONSISTENT } else { code })
}

/// Asks the kernel; if it does not know the volume, reads the metadata.
fn ask_both(runner: &Runner, name: &str, setup: &Call, meta: &Call) -> Ending {
    let ended = runner.run_with(name, setup, Errors::Kept)?;
    if !runner.is_dry() && (ended.code == 0 || REFUSED.contains(&ended.code)) {
        return Ok(tell(&ended));
    }
    runner.run(name, meta)
}

/// Prints what a helper complained about.
fn tell(ended: &Ended) -> u8 {
    eprint!("{}", ended.errors);
    ended.code
}

fn resize(session: &Session<'_>, maker: &Maker<'_>, volume: &LocalVolume) -> Ending {
    let [resize, check] = maker.resize(volume);
    let name = maker.view.name();
    let code = session
        .runner
        .run(name, &resize.with(&session.invocation.backend))?;
    if code == 0 {
        // The device has its new size; that its place was not noted is no failure.
        session.runner.run(name, &check)?;
    }
    Ok(code)
}

fn check_resize(session: &Session<'_>, maker: &Maker<'_>, volume: &LocalVolume) -> Ending {
    let [resize, check] = maker.resize(volume);
    let (runner, name) = (&session.runner, maker.view.name());
    let ended = runner.run_with(name, &resize, Errors::Kept)?;
    if ended.code != 0 && is_attached(runner, maker, volume) {
        // The metadata is in use: drbdmeta could say no more than that.
        return Ok(tell(&ended));
    }
    if ended.code != 0 {
        return runner.run(name, &Call::meta(volume, "check-resize"));
    }
    runner.run_with(name, &check, Errors::Hidden)?;
    Ok(0)
}

/// Whether the kernel has a disk attached to the volume.
fn is_attached(runner: &Runner, maker: &Maker<'_>, volume: &LocalVolume) -> bool {
    let ask = maker.on_volume(Limit::Short, "dstate", volume);
    let states = runner.silently(maker.view.name(), &ask).unwrap_or_default();
    let own = states.split('/').next().unwrap_or_default().trim();
    !matches!(own, "" | "Diskless" | "Unconfigured")
}

/// Creates metadata and makes sure that the device has an identity.
fn create_md(runner: &Runner, name: &str, volume: &LocalVolume, create: &Call) -> Ending {
    let code = runner.run(name, create)?;
    if code != 0 || runner.is_dry() {
        return Ok(code);
    }
    let read = Call::meta(volume, "read-dev-uuid");
    let uuid = runner.silently(name, &read).unwrap_or_default();
    let is_zero = !uuid.trim().is_empty() && uuid.trim().bytes().all(|digit| digit == b'0');
    if is_zero {
        if let Some(uuid) = random_u64() {
            let write = Call::meta(volume, "write-dev-uuid").with(&[format!("{uuid:016X}")]);
            let _ = runner.silently(name, &write);
        }
    }
    Ok(0)
}

fn random_u64() -> Option<u64> {
    use std::io::Read as _;
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")
        .ok()?
        .read_exact(&mut bytes)
        .ok()?;
    Some(u64::from_ne_bytes(bytes))
}
