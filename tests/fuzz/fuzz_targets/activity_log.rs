//! See `drbd_fuzz::activity_log`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drbd_fuzz::activity_log::run(data));
