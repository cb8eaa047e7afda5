//! How many directions a set really uses.

use crate::space::error::SpaceError;
use crate::space::linear;
use crate::space::points::Points;

/// Eigenvalues below this part of the largest are rounding noise.
const NOISE: f64 = 1e-13;

/// Effective dimensions of a set, from its singular values.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct EffectiveRank {
    /// Exponential of the entropy of the singular values, made to sum to one (Roy and Vetterli
    /// 2007; "RankMe", Garrido et al. 2023): from 1 to the dimension.
    pub rank: f64,
    /// The same after the mean is taken away; 0 when all rows are equal.
    pub centred_rank: f64,
    /// `(Σλ)² / Σλ²` of the covariance's eigenvalues: how many directions carry the variance; 0
    /// when all rows are equal.
    pub participation: f64,
}

/// Measures the effective rank. With fewer rows than dimensions it is at most the rows.
///
/// # Errors
/// [`SpaceError::TooFewRows`] without rows.
pub fn effective_rank(points: &Points) -> Result<EffectiveRank, SpaceError> {
    points.need("the effective rank", 1)?;
    let whole = linear::spectrum(&points.shifted_columns(None))?;
    let centred = linear::spectrum(&points.shifted_columns(Some(&points.mean())))?;
    let scale = whole.first().copied().unwrap_or(0.0);
    let squares: f64 = signal(&centred, scale).map(|v| v * v).sum();
    let sum: f64 = signal(&centred, scale).sum();
    Ok(EffectiveRank {
        rank: entropy_rank(&whole, scale),
        centred_rank: entropy_rank(&centred, scale),
        participation: if squares > 0.0 { sum * sum / squares } else { 0.0 },
    })
}

fn signal(eigenvalues: &[f64], scale: f64) -> impl Iterator<Item = f64> {
    eigenvalues.iter().copied().filter(move |&v| v > scale * NOISE)
}

fn entropy_rank(eigenvalues: &[f64], scale: f64) -> f64 {
    let total: f64 = signal(eigenvalues, scale).map(f64::sqrt).sum();
    if total <= 0.0 {
        return 0.0;
    }
    let entropy: f64 = signal(eigenvalues, scale)
        .map(|value| value.sqrt() / total)
        .map(|share| -share * share.ln())
        .sum();
    entropy.exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_use_every_direction_evenly() {
        let axes: Vec<f32> =
            (0..5).flat_map(|i| (0..5).map(move |j| f32::from(u8::from(i == j)))).collect();
        let found = effective_rank(&Points::new(axes, 5).unwrap()).unwrap();
        assert!((found.rank - 5.0).abs() < 1e-9);
        assert!((found.centred_rank - 4.0).abs() < 1e-9);
        assert!((found.participation - 4.0).abs() < 1e-9);
    }

    #[test]
    fn one_point_and_fewer_rows_than_dimensions_are_defined() {
        let mut point = vec![0f32; 16];
        point[3] = 1.0;
        let one = effective_rank(&Points::new(point.clone(), 16).unwrap()).unwrap();
        assert!((one.rank - 1.0).abs() < 1e-9);
        assert_eq!((one.centred_rank, one.participation), (0.0, 0.0));
        let same = effective_rank(&Points::new(point.repeat(7), 16).unwrap()).unwrap();
        assert!((same.rank - 1.0).abs() < 1e-9 && same.participation == 0.0);
    }
}
