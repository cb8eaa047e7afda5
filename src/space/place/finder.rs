//! Texts to look for in pictures.

use super::heat::HeatMap;
use super::locate::PlaceFeatures;
use crate::embedding::{Embedding, EmbeddingError, Modality};
use crate::encode::{EncodeError, Encoder};
use crate::label::{Label, LabelSet, TextCache, compile};

/// Texts ready to be found in pictures.
#[derive(Debug, Clone)]
pub struct Finder {
    texts: Vec<Embedding>,
}

impl Finder {
    /// Embeds `texts`, each in all templates of the package; texts found in `cache` skip the
    /// text tower.
    ///
    /// # Errors
    /// [`EncodeError`] from the text tower.
    pub fn new(
        encoder: &Encoder,
        texts: &[String],
        cache: &mut TextCache,
    ) -> Result<Self, EncodeError> {
        let label = |name: &String| Label { name: name.clone(), ..Label::default() };
        let labels: Vec<Label> = texts.iter().map(label).collect();
        let classes = (0..labels.len()).collect();
        let set = LabelSet { labels, classes, duplicates: Vec::new(), templates: None };
        let compiled = compile(encoder, &set, None, cache, &|_| {})?;
        let embedding = |row: usize| {
            Embedding::new(encoder.space(), Modality::Text, compiled.row(row).to_vec()).map_err(
                |reason| EncodeError::Embedding {
                    source_name: set.labels[row].name.clone(),
                    reason,
                },
            )
        };
        Ok(Self { texts: (0..texts.len()).map(embedding).collect::<Result<_, _>>()? })
    }

    /// Embeddings of the texts, in the order given.
    pub fn texts(&self) -> &[Embedding] {
        &self.texts
    }

    /// Where each text is in a picture.
    ///
    /// # Errors
    /// [`EmbeddingError::SpaceMismatch`] when the features come from another model.
    pub fn maps(&self, features: &PlaceFeatures) -> Result<Vec<HeatMap>, EmbeddingError> {
        self.texts.iter().map(|text| features.heat(text)).collect()
    }
}
