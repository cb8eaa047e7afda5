//! Smoothing: outlying channels of activations are made smaller, and their weights larger.
//!
//! A row of activations is quantised with one step, as wide as its largest channel asks for. In
//! transformers a few channels after a layer norm are many times larger than the rest, which then
//! keep few bits. Dividing each channel by a factor and multiplying its weights with the same one
//! changes nothing but these ranges (G. Xiao and others, *SmoothQuant*, 2022, with a migration
//! strength of one half).
//!
//! The division goes into the scale and the shift of the layer norm where only these matrix products
//! read it, and costs nothing. Elsewhere it is one multiplication between them.

use std::collections::HashMap;

use tract_onnx::pb::{GraphProto, NodeProto};

use super::graph::{self, Candidate};
use super::observe::Probe;

const FLOAT: i32 = tract_onnx::pb::tensor_proto::DataType::Float as i32;

/// Factors beyond this and its reciprocal are not trusted to so few samples.
const LARGEST_FACTOR: f32 = 64.0;

/// Smooths what layer norms pass to matrix products; gives the number of layer norms. Moments of the
/// inputs seen become those of the new inputs.
pub(super) fn smooth(
    graph: &mut GraphProto,
    candidates: &[Candidate],
    probes: &mut [Option<Probe>],
) -> usize {
    let norms: Vec<NodeProto> =
        graph.node.iter().filter(|node| is_plain_norm(graph, node)).cloned().collect();
    norms.iter().filter(|norm| smooth_one(graph, norm, candidates, probes).is_some()).count()
}

/// Whether a node normalises the innermost axis with a scale and a shift that never change.
fn is_plain_norm(graph: &GraphProto, node: &NodeProto) -> bool {
    let length = |slot: usize| {
        let name = node.input.get(slot)?;
        let tensor = graph.initializer.iter().find(|t| t.name == *name && t.data_type == FLOAT)?;
        graph::floats(tensor).map(|values| values.len())
    };
    node.op_type == "LayerNormalization"
        && graph::integer_of(node, "axis").unwrap_or(-1) == -1
        && node.output.len() == 1
        && length(1) > Some(1)
        && length(1) == length(2)
}

fn smooth_one(
    graph: &mut GraphProto,
    norm: &NodeProto,
    candidates: &[Candidate],
    probes: &mut [Option<Probe>],
) -> Option<()> {
    let output = &passed_on(graph, norm.output.first()?);
    let readers = readers(graph, output);
    // Positions of the candidates that read it, by the node that does.
    let products: HashMap<usize, usize> = readers
        .iter()
        .filter_map(|at| Some((*at, product(graph, &graph.node[*at], output, candidates)?)))
        .collect();
    let mut layers: Vec<usize> = products.values().copied().collect();
    layers.sort_unstable();
    let first = *layers.first()?;
    let factors =
        factors(graph, probes[first].as_ref()?, layers.iter().map(|at| &candidates[*at]))?;
    let is_output = graph.output.iter().any(|o| o.name == *output);
    if products.len() == readers.len() && !is_output {
        for slot in [1, 2] {
            divide_vector(graph, norm.output.first()?, slot, &factors)?;
        }
    } else {
        multiply_between(graph, output, &products, &factors);
    }
    for layer in layers {
        scale_inputs(graph, &candidates[layer], &factors)?;
        let moments = probes[layer].as_mut().map(|probe| &mut probe.moments);
        moments.into_iter().flatten().for_each(|moments| moments.divide(&factors));
    }
    Some(())
}

/// The nodes that read a tensor.
fn readers(graph: &GraphProto, tensor: &str) -> Vec<usize> {
    let reads = |at: &usize| graph.node[*at].input.iter().any(|input| input == tensor);
    (0..graph.node.len()).filter(reads).collect()
}

/// What becomes of a tensor through nodes that leave its numbers and its innermost axis as they are.
fn passed_on(graph: &GraphProto, tensor: &str) -> String {
    let mut tensor = tensor.to_owned();
    while let [reader] = readers(graph, &tensor)[..]
        && !graph.output.iter().any(|output| output.name == tensor)
    {
        let node = &graph.node[reader];
        let axes = graph::integer_list(node, "perm");
        let plain = match node.op_type.as_str() {
            "Identity" => true,
            "Cast" => graph::integer_of(node, "to") == Some(i64::from(FLOAT)),
            "Transpose" => axes.last().is_some_and(|last| *last == axes.len() as i64 - 1),
            _ => false,
        };
        match node.output.first().filter(|_| plain) {
            Some(output) => tensor.clone_from(output),
            None => break,
        }
    }
    tensor
}

