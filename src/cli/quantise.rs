//! `sextant model quantize`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use sextant::{
    LabelSet, LayerReport, QuantisePackageError, QuantisePackageOptions, QuantiseReport, Stored,
    quantise_package,
};

use super::inputs::{expand, read_texts};
use super::output::{complain, json_line, stdout};
use super::progress::Progress;
use super::{Failure, Format, Global, Outcome};

/// Everyday names, put into the model's templates where no calibration texts are given.
const NAMES: &str = "person,dog,cat,bird,horse,car,lorry,bus,bicycle,boat,tree,flower,house,chair,\
                     table,bottle,cup,book,telephone,computer,bridge,road,child,ball";

/// Arguments of `model quantize`.
#[derive(Debug, Args)]
pub struct QuantiseArgs {
    /// Package in single precision: name or folder
    #[arg(value_name = "NAME|DIR")]
    source: String,
    /// Folder to make
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Folder of typical pictures: finds the ranges of activations and evens out rounding
    #[arg(long, value_name = "DIR")]
    calibrate: Option<PathBuf>,
    /// Most pictures and texts to calibrate with
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    samples: u32,
    /// Typical texts, one a line [default with --calibrate: everyday names in the model's templates]
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// Keep a layer in 16 bits if int8 alone would leave its results less than this cosine
    #[arg(long, value_name = "COSINE", default_value_t = 0.999, value_parser = parse_cosine)]
    smallest_cosine: f64,
    /// Name of the new package [default: the folder's]
    #[arg(long)]
    name: Option<String>,
}

fn parse_cosine(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("this cosine lies between 0 and 1".to_owned()),
    }
}

/// Runs the command.
pub fn run(args: &QuantiseArgs, global: &Global) -> Result<Outcome, Failure> {
    let package = sextant::find_model(&args.source)?;
    let folder_name = || args.output.file_name().map(|n| n.to_string_lossy().into_owned());
    let limits = global.limits();
    let options = QuantisePackageOptions {
        name: args.name.clone().or_else(folder_name).unwrap_or_default(),
        pictures: pictures(args)?,
        texts: texts(args, &package.manifest().templates)?,
        limits,
        smallest_cosine: args.smallest_cosine,
    };
    let mut bar: Option<(String, Progress)> = None;
    let result = quantise_package(&package, &args.output, &options, &mut |file, step| {
        let stage = format!("{file}: {}", step.stage);
        if bar.as_ref().is_none_or(|(shown, _)| *shown != stage) {
            let new = Progress::new(step.total.unwrap_or(0), &stage, global.quiet);
            bar = Some((stage, new));
        }
        if let Some((_, bar)) = &bar {
            bar.set(step.done);
        }
    });
    drop(bar);
    let made = result.map_err(failure)?;
    made.skipped.iter().for_each(|reason| complain(reason));
    let mut out = stdout();
    for (file, report) in &made.towers {
        match global.format {
            Format::Json => json_line(&mut out, &Tower::of(file, report))?,
            _ => text(&mut out, file, report)?,
        }
    }
    out.flush()?;
    Ok(Outcome { failed: made.skipped.len() })
}

fn failure(error: QuantisePackageError) -> Failure {
    match error {
        QuantisePackageError::Exists { .. } => Failure::Usage(error.to_string()),
        _ => Failure::Unfit(error.to_string()),
    }
}

/// Pictures spread evenly over the folder.
fn pictures(args: &QuantiseArgs) -> Result<Vec<PathBuf>, Failure> {
    let Some(folder) = &args.calibrate else { return Ok(Vec::new()) };
    let files = expand(std::slice::from_ref(folder)).files;
    if files.is_empty() {
        return Err(Failure::Usage(format!("{}: no pictures to calibrate with", folder.display())));
    }
    let most = args.samples as usize;
    let step = files.len().div_ceil(most);
    Ok(files.into_iter().step_by(step).take(most).collect())
}

