//! `sextant index add`.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::Args;
use rayon::prelude::*;
use serde::Serialize;
use sextant::index::{IndexError, MAX_KEY, NewRow, Source, Tag, Tags, Writer};
use sextant::{EncodeError, Encoder};

use super::capture::TimeSource;
use super::file::{self, Candidate, Embedded, Outcome as Found};
use super::open_or_create;
use crate::cli::inputs::expand;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{complain, json_line, stdout};
use crate::cli::progress::Progress;
use crate::cli::selection::parse_tag;
use crate::cli::{Failure, Format, Global, Outcome};

/// Pictures of one commit, for each thread: enough that syncing costs little, few enough that
/// little is lost when the power goes.
const BATCH: usize = 16;

/// Arguments of `index add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Folder of the index; made if there is none
    index: PathBuf,
    /// Pictures, or folders of pictures
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Tag for every picture that is added (repeatable)
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = parse_tag)]
    tags: Vec<Tag>,
    /// Time of the rows: auto (the camera's, else the file's), exif, mtime, now, none, or a time
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = TimeSource::parse)]
    time: TimeSource,
    /// Use absolute paths as keys, not the paths as they are given
    #[arg(long)]
    absolute: bool,
    /// Embed unchanged pictures again too, for instance to give them other tags
    #[arg(long)]
    again: bool,
    /// Use inner layer N of the image tower (1 is nearest to the pixels) instead of the last: what
    /// looks alike is near, not what means the same
    #[arg(long, value_name = "N")]
    layer: Option<usize>,
}

/// What was done, as JSON says it.
#[derive(Debug, Default, Serialize)]
struct Summary {
    added: usize,
    replaced: usize,
    unchanged: usize,
    failed: usize,
    /// Pictures that were not looked at, after Ctrl-C.
    left: usize,
    rows: u32,
    seconds: f64,
}

/// Runs the command.
pub fn run(args: &AddArgs, global: &Global) -> Result<Outcome, Failure> {
    global.require_format(&[Format::Text, Format::Json])?;
    let encoder = global.encoder_at(args.layer)?;
    let interrupt = Interrupt::listen();
    let inputs = expand(&args.paths);
    let mut summary = Summary { failed: inputs.failed, ..Summary::default() };
    let candidates = candidates(inputs.files, args.absolute);
    if candidates.is_empty() {
        return Ok(Outcome { failed: summary.failed });
    }
    let writer = open_or_create(&args.index, encoder.space(), encoder.dimension())?;
    let tags = Tags::new(args.tags.iter().cloned())?;
    let progress = Progress::new(candidates.len(), "adding", global.quiet);
    let mut adding = Adding { args, encoder: &encoder, writer, tags, interrupt, progress };
    let result = adding.all(&candidates, &mut summary);
    let Adding { mut writer, interrupt, progress, .. } = adding;
    drop(progress);
    if let Err(failure) = result {
        let saved = summary.added + summary.replaced;
        complain(&format!("stopped early; {saved} pictures are saved in {}", args.index.display()));
        return Err(failure);
    }
    summary.rows = writer.len();
    summary.print(global)?;
    if !interrupt.came() {
        // The pictures are saved by now, whatever becomes of this.
        writer.build_sketch()?;
    }
    if summary.left > 0 {
        complain(&format!(
            "stopped with {} pictures left; the rest is saved: the same command again goes on",
            summary.left
        ));
    }
    if summary.unchanged > 0 && !args.tags.is_empty() && !args.again {
        complain("unchanged pictures keep the tags that they have: --again gives them new ones");
    }
    Ok(Outcome { failed: summary.failed + summary.left })
}

/// Each file once, with its key: the path as it is given, but for `./` in it.
fn candidates(files: Vec<PathBuf>, absolute: bool) -> Vec<Candidate> {
    let mut seen = HashSet::new();
    let keyed = files.into_iter().map(|path| {
        let key = key_of(&path, absolute).into_os_string().into_encoded_bytes();
        Candidate { path, key }
    });
    keyed.filter(|candidate| seen.insert(candidate.key.clone())).collect()
}

/// The path that is a file's key.
pub(super) fn key_of(path: &Path, absolute: bool) -> PathBuf {
    let path = match absolute {
        true => std::path::absolute(path).unwrap_or_else(|_| path.into()),
        false => path.into(),
    };
    path.components().filter(|part| *part != Component::CurDir).collect()
}

/// The work of one call.
struct Adding<'a> {
    args: &'a AddArgs,
    encoder: &'a Encoder,
    writer: Writer,
    tags: Tags,
    interrupt: Interrupt,
    progress: Progress,
}

/// A picture that is embedded and not yet saved.
type Ready<'a> = (&'a Candidate, Box<Embedded>);

