//! P_STATE: what the peer says about itself (`reference/states.md` 3.11, P1 to P11).

use drbd_format::types::{ConnState, DiskState, Role};

use super::decide::Decision;
use super::engine::{Flags, SUCCESS};
use super::jobs::{Then, VolumeJob};
use super::packets::{Handled, Pending};
use super::Control;
use crate::generation::FLAG_INCONSISTENT;
use crate::link::{LinkError, VolumeIndex};
use crate::log::{Level, Line};
use crate::put_back::{put_back, Bug};
use crate::quirk::{quirk, Quirk};
use crate::state::{mask, Change, VolumeState};

/// What the first rules make of the peer's disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PeerDisk {
    /// Go on with this state.
    Is(DiskState),
    /// The packet only ends a resync or verify.
    EndsRun,
}

impl PeerDisk {
    /// Rules P3 to P6. `disk` is the peer's disk by rule P2.
    fn told(os: &VolumeState, ps: &VolumeState, disk: DiskState) -> Self {
        use DiskState::{Consistent, Inconsistent, UpToDate};
        let ended = ps.conn == ConnState::Connected;
        let half_synced = matches!(os.pdsk, Inconsistent | Consistent)
            && os.conn > ConnState::Connected
            && os.disk == UpToDate;
        if half_synced && disk == UpToDate {
            if ps.conn > ConnState::Connected && ps.conn < ConnState::SyncSource {
                return Self::Is(Inconsistent);
            }
            if os.conn >= ConnState::SyncSource && ended {
                return Self::EndsRun;
            }
        }
        // A target that could not write everything ends its resync Inconsistent
        // (`reference/wire.md` A.7).
        if half_synced
            && os.is_sync_source()
            && ended
            && disk == Inconsistent
            && !quirk(Quirk::FailedResyncStays)
        {
            return Self::EndsRun;
        }
        if os.conn == ConnState::VerifyT && os.disk == UpToDate && ended && disk == UpToDate {
            return Self::EndsRun;
        }
        if os.pdsk == UpToDate
            && disk == Inconsistent
            && os.conn == ConnState::Connected
            && ps.conn > ConnState::SyncSource
        {
            return Self::Is(UpToDate);
        }
        // Sent before the peer knew that it may let its disk go. It comes back only through a
        // comparison, as when we attach ours and it has answered.
        let compared = os.disk == DiskState::Negotiating && ps.conn > ConnState::Connected;
        if os.pdsk == DiskState::Failed
            && !compared
            && os.conn == ConnState::Connected
            && matches!(
                disk,
                Inconsistent | DiskState::Outdated | Consistent | UpToDate
            )
            && ps.disk == disk
        {
            return Self::Is(DiskState::Failed);
        }
        Self::Is(disk)
    }
}

