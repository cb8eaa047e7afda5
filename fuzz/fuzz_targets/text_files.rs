//! Parses arbitrary text as the manifest of a model package, as label files of both kinds and
//! as rules, and arbitrary bytes as compiled labels. The first byte chooses.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sextant::watch::Rules;
use sextant::{CompiledLabels, LabelSet, Manifest};

fuzz_target!(|bytes: &[u8]| {
    let Some((&kind, bytes)) = bytes.split_first() else { return };
    if kind % 5 == 0 {
        if let Ok(labels) = CompiledLabels::from_bytes(bytes, "input") {
            assert_eq!(labels.to_bytes(), bytes);
        }
        return;
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let message = match kind % 5 {
        1 => match Manifest::parse(text, "input") {
            Ok(manifest) => {
                // What was read once is written so that it reads back the same.
                let again = manifest.to_toml();
                assert_eq!(Manifest::parse(&again, "input").unwrap().to_toml(), again);
                None
            }
            Err(error) => Some(error.to_string()),
        },
        2 => LabelSet::from_lines(text, "input").err().map(|error| error.to_string()),
        3 => LabelSet::from_toml(text, "input").err().map(|error| error.to_string()),
        _ => Rules::parse(text, "input").err().map(|error| error.to_string()),
    };
    if let Some(message) = message {
        assert!(!message.contains('\n'), "{message}");
    }
});
