//! Points for tests.

use crate::embedding::{Embedding, Modality, SpaceId};

/// A point in this direction.
pub fn at(modality: Modality, values: &[f32]) -> Embedding {
    Embedding::new(SpaceId::from_bytes([1; 32]), modality, values.to_vec()).unwrap()
}

/// Asserts that a point lies in this direction.
pub fn close(found: &Embedding, expected: &[f32]) {
    let expected = at(found.modality(), expected);
    for (a, b) in found.values().iter().zip(expected.values()) {
        assert!((a - b).abs() < 1e-5, "{:?} is not {:?}", found.values(), expected.values());
    }
}
