//! What was last known about a backing device, so that metadata is found after it grew.
//!
//! One small file for each minor (`reference/metadata.md` 8.9).

use super::device::Device;
use crate::netlink::request::strerror;
use drbd_format::disk::layout::Placement;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Where the files are kept.
pub(crate) const VAR_LIB: &str = "/var/lib/drbd";

/// Name and content of the file of one minor.
#[derive(Debug)]
pub(crate) struct LastKnown {
    file: Option<PathBuf>,
    size: Option<u64>,
    device_uuid: Option<u64>,
    dry_run: bool,
}

impl LastKnown {
    /// Reads the file of a minor. Without a minor nothing is known or remembered; a dry run knows,
    /// but changes nothing.
    pub(crate) fn read(dir: &Path, minor: Option<u32>, dry_run: bool) -> Self {
        let file = minor.map(|minor| dir.join(format!("drbd-minor-{minor}.lkbd")));
        let text = file
            .as_ref()
            .and_then(|file| std::fs::read_to_string(file).ok());
        let (size, device_uuid) = text.as_deref().map_or((None, None), parse);
        Self {
            file,
            size,
            device_uuid,
            dry_run,
        }
    }

    /// Size of the backing device in bytes.
    pub(crate) fn size(&self) -> Option<u64> {
        self.size
    }

    /// Whether metadata with this identity is the one that was remembered.
    pub(crate) fn is_same(&self, device_uuid: u64) -> bool {
        self.device_uuid.is_none_or(|known| known == device_uuid)
    }

    /// Remembers a device with internal metadata, forgets any other.
    pub(crate) fn update(&self, device: &Device, placement: Placement, device_uuid: u64) {
        let Some(file) = self.file_to_change() else {
            return;
        };
        if !placement.is_internal() {
            return self.forget();
        }
        let mut text = format!("{}\t{}\n", device.size(), device.path());
        if device_uuid != 0 {
            text.push_str(&format!("uuid:\t{device_uuid:016X}\n"));
        }
        if let Some(dir) = file.parent() {
            let _ = std::fs::create_dir_all(dir);
        }
        if let Err(error) = replace(file, &text) {
            eprintln!(
                "lk_bdev_save({}) failed: {}",
                file.display(),
                strerror(&error)
            );
        }
    }

    /// Forgets what was known.
    pub(crate) fn forget(&self) {
        if let Some(file) = self.file_to_change() {
            let _ = std::fs::remove_file(file);
        }
    }

    fn file_to_change(&self) -> Option<&Path> {
        self.file.as_deref().filter(|_| !self.dry_run)
    }
}

/// Replaces the file as a whole: half of a size would lead nowhere, or to the wrong place.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let new = file.with_extension("new");
    let mut written = std::fs::File::create(&new)?;
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    std::fs::rename(new, file)
}

fn parse(text: &str) -> (Option<u64>, Option<u64>) {
    let mut lines = text.lines();
    let size = lines
        .next()
        .and_then(|line| line.split('\t').next()?.parse().ok());
    let uuid = lines
        .find_map(|line| line.strip_prefix("uuid:"))
        .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    (size, uuid)
}

#[cfg(test)]
mod tests {
    use super::super::device::Access;
    use super::*;

    #[test]
    fn both_lines_are_read() {
        assert_eq!(parse("67108864\t/dev/sda2\n"), (Some(67_108_864), None));
        let text = "67108864\t/dev/sda2\nuuid:\t0102030405060708\n";
        assert_eq!(parse(text), (Some(67_108_864), Some(0x0102_0304_0506_0708)));
        assert_eq!(parse("nonsense"), (None, None));
        assert_eq!(parse(""), (None, None));
    }

    #[test]
    fn the_file_is_old_or_new_and_never_half_of_it() {
        let dir = std::env::temp_dir().join(format!("drbd-lkbd-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let device = dir.join("device");
        let file = std::fs::File::create(&device).unwrap();
        file.set_len(1 << 20).unwrap();
        let access = Access {
            exclusive: false,
            files: true,
            dry_run: false,
        };
        let device = Device::open(device.to_str().unwrap(), access)
            .unwrap()
            .unwrap();
        let known = dir.join("drbd-minor-3.lkbd");
        std::fs::write(&known, "4096\t/dev/old\n").unwrap();
        // Whoever has the old file open, as a crash would leave it, still reads all of it.
        let old = dir.join("old");
        std::fs::hard_link(&known, &old).unwrap();
        let last_known = LastKnown::read(&dir, Some(3), false);
        last_known.update(&device, Placement::Internal, 0x12);
        let new = format!("1048576\t{}\nuuid:\t0000000000000012\n", device.path());
        assert_eq!(std::fs::read_to_string(&known).unwrap(), new);
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "4096\t/dev/old\n");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 3, "nothing else");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
