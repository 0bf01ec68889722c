#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rapid7_insightidr::fuzz::mapping(bytes));
