//! The network between the two nodes: ordered byte streams that delay, fragment, stall, break and
//! stay half open.
//!
//! A stream behaves as TCP does towards its users: bytes arrive in order or not at all; while the
//! network is cut they wait for it to heal; an end that was closed, or whose node has rebooted,
//! answers what still arrives with a reset; a node that is down answers nothing.

use std::collections::VecDeque;

use crate::random::Random;

/// Pieces into which what is sent at once is broken, at most; what is behind them arrives at once.
const PIECES_MAX: usize = 4;

/// One end of a stream.
pub type EndId = usize;

/// What travels towards an end.
#[derive(Clone, Copy, Debug)]
enum Segment {
    Bytes(usize),
    Fin,
    Reset,
}

/// Whose end it is: the node and which of its lives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Owner {
    /// The node.
    pub node: usize,
    /// Incarnation of the node.
    pub life: u32,
}

#[derive(Debug)]
struct End {
    owner: Owner,
    other: EndId,
    /// What has arrived, and behind it what is still coming.
    bytes: VecDeque<u8>,
    arrived: usize,
    coming: VecDeque<(u64, Segment)>,
    last_arrival_ns: u64,
    eof: bool,
    reset: bool,
    closed: bool,
    /// Somebody listened when it was opened.
    accepted: bool,
    stalled_until_ns: u64,
}

/// Outcome of a read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Received {
    /// Some bytes.
    Bytes,
    /// The stream has ended or broken.
    Ended,
    /// Nothing yet.
    Nothing,
}

/// How the network treats its traffic.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    /// Shortest time under way.
    pub delay_min_ns: u64,
    /// Longest time under way.
    pub delay_max_ns: u64,
    /// Largest piece that arrives at once.
    pub fragment_max: u64,
    /// Bytes that a stream holds before its writer has to wait.
    pub buffer_bytes: usize,
}

/// The network.
#[derive(Debug)]
pub struct Network {
    ends: Vec<End>,
    /// Ends that nobody has accepted yet, per node; `None`: nobody listens.
    pub backlog: [Option<VecDeque<EndId>>; 2],
    /// Nothing gets through.
    pub cut: bool,
    /// Delays and sizes.
    pub quality: Quality,
    lives: [Option<u32>; 2],
    /// When the last stall ends.
    stalled_until_ns: u64,
}

impl Network {
    /// A network without streams.
    pub fn new(quality: Quality) -> Self {
        Self {
            ends: Vec::new(),
            backlog: [None, None],
            cut: false,
            quality,
            lives: [None, None],
            stalled_until_ns: 0,
        }
    }

    /// A node is up with this incarnation, or down.
    pub fn set_life(&mut self, node: usize, life: Option<u32>) {
        self.lives[node] = life;
        self.backlog[node] = None;
    }

    /// Draws the time that a packet is under way.
    pub fn delay_ns(&self, random: &mut Random) -> u64 {
        let q = &self.quality;
        random.between(q.delay_min_ns, q.delay_max_ns)
    }

    /// Opens a stream between two live nodes; returns the caller's end and the other.
    pub fn open(&mut self, from: Owner, to: usize) -> Option<(EndId, EndId)> {
        let to = Owner {
            node: to,
            life: self.lives[to]?,
        };
        let first = self.ends.len();
        for (owner, other) in [(from, first + 1), (to, first)] {
            self.ends.push(End {
                owner,
                other,
                bytes: VecDeque::new(),
                arrived: 0,
                coming: VecDeque::new(),
                last_arrival_ns: 0,
                eof: false,
                reset: false,
                closed: false,
                accepted: false,
                stalled_until_ns: 0,
            });
        }
        Some((first, first + 1))
    }

    /// Whose end it is.
    pub fn owner(&self, end: EndId) -> Owner {
        self.ends[end].owner
    }

    /// The end on the other side.
    pub fn other(&self, end: EndId) -> EndId {
        self.ends[end].other
    }

    /// Somebody has accepted the stream.
    pub fn accept(&mut self, end: EndId) {
        let other = self.other(end);
        self.ends[end].accepted = true;
        self.ends[other].accepted = true;
    }

    /// Tells whether an end was accepted and has been neither closed nor reset.
    pub fn is_open(&self, end: EndId) -> bool {
        self.ends[end].accepted && !self.is_broken(end)
    }

