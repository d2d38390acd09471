//! The simulated shell: does what the kernel module does, in the same order.
//!
//! Each thread of the module is a state machine here: its bell rings, it runs until it would wait,
//! and keeps what it is in the middle of in [`crate::node::Alive`].

mod attach;
mod connect;
mod control;
mod peer_io;
mod receive;
mod rewrite;
mod send;
mod submit;
mod target;
mod worker;

use drbd_core::input::Input;
use drbd_core::link::{LinkError, VolumeIndex};
use drbd_core::request::{Op, RequestId};

use crate::disk::{DiskRequest, DiskResult};
use crate::features::Feature;
use crate::network::EndId;
use crate::node::{Thread, Waiter};
use crate::oracle::Promise;
use crate::world::{Event, World};

pub use attach::{
    apply_activity_log, create_metadata, generation_on_disk, is_later, marks_on_disk, CreateAs,
    Marks,
};

impl World {
    /// Runs a thread of a node.
    pub fn run(&mut self, node: usize, thread: Thread) {
        let Some(alive) = self.alive(node) else {
            return;
        };
        alive.bells[thread.bell()] = false;
        self.touched[node] = true;
        match thread {
            Thread::Control => self.run_control(node),
            Thread::Sender => self.run_sender(node),
            Thread::Acks => self.run_acks(node),
            Thread::MetaIn => self.run_meta_in(node),
            Thread::Receiver => self.run_receiver(node),
            Thread::PeerIo => self.run_peer_io(node),
            Thread::Submitters => self.run_submitters(node),
            Thread::Volume(volume) => self.run_worker(node, VolumeIndex(volume)),
        }
    }

    /// Gives a request to the disk of a volume.
    pub fn to_disk(
        &mut self,
        node: usize,
        volume: VolumeIndex,
        request: DiskRequest,
        waiter: Waiter,
    ) {
        let (low, high) = self.disk_latency_ns;
        let delay = self.random.between(low, high);
        let life = self.nodes[node].life;
        let request = self.nodes[node].disks[volume.slot()].begin(request);
        if !matches!(waiter, Waiter::Thread(_)) {
            if let Some(alive) = self.alive(node) {
                alive.devices[volume.slot()].in_flight += 1;
            }
        }
        self.after(
            delay,
            Event::Disk {
                node,
                life,
                volume: volume.0,
                request,
                waiter,
            },
        );
    }

    /// A request of the disk has ended.
    pub fn disk_done(&mut self, node: usize, volume: VolumeIndex, request: u64, waiter: Waiter) {
        self.touched[node] = true;
        if matches!(waiter, Waiter::Peer(_)) && self.witness.went_back.is_none() {
            let text = self.goes_back(node, volume, request);
            self.witness.went_back = text.map(|text| (node, volume, text));
        }
        let disk = &mut self.nodes[node].disks[volume.slot()];
        // A discard that fails on the Primary's own disk only costs it no disk (`reference/io.md`
        // 1.10): the blocks differ and are marked, and nobody syncs them while the nodes stay
        // together. As no check could hold then, such a discard does not fail here.
        let spared = match waiter {
            Waiter::App(id) => disk.is_discard(request) && !self.is_zeroing(node, id),
            Waiter::Peer(_) | Waiter::Flush(_) | Waiter::Thread(_) => false,
        };
        let stays = self.features.has(Feature::PassOn) && !matches!(waiter, Waiter::Thread(_));
        let reads = self.nodes[node].disks[volume.slot()].is_read(request);
        let works = stays && !self.may_fail_and_stay(node, volume, reads);
        let disk = &mut self.nodes[node].disks[volume.slot()];
        let fails = [disk.fail_writes, disk.fail_reads, disk.fail_flushes];
        disk.fail_writes &= !(spared || works);
        disk.fail_reads &= !works;
        disk.fail_flushes &= !works;
        let result = disk.complete(request);
        [disk.fail_writes, disk.fail_reads, disk.fail_flushes] = fails;
        let Some(result) = result else {
            return;
        };
        let ok = !matches!(result, DiskResult::Failed);
        match waiter {
            Waiter::App(id) => {
                self.activity[node].counts[2] += 1;
                self.with(node, |alive, now| {
                    if let (DiskResult::Sectors(data), Some(Some(bio))) =
                        (result, alive.app.get_mut(id.slot as usize))
                    {
                        bio.data = data;
                    }
                    alive.core.local_done(id, ok, now);
                });
            }
            Waiter::Peer(id) => self.peer_disk_done(node, id, result),
            Waiter::Flush(token) => {
                self.with(node, |alive, now| alive.core.flush_done(token, ok, now));
            }
            Waiter::Thread(thread) => {
                self.thread_disk_done(node, thread, result);
                return;
            }
        }
        self.put_bio(node, volume);
        self.barrier_may_be_over(node);
    }

