//! What the control plane (`link.rs`, [`Facts`]) and users read of the data plane.

use super::{Counters, DataPlane};
use crate::link::{Facts, VolumeIndex};
use crate::memory::Memory;
use crate::request::{Answer, Barrier, Remote, Request};
use crate::resync::session::Job;

impl<M: Memory> DataPlane<M> {
    /// Returns the numbers that users see.
    pub fn counters(&self, volume: VolumeIndex) -> Counters {
        let Some(slot) = self.volumes.get(volume.slot()) else {
            return Counters::default();
        };
        let asked = slot
            .session
            .as_ref()
            .map_or(0, |session| session.outstanding);
        let disk = slot.disk.as_ref();
        Counters {
            sent_sectors: slot.totals.sent,
            received_sectors: slot.totals.received,
            written_sectors: slot.totals.written,
            read_sectors: slot.totals.read,
            al_writes: slot.totals.al_writes,
            bm_writes: slot.totals.bm_writes,
            local: slot.local_in_flight,
            pending: slot.peer_pending + asked,
            unacked: slot.unanswered,
            app: slot.app_in_flight,
            epochs: self.epochs.count(),
            in_flight_sectors: slot.in_flight_sectors,
            out_of_sync_bits: disk.map_or(0, |disk| disk.bitmap.weight()),
            al_used: disk.map_or(0, |disk| disk.al.used()),
            al_suspended: slot.al_suspended,
        }
    }

    /// Returns the numbers that the control plane reads.
    pub fn facts(&self, volume: VolumeIndex) -> Facts {
        let Some(slot) = self.volumes.get(volume.slot()) else {
            return Facts::default();
        };
        let (bits_set, bits_total) = match &slot.disk {
            Some(disk) => (disk.bitmap.weight(), disk.bitmap.bits()),
            None => (0, 0),
        };
        let verifies = slot
            .session
            .as_ref()
            .filter(|session| session.job == Job::Verify);
        let compares = slot.session.as_ref().filter(|session| session.checksums);
        Facts {
            bits_set,
            bits_total,
            app_in_flight: slot.app_in_flight,
            peer_pending: slot.peer_pending,
            local_in_flight: slot.local_in_flight,
            app_local: slot.local.len(),
            peer_writes: slot.peer_app_writes,
            verify_start: slot.verify_reached(),
            verified_bits: verifies.map_or(0, |session| {
                session.total.saturating_sub(session.verify_left)
            }),
            equal_bits: compares.map(|session| session.same_checksum),
            // A write of the target's applications has unmarked here what it had refused.
            refused_unmarked: slot
                .session
                .as_ref()
                .is_some_and(|run| run.refused_unmarked || run.failed > bits_set),
            ends_on_count: self.counts_from(volume).is_some()
                && slot.session.as_ref().is_some_and(|run| !run.peer_ended),
            ring_pending: self.ring_pending(volume),
            missed_writes: slot.missed_writes,
            lacks_ended: slot.lacks_ended,
            failed_writes: slot.failed_writes,
            refused_writes: slot.refused_writes,
            took_writes: slot.took_writes,
            peer_missed: slot.peer_missed,
            al_used: slot.diskless_writes != 0
                || slot.disk.as_ref().is_some_and(|disk| disk.al.used() != 0),
            unsettled: slot.in_flight_sectors != 0 || slot.peer_missed,
            ended_unsettled: slot.in_flight_sectors != 0 && self.has_ended_unsettled(volume),
            given_up: slot.view.state.suspended() && self.has_given_up(volume),
            keeps_ended: slot.view.state.suspended() && self.keeps_ended(volume),
        }
    }

    /// Loops over all requests: the peer has refused one, or was gone.
    fn has_given_up(&self, volume: VolumeIndex) -> bool {
        self.has_request(volume, |request| {
            let over = request.remote == Remote::Data && request.answer == Answer::Failed;
            over && !request.completed
        })
    }

    /// Loops over all requests.
    fn keeps_ended(&self, volume: VolumeIndex) -> bool {
        self.has_request(volume, |request| {
            request.completed && request.barrier == Barrier::Pending
        })
    }

    /// Tells whether the transfer log has such a request of a volume. Loops over all requests.
    pub(super) fn has_request(
        &self,
        volume: VolumeIndex,
        is_such: impl Fn(&Request) -> bool,
    ) -> bool {
        let mut at = self.log.head();
        while let Some(slot) = at {
            let request = &self.requests[slot];
            if request.volume == volume && is_such(request) {
                return true;
            }
            at = self.log.after(&self.requests, slot);
        }
        false
    }

    /// Loops over the writes without a barrier ack, if I/O is suspended.
    fn has_ended_unsettled(&self, volume: VolumeIndex) -> bool {
        if !self.volumes[volume.slot()].view.state.suspended() {
            return true;
        }
        let mut at = self.unacked.head();
        while let Some(slot) = at {
            let request = &self.requests[slot];
            if request.volume == volume && request.completed {
                return true;
            }
            at = self.unacked.after(&self.requests, slot);
        }
        false
    }
}
