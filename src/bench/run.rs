//! Measuring, stage after stage.

use rayon::prelude::*;

use super::host::{Host, peak_memory_kib, temperature};
use super::photo::synthetic_jpeg;
use super::rows::Searched;
use super::{BenchError, BenchOptions, BenchReport, Model, PeakMemory, Stage, Step, Timing};
use crate::encode::{Encoder, Tokens};
use crate::index::{Filter, ScanOptions};
use crate::label::{CompiledLabels, Label, LabelSet, ScoreOptions, Scorer, TextCache, compile};
use crate::model::{Package, Padding};
use crate::picture::{Picture, decode_bytes};

/// Pictures in flight for each thread when throughput is measured.
const IN_FLIGHT: usize = 8;

/// What is looked for when labelling is measured.
const LABELS: &str = "person,dog,cat,bird,horse,car,lorry,bus,bicycle,boat,tree,flower,house,\
                      chair,table,bottle,cup,book,telephone,computer";

/// Measures what `options` ask for with a package, on the threads of the surrounding rayon pool
/// and on one. `progress` is called with the number of stages done.
///
/// # Errors
/// [`BenchError`]: the package does not fit, the picture cannot be decoded, or there is no room
/// for an index in the temporary folder.
pub fn run(
    package: Package,
    options: &BenchOptions,
    progress: &dyn Fn(usize),
) -> Result<BenchReport, BenchError> {
    let report = BenchReport {
        version: env!("CARGO_PKG_VERSION"),
        host: Host::look()?,
        model: Model::of(&package),
        threads: rayon::current_num_threads(),
        steps: Vec::new(),
        peak_memory: PeakMemory::default(),
        temperature: None,
        notes: Vec::new(),
    };
    let mut bench = Bench { options, encoder: Encoder::new(package), report };
    let asked = |stage: &Stage| options.stages.contains(stage);
    let mut files = Vec::new();
    if Stage::ALL.iter().filter(|stage| asked(stage)).any(|stage| stage.is_of_pictures()) {
        files.push(match &options.picture {
            Some((name, bytes)) => File { name: name.clone(), bytes: bytes.clone() },
            None => File::synthetic(640, 480),
        });
        // First of all, before anything else takes memory.
        bench.encoder.image(&bench.decode(&files[0])?, &files[0].name)?;
        bench.report.peak_memory.image_kib = peak_memory_kib();
        if options.picture.is_none() {
            files.push(File::synthetic(4000, 3000));
        }
    }
    for (done, stage) in Stage::ALL.into_iter().filter(asked).enumerate() {
        progress(done);
        bench.stage(stage, &files)?;
    }
    bench.report.peak_memory.whole_kib = peak_memory_kib();
    bench.report.temperature = temperature();
    Ok(bench.report)
}

/// A compressed picture in memory.
struct File {
    name: String,
    bytes: Vec<u8>,
}

impl File {
    fn synthetic(width: usize, height: usize) -> Self {
        Self { name: format!("{width}×{height}"), bytes: synthetic_jpeg(width, height) }
    }
}

/// What is being measured, and what was found so far.
struct Bench<'a> {
    options: &'a BenchOptions,
    encoder: Encoder,
    report: BenchReport,
}

