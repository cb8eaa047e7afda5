//! `model.toml`: what a model package says about itself.

use serde::{Deserialize, Serialize};

use crate::embedding::{Modality, dot};
use crate::one_line::one_line;
use crate::picture::Preprocess;

use super::package::PackageError;
use super::tower::{InputShape, TowerSpec};

/// The package format this build reads and writes.
pub const FORMAT: u32 = 1;

/// Longest accepted `model.toml`, in bytes.
pub(crate) const MAX_MANIFEST_BYTES: usize = 1 << 20;

/// Largest accepted embedding dimension.
pub const MAX_DIMENSION: usize = 8192;

/// Longest accepted text context, in tokens.
pub const MAX_CONTEXT: usize = 4096;

/// The parsed and validated `model.toml` of a package.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the package format; [`FORMAT`].
    pub format: u32,
    /// Name by which `--model` finds the package.
    pub name: String,
    /// Version of the weights.
    pub version: String,
    /// SPDX expression of the package as a whole.
    pub licence: String,
    /// Where the weights come from, in a line.
    pub source: String,
    /// Length of an embedding.
    pub dimension: usize,
    /// The model's learned inverse temperature.
    pub logit_scale: f32,
    /// Added to every scaled similarity; zero for softmax models.
    #[serde(default)]
    pub logit_bias: f32,
    /// How the model was trained to turn logits into probabilities.
    #[serde(default)]
    pub scoring: Scoring,
    /// Default prompt templates; `{}` stands for the label's name.
    #[serde(default = "default_templates")]
    pub templates: Vec<String>,
    /// The image tower.
    pub image: ImageTower,
    /// The text tower; absent from packages that only see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextTower>,
    /// What measurement added to the model: temperatures, thresholds, means.
    #[serde(default)]
    pub calibration: Calibration,
}

/// How logits become probabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scoring {
    /// Labels compete: `softmax(scale * similarity)` (CLIP, Radford et al. 2021).
    #[default]
    Softmax,
    /// Each pair stands alone: `sigmoid(scale * similarity + bias)` (SigLIP, Zhai et al. 2023).
    Sigmoid,
}

/// The image tower's graph and the pixels it expects.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageTower {
    /// File name inside the package.
    pub file: String,
    /// SHA-256 of the file, 64 hexadecimal digits.
    pub sha256: String,
    /// Name of the graph's pixel input, `[1, 3, height, width]`.
    pub input: String,
    /// Name of the embedding output, `[1, dimension]`.
    pub output: String,
    /// Name of the output that gives an embedding for each place, if the graph has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spatial: Option<String>,
    /// Name of the output `[1, 1, rows, columns]` that says how much there is at each of those
    /// places (at least 0, in any unit), if the graph has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<String>,
    /// How pictures become pixels.
    pub preprocess: Preprocess,
}

/// The text tower's graph and tokenizer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextTower {
    /// File name inside the package.
    pub file: String,
    /// SHA-256 of the file, 64 hexadecimal digits.
    pub sha256: String,
    /// Name of the token input, `[1, tokens]`.
    pub input: String,
    /// Name of the attention mask input, where the graph takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_mask: Option<String>,
    /// Name of the token type input, where the graph takes one; it gets zeros.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_type_ids: Option<String>,
    /// Name of the embedding output, `[1, dimension]`.
    pub output: String,
    /// The tokenizer's file name, in the `tokenizers` JSON format.
    pub tokenizer: String,
    /// SHA-256 of the tokenizer file.
    pub tokenizer_sha256: String,
    /// Most tokens the tower reads, special tokens included.
    pub context_length: usize,
    /// Whether short texts are filled up.
    #[serde(default)]
    pub padding: Padding,
    /// The token that fills up short texts.
    #[serde(default)]
    pub pad_id: u32,
    /// Lower-case the text before the tokenizer sees it.
    #[serde(default)]
    pub lowercase: bool,
    /// Take ASCII punctuation out of the text and fold white space before the tokenizer sees it,
    /// as SigLIP's reference code does (open_clip `canonicalize_text`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strip_punctuation: bool,
}

