//! Checkers: each knows one promise and says when it is broken.

use drbd_core::link::VolumeIndex;
use drbd_format::types::{ConnState, DiskState, Role};

use crate::cluster::Cluster;
use crate::disk::{Differing, Disk};
use crate::node::{name, VOLUMES};
use crate::shell::{marks_on_disk, Marks};

mod counts;
mod leaks;
mod links;
mod stable;
mod suspension;
mod sync;
mod teardown;
mod verify;
mod waiting;

/// One promise.
pub trait Checker {
    /// Its name.
    fn name(&self) -> &'static str;

    /// It may fail behind a defect of the C driver that makes old data good, whoever is right.
    fn is_about_data(&self) -> bool {
        false
    }

    /// It only looks when everything has come to rest.
    fn is_for_the_end(&self) -> bool {
        false
    }

    /// Looks at the cluster after every event.
    ///
    /// # Errors
    ///
    /// What is wrong.
    fn after_event(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        let _ = cluster;
        Ok(())
    }

    /// Looks at the cluster when everything has come to rest.
    ///
    /// # Errors
    ///
    /// What is wrong.
    fn at_rest(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        let _ = cluster;
        Ok(())
    }
}

/// Returns all checkers.
pub fn all() -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(OnePrimary),
        Box::new(DifferencesAreMarked::default()),
        Box::new(NothingOutOfSync::default()),
        Box::new(EqualReplicas),
        Box::new(leaks::NoLeaks),
        Box::new(leaks::NothingOutlivesItsLink),
        Box::new(counts::CountsAgree),
        Box::new(counts::UsersAgree::default()),
        Box::new(counts::TrafficAgrees::default()),
        Box::new(suspension::SuspendedIsQuiet::default()),
        Box::new(teardown::ClosedDisksAreIdle),
        Box::new(teardown::NoStrayStreams),
        Box::new(sync::NoNeedlessFullSync::default()),
        Box::new(sync::SizesAreKept::default()),
        Box::new(verify::VerifyIsRight::default()),
        Box::new(stable::FlushesAreStable::default()),
        Box::new(stable::BarriersAreStable),
        Box::new(stable::NeverBackInTime::default()),
        Box::new(links::LinksLast::default()),
        Box::new(waiting::SilenceIsNoticed),
        Box::new(waiting::StatesPass::default()),
        Box::new(waiting::RequestsEnd::default()),
        // The last one, as it switches nodes off.
        Box::new(AcknowledgedWrites),
    ]
}

/// At most one node is Primary while both are connected.
struct OnePrimary;

impl Checker for OnePrimary {
    fn name(&self) -> &'static str {
        "at most one primary"
    }

    fn after_event(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        if cluster.world.touched == [false; 2] {
            return Ok(());
        }
        let (Some(a), Some(b)) = (cluster.state(0, 0), cluster.state(1, 0)) else {
            return Ok(());
        };
        let both = |of: fn(&drbd_core::state::VolumeState) -> bool| of(&a) && of(&b);
        if both(|s| s.role == Role::Primary) && both(|s| s.conn >= ConnState::Connected) {
            return Err(format!("both are: {a} and {b}"));
        }
        Ok(())
    }
}

/// Wherever the disks differ, a bit is set or the activity log covers it: on a node that runs in
/// its memory, else in what its disk says. Looked at after each loss of power and now and then.
#[derive(Default)]
struct DifferencesAreMarked {
    lives: [Option<u32>; 2],
    next_ns: u64,
    /// What the disks had seen at the last look, and when it is time to look again all the same.
    changes: u64,
    idle_until_ns: u64,
    marks: Vec<Cached>,
    differing: [Differing; VOLUMES],
}

/// The marks on a disk, as long as its metadata are what they were.
struct Cached {
    version: u64,
    marks: Option<Marks>,
}

impl DifferencesAreMarked {
    const PAUSE_NS: u64 = 100 * crate::world::MILLI;
    const IDLE_NS: u64 = crate::world::SECOND;

    fn look(&mut self, cluster: &mut Cluster, volume: usize) -> Result<(), String> {
        let [a, b] = &mut cluster.world.nodes;
        let (a, b) = (&mut a.disks[volume].live, &mut b.disks[volume].live);
        let differing = &mut self.differing[volume];
        a.note_differing(b, differing);
        let mut blocks = differing.numbers();
        for node in 0..2 {
            if blocks.is_empty() {
                break;
            }
            self.keep_unmarked(cluster, node, volume, &mut blocks);
        }
        let Some(block) = blocks.first() else {
            return Ok(());
        };
        let states = cluster.describe();
        Err(format!(
            "block {block} of volume {volume} differs and is marked nowhere, {} in all: {states}",
            blocks.len()
        ))
    }

    /// Drops the blocks that a node knows to be out of sync.
    fn keep_unmarked(
        &mut self,
        cluster: &mut Cluster,
        node: usize,
        volume: usize,
        blocks: &mut Vec<u64>,
    ) {
        let index = VolumeIndex(volume as u8);
        let world = &mut cluster.world;
        let in_memory = world.core(node).is_some_and(|core| {
            let disk = core.state(index).disk;
            disk > DiskState::Attaching
        });
        if let (true, Some(core)) = (in_memory, world.core(node)) {
            blocks.retain(|block| {
                let extent = (block / 1024) as u32;
                !core.bit_is_set(index, *block) && !core.extent_is_used(index, extent)
            });
            return;
        }
        let disk = &world.nodes[node].disks[volume];
        match self.marks_of(disk, node, volume) {
            Some(marks) => blocks.retain(|block| !marks.mark(disk, *block)),
            None => blocks.clear(),
        }
    }

