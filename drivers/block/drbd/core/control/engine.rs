//! The state-change engine (`reference/states.md` 3.2, 3.6, 3.7).
//!
//! All changes of state go through here: checked, logged, committed, and their consequences
//! queued. Nothing else writes a volume's or the connection's state.

use drbd_format::types::{ConnState, DiskState, Fencing};

use super::jobs::VolumeJob;
use super::Control;
use crate::action::Action;
use crate::link::{ControlKind, LinkError, Order, VolumeIndex};
use crate::log::{Level, Line};
use crate::state::sanitize::{self, sanitize, Warning};
use crate::state::transition::{
    check, check_hard, check_hard_conn, is_cluster_wide, Change, Rules, StateError,
};
use crate::state::{mask, VolumeState};

/// Number of changes whose after-work can wait.
pub const WORK_MAX: usize = 40;

/// The change was made.
pub const SUCCESS: i32 = 1;
/// The state is already as wanted.
pub const NOTHING_TO_DO: i32 = 2;

/// How a change is to be treated.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flags {
    /// A fact imposed from outside: only the hard rules count.
    pub hard: bool,
    /// Log refusals.
    pub verbose: bool,
    /// Do not ask the peer.
    pub local_only: bool,
    /// Keep the disk state where Outdated would be an upgrade.
    pub ignore_outdate_failure: bool,
}

impl Flags {
    /// Imposed from outside.
    pub const HARD: Self = Self {
        hard: true,
        verbose: true,
        local_only: true,
        ignore_outdate_failure: false,
    };
    /// Ordinary, refusals are logged.
    pub const VERBOSE: Self = Self {
        hard: false,
        verbose: true,
        local_only: false,
        ignore_outdate_failure: false,
    };
    /// Ordinary, refusals are not logged.
    pub const QUIET: Self = Self {
        hard: false,
        verbose: false,
        local_only: false,
        ignore_outdate_failure: false,
    };
    /// On behalf of the peer.
    pub const FOR_PEER: Self = Self {
        hard: false,
        verbose: true,
        local_only: true,
        ignore_outdate_failure: true,
    };
}

/// A question to the peer (`reference/states.md` 3.6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TwoPhase {
    /// The volume, `None`: the connection.
    pub volume: Option<VolumeIndex>,
    /// What was asked.
    pub change: Change,
    /// The answer.
    pub reply: Option<i32>,
    /// What became of the command that asked.
    pub asker: Asker,
}

/// What became of the command that put a question to the peer. Later ones replace earlier ones.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Asker {
    /// It waits for the answer.
    Waits,
    /// It has been given up; what the peer agrees to is done all the same.
    GaveUp,
    /// It has come to its end without the answer, which is still to come and is that of no other.
    Ended,
}

impl TwoPhase {
    /// Nobody waits for the answer any more.
    pub(crate) fn leave(&mut self, asker: Asker) {
        self.asker = self.asker.max(asker);
    }
}

/// A committed change whose consequences are still to be worked out.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// The volume, `None`: the connection as a whole.
    pub volume: Option<VolumeIndex>,
    /// Before.
    pub old: VolumeState,
    /// After.
    pub new: VolumeState,
}

/// An answer now, or later.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// The result: positive SS codes are success.
    Ready(i32),
    /// Ask again after the next event.
    Pending,
}

/// What a change would lead to.
struct Evaluated {
    old: VolumeState,
    new: VolumeState,
    warning: Option<Warning>,
}

