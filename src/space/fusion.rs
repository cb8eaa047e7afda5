//! One embedding from two: a picture and its caption, two views of one thing.

use nalgebra::DMatrix;

use super::error::SpaceError;
use super::linear;
use super::points::Points;

/// A learned map from two concatenated points to one joint point.
///
/// The map is the projection onto the principal components of concatenated pairs (each side
/// weighted): of all linear maps to that many numbers it keeps the most variance, so joint
/// points keep the distances between pairs as well as a projection can. It is not a map into the
/// model's own space: compare joint points with joint points only.
#[derive(Debug, Clone, PartialEq)]
pub struct Fusion {
    weights: [f32; 2],
    mean: Vec<f64>,
    /// Concatenated numbers down, joint numbers across.
    projection: DMatrix<f64>,
}

impl Fusion {
    /// Learns the map from pairs (row i of both sides) to `dimension` numbers; `weights` scale
    /// the two sides before they are joined.
    ///
    /// # Errors
    /// [`SpaceError::TooFewRows`] below two pairs; [`SpaceError::AllRowsEqual`];
    /// [`SpaceError::OutOfRange`] unless `dimension` is 1 to that of both sides together;
    /// [`SpaceError::Weight`]; [`SpaceError::Cancelled`] when both weights are zero;
    /// [`SpaceError::Unpaired`].
    pub fn fit(
        left: &Points,
        right: &Points,
        weights: [f32; 2],
        dimension: usize,
    ) -> Result<Self, SpaceError> {
        left.pairs_with(right)?;
        left.need("learning a fusion", 2)?;
        let joined = left.dimension() * 2;
        if !(1..=joined).contains(&dimension) {
            let range = "1 to twice the dimension of the space";
            let value = dimension as f64;
            return Err(SpaceError::OutOfRange { what: "the joint dimension", range, value });
        }
        if let Some(term) = weights.iter().position(|w| !w.is_finite()) {
            return Err(SpaceError::Weight { term: term + 1, weight: weights[term] });
        }
        if weights == [0.0; 2] {
            return Err(SpaceError::Cancelled);
        }
        let columns: Vec<f64> =
            left.iter().zip(right.iter()).flat_map(|(a, b)| concatenate(a, b, weights)).collect();
        let mut columns = DMatrix::from_vec(joined, left.rows(), columns);
        let mean = columns.column_mean();
        for mut column in columns.column_iter_mut() {
            column -= &mean;
        }
        let (values, vectors) = linear::eigen(linear::covariance(&columns))?;
        if values[0] < 1e-14 {
            return Err(SpaceError::AllRowsEqual { what: "learning a fusion", rows: left.rows() });
        }
        let projection = vectors.columns(0, dimension).into_owned();
        Ok(Self { weights, mean: mean.iter().copied().collect(), projection })
    }

    /// The joint point of a pair, of length one.
    ///
    /// # Errors
    /// [`SpaceError::Dimension`] when the points have another length than those learned from;
    /// [`SpaceError::Cancelled`] when the pair is the mean pair, which has no direction.
    pub fn apply(&self, left: &[f32], right: &[f32]) -> Result<Vec<f32>, SpaceError> {
        let half = self.mean.len() / 2;
        if left.len() != half || right.len() != half {
            return Err(SpaceError::Dimension { left: half, right: left.len().max(right.len()) });
        }
        let joined = concatenate(left, right, self.weights);
        let centred = joined.iter().zip(&self.mean).map(|(x, m)| x - m);
        let centred = DMatrix::from_iterator(1, self.mean.len(), centred);
        let joint = centred * &self.projection;
        let length = joint.norm();
        if length < 1e-9 {
            return Err(SpaceError::Cancelled);
        }
        Ok(joint.iter().map(|x| (x / length) as f32).collect())
    }
}

fn concatenate(left: &[f32], right: &[f32], [a, b]: [f32; 2]) -> Vec<f64> {
    let scaled = |values: &[f32], weight: f32| -> Vec<f64> {
        values.iter().map(|&x| f64::from(x) * f64::from(weight)).collect()
    };
    [scaled(left, a), scaled(right, b)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circle(count: usize, turn: f32) -> Points {
        let values = (0..count)
            .map(|i| i as f32 * 0.7 + turn)
            .flat_map(|angle| [angle.cos(), angle.sin()])
            .collect();
        Points::new(values, 2).unwrap()
    }

    #[test]
    fn joint_points_keep_neighbours() {
        let (left, right) = (circle(20, 0.0), circle(20, 0.4));
        let fusion = Fusion::fit(&left, &right, [1.0, 1.0], 2).unwrap();
        let joint: Vec<f32> =
            left.iter().zip(right.iter()).flat_map(|(a, b)| fusion.apply(a, b).unwrap()).collect();
        let joint = Points::new(joint, 2).unwrap();
        for other in 1..20 {
            let before = crate::embedding::dot(left.row(0), left.row(other));
            let after = crate::embedding::dot(joint.row(0), joint.row(other));
            assert!((before - after).abs() < 0.2, "{before} became {after}");
        }
    }

    #[test]
    fn pairs_without_spread_or_sense_are_refused() {
        let same = Points::new([1.0, 0.0].repeat(4), 2).unwrap();
        let fit = |weights, dimension| Fusion::fit(&same, &same, weights, dimension);
        assert!(matches!(fit([1.0, 1.0], 2), Err(SpaceError::AllRowsEqual { .. })));
        assert_eq!(fit([0.0, 0.0], 2), Err(SpaceError::Cancelled));
        assert!(matches!(fit([1.0, 1.0], 5), Err(SpaceError::OutOfRange { .. })));
        assert!(matches!(fit([f32::NAN, 1.0], 2), Err(SpaceError::Weight { .. })));
    }
}
