//! What can be wrong with a graph that is to run in int8.

use crate::kernel::KernelError;

/// Why an ONNX file cannot be turned into a network that runs in int8.
///
/// The file itself is named by the caller, who knows where the bytes came from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Int8Error {
    /// The bytes are not an ONNX model.
    #[error("not a readable ONNX model (damaged or cut short): {reason}")]
    NotOnnx {
        /// What the decoder says.
        reason: String,
    },
    /// The model holds no graph, or a graph without nodes.
    #[error("the ONNX model holds no graph")]
    NoGraph,
    /// The graph has no input or output of this name.
    #[error("the graph has no {what} named \"{name}\"; it has {present}")]
    NoSuchTensor {
        /// `input` or `output`.
        what: &'static str,
        /// The name asked for.
        name: String,
        /// The names it has.
        present: String,
    },
    /// A stored weight has another number of bytes than its shape says.
    #[error("weight \"{weight}\" holds {found} bytes where its shape needs {expected}")]
    Payload {
        /// The tensor's name.
        weight: String,
        /// Bytes found.
        found: usize,
        /// Bytes needed.
        expected: usize,
    },
    /// A stored weight has an impossible shape.
    #[error("weight \"{weight}\" has an impossible shape {shape:?}")]
    Shape {
        /// The tensor's name.
        weight: String,
        /// Its dimensions as stored.
        shape: Vec<i64>,
    },
    /// The scales of a weight do not fit its shape.
    #[error("weight \"{weight}\" has {found} scales where its axis {axis} needs {expected}")]
    ScaleCount {
        /// The tensor's name.
        weight: String,
        /// Axis along which scales vary.
        axis: i64,
        /// Scales found.
        found: usize,
        /// Scales needed.
        expected: usize,
    },
    /// A scale is zero, negative, infinite or not a number.
    #[error("weight \"{weight}\": scale {index} is {value}; scales must be positive and finite")]
    Scale {
        /// The tensor's name.
        weight: String,
        /// Position in the array of scales.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// The activation ranges stored in the model are malformed.
    #[error("the activation ranges in the model's metadata are malformed: {reason}")]
    Ranges {
        /// What is wrong with them.
        reason: String,
    },
    /// The list of layers that read 16 bits is damaged.
    #[error("the metadata entry \"{}\" is damaged: {reason}", super::onnx::WIDE_KEY)]
    Wide {
        /// What the decoder says.
        reason: String,
    },
    /// A convolution or linear operator has parameters the kernels refuse.
    #[error("operator \"{operator}\": {source}")]
    Operator {
        /// The node's name in the graph.
        operator: String,
        /// The rule broken.
        source: KernelError,
    },
    /// tract cannot run the graph.
    #[error("tract cannot prepare this graph: {reason}")]
    Unsupported {
        /// The chain of reasons.
        reason: String,
    },
    /// An input has the wrong number of elements.
    #[error("input {input} holds {found} elements where {expected} are needed")]
    InputLength {
        /// Position of the input.
        input: usize,
        /// Elements found.
        found: usize,
        /// Elements needed.
        expected: usize,
    },
    /// Running the graph failed.
    #[error("running the graph failed: {reason}")]
    Run {
        /// The chain of reasons.
        reason: String,
    },
}

impl Int8Error {
    /// Wraps tract's account of why a graph cannot be prepared.
    pub(crate) fn unsupported(error: tract_onnx::prelude::TractError) -> Self {
        Self::Unsupported { reason: format!("{error:#}") }
    }
}
