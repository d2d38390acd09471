// SPDX-License-Identifier: GPL-2.0-only

//! The digests that the network configuration names.

use crate::kabi::{
    digest::{
        Hash,
        Hasher, //
    },
    page::PageBuf, //
};
use drbd_core::{
    config::{
        Name,
        NetConfig, //
    },
    input::DigestLengths, //
};
use drbd_format::netlink::codes::RetCode;
use kernel::prelude::*;

/// One loaded algorithm for each use; `None` where nothing is configured.
#[derive(Default)]
pub(crate) struct Digests {
    integrity_out: Option<Hash>,
    integrity_in: Option<Hash>,
    verify: Option<Hash>,
    csums: Option<Hash>,
    hmac: Option<Hash>,
}

/// Name of an algorithm with its NUL, as the kernel wants it.
struct CName {
    bytes: [u8; Self::LEN],
}

impl CName {
    /// The longest name, its wrapping in `hmac()` and the NUL.
    const LEN: usize = Name::MAX + 7;

    fn new(prefix: &[u8], name: &Name, suffix: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::LEN];
        let mut at = 0_usize;
        for part in [prefix, name.as_bytes(), suffix] {
            let end = at.checked_add(part.len())?;
            bytes.get_mut(at..end)?.copy_from_slice(part);
            at = end;
        }
        Some(Self { bytes })
    }

    fn load(&self) -> Option<Hash> {
        let name = CStr::from_bytes_until_nul(&self.bytes).ok()?;
        Hash::new(name).ok()
    }
}

fn load(name: &Name, code: RetCode) -> Result<Option<Hash>, RetCode> {
    if name.is_empty() {
        return Ok(None);
    }
    let hash = CName::new(b"", name, b"").and_then(|name| name.load());
    hash.map(Some).ok_or(code)
}

impl Digests {
    /// Loads what `config` names, in the order of reference/netlink.md 2.8 step 9. May sleep.
    ///
    /// # Errors
    ///
    /// The code of the first algorithm that the kernel does not have.
    pub(crate) fn load(config: &NetConfig) -> Result<Self, RetCode> {
        let csums = load(&config.csums_alg, RetCode::CSUMS_ALG)?;
        let verify = load(&config.verify_alg, RetCode::VERIFY_ALG)?;
        let integrity_out = load(&config.integrity_alg, RetCode::INTEGRITY_ALG)?;
        let integrity_in = load(&config.integrity_alg, RetCode::INTEGRITY_ALG)?;
        let hmac = if config.cram_hmac_alg.is_empty() {
            None
        } else {
            let hash = CName::new(b"hmac(", &config.cram_hmac_alg, b")")
                .and_then(|name| name.load())
                .ok_or(RetCode::AUTH_ALG)?;
            Some(hash)
        };
        Ok(Self {
            integrity_out,
            integrity_in,
            verify,
            csums,
            hmac,
        })
    }

    /// Returns the lengths of the digests for the core.
    pub(crate) fn lengths(&self) -> DigestLengths {
        let len = |hash: &Option<Hash>| {
            hash.as_ref()
                .map_or(0, |hash| u8::try_from(hash.len_bytes()).unwrap_or(0))
        };
        DigestLengths {
            hmac: len(&self.hmac),
            integrity: len(&self.integrity_out),
            verify: len(&self.verify),
            csums: len(&self.csums),
        }
    }

    /// Computes HMAC(key, message) into `out` and returns its length.
    pub(crate) fn hmac(&mut self, key: &[u8], message: &[u8], out: &mut [u8]) -> Result<usize> {
        let hash = self.hmac.as_mut().ok_or(ENOENT)?;
        hash.set_key(key)?;
        digest(hash, |hasher| hasher.update(message), out)
    }

    /// Computes the integrity digest of pages that are sent.
    pub(crate) fn outgoing_pages(&mut self, pages: &PageBuf, out: &mut [u8]) -> Result<usize> {
        let hash = self.integrity_out.as_mut().ok_or(ENOENT)?;
        digest(hash, |hasher| hasher.update_pages(pages), out)
    }

    /// Computes the integrity digest of a payload that has been received.
    pub(crate) fn incoming(
        &mut self,
        update: impl FnOnce(&mut Hasher<'_>),
        out: &mut [u8],
    ) -> Result<usize> {
        digest(self.integrity_in.as_mut().ok_or(ENOENT)?, update, out)
    }

    /// Computes the digest of pages for online verify or checksum-based resync.
    pub(crate) fn pages(&mut self, verify: bool, pages: &PageBuf, out: &mut [u8]) -> Result<usize> {
        let hash = if verify {
            self.verify.as_mut()
        } else {
            self.csums.as_mut()
        };
        digest(
            hash.ok_or(ENOENT)?,
            |hasher| hasher.update_pages(pages),
            out,
        )
    }
}

fn digest(hash: &mut Hash, update: impl FnOnce(&mut Hasher<'_>), out: &mut [u8]) -> Result<usize> {
    let mut hasher = hash.start()?;
    update(&mut hasher);
    hasher.finish(out)
}
