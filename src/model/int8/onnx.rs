//! From the bytes of an ONNX file to a message that tract may parse, with its int8 weights and
//! its activation ranges set aside.
//!
//! tract would turn `DequantizeLinear(weight)` into an `f32` constant. Here each such weight
//! becomes a graph input of the same name instead, which the pass later replaces by a
//! [`WeightNode`](super::weight::WeightNode). Pairs of `QuantizeLinear`/`DequantizeLinear` on
//! activations become the `Clip` that they amount to, apart from the rounding.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_proto, type_proto,
};
use tract_onnx::prelude::*;

use super::activation_pairs::clip_activation_pairs;
use super::error::Int8Error;
use super::weight::StoredWeight;
use super::wire;
use crate::one_line::one_line;

/// Key in `metadata_props` under which activation ranges are stored, as a JSON object from tensor
/// name to `[low, high]`.
pub const RANGES_KEY: &str = "sextant.ranges";

/// Key in `metadata_props` under which stands which weights are multiplied with activations of 16
/// bits rather than 8, as a JSON array of their names.
pub const WIDE_KEY: &str = "sextant.wide";

pub(super) const INT8: i32 = tensor_proto::DataType::Int8 as i32;
pub(super) const UINT8: i32 = tensor_proto::DataType::Uint8 as i32;
pub(super) const FLOAT: i32 = tensor_proto::DataType::Float as i32;

/// A model whose int8 weights have been set aside.
#[derive(Debug)]
pub(super) struct Prepared<'a> {
    /// The message, ready for tract.
    pub proto: ModelProto,
    /// The weights; each is a graph input of the same name in `proto`.
    pub weights: Vec<StoredWeight<'a>>,
    /// Smallest and largest value of activations, by the name of the node that makes them.
    pub ranges: HashMap<String, (f32, f32)>,
    /// Names of weights that are multiplied with activations of 16 bits.
    pub wide: HashSet<String>,
    /// What was left to tract, and why.
    pub notes: Vec<String>,
}

/// Decodes an ONNX file and sets its int8 weights aside.
pub(super) fn prepare(file: &[u8]) -> Result<Prepared<'_>, Int8Error> {
    let detached = wire::detach_payloads(file).ok_or_else(|| Int8Error::NotOnnx {
        reason: "the protobuf message is malformed".to_owned(),
    })?;
    let mut proto = decode(&detached.message)?;
    drop(detached.message);
    let stored_ranges = read_ranges(&proto)?;
    let wide = read_wide(&proto)?;
    let opset = opset(&proto);
    let graph = proto.graph.as_mut().ok_or(Int8Error::NoGraph)?;
    let payload = |name: &str| detached.payloads.get(name).map(|range| &file[range.clone()]);

    let mut notes = Vec::new();
    let mut ranges = clip_activation_pairs(graph, opset);
    let weights = set_weights_aside(graph, &payload, &mut notes)?;
    restore_payloads(graph, &payload);

    let makers = makers(graph);
    for (tensor, range) in stored_ranges {
        let node = makers.get(tensor.as_str()).cloned().unwrap_or(tensor);
        ranges.insert(node, range);
    }
    Ok(Prepared { proto, weights, ranges, wide, notes })
}

/// Decodes an ONNX message.
pub(crate) fn decode(message: &[u8]) -> Result<ModelProto, Int8Error> {
    let proto = tract_onnx::onnx()
        .proto_model_for_read(&mut &*message)
        .map_err(|e| Int8Error::NotOnnx { reason: format!("{e:#}") })?;
    match &proto.graph {
        Some(graph) if !graph.node.is_empty() => {
            check_axes(graph)?;
            Ok(proto)
        }
        _ => Err(Int8Error::NoGraph),
    }
}

/// Most axes of a tensor.
const MOST_AXES: i64 = 64;

/// Refuses axes that no tensor has: tract counts up to that of a layer norm one by one.
fn check_axes(graph: &GraphProto) -> Result<(), Int8Error> {
    let attributes =
        graph.node.iter().flat_map(|node| node.attribute.iter().map(move |a| (node, a)));
    let mut axes = attributes.filter(|(_, attribute)| attribute.name == "axis");
    match axes.find(|(_, axis)| !(-MOST_AXES..=MOST_AXES).contains(&axis.i)) {
        None => Ok(()),
        Some((node, axis)) => Err(Int8Error::NotOnnx {
            reason: one_line(&format!("node \"{}\" works along axis {}", node_name(node), axis.i)),
        }),
    }
}

/// Version of the default operator set that the model asks for.
fn opset(proto: &ModelProto) -> i64 {
    let default = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    proto.opset_import.iter().find(|o| default(&o.domain)).map_or(0, |o| o.version)
}

