//! Names that lie too close to be told apart.

use crate::embedding::dot;
use crate::space::points::Points;

/// Two rows of a label set that lie close together.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Confusion {
    /// Row of the first label.
    pub first: usize,
    /// Row of the second label, after the first.
    pub second: usize,
    /// Cosine similarity of the two.
    pub similarity: f32,
    /// The most the model could prefer one to the other, as a probability between the two: that
    /// of a picture which lies exactly in the direction from one to the other. Real pictures
    /// stay far below; where even this is small, no picture tells the two apart.
    pub separable: f32,
}

/// Pairs of labels with a similarity of `at_least`, closest first, at most `most`. `logit_scale`
/// is the scale with which similarities compete.
pub fn confusions(labels: &Points, at_least: f32, most: usize, logit_scale: f32) -> Vec<Confusion> {
    let pairs = (0..labels.rows()).flat_map(|i| (i + 1..labels.rows()).map(move |j| (i, j)));
    let mut found: Vec<Confusion> = pairs
        .filter_map(|(first, second)| {
            let similarity = dot(labels.row(first), labels.row(second)).clamp(-1.0, 1.0);
            let largest_margin = (2.0 - 2.0 * similarity).max(0.0).sqrt();
            let separable = 1.0 / (1.0 + (-logit_scale * largest_margin).exp());
            (similarity >= at_least).then_some(Confusion { first, second, similarity, separable })
        })
        .collect();
    found.sort_by(|a, b| b.similarity.total_cmp(&a.similarity).then(a.first.cmp(&b.first)));
    found.truncate(most);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_pair_comes_first() {
        let labels = Points::new(vec![1.0, 0.0, 0.6, 0.8, 0.0, 1.0, 1.0, 0.0], 2).unwrap();
        let found = confusions(&labels, 0.5, 10, 10.0);
        let pairs: Vec<_> = found.iter().map(|c| (c.first, c.second)).collect();
        assert_eq!(pairs, [(0, 3), (1, 2), (0, 1), (1, 3)]);
        assert_eq!(found[0].separable, 0.5);
        assert_eq!(confusions(&labels, 0.5, 1, 10.0).len(), 1);
    }
}
