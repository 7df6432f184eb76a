//! A seal with its request, or a token: see `ggcache::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ggcache::fuzz::access(data));