/// The name tract gives to a node: its own, or else that of its first output.
pub(crate) fn node_name(node: &NodeProto) -> &str {
    match node.output.first() {
        Some(output) if node.name.is_empty() => output,
        _ => &node.name,
    }
}

/// From the name of a tensor to the name of the node that makes it, for single-output nodes.
pub(crate) fn makers(graph: &GraphProto) -> HashMap<&str, String> {
    graph
        .node
        .iter()
        .filter(|node| node.output.len() == 1)
        .map(|node| (node.output[0].as_str(), node_name(node).to_owned()))
        .collect()
}

fn read_ranges(proto: &ModelProto) -> Result<HashMap<String, (f32, f32)>, Int8Error> {
    let Some(entry) = proto.metadata_props.iter().find(|p| p.key == RANGES_KEY) else {
        return Ok(HashMap::new());
    };
    let ranges: HashMap<String, (f32, f32)> = serde_json::from_str(&entry.value)
        .map_err(|e| Int8Error::Ranges { reason: e.to_string() })?;
    let valid = |&(low, high): &(f32, f32)| low.is_finite() && high.is_finite() && low <= high;
    match ranges.iter().find(|(_, range)| !valid(range)) {
        Some((tensor, (low, high))) => {
            Err(Int8Error::Ranges { reason: format!("\"{tensor}\" runs from {low} to {high}") })
        }
        None => Ok(ranges),
    }
}

fn read_wide(proto: &ModelProto) -> Result<HashSet<String>, Int8Error> {
    let entry = proto.metadata_props.iter().find(|p| p.key == WIDE_KEY);
    entry.map_or(Ok(HashSet::new()), |entry| {
        serde_json::from_str(&entry.value).map_err(|e| Int8Error::Wide { reason: e.to_string() })
    })
}

/// Where tensors that never change are found: among initialisers and `Constant` nodes.
pub(super) fn constants(graph: &GraphProto) -> HashMap<&str, &TensorProto> {
    let of_nodes = graph.node.iter().filter(|n| n.op_type == "Constant").filter_map(|node| {
        let value = node.attribute.iter().find(|a| a.name == "value")?;
        Some((node.output.first()?.as_str(), value.t.as_ref()?))
    });
    graph.initializer.iter().map(|t| (t.name.as_str(), t)).chain(of_nodes).collect()
}

/// The elements of a small tensor as `f32`, whatever its type; `None` if that type is exotic.
fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    let loaded =
        tract_onnx::tensor::load_tensor(&tract_onnx::data_resolver::MmapDataResolver, tensor, None);
    let loaded = loaded.ok()?.cast_to::<f32>().ok()?.into_owned();
    Some(loaded.to_plain_array_view::<f32>().ok()?.iter().copied().collect())
}

pub(super) fn scalar(constants: &HashMap<&str, &TensorProto>, name: &str) -> Option<f32> {
    match floats(constants.get(name)?)?.as_slice() {
        [value] => Some(*value),
        _ => None,
    }
}

/// Makes an input of every `DequantizeLinear` of a stored symmetric weight.
fn set_weights_aside<'a>(
    graph: &mut GraphProto,
    payload: &dyn Fn(&str) -> Option<&'a [u8]>,
    notes: &mut Vec<String>,
) -> Result<Vec<StoredWeight<'a>>, Int8Error> {
    let constants = constants(graph);
    let mut weights = Vec::new();
    let mut positions = HashSet::new();
    for (position, node) in graph.node.iter().enumerate() {
        if node.op_type != "DequantizeLinear" || node.input.len() < 2 || node.output.len() != 1 {
            continue;
        }
        let Some(tensor) = constants.get(node.input[0].as_str()) else { continue };
        if ![INT8, UINT8].contains(&tensor.data_type) || tensor.dims.is_empty() {
            continue;
        }
        match stored_weight(node, tensor, &constants, payload)? {
            Some(weight) => {
                weights.push(weight);
                positions.insert(position);
            }
            None => notes.push(format!(
                "{}: weight with zero points or blocks, dequantised",
                node_name(node)
            )),
        }
    }
    drop(constants);
    let mut position = 0;
    graph.node.retain(|_| {
        position += 1;
        !positions.contains(&(position - 1))
    });
    graph.input.extend(weights.iter().map(input_of));
    drop_unused_initialisers(graph);
    Ok(weights)
}

