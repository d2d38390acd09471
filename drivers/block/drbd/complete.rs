// SPDX-License-Identifier: GPL-2.0-only

//! The way out: ends of bios go into the core, finished requests come out of it.

use crate::{
    kabi::bio::{
        BioDone,
        IncomingBio, //
    },
    resource::{
        Inner,
        Resource, //
    },
    submit,
    volume::Volume, //
};
use drbd_core::{
    data::DoneKind,
    request::RequestId,
    time::Instant, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Requests that are ended per lock hold.
const BATCH: usize = 8;

/// Travels with the clone of an upper bio.
pub(crate) struct CloneDone {
    volume: Arc<Volume>,
    id: RequestId,
}

impl CloneDone {
    pub(crate) fn new(volume: Arc<Volume>, id: RequestId) -> Self {
        Self { volume, id }
    }
}

impl BioDone for CloneDone {
    /// Runs in interrupt context.
    fn done(self, result: Result) {
        let id = self.id;
        let ok = result.is_ok();
        with(&self.volume.resource, |inner, now| {
            inner.core.local_done(id, ok, now);
        });
    }
}

/// Calls the core and ends the upper bios of the requests that finish with it: one hold of the lock
/// for both. Any context.
pub(crate) fn with<R>(resource: &Resource, call: impl FnOnce(&mut Inner, Instant) -> R) -> R {
    let mut ended = Ended::default();
    let (result, more) = resource.with_done(|inner, now| {
        let result = call(inner, now);
        (result, ended.take(inner))
    });
    ended.end(resource);
    if more {
        finish(resource);
    }
    result
}

/// Ends the upper bios of finished requests. Any context.
///
/// A function of its own, as its caller is at the bottom of every file system's stack.
#[inline(never)]
pub(crate) fn finish(resource: &Resource) {
    loop {
        let mut ended = Ended::default();
        let more = resource.with_done(|inner, _| ended.take(inner));
        ended.end(resource);
        if !more {
            return;
        }
    }
}

/// Upper bios on their way from the core to whoever submitted them.
#[derive(Default)]
struct Ended {
    bios: [Option<(IncomingBio, Result)>; BATCH],
    /// Volumes with bios to be submitted again, one bit each.
    again: u32,
}

impl Ended {
    /// Takes finished requests out of the core, under the lock. Returns whether more are left.
    fn take(&mut self, inner: &mut Inner) -> bool {
        for slot in &mut self.bios {
            loop {
                let Some(done) = inner.core.pop_done() else {
                    return false;
                };
                match done.what {
                    DoneKind::EndBio(result) => {
                        if let Some(bio) = inner.take_app_bio(done.id) {
                            *slot = Some((bio, result.map_err(submit::error_number)));
                            break;
                        }
                    }
                    DoneKind::Reissue => {
                        if let Some(volume) = inner.reissue(done.id) {
                            self.again |= volume.bit();
                        }
                    }
                    // The clone is gone and the sender holds the pages itself.
                    DoneKind::Free => {}
                }
            }
        }
        true
    }

    /// Ends them, outside of the lock.
    fn end(self, resource: &Resource) {
        for (bio, result) in self.bios.into_iter().flatten() {
            bio.end(result);
        }
        resource.ring_volumes(self.again);
    }
}
