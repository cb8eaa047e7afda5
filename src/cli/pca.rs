//! `sextant space pca`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use sextant::index::{Filter, Index, NewRow, Reader};
use sextant::space::{Points, Principal, SpaceError, neighbour_recall, sample};
use sextant::{Derived, Embedding, Modality, Package, derive_model};

use super::output::{complain, print_result};
use super::progress::Progress;
use super::{Failure, Format, Global, Outcome};

/// Neighbours whose loss is reported.
const NEIGHBOURS: usize = 10;

/// Fewest pictures: each half has so many neighbours and itself.
const FEWEST: usize = 2 * (NEIGHBOURS + 1);

/// Rows of one commit when an index is shortened.
const BATCH: usize = 1024;

/// Arguments of `space pca`.
#[derive(Debug, Args)]
pub struct PcaArgs {
    /// The index whose pictures the axes are fitted to
    index: PathBuf,
    /// Numbers to keep of each embedding; without it, only what each choice costs is shown
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    dims: Option<u32>,
    /// Write a model package whose embeddings are that short
    #[arg(short, long, value_name = "DIR", requires = "dims")]
    output: Option<PathBuf>,
    /// Name of the new package [default: the folder's]
    #[arg(long, requires = "output")]
    name: Option<String>,
    /// Also write the rows of the index, shortened, as a new index for that package
    #[arg(long, value_name = "INDEX", requires = "output")]
    rows: Option<PathBuf>,
    /// Fit and measure on at most this many rows each
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(20..=20_000))]
    sample: u32,
    /// Decides which rows
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// What one length costs.
#[derive(Debug, Serialize)]
struct Cost {
    dimension: usize,
    /// Share of the squared length of embeddings that is kept.
    kept: f64,
    /// Share of each row's ten nearest that stay its ten nearest.
    recall: f64,
}

#[derive(Serialize)]
struct PcaLine<'a> {
    fitted: usize,
    measured: usize,
    costs: Vec<Cost>,
    written: Option<&'a str>,
}

/// Runs the command.
pub fn run(args: &PcaArgs, global: &Global) -> Result<Outcome, Failure> {
    global.require_format(&[Format::Text, Format::Json])?;
    let exists = [&args.output, &args.rows].into_iter().flatten().find(|folder| folder.exists());
    if let Some(folder) = exists {
        let folder = folder.display();
        return Err(Failure::Usage(format!("{folder}: exists already: choose a new folder")));
    }
    let package = sextant::find_model(&global.model)?;
    let reader = Index::open(&args.index)?;
    reader.expect_space(package.space())?;
    let (fitted, measured) = halves(&reader, args)?;
    let pictures = fitted.rows() + measured.rows();
    if pictures < FEWEST {
        return Err(Failure::Usage(format!(
            "{}: {pictures} pictures are too few: at least {FEWEST} are needed, half of them to fit \
             the axes to and half to measure on",
            args.index.display()
        )));
    }
    let usage = |e: SpaceError| Failure::Usage(format!("{}: {e}", args.index.display()));
    let most = reader.dimension().min(fitted.rows());
    if let Some(dims) = args.dims.filter(|&dims| dims as usize > most) {
        return Err(Failure::Usage(format!(
            "--dims {dims}: at most {most}, from {} numbers and {} pictures to fit to",
            reader.dimension(),
            fitted.rows()
        )));
    }
    let principal = Principal::around_origin(&fitted, most).map_err(usage)?;
    let costs = costs(&principal, &measured, args.dims).map_err(usage)?;
    if let (Some(dims), Some(output)) = (args.dims, &args.output) {
        let kept = principal.truncated(dims as usize).map_err(usage)?;
        let package = write(&package, &kept, &measured, args, output)?;
        if let Some(rows) = &args.rows {
            shorten(&reader, &kept, &package, rows, global)?;
        }
    }
    let written = args.output.as_ref().map(|folder| folder.display().to_string());
    let line = PcaLine {
        fitted: fitted.rows(),
        measured: measured.rows(),
        costs,
        written: written.as_deref(),
    };
    print(&line, global.format)?;
    Ok(Outcome::default())
}

/// Pictures to fit to, and others to measure on.
fn halves(reader: &Reader, args: &PcaArgs) -> Result<(Points, Points), Failure> {
    let pictures = Filter { modality: Some(Modality::Image), ..Filter::default() };
    let rows = reader.matching(&pictures)?;
    let chosen = sample(rows.len(), 2 * args.sample as usize, args.seed);
    let part = |odd: usize| -> Result<Points, Failure> {
        let of_part = chosen.iter().enumerate().filter(|(at, _)| at % 2 == odd);
        let points: Vec<Embedding> =
            of_part.map(|(_, &place)| reader.embedding(rows[place])).collect::<Result<_, _>>()?;
        let values = points.iter().flat_map(Embedding::values).copied().collect();
        Points::new(values, reader.dimension())
            .map_err(|e| Failure::Unfit(format!("{}: {e}", args.index.display())))
    };
    Ok((part(0)?, part(1)?))
}

