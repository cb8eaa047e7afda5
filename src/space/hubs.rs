//! Scores that make up for hubs: points that are near to everything.

use nalgebra::DMatrix;

use super::error::SpaceError;
use super::points::Points;

/// Similarities of every row of `left` with every row of `right`.
#[derive(Debug, Clone, PartialEq)]
pub struct Similarities {
    /// Right rows down, left rows across.
    values: DMatrix<f32>,
}

impl Similarities {
    /// Cosines of all pairs.
    ///
    /// # Errors
    /// [`SpaceError::Dimension`]; [`SpaceError::TooFewRows`] when a side is empty.
    pub fn between(left: &Points, right: &Points) -> Result<Self, SpaceError> {
        left.same_dimension(right)?;
        left.need("similarities", 1)?;
        right.need("similarities", 1)?;
        Ok(Self { values: right.columns().transpose() * left.columns() })
    }

    /// Rows of the left side.
    pub fn left(&self) -> usize {
        self.values.ncols()
    }

    /// Rows of the right side.
    pub fn right(&self) -> usize {
        self.values.nrows()
    }

    /// Similarities of one left row with every right row.
    pub fn row(&self, left: usize) -> &[f32] {
        let count = self.right();
        &self.values.as_slice()[left * count..(left + 1) * count]
    }

    /// Mean of the `k` largest similarities of each left row, or of each right row.
    fn neighbourhoods(&self, k: usize, of_left: bool) -> Vec<f32> {
        let count = if of_left { self.left() } else { self.right() };
        (0..count)
            .map(|place| {
                let mut values: Vec<f32> = if of_left {
                    self.row(place).to_vec()
                } else {
                    self.values.row(place).iter().copied().collect()
                };
                let k = k.clamp(1, values.len());
                values.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
                values[..k].iter().sum::<f32>() / k as f32
            })
            .collect()
    }
}

/// Cross-domain similarity local scaling (CSLS, Conneau et al. 2018): twice the similarity less
/// the mean similarity of either side to its `k` nearest on the other. A hub is near to many, so
/// it loses. From -4 to 4; for ranking only.
///
/// # Errors
/// [`SpaceError::OutOfRange`] for `k` = 0.
pub fn local_scaling(similarities: &Similarities, k: usize) -> Result<Vec<Vec<f32>>, SpaceError> {
    if k == 0 {
        return Err(SpaceError::OutOfRange { what: "k", range: "at least 1", value: 0.0 });
    }
    let left = similarities.neighbourhoods(k, true);
    let right = similarities.neighbourhoods(k, false);
    let scaled = |place: usize| {
        let row = similarities.row(place).iter().zip(&right);
        row.map(|(s, near)| 2.0 * s - left[place] - near).collect()
    };
    Ok((0..similarities.left()).map(scaled).collect())
}

/// Query-bank normalisation (QB-Norm, Bogolin et al. 2022): a gallery item that many queries of a
/// bank like is discounted.
///
/// Fitted once on the similarities of a bank of typical queries (left) with the gallery (right);
/// with the queries of interest as their own bank it is the dual softmax (Cheng et al. 2021).
#[derive(Debug, Clone, PartialEq)]
pub struct QueryBank {
    scale: f32,
    /// Logarithm of the bank's summed `exp(scale * similarity)` for each gallery item.
    popularity: Vec<f32>,
    /// Items that are the best answer to some query of the bank.
    hub: Vec<bool>,
}

impl QueryBank {
    /// Counts how much each gallery item is liked; `scale` (the paper's β, 20 there) says how
    /// much the nearest queries outweigh the rest.
    ///
    /// # Errors
    /// [`SpaceError::OutOfRange`] unless `scale` is finite and above zero.
    pub fn new(bank: &Similarities, scale: f32) -> Result<Self, SpaceError> {
        if !(scale.is_finite() && scale > 0.0) {
            let range = "a finite number above 0";
            let value = f64::from(scale);
            return Err(SpaceError::OutOfRange { what: "the bank's scale", range, value });
        }
        let popularity = (0..bank.right())
            .map(|item| {
                let values = bank.values.row(item);
                let highest = values.max();
                let sum: f32 = values.iter().map(|s| (scale * (s - highest)).exp()).sum();
                scale * highest + sum.ln()
            })
            .collect();
        let mut hub = vec![false; bank.right()];
        (0..bank.left()).for_each(|query| hub[best(bank.row(query))] = true);
        Ok(Self { scale, popularity, hub })
    }

    /// Scores of one query with every gallery item: the logarithm of the inverted softmax, for
    /// ranking. With `only_hubs` ("dynamic" in the paper), a query whose best answer is no hub of
    /// the bank keeps its plain order (`scale * similarity`).
    ///
    /// # Errors
    /// [`SpaceError::Unpaired`] when the gallery has another size than the bank's.
    pub fn scores(&self, similarities: &[f32], only_hubs: bool) -> Result<Vec<f32>, SpaceError> {
        if similarities.len() != self.popularity.len() {
            let (left, right) = (similarities.len(), self.popularity.len());
            return Err(SpaceError::Unpaired { left, right });
        }
        let correct = !only_hubs || self.hub[best(similarities)];
        let discount = |item: usize| if correct { self.popularity[item] } else { 0.0 };
        let score = |(item, s): (usize, &f32)| self.scale * s - discount(item);
        Ok(similarities.iter().enumerate().map(score).collect())
    }
}

