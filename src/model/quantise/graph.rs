//! Which weights of an ONNX graph are quantised, and the graph with those weights in int8.

use std::collections::HashMap;

use tract_onnx::pb::{
    AttributeProto, GraphProto, NodeProto, TensorProto, attribute_proto, tensor_proto,
};
use tract_onnx::prelude::*;

use super::rounding::QuantisedWeight;

const FLOAT: i32 = tensor_proto::DataType::Float as i32;
const FLOAT16: i32 = tensor_proto::DataType::Float16 as i32;
const INT8: i32 = tensor_proto::DataType::Int8 as i32;

/// Weights of fewer elements stay as they are, except those of convolutions.
const SMALLEST_MATRIX: usize = 1024;

/// Embedding tables of fewer elements stay as they are.
const SMALLEST_TABLE: usize = 1 << 16;

/// A weight that can be quantised.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    /// Name of the initialiser.
    pub weight: String,
    /// Name of the first operator that uses it.
    pub operator: String,
    /// That operator's type.
    pub operator_type: String,
    /// The tensor that operator makes.
    pub output: String,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// The axis of the output channels.
    pub axis: usize,
}

/// Turns the tensors of `Constant` nodes into initialisers, which is what is quantised.
pub(super) fn constants_to_initialisers(graph: &mut GraphProto) {
    let mut moved = Vec::new();
    graph.node.retain(|node| {
        let value = node.attribute.iter().find(|a| a.name == "value").and_then(|a| a.t.as_ref());
        match (node.op_type.as_str(), value, node.output.first()) {
            ("Constant", Some(value), Some(name)) if value.dims.len() >= 2 => {
                moved.push(TensorProto { name: name.clone(), ..value.clone() });
                false
            }
            _ => true,
        }
    });
    graph.initializer.extend(moved);
}

/// Whether the graph already holds quantised weights or activations.
pub(super) fn is_quantised(graph: &GraphProto) -> bool {
    const QUANTISED: [&str; 9] = [
        "DequantizeLinear",
        "QuantizeLinear",
        "DynamicQuantizeLinear",
        "QLinearConv",
        "QLinearMatMul",
        "ConvInteger",
        "MatMulInteger",
        "MatMulNBits",
        "QGemm",
    ];
    graph.node.iter().any(|node| QUANTISED.contains(&node.op_type.as_str()))
}

/// Lists the weights that can be quantised, in the order of the graph.
pub(super) fn candidates(graph: &GraphProto) -> Vec<Candidate> {
    let initialisers: HashMap<&str, &TensorProto> =
        graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut found: Vec<Candidate> = Vec::new();
    for node in &graph.node {
        let Some((slot, axis)) = weight_of(node) else { continue };
        let Some(tensor) = node.input.get(slot).and_then(|name| initialisers.get(name.as_str()))
        else {
            continue;
        };
        let shape: Option<Vec<usize>> =
            tensor.dims.iter().map(|d| usize::try_from(*d).ok().filter(|d| *d > 0)).collect();
        let Some(shape) = shape.filter(|shape| shape.len() >= 2) else { continue };
        let axis = if axis < 0 { shape.len() - 1 } else { axis as usize };
        let size: usize = shape.iter().product();
        let smallest = match node.op_type.as_str() {
            "Conv" => 0,
            "Gather" => SMALLEST_TABLE,
            _ => SMALLEST_MATRIX,
        };
        let usable = tensor.data_type == FLOAT && size >= smallest;
        let matrix_rank = node.op_type == "Conv" || shape.len() == 2;
        if usable && matrix_rank && !found.iter().any(|c| c.weight == tensor.name) {
            found.push(Candidate {
                weight: tensor.name.clone(),
                operator: crate::model::int8::onnx::node_name(node).to_owned(),
                operator_type: node.op_type.clone(),
                output: node.output.first().cloned().unwrap_or_default(),
                shape,
                axis,
            });
        }
    }
    found
}

