//! `sextant space report`.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use rayon::prelude::*;
use sextant::eval::{expected_calibration_error, read_pairs};
use sextant::index::{Filter, Index, Reader};
use sextant::space::place::{FOCUS_SCALES, PlaceFeatures, blur_outside};
use sextant::space::report::{Figure, Report, ReportInput, Verdict, report};
use sextant::space::{Points, SpaceError, sample};
use sextant::{Embedding, Encoder, Modality, decode_file, match_probability};

use super::align::embed_pairs;
use super::label::LabelSource;
use super::output::{complain, print_result};
use super::progress::Progress;
use super::where_::BOX_SHARE;
use super::{Failure, Format, Global, Outcome};

/// Pictures whose surroundings are blurred.
const BLURRED: usize = 60;

/// Bins of the calibration error.
const BINS: usize = 15;

/// What one picture alone does not allow.
const OTHERS: &str = "comparing with captions of other pictures";

/// Arguments of `space report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The index to measure
    #[arg(conflicts_with_all = ["captions", "labels"])]
    index: Option<PathBuf>,
    /// Measure pictures and their captions: picture TAB caption (or picture TAB number TAB caption)
    #[arg(long, value_name = "TSV", conflicts_with = "labels")]
    captions: Option<PathBuf>,
    /// Folder of the captioned pictures [default: the table's]
    #[arg(long, value_name = "DIR", requires = "captions")]
    images: Option<PathBuf>,
    #[command(flatten)]
    labels: LabelSource,
    /// Similarity from which two names of a label set are too close
    #[arg(long, value_name = "S", default_value_t = 0.9, value_parser = parse_similarity, allow_negative_numbers = true)]
    too_close: f32,
    /// Also write one HTML page with plots and explanations
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Measure at most this many rows of a kind
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(4..=20_000))]
    sample: u32,
    /// Decides which rows are sampled
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

fn parse_similarity(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (-1.0..=1.0).contains(&value) => Ok(value),
        _ => Err("a similarity lies between -1 and 1".to_owned()),
    }
}

/// Runs the command.
pub fn run(args: &ReportArgs, global: &Global) -> Result<Outcome, Failure> {
    global.require_format(&[Format::Text, Format::Json])?;
    let (mut input, failed) = match (&args.index, &args.captions, &args.labels.labels) {
        (Some(index), _, _) => of_index(index, args)?,
        (_, Some(captions), _) => of_captions(captions, args, global)?,
        (_, _, Some(labels)) => of_labels(labels, args, global)?,
        _ => {
            let message = "nothing to measure: name an index, or give --captions or --labels";
            return Err(Failure::Usage(message.to_owned()));
        }
    };
    input.sample = args.sample as usize;
    input.seed = args.seed;
    let progress = Progress::new(5, "measuring", global.quiet);
    let found = report(&input, &|done, _| progress.set(done))
        .map_err(|e| Failure::Usage(format!("{}: {e}", input.subject)))?;
    drop(progress);
    print(&found, global.format)?;
    if let Some(path) = &args.html
        && let Err(error) = std::fs::write(path, found.to_html())
    {
        complain(&format!("{}: cannot be written: {error}", path.display()));
        return Ok(Outcome { failed: failed + 1 });
    }
    Ok(Outcome { failed })
}

fn of_index(path: &Path, args: &ReportArgs) -> Result<(ReportInput, usize), Failure> {
    let unfit = |e: sextant::index::IndexError| Failure::Unfit(e.to_string());
    let reader = Index::open(path)?;
    let points = |modality| -> Result<(Option<Points>, usize), Failure> {
        let rows = reader
            .matching(&Filter { modality: Some(modality), ..Filter::default() })
            .map_err(unfit)?;
        // No more than are measured: never all of millions.
        let chosen: Vec<u32> =
            sample(rows.len(), args.sample as usize, args.seed).iter().map(|&i| rows[i]).collect();
        Ok((gathered(&reader, &chosen)?, rows.len()))
    };
    let ((images, all_images), (texts, all_texts)) =
        (points(Modality::Image)?, points(Modality::Text)?);
    let input = ReportInput {
        subject: path.display().to_string(),
        space: reader.space().short(),
        images,
        texts,
        of_rows: [all_images, all_texts],
        ..ReportInput::default()
    };
    Ok((input, 0))
}