/// Whether token sequences are filled up to the context length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Padding {
    /// As many tokens as the text has.
    #[default]
    None,
    /// Always the full context length.
    Max,
}

/// Numbers fitted on held-out pictures and captions. Everything is optional: a package without
/// them still ranks, but its scores are the model's own.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Divides `logit_scale` when labels compete (temperature scaling, Guo et al. 2017).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Logit of "none of these", which competes with the labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub null_logit: Option<f32>,
    /// `[scale, bias]`: `sigmoid(scale * similarity + bias)` is the probability that an image and a text match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_image_text: Option<[f32; 2]>,
    /// The same for two images showing the same kind of thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_image_image: Option<[f32; 2]>,
    /// The same for two texts saying the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_text_text: Option<[f32; 2]>,
    /// Mean image embedding. Where both means are given, scores are made from centred
    /// similarities, `(image - image_mean) · (text - text_mean)`: without the offset between the
    /// modalities, and without labels that like every picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_mean: Option<Vec<f32>>,
    /// Mean text embedding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_mean: Option<Vec<f32>>,
    /// Share of `image_mean` that is taken off pictures whose labels compete, 0 to 1 (the default). Less than all of it
    /// keeps some of what common things have over rare ones: a prior that a list of many names gains from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_centring: Option<f32>,
    /// `[temperature, null_logit]` where all pictures show one place, and all of `image_mean` is therefore taken off
    /// (see [`Scorer::for_one_place`](crate::Scorer::for_one_place)). `None` takes the two above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_place: Option<[f32; 2]>,
}

fn default_templates() -> Vec<String> {
    vec!["a photo of a {}".to_owned()]
}

impl Manifest {
    /// Parses and validates the text of a `model.toml`; `file` is named in errors.
    ///
    /// # Errors
    /// The first rule that the text breaks.
    pub fn parse(text: &str, file: &str) -> Result<Self, PackageError> {
        if text.len() > MAX_MANIFEST_BYTES {
            return Err(PackageError::ManifestTooLarge { file: file.to_owned() });
        }
        let versions: FormatOnly = toml::from_str(text).map_err(|e| PackageError::Manifest {
            file: file.to_owned(),
            reason: one_line(&e.to_string()),
        })?;
        if versions.format != FORMAT {
            return Err(PackageError::Format { file: file.to_owned(), found: versions.format });
        }
        let manifest: Manifest = toml::from_str(text).map_err(|e| PackageError::Manifest {
            file: file.to_owned(),
            reason: one_line(&e.to_string()),
        })?;
        manifest
            .validate()
            .map_err(|reason| PackageError::Manifest { file: file.to_owned(), reason })?;
        Ok(manifest)
    }

    /// The same as `model.toml` text.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a manifest holds only what TOML can say")
    }

    fn validate(&self) -> Result<(), String> {
        check_name(&self.name)?;
        check(
            (1..=MAX_DIMENSION).contains(&self.dimension),
            format!("dimension must be 1 to {MAX_DIMENSION}, not {}", self.dimension),
        )?;
        check(
            self.logit_scale.is_finite() && self.logit_scale > 0.0,
            "logit_scale must be a positive number",
        )?;
        check(self.logit_bias.is_finite(), "logit_bias must be a finite number")?;
        check(
            !self.templates.is_empty() && self.templates.len() <= 1000,
            "templates must hold 1 to 1000 entries",
        )?;
        for template in &self.templates {
            check(template.contains("{}"), format!("template \"{template}\" has no {{}}"))?;
        }
        check_file("image.file", &self.image.file)?;
        check_sha256("image.sha256", &self.image.sha256)?;
        if let Some(text) = &self.text {
            check_file("text.file", &text.file)?;
            check_file("text.tokenizer", &text.tokenizer)?;
            check_sha256("text.sha256", &text.sha256)?;
            check_sha256("text.tokenizer_sha256", &text.tokenizer_sha256)?;
            check(
                (1..=MAX_CONTEXT).contains(&text.context_length),
                format!("text.context_length must be 1 to {MAX_CONTEXT}"),
            )?;
        }
        self.calibration.validate(self.dimension)
    }
}