    fn marks_of(&mut self, disk: &Disk, node: usize, volume: usize) -> Option<&Marks> {
        let at = volume * 2 + node;
        while self.marks.len() <= at {
            self.marks.push(Cached {
                version: u64::MAX,
                marks: None,
            });
        }
        let cached = &mut self.marks[at];
        if cached.version != disk.block_changes {
            cached.version = disk.block_changes;
            cached.marks = marks_on_disk(disk);
        }
        cached.marks.as_ref()
    }

    /// It is time to look: a node has lost power or come up, or data have changed.
    fn is_due(&mut self, cluster: &Cluster) -> bool {
        let nodes = &cluster.world.nodes;
        let lives = [0, 1].map(|node| nodes[node].alive.as_ref().map(|_| nodes[node].life));
        let now_ns = cluster.world.now_ns;
        if lives == self.lives && now_ns < self.next_ns {
            return false;
        }
        let disks = nodes.iter().flat_map(|node| &node.disks);
        let changes = disks.map(|disk| disk.changes).sum();
        let same = lives == self.lives && changes == self.changes;
        self.lives = lives;
        self.changes = changes;
        self.next_ns = now_ns + Self::PAUSE_NS;
        if same && now_ns < self.idle_until_ns {
            return false;
        }
        self.idle_until_ns = now_ns + Self::IDLE_NS;
        true
    }
}

impl Checker for DifferencesAreMarked {
    fn name(&self) -> &'static str {
        "differences are marked"
    }

    fn is_about_data(&self) -> bool {
        true
    }

    fn after_event(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        if !self.is_due(cluster) {
            return Ok(());
        }
        (0..cluster.faults.volumes).try_for_each(|volume| self.look(cluster, volume))
    }
}

/// Every acknowledged write can be read on both nodes.
struct AcknowledgedWrites;

impl Checker for AcknowledgedWrites {
    fn name(&self) -> &'static str {
        "acknowledged writes"
    }

    fn is_for_the_end(&self) -> bool {
        true
    }

    fn is_about_data(&self) -> bool {
        true
    }

    fn at_rest(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        for volume in 0..cluster.faults.volumes {
            cluster.world.oracle.synced(volume);
            for node in 0..2 {
                let disk = &cluster.world.nodes[node].disks[volume].live;
                cluster
                    .world
                    .oracle
                    .check_disk(volume, node, disk)
                    .map_err(|text| format!("lost on {}: {text}", name(node)))?;
            }
        }
        Ok(())
    }
}

/// Both disks are equal.
struct EqualReplicas;

impl Checker for EqualReplicas {
    fn name(&self) -> &'static str {
        "equal replicas"
    }

    fn is_for_the_end(&self) -> bool {
        true
    }

    fn is_about_data(&self) -> bool {
        true
    }

    fn at_rest(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        (0..cluster.faults.volumes).try_for_each(|volume| replicas_equal(cluster, volume))
    }
}

/// Compares both disks of a volume, unless they were equal and are what they were.
///
/// # Errors
///
/// The first sector that differs.
pub fn replicas_equal(cluster: &mut Cluster, volume: usize) -> Result<(), String> {
    let [a, b] = cluster
        .world
        .nodes
        .each_ref()
        .map(|node| &node.disks[volume]);
    let changes = Some([a.changes, b.changes]);
    if cluster.equal[volume] == changes {
        return Ok(());
    }
    match a.live.first_difference(&b.live) {
        None => {
            cluster.equal[volume] = changes;
            Ok(())
        }
        Some((sector, a, b)) => Err(format!(
            "volume {volume} is UpToDate on both nodes, but sector {sector} is {a:#x} on a and \
             {b:#x} on b"
        )),
    }
}

/// No bit is set once both disks are equal, unless nobody has looked: nodes of the same generation
/// do not sync what their bitmaps say (`reference/metadata.md` 5.7, "No resync, but"), for example
/// after a crash while a disk was invalidated. Nor does anybody sync at once what a verify has
/// found, or taken for different ([`verify::VerifyIsRight`]).
#[derive(Default)]
struct NothingOutOfSync {
    seen: usize,
    kept: [bool; VOLUMES],
}

impl Checker for NothingOutOfSync {
    fn name(&self) -> &'static str {
        "bitmaps are clear"
    }

    fn is_about_data(&self) -> bool {
        true
    }

    fn after_event(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        let log = &cluster.world.log;
        for said in log.get(self.seen..).unwrap_or(&[]) {
            let Some(volume) = said.volume else { continue };
            let unsynced = ["No resync, but", "Online verify found"];
            if unsynced.iter().any(|text| said.text.starts_with(text)) {
                self.kept[volume.slot()] = true;
            } else if said.text.starts_with("Resync done") {
                self.kept[volume.slot()] = false;
            }
        }
        self.seen = log.len();
        Ok(())
    }

    fn at_rest(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        for node in 0..2 {
            for volume in 0..cluster.faults.volumes {
                let Some(core) = cluster.world.core(node) else {
                    continue;
                };
                let bits = core.counters(VolumeIndex(volume as u8)).out_of_sync_bits;
                if bits > 0 && !self.kept[volume] {
                    return Err(format!("{} has {bits} bits set", name(node)));
                }
            }
        }
        Ok(())
    }
}
