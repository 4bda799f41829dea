#![no_main]

libfuzzer_sys::fuzz_target!(|tape: &[u8]| jamcast::hostile::canvas(tape));
