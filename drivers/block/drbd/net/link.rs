// SPDX-License-Identifier: GPL-2.0-only

//! One established connection: its two sockets and the threads that serve them.
//!
//! A link lives from the moment both sockets stand until one of them fails or is closed. The
//! receiver thread of the resource makes it, runs its data-in side itself and joins the other three
//! threads before it reports to the core that the link is gone.

use super::{
    acks,
    connect::lost,
    sender, //
};
use crate::{
    kabi::{
        socket::Socket,
        thread::Thread, //
    },
    resource::Resource, //
};
use drbd_core::link::LinkError;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        Arc, //
    }, //
};

/// Both sockets of a connection, shared by its threads.
pub(crate) struct Link {
    /// Parameters, application data, resync data.
    pub(crate) data: Socket,
    /// Acknowledgements and pings.
    pub(crate) meta: Socket,
    closing: Atomic<bool>,
    /// Pages of upper bios have been given to TCP.
    lends: Atomic<bool>,
}

impl Link {
    /// Takes over both sockets.
    pub(crate) fn new(data: Socket, meta: Socket) -> Result<Arc<Self>> {
        let link = Self {
            data,
            meta,
            closing: Atomic::new(false),
            lends: Atomic::new(false),
        };
        Ok(Arc::new(link, GFP_KERNEL)?)
    }

    /// Ends the link: both sockets are shut down, so that every thread comes back from its call,
    /// and TCP gives back what it was lent.
    ///
    /// May be called by any thread, more than once. May sleep.
    pub(crate) fn close(&self) {
        if !self.closing.xchg(true, Full) {
            // A shutdown alone would send all that waits, and go on without us until the peer has
            // acknowledged it.
            self.take_back_unacked();
            self.data.shutdown();
            // What the sender gave to TCP meanwhile; after the shutdown it can give nothing more.
            self.take_back_unacked();
            self.meta.shutdown();
        }
    }

    /// Pages of an upper bio are about to be given to TCP, which sends them again until the peer
    /// has acknowledged them.
    pub(crate) fn lend(&self) {
        self.lends.store(true, Relaxed);
    }

    /// The link is over: TCP gives back what it was lent. The core ends upper bios that the peer
    /// has not acknowledged, whose pages get other data; a peer that has not noticed yet would take
    /// those for the ones that were written. May sleep.
    pub(crate) fn take_back(&self) {
        if self.lends.load(Relaxed) {
            self.data.abort();
        }
    }

    /// The same unless the peer has everything: the end of a link that both have agreed on is no
    /// reset, as that may overtake the agreement (a C driver that asked for it outdates its disk
    /// then).
    fn take_back_unacked(&self) {
        if self.data.has_unacked() {
            self.take_back();
        }
    }

    /// Returns whether somebody has closed the link.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }
}

/// The threads of a link beside the receiver. Dropping it joins them.
pub(crate) struct LinkThreads {
    link: Arc<Link>,
    threads: [Option<Pin<KBox<Thread>>>; 3],
}

impl LinkThreads {
    /// Starts the data sender, the ack sender and the ack receiver.
    ///
    /// # Errors
    ///
    /// If a thread cannot be made, the loss of the link is reported and those already running are
    /// stopped.
    pub(crate) fn start(resource: &Arc<Resource>, link: &Arc<Link>) -> Result<Self> {
        let mut all = Self {
            link: link.clone(),
            threads: [None, None, None],
        };
        if let Err(error) = all.spawn(resource, link) {
            // Dropping `all` closes the link, after which nobody reports its loss.
            lost(resource, link, LinkError::NetworkFailure);
            return Err(error);
        }
        Ok(all)
    }

    fn spawn(&mut self, resource: &Arc<Resource>, link: &Arc<Link>) -> Result {
        let [data_out, meta_out, meta_in] = &mut self.threads;
        let name = &resource.name;
        let (r, l) = (resource.clone(), link.clone());
        *data_out = Some(Thread::spawn(fmt!("drbd_w_{name}"), move || {
            sender::run(&r, &l)
        })?);
        let (r, l) = (resource.clone(), link.clone());
        *meta_out = Some(Thread::spawn(fmt!("drbd_as_{name}"), move || {
            acks::run_sender(&r, &l)
        })?);
        let (r, l) = (resource.clone(), link.clone());
        *meta_in = Some(Thread::spawn(fmt!("drbd_a_{name}"), move || {
            acks::run_receiver(&r, &l)
        })?);
        Ok(())
    }
}

impl Drop for LinkThreads {
    fn drop(&mut self) {
        self.link.close();
        for thread in self.threads.iter_mut().filter_map(Option::take) {
            // The receiver is none of them, so they stop.
            let _ = thread.stop();
        }
    }
}
