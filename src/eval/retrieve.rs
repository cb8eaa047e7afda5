//! Caption retrieval: does a caption find its picture, and a picture its captions?

use std::collections::BTreeMap;

use serde::Serialize;

use crate::embedding::{Embedding, EmbeddingError, dot};
use crate::space::{
    BANK_SCALE, CSLS_NEIGHBOURS, HubCorrection, Points, QueryBank, Similarities, SpaceError,
    local_scaling,
};

/// The ranks reported.
const RANKS: [usize; 3] = [1, 5, 10];

/// What `eval retrieve` reports: recall at 1, 5 and 10, in `[0, 1]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RetrieveReport {
    /// Pictures in the gallery.
    pub n_images: usize,
    /// Captions used as queries.
    pub n_captions: usize,
    /// Inputs that could not be read.
    pub failed: usize,
    /// Share of captions whose picture is among the k best pictures.
    pub image_recall: BTreeMap<usize, f64>,
    /// Share of pictures that have one of their captions among the k best captions.
    pub text_recall: BTreeMap<usize, f64>,
}

/// Measures retrieval both ways. `captions` pairs each caption with the index of its picture.
/// A picture's rank counts those that are strictly more similar, as CLIP's benchmarks do.
///
/// # Errors
/// [`EmbeddingError::SpaceMismatch`] when embeddings come from different spaces.
pub fn retrieve(
    images: &[Embedding],
    captions: &[(usize, Embedding)],
    failed: usize,
) -> Result<RetrieveReport, EmbeddingError> {
    if let (Some(image), Some((_, caption))) = (images.first(), captions.first()) {
        image.similarity(caption)?;
    }
    let rows: Vec<Vec<f32>> = captions
        .iter()
        .map(|(_, caption)| images.iter().map(|i| dot(i.values(), caption.values())).collect())
        .collect();
    Ok(ranked(&rows, &rows, captions, images.len(), failed))
}

/// [`retrieve`] with scores corrected for hubs. For query-bank normalisation each half of the
/// captions is the bank of the other, and finding captions stays as it is.
///
/// # Errors
/// [`SpaceError`] when embeddings come from different spaces or a side is empty.
pub fn retrieve_corrected(
    images: &[Embedding],
    captions: &[(usize, Embedding)],
    failed: usize,
    correction: HubCorrection,
) -> Result<RetrieveReport, SpaceError> {
    let gallery = Points::from_embeddings(images)?;
    let texts = Points::from_embeddings(captions.iter().map(|(_, caption)| caption))?;
    let similarities = Similarities::between(&texts, &gallery)?;
    let rows = match correction {
        HubCorrection::LocalScaling => local_scaling(&similarities, CSLS_NEIGHBOURS)?,
        HubCorrection::QueryBank => {
            let half = |odd: usize| -> Result<QueryBank, SpaceError> {
                let rows: Vec<usize> = (0..texts.rows()).filter(|row| row % 2 == odd).collect();
                QueryBank::new(&Similarities::between(&texts.select(&rows), &gallery)?, BANK_SCALE)
            };
            let banks = [half(1)?, half(0)?];
            (0..texts.rows())
                .map(|row| banks[row % 2].scores(similarities.row(row), true))
                .collect::<Result<_, _>>()?
        }
    };
    // A query bank makes scores of one query comparable, not those of different queries.
    let plain: Vec<Vec<f32>> =
        (0..texts.rows()).map(|row| similarities.row(row).to_vec()).collect();
    let for_texts = if correction == HubCorrection::QueryBank { &plain } else { &rows };
    Ok(ranked(&rows, for_texts, captions, images.len(), failed))
}

/// Ranks by scores of every caption (outer) with every picture: one table for finding pictures,
/// one for finding captions.
fn ranked(
    rows: &[Vec<f32>],
    for_texts: &[Vec<f32>],
    captions: &[(usize, Embedding)],
    images: usize,
    failed: usize,
) -> RetrieveReport {
    let image_ranks = rows
        .iter()
        .zip(captions)
        .map(|(row, (own, _))| row.iter().filter(|&&similarity| similarity > row[*own]).count());
    let text_ranks = (0..images).filter_map(|image| {
        let own = for_texts.iter().zip(captions).filter(|(_, (of, _))| *of == image);
        let best = own.map(|(row, _)| row[image]).reduce(f32::max)?;
        Some(for_texts.iter().filter(|row| row[image] > best).count())
    });
    RetrieveReport {
        n_images: images,
        n_captions: captions.len(),
        failed,
        image_recall: recall(image_ranks.collect()),
        text_recall: recall(text_ranks.collect()),
    }
}

fn recall(ranks: Vec<usize>) -> BTreeMap<usize, f64> {
    let within = |k: usize| ranks.iter().filter(|&&rank| rank < k).count() as f64;
    RANKS.iter().map(|&k| (k, within(k) / ranks.len().max(1) as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::{Modality, SpaceId};

    #[test]
    fn recall_by_hand() {
        let space = SpaceId::from_bytes([0; 32]);
        let at = |x: f32, y: f32| Embedding::new(space, Modality::Image, vec![x, y]).unwrap();
        let images = [at(1.0, 0.0), at(0.0, 1.0)];
        // The second picture's only caption lies nearer to the first picture.
        let captions = [(0, at(1.0, 0.1)), (1, at(0.9, 0.5))];
        let report = retrieve(&images, &captions, 0).unwrap();
        assert_eq!(report.image_recall[&1], 0.5);
        assert_eq!(report.image_recall[&5], 1.0);
        assert_eq!(report.text_recall[&1], 1.0);
        // Local scaling gives the second caption its own picture.
        let captions = [(0, at(1.0, 0.1)), (1, at(0.8, 0.6))];
        assert_eq!(retrieve(&images, &captions, 0).unwrap().image_recall[&1], 0.5);
        let scaled = retrieve_corrected(&images, &captions, 0, HubCorrection::LocalScaling);
        assert_eq!(scaled.unwrap().image_recall[&1], 1.0);
        let banked = retrieve_corrected(&images, &captions, 0, HubCorrection::QueryBank);
        assert_eq!(banked.unwrap().n_captions, 2);
        assert!(retrieve_corrected(&[], &[], 0, HubCorrection::LocalScaling).is_err());
    }
}
