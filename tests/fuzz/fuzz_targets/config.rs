//! See `drbd_fuzz::config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drbd_fuzz::config::run(data));