/// The input of a node that is its weight, and the axis of the output channels (-1: the last).
fn weight_of(node: &NodeProto) -> Option<(usize, i64)> {
    let attribute = |name: &str| node.attribute.iter().find(|a| a.name == name).map(|a| a.i);
    match node.op_type.as_str() {
        "MatMul" => Some((1, -1)),
        "Gemm" => Some((1, if attribute("transB").unwrap_or(0) == 1 { 0 } else { 1 })),
        "Conv" => Some((1, 0)),
        "Gather" if attribute("axis").unwrap_or(0) == 0 => Some((0, 0)),
        _ => None,
    }
}

/// The elements of an `f32` tensor.
pub(super) fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    if tensor.raw_data.is_empty() {
        return Some(tensor.float_data.clone());
    }
    let (numbers, rest) = tensor.raw_data.as_chunks::<4>();
    rest.is_empty().then(|| numbers.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

/// Replaces an `f32` initialiser by an int8 one that is dequantised under the same name.
pub(super) fn store_int8(graph: &mut GraphProto, candidate: &Candidate, weight: &QuantisedWeight) {
    let name = &candidate.weight;
    let (values, scales) = (format!("{name}.int8"), format!("{name}.scale"));
    let zero_points = format!("{name}.zero_point");
    let dims: Vec<i64> = candidate.shape.iter().map(|d| *d as i64).collect();
    let channels = weight.scales.len();
    graph.initializer.retain(|tensor| tensor.name != *name);
    graph.initializer.extend([
        raw_tensor(&values, INT8, dims, weight.values.iter().map(|v| *v as u8).collect()),
        raw_tensor(
            &scales,
            FLOAT,
            vec![channels as i64],
            weight.scales.iter().flat_map(|s| s.to_le_bytes()).collect(),
        ),
        raw_tensor(&zero_points, INT8, vec![channels as i64], vec![0; channels]),
    ]);
    let axis = integer_attribute("axis", candidate.axis as i64);
    let inputs = vec![values, scales, zero_points];
    graph.node.insert(0, maker_node("DequantizeLinear", name, inputs, axis));
}

/// Replaces an `f32` initialiser by a 16-bit one that is cast back under the same name. Numbers
/// beyond the 16-bit range are saturated.
pub(super) fn store_half(graph: &mut GraphProto, candidate: &Candidate, values: &[f32]) {
    let name = &candidate.weight;
    let half = format!("{name}.half");
    let dims: Vec<i64> = candidate.shape.iter().map(|d| *d as i64).collect();
    let largest = f32::from(f16::MAX);
    let bytes = values
        .iter()
        .flat_map(|v| f16::from_f32(v.clamp(-largest, largest)).to_bits().to_le_bytes())
        .collect();
    graph.initializer.retain(|tensor| tensor.name != *name);
    graph.initializer.push(raw_tensor(&half, FLOAT16, dims, bytes));
    let to = integer_attribute("to", i64::from(FLOAT));
    graph.node.insert(0, maker_node("Cast", name, vec![half], to));
}

fn maker_node(
    op_type: &str,
    output: &str,
    input: Vec<String>,
    attribute: AttributeProto,
) -> NodeProto {
    NodeProto {
        op_type: op_type.to_owned(),
        name: format!("{output}.{}", if op_type == "Cast" { "cast" } else { "dequantise" }),
        input,
        output: vec![output.to_owned()],
        attribute: vec![attribute],
        ..NodeProto::default()
    }
}

fn integer_attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: attribute_proto::AttributeType::Int as i32,
        i: value,
        ..AttributeProto::default()
    }
}

fn raw_tensor(name: &str, data_type: i32, dims: Vec<i64>, raw_data: Vec<u8>) -> TensorProto {
    TensorProto { name: name.to_owned(), data_type, dims, raw_data, ..TensorProto::default() }
}
