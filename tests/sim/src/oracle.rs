//! What applications may expect to read: the history of every sector written.
//!
//! Each node's disk carries a promise: how much of what was acknowledged it must hold. The
//! promises follow from what happened to the nodes, not from what the cores believe.

use crate::disk::Sectors;

/// How much of the acknowledged data a disk must hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Promise {
    /// Every acknowledged write.
    Everything,
    /// Every write acknowledged before an acknowledged flush (it lost power since).
    Flushed,
    /// Nothing: it missed writes.
    Nothing,
}

#[derive(Clone, Copy, Debug)]
struct Version {
    value: u64,
    /// Position among all acknowledgements, 0: none.
    acked: u64,
    acked_at_ns: u64,
    /// Written with forced unit access.
    durable: bool,
    /// The node that wrote it, if its own disk did not have it.
    missed_by: Option<usize>,
    /// It has not ended, and its node is up.
    in_flight: bool,
}

/// All values that a sector may have, oldest first; none: it was never written.
#[derive(Clone, Debug)]
struct History {
    versions: Vec<Version>,
    /// Value of the last version.
    newest: u64,
    /// Its last acknowledged write was lost in a way that the protocol allows.
    anything: bool,
    /// That was so before the versions that are here now: until one of them is flushed, a loss of
    /// power brings back what is not among them (seed 300210).
    bottomless: bool,
    /// Somebody has chosen older data, and nobody has written since.
    older_chosen: bool,
    /// Versions may be in flight.
    flying: bool,
}

impl History {
    const NONE: Self = Self {
        versions: Vec::new(),
        newest: 0,
        anything: false,
        bottomless: false,
        older_chosen: false,
        flying: false,
    };

    const FIRST: Version = Version {
        value: 0,
        acked: 0,
        acked_at_ns: 0,
        durable: false,
        missed_by: None,
        in_flight: false,
    };

    fn push(&mut self, version: Version) {
        self.newest = version.value;
        self.flying |= version.in_flight;
        self.versions.push(version);
    }

    /// The sector may hold this. `flushed`: acknowledgements that a flush covers.
    fn allows(&self, value: u64, promise: Promise, flushed: u64) -> bool {
        let is = |version: &Version| version.value == value;
        // Most often it is the newest.
        self.anything
            || self.older_chosen
            || self.newest == value
            || (self.bottomless && self.counted(promise, flushed).is_none())
            || self.versions[self.oldest(promise, flushed)..]
                .iter()
                .any(is)
    }

    /// Index of the oldest version that may be there.
    fn oldest(&self, promise: Promise, flushed: u64) -> usize {
        self.counted(promise, flushed).unwrap_or(0)
    }

    /// What was before the versions to come need not be known: a flush that comes now says nothing
    /// about those that there were (seed 614901).
    fn begin_anew(&mut self) {
        if std::mem::take(&mut self.anything) {
            self.bottomless = true;
            for version in &mut self.versions {
                version.acked = 0;
            }
        }
    }

    /// Forgets what is older than the last version that is flushed.
    fn forget_older(&mut self, flushed: u64) {
        if let Some(oldest) = self.counted(Promise::Flushed, flushed) {
            self.versions.drain(..oldest);
            self.bottomless = false;
        }
    }

    /// Index of the last version that the promise counts.
    fn counted(&self, promise: Promise, flushed: u64) -> Option<usize> {
        let counts = |version: &Version| match promise {
            Promise::Everything => version.acked > 0,
            Promise::Flushed => version.acked > 0 && (version.durable || version.acked <= flushed),
            Promise::Nothing => false,
        };
        self.versions.iter().rposition(counts)
    }
}

/// A write of the workload.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// First sector.
    pub sector: u64,
    /// Number of sectors.
    pub count: u64,
    /// Content of the first one; the next ones count up. 0 for all: a discard.
    pub value: u64,
}

impl Write {
    /// Content of the sector at `offset`.
    pub fn value_at(&self, offset: u64) -> u64 {
        if self.value == 0 {
            0
        } else {
            self.value + offset
        }
    }

    /// Tells whether a disk holds all of it.
    pub fn is_on(&self, disk: &Sectors) -> bool {
        (0..self.count).all(|at| disk.get(self.sector + at) == self.value_at(at))
    }

