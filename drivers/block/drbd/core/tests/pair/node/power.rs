//! The loss of power.

use drbd_core::input::AdminRequest;
use drbd_core::link::VolumeNumber;
use drbd_format::disk::superblock::{MdFlags, Superblock};

use super::{Disk, Node};

impl Node {
    /// The node loses its power and comes back with nothing but its disks.
    pub(crate) fn crash(&mut self, seed: u64) {
        let mut fresh = Self::with_volumes(self.used, seed, 8, 0);
        for (fresh, old) in fresh.volumes.iter_mut().zip(&mut self.volumes) {
            std::mem::swap(&mut fresh.disk, &mut old.disk);
            fresh.disk.apply_log();
        }
        fresh.now = self.now;
        *self = fresh;
        self.make_volumes();
    }

    /// Each volume is known under a number of its own.
    pub(crate) fn make_volumes(&mut self) {
        for volume in self.indices() {
            let number = VolumeNumber(u16::from(volume.0));
            self.admin(AdminRequest::NewVolume { volume, number });
        }
    }
}

impl Disk {
    /// What `drbdmeta apply-al` does, coarsely: on a former primary every block may differ.
    fn apply_log(&mut self) {
        let Some(block) = self.superblock.as_mut() else {
            return;
        };
        let superblock = Superblock::decode(block).expect("we wrote it");
        if superblock.flags.contains(MdFlags::PRIMARY_IND) {
            for bytes in self.bitmap.values_mut() {
                bytes.fill(0xff);
            }
        }
    }
}
