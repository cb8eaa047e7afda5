//! From `f32` weights to symmetric int8 with one scale per output channel.

/// A weight quantised along one axis: `value ≈ int8 · scale`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct QuantisedWeight {
    /// Integers from -127 to 127, in the order of the original.
    pub values: Vec<i8>,
    /// One scale for each position along the axis; positive and normal.
    pub scales: Vec<f32>,
}

/// Clipping ratios that are tried for each channel: 1 keeps the largest weight.
const RATIOS: usize = 25;

/// The smallest ratio tried.
const SMALLEST_RATIO: f32 = 0.7;

/// Quantises `values` of this shape with one scale for each position along `axis`.
///
/// The scale of a channel is the one, of a grid from 0.7 to 1 times that of its largest weight, with
/// the smallest squared error. Integers are rounded half to even.
pub(super) fn quantise_weight(values: &[f32], shape: &[usize], axis: usize) -> QuantisedWeight {
    let channels = shape[axis];
    let inner: usize = shape[axis + 1..].iter().product();
    let mut quantised = QuantisedWeight { values: vec![0; values.len()], scales: Vec::new() };
    let mut row = Vec::new();
    for channel in 0..channels {
        let positions = (0..values.len() / (channels * inner))
            .flat_map(|outer| (0..inner).map(move |i| (outer * channels + channel) * inner + i));
        row.clear();
        row.extend(positions.clone().map(|at| values[at]));
        let scale = best_scale(&row);
        for (at, value) in positions.zip(&row) {
            quantised.values[at] = round(*value, 1.0 / scale);
        }
        quantised.scales.push(scale);
    }
    quantised
}

fn round(value: f32, inverse_scale: f32) -> i8 {
    (value * inverse_scale).round_ties_even().clamp(-127.0, 127.0) as i8
}

/// The scale with the smallest squared error on one channel.
fn best_scale(row: &[f32]) -> f32 {
    let largest = row.iter().fold(0f32, |m, v| m.max(v.abs()));
    if largest < 127.0 * f32::MIN_POSITIVE {
        return 1.0;
    }
    let full = largest / 127.0;
    let error = |scale: f32| -> f32 {
        let inverse = 1.0 / scale;
        row.iter().map(|v| (v - f32::from(round(*v, inverse)) * scale).powi(2)).sum()
    };
    let mut best = (full, error(full));
    for step in 0..RATIOS {
        let ratio = SMALLEST_RATIO + (1.0 - SMALLEST_RATIO) * step as f32 / RATIOS as f32;
        let error = error(full * ratio);
        if error < best.1 {
            best = (full * ratio, error);
        }
    }
    best.0
}

/// The relative error of a quantised weight: the norm of the difference over that of the weight.
pub(super) fn relative_error(
    values: &[f32],
    quantised: &QuantisedWeight,
    shape: &[usize],
    axis: usize,
) -> f64 {
    let channels = shape[axis];
    let inner: usize = shape[axis + 1..].iter().product();
    let (mut difference, mut total) = (0f64, 0f64);
    for (at, (value, q)) in values.iter().zip(&quantised.values).enumerate() {
        let back = f32::from(*q) * quantised.scales[at / inner % channels];
        difference += f64::from(value - back).powi(2);
        total += f64::from(*value).powi(2);
    }
    if total == 0.0 { 0.0 } else { (difference / total).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize) -> Vec<f32> {
        let mut state = 1u32;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    #[test]
    fn errors_stay_within_half_a_step_where_nothing_is_clipped() {
        let values = noise(6 * 5 * 4);
        let shape = [6, 5, 4];
        for axis in 0..3 {
            let quantised = quantise_weight(&values, &shape, axis);
            assert_eq!(quantised.scales.len(), shape[axis]);
            assert!(relative_error(&values, &quantised, &shape, axis) < 0.01);
        }
    }

    #[test]
    fn a_channel_of_zeros_has_a_usable_scale() {
        let quantised = quantise_weight(&[0.0, 0.0, 1.0, -2.0], &[2, 2], 0);
        assert_eq!(quantised.values, [0, 0, 64, -127]);
        assert_eq!(quantised.scales[0], 1.0);
    }

    #[test]
    fn clipping_is_never_worse_than_keeping_the_largest_weight() {
        let mut row = noise(1000);
        row[3] = 40.0;
        let error = |scale: f32| -> f32 {
            row.iter().map(|v| (v - f32::from(round(*v, 1.0 / scale)) * scale).powi(2)).sum()
        };
        assert!(error(best_scale(&row)) <= error(40.0 / 127.0));
    }
}
