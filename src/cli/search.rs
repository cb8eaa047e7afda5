//! `sextant search`.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use sextant::Encoder;
use sextant::index::{Entry, Filter, Index, IndexError, Reader, ScanOptions};
use sextant::space::{HubCorrection, Points, SpaceError};

use super::contact_sheet;
use super::hubs::{self, HubArgs};
use super::output::{complain, json_line, six_digits, stdout};
use super::query::{self, Query, TermError};
use super::row::{KeyFields, TagMap, shown_key, shown_tags};
use super::selection::Selection;
use super::{Failure, Format, Global, Outcome};

/// Arguments of `search`.
#[derive(Debug, Args)]
#[command(after_help = "\
A TERM is the path of a picture, or a text; img: or txt: before it forces the reading, and a
number and a colon weigh it. The path of a picture that is gone still works if it is a key of the
index. set: before a folder of pictures, or before a file of texts, one a line, means their mean.
Between two sums, .. goes half the way from the one to the other, and ..30% three tenths of it.
Examples:
  sextant search photos.index \"a red car\" --since yesterday
  sextant search photos.index beach.jpg + sunset - 0.5:people
  sextant search photos.index 'beach.jpg + \"two dogs\" - snow' --html found.html
  sextant search photos.index village.jpg + set:sunny.txt - set:snowy.txt
  sextant search photos.index noon.jpg ..30% night.jpg")]
pub struct SearchArgs {
    /// Folder of the index
    index: PathBuf,
    /// What to look for: TERM [+ TERM | - TERM]… [.. TERM [+ TERM | - TERM]…]
    #[arg(required = true, value_name = "TERM")]
    terms: Vec<OsString>,
    /// Most results
    #[arg(short = 'k', long = "top", value_name = "K", default_value_t = 10)]
    top: usize,
    #[command(flatten)]
    selection: Selection,
    /// Compare one bit a component first: much faster on large indexes, and nearly exact
    #[arg(long)]
    fast: bool,
    /// Write a contact sheet to this file instead: one HTML page with the pictures in it
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Search rows that were added with the same --layer: what looks alike
    #[arg(long, value_name = "N")]
    layer: Option<usize>,
    #[command(flatten)]
    hubs: HubArgs,
}

/// A result.
#[derive(Debug)]
pub struct Found {
    /// From 1.
    pub rank: usize,
    /// The row.
    pub entry: Entry,
    /// Calibrated probability that it matches, where there is one.
    pub score: Option<f32>,
    /// Cosine similarity to the query.
    pub similarity: f32,
}

#[derive(Serialize)]
struct FoundLine<'a> {
    rank: usize,
    #[serde(flatten)]
    key: KeyFields<'a>,
    score: Option<f64>,
    similarity: f64,
    tags: TagMap<'a>,
    time: Option<i64>,
}

/// Runs the command.
pub fn run(args: &SearchArgs, global: &Global) -> Result<Outcome, Failure> {
    global.require_format(&[Format::Text, Format::Json, Format::Csv])?;
    let reader = Index::open(&args.index)?;
    let encoder = global.encoder_at(args.layer)?;
    expect_space(&reader, &encoder, &args.index)?;
    let words = query::split(&args.terms);
    let query = match Query::new(&words, &encoder, &reader, global.quiet) {
        Ok(query) => query,
        Err(error) => return refuse(error),
    };
    let filter = args.selection.filter();
    let bank = args.bank(&encoder, global)?;
    // What hubs push down, others further back come up for.
    let most = if bank.is_some() { args.top.max(20).saturating_mul(10) } else { args.top };
    let mut found = find(&query, &reader, &encoder, &filter, most, args.fast)?;
    if let Some((bank, correction)) = bank {
        hubs::rerank(&mut found, &bank, &reader, correction)?;
        found.truncate(args.top);
    }
    if found.is_empty() && args.top > 0 && !global.quiet {
        complain(&format!("{}: no row meets the conditions", args.index.display()));
    }
    match &args.html {
        Some(path) => {
            let sheet = contact_sheet::Sheet {
                query: words
                    .iter()
                    .map(|word| word.to_string_lossy())
                    .collect::<Vec<_>>()
                    .join(" "),
                index: args.index.display().to_string(),
                folder: &args.index,
                rows: reader.len(),
                limits: encoder.limits(),
            };
            std::fs::write(path, sheet.page(&found)).map_err(|e| {
                Failure::Failed(format!("{}: cannot be written: {e}", path.display()))
            })?;
            if !global.quiet {
                complain(&format!("{} results in {}", found.len(), path.display()));
            }
        }
        None => print(&found, global.format)?,
    }
    Ok(Outcome::default())
}

