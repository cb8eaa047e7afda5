//! The quantiser: an `f32` ONNX graph in, the same graph with int8 weights out.
//!
//! Weights of matrix products, convolutions and large embedding tables become symmetric int8 with
//! one scale per output channel, stored in standard ONNX: an int8 initialiser and a
//! `DequantizeLinear` under the weight's old name. Any ONNX engine runs the result.
//!
//! With calibration samples, outlying channels of activations are [smoothed](smooth), weights are
//! rounded so that the *results* of each layer change least (see [`compensate`]), biases take back what shifts the mean, and the ranges of activations are
//! stored for [`int8`](super::int8). Where that keeps too little of a transformer, some layers [read](wide) 16 bits.

mod compensate;
mod graph;
mod observe;
mod ranges;
mod report;
mod rounding;
mod smooth;
#[cfg(test)]
mod tests;
mod wide;

use std::collections::BTreeMap;

use prost::Message;
use tract_onnx::pb::{GraphProto, ModelProto, StringStringEntryProto};
use tract_onnx::prelude::*;

use super::int8::{
    self, CompileOptions, Compiled, InputSpec, Int8Error, Pixels, RANGES_KEY, WIDE_KEY, onnx,
};
use crate::contained::contained;
use crate::kernel::Machine;
pub use report::{LayerReport, Progress, QuantiseError, QuantiseReport, Stored};

use graph::Candidate;
use observe::{ChannelMean, Observer};
use rounding::QuantisedWeight;

/// Samples on which the quantised graph is compared with the original.
const COMPARED: usize = 32;

/// Samples over which the means of results are brought back to those of the original.
const CORRECTED: usize = 16;

/// How a graph is quantised.
pub struct QuantiseOptions<'a> {
    /// The inputs of the graph, in the order of the samples' tensors.
    pub inputs: Vec<InputSpec>,
    /// The outputs that matter; the first one is compared.
    pub outputs: Vec<String>,
    /// What pixels mean, if the first input is a picture.
    pub pixels: Option<Pixels>,
    /// Calibration samples: the inputs of one run each, as the graph takes them.
    pub samples: Option<&'a mut dyn Iterator<Item = TVec<TValue>>>,
    /// A layer whose own results would keep less than this cosine stays in 16 bits. Where the
    /// whole graph keeps less, some layers read 16 bits, if that is enough.
    pub smallest_cosine: f64,
    /// Called now and then.
    pub progress: &'a mut dyn FnMut(Progress),
}

/// Quantises the weights of an ONNX file; gives the new file and what was done.
///
/// # Errors
/// [`QuantiseError`]: the file is not an `f32` ONNX graph with weights, weights are not finite, or
/// tract cannot run it on the samples.
pub fn quantise(
    file: &[u8],
    options: QuantiseOptions,
) -> Result<(Vec<u8>, QuantiseReport), QuantiseError> {
    contained(|| rewrite(file, options))
        .unwrap_or_else(|reason| Err(QuantiseError::Panicked { reason }))
}

fn rewrite(
    file: &[u8],
    mut options: QuantiseOptions,
) -> Result<(Vec<u8>, QuantiseReport), QuantiseError> {
    let mut proto = onnx::decode(file)?;
    let mut graph = proto.graph.take().ok_or(Int8Error::NoGraph)?;
    if graph::is_quantised(&graph) {
        return Err(QuantiseError::AlreadyQuantised);
    }
    graph::constants_to_initialisers(&mut graph);
    let candidates = graph::candidates(&graph);
    if candidates.is_empty() {
        return Err(QuantiseError::NothingToQuantise);
    }
    proto.graph = Some(graph);
    let mut calibration = calibrate(&proto, &candidates, &mut options)?;
    let mut graph = proto.graph.take().ok_or(Int8Error::NoGraph)?;
    if let Some(observer) = &mut calibration.observer {
        smooth::smooth(&mut graph, &candidates, &mut observer.probes);
    }

    let mut layers = Vec::new();
    for (at, candidate) in candidates.iter().enumerate() {
        let stage = "rounding";
        (options.progress)(Progress { stage, done: at, total: Some(candidates.len()) });
        let probe = calibration.observer.as_ref().and_then(|o| o.probes[at].as_ref());
        let moments = probe.map(|probe| probe.moments.as_slice());
        layers.push(layer(&mut graph, candidate, moments, options.smallest_cosine)?);
    }
    graph::drop_unused_initialisers(&mut graph);
    proto.graph = Some(graph);
    store_ranges(&mut proto, &calibration);
    correct_means(&mut proto, &candidates, &calibration, &mut options)?;
    let (bytes, cosines) =
        wide::widen(&mut proto, &mut layers, &candidates, &calibration, &mut options)?;
    let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
    let report = QuantiseReport {
        layers,
        bytes_before: file.len(),
        bytes_after: bytes.len(),
        samples: calibration.samples,
        mean_cosine: (!cosines.is_empty()).then_some(mean),
        smallest_cosine: cosines.iter().copied().reduce(f64::min),
    };
    Ok((bytes, report))
}

