//! From a float vector to an int8 row and back.

use crate::embedding::{EmbeddingError, dot};
use crate::index::rotate::Rotation;

/// Largest magnitude of a component; -128 is not used, so that negation is exact.
const LIMIT: f32 = 127.0;
const ROUNDER: f32 = 12_582_912.0;

/// Rotates and rounds a vector of any length into `row`. `scratch` is overwritten.
///
/// # Errors
/// [`EmbeddingError`] when the vector has no direction.
pub(crate) fn quantise(
    vector: &[f32],
    rotation: &Rotation,
    scratch: &mut Vec<f32>,
    row: &mut [u8],
) -> Result<f32, EmbeddingError> {
    if let Some(at) = vector.iter().position(|x| !x.is_finite()) {
        return Err(EmbeddingError::NotFinite(at));
    }
    let largest = vector.iter().fold(0f32, |m, x| m.max(x.abs()));
    if largest < 1e-12 {
        return Err(EmbeddingError::Zero);
    }
    // Divided first, so that no sum overflows.
    scratch.clear();
    scratch.extend(vector.iter().map(|x| x / largest));
    rotation.apply(scratch);
    Ok(round(scratch, row))
}

/// Rounds a rotated vector, not all zero, into `row`, whose tail beyond it becomes zero.
///
/// Each component is the nearest integer to `x * 127 / max|x|`. The scale that comes back is
/// one over the length of the integer row, so that scale times row is a unit vector and the
/// similarity of two rows is a true cosine.
pub(crate) fn round(rotated: &[f32], row: &mut [u8]) -> f32 {
    let largest = rotated.iter().fold(0f32, |m, x| m.max(x.abs()));
    let inverse = LIMIT / largest;
    let (head, tail) = row.split_at_mut(rotated.len());
    let mut squares = 0i32;
    for (cell, x) in head.iter_mut().zip(rotated) {
        // Adding and taking away 1.5 · 2²³ rounds to the nearest integer, ties to even.
        let component = (x * inverse).clamp(-LIMIT, LIMIT) + ROUNDER - ROUNDER;
        let component = component as i32;
        squares += component * component;
        *cell = component as i8 as u8;
    }
    tail.fill(0);
    (1.0 / f64::from(squares).sqrt()) as f32
}

/// The similarity of a rotated float vector with a row: the vector is not rounded.
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

/// Writes the unit vector that a row stands for, rotated.
pub(crate) fn restore_rotated(row: &[u8], scale: f32, vector: &mut [f32]) {
    for (x, &cell) in vector.iter_mut().zip(row) {
        *x = f32::from(cell as i8) * scale;
    }
}

/// Writes the unit vector that a row stands for.
pub(crate) fn restore(row: &[u8], scale: f32, rotation: &Rotation, vector: &mut [f32]) {
    restore_rotated(row, scale, vector);
    rotation.undo(vector);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_unit_vector_within_half_a_step() {
        let vector: Vec<f32> = (0..100).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.003).collect();
        let rotation = Rotation::new(100);
        let mut row = [1u8; 128];
        let scale = quantise(&vector, &rotation, &mut Vec::new(), &mut row).unwrap();
        let mut back = [0f32; 100];
        restore(&row, scale, &rotation, &mut back);
        let norm = dot(&vector, &vector).sqrt();
        assert!((dot(&back, &back) - 1.0).abs() < 1e-5);
        assert!(row[100..].iter().all(|&b| b == 0));
        assert_eq!(row.iter().map(|&b| (b as i8).unsigned_abs()).max(), Some(127));
        let error: f32 = back.iter().zip(&vector).map(|(b, x)| (b - x / norm).powi(2)).sum();
        // A step is `scale`, and a rounding error is a third of half a step in the mean square.
        assert!(error < 100.0 * (scale / 2.0).powi(2) / 3.0 * 1.5, "{error}");
        let mut rotated = vector.clone();
        rotation.apply(&mut rotated);
        assert!((similarity(&rotated, &row, scale) / norm - 1.0).abs() < 1e-4);
        // What was rounded once is not changed by rounding again.
        let mut again = [1u8; 128];
        quantise(&back, &rotation, &mut Vec::new(), &mut again).unwrap();
        assert_eq!(again, row);
    }

    #[test]
    fn rounding_is_to_the_nearest_and_ties_to_even() {
        let mut row = [0u8; 64];
        round(&[127.0, 0.5, 1.5, -0.5, -2.5, -126.6, 3.49, -0.0], &mut row);
        let cells: Vec<i8> = row[..8].iter().map(|&b| b as i8).collect();
        assert_eq!(cells, [127, 0, 2, 0, -2, -127, 3, 0]);
    }

    #[test]
    fn extremes_do_not_overflow_and_vectors_without_direction_are_refused() {
        let rotation = Rotation::new(3);
        let mut row = [0u8; 64];
        let mut turn = |vector: &[f32]| quantise(vector, &rotation, &mut Vec::new(), &mut row);
        let scale = turn(&[1.0, -1.0, 0.0]).unwrap();
        for factor in [1e-11, f32::MAX] {
            assert!((turn(&[factor, -factor, 0.0]).unwrap() - scale).abs() < 1e-6);
        }
        assert_eq!(turn(&[0.0, 1e-20, 0.0]), Err(EmbeddingError::Zero));
        assert_eq!(turn(&[0.0, f32::NAN, 0.0]), Err(EmbeddingError::NotFinite(1)));
        assert_eq!(turn(&[f32::INFINITY, 0.0, 0.0]), Err(EmbeddingError::NotFinite(0)));
    }
}