    /// Tells whether a disk holds all of it, or what was written later (values count up).
    pub fn has_reached(&self, disk: &Sectors) -> bool {
        let later = |at| self.value != 0 && disk.get(self.sector + at) > self.value_at(at);
        (0..self.count).all(|at| later(at) || disk.get(self.sector + at) == self.value_at(at))
    }

    /// Tells whether another write has a sector in common with it.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.sector < other.sector + other.count && other.sector < self.sector + self.count
    }

    /// Tells whether a later write covers all of it.
    pub fn is_within(&self, later: &Self) -> bool {
        later.sector <= self.sector && self.sector + self.count <= later.sector + later.count
    }
}

/// Sectors whose histories are held together.
const PAGE_SECTORS: usize = 128;

/// The histories of the sectors of one volume.
#[derive(Clone, Debug, Default)]
struct Histories {
    pages: Vec<Option<Box<[History; PAGE_SECTORS]>>>,
}

impl Histories {
    fn get(&self, sector: u64) -> Option<&History> {
        let page = self.pages.get(sector as usize / PAGE_SECTORS)?.as_ref()?;
        let history = &page[sector as usize % PAGE_SECTORS];
        (!history.versions.is_empty()).then_some(history)
    }

    fn get_mut(&mut self, sector: u64) -> Option<&mut History> {
        let page = self.pages.get_mut(sector as usize / PAGE_SECTORS)?;
        let history = &mut page.as_mut()?[sector as usize % PAGE_SECTORS];
        (!history.versions.is_empty()).then_some(history)
    }

    fn get_or_begin(&mut self, sector: u64) -> &mut History {
        let number = sector as usize / PAGE_SECTORS;
        if self.pages.len() <= number {
            self.pages.resize(number + 1, None);
        }
        let new = || Box::new([const { History::NONE }; PAGE_SECTORS]);
        let page = self.pages[number].get_or_insert_with(new);
        let history = &mut page[sector as usize % PAGE_SECTORS];
        if history.versions.is_empty() {
            history.versions.reserve(4);
            history.versions.push(History::FIRST);
        }
        history
    }

    /// All sectors that were written, in order.
    fn iter(&self) -> impl Iterator<Item = (u64, &History)> {
        let pages = (0..).step_by(PAGE_SECTORS).zip(&self.pages);
        pages
            .filter_map(|(first, page)| Some((first, page.as_ref()?)))
            .flat_map(|(first, page)| (first..).zip(page.iter()))
            .filter(|(_, history)| !history.versions.is_empty())
    }

    /// As [`Histories::iter`].
    fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut History)> {
        let pages = (0..).step_by(PAGE_SECTORS).zip(&mut self.pages);
        pages
            .filter_map(|(first, page)| Some((first, page.as_mut()?)))
            .flat_map(|(first, page)| (first..).zip(page.iter_mut()))
            .filter(|(_, history)| !history.versions.is_empty())
    }
}

/// One volume as applications see it.
#[derive(Clone, Debug)]
pub struct Oracle {
    sectors: Vec<Histories>,
    /// What each node's disk must hold, per volume.
    pub promises: Vec<[Promise; 2]>,
    acks: u64,
    /// Acknowledgements that a flush covers, per volume: a flush concerns one device.
    flushed: Vec<u64>,
}

impl Oracle {
    /// Nothing has been written to any of `volumes` volumes.
    pub fn new(volumes: usize) -> Self {
        Self {
            sectors: vec![Histories::default(); volumes],
            promises: vec![[Promise::Everything; 2]; volumes],
            acks: 0,
            flushed: vec![0; volumes],
        }
    }

    /// A write has been submitted.
    pub fn submitted(&mut self, volume: usize, write: &Write) {
        for at in 0..write.count {
            let history = self.sectors[volume].get_or_begin(write.sector + at);
            history.push(Version {
                value: write.value_at(at),
                in_flight: true,
                ..History::FIRST
            });
        }
    }

    /// A write has failed: what has become of it nobody knows.
    pub fn failed(&mut self, volume: usize, write: &Write) {
        for at in 0..write.count {
            let Some(history) = self.sectors[volume].get_mut(write.sector + at) else {
                continue;
            };
            let value = write.value_at(at);
            let mut newest = history.versions.iter_mut().rev();
            if let Some(version) = newest.find(|v| v.in_flight && v.value == value) {
                version.in_flight = false;
            }
        }
    }

