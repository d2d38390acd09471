//! The worker of a volume: requests to be submitted again, activity log, parked requests.

use std::rc::Rc;

use drbd_core::data::AlStep;
use drbd_core::link::VolumeIndex;
use drbd_format::units::BitmapPage;

use super::submit::Taken;
use crate::digest;
use crate::disk::{Block, DiskOp, DiskRequest};
use crate::node::{Thread, Waiter, Worker};
use crate::world::World;

impl World {
    /// Runs until it waits for a disk, for the buffer or for its bell.
    pub(crate) fn run_worker(&mut self, node: usize, volume: VolumeIndex) {
        loop {
            let Some(worker) = self.take_worker(node, volume) else {
                return;
            };
            match worker {
                Worker::Ready => {}
                Worker::BitmapPageLock(page) => {
                    if !self.write_bitmap_page(node, volume, page, Thread::Volume(volume.0)) {
                        self.set_worker(node, volume, Worker::BitmapPageLock(page));
                    }
                    return;
                }
                busy @ (Worker::BitmapPage(_) | Worker::Transaction) => {
                    self.set_worker(node, volume, busy);
                    return;
                }
            }
            while self.reissue_one(node, volume) {}
            if self.advance_log(node, volume) {
                return;
            }
            let Some(Some((id, local))) =
                self.with(node, |alive, now| alive.core.next_ready(volume, now))
            else {
                return;
            };
            self.start_local(node, volume, id, local);
        }
    }

    fn take_worker(&mut self, node: usize, volume: VolumeIndex) -> Option<Worker> {
        let alive = self.alive(node)?;
        Some(std::mem::take(&mut alive.devices[volume.slot()].worker))
    }

    fn set_worker(&mut self, node: usize, volume: VolumeIndex, worker: Worker) {
        if let Some(alive) = self.alive(node) {
            alive.devices[volume.slot()].worker = worker;
        }
    }

    /// Submits one request again; false if there is none or the core does not take it yet. The
    /// worker never waits with it: others wait for the worker.
    fn reissue_one(&mut self, node: usize, volume: VolumeIndex) -> bool {
        let Some(alive) = self.alive(node) else {
            return false;
        };
        let at = alive.reissue.iter().position(|bio| bio.volume == volume);
        let Some(bio) = at.and_then(|at| alive.reissue.remove(at)) else {
            return false;
        };
        if let Taken::No(bio) = self.resubmit(node, bio) {
            if let Some(alive) = self.alive(node) {
                alive.reissue.push_front(bio);
            }
            return false;
        }
        true
    }

    /// Takes the activity log a step further. Returns whether the worker waits for a disk now.
    fn advance_log(&mut self, node: usize, volume: VolumeIndex) -> bool {
        if !self.has_backing(node, volume) {
            return false;
        }
        // The core fills all of it, if any.
        let mut block = std::mem::take(&mut self.scratch);
        let step = block.first_chunk_mut().and_then(|block| {
            self.with(node, |alive, now| {
                alive.core.al_next(volume, block, digest::transaction, now)
            })
        });
        let written: Option<Block> = match step {
            Some(AlStep::WriteTransaction { .. }) => block.first_chunk().copied().map(Rc::new),
            _ => None,
        };
        self.scratch = block;
        match step {
            None | Some(AlStep::Idle) => false,
            Some(AlStep::WriteBitmapPage { page }) => {
                if !self.write_bitmap_page(node, volume, page, Thread::Volume(volume.0)) {
                    self.set_worker(node, volume, Worker::BitmapPageLock(page));
                }
                true
            }
            Some(AlStep::WriteTransaction { md_sector, flush }) => {
                self.trace(node, || {
                    format!("{volume:?} transaction at {}", md_sector.0)
                });
                self.set_worker(node, volume, Worker::Transaction);
                let waiter = Waiter::Thread(Thread::Volume(volume.0));
                let block = written.unwrap_or_else(|| Rc::new([0; 4096]));
                // Extents that leave the log must have their data on the disk.
                let request = DiskRequest::block(md_sector.0, block, flush, flush);
                self.to_disk(node, volume, request, waiter);
                true
            }
        }
    }

