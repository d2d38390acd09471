//! The loss of power.

use drbd_core::input::AdminRequest;
use drbd_core::link::VolumeNumber;
use drbd_format::disk::superblock::{MdFlags, Superblock};

use super::{Node, V};

impl Node {
    /// The node loses its power and comes back with nothing but its disk.
    pub(crate) fn crash(&mut self, seed: u64) {
        let mut fresh = Self::new(seed, 8, 0);
        std::mem::swap(&mut fresh.disk, &mut self.disk);
        fresh.now = self.now;
        *self = fresh;
        self.apply_log();
        let number = VolumeNumber(0);
        self.admin(AdminRequest::NewVolume { volume: V, number });
    }

    /// What `drbdmeta apply-al` does, coarsely: on a former primary every block may differ.
    fn apply_log(&mut self) {
        let Some(block) = self.disk.superblock.as_mut() else {
            return;
        };
        let superblock = Superblock::decode(block).expect("we wrote it");
        if superblock.flags.contains(MdFlags::PRIMARY_IND) {
            for bytes in self.disk.bitmap.values_mut() {
                bytes.fill(0xff);
            }
        }
    }
}
