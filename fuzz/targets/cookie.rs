//! Fuzzes `properties::cookie`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::cookie(data));
