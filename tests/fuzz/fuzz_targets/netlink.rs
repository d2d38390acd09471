//! See `drbd_fuzz::netlink`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drbd_fuzz::netlink::run(data));
