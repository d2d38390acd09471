//! Data-generation UUIDs: comparison and rotation (`reference/metadata.md` 5).

use crate::put_back::{put_back, Bug};

/// UUID of data that has just been created: never synced, never written.
pub const JUST_CREATED: u64 = 4;
/// Distance of a sync UUID from the bitmap UUID it replaces.
pub const SYNC_OFFSET: u64 = 0x0001_0000_0000_0000;

/// Distance of a branch from the generation that it leaves. Not that of sync UUIDs: one generation
/// may get both.
pub const BRANCH_OFFSET: u64 = 0x0000_0001_0000_0000;

/// Flag of the UUID packet: the sender wants to give up its changes.
pub const FLAG_DISCARD_MY_DATA: u32 = 1;
/// Flag of the UUID packet: the sender was a crashed primary.
pub const FLAG_CRASHED_PRIMARY: u32 = 2;
/// Flag of the UUID packet: the disk state being negotiated is Inconsistent.
pub const FLAG_INCONSISTENT: u32 = 4;
/// Flag of the UUID packet: skip the initial sync.
pub const FLAG_SKIP_INITIAL_SYNC: u32 = 8;

/// The four UUIDs of a data set.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Uuids {
    /// The present generation; bit 0 tells whether the node was primary.
    pub current: u64,
    /// The generation that the bitmap is relative to, 0: none.
    pub bitmap: u64,
    /// Earlier generations, the younger one first.
    pub history: [u64; 2],
}

/// Removes the primary bit.
const fn plain(uuid: u64) -> u64 {
    uuid & !1
}

/// The generation that goes on alone from `uuid`.
const fn branch_of(uuid: u64) -> u64 {
    plain(uuid).wrapping_add(BRANCH_OFFSET)
}

impl Uuids {
    /// Takes the UUIDs in the order of packets and superblock.
    pub const fn from_array([current, bitmap, h0, h1]: [u64; 4]) -> Self {
        Self {
            current,
            bitmap,
            history: [h0, h1],
        }
    }

    /// Returns the UUIDs in the order of packets and superblock.
    pub const fn to_array(self) -> [u64; 4] {
        let [h0, h1] = self.history;
        [self.current, self.bitmap, h0, h1]
    }

    /// Puts a UUID in front of the history.
    pub fn push_history(&mut self, uuid: u64) {
        let [younger, _] = self.history;
        self.history = [uuid, younger];
    }

    /// Sets or clears the primary bit of the current UUID.
    pub fn mark_primary(&mut self, primary: bool) {
        self.current = plain(self.current) | u64::from(primary);
    }

    /// Begins a new generation `random`; the old one becomes the base of the bitmap. A base that
    /// there was goes into the history: the data would seem to be unrelated to those of that disk.
    pub fn new_current(&mut self, random: u64, primary: bool) {
        self.set_bitmap(self.current);
        self.current = random;
        self.mark_primary(primary);
    }

    /// Tells whether the present generation, though the bitmap has a base, may be on another disk,
    /// too: the end of a resync from here need not have been heard of. Not if it is a branch.
    pub fn may_be_elsewhere(&self) -> bool {
        let [_, older] = self.history;
        self.bitmap != 0 && plain(self.current) != branch_of(older)
    }

    /// Begins a generation for this disk alone; the base of the bitmap stays, as the old generation
    /// need not have got to another disk.
    pub fn branch(&mut self, primary: bool) {
        let [younger, _] = self.history;
        self.history = [younger, self.current];
        self.current = branch_of(self.current);
        self.mark_primary(primary);
    }

    /// The peer has the generation that this disk has left: that is the base of the bitmap, as if
    /// it had been known.
    fn leave_peer_behind(&mut self) {
        let [h0, left] = self.history;
        self.history = [self.bitmap, h0];
        self.bitmap = left;
    }

    /// The UUID of the last resync did not get to its target. A generation that this one has left
    /// is not kept: behind the next resync this one would still count as a branch that nobody
    /// else has.
    fn take_sync_back(&mut self) {
        let [h0, h1] = self.history;
        let branch = plain(self.current) == branch_of(h1);
        self.bitmap = h0;
        self.history = if branch { [0; 2] } else { [h1; 2] };
    }

    /// Tells whether this disk left the generation of `peer`, in which the peer has ended a resync
    /// from here, or not begun it. The bitmap tells in both cases what the peer lacks. Before that
    /// it may have been the source, and not have heard of the end.
    fn has_left(&self, peer: &Self) -> bool {
        let [younger, left] = self.history;
        let was_source = plain(peer.bitmap) == plain(younger);
        self.bitmap != 0
            && (peer.bitmap == 0 || was_source)
            && plain(left) == plain(peer.current)
            && plain(self.current) == branch_of(left)
    }

    /// Moves the bitmap UUID into the history.
    pub fn clear_bitmap(&mut self) {
        if self.bitmap != 0 {
            self.push_history(self.bitmap);
            self.bitmap = 0;
        }
    }

