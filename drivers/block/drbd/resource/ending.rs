// SPDX-License-Identifier: GPL-2.0-only

//! The end of a resource, and the work that may outlast it.

use super::Resource;
use crate::kabi::thread::NoIo;
use core::pin::Pin;
use kernel::{
    impl_has_work, new_work,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Full,
            Release, //
        },
        Arc, //
    },
    workqueue::{
        Work,
        WorkItem, //
    },
};

/// How long the end of a resource waits for errands, in milliseconds: most end soon, and then
/// nothing is left of the resource when the command answers.
const ERRANDS_TIMEOUT_MS: u32 = 5_000;

/// Work on a queue of the resource that may take any time, from the moment at which it is queued.
/// Dropping it says that it has ended.
pub(crate) struct Errand(Arc<Resource>);

impl Errand {
    /// Begins one. Only in a thread of the resource.
    pub(crate) fn begin(resource: &Arc<Resource>) -> Self {
        resource.errands.fetch_add(1, Full);
        Self(resource.clone())
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        self.0.errands.fetch_sub(1, Full);
        self.0.announce_event();
    }
}

impl Resource {
    /// Ends the threads and the timer. Afterwards nothing of the resource runs any more but
    /// errands that take long: a work item of the registry waits for them.
    ///
    /// The resource has neither volumes nor a connection. May sleep.
    pub(crate) fn shut_down(self: &Arc<Self>) {
        self.connector.close();
        // Not under the mutex: the control thread takes it to interrupt the receiver.
        let mut threads = core::mem::take(&mut *self.threads.lock());
        threads.stop();
        self.ended.store(true, Release);
        self.announce_event();
        if let Some(timer) = self.timer.as_ref() {
            timer.shutdown();
        }
        // Only the threads have sent anybody.
        let ended = || (self.errands.load(Acquire) == 0).then_some(());
        if self.wait_event(ERRANDS_TIMEOUT_MS, ended).is_none() {
            // The item keeps the resource, and with it the module, until then: the last reference
            // must not be that of an errand, whose queue goes with the resource.
            if self.registry.leave(self.clone()).is_ok() {
                return;
            }
        }
        self.flush();
    }

    /// Waits until nobody works on a queue of the resource any more. May sleep.
    fn flush(&self) {
        self.helpers.flush();
        self.urgent_helpers.flush();
        // The core has been told that the disks are closed; now the items themselves have ended.
        self.closing.flush();
    }
}

/// What is left of a resource whose errands take long. A type of its own, as its item waits for
/// those of other queues: lockdep tells items apart by their type.
#[pin_data]
pub(crate) struct Leftover {
    resource: Arc<Resource>,
    #[pin]
    work: Work<Leftover>,
}

impl Leftover {
    pub(crate) fn new(resource: Arc<Resource>) -> impl PinInit<Self> {
        pin_init!(Self {
            resource,
            work <- new_work!("drbd::Leftover"),
        })
    }
}

impl_has_work! {
    impl HasWork<Self> for Leftover { self.work }
}

impl WorkItem for Leftover {
    type Pointer = Pin<KBox<Self>>;

    fn run(this: Pin<KBox<Self>>) {
        let _noio = NoIo::enter();
        // It ends before the guard.
        let this = this;
        this.resource.flush();
    }
}