    /// Tells whether an application asked for zeroes, which are data like others.
    fn is_zeroing(&self, node: usize, id: RequestId) -> bool {
        let alive = self.nodes[node].alive.as_ref();
        let bio = alive.and_then(|alive| alive.app.get(id.slot as usize)?.as_ref());
        bio.is_some_and(|bio| bio.op == Op::WriteZeroes)
    }

    /// The receiver of a node with the C driver looks whether it may go on.
    fn barrier_may_be_over(&mut self, node: usize) {
        if self.alive(node).is_some_and(|alive| alive.at_barrier) {
            self.ring(node, Thread::Receiver);
        }
    }

    /// Tells whether an application still waits for a write of this value: writes to one place that
    /// are under way at the same time come in any order.
    fn is_under_way(&self, node: usize, volume: VolumeIndex, sector: u64, value: u64) -> bool {
        let alive = self.nodes[node].alive.as_ref();
        let bios = alive
            .into_iter()
            .flat_map(|alive| alive.app.iter().flatten());
        bios.filter(|bio| bio.volume == volume && bio.op.is_write())
            .filter_map(|bio| {
                let at = usize::try_from(sector.checked_sub(bio.sector)?).ok()?;
                bio.data.get(at)
            })
            .any(|data| *data == value)
    }

    /// Tells whether a write for the peer brings back old data.
    fn goes_back(&self, node: usize, volume: VolumeIndex, request: u64) -> Option<String> {
        let disk = &self.nodes[node].disks[volume.slot()];
        let (first, values) = disk.write_begun(request)?;
        let source = self.oracle.promises[volume.slot()][1 - node];
        let flushed = source != Promise::Everything;
        let found = (first..).zip(values).find(|(sector, new)| {
            let old = disk.live.get(*sector);
            old != **new
                && self
                    .oracle
                    .goes_back(volume.slot(), *sector, old, **new, flushed)
                && !self.is_under_way(1 - node, volume, *sector, **new)
        });
        let (sector, new) = found?;
        let old = disk.live.get(sector);
        Some(format!(
            "volume {} sector {sector} held {old:#x}, gets {new:#x}",
            volume.0
        ))
    }

    /// A request of the disk has ended: whoever waits for the last one may go on.
    fn put_bio(&mut self, node: usize, volume: VolumeIndex) {
        let Some(alive) = self.alive(node) else {
            return;
        };
        let device = &mut alive.devices[volume.slot()];
        device.in_flight -= 1;
        if device.in_flight == 0 {
            self.ring(node, Thread::Control);
        }
    }

    fn thread_disk_done(&mut self, node: usize, thread: Thread, result: DiskResult) {
        match thread {
            Thread::Volume(volume) => {
                let ok = !matches!(result, DiskResult::Failed);
                self.worker_disk_done(node, VolumeIndex(volume), ok);
            }
            _ => self.control_disk_done(node, result),
        }
    }

    /// The buffer for superblock and bitmap is free again.
    fn unlock_metadata(&mut self, node: usize, volume: VolumeIndex) {
        if let Some(alive) = self.alive(node) {
            alive.devices[volume.slot()].metadata_locked = false;
        }
        self.ring(node, Thread::Control);
        self.ring(node, Thread::Volume(volume.0));
    }

