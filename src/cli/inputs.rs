//! Pictures named on the command line: files as they are, folders walked.

use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sextant::{Embedding, Encoder};
use walkdir::WalkDir;

use super::output::complain;
use super::progress::Progress;

/// Longest file of texts, in bytes.
const LONGEST_TEXTS: u64 = 64 << 20;

/// A file of texts, one a line, of at most `limit` bytes (64 MiB are enough for any): the reason why
/// not, where it is none. A pipe or a device without end stops at the limit.
pub fn read_texts(path: &Path, limit: Option<u64>) -> Result<String, String> {
    use std::io::Read;
    let limit = limit.unwrap_or(LONGEST_TEXTS);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > limit {
        return Err(format!("more than the {limit} bytes allowed"));
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8 text".to_owned())
}

/// File name extensions taken from a folder. A file named by the user is tried whatever it is
/// called.
const EXTENSIONS: [&str; 9] = ["jpg", "jpeg", "jpe", "png", "webp", "gif", "bmp", "tif", "tiff"];

/// How many pictures are in flight for each thread: enough to overlap decoding with encoding,
/// few enough to bound memory.
const IN_FLIGHT: usize = 8;

/// The files to work on, in order, and how many folders or files could not be read.
pub struct Inputs {
    /// Files in the order named; those of a folder sorted.
    pub files: Vec<PathBuf>,
    /// Entries that were reported and skipped.
    pub failed: usize,
}

/// Expands what was named on the command line.
pub fn expand(paths: &[PathBuf]) -> Inputs {
    let mut inputs = Inputs { files: Vec::new(), failed: 0 };
    for path in paths {
        if !path.is_dir() {
            inputs.files.push(path.clone());
            continue;
        }
        let before = inputs.files.len();
        for entry in WalkDir::new(path).follow_links(true).sort_by_file_name() {
            match entry {
                Ok(entry) if entry.file_type().is_file() && is_picture(entry.path()) => {
                    inputs.files.push(entry.into_path());
                }
                Ok(_) => {}
                Err(error) => {
                    complain(&format!("{}: cannot read this folder: {error}", path.display()));
                    inputs.failed += 1;
                }
            }
        }
        if inputs.files.len() == before {
            complain(&format!("{}: no pictures in this folder", path.display()));
        }
    }
    inputs
}

/// Whether a file is called as pictures are.
fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

/// Embeds every picture. What cannot be embedded is reported, and has no point.
pub fn embed_each(
    files: &[PathBuf],
    encoder: &Encoder,
    progress: &Progress,
) -> io::Result<Vec<Option<Embedding>>> {
    let mut points = Vec::with_capacity(files.len());
    let work = |path: &Path| encoder.image_file(path);
    in_order(files, progress, work, |_, result| {
        points.push(result.map_err(|error| complain(&error.to_string())).ok());
        Ok(())
    })?;
    Ok(points)
}

/// The points there are, and for each entry the place of its own among them.
#[cfg(feature = "workbench")]
pub fn numbered(points: Vec<Option<Embedding>>) -> (Vec<Embedding>, Vec<Option<usize>>) {
    let mut count = 0..;
    let places = points.iter().map(|point| point.as_ref().and_then(|_| count.next())).collect();
    (points.into_iter().flatten().collect(), places)
}

/// Whether an argument that may be a picture or a text is written as a file's name: it ends like
/// a picture's, begins like a path, or is a file or a folder below another one. "black/white
/// cat" is a text, and so is the name of a folder right here, which may be a word.
pub fn is_written_as_path(term: &Path) -> bool {
    let inside = term.parent().is_some_and(|parent| !parent.as_os_str().is_empty());
    let starts = term.is_absolute() || ["./", "../"].iter().any(|dots| term.starts_with(dots));
    is_picture(term) || starts || term.is_file() || (inside && term.exists())
}

/// Runs `work` on every file on all threads and hands the results to `sink` in order. A few
/// files are in flight at a time, so memory stays bounded however many there are.
pub fn in_order<T: Send>(
    files: &[PathBuf],
    progress: &Progress,
    work: impl Fn(&Path) -> T + Sync,
    mut sink: impl FnMut(&Path, T) -> io::Result<()>,
) -> io::Result<()> {
    let window = rayon::current_num_threads() * IN_FLIGHT;
    let mut done = 0;
    for chunk in files.chunks(window) {
        let results: Vec<T> = chunk.par_iter().map(|path| work(path)).collect();
        for (path, result) in chunk.iter().zip(results) {
            progress.suspend(|| sink(path, result))?;
            done += 1;
        }
        progress.set(done);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_texts() {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        for path in ["beach.jpg", "holidays/beach.JPEG", "/no/such", "./red car", "../x", manifest]
        {
            assert!(is_written_as_path(Path::new(path)), "{path}");
        }
        for text in ["a red car", "black/white cat", "mr. smith", "", "...", "a.b"] {
            assert!(!is_written_as_path(Path::new(text)), "{text}");
        }
    }
}
