//! `sextant similar`.

use std::io::Write;
use std::path::Path;

use clap::Args;
use serde::Serialize;
use sextant::{Embedding, Encoder, Modality};

use super::inputs::is_written_as_path;
use super::output::{complain, json_line, six_digits, stdout};
use super::{Failure, Format, Global, Outcome};

/// Arguments of `similar`.
#[derive(Debug, Args)]
pub struct SimilarArgs {
    /// A picture file or a text; `img:` or `txt:` before it forces the reading
    a: String,
    /// A picture file or a text
    b: String,
}

#[derive(Serialize)]
struct SimilarLine<'a> {
    a: &'a str,
    b: &'a str,
    modalities: [Modality; 2],
    similarity: f64,
    score: Option<f64>,
}

/// Runs the command.
pub fn run(args: &SimilarArgs, global: &Global) -> Result<Outcome, Failure> {
    global.require_format(&[Format::Text, Format::Json])?;
    let encoder = global.encoder()?;
    let (Some(a), Some(b)) = (embed(&encoder, &args.a)?, embed(&encoder, &args.b)?) else {
        return Ok(Outcome { failed: 1 });
    };
    let similarity = a.similarity(&b).expect("one encoder has one space");
    let score = sextant::match_probability(encoder.package().manifest(), &a, &b);
    let mut out = stdout();
    if global.format == Format::Json {
        let line = SimilarLine {
            a: &args.a,
            b: &args.b,
            modalities: [a.modality(), b.modality()],
            similarity: six_digits(similarity),
            score: score.map(six_digits),
        };
        json_line(&mut out, &line)?;
    } else {
        writeln!(out, "similarity {similarity:.4}")?;
        match score {
            Some(score) => writeln!(out, "they match with probability {score:.2}")?,
            None => writeln!(out, "(this model has no calibration for a probability)")?,
        }
    }
    out.flush()?;
    Ok(Outcome::default())
}

/// Embeds a picture or a text; `None` after reporting an input that cannot be read.
fn embed(encoder: &Encoder, term: &str) -> Result<Option<Embedding>, Failure> {
    let result = if let Some(text) = term.strip_prefix("txt:") {
        encoder.text(text)
    } else if let Some(path) = term.strip_prefix("img:") {
        encoder.image_file(Path::new(path))
    } else if is_written_as_path(Path::new(term)) {
        if !Path::new(term).exists() {
            complain(&format!("{term}: no such file (a text of this name is written txt:{term})"));
            return Ok(None);
        }
        encoder.image_file(Path::new(term))
    } else {
        encoder.text(term)
    };
    match result {
        Ok(embedding) => Ok(Some(embedding)),
        Err(error) if error.is_model_fault() => Err(Failure::Unfit(error.to_string())),
        Err(error) => {
            complain(&error.to_string());
            Ok(None)
        }
    }
}
