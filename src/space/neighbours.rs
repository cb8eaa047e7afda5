//! Exact nearest neighbours.

use nalgebra::DMatrix;
use rayon::prelude::*;

use super::error::SpaceError;
use super::points::{Points, squared_distance};

/// Queries of one matrix product.
const BLOCK: usize = 64;

/// Candidates kept beyond `k` from the single-precision product, before distances are computed
/// again in double precision.
const SPARE: usize = 8;

/// A neighbour of a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// Row of the gallery.
    pub row: usize,
    /// Euclidean distance, 0 to 2 on the unit sphere.
    pub distance: f64,
}

/// The `k` nearest rows of `gallery` for each query, nearest first, equal ones by row. With
/// `same_set`, both sets are one and a row is no neighbour of itself.
///
/// # Errors
/// [`SpaceError::Dimension`]; [`SpaceError::TooFewRows`] when the gallery holds less than `k`
/// others.
pub fn nearest(
    queries: &Points,
    gallery: &Points,
    k: usize,
    same_set: bool,
) -> Result<Vec<Vec<Neighbour>>, SpaceError> {
    queries.same_dimension(gallery)?;
    gallery.need("the search for neighbours", k + usize::from(same_set))?;
    let columns = gallery.columns();
    let squares: Vec<f32> = gallery.iter().map(|p| p.iter().map(|x| x * x).sum()).collect();
    let starts: Vec<usize> = (0..queries.rows()).step_by(BLOCK).collect();
    let blocks: Vec<Vec<Vec<Neighbour>>> = starts
        .into_par_iter()
        .map(|start| {
            let rows: Vec<usize> = (start..queries.rows().min(start + BLOCK)).collect();
            let products = block_products(queries, &rows, &columns);
            let search = |(place, &row): (usize, &usize)| {
                let own = same_set.then_some(row);
                let near = |other: usize| squares[other] - 2.0 * products[(other, place)];
                let candidates = smallest(gallery.rows(), k + SPARE, own, near);
                refine(queries.row(row), gallery, candidates, k)
            };
            rows.iter().enumerate().map(search).collect()
        })
        .collect();
    Ok(blocks.into_iter().flatten().collect())
}

/// Dot products of every gallery row (down) with the chosen queries (across).
fn block_products(queries: &Points, rows: &[usize], gallery: &DMatrix<f32>) -> DMatrix<f32> {
    gallery.transpose() * queries.select(rows).columns()
}

/// The `most` rows of smallest `key`, without `own`, in no order.
fn smallest(
    count: usize,
    most: usize,
    own: Option<usize>,
    key: impl Fn(usize) -> f32,
) -> Vec<usize> {
    let mut keyed: Vec<(f32, usize)> =
        (0..count).filter(|&row| Some(row) != own).map(|row| (key(row), row)).collect();
    if keyed.len() > most {
        let by_key = |a: &(f32, usize), b: &(f32, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        keyed.select_nth_unstable_by(most, by_key);
        keyed.truncate(most);
    }
    keyed.into_iter().map(|(_, row)| row).collect()
}

fn refine(query: &[f32], gallery: &Points, candidates: Vec<usize>, k: usize) -> Vec<Neighbour> {
    let mut found: Vec<Neighbour> = candidates
        .into_iter()
        .map(|row| Neighbour { row, distance: squared_distance(query, gallery.row(row)).sqrt() })
        .collect();
    found.sort_by(|a, b| a.distance.total_cmp(&b.distance).then(a.row.cmp(&b.row)));
    found.truncate(k);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circle(count: usize) -> Points {
        let angle = |i: usize| i as f32 * std::f32::consts::TAU / count as f32;
        let values = (0..count).flat_map(|i| [angle(i).cos(), angle(i).sin()]).collect();
        Points::new(values, 2).unwrap()
    }

    #[test]
    fn neighbours_on_a_circle_are_the_ones_beside() {
        let points = circle(200);
        let found = nearest(&points, &points, 2, true).unwrap();
        for (row, neighbours) in found.iter().enumerate() {
            let mut rows: Vec<_> = neighbours.iter().map(|n| n.row).collect();
            rows.sort_unstable();
            let mut beside = [(row + 199) % 200, (row + 1) % 200];
            beside.sort_unstable();
            assert_eq!(rows, beside);
        }
        let itself = nearest(&points, &points, 1, false).unwrap();
        assert!(itself.iter().enumerate().all(|(row, n)| n[0].row == row && n[0].distance < 1e-6));
    }

    #[test]
    fn too_small_a_gallery_is_refused() {
        let points = circle(3);
        assert!(nearest(&points, &points, 3, true).is_err());
        assert!(nearest(&points, &points, 3, false).is_ok());
    }
}
