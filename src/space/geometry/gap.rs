//! The modality gap: how far two kinds of embeddings lie apart.

use nalgebra::DMatrix;

use crate::space::error::SpaceError;
use crate::space::linear;
use crate::space::points::Points;

/// Ridge penalty of the separating plane; scikit-learn's default.
const RIDGE: f64 = 1.0;

/// How two sets (pictures and texts, say) lie to each other.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Gap {
    /// Distance between the two means, 0 to 2 (Liang et al. 2022, "Mind the Gap").
    pub centroid_distance: f64,
    /// What remains of the Fréchet distance between the two sets, seen as normal distributions,
    /// once their means coincide: `√tr(A + B - 2(A½ B A½)½)` of the covariances A and B. It tells
    /// whether the two sets differ in shape, which moving one of them cannot mend.
    pub distribution_distance: f64,
    /// Accuracy of a plane that tells the two apart, balanced, on rows it was not fitted to:
    /// 0.5 when they are mixed, 1 when a plane divides them.
    pub separability: f64,
    /// Mean cosine between two rows of the left set: how narrow its cone is.
    pub left_cosine: f64,
    /// The same for the right set.
    pub right_cosine: f64,
}

/// Measures the gap. The plane is a ridge regression on ±1 (penalty 1) fitted to even rows of
/// both sets and judged on odd ones.
///
/// # Errors
/// [`SpaceError::TooFewRows`] below four rows on a side; [`SpaceError::Dimension`].
pub fn modality_gap(left: &Points, right: &Points) -> Result<Gap, SpaceError> {
    left.same_dimension(right)?;
    left.need("the modality gap", 4)?;
    right.need("the modality gap", 4)?;
    let (left_mean, right_mean) = (left.mean(), right.mean());
    let squared: f64 = left_mean.iter().zip(&right_mean).map(|(a, b)| (a - b) * (a - b)).sum();
    let covariance =
        |points: &Points, mean: &[f64]| linear::covariance(&points.shifted_columns(Some(mean)));
    Ok(Gap {
        centroid_distance: squared.sqrt(),
        distribution_distance: shape_distance(
            covariance(left, &left_mean),
            covariance(right, &right_mean),
        )?,
        separability: separability(left, right)?,
        left_cosine: cone(left, &left_mean),
        right_cosine: cone(right, &right_mean),
    })
}

/// Mean cosine over pairs of different rows, from the mean alone.
fn cone(points: &Points, mean: &[f64]) -> f64 {
    let rows = points.rows() as f64;
    let all = rows * rows * mean.iter().map(|m| m * m).sum::<f64>();
    let own: f64 = points.values().iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    (all - own) / (rows * (rows - 1.0))
}

/// Fréchet distance between two centred normal distributions (Dowson and Landau 1982).
fn shape_distance(left: DMatrix<f64>, right: DMatrix<f64>) -> Result<f64, SpaceError> {
    let total = left.trace() + right.trace();
    let root = linear::square_root(left)?;
    let middle = &root * right * &root;
    let symmetric = (&middle + middle.transpose()) / 2.0;
    let shared: f64 = linear::eigenvalues(symmetric)?.iter().map(|v| v.sqrt()).sum();
    Ok((total - 2.0 * shared).max(0.0).sqrt())
}

fn separability(left: &Points, right: &Points) -> Result<f64, SpaceError> {
    let half = |points: &Points, odd: usize| {
        points.select(&(odd..points.rows()).step_by(2).collect::<Vec<_>>())
    };
    let (fit_left, fit_right) = (half(left, 0), half(right, 0));
    let columns = DMatrix::from_iterator(
        left.dimension(),
        fit_left.rows() + fit_right.rows(),
        fit_left.values().iter().chain(fit_right.values()).map(|&x| f64::from(x)),
    );
    let (weights, mean, balance) = plane(columns, fit_left.rows())?;
    let share = |points: &Points, side: f64| {
        let right_side = |point: &&[f32]| {
            let height: f64 = point
                .iter()
                .zip(&mean)
                .zip(&weights)
                .map(|((&x, m), w)| (f64::from(x) - m) * w)
                .sum();
            (height + balance) * side > 0.0
        };
        points.iter().filter(right_side).count() as f64 / points.rows() as f64
    };
    Ok((share(&half(left, 1), 1.0) + share(&half(right, 1), -1.0)) / 2.0)
}

/// Ridge regression of +1 for the first `positive` columns and -1 for the rest: weights, the mean
/// taken from every point, and the intercept there.
fn plane(
    mut columns: DMatrix<f64>,
    positive: usize,
) -> Result<(Vec<f64>, Vec<f64>, f64), SpaceError> {
    let rows = columns.ncols();
    let mean = columns.column_mean();
    for mut column in columns.column_iter_mut() {
        column -= &mean;
    }
    let balance = (2.0 * positive as f64 - rows as f64) / rows as f64;
    let target =
        DMatrix::from_fn(rows, 1, |row, _| if row < positive { 1.0 } else { -1.0 } - balance);
    // The smaller of the two equivalent systems: dimension, or rows (the kernel form).
    let weights = if columns.nrows() <= rows {
        let system = &columns * columns.transpose()
            + DMatrix::identity(columns.nrows(), columns.nrows()) * RIDGE;
        linear::solve(system, &(&columns * target), "the separating plane")?
    } else {
        let system = columns.transpose() * &columns + DMatrix::identity(rows, rows) * RIDGE;
        &columns * linear::solve(system, &target, "the separating plane")?
    };
    Ok((weights.iter().copied().collect(), mean.iter().copied().collect(), balance))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arc(from: f32, step: f32, count: usize) -> Points {
        let values =
            (0..count).map(|i| from + step * i as f32).flat_map(|a| [a.cos(), a.sin()]).collect();
        Points::new(values, 2).unwrap()
    }

    #[test]
    fn a_set_has_no_gap_to_itself() {
        let points = arc(0.3, 0.37, 40);
        let gap = modality_gap(&points, &points).unwrap();
        assert!(gap.centroid_distance < 1e-9 && gap.distribution_distance < 1e-6);
        assert!((0.3..=0.7).contains(&gap.separability));
    }

    #[test]
    fn two_clusters_are_told_apart_by_their_means_alone() {
        let left = arc(0.0, 0.001, 50);
        let negated = left.values().iter().map(|x| -x).collect();
        let right = Points::new(negated, 2).unwrap();
        let gap = modality_gap(&left, &right).unwrap();
        assert!((gap.centroid_distance - 2.0).abs() < 1e-3);
        assert!(gap.distribution_distance < 1e-3);
        assert_eq!(gap.separability, 1.0);
        assert!(gap.left_cosine > 0.999);
    }

    #[test]
    fn equal_rows_and_few_rows_are_defined() {
        let same = Points::new([0.6, 0.8].repeat(6), 2).unwrap();
        let gap = modality_gap(&same, &same).unwrap();
        assert!(gap.centroid_distance == 0.0 && gap.distribution_distance == 0.0);
        assert!(gap.separability.is_finite());
        let few = Points::new([0.6, 0.8].repeat(3), 2).unwrap();
        assert!(matches!(modality_gap(&few, &same), Err(SpaceError::TooFewRows { .. })));
    }
}
