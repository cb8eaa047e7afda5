//! Many points of one space, row by row.

use nalgebra::DMatrix;

use super::error::SpaceError;
use crate::embedding::{Embedding, EmbeddingError};

/// How far a row's length may be from one: int8 rows of an index come back a little off.
const UNIT_TOLERANCE: f64 = 0.01;

/// Points of the unit sphere as an array of `rows` × `dimension` numbers, row-major. Checked once
/// here, so that no measurement meets NaN or a row of length zero.
///
/// ```
/// use sextant::space::Points;
/// let points = Points::new(vec![1.0, 0.0, 0.6, 0.8], 2).unwrap();
/// assert_eq!(points.rows(), 2);
/// assert!(Points::new(vec![f32::NAN, 0.0], 2).is_err());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Points {
    values: Vec<f32>,
    dimension: usize,
}

impl Points {
    /// Checks and takes an array of unit rows. No rows at all are allowed here; most measurements
    /// refuse them.
    ///
    /// # Errors
    /// [`SpaceError::NoDimension`], [`SpaceError::Shape`], [`SpaceError::NotFinite`] or
    /// [`SpaceError::NotUnit`] (off by more than one in a hundred).
    pub fn new(values: Vec<f32>, dimension: usize) -> Result<Self, SpaceError> {
        if dimension == 0 {
            return Err(SpaceError::NoDimension);
        }
        if !values.len().is_multiple_of(dimension) {
            return Err(SpaceError::Shape { values: values.len(), dimension });
        }
        for (row, point) in values.chunks_exact(dimension).enumerate() {
            let length = norm(point);
            if !length.is_finite() {
                return Err(SpaceError::NotFinite { row });
            }
            if (length - 1.0).abs() > UNIT_TOLERANCE {
                return Err(SpaceError::NotUnit { row, length: length as f32 });
            }
        }
        Ok(Self { values, dimension })
    }

    /// Gathers embeddings, which must share one space.
    ///
    /// # Errors
    /// [`SpaceError::NoTerms`] without embeddings; [`EmbeddingError::SpaceMismatch`].
    pub fn from_embeddings<'a>(
        embeddings: impl IntoIterator<Item = &'a Embedding>,
    ) -> Result<Self, SpaceError> {
        let mut embeddings = embeddings.into_iter().peekable();
        let first = *embeddings.peek().ok_or(SpaceError::NoTerms)?;
        let dimension = first.values().len();
        let mut values = Vec::new();
        for embedding in embeddings {
            if embedding.space() != first.space() || embedding.values().len() != dimension {
                let (left, right) = (first.space().short(), embedding.space().short());
                return Err(EmbeddingError::SpaceMismatch { left, right }.into());
            }
            values.extend_from_slice(embedding.values());
        }
        Self::new(values, dimension)
    }

    /// Number of points.
    pub fn rows(&self) -> usize {
        self.values.len() / self.dimension
    }

    /// Numbers a point.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// One point; panics beyond the last.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dimension..(index + 1) * self.dimension]
    }

    /// All points in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dimension)
    }

    /// All numbers, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The points at `indices`, in that order; panics beyond the last.
    pub fn select(&self, indices: &[usize]) -> Self {
        let values = indices.iter().flat_map(|&index| self.row(index)).copied().collect();
        Self { values, dimension: self.dimension }
    }

    /// The arithmetic mean of all points, which lies inside the sphere; zeros without points.
    pub fn mean(&self) -> Vec<f64> {
        let mut mean = vec![0f64; self.dimension];
        for point in self.iter() {
            mean.iter_mut().zip(point).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let rows = self.rows().max(1) as f64;
        mean.iter_mut().for_each(|sum| *sum /= rows);
        mean
    }

    /// Fails unless there are `needed` rows for `what`.
    pub(super) fn need(&self, what: &'static str, needed: usize) -> Result<(), SpaceError> {
        if self.rows() >= needed {
            return Ok(());
        }
        Err(SpaceError::TooFewRows { what, needed, found: self.rows() })
    }

    /// Fails unless both sets have rows of one length.
    pub(super) fn same_dimension(&self, other: &Self) -> Result<(), SpaceError> {
        if self.dimension == other.dimension {
            return Ok(());
        }
        Err(SpaceError::Dimension { left: self.dimension, right: other.dimension })
    }

    /// Fails unless row i of one belongs to row i of the other.
    pub(super) fn pairs_with(&self, other: &Self) -> Result<(), SpaceError> {
        self.same_dimension(other)?;
        if self.rows() == other.rows() {
            return Ok(());
        }
        Err(SpaceError::Unpaired { left: self.rows(), right: other.rows() })
    }

    /// The points as columns (`dimension` × `rows`), which is how they lie in memory.
    pub(super) fn columns(&self) -> DMatrix<f32> {
        DMatrix::from_column_slice(self.dimension, self.rows(), &self.values)
    }

    /// The same in double precision, with `shift` taken from every point.
    pub(super) fn shifted_columns(&self, shift: Option<&[f64]>) -> DMatrix<f64> {
        let mut columns = self.columns().cast::<f64>();
        if let Some(shift) = shift {
            for mut column in columns.column_iter_mut() {
                column.iter_mut().zip(shift).for_each(|(x, mean)| *x -= mean);
            }
        }
        columns
    }
}

/// Euclidean length, summed in double precision.
pub(super) fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}

/// Squared Euclidean distance, summed in double precision.
pub(super) fn squared_distance(left: &[f32], right: &[f32]) -> f64 {
    left.iter()
        .zip(right)
        .map(|(&a, &b)| {
            let difference = f64::from(a) - f64::from(b);
            difference * difference
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::{Modality, SpaceId};

    #[test]
    fn arrays_that_are_no_points_are_refused() {
        assert_eq!(Points::new(vec![1.0], 0), Err(SpaceError::NoDimension));
        let shape = SpaceError::Shape { values: 3, dimension: 2 };
        assert_eq!(Points::new(vec![1.0, 0.0, 0.0], 2), Err(shape));
        let infinite = Points::new(vec![1.0, 0.0, f32::INFINITY, 0.0], 2);
        assert_eq!(infinite, Err(SpaceError::NotFinite { row: 1 }));
        let zero = Points::new(vec![0.0, 0.0], 2);
        assert_eq!(zero, Err(SpaceError::NotUnit { row: 0, length: 0.0 }));
        assert_eq!(Points::new(Vec::new(), 2).unwrap().rows(), 0);
    }

    #[test]
    fn embeddings_of_two_spaces_do_not_mix() {
        let of = |id: u8| {
            Embedding::new(SpaceId::from_bytes([id; 32]), Modality::Image, vec![1.0, 0.0]).unwrap()
        };
        assert!(Points::from_embeddings(&[of(1), of(2)]).is_err());
        assert_eq!(Points::from_embeddings(&[of(1), of(1)]).unwrap().rows(), 2);
        assert_eq!(Points::from_embeddings([]), Err(SpaceError::NoTerms));
    }
}