    /// Replaces the bitmap UUID, the old one goes into the history.
    pub fn set_bitmap(&mut self, uuid: u64) {
        if self.bitmap != 0 {
            self.push_history(self.bitmap);
        }
        self.bitmap = uuid;
    }

    /// Begins a resync as source: a new bitmap UUID, which is also returned
    /// (`reference/metadata.md` 5.4). `random` is used if the bitmap has no base.
    pub fn begin_source(&mut self, random: u64) -> u64 {
        let uuid = match self.bitmap {
            0 | JUST_CREATED => random,
            base => base.wrapping_add(SYNC_OFFSET),
        };
        self.set_bitmap(uuid);
        uuid
    }

    /// Tells whether the bitmap UUID is that of a resync which never began at `peer`. The next one
    /// may use it once more: each further one would push the common ones out of the history, in
    /// the end the last one, and the data would seem to be unrelated (`reference/metadata.md` 5.4).
    pub fn begins_once_more(&self, peer: &Self) -> bool {
        let [base, _] = self.history;
        let began = plain(base.wrapping_add(SYNC_OFFSET)) == plain(self.bitmap);
        let known = peer.to_array().map(plain).contains(&plain(self.bitmap));
        base != 0 && began && !known
    }

    /// Begins a resync as target with the UUID that the source has sent.
    pub fn begin_target(&mut self, uuid: u64, primary: bool) {
        self.current = uuid;
        self.mark_primary(primary);
        self.bitmap = 0;
    }

    /// Ends a resync as target without failed blocks: takes over the source's generation.
    pub fn finish_target(&mut self, source: &Self, primary: bool) {
        self.bitmap = source.bitmap;
        self.history = source.history;
        self.set_bitmap(self.current);
        self.current = source.current;
        self.mark_primary(primary);
        self.clear_bitmap();
    }
}

/// What the comparison must know besides the UUIDs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Situation {
    /// Agreed protocol version.
    pub version: u32,
    /// Feature flag 4 (write-same) was agreed.
    pub feature_wsame: bool,
    /// This node was a crashed primary.
    pub self_crashed: bool,
    /// The peer was a crashed primary.
    pub peer_crashed: bool,
    /// This node is primary now.
    pub self_primary: bool,
    /// The peer is primary now.
    pub peer_primary: bool,
    /// This node holds the resolve-conflicts mark.
    pub resolver: bool,
}

/// Repair that a rule asks for besides its result.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Correction {
    /// Rule 34: the own set missed the end of a resync.
    SelfMissedFinish,
    /// Rule 36: the peer failed to write the sync UUID.
    PeerFailedSyncUuid,
    /// Rule 35: the peer missed the end of a resync.
    PeerMissedFinish,
    /// Rule 37: this node failed to write the sync UUID.
    SelfFailedSyncUuid,
    /// Rule 51: the last sync UUID packet to us was lost.
    LostSyncUuid,
    /// Rule 71: the last sync UUID packet to the peer was lost.
    SyncUuidNotDelivered,
    /// Rule 55: the peer went on alone from the generation of this disk.
    PeerLeft,
    /// Rule 75: this node went on alone from the generation of the peer's disk.
    SelfLeft,
    /// Rule 41: generations equal although a primary crashed, one node is primary.
    PrimaryPresent,
    /// Rule 41: both are primary.
    BothPrimary,
}

/// Result of a comparison.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Comparison {
    /// 0, +-1, +-2, +-100, -1000 or lower (`reference/metadata.md` 5.6).
    pub result: i32,
    /// The rule that decided.
    pub rule: u8,
    /// What was corrected in one of the two sets.
    pub correction: Option<Correction>,
}

/// The result that stands for "both sides need at least protocol 91".
const NEEDS_91: i32 = -1091;
/// Rule 41 without the feature: protocol 101 (low byte) and feature flag 4 (next byte).
const NEEDS_WSAME: i32 = -(0x1_0000 + 101 + 4 * 256);

const fn decided(result: i32, rule: u8) -> Comparison {
    Comparison {
        result,
        rule,
        correction: None,
    }
}

const fn corrected(result: i32, rule: u8, correction: Correction) -> Comparison {
    Comparison {
        result,
        rule,
        correction: Some(correction),
    }
}

/// Compares two data sets; corrects `own` or the copy of the peer's where a rule says so.
///
/// Both nodes come to opposite results. Table of `reference/metadata.md` 5.6.
pub fn compare(own: &mut Uuids, peer: &mut Uuids, now: &Situation) -> Comparison {
    let (sc, pc) = (plain(own.current), plain(peer.current));
    let blank = |uuid: u64| uuid == JUST_CREATED || uuid == 0;
    if sc == JUST_CREATED && pc == JUST_CREATED {
        return decided(0, 10);
    }
    if blank(sc) && pc != JUST_CREATED {
        return decided(-2, 20);
    }
    if sc != JUST_CREATED && blank(pc) {
        return decided(2, 30);
    }
    if sc == pc {
        return compare_equal(own, peer, now);
    }
    compare_different(own, peer, now)
}

