//! The tables that measurements start from: truth and captions, as tab-separated text.

use std::path::Path;

use crate::capped::read_capped;

/// Longest accepted table, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The file cannot be read.
    #[error("{file}: cannot be read: {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the operating system says.
        reason: std::io::Error,
    },
    /// The file is too large or not text.
    #[error("{file}: not a UTF-8 text table of at most {} MiB", MAX_BYTES >> 20)]
    NotText {
        /// The file.
        file: String,
    },
    /// A line has too few columns or a bad number.
    #[error("{file}, line {line}: expected {expected}, separated by tabs")]
    Line {
        /// The file.
        file: String,
        /// Line number, from 1.
        line: usize,
        /// What the line should hold.
        expected: &'static str,
    },
    /// The file holds no annotations in COCO's "instances" format.
    #[error("{file}: not annotations in COCO's \"instances\" format: {reason}")]
    Instances {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A class index beyond the label set.
    #[error("{file}: class {class} of \"{picture}\" is beyond the {labels} labels given")]
    Class {
        /// The file.
        file: String,
        /// The class index, from 0.
        class: usize,
        /// The picture.
        picture: String,
        /// Labels in the set.
        labels: usize,
    },
    /// The table is empty.
    #[error("{file}: holds no lines")]
    Empty {
        /// The file.
        file: String,
    },
}

/// Reads `file TAB class index` lines (more columns are ignored).
///
/// # Errors
/// [`EvalError`], naming the file and line.
pub fn read_truth(path: &Path) -> Result<Vec<(String, usize)>, EvalError> {
    rows(path, "a file and a class index", |fields| {
        Some((fields.next()?.to_owned(), fields.next()?.trim().parse().ok()?))
    })
}

/// Reads `file TAB number TAB caption` lines.
///
/// # Errors
/// [`EvalError`], naming the file and line.
pub fn read_captions(path: &Path) -> Result<Vec<(String, String)>, EvalError> {
    rows(path, "a file, a number and a caption", |fields| {
        let file = fields.next()?.to_owned();
        fields.next()?.trim().parse::<u64>().ok()?;
        Some((file, fields.next()?.trim().to_owned()))
    })
}

/// Reads `file TAB caption` lines, or those of [`read_captions`].
///
/// # Errors
/// [`EvalError`], naming the file and line.
pub fn read_pairs(path: &Path) -> Result<Vec<(String, String)>, EvalError> {
    rows(path, "a file and a caption", |fields| {
        let file = fields.next()?.to_owned();
        let second = fields.next()?.trim();
        let numbered = second.parse::<u64>().is_ok();
        let caption = if numbered { fields.next().map_or(second, str::trim) } else { second };
        (!caption.is_empty()).then(|| (file, caption.to_owned()))
    })
}

pub(super) fn rows<T>(
    path: &Path,
    expected: &'static str,
    parse: impl Fn(&mut std::str::Split<'_, char>) -> Option<T>,
) -> Result<Vec<T>, EvalError> {
    let file = path.display().to_string();
    let unreadable = |reason| EvalError::Unreadable { file: file.clone(), reason };
    let Some(bytes) = read_capped(path, MAX_BYTES).map_err(unreadable)? else {
        return Err(EvalError::NotText { file });
    };
    let text = String::from_utf8(bytes).map_err(|_| EvalError::NotText { file: file.clone() })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parsed: Vec<T> = lines
        .map(|(number, line)| {
            parse(&mut line.split('\t')).ok_or_else(|| EvalError::Line {
                file: file.clone(),
                line: number + 1,
                expected,
            })
        })
        .collect::<Result<_, _>>()?;
    if parsed.is_empty() { Err(EvalError::Empty { file }) } else { Ok(parsed) }
}
