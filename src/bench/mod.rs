//! How fast this very computer is: each step from a file to an answer, measured in this process.

mod error;
mod host;
mod photo;
mod rows;
mod run;
mod timing;

use std::time::Duration;

use serde::Serialize;

use crate::model::Package;

pub use error::BenchError;
pub use host::Host;
pub use photo::synthetic_jpeg;
pub use run::run;
pub use timing::{Budget, Timing};

/// A step from a file to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// A package's files to towers that can run; files are in the system's cache.
    Load,
    /// A compressed picture in memory to its pixels.
    Decode,
    /// A picture to pixels of the image tower's size.
    Preprocess,
    /// The image tower: such pixels to an embedding.
    Image,
    /// Tokenising a text, and the text tower: tokens to an embedding.
    Text,
    /// A compressed picture in memory to its labels.
    Label,
    /// Many pictures at once to their labels.
    Throughput,
    /// Searching an index that is in memory.
    Index,
}

impl Stage {
    /// All of them, in the order in which they are measured.
    pub const ALL: [Stage; 8] = [
        Stage::Load,
        Stage::Decode,
        Stage::Preprocess,
        Stage::Image,
        Stage::Text,
        Stage::Label,
        Stage::Throughput,
        Stage::Index,
    ];

    /// Its name, as in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Decode => "decode",
            Self::Preprocess => "preprocess",
            Self::Image => "image",
            Self::Text => "text",
            Self::Label => "label",
            Self::Throughput => "throughput",
            Self::Index => "index",
        }
    }

    /// Whether it runs the image tower or what comes before it.
    const fn is_of_pictures(self) -> bool {
        !matches!(self, Self::Load | Self::Text | Self::Index)
    }
}

/// What is measured, and how long.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// Runs of each step, and when to stop before.
    pub budget: Budget,
    /// The steps to measure.
    pub stages: Vec<Stage>,
    /// A picture's name and file content; `None` for synthetic ones, small and large.
    pub picture: Option<(String, Vec<u8>)>,
    /// Lengths of texts in tokens; towers of a fixed length always run all of it.
    pub tokens: Vec<usize>,
    /// Rows of the index that is searched.
    pub rows: u32,
}

impl Default for BenchOptions {
    /// Everything, 50 runs or five seconds each, short and long texts, 100 000 rows.
    fn default() -> Self {
        Self {
            budget: Budget {
                warm_up: Duration::from_millis(300),
                runs: 50,
                longest: Duration::from_secs(5),
            },
            stages: Stage::ALL.to_vec(),
            picture: None,
            tokens: vec![8, 77],
            rows: 100_000,
        }
    }
}

/// The times of one step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Which.
    pub stage: Stage,
    /// On what, such as `640×480`.
    pub what: String,
    /// Threads that it could use.
    pub threads: usize,
    /// Times of a run.
    #[serde(flatten)]
    pub timing: Timing,
    /// Pictures a second, where many were worked on at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pictures_per_second: Option<f64>,
}

/// The model that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Length of an embedding.
    pub dimension: usize,
    /// Width and height of the image tower's input.
    pub input: [u32; 2],
}

impl Model {
    fn of(package: &Package) -> Self {
        let manifest = package.manifest();
        Self {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            dimension: manifest.dimension,
            input: manifest.image.preprocess.output_size().into(),
        }
    }
}

/// The most memory that this process had resident at once, in kibibytes; files that are mapped
/// count. Only Linux tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PeakMemory {
    /// With the image tower loaded and the small (or given) picture embedded: what labelling with
    /// compiled labels needs.
    pub image_kib: Option<u64>,
    /// At the end: all towers, the largest picture, the index.
    pub whole_kib: Option<u64>,
}

/// All that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchReport {
    /// Version of this crate.
    pub version: &'static str,
    /// The computer.
    pub host: Host,
    /// The model.
    pub model: Model,
    /// Threads in use.
    pub threads: usize,
    /// The steps, in the order of [`Stage::ALL`].
    pub steps: Vec<Step>,
    /// Memory.
    pub peak_memory: PeakMemory,
    /// The processor's temperature at the end in degrees Celsius, where a sensor tells.
    pub temperature: Option<f64>,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

impl BenchReport {
    /// The steps of a stage.
    pub fn of(&self, stage: Stage) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |step| step.stage == stage)
    }
}
