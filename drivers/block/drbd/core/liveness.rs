//! Pings, their answers, and the other packets of the meta socket that belong to the control plane
//! (`reference/wire.md` 10.1).

use drbd_format::types::ConnState;
use drbd_format::wire::features::Terms;
use drbd_format::wire::packet::Packet;
use drbd_format::wire::payload::StateChangeReply;

use crate::chance::{chance, Unlikely};
use crate::control::Control;
use crate::link::{LinkError, VolumeNumber};
use crate::log::{Level, Line};
use crate::time::{earliest, Duration, Instant};

/// Answers that can wait at once.
const REPLIES_MAX: usize = 16;

/// An answer to a question of the peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Reply {
    volume: u16,
    of_conn: bool,
    code: i32,
}

/// Pings and answers.
#[derive(Clone, Copy, Debug)]
pub struct Liveness {
    /// Round trips asked for.
    asked: u32,
    /// Round trips that have been answered, of those asked for.
    answered: u32,
    /// Number of round trips asked for when the outstanding ping was queued.
    covered: u32,
    /// A ping is queued but not sent.
    ping_due: bool,
    /// When the outstanding ping was sent or anything arrived on the meta socket since.
    outstanding: Option<Instant>,
    /// Pings of the peer to be answered.
    acks_due: u8,
    /// When anything arrived last.
    heard: Instant,
    /// Timeouts in a row while the data socket took nothing.
    blocked: u32,
    replies: [Option<Reply>; REPLIES_MAX],
}

impl Liveness {
    /// No connection yet.
    pub const NEW: Self = Self {
        asked: 0,
        answered: 0,
        covered: 0,
        ping_due: false,
        outstanding: None,
        acks_due: 0,
        heard: Instant(0),
        blocked: 0,
        replies: [None; REPLIES_MAX],
    };

    /// A new connection begins.
    pub fn restart(&mut self, now: Instant) {
        *self = Self {
            asked: self.asked,
            answered: self.asked,
            covered: self.asked,
            heard: now,
            ..Self::NEW
        };
    }

    /// Asks for a round trip. The number is for [`Self::answered`].
    pub fn ping(&mut self) -> u32 {
        self.asked = self.asked.wrapping_add(1);
        if self.outstanding.is_none() {
            self.ping_due = true;
        }
        self.asked
    }

    /// Asks for a ping unless one is under way.
    pub fn nudge(&mut self) {
        if self.outstanding.is_none() {
            self.ping_due = true;
        }
    }

    /// Tells whether the round trip with this number is over.
    pub const fn answered(&self, number: u32) -> bool {
        // Numbers wrap; half of the range counts as the past.
        self.answered.wrapping_sub(number) < 1 << 31
    }

    /// The data socket has taken a packet, or refused it.
    pub fn sent(&mut self, ok: bool) {
        if ok {
            self.blocked = 0;
        }
    }

    /// Something arrived on the data socket.
    pub fn heard_data(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Something arrived on the meta socket.
    pub fn heard_meta(&mut self, now: Instant) {
        self.heard = now;
        if self.outstanding.is_some() {
            self.outstanding = Some(now);
        }
    }

    /// When the answer to the outstanding ping has to be there: whoever is heard on the other
    /// socket meanwhile is alive (`reference/wire.md` 10.1).
    fn answer_deadline(&self, timeout_tenths: u32) -> Instant {
        let since = self
            .outstanding
            .map_or(self.heard, |sent| sent.max(self.heard));
        since.after(Duration::from_tenths(timeout_tenths))
    }

    /// The peer pings.
    pub fn pinged(&mut self) {
        self.acks_due = self.acks_due.saturating_add(1);
    }

    /// The peer has answered a ping.
    pub fn ping_answered(&mut self) {
        self.outstanding = None;
        self.answered = self.covered;
        if self.answered != self.asked {
            self.ping_due = true;
        }
    }

    fn reply(&mut self, reply: Reply) {
        if let Some(slot) = self.replies.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(reply);
        }
    }

    /// Queues P_STATE_CHG_REPLY.
    pub fn reply_state(&mut self, volume: VolumeNumber, code: i32) {
        self.reply(Reply {
            volume: volume.0,
            of_conn: false,
            code,
        });
    }

    /// Queues P_CONN_ST_CHG_REPLY (P_STATE_CHG_REPLY for an old peer).
    pub fn reply_conn(&mut self, old: bool, code: i32) {
        self.reply(Reply {
            volume: 0,
            of_conn: !old,
            code,
        });
    }

    /// Tells whether something is to be sent.
    pub fn has_work(&self) -> bool {
        self.ping_due || self.acks_due > 0 || self.has_replies()
    }

    /// Tells whether an answer to a question of the peer is to be sent.
    pub fn has_replies(&self) -> bool {
        self.replies.first().is_some_and(Option::is_some)
    }

    /// Writes what must not wait: answers to pings and to questions. Returns the bytes used.
    pub fn encode_urgent(&mut self, terms: &Terms, buf: &mut [u8]) -> usize {
        let mut used = 0usize;
        while self.acks_due > 0 {
            let Some(len) = put(&Packet::PingAck, terms, 0, buf, used) else {
                return used;
            };
            used = used.saturating_add(len);
            self.acks_due = self.acks_due.saturating_sub(1);
        }
        while let Some(Reply {
            volume,
            of_conn,
            code,
        }) = self.replies.first().copied().flatten()
        {
            let reply = StateChangeReply { code };
            let packet = if of_conn {
                Packet::ConnStChgReply(reply)
            } else {
                Packet::StateChgReply(reply)
            };
            let Some(len) = put(&packet, terms, volume, buf, used) else {
                return used;
            };
            used = used.saturating_add(len);
            if let Some(first) = self.replies.first_mut() {
                *first = None;
            }
            self.replies.rotate_left(1);
        }
        used
    }

