//! See `drbd_fuzz::receiver`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drbd_fuzz::receiver::run(data));
