//! Questions to a resource, and methods that concern the data plane alone: forward, then settle.

use super::{ControlMemory, Resource};
use crate::action::HmacJob;
use crate::config::{NetConfig, ResourceConfig};
use crate::control::{ControlState, Disk};
use crate::data::{
    AlStep, AppIo, Counters, DataPlane, DiskMemory, Done, FlushToken, LocalPart, PeerIo, Submit,
};
use crate::link::VolumeIndex;
use crate::memory::Memory;
use crate::peer_request::PeerId;
use crate::request::RequestId;
use crate::time::Instant;

/// Methods that concern the data plane alone.
impl<M: Memory> Resource<M> {
    /// As [`Resource::new`], from the memory of the data plane: one large value less on the stack.
    #[inline]
    pub fn compose(
        seed: [u64; 2],
        config: ResourceConfig,
        memory: ControlMemory<M>,
        requests: M::Requests,
        peers: M::PeerRequests,
        volumes: M::Volumes,
    ) -> Self {
        Self {
            state: ControlState::new(seed, config),
            memory,
            data: DataPlane::new(requests, peers, volumes),
            frame: None,
            acks_wanted: false,
            receiver_wanted: false,
        }
    }

    /// Copies key and message of a digest that the shell has to compute; returns their lengths.
    pub fn hmac_input(
        &self,
        job: HmacJob,
        key: &mut [u8; 64],
        message: &mut [u8; 128],
    ) -> (usize, usize) {
        let secret = self.state.core.net.map(|net| net.shared_secret);
        let copy = |to: &mut [u8], from: &[u8]| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            from.len().min(to.len())
        };
        let key_len = secret.map_or(0, |secret| copy(key, secret.as_bytes()));
        (
            key_len,
            copy(message, self.state.core.link.hmac_message(job)),
        )
    }

    /// The network configuration in force.
    pub fn net_config(&self) -> Option<&NetConfig> {
        self.state.core.net.as_ref()
    }

    /// How long the disk of a volume may take for metadata, from `disk-timeout`; `None`: for ever.
    pub fn disk_timeout_ms(&self, volume: VolumeIndex) -> Option<u32> {
        let tenths = self.data.disk_timeout_tenths(volume);
        (tenths != 0).then(|| tenths.saturating_mul(100))
    }

    /// Numbers that users see.
    pub fn counters(&self, volume: VolumeIndex) -> Counters {
        self.data.counters(volume)
    }

    /// See [`DataPlane::bit_is_set`].
    pub fn bit_is_set(&self, volume: VolumeIndex, bit: u64) -> bool {
        self.data.bit_is_set(volume, bit)
    }

    /// See [`DataPlane::extent_is_used`].
    pub fn extent_is_used(&self, volume: VolumeIndex, extent: u32) -> bool {
        self.data.extent_is_used(volume, extent)
    }

    /// See [`DataPlane::lend_disk`].
    #[allow(
        clippy::missing_errors_doc,
        clippy::result_large_err,
        reason = "as there"
    )]
    pub fn lend_disk(
        &mut self,
        volume: VolumeIndex,
        memory: DiskMemory<M>,
    ) -> Result<(), DiskMemory<M>> {
        self.data.lend_disk(volume, memory)
    }

    /// See [`DataPlane::take_disk`].
    pub fn take_disk(&mut self, volume: VolumeIndex) -> Option<DiskMemory<M>> {
        self.data.take_disk(volume)
    }

    /// See [`DataPlane::submit`].
    pub fn submit(&mut self, io: &AppIo, now: Instant) -> Submit {
        let submit = self.data.submit(io, now);
        self.settle(now);
        submit
    }

    /// See [`DataPlane::next_ready`].
    pub fn next_ready(&mut self, v: VolumeIndex, now: Instant) -> Option<(RequestId, LocalPart)> {
        let ready = self.data.next_ready(v, now);
        self.settle(now);
        ready
    }

    /// See [`DataPlane::local_done`].
    pub fn local_done(&mut self, id: RequestId, ok: bool, now: Instant) {
        self.data.local_done(id, ok, now);
        self.settle(now);
    }

    /// See [`DataPlane::pop_done`].
    pub fn pop_done(&mut self) -> Option<Done> {
        self.data.pop_done()
    }

    /// See [`DataPlane::al_next`].
    pub fn al_next(
        &mut self,
        volume: VolumeIndex,
        buf: &mut [u8; 4096],
        crc: impl Fn(&[u8]) -> u32,
        now: Instant,
    ) -> AlStep {
        let step = self.data.al_next(volume, buf, crc);
        self.settle(now);
        step
    }

    /// See [`DataPlane::al_written`].
    pub fn al_written(&mut self, volume: VolumeIndex, ok: bool, now: Instant) {
        self.data.al_written(volume, ok, now);
        self.settle(now);
    }

    /// See [`DataPlane::bitmap_page`].
    #[must_use]
    pub fn bitmap_page(&mut self, volume: VolumeIndex, page: u32, buf: &mut [u8]) -> bool {
        self.data.bitmap_page(volume, page, buf)
    }

    /// See [`DataPlane::has_unstable_blocks`]. NEW: the superblock that has just been encoded, if
    /// it takes back that there is a Primary, comes behind a flush as well: nobody looks at the
    /// activity log any more, which names what may be in the cache only. So does the first one of a
    /// disk that counts again: the cache may hold what it did before it was given up.
    pub fn has_unstable_blocks(&self, volume: VolumeIndex) -> bool {
        let place = self.memory.volumes.get(volume.slot());
        let disk = place.and_then(|place| place.disk.as_ref());
        self.data.has_unstable_blocks(volume) || disk.is_some_and(Disk::counts_on_data)
    }

    /// See [`DataPlane::bitmap_page_written`].
    pub fn bitmap_page_written(&mut self, v: VolumeIndex, page: u32, ok: bool, now: Instant) {
        self.data.bitmap_page_written(v, page, ok, now);
        self.settle(now);
    }

    /// See [`DataPlane::load_bitmap_page`].
    pub fn load_bitmap_page(&mut self, volume: VolumeIndex, page: u32, bytes: &[u8]) {
        self.data.load_bitmap_page(volume, page, bytes);
    }

    /// See [`DataPlane::next_dirty_page`].
    pub fn next_dirty_page(&self, volume: VolumeIndex, from: u32) -> Option<u32> {
        self.data.next_dirty_page(volume, from)
    }

    /// See [`DataPlane::mark_bitmap_changed`].
    pub fn mark_bitmap_changed(&mut self, volume: VolumeIndex) {
        self.data.mark_bitmap_changed(volume);
    }

    /// See [`DataPlane::peer_payload`].
    pub fn peer_payload(&mut self, id: PeerId, digest_ok: bool, now: Instant) {
        self.data.peer_payload(id, digest_ok, now);
        self.settle(now);
    }

    /// See [`DataPlane::app_payload`].
    pub fn app_payload(&mut self, id: RequestId, digest_ok: bool, now: Instant) {
        self.data.app_payload(id, digest_ok, now);
        self.settle(now);
    }

    /// See [`DataPlane::has_peer_io`].
    pub fn has_peer_io(&self) -> bool {
        self.data.has_peer_io()
    }

    /// See [`DataPlane::next_peer_io`].
    pub fn next_peer_io(&mut self, now: Instant) -> Option<PeerIo> {
        let io = self.data.next_peer_io(now);
        self.settle(now);
        io
    }

    /// See [`DataPlane::peer_io_done`].
    pub fn peer_io_done(&mut self, id: PeerId, ok: bool, now: Instant) {
        self.data.peer_io_done(id, ok, now);
        self.settle(now);
    }

    /// See [`DataPlane::has_volatile_cache`].
    pub fn has_volatile_cache(&mut self, volume: VolumeIndex) {
        self.data.has_volatile_cache(volume);
    }

    /// See [`DataPlane::peer_io_read`].
    pub fn peer_io_read(&mut self, id: PeerId, ok: bool, all_zero: bool, now: Instant) {
        self.data.peer_io_read(id, ok, all_zero, now);
        self.settle(now);
    }

    /// See [`DataPlane::digest_ready`].
    pub fn digest_ready(&mut self, id: PeerId, digest: &[u8], now: Instant) {
        self.data.digest_ready(id, digest, now);
        self.settle(now);
    }

    /// See [`DataPlane::flush_done`].
    pub fn flush_done(&mut self, token: FlushToken, ok: bool, now: Instant) {
        self.data.flush_done(token, ok, now);
        self.settle(now);
    }
}