impl SearchArgs {
    /// Typical queries, and what to do with them.
    fn bank(
        &self,
        encoder: &Encoder,
        global: &Global,
    ) -> Result<Option<(Points, HubCorrection)>, Failure> {
        let Some(hubs) = self.hubs.hubs else { return Ok(None) };
        let Some(bank) = &self.hubs.bank else {
            let what = "a file of typical queries, one a line, or typical pictures";
            return Err(Failure::Usage(format!("--hubs needs --bank: {what}")));
        };
        Ok(Some((hubs::read_bank(bank, encoder, global)?, hubs.correction())))
    }
}

/// Refuses an index of another space; of one that was made with a --layer, says which.
fn expect_space(reader: &Reader, encoder: &Encoder, index: &Path) -> Result<(), Failure> {
    let Err(error) = reader.expect_space(encoder.space()) else { return Ok(()) };
    match sextant::image_layer_of(encoder.package(), reader.space()) {
        Ok(Some(layer)) => Err(Failure::Unfit(format!(
            "{}: its rows were made with --layer {layer}: search with --layer {layer} too",
            index.display()
        ))),
        _ => Err(error.into()),
    }
}

/// What to do about a query that has no answer.
fn refuse(error: TermError) -> Result<Outcome, Failure> {
    let message = error.to_string();
    match error {
        TermError::Query(_) | TermError::Cancelled | TermError::Space(SpaceError::Antipodal) => {
            Err(Failure::Usage(message))
        }
        TermError::Index(error) => Err(error.into()),
        TermError::Encode(error) if error.is_model_fault() => Err(Failure::Unfit(message)),
        _ => Err(Failure::Failed(message)),
    }
}

/// The `most` rows that are nearest to the query, of those that pass the filter.
///
/// # Errors
/// [`IndexError`] when the index cannot be read or is damaged.
pub fn find(
    query: &Query,
    reader: &Reader,
    encoder: &Encoder,
    filter: &Filter,
    most: usize,
    fast: bool,
) -> Result<Vec<Found>, IndexError> {
    let threads = rayon::current_num_threads();
    let options = ScanOptions { threads, fast, ..ScanOptions::default() };
    let k = most.min(reader.len() as usize);
    let hits = reader.search(std::slice::from_ref(&query.point), k, filter, &options)?;
    let manifest = encoder.package().manifest();
    let found = hits.into_iter().flatten().enumerate().map(|(at, hit)| {
        let score = match query.is_single && !encoder.is_inner() {
            true => sextant::match_probability(manifest, &query.point, &reader.embedding(hit.row)?),
            // Nothing was measured about sums, and a score is calibrated or absent.
            false => None,
        };
        let entry = reader.entry(hit.row)?;
        Ok(Found { rank: at + 1, entry, score, similarity: hit.similarity })
    });
    found.collect()
}

fn print(found: &[Found], format: Format) -> Result<(), Failure> {
    let mut out = stdout();
    match format {
        Format::Json => found.iter().try_for_each(|found| json_line(&mut out, &line(found)))?,
        Format::Csv => csv(&mut out, found)?,
        _ => table(&mut out, found)?,
    }
    Ok(out.flush()?)
}

fn line(found: &Found) -> FoundLine<'_> {
    FoundLine {
        rank: found.rank,
        key: KeyFields::of(&found.entry.key),
        score: found.score.map(six_digits),
        similarity: six_digits(found.similarity),
        tags: TagMap(&found.entry.tags),
        time: found.entry.time,
    }
}

fn table(out: &mut impl Write, found: &[Found]) -> std::io::Result<()> {
    if !found.is_empty() {
        writeln!(out, "rank  score  similarity  key")?;
    }
    for Found { rank, entry, score, similarity } in found {
        let score = score.map_or_else(|| "-".to_owned(), |score| format!("{score:.2}"));
        write!(out, "{rank:>4}  {score:>5}  {similarity:>10.3}  {}", shown_key(&entry.key))?;
        match entry.tags.is_empty() {
            true => writeln!(out)?,
            false => writeln!(out, "  {}", shown_tags(&entry.tags))?,
        }
    }
    Ok(())
}

fn csv(out: &mut impl Write, found: &[Found]) -> std::io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(["rank", "key", "score", "similarity", "tags", "time"])?;
    for Found { rank, entry, score, similarity } in found {
        writer.write_record([
            rank.to_string(),
            String::from_utf8_lossy(&entry.key).into_owned(),
            score.map(|score| six_digits(score).to_string()).unwrap_or_default(),
            six_digits(*similarity).to_string(),
            shown_tags(&entry.tags),
            entry.time.map(|time| time.to_string()).unwrap_or_default(),
        ])?;
    }
    writer.flush()
}
