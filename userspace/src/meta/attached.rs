//! What `drbdsetup check-resize` remembers about a disk that is attached.

use super::device::{Access, Device};
use super::last_known::LastKnown;
use super::store::Store;
use crate::report::Failure;
use drbd_format::disk::layout::Placement;

/// Remembers the size of a device if its metadata lies at the end that it has now.
///
/// The file leads to metadata whose device grew, so a size at which there is none must not
/// replace the one that says where it is. Says nothing: the disk is in use, and all is well.
pub(crate) fn remember(path: &str, last_known: LastKnown, files: bool) -> Result<(), Failure> {
    let access = Access {
        exclusive: false,
        files,
        dry_run: true,
    };
    // Only an exclusive open finds a device busy.
    let Some(device) = Device::open(path, access)? else {
        return Ok(());
    };
    let store = Store::new(device, Placement::Internal, last_known)?;
    if let Some(found) = store.find_quietly()? {
        let uuid = found.superblock.device_uuid;
        store
            .last_known
            .update(&store.device, store.placement, uuid);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::store::Found;
    use drbd_format::disk::layout::Striping;
    use drbd_format::disk::superblock::Superblock;
    use std::fs;
    use std::path::Path;

    const MIB: u64 = 1 << 20;

    fn create_md(path: &str, dir: &Path) {
        let access = Access {
            exclusive: false,
            files: true,
            dry_run: false,
        };
        let device = Device::open(path, access).unwrap().unwrap();
        let last_known = LastKnown::read(dir, None, false);
        let store = Store::new(device, Placement::Internal, last_known).unwrap();
        let layout = store.layout(Striping::DEFAULT).unwrap();
        let mut superblock = Superblock::new(&layout);
        superblock.device_uuid = 0x12;
        store
            .write_superblock(&Found { layout, superblock })
            .unwrap();
    }

    #[test]
    fn a_size_at_which_there_is_no_metadata_is_not_remembered() {
        let dir = std::env::temp_dir().join(format!("drbd-attached-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let device = dir.join("device");
        let path = device.to_str().unwrap();
        let file = fs::File::create(&device).unwrap();
        file.set_len(64 * MIB).unwrap();
        create_md(path, &dir);
        let check_resize = || {
            remember(path, LastKnown::read(&dir, Some(3), false), true).unwrap();
            fs::read_to_string(dir.join("drbd-minor-3.lkbd")).unwrap()
        };
        let at_the_end = format!("67108864\t{path}\nuuid:\t0000000000000012\n");
        assert_eq!(check_resize(), at_the_end);
        file.set_len(65 * MIB).unwrap();
        assert_eq!(check_resize(), at_the_end, "the metadata is where it was");
        create_md(path, &dir);
        let moved = format!("68157440\t{path}\nuuid:\t0000000000000012\n");
        assert_eq!(check_resize(), moved);
        fs::remove_dir_all(&dir).unwrap();
    }
}
