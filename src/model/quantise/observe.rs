//! Running the `f32` graph on calibration samples and keeping what the quantiser wants to know.

use std::sync::Arc;

use rayon::prelude::*;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::plan::SimplePlan;

use super::compensate::Moments;
use super::graph::{Candidate, integer_list, integer_of};
use super::ranges::Histogram;
use crate::model::int8::{InputSpec, float_plan};

/// Vectors taken from each layer and sample.
const VECTORS: usize = 256;

/// Layers with more inputs have their bias corrected, but their weights rounded to nearest: the
/// covariance of their inputs would be too large.
const MOST_COMPENSATED: usize = 4096;

/// What was seen of one layer.
#[derive(Debug)]
pub(super) struct Probe {
    /// Which output of the plan is the layer's input.
    slot: usize,
    geometry: Geometry,
    /// Moments of the inputs of each group of output channels.
    pub moments: Vec<Moments>,
    /// Which output of the plan is the layer's result, if its mean is wanted.
    result_slot: Option<usize>,
    /// The mean of each channel of the result over the first samples.
    pub result_mean: ChannelMean,
}

/// The mean of each channel of pictures.
#[derive(Debug, Clone, Default)]
pub(super) struct ChannelMean {
    sums: Vec<f64>,
    count: f64,
}

impl ChannelMean {
    /// Takes pictures `[batch, channels, height, width]` in.
    pub fn add(&mut self, tensor: &Tensor) -> TractResult<()> {
        let [_, channels, height, width] = tensor.shape()[..] else { return Ok(()) };
        let values = tensor.try_as_plain_ram()?.as_slice::<f32>()?;
        self.sums.resize(channels, 0.0);
        for picture in values.chunks_exact(channels * height * width) {
            for (sum, plane) in self.sums.iter_mut().zip(picture.chunks_exact(height * width)) {
                *sum += plane.iter().map(|v| f64::from(*v)).sum::<f64>();
            }
            self.count += (height * width) as f64;
        }
        Ok(())
    }

    /// The means; `None` if nothing was seen.
    pub fn means(&self) -> Option<Vec<f64>> {
        (self.count > 0.0).then(|| self.sums.iter().map(|sum| sum / self.count).collect())
    }
}

#[derive(Debug)]
enum Geometry {
    /// Rows of `inputs` numbers.
    Rows { inputs: usize },
    /// Patches under a window.
    Patches { kernel: [usize; 2], stride: [usize; 2], before: [usize; 2], after: [usize; 2] },
}

/// The `f32` graph with everything observed as outputs.
pub(super) struct Observer {
    plan: Arc<SimplePlan<TypedFact, Box<dyn TypedOp>>>,
    outputs: usize,
    /// One for each candidate, where its input can be observed.
    pub probes: Vec<Option<Probe>>,
    /// Tensors whose range is wanted.
    pub ranges: Vec<(String, Histogram)>,
    range_slots: Vec<usize>,
    samples: usize,
}

impl Observer {
    /// Prepares the graph. `ranged` are the names of tensors whose range is wanted.
    pub fn new(
        proto: &ModelProto,
        graph: &GraphProto,
        candidates: &[Candidate],
        (inputs, outputs): (&[InputSpec], &[String]),
        ranged: Vec<String>,
    ) -> TractResult<Self> {
        let mut wanted = outputs.to_vec();
        let mut slot_of = |name: &str| {
            wanted.iter().position(|w| w == name).unwrap_or_else(|| {
                wanted.push(name.to_owned());
                wanted.len() - 1
            })
        };
        let probes = candidates
            .iter()
            .map(|candidate| {
                let node =
                    graph.node.iter().find(|n| n.output.first() == Some(&candidate.output))?;
                let (geometry, moments) = geometry(node, candidate)?;
                let means = candidate.operator_type == "Conv" && !ranged.is_empty();
                Some(Probe {
                    slot: slot_of(&node.input[0]),
                    geometry,
                    moments,
                    result_slot: means.then(|| slot_of(&candidate.output)),
                    result_mean: ChannelMean::default(),
                })
            })
            .collect();
        let range_slots = ranged.iter().map(|name| slot_of(name)).collect();
        let ranges = ranged.into_iter().map(|name| (name, Histogram::default())).collect();
        let plan = float_plan(proto, inputs, &wanted)?;
        Ok(Self { plan, outputs: outputs.len(), probes, ranges, range_slots, samples: 0 })
    }