impl TextTower {
    /// What the tower is built from; `file` is named in errors. Inputs come in the order token
    /// ids, attention mask, token types, as far as the graph takes them.
    pub fn spec(&self, file: String) -> TowerSpec {
        let length = (self.padding == Padding::Max).then_some(self.context_length);
        let names = [Some(&self.input), self.attention_mask.as_ref(), self.token_type_ids.as_ref()];
        let inputs = names.into_iter().flatten();
        TowerSpec {
            file,
            inputs: inputs.map(|name| (name.clone(), InputShape::Tokens(length))).collect(),
            outputs: vec![self.output.clone()],
        }
    }
}

impl Calibration {
    /// The mean embedding of a modality, where it was measured.
    pub fn mean(&self, modality: Modality) -> Option<&[f32]> {
        match modality {
            Modality::Image => self.image_mean.as_deref(),
            Modality::Text => self.text_mean.as_deref(),
            Modality::Audio => None,
        }
    }

    /// Similarity without the offset of each modality: `(a - mean_a) · (b - mean_b)`, or the
    /// plain dot product where a mean is missing. Slices must be as long as the dimension.
    pub fn centred_similarity(&self, a: (Modality, &[f32]), b: (Modality, &[f32])) -> f32 {
        match (self.mean(a.0), self.mean(b.0)) {
            (Some(mean_a), Some(mean_b)) => {
                let left = a.1.iter().zip(mean_a).map(|(value, mean)| value - mean);
                let right = b.1.iter().zip(mean_b).map(|(value, mean)| value - mean);
                left.zip(right).map(|(x, y)| x * y).sum()
            }
            _ => dot(a.1, b.1),
        }
    }

    fn validate(&self, dimension: usize) -> Result<(), String> {
        let scalars = [self.temperature, self.null_logit];
        let pairs =
            [self.match_image_text, self.match_image_image, self.match_text_text, self.one_place];
        let finite = scalars.iter().flatten().all(|v| v.is_finite())
            && pairs.iter().flatten().flatten().all(|v| v.is_finite());
        check(finite, "[calibration] holds a number that is not finite")?;
        check(
            self.temperature.is_none_or(|t| t > 0.0) && self.one_place.is_none_or(|[t, _]| t > 0.0),
            "calibration.temperature and the first number of calibration.one_place must be positive",
        )?;
        check(
            self.label_centring.is_none_or(|share| (0.0..=1.0).contains(&share)),
            "calibration.label_centring must lie between 0 and 1",
        )?;
        for (name, mean) in [("image_mean", &self.image_mean), ("text_mean", &self.text_mean)] {
            let Some(mean) = mean else { continue };
            check(
                mean.len() == dimension && mean.iter().all(|v| v.is_finite()),
                format!("calibration.{name} must hold {dimension} finite numbers"),
            )?;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

fn check(holds: bool, otherwise: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

/// Names become folder names, so they stay within what every file system takes.
fn check_name(name: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    check(
        (1..=64).contains(&name.len()) && name.chars().all(fine) && !name.starts_with('.'),
        format!("name \"{name}\" must be 1 to 64 letters, digits, '-', '_' or '.'"),
    )
}

/// A file of the package lies beside `model.toml`: no folders, no way out.
fn check_file(field: &str, file: &str) -> Result<(), String> {
    let plain = !file.is_empty() && file.len() <= 255 && !file.contains(['/', '\\', '\0']);
    check(
        plain && file != "." && file != "..",
        format!("{field} = \"{file}\" must be the name of a file beside model.toml"),
    )
}

fn check_sha256(field: &str, digest: &str) -> Result<(), String> {
    check(
        digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()),
        format!("{field} must be 64 hexadecimal digits"),
    )
}
