//! A pair of which one node stands for the C driver: whose fault is it?

use drbd_core::quirk::{Quirk, Quirks};
use drbd_format::types::{ConnState, DiskState};

use super::Cluster;
use crate::admin::Command;

/// Looks of the administrators after which a node counts as stuck.
const STUCK_LOOKS: u32 = 10;

impl Cluster {
    /// The node that stands for the C driver, if one does.
    pub fn c_node(&self) -> Option<usize> {
        (0..2).find(|node| self.world.nodes[*node].quirks != Quirks::NONE)
    }

    /// A node with the C driver waits for what does not come because of one of its defects: a
    /// person disconnects it, which is what helps.
    pub(super) fn help_c(&mut self) {
        let Some(node) = self.c_node() else {
            return;
        };
        if !self.healed || !(0..self.faults.volumes).any(|volume| self.is_stuck(node, volume)) {
            self.stuck = 0;
            return;
        }
        self.stuck += 1;
        if self.stuck == STUCK_LOOKS && self.admins[node].is_idle() {
            self.stuck = 0;
            self.helped += 1;
            self.admins[node].add(Command::Disconnect);
        }
    }

    /// It is still the source of a resync that has ended ([`Quirk::FailedResyncStays`],
    /// [`Quirk::EndSeenOnce`]), has not told the other node what its disk is worth
    /// ([`Quirk::AttachUnanswered`]), or goes on with a disk that the other node has refused
    /// ([`Quirk::DiskNotCompared`]).
    fn is_stuck(&mut self, node: usize, volume: usize) -> bool {
        let (Some(own), Some(other)) = (self.state(node, volume), self.state(1 - node, volume))
        else {
            return false;
        };
        let quirks = self.world.nodes[node].quirks;
        let stays = quirks.contains(Quirk::FailedResyncStays)
            && own.conn == ConnState::SyncSource
            && other.conn == ConnState::Connected
            && other.disk == DiskState::Inconsistent;
        let unanswered = quirks.contains(Quirk::AttachUnanswered)
            && own.conn == ConnState::Connected
            && other.disk == DiskState::Negotiating;
        let refused = quirks.contains(Quirk::DiskNotCompared)
            && own.conn == ConnState::Connected
            && own.disk == DiskState::UpToDate
            && other.conn == ConnState::Connected
            && other.pdsk < DiskState::Inconsistent;
        stays || unanswered || refused
    }
}
