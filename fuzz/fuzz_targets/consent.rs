#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mimi_fuzz::consent(input));