/// How a ranking is corrected for hubs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubCorrection {
    /// CSLS with ten neighbours.
    LocalScaling,
    /// Query-bank normalisation, hubs only, with a scale of 20.
    QueryBank,
}

/// Neighbours of CSLS.
pub(crate) const CSLS_NEIGHBOURS: usize = 10;

/// Scale of query-bank normalisation, its authors' choice.
pub(crate) const BANK_SCALE: f32 = 20.0;

/// What each item of a gallery (right) loses of its similarity to any query, so that differences
/// between items are those of [`local_scaling`] or [`QueryBank::scores`]: half of the mean
/// similarity to the ten nearest queries of the bank (left), or the scaled logarithm of the
/// bank's mean `exp(20 s)`.
///
/// # Errors
/// [`SpaceError`] never for similarities that exist; the scale is a constant.
pub fn hub_discounts(
    bank: &Similarities,
    correction: HubCorrection,
) -> Result<Vec<f32>, SpaceError> {
    Ok(match correction {
        HubCorrection::LocalScaling => {
            let near = bank.neighbourhoods(CSLS_NEIGHBOURS, false);
            near.into_iter().map(|near| near / 2.0).collect()
        }
        HubCorrection::QueryBank => {
            let popularity = QueryBank::new(bank, BANK_SCALE)?.popularity;
            let offset = (bank.left() as f32).ln();
            popularity.into_iter().map(|p| (p - offset) / BANK_SCALE).collect()
        }
    })
}

/// Place of the largest value, the first of equal ones.
fn best(values: &[f32]) -> usize {
    let mut best = 0;
    for (place, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = place;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(angles: &[f32]) -> Points {
        let values =
            angles.iter().map(|a| a.to_radians()).flat_map(|a| [a.cos(), a.sin()]).collect();
        Points::new(values, 2).unwrap()
    }

    #[test]
    fn a_hub_loses_to_the_item_that_belongs() {
        // Item 1 lies between all queries; the others lie a little farther outside.
        let gallery = at(&[-41.0, 0.0, 41.0]);
        let queries = Similarities::between(&at(&[-20.0, 2.0, 20.0]), &gallery).unwrap();
        let plain: Vec<_> = (0..3).map(|q| best(queries.row(q))).collect();
        assert_eq!(plain, [1, 1, 1]);
        let scaled = local_scaling(&queries, 2).unwrap();
        let found: Vec<_> = scaled.iter().map(|row| best(row)).collect();
        assert_eq!(found, [0, 1, 2]);
        let bank = QueryBank::new(&queries, 20.0).unwrap();
        let found: Vec<_> =
            (0..3).map(|q| best(&bank.scores(queries.row(q), true).unwrap())).collect();
        assert_eq!((found[0], found[2]), (0, 2));
        assert!(bank.scores(&[0.0], true).is_err());
    }

    #[test]
    fn a_query_without_a_hub_keeps_its_order() {
        let gallery = at(&[0.0, 90.0]);
        let bank = Similarities::between(&at(&[10.0, 20.0]), &gallery).unwrap();
        let bank = QueryBank::new(&bank, 20.0).unwrap();
        let away = Similarities::between(&at(&[80.0]), &gallery).unwrap();
        let scores = bank.scores(away.row(0), true).unwrap();
        assert!((scores[1] - 20.0 * away.row(0)[1]).abs() < 1e-5);
    }

    #[test]
    fn discounts_rank_as_the_scores_do() {
        let gallery = at(&[-41.0, 0.0, 41.0, 80.0]);
        let bank = Similarities::between(&at(&[-20.0, 2.0, 20.0]), &gallery).unwrap();
        let query = Similarities::between(&at(&[15.0]), &gallery).unwrap();
        let scores =
            QueryBank::new(&bank, BANK_SCALE).unwrap().scores(query.row(0), false).unwrap();
        let discounts = hub_discounts(&bank, HubCorrection::QueryBank).unwrap();
        for item in 1..4 {
            let before = (scores[item] - scores[0]) / BANK_SCALE;
            let after = query.row(0)[item] - discounts[item] - (query.row(0)[0] - discounts[0]);
            assert!((before - after).abs() < 1e-5);
        }
        let discounts = hub_discounts(&bank, HubCorrection::LocalScaling).unwrap();
        let near = bank.values.row(1).mean() / 2.0;
        assert!((discounts[1] - near).abs() < 1e-6);
    }

    #[test]
    fn senseless_numbers_are_refused() {
        let pair = Similarities::between(&at(&[0.0]), &at(&[0.0])).unwrap();
        assert!(local_scaling(&pair, 0).is_err());
        assert!(QueryBank::new(&pair, f32::NAN).is_err());
        assert_eq!(local_scaling(&pair, 5), Ok(vec![vec![0.0]]));
    }
}
