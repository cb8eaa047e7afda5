//! `sextant space align`.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use rayon::prelude::*;
use serde::Serialize;
use sextant::eval::read_pairs;
use sextant::space::Points;
use sextant::space::align::{AlignOptions, AlignReport, Alignment, Pairs, fit};
use sextant::{Derived, Embedding, EncodeError, Encoder, derive_model};

use super::inputs::{embed_each, numbered};
use super::output::{complain, print_result};
use super::progress::Progress;
use super::{Failure, Format, Global, Outcome};

/// Arguments of `space align`.
#[derive(Debug, Args)]
pub struct AlignArgs {
    /// Table: picture TAB caption (or picture TAB number TAB caption)
    #[arg(value_name = "PAIRS.tsv")]
    pairs: PathBuf,
    /// Folder of the pictures [default: the table's]
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Folder of the new package; without it, nothing is written
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Name of the new package [default: the folder's]
    #[arg(long, requires = "output")]
    name: Option<String>,
    /// Write the package even if it is no better on held-out pairs
    #[arg(long, requires = "output")]
    force: bool,
    /// Decides which pairs are held out
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Use at most this many captions, chosen by the seed
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = super::at_least_one)]
    most: usize,
}

#[derive(Serialize)]
struct AlignLine<'a> {
    captions: usize,
    pictures: usize,
    #[serde(flatten)]
    report: AlignReport,
    seconds: f64,
    written: Option<&'a str>,
}

/// Runs the command.
pub fn run(args: &AlignArgs, global: &Global) -> Result<Outcome, Failure> {
    global.require_format(&[Format::Text, Format::Json])?;
    if let Some(folder) = args.output.as_ref().filter(|folder| folder.exists()) {
        let folder = folder.display();
        return Err(Failure::Usage(format!("{folder}: exists already: choose a new folder")));
    }
    let table = read_pairs(&args.pairs).map_err(|e| Failure::Usage(e.to_string()))?;
    let table: Vec<&(String, String)> = sextant::space::sample(table.len(), args.most, args.seed)
        .iter()
        .map(|&i| &table[i])
        .collect();
    let encoder = global.encoder()?;
    let beside = args.pairs.parent().unwrap_or(Path::new(""));
    let folder = args.images.as_deref().unwrap_or(beside);
    let (pairs, failed) = embed_pairs(&table, folder, &encoder, global)?;
    let options = AlignOptions { seed: args.seed, ..AlignOptions::default() };
    let manifest = encoder.package().manifest();
    let progress = Progress::new(options.epochs, "fitting", global.quiet);
    let started = Instant::now();
    let step = |done: usize, total: usize| progress.set(done * options.epochs / total);
    let (alignment, report) = fit(&pairs, manifest.logit_scale, options, &step)
        .map_err(|e| Failure::Usage(format!("{}: {e}", args.pairs.display())))?;
    drop(progress);
    let seconds = (started.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    let wanted = args.output.as_deref().filter(|_| report.improves || args.force);
    if let Some(output) = wanted {
        write(&encoder, &pairs, &alignment, args.name.clone(), output)?;
    }
    let written = wanted.map(|folder| folder.display().to_string());
    let line = AlignLine {
        captions: pairs.len(),
        pictures: pairs.images().rows(),
        report,
        seconds,
        written: written.as_deref(),
    };
    print(&line, global.format)?;
    let refused = args.output.is_some() && wanted.is_none();
    if refused {
        complain("no better on held-out pairs: nothing was written (--force writes it anyway)");
    }
    Ok(Outcome { failed: failed + usize::from(refused) })
}

/// Embeds pictures (each once) and captions; what cannot be read is reported and counted.
pub fn embed_pairs(
    table: &[&(String, String)],
    folder: &Path,
    encoder: &Encoder,
    global: &Global,
) -> Result<(Pairs, usize), Failure> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut names: Vec<&str> = Vec::new();
    for (file, _) in table {
        seen.entry(file).or_insert_with(|| {
            names.push(file);
            names.len() - 1
        });
    }
    let files: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    let progress = Progress::new(files.len(), "pictures", global.quiet);
    let (images, place) = numbered(embed_each(&files, encoder, &progress)?);
    drop(progress);
    let failed = files.len() - images.len();
    let captions: Vec<(usize, &str)> = table
        .iter()
        .filter_map(|(file, caption)| Some((place[seen[file.as_str()]]?, caption.as_str())))
        .collect();
    let progress = Progress::new(captions.len(), "captions", global.quiet);
    let mut texts: Vec<Embedding> = Vec::with_capacity(captions.len());
    for chunk in captions.chunks(256) {
        let part: Result<Vec<_>, EncodeError> =
            chunk.par_iter().map(|(_, caption)| encoder.text(caption)).collect();
        texts.extend(part.map_err(|e| Failure::Unfit(e.to_string()))?);
        progress.set(texts.len());
    }
    drop(progress);
    if texts.is_empty() {
        let folder = if folder == Path::new("") { Path::new(".") } else { folder };
        return Err(Failure::Usage(format!(
            "{}: none of the table's pictures can be read there (--images names another folder)",
            folder.display()
        )));
    }
    let usage =
        |e: sextant::space::SpaceError| Failure::Usage(format!("pictures and captions: {e}"));
    let (images, texts) = (
        Points::from_embeddings(&images).map_err(usage)?,
        Points::from_embeddings(&texts).map_err(usage)?,
    );
    let owners = captions.iter().map(|(owner, _)| *owner).collect();
    Ok((Pairs::new(images, texts, owners).map_err(usage)?, failed))
}

