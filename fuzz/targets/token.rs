//! Fuzzes `properties::token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::token(data));