    /// Nothing that was submitted and has not ended will end.
    pub fn interrupted(&mut self) {
        for (_, history) in self.sectors.iter_mut().flat_map(Histories::iter_mut) {
            if std::mem::take(&mut history.flying) {
                for version in &mut history.versions {
                    version.in_flight = false;
                }
            }
        }
    }

    /// A write has been acknowledged.
    pub fn acked(&mut self, volume: usize, write: &Write, durable: bool, now_ns: u64) {
        self.acks += 1;
        for at in 0..write.count {
            let Some(history) = self.sectors[volume].get_mut(write.sector + at) else {
                continue;
            };
            history.begin_anew();
            history.older_chosen = false;
            let value = write.value_at(at);
            let versions = &mut history.versions;
            let Some(mut at) = versions.iter().rposition(|v| v.value == value) else {
                continue;
            };
            let last = versions.iter().rposition(|version| version.acked > 0);
            // Writes to one place go one after the other, not always as they were submitted; those
            // in flight are still to come.
            if let Some(last) = last.filter(|last| *last > at) {
                let version = versions.remove(at);
                versions.insert(last, version);
                at = last;
            }
            let version = &mut versions[at];
            version.acked = self.acks;
            version.acked_at_ns = now_ns;
            version.durable = durable;
            version.in_flight = false;
            versions[..=at].sort_by_key(|version| version.in_flight);
            history.forget_older(self.flushed[volume]);
            history.newest = history.versions.last().map_or(0, |last| last.value);
        }
    }

    /// A write that was acknowledged is not on the own disk of the node that wrote it.
    pub fn missed(&mut self, volume: usize, write: &Write, node: usize) {
        for at in 0..write.count {
            let Some(history) = self.sectors[volume].get_mut(write.sector + at) else {
                continue;
            };
            let value = write.value_at(at);
            let mut newest = history.versions.iter_mut().rev();
            if let Some(version) = newest.find(|v| v.acked > 0 && v.value == value) {
                version.missed_by = Some(node);
            }
        }
    }

    /// A resync has made both disks equal: none misses anything.
    pub fn equalled(&mut self, volume: usize) {
        for (_, history) in self.sectors[volume].iter_mut() {
            for version in &mut history.versions {
                version.missed_by = None;
            }
        }
    }

    /// A write that was acknowledged has been lost on both nodes, as its protocol allows.
    pub fn lost(&mut self, volume: usize, write: &Write) {
        for at in 0..write.count {
            if let Some(history) = self.sectors[volume].get_mut(write.sector + at) {
                history.anything = true;
            }
        }
    }

    /// The only good disk, that of `node`, has lost power: what was acknowledged and is not on it
    /// any more is lost, unless it was written there with forced unit access. A flush makes only
    /// the own disk stable.
    pub fn lost_in_the_cache(&mut self, volume: usize, node: usize, disk: &Sectors) {
        for (sector, history) in self.sectors[volume].iter_mut() {
            let Some(last) = history.versions.iter().rposition(|v| v.acked > 0) else {
                continue;
            };
            let there = disk.get(sector);
            let found = history.versions[last..].iter().any(|v| v.value == there);
            let last = &history.versions[last];
            history.anything |= !found && (!last.durable || last.missed_by == Some(node));
        }
    }

    /// Mark for a flush that is submitted now.
    pub fn flush_mark(&self) -> u64 {
        self.acks
    }

    /// A flush of `volume` that was submitted with this mark has been acknowledged.
    pub fn flushed(&mut self, volume: usize, mark: u64) {
        let flushed = &mut self.flushed[volume];
        *flushed = mark.max(*flushed);
    }

    /// Checks what a read returned. `mark` was taken when it was submitted.
    pub fn check_read(&self, volume: usize, sector: u64, data: &[u64]) -> Result<(), String> {
        for (at, value) in (sector..).zip(data) {
            self.check_sector(volume, at, *value, Promise::Everything)
                .map_err(|text| format!("a read returned wrong data: {text}"))?;
        }
        Ok(())
    }

