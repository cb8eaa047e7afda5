//! A query from the command line to a point of the space.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use sextant::index::{
    Filter, Formula, IndexError, QueryError, Reader, Reading, Term, is_operator, parse_formula,
};
use sextant::space::{Centres, SpaceError, combine_centred, interpolate_centred};
use sextant::{Embedding, EncodeError, Encoder, Modality};

use super::inputs::{embed_each, expand, is_written_as_path, read_texts};
use super::output::complain;
use super::progress::Progress;
use super::row::shown_key;

/// Most rows of the index that the mean of its pictures is taken from.
const SAMPLE: usize = 2000;

/// Most members of a set.
const MOST_MEMBERS: usize = 1000;

/// Longest file of a set, in bytes.
const LONGEST_SET: u64 = 1 << 20;

/// Where embeddings lie on average, if that is known.
type Mean = Option<Vec<f32>>;

/// Why there is no answer to a query.
#[derive(Debug, thiserror::Error)]
pub enum TermError {
    /// The words are not a query.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A term looks like a picture, and there is none.
    #[error(
        "{0}: no such file, and no such key in the index (a text of this name is written txt:{0})"
    )]
    NoPicture(String),
    /// A term is a folder.
    #[error("{0}: is a folder: all of its pictures are written set:{0}")]
    Folder(String),
    /// A term is neither a file nor a text.
    #[error("{0}: no such file, and a text has to be UTF-8")]
    NotText(String),
    /// A set is nothing that could be read.
    #[error("{file}: a set is a folder of pictures, or a file of texts, one a line: {reason}")]
    Set {
        /// The set.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A term cannot be embedded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The index cannot be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The terms leave no direction to look in.
    #[error("the terms of the query cancel each other out")]
    Cancelled,
    /// The terms do not belong together.
    #[error(transparent)]
    Space(SpaceError),
}

/// A query as a point of the space.
#[derive(Debug)]
pub struct Query {
    /// What to look for.
    pub point: Embedding,
    /// Whether it is one picture or text, so that a similarity to it has a probability.
    pub is_single: bool,
}

/// Words of a query as the shell gives them. One word alone may be a whole query in quotes,
/// `'beach.jpg + "red car"'`, unless a file has that name.
pub fn split(words: &[OsString]) -> Vec<OsString> {
    match words {
        [word] if !Path::new(word).exists() => match word.to_str() {
            Some(text) => split_text(text).into_iter().map(OsString::from).collect(),
            None => words.to_vec(),
        },
        _ => words.to_vec(),
    }
}

/// Cuts a text at each operator that stands between spaces outside of quotes.
fn split_text(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut term, mut quoted) = (String::new(), false);
    for word in text.split(' ') {
        if !quoted && is_operator(word.as_bytes()) {
            words.push(std::mem::take(&mut term));
            words.push(word.to_owned());
            continue;
        }
        quoted ^= word.matches('"').count() % 2 == 1;
        if !term.is_empty() {
            term.push(' ');
        }
        term.push_str(word);
    }
    words.push(term);
    if words.len() > 1 {
        // "- snow" begins with an operator, and "snow +" ends with one: no term is missing there.
        words.retain(|word| !word.trim().is_empty());
    }
    words
}

impl Query {
    /// Embeds the terms and adds them up. Reading a large set shows a bar unless `quiet`.
    pub fn new(
        words: &[OsString],
        encoder: &Encoder,
        reader: &Reader,
        quiet: bool,
    ) -> Result<Self, TermError> {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_encoded_bytes()).collect();
        Asker { encoder, reader, quiet }.point(&parse_formula(&words)?)
    }

    /// The same of a line of texts alone: no term means a file, whatever it looks like.
    #[cfg(feature = "http")]
    pub fn of_texts(line: &str, encoder: &Encoder, reader: &Reader) -> Result<Self, TermError> {
        let mut formula = parse_formula(&split_text(line))?;
        formula.terms_mut().for_each(|term| term.reading = Reading::Text);
        Asker { encoder, reader, quiet: true }.point(&formula)
    }
}

/// What turns terms into points.
struct Asker<'a> {
    encoder: &'a Encoder,
    reader: &'a Reader,
    quiet: bool,
}

