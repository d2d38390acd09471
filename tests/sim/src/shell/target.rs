//! What is written to a disk while a resync to it begins.

use drbd_core::action::Handler;
use drbd_core::data::PeerIo;
use drbd_core::link::VolumeIndex;
use drbd_core::state::VolumeState;
use drbd_format::types::ConnState;

use super::attach::is_called_consistent;
use crate::node::{name, Core, VOLUMES};
use crate::world::World;

fn is_target(state: &VolumeState) -> bool {
    use ConnState::{Behind, PausedSyncT, SyncTarget, WfSyncUuid};
    matches!(state.conn, Behind | PausedSyncT | SyncTarget | WfSyncUuid)
}

/// The volumes that are the target of a resync, one bit each.
pub(super) fn targets(core: &mut Core) -> u32 {
    let mut one = |v| u32::from(is_target(&core.state(VolumeIndex(v)))) << v;
    (0..VOLUMES as u8).fold(0, |bits, v| bits | one(v))
}

impl World {
    /// A resync to a disk begins with the question to the helper.
    pub(super) fn note_target(&mut self, node: usize, handler: Handler, v: Option<VolumeIndex>) {
        let now_ns = self.now_ns;
        if let (Handler::BeforeResyncTarget, Some(v), Some(alive)) = (handler, v, self.alive(node))
        {
            alive.devices[v.slot()].target_ns = Some(now_ns);
        }
    }

    /// The state of a volume has changed.
    pub(super) fn note_no_target(&mut self, node: usize, volume: VolumeIndex, word: u32) {
        let target = VolumeState::from_word(word).is_some_and(|state| is_target(&state));
        if let Some(alive) = self.alive(node).filter(|_| !target) {
            alive.devices[volume.slot()].target_ns = None;
        }
    }

    /// What came behind P_SYNC_UUID gets to a disk only when the superblock that calls it
    /// Inconsistent has been written (`reference/io.md` 6.1): before, it is what the helper saves,
    /// and good enough for an administrator if the source never comes back.
    pub(super) fn check_target(&mut self, node: usize, io: &PeerIo) {
        let PeerIo::Write { id, volume, .. } = *io else {
            return;
        };
        let Some(alive) = self.alive(node) else {
            return;
        };
        // The core may be further than the thread that hears of its states: at the end already.
        let target = is_target(&alive.core.state(volume));
        let since_ns = alive.devices[volume.slot()].target_ns;
        let received_ns = alive.peer_ns[id.slot as usize];
        let later = since_ns.is_some_and(|since_ns| received_ns > since_ns);
        // Or even in the next one: what came between the two is not of it (seed 11003543).
        let then = alive.peer_targets[id.slot as usize] & 1 << volume.slot() != 0;
        if target && then && later && is_called_consistent(&self.nodes[node].disks[volume.slot()]) {
            let who = name(node);
            self.fail(format!(
                "{who} writes {id:?} to a disk that counts as consistent"
            ));
        }
    }
}