fn texts(args: &QuantiseArgs, templates: &[String]) -> Result<Vec<String>, Failure> {
    let most = args.samples as usize;
    if let Some(path) = &args.texts {
        let content = read_texts(path, None)
            .map_err(|e| Failure::Usage(format!("{}: cannot be read: {e}", path.display())))?;
        let lines = content.lines().map(str::trim).filter(|line| !line.is_empty());
        return Ok(lines.take(most).map(str::to_owned).collect());
    }
    if args.calibrate.is_none() {
        return Ok(Vec::new());
    }
    let names = LabelSet::from_argument(NAMES).map_err(super::label::label_failure)?;
    let of = |(n, name): (usize, &sextant::Label)| {
        let template = templates.get(n % templates.len().max(1)).map_or("{}", String::as_str);
        template.replace("{}", &name.name)
    };
    Ok(names.labels.iter().enumerate().map(of).take(most).collect())
}

#[derive(Serialize)]
struct Tower<'a> {
    file: &'a str,
    bytes_before: usize,
    bytes_after: usize,
    samples: usize,
    mean_cosine: Option<f64>,
    smallest_cosine: Option<f64>,
    layers: Vec<Layer<'a>>,
}

#[derive(Serialize)]
struct Layer<'a> {
    operator: &'a str,
    operator_type: &'a str,
    shape: &'a [usize],
    stored: &'static str,
    error: f64,
    calibrated: bool,
}

fn stored_as(layer: &LayerReport) -> &'static str {
    match layer.stored {
        Stored::Int8 if layer.wide => "int8, reads 16 bits",
        Stored::Int8 => "int8",
        _ => "float16",
    }
}

impl<'a> Tower<'a> {
    fn of(file: &'a str, report: &'a QuantiseReport) -> Self {
        let layers = report.layers.iter().map(|layer| Layer {
            operator: &layer.operator,
            operator_type: &layer.operator_type,
            shape: &layer.shape,
            stored: stored_as(layer),
            error: layer.error,
            calibrated: layer.calibrated,
        });
        Self {
            file,
            bytes_before: report.bytes_before,
            bytes_after: report.bytes_after,
            samples: report.samples,
            mean_cosine: report.mean_cosine,
            smallest_cosine: report.smallest_cosine,
            layers: layers.collect(),
        }
    }
}

fn text(out: &mut impl Write, file: &str, report: &QuantiseReport) -> std::io::Result<()> {
    writeln!(out, "{:<9} {:<18} {:<8} {:>8}  layer", "operator", "weights", "stored", "error")?;
    for layer in &report.layers {
        let shape: Vec<_> = layer.shape.iter().map(usize::to_string).collect();
        writeln!(
            out,
            "{:<9} {:<18} {:<8} {:>6.2} %  {}",
            layer.operator_type,
            shape.join("×"),
            stored_as(layer),
            layer.error * 100.0,
            layer.operator
        )?;
    }
    let mebibytes = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let (before, after) = (report.bytes_before, report.bytes_after);
    // Tables are looked up in, not multiplied with: their errors are always of weights.
    let calibrated = report.layers.iter().filter(|layer| layer.calibrated).count();
    let of = match report.layers.len() - calibrated {
        0 => "of results".to_owned(),
        rest if calibrated > 0 => {
            format!("of results, those of {rest} tables and layers of weights")
        }
        _ => "of weights, for want of calibration samples".to_owned(),
    };
    writeln!(
        out,
        "{file}: {:.1} MiB, before {:.1} MiB; errors are {of}",
        mebibytes(after),
        mebibytes(before)
    )?;
    if let (Some(mean), Some(smallest)) = (report.mean_cosine, report.smallest_cosine) {
        let samples = report.samples;
        writeln!(
            out,
            "{file}: cosine to the original {mean:.5} on average, {smallest:.5} at least ({samples} samples to calibrate)"
        )?;
    }
    writeln!(out)
}
