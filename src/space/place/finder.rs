//! Texts to look for, told apart from what surrounds things in most pictures.

use super::heat::HeatMap;
use super::locate::PlaceFeatures;
use crate::embedding::{Embedding, EmbeddingError, Modality};
use crate::encode::{EncodeError, Encoder};
use crate::label::{Label, LabelSet, TextCache, compile};

/// What surrounds things in most pictures, and the kinds that things are of.
const SURROUNDINGS: [&str; 25] = [
    "sky",
    "wall",
    "floor",
    "grass",
    "trees",
    "water",
    "road",
    "building",
    "room",
    "furniture",
    "table",
    "person",
    "animal",
    "vehicle",
    "food",
    "plant",
    "clothing",
    "toy",
    "tool",
    "sign",
    "window",
    "sand",
    "snow",
    "mountain",
    "device",
];

/// Similarity beyond which surroundings are the thing itself: who looks for trees must not have
/// trees taken off.
const SAME: f32 = 0.75;

/// Texts ready to be found in pictures.
///
/// A place that resembles a text also resembles what usually is around it. So each text competes
/// with ordinary surroundings and things (sky, wall, person, …): a map shows where the picture is
/// more like the text than like those.
#[derive(Debug, Clone)]
pub struct Finder {
    texts: Vec<Embedding>,
    surroundings: Vec<Embedding>,
}

impl Finder {
    /// Embeds `texts`, each in all templates of the package, and the surroundings; texts found in
    /// `cache` skip the text tower.
    ///
    /// # Errors
    /// [`EncodeError`] from the text tower.
    pub fn new(
        encoder: &Encoder,
        texts: &[String],
        cache: &mut TextCache,
    ) -> Result<Self, EncodeError> {
        let names = texts.iter().map(String::as_str).chain(SURROUNDINGS);
        let label = |name: &str| Label { name: name.to_owned(), ..Label::default() };
        let labels: Vec<Label> = names.map(label).collect();
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
        let all: Vec<Embedding> = (0..set.labels.len()).map(embedding).collect::<Result<_, _>>()?;
        let (texts, surroundings) = all.split_at(texts.len());
        Ok(Self { texts: texts.to_vec(), surroundings: surroundings.to_vec() })
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
        self.texts
            .iter()
            .map(|text| {
                let apart = |other: &&Embedding| text.similarity(other).is_ok_and(|s| s < SAME);
                let others: Vec<Embedding> =
                    self.surroundings.iter().filter(apart).cloned().collect();
                features.heat(text, &others)
            })
            .collect()
    }
}
