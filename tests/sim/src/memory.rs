//! Memory that the simulated shell lends to the core: plain vectors.

use drbd_core::action::Action;
use drbd_core::config::ResourceConfig;
use drbd_core::control::{Held, Volume, ACTIONS_MIN, ORDERS_MIN, OUTBOX_MIN};
use drbd_core::data::{DataPlane, VolumeSlot, VOLUMES_MAX};
use drbd_core::link::Order;
use drbd_core::memory::Memory;
use drbd_core::resource::{ControlMemory, Resource};
use drbd_format::types::OnNoData;

/// Vectors for everything.
#[derive(Clone, Copy, Debug)]
pub struct HostMemory;

impl Memory for HostMemory {
    type Requests = Vec<drbd_core::request::RequestSlot>;
    type PeerRequests = Vec<drbd_core::peer_request::PeerSlot>;
    type Volumes = Vec<VolumeSlot<Self>>;
    type AlExtents = Vec<drbd_core::activity_log::AlSlot>;
    type ResyncExtents = Vec<drbd_core::resync::extents::ResyncSlot>;
    type Bitmap = Vec<u64>;
    type BitmapPages = Vec<drbd_core::bitmap::PageState>;
    type ControlVolumes = Vec<Volume>;
    type Actions = Vec<Option<Action>>;
    type Orders = Vec<Option<Order>>;
    type Outbox = Vec<Option<Held>>;
}

/// Returns `len` default values.
pub fn table<T: Default>(len: usize) -> Vec<T> {
    (0..len).map(|_| T::default()).collect()
}

/// Composes a resource with tables of these sizes.
pub fn resource(
    seed: [u64; 2],
    on_no_data: OnNoData,
    requests: usize,
    peers: usize,
) -> Resource<HostMemory> {
    let control = ControlMemory {
        volumes: vec![Volume::EMPTY; VOLUMES_MAX],
        actions: vec![None; ACTIONS_MIN],
        orders: vec![None; ORDERS_MIN],
        outbox: vec![None; OUTBOX_MIN],
    };
    let data = DataPlane::new(table(requests), table(peers), table(VOLUMES_MAX));
    let config = ResourceConfig { on_no_data };
    Resource::new(seed, config, control, data)
}
