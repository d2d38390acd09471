//! Minors: how users name them, the lock that serialises commands, the register of configurations.

pub(crate) use self::lock::MinorLock;
use crate::report::Failure;
use drbd_format::netlink::ids::MINOR_MAX;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// Block major of the devices.
const MAJOR: u32 = 147;

/// Directory with the links to the configuration that set a minor or resource up.
const RUN_DIR: &str = "/run/drbd";

/// Reads a minor: a number, `/dev/drbdN`, or any block device node with the major of DRBD. A bare
/// `drbdN` is none: resources have such names, and would be taken for the device of another one.
pub(crate) fn minor_of(word: &str) -> Result<u32, Failure> {
    let digits = word.strip_prefix("/dev/drbd").unwrap_or(word);
    if let Some(minor) = digits.parse().ok().filter(|minor| *minor <= MINOR_MAX) {
        return Ok(minor);
    }
    std::fs::metadata(word)
        .ok()
        .filter(|node| node.file_type().is_block_device())
        .map(|node| node.rdev())
        .filter(|rdev| rustix::fs::major(*rdev) == MAJOR)
        .map(rustix::fs::minor)
        .ok_or_else(|| {
            Failure::local(format!(
                "Cannot determine minor device number of device '{word}'"
            ))
        })
}

/// Forgets which configuration set a minor up.
pub(super) fn unregister_minor(minor: u32) {
    let _ = std::fs::remove_file(format!("{RUN_DIR}/drbd-minor-{minor}.conf"));
}

/// Forgets which configuration set a resource up.
pub(super) fn unregister_resource(name: &str) {
    let _ = std::fs::remove_file(format!("{RUN_DIR}/drbd-resource-{name}.conf"));
}

mod lock {
    //! One lock file for each minor. The lock ends with the process or when the file is closed.

    use super::{Failure, MAJOR};
    use rustix::fs::{fcntl_lock, FlockOperation, OFlags};
    use rustix::io::Errno;
    use rustix::process::{fcntl_getlk, Flock, FlockType};
    use std::fs::{DirBuilder, File, OpenOptions};
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
    use std::path::Path;
    use std::time::{Duration, Instant};

    const PARENT: &str = "/run/drbd";
    const DIRS: [&str; 2] = ["/run/drbd/lock", "/var/lock"];
    const PATIENCE: Duration = Duration::from_secs(1);
    const PAUSE: Duration = Duration::from_millis(20);

    /// The right to change a minor, shared with all tools of this and older packages.
    #[derive(Debug)]
    pub(crate) struct MinorLock {
        _files: Vec<File>,
    }

    impl MinorLock {
        /// Waits at most a second for the lock.
        pub(crate) fn take(minor: u32) -> Result<Self, Failure> {
            for dir in [PARENT, DIRS[0]] {
                let _ = DirBuilder::new().mode(0o700).create(dir);
            }
            Self::take_in(&DIRS, minor)
        }

        fn take_in(dirs: &[&str], minor: u32) -> Result<Self, Failure> {
            let deadline = Instant::now() + PATIENCE;
            let mut files = Vec::new();
            for dir in dirs.iter().filter(|dir| Path::new(dir).is_dir()) {
                let path = format!("{dir}/drbd-{MAJOR}-{minor}");
                match open(&path) {
                    Ok(file) => files.push(lock(file, &path, deadline)?),
                    // Everybody may write to the older place: what somebody else has put there is
                    // no lock, and no reason to do nothing.
                    Err(_) if !files.is_empty() => {}
                    Err(failure) => return Err(failure),
                }
            }
            Ok(Self { _files: files })
        }
    }

    /// Opens a lock file that nobody else can have made.
    fn open(path: &str) -> Result<File, Failure> {
        let failed = |error: std::io::Error| {
            let reason = crate::netlink::request::strerror(&error);
            Failure::local(format!("open({path}): {reason}"))
        };
        // CAST: The flags of open(2) are an int.
        let no_link = i32::from_ne_bytes(OFlags::NOFOLLOW.bits().to_ne_bytes());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(no_link)
            .open(path)
            .map_err(failed)?;
        let owner = file.metadata().map_err(failed)?.uid();
        if owner != rustix::process::geteuid().as_raw() {
            return Err(Failure::local(format!("{path} belongs to user {owner}")));
        }
        Ok(file)
    }

    fn lock(file: File, path: &str, deadline: Instant) -> Result<File, Failure> {
        loop {
            match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(Errno::AGAIN | Errno::ACCESS) if Instant::now() < deadline => {
                    std::thread::sleep(PAUSE);
                }
                Err(Errno::AGAIN | Errno::ACCESS) => {
                    let holder = fcntl_getlk(&file, &Flock::from(FlockType::WriteLock));
                    let pid = holder.ok().flatten().and_then(|lock| lock.pid);
                    let pid = pid.map_or(0, rustix::process::Pid::as_raw_pid);
                    let text = format!("lock on {path} currently held by pid:{pid}");
                    return Err(Failure::local(text));
                }
                Err(error) => {
                    let reason = std::io::Error::from(error);
                    return Err(Failure::local(format!("lock on {path}: {reason}")));
                }
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::fs;
        use std::os::unix::fs::{chown, symlink};

        #[test]
        fn what_others_put_into_the_older_place_is_in_nobodys_way() {
            let base = std::env::temp_dir().join(format!("drbd-lock-{}", std::process::id()));
            let dirs = ["own", "shared", "none"].map(|name| base.join(name));
            fs::create_dir_all(&dirs[0]).unwrap();
            fs::create_dir_all(&dirs[1]).unwrap();
            let [own, shared, none] = dirs.each_ref().map(|dir| dir.to_str().unwrap());
            let victim = base.join("victim");
            symlink(&victim, format!("{shared}/drbd-147-3")).unwrap();
            let foreign = format!("{shared}/drbd-147-4");
            fs::write(&foreign, "").unwrap();
            let is_root = chown(&foreign, Some(65_534), None).is_ok();
            for minor in if is_root { 3..5 } else { 3..4 } {
                let both = MinorLock::take_in(&[own, shared], minor).unwrap();
                assert_eq!(both._files.len(), 1, "minor {minor}");
                assert!(MinorLock::take_in(&[none, shared], minor).is_err());
            }
            assert!(!victim.exists());
            let both = MinorLock::take_in(&[own, shared], 5).unwrap();
            assert_eq!(both._files.len(), 2);
            fs::remove_dir_all(&base).unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minors_are_numbers_or_device_nodes() {
        assert_eq!(minor_of("0"), Ok(0));
        assert_eq!(minor_of("/dev/drbd7"), Ok(7));
        assert_eq!(minor_of("1048575"), Ok(1048575));
        for word in ["1048576", "xx", "/dev/null", "-1", ""] {
            assert_eq!(minor_of(word).unwrap_err().code, 20, "{word}");
        }
    }

    #[test]
    fn a_resource_named_like_a_device_is_not_taken_for_it() {
        assert_eq!(minor_of("drbd1").unwrap_err().code, 20);
    }
}
