// SPDX-License-Identifier: GPL-2.0-only

//! The way out: ends of bios go into the core, finished requests come out of it.

use crate::{
    kabi::bio::{
        BioDone,
        IncomingBio, //
    },
    resource::Resource,
    submit,
    volume::Volume, //
};
use drbd_core::{
    data::DoneKind,
    request::RequestId, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Requests that are ended per lock hold.
const BATCH: usize = 16;

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
        self.volume
            .resource
            .with(|inner, now| inner.core.local_done(id, ok, now));
    }
}

/// Ends the upper bios of finished requests. May be called in any context.
pub(crate) fn finish(resource: &Resource) {
    loop {
        let mut ended: [Option<(IncomingBio, Result)>; BATCH] = [const { None }; BATCH];
        let mut again = 0_u32;
        let more = resource.with_done(|inner, _| {
            for slot in &mut ended {
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
                                again |= 1 << volume.0;
                            }
                        }
                        // The clone is gone and the sender holds the pages itself.
                        DoneKind::Free => {}
                    }
                }
            }
            true
        });
        for (bio, result) in ended.into_iter().flatten() {
            bio.end(result);
        }
        resource.ring_volumes(again);
        if !more {
            return;
        }
    }
}
