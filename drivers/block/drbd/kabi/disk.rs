// SPDX-License-Identifier: GPL-2.0-only

//! The disks that applications see: bio-based, major 147, one minor each, without partitions.

use super::{
    bdev::BackingDevice,
    bio::IncomingBio,
    ffi, //
};
use core::{
    marker::PhantomData,
    ops::{
        Deref,
        DerefMut, //
    },
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    new_mutex,
    prelude::*,
    static_lock_class,
    sync::{
        lock::mutex::MutexGuard,
        Arc,
        ArcBorrow,
        Mutex, //
    }, //
};

/// Major number of the driver.
pub(crate) const MAJOR: u32 = 147;

const FEAT_WRITE_CACHE: u32 = 1 << 0;
const FEAT_FUA: u32 = 1 << 1;
const FEAT_ROTATIONAL: u32 = 1 << 2;
const FEAT_IO_STAT: u32 = 1 << 4;
const FEAT_STABLE_WRITES: u32 = 1 << 5;
const OPEN_WRITE: u32 = 1 << 1;

/// What a disk does. All functions may sleep.
pub(crate) trait DiskOps: Send + Sync + 'static {
    /// Takes a bio, which fits into the limits of the disk. A bio submitted to another device in
    /// here leaves only after the function has returned.
    fn submit(this: ArcBorrow<'_, Self>, bio: IncomingBio);

    /// Somebody opens the disk, perhaps for writing.
    ///
    /// # Errors
    ///
    /// An error refuses the open.
    fn open(this: ArcBorrow<'_, Self>, write: bool) -> Result;

    /// A successful open ends.
    fn release(this: ArcBorrow<'_, Self>);
}

/// The major number 147, registered as `drbd` in `/proc/devices`. Dropping it unregisters it.
pub(crate) struct Major(());

impl Major {
    /// Registers the number. May sleep.
    ///
    /// # Errors
    ///
    /// `EBUSY` if another driver has it.
    pub(crate) fn register() -> Result<Self> {
        // SAFETY: The name is a C string; the kernel copies it.
        to_result(unsafe { ffi::drbd_helper_register_blkdev(MAJOR, c"drbd".as_char_ptr()) })?;
        Ok(Self(()))
    }
}

impl Drop for Major {
    fn drop(&mut self) {
        // SAFETY: The number was registered under this name.
        unsafe { bindings::unregister_blkdev(MAJOR, c"drbd".as_char_ptr()) };
    }
}

/// Limits and features of a queue.
#[derive(Clone, Copy)]
pub(crate) struct Limits(bindings::queue_limits);

impl Limits {
    /// The limits of a new disk: everything left to the block layer's defaults.
    fn unset() -> Self {
        let mut limits = Self(pin_init::zeroed());
        limits.0.features = FEAT_IO_STAT;
        limits
    }

    /// Starts anew with limits that only become tighter by [`stack`](Self::stack).
    pub(crate) fn stacking_defaults(&mut self) -> &mut Self {
        // SAFETY: The structure is the one the function fills.
        unsafe { bindings::blk_set_stacking_limits(&mut self.0) };
        self.0.features = FEAT_IO_STAT;
        self
    }

    /// As [`stacking_defaults`](Self::stacking_defaults), but blocks stay as they are: their sizes
    /// and alignment, and the sizes of requests that are preferred.
    pub(crate) fn defaults_but_blocks(&mut self) -> &mut Self {
        let before = self.0;
        self.stacking_defaults();
        self.0.logical_block_size = before.logical_block_size;
        self.0.physical_block_size = before.physical_block_size;
        self.0.alignment_offset = before.alignment_offset;
        self.0.io_min = before.io_min;
        self.0.io_opt = before.io_opt;
        self
    }

    /// Tightens the limits to those of `device` and takes over its features.
    pub(crate) fn stack(&mut self, device: &BackingDevice) -> &mut Self {
        // SAFETY: The device is open; the name is only used in a message.
        unsafe {
            bindings::queue_limits_stack_bdev(
                &mut self.0,
                device.as_ptr(),
                0,
                c"drbd".as_char_ptr(),
            );
        }
        self.0.features |= FEAT_IO_STAT;
        self
    }

    /// Whether the disk tells the upper layers that it has a volatile write cache.
    pub(crate) fn write_cache(&mut self, on: bool) -> &mut Self {
        self.feature(FEAT_WRITE_CACHE, on)
    }

    /// Whether the disk accepts writes with FUA.
    pub(crate) fn fua(&mut self, on: bool) -> &mut Self {
        self.feature(FEAT_FUA, on)
    }

    /// Whether the disk calls itself rotational.
    pub(crate) fn rotational(&mut self, on: bool) -> &mut Self {
        self.feature(FEAT_ROTATIONAL, on)
    }

    /// Whether pages under write-back must not change.
    pub(crate) fn stable_writes(&mut self, on: bool) -> &mut Self {
        self.feature(FEAT_STABLE_WRITES, on)
    }

    fn feature(&mut self, feature: u32, on: bool) -> &mut Self {
        if on {
            self.0.features |= feature;
        } else {
            self.0.features &= !feature;
        }
        self
    }

    /// Largest request, in sectors.
    pub(crate) fn max_hw_sectors(&mut self, sectors: u32) -> &mut Self {
        self.0.max_hw_sectors = sectors;
        self
    }

    /// Largest number of segments of a request.
    pub(crate) fn max_segments(&mut self, segments: u16) -> &mut Self {
        self.0.max_segments = segments;
        self
    }

    /// Segments do not cross a multiple of this mask plus one.
    pub(crate) fn segment_boundary_mask(&mut self, mask: usize) -> &mut Self {
        self.0.seg_boundary_mask = mask;
        self
    }

    /// Discards: unit in bytes and largest size in sectors; a size of 0 switches them off.
    pub(crate) fn discard(&mut self, granularity_bytes: u32, max_sectors: u32) -> &mut Self {
        self.0.discard_granularity = granularity_bytes;
        self.0.max_hw_discard_sectors = max_sectors;
        self
    }

    /// Largest write-zeroes, in sectors; 0 switches them off.
    pub(crate) fn max_write_zeroes_sectors(&mut self, sectors: u32) -> &mut Self {
        self.0.max_write_zeroes_sectors = sectors;
        self.0.max_hw_wzeroes_unmap_sectors = 0;
        self
    }
}

/// A gendisk with a reference of its own.
///
/// # Invariants
///
/// The pointer is valid and one reference belongs to this value.
struct GendiskRef(NonNull<bindings::gendisk>);

// SAFETY: The reference count is thread-safe.
unsafe impl Send for GendiskRef {}

impl GendiskRef {
    fn as_ptr(&self) -> *mut bindings::gendisk {
        self.0.as_ptr()
    }
}

impl Clone for GendiskRef {
    fn clone(&self) -> Self {
        // SAFETY: By the type invariant the disk is alive.
        unsafe { ffi::drbd_helper_disk_get(self.as_ptr()) };
        // INVARIANT: The reference was just taken.
        Self(self.0)
    }
}

impl Drop for GendiskRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours.
        unsafe { bindings::put_disk(self.as_ptr()) };
    }
}

