//! Parses arbitrary words as a query; what is accepted obeys the rules of a term.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sextant::index::parse_query;

fuzz_target!(|words: Vec<Vec<u8>>| {
    match parse_query(&words) {
        Ok(terms) => {
            assert!(!terms.is_empty());
            for term in terms {
                assert!(term.weight.is_finite() && term.weight != 0.0);
                assert!(!term.content.is_empty());
            }
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
});
