//! Reads arbitrary bytes as a `.npy` file; what is accepted has as many values as it says.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sextant::index::NpyReader;

fuzz_target!(|bytes: &[u8]| {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    if let Ok(mut reader) = NpyReader::open(file.path()) {
        let mut values = Vec::new();
        while reader.read_rows(1000, &mut values).unwrap() > 0 {}
        assert_eq!(values.len() as u64, reader.rows() * reader.columns() as u64);
    }
});
