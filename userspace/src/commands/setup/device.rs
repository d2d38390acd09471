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
    use rustix::fs::{fcntl_lock, FlockOperation};
    use rustix::io::Errno;
    use rustix::process::{fcntl_getlk, Flock, FlockType};
    use std::fs::{DirBuilder, File, OpenOptions};
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
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
            let deadline = Instant::now() + PATIENCE;
            let files: Result<Vec<File>, Failure> = DIRS
                .iter()
                .filter(|dir| Path::new(dir).is_dir())
                .map(|dir| lock(&format!("{dir}/drbd-{MAJOR}-{minor}"), deadline))
                .collect();
            Ok(Self { _files: files? })
        }
    }

    fn lock(path: &str, deadline: Instant) -> Result<File, Failure> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|e| {
                let reason = crate::netlink::request::strerror(&e);
                Failure::local(format!("open({path}): {reason}"))
            })?;
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
