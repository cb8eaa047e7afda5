//! Layers as they are recognised in the graph, and their grouping into regions.

use std::collections::{HashMap, HashSet};

use tract_onnx::prelude::*;

use crate::kernel::{Activation, Window};

/// Height, width and channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

impl Size {
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    pub fn elements(&self) -> usize {
        self.pixels() * self.channels
    }
}

/// What is applied to the result of a layer, once the residual has been added to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum After {
    /// An activation function.
    Function(Activation),
    /// Clamping to a range that no activation function has.
    Clamp(f32, f32),
}

/// A convolution, with what multiplies its result and is added to it channel by channel.
#[derive(Debug, Clone)]
pub(super) struct ConvolutionDraft {
    /// Position among the stored weights.
    pub weight: usize,
    /// What the scales of the weight are multiplied by, per output channel.
    pub factors: Vec<f32>,
    pub bias: Vec<f32>,
    pub window: Window,
    pub kind: ConvolutionKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConvolutionKind {
    /// Every output channel sees every input channel.
    Full,
    /// Output channel `o` sees input channel `o / multiplier` only.
    Depthwise {
        /// Output channels per input channel.
        multiplier: usize,
    },
}

#[derive(Debug, Clone)]
pub(super) enum DraftKind {
    Convolution(ConvolutionDraft),
    /// The mean over all pixels.
    GlobalAverage,
    /// The sum of two pictures.
    Add,
    /// A picture times one number per channel.
    Scale,
}

/// A layer found in the graph.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub kind: DraftKind,
    /// What the layer reads, the residual last.
    pub inputs: Vec<OutletId>,
    pub after: After,
    /// Whether the last input is added to the result.
    pub has_residual: bool,
    /// The outlet that holds the result.
    pub end: OutletId,
    /// Nodes that the layer computes.
    pub nodes: Vec<usize>,
    pub size: Size,
}

/// Layers that become one operator, in an order in which they can run.
#[derive(Debug)]
pub(super) struct Region {
    /// Positions among the drafts.
    pub layers: Vec<usize>,
    /// Outlets read that no layer of the region makes.
    pub inputs: Vec<OutletId>,
    /// Outlets of the region that others read.
    pub outputs: Vec<OutletId>,
}

/// Groups layers into regions such that no region depends on itself through nodes outside of it.
///
/// A region may only depend on regions with smaller numbers; a layer that would break this
/// starts a new one.
pub(super) fn regions(model: &TypedModel, drafts: &[Draft]) -> TractResult<Vec<Region>> {
    let by_end: HashMap<usize, usize> =
        drafts.iter().enumerate().map(|(at, draft)| (draft.end.node, at)).collect();
    // The largest number of a region that a node depends on; regions count from 1.
    let mut depends: HashMap<usize, usize> = HashMap::new();
    let mut numbers = vec![0; drafts.len()];
    let mut count = 0;
    for id in model.eval_order()? {
        let inputs = match by_end.get(&id) {
            Some(at) => &drafts[*at].inputs,
            None => &model.node(id).inputs,
        };
        let number_of = |outlet: &OutletId| by_end.get(&outlet.node).map_or(0, |at| numbers[*at]);
        let depth = |outlet: &OutletId| depends.get(&outlet.node).copied().unwrap_or(0);
        let deepest = inputs.iter().map(depth).max().unwrap_or(0);
        let Some(&at) = by_end.get(&id) else {
            depends.insert(id, deepest);
            continue;
        };
        let joined = inputs.iter().map(number_of).max().unwrap_or(0);
        let allowed =
            inputs.iter().all(|outlet| number_of(outlet) == joined || depth(outlet) < joined);
        numbers[at] = if joined > 0 && allowed {
            joined
        } else {
            count += 1;
            count
        };
        depends.insert(id, numbers[at]);
    }
    Ok((1..=count).map(|number| region(model, drafts, &numbers, &by_end, number)).collect())
}

fn region(
    model: &TypedModel,
    drafts: &[Draft],
    numbers: &[usize],
    by_end: &HashMap<usize, usize>,
    number: usize,
) -> Region {
    let order = model.eval_order().unwrap_or_default();
    let layers: Vec<usize> = order
        .iter()
        .filter_map(|id| by_end.get(id).copied())
        .filter(|at| numbers[*at] == number)
        .collect();
    let inside: HashSet<usize> =
        layers.iter().flat_map(|at| drafts[*at].nodes.iter().copied()).collect();
    let mut inputs = Vec::new();
    for outlet in layers.iter().flat_map(|at| &drafts[*at].inputs) {
        if !inside.contains(&outlet.node) && !inputs.contains(outlet) {
            inputs.push(*outlet);
        }
    }
    let outputs = layers
        .iter()
        .map(|at| drafts[*at].end)
        .filter(|end| {
            model.outputs.contains(end)
                || model.outlet_successors(*end).iter().any(|inlet| !inside.contains(&inlet.node))
        })
        .collect();
    Region { layers, inputs, outputs }
}