impl Bench<'_> {
    fn stage(&mut self, stage: Stage, files: &[File]) -> Result<(), BenchError> {
        match stage {
            Stage::Load => self.load(),
            Stage::Decode => files.iter().try_for_each(|file| {
                let encoder = &self.encoder;
                let work = || decode_bytes(&file.bytes, &file.name, encoder.limits()).map(drop);
                let timing =
                    Timing::measure(&self.options.budget, || Ok::<_, BenchError>(work()?))?;
                self.add(stage, &file.name, 1, timing);
                Ok(())
            }),
            Stage::Preprocess => files.iter().try_for_each(|file| self.preprocess(file)),
            Stage::Image => self.image(&files[0]),
            Stage::Text => self.text(),
            Stage::Label => {
                let labels = self.labels()?;
                files.iter().try_for_each(|file| self.label(file, labels.as_ref()))
            }
            Stage::Throughput => self.throughput(&files[0]),
            Stage::Index => self.index(),
        }
    }

    fn add(&mut self, stage: Stage, what: &str, threads: usize, timing: Timing) {
        let what = what.to_owned();
        self.report.steps.push(Step { stage, what, threads, timing, pictures_per_second: None });
    }

    /// Times `work` on one thread and then on all.
    fn on_one_and_all(
        &mut self,
        stage: Stage,
        what: &str,
        work: impl Fn(&Encoder) -> Result<(), BenchError> + Sync,
    ) -> Result<(), BenchError> {
        let (encoder, budget) = (&self.encoder, &self.options.budget);
        let alone = Timing::measure(budget, || work(encoder))?;
        let threads = self.report.threads;
        // Operators use the pool only where they are called from inside of it.
        let shared = (threads > 1)
            .then(|| rayon::scope(|_| Timing::measure(budget, || work(encoder))))
            .transpose()?;
        self.add(stage, what, 1, alone);
        if let Some(shared) = shared {
            self.add(stage, what, threads, shared);
        }
        Ok(())
    }

    fn decode(&self, file: &File) -> Result<Picture, BenchError> {
        Ok(decode_bytes(&file.bytes, &file.name, self.encoder.limits())?)
    }

    fn load(&mut self) -> Result<(), BenchError> {
        let package = self.encoder.package().clone();
        let mut budget = self.options.budget;
        // Loading takes long and varies little.
        budget.runs = budget.runs.div_ceil(5);
        let image = Timing::measure(&budget, || Encoder::new(package.clone()).load_image())?;
        self.add(Stage::Load, "image tower", 1, image);
        if package.manifest().text.is_some() {
            let text = Timing::measure(&budget, || Encoder::new(package.clone()).load_text())?;
            self.add(Stage::Load, "text tower and tokenizer", 1, text);
        }
        Ok(())
    }

    fn preprocess(&mut self, file: &File) -> Result<(), BenchError> {
        let picture = self.decode(file)?;
        let encoder = &self.encoder;
        let timing = Timing::measure(&self.options.budget, || {
            std::hint::black_box(encoder.pixels(&picture));
            Ok::<_, BenchError>(())
        })?;
        self.add(Stage::Preprocess, &file.name, 1, timing);
        Ok(())
    }

    fn image(&mut self, file: &File) -> Result<(), BenchError> {
        let pixels = self.encoder.pixels(&self.decode(file)?);
        let what = format!("{}×{}", pixels.width(), pixels.height());
        self.on_one_and_all(Stage::Image, &what, |encoder| {
            Ok(encoder.pixel_grid(&pixels, &file.name).map(drop)?)
        })
    }

    fn text(&mut self) -> Result<(), BenchError> {
        let Some(tower) = self.encoder.package().manifest().text.clone() else {
            self.note("text: this model has no text tower");
            return Ok(());
        };
        let mut counts = self.options.tokens.clone();
        counts.iter_mut().for_each(|count| *count = (*count).min(tower.context_length));
        counts.dedup();
        for count in counts {
            let (text, tokens) = self.text_of(count)?;
            let (real, all) = (tokens.mask.iter().filter(|&&m| m != 0).count(), tokens.ids.len());
            let what = match tower.padding {
                Padding::None => format!("{real} tokens"),
                Padding::Max => format!("{real} tokens, filled up to {all}"),
            };
            let encoder = &self.encoder;
            let timing = Timing::measure(&self.options.budget, || encoder.tokens(&text).map(drop))?;
            self.add(Stage::Text, &format!("tokenise {real} tokens"), 1, timing);
            self.on_one_and_all(Stage::Text, &what, |encoder| {
                Ok(encoder.text_tokens(&tokens, &text).map(drop)?)
            })?;
        }
        Ok(())
    }

    /// A text of so many tokens, the special ones included, or a few more.
    fn text_of(&self, count: usize) -> Result<(String, Tokens), BenchError> {
        let mut text = "a".to_owned();
        loop {
            let tokens = self.encoder.tokens(&text)?;
            let real = tokens.mask.iter().filter(|&&mask| mask != 0).count();
            if real >= count || tokens.truncated || text.len() > 16 * (count + 1) {
                return Ok((text, tokens));
            }
            text.push_str([" photo", " of", " a", " dog"][real % 4]);
        }
    }

    /// Labels to score, if texts can be embedded.
    fn labels(&mut self) -> Result<Option<CompiledLabels>, BenchError> {
        if self.encoder.package().manifest().text.is_none() {
            self.note(
                "label: without a text tower there are no labels, pictures are embedded only",
            );
            return Ok(None);
        }
        let label = |name: &str| Label { name: name.to_owned(), ..Label::default() };
        let labels: Vec<Label> = LABELS.split(',').map(label).collect();
        let set = LabelSet { classes: (0..labels.len()).collect(), labels, ..LabelSet::default() };
        let mut cache = TextCache::open_at(None, self.encoder.package().manifest().dimension);
        Ok(Some(compile(&self.encoder, &set, None, &mut cache, &|_| {})?))
    }

    fn label(&mut self, file: &File, labels: Option<&CompiledLabels>) -> Result<(), BenchError> {
        let what = match labels {
            Some(labels) => format!("{}, {} labels", file.name, labels.labels().len()),
            None => format!("{}, embedded", file.name),
        };
        self.on_one_and_all(Stage::Label, &what, |encoder| answer(encoder, file, labels))
    }

    fn throughput(&mut self, file: &File) -> Result<(), BenchError> {
        let labels = self.labels()?;
        let threads = self.report.threads;
        let pictures = threads * IN_FLIGHT;
        let mut budget = self.options.budget;
        budget.runs = budget.runs.div_ceil(pictures).max(5);
        let encoder = &self.encoder;
        let timing = Timing::measure(&budget, || {
            let all = (0..pictures).into_par_iter();
            all.try_for_each(|_| answer(encoder, file, labels.as_ref()))
        })?;
        self.add(Stage::Throughput, &format!("{pictures} of {}", file.name), threads, timing);
        if let Some(step) = self.report.steps.last_mut() {
            step.pictures_per_second = Some(pictures as f64 * 1e3 / timing.median_ms.max(1e-6));
        }
        Ok(())
    }

    fn index(&mut self) -> Result<(), BenchError> {
        let dimension = self.encoder.package().manifest().dimension;
        let searched = Searched::make(self.encoder.space(), dimension, self.options.rows)?;
        let (queries, filter) = (std::slice::from_ref(&searched.query), Filter::default());
        for (what, fast) in [("every row", false), ("--fast", true)] {
            for threads in [1, self.report.threads] {
                let scan = ScanOptions { threads, fast, ..ScanOptions::default() };
                let search = || searched.reader.search(queries, 10, &filter, &scan).map(drop);
                let timing = Timing::measure(&self.options.budget, search)?;
                let what = format!("{} rows of {dimension}, {what}", self.options.rows);
                self.add(Stage::Index, &what, threads, timing);
                if self.report.threads == 1 {
                    break;
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, note: &str) {
        self.report.notes.push(note.to_owned());
    }
}

/// From a compressed picture to its labels, or to its embedding.
fn answer(
    encoder: &Encoder,
    file: &File,
    labels: Option<&CompiledLabels>,
) -> Result<(), BenchError> {
    let picture = decode_bytes(&file.bytes, &file.name, encoder.limits())?;
    let embedding = encoder.image(&picture, &file.name)?;
    if let Some(labels) = labels {
        let manifest = encoder.package().manifest();
        let scorer = Scorer::new(labels, manifest, ScoreOptions::default());
        scorer.score(&embedding).expect("labels and pictures come from the same encoder");
    }
    Ok(())
}
