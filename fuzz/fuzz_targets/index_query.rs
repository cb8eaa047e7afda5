//! Parses arbitrary words as a query; what is accepted obeys the rules of a term.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sextant::index::parse_formula;

fuzz_target!(|words: Vec<Vec<u8>>| {
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
