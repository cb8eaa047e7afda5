//! Parses arbitrary words as a query; what is accepted obeys the rules of a term. A zero byte ends
//! a word: a command line cannot hold one within.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sextant::index::parse_formula;

fuzz_target!(|bytes: &[u8]| {
    let words: Vec<&[u8]> = bytes.split(|byte| *byte == 0).collect();
    match parse_formula(&words) {
        Ok(mut formula) => {
            assert!(formula.terms_mut().count() > 0);
            for term in formula.terms_mut() {
                assert!(term.weight.is_finite() && term.weight != 0.0);
                assert!(!term.content.is_empty());
            }
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
});
