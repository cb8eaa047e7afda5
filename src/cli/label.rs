//! `sextant label`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use sextant::space::place::{FOCUS_SCALES, PlaceFeatures};
use sextant::{
    CompiledLabels, Embedding, EncodeError, Encoder, LabelError, LabelSet, Labelling, ScoreOptions,
    Scorer, TextCache, decode_file,
};

use super::examples::{Learned, learn};
use super::hubs::{self, HubArgs};
use super::inputs::{self, expand};
use super::output::{complain, json_line, six_digits, stdout};
use super::progress::Progress;
use super::row::on_one_line;
use super::where_::check_places;
use super::{Failure, Format, Global, Outcome};

/// Arguments of `label`.
#[derive(Debug, Args)]
pub struct LabelArgs {
    /// Pictures, or folders of pictures
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    labels: LabelSource,
    /// Most labels to print for a picture
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = super::at_least_one)]
    top: usize,
    /// Print only labels with at least this score (0 to 1); none left means "unknown"
    #[arg(long, value_name = "P", value_parser = parse_probability)]
    threshold: Option<f32>,
    /// Score each label on its own: several may be true
    #[arg(long)]
    multi: bool,
    /// Learn the labels from folders of a few pictures each, named as the labels, instead
    #[arg(long, value_name = "DIR", conflicts_with_all = ["labels", "multi", "hubs"])]
    examples: Option<PathBuf>,
    /// Look past the background: places that look like any label count more
    #[arg(long)]
    focus: bool,
    #[command(flatten)]
    hubs: HubArgs,
}

/// Where labels come from.
#[derive(Debug, Args)]
pub struct LabelSource {
    /// Names separated by commas, a label file, or compiled labels; "!name" competes unseen,
    /// "dog < animal" gives a label a parent to fall back to
    #[arg(long, value_name = "NAMES|FILE")]
    pub labels: Option<String>,
    /// Prompt template with {} for the name (repeatable) [default: the model's own]
    #[arg(long, value_name = "TEXT")]
    pub template: Vec<String>,
}

fn parse_probability(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("a score lies between 0 and 1".to_owned()),
    }
}

/// Runs the command.
pub fn run(args: &LabelArgs, global: &Global) -> Result<Outcome, Failure> {
    global.require_format(&[Format::Text, Format::Json, Format::Csv])?;
    let encoder = global.encoder()?;
    encoder.load_image().map_err(|e| Failure::Unfit(e.to_string()))?;
    if args.focus {
        check_places(&encoder)?;
    }
    let learned = match &args.examples {
        Some(folder) => Some(learn(folder, &args.labels.template, &encoder, global)?),
        None => None,
    };
    let named = match &learned {
        Some(_) => None,
        None => Some(args.labels.compile(&encoder, global)?),
    };
    let labels = learned.as_ref().map(Learned::labels).or(named.as_ref());
    let labels = labels.expect("labels come from names where not from examples");
    let options = ScoreOptions { top: args.top, threshold: args.threshold, multi: args.multi };
    let scorer = Scorer::new(labels, encoder.package().manifest(), options);
    if args.multi && !scorer.has_independent_scores() {
        complain("this model has no calibration for independent scores: similarities only");
    }
    let inputs = expand(&args.images);
    let discounts = args.discounts(&inputs.files, &encoder, labels, global)?;
    let mut failed = inputs.failed + learned.as_ref().map_or(0, |learned| learned.failed);
    let progress = Progress::new(inputs.files.len(), "labelling", global.quiet);
    let mut printer = Printer::new(stdout(), global.format)?;
    let work = |path: &Path| -> Result<Labelling, EncodeError> {
        let embedding = match args.focus {
            true => focused(&encoder, path, labels)?,
            false => encoder.image_file(path)?,
        };
        let same = "labels and pictures come from the same encoder";
        Ok(match (&learned, &discounts) {
            (Some(learned), _) => learned.label(&embedding, &scorer, args.top, args.threshold),
            (None, Some(discounts)) => scorer.rank_corrected(&embedding, discounts).expect(same),
            (None, None) => scorer.score(&embedding).expect(same),
        })
    };
    inputs::in_order(&inputs.files, &progress, work, |path, result| match result {
        Ok(labelling) => printer.print(path, &labelling),
        Err(error) => {
            complain(&error.to_string());
            failed += 1;
            Ok(())
        }
    })?;
    printer.finish()?;
    Ok(Outcome { failed })
}

impl LabelArgs {
    /// What each label loses with --hubs: by the bank, or else by the pictures themselves.
    fn discounts(
        &self,
        files: &[PathBuf],
        encoder: &Encoder,
        labels: &CompiledLabels,
        global: &Global,
    ) -> Result<Option<Vec<f32>>, Failure> {
        let Some(hubs) = self.hubs.hubs else { return Ok(None) };
        let bank = match &self.hubs.bank {
            Some(path) => hubs::read_bank(path, encoder, global)?,
            None => hubs::picture_bank(
                files,
                "the pictures to label (or give --bank)",
                encoder,
                global,
            )?,
        };
        hubs::label_discounts(&bank, labels, hubs.correction()).map(Some)
    }
}

/// The picture pooled towards what looks like the labels, together with the whole.
fn focused(
    encoder: &Encoder,
    path: &Path,
    labels: &CompiledLabels,
) -> Result<Embedding, EncodeError> {
    let source = path.display().to_string();
    let picture = decode_file(path, encoder.limits())?;
    let whole = encoder.image(&picture, &source)?;
    let features = PlaceFeatures::new(encoder, &picture, &source, &FOCUS_SCALES)?;
    let shown = (0..labels.labels().len()).filter(|&label| !labels.labels()[label].negative);
    let texts: Vec<&[f32]> = shown.map(|label| labels.row(label)).collect();
    // Places that cancel each other leave the whole picture as it is.
    Ok(features.focused(&whole, &texts).unwrap_or(whole))
}

