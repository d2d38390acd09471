//! Digests over payload and over metadata blocks, and the authentication code.

use hmac::{Hmac, Mac};
use sha1::Sha1;

/// Length of the digest over payload.
pub const LEN: u8 = 4;

/// Digest over the contents of sectors.
pub fn of(sectors: &[u64]) -> [u8; 4] {
    let mut crc = 0;
    for part in sectors.chunks(64) {
        let mut bytes = [0; 512];
        for (to, sector) in bytes.chunks_exact_mut(8).zip(part) {
            to.copy_from_slice(&sector.to_le_bytes());
        }
        crc = crc32c::crc32c_append(crc, &bytes[..8 * part.len()]);
    }
    crc.to_le_bytes()
}

/// Checksum of an activity-log transaction: initial value 0, no final inversion.
pub fn transaction(bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!0, bytes)
}

/// HMAC-SHA1.
pub fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    match Hmac::<Sha1>::new_from_slice(key) {
        Ok(mut mac) => {
            mac.update(message);
            mac.finalize().into_bytes().to_vec()
        }
        Err(_) => Vec::new(),
    }
}
