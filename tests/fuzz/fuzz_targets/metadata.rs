//! See `drbd_fuzz::metadata`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drbd_fuzz::metadata::run(data));
