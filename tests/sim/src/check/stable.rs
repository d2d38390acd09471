//! What was called stable survives a loss of power.

use super::Checker;
use crate::cluster::Cluster;
use crate::node::{name, VOLUMES};
use crate::oracle::{Promise, Write};
use crate::workload::Steady;
use crate::world::{Heard, World};
use drbd_core::quirk::Quirk;

/// A flush that was acknowledged has brought every write that was acknowledged before it to the
/// medium of the node's own disk, as has a write with forced unit access by itself. Nothing has to
/// lose power to see it.
#[derive(Default)]
pub(super) struct FlushesAreStable {
    /// Acknowledged and not yet covered by a flush.
    writes: Vec<Acked>,
}

struct Acked {
    node: usize,
    volume: usize,
    write: Write,
    /// Position among all acknowledgements.
    number: u64,
    steady: Steady,
}

impl Checker for FlushesAreStable {
    fn name(&self) -> &'static str {
        "flushes are stable"
    }

    fn after_event(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        if cluster.world.witness.heard.is_empty() {
            return Ok(());
        }
        let world = &mut cluster.world;
        for heard in std::mem::take(&mut world.witness.heard) {
            match heard {
                Heard::Acked {
                    node,
                    volume,
                    write,
                    durable,
                } => {
                    let acked = Acked {
                        node,
                        volume,
                        write,
                        number: world.oracle.flush_mark(),
                        steady: Steady::now(0, world, node, volume),
                    };
                    if durable {
                        stable(world, &acked, "forced")?;
                    } else {
                        self.writes.push(acked);
                    }
                }
                Heard::Flushed { node, volume, mark } => {
                    let is_covered = |acked: &Acked| {
                        acked.node != node || (acked.volume == volume && acked.number <= mark)
                    };
                    let (covered, rest) = std::mem::take(&mut self.writes)
                        .into_iter()
                        .partition(is_covered);
                    self.writes = rest;
                    let covered: Vec<Acked> = covered;
                    for acked in covered.iter().filter(|acked| acked.node == node) {
                        stable(world, acked, "flushed")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Nothing has happened to the disk since, and it holds what counts on its medium.
fn stable(world: &mut World, acked: &Acked, how: &str) -> Result<(), String> {
    let (node, volume) = (acked.node, acked.volume);
    let same = Steady::now(0, world, node, volume) == acked.steady;
    let good = world.oracle.promises[volume][node] == Promise::Everything;
    if !same || !good || !crate::workload::has_disk(world, node, volume) {
        return Ok(());
    }
    let disk = &world.nodes[node].disks[volume];
    let write = acked.write;
    for sector in write.sector..write.sector + write.count {
        if disk.stable(sector) == disk.live.get(sector) {
            // Nothing would be lost; a write in flight may have come since.
            continue;
        }
        world
            .oracle
            .check_sector(volume, sector, disk.stable(sector), Promise::Flushed)
            .map_err(|text| format!("{how} and not on the medium of {}: {text}", name(node)))?;
    }
    Ok(())
}

/// A barrier that was acknowledged has brought all writes before it to the medium of the peer's
/// disk: the other node forgets them (`reference/io.md` 3.3).
pub(super) struct BarriersAreStable;

impl Checker for BarriersAreStable {
    fn name(&self) -> &'static str {
        "barriers are stable"
    }

    fn after_event(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        match cluster.world.witness.unstable.take() {
            // What a power loss takes from it then is its own fault, and counted as such.
            Some((node, ..))
                if cluster.world.nodes[node]
                    .quirks
                    .contains(Quirk::AckBeforeFlush) =>
            {
                Ok(())
            }
            Some((node, number, write)) => {
                let who = name(node);
                Err(format!(
                    "{who} acknowledges barrier {number} without {write:?}"
                ))
            }
            None => Ok(()),
        }
    }
}

/// A write for the peer never brings back what a sector held before a write that was acknowledged:
/// whoever syncs has the newer data. Unless that was never flushed, and the node through which
/// applications wrote has lost power since; or somebody has decided otherwise, as after a split
/// brain of disks of which none is known to have everything.
#[derive(Default)]
pub(super) struct NeverBackInTime {
    seen: usize,
    /// A person has told whose data of a volume are given up.
    decided: [bool; VOLUMES],
}

impl NeverBackInTime {
    fn note_decisions(&mut self, world: &World) {
        for said in world.log.get(self.seen..).unwrap_or(&[]) {
            let Some(volume) = said.volume else { continue };
            if said
                .text
                .starts_with("Split-Brain detected, manually solved")
            {
                self.decided[volume.slot()] = true;
            } else if said.text.starts_with("updated UUIDs") {
                self.decided[volume.slot()] = false;
            }
        }
        self.seen = world.log.len();
    }
}

impl Checker for NeverBackInTime {
    fn name(&self) -> &'static str {
        "never back in time"
    }

    fn is_about_data(&self) -> bool {
        true
    }

    fn after_event(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        self.note_decisions(&cluster.world);
        let Some((node, volume, text)) = cluster.world.witness.went_back.take() else {
            return Ok(());
        };
        let nobody = cluster.world.oracle.promises[volume.slot()] == [Promise::Nothing; 2];
        if nobody && self.decided[volume.slot()] {
            return Ok(());
        }
        Err(format!("on {}: {text}", name(node)))
    }
}