    /// Tells whether a write that was acknowledged, and flushed if that counts, is to be replaced
    /// by what the sector held before it. What was never written, or zeroed, tells nothing about
    /// its age; writes in flight come in any order.
    pub fn goes_back(&self, volume: usize, sector: u64, old: u64, new: u64, flushed: bool) -> bool {
        let Some(history) = self.sectors[volume].get(sector).filter(|h| !h.anything) else {
            return false;
        };
        if old == 0 {
            return false;
        }
        let counts = |version: &Version| {
            let stable = version.durable || version.acked <= self.flushed[volume];
            version.value == old && version.acked > 0 && (stable || !flushed)
        };
        let Some(old_at) = history.versions.iter().position(counts) else {
            return false;
        };
        match history.versions.iter().rposition(|v| v.value == new) {
            Some(at) => at < old_at && (history.versions[at].acked > 0 || new == 0),
            // Forgotten: replaced long ago, or interrupted and the peer's disk is slow with it.
            None => new < old,
        }
    }

    /// Checks one sector against a promise.
    ///
    /// # Errors
    ///
    /// What it should hold.
    pub fn check_sector(
        &self,
        volume: usize,
        sector: u64,
        value: u64,
        promise: Promise,
    ) -> Result<(), String> {
        let Some(history) = self.sectors[volume].get(sector) else {
            return if value == 0 {
                Ok(())
            } else {
                Err(format!(
                    "sector {sector} of volume {volume} was never written"
                ))
            };
        };
        if history.allows(value, promise, self.flushed[volume]) {
            return Ok(());
        }
        let oldest = history.oldest(promise, self.flushed[volume]);
        let wanted = history.versions[oldest];
        let known = history.versions.iter().any(|v| v.value == value);
        Err(format!(
            "volume {volume} sector {sector} acknowledged at {}.{:03} s as {:#x} holds \
             {value:#x}{}",
            wanted.acked_at_ns / 1_000_000_000,
            wanted.acked_at_ns / 1_000_000 % 1000,
            wanted.value,
            if known { " (older)" } else { " (unknown)" },
        ))
    }

    /// Checks a disk against its promise.
    pub fn check_disk(&self, volume: usize, node: usize, disk: &Sectors) -> Result<(), String> {
        let promise = self.promises[volume][node];
        if promise == Promise::Nothing {
            return Ok(());
        }
        let flushed = self.flushed[volume];
        let sectors = self.sectors[volume].iter();
        let mut bad = sectors
            .filter(|(sector, history)| !history.allows(disk.get(*sector), promise, flushed));
        match bad.next() {
            Some((sector, _)) => self.check_sector(volume, sector, disk.get(sector), promise),
            None => Ok(()),
        }
    }

    /// From now on what this disk holds is what applications see. If it is older than what they
    /// have seen, the newer data may come back for a sector that they have not written since: if no
    /// disk is told of the generation that begins, nobody knows that the older data were chosen
    /// (seed 144801).
    pub fn adopt(&mut self, volume: usize, node: usize, disk: &Sectors) {
        let stale = self.promises[volume][node] == Promise::Nothing;
        self.acks += 1;
        let (acks, flushed) = (self.acks, self.flushed[volume]);
        for (sector, history) in self.sectors[volume].iter_mut() {
            history.forget_older(flushed);
            let value = disk.get(sector);
            history.begin_anew();
            let other = history.versions.iter().any(|v| v.value != value);
            history.older_chosen &= history.newest == value;
            history.older_chosen |= stale && other;
            history.push(Version {
                value,
                acked: acks,
                ..History::FIRST
            });
        }
        self.promises[volume] = [Promise::Nothing; 2];
        self.promises[volume][node] = Promise::Everything;
    }

    /// A write that was given up with the applications that submitted it is still with the node
    /// whose data they use again: it is to come.
    pub fn still_to_come(&mut self, volume: usize, write: &Write) {
        for at in 0..write.count {
            let history = self.sectors[volume].get_or_begin(write.sector + at);
            let value = write.value_at(at);
            history.versions.retain(|version| version.value != value);
            history.push(Version {
                value,
                in_flight: true,
                ..History::FIRST
            });
        }
    }

    /// A node has lost power. `is_user`: applications wrote to the volume through it last.
    pub fn power_lost(&mut self, node: usize, is_user: impl Fn(usize) -> bool) {
        for (volume, promises) in self.promises.iter_mut().enumerate() {
            promises[node] = match promises[node] {
                Promise::Everything | Promise::Flushed if is_user(volume) => Promise::Flushed,
                _ => Promise::Nothing,
            };
        }
    }

