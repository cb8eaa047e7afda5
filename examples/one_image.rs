//! Runs an image tower a number of times, by Sextant or by tract as it comes, for `cross/per-image`.
//!
//!     cargo run --release --example one_image -- sextant|tract 3 PICTURE [PACKAGE]
//!
//! `tract` runs the same ONNX file without Sextant's int8 operators: its weights are turned into
//! single precision when it is loaded. Both give the embedding, so that one sees that the work was done.

use std::error::Error;

use sextant::{DecodeLimits, Embedding, Encoder, Modality, PixelGrid, decode_file, find_model};
use tract_onnx::prelude::*;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: one_image sextant|tract REPETITIONS PICTURE [PACKAGE]";
    let [engine, repetitions, picture, package @ ..] = &arguments[..] else {
        return Err(usage.into());
    };
    let repetitions: usize = repetitions.parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;
    let package = package.first().map_or(sextant::DEFAULT_MODEL, String::as_str);
    let encoder = Encoder::new(find_model(package)?);
    let picture = decode_file(picture.as_ref(), &DecodeLimits::default())?;
    let pixels = encoder.pixels(&picture);
    let embedding = match engine.as_str() {
        "sextant" => by_sextant(&encoder, &pixels, repetitions)?,
        "tract" => by_tract(&encoder, &pixels, repetitions)?,
        _ => return Err(usage.into()),
    };
    println!("{engine}: {:?} …", &embedding.values()[..4]);
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
    let image = &encoder.package().manifest().image;
    let onnx = encoder.package().read(&image.file, &image.sha256)?;
    let shape = [1, 3, pixels.height() as usize, pixels.width() as usize];
    let plan = tract_onnx::onnx()
        .model_for_read(&mut &onnx[..])?
        .with_outputs_by_name([&image.output])?
        .with_input_fact(0, f32::fact(shape).into())?
        .into_optimized()?
        .into_runnable()?;
    let input = Tensor::from_shape(&shape, &image.preprocess.tensor(pixels))?;
    let mut values = Vec::new();
    for _ in 0..repetitions.max(1) {
        let outputs = plan.run(tvec!(input.clone().into()))?;
        values = outputs[0].to_plain_array_view::<f32>()?.iter().copied().collect();
    }
    Ok(Embedding::new(encoder.space(), Modality::Image, values)?)
}
