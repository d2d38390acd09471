//! What the nodes say to each other, for checkers that hold them to their word.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use drbd_format::wire::command::Stream;
use drbd_format::wire::features::Terms;
use drbd_format::wire::packet::{decode_front, Packet};

use crate::disk::{BlockHasher, Disk};
use crate::node::VOLUMES;

/// A write that was sent to the peer.
#[derive(Clone, Copy, Debug)]
pub struct SentWrite {
    /// Which volume.
    pub volume: usize,
    /// First sector.
    pub sector: u64,
    /// Number of sectors.
    pub count: u64,
    /// Content of the first one; the next ones count up. 0 for all: a discard.
    pub value: u64,
    /// Its place among all that both nodes have sent.
    number: u64,
    /// How often the peer's disk was opened, and failed, when it was sent.
    disk: (u64, u64),
}

/// What one node has sent over its present connection.
#[derive(Debug, Default)]
struct Sent {
    writes: Vec<SentWrite>,
    /// Epochs whose barrier has been sent, by its number.
    closed: VecDeque<(u32, Vec<SentWrite>)>,
    /// Last write with a value, by what all values of a write have in common; last discard of a
    /// sector.
    newest: HashMap<u64, u64, BuildHasherDefault<BlockHasher>>,
    discards: HashMap<(usize, u64), u64>,
    /// Sectors of data sent, per volume.
    sectors: [u64; VOLUMES],
}

/// Both nodes.
#[derive(Debug, Default)]
pub struct Wire {
    sent: [Sent; 2],
    count: u64,
}

fn common(value: u64) -> u64 {
    value >> 12
}

fn health(disk: &Disk) -> (u64, u64) {
    (disk.openings, disk.failed_writes)
}

impl Wire {
    /// A node has a new connection.
    pub fn begin(&mut self, node: usize) {
        self.sent[node] = Sent::default();
    }

    /// Sectors of data that a node has sent over its present connection.
    pub fn sectors(&self, node: usize, volume: usize) -> u64 {
        self.sent[node].sectors[volume]
    }

    /// A node sends a packet on its data socket: its front, and of the data behind it the number
    /// of sectors and the content of the first one.
    pub fn says(
        &mut self,
        node: usize,
        terms: &Terms,
        front: &[u8],
        (data_len, first): (u64, u64),
        peer_disks: &[Disk],
    ) {
        let Ok(Some(received)) = decode_front(terms, Stream::Data, front) else {
            return;
        };
        let sent = &mut self.sent[node];
        let volume = usize::from(received.frame.volume());
        let write = match &received.packet {
            Packet::Data(packet) => Some((packet.sector.0, data_len, first)),
            Packet::Trim(trim) | Packet::Zeroes(trim) => {
                Some((trim.sector.0, u64::from(trim.len_bytes) / 512, 0))
            }
            Packet::Barrier(barrier) => {
                let writes = std::mem::take(&mut sent.writes);
                sent.closed.push_back((barrier.number, writes));
                None
            }
            _ => None,
        };
        sent.sectors[volume] += data_len;
        let Some((sector, count, value)) = write else {
            return;
        };
        self.count += 1;
        sent.writes.push(SentWrite {
            volume,
            sector,
            count,
            value,
            number: self.count,
            disk: peer_disks.get(volume).map_or((0, 0), health),
        });
        if value != 0 {
            sent.newest.insert(common(value), self.count);
        } else {
            let sectors = sector..sector + count;
            sent.discards
                .extend(sectors.map(|sector| ((volume, sector), self.count)));
        }
    }

    /// A node sends acks on its meta socket. Returns a write that a barrier ack calls stable and
    /// that is not on the medium of its disk, if that is in use.
    pub fn acknowledges(
        &mut self,
        node: usize,
        terms: &Terms,
        bytes: &[u8],
        disks: &[Disk],
        in_use: [bool; VOLUMES],
    ) -> Option<(u32, SentWrite)> {
        let mut rest = bytes;
        let mut unstable = None;
        while let Ok(Some(received)) = decode_front(terms, Stream::Meta, rest) {
            rest = received.rest;
            let sent = &mut self.sent[1 - node];
            let ack = match &received.packet {
                Packet::BarrierAck(ack) => ack,
                Packet::NegAck(ack) => {
                    sent.refused(usize::from(received.frame.volume()), ack.sector.0);
                    continue;
                }
                _ => continue,
            };
            let Some((number, writes)) = sent.closed.pop_front() else {
                continue;
            };
            if number != ack.number {
                continue;
            }
            let bad = writes.into_iter().find(|write| {
                let disk = disks.get(write.volume);
                in_use[write.volume] && disk.is_some_and(|disk| !self.is_stable(node, write, disk))
            });
            unstable = unstable.or(bad.map(|write| (number, write)));
        }
        unstable
    }

    /// A loss of power of the node would leave this write of the peer's, or a later one, where it
    /// was written. The ack may come late: then the node may have become Primary and have written
    /// and discarded itself.
    fn is_stable(&self, node: usize, write: &SentWrite, disk: &Disk) -> bool {
        // A disk that has failed meanwhile has other ways to say so.
        let same = write.disk == health(disk) && !disk.fail_writes;
        let later = |found: &u64| *found >= write.number;
        !same
            || (0..write.count).all(|at| {
                let sector = write.sector + at;
                match disk.stable(sector) {
                    0 => {
                        let at = (write.volume, sector);
                        let gone = |sent: &Sent| sent.discards.get(&at).is_some_and(later);
                        write.value == 0 || self.sent.iter().any(gone)
                    }
                    // Resync may have brought what was never sent as a write.
                    value => self.sent[1 - node]
                        .newest
                        .get(&common(value))
                        .map_or(common(value) > common(write.value), later),
                }
            })
    }
}

impl Sent {
    /// The peer's disk does not have this write, as the peer has said.
    fn refused(&mut self, volume: usize, sector: u64) {
        let closed = self.closed.iter_mut().map(|(_, writes)| writes);
        for writes in closed.chain([&mut self.writes]) {
            let is_it = |write: &SentWrite| write.volume == volume && write.sector == sector;
            if let Some(at) = writes.iter().position(is_it) {
                writes.remove(at);
                return;
            }
        }
    }
}
