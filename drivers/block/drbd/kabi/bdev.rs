// SPDX-License-Identifier: GPL-2.0-only

//! Backing devices: opened by path for us alone, with their limits and synchronous operations.

use super::{
    disk::{
        Disk,
        DiskOps, //
    },
    drain::{
        Drain,
        Use, //
    },
    ffi, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// An identity under which devices are claimed.
///
/// Two opens of one device succeed only with the same identity: internal metadata uses the one of
/// its volume, indexed metadata one for all volumes (reference/netlink.md 7.7).
pub(crate) struct Holder {
    /// The address of this byte is the identity.
    _identity: u8,
}

impl Holder {
    /// Creates an identity. May sleep.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Ok(Arc::new(Self { _identity: 0 }, GFP_KERNEL)?)
    }
}

/// What a backing device can do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DeviceLimits {
    /// Smallest addressable block.
    pub(crate) logical_block_bytes: u32,
    /// Smallest block that is written without reading first.
    pub(crate) physical_block_bytes: u32,
    /// Preferred smallest request.
    pub(crate) io_min_bytes: u32,
    /// Preferred largest request, 0 if unknown.
    pub(crate) io_opt_bytes: u32,
    /// Offset of the first aligned block.
    pub(crate) alignment_offset_bytes: u32,
    /// Largest request of the hardware.
    pub(crate) max_hw_sectors: u32,
    /// Largest discard, 0 if the device cannot discard.
    pub(crate) max_discard_sectors: u32,
    /// Unit of discards.
    pub(crate) discard_granularity_bytes: u32,
    /// Offset of the first aligned discard.
    pub(crate) discard_alignment_bytes: u32,
}

/// A block device that is open for reading and writing, claimed for a [`Holder`].
///
/// Dropping it waits until all bios sent to it are back, removes the holder link and closes it: may
/// sleep.
///
/// # Invariants
///
/// `bdev` belongs to the open `file`. `link` is the disk whose link exists, with a reference.
#[pin_data(PinnedDrop)]
struct Inner {
    // Goes first: it waits for all bios.
    users: Drain,
    bdev: NonNull<bindings::block_device>,
    #[pin]
    link: Mutex<Option<LinkedDisk>>,
    _file: OpenFile,
    _holder: Arc<Holder>,
}

/// An open file of a block device.
///
/// # Invariants
///
/// The file is open and belongs to this value.
struct OpenFile(NonNull<bindings::file>);

impl Drop for OpenFile {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { ffi::drbd_helper_bdev_close(self.0.as_ptr()) };
    }
}

/// A gendisk with a reference, which a holder link names.
struct LinkedDisk(NonNull<bindings::gendisk>);

// SAFETY: Only the pointer travels; the reference count of a disk is thread-safe.
unsafe impl Send for LinkedDisk {}

/// See [`Inner`].
pub(crate) struct BackingDevice(Pin<KBox<Inner>>);

// SAFETY: The block layer allows use of a device from every thread.
unsafe impl Send for Inner {}
// SAFETY: As above; the link has a lock.
unsafe impl Sync for Inner {}

impl BackingDevice {
    /// Opens `path` for reading and writing and claims it. May sleep.
    ///
    /// # Errors
    ///
    /// Those of opening a file, `ENOTBLK`, and `EBUSY` if somebody else has claimed the device.
    pub(crate) fn open(path: &CStr, holder: &Arc<Holder>) -> Result<Self> {
        let users = Drain::new()?;
        let identity = Arc::as_ptr(holder).cast_mut().cast::<c_void>();
        // SAFETY: The path is a C string; the identity is an address that stays ours as long as
        // the device keeps a reference to the holder.
        let file = unsafe { ffi::drbd_helper_bdev_open(path.as_char_ptr(), identity) };
        // INVARIANT: The file was just opened.
        let file = OpenFile(NonNull::new(from_err_ptr(file)?).ok_or(EINVAL)?);
        // SAFETY: The file is open, as a block device.
        let bdev = unsafe { ffi::drbd_helper_bdev_of(file.0.as_ptr()) };
        let bdev = NonNull::new(bdev).ok_or(EINVAL)?;
        let holder = holder.clone();
        let inner = KBox::pin_init(
            pin_init!(Inner {
                users,
                bdev,
                link <- new_mutex!(None),
                _file: file,
                _holder: holder,
            }),
            GFP_KERNEL,
        )?;
        Ok(Self(inner))
    }