    /// Writes a ping if one is due. Acknowledgements queued before must be in front of it.
    pub fn encode_ping(&mut self, terms: &Terms, buf: &mut [u8], now: Instant) -> usize {
        if !self.ping_due {
            return 0;
        }
        let Some(len) = put(&Packet::Ping, terms, 0, buf, 0) else {
            return 0;
        };
        self.ping_due = false;
        self.covered = self.asked;
        self.outstanding = Some(now);
        len
    }
}

/// Encodes `packet` at `offset`; `None` if there is no room.
fn put(
    packet: &Packet<'_>,
    terms: &Terms,
    volume: u16,
    buf: &mut [u8],
    offset: usize,
) -> Option<usize> {
    packet.encode(terms, volume, buf.get_mut(offset..)?).ok()
}

impl Control<'_> {
    /// A control packet has arrived on the meta socket.
    pub fn meta_packet(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::Ping => self.s.liveness.pinged(),
            Packet::PingAck => self.s.liveness.ping_answered(),
            Packet::StateChgReply(reply) => self.change_answered(false, reply.code),
            Packet::ConnStChgReply(reply) => self.change_answered(true, reply.code),
            Packet::DelayProbe(_) => {}
            _ => {
                let text = "unexpected packet on the meta socket";
                self.text_resource(Level::Error, text);
                self.link_failed(LinkError::StandAlone);
            }
        }
        self.finish();
    }

    /// What was queued on the meta socket has been sent.
    pub fn meta_sent(&mut self) {
        let answered = self.s.link.reply_due.is_none() && !self.s.liveness.has_replies();
        if self.s.link.close_after_reply && answered {
            self.s.link.close_after_reply = false;
            self.close_sockets();
        }
        self.finish();
    }

    /// The data socket is blocked (`reference/wire.md` 10.2): the peer has `ko-count` timeouts.
    pub(crate) fn send_timed_out(&mut self) {
        let Some(net) = self.s.net else {
            return;
        };
        if self.s.conn != ConnState::WfReportParams {
            self.link_failed(LinkError::Timeout);
            return;
        }
        let live = &mut self.s.liveness;
        live.blocked = live.blocked.saturating_add(1);
        let left = net.ko_count.saturating_sub(live.blocked);
        live.nudge();
        self.log_resource(Line::SendBlocked { left });
        if net.ko_count != 0 && left == 0 {
            self.link_failed(LinkError::Timeout);
        }
    }

    /// When [`Self::check_liveness`] has to be called at the latest.
    pub fn liveness_deadline(&self) -> Option<Instant> {
        let link = &self.s.link;
        let mut next = earliest(link.deadline, link.retry_at);
        next = earliest(next, link.all_told_at);
        let Some(net) = self.s.net else {
            return next;
        };
        if self.s.conn == ConnState::WfReportParams {
            let live = &self.s.liveness;
            let ping = match live.outstanding {
                Some(_) => live.answer_deadline(net.ping_timeout_tenths),
                None => live
                    .heard
                    .after(Duration::from_secs(u64::from(net.ping_int_secs))),
            };
            if !live.ping_due {
                next = earliest(next, Some(ping));
            }
        }
        next
    }

    /// Looks at all deadlines of the connection.
    pub(crate) fn check_liveness(&mut self) {
        let now = self.now;
        let passed = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if passed(self.s.link.deadline) {
            self.s.link.deadline = None;
            self.deadline_passed();
        }
        if passed(self.s.link.all_told_at) {
            self.s.link.all_told_at = None;
            self.all_told();
        }
        if passed(self.s.link.retry_at) {
            self.s.link.retry_at = None;
            self.try_connect();
        }
        let Some(net) = self
            .s
            .net
            .filter(|_| self.s.conn == ConnState::WfReportParams)
        else {
            return;
        };
        let live = &mut self.s.liveness;
        match live.outstanding {
            Some(_) => {
                if live.answer_deadline(net.ping_timeout_tenths) <= now {
                    live.outstanding = None;
                    self.text_resource(Level::Error, "PingAck did not arrive in time.");
                    self.link_failed(LinkError::NetworkFailure);
                }
            }
            None => {
                let silence = Duration::from_secs(u64::from(net.ping_int_secs));
                let silent = live.heard.after(silence) <= now;
                live.ping_due |= silent || (!live.ping_due && chance(Unlikely::PingEarly));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms::INITIAL;

    #[test]
    fn a_round_trip_is_over_only_when_a_ping_sent_after_the_question_is_answered() {
        let mut live = Liveness::NEW;
        let mut buf = [0; 64];
        let first = live.ping();
        assert!(live.encode_ping(&TERMS, &mut buf, Instant(1)) > 0);
        let second = live.ping();
        live.ping_answered();
        assert!(live.answered(first));
        assert!(
            !live.answered(second),
            "the answer belongs to the earlier ping"
        );
        assert!(live.encode_ping(&TERMS, &mut buf, Instant(2)) > 0);
        live.ping_answered();
        assert!(live.answered(second));
        assert!(!live.has_work());
        let past = |ago: u32| live.answered(second.wrapping_sub(ago));
        assert!(past((1 << 31) - 1) && !past(1 << 31), "numbers wrap");
    }

    #[test]
    fn every_ping_gets_exactly_one_answer() {
        let mut live = Liveness::NEW;
        let mut buf = [0; 64];
        for _ in 0..3 {
            live.pinged();
        }
        assert_eq!(live.encode_urgent(&TERMS, &mut buf), 3 * 8);
        assert_eq!(live.encode_urgent(&TERMS, &mut buf), 0);
    }
}
