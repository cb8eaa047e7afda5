//! What can go wrong between a picture or text and its embedding.

use super::text::TextError;
use crate::embedding::EmbeddingError;
use crate::model::{PackageError, TowerError};
use crate::picture::DecodeError;

/// Why something could not be embedded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The model package does not fit.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A tower cannot be built or run.
    #[error(transparent)]
    Tower(#[from] TowerError),
    /// A text cannot be tokenised.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A picture cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The image tower has no such inner layer.
    #[error(
        "model \"{name}\" has no layer {number}: the layers of its image tower are 1 (nearest to the pixels) to {layers}"
    )]
    NoLayer {
        /// The model.
        name: String,
        /// The layer asked for.
        number: usize,
        /// How many there are.
        layers: usize,
    },
    /// Inner layers are of pictures only.
    #[error(
        "text \"{text}\": an inner layer of the image tower knows no words: ask with pictures only"
    )]
    Wordless {
        /// The text.
        text: String,
    },
    /// Parents of labels do not make a tree.
    #[error("{reason}: parents have to make a tree")]
    Parents {
        /// The label at fault.
        reason: String,
    },
    /// The tower's output is no direction.
    #[error("{source_name}: the model gave no usable embedding: {reason}")]
    Embedding {
        /// The picture or text.
        source_name: String,
        /// What is wrong with the output.
        reason: EmbeddingError,
    },
}

impl EncodeError {
    /// Whether the model is at fault rather than the input.
    pub fn is_model_fault(&self) -> bool {
        matches!(self, Self::Package(_) | Self::Tower(_) | Self::Text(TextError::Tokenizer { .. }))
    }
}
