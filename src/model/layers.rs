//! The inner layers of an image tower: where earlier features can be read.

use std::collections::{HashMap, HashSet};

use prost::Message;
use tract_onnx::pb::{GraphProto, NodeProto, ValueInfoProto};

use super::int8;
use super::tower::{TowerError, TowerSpec, decode, input_spec};
use crate::contained::contained;

/// How an inner layer lays out its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerShape {
    /// Convolutional: `[1, channels, rows, columns]`.
    Map {
        /// Channels.
        channels: usize,
        /// Places from top to bottom.
        rows: usize,
        /// Places from left to right.
        columns: usize,
    },
    /// A transformer's: `tokens` rows of `channels` numbers.
    Tokens {
        /// Tokens, class token included.
        tokens: usize,
        /// Numbers a token.
        channels: usize,
    },
}

/// An inner layer of a tower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InnerLayer {
    /// The tensor in the graph.
    pub tensor: String,
    /// Its layout.
    pub shape: LayerShape,
}

/// Element-wise operators: what a convolution has made goes through them in place.
const ELEMENTWISE: [&str; 9] = [
    "Clip",
    "Relu",
    "LeakyRelu",
    "PRelu",
    "HardSwish",
    "Sigmoid",
    "Add",
    "Mul",
    "BatchNormalization",
];

/// Fewest sums of equal shape that make a transformer's residual stream: two blocks of two.
const FEWEST_SUMS: usize = 4;

/// The layers of an image tower from the pixels on: of a convolutional one the last features at
/// each resolution, of a transformer the output of each block.
///
/// # Errors
/// [`TowerError`] when the graph cannot be read.
pub fn inner_layers(onnx: &[u8], spec: &TowerSpec) -> Result<Vec<InnerLayer>, TowerError> {
    let mut proto = decode(onnx, &spec.file)?;
    let graph = proto.graph.as_mut().expect("decode() refuses models without a graph");
    let names = between(graph, &spec.inputs[0].0, &spec.outputs[0]);
    let inputs: Vec<_> = spec.inputs.iter().map(input_spec).collect();
    let shapes = contained(|| int8::shapes(&proto, &inputs, &names))
        .map_err(|reason| TowerError::Panicked { file: spec.file.clone(), reason })?
        .map_err(|reason| TowerError::Graph { file: spec.file.clone(), reason })?;
    let shapes: HashMap<&str, Vec<usize>> =
        names.iter().map(String::as_str).zip(shapes).filter(|(_, s)| !s.is_empty()).collect();
    let graph = proto.graph.as_ref().expect("it was there before");
    let blocks = residual_stream(graph, &shapes);
    Ok(if blocks.is_empty() { resolutions(graph, &shapes) } else { blocks })
}

/// Tensors that follow from `input` and that `output` follows from, in the order of the graph,
/// if a convolution or an element-wise operator makes them.
fn between(graph: &GraphProto, input: &str, output: &str) -> Vec<String> {
    let mut after: HashSet<&str> = HashSet::from([input]);
    for node in &graph.node {
        if node.input.iter().any(|name| after.contains(name.as_str())) {
            after.extend(node.output.iter().map(String::as_str));
        }
    }
    let mut before: HashSet<&str> = HashSet::from([output]);
    for node in graph.node.iter().rev() {
        if node.output.iter().any(|name| before.contains(name.as_str())) {
            before.extend(node.input.iter().map(String::as_str));
        }
    }
    let made = graph.node.iter().filter(|node| is_candidate(node)).filter_map(|n| n.output.first());
    made.filter(|name| after.contains(name.as_str()) && before.contains(name.as_str()))
        .cloned()
        .collect()
}

fn is_candidate(node: &NodeProto) -> bool {
    node.op_type == "Conv" || ELEMENTWISE.contains(&node.op_type.as_str())
}

/// Outputs of a transformer's blocks: every second sum of two tensors of tokens (attention and
/// perceptron add to the stream in turn). Empty for other towers.
fn residual_stream(graph: &GraphProto, shapes: &HashMap<&str, Vec<usize>>) -> Vec<InnerLayer> {
    let sums: Vec<InnerLayer> = graph
        .node
        .iter()
        .filter(|node| node.op_type == "Add")
        .filter_map(|node| {
            let shape = shapes.get(node.output[0].as_str())?;
            let tokens = match shape[..] {
                [1, tokens, _] | [tokens, 1, _] if tokens > 1 => tokens,
                _ => return None,
            };
            // A bias or a position is a constant, so it has no shape here.
            let is_tensor = |name: &String| depends(graph, name, shapes);
            node.input.iter().all(is_tensor).then(|| InnerLayer {
                tensor: node.output[0].clone(),
                shape: LayerShape::Tokens { tokens, channels: shape[2] },
            })
        })
        .collect();
    if sums.len() < FEWEST_SUMS {
        return Vec::new();
    }
    sums.into_iter().skip(1).step_by(2).collect()
}

/// Whether a tensor is made from the picture: it has a known shape, or a node makes it from such.
fn depends(graph: &GraphProto, name: &str, shapes: &HashMap<&str, Vec<usize>>) -> bool {
    let mut open = vec![name];
    let mut seen = HashSet::new();
    while let Some(name) = open.pop() {
        if shapes.contains_key(name) {
            return true;
        }
        if seen.insert(name) {
            let maker = graph.node.iter().find(|node| node.output.iter().any(|o| o == name));
            open.extend(maker.into_iter().flat_map(|node| node.input.iter().map(String::as_str)));
        }
    }
    false
}

/// The last features at each resolution of a convolutional tower.
fn resolutions(graph: &GraphProto, shapes: &HashMap<&str, Vec<usize>>) -> Vec<InnerLayer> {
    let mut maps: HashSet<&str> = HashSet::new();
    let mut layers: Vec<InnerLayer> = Vec::new();
    for node in &graph.node {
        let Some((name, shape)) =
            node.output.first().and_then(|name| Some((name.as_str(), shapes.get(name.as_str())?)))
        else {
            continue;
        };
        let [1, channels, rows, columns] = shape[..] else { continue };
        let continues = |input: &String| {
            maps.contains(input.as_str()) && shapes.get(input.as_str()) == Some(shape)
        };
        if rows * columns < 2 || !(node.op_type == "Conv" || node.input.iter().any(continues)) {
            continue;
        }
        maps.insert(name);
        let found = LayerShape::Map { channels, rows, columns };
        let layer = InnerLayer { tensor: name.to_owned(), shape: found };
        let same = |layer: &&mut InnerLayer| matches!(layer.shape, LayerShape::Map { rows: r, columns: c, .. } if (r, c) == (rows, columns));
        match layers.iter_mut().find(same) {
            Some(known) => *known = layer,
            None => layers.push(layer),
        }
    }
    layers
}

/// The same graph with an inner tensor among its outputs.
///
/// # Errors
/// [`TowerError::NotOnnx`].
pub fn with_inner_output(onnx: &[u8], file: &str, tensor: &str) -> Result<Vec<u8>, TowerError> {
    let mut proto = decode(onnx, file)?;
    let graph = proto.graph.as_mut().expect("decode() refuses models without a graph");
    if !graph.output.iter().any(|output| output.name == tensor) {
        let output = ValueInfoProto { name: tensor.to_owned(), ..ValueInfoProto::default() };
        graph.output.push(output);
    }
    Ok(proto.encode_to_vec())
}
