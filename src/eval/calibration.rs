//! How honest scores are.

/// Expected calibration error over `bins` equal-width bins of confidence, in `[0, 1]`: the mean
/// gap between confidence and accuracy, weighted by how many answers fall into a bin (Naeini et
/// al. 2015; Guo et al. 2017). Each answer is its confidence in `[0, 1]` and whether it was right.
/// No answers, or no bins, give 0.
///
/// ```
/// use sextant::eval::expected_calibration_error;
/// let answers = [(0.8, true), (0.8, true), (0.8, true), (0.8, true), (0.8, false)];
/// assert!(expected_calibration_error(&answers, 10) < 1e-6);
/// ```
pub fn expected_calibration_error(answers: &[(f32, bool)], bins: usize) -> f64 {
    let mut confidence = vec![0f64; bins];
    let mut right = vec![0f64; bins];
    for &(score, correct) in answers {
        let Some(last) = bins.checked_sub(1) else { return 0.0 };
        let bin = ((f64::from(score) * bins as f64) as usize).min(last);
        confidence[bin] += f64::from(score);
        right[bin] += f64::from(u8::from(correct));
    }
    let gap: f64 = confidence.iter().zip(&right).map(|(c, r)| (c - r).abs()).sum();
    gap / answers.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_weighted_by_bin() {
        // Bin 9: two answers at 0.95, one right: gap 0.45. Bin 1: one at 0.15, wrong: gap 0.15.
        let answers = [(0.95, true), (0.95, false), (0.15, false)];
        let expected = (2.0 * 0.45 + 0.15) / 3.0;
        assert!((expected_calibration_error(&answers, 10) - expected).abs() < 1e-6);
        assert_eq!(expected_calibration_error(&[], 10), 0.0);
        assert!(expected_calibration_error(&[(1.0, true)], 10).abs() < 1e-9);
    }
}
