//! How close partners lie, and how evenly points cover the sphere.

use rayon::prelude::*;

use crate::space::error::SpaceError;
use crate::space::points::{Points, squared_distance};

/// Alignment (Wang and Isola 2020): the mean squared distance between partners, row by row. From
/// 0 (partners coincide) to 4; on the unit sphere it is `2 - 2 * mean cosine`. Lower is better.
///
/// # Errors
/// [`SpaceError::Unpaired`], [`SpaceError::Dimension`], [`SpaceError::TooFewRows`] without rows.
pub fn alignment(left: &Points, right: &Points) -> Result<f64, SpaceError> {
    left.pairs_with(right)?;
    left.need("alignment", 1)?;
    let total: f64 = left.iter().zip(right.iter()).map(|(a, b)| squared_distance(a, b)).sum();
    Ok(total / left.rows() as f64)
}

/// Uniformity (Wang and Isola 2020, t = 2): the logarithm of the mean of `exp(-2 * distance²)`
/// over all pairs. 0 when all rows are equal, about -4 for an even cover of a large sphere. Lower
/// is better.
///
/// # Errors
/// [`SpaceError::TooFewRows`] below two rows.
pub fn uniformity(points: &Points) -> Result<f64, SpaceError> {
    points.need("uniformity", 2)?;
    let rows = points.rows();
    let sums: Vec<f64> = (0..rows)
        .into_par_iter()
        .map(|i| {
            let kernel = |j| (-2.0 * squared_distance(points.row(i), points.row(j))).exp();
            (i + 1..rows).map(kernel).sum()
        })
        .collect();
    let pairs = rows as f64 * (rows - 1) as f64 / 2.0;
    Ok((sums.iter().sum::<f64>() / pairs).ln())
}

/// How much distances still tell apart in many dimensions.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Concentration {
    /// Mean over points of `(farthest - nearest) / nearest` (Beyer et al. 1999). Near 0, "near"
    /// means nothing; points with a duplicate are left out.
    pub relative_contrast: f64,
    /// Standard deviation of all distances over their mean. Near 0, all distances are alike.
    pub variation: f64,
}

/// Measures the concentration of distances.
///
/// # Errors
/// [`SpaceError::TooFewRows`] below three rows; [`SpaceError::Duplicates`] when no row has a
/// neighbour at a distance above zero.
pub fn concentration(points: &Points) -> Result<Concentration, SpaceError> {
    const WHAT: &str = "distance concentration";
    points.need(WHAT, 3)?;
    let rows = points.rows();
    let found: Vec<Distances> =
        (0..rows).into_par_iter().map(|row| Distances::from(points, row)).collect();
    let contrasts: Vec<f64> = found.iter().filter_map(Distances::contrast).collect();
    let pairs = rows as f64 * (rows - 1) as f64;
    let mean = found.iter().map(|d| d.sum).sum::<f64>() / pairs;
    if contrasts.is_empty() || mean <= 0.0 {
        return Err(SpaceError::Duplicates { what: WHAT, rows });
    }
    let square = found.iter().map(|d| d.squares).sum::<f64>() / pairs;
    Ok(Concentration {
        relative_contrast: contrasts.iter().sum::<f64>() / contrasts.len() as f64,
        variation: (square - mean * mean).max(0.0).sqrt() / mean,
    })
}

/// Distances from one row to all others.
struct Distances {
    nearest: f64,
    farthest: f64,
    sum: f64,
    squares: f64,
}

impl Distances {
    fn from(points: &Points, row: usize) -> Self {
        let mut all = Self { nearest: f64::INFINITY, farthest: 0.0, sum: 0.0, squares: 0.0 };
        for other in (0..points.rows()).filter(|&other| other != row) {
            let square = squared_distance(points.row(row), points.row(other));
            let distance = square.sqrt();
            all.nearest = all.nearest.min(distance);
            all.farthest = all.farthest.max(distance);
            all.sum += distance;
            all.squares += square;
        }
        all
    }

    fn contrast(&self) -> Option<f64> {
        (self.nearest > 0.0).then(|| (self.farthest - self.nearest) / self.nearest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(rows: &[[f32; 2]]) -> Points {
        Points::new(rows.concat(), 2).unwrap()
    }

    #[test]
    fn one_point_many_times_has_no_spread() {
        let same = points(&[[1.0, 0.0]; 5]);
        assert_eq!(uniformity(&same), Ok(0.0));
        assert_eq!(alignment(&same, &same), Ok(0.0));
        let twice = points(&[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]);
        for copies in [same, twice] {
            assert!(matches!(concentration(&copies), Err(SpaceError::Duplicates { .. })));
        }
        assert!(uniformity(&points(&[[1.0, 0.0]])).is_err());
    }

    #[test]
    fn opposite_partners_are_as_far_as_can_be() {
        let (a, b) = (points(&[[1.0, 0.0]]), points(&[[-1.0, 0.0]]));
        assert_eq!(alignment(&a, &b), Ok(4.0));
        assert!(alignment(&a, &points(&[[1.0, 0.0]; 2])).is_err());
    }

    #[test]
    fn distances_of_a_cross_by_hand() {
        let cross = points(&[[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]);
        // Each point: two neighbours at √2, one at 2.
        let (near, far) = (2f64.sqrt(), 2.0);
        let found = concentration(&cross).unwrap();
        assert!((found.relative_contrast - (far - near) / near).abs() < 1e-9);
        let mean = (2.0 * near + far) / 3.0;
        let variance = (2.0 * (near - mean).powi(2) + (far - mean).powi(2)) / 3.0;
        assert!((found.variation - variance.sqrt() / mean).abs() < 1e-9);
        let expected = ((2.0 * (-4f64).exp() + (-8f64).exp()) / 3.0).ln();
        assert!((uniformity(&cross).unwrap() - expected).abs() < 1e-9);
    }
}