impl Control<'_> {
    /// The peer's state has arrived, or is looked at again after waiting with what was `decided`.
    pub(crate) fn receive_state(
        &mut self,
        v: VolumeIndex,
        word: u32,
        decided: Option<(ConnState, Option<bool>)>,
    ) -> Handled {
        let ignored = mask::SUSP | mask::SUSP_NOD | mask::SUSP_FEN;
        let Some(ps) = VolumeState::from_word(word & !ignored & 0x007f_ffff) else {
            return Handled::Fail(LinkError::ProtocolError);
        };
        let os = self.state(v);
        if os.conn <= ConnState::TearDown {
            return Handled::Fail(LinkError::NetworkFailure);
        }
        if let Some((conn, result)) = decided {
            return match result {
                None => Handled::Wait,
                Some(true) => self.adopt_peer_state(v, &ps, ps.disk, conn),
                Some(false) => self.refuse_peer(v, &ps, self.peer_disk_of(v, &ps)),
            };
        }
        if self.is_relaid(v) && self.needs_decision(v, &os, &ps) {
            return self.put_off_state(v, word);
        }
        let disk = match self.interpret_peer_disk(v, &os, &ps) {
            PeerDisk::Is(disk) => disk,
            PeerDisk::EndsRun if put_back(Bug::EndOfResyncMissed) => return Handled::Done,
            PeerDisk::EndsRun => {
                // The peer may have stepped back since the end, or its resyncs pause now, or go on.
                let paused = ps.aftr_isp || ps.user_isp;
                let change = Change::peer(ps.role).and(Change::flag(mask::PEER_ISP, paused));
                self.set_state(v, change, Flags::HARD);
                self.target_ended(v, ps.disk);
                return Handled::Done;
            }
        };
        let conn = conn_beside(&os, &ps, disk);
        let waits = ps.disk == DiskState::Negotiating && os.disk != DiskState::Negotiating;
        if os.conn == ConnState::Connected && waits {
            // A new generation that waits for the end of a suspension: the disk lacks what was
            // under way, and is compared with ours now. (Ours, if it waits as well, has been told.)
            self.begin_due_generation(v);
        }
        if self.keeps_refused_disk(v, &os, &ps) {
            return Handled::Fail(LinkError::StandAlone);
        }
        self.note_its_opinion(v, &os, &ps);
        if !self.needs_decision(v, &os, &ps) {
            return self.adopt_peer_state(v, &ps, disk, conn);
        }
        match self.decide(v, &ps, disk) {
            Decision::Refused => self.refuse_peer(v, &ps, disk),
            Decision::Anew => Handled::Fail(LinkError::ProtocolError),
            Decision::Sync { source, full: true } => {
                let conn = if source {
                    ConnState::WfBitMapS
                } else {
                    ConnState::WfBitMapT
                };
                let pending = Pending::State {
                    volume: v,
                    word,
                    decided: Some((conn, None)),
                };
                self.s.link.pending = Some(pending);
                self.begin_job(v, VolumeJob::set_all(Then::Handshake));
                Handled::Wait
            }
            decision => match Self::decided_conn(decision) {
                Some(conn) => {
                    let equal = conn == ConnState::Connected && os.conn == conn;
                    if equal && os.disk == DiskState::Outdated {
                        self.set_state(v, Change::disk(DiskState::UpToDate), Flags::HARD);
                    }
                    self.adopt_peer_state(v, &ps, disk, conn)
                }
                None => self.refuse_peer(v, &ps, disk),
            },
        }
    }

    /// The peer is told of the size that is being written before the bitmaps are exchanged, which
    /// have to be of the same size.
    fn put_off_state(&mut self, volume: VolumeIndex, word: u32) -> Handled {
        self.s.link.pending = Some(Pending::State {
            volume,
            word,
            decided: None,
        });
        Handled::Wait
    }

    /// All bits are set for the full sync that the handshake decided on.
    pub(crate) fn handshake_bits_set(&mut self, v: VolumeIndex, ok: bool) {
        if let Some(Pending::State {
            volume, decided, ..
        }) = self.s.link.pending.as_mut()
        {
            if *volume == v {
                *decided = decided.map(|(conn, _)| (conn, Some(ok)));
            }
        }
    }

    /// The peer has taken the disk that we refused: what we had said before both disks were
    /// attached at once was an answer to it.
    fn keeps_refused_disk(&mut self, v: VolumeIndex, os: &VolumeState, ps: &VolumeState) -> bool {
        let volume = self.vol_mut(v);
        volume.peer_refused &= ps.disk >= DiskState::Negotiating;
        volume.peer_refused
            && os.disk >= DiskState::Inconsistent
            && ps.disk >= DiskState::Inconsistent
            && !quirk(Quirk::DiskNotCompared)
    }

    /// What the peer thinks of our disk. A Primary without a disk has compared our UUID with the
    /// one it has shown, before it takes our data; then they are good, also if the disk was
    /// Outdated.
    fn note_its_opinion(&mut self, v: VolumeIndex, os: &VolumeState, ps: &VolumeState) {
        self.vol_mut(v).taken = ps.conn >= ConnState::Connected && ps.pdsk == DiskState::UpToDate;
        let outdated = os.conn == ConnState::Connected && os.disk == DiskState::Outdated;
        if outdated && self.serves(v, ps) {
            self.set_state(v, Change::disk(DiskState::UpToDate), Flags::HARD);
        }
        self.begin_generation_if_taken(v);
        let heard = ps.pdsk < DiskState::Inconsistent || ps.disk >= DiskState::Inconsistent;
        self.vol_mut(v).lacks_writes &= !heard;
    }

    /// A Primary without a disk takes our data.
    fn serves(&self, v: VolumeIndex, ps: &VolumeState) -> bool {
        self.vol(v).taken && ps.role == Role::Primary && ps.disk < DiskState::Negotiating
    }

    /// Rule P2.
    fn peer_disk_of(&self, v: VolumeIndex, ps: &VolumeState) -> DiskState {
        match ps.disk {
            DiskState::Negotiating if self.vol(v).peer.flags & FLAG_INCONSISTENT != 0 => {
                DiskState::Inconsistent
            }
            DiskState::Negotiating => DiskState::Consistent,
            disk => disk,
        }
    }

    /// Rules P2 to P6.
    fn interpret_peer_disk(
        &mut self,
        v: VolumeIndex,
        os: &VolumeState,
        ps: &VolumeState,
    ) -> PeerDisk {
        let disk = self.peer_disk_of(v, ps);
        if ps.disk == DiskState::Negotiating {
            self.log(v, Line::RealPeerDisk(disk));
        }
        match PeerDisk::told(os, ps, disk) {
            // It comes before the answer to our size, and the run is that of the new space.
            PeerDisk::EndsRun if os.is_sync_source() && self.vol(v).resize_asked => {
                PeerDisk::Is(os.pdsk)
            }
            told => told,
        }
    }

    /// Rule P8.
    fn needs_decision(&self, v: VolumeIndex, os: &VolumeState, ps: &VolumeState) -> bool {
        let volume = self.vol(v);
        if volume.peer.uuids.is_none()
            || volume.disk.is_none()
            || ps.disk < DiskState::Negotiating
            || os.disk < DiskState::Negotiating
        {
            return false;
        }
        let connected = os.conn == ConnState::Connected;
        let negotiating = os.disk == DiskState::Negotiating || ps.disk == DiskState::Negotiating;
        os.conn < ConnState::Connected
            || (connected && negotiating)
            || (connected && volume.consider_resync)
            || (connected && ps.conn >= ConnState::StartingSyncS && ps.conn <= ConnState::WfBitMapT)
    }

    /// Rule P9.
    fn refuse_peer(&mut self, v: VolumeIndex, ps: &VolumeState, disk: DiskState) -> Handled {
        if self.vol(v).state.disk == DiskState::Negotiating {
            let change = Change::disk(DiskState::Failed);
            self.set_state(v, change, Flags::HARD);
            return self.adopt_peer_state(v, ps, disk, ConnState::Connected);
        }
        if ps.disk == DiskState::Negotiating {
            self.text(
                v,
                Level::Error,
                "Disk attach process on the peer node was aborted.",
            );
            self.vol_mut(v).peer_refused = true;
            // The peer waits for an opinion: with ours it comes to the same end.
            self.send_uuids_and_state(v);
            return self.adopt_peer_state(v, ps, DiskState::Diskless, ConnState::Connected);
        }
        if self.s.link.dry_run && self.s.link.peer_dry_run {
            let own = self.s.net.is_some_and(|net| net.tentative);
            if !own {
                return Handled::Fail(LinkError::ProtocolError);
            }
        }
        Handled::Fail(LinkError::StandAlone)
    }

    /// What the peer's disk is worth, of which it may not have told the UUIDs.
    fn told_disk(&self, v: VolumeIndex, ps: &VolumeState, disk: DiskState) -> DiskState {
        let untold = self.vol(v).peer.uuids.is_none();
        let os = self.state(v);
        // Without a disk here there is nothing to compare.
        let uncompared = os.conn < ConnState::Connected && os.disk >= DiskState::Negotiating;
        match disk {
            // It was gone before it could tell them.
            _ if ps.disk == DiskState::Negotiating && untold => DiskState::Diskless,
            _ if uncompared && ps.disk > DiskState::Negotiating && untold => DiskState::Failed,
            DiskState::Negotiating => self.peer_disk_of(v, ps),
            disk => disk,
        }
    }

    /// Rules P10 and P11.
    fn adopt_peer_state(
        &mut self,
        v: VolumeIndex,
        ps: &VolumeState,
        disk: DiskState,
        conn: ConnState,
    ) -> Handled {
        let os = self.state(v);
        let told = ps.disk != DiskState::Negotiating && disk >= DiskState::Inconsistent;
        if told && self.comes_uncompared(v, &os) {
            let text = "The peer's disk has not been compared with ours; connecting anew.";
            self.text(v, Level::Warning, text);
            return Handled::Fail(LinkError::ProtocolError);
        }
        let disk = self.told_disk(v, ps, disk);
        self.vol_mut(v).consider_resync = false;
        // Our disk was lost behind the comparison, of which the peer need not know.
        let becomes_good = os.pdsk < DiskState::UpToDate && disk == DiskState::UpToDate;
        if becomes_good && self.must_refuse_data(v) && !quirk(Quirk::AbortedCountsAsGood) {
            return self.refuse_data(v);
        }
        if self.lacks_lost_writes(v, ps) && !quirk(Quirk::DiskNotCompared) {
            self.vol_mut(v).lacks_writes = true;
        }
        let paused = ps.aftr_isp || ps.user_isp;
        let mut change = Change::conn(conn)
            .and(Change::peer(ps.role))
            .and(Change::pdsk(disk))
            .and(Change::flag(mask::PEER_ISP, paused));
        // A peer with a disk sends its UUIDs, and then its state once more: until then it is not
        // known what our disk is worth.
        let compared = ps.disk < DiskState::Negotiating || self.vol(v).peer.uuids.is_some();
        if os.disk == DiskState::Negotiating
            && matches!(conn, ConnState::Connected | ConnState::WfBitMapS)
            && (compared || quirk(Quirk::DiskNotCompared))
        {
            let old = self.vol(v).lacks_writes || self.is_left_with_old_data(v, ps);
            if old && !quirk(Quirk::DiskNotCompared) {
                change = change.and(Change::disk(DiskState::Failed));
            } else if let Some((saved, _)) = self.vol(v).saved {
                let good = saved == DiskState::Outdated && self.serves(v, ps);
                change = change.and(Change::disk(if good { DiskState::UpToDate } else { saved }));
            }
        }
        let established = os.conn < ConnState::Connected && conn >= ConnState::Connected;
        if established
            && disk == DiskState::Consistent
            && self.suspended()
            && self.vol(v).new_uuid_due
        {
            return self.can_not_thaw(v);
        }
        let flags = if established {
            Flags::VERBOSE
        } else {
            Flags::HARD
        };
        if self.set_state(v, change, flags) < SUCCESS {
            return Handled::Fail(LinkError::StandAlone);
        }
        if ps.conn == ConnState::Ahead {
            // The peer has begun a resync and pulled ahead of it before it could begin here.
            self.forget_consent(v);
        }
        let undecided = ps.conn <= ConnState::Connected && ps.disk != DiskState::Negotiating;
        if os.conn > ConnState::WfReportParams && conn > ConnState::Connected && undecided {
            self.send_uuids_and_state(v);
        }
        let handshake = self
            .indices()
            .any(|i| self.vol(i).state.conn == ConnState::WfReportParams);
        if let Some(net) = self.s.net.as_mut().filter(|_| !handshake) {
            // Every volume has made use of it.
            net.discard_my_data = false;
        }
        Handled::Done
    }

    /// The peer's disk is there from now on, beside ours, and its UUIDs are not known. The volume
    /// was made while connected: its handshake found no disk here, and ours was attached before the
    /// answer.
    fn comes_uncompared(&self, v: VolumeIndex, os: &VolumeState) -> bool {
        let comes = os.conn < ConnState::Connected || os.pdsk < DiskState::Inconsistent;
        comes && os.disk >= DiskState::Negotiating && self.vol(v).peer.uuids.is_none()
    }

    /// The peer, whose disk has failed or left, has shown newer data to our applications than what
    /// is on the disk that we are attaching.
    fn is_left_with_old_data(&self, v: VolumeIndex, ps: &VolumeState) -> bool {
        let volume = self.vol(v);
        let current = volume.disk.map(|disk| disk.uuids.current);
        ps.disk < DiskState::Negotiating
            && volume.state.role == Role::Primary
            && current.is_some_and(|current| !self.is_exposed(v, current))
    }

    /// The peer's disk goes before it could be compared with ours, and writes have been refused
    /// here that it may have. The peer need not have heard yet that our disk was away.
    fn lacks_lost_writes(&self, v: VolumeIndex, ps: &VolumeState) -> bool {
        let volume = self.vol(v);
        let goes = volume.state.pdsk >= DiskState::Inconsistent && ps.disk < DiskState::Negotiating;
        let knows = ps.pdsk < DiskState::Inconsistent && volume.disk.is_none();
        goes && !knows && volume.facts.refused_writes
    }

    /// Rule P11: the peer has been restarted; what was frozen can not be sent again.
    fn can_not_thaw(&mut self, v: VolumeIndex) -> Handled {
        let text = "Aborting Connect, can not thaw IO with an only Consistent peer";
        self.text(v, Level::Error, text);
        for v in self.indices() {
            self.leave_due_generation(v);
        }
        self.end_frozen();
        let frozen = mask::SUSP | mask::SUSP_NOD | mask::SUSP_FEN;
        self.set_conn_state(
            Change::conn(ConnState::ProtocolError).and(Change::flag(frozen, false)),
            Flags::HARD,
        );
        Handled::Fail(LinkError::ProtocolError)
    }
}

