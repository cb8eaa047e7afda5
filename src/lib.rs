//! Sextant labels what a camera sees and finds what it saw, by words, by example or by both, on a
//! bare ARM board: offline, in int8.
//!
//! Pictures and texts become points on one sphere, an [`Embedding`] each; close means alike. An
//! [`Encoder`] over a model [`Package`] makes them, a [`Scorer`] turns similarities into honest
//! scores.
//!
//! ```no_run
//! use sextant::{CompiledLabels, Encoder, LabelSet, ScoreOptions, Scorer, TextCache};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let encoder = Encoder::new(sextant::find_model("sextant-lite")?);
//! let set = LabelSet::from_argument("cat,dog")?;
//! let mut cache = TextCache::open(encoder.space(), encoder.package().manifest().dimension);
//! let labels = sextant::compile_labels(&encoder, &set, None, &mut cache, &|_| {})?;
//! let scorer = Scorer::new(&labels, encoder.package().manifest(), ScoreOptions::default());
//! let answer = scorer.score(&encoder.image_file("photo.jpg".as_ref())?)?;
//! println!("{:?}", answer.labels.first());
//! # Ok(())
//! # }
//! ```

#![deny(missing_docs)]

pub mod bench;
mod capped;
mod contained;
mod embedding;
mod encode;
pub mod eval;
pub mod index;
#[doc(hidden)] // For benches/kernels.rs alone: a tower's time cannot tell a kernel's.
pub mod kernel;
mod label;
mod mapped;
mod model;
mod one_line;
pub mod picture;
pub mod space;
pub mod watch;

pub use contained::panic_is_contained;
pub use embedding::{Embedding, EmbeddingError, Modality, SpaceId};
pub use encode::{
    EncodeError, Encoder, MAX_TEXT_BYTES, PlaceGrid, TextError, TextTokenizer, Tokens,
    layer_of as image_layer_of, layers as image_layers,
};
pub use kernel::{FORCE_VARIABLE, Machine, MachineError};
pub use label::{
    CompiledError, CompiledLabels, Label, LabelError, LabelName, LabelSet, Labelling, ScoreOptions,
    ScoredLabel, Scorer, TextCache, check_templates, compile as compile_labels, match_probability,
};
pub use model::{
    Calibration, DEFAULT_MODEL, Derived, ImageTower, ImportError, ImportOptions, InnerLayer,
    InputShape, Int8Error, LayerReport, LayerShape, Manifest, Package, PackageError, Padding,
    PixelOverrides, Preset, QuantiseError, QuantisePackageError, QuantisePackageOptions,
    QuantiseProgress, QuantiseReport, QuantisedPackage, Report, Scoring, Stored, TextDefaults,
    TextTower, Tower, TowerError, TowerOutput, TowerSpec, derive as derive_model,
    find as find_model, import as import_model, list as list_models, model_folders,
    quantise_package,
};
pub use picture::{
    DecodeError, DecodeLimits, Picture, PixelGrid, Preprocess, PreprocessError, decode_bytes,
    decode_file,
};