/// A disk. It may live inside the `T` that serves it: [`withdraw`](Self::withdraw) breaks the
/// cycle.
///
/// # Invariants
///
/// `private_data` of the gendisk is null or a reference to a `T` from `Arc::into_raw`. It is set
/// before the disk becomes visible, and taken away when the disk is freed.
#[pin_data(PinnedDrop)]
pub(crate) struct Disk<T: DiskOps> {
    #[pin]
    gendisk: Mutex<Option<GendiskRef>>,
    /// Whether the disk is visible; held while that changes.
    #[pin]
    published: Mutex<bool>,
    _served_by: PhantomData<fn() -> T>,
}

impl<T: DiskOps> Disk<T> {
    /// Makes the disk `drbd<minor>` of size 0, read-only, not yet visible. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` if the block layer does not accept the limits.
    pub(crate) fn new(
        minor: u32,
        configure: impl FnOnce(&mut Limits),
    ) -> Result<impl PinInit<Self>> {
        let minor = c_int::try_from(minor).map_err(|_| EINVAL)?;
        let mut limits = Limits::unset();
        configure(&mut limits);
        // SAFETY: The limits are initialised, the lock class is static.
        let gendisk = from_err_ptr(unsafe {
            ffi::drbd_helper_disk_alloc(&mut limits.0, static_lock_class!().as_ptr())
        })?;
        // INVARIANT: The disk is new, its reference is ours.
        let gendisk = GendiskRef(NonNull::new(gendisk).ok_or(ENOMEM)?);
        // SAFETY: The disk is not visible yet, and the table is static.
        unsafe {
            ffi::drbd_helper_disk_prepare(
                gendisk.as_ptr(),
                MAJOR as c_int,
                minor,
                &Callbacks::<T>::TABLE,
            );
            bindings::set_disk_ro(gendisk.as_ptr(), true);
        }
        Ok(pin_init!(Self {
            gendisk <- new_mutex!(Some(gendisk)),
            published <- new_mutex!(false),
            _served_by: PhantomData,
        }))
    }

