//! A request's target, or the body that names keys: see `ggcache::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ggcache::fuzz::keys(data));
