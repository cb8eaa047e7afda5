//! `sextant index remove`, `verify` and `compact`.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;
use serde::Serialize;
use sextant::index::{Damage, Index, IndexError, Writer};

use super::add::key_of;
use crate::cli::output::{complain, json_line, stdout};
use crate::cli::progress::Progress;
use crate::cli::row::shown_key;
use crate::cli::selection::Selection;
use crate::cli::{Failure, Format, Global, Outcome};

/// Arguments of `index remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Folder of the index
    index: PathBuf,
    /// Keys of rows, as `index list` shows them
    #[arg(value_name = "KEY")]
    keys: Vec<OsString>,
    #[command(flatten)]
    selection: Selection,
}

#[derive(Serialize)]
struct RemoveLine {
    removed: u32,
    missing: usize,
    rows: u32,
}

/// Runs `index remove`.
pub fn remove(args: &RemoveArgs, global: &Global) -> Result<Outcome, Failure> {
    global.require_format(&[Format::Text, Format::Json])?;
    if args.keys.is_empty() && args.selection.is_open() {
        return Err(Failure::Usage(
            "nothing to remove: name keys, or conditions such as --until \"30 days ago\"".into(),
        ));
    }
    let mut writer = Writer::open_any(&args.index)?;
    let mut missing = 0;
    let before = writer.len();
    for key in &args.keys {
        let path = key_of(Path::new(key), false).into_os_string();
        if !writer.remove(key.as_encoded_bytes())? && !writer.remove(path.as_encoded_bytes())? {
            complain(&format!("{}: not in the index", shown_key(key.as_encoded_bytes())));
            missing += 1;
        }
    }
    if !args.selection.is_open() {
        let reader = Index::open(&args.index)?;
        for row in reader.matching(&args.selection.filter())? {
            writer.remove(&reader.entry(row)?.key)?;
        }
    }
    writer.commit()?;
    let line = RemoveLine { removed: before - writer.len(), missing, rows: writer.len() };
    let mut out = stdout();
    if global.format == Format::Json {
        json_line(&mut out, &line)?;
    } else if !global.quiet {
        writeln!(out, "{} removed; {} rows", line.removed, line.rows)?;
    }
    out.flush()?;
    Ok(Outcome { failed: missing })
}

/// Arguments of `index verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Folder of the index
    index: PathBuf,
}

#[derive(Serialize)]
struct VerifyLine<'a> {
    index: String,
    rows: u32,
    sound: bool,
    damage: Vec<DamageLine<'a>>,
}

#[derive(Serialize)]
struct DamageLine<'a> {
    file: String,
    offset: u64,
    row: Option<u32>,
    what: &'a str,
}

/// Runs `index verify`.
pub fn verify(args: &VerifyArgs, global: &Global) -> Result<Outcome, Failure> {
    global.require_format(&[Format::Text, Format::Json])?;
    let reader = Index::open(&args.index)?;
    let info = reader.info();
    let progress = Progress::new((info.rows + info.removed) as usize, "verifying", global.quiet);
    let done = AtomicUsize::new(0);
    let report = reader.verify(|rows| {
        let rows = rows as usize;
        progress.set(done.fetch_add(rows, Ordering::Relaxed) + rows);
    })?;
    drop(progress);
    let mut out = stdout();
    if global.format == Format::Json {
        let damage = report.damage.iter().map(DamageLine::of).collect();
        let (index, sound) = (args.index.display().to_string(), report.is_sound());
        json_line(&mut out, &VerifyLine { index, rows: report.rows, sound, damage })?;
    } else {
        for damage in &report.damage {
            let row = damage.row.map(|row| format!(" (row {row})")).unwrap_or_default();
            let Damage { path, offset, what, .. } = damage;
            writeln!(out, "{}: damaged at byte {offset}{row}: {what}", path.display())?;
        }
        if report.is_sound() && !global.quiet {
            writeln!(out, "{}: {} rows, all sound", args.index.display(), report.rows)?;
        }
    }
    out.flush()?;
    match report.damage.len() {
        0 => Ok(Outcome::default()),
        places => Err(Failure::Unfit(format!(
            "{}: damaged in {places} places; `sextant index compact --drop-damaged` saves the rest",
            args.index.display()
        ))),
    }
}

impl<'a> DamageLine<'a> {
    fn of(damage: &'a Damage) -> Self {
        let Damage { path, offset, row, what } = damage;
        Self { file: path.display().to_string(), offset: *offset, row: *row, what }
    }
}

/// Arguments of `index compact`.
#[derive(Debug, Args)]
pub struct CompactArgs {
    /// Folder of the index
    index: PathBuf,
    /// Leave out rows that are damaged instead of refusing
    #[arg(long)]
    drop_damaged: bool,
}

#[derive(Serialize)]
struct CompactLine {
    rows: u32,
    removed: u32,
    damaged: u32,
    bytes_before: u64,
    bytes: u64,
}

/// Runs `index compact`.
pub fn compact(args: &CompactArgs, global: &Global) -> Result<Outcome, Failure> {
    global.require_format(&[Format::Text, Format::Json])?;
    let bytes = || -> Result<u64, IndexError> { Ok(Index::open(&args.index)?.info().bytes) };
    let mut writer = Writer::open_any(&args.index)?;
    let bytes_before = bytes()?;
    let done = writer.compact(args.drop_damaged)?;
    let line = CompactLine {
        rows: done.rows,
        removed: done.removed,
        damaged: done.damaged,
        bytes_before,
        bytes: bytes()?,
    };
    let mut out = stdout();
    if global.format == Format::Json {
        json_line(&mut out, &line)?;
    } else if !global.quiet {
        let CompactLine { rows, removed, damaged, .. } = line;
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        write!(out, "{rows} rows kept, {removed} removed and {damaged} damaged ones gone; ")?;
        writeln!(out, "{:.1} MB, was {:.1}", megabytes(line.bytes), megabytes(bytes_before))?;
    }
    out.flush()?;
    Ok(Outcome::default())
}
