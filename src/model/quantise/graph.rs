//! Which weights of an ONNX graph are quantised, and the graph with those weights in int8.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{
    AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, attribute_proto,
    tensor_proto,
};
use tract_onnx::prelude::*;

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
    let attribute = |name: &str| integer_of(node, name);
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

/// Replaces an `f32` initialiser by an int8 one that is dequantised under the same name. `values`
/// are in the order of the original.
pub(super) fn store_int8(
    graph: &mut GraphProto,
    candidate: &Candidate,
    values: &[i8],
    scales: &[f32],
) {
    let bytes = values.iter().map(|v| *v as u8).collect();
    let name = &candidate.weight;
    let [int8, scale, zero_point] =
        ["int8", "scale", "zero_point"].map(|part| format!("{name}.{part}"));
    let dims: Vec<i64> = candidate.shape.iter().map(|d| *d as i64).collect();
    let channels = scales.len();
    let scale_bytes = scales.iter().flat_map(|s| s.to_le_bytes()).collect();
    graph.initializer.retain(|tensor| tensor.name != *name);
    graph.initializer.extend([
        raw_tensor(&int8, INT8, dims, bytes),
        raw_tensor(&scale, FLOAT, vec![channels as i64], scale_bytes),
        raw_tensor(&zero_point, INT8, vec![channels as i64], vec![0; channels]),
    ]);
    let axis = integer_attribute("axis", candidate.axis as i64);
    let inputs = vec![int8, scale, zero_point];
    graph.node.insert(0, maker_node("DequantizeLinear", name, inputs, axis));
}

/// Adds `shifts`, one per output channel, to the bias of every operator that uses a weight. Gives
/// `false`, and changes nothing, where an operator has no bias of its own to change.
pub(super) fn shift_bias(graph: &mut GraphProto, candidate: &Candidate, shifts: &[f32]) -> bool {
    let initialiser = |name: &str| graph.initializer.iter().find(|t| t.name == name);
    let users: Vec<usize> = (0..graph.node.len())
        .filter(|at| graph.node[*at].input.get(1) == Some(&candidate.weight))
        .collect();
    // Where each bias is: the node that reads it and the slot, and its values so far.
    let mut places = Vec::new();
    for at in &users {
        let node = &graph.node[*at];
        let place = match node.op_type.as_str() {
            "Conv" | "Gemm" => match node.input.get(2).filter(|name| !name.is_empty()) {
                None => Some((*at, 2, vec![0.0; shifts.len()], vec![shifts.len() as i64])),
                Some(name) => initialiser(name).and_then(|t| {
                    let plain = float_of(node, "beta").unwrap_or(1.0) == 1.0;
                    let values = floats(t).filter(|v| v.len() == shifts.len() && plain)?;
                    Some((*at, 2, values, t.dims.clone()))
                }),
            },
            _ => addition_after(graph, node, shifts.len()),
        };
        match place {
            Some(place) => places.push(place),
            None => return false,
        }
    }
    let Some((_, _, first, dims)) = places.first().cloned() else { return false };
    if places.iter().any(|(_, _, values, d)| *values != first || *d != dims) {
        return false;
    }
    let name = format!("{}.bias", candidate.weight);
    graph.initializer.retain(|tensor| tensor.name != name);
    let shifted = first.iter().zip(shifts).flat_map(|(b, s)| (b + s).to_le_bytes()).collect();
    graph.initializer.push(raw_tensor(&name, FLOAT, dims, shifted));
    for (at, slot, ..) in places {
        let inputs = &mut graph.node[at].input;
        inputs.resize(inputs.len().max(slot + 1), String::new());
        inputs[slot].clone_from(&name);
    }
    true
}

/// The addition of a constant vector that alone reads the result of a node: its position, the slot
/// of the vector, its values and dimensions.
fn addition_after(
    graph: &GraphProto,
    node: &NodeProto,
    channels: usize,
) -> Option<(usize, usize, Vec<f32>, Vec<i64>)> {
    let output = node.output.first()?;
    if graph.output.iter().any(|o| o.name == *output) {
        return None;
    }
    let mut readers = (0..graph.node.len()).filter(|at| graph.node[*at].input.contains(output));
    let (reader, None) = (readers.next()?, readers.next()) else { return None };
    let add = &graph.node[reader];
    if add.op_type != "Add" || add.input.len() != 2 {
        return None;
    }
    let slot = usize::from(add.input[0] == *output);
    let tensor = graph.initializer.iter().find(|t| t.name == add.input[slot])?;
    let vector = tensor.dims.last() == Some(&(channels as i64));
    let values = floats(tensor).filter(|v| v.len() == channels && vector)?;
    Some((reader, slot, values, tensor.dims.clone()))
}

