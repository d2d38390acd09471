//! See `drbd_fuzz::bitmap`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drbd_fuzz::bitmap::run(data));
