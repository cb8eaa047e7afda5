//! An image tower by Sextant, by tract as it comes, and in numbers: for `cross/per-image` and docs/boards.md.
//!
//!     cargo run --release --example one_image -- sextant|tract|operations REPETITIONS PICTURE [PACKAGE]
//!
//! `tract` runs the same ONNX file without Sextant's int8 operators: its weights are turned into
//! single precision when it is loaded. Both print the start of the embedding, so that one sees that
//! the work was done. `operations` prints the multiply-adds of the graph by kind of layer.

use std::collections::BTreeMap;
use std::error::Error;

use sextant::{
    DEFAULT_MODEL, DecodeLimits, Embedding, Encoder, Modality, PixelGrid, decode_file, find_model,
};
use tract_core::ops::cnn::Conv;
use tract_core::ops::einsum::EinSum;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::Cost;

const USAGE: &str = "usage: one_image sextant|tract|operations REPETITIONS PICTURE [PACKAGE]";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, repetitions, picture, package @ ..] = &arguments[..] else {
        return Err(USAGE.into());
    };
    let repetitions: usize = repetitions.parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;
    let encoder = Encoder::new(find_model(package.first().map_or(DEFAULT_MODEL, |name| name))?);
    let picture = decode_file(picture.as_ref(), &DecodeLimits::default())?;
    let pixels = encoder.pixels(&picture);
    let embedding = match what.as_str() {
        "sextant" => by_sextant(&encoder, &pixels, repetitions)?,
        "tract" => by_tract(&encoder, &pixels, repetitions)?,
        "operations" => return operations(&encoder, &pixels),
        _ => return Err(USAGE.into()),
    };
    println!("{what}: {:?} …", &embedding.values()[..4]);
    Ok(())
}

fn by_sextant(
    encoder: &Encoder,
    pixels: &PixelGrid,
    repetitions: usize,
) -> Result<Embedding, Box<dyn Error>> {
    let mut embedding = encoder.pixel_grid(pixels, "picture")?;
    for _ in 1..repetitions {
        embedding = encoder.pixel_grid(pixels, "picture")?;
    }
    Ok(embedding)
}

fn by_tract(
    encoder: &Encoder,
    pixels: &PixelGrid,
    repetitions: usize,
) -> Result<Embedding, Box<dyn Error>> {
    let plan = graph(encoder, pixels)?.into_decluttered()?.into_optimized()?.into_runnable()?;
    let shape = [1, 3, pixels.height() as usize, pixels.width() as usize];
    let preprocess = &encoder.package().manifest().image.preprocess;
    let input = Tensor::from_shape(&shape, &preprocess.tensor(pixels))?;
    let mut values = Vec::new();
    for _ in 0..repetitions.max(1) {
        let outputs = plan.run(tvec!(input.clone().into()))?;
        values = outputs[0].to_plain_array_view::<f32>()?.iter().copied().collect();
    }
    Ok(Embedding::new(encoder.space(), Modality::Image, values)?)
}

/// The graph as the file has it, for one picture.
fn graph(encoder: &Encoder, pixels: &PixelGrid) -> Result<TypedModel, Box<dyn Error>> {
    let image = &encoder.package().manifest().image;
    let onnx = encoder.package().read(&image.file, &image.sha256)?;
    let shape = [1, 3, pixels.height() as usize, pixels.width() as usize];
    let model = tract_onnx::onnx()
        .model_for_read(&mut &onnx[..])?
        .with_outputs_by_name([&image.output])?
        .with_input_fact(0, f32::fact(shape).into())?;
    Ok(model.into_typed()?)
}

fn operations(encoder: &Encoder, pixels: &PixelGrid) -> Result<(), Box<dyn Error>> {
    let model = graph(encoder, pixels)?;
    let (mut kinds, mut sum) = (BTreeMap::<&str, (usize, f64)>::new(), 0.0);
    for id in model.eval_order()? {
        let node = model.node(id);
        let kind = match (node.op_as::<Conv>(), node.op_is::<EinSum>()) {
            (Some(conv), _) if conv.group > 1 => "depthwise convolutions",
            (Some(conv), _) if conv.pool_spec.kernel_shape.iter().all(|side| *side == 1) => {
                "pointwise convolutions"
            }
            (Some(_), _) => "other convolutions",
            (None, true) => "matrix products",
            _ => continue,
        };
        for (cost, count) in node.op.cost(&model.node_input_facts(id)?)? {
            if let Cost::FMA(_) = cost {
                let entry = kinds.entry(kind).or_default();
                *entry = (entry.0 + 1, entry.1 + count.to_i64()? as f64);
                sum += count.to_i64()? as f64;
            }
        }
    }
    for (kind, (layers, count)) in kinds {
        println!("{:8.1} million multiply-adds in {layers} {kind}", count / 1e6);
    }
    println!("{:8.1} million in all", sum / 1e6);
    Ok(())
}