    /// Room in the stream that starts at `end`, in bytes.
    pub fn room(&self, end: EndId) -> usize {
        let to = &self.ends[self.ends[end].other];
        self.quality.buffer_bytes.saturating_sub(to.bytes.len())
    }

    /// Tells whether writing to `end` fails.
    pub fn is_broken(&self, end: EndId) -> bool {
        self.ends[end].closed || self.ends[end].reset
    }

    /// Sends what there is room for; returns how much, and tells `arrives` when each piece arrives
    /// at the other end. `None`: the stream is broken.
    pub fn send(
        &mut self,
        end: EndId,
        bytes: &[u8],
        now_ns: u64,
        random: &mut Random,
        mut arrives: impl FnMut(u64),
    ) -> Option<usize> {
        if self.is_broken(end) {
            return None;
        }
        let taken = bytes.len().min(self.room(end));
        let to = self.ends[end].other;
        self.ends[to].bytes.extend(&bytes[..taken]);
        let mut pieces = 0;
        let mut rest = taken;
        while rest > 0 {
            let piece = if pieces < PIECES_MAX {
                (random.between(1, self.quality.fragment_max) as usize).min(rest)
            } else {
                rest
            };
            pieces += 1;
            rest -= piece;
            let delay = self.delay_ns(random);
            arrives(self.put(to, Segment::Bytes(piece), now_ns + delay));
        }
        Some(taken)
    }

    fn put(&mut self, to: EndId, segment: Segment, at_ns: u64) -> u64 {
        let end = &mut self.ends[to];
        let at_ns = at_ns.max(end.last_arrival_ns);
        end.last_arrival_ns = at_ns;
        end.coming.push_back((at_ns, segment));
        at_ns
    }

    /// Closes an end; returns when the other end learns of it.
    pub fn close(&mut self, end: EndId, now_ns: u64, random: &mut Random) -> Option<u64> {
        if std::mem::replace(&mut self.ends[end].closed, true) {
            return None;
        }
        let delay = self.delay_ns(random);
        let to = self.ends[end].other;
        Some(self.put(to, Segment::Fin, now_ns + delay))
    }

    /// Lets one stream rest until a point in time. Returns that point.
    pub fn stall(&mut self, end: EndId, until_ns: u64) {
        self.ends[end].stalled_until_ns = until_ns;
        self.stalled_until_ns = self.stalled_until_ns.max(until_ns);
    }

    /// Tells whether something may be on its way for longer than the network takes.
    pub fn is_disturbed(&self, now_ns: u64) -> bool {
        self.cut || self.stalled_until_ns > now_ns
    }

    /// All ends, to be looked at again after the network has healed.
    pub fn all_ends(&self) -> std::ops::Range<EndId> {
        0..self.ends.len()
    }

    /// Hands over what has arrived at `end` by now.
    ///
    /// Returns whether its owner should look, and when to come back for the rest of what stalls.
    /// A reset for the other end is sent if the owner is gone.
    pub fn deliver(&mut self, end: EndId, now_ns: u64, random: &mut Random) -> Delivery {
        let mut delivery = Delivery::default();
        if self.cut {
            return delivery;
        }
        let owner = self.ends[end].owner;
        let here = self.lives[owner.node];
        if self.ends[end].stalled_until_ns > now_ns {
            delivery.again_at_ns = Some(self.ends[end].stalled_until_ns);
            return delivery;
        }
        while let Some((at, _)) = self.ends[end].coming.front() {
            if *at > now_ns {
                break;
            }
            let Some(life) = here else {
                // Nobody answers: what was sent is sent again until somebody does.
                break;
            };
            let Some((_, segment)) = self.ends[end].coming.pop_front() else {
                break;
            };
            if life != owner.life || self.ends[end].closed {
                // A reset is never answered: two dead ends would go on for ever.
                let answers = match segment {
                    Segment::Bytes(len) => {
                        // Nobody reads here any more: it does not matter which ones go.
                        self.ends[end].bytes.drain(..len);
                        true
                    }
                    Segment::Fin => life != owner.life,
                    Segment::Reset => false,
                };
                if answers {
                    let delay = self.delay_ns(random);
                    let other = self.ends[end].other;
                    if !self.ends[other].reset {
                        let at = self.put(other, Segment::Reset, now_ns + delay);
                        delivery.reset_at_ns = Some((other, at));
                    }
                }
                continue;
            }
            delivery.arrived = true;
            let end = &mut self.ends[end];
            match segment {
                Segment::Bytes(len) => end.arrived += len,
                Segment::Fin => {
                    end.eof = true;
                    delivery.ended = true;
                }
                Segment::Reset => {
                    end.reset = true;
                    delivery.ended = true;
                    end.bytes.drain(..std::mem::take(&mut end.arrived));
                }
            }
        }
        delivery
    }

