//! Digests over payload and over metadata blocks, and the authentication code.

use hmac::{Hmac, Mac};
use sha1::Sha1;

/// Length of the digest over payload.
pub const LEN: u8 = 4;

/// Digest over the contents of sectors.
pub fn of(sectors: &[u64]) -> [u8; 4] {
    let mut crc = 0;
    for sector in sectors {
        crc = crc32c::crc32c_append(crc, &sector.to_le_bytes());
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
