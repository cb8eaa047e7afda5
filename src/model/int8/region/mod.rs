//! Convolutional parts of a graph become one operator each.
//!
//! A *region* is a connected set of convolutions and what goes with them (activation functions,
//! additions, pooling). It runs as a small [`Program`](program::Program) over pictures stored
//! channels last, mostly as bytes, without returning to tract in between.
//!
//! The pass looks at tract's typed graph before its declutter, where convolutions are still
//! convolutions and nodes carry the names of the ONNX file, by which activation ranges are found.

mod build;
mod chain;
mod draft;
mod kernels;
mod layout;
mod memory;
mod operator;
mod planes;
mod program;
mod recognise;

use std::collections::HashMap;

use tract_onnx::prelude::*;

use super::Passes;
use draft::{Draft, Region};

pub use layout::Pixels;
pub(super) use operator::with_pixels;

/// Replaces the convolutional parts of a graph.
pub(super) fn rewrite(passes: &mut Passes, model: &mut TypedModel) -> TractResult<()> {
    let drafts = recognise::drafts(passes, model)?;
    let regions = draft::regions(model, &drafts)?;
    let mut patch = TypedModelPatch::default();
    let mut made: HashMap<OutletId, OutletId> = HashMap::new();
    let mut count = 0;
    for region in &regions {
        let layers: Vec<&Draft> = region.layers.iter().map(|at| &drafts[*at]).collect();
        let program = match build::program(passes, model, region, &layers)? {
            Some(program) => program,
            None => continue,
        };
        let inputs = region
            .inputs
            .iter()
            .map(|outlet| match made.get(outlet) {
                Some(wire) => Ok(*wire),
                None => patch.tap_model(model, *outlet),
            })
            .collect::<TractResult<TVec<_>>>()?;
        let op = operator::RegionOp::new(program, output_shapes(model, region)?, passes);
        let name = format!("{}.region", model.node(region.outputs[0].node).name);
        let wires = patch.wire_node(name, op, &inputs)?;
        for (outlet, wire) in region.outputs.iter().zip(wires) {
            made.insert(*outlet, wire);
            patch.shunt_outside(model, *outlet, wire)?;
        }
        count += 1;
    }
    if count > 0 {
        patch.apply(model)?;
        model.compact()?;
        passes.report.replaced.push(("convolutional region", count));
    }
    Ok(())
}

fn output_shapes(model: &TypedModel, region: &Region) -> TractResult<Vec<TVec<TDim>>> {
    region.outputs.iter().map(|outlet| Ok(model.outlet_fact(*outlet)?.shape.to_tvec())).collect()
}
