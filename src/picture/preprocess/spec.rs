//! Preprocessing as data: what `[image.preprocess]` of a model package declares.

use serde::{Deserialize, Deserializer, Serialize};

use super::error::PreprocessError;

/// Largest side that can be asked for, in pixels.
pub(super) const MAX_SIDE: u32 = 4096;

/// How a picture is brought to the tower's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ResizeMode {
    /// Keep the proportions, fit the short side, and cut what is over on the long one.
    Shortest,
    /// Ignore the proportions.
    Squash,
    /// Keep the proportions, fit the long side, and fill what is missing on the short one.
    Longest,
}

/// The filter of the resizing; both widen when shrinking (antialias), as Pillow's do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Interpolation {
    /// Cubic convolution with a = -0.5 (Catmull-Rom), four samples wide.
    Bicubic,
    /// Triangle, two samples wide.
    Bilinear,
}

/// A declaration of preprocessing as it is written down; [`Preprocess::new`] checks it.
///
/// ```
/// use sextant::picture::Preprocess;
/// let clip: Preprocess = toml::from_str(
///     r#"
///     resize = "shortest"
///     resize_size = 224
///     interpolation = "bicubic"
///     mean = [0.48145466, 0.4578275, 0.40821073]
///     std = [0.26862954, 0.26130258, 0.27577711]
///     "#,
/// )
/// .unwrap();
/// assert_eq!(clip.output_size(), (224, 224));
/// ```
///
/// [`Preprocess::new`]: super::Preprocess::new
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreprocessSpec {
    /// How proportions are treated.
    pub resize: ResizeMode,
    /// Width and height to resize to, 1 to 4096; in a file also one number for both.
    #[serde(deserialize_with = "one_or_two")]
    pub resize_size: [u32; 2],
    /// Width and height cut from the middle after resizing, 1 to 4096; if absent, `resize_size`.
    #[serde(
        default,
        deserialize_with = "one_or_two_optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub crop: Option<[u32; 2]>,
    /// The filter.
    pub interpolation: Interpolation,
    /// Subtracted from each channel, which runs from 0 to 1.
    pub mean: [f32; 3],
    /// Divides each channel after that; above zero.
    pub std: [f32; 3],
    /// The colour around a picture that does not fill the tower's square; black if absent.
    #[serde(default)]
    pub fill: [u8; 3],
    /// The colour under transparent pixels; white if absent.
    #[serde(default = "white")]
    pub background: [u8; 3],
}

impl PreprocessSpec {
    pub(super) fn check(&self) -> Result<(), PreprocessError> {
        let outside = |side: &&u32| !(1..=MAX_SIDE).contains(*side);
        if let Some(&side) = self.resize_size.iter().find(outside) {
            return Err(PreprocessError::ResizeSize(side));
        }
        if let Some(&side) = self.crop.iter().flatten().find(outside) {
            return Err(PreprocessError::Crop(side));
        }
        if let Some(&mean) = self.mean.iter().find(|mean| !mean.is_finite()) {
            return Err(PreprocessError::Mean(mean));
        }
        // A subnormal number would divide to infinity.
        if let Some(&std) = self.std.iter().find(|std| !(std.is_normal() && **std > 0.0)) {
            return Err(PreprocessError::Std(std));
        }
        Ok(())
    }
}

fn white() -> [u8; 3] {
    [255; 3]
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a number of pixels or [width, height]")]
enum OneOrTwo {
    One(u32),
    Two([u32; 2]),
}

fn one_or_two<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u32; 2], D::Error> {
    Ok(match OneOrTwo::deserialize(deserializer)? {
        OneOrTwo::One(side) => [side; 2],
        OneOrTwo::Two(sides) => sides,
    })
}

fn one_or_two_optional<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<[u32; 2]>, D::Error> {
    one_or_two(deserializer).map(Some)
}
