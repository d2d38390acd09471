//! Remembers which configuration file a resource came from, for the handlers.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{symlink, DirBuilderExt as _};
use std::path::{Path, PathBuf};

use crate::adjust::plan::Register;

/// Where the links are.
const FOLDER: &str = "/run/drbd";

/// Links the name of a minor or resource to the file `config`.
///
/// The links are a convenience: that one cannot be made is no reason to fail.
pub(super) fn register(what: Register, resource: &str, config: &Path) {
    let name = match what {
        Register::No => return,
        Register::Minor(minor) => minor_link(minor),
        Register::Resource => resource_link(resource),
    };
    if config.starts_with(FOLDER) || !config.is_absolute() {
        return;
    }
    let mut folder = DirBuilder::new();
    let _ = folder.recursive(true).mode(0o700).create(FOLDER);
    let link = Path::new(FOLDER).join(name);
    if fs::read_link(&link).is_ok_and(|target| target == config) {
        return;
    }
    let _ = fs::remove_file(&link);
    if let Err(error) = symlink(config, &link) {
        eprintln!("could not create {}: {error}", link.display());
    }
}

/// Returns the configuration file that created the minor.
pub(super) fn file_of_minor(minor: u32) -> Option<PathBuf> {
    fs::read_link(Path::new(FOLDER).join(minor_link(minor))).ok()
}

/// Returns the configuration file that created the resource.
pub(super) fn file_of_resource(resource: &str) -> Option<PathBuf> {
    fs::read_link(Path::new(FOLDER).join(resource_link(resource))).ok()
}

fn minor_link(minor: u32) -> String {
    format!("drbd-minor-{minor}.conf")
}

fn resource_link(resource: &str) -> String {
    format!("drbd-resource-{}.conf", resource.replace('/', "_"))
}
