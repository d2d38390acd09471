//! Which node has the better data: from the comparison of generations to what is done
//! (`reference/metadata.md` 5.7, 5.8).

use drbd_format::types::{AfterSbPolicy, ConnState, DiskState, Role, RrConflict};
use drbd_format::wire::features::FeatureFlags;

use super::engine::{Flags, SUCCESS};
use super::Control;
use crate::action::Handler;
use crate::generation::{
    compare, Comparison, Correction, Situation, Uuids, FLAG_CRASHED_PRIMARY, FLAG_DISCARD_MY_DATA,
};
use crate::link::VolumeIndex;
use crate::log::{Level, Line};
use crate::put_back::{put_back, Bug};
use crate::quirk::{quirk, Quirk};
use crate::state::{Change, VolumeState};

/// What the two nodes are going to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// The data is equal.
    Connected,
    /// This node becomes source (WFBitMapS) or target (WFBitMapT).
    Sync {
        /// Source, else target.
        source: bool,
        /// All bits are set first.
        full: bool,
    },
    /// They must not connect.
    Refused,
    /// They connect anew, and compare what has been corrected.
    Anew,
}

/// Facts for the split brain policies, own first.
#[derive(Clone, Copy, Debug)]
pub struct SplitBrain {
    /// Bit 0 of the bitmap UUIDs: already primary when the data diverged.
    pub was_primary: [bool; 2],
    /// Set bits as exchanged.
    pub changed: [u64; 2],
    /// Present roles.
    pub primary: [bool; 2],
    /// This node holds the resolve-conflicts mark.
    pub resolver: bool,
}

const UNDECIDED: i32 = -100;

impl SplitBrain {
    fn by_resolver(&self) -> i32 {
        if self.resolver {
            -1
        } else {
            1
        }
    }

    fn least_changes(&self) -> i32 {
        let [own, peer] = self.changed;
        match own.cmp(&peer) {
            core::cmp::Ordering::Less => -1,
            core::cmp::Ordering::Greater => 1,
            core::cmp::Ordering::Equal => self.by_resolver(),
        }
    }

    fn zero_changes(&self) -> Option<i32> {
        match self.changed {
            [0, 0] => Some(self.by_resolver()),
            [_, 0] => Some(1),
            [0, _] => Some(-1),
            _ => None,
        }
    }

    /// Decision of `after-sb-0pri`.
    pub fn without_primary(&self, policy: AfterSbPolicy) -> i32 {
        let fallback = || self.zero_changes().unwrap_or_else(|| self.least_changes());
        match (policy, self.was_primary) {
            (AfterSbPolicy::DiscardYoungerPrimary, [false, true]) => -1,
            (AfterSbPolicy::DiscardYoungerPrimary, [true, false]) => 1,
            (AfterSbPolicy::DiscardOlderPrimary, [false, true]) => 1,
            (AfterSbPolicy::DiscardOlderPrimary, [true, false]) => -1,
            (AfterSbPolicy::DiscardYoungerPrimary | AfterSbPolicy::DiscardOlderPrimary, _) => {
                fallback()
            }
            (AfterSbPolicy::DiscardZeroChanges, _) => self.zero_changes().unwrap_or(UNDECIDED),
            (AfterSbPolicy::DiscardLeastChanges, _) => self.least_changes(),
            (AfterSbPolicy::DiscardLocal, _) => -1,
            (AfterSbPolicy::DiscardRemote, _) => 1,
            (
                AfterSbPolicy::Disconnect
                | AfterSbPolicy::Consensus
                | AfterSbPolicy::DiscardSecondary
                | AfterSbPolicy::CallPriLostAfterSb
                | AfterSbPolicy::ViolentlyAs0p,
                _,
            ) => UNDECIDED,
        }
    }

