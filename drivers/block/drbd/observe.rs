// SPDX-License-Identifier: GPL-2.0-only

//! What operators can look at: `/proc/drbd`.

use crate::{
    kabi::{
        module,
        params,
        proc::{
            ProcShow,
            SeqWriter, //
        }, //
    },
    registry::Registry, //
};
use core::fmt::Write;
use kernel::{
    alloc::KVVec,
    prelude::*,
    sync::Arc, //
};

/// Version line of `/proc/drbd`; tools recognise the 8.4 family by it.
pub(crate) const VERSION: &str = "8.4.11-rs.1";

/// Text of one volume: three lines and, during a resync, three more.
const VOLUME_TEXT_LEN: usize = 1536;

/// Shows `/proc/drbd`.
pub(crate) struct ProcDrbd {
    /// All resources.
    pub(crate) registry: Arc<Registry>,
}

/// A bounded text, so that nothing is allocated or printed under the lock of a resource.
struct Buffer {
    bytes: KVVec<u8>,
}

impl Write for Buffer {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            self.bytes
                .push_within_capacity(byte)
                .map_err(|_| core::fmt::Error)?;
        }
        Ok(())
    }
}

impl ProcShow for ProcDrbd {
    fn show(&self, out: &mut SeqWriter<'_>) -> Result {
        let failed = |_| ENOMEM;
        writeln!(out, "version: {VERSION} (api:1/proto:86-101)").map_err(failed)?;
        writeln!(out, "srcversion: {:<24}", module::srcversion()).map_err(failed)?;
        let mut buffer = Buffer {
            bytes: KVVec::with_capacity(VOLUME_TEXT_LEN, GFP_KERNEL)?,
        };
        let mut next = 0_u32;
        while let Some(volume) = self.registry.next_minor(next) {
            if volume.minor != next {
                writeln!(out).map_err(failed)?;
            }
            buffer.bytes.clear();
            let (index, minor) = (volume.index, volume.minor);
            let details = params::proc_details();
            volume
                .resource
                .with(|inner, now| {
                    inner
                        .core
                        .proc_volume(index, minor, details, now, &mut buffer)
                })
                .map_err(failed)?;
            let text = core::str::from_utf8(&buffer.bytes).unwrap_or("");
            out.write_str(text).map_err(failed)?;
            let Some(following) = minor.checked_add(1) else {
                break;
            };
            next = following;
        }
        Ok(())
    }
}
