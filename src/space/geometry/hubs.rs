//! Hubs: points that are everyone's neighbour.

use crate::space::error::SpaceError;
use crate::space::neighbours::{Neighbour, nearest};
use crate::space::points::Points;

/// How unevenly neighbours are shared out (Radovanović et al. 2010).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Hubness {
    /// Neighbours counted for each query.
    pub k: usize,
    /// Skewness of the k-occurrence (how often a row is among a query's k nearest): 0 when even,
    /// above 1 when a few rows take most places.
    pub skewness: f64,
    /// Share of queries that have the largest hub among their k nearest.
    pub largest_share: f64,
    /// The largest hub's row.
    pub largest: usize,
    /// Share of rows that are nobody's neighbour, so that no search finds them.
    pub anti_hubs: f64,
}

/// Hubness of `gallery` as `queries` see it.
///
/// # Errors
/// [`SpaceError::TooFewRows`] without queries or when the gallery has less than `k` rows;
/// [`SpaceError::Dimension`]; [`SpaceError::OutOfRange`] for `k` = 0.
pub fn hubness(queries: &Points, gallery: &Points, k: usize) -> Result<Hubness, SpaceError> {
    queries.need("hubness", 1)?;
    check(k)?;
    Ok(count(&nearest(queries, gallery, k, false)?, gallery.rows(), k))
}

/// Hubness of a set among itself; a row is no neighbour of itself.
///
/// # Errors
/// As [`hubness`], with `k + 1` rows needed.
pub fn hubness_within(points: &Points, k: usize) -> Result<Hubness, SpaceError> {
    check(k)?;
    Ok(count(&nearest(points, points, k, true)?, points.rows(), k))
}

fn check(k: usize) -> Result<(), SpaceError> {
    if k > 0 {
        return Ok(());
    }
    Err(SpaceError::OutOfRange { what: "k", range: "at least 1", value: 0.0 })
}

fn count(found: &[Vec<Neighbour>], rows: usize, k: usize) -> Hubness {
    let mut occurrences = vec![0usize; rows];
    for neighbour in found.iter().flatten() {
        occurrences[neighbour.row] += 1;
    }
    let (mut largest, mut most) = (0, 0);
    for (row, &count) in occurrences.iter().enumerate() {
        if count > most {
            (largest, most) = (row, count);
        }
    }
    let unseen = occurrences.iter().filter(|&&count| count == 0).count();
    Hubness {
        k,
        skewness: skewness(&occurrences),
        largest_share: most as f64 / found.len() as f64,
        largest,
        anti_hubs: unseen as f64 / rows as f64,
    }
}

/// The third standardised moment (of the population); 0 when all counts are equal.
fn skewness(counts: &[usize]) -> f64 {
    let size = counts.len() as f64;
    let mean = counts.iter().sum::<usize>() as f64 / size;
    let moment =
        |power: i32| counts.iter().map(|&c| (c as f64 - mean).powi(power)).sum::<f64>() / size;
    let variance = moment(2);
    if variance > 0.0 { moment(3) / variance.powf(1.5) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_has_no_hubs() {
        let angles = (0..60).map(|i| i as f32 * std::f32::consts::TAU / 60.0);
        let circle = Points::new(angles.flat_map(|a| [a.cos(), a.sin()]).collect(), 2).unwrap();
        let found = hubness_within(&circle, 2).unwrap();
        assert_eq!((found.skewness, found.anti_hubs), (0.0, 0.0));
        assert!((found.largest_share - 2.0 / 60.0).abs() < 1e-9);
    }

    #[test]
    fn one_row_that_is_near_to_all_is_a_hub() {
        // Queries on the axes of four dimensions; the gallery's row 4 is their mean direction.
        let mut gallery: Vec<f32> =
            (0..4).flat_map(|i| (0..4).map(move |j| if i == j { -1.0 } else { 0.0 })).collect();
        gallery.extend([0.5; 4]);
        let gallery = Points::new(gallery, 4).unwrap();
        let queries: Vec<f32> = gallery.values()[..16].iter().map(|x| -x).collect();
        let found = hubness(&Points::new(queries, 4).unwrap(), &gallery, 1).unwrap();
        assert_eq!((found.largest, found.largest_share, found.anti_hubs), (4, 1.0, 0.8));
        assert!(found.skewness > 1.0);
        assert!(hubness_within(&gallery, 0).is_err());
    }
}
