#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drive::machine::others::run(data));
