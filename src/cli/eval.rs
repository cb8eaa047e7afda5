//! `sextant eval`.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use rayon::prelude::*;
use sextant::eval::{
    ClassifyReport, ClassifyTally, EvalError, RetrieveReport, read_captions, read_truth, retrieve,
    retrieve_corrected,
};
use sextant::space::{Centres, centred};
use sextant::{Embedding, EncodeError, Encoder, ScoreOptions, Scorer};

use super::hubs::Hubs;
use super::inputs::{self, embed_each, numbered};
use super::label::LabelSource;
use super::output::{complain, print_result};
use super::progress::Progress;
use super::{Failure, Format, Global, Outcome};

/// Subcommands of `eval`.
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// Zero-shot classification: top-1, top-5 and calibration error
    Classify {
        /// Folder of pictures
        #[arg(long, value_name = "DIR")]
        images: PathBuf,
        /// Table: file TAB class index (from 0; more columns are ignored)
        #[arg(long, value_name = "TSV")]
        truth: PathBuf,
        #[command(flatten)]
        labels: LabelSource,
    },
    /// Caption retrieval: recall at 1, 5 and 10, both ways
    Retrieve {
        /// Folder of pictures
        #[arg(long, value_name = "DIR")]
        images: PathBuf,
        /// Table: file TAB number TAB caption
        #[arg(long, value_name = "TSV")]
        captions: PathBuf,
        /// Take each modality's mean (from the package) off first
        #[arg(long)]
        centred: bool,
        /// Correct scores for hubs: CSLS, or a bank of other queries
        #[arg(long, value_enum)]
        hubs: Option<Hubs>,
    },
    /// Composed queries: do a picture and words together find what answers both?
    Compose {
        /// Folder of pictures to search (repeatable)
        #[arg(long, value_name = "DIR", required = true)]
        images: Vec<PathBuf>,
        /// Table: picture TAB terms, each after + or - TAB answers, separated by commas
        #[arg(long, value_name = "TSV")]
        queries: PathBuf,
    },
    /// Finding things: is the heat map's peak inside of the annotated box?
    Where {
        /// Folder of pictures
        #[arg(long, value_name = "DIR")]
        images: PathBuf,
        /// Annotations in COCO's "instances" format; the largest of each category is looked for
        #[arg(long, value_name = "JSON")]
        instances: PathBuf,
    },
    /// Events of a recording against what a person saw
    Watch(super::eval_watch::EvalWatchArgs),
}

/// Runs the command.
pub fn run(command: &EvalCommand, global: &Global) -> Result<Outcome, Failure> {
    global.require_format(&[Format::Text, Format::Json])?;
    match command {
        EvalCommand::Classify { images, truth, labels } => classify(images, truth, labels, global),
        EvalCommand::Retrieve { images, captions, centred, hubs } => {
            run_retrieve(images, captions, *centred, *hubs, global)
        }
        EvalCommand::Compose { images, queries } => {
            super::eval_compose::run(images, queries, global)
        }
        EvalCommand::Where { images, instances } => {
            super::eval_where::run(images, instances, global)
        }
        EvalCommand::Watch(args) => super::eval_watch::run(args, global),
    }
}

fn classify(
    images: &Path,
    truth: &Path,
    source: &LabelSource,
    global: &Global,
) -> Result<Outcome, Failure> {
    let table = read_truth(truth).map_err(usage)?;
    let encoder = global.encoder()?;
    let labels = source.compile(&encoder, global)?;
    let classes = labels.classes();
    if let Some((picture, class)) = table.iter().find(|(_, class)| *class >= classes.len()) {
        return Err(usage(EvalError::Class {
            file: truth.display().to_string(),
            class: *class,
            picture: picture.clone(),
            labels: classes.len(),
        }));
    }
    encoder.load_image().map_err(|e| Failure::Unfit(e.to_string()))?;
    let scorer = Scorer::new(&labels, encoder.package().manifest(), ScoreOptions::default());
    let shown: Vec<usize> =
        (0..labels.labels().len()).filter(|&i| !labels.labels()[i].negative).collect();
    let place: HashMap<usize, usize> = shown.iter().enumerate().map(|(p, &l)| (l, p)).collect();
    let files: Vec<PathBuf> = table.iter().map(|(file, _)| images.join(file)).collect();
    let mut truths = table.iter().map(|(_, class)| place[&classes[*class]]);
    let progress = Progress::new(files.len(), "measuring", global.quiet);
    let mut tally = ClassifyTally::default();
    let mut failed = 0;
    let work = |path: &Path| -> Result<(Vec<f32>, bool), EncodeError> {
        let embedding = encoder.image_file(path)?;
        let answer = scorer.score(&embedding).expect("one encoder has one space");
        let scores = scorer.probabilities(&embedding).expect("one encoder has one space");
        Ok((shown.iter().map(|&label| scores[label]).collect(), answer.unknown))
    };
    inputs::in_order(&files, &progress, work, |_, result| {
        let truth = truths.next().unwrap_or_default();
        match result {
            Ok((scores, unknown)) => tally.add(truth, &scores, unknown),
            Err(error) => {
                complain(&error.to_string());
                failed += 1;
            }
        }
        Ok(())
    })?;
    drop(progress);
    print_classify(&tally.report(shown.len(), failed), global.format)?;
    Ok(Outcome { failed })
}

