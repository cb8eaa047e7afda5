//! `sextant index list` and `sextant index info`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use sextant::index::{Entry, Index, Info};
use sextant::{Modality, Package, SpaceId};

use crate::cli::moment;
use crate::cli::output::{json_line, stdout};
use crate::cli::row::{KeyFields, TagMap, shown_key, shown_tags};
use crate::cli::selection::Selection;
use crate::cli::{Failure, Format, Global, Outcome};

/// Arguments of `index list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Folder of the index
    index: PathBuf,
    #[command(flatten)]
    selection: Selection,
    /// Stop after this many rows
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Serialize)]
struct Row<'a> {
    row: u32,
    #[serde(flatten)]
    key: KeyFields<'a>,
    modality: Modality,
    tags: TagMap<'a>,
    time: Option<i64>,
    size: Option<u64>,
}

/// Runs `index list`.
pub fn list(args: &ListArgs, global: &Global) -> Result<Outcome, Failure> {
    global.require_format(&[Format::Text, Format::Json])?;
    let reader = Index::open(&args.index)?;
    let mut out = stdout();
    let rows = reader.matching(&args.selection.filter())?;
    for row in rows.into_iter().take(args.limit.unwrap_or(usize::MAX)) {
        let entry = reader.entry(row)?;
        if global.format == Format::Json {
            let line = Row {
                row,
                key: KeyFields::of(&entry.key),
                modality: entry.modality,
                tags: TagMap(&entry.tags),
                time: entry.time,
                size: entry.source.map(|source| source.size),
            };
            json_line(&mut out, &line)?;
        } else {
            print_entry(&mut out, &entry)?;
        }
    }
    out.flush()?;
    Ok(Outcome::default())
}

fn print_entry(out: &mut impl Write, entry: &Entry) -> std::io::Result<()> {
    let time = entry.time.map_or_else(|| "-".to_owned(), moment::shown);
    write!(out, "{time:19}  {}", shown_key(&entry.key))?;
    match entry.tags.is_empty() {
        true => writeln!(out),
        false => writeln!(out, "  {}", shown_tags(&entry.tags)),
    }
}

/// Arguments of `index info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Folder of the index
    index: PathBuf,
}

#[derive(Serialize)]
struct InfoLine<'a> {
    index: String,
    space: SpaceId,
    model: Option<&'a str>,
    layer: Option<usize>,
    dimension: usize,
    rows: u32,
    removed: u32,
    tag_groups: usize,
    sketched: u32,
    bytes: u64,
    commits: u64,
    compactions: u64,
    created: i64,
    committed: i64,
}

/// Runs `index info`.
pub fn info(args: &InfoArgs, global: &Global) -> Result<Outcome, Failure> {
    global.require_format(&[Format::Text, Format::Json])?;
    let info = Index::open(&args.index)?.info();
    // A model that cannot be found is no reason to say nothing about an index.
    let package = sextant::find_model(&global.model).ok();
    let layer = match &package {
        Some(package) if package.space() != info.space => {
            sextant::image_layer_of(package, info.space).ok().flatten()
        }
        _ => None,
    };
    let is_own = |package: &&Package| layer.is_some() || package.space() == info.space;
    let model = package.as_ref().filter(is_own).map(|package| package.manifest().name.as_str());
    let index = args.index.display().to_string();
    let mut out = stdout();
    if global.format == Format::Json {
        let Info { space, dimension, rows, removed, sketched, bytes, .. } = info;
        let Info { commits, compactions, created, committed, groups: tag_groups, .. } = info;
        let line = InfoLine {
            index,
            space,
            model,
            layer,
            dimension,
            rows,
            removed,
            tag_groups,
            sketched,
            bytes,
            commits,
            compactions,
            created,
            committed,
        };
        json_line(&mut out, &line)?;
    } else {
        let whose = match (model, layer) {
            (Some(name), Some(layer)) => format!("of --layer {layer} of the model {name}"),
            (Some(name), None) => format!("of the model {name}"),
            (None, _) => format!("not of the model {}", global.model),
        };
        let megabytes = info.bytes as f64 / 1e6;
        writeln!(out, "index        {index}")?;
        writeln!(out, "space        {} ({whose})", info.space.short())?;
        writeln!(out, "dimension    {}", info.dimension)?;
        writeln!(out, "rows         {}", info.rows)?;
        writeln!(out, "removed      {} (`compact` gives back their room)", info.removed)?;
        writeln!(out, "tag groups   {}", info.groups)?;
        writeln!(out, "sketch       {} rows (for search --fast)", info.sketched)?;
        writeln!(out, "size         {megabytes:.1} MB")?;
        writeln!(out, "commits      {}", info.commits)?;
        writeln!(out, "compactions  {}", info.compactions)?;
        writeln!(out, "made         {}", moment::shown(info.created))?;
        writeln!(out, "changed      {}", moment::shown(info.committed))?;
    }
    out.flush()?;
    Ok(Outcome::default())
}
