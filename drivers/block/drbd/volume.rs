// SPDX-License-Identifier: GPL-2.0-only

//! One volume in the kernel: its block device, its backing disk and its worker.

use crate::{
    disk::{
        BackingRef,
        InUse,
        Place, //
    },
    kabi::{
        bdev::Holder,
        bio::IncomingBio,
        disk::{
            Disk,
            DiskOps, //
        },
        log,
        thread::Thread, //
    },
    resource::Resource,
    submit, //
};
use drbd_core::{
    link::VolumeIndex,
    report::VolumeStatus, //
};
use drbd_format::options::DiskConf;
use kernel::{
    fmt,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow,
        Mutex, //
    }, //
};

/// A replicated block device.
///
/// The registry of its resource holds one reference until the minor is deleted; each bio in flight
/// holds another, which is gone before the backing disk is closed.
#[pin_data]
pub(crate) struct Volume {
    pub(crate) resource: Arc<Resource>,
    /// Place in the tables of the resource.
    pub(crate) index: VolumeIndex,
    /// Number as users and peers know it.
    pub(crate) number: u16,
    /// Device minor number.
    pub(crate) minor: u32,
    /// The upper device.
    #[pin]
    pub(crate) disk: Disk<Volume>,
    /// Claims backing devices for this volume.
    pub(crate) holder: Arc<Holder>,
    /// Claims devices with indexed metadata, which volumes share.
    pub(crate) shared_holder: Arc<Holder>,
    /// Disk options as they were given, for answers; `None` without a disk.
    #[pin]
    pub(crate) disk_conf: Mutex<Option<DiskConf>>,
    #[pin]
    worker: Mutex<Option<Pin<KBox<Thread>>>>,
}

impl Volume {
    /// Creates the device and its worker. The device is not visible yet; see [`Volume::publish`].
    ///
    /// May sleep.
    pub(crate) fn new(
        resource: &Arc<Resource>,
        index: VolumeIndex,
        number: u16,
        minor: u32,
        shared_holder: &Arc<Holder>,
    ) -> Result<Arc<Self>> {
        let holder = Holder::new()?;
        let disk = Disk::new(minor, |limits| {
            limits.max_hw_sectors(16);
        })?;
        let volume = Arc::pin_init(
            try_pin_init!(Self {
                resource: resource.clone(),
                index,
                number,
                minor,
                disk <- disk,
                holder,
                shared_holder: shared_holder.clone(),
                disk_conf <- new_mutex!(None),
                worker <- new_mutex!(None),
            }? Error),
            GFP_KERNEL,
        )?;
        let of_worker = volume.clone();
        let worker = Thread::spawn(fmt!("drbd{minor}_submit"), move || {
            submit::run_worker(&of_worker)
        })?;
        *volume.worker.lock() = Some(worker);
        Ok(volume)
    }

    /// Makes the device visible: `/dev/drbdN` appears, size 0 and read-only.
    pub(crate) fn publish(self: &Arc<Self>) -> Result {
        self.disk.set_read_only(true);
        self.disk.publish(self.clone())
    }

    /// Removes the device and ends its worker. The disk must be detached. May sleep.
    pub(crate) fn withdraw(&self) {
        self.disk.withdraw();
        if let Some(worker) = self.worker.lock().take() {
            // Not from the worker itself, so it stops.
            let _ = worker.stop();
        }
    }

    /// Prints a line about the volume. Any context.
    pub(crate) fn log(&self, level: log::Level, text: fmt::Arguments<'_>) {
        let (name, number, minor) = (&self.resource.name, self.number, self.minor);
        log::print(level, fmt!("drbd {name}/{number} drbd{minor}"), text);
    }

    /// Returns what answers and events say about the volume.
    pub(crate) fn status(&self) -> VolumeStatus {
        let index = self.index;
        self.resource
            .with(|inner, _| inner.core.volume_status(index))
    }

    /// Returns the disk options as they were given, with what the core has changed since; `None`
    /// without a disk. May sleep.
    pub(crate) fn disk_conf_in_force(&self) -> Option<DiskConf> {
        let mut conf = (*self.disk_conf.lock())?;
        let index = self.index;
        self.resource.with(|inner, _| {
            if let Some(disk) = inner.core.disk_config(index) {
                disk.tell(&mut conf);
            }
        });
        Some(conf)
    }

    /// Returns the backing disk, if there is one. Any context.
    pub(crate) fn backing(&self) -> Option<BackingRef> {
        let index = self.index;
        self.resource.with(|inner, _| inner.backing(index))
    }

    /// Puts a backing disk into use; there is none.
    pub(crate) fn put_backing(&self, disk: InUse) {
        let index = self.index;
        let before = self
            .resource
            .with(|inner, _| core::mem::replace(inner.place(index), Place::InUse(disk)));
        drop(before);
    }
}

impl DiskOps for Volume {
    fn submit(this: ArcBorrow<'_, Self>, bio: IncomingBio) {
        submit::submit(&Arc::from(this), bio);
    }

    fn open(this: ArcBorrow<'_, Self>, write: bool) -> Result {
        submit::open(&this, write)
    }

    fn release(this: ArcBorrow<'_, Self>) {
        let index = this.index;
        // A reader of a volume that was deleted under it (allow_oos) closes nothing of the one that
        // has its place now.
        let same = |volume: Arc<Volume>| core::ptr::eq(&*volume, &*this);
        if this.resource.volume(index).is_some_and(same) {
            this.resource
                .with(|inner, now| inner.core.close(index, now));
        }
    }
}