    /// Shows the device as a slave of `disk` in sysfs, until [`unlink`](Self::unlink) or the end of
    /// the device. May sleep. Does nothing if there is a link already.
    ///
    /// The link holds a reference to the disk: if the device belongs to what serves the disk, it
    /// must be unlinked or dropped before `Disk::withdraw`, or neither is ever freed.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the disk was withdrawn, `ENOMEM`.
    pub(crate) fn link_to<T: DiskOps>(&self, disk: &Disk<T>) -> Result {
        let mut link = self.0.link.lock();
        if link.is_some() {
            return Ok(());
        }
        let gendisk = disk.get_gendisk()?;
        // SAFETY: Both are valid; the reference that `get_gendisk` took goes into `link`.
        let linked = unsafe { bindings::bd_link_disk_holder(self.as_ptr(), gendisk.as_ptr()) };
        if let Err(error) = to_result(linked) {
            // SAFETY: Gives back the reference that was just taken.
            unsafe { bindings::put_disk(gendisk.as_ptr()) };
            return Err(error);
        }
        *link = Some(LinkedDisk(gendisk));
        Ok(())
    }

    /// Removes the link in sysfs, if there is one. May sleep.
    pub(crate) fn unlink(&self) {
        self.0.unlink();
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::block_device {
        self.0.bdev.as_ptr()
    }

    /// Registers a bio that is on its way.
    pub(super) fn enter(&self) -> Use {
        self.0.users.enter()
    }

    /// Whether both are the same block device.
    pub(crate) fn same_device(&self, other: &Self) -> bool {
        self.0.bdev == other.0.bdev
    }

    /// Size, in sectors of 512 bytes.
    pub(crate) fn sectors(&self) -> u64 {
        // SAFETY: The device is open.
        unsafe { ffi::drbd_helper_bdev_sectors(self.as_ptr()) }
    }

    /// The limits as they are now.
    pub(crate) fn limits(&self) -> DeviceLimits {
        let mut raw = ffi::BdevLimits::default();
        // SAFETY: The device is open, the structure is the one the function fills.
        unsafe { ffi::drbd_helper_bdev_limits(self.as_ptr(), &mut raw) };
        DeviceLimits {
            logical_block_bytes: raw.logical_block_bytes,
            physical_block_bytes: raw.physical_block_bytes,
            io_min_bytes: raw.io_min_bytes,
            io_opt_bytes: raw.io_opt_bytes,
            alignment_offset_bytes: raw.alignment_offset_bytes,
            max_hw_sectors: raw.max_hw_sectors,
            max_discard_sectors: raw.max_discard_sectors,
            discard_granularity_bytes: raw.discard_granularity_bytes,
            discard_alignment_bytes: raw.discard_alignment_bytes,
        }
    }

    /// Whether the device has a volatile write cache now; it may get one at any time. Any context.
    pub(crate) fn has_cache(&self) -> bool {
        // SAFETY: The device is open.
        unsafe { ffi::drbd_helper_bdev_has_cache(self.as_ptr()) }
    }

    /// Discards sectors, and waits. May sleep.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the device cannot discard.
    pub(crate) fn discard(&self, sector: u64, sectors: u64) -> Result {
        // SAFETY: The device is open.
        to_result(unsafe { ffi::drbd_helper_bdev_discard(self.as_ptr(), sector, sectors) })
    }

    /// Fills sectors with zeroes, writing them if the device has nothing better, and waits. May
    /// sleep.
    pub(crate) fn zeroout(&self, sector: u64, sectors: u64, may_unmap: bool) -> Result {
        // SAFETY: The device is open.
        to_result(unsafe {
            ffi::drbd_helper_bdev_zeroout(self.as_ptr(), sector, sectors, may_unmap)
        })
    }
}

impl Inner {
    fn unlink(&self) {
        if let Some(LinkedDisk(disk)) = self.link.lock().take() {
            // SAFETY: By the type invariant the link exists, and its reference is ours.
            unsafe {
                bindings::bd_unlink_disk_holder(self.bdev.as_ptr(), disk.as_ptr());
                bindings::put_disk(disk.as_ptr());
            }
        }
    }
}

#[pinned_drop]
impl PinnedDrop for Inner {
    fn drop(self: Pin<&mut Self>) {
        self.unlink();
    }
}
