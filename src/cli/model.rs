//! `sextant model`.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use sextant::picture::{Interpolation, ResizeMode};
use sextant::{
    ImportOptions, Package, Padding, PixelOverrides, Preset, import_model, list_models,
    model_folders,
};

use super::output::{complain, json_line, stdout};
use super::{Failure, Format, Global, Outcome};

/// Subcommands of `model`.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Model packages found by name
    List,
    /// What a package says about itself
    Info {
        /// Name or folder [default: the model in use]
        model: Option<String>,
    },
    /// Check every file of a package against its checksum
    Verify {
        /// Name or folder [default: the model in use]
        model: Option<String>,
    },
    #[cfg(feature = "workbench")]
    /// Make an int8 package from one in single precision
    Quantize(super::quantise::QuantiseArgs),
    /// Make a package from a dual encoder exported to ONNX
    Import(Box<ImportArgs>),
}

/// Arguments of `model import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The image tower
    #[arg(long, value_name = "ONNX")]
    image: PathBuf,
    /// The text tower
    #[arg(long, value_name = "ONNX", requires = "tokenizer")]
    text: Option<PathBuf>,
    /// The tokenizer, in the `tokenizers` JSON format
    #[arg(long, value_name = "JSON", requires = "text")]
    tokenizer: Option<PathBuf>,
    /// Family, for preprocessing and text defaults
    #[arg(long, value_name = "NAME", value_parser = parse_preset)]
    preset: Preset,
    /// Folder to make
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Name of the package [default: the folder's]
    #[arg(long)]
    name: Option<String>,
    /// Version of the package
    #[arg(long = "package-version", value_name = "VERSION", default_value = "1.0.0")]
    version: String,
    /// SPDX expression of the weights' licence
    #[arg(long, value_name = "SPDX", default_value = "LicenseRef-unknown")]
    licence: String,
    /// Where the weights come from
    #[arg(long, default_value = "imported by hand")]
    source: String,
    /// exp of the checkpoint's logit_scale [default: 100, CLIP's]
    #[arg(long, value_name = "SCALE")]
    logit_scale: Option<f32>,
    /// The checkpoint's logit_bias (sigmoid models)
    #[arg(long, value_name = "BIAS", allow_hyphen_values = true)]
    logit_bias: Option<f32>,
    /// Most tokens of a text [default: the graph's, or the family's]
    #[arg(long, value_name = "N")]
    context_length: Option<usize>,
    /// Whether short texts are filled up: none or max [default: max for a fixed length, or the family's]
    #[arg(long, value_name = "HOW", value_parser = parse_padding)]
    padding: Option<Padding>,
    /// Token that fills up short texts [default: the family's]
    #[arg(long, value_name = "ID")]
    pad_id: Option<u32>,
    /// Prompt template with {} for the name (repeatable)
    #[arg(long, value_name = "TEXT")]
    template: Vec<String>,
    /// The image graph's embedding output [default: one called embed…, or the first]
    #[arg(long, value_name = "NAME")]
    image_output: Option<String>,
    /// The image graph's output for places, [1, dimension, rows, columns], for `where` and `label --focus`
    #[arg(long, value_name = "NAME")]
    spatial_output: Option<String>,
    /// The text graph's embedding output [default: one called embed…, or the first]
    #[arg(long, value_name = "NAME")]
    text_output: Option<String>,
    #[command(flatten)]
    pixels: PixelArgs,
}

/// Preprocessing values that replace the preset's.
#[derive(Debug, Args)]
struct PixelArgs {
    /// Side of the tower's input [default: the graph's, or the family's]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=4096))]
    size: Option<u32>,
    /// How proportions are treated: shortest, squash or longest
    #[arg(long, value_name = "MODE", value_parser = parse_resize)]
    resize: Option<ResizeMode>,
    /// Side to resize to before the crop
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=4096))]
    resize_size: Option<u32>,
    /// bicubic or bilinear
    #[arg(long, value_name = "FILTER", value_parser = parse_interpolation)]
    interpolation: Option<Interpolation>,
    /// Mean of each channel, 0 to 1: R,G,B
    #[arg(long, value_name = "R,G,B", value_parser = parse_triple)]
    mean: Option<[f32; 3]>,
    /// Deviation of each channel: R,G,B
    #[arg(long, value_name = "R,G,B", value_parser = parse_triple)]
    std: Option<[f32; 3]>,
}

fn parse_preset(name: &str) -> Result<Preset, String> {
    Preset::named(name).ok_or_else(|| {
        let names: Vec<_> = Preset::ALL.iter().map(|(name, _)| *name).collect();
        format!("the presets are {}", names.join(", "))
    })
}

fn parse_padding(how: &str) -> Result<Padding, String> {
    match how {
        "none" => Ok(Padding::None),
        "max" => Ok(Padding::Max),
        _ => Err("padding is none or max".to_owned()),
    }
}

fn parse_resize(mode: &str) -> Result<ResizeMode, String> {
    match mode {
        "shortest" => Ok(ResizeMode::Shortest),
        "squash" => Ok(ResizeMode::Squash),
        "longest" => Ok(ResizeMode::Longest),
        _ => Err("the modes are shortest, squash and longest".to_owned()),
    }
}

fn parse_interpolation(filter: &str) -> Result<Interpolation, String> {
    match filter {
        "bicubic" => Ok(Interpolation::Bicubic),
        "bilinear" => Ok(Interpolation::Bilinear),
        _ => Err("the filters are bicubic and bilinear".to_owned()),
    }
}

