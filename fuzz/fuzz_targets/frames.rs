//! What nodes say to each other: see `ggcache::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ggcache::fuzz::frames(data));