/// The candidate whose product of `output` with its weight a node forms, if nothing else uses that
/// weight.
fn product(
    graph: &GraphProto,
    node: &NodeProto,
    output: &str,
    candidates: &[Candidate],
) -> Option<usize> {
    let plain = node.op_type == "MatMul"
        || (node.op_type == "Gemm" && graph::integer_of(node, "transA").unwrap_or(0) == 0);
    let at = candidates.iter().position(|c| Some(&c.weight) == node.input.get(1))?;
    let users = graph.node.iter().filter(|n| n.input.contains(&candidates[at].weight)).count();
    (plain && node.input[0] == output && users == 1).then_some(at)
}

/// The factor of each channel; `None` if nothing was seen, or nothing is to be gained.
fn factors<'c>(
    graph: &GraphProto,
    probe: &Probe,
    layers: impl Iterator<Item = &'c Candidate>,
) -> Option<Vec<f32>> {
    let seen = probe.moments.first()?.largest()?;
    let mut weights = vec![0f32; seen.len()];
    for layer in layers {
        let tensor = graph.initializer.iter().find(|t| t.name == layer.weight)?;
        let values = graph::floats(tensor)?;
        let outputs = layer.shape[layer.axis];
        if values.len() != outputs * seen.len() || values.iter().any(|v| !v.is_finite()) {
            return None;
        }
        for (at, value) in values.iter().enumerate() {
            let input = if layer.axis == 0 { at % seen.len() } else { at / outputs };
            weights[input] = weights[input].max(value.abs());
        }
    }
    let root = |(seen, weight): (&f32, &f32)| (seen.max(1e-5) / weight.max(1e-5)).sqrt();
    let roots: Vec<f32> = seen.iter().zip(&weights).map(root).collect();
    // Around one, so that biases and residuals keep their size.
    let mean = roots.iter().map(|r| r.ln()).sum::<f32>() / roots.len() as f32;
    let scaled = roots.iter().map(|r| (r / mean.exp()).clamp(1.0 / LARGEST_FACTOR, LARGEST_FACTOR));
    let factors: Vec<f32> = scaled.collect();
    factors.iter().all(|f| f.is_finite()).then_some(factors)
}

/// Divides a vector that the layer norm of this output reads, under a name of its own.
fn divide_vector(graph: &mut GraphProto, output: &str, slot: usize, factors: &[f32]) -> Option<()> {
    let norm =
        graph.node.iter_mut().find(|node| node.output.first().is_some_and(|o| o == output))?;
    let tensor = graph.initializer.iter().find(|t| t.name == norm.input[slot])?;
    let values = graph::floats(tensor).filter(|values| values.len() == factors.len())?;
    let name = format!("{output}.smooth{slot}");
    let bytes = values.iter().zip(factors).flat_map(|(v, f)| (v / f).to_le_bytes()).collect();
    norm.input[slot].clone_from(&name);
    graph.initializer.push(graph::raw_tensor(&name, FLOAT, vec![factors.len() as i64], bytes));
    Some(())
}

/// Puts a multiplication between what comes of a layer norm and the products that read it.
fn multiply_between(
    graph: &mut GraphProto,
    output: &str,
    products: &HashMap<usize, usize>,
    factors: &[f32],
) {
    let [smoothed, constant] = ["smooth", "smooth_factors"].map(|part| format!("{output}.{part}"));
    let bytes = factors.iter().flat_map(|f| (1.0 / f).to_le_bytes()).collect();
    graph.initializer.push(graph::raw_tensor(&constant, FLOAT, vec![factors.len() as i64], bytes));
    for at in products.keys() {
        graph.node[*at].input[0].clone_from(&smoothed);
    }
    let after = graph.node.iter().position(|n| n.output.first().is_some_and(|o| o == output));
    let node = NodeProto {
        op_type: "Mul".to_owned(),
        name: smoothed.clone(),
        input: vec![output.to_owned(), constant],
        output: vec![smoothed],
        ..NodeProto::default()
    };
    graph.node.insert(after.map_or(0, |at| at + 1), node);
}

/// Multiplies the weights of each input of a layer.
fn scale_inputs(graph: &mut GraphProto, layer: &Candidate, factors: &[f32]) -> Option<()> {
    let outputs = layer.shape[layer.axis];
    let tensor = graph.initializer.iter_mut().find(|t| t.name == layer.weight)?;
    let mut values = graph::floats(tensor)?;
    for (at, value) in values.iter_mut().enumerate() {
        *value *= factors[if layer.axis == 0 { at % factors.len() } else { at / outputs }];
    }
    tensor.float_data.clear();
    tensor.raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Some(())
}
