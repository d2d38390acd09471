//! The commands for scripts: they print one fact each, without decoration.

use super::{Ending, Session, MISUSED};
use crate::adjust::call::{escape, Limit, Maker};
use crate::config::resolve::{LocalVolume, View};

/// Names of the volumes' minors that a module parameter should allow for, beyond those in use.
const SPARE_MINORS: usize = 3;

/// Prints the names of this node's resources on one line.
pub(super) fn resources(session: &Session<'_>) {
    let stacked = session.general().stacked;
    let views = session.views.iter();
    let names: Vec<String> = views
        .filter(|view| !view.is_ignored() && view.is_stacked() == stacked)
        .map(|view| escape(view.name()))
        .collect();
    if !names.is_empty() {
        println!("{}", names.join(" "));
    }
}

/// Prints the parameters with which the module should be loaded.
pub(super) fn module_parameters(session: &Session<'_>) {
    let wanted = session.config.global.number("minor-count");
    let minors: usize = session.views.iter().map(|view| view.volumes().len()).sum();
    let minors = match wanted {
        0 => (minors + SPARE_MINORS).clamp(32, 255).to_string(),
        wanted => wanted.to_string(),
    };
    println!("minor_count={minors}");
}

/// Prints the state of all volumes as shell assignments (`reference/userland.md 2.10`).
pub(super) fn status(session: &Session<'_>) -> Ending {
    if !session.runner.is_dry() {
        println!("_drbd_version={}", super::version::VERSION);
        println!("_drbd_api=1");
        println!(
            "_config_file={}\n\n",
            escape(&session.config_path.to_string_lossy())
        );
    }
    for view in session.views.iter().filter(|view| !view.is_ignored()) {
        let maker = session.maker(view);
        let place = session.config.sources.at_path(view.resource.place);
        println!("_conf_res_name={}", escape(view.name()));
        println!("_conf_file_line={}\n", escape(&place));
        let lower = view.mine().and_then(|side| side.lower);
        println!(
            "_stacked_on={}",
            escape(lower.map_or("", |lower| &lower.name.text))
        );
        if lower.is_none() {
            println!("_stacked_on_device=\n_stacked_on_minor=");
        }
        for volume in view.volumes() {
            let below = view
                .mine()
                .and_then(|side| side.lower_device(volume.number));
            if let Some(device) = below {
                println!("_stacked_on_device={}", escape(&device.path()));
                println!("_stacked_on_minor={}", device.minor);
            }
            println!("_conf_volume={}", volume.number);
            let call = maker.on_volume(Limit::Short, "sh-status", &volume);
            let code = session.runner.run(view.name(), &call)?;
            if code >= 10 {
                eprintln!("command sh-status exited with code {code}");
                return Ok(code);
            }
        }
    }
    Ok(0)
}

/// Prints the resource below a stacked one.
pub(super) fn lower_resource(session: &Session<'_>, view: &View<'_>) -> u8 {
    match view.mine().and_then(|side| side.lower) {
        Some(lower) if session.general().stacked => {
            println!("{}", lower.name.text);
            0
        }
        _ => {
            eprintln!("sh-lower-resource only available in stacked mode");
            MISUSED
        }
    }
}

/// Refuses to steer the replication proxy.
pub(super) fn proxy(view: &View<'_>) -> u8 {
    let has_proxy = view.mine().is_some_and(|side| side.host.proxy.is_some());
    if has_proxy {
        eprintln!(
            "resource {}: the replication proxy is not supported",
            view.name()
        );
        return MISUSED;
    }
    0
}

/// Prints one fact about a volume, or makes it primary as its configuration demands.
pub(super) fn on_volume(session: &Session<'_>, maker: &Maker<'_>, volume: &LocalVolume) -> Ending {
    match session.command().name {
        "sh-dev" => println!("{}", volume.node),
        "sh-minor" => println!("{}", volume.minor),
        "sh-ll-dev" => println!("{}", volume.disk),
        "sh-md-dev" => println!("{}", volume.meta_device),
        "sh-md-idx" => println!("{}", volume.meta_index),
        "sh-ip" => println!(
            "{}",
            maker.view.my_address().map_or("", |address| &address.host)
        ),
        "sh-udev" => udev(session, maker.view, volume),
        "sh-b-pri" => return become_primary(session, maker, volume),
        other => {
            eprintln!("{}: Unknown command '{other}'", session.program);
            return Ok(MISUSED);
        }
    }
    Ok(0)
}

/// Prints what the rule for device links wants to know.
fn udev(session: &Session<'_>, view: &View<'_>, volume: &LocalVolume) {
    let hides_number = volume.is_implicit && !session.config.global.is_on("udev-always-use-vnr");
    let resource = if hides_number {
        view.name().to_owned()
    } else {
        format!("{}/{}", view.name(), volume.number)
    };
    let bare = |path: &str| path.strip_prefix("/dev/").unwrap_or(path).to_owned();
    let disk = bare(&volume.disk);
    println!("RESOURCE={resource}");
    println!("DEVICE={}", bare(&volume.node));
    println!("DISK={disk}");
    println!("SYMLINK_BY_RES=drbd/by-res/{resource}");
    println!("SYMLINK_BY_DISK=drbd/by-disk/{disk}");
}

/// Makes the volume primary if its resource names this node under `become-primary-on`.
///
/// The connection may still be settling when the service starts, hence several attempts.
fn become_primary(session: &Session<'_>, maker: &Maker<'_>, volume: &LocalVolume) -> Ending {
    const ATTEMPTS: u32 = 5;
    const PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
    let names = &maker.view.resource.sections.startup.become_primary_on;
    if !names
        .iter()
        .any(|name| name.text == "both" || name.text == session.node)
    {
        return Ok(0);
    }
    let call = maker.on_volume(Limit::Medium, "primary", volume);
    let mut code = 0;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            std::thread::sleep(PAUSE);
        }
        code = session.runner.run(maker.view.name(), &call)?;
        if code == 0 {
            break;
        }
    }
    Ok(code)
}
