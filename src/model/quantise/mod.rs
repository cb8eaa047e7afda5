//! The quantiser: an `f32` ONNX graph in, the same graph with int8 weights out.

mod graph;
mod rounding;

use tract_onnx::prelude::*;

/// Weights only, no calibration yet.
pub fn weights_only(onnx: &[u8]) -> Result<Vec<u8>, String> {
    use tract_onnx::pb::ModelProto;
    let mut proto: ModelProto =
        crate::model::int8::onnx::decode(onnx).map_err(|e| e.to_string())?;
    let graph = proto.graph.as_mut().ok_or("no graph")?;
    graph::constants_to_initialisers(graph);
    for candidate in graph::candidates(graph) {
        let tensor = graph.initializer.iter().find(|t| t.name == candidate.weight).unwrap();
        let values = graph::floats(tensor).unwrap();
        let q = rounding::quantise_weight(&values, &candidate.shape, candidate.axis);
        eprintln!(
            "{} {:.5}",
            candidate.weight,
            rounding::relative_error(&values, &q, &candidate.shape, candidate.axis)
        );
        graph::store_int8(graph, &candidate, &q);
    }
    Ok(encode(&proto))
}

/// Encodes an ONNX message.
fn encode(proto: &tract_onnx::pb::ModelProto) -> Vec<u8> {
    prost::Message::encode_to_vec(proto)
}
