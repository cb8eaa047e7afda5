//! `sextant eval where`.

use std::io::Write;
use std::path::{Path, PathBuf};

use sextant::eval::{PlaceReport, PlaceTally, Thing, read_instances};
use sextant::space::place::{PlaceFeatures, Region, SCALES, Spot};
use sextant::{EncodeError, decode_file};

use super::inputs;
use super::output::{complain, print_result};
use super::progress::Progress;
use super::where_::{BOX_SHARE, check_places, finder};
use super::{Failure, Format, Global, Outcome};

/// A picture's size, and for each of its things the frame, the peak and the box found.
type Found = ([u32; 2], Vec<([f64; 4], Spot, Region)>);

/// Runs the command.
pub fn run(images: &Path, instances: &Path, global: &Global) -> Result<Outcome, Failure> {
    let things = read_instances(instances).map_err(|e| Failure::Usage(e.to_string()))?;
    let encoder = global.encoder()?;
    check_places(&encoder)?;
    let mut names: Vec<String> = things.iter().map(|thing| thing.category.clone()).collect();
    names.sort();
    names.dedup();
    let finder = finder(&encoder, &names)?;
    // Things come sorted by picture.
    let pictures: Vec<&[Thing]> = things.chunk_by(|a, b| a.file == b.file).collect();
    let files: Vec<PathBuf> = pictures.iter().map(|things| images.join(&things[0].file)).collect();
    let of_file = |path: &Path| pictures[files.binary_search_by(|f| (**f).cmp(path)).unwrap_or(0)];
    let work = |path: &Path| -> Result<Found, EncodeError> {
        let picture = decode_file(path, encoder.limits())?;
        let source = path.display().to_string();
        let features = PlaceFeatures::new(&encoder, &picture, &source, &SCALES)?;
        let maps = finder.maps(&features).expect("one encoder has one space");
        let found = of_file(path).iter().map(|thing| {
            let map = &maps[names.binary_search(&thing.category).unwrap_or(0)];
            (thing.frame, map.peak().0, map.region(BOX_SHARE))
        });
        Ok(([picture.width(), picture.height()], found.collect()))
    };
    let progress = Progress::new(files.len(), "looking", global.quiet);
    let (mut tally, mut failed) = (PlaceTally::default(), 0);
    inputs::in_order(&files, &progress, work, |_, result| {
        match result {
            Ok((size, found)) => {
                for (frame, peak, region) in found {
                    tally.add(size, frame, peak, region);
                }
            }
            Err(error) => {
                complain(&error.to_string());
                failed += 1;
            }
        }
        Ok(())
    })?;
    drop(progress);
    print(&tally.report(failed), global.format)?;
    Ok(Outcome { failed })
}

fn print(report: &PlaceReport, format: Format) -> std::io::Result<()> {
    print_result(report, format, |out| {
        let percent = |share: f64| share * 100.0;
        writeln!(out, "things         {} ({} pictures failed)", report.n, report.failed)?;
        writeln!(out, "peak in box    {:.1} %", percent(report.peak_in_box))?;
        writeln!(
            out,
            "centre in box  {:.1} % (always answering the middle)",
            percent(report.centre_in_box)
        )?;
        writeln!(
            out,
            "overlap        {:.1} % with boxes on average",
            percent(report.mean_overlap)
        )?;
        writeln!(
            out,
            "whole overlap  {:.1} % (always answering everything)",
            percent(report.whole_overlap)
        )?;
        Ok(())
    })
}