    /// Runs one sample; gives the graph's own outputs. The means of results are taken over samples
    /// `with_means` only.
    pub fn run(&mut self, sample: TVec<TValue>, with_means: bool) -> TractResult<TVec<TValue>> {
        let results = self.plan.run(sample)?;
        self.samples += 1;
        let offset = self.samples * 7919;
        self.probes.par_iter_mut().flatten().try_for_each(|probe| {
            if let Some(slot) = probe.result_slot.filter(|_| with_means) {
                probe.result_mean.add(&results[slot])?;
            }
            probe.add(&results[probe.slot], offset)
        })?;
        let slots = &self.range_slots;
        self.ranges.par_iter_mut().zip(slots).try_for_each(|((_, histogram), slot)| {
            let tensor = results[*slot].cast_to::<f32>()?;
            histogram.add(tensor.try_as_plain_ram()?.as_slice::<f32>()?);
            TractResult::Ok(())
        })?;
        Ok(results.into_iter().take(self.outputs).collect())
    }
}

fn geometry(node: &NodeProto, candidate: &Candidate) -> Option<(Geometry, Vec<Moments>)> {
    let shape = &candidate.shape;
    match node.op_type.as_str() {
        "MatMul" | "Gemm" if integer_of(node, "transA").unwrap_or(0) == 0 => {
            let inputs = shape.iter().product::<usize>() / shape[candidate.axis];
            Some((Geometry::Rows { inputs }, vec![Moments::new(inputs, MOST_COMPENSATED)]))
        }
        "Conv" if shape.len() == 4 => {
            let inputs = shape[1] * shape[2] * shape[3];
            let groups = usize::try_from(integer_of(node, "group").unwrap_or(1)).ok()?;
            let two = |name: &str, default: usize| -> Option<[usize; 2]> {
                match integer_list(node, name)[..] {
                    [] => Some([default; 2]),
                    [a, b] => Some([usize::try_from(a).ok()?, usize::try_from(b).ok()?]),
                    _ => None,
                }
            };
            let stride = two("strides", 1)?;
            let dilated = two("dilations", 1)? != [1, 1];
            let padding: Vec<usize> = integer_list(node, "pads")
                .iter()
                .map(|p| usize::try_from(*p).ok())
                .collect::<Option<_>>()?;
            let (before, after) = match padding[..] {
                [] => ([0; 2], [0; 2]),
                [top, left, bottom, right] => ([top, left], [bottom, right]),
                _ => return None,
            };
            let automatic = node.attribute.iter().any(|a| {
                a.name == "auto_pad" && !a.s.is_empty() && a.s != b"NOTSET" && a.s != b"VALID"
            });
            let divides = groups > 0 && shape[0].is_multiple_of(groups);
            let usable = !dilated && !automatic && stride.iter().all(|s| *s > 0) && divides;
            let kernel = [shape[2], shape[3]];
            usable.then(|| {
                let moments = vec![Moments::new(inputs, MOST_COMPENSATED); groups];
                (Geometry::Patches { kernel, stride, before, after }, moments)
            })
        }
        _ => None,
    }
}

impl Probe {
    fn add(&mut self, tensor: &Tensor, offset: usize) -> TractResult<()> {
        let shape = tensor.shape();
        let values = tensor.try_as_plain_ram()?.as_slice::<f32>()?;
        match self.geometry {
            Geometry::Rows { inputs } => {
                for row in sampled(values.len() / inputs, offset) {
                    self.moments[0].add(&values[row * inputs..(row + 1) * inputs]);
                }
            }
            Geometry::Patches { kernel, stride, before, after } if shape.len() == 4 => {
                let (channels, height, width) = (shape[1], shape[2], shape[3]);
                let steps = |size: usize, i: usize| {
                    (size + before[i] + after[i])
                        .checked_sub(kernel[i])
                        .map_or(0, |r| r / stride[i] + 1)
                };
                let (rows, columns) = (steps(height, 0), steps(width, 1));
                let per_group = channels / self.moments.len();
                let mut patch = Vec::new();
                for at in sampled(rows * columns, offset) {
                    let (top, left) = (at / columns * stride[0], at % columns * stride[1]);
                    for (group, moments) in self.moments.iter_mut().enumerate() {
                        patch.clear();
                        for channel in group * per_group..(group + 1) * per_group {
                            let plane = &values[channel * height * width..][..height * width];
                            for tap in 0..kernel[0] * kernel[1] {
                                let y = (top + tap / kernel[1]).wrapping_sub(before[0]);
                                let x = (left + tap % kernel[1]).wrapping_sub(before[1]);
                                let inside = y < height && x < width;
                                patch.push(if inside { plane[y * width + x] } else { 0.0 });
                            }
                        }
                        moments.add(&patch);
                    }
                }
            }
            Geometry::Patches { .. } => {}
        }
        Ok(())
    }
}

/// Positions spread evenly over `0..total`, from another start for every sample.
fn sampled(total: usize, offset: usize) -> impl Iterator<Item = usize> {
    let step = total.div_ceil(VECTORS).max(1);
    (offset % step..total).step_by(step)
}
