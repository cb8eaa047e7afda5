//! From a float vector to an int8 row and back.

use crate::embedding::{EmbeddingError, dot};

/// Largest magnitude of a component; -128 is not used, so that negation is exact.
const LIMIT: f32 = 127.0;

/// Quantises a vector of any length into `row`, whose tail beyond the vector becomes zero.
///
/// Each component is the nearest integer to `x * 127 / max|x|`. The scale that comes back is
/// one over the length of the integer row, so that scale times row is a unit vector and the
/// similarity of two rows is a true cosine.
///
/// # Errors
/// [`EmbeddingError`] when the vector has no direction.
pub(crate) fn quantise(vector: &[f32], row: &mut [u8]) -> Result<f32, EmbeddingError> {
    if !vector.iter().fold(0f32, |sum, x| sum + x * 0.0).eq(&0.0) {
        let at = vector.iter().position(|x| !x.is_finite()).unwrap_or(0);
        return Err(EmbeddingError::NotFinite(at));
    }
    let largest = vector.iter().fold(0f32, |m, x| m.max(x.abs()));
    if largest < 1e-12 {
        return Err(EmbeddingError::Zero);
    }
    // Two steps, as 127 / largest could overflow for a subnormal and lose range for a huge one.
    let inverse = LIMIT / largest;
    let (head, tail) = row.split_at_mut(vector.len());
    let mut squares = 0i32;
    for (cell, x) in head.iter_mut().zip(vector) {
        let component = (x * inverse).round_ties_even().clamp(-LIMIT, LIMIT) as i32;
        squares += component * component;
        *cell = component as i8 as u8;
    }
    tail.fill(0);
    Ok((1.0 / f64::from(squares).sqrt()) as f32)
}

/// The similarity of a float vector with a row: the row is scaled, the vector is not rounded.
pub(crate) fn similarity(vector: &[f32], row: &[u8], scale: f32) -> f32 {
    let mut sum = 0f32;
    let mut floats = [0f32; 64];
    for (part, cells) in vector.chunks(64).zip(row.chunks(64)) {
        for (float, &cell) in floats.iter_mut().zip(cells) {
            *float = f32::from(cell as i8);
        }
        sum += dot(part, &floats[..part.len()]);
    }
    (sum * scale).clamp(-1.0, 1.0)
}

/// Writes the unit vector that a row stands for.
pub(crate) fn restore(row: &[u8], scale: f32, vector: &mut [f32]) {
    for (x, &cell) in vector.iter_mut().zip(row) {
        *x = f32::from(cell as i8) * scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_unit_vector_within_half_a_step() {
        let vector: Vec<f32> = (0..100).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.003).collect();
        let mut row = [1u8; 128];
        let scale = quantise(&vector, &mut row).unwrap();
        let mut back = [0f32; 100];
        restore(&row, scale, &mut back);
        let norm = dot(&vector, &vector).sqrt();
        assert!((dot(&back, &back) - 1.0).abs() < 1e-5);
        assert!(row[100..].iter().all(|&b| b == 0));
        for (b, x) in back.iter().zip(&vector) {
            assert!((b - x / norm).abs() < 0.6 * scale, "{b} {x}");
        }
        assert!((similarity(&vector, &row, scale) / norm - 1.0).abs() < 1e-4);
    }

    #[test]
    fn extremes_keep_their_sign_and_nothing_overflows() {
        let mut row = [0u8; 64];
        for factor in [1e-11, 1.0, f32::MAX] {
            let scale = quantise(&[factor, -factor, 0.0], &mut row).unwrap();
            assert_eq!([row[0] as i8, row[1] as i8, row[2] as i8], [127, -127, 0]);
            assert!((scale * 127.0 - 0.5f32.sqrt()).abs() < 1e-5);
        }
        assert_eq!(quantise(&[0.0, 1e-20], &mut row), Err(EmbeddingError::Zero));
        assert_eq!(quantise(&[0.0, f32::NAN], &mut row), Err(EmbeddingError::NotFinite(1)));
        assert_eq!(quantise(&[f32::INFINITY], &mut row), Err(EmbeddingError::NotFinite(0)));
    }
}
