//! disconnect (`reference/netlink.md` 2.10).

use drbd_format::types::{ConnState, DiskState};

use super::{code, Step};
use crate::control::engine::{Answer, Flags, NOTHING_TO_DO, SUCCESS};
use crate::control::Control;
use crate::handshake::Fence;
use crate::put_back::{put_back, Bug};
use crate::state::transition::StateError;
use crate::state::Change;

/// Steps of a disconnect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LeaveStep {
    ask: Ask,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ask {
    Plain,
    PlainVerbose,
    OutdatePeer,
    OutdateSelf,
    Hard,
    /// The peer is about to leave as well: its own question is under way.
    PeerAsks,
    /// Its question may have been answered: it has heard the answer when it answers this ping.
    PeerHears(u32),
    WaitGone,
}

impl LeaveStep {
    /// The first step.
    pub const fn begin(force: bool) -> Self {
        Self {
            ask: if force { Ask::Hard } else { Ask::Plain },
        }
    }
}

impl Control<'_> {
    /// Takes a disconnect one step further.
    pub(crate) fn step_leave(&mut self, step: LeaveStep) -> Step<LeaveStep> {
        let plain = Change::conn(ConnState::Disconnecting);
        let next = |ask| Step::Next(LeaveStep { ask });
        let fencing = matches!(self.s.link.fence, Fence::Running { .. });
        if fencing && put_back(Bug::DisconnectWaitsForFencing) {
            return Step::Wait;
        }
        let (change, flags) = match step.ask {
            Ask::WaitGone if self.s.conn == ConnState::StandAlone => {
                return Step::Done(code::NO_ERROR);
            }
            Ask::WaitGone => return Step::Wait,
            Ask::PeerAsks
                if self.s.conn == ConnState::WfReportParams && !self.s.link.peer_asked =>
            {
                return Step::Wait;
            }
            Ask::PeerHears(ping)
                if self.s.conn == ConnState::WfReportParams && !self.s.liveness.answered(ping) =>
            {
                return Step::Wait;
            }
            Ask::PeerAsks | Ask::PeerHears(_) => return next(Ask::Plain),
            Ask::Plain => (plain, Flags::QUIET),
            Ask::PlainVerbose => (plain, Flags::VERBOSE),
            Ask::OutdatePeer => (plain.and(Change::pdsk(DiskState::Outdated)), Flags::QUIET),
            Ask::OutdateSelf => (plain.and(Change::disk(DiskState::Outdated)), Flags::QUIET),
            Ask::Hard => (plain, Flags::HARD),
        };
        let code = match self.request_conn(change, flags) {
            Answer::Pending => return Step::Wait,
            Answer::Ready(code) => code,
        };
        if code >= SUCCESS || code == NOTHING_TO_DO {
            return next(Ask::WaitGone);
        }
        let error = StateError::from_code(code);
        match (error, step.ask) {
            (Some(StateError::AlreadyStandAlone), _) => Step::Done(code::NO_ERROR),
            (Some(StateError::InTransientState), _) => Step::Wait,
            (Some(StateError::ConcurrentChange), _) => {
                // A question that came before may be the one: its answer is on the way then.
                if core::mem::take(&mut self.s.link.peer_asked) {
                    next(Ask::PeerHears(self.s.liveness.ping()))
                } else {
                    next(Ask::PeerAsks)
                }
            }
            (Some(StateError::PrimaryNop), Ask::Plain) => next(Ask::OutdatePeer),
            (Some(StateError::OutdateWithoutConnection), Ask::OutdatePeer) => {
                next(Ask::PlainVerbose)
            }
            (Some(StateError::FailedByPeer), Ask::Plain) => {
                if self.s.conn <= ConnState::WfConnection {
                    next(Ask::Plain)
                } else {
                    next(Ask::OutdateSelf)
                }
            }
            (Some(StateError::IsDiskless | StateError::LowerThanOutdated), Ask::OutdateSelf) => {
                next(Ask::Hard)
            }
            _ => Step::Done(code),
        }
    }
}