    fn gendisk(&self) -> Result<GendiskRef> {
        self.gendisk.lock().as_ref().cloned().ok_or(ENODEV)
    }

    /// A counted pointer to the gendisk; the caller puts it.
    pub(super) fn get_gendisk(&self) -> Result<NonNull<bindings::gendisk>> {
        Ok(core::mem::ManuallyDrop::new(self.gendisk()?).0)
    }

    /// Makes the disk visible; `server` serves it from now on. May sleep. Once only.
    ///
    /// # Errors
    ///
    /// `EEXIST` if it is visible already or the name is taken; `ENODEV` after `withdraw`.
    pub(crate) fn publish(&self, server: Arc<T>) -> Result {
        let mut published = self.published.lock();
        if *published {
            return Err(EEXIST);
        }
        let gendisk = self.gendisk()?;
        let data = Arc::into_raw(server).cast_mut().cast::<c_void>();
        // SAFETY: The disk is alive and not visible, so nobody reads the field.
        // INVARIANT: It is a reference from `Arc::into_raw`.
        unsafe { ffi::drbd_helper_disk_set_data(gendisk.as_ptr(), data) };
        // SAFETY: The disk is complete.
        let added = to_result(unsafe { ffi::drbd_helper_disk_add(gendisk.as_ptr()) });
        if added.is_err() {
            // SAFETY: The disk did not become visible, or is not any more.
            unsafe { Callbacks::<T>::drop_server(gendisk.as_ptr()) };
        }
        added?;
        *published = true;
        Ok(())
    }

    /// Takes the disk away: no new opens, no new bios; it is freed when the last opener is gone.
    /// May sleep. Calling it again does nothing.
    pub(crate) fn withdraw(&self) {
        let mut published = self.published.lock();
        let Some(gendisk) = self.gendisk.lock().take() else {
            return;
        };
        if *published {
            // SAFETY: The disk was added, and only here it is deleted.
            unsafe { bindings::del_gendisk(gendisk.as_ptr()) };
            *published = false;
        }
    }

    /// Sets the size in sectors of 512 bytes; the kernel logs a change and tells udev. May sleep.
    pub(crate) fn set_capacity(&self, sectors: u64) {
        if let Ok(gendisk) = self.gendisk() {
            // SAFETY: The disk is alive.
            unsafe { bindings::set_capacity_and_notify(gendisk.as_ptr(), sectors) };
        }
    }

    /// The size in sectors of 512 bytes. May sleep.
    pub(crate) fn capacity(&self) -> u64 {
        self.gendisk().map_or(0, |gendisk| {
            // SAFETY: The disk is alive.
            unsafe { ffi::drbd_helper_disk_capacity(gendisk.as_ptr()) }
        })
    }

    /// Sets or clears the read-only flag. May sleep.
    pub(crate) fn set_read_only(&self, read_only: bool) {
        if let Ok(gendisk) = self.gendisk() {
            // SAFETY: The disk is alive.
            unsafe { bindings::set_disk_ro(gendisk.as_ptr(), read_only) };
        }
    }

    /// Sends a "change" event to udev. May sleep.
    pub(crate) fn change_event(&self) {
        if let Ok(gendisk) = self.gendisk() {
            // SAFETY: The disk is alive.
            unsafe { ffi::drbd_helper_disk_change_event(gendisk.as_ptr()) };
        }
    }

    /// Begins a change of the limits, starting from the present ones. May sleep.
    ///
    /// # Errors
    ///
    /// `ENODEV` after `withdraw`.
    pub(crate) fn limits(&self) -> Result<LimitsUpdate<'_>> {
        let guard = self.gendisk.lock();
        let gendisk = guard.as_ref().ok_or(ENODEV)?.as_ptr();
        let mut limits = Limits::unset();
        // SAFETY: The disk is alive while `guard` exists; commit or cancel follows.
        unsafe { ffi::drbd_helper_limits_start(gendisk, &mut limits.0) };
        Ok(LimitsUpdate {
            _guard: guard,
            gendisk,
            limits,
            open: true,
        })
    }
}

#[pinned_drop]
impl<T: DiskOps> PinnedDrop for Disk<T> {
    fn drop(self: Pin<&mut Self>) {
        self.withdraw();
    }
}

/// A change of limits in progress; dropping it changes nothing.
///
/// # Invariants
///
/// While `open`, the limits lock of the disk's queue is held for this value.
#[must_use]
pub(crate) struct LimitsUpdate<'a> {
    _guard: MutexGuard<'a, Option<GendiskRef>>,
    gendisk: *mut bindings::gendisk,
    limits: Limits,
    open: bool,
}