fn parse_triple(text: &str) -> Result<[f32; 3], String> {
    let numbers: Result<Vec<f32>, _> = text.split(',').map(|n| n.trim().parse()).collect();
    let triple = numbers.ok().and_then(|n| <[f32; 3]>::try_from(n).ok());
    triple.ok_or_else(|| "three numbers separated by commas are needed".to_owned())
}

/// Runs the command.
pub fn run(command: &ModelCommand, global: &Global) -> Result<Outcome, Failure> {
    global.require_format(&[Format::Text, Format::Json])?;
    let named = |model: &Option<String>| {
        sextant::find_model(model.as_deref().unwrap_or(&global.model)).map_err(Failure::from)
    };
    match command {
        ModelCommand::List => list(global),
        ModelCommand::Info { model } => info(&named(model)?, global),
        ModelCommand::Verify { model } => {
            let package = named(model)?;
            package.verify()?;
            if !global.quiet {
                let manifest = package.manifest();
                complain(&format!("{} {}: every file is intact", manifest.name, manifest.version));
            }
            Ok(Outcome::default())
        }
        #[cfg(feature = "workbench")]
        ModelCommand::Quantize(args) => super::quantise::run(args, global),
        ModelCommand::Import(args) => import(args, global),
    }
}

fn list(global: &Global) -> Result<Outcome, Failure> {
    let mut out = stdout();
    let mut failed = 0;
    let models = list_models();
    if models.is_empty() {
        let folders: Vec<_> = model_folders().iter().map(|f| f.display().to_string()).collect();
        complain(&format!("no models: none is built in, and none lies in {}", folders.join(", ")));
    }
    for (name, package) in models {
        match package {
            Ok(package) if global.format == Format::Json => {
                json_line(&mut out, &Info::of(&package))?;
            }
            Ok(package) => {
                let m = package.manifest();
                let place = place(&package);
                writeln!(out, "{name}  {}  {} numbers  {place}", m.version, m.dimension)?;
            }
            Err(error) => {
                complain(&error.to_string());
                failed += 1;
            }
        }
    }
    out.flush()?;
    Ok(Outcome { failed })
}

fn place(package: &Package) -> String {
    package.folder().map_or("built in".to_owned(), |folder| folder.display().to_string())
}

#[derive(Serialize)]
struct Info<'a> {
    name: &'a str,
    version: &'a str,
    licence: &'a str,
    source: &'a str,
    space: sextant::SpaceId,
    dimension: usize,
    place: String,
    image_size: [u32; 2],
    context_length: Option<usize>,
    templates: &'a [String],
    calibrated: bool,
    places: bool,
}

impl<'a> Info<'a> {
    fn of(package: &'a Package) -> Self {
        let m = package.manifest();
        let (width, height) = m.image.preprocess.output_size();
        Self {
            name: &m.name,
            version: &m.version,
            licence: &m.licence,
            source: &m.source,
            space: package.space(),
            dimension: m.dimension,
            place: place(package),
            image_size: [width, height],
            context_length: m.text.as_ref().map(|text| text.context_length),
            templates: &m.templates,
            calibrated: m.calibration.match_image_text.is_some(),
            places: m.image.spatial.is_some(),
        }
    }
}

fn info(package: &Package, global: &Global) -> Result<Outcome, Failure> {
    let info = Info::of(package);
    let mut out = stdout();
    if global.format == Format::Json {
        json_line(&mut out, &info)?;
    } else {
        let yes_no = |fact| if fact { "yes" } else { "no" };
        let [width, height] = info.image_size;
        let text = info.context_length.map_or("no".to_owned(), |n| format!("up to {n} tokens"));
        let rows = [
            ("name", info.name.to_owned()),
            ("version", info.version.to_owned()),
            ("licence", info.licence.to_owned()),
            ("source", info.source.to_owned()),
            ("place", info.place),
            ("space", info.space.short()),
            ("dimension", info.dimension.to_string()),
            ("pictures", format!("{width}×{height} pixels")),
            ("texts", text),
            ("templates", info.templates.join(" | ")),
            ("calibrated scores", yes_no(info.calibrated).to_owned()),
            ("places (`where`)", yes_no(info.places).to_owned()),
        ];
        for (name, value) in rows {
            writeln!(out, "{name:<18} {value}")?;
        }
    }
    out.flush()?;
    Ok(Outcome::default())
}

fn import(args: &ImportArgs, global: &Global) -> Result<Outcome, Failure> {
    let folder_name = || args.output.file_name().map(|n| n.to_string_lossy().into_owned());
    let options = ImportOptions {
        image: args.image.clone(),
        text: args.text.clone().zip(args.tokenizer.clone()),
        preset: args.preset,
        pixels: PixelOverrides {
            size: args.pixels.size,
            resize: args.pixels.resize,
            resize_size: args.pixels.resize_size,
            interpolation: args.pixels.interpolation,
            mean: args.pixels.mean,
            std: args.pixels.std,
        },
        image_output: args.image_output.clone(),
        spatial_output: args.spatial_output.clone(),
        text_output: args.text_output.clone(),
        name: args.name.clone().or_else(folder_name).unwrap_or_default(),
        version: args.version.clone(),
        licence: args.licence.clone(),
        source: args.source.clone(),
        logit_scale: args.logit_scale,
        logit_bias: args.logit_bias,
        context_length: args.context_length,
        padding: args.padding,
        pad_id: args.pad_id,
        templates: args.template.clone(),
    };
    let manifest =
        import_model(&options, &args.output).map_err(|e| Failure::Unfit(e.to_string()))?;
    if !global.quiet {
        let name = &manifest.name;
        let place = args.output.display();
        complain(&format!("{place}: model \"{name}\" with {} numbers", manifest.dimension));
    }
    Ok(Outcome::default())
}
