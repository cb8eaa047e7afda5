//! `sextant label --examples`: classes learned from folders of a few pictures each.

use std::path::{Path, PathBuf};

use sextant::space::examples::{ExampleClassifier, ExampleSet};
use sextant::space::{Points, SpaceError};
use sextant::{
    CompiledLabels, Embedding, Encoder, Label, LabelSet, Labelling, ScoreOptions, ScoredLabel,
    Scorer,
};

use super::inputs::{embed_each, expand};
use super::label::compile_set;
use super::output::complain;
use super::progress::Progress;
use super::{Failure, Global};

/// Decides the parts of the cross-validation.
const SEED: u64 = 0;

/// Smallest probability whose logarithm is taken.
const SMALLEST: f32 = 1e-12;

/// Labels and what was learned of them.
pub struct Learned {
    names: Vec<String>,
    labels: CompiledLabels,
    classifier: ExampleClassifier,
    /// Pictures that could not be read.
    pub failed: usize,
}

/// Learns from `folder`: each folder in it is a class, named as the folder ('_' is a space).
pub fn learn(
    folder: &Path,
    templates: &[String],
    encoder: &Encoder,
    global: &Global,
) -> Result<Learned, Failure> {
    let folders = class_folders(folder)?;
    let names: Vec<String> = folders.iter().map(|(name, _)| name.clone()).collect();
    let label = |name: &String| Label { name: name.clone(), ..Label::default() };
    let set = LabelSet {
        labels: names.iter().map(label).collect(),
        classes: (0..names.len()).collect(),
        ..LabelSet::default()
    };
    let labels = compile_set(&set, templates, encoder, global)?;
    let (embeddings, classes, failed) = embed(&folders, encoder, global)?;
    if embeddings.is_empty() {
        let folder = folder.display();
        return Err(Failure::Usage(format!("{folder}: none of its folders has a usable picture")));
    }
    let scorer = Scorer::new(&labels, encoder.package().manifest(), ScoreOptions::default());
    let named = embeddings.iter().map(|embedding| logits(&scorer, embedding)).collect();
    let unfit = |e: SpaceError| Failure::Usage(format!("{}: {e}", folder.display()));
    let points = Points::from_embeddings(&embeddings).map_err(unfit)?;
    let set = ExampleSet::new(names.clone(), points, classes, named).map_err(unfit)?;
    let (classifier, report) = ExampleClassifier::learn(&set, SEED).map_err(unfit)?;
    if !global.quiet {
        complain(&format!(
            "learned {} classes from {} pictures: left-out ones are labelled {:.0} % right ({:.0} % by names alone)",
            report.classes,
            report.examples,
            report.blended * 100.0,
            report.zero_shot * 100.0
        ));
    }
    if global.verbose {
        complain(&format!(
            "most of all {:?} votes count, by {} beside names at {}; temperature {}",
            report.method, report.weight, report.names, report.temperature
        ));
    }
    Ok(Learned { names, labels, classifier, failed })
}

impl Learned {
    /// Labels a picture. It is unknown when it is farther from the examples than they are from
    /// each other and fits no name either.
    pub fn label(
        &self,
        embedding: &Embedding,
        scorer: &Scorer<'_>,
        top: usize,
        threshold: Option<f32>,
    ) -> Labelling {
        let answer = self
            .classifier
            .label(embedding.values(), &logits(scorer, embedding))
            .expect("examples and pictures come from the same encoder");
        let similarities = scorer.similarities(embedding).expect("one encoder has one space");
        let mut labels: Vec<ScoredLabel> = self
            .names
            .iter()
            .enumerate()
            .map(|(class, name)| ScoredLabel {
                name: name.clone(),
                parent: None,
                score: Some(answer.scores[class]),
                similarity: similarities[class],
            })
            .collect();
        labels.sort_by(|a, b| {
            let score = |label: &ScoredLabel| label.score.unwrap_or(0.0);
            score(b).total_cmp(&score(a)).then(b.similarity.total_cmp(&a.similarity))
        });
        let fits_no_name = scorer.score(embedding).is_ok_and(|labelling| labelling.unknown);
        let mut unknown = !answer.familiar && fits_no_name;
        if let Some(threshold) = threshold {
            labels.retain(|label| label.score.is_some_and(|score| score >= threshold));
            unknown = labels.is_empty();
        }
        labels.truncate(top);
        Labelling { labels, unknown }
    }

    /// The zero-shot side.
    pub fn labels(&self) -> &CompiledLabels {
        &self.labels
    }
}

fn logits(scorer: &Scorer<'_>, embedding: &Embedding) -> Vec<f32> {
    let probabilities = scorer.probabilities(embedding).expect("one encoder has one space");
    probabilities.into_iter().map(|p| p.max(SMALLEST).ln()).collect()
}

fn class_folders(folder: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    let unreadable =
        |e: std::io::Error| Failure::Usage(format!("{}: cannot be read: {e}", folder.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let hidden = name.is_none_or(|name| name.starts_with('.'));
        if let Some(name) = name.filter(|_| path.is_dir() && !hidden) {
            found.push((name.replace('_', " "), path));
        }
    }
    found.sort();
    if found.len() < 2 {
        return Err(Failure::Usage(format!(
            "{}: needs at least two folders, one a class, with a few pictures each",
            folder.display()
        )));
    }
    Ok(found)
}

/// Embeddings of all pictures, their classes, and how many could not be read.
fn embed(
    folders: &[(String, PathBuf)],
    encoder: &Encoder,
    global: &Global,
) -> Result<(Vec<Embedding>, Vec<usize>, usize), Failure> {
    let (mut files, mut owners, mut failed) = (Vec::new(), Vec::new(), 0);
    for (class, (_, path)) in folders.iter().enumerate() {
        let found = expand(std::slice::from_ref(path));
        failed += found.failed;
        owners.extend(std::iter::repeat_n(class, found.files.len()));
        files.extend(found.files);
    }
    let progress = Progress::new(files.len(), "reading examples", global.quiet);
    let points = embed_each(&files, encoder, &progress)?;
    failed += points.iter().filter(|point| point.is_none()).count();
    let (embeddings, classes) =
        points.into_iter().zip(owners).filter_map(|(point, class)| Some((point?, class))).unzip();
    Ok((embeddings, classes, failed))
}