    /// Decision of `after-sb-1pri` and `after-sb-2pri`, before a losing primary gives up its role.
    pub fn with_primary(&self, policy: AfterSbPolicy, policy_0p: AfterSbPolicy) -> i32 {
        let as_0p = || self.without_primary(policy_0p);
        let [own_primary, _] = self.primary;
        match policy {
            AfterSbPolicy::Consensus => {
                let wanted = if own_primary { 1 } else { -1 };
                if as_0p() == wanted {
                    wanted
                } else {
                    UNDECIDED
                }
            }
            AfterSbPolicy::ViolentlyAs0p | AfterSbPolicy::CallPriLostAfterSb => as_0p(),
            AfterSbPolicy::DiscardSecondary => {
                if own_primary {
                    1
                } else {
                    -1
                }
            }
            AfterSbPolicy::Disconnect
            | AfterSbPolicy::DiscardYoungerPrimary
            | AfterSbPolicy::DiscardOlderPrimary
            | AfterSbPolicy::DiscardZeroChanges
            | AfterSbPolicy::DiscardLeastChanges
            | AfterSbPolicy::DiscardLocal
            | AfterSbPolicy::DiscardRemote => UNDECIDED,
        }
    }
}

impl Control<'_> {
    /// Compares the generations and logs what comes out.
    fn compare_generations(&mut self, v: VolumeIndex, peer_role: Role) -> Result<i32, Decision> {
        let state = self.state(v);
        let volume = self.vol(v);
        let disk = volume.disk.ok_or(Decision::Refused)?;
        let mut peer = volume.peer.uuids.ok_or(Decision::Refused)?;
        let mut own = disk.uuids;
        let peer_flags = volume.peer.flags;
        let now = Situation {
            version: self.version(),
            feature_wsame: self.feature(FeatureFlags::WSAME),
            self_crashed: volume.crashed_primary,
            peer_crashed: peer_flags & FLAG_CRASHED_PRIMARY != 0,
            self_primary: state.role == Role::Primary,
            // As it says now: in a handshake nothing is known before.
            peer_primary: peer_role == Role::Primary,
            resolver: self.s.link.resolver,
        };
        let shown = |bits: u64| u32::try_from(bits).unwrap_or(u32::MAX);
        // CAST: UUID flags are the lowest four bits.
        let (own_flags, flags) = (self.own_uuid_flags(v) as u8, peer_flags as u8);
        let own_line = |own: &Uuids, bits| Line::HandshakeUuids {
            peer: false,
            uuids: own.to_array(),
            bits: shown(bits),
            flags: own_flags,
        };
        let peer_line = |peer: &Uuids, bits| Line::HandshakeUuids {
            peer: true,
            uuids: peer.to_array(),
            bits: shown(bits),
            flags,
        };
        let (own_bits, peer_bits) = (volume.sent_bits, volume.peer.bits);
        self.text(v, Level::Info, "drbd_sync_handshake:");
        self.log(v, own_line(&own, own_bits));
        self.log(v, peer_line(&peer, peer_bits));
        let before = own;
        let Comparison {
            result,
            rule,
            correction,
        } = compare(&mut own, &mut peer, &now);
        self.log_correction(v, correction);
        match correction {
            Some(
                Correction::SelfMissedFinish
                | Correction::SyncUuidNotDelivered
                | Correction::SelfLeft,
            ) => {
                self.log(v, own_line(&own, own_bits));
            }
            Some(
                Correction::PeerMissedFinish | Correction::LostSyncUuid | Correction::PeerLeft,
            ) => {
                self.log(v, peer_line(&peer, peer_bits));
            }
            _ => {}
        }
        if own != before {
            let volume = self.vol_mut(v);
            volume.compared_uuids = (volume.uuids_queued > 0).then_some(before);
            if let Some(disk) = volume.disk.as_mut() {
                disk.uuids = own;
            }
            self.dirty(v);
        }
        self.vol_mut(v).peer.uuids = Some(peer);
        self.log(v, Line::Compared { result, rule });
        if !was_written_since(&now, correction) || quirk(Quirk::CrashUnheeded) {
            return Ok(result);
        }
        self.compare_corrected(v, now, correction)
    }

    /// The source of a resync missed its end, and the target has been written to since. The crash
    /// of that Primary tells, once both compare the corrected generations: a peer that attaches its
    /// disk is told them, another one has compared the old ones already.
    fn compare_corrected(
        &mut self,
        v: VolumeIndex,
        now: Situation,
        correction: Option<Correction>,
    ) -> Result<i32, Decision> {
        let missed = correction == Some(Correction::SelfMissedFinish);
        self.vol_mut(v).crashed_primary &= !missed;
        let now = Situation {
            self_crashed: !missed,
            peer_crashed: missed,
            ..now
        };
        let volume = self.vol(v);
        let (Some(disk), Some(mut peer)) = (volume.disk, volume.peer.uuids) else {
            return Err(Decision::Refused);
        };
        if volume.state.conn < ConnState::Connected {
            let text = "The target of that resync has been written to since; connecting anew.";
            self.text(v, Level::Warning, text);
            return Err(Decision::Anew);
        }
        let mut own = disk.uuids;
        let Comparison { result, rule, .. } = compare(&mut own, &mut peer, &now);
        self.log(v, Line::Compared { result, rule });
        Ok(result)
    }

    fn log_correction(&mut self, v: VolumeIndex, correction: Option<Correction>) {
        let Some(correction) = correction else { return };
        let text = match correction {
            Correction::SelfMissedFinish => {
                "was SyncSource, missed the resync finished event, corrected myself:"
            }
            Correction::PeerFailedSyncUuid => "was SyncSource (peer failed to write sync_uuid)",
            Correction::PeerMissedFinish => {
                "was SyncTarget, peer missed the resync finished event, corrected peer:"
            }
            Correction::SelfFailedSyncUuid => "was SyncTarget (failed to write sync_uuid)",
            Correction::LostSyncUuid => "Lost last syncUUID packet, corrected:",
            Correction::SyncUuidNotDelivered => "Last syncUUID did not get through, corrected:",
            Correction::PeerLeft => "Peer went on alone from this generation, corrected peer:",
            Correction::SelfLeft => "Went on alone from the peer's generation, corrected myself:",
            Correction::PrimaryPresent => {
                "Equivalent unrotated UUIDs, but current primary present."
            }
            Correction::BothPrimary => {
                "Equivalent unrotated UUIDs, but both are primary. Can not resolve this."
            }
        };
        self.text(v, Level::Info, text);
    }

    /// Decides what a handshake leads to (`reference/metadata.md` 5.7).
    pub(crate) fn decide(
        &mut self,
        v: VolumeIndex,
        peer: &VolumeState,
        peer_disk: DiskState,
    ) -> Decision {
        // This one says what becomes of the peer's disk.
        self.vol_mut(v).peer_refused = false;
        let peer_role = peer.role;
        let volume = self.vol(v);
        let own_disk = match volume.state.disk {
            DiskState::Negotiating => volume
                .saved
                .map_or(DiskState::Negotiating, |(disk, _)| disk),
            disk => disk,
        };
        self.count_changes(v, peer);
        let mut hg = match self.compare_generations(v, peer_role) {
            Ok(hg) => hg,
            Err(decision) => return decision,
        };
        if hg == -1000 {
            self.text(v, Level::Alert, "Unrelated data, aborting!");
            return Decision::Refused;
        }
        if hg < -1000 {
            let (version, features) = if hg < -0x1_0000 {
                let code = hg.unsigned_abs() - 0x1_0000;
                (code & 0xff, code >> 8 & 0xff)
            } else {
                (hg.unsigned_abs() - 1000, 0)
            };
            self.log(v, Line::NeedsVersion { version, features });
            return Decision::Refused;
        }
        let worse = |a: DiskState, b: DiskState| {
            a == DiskState::Inconsistent && b > DiskState::Inconsistent
        };
        if worse(own_disk, peer_disk) || worse(peer_disk, own_disk) {
            let full = hg == UNDECIDED || hg.abs() == 2;
            hg = if own_disk > DiskState::Inconsistent {
                1
            } else {
                -1
            };
            hg *= if full { 2 } else { 1 };
            let text = if hg > 0 {
                "Becoming sync source due to disk states."
            } else {
                "Becoming sync target due to disk states."
            };
            self.text(v, Level::Info, text);
        }
        if hg.abs() == 100 {
            match self.heal_split_brain(v, hg, peer_role) {
                Some(healed) => hg = healed,
                None => return Decision::Refused,
            }
        }
        // The peer may have decided on what a correction of its UUIDs has wiped out. It knew those
        // of a disk that is being attached: its decision counts.
        let negotiating = self.state(v).disk == DiskState::Negotiating && hg.abs() < 100;
        match peer.conn {
            ConnState::WfBitMapS if negotiating && hg > 0 => hg = -hg,
            ConnState::WfBitMapT if negotiating && hg < 0 => hg = -hg,
            ConnState::WfBitMapS if hg == 0 => hg = -1,
            ConnState::WfBitMapT if hg == 0 => hg = 1,
            // The peer does not know that the device grew while its disk was not there: the
            // bitmaps name the new space, and it follows.
            _ if hg == 0 && self.vol(v).grown => {
                let role = self.state(v).role;
                hg = if self.gives_new_space(role, peer_role) {
                    1
                } else {
                    -1
                };
            }
            _ => {}
        }
        self.confirm(v, hg, own_disk)
    }

    /// The peer attaches a disk, and is told our UUIDs behind the decision: this disk may have been
    /// written to since they were told last. Or they have not left yet: the number of changes that
    /// counts here has to be that of the packet.
    fn count_changes(&mut self, v: VolumeIndex, peer: &VolumeState) {
        let volume = self.vol_mut(v);
        let state = volume.state;
        let waits = |disk| disk == DiskState::Negotiating;
        let tells = state.conn == ConnState::Connected && waits(peer.disk) && !waits(state.disk);
        let untold = volume.uuids_queued > 0;
        volume.bits_counted |= untold;
        if untold || (tells && !quirk(Quirk::DiskNotCompared)) {
            volume.sent_bits = volume.facts.bits_set;
        }
    }

    /// Steps 4 to 7: split brain.
    fn heal_split_brain(&mut self, v: VolumeIndex, hg: i32, peer_role: Role) -> Option<i32> {
        self.helper(Handler::InitialSplitBrain, Some(v), false);
        let net = self.s.net?;
        let mut result = UNDECIDED;
        if hg == 100 || net.always_asbp {
            result = self.apply_policies(v, peer_role)?;
            if result.abs() < 100 {
                let primaries = u8::from(self.vol(v).state.role == Role::Primary)
                    + u8::from(peer_role == Role::Primary);
                self.log(
                    v,
                    Line::AutoSolved {
                        primaries,
                        from_peer: result < 0,
                    },
                );
            }
        }
        if result == UNDECIDED {
            let peer_discards = self.vol(v).peer.flags & FLAG_DISCARD_MY_DATA != 0;
            let solved = match (net.discard_my_data, peer_discards) {
                (true, false) => Some((-1, "peer")),
                (false, true) => Some((1, "this")),
                _ => None,
            };
            let Some((solved, node)) = solved else {
                let text = "Split-Brain detected but unresolved, dropping connection!";
                self.text(v, Level::Alert, text);
                self.helper(Handler::SplitBrain, Some(v), false);
                return None;
            };
            let text = if node == "peer" {
                "Split-Brain detected, manually solved. Sync from peer node"
            } else {
                "Split-Brain detected, manually solved. Sync from this node"
            };
            self.text(v, Level::Warning, text);
            result = solved;
        }
        if hg == UNDECIDED && result.abs() < 100 {
            // No bitmap names what was written on the disk that gives its data up.
            let text = "Doing a full sync, since UUIDs where ambiguous.";
            self.text(v, Level::Warning, text);
            result *= 2;
        }
        Some(result)
    }

    fn apply_policies(&mut self, v: VolumeIndex, peer_role: Role) -> Option<i32> {
        let net = self.s.net?;
        let volume = self.vol(v);
        let own = volume.disk?.uuids;
        let peer = volume.peer.uuids?;
        let own_primary = volume.state.role == Role::Primary;
        let facts = SplitBrain {
            was_primary: [own.bitmap & 1 != 0, peer.bitmap & 1 != 0],
            changed: [volume.sent_bits, volume.peer.bits],
            primary: [own_primary, peer_role == Role::Primary],
            resolver: self.s.link.resolver,
        };
        let (policy, primaries) = match facts.primary {
            [false, false] => (net.after_sb_0p, 0),
            [true, true] => (net.after_sb_2p, 2),
            _ => (net.after_sb_1p, 1),
        };
        if !policy.fits(primaries) {
            self.text(v, Level::Error, "Configuration error.");
            return Some(UNDECIDED);
        }
        if primaries == 0 {
            return Some(facts.without_primary(policy));
        }
        let result = facts.with_primary(policy, net.after_sb_0p);
        if policy == AfterSbPolicy::CallPriLostAfterSb && result == -1 && own_primary {
            let change = Change::role(Role::Secondary);
            if self.set_state(v, change, Flags::VERBOSE) < SUCCESS {
                self.helper(Handler::PriLostAfterSb, Some(v), false);
                return Some(UNDECIDED);
            }
            self.text(v, Level::Warning, "Successfully gave up primary role.");
        }
        Some(result)
    }

    /// Steps 8 to 12: whether the outcome is acceptable.
    fn confirm(&mut self, v: VolumeIndex, hg: i32, own_disk: DiskState) -> Decision {
        let full = hg.abs() >= 2;
        if hg > 0 && own_disk <= DiskState::Inconsistent {
            self.text(
                v,
                Level::Error,
                "I shall become SyncSource, but I am inconsistent!",
            );
            return Decision::Refused;
        }
        let state = self.vol(v).state;
        if hg < 0 && state.role == Role::Primary && state.disk >= DiskState::Consistent {
            match self
                .s
                .net
                .map_or(RrConflict::Disconnect, |net| net.rr_conflict)
            {
                RrConflict::Violently => {
                    let text = "Becoming SyncTarget, violating the stable-dataassumption";
                    self.text(v, Level::Warning, text);
                }
                policy @ (RrConflict::CallPriLost | RrConflict::Disconnect) => {
                    if policy == RrConflict::CallPriLost {
                        self.helper(Handler::PriLost, Some(v), false);
                    }
                    let text = "I shall become SyncTarget, but I am primary!";
                    self.text(v, Level::Error, text);
                    return Decision::Refused;
                }
            }
        }
        if self.s.link.dry_run {
            if hg == 0 {
                let text = "dry-run connect: No resync, would become Connected immediately.";
                self.text(v, Level::Info, text);
            } else {
                self.log(
                    v,
                    Line::DryRun {
                        source: hg > 0,
                        full,
                    },
                );
            }
            return Decision::Refused;
        }
        if hg == 0 {
            let bits = self.vol(v).facts.bits_set;
            if bits != 0 {
                self.log(v, Line::StrayBits { bits });
                if put_back(Bug::BitsDroppedAtEqualGenerations) {
                    self.clear_all_bits(v);
                }
            }
            return Decision::Connected;
        }
        if put_back(Bug::BitsDroppedAtEqualGenerations) {
            self.vol_mut(v).crashed_primary = false;
        }
        if full {
            let text = "Writing the whole bitmap, full sync required after drbd_sync_handshake.";
            self.text(v, Level::Info, text);
        }
        Decision::Sync {
            source: hg > 0,
            full,
        }
    }

    /// Flags of our UUID packet.
    pub(crate) fn own_uuid_flags(&self, v: VolumeIndex) -> u32 {
        let volume = self.vol(v);
        let mut flags = 0;
        if self.s.net.is_some_and(|net| net.discard_my_data) {
            flags |= FLAG_DISCARD_MY_DATA;
        }
        if volume.crashed_primary {
            flags |= FLAG_CRASHED_PRIMARY;
        }
        let negotiated = match volume.state.disk {
            DiskState::Negotiating => volume.saved.map(|(disk, _)| disk),
            disk => Some(disk),
        };
        if negotiated == Some(DiskState::Inconsistent) {
            flags |= crate::generation::FLAG_INCONSISTENT;
        }
        flags
    }

    /// Connection state that a decision leads to.
    pub(crate) const fn decided_conn(decision: Decision) -> Option<ConnState> {
        match decision {
            Decision::Connected => Some(ConnState::Connected),
            Decision::Sync { source: true, .. } => Some(ConnState::WfBitMapS),
            Decision::Sync { source: false, .. } => Some(ConnState::WfBitMapT),
            Decision::Refused | Decision::Anew => None,
        }
    }
}

