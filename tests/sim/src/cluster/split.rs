//! A split brain: whose data are given up, and what that means for those who look on.

use drbd_format::types::{DiskState, Role};

use super::Cluster;
use crate::node::VOLUMES;
use crate::oracle::Promise;

/// Volumes of which the nodes have different data.
#[derive(Debug, Default)]
pub(super) struct Split {
    /// Lines of the cores that have been read.
    seen: usize,
    /// A connection was dropped because of this volume.
    dropped: [bool; VOLUMES],
    /// The disk that was promoted since applications saw the volume last.
    pub(super) claims: [Option<usize>; VOLUMES],
}

impl Cluster {
    /// Reads which volumes keep the nodes from connecting, and of which data are given up.
    pub(super) fn note_splits(&mut self) {
        let log = &self.world.log;
        for said in log.get(self.split.seen..).unwrap_or(&[]) {
            let Some(volume) = said.volume else { continue };
            let solved = "Split-Brain detected, manually solved. Sync from peer node";
            if said.text.starts_with("Split-Brain detected but unresolved") {
                self.split.dropped[volume.slot()] = true;
            } else if said.text.starts_with(solved) {
                // Told to discard its data before anybody knew of the split brain (seed 395634).
                self.split.claims[volume.slot()] = Some(1 - said.node);
            }
        }
        self.split.seen = log.len();
    }

    /// Tells whether a node gives up its data if the pair cannot connect otherwise. Only a
    /// connection as a whole can be told to discard data: it may have to give up a volume of which
    /// it alone has the data, because it is the other way round with another volume.
    pub(super) fn gives_way(&mut self, node: usize) -> bool {
        let keeper = self.keeper();
        while let Some(volume) = self.worthy(1 - keeper) {
            self.split.dropped[volume] = false;
            self.split.claims[volume] = Some(keeper);
        }
        node != keeper
    }

    /// The node whose data stay: that which applications use, or the only one that has what was
    /// acknowledged, or else that which they used last.
    fn keeper(&self) -> usize {
        let worthy = [0, 1].map(|node| self.worthy(node).is_some());
        match (self.workload.node, worthy) {
            (Some(used), _) => used,
            (None, [true, false]) => 0,
            (None, [false, true]) => 1,
            (None, [false, false] | [true, true]) => self.holder,
        }
    }

    /// A volume of which only this node has what was acknowledged, in a split brain.
    fn worthy(&self, node: usize) -> Option<usize> {
        (0..self.faults.volumes).find(|volume| {
            let both = self.world.oracle.promises[*volume];
            let better = both[node] != Promise::Nothing && both[1 - node] == Promise::Nothing;
            self.split.dropped[*volume] && better
        })
    }

    /// A disk that was promoted, although applications never saw it, has begun a generation: who
    /// was promoted with older data has decided that they count, as soon as the newer ones, of the
    /// generation before or discarded as a split brain, are overwritten with them.
    pub(super) fn settle_claims(&mut self) {
        for volume in 0..self.faults.volumes {
            if self.split.dropped[volume] && (0..2).any(|node| self.is_overwritten(node, volume)) {
                self.split.dropped[volume] = false;
            }
            let Some(claimant) = self.split.claims[volume] else {
                continue;
            };
            let other = 1 - claimant;
            if self.is_overwritten(other, volume) {
                let both = self.world.oracle.promises[volume];
                if both[claimant] == Promise::Nothing && both[other] != Promise::Nothing {
                    let disk = &self.world.nodes[claimant].disks[volume].live;
                    self.world.oracle.adopt(volume, claimant, disk);
                }
                self.split.claims[volume] = None;
            } else if self.is_overwritten(claimant, volume) || self.is_equal_again(volume) {
                self.split.claims[volume] = None;
            }
        }
    }

    fn is_overwritten(&mut self, node: usize, volume: usize) -> bool {
        let state = self.state(node, volume);
        state.is_some_and(|state| state.is_sync_target() && state.disk == DiskState::Inconsistent)
    }

    /// Both disks are of one generation, and nobody is about to begin another one.
    fn is_equal_again(&mut self, volume: usize) -> bool {
        self.is_in_sync(volume)
            && (0..2).all(|node| {
                let state = self.state(node, volume);
                state.is_some_and(|state| state.role == Role::Secondary)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Faults;
    use Promise::{Everything, Nothing};

    fn split(promises: &[[Promise; 2]]) -> Cluster {
        let mut faults = Faults::none();
        faults.volumes = promises.len();
        let mut cluster = Cluster::new(1, faults);
        cluster.world.oracle.promises = promises.to_vec();
        cluster.split.dropped = [true; VOLUMES];
        cluster
    }

    #[test]
    fn nobody_gives_up_what_no_other_disk_has() {
        let mut cluster = split(&[[Everything; 2], [Nothing, Everything]]);
        assert!(cluster.gives_way(0));
        assert!(!cluster.gives_way(1));
        assert_eq!(cluster.split.claims[..2], [None; 2]);
    }

    /// A volume about which nobody quarrels tells nothing.
    #[test]
    fn only_what_keeps_the_nodes_apart_counts() {
        let mut cluster = split(&[[Everything, Nothing], [Nothing, Everything]]);
        cluster.split.dropped[0] = false;
        assert!(cluster.gives_way(0));
        assert!(!cluster.gives_way(1));
    }

    /// What is given up with it is noted: that volume, and no other.
    #[test]
    fn each_node_has_the_better_volume_and_the_one_that_was_not_used_last_gives_way() {
        let mut cluster = split(&[[Everything, Nothing], [Nothing, Everything]]);
        assert!(cluster.gives_way(1));
        assert!(!cluster.gives_way(0));
        assert_eq!(cluster.split.claims[..2], [None, Some(0)]);
    }
}