    /// Reports the loss of the link, once, and closes it.
    pub(crate) fn link_lost(&mut self, node: usize, error: LinkError) {
        let closing = self
            .alive(node)
            .and_then(|alive| alive.link)
            .is_none_or(|link| link.closing);
        if !closing {
            self.trace(node, || format!("link lost: {error:?}"));
            self.handle(node, &Input::LinkLost(error));
        }
        self.close_link(node);
    }

    /// Shuts both sockets down and wakes everybody who uses them.
    pub(crate) fn close_link(&mut self, node: usize) {
        let Some(alive) = self.alive(node) else {
            return;
        };
        let Some(link) = alive.link.as_mut().filter(|link| !link.closing) else {
            return;
        };
        link.closing = true;
        let (data, meta) = (link.data, link.meta);
        self.close_end(data);
        self.close_end(meta);
        for thread in [
            Thread::Sender,
            Thread::Acks,
            Thread::MetaIn,
            Thread::Receiver,
        ] {
            self.ring(node, thread);
        }
    }

    /// Closes one end of a stream.
    pub(crate) fn close_end(&mut self, end: EndId) {
        if let Some(at) = self.net.close(end, self.now_ns, &mut self.random) {
            let other = self.net.other(end);
            self.heap.push(at, Event::Arrive(other));
        }
    }

    /// Sends what waits for one of the sockets; returns how much was taken, `None` if the stream
    /// is broken.
    fn send_bytes(&mut self, node: usize, end: EndId, meta: bool) -> Option<usize> {
        let alive = self.nodes[node].alive.as_deref()?;
        let waiting = if meta {
            &alive.acks.bytes
        } else {
            &alive.batch.bytes
        };
        let other = self.net.other(end);
        let arrives = |at| self.heap.push(at, Event::Arrive(other));
        let (bytes, now_ns) = (waiting.rest(), self.now_ns);
        self.net.send(end, bytes, now_ns, &mut self.random, arrives)
    }

    /// Sends a first packet, for which every new stream has room.
    fn send_first(&mut self, end: EndId, bytes: &[u8]) {
        let other = self.net.other(end);
        let arrives = |at| self.heap.push(at, Event::Arrive(other));
        let random = &mut self.random;
        self.net.send(end, bytes, self.now_ns, random, arrives);
    }

    /// Something has reached an end of a stream.
    pub fn arrive(&mut self, end: EndId) {
        let delivery = self.net.deliver(end, self.now_ns, &mut self.random);
        if let Some(at) = delivery.again_at_ns {
            self.heap.push(at, Event::Arrive(end));
        }
        if let Some((end, at)) = delivery.reset_at_ns {
            self.heap.push(at, Event::Arrive(end));
        }
        let owner = self.net.owner(end);
        if !delivery.arrived || !self.is_current(owner.node, owner.life) {
            return;
        }
        let link = self.alive(owner.node).and_then(|alive| alive.link);
        let readers: &[Thread] = match link {
            // Whoever uses the link learns of its end.
            Some(_) if delivery.ended => &[
                Thread::Receiver,
                Thread::MetaIn,
                Thread::Sender,
                Thread::Acks,
            ],
            Some(link) if link.meta == end => &[Thread::MetaIn],
            Some(_) | None => &[Thread::Receiver],
        };
        for thread in readers {
            self.ring(owner.node, *thread);
        }
    }

    /// A reader has made room in a stream: its writer may go on, once it is worth it.
    pub(crate) fn room_made(&mut self, end: EndId) {
        let other = self.net.other(end);
        if self.net.room(other) < self.net.quality.buffer_bytes / 3 {
            return;
        }
        let owner = self.net.owner(other);
        if !self.is_current(owner.node, owner.life) {
            return;
        }
        let Some(alive) = self.alive(owner.node) else {
            return;
        };
        let waits = match alive.link {
            Some(link) if link.data == other && !alive.batch.bytes.is_empty() => Thread::Sender,
            Some(link) if link.meta == other && !alive.acks.bytes.is_empty() => Thread::Acks,
            Some(_) | None => return,
        };
        self.ring(owner.node, waits);
    }
}
