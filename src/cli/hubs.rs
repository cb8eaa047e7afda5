//! Options that correct a ranking for hubs: what is near to everything comes up less.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use sextant::index::{Filter, Index, Reader, ScanOptions};
use sextant::space::{HubCorrection, Points, Similarities, hub_discounts, sample};
use sextant::{CompiledLabels, Embedding, Encoder, Modality, TextCache};

use super::inputs::{embed_each, expand, read_texts};
use super::progress::Progress;
use super::search::Found;
use super::{Failure, Global};

/// Most queries of a bank; more are sampled.
const MOST: usize = 1000;

/// Fewest queries of a bank.
const FEWEST: usize = 20;

/// Decides which queries of a large bank are taken.
const SEED: u64 = 0;

/// How scores are corrected for hubs.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Hubs {
    /// Cross-domain similarity local scaling
    Csls,
    /// Query-bank normalisation
    Bank,
}

impl Hubs {
    /// As the library calls it.
    pub fn correction(self) -> HubCorrection {
        match self {
            Self::Csls => HubCorrection::LocalScaling,
            Self::Bank => HubCorrection::QueryBank,
        }
    }
}

/// Options of commands that rank.
#[derive(Debug, Args)]
pub struct HubArgs {
    /// Rank lower what is near to every query: by local scaling (CSLS) or a query bank
    #[arg(long, value_enum)]
    pub hubs: Option<Hubs>,
    /// Typical queries for --hubs: a text file, one a line, or pictures (a folder or an index)
    #[arg(long, value_name = "FILE|DIR|INDEX", requires = "hubs")]
    pub bank: Option<PathBuf>,
}

/// Points of typical queries.
pub fn read_bank(path: &Path, encoder: &Encoder, global: &Global) -> Result<Points, Failure> {
    let points = if path.is_file() {
        texts(path, encoder, global)?
    } else if let Ok(reader) = Index::open(path) {
        reader.expect_space(encoder.space())?;
        let rows = reader.matching(&Filter::default())?;
        let chosen = sample(rows.len(), MOST, SEED);
        chosen.iter().map(|&place| reader.embedding(rows[place])).collect::<Result<_, _>>()?
    } else {
        let files = expand(&[path.to_owned()]).files;
        return picture_bank(&files, &path.display().to_string(), encoder, global);
    };
    points_of(&points, &path.display().to_string())
}

/// A bank of pictures; those that cannot be read are reported.
pub fn picture_bank(
    files: &[PathBuf],
    name: &str,
    encoder: &Encoder,
    global: &Global,
) -> Result<Points, Failure> {
    points_of(&pictures(files, encoder, global)?, name)
}

/// A bank of these queries, if they are enough.
fn points_of(queries: &[Embedding], name: &str) -> Result<Points, Failure> {
    if queries.len() < FEWEST {
        return Err(Failure::Usage(format!(
            "{name}: {} queries are too few to tell hubs: at least {FEWEST} are needed",
            queries.len()
        )));
    }
    Points::from_embeddings(queries).map_err(|e| Failure::Usage(format!("{name}: {e}")))
}

fn texts(path: &Path, encoder: &Encoder, global: &Global) -> Result<Vec<Embedding>, Failure> {
    let wrong = |e: &dyn std::fmt::Display| Failure::Usage(format!("{}: {e}", path.display()));
    let text = read_texts(path, None).map_err(|e| wrong(&e))?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let chosen = sample(lines.len(), MOST, SEED);
    let mut cache = TextCache::open(encoder.space(), encoder.dimension());
    let progress = Progress::new(chosen.len(), "reading the bank", global.quiet);
    let mut points = Vec::with_capacity(chosen.len());
    for &line in &chosen {
        let text = lines[line];
        if cache.get(text).is_none() {
            let point = encoder.text(text).map_err(|e| Failure::Unfit(e.to_string()))?;
            cache.insert(text, point.values());
        }
        let values = cache.get(text).unwrap_or_default().to_vec();
        points
            .push(Embedding::new(encoder.space(), Modality::Text, values).map_err(|e| wrong(&e))?);
        progress.set(points.len());
    }
    // A cache that cannot be written costs time only.
    let _ = cache.flush();
    Ok(points)
}

fn pictures(
    found: &[PathBuf],
    encoder: &Encoder,
    global: &Global,
) -> Result<Vec<Embedding>, Failure> {
    let files: Vec<PathBuf> =
        sample(found.len(), MOST, SEED).iter().map(|&place| found[place].clone()).collect();
    let progress = Progress::new(files.len(), "reading the bank", global.quiet);
    Ok(embed_each(&files, encoder, &progress)?.into_iter().flatten().collect())
}

/// What each label loses, given typical pictures.
pub fn label_discounts(
    bank: &Points,
    labels: &CompiledLabels,
    correction: HubCorrection,
) -> Result<Vec<f32>, Failure> {
    let unfit = |e: sextant::space::SpaceError| Failure::Unfit(e.to_string());
    let rows = (0..labels.labels().len()).flat_map(|label| labels.row(label)).copied().collect();
    let gallery = Points::new(rows, bank.dimension()).map_err(unfit)?;
    let similarities = Similarities::between(bank, &gallery).map_err(unfit)?;
    hub_discounts(&similarities, correction).map_err(unfit)
}

/// Sorts the results of a search by corrected similarity. Query-bank normalisation leaves the
/// order alone when the best result is the best of no query of the bank.
pub fn rerank(
    found: &mut [Found],
    bank: &Points,
    reader: &Reader,
    correction: HubCorrection,
) -> Result<(), Failure> {
    let Some(best) = found.first().map(|found| found.entry.row) else { return Ok(()) };
    if correction == HubCorrection::QueryBank && !is_best_of_any(bank, best, reader)? {
        return Ok(());
    }
    let unfit = |e: sextant::space::SpaceError| Failure::Unfit(e.to_string());
    let rows =
        found.iter().map(|f| reader.vector(f.entry.row)).collect::<Result<Vec<_>, _>>()?.concat();
    let gallery = Points::new(rows, bank.dimension()).map_err(unfit)?;
    let similarities = Similarities::between(bank, &gallery).map_err(unfit)?;
    let discounts = hub_discounts(&similarities, correction).map_err(unfit)?;
    let mut keyed: Vec<(f32, usize)> =
        found.iter().zip(&discounts).map(|(f, d)| f.similarity - d).zip(0..).collect();
    keyed.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut place = vec![0; keyed.len()];
    keyed.iter().enumerate().for_each(|(new, &(_, old))| place[old] = new);
    found.iter_mut().zip(&place).for_each(|(f, &new)| f.rank = new + 1);
    found.sort_by_key(|f| f.rank);
    Ok(())
}

fn is_best_of_any(bank: &Points, row: u32, reader: &Reader) -> Result<bool, Failure> {
    let unfit = |e: sextant::EmbeddingError| Failure::Unfit(e.to_string());
    let queries: Vec<Embedding> = bank
        .iter()
        .map(|point| Embedding::new(reader.space(), Modality::Text, point.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(unfit)?;
    let options = ScanOptions { threads: rayon::current_num_threads(), ..ScanOptions::default() };
    let hits = reader.search(&queries, 1, &Filter::default(), &options)?;
    Ok(hits.iter().flatten().any(|hit| hit.row == row))
}
