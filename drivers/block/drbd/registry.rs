// SPDX-License-Identifier: GPL-2.0-only

//! All resources of this kernel, by name, by minor and by addresses.

use crate::{
    kabi::{
        bdev::Holder,
        genl::Events,
        socket::Addr,
        workqueue::WorkQueue, //
    },
    name::Name,
    resource::{
        Leftover,
        Resource, //
    },
    volume::Volume, //
};
use kernel::{
    alloc::KVec,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        Arc,
        Mutex,
        MutexGuard, //
    }, //
};

/// All resources in the order of creation.
#[derive(Default)]
struct Resources {
    /// Each with its serial number, which no other one gets.
    all: KVec<(isize, Arc<Resource>)>,
    created: isize,
}

/// The resources in the order in which they were created.
#[pin_data]
pub(crate) struct Registry {
    events: Arc<Events>,
    shared_holder: Arc<Holder>,
    #[pin]
    resources: Mutex<Resources>,
    /// Names, minors and addresses are looked for and taken in one.
    #[pin]
    structure: Mutex<()>,
    /// A volume has been told, some time, to wait for another one.
    chained: Atomic<bool>,
    /// Waits for what deleted resources have left behind. The end of the module waits for it.
    leftovers: WorkQueue,
}

impl Registry {
    /// Creates an empty registry.
    pub(crate) fn new(events: Arc<Events>) -> Result<Arc<Self>> {
        let shared_holder = Holder::new()?;
        Arc::pin_init(
            try_pin_init!(Self {
                events,
                shared_holder,
                resources <- new_mutex!(Resources::default(), "drbd_registry"),
                structure <- new_mutex!((), "drbd_structure"),
                chained: Atomic::new(false),
                leftovers: WorkQueue::unbound(c"drbd_leftovers")?,
            }? Error),
            GFP_KERNEL,
        )
    }

    /// Returns where events are announced.
    pub(crate) fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// Returns the holder that all volumes with indexed metadata share.
    pub(crate) fn shared_holder(&self) -> &Arc<Holder> {
        &self.shared_holder
    }

    /// Nobody else takes a name, a minor or addresses meanwhile. Taken after an admin mutex, never
    /// before one. May sleep.
    pub(crate) fn lock_structure(&self) -> MutexGuard<'_, ()> {
        self.structure.lock()
    }

    /// A volume is about to be told to wait for another one.
    pub(crate) fn set_chained(&self) {
        self.chained.store(true, Release);
    }

    /// Whether any volume may wait, or have waited, for another one.
    pub(crate) fn is_chained(&self) -> bool {
        self.chained.load(Acquire)
    }

    /// Adds a resource. May sleep.
    pub(crate) fn add(&self, resource: Arc<Resource>) -> Result {
        let mut resources = self.resources.lock();
        let serial = resources.created;
        resources.all.push((serial, resource), GFP_KERNEL)?;
        resources.created = serial.saturating_add(1);
        Ok(())
    }

    /// Removes a resource. May sleep.
    pub(crate) fn remove(&self, resource: &Arc<Resource>) {
        self.resources
            .lock()
            .all
            .retain(|(_, other)| !Arc::ptr_eq(other, resource));
    }

    /// Ends everything that is left. May sleep.
    pub(crate) fn shut_down(&self) {
        while let Some((_, resource)) = self.next_serial(0) {
            self.remove(&resource);
            resource.shut_down();
        }
    }

    /// Leaves the rest of the end of a resource to a work item. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; nothing is done.
    pub(crate) fn leave(&self, resource: Arc<Resource>) -> Result {
        self.leftovers
            .enqueue(KBox::pin_init(Leftover::new(resource), GFP_KERNEL)?);
        Ok(())
    }

    /// Returns the first resource, in the order of creation, whose serial number is at least
    /// `serial`, with its number. May sleep.
    pub(crate) fn next_serial(&self, serial: isize) -> Option<(isize, Arc<Resource>)> {
        let resources = self.resources.lock();
        let mut all = resources.all.iter();
        all.find(|(number, _)| *number >= serial).cloned()
    }

    /// Finds a resource by name. May sleep.
    pub(crate) fn by_name(&self, name: &Name) -> Option<Arc<Resource>> {
        let resources = self.resources.lock();
        let mut all = resources.all.iter().map(|(_, resource)| resource);
        all.find(|r| r.name == *name).cloned()
    }

    /// Finds a volume by its minor. May sleep.
    pub(crate) fn by_minor(&self, minor: u32) -> Option<Arc<Volume>> {
        let resources = self.resources.lock();
        resources
            .all
            .iter()
            .flat_map(|(_, resource)| resource.volumes().into_iter().flatten())
            .find(|volume| volume.minor == minor)
    }

    /// Finds the volume with the lowest minor that is at least `minor`. May sleep.
    pub(crate) fn next_minor(&self, minor: u32) -> Option<Arc<Volume>> {
        let resources = self.resources.lock();
        resources
            .all
            .iter()
            .flat_map(|(_, resource)| resource.volumes().into_iter().flatten())
            .filter(|volume| volume.minor >= minor)
            .min_by_key(|volume| volume.minor)
    }

    /// Finds the resource whose connection has exactly these addresses. May sleep.
    pub(crate) fn by_addresses(&self, local: &[u8], peer: &[u8]) -> Option<Arc<Resource>> {
        let resources = self.resources.lock();
        resources
            .all
            .iter()
            .map(|(_, resource)| resource)
            .find(|resource| {
                resource
                    .connector
                    .addresses()
                    .is_some_and(|(l, p)| l.as_bytes() == local && p.as_bytes() == peer)
            })
            .cloned()
    }

    /// Tells which of two addresses is taken by any connection: the local one or the peer's.
    /// May sleep.
    pub(crate) fn taken(&self, local: &Addr, peer: &Addr) -> Option<Taken> {
        let resources = self.resources.lock();
        resources
            .all
            .iter()
            .filter_map(|(_, resource)| resource.connector.addresses())
            .find_map(|(l, p)| {
                if l.as_bytes() == local.as_bytes() {
                    Some(Taken::Local)
                } else if p.as_bytes() == peer.as_bytes() {
                    Some(Taken::Peer)
                } else {
                    None
                }
            })
    }
}

/// Which address is in use already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Taken {
    /// The own address.
    Local,
    /// The address of the peer.
    Peer,
}
