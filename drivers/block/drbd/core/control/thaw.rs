//! What is frozen goes on (`reference/states.md` 3.9, A5 to A7).

use drbd_format::types::{ConnState, DiskState, Role};

use super::engine::Flags;
use super::Control;
use crate::link::{Order, VolumeIndex};
use crate::state::{mask, Change};

impl Control<'_> {
    /// Lets I/O go on if what it waited for has come. Returns whether anything was done.
    ///
    /// To be called when all else is done: the peer has to be told of everything before, as it
    /// refuses a write to a disk that waits for our state.
    pub(super) fn thaw(&mut self) -> bool {
        if !self.s.resend_due && !self.s.susp_nod && !self.s.susp_fen {
            return false;
        }
        if self.s.conn < ConnState::WfReportParams {
            let good = self.s.susp_nod && self.own_disks_are_good();
            if good {
                self.thaw_alone();
            }
            return good;
        }
        if !self.outbox.is_empty() {
            return false;
        }
        if self.peer_is_back() {
            return self.thaw_connected();
        }
        // Nobody waits for a volume that the peer does not have. The generation that another one
        // is due may begin or not when it has met the peer.
        let due = |v: VolumeIndex| self.vol(v).new_uuid_due && !self.is_not_there(v);
        let kept = self.s.resend_due || self.indices().any(due);
        let local = !kept && self.s.susp_nod && self.own_disks_are_good();
        if local {
            self.order(Order::RestartFrozen);
            self.begin_due_generations();
            self.clear_suspension(mask::SUSP_NOD);
        }
        local
    }

    /// The handshake with the peer is over, and no own disk waits to be compared.
    fn peer_is_back(&self) -> bool {
        let compared = |disk| !matches!(disk, DiskState::Attaching | DiskState::Negotiating);
        self.indices()
            .all(|v| self.is_back_or_idle(v) && compared(self.vol(v).state.disk))
    }

    /// A volume that has something to wait for is in its handshake.
    pub(crate) fn is_meeting_peer(&self) -> bool {
        self.s.link.state_sent && !self.indices().all(|v| self.is_back_or_idle(v))
    }

    /// What was kept for the peer is about to be sent again.
    pub(crate) fn resends_kept(&self) -> bool {
        self.s.resend_due && self.s.conn >= ConnState::WfReportParams && self.peer_is_back()
    }

    /// The volume is connected, or has nothing that waits for that, or the peer does not have it.
    fn is_back_or_idle(&self, v: VolumeIndex) -> bool {
        let volume = self.vol(v);
        let facts = &volume.facts;
        let frozen = facts.app_in_flight != 0 || facts.unsettled || facts.keeps_ended;
        let idle = volume.state.role == Role::Secondary && !volume.new_uuid_due && !frozen;
        let conn = volume.state.conn;
        conn >= ConnState::Connected
            || (conn == ConnState::WfReportParams && idle)
            || self.is_not_there(v)
    }

    /// A6: the own disks are good again. What was kept for a peer that is not there need not wait
    /// for it, unless I/O is suspended for another reason as well.
    fn thaw_alone(&mut self) {
        self.order(Order::RestartFrozen);
        if !self.s.susp && !self.s.susp_fen {
            self.begin_due_generations();
            self.give_up_kept();
        }
        self.clear_suspension(mask::SUSP_NOD);
    }

    /// A5 and A7: the peer is here. I/O that was suspended for lack of data goes on when there are
    /// some, be it that the peer has attached a disk, and with it what was kept. (The reference
    /// goes on with the connection, data or not, and then only.)
    fn thaw_connected(&mut self) -> bool {
        let fenced = self.s.susp_fen;
        if self.s.susp_nod && !self.indices().all(|v| self.has_data(v)) {
            if fenced {
                self.clear_suspension(mask::SUSP_FEN);
            }
            return fenced;
        }
        if self.s.susp_nod && self.own_disks_are_good() {
            self.order(Order::RestartFrozen);
        }
        self.resend_kept();
        self.clear_suspension(mask::SUSP_NOD | mask::SUSP_FEN);
        true
    }

    /// The peer is back and gets everything that was kept for it: no new generation is needed. If
    /// it comes without its disk, or without the volume, the writes are given up, and the one that
    /// is due begins.
    fn resend_kept(&mut self) {
        for v in self.indices() {
            let not_there = self.is_not_there(v);
            if self.vol(v).state.pdsk <= DiskState::Failed || not_there {
                self.begin_due_generation(v);
            }
            if self.s.resend_due && not_there {
                self.give_up_frozen(v);
            }
            self.vol_mut(v).new_uuid_due = false;
        }
        if core::mem::take(&mut self.s.resend_due) {
            self.order(Order::ResendFrozen);
        }
    }

    /// What was kept for the peer is not sent again.
    pub(crate) fn give_up_kept(&mut self) {
        self.s.resend_due = false;
        self.order(Order::EndFrozen);
    }

    fn clear_suspension(&mut self, flags: u32) {
        if let Some(v) = self.indices().next() {
            self.set_state(v, Change::flag(flags, false), Flags::HARD);
        }
        // Whatever the rules make of it: nobody is to come here for that once more.
        self.s.susp_nod &= flags & mask::SUSP_NOD == 0;
        self.s.susp_fen &= flags & mask::SUSP_FEN == 0;
    }

    fn own_disks_are_good(&self) -> bool {
        self.indices()
            .all(|v| self.vol(v).state.disk == DiskState::UpToDate)
    }

    /// Nobody uses the volume here, or there is a good disk.
    fn has_data(&self, v: VolumeIndex) -> bool {
        let state = &self.vol(v).state;
        let good = |disk| disk == DiskState::UpToDate;
        state.role != Role::Primary || good(state.disk) || good(state.pdsk)
    }
}
