//! How two nodes that connect to each other at the same time agree on two sockets
//! (reference/wire.md 1.4).
//!
//! Both nodes run this machine. It decides; the shell connects, accepts, looks at sockets and
//! closes them. One round is: ask [`Establish::next`] for a step, carry it out, report the outcome
//! with the method that the step names.

/// What one TCP stream of the connection carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stream {
    /// Parameters, application data, resync data.
    Data,
    /// Acknowledgements and pings.
    Meta,
}

/// What the shell does next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Step {
    /// Connect to the peer from the own address with any port, then call [`Establish::connected`].
    Connect,
    /// Wait `socket-check-timeout` (`ping-timeout` if that is 0), look at both sockets without
    /// reading, then call [`Establish::probed`].
    Probe,
    /// Accept one connection within `connect-int` minus (`shorter`) or plus one seventh, read its
    /// first packet within four times `ping-timeout`, then call [`Establish::accepted`].
    Accept {
        /// The wait is one seventh shorter than `connect-int` instead of longer.
        shorter: bool,
    },
    /// Both sockets stand; the machine has ended.
    Established {
        /// This node accepted the meta socket, so it resolves conflicts.
        resolver: bool,
    },
}

/// The first packet on an accepted socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FirstPacket {
    /// Nobody connected in time.
    Nobody,
    /// P_INITIAL_DATA or P_INITIAL_META.
    Initial(Stream),
    /// Anything else, or the read failed.
    Unusable,
}

/// What becomes of a socket that was just connected or accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Placement {
    /// Keep it for this stream and close the socket that was there before, if any.
    Keep(Stream),
    /// Close it.
    Close,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Active,
    /// Both slots may be full: look before going on with the phase named.
    Check(After),
    Passive,
    /// Connects have crossed: the coin decides between waiting again and connecting again.
    Backoff,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum After {
    Active,
    Passive,
}

/// The state of one attempt to establish a connection.
#[derive(Clone, Debug)]
pub struct Establish {
    phase: Phase,
    have_data: bool,
    have_meta: bool,
    resolver: bool,
}

impl Establish {
    /// Starts with no socket.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            phase: Phase::Active,
            have_data: false,
            have_meta: false,
            resolver: false,
        }
    }

    /// Returns the next step. `coin` is a random bit, drawn anew for every call.
    pub fn next(&mut self, coin: bool) -> Step {
        // At most three phases pass without a step: backoff, check, active or passive.
        loop {
            match self.phase {
                Phase::Active => return Step::Connect,
                Phase::Passive => return Step::Accept { shorter: coin },
                Phase::Backoff if coin => self.phase = Phase::Passive,
                Phase::Backoff => self.phase = Phase::Check(After::Active),
                Phase::Check(_) if self.have_data && self.have_meta => return Step::Probe,
                Phase::Check(After::Active) => self.phase = Phase::Active,
                Phase::Check(After::Passive) => self.phase = Phase::Passive,
            }
        }
    }

    /// Reports the outcome of [`Step::Connect`] and returns what the new socket is for.
    ///
    /// The shell sends the initial packet of that stream at once; if that fails it is as if the
    /// socket had died.
    pub fn connected(&mut self, success: bool) -> Placement {
        self.phase = Phase::Check(After::Passive);
        if !success {
            return Placement::Close;
        }
        if !self.have_data {
            self.have_data = true;
            Placement::Keep(Stream::Data)
        } else if !self.have_meta {
            self.have_meta = true;
            self.resolver = false;
            Placement::Keep(Stream::Meta)
        } else {
            Placement::Close
        }
    }

    /// Reports which sockets are alive after [`Step::Probe`]. The shell closes the dead ones.
    ///
    /// Returns [`Step::Established`] if both are.
    pub fn probed(&mut self, data_alive: bool, meta_alive: bool) -> Option<Step> {
        self.drop_dead(data_alive, meta_alive);
        if self.have_data && self.have_meta {
            return Some(Step::Established {
                resolver: self.resolver,
            });
        }
        self.phase = match self.phase {
            Phase::Check(After::Active) => Phase::Active,
            Phase::Active | Phase::Check(After::Passive) | Phase::Passive | Phase::Backoff => {
                Phase::Passive
            }
        };
        None
    }

    /// Reports the outcome of [`Step::Accept`], with a look at the sockets held so far, and
    /// returns what becomes of the accepted one.
    pub fn accepted(
        &mut self,
        first: FirstPacket,
        data_alive: bool,
        meta_alive: bool,
    ) -> Placement {
        let stream = match first {
            FirstPacket::Nobody => {
                self.phase = Phase::Check(After::Active);
                return Placement::Close;
            }
            FirstPacket::Unusable => {
                self.drop_dead(data_alive, meta_alive);
                self.phase = Phase::Backoff;
                return Placement::Close;
            }
            FirstPacket::Initial(stream) => stream,
        };
        self.drop_dead(data_alive, meta_alive);
        let slot = match stream {
            Stream::Data => &mut self.have_data,
            Stream::Meta => {
                self.resolver = true;
                &mut self.have_meta
            }
        };
        // The accepted socket wins over the one that this node connected itself.
        self.phase = if *slot {
            Phase::Backoff
        } else {
            Phase::Check(After::Active)
        };
        *slot = true;
        Placement::Keep(stream)
    }

    fn drop_dead(&mut self, data_alive: bool, meta_alive: bool) {
        self.have_data &= data_alive;
        self.have_meta &= meta_alive;
    }
}