/// What the samples taught.
struct Calibration {
    observer: Option<Observer>,
    samples: usize,
    /// Some samples, with the first output of the original.
    compared: Vec<(TVec<TValue>, Vec<f32>)>,
}

fn calibrate(
    proto: &ModelProto,
    candidates: &[Candidate],
    options: &mut QuantiseOptions,
) -> Result<Calibration, QuantiseError> {
    let mut calibration = Calibration { observer: None, samples: 0, compared: Vec::new() };
    let Some(samples) = options.samples.take() else { return Ok(calibration) };
    let graph = proto.graph.as_ref().ok_or(Int8Error::NoGraph)?;
    let ranged = graph::ranged_tensors(graph);
    let tensors = (&options.inputs[..], &options.outputs[..]);
    let mut observer =
        Observer::new(proto, graph, candidates, tensors, ranged).map_err(Int8Error::unsupported)?;
    let total = samples.size_hint().1;
    for sample in samples {
        let number = calibration.samples;
        let failed = |e| calibration_error(number, &e);
        let with_means = calibration.samples < CORRECTED;
        let outputs = observer.run(sample.clone(), with_means).map_err(failed)?;
        if calibration.compared.len() < COMPARED {
            let first = numbers(&outputs[0]).map_err(failed)?;
            calibration.compared.push((sample, first));
        }
        calibration.samples += 1;
        let stage = "calibrating";
        (options.progress)(Progress { stage, done: calibration.samples, total });
    }
    if calibration.samples > 0 {
        calibration.observer = Some(observer);
    }
    Ok(calibration)
}

fn numbers(tensor: &Tensor) -> TractResult<Vec<f32>> {
    let tensor = tensor.cast_to::<f32>()?;
    Ok(tensor.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
}

/// Quantises one weight.
fn layer(
    graph: &mut GraphProto,
    candidate: &Candidate,
    moments: Option<&[compensate::Moments]>,
    smallest_cosine: f64,
) -> Result<LayerReport, QuantiseError> {
    let values = read_weight(graph, candidate)?;
    let channels = candidate.shape[candidate.axis];
    // The kernels of matrix products are stored inputs first.
    let inputs_first = candidate.axis == 1;
    let inputs = values.len() / channels;
    let rows = if inputs_first { rounding::transpose(&values, inputs) } else { values.clone() };
    let mut quantised = rounding::quantise_rows(&rows, channels);
    let shifts = moments.map(|moments| compensate::compensate(&rows, &mut quantised, moments));
    let result_error = moments.and_then(|m| compensate::result_error(&rows, &quantised, m));
    let error = result_error.unwrap_or_else(|| rounding::relative_error(&rows, &quantised));
    // For small errors, the cosine is 1 - error² / 2.
    let stored =
        if 1.0 - error * error / 2.0 < smallest_cosine { Stored::Half } else { Stored::Int8 };
    match stored {
        Stored::Int8 => {
            if let Some(shifts) = shifts {
                graph::shift_bias(graph, candidate, &shifts);
            }
            let QuantisedWeight { values, scales } = quantised;
            let values = if inputs_first { rounding::transpose(&values, channels) } else { values };
            graph::store_int8(graph, candidate, &values, &scales);
        }
        Stored::Half => graph::store_half(graph, candidate, &values),
    }
    Ok(LayerReport {
        operator: candidate.operator.clone(),
        operator_type: candidate.operator_type.clone(),
        shape: candidate.shape.clone(),
        stored,
        error,
        calibrated: result_error.is_some(),
        wide: false,
    })
}

fn read_weight(graph: &GraphProto, candidate: &Candidate) -> Result<Vec<f32>, QuantiseError> {
    let weight = || candidate.weight.clone();
    let tensor = graph.initializer.iter().find(|t| t.name == candidate.weight);
    let values = tensor.and_then(graph::floats).unwrap_or_default();
    let expected = candidate.shape.iter().product();
    if values.len() != expected {
        return Err(QuantiseError::Length { weight: weight(), found: values.len(), expected });
    }
    match values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        Some((index, value)) => {
            Err(QuantiseError::NotFinite { weight: weight(), index, value: *value })
        }
        None => Ok(values),
    }
}