fn run_retrieve(
    images: &Path,
    captions: &Path,
    centred: bool,
    hubs: Option<Hubs>,
    global: &Global,
) -> Result<Outcome, Failure> {
    let table = read_captions(captions).map_err(usage)?;
    let encoder = global.encoder()?;
    encoder.load_image().map_err(|e| Failure::Unfit(e.to_string()))?;
    encoder.load_text().map_err(|e| Failure::Unfit(e.to_string()))?;
    let mut names: Vec<&str> = Vec::new();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (file, _) in &table {
        seen.entry(file).or_insert_with(|| {
            names.push(file);
            names.len() - 1
        });
    }
    let files: Vec<PathBuf> = names.iter().map(|name| images.join(name)).collect();
    let progress = Progress::new(files.len(), "pictures", global.quiet);
    let (mut gallery, place) = numbered(embed_each(&files, &encoder, &progress)?);
    drop(progress);
    let failed = files.len() - gallery.len();
    let queries: Vec<(usize, &str)> = table
        .iter()
        .filter_map(|(file, caption)| Some((place[seen[file.as_str()]]?, caption.as_str())))
        .collect();
    let progress = Progress::new(queries.len(), "captions", global.quiet);
    let mut embedded = Vec::with_capacity(queries.len());
    for chunk in queries.chunks(256) {
        let part: Result<Vec<_>, EncodeError> =
            chunk.par_iter().map(|(image, caption)| Ok((*image, encoder.text(caption)?))).collect();
        embedded.extend(part.map_err(|e| Failure::Unfit(e.to_string()))?);
        progress.set(embedded.len());
    }
    drop(progress);
    if centred {
        centre(&encoder, gallery.iter_mut().chain(embedded.iter_mut().map(|(_, text)| text)))?;
    }
    let correction = hubs.map(Hubs::correction);
    let report = match correction {
        None => retrieve(&gallery, &embedded, failed).expect("one encoder has one space"),
        Some(correction) => retrieve_corrected(&gallery, &embedded, failed, correction)
            .map_err(|e| Failure::Usage(format!("{}: {e}", captions.display())))?,
    };
    print_retrieve(&report, global.format)?;
    Ok(Outcome { failed })
}

/// Takes the package's means off.
fn centre<'a>(
    encoder: &Encoder,
    embeddings: impl Iterator<Item = &'a mut Embedding>,
) -> Result<(), Failure> {
    let manifest = encoder.package().manifest();
    let (image, text) = (&manifest.calibration.image_mean, &manifest.calibration.text_mean);
    let (Some(image), Some(text)) = (image, text) else {
        let name = &manifest.name;
        return Err(Failure::Unfit(format!("model \"{name}\" stores no means of its modalities")));
    };
    let centres = Centres { image: Some(image), text: Some(text) };
    for embedding in embeddings {
        *embedding = centred(embedding, centres).map_err(|e| Failure::Unfit(e.to_string()))?;
    }
    Ok(())
}

fn usage(error: EvalError) -> Failure {
    Failure::Usage(error.to_string())
}

fn print_classify(report: &ClassifyReport, format: Format) -> std::io::Result<()> {
    print_result(report, format, |out| {
        let percent = |share: f64| share * 100.0;
        writeln!(out, "pictures    {} ({} failed)", report.n, report.failed)?;
        writeln!(out, "classes     {}", report.classes)?;
        writeln!(out, "top-1       {:.1} %", percent(report.top1))?;
        writeln!(out, "top-5       {:.1} %", percent(report.top5))?;
        writeln!(out, "confidence  {:.1} % on average", percent(report.confidence))?;
        writeln!(out, "ECE         {:.1} %", percent(report.ece))?;
        writeln!(out, "unknown     {:.1} %", percent(report.unknown))?;
        Ok(())
    })
}

fn print_retrieve(report: &RetrieveReport, format: Format) -> std::io::Result<()> {
    print_result(report, format, |out| {
        writeln!(
            out,
            "{} pictures, {} captions ({} failed)",
            report.n_images, report.n_captions, report.failed
        )?;
        for (name, recall) in [
            ("caption finds picture", &report.image_recall),
            ("picture finds caption", &report.text_recall),
        ] {
            let ranks = recall.iter().map(|(k, share)| format!("R@{k} {:.1} %", share * 100.0));
            writeln!(out, "{name}: {}", ranks.collect::<Vec<_>>().join(", "))?;
        }
        Ok(())
    })
}