impl Default for Establish {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two machines whose sockets are shared records: (owner of the connect, stream).
    struct Node {
        machine: Establish,
        data: Option<u32>,
        meta: Option<u32>,
        inbox: Vec<(u32, Stream)>,
        done: Option<bool>,
    }

    impl Node {
        fn new() -> Self {
            Self {
                machine: Establish::new(),
                data: None,
                meta: None,
                inbox: Vec::new(),
                done: None,
            }
        }

        fn keep(&mut self, stream: Stream, id: u32, closed: &mut Vec<u32>) {
            let slot = match stream {
                Stream::Data => &mut self.data,
                Stream::Meta => &mut self.meta,
            };
            if let Some(old) = slot.replace(id) {
                closed.push(old);
            }
        }

        fn alive(slot: &mut Option<u32>, closed: &[u32]) -> bool {
            if slot.is_some_and(|id| closed.contains(&id)) {
                *slot = None;
            }
            slot.is_some()
        }
    }

    struct Random(u64);

    impl Random {
        fn bit(&mut self) -> bool {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 >> 63 == 1
        }
    }

    fn turn(me: &mut Node, peer: &mut Node, next_id: &mut u32, closed: &mut Vec<u32>, coin: bool) {
        let step = me.machine.next(coin);
        let outcome = match step {
            Step::Connect => {
                // Nobody listens on a node that has both its sockets.
                let listening = peer.done.is_none();
                if let Placement::Keep(stream) = me.machine.connected(listening) {
                    *next_id += 1;
                    me.keep(stream, *next_id, closed);
                    peer.inbox.push((*next_id, stream));
                }
                None
            }
            Step::Probe => {
                let data = Node::alive(&mut me.data, closed);
                let meta = Node::alive(&mut me.meta, closed);
                me.machine.probed(data, meta)
            }
            Step::Accept { .. } => {
                let first = if me.inbox.is_empty() {
                    None
                } else {
                    Some(me.inbox.remove(0))
                };
                let data = Node::alive(&mut me.data, closed);
                let meta = Node::alive(&mut me.meta, closed);
                let packet = match first {
                    None => FirstPacket::Nobody,
                    Some((id, _)) if closed.contains(&id) => FirstPacket::Unusable,
                    Some((_, stream)) => FirstPacket::Initial(stream),
                };
                match (me.machine.accepted(packet, data, meta), first) {
                    (Placement::Keep(stream), Some((id, _))) => me.keep(stream, id, closed),
                    (Placement::Close, Some((id, _))) => closed.push(id),
                    (Placement::Keep(_) | Placement::Close, None) => {}
                }
                None
            }
            Step::Established { .. } => Some(step),
        };
        if let Some(Step::Established { resolver }) = outcome {
            // The listener is closed, and with it what nobody accepted.
            me.done = Some(resolver);
            closed.extend(me.inbox.drain(..).map(|(id, _)| id));
        }
    }

    /// Whatever the interleaving, both nodes end with the same two sockets and exactly one of
    /// them resolves conflicts.
    #[test]
    fn crossing_connects_end_with_one_resolver() {
        for seed in 1..2000_u64 {
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let (mut a, mut b) = (Node::new(), Node::new());
            let (mut next_id, mut closed) = (0, Vec::new());
            for _ in 0..10_000 {
                let coin = random.bit();
                if random.bit() {
                    if a.done.is_none() {
                        turn(&mut a, &mut b, &mut next_id, &mut closed, coin);
                    }
                } else if b.done.is_none() {
                    turn(&mut b, &mut a, &mut next_id, &mut closed, coin);
                }
                // A node that is done while its peer closes a socket starts over, as the
                // receiver does when the handshake fails.
                for node in [&mut a, &mut b] {
                    if node.done.is_some()
                        && !(Node::alive(&mut node.data, &closed)
                            && Node::alive(&mut node.meta, &closed))
                    {
                        closed.extend(node.data.take());
                        closed.extend(node.meta.take());
                        closed.extend(node.inbox.drain(..).map(|(id, _)| id));
                        *node = Node::new();
                    }
                }
                if a.done.is_some() && b.done.is_some() {
                    break;
                }
            }
            assert_eq!(a.data, b.data, "seed {seed}");
            assert_eq!(a.meta, b.meta, "seed {seed}");
            assert!(a.data.is_some() && a.meta.is_some(), "seed {seed}");
            assert_ne!(a.done, b.done, "seed {seed}");
            assert!(a.done.is_some() && b.done.is_some(), "seed {seed}");
        }
    }

    /// A failing connect leads to waiting for the peer, never to a busy loop of connects.
    #[test]
    fn a_refused_connect_is_followed_by_a_wait() {
        let mut machine = Establish::new();
        assert_eq!(machine.next(false), Step::Connect);
        assert_eq!(machine.connected(false), Placement::Close);
        assert_eq!(machine.next(true), Step::Accept { shorter: true });
        let _ = machine.accepted(FirstPacket::Nobody, false, false);
        assert_eq!(machine.next(false), Step::Connect);
    }
}
