//! Preprocessing of the common model families, as their reference code does it.

use crate::picture::{Interpolation, PreprocessSpec, ResizeMode};

use super::manifest::{Padding, Scoring};

/// A family of dual encoders whose pictures and texts are prepared alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preset {
    /// OpenAI's CLIP: shorter side, bicubic, centre crop.
    OpenaiClip,
    /// OpenCLIP checkpoints that keep CLIP's preprocessing.
    OpenClip,
    /// SigLIP: squashed to a square, bicubic, mean and deviation 0.5.
    Siglip,
    /// MobileCLIP and MobileCLIP2: bilinear, pixels in [0, 1] as they are.
    Mobileclip,
    /// torchvision's ImageNet classifiers.
    Imagenet,
    /// EfficientNet-Lite: crop of size/(size+32), pixels as (p - 127) / 128.
    EfficientnetLite,
}

/// What a family's text tower expects where the graph does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextDefaults {
    /// Most tokens of a text.
    pub context_length: usize,
    /// Whether short texts are filled up.
    pub padding: Padding,
    /// The token that fills up short texts.
    pub pad_id: u32,
    /// Lower-case the text first.
    pub lowercase: bool,
    /// Take out punctuation first.
    pub strip_punctuation: bool,
}

/// CLIP's own pixel statistics (open_clip `OPENAI_DATASET_MEAN`, `OPENAI_DATASET_STD`).
const CLIP_MEAN: [f32; 3] = [0.48145466, 0.4578275, 0.40821073];
const CLIP_STD: [f32; 3] = [0.26862954, 0.261_302_6, 0.275_777_1];

/// ImageNet's pixel statistics, as torchvision uses them.
const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

impl Preset {
    /// Every preset, with the name that the command line gives it.
    pub const ALL: [(&'static str, Preset); 6] = [
        ("openai-clip", Preset::OpenaiClip),
        ("open-clip", Preset::OpenClip),
        ("siglip", Preset::Siglip),
        ("mobileclip", Preset::Mobileclip),
        ("imagenet", Preset::Imagenet),
        ("efficientnet-lite", Preset::EfficientnetLite),
    ];

    /// The preset of that name.
    pub fn named(name: &str) -> Option<Preset> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, preset)| *preset)
    }

    /// Preprocessing for a square tower of `size` pixels.
    pub fn preprocess(self, size: u32) -> PreprocessSpec {
        let (resize_size, mean, std) = match self {
            Self::OpenaiClip | Self::OpenClip => (size, CLIP_MEAN, CLIP_STD),
            Self::Siglip => (size, [0.5; 3], [0.5; 3]),
            Self::Mobileclip => (size, [0.0; 3], [1.0; 3]),
            Self::Imagenet => (size.saturating_mul(256) / 224, IMAGENET_MEAN, IMAGENET_STD),
            Self::EfficientnetLite => {
                (size.saturating_add(32), [127.0 / 255.0; 3], [128.0 / 255.0; 3])
            }
        };
        PreprocessSpec {
            resize: match self {
                Self::Siglip => ResizeMode::Squash,
                _ => ResizeMode::Shortest,
            },
            resize_size: [resize_size; 2],
            crop: Some([size; 2]),
            interpolation: match self {
                Self::Mobileclip | Self::Imagenet => Interpolation::Bilinear,
                _ => Interpolation::Bicubic,
            },
            mean,
            std,
            fill: [0; 3],
            background: [255; 3],
        }
    }

    /// The size that the family's best known member takes.
    pub fn default_size(self) -> u32 {
        match self {
            Self::Mobileclip => 256,
            Self::EfficientnetLite => 260,
            _ => 224,
        }
    }

    /// What the family's text tower expects.
    pub fn text(self) -> TextDefaults {
        let clip = TextDefaults {
            context_length: 77,
            padding: Padding::Max,
            pad_id: 0,
            lowercase: false,
            strip_punctuation: false,
        };
        match self {
            Self::Siglip => TextDefaults {
                context_length: 64,
                pad_id: 1,
                lowercase: true,
                strip_punctuation: true,
                ..clip
            },
            Self::Imagenet | Self::EfficientnetLite => {
                TextDefaults { context_length: 128, padding: Padding::None, ..clip }
            }
            _ => clip,
        }
    }

    /// How the family was trained to score pairs.
    pub fn scoring(self) -> Scoring {
        match self {
            Self::Siglip => Scoring::Sigmoid,
            _ => Scoring::Softmax,
        }
    }
}