impl Control<'_> {
    /// Facts that the rules need besides the state of the volume.
    fn rules(&self, v: VolumeIndex) -> Rules {
        let net = self.s.net;
        Rules {
            net: net.is_some(),
            two_primaries: net.is_some_and(|net| net.two_primaries),
            verify_alg: net.is_some_and(|net| !net.verify_alg.is_empty()),
            version: self.version(),
            other_peer_primary: self.indices().any(|other| {
                other != v && self.vol(other).state.peer == drbd_format::types::Role::Primary
            }),
            open: self.vol(v).opened > 0,
            fencing: self.fencing(v),
            state_sent: self.awaits_handshake(v),
        }
    }

    /// The peer has been told the state of this volume and has not been heard. (In the C driver one
    /// volume that the peer does not have holds up all others for as long as the connection lasts:
    /// no resync begins, and commands wait for good.)
    pub(crate) fn awaits_handshake(&self, v: VolumeIndex) -> bool {
        let meets = self.vol(v).state.conn <= ConnState::WfReportParams && !self.is_not_there(v);
        self.s.link.state_sent && meets
    }

    /// Fencing policy of the attached disk, if it is at least Inconsistent.
    pub(crate) fn fencing(&self, v: VolumeIndex) -> Fencing {
        let volume = self.vol(v);
        match volume.disk {
            Some(disk) if volume.state.disk >= DiskState::Inconsistent => disk.config.fencing,
            _ => Fencing::DontCare,
        }
    }

    /// Tells whether a disk of this generation has what applications have seen. Not if they have
    /// written since it was in use, or have never used it: the peer has begun a new generation,
    /// told or not.
    pub(crate) fn is_exposed(&self, v: VolumeIndex, current: u64) -> bool {
        let volume = self.vol(v);
        let used = !volume.facts.missed_writes && !volume.promoted_diskless;
        current & !1 == volume.exposed_uuid & !1 && used
    }

    fn evaluate(&self, v: VolumeIndex, change: Change, flags: Flags) -> Option<Evaluated> {
        let old = self.state(v);
        let mut wanted = change.apply(old)?;
        if flags.ignore_outdate_failure
            && wanted.disk == DiskState::Outdated
            && old.disk < DiskState::Outdated
        {
            wanted.disk = old.disk;
        }
        let volume = self.vol(v);
        let exposed = volume
            .disk
            .is_some_and(|disk| self.is_exposed(v, disk.uuids.current));
        let facts = sanitize::Facts {
            fencing: self.fencing(v),
            on_no_data: self.s.config.on_no_data,
            saved: volume.saved.filter(|_| exposed),
        };
        let (new, warning) = sanitize(old, wanted, &facts);
        Some(Evaluated { old, new, warning })
    }

    /// Logs why a change of a volume was refused.
    fn log_refusal(
        &mut self,
        v: VolumeIndex,
        error: StateError,
        old: VolumeState,
        new: VolumeState,
    ) {
        if error == StateError::InTransientState {
            return;
        }
        self.log(v, Line::Refused(error.text()));
        self.log(
            v,
            Line::RefusedState {
                word: old.to_word(),
                wanted: false,
            },
        );
        self.log(
            v,
            Line::RefusedState {
                word: new.to_word(),
                wanted: true,
            },
        );
    }

    /// Changes the state of one volume at once, without asking the peer (`reference/states.md`
    /// 3.2). Returns the SS code.
    pub(crate) fn set_state(&mut self, v: VolumeIndex, change: Change, flags: Flags) -> i32 {
        let Some(Evaluated { old, new, warning }) = self.evaluate(v, change, flags) else {
            return StateError::NotSupported.code();
        };
        if new == old {
            return NOTHING_TO_DO;
        }
        let mut result = check_hard(old, new);
        if result.is_ok() && !flags.hard {
            result = check(old, new, &self.rules(v), true);
        }
        if let Err(error) = result {
            if flags.verbose {
                self.log_refusal(v, error, old, new);
            }
            return error.code();
        }
        self.commit(v, old, new, warning, 0);
        SUCCESS
    }

    /// As [`Self::set_state`], but asks the peer first if the change concerns both nodes. Call it
    /// again with the same arguments while it is pending.
    pub(crate) fn request(&mut self, v: VolumeIndex, change: Change, flags: Flags) -> Answer {
        if self.waits_for_size(v, change) {
            return Answer::Pending;
        }
        let answer = self.ask(v, change, flags);
        if change.names(mask::CONN) && answer != Answer::Pending {
            self.sync_grown_after_all(v);
        }
        answer
    }

    /// A new size is being written; a resync would end that. Or that of new space is about to
    /// begin, and the peer counts on it.
    pub(crate) fn waits_for_size(&self, v: VolumeIndex, change: Change) -> bool {
        let volume = self.vol(v);
        let state = volume.state;
        let begins = change
            .apply(state)
            .is_some_and(|new| new.conn > ConnState::Connected);
        change.names(mask::CONN)
            && match volume.job {
                VolumeJob::Relayout(_) => true,
                VolumeJob::StartSync(..) => state.conn == ConnState::Connected && begins,
                VolumeJob::None
                | VolumeJob::SetAll(..)
                | VolumeJob::Finish { .. }
                | VolumeJob::Detach(_) => false,
            }
    }

    fn ask(&mut self, v: VolumeIndex, change: Change, flags: Flags) -> Answer {
        let Some(Evaluated { old, new, .. }) = self.evaluate(v, change, flags) else {
            return Answer::Ready(StateError::NotSupported.code());
        };
        let asked = self.s.two_phase.filter(|asked| {
            asked.asker != Asker::Ended && asked.volume == Some(v) && asked.change == change
        });
        if let Some(code) = asked.and_then(|asked| asked.reply) {
            self.s.two_phase = None;
            return self.conclude(v, change, flags, code);
        }
        if flags.local_only || new == old || !is_cluster_wide(old, new) {
            if let Some(asked) = self.s.two_phase.as_mut().filter(|_| asked.is_some()) {
                asked.leave(Asker::Ended);
            }
            return Answer::Ready(self.set_state(v, change, flags));
        }
        let mut result = check_hard(old, new);
        if result.is_ok() && !flags.hard {
            result = check(old, new, &self.rules(v), false);
        }
        if let Err(error) = result {
            if let Some(asked) = self.s.two_phase.as_mut().filter(|_| asked.is_some()) {
                // The peer may have agreed already.
                asked.leave(Asker::GaveUp);
            }
            if flags.verbose {
                self.log_refusal(v, error, old, new);
            }
            return Answer::Ready(error.code());
        }
        if self.s.two_phase.is_none() {
            self.s.two_phase = Some(TwoPhase {
                volume: Some(v),
                change,
                reply: None,
                asker: Asker::Waits,
            });
            self.send(
                v,
                ControlKind::StateChange {
                    mask: change.mask,
                    val: change.val,
                },
            );
        }
        Answer::Pending
    }

    /// The peer has answered.
    fn conclude(&mut self, v: VolumeIndex, change: Change, flags: Flags, code: i32) -> Answer {
        if code >= SUCCESS {
            return Answer::Ready(self.make_agreed(v, change, flags));
        }
        let text = StateError::from_code(code).map_or("unknown error", StateError::text);
        self.log(v, Line::RefusedByPeer { text, code });
        Answer::Ready(StateError::FailedByPeer.code())
    }

    /// Makes a change to which the peer has agreed, in which it believes from then on. If it cannot
    /// be made any more, the nodes compare all they know once more (`reference/states.md` 3.6).
    /// Returns the SS code.
    pub(crate) fn make_agreed(&mut self, v: VolumeIndex, change: Change, flags: Flags) -> i32 {
        let code = self.set_state(v, change, flags);
        if code < SUCCESS && self.state(v).conn >= ConnState::Connected {
            if change.names(mask::DISK) || change.names(mask::CONN) {
                self.agreed_in_vain(v);
            } else {
                self.tell_state(v);
            }
        }
        code
    }

    /// Tells whether a change would make a difference.
    pub(crate) fn is_open(&self, v: VolumeIndex, change: Change) -> bool {
        self.evaluate(v, change, Flags::VERBOSE)
            .is_some_and(|it| it.new != it.old)
    }

    /// The peer believes in a change that is not made.
    pub(crate) fn agreed_in_vain(&mut self, v: VolumeIndex) {
        let text = "The peer has agreed to what can not be done any more; connecting anew.";
        self.text(v, Level::Warning, text);
        self.link_failed(LinkError::ProtocolError);
    }

    /// Changes all volumes and the connection at once, without asking the peer
    /// (`reference/states.md` 3.7). Returns the SS code.
    pub(crate) fn set_conn_state(&mut self, change: Change, flags: Flags) -> i32 {
        let old_conn = self.s.conn;
        let wanted = if change.names(mask::CONN) {
            ConnState::from_wire(change.val >> 4 & 0x1f).unwrap_or(old_conn)
        } else {
            old_conn
        };
        if let Err(error) = self.check_conn_change(change, wanted, flags) {
            if flags.verbose && error != StateError::InTransientState {
                self.log_resource(Line::Refused(error.text()));
                self.log_resource(Line::RefusedMask {
                    mask: change.mask,
                    val: change.val,
                });
                self.log_resource(Line::RefusedConn {
                    old: old_conn,
                    wanted,
                });
            }
            return error.code();
        }
        let common = self.log_common(change, old_conn, wanted, flags);
        let mut changed = old_conn != wanted;
        let new_conn = wanted.min(ConnState::WfReportParams);
        self.s.conn = new_conn;
        for v in self.indices() {
            let Some(Evaluated { old, new, warning }) = self.evaluate(v, change, flags) else {
                continue;
            };
            if old != new {
                changed = true;
                self.commit(v, old, new, warning, common);
            }
        }
        if !changed {
            return NOTHING_TO_DO;
        }
        if old_conn != new_conn {
            self.conn_changed(old_conn, new_conn);
        }
        SUCCESS
    }

    /// Checks a change of the connection against the rules for it and for every volume.
    fn check_conn_change(
        &self,
        change: Change,
        wanted: ConnState,
        flags: Flags,
    ) -> Result<(), StateError> {
        if change.names(mask::CONN) {
            check_hard_conn(self.s.conn, wanted)?;
        }
        // The peer need not have the volumes that it has not been heard of.
        let leaves = matches!(wanted, ConnState::Disconnecting | ConnState::TearDown);
        let met = |v: VolumeIndex| self.vol(v).state.conn >= ConnState::Connected;
        let leaves = leaves && self.indices().any(met);
        for v in self.indices() {
            let evaluated = self
                .evaluate(v, change, flags)
                .ok_or(StateError::NotSupported)?;
            let Evaluated { old, new, .. } = evaluated;
            if old == new {
                continue;
            }
            check_hard(old, new)?;
            if !flags.hard {
                let mut rules = self.rules(v);
                rules.state_sent &= !leaves;
                check(old, new, &rules, true)?;
            }
        }
        Ok(())
    }

    /// Logs the fields that change alike on all volumes; returns them.
    fn log_common(
        &mut self,
        change: Change,
        old_conn: ConnState,
        wanted: ConnState,
        flags: Flags,
    ) -> u32 {
        const FIELDS: [u32; 6] = [
            mask::ROLE,
            mask::PEER,
            mask::CONN,
            mask::DISK,
            mask::PDSK,
            mask::SUSP | mask::SUSP_NOD | mask::SUSP_FEN,
        ];
        let mut common = FIELDS.iter().fold(0, |all, field| all | field);
        let mut first = None;
        for v in self.indices() {
            let Some(Evaluated { old, new, .. }) = self.evaluate(v, change, flags) else {
                continue;
            };
            let (old, new) = (old.to_word(), new.to_word());
            let (first_old, first_new) = *first.get_or_insert((old, new));
            for field in FIELDS {
                if (old ^ first_old | new ^ first_new) & field != 0 {
                    common &= !field;
                }
            }
        }
        let base = VolumeState::INITIAL;
        let (old, new) = first.unwrap_or((
            VolumeState {
                conn: old_conn,
                ..base
            }
            .to_word(),
            VolumeState {
                conn: wanted,
                ..base
            }
            .to_word(),
        ));
        if (old ^ new) & common != 0 {
            self.log_resource(Line::ConnStateChange {
                old,
                new,
                mask: common,
            });
        }
        common
    }

    /// Asks the peer for a graceful disconnect if need be, then changes the connection
    /// (`reference/states.md` 3.6). Call it again with the same arguments while it is pending.
    pub(crate) fn request_conn(&mut self, change: Change, flags: Flags) -> Answer {
        let asked = self.s.two_phase.filter(|asked| {
            asked.asker != Asker::Ended && asked.volume.is_none() && asked.change == change
        });
        if let Some(code) = asked.and_then(|asked| asked.reply) {
            self.s.two_phase = None;
            if code >= SUCCESS {
                return Answer::Ready(self.set_conn_state(change, flags));
            }
            if code == StateError::ConcurrentChange.code() {
                return Answer::Ready(code);
            }
            let text = StateError::from_code(code).map_or("unknown error", StateError::text);
            self.log_resource(Line::RefusedByPeer { text, code });
            return Answer::Ready(StateError::FailedByPeer.code());
        }
        let disconnects = change.val & mask::CONN == ConnState::Disconnecting.to_wire() << 4;
        if self.s.conn != ConnState::WfReportParams
            || !disconnects
            || flags.hard
            || flags.local_only
        {
            if asked.is_some() {
                self.s.two_phase = None;
            }
            return Answer::Ready(self.set_conn_state(change, flags));
        }
        if let Err(error) = self.check_conn_change(change, ConnState::Disconnecting, flags) {
            if let Some(asked) = self.s.two_phase.as_mut().filter(|_| asked.is_some()) {
                asked.leave(Asker::Ended);
            }
            return Answer::Ready(error.code());
        }
        if self.s.two_phase.is_none() {
            self.s.two_phase = Some(TwoPhase {
                volume: None,
                change,
                reply: None,
                asker: Asker::Waits,
            });
            let v = VolumeIndex(0);
            self.send(
                v,
                ControlKind::ConnStateChange {
                    mask: change.mask,
                    val: change.val,
                },
            );
        }
        Answer::Pending
    }

    /// Makes a checked change come true. Fields in `logged` are already in the log.
    fn commit(
        &mut self,
        v: VolumeIndex,
        old: VolumeState,
        new: VolumeState,
        warning: Option<Warning>,
        logged: u32,
    ) {
        if let Some(warning) = warning {
            self.text(v, Level::Warning, warning.text());
        }
        let (old_word, new_word) = (old.to_word(), new.to_word());
        let shown = mask::SUSP - 1 | mask::AFTR_ISP | mask::PEER_ISP | mask::USER_ISP;
        if (old_word ^ new_word) & shown & !logged != 0 {
            // Show only what is not in the connection's line.
            let new_shown = new_word & !logged | old_word & logged;
            self.log(
                v,
                Line::StateChange {
                    old: old_word,
                    new: new_shown,
                },
            );
        }
        if old.suspended() != new.suspended() && logged & mask::SUSP == 0 {
            let line = Line::Suspension {
                old: old.suspended(),
                new: new.suspended(),
            };
            self.log_resource(line);
        }
        self.vol_mut(v).state = new;
        let frozen = mask::SUSP | mask::SUSP_NOD | mask::SUSP_FEN;
        if (old_word ^ new_word) & !frozen != 0 {
            self.differs_from_told(v);
        }
        let flags_changed = (self.s.susp, self.s.susp_nod, self.s.susp_fen)
            != (new.susp, new.susp_nod, new.susp_fen);
        self.s.susp = new.susp;
        self.s.susp_nod = new.susp_nod;
        self.s.susp_fen = new.susp_fen;
        self.act(Action::NotifyVolume {
            volume: v,
            old: old_word,
            new: new_word,
        });
        self.immediately(v, old, new);
        if flags_changed {
            for other in self.indices() {
                self.order(Order::View(other));
            }
        } else {
            self.order(Order::View(v));
        }
        self.queue_work(Work {
            volume: Some(v),
            old,
            new,
        });
    }

    /// Queues after-work; if there is no room the oldest is done first.
    pub(crate) fn queue_work(&mut self, work: Work) {
        if let Some(slot) = self.s.work.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(work);
            return;
        }
        if let Some(oldest) = self.take_work() {
            self.after(oldest);
        }
        if let Some(slot) = self.s.work.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(work);
        } else {
            self.s.overflow = true;
        }
    }

    /// Takes the oldest after-work.
    pub(crate) fn take_work(&mut self) -> Option<Work> {
        let oldest = self.s.work.first_mut()?.take()?;
        self.s.work.rotate_left(1);
        Some(oldest)
    }
}
