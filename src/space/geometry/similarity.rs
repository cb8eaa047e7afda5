//! Similarities of matching and of random pairs.

use crate::embedding::dot;
use crate::space::error::SpaceError;
use crate::space::points::Points;
use crate::space::sample::Dice;

/// Similarities counted in equal bins.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Histogram {
    /// Left end of the first bin.
    pub low: f64,
    /// Right end of the last bin.
    pub high: f64,
    /// Values in each bin.
    pub counts: Vec<usize>,
    /// Mean of all values.
    pub mean: f64,
    /// Standard deviation of all values (of the population).
    pub deviation: f64,
}

impl Histogram {
    /// Counts `values` in `bins` bins of equal width from `low` to `high`; the last bin includes
    /// its right end, and values outside go to the outermost bins.
    ///
    /// # Errors
    /// [`SpaceError::TooFewRows`] without values; [`SpaceError::OutOfRange`] without bins or
    /// with `high` not above `low`.
    pub fn new(values: &[f32], bins: usize, low: f64, high: f64) -> Result<Self, SpaceError> {
        if bins == 0 {
            let range = "at least 1";
            return Err(SpaceError::OutOfRange { what: "the number of bins", range, value: 0.0 });
        }
        if high.is_nan() || low.is_nan() || high <= low {
            let range = "above the left end";
            return Err(SpaceError::OutOfRange { what: "the right end", range, value: high });
        }
        if values.is_empty() {
            return Err(SpaceError::TooFewRows { what: "a histogram", needed: 1, found: 0 });
        }
        let mut counts = vec![0; bins];
        for &value in values {
            let place = (f64::from(value) - low) / (high - low) * bins as f64;
            counts[(place.max(0.0) as usize).min(bins - 1)] += 1;
        }
        let size = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / size;
        let square = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / size;
        Ok(Self { low, high, counts, mean, deviation: square.sqrt() })
    }
}

/// Cosine of each row with its partner.
///
/// # Errors
/// [`SpaceError::Unpaired`] or [`SpaceError::Dimension`].
pub fn paired_similarities(left: &Points, right: &Points) -> Result<Vec<f32>, SpaceError> {
    left.pairs_with(right)?;
    Ok(left.iter().zip(right.iter()).map(|(a, b)| dot(a, b)).collect())
}

/// Cosines of `count` random pairs of a picture and a text that is not its own; `owners[text]` is
/// the row of the text's picture (a picture may have several texts), and `seed` decides which.
///
/// # Errors
/// [`SpaceError::TooFewRows`] below two pictures or without a text; [`SpaceError::Unpaired`] unless
/// each text has an owner; [`SpaceError::Dimension`].
pub fn random_similarities(
    images: &Points,
    texts: &Points,
    owners: &[usize],
    count: usize,
    seed: u64,
) -> Result<Vec<f32>, SpaceError> {
    const WHAT: &str = "comparing with captions of other pictures";
    images.same_dimension(texts)?;
    images.need(WHAT, 2)?;
    texts.need(WHAT, 1)?;
    if owners.len() != texts.rows() {
        return Err(SpaceError::Unpaired { left: owners.len(), right: texts.rows() });
    }
    let mut dice = Dice::new(seed);
    let pair = || loop {
        let (image, text) = (dice.below(images.rows()), dice.below(texts.rows()));
        if owners[text] != image {
            return dot(images.row(image), texts.row(text));
        }
    };
    Ok(std::iter::repeat_with(pair).take(count).collect())
}

/// Area under the ROC curve: the probability that a matching pair is more similar than a random
/// one (equal ones count half). 0.5 says nothing, 1 divides them cleanly.
///
/// # Errors
/// [`SpaceError::TooFewRows`] when either side is empty.
pub fn area_under_curve(matching: &[f32], random: &[f32]) -> Result<f64, SpaceError> {
    let found = matching.len().min(random.len());
    if found == 0 {
        return Err(SpaceError::TooFewRows { what: "the area under the curve", needed: 1, found });
    }
    let mut sorted = random.to_vec();
    sorted.sort_by(f32::total_cmp);
    let wins: usize = matching
        .iter()
        .map(|value| {
            let below = sorted.partition_point(|other| other < value);
            below + sorted.partition_point(|other| other <= value)
        })
        .sum();
    Ok(wins as f64 / 2.0 / (matching.len() as f64 * random.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn area_by_hand() {
        assert_eq!(area_under_curve(&[0.9, 0.8], &[0.1, 0.2, 0.3]), Ok(1.0));
        assert_eq!(area_under_curve(&[0.5], &[0.5]), Ok(0.5));
        assert_eq!(area_under_curve(&[0.5, 0.1], &[0.3, 0.1]), Ok(0.625));
        assert!(area_under_curve(&[], &[0.5]).is_err());
    }

    #[test]
    fn histograms_hold_every_value() {
        let found = Histogram::new(&[-2.0, -1.0, 0.0, 0.49, 1.0, 2.0], 4, -1.0, 1.0).unwrap();
        assert_eq!(found.counts, [2, 0, 2, 2]);
        assert!(Histogram::new(&[], 4, -1.0, 1.0).is_err());
        assert!(Histogram::new(&[0.0], 4, 1.0, 1.0).is_err());
    }

    #[test]
    fn random_pairs_are_no_partners() {
        let axes = Points::new(vec![1.0, 0.0, 0.0, 1.0], 2).unwrap();
        let drawn = |owners: &[usize]| random_similarities(&axes, &axes, owners, 50, 3);
        assert!(drawn(&[0, 1]).unwrap().iter().all(|&s| s == 0.0));
        assert!(drawn(&[1, 0]).unwrap().iter().all(|&s| s == 1.0));
        assert!(matches!(drawn(&[0]), Err(SpaceError::Unpaired { .. })));
        assert_eq!(paired_similarities(&axes, &axes), Ok(vec![1.0, 1.0]));
        let one = axes.select(&[0]);
        assert!(random_similarities(&one, &axes, &[0, 0], 1, 0).is_err());
    }
}
