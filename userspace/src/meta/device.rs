//! A device with metadata on it: opened exclusively, read and written past the page cache.
//!
//! The driver writes past the page cache, so a cached block may be an old one.

use crate::netlink::request::strerror;
use crate::report::{outln, Failure};
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};

/// Alignment of memory and positions for direct input and output.
const ALIGN: usize = 4096;

/// Most bytes moved at once.
const CHUNK: usize = 1 << 20;

/// Exit code after an input or output error.
const RC_IO: u8 = 10;

/// Memory that is aligned for direct input and output.
struct Aligned {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    fn new(len: usize) -> Self {
        let memory = vec![0; len + ALIGN];
        let start = memory.as_ptr().align_offset(ALIGN).min(ALIGN);
        Self { memory, start, len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

/// How to open a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    /// Nobody else may have it open.
    pub(crate) exclusive: bool,
    /// A regular file will do.
    pub(crate) files: bool,
    /// Open it for reading, write nothing, only pretend.
    pub(crate) dry_run: bool,
}

/// An open device.
#[derive(Debug)]
pub(crate) struct Device {
    file: File,
    path: String,
    size: u64,
    dry_run: bool,
    /// With how many more writes the power is lost.
    #[cfg(test)]
    power: std::cell::Cell<Option<u32>>,
}

impl Device {
    /// Opens the device. `Ok(None)` says that somebody else has it open.
    pub(crate) fn open(path: &str, access: Access) -> Result<Option<Self>, Failure> {
        let failed =
            |error: &io::Error| Failure::local(format!("open({path}) failed: {}", strerror(error)));
        let kind = std::fs::metadata(path)
            .map_err(|error| failed(&error))?
            .file_type();
        let will_do = kind.is_block_device() || (access.files && kind.is_file());
        if !will_do {
            return Err(Failure::local(format!("'{path}' is not a block device!")));
        }
        let exclusive = if access.exclusive && kind.is_block_device() {
            OFlags::EXCL
        } else {
            OFlags::empty()
        };
        let open = |flags| open(path, flags, !access.dry_run);
        let mut file = match open(exclusive | OFlags::DIRECT) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => open(exclusive),
            other => other,
        };
        if matches!(&file, Err(error) if error.kind() == io::ErrorKind::ResourceBusy) {
            return Ok(None);
        }
        let size = match &mut file {
            Ok(file) => file.seek(SeekFrom::End(0)),
            Err(error) => return Err(failed(error)),
        };
        let size = size.map_err(|error| failed(&error))?;
        let file = file.map_err(|error| failed(&error))?;
        Ok(Some(Self {
            file,
            path: path.to_owned(),
            size,
            dry_run: access.dry_run,
            #[cfg(test)]
            power: std::cell::Cell::new(None),
        }))
    }

    /// Lets every write fail after the next ones, and tears the first of them.
    #[cfg(test)]
    pub(crate) fn lose_power_after(&self, writes: u32) {
        self.power.set(Some(writes));
    }

    /// Whether the power goes with this write, which tears the last block of `part`.
    #[cfg(test)]
    fn loses_power(&self, at: u64, part: &[u8]) -> bool {
        let left = self.power.get();
        self.power.set(left.map(|left| left.saturating_sub(1)));
        if left == Some(0) {
            let _ = self.file.write_all_at(&part[..part.len() - ALIGN / 2], at);
        }
        left == Some(0)
    }

    /// Path as given by the user.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Prints that something was done, unless it was only pretended.
    pub(crate) fn say_done(&self, text: &str) {
        if !self.dry_run {
            outln!("{text}");
        }
    }

    /// Size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Reads bytes; position and length are multiples of 512.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::with_capacity(len);
        let mut chunk = Aligned::new(len.min(CHUNK));
        while bytes.len() < len {
            let at = offset + bytes.len() as u64;
            let want = (len - bytes.len()).min(CHUNK);
            let place = &mut chunk.bytes()[..want];
            self.file
                .read_exact_at(place, at)
                .map_err(|error| self.failed("read", at, &error))?;
            bytes.extend_from_slice(place);
        }
        Ok(bytes)
    }

    /// Writes bytes; position and length are multiples of 512.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        if self.dry_run {
            return Ok(());
        }
        let mut chunk = Aligned::new(bytes.len().min(CHUNK));
        let mut at = offset;
        for part in bytes.chunks(CHUNK) {
            let place = &mut chunk.bytes()[..part.len()];
            place.copy_from_slice(part);
            #[cfg(test)]
            if self.loses_power(at, place) {
                return Err(Failure::new(RC_IO, "power lost"));
            }
            self.file
                .write_all_at(place, at)
                .map_err(|error| self.failed("write", at, &error))?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Writes the same byte everywhere in a range.
    pub(crate) fn fill(&self, offset: u64, len: u64, byte: u8) -> Result<(), Failure> {
        let full = vec![byte; CHUNK];
        let mut done = 0;
        while done < len {
            let part = usize::try_from((len - done).min(CHUNK as u64)).unwrap_or(CHUNK);
            self.write(offset + done, &full[..part])?;
            done += part as u64;
        }
        Ok(())
    }

    /// Waits until everything written is on stable storage.
    pub(crate) fn flush(&self) -> Result<(), Failure> {
        if self.dry_run {
            return Ok(());
        }
        self.file
            .sync_data()
            .map_err(|error| self.failed("fsync", 0, &error))
    }

    fn failed(&self, what: &str, offset: u64, error: &io::Error) -> Failure {
        let (path, reason) = (&self.path, strerror(error));
        Failure::new(
            RC_IO,
            format!("{what}({path}) at byte {offset} failed: {reason}"),
        )
    }
}

fn open(path: &str, flags: OFlags, write: bool) -> io::Result<File> {
    // CAST: The flags of open(2) are an int.
    let flags = i32::from_ne_bytes(flags.bits().to_ne_bytes());
    OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(flags)
        .open(path)
}