fn gathered(reader: &Reader, rows: &[u32]) -> Result<Option<Points>, Failure> {
    let embeddings: Vec<Embedding> = rows
        .iter()
        .map(|&row| reader.embedding(row).map_err(|e| Failure::Unfit(e.to_string())))
        .collect::<Result<_, _>>()?;
    if embeddings.is_empty() {
        return Ok(None);
    }
    let points = Points::from_embeddings(&embeddings);
    points.map(Some).map_err(|e| Failure::Unfit(e.to_string()))
}

fn of_captions(
    captions: &Path,
    args: &ReportArgs,
    global: &Global,
) -> Result<(ReportInput, usize), Failure> {
    let table = read_pairs(captions).map_err(|e| Failure::Usage(e.to_string()))?;
    let chosen: Vec<&(String, String)> =
        sample(table.len(), args.sample as usize, args.seed).iter().map(|&i| &table[i]).collect();
    let encoder = global.encoder()?;
    let beside = captions.parent().unwrap_or(Path::new(""));
    let folder = args.images.as_deref().unwrap_or(beside);
    let (pairs, failed) = embed_pairs(&chosen, folder, &encoder, global)?;
    let mut extra = Vec::new();
    if let Some(error) = calibration_error(&pairs, &encoder) {
        extra.push(("calibration_error", "pairs", error));
    }
    if encoder.package().manifest().image.spatial.is_some() {
        let leak = leakage(&chosen, folder, &encoder, global);
        extra.push(("leakage", "pairs", leak));
    }
    let input = ReportInput {
        subject: captions.display().to_string(),
        space: encoder.space().short(),
        images: Some(pairs.images().clone()),
        texts: Some(pairs.texts().clone()),
        owners: Some(pairs.owners().to_vec()),
        extra,
        ..ReportInput::default()
    };
    Ok((input, failed))
}

fn of_labels(
    labels: &str,
    args: &ReportArgs,
    global: &Global,
) -> Result<(ReportInput, usize), Failure> {
    let encoder = global.encoder()?;
    let compiled = args.labels.compile(&encoder, global)?;
    let manifest = encoder.package().manifest();
    let count = compiled.labels().len();
    let values = (0..count).flat_map(|row| compiled.row(row)).copied().collect();
    let points =
        Points::new(values, manifest.dimension).map_err(|e| Failure::Unfit(e.to_string()))?;
    let names = compiled.labels().iter().map(|label| label.name.clone()).collect();
    let scale = manifest.logit_scale / manifest.calibration.temperature.unwrap_or(1.0);
    let input = ReportInput {
        subject: labels.to_owned(),
        space: encoder.space().short(),
        texts: Some(points),
        labels: Some((names, args.too_close, scale)),
        ..ReportInput::default()
    };
    Ok((input, 0))
}

/// Calibration error of match probabilities over the pairs and as many shifted ones; `None`
/// without calibration.
fn calibration_error(
    pairs: &sextant::space::align::Pairs,
    encoder: &Encoder,
) -> Option<Result<f64, SpaceError>> {
    let manifest = encoder.package().manifest();
    let embedding =
        |modality, values: &[f32]| Embedding::new(encoder.space(), modality, values.to_vec()).ok();
    if pairs.images().rows() < 2 {
        return Some(Err(SpaceError::TooFewRows { what: OTHERS, needed: 2, found: 1 }));
    }
    let mut answers = Vec::new();
    for caption in 0..pairs.len() {
        let text = embedding(Modality::Text, pairs.texts().row(caption))?;
        let own = pairs.owners()[caption];
        let other = (own + pairs.images().rows() / 2) % pairs.images().rows();
        for image in [own, other] {
            let picture = embedding(Modality::Image, pairs.images().row(image))?;
            let score = match_probability(manifest, &picture, &text)?;
            answers.push((score.max(1.0 - score), (score >= 0.5) == (image == own)));
        }
    }
    Some(Ok(expected_calibration_error(&answers, BINS)))
}

