//! `sextant embed`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use sextant::index::NpyWriter;
use sextant::{Embedding, EncodeError, Modality, SpaceId};

use super::inputs::{self, expand};
use super::output::{complain, json_line, stdout};
use super::progress::Progress;
use super::{Failure, Format, Global, Outcome};

/// Arguments of `embed`.
#[derive(Debug, Args)]
pub struct EmbedArgs {
    /// Pictures, or folders of pictures
    #[arg(value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// A text to embed (repeatable)
    #[arg(long, value_name = "TEXT")]
    text: Vec<String>,
    /// Where to write a NumPy array of all embeddings (with --format npy)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Use inner layer N of the image tower (1 is nearest to the pixels) instead of the last: what
    /// looks alike is near, not what means the same
    #[arg(long, value_name = "N")]
    layer: Option<usize>,
}

#[derive(Serialize)]
struct EmbedLine<'a> {
    source: &'a str,
    modality: Modality,
    space: SpaceId,
    embedding: &'a [f32],
}

/// Runs the command.
pub fn run(args: &EmbedArgs, global: &Global) -> Result<Outcome, Failure> {
    global.require_format(&[Format::Text, Format::Json, Format::Npy])?;
    if args.images.is_empty() && args.text.is_empty() {
        return Err(Failure::Usage("nothing to embed: name pictures or give --text".to_owned()));
    }
    if (global.format == Format::Npy) != args.output.is_some() {
        return Err(Failure::Usage("--format npy and -o FILE go together".to_owned()));
    }
    let encoder = global.encoder_at(args.layer)?;
    let mut writer = Writer { out: stdout(), to_array: args.output.is_some(), rows: Vec::new() };
    let mut failed = 0;
    if !args.images.is_empty() {
        encoder.load_image().map_err(|e| Failure::Unfit(e.to_string()))?;
        let found = expand(&args.images);
        failed += found.failed;
        let progress = Progress::new(found.files.len(), "embedding", global.quiet);
        let work = |path: &Path| encoder.image_file(path);
        inputs::in_order(&found.files, &progress, work, |path, result| {
            failed += writer.take(&path.display().to_string(), result)?;
            Ok(())
        })?;
    }
    for text in &args.text {
        let tokens = encoder.tokens(text);
        if tokens.as_ref().is_ok_and(|tokens| tokens.truncated) {
            complain(&format!("text \"{}\" is longer than the model reads: cut", start(text)));
        }
        let result = tokens.and_then(|tokens| encoder.text_tokens(&tokens, text));
        match result {
            Err(error) if error.is_model_fault() => return Err(Failure::Unfit(error.to_string())),
            result => failed += writer.take(text, result)?,
        }
    }
    if let Some(path) = &args.output {
        write_array(path, &writer.rows, encoder.dimension())
            .map_err(|e| Failure::Usage(format!("{}: {e}", path.display())))?;
    }
    writer.out.flush()?;
    Ok(Outcome { failed })
}

fn write_array(path: &Path, values: &[f32], dimension: usize) -> std::io::Result<()> {
    let rows = values.chunks_exact(dimension);
    let file = std::fs::File::create(path)?;
    let mut array = NpyWriter::new(file, rows.len() as u64, dimension)?;
    for row in rows {
        array.row(row)?;
    }
    array.finish()?.sync_all()
}

fn start(text: &str) -> &str {
    &text[..text.floor_char_boundary(40)]
}

struct Writer<W: Write> {
    out: W,
    to_array: bool,
    rows: Vec<f32>,
}

impl<W: Write> Writer<W> {
    /// Writes one result; gives the number of inputs that failed (0 or 1).
    fn take(
        &mut self,
        source: &str,
        result: Result<Embedding, EncodeError>,
    ) -> std::io::Result<usize> {
        match result {
            Ok(embedding) if self.to_array => self.rows.extend_from_slice(embedding.values()),
            Ok(embedding) => json_line(
                &mut self.out,
                &EmbedLine {
                    source,
                    modality: embedding.modality(),
                    space: embedding.space(),
                    embedding: embedding.values(),
                },
            )?,
            Err(error) => {
                complain(&error.to_string());
                return Ok(1);
            }
        }
        Ok(0)
    }
}
