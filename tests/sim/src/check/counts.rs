//! What `/proc/drbd` counts agrees with what happened.

use drbd_core::link::VolumeIndex;

use super::Checker;
use crate::cluster::Cluster;
use crate::node::name;

/// `dr` and `dw` are what the disk has read and written since it was attached.
pub(super) struct CountsAgree;

impl Checker for CountsAgree {
    fn name(&self) -> &'static str {
        "counts agree"
    }

    fn at_rest(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        for node in 0..2 {
            for volume in 0..cluster.faults.volumes {
                let Some(core) = cluster.world.core(node) else {
                    continue;
                };
                let counters = core.counters(VolumeIndex(volume as u8));
                let disk = &cluster.world.nodes[node].disks[volume];
                for (what, counted, done) in [
                    ("dr", counters.read_sectors, disk.sectors_read),
                    ("dw", counters.written_sectors, disk.sectors_written),
                ] {
                    if counted != done {
                        let who = name(node);
                        return Err(format!(
                            "{who} volume {volume}: {what} counts {counted}, the disk {done}"
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}