    /// Reads at most `most` bytes and appends them to `to`. The stream then has room for more.
    pub fn receive(&mut self, end: EndId, most: usize, to: &mut Vec<u8>) -> Received {
        let end = &mut self.ends[end];
        if end.reset || end.closed {
            return Received::Ended;
        }
        if end.arrived == 0 {
            return if end.eof {
                Received::Ended
            } else {
                Received::Nothing
            };
        }
        let len = most.min(end.arrived);
        let (first, second) = end.bytes.as_slices();
        let in_first = len.min(first.len());
        to.extend_from_slice(&first[..in_first]);
        to.extend_from_slice(&second[..len - in_first]);
        end.bytes.drain(..len);
        end.arrived -= len;
        Received::Bytes
    }

    /// Tells whether more than what has arrived may still come.
    pub fn is_open_for_more(&self, end: EndId) -> bool {
        let end = &self.ends[end];
        !end.reset && !end.closed && !end.eof
    }

    /// Number of bytes that can be read.
    pub fn readable(&self, end: EndId) -> usize {
        self.ends[end].arrived
    }

    /// Looks at an end without reading: as far as this node can see, is the stream alive?
    pub fn is_alive(&self, end: EndId) -> bool {
        let end = &self.ends[end];
        !(end.reset || end.closed || (end.eof && end.arrived == 0))
    }
}

/// Outcome of [`Network::deliver`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Delivery {
    /// The owner of the end should look.
    pub arrived: bool,
    /// The stream has ended or broken.
    pub ended: bool,
    /// Come back at this time.
    pub again_at_ns: Option<u64>,
    /// A reset reaches that end at that time.
    pub reset_at_ns: Option<(EndId, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> (Network, Random) {
        let quality = Quality {
            delay_min_ns: 10,
            delay_max_ns: 100,
            fragment_max: 7,
            buffer_bytes: 1000,
        };
        let mut network = Network::new(quality);
        network.set_life(0, Some(1));
        network.set_life(1, Some(1));
        (network, Random::new(3))
    }

    const A: Owner = Owner { node: 0, life: 1 };

    #[test]
    fn bytes_arrive_in_order_in_pieces_and_never_when_the_network_is_cut() {
        let (mut network, mut random) = network();
        let (a, b) = network.open(A, 1).unwrap();
        let sent: Vec<u8> = (0..200).collect();
        let mut pieces = 0;
        let taken = network.send(a, &sent, 0, &mut random, |_| pieces += 1);
        assert_eq!(taken, Some(200));
        assert!(pieces > PIECES_MAX);
        network.cut = true;
        assert!(!network.deliver(b, 10_000, &mut random).arrived);
        network.cut = false;
        assert!(network.deliver(b, 10_000, &mut random).arrived);
        let mut got = Vec::new();
        assert_eq!(network.receive(b, 500, &mut got), Received::Bytes);
        assert_eq!(got, sent);
    }

    #[test]
    fn a_rebooted_node_resets_and_a_dead_one_says_nothing() {
        let (mut network, mut random) = network();
        let (a, b) = network.open(A, 1).unwrap();
        network.set_life(1, None);
        let _ = network.send(a, b"hello", 0, &mut random, |_| ());
        assert!(network.deliver(b, 1000, &mut random).reset_at_ns.is_none());
        assert!(network.is_alive(a));
        network.set_life(1, Some(2));
        let reset = network.deliver(b, 2000, &mut random).reset_at_ns;
        assert_eq!(reset.map(|(end, _)| end), Some(a));
        network.deliver(a, 9000, &mut random);
        assert!(!network.is_alive(a));
    }

    #[test]
    fn two_dead_ends_do_not_go_on_resetting_each_other() {
        let (mut network, mut random) = network();
        let (a, b) = network.open(A, 1).unwrap();
        let _ = network.send(a, b"hello", 0, &mut random, |_| ());
        network.set_life(0, Some(2));
        network.set_life(1, Some(2));
        let first = network.deliver(b, 1000, &mut random).reset_at_ns;
        assert_eq!(first.map(|(end, _)| end), Some(a));
        assert_eq!(network.deliver(a, 9000, &mut random).reset_at_ns, None);
    }
}
