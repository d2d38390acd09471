// SPDX-License-Identifier: GPL-2.0-only

//! The threads that a resource has all its life.

use crate::{
    disk::peer_io,
    kabi::thread::Thread,
    net::connect,
    resource::Resource, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The thread that performs actions, the one that submits for the peer, and the receiver.
#[derive(Default)]
pub(crate) struct Threads {
    control: Option<Pin<KBox<Thread>>>,
    peer_io: Option<Pin<KBox<Thread>>>,
    receiver: Option<Pin<KBox<Thread>>>,
}

impl Threads {
    /// Starts them. Those that run already are stopped again if one cannot be made.
    pub(crate) fn start(resource: &Arc<Resource>) -> Result<Self> {
        let name = &resource.name;
        let mut threads = Self::default();
        let started = (|| {
            let r = resource.clone();
            threads.control = Some(Thread::spawn(fmt!("drbd_c_{name}"), move || {
                r.run_control()
            })?);
            let r = resource.clone();
            threads.peer_io = Some(Thread::spawn(fmt!("drbd_p_{name}"), move || {
                peer_io::run_worker(&r)
            })?);
            let r = resource.clone();
            threads.receiver = Some(Thread::spawn(fmt!("drbd_r_{name}"), move || {
                connect::run(&r)
            })?);
            Ok(())
        })();
        if let Err(error) = started {
            threads.stop();
            return Err(error);
        }
        Ok(threads)
    }

    /// Stops them and waits for their ends. May sleep.
    pub(crate) fn stop(&mut self) {
        let threads = [
            self.receiver.take(),
            self.peer_io.take(),
            self.control.take(),
        ];
        for thread in threads.into_iter().flatten() {
            // Never called by one of them, so it stops.
            let _ = thread.stop();
        }
    }

    /// Breaks a blocking call of the receiver.
    pub(crate) fn interrupt_receiver(&self) {
        if let Some(receiver) = &self.receiver {
            receiver.interrupt();
        }
    }
}
