//! How much is synced, and how large the device is.

use drbd_core::link::VolumeIndex;
use drbd_format::types::DiskState;

use super::Checker;
use crate::cluster::Cluster;
use crate::node::{name, VOLUMES};

/// Nodes that know each other's data never sync all of it: the handshake asks for a full sync only
/// where the data of one side has never been written, or after a split brain without a bitmap for
/// both sides, here one in the middle of whose resync the other began (`reference/metadata.md`
/// 5.6, rule 100, and 5.7, 3). Or where a disk failed before the end of its resync was on it, of
/// which the source had heard (rules 60 and 80). Or a disk has got new metadata.
#[derive(Default)]
pub(super) struct NoNeedlessFullSync {
    seen: usize,
    /// The last comparison of the node found a split brain without a usable bitmap.
    ambiguous: [[bool; VOLUMES]; 2],
    /// The superblock of the disk could not be written since its last resync.
    unwritten: [[bool; VOLUMES]; 2],
}

impl Checker for NoNeedlessFullSync {
    fn name(&self) -> &'static str {
        "no needless full sync"
    }

    fn after_event(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        let news = cluster.world.log.get(self.seen..).unwrap_or(&[]);
        let mut found = None;
        for said in news {
            let Some(volume) = said.volume else { continue };
            let ambiguous = &mut self.ambiguous[said.node][volume.slot()];
            if let Some(result) = said.text.strip_prefix("uuid_compare()=") {
                *ambiguous = result.starts_with("-100 ");
            }
            let unwritten = &mut self.unwritten[said.node][volume.slot()];
            *unwritten |= said.text == "meta data update failed!";
            *unwritten &= !said.text.starts_with("Began resync as SyncTarget");
            let renewed = cluster.world.unrelated[volume.slot()].renewed;
            let excused = renewed || self.unwritten.iter().any(|of| of[volume.slot()]);
            let needle = "full sync required after drbd_sync_handshake";
            if said.text.contains(needle) && !*ambiguous && !excused {
                found = Some(said.node);
            }
        }
        self.seen = cluster.world.log.len();
        match found {
            Some(node) if !cluster.faults.full_sync => Err(format!("{} begins one", name(node))),
            Some(_) | None => Ok(()),
        }
    }
}

/// A device never becomes smaller than applications have seen it on this node.
#[derive(Default)]
pub(super) struct SizesAreKept {
    largest: [[u64; crate::node::VOLUMES]; 2],
}

impl Checker for SizesAreKept {
    fn name(&self) -> &'static str {
        "sizes are kept"
    }

    fn after_event(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        let Some(node) = cluster.workload.node else {
            return Ok(());
        };
        let Some(alive) = cluster.world.alive(node) else {
            return Ok(());
        };
        for (volume, largest) in (0..).zip(&mut self.largest[node]) {
            let device = &alive.devices[usize::from(volume)];
            if device.capacity == *largest {
                continue;
            }
            let view = alive.core.view(VolumeIndex(volume));
            let good = DiskState::UpToDate;
            let used = view.state.disk == good || view.state.pdsk == good;
            if view.io_blocked || view.state.disk < DiskState::Inconsistent || !used {
                // A new size is being written, and nobody has made use of it; or the disk was lost
                // before it was. Without good data no I/O is possible, and such a disk takes the
                // smaller size of its peer when it connects (`reference/metadata.md` 6.6).
                continue;
            }
            if device.capacity < *largest {
                let (was, is) = (*largest, device.capacity);
                return Err(format!("{} shrank from {was} to {is} sectors", name(node)));
            }
            *largest = device.capacity;
        }
        Ok(())
    }
}
