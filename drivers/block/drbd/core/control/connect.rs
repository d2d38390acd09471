//! Life cycle of the connection (`reference/states.md` 3.11): attempts, loss, clean-up, retry.

use drbd_format::types::{ConnState, DiskState, Role};

use super::engine::{Flags, Work};
use super::jobs::{Then, VolumeJob};
use super::Control;
use crate::action::Action;
use crate::handshake::{Link, Stage};
use crate::link::{LinkError, Order};
use crate::log::Level;
use crate::state::{Change, VolumeState};
use crate::time::Duration;

/// Pause before the next attempt after a failed one.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl Control<'_> {
    /// The connection can not go on.
    pub(crate) fn link_failed(&mut self, error: LinkError) {
        let conn = match error {
            LinkError::Timeout => ConnState::Timeout,
            LinkError::BrokenPipe => ConnState::BrokenPipe,
            LinkError::NetworkFailure => ConnState::NetworkFailure,
            LinkError::ProtocolError => ConnState::ProtocolError,
            LinkError::StandAlone => ConnState::Disconnecting,
        };
        if self.s.conn < ConnState::WfConnection && error != LinkError::StandAlone {
            return;
        }
        if matches!(
            self.s.conn,
            ConnState::StandAlone | ConnState::Disconnecting
        ) {
            return;
        }
        let established = self.s.link.stage == Stage::Up;
        if error == LinkError::StandAlone && !established {
            self.text_resource(Level::Warning, "Discarding network configuration.");
        }
        self.set_conn_state(Change::conn(conn), Flags::HARD);
    }

    /// The shell has lost a socket.
    pub(crate) fn link_lost(&mut self, error: LinkError) {
        let leaving = self
            .s
            .two_phase
            .is_some_and(|asked| asked.volume.is_none() && asked.reply.is_none());
        if leaving && self.s.link.lost_while_leaving.is_none() {
            // The peer closes as soon as it has agreed; its answer may still be under way.
            let tenths = self.s.net.map_or(5, |net| net.ping_timeout_tenths);
            self.s.link.lost_while_leaving = Some(error);
            self.s.link.deadline = Some(self.now.after(Duration::from_tenths(tenths)));
            return;
        }
        self.link_failed(error);
    }

    /// A stage of the handshake, or the peer's leave-taking, has taken too long.
    pub(crate) fn deadline_passed(&mut self) {
        if let Some(error) = self.s.link.lost_while_leaving.take() {
            self.link_failed(error);
            return;
        }
        if self.s.link.close_after_reply {
            self.s.link.close_after_reply = false;
            self.close_sockets();
            return;
        }
        self.link_failed(LinkError::NetworkFailure);
    }

    /// At once when the connection changes its state.
    pub(crate) fn conn_changed(&mut self, old: ConnState, new: ConnState) {
        // CAST: Connection states are below 32.
        let number = |conn: ConnState| conn.to_wire() as u8;
        self.act(Action::NotifyConnection {
            old: number(old),
            new: number(new),
        });
        let leaving = matches!(
            new,
            ConnState::Disconnecting
                | ConnState::Timeout
                | ConnState::BrokenPipe
                | ConnState::NetworkFailure
                | ConnState::ProtocolError
                | ConnState::TearDown
        );
        if leaving {
            self.begin_cleanup();
        }
        self.order(Order::Link);
        let base = VolumeState::INITIAL;
        self.queue_work(Work {
            volume: None,
            old: VolumeState { conn: old, ..base },
            new: VolumeState { conn: new, ..base },
        });
    }

    /// The connection is lost or given up: nothing more goes over it.
    fn begin_cleanup(&mut self) {
        let link = &mut self.s.link;
        if link.stage == Stage::Closing {
            return;
        }
        let had_sockets = link.stage != Stage::Down;
        link.pause = link.stage != Stage::Up;
        link.stage = Stage::Closing;
        link.pending = None;
        link.lost_while_leaving = None;
        link.state_sent = false;
        link.all_told_at = None;
        link.retry_at = None;
        link.drained = !had_sockets;
        self.outbox.clear();
        for v in self.indices() {
            let volume = self.vol_mut(v);
            match volume.job {
                VolumeJob::StartSync(..) | VolumeJob::Finish { .. } => {
                    volume.job = VolumeJob::None;
                }
                // The next connection finds all bits set, and the flag for that not on disk.
                VolumeJob::SetAll(step, Then::Handshake | Then::StartSync(_)) => {
                    volume.job = VolumeJob::SetAll(step, Then::Nobody);
                }
                VolumeJob::None
                | VolumeJob::SetAll(_, Then::Attach | Then::Command | Then::Nobody)
                | VolumeJob::Detach(_)
                | VolumeJob::Relayout(_) => {}
            }
        }
        if had_sockets {
            let (keep, keep_ended) = (self.suspended(), self.s.susp_fen);
            self.s.resend_due = keep;
            self.order(Order::LinkLost { keep, keep_ended });
        }
        if self.s.link.close_after_reply {
            let tenths = self.s.net.map_or(5, |net| net.ping_timeout_tenths);
            self.s.link.deadline = Some(self.now.after(Duration::from_tenths(tenths)));
        } else {
            self.s.link.deadline = None;
            self.close_sockets();
        }
    }

    /// Tells the shell to close the sockets, once.
    pub(crate) fn close_sockets(&mut self) {
        self.s.link.deadline = None;
        if self.s.link.shell_active && !self.s.link.closing {
            self.s.link.closing = true;
            self.act(Action::CloseSockets);
        }
    }

    /// The shell has closed the sockets.
    pub(crate) fn receiver_gone(&mut self) {
        self.s.link.shell_active = false;
        self.s.link.closing = false;
        if self.s.link.stage != Stage::Closing {
            self.link_failed(LinkError::NetworkFailure);
        }
    }

    /// The data plane has nothing on behalf of the peer in flight any more.
    pub(crate) fn peer_io_drained(&mut self) {
        self.s.link.drained = true;
    }

    /// When all is cleaned up the connection can begin anew, or rest.
    pub(crate) fn step_cleanup(&mut self) -> bool {
        let link = &self.s.link;
        if link.stage != Stage::Closing
            || link.shell_active
            || !link.drained
            || link.close_after_reply
        {
            return false;
        }
        let (generation, pause) = (link.generation, link.pause);
        let fence = link.fence;
        self.s.link = Link::NONE;
        self.s.link.generation = generation;
        self.s.link.fence = fence;
        self.order(Order::Link);
        self.text_resource(Level::Info, "Connection closed");
        for v in self.indices() {
            self.vol_mut(v).peer.uuids = None;
            self.write_bitmap_soon(v);
        }
        self.s.two_phase = None;
        if self.s.conn == ConnState::Disconnecting {
            self.set_conn_state(Change::conn(ConnState::StandAlone), Flags::HARD);
        } else {
            self.s.link.retry_at = pause.then(|| self.now.after(RETRY_PAUSE));
            self.set_conn_state(Change::conn(ConnState::Unconnected), Flags::HARD);
        }
        self.fence_lost_peer();
        true
    }

    /// Fences the peer if this node is Primary and the peer may still have good data.
    fn fence_lost_peer(&mut self) {
        let primary = self
            .indices()
            .any(|v| self.vol(v).state.role == Role::Primary);
        let unknown = self
            .indices()
            .any(|v| self.vol(v).state.pdsk >= DiskState::DUnknown);
        if primary && unknown {
            self.begin_fencing();
        }
    }

    /// After-work of a change of the connection.
    pub(crate) fn conn_entered(&mut self, conn: ConnState) {
        match conn {
            ConnState::Unconnected if self.s.link.retry_at.is_none() => self.try_connect(),
            ConnState::StandAlone => {
                self.s.net = None;
                self.s.digests = Default::default();
                self.s.link.retry_at = None;
                self.order(Order::Link);
            }
            _ => {}
        }
    }

    /// Begins to connect, if that is what the state says.
    pub(crate) fn try_connect(&mut self) {
        if self.s.conn != ConnState::Unconnected || self.s.link.stage != Stage::Down {
            return;
        }
        let change = Change::conn(ConnState::WfConnection);
        if self.set_conn_state(change, Flags::VERBOSE) == super::engine::SUCCESS {
            self.s.link.shell_active = true;
            self.act(Action::StartConnect);
        }
    }

    /// The shell can not connect at all.
    pub(crate) fn connect_failed(&mut self) {
        self.s.link.shell_active = false;
        self.link_failed(LinkError::StandAlone);
    }
}
