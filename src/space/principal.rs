//! Shorter points: a rotation after which the first numbers matter most.

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use super::error::SpaceError;
use super::linear;
use super::neighbours::nearest;
use super::points::{Points, norm};

const WHAT: &str = "principal components";

/// Principal components of a set of points (Pearson 1901), for storing the first few numbers of
/// each point instead of all: a Matryoshka of any space.
///
/// [`Principal::fit`] takes the mean away first, so similarities of its short points are those of
/// the centred space; [`Principal::around_origin`] leaves it. Compare short points with short
/// points only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Principal {
    dimension: usize,
    mean: Vec<f32>,
    /// Unit axes one after another, the one with the most variance first.
    axes: Vec<f32>,
    /// Share of the variance that each axis carries.
    explained: Vec<f64>,
}

impl Principal {
    /// Finds the first `kept` axes of the points around their mean.
    ///
    /// # Errors
    /// [`SpaceError::TooFewRows`] below two rows; [`SpaceError::AllRowsEqual`];
    /// [`SpaceError::OutOfRange`] unless `kept` is 1 to the smaller of rows - 1 and dimension.
    pub fn fit(points: &Points, kept: usize) -> Result<Self, SpaceError> {
        points.need(WHAT, 2)?;
        if !(1..=points.dimension().min(points.rows() - 1)).contains(&kept) {
            let range = "1 to the dimension, and below the number of rows";
            let value = kept as f64;
            return Err(SpaceError::OutOfRange { what: "the kept dimension", range, value });
        }
        Self::around(points, points.mean(), kept)
    }

    /// Finds the first `kept` axes of the points around the origin (the singular vectors of the
    /// array itself): of all projections to that many numbers this one keeps the dot products
    /// best (Eckart and Young 1936), and no mean has to be taken off before.
    ///
    /// # Errors
    /// [`SpaceError::TooFewRows`] below two rows; [`SpaceError::OutOfRange`] unless `kept` is 1 to
    /// the smaller of rows and dimension.
    pub fn around_origin(points: &Points, kept: usize) -> Result<Self, SpaceError> {
        points.need(WHAT, 2)?;
        if !(1..=points.dimension().min(points.rows())).contains(&kept) {
            let range = "1 to the dimension, and at most the number of rows";
            let value = kept as f64;
            return Err(SpaceError::OutOfRange { what: "the kept dimension", range, value });
        }
        Self::around(points, vec![0.0; points.dimension()], kept)
    }

    fn around(points: &Points, mean: Vec<f64>, kept: usize) -> Result<Self, SpaceError> {
        let covariance = linear::covariance(&points.shifted_columns(Some(&mean)));
        let total = covariance.trace();
        if total < 1e-12 {
            return Err(SpaceError::AllRowsEqual { what: WHAT, rows: points.rows() });
        }
        let (values, vectors) = linear::eigen(covariance)?;
        let axes = vectors.columns(0, kept).iter().map(|&x| x as f32).collect();
        Ok(Self {
            dimension: points.dimension(),
            mean: mean.iter().map(|&m| m as f32).collect(),
            axes,
            explained: values[..kept].iter().map(|v| v / total).collect(),
        })
    }

    /// The unit axes, one after another: a matrix of [`Principal::kept`] rows.
    pub fn axes(&self) -> &[f32] {
        &self.axes
    }

    /// Numbers of a short point.
    pub fn kept(&self) -> usize {
        self.explained.len()
    }

    /// Share of the variance that each axis carries, largest first.
    pub fn explained(&self) -> &[f64] {
        &self.explained
    }

    /// The first `kept` axes only.
    ///
    /// # Errors
    /// [`SpaceError::OutOfRange`] unless `kept` is 1 to [`Principal::kept`].
    pub fn truncated(&self, kept: usize) -> Result<Self, SpaceError> {
        if !(1..=self.kept()).contains(&kept) {
            let range = "1 to the number of axes there are";
            let value = kept as f64;
            return Err(SpaceError::OutOfRange { what: "the kept dimension", range, value });
        }
        let axes = self.axes[..kept * self.dimension].to_vec();
        let explained = self.explained[..kept].to_vec();
        Ok(Self { axes, explained, mean: self.mean.clone(), dimension: self.dimension })
    }