impl<'a> Adding<'a> {
    /// Embeds batch after batch; each is saved while the next is embedded.
    fn all(&mut self, candidates: &'a [Candidate], summary: &mut Summary) -> Result<(), Failure> {
        let started = Instant::now();
        let done = AtomicUsize::new(0);
        let mut ready: Vec<Ready<'a>> = Vec::new();
        for batch in candidates.chunks(rayon::current_num_threads() * BATCH) {
            if self.interrupt.came() {
                summary.left += batch.len();
                continue;
            }
            let known = self.known(batch)?;
            let Self { args, encoder, writer, tags, interrupt, progress } = self;
            let embed = |(candidate, known): (&'a Candidate, &Option<Source>)| {
                if interrupt.came() {
                    return (candidate, Found::Left);
                }
                let found = file::embed(&candidate.path, *known, encoder, args.time);
                progress.set(done.fetch_add(1, Ordering::Relaxed) + 1);
                (candidate, found.unwrap_or_else(Found::Failed))
            };
            let (found, saved) = rayon::join(
                || batch.par_iter().zip(&known).map(embed).collect::<Vec<_>>(),
                || save(writer, tags, &ready),
            );
            summary.count_saved(saved?, &mut ready);
            for (candidate, found) in found {
                self.take(candidate, found, &mut ready, summary)?;
            }
        }
        let saved = save(&mut self.writer, &self.tags, &ready)?;
        summary.count_saved(saved, &mut ready);
        summary.seconds = started.elapsed().as_secs_f64();
        Ok(())
    }

    /// The files behind the rows that have the keys of a batch.
    fn known(&mut self, batch: &[Candidate]) -> Result<Vec<Option<Source>>, IndexError> {
        if self.args.again {
            return Ok(vec![None; batch.len()]);
        }
        batch.iter().map(|c| Ok(self.writer.source_of(&c.key)?.flatten())).collect()
    }

    /// Counts what became of a file, and saves what there is before a fault of the model ends
    /// the work.
    fn take(
        &mut self,
        candidate: &'a Candidate,
        found: Found,
        ready: &mut Vec<Ready<'a>>,
        summary: &mut Summary,
    ) -> Result<(), Failure> {
        let too_long = candidate.key.len() > MAX_KEY;
        match found {
            Found::Unchanged => summary.unchanged += 1,
            Found::Left => summary.left += 1,
            Found::Embedded(_) if too_long => {
                let path = candidate.path.display();
                self.report(
                    summary,
                    &format!("{path}: longer than a key may be ({MAX_KEY} bytes)"),
                );
            }
            Found::Embedded(embedded) => ready.push((candidate, embedded)),
            Found::Failed(error) if error.is_model_fault() => {
                let saved = save(&mut self.writer, &self.tags, ready)?;
                summary.count_saved(saved, ready);
                return Err(Failure::Unfit(EncodeError::to_string(&error)));
            }
            Found::Failed(error) => self.report(summary, &error.to_string()),
        }
        Ok(())
    }

    fn report(&self, summary: &mut Summary, message: &str) {
        self.progress.suspend(|| complain(message));
        summary.failed += 1;
    }
}

/// Appends pictures and makes them durable; says how many replaced an older row.
fn save(writer: &mut Writer, tags: &Tags, ready: &[Ready<'_>]) -> Result<u32, IndexError> {
    let rows: Vec<NewRow<'_>> = ready
        .iter()
        .map(|(candidate, embedded)| NewRow {
            tags,
            time: embedded.time,
            source: Some(embedded.source),
            ..NewRow::new(&candidate.key, &embedded.embedding)
        })
        .collect();
    let replaced = writer.append(&rows)?;
    writer.commit()?;
    Ok(replaced)
}

impl Summary {
    /// Counts a batch that is durable now.
    fn count_saved(&mut self, replaced: u32, ready: &mut Vec<Ready<'_>>) {
        self.replaced += replaced as usize;
        self.added += ready.len() - replaced as usize;
        ready.clear();
    }

    fn print(&self, global: &Global) -> Result<(), Failure> {
        let mut out = stdout();
        if global.format == Format::Json {
            json_line(&mut out, self)?;
        } else if !global.quiet {
            let Self { added, replaced, unchanged, failed, rows, seconds, .. } = self;
            let rate = (added + replaced) as f64 / seconds.max(1e-3);
            write!(out, "{added} added, {replaced} replaced, {unchanged} unchanged, ")?;
            write!(out, "{failed} failed; {rows} rows; {seconds:.1} s")?;
            match added + replaced {
                0 => writeln!(out)?,
                _ => writeln!(out, ", {rate:.1} pictures a second")?,
            }
        }
        Ok(out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_named_twice_is_added_once() {
        let files = ["./a/b.jpg", "a/b.jpg", "a/./b.jpg", "a//b.jpg", "/a/b.jpg"];
        let keys: Vec<Vec<u8>> =
            candidates(files.map(PathBuf::from).into(), false).into_iter().map(|c| c.key).collect();
        assert_eq!(keys, [b"a/b.jpg".to_vec(), b"/a/b.jpg".to_vec()]);
        let absolute = candidates(vec!["a.jpg".into()], true).remove(0).key;
        assert!(absolute.starts_with(b"/") && absolute.ends_with(b"/a.jpg"));
    }
}
