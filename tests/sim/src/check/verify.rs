//! What an online verify finds.

use super::Checker;
use crate::cluster::Cluster;
use crate::node::{name, VOLUMES};

/// A verify finds no difference where there is none, and none that it does not know already, as
/// long as nobody writes and no disk fails. Elsewhere it may: the side that compares reads its
/// block while a later write for the peer may be with the disk (`reference/io.md` 4.5, 7), and a
/// block that cannot be read counts as different.
#[derive(Default)]
pub(super) struct VerifyIsRight {
    /// Lines of the log that were looked at.
    seen: usize,
    /// What had happened when the verify of a volume began, if nothing was in flight.
    began: [Option<[u64; 3]>; VOLUMES],
}

impl Checker for VerifyIsRight {
    fn name(&self) -> &'static str {
        "verify is right"
    }

    fn after_event(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        let log = cluster.world.log.get(self.seen..).unwrap_or(&[]);
        let lines = log.iter().filter_map(|said| {
            let begins = said.text.starts_with("Starting Online Verify");
            let found = said.text.starts_with("Online verify found");
            (begins || found).then_some((begins, said.node, said.volume))
        });
        let lines: Vec<_> = lines.collect();
        self.seen = cluster.world.log.len();
        for (begins, node, volume) in lines {
            let Some(volume) = volume else { continue };
            let slot = volume.slot();
            let disks = cluster.world.nodes.each_ref().map(|node| &node.disks[slot]);
            let [a, b] = disks.map(|disk| disk.failures);
            let happened = Some([cluster.workload.submitted(), a, b]);
            if begins {
                let same = disks[0].live.first_difference(&disks[1].live).is_none();
                let calm = same && cluster.is_quiet();
                self.began[slot] = happened.filter(|_| calm);
            } else if self.began[slot] == happened {
                return Err(format!("{} finds differences", name(node)));
            }
        }
        Ok(())
    }
}