impl LimitsUpdate<'_> {
    /// Puts the limits in force. May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if they contradict each other; the old ones stay.
    pub(crate) fn commit(mut self) -> Result {
        self.open = false;
        // SAFETY: By the type invariant the update was started; this ends it.
        to_result(unsafe { ffi::drbd_helper_limits_commit(self.gendisk, &mut self.limits.0) })
    }
}

impl Deref for LimitsUpdate<'_> {
    type Target = Limits;

    fn deref(&self) -> &Limits {
        &self.limits
    }
}

impl DerefMut for LimitsUpdate<'_> {
    fn deref_mut(&mut self) -> &mut Limits {
        &mut self.limits
    }
}

impl Drop for LimitsUpdate<'_> {
    fn drop(&mut self) {
        if self.open {
            // SAFETY: By the type invariant the update was started; this ends it.
            unsafe { ffi::drbd_helper_limits_cancel(self.gendisk) };
        }
    }
}

/// The functions that the block layer calls.
struct Callbacks<T>(PhantomData<T>);

impl<T: DiskOps> Callbacks<T> {
    const TABLE: bindings::block_device_operations = bindings::block_device_operations {
        submit_bio: Some(Self::submit_bio),
        poll_bio: None,
        open: Some(Self::open),
        release: Some(Self::release),
        ioctl: None,
        compat_ioctl: None,
        check_events: None,
        unlock_native_capacity: None,
        getgeo: None,
        set_read_only: None,
        free_disk: Some(Self::free_disk),
        swap_slot_free_notify: None,
        report_zones: None,
        devnode: None,
        get_unique_id: None,
        owner: super::module::THIS_MODULE,
        pr_ops: core::ptr::null(),
        alternative_gpt_sector: None,
    };

    /// # Safety
    ///
    /// Called by the block layer with a bio for a disk of ours.
    unsafe extern "C" fn submit_bio(bio: *mut bindings::bio) {
        // SAFETY: The bio is the one we were given. What does not fit comes back as another bio.
        let bio = unsafe { bindings::bio_split_to_limits(bio) };
        let Some(bio) = NonNull::new(bio) else {
            return;
        };
        // SAFETY: The disk is open, so its data is there; by the invariant of `Disk` it is a `T`.
        let server = unsafe {
            let data = ffi::drbd_helper_bio_disk_data(bio.as_ptr());
            ArcBorrow::from_raw(data.cast::<T>())
        };
        // SAFETY: The bio was given to us.
        T::submit(server, unsafe { IncomingBio::from_raw(bio) });
    }

    /// # Safety
    ///
    /// Called by the block layer for a disk of ours.
    unsafe extern "C" fn open(disk: *mut bindings::gendisk, mode: bindings::blk_mode_t) -> c_int {
        // SAFETY: The disk is visible, so its data is there.
        let server = unsafe {
            let data = ffi::drbd_helper_disk_data(disk);
            ArcBorrow::from_raw(data.cast::<T>())
        };
        match T::open(server, mode & OPEN_WRITE != 0) {
            Ok(()) => 0,
            Err(error) => error.to_errno(),
        }
    }

    /// # Safety
    ///
    /// Called by the block layer for an open disk of ours.
    unsafe extern "C" fn release(disk: *mut bindings::gendisk) {
        // SAFETY: The disk is open, so its data is there.
        let server = unsafe {
            let data = ffi::drbd_helper_disk_data(disk);
            ArcBorrow::from_raw(data.cast::<T>())
        };
        T::release(server);
    }

    /// # Safety
    ///
    /// Called by the block layer when nobody refers to the disk any more.
    unsafe extern "C" fn free_disk(disk: *mut bindings::gendisk) {
        // SAFETY: Nobody else looks at the disk any more.
        unsafe { Self::drop_server(disk) };
    }

    /// Drops the reference in the private data.
    ///
    /// # Safety
    ///
    /// No other callback runs for the disk, now or later, unless the data is set again.
    unsafe fn drop_server(disk: *mut bindings::gendisk) {
        // SAFETY: By the invariant of `Disk` a pointer that is not null is a reference of ours.
        unsafe {
            let data = ffi::drbd_helper_disk_data(disk);
            ffi::drbd_helper_disk_set_data(disk, core::ptr::null_mut());
            if !data.is_null() {
                drop(Arc::from_raw(data.cast::<T>()));
            }
        }
    }
}
