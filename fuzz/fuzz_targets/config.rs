//! A configuration file: see `ggcache::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ggcache::fuzz::config(data));