/// Rule P7: the state of the connection that goes with that of the peer, whose disk is `disk`.
fn conn_beside(os: &VolumeState, ps: &VolumeState, disk: DiskState) -> ConnState {
    match os.conn {
        // Without a disk, or with one that waits for a comparison, it is about the one before: the
        // peer has still to hear that that is gone.
        _ if ps.conn == ConnState::Ahead && os.disk > DiskState::Negotiating => ConnState::Behind,
        ConnState::WfReportParams => ConnState::Connected,
        // Its disk has failed and stays, and a verify would have it that it is good.
        ConnState::VerifyS | ConnState::VerifyT
            if ps.conn == ConnState::Connected && disk == DiskState::Inconsistent =>
        {
            ConnState::Connected
        }
        conn => conn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;
    use ConnState::{Connected, SyncSource, VerifyT};
    use DiskState::{Consistent, Failed, Inconsistent, Negotiating, Outdated, UpToDate};

    /// Rules P3 to P6 of `reference/states.md` 3.10 and what stands beside them, with the states
    /// by name.
    fn by_name(os: &VolumeState, ps: &VolumeState, disk: DiskState) -> PeerDisk {
        let place = |conn: ConnState| ConnState::ALL.iter().position(|&other| other == conn);
        let behind_connected = place(os.conn) > place(Connected);
        let half = [Inconsistent, Consistent].contains(&os.pdsk) && os.disk == UpToDate;
        let before_sync = place(ps.conn) > place(Connected) && place(ps.conn) < place(SyncSource);
        let source = [SyncSource, ConnState::PausedSyncS].contains(&os.conn);
        let runs = place(os.conn) >= place(SyncSource);
        let idle = ps.conn == Connected;
        let alive = [Inconsistent, Outdated, Consistent, UpToDate];
        match (os.pdsk, disk) {
            (_, UpToDate) if half && behind_connected && before_sync => PeerDisk::Is(Inconsistent),
            (_, UpToDate) if half && runs && idle => PeerDisk::EndsRun,
            (_, Inconsistent) if half && source && idle => PeerDisk::EndsRun,
            (_, UpToDate) if os.conn == VerifyT && os.disk == UpToDate && idle => PeerDisk::EndsRun,
            (UpToDate, Inconsistent)
                if os.conn == Connected && place(ps.conn) > place(SyncSource) =>
            {
                PeerDisk::Is(UpToDate)
            }
            (Failed, _) if os.disk == Negotiating && place(ps.conn) > place(Connected) => {
                PeerDisk::Is(disk)
            }
            (Failed, disk) if os.conn == Connected && alive.contains(&disk) && ps.disk == disk => {
                PeerDisk::Is(Failed)
            }
            (_, disk) => PeerDisk::Is(disk),
        }
    }

    #[test]
    fn the_peers_disk_is_what_the_rules_say_in_every_state() {
        let states: Vec<VolumeState> = ConnState::ALL
            .iter()
            .flat_map(|&conn| {
                DiskState::ALL.iter().map(move |&disk| VolumeState {
                    conn,
                    disk,
                    ..VolumeState::INITIAL
                })
            })
            .collect();
        for own in &states {
            for &pdsk in DiskState::ALL {
                let os = VolumeState { pdsk, ..*own };
                for ps in &states {
                    let disks = match ps.disk {
                        Negotiating => [Inconsistent, Consistent],
                        disk => [disk; 2],
                    };
                    for disk in disks {
                        let told = PeerDisk::told(&os, ps, disk);
                        assert_eq!(told, by_name(&os, ps, disk), "{os} {ps}");
                    }
                }
            }
        }
    }
}
