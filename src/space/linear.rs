//! The linear algebra that measurements share, in double precision.

use nalgebra::{Cholesky, DMatrix, SymmetricEigen};

use super::error::SpaceError;

/// Rounds of the eigenvalue iteration before giving up; a hundred are usual for 512 rows.
const MAX_ROUNDS: usize = 100_000;

/// Eigenvalues of a symmetric positive semidefinite matrix, descending, never below zero, and
/// their unit eigenvectors as columns in the same order.
pub(super) fn eigen(matrix: DMatrix<f64>) -> Result<(Vec<f64>, DMatrix<f64>), SpaceError> {
    let decomposed = SymmetricEigen::try_new(matrix, f64::EPSILON, MAX_ROUNDS)
        .ok_or(SpaceError::Singular { what: "the eigenvalue problem" })?;
    let mut order: Vec<usize> = (0..decomposed.eigenvalues.len()).collect();
    order.sort_by(|&a, &b| decomposed.eigenvalues[b].total_cmp(&decomposed.eigenvalues[a]));
    let values = order.iter().map(|&i| decomposed.eigenvalues[i].max(0.0)).collect();
    let vectors = decomposed.eigenvectors.select_columns(&order);
    Ok((values, vectors))
}

/// Eigenvalues alone, descending, never below zero.
pub(super) fn eigenvalues(matrix: DMatrix<f64>) -> Result<Vec<f64>, SpaceError> {
    eigen(matrix).map(|(values, _)| values)
}

/// The square root of a symmetric positive semidefinite matrix.
pub(super) fn square_root(matrix: DMatrix<f64>) -> Result<DMatrix<f64>, SpaceError> {
    let (values, vectors) = eigen(matrix)?;
    let mut scaled = vectors.clone();
    for (mut column, value) in scaled.column_iter_mut().zip(&values) {
        column *= value.sqrt();
    }
    Ok(scaled * vectors.transpose())
}

/// Solves `matrix * x = right` for a symmetric positive definite matrix.
pub(super) fn solve(
    matrix: DMatrix<f64>,
    right: &DMatrix<f64>,
    what: &'static str,
) -> Result<DMatrix<f64>, SpaceError> {
    let solution = Cholesky::new(matrix).map(|factor| factor.solve(right));
    solution.filter(|x| x.iter().all(|v| v.is_finite())).ok_or(SpaceError::Singular { what })
}

/// Nonzero eigenvalues of `columns * columnsᵀ`, computed on the smaller side.
pub(super) fn spectrum(columns: &DMatrix<f64>) -> Result<Vec<f64>, SpaceError> {
    let gram = if columns.ncols() < columns.nrows() {
        columns.transpose() * columns
    } else {
        columns * columns.transpose()
    };
    eigenvalues(gram)
}

/// Covariance of points given as centred columns, with the unbiased divisor (rows - 1).
pub(super) fn covariance(centred: &DMatrix<f64>) -> DMatrix<f64> {
    centred * centred.transpose() / (centred.ncols().max(2) - 1) as f64
}