/// The part of a graph that makes the result of a candidate's operator; `None` if several operators
/// use its weight.
pub(super) fn part(graph: &GraphProto, candidate: &Candidate) -> Option<GraphProto> {
    let users = graph.node.iter().filter(|n| n.input.contains(&candidate.weight)).count();
    if users != 1 {
        return None;
    }
    let mut needed = HashSet::from([candidate.output.clone()]);
    let mut nodes = Vec::new();
    for node in graph.node.iter().rev() {
        if node.output.iter().any(|output| needed.contains(output)) {
            needed.extend(node.input.iter().cloned());
            nodes.push(node.clone());
        }
    }
    nodes.reverse();
    let output = ValueInfoProto { name: candidate.output.clone(), ..ValueInfoProto::default() };
    let used = |tensor: &&TensorProto| needed.contains(&tensor.name);
    Some(GraphProto {
        node: nodes,
        name: graph.name.clone(),
        initializer: graph.initializer.iter().filter(used).cloned().collect(),
        input: graph.input.clone(),
        output: vec![output],
        ..GraphProto::default()
    })
}

/// Removes initialisers that nothing reads.
pub(super) fn drop_unused_initialisers(graph: &mut GraphProto) {
    let mut used: HashSet<String> = graph.output.iter().map(|o| o.name.clone()).collect();
    fn collect(graph: &GraphProto, used: &mut HashSet<String>) {
        for node in &graph.node {
            used.extend(node.input.iter().cloned());
            for attribute in &node.attribute {
                attribute.g.iter().chain(&attribute.graphs).for_each(|g| collect(g, used));
            }
        }
    }
    collect(graph, &mut used);
    graph.initializer.retain(|tensor| used.contains(&tensor.name));
}

/// An integer attribute of a node.
pub(super) fn integer_of(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|a| a.name == name).map(|a| a.i)
}

/// A list of integers that is an attribute of a node; empty if there is none.
pub(super) fn integer_list<'n>(node: &'n NodeProto, name: &str) -> &'n [i64] {
    node.attribute.iter().find(|a| a.name == name).map_or(&[], |a| &a.ints)
}

fn float_of(node: &NodeProto, name: &str) -> Option<f32> {
    node.attribute.iter().find(|a| a.name == name).map(|a| a.f)
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

pub(super) fn raw_tensor(
    name: &str,
    data_type: i32,
    dims: Vec<i64>,
    raw_data: Vec<u8>,
) -> TensorProto {
    TensorProto { name: name.to_owned(), data_type, dims, raw_data, ..TensorProto::default() }
}

/// The tensor that the first convolution passes on. Its channels often hardly vary, and the next
/// layer magnifies what they do: bytes are too coarse for it.
pub(super) fn first_activation(graph: &GraphProto) -> Option<String> {
    let inputs: HashSet<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
    let reads_input = |n: &&NodeProto| {
        n.op_type == "Conv" && n.input.first().is_some_and(|i| inputs.contains(i.as_str()))
    };
    let output = graph.node.iter().find(reads_input)?.output.first()?;
    let mut readers = graph.node.iter().filter(|node| node.input.contains(output));
    match (readers.next(), readers.next()) {
        (Some(next), None) if ["Relu", "Clip"].contains(&next.op_type.as_str()) => {
            next.output.first().cloned()
        }
        _ => Some(output.clone()),
    }
}

/// Tensors whose range lets convolutions pass bytes on: the results of convolutions, sums and
/// rectifiers of a network whose activations are all clamped from below. Empty for other networks,
/// whose activations are better quantised as they come.
pub(super) fn ranged_tensors(graph: &GraphProto) -> Vec<String> {
    const UNBOUNDED: [&str; 8] =
        ["Erf", "Gelu", "Sigmoid", "Tanh", "Softmax", "HardSwish", "HardSigmoid", "Elu"];
    let has = |kinds: &[&str]| graph.node.iter().any(|n| kinds.contains(&n.op_type.as_str()));
    if !has(&["Conv"]) || !has(&["Relu", "Clip"]) || has(&UNBOUNDED) {
        return Vec::new();
    }
    let pictures = graph
        .node
        .iter()
        .filter(|n| ["Conv", "Add", "Relu"].contains(&n.op_type.as_str()))
        .filter_map(|node| node.output.first().map(|output| (node, output)))
        .filter(|(node, output)| {
            let mut readers = graph.node.iter().filter(|n| n.input.contains(output)).peekable();
            let clamped = readers.peek().is_some()
                && readers.all(|n| ["Relu", "Clip"].contains(&n.op_type.as_str()));
            node.op_type == "Relu" || !clamped
        })
        .map(|(_, output)| output.clone());
    pictures.collect()
}