fn write(
    encoder: &Encoder,
    pairs: &Pairs,
    alignment: &Alignment,
    name: Option<String>,
    output: &Path,
) -> Result<(), Failure> {
    let folder_name = || output.file_name().map(|n| n.to_string_lossy().into_owned());
    let mean = |points: &Points, map: &[f32]| {
        alignment.mean(points, map).iter().map(|&m| m as f32).collect()
    };
    let image_mean: Vec<f32> = mean(pairs.images(), alignment.image());
    let text_mean: Vec<f32> = mean(pairs.texts(), alignment.text());
    let derived = Derived {
        name: name.or_else(folder_name).unwrap_or_default(),
        note: format!("aligned with {} captions by sextant space align", pairs.len()),
        dimension: pairs.images().dimension(),
        image: alignment.image(),
        text: alignment.text(),
        logit_scale: alignment.scale(),
        // Without a curve the package has no such scores, which is allowed.
        match_image_text: alignment.matching(&image_mean, &text_mean).ok(),
        image_mean: Some(image_mean),
        text_mean: Some(text_mean),
    };
    derive_model(encoder.package(), &derived, output)
        .map(drop)
        .map_err(|e| Failure::Unfit(e.to_string()))
}

fn print(line: &AlignLine<'_>, format: Format) -> std::io::Result<()> {
    print_result(line, format, |out| {
        let AlignReport { before, after, .. } = line.report;
        writeln!(
            out,
            "fitted to {} captions, stopped by {}, judged on {} held-out captions of {} pictures ({} s)",
            line.report.fitted, line.report.stopping, before.captions, before.images, line.seconds
        )?;
        writeln!(out, "caption finds picture   before    after")?;
        for (rank, before, after) in [
            (1, before.at_1, after.at_1),
            (5, before.at_5, after.at_5),
            (10, before.at_10, after.at_10),
        ] {
            writeln!(out, "  R@{rank:<18} {:>6.1} %  {:>6.1} %", before * 100.0, after * 100.0)?;
        }
        let (before, after) = (line.report.loss_before, line.report.loss_after);
        writeln!(out, "  contrastive loss     {before:>6.3}    {after:>6.3}")?;
        if let Some(folder) = line.written {
            writeln!(out, "{folder}: written")?;
        }
        Ok(())
    })
}
