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
    input::{
        DigestLengths,
        DigestUse, //
    }, //
};
use drbd_format::netlink::codes::RetCode;
use kernel::prelude::*;

/// An algorithm that can be exchanged while the connection stands, by a command or by the peer.
struct Named {
    name: Name,
    hash: Hash,
}

/// One loaded algorithm for each use; `None` where nothing is configured.
#[derive(Default)]
pub(crate) struct Digests {
    integrity_out: Option<Named>,
    integrity_in: Option<Named>,
    /// What takes their places with the packet that tells the peer of it.
    next_out: Option<Named>,
    next_in: Option<Named>,
    verify: Option<Named>,
    csums: Option<Named>,
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

/// Puts the algorithm of this name into `place`, from `next` if it is there. May sleep.
fn replace(place: &mut Option<Named>, next: &mut Option<Named>, name: &Name) -> Result {
    let is_named = |of: &Option<Named>| of.as_ref().is_some_and(|of| of.name == *name);
    if is_named(place) {
        return Ok(());
    }
    *place = if is_named(next) {
        next.take()
    } else {
        named(name, RetCode::INTEGRITY_ALG).map_err(|_| ENOENT)?
    };
    Ok(())
}

fn named(name: &Name, code: RetCode) -> Result<Option<Named>, RetCode> {
    let hash = load(name, code)?;
    Ok(hash.map(|hash| Named { name: *name, hash }))
}

fn len(hash: &Hash) -> u8 {
    u8::try_from(hash.len_bytes()).unwrap_or(0)
}

/// Returns the length of the digests of an algorithm, if there is one.
fn len_of(named: &Option<Named>) -> Option<u8> {
    named.as_ref().map(|named| len(&named.hash))
}

impl Digests {
    /// Loads what `config` names, in the order of reference/netlink.md 2.8 step 9. May sleep.
    ///
    /// # Errors
    ///
    /// The code of the first algorithm that the kernel does not have.
    pub(crate) fn load(config: &NetConfig) -> Result<Self, RetCode> {
        let csums = named(&config.csums_alg, RetCode::CSUMS_ALG)?;
        let verify = named(&config.verify_alg, RetCode::VERIFY_ALG)?;
        let integrity_out = named(&config.integrity_alg, RetCode::INTEGRITY_ALG)?;
        let integrity_in = named(&config.integrity_alg, RetCode::INTEGRITY_ALG)?;
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
            next_out: None,
            next_in: None,
            verify,
            csums,
            hmac,
        })
    }

    /// Other options are in force. `verify` and `csums` are what the core says of them now, as the
    /// peer may have chosen others since. The algorithm for data is exchanged when the peer is told
    /// of it. May sleep.
    pub(crate) fn change(&mut self, mut new: Self, verify: &Name, csums: &Name) {
        // They are loaded already, here or there.
        let _ = replace(&mut self.verify, &mut new.verify, verify);
        let _ = replace(&mut self.csums, &mut new.csums, csums);
        self.next_out = new.integrity_out;
        self.next_in = new.integrity_in;
        self.hmac = new.hmac;
    }

    /// The packet that tells the peer of the algorithm for data is on its way: what is sent behind
    /// it has digests of that; with the packet that begins the connection (`both`) what is
    /// received as well. May sleep.
    pub(crate) fn told(&mut self, name: &Name, both: bool) -> Result {
        replace(&mut self.integrity_out, &mut self.next_out, name)?;
        if both {
            replace(&mut self.integrity_in, &mut self.next_in, name)?;
        }
        Ok(())
    }

    /// The peer has chosen an algorithm: loads it and returns the length of its digests; `None` if
    /// the kernel does not have it. May sleep.
    pub(crate) fn adopt(&mut self, what: DigestUse, name: &Name) -> Option<u8> {
        match what {
            DigestUse::Integrity => {
                replace(&mut self.integrity_in, &mut self.next_in, name).ok()?;
                len_of(&self.integrity_in)
            }
            DigestUse::Checksums => {
                replace(&mut self.csums, &mut None, name).ok()?;
                len_of(&self.csums)
            }
            DigestUse::Verify => {
                replace(&mut self.verify, &mut None, name).ok()?;
                len_of(&self.verify)
            }
        }
    }

    /// Returns the lengths of the digests for the core.
    pub(crate) fn lengths(&self) -> DigestLengths {
        DigestLengths {
            hmac: self.hmac.as_ref().map_or(0, len),
            integrity: len_of(&self.integrity_out).unwrap_or(0),
            verify: len_of(&self.verify).unwrap_or(0),
            csums: len_of(&self.csums).unwrap_or(0),
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
        let named = self.integrity_out.as_mut().ok_or(ENOENT)?;
        digest(&mut named.hash, |hasher| hasher.update_pages(pages), out)
    }

    /// Computes the integrity digest of a payload that has been received.
    pub(crate) fn incoming(
        &mut self,
        update: impl FnOnce(&mut Hasher<'_>),
        out: &mut [u8],
    ) -> Result<usize> {
        let named = self.integrity_in.as_mut().ok_or(ENOENT)?;
        digest(&mut named.hash, update, out)
    }

    /// Computes the digest of pages for online verify or checksum-based resync.
    pub(crate) fn pages(&mut self, verify: bool, pages: &PageBuf, out: &mut [u8]) -> Result<usize> {
        let named = if verify {
            self.verify.as_mut()
        } else {
            self.csums.as_mut()
        };
        let named = named.ok_or(ENOENT)?;
        digest(&mut named.hash, |hasher| hasher.update_pages(pages), out)
    }
}

fn digest(hash: &mut Hash, update: impl FnOnce(&mut Hasher<'_>), out: &mut [u8]) -> Result<usize> {
    let mut hasher = hash.start()?;
    update(&mut hasher);
    hasher.finish(out)
}
