//! Loss of power at one chosen write to stable storage: right before it, right after it, or while
//! it is being carried out.

use super::Cluster;

/// What has become of the write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reached {
    /// It is on the disk; its node has not been told.
    All,
    /// Nothing of it is on the disk.
    Nothing,
    /// The first sectors of it are.
    Part,
}

/// A loss of power that is to come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Crash {
    /// Which node.
    pub node: usize,
    /// At its write of a block of metadata with this number; the first is 0.
    pub at: u64,
    /// What becomes of that write.
    pub reached: Reached,
}

impl Cluster {
    /// A disk is about to be done. True: it is not, power is lost.
    pub(super) fn crashes(&mut self, node: usize, volume: u8, request: u64) -> bool {
        let disk = &mut self.world.nodes[node].disks[usize::from(volume)];
        if !disk.writes_block(request) {
            return false;
        }
        let number = self.block_writes[node];
        self.block_writes[node] += 1;
        let Some(crash) = self.crash else {
            return false;
        };
        if crash.node != node || crash.at != number {
            return false;
        }
        match crash.reached {
            Reached::All => {
                let _ = disk.complete(request);
            }
            Reached::Nothing => disk.forget(request),
            Reached::Part => disk.tear(request),
        }
        self.lose_power(node);
        true
    }
}
