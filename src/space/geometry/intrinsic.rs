//! Intrinsic dimension: how many numbers would describe where the points lie.
//!
//! Both estimators look at nearest neighbours only. They assume that density is even within a
//! neighbourhood and underestimate high dimensions from few rows: a few thousand rows show a
//! dimension of 20 as about 15. Compare values of one size of sample, not absolute ones.

use crate::space::error::SpaceError;
use crate::space::neighbours::nearest;
use crate::space::points::Points;

/// Share of the largest ratios that is left out of the fit, as its authors do.
const DISCARDED: f64 = 0.1;

/// The answer of [`two_nearest_dimension`].
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct TwoNearest {
    /// The estimated dimension.
    pub dimension: f64,
    /// Rows without a duplicate: those that count.
    pub rows: usize,
}

/// TwoNN (Facco et al. 2017): the ratio μ of a point's second to its first neighbour's distance
/// follows `1 - μ^-d`; d is the slope of `-ln(1 - F(μ))` over `ln μ`, through the origin, without
/// the largest tenth of the ratios. Rows with an exact duplicate are left out.
///
/// # Errors
/// [`SpaceError::TooFewRows`] below ten rows without duplicates; [`SpaceError::Duplicates`].
pub fn two_nearest_dimension(points: &Points) -> Result<TwoNearest, SpaceError> {
    const WHAT: &str = "the intrinsic dimension (TwoNN)";
    points.need(WHAT, 10)?;
    let found = nearest(points, points, 2, true)?;
    let ratios = found.iter().filter(|pair| pair[0].distance > 0.0);
    let mut ratios: Vec<f64> = ratios.map(|pair| pair[1].distance / pair[0].distance).collect();
    let rows = ratios.len();
    if rows == 0 {
        return Err(SpaceError::Duplicates { what: WHAT, rows: points.rows() });
    }
    if rows < 10 {
        return Err(SpaceError::TooFewRows { what: WHAT, needed: 10, found: rows });
    }
    ratios.sort_by(f64::total_cmp);
    let kept = (rows as f64 * (1.0 - DISCARDED)) as usize;
    let (mut product, mut square) = (0.0, 0.0);
    for (rank, ratio) in ratios[..kept].iter().enumerate() {
        let x = ratio.ln();
        let y = -(1.0 - (rank + 1) as f64 / rows as f64).ln();
        product += x * y;
        square += x * x;
    }
    // A regular grid has equal distances everywhere: no ratio, no slope.
    if square < f64::EPSILON {
        return Err(SpaceError::Singular { what: WHAT });
    }
    Ok(TwoNearest { dimension: product / square, rows })
}

/// Maximum likelihood (Levina and Bickel 2005) over `k` neighbours, the points' estimates joined
/// by their harmonic mean (MacKay and Ghahramani 2005). Rows with an exact duplicate are left
/// out.
///
/// # Errors
/// [`SpaceError::OutOfRange`] for `k` below 3; [`SpaceError::TooFewRows`] below `k + 1` rows;
/// [`SpaceError::Duplicates`]; [`SpaceError::Singular`] when all neighbours are equally far.
pub fn maximum_likelihood_dimension(points: &Points, k: usize) -> Result<f64, SpaceError> {
    const WHAT: &str = "the intrinsic dimension (maximum likelihood)";
    if k < 3 {
        return Err(SpaceError::OutOfRange { what: "k", range: "at least 3", value: k as f64 });
    }
    points.need(WHAT, k + 1)?;
    let found = nearest(points, points, k, true)?;
    let inverses: Vec<f64> = found
        .iter()
        .filter(|neighbours| neighbours[0].distance > 0.0)
        .map(|neighbours| {
            let last = neighbours[k - 1].distance;
            let logs: f64 = neighbours.iter().map(|n| (last / n.distance).ln()).sum();
            logs / (k - 1) as f64
        })
        .collect();
    if inverses.is_empty() {
        return Err(SpaceError::Duplicates { what: WHAT, rows: points.rows() });
    }
    let mean = inverses.iter().sum::<f64>() / inverses.len() as f64;
    if mean < f64::EPSILON { Err(SpaceError::Singular { what: WHAT }) } else { Ok(1.0 / mean) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::sample::Dice;

    /// Random points on a circle and on a sphere inside of 20 dimensions.
    fn sphere(surface: usize, count: usize) -> Points {
        let mut dice = Dice::new(5);
        let mut uniform = move || (dice.below(1 << 24) as f32 + 0.5) / (1 << 24) as f32;
        let mut values = Vec::new();
        for _ in 0..count {
            // Box-Muller gives a normal cloud, which is even in all directions.
            let normal: Vec<f32> = (0..=surface)
                .map(|_| {
                    let (u, v) = (uniform(), uniform());
                    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
                })
                .collect();
            let norm = normal.iter().map(|x| x * x).sum::<f32>().sqrt();
            values.extend(normal.iter().map(|x| x / norm));
            values.extend(vec![0.0; 19 - surface]);
        }
        Points::new(values, 20).unwrap()
    }

    #[test]
    fn spheres_have_the_dimension_of_their_surface() {
        for (surface, slack) in [(1, 0.15), (2, 0.25), (5, 0.7)] {
            let points = sphere(surface, 1500);
            let two = two_nearest_dimension(&points).unwrap().dimension;
            let likely = maximum_likelihood_dimension(&points, 20).unwrap();
            let true_dimension = surface as f64;
            assert!((two - true_dimension).abs() < slack, "{surface}: {two}");
            assert!((likely - true_dimension).abs() < slack, "{surface}: {likely}");
        }
    }

    #[test]
    fn duplicates_and_few_rows_are_refused_not_nan() {
        let same = Points::new([1.0, 0.0].repeat(30), 2).unwrap();
        assert!(matches!(two_nearest_dimension(&same), Err(SpaceError::Duplicates { .. })));
        let likely = maximum_likelihood_dimension(&same, 5);
        assert!(matches!(likely, Err(SpaceError::Duplicates { .. })));
        let few = Points::new([1.0, 0.0].repeat(5), 2).unwrap();
        assert!(matches!(two_nearest_dimension(&few), Err(SpaceError::TooFewRows { .. })));
        assert!(maximum_likelihood_dimension(&few, 2).is_err());
    }
}
