// SPDX-License-Identifier: GPL-2.0-only

//! The options of a resource, and the threads that follow its `cpu-mask`.

use super::Resource;
use crate::kabi::{
    log,
    thread, //
};
use drbd_format::options::ResourceOpts;
use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Full, //
    }, //
};

impl Resource {
    /// Takes new options. May sleep.
    pub(crate) fn set_options(&self, options: ResourceOpts) {
        let mut current = self.options.lock();
        let moved = current.cpu_mask.as_bytes() != options.cpu_mask.as_bytes();
        *current = options;
        drop(current);
        if moved {
            self.cpu_mask_version.fetch_add(1, Full);
            self.bells.control.ring();
            self.bells.sender.ring();
            self.bells.acks.ring();
            self.bells.peer_io.ring();
        }
    }

    /// Binds the calling thread to the processors of `cpu-mask`, if that has changed since `seen`
    /// (0 for a new thread). May sleep.
    pub(crate) fn follow_cpu_mask(&self, seen: &mut u32) {
        let version = self.cpu_mask_version.load(Acquire);
        if version == *seen {
            return;
        }
        *seen = version;
        let mask = self.options.lock().cpu_mask;
        let text = CStr::from_bytes_with_nul(mask.as_bytes_with_nul()).unwrap_or(c"");
        if let Err(error) = thread::set_affinity(text) {
            self.log(
                log::Level::Warning,
                fmt!("cpu-mask does not fit this machine: {error:?}"),
            );
        }
    }
}