impl Asker<'_> {
    fn point(&self, formula: &Formula) -> Result<Query, TermError> {
        let (terms, way) = match formula {
            Formula::Sum(terms) => (terms, None),
            Formula::Between { from, to, share } => (from, Some((to, *share))),
        };
        let first = self.embedded(terms)?;
        let last = way.map(|(terms, _)| self.embedded(terms)).transpose()?.unwrap_or_default();
        let modality = first.first().map(|(_, term)| term.modality());
        let is_mixed = first.iter().chain(&last).any(|(_, term)| Some(term.modality()) != modality);
        let (image, text, target) = match is_mixed {
            true => means(self.encoder, self.reader)?,
            false => (None, None, Modality::Image),
        };
        let centres = Centres { image: image.as_deref(), text: text.as_deref() };
        let sum = |terms: &[(f32, Embedding)]| {
            let terms: Vec<(f32, &Embedding)> = terms.iter().map(|(w, term)| (*w, term)).collect();
            combine_centred(&terms, centres, target).map_err(refused)
        };
        let mut point = sum(&first)?;
        if let Some((_, share)) = way {
            let end = sum(&last)?;
            point = interpolate_centred(&point, &end, share, centres, target).map_err(refused)?;
        }
        let is_single = way.is_none() && matches!(first[..], [(weight, _)] if weight > 0.0);
        Ok(Query { point, is_single })
    }

    /// The points of all terms with their weights; members of a set share its weight.
    fn embedded(&self, terms: &[Term]) -> Result<Vec<(f32, Embedding)>, TermError> {
        let mut points = Vec::with_capacity(terms.len());
        for term in terms {
            if term.reading == Reading::Set {
                let members = self.members(&term.content)?;
                let weight = term.weight / members.len() as f32;
                points.extend(members.into_iter().map(|point| (weight, point)));
            } else {
                points.push((term.weight, embed(term, self.encoder, self.reader)?));
            }
        }
        Ok(points)
    }

    /// Pictures of a folder, or texts of a file; at least one.
    fn members(&self, path: &[u8]) -> Result<Vec<Embedding>, TermError> {
        let wrong = |reason: String| TermError::Set { file: shown_key(path), reason };
        let path = path_of(path).ok_or_else(|| wrong("no such path".to_owned()))?;
        let few = |count: usize| match count {
            0 => Err(wrong("it is empty".to_owned())),
            1..=MOST_MEMBERS => Ok(()),
            _ => Err(wrong(format!("{count} are more than the {MOST_MEMBERS} allowed"))),
        };
        if path.is_dir() {
            let files = expand(std::slice::from_ref(&path)).files;
            few(files.len())?;
            let progress = Progress::new(files.len(), "reading the set", self.quiet);
            let points = embed_each(&files, self.encoder, &progress);
            let points: Vec<Embedding> =
                points.map_err(|e| wrong(e.to_string()))?.into_iter().flatten().collect();
            few(points.len())?;
            return Ok(points);
        }
        let text = read_texts(&path, Some(LONGEST_SET)).map_err(wrong)?;
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        few(lines.len())?;
        lines.iter().map(|line| Ok(self.encoder.text(line)?)).collect()
    }
}

fn refused(error: SpaceError) -> TermError {
    match error {
        SpaceError::Cancelled => TermError::Cancelled,
        other => TermError::Space(other),
    }
}

/// What is searched: pictures, unless the index has none.
fn target(reader: &Reader) -> Result<Modality, IndexError> {
    let pictures = Filter { modality: Some(Modality::Image), ..Filter::default() };
    match reader.is_empty() || !reader.matching(&pictures)?.is_empty() {
        true => Ok(Modality::Image),
        false => Ok(Modality::Text),
    }
}

/// Where pictures and texts lie on average, as the model knows it, else as the pictures of the
/// index show it; and what is searched.
fn means(encoder: &Encoder, reader: &Reader) -> Result<(Mean, Mean, Modality), IndexError> {
    let calibration = &encoder.package().manifest().calibration;
    let image = match &calibration.image_mean {
        Some(mean) => Some(mean.clone()),
        None => reader.mean(Modality::Image, SAMPLE)?,
    };
    Ok((image, calibration.text_mean.clone(), target(reader)?))
}

fn embed(term: &Term, encoder: &Encoder, reader: &Reader) -> Result<Embedding, TermError> {
    let shown = || shown_key(&term.content);
    let path = path_of(&term.content);
    if term.reading != Reading::Text {
        if let Some(path) = path.as_deref().filter(|path| path.is_file()) {
            return Ok(encoder.image_file(path)?);
        }
        let named =
            term.reading == Reading::Image || path.as_deref().is_some_and(is_written_as_path);
        // Looking for a key reads all keys, so a text is not looked for.
        if (named || term.content.iter().any(|byte| b"/#".contains(byte)))
            && let Some(row) = reader.find(&term.content)?
        {
            return Ok(reader.embedding(row)?);
        }
        if named && path.is_some_and(|path| path.is_dir()) {
            return Err(TermError::Folder(shown()));
        }
        if named {
            return Err(TermError::NoPicture(shown()));
        }
    }
    let text = std::str::from_utf8(&term.content).map_err(|_| TermError::NotText(shown()))?;
    let tokens = encoder.tokens(text)?;
    if tokens.truncated {
        complain(&format!("text \"{:.40}…\" is longer than the model reads: cut", shown()));
    }
    Ok(encoder.text_tokens(&tokens, text)?)
}

/// The path that a key or term means: any bytes on Unix, text elsewhere.
pub fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        Some(OsStr::from_bytes(bytes).into())
    }
    #[cfg(not(unix))]
    {
        std::str::from_utf8(bytes).ok().map(|text| OsStr::new(text).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<String> {
        split(&[text.into()]).into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn a_query_in_quotes_is_cut_at_its_operators() {
        assert_eq!(
            cut("beach.jpg + \"sunset\" - 0.5:\"two people\""),
            ["beach.jpg", "+", "\"sunset\"", "-", "0.5:\"two people\""]
        );
        assert_eq!(cut("red car + snow"), ["red car", "+", "snow"]);
        assert_eq!(cut("- snow"), ["-", "snow"]);
        assert_eq!(cut("a red car"), ["a red car"]);
        assert_eq!(cut("well-known a+b"), ["well-known a+b"]);
        assert_eq!(cut("\"salt - pepper\""), ["\"salt - pepper\""]);
        assert_eq!(cut("snow +"), ["snow", "+"]);
        assert_eq!(cut("red car ..30% blue car"), ["red car", "..30%", "blue car"]);
        assert_eq!(cut(""), [""]);
    }

    #[test]
    fn several_words_stay_as_the_shell_cut_them() {
        let words = ["salt - pepper", "+", "bread"].map(OsString::from);
        assert_eq!(split(&words), words);
    }
}
