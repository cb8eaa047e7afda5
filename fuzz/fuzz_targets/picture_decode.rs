//! Decodes arbitrary bytes as a picture; what is accepted has all its samples and keeps to the
//! limits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sextant::{DecodeLimits, decode_bytes};

fuzz_target!(|bytes: &[u8]| {
    let limits = DecodeLimits { max_pixels: 1 << 20, max_side: 1 << 12, ..DecodeLimits::default() };
    match decode_bytes(bytes, "input", &limits) {
        Ok(picture) => {
            let (width, height) = (u64::from(picture.width()), u64::from(picture.height()));
            assert!(width * height <= limits.max_pixels && width > 0 && height > 0);
            let samples = picture.pixels().bytes().len() as u64;
            assert!(samples.is_multiple_of(width * height));
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
});