    /// Begins to write a page of the bitmap. False: the buffer is in use.
    pub(crate) fn write_bitmap_page(
        &mut self,
        node: usize,
        volume: VolumeIndex,
        page: u32,
        thread: Thread,
    ) -> bool {
        let Some(alive) = self.alive(node) else {
            return true;
        };
        let device = &mut alive.devices[volume.slot()];
        let layout = device.backing.map(|backing| backing.layout);
        if device.metadata_locked {
            return false;
        }
        let place = layout.and_then(|layout| layout.bitmap_page(BitmapPage(page.into())));
        let Some((sector, _)) = place else {
            self.with(node, |alive, now| {
                alive.core.bitmap_page_written(volume, page, false, now);
            });
            return true;
        };
        device.metadata_locked = true;
        let mut block = [0; 4096];
        let flush = self.with(node, |alive, _| {
            alive.core.bitmap_page(volume, page, &mut block)
        });
        if matches!(thread, Thread::Volume(_)) {
            self.set_worker(node, volume, Worker::BitmapPage(page));
        }
        self.trace(node, || format!("{volume:?} writes bitmap page {page}"));
        let waiter = Waiter::Thread(thread);
        let request = DiskRequest {
            op: DiskOp::WriteBlock(Rc::new(block)),
            sector: sector.0,
            preflush: flush == Some(true),
            data_first: flush == Some(true),
            fua: false,
        };
        self.to_disk(node, volume, request, waiter);
        true
    }

    /// The disk has done what the worker waited for.
    pub(crate) fn worker_disk_done(&mut self, node: usize, volume: VolumeIndex, ok: bool) {
        match self.take_worker(node, volume) {
            Some(Worker::Transaction) => {
                self.nodes[node].disks[volume.slot()].transactions += 1;
                self.with(node, |alive, now| alive.core.al_written(volume, ok, now));
            }
            Some(Worker::BitmapPage(page)) => {
                self.nodes[node].disks[volume.slot()].pages_for_log += 1;
                self.unlock_metadata(node, volume);
                self.with(node, |alive, now| {
                    alive.core.bitmap_page_written(volume, page, ok, now);
                });
            }
            Some(other) => self.set_worker(node, volume, other),
            None => {}
        }
        self.ring(node, Thread::Volume(volume.0));
        self.ring(node, Thread::Control);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Cluster;
    use crate::faults::Faults;
    use crate::node::Bio;
    use crate::world::SECOND;
    use drbd_core::request::Op;

    fn bio(tag: u64, op: Op, sector: u64) -> Bio {
        Bio {
            tag,
            volume: VolumeIndex(0),
            op,
            sector,
            count: 8,
            data: vec![tag; 8],
            fua: false,
            preflush: false,
            may_unmap: true,
        }
    }

    /// A read that failed locally is submitted again by the worker while as many writes as
    /// `max-buffers` allows wait for the activity log, which only the worker can advance.
    #[test]
    fn a_request_that_must_wait_does_not_hold_up_what_it_waits_for() {
        let mut faults = Faults::none();
        faults.max_buffers = 32;
        let mut cluster = Cluster::new(1, faults);
        cluster.run(1);
        cluster.run_until_idle(60 * SECOND);
        let node = cluster.holder;
        for write in 0..32 {
            let sector = 8192 + 8 * write;
            cluster
                .world
                .submit_bio(node, bio(1 << 40 | write, Op::Write, sector));
        }
        let alive = cluster.world.alive(node).expect("power");
        assert_eq!(alive.core.counters(VolumeIndex(0)).local, 0, "all wait");
        alive.reissue.push_back(bio(1 << 41, Op::Read, 0));
        cluster.world.ring(node, Thread::Volume(0));
        cluster.run_for(10 * SECOND);
        assert_eq!(cluster.world.failure, None);
        let alive = cluster.world.alive(node).expect("power");
        assert!(alive.reissue.is_empty(), "submitted in the end");
        assert!(cluster.is_quiet(), "{}", cluster.describe());
    }
}
