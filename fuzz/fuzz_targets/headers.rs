//! A request's headers: see `ggcache::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ggcache::fuzz::headers(data));