/// Rules 34 to 41: both current UUIDs are equal.
fn compare_equal(own: &mut Uuids, peer: &mut Uuids, now: &Situation) -> Comparison {
    let [sh0, sh1] = own.history.map(plain);
    let [ph0, ph1] = peer.history.map(plain);
    if peer.bitmap == 0 && own.bitmap != 0 {
        if now.version < 91 {
            return decided(NEEDS_91, 30);
        }
        if plain(own.bitmap) == ph0 && sh0 == ph1 {
            own.clear_bitmap();
            return corrected(1, 34, Correction::SelfMissedFinish);
        }
        return corrected(1, 36, Correction::PeerFailedSyncUuid);
    }
    if own.bitmap == 0 && peer.bitmap != 0 {
        if now.version < 91 {
            return decided(NEEDS_91, 30);
        }
        if sh0 == plain(peer.bitmap) && sh1 == ph0 {
            peer.clear_bitmap();
            return corrected(-1, 35, Correction::PeerMissedFinish);
        }
        return corrected(-1, 37, Correction::SelfFailedSyncUuid);
    }
    // Two that have left one generation, each by itself.
    let left = |of: &Uuids| plain(of.current) == branch_of(of.history[1]);
    let both = own.bitmap != 0 && plain(own.bitmap) != plain(peer.bitmap);
    if both && left(own) && left(peer) {
        return decided(-100, 100);
    }
    if !now.self_crashed && !now.peer_crashed {
        return decided(0, 40);
    }
    match (now.self_primary, now.peer_primary) {
        (false, false) => decided(crashed_secondaries(now), 40),
        _ if !now.feature_wsame => corrected(NEEDS_WSAME, 41, Correction::PrimaryPresent),
        (true, true) => corrected(-100, 41, Correction::BothPrimary),
        (true, false) => decided(1, 41),
        (false, true) => decided(-1, 41),
    }
}

/// Rule 40 with crash marks and no primary.
const fn crashed_secondaries(now: &Situation) -> i32 {
    match (now.self_crashed, now.peer_crashed, now.resolver) {
        (false, false, _) => 0,
        (true, false, _) => 1,
        (false, true, _) | (true, true, true) => -1,
        (true, true, false) => 1,
    }
}

/// Rules 50 to 100: the current UUIDs differ.
fn compare_different(own: &mut Uuids, peer: &mut Uuids, now: &Situation) -> Comparison {
    if put_back(Bug::PeerBitmapUuidInHistory) {
        own.push_history(peer.bitmap);
    }
    let (sc, sb) = (plain(own.current), plain(own.bitmap));
    let (pc, pb) = (plain(peer.current), plain(peer.bitmap));
    let [sh0, sh1] = own.history.map(plain);
    let [ph0, ph1] = peer.history.map(plain);
    let by_offset = now.version >= 96;
    let known = !put_back(Bug::FullSyncAfterBreakAtStart);
    if sc == pb {
        return decided(-1, 50);
    }
    let lost = if by_offset {
        plain(ph0.wrapping_add(SYNC_OFFSET)) == pb
    } else {
        sh0 == ph1
    };
    if sc == ph0 && lost && known {
        if now.version < 91 {
            return decided(NEEDS_91, 51);
        }
        peer.take_sync_back();
        return corrected(-1, 51, Correction::LostSyncUuid);
    }
    if peer.has_left(own) {
        peer.leave_peer_behind();
        return corrected(-1, 55, Correction::PeerLeft);
    }
    if sc == ph0 || sc == ph1 {
        return decided(-2, 60);
    }
    if sb == pc {
        return decided(1, 70);
    }
    let lost = if by_offset {
        plain(sh0.wrapping_add(SYNC_OFFSET)) == sb
    } else {
        sh1 == ph0
    };
    if sh0 == pc && lost && known {
        if now.version < 91 {
            return decided(NEEDS_91, 71);
        }
        own.take_sync_back();
        return corrected(1, 71, Correction::SyncUuidNotDelivered);
    }
    if own.has_left(peer) {
        own.leave_peer_behind();
        return corrected(1, 75, Correction::SelfLeft);
    }
    if pc == sh0 || pc == sh1 {
        return decided(2, 80);
    }
    if sb == pb && sb != 0 {
        return decided(100, 90);
    }
    let related = [sh0, sh1].iter().any(|own| [ph0, ph1].contains(own));
    // One has begun a resync from a base that the other one still has.
    let by_base = (sb != 0 && [ph0, ph1].contains(&sb)) || (pb != 0 && [sh0, sh1].contains(&pb));
    if related || by_base {
        return decided(-100, 100);
    }
    decided(-1000, 100)
}

#[cfg(test)]
#[path = "generation_tests.rs"]
mod tests;
