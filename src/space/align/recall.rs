//! Whether captions find their pictures.

use nalgebra::DMatrix;
use rayon::prelude::*;

use super::pairs::Pairs;

/// Shares of captions whose picture is among the first 1, 5 and 10.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Recall {
    /// Captions asked.
    pub captions: usize,
    /// Pictures searched.
    pub images: usize,
    /// Share found at rank 1.
    pub at_1: f64,
    /// Share found within rank 5.
    pub at_5: f64,
    /// Share found within rank 10.
    pub at_10: f64,
}

/// Image recall: each caption searches all pictures of `pairs`. A picture's rank counts those
/// strictly more similar. No captions give zeros.
pub fn image_recall(pairs: &Pairs) -> Recall {
    recall(&pairs.images().columns(), &pairs.texts().columns(), pairs.owners())
}

/// The same over unit columns.
pub(super) fn recall(images: &DMatrix<f32>, texts: &DMatrix<f32>, owners: &[usize]) -> Recall {
    let similarities = images.transpose() * texts;
    let ranks: Vec<usize> = owners
        .par_iter()
        .enumerate()
        .map(|(caption, &owner)| {
            let column = similarities.column(caption);
            column.iter().filter(|&&s| s > column[owner]).count()
        })
        .collect();
    let within = |k: usize| {
        ranks.iter().filter(|&&rank| rank < k).count() as f64 / ranks.len().max(1) as f64
    };
    Recall {
        captions: owners.len(),
        images: images.ncols(),
        at_1: within(1),
        at_5: within(5),
        at_10: within(10),
    }
}