/// What halving the length again and again costs, and the length asked for.
fn costs(
    principal: &Principal,
    measured: &Points,
    wanted: Option<u32>,
) -> Result<Vec<Cost>, SpaceError> {
    let halved = std::iter::successors(Some(measured.dimension()), |&d| (d > 8).then_some(d / 2));
    let mut lengths: Vec<usize> = halved.collect();
    lengths.extend(wanted.map(|dims| dims as usize));
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    lengths.dedup();
    let cost = |dimension: usize| {
        let kept = principal.truncated(dimension)?;
        let recall = neighbour_recall(measured, &kept.apply(measured)?, NEIGHBOURS)?;
        let share = kept.explained().iter().sum();
        Ok(Cost { dimension, kept: share, recall })
    };
    lengths.into_iter().filter(|&dimension| dimension <= principal.kept()).map(cost).collect()
}

fn write(
    package: &Package,
    kept: &Principal,
    measured: &Points,
    args: &PcaArgs,
    output: &Path,
) -> Result<Package, Failure> {
    let unfit = |e: SpaceError| Failure::Unfit(e.to_string());
    let mean = kept.apply(measured).map_err(unfit)?.mean();
    let folder_name = || output.file_name().map(|n| n.to_string_lossy().into_owned());
    let derived = Derived {
        name: args.name.clone().or_else(folder_name).unwrap_or_default(),
        note: format!("cut to {} principal axes by sextant space pca", kept.kept()),
        dimension: kept.kept(),
        image: kept.axes(),
        text: kept.axes(),
        logit_scale: package.manifest().logit_scale,
        image_mean: Some(mean.iter().map(|&m| m as f32).collect()),
        text_mean: None,
        match_image_text: None,
    };
    derive_model(package, &derived, output).map_err(|e| Failure::Unfit(e.to_string()))?;
    Ok(Package::open(output)?)
}

/// Writes all rows, short, into a new index of the new package's space.
fn shorten(
    reader: &Reader,
    kept: &Principal,
    package: &Package,
    folder: &Path,
    global: &Global,
) -> Result<(), Failure> {
    let unfit = |e: SpaceError| Failure::Unfit(e.to_string());
    let mut writer = Index::create(folder, package.space(), kept.kept())?;
    let rows = reader.matching(&Filter::default())?;
    let progress = Progress::new(rows.len(), "shortening", global.quiet);
    for (batch, rows) in rows.chunks(BATCH).enumerate() {
        let entries = rows.iter().map(|&row| reader.entry(row)).collect::<Result<Vec<_>, _>>()?;
        let points =
            rows.iter().map(|&row| reader.embedding(row)).collect::<Result<Vec<_>, _>>()?;
        let short = kept.apply(&Points::from_embeddings(&points).map_err(unfit)?).map_err(unfit)?;
        let short: Vec<Embedding> = (entries.iter().zip(short.iter()))
            .map(|(entry, values)| {
                Embedding::new(package.space(), entry.modality, values.to_vec())
                    .expect("short points have length one")
            })
            .collect();
        let new: Vec<NewRow<'_>> = entries
            .iter()
            .zip(&short)
            .map(|(entry, short)| NewRow {
                tags: &entry.tags,
                time: entry.time,
                source: entry.source,
                ..NewRow::new(&entry.key, short)
            })
            .collect();
        writer.append(&new)?;
        writer.commit()?;
        progress.set(batch * BATCH + rows.len());
    }
    writer.build_sketch()?;
    Ok(())
}

fn print(line: &PcaLine<'_>, format: Format) -> std::io::Result<()> {
    print_result(line, format, |out| {
        writeln!(
            out,
            "axes fitted to {} pictures, neighbours measured among {} others",
            line.fitted, line.measured
        )?;
        writeln!(out, "numbers  length kept  recall of 10 neighbours")?;
        for Cost { dimension, kept, recall } in &line.costs {
            let (kept, recall) = (kept * 100.0, recall * 100.0);
            writeln!(out, "{dimension:>7}  {kept:>9.1} %  {recall:>21.1} %")?;
        }
        if let Some(folder) = line.written {
            writeln!(out, "{folder}: written")?;
            complain(
                "its calibration is the space's own, so it is gone: scores are the model's, or absent",
            );
        }
        Ok(())
    })
}
