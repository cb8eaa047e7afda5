//! Whole graphs: what runs in int8 against the same weights in `f32` on tract.

mod convolutions;
mod hostile;
mod miniatures;

use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    ValueInfoProto, type_proto,
};
use tract_onnx::prelude::*;

use super::{QuantiseError, QuantiseOptions, QuantiseReport, Stored, WIDE_KEY, quantise};
use crate::kernel::Machine;
use crate::model::int8::{
    CompileOptions, Dimension, Element, InputSpec, Int8Error, Pixels, Report, compile, float_plan,
    onnx,
};

/// Uniform numbers from -1 to 1.
fn noise(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    super::numbers(tensor).unwrap()
}

fn machine() -> Machine {
    Machine::active().unwrap()
}

/// Quantises without samples.
fn quantised(file: &[u8]) -> Vec<u8> {
    let options = QuantiseOptions {
        inputs: Vec::new(),
        outputs: Vec::new(),
        pixels: None,
        samples: None,
        smallest_cosine: 0.0,
        progress: &mut |_| {},
    };
    quantise(file, options).unwrap().0
}