    /// A disk gets the data of the other one, which a power loss may have shortened.
    pub fn overwritten(&mut self, volume: usize, target: usize) {
        let promises = &mut self.promises[volume];
        if promises[target] == Promise::Everything && promises[1 - target] == Promise::Flushed {
            promises[target] = Promise::Flushed;
        }
    }

    /// Both disks have become equal: the better promise holds for both, unless it was made good
    /// by data that a power loss may have shortened.
    pub fn synced(&mut self, volume: usize) {
        let both = self.promises[volume];
        let joined = match both {
            [Promise::Nothing, other] | [other, Promise::Nothing] => other,
            [Promise::Everything, Promise::Everything] => Promise::Everything,
            _ => Promise::Flushed,
        };
        self.promises[volume] = [joined; 2];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Write = Write {
        sector: 8,
        count: 1,
        value: 0x1000,
    };

    /// One that was submitted earlier and waited is carried out later.
    #[test]
    fn a_write_in_flight_is_carried_out_after_one_that_was_acknowledged_before_it() {
        let mut oracle = Oracle::new(1);
        let [waiting, first] = [1, 2].map(|value| Write {
            value: value << 12,
            ..ONE
        });
        for write in [waiting, first] {
            oracle.submitted(0, &write);
        }
        oracle.acked(0, &first, true, 0);
        assert!(oracle.check_read(0, ONE.sector, &[waiting.value]).is_ok());
        oracle.acked(0, &waiting, false, 0);
        assert!(oracle.check_read(0, ONE.sector, &[waiting.value]).is_ok());
        assert!(oracle.check_read(0, ONE.sector, &[first.value]).is_err());
    }

    /// What a crash has interrupted is older than what is acknowledged afterwards.
    #[test]
    fn a_write_that_was_interrupted_does_not_come_back_over_a_later_one() {
        let mut oracle = Oracle::new(1);
        let [interrupted, later] = [1, 2].map(|value| Write {
            value: value << 12,
            ..ONE
        });
        oracle.submitted(0, &interrupted);
        oracle.interrupted();
        oracle.submitted(0, &later);
        oracle.acked(0, &later, false, 0);
        let read = |value| oracle.check_read(0, ONE.sector, &[value]);
        assert!(read(interrupted.value).is_err());
        assert!(read(later.value).is_ok());
    }

    /// A write that overtook others is the newest that was acknowledged, and those that are still
    /// in flight may come behind it.
    #[test]
    fn what_is_in_flight_comes_behind_what_was_acknowledged_late() {
        let mut oracle = Oracle::new(1);
        let [late, early, flying] = [1, 2, 3].map(|value| Write {
            value: value << 12,
            ..ONE
        });
        for write in [late, early, flying] {
            oracle.submitted(0, &write);
        }
        oracle.acked(0, &early, false, 0);
        oracle.acked(0, &late, true, 0);
        oracle.acked(0, &flying, false, 0);
        let read = |value| oracle.check_read(0, ONE.sector, &[value]);
        assert!(read(flying.value).is_ok());
        assert!(read(late.value).is_err());
    }

    /// Forced unit access concerns the disks that have the write.
    #[test]
    fn what_is_forced_on_the_disk_of_the_peer_alone_is_lost_with_that_disk() {
        let lost = |missed: bool, node| {
            let mut oracle = Oracle::new(1);
            oracle.submitted(0, &ONE);
            oracle.acked(0, &ONE, true, 0);
            if missed {
                oracle.missed(0, &ONE, 0);
            }
            oracle.lost_in_the_cache(0, node, &Sectors::default());
            oracle.check_read(0, ONE.sector, &[0]).is_ok()
        };
        assert!(!lost(false, 0));
        assert!(!lost(true, 1));
        assert!(lost(true, 0));
    }

    #[test]
    fn a_flush_promises_nothing_about_another_volume() {
        let mut oracle = Oracle::new(2);
        for volume in 0..2 {
            oracle.submitted(volume, &ONE);
            oracle.acked(volume, &ONE, false, 0);
        }
        oracle.flushed(1, oracle.flush_mark());
        oracle.power_lost(0, |_| true);
        let empty = Sectors::default();
        assert!(oracle.check_disk(0, 0, &empty).is_ok());
        assert!(oracle.check_disk(1, 0, &empty).is_err());
    }
}
