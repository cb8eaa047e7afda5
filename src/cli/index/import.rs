//! `sextant index import` and `export`: vectors in and out.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use sextant::SpaceId;
use sextant::index::{Index, IndexError, Keys, NpyReader};

use super::open_or_create;
use crate::cli::output::{json_line, stdout};
use crate::cli::progress::Progress;
use crate::cli::selection::{Kind, Selection};
use crate::cli::{Failure, Format, Global, Outcome};

/// Arguments of `index import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Folder of the index; made if there is none
    index: PathBuf,
    /// float32 or float16 matrix, a vector a row
    #[arg(value_name = "FILE.npy")]
    vectors: PathBuf,
    /// A key a line, or .jsonl as `export` writes it [default: FILE.npy#0, FILE.npy#1, …]
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// What the vectors were made from, where the keys do not say it
    #[arg(long, value_enum, default_value = "image")]
    modality: Kind,
    /// Space of the vectors, as `index info --format json` shows it [default: that of --model]
    #[arg(long, value_name = "FINGERPRINT")]
    space: Option<SpaceId>,
}

#[derive(Serialize)]
struct ImportLine {
    imported: u64,
    replaced: u64,
    rows: u32,
    seconds: f64,
}

/// Runs `index import`.
pub fn import(args: &ImportArgs, global: &Global) -> Result<Outcome, Failure> {
    global.require_format(&[Format::Text, Format::Json])?;
    let array = NpyReader::open(&args.vectors)?;
    let (space, dimension) = match args.space {
        Some(space) => (space, array.columns()),
        None => {
            let package = sextant::find_model(&global.model)?;
            (package.space(), package.manifest().dimension)
        }
    };
    if array.columns() != dimension {
        let what = format!("a row of {}", args.vectors.display());
        let found = array.columns();
        return Err(IndexError::Dimension { what, expected: dimension, found }.into());
    }
    let keys = match &args.keys {
        Some(path) => Keys::File(path.clone()),
        None => Keys::Numbered(args.vectors.display().to_string()),
    };
    let mut writer = open_or_create(&args.index, space, dimension)?;
    let progress = Progress::new(array.rows() as usize, "importing", global.quiet);
    drop(array);
    let started = Instant::now();
    let done = writer.import(&args.vectors, &keys, args.modality.into(), |rows| {
        progress.set(rows as usize);
    })?;
    let seconds = started.elapsed().as_secs_f64();
    drop(progress);
    let rows = writer.len();
    let mut out = stdout();
    if global.format == Format::Json {
        let (imported, replaced) = (done.rows, done.replaced);
        json_line(&mut out, &ImportLine { imported, replaced, rows, seconds })?;
    } else if !global.quiet {
        let rate = done.rows as f64 / seconds.max(1e-6);
        write!(out, "{} imported, {} of them in place of older rows; ", done.rows, done.replaced)?;
        writeln!(out, "{rows} rows; {seconds:.1} s, {rate:.0} rows a second")?;
    }
    out.flush()?;
    // The rows are saved by now, whatever becomes of this.
    writer.build_sketch()?;
    Ok(Outcome::default())
}

/// Arguments of `index export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Folder of the index
    index: PathBuf,
    /// File to write: OUT.npy, with keys, tags and times beside it in OUT.jsonl; or OUT.parquet
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Write Parquet, whatever the file is called
    #[arg(long)]
    parquet: bool,
    #[command(flatten)]
    selection: Selection,
}

#[derive(Serialize)]
struct ExportLine {
    rows: u64,
    files: Vec<String>,
}

/// Runs `index export`.
pub fn export(args: &ExportArgs, global: &Global) -> Result<Outcome, Failure> {
    global.require_format(&[Format::Text, Format::Json])?;
    let has_extension = |name: &str| args.output.extension().is_some_and(|e| e == name);
    let parquet = args.parquet || has_extension("parquet");
    if !parquet && has_extension("jsonl") {
        return Err(Failure::Usage(format!(
            "{}: name the file of the vectors, such as out.npy; out.jsonl is written beside it",
            args.output.display()
        )));
    }
    let reader = Index::open(&args.index)?;
    let progress = Progress::new(reader.len() as usize, "exporting", global.quiet);
    let step = |rows: u64| progress.set(rows as usize);
    let filter = args.selection.filter();
    let (rows, files) = if parquet {
        (export_parquet(&reader, &args.output, &filter, step)?, vec![args.output.clone()])
    } else {
        let lines = args.output.with_extension("jsonl");
        let rows = reader.export(&args.output, &lines, &filter, step)?;
        (rows, vec![args.output.clone(), lines])
    };
    drop(progress);
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let mut out = stdout();
    if global.format == Format::Json {
        json_line(&mut out, &ExportLine { rows, files })?;
    } else if !global.quiet {
        writeln!(out, "{rows} rows written to {}", files.join(" and "))?;
    }
    out.flush()?;
    Ok(Outcome::default())
}

#[cfg(feature = "parquet")]
fn export_parquet(
    reader: &sextant::index::Reader,
    path: &Path,
    filter: &sextant::index::Filter,
    step: impl FnMut(u64),
) -> Result<u64, Failure> {
    Ok(reader.export_parquet(path, filter, step)?)
}

#[cfg(not(feature = "parquet"))]
fn export_parquet(
    _reader: &sextant::index::Reader,
    path: &Path,
    _filter: &sextant::index::Filter,
    _step: impl FnMut(u64),
) -> Result<u64, Failure> {
    Err(Failure::Usage(format!(
        "{}: this sextant was built without Parquet: build it with `--features parquet`, or \
         export to .npy",
        path.display()
    )))
}
