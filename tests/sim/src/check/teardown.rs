//! What is given up is given up as a whole.

use super::Checker;
use crate::cluster::Cluster;
use crate::node::{name, Busy};

/// A disk that has been closed has nothing to do.
pub(super) struct ClosedDisksAreIdle;

impl Checker for ClosedDisksAreIdle {
    fn name(&self) -> &'static str {
        "closed disks are idle"
    }

    fn after_event(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        for volume in 0..cluster.faults.volumes {
            for node in &cluster.world.nodes {
                let touched = cluster.world.touched[node.id];
                let Some(alive) = node.alive.as_deref().filter(|_| touched) else {
                    continue;
                };
                let closing = matches!(alive.control, Busy::CloseDisk(_));
                let running = node.disks[volume].running();
                if alive.devices[volume].backing.is_none() && !closing && running > 0 {
                    let who = name(node.id);
                    return Err(format!(
                        "{running} requests are with a disk that {who} closed"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Only the streams of the connection are open.
pub(super) struct NoStrayStreams;

impl Checker for NoStrayStreams {
    fn name(&self) -> &'static str {
        "no stray streams"
    }

    fn is_for_the_end(&self) -> bool {
        true
    }

    fn at_rest(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        for node in &cluster.world.nodes {
            let Some(alive) = node.alive.as_deref() else {
                continue;
            };
            let used = alive.link.map(|link| [link.data, link.meta]);
            let used = used.into_iter().flatten();
            let net = &cluster.world.net;
            let open = net.all_ends().filter(|end| {
                let owner = net.owner(*end);
                owner.node == node.id && owner.life == node.life && net.is_open(*end)
            });
            let used: Vec<_> = used.collect();
            let stray = open.filter(|end| !used.contains(end)).count();
            if stray > 0 {
                return Err(format!("{} holds {stray} of them", name(node.id)));
            }
        }
        Ok(())
    }
}