impl LabelSource {
    /// Compiled labels of the encoder's space, from wherever they come.
    pub fn compile(&self, encoder: &Encoder, global: &Global) -> Result<CompiledLabels, Failure> {
        let Some(labels) = &self.labels else {
            return Err(Failure::Usage("no labels: give --labels NAMES or FILE".to_owned()));
        };
        let path = Path::new(labels);
        if CompiledLabels::is_compiled(path) {
            if !self.template.is_empty() {
                return Err(Failure::Usage(
                    "--template has no effect on compiled labels: compile them again with it"
                        .to_owned(),
                ));
            }
            return CompiledLabels::load(path, encoder.space(), encoder.dimension())
                .map_err(|e| Failure::Unfit(e.to_string()));
        }
        let set = LabelSet::from_argument(labels).map_err(label_failure)?;
        compile_set(&set, &self.template, encoder, global)
    }
}

/// Embeds a label set, with the cache and a progress bar.
pub fn compile_set(
    set: &LabelSet,
    templates: &[String],
    encoder: &Encoder,
    global: &Global,
) -> Result<CompiledLabels, Failure> {
    sextant::check_templates(templates, "--template").map_err(label_failure)?;
    for name in set.duplicates.iter().filter(|_| !global.quiet) {
        complain(&format!("label \"{name}\" is listed more than once: counted as one"));
    }
    let templates = (!templates.is_empty()).then_some(templates);
    let mut cache = TextCache::open(encoder.space(), encoder.package().manifest().dimension);
    let progress = Progress::new(set.labels.len(), "reading labels", global.quiet);
    let step = |done| progress.set(done);
    let compiled = sextant::compile_labels(encoder, set, templates, &mut cache, &step)
        .map_err(|e| Failure::Unfit(e.to_string()))?;
    if let Err(error) = cache.flush()
        && global.verbose
    {
        complain(&format!("label embeddings are not cached: {error}"));
    }
    Ok(compiled)
}

/// A wrong list is wrong usage; a wrong file is a label set that does not fit.
pub fn label_failure(error: LabelError) -> Failure {
    match &error {
        LabelError::Missing { .. } => Failure::Usage(error.to_string()),
        LabelError::Template { file, .. }
        | LabelError::NoLabels { file }
        | LabelError::Name { file, .. }
        | LabelError::Parents { file, .. }
            if file.starts_with("--") =>
        {
            Failure::Usage(error.to_string())
        }
        _ => Failure::Unfit(error.to_string()),
    }
}

#[derive(Serialize)]
struct LabelLine<'a> {
    source: String,
    labels: Vec<LabelEntry<'a>>,
    unknown: bool,
}

#[derive(Serialize)]
struct LabelEntry<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<&'a str>,
    score: Option<f64>,
    similarity: f64,
}

struct Printer<W: Write> {
    out: W,
    format: Format,
}

impl<W: Write> Printer<W> {
    fn new(mut out: W, format: Format) -> std::io::Result<Self> {
        if format == Format::Csv {
            csv_row(&mut out, &["source", "rank", "name", "score", "similarity", "unknown"])?;
        }
        Ok(Self { out, format })
    }

    fn print(&mut self, path: &Path, labelling: &Labelling) -> std::io::Result<()> {
        match self.format {
            Format::Json => self.json(path, labelling)?,
            Format::Csv => self.csv(path, labelling)?,
            _ => self.text(path, labelling)?,
        }
        self.out.flush()
    }

    fn json(&mut self, path: &Path, labelling: &Labelling) -> std::io::Result<()> {
        let labels = labelling.labels.iter().map(|label| LabelEntry {
            name: &label.name,
            parent: label.parent.as_deref(),
            score: label.score.map(six_digits),
            similarity: six_digits(label.similarity),
        });
        let source = path.display().to_string();
        let line = LabelLine { source, labels: labels.collect(), unknown: labelling.unknown };
        json_line(&mut self.out, &line)
    }

    fn csv(&mut self, path: &Path, labelling: &Labelling) -> std::io::Result<()> {
        let source = path.display().to_string();
        let unknown = labelling.unknown.to_string();
        if labelling.labels.is_empty() {
            csv_row(&mut self.out, &[&source, "", "", "", "", &unknown])?;
        }
        for (rank, label) in labelling.labels.iter().enumerate() {
            let score = label.score.map(|s| six_digits(s).to_string()).unwrap_or_default();
            let similarity = six_digits(label.similarity).to_string();
            let rank = (rank + 1).to_string();
            let row = [&source, &rank, &label.name, &score, &similarity, &unknown];
            csv_row(&mut self.out, &row.map(String::as_str))?;
        }
        Ok(())
    }

    fn text(&mut self, path: &Path, labelling: &Labelling) -> std::io::Result<()> {
        let shown: Vec<String> = labelling
            .labels
            .iter()
            .map(|label| match label.score {
                Some(score) => format!("{} {score:.2}", on_one_line(&label.name)),
                None => {
                    format!("{} (similarity {:.3})", on_one_line(&label.name), label.similarity)
                }
            })
            .collect();
        let answer = match (labelling.unknown, shown.is_empty()) {
            (true, true) => "unknown".to_owned(),
            (true, false) => format!("unknown (perhaps {})", shown.join(", ")),
            (false, _) => shown.join(", "),
        };
        writeln!(self.out, "{}: {answer}", on_one_line(&path.to_string_lossy()))
    }

    fn finish(mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

fn csv_row(out: &mut impl Write, fields: &[&str]) -> std::io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(fields)?;
    writer.flush()
}
