//! Two primaries: writes of both nodes to the same sectors (`reference/wire.md` 9,
//! `reference/io.md` 4.6).
//!
//! The node with the resolve-conflicts mark never executes a write of the peer that overlaps one
//! of its own in flight: it says that the write is superseded, or has to be tried again. The
//! other node lets such a write of the peer wait until its own is decided.

use super::DataPlane;
use crate::link::VolumeIndex;
use crate::memory::Memory;
use crate::peer_request::Ack;
use crate::request::{Remote, Request};

impl<M: Memory> DataPlane<M> {
    /// This node decides conflicts.
    fn decides(&self) -> bool {
        self.link.two_primaries && self.link.resolver
    }

    /// Tells whether every ack that the peer sent before the write has been dealt with. Without
    /// that a write of ours could look as if it were still in flight over there.
    pub(crate) fn follows_its_acks(&self, volume: VolumeIndex, seq: u32) -> bool {
        let known = self.volumes[volume.slot()].peer_seq;
        !self.decides() || !is_newer(seq.wrapping_sub(1), known)
    }

    /// A packet of the peer with this sequence number has been dealt with.
    pub(crate) fn note_sequence(&mut self, volume: VolumeIndex, seq: u32) {
        let place = &mut self.volumes[volume.slot()];
        if is_newer(seq, place.peer_seq) {
            place.peer_seq = seq;
        }
    }

    /// Answers a write that overlaps one of ours without executing it. Answers `true` if so.
    pub(crate) fn loses_conflict(&mut self, slot: u32) -> bool {
        let peer = &self.peers[slot];
        if !self.decides() || !peer.kind.is_application_write() || peer.cancelled {
            return false;
        }
        let range = peer.range();
        let (start, end) = (range.start().0, range.end().0);
        let tree = &self.volumes[peer.volume.slot()].app_writes;
        if tree.find(&self.requests, start, end, goes_there).is_none() {
            return false;
        }
        let covered = tree
            .find(&self.requests, start, end, |slot, own| {
                goes_there(slot, own) && own.range().contains(range)
            })
            .is_some();
        let superseded = covered || self.link.terms.version.number() < 100;
        let epoch = self.peers[slot].epoch;
        self.peers[slot].in_epoch = false;
        self.epochs.leave(epoch);
        self.free_pages(slot);
        self.queue_ack(
            slot,
            if superseded {
                Ack::Superseded
            } else {
                Ack::Retry
            },
        );
        self.advance_epochs();
        true
    }

    /// Tells whether a write of the peer has to wait because the peer has not yet decided about
    /// one of ours that it overlaps.
    pub(crate) fn waits_for_verdict(&self, slot: u32) -> bool {
        let peer = &self.peers[slot];
        if !self.link.two_primaries || self.link.resolver || peer.cancelled {
            return false;
        }
        let (start, end) = (peer.sector.0, peer.range().end().0);
        self.volumes[peer.volume.slot()]
            .app_writes
            .find(&self.requests, start, end, goes_there)
            .is_some()
    }
}

/// The peer gets this write as well.
fn goes_there(_: u32, own: &Request) -> bool {
    own.remote == Remote::Data
}

/// Compares sequence numbers, which wrap.
pub(super) fn is_newer(one: u32, other: u32) -> bool {
    let distance = one.wrapping_sub(other);
    distance != 0 && distance < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::is_newer;

    #[test]
    fn sequence_numbers_are_compared_across_the_wrap() {
        assert!(is_newer(1, 0) && !is_newer(0, 1) && !is_newer(7, 7));
        assert!(is_newer(0, u32::MAX) && !is_newer(u32::MAX, 0));
        assert!(is_newer((1 << 31) - 1, 0) && !is_newer(1 << 31, 0));
    }
}
