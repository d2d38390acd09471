// SPDX-License-Identifier: GPL-2.0-only

//! Digests, checksums and random numbers.

use super::{
    bio::BioHold,
    ffi,
    page::PageBuf, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*, //
};

/// Largest digest, in bytes.
pub(crate) const DIGEST_LEN_MAX: usize = 64;

/// A digest algorithm, perhaps with a key, and the memory for one computation at a time.
///
/// # Invariants
///
/// `tfm` is a valid transformation that belongs to this value; `desc` has room for its state.
pub(crate) struct Hash {
    tfm: NonNull<ffi::CryptoShash>,
    desc: KVec<u64>,
}

// SAFETY: The transformation has no thread affinity.
unsafe impl Send for Hash {}
// SAFETY: Shared access does not change anything.
unsafe impl Sync for Hash {}

impl Hash {
    /// Finds the algorithm `name`, such as `crc32c`, `sha1` or `hmac(sha1)`; may load a module. May
    /// sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the kernel does not have it, `ENOMEM`.
    pub(crate) fn new(name: &CStr) -> Result<Self> {
        // SAFETY: The name is a C string.
        let tfm = from_err_ptr(unsafe { ffi::drbd_helper_hash_new(name.as_char_ptr()) })?;
        let tfm = NonNull::new(tfm).ok_or(ENOENT)?;
        // INVARIANT: The transformation is new. The memory follows below; until then it is not
        // used.
        let mut hash = Self {
            tfm,
            desc: KVec::new(),
        };
        // SAFETY: By the type invariant.
        let size = unsafe { ffi::drbd_helper_hash_desc_size(tfm.as_ptr()) };
        hash.desc = KVec::from_elem(0, size.div_ceil(8), GFP_KERNEL)?;
        if hash.len_bytes() > DIGEST_LEN_MAX {
            return Err(EINVAL);
        }
        Ok(hash)
    }

    /// Length of the digest, in bytes; at most [`DIGEST_LEN_MAX`].
    pub(crate) fn len_bytes(&self) -> usize {
        // SAFETY: By the type invariant.
        unsafe { ffi::drbd_helper_hash_size(self.tfm.as_ptr()) as usize }
    }

    /// Sets the key. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOSYS` or `EINVAL` if the algorithm takes no key, or not this one.
    pub(crate) fn set_key(&mut self, key: &[u8]) -> Result {
        let len = u32::try_from(key.len()).map_err(|_| EINVAL)?;
        // SAFETY: By the type invariant; exclusive access, so nobody computes.
        to_result(unsafe { ffi::drbd_helper_hash_set_key(self.tfm.as_ptr(), key.as_ptr(), len) })
    }

    /// Begins a digest.
    ///
    /// # Errors
    ///
    /// `ENOKEY` if the algorithm needs a key and has none.
    pub(crate) fn start(&mut self) -> Result<Hasher<'_>> {
        let desc = self.desc.as_mut_ptr().cast::<c_void>();
        // SAFETY: By the type invariant; exclusive access for the life of the `Hasher`.
        to_result(unsafe { ffi::drbd_helper_hash_init(self.tfm.as_ptr(), desc) })?;
        Ok(Hasher {
            hash: self,
            result: Ok(()),
        })
    }
}

impl Drop for Hash {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the transformation is ours.
        unsafe { ffi::drbd_helper_hash_free(self.tfm.as_ptr()) };
    }
}

/// A digest in the making. Not in hard interrupt context.
pub(crate) struct Hasher<'a> {
    hash: &'a mut Hash,
    result: Result,
}

impl Hasher<'_> {
    /// Adds memory that may change under our hands.
    ///
    /// # Safety
    ///
    /// The memory can be read.
    unsafe fn add(&mut self, address: *const u8, len: usize) {
        if self.result.is_err() {
            return;
        }
        let desc = self.hash.desc.as_mut_ptr().cast::<c_void>();
        let Ok(len) = u32::try_from(len) else {
            self.result = Err(EOVERFLOW);
            return;
        };
        // SAFETY: `start` initialised the state; the caller vouches for the memory.
        let status = unsafe { ffi::drbd_helper_hash_update(desc, address.cast(), len) };
        self.result = to_result(status);
    }

    /// Adds bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        // SAFETY: A slice can be read.
        unsafe { self.add(bytes.as_ptr(), bytes.len()) };
    }

    /// Adds the content of a buffer.
    pub(crate) fn update_pages(&mut self, buf: &PageBuf) {
        for chunk in buf.chunks() {
            self.update(chunk);
        }
    }

    /// Adds the data of an upper bio. The upper layer may change it meanwhile.
    pub(crate) fn update_bio(&mut self, bio: &BioHold) {
        bio.for_each_piece(|address, len| {
            // SAFETY: The piece belongs to the bio, which the hold keeps.
            unsafe { self.add(address, len) };
        });
    }

    /// Ends the digest: its bytes go to the front of `out`, their number is returned.
    ///
    /// # Errors
    ///
    /// `EOVERFLOW` if `out` is too short, and errors of the algorithm.
    pub(crate) fn finish(self, out: &mut [u8]) -> Result<usize> {
        self.result?;
        let len = self.hash.len_bytes();
        let out = out.get_mut(..len).ok_or(EOVERFLOW)?;
        let desc = self.hash.desc.as_mut_ptr().cast::<c_void>();
        // SAFETY: `start` initialised the state; there is room for the digest.
        to_result(unsafe { ffi::drbd_helper_hash_final(desc, out.as_mut_ptr()) })?;
        Ok(len)
    }
}

/// CRC-32C of `bytes`, continuing from `seed` (all ones at the start; no final complement). Any
/// context.
pub(crate) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    // SAFETY: A slice can be read.
    unsafe { ffi::drbd_helper_crc32c(seed, bytes.as_ptr().cast(), bytes.len()) }
}

/// Whether two digests are equal; takes the same time wherever they differ.
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    // SAFETY: Both slices can be read for the common length.
    unsafe { ffi::drbd_helper_equal(a.as_ptr().cast(), b.as_ptr().cast(), a.len()) }
}

/// Fills `out` with random bytes. Any context.
pub(crate) fn random_bytes(out: &mut [u8]) {
    // SAFETY: A slice can be written.
    unsafe { bindings::get_random_bytes(out.as_mut_ptr().cast(), out.len()) };
}

/// A random number. Any context.
pub(crate) fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    random_bytes(&mut bytes);
    u64::from_ne_bytes(bytes)
}
