//! From `f32` weights to symmetric int8 with one scale per output channel.

/// A weight quantised by rows: `value ≈ int8 · scale`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct QuantisedWeight {
    /// Integers from -127 to 127, row by row.
    pub values: Vec<i8>,
    /// One scale for each row; positive and normal.
    pub scales: Vec<f32>,
}

/// Quantises `rows` rows of weights, each with the scale of its largest weight. Integers are rounded
/// half to even.
pub(super) fn quantise_rows(values: &[f32], rows: usize) -> QuantisedWeight {
    let length = values.len() / rows.max(1);
    let mut quantised = QuantisedWeight { values: Vec::new(), scales: Vec::new() };
    for row in values.chunks_exact(length.max(1)) {
        let scale = scale_of(row);
        quantised.values.extend(row.iter().map(|value| round(*value, 1.0 / scale)));
        quantised.scales.push(scale);
    }
    quantised
}

/// The integer nearest to a weight.
pub(super) fn round(value: f32, inverse_scale: f32) -> i8 {
    (value * inverse_scale).round_ties_even().clamp(-127.0, 127.0) as i8
}

/// The scale with which the largest weight of a row becomes 127; 1 for a row of zeros.
fn scale_of(row: &[f32]) -> f32 {
    let largest = row.iter().fold(0f32, |m, v| m.max(v.abs()));
    let scale = largest / 127.0;
    if scale.is_normal() && (1.0 / scale).is_finite() { scale } else { 1.0 }
}

/// The relative error of a quantised weight: the norm of the difference over that of the weight.
pub(super) fn relative_error(values: &[f32], quantised: &QuantisedWeight) -> f64 {
    let length = values.len() / quantised.scales.len().max(1);
    let (mut difference, mut total) = (0f64, 0f64);
    for (at, (value, q)) in values.iter().zip(&quantised.values).enumerate() {
        let back = f32::from(*q) * quantised.scales[at / length];
        difference += f64::from(value - back).powi(2);
        total += f64::from(*value).powi(2);
    }
    if total == 0.0 { 0.0 } else { (difference / total).sqrt() }
}

/// Rows to columns: `values` is `rows` × (rest).
pub(super) fn transpose<T: Copy>(values: &[T], rows: usize) -> Vec<T> {
    let columns = values.len() / rows.max(1);
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_half_to_even_and_symmetric() {
        let quantised = quantise_rows(&[127.0, 0.5, 1.5, -2.5, -127.0, 63.4], 1);
        assert_eq!(quantised.scales, [1.0]);
        assert_eq!(quantised.values, [127, 0, 2, -2, -127, 63]);
    }

    #[test]
    fn a_row_of_zeros_or_of_tiny_numbers_has_a_usable_scale() {
        let quantised = quantise_rows(&[0.0, 0.0, 1.0, -2.0, 1e-42, 0.0], 3);
        assert_eq!(quantised.values, [0, 0, 64, -127, 0, 0]);
        assert_eq!((quantised.scales[0], quantised.scales[2]), (1.0, 1.0));
    }

    #[test]
    fn the_error_is_relative() {
        let values = [1.0, 0.25, -0.5, 100.0, 25.0, -50.0];
        let quantised = quantise_rows(&values, 2);
        assert!(relative_error(&values, &quantised) < 0.004);
        assert_eq!(transpose(&transpose(&values, 2), 3), values);
    }
}
