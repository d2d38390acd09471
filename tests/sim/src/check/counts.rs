//! What `/proc/drbd` counts agrees with what happened.

use drbd_core::link::VolumeIndex;

use super::Checker;
use crate::cluster::Cluster;
use crate::node::{name, Worker};
use crate::world::{World, MILLI, SECOND};

/// `dr` and `dw` are what the disk has read and written since it was attached.
pub(super) struct CountsAgree;

impl Checker for CountsAgree {
    fn name(&self) -> &'static str {
        "counts agree"
    }

    fn is_for_the_end(&self) -> bool {
        true
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

/// `lo` is what the disk has in hand for applications and for the peer, flushes included, `ap` what
/// applications wait for, `al` and `bm` what the worker has written for the activity log, `oos` the
/// bits that are set.
#[derive(Default)]
pub(super) struct UsersAgree {
    next_ns: u64,
    next_bits_ns: u64,
}

impl UsersAgree {
    const PAUSE_NS: u64 = 100 * MILLI;
    const BITS_PAUSE_NS: u64 = 20 * SECOND;

    fn bits(world: &mut World, node: usize, volume: VolumeIndex) -> Result<(), String> {
        let Some(core) = world.core(node) else {
            return Ok(());
        };
        let counted = core.counters(volume).out_of_sync_bits;
        let bits = core.data.facts(volume).bits_total;
        let set = (0..bits)
            .filter(|bit| core.bit_is_set(volume, *bit))
            .count() as u64;
        if counted == set {
            return Ok(());
        }
        let who = name(node);
        Err(format!("{who}: oos counts {counted}, {set} bits are set"))
    }
}

/// The worker writes a page of the bitmap for the activity log, or waits to do so.
fn has_page_in_hand(worker: &Worker) -> bool {
    matches!(worker, Worker::BitmapPage(_) | Worker::BitmapPageLock(_))
}

impl Checker for UsersAgree {
    fn name(&self) -> &'static str {
        "users agree"
    }

    fn after_event(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        let now_ns = cluster.world.now_ns;
        if now_ns < self.next_ns {
            return Ok(());
        }
        self.next_ns = now_ns + Self::PAUSE_NS;
        let with_bits = now_ns >= self.next_bits_ns;
        if with_bits {
            self.next_bits_ns = now_ns + Self::BITS_PAUSE_NS;
        }
        for node in 0..2 {
            for volume in 0..cluster.faults.volumes {
                let index = VolumeIndex(volume as u8);
                let world = &mut cluster.world;
                let disk = &world.nodes[node].disks[volume];
                let written = [disk.transactions, disk.pages_for_log];
                let Some(alive) = world.nodes[node].alive.as_deref() else {
                    continue;
                };
                let counters = alive.core.counters(index);
                if !alive.core.held(index).attached {
                    continue;
                }
                let device = &alive.devices[volume];
                let pages = written[1] + u64::from(has_page_in_hand(&device.worker));
                let bios = alive.app.iter().flatten();
                let app = bios.filter(|bio| bio.volume == index).count() as u64;
                for (what, counted, done) in [
                    ("lo", u64::from(counters.local), device.in_flight as u64),
                    ("ap", u64::from(counters.app), app),
                    ("al", counters.al_writes, written[0]),
                    ("bm", counters.bm_writes, pages),
                ] {
                    if counted != done {
                        let who = name(node);
                        return Err(format!(
                            "{who} volume {volume}: {what} {counted}, not {done}"
                        ));
                    }
                }
                if with_bits {
                    Self::bits(world, node, index)?;
                }
            }
        }
        Ok(())
    }
}

/// `ns` is what was put on the wire, and the peer's `nr` the same, since both were set to zero by
/// the connection. An attach sets them to zero as well; then nobody knows until the next one.
#[derive(Default)]
pub(super) struct TrafficAgrees {
    /// Both ends of the connection at which counting began, and the attaches until then.
    links: [Option<usize>; 2],
    attaches: u64,
}

impl Checker for TrafficAgrees {
    fn name(&self) -> &'static str {
        "traffic agrees"
    }

    fn after_event(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        let nodes = &cluster.world.nodes;
        let links = [0, 1].map(|node| nodes[node].alive.as_ref()?.link.map(|link| link.data));
        if links != self.links {
            self.links = links;
            self.attaches = attaches(&cluster.world);
        }
        Ok(())
    }

    fn at_rest(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        let world = &mut cluster.world;
        if attaches(world) != self.attaches || self.links.contains(&None) {
            return Ok(());
        }
        for node in 0..2 {
            for volume in 0..cluster.faults.volumes {
                let index = VolumeIndex(volume as u8);
                let done = world.witness.wire.sectors(node, volume);
                let counted = |world: &mut World, node| {
                    let core = world.core(node);
                    core.map_or_else(Default::default, |core| core.counters(index))
                };
                let sent = counted(world, node).sent_sectors;
                let received = counted(world, 1 - node).received_sectors;
                if sent != done || received != done {
                    let who = name(node);
                    return Err(format!(
                        "{who} volume {volume} sent {done}, ns {sent}, the peer's nr {received}"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Attaches that have begun, and those that have ended: a number that each of them changes.
fn attaches(world: &World) -> u64 {
    let mut count = 0;
    for node in &world.nodes {
        for (volume, disk) in (0..).zip(&node.disks) {
            let core = node.alive.as_ref().map(|alive| &alive.core);
            let attached = core.is_some_and(|core| core.held(VolumeIndex(volume)).attached);
            count += 2 * disk.openings + u64::from(attached);
        }
    }
    count
}