/// Reads one weight; `None` if it is not stored symmetrically.
fn stored_weight<'a>(
    node: &NodeProto,
    tensor: &TensorProto,
    constants: &HashMap<&str, &TensorProto>,
    payload: &dyn Fn(&str) -> Option<&'a [u8]>,
) -> Result<Option<StoredWeight<'a>>, Int8Error> {
    let weight = || node.output[0].clone();
    let attribute = |name: &str| node.attribute.iter().find(|a| a.name == name).map(|a| a.i);
    if attribute("block_size").unwrap_or(0) != 0 {
        return Ok(None);
    }
    let impossible = || Int8Error::Shape { weight: weight(), shape: tensor.dims.clone() };
    let shape: Vec<usize> = (tensor.dims.iter())
        .map(|&d| usize::try_from(d).ok().filter(|d| *d > 0))
        .collect::<Option<_>>()
        .ok_or_else(impossible)?;
    let count = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).ok_or_else(impossible)?;
    let bytes = stored_bytes(tensor, payload);
    if bytes.len() != count {
        return Err(Int8Error::Payload { weight: weight(), found: bytes.len(), expected: count });
    }
    let Some(scales) = constants.get(node.input[1].as_str()).and_then(|t| floats(t)) else {
        return Ok(None);
    };
    let middle = if tensor.data_type == UINT8 { 128 } else { 0 };
    let symmetric = match node.input.get(2).filter(|name| !name.is_empty()) {
        Some(name) => constants.get(name.as_str()).is_some_and(|zero_points| {
            stored_bytes(zero_points, payload).iter().all(|byte| *byte == middle)
        }),
        None => middle == 0,
    };
    if !symmetric {
        return Ok(None);
    }
    let axis = attribute("axis").unwrap_or(1);
    let axis = scale_axis(weight, &shape, &scales, axis)?;
    if let Some((index, value)) =
        scales.iter().enumerate().find(|(_, s)| !(s.is_finite() && **s > 0.0))
    {
        return Err(Int8Error::Scale { weight: weight(), index, value: *value });
    }
    let unsigned = tensor.data_type == UINT8;
    Ok(Some(StoredWeight { name: weight(), shape, bytes, unsigned, scales, axis }))
}

/// The bytes of an 8-bit tensor, from the file where they were left there.
fn stored_bytes<'a>(
    tensor: &TensorProto,
    payload: &dyn Fn(&str) -> Option<&'a [u8]>,
) -> Cow<'a, [u8]> {
    match payload(&tensor.name) {
        Some(bytes) => Cow::Borrowed(bytes),
        None if !tensor.raw_data.is_empty() => Cow::Owned(tensor.raw_data.clone()),
        None => Cow::Owned(tensor.int32_data.iter().map(|v| *v as u8).collect()),
    }
}

/// The axis along which scales vary, or `None` if there is one scale only.
fn scale_axis(
    weight: impl Fn() -> String,
    shape: &[usize],
    scales: &[f32],
    axis: i64,
) -> Result<Option<usize>, Int8Error> {
    if scales.len() == 1 {
        return Ok(None);
    }
    let from_front = if axis < 0 { axis + shape.len() as i64 } else { axis };
    let length = usize::try_from(from_front).ok().and_then(|axis| shape.get(axis)).copied();
    match length {
        Some(length) if length == scales.len() => Ok(Some(from_front as usize)),
        _ => Err(Int8Error::ScaleCount {
            weight: weight(),
            axis,
            found: scales.len(),
            expected: length.unwrap_or(0),
        }),
    }
}

/// A graph input that stands for a weight.
fn input_of(weight: &StoredWeight) -> ValueInfoProto {
    let dim = |d: &usize| Dimension {
        value: Some(dimension::Value::DimValue(*d as i64)),
        ..Dimension::default()
    };
    let shape = TensorShapeProto { dim: weight.shape.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: FLOAT, shape: Some(shape) };
    ValueInfoProto {
        name: weight.name.clone(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

fn drop_unused_initialisers(graph: &mut GraphProto) {
    let mut used: HashSet<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    fn uses<'g>(graph: &'g GraphProto, used: &mut HashSet<&'g str>) {
        for node in &graph.node {
            used.extend(node.input.iter().map(String::as_str));
            for attribute in &node.attribute {
                attribute.g.iter().chain(&attribute.graphs).for_each(|inner| uses(inner, used));
            }
        }
    }
    uses(graph, &mut used);
    let used: HashSet<String> = used.into_iter().map(str::to_owned).collect();
    graph.initializer.retain(|t| used.contains(&t.name));
}

/// Puts back the payloads of 8-bit tensors that are not weights.
fn restore_payloads<'a>(graph: &mut GraphProto, payload: &dyn Fn(&str) -> Option<&'a [u8]>) {
    for tensor in &mut graph.initializer {
        if let Some(bytes) = payload(&tensor.name) {
            tensor.raw_data = bytes.to_vec();
        }
    }
}
