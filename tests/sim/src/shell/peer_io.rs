//! Disk requests for the peer.

use drbd_core::data::PeerIo;
use drbd_core::link::VolumeIndex;
use drbd_core::peer_request::PeerId;
use drbd_core::request::Op;
use drbd_format::types::Protocol;

use crate::digest;
use crate::disk::{DiskOp, DiskRequest, DiskResult};
use crate::node::{Thread, Waiter};
use crate::world::World;

impl World {
    /// Starts everything that is ready.
    pub(crate) fn run_peer_io(&mut self, node: usize) {
        loop {
            let next = self.look(node, Thread::PeerIo, |alive, now| {
                let io = alive.core.next_peer_io(now)?;
                let pages = match io {
                    PeerIo::Write { id, .. } | PeerIo::Digest { id, .. } | PeerIo::Free { id } => {
                        alive.peer[id.slot as usize].take()
                    }
                    PeerIo::Read { .. } | PeerIo::Discard { .. } | PeerIo::Flush { .. } => None,
                };
                Some((io, pages))
            });
            let Some((io, pages)) = next else {
                return;
            };
            self.trace(node, || format!("peer io {io:?}"));
            self.check_zeroes(node, &io);
            self.check_target(node, &io);
            self.start_peer_io(node, io, pages);
        }
    }

    fn start_peer_io(&mut self, node: usize, io: PeerIo, pages: Option<Vec<u64>>) {
        let plain = |op, sector| DiskRequest {
            op,
            sector,
            preflush: false,
            data_first: false,
            fua: false,
        };
        match io {
            PeerIo::Read {
                id,
                volume,
                sector,
                len_bytes,
                ..
            } => {
                let count = u64::from(len_bytes) / 512;
                let request = plain(DiskOp::Read { count }, sector.0);
                self.peer_submit(node, volume, id, request);
            }
            PeerIo::Write {
                id,
                volume,
                sector,
                len_bytes,
                fua,
                preflush,
                ..
            } => {
                let pages = pages.unwrap_or_default();
                if pages.len() as u64 * 512 != u64::from(len_bytes) {
                    self.fail(format!("a write for the peer without its pages: {id:?}"));
                }
                let request = DiskRequest {
                    op: DiskOp::Write(pages),
                    sector: sector.0,
                    preflush,
                    data_first: false,
                    fua,
                };
                self.peer_submit(node, volume, id, request);
            }
            PeerIo::Discard {
                id,
                volume,
                sector,
                len_bytes,
                ..
            } => {
                let count = u64::from(len_bytes) / 512;
                self.peer_submit(node, volume, id, plain(DiskOp::Zero { count }, sector.0));
            }
            PeerIo::Flush { token, volume } => {
                if self.has_backing(node, volume) {
                    let request = plain(DiskOp::Flush, 0);
                    self.to_disk(node, volume, request, Waiter::Flush(token));
                } else {
                    self.with(node, |alive, now| alive.core.flush_done(token, false, now));
                }
            }
            PeerIo::Digest { id, .. } => {
                let digest = digest::of(pages.as_deref().unwrap_or_default());
                self.with(node, |alive, now| {
                    alive.peer[id.slot as usize] = pages;
                    alive.core.digest_ready(id, &digest, now);
                });
            }
            PeerIo::Free { .. } => {}
        }
    }

    /// Zeroes that are to be written, for which an application of the peer waits, deallocate
    /// nothing. In protocols A and B something older may still be carried out in that place.
    fn check_zeroes(&mut self, node: usize, io: &PeerIo) {
        let PeerIo::Discard {
            volume,
            sector,
            len_bytes,
            zero_out,
            may_unmap,
            ..
        } = *io
        else {
            return;
        };
        let place = (volume, sector.0, u64::from(len_bytes) / 512);
        let alive = self.nodes[1 - node].alive.as_ref();
        let bio = alive.and_then(|alive| {
            let net = alive.core.net_config()?;
            let mut bios = alive.bios().filter(|_| net.protocol == Protocol::C);
            bios.find(|bio| (bio.volume, bio.sector, bio.count) == place)
        });
        let writes = bio.is_some_and(|bio| bio.op == Op::WriteZeroes && !bio.may_unmap);
        if writes && (may_unmap || !zero_out) {
            self.fail(format!("zeroes at sector {} deallocate", sector.0));
        }
    }

    pub(crate) fn has_backing(&mut self, node: usize, volume: VolumeIndex) -> bool {
        self.alive(node)
            .is_some_and(|alive| alive.devices[volume.slot()].backing.is_some())
    }

    fn peer_submit(&mut self, node: usize, volume: VolumeIndex, id: PeerId, request: DiskRequest) {
        if self.has_backing(node, volume) {
            self.to_disk(node, volume, request, Waiter::Peer(id));
        } else {
            self.with(node, |alive, now| alive.core.peer_io_done(id, false, now));
        }
    }

    /// A disk request for the peer has ended.
    pub(crate) fn peer_disk_done(&mut self, node: usize, id: PeerId, result: DiskResult) {
        self.with(node, |alive, now| match result {
            DiskResult::Sectors(data) => {
                let zero = data.iter().all(|sector| *sector == 0);
                alive.peer[id.slot as usize] = Some(data);
                alive.core.peer_io_read(id, true, zero, now);
            }
            DiskResult::Failed => alive.core.peer_io_done(id, false, now),
            DiskResult::Block(_) | DiskResult::Done => alive.core.peer_io_done(id, true, now),
        });
    }
}