/// Stores the ranges of activations in the model's metadata.
fn store_ranges(proto: &mut ModelProto, calibration: &Calibration) {
    let Some(observer) = &calibration.observer else { return };
    let mut ranges: BTreeMap<&str, (f32, f32)> = observer
        .ranges
        .iter()
        .filter_map(|(name, histogram)| Some((name.as_str(), histogram.best_range()?)))
        .filter(|(_, (low, high))| low < high)
        .collect();
    // An empty range keeps a tensor in floats.
    let first =
        proto.graph.as_ref().and_then(graph::first_activation).filter(|_| !ranges.is_empty());
    if let Some(first) = &first {
        ranges.insert(first, (0.0, 0.0));
    }
    if !ranges.is_empty() {
        set_metadata(proto, RANGES_KEY, serde_json::to_string(&ranges).unwrap_or_default());
    }
}

fn set_metadata(proto: &mut ModelProto, key: &str, value: String) {
    proto.metadata_props.retain(|entry| entry.key != key);
    proto.metadata_props.push(StringStringEntryProto { key: key.to_owned(), value });
}

/// Brings the mean of each channel of each convolution's result back to that of the original, layer
/// after layer, by its bias: static activations shift means where a channel hardly varies.
fn correct_means(
    proto: &mut ModelProto,
    candidates: &[Candidate],
    calibration: &Calibration,
    options: &mut QuantiseOptions,
) -> Result<(), QuantiseError> {
    let Some(observer) = &calibration.observer else { return Ok(()) };
    for (at, (candidate, probe)) in candidates.iter().zip(&observer.probes).enumerate() {
        let stage = "correcting";
        (options.progress)(Progress { stage, done: at, total: Some(candidates.len()) });
        let Some(expected) = probe.as_ref().and_then(|probe| probe.result_mean.means()) else {
            continue;
        };
        let Some(mut part) = proto.graph.as_ref().and_then(|g| graph::part(g, candidate)) else {
            continue;
        };
        std::mem::swap(proto.graph.get_or_insert_default(), &mut part);
        let bytes = proto.encode_to_vec();
        std::mem::swap(proto.graph.get_or_insert_default(), &mut part);
        let compiled = compile(&bytes, vec![candidate.output.clone()], options)?;
        let mut found = ChannelMean::default();
        for (sample, (inputs, _)) in calibration.compared.iter().take(CORRECTED).enumerate() {
            let failed = |e| calibration_error(sample, &e);
            let results = compiled.plan.run(inputs.clone()).map_err(failed)?;
            found.add(&results[0]).map_err(failed)?;
        }
        if let (Some(found), Some(graph)) = (found.means(), &mut proto.graph) {
            let shifts: Vec<f32> =
                expected.iter().zip(&found).map(|(e, f)| (e - f) as f32).collect();
            graph::shift_bias(graph, candidate, &shifts);
        }
    }
    if let Some(graph) = &mut proto.graph {
        graph::drop_unused_initialisers(graph);
    }
    Ok(())
}

fn compile(
    bytes: &[u8],
    outputs: Vec<String>,
    options: &QuantiseOptions,
) -> Result<Compiled, QuantiseError> {
    let machine = Machine::active().unwrap_or(Machine::Scalar);
    let (inputs, pixels) = (options.inputs.clone(), options.pixels.clone());
    Ok(int8::compile(bytes, &CompileOptions { inputs, outputs, pixels, machine })?)
}

/// The error of running sample number `index`, counted from 0.
fn calibration_error(index: usize, error: &TractError) -> QuantiseError {
    QuantiseError::Calibration { sample: index + 1, reason: format!("{error:#}") }
}

/// The cosine between the first outputs of both graphs, on the first `most` samples.
fn compare(
    bytes: &[u8],
    calibration: &Calibration,
    options: &QuantiseOptions,
    most: usize,
) -> Result<Vec<f64>, QuantiseError> {
    if calibration.compared.is_empty() {
        return Ok(Vec::new());
    }
    let compiled = compile(bytes, options.outputs.clone(), options)?;
    let compared = calibration.compared.iter().take(most).enumerate();
    let cosine_of = |(at, (sample, expected)): (usize, &(TVec<TValue>, Vec<f32>))| {
        let failed = |e| calibration_error(at, &e);
        let outputs = compiled.plan.run(sample.clone()).map_err(failed)?;
        Ok(cosine(&numbers(&outputs[0]).map_err(failed)?, expected))
    };
    compared.map(cosine_of).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f64::MIN_POSITIVE)
}
