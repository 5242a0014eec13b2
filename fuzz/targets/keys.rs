//! Fuzzes `properties::keys`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::keys(data));