/// The source of a resync missed its end, and the target was Primary when it crashed: it may have
/// written since. The corrected generations are equal, and then the crash tells. One of the source
/// does not count: at the end of the resync that of the target was forgotten, so it has crashed
/// since, and a source that is promoted without the target begins another generation.
fn was_written_since(now: &Situation, correction: Option<Correction>) -> bool {
    match correction {
        Some(Correction::SelfMissedFinish) => now.peer_crashed,
        Some(Correction::PeerMissedFinish) => now.self_crashed,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the other node sees it.
    fn seen_by_peer(facts: &SplitBrain) -> SplitBrain {
        let swap = |[own, peer]: [bool; 2]| [peer, own];
        let [own, peer] = facts.changed;
        SplitBrain {
            was_primary: swap(facts.was_primary),
            changed: [peer, own],
            primary: swap(facts.primary),
            resolver: !facts.resolver,
        }
    }

    fn all_facts() -> impl Iterator<Item = SplitBrain> {
        (0..32_u32).flat_map(|bits| {
            let bit = move |at: u32| bits >> at & 1 != 0;
            [[0, 0], [0, 5], [5, 0], [5, 9], [9, 5], [5, 5]].map(move |changed| SplitBrain {
                was_primary: [bit(0), bit(1)],
                changed,
                primary: [bit(2), bit(3)],
                resolver: bit(4),
            })
        })
    }

    /// Otherwise both would become source, or both target.
    #[test]
    fn both_nodes_come_to_the_same_end_of_a_split_brain() {
        for facts in all_facts() {
            let peer = seen_by_peer(&facts);
            let agree =
                |own: i32, peers: i32| own == -peers || (own == UNDECIDED && peers == UNDECIDED);
            for &policy in AfterSbPolicy::ALL {
                let (own, other) = (
                    facts.without_primary(policy),
                    peer.without_primary(policy.mirrored()),
                );
                assert!(agree(own, other), "{policy:?} {facts:?}: {own} {other}");
                if !policy.fits(1) || facts.primary[0] == facts.primary[1] {
                    continue;
                }
                for &without in AfterSbPolicy::ALL {
                    let own = facts.with_primary(policy, without);
                    let other = peer.with_primary(policy, without.mirrored());
                    assert!(
                        agree(own, other),
                        "{policy:?} {without:?} {facts:?}: {own} {other}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_split_brain_policy_discards_what_its_name_says() {
        let facts = SplitBrain {
            was_primary: [false, true],
            changed: [5, 9],
            primary: [false, false],
            resolver: false,
        };
        let zero = SplitBrain {
            changed: [0, 9],
            ..facts
        };
        let without = |policy| facts.without_primary(policy);
        assert_eq!(without(AfterSbPolicy::DiscardYoungerPrimary), -1);
        assert_eq!(without(AfterSbPolicy::DiscardOlderPrimary), 1);
        assert_eq!(without(AfterSbPolicy::DiscardLeastChanges), -1);
        assert_eq!(without(AfterSbPolicy::DiscardZeroChanges), UNDECIDED);
        assert_eq!(zero.without_primary(AfterSbPolicy::DiscardZeroChanges), -1);
        assert_eq!(without(AfterSbPolicy::DiscardLocal), -1);
        assert_eq!(without(AfterSbPolicy::DiscardRemote), 1);
        assert_eq!(without(AfterSbPolicy::Disconnect), UNDECIDED);
        let least = AfterSbPolicy::DiscardLeastChanges;
        for own in [true, false] {
            let with = SplitBrain {
                primary: [own, !own],
                ..facts
            };
            let secondary = with.with_primary(AfterSbPolicy::DiscardSecondary, least);
            assert_eq!(secondary, if own { 1 } else { -1 });
            // The peer has more changes: only its being Primary agrees with that.
            let consensus = with.with_primary(AfterSbPolicy::Consensus, least);
            assert_eq!(consensus, if own { UNDECIDED } else { -1 });
            assert_eq!(with.with_primary(AfterSbPolicy::ViolentlyAs0p, least), -1);
            assert_eq!(
                with.with_primary(AfterSbPolicy::Disconnect, least),
                UNDECIDED
            );
        }
    }

    #[test]
    fn a_decision_leads_to_a_state_of_the_connection() {
        let sync = |source| Decision::Sync {
            source,
            full: false,
        };
        let conn = |decision| Control::decided_conn(decision);
        assert_eq!(conn(Decision::Connected), Some(ConnState::Connected));
        assert_eq!(conn(sync(true)), Some(ConnState::WfBitMapS));
        assert_eq!(conn(sync(false)), Some(ConnState::WfBitMapT));
        assert_eq!(conn(Decision::Refused), None);
    }
}
