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
    target(Path::new(FOLDER), &minor_link(minor))
}

/// Returns the configuration file that created the resource.
pub(super) fn file_of_resource(resource: &str) -> Option<PathBuf> {
    target(Path::new(FOLDER), &resource_link(resource))
}

/// Returns where the link leads. One whose file is gone is as good as none.
fn target(folder: &Path, name: &str) -> Option<PathBuf> {
    let link = folder.join(name);
    fs::read_link(&link).ok().filter(|_| link.exists())
}

fn minor_link(minor: u32) -> String {
    format!("drbd-minor-{minor}.conf")
}

fn resource_link(resource: &str) -> String {
    format!("drbd-resource-{}.conf", resource.replace('/', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_whose_file_is_gone_is_not_followed() {
        let folder = std::env::temp_dir().join(format!("drbd-links-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let (config, name) = (folder.join("r0.conf"), resource_link("r0"));
        fs::write(&config, "").expect("a file");
        symlink(&config, folder.join(&name)).expect("a link");
        assert_eq!(target(&folder, &name), Some(config.clone()));
        fs::remove_file(&config).expect("it was there");
        assert_eq!(target(&folder, &name), None);
        fs::remove_dir_all(folder).expect("it was there");
    }
}
