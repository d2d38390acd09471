//! Finds the resources and volumes that the names on the command line mean.

use super::table::{Command, Scope};
use crate::config::resolve::{LocalVolume, View};

/// A resource to work on.
#[derive(Clone, Debug)]
pub(super) struct Selected<'v> {
    /// The resource.
    pub(super) view: &'v View<'v>,
    /// The volumes to work on, in ascending order.
    pub(super) volumes: Vec<LocalVolume>,
    /// Whether the user named one volume.
    pub(super) one_volume: Option<u32>,
}

/// Why a name selects nothing; the text is for the user, the exit code is 1.
#[derive(Clone, Debug)]
pub(super) enum Mismatch {
    /// There is no such thing: names behind it are not looked at.
    Unknown(String),
    /// It cannot be used with this command.
    Unfit(String),
}

impl Mismatch {
    /// Returns what the user is told.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Unknown(text) | Self::Unfit(text) => text,
        }
    }
}

/// Finds what `name` means to `command`.
///
/// # Errors
///
/// The name means nothing here.
pub(super) fn select<'v>(
    command: &Command,
    views: &'v [View<'v>],
    name: &str,
    stacked: bool,
) -> Result<Selected<'v>, Mismatch> {
    let unknown = || {
        Mismatch::Unknown(format!(
            "'{name}' not defined in your config (for this host)."
        ))
    };
    let by_minor = name
        .strip_prefix("minor-")
        .and_then(|minor| minor.parse::<u32>().ok());
    if let Some(minor) = by_minor {
        let (view, volume) = find_minor(views, minor).ok_or_else(unknown)?;
        let one_volume = Some(volume.number);
        return fitting(
            command,
            Selected {
                view,
                volumes: vec![volume],
                one_volume,
            },
        );
    }
    let exact = views.iter().find(|view| view.name() == name);
    let (view, number) = match (exact, name.rsplit_once('/')) {
        (Some(view), _) => (view, None),
        (None, Some((resource, number))) => {
            let view = views
                .iter()
                .find(|view| view.name() == resource)
                .ok_or_else(unknown)?;
            (view, Some(number.parse::<u32>().map_err(|_| unknown())?))
        }
        (None, None) => return Err(unknown()),
    };
    let is_listed = matches!(command.name, "dump" | "dump-xml");
    if view.is_ignored() {
        return Err(unknown());
    }
    if view.is_stacked() != stacked && !is_listed && command.scope != Scope::Handler {
        let (is, mode) = if stacked {
            ("normal", "stacked")
        } else {
            ("stacked", "normal")
        };
        return Err(Mismatch::Unfit(format!(
            "'{name}' is a {is} resource, and not available in {mode} mode."
        )));
    }
    let mut volumes = view.volumes();
    if let Some(number) = number {
        volumes.retain(|volume| volume.number == number);
        if volumes.is_empty() {
            return Err(unknown());
        }
    }
    fitting(
        command,
        Selected {
            view,
            volumes,
            one_volume: number,
        },
    )
}

/// Reports whether the user chose a volume of a resource that numbers its volumes.
fn names_one_of_several(selected: &Selected<'_>) -> bool {
    selected.one_volume.is_some() && !selected.volumes.iter().all(|volume| volume.is_implicit)
}

/// Refuses a choice that the command cannot work on.
///
/// # Errors
///
/// The choice and why it does not fit.
pub(super) fn fitting<'v>(
    command: &Command,
    selected: Selected<'v>,
) -> Result<Selected<'v>, Mismatch> {
    let name = command.name;
    match command.scope {
        Scope::Resource if names_one_of_several(&selected) => Err(Mismatch::Unfit(format!(
            "{name} operates on whole resources, but you specified a specific volume!"
        ))),
        Scope::OneVolume => match selected.volumes.as_slice() {
            [only] if selected.one_volume.is_some() || only.is_implicit => Ok(selected),
            _ => Err(Mismatch::Unfit(format!(
                "{name} requires a specific volume id, but none is specified.\nTry '{name} \
                 minor-<minor_number>' or '{name} {}/<vnr>'",
                selected.view.name()
            ))),
        },
        Scope::Nothing
        | Scope::Resource
        | Scope::ResourceOrVolume
        | Scope::Volume
        | Scope::Handler => Ok(selected),
    }
}

/// Finds the volume of this node with the device minor `minor`.
pub(super) fn find_minor<'v>(
    views: &'v [View<'v>],
    minor: u32,
) -> Option<(&'v View<'v>, LocalVolume)> {
    views.iter().find_map(|view| {
        let volume = view
            .volumes()
            .into_iter()
            .find(|volume| volume.minor == minor)?;
        Some((view, volume))
    })
}
