//! One resource: control plane and data plane joined.
//!
//! This file only composes: each method forwards to one of the two planes, then carries orders and
//! reports back and forth until both are quiet. It runs under the resource's lock and never sleeps.

use drbd_format::wire::command::{Frame, Stream};
use drbd_format::wire::packet::decode_front;

use crate::action::{Action, Ticket};
use crate::config::ResourceConfig;
use crate::control::{Control, ControlState, Lent};
use crate::data::{is_ack_command, Algorithm, DataPlane, Outgoing, Payload, SentToken};
use crate::handshake::Stage;
use crate::input::Input;
use crate::link::{ControlKind, LinkError, LinkView, Order, View, VolumeIndex};
use crate::memory::Memory;
use crate::send_queue::NextPacket;
use crate::state::VolumeState;
use crate::time::{earliest, Instant};

mod forward;
mod receive;

pub use receive::{Expect, Front};

/// Which executors of the shell have work.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Wants {
    /// Control worker: `pop_action`.
    pub actions: bool,
    /// `pop_done`.
    pub done: bool,
    /// Sender of the data socket: `next_packet`.
    pub sender: bool,
    /// Sender of the meta socket: `next_acks`.
    pub acks: bool,
    /// Peer I/O: `next_peer_io`.
    pub peer_io: bool,
    /// The receiver waiting in [`Incoming::Wait`]: `data_retry`.
    pub receiver: bool,
    /// Tasks waiting in [`Submit::Wait`].
    pub submitters: bool,
    /// One bit per volume whose worker shall call `next_ready` and `al_next`.
    pub volumes: u32,
    /// Call `on_timer` at this time.
    pub timer: Option<Instant>,
}

/// Slots of the control plane, lent for the life of the resource.
pub struct ControlMemory<M: Memory> {
    /// As many as the data plane has volumes.
    pub volumes: M::ControlVolumes,
    /// At least [`crate::control::ACTIONS_MIN`].
    pub actions: M::Actions,
    /// At least [`crate::control::ORDERS_MIN`].
    pub orders: M::Orders,
    /// At least [`crate::control::OUTBOX_MIN`].
    pub outbox: M::Outbox,
}

/// One resource.
pub struct Resource<M: Memory> {
    pub(crate) state: ControlState,
    memory: ControlMemory<M>,
    /// The data plane; public for queries that concern nothing else.
    pub data: DataPlane<M>,
    frame: Option<Frame>,
    acks_wanted: bool,
    receiver_wanted: bool,
}

/// Joins the control plane for one call.
macro_rules! control {
    ($resource:expr, $now:expr) => {
        Control::new(
            &mut $resource.state,
            Lent {
                volumes: &mut $resource.memory.volumes,
                actions: &mut $resource.memory.actions,
                orders: &mut $resource.memory.orders,
                outbox: &mut $resource.memory.outbox,
            },
            $now,
        )
    };
}

impl<M: Memory> Resource<M> {
    /// Composes a resource; `seed` must be unpredictable.
    pub fn new(
        seed: [u64; 2],
        config: ResourceConfig,
        memory: ControlMemory<M>,
        data: DataPlane<M>,
    ) -> Self {
        Self {
            state: ControlState::new(seed, config),
            memory,
            data,
            frame: None,
            acks_wanted: false,
            receiver_wanted: false,
        }
    }

