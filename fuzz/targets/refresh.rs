//! Fuzzes `properties::refresh`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::refresh(data));
