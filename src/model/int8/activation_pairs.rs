//! Pairs of `QuantizeLinear` and `DequantizeLinear` on activations.

use std::collections::HashMap;

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

use super::onnx::{FLOAT, INT8, UINT8, constants, makers, node_name, scalar};

/// Replaces each `QuantizeLinear` → `DequantizeLinear` on activations by the `Clip` that it
/// amounts to, and returns the ranges by the name of that node and of the node before it.
pub(super) fn clip_activation_pairs(
    graph: &mut GraphProto,
    opset: i64,
) -> HashMap<String, (f32, f32)> {
    let constants = constants(graph);
    let makers = makers(graph);
    let quantisers: HashMap<&str, &NodeProto> = graph
        .node
        .iter()
        .filter(|n| n.op_type == "QuantizeLinear" && !n.output.is_empty())
        .map(|n| (n.output[0].as_str(), n))
        .collect();
    let mut ranges = HashMap::new();
    let mut clips = Vec::new();
    for (position, node) in graph.node.iter().enumerate() {
        if node.op_type != "DequantizeLinear" || node.input.len() < 2 {
            continue;
        }
        let Some(quantiser) = quantisers.get(node.input[0].as_str()) else { continue };
        let Some((low, high)) = pair_range(quantiser, node, &constants) else { continue };
        ranges.insert(node_name(node).to_owned(), (low, high));
        if let Some(maker) = makers.get(quantiser.input[0].as_str()) {
            ranges.insert(maker.clone(), (low, high));
        }
        clips.push((position, quantiser.input[0].clone(), low, high));
    }
    drop((constants, makers, quantisers));
    for (position, input, low, high) in clips {
        clip_node(graph, position, input, (low, high), opset);
    }
    ranges
}

/// The values that survive a pair with one scale and one zero point, equal on both sides.
fn pair_range(
    quantiser: &NodeProto,
    dequantiser: &NodeProto,
    constants: &HashMap<&str, &TensorProto>,
) -> Option<(f32, f32)> {
    let parameters = |node: &NodeProto| -> Option<(f32, f32, i32)> {
        let scale = scalar(constants, node.input.get(1)?)?;
        match node.input.get(2).filter(|name| !name.is_empty()) {
            Some(name) => {
                Some((scale, scalar(constants, name)?, constants.get(name.as_str())?.data_type))
            }
            None => Some((scale, 0.0, UINT8)),
        }
    };
    let (scale, zero_point, data_type) = parameters(quantiser)?;
    if parameters(dequantiser)? != (scale, zero_point, data_type) || !scale.is_finite() {
        return None;
    }
    let (lowest, highest) = match data_type {
        UINT8 => (0.0, 255.0),
        INT8 => (-128.0, 127.0),
        _ => return None,
    };
    Some(((lowest - zero_point) * scale, (highest - zero_point) * scale))
}

/// Turns the node at `position` into a `Clip` of `input`.
fn clip_node(
    graph: &mut GraphProto,
    position: usize,
    input: String,
    (low, high): (f32, f32),
    opset: i64,
) {
    let node = &mut graph.node[position];
    node.op_type = "Clip".to_owned();
    node.attribute.clear();
    node.input = vec![input];
    let bounds = [("min", low), ("max", high)];
    if opset < 11 {
        node.attribute = bounds.map(|(name, value)| float_attribute(name, value)).into();
        return;
    }
    for (name, value) in bounds {
        let name = format!("{}.{name}", node.output[0]);
        node.input.push(name.clone());
        graph.initializer.push(TensorProto {
            name,
            data_type: FLOAT,
            float_data: vec![value],
            ..TensorProto::default()
        });
    }
}

fn float_attribute(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: tract_onnx::pb::attribute_proto::AttributeType::Float as i32,
        f: value,
        ..AttributeProto::default()
    }
}
