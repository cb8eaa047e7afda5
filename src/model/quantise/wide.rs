//! Layers that read 16 bits.
//!
//! Rows of activations are rounded to 256 steps. Attention can magnify what that costs a few of the
//! layers before it, so that a graph keeps too little although each layer by itself loses hardly
//! anything. Which layers these are is found by trying.

use prost::Message;
use tract_onnx::pb::ModelProto;

use super::graph::Candidate;
use super::{
    Calibration, LayerReport, Progress, QuantiseError, QuantiseOptions, Stored, WIDE_KEY, compare,
    set_metadata,
};

/// Samples on which each layer is tried alone.
const TRIED: usize = 16;

/// Layers may read 16 bits as long as they hold at most one in this many weights of matrix products:
/// each of them takes twice the time.
const SMALLEST_PART: usize = 8;

/// Lets as few layers as are needed read 16 bits, for the whole graph to keep
/// [`QuantiseOptions::smallest_cosine`] on average; none if that cannot be reached. Gives the encoded
/// graph, and the cosines that it keeps.
pub(super) fn widen(
    proto: &mut ModelProto,
    layers: &mut [LayerReport],
    candidates: &[Candidate],
    calibration: &Calibration,
    options: &mut QuantiseOptions,
) -> Result<(Vec<u8>, Vec<f64>), QuantiseError> {
    let plain = proto.encode_to_vec();
    let cosines = compare(&plain, calibration, options, usize::MAX)?;
    if cosines.is_empty() || mean(&cosines) >= options.smallest_cosine {
        return Ok((plain, cosines));
    }
    let weights = |at: usize| candidates[at].shape.iter().product::<usize>();
    let is_product = |at: &usize| {
        let product = ["MatMul", "Gemm"].contains(&candidates[*at].operator_type.as_str());
        product && layers[*at].stored == Stored::Int8
    };
    let products: Vec<usize> = (0..candidates.len()).filter(is_product).collect();
    let most = products.iter().map(|at| weights(*at)).sum::<usize>() / SMALLEST_PART;

    let tried = &cosines[..cosines.len().min(TRIED)];
    let mut gains = Vec::new();
    for (done, at) in products.iter().enumerate() {
        let total = Some(products.len());
        (options.progress)(Progress { stage: "comparing", done, total });
        let file = encode(proto, candidates, &[*at]);
        let gain = mean(&compare(&file, calibration, options, TRIED)?) - mean(tried);
        if gain > 0.0 {
            gains.push((gain, *at));
        }
    }
    gains.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut wide: Vec<usize> = Vec::new();
    let mut held = 0;
    for (_, at) in gains {
        if held + weights(at) > most {
            continue;
        }
        held += weights(at);
        wide.push(at);
        let file = encode(proto, candidates, &wide);
        let reached = compare(&file, calibration, options, usize::MAX)?;
        if mean(&reached) >= options.smallest_cosine {
            wide.iter().for_each(|at| layers[*at].wide = true);
            return Ok((file, reached));
        }
    }
    proto.metadata_props.retain(|entry| entry.key != WIDE_KEY);
    Ok((plain, cosines))
}

/// The graph with these layers reading 16 bits.
fn encode(proto: &mut ModelProto, candidates: &[Candidate], wide: &[usize]) -> Vec<u8> {
    let names: Vec<&str> = wide.iter().map(|at| candidates[*at].weight.as_str()).collect();
    set_metadata(proto, WIDE_KEY, serde_json::to_string(&names).unwrap_or_default());
    proto.encode_to_vec()
}

fn mean(cosines: &[f64]) -> f64 {
    cosines.iter().sum::<f64>() / cosines.len() as f64
}
