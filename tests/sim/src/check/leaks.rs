//! Slots, epochs and references are given back.

use drbd_core::handshake::Stage;
use drbd_core::link::VolumeIndex;

use super::Checker;
use crate::cluster::{Cluster, HEAL_LIMIT_NS};
use crate::node::name;
use crate::world::SECOND;

/// Nothing is held that nobody needs.
pub(super) struct NoLeaks;

impl Checker for NoLeaks {
    fn name(&self) -> &'static str {
        "no leaks"
    }

    fn is_for_the_end(&self) -> bool {
        true
    }

    fn at_rest(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        // The last barrier may still be under way, and a crash that was to come has its place.
        cluster.run_for(30 * SECOND);
        cluster.run_until_idle(HEAL_LIMIT_NS);
        for node in 0..2 {
            let volumes = cluster.faults.volumes;
            let Some(alive) = cluster.world.alive(node) else {
                continue;
            };
            let who = name(node);
            let bios = alive.app.iter().flatten().count() + alive.waiting.len();
            if bios + alive.reissue.len() > 0 {
                return Err(format!("{who} still holds {bios} upper requests"));
            }
            let pages = alive.peer.iter().flatten().count();
            if pages > 0 {
                return Err(format!("{who} still holds pages of {pages} peer requests"));
            }
            for volume in 0..volumes {
                let counters = alive.core.counters(VolumeIndex(volume as u8));
                let held = [
                    ("requests with the disk", counters.local),
                    ("requests without answer", counters.pending),
                    ("requests of the peer", counters.unacked),
                    ("application requests", counters.app),
                    ("references in the activity log", counters.al_used),
                ];
                if let Some((what, count)) = held.iter().find(|(_, count)| *count > 0) {
                    return Err(format!("{who} volume {volume}: {count} {what}"));
                }
                let held = alive.core.held(VolumeIndex(volume as u8));
                let slots = held.requests + held.peer_requests + held.packets;
                if slots + held.extents > 0 {
                    return Err(format!("{who} volume {volume} holds {held:?}"));
                }
                if counters.epochs > 1 {
                    return Err(format!("{who}: {} epochs", counters.epochs));
                }
            }
        }
        Ok(())
    }
}

/// Without a connection no request of the peer exists and no epoch is open but the next one, but
/// for the slots that a disk that hangs and was detached by force has not given back; without a
/// disk nothing is lent for one.
pub(super) struct NothingOutlivesItsLink;

impl Checker for NothingOutlivesItsLink {
    fn name(&self) -> &'static str {
        "nothing outlives its link"
    }

    fn after_event(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        let touched = cluster.world.touched;
        for node in &mut cluster.world.nodes {
            if !touched[node.id] {
                continue;
            }
            let who = node.name();
            let Some(alive) = node.alive.as_deref_mut() else {
                continue;
            };
            if alive.core.control_state().0.core.link.stage != Stage::Down {
                continue;
            }
            for volume in 0..cluster.faults.volumes {
                let index = VolumeIndex(volume as u8);
                let held = alive.core.held(index);
                let epochs = alive.core.counters(index).epochs;
                let peer_requests = held.peer_requests - held.abandoned;
                if peer_requests > 0 || held.packets > 0 || held.extents > 0 || epochs > 1 {
                    return Err(format!("{who} volume {volume}: {held:?}, {epochs} epochs"));
                }
                let gone = alive.core.is_disk_gone(index);
                if gone && held.disk && alive.devices[volume].backing.is_none() {
                    return Err(format!(
                        "{who} volume {volume}: memory of a disk that is gone"
                    ));
                }
            }
        }
        Ok(())
    }
}