    /// Runs `call` on the control plane with fresh numbers, then settles.
    fn control<R>(&mut self, now: Instant, call: impl FnOnce(&mut Control<'_>) -> R) -> R {
        let mut control = control!(self, now);
        Self::take_facts(&mut control, &self.data);
        let result = call(&mut control);
        self.settle(now);
        result
    }

    fn take_facts(control: &mut Control<'_>, data: &DataPlane<M>) {
        for v in control.volume_indices() {
            control.take_facts(v, data.facts(v));
        }
    }

    /// Carries orders down and reports up until both planes are quiet.
    pub(crate) fn settle(&mut self, now: Instant) {
        let mut looked = false;
        loop {
            let mut control = control!(self, now);
            while let Some(order) = control.pop_order() {
                if let Order::View(volume) = order {
                    self.data.set_view(volume, &control.view(volume), now);
                }
                if order == Order::Link {
                    self.data.set_link(&control.link_view());
                }
                self.data.order(&order, now);
            }
            self.data.orders_done(now);
            if let Some(upcall) = self.data.pop_upcall() {
                Self::take_facts(&mut control, &self.data);
                control.upcall(upcall);
                looked = false;
            } else if control.is_waiting() && !looked {
                Self::take_facts(&mut control, &self.data);
                control.look_again();
                looked = true;
            } else if !control.has_orders() {
                break;
            }
        }
        self.acks_wanted |= self.meta_may_speak() && self.state.core.liveness.has_work();
        self.receiver_wanted |= control!(self, now).pending_is_ready();
    }

    /// Returns which executors have work, and forgets it. To be called at the end of every hold
    /// of the lock.
    pub fn take_wants(&mut self) -> Wants {
        let data = self.data.take_wants();
        let control = control!(self, Instant(0));
        let wants = Wants {
            actions: control.has_actions(),
            done: data.done,
            sender: data.sender,
            acks: data.acks || self.acks_wanted,
            peer_io: data.peer_io,
            receiver: data.receiver || self.receiver_wanted,
            submitters: data.submitters,
            volumes: data.volumes,
            timer: earliest(data.timer, control.next_deadline()),
        };
        self.acks_wanted = false;
        self.receiver_wanted = false;
        wants
    }

    /// Something happened, or a command.
    pub fn handle(&mut self, input: &Input<'_>, now: Instant) {
        if matches!(input, Input::ReceiverGone) {
            self.data.receiver_gone(now);
            self.frame = None;
        }
        self.control(now, |control| control.handle(input));
    }

    /// Takes the next action.
    pub fn pop_action(&mut self) -> Option<Action> {
        let crowded = self.is_crowded();
        let action = control!(self, Instant(0)).pop_action();
        self.receiver_wanted |= crowded && !self.is_crowded();
        action
    }

    /// Returns the code of a command that has been answered, while the answer is an action that
    /// nobody has taken yet. Whoever gives a command up ([`Input::Cancel`]) learns from it what
    /// has become of the command: it may have been carried out.
    pub fn answer_to(&mut self, ticket: Ticket) -> Option<i32> {
        control!(self, Instant(0)).answer_to(ticket)
    }

    /// So many actions wait that no packet may add to them.
    fn is_crowded(&mut self) -> bool {
        control!(self, Instant(0)).is_crowded()
    }

    /// A deadline may have passed.
    pub fn on_timer(&mut self, now: Instant) {
        self.data.on_timer(now);
        self.control(now, |control| control.on_timer());
    }

    /// Writes the superblock of a volume into `block` of 4096 bytes. `None` without a disk.
    pub fn encode_superblock(&mut self, volume: VolumeIndex, block: &mut [u8]) -> Option<()> {
        control!(self, Instant(0)).encode_superblock(volume, block)
    }

    /// State of a volume.
    pub fn state(&mut self, volume: VolumeIndex) -> VolumeState {
        control!(self, Instant(0)).state(volume)
    }

    /// State and settings of a volume.
    pub fn view(&mut self, volume: VolumeIndex) -> View {
        control!(self, Instant(0)).view(volume)
    }

    /// State and settings of the connection.
    pub fn link_view(&mut self) -> LinkView {
        control!(self, Instant(0)).link_view()
    }

    /// What lasts of the control plane, for queries.
    pub fn control_state(&self) -> (&ControlState, &M::ControlVolumes) {
        (&self.state, &self.memory.volumes)
    }

    // Sockets.

    /// Consumes complete packets at the front of what was received on the meta socket; returns
    /// the number of bytes used. Nothing is used before the handshake is over.
    ///
    /// # Errors
    ///
    /// The connection can not go on; the state has changed already.
    pub fn meta_bytes(&mut self, bytes: &[u8], now: Instant) -> Result<usize, LinkError> {
        let mut rest = bytes;
        while self.state.core.link.stage == Stage::Up && !rest.is_empty() {
            let terms = *self.data.terms();
            let received = match decode_front(&terms, Stream::Meta, rest) {
                Ok(Some(received)) => received,
                Ok(None) => break,
                Err(error) => return Err(self.broken_stream(&error, Stream::Meta, now)),
            };
            self.state.core.liveness.heard_meta(now);
            if is_ack_command(received.frame.command()) {
                let result = self.data.ack_packet(&received.frame, &received.packet, now);
                self.settle(now);
                result?;
            } else {
                self.control(now, |control| control.meta_packet(&received.packet));
            }
            rest = received.rest;
        }
        if self.state.core.link.stage == Stage::Closing {
            // It is of no use any more, and the peer may have said a lot.
            rest = &[];
        }
        Ok(bytes.len().saturating_sub(rest.len()))
    }

    /// Encodes the next packet for the data socket into `buf` (at least 4096 + 64 bytes).
    pub fn next_packet(&mut self, buf: &mut [u8], now: Instant) -> Option<Outgoing> {
        loop {
            let item = match self.data.next_packet(buf, now) {
                NextPacket::Control(item) => item,
                NextPacket::Packet(outgoing) => {
                    self.settle(now);
                    return Some(outgoing);
                }
                NextPacket::None => {
                    self.settle(now);
                    return None;
                }
            };
            self.data.control_taken();
            let encoded = self.control(now, |control| control.encode(&item, buf));
            if let Some(len) = encoded {
                let algorithm = match item.kind {
                    ControlKind::Protocol => Some(Algorithm::First),
                    ControlKind::ProtocolUpdate => Some(Algorithm::Another),
                    _ => None,
                };
                return Some(Outgoing {
                    len,
                    payload: Payload::None,
                    digest: false,
                    algorithm,
                    copy: false,
                    token: SentToken::Nothing,
                });
            }
        }
    }

    /// A packet has been handed to the socket, or could not be.
    pub fn sent(&mut self, token: SentToken, ok: bool, now: Instant) {
        self.state.core.liveness.sent(ok);
        self.data.sent(token, ok, now);
        self.settle(now);
    }

    /// Before the handshake is over the meta socket is silent. While the link is closed only the
    /// answer that lets the peer go is still to be sent.
    fn meta_may_speak(&self) -> bool {
        let link = &self.state.core.link;
        link.stage == Stage::Up || link.close_after_reply
    }

    /// Fills `buf` (4096 bytes) with what is due on the meta socket; returns how many bytes.
    ///
    /// [`Resource::acks_sent`] has to follow once they are sent, or could not be.
    pub fn next_acks(&mut self, buf: &mut [u8], now: Instant) -> Option<usize> {
        if !self.meta_may_speak() {
            return None;
        }
        let terms = *self.data.terms();
        let live = &mut self.state.core.liveness;
        let mut len = live.encode_urgent(&terms, buf);
        if let Some(acks) = self.data.next_acks(buf.get_mut(len..)?, now) {
            len += acks;
        }
        if self.data.acks_are_encoded() {
            len += live.encode_ping(&terms, buf.get_mut(len..)?, now);
        }
        self.settle(now);
        (len > 0).then_some(len)
    }

    /// What was taken for the meta socket has been sent, or could not be.
    pub fn acks_sent(&mut self, now: Instant) {
        // The only thing that waits for it; acks are too many to ask all volumes each time.
        if self.state.core.link.close_after_reply {
            self.control(now, |control| control.meta_sent());
        }
    }
}