/// How much of what a caption has over random captions goes when all but the place it fits is
/// blurred, on average.
fn leakage(
    table: &[&(String, String)],
    folder: &Path,
    encoder: &Encoder,
    global: &Global,
) -> Result<f64, SpaceError> {
    let step = table.len().div_ceil(BLURRED).max(1);
    let chosen: Vec<&(String, String)> = table.iter().step_by(step).copied().collect();
    let texts: Vec<Option<Embedding>> =
        chosen.par_iter().map(|(_, caption)| encoder.text(caption).ok()).collect();
    let progress = Progress::new(chosen.len(), "blurring surroundings", global.quiet);
    let done = std::sync::atomic::AtomicUsize::new(0);
    let changes: Vec<[f32; 2]> = (0..chosen.len())
        .into_par_iter()
        .filter_map(|place| {
            let change = change(&chosen, place, &texts, folder, encoder);
            progress.set(done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1);
            change
        })
        .collect();
    let total = |side: usize| changes.iter().map(|c| f64::from(c[side])).sum::<f64>();
    if changes.is_empty() {
        let pictures: HashSet<&str> = chosen.iter().map(|(file, _)| file.as_str()).collect();
        let found = pictures.len();
        return Err(SpaceError::TooFewRows { what: OTHERS, needed: 2, found });
    }
    if total(0) <= 0.0 {
        return Err(SpaceError::NoAdvantage { pairs: changes.len() });
    }
    Ok(1.0 - total(1) / total(0))
}

/// What a picture's caption has over those of other pictures, before and after the blur; `None`
/// when there are no others, or the picture cannot be read.
fn change(
    table: &[&(String, String)],
    place: usize,
    texts: &[Option<Embedding>],
    folder: &Path,
    encoder: &Encoder,
) -> Option<[f32; 2]> {
    let file = &table[place].0;
    let path = folder.join(file);
    let source = path.display().to_string();
    let picture = decode_file(&path, encoder.limits()).ok()?;
    let text = texts[place].as_ref()?;
    let features = PlaceFeatures::new(encoder, &picture, &source, &FOCUS_SCALES).ok()?;
    let region = features.heat(text).ok()?.region(BOX_SHARE);
    let advantage = |picture| {
        let whole = encoder.image(picture, &source).ok()?;
        let others: Vec<f32> = texts
            .iter()
            .enumerate()
            .filter(|(other, _)| table[*other].0 != *file)
            .filter_map(|(_, other)| whole.similarity(other.as_ref()?).ok())
            .collect();
        let mean = others.iter().sum::<f32>() / others.len() as f32;
        (!others.is_empty()).then_some(whole.similarity(text).ok()? - mean)
    };
    Some([advantage(&picture)?, advantage(&blur_outside(&picture, region))?])
}

fn print(found: &Report, format: Format) -> std::io::Result<()> {
    print_result(found, format, |out| {
        writeln!(
            out,
            "{}: {}, {} numbers each; at most {} of a kind measured, seed {}",
            found.subject,
            found.contents(),
            found.dimension,
            found.sampled,
            found.seed
        )?;
        if let Some(remark) = found.remark() {
            writeln!(out, "{remark}")?;
        }
        for (of, group) in found.groups() {
            writeln!(out, "\n{of}")?;
            for figure in group {
                print_figure(out, figure)?;
            }
        }
        if !found.confusions.is_empty() {
            writeln!(out, "\nnames too close")?;
            for pair in &found.confusions {
                let similarity = pair.similarity;
                writeln!(out, "  {similarity:.3}  {}  /  {}", pair.first, pair.second)?;
            }
        }
        Ok(())
    })
}

fn print_figure(out: &mut impl Write, figure: &Figure) -> std::io::Result<()> {
    let title = figure.title();
    match (figure.value, &figure.reason) {
        (Some(value), _) => write!(out, "  {title:<34} {value:>9.3}")?,
        (None, reason) => {
            write!(out, "  {title:<34}         - {}", reason.as_deref().unwrap_or(""))?
        }
    }
    match figure.verdict {
        Verdict::Bad => writeln!(out, "  bad: {}", figure.advice()),
        Verdict::Fair => writeln!(out, "  fair"),
        Verdict::Good => writeln!(out, "  good"),
        Verdict::Neutral => writeln!(out),
    }
}
