//! Memory that the shell lends: one trait that names it, and the containers over it.
//!
//! Nothing here allocates. Every container works on a slice of slots whose length is fixed for the
//! life of the object; "full" is an ordinary answer.

use core::ops::DerefMut;

use crate::action::Action;
use crate::activity_log::AlSlot;
use crate::bitmap::PageState;
use crate::control::{Held, Volume};
use crate::data::VolumeSlot;
use crate::link::Order;
use crate::peer_request::PeerSlot;
use crate::request::RequestSlot;
use crate::resync::extents::ResyncSlot;

pub mod interval;
pub mod queue;
pub mod slab;

/// Storage types that the shell lends: `Vec` on the host, kernel vectors in the module.
pub trait Memory: Sized {
    /// Application requests of the resource; default 8192 slots.
    type Requests: DerefMut<Target = [RequestSlot]>;
    /// Requests on behalf of the peer; default 4096 slots.
    type PeerRequests: DerefMut<Target = [PeerSlot]>;
    /// Volumes of the resource: one slot per possible volume, at most
    /// [`crate::data::VOLUMES_MAX`].
    type Volumes: DerefMut<Target = [VolumeSlot<Self>]>;
    /// `al-extents` slots, lent at attach.
    type AlExtents: DerefMut<Target = [AlSlot]>;
    /// [`crate::resync::extents::RESYNC_EXTENTS`] slots, lent at attach.
    type ResyncExtents: DerefMut<Target = [ResyncSlot]>;
    /// The whole bitmap as 64-bit words in native byte order, lent at attach.
    type Bitmap: DerefMut<Target = [u64]>;
    /// One state per 4 KiB page of the bitmap, lent at attach.
    type BitmapPages: DerefMut<Target = [PageState]>;
    /// Volumes as the control plane sees them: as many slots as [`Memory::Volumes`].
    type ControlVolumes: DerefMut<Target = [Volume]>;
    /// Actions for the shell, at least [`crate::control::ACTIONS_MIN`] slots.
    type Actions: DerefMut<Target = [Option<Action>]>;
    /// Orders for the data plane, at least [`crate::control::ORDERS_MIN`] slots.
    type Orders: DerefMut<Target = [Option<Order>]>;
    /// Packets that wait for metadata, at least [`crate::control::OUTBOX_MIN`] slots.
    type Outbox: DerefMut<Target = [Option<Held>]>;
}
