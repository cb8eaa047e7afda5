//! `sextant eval compose`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use sextant::eval::{ComposeReport, ComposeTally, ComposedQuery, read_composed};
use sextant::index::parse_query;
use sextant::space::{Centres, combine_centred};
use sextant::{Embedding, Encoder, Modality};

use super::inputs::{embed_each, expand};
use super::output::{complain, print_result};
use super::progress::Progress;
use super::{Failure, Format, Global, Outcome, query};

/// The pictures searched.
struct Gallery {
    points: Vec<Embedding>,
    /// Places by file name.
    places: BTreeMap<String, usize>,
}

/// Runs the command.
pub fn run(images: &[PathBuf], queries: &Path, global: &Global) -> Result<Outcome, Failure> {
    let table = read_composed(queries).map_err(|e| Failure::Usage(e.to_string()))?;
    let encoder = global.encoder()?;
    let (gallery, mut failed) = gallery(images, &encoder, global)?;
    let mut tallies: BTreeMap<&str, ComposeTally> = BTreeMap::new();
    for asked in &table {
        match ask(asked, &gallery, &encoder)? {
            Ok(ways) => {
                let places = |name: &String| gallery.places.get(name).copied();
                let answers: Vec<usize> = asked.answers.iter().filter_map(places).collect();
                let own = gallery.places[&asked.picture];
                for (way, point) in ways {
                    let tally = tallies.entry(way).or_default();
                    tally
                        .add(&point, &gallery.points, own, &answers)
                        .expect("one encoder has one space");
                }
            }
            Err(reason) => {
                complain(&format!("{} {}: {reason}", asked.picture, asked.terms));
                failed += 1;
            }
        }
    }
    let reports = tallies.into_iter().map(|(way, tally)| (way, tally.report())).collect();
    print(&reports, global.format)?;
    Ok(Outcome { failed })
}

fn gallery(
    images: &[PathBuf],
    encoder: &Encoder,
    global: &Global,
) -> Result<(Gallery, usize), Failure> {
    encoder.load_image().map_err(|e| Failure::Unfit(e.to_string()))?;
    let found = expand(images);
    let mut failed = found.failed;
    let mut gallery = Gallery { points: Vec::new(), places: BTreeMap::new() };
    let progress = Progress::new(found.files.len(), "pictures", global.quiet);
    let points = embed_each(&found.files, encoder, &progress)?;
    for (path, point) in found.files.iter().zip(points) {
        let Some(point) = point else {
            failed += 1;
            continue;
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        gallery.places.insert(name, gallery.points.len());
        gallery.points.push(point);
    }
    Ok((gallery, failed))
}

/// The points of one query, by the way of asking; or why it cannot be asked.
type Ways = Result<Vec<(&'static str, Embedding)>, String>;

fn ask(asked: &ComposedQuery, gallery: &Gallery, encoder: &Encoder) -> Result<Ways, Failure> {
    let missing = std::iter::once(&asked.picture)
        .chain(&asked.answers)
        .find(|name| !gallery.places.contains_key(*name));
    if let Some(name) = missing {
        return Ok(Err(format!("no picture {name}")));
    }
    let picture = &gallery.points[gallery.places[&asked.picture]];
    let words = query::split(&[OsString::from(&asked.terms)]);
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_encoded_bytes()).collect();
    let parsed = match parse_query(&words) {
        Ok(parsed) => parsed,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let mut texts = Vec::new();
    for term in parsed {
        let text = String::from_utf8_lossy(&term.content).into_owned();
        let point = encoder.text(&text).map_err(|e| Failure::Unfit(e.to_string()))?;
        texts.push((term.weight, point));
    }
    let calibration = &encoder.package().manifest().calibration;
    let (image, text) = (calibration.image_mean.as_deref(), calibration.text_mean.as_deref());
    let both: Vec<(f32, Embedding)> =
        std::iter::once((1.0, picture.clone())).chain(texts.iter().cloned()).collect();
    let sum = |terms: &[(f32, Embedding)], centres: Centres<'_>| {
        let terms: Vec<(f32, &Embedding)> = terms.iter().map(|(w, term)| (*w, term)).collect();
        combine_centred(&terms, centres, Modality::Image).map_err(|e| e.to_string())
    };
    let ways = || -> Ways {
        Ok(vec![
            ("picture", picture.clone()),
            ("words", sum(&texts, Centres::default())?),
            ("sum", sum(&both, Centres::default())?),
            ("sum_corrected", sum(&both, Centres { image, text })?),
        ])
    };
    Ok(ways())
}

fn print(reports: &BTreeMap<&str, ComposeReport>, format: Format) -> std::io::Result<()> {
    print_result(reports, format, |out| {
        writeln!(out, "asked by              R@1     R@5    R@10  median rank")?;
        for (key, shown) in [
            ("picture", "the picture alone"),
            ("words", "the words alone"),
            ("sum", "both, as they are"),
            ("sum_corrected", "both, gap corrected"),
        ] {
            if let Some(ComposeReport { recall, median_rank, .. }) = reports.get(key) {
                write!(out, "{shown:<19}")?;
                for share in recall.values() {
                    write!(out, " {:>5.1} %", share * 100.0)?;
                }
                writeln!(out, "  {median_rank:>11}")?;
            }
        }
        let n = reports.values().next().map_or(0, |report| report.n);
        writeln!(out, "{n} queries")?;
        Ok(())
    })
}
