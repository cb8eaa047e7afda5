//! Points of a representation space: unit vectors that know which space they belong to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What kind of thing an embedding was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Modality {
    /// A picture.
    Image,
    /// A piece of text.
    Text,
    /// A sound (reserved: no audio tower exists yet).
    Audio,
}

impl fmt::Display for Modality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Modality::Image => "image",
            Modality::Text => "text",
            Modality::Audio => "audio",
        })
    }
}

/// The fingerprint of a space: SHA-256 over weights, preprocessing and quantisation.
///
/// Two embeddings may be compared only when their fingerprints are equal. Printed as 64
/// hexadecimal digits, or as the first 12 of them where a person reads it ([`SpaceId::short`]).
///
/// ```
/// use sextant::SpaceId;
/// let id: SpaceId = "00".repeat(32).parse().unwrap();
/// assert_eq!(id.short(), "000000000000");
/// assert!("xyz".parse::<SpaceId>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpaceId([u8; 32]);

impl SpaceId {
    /// Wraps 32 bytes of digest.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest itself.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 hexadecimal digits, for messages.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpaceId({})", self.short())
    }
}

impl FromStr for SpaceId {
    type Err = EmbeddingError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(EmbeddingError::Fingerprint);
        }
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |d: u8| (d as char).to_digit(16).ok_or(EmbeddingError::Fingerprint);
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for SpaceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SpaceId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Why two embeddings cannot be compared, or a vector cannot become one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddingError {
    /// The two sides come from different spaces.
    #[error(
        "these embeddings come from different spaces ({left} and {right}): make both with the same model"
    )]
    SpaceMismatch {
        /// Short fingerprint of the left side.
        left: String,
        /// Short fingerprint of the right side.
        right: String,
    },
    /// A component is NaN or infinite.
    #[error("component {0} of the vector is not a finite number")]
    NotFinite(usize),
    /// The vector is (almost) zero, so it has no direction.
    #[error("the vector has length zero, so it points nowhere on the sphere")]
    Zero,
    /// The text is not 64 hexadecimal digits.
    #[error("a space fingerprint is 64 hexadecimal digits")]
    Fingerprint,
}

/// A unit vector, the space it lives in, and the modality it came from.
///
/// ```
/// use sextant::{Embedding, Modality, SpaceId};
/// let space = SpaceId::from_bytes([7; 32]);
/// let a = Embedding::new(space, Modality::Image, vec![3.0, 4.0]).unwrap();
/// let b = Embedding::new(space, Modality::Text, vec![1.0, 0.0]).unwrap();
/// assert!((a.similarity(&b).unwrap() - 0.6).abs() < 1e-6);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    space: SpaceId,
    modality: Modality,
    values: Vec<f32>,
}

impl Embedding {
    /// Normalises `values` to length one.
    ///
    /// # Errors
    /// [`EmbeddingError::NotFinite`] or [`EmbeddingError::Zero`] when there is no direction to keep.
    pub fn new(
        space: SpaceId,
        modality: Modality,
        mut values: Vec<f32>,
    ) -> Result<Self, EmbeddingError> {
        normalise(&mut values)?;
        Ok(Self { space, modality, values })
    }

    /// The space this point lives in.
    pub fn space(&self) -> SpaceId {
        self.space
    }

    /// What it was made from.
    pub fn modality(&self) -> Modality {
        self.modality
    }

    /// The coordinates; their squares sum to one.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Cosine similarity in `[-1, 1]`.
    ///
    /// # Errors
    /// [`EmbeddingError::SpaceMismatch`] when the spaces differ.
    pub fn similarity(&self, other: &Embedding) -> Result<f32, EmbeddingError> {
        if self.space != other.space || self.values.len() != other.values.len() {
            return Err(EmbeddingError::SpaceMismatch {
                left: self.space.short(),
                right: other.space.short(),
            });
        }
        Ok(dot(&self.values, &other.values).clamp(-1.0, 1.0))
    }
}

/// Scales `values` to Euclidean length one, summing squares in `f64`.
pub(crate) fn normalise(values: &mut [f32]) -> Result<(), EmbeddingError> {
    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
        return Err(EmbeddingError::NotFinite(at));
    }
    let norm = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    if norm < 1e-12 {
        return Err(EmbeddingError::Zero);
    }
    values.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
    Ok(())
}

/// Dot product of two slices of equal length, in eight partial sums so that it vectorises.
pub(crate) fn dot(left: &[f32], right: &[f32]) -> f32 {
    let (left8, left_rest) = left.as_chunks::<8>();
    let (right8, right_rest) = right.as_chunks::<8>();
    let mut sums = [0f32; 8];
    for (a, b) in left8.iter().zip(right8) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + left_rest.iter().zip(right_rest).map(|(a, b)| a * b).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixing_spaces_is_an_error_never_a_number() {
        let a = Embedding::new(SpaceId::from_bytes([0; 32]), Modality::Image, vec![1.0]).unwrap();
        let b = Embedding::new(SpaceId::from_bytes([1; 32]), Modality::Image, vec![1.0]).unwrap();
        assert!(matches!(a.similarity(&b), Err(EmbeddingError::SpaceMismatch { .. })));
    }

    #[test]
    fn vectors_without_direction_are_refused() {
        let space = SpaceId::from_bytes([0; 32]);
        let make = |v| Embedding::new(space, Modality::Text, v);
        assert_eq!(make(vec![0.0; 4]), Err(EmbeddingError::Zero));
        assert_eq!(make(vec![1.0, f32::NAN]), Err(EmbeddingError::NotFinite(1)));
        assert_eq!(make(vec![]), Err(EmbeddingError::Zero));
    }

    #[test]
    fn fingerprints_round_trip() {
        let id = SpaceId::from_bytes(std::array::from_fn(|i| i as u8 * 7));
        assert_eq!(id.to_string().parse::<SpaceId>(), Ok(id));
        assert!("é".repeat(32).parse::<SpaceId>().is_err());
    }
}
