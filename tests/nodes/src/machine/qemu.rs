//! A node as a QEMU virtual machine with Debian's own kernel.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{bail, Result};

use super::{Backend, Boot, Machine};
use crate::bed::Bed;

/// The stock kernel and the image that its nodes start from.
pub(crate) struct Qemu;

impl Qemu {
    /// Finds kernel, image and QEMU.
    pub(crate) fn find(_bed: &Bed) -> Result<Self> {
        bail!("QEMU nodes are not there yet")
    }
}

impl Backend for Qemu {
    fn start(&self, _boot: &Boot<'_>) -> Result<(Box<dyn Machine>, UnixStream)> {
        bail!("QEMU nodes are not there yet")
    }

    fn disk_path(&self, index: usize) -> String {
        format!("/dev/vd{}", char::from(b"abcdef"[index]))
    }

    fn interface(&self) -> &'static str {
        "eth0"
    }

    fn modules(&self) -> Option<PathBuf> {
        None
    }

    fn label(&self) -> String {
        "qemu".to_owned()
    }
}