    /// Short points, of length one. A point at the mean has no direction and is
    /// [`SpaceError::Cancelled`].
    ///
    /// # Errors
    /// [`SpaceError::Dimension`] when the points have another length.
    pub fn apply(&self, points: &Points) -> Result<Points, SpaceError> {
        if points.dimension() != self.dimension {
            let (left, right) = (self.dimension, points.dimension());
            return Err(SpaceError::Dimension { left, right });
        }
        let mean: Vec<f64> = self.mean.iter().map(|&m| f64::from(m)).collect();
        let axes = DMatrix::from_column_slice(self.dimension, self.kept(), &self.axes);
        let columns = points.shifted_columns(Some(&mean)).cast::<f32>();
        let mut short = axes.transpose() * columns;
        for mut column in short.column_iter_mut() {
            let length = norm(column.as_slice());
            if length < 1e-9 {
                return Err(SpaceError::Cancelled);
            }
            column /= length as f32;
        }
        Points::new(short.as_slice().to_vec(), self.kept())
    }
}

/// Share of each point's `k` nearest neighbours that are still among its `k` nearest in `other`
/// (row i of both is one point): the recall that a shortening or quantisation costs.
///
/// # Errors
/// [`SpaceError::Unpaired`]; [`SpaceError::TooFewRows`] below `k + 1` rows;
/// [`SpaceError::OutOfRange`] for `k` = 0.
pub fn neighbour_recall(points: &Points, other: &Points, k: usize) -> Result<f64, SpaceError> {
    if points.rows() != other.rows() {
        return Err(SpaceError::Unpaired { left: points.rows(), right: other.rows() });
    }
    if k == 0 {
        return Err(SpaceError::OutOfRange { what: "k", range: "at least 1", value: 0.0 });
    }
    let (before, after) = (nearest(points, points, k, true)?, nearest(other, other, k, true)?);
    let shared: usize = before
        .iter()
        .zip(&after)
        .map(|(a, b)| a.iter().filter(|n| b.iter().any(|m| m.row == n.row)).count())
        .sum();
    Ok(shared as f64 / (points.rows() * k) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points that differ in the first two of six numbers only.
    fn flat() -> Points {
        let values = (0..40).map(|i| i as f32 * 0.15);
        let rows = values.flat_map(|a| [a.cos() * 0.6, a.sin() * 0.6, 0.8, 0.0, 0.0, 0.0]);
        Points::new(rows.collect(), 6).unwrap()
    }

    #[test]
    fn two_axes_hold_what_lies_in_a_plane() {
        let points = flat();
        let fitted = Principal::fit(&points, 4).unwrap();
        assert!(fitted.explained()[..2].iter().sum::<f64>() > 0.9999);
        let short = fitted.truncated(2).unwrap().apply(&points).unwrap();
        assert_eq!(short.dimension(), 2);
        assert!(neighbour_recall(&points, &short, 4).unwrap() > 0.95);
        assert_eq!(neighbour_recall(&points, &points, 4), Ok(1.0));
    }

    #[test]
    fn axes_around_the_origin_keep_similarities() {
        let points = flat();
        let short = Principal::around_origin(&points, 3).unwrap().apply(&points).unwrap();
        for row in 1..points.rows() {
            let before = crate::embedding::dot(points.row(0), points.row(row));
            let after = crate::embedding::dot(short.row(0), short.row(row));
            assert!((before - after).abs() < 1e-5, "{before} {after}");
        }
        assert!(Principal::around_origin(&points, 7).is_err());
    }

    #[test]
    fn sets_without_axes_are_refused() {
        let same = Points::new([1.0, 0.0].repeat(4), 2).unwrap();
        assert!(matches!(Principal::fit(&same, 1), Err(SpaceError::AllRowsEqual { .. })));
        assert!(Principal::fit(&same.select(&[0]), 1).is_err());
        assert!(Principal::fit(&flat(), 7).is_err());
        assert!(Principal::fit(&flat(), 2).unwrap().truncated(3).is_err());
        assert!(Principal::fit(&flat(), 2).unwrap().apply(&same).is_err());
    }
}
