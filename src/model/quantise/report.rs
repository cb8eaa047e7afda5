//! What the quantiser says: of its progress, of each layer, and of what it cannot use.

use super::Int8Error;

/// Why a graph cannot be quantised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantiseError {
    /// The graph holds quantised weights or activations already.
    #[error("the graph is quantised already; quantise the f32 original instead")]
    AlreadyQuantised,
    /// The graph holds no weight worth quantising.
    #[error("the graph holds no f32 weights of matrix products or convolutions to quantise")]
    NothingToQuantise,
    /// A weight holds a number that is infinite or not a number.
    #[error("weight \"{weight}\" is damaged: element {index} is {value}")]
    NotFinite {
        /// The weight's name.
        weight: String,
        /// Position of the element.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// A weight has another number of elements than its shape says.
    #[error("weight \"{weight}\" holds {found} numbers where its shape needs {expected}")]
    Length {
        /// The weight's name.
        weight: String,
        /// Numbers found.
        found: usize,
        /// Numbers needed.
        expected: usize,
    },
    /// The graph cannot be read or compiled.
    #[error(transparent)]
    Graph(#[from] Int8Error),
    /// Running the graph on a calibration sample failed.
    #[error("running the graph on calibration sample {sample} failed: {reason}")]
    Calibration {
        /// Which sample, from 1.
        sample: usize,
        /// The chain of reasons.
        reason: String,
    },
    /// tract panicked on the graph.
    #[error(
        "the graph engine gave up on this graph: it is damaged, or not one that this build can run ({reason})"
    )]
    Panicked {
        /// What the panic said.
        reason: String,
    },
}

/// How weights of a layer are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stored {
    /// Int8 with one scale per output channel.
    Int8,
    /// 16-bit floating point: int8 alone would cost too much.
    Half,
}

/// What became of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerReport {
    /// Name of the operator.
    pub operator: String,
    /// Type of the operator, such as `Conv`.
    pub operator_type: String,
    /// Dimensions of its weight.
    pub shape: Vec<usize>,
    /// How the weight is stored.
    pub stored: Stored,
    /// The norm of the error over that of the original: of the layer's results (without their
    /// mean) on the calibration samples, or else of its weights.
    pub error: f64,
    /// Whether `error` is that of results.
    pub calibrated: bool,
    /// Whether activations are rounded to 16 bits before they are multiplied, rather than to 8.
    pub wide: bool,
}

/// What the quantiser did.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantiseReport {
    /// Every weight considered, in the order of the graph.
    pub layers: Vec<LayerReport>,
    /// Size of the file before, in bytes.
    pub bytes_before: usize,
    /// Size of the file after, in bytes.
    pub bytes_after: usize,
    /// Calibration samples used.
    pub samples: usize,
    /// Mean cosine between the first outputs of both graphs over some samples.
    pub mean_cosine: Option<f64>,
    /// The smallest of these cosines.
    pub smallest_cosine: Option<f64>,
}

/// What the quantiser is doing, for a progress bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Such as `calibrating`.
    pub stage: &'static str,
    /// Steps done.
    pub done: usize,
    /// Steps in this stage, if known.
    pub total: Option<usize>,
}
